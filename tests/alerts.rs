//! From a problem to the mail about it, and to the mail that it is over.

use crate::support::{Cluster, Installation, MAIL, cluster_and_repository, directory, seconds, wait_until};
use std::{fs, path::Path};

#[test]
fn a_dead_server_is_told_once_reminded_and_resolved() {
    let directory = directory();
    let cluster = Cluster::start(directory.path());
    let configuration = format!(
        "[clusters.main]\nconnection = \"{}\"\n{MAIL}repeat = \"4s\"\n[jobs.connectivity]\nkind = \"monitor.connectivity\"\nschedule = \"* * * * * *\"\n",
        cluster.connection()
    );
    let mut installation = Installation::new(directory.path(), &configuration);
    installation.start();
    wait_until("it is watched", seconds(10), || installation.count("connectivity", "succeeded") >= 2);
    assert!(installation.mails().is_empty());
    cluster.down();
    wait_until("a reminder", seconds(30), || installation.mails().len() >= 2);
    let status = installation.try_run(&["status"]);
    assert_eq!(status.status.code(), Some(2));
    cluster.up();
    wait_until("resolved", seconds(20), || installation.mails().iter().any(|subject| subject.contains("RESOLVED")));
    let mails = installation.mails();
    assert_eq!(mails[0], "[DB-ALERT] CRITICAL main: does not accept connections");
    assert_eq!(mails[1], "[DB-ALERT] CRITICAL main: still: does not accept connections");
    assert_eq!(mails.last().unwrap(), "[DB-ALERT] RESOLVED main: does not accept connections");
    let open =
        installation.journal("select count(*), count(distinct fingerprint), sum(state = 'resolved') from alerts");
    assert_eq!(open, "1|1|1");
    let sent = installation.journal("select count(*) from notifications where notice = 'opened'");
    assert_eq!(sent, "1");
    // All of one incident are one thread, written by a program.
    let mails: Vec<_> = fs::read_dir(directory.path().join("mail"))
        .unwrap()
        .flatten()
        .map(|f| fs::read_to_string(f.path()).unwrap())
        .collect();
    let thread = mails[0].lines().find(|line| line.starts_with("References: ")).unwrap();
    assert!(mails.iter().all(|mail| mail.contains(thread) && mail.contains("Auto-Submitted: auto-generated")));
}

#[test]
fn a_monitor_that_cannot_look_is_unknown_and_alerts() {
    let directory = directory();
    let configuration = format!(
        "{MAIL}[clusters.main]\nconnection = \"host=/nowhere user=postgres\"\n[repositories.closed]\ntype = \"local\"\n\
         path = \"/root/pgbosun-closed\"\n[jobs.age]\nkind = \"monitor.backup-age\"\nschedule = \"* * * * * *\"\n"
    );
    let mut installation = Installation::new(directory.path(), &configuration);
    installation.start();
    wait_until("mail", seconds(10), || !installation.mails().is_empty());
    assert!(installation.mails()[0].contains("UNKNOWN main: check age could not run"), "{:?}", installation.mails());
    assert_eq!(installation.try_run(&["status"]).status.code(), Some(3));
}

/// Reference 000 (its lines by id): 000-M2.
#[test]
fn the_disk_monitor_fires_and_stays_quiet() {
    let directory = directory();
    // Memory, not a disk: that of the machine may be as full as it likes.
    let configuration = |critical: u8| {
        format!(
            "{MAIL}[jobs.disk]\nkind = \"monitor.disk\"\npaths = [\"/dev/shm\"]\nwarning-percent = {critical}\ncritical-percent = {critical}\nminimum-free = \"1B\"\n"
        )
    };
    let installation = Installation::new(directory.path(), &configuration(0));
    assert_eq!(installation.try_run(&["job", "run", "disk", "--wait"]).status.code(), Some(2));
    assert!(
        installation.mails()[0].contains("CRITICAL test: file system of /dev/shm is"),
        "{:?}",
        installation.mails()
    );
    installation.configure(&configuration(100));
    installation.check("disk");
    assert!(installation.mails()[1].contains("RESOLVED"), "{:?}", installation.mails());
}

/// An installation whose jobs fail while a file of their name is there.
fn breakable(directory: &Path, jobs: &[&str], options: &str, groups: &str) -> Installation {
    let mut text = format!("{MAIL}{groups}");
    for job in jobs {
        text += &format!(
            "[jobs.{job}]\nkind = \"monitor.command\"\nprogram = \"/bin/sh\"\n\
             arguments = [\"-c\", \"test ! -e {{dir}}/{job} || {{ echo {job} is broken; exit 1; }}\"]\nschedule = \"* * * * * *\"\n{options}"
        );
    }
    Installation::new(directory, &text)
}

fn break_it(directory: &Path, job: &str) {
    fs::write(directory.join(job), "").unwrap();
}

fn mend(directory: &Path, job: &str) {
    fs::remove_file(directory.join(job)).unwrap();
}

#[test]
fn what_passes_by_itself_is_told_to_nobody() {
    let directory = directory();
    let mut installation = breakable(directory.path(), &["shaky"], "open-after = \"4 looks\"\n", "");
    installation.start();
    break_it(directory.path(), "shaky");
    wait_until("it is seen", seconds(20), || {
        installation.journal("select state from alerts") == "pending"
            && installation.try_run(&["status"]).status.success()
    });
    mend(directory.path(), "shaky");
    wait_until("it is over", seconds(20), || installation.journal("select state from alerts") == "resolved");
    break_it(directory.path(), "shaky");
    wait_until("it stays", seconds(20), || installation.mails().len() == 1);
    assert!(installation.mails()[0].contains("WARNING"), "{:?}", installation.mails());
    assert!(installation.journal("select looks from alerts where state = 'open'").parse::<u32>().unwrap() >= 4);
}

#[test]
fn acknowledged_and_silenced_survive_a_kill_and_nothing_is_told_twice() {
    let directory = directory();
    let mut installation = breakable(directory.path(), &["one", "two", "three"], "", "repeat = \"3s\"\n");
    installation.start();
    installation.run(&["alert", "silence", "--job", "t*", "--for", "1h", "--reason", "works on it"]);
    for job in ["one", "two", "three"] {
        break_it(directory.path(), job);
    }
    wait_until("it is told", seconds(20), || !installation.mails().is_empty());
    let id =
        installation.json(&["alert", "list"]).as_array().unwrap().iter().find(|a| a["job"] == "one").unwrap()["id"]
            .clone();
    installation.run(&["alert", "ack", id.as_str().unwrap(), "--reason", "I look"]);
    let mails = installation.mails();
    installation.kill();
    installation.start();
    wait_until("all were looked at again", seconds(20), || {
        installation.journal("select min(looks) from alerts").parse::<u32>().unwrap_or(0) > 8
    });
    assert_eq!(installation.mails(), mails, "nothing is told while it is acknowledged and silenced");
    let list = installation.run(&["alert", "list"]);
    assert_eq!((list.matches("silenced").count(), list.matches("acknowledged").count()), (2, 1), "{list}");
    let status = String::from_utf8_lossy(&installation.try_run(&["status"]).stdout).into_owned();
    assert!(status.contains(": I look") && status.contains("works on it"), "{status}");

    // One goes while it is silent: nobody ever heard of it. The other is told when the silence ends.
    mend(directory.path(), "two");
    wait_until("it is over", seconds(20), || {
        installation.journal("select state from alerts where job = 'two'") == "resolved"
    });
    let silences = installation.json(&["alert", "silences"]);
    installation.run(&["alert", "unsilence", silences[0]["id"].as_str().unwrap()]);
    wait_until("the rest is told", seconds(20), || installation.mails().len() > mails.len());
    assert!(installation.mails().last().unwrap().contains("three"), "{:?}", installation.mails());
    mend(directory.path(), "one");
    wait_until("the end is told", seconds(20), || installation.mails().iter().any(|mail| mail.contains("RESOLVED")));
    assert!(!installation.mails().iter().any(|mail| mail.contains("two")), "{:?}", installation.mails());
    let audit = installation.journal("select group_concat(action) from audit_log where action not in ('run')");
    assert_eq!(audit, "silence,acknowledge,unsilence");
}

#[test]
fn a_dead_server_is_one_message_whatever_else_cannot_work_then() {
    let directory = directory();
    let cluster = Cluster::start(directory.path());
    let configuration = format!(
        "[clusters.main]\nconnection = \"{}\"\n[repositories.local]\ntype = \"local\"\npath = \"{{dir}}/repo\"\n{}\
         [jobs.connectivity]\nkind = \"monitor.connectivity\"\nschedule = \"* * * * * *\"\n\
         [jobs.locks]\nkind = \"monitor.locks\"\nschedule = \"* * * * * *\"\n\
         [jobs.full]\nkind = \"backup.physical\"\nrepositories = [\"local\"]\nschedule = \"*/2 * * * * *\"\n",
        cluster.connection(),
        MAIL.replace("gather = \"0s\"", "gather = \"4s\"")
    );
    let mut installation = Installation::new(directory.path(), &configuration);
    installation.start();
    wait_until("backups", seconds(30), || installation.count("full", "succeeded") >= 1);
    cluster.down();
    wait_until("backups fail", seconds(40), || installation.count("full", "failed") >= 2);
    wait_until("it is told", seconds(20), || !installation.mails().is_empty());
    std::thread::sleep(seconds(3));
    let mails = installation.mails();
    assert!(mails.len() == 1 && mails[0].ends_with("CRITICAL main: does not accept connections"), "{mails:?}");
    let list = installation.run(&["alert", "list"]);
    assert!(list.contains("explained"), "{list}");
    cluster.up();
    wait_until("all is over", seconds(40), || installation.mails().iter().any(|mail| mail.contains("RESOLVED")));
    wait_until("backups work", seconds(40), || {
        installation.journal("select count(*) from alerts where state <> 'resolved'") == "0"
    });
    std::thread::sleep(seconds(5));
    assert!(!installation.mails().iter().any(|mail| mail.contains("job full failed")), "{:?}", installation.mails());
}

#[test]
fn a_storm_is_a_few_messages_and_a_digest() {
    let directory = directory();
    let jobs = ["a", "b", "c", "d", "e"];
    let mut installation = breakable(directory.path(), &jobs, "", "");
    let text = fs::read_to_string(directory.path().join("pgbosun.toml")).unwrap();
    let text = text.replace("[mail]\n", "[mail]\nhourly-limit = 2\n");
    fs::write(directory.path().join("pgbosun.toml"), text).unwrap();
    let clock = directory.path().join("clock");
    installation.clock = Some(clock.clone());
    installation.start();
    for (number, job) in jobs.iter().enumerate() {
        break_it(directory.path(), job);
        let told = || installation.journal("select count(*) from notifications").parse::<usize>().unwrap();
        wait_until("it is told", seconds(20), || told() > number);
    }
    assert_eq!(installation.mails().len(), 2);
    assert_eq!(installation.journal("select count(*) from notifications where state = 'held'"), "3");
    fs::write(&clock, "3700").unwrap();
    wait_until("the digest", seconds(20), || installation.mails().len() == 3);
    let digest = installation.mails().remove(2);
    assert!(digest.contains("digest: WARNING") && digest.contains("(and 2 more)"), "{digest}");
    wait_until("nothing is left", seconds(20), || {
        installation.journal("select count(*) from notifications where state in ('held', 'pending')") == "0"
    });
}

#[test]
fn a_test_message_goes_to_the_operators_as_last_read_while_the_history_database_is_down() {
    let directory = directory();
    let cluster = Cluster::start(directory.path());
    let configuration = format!("[history]\nconnection = \"{}\"\n{MAIL}", cluster.connection());
    let mut installation = Installation::new(directory.path(), &configuration);
    installation.run(&["migrate"]);
    installation.run(&["operator", "add", "database", "anna@example.com"]);
    // A group that is switched off is told to nobody, and not to those of the configuration.
    let switch = |on: bool| {
        cluster.sql(&format!("update dba_ops.operator_groups set active = {on} where group_name = 'database'"));
    };
    switch(false);
    let refused = installation.try_run(&["alert", "test", "database"]);
    let words = String::from_utf8_lossy(&refused.stdout).into_owned();
    assert!(!refused.status.success() && words.contains("nobody to notify"), "{words}");
    switch(true);
    installation.start();
    wait_until("operators are cached", seconds(20), || {
        installation.journal("select email from operator_cache") == "anna@example.com"
    });
    cluster.down();
    let tested = installation.try_run(&["alert", "test", "database"]);
    let (out, error) = (String::from_utf8_lossy(&tested.stdout), String::from_utf8_lossy(&tested.stderr));
    assert!(tested.status.success() && out.contains("accepted to anna@example.com"), "{out}{error}");
    assert!(error.contains("the operators last read from it are notified"), "{error}");
}

#[test]
fn a_group_that_is_switched_off_is_no_fault_where_the_fail_safe_group_hears_it() {
    let directory = directory();
    let cluster = Cluster::start(directory.path());
    let configuration = format!(
        "fail-safe-group = \"boss\"\nfail-safe-after = \"1s\"\n[history]\nconnection = \"{}\"\n{MAIL}\
         [groups.boss]\nrecipients = [\"boss@example.com\"]\ngather = \"0s\"\n\
         [jobs.broken]\nkind = \"command\"\nprogram = \"/bin/false\"\nalert-group = \"database\"\n",
        cluster.connection()
    );
    let mut installation = Installation::new(directory.path(), &configuration);
    installation.run(&["migrate"]);
    installation.run(&["operator", "add", "DATABASE", "anna@example.com"]);
    cluster.sql("update dba_ops.operator_groups set active = false where group_name = 'database'");
    installation.start();
    wait_until("the group is known to be off", seconds(20), || {
        installation.journal("select count(*) from settings where value like '%database%'") == "1"
    });
    installation.try_run(&["job", "run", "broken", "--wait"]);
    wait_until("the fail-safe group hears it", seconds(20), || installation.mails().len() == 1);
    wait_until("nothing waits", seconds(20), || {
        installation.journal("select count(*) from notifications where state <> 'sent'") == "0"
    });
    let told = "select group_name, recipients from notifications order by group_name";
    assert_eq!(installation.journal(told), "boss|[\"boss@example.com\"]\ndatabase|[]");
    std::thread::sleep(seconds(2));
    assert_eq!(installation.journal("select count(*) from alerts"), "1", "that nobody of it is told is no alert");
}

/// Nobody sees that it is over: its job was switched off or removed, or somebody says so.
#[test]
fn an_alert_that_nobody_looks_at_any_more_ends_and_says_why() {
    let directory = directory();
    let mut installation = breakable(directory.path(), &["off", "gone", "said"], "", "");
    installation.start();
    for job in ["off", "gone", "said"] {
        break_it(directory.path(), job);
    }
    let open = |installation: &Installation| installation.journal("select count(*) from alerts where state = 'open'");
    wait_until("all are told", seconds(30), || {
        installation.journal("select count(*) from alerts where state = 'open' and notified_at is not null") == "3"
    });
    let path = directory.path().join("pgbosun.toml");
    let text = fs::read_to_string(&path).unwrap();
    let (before, after) = text.split_once("[jobs.gone]").unwrap();
    let after = after.split_once("\n[").map_or_else(String::new, |(_, rest)| format!("[{rest}"));
    fs::write(&path, format!("{before}{after}").replace("[jobs.off]\n", "[jobs.off]\nenabled = false\n")).unwrap();
    installation.reload();
    wait_until("two are over", seconds(20), || open(&installation) == "1");
    let why = |job: &str| installation.journal(&format!("select resolution from alerts where job = '{job}'"));
    assert_eq!(why("off"), "job off is switched off (enabled = false)");
    assert_eq!(why("gone"), "job gone is no longer configured");

    let id = installation.journal("select id from alerts where job = 'said'");
    installation.run(&["job", "pause", "said", "--reason", "the test has it still"]);
    let refused = installation.try_run(&["alert", "resolve", &id, "--reason", " "]);
    assert!(String::from_utf8_lossy(&refused.stderr).contains("give a reason with --reason"));
    installation.run(&["alert", "resolve", &id, "--reason", "the disk was replaced"]);
    assert!(why("said").ends_with(" says: the disk was replaced"), "{}", why("said"));
    let audited = installation.journal(
        "select action || ' ' || object || ' ' || detail from audit_log where action = 'resolve' and outcome = 'done'",
    );
    assert_eq!(
        audited,
        format!(
            "resolve {} the disk was replaced",
            installation.journal("select fingerprint from alerts where job = 'said'")
        )
    );
    let resolved = || {
        let mails = fs::read_dir(directory.path().join("mail")).unwrap().flatten();
        let mails: Vec<_> = mails
            .map(|mail| fs::read_to_string(mail.path()).unwrap())
            .filter(|mail| mail.contains("RESOLVED"))
            .collect();
        mails.concat().replace("=\r\n", "").replace("=3D", "=")
    };
    wait_until("all ends are told", seconds(30), || {
        let told = resolved();
        [why("off"), why("gone"), why("said")]
            .iter()
            .all(|why| told.contains(&format!("It was closed without a check: {why}.")))
    });
    let shown = installation.run(&["alert", "show", &id]);
    assert!(shown.contains("resolution   ") && shown.contains("the disk was replaced"), "{shown}");
    // It is still broken: the next check says so.
    installation.run(&["job", "resume", "said"]);
    wait_until("it is a new alert", seconds(30), || open(&installation) == "1");
}

#[test]
fn a_look_that_finds_the_worst_says_so_and_ends_with_its_code() {
    let directory = directory();
    let cluster = Cluster::start(directory.path());
    let configuration = format!(
        "[clusters.main]\nconnection = \"{}\"\n[jobs.connectivity]\nkind = \"monitor.connectivity\"\n",
        cluster.connection()
    );
    let mut installation = Installation::new(directory.path(), &configuration);
    let answered = |installation: &Installation, job: &str| {
        let done = installation.try_run(&["job", "run", job, "--wait"]);
        (String::from_utf8_lossy(&done.stdout).into_owned(), done.status.code())
    };
    let (said, code) = answered(&installation, "connectivity");
    assert!(code == Some(0) && said.starts_with("succeeded ") && !said.contains("checked:"), "{said}");
    cluster.down();
    for daemon in [false, true] {
        if daemon {
            installation.start();
        }
        let (said, code) = answered(&installation, "connectivity");
        assert!(code == Some(2) && said.starts_with("checked: CRITICAL ") && said.contains(" connectivity "), "{said}");
        assert!(said.lines().any(|line| line.starts_with("  CRITICAL ") && line.contains("main: ")), "{said}");
        // The last line is of the whole, however many findings there are.
        assert!(said.lines().last().is_some_and(|line| !line.starts_with(' ')), "{said}");
    }
}

/// Reference 000 (its lines by id): 000-E8.
#[test]
fn who_hears_of_a_failure_gets_the_end_of_its_log() {
    let directory = directory();
    let cluster = Cluster::start(directory.path());
    let place = format!("[clusters.main]\nlog-directory = \"{}\"\n", directory.path().display());
    let configuration = cluster_and_repository(&cluster).replace("[clusters.main]\n", &place);
    let installation = Installation::new(
        directory.path(),
        &format!(
            "{configuration}[jobs.up]\nkind = \"monitor.connectivity\"\n\
             [jobs.failing]\nkind = \"command\"\nprogram = \"/bin/sh\"\narguments = [\"-c\", \"echo step one: fine; echo step two: no; exit 3\"]\n"
        ),
    );
    cluster.stop();
    installation.check("up");
    installation.try_run(&["job", "run", "failing", "--wait"]);
    let alerts = installation.json(&["alert", "list"]);
    let of = |job: &str| alerts.as_array().unwrap().iter().find(|alert| alert["job"] == job).unwrap().clone();
    let (down, failed) = (of("up"), of("failing"));
    let text = down["detail"].as_str().unwrap();
    assert!(text.contains("pg.log") && text.trim_end().ends_with("database system is shut down"), "{text}");
    assert!(failed["detail"].as_str().unwrap().contains("\nstep one: fine\nstep two: no"), "{failed}");
    // A line of a log is text, whatever colons are in it.
    let parts = failed["parts"].as_array().unwrap();
    assert_eq!(parts.last().unwrap()["text"], "step one: fine\nstep two: no");
}
