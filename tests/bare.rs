//! A restore on a machine that has nothing but the repository and the key: no configuration, no state.

use crate::{
    stores::Store,
    support::{Cluster, Installation, cluster_and_repository, directory, output, program},
};
use std::{
    fs,
    os::unix::fs::PermissionsExt,
    path::Path,
    process::{Command, Output, Stdio},
};

/// A command of a machine without a configuration.
fn restore(to: &Path, repository: &str, more: &[&str]) -> Output {
    let mut command = Command::new(program());
    command.args(["restore", "physical", "--repository", repository, "--to"]).arg(to).args(more);
    command.env("PGBOSUN_LOG", "off").stdin(Stdio::null()).output().unwrap()
}

fn said(done: &Output) -> String {
    format!("{}{}", String::from_utf8_lossy(&done.stdout), String::from_utf8_lossy(&done.stderr))
}

/// Starts what was restored, which recovers with the WAL that the configuration beside it leads to; the answer to a question.
fn recovered(data: &Path, socket: &Path, question: &str) -> String {
    let cluster = Cluster::adopt(data, socket);
    cluster.recovered();
    let answer = cluster.sql(question);
    cluster.down();
    answer
}

/// Reference 000 (its lines by id): 000-S4, 000-P1.
#[test]
fn c22_a_machine_with_nothing_but_the_repository_and_the_key_restores() {
    let directory = directory();
    let dir = directory.path();
    let key = dir.join("key");
    output(Command::new("age-keygen").arg("-o").arg(&key).stderr(Stdio::null()));
    fs::set_permissions(&key, fs::Permissions::from_mode(0o600)).unwrap();
    let public = output(Command::new("age-keygen").arg("-y").arg(&key));
    let store = Store::start(dir, "seaweedfs");
    let cluster = Cluster::start_with(dir, &Cluster::archiving(dir));
    let configuration = format!(
        "{}encrypt-to = [\"{}\"]\n{}[jobs.full]\nkind = \"backup.physical\"\nrepositories = [\"local\", \"away\"]\n",
        cluster_and_repository(&cluster),
        public.trim(),
        store.section("away"),
    );
    let installation = Installation::new(dir, &configuration);
    installation.run(&["backup", "create"]);
    cluster.sql("create table t as select a from generate_series(1, 1000) a");
    cluster.archive_all();
    cluster.sql("drop table t");
    cluster.archive_all();
    cluster.stop();
    // The machine is gone, but for what is elsewhere.
    let elsewhere = dir.join("else where");
    fs::create_dir(&elsewhere).unwrap();
    let repository = elsewhere.join("mnt");
    fs::rename(dir.join("repo"), &repository).unwrap();
    for lost in ["pgbosun.toml", "state", "pg"] {
        let lost = dir.join(lost);
        if lost.is_dir() { fs::remove_dir_all(lost).unwrap() } else { fs::remove_file(lost).unwrap() }
    }
    let place = repository.to_str().unwrap();
    let to = elsewhere.join("new");
    // Without the key it says what is missing, and leaves no data directory.
    let done = restore(&to, place, &[]);
    assert!(
        !done.status.success() && said(&done).contains("identity") && !to.join("PG_VERSION").exists(),
        "{}",
        said(&done)
    );
    let identity = ["--identity-file", key.to_str().unwrap()];
    let done = restore(&to, place, &[&identity[..], &["--cluster", "other"]].concat());
    assert!(
        !done.status.success() && said(&done).contains("has no backup of other; it has backups of main"),
        "{}",
        said(&done)
    );
    let done = restore(&to, place, &identity);
    assert!(done.status.success(), "{}", said(&done));
    let made = elsewhere.join("new.pgbosun/pgbosun.toml");
    assert!(said(&done).contains(&made.display().to_string()), "{}", said(&done));
    assert_eq!(fs::metadata(&made).unwrap().permissions().mode() & 0o777, 0o600);
    assert_eq!(fs::metadata(made.parent().unwrap()).unwrap().permissions().mode() & 0o777, 0o700);
    // To the end of the archive, where the table is dropped: the WAL was fetched.
    assert_eq!(recovered(&to, dir, "select to_regclass('t') is null"), "t");
    // From the store, which takes its options one by one.
    let section = store.section("away");
    let options: Vec<String> = section
        .lines()
        .filter_map(|line| line.split_once(" = "))
        .filter(|(key, _)| !["type", "bucket", "prefix"].contains(key))
        .map(|(key, value)| format!("--repository-option={key}={}", value.trim_matches('"')))
        .collect();
    let options: Vec<&str> = options.iter().map(String::as_str).collect();
    let to = elsewhere.join("from store");
    let done = restore(&to, "s3://backups/pg", &[&options[..], &["--immediate"]].concat());
    assert!(done.status.success(), "{}", said(&done));
    assert!(to.join("PG_VERSION").exists());
}

#[test]
fn which_cluster_is_asked_where_a_repository_holds_several() {
    let directory = directory();
    let dir = directory.path();
    let cluster = Cluster::start_with(dir, &Cluster::archiving(dir));
    let base = cluster_and_repository(&cluster);
    let job = "[jobs.full]\nkind = \"backup.physical\"\nrepositories = [\"local\"]\n";
    let installation = Installation::new(dir, &format!("{base}{job}"));
    installation.run(&["backup", "create"]);
    installation.configure(&format!("{}{job}", base.replace("[clusters.main]", "[clusters.second]")));
    installation.run(&["backup", "create"]);
    cluster.sql("create table t as select a from generate_series(1, 10) a");
    cluster.archive_all();
    cluster.stop();
    let repository = dir.join("repo");
    let place = repository.to_str().unwrap();
    let to = dir.join("new");
    let done = restore(&to, place, &[]);
    assert!(said(&done).contains("several clusters: choose one with --cluster main|second"), "{}", said(&done));
    assert_eq!(done.status.code(), Some(64));
    // What lies at the place of the configuration is replaced, not followed.
    let victim = dir.join("victim");
    fs::write(&victim, "mine").unwrap();
    fs::create_dir(dir.join("new.pgbosun")).unwrap();
    std::os::unix::fs::symlink(&victim, dir.join("new.pgbosun/pgbosun.toml")).unwrap();
    let done = restore(&to, place, &["--cluster", "second"]);
    assert!(done.status.success(), "{}", said(&done));
    assert_eq!(fs::read_to_string(&victim).unwrap(), "mine");
    // A repeat that is refused leaves the configuration of the server that is about to recover.
    let made = || fs::read_to_string(dir.join("new.pgbosun/pgbosun.toml")).unwrap();
    let before = made();
    for wrong in [&["--cluster", "nope", "--force"][..], &["--cluster", "main"]] {
        let done = restore(&to, place, wrong);
        assert!(!done.status.success() && made() == before, "{}", said(&done));
    }
    assert_eq!(recovered(&to, dir, "select sum(a) from t"), "55");
    let empty = dir.join("empty");
    fs::create_dir(&empty).unwrap();
    let done = restore(&dir.join("none"), empty.to_str().unwrap(), &[]);
    assert!(!done.status.success() && said(&done).contains("has no backup that can be read"), "{}", said(&done));
    assert!(fs::read_dir(&empty).unwrap().next().is_none(), "something was written into the repository");
    assert!(!dir.join("none.pgbosun").exists(), "something is left behind");
}
