//! A repository that was written before there were several kinds of backups (`tests/fixtures/format-1.tar.gz`, by PostgreSQL 17): a full
//! backup, an incremental one upon it, and the WAL after them up to the restore point `written-before`.

use crate::support::{Cluster, Installation, directory, file, major, output, postgres, seconds, wait_until};
use std::{fs, process::Command};

const LABELS: [&str; 2] = ["20261130T173634Z-ed570a", "20261130T173639Z-e3300d"];

#[test]
fn it_is_listed_verified_restored_continued_with_incrementals_and_expired() {
    if major() != 17 {
        return;
    }
    let directory = directory();
    let (repository, data) = (directory.path().join("repo"), directory.path().join("pg"));
    fs::create_dir(&repository).unwrap();
    output(Command::new("tar").arg("-xzf").arg(file("tests/fixtures/format-1.tar.gz")).arg("-C").arg(&repository));
    let configuration = format!(
        "[clusters.main]\nconnection = \"{}\"\ndata-directory = \"{}\"\n\
         [repositories.local]\ntype = \"local\"\npath = \"{}\"\n\
         [jobs.full]\nkind = \"backup.physical\"\nrepositories = [\"local\"]\nincremental = true\nretention = {{ count = 1 }}\n\
         [jobs.test]\nkind = \"restore-test\"\nprogram-directory = \"{}\"\namcheck = false\n",
        Cluster::nowhere_at(directory.path()).connection(),
        data.display(),
        repository.display(),
        postgres("").display(),
    );
    let installation = Installation::new(directory.path(), &configuration);
    let labels = |installation: &Installation| -> Vec<String> {
        let listed = installation.json(&["backup", "list"]);
        listed.as_array().unwrap().iter().map(|one| one["label"].as_str().unwrap().to_owned()).collect()
    };
    assert_eq!(labels(&installation), LABELS);
    installation.run(&["backup", "verify", "--all"]);

    let to = data.display().to_string();
    installation.run(&["restore", "physical", "--to", &to, "--in-place", "--target-name", "written-before"]);
    // It archives with a command of its own: the one of those days fails.
    let archive = Cluster::archiving(directory.path());
    let settings = data.join("postgresql.auto.conf");
    fs::write(&settings, format!("{}\n{archive}", fs::read_to_string(&settings).unwrap())).unwrap();
    let cluster = Cluster::adopt(&data, directory.path());
    cluster.recovered();
    assert_eq!(cluster.sql("select count(*), sum(id) from t"), "102|5253");

    // The server has to summarize what it wrote before a backup can build on the last one.
    cluster.sql("insert into t select 103");
    cluster.sql("select pg_switch_wal()");
    cluster.sql("checkpoint");
    wait_until("the WAL is summarized", seconds(30), || {
        cluster.sql("select max(end_lsn) > '0/6000000' from pg_available_wal_summaries() where tli = 2") == "t"
    });
    let said = installation.run(&["backup", "create"]);
    assert!(said.contains(&format!("(incremental, based on {})", LABELS[1])), "{said}");
    assert_eq!(labels(&installation).len(), 3, "a chain is kept whole");
    installation.check("test");
    // A full one begins a chain of its own, and what went before goes by the rule, once nobody restores from it any more.
    output(Command::new("find").arg(&repository).args(["-path", "*/readers/*", "-type", "f", "-delete"]));
    let configuration = configuration.replace("incremental = true", "incremental = false");
    installation.configure(&configuration);
    let said = installation.run(&["backup", "create"]);
    let left = labels(&installation);
    assert!(left.len() == 1 && !LABELS.contains(&left[0].as_str()), "{left:?}\n{said}");
    installation.check("test");
}
