//! The server's counters, one query a topic; each gives keys and values in the order of its topic's shape.
//!
//! One connection to a database at a time, with the cluster's statement and lock timeouts.

use super::Sample;
use crate::{JobContext, JobError};
use pgbosun_core::{
    human,
    sample::{Counters, Frame, QueryText, Topic},
};
use pgbosun_postgres::{Database, Error, Extension, ForeignSchema, Server};
use regex::Regex;
use sqlx::{AssertSqlSafe, Connection, FromRow, PgConnection};
use std::{sync::LazyLock, time::Duration};

/// What was found beside counters.
#[derive(Debug, Default)]
pub(super) struct Taken {
    /// A database in which pg_stat_statements is.
    pub statements_in: Option<String>,
    /// Sizes, where they were asked for.
    pub sizes: Option<Frame>,
    /// What could not be read, and why.
    pub missing: Vec<String>,
}

#[derive(FromRow)]
struct Row {
    #[sqlx(try_from = "pgbosun_postgres::LossyArray")]
    key: Vec<String>,
    values: Vec<f64>,
}

/// Reads all counters; sizes where `sizes` says so.
pub(super) async fn take(
    options: &Sample,
    context: &JobContext,
    server: &Server,
    counters: &mut Counters,
    sizes: bool,
) -> Result<Taken, JobError> {
    let mut connection = server.connect().await?;
    let major = connection.server_version_num().unwrap_or_default() / 10_000;
    let databases = sqlx::query_as(pgbosun_postgres::DATABASES)
        .fetch_all(&mut connection)
        .await
        .map_err(failed("list the databases"))?;
    count(&mut connection, counters, Topic::Databases, include_str!("databases.sql")).await?;
    let of_server = if major >= 17 { include_str!("server.sql") } else { include_str!("server_16.sql") };
    count(&mut connection, counters, Topic::Server, of_server).await?;
    if major >= 16 {
        count(&mut connection, counters, Topic::Io, include_str!("io.sql")).await?;
    }
    for round in 0..options.wait_looks {
        if round > 0 {
            tokio::select! {
                () = tokio::time::sleep(Duration::from_secs(1)) => {}
                () = context.cancel.cancelled() => return Err(JobError::passing("cancelled")),
            }
        }
        count(&mut connection, counters, Topic::Waits, include_str!("waits.sql")).await?;
    }
    let _ = connection.close().await;
    let mut taken = Taken { sizes: sizes.then(Frame::new), ..Taken::default() };
    for Database { name, .. } in Database::at_work(databases) {
        let mut target = server.clone();
        target.conninfo = target.conninfo.with_database(&name);
        let mut connection = match target.connect().await {
            Ok(connection) => connection,
            Err(error) if error.is_missing_database() => continue,
            // The server is there, and the others let us in.
            Err(error) if error.is_answer() => {
                taken.missing.push(format!("{name}: {}", human::chain(&error)));
                continue;
            }
            Err(error) => return Err(error.into()),
        };
        for (topic, sql) in [(Topic::Tables, include_str!("tables.sql")), (Topic::Indexes, include_str!("indexes.sql"))]
        {
            // One database that cannot be read costs the others nothing.
            match count(&mut connection, counters, topic, sql).await {
                Err(error) if error.is_answer() => taken.missing.push(format!("{name}: {}", human::chain(&error))),
                counted => counted?,
            }
        }
        if let Some(frame) = &mut taken.sizes {
            match rows(&mut connection, Topic::Sizes, include_str!("sizes.sql")).await {
                Ok(rows) => rows.into_iter().for_each(|row| frame.add(Topic::Sizes, row.key, &row.values)),
                // Somebody locked a table while it was asked, or there are very many: the next hour asks again.
                Err(error) => taken.missing.push(format!("sizes in {name}: {}", human::chain(&error))),
            }
        }
        if taken.statements_in.is_none()
            && let Some(extension) = Extension::find(&mut connection, "pg_stat_statements").await?
        {
            let asked = match extension.schema() {
                Ok(schema) => statements(&mut connection, schema).await,
                Err(foreign) => {
                    let remedy = ForeignSchema::remedy("pg_stat_statements");
                    taken.missing.push(format!("pg_stat_statements in {name}: {foreign}: {remedy}"));
                    continue;
                }
            };
            match asked {
                Ok(rows) => {
                    rows.into_iter().for_each(|row| counters.add(Topic::Statements, row.key, &row.values));
                    taken.statements_in = Some(name);
                }
                // Installed here, and not loaded by the server.
                Err(error)
                    if error.as_database_error().is_some_and(|error| error.code().as_deref() == Some("55000")) =>
                {
                    tracing::debug!("pg_stat_statements in {name}: {error}");
                }
                Err(error) => taken.missing.push(format!("pg_stat_statements in {name}: {error}")),
            }
        }
        let _ = connection.close().await;
    }
    Ok(taken)
}

/// Statements as counted: the columns are those of the extension, which an upgrade of the server leaves as it is.
async fn statements(connection: &mut PgConnection, schema: &str) -> Result<Vec<Row>, sqlx::Error> {
    let asked =
        "select /* pgbosun */ exists (select from pg_catalog.pg_attribute where attname = 'shared_blk_read_time'
                     and attrelid = pg_catalog.to_regclass($1 || '.pg_stat_statements'))";
    let new: bool = sqlx::query_scalar(asked).bind(schema).fetch_one(&mut *connection).await?;
    let times = if new {
        ["shared_blk_read_time + local_blk_read_time", "shared_blk_write_time + local_blk_write_time"]
    } else {
        ["blk_read_time", "blk_write_time"]
    };
    let sql = include_str!("statements.sql").replace("{schema}", schema);
    let sql = sql.replace("{read_time}", times[0]).replace("{write_time}", times[1]);
    sqlx::query_as(AssertSqlSafe(sql)).fetch_all(connection).await
}

/// The words of these statements, without secrets.
pub(super) async fn texts(
    server: &Server,
    database: &str,
    wanted: Vec<String>,
    most: u32,
) -> Result<Vec<QueryText>, JobError> {
    if wanted.is_empty() {
        return Ok(Vec::new());
    }
    let mut target = server.clone();
    target.conninfo = target.conninfo.with_database(database);
    let mut connection = target.connect().await?;
    let Some(extension) = Extension::find(&mut connection, "pg_stat_statements").await? else { return Ok(Vec::new()) };
    let Ok(schema) = extension.schema() else { return Ok(Vec::new()) };
    let sql = include_str!("texts.sql").replace("{schema}", schema);
    let most = i32::try_from(most).unwrap_or(i32::MAX);
    let rows: Vec<(String, String)> = sqlx::query_as(AssertSqlSafe(sql))
        .bind(wanted)
        .bind(most)
        .fetch_all(&mut connection)
        .await
        .map_err(failed("read the text of statements"))?;
    let _ = connection.close().await;
    Ok(rows.into_iter().map(|(query, text)| QueryText { query, text: without_secrets(&text) }).collect())
}

/// Statements are normalized, but not those that make roles and servers.
fn without_secrets(text: &str) -> String {
    static PASSWORD: LazyLock<Option<Regex>> = LazyLock::new(|| {
        Regex::new(r"(?is)\b(password|passphrase|secret)(\s*=?\s*)('(?:[^']|'')*'|\$\w*\$.*?\$\w*\$)").ok()
    });
    match &*PASSWORD {
        Some(pattern) => pattern.replace_all(text, "$1$2'…'").into_owned(),
        None => String::new(),
    }
}

async fn count(
    connection: &mut PgConnection,
    counters: &mut Counters,
    topic: Topic,
    sql: &'static str,
) -> Result<(), Error> {
    for Row { key, values } in rows(connection, topic, sql).await? {
        counters.add(topic, key, &values);
    }
    Ok(())
}

async fn rows(connection: &mut PgConnection, topic: Topic, sql: &'static str) -> Result<Vec<Row>, Error> {
    let what = format!("read the counters of {topic}");
    let rows = sqlx::query_as(sql).fetch_all(connection).await;
    rows.map_err(|source| Error::Query { what, source })
}

fn failed(what: &'static str) -> impl Fn(sqlx::Error) -> Error {
    move |source| Error::Query { what: what.into(), source }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_password_is_kept() {
        let kept = without_secrets("ALTER ROLE eve PASSWORD 'it''s hers' VALID UNTIL '2027-01-01'");
        assert_eq!(kept, "ALTER ROLE eve PASSWORD '…' VALID UNTIL '2027-01-01'");
        let kept = without_secrets("create user mapping for eve server s options (user 'eve', password 'hers')");
        assert_eq!(kept, "create user mapping for eve server s options (user 'eve', password '…')");
        assert_eq!(without_secrets("create role a password $x$hers$x$"), "create role a password '…'");
        assert_eq!(
            without_secrets("select password from users where id = $1"),
            "select password from users where id = $1"
        );
    }
}
