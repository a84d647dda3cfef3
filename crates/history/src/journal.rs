//! The journal: a SQLite database in WAL mode with `synchronous=FULL`, one writer, a few readers.

use crate::{Error, writer::Writer};
use futures::future::BoxFuture;
use sqlx::{
    ConnectOptions, SqliteConnection, SqlitePool,
    sqlite::{SqliteConnectOptions, SqliteJournalMode, SqlitePoolOptions, SqliteSynchronous},
};
use std::{path::Path, time::Duration};
use tokio::sync::watch;
use uuid::Uuid;

/// An open journal. Clones share it.
#[derive(Clone, Debug)]
pub struct Journal {
    pub(crate) readers: SqlitePool,
    writer: Writer,
    instance: Uuid,
}

/// The file in the state directory.
pub(crate) const FILE: &str = "journal.sqlite";

impl Journal {
    /// Opens the journal in a state directory whose [`StateLock`](crate::StateLock) the caller holds.
    ///
    /// # Errors
    /// Where it is damaged, of a newer version, held by another program or on a disk that takes no writes: each has its own.
    pub async fn open(directory: &Path) -> Result<Self, Error> {
        Self::open_as(directory, Uuid::now_v7()).await
    }

    /// The same; a new one is of this installation.
    ///
    /// # Errors
    /// Those of [`Self::open`].
    pub async fn open_as(directory: &Path, instance: Uuid) -> Result<Self, Error> {
        let path = directory.join(FILE);
        let failed = |error: sqlx::Error| Error::open(&path, error);
        let options = SqliteConnectOptions::new()
            .filename(&path)
            .create_if_missing(true)
            .journal_mode(SqliteJournalMode::Wal)
            .synchronous(SqliteSynchronous::Full)
            .busy_timeout(Duration::from_secs(10))
            .disable_statement_logging();
        let mut connection = options.connect().await.map_err(failed)?;
        let migrated = sqlx::migrate!("../../migrations/journal").run(&mut connection).await;
        migrated.map_err(|error| Error::open_migrated(&path, error))?;
        let instance = known_or(&mut connection, instance).await.map_err(failed)?;
        let readers =
            SqlitePoolOptions::new().max_connections(2).connect_with(options.read_only(true)).await.map_err(failed)?;
        // For commands beside a running daemon, which holds the journal: leases carry this name.
        let file = directory.join("instance");
        if std::fs::read_to_string(&file).ok().as_deref() != Some(&instance.to_string()) {
            std::fs::write(&file, instance.to_string()).map_err(|error| failed(sqlx::Error::Io(error)))?;
        }
        Ok(Self { readers, writer: Writer::start(connection), instance })
    }

    /// The identity of this installation.
    pub fn instance(&self) -> Uuid {
        self.instance
    }

    /// Changes after every commit.
    pub fn commits(&self) -> watch::Receiver<u64> {
        self.writer.commits()
    }

    /// Returns when the writer has ended, which it does not while this handle lives, but by a fault.
    pub async fn closed(&self) {
        self.writer.closed().await;
    }

    /// Runs `work` in a transaction and returns once it is durable.
    pub(crate) async fn write<T, F>(&self, work: F) -> Result<T, Error>
    where
        T: Send + 'static,
        F: for<'c> FnOnce(&'c mut SqliteConnection) -> BoxFuture<'c, Result<T, Error>> + Send + 'static,
    {
        self.writer.run(work).await
    }

    /// A value kept by name.
    ///
    /// # Errors
    /// [`Error::Journal`].
    pub async fn setting(&self, name: &str) -> Result<Option<String>, Error> {
        sqlx::query_scalar("select value from settings where name = ?")
            .bind(name)
            .fetch_optional(&self.readers)
            .await
            .map_err(Error::journal("read a setting"))
    }

    /// Keeps a value by name, or forgets it.
    ///
    /// # Errors
    /// [`Error::Journal`].
    pub async fn set_setting(&self, name: &str, value: Option<&str>) -> Result<(), Error> {
        let (name, value) = (name.to_owned(), value.map(str::to_owned));
        self.write(move |connection| {
            Box::pin(async move {
                let statement = match value {
                    Some(_) => "insert or replace into settings (name, value) values (?, ?)",
                    None => "delete from settings where name = ?",
                };
                let query = sqlx::query(statement).bind(name);
                let query = if let Some(value) = value { query.bind(value) } else { query };
                query.execute(connection).await.map(drop).map_err(Error::journal("write a setting"))
            })
        })
        .await
    }
}

/// The identity in the journal, or this one where it has none.
async fn known_or(connection: &mut SqliteConnection, new: Uuid) -> Result<Uuid, sqlx::Error> {
    sqlx::query("insert or ignore into settings (name, value) values ('instance', ?)")
        .bind(new.hyphenated())
        .execute(&mut *connection)
        .await?;
    let text: String =
        sqlx::query_scalar("select value from settings where name = 'instance'").fetch_one(connection).await?;
    text.parse().map_err(|error| sqlx::Error::Decode(Box::new(error)))
}
