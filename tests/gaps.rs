//! C34: a gap in the archive is said, and asked about; it is never taken for the end.

use crate::support::{Cluster, Installation, backup_and_restore_test, cluster_and_repository, directory, output};
use std::{fs, process::Command};

#[test]
fn c34_a_missing_segment_is_no_end_of_the_archive() {
    let directory = directory();
    let cluster = Cluster::start_with(directory.path(), &Cluster::archiving(directory.path()));
    let jobs = backup_and_restore_test();
    let installation = Installation::new(directory.path(), &format!("{}{jobs}", cluster_and_repository(&cluster)));
    installation.run(&["backup", "create"]);
    cluster.sql("create table t as select 0 a");
    for row in 1..5 {
        cluster.sql(&format!("insert into t values ({row})"));
        cluster.archive_all();
    }
    installation.run(&["backup", "verify", "--all"]);
    let found =
        output(Command::new("find").arg(directory.path().join("repo")).args(["-path", "*/wal/*", "-name", "0*"]));
    let mut segments: Vec<_> = found.lines().filter(|line| !line.contains("history")).collect();
    segments.sort_unstable_by_key(|path| path.rsplit('/').next());
    let gone = segments[segments.len() - 3];
    let name = &gone.rsplit('/').next().unwrap()[..24];
    let wal = |arguments: &[&str]| {
        let mut command = installation.command(&[&["wal"], arguments].concat());
        command.current_dir(&cluster.data).output().unwrap().status
    };
    assert!(wal(&["fetch", name, "pg_wal/RECOVERYXLOG"]).success());

    // One that is there without a byte is missing too, is handed to no recovery, and is stored anew when it comes again.
    fs::write(gone, "").unwrap();
    let done = installation.try_run(&["backup", "verify", "--all"]);
    let words = String::from_utf8_lossy(&done.stdout);
    assert!(!done.status.success() && words.contains(&format!("{name} is missing")), "{words}");
    assert!(!wal(&["fetch", name, "pg_wal/EMPTY"]).success() && !cluster.data.join("pg_wal/EMPTY").exists());
    fs::rename(cluster.data.join("pg_wal/RECOVERYXLOG"), cluster.data.join("pg_wal").join(name)).unwrap();
    assert!(wal(&["push", &format!("pg_wal/{name}")]).success());
    installation.run(&["backup", "verify", "--all"]);
    fs::remove_file(gone).unwrap();

    let target = directory.path().join("restored");
    let to = target.to_str().unwrap();
    let said = |arguments: &[&str]| {
        let done = installation.try_run(arguments);
        let words = format!("{}{}", String::from_utf8_lossy(&done.stdout), String::from_utf8_lossy(&done.stderr));
        (done.status.success(), words)
    };
    for latest in [&["--latest"][..], &[]] {
        let (done, words) = said(&[&["restore", "physical", "--to", to][..], latest].concat());
        assert!(
            !done && words.contains(&format!("{name} is missing")) && words.contains("recovery ends at"),
            "{words}"
        );
        assert!(!target.exists());
    }
    let (done, words) = said(&["backup", "verify", "--all"]);
    assert!(!done && words.contains(&format!("{name} is missing")), "{words}");
    let (done, words) = said(&["restore-test"]);
    assert!(!done, "{words}");
    // Whoever knows of it may go on, and is told once more.
    let (done, words) = said(&["restore", "physical", "--to", to, "--latest", "--accept-gap"]);
    assert!(done && words.contains("recovery ends at"), "{words}");
}

#[test]
fn c34_a_segment_that_is_missing_at_the_beginning_is_one_unless_the_backup_has_it() {
    let directory = directory();
    let cluster = Cluster::start_with(directory.path(), &Cluster::archiving(directory.path()));
    let installation = Installation::new(
        directory.path(),
        &format!("{}{}", cluster_and_repository(&cluster), backup_and_restore_test()),
    );
    installation.run(&["backup", "create"]);
    cluster.sql("create table t as select 0 a");
    for row in 1..4 {
        cluster.sql(&format!("insert into t values ({row})"));
        cluster.archive_all();
    }
    let found =
        output(Command::new("find").arg(directory.path().join("repo")).args(["-path", "*/wal/*", "-type", "f"]));
    let mut segments: Vec<_> = found.lines().filter(|path| !path.contains(".backup")).collect();
    segments.sort_unstable_by_key(|path| path.rsplit('/').next());
    let stop = installation.json(&["backup", "list"])[0]["stop_lsn"].as_str().unwrap().to_owned();
    let stop = cluster.sql(&format!("select pg_walfile_name('{stop}')"));
    let in_use = segments.iter().position(|path| path.contains(&stop)).expect("the segment of the end");
    for gone in &segments[..=in_use] {
        fs::remove_file(gone).unwrap();
    }
    // All of it is in the backup.
    installation.run(&["backup", "verify", "--all"]);
    installation.run(&["restore-test"]);
    let target = directory.path().join("restored");
    let to = target.to_str().unwrap();
    installation.run(&["restore", "physical", "--to", to]);
    let scratch = directory.path().join("c");
    fs::create_dir(&scratch).unwrap();
    let server = Cluster::adopt(&target, &scratch);
    server.recovered();
    assert_eq!(server.sql("select count(*) from t"), "4");
    drop(server);
    fs::remove_dir_all(&target).unwrap();

    // The one after it is nowhere.
    let gone = segments[in_use + 1];
    let name = &gone.rsplit('/').next().unwrap()[..24];
    fs::remove_file(gone).unwrap();
    assert!(!installation.try_run(&["restore-test"]).status.success());
    let tested = installation.journal("select detail from findings where job = 'test'");
    assert!(tested.contains(&format!("{name} is missing")), "{tested}");
    for arguments in [&["restore", "physical", "--to", to][..], &["backup", "verify", "--all"]] {
        let done = installation.try_run(arguments);
        let words = format!("{}{}", String::from_utf8_lossy(&done.stdout), String::from_utf8_lossy(&done.stderr));
        assert!(!done.status.success() && words.contains(&format!("{name} is missing")), "{words}");
    }
}

#[test]
fn c14_a_backup_without_wal_of_its_own_is_good_where_the_archive_has_it_and_is_copied_with_it() {
    let directory = directory();
    let cluster = Cluster::start_with(directory.path(), &Cluster::archiving(directory.path()));
    let second = "[repositories.second]\ntype = \"local\"\npath = \"{dir}/second\"\nrequired = false\n";
    let job = "[jobs.full]\nkind = \"backup.physical\"\nrepositories = [\"local\"]\nwal = \"archive\"\n";
    let installation =
        Installation::new(directory.path(), &format!("{}{second}{job}", cluster_and_repository(&cluster)));
    installation.run(&["backup", "create"]);
    let label = installation.json(&["backup", "list"])[0]["label"].as_str().unwrap().to_owned();
    // A repository that gets no WAL would wait for it in vain.
    let text = format!("{}{second}{job}", cluster_and_repository(&cluster));
    let only_first = text.replacen("[clusters.main]\n", "[clusters.main]\nwal-repositories = [\"local\"]\n", 1);
    installation.configure(&only_first.replace("[\"local\"]\nwal =", "[\"local\", \"second\"]\nwal ="));
    let done = installation.try_run(&["backup", "create"]);
    let words = String::from_utf8_lossy(&done.stdout).into_owned();
    assert!(!done.status.success() && words.contains("second, which gets no WAL of main"), "{words}");
    installation.configure(&text);
    // The second repository has no WAL: it came after the archive, or was away.
    let wal = |repository: &str| {
        let place = directory.path().join(repository);
        output(Command::new("find").arg(place).args(["-path", "*/wal/*", "-name", "0000000100000*-*"]))
    };
    output(Command::new("find").arg(directory.path().join("second")).args(["-path", "*/wal/*", "-delete"]));
    assert_eq!(wal("second"), "");
    let said = installation.run(&["backup", "copy", &label, "--to", "second"]);
    assert!(said.contains("WAL after the end of the backup is not copied"), "{said}");
    // By that one alone it is restored.
    fs::rename(directory.path().join("repo"), directory.path().join("gone")).unwrap();
    let clusters = format!("[clusters.main]\nconnection = \"{}\"\n", cluster.connection());
    installation.configure(&format!("{clusters}{second}"));
    let target = directory.path().join("restored");
    installation.run(&["restore", "physical", "--to", target.to_str().unwrap(), "--immediate"]);
    let scratch = directory.path().join("c");
    fs::create_dir(&scratch).unwrap();
    let server = Cluster::adopt(&target, &scratch);
    server.recovered();
    drop(server);
    installation.run(&["backup", "verify", &label]);
    for file in wal("second").lines() {
        fs::remove_file(file).unwrap();
    }
    let done = installation.try_run(&["backup", "verify", &label]);
    let words = String::from_utf8_lossy(&done.stdout).into_owned();
    assert!(!done.status.success() && words.contains("is missing from the archive"), "{words}");
}
