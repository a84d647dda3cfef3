//! Hostile input from everywhere at once, as long as `PGBOSUN_HOSTILE_SECONDS` says (a while in `make test`, an hour with `make hostile-hour`):
//! names, log lines, encodings, connections, answers of a channel, a file system that hangs. Memory stays flat, every monitor looks in
//! time, alerts are right, and what is shown to people was made visible.

use crate::{
    stores::Store,
    support::{Cluster, Installation, MAIL, directory, output, postgres, seconds, wait_until},
};
use std::{
    fs,
    io::{Read, Write},
    net::{TcpListener, TcpStream},
    os::unix::net::UnixStream,
    path::Path,
    process::{Command, Stdio},
    sync::atomic::{AtomicBool, AtomicUsize, Ordering::Relaxed},
    thread,
    time::{Duration, Instant},
};

/// Names and words that do something to a terminal, a mail, a page, a log or a statement.
const WORDS: [&str; 12] = [
    "\u{1b}[2J\u{1b}]0;owned\u{7}",
    "a\nFATAL:  password authentication failed for user \"ghost\"",
    "\u{202e}txt.exe",
    "'; drop table orders; --",
    "<script>alert(1)</script>",
    "%s%n%x{{ alert }}{% for %}",
    "a\rSubject: forged\r\nBcc: all@example.com",
    "=cmd|' /C calc'!A0",
    "\u{0}nul",
    "\u{feff}\u{200b}\u{2066}x\u{2069}",
    "ünï-çødé-名前-🐘",
    "\"quoted\" \\backslash",
];

/// Characters that change how others look: none of them is shown as it is.
fn is_visible(text: &str) -> Result<(), String> {
    let bad = |c: &char| {
        (c.is_control() && !['\n', '\r', '\t'].contains(c))
            || matches!(*c, '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}' | '\u{200b}' | '\u{feff}')
    };
    match text.lines().find(|line| line.chars().any(|c| bad(&c))) {
        Some(line) => Err(format!("{line:?}")),
        None => Ok(()),
    }
}

struct Attack<'a> {
    over: &'a AtomicBool,
    rounds: &'a AtomicUsize,
}

impl Attack<'_> {
    fn repeat(&self, pause: Duration, mut round: impl FnMut(usize)) {
        let mut count = 0;
        while !self.over.load(Relaxed) {
            round(count);
            count += 1;
            self.rounds.fetch_add(1, Relaxed);
            thread::sleep(pause);
        }
    }
}

fn psql(socket: &Path, user: &str, database: &str, statements: &[u8]) {
    let mut command = Command::new(postgres("psql"));
    let quoted = |text: &str| format!("'{}'", text.replace('\\', "\\\\").replace('\'', "\\'"));
    let (user, database) = (user.replace('\0', "0"), database.replace('\0', "0"));
    let connection = format!("host={} user={} dbname={}", socket.display(), quoted(&user), quoted(&database));
    command.args(["-XAtq", "-d", &connection]).env("PGPASSWORD", "wrong").env("PGCONNECT_TIMEOUT", "5");
    let spawned = command.stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::null()).spawn();
    let mut child = spawned.unwrap();
    let _ = child.stdin.take().unwrap().write_all(statements);
    let _ = child.wait();
}

/// Bytes of memory that are the daemon's own.
fn memory(pid: u32) -> usize {
    let text = fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let line = text.lines().find(|line| line.starts_with("RssAnon:")).unwrap();
    line.split_whitespace().nth(1).unwrap().parse::<usize>().unwrap() * 1024
}

#[test]
fn hostile_input_from_everywhere_at_once_changes_nothing() {
    let length = std::env::var("PGBOSUN_HOSTILE_SECONDS").ok().and_then(|text| text.parse().ok()).unwrap_or(70);
    let directory = directory();
    let dir = directory.path();
    fs::create_dir(dir.join("log")).unwrap();
    let cluster = Cluster::start_with(
        dir,
        &format!(
            "logging_collector = on\nlog_destination = 'csvlog'\nlog_directory = '{0}/log'\nlog_rotation_size = '4MB'\n\
             log_filename = 'p-%H%M%S.log'\nmax_connections = 60\n",
            dir.display()
        ),
    );
    cluster.sql("create role nope login password 'right'");
    cluster.sql("create database raw template template0 encoding 'SQL_ASCII' lc_collate 'C' lc_ctype 'C'");
    let hba = fs::read_to_string(cluster.data.join("pg_hba.conf")).unwrap();
    fs::write(cluster.data.join("pg_hba.conf"), format!("local all nope scram-sha-256\n{hba}")).unwrap();
    cluster.sql("select pg_reload_conf()");
    // Where this user may mount.
    let may_mount = fs::File::options().write(true).open("/dev/fuse").is_ok();
    let share = may_mount.then(|| Store::start(dir, "fuse"));
    let mount = share.as_ref().map_or_else(|| dir.join("plain"), Store::mount);
    let answers = TcpListener::bind("127.0.0.1:0").unwrap();
    let metrics = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let configuration = |monitors: &str| {
        format!(
            "metrics-address = \"{metrics}\"\n{MAIL}[clusters.main]\nconnection = \"{}\"\nwatch = true\nlog-directory = \"{{dir}}/log\"\n\
             data-directory = \"{}\"\n[channels.hook]\ntype = \"webhook\"\nurl = \"http://{}/\"\ntimeout = \"2s\"\n\
             [groups.security]\nchannels = [\"mail\", \"hook\"]\nrecipients = [\"dba@example.com\"]\n\
             [repositories.share]\ntype = \"local\"\npath = \"{}/repo\"\nrequired = false\n{monitors}",
            cluster.connection(),
            cluster.data.display(),
            answers.local_addr().unwrap(),
            mount.display()
        )
    };
    let mut installation = Installation::new(dir, "");
    let configure = |installation: &Installation, monitors: &str| {
        installation.configure(&configuration(monitors));
        let file = dir.join("pgbosun.toml");
        let text = fs::read_to_string(&file).unwrap().replace("metrics-address = \"off\"\n", "");
        fs::write(file, text.replacen("\nwatch = false\n", "\n", 1)).unwrap();
    };
    configure(&installation, "");
    // Every monitor of the defaults, three times a minute.
    let listed = installation.json(&["job", "list"]);
    let text = |job: &serde_json::Value, key: &str| job[key].as_str().unwrap().to_owned();
    let monitors: Vec<_> =
        listed.as_array().unwrap().iter().map(|job| (text(job, "name"), text(job, "kind"))).collect();
    let lines = |(name, kind): &(String, String)| {
        // It measures for as long as the pause between two checks.
        let sample = if kind == "monitor.cpu" { "sample = \"5s\"\n" } else { "" };
        format!("[jobs.{name}]\nkind = \"{kind}\"\nschedule = \"*/20 * * * * *\"\n{sample}")
    };
    assert!(monitors.len() > 40, "{monitors:?}");
    configure(&installation, &monitors.iter().map(lines).collect::<String>());
    installation.start();
    let pid = installation.pid();

    let (over, rounds, begun) = (AtomicBool::new(false), AtomicUsize::new(0), Instant::now());
    let (mut least, mut most) = (usize::MAX, 0);
    thread::scope(|scope| {
        let attack = || Attack { over: &over, rounds: &rounds };
        let socket = &cluster.socket;
        // Logins that fail, with any names; statements that fail, with any words in them.
        scope.spawn(move || {
            attack().repeat(Duration::from_millis(40), |round| {
                let word = WORDS[round % WORDS.len()];
                psql(socket, word, "postgres", b"");
                psql(socket, "nope", word, b"");
                psql(
                    socket,
                    "postgres",
                    "postgres",
                    format!("set application_name = $${word}$$; select {word}").as_bytes(),
                );
            });
        });
        // Databases, roles and tables of any name and encoding, which come and go.
        scope.spawn(move || {
            attack().repeat(Duration::from_millis(200), |round| {
                let name = format!("\"{}\"", WORDS[round % WORDS.len()].replace('"', "\"\"").replace('\0', ""));
                let statements = format!(
                    "drop database if exists {name}; create database {name}; drop role if exists {name}; create role {name} login superuser;
                     drop role {name}; create table if not exists {name} as select 1 as {name}; drop table {name}; drop database {name};"
                );
                psql(socket, "postgres", "postgres", statements.as_bytes());
                psql(socket, "postgres", "raw", b"create table \"\xff\xfe\x80\" as select 1 as \"\xc3\"; drop table \"\xff\xfe\x80\"");
            });
        });
        // Connections that say nothing, or nonsense, and are kept.
        let control = dir.join("control.sock");
        scope.spawn(move || {
            let (mut open, mut held) = (Vec::new(), Vec::new());
            attack().repeat(Duration::from_millis(20), |round| {
                if let Ok(mut stream) = TcpStream::connect(metrics) {
                    let _ = stream.write_all(if round % 2 == 0 { b"GET /metr" } else { b"\x16\x03\x01\xff\xff\0\0" });
                    open.push(stream);
                }
                if let Ok(mut stream) = UnixStream::connect(&control) {
                    let _ = stream.write_all(b"POST /jobs/x/run HTTP/1.1\r\ncontent-length: 9999999\r\n\r\n{");
                    held.push(stream);
                }
                if open.len() > 100 {
                    open.clear();
                    held.clear();
                }
            });
        });
        // A channel that answers without end, slowly, or with nonsense.
        let listener = &answers;
        listener.set_nonblocking(true).unwrap();
        scope.spawn(move || {
            attack().repeat(Duration::from_millis(50), |round| {
                let Ok((mut stream, _)) = listener.accept() else { return };
                let _ = stream.set_nonblocking(false);
                let _ = stream.set_write_timeout(Some(Duration::from_secs(1)));
                let _ = stream.set_read_timeout(Some(Duration::from_millis(200)));
                let _ = stream.read(&mut [0; 4096]);
                match round % 3 {
                    0 => {
                        let _ = stream.write_all(b"HTTP/1.1 200 OK\r\n\r\n");
                        for _ in 0..500 {
                            if stream.write_all(&[b'x'; 1 << 16]).is_err() {
                                break;
                            }
                        }
                    }
                    1 => drop(
                        stream.write_all("HTTP/1.1 500 \u{1b}[31m\r\nx: \u{202e}\r\n\r\n\u{1b}]0;x\u{7}".as_bytes()),
                    ),
                    _ => drop(stream.write_all(b"\0\xff\xff garbage")),
                }
            });
        });
        // A file system that hangs, and comes back.
        let share = &share;
        scope.spawn(move || {
            let Some(share) = share else { return };
            attack()
                .repeat(Duration::from_secs(5), |round| share.signal(if round % 2 == 0 { "-STOP" } else { "-CONT" }));
            share.signal("-CONT");
        });

        while begun.elapsed() < Duration::from_secs(length) && !thread::panicking() {
            thread::sleep(Duration::from_secs(1));
            // What a daemon needs at all it has after a third of the time.
            if begun.elapsed() > Duration::from_secs(length / 3) {
                let now = memory(pid);
                (least, most) = (least.min(now), most.max(now));
            }
        }
        over.store(true, Relaxed);
    });
    assert!(rounds.load(Relaxed) > 100, "{rounds:?}");
    assert!(most - least < 48 << 20, "from {} MiB to {} MiB", least >> 20, most >> 20);
    assert_eq!(pid, installation.pid(), "it is another daemon");

    // Every monitor looked every time, and came to its end.
    let times = "select job || ': ' || count(*) as line from runs where trigger = 'schedule' and state = 'succeeded' group by job";
    let answered = installation.journal(&format!("select group_concat(line, char(10)) from ({times})"));
    let expected = (length / 20).saturating_sub(1);
    for (monitor, _) in &monitors {
        let count = answered.lines().find_map(|line| line.strip_prefix(&format!("{monitor}: "))).unwrap_or("0");
        let few = count.parse::<u64>().unwrap() < expected;
        let states = format!(
            "select group_concat(state || ' ' || coalesce(error, ''), char(10)) from runs where job = '{monitor}' and state <> 'succeeded'"
        );
        assert!(!few, "{monitor} looked {count} times of {expected}: {}", installation.journal(&states));
    }
    // What is wrong is told, and nothing else of the kind: the names that only a log line made are nobody's.
    wait_until("alert", seconds(40), || {
        installation.journal("select count(*) from alerts where job = 'main-failed-logins'") != "0"
    });
    let ghosts = "select count(*) from alerts where job = 'main-failed-logins' and fingerprint like '%ghost%'";
    assert_eq!(installation.journal(ghosts), "0");
    assert_eq!(installation.journal("select count(*) from alerts where job = 'main-connectivity'"), "0");
    // Everything that people see.
    wait_until("mail", seconds(40), || !installation.mails().is_empty());
    for arguments in
        [&["status"][..], &["alert", "list", "--all"], &["check"], &["job", "history", "-n", "200"], &["job", "list"]]
    {
        let done = installation.try_run(arguments);
        for text in [done.stdout, done.stderr] {
            is_visible(&String::from_utf8(text).unwrap()).unwrap_or_else(|line| panic!("{arguments:?}: {line}"));
        }
    }
    for subject in installation.mails() {
        is_visible(&subject).unwrap_or_else(|line| panic!("a mail: {line}"));
    }
    let read = "import email, email.policy, glob, sys\n\
        for file in glob.glob(sys.argv[1] + '/*.eml'):\n\
        \x20mail = email.message_from_binary_file(open(file, 'rb'), policy=email.policy.default)\n\
        \x20print(*mail.keys())\n\
        \x20for part in mail.walk():\n\
        \x20 if part.get_content_type() in ('text/html', 'text/plain'): print(part.get_content_type(), part.get_content())\n";
    let mails = output(Command::new("/usr/bin/python3").args(["-c", read]).arg(dir.join("mail")));
    is_visible(&mails).unwrap_or_else(|line| panic!("a mail: {line}"));
    let pages = mails.split("text/html ").skip(1).map(|rest| rest.split("text/plain ").next().unwrap());
    assert!(pages.clone().count() > 0 && !pages.clone().any(|page| page.contains("<script")), "a page with a script");
    assert!(!mails.contains("Bcc To") && !mails.contains(" Bcc "), "a header was forged");
    is_visible(&installation.log()).unwrap_or_else(|line| panic!("the log: {line}"));
}
