//! Reading, on the threads of the workers: files become entries of a tar, checked and counted on the way.

use super::{
    list::{Entry, Kind, Unit},
    pages,
};
use crate::{Error, Progress, manifest, pace::Pace};
use bytes::Bytes;
use chrono::{DateTime, SubsecRound};
use pgbosun_core::{lsn::Lsn, name::to_text};
use pgbosun_repository::{ObjectKind, tar_header, volume_of};
use std::{
    collections::{BTreeMap, VecDeque},
    fs::{self, File},
    io::{self, Read},
    os::unix::ffi::OsStrExt,
    path::{Path, PathBuf},
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
};
use tokio::sync::mpsc;

/// Whole pages are read at once, so many bytes.
const CHUNK: usize = 32 * pages::PAGE;
const BLOCK: u64 = 512;

/// What a reader hands on.
#[derive(Debug)]
pub(super) enum Step {
    /// A new volume; the one before is complete.
    Volume { name: String, kind: ObjectKind },
    /// An entry begins.
    Entry { name: String, header: Vec<u8> },
    /// Its bytes, padding included.
    Contents(Bytes),
}

#[derive(Debug)]
struct State {
    units: VecDeque<Unit>,
    /// The last number of each archive's volumes.
    numbers: BTreeMap<Option<u32>, u32>,
}

/// The work that is left, and the volumes that are taken.
#[derive(Debug)]
pub(super) struct Queue {
    state: Mutex<State>,
    /// Volumes are cut at the first file past this.
    full: u64,
}

impl Queue {
    pub fn new(units: VecDeque<Unit>, full: u64) -> Self {
        Self { state: Mutex::new(State { units, numbers: BTreeMap::new() }), full }
    }

    /// Name and kind of the next volume of an archive.
    pub fn volume(&self, tablespace: Option<u32>) -> (String, ObjectKind) {
        self.state.lock().unwrap_or_else(PoisonError::into_inner).next_volume(tablespace)
    }

    /// The next unit, and a volume for it where the open one is of another archive. Both at once, so that the directories
    /// of an archive lie in its first volume.
    fn next(&self, open: Option<Option<u32>>) -> Option<(Unit, Option<(String, ObjectKind)>)> {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let unit = state.units.pop_front()?;
        let volume = (open != Some(unit.tablespace)).then(|| state.next_volume(unit.tablespace));
        Some((unit, volume))
    }
}

impl State {
    fn next_volume(&mut self, tablespace: Option<u32>) -> (String, ObjectKind) {
        let number = self.numbers.entry(tablespace).or_default();
        *number += 1;
        volume_of(tablespace, *number)
    }
}

/// What all readers share.
#[derive(Debug)]
pub(super) struct Reader {
    pub queue: Queue,
    pub root: PathBuf,
    /// Pages older than this must have the right checksum; none where the server keeps no checksums.
    pub checked_from: Option<Lsn>,
    pub pace: Pace,
    pub progress: Arc<Progress>,
    /// Pages with a wrong checksum (C15).
    pub failures: AtomicU64,
}

/// Sends to the worker's other half; when that has gone the reading is given up.
fn send(steps: &mpsc::Sender<Step>, step: Step) -> Result<(), Error> {
    steps.blocking_send(step).map_err(|_| Error::Cancelled)
}

impl Reader {
    /// Reads until nothing is left; returns what the manifest says of the files.
    pub fn read(&self, steps: &mpsc::Sender<Step>) -> Result<Vec<manifest::Written>, Error> {
        let mut files = Vec::new();
        let (mut open, mut size) = (None, 0);
        while let Some((unit, volume)) = self.queue.next(open) {
            if let Some((name, kind)) = volume {
                send(steps, Step::Volume { name, kind })?;
                (open, size) = (Some(unit.tablespace), 0);
            }
            for entry in unit.entries {
                if size >= self.queue.full {
                    let (name, kind) = self.queue.volume(unit.tablespace);
                    send(steps, Step::Volume { name, kind })?;
                    size = 0;
                }
                let below = unit.tablespace.map(|oid| format!("pg_tblspc/{oid}"));
                let name = match below {
                    Some(below) => entry.path.strip_prefix(below).unwrap_or(&entry.path).to_owned(),
                    None => entry.path.clone(),
                };
                size += self.entry(entry, &name, steps, &mut files)?;
            }
        }
        Ok(files)
    }

    /// Hands one entry on; returns its size in the tar.
    fn entry(
        &self,
        entry: Entry,
        name: &Path,
        steps: &mpsc::Sender<Step>,
        files: &mut Vec<manifest::Written>,
    ) -> Result<u64, Error> {
        let whole = self.root.join(&entry.path);
        let failed = || Error::file("read", &whole);
        let segment = match entry.kind {
            Kind::File { segment } => segment,
            Kind::Directory | Kind::Link(_) => {
                let metadata = match fs::symlink_metadata(&whole) {
                    Ok(metadata) => metadata,
                    Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(0),
                    Err(error) => return Err(failed()(error)),
                };
                let mut header = tar::Header::new_ustar();
                header.set_metadata(&metadata);
                header.set_size(0);
                let link = match &entry.kind {
                    Kind::Link(location) => Some(location.as_path()),
                    _ => None,
                };
                if link.is_none() {
                    header.set_entry_type(tar::EntryType::Directory);
                }
                send(steps, begin(header, name, link))?;
                return Ok(BLOCK);
            }
        };
        let mut file = match File::open(&whole) {
            Ok(file) => file,
            // Dropped since the listing: the WAL knows.
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(0),
            Err(error) => return Err(failed()(error)),
        };
        let metadata = file.metadata().map_err(failed())?;
        let mut header = tar::Header::new_ustar();
        header.set_metadata(&metadata);
        send(steps, begin(header, name, None))?;
        let crc32c = self.contents(&mut file, metadata.len(), segment, &whole, steps)?;
        let modified: DateTime<_> = metadata.modified().map_err(failed())?.into();
        let (path, size) = (entry.path, metadata.len());
        files.push(manifest::Written { path, size, modified: modified.trunc_subsecs(0), crc32c });
        Ok(BLOCK + size.next_multiple_of(BLOCK))
    }

    /// Hands on exactly as many bytes as the header says: what grew meanwhile comes from the WAL, and what was cut off is
    /// zeros until the WAL cuts it off.
    fn contents(
        &self,
        file: &mut File,
        size: u64,
        segment: Option<u32>,
        path: &Path,
        steps: &mpsc::Sender<Step>,
    ) -> Result<u32, Error> {
        let failed = || Error::file("read", path);
        let (mut crc, mut position) = (0, 0);
        while position < size {
            let wanted = usize::try_from(size - position).map_or(CHUNK, |left| left.min(CHUNK));
            let mut chunk = Vec::with_capacity(wanted.next_multiple_of(BLOCK as usize));
            file.take(wanted as u64).read_to_end(&mut chunk).map_err(failed())?;
            if let (Some(start), Some(segment)) = (self.checked_from, segment) {
                let wrong = pages::check(&mut chunk, file, position, segment, start).map_err(failed())?;
                self.report(&wrong, path);
            }
            chunk.resize(wanted, 0);
            crc = crc32c::crc32c_append(crc, &chunk);
            self.pace.step(wanted as u64, || !steps.is_closed());
            self.progress.add(wanted as u64);
            position += wanted as u64;
            chunk.resize(wanted.next_multiple_of(BLOCK as usize), 0);
            send(steps, Step::Contents(chunk.into()))?;
        }
        Ok(crc)
    }

    /// C15: what is wrong is told, and the backup goes on.
    fn report(&self, wrong: &[u32], path: &Path) {
        let before = self.failures.fetch_add(wrong.len() as u64, Ordering::Relaxed);
        // A disk that is broken would fill the log.
        if !wrong.is_empty() && before < 100 {
            let path = path.display();
            tracing::warn!("pages with a wrong checksum in {path}: {wrong:?} (the backup continues, but is suspect)");
        }
    }
}

/// The step that begins an entry under this name, a link leading to `link`.
fn begin(header: tar::Header, name: &Path, link: Option<&Path>) -> Step {
    let name = name.as_os_str().as_bytes();
    let header = tar_header(header, name, link.map(|link| link.as_os_str().as_bytes()));
    Step::Entry { name: to_text(name), header }
}
