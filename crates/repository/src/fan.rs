//! One pass over the data, several repositories: each object goes to all of them at once.
//!
//! Invariants: a repository that fails or stalls is dropped from the pass and the others go on; the pass itself fails
//! only when none is left. What a repository reports as stored is compared with what was sent (C16).

use crate::{Error, Repository, encode::Encoding, storage::ObjectWriter};
use bytes::Bytes;
use pgbosun_core::human;
use sha2::{Digest, Sha256};
use std::sync::{Arc, Mutex, PoisonError};
use tokio::{sync::mpsc, task::JoinHandle};
use tokio_util::task::TaskTracker;

/// An object as it was stored.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Stored {
    /// Bytes.
    pub size: u64,
    /// SHA-256, hex.
    pub sha256: String,
}

/// Chunks that may wait for a repository that is slower than the others.
const QUEUE: usize = 4;
/// Small pieces are gathered up to this size before they are sent.
const CHUNK: usize = 1 << 20;

/// One repository of a pass.
#[derive(Debug)]
pub(crate) struct Destination {
    pub repository: Repository,
    dropped: Mutex<Option<Error>>,
}

impl Destination {
    pub fn new(repository: Repository) -> Arc<Self> {
        Arc::new(Self { repository, dropped: Mutex::default() })
    }

    pub fn is_dropped(&self) -> bool {
        self.dropped.lock().unwrap_or_else(PoisonError::into_inner).is_some()
    }

    /// Leaves the pass; the first reason counts.
    pub fn leave(&self, error: Error) {
        let mut dropped = self.dropped.lock().unwrap_or_else(PoisonError::into_inner);
        if dropped.is_none() {
            let reason = human::chain(&error);
            tracing::warn!(repository = self.repository.name, "dropped from this pass: {reason}");
            *dropped = Some(error);
        }
    }

    /// Why it left the pass.
    pub fn reason(&self) -> Option<Error> {
        self.dropped.lock().unwrap_or_else(PoisonError::into_inner).take()
    }
}

/// Repositories that want the same encoding: it is done once for all of them.
#[derive(Clone, Debug)]
pub(crate) struct Group {
    /// Which it is of all.
    pub index: usize,
    pub encoding: Encoding,
    pub volume_size: u64,
    pub members: Vec<Arc<Destination>>,
}

/// Groups destinations by what they want.
pub(crate) fn groups(destinations: &[Arc<Destination>]) -> Vec<Group> {
    let mut groups: Vec<Group> = Vec::new();
    for destination in destinations {
        let options = &destination.repository.options;
        let (encoding, volume_size) = (Encoding::of(options), options.volume_size.as_u64());
        match groups.iter_mut().find(|group| group.encoding == encoding && group.volume_size == volume_size) {
            Some(group) => group.members.push(Arc::clone(destination)),
            None => {
                let (index, members) = (groups.len(), vec![Arc::clone(destination)]);
                groups.push(Group { index, encoding, volume_size, members });
            }
        }
    }
    groups
}

/// One object being written to the members of a group.
pub(crate) struct Fan {
    branches: Vec<Branch>,
    hash: Sha256,
    size: u64,
    waiting: Vec<u8>,
}

struct Branch {
    destination: Arc<Destination>,
    sender: mpsc::Sender<Bytes>,
    task: JoinHandle<Result<u64, Error>>,
}

impl Drop for Branch {
    fn drop(&mut self) {
        // Given up: what is unfinished never appears.
        self.task.abort();
    }
}

impl Fan {
    /// Begins the object in every member that is still in the pass.
    pub async fn create(members: &[Arc<Destination>], key: &str, tasks: &TaskTracker) -> Self {
        let mut branches = Vec::new();
        for destination in members.iter().filter(|destination| !destination.is_dropped()) {
            let limit = destination.repository.options.stall_timeout;
            let created = tokio::time::timeout(limit, destination.repository.storage.create(key)).await;
            match created.unwrap_or_else(|_| Err(Error::stalled(key, limit))) {
                Ok(writer) => {
                    let (sender, receiver) = mpsc::channel(QUEUE);
                    let task = tasks.spawn(write(writer, receiver));
                    branches.push(Branch { destination: Arc::clone(destination), sender, task });
                }
                Err(error) => destination.leave(error),
            }
        }
        Self { branches, hash: Sha256::new(), size: 0, waiting: Vec::new() }
    }

    /// Sends encoded bytes.
    pub async fn send(&mut self, data: Bytes, key: &str) {
        if data.len() >= CHUNK && self.waiting.is_empty() {
            return self.dispatch(data, key).await;
        }
        self.waiting.extend_from_slice(&data);
        if self.waiting.len() >= CHUNK {
            let data = std::mem::replace(&mut self.waiting, Vec::with_capacity(CHUNK + CHUNK / 4)).into();
            self.dispatch(data, key).await;
        }
    }

    async fn dispatch(&mut self, data: Bytes, key: &str) {
        if data.is_empty() {
            return;
        }
        self.hash.update(&data);
        self.size += data.len() as u64;
        let mut at = 0;
        while at < self.branches.len() {
            let branch = &mut self.branches[at];
            let limit = branch.destination.repository.options.stall_timeout;
            let sent = tokio::time::timeout(limit, branch.sender.send(data.clone())).await;
            let error = match sent {
                Ok(Ok(())) => {
                    at += 1;
                    continue;
                }
                Err(_) => Error::stalled(key, limit),
                // The task has ended, which it does only with an error.
                Ok(Err(_)) => match (&mut branch.task).await {
                    Ok(Err(error)) => error,
                    ended => Error::Writer { object: key.to_owned(), source: ended.err() },
                },
            };
            branch.destination.leave(error);
            self.branches.remove(at);
        }
    }

    /// Makes the object durable everywhere it still goes.
    pub async fn finish(mut self, key: &str) -> Stored {
        let rest = std::mem::take(&mut self.waiting).into();
        self.dispatch(rest, key).await;
        for mut branch in std::mem::take(&mut self.branches) {
            let (closed, _) = mpsc::channel(1);
            drop(std::mem::replace(&mut branch.sender, closed));
            let limit = branch.destination.repository.options.stall_timeout;
            let error = match tokio::time::timeout(limit, &mut branch.task).await {
                Ok(Ok(Ok(reported))) if reported == self.size => continue,
                Ok(Ok(Ok(reported))) => {
                    let reason = format!("{} bytes were written, but {reported} are stored", self.size);
                    Error::Damaged { object: key.to_owned(), reason }
                }
                Ok(Ok(Err(error))) => error,
                Ok(Err(error)) => Error::Writer { object: key.to_owned(), source: Some(error) },
                Err(_) => Error::stalled(key, limit),
            };
            branch.destination.leave(error);
        }
        Stored { size: self.size, sha256: hex::encode(std::mem::take(&mut self.hash).finalize()) }
    }
}

async fn write(mut writer: Box<dyn ObjectWriter>, mut receiver: mpsc::Receiver<Bytes>) -> Result<u64, Error> {
    while let Some(data) = receiver.recv().await {
        writer.write(data).await?;
    }
    writer.finish().await
}
