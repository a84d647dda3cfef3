//! C17: nothing is restored over what lives: a server, however well it hides, the original of a tablespace, another server's files, or
//! another restore.

use crate::support::{Installation, directory, in_its_place, output, postgres, seconds, wait_until};
use std::{
    fs,
    path::Path,
    process::{Command, Stdio},
};

/// What a restore that must not happen says.
fn refused(installation: &Installation, arguments: &[&str]) -> String {
    let done = installation.try_run(&[&["restore", "physical"], arguments].concat());
    let said = String::from_utf8_lossy(&done.stderr).into_owned();
    assert!(!done.status.success(), "{arguments:?} {said}");
    said
}

#[test]
fn c17_an_original_that_lives_loses_neither_its_place_nor_its_tablespaces() {
    let directory = directory();
    let other = directory.path().join("other");
    let crm = format!("[clusters.crm]\nconnection = \"host=/nowhere\"\ndata-directory = \"{}\"\n", other.display());
    let (cluster, installation) = in_its_place(directory.path(), "");
    let space = directory.path().join("space");
    fs::create_dir(&space).unwrap();
    cluster.sql(&format!("create tablespace s location '{}'", space.display()));
    cluster.sql("create table t tablespace s as select g a from generate_series(1, 1000) g");
    installation.run(&["backup", "create"]);
    cluster.sql("insert into t select 1 from generate_series(1, 1000)");
    let (data, new) = (cluster.data.to_str().unwrap(), directory.path().join("new"));
    let new = new.to_str().unwrap();

    // It answers: nothing takes its place beside it.
    let said = refused(&installation, &["--to", new, "--in-place", "--force"]);
    assert!(said.contains("a tablespace of the PostgreSQL server that runs in"), "{said}");
    let elsewhere = format!("{0}={0}2", space.display());
    let said = refused(&installation, &["--to", new, "--in-place", "--force", "--tablespace", &elsewhere]);
    assert!(said.contains("is the original and takes writes"), "{said}");
    // It cannot be asked, and its file is gone: its processes are there.
    let text = fs::read_to_string(directory.path().join("pgbosun.toml")).unwrap();
    let text = text
        .replace("connection = \"host=", "connection = \"host=/no")
        .replace("\nkind =", "\ncluster = \"main\"\nkind =");
    fs::write(directory.path().join("pgbosun.toml"), text + &crm).unwrap();
    let said = refused(&installation, &["--cluster", "main", "--to", new, "--in-place", "--force"]);
    assert!(said.contains("a tablespace of the PostgreSQL server that runs in"), "{said}");
    let pid = cluster.data.join("postmaster.pid");
    let text = fs::read_to_string(&pid).unwrap();
    fs::remove_file(&pid).unwrap();
    let said = refused(&installation, &["--cluster", "main", "--to", data, "--in-place", "--force"]);
    fs::write(&pid, text).unwrap();
    assert!(said.contains("a PostgreSQL server runs in"), "{said}");
    assert!(!Path::new(new).exists());
    cluster.sql("checkpoint");
    assert_eq!(cluster.sql("select count(*) from t"), "2000");

    // Another's directory is refused, whatever was told: the configuration knows it, or its control file says so.
    output(Command::new(postgres("initdb")).args(["-A", "trust", "--no-sync", "-D"]).arg(&other));
    let said = refused(&installation, &["--cluster", "main", "--to", other.to_str().unwrap(), "--force", "--in-place"]);
    assert!(said.contains("is the data directory of cluster crm"), "{said}");
    let renamed = directory.path().join("renamed");
    fs::rename(&other, &renamed).unwrap();
    let said =
        refused(&installation, &["--cluster", "main", "--to", renamed.to_str().unwrap(), "--force", "--in-place"]);
    assert!(said.contains("is the data directory of another server, with system identifier"), "{said}");
}

#[test]
fn c17_two_restores_into_one_directory_do_not_meet() {
    let directory = directory();
    let (cluster, installation) = in_its_place(directory.path(), "");
    cluster.sql("create table t as select g a, md5(g::text) b from generate_series(1, 50000) g");
    installation.run(&["backup", "create"]);
    cluster.stop();
    let data = cluster.data.to_str().unwrap();
    let restore = ["restore", "physical", "--to", data, "--in-place", "--force"];
    let slow = [&restore[..], &["--rate-limit", "2MB"]].concat();
    let mut first = installation.command(&slow).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
    let marker = cluster.data.join(".pgbosun-restoring");
    wait_until("it has begun", seconds(20), || marker.exists() && !cluster.data.join("global/pg_control").exists());
    let again = || {
        let done = installation.try_run(&restore);
        let said = String::from_utf8_lossy(&done.stderr).into_owned();
        assert!(!done.status.success() && said.contains("another restore into"), "{said}");
        assert!(said.contains(&format!("(process {})", first.id())), "{said}");
    };
    again();
    // Stopped in its tracks it would go on later, over whatever is there by then.
    let signal = |signal: &str| output(Command::new("kill").args([signal, &first.id().to_string()]));
    signal("-STOP");
    again();
    signal("-KILL");
    first.wait().unwrap();
    // One that died is taken up by the next.
    installation.run(&[&restore[..], &["--delta"]].concat());
    assert!(!marker.exists());
    cluster.up();
    cluster.recovered();
    assert_eq!(cluster.sql("select count(*) from t"), "50000");
}

#[test]
fn c31_what_is_in_pg_wal_alone_is_kept_whatever_was_told() {
    let directory = directory();
    let (cluster, installation) = in_its_place(directory.path(), "");
    cluster.sql("create table t as select 1 a");
    installation.run(&["backup", "create"]);
    cluster.sql("insert into t values (2)");
    cluster.archive_all();
    cluster.sql("insert into t values (4)");
    cluster.down();
    let data = cluster.data.to_str().unwrap();
    for how in [&["--in-place"][..], &["--standby"], &["--beside"]] {
        let said = refused(&installation, &[&["--to", data, "--force"], how].concat());
        assert!(said.contains("with 1 transaction up to"), "{how:?} {said}");
    }
    let said = refused(&installation, &["--to", data, "--force"]);
    let (_, rest) = said.split_once("not in the archive: ").unwrap();
    let segment = cluster.data.join("pg_wal").join(rest.split(',').next().unwrap());
    let push = ["wal", "push", "--cluster", "main", segment.to_str().unwrap()];
    installation.run(&push);
    // The server starts after all, and writes on in that segment: what was archived of it is not all.
    cluster.up();
    cluster.sql("insert into t values (8)");
    cluster.down();
    let said = refused(&installation, &["--to", data, "--force"]);
    assert!(said.contains("with 1 transaction up to"), "{said}");
    // C2: nothing is replaced, and it is said what is there.
    let done = installation.try_run(&push);
    let said = String::from_utf8_lossy(&done.stderr).into_owned();
    assert!(
        !done.status.success() && said.contains("remove that from the repository so that the whole file"),
        "{said}"
    );
    let beside = ["--beside", "--discard-wal"];
    installation.run(&[&["restore", "physical", "--to", data, "--force"], &beside[..]].concat());
    // A copy that stands where it was is no server whose commits are missed.
    installation.run(&["restore", "physical", "--to", data, "--force", "--beside"]);
    installation.run(&["restore", "physical", "--to", data, "--force", "--in-place"]);
    cluster.up();
    cluster.recovered();
    assert_eq!(cluster.sql("select sum(a) from t"), "7");
}

#[test]
fn c31_all_files_are_named_that_an_archive_lacks() {
    let directory = directory();
    let (cluster, installation) = in_its_place(directory.path(), "");
    cluster.sql("create table t as select 1 a");
    installation.run(&["backup", "create"]);
    cluster.archive_all();
    // Archiving fails, and one transaction is longer than a segment; the one after it ends where the next segment has begun.
    cluster.sql("alter system set archive_command = 'false'");
    cluster.sql("select pg_reload_conf()");
    cluster.sql("insert into t select 1 from generate_series(1, 400000)");
    cluster.down();
    let data = cluster.data.to_str().unwrap();
    let said = refused(&installation, &["--to", data, "--force"]);
    let (_, rest) = said.split_once("not in the archive: ").unwrap();
    let names: Vec<_> = rest.split(", ").take_while(|name| name.len() == 24).collect();
    assert!(names.len() > 1, "{said}");
    for name in names {
        let file = cluster.data.join("pg_wal").join(name);
        installation.run(&["wal", "push", "--cluster", "main", file.to_str().unwrap()]);
    }
    installation.run(&["restore", "physical", "--to", data, "--force"]);
    cluster.up();
    cluster.recovered();
    assert_eq!(cluster.sql("select count(*) from t"), "400001");
}
