//! Group commit: many writers, one SQLite transaction and one fsync for whatever waits at the same moment.
//!
//! Each piece of work runs in a savepoint of its own, so that one that fails takes nothing else with it; nobody
//! hears of success before the commit.

use crate::Error;
use futures::future::BoxFuture;
use sqlx::SqliteConnection;
use tokio::sync::{mpsc, oneshot, watch};

type Reply = Box<dyn FnOnce(Result<(), Error>) + Send>;
type Work = Box<dyn for<'c> FnOnce(&'c mut SqliteConnection) -> BoxFuture<'c, (Reply, Result<(), Error>)> + Send>;

/// How many pieces of work share a commit at most.
const GROUP: usize = 512;

/// A handle to the one writer of a journal.
#[derive(Clone, Debug)]
pub(crate) struct Writer {
    queue: mpsc::Sender<Work>,
    committed: watch::Receiver<u64>,
}

impl Writer {
    /// Starts the writer on its connection. It ends when the last handle is gone.
    pub fn start(connection: SqliteConnection) -> Self {
        let (queue, waiting) = mpsc::channel(GROUP);
        let (commits, committed) = watch::channel(0);
        tokio::spawn(write(connection, waiting, commits));
        Self { queue, committed }
    }

    /// Changes after every commit.
    pub fn commits(&self) -> watch::Receiver<u64> {
        self.committed.clone()
    }

    /// Returns when the writer has ended.
    pub async fn closed(&self) {
        self.queue.closed().await;
    }

    /// Runs `work` in the next transaction and returns once that is durable.
    pub async fn run<T, F>(&self, work: F) -> Result<T, Error>
    where
        T: Send + 'static,
        F: for<'c> FnOnce(&'c mut SqliteConnection) -> BoxFuture<'c, Result<T, Error>> + Send + 'static,
    {
        let (sender, receiver) = oneshot::channel();
        let work: Work = Box::new(move |connection| {
            Box::pin(async move {
                let (value, result) = match work(connection).await {
                    Ok(value) => (Some(value), Ok(())),
                    Err(error) => (None, Err(error)),
                };
                let reply: Reply = Box::new(move |committed| {
                    // Nobody may be waiting any more; the work is done all the same.
                    let _ = sender.send(committed.and_then(|()| value.ok_or(Error::Closed)));
                });
                (reply, result)
            })
        });
        self.queue.send(work).await.map_err(|_| Error::Closed)?;
        receiver.await.map_err(|_| Error::Closed)?
    }
}

async fn write(mut connection: SqliteConnection, mut waiting: mpsc::Receiver<Work>, commits: watch::Sender<u64>) {
    let mut group = Vec::new();
    while waiting.recv_many(&mut group, GROUP).await > 0 {
        let mut replies = Vec::new();
        let done = transaction(&mut connection, &mut group, &mut replies).await;
        // What could not be tried is dropped, and its writers hear that the journal is closed to them.
        group.clear();
        match done {
            Ok(()) => {
                commits.send_modify(|count| *count += 1);
                replies.into_iter().for_each(|reply| reply(Ok(())));
            }
            Err(error) => {
                // It fails where SQLite has rolled back by itself already.
                let _ = execute(&mut connection, "rollback").await;
                tracing::error!("journal not written: {}", pgbosun_core::human::chain(&error));
                let mut reason = Some(error);
                replies.into_iter().for_each(|reply| reply(Err(reason.take().unwrap_or(Error::Closed))));
            }
        }
    }
}

/// One transaction for the whole group. Work that fails takes nothing else with it; where the transaction itself is gone
/// (full disk, I/O error), all of the group has failed.
async fn transaction(
    connection: &mut SqliteConnection,
    group: &mut Vec<Work>,
    replies: &mut Vec<Reply>,
) -> Result<(), Error> {
    execute(connection, "begin immediate").await?;
    for work in group.drain(..) {
        execute(connection, "savepoint work").await?;
        let (reply, result) = work(connection).await;
        match result {
            Ok(()) => {
                replies.push(reply);
                execute(connection, "release work").await?;
            }
            Err(error) => {
                reply(Err(error));
                execute(connection, "rollback to work").await?;
                execute(connection, "release work").await?;
            }
        }
    }
    execute(connection, "commit").await
}

async fn execute(connection: &mut SqliteConnection, statement: &'static str) -> Result<(), Error> {
    sqlx::query(statement).execute(connection).await.map(drop).map_err(Error::journal("commit"))
}
