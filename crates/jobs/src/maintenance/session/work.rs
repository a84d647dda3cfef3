//! The connection that works, and how it is prepared.

use super::failed;
use pgbosun_postgres::{Error, Server};
use sqlx::{AssertSqlSafe, PgConnection};
use std::time::Duration;

/// The connection that works.
pub(super) struct Work {
    pub connection: PgConnection,
    /// The process that serves it.
    pub pid: i32,
}

impl Work {
    /// The one there is, or a new one.
    pub async fn of<'a>(
        work: &'a mut Option<Self>,
        server: &Server,
        lock_timeout: Duration,
    ) -> Result<&'a mut Self, Error> {
        let open = match work.take() {
            Some(open) => open,
            None => Self::open(server, lock_timeout).await?,
        };
        Ok(work.insert(open))
    }

    async fn open(server: &Server, lock_timeout: Duration) -> Result<Self, Error> {
        let mut connection = Server { lock_timeout, ..server.clone() }.connect().await?;
        let pid = sqlx::query_scalar("select pg_catalog.pg_backend_pid()")
            .fetch_one(&mut connection)
            .await
            .map_err(failed("start the session"))?;
        // Not every platform can; then a broken connection is noticed when the statement ends.
        let _ = sqlx::raw_sql("set client_connection_check_interval = '10s'").execute(&mut connection).await;
        compress_wal(&mut connection).await;
        let mut work = Self { connection, pid };
        // What can pause does: ANALYZE, and VACUUM, which has options for it.
        work.set("vacuum_cost_delay = 2").await?;
        Ok(work)
    }

    /// Makes a setting.
    pub async fn set(&mut self, setting: &str) -> Result<(), Error> {
        let set = sqlx::raw_sql(AssertSqlSafe(format!("set {setting}"))).execute(&mut self.connection).await;
        set.map(drop).map_err(failed("prepare the session"))
    }
}

/// Has the server compress the pages that this connection writes into WAL, where the role may ask for that: an index that is
/// built is nothing but pages, and everybody else's commits wait behind them.
async fn compress_wal(connection: &mut PgConnection) {
    for set in ["set wal_compression = zstd", "set wal_compression = lz4", "set wal_compression = on"] {
        if sqlx::raw_sql(set).execute(&mut *connection).await.is_ok() {
            return;
        }
    }
}
