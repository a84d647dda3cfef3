//! Delivery: the change log of the journal, in order, into the schema `dba_ops`.
//!
//! Invariants: the sequence delivered so far lies in `dba_ops` itself and moves in the transaction of the rows, so a
//! crash at any moment repeats nothing visible and loses nothing, and a lost or restored database is filled again. The
//! journal notes first how far it is about to deliver: where `dba_ops` is beyond that, the sequence it counts by is
//! another journal's (this one was made anew, or put back from a copy), and everything is delivered again.

use crate::{
    Error, Journal,
    schema::{self, SchemaState},
};
use pgbosun_postgres::Server;
use sqlx::{Connection, PgConnection};
use std::time::Duration;
use uuid::Uuid;

/// The setting of the journal that says how far it delivers, noted before `dba_ops` has it.
const REACHES: &str = "delivered";
/// Changes per transaction.
const BATCH: i64 = 500;
/// The longest one statement may take.
const LIMIT: Duration = Duration::from_secs(30);

/// A table of `dba_ops`.
struct SyncedTable {
    /// The rows of the journal that changed between two sequences, each as JSON.
    changed: &'static str,
    /// Takes an array of them.
    deliver: &'static str,
}

macro_rules! tables {
    ($($name:literal)+) => {
        [$(SyncedTable {
            changed: include_str!(concat!("deliver/", $name, ".journal.sql")),
            deliver: include_str!(concat!("deliver/", $name, ".sql")),
        }),+]
    };
}

/// The tables in the order in which they are filled.
static TABLES: [SyncedTable; 13] = tables! {
    "jobs" "job_runs" "findings" "alerts" "silences" "notifications" "backups" "restore_tests" "maintenance" "recommendations" "samples" "queries" "audit_log"
};

const REGISTER: &str = "insert into dba_ops.instances (instance_id, name) values ($1, $2)
     on conflict (instance_id) do update set name = excluded.name returning delivered_seq";
const NOTE: &str = "update dba_ops.instances set delivered_seq = $1, delivered_at = now() where instance_id = $2";

/// Every statement of delivery: with the schema as it should be the server takes each of them.
pub(crate) fn statements() -> impl Iterator<Item = &'static str> {
    TABLES.iter().map(|table| table.deliver).chain([REGISTER, NOTE])
}

/// What one step of delivery did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Delivered {
    /// Rows written.
    pub rows: usize,
    /// Whether more wait.
    pub more: bool,
}

/// One connection to the history database, made when needed and again after an error.
#[derive(Debug)]
pub struct Delivery {
    server: Server,
    instance: Uuid,
    name: String,
    connection: Option<PgConnection>,
    /// How far this connection knows that delivery came.
    delivered: Option<i64>,
}

impl Delivery {
    /// Delivers the journal of this instance to a server.
    pub fn new(server: Server, instance: Uuid, name: &str) -> Self {
        Self { server, instance, name: name.to_owned(), connection: None, delivered: None }
    }

    /// What state the schema is in; changes nothing.
    ///
    /// # Errors
    /// Where the server does not answer, takes no writes, or has a schema that is not what it should be.
    pub async fn schema_state(&self) -> Result<SchemaState, Error> {
        schema::state(&self.server).await
    }

    pub(crate) fn instance(&self) -> Uuid {
        self.instance
    }

    /// The connection, with the schema up to date.
    pub(crate) async fn connection(&mut self) -> Result<&mut PgConnection, Error> {
        let connection = match self.connection.take() {
            Some(connection) => connection,
            None => {
                schema::migrate(&self.server).await?;
                self.delivered = None;
                schema::connect(&self.server).await?
            }
        };
        Ok(self.connection.insert(connection))
    }

    /// Forgets the connection; the next use makes a new one.
    pub fn disconnect(&mut self) {
        self.connection = None;
    }

    /// Delivers one batch of changes.
    ///
    /// # Errors
    /// Where `dba_ops` is out of reach or refuses: nothing of the batch is there, and the next step repeats it.
    pub async fn step(&mut self, journal: &Journal) -> Result<Delivered, Error> {
        let done = tokio::time::timeout(LIMIT * 2, self.try_step(journal)).await;
        let done = done.unwrap_or(Err(Error::Timeout(LIMIT * 2)));
        if done.is_err() {
            self.disconnect();
        }
        done
    }

    /// Makes this instance known, and asks how far delivery came.
    async fn delivered(&mut self) -> Result<i64, Error> {
        let (instance, name) = (self.instance, self.name.clone());
        let connection = self.connection().await?;
        sqlx::query_scalar(REGISTER)
            .bind(instance)
            .bind(name)
            .fetch_one(connection)
            .await
            .map_err(Error::dba_ops("register this installation"))
    }

    async fn try_step(&mut self, journal: &Journal) -> Result<Delivered, Error> {
        self.connection().await?;
        let from = match self.delivered {
            Some(delivered) => delivered,
            None => {
                let reaches: Option<i64> = journal.setting(REACHES).await?.and_then(|text| text.parse().ok());
                match self.delivered().await? {
                    delivered if reaches.is_some_and(|reaches| delivered <= reaches) => delivered,
                    0 => 0,
                    _ => {
                        // Before this journal notes how far it reaches: that may be beyond the other one's.
                        let instance = self.instance;
                        note(self.connection().await?, 0, instance).await?;
                        0
                    }
                }
            }
        };
        self.delivered = Some(from);
        let newest: i64 = sqlx::query_scalar("select coalesce(max(seq), 0) from changes")
            .fetch_one(&journal.readers)
            .await
            .map_err(Error::journal("read the change log"))?;
        let (until, batches) = changes(journal, from).await?;
        if batches.is_empty() {
            return Ok(Delivered { rows: 0, more: false });
        }
        let (instance, more) = (self.instance, until < newest);
        // A full disk does not hold delivery up: without the note the next connection delivers everything again.
        let _ = journal.set_setting(REACHES, Some(&until.to_string())).await;
        let connection = self.connection().await?;
        let mut transaction = connection.begin().await.map_err(Error::dba_ops("begin"))?;
        let mut rows = 0;
        for (statement, batch) in batches {
            rows += batch.len();
            sqlx::query(statement)
                .bind(format!("[{}]", batch.join(",")))
                .bind(instance)
                .execute(&mut *transaction)
                .await
                .map_err(Error::dba_ops("deliver history"))?;
        }
        note(&mut transaction, until, instance).await?;
        transaction.commit().await.map_err(Error::dba_ops("commit"))?;
        self.delivered = Some(until);
        Ok(Delivered { rows, more })
    }
}

/// Notes in `dba_ops` how far delivery came.
async fn note(connection: &mut PgConnection, until: i64, instance: Uuid) -> Result<(), Error> {
    let noted = sqlx::query(NOTE).bind(until).bind(instance).execute(connection).await;
    match noted.map_err(Error::dba_ops("record how far delivery got"))?.rows_affected() {
        // The schema was made anew under this connection; the next one is asked how far it came.
        0 => Err(Error::Forgotten),
        _ => Ok(()),
    }
}

type Batches = Vec<(&'static str, Vec<String>)>;

/// The next changes after `from`, by table, and the sequence they reach to.
async fn changes(journal: &Journal, from: i64) -> Result<(i64, Batches), Error> {
    let failed = Error::journal("read the change log");
    let mut snapshot = journal.readers.begin().await.map_err(&failed)?;
    let until: Option<i64> =
        sqlx::query_scalar("select max(seq) from (select seq from changes where seq > ? order by seq limit ?)")
            .bind(from)
            .bind(BATCH)
            .fetch_one(&mut *snapshot)
            .await
            .map_err(&failed)?;
    let Some(until) = until else { return Ok((from, Vec::new())) };
    let mut batches = Batches::new();
    for SyncedTable { changed, deliver } in &TABLES {
        let rows: Vec<String> =
            sqlx::query_scalar(*changed).bind(from).bind(until).fetch_all(&mut *snapshot).await.map_err(&failed)?;
        if !rows.is_empty() {
            batches.push((*deliver, rows));
        }
    }
    Ok((until, batches))
}
