//! `make bench`: trigger latency for 1, 100 and 1,000 jobs due in the same second; idle CPU and memory of the daemon with
//! the monitors of the reference installation; journal rows per second. Prints the table of `docs/benchmarks.md`.
//!
//! The daemon is the release build, started as a process of its own; the server is a scratch PostgreSQL.

use std::{
    fmt::Write as _,
    fs,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

/// How long the idle daemon is watched.
const IDLE: Duration = Duration::from_secs(600);

fn main() {
    let directory = tempfile::tempdir().expect("a directory");
    let program = build();
    println!("| what | value |\n| --- | --- |");
    for jobs in [1, 100, 1_000] {
        latency(&program, &directory.path().join(format!("latency-{jobs}")), jobs);
    }
    journal(&directory.path().join("journal"));
    idle(&program, &directory.path().join("idle"));
}

/// The release build of the program.
fn build() -> PathBuf {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    let status = Command::new(env!("CARGO")).args(["build", "--release", "--quiet"]).current_dir(&root).status();
    assert!(status.expect("cargo").success());
    root.join("target/release/pgbosun")
}

struct Daemon {
    child: Child,
}

impl Daemon {
    fn start(program: &Path, directory: &Path, configuration: &str) -> Self {
        fs::create_dir_all(directory).expect("a directory");
        let place = directory.display();
        let file = directory.join("pgbosun.toml");
        let text = format!(
            "[daemon]\nstate-directory = \"{place}/state\"\ncontrol-socket = \"{place}/control.sock\"\n{configuration}"
        );
        fs::write(&file, text).expect("configuration");
        let log = fs::File::create(directory.join("log")).expect("log");
        let child = Command::new(program)
            .arg("--config")
            .arg(&file)
            .arg("daemon")
            .stdout(log.try_clone().expect("log"))
            .stderr(log)
            .spawn()
            .expect("the daemon");
        while !directory.join("control.sock").exists() {
            std::thread::sleep(Duration::from_millis(20));
        }
        Self { child }
    }

    /// CPU seconds used so far, user and system (proc(5), stat).
    fn cpu_seconds(&self) -> f64 {
        let stat = fs::read_to_string(format!("/proc/{}/stat", self.child.id())).unwrap_or_default();
        let fields: Vec<&str> = stat.rsplit(')').next().unwrap_or_default().split_whitespace().collect();
        let ticks = |index: usize| fields.get(index).and_then(|field| field.parse::<f64>().ok()).unwrap_or(0.0);
        (ticks(11) + ticks(12)) / 100.0
    }

    /// Resident memory, MiB.
    fn resident(&self) -> f64 {
        let status = fs::read_to_string(format!("/proc/{}/status", self.child.id())).unwrap_or_default();
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap_or_default();
        line.split_whitespace().next().and_then(|kilobytes| kilobytes.parse::<f64>().ok()).unwrap_or(0.0) / 1024.0
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        let _ = Command::new("kill").arg(self.child.id().to_string()).status();
        let _ = self.child.wait();
    }
}

fn sqlite(directory: &Path, query: &str) -> String {
    let output =
        Command::new("sqlite3").arg("-readonly").arg(directory.join("state/journal.sqlite")).arg(query).output();
    String::from_utf8_lossy(&output.expect("sqlite3").stdout).trim().to_owned()
}

fn latency(program: &Path, directory: &Path, jobs: usize) {
    // The first whole ten seconds after the start, then two more.
    let mut configuration = "max-concurrent-jobs = 1000\n".to_owned();
    for number in 0..jobs {
        let _ = write!(
            configuration,
            "[jobs.j{number}]\nkind = \"command\"\nprogram = \"/bin/true\"\nschedule = \"*/20 * * * * *\"\n"
        );
    }
    let daemon = Daemon::start(program, directory, &configuration);
    std::thread::sleep(Duration::from_secs(65));
    drop(daemon);
    let latencies: Vec<f64> = sqlite(
        directory,
        "select (julianday(started_at) - julianday(scheduled_for)) * 86400 from runs where started_at is not null order by 1",
    )
    .lines()
    .filter_map(|line| line.parse().ok())
    .collect();
    let at = |share: f64| latencies.get(((latencies.len() - 1) as f64 * share) as usize).copied().unwrap_or(f64::NAN);
    println!("| {jobs} jobs due in the same second, {} runs: median | {:.2} s |", latencies.len(), at(0.5));
    println!("| … 99 of 100 | {:.2} s |", at(0.99));
    println!("| … slowest | {:.2} s |", at(1.0));
}

/// Claims and ends runs as the daemon does, from many tasks at once.
fn journal(directory: &Path) {
    use pgbosun_core::run::{Run, RunState, Trigger};
    let runtime =
        tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().expect("a runtime");
    fs::create_dir_all(directory).expect("a directory");
    let (tasks, each) = (64, 100);
    let took = runtime.block_on(async {
        let journal = pgbosun_history::Journal::open(directory).await.expect("the journal");
        let begun = Instant::now();
        let mut set = tokio::task::JoinSet::new();
        for _ in 0..tasks {
            let journal = journal.clone();
            set.spawn(async move {
                for _ in 0..each {
                    let now = pgbosun_core::clock::now();
                    let mut run = Run {
                        id: uuid::Uuid::now_v7(),
                        job: "bench".into(),
                        kind: "command".into(),
                        cluster: None,
                        trigger: Trigger::Manual,
                        state: RunState::Running,
                        scheduled_for: now,
                        started_at: Some(now),
                        finished_at: None,
                        attempts: 1,
                        summary: String::new(),
                        error: None,
                    };
                    journal.claim(vec![run.clone()], Vec::new()).await.expect("claim");
                    run.state = RunState::Succeeded;
                    run.finished_at = Some(now);
                    let end = pgbosun_history::RunEnd::bare(run);
                    journal.end_run(end).await.expect("end");
                }
            });
        }
        while set.join_next().await.is_some() {}
        begun.elapsed()
    });
    let rate = f64::from(tasks * each) / took.as_secs_f64();
    println!("| journal: runs claimed and finished, each durably, {tasks} at a time | {rate:.0} a second |");
}

/// The monitors there are of the reference installation, every five minutes, on a server of our own.
fn idle(program: &Path, directory: &Path) {
    let server = Server::start(directory);
    let configuration = format!(
        "[clusters.main]\nconnection = \"host={0} user={1} dbname=postgres\"\n[history]\nconnection = \"host={0} user={1} dbname=postgres\"\n\
         [repositories.local]\ntype = \"local\"\npath = \"{0}/repo\"\n\
         [jobs.connectivity]\nkind = \"monitor.connectivity\"\nschedule = \"*/5 * * * *\"\n\
         [jobs.disk]\nkind = \"monitor.disk\"\nschedule = \"*/5 * * * *\"\n\
         [jobs.age]\nkind = \"monitor.backup-age\"\nschedule = \"*/5 * * * *\"\n\
         [jobs.full]\nkind = \"backup.physical\"\nschedule = \"59 23 * * *\"\nrepositories = [\"local\"]\n",
        directory.display(),
        server.user
    );
    let daemon = Daemon::start(program, directory, &configuration);
    std::thread::sleep(Duration::from_secs(20));
    let (cpu, begun) = (daemon.cpu_seconds(), Instant::now());
    std::thread::sleep(IDLE);
    let an_hour = (daemon.cpu_seconds() - cpu) * 3600.0 / begun.elapsed().as_secs_f64();
    println!("| idle daemon, watched for {} min: CPU | {an_hour:.1} s an hour |", IDLE.as_secs() / 60);
    println!("| … resident memory | {:.1} MiB |", daemon.resident());
    drop(daemon);
    drop(server);
}

struct Server {
    programs: PathBuf,
    data: PathBuf,
    user: String,
}

impl Server {
    /// A scratch server; PostgreSQL refuses root, which runs it as the user postgres.
    fn start(directory: &Path) -> Self {
        let programs = (15..=19).rev().find_map(|major| pgbosun_backup::find_programs(&major.to_string(), None).ok());
        let server = Self {
            programs: programs.expect("PostgreSQL's programs"),
            data: directory.join("pg"),
            user: "postgres".into(),
        };
        fs::create_dir_all(directory).expect("a directory");
        let open = Command::new("chmod").arg("-R").arg("a+rwx").arg(directory.parent().unwrap_or(directory)).status();
        assert!(open.is_ok_and(|status| status.success()));
        server.run("initdb", &["-A", "trust", "-U", "postgres", "-N"]);
        let options = format!("-c listen_addresses= -c unix_socket_directories={}", directory.display());
        let log = directory.join("pg.log").display().to_string();
        server.run("pg_ctl", &["-w", "-l", &log, "-o", &options, "start"]);
        server
    }

    fn run(&self, program: &str, arguments: &[&str]) {
        let root = nix::unistd::geteuid().is_root();
        let mut command = Command::new(if root { "runuser" } else { "env" });
        if root {
            command.args(["-u", "postgres", "--"]);
        }
        command.arg(self.programs.join(program)).arg("-D").arg(&self.data).args(arguments).current_dir("/");
        let status = command.stdout(Stdio::null()).stderr(Stdio::null()).status();
        assert!(status.is_ok_and(|status| status.success()), "{program}");
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.run("pg_ctl", &["-w", "-m", "fast", "stop"]);
    }
}
