//! Every monitor against a real server: brought into a state in which it fires, and in one in which it stays quiet.

use crate::support::{
    Cluster, Installation, MAIL, cluster_and_repository, directory, output, postgres, seconds, wait_until,
};
use pgbosun_repository::BackupInfo;
use std::{
    fmt::Write as _,
    fs,
    io::{BufRead, BufReader, Write as _},
    net::UdpSocket,
    path::Path,
    process::{Child, Command, Output, Stdio},
    thread::JoinHandle,
    time::{SystemTime, UNIX_EPOCH},
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
pub fn look(installation: &Installation, job: &str) -> Vec<String> {
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
        assert_eq!(look(installation, job), [""; 0], "{job}");
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

#[test]
fn availability() {
    let directory = directory();
    let cluster = Cluster::start(directory.path());
    let monitors = [
        "connectivity",
        "connectivity/slow: slow = \"1us\"",
        "role",
        "role/wrong: expected = \"standby\"",
        "restart",
        // The machine may have newer packages than it has installed.
        "version: packages = false",
        "version/old: packages = false; minimum = [\"15.99\", \"16.99\", \"17.99\", \"18.99\"]",
        "settings",
        "certificate",
    ];
    let installation = installation(directory.path(), &cluster, &monitors);
    all_quiet(&installation, &["connectivity", "role", "restart", "version", "settings", "certificate"]);
    assert_eq!(look(&installation, "connectivity-slow"), ["warning connection"]);
    assert_eq!(look(&installation, "role-wrong"), ["critical role"]);
    assert_eq!(look(&installation, "version-old"), ["warning minor version"]);

    cluster.sql("alter system set work_mem = '5MB'");
    cluster.sql("alter system set max_connections = 77");
    cluster.sql("select pg_reload_conf()");
    wait_until("the settings change", seconds(10), || look(&installation, "settings").len() == 2);
    assert_eq!(look(&installation, "settings"), ["warning changed", "warning pending restart"]);
    // That a password changed is told, and the password nowhere.
    cluster.sql("alter system set primary_conninfo = 'host=nowhere password=hush'");
    cluster.sql("select pg_reload_conf()");
    let changed = "select count(*) from findings where job = 'settings' and detail like '%primary_conninfo: changed%'";
    wait_until("the change is told", seconds(10), || {
        look(&installation, "settings");
        installation.journal(changed) != "0"
    });
    let kept = "select count(*) from job_states where job = 'settings' and state like '%primary_conninfo%'";
    assert_eq!(installation.journal(kept), "1");
    for table in ["findings", "job_states"] {
        let rows = installation.journal(&format!("select * from {table}"));
        assert!(!rows.contains("hush"), "{table}: {rows}");
    }
    fs::write(cluster.data.join("postgresql.conf"), "max_connections = many\n").unwrap();
    assert!(look(&installation, "settings").contains(&"critical configuration files".to_owned()));
    fs::write(cluster.data.join("postgresql.conf"), "").unwrap();

    for (days, expected) in [("3", Some("critical")), ("20", Some("warning")), ("90", None)] {
        let (key, certificate) = (cluster.data.join("server.key"), cluster.data.join("server.crt"));
        let mut openssl = Command::new("openssl");
        openssl.args(["req", "-x509", "-nodes", "-newkey", "rsa:2048", "-subj", "/CN=db", "-days", days, "-keyout"]);
        output(openssl.arg(&key).arg("-out").arg(&certificate).stderr(Stdio::null()));
        output(Command::new("chmod").arg("600").arg(&key));
        cluster.sql("alter system set ssl = on");
        cluster.sql("select pg_reload_conf()");
        wait_until("TLS is on", seconds(10), || cluster.sql("show ssl") == "on");
        let expected: Vec<_> = expected.iter().map(|word| format!("{word} {}", certificate.display())).collect();
        assert_eq!(look(&installation, "certificate"), expected, "{days} days");
    }

    cluster.down();
    cluster.up();
    assert_eq!(look(&installation, "restart"), ["warning restart"]);
    cluster.down();
    assert_eq!(look(&installation, "connectivity"), ["critical connection"]);
}

#[test]
fn capacity() {
    let directory = directory();
    let cluster = Cluster::start_with(directory.path(), "work_mem = '64kB'\nmax_parallel_workers_per_gather = 0");
    let monitors = [
        "connections",
        "connections/few: warning-percent = 1",
        "database-size",
        "database-size/small: warning-size = \"1MB\"",
        "tablespaces",
        "tablespaces/small: warning-size = \"2MB\"",
        "wal-size",
        "wal-size/small: warning-times = 0.001",
        "temp-bytes",
        "temp-bytes/few: warning-per-hour = \"1MB\"",
    ];
    let installation = installation(directory.path(), &cluster, &monitors);
    all_quiet(
        &installation,
        &["connections", "database-size", "tablespaces", "wal-size", "temp-bytes", "temp-bytes-few"],
    );
    let _sessions = [Session::open(&cluster, "select 1;"), Session::open(&cluster, "select 1;")];
    wait_until("the sessions are there", seconds(10), || look(&installation, "connections-few").len() == 1);
    assert!(told(&installation, "connections-few").contains("connections of postgres to postgres"));
    assert!(look(&installation, "database-size-small").contains(&"warning size of postgres".to_owned()));
    assert_eq!(look(&installation, "tablespaces-small"), ["warning pg_default"]);
    assert_eq!(look(&installation, "wal-size-small"), ["warning pg_wal"]);
    cluster.sql("select count(*) from (select i from generate_series(1, 300000) i order by md5(i::text)) x");
    wait_until("the statistics arrive", seconds(10), || look(&installation, "temp-bytes-few") == ["warning postgres"]);
    assert_eq!(look(&installation, "temp-bytes"), [""; 0]);
}

#[test]
fn transactions() {
    let directory = directory();
    let cluster = Cluster::start_with(directory.path(), "max_prepared_transactions = 2\ndeadlock_timeout = '100ms'");
    let limits = "warning = \"1s\"; warning-idle = \"1s\"; warning-prepared = \"1s\"";
    let monitors = [
        "xid-age",
        "xid-age/young: warning-age = 100",
        "long-transactions",
        &format!("long-transactions/short: {limits}"),
        "locks",
        "locks/short: warning = \"1s\"",
        "deadlocks",
    ];
    let installation = installation(directory.path(), &cluster, &monitors);
    cluster.sql("create table t (id int primary key, n int); insert into t select i, 0 from generate_series(1, 10) i");
    all_quiet(
        &installation,
        &["xid-age", "long-transactions", "long-transactions-short", "locks", "locks-short", "deadlocks"],
    );
    let holder = Session::open(&cluster, "begin; update t set n = 1 where id = 1;");
    wait_until("it holds the row", seconds(10), || {
        cluster.sql("select count(*) from pg_stat_activity where state = 'idle in transaction'") == "1"
    });
    let waiter = Session::open(&cluster, "update t set n = 2 where id = 1;");
    let worker = Session::open(&cluster, "select pg_sleep(600);");
    let prepared = Session::open(&cluster, "begin; insert into t values (11, 0); prepare transaction 'left over';");
    for _ in 0..200 {
        cluster.sql("select txid_current()");
    }
    wait_until("a wait of a second", seconds(20), || look(&installation, "locks-short") == ["warning locks"]);
    let chain = told(&installation, "locks-short");
    assert!(chain.contains("idle in transaction") && chain.contains("\n    process"), "{chain}");
    let expected = ["warning idle in transaction", "warning long transaction", "warning prepared transaction"];
    wait_until("a second", seconds(20), || look(&installation, "long-transactions-short") == expected);
    let found = look(&installation, "xid-age-young");
    assert!(found.contains(&"warning transactions of postgres".to_owned()), "{found:?}");
    let named = told(&installation, "xid-age-young");
    assert!(named.contains("prepared transaction left over") && named.contains("session process"), "{named}");
    assert_eq!(look(&installation, "long-transactions"), [""; 0]);
    drop((holder, waiter, worker, prepared));
    let waiter = Session::open(&cluster, "insert into t values (11, 1);");
    wait_until("who is prepared blocks", seconds(20), || {
        look(&installation, "locks-short") == ["warning locks"]
            && told(&installation, "locks-short")
                .contains("prepared transaction left over of postgres in postgres\n    process")
    });
    assert!(told(&installation, "locks-short").contains("ROLLBACK PREPARED"));
    cluster.sql("rollback prepared 'left over'");
    drop(waiter);

    let mut both = ["1", "2"].map(|first| {
        let second = if first == "1" { "2" } else { "1" };
        Session::open(
            &cluster,
            &format!(
                "begin; update t set n = 3 where id = {first}; select pg_sleep(1); update t set n = 3 where id = {second}; commit; select 1;"
            ),
        )
    });
    wait_until("the server ends the deadlock", seconds(30), || {
        look(&installation, "deadlocks") == ["warning postgres"]
    });
    both.iter_mut().for_each(|session| drop(session.0.stdin.take()));
}

#[test]
fn replication() {
    let directory = directory();
    let cluster = Cluster::start(directory.path());
    let monitors = [
        "replication-lag",
        "replication-lag/expected: standbys = [\"standby1\"]",
        "slots",
        "slots/short: inactive = \"1s\"",
        "standby",
    ];
    let installation = installation(directory.path(), &cluster, &monitors);
    all_quiet(&installation, &["replication-lag", "slots", "slots-short", "standby"]);
    assert_eq!(look(&installation, "replication-lag-expected"), ["critical standby1"]);
    cluster.sql("select pg_create_physical_replication_slot('left_over', true)");
    wait_until("nobody uses it", seconds(20), || look(&installation, "slots-short") == ["warning left_over"]);
    assert_eq!(look(&installation, "slots"), [""; 0]);

    let place = directory.path().join("second");
    fs::create_dir(&place).unwrap();
    let mut copy = Command::new(postgres("pg_basebackup"));
    let connection = format!("{} application_name=standby1", cluster.connection());
    output(copy.arg("-d").arg(connection).arg("-D").arg(place.join("pg")).args(["-R", "-c", "fast"]));
    let standby = Cluster::adopt(&place.join("pg"), &place);
    wait_until("the standby is there", seconds(20), || look(&installation, "replication-lag-expected").is_empty());
    let second =
        self::installation(&place, &standby, &["standby", "role: expected = \"standby\"", "slots", "wal-archive"]);
    wait_until("it streams", seconds(20), || look(&second, "standby").is_empty());
    assert_eq!([look(&second, "role"), look(&second, "slots"), look(&second, "wal-archive")], [[""; 0]; 3]);
    standby.sql("select pg_wal_replay_pause()");
    assert_eq!(look(&second, "standby"), ["warning replay"]);
    cluster.down();
    wait_until("it notices", seconds(30), || look(&second, "standby").contains(&"critical receiver".to_owned()));
}

#[test]
fn health() {
    let directory = directory();
    let settings = "autovacuum = off\nshared_preload_libraries = 'pg_stat_statements'\npg_stat_statements.max = 100\n\
                    checkpoint_timeout = '1h'";
    let cluster = Cluster::start_with(directory.path(), settings);
    let monitors = [
        "cache-hit",
        "cache-hit/always: warning-percent = 101.0; minimum-reads = 0.0",
        "checkpoints",
        "checksums",
        "invalid-indexes",
        "unlogged",
        "sequences",
        "statistics",
        "autovacuum",
        "vacuum",
        "bloat: minimum = \"1MB\"",
        "statements",
    ];
    let installation = installation(directory.path(), &cluster, &monitors);
    cluster.sql("create extension pg_stat_statements");
    let quiet = [
        "cache-hit",
        "cache-hit-always",
        "checkpoints",
        "checksums",
        "invalid-indexes",
        "unlogged",
        "sequences",
        "statistics",
        "vacuum",
        "bloat",
        "statements",
    ];
    all_quiet(&installation, &quiet);
    assert_eq!(look(&installation, "autovacuum"), ["critical autovacuum"]);
    cluster.sql("alter system set autovacuum = on");
    cluster.sql("alter system set autovacuum_naptime = '1d'");
    cluster.sql("select pg_reload_conf()");
    wait_until("autovacuum is on", seconds(10), || look(&installation, "autovacuum").is_empty());

    cluster.sql(
        "create table wide (id int, filler text); insert into wide select i, repeat('x', 200) from generate_series(1, 100000) i;
         create unlogged table lost (i int);
         create table doubled (i int); insert into doubled values (1), (1);
         create table numbered (id serial, n int); select setval('numbered_id_seq', 2000000000)",
    );
    assert!(
        Command::new(postgres("psql"))
            .arg("-d")
            .arg(cluster.connection())
            .args(["-Xqc", "create unique index concurrently broken on doubled (i)"])
            .stderr(Stdio::null())
            .status()
            .is_ok_and(|status| !status.success())
    );
    assert_eq!(look(&installation, "invalid-indexes"), ["warning postgres"]);
    assert!(told(&installation, "invalid-indexes").contains("public.broken on public.doubled"));
    assert_eq!(look(&installation, "unlogged"), ["warning postgres"]);
    assert_eq!(look(&installation, "sequences"), ["critical public.numbered_id_seq in postgres"]);
    wait_until("the statistics arrive", seconds(10), || look(&installation, "statistics") == ["warning postgres"]);
    cluster.sql("analyze wide");
    wait_until("it is analysed", seconds(10), || look(&installation, "statistics").is_empty());
    cluster.sql("delete from wide where id > 20000");
    wait_until("the statistics arrive", seconds(10), || look(&installation, "vacuum") == ["warning postgres"]);
    cluster.sql("vacuum (analyze, truncate off) wide");
    wait_until("it is vacuumed", seconds(10), || look(&installation, "vacuum").is_empty());
    assert_eq!(look(&installation, "bloat"), ["warning public.wide in postgres"]);

    for _ in 0..4 {
        cluster.sql("checkpoint");
    }
    wait_until("the statistics arrive", seconds(10), || look(&installation, "checkpoints") == ["warning checkpoints"]);
    let mut statements = String::new();
    for number in 0..160 {
        write!(statements, "select 1{};", " + 1".repeat(number)).unwrap();
    }
    cluster.sql(&statements);
    wait_until("a second", seconds(10), || look(&installation, "statements") == ["warning evictions"]);
    cluster.sql("select count(*) from wide");
    wait_until("the statistics arrive", seconds(10), || {
        look(&installation, "cache-hit-always").contains(&"warning postgres".to_owned())
    });

    // A bit flips on the disk.
    let path = cluster.sql("select pg_relation_filepath('wide')");
    cluster.sql("checkpoint");
    cluster.down();
    let path = cluster.data.join(path);
    let mut bytes = fs::read(&path).unwrap();
    bytes[4000] ^= 1;
    fs::write(&path, bytes).unwrap();
    cluster.up();
    let mut read = Command::new(postgres("psql"));
    let _ = read.arg("-d").arg(cluster.connection()).args(["-Xqc", "select count(*) from wide"]).output();
    wait_until("the statistics arrive", seconds(10), || look(&installation, "checksums") == ["critical postgres"]);
}

#[test]
fn host() {
    let directory = directory();
    let cluster = Cluster::start(directory.path());
    // A machine that is gone: a listener whose queue is full answers nothing.
    let silent = "import socket, time\nl = socket.socket()\nl.bind(('127.0.0.1', 0))\nl.listen(0)\nc = [socket.socket() for _ in range(3)]\n\
                  for s in c: s.setblocking(False); s.connect_ex(l.getsockname())\nprint(l.getsockname()[1], flush=True)\ntime.sleep(600)";
    let mut silent = Command::new("/usr/bin/python3").args(["-c", silent]).stdout(Stdio::piped()).spawn().unwrap();
    let mut port = String::new();
    BufReader::new(silent.stdout.take().unwrap()).read_line(&mut port).unwrap();
    let gone = format!("reachability/gone: hosts = [\"127.0.0.1:{}\"]; limit = \"300ms\"; tries = 1", port.trim());
    let monitors = [
        "cpu: sample = \"200ms\"; warning-percent = 101.0; critical-percent = 101.0; warning-load = 1000.0; critical-load = 1000.0",
        "cpu/busy: sample = \"500ms\"; warning-percent = 20.0; critical-percent = 101.0",
        "memory: warning-percent = 99.9; critical-percent = 100.0; warning-swap-percent = 100.0; critical-swap-percent = 100.0",
        "memory/low: warning-percent = 0.1",
        "pressure: warning-io-percent = 100.0; critical-io-percent = 100.0; warning-memory-percent = 100.0; critical-memory-percent = 100.0",
        "clock",
        "permissions",
        "temporary-files",
        "log-size",
        "log-size/small: warning-size = \"10B\"",
        "reachability: hosts = [\"127.0.0.1:1\"]",
        &gone,
    ];
    let installation = installation(directory.path(), &cluster, &monitors);
    output(Command::new("chmod").args(["-R", "go="]).arg(&cluster.data));
    all_quiet(&installation, &["cpu", "memory", "pressure", "permissions", "temporary-files", "log-size"]);
    // A machine that refuses is there.
    all_quiet(&installation, &["reachability"]);
    assert_eq!(look(&installation, "reachability-gone"), ["critical 127.0.0.1"]);
    let _ = silent.kill();
    let _ = silent.wait();
    // Whether this machine's clock is kept in step is its own affair.
    look(&installation, "clock");
    let mut busy = Command::new("sh").args(["-c", "while :; do :; done"]).spawn().unwrap();
    wait_until("a processor is busy", seconds(20), || {
        look(&installation, "cpu-busy").contains(&"warning cpu".to_owned())
    });
    let _ = busy.kill();
    let _ = busy.wait();
    assert!(told(&installation, "cpu-busy").contains(" %  "), "{}", told(&installation, "cpu-busy"));
    assert_eq!(look(&installation, "memory-low")[0], "warning memory");
    fs::write(directory.path().join("log/postgresql.log"), "much was said").unwrap();
    assert_eq!(look(&installation, "log-size-small"), ["warning logs"]);
    let key = cluster.data.join("server.key");
    fs::write(&key, "secret").unwrap();
    output(Command::new("chmod").arg("644").arg(&key));
    assert_eq!(look(&installation, "permissions"), [format!("warning {}", key.display())]);

    // Left over by a process that is gone, by one that lives, and a young one.
    let place = cluster.data.join("base/pgsql_tmp");
    fs::create_dir_all(&place).unwrap();
    let alive = cluster.sql("select pid from pg_stat_activity where backend_type = 'checkpointer'");
    for (name, age) in [
        ("pgsql_tmp999999.0".to_owned(), "2 days ago"),
        (format!("pgsql_tmp{alive}.0"), "2 days ago"),
        ("pgsql_tmp999998.0".into(), "now"),
    ] {
        fs::write(place.join(&name), "data").unwrap();
        output(Command::new("touch").args(["-d", age]).arg(place.join(&name)));
    }
    assert_eq!(look(&installation, "temporary-files"), ["warning removed"]);
    assert!(told(&installation, "temporary-files").contains("pgsql_tmp999999.0"));
    assert_eq!(look(&installation, "temporary-files"), [""; 0], "what was removed is told once");
    let mut left: Vec<_> =
        fs::read_dir(&place).unwrap().flatten().map(|entry| entry.file_name().into_string().unwrap()).collect();
    left.sort();
    let mut expected = vec![format!("pgsql_tmp{alive}.0"), "pgsql_tmp999998.0".to_owned()];
    expected.sort();
    assert_eq!(left, expected);
    let once =
        "select count(*) from runs where job = 'temporary-files' and summary like '1 left over files removed (4 B)%'";
    assert_eq!(installation.journal(once), "1");
}

#[test]
fn failed_logins_in_every_format_once() {
    let directory = directory();
    for destination in ["stderr", "csvlog", "jsonlog"] {
        let place = directory.path().join(destination);
        fs::create_dir(&place).unwrap();
        let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let log = place.join("log");
        fs::create_dir(&log).unwrap();
        let settings = format!(
            "listen_addresses = '127.0.0.1'\nport = {port}\nlogging_collector = on\nlog_destination = '{destination}'\n\
             log_directory = '{}'\nlog_filename = 'postgresql-%H.log'\nlog_line_prefix = '%m [%p] %q%u@%d %h '",
            log.display()
        );
        let mut cluster = Cluster::start_with(&place, &settings);
        let hba = "local all all trust\nhost all all 127.0.0.1/32 scram-sha-256\n";
        fs::write(cluster.data.join("pg_hba.conf"), hba).unwrap();
        cluster = {
            cluster.down();
            cluster.up();
            cluster
        };
        let text = format!(
            "{MAIL}[clusters.main]\nconnection = \"host={} port={port} user=postgres dbname=postgres\"\nlog-directory = \"{}\"\n\
             [jobs.logins]\nkind = \"monitor.failed-logins\"\ncritical = 3\n",
            place.display(),
            log.display()
        );
        let installation = Installation::new(&place, &text);
        let fail = || {
            let mut psql = Command::new(postgres("psql"));
            let target = format!("host=127.0.0.1 port={port} user=eve dbname=shop password=wrong");
            assert!(!psql.args(["-Xqc", "select 1", "-d", &target]).output().unwrap().status.success());
        };
        fail();
        assert_eq!(look(&installation, "logins"), [""; 0], "{destination}: what was before the first look");
        fail();
        wait_until("it is in the log", seconds(10), || !look(&installation, "logins").is_empty());
        assert_eq!(look(&installation, "logins"), ["warning 127.0.0.1"], "{destination}: counted once");
        let words = told(&installation, "logins");
        assert!(words.contains("1 failed login from 127.0.0.1 as eve") && words.contains("database shop"), "{words}");
        // Rotated, with the file renamed.
        for entry in fs::read_dir(&log).unwrap().flatten() {
            fs::rename(entry.path(), log.join(format!("{}.1", entry.file_name().to_string_lossy()))).unwrap();
        }
        cluster_sql(&cluster, port, "select pg_rotate_logfile()");
        std::thread::sleep(seconds(1));
        fail();
        fail();
        wait_until("all are counted", seconds(10), || look(&installation, "logins") == ["critical 127.0.0.1"]);
        assert!(told(&installation, "logins").contains("3 failed logins"), "{destination}");
    }
}

fn cluster_sql(cluster: &Cluster, port: u16, statement: &str) {
    let mut psql = Command::new(postgres("psql"));
    output(psql.arg("-d").arg(format!("{} port={port}", cluster.connection())).args(["-XAtqc", statement]));
}

#[test]
fn security() {
    let directory = directory();
    let cluster = Cluster::start(directory.path());
    let installation = installation(directory.path(), &cluster, &["superusers", "hba", "passwords"]);
    fs::write(cluster.data.join("pg_hba.conf"), "local all all trust\n").unwrap();
    all_quiet(&installation, &["superusers", "hba", "passwords"]);
    cluster.sql("create role eve superuser");
    cluster.sql("create role bob; grant pg_execute_server_program to bob");
    assert_eq!(look(&installation, "superusers"), ["warning bob", "critical eve"]);
    cluster.sql("drop role eve; drop role bob");
    assert_eq!(look(&installation, "superusers"), [""; 0]);
    // Who is a member of a member can do what it can.
    cluster.sql("create role middle; create role mallory login; grant middle to mallory");
    assert_eq!(look(&installation, "superusers"), [""; 0]);
    cluster.sql("grant postgres to middle");
    assert_eq!(look(&installation, "superusers"), ["critical mallory", "critical middle"]);
    let summary = "select summary from findings where job = 'superusers' and object = 'mallory'";
    assert_eq!(installation.journal(summary), "role mallory got superuser as postgres");
    cluster.sql("revoke postgres from middle");
    assert_eq!(look(&installation, "superusers"), [""; 0]);
    let mut lines = fs::OpenOptions::new().append(true).open(cluster.data.join("pg_hba.conf")).unwrap();
    writeln!(lines, "host all all 10.0.0.0/8 trust\nhost all all all nonsense").unwrap();
    assert_eq!(look(&installation, "hba"), ["warning changed", "critical mistakes", "critical trust"]);
    cluster.sql("set password_encryption = 'md5'; create role old login password 'x'");
    assert_eq!(look(&installation, "passwords"), ["warning md5"]);
    assert!(told(&installation, "passwords").contains("old"));
}

#[test]
fn backups() {
    let directory = directory();
    let cluster = Cluster::start_with(directory.path(), "archive_mode = on\narchive_command = 'true'");
    let text = |more: &str| {
        format!(
            "{MAIL}[clusters.main]\nconnection = \"{}\"\ndata-directory = \"{}\"\n\
             [repositories.local]\ntype = \"local\"\npath = \"{{dir}}/repo\"\n\
             [repositories.second]\ntype = \"local\"\npath = \"{{dir}}/second\"\n\
             [jobs.full]\nkind = \"backup.physical\"\nrepositories = [\"local\"]\n\
             [jobs.age]\nkind = \"monitor.backup-age\"\n\
             [jobs.both]\nkind = \"monitor.backup-age\"\nrepositories = [\"local\", \"second\"]\n\
             [jobs.size]\nkind = \"monitor.backup-size\"\nrepositories = [\"local\"]\n{more}\
             [jobs.count]\nkind = \"monitor.backup-count\"\n\
             [jobs.copies]\nkind = \"monitor.backup-copies\"\npatience = \"1s\"\nrepositories = [\"local\", \"second\"]\n\
             [jobs.success]\nkind = \"monitor.backup-success\"\n\
             [jobs.tests]\nkind = \"monitor.restore-tests\"\n\
             [jobs.restore]\nkind = \"restore-test\"\nrepository = \"local\"\ntarget = \"backup-end\"\n\
             program-directory = \"{}\"\n\
             [jobs.wal]\nkind = \"monitor.wal-archive\"\nwarning-age = \"1s\"\n\
             [jobs.gaps]\nkind = \"monitor.wal-gaps\"\n",
            cluster.connection(),
            cluster.data.display(),
            postgres("").display()
        )
    };
    let installation = Installation::new(directory.path(), &text(""));
    // No backup goes to the second one by itself: it is not asked.
    assert_eq!(look(&installation, "age"), ["critical local"]);
    assert_eq!(look(&installation, "count"), ["warning local"]);
    assert_eq!(look(&installation, "tests"), ["warning restore test"]);
    assert_eq!(look(&installation, "success"), [""; 0]);
    installation.run(&["job", "run", "full", "--wait"]);
    all_quiet(&installation, &["age", "size", "count", "success", "wal"]);
    wait_until("the copy is late", seconds(10), || look(&installation, "copies") == ["warning second"]);
    let label = installation.json(&["backup", "list"])[0]["label"].as_str().unwrap().to_owned();
    installation.run(&["backup", "copy", &label, "--to", "second"]);
    assert_eq!(look(&installation, "copies"), [""; 0]);
    installation.run(&["restore-test"]);
    assert_eq!(look(&installation, "tests"), [""; 0]);
    // Somebody else's command says that everything is archived, and nothing is.
    cluster.sql("create table more as select 1 as i; select pg_switch_wal()");
    wait_until("the server has archived it", seconds(20), || {
        look(&installation, "gaps").contains(&"warning local".to_owned())
    });
    assert!(told(&installation, "gaps").contains("the server archived last: 0000000100000000"));
    installation.configure(&text("minimum = \"10GB\"\n"));
    assert_eq!(look(&installation, "size"), ["critical local"]);

    // One that cannot be read says nothing about the other.
    output(Command::new("chmod").arg("000").arg(directory.path().join("repo")));
    assert_eq!(look(&installation, "both"), ["unknown local"]);
    output(Command::new("chmod").arg("700").arg(directory.path().join("repo")));

    // Backups fail, and so does archiving.
    fs::rename(directory.path().join("repo"), directory.path().join("gone")).unwrap();
    fs::write(directory.path().join("repo"), "in the way").unwrap();
    installation.try_run(&["job", "run", "full", "--wait"]);
    assert_eq!(look(&installation, "success"), ["warning success"]);
    cluster.sql("alter system set archive_command = 'false'");
    cluster.sql("select pg_reload_conf()");
    cluster.sql("select pg_switch_wal()");
    cluster.sql("create table x (i int)");
    cluster.sql("select pg_switch_wal()");
    wait_until("archiving fails", seconds(60), || {
        look(&installation, "wal") == ["critical archiver", "warning waiting"]
    });
}

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
    assert_eq!(look(&installation, "command-good"), [""; 0]);
    assert_eq!(look(&installation, "command-bad"), ["critical command"]);
    assert!(told(&installation, "command-bad").starts_with("QUEUE is long\n"));
    assert_eq!(look(&installation, "sql-high"), ["warning pg_class", "warning pg_proc"]);
    assert_eq!(look(&installation, "sql-low"), [""; 0]);
    for (job, reason) in [("command-lost", "could not look"), ("sql-write", "read-only"), ("sql-words", "is no number")]
    {
        installation.try_run(&["job", "run", job, "--wait"]);
        let error = installation.journal(&format!("select state || ': ' || error from runs where job = '{job}'"));
        assert!(error.starts_with("failed") && error.contains(reason), "{job}: {error}");
    }
}

#[test]
fn a_role_without_power_sees_what_it_may() {
    let directory = directory();
    let cluster = Cluster::start(directory.path());
    // One connection is enough, whatever database is looked into.
    cluster.sql("create role watcher login connection limit 1");
    cluster.sql("grant pg_monitor to watcher");
    cluster.sql("create database other");
    let text = format!(
        "{MAIL}[clusters.main]\nconnection = \"host={} user=watcher dbname=postgres\"\nwatch = true\n\
         [jobs.own]\nkind = \"monitor.sql\"\nquery = \"select 1\"\ndatabase = \"other\"\n",
        cluster.socket.display()
    );
    let installation = Installation::new(directory.path(), &text);
    let keys = installation.json(&["config", "show"]);
    let keys = keys
        .as_array()
        .unwrap()
        .iter()
        .filter_map(|key| key["key"].as_str()?.strip_prefix("jobs.")?.strip_suffix(".kind"));
    let own: Vec<_> = keys.collect();
    assert!(own.len() > 25, "{own:?}");
    for job in own {
        look(&installation, job);
    }
}

#[test]
fn age_of_what_autovacuum_does_not_reach() {
    let directory = directory();
    let settings = "autovacuum = off\nautovacuum_freeze_max_age = 100000\nsynchronous_commit = off";
    let cluster = Cluster::start_with(directory.path(), settings);
    let installation = installation(directory.path(), &cluster, &["vacuum"]);
    cluster.sql("create table long (text text)");
    cluster.sql("alter table long alter text set storage external");
    cluster.sql("insert into long select repeat('x', 3000) from generate_series(1, 12000)");
    cluster.sql("delete from long");
    cluster.sql("vacuum (process_toast false) long");
    wait_until("the statistics arrive", seconds(10), || look(&installation, "vacuum") == ["warning postgres"]);
    let told_of = told(&installation, "vacuum");
    assert!(
        told_of.contains("\npublic.long (its TOAST): 24000 dead rows") && !told_of.contains("public.long: "),
        "{told_of}"
    );
    cluster.sql("vacuum long");
    wait_until("it is vacuumed", seconds(10), || look(&installation, "vacuum").is_empty());

    // Even with autovacuum off PostgreSQL freezes what is too old, but not what belongs to a session.
    let session = Session::open(&cluster, "create temp table forgotten (text text);");
    let exists = "select count(*) from pg_class where relname = 'forgotten'";
    wait_until("the session has its table", seconds(10), || cluster.sql(exists) == "1");
    cluster.sql(
        "create procedure burn() language plpgsql as $$ begin
             for i in 1..125000 loop perform pg_current_xact_id(); commit; end loop;
         end $$",
    );
    cluster.sql("call burn()");
    cluster.sql("vacuum (freeze)");
    assert_eq!(look(&installation, "vacuum"), ["warning postgres"]);
    let told_of = told(&installation, "vacuum");
    assert!(told_of.starts_with("2 tables of postgres") && told_of.contains(".forgotten: "), "{told_of}");
    drop(session);
    wait_until("the session is gone", seconds(10), || cluster.sql(exists) == "0");
    assert_eq!(look(&installation, "vacuum"), [""; 0]);

#[test]
fn autovacuum_that_has_no_worker_to_spare() {
    let directory = directory();
    let settings = "autovacuum_max_workers = 1\nautovacuum_naptime = '1d'\nautovacuum_vacuum_cost_delay = '100ms'\n\
                    autovacuum_vacuum_cost_limit = 1";
    let cluster = Cluster::start_with(directory.path(), settings);
    let installation =
        installation(directory.path(), &cluster, &["autovacuum", "autovacuum/short: saturated = \"1s\""]);
    all_quiet(&installation, &["autovacuum", "autovacuum-short"]);
    cluster.sql("create table bulk as select i, repeat('x', 200) from generate_series(1, 100000) i");
    cluster.sql("delete from bulk where i % 2 = 0");
    let set = |setting: &str| {
        cluster.sql(&format!("alter system set {setting}"));
        cluster.sql("select pg_reload_conf()");
    };
    set("autovacuum_naptime = '1s'");
    let at_work =
        "select count(*) from pg_stat_activity where backend_type = 'autovacuum worker' and query like '%public.bulk%'";
    wait_until("the only worker is at work", seconds(20), || cluster.sql(at_work) == "1");
    wait_until("for a second", seconds(20), || look(&installation, "autovacuum-short") == ["warning workers"]);
    let words = told(&installation, "autovacuum-short");
    assert!(words.starts_with("all 1 autovacuum workers are busy since ") && words.contains("VACUUM"), "{words}");
    assert!(words.contains(" public.bulk"), "{words}");
    assert_eq!(look(&installation, "autovacuum"), [""; 0], "two hours are not over");
    set("autovacuum_vacuum_cost_delay = 0");
    // Until PostgreSQL 15 a worker reads that when it comes to its next table.
    cluster.sql("select pg_cancel_backend(pid) from pg_stat_activity where backend_type = 'autovacuum worker'");
    wait_until("the worker is done", seconds(20), || look(&installation, "autovacuum-short").is_empty());
    let dead = "select n_dead_tup from pg_stat_user_tables where relname = 'bulk'";
    wait_until("the table is vacuumed", seconds(20), || cluster.sql(dead) == "0");
}

#[test]
fn a_restore_test_that_failed() {
    let directory = directory();
    let cluster = Cluster::start(directory.path());
    let text = format!(
        "{MAIL}{}[jobs.full]\nkind = \"backup.physical\"\nrepositories = [\"local\"]\n\
         [jobs.restore]\nkind = \"restore-test\"\ntarget = \"backup-end\"\namcheck = false\nprogram-directory = \"{}\"\n\
         [jobs.tests]\nkind = \"monitor.restore-tests\"\n",
        cluster_and_repository(&cluster),
        postgres("").display()
    );
    let installation = Installation::new(directory.path(), &text);
    let test = || {
        installation.try_run(&["job", "run", "restore", "--wait"]);
        installation.history("restore")[0]["state"].as_str().unwrap().to_owned()
    };
    installation.run(&["job", "run", "full", "--wait"]);
    assert_eq!(test(), "succeeded");
    all_quiet(&installation, &["tests"]);

    let label = installation.json(&["backup", "list"])[0]["label"].as_str().unwrap().to_owned();
    let volumes = output(Command::new("find").arg(directory.path().join("repo/main")).args(["-name", "base.0001.*"]));
    let volume = Path::new(volumes.trim());
    let whole = fs::read(volume).unwrap();
    let mut broken = whole.clone();
    let middle = broken.len() / 2;
    broken[middle] ^= 1;
    fs::write(volume, broken).unwrap();
    assert_eq!(test(), "failed");
    assert_eq!(look(&installation, "tests"), ["critical restore test"]);
    let words = told(&installation, "tests");
    assert!(words.starts_with(&format!("the last restore test, of {label}, failed\n")), "{words}");
    fs::write(volume, whole).unwrap();
    assert_eq!(test(), "succeeded");
    assert_eq!(look(&installation, "tests"), [""; 0]);
}

#[test]
fn copies_that_are_missing_or_others() {
    let directory = directory();
    let cluster = Cluster::start(directory.path());
    let text = format!(
        "{MAIL}{}[repositories.second]\ntype = \"local\"\npath = \"{{dir}}/second\"\n\
         [jobs.full]\nkind = \"backup.physical\"\nrepositories = [\"local\", \"second\"]\n\
         [jobs.other]\nkind = \"backup.physical\"\nrepositories = [\"second\"]\n\
         [jobs.copies]\nkind = \"monitor.backup-copies\"\npatience = \"0s\"\n\
         [jobs.patient]\nkind = \"monitor.backup-copies\"\n",
        cluster_and_repository(&cluster)
    );
    let installation = Installation::new(directory.path(), &text);
    installation.run(&["job", "run", "full", "--wait"]);
    all_quiet(&installation, &["copies", "patient"]);
    let summary = "select summary from runs where job = 'copies' order by id desc limit 1";
    let label = installation.json(&["backup", "list"])[0]["label"].as_str().unwrap().to_owned();
    assert_eq!(installation.journal(summary), format!("{label} is in 2 of 2 repositories"));

    // Without its catalogue a copy is none.
    let place = output(Command::new("find").arg(directory.path().join("second/main")).args(["-name", &label]));
    let place = Path::new(place.trim());
    let catalogue = fs::read(place.join("backup.json")).unwrap();
    fs::remove_file(place.join("backup.json")).unwrap();
    assert_eq!(look(&installation, "copies"), ["warning second"]);
    assert!(told(&installation, "copies").starts_with(&format!("backup {label} is not in repository second\n")));
    assert_eq!(look(&installation, "patient"), [""; 0], "six hours are not over");
    fs::write(place.join("backup.json"), &catalogue).unwrap();
    assert_eq!(look(&installation, "copies"), [""; 0]);
    // Nor is one whose catalogue is damaged.
    let damaged = String::from_utf8(catalogue).unwrap().replacen("\"bytes\": ", "\"bytes\": 1", 1);
    fs::write(place.join("backup.json"), damaged).unwrap();
    assert_eq!(look(&installation, "copies"), ["warning second"]);

    // Another backup of the cluster under the label of the first.
    fs::remove_dir_all(place).unwrap();
    cluster.sql("create table more as select 1 as i");
    installation.run(&["job", "run", "other", "--wait"]);
    let parent = place.parent().unwrap();
    let other = fs::read_dir(parent).unwrap().next().unwrap().unwrap().path();
    let mut info = BackupInfo::from_bytes("backup.json", &fs::read(other.join("backup.json")).unwrap()).unwrap();
    info.label.clone_from(&label);
    fs::write(other.join("backup.json"), info.to_bytes().unwrap()).unwrap();
    fs::rename(other, place).unwrap();
    for job in ["copies", "patient"] {
        assert_eq!(look(&installation, job), ["warning second"], "{job}");
        let words = told(&installation, job);
        assert!(words.starts_with(&format!("backup {label} is another one in repository second\n")), "{words}");
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
    installation.run(&["job", "run", "log", "--wait"]);
    assert_eq!(last("state"), "running", "the daemon does not wait for it");
    // Its turn on the line ends five seconds after the server's limit, and the next has its own.
    assert_eq!(look(&installation, "slots"), [""; 0]);
    wait_until("its time is over", seconds(5), || last("state") == "failed");
    assert_eq!(last("error"), "run the query took longer than 9s");
    installation.try_run(&["job", "run", "nap", "--wait"]);
    let process = &stopped.0;
    let error = last("state || ': ' || error");
    let still = format!("failed: process {process} of the server is still at work for an earlier look");
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

/// A process that works until this is dropped.
struct Busy(Child);

impl Drop for Busy {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// The share of five minutes in which something waited, as the kernel tells it.
fn waited(resource: &str) -> Option<f64> {
    let text = fs::read_to_string(format!("/proc/pressure/{resource}")).ok()?;
    text.split_once("avg300=")?.1.split_whitespace().next()?.parse().ok()
}

#[test]
fn processes_that_wait_for_a_disk() {
    let directory = directory();
    let place = output(Command::new("stat").args(["-f", "-c", "%T"]).arg(directory.path()));
    let Some(before) = waited("io").filter(|_| place.trim() != "tmpfs") else {
        println!("nothing to see: the kernel measures no pressure, or the tests have no disk");
        return;
    };
    let cluster = Cluster::start(directory.path());
    let all = "warning-memory-percent = 100.0; critical-memory-percent = 100.0; critical-io-percent = 100.0";
    let monitors = [
        format!("pressure: {all}; warning-io-percent = 100.0"),
        format!("pressure/low: {all}; warning-io-percent = {:.2}", before + 0.2),
    ];
    let installation = installation(directory.path(), &cluster, &monitors.each_ref().map(String::as_str));
    let _busy = ["1", "2"].map(|name| {
        let mut dd = Command::new("dd");
        dd.args(["if=/dev/zero", "bs=8k", "count=200000", "oflag=dsync", "status=none"]);
        Busy(dd.arg(format!("of={}", directory.path().join(name).display())).spawn().unwrap())
    });
    wait_until("they waited", seconds(30), || look(&installation, "pressure-low") == ["warning io"]);
    let told = told(&installation, "pressure-low");
    assert!(told.starts_with("processes waited for disks ") && told.contains(" % of five minutes\n"), "{told}");
    all_quiet(&installation, &["pressure"]);
    // What it says of each is what the kernel says.
    let summary = installation.journal("select summary from runs where job = 'pressure' order by id desc limit 1");
    let shares: Vec<f64> =
        summary.split(|c: char| !c.is_ascii_digit()).filter_map(|share| share.parse().ok()).collect();
    let [processors, memory, disks] = shares[..] else { panic!("{summary}") };
    for (share, resource) in [(processors, "cpu"), (memory, "memory"), (disks, "io")] {
        let kernel = waited(resource).unwrap();
        assert!((share - kernel).abs() < 3.0, "{resource}: {kernel} % beside {summary}");
    }
}

/// Answers one question for the time after another, with a clock that is so many seconds ahead.
fn time_server(answers: &'static [(f64, u8)]) -> (String, JoinHandle<()>) {
    let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
    let address = socket.local_addr().unwrap().to_string();
    let answering = std::thread::spawn(move || {
        for (ahead, stratum) in answers {
            let mut packet = [0_u8; 48];
            let (_, client) = socket.recv_from(&mut packet).unwrap();
            assert_eq!(packet[0], 0x23, "version 4, client");
            let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs_f64() + 2_208_988_800.0 + ahead;
            let stamp = ((now * 4_294_967_296.0) as u64).to_be_bytes();
            (packet[0], packet[1]) = (0x24, *stratum);
            packet[32..40].copy_from_slice(&stamp);
            packet[40..48].copy_from_slice(&stamp);
            socket.send_to(&packet, client).unwrap();
        }
    });
    (address, answering)
}

#[test]
fn a_clock_that_is_wrong() {
    let directory = directory();
    // The machine's own word is what the test has it be.
    let (program, word) = (directory.path().join("timedatectl"), directory.path().join("word"));
    fs::write(&program, format!("#!/bin/sh\ncat {}\n", word.display())).unwrap();
    output(Command::new("chmod").arg("755").arg(&program));
    let says = |said: &str| fs::write(&word, said).unwrap();
    let cluster = Cluster::start(directory.path());
    let (server, answering) = time_server(&[(0.0, 2), (10.0, 2), (-60.0, 2), (0.0, 16), (0.0, 2)]);
    let path = format!("{}:{}", directory.path().display(), std::env::var("PATH").unwrap());
    let monitors = [&*format!("clock: server = \"{server}\"; warning = \"5s\""), "clock/own"];
    let installation = installation(directory.path(), &cluster, &monitors);
    let run = |job: &str| installation.command(&["job", "run", job, "--wait"]).env("PATH", &path).output().unwrap();
    let look = |job: &str| found(&installation, job, &run(job));
    says("yes");
    assert_eq!([look("clock"), look("clock-own")], [[""; 0]; 2]);
    for (severity, offset) in [("warning", 10.0), ("critical", -60.0)] {
        assert_eq!(look("clock"), [format!("{severity} offset")]);
        let words = told(&installation, "clock");
        let told = words.strip_prefix("the clock is off by ").and_then(|words| words.split_once(" s\n")).unwrap().0;
        assert!((told.parse::<f64>().unwrap() - offset).abs() < 2.0, "{words}");
    }
    let fails = |reason: &str| {
        run("clock");
        let state = "select state || ': ' || error from runs where job = 'clock' order by id desc limit 1";
        let state = installation.journal(state);
        assert!(state.starts_with("failed: ") && state.contains(reason), "{state}");
    };
    // A server that says that it knows no time itself, and one that is gone.
    fails("it refused, or has no time itself");
    says("no");
    for job in ["clock", "clock-own"] {
        assert_eq!(look(job), ["warning synchronization"], "{job}");
    }
    answering.join().unwrap();
    fails("does not answer");
    says("yes");
    assert_eq!(look("clock-own"), [""; 0]);
}
