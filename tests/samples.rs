//! Samples of a server at work, against its own views.

use crate::support::{Cluster, Installation, Session, directory, seconds, wait_until};
use std::fs;

struct Sampled {
    cluster: Cluster,
    installation: Installation,
    _directory: tempfile::TempDir,
}

impl Sampled {
    fn new() -> Self {
        let directory = directory();
        let cluster = Cluster::start_with(
            directory.path(),
            "shared_preload_libraries = 'pg_stat_statements'\ntrack_io_timing = on\nautovacuum = off",
        );
        let mut installation = Installation::new(
            directory.path(),
            &format!(
                "[history]\nconnection = \"{0}\"\n[clusters.main]\nconnection = \"{0}\"\ndata-directory = \"{1}\"\n\
                 [jobs.sample]\nkind = \"sample\"\nwait-looks = 1\n",
                cluster.connection(),
                cluster.data.display()
            ),
        );
        installation.clock = Some(directory.path().join("clock"));
        let sampled = Self { cluster, installation, _directory: directory };
        // Ten minutes past an hour, so that no test meets the next one by chance.
        let past: i64 = sampled.cluster.sql("select (extract(epoch from now())::bigint) % 3600").parse().unwrap();
        sampled.ahead(3600 - past + 600);
        sampled
    }

    fn ahead(&self, seconds: i64) {
        fs::write(self.installation.clock.as_ref().unwrap(), seconds.to_string()).unwrap();
    }

    fn pass(&self, seconds: i64) {
        let now: i64 = fs::read_to_string(self.installation.clock.as_ref().unwrap()).unwrap().parse().unwrap();
        self.ahead(now + seconds);
    }

    fn sample(&self) -> String {
        self.installation.run(&["job", "run", "sample"])
    }

    /// A value of the newest row of a topic.
    fn value(&self, topic: &str, span: &str, key: &str, place: usize) -> f64 {
        let query = format!(
            "select json_extract(r.value, '$[1][{place}]') from (select rows from samples where topic = '{topic}' and span = '{span}'
                 order by at desc limit 1) s, json_each(s.rows) r where json_extract(r.value, '$[0]') = json('{key}')"
        );
        self.installation.journal(&query).parse().unwrap_or(-1.0)
    }
}

/// Reference 000 (its lines by id): 000-K5.
#[test]
fn what_grew_between_two_samples_is_what_the_server_counted() {
    let sampled = Sampled::new();
    let (cluster, installation) = (&sampled.cluster, &sampled.installation);
    cluster.sql("create extension pg_stat_statements");
    cluster.sql("create table t as select g as id, g as v from generate_series(1, 1000) g");
    cluster.sql("create index t_id on t (id)");
    assert!(sampled.sample().contains("the first sample"));
    assert!(sampled.sample().contains("only seconds old"));

    let wal = cluster.sql("select pg_current_wal_insert_lsn()");
    for value in 0..7 {
        cluster.sql(&format!("update t set v = {value} where id <= 100"));
    }
    cluster.sql("select count(*) from t");
    cluster.sql("alter role postgres password 'very secret'");
    let written: f64 = cluster.sql(&format!("select pg_current_wal_insert_lsn() - '{wal}'")).parse().unwrap();
    sampled.pass(300);
    assert!(sampled.sample().contains("5 min"), "since the last");
    let table = r#"["postgres","public.t"]"#;
    assert_eq!(sampled.value("tables", "sample", table, 5), 700.0, "updated");
    let update = installation.journal("select query from queries where text like 'update t set v =%'");
    let update = format!(r#"["postgres","postgres","{update}"]"#);
    assert_eq!(sampled.value("statements", "sample", &update, 0), 7.0, "calls");
    assert_eq!(sampled.value("statements", "sample", &update, 2), 700.0, "rows");
    let shown: f64 = cluster
        .sql("select total_exec_time from pg_stat_statements where query like 'update t set v%'")
        .parse()
        .unwrap();
    assert!((sampled.value("statements", "sample", &update, 1) - shown).abs() < 0.01);
    assert!(sampled.value("server", "sample", "[]", 0) >= written);
    assert!(sampled.value("databases", "sample", r#"["postgres"]"#, 0) >= 9.0, "commits");
    assert!(sampled.value("host", "sample", "[]", 3) > 0.0, "ticks");
    assert!(sampled.value("sizes", "hour", r#"["postgres",""]"#, 0) > 1e6);
    let secrets = "select count(*) from queries where text like '%very secret%'";
    assert_eq!(
        (
            installation.journal(secrets),
            installation.journal("select count(*) from queries where text like '%password %'")
        ),
        ("0".into(), "1".into())
    );

    // What is reset, and what a crash takes, is recognised: what is counted since is what there is.
    let position = cluster.sql("select pg_current_wal_insert_lsn()");
    cluster.sql("select pg_stat_statements_reset()");
    for value in 0..3 {
        cluster.sql(&format!("update t set v = {value} where id <= 100"));
    }
    cluster.down();
    cluster.up();
    cluster.sql("update t set v = 1 where id <= 10");
    sampled.pass(300);
    sampled.sample();
    assert_eq!(sampled.value("tables", "sample", table, 5), 10.0, "the crash took the others");
    let calls = sampled.value("statements", "sample", &update, 0);
    assert!(calls == 1.0 || calls == 4.0, "{calls}");
    let since = format!("select pg_current_wal_insert_lsn() - '{position}'");
    let written: f64 = cluster.sql(&since).parse().unwrap();
    let sampled_wal = sampled.value("server", "sample", "[]", 0);
    assert!((1.0..=written).contains(&sampled_wal), "{sampled_wal} of {written}: a position is not reset");

    // What somebody has locked is not waited for.
    let locked = Session::open(cluster, "begin; lock table t;");
    sampled.pass(3600);
    assert!(sampled.sample().contains("1 h"), "with sizes");
    drop(locked);
}

#[test]
fn samples_become_hours_and_hours_days() {
    let mut sampled = Sampled::new();
    sampled.cluster.sql("create table t as select g as id from generate_series(1, 1000) g");
    sampled.sample();
    for _ in 0..12 {
        sampled.cluster.sql("update t set id = id where id <= 10");
        sampled.pass(600);
        assert!(sampled.sample().contains("pg_stat_statements is not installed"));
    }
    let updated = |span: &str| {
        sampled.installation.journal(&format!(
            "select sum(json_extract(r.value, '$[1][5]')) from samples s, json_each(s.rows) r
             where topic = 'tables' and span = '{span}' and json_extract(r.value, '$[0][1]') = 'public.t'"
        ))
    };
    assert_eq!(updated("sample").parse::<f64>().unwrap(), 120.0);
    // Two hours later the first is one row, of the samples that began in it, and so is the second.
    let hours = "select count(*), min(seconds) between 3000 and 3100, max(seconds) between 3600 and 3700
                 from samples where topic = 'tables' and span = 'hour'";
    assert_eq!(sampled.installation.journal(hours), "2|1|1");
    // What came while nothing was sampled is in the hour in which that began.
    sampled.cluster.sql("update t set id = id where id <= 10");
    for _ in 0..2 {
        sampled.pass(3600);
        sampled.sample();
    }
    let total: f64 = updated("hour").parse().unwrap();
    assert_eq!(total, 130.0, "every sample is in one hour");
    sampled.pass(86_400);
    sampled.sample();
    sampled.pass(7200);
    sampled.sample();
    let days = "select count(*) > 0 from samples where topic = 'sizes' and span = 'day'";
    assert_eq!(sampled.installation.journal(days), "1");

    // dba_ops has them all.
    sampled.installation.run(&["migrate"]);
    sampled.installation.start();
    let count = "select count(*) from samples";
    wait_until("dba_ops has them", seconds(20), || {
        sampled.cluster.sql("select count(*) from dba_ops.samples") == sampled.installation.journal(count)
    });
    let rows = "select count(*) from dba_ops.sample_rows where topic = 'sizes' and key ->> 1 = ''";
    assert_ne!(sampled.cluster.sql(rows), "0");
    // A week later what was sampled is gone, and the hours are there.
    sampled.installation.stop();
    sampled.pass(8 * 86_400);
    sampled.installation.start();
    wait_until("they are purged", seconds(20), || {
        sampled.installation.journal("select count(*) from samples where span = 'sample'") == "0"
    });
    assert_ne!(sampled.installation.journal("select count(*) from samples where span = 'hour'"), "0");
}
