//! C10, C35, C36, C42: what somebody else put into a repository stops nobody who need not have it.

use crate::support::{Cluster, Installation, cluster_and_repository, directory, output};
use std::{
    fs,
    path::{Path, PathBuf},
    process::{Command, Output},
};

fn said(done: &Output) -> String {
    format!("{}{}", String::from_utf8_lossy(&done.stdout), String::from_utf8_lossy(&done.stderr))
}

/// What there is below a directory.
fn below(directory: &Path, name: &str) -> Vec<PathBuf> {
    let found = output(Command::new("find").arg(directory).args(["-name", name]));
    found.lines().map(PathBuf::from).collect()
}

#[test]
fn c10_c35_a_name_stands_for_no_server_and_another_one_in_a_share_costs_the_others_nothing() {
    let directory = directory();
    let dir = directory.path();
    let cluster = Cluster::start_with(dir, &Cluster::archiving(dir));
    let installation = Installation::new(
        dir,
        &format!(
            "{}[repositories.share]\ntype = \"local\"\npath = \"{{dir}}/share\"\nrequired = false\n\
             [jobs.full]\nkind = \"backup.physical\"\nrepositories = [\"local\", \"share\"]\nretries = 0\n",
            cluster_and_repository(&cluster)
        ),
    );
    for root in ["repo", "share"] {
        fs::create_dir_all(dir.join(root).join("main/1/backups/x")).unwrap();
        fs::create_dir_all(dir.join(root).join("main/2")).unwrap();
        fs::write(dir.join(root).join("main/3"), "a file").unwrap();
        fs::write(dir.join(root).join("main/1/backups/x/backup.json"), "[]").unwrap();
    }
    installation.run(&["backup", "create"]);
    cluster.archive_all();
    let list = || {
        let all = installation.json(&["backup", "list"]);
        let of = |name: &str| all.as_array().unwrap().iter().filter(|backup| backup["repository"] == name).count();
        (of("local"), of("share"))
    };
    assert_eq!(list(), (1, 1));

    // Another server's backup in the share alone, before any of ours: so a new one is not its.
    let ours = below(&dir.join("share/main"), "backup.json")
        .into_iter()
        .find(|path| !path.starts_with(dir.join("share/main/1")));
    let system = ours.as_ref().and_then(|path| path.ancestors().nth(3)).unwrap().to_owned();
    let other = |root: &str| dir.join(root).join("main/7000000000000000001");
    fs::rename(&system, other("share")).unwrap();
    cluster.archive_all();
    let done = installation.run(&["backup", "create"]);
    assert!(done.contains("partly: it is not in share"), "{done}");
    let found = "select distinct severity || ' ' || object from findings where object like 'copy in%'";
    assert_eq!(installation.journal(found), "warning copy in share");
    let detail = installation.journal("select detail from findings where object = 'copy in share' limit 1");
    assert!(detail.contains("cluster accept main"), "{detail}");
    assert!(!system.exists(), "nothing of this server goes beside the other one's");
    // Once a person says that it is right, what waited goes there.
    installation.run(&["cluster", "accept", "main", "--reason", "a test"]);
    cluster.archive_all();
    installation.run(&["backup", "create"]);
    assert!(!below(&system.join("wal"), "*-*").is_empty(), "what waited in the spool");
    fs::remove_dir_all(&system).unwrap();

    // Where a repository that must have it holds another server, this one is backed up nowhere.
    let before = list();
    output(Command::new("cp").arg("-a").arg(other("share")).arg(other("repo")));
    let ours = below(&dir.join("repo/main"), "accepted.json");
    ours.iter().for_each(|path| fs::remove_file(path).unwrap());
    let done = installation.try_run(&["backup", "create"]);
    assert!(!done.status.success() && said(&done).contains("cluster accept main"), "{}", said(&done));
    assert_eq!(list().1, before.1);
}
