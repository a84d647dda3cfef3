//! Chains of backups and clocks, on a real server: a backup is as good as the worst link of its chain (C27), what is published is
//! recorded (C28), and a wrong clock removes nothing (C33).

use crate::support::{
    Cluster, Installation, MAIL, cluster_and_repository, directory, major, output, postgres, with_clock,
};
use std::{
    fs,
    os::unix::fs::FileExt,
    path::{Path, PathBuf},
    process::Command,
};

fn installation(directory: &Path, cluster: &Cluster, job: &str, more: &str) -> Installation {
    let jobs = format!(
        "[jobs.full]\nkind = \"backup.physical\"\nrepositories = [\"local\"]\n{job}\n[jobs.test]\nkind = \"restore-test\"\n\
         program-directory = \"{}\"\n{more}",
        postgres("").display()
    );
    Installation::new(directory, &format!("{}{MAIL}{jobs}", cluster_and_repository(cluster)))
}

fn summarizing(directory: &Path) -> Cluster {
    Cluster::start_with(directory, "summarize_wal = on\nwal_level = replica\n")
}

/// The backups as listed, oldest first.
fn listed(installation: &Installation) -> Vec<serde_json::Value> {
    installation.json(&["backup", "list"]).as_array().expect("a list").clone()
}

fn labels(installation: &Installation) -> Vec<String> {
    listed(installation).iter().map(|one| one["label"].as_str().expect("a label").to_owned()).collect()
}

/// A volume of a backup.
fn volume(directory: &Path, label: &str) -> PathBuf {
    let found =
        output(Command::new("find").arg(directory.join("repo/main")).args(["-path", &format!("*{label}/base.0001*")]));
    PathBuf::from(found.lines().next().expect("a volume"))
}

/// Flips a byte in the middle of a volume of a backup.
fn damage(directory: &Path, label: &str) {
    let file = fs::File::options().read(true).write(true).open(volume(directory, label)).unwrap();
    let at = file.metadata().unwrap().len() / 2;
    let mut byte = [0];
    file.read_exact_at(&mut byte, at).unwrap();
    file.write_all_at(&[byte[0] ^ 0x55], at).unwrap();
}

/// Restores the newest backup, and returns what a query says there.
fn restored(installation: &Installation, directory: &Path, arguments: &[&str], query: &str) -> String {
    let target = directory.join("restored");
    let mut all = vec!["restore", "physical", "--to", target.to_str().unwrap()];
    all.extend(arguments);
    installation.run(&all);
    let socket = directory.join("r");
    fs::create_dir_all(&socket).unwrap();
    let answer = {
        let server = Cluster::adopt(&target, &socket);
        server.recovered();
        server.sql(query)
    };
    fs::remove_dir_all(&target).unwrap();
    answer
}

#[test]
fn c27_after_damage_the_next_backup_is_full_and_the_chain_that_restores_stays() {
    if major() < 17 {
        return;
    }
    let directory = directory();
    let cluster = summarizing(directory.path());
    let job = "incremental = true\nchain-limit = 2\nretention = { count = 2 }";
    let installation = installation(directory.path(), &cluster, job, "");
    cluster.sql("create table t as select generate_series(1, 20000) i");
    let create = || {
        cluster.sql("update t set i = i + 1");
        installation.run(&["backup", "create"])
    };
    for _ in 0..4 {
        create();
    }
    let fulls: Vec<_> = listed(&installation).into_iter().filter(|one| one["kind"] == "full").collect();
    let (good, bad) = (fulls[0]["label"].as_str().unwrap(), fulls[1]["label"].as_str().unwrap());
    damage(directory.path(), bad);
    assert!(!installation.try_run(&["backup", "verify", bad]).status.success());
    let said = create();
    assert!(said.contains(&format!("full: {bad} is damaged")), "{said}");
    let all = listed(&installation);
    let state = |label: &str| all.iter().find(|one| one["label"] == label).map(|one| one["suspect"].clone());
    assert_eq!(state(good), Some(false.into()), "the chain before the damage is still counted on: {all:#?}");
    assert!(state(bad).is_none_or(|suspect| suspect == true));
    create();
    assert_eq!(restored(&installation, directory.path(), &[], "select count(*) from t"), "20000");

    // What was lost since it was verified is noticed before anything is built on it, and said.
    let full = listed(&installation).into_iter().rfind(|one| one["kind"] == "full").expect("a full backup");
    let label = full["label"].as_str().expect("a label");
    fs::remove_file(volume(directory.path(), label)).expect("removed");
    let said = create();
    assert!(said.contains(&format!("{label} is damaged: base.0001")), "{said}");
    let all = listed(&installation);
    assert!(all.iter().filter(|one| one["label"] == label).all(|one| one["suspect"] == true), "{all:#?}");
    assert_eq!(all.last().map(|one| one["kind"].clone()), Some("full".into()), "{all:#?}");
}

#[test]
fn c27_what_builds_on_damage_is_damaged_everywhere_it_is_asked() {
    if major() < 17 {
        return;
    }
    let directory = directory();
    let cluster = summarizing(directory.path());
    let age = "[jobs.count]\nkind = \"monitor.backup-count\"\n[repositories.second]\ntype = \"local\"\npath = \"{dir}/second\"\n";
    let installation = installation(directory.path(), &cluster, "incremental = true", age);
    cluster.sql("create table t as select generate_series(1, 20000) i");
    installation.run(&["backup", "create"]);
    cluster.sql("update t set i = i + 1");
    installation.run(&["backup", "create"]);
    let labels = labels(&installation);
    damage(directory.path(), &labels[0]);
    installation.try_run(&["backup", "verify", &labels[0]]);
    for one in listed(&installation) {
        assert_eq!((&one["verified"], &one["suspect"]), (&false.into(), &true.into()), "{one:#}");
    }
    let verified = installation.json(&["backup", "verify", &labels[1]]);
    assert_eq!(verified[0]["passed"], false, "{verified:#}");
    let refused = |arguments: &[&str], words: &str| {
        let done = installation.try_run(arguments);
        let said = String::from_utf8_lossy(&done.stderr).into_owned();
        assert!(!done.status.success() && said.contains(words), "{arguments:?}: {said}");
    };
    let to = directory.path().join("nowhere");
    refused(&["restore", "physical", "--to", to.to_str().unwrap()], "no good backup");
    refused(&["backup", "copy", &labels[1], "--to", "second"], "is damaged: its last verification failed");
    let counted = installation.check("count");
    assert!(counted.contains("local: 0"), "{counted}");
}

#[test]
fn c27_an_increment_over_a_dropped_tablespace_restores_and_a_plan_that_fails_fails_verification() {
    if major() < 17 {
        return;
    }
    let directory = directory();
    let cluster = summarizing(directory.path());
    let installation = installation(directory.path(), &cluster, "incremental = true", "");
    let space = directory.path().join("space");
    fs::create_dir(&space).unwrap();
    let make = |name: &str| cluster.sql(&format!("create tablespace {name} location '{}'", space.display()));
    make("old");
    cluster.sql("create table a tablespace old as select 1 x");
    installation.run(&["backup", "create"]);
    cluster.sql("drop table a");
    cluster.sql("drop tablespace old");
    make("again");
    cluster.sql("create table b tablespace again as select 7 x");
    installation.run(&["backup", "create"]);
    let newest = labels(&installation).pop().unwrap();
    let verified = installation.json(&["backup", "verify", &newest]);
    assert_eq!(verified[0]["passed"], true, "{verified:#}");
    let moved = format!("{}={}", space.display(), directory.path().join("moved").display());
    let there = ["--immediate", "--tablespace", &moved];
    assert_eq!(restored(&installation, directory.path(), &there, "select x from b"), "7");
}

#[test]
fn c27_after_a_change_of_keys_the_next_backup_is_full_and_the_others_are_looked_into_all_the_same() {
    if major() < 17 {
        return;
    }
    let directory = directory();
    let cluster = summarizing(directory.path());
    let installation = installation(directory.path(), &cluster, "incremental = true", "");
    let written = fs::read_to_string(directory.path().join("pgbosun.toml")).unwrap();
    let use_key = |name: &str| {
        let key = directory.path().join(name);
        output(Command::new("age-keygen").arg("-o").arg(&key).stderr(std::process::Stdio::null()));
        let recipient = output(Command::new("age-keygen").arg("-y").arg(&key)).trim().to_owned();
        let lines =
            format!("type = \"local\"\nencrypt-to = [\"{recipient}\"]\nidentity-file = \"{}\"\n", key.display());
        fs::write(directory.path().join("pgbosun.toml"), written.replace("type = \"local\"\n", &lines)).unwrap();
    };
    use_key("first");
    installation.run(&["backup", "create"]);
    installation.run(&["backup", "create"]);
    use_key("second");
    let said = installation.try_run(&["backup", "create"]);
    let said = format!("{}{}", String::from_utf8_lossy(&said.stdout), String::from_utf8_lossy(&said.stderr));
    assert!(said.contains("is encrypted for other keys than those in encrypt-to"), "{said}");
    let parents: Vec<_> = listed(&installation).iter().map(|one| one["parent"].is_string()).collect();
    assert_eq!(parents, [false, true, false]);
    // What the new key does not open is told, and says nothing about what it opens.
    let done = installation.try_run(&["backup", "verify", "--all"]);
    let (said, errors) = (String::from_utf8_lossy(&done.stdout), String::from_utf8_lossy(&done.stderr));
    let newest = labels(&installation).pop().unwrap();
    assert!(!done.status.success() && said.contains(&newest), "{said}{errors}");
    assert_eq!(errors.matches("is encrypted for other keys").count(), 2, "{said}{errors}");
    installation.run(&["backup", "verify", &newest]);
}

#[test]
fn c28_a_published_backup_is_recorded_though_it_cannot_be_verified() {
    let directory = directory();
    let cluster = Cluster::start(directory.path());
    let key = directory.path().join("key");
    output(Command::new("age-keygen").arg("-o").arg(&key).stderr(std::process::Stdio::null()));
    let recipient = output(Command::new("age-keygen").arg("-y").arg(&key)).trim().to_owned();
    let configure = |identity: &Path| {
        let repository = cluster_and_repository(&cluster).replace(
            "type = \"local\"\n",
            &format!("type = \"local\"\nencrypt-to = [\"{recipient}\"]\nidentity-file = \"{}\"\n", identity.display()),
        );
        format!(
            "{repository}{MAIL}[jobs.full]\nkind = \"backup.physical\"\nrepositories = [\"local\"]\nretries = 3\nretry-delay = \"1s\"\n\
             retention = {{ count = 1 }}\n"
        )
    };
    // What stands there is no key: the step that needs it fails, and nothing else.
    let broken = directory.path().join("no-key");
    fs::write(&broken, "nothing of the kind\n").unwrap();
    let installation = Installation::new(directory.path(), &configure(&broken));
    let history = || installation.json(&["job", "history", "full"]);
    installation.run(&["backup", "create"]);
    let run = history()[0].clone();
    assert_eq!((&run["state"], &run["attempts"]), (&"succeeded".into(), &1.into()), "{run:#}");
    assert_eq!(labels(&installation).len(), 1, "it is not taken again");
    let alerts = installation.json(&["alert", "list"]);
    assert!(alerts.to_string().contains("could not be verified"), "{alerts:#}");
    installation.configure(&configure(&key));
    installation.run(&["backup", "create"]);
    let alerts = installation.json(&["alert", "list"]);
    assert!(!alerts.to_string().contains("could not be verified"), "{alerts:#}");
}

/// A command of the installation whose clock is wrong; the kernel's and the server's are not.
fn at(installation: &Installation, ahead: &str, arguments: &[&str]) -> String {
    let mut command = installation.command(arguments);
    with_clock(&mut command, ahead);
    output(&mut command)
}

#[test]
fn c33_a_wrong_clock_removes_nothing_and_does_not_make_a_backup_the_newest() {
    let directory = directory();
    let cluster = Cluster::start(directory.path());
    let age = "[jobs.age]\nkind = \"monitor.backup-age\"\ncritical-age = \"1h\"\n";
    let installation = installation(directory.path(), &cluster, "retention = { days = 7, count = 1 }", age);
    let create = || installation.run(&["backup", "create"]);
    create();
    create();
    let said = at(&installation, "+3650d", &["backup", "create"]);
    assert_eq!(labels(&installation).len(), 3, "{said}");
    let alerts = installation.json(&["alert", "list"]).to_string();
    assert!(alerts.contains("old backups in local were not removed"), "{alerts}");
    assert!(alerts.contains("nothing is removed while a clock is wrong"), "{alerts}");
    cluster.sql("create table later as select 1 x");
    create();
    let labels = labels(&installation);
    assert_eq!(labels.len(), 4);
    let told = installation.check("age");
    let alerts = installation.json(&["alert", "list"]).to_string();
    assert!(alerts.contains("1 backup dated in the future"), "{alerts}");
    assert!(told.contains(&labels[3]), "the newest is the one that was taken last: {told}");
    assert_eq!(restored(&installation, directory.path(), &["--immediate"], "select x from later"), "1");
}
