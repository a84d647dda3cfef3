//! `pgbosun demo`: the whole program on a scratch PostgreSQL of its own, then what to look at.
//!
//! Everything lies in one directory; the servers it starts listen on private sockets there and are stopped at the end.

mod scratch;

use crate::{
    exit::Exit,
    output::{bold, dim, green},
};
use anyhow::Context;
use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use scratch::Scratch;
use std::{
    fs,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

/// Runs the demo.
///
/// # Errors
/// What went wrong, in the words of the step that failed.
pub fn run(directory: &Path, keep_running: bool) -> anyhow::Result<u8> {
    if nix::unistd::geteuid().is_root() {
        return Err(Exit::refused(
            "PostgreSQL does not run as root: run the demo as another user, or with \"make demo\"",
        ));
    }
    if directory.exists() {
        return Err(Exit::refused(format!(
            "{} already exists: remove it, or run \"make demo-clean\"",
            directory.display()
        )));
    }
    let begun = Instant::now();
    fs::create_dir_all(directory).with_context(|| format!("create {}", directory.display()))?;
    let programs = scratch::programs()?;

    step("1. A scratch PostgreSQL with data");
    let primary = Scratch::create(&programs, &directory.join("primary"))?;
    primary.pgbench(10)?;
    done(&format!("{} on a private socket in {}", primary.query("select version()")?, primary.socket.display()));

    let mut demo = Demo { directory: directory.to_owned(), daemon: None };
    let text = include_str!("demo/pgbosun.toml")
        .replace("{dir}", &directory.display().to_string())
        .replace("{programs}", &programs.display().to_string());
    fs::write(demo.configuration(), text)?;
    let restored = demo.show(&programs, &primary)?;
    demo.tell_what_to_look_at(begun.elapsed());
    if keep_running {
        say!("\nThe daemon and both servers keep running; \"make demo-clean\" stops and removes them.");
        demo.daemon = None;
        primary.leave_running();
        restored.leave_running();
    }
    Ok(0)
}

struct Demo {
    directory: PathBuf,
    daemon: Option<Child>,
}

impl Drop for Demo {
    fn drop(&mut self) {
        if let Some(daemon) = &mut self.daemon {
            if let Ok(pid) = i32::try_from(daemon.id()) {
                let _ = kill(Pid::from_raw(pid), Signal::SIGTERM);
            }
            let _ = daemon.wait();
        }
    }
}

impl Demo {
    fn configuration(&self) -> PathBuf {
        self.directory.join("pgbosun.toml")
    }

    /// Shows everything; returns the restored server.
    fn show(&mut self, programs: &Path, primary: &Scratch) -> anyhow::Result<Scratch> {
        step("2. The daemon, with monitors, history in dba_ops, and mail to a folder");
        self.pgbosun(&["config", "check"])?;
        self.start_daemon()?;
        self.wait("the monitors have run", 30, |demo| {
            Ok(demo.quiet(&["--json", "job", "history", "--all"])?.contains("succeeded"))
        })?;
        // Where it is installed, reports know of statements.
        let _ = primary.query("create extension pg_stat_statements");
        self.quiet(&["job", "run", "sample", "--wait"])?;
        let sampled = Instant::now();
        self.pgbosun(&["check"])?;
        self.wait("an alert is mailed: there is no backup yet", 30, |demo| demo.mailed("no backup exists", false))?;

        step("3. A backup, verified, and a restore test that measures the times");
        self.pgbosun(&["backup", "create"])?;
        self.pgbosun(&["backup", "verify"])?;
        self.pgbosun(&["restore-test"])?;
        self.wait("that alert is resolved", 30, |demo| demo.mailed("no backup exists", true))?;

        step("4. The server goes down: an alert is mailed, and resolved when it is back");
        let truth = "select count(*) || ' accounts, sum of balances ' || sum(abalance) from pgbench_accounts";
        let before = primary.query(truth)?;
        primary.stop();
        self.wait("the alert is mailed", 30, |demo| demo.mailed("does not accept connections", false))?;
        primary.start()?;
        self.wait("it is resolved", 30, |demo| demo.mailed("does not accept connections", true))?;
        self.wait("history was queued, and is delivered now", 60, |_| {
            Ok(primary.query("select count(*) from dba_ops.alerts where state = 'resolved'")?.parse::<u32>()? >= 2)
        })?;

        step("5. The backup becomes a second server");
        let target = self.directory.join("restored");
        self.pgbosun(&["restore", "physical", "--to", &target.display().to_string()])?;
        let verified = Command::new(programs.join("pg_verifybackup")).arg(&target).output()?;
        anyhow::ensure!(verified.status.success(), "pg_verifybackup: {}", String::from_utf8_lossy(&verified.stderr));
        done("PostgreSQL's own pg_verifybackup agrees");
        let restored = Scratch::adopt(programs, &target, &self.directory.join("restored-socket"))?;
        let after = restored.query(truth)?;
        anyhow::ensure!(before == after, "the restored server has {after}, the original {before}");
        done(&format!("the restored server has the same data as the original: {after}"));

        step("6. Reports: what the server did under load, the state of everything, and what a disaster would cost");
        // Samples are twenty seconds apart at least.
        primary.load(22_u64.saturating_sub(sampled.elapsed().as_secs()).max(3))?;
        self.pgbosun(&["job", "run", "sample", "--wait"])?;
        let page = |name: &str| self.directory.join(name).display().to_string();
        self.pgbosun(&["report", "performance", "--mail", "--to", &page("performance.html")])?;
        self.pgbosun(&["report", "health", "--mail", "--to", &page("health.html")])?;
        self.pgbosun(&["report", "drill"])?;
        self.wait("both reports are mailed", 30, |demo| {
            let subjects = demo.subjects();
            Ok(["performance report main", "health report demo"].iter().all(|report| subjects.contains(report)))
        })?;

        step("7. The state of everything, for people and for machines");
        self.pgbosun(&["metrics", "--json"])?;
        self.pgbosun_unless_failed(&["status"])?;
        Ok(restored)
    }

    fn start_daemon(&mut self) -> anyhow::Result<()> {
        let log = fs::File::create(self.directory.join("daemon.log"))?;
        let mut command = self.command(&["daemon"])?;
        let daemon = command.stdin(Stdio::null()).stdout(log.try_clone()?).stderr(log).spawn()?;
        fs::write(self.directory.join("daemon.pid"), daemon.id().to_string())?;
        self.daemon = Some(daemon);
        self.wait("the daemon is ready", 30, |demo| Ok(demo.command(&["job", "list"])?.output()?.status.success()))
    }

    fn command(&self, arguments: &[&str]) -> anyhow::Result<Command> {
        let mut command = Command::new(std::env::current_exe()?);
        command.arg("--config").arg(self.configuration()).args(arguments);
        Ok(command)
    }

    /// Runs a command as the reader would, showing it and what it says.
    fn pgbosun(&self, arguments: &[&str]) -> anyhow::Result<()> {
        let code = self.pgbosun_unless_failed(arguments)?;
        anyhow::ensure!(code == 0, "\"pgbosun {}\" exited with {code}", arguments.join(" "));
        Ok(())
    }

    fn pgbosun_unless_failed(&self, arguments: &[&str]) -> anyhow::Result<i32> {
        say!("{}", dim(&format!("$ pgbosun {}", arguments.join(" "))));
        let status = self.command(arguments)?.status()?;
        Ok(status.code().unwrap_or(-1))
    }

    fn quiet(&self, arguments: &[&str]) -> anyhow::Result<String> {
        Ok(String::from_utf8_lossy(&self.command(arguments)?.output()?.stdout).into_owned())
    }

    /// The subjects of all mails.
    fn subjects(&self) -> String {
        let mails = fs::read_dir(self.directory.join("mail")).into_iter().flatten().flatten();
        let texts = mails.map(|mail| fs::read_to_string(mail.path()).unwrap_or_default());
        texts.flat_map(|text| text.lines().find(|line| line.starts_with("Subject: ")).map(str::to_owned)).collect()
    }

    /// Whether a mail says that this is wrong, or over.
    fn mailed(&self, what: &str, over: bool) -> anyhow::Result<bool> {
        let Ok(entries) = fs::read_dir(self.directory.join("mail")) else { return Ok(false) };
        for entry in entries {
            // Several alerts may share a mail, and its lines are folded.
            let text = fs::read_to_string(entry?.path()).unwrap_or_default().replace("=\r\n", "");
            let told = |line: &str| match over {
                true => line.starts_with("main: resolved after ") && line.contains(&format!(": {what}")),
                false => line.starts_with(&format!("main: {what}")),
            };
            if text.lines().any(told) {
                return Ok(true);
            }
        }
        Ok(false)
    }

    fn wait(
        &self,
        what: &str,
        seconds: u64,
        mut holds: impl FnMut(&Self) -> anyhow::Result<bool>,
    ) -> anyhow::Result<()> {
        let begun = Instant::now();
        while !holds(self)? {
            let log = self.directory.join("daemon.log");
            anyhow::ensure!(
                begun.elapsed().as_secs() < seconds,
                "gave up after {seconds} s waiting for: {what}; see {}",
                log.display()
            );
            std::thread::sleep(Duration::from_millis(200));
        }
        done(what);
        Ok(())
    }

    fn tell_what_to_look_at(&self, took: Duration) {
        let directory = self.directory.display();
        say!("\n{} in {} s. What to look at:", bold(&green("Done")), took.as_secs());
        for (what, place) in [
            ("configuration", format!("{directory}/pgbosun.toml")),
            ("mails", format!("{directory}/mail/*.eml")),
            ("the daemon's log", format!("{directory}/daemon.log")),
            ("history, local", format!("sqlite3 {directory}/state/journal.sqlite 'select * from runs'")),
            ("history, shared", format!("schema dba_ops of the scratch server in {directory}/primary")),
            ("the backup", format!("{directory}/repository: plain tar.zst volumes and a backup.json")),
            ("the restored server", format!("{directory}/restored")),
            ("reports", format!("{directory}/performance.html and health.html, in a browser")),
        ] {
            say!("  {what:<22} {place}");
        }
        say!("  \"make demo-clean\" removes it all.");
    }
}

fn step(what: &str) {
    say!("\n{}", bold(what));
}

fn done(what: &str) {
    say!("{} {what}", green("ok"));
}
