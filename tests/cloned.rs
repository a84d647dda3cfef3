//! C43: two servers with one system identifier, the original and a copy of its machine, are not taken for one.

use crate::support::{Cluster, Installation, MAIL, directory, output, postgres};
use std::{fs, path::Path, process::Command};

/// The cluster `main`, at this place.
fn at(socket: &Path) -> String {
    format!(
        "{MAIL}[clusters.main]\nconnection = \"host={} port=5432 user=postgres dbname=postgres\"\n\
         [repositories.local]\ntype = \"local\"\npath = \"{{dir}}/repo\"\n\
         [jobs.full]\nkind = \"backup.physical\"\nrepositories = [\"local\"]\nretention = {{ count = 1 }}\n",
        socket.display()
    )
}

#[test]
fn c43_a_copy_of_the_machine_that_backs_up_to_the_same_place_replaces_nothing() {
    let directory = directory();
    let socket = directory.path().join("copy");
    fs::create_dir(&socket).unwrap();
    let installation = Installation::new(directory.path(), &at(directory.path()));
    let original = Cluster::start_with(directory.path(), &Cluster::archiving(directory.path()));
    original.sql("create table t as select 1 a");
    installation.run(&["backup", "create"]);
    let labels = || {
        let listed = installation.json(&["backup", "list"]);
        let labels = listed.as_array().unwrap().iter().map(|one| one["label"].as_str().unwrap().to_owned());
        labels.collect::<Vec<_>>()
    };
    let first = labels();
    original.stop();
    let data = directory.path().join("pg2");
    output(Command::new("cp").arg("-a").arg(&original.data).arg(&data));
    original.up();
    let settings = data.join("postgresql.auto.conf");
    fs::write(&settings, fs::read_to_string(&settings).unwrap() + "archive_mode = off\n").unwrap();
    let copy = Cluster::adopt(&data, &socket);
    let write = |server: &Cluster, segments: u32| {
        for _ in 0..segments {
            server.sql("insert into t values (2)");
            server.sql("select pg_switch_wal()");
        }
    };
    write(&original, 2);
    original.archive_all();

    // It is behind, then ahead; its own WAL is another.
    let refused = |reason: &str| {
        let done = installation.try_run(&["backup", "create"]);
        let words = String::from_utf8_lossy(&done.stdout).into_owned();
        assert!(
            !done.status.success() && words.contains(reason) && words.contains("is a copy of the other's machine"),
            "{words}"
        );
    };
    installation.configure(&at(&socket));
    refused("but segment");
    write(&copy, 6);
    refused("differs from the one in the WAL archive");
    assert_eq!(labels(), first);

    // Where it has that segment no more nobody knows, and its backup takes the place of none.
    for entry in fs::read_dir(data.join("pg_wal")).unwrap().flatten() {
        let name = entry.file_name().into_string().unwrap();
        if name.len() == 24 && name < copy.sql("select pg_walfile_name(pg_current_wal_lsn())") {
            fs::rename(entry.path(), socket.join(name)).unwrap();
        }
    }
    installation.run(&["backup", "create"]);
    let both = labels();
    assert_eq!((both.len(), &both[0]), (2, &first[0]), "{both:?}");
    let why = installation.run(&["backup", "expire", "--dry-run"]);
    assert!(why.contains("the WAL archive has not reached it yet"), "{why}");
    // Nor does it keep the original, which is behind it, from its own.
    installation.configure(&at(directory.path()));
    installation.run(&["backup", "create"]);

    // Once the original has come so far, it is seen which of the two is not of the archive, and nothing goes.
    write(&original, 9);
    original.archive_all();
    // It is not restored from by itself, though nobody has verified it since.
    let programs = postgres("").display().to_string();
    let tested = installation.run(&["restore", "physical", "--verify-only", "--program-directory", &programs]);
    assert!(!tested.contains(&both[1]), "{tested}");
    let strange = "two servers with system identifier";
    let done = installation.try_run(&["backup", "verify", &both[1]]);
    let words = String::from_utf8_lossy(&done.stdout).into_owned();
    assert!(!done.status.success() && words.contains(strange), "{words}");
    installation.try_run(&["backup", "create"]);
    assert_eq!(labels().len(), 3);
    let found = installation.journal("select severity || ' ' || summary || ' ' || detail from findings");
    assert!(found.contains("old backups in local were not removed") && found.contains(strange), "{found}");
    let why = installation.run(&["backup", "expire", "--dry-run"]);
    assert!(why.contains("nothing is removed until that is resolved"), "{why}");

    // Settled: what is not of the cluster is taken away.
    installation.run(&["backup", "remove", &both[1], "--force"]);
    installation.run(&["backup", "expire", "--force"]);
    assert_eq!(labels().len(), 1);

    // A machine that was put back goes on under a name of its own, as the message says.
    original.stop();
    installation.configure(&at(&socket));
    refused("on timeline 1, but");
    installation.configure(&at(&socket).replace("[clusters.main]", "[clusters.back]"));
    installation.run(&["backup", "create"]);
    let listed = installation.json(&["backup", "list", "--cluster", "back"]);
    assert_eq!(listed.as_array().unwrap().len(), 1, "{listed:#}");
}

#[test]
fn c43_an_archive_that_is_not_in_use_any_more_does_not_hold_retention_up() {
    let directory = directory();
    let installation = Installation::new(directory.path(), &at(directory.path()));
    let server = Cluster::start_with(directory.path(), &Cluster::archiving(directory.path()));
    let labels = || installation.json(&["backup", "list"]).as_array().unwrap().len();
    installation.run(&["backup", "create"]);
    server.sql("alter system set archive_command = ''");
    server.sql("select pg_reload_conf()");
    server.sql("create table t as select 1 a");
    installation.run(&["backup", "create"]);
    assert_eq!(labels(), 2, "the archive may still come up to what was just taken");
    let wal = directory.path().join("repo/main");
    let aged = ["-path", "*/wal/*", "-type", "f", "-exec", "touch", "-d", "2 days ago", "{}", "+"];
    output(Command::new("find").arg(wal).args(aged));
    installation.run(&["backup", "expire", "--force"]);
    assert_eq!(labels(), 1);
}

#[test]
fn c35_c43_a_share_that_a_copy_of_the_machine_was_backed_up_to_costs_the_others_nothing() {
    let directory = directory();
    let socket = directory.path().join("copy");
    fs::create_dir(&socket).unwrap();
    let share = "[repositories.share]\ntype = \"local\"\npath = \"{dir}/share\"\nrequired = false\n";
    let original = Cluster::start(directory.path());
    let both = at(directory.path()).replace("[jobs.full]", &format!("{share}[jobs.full]"));
    let both = both.replace("[\"local\"]", "[\"local\", \"share\"]");
    let installation = Installation::new(directory.path(), &both);
    installation.run(&["backup", "create"]);
    original.stop();
    let data = directory.path().join("pg2");
    output(Command::new("cp").arg("-a").arg(&original.data).arg(&data));
    original.up();
    let copy = Cluster::adopt(&data, &socket);
    for _ in 0..4 {
        copy.sql("select txid_current()");
        copy.sql("select pg_switch_wal()");
    }
    // The copy was backed up to the share alone: the original is behind it there.
    let of_copy = at(&socket).replace("{dir}/repo", "{dir}/share");
    installation.configure(&of_copy);
    installation.run(&["backup", "create"]);
    installation.configure(&both);
    let done = installation.try_run(&["backup", "create"]);
    let words = String::from_utf8_lossy(&done.stdout).into_owned();
    assert!(done.status.success() && words.contains("missing from share"), "{words}");
    let found = installation.journal("select summary || ' ' || detail from findings");
    assert!(found.contains("is not the one whose backups and WAL are in repository share"), "{found}");
}

#[test]
fn c43_a_backup_that_waits_for_the_archive_takes_no_other_servers_wal() {
    let directory = directory();
    let socket = directory.path().join("copy");
    fs::create_dir(&socket).unwrap();
    let original = Cluster::start_with(directory.path(), &Cluster::archiving(directory.path()));
    let configured = |socket: &Path| at(socket).replace("[\"local\"]", "[\"local\"]\nwal = \"archive\"");
    let installation = Installation::new(directory.path(), &configured(directory.path()));
    installation.run(&["backup", "create"]);
    let named = ["-name", "backup.json", "-exec", "grep", "-A", "2", "last-segment", "{}", "+"];
    let noted = output(Command::new("find").arg(directory.path().join("repo")).args(named));
    assert!(noted.contains("sha256"), "{noted}");
    original.stop();
    let data = directory.path().join("pg2");
    output(Command::new("cp").arg("-a").arg(&original.data).arg(&data));
    let settings = data.join("postgresql.auto.conf");
    fs::write(&settings, fs::read_to_string(&settings).unwrap() + "archive_mode = off\n").unwrap();
    original.up();
    let copy = Cluster::adopt(&data, &socket);
    // Ahead of the archive at first, which then comes past it: all its segments seem to be there.
    copy.sql("create table of_copy as select 1 a");
    for _ in 0..6 {
        copy.sql("insert into of_copy values (1)");
        copy.sql("select pg_switch_wal()");
    }
    installation.configure(&configured(&socket));
    let mut backup = installation.command(&["backup", "create"]).stdout(std::process::Stdio::piped()).spawn().unwrap();
    std::thread::sleep(std::time::Duration::from_secs(2));
    for _ in 0..12 {
        original.sql("select txid_current()");
        original.sql("select pg_switch_wal()");
    }
    original.archive_all();
    let mut words = String::new();
    std::io::Read::read_to_string(backup.stdout.as_mut().unwrap(), &mut words).unwrap();
    assert!(!backup.wait().unwrap().success() && words.contains("differs from the one in the WAL archive"), "{words}");
}
