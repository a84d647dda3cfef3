//! A day of faults in minutes: a real server and a real mail server, with the daemon's clock moved on by hand.
//!
//! `tests/day/expected.txt` says which mails the day must bring, and when: no other may come, and none be missing. Only the
//! mail of the kill between the mail server's answer and the record of it comes twice, with the same Message-ID.
//! With `PGBOSUN_DAY_TRANSCRIPT` the day is written there, which `make day-of-faults` does for `docs/day-of-faults.md`.

use crate::{
    channels::{Server, received},
    support::{Cluster, Installation, directory, file, output, postgres, seconds, set_clock, subject, wait_until},
};
use chrono::{DateTime, Duration, NaiveTime, Utc};
use std::{
    fmt::Write as _,
    fs,
    io::Write as _,
    path::Path,
    process::{Child, Command, Stdio},
};

/// How far the clock moves from check to check.
const TICK: i64 = 5;
/// Free bytes without which there is no day.
const LEAST: u64 = 4 << 30;

struct Day {
    installation: Installation,
    cluster: Cluster,
    midnight: DateTime<Utc>,
    minute: i64,
    transcript: String,
    mails: usize,
    mail_server: Option<Server>,
    mail_directory: std::path::PathBuf,
    mail_port: u16,
    session: Option<Child>,
    /// Bytes that fill the disk: a quarter of what is free, so that what others write meanwhile, or remove, is little beside it.
    fill: u64,
}

impl Day {
    fn begin(directory: &Path) -> Self {
        let mail_directory = directory.join("smtp");
        fs::create_dir(&mail_directory).unwrap();
        let mail_server = Server::mail(&mail_directory);
        let log = directory.join("log");
        fs::create_dir(&log).unwrap();
        let settings = format!(
            "logging_collector = on\nlog_directory = '{}'\nlog_filename = 'postgresql.log'\nlog_line_prefix = '%m [%p] %q%u@%d %h '\n\
             checkpoint_timeout = 1h",
            log.display()
        );
        let cluster = Cluster::start_with(directory, &settings);
        fs::write(
            cluster.data.join("pg_hba.conf"),
            "local all eve scram-sha-256\nlocal all all trust\nlocal replication all trust\n",
        )
        .unwrap();
        cluster.sql("create role eve login password 'hers'");
        cluster.sql("select pg_reload_conf()");
        let free = nix::sys::statvfs::statvfs(directory).unwrap();
        let free = free.blocks_available() * free.fragment_size();
        assert!(free > LEAST, "the day needs {} MB of free disk", LEAST >> 20);
        let fill = free / 4;
        let password = directory.join("password");
        fs::write(&password, "right password").unwrap();
        output(Command::new("chmod").arg("600").arg(&password));
        let configuration = fs::read_to_string(file("tests/day/pgbosun.toml"))
            .unwrap()
            .replace("{connection}", &cluster.connection())
            .replace("{port}", &mail_server.port.to_string())
            .replace("{floor}", &(free - fill / 2).to_string());
        let mut installation = Installation::new(directory, &configuration);
        let path = directory.join("pgbosun.toml");
        fs::write(&path, fs::read_to_string(&path).unwrap().replace("heartbeat = \"1s\"", "heartbeat = \"100ms\""))
            .unwrap();
        installation.clock = Some(directory.join("clock"));
        let midnight = (Utc::now() + Duration::days(1)).date_naive().and_time(NaiveTime::MIN).and_utc();
        let mail_port = mail_server.port;
        let mut day = Self {
            installation,
            cluster,
            midnight,
            minute: 0,
            transcript: String::new(),
            mails: 0,
            mail_server: Some(mail_server),
            mail_directory,
            mail_port,
            session: None,
            fill,
        };
        day.set_clock(0, 0);
        day.installation.start();
        day
    }

    /// The clock shows so many minutes and seconds of the day from now on.
    fn set_clock(&self, minute: i64, second: i64) {
        let ahead = self.midnight + Duration::minutes(minute) + Duration::seconds(second) - Utc::now();
        set_clock(self.installation.clock.as_ref().unwrap(), ahead.num_seconds());
    }

    /// So many seconds pass.
    fn pass(&self, seconds: i64) {
        let file = self.installation.clock.as_ref().unwrap();
        let ahead: i64 = fs::read_to_string(file).unwrap().trim().parse().unwrap();
        set_clock(file, ahead + seconds);
    }

    fn say(&mut self, words: &str) {
        writeln!(self.transcript, "{:02}:{:02}  {words}", self.minute / 60, self.minute % 60).unwrap();
    }

    /// Goes on to a time of the day, check by check.
    fn until(&mut self, hour: i64, minute: i64) {
        while self.minute < hour * 60 + minute {
            self.minute += TICK;
            self.set_clock(self.minute, 1);
            let at = (self.midnight + Duration::minutes(self.minute)).to_rfc3339();
            let at = at.get(..16).unwrap().to_owned();
            let unfinished = format!(
                "select count(*) from jobs where schedule is not null and not exists (select 1 from runs where job = jobs.name
                     and scheduled_for like '{at}%' and finished_at is not null) and (schedule like '*/5%' or '{at}' like '%:15')"
            );
            wait_until("everybody looked", seconds(60), || self.installation.journal(&unfinished) == "0");
            // What was found is gathered for ten seconds, from when it was found: a check may have taken its time.
            self.pass(30);
            self.settle();
        }
    }

    /// Waits until what is to be told is told, as far as it can be, and writes down what arrived.
    fn settle(&mut self) {
        let untold = "select count(*) from alerts where (state = 'open' and told_severity is not severity) or \
                      (state = 'resolved' and told_severity <> 'ok')";
        let mut last = String::new();
        wait_until("nothing moves", seconds(30), || {
            let pending = if self.mail_server.is_some() {
                "select count(*) from notifications n where state = 'pending' and attempts = 0 and not exists (select 1 from notifications e where e.state = 'pending' and e.attempts > 0)"
            } else {
                "select 0"
            };
            let now = format!(
                "{} {} {}",
                self.installation.journal(untold),
                self.installation.journal(pending),
                received(&self.mail_directory).len()
            );
            let still = now == last && self.installation.journal(pending) == "0";
            last = now;
            std::thread::sleep(std::time::Duration::from_millis(150));
            still
        });
        self.note_mails();
    }

    fn note_mails(&mut self) {
        for mail in received(&self.mail_directory).into_iter().skip(self.mails) {
            self.mails += 1;
            let (subject, id) = (subject(&mail), header(&mail, "Message-ID"));
            // The end of the identity, which chance made; its beginning is the time.
            let id = id.split('@').next().unwrap_or_default();
            let id = id.get(id.len().saturating_sub(8)..).unwrap_or_default().to_owned();
            let subject = subject.replace(&self.installation.directory.display().to_string(), "…");
            self.say(&format!("mail: {subject}  {id}"));
        }
    }

    fn open_transaction(&mut self) {
        let mut command = Command::new(postgres("psql"));
        command.arg("-d").arg(self.cluster.connection()).args(["-Xqc", "\\set ON_ERROR_STOP on", "-f", "-"]);
        let mut child = command.stdin(Stdio::piped()).stdout(Stdio::null()).spawn().unwrap();
        writeln!(child.stdin.as_mut().unwrap(), "begin; create temporary table t (); select 1;").unwrap();
        wait_until("it is open", seconds(10), || {
            self.cluster.sql("select count(*) from pg_stat_activity where state = 'idle in transaction' and now() - state_change > '2 s'") == "1"
        });
        self.session = Some(child);
    }

    fn close_transaction_quietly(&mut self) {
        if let Some(mut session) = self.session.take() {
            let _ = session.kill();
            let _ = session.wait();
        }
    }

    fn close_transaction(&mut self) {
        self.close_transaction_quietly();
        wait_until("it is over", seconds(10), || {
            self.cluster.sql("select count(*) from pg_stat_activity where state like 'idle in%'") == "0"
        });
    }

    fn fail_logins(&self, count: usize) {
        for _ in 0..count {
            let target = format!("host={} user=eve dbname=postgres password=wrong", self.cluster.socket.display());
            let tried = Command::new(postgres("psql")).args(["-Xqc", "select 1", "-d", &target]).output().unwrap();
            assert!(!tried.status.success());
        }
    }
}

impl Drop for Day {
    fn drop(&mut self) {
        self.close_transaction_quietly();
        if std::thread::panicking() {
            let broken = "select scheduled_for, job, state, summary from runs where state <> 'succeeded' order by id";
            eprintln!("{}\nruns that did not succeed:\n{}", self.transcript, self.installation.journal(broken));
        }
    }
}

fn header(mail: &str, name: &str) -> String {
    let prefix = format!("{name}: ");
    mail.lines().find_map(|line| line.strip_prefix(&prefix)).unwrap_or_default().to_owned()
}

#[test]
fn a_day_of_faults_brings_the_mails_that_were_written_down_before() {
    let directory = directory();
    let mut day = Day::begin(directory.path());
    day.until(1, 0);
    day.say("a transaction is left open");
    day.open_transaction();
    day.until(2, 0);
    day.say("it is closed");
    day.close_transaction();

    day.until(3, 0);
    day.say("a replication slot is left, and WAL goes on");
    day.cluster.sql("select pg_create_physical_replication_slot('left', true)");
    day.cluster.sql("create table wal as select repeat('x', 1000) from generate_series(1, 40000)");
    day.until(4, 0);
    day.say("it is dropped");
    day.cluster.sql("select pg_drop_replication_slot('left')");

    day.until(5, 0);
    day.say("somebody tries passwords");
    day.fail_logins(3);

    day.until(6, 0);
    day.say("the server is stopped");
    day.cluster.down();
    day.until(6, 30);
    day.say("it is back");
    day.cluster.up();

    day.until(8, 0);
    day.say("a disk fills");
    let large = directory.path().join("large");
    output(Command::new("fallocate").args(["-l", &day.fill.to_string()]).arg(&large));
    day.until(9, 0);
    day.say("there is room again");
    fs::remove_file(&large).unwrap();

    day.until(10, 0);
    day.say("the mail server is stopped");
    day.mail_server = None;
    day.until(10, 10);
    day.say("a transaction is left open");
    day.open_transaction();
    day.until(10, 20);
    day.say("the daemon is killed");
    day.installation.kill();
    day.installation.start();
    day.until(10, 40);
    day.say("the transaction is closed");
    day.close_transaction();
    day.until(11, 0);
    day.say("the mail server is back");
    day.mail_server = Some(Server::mail_at(&day.mail_directory.clone(), day.mail_port));

    day.until(13, 0);
    day.say("the daemon is to die when the mail server has taken the next mail, before that is written down");
    day.installation.stop();
    day.installation.fault = Some("message-taken".into());
    day.installation.start();
    day.fail_logins(1);
    day.minute += TICK;
    day.set_clock(day.minute, 1);
    wait_until("it has looked", seconds(30), || {
        day.installation.journal("select count(*) from alerts where state = 'open'") == "1"
    });
    wait_until("all have", seconds(30), || {
        day.installation.journal("select count(*) from runs where finished_at is null") == "0"
    });
    day.set_clock(day.minute, 30);
    wait_until("it is dead", seconds(30), || !day.installation.is_alive());
    day.note_mails();
    day.say("it is started again");
    day.installation.fault = None;
    day.installation.kill();
    day.installation.start();
    wait_until("the mail is sent", seconds(30), || {
        day.installation.journal("select count(*) from notifications where state = 'pending'") == "0"
    });
    day.settle();

    day.until(14, 0);
    day.say("a replication slot is left for the rest of the day");
    day.cluster.sql("select pg_create_physical_replication_slot('left', true)");
    day.cluster.sql("create table more as select repeat('x', 1000) from generate_series(1, 40000)");
    day.until(23, 0);
    day.say("it is dropped");
    day.cluster.sql("select pg_drop_replication_slot('left')");
    day.until(24, 0);
    day.installation.stop();

    if let Some(path) = std::env::var_os("PGBOSUN_DAY_TRANSCRIPT") {
        fs::write(path, &day.transcript).unwrap();
    }
    let mails: Vec<_> =
        received(&day.mail_directory).iter().map(|mail| (header(mail, "Message-ID"), subject(mail))).collect();
    assert!(mails.iter().all(|(id, _)| !id.is_empty()), "{mails:?}");
    // What came twice is the one that the daemon died over, as one message: of all others each has its own identity.
    let again: Vec<_> = (0..mails.len()).filter(|at| mails[..*at].iter().any(|(id, _)| *id == mails[*at].0)).collect();
    let [again] = again[..] else { panic!("second copies: {again:?}\n{}", day.transcript) };
    assert_eq!(mails[again], mails[again - 1], "{}", day.transcript);
    assert_eq!(mails[again].1, "[SECURITY] WARNING main: 1 failed login from this machine as eve");
    let came: Vec<_> = day
        .transcript
        .lines()
        .filter_map(|line| {
            let (time, mail) = line.split_once("  mail: ")?;
            Some(format!("{time} {}", mail.rsplit_once("  ")?.0))
        })
        .collect();
    let expected = fs::read_to_string(file("tests/day/expected.txt")).unwrap();
    let expected: Vec<_> = expected.lines().filter(|line| !line.starts_with('#') && !line.is_empty()).collect();
    let fits = came.len() == expected.len() && came.iter().zip(&expected).all(|(came, expected)| like(expected, came));
    assert!(fits, "expected:\n{}\ncame:\n{}\nthe day:\n{}", expected.join("\n"), came.join("\n"), day.transcript);
}

/// Whether a line is as expected, where `…` stands for figures.
fn like(expected: &str, line: &str) -> bool {
    let mut rest = line;
    let parts: Vec<&str> = expected.split('…').collect();
    let (first, last) = (parts[0], parts[parts.len() - 1]);
    if parts.len() == 1 {
        return expected == line;
    }
    for part in &parts {
        match rest.find(part) {
            Some(at) => rest = &rest[at + part.len()..],
            None => return false,
        }
    }
    line.starts_with(first) && line.ends_with(last)
}
