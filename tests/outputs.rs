//! What every command prints with `--json`: one JSON value by docs/json.schema.json, on success and on failure.

use crate::support::{Cluster, Installation, directory, file, output, postgres};
use std::{fs, path::Path, process::Command};

struct Ground<'a> {
    installation: &'a Installation,
    kept: &'a Path,
}

impl Ground<'_> {
    /// Runs a command with `--json`, keeps what it printed, and returns it.
    fn of(&self, arguments: &[&str]) -> serde_json::Value {
        let arguments: Vec<_> = ["--json"].into_iter().chain(arguments.iter().copied()).collect();
        let done = self.installation.try_run(&arguments);
        let [stdout, stderr] = [&done.stdout, &done.stderr].map(|said| String::from_utf8_lossy(said).into_owned());
        assert!(done.status.code() != Some(0) || !stdout.is_empty(), "{arguments:?} printed nothing: {stderr}");
        let number = fs::read_dir(self.kept).unwrap().count();
        let kept =
            serde_json::json!({"arguments": arguments, "code": done.status.code(), "stdout": stdout, "stderr": stderr});
        fs::write(self.kept.join(format!("{number}.json")), kept.to_string()).unwrap();
        serde_json::from_str(&stdout).unwrap_or_default()
    }
}

#[test]
fn every_command_prints_json_by_its_schema() {
    let directory = directory();
    let dir = directory.path();
    let kept = dir.join("json");
    fs::create_dir(&kept).unwrap();
    let cluster = Cluster::start_with(dir, &Cluster::archiving(dir));
    cluster.sql("create table orders as select generate_series(1, 100) as n");
    cluster.sql("create database \"a-b\"");
    let configuration = format!(
        "[history]\nconnection = \"{0}\"\n[mail]\ntransport = \"folder\"\nfolder = \"{{dir}}/mail\"\nfrom = \"a@example.com\"\n\
         [groups.database]\nrecipients = [\"dba@example.com\"]\n\
         [clusters.\"ma-in\"]\nconnection = \"{0}\"\n[repositories.local]\ntype = \"local\"\npath = \"{{dir}}/repo\"\n\
         [repositories.second]\ntype = \"local\"\npath = \"{{dir}}/second\"\n\
         [jobs.full]\nkind = \"backup.physical\"\nrepositories = [\"local\"]\nschedule = \"0 3 * * *\"\n\
         [jobs.test]\nkind = \"restore-test\"\nprogram-directory = \"{1}\"\n\
         [jobs.sample]\nkind = \"sample\"\nwait-looks = 1\n\
         [jobs.gone]\nkind = \"monitor.disk\"\npaths = [\"/dev/shm\"]\nwarning-percent = 0\ncritical-percent = 0\n\
         [jobs.slow]\nkind = \"command\"\nprogram = \"/bin/sleep\"\narguments = [\"60\"]\n\
         [jobs.fails]\nkind = \"command\"\nprogram = \"/bin/false\"\nretries = 0\n",
        cluster.connection(),
        postgres("").display()
    );
    let mut installation = Installation::new(dir, &configuration);
    for daemon in [false, true] {
        if daemon {
            installation.start();
        }
        let ground = Ground { installation: &installation, kept: &kept };
        walk(&ground, &cluster, dir, daemon);
    }
    output(Command::new(file("tests/tools/outputs.py")).arg("--whole").arg(file("docs/json.schema.json")).arg(&kept));
}

/// Every command that prints JSON, in an order in which there is something to print.
fn walk(ground: &Ground, cluster: &Cluster, dir: &Path, daemon: bool) {
    let to = |name: &str| dir.join(format!("{}{name}", u8::from(daemon))).display().to_string();
    ground.of(&["migrate"]);
    ground.of(&["migrate", "--rebuild"]);
    ground.of(&["backup", "create"]);
    ground.of(&["backup", "create", "nothing"]);
    cluster.archive_all();
    let label = ground.of(&["backup", "list"])[0]["label"].as_str().unwrap().to_owned();
    for words in [
        &["backup", "show", &label][..],
        &["backup", "copy", &label, "--to", "second"],
        &["backup", "keep", &label, "--reason", "year's end"],
        &["backup", "list"],
        &["backup", "unkeep", &label],
        &["backup", "verify", "--all"],
        &["backup", "verify", &label],
        &["backup", "expire", "--dry-run"],
        &["backup", "expire", "--force"],
        &["backup", "sign", "--all", "--force"],
        &["backup", "remove", &label, "--repository", "second", "--force"],
        &["wal", "list"],
        &["job", "list"],
        &["job", "run", "fails", "--wait"],
        &["job", "run", "gone", "--wait"],
        &["job", "run", "full", "--dry-run"],
        &["job", "run", "sample", "--wait"],
        &["job", "pause", "full", "--reason", "a test"],
        &["schedule", "--days", "1"],
        &["job", "resume", "full"],
        &["job", "pause", "--all"],
        &["job", "resume", "--all"],
        &["job", "history", "--all"],
        &["schedule"],
        &["status"],
        &["check"],
        &["check", "--here"],
        &["metrics"],
        &["config", "check"],
        &["config", "show"],
        &["restore-test"],
        &["job", "run", "test", "--wait"],
        &["restore", "physical", "--to", &to("restored"), "--beside", "--immediate"],
        &["restore", "physical", "--verify-only", "--program-directory", &postgres("").display().to_string()],
        &[
            "restore",
            "table",
            "postgres.public.orders",
            "--to",
            &to("orders"),
            "--program-directory",
            &postgres("").display().to_string(),
        ],
        &["cluster", "accept", "ma-in", "--reason", "it is the one"],
        &["operator", "list"],
        &["operator", "group", "list"],
        &["operator", "group", "add", &format!("new{}", u8::from(daemon)), "--description", "New"],
        &["operator", "add", "database", "new@example.com", "--name", "New"],
        &["operator", "remove", "database", "new@example.com"],
        &["report", "health"],
        &["report", "drill"],
        &["report", "performance"],
        &["report", "health", "--to", &to("health.html")],
        &["report", "health", "--mail"],
        &["alert", "test"],
        &["alert", "list", "--all"],
    ] {
        ground.of(words);
    }
    let id = ground.of(&["alert", "list"])[0]["id"].as_str().unwrap().to_owned();
    let silence = ground.of(&["alert", "silence", "--job", "gone", "--for", "1h", "--reason", "known"]);
    let silence = silence["id"].as_str().unwrap();
    for words in [
        &["alert", "show", &id][..],
        &["alert", "ack", &id, "--reason", "seen"],
        &["alert", "silences"],
        &["alert", "unsilence", silence],
        &["alert", "resolve", &id, "--reason", "over"],
    ] {
        ground.of(words);
    }
    if daemon {
        for words in [&["job", "run", "slow"][..], &["job", "list"], &["job", "cancel", "slow"]] {
            ground.of(words);
        }
    } else {
        ground.of(&["journal", "renew"]);
    }
}
