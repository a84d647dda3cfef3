//! C35: what one repository refuses costs the others nothing, and the run says what is missing where.

use crate::support::{Cluster, Installation, MAIL, cluster_and_repository, directory, output};
use std::process::Command;

/// A repository that has to take the backups, and a share that may fail.
fn with_share(cluster: &Cluster) -> String {
    format!(
        "{MAIL}{}[repositories.share]\ntype = \"local\"\npath = \"{{dir}}/share\"\nrequired = false\n\
         [jobs.full]\nkind = \"backup.physical\"\nrepositories = [\"local\", \"share\"]\nretries = 0\n",
        cluster_and_repository(cluster)
    )
}

#[test]
fn c35_a_share_that_is_read_only_costs_the_local_copy_nothing_and_the_run_says_partly() {
    let directory = directory();
    let cluster = Cluster::start_with(directory.path(), &Cluster::archiving(directory.path()));
    let installation = Installation::new(directory.path(), &with_share(&cluster));
    installation.run(&["backup", "create"]);
    let share = directory.path().join("share");
    let mode = |mode: &str| output(Command::new("chmod").args(["-R", mode]).arg(&share));
    mode("a-w");
    cluster.sql("create table t as select 1 a");
    cluster.archive_all();
    let said = installation.run(&["backup", "create"]);
    assert!(said.contains("to local: ") && said.contains("missing from share"), "{said}");
    let found = "select severity || ' ' || object from findings where object like 'copy in%'";
    assert_eq!(installation.journal(found), "warning copy in share");
    cluster.archive_all();
    mode("u+w");
    installation.run(&["backup", "create"]);
    assert_eq!(installation.json(&["backup", "list"]).as_array().map(Vec::len), Some(5));
}

#[test]
fn c35_status_and_list_say_the_same_of_a_repository_that_is_there_away_or_emptied() {
    let directory = directory();
    let cluster = Cluster::start_with(directory.path(), &Cluster::archiving(directory.path()));
    let mut installation = Installation::new(directory.path(), &with_share(&cluster));
    for _ in 0..2 {
        installation.run(&["backup", "create"]);
    }
    let list = |installation: &Installation| {
        let all = installation.json(&["backup", "list"]);
        let all = all.as_array().unwrap().iter().filter(|backup| backup["repository"] == "share");
        all.map(|backup| (backup["label"].clone(), backup["last_seen"] == true)).collect::<Vec<_>>()
    };
    let status = |installation: &Installation| {
        let all = installation.json(&["status"]);
        let mut all = all["clusters"][0]["backups"].as_array().unwrap().clone().into_iter();
        let of_share = all.find(|backup| backup["repository"] == "share");
        of_share.map(|backup| (backup["label"].clone(), backup["count"].clone(), !backup["away"].is_null()))
    };
    let same = |installation: &Installation, count: usize, away: bool| {
        let listed = list(installation);
        assert_eq!(listed.len(), count);
        assert!(listed.iter().all(|(_, unseen)| *unseen == away), "{listed:?}");
        let newest = listed.last().map(|(label, _)| (label.clone(), serde_json::json!(count), away));
        assert_eq!(status(installation), newest);
    };
    let share = directory.path().join("share");
    let moved = directory.path().join("moved");
    for with_daemon in [false, true] {
        if with_daemon {
            installation.start();
        }
        same(&installation, 2, false);
        // Something else is mounted there.
        std::fs::rename(&share, &moved).unwrap();
        std::fs::write(&share, "").unwrap();
        same(&installation, 2, true);
        let shown = installation.try_run(&["status"]);
        assert!(String::from_utf8_lossy(&shown.stdout).contains("last seen: "), "{shown:?}");
        let shown = installation.try_run(&["backup", "list"]);
        assert!(String::from_utf8_lossy(&shown.stdout).contains("last seen verified"), "{shown:?}");
        std::fs::remove_file(&share).unwrap();
        std::fs::rename(&moved, &share).unwrap();
    }
    // Somebody removed them behind its back: what is gone is not there.
    let found = output(std::process::Command::new("find").arg(&share).args(["-name", "backup.json"]));
    // What is there and cannot be read is told by both.
    std::fs::write(found.lines().next().unwrap(), "nothing").unwrap();
    for arguments in [&["status"][..], &["backup", "list"]] {
        let shown = installation.try_run(arguments);
        let words = String::from_utf8_lossy(&[shown.stdout, shown.stderr].concat()).into_owned();
        assert!(words.contains("not listed: share: ") && words.contains("is damaged"), "{words}");
    }
    for file in found.lines() {
        std::fs::remove_dir_all(std::path::Path::new(file).parent().unwrap()).unwrap();
    }
    same(&installation, 0, false);
}

#[test]
fn c22_what_is_restored_from_one_repository_needs_no_other() {
    let directory = directory();
    let cluster = Cluster::start_with(directory.path(), &Cluster::archiving(directory.path()));
    let installation = Installation::new(directory.path(), &with_share(&cluster));
    cluster.sql("create table t as select 1 a");
    installation.run(&["backup", "create"]);
    cluster.sql("insert into t values (2)");
    cluster.archive_all();
    cluster.stop();
    std::fs::remove_dir_all(directory.path().join("repo")).unwrap();
    let (target, socket) = (directory.path().join("restored"), directory.path().join("s"));
    std::fs::create_dir(&socket).unwrap();
    installation.run(&["restore", "physical", "--to", target.to_str().unwrap(), "--latest", "--repository", "share"]);
    let restored = Cluster::adopt(&target, &socket);
    restored.recovered();
    assert_eq!(restored.sql("select sum(a) from t"), "3");
}
