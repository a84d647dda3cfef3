//! C32: an expiry leaves what somebody reads, with its WAL, and waits for nobody who is gone.

use crate::support::{Cluster, Installation, cluster_and_repository, directory, major, output, seconds, wait_until};
use std::{
    fs,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
};

/// Leases of readers in the repository.
fn leases(repository: &Path) -> Vec<PathBuf> {
    let found = output(Command::new("find").arg(repository).args(["-path", "*/readers/*.json"]));
    found.lines().map(PathBuf::from).collect()
}

fn signal(name: &str, process: &Child) {
    output(Command::new("kill").args([name, &process.id().to_string()]));
}

#[test]
fn c32_expiry_leaves_what_a_restore_reads_and_nothing_for_a_dead_one() {
    let directory = directory();
    let cluster = Cluster::start_with(directory.path(), &Cluster::archiving(directory.path()));
    let jobs = "[jobs.full]\nkind = \"backup.physical\"\nrepositories = [\"local\"]\nretention = { count = 1 }\n";
    let installation = Installation::new(directory.path(), &format!("{}{jobs}", cluster_and_repository(&cluster)));
    let repository = directory.path().join("repo");
    let labels = || {
        let list = installation.json(&["backup", "list"]);
        list.as_array().unwrap().iter().map(|backup| backup["label"].as_str().unwrap().to_owned()).collect::<Vec<_>>()
    };
    installation.run(&["backup", "create"]);
    let old = labels().remove(0);
    cluster.sql("create table t as select 1 a");
    cluster.archive_all();

    let begin = |name: &str| {
        let to = directory.path().join(name);
        let arguments =
            ["restore", "physical", "--to", to.to_str().unwrap(), "--backup", &old, "--latest", "--rate-limit", "8MiB"];
        let before = leases(&repository).len();
        let mut command = installation.command(&arguments);
        let process = command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
        wait_until("the restore holds a lease", seconds(30), || leases(&repository).len() > before);
        signal("-STOP", &process);
        process
    };
    let mut restore = begin("restored");
    // Both expire at their end: what they make superfluous is being read.
    for row in 2..4 {
        cluster.sql(&format!("insert into t values ({row})"));
        installation.run(&["backup", "create"]);
    }
    assert!(labels().contains(&old), "{:?}", labels());
    signal("-CONT", &restore);
    assert!(restore.wait().unwrap().success());
    // The server fetches its WAL later.
    let said = installation.run(&["backup", "expire", "--force"]);
    assert!(said.contains("a restore has been reading it since"), "{said}");
    let socket = directory.path().join("s");
    fs::create_dir_all(&socket).unwrap();
    let restored = Cluster::adopt(&directory.path().join("restored"), &socket);
    restored.recovered();
    assert!(restored.sql("select count(*) from t").parse::<u32>().unwrap() >= 2, "WAL of {}", major());

    let [held] = leases(&repository).try_into().unwrap();
    fs::remove_file(held).unwrap();
    let mut restore = begin("killed");
    signal("-KILL", &restore);
    restore.wait().unwrap();
    installation.run(&["backup", "expire", "--force"]);
    assert!(!labels().contains(&old), "{:?}", labels());
    assert_eq!(leases(&repository), Vec::<PathBuf>::new());
}
