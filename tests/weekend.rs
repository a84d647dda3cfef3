//! Reference 000, lived through: `etc/reference-000.toml` against a real server and a real mail server, with the clock of both
//! the daemon and the server moved from Saturday 22:00 to Monday 07:00, Berlin time.
//!
//! The times of its crontab are written down here once more, by hand: every job ran at each of them, once. What was reported and
//! mailed is put into the directory that `PGBOSUN_WEEKEND_REPORTS` names, to be viewed.

use crate::{
    channels::{Server, received},
    delivery::until_the_same_rows,
    support::{
        Cluster, Installation, directory, file, output, postgres, program, seconds, set_clock, subject, wait_until,
    },
};
use chrono::{DateTime, Datelike, Duration, NaiveDateTime, TimeZone, Timelike, Utc, Weekday};
use chrono_tz::{Europe::Berlin, Tz};
use serde_json::Value;
use std::{
    fs,
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

/// From Saturday 22:00 to Monday 07:00.
const HOURS: i64 = 33;
/// Every five minutes.
const LOOKS: [&str; 8] =
    ["connectivity", "disk", "cpu", "memory", "failed-logins", "temporary-files", "backup-age", "main-sample"];
/// Every day at a time.
const DAILY: [(&str, u32, u32); 7] = [
    ("full-backup", 23, 59),
    ("log-rotation", 1, 0),
    ("daily-vacuum", 3, 0),
    ("daily-catalog", 3, 0),
    ("daily-analyze", 3, 0),
    ("performance-report", 6, 0),
    ("backup-status", 6, 30),
];
/// On Sundays at a time.
const SUNDAYS: [(&str, u32, u32); 5] = [
    ("weekly-index-maintenance", 4, 0),
    ("weekly-analyze", 4, 0),
    ("weekly-advice", 4, 0),
    ("wal-cleanup", 4, 30),
    ("weekly-verification", 5, 0),
];

/// The jobs that are due at a minute.
fn due(at: DateTime<Tz>) -> Vec<&'static str> {
    let mut jobs = Vec::new();
    if at.minute().is_multiple_of(5) {
        jobs.extend(LOOKS);
    }
    let now = |hour, minute| (hour, minute) == (at.hour(), at.minute());
    jobs.extend(DAILY.iter().filter(|(_, hour, minute)| now(*hour, *minute)).map(|(job, ..)| *job));
    if at.weekday() == Weekday::Sun {
        jobs.extend(SUNDAYS.iter().filter(|(_, hour, minute)| now(*hour, *minute)).map(|(job, ..)| *job));
    }
    jobs
}

/// The next Saturday at 22:00 whose weekend has no change of the clocks, and no first of a month.
fn saturday() -> DateTime<Tz> {
    let mut day = Utc::now().with_timezone(&Berlin).date_naive();
    loop {
        day = day.succ_opt().unwrap();
        let local: NaiveDateTime = day.and_hms_opt(22, 0, 0).unwrap();
        let Some(begin) = Berlin.from_local_datetime(&local).single() else { continue };
        let end = begin + Duration::hours(HOURS);
        let first = [1, 2].map(|days| (begin + Duration::days(days)).day()).contains(&1);
        if day.weekday() == Weekday::Sat && (end.hour(), end.minute()) == (7, 0) && !first {
            return begin;
        }
    }
}

/// A mail that came.
#[derive(Debug)]
struct Mail {
    at: String,
    to: String,
    subject: String,
    text: String,
}

struct Weekend {
    cluster: Cluster,
    installation: Installation,
    _mail_server: Server,
    place: PathBuf,
    clock: PathBuf,
    begin: DateTime<Tz>,
    mails: Vec<Mail>,
    /// What the server counted when reports were made: calls of one statement, and bytes of WAL.
    counted: Vec<(f64, f64)>,
}

impl Weekend {
    fn new(directory: &Path) -> Self {
        let place = directory.to_owned();
        for name in ["smtp", "log", "local", "share"] {
            fs::create_dir(place.join(name)).unwrap();
        }
        let (clock, begin) = (place.join("clock"), saturday());
        // The first backups were taken long ago.
        set_clock(&clock, (begin - Duration::days(96)).timestamp() - Utc::now().timestamp());
        let mail_server = Server::mail(&place.join("smtp"));
        let password = place.join("password");
        fs::write(&password, "right password").unwrap();
        output(Command::new("chmod").arg("600").arg(&password));
        let settings = format!(
            "archive_mode = on\n\
             archive_command = 'env -u LD_PRELOAD PGBOSUN_CLOCK=\"{clock}\" \"{program}\" --config \"{place}/pgbosun.toml\" --quiet wal push \"%p\"'\n\
             shared_preload_libraries = 'pg_stat_statements'\nlogging_collector = on\nlog_directory = '{place}/log'\n\
             log_filename = 'postgresql-%Y-%m-%d_%H%M%S.log'\nlog_line_prefix = '%m [%p] %q%u@%d %h '",
            clock = clock.display(),
            program = program().display(),
            place = place.display(),
        );
        let connection = format!("host={} user=postgres", place.display());
        let text = fs::read_to_string(file("etc/reference-000.toml")).unwrap();
        let replaced = [
            ("[daemon]\n", String::new()),
            ("time-zone = \"Europe/Berlin\"\n", "time-zone = \"Europe/Berlin\"\n".into()),
            ("host=/var/run/postgresql user=postgres dbname=postgres", format!("{connection} dbname=postgres")),
            ("host=/var/run/postgresql user=postgres", connection),
            ("/var/lib/postgresql/16/main", format!("{}/pg", place.display())),
            ("/var/log/postgresql", format!("{}/log", place.display())),
            ("/opt/postgresql-backup/repository", format!("{}/local", place.display())),
            ("/mnt/backup/postgresql", format!("{}/share", place.display())),
            ("smtp.gmail.com", "localhost".into()),
            ("port = 587", format!("port = {}\nca-file = \"{}/smtp/ca.pem\"", mail_server.port, place.display())),
            ("alerts@example.com\"\npassword-file", "alerts\"\npassword-file".into()),
            ("kind = \"monitor.cpu\"", "kind = \"monitor.cpu\"\nsample = \"100ms\"\ncritical-percent = 1000.0\nwarning-load = 1000.0\ncritical-load = 1000.0".into()),
            // Not an hour: what is over just at a check would be told at this or at the next one.
            ("kind = \"monitor.failed-logins\"", "kind = \"monitor.failed-logins\"\nwindow = \"58m\"".into()),
            // A machine that runs tests is busy, and may be full.
            ("warning-percent = 80.0", "warning-percent = 1000.0".into()),
            ("warning-percent = 85\ncritical-percent = 95", "warning-percent = 100\ncritical-percent = 100\nminimum-free = \"1B\"\nwarning-days = \"0d\"".into()),
            ("warning-percent = 85.0", "warning-percent = 1000.0\ncritical-percent = 1000.0\nwarning-swap-percent = 1000.0\ncritical-swap-percent = 1000.0".into()),
            ("/etc/pgbosun/secrets/mail", password.display().to_string()),
            (
                "kind = \"restore-test\"",
                format!("kind = \"restore-test\"\nprogram-directory = \"{}\"", postgres("").display()),
            ),
        ];
        // What is checked for a while needs none in a weekend that is a few minutes long.
        let text =
            format!("{text}\n[jobs.main-sample]\nkind = \"sample\"\nschedule = \"*/5 * * * *\"\nwait-looks = 1\n");
        let text = replaced.iter().fold(text, |text, (old, new)| {
            assert!(text.contains(old), "etc/reference-000.toml has no {old}");
            text.replace(old, new)
        });
        let mut installation = Installation::new(directory, &text);
        installation.clock = Some(clock.clone());
        let path = directory.join("pgbosun.toml");
        fs::write(&path, fs::read_to_string(&path).unwrap().replace("heartbeat = \"1s\"", "heartbeat = \"100ms\""))
            .unwrap();
        let cluster = Cluster::start_at(directory, &settings, Some(&clock));
        Self {
            cluster,
            installation,
            _mail_server: mail_server,
            place,
            clock,
            begin,
            mails: Vec::new(),
            counted: Vec::new(),
        }
    }

    /// The clock shows this.
    fn set(&self, at: DateTime<Tz>) {
        set_clock(&self.clock, at.timestamp() - Utc::now().timestamp());
    }

    /// A file that was written so many days before the weekend.
    fn old(&self, name: &str, days: i64) -> PathBuf {
        let path = self.place.join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(&path, "a line\n".repeat(1000)).unwrap();
        let at = (self.begin - Duration::days(days)).timestamp();
        output(Command::new("touch").arg("-d").arg(format!("@{at}")).arg(&path));
        path
    }

    /// As it was before: some load every half hour, and what the reference's monitors are for.
    fn happen(&mut self, at: DateTime<Tz>) {
        match (at.weekday(), at.hour(), at.minute()) {
            (Weekday::Sat, 23, 30) => {
                for _ in 0..3 {
                    let target = format!("host={} user=eve dbname=postgres password=wrong", self.place.display());
                    let tried = Command::new(postgres("psql")).args(["-Xqc", "select 1", "-d", &target]).output();
                    assert!(!tried.unwrap().status.success());
                }
            }
            (Weekday::Sun, 0, 30) => {
                self.old("pg/base/pgsql_tmp/pgsql_tmp999999.0", 30);
            }
            (Weekday::Sun, 5, 30) => self.cluster.down(),
            (Weekday::Sun, 5, 45) => self.cluster.up(),
            (_, 6, 0) => {
                let of = |query: &str| self.cluster.sql(query).parse::<f64>().unwrap();
                let calls = of("select sum(calls) from pg_stat_statements where query like 'UPDATE pgbench_accounts%'");
                self.counted.push((calls, of("select pg_current_wal_lsn() - '0/0'")));
            }
            (_, _, 20 | 50) => {
                let mut pgbench = Command::new(postgres("pgbench"));
                pgbench.args(["-n", "-t", "100", "-c", "2", "-U", "postgres", "-h"]).arg(&self.place).arg("postgres");
                output(pgbench.stderr(Stdio::null()));
                // As archive_timeout does, for which the server waits by another clock.
                self.cluster.sql("select pg_switch_wal()");
            }
            _ => {}
        }
    }

    /// Waits until what is to be told is told; what is muted is not.
    fn settle(&self) {
        // In one check: what is told and the message that tells it come together.
        let news = "select (select count(*) from notifications where state = 'pending'),
                        (select count(*) from alerts where (state = 'open' and told_severity is not severity)
                             or (state = 'resolved' and told_severity <> 'ok'))";
        let outage = "select count(*) from alerts where state = 'open' and job = 'connectivity'";
        let muted = self.installation.journal(outage) != "0";
        let mut still = 0;
        wait_until("what is to be told is told", seconds(30), || {
            let news = self.installation.journal(news);
            still = if news.starts_with("0|") { still + 1 } else { 0 };
            news == "0|0" || muted && still > 20
        });
    }

    /// Lives through a minute at which something is due.
    fn live(&mut self, at: DateTime<Tz>, jobs: &[&str]) {
        self.happen(at);
        self.set(at + Duration::seconds(1));
        let utc = at.with_timezone(&Utc).format("%Y-%m-%dT%H:%M").to_string();
        let unfinished = format!(
            "select count(*) from runs where scheduled_for like '{utc}%' and trigger = 'schedule' and finished_at is not null"
        );
        wait_until("what is due has run", seconds(120), || {
            self.installation.journal(&unfinished).parse::<usize>().unwrap_or_default() >= jobs.len()
        });
        self.set(at + Duration::seconds(40));
        self.settle();
        let smtp = self.place.join("smtp");
        let mut recipients = files(&smtp, ".to");
        recipients.sort();
        for (text, to) in received(&smtp).into_iter().zip(recipients).skip(self.mails.len()) {
            let mut to: Vec<_> = fs::read_to_string(to).unwrap().lines().map(str::to_owned).collect();
            to.sort();
            let at = at.format("%a %H:%M").to_string();
            self.mails.push(Mail { at, to: to.join(" "), subject: subject(&text), text });
        }
    }
}

impl Drop for Weekend {
    fn drop(&mut self) {
        if std::thread::panicking() {
            let broken = "select scheduled_for, job, state, summary from runs where state <> 'succeeded' order by id";
            let mails: Vec<_> = self.mails.iter().map(|mail| format!("{} {}", mail.at, mail.subject)).collect();
            eprintln!("{mails:#?}\nruns that did not succeed:\n{}", self.installation.journal(broken));
        }
    }
}

/// Reference 000 (its lines by id): 000-X, 000-M1, 000-M4, 000-M5, 000-M6, 000-M7, 000-B1, 000-B2, 000-B3, 000-B4, 000-B5, 000-B7, 000-B10, 000-B11, 000-D1,
/// 000-D2, 000-D3, 000-D5, 000-W1, 000-W2, 000-L1, 000-L2, 000-C1, 000-C2, 000-C3, 000-C4, 000-E4, 000-E5, 000-E6, 000-E7, 000-E9,
/// 000-R1, 000-R2, 000-R3, 000-R4, 000-R5, 000-R6, 000-R7, 000-R8, 000-R9, 000-R10, 000-R11, 000-R12.
#[test]
fn the_weekend_of_reference_000_is_as_it_promises() {
    let directory = directory();
    let mut weekend = Weekend::new(directory.path());
    let begin = weekend.begin;
    let cluster = &weekend.cluster;
    fs::write(
        cluster.data.join("pg_hba.conf"),
        "local all eve scram-sha-256\nlocal all all trust\nlocal replication all trust\n",
    )
    .unwrap();
    cluster.sql("create role eve login password 'hers'");
    cluster.sql("create extension pg_stat_statements");
    cluster.pgbench(1);
    cluster.sql("select pg_reload_conf()");
    cluster.sql("create table claims as select g as id, repeat('x', 100) as text from generate_series(1, 20000) g");
    cluster.sql("alter table claims add primary key (id)");
    let mut labels = Vec::new();
    for days in [96, 92] {
        weekend.set(begin - Duration::days(days));
        weekend.installation.run(&["backup", "create"]);
        let listed = weekend.installation.json(&["backup", "list"]);
        let newest = listed.as_array().unwrap().iter().map(|backup| backup["label"].as_str().unwrap()).max();
        labels.push(newest.unwrap().to_owned());
        cluster.archive_all();
    }
    let old_wal = files(&weekend.place.join("local"), ".gz").into_iter().filter(|path| path.contains("/wal/")).min();

    weekend.set(begin);
    cluster.sql("delete from claims where id % 3 > 0");
    // Operators as the reference keeps them, in its own tables: several in a group, and one who left.
    cluster.sql(
        "create schema dba_ops;
         create table dba_ops.operator_groups (
             group_name varchar(50) primary key,
             description text,
             active boolean default true
         );
         create table dba_ops.operators (
             operator_id serial primary key,
             group_name varchar(50) references dba_ops.operator_groups (group_name),
             email varchar(255) not null,
             name varchar(100),
             active boolean default true
         );
         insert into dba_ops.operator_groups values
         ('Database', 'DBA team alerts (outages, backup failures)'), ('Security', null),
         ('System', 'Resource alerts, maintenance notifications'), ('Management', 'Nobody is told yet');
         insert into dba_ops.operators (group_name, email, name, active) values
         ('Management', 'mgmt@example.com', 'Third', true), ('Database', 'first@example.com', 'First', true), ('Database', 'second@example.com', 'Second', true),
         ('Database', 'left@example.com', 'Left', false), ('Security', 'guard@example.com', 'Guard', true)",
    );
    weekend.installation.run(&["migrate"]);
    let taken = "select group_name, email, active from dba_ops.operators order by 1, 2";
    assert_eq!(
        cluster.sql(taken),
        "Management|mgmt@example.com|t\ndatabase|first@example.com|t\ndatabase|left@example.com|f\ndatabase|second@example.com|t\nsecurity|guard@example.com|t"
    );
    assert_eq!(cluster.sql("select count(*) from dba_ops.operators_of_scripts"), "5");
    let (week, ancient, young) =
        (weekend.old("log/pgbosun-old.log", 9), weekend.old("log/ancient.log", 99), weekend.old("log/young.log", 3));
    let expected = [(week.clone(), false), (week.with_extension("log.zst"), true), (ancient, false), (young, true)];

    weekend.installation.start();
    let mut counts = std::collections::BTreeMap::new();
    for minute in 1..=HOURS * 60 {
        let at = begin + Duration::minutes(minute);
        let jobs = due(at);
        if !jobs.is_empty() {
            weekend.live(at, &jobs);
            jobs.iter().for_each(|job| *counts.entry(*job).or_insert(0) += 1);
        }
    }

    if let Some(path) = std::env::var_os("PGBOSUN_WEEKEND_REPORTS") {
        for place in ["state/reports", "smtp"] {
            output(Command::new("cp").arg("-r").arg(weekend.place.join(place)).arg(&path));
        }
    }

    // Every job ran at its times, and at no other.
    assert_eq!((counts["connectivity"], counts["full-backup"], counts["wal-cleanup"]), (396, 2, 1));
    for (job, count) in &counts {
        let ran = weekend
            .installation
            .journal(&format!("select count(*) from runs where job = '{job}' and trigger = 'schedule'"));
        assert_eq!(ran, count.to_string(), "{job}");
    }
    let others = "select job, state from runs where trigger <> 'schedule' and trigger <> 'manual'";
    assert_eq!(weekend.installation.journal(others), "");
    for (job, ..) in DAILY.iter().chain(&SUNDAYS) {
        let states = format!("select distinct state from runs where job = '{job}'");
        assert_eq!(weekend.installation.journal(&states), "succeeded", "{job}");
    }
    let next = weekend.installation.json(&["job", "list"]);
    let test = next.as_array().unwrap().iter().find(|job| job["name"] == "monthly-restore-test").unwrap();
    let next: DateTime<Utc> = test["next"].as_str().unwrap().parse().unwrap();
    let next = next.with_timezone(&Berlin);
    assert_eq!((next.day(), next.hour(), next.minute()), (1, 2, 0));
    weekend.installation.check("monthly-restore-test");

    // History is in dba_ops.
    until_the_same_rows(&weekend.installation, &weekend.cluster, seconds(60));
    let sql = |query: &str| weekend.cluster.sql(query);
    assert_eq!(sql("select count(*) from dba_ops.restore_tests where passed"), "1");
    // Logs: compressed after 7 days, removed after 90.
    for (path, there) in expected {
        assert_eq!(path.exists(), there, "{}", path.display());
    }
    // Maintenance: every user table each night, every index on Sunday, and system catalogues.
    let tables = "select count(*) from pg_class where relkind = 'r' and relname in ('claims', 'pgbench_accounts', 'pgbench_tellers', 'pgbench_branches')";
    let both = "select count(*) from dba_ops.maintenance where action = 'vacuum' and result = 'done' and job = 'daily-vacuum' and object ~ '^public[.](claims|pgbench_(accounts|tellers|branches))$'";
    assert_eq!(sql(both).parse::<u32>().unwrap(), 2 * sql(tables).parse::<u32>().unwrap());
    let index = "select bytes_after < bytes_before / 2 from dba_ops.maintenance where job = 'weekly-index-maintenance' and object = 'public.claims_pkey'";
    assert_eq!(sql(index), "t");
    let catalogues = "select count(distinct started_at::date) > 0 from dba_ops.maintenance where job = 'daily-catalog' and result = 'done'";
    assert_eq!(sql(catalogues), "t");

    // Repositories: 90 days of backups, all the same in both; the oldest stays since the window of recovery begins with it.
    let of = |repository: &str| {
        let listed = weekend.installation.json(&["backup", "list"]);
        let own = listed.as_array().unwrap().iter().filter(|backup| backup["repository"] == repository);
        let mut own: Vec<_> = own.map(|backup| backup["label"].as_str().unwrap().to_owned()).collect();
        own.sort();
        own
    };
    let local = of("local");
    assert_eq!((local.len(), &local[0]), (3, &labels[1]), "{local:?}");
    assert_eq!(local, of("share"));
    let states = format!(
        "select state, count(*) from dba_ops.backups where label in ('{}', '{}') group by 1 order by 1",
        labels[0], local[1]
    );
    assert_eq!(sql(&states), "removed|2\nverified|2");
    assert!(!Path::new(&old_wal.unwrap()).exists(), "WAL that only the removed backup needed");
    let why = sql(
        "select summary from dba_ops.job_runs where job = 'full-backup' and state = 'succeeded' and summary like '%removed%' limit 1",
    );
    assert!(why.contains(&labels[0]) && why.contains("WAL file") && why.contains("from share ("), "{why}");

    // Reports: ten sections and three more, kept.
    let reports = files(&weekend.place.join("state/reports"), ".html");
    assert_eq!(reports.iter().filter(|path| path.contains("performance-main")).count(), 2, "{reports:?}");
    assert_eq!(reports.iter().filter(|path| path.contains("-backups")).count(), 2, "{reports:?}");
    let newest = reports.iter().filter(|path| path.contains("performance-main")).max().unwrap();
    let page = fs::read_to_string(newest).unwrap();
    for section in [
        "Server",
        "Connections",
        "Statements",
        "Table bloat",
        "Indexes and tables",
        "Locks and waits",
        "Checkpoints",
        "WAL",
        "Buffer cache and I&#x2f;O",
        "Machine",
        "Growth",
        "Backups, jobs and alerts",
        "Recommendations",
    ] {
        assert!(page.contains(&format!("<h2>{section}</h2>")), "{section}");
    }
    assert!(page.contains("By mean time") && page.contains(">By time<"));

    // Its figures are what the server's own views grew by between the two reports.
    let data: Value = serde_json::from_slice(&fs::read(newest.replace(".html", ".json")).unwrap()).unwrap();
    let sections = data["sections"].as_array().unwrap();
    let section = |title: &str| sections.iter().find(|section| section["title"] == title).unwrap();
    let calls = section("Statements")["tables"].as_array().unwrap().iter().find(|t| t["title"] == "By calls").unwrap();
    let update = calls["rows"].as_array().unwrap().iter().map(|row| &row["cells"]);
    let update = update.clone().find(|c| c[5].as_str().unwrap().contains("UPDATE pgbench_accounts")).unwrap();
    let wal = section("WAL")["figures"].as_array().unwrap().iter().find(|f| f["label"] == "written").unwrap();
    let grown = |of: fn(&(f64, f64)) -> f64| of(&weekend.counted[1]) - of(&weekend.counted[0]);
    for (told, counted) in [(&update[1], grown(|c| c.0)), (&wal["value"], grown(|c| c.1))] {
        let told = figure(told.as_str().unwrap());
        assert!((told - counted).abs() < 0.02 * counted, "{told} and {counted}");
    }

    // Mails: to the people of dba_ops, when it was written down that they come, and none beside them.
    let told: Vec<_> = weekend.mails.iter().map(|mail| (mail.at.as_str(), mail.subject.as_str())).collect();
    let expected = [
        ("Sat 22:05", "[DB-ALERT] CRITICAL main: local: backup is 92 d old (limit 25 h) (and 1 more)"),
        ("Sat 23:30", "[SECURITY] WARNING main: 3 failed logins from this machine as eve"),
        ("Sun 00:00", "[DB-ALERT] RESOLVED main: local: backup is 92 d 1 h old (limit 25 h) (and 1 more)"),
        ("Sun 00:30", "[SECURITY] RESOLVED main: 3 failed logins from this machine as eve"),
        (
            "Sun 00:30",
            "[SYSTEM] WARNING main: 1 temporary file left behind by processes that are gone, and removed (6.8 KiB)",
        ),
        (
            "Sun 00:35",
            "[SYSTEM] RESOLVED main: 1 temporary file left behind by processes that are gone, and removed (6.8 KiB)",
        ),
        ("Sun 05:30", "[DB-ALERT] CRITICAL main: does not accept connections"),
        ("Sun 05:45", "[DB-ALERT] RESOLVED main: does not accept connections"),
        (
            "Sun 06:00",
            "[DB-REPORT] performance report main: Was critical, now resolved: main: does not accept connections, for 1",
        ),
        (
            "Sun 06:30",
            "[DB-REPORT] backups report test: Was critical, now resolved: main: local: backup is 92 d 1 h old (limit 25 h)",
        ),
        ("Mon 06:00", "[DB-REPORT] performance report main: "),
        ("Mon 06:30", "[DB-REPORT] backups report test: main: newest backup 6 h 30 min old; restorable up to "),
    ];
    let fits = told.len() == expected.len()
        && told.iter().zip(&expected).all(|(told, expected)| told.0 == expected.0 && told.1.starts_with(expected.1));
    assert!(fits, "{told:#?}");
    for mail in &weekend.mails {
        let people = match mail.subject.split(' ').next().unwrap() {
            "[DB-ALERT]" | "[DB-REPORT]" => "first@example.com second@example.com",
            "[SECURITY]" => "guard@example.com",
            _ => "devops@example.com",
        };
        assert_eq!(mail.to, people, "{}", mail.subject);
    }
    let text = |subject: &str| &weekend.mails.iter().find(|mail| mail.subject.contains(subject)).unwrap().text;
    let login = text("3 failed logins");
    assert!(login.contains("eve") && login.contains("postgres") && login.contains("text/html"), "{login}");
    // Red and yellow.
    assert!(login.contains("#f5c518") && text("does not accept connections").contains("#c62828"), "{login}");
    let report = text("performance report");
    for part in ["performance-main.html", "Content-ID: <wal>", "text/plain"] {
        assert!(report.contains(part), "{part}");
    }
}

/// A figure as people read it: `9.4 k`, `912.3 MiB`.
fn figure(words: &str) -> f64 {
    let (number, unit) = words.split_once(' ').unwrap_or((words, ""));
    let scale = match unit {
        "k" => 1e3,
        "M" => 1e6,
        "MiB" => f64::from(1 << 20),
        "GiB" => f64::from(1 << 30),
        _ => 1.0,
    };
    number.parse::<f64>().unwrap() * scale
}

/// The files below a directory whose names end so.
fn files(directory: &Path, end: &str) -> Vec<String> {
    let found = output(Command::new("find").arg(directory).args(["-type", "f", "-name", &format!("*{end}")]));
    found.lines().map(str::to_owned).collect()
}
