//! C43: two servers with one system identifier, the original and a copy of its machine, are not taken for one.

use crate::support::{Cluster, Installation, MAIL, directory, output};
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
            !done.status.success() && words.contains(reason) && words.contains("a copy of that one's machine"),
            "{words}"
        );
    };
    installation.configure(&at(&socket));
    refused("and WAL segment");
    write(&copy, 6);
    refused("is another than the one in the WAL archive");
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
    assert!(why.contains("the WAL archive has not come up to it"), "{why}");

    // Once the original has come so far, it is seen which of the two is not of the archive, and nothing goes.
    installation.configure(&at(directory.path()));
    write(&original, 9);
    original.archive_all();
    let strange = "two servers with system identifier";
    let done = installation.try_run(&["backup", "verify", &both[1]]);
    let words = String::from_utf8_lossy(&done.stdout).into_owned();
    assert!(!done.status.success() && words.contains(strange), "{words}");
    installation.try_run(&["backup", "create"]);
    assert_eq!(labels().len(), 3);
    let found = installation.journal("select severity || ' ' || summary || ' ' || detail from findings");
    assert!(found.contains("old backups in local were not removed") && found.contains(strange), "{found}");
    let why = installation.run(&["backup", "expire", "--dry-run"]);
    assert!(why.contains("nothing goes until that is settled"), "{why}");

    // Settled: what is not of the cluster is taken away.
    let gone = output(Command::new("find").arg(directory.path().join("repo")).args(["-type", "d", "-name", &both[1]]));
    fs::remove_dir_all(gone.trim()).unwrap();
    installation.run(&["backup", "expire", "--force"]);
    assert_eq!(labels().len(), 1);

    // A machine that was put back goes on as the cluster, as the message says.
    original.stop();
    installation.configure(&at(&socket));
    refused("of timeline 1, and");
    fs::write(data.join("standby.signal"), "").unwrap();
    copy.stop();
    copy.up();
    copy.sql("select pg_promote()");
    installation.run(&["backup", "create"]);
    let listed = installation.json(&["backup", "list"]);
    assert_eq!(listed.as_array().unwrap().last().unwrap()["timeline"], 2, "{listed:#}");
}
