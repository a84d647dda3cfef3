//! Archiving: a file of `pg_wal` into every repository it belongs in.
//!
//! C1: success is said only when the file is durable everywhere it must be. C2, C5, C10: what does not belong is refused.

use super::{Spool, segment};
use crate::Error;
use futures::future::join_all;
use pgbosun_core::{human, wal::WalFile};
use pgbosun_repository::{
    EncodedWal, Encoding, Error as RepositoryError, Frame, Frames, Repository, WalArchive, WalEncoder,
};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use std::{
    collections::BTreeSet,
    fs::File,
    path::Path,
    sync::{Arc, Mutex, PoisonError, Weak},
};
use tokio::sync::mpsc;

/// Bytes that are read at once, and hashed while the processor still has them.
const CHUNK: usize = 1 << 18;

/// Archives files of one cluster.
#[derive(Clone, Debug)]
pub struct Pusher {
    /// Cluster as configured.
    pub cluster: String,
    /// System identifier.
    pub system_id: String,
    /// Where to, each with the spool it may use; a repository without one must take the file itself.
    pub repositories: Vec<(Repository, Option<Spool>)>,
    /// Repositories that were asked whether they hold this server's files, by name.
    admitted: Arc<Mutex<BTreeSet<String>>>,
    /// Memory that pushes share, as long as one of them is under way.
    frames: Arc<Mutex<Weak<Frames>>>,
}

/// What became of a file.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct Pushed {
    /// Bytes of the file.
    pub bytes: u64,
    /// Repositories that had it already.
    pub present: Vec<String>,
    /// Repositories for which it waits in the spool.
    pub spooled: Vec<String>,
    /// Repositories that will not have it: neither they nor their spool took it.
    pub left_out: Vec<String>,
}

enum Outcome {
    Stored,
    Present,
    Spooled,
    /// With the reasons.
    LeftOut(String),
}

impl Pusher {
    /// A pusher for the server with this system identifier.
    pub fn new(cluster: &str, system_id: String, repositories: Vec<(Repository, Option<Spool>)>) -> Self {
        Self { cluster: cluster.to_owned(), system_id, repositories, admitted: Arc::default(), frames: Arc::default() }
    }

    /// Refuses to begin where a repository that must take files holds another server under this cluster's name (C10).
    ///
    /// # Errors
    /// [`RepositoryError::OtherSystem`], or where a repository that must take files cannot be asked.
    pub async fn check_identity(&self) -> Result<(), Error> {
        for (repository, spool) in &self.repositories {
            match self.admit(repository).await {
                Ok(()) => {}
                Err(error) if spool.is_none() => return Err(error.into()),
                // It is away, or holds another server until somebody accepts this one: what is for it waits in the spool (C35).
                Err(_) => {}
            }
        }
        Ok(())
    }

    /// Asks a repository once whether it holds this server's files; one that was away is asked again.
    async fn admit(&self, repository: &Repository) -> Result<(), RepositoryError> {
        let admitted = || self.admitted.lock().unwrap_or_else(PoisonError::into_inner);
        if !admitted().contains(&repository.name) {
            // C42: success is not said of what nobody will believe.
            repository.check_signing()?;
            repository.admit(&self.cluster, &self.system_id).await?;
            admitted().insert(repository.name.clone());
        }
        Ok(())
    }

    /// Archives one file.
    ///
    /// # Errors
    /// [`Error::Refused`] for a file that is not what its name says; what a repository that must take it answered.
    pub async fn push(&self, path: &Path) -> Result<Pushed, Error> {
        let name = path.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
        let refused = |reason: String| Error::Refused(format!("{} is not archived: {reason}", path.display()));
        let file = WalFile::parse(&name).ok_or_else(|| refused("its name is not that of a WAL file".into()))?;
        let (bytes, encoded) = self.encode(path, &file).await?;
        let stores = self.repositories.iter().map(|(repository, spool)| {
            let encoding = Encoding::of(&repository.options);
            let wal = encoded.iter().find(|(known, _)| *known == encoding).map(|(_, wal)| wal);
            self.store(repository, spool.as_ref(), &file, wal)
        });
        let mut pushed = Pushed { bytes, ..Pushed::default() };
        let (mut durable, mut reasons) = (0, Vec::new());
        for ((repository, _), outcome) in self.repositories.iter().zip(join_all(stores).await) {
            let name = repository.name.clone();
            match outcome? {
                Outcome::Stored => {}
                Outcome::Present => pushed.present.push(name),
                Outcome::Spooled => pushed.spooled.push(name),
                Outcome::LeftOut(reason) => {
                    reasons.push(format!("{name}: {reason}"));
                    pushed.left_out.push(name);
                    continue;
                }
            }
            durable += 1;
        }
        if durable == 0 {
            let reasons = reasons.join("; ");
            return Err(refused(format!("no repository accepted it; PostgreSQL keeps it and tries again ({reasons})")));
        }
        Ok(pushed)
    }

    fn frames(&self) -> Arc<Frames> {
        let mut shared = self.frames.lock().unwrap_or_else(PoisonError::into_inner);
        shared.upgrade().unwrap_or_else(|| {
            let frames = Arc::default();
            *shared = Arc::downgrade(&frames);
            frames
        })
    }

    /// Reads the file once, and checks, hashes and encodes it on the way; returns its size.
    async fn encode(&self, path: &Path, file: &WalFile) -> Result<(u64, Vec<(Encoding, EncodedWal)>), Error> {
        let frames = self.frames();
        // Beside other pushes, more threads would only get into each other's way.
        let alone = Arc::strong_count(&frames) == 1;
        let encodings = self.repositories.iter().map(|(repository, _)| Encoding::of(&repository.options));
        let encodings = encodings.map(|encoding| if alone { encoding } else { encoding.single_threaded() });
        let mut encoder = WalEncoder::new(encodings.collect(), &frames).await?;
        let (whole, mut coming) = mpsc::channel(1);
        let (path, name, system_id) = (path.to_owned(), file.clone(), self.system_id.clone());
        let reading = tokio::task::spawn_blocking(move || read(&path, &name, &system_id, &frames, &whole));
        while let Some(frame) = coming.recv().await {
            encoder.push(frame).await?;
        }
        let read = reading.await.map_err(Error::broke_off("reading WAL"))?;
        let (size, sha256) = read?;
        Ok((size, encoder.finish(file, &sha256).await?))
    }

    async fn store(
        &self,
        repository: &Repository,
        spool: Option<&Spool>,
        file: &WalFile,
        encoded: Option<&EncodedWal>,
    ) -> Result<Outcome, Error> {
        let Some(encoded) = encoded else { return Ok(Outcome::LeftOut("it was not encoded".into())) };
        let archive = WalArchive::new(repository, &self.cluster, &self.system_id);
        let limit = repository.options.stall_timeout;
        let put = async {
            self.admit(repository).await?;
            archive.put(file, encoded).await
        };
        let stored = tokio::time::timeout(limit, put).await;
        let stored = stored.unwrap_or_else(|_| Err(RepositoryError::Stalled { object: file.to_string(), limit }));
        match (stored, spool) {
            (Ok(true), _) => Ok(Outcome::Stored),
            (Ok(false), _) => Ok(Outcome::Present),
            // C2: a conflict is never put off.
            (Err(error @ RepositoryError::Conflict { .. }), _) | (Err(error), None) => Err(error.into()),
            (Err(error), Some(spool)) => {
                let reason = human::chain(&error);
                tracing::warn!(repository = repository.name, file = %file, "kept in the spool: {reason}");
                let left_out = spool.keep(&self.cluster, &self.system_id, file, encoded).await?;
                Ok(left_out.map_or(Outcome::Spooled, |why| Outcome::LeftOut(format!("{reason}, and {why}"))))
            }
        }
    }

    /// Brings what waits in the spools on its way, a few files a repository; returns how many were brought.
    pub async fn drain(&self, most: usize) -> usize {
        let mut brought = 0;
        for (repository, spool) in self.repositories.iter().filter_map(|(r, spool)| Some((r, spool.as_ref()?))) {
            match spool.drain(most).await {
                Ok(count) => brought += count,
                Err(error) => {
                    tracing::debug!(repository = repository.name, "still unavailable: {}", human::chain(&error))
                }
            }
        }
        brought
    }
}

/// Hands on a file's contents, after its beginning was checked (C5); returns its size and SHA-256.
fn read(
    path: &Path,
    name: &WalFile,
    system_id: &str,
    frames: &Arc<Frames>,
    whole: &mpsc::Sender<Frame>,
) -> Result<(u64, String), Error> {
    let failed = || Error::file("read", path);
    let mut file = File::open(path).map_err(failed())?;
    let size = file.metadata().map_err(failed())?.len();
    let (mut hash, mut position) = (Sha256::new(), 0);
    while position < size || position == 0 {
        let mut frame = Frame::new(frames);
        while position < size && !frame.is_full() {
            let read = frame.read(&mut file, CHUNK).map_err(failed())?;
            if read.is_empty() {
                return Err(Error::Refused(format!("{} shrank while it was being read", path.display())));
            }
            position += read.len() as u64;
            hash.update(read);
        }
        if position == frame.len() as u64 {
            let refused = |reason| Error::Refused(format!("{} is not archived: {reason}", path.display()));
            segment::check(name, &frame, size, system_id).map_err(refused)?;
        }
        if whole.blocking_send(frame).is_err() {
            return Err(Error::Cancelled);
        }
    }
    Ok((size, hex::encode(hash.finalize())))
}

#[cfg(test)]
mod tests {
    use super::*;
    use pgbosun_repository::{
        local_repository,
        storage::{Directories, Local},
    };

    /// A repository at a path that need not take it, with a spool of so many bytes.
    fn optional(directory: &Path, path: &Path, limit: u64) -> (Repository, Option<Spool>) {
        let options = local_repository(path).unwrap().common;
        let repository = Repository::on("share", &options, Arc::new(Local::new(path, Directories::Synced)));
        let spool = Spool::new(&directory.join("spool"), limit, &repository);
        (repository, Some(spool))
    }

    #[tokio::test]
    async fn c2_c35_why_nothing_took_a_file_is_said_and_a_conflict_is_never_put_off() {
        let directory = tempfile::tempdir().unwrap();
        let (file, no_directory) = (directory.path().join("00000002.history"), directory.path().join("file"));
        std::fs::write(&no_directory, "").unwrap();
        let push = async |limit: u64, contents: &str| {
            std::fs::write(&file, contents).unwrap();
            let repositories = vec![optional(directory.path(), &no_directory.join("share"), limit)];
            Pusher::new("main", "7".into(), repositories).push(&file).await
        };
        let full = push(0, "1\t0/3000000\tone\n").await.unwrap_err().to_string();
        let words = ["no repository accepted it", "share: ", "directory", "the spool is full (spool-limit)"];
        assert!(words.iter().all(|word| full.contains(word)), "{full}");

        let kept = push(1 << 20, "1\t0/3000000\tone\n").await.unwrap();
        assert_eq!((kept.spooled.len(), kept.left_out.len()), (1, 0));
        assert_eq!(push(1 << 20, "1\t0/3000000\tone\n").await.unwrap().spooled, ["share"], "the same again");
        let other = push(1 << 20, "1\t0/4000000\ttwo\n").await.unwrap_err();
        assert!(matches!(other, Error::Repository(RepositoryError::Conflict { .. })), "{other}");
    }
}
