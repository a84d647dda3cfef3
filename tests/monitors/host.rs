//! The machine.

use super::{all_quiet, check, found, installation, told};
use crate::support::{Cluster, directory, output, seconds, wait_until};
use std::{
    fs,
    io::{BufRead, BufReader},
    net::UdpSocket,
    process::{Child, Command, Stdio},
    thread::JoinHandle,
    time::{SystemTime, UNIX_EPOCH},
};

/// Reference 000 (its lines by id): 000-M3, 000-K1, 000-S6.
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
    assert_eq!(check(&installation, "reachability-gone"), ["critical 127.0.0.1"]);
    let _ = silent.kill();
    let _ = silent.wait();
    // Whether this machine's clock is kept in step is its own affair.
    check(&installation, "clock");
    let mut busy = Command::new("sh").args(["-c", "while :; do :; done"]).spawn().unwrap();
    wait_until("a processor is busy", seconds(20), || {
        check(&installation, "cpu-busy").contains(&"warning cpu".to_owned())
    });
    let _ = busy.kill();
    let _ = busy.wait();
    assert!(told(&installation, "cpu-busy").contains(" %  "), "{}", told(&installation, "cpu-busy"));
    assert_eq!(check(&installation, "memory-low")[0], "warning memory");
    fs::write(directory.path().join("log/postgresql.log"), "much was said").unwrap();
    assert_eq!(check(&installation, "log-size-small"), ["warning logs"]);
    let key = cluster.data.join("server.key");
    fs::write(&key, "secret").unwrap();
    output(Command::new("chmod").arg("644").arg(&key));
    assert_eq!(check(&installation, "permissions"), [format!("warning {}", key.display())]);

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
    assert_eq!(check(&installation, "temporary-files"), ["warning removed"]);
    assert!(told(&installation, "temporary-files").contains("pgsql_tmp999999.0"));
    assert_eq!(check(&installation, "temporary-files"), [""; 0], "what was removed is told once");
    let mut left: Vec<_> =
        fs::read_dir(&place).unwrap().flatten().map(|entry| entry.file_name().into_string().unwrap()).collect();
    left.sort();
    let mut expected = vec![format!("pgsql_tmp{alive}.0"), "pgsql_tmp999998.0".to_owned()];
    expected.sort();
    assert_eq!(left, expected);
    let once =
        "select count(*) from runs where job = 'temporary-files' and summary like '1 leftover file removed (4 B)%'";
    assert_eq!(installation.journal(once), "1");
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
    wait_until("they waited", seconds(30), || check(&installation, "pressure-low") == ["warning io"]);
    let told = told(&installation, "pressure-low");
    assert!(
        told.starts_with("processes waited for disks ") && told.contains(" % of the last five minutes\n"),
        "{told}"
    );
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
    let check = |job: &str| found(&installation, job, &run(job));
    says("yes");
    assert_eq!([check("clock"), check("clock-own")], [[""; 0]; 2]);
    for (severity, offset) in [("warning", 10.0), ("critical", -60.0)] {
        assert_eq!(check("clock"), [format!("{severity} offset")]);
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
    fails("it refused, or has no valid time itself");
    says("no");
    for job in ["clock", "clock-own"] {
        assert_eq!(check(job), ["warning synchronization"], "{job}");
    }
    answering.join().unwrap();
    fails("does not answer");
    says("yes");
    assert_eq!(check("clock-own"), [""; 0]);
}
