//! The performance report: against the server's own views, as a page, a mail and on demand.

use crate::support::{Cluster, Installation, directory};
use std::{fs, path::PathBuf};

/// A server with two days of samples, of which the second was busier.
struct Reported {
    cluster: Cluster,
    installation: Installation,
    directory: tempfile::TempDir,
}

impl Reported {
    fn new(settings: &str) -> Self {
        let directory = directory();
        let cluster = Cluster::start_with(directory.path(), &format!("autovacuum = off\n{settings}"));
        let mut installation = Installation::new(
            directory.path(),
            &format!(
                "time-zone = \"Europe/Berlin\"\n[clusters.main]\nconnection = \"{}\"\ndata-directory = \"{}\"\n\
                 [mail]\ntransport = \"folder\"\nfolder = \"{{dir}}/mail\"\nfrom = \"pgbosun <pgbosun@example.com>\"\n\
                 [groups.database]\nrecipients = [\"dba@example.com\"]\n[groups.system]\nrecipients = [\"ops@example.com\"]\n\
                 [jobs.sample]\nkind = \"sample\"\nwait-looks = 1\n\
                 [jobs.report]\nkind = \"report.performance\"\ngroups = [\"database\", \"system\"]\n",
                cluster.connection(),
                cluster.data.display()
            ),
        );
        installation.clock = Some(directory.path().join("clock"));
        let reported = Self { cluster, installation, directory };
        // From the next midnight on.
        let past: i64 = reported.cluster.sql("select extract(epoch from now())::bigint % 86400").parse().unwrap();
        reported.ahead(86_400 - past);
        reported
    }

    fn ahead(&self, seconds: i64) {
        fs::write(self.directory.path().join("clock"), seconds.to_string()).unwrap();
    }

    fn pass(&self, seconds: i64) {
        let now: i64 = fs::read_to_string(self.directory.path().join("clock")).unwrap().parse().unwrap();
        self.ahead(now + seconds);
    }

    /// A day of samples, an hour each, with so many updates in each.
    fn day(&self, updates: u32) {
        for _ in 0..24 {
            for value in 0..updates {
                self.cluster.sql(&format!("update t set v = {value} where id <= 10"));
            }
            self.pass(3600);
            self.installation.run(&["job", "run", "sample"]);
        }
    }

    fn files(&self, suffix: &str) -> Vec<PathBuf> {
        let listed = fs::read_dir(self.directory.path().join("state/reports")).into_iter().flatten().flatten();
        listed.map(|entry| entry.path()).filter(|path| path.to_string_lossy().ends_with(suffix)).collect()
    }
}

/// Reference 000 (its lines by id): 000-R13.
#[test]
fn the_daily_report_says_what_the_server_did_and_arrives() {
    let reported = Reported::new("shared_preload_libraries = 'pg_stat_statements'");
    let (cluster, installation) = (&reported.cluster, &reported.installation);
    cluster.sql("create extension pg_stat_statements");
    cluster.sql("create table t as select g as id, 0 as v from generate_series(1, 1000) g");
    installation.run(&["job", "run", "sample"]);
    reported.day(1);
    reported.day(2);
    installation.run(&["job", "run", "report"]);

    let data: serde_json::Value = serde_json::from_slice(&fs::read(&reported.files(".json")[0]).unwrap()).unwrap();
    let sections = data["sections"].as_array().unwrap();
    let titles: Vec<_> = sections.iter().map(|section| section["title"].as_str().unwrap()).collect();
    assert_eq!(
        titles,
        [
            "Server",
            "Connections",
            "Statements",
            "Table bloat",
            "Indexes and tables",
            "Locks and waits",
            "Checkpoints",
            "WAL",
            "Buffer cache and I/O",
            "Machine",
            "Growth",
            "Backups, jobs and alerts",
            "Recommendations"
        ]
    );
    // The statement, with its calls of this day and of the one before, as the server counted them.
    let calls = sections[2]["tables"].as_array().unwrap().iter().find(|table| table["title"] == "By calls").unwrap();
    let rows = calls["rows"].as_array().unwrap();
    let update = rows.iter().find(|row| row["cells"][5].as_str().unwrap().contains("update t set v = $1")).unwrap();
    assert_eq!((update["cells"][1].as_str(), update["cells"][2].as_str()), (Some("48"), Some("24")), "{update}");
    let all = cluster.sql("select calls from pg_stat_statements where query like 'update t set v%'");
    assert_eq!(all, "72");
    let page = fs::read_to_string(&reported.files(".html")[0]).unwrap();
    for needed in ["Performance of main", "<svg", "update t set v = $1", "pgbosun itself, in "] {
        assert!(page.contains(needed), "{needed}");
    }
    for foreign in ["http://", "https://", "src=\"cid"] {
        let found = page.replace("http://www.w3.org/2000/svg", "").contains(foreign);
        assert!(!found, "the page needs nothing from elsewhere: {foreign}");
    }

    // The mail: to both groups, small, with pictures by content id, the page beside it, and the same in words.
    let mut mails: Vec<_> =
        fs::read_dir(reported.directory.path().join("mail")).unwrap().flatten().map(|mail| mail.path()).collect();
    mails.sort();
    assert_eq!(mails.len(), 2);
    let mail = fs::read_to_string(&mails[0]).unwrap();
    assert!(mail.contains("Subject: [DB-REPORT] performance report main: "), "{}", &mail[..400]);
    let shown = mail.split("Content-Type: text/html").nth(1).unwrap().split("\n--").next().unwrap();
    assert!((1000..90 << 10).contains(&shown.len()), "{} bytes", shown.len());
    for needed in ["cid:wal", "Content-ID: <wal>", "image/png", "performance-main.html", "text/plain"] {
        assert!(mail.contains(needed), "{needed}");
    }

    // On demand: any window, beside any other, in any form.
    let file = reported.directory.path().join("report.md");
    installation.run(&["report", "performance", "--to", file.to_str().unwrap()]);
    assert!(fs::read_to_string(&file).unwrap().contains("| calls |"));
    let day = chrono_of(&data["from"]);
    let two = installation.json(&["report", "performance", "--from", &day.0, "--to", &day.1, "--compare", &day.0]);
    assert_eq!(two["sections"][2]["figures"][1]["value"], two["sections"][2]["figures"][1]["before"]);
    let refused = installation.try_run(&["report", "performance", "--to", "nonsense"]);
    assert_eq!(refused.status.code(), Some(64), "{}", String::from_utf8_lossy(&refused.stderr));
    installation.run(&["report", "performance", "--mail"]);
    assert_eq!(reported.files(".html").len(), 2);
    // What is old goes.
    reported.pass(91 * 86_400);
    installation.run(&["job", "run", "report"]);
    assert_eq!(reported.files(".html").len(), 1);
}

/// The window of a report: its beginning and its end.
fn chrono_of(from: &serde_json::Value) -> (String, String) {
    let begin = from.as_str().unwrap().to_owned();
    let end = chrono::DateTime::parse_from_rfc3339(&begin).unwrap() + chrono::TimeDelta::days(1);
    (begin, end.to_rfc3339())
}

#[test]
fn what_was_sampled_counts_before_its_hour_is_over() {
    let reported = Reported::new("shared_preload_libraries = 'pg_stat_statements'");
    let (cluster, installation) = (&reported.cluster, &reported.installation);
    cluster.sql("create extension pg_stat_statements");
    cluster.sql("create table t as select g as id, 0 as v from generate_series(1, 1000) g");
    installation.run(&["job", "run", "sample"]);
    for value in 0..5 {
        cluster.sql(&format!("update t set v = {value} where id <= 10"));
    }
    reported.pass(300);
    installation.run(&["job", "run", "sample"]);
    let report = installation.json(&["report", "performance"]);
    let tables = report["sections"][2]["tables"].as_array().cloned().unwrap_or_default();
    let calls = tables.iter().find(|table| table["title"] == "By calls").unwrap();
    let update =
        calls["rows"].as_array().unwrap().iter().find(|row| row["cells"][5].as_str().unwrap().contains("update t"));
    assert_eq!(update.unwrap()["cells"][1], "5", "{calls}");
}

#[test]
fn what_is_missing_is_a_sentence_and_a_server_that_is_away_no_failure() {
    let reported = Reported::new("");
    let told = reported.installation.run(&["report", "performance"]);
    assert!(told.contains("There are no samples for this window"), "{told}");
    assert!(told.contains("The extension pg_stat_statements is not installed"), "{told}");
    reported.cluster.down();
    let told = reported.installation.run(&["job", "run", "report"]);
    assert!(told.contains("The server does not answer: connect to"), "{told}");
    assert_eq!(reported.files(".html").len(), 1);
}
