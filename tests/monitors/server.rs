//! Whether the server is there and has room, what its transactions do, and who follows it.

use super::{Session, all_quiet, check, installation, told};
use crate::support::{Cluster, directory, output, postgres, seconds, wait_until};
use std::{
    fs,
    process::{Command, Stdio},
};

/// Reference 000 (its lines by id): 000-M1, 000-K6.
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
    assert_eq!(check(&installation, "connectivity-slow"), ["warning connection"]);
    assert_eq!(check(&installation, "role-wrong"), ["critical role"]);
    assert_eq!(check(&installation, "version-old"), ["warning minor version"]);

    cluster.sql("alter system set work_mem = '5MB'");
    cluster.sql("alter system set max_connections = 77");
    cluster.sql("select pg_reload_conf()");
    wait_until("the settings change", seconds(10), || check(&installation, "settings").len() == 2);
    assert_eq!(check(&installation, "settings"), ["warning changed", "warning pending restart"]);
    // That a password changed is told, and the password nowhere.
    cluster.sql("alter system set primary_conninfo = 'host=nowhere password=hush'");
    cluster.sql("select pg_reload_conf()");
    let changed = "select count(*) from findings where job = 'settings' and detail like '%primary_conninfo  (secret)%'";
    wait_until("the change is told", seconds(10), || {
        check(&installation, "settings");
        installation.journal(changed) != "0"
    });
    let kept = "select count(*) from job_states where job = 'settings' and state like '%primary_conninfo%'";
    assert_eq!(installation.journal(kept), "1");
    for table in ["findings", "job_states"] {
        let rows = installation.journal(&format!("select * from {table}"));
        assert!(!rows.contains("hush"), "{table}: {rows}");
    }
    let file = cluster.data.join("postgresql.conf");
    let good = fs::read_to_string(&file).unwrap();
    for wrong in ["maintenance_work_mem = many", "no_such_setting = 1", "= what"] {
        fs::write(&file, format!("{good}\n{wrong}\n")).unwrap();
        let answered = check(&installation, "settings");
        assert!(answered.contains(&"critical configuration files".to_owned()), "{wrong}: {answered:?}");
    }
    // What is taken out of it waits for a restart.
    fs::write(&file, "").unwrap();
    let answered = check(&installation, "settings");
    assert!(!answered.contains(&"critical configuration files".to_owned()), "{answered:?}");

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
        assert_eq!(check(&installation, "certificate"), expected, "{days} days");
    }

    cluster.down();
    cluster.up();
    assert_eq!(check(&installation, "restart"), ["warning restart"]);
    cluster.down();
    assert_eq!(check(&installation, "connectivity"), ["critical connection"]);
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
    wait_until("the sessions are there", seconds(10), || check(&installation, "connections-few").len() == 1);
    assert!(told(&installation, "connections-few").contains("connections of postgres to postgres"));
    assert!(check(&installation, "database-size-small").contains(&"warning size of postgres".to_owned()));
    assert_eq!(check(&installation, "tablespaces-small"), ["warning pg_default"]);
    assert_eq!(check(&installation, "wal-size-small"), ["warning pg_wal"]);
    cluster.sql("select count(*) from (select i from generate_series(1, 300000) i order by md5(i::text)) x");
    wait_until("the statistics arrive", seconds(10), || check(&installation, "temp-bytes-few") == ["warning postgres"]);
    assert_eq!(check(&installation, "temp-bytes"), [""; 0]);
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
    wait_until("a wait of a second", seconds(20), || check(&installation, "locks-short") == ["warning locks"]);
    let chain = told(&installation, "locks-short");
    assert!(chain.contains("idle in transaction") && chain.contains("\n    process"), "{chain}");
    let expected = ["warning idle in transaction", "warning long transaction", "warning prepared transaction"];
    wait_until("a second", seconds(20), || check(&installation, "long-transactions-short") == expected);
    let found = check(&installation, "xid-age-young");
    assert!(found.contains(&"warning transactions of postgres".to_owned()), "{found:?}");
    let named = told(&installation, "xid-age-young");
    assert!(named.contains("prepared transaction left over") && named.contains("session process"), "{named}");
    let tables = "select detail from findings where object = 'transactions of postgres' order by seen_at desc limit 1";
    let tables = installation.journal(tables);
    assert!(tables.contains("\npg_catalog.") && tables.contains("multixacts old"), "{tables}");
    assert_eq!(check(&installation, "long-transactions"), [""; 0]);
    drop((holder, waiter, worker, prepared));
    let waiter = Session::open(&cluster, "insert into t values (11, 1);");
    wait_until("who is prepared blocks", seconds(20), || {
        check(&installation, "locks-short") == ["warning locks"]
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
        check(&installation, "deadlocks") == ["warning postgres"]
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
    assert_eq!(check(&installation, "replication-lag-expected"), ["critical standby1"]);
    cluster.sql("select pg_create_physical_replication_slot('left_over', true)");
    wait_until("nobody uses it", seconds(20), || check(&installation, "slots-short") == ["warning left_over"]);
    assert_eq!(check(&installation, "slots"), [""; 0]);

    let place = directory.path().join("second");
    fs::create_dir(&place).unwrap();
    let mut copy = Command::new(postgres("pg_basebackup"));
    let connection = format!("{} application_name=standby1", cluster.connection());
    output(copy.arg("-d").arg(connection).arg("-D").arg(place.join("pg")).args(["-R", "-c", "fast"]));
    let standby = Cluster::adopt(&place.join("pg"), &place);
    wait_until("the standby is there", seconds(20), || check(&installation, "replication-lag-expected").is_empty());
    let second =
        self::installation(&place, &standby, &["standby", "role: expected = \"standby\"", "slots", "wal-archive"]);
    wait_until("it streams", seconds(20), || check(&second, "standby").is_empty());
    assert_eq!([check(&second, "role"), check(&second, "slots"), check(&second, "wal-archive")], [[""; 0]; 3]);
    standby.sql("select pg_wal_replay_pause()");
    assert_eq!(check(&second, "standby"), ["warning replay"]);
    cluster.down();
    wait_until("it notices", seconds(30), || check(&second, "standby").contains(&"critical receiver".to_owned()));
}
