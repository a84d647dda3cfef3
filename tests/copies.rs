//! C29, C30, C31: a copy starts wherever its original would, with what its configuration says about the original put right; and what
//! belongs to the place stays.

use crate::support::{
    Cluster, Installation, backup_and_restore_test, cluster_and_repository, directory, output, postgres, seconds,
    wait_until,
};
use std::{
    fs,
    os::unix::fs::{PermissionsExt, symlink},
    path::Path,
    process::Command,
};

/// Adds lines to a file.
fn add(file: &Path, lines: &str) {
    let text = fs::read_to_string(file).unwrap_or_default();
    fs::write(file, format!("{text}\n{lines}\n")).unwrap();
}

fn mode(path: &Path) -> u32 {
    fs::metadata(path).unwrap().permissions().mode() & 0o777
}

#[test]
fn c29_c30_c31_a_copy_of_a_server_with_a_past_starts_beside_it_and_in_its_place() {
    let directory = directory();
    // The path of a socket in there would be too long.
    let long = directory.path().join("a".repeat(60));
    fs::create_dir(&long).unwrap();
    let cluster = Cluster::start_with(directory.path(), &Cluster::archiving(&long));
    let installation =
        Installation::new(&long, &format!("{}{}", cluster_and_repository(&cluster), backup_and_restore_test()));
    cluster.stop();
    // An earlier recovery's target and a delay are left, in a file of its own and in one that lies elsewhere.
    let (elsewhere, linked) = (directory.path().join("etc"), directory.path().join("linked"));
    for place in [&elsewhere, &linked] {
        fs::create_dir(place).unwrap();
    }
    let main = cluster.data.join("postgresql.conf");
    add(&main, &format!("include '{}'\ninclude_dir 'conf.d'", elsewhere.join("more.conf").display()));
    add(&main, "recovery_min_apply_delay = '1h'");
    add(&elsewhere.join("more.conf"), "recovery_target_time = '2020-01-01 00:00:00+00'\nmax_connections = 120");
    add(&linked.join("a.conf"), "work_mem = '33MB'");
    symlink(&linked, cluster.data.join("conf.d")).unwrap();
    symlink(directory.path().join("nowhere"), cluster.data.join("dangling")).unwrap();
    output(Command::new("chmod").args(["-R", "g+rX"]).arg(&cluster.data));
    cluster.up();
    cluster.sql("create table t as select generate_series(1, 100) a");
    installation.run(&["backup", "create"]);
    cluster.sql("alter system set max_connections = 200");
    cluster.stop();
    cluster.up();
    cluster.sql("insert into t values (101)");
    cluster.archive_all();
    let told = installation.run(&["restore-test"]);
    assert!(told.contains("101 rows"), "{told}");

    // Beside it, while it runs: started as the last line says, with nothing else.
    let target = directory.path().join("copy");
    let told = installation.run(&["restore", "physical", "--to", target.to_str().unwrap()]);
    assert!(told.lines().any(|line| line.contains("commented out") && line.contains("include")), "{told}");
    let copy = Cluster::beside(&cluster, &target, &told);
    let ask = |question: &str| copy.sql(question);
    wait_until("the copy has recovered", seconds(60), || ask("select pg_is_in_recovery()") == "f");
    assert_eq!(ask("select count(*) from t"), "101");
    assert_eq!(ask("show cluster_name"), "copy of main");
    assert_eq!(ask("show max_logical_replication_workers"), "0");
    assert_eq!(ask("show max_connections"), "120", "from the file that is no longer included");
    assert_eq!(cluster.sql("select count(*) from t"), "101");
    drop(copy);
    assert_eq!((mode(&target), mode(&target.join("PG_VERSION"))), (0o700, 0o600));

    // In its place.
    cluster.stop();
    let data = cluster.data.to_str().unwrap();
    let told = installation.run(&["restore", "physical", "--in-place", "--force", "--to", data]);
    let comment = "commented out, since they do not apply to what was restored: recovery_min_apply_delay";
    for line in ["conf.d: link kept", "dangling: the previous link was removed", comment] {
        assert!(told.contains(line), "{line}: {told}");
    }
    cluster.up();
    cluster.recovered();
    assert_eq!(cluster.sql("select count(*) from t"), "101", "the target of the earlier recovery means nothing");
    assert_eq!(cluster.sql("show work_mem"), "33MB");
    let modes = ["", "base", "PG_VERSION", "global/pg_control", "postgresql.auto.conf"];
    let modes = modes.map(|name| mode(&cluster.data.join(name)));
    assert_eq!(modes, [0o750, 0o750, 0o640, 0o640, 0o640], "its group may read it as before");
}

#[test]
fn c21_a_copy_with_big_segments_recovers() {
    let directory = directory();
    let cluster = Cluster::start(directory.path());
    let installation = Installation::new(
        directory.path(),
        &format!("{}{}", cluster_and_repository(&cluster), backup_and_restore_test()),
    );
    cluster.stop();
    output(Command::new(postgres("pg_resetwal")).args(["--wal-segsize", "64", "-D"]).arg(&cluster.data));
    add(&cluster.data.join("postgresql.auto.conf"), &Cluster::archiving(directory.path()));
    add(&cluster.data.join("postgresql.auto.conf"), "min_wal_size = '128MB'");
    cluster.up();
    cluster.sql("create table t as select generate_series(1, 100) a");
    installation.run(&["backup", "create"]);
    cluster.sql("insert into t values (101)");
    cluster.archive_all();
    let told = installation.run(&["restore-test"]);
    assert!(told.contains("101 rows"), "{told}");
}

#[test]
fn c17_what_keeps_a_restore_from_its_place_is_said_before_the_first_byte() {
    let directory = directory();
    let cluster = Cluster::start_with(directory.path(), &Cluster::archiving(directory.path()));
    let job = "[jobs.full]\nkind = \"backup.physical\"\nrepositories = [\"local\"]\n";
    let installation = Installation::new(directory.path(), &format!("{}{job}", cluster_and_repository(&cluster)));
    let space = directory.path().join("space");
    fs::create_dir(&space).unwrap();
    cluster.sql(&format!("create tablespace s location '{}'", space.display()));
    cluster.sql("create table t tablespace s as select 1 a");
    installation.run(&["backup", "create"]);
    cluster.archive_all();
    let created_later = Path::new("/nowhere/later");
    let refused_of = |target: &Path, places: &[(&Path, &Path)], words: &str| {
        let mut restore = installation.command(&["restore", "physical", "--to", target.to_str().unwrap()]);
        for (old, new) in places {
            restore.arg("--tablespace").arg(format!("{}={}", old.display(), new.display()));
        }
        let done = restore.output().unwrap();
        let said = String::from_utf8_lossy(&done.stderr).into_owned();
        assert!(!done.status.success() && said.contains(words), "{words}: {said}");
        assert!(!target.join("PG_VERSION").exists() && !target.join("base").exists(), "{words}");
    };
    let refused = |target: &Path, moved: &Path, words: &str| refused_of(target, &[(&space, moved)], words);
    let (target, moved) = (directory.path().join("target"), directory.path().join("moved"));
    let closed = directory.path().join("closed");
    fs::create_dir(&closed).unwrap();
    fs::set_permissions(&closed, fs::Permissions::from_mode(0o500)).unwrap();
    refused(&closed.join("target"), &moved, "may not write into");
    refused(&target, &closed.join("moved"), "may not write into");
    let file = directory.path().join("file");
    fs::write(&file, "").unwrap();
    refused(&file.join("target"), &moved, "is not a directory");
    refused(Path::new("/usr/lib"), &moved, "is neither empty nor a data directory");
    refused(&target, &space, "is a tablespace of the PostgreSQL server that runs in");
    refused(&target, &target, "two things would be restored into");
    // C29: what belongs to a server or is a repository gets no guests.
    refused(&cluster.data.join("base/copy"), &moved, "which is a data directory");
    refused(&target, &cluster.data.join("space"), "which is a data directory");
    refused(&directory.path().join("repo/copy"), &moved, "which is a repository");
    let owned = fs::read_dir(&space).unwrap().next().unwrap().unwrap().path();
    refused(&target, &owned.join("copy"), "which is the tablespace directory of a server");

    // Where recovery is to put what was created after the backup, it must be able to: found out then, hours would be lost.
    let link = directory.path().join("link");
    symlink(directory.path().join("gone"), &link).unwrap();
    let is_empty = |path: &&Path| fs::read_dir(path).is_ok_and(|mut entries| entries.next().is_none());
    let foreign = ["/mnt", "/srv", "/media"].map(Path::new).into_iter().find(is_empty);
    let places = [
        (closed.join("later"), "may not write into"),
        (closed, "may not write into"),
        (file.join("later"), "is not a directory"),
        (file, "is not a directory"),
        (link.join("later"), "is a link that leads nowhere"),
        (link, "is a link that leads nowhere"),
        (space.clone(), "is not empty"),
        (moved.clone(), "two things would be restored into"),
    ];
    let foreign = foreign.map(|path| (path.to_owned(), "does not belong to"));
    for (later, words) in places.into_iter().chain(foreign) {
        refused_of(&target, &[(&space, &moved), (created_later, &later)], words);
    }
}

#[test]
fn c19_what_the_server_wrote_and_did_not_archive_yet_is_archived_for_a_restore() {
    let directory = directory();
    let cluster = Cluster::start_with(directory.path(), &Cluster::archiving(directory.path()));
    let job = "[jobs.full]\nkind = \"backup.physical\"\nrepositories = [\"local\"]\n";
    let installation = Installation::new(directory.path(), &format!("{}{job}", cluster_and_repository(&cluster)));
    installation.run(&["backup", "create"]);
    let restore = |name: &str, option: &str, value: &str| {
        let target = directory.path().join(name);
        let done = installation.try_run(&["restore", "physical", "--to", target.to_str().unwrap(), option, value]);
        (done.status.success(), String::from_utf8_lossy(&done.stderr).into_owned())
    };
    cluster.sql("create table t as select generate_series(1, 5) a");
    let now = cluster.sql("select clock_timestamp() at time zone 'UTC' || '+00'");
    let (succeeded, said) = restore("by-time", "--target-time", &now);
    assert!(succeeded && said.contains("to archive the WAL it has written since"), "{said}");
    cluster.sql("insert into t values (6)");
    let lsn = cluster.sql("select pg_current_wal_lsn()");
    assert!(restore("by-lsn", "--target-lsn", &lsn).0);
    let xid = cluster.sql("begin; insert into t values (7); select pg_current_xact_id(); commit");
    assert!(restore("by-xid", "--target-xid", &xid).0);
    let socket = directory.path().join("r");
    fs::create_dir(&socket).unwrap();
    for (name, rows) in [("by-time", "5"), ("by-xid", "7")] {
        let copy = Cluster::adopt(&directory.path().join(name), &socket);
        copy.recovered();
        assert_eq!(copy.sql("select count(*) from t"), rows, "{name}");
    }
    let (succeeded, said) = restore("future", "--target-time", "2999-01-01 00:00:00+00");
    assert!(!succeeded && said.contains("that time has not come yet"), "{said}");
    let (succeeded, said) = restore("beyond", "--target-lsn", "FF/0");
    assert!(!succeeded && said.contains("the server has written only up to"), "{said}");
    // What is nowhere is not waited for longer than it takes to archive all there is.
    let begun = std::time::Instant::now();
    let (succeeded, said) = restore("nowhere", "--target-name", "no such restore point");
    assert!(!succeeded && said.contains("everything the server wrote is archived"), "{said}");
    assert!(begun.elapsed() < seconds(50), "{:?}", begun.elapsed());
    cluster.stop();
    let (succeeded, said) = restore("gone", "--target-lsn", "FF/0");
    assert!(!succeeded && said.contains("select pg_switch_wal()"), "{said}");
}
