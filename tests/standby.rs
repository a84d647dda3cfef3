//! Monitors of replication against a real standby, seen from both ends, and slots that lose what they hold.

use crate::{
    monitors::{all_quiet, check, installation, told},
    support::{Cluster, Installation, MAIL, directory, output, postgres, seconds, wait_until},
};
use std::{
    fs::{self, File},
    io::Write as _,
    process::Command,
};

/// A standby of this server that says every second how it does.
fn standby_of(primary: &Cluster) -> Cluster {
    let place = primary.socket.join("second");
    fs::create_dir(&place).unwrap();
    let mut copy = Command::new(postgres("pg_basebackup"));
    let connection = format!("{} application_name=standby1", primary.connection());
    output(copy.arg("-d").arg(connection).arg("-D").arg(place.join("pg")).args(["-R", "-c", "fast"]));
    let mut settings = File::options().append(true).open(place.join("pg/postgresql.auto.conf")).unwrap();
    writeln!(settings, "wal_receiver_status_interval = '1s'\nwal_retrieve_retry_interval = '100ms'").unwrap();
    Cluster::adopt(&place.join("pg"), &place)
}

/// The standby has replayed all that the primary wrote.
fn all_is_replayed(primary: &Cluster, standby: &Cluster) {
    let end = primary.sql("select pg_current_wal_lsn()");
    wait_until("all is replayed", seconds(20), || {
        standby.sql(&format!("select pg_last_wal_replay_lsn() >= '{end}'")) == "t"
    });
}

/// Writes so many megabytes of WAL, and a little more.
fn write(cluster: &Cluster, megabytes: u32) {
    cluster.sql(&format!("insert into filler select repeat('x', 1000) from generate_series(1, {})", megabytes * 1024));
}

/// The number between these words.
fn number(words: &str, before: &str, after: &str) -> f64 {
    let number = words.split_once(before).and_then(|(_, rest)| rest.split_once(after)?.0.parse().ok());
    number.unwrap_or_else(|| panic!("{words}"))
}

#[test]
fn a_standby_that_is_behind_by_bytes_and_by_time() {
    let directory = directory();
    let primary = Cluster::start(directory.path());
    primary.sql("create table filler (text text)");
    let monitors = [
        "replication-lag",
        "replication-lag/bytes: warning-bytes = \"2MiB\"; critical-bytes = \"8MiB\"",
        "replication-lag/time: warning = \"4s\"; critical = \"1h\"",
    ];
    let installation = installation(directory.path(), &primary, &monitors);
    let standby = standby_of(&primary);
    let (jobs, late) = (["replication-lag", "replication-lag-bytes", "replication-lag-time"], ["warning standby1"]);
    let quiet = || jobs.iter().all(|job| check(&installation, job).is_empty());
    all_is_replayed(&primary, &standby);
    wait_until("it is not behind", seconds(20), quiet);

    standby.sql("select pg_wal_replay_pause()");
    write(&primary, 4);
    wait_until("it is behind by bytes", seconds(20), || check(&installation, "replication-lag-bytes") == late);
    let behind = "select pg_wal_lsn_diff(pg_current_wal_lsn(), replay_lsn) / 1048576 from pg_stat_replication";
    let behind: f64 = primary.sql(behind).parse().unwrap();
    let words = told(&installation, "replication-lag-bytes");
    let told_size = number(&words, "standby standby1 is ", " MiB and ");
    assert!((told_size - behind).abs() < 0.5 && behind > 4.0, "{behind} {words}");
    assert!(words.ends_with("client: this machine\nstate: streaming, async"), "{words}");
    wait_until("it is behind by time", seconds(20), || check(&installation, "replication-lag-time") == late);
    let words = told(&installation, "replication-lag-time");
    let time = number(&words, " and ", " s behind\n");
    assert!((4.0..30.0).contains(&time), "{words}");
    write(&primary, 8);
    wait_until("it is far behind", seconds(20), || {
        check(&installation, "replication-lag-bytes") == ["critical standby1"]
    });
    assert_eq!(check(&installation, "replication-lag"), [""; 0]);

    standby.sql("select pg_wal_replay_resume()");
    wait_until("it has caught up", seconds(20), quiet);
    all_quiet(&installation, &jobs);
}

#[test]
fn a_standby_that_knows_that_it_does_not_follow() {
    let directory = directory();
    let primary = Cluster::start(directory.path());
    primary.sql("create table filler (text text)");
    let standby = standby_of(&primary);
    let text = format!(
        "{MAIL}[clusters.main]\nconnection = \"{}\"\n[clusters.second]\nconnection = \"{}\"\n\
         [jobs.primary]\nkind = \"monitor.standby\"\ncluster = \"main\"\n\
         [jobs.standby]\nkind = \"monitor.standby\"\ncluster = \"second\"\n\
         [jobs.short]\nkind = \"monitor.standby\"\ncluster = \"second\"\nwarning = \"1s\"\n\
         [jobs.role]\nkind = \"monitor.role\"\ncluster = \"second\"\nexpected = \"standby\"\n",
        primary.connection(),
        standby.connection()
    );
    let installation = Installation::new(directory.path(), &text);
    let quiet = || ["standby", "short"].iter().all(|job| check(&installation, job).is_empty());
    // What was replayed last is what tells how old it is.
    write(&primary, 1);
    all_is_replayed(&primary, &standby);
    wait_until("it follows", seconds(20), quiet);
    all_quiet(&installation, &["primary", "role"]);

    standby.sql("select pg_wal_replay_pause()");
    assert_eq!(check(&installation, "standby"), ["warning replay"]);
    write(&primary, 1);
    wait_until("it is behind", seconds(20), || check(&installation, "short") == ["warning delay", "warning replay"]);
    let summary = "select summary from findings where job = 'short' and object = 'delay' order by seen_at desc limit 1";
    let summary = installation.journal(summary);
    assert!((1.0..30.0).contains(&number(&summary, "replay is ", " s behind")), "{summary}");
    assert_eq!(check(&installation, "standby"), ["warning replay"], "five minutes are not over");
    standby.sql("select pg_wal_replay_resume()");
    wait_until("it follows again", seconds(20), quiet);

    // Its way to the primary is wrong, and right again.
    let right = standby.sql("show primary_conninfo");
    let connect = |to: &str| {
        standby.sql(&format!("alter system set primary_conninfo = '{}'", to.replace('\'', "''")));
        standby.sql("select pg_reload_conf()");
    };
    let alone = || check(&installation, "standby") == ["critical receiver"];
    connect("host=/nowhere");
    wait_until("nothing comes", seconds(20), alone);
    assert!(told(&installation, "standby").starts_with("the standby receives nothing from its primary\n"));
    connect(&right);
    wait_until("it comes again", seconds(20), quiet);
    primary.down();
    wait_until("the primary is gone", seconds(20), alone);
    primary.up();
    wait_until("the primary is back", seconds(20), quiet);

    // One that gets its WAL from an archive alone expects no receiver, and its pause is told.
    connect("");
    let receivers = "select count(*) from pg_stat_wal_receiver";
    wait_until("nothing is received", seconds(20), || standby.sql(receivers) == "0" && quiet());
    standby.sql("select pg_wal_replay_pause()");
    assert_eq!(check(&installation, "standby"), ["warning replay"]);
    standby.sql("select pg_wal_replay_resume()");
    standby.sql("select pg_promote()");
    all_quiet(&installation, &["standby", "short"]);
    assert_eq!(check(&installation, "role"), ["critical role"]);
}

#[test]
fn a_slot_that_loses_the_wal_it_needs() {
    let directory = directory();
    let settings =
        "max_wal_size = '32MB'\nmin_wal_size = '32MB'\nmax_slot_wal_keep_size = '1GB'\ncheckpoint_timeout = '1h'";
    let cluster = Cluster::start_with(directory.path(), settings);
    cluster.sql("create table filler (text text)");
    let monitors = ["slots", "slots/small: warning-retained = \"40MiB\"; critical-retained = \"1GiB\""];
    let installation = installation(directory.path(), &cluster, &monitors);
    cluster.sql("select pg_create_physical_replication_slot('left', true)");
    let status = || cluster.sql("select wal_status from pg_replication_slots");
    let all = |expected: &[&str]| {
        for job in ["slots", "slots-small"] {
            assert_eq!(check(&installation, job), expected, "{job}: {}", status());
        }
    };
    assert_eq!(status(), "reserved");
    all(&[]);
    // More than the server keeps without a slot. A checkpoint that this asks for is over before there is more to see.
    for _ in 0..4 {
        write(&cluster, 1);
        cluster.sql("select pg_switch_wal()");
    }
    cluster.sql("checkpoint");
    assert_eq!(status(), "extended");
    assert_eq!(check(&installation, "slots-small"), ["warning left"]);
    let words = told(&installation, "slots-small");
    let retained = "select pg_wal_lsn_diff(pg_current_wal_lsn(), restart_lsn) / 1048576 from pg_replication_slots";
    let retained: f64 = cluster.sql(retained).parse().unwrap();
    let told_size = number(&words, "slot left holds back ", " MiB of WAL, and nobody uses it\n");
    assert!((told_size - retained).abs() < 0.5 && retained > 40.0, "{retained} {words}");
    assert!(words.ends_with("wal_status: extended"), "{words}");
    assert_eq!(check(&installation, "slots"), [""; 0]);

    // More than it may keep for one: the next checkpoint removes it.
    cluster.sql("alter system set max_slot_wal_keep_size = '1MB'");
    cluster.sql("select pg_reload_conf()");
    wait_until("it is about to be removed", seconds(10), || status() == "unreserved");
    all(&["warning left"]);
    assert!(told(&installation, "slots").starts_with("slot left is about to lose the WAL it needs\n"));
    cluster.sql("checkpoint");
    assert_eq!(status(), "lost");
    all(&["critical left"]);
    assert!(told(&installation, "slots").starts_with("slot left lost the WAL it needs\n"));
    cluster.sql("select pg_drop_replication_slot('left')");
    all(&[]);
}
