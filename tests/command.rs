//! The command at a person's hands: what history and schedule show, who may ask the daemon, what a terminal of 80 columns shows, what
//! Ctrl-C ends.

use crate::support::{
    Cluster, Installation, MAIL, cluster_and_repository, directory, output, program, seconds, wait_until,
};
use std::{
    fs,
    path::Path,
    process::{Command, Stdio},
};

fn chmod(mode: &str, path: &Path) {
    output(Command::new("chmod").arg(mode).arg(path));
}

/// Jobs that end well, badly and late, and monitors of a server that is not there.
fn without_server(directory: &Path, more: &str) -> Installation {
    let cluster = Cluster::nowhere_at(directory);
    let jobs = "[jobs.fine]\nkind = \"command\"\nprogram = \"/bin/true\"\nschedule = \"0 3 * * *\"\n\
                [jobs.broken]\nkind = \"command\"\nprogram = \"/bin/false\"\nretries = 0\n\
                [jobs.slow]\nkind = \"command\"\nprogram = \"/bin/sleep\"\narguments = [\"600\"]\n\
                [jobs.a-monitor-whose-name-is-very-long-indeed]\nkind = \"monitor.role\"\ncluster = \"main\"\nschedule = \"0 4 * * *\"\n\
                [jobs.sessions]\nkind = \"monitor.connections\"\ncluster = \"main\"\nschedule = \"0 4 * * *\"\n";
    Installation::new(directory, &format!("{}{jobs}{more}", cluster_and_repository(&cluster)))
}

fn jobs_of(runs: &serde_json::Value) -> Vec<&str> {
    runs.as_array().unwrap().iter().map(|run| run["job"].as_str().unwrap()).collect()
}

#[test]
fn history_leaves_looks_out_unless_they_are_asked_for() {
    let directory = directory();
    let mut installation = without_server(directory.path(), "");
    for daemon in [false, true] {
        if daemon {
            installation.start();
        } else {
            for job in ["sessions", "fine", "broken"] {
                let _ = installation.try_run(&["job", "run", job, "--wait"]);
            }
        }
        let history = |arguments: &[&str]| {
            let runs = installation.json(&[&["job", "history"], arguments].concat());
            jobs_of(&runs).join(" ")
        };
        assert_eq!(history(&[]), "broken fine", "daemon: {daemon}");
        assert_eq!(history(&["--all"]), "broken fine sessions");
        assert_eq!(history(&["--failed"]), "broken sessions");
        assert_eq!(history(&["--failed", "--kind", "command"]), "broken");
        assert_eq!(history(&["--kind", "monitor.connections"]), "sessions");
        assert_eq!([history(&["sessions"]), history(&["--job", "sessions"])], ["sessions", "sessions"]);
        assert_eq!([history(&["--since", "1h"]), history(&["--since", "2030-01-01"])], ["broken fine", ""]);
        for (wrong, said) in [
            (["--kind", "comand"], "did you mean command?"),
            (["--job", "brokn"], "did you mean broken?"),
            (["--since", "yesterday"], "is not a time"),
        ] {
            let done = installation.try_run(&[&["job", "history"][..], &wrong].concat());
            let words = String::from_utf8_lossy(&done.stderr).into_owned();
            assert!(done.status.code() == Some(64) && words.contains(said), "{wrong:?}: {words}");
        }
    }
}

#[test]
fn the_schedule_folds_monitors_and_needs_no_secret() {
    let directory = directory();
    let secret = directory.path().join("secret");
    std::fs::write(&secret, "x").unwrap();
    chmod("000", &secret);
    let mail =
        format!("{MAIL}[history]\nconnection = \"host=/nowhere user=bosun\"\npassword-file = \"{{dir}}/secret\"\n");
    let installation = without_server(directory.path(), &mail);
    let all = installation.run(&["schedule", "--days", "1"]);
    assert!(all.contains("0 4 * * *: 2 monitors, next ") && all.contains("fine"), "{all}");
    assert!(!all.contains("sessions"), "{all}");
    let each = installation.run(&["schedule", "--days", "1", "--all"]);
    assert!(each.contains("sessions") && each.contains("fine"), "{each}");
    let one = installation.run(&["schedule", "--days", "1", "--job", "sessions"]);
    assert!(one.contains("monitor.connections") && !one.contains("fine"), "{one}");
    let shown = installation.run(&["config", "show"]);
    assert!(shown.contains("password-file"), "{shown}");
    // What needs them still says so.
    assert_eq!(installation.try_run(&["config", "check"]).status.code(), Some(78));
    assert_eq!(installation.try_run(&["schedule", "--job", "nothing"]).status.code(), Some(64));
}

/// What is seen on a terminal so wide.
fn on_terminal(installation: &Installation, columns: u32, arguments: &str) -> String {
    let config = installation.directory.join("pgbosun.toml");
    let command = format!(
        "stty cols {columns} rows 40; \"{}\" --config \"{}\" {arguments}",
        program().display(),
        config.display()
    );
    let mut script = Command::new("script");
    let shown = output(script.args(["-qec", &command, "/dev/null"]).env("PGBOSUN_LOG", "off").stdin(Stdio::null()));
    shown.replace('\r', "")
}

/// Without colours.
fn plain(shown: &str) -> String {
    let parts = shown.split('\x1b').enumerate().map(|(at, part)| match part.split_once('m') {
        Some((code, text)) if at > 0 && code.starts_with('[') => text,
        _ => part,
    });
    parts.collect()
}

#[test]
fn tables_fit_a_terminal_of_80_columns_with_colours_and_keep_names_whole() {
    let directory = directory();
    let mut installation = without_server(directory.path(), "");
    let _ = installation.try_run(&["job", "run", "sessions", "--wait"]);
    let _ = installation.try_run(&["job", "run", "broken", "--wait"]);
    installation.start();
    for command in [
        "schedule --all --days 1",
        "job list",
        "job history --all",
        "alert list || true",
        "status || true",
        "check --here || true",
        "report health",
    ] {
        for columns in [80, 120] {
            let shown = on_terminal(&installation, columns, command);
            // A report is the same wherever it goes.
            assert!(shown.contains('\x1b') || command.starts_with("report"), "{command}: no colours\n{shown}");
            let shown = plain(&shown);
            let widest = shown.lines().map(|line| line.chars().count()).max().unwrap_or_default();
            assert!(widest <= columns as usize, "{command} at {columns}: {widest}\n{shown}");
        }
    }
    let jobs = plain(&on_terminal(&installation, 80, "job list"));
    assert!(jobs.contains("a-monitor-whose-name-is-very-long-indeed"), "{jobs}");
    let piped = installation.run(&["job", "list"]);
    assert!(piped.contains("SCHEDULE") && !piped.contains('…') && !piped.contains('\x1b'), "{piped}");
}

/// What stands between the codes that move and colour.
fn pieces(shown: &str) -> impl Iterator<Item = &str> {
    let parts = shown.split("\x1b[").enumerate();
    parts.flat_map(|(at, part)| match at {
        0 => part.lines(),
        _ => part.trim_start_matches(|it: char| !it.is_ascii_alphabetic()).get(1..).unwrap_or_default().lines(),
    })
}

#[test]
fn how_far_a_backup_is_fits_the_terminal_and_is_a_line_a_step_without_one() {
    let directory = directory();
    let cluster = Cluster::start(directory.path());
    let job = "[jobs.full]\nkind = \"backup.physical\"\nrepositories = [\"local\"]\nrate-limit = \"16MiB\"\n";
    let mut installation = Installation::new(directory.path(), &format!("{}{job}", cluster_and_repository(&cluster)));
    installation.start();
    for columns in [60, 80, 120] {
        let shown = on_terminal(&installation, columns, "job run full --wait");
        let widest = pieces(&shown).map(|piece| piece.chars().count()).max().unwrap_or_default();
        // Two lines, the first filled up with blanks to the width.
        assert!(widest <= 2 * columns as usize, "{columns}: {widest}\n{shown:?}");
        let measured = pieces(&shown)
            .filter(|piece| piece.contains("full: copying the data") && piece.contains(" MiB of "))
            .last()
            .unwrap_or_else(|| panic!("{shown:?}"));
        assert!(measured.contains('█') && measured.contains(" %  "), "{measured}");
        assert_eq!(measured.contains("MiB/s"), columns == 120, "{measured}");
    }
    let piped = installation.command(&["job", "run", "full", "--wait"]).env_remove("PGBOSUN_LOG").output().unwrap();
    let said = String::from_utf8_lossy(&piped.stderr).into_owned();
    let lines: Vec<_> = said.lines().collect();
    assert_eq!(lines.iter().filter(|line| **line == "full: copying the data").count(), 1, "{said}");
    assert!(lines.iter().all(|line| line.starts_with("full: ")) && !said.contains('%'), "{said}");
}

#[test]
fn who_may_not_read_the_configuration_asks_the_daemon() {
    let directory = directory();
    let mut installation = without_server(directory.path(), "");
    let config = directory.path().join("pgbosun.toml");
    let socket = directory.path().join("control.sock").display().to_string();
    installation.start();
    chmod("000", &config);
    let run = |arguments: &[&str]| {
        let done = installation.try_run(&[&["--socket", &socket], arguments].concat());
        let said = [done.stdout, done.stderr].map(|bytes| String::from_utf8_lossy(&bytes).into_owned()).concat();
        (done.status.code().unwrap_or_default(), said)
    };
    for (arguments, contains) in [
        (&["job", "list"][..], "broken"),
        (&["job", "run", "fine", "--wait"], "succeeded"),
        (&["job", "run", "slow"], "started"),
        (&["job", "cancel", "slow"], "is being cancelled"),
        (&["job", "pause", "fine", "--reason", "quiet"], "paused fine"),
        (&["job", "resume", "fine"], "resumed fine"),
        (&["job", "history", "--job", "fine"], "succeeded"),
        (&["schedule"], "0 4 * * *: 2 monitors"),
        (&["alert", "list"], "alerts"),
        (&["alert", "silence", "--job", "fi*", "--for", "1h", "--reason", "test"], "silenced"),
        (&["alert", "silences"], "job fi*"),
    ] {
        let (code, said) = run(arguments);
        assert!(code == 0 && said.contains(contains), "{arguments:?}: {code} {said}");
    }
    let (_, said) = run(&["status"]);
    assert!(said.contains("daemon up"), "{said}");
    let (code, said) = run(&["job", "run", "no such"]);
    assert!(code == 1 && said.contains("no job is named no such"), "{said}");
    for refused in [&["backup", "list"][..], &["restore", "physical", "--to", "/tmp/nothing"], &["operator", "list"]] {
        let (code, said) = run(refused);
        let who = format!(
            "this command needs to read {}, which this user may not read: run it as root or ",
            config.display()
        );
        assert!(code == 1 && said.contains(&who), "{refused:?}: {code} {said}");
    }
    chmod("600", &config);
    installation.stop();
    chmod("000", &config);
    let done = installation.try_run(&["--json", "--socket", &socket, "job", "list"]);
    let error: serde_json::Value = serde_json::from_slice(&done.stderr).unwrap();
    assert!(error["error"]["exit_code"] == 1 && done.stdout.is_empty(), "{error}");
    let said = error["error"]["message"].as_str().unwrap();
    assert!(!done.status.success() && said.contains("the daemon is not running"), "{said}");
}

#[test]
fn who_stops_waiting_hears_that_the_run_goes_on() {
    let directory = directory();
    let mut installation = without_server(directory.path(), "");
    installation.start();
    let mut command = installation.command(&["job", "run", "slow", "--wait"]);
    let waiting = command.stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap();
    wait_until("the run is at work", seconds(20), || {
        installation.json(&["status"])["running"].as_array().is_some_and(|running| !running.is_empty())
    });
    // It listens from when it waits on; until then the signal would end it.
    std::thread::sleep(seconds(2));
    output(Command::new("kill").arg("-INT").arg(waiting.id().to_string()));
    let done = waiting.wait_with_output().unwrap();
    let said = String::from_utf8_lossy(&done.stderr).into_owned();
    assert!(done.status.code() == Some(130) && said.contains("slow continues in the daemon"), "{said}");
    assert!(said.contains("\"pgbosun job cancel slow\" cancels it"), "{said}");
    assert_eq!(installation.json(&["status"])["running"][0]["job"], "slow");
    installation.run(&["job", "cancel", "slow"]);
}

#[test]
fn status_knows_the_server_and_is_drawn_again() {
    let directory = directory();
    let cluster = Cluster::start(directory.path());
    let jobs = "[jobs.up]\nkind = \"monitor.connectivity\"\n[jobs.role]\nkind = \"monitor.role\"\n\
                [jobs.version]\nkind = \"monitor.version\"\npackages = false\n[jobs.restart]\nkind = \"monitor.restart\"\n\
                [jobs.full]\nkind = \"backup.physical\"\nrepositories = [\"local\"]\n\
                [jobs.nightly]\nkind = \"command\"\nprogram = \"/bin/true\"\nschedule = \"0 3 * * *\"\n";
    let mut installation = Installation::new(directory.path(), &format!("{}{jobs}", cluster_and_repository(&cluster)));
    installation.start();
    for job in ["up", "role", "version", "restart"] {
        installation.check(job);
    }
    let server = installation.json(&["status"])["clusters"][0]["server"].clone();
    assert_eq!((&server["answers"], &server["standby"]), (&true.into(), &false.into()), "{server}");
    let version = server["version"].as_str().unwrap().to_owned();
    assert!(cluster.sql("show server_version").starts_with(&version), "{server}");
    assert!(server["started_at"].is_string(), "{server}");
    let shown = String::from_utf8_lossy(&installation.try_run(&["status"]).stdout).into_owned();
    assert!(shown.contains(&format!("server         PostgreSQL {version}, primary, up for ")), "{shown}");

    installation.run(&["job", "run", "full", "--wait"]);
    let long = |line: &str| line.contains("newest backup") && line.ends_with("; 1 backup");
    let piped = String::from_utf8_lossy(&installation.try_run(&["status"]).stdout).into_owned();
    assert!(piped.lines().any(|line| long(line) && line.chars().count() > 80), "{piped}");
    // On a terminal it goes on below, behind the labels, and loses nothing.
    let narrow = plain(&on_terminal(&installation, 80, "status || true"));
    let lines: Vec<_> = narrow.lines().collect();
    assert!(lines.iter().all(|line| line.chars().count() <= 80), "{narrow}");
    let at = lines.iter().position(|line| line.contains("newest backup")).unwrap();
    assert!(lines[at + 1].starts_with(&" ".repeat(19)), "{narrow}");
    assert!(long(&format!("{} {}", lines[at], lines[at + 1].trim_start())), "{narrow}");

    // A forgotten pause is seen where one looks for what comes next.
    installation.run(&["job", "pause", "nightly", "--reason", "a test"]);
    let paused = String::from_utf8_lossy(&installation.try_run(&["status"]).stdout).into_owned();
    assert!(paused.lines().any(|line| line.contains("nightly") && line.contains("paused by ")), "{paused}");
    // Whatever job could not connect says that the server is away, before the monitor of that does.
    cluster.down();
    let failed = installation.try_run(&["job", "run", "restart", "--wait"]);
    assert_ne!(failed.status.code(), Some(0));
    let away = String::from_utf8_lossy(&installation.try_run(&["status"]).stdout).into_owned();
    assert!(away.contains(", primary, does not answer") && away.contains("(no server is listening there): "), "{away}");
    cluster.up();
    // It asks anew, and the others after it.
    installation.check("up");
    installation.check("restart");
    let back = String::from_utf8_lossy(&installation.try_run(&["status"]).stdout).into_owned();
    assert!(back.contains(", primary, up for "), "{back}");

    let drawn = on_terminal(&installation, 80, "status --watch & sleep 5; kill -TERM $!; wait $! || true");
    assert!(drawn.matches("\x1b[H").count() >= 2 && drawn.contains("daemon up"), "{drawn}");
    let done = installation.try_run(&["status", "--watch"]);
    assert_eq!(done.status.code(), Some(64), "{}", String::from_utf8_lossy(&done.stderr));
}

#[test]
fn backups_go_by_the_beginning_of_their_label() {
    let directory = directory();
    let cluster = Cluster::start(directory.path());
    let more = "[repositories.second]\ntype = \"local\"\npath = \"{dir}/second\"\n\
                [jobs.full]\nkind = \"backup.physical\"\nrepositories = [\"local\"]\n";
    let installation = Installation::new(directory.path(), &format!("{}{more}", cluster_and_repository(&cluster)));
    installation.run(&["backup", "create"]);
    installation.run(&["backup", "create"]);
    let listed = installation.json(&["backup", "list"]);
    let labels: Vec<_> = listed.as_array().unwrap().iter().map(|one| one["label"].as_str().unwrap()).collect();
    let common = labels[0].bytes().zip(labels[1].bytes()).take_while(|(one, other)| one == other).count();
    let (first, both) = (&labels[0][..=common], &labels[0][..common]);
    for command in ["show", "verify", "keep", "unkeep", "remove"] {
        let force = if command == "remove" { &["--force"][..] } else { &[] };
        let done = installation.try_run(&[&["backup", command, both], force].concat());
        let said = String::from_utf8_lossy(&done.stderr).into_owned();
        assert!(done.status.code() == Some(64) && labels.iter().all(|label| said.contains(label)), "{command}: {said}");
    }
    assert!(installation.run(&["backup", "show", first]).contains(labels[0]));
    assert!(installation.run(&["backup", "verify", first]).contains(labels[0]));
    assert!(installation.run(&["backup", "keep", first]).contains(labels[0]));
    assert!(installation.run(&["backup", "list"]).contains("kept"));
    installation.run(&["backup", "unkeep", first]);
    assert!(installation.run(&["backup", "copy", first, "--to", "second"]).contains(labels[0]));
    let to = directory.path().join("restored");
    let place = to.display().to_string();
    let restore = ["restore", "physical", "--backup", first, "--to", &place, "--beside"];
    installation.run(&restore);
    let done = installation.try_run(&[&restore[..], &["--force"]].concat());
    let said = String::from_utf8_lossy(&done.stderr).into_owned();
    assert_eq!(said.matches("restoring ").count(), 1, "what was announced is not a step besides: {said}");
    let told = format!(", in {place} will be replaced by backup {} of main, taken ", labels[0]);
    assert!(
        done.status.success() && said.contains("the data directory of PostgreSQL") && said.contains(&told),
        "{said}"
    );
    assert!(installation.run(&["backup", "remove", first, "--force"]).contains(labels[0]));
}

#[test]
fn a_shell_completes_jobs_labels_clusters_and_alerts() {
    let directory = directory();
    let cluster = Cluster::start(directory.path());
    let configuration = format!(
        "{}{MAIL}[jobs.full]\nkind = \"backup.physical\"\nrepositories = [\"local\"]\n[jobs.fails]\nkind = \"command\"\nprogram = \"/bin/false\"\n",
        cluster_and_repository(&cluster)
    );
    let mut installation = Installation::new(directory.path(), &configuration);
    installation.run(&["backup", "create"]);
    installation.start();
    assert!(!installation.try_run(&["job", "run", "fails", "--wait"]).status.success());
    let offered = |words: &str| {
        let script = format!(
            "source <(pgbosun completions bash)\nCOMP_WORDS=({words})\nCOMP_CWORD=$((${{#COMP_WORDS[@]}} - 1))\nCOMP_TYPE=9\n\
             _clap_complete_pgbosun pgbosun\nprintf '%s\\n' \"${{COMPREPLY[@]}}\""
        );
        let mut bash = Command::new("bash");
        bash.args(["-c", &script])
            .env("PGBOSUN_CONFIG", directory.path().join("pgbosun.toml"))
            .env("PGBOSUN_LOG", "off");
        let path = format!("{}:{}", program().parent().unwrap().display(), std::env::var("PATH").unwrap());
        let words = output(bash.env("PATH", path));
        let names =
            words.lines().map(|line| line.trim().to_owned()).filter(|word| !word.is_empty() && !word.starts_with('-'));
        names.collect::<Vec<_>>()
    };
    assert_eq!(offered("pgbosun job run f"), ["fails", "full"]);
    assert_eq!(offered("pgbosun restore physical --cluster ''"), ["main"]);
    let label = installation.json(&["backup", "list"])[0]["label"].as_str().unwrap().to_owned();
    assert_eq!(offered("pgbosun backup show ''"), [label]);
    let alerts = installation.json(&["alert", "list"]);
    let id = alerts[0]["id"].as_str().unwrap();
    assert_eq!(offered("pgbosun alert ack ''"), [&id[id.len() - 8..]]);
    // What cannot be found out is not offered, and nothing is said.
    fs::write(directory.path().join("pgbosun.toml"), "nonsense").unwrap();
    assert!(offered("pgbosun backup show ''").is_empty());
}

#[test]
fn who_may_use_the_socket_chooses_neither_configuration_nor_how_long_the_daemon_works() {
    let directory = directory();
    let mut installation = without_server(directory.path(), "");
    installation.start();
    let ask = |path: &str, body: &str| {
        let mut curl = Command::new("curl");
        curl.args(["-s", "--max-time", "60", "--unix-socket"]).arg(directory.path().join("control.sock"));
        if !body.is_empty() {
            curl.args(["-H", "content-type: application/json", "-d", body]);
        }
        output(curl.arg(format!("http://pgbosun{path}")))
    };
    let stolen = directory.path().join("stolen.toml");
    fs::write(&stolen, "[repositories.stolen]\ntype = \"local\"\npath = \"/nonexistent/stolen\"\n").unwrap();
    let config = directory.path().join("pgbosun.toml");
    for cluster in [format!("--config={}", stolen.display()), "--help".into(), "nobody's".into()] {
        let said = ask("/check", &serde_json::json!({"config": config, "cluster": cluster}).to_string());
        assert!(said.contains("no cluster") && !said.contains("stolen:"), "{said}");
    }
    let said = ask("/check", &serde_json::json!({"config": stolen}).to_string());
    assert!(said.contains("elsewhere"), "{said}");
    let said = ask("/check", &serde_json::json!({"config": config, "cluster": "main"}).to_string());
    assert!(said.starts_with("{\"lines\":["), "{said}");
    let runs: serde_json::Value = serde_json::from_str(&ask("/schedule?days=65535", "")).unwrap();
    let of = |job: &str| runs.as_array().unwrap().iter().filter(|run| run["job"] == job).count();
    assert_eq!(of("fine"), 400);
}
