//! Monitors of one's own, and a server that answers one of them no more.

use super::{all_quiet, check, installation, told};
use crate::support::{Cluster, Installation, MAIL, directory, output, seconds, wait_until};
use std::{fs, process::Command};

#[test]
fn ones_own() {
    let directory = directory();
    let cluster = Cluster::start(directory.path());
    let plugin = directory.path().join("plugin");
    fs::write(&plugin, "#!/bin/sh\necho \"QUEUE $1 | waiting=7;5;10\"\nexit $2\n").unwrap();
    output(Command::new("chmod").arg("755").arg(&plugin));
    let command = |state: &str| format!("program = \"{}\"; arguments = [\"is long\", \"{state}\"]", plugin.display());
    let rows = "query = \"select relname, 7, 'words' from pg_class where relname in ('pg_class', 'pg_proc')\"";
    let monitors = [
        &*format!("command/good: {}", command("0")),
        &format!("command/bad: {}", command("2")),
        &format!("command/lost: {}", command("3")),
        &format!("sql/high: {rows}; warning = 6.0"),
        &format!("sql/low: {rows}; warning = 7.0"),
        "sql/write: query = \"create table x (i int)\"",
        "sql/words: query = \"select 'many'\"",
    ];
    let installation = installation(directory.path(), &cluster, &monitors);
    assert_eq!(check(&installation, "command-good"), [""; 0]);
    assert_eq!(check(&installation, "command-bad"), ["critical command"]);
    assert!(told(&installation, "command-bad").starts_with("QUEUE is long\n"));
    assert_eq!(check(&installation, "sql-high"), ["warning pg_class", "warning pg_proc"]);
    assert_eq!(check(&installation, "sql-low"), [""; 0]);
    for (job, reason) in
        [("command-lost", "could not check"), ("sql-write", "read-only"), ("sql-words", "is not a number")]
    {
        installation.try_run(&["job", "run", job, "--wait"]);
        let error = installation.journal(&format!("select state || ': ' || error from runs where job = '{job}'"));
        assert!(error.starts_with("failed") && error.contains(reason), "{job}: {error}");
    }
}

/// A process of the server that is stopped until this is dropped.
struct Stopped(String);

impl Stopped {
    fn new(process: &str) -> Self {
        output(Command::new("kill").args(["-STOP", process]));
        Self(process.to_owned())
    }
}

impl Drop for Stopped {
    fn drop(&mut self) {
        let _ = Command::new("kill").args(["-CONT", &self.0]).status();
    }
}

#[test]
fn a_process_of_the_server_that_is_stuck_holds_nobody_up() {
    let directory = directory();
    let cluster = Cluster::start(directory.path());
    cluster.sql("create table naps as select 0 as length");
    let on_demand = "schedule = \"@yearly\"\n";
    let text = format!(
        "{MAIL}[clusters.main]\nconnection = \"{}\"\nstatement-timeout = \"4s\"\n\
         [jobs.nap]\nkind = \"monitor.sql\"\nquery = \"select length from naps, pg_sleep(length)\"\n{on_demand}\
         [jobs.connectivity]\nkind = \"monitor.connectivity\"\nslow = \"1m\"\n{on_demand}\
         [jobs.slots]\nkind = \"monitor.slots\"\n{on_demand}\
         [jobs.log]\nkind = \"command\"\nprogram = \"/bin/true\"\n",
        cluster.connection()
    );
    let mut installation = Installation::new(directory.path(), &text);
    installation.start();
    all_quiet(&installation, &["nap", "connectivity", "slots"]);
    let last = |column: &str| {
        installation.journal(&format!("select {column} from runs where job = 'nap' order by id desc limit 1"))
    };

    // Neither the server's own limit nor a cancellation reaches a process that is stopped.
    cluster.sql("update naps set length = 60");
    installation.run(&["job", "run", "nap"]);
    let asleep =
        "select pid from pg_stat_activity where query like 'select length from naps%' and wait_event = 'PgSleep'";
    wait_until("it sleeps", seconds(20), || !cluster.sql(asleep).is_empty());
    let stopped = Stopped::new(&cluster.sql(asleep));
    installation.check("log");
    assert_eq!(last("state"), "running", "the daemon does not wait for it");
    // Its turn on the line ends five seconds after the server's limit, and the next has its own.
    assert_eq!(check(&installation, "slots"), [""; 0]);
    wait_until("its time is over", seconds(5), || last("state") == "failed");
    assert_eq!(last("error"), "run the query took longer than 9s");
    installation.try_run(&["job", "run", "nap", "--wait"]);
    let process = &stopped.0;
    let error = last("state || ': ' || error");
    let still = format!("failed: server process {process} is still running an earlier check");
    assert!(error.starts_with(&still), "{error}");
    all_quiet(&installation, &["connectivity", "slots"]);
    let alert = "select state || ' ' || severity from alerts where job = 'nap'";
    assert_eq!(installation.journal(alert), "open unknown");

    cluster.sql("update naps set length = 0");
    drop(stopped);
    wait_until("it can look again", seconds(20), || {
        installation.try_run(&["job", "run", "nap", "--wait"]);
        last("state") == "succeeded"
    });
    assert_eq!(cluster.sql(asleep), "");
    wait_until("that is told", seconds(10), || installation.journal(alert) == "resolved unknown");
}
