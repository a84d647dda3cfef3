//! The scheduler and the runner in a running daemon. What depends on the clock alone is proved in `core::schedule`.

use crate::support::{Cluster, Installation, MAIL, directory, output, program, seconds, set_clock, wait_until};
use chrono::{Duration, NaiveTime, Utc};
use std::{fs, process::Command, time::Instant};

fn command(name: &str, script: &str, more: &str) -> String {
    format!("[jobs.{name}]\nkind = \"command\"\nprogram = \"/bin/sh\"\narguments = [\"-c\", {script:?}]\n{more}\n")
}

fn alive(pattern: &str) -> bool {
    Command::new("pgrep").args(["-f", pattern]).output().unwrap().status.success()
}

#[test]
fn a_job_never_overlaps_itself_and_the_reason_is_recorded() {
    let directory = directory();
    let mut installation =
        Installation::new(directory.path(), &command("slow", "sleep 2.5", "schedule = \"* * * * * *\""));
    installation.start();
    wait_until("two runs", seconds(20), || installation.count("slow", "succeeded") >= 2);
    let skipped: Vec<_> = installation.history("slow").into_iter().filter(|run| run["state"] == "skipped").collect();
    assert!(skipped.len() >= 3, "{skipped:?}");
    assert!(skipped[0]["summary"].as_str().unwrap().contains("is still running"));
    // By hand it runs between two of its times, and not while it is at work.
    wait_until("it rests", seconds(20), || installation.try_run(&["job", "run", "slow"]).status.success());
    wait_until("busy", seconds(5), || !installation.try_run(&["job", "run", "slow"]).status.success());
}

#[test]
fn concurrent_jobs_are_limited() {
    let directory = directory();
    let script = "echo in >> {dir}/log; sleep 1; echo out >> {dir}/log";
    let jobs: String = (0..6).map(|n| command(&format!("job{n}"), script, "")).collect();
    let mut installation = Installation::new(directory.path(), &format!("max-concurrent-jobs = 2\n{jobs}"));
    installation.start();
    for n in 0..6 {
        installation.run(&["job", "run", &format!("job{n}")]);
    }
    wait_until("all done", seconds(20), || (0..6).all(|n| installation.count(&format!("job{n}"), "succeeded") == 1));
    let (mut now, mut most) = (0, 0);
    for line in fs::read_to_string(directory.path().join("log")).unwrap().lines() {
        now += if line == "in" { 1 } else { -1 };
        most = most.max(now);
    }
    assert_eq!(most, 2);
}

#[test]
fn jobs_of_one_group_wait_for_each_other() {
    let directory = directory();
    let script = "echo in >> {dir}/log; sleep 1; echo out >> {dir}/log";
    let jobs: String = ["a", "b", "c"].map(|name| command(name, script, "exclusive = [\"disk\", \"other\"]")).concat();
    let free = command("free", "true", "");
    let mut installation = Installation::new(directory.path(), &format!("{jobs}{free}"));
    installation.start();
    installation.run(&["job", "run", "a"]);
    installation.run(&["job", "run", "b"]);
    // One that says what it would do, and one of no group, wait for nobody.
    installation.run(&["job", "run", "c", "--dry-run"]);
    installation.check("free");
    let status = installation.json(&["status"]);
    assert!(status["running"].to_string().contains("waiting for its turn"), "{status}");
    wait_until("both done", seconds(20), || ["a", "b"].iter().all(|name| installation.count(name, "succeeded") >= 1));
    assert_eq!(fs::read_to_string(directory.path().join("log")).unwrap(), "in\nout\nin\nout\n");
}

#[test]
fn only_passing_failures_are_retried_and_the_alert_comes_after_the_last() {
    let directory = directory();
    let configuration = format!(
        "{MAIL}{}{}{}",
        command("passing", "echo x >> {dir}/passing; exit 75", "retries = 2\nretry-delay = \"200ms\""),
        command("lasting", "echo why >&2; exit 3", "retries = 2\nretry-delay = \"200ms\""),
        command(
            "recovers",
            "[ -e {dir}/second ] && exit 0; touch {dir}/second; exit 75",
            "retries = 1\nretry-delay = \"100ms\""
        )
    );
    let mut installation = Installation::new(directory.path(), &configuration);
    installation.start();
    let failed = installation.try_run(&["job", "run", "passing", "--wait"]);
    assert_eq!(failed.status.code(), Some(1));
    assert_eq!(fs::read_to_string(directory.path().join("passing")).unwrap().lines().count(), 3);
    assert_eq!(installation.history("passing")[0]["attempts"], 3);
    installation.try_run(&["job", "run", "lasting", "--wait"]);
    let run = &installation.history("lasting")[0];
    assert_eq!((run["attempts"].as_u64(), run["state"].as_str()), (Some(1), Some("failed")));
    assert!(run["summary"].as_str().unwrap().contains("exited with 3: why"), "{run}");
    installation.check("recovers");
    assert_eq!(installation.history("recovers")[0]["attempts"], 2);
    wait_until("mails", seconds(10), || installation.mails().len() >= 2);
    let mails = installation.mails();
    assert_eq!(mails.len(), 2, "one for each job that failed: {mails:?}");
    assert!(mails.iter().any(|subject| subject.contains("job passing failed")));
    // A dry run looks at nothing, and resolves nothing.
    let said = installation.run(&["job", "run", "lasting", "--dry-run"]);
    assert!(said.contains("would run /bin/sh"), "{said}");
    assert_eq!(installation.journal("select state from alerts where job = 'lasting'"), "open");
}

#[test]
fn a_timeout_ends_the_whole_process_group() {
    let directory = directory();
    let marker = format!("31{}", std::process::id());
    let job = command(
        "slow",
        &format!("trap '' TERM; sleep {marker} & sleep {marker}"),
        "timeout = \"1s\"\npatience = \"1s\"",
    );
    let mut installation = Installation::new(directory.path(), &job);
    installation.start();
    let begun = Instant::now();
    installation.try_run(&["job", "run", "slow", "--wait"]);
    assert!(begun.elapsed() < seconds(10));
    assert_eq!(installation.count("slow", "timed-out"), 1);
    wait_until("no child is left", seconds(5), || !alive(&format!("sleep {marker}")));
}

#[test]
fn cancelling_reaches_children_and_queries() {
    let directory = directory();
    let cluster = Cluster::start(directory.path());
    let marker = format!("32{}", std::process::id());
    let configuration = format!(
        "[clusters.main]\nconnection = \"{}\"\n[jobs.query]\nkind = \"sql\"\nstatement = \"select pg_sleep(600)\"\n{}",
        cluster.connection(),
        command("child", &format!("sleep {marker} & wait"), "")
    );
    let mut installation = Installation::new(directory.path(), &configuration);
    installation.start();
    let active = "select count(*) from pg_stat_activity where state = 'active' and query like 'select pg_sleep%'";
    installation.run(&["job", "run", "query"]);
    installation.run(&["job", "run", "child"]);
    wait_until("the query runs", seconds(10), || cluster.sql(active) == "1");
    wait_until("the child runs", seconds(10), || alive(&format!("sleep {marker}")));
    installation.run(&["job", "cancel", "query"]);
    installation.run(&["job", "cancel", "child"]);
    wait_until("the query is cancelled", seconds(10), || cluster.sql(active) == "0");
    wait_until("the child is gone", seconds(10), || !alive(&format!("sleep {marker}")));
    wait_until("both are recorded", seconds(10), || {
        installation.count("query", "cancelled") == 1 && installation.count("child", "cancelled") == 1
    });
    assert!(!installation.try_run(&["job", "cancel", "child"]).status.success());
    assert_eq!(
        installation
            .journal("select group_concat(action || ' ' || object || iif(outcome like 'refused%', ' refused', ''), ', ') from (select * from audit_log order by id)"),
        "run query, run child, cancel query, cancel child, cancel child refused"
    );
}

/// Reference 000 (its lines by id): 000-P3.
#[test]
fn a_pause_survives_a_restart_and_downtime_is_caught_up_or_missed() {
    let directory = directory();
    let configuration = format!(
        "{}{}{}",
        command("once", "true", "schedule = \"*/4 * * * * *\"\ncatch-up = \"once\""),
        command("none", "true", "schedule = \"*/4 * * * * *\""),
        command("boot", "true", "schedule = \"@reboot\"")
    );
    let mut installation = Installation::new(directory.path(), &configuration);
    installation.start();
    wait_until("runs", seconds(15), || {
        installation.count("once", "succeeded") >= 1 && installation.count("none", "succeeded") >= 1
    });
    installation.run(&["job", "pause", "once", "--reason", "holidays"]);
    installation.stop();
    let before = installation.count("once", "succeeded");
    std::thread::sleep(seconds(1));
    installation.start();
    wait_until("skips", seconds(15), || {
        installation.history("once").iter().any(|run| run["summary"].as_str().unwrap_or("").contains("holidays"))
    });
    assert_eq!(installation.count("once", "succeeded"), before);
    assert_eq!(installation.count("boot", "succeeded"), 2);
    installation.run(&["job", "resume", "once"]);
    installation.stop();
    // Pretend that the daemon was away for long: a minute ago is beyond what counts as on time.
    let journal = directory.path().join("state/journal.sqlite");
    let back = "update jobs set looked_until = strftime('%Y-%m-%dT%H:%M:%S+00:00', looked_until, '-130 seconds')";
    output(Command::new("sqlite3").arg(journal).arg(format!("delete from runs; {back}")));
    // At a moment whose newest time is some seconds old it would be on time: what is older is missed in any case.
    installation.start();
    wait_until("missed times", seconds(15), || {
        installation.count("none", "missed") >= 25 && installation.count("once", "missed") >= 25
    });
    let missed = installation.history("none").into_iter().find(|run| run["state"] == "missed").unwrap();
    assert!(missed["summary"].as_str().unwrap().contains("no daemon was running to start it"), "{missed}");
    let doubled = installation.journal("select count(*) from (select 1 from runs where trigger <> 'manual' group by job, scheduled_for having count(*) > 1)");
    assert_eq!(doubled, "0");
}

#[test]
fn blackout_windows_and_jitter() {
    let directory = directory();
    let configuration = format!(
        "{}{}",
        command("dark", "true", "schedule = \"* * * * * *\"\nblackout = [\"00:00-24:00\"]"),
        command("shaken", "true", "schedule = \"*/5 * * * * *\"\nstart-jitter = \"3s\"")
    );
    let mut installation = Installation::new(directory.path(), &configuration);
    installation.start();
    wait_until("skipped", seconds(10), || installation.count("dark", "skipped") >= 2);
    assert_eq!(installation.count("dark", "succeeded"), 0);
    assert!(installation.history("dark")[0]["summary"].as_str().unwrap().contains("blackout window 00:00-24:00"));
    wait_until("shaken", seconds(30), || installation.count("shaken", "succeeded") >= 3);
    let delays: Vec<f64> = installation
        .journal("select (julianday(started_at) - julianday(scheduled_for)) * 86400 from runs where job = 'shaken' and started_at is not null")
        .lines()
        .map(|line| line.parse().unwrap())
        .collect();
    let (least, most) = delays.iter().fold((f64::MAX, 0.0_f64), |(l, m), d| (l.min(*d), m.max(*d)));
    assert!(most - least < 1.5, "the same job is moved by the same amount: {delays:?}");
    assert!(installation.run(&["schedule", "--days", "1"]).contains("blackout window"));
}

#[test]
fn two_daemons_do_not_share_a_state_directory() {
    let directory = directory();
    let mut installation = Installation::new(directory.path(), "");
    installation.start();
    let second = installation.try_run(&["daemon"]);
    assert_eq!(second.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&second.stderr).contains("is in use by another pgbosun process"));
    assert!(installation.try_run(&["job", "list"]).status.success(), "the first one lives on");
    // Nor a control socket: the first one would be deaf.
    let written = fs::read_to_string(directory.path().join("pgbosun.toml")).unwrap();
    let other = directory.path().join("other.toml");
    fs::write(&other, written.replace("/state\"", "/other\"")).unwrap();
    let mut second = Command::new(program());
    let second = second.arg("--config").arg(&other).arg("daemon").output().unwrap();
    let said = String::from_utf8_lossy(&second.stderr).into_owned();
    assert!(!second.status.success() && said.contains("another daemon listens on"), "{said}");
    let socket = directory.path().join("control.sock");
    assert!(std::os::unix::net::UnixStream::connect(socket).is_ok(), "the first one answers");
}

/// A stop or a crash in the middle of a night's work: it runs again when the daemon is back, or its group hears of it.
#[test]
fn c40_what_a_stop_or_a_crash_ended_runs_again_or_is_told() {
    let directory = directory();
    let clock = directory.path().join("clock");
    let three =
        (Utc::now() + Duration::days(1)).date_naive().and_time(NaiveTime::from_hms_opt(3, 0, 0).unwrap()).and_utc();
    let set = |at: chrono::DateTime<Utc>| set_clock(&clock, (at - Utc::now()).num_seconds());
    set(three - Duration::seconds(8));
    let begun = |name: &str| fs::read_to_string(directory.path().join(name)).unwrap_or_default().lines().count();
    let work = |name: &str| format!("echo begun >> {}/{name}; sleep 300", directory.path().display());
    let daily = "schedule = \"0 3 * * *\"\ntime-zone = \"UTC\"\n";
    let jobs = [
        command("again", &work("again"), &format!("{daily}catch-up = \"once\"")),
        command("told", &work("told"), daily),
        command("hourly", &work("hourly"), "schedule = \"0 * * * *\""),
    ];
    let mut installation = Installation::new(directory.path(), &format!("{MAIL}{}", jobs.concat()));
    installation.clock = Some(clock.clone());
    installation.start();
    wait_until("all are at work", seconds(30), || ["again", "told", "hourly"].iter().all(|job| begun(job) == 1));
    installation.stop();
    let states = |installation: &Installation, job: &str| -> Vec<String> {
        let rows =
            installation.journal(&format!("select trigger || ' ' || state from runs where job = '{job}' order by id"));
        rows.lines().map(str::to_owned).collect()
    };
    assert_eq!(states(&installation, "again"), ["schedule interrupted"]);

    // It was stopped: what runs again is told to nobody, what does not is.
    installation.start();
    wait_until("it runs again", seconds(30), || begun("again") == 2);
    let alerts = |installation: &Installation, what: &str| {
        installation.journal(&format!("select summary from alerts where job = '{what}' and state = 'open'"))
    };
    wait_until("the other is told", seconds(30), || !installation.mails().is_empty());
    assert_eq!(alerts(&installation, "told"), "a run of told was interrupted and does not run again");
    assert!(alerts(&installation, "again").is_empty() && alerts(&installation, "hourly").is_empty());
    assert!(installation.mails().iter().all(|mail| mail.contains("does not run again")));
    let detail = installation.journal("select detail from alerts where job = 'told'");
    assert!(detail.contains("catch-up of told is \"none\""), "{detail}");
    let status = String::from_utf8_lossy(&installation.try_run(&["job", "history", "again"]).stdout).into_owned();
    assert!(status.contains("the daemon was stopped"), "{status}");

    // It crashed, again and again: three times is enough.
    for tries in 3..=4 {
        installation.kill();
        installation.start();
        wait_until("it runs again", seconds(30), || begun("again") == tries);
    }
    assert_eq!(alerts(&installation, "again"), "a run of again was interrupted");
    installation.kill();
    installation.start();
    let given_up = "a run of again was interrupted and does not run again";
    wait_until("it is told", seconds(30), || alerts(&installation, "again").contains(given_up));
    wait_until("by a mail", seconds(30), || installation.mails().iter().any(|mail| mail.contains(given_up)));
    // Somebody knows: it does not come back with every start.
    let id = installation.journal("select id from alerts where fingerprint = 'again/again' and state = 'open'");
    installation.run(&["alert", "resolve", &id, "--reason", "known"]);
    installation.stop();
    installation.start();
    // Nothing comes for a while, which a first check takes no part of.
    std::thread::sleep(seconds(3));
    assert_eq!(alerts(&installation, "again"), "a run of again was interrupted");
    assert_eq!(
        states(&installation, "again")[..4],
        ["schedule interrupted", "start interrupted", "start interrupted", "start interrupted"]
    );
    assert_eq!((begun("again"), begun("told")), (4, 1));
    // Every one for the time it was due, and a success ends the alert.
    let times = "select count(distinct scheduled_for) from runs where job = 'again'";
    assert_eq!(installation.journal(times), "1");
    installation.stop();
    let quick = jobs.concat().replace("sleep 300", "true");
    installation.configure(&format!("{MAIL}{quick}"));
    installation.start();
    installation.check("again");
    wait_until("it is over", seconds(20), || alerts(&installation, "again").is_empty());

    // Too late is told, whatever catch-up says.
    installation.stop();
    set(three + Duration::days(1) - Duration::seconds(5));
    installation.configure(&format!("{MAIL}{}", jobs.concat()));
    installation.start();
    wait_until("the next night", seconds(30), || begun("again") == 6);
    installation.stop();
    set(three + Duration::days(1) + Duration::hours(13));
    installation.start();
    wait_until("it is told", seconds(30), || {
        alerts(&installation, "again") == "a run of again was interrupted and does not run again"
    });
    assert_eq!(begun("again"), 6);
}

/// Where later times of its schedule passed too, catch-up makes good for all of them, once.
#[test]
fn c40_what_was_ended_is_not_run_beside_what_is_caught_up_with() {
    let directory = directory();
    let clock = directory.path().join("clock");
    let tomorrow = (Utc::now() + Duration::days(1)).date_naive();
    let three = tomorrow.and_time(NaiveTime::from_hms_opt(3, 0, 0).unwrap()).and_utc();
    let set = |at: chrono::DateTime<Utc>| set_clock(&clock, (at - Utc::now()).num_seconds());
    set(three - Duration::seconds(6));
    let hourly = command("hourly", "sleep 300", "schedule = \"0 * * * *\"\ntime-zone = \"UTC\"\ncatch-up = \"once\"");
    let mut installation = Installation::new(directory.path(), &hourly);
    installation.clock = Some(clock.clone());
    installation.start();
    let rows = |installation: &Installation| {
        installation.journal(
            "select group_concat(trigger || ' ' || state, ', ') from (select * from runs order by scheduled_for, id)",
        )
    };
    wait_until("it is at work", seconds(30), || rows(&installation) == "schedule running");
    installation.stop();
    set(three + Duration::minutes(150));
    installation.start();
    let caught_up = "schedule interrupted, schedule missed, catch-up running";
    wait_until("it is caught up with", seconds(30), || rows(&installation) == caught_up);
    std::thread::sleep(seconds(3));
    assert_eq!(rows(&installation), caught_up);
}
