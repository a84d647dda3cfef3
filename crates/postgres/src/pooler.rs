//! Poolers between us and a server: one that keeps a server for each session is taken, any other is named.
//!
//! Invariants: a session works only with the settings it began with (C39). A pooler that passes over what a connection asks for
//! (PgBouncer: `ignore_startup_parameters`) is found by a mark that did not arrive; then the settings are made by statements, where
//! what a statement sets is still there for the next one. A pooler that gives every transaction another server is no place for that,
//! nor for a lock, a temporary table or a prepared statement.

use crate::{Error, Server, conninfo::Host};
use sqlx::{AssertSqlSafe, ConnectOptions, Connection, PgConnection, Row};
use std::sync::LazyLock;

/// The mark of our sessions, a setting: its value is known to this process alone, so that no database's owner can set it.
pub(crate) const MARK: &str = "pgbosun.session";
pub(crate) static VALUE: LazyLock<String> = LazyLock::new(|| uuid::Uuid::new_v4().to_string());

/// True for the words with which PgBouncer, and no PostgreSQL, refuses what our connections begin with.
pub(crate) fn speaks(message: &str) -> bool {
    message.to_lowercase().contains("unsupported startup parameter")
}

/// True where what the connection asked for reached the server. No operator is used, which could be one of the database's owner, and no
/// prepared statement, which a pooler may not know.
pub(crate) async fn is_passed_on(connection: &mut PgConnection) -> Result<bool, sqlx::Error> {
    let asked = format!("select pg_catalog.current_setting('{MARK}', true)");
    let found: Option<String> = sqlx::raw_sql(AssertSqlSafe(asked)).fetch_one(connection).await?.try_get(0)?;
    Ok(found.is_some_and(|found| found == *VALUE))
}

/// That the server behind a pooler stays the same for the whole of a session.
pub(crate) async fn check_session(server: &Server, host: &Host, mine: &mut PgConnection) -> Result<(), Error> {
    let failed = |source: sqlx::Error| Error::connect(&server.conninfo, host, source);
    let mut other = server.options(host).await?.connect().await.map_err(failed)?;
    let (mut of_mine, mut of_other) = (Vec::new(), Vec::new());
    // Whoever serves in turn gives the second of two statements another server; whoever takes the last one gives both the same.
    for turn in [true, true, false, true, false, false] {
        let connection = if turn { &mut *mine } else { &mut other };
        let row = sqlx::raw_sql("select pg_catalog.pg_backend_pid()").fetch_one(connection).await.map_err(failed)?;
        let pid: i32 = row.try_get(0).map_err(failed)?;
        if turn { of_mine.push(pid) } else { of_other.push(pid) }
    }
    let _ = other.close().await;
    of_mine.dedup();
    of_other.dedup();
    match of_mine.len() == 1 && of_other.len() == 1 && of_mine != of_other {
        true => Ok(()),
        false => Err(Error::Pooler { target: host.to_string() }),
    }
}
