//! A new journal in place of one that cannot be used: what is left is set aside, and `dba_ops` gives back what it has of this
//! installation.
//!
//! Invariants: nothing is removed; the installation keeps its identity, so that its leases and its rows in `dba_ops` stay its own; the
//! schedule goes on after the last time that had a run.

use crate::{Error, Journal, journal::FILE, schema};
use futures::TryStreamExt;
use pgbosun_postgres::Server;
use sqlx::{AssertSqlSafe, Connection, PgConnection, SqliteConnection};
use std::{
    fs, io,
    path::{Path, PathBuf},
};
use uuid::Uuid;

/// What the journal has and `dba_ops` too, under its name there. Messages are not given back: those that waited are told anew.
const TABLES: [(&str, &str); 12] = [
    ("jobs", "jobs"),
    ("job_runs", "runs"),
    ("findings", "findings"),
    ("alerts", "alerts"),
    ("silences", "silences"),
    ("backups", "backups"),
    ("restore_tests", "restore_tests"),
    ("maintenance", "maintenance"),
    ("recommendations", "recommendations"),
    ("samples", "samples"),
    ("queries", "queries"),
    ("audit_log", "audit_log"),
];
/// Rows of one statement.
const BATCH: usize = 500;

/// Sets the journal of a state directory aside, whose [`StateLock`](crate::StateLock) the caller holds; where it is now. `None` where
/// there was none.
///
/// # Errors
/// [`Error::State`].
pub fn set_aside(directory: &Path) -> Result<Option<PathBuf>, Error> {
    let failed = |path: &Path| {
        let path = path.to_owned();
        move |source| Error::State { path, source }
    };
    let now = pgbosun_core::clock::now().format("%Y%m%d-%H%M%S");
    let mut aside = None;
    // What SQLite keeps beside it belongs to it: left behind it would be taken for a part of the new one.
    for suffix in ["-wal", "-shm", ""] {
        let old = directory.join(format!("{FILE}{suffix}"));
        let new = directory.join(format!("{FILE}.{now}{suffix}"));
        match fs::rename(&old, &new) {
            Ok(()) => aside = Some(new),
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(failed(&old)(error)),
        }
    }
    fs::File::open(directory).and_then(|directory| directory.sync_all()).map_err(failed(directory))?;
    Ok(aside)
}

/// The identity that an installation had, as its state directory says beside the journal.
pub fn known_instance(directory: &Path) -> Option<Uuid> {
    fs::read_to_string(directory.join("instance")).ok()?.trim().parse().ok()
}

/// Fills a new journal with what `dba_ops` has of this installation; how many rows.
///
/// # Errors
/// Where `dba_ops` is out of reach or refuses; what came until then stays.
pub async fn refill(journal: &Journal, server: &Server) -> Result<u64, Error> {
    let mut connection = schema::connect(server).await?;
    let mut rows = 0;
    for (theirs, ours) in TABLES {
        rows += table(journal, &mut connection, theirs, ours).await?;
    }
    journal.write(|connection| Box::pin(go_on(connection))).await?;
    let _ = connection.close().await;
    Ok(rows)
}

async fn table(journal: &Journal, from: &mut PgConnection, theirs: &str, ours: &'static str) -> Result<u64, Error> {
    let failed = Error::dba_ops("read history back");
    let query =
        format!("select (pg_catalog.to_jsonb(t) - 'instance_id')::text from dba_ops.{theirs} t where instance_id = $1");
    let query = sqlx::query_scalar::<_, String>(AssertSqlSafe(query)).bind(journal.instance());
    let (mut batch, mut rows) = (Vec::new(), 0);
    let mut found = query.fetch(from);
    loop {
        let row = found.try_next().await.map_err(&failed)?;
        let last = row.is_none();
        batch.extend(row);
        if batch.len() == BATCH || (last && !batch.is_empty()) {
            rows += batch.len() as u64;
            let rows = format!("[{}]", std::mem::take(&mut batch).join(","));
            journal.write(move |connection| Box::pin(insert(connection, ours, rows))).await?;
        }
        if last {
            return Ok(rows);
        }
    }
}

/// The columns that both have, whatever version wrote them.
async fn insert(connection: &mut SqliteConnection, table: &'static str, rows: String) -> Result<(), Error> {
    let failed = Error::journal("write history back");
    let columns: Vec<String> = sqlx::query_scalar(
        "select name from pragma_table_info(?1)
         where name in (select key from json_each(json_extract(?2, '$[0]')) union select 'looked_until' where ?1 = 'jobs')",
    )
    .bind(table)
    .bind(&rows)
    .fetch_all(&mut *connection)
    .await
    .map_err(&failed)?;
    let value = |column: &String| match (table, column.as_str()) {
        ("jobs", "looked_until") => "strftime('%Y-%m-%dT%H:%M:%SZ')".to_owned(),
        _ => format!("value ->> '$.{column}'"),
    };
    let (names, values) = (quoted(&columns), columns.iter().map(value).collect::<Vec<_>>().join(", "));
    let statement = format!("insert or ignore into {table} ({names}) select {values} from json_each(?)");
    sqlx::query(AssertSqlSafe(statement)).bind(rows).execute(connection).await.map(drop).map_err(failed)
}

fn quoted(columns: &[String]) -> String {
    columns.iter().map(|column| format!("\"{column}\"")).collect::<Vec<_>>().join(", ")
}

/// The times after the last one that had a run are looked at: catch-up decides about them.
async fn go_on(connection: &mut SqliteConnection) -> Result<(), Error> {
    let statement = "update jobs set looked_until = (select max(scheduled_for) from runs where job = name
             and trigger in ('schedule', 'catch-up'))
         where exists (select 1 from runs where job = name and trigger in ('schedule', 'catch-up'))";
    sqlx::query(statement).execute(connection).await.map(drop).map_err(Error::journal("write history back"))
}
