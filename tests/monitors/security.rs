//! Who may, who tried, and what a role without power sees.

use super::{all_quiet, check, installation, told};
use crate::support::{Cluster, Installation, MAIL, directory, output, postgres, seconds, wait_until};
use std::{fs, io::Write as _, process::Command};

/// Reference 000 (its lines by id): 000-M4.
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
        let checked = String::from_utf8(installation.try_run(&["check"]).stdout).unwrap();
        assert_eq!(
            checked.contains("names in the log can be taken for other records"),
            destination == "stderr",
            "{checked}"
        );
        let fail = || {
            let mut psql = Command::new(postgres("psql"));
            let target = format!("host=127.0.0.1 port={port} user=eve dbname=shop password=wrong");
            assert!(!psql.args(["-Xqc", "select 1", "-d", &target]).output().unwrap().status.success());
        };
        fail();
        assert_eq!(check(&installation, "logins"), [""; 0], "{destination}: what was before the first look");
        fail();
        wait_until("it is in the log", seconds(10), || !check(&installation, "logins").is_empty());
        assert_eq!(check(&installation, "logins"), ["warning 127.0.0.1"], "{destination}: counted once");
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
        wait_until("all are counted", seconds(10), || check(&installation, "logins") == ["critical 127.0.0.1"]);
        assert!(told(&installation, "logins").contains("3 failed logins"), "{destination}");
    }
}

/// Knocks as PostgreSQL's protocol has it, with any bytes for names, and a wrong password.
fn knock(port: u16, user: &[u8], database: &[u8]) {
    let mut stream = std::net::TcpStream::connect(("127.0.0.1", port)).unwrap();
    let mut packet = [0_u8, 3, 0, 0].to_vec();
    for text in [b"user", user, b"database", database] {
        packet.extend(text);
        packet.push(0);
    }
    packet.push(0);
    let mut send = |packet: &[u8], kind: &[u8]| {
        let length = u32::try_from(packet.len() + 4).unwrap().to_be_bytes();
        stream.write_all(&[kind, &length, packet].concat()).unwrap();
        let mut answer = [0; 1024];
        let read = std::io::Read::read(&mut stream, &mut answer).unwrap_or(0);
        answer[..read].to_vec()
    };
    if send(&packet, b"").first() == Some(&b'R') {
        send(b"guess\0", b"p");
    }
}

#[test]
fn c44_names_hide_no_guess_and_move_no_cursor() {
    let directory = directory();
    for destination in ["stderr", "csvlog", "jsonlog"] {
        let place = directory.path().join(destination);
        fs::create_dir(&place).unwrap();
        let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let log = place.join("log");
        let settings = format!(
            "listen_addresses = '127.0.0.1'\nport = {port}\nlogging_collector = on\nlog_destination = '{destination}'\n\
             log_directory = '{}'\nlog_line_prefix = '%m [%p] %q%u@%d %h '",
            log.display()
        );
        let cluster = Cluster::start_with(&place, &settings);
        fs::write(cluster.data.join("pg_hba.conf"), "local all all trust\nhost all all 127.0.0.1/32 password\n")
            .unwrap();
        cluster.down();
        cluster.up();
        let text = format!(
            "{MAIL}[clusters.main]\nconnection = \"host={} port={port} user=postgres dbname=postgres\"\nlog-directory = \"{}\"\n\
             [jobs.logins]\nkind = \"monitor.failed-logins\"\n",
            place.display(),
            log.display()
        );
        let mut installation = Installation::new(&place, &text);
        assert_eq!(check(&installation, "logins"), [""; 0]);
        installation.start();
        let names: [(&[u8], &[u8]); 6] = [
            (b"postgres", b"x LOG:  y"),
            (b"\x1b[2J\x1b[31mALL IS WELL\x1b]0;owned\x07", b"x"),
            (b"x\n2026-11-28 03:50:00.000 UTC [4000] boss", b"postgres"),
            (b"x LOG:  a\n2026-11-28 03:50:00.000 UTC [4] b", b"d 1.1.1.1 FATAL:  role \"b\" does not exist\ny"),
            (b"j\xfcrgen", b"b\xfccher"),
            ("x\u{202e}\u{9b}2J".as_bytes(), b"\r\nBcc: evil@example.org"),
        ];
        for (user, database) in names {
            knock(port, user, database);
        }
        for f in fs::read_dir(&log).unwrap().flatten() {
            println!("{:?}", String::from_utf8_lossy(&fs::read(f.path()).unwrap()));
        }
        wait_until("all are counted", seconds(10), || {
            let said = installation.check("logins");
            println!("{said}");
            said.contains("6 within")
        });
        assert_eq!(check(&installation, "logins"), ["warning 127.0.0.1"], "{destination}");
        wait_until("it is mailed", seconds(20), || !installation.mails().is_empty());
        installation.stop();
        let shown = |arguments: &[&str]| installation.run(&[&["--color", "always"], arguments].concat());
        let alerts = installation.json(&["alert", "list"]);
        let id = alerts[0]["id"].as_str().unwrap();
        let mails: String = fs::read_dir(place.join("mail"))
            .unwrap()
            .map(|mail| String::from_utf8_lossy(&fs::read(mail.unwrap().path()).unwrap()).into_owned())
            .collect();
        let told = [
            String::from_utf8_lossy(&installation.try_run(&["--color", "always", "status"]).stdout).into_owned(),
            shown(&["alert", "list"]),
            shown(&["alert", "show", id]),
            fs::read_to_string(place.join("daemon.log")).unwrap(),
            mails,
        ];
        for text in &told {
            let hostile = |c: char| (c.is_control() && !"\r\n\t\u{1b}".contains(c)) || c == '\u{202e}';
            assert!(!text.contains(hostile), "{destination}: {text:?}");
            for moves in ["\u{1b}[2J", "\u{1b}[31m", "\u{1b}]"] {
                assert!(!text.contains(moves), "{destination}: {text:?}");
            }
        }
        assert!(told[2].contains("\\u{1b}[2J\\u{1b}[31mALL IS WELL"), "{}", told[2]);
        assert!(!told[4].lines().any(|line| line.starts_with("Bcc:")), "{}", told[4]);
        // Each failure is one line, whatever line ends its names have.
        assert_eq!(alerts[0]["detail"].as_str().unwrap().lines().count(), 6, "{alerts}");
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
    assert_eq!(check(&installation, "superusers"), ["warning bob", "critical eve"]);
    cluster.sql("drop role eve; drop role bob");
    assert_eq!(check(&installation, "superusers"), [""; 0]);
    // Who is a member of a member can do what it can.
    cluster.sql("create role middle; create role mallory login; grant middle to mallory");
    assert_eq!(check(&installation, "superusers"), [""; 0]);
    cluster.sql("grant postgres to middle");
    assert_eq!(check(&installation, "superusers"), ["critical mallory", "critical middle"]);
    let summary = "select summary from findings where job = 'superusers' and object = 'mallory'";
    assert_eq!(installation.journal(summary), "role mallory got superuser as postgres");
    cluster.sql("revoke postgres from middle");
    assert_eq!(check(&installation, "superusers"), [""; 0]);
    let mut lines = fs::OpenOptions::new().append(true).open(cluster.data.join("pg_hba.conf")).unwrap();
    writeln!(lines, "host all all 10.0.0.0/8 trust\nhost all all all nonsense").unwrap();
    assert_eq!(check(&installation, "hba"), ["warning changed", "critical mistakes", "critical trust"]);
    cluster.sql("set password_encryption = 'md5'; create role old login password 'x'");
    assert_eq!(check(&installation, "passwords"), ["warning md5"]);
    assert!(told(&installation, "passwords").contains("old"));
}

/// Reference 000 (its lines by id): 000-S2.
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
        check(&installation, job);
    }
    // What it may not see is no quiet, until it may.
    let unknown = |job: &str| check(&installation, &format!("main-{job}"));
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
