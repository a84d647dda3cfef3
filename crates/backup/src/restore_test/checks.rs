//! Looking through a restored server: everything is there, can be read, and says what it should.

use super::RestoreTest;
use crate::{Error, scratch::Scratch};
use chrono::{DateTime, TimeDelta, Utc};
use pgbosun_core::human;
use pgbosun_postgres::{GroupChild, Lossy, Server};
use sqlx::{AssertSqlSafe, Connection, PgConnection};
use std::{path::Path, process::Stdio};
use tokio::io::AsyncReadExt;

/// What was found.
pub(super) struct Contents {
    pub databases: u64,
    pub tables: u64,
    pub rows: u64,
    pub recovered_to: DateTime<Utc>,
    pub checked: Vec<String>,
    pub faults: Vec<String>,
}

impl RestoreTest {
    pub(super) async fn inspect(&self, scratch: &Scratch, programs: &Path) -> Result<Contents, Error> {
        let mut connection = scratch.server("postgres").connect().await?;
        let last: Option<DateTime<Utc>> = sqlx::query_scalar("select pg_catalog.pg_last_xact_replay_timestamp()")
            .fetch_one(&mut connection)
            .await
            .map_err(Error::query("read the time of the last transaction"))?;
        let names: Vec<Lossy> = sqlx::query_scalar(pgbosun_postgres::DATABASES)
            .fetch_all(&mut connection)
            .await
            .map_err(Error::query("list the restored databases"))?;
        let names: Vec<String> = names.into_iter().map(String::from).collect();
        let _ = connection.close().await;
        let recovered_to = last.unwrap_or(self.plan.info.finished_at).max(self.plan.info.finished_at);
        let mut contents = Contents {
            databases: names.len() as u64,
            tables: 0,
            rows: 0,
            recovered_to,
            checked: Vec::new(),
            faults: Vec::new(),
        };
        // What was dropped after the backup began is rightly gone once WAL was replayed.
        if last.is_none() {
            let expected = self.plan.info.databases.keys();
            for missing in expected.filter(|name| *name != "template0" && !names.contains(name)) {
                let words = "was there when the backup started, but is not in the restored cluster";
                contents.faults.push(format!("database {missing} {words}"));
            }
        }
        for name in &names {
            let mut connection = scratch.server(name).connect().await?;
            count(&mut connection, name, &mut contents).await?;
            let _ = connection.close().await;
        }
        self.ask(scratch, &mut contents).await;
        self.check_heartbeat(scratch, &mut contents).await;
        if self.amcheck {
            self.check_structure(scratch, programs, &mut contents).await;
        }
        Ok(contents)
    }

    /// The configured queries.
    async fn ask(&self, scratch: &Scratch, contents: &mut Contents) {
        for query in &self.queries {
            let place = format!("query \"{}\" in {}", query.sql, query.database);
            let answer = answer(&scratch.server(&query.database).for_own_sql(), &query.sql).await;
            match (answer, &query.expect) {
                (Ok(None), _) => contents.faults.push(format!("{place} returned nothing")),
                (Ok(Some(answer)), Some(expect)) if answer != *expect => {
                    contents.faults.push(format!("{place} returned {answer}, expected {expect}"));
                }
                (Ok(Some(answer)), _) => contents.checked.push(format!("{place} returned {answer}")),
                (Err(error), _) => contents.faults.push(format!("{place}: {error}")),
            }
        }
    }

    async fn check_heartbeat(&self, scratch: &Scratch, contents: &mut Contents) {
        let Some((database, table)) = &self.heartbeat else { return };
        let newest = answer(&scratch.server(database), &format!("select pg_catalog.max(at) from {table}")).await;
        let parsed =
            newest.map(|text| text.and_then(|text| DateTime::parse_from_str(&text, "%Y-%m-%d %H:%M:%S%.f%#z").ok()));
        match parsed {
            Ok(Some(at)) if at.with_timezone(&Utc) + TimeDelta::minutes(2) >= contents.recovered_to => {
                contents.checked.push(format!("heartbeat of {at}"));
            }
            Ok(Some(at)) => {
                let reason = format!("the heartbeat ends at {at}, but recovery went to {}", contents.recovered_to);
                contents.faults.push(reason);
            }
            Ok(None) => contents.faults.push(format!("{table} in {database} has no heartbeat")),
            Err(error) => contents.faults.push(format!("heartbeat in {database}: {error}")),
        }
    }

    /// `pg_amcheck` over every database: B-tree indexes and heaps against their own rules.
    async fn check_structure(&self, scratch: &Scratch, programs: &Path, contents: &mut Contents) {
        let program = programs.join("pg_amcheck");
        if !program.exists() {
            return contents.checked.push("structure not checked: pg_amcheck is not installed".into());
        }
        let server = scratch.server("postgres");
        let spawned = GroupChild::spawn(
            server
                .client_program(&program, "postgres")
                .args(["--all", "--install-missing", "--jobs", "2", "--no-strict-names"])
                .stdin(Stdio::null())
                .stdout(Stdio::piped())
                .stderr(Stdio::piped()),
        );
        let mut child = match spawned {
            Ok(child) => child,
            Err(error) => return contents.faults.push(format!("pg_amcheck could not be started: {error}")),
        };
        let (mut out, mut errors) = (String::new(), String::new());
        let pipes = (child.child().stdout.take(), child.child().stderr.take());
        if let (Some(mut output), Some(mut complaints)) = pipes {
            let _ = tokio::join!(output.read_to_string(&mut out), complaints.read_to_string(&mut errors));
        }
        match child.wait().await {
            Ok(status) if status.success() => {
                contents.checked.push("structure of tables and indexes (pg_amcheck)".into())
            }
            // Without the extension there is nothing wrong with the backup.
            Ok(_)
                if errors.contains("extension \"amcheck\" is not available") || errors.contains("amcheck.control") =>
            {
                contents.checked.push("structure not checked: the extension amcheck is not installed".into());
            }
            _ => {
                let words = [out.trim(), errors.trim()].join("\n");
                let words: Vec<_> = words.lines().filter(|line| !line.is_empty()).take(20).collect();
                contents.faults.push(format!("pg_amcheck: {}", words.join("; ")));
            }
        }
    }
}

async fn answer(server: &Server, sql: &str) -> Result<Option<String>, String> {
    let mut connection = server.connect().await.map_err(|error| human::chain(&error))?;
    let wrapped = format!("select answer::text from ({}) as asked (answer)", sql.trim_end().trim_end_matches(';'));
    let row: Result<Option<Option<String>>, _> =
        sqlx::query_scalar(AssertSqlSafe(wrapped)).fetch_optional(&mut connection).await;
    let _ = connection.close().await;
    row.map(Option::flatten).map_err(|error| error.to_string())
}

/// Reads every row of every table.
async fn count(connection: &mut PgConnection, database: &str, contents: &mut Contents) -> Result<(), Error> {
    let listed: Vec<Lossy> = sqlx::query_scalar(include_str!("tables.sql"))
        .fetch_all(&mut *connection)
        .await
        .map_err(Error::query("list the restored tables"))?;
    for table in listed.into_iter().map(String::from) {
        if table.contains('\u{fffd}') {
            contents.checked.push(format!("{database}: {table} is not counted, its name is not UTF-8"));
            continue;
        }
        // The name comes quoted from the server.
        let counted: Result<i64, _> =
            sqlx::query_scalar(AssertSqlSafe(format!("select pg_catalog.count(*) from {table}")))
                .fetch_one(&mut *connection)
                .await;
        match counted {
            Ok(counted) => {
                contents.tables += 1;
                contents.rows += counted.unsigned_abs();
            }
            Err(error) => contents.faults.push(format!("{database}: {table} cannot be read: {error}")),
        }
    }
    Ok(())
}
