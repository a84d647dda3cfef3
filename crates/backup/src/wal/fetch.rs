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
    fs,
    io::{self, Write},
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

/// What came of looking for a file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Fetched {
    /// Its contents.
    Found(Bytes),
    /// No repository has it.
    Absent,
}

impl Fetch {
    /// Looks for a file in every repository until one has it whole.
    ///
    /// # Errors
    /// Where one could not be asked, or has only a damaged copy, and no other has the file: then nobody knows.
    pub async fn find(&self, file: &WalFile) -> Result<Fetched, Error> {
        let mut trouble: Option<Error> = None;
        for repository in &self.repositories {
            match self.from(repository, file).await {
                Ok(Fetched::Found(bytes)) => return Ok(Fetched::Found(bytes)),
                Ok(Fetched::Absent) => match repository.identity().await {
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
            if let Fetched::Found(bytes) = self.from(spool, file).await? {
                return Ok(Fetched::Found(bytes));
            }
        }
        if let Some(error) = trouble {
            return Err(error);
        }
        Ok(self.partial(file).map_or(Fetched::Absent, Fetched::Found))
    }

    /// As [`Self::find`], repeated for a while when it fails.
    ///
    /// # Errors
    /// The last failure.
    pub async fn find_patiently(&self, file: &WalFile, patience: Duration) -> Result<Fetched, Error> {
        let begun = Instant::now();
        let mut pause = Duration::from_millis(500);
        loop {
            match self.find(file).await {
                Err(error) if error.is_transient() && begun.elapsed() + pause < patience => {
                    tokio::time::sleep(pause).await;
                    pause = (pause * 2).min(Duration::from_secs(5));
                }
                done => return done,
            }
        }
    }

    async fn from(&self, repository: &Repository, file: &WalFile) -> Result<Fetched, Error> {
        let archive = WalArchive::new(repository, &self.cluster, &self.system_id);
        let Some(object) = archive.find(file).await? else { return Ok(Fetched::Absent) };
        let bytes = archive.get(&object).await?;
        let damaged = |reason: String| pgbosun_repository::Error::Damaged { object: object.key.clone(), reason };
        segment::check(file, &bytes, bytes.len() as u64, &self.system_id).map_err(damaged)?;
        Ok(Fetched::Found(bytes))
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
                Self::deliver(&bytes, path)?;
                fs::remove_file(early).map_err(Error::file("remove", early))
            }
            renamed => renamed.map_err(Error::file("write", path)),
        }
    }

    /// Puts contents where PostgreSQL wants them: whole or not at all.
    ///
    /// # Errors
    /// [`Error::File`].
    pub fn deliver(bytes: &[u8], path: &Path) -> Result<(), Error> {
        let name = path.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
        let temporary = path.with_file_name(format!("{name}.pgbosun-unfinished"));
        let written = fs::File::create(&temporary).and_then(|mut file| file.write_all(bytes));
        faults::die(faults::FILE_FETCHED);
        let placed = written.and_then(|()| fs::rename(&temporary, path));
        placed.map_err(|error| {
            let _ = fs::remove_file(&temporary);
            Error::file("write", path)(error)
        })
    }
}
