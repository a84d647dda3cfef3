//! Who may, who tried, and what a role without power sees.

use super::{all_quiet, installation, look, told};
use crate::support::{Cluster, Installation, MAIL, directory, output, postgres, seconds, wait_until};
use std::{fs, io::Write as _, process::Command};

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
    // What it may not see is no quiet, until it may.
    let unknown = |job: &str| look(&installation, &format!("main-{job}"));
    assert_eq!(unknown("hba"), ["unknown read pg_hba_file_rules"]);
    assert_eq!(unknown("passwords"), ["unknown look how passwords are stored"]);
    assert_eq!(unknown("settings"), ["unknown read pg_file_settings"]);
    cluster.sql("grant select on pg_hba_file_rules, pg_file_settings, pg_authid to watcher");
    cluster.sql("grant execute on function pg_hba_file_rules(), pg_show_all_file_settings() to watcher");
    all_quiet(&installation, &["main-passwords", "main-settings", "main-hba"]);
    cluster.sql("revoke pg_monitor from watcher");
    assert!(unknown("settings").contains(&"unknown sessions and settings".to_owned()));

    // What an interrupted DROP DATABASE left is no database, and one that lets nobody in is said to be one.
    assert_eq!(unknown("unlogged"), [""; 0]);
    cluster.sql("update pg_database set datconnlimit = -2 where datname = 'other'");
    assert_eq!(unknown("unlogged"), [""; 0]);
    cluster.sql("update pg_database set datconnlimit = 0 where datname = 'other'");
    assert_eq!(unknown("unlogged"), ["unknown database other"]);
    cluster.sql("create unlogged table volatile ()");
    assert_eq!(unknown("unlogged"), ["unknown database other", "warning postgres"]);
}
