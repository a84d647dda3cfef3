//! Figures for machines: what Prometheus scrapes, the rules on it, and the summary of backups.

use crate::support::{
    Cluster, Installation, MAIL, cluster_and_repository, directory, file, output, seconds, wait_until,
};
use std::{
    fs,
    io::{Read, Write},
    net::TcpStream,
    path::PathBuf,
    process::{Command, Stdio},
};

fn promtool() -> PathBuf {
    PathBuf::from(std::env::var_os("PGBOSUN_TEST_STORES").unwrap_or_else(|| "/opt/pgbosun-test".into()))
        .join("bin/promtool")
}

/// The body of a page over plain HTTP.
fn get(port: u16, path: &str) -> String {
    let mut stream = TcpStream::connect(("127.0.0.1", port)).unwrap();
    write!(stream, "GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n").unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    answer
}

/// The names of all metrics a text speaks of.
fn names(text: &str) -> Vec<String> {
    let word = |c: char| !(c.is_ascii_alphanumeric() || c == '_');
    let mut names: Vec<_> = text
        .split(word)
        .filter(|name| ["pgbosun_", "postgres_", "host_"].iter().any(|prefix| name.starts_with(prefix)))
        .map(str::to_owned)
        .collect();
    names.sort();
    names.dedup();
    names
}

#[test]
fn prometheus_reads_what_is_published_and_the_rules_speak_of_nothing_else() {
    let directory = directory();
    let cluster = Cluster::start(directory.path());
    let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let configuration = format!(
        "{}{MAIL}[jobs.full]\nkind = \"backup.physical\"\nrepositories = [\"local\"]\n\
         [jobs.test]\nkind = \"restore-test\"\nprogram-directory = \"{}\"\n\
         [jobs.broken]\nkind = \"command\"\nprogram = \"/bin/false\"\n",
        cluster_and_repository(&cluster).replace(
            "[clusters.main]\n",
            &format!("[clusters.main]\nwatch = true\ndata-directory = \"{}\"\n", cluster.data.display())
        ),
        crate::support::postgres("").display()
    );
    let mut installation = Installation::new(directory.path(), &configuration);
    let text = fs::read_to_string(directory.path().join("pgbosun.toml")).unwrap();
    let text = text.replace("metrics-address = \"off\"", &format!("metrics-address = \"127.0.0.1:{free}\""));
    fs::write(directory.path().join("pgbosun.toml"), text.replacen("watch = false\n", "", 1)).unwrap();
    installation.start();
    installation.run(&["backup", "create"]);
    installation.check("test");
    assert!(!installation.try_run(&["job", "run", "broken", "--wait"]).status.success());
    let jobs = installation.json(&["job", "list"]);
    let monitors = jobs.as_array().unwrap().iter().filter(|job| job["kind"].as_str().unwrap().starts_with("monitor."));
    for job in monitors {
        installation.run_job(job["name"].as_str().unwrap());
    }

    let page = get(free, "/metrics");
    assert!(page.contains("openmetrics-text") && page.trim_end().ends_with("# EOF"), "{page}");
    for line in [
        "postgres_up{cluster=\"main\"} 1",
        "postgres_backup_last_success_timestamp_seconds{cluster=\"main\",repository=\"local\"} ",
        "postgres_restore_test_passed{cluster=\"main\"} 1",
        "pgbosun_job_runs_total{job=\"broken\",state=\"failed\"} 1",
        "pgbosun_job_last_success_timestamp_seconds{job=\"full\",kind=\"backup.physical\",cluster=\"main\"} ",
        "object=\"run\",severity=\"critical\",state=\"open\"} 1",
        "pgbosun_outbox_messages ",
        "host_filesystem_used_percent{path=",
    ] {
        assert!(page.contains(line), "{line}\n{page}");
    }
    let text = installation.run(&["metrics"]);
    let mut check = Command::new(promtool())
        .args(["check", "metrics"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    check.stdin.take().unwrap().write_all(text.as_bytes()).unwrap();
    let checked = check.wait_with_output().unwrap();
    let words = format!("{}{}", String::from_utf8_lossy(&checked.stdout), String::from_utf8_lossy(&checked.stderr));
    // A style that promtool would rather see is not a mistake: names of single objects, counters that others began.
    assert!(!words.contains("error") && matches!(checked.status.code(), Some(0 | 3)), "{words}");

    // Whatever rules and dashboard ask for is there, but what this machine has nothing of.
    let known = names(&text);
    let absent = [
        "postgres_replication_lag_seconds",
        "pgbosun_channel_failing_seconds",
        "pgbosun_channel_dead_messages",
        "pgbosun_history_reachable",
        "host_filesystem_full_in_seconds",
        "postgres_wal_oldest_ready_seconds",
        "postgres_wal_archiver_failing",
        "postgres_wal_gaps",
        "postgres_cache_hit_percent",
    ];
    for asked in ["etc/prometheus/pgbosun.rules.yml", "etc/grafana/pgbosun.json"] {
        for name in names(&fs::read_to_string(file(asked)).unwrap()) {
            assert!(known.contains(&name) || absent.contains(&name.as_str()), "{asked} asks for {name}");
        }
    }
    let summary = installation.json(&["metrics"]);
    let metrics = &summary["metrics"];
    assert_eq!(
        (metrics["daily_backup_count"].as_u64(), metrics["success_rate_percent"].as_f64()),
        (Some(1), Some(100.0))
    );
    assert!(
        metrics["last_backup_size_mb"].as_f64().unwrap() > 1.0 && metrics["disk_usage_percent"].is_number(),
        "{summary}"
    );

    // Without the daemon the command says the same of what the journal knows.
    installation.stop();
    assert!(installation.run(&["metrics"]).contains("postgres_backup_last_success_timestamp_seconds{cluster=\"main\""));
}

#[test]
fn the_rules_fire_when_they_should() {
    let directory = file("etc/prometheus");
    output(Command::new(promtool()).args(["check", "rules", "pgbosun.rules.yml"]).current_dir(&directory));
    output(Command::new(promtool()).args(["test", "rules", "pgbosun.rules.test.yml"]).current_dir(&directory));
}

#[test]
fn an_address_that_is_taken_costs_nothing_but_the_page() {
    let directory = directory();
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let mut installation = Installation::new(directory.path(), "");
    let text = fs::read_to_string(directory.path().join("pgbosun.toml")).unwrap();
    let address = taken.local_addr().unwrap().to_string();
    fs::write(directory.path().join("pgbosun.toml"), text.replace("\"off\"", &format!("\"{address}\""))).unwrap();
    installation.start();
    wait_until("it is said", seconds(10), || installation.log().contains("set daemon.metrics-address"));
    assert!(installation.run(&["metrics"]).contains("pgbosun_info"));
}

/// Whoever may connect holds what he gets: the daemon goes on with its work, and says when descriptors run out.
#[test]
fn idle_connections_take_nothing_from_the_daemons_own_work() {
    let directory = directory();
    let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let configuration =
        format!("{MAIL}[jobs.quick]\nkind = \"command\"\nprogram = \"/bin/true\"\nschedule = \"* * * * * *\"\n");
    let installation = Installation::new(directory.path(), &configuration);
    let path = directory.path().join("pgbosun.toml");
    let text = fs::read_to_string(&path).unwrap();
    fs::write(&path, text.replace("metrics-address = \"off\"", &format!("metrics-address = \"127.0.0.1:{free}\"")))
        .unwrap();
    let log = fs::File::create(directory.path().join("daemon.log")).unwrap();
    let mut limited = Command::new("prlimit");
    limited.arg("--nofile=256:256").arg(crate::support::program()).args(installation.command(&["daemon"]).get_args());
    let mut daemon = limited.stdout(log.try_clone().unwrap()).stderr(log).spawn().unwrap();
    wait_until("it answers", seconds(30), || {
        TcpStream::connect(("127.0.0.1", free)).is_ok() && installation.count("quick", "succeeded") > 1
    });
    let held: Vec<_> = (0..200)
        .filter_map(|_| {
            let address = std::net::SocketAddr::from(([127, 0, 0, 1], free));
            TcpStream::connect_timeout(&address, seconds(1)).ok()
        })
        .collect();
    let socket = directory.path().join("control.sock");
    let commands: Vec<_> = (0..200).filter_map(|_| std::os::unix::net::UnixStream::connect(&socket).ok()).collect();
    assert!(held.len() > 100 && commands.len() > 100, "{} {}", held.len(), commands.len());
    let open = || fs::read_dir(format!("/proc/{}/fd", daemon.id())).unwrap().count();
    wait_until("it has taken what it takes", seconds(20), || open() > 60);
    // By the journal: commands of the daemon's own user have used up theirs.
    let runs = |state: &str| -> u32 {
        installation
            .journal(&format!("select count(*) from runs where job = 'quick' and state = '{state}'"))
            .parse()
            .unwrap()
    };
    let before = runs("succeeded");
    wait_until("its own work goes on", seconds(20), || runs("succeeded") > before + 3);
    assert_eq!(runs("failed"), 0);
    assert!(open() < 160, "{}", open());
    // A scrape is answered all the same: it gets the place of one that says nothing.
    assert!(get(free, "/metrics").contains("pgbosun_"));
    drop(commands);
    wait_until("the command is answered", seconds(20), || installation.try_run(&["job", "list"]).status.success());
    let _ = Command::new("kill").arg(daemon.id().to_string()).status();
    daemon.wait().unwrap();
}
