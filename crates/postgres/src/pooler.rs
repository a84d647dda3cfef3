//! Poolers between us and a server: one that keeps a server for each session is accepted, any other is refused and named.
//!
//! Invariants: a session works only with the settings it began with (C39). A pooler that drops what a connection asks for (PgBouncer:
//! `ignore_startup_parameters`) is found by a mark that did not arrive, random for each connection, so that code of a database's owner
//! that sees one cannot set the next; then the settings are made by statements, where what a statement sets is still there for the next
//! one. A pooler that gives every transaction another server is no place for that, nor for a lock, a temporary table or a prepared statement.

use crate::{Error, Server, conninfo::Host};
use sqlx::{AssertSqlSafe, ConnectOptions, Connection, PgConnection, Row};
use uuid::Uuid;

/// How often it is asked whose server it is.
const ASKED: usize = 60;

/// The mark of a session, a setting.
pub(crate) const MARK: &str = "pgbosun.session";

/// True for the words with which PgBouncer, and no PostgreSQL, refuses what our connections begin with.
pub(crate) fn speaks(message: &str) -> bool {
    message.to_lowercase().contains("unsupported startup parameter")
}

/// True where what the connection asked for reached the server. No operator is used, which could be one of the database's owner, and no
/// prepared statement, which a pooler may not know.
pub(crate) async fn is_passed_on(connection: &mut PgConnection, mark: Uuid) -> Result<bool, sqlx::Error> {
    let asked = format!("select /* pgbosun */ pg_catalog.current_setting('{MARK}', true)");
    let found: Option<String> = sqlx::raw_sql(AssertSqlSafe(asked)).fetch_one(connection).await?.try_get(0)?;
    Ok(found.is_some_and(|found| found == mark.to_string()))
}

/// That the server behind a pooler stays the same for the whole of a session.
pub(crate) async fn check_session(server: &Server, host: &Host, mine: &mut PgConnection) -> Result<(), Error> {
    // Half of the time there is: a pooler without a place for a second session has us wait.
    match tokio::time::timeout(server.connect_timeout / 2, is_own(server, host, mine)).await {
        Ok(Ok(true)) => Ok(()),
        Ok(Ok(false)) | Err(_) => Err(Error::Pooler { target: host.to_string() }),
        Ok(Err(error)) => Err(error),
    }
}

async fn is_own(server: &Server, host: &Host, mine: &mut PgConnection) -> Result<bool, Error> {
    let failed = |source: sqlx::Error| Error::connect(&server.conninfo, host, source);
    // What others left in a session is not taken away there.
    let left = "select /* pgbosun */ name from pg_catalog.pg_prepared_statements limit 1";
    if sqlx::raw_sql(left).fetch_optional(&mut *mine).await.map_err(failed)?.is_some() {
        return Ok(false);
    }
    let mut other = server.options(host).await?.0.connect().await.map_err(failed)?;
    let (mut of_mine, mut of_other) = (Vec::new(), Vec::new());
    // Whoever serves in turn gives the second of two statements another server; whoever takes the last one gives both the same. Others
    // that take servers meanwhile make it less likely that a round shows it: hence many.
    for turn in [true, true, false, true, false, false].into_iter().cycle().take(ASKED) {
        let connection = if turn { &mut *mine } else { &mut other };
        let row = sqlx::raw_sql("select /* pgbosun */ pg_catalog.pg_backend_pid()")
            .fetch_one(connection)
            .await
            .map_err(failed)?;
        let pid: i32 = row.try_get(0).map_err(failed)?;
        if turn { of_mine.push(pid) } else { of_other.push(pid) }
    }
    let _ = other.close().await;
    of_mine.dedup();
    of_other.dedup();
    Ok(of_mine.len() == 1 && of_other.len() == 1 && of_mine != of_other)
}
