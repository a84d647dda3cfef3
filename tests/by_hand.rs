//! What is done by hand is known to whoever looks later: backups, history, and the next command.

use crate::support::{Cluster, Installation, MAIL, cluster_and_repository, directory, output, seconds, wait_until};
use std::{fs, path::Path, process::Command};

const FULL: &str = "[jobs.full]\nkind = \"backup.physical\"\nrepositories = [\"local\"]\n";

/// Changes a byte in the middle of what is stored of a backup.
fn damage(directory: &Path, label: &str) {
    let found =
        Command::new("find").arg(directory.join("repo/main")).args(["-path", &format!("*{label}/base.0001*")]).output();
    let found = String::from_utf8(found.unwrap().stdout).unwrap();
    let object = Path::new(found.trim());
    let mut bytes = fs::read(object).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    fs::write(object, bytes).unwrap();
}

#[test]
fn a_backup_that_was_found_damaged_is_shown_so_and_not_restored_from() {
    let directory = directory();
    let cluster = Cluster::start(directory.path());
    let text = format!(
        "{MAIL}{}[history]\nconnection = \"{}\"\n{FULL}",
        cluster_and_repository(&cluster),
        cluster.connection()
    );
    let mut installation = Installation::new(directory.path(), &text);
    for _ in 0..2 {
        installation.run(&["backup", "create"]);
    }
    // No daemon has ever run here.
    assert_eq!(installation.json(&["status"])["last"][0]["job"], "full");
    let labels = |installation: &Installation| {
        let list = installation.json(&["backup", "list"]);
        let list = list.as_array().unwrap().iter();
        list.map(|info| (info["label"].as_str().unwrap().to_owned(), info["suspect"] == true, info["verified"] == true))
            .collect::<Vec<_>>()
    };
    let [(older, ..), (newer, ..)] = &labels(&installation)[..] else { panic!("{:?}", labels(&installation)) };
    damage(directory.path(), newer);
    assert_eq!(installation.try_run(&["backup", "verify", "--all"]).status.code(), Some(2));
    assert_eq!(labels(&installation), [(older.clone(), false, true), (newer.clone(), true, false)]);
    assert!(installation.run(&["backup", "list"]).contains("damaged"));
    let states = "select label || ' ' || state from backups order by started_at";
    assert_eq!(installation.journal(states), format!("{older} verified\n{newer} suspect"));

    let restore = |to: &str, more: &[&str]| {
        let to = directory.path().join(to);
        let done = installation.try_run(&[&["restore", "physical", "--to", to.to_str().unwrap()], more].concat());
        (done.status.success(), String::from_utf8_lossy(&done.stderr).into_owned())
    };
    let (done, said) = restore("first", &[]);
    assert!(done && said.contains(&format!("restoring {older} of main")), "{said}");
    let (done, said) = restore("second", &["--backup", newer]);
    assert!(!done && said.contains("\"pgbosun backup list\" shows others; choose one with --backup LABEL"), "{said}");

    // What retention removes by hand is gone in history too, through the daemon.
    installation.run(&["backup", "create"]);
    let kept = text.replace("path = \"{dir}/repo\"\n", "path = \"{dir}/repo\"\nretention = { count = 1 }\n");
    installation.configure(&kept);
    installation.start();
    installation.run(&["backup", "expire", "--force"]);
    let removed = installation.journal("select count(*) from backups where state = 'removed'");
    let left = labels(&installation);
    assert_eq!((removed.as_str(), left.len()), ("2", 1), "only the newest stays, which is verified: {left:?}");
    assert!(!left.iter().any(|(label, ..)| label == newer || label == older), "{left:?}");
    wait_until("dba_ops has it", seconds(20), || {
        cluster.sql("select count(*) from dba_ops.backups where state = 'removed'") == "2"
    });
}

#[test]
fn a_dry_run_is_neither_a_success_nor_a_failure() {
    let directory = directory();
    let text = format!(
        "{MAIL}[clusters.gone]\nconnection = \"host=/nowhere user=postgres\"\n[repositories.local]\ntype = \"local\"\npath = \"{{dir}}/repo\"\n\
         [jobs.broken]\nkind = \"command\"\nprogram = \"/bin/false\"\n{FULL}"
    );
    let installation = Installation::new(directory.path(), &text);
    assert!(installation.run(&["job", "run", "broken", "--dry-run"]).contains("would run /bin/false"));
    let begun = std::time::Instant::now();
    assert_eq!(installation.try_run(&["job", "run", "full", "--dry-run"]).status.code(), Some(1));
    assert!(begun.elapsed() < seconds(20), "it is not tried again and again");
    assert_eq!(
        installation.journal("select job || ' ' || state from runs order by job"),
        "broken skipped\nfull skipped"
    );
    assert_eq!(installation.journal("select count(*) from alerts"), "0");
}

#[test]
fn a_check_only_looks() {
    let directory = directory();
    let cluster = Cluster::start(directory.path());
    let text = format!(
        "{MAIL}{}[history]\nconnection = \"{}\"\n{FULL}",
        cluster_and_repository(&cluster)
            .replace("[clusters.main]\n", "[clusters.main]\ndata-directory = \"{dir}/nosuch\"\n"),
        cluster.connection()
    );
    let installation = Installation::new(directory.path(), &text);
    installation.run(&["backup", "create"]);
    cluster.sql("drop schema if exists dba_ops cascade");
    let repository = directory.path().join("repo");
    let check = || String::from_utf8_lossy(&installation.try_run(&["check"]).stdout).into_owned();
    let line = |object: &str| check().lines().find(|line| line.contains(object)).unwrap().to_owned();
    assert!(line("history ").contains("has no schema dba_ops yet"), "{}", check());
    assert_eq!(cluster.sql("select count(*) from pg_namespace where nspname = 'dba_ops'"), "0");
    assert!(check().contains("nosuch is not a data directory: it has no global/pg_control"), "{}", check());
    assert!(line("repository local").contains("writable, 1 backup"), "{}", check());
    assert_eq!(fs::read_dir(&repository).unwrap().count(), 2, "pgbosun.json and main: nothing is left of the try");
    output(Command::new("chmod").arg("a-w").arg(&repository));
    assert!(line("repository local").starts_with("CRITICAL"), "{}", check());
    output(Command::new("chmod").arg("u+w").arg(&repository));
    // A plugin that cannot even begin says so where it is read.
    fs::write(directory.path().join("pgbosun.toml"), "[daemon\n").unwrap();
    assert!(check().starts_with("PGBOSUN UNKNOWN - "), "{}", check());
}

#[test]
fn output_that_cannot_be_written_is_an_exit_code_and_no_panic() {
    let directory = directory();
    let cluster = Cluster::nowhere_at(directory.path());
    let installation = Installation::new(directory.path(), &cluster_and_repository(&cluster));
    let into = |place: &str, command: &[&str]| {
        let mut command = installation.command(command);
        command.stdout(std::fs::File::options().write(true).open(place).unwrap()).output().unwrap()
    };
    for command in [&["config", "show"][..], &["schedule"], &["completions", "bash"], &["config", "show", "--json"]] {
        let done = into("/dev/full", command);
        let said = String::from_utf8_lossy(&done.stderr).into_owned();
        assert_eq!(done.status.code(), Some(74), "{command:?} {said}");
        assert!(said.contains("the output cannot be written: No space left on device"), "{command:?} {said}");
        // Nobody who reads on is no fault that anybody hears of.
        let mut command = installation.command(command);
        let mut closed =
            command.stdout(std::process::Stdio::piped()).stderr(std::process::Stdio::piped()).spawn().unwrap();
        drop(closed.stdout.take());
        let done = closed.wait_with_output().unwrap();
        assert_eq!(
            (done.status.code(), done.stderr.len()),
            (Some(141), 0),
            "{}",
            String::from_utf8_lossy(&done.stderr)
        );
    }
}
