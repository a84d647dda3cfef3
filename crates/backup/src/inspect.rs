//! What a backup needs to know of the server before the first byte.

use crate::Error;
use pgbosun_postgres::{DATABASE_SIZES, DatabaseBytes, Server};
use sqlx::{Connection, Row};
use std::collections::BTreeMap;

/// The server's own account of itself.
#[derive(Clone, Debug)]
pub(crate) struct Inspection {
    pub version: String,
    pub version_number: i32,
    pub wal_segment_size: u64,
    pub superuser: String,
    pub standby: bool,
    pub databases: BTreeMap<String, u64>,
    /// Settings that a restored server must not undercut (C21), and `shared_preload_libraries`.
    pub settings: BTreeMap<String, String>,
}

const SETTINGS: [&str; 10] = [
    "max_connections",
    "max_worker_processes",
    "max_wal_senders",
    "max_prepared_transactions",
    "max_locks_per_transaction",
    "shared_preload_libraries",
    "data_checksums",
    "summarize_wal",
    "archive_mode",
    "port",
];

pub(crate) async fn inspect(server: &Server) -> Result<Inspection, Error> {
    let mut connection = server.connect().await?;
    let row = sqlx::query(include_str!("inspect/server.sql"))
        .fetch_one(&mut connection)
        .await
        .map_err(Error::query("read the server's version"))?;
    let failed = Error::query("read the server's version");
    let (version, version_number, segment, superuser, standby): (String, i32, i64, String, bool) =
        (|| Ok((row.try_get(0)?, row.try_get(1)?, row.try_get(2)?, row.try_get(3)?, row.try_get(4)?)))()
            .map_err(failed)?;
    let databases: Vec<DatabaseBytes> = sqlx::query_as(DATABASE_SIZES)
        .fetch_all(&mut connection)
        .await
        .map_err(Error::query("read the databases' sizes"))?;
    let settings: Vec<(String, String)> = sqlx::query_as(include_str!("inspect/settings.sql"))
        .bind(SETTINGS.as_slice())
        .fetch_all(&mut connection)
        .await
        .map_err(Error::query("read the server's settings"))?;
    let _ = connection.close().await;
    Ok(Inspection {
        version,
        version_number,
        wal_segment_size: segment.unsigned_abs(),
        superuser,
        standby,
        databases: databases.into_iter().map(|found| (found.name, found.bytes.unsigned_abs())).collect(),
        settings: settings.into_iter().collect(),
    })
}
