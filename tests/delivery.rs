//! Journal and `dba_ops`: whatever happens to PostgreSQL, afterwards the two hold the same rows.

use crate::support::{Cluster, Installation, MAIL, directory, seconds, wait_until};

/// The rows of a table in the journal, in the spelling of PostgreSQL.
fn rows_of_journal(installation: &Installation, query: &str) -> Vec<String> {
    installation.journal(query).lines().map(str::to_owned).collect()
}

pub fn same_rows(installation: &Installation, cluster: &Cluster) -> Result<usize, String> {
    let journal = rows_of_journal(
        installation,
        "select id, job, kind, trigger, state, attempts, strftime('%s', scheduled_for), ifnull(strftime('%s', finished_at), ''), summary from runs order by id",
    );
    let shared: Vec<_> = cluster
        .sql(
            "select id, job, kind, trigger, state, attempts, floor(extract(epoch from scheduled_for))::bigint,
                 coalesce(floor(extract(epoch from finished_at))::bigint::text, ''), summary
             from dba_ops.job_runs order by id",
        )
        .lines()
        .map(str::to_owned)
        .collect();
    if journal != shared {
        let differing = journal.iter().zip(&shared).find(|(a, b)| a != b);
        return Err(format!("{} rows and {} rows differ: {differing:?}", journal.len(), shared.len()));
    }
    for (table, key) in [("findings", "id"), ("alerts", "id"), ("notifications", "id"), ("backups", "label")] {
        let journal = rows_of_journal(installation, &format!("select {key} from {table} order by 1"));
        let shared = cluster.sql(&format!("select {key} from dba_ops.{table} order by 1"));
        let shared: Vec<_> = shared.lines().map(str::to_owned).collect();
        if journal != shared {
            return Err(format!("{table}: {} rows and {} rows", journal.len(), shared.len()));
        }
    }
    let states = |rows: Vec<String>| rows.join("\n");
    let journal = states(rows_of_journal(installation, "select fingerprint, state from alerts order by id"));
    let shared = cluster.sql("select fingerprint, state from dba_ops.alerts order by id");
    if journal == shared { Ok(journal.len()) } else { Err(format!("alerts differ:\n{journal}\n--\n{shared}")) }
}

#[test]
fn a_hundred_runs_over_an_outage_arrive_once_each() {
    let directory = directory();
    let cluster = Cluster::start(directory.path());
    let configuration = format!(
        "[history]\nconnection = \"{0}\"\n[clusters.main]\nconnection = \"{0}\"\n{MAIL}\
         [jobs.quick]\nkind = \"command\"\nprogram = \"/bin/true\"\nschedule = \"* * * * * *\"\n\
         [jobs.connectivity]\nkind = \"monitor.connectivity\"\nschedule = \"* * * * * *\"\n\
         [jobs.failing]\nkind = \"command\"\nprogram = \"/bin/false\"\nschedule = \"*/2 * * * * *\"\n\
         [jobs.third]\nkind = \"command\"\nprogram = \"/bin/echo\"\narguments = [\"it's a \\\"line\\\"; with ü\"]\nschedule = \"* * * * * *\"\n",
        cluster.connection()
    );
    let mut installation = Installation::new(directory.path(), &configuration);
    installation.start();
    wait_until("first rows", seconds(20), || installation.count("quick", "succeeded") >= 3);
    cluster.down();
    wait_until("the outage is seen", seconds(20), || {
        installation.journal("select count(*) from alerts where fingerprint = 'connectivity/connection'") == "1"
    });
    // Runs go on, and are remembered.
    wait_until("a hundred runs", seconds(90), || {
        installation.journal("select count(*) from runs where finished_at is not null").parse::<u32>().unwrap_or(0)
            >= 100
    });
    let status = installation.try_run(&["status"]);
    assert!(String::from_utf8_lossy(&status.stdout).contains("history database out of reach"));
    cluster.up();
    wait_until("the alert resolves", seconds(30), || {
        installation.journal("select state from alerts where fingerprint = 'connectivity/connection'") == "resolved"
    });
    wait_until("delivery is back", seconds(60), || installation.log().contains("history database is back"));
    installation.stop();
    installation.start();
    installation.run(&["job", "pause", "--all"]);
    let mut last = Err(String::new());
    wait_until("the same rows", seconds(30), || {
        last = same_rows(&installation, &cluster);
        last.is_ok()
    });
    let total: u32 =
        cluster.sql("select count(*) from dba_ops.job_runs where finished_at is not null").parse().unwrap();
    assert!(total >= 100, "{total}");

    // A lost history database is filled again from the journal.
    installation.stop();
    cluster.sql("drop schema dba_ops cascade");
    installation.start();
    wait_until("filled again", seconds(30), || {
        cluster.sql("select to_regclass('dba_ops.job_runs') is not null") == "t"
            && same_rows(&installation, &cluster).is_ok()
    });
}

#[test]
fn operators_of_dba_ops_are_told_and_remembered_when_it_is_down() {
    let directory = directory();
    let cluster = Cluster::start(directory.path());
    let configuration = format!(
        "[history]\nconnection = \"{0}\"\n[clusters.main]\nconnection = \"{0}\"\n{MAIL}\
         [jobs.connectivity]\nkind = \"monitor.connectivity\"\nschedule = \"* * * * * *\"\n",
        cluster.connection()
    );
    let mut installation = Installation::new(directory.path(), &configuration);
    installation.run(&["migrate"]);
    let columns = "select string_agg(column_name || ' ' || data_type || coalesce('(' || character_maximum_length || ')', ''), ', ' order by ordinal_position) from information_schema.columns where table_schema = 'dba_ops' and table_name = ";
    assert_eq!(
        cluster.sql(&format!("{columns}'operator_groups'")),
        "group_name character varying(50), description text, active boolean"
    );
    assert_eq!(
        cluster.sql(&format!("{columns}'operators'")),
        "operator_id integer, group_name character varying(50), email character varying(255), name character varying(100), active boolean"
    );
    let uncommented = "select count(*) from pg_attribute a join pg_class c on c.oid = a.attrelid where c.relnamespace = 'dba_ops'::regnamespace and c.relkind = 'r' and c.relname <> '_sqlx_migrations' and a.attnum > 0 and not a.attisdropped and col_description(c.oid, a.attnum) is null";
    assert_eq!(cluster.sql(uncommented), "0");
    installation.run(&["operator", "add", "database", "anna@example.com", "--name", "Anna"]);
    installation.run(&["operator", "add", "database", "away@example.com"]);
    cluster.sql("update dba_ops.operators set active = false where email like 'away%'");
    let refused = installation.try_run(&["operator", "add", "nobody", "a@example.com"]);
    assert!(String::from_utf8_lossy(&refused.stderr).contains("operator group add nobody"));
    installation.start();
    wait_until("operators are cached", seconds(20), || {
        installation.journal("select email from operator_cache") == "anna@example.com"
    });
    cluster.down();
    wait_until("mail", seconds(20), || !installation.mails().is_empty());
    let mail = std::fs::read_dir(directory.path().join("mail")).unwrap().flatten().next().unwrap().path();
    let mail = std::fs::read_to_string(mail).unwrap();
    assert!(
        mail.contains("To: anna@example.com") && !mail.contains("away@") && !mail.contains("dba@example.com"),
        "{mail}"
    );
}

#[test]
fn without_a_history_database_operator_add_names_the_key_to_use() {
    let directory = directory();
    let installation = Installation::new(directory.path(), MAIL);
    let done = installation.try_run(&["operator", "add", "database", "a@example.com"]);
    let words = String::from_utf8_lossy(&done.stderr).into_owned();
    assert!(
        !done.status.success() && words.contains("groups.database.recipients") && words.contains("history.connection"),
        "{words}"
    );
}
