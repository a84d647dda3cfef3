//! Every monitor against a real server: brought into a state in which it fires, and in one in which it stays quiet.

mod backups;
mod health;
mod host;
mod own;
mod security;
mod server;

use crate::support::{Cluster, Installation, MAIL, postgres};
use std::{
    fmt::Write as _,
    fs,
    io::Write as _,
    path::Path,
    process::{Child, Command, Output, Stdio},
};

/// An installation with these monitors of one server; `NAME` or `NAME: option = value; …` each.
pub fn installation(directory: &Path, cluster: &Cluster, monitors: &[&str]) -> Installation {
    let mut text = format!(
        "{MAIL}[clusters.main]\nconnection = \"{}\"\ndata-directory = \"{}\"\nlog-directory = \"{{dir}}/log\"\n\
         [repositories.local]\ntype = \"local\"\npath = \"{{dir}}/repo\"\n",
        cluster.connection(),
        cluster.data.display()
    );
    for monitor in monitors {
        let (name, options) = monitor.split_once(": ").unwrap_or((monitor, ""));
        let kind = name.split('/').next().unwrap_or(name);
        writeln!(text, "[jobs.{}]\nkind = \"monitor.{kind}\"", name.replace('/', "-")).unwrap();
        for option in options.split("; ").filter(|option| !option.is_empty()) {
            writeln!(text, "{option}").unwrap();
        }
    }
    fs::create_dir_all(directory.join("log")).unwrap();
    Installation::new(directory, &text)
}

/// What a monitor finds now: `severity object`, in order.
pub fn check(installation: &Installation, job: &str) -> Vec<String> {
    found(installation, job, &installation.try_run(&["job", "run", job, "--wait"]))
}

fn found(installation: &Installation, job: &str, done: &Output) -> Vec<String> {
    let run =
        "(select id from runs where job = 'JOB' order by scheduled_for desc, id desc limit 1)".replace("JOB", job);
    let state = installation.journal(&format!("select state from runs where id = {run}"));
    assert_eq!(state, "succeeded", "{job}: {}", String::from_utf8_lossy(&done.stderr));
    let query = format!("select severity || ' ' || object from findings where run_id = {run} order by object");
    installation.journal(&query).lines().map(str::to_owned).collect()
}

/// These monitors find nothing.
pub fn all_quiet(installation: &Installation, jobs: &[&str]) {
    for job in jobs {
        assert_eq!(check(installation, job), [""; 0], "{job}");
    }
}

/// The whole text of what a monitor found last.
pub fn told(installation: &Installation, job: &str) -> String {
    let query = "select summary || char(10) || advice || char(10) || detail from findings where job = 'JOB' order by seen_at desc limit 1";
    installation.journal(&query.replace("JOB", job))
}

/// A session that stays, fed line by line.
struct Session(Child);

impl Session {
    fn open(cluster: &Cluster, statements: &str) -> Self {
        let mut command = Command::new(postgres("psql"));
        command.arg("-d").arg(cluster.connection()).args(["-XAtq"]).stdin(Stdio::piped());
        let mut child = command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
        writeln!(child.stdin.as_mut().unwrap(), "{statements}").unwrap();
        Self(child)
    }
}

impl Drop for Session {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}
