//! What the tests share: a scratch PostgreSQL of their own, an installation of pgbosun, and patience.
//!
//! Nothing is shared between two tests but the programs: each has its directory, its server on a private socket, and its
//! daemon, and removes them all.

use std::{
    fs,
    io::Write,
    path::{Path, PathBuf},
    process::{Child, Command, Output, Stdio},
    sync::{
        OnceLock,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

/// A variable of `make test`, or its stand-in for `cargo test` by hand.
fn path_from(variable: &str, otherwise: &str) -> PathBuf {
    std::env::var_os(variable).map_or_else(|| otherwise.into(), PathBuf::from)
}

/// The program under test.
pub fn program() -> PathBuf {
    path_from("PGBOSUN_TEST_PROGRAM", env!("CARGO_BIN_EXE_pgbosun"))
}

/// A file of the repository.
pub fn file(name: &str) -> PathBuf {
    path_from("PGBOSUN_TEST_FILES", env!("CARGO_MANIFEST_DIR")).join(name)
}

/// A program of the PostgreSQL version under test.
pub fn postgres(name: &str) -> PathBuf {
    path_from("PGBOSUN_TEST_BINARIES", "/usr/lib/postgresql/15/bin").join(name)
}

/// The major version under test.
pub fn major() -> u32 {
    let output = output(Command::new(postgres("postgres")).arg("--version"));
    let version = output.split_whitespace().nth(2).unwrap_or_default();
    version.split('.').next().unwrap_or_default().parse().expect("a PostgreSQL version")
}

/// A new directory for one test.
pub fn directory() -> tempfile::TempDir {
    let parent = path_from("PGBOSUN_TEST_SCRATCH", "/tmp");
    // Sockets lie in it, and their paths have 107 bytes at most.
    tempfile::Builder::new().prefix("t").tempdir_in(parent).expect("a directory")
}

/// Runs a command that must succeed; its standard output.
pub fn output(command: &mut Command) -> String {
    let done = command.output().unwrap_or_else(|error| panic!("{command:?}: {error}"));
    assert!(
        done.status.success(),
        "{command:?} ended with {}\n{}{}",
        done.status,
        String::from_utf8_lossy(&done.stdout),
        String::from_utf8_lossy(&done.stderr)
    );
    String::from_utf8_lossy(&done.stdout).into_owned()
}

/// Waits until something holds, and says what did not.
pub fn wait_until(what: &str, limit: Duration, mut holds: impl FnMut() -> bool) {
    let begun = Instant::now();
    while !holds() {
        assert!(begun.elapsed() < limit, "not within {limit:?}: {what}");
        std::thread::sleep(Duration::from_millis(50));
    }
}

/// The end of a log, for the words of a failed test.
pub fn last_lines(log: &str) -> String {
    let lines: Vec<_> = log.lines().rev().take(30).collect();
    lines.into_iter().rev().collect::<Vec<_>>().join("\n")
}

/// Has the clock that reads this file be so many seconds ahead.
pub fn set_clock(file: &Path, ahead: i64) {
    let new = file.with_extension("new");
    fs::write(&new, format!("{ahead:+}")).expect("the clock");
    fs::rename(new, file).expect("the clock");
}

fn libfaketime() -> PathBuf {
    let mut places = fs::read_dir("/usr/lib").expect("/usr/lib").flatten();
    let library = places.find_map(|place| {
        let library = place.path().join("faketime/libfaketime.so.1");
        library.exists().then_some(library)
    });
    library.expect("libfaketime, of the package faketime")
}

/// Has a command run with a clock that is wrong, such as `+400d`; the kernel's and the server's are not. The program faketime would
/// leave a semaphore behind when it is killed, and stumble over it later.
pub fn with_clock(command: &mut Command, ahead: &str) {
    command.env("LD_PRELOAD", libfaketime()).env("FAKETIME", ahead).env("FAKETIME_DONT_FAKE_MONOTONIC", "1");
}

/// Some seconds.
pub const fn seconds(count: u64) -> Duration {
    Duration::from_secs(count)
}

/// A PostgreSQL server of one test, on a private socket.
pub struct Cluster {
    /// Its data directory.
    pub data: PathBuf,
    /// The directory of its socket.
    pub socket: PathBuf,
    options: String,
    clock: Option<PathBuf>,
    /// Where it is not PostgreSQL's own.
    port: Option<u16>,
}

impl Cluster {
    /// A running server in `directory`, with page checksums.
    pub fn start(directory: &Path) -> Self {
        Self::start_with(directory, "")
    }

    /// The same with further lines of configuration.
    pub fn start_with(directory: &Path, settings: &str) -> Self {
        Self::start_at(directory, settings, None)
    }

    /// The same with a clock that is as far ahead as this file says, by libfaketime.
    pub fn start_at(directory: &Path, settings: &str, clock: Option<&Path>) -> Self {
        let (data, socket, options) = (directory.join("pg"), directory.to_owned(), String::new());
        let cluster = Self { data, socket, options, clock: clock.map(Path::to_owned), port: None };
        // One initdb for all tests, then a copy for each.
        static TEMPLATE: OnceLock<tempfile::TempDir> = OnceLock::new();
        let template = TEMPLATE.get_or_init(|| {
            let template = self::directory();
            let data = template.path().join("pg");
            output(
                Command::new(postgres("initdb"))
                    .arg("-D")
                    .arg(&data)
                    .args(["-A", "trust", "-U", "postgres", "-k", "-N"]),
            );
            template
        });
        output(Command::new("cp").arg("-r").arg(template.path().join("pg")).arg(&cluster.data));
        let settings = format!(
            "listen_addresses = ''\nunix_socket_directories = '{}'\nfsync = off\njit = off\nmax_wal_senders = 8\n{settings}\n",
            cluster.socket.display()
        );
        fs::write(cluster.data.join("postgresql.auto.conf"), settings).expect("settings");
        cluster.up();
        cluster
    }

    /// A server on a data directory that is there, with options for the postmaster; no pgbosun made it.
    pub fn adopt(data: &Path, socket: &Path) -> Self {
        let options = format!("-c listen_addresses= -c unix_socket_directories={} -c port=5432", socket.display());
        let cluster = Self { data: data.to_owned(), socket: socket.to_owned(), options, clock: None, port: None };
        cluster.up();
        cluster
    }

    /// A copy that was restored beside its original, started as the restore told: with nothing but what it says of itself.
    pub fn beside(original: &Self, data: &Path, told: &str) -> Self {
        let port = told.split_once("has port ").and_then(|(_, rest)| {
            let digits: String = rest.chars().take_while(char::is_ascii_digit).collect();
            digits.parse().ok()
        });
        assert!(port.is_some(), "no port is told: {told}");
        let socket = original.socket.clone();
        let copy = Self { data: data.to_owned(), socket, options: String::new(), clock: None, port };
        copy.up();
        copy
    }

    /// None yet: for what is configured before it is made.
    pub fn nowhere_at(socket: &Path) -> Self {
        Self { data: PathBuf::new(), socket: socket.to_owned(), options: String::new(), clock: None, port: None }
    }

    /// The same server with further options for the postmaster, from its next start on.
    #[must_use]
    pub fn with_options(mut self, options: &str) -> Self {
        options.clone_into(&mut self.options);
        self
    }

    /// Starts the server.
    pub fn up(&self) {
        self.up_in("");
    }

    /// Starts the server, which says what it says in a language it has a translation for.
    pub fn up_in(&self, language: &str) {
        let log = self.socket.join(self.port.map_or_else(|| "pg.log".to_owned(), |port| format!("pg.{port}.log")));
        let mut command = Command::new(postgres("pg_ctl"));
        if let Some(clock) = &self.clock {
            command
                .env("LD_PRELOAD", libfaketime())
                .env("FAKETIME_TIMESTAMP_FILE", clock)
                .env("FAKETIME_NO_CACHE", "1")
                .env("FAKETIME_DONT_FAKE_MONOTONIC", "1");
        }
        if !language.is_empty() {
            // By LANGUAGE: no locale of that language has to be there.
            command.env("LANGUAGE", language).env("LC_MESSAGES", "C.UTF-8").env("LC_ALL", "C.UTF-8");
        }
        let options = match language {
            "" => self.options.clone(),
            _ => format!("{} -c lc_messages=C.UTF-8", self.options),
        };
        let started = command
            .arg("-D")
            .arg(&self.data)
            .arg("-l")
            .arg(&log)
            .args(["-w", "-t", "60", "-o", &options, "start"])
            .stdout(Stdio::null())
            .status()
            .expect("pg_ctl");
        assert!(started.success(), "server does not start:\n{}", fs::read_to_string(log).unwrap_or_default());
    }

    /// Stops the server.
    pub fn down(&self) {
        let _ =
            Command::new(postgres("pg_ctl")).arg("-D").arg(&self.data).args(["-w", "-m", "immediate", "stop"]).output();
    }

    /// Stops it as an administrator does, once nothing is left to write.
    pub fn stop(&self) {
        output(Command::new(postgres("pg_ctl")).arg("-D").arg(&self.data).args(["-w", "-m", "fast", "stop"]));
    }

    /// Waits until recovery has ended and, where it archives, the archiver is at work: one that is stopped before has archived nothing.
    pub fn recovered(&self) {
        wait_until("recovery has ended", seconds(60), || {
            self.sql(
                "select not pg_is_in_recovery() and (current_setting('archive_mode') = 'off'
                     or exists (select from pg_stat_activity where backend_type = 'archiver'))",
            ) == "t"
        });
    }

    /// The connection string.
    pub fn connection(&self) -> String {
        let port = self.port.map_or_else(String::new, |port| format!(" port={port}"));
        format!("host={} user=postgres dbname=postgres{port}", self.socket.display())
    }

    /// Runs SQL; rows as lines, columns with `|` between.
    pub fn sql(&self, statement: &str) -> String {
        let mut command = Command::new(postgres("psql"));
        command.arg("-d").arg(self.connection()).args(["-XAtq", "-v", "ON_ERROR_STOP=1", "-c", statement]);
        output(&mut command).trim().to_owned()
    }

    /// Settings with which a server archives through the installation in `directory`, keeps commit times, and summarizes
    /// WAL where it can.
    pub fn archiving(directory: &Path) -> String {
        let config = directory.join("pgbosun.toml");
        let summarize = if major() >= 17 { "summarize_wal = on" } else { "" };
        format!(
            "archive_mode = on\narchive_command = '\"{}\" --config \"{}\" --quiet wal push \"%p\"'\n\
             archive_timeout = 60\ntrack_commit_timestamp = on\n{summarize}\n",
            program().display(),
            config.display()
        )
    }

    /// Ends the current segment, and waits until all before it is archived.
    pub fn archive_all(&self) {
        let segment = self.sql("select pg_walfile_name(pg_current_wal_lsn() - 1) from pg_switch_wal()");
        wait_until("everything is archived", seconds(60), || {
            let archived = self.sql("select coalesce(last_archived_wal, '') from pg_stat_archiver");
            archived.get(..24).unwrap_or_default() >= segment.as_str()
        });
    }

    /// Loads pgbench's tables.
    pub fn pgbench(&self, scale: u32) {
        let mut command = Command::new(postgres("pgbench"));
        command
            .args(["-i", "-q", "-s", &scale.to_string(), "-h"])
            .arg(&self.socket)
            .args(["-U", "postgres", "postgres"]);
        output(command.stderr(Stdio::null()));
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        if !self.data.as_os_str().is_empty() {
            self.down();
        }
    }
}

/// An installation of pgbosun: a configuration and what it makes.
pub struct Installation {
    /// Everything of it.
    pub directory: PathBuf,
    /// The file that says how many seconds its clock is ahead.
    pub clock: Option<PathBuf>,
    /// The fault point that is armed in its daemon.
    pub fault: Option<String>,
    daemon: Option<Child>,
}

/// Puts what a command with `--json` printed where `tests/tools/outputs.py` checks it by docs/json.schema.json.
fn keep_json(arguments: &[&str], done: &Output) {
    static NEXT: AtomicU64 = AtomicU64::new(0);
    let Some(place) = std::env::var_os("PGBOSUN_TEST_JSON").filter(|_| arguments.contains(&"--json")) else { return };
    let number = NEXT.fetch_add(1, Ordering::Relaxed);
    let [stdout, stderr] = [&done.stdout, &done.stderr].map(|said| String::from_utf8_lossy(said).into_owned());
    let kept =
        serde_json::json!({"arguments": arguments, "code": done.status.code(), "stdout": stdout, "stderr": stderr});
    fs::write(Path::new(&place).join(format!("{}-{number}.json", std::process::id())), kept.to_string()).unwrap();
}

impl Installation {
    /// With this configuration below the parts that every test has; `{dir}` in it is the directory.
    pub fn new(directory: &Path, configuration: &str) -> Self {
        let installation = Self { directory: directory.to_owned(), clock: None, fault: None, daemon: None };
        installation.configure(configuration);
        installation
    }

    /// Writes the configuration anew; lines before its first section belong to the daemon. Monitors run where the test names them, or says `watch = true`.
    pub fn configure(&self, configuration: &str) {
        let base = "[daemon]\nstate-directory = \"{dir}/state\"\ncontrol-socket = \"{dir}/control.sock\"\n\
                    heartbeat = \"1s\"\ninstance = \"test\"\nwatch = false\nmetrics-address = \"off\"\n";
        let lines = configuration.split_inclusive('\n').flat_map(|line| {
            let quiet = line.starts_with("[clusters.") && !configuration.contains("watch = true");
            [line, if quiet { "watch = false\n" } else { "" }]
        });
        let text =
            format!("{base}{}", lines.collect::<String>()).replace("{dir}", &self.directory.display().to_string());
        fs::write(self.directory.join("pgbosun.toml"), text).expect("configuration");
    }

    /// A command of this installation.
    pub fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(program());
        command.arg("--config").arg(self.directory.join("pgbosun.toml")).args(arguments).env("PGBOSUN_LOG", "off");
        // Where tests are run at another time (ticks.sh), the program has the same clock, and its stores with it.
        let clock_of_all = std::env::var_os("PGBOSUN_TEST_CLOCK");
        if let Some(clock) = &self.clock {
            command.env("PGBOSUN_CLOCK", clock);
        } else if let Some(clock) = clock_of_all {
            command.env("PGBOSUN_CLOCK", clock).env_remove("LD_PRELOAD");
        }
        command
    }

    /// Runs a command that must succeed; its standard output.
    pub fn run(&self, arguments: &[&str]) -> String {
        output(&mut self.command(arguments))
    }

    /// Runs a command that may fail.
    pub fn try_run(&self, arguments: &[&str]) -> Output {
        let done = self.command(arguments).output().expect("the program");
        keep_json(arguments, &done);
        done
    }

    /// Runs a job to its end, which is a success whatever it finds; its standard output.
    pub fn check(&self, job: &str) -> String {
        let done = self.try_run(&["job", "run", job, "--wait"]);
        let said = String::from_utf8_lossy(&done.stdout).into_owned();
        let succeeded = said.starts_with("checked: ") || said.starts_with("succeeded ");
        assert!(succeeded, "{job}: {:?}\n{said}{}", done.status, String::from_utf8_lossy(&done.stderr));
        said
    }

    /// Runs a job that has a schedule, and waits for its end: after the run of its schedule where that is at work.
    pub fn run_job(&self, job: &str) -> Output {
        let mut done = self.try_run(&["job", "run", job, "--wait"]);
        wait_until(&format!("{job} can be run"), seconds(60), || {
            let at_work = String::from_utf8_lossy(&done.stderr).contains("has already been running for");
            if at_work {
                done = self.try_run(&["job", "run", job, "--wait"]);
            }
            !at_work
        });
        done
    }

    /// Runs a command with `--json`.
    pub fn json(&self, arguments: &[&str]) -> serde_json::Value {
        let arguments: Vec<_> = ["--json"].into_iter().chain(arguments.iter().copied()).collect();
        let done = self.try_run(&arguments);
        serde_json::from_slice(&done.stdout).unwrap_or_else(|error| {
            panic!(
                "{arguments:?}: {error}\n{}{}",
                String::from_utf8_lossy(&done.stdout),
                String::from_utf8_lossy(&done.stderr)
            )
        })
    }

    /// Starts the daemon and waits until it answers.
    pub fn start(&mut self) {
        let ready = |log: &str| log.matches(" is ready ").count();
        let before = ready(&self.log());
        self.spawn();
        // A socket may be left of one that was killed, and a child of it that was being started may listen on it for a moment; a command
        // would do without a daemon.
        wait_until("the daemon is ready", seconds(60), || ready(&self.log()) > before);
        wait_until("the daemon answers", seconds(60), || self.try_run(&["job", "list"]).status.success());
    }

    /// Starts the daemon without waiting.
    pub fn spawn(&mut self) {
        let log = fs::File::options().create(true).append(true).open(self.directory.join("daemon.log")).expect("log");
        let errors = log.try_clone().expect("log");
        let mut command = self.command(&["daemon"]);
        command.env_remove("PGBOSUN_LOG").stdout(log).stderr(errors);
        if let Some(fault) = &self.fault {
            command.env("PGBOSUN_FAULT", fault);
        }
        self.daemon = Some(command.spawn().expect("the daemon"));
    }

    /// The daemon's log.
    pub fn log(&self) -> String {
        fs::read_to_string(self.directory.join("daemon.log")).unwrap_or_default()
    }

    /// Sends the daemon a signal.
    pub fn signal(&mut self, signal: &str) {
        if let Some(daemon) = &self.daemon {
            output(Command::new("kill").arg(signal).arg(daemon.id().to_string()));
        }
    }

    /// The process of the daemon.
    pub fn pid(&self) -> u32 {
        self.daemon.as_ref().expect("a daemon").id()
    }

    /// Asks the daemon to read its configuration again, and waits until it did, or refused.
    pub fn reload(&mut self) {
        let count = |log: &str| log.matches("configuration reloaded").count() + log.matches("reload refused").count();
        let before = count(&self.log());
        self.signal("-HUP");
        wait_until("reload", seconds(10), || count(&self.log()) > before);
    }

    /// Stops the daemon as systemd does.
    pub fn stop(&mut self) {
        self.signal("-TERM");
        if let Some(mut daemon) = self.daemon.take() {
            assert!(daemon.wait().expect("the daemon").success(), "{}", self.log());
        }
    }

    /// Whether the daemon lives.
    pub fn is_alive(&mut self) -> bool {
        self.daemon.as_mut().is_some_and(|daemon| daemon.try_wait().expect("the daemon").is_none())
    }

    /// Kills the daemon.
    pub fn kill(&mut self) {
        if let Some(mut daemon) = self.daemon.take() {
            let _ = daemon.kill();
            let _ = daemon.wait();
        }
    }

    /// Runs of a job, newest first.
    pub fn history(&self, job: &str) -> Vec<serde_json::Value> {
        self.json(&["job", "history", job, "-n", "10000"]).as_array().cloned().unwrap_or_default()
    }

    /// How many runs of a job ended in a state.
    pub fn count(&self, job: &str, state: &str) -> usize {
        self.history(job).iter().filter(|run| run["state"] == state).count()
    }

    /// The subjects of the mails in the folder, in order.
    pub fn mails(&self) -> Vec<String> {
        let mut names: Vec<_> = fs::read_dir(self.directory.join("mail"))
            .into_iter()
            .flatten()
            .filter_map(|entry| entry.ok().map(|entry| entry.path()))
            .filter(|path| path.extension().is_some_and(|extension| extension == "eml"))
            .collect();
        names.sort();
        names.iter().map(|path| subject(&fs::read_to_string(path).unwrap_or_default())).collect()
    }

    /// One row of the journal, by the sqlite3 program.
    pub fn journal(&self, query: &str) -> String {
        let journal = self.directory.join("state/journal.sqlite");
        output(Command::new("sqlite3").args(["-readonly", "-cmd", ".timeout 5000"]).arg(journal).arg(query))
            .trim()
            .to_owned()
    }
}

impl Drop for Installation {
    fn drop(&mut self) {
        self.kill();
        if std::thread::panicking() {
            eprintln!("the end of the daemon's log:\n{}", last_lines(&self.log()));
        }
    }
}

/// The subject of a mail, unfolded.
pub fn subject(mail: &str) -> String {
    let mut lines = mail.lines().skip_while(|line| !line.starts_with("Subject: "));
    let first = lines.next().unwrap_or_default().trim_start_matches("Subject: ").to_owned();
    lines.take_while(|line| line.starts_with(' ')).fold(first, |subject, line| subject + line)
}

/// Mail into a folder, and groups with somebody in them.
pub const MAIL: &str = "[mail]\ntransport = \"folder\"\nfolder = \"{dir}/mail\"\nfrom = \"pgbosun <pgbosun@localhost>\"\n\
                        [groups.database]\nrecipients = [\"dba@example.com\"]\ngather = \"0s\"\n";

/// A cluster and a repository.
pub fn cluster_and_repository(cluster: &Cluster) -> String {
    format!(
        "[clusters.main]\nconnection = \"{}\"\n[repositories.local]\ntype = \"local\"\npath = \"{{dir}}/repo\"\n",
        cluster.connection()
    )
}

/// A job that backs up, and one that tests.
pub fn backup_and_restore_test() -> String {
    format!(
        "[jobs.full]\nkind = \"backup.physical\"\nrepositories = [\"local\"]\n\
         [jobs.test]\nkind = \"restore-test\"\nprogram-directory = \"{}\"\namcheck = false\n",
        postgres("").display()
    )
}

/// A cluster that archives and whose place the configuration knows; with these jobs beside those that back up and test.
pub fn in_its_place(directory: &Path, jobs: &str) -> (Cluster, Installation) {
    let cluster = Cluster::start_with(directory, &Cluster::archiving(directory));
    let place = format!("[clusters.main]\ndata-directory = \"{}\"\n", cluster.data.display());
    let configuration = cluster_and_repository(&cluster).replace("[clusters.main]\n", &place);
    let text = format!("{configuration}{}{jobs}", backup_and_restore_test());
    let installation = Installation::new(directory, &text);
    (cluster, installation)
}

/// A session that has executed something and stays open until it is dropped.
pub struct Session(Child);

impl Session {
    /// Opens it; returns when the statements are done.
    pub fn open(cluster: &Cluster, statements: &str) -> Self {
        let mut command = Command::new(postgres("psql"));
        command.arg("-d").arg(cluster.connection()).args(["-Xqc", "select 1", "-f", "-"]);
        let mut child = command.stdin(Stdio::piped()).stdout(Stdio::null()).spawn().unwrap();
        writeln!(child.stdin.as_mut().unwrap(), "set application_name = 'opened'; {statements}").unwrap();
        wait_until("the session is idle", seconds(20), || {
            let asked =
                "select count(*) from pg_stat_activity where application_name = 'opened' and state like 'idle in%'";
            cluster.sql(asked) != "0"
        });
        Self(child)
    }
}

impl Drop for Session {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}
