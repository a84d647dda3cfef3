//! What the second connection does: looking how far the first one is, and ending what it does.
//!
//! Nothing of it fails the work: what cannot be asked is not known.

use pgbosun_postgres::Server;
use sqlx::{FromRow, PgConnection};
use std::time::Duration;

/// How long an answer may take.
const LIMIT: Duration = Duration::from_secs(3);

#[derive(FromRow)]
struct Step {
    #[sqlx(try_from = "pgbosun_postgres::Lossy")]
    phase: String,
    done: i64,
    total: i64,
}

/// How far a statement is, where the server tells.
pub(super) async fn step(watch: &mut PgConnection, pid: i32) -> Option<String> {
    let asked = sqlx::query_as(include_str!("progress.sql")).bind(pid).fetch_optional(watch);
    let Step { phase, done, total } = tokio::time::timeout(LIMIT, asked).await.ok()?.ok()??;
    Some(if total > 0 { format!("{phase}, {} %", (100 * done / total).min(100)) } else { phase })
}

/// What it waits for: a lock of this type (`relation` is a table that somebody else has locked).
pub(super) async fn waits_for(watch: &mut PgConnection, pid: i32) -> Option<String> {
    let sql = "select locktype from pg_catalog.pg_locks where pid = $1 and not granted limit 1";
    let asked = sqlx::query_scalar(sql).bind(pid).fetch_optional(watch);
    tokio::time::timeout(LIMIT, asked).await.ok()?.ok()?
}

/// Cancels what it does.
pub(super) async fn cancel(watch: &mut PgConnection, server: &Server, pid: i32) {
    call(watch, server, pid, "select pg_catalog.pg_cancel_backend($1)").await;
}

/// Ends it.
pub(super) async fn end_backend(watch: &mut PgConnection, server: &Server, pid: i32) {
    call(watch, server, pid, "select pg_catalog.pg_terminate_backend($1)").await;
}

async fn call(watch: &mut PgConnection, server: &Server, pid: i32, sql: &'static str) {
    let asked = tokio::time::timeout(LIMIT, sqlx::query(sql).bind(pid).execute(watch)).await;
    if matches!(asked, Ok(Ok(_))) {
        return;
    }
    // That connection may be what is broken.
    let anew = async {
        let mut connection = server.connect().await.ok()?;
        sqlx::query(sql).bind(pid).execute(&mut connection).await.ok()
    };
    if !matches!(tokio::time::timeout(LIMIT * 4, anew).await, Ok(Some(_))) {
        tracing::warn!("server process {pid} could not be stopped");
    }
}
