//! Journal and `dba_ops`: whatever happens to PostgreSQL, afterwards the two hold the same rows.

use crate::support::{
    Cluster, Installation, MAIL, cluster_and_repository, directory, last_lines, output, seconds, wait_until,
};
use std::time::{Duration, Instant};

/// The rows of a table in the journal, in the spelling of PostgreSQL.
fn rows_of_journal(installation: &Installation, query: &str) -> Vec<String> {
    installation.journal(query).lines().map(str::to_owned).collect()
}

/// Waits until `dba_ops` holds what the journal holds, and says what differs where it does not.
pub fn until_the_same_rows(installation: &Installation, cluster: &Cluster, limit: Duration) {
    let begun = Instant::now();
    while let Err(difference) = same_rows(installation, cluster) {
        let log = installation.log();
        assert!(begun.elapsed() < limit, "not within {limit:?} the same rows: {difference}\n{}", last_lines(&log));
        std::thread::sleep(Duration::from_millis(200));
    }
}

/// Times are compared as they are written: SQLite's strftime rounds a last half millisecond up to the next second.
fn same_rows(installation: &Installation, cluster: &Cluster) -> Result<(), String> {
    let journal = rows_of_journal(
        installation,
        "select id, job, kind, trigger, state, attempts, substr(scheduled_for, 1, 19), ifnull(substr(finished_at, 1, 19), ''), summary from runs order by id",
    );
    let shared: Vec<_> = cluster
        .sql(
            r#"select id, job, kind, trigger, state, attempts, to_char(scheduled_for at time zone 'utc', 'YYYY-MM-DD"T"HH24:MI:SS'),
                 coalesce(to_char(finished_at at time zone 'utc', 'YYYY-MM-DD"T"HH24:MI:SS'), ''), summary
             from dba_ops.job_runs order by id"#,
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
    if journal == shared { Ok(()) } else { Err(format!("alerts differ:\n{journal}\n--\n{shared}")) }
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
    assert!(String::from_utf8_lossy(&status.stdout).contains("history has not been delivered"));
    cluster.up();
    wait_until("the alert resolves", seconds(30), || {
        installation.journal("select state from alerts where fingerprint = 'connectivity/connection'") == "resolved"
    });
    wait_until("delivery is back", seconds(60), || installation.log().contains("history is delivered again"));
    installation.stop();
    installation.start();
    installation.run(&["job", "pause", "--all"]);
    until_the_same_rows(&installation, &cluster, seconds(30));
    let total: u32 =
        cluster.sql("select count(*) from dba_ops.job_runs where finished_at is not null").parse().unwrap();
    assert!(total >= 100, "{total}");

    // A lost history database is filled again from the journal.
    installation.stop();
    cluster.sql("drop schema dba_ops cascade");
    installation.start();
    wait_until("the schema is there again", seconds(30), || {
        cluster.sql("select to_regclass('dba_ops.job_runs') is not null") == "t"
    });
    until_the_same_rows(&installation, &cluster, seconds(30));
}

/// Reference 000 (its lines by id): 000-S1, 000-E9.
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

/// Reference 000 (its lines by id): 000-K4.
#[test]
fn operators_edited_by_hand_are_heard_of_at_once_and_every_change_is_written_down() {
    let directory = directory();
    let cluster = Cluster::start(directory.path());
    let mut installation =
        Installation::new(directory.path(), &format!("[history]\nconnection = \"{}\"\n{MAIL}", cluster.connection()));
    installation.start();
    let told = || installation.journal("select group_concat(email) from operator_cache");
    wait_until("the daemon listens", seconds(20), || {
        cluster.sql("select count(*) from pg_stat_activity where query ilike 'listen%'") != "0"
    });
    installation.run(&["operator", "add", "database", "anna@example.com"]);
    wait_until("she is known", seconds(10), || told() == "anna@example.com");
    cluster.sql("insert into dba_ops.operators (group_name, email) values ('database', 'by.hand@example.com')");
    wait_until("so is he", seconds(10), || told() == "anna@example.com,by.hand@example.com");
    cluster.sql("update dba_ops.operators set active = false where email like 'anna%'");
    wait_until("she is on leave", seconds(10), || told() == "by.hand@example.com");
    cluster.sql("update dba_ops.operator_groups set description = description");
    installation.run(&["operator", "remove", "database", "by.hand@example.com"]);
    wait_until("nobody is left", seconds(10), || told().is_empty());
    let audit = cluster.sql("select string_agg(action || ' ' || object, ', ' order by at) from dba_ops.audit_log where action like 'operator%'");
    assert_eq!(
        audit,
        "operator added anna@example.com, operator added by.hand@example.com, operator changed anna@example.com, \
         operator removed by.hand@example.com"
    );
    let user = output(std::process::Command::new("id").arg("-un"));
    let actors =
        cluster.sql("select string_agg(distinct actor, ',') from dba_ops.audit_log where action like 'operator%'");
    assert!(actors.split(',').any(|actor| actor == user.trim()), "{actors}");
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

#[test]
fn c39_a_schema_that_another_made_before_is_not_written_into() {
    let directory = directory();
    let cluster = Cluster::start(directory.path());
    let history = format!("[history]\nconnection = \"{}\"\n", cluster.connection());
    let installation = Installation::new(directory.path(), &format!("{}{history}", cluster_and_repository(&cluster)));
    cluster.sql("create role eve");
    cluster.sql("create schema dba_ops authorization eve");
    let said = |arguments: &[&str]| {
        let done = installation.try_run(arguments);
        format!("{}{}", String::from_utf8_lossy(&done.stdout), String::from_utf8_lossy(&done.stderr))
    };
    let refused = "schema dba_ops belongs to eve, whose triggers would run with pgbosun's rights";
    assert!(said(&["migrate"]).contains(refused), "{}", said(&["migrate"]));
    assert!(said(&["check"]).contains(refused));
    assert_eq!(cluster.sql("select count(*) from pg_class where relnamespace = 'dba_ops'::regnamespace"), "0");
    cluster.sql("alter schema dba_ops owner to postgres");
    installation.run(&["migrate"]);
    cluster.sql("alter table dba_ops.operators owner to eve");
    let refused = "table dba_ops.operators belongs to eve";
    assert!(said(&["operator", "list"]).contains(refused), "{}", said(&["operator", "list"]));
    cluster.sql("alter table dba_ops.operators owner to postgres");
    installation.run(&["operator", "list"]);
}

/// A table dropped, a column renamed, a schema of a newer version, a server that is away: said by `check` at once, told after
/// `fail-safe-after`, and over when it is over.
#[test]
fn a_history_database_that_takes_nothing_is_told_and_made_anew() {
    let directory = directory();
    let cluster = Cluster::start(directory.path());
    let configuration = format!(
        "fail-safe-after = \"2s\"\n[history]\nconnection = \"{}\"\n{MAIL}\
         [jobs.look]\nkind = \"command\"\nprogram = \"/bin/true\"\nschedule = \"* * * * * *\"\n",
        cluster.connection()
    );
    let mut installation = Installation::new(directory.path(), &configuration);
    let said = |installation: &Installation, arguments: &[&str]| {
        let done = installation.try_run(arguments);
        format!("{}{}", String::from_utf8_lossy(&done.stdout), String::from_utf8_lossy(&done.stderr))
    };
    assert!(said(&installation, &["check"]).contains("has no schema dba_ops yet"));
    installation.run(&["migrate"]);
    installation.run(&["operator", "add", "database", "anna@example.com"]);
    installation.run(&["operator", "add", "security", "away@example.com"]);
    cluster.sql("update dba_ops.operators set active = false where email like 'away%'");
    installation.start();
    let alert =
        "select state || ' ' || detail from alerts where job = 'pgbosun-history' order by opened_at desc limit 1";
    let told = |words: &str| {
        wait_until("it is told", seconds(60), || {
            installation.journal(alert).starts_with("open") && installation.journal(alert).contains(words)
        });
        wait_until("by mail", seconds(30), || {
            installation.mails().iter().any(|mail| mail.contains("the history database has accepted nothing"))
        });
    };
    let over = || wait_until("it is over", seconds(90), || installation.journal(alert).starts_with("resolved"));
    let damages = [
        ("alter table dba_ops.job_runs rename column summary to summary2", "summary"),
        ("drop table dba_ops.restore_tests", "dba_ops.restore_tests"),
        ("alter table dba_ops.job_runs drop constraint job_runs_pkey", "ON CONFLICT"),
        ("drop table dba_ops._sqlx_migrations", "dba_ops._sqlx_migrations"),
        ("drop table dba_ops.operator_groups cascade", "dba_ops.operator_groups"),
        ("alter table dba_ops.operators drop column email", "email"),
    ];
    for (damage, words) in damages {
        wait_until("it is filled", seconds(60), || cluster.sql("select count(*) from dba_ops.jobs") != "0");
        cluster.sql(damage);
        let checked = said(&installation, &["check"]);
        assert!(
            checked.contains("dba_ops is incomplete") && checked.contains(words) && checked.contains("--rebuild"),
            "{checked}"
        );
        if words == "summary" {
            told(words);
        }
        let migrated = said(&installation, &["migrate"]);
        assert!(migrated.contains("dba_ops is incomplete") && migrated.contains(words), "{migrated}");
        let made = installation.run(&["migrate", "--rebuild"]);
        let aside = made.split("what was left of the old one is now ").nth(1).unwrap().split('.').next().unwrap();
        assert!(cluster.sql(&format!("select count(*) from {aside}.jobs")) != "0", "{made}");
        assert!(said(&installation, &["check"]).contains("dba_ops answers"));
        over();
        until_the_same_rows(&installation, &cluster, seconds(60));
        let kept = cluster.sql("select string_agg(email || ' ' || active, ', ' order by email) from dba_ops.operators");
        assert_eq!(kept, if words == "email" { "" } else { "anna@example.com true, away@example.com false" });
    }
    let refused = said(&installation, &["migrate", "--rebuild"]);
    assert!(refused.contains("nothing is missing in dba_ops"), "{refused}");
    assert_eq!(cluster.sql("select count(*) from pg_namespace where nspname like 'dba\\_ops\\_%'"), "6");
    // The trigger that tells of operators is there again.
    installation.run(&["operator", "add", "database", "anna@example.com"]);
    wait_until("she is known", seconds(20), || {
        installation.journal("select email from operator_cache") == "anna@example.com"
    });

    cluster.down();
    told("connect to");
    cluster.up();
    over();
    installation.stop();
    cluster.sql(
        "insert into dba_ops._sqlx_migrations (version, description, success, checksum, execution_time) values (9999, 'x', true, '', 0)",
    );
    for command in ["check", "migrate"] {
        let words = said(&installation, &[command]);
        assert!(words.contains("made by a newer pgbosun"), "{words}");
    }
}

/// A group that loses its last operator falls back to others: said where it is done, by `check`, and once to those who hear now.
#[test]
fn who_hears_for_a_group_without_operators_is_said() {
    let directory = directory();
    let cluster = Cluster::start(directory.path());
    let configuration = format!("[history]\nconnection = \"{}\"\n{MAIL}", cluster.connection());
    let mut installation = Installation::new(directory.path(), &configuration);
    installation.start();
    let told = || installation.journal("select group_concat(email) from operator_cache");
    wait_until("the daemon listens", seconds(20), || {
        cluster.sql("select count(*) from pg_stat_activity where query ilike 'listen%'") != "0"
    });
    let add = || {
        installation.run(&["operator", "add", "database", "anna@example.com"]);
        wait_until("she is known", seconds(10), || told() == "anna@example.com");
    };
    add();
    let instead = "its recipients in the configuration receive its alerts: dba@example.com";
    let removed = installation.run(&["operator", "remove", "database", "anna@example.com"]);
    assert!(removed.contains("group database has no active operator left") && removed.contains(instead), "{removed}");
    let alert = "select state || ' ' || severity || ' ' || detail from alerts where job = 'pgbosun-operators' order by opened_at desc limit 1";
    wait_until("they are told", seconds(20), || installation.mails().len() == 1);
    assert!(installation.mails()[0].contains("WARNING test: group database no longer has an operator"));
    let mail = std::fs::read_dir(directory.path().join("mail")).unwrap().flatten().next().unwrap().path();
    assert!(std::fs::read_to_string(mail).unwrap().contains("To: dba@example.com"));
    assert!(installation.journal(alert).starts_with("open warning") && installation.journal(alert).contains(instead));
    add();
    wait_until("it is over", seconds(20), || installation.journal(alert).starts_with("resolved"));

    // One who is on leave is not told by way of the configuration either: then nobody is, which is worse.
    cluster.sql("update dba_ops.operators set active = false");
    wait_until("it is known", seconds(20), || installation.journal(alert).starts_with("open critical"));
    let checked = String::from_utf8_lossy(&installation.try_run(&["check"]).stdout).into_owned();
    assert!(checked.contains("has no recipients of its own: nobody receives its alerts"), "{checked}");
}
