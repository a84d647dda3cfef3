//! Fetching: a file of the archive for PostgreSQL's recovery, validated, with read-ahead.
//!
//! C4: "absent" is said only when every repository said so; anything else is an error that recovery must not take for
//! the end of WAL.

use super::segment;
use crate::Error;
use bytes::Bytes;
use pgbosun_core::{faults, human, wal::WalFile};
use pgbosun_repository::{Repository, WalArchive};
use std::{
    fs::{self, File},
    io,
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

/// Fetches files of one cluster.
#[derive(Clone, Debug)]
pub struct Fetch {
    /// Cluster as configured.
    pub cluster: String,
    /// System identifier of the server that recovers.
    pub system_id: String,
    /// Where from, the nearest first.
    pub repositories: Vec<Repository>,
    /// Spools on this machine: what waits in them was acknowledged.
    pub spools: Vec<Repository>,
    /// Where a receiver on this machine keeps what it has of the segment it is writing.
    pub partial_directory: Option<PathBuf>,
}

/// Where the contents of a file go.
#[derive(Clone, Copy)]
enum Sink<'a> {
    /// Into memory.
    Memory,
    /// Into this file, whole or not at all.
    File(&'a Path),
}

impl Fetch {
    /// The contents of a file, from the first repository that has it whole; none where every one said it has it not.
    ///
    /// # Errors
    /// Where one could not be asked, or has only a damaged copy, and no other has the file: then nobody knows.
    pub async fn find(&self, file: &WalFile) -> Result<Option<Bytes>, Error> {
        self.search(file, Sink::Memory).await
    }

    /// The same into a file of this machine; false where no repository has it.
    ///
    /// # Errors
    /// Those of [`Self::find`]; [`Error::File`].
    pub async fn fetch(&self, file: &WalFile, to: &Path) -> Result<bool, Error> {
        Ok(self.search(file, Sink::File(to)).await?.is_some())
    }

    /// As [`Self::fetch`], repeated for a while when it fails.
    ///
    /// # Errors
    /// The last failure.
    pub async fn fetch_patiently(&self, file: &WalFile, to: &Path, patience: Duration) -> Result<bool, Error> {
        let begun = Instant::now();
        let mut pause = Duration::from_millis(500);
        loop {
            match self.fetch(file, to).await {
                Err(error) if error.is_transient() && begun.elapsed() + pause < patience => {
                    tokio::time::sleep(pause).await;
                    pause = (pause * 2).min(Duration::from_secs(5));
                }
                done => return done,
            }
        }
    }

    async fn search(&self, file: &WalFile, sink: Sink<'_>) -> Result<Option<Bytes>, Error> {
        let mut trouble: Option<Error> = None;
        for repository in &self.repositories {
            match self.from(repository, file, sink).await {
                Ok(Some(bytes)) => return Ok(Some(bytes)),
                Ok(None) => match repository.identity().await {
                    Ok(Some(_)) => {}
                    // The mount point of a share that is away looks like an empty repository.
                    Ok(None) => {
                        trouble = Some(Error::Interrupted(format!(
                            "repository {} is not there: no pgbosun.json, is it mounted?",
                            repository.name
                        )))
                    }
                    Err(error) => trouble = Some(error.into()),
                },
                Err(error) => {
                    tracing::warn!(repository = repository.name, file = %file, "{}", human::chain(&error));
                    trouble = Some(error);
                }
            }
        }
        for spool in &self.spools {
            if let Some(bytes) = self.from(spool, file, sink).await? {
                return Ok(Some(bytes));
            }
        }
        if let Some(error) = trouble {
            return Err(error);
        }
        match (self.partial(file), sink) {
            (Some(bytes), Sink::File(to)) => deliver(&bytes, to).map(|()| Some(Bytes::new())),
            (found, _) => Ok(found),
        }
    }

    async fn from(&self, repository: &Repository, file: &WalFile, sink: Sink<'_>) -> Result<Option<Bytes>, Error> {
        let archive = WalArchive::new(repository, &self.cluster, &self.system_id);
        let Some(object) = archive.find(file).await? else { return Ok(None) };
        let damaged = |reason: String| pgbosun_repository::Error::Damaged { object: object.key.clone(), reason };
        let Sink::File(to) = sink else {
            let bytes = archive.get(&object).await?;
            segment::check(file, &bytes, bytes.len() as u64, &self.system_id).map_err(damaged)?;
            return Ok(Some(bytes));
        };
        let unfinished = Unfinished::beside(to);
        let created = File::create(&unfinished.0).map_err(Error::file("write", to))?;
        if let Err(error) = archive.copy(&object, created).await {
            if archive.is_empty(&object).await? {
                tracing::warn!(repository = repository.name, "counts as missing: {} is empty", object.key);
                return Ok(None);
            }
            return Err(error.into());
        }
        segment::check_file(file, &unfinished.0, &self.system_id).map_err(damaged)?;
        unfinished.finish(to)?;
        Ok(Some(Bytes::new()))
    }

    /// The segment a receiver was writing when the server was lost: its beginning, filled up with zeros.
    fn partial(&self, file: &WalFile) -> Option<Bytes> {
        let WalFile::Segment(segment) = file else { return None };
        let directory = self.partial_directory.as_ref()?;
        // The longest of what a receiver may have left, whole or not: see `receive`.
        let names =
            [segment.to_string(), format!("{segment}.partial"), format!("{segment}.{}", super::receive::EARLIER)];
        let left = names.map(|name| fs::read(directory.join(name)));
        let mut bytes = left.into_iter().flatten().max_by_key(Vec::len)?;
        let header = segment::Header::read(&bytes)?;
        bytes.resize(usize::try_from(header.segment_size).ok()?, 0);
        segment::check(file, &bytes, bytes.len() as u64, &self.system_id).ok()?;
        Some(bytes.into())
    }

    /// Puts a file that was read ahead where PostgreSQL wants it: by its name alone, where both lie on one file system.
    ///
    /// # Errors
    /// [`Error::File`].
    pub fn hand_over(early: &Path, path: &Path) -> Result<(), Error> {
        match fs::rename(early, path) {
            Err(error) if error.kind() == io::ErrorKind::CrossesDevices => {
                let bytes = fs::read(early).map_err(Error::file("read", early))?;
                deliver(&bytes, path)?;
                fs::remove_file(early).map_err(Error::file("remove", early))
            }
            renamed => renamed.map_err(Error::file("write", path)),
        }
    }
}

/// Puts contents where PostgreSQL wants them: whole or not at all.
fn deliver(bytes: &[u8], path: &Path) -> Result<(), Error> {
    let unfinished = Unfinished::beside(path);
    fs::write(&unfinished.0, bytes).map_err(Error::file("write", path))?;
    unfinished.finish(path)
}

/// A file that has not its name yet; it goes with this value.
struct Unfinished(PathBuf);

impl Unfinished {
    fn beside(path: &Path) -> Self {
        let name = path.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
        Self(path.with_file_name(format!("{name}.pgbosun-unfinished")))
    }

    fn finish(self, path: &Path) -> Result<(), Error> {
        faults::die(faults::FILE_FETCHED);
        fs::rename(&self.0, path).map_err(Error::file("write", path))
    }
}

impl Drop for Unfinished {
    fn drop(&mut self) {
        let _ = fs::remove_file(&self.0);
    }
}
