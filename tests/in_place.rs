//! C31: a restore in the original's place keeps what belongs there, and leaves nothing that does not.

use crate::support::{
    Cluster, Installation, backup_and_restore_test, cluster_and_repository, directory, in_its_place, output, postgres,
    seconds, wait_until,
};
use std::{fs, os::unix::fs::symlink, path::Path, process::Command};

#[test]
fn c31_a_delta_over_a_lost_cluster_keeps_links_and_drops_slots_and_the_cluster_goes_on() {
    over_a_lost_cluster("--delta");
}

#[test]
fn c31_a_whole_restore_over_a_lost_cluster_keeps_links_and_the_cluster_goes_on() {
    over_a_lost_cluster("--force");
}

/// Moves a file or directory out of the data directory and puts a link in its place.
fn link_out(data: &Path, name: &str, outside: &Path) {
    output(Command::new("mv").arg(data.join(name)).arg(outside.join(name)));
    symlink(outside.join(name), data.join(name)).unwrap();
}

fn over_a_lost_cluster(how: &str) {
    let directory = directory();
    let (cluster, installation) = in_its_place(directory.path(), "[jobs.archive]\nkind = \"monitor.wal-archive\"\n");
    cluster.stop();
    let outside = directory.path().join("etc");
    fs::create_dir(&outside).unwrap();
    for name in ["postgresql.conf", "pg_hba.conf", "pg_wal"] {
        link_out(&cluster.data, name, &outside);
    }
    let text = fs::read_to_string(outside.join("postgresql.conf")).unwrap();
    fs::write(outside.join("postgresql.conf"), format!("{text}\nwork_mem = '33MB'\n")).unwrap();
    cluster.up();
    cluster.sql("select pg_create_physical_replication_slot('standby', true)");
    cluster.sql("create table t as select 1 a");
    installation.run(&["backup", "create"]);
    cluster.sql("create database newer");
    cluster.sql("insert into t values (2)");
    cluster.archive_all();
    cluster.stop();
    fs::remove_file(cluster.data.join("global/pg_control")).unwrap();
    fs::remove_dir_all(cluster.data.join("pg_xact")).unwrap();

    let data = cluster.data.to_str().unwrap();
    let mut arguments = vec!["restore", "physical", "--to", data, "--force"];
    arguments.extend((how == "--delta").then_some(how));
    // C30: the place of the original is known from the configuration.
    let done = installation.try_run(&arguments);
    let said = format!("{}{}", String::from_utf8_lossy(&done.stdout), String::from_utf8_lossy(&done.stderr));
    assert!(done.status.success() && said.contains("in the original's place"), "{said}");
    assert!(said.contains("postgresql.conf: link kept") && said.contains("pg_hba.conf: link kept"), "{said}");
    assert!(fs::read_dir(cluster.data.join("pg_replslot")).unwrap().next().is_none());
    for name in ["postgresql.conf", "pg_hba.conf", "pg_wal"] {
        assert!(fs::symlink_metadata(cluster.data.join(name)).unwrap().is_symlink(), "{name}");
    }
    cluster.up();
    cluster.recovered();
    assert_eq!(cluster.sql("select count(*) from t"), "2");
    assert_eq!(cluster.sql("show work_mem"), "33MB");
    // C30: it archives as before, and is backed up and tested as before.
    assert_eq!(cluster.sql("show archive_mode"), "on");
    cluster.archive_all();
    installation.run(&["backup", "create"]);
    installation.run(&["restore-test"]);
    let check = || {
        let done = installation.try_run(&["check"]);
        String::from_utf8_lossy(&done.stdout).into_owned()
    };
    let said = check();
    assert!(said.contains("is in every repository") && said.contains("critical=0"), "{said}");

    // Archiving that ends is critical from the first check.
    let found = || {
        installation.check("archive");
        installation.journal("select severity || ' ' || summary from findings where job = 'archive'")
    };
    assert_eq!(found(), "");
    cluster.sql("alter system set archive_mode = off");
    cluster.stop();
    cluster.up();
    assert_eq!(found(), "critical nothing is archived, and WAL was archived before");
    assert!(check().contains("nothing is archived, and WAL was archived before"));
}

#[test]
fn c31_a_data_directory_that_is_lost_takes_its_tablespaces_back() {
    let directory = directory();
    let (cluster, installation) = in_its_place(directory.path(), "");
    let space = directory.path().join("space");
    fs::create_dir(&space).unwrap();
    cluster.sql(&format!("create tablespace s location '{}'", space.display()));
    cluster.sql("create table t tablespace s as select 1 a");
    installation.run(&["backup", "create"]);
    cluster.sql("insert into t values (2)");
    cluster.sql("create table later tablespace s as select 3 a");
    cluster.archive_all();
    cluster.stop();
    fs::remove_dir_all(&cluster.data).unwrap();
    fs::write(space.join("of-somebody"), "stays").unwrap();

    let data = cluster.data.to_str().unwrap();
    // A copy beside it gets nothing of the original's.
    let copy = directory.path().join("copy");
    let beside = ["restore", "physical", "--to", copy.to_str().unwrap(), "--beside", "--force"];
    let said = String::from_utf8_lossy(&installation.try_run(&beside).stderr).into_owned();
    assert!(said.contains("is not empty and not a tablespace of"), "{said}");
    installation.run(&["restore", "physical", "--to", data, "--in-place", "--force"]);
    cluster.up();
    cluster.recovered();
    assert_eq!(cluster.sql("select sum(a) from (table t union all table later) as all_of_it"), "6");
    assert_eq!(fs::read_to_string(space.join("of-somebody")).unwrap(), "stays");
}

#[test]
fn c31_what_was_committed_last_and_is_not_archived_is_not_done_away_with_in_silence() {
    let directory = directory();
    let (cluster, installation) = in_its_place(directory.path(), "");
    cluster.sql("create table t as select 1 a");
    installation.run(&["backup", "create"]);
    cluster.sql("insert into t values (2)");
    cluster.archive_all();
    cluster.sql("insert into t values (4)");
    cluster.down();
    fs::remove_dir_all(cluster.data.join("base")).unwrap();
    fs::remove_file(cluster.data.join("global/pg_control")).unwrap();

    let data = cluster.data.to_str().unwrap();
    for how in [&["--force"][..], &["--force", "--delta"]] {
        let done = installation.try_run(&[&["restore", "physical", "--to", data][..], how].concat());
        let words = String::from_utf8_lossy(&done.stderr).into_owned();
        assert!(!done.status.success() && words.contains("not in the archive: 0000000100000000"), "{words}");
        assert!(words.contains("with 1 transaction up to"), "{words}");
    }
    let told = installation.try_run(&["restore", "physical", "--to", data, "--force"]);
    let told = String::from_utf8_lossy(&told.stderr).into_owned();
    let (_, rest) = told.split_once("not in the archive: ").unwrap();
    let segment = cluster.data.join("pg_wal").join(rest.split(',').next().unwrap());
    installation.run(&["wal", "push", "--cluster", "main", segment.to_str().unwrap()]);
    installation.run(&["restore", "physical", "--to", data, "--force", "--delta"]);
    cluster.up();
    cluster.recovered();
    assert_eq!(cluster.sql("select sum(a) from t"), "7");

    cluster.sql("insert into t values (8)");
    cluster.down();
    installation.run(&["restore", "physical", "--to", data, "--force", "--delta", "--discard-wal"]);
    cluster.up();
    cluster.recovered();
    assert_eq!(cluster.sql("select sum(a) from t"), "7");
}

#[test]
fn c31_restored_to_the_backup_itself_the_cluster_archives_and_is_backed_up_again() {
    let directory = directory();
    let (cluster, installation) = in_its_place(directory.path(), "[jobs.settings]\nkind = \"monitor.settings\"\n");
    cluster.sql("create table t as select 1 a");
    installation.run(&["backup", "create"]);
    // What the archive has of this timeline the restored cluster will not write once more.
    cluster.sql("insert into t values (2)");
    cluster.archive_all();
    cluster.sql("insert into t values (3)");
    cluster.archive_all();
    cluster.stop();
    let data = cluster.data.to_str().unwrap();
    installation.run(&["restore", "physical", "--to", data, "--immediate", "--delta", "--force"]);
    cluster.up();
    cluster.recovered();
    assert_eq!(cluster.sql("select sum(a) from t"), "1");
    cluster.sql("insert into t values (4)");
    cluster.archive_all();
    installation.run(&["backup", "create"]);
    installation.run(&["restore-test"]);
    let listed = installation.json(&["backup", "list"]);
    assert_eq!(listed.as_array().unwrap().last().unwrap()["timeline"], 2, "{listed:#}");

    // Once more, paused, when ALTER SYSTEM writes the file anew without its comments.
    cluster.sql("select pg_create_restore_point('here')");
    cluster.archive_all();
    cluster.stop();
    let paused = ["restore", "physical", "--to", data, "--delta", "--force", "--target-action", "pause"];
    let refused = installation.try_run(&paused);
    let words = String::from_utf8_lossy(&refused.stderr).into_owned();
    assert!(refused.status.code() == Some(64) && words.contains("needs a target"), "{words}");
    installation.run(&[&paused[..], &["--target-name", "here"]].concat());
    cluster.up();
    cluster.sql("alter system set work_mem = '7MB'");
    cluster.sql("select pg_promote()");
    cluster.recovered();
    assert_eq!(cluster.sql("select sum(a) from t"), "5");

    // What recovery needed is gone, so that a standby that is made from it follows the timeline that it is on.
    let left = fs::read_to_string(cluster.data.join("postgresql.auto.conf")).unwrap();
    let counts = |line: &str| !line.starts_with('#') && (line.contains("recovery") || line.contains("restore_command"));
    assert!(!left.lines().any(counts) && left.contains("work_mem = '7MB'"), "{left}");
    cluster.sql("select pg_reload_conf()");
    installation.check("settings");
    let found = "select severity || ' ' || summary || ' ' || detail from findings where job = 'settings'";
    assert_eq!(installation.journal(found), "");
    let (standby, socket) = (directory.path().join("standby"), directory.path().join("s"));
    fs::create_dir(&socket).unwrap();
    let connection = format!("host={} user=postgres", directory.path().display());
    let standby_of = ["-R", "-c", "fast", "-d", &connection, "-D", standby.to_str().unwrap()];
    output(Command::new(postgres("pg_basebackup")).args(standby_of));
    let standby = Cluster::adopt(&standby, &socket);
    wait_until("the standby follows", seconds(60), || standby.sql("select sum(a) from t") == "5");
}

#[test]
fn c17_a_server_in_another_container_is_not_restored_over() {
    let directory = directory();
    let cluster = Cluster::start(directory.path());
    let installation = Installation::new(
        directory.path(),
        &format!("{}{}", cluster_and_repository(&cluster), backup_and_restore_test()),
    );
    installation.run(&["backup", "create"]);
    // Seen from here its process has a number that nobody has. (What the server itself reads is left alone: it would stop.)
    let written = fs::read_to_string(cluster.data.join("postmaster.pid")).unwrap();
    let (_, rest) = written.split_once('\n').unwrap();
    let data = directory.path().join("mounted");
    fs::create_dir(&data).unwrap();
    fs::write(data.join("PG_VERSION"), "").unwrap();
    fs::write(data.join("postmaster.pid"), format!("4194999\n{rest}")).unwrap();
    let done = installation.try_run(&["restore", "physical", "--to", data.to_str().unwrap(), "--in-place", "--force"]);
    let said = String::from_utf8_lossy(&done.stderr).into_owned();
    assert!(!done.status.success() && said.contains("runs from") && said.contains("stop it first"), "{said}");
    assert_eq!(cluster.sql("select 1"), "1");
}
