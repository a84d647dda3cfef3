//! 000-S8: whatever changes something is in the audit log, with who did it, from where, and what came of it.

use crate::support::{Cluster, Installation, directory, output, postgres, seconds, wait_until};
use std::{fs, process::Command};

struct Ground {
    installation: Installation,
    seen: std::cell::RefCell<Vec<String>>,
}

impl Ground {
    /// Runs a command, whatever comes of it, and returns the rows that are new since the last time.
    fn rows(&self, arguments: &[&str]) -> Vec<String> {
        let done = self.installation.try_run(arguments);
        let said = format!("{}{}", String::from_utf8_lossy(&done.stdout), String::from_utf8_lossy(&done.stderr));
        assert!(!said.contains("not in the audit log"), "{arguments:?}: {said}");
        self.new_rows()
    }

    fn new_rows(&self) -> Vec<String> {
        let all = self.installation.journal(
            "select json_group_array(actor || ' | ' || origin || ' | ' || action || ' | ' || object || ' | ' || outcome)
             from (select * from audit_log order by at, id)",
        );
        let all: Vec<String> = serde_json::from_str(&all).unwrap();
        let mut seen = self.seen.borrow_mut();
        let new = all[seen.len()..].to_vec();
        *seen = all;
        new
    }

    /// A command that writes down these rows, each with who, from where, what, to what and what came of it.
    fn leaves(&self, arguments: &[&str], expected: &[(&str, &str, &str)]) {
        let rows = self.rows(arguments);
        let user = output(Command::new("id").arg("-un")).trim().to_owned();
        let daemon = self.installation.directory.join("control.sock").exists();
        let origin = if daemon {
            ["control socket, process ", "command over the control socket, process "]
        } else {
            ["command, process "; 2]
        };
        // What history is told of a backup, and what a job removes, is beside it.
        let beside = |row: &&String| row.contains(" | note backup | ") || row.starts_with("pgbosun | job ");
        let rows: Vec<_> = rows.iter().filter(|row| !beside(row)).collect();
        assert_eq!(rows.len(), expected.len(), "{arguments:?}: {rows:?}");
        for (row, (action, object, outcome)) in rows.iter().zip(expected) {
            let parts: Vec<_> = row.split(" | ").collect();
            let is_right = parts[0].split(" as ").last() == Some(&user)
                && origin.iter().any(|origin| parts[1].starts_with(origin))
                && (parts[2], parts[3]) == (*action, *object)
                && parts[4].starts_with(outcome);
            assert!(is_right, "{arguments:?}: {row}, and not {action} {object} {outcome}");
        }
    }
}

/// Reference 000 (its lines by id): 000-S8.
#[test]
fn whatever_changes_something_is_written_down_with_who_from_where_and_what_came_of_it() {
    let directory = directory();
    let dir = directory.path();
    let cluster = Cluster::start_with(dir, &Cluster::archiving(dir));
    cluster.sql("create table orders as select generate_series(1, 100) as n");
    let configuration = format!(
        "[history]\nconnection = \"{0}\"\n[mail]\ntransport = \"folder\"\nfolder = \"{{dir}}/mail\"\nfrom = \"a@example.com\"\n\
         [groups.database]\nrecipients = [\"dba@example.com\"]\n\
         [clusters.main]\nconnection = \"{0}\"\n[repositories.local]\ntype = \"local\"\npath = \"{{dir}}/repo\"\n\
         retention = {{ count = 2 }}\n[repositories.second]\ntype = \"local\"\npath = \"{{dir}}/second\"\n\
         [jobs.full]\nkind = \"backup.physical\"\nrepositories = [\"local\"]\n\
         [jobs.fails]\nkind = \"command\"\nprogram = \"/bin/false\"\nretries = 0\n",
        cluster.connection()
    );
    let mut ground =
        Ground { installation: Installation::new(dir, &configuration), seen: std::cell::RefCell::default() };
    let programs = postgres("").display().to_string();
    let to = |name: &str| dir.join(name).display().to_string();

    // Without a daemon.
    ground.leaves(&["migrate"], &[("migrate", "dba_ops", "done")]);
    ground.leaves(&["backup", "create"], &[("run", "full", "begun: run ")]);
    let label = ground.installation.json(&["backup", "list"])[0]["label"].as_str().unwrap().to_owned();
    ground.leaves(&["backup", "keep", &label, "--reason", "audit"], &[("backup keep", &label, "done")]);
    ground.leaves(&["backup", "unkeep", &label], &[("backup unkeep", &label, "done")]);
    ground.leaves(&["backup", "unkeep", "nothing"], &[("backup unkeep", "nothing", "failed: ")]);
    ground.leaves(&["backup", "verify", &label], &[("backup verify", &label, "done")]);
    ground.leaves(
        &["backup", "copy", &label, "--to", "second"],
        &[("backup copy", &label, "begun"), ("backup copy", &label, "done")],
    );
    ground.leaves(
        &["backup", "expire", "--force"],
        &[("backup expire", "all", "begun"), ("backup expire", "all", "done")],
    );
    ground.leaves(&["backup", "expire", "--dry-run"], &[]);
    ground.leaves(
        &["restore", "physical", "--to", &to("new")],
        &[("restore physical", &to("new"), "begun"), ("restore physical", &to("new"), "done")],
    );
    let part = ["restore", "table", "postgres.public.orders", "--program-directory", &programs, "--to", &to("t.sql")];
    let name = "postgres.public.orders";
    ground.leaves(&part, &[("restore table", name, "begun"), ("restore table", name, "done")]);
    ground.leaves(&part, &[("restore table", name, "begun"), ("restore table", name, "failed: ")]);
    ground.leaves(&["alert", "test"], &[("alert test", "database", "accepted")]);
    ground.leaves(&["job", "run", "fails"], &[("run", "fails", "begun: run ")]);
    let alert = ground.installation.journal("select id from alerts where job = 'fails'");
    let fingerprint = ground.installation.journal("select fingerprint from alerts where job = 'fails'");
    ground.leaves(&["alert", "ack", &alert], &[("acknowledge", &fingerprint, "done")]);
    // Who became another is known where the other may do everything; a login that the kernel knows goes before that.
    let login = fs::read_to_string("/proc/self/loginuid").unwrap_or_default();
    let behind = if login.is_empty() || login == u32::MAX.to_string() { "daemon as " } else { "" };
    let mut command = ground.installation.command(&["backup", "keep", &label]);
    output(command.env("SUDO_USER", "daemon"));
    assert!(ground.new_rows()[0].starts_with(behind));

    // With one.
    ground.installation.start();
    ground.leaves(&["backup", "unkeep", &label], &[("backup unkeep", &label, "done")]);
    ground.leaves(&["job", "pause", "full"], &[("pause", "full", "done")]);
    ground.leaves(&["job", "resume", "full"], &[("resume", "full", "done")]);
    ground.leaves(&["job", "pause", "--all"], &[("pause", "all jobs", "done")]);
    ground.leaves(&["job", "resume", "--all"], &[("resume", "all jobs", "done")]);
    ground.leaves(&["job", "cancel", "full"], &[("cancel", "full", "refused: job full is not running")]);
    let until = ["alert", "silence", "--cluster", "*", "--for", "1h", "--reason", "work"];
    let rows = ground.rows(&until);
    assert!(rows.len() == 1 && rows[0].contains(" | silence | ") && rows[0].ends_with(" | done"), "{rows:?}");
    let silence = ground.installation.journal("select id from silences");
    ground.leaves(&["alert", "unsilence", &silence], &[("unsilence", &silence, "done")]);
    ground.leaves(&["alert", "test"], &[("alert test", "database", "accepted")]);
    let mut command = ground.installation.command(&["job", "pause", "full"]);
    output(command.env("SUDO_USER", "daemon"));
    assert!(ground.new_rows()[0].starts_with(behind));
    ground.installation.run(&["job", "resume", "full"]);
    // What a job removes is its own doing: of more backups than two the oldest go, but for the one that was just restored from.
    for _ in 0..3 {
        ground.installation.run(&["job", "run", "full", "--wait"]);
    }
    let rows = ground.new_rows();
    let is_expiry = |row: &&String| {
        row.starts_with("pgbosun | job full, run ") && row.contains(" | expire | 2") && row.ends_with(" | removed")
    };
    assert_eq!(rows.iter().filter(is_expiry).count(), 1, "{rows:?}");
    // A reload, good and bad.
    ground.installation.configure(&configuration.replace("count = 2", "count = 3"));
    ground.installation.reload();
    wait_until("the reload is written down", seconds(10), || {
        let detail = "select outcome || ' ' || detail from audit_log where action = 'reload' and actor = 'SIGHUP'";
        ground.installation.journal(detail) == "done changed: repositories.local.retention"
    });
    fs::write(dir.join("pgbosun.toml"), "[jobs.full]\nkind = \"nothing\"\n").unwrap();
    ground.installation.signal("-HUP");
    wait_until("the refusal is written down", seconds(10), || {
        let outcome = "select group_concat(outcome) from audit_log where action = 'reload'";
        ground.installation.journal(outcome).contains("refused: ")
    });
    ground.installation.configure(&configuration);

    // Operators are changed in dba_ops, which writes it down itself; the rest is delivered there.
    ground.installation.run(&["operator", "add", "database", "anna@example.com"]);
    cluster.sql("update dba_ops.operators set active = false");
    cluster.sql("truncate dba_ops.operators");
    let operators = cluster.sql(
        "select action || ' ' || outcome || ' ' || origin from dba_ops.audit_log where action ~ 'operator' order by at",
    );
    let lines: Vec<_> = operators.lines().collect();
    assert!(lines[0].starts_with("operator added done command, process "), "{operators}");
    assert_eq!(lines[1], "operator changed done SQL from a local socket as postgres");
    assert!(lines[2].starts_with("operator removed done SQL from "), "{operators}");
    wait_until("the rest is delivered", seconds(30), || {
        let delivered =
            "select count(*) from dba_ops.audit_log where action !~ 'operator' and origin <> '' and outcome <> ''";
        cluster.sql(delivered) == ground.installation.journal("select count(*) from audit_log")
    });
}
