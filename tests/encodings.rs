//! Databases, roles and tables whose names are no UTF-8, beside those that are: every job looks at all of them (C44).

use crate::support::{
    Cluster, Installation, MAIL, cluster_and_repository, directory, output, postgres, seconds, wait_until,
};
use std::{
    fs,
    process::{Child, Command, Stdio},
};

const JOBS: &str = "[jobs.full]\nkind = \"backup.physical\"\nrepositories = [\"local\"]\n\
    [jobs.vacuum]\nkind = \"maintenance.vacuum\"\n[jobs.analyze]\nkind = \"maintenance.analyze\"\n\
    [jobs.reindex]\nkind = \"maintenance.reindex\"\n[jobs.integrity]\nkind = \"maintenance.integrity\"\n\
    [jobs.advice]\nkind = \"maintenance.advice\"\n[jobs.sample]\nkind = \"sample\"\n\
    [jobs.again]\nkind = \"sample\"\n[jobs.report]\nkind = \"report.performance\"\n[jobs.health]\nkind = \"report.health\"\n";

/// psql in a database, with statements of any bytes.
fn psql(cluster: &Cluster, database: &str, statements: &[u8]) -> Command {
    let file = cluster.socket.join(format!("{database}.{}.sql", statements.len()));
    fs::write(&file, statements).unwrap();
    let mut command = Command::new(postgres("psql"));
    let connection = cluster.connection().replace("dbname=postgres", &format!("dbname={database}"));
    command.args(["-XAtq", "-v", "ON_ERROR_STOP=1", "-d", &connection, "-f"]).arg(file);
    command
}

#[test]
fn c44_names_in_any_encoding_blind_no_job() {
    let directory = directory();
    let cluster = Cluster::start(directory.path());
    for (database, encoding) in [("latin", "LATIN1"), ("raw", "SQL_ASCII")] {
        cluster.sql(&format!(
            "create database {database} template template0 encoding '{encoding}' lc_collate 'C' lc_ctype 'C'"
        ));
    }
    let latin = |statements: &[u8]| [b"set client_encoding = 'LATIN1';", statements].concat();
    let raw = |statements: &[u8]| [b"set client_encoding = 'SQL_ASCII';", statements].concat();
    let rows = b" as select g a, 'x\xe9'::text b from generate_series(1, 5000) g;";
    output(&mut psql(
        &cluster,
        "latin",
        &latin(
            &[&b"create table \"gr\xf6\xdfe\""[..], rows, b"create index \"\xfc\" on \"gr\xf6\xdfe\" (a);"].concat(),
        ),
    ));
    output(&mut psql(&cluster, "latin", &latin(b"create role \"j\xf6rg\" superuser login;")));
    output(&mut psql(
        &cluster,
        "raw",
        &raw(&[&b"create table \"caf\xe9\""[..], rows, b"create index \"\xff\xfe\" on \"caf\xe9\" (a);"].concat()),
    ));
    // One waits for the other, and says so in its own bytes.
    let wait = |statements: &[u8]| -> Child {
        psql(&cluster, "latin", &latin(statements)).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap()
    };
    let mut sessions = vec![wait(b"begin; lock table \"gr\xf6\xdfe\"; select pg_sleep(600);")];
    wait_until("one has the lock", seconds(10), || {
        cluster.sql("select count(*) from pg_locks where mode = 'AccessExclusiveLock' and granted") != "0"
    });
    sessions.push(wait(b"select * from \"gr\xf6\xdfe\";"));

    let test = format!(
        "[jobs.test]\nkind = \"restore-test\"\nrepository = \"local\"\nprogram-directory = \"{}\"\n",
        postgres("").display()
    );
    let text = format!("{MAIL}{}{JOBS}{test}", cluster_and_repository(&cluster)).replace(
        "[clusters.main]\n",
        &format!("[clusters.main]\nwatch = true\ndata-directory = \"{}\"\n", cluster.data.display()),
    );
    let installation = Installation::new(directory.path(), &text);
    let keys = installation.json(&["config", "show"]);
    let jobs: Vec<_> = keys
        .as_array()
        .unwrap()
        .iter()
        .filter_map(|key| key["key"].as_str()?.strip_prefix("jobs.")?.strip_suffix(".kind"))
        .collect();
    assert!(jobs.len() > 35, "{jobs:?}");
    for job in jobs.iter().filter(|job| !job.starts_with("re")).chain(jobs.iter().filter(|job| job.starts_with("re"))) {
        let done = installation.try_run(&["job", "run", job]);
        let said = format!("{}{}", String::from_utf8_lossy(&done.stdout), String::from_utf8_lossy(&done.stderr));
        for wrong in ["utf-8", "UTF8", "encoding", "panicked"] {
            assert!(!said.contains(wrong), "{job}: {said}");
        }
        if ["main-locks", "main-long-transactions", "main-superusers", "sample", "again", "full", "test"].contains(job)
        {
            assert!(done.status.success(), "{job}: {said}");
        }
    }
    let found = installation.journal("select group_concat(job || ' ' || summary, char(10)) from findings");
    assert!(!found.contains("utf-8") && !found.contains("byte sequence"), "{found}");
    for mut session in sessions {
        let _ = session.kill();
        let _ = session.wait();
    }
    cluster.sql("select pg_terminate_backend(pid) from pg_stat_activity where datname = 'latin'");
    // All of it was checked: what was written down names it as far as it can be read.
    installation.run(&["job", "run", "vacuum"]);
    let tables = installation.journal("select count(*) from findings where summary like '%could not be read%'");
    assert_eq!(tables, "0");
}
