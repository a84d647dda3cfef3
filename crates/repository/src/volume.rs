//! Writing a backup: tar streams cut into volumes at file boundaries, each encoded and sent to all its repositories.
//!
//! Invariants: bytes pass once; memory is bounded by the compressor and a few chunks a repository, whatever the size of
//! the data; every object is counted and hashed as stored (C16).

use crate::{
    Error, Object, ObjectKind, Repository,
    encode::{Encoder, Frames},
    fan::{Destination, Fan, Group, Stored, groups},
    repository::BackupRef,
    tar_header::tar_header,
    tar_stream::{Piece, TarStream},
};
use bytes::Bytes;
use std::{collections::BTreeMap, sync::Arc};
use tokio_util::task::TaskTracker;

/// The place of one backup in all the repositories it is written to.
#[derive(Debug)]
pub struct Destinations {
    place: BackupRef,
    all: Vec<Arc<Destination>>,
    groups: Vec<Group>,
    tasks: TaskTracker,
    frames: Arc<Frames>,
}

impl Destinations {
    /// These repositories.
    pub fn new(repositories: &[Repository], place: &BackupRef) -> Self {
        let all: Vec<_> = repositories.iter().cloned().map(Destination::new).collect();
        let groups = groups(&all);
        Self { place: place.clone(), all, groups, tasks: TaskTracker::new(), frames: Arc::default() }
    }

    /// What writes to these repositories; [`Self::settle`] waits for it.
    pub const fn tasks(&self) -> &TaskTracker {
        &self.tasks
    }

    /// Waits until nothing writes any more, after the work was given up: what is removed then stays removed.
    pub async fn settle(&self) {
        self.tasks.close();
        let longest = self.all.iter().map(|destination| destination.repository.options.stall_timeout).max();
        let _ = tokio::time::timeout(longest.unwrap_or_default(), self.tasks.wait()).await;
    }

    /// The place.
    pub const fn place(&self) -> &BackupRef {
        &self.place
    }

    /// The repositories that are still in the pass, each with the index of its encoding.
    pub fn alive(&self) -> Vec<(usize, Repository)> {
        let members = self.groups.iter().flat_map(|group| group.members.iter().map(|member| (group.index, member)));
        let alive = members.filter(|(_, member)| !member.is_dropped());
        alive.map(|(index, member)| (index, member.repository.clone())).collect()
    }

    /// Takes one repository out of the pass.
    pub fn leave(&self, repository: &str, error: Error) {
        // Its name is its own in the configuration, so the error stays what it is.
        if let Some(destination) = self.all.iter().find(|destination| destination.repository.name == repository) {
            destination.leave(error);
        }
    }

    /// The repositories that left the pass, and why.
    pub fn dropped(&self) -> Vec<(Repository, Error)> {
        let all = self.all.iter();
        all.filter_map(|destination| Some((destination.repository.clone(), destination.reason()?))).collect()
    }

    /// The plain size past which a volume is cut, bytes: the smallest that any repository wants.
    pub fn volume_size(&self) -> u64 {
        self.groups.iter().map(|group| group.volume_size).min().unwrap_or(u64::MAX)
    }

    /// The compression of each encoding, in the order of their indexes.
    pub fn compressions(&self) -> Vec<String> {
        self.groups.iter().map(|group| group.encoding.compression().to_string()).collect()
    }

    /// Those that encrypt and those that do not, each where there are such: some objects may only go to the first.
    pub fn by_encryption(&self) -> Vec<(bool, Arc<Self>)> {
        let of = |is_encrypted: bool| {
            let groups = self.groups.iter().filter(|group| group.encoding.recipients().is_empty() != is_encrypted);
            let groups: Vec<_> = groups.cloned().collect();
            // The pass goes on while any of all is left.
            let all = self.all.clone();
            let (place, tasks, frames) = (self.place.clone(), self.tasks.clone(), Arc::clone(&self.frames));
            (!groups.is_empty()).then(|| (is_encrypted, Arc::new(Self { place, all, groups, tasks, frames })))
        };
        [true, false].into_iter().filter_map(of).collect()
    }

    /// An error where no repository is left.
    fn check(&self) -> Result<(), Error> {
        if self.all.iter().any(|destination| !destination.is_dropped()) {
            return Ok(());
        }
        Err(self.all.iter().find_map(|destination| destination.reason()).unwrap_or(Error::NoneLeft))
    }
}

/// Threads that compress an object.
#[derive(Clone, Copy)]
enum Compressors {
    /// As the repository says: for one stream that holds everything.
    Configured,
    /// The writer's own: beside others, where more would only take memory.
    One,
}

/// One object, encoded once a group.
struct Branches {
    name: String,
    kind: ObjectKind,
    writers: Vec<(usize, Encoder, Fan)>,
    plain_size: u64,
    files: Vec<String>,
}

/// Objects finished so far: one list for each encoding, and the files in each volume.
#[derive(Clone, Debug, Default)]
pub struct Written {
    /// By the index of the encoding.
    pub objects: BTreeMap<usize, Vec<Object>>,
    /// Files by volume, without what the encoding adds to its name.
    pub files: BTreeMap<String, Vec<String>>,
}

impl Written {
    /// Adds what another writer finished.
    pub fn extend(&mut self, other: Self) {
        for (index, objects) in other.objects {
            self.objects.entry(index).or_default().extend(objects);
        }
        self.files.extend(other.files);
    }
}

impl Branches {
    async fn create(to: &Destinations, name: &str, kind: ObjectKind, compressors: Compressors) -> Result<Self, Error> {
        let mut writers = Vec::new();
        for group in &to.groups {
            let encoding = match (kind, compressors) {
                // PostgreSQL's own words stay readable: the next incremental backup hands them back to the server.
                (ObjectKind::Manifest, _) => None,
                (_, Compressors::Configured) => Some(group.encoding.clone()),
                (_, Compressors::One) => Some(group.encoding.single_threaded()),
            };
            let (encoder, suffix) = match encoding {
                Some(encoding) => (Encoder::new(&encoding, &to.frames).await?, encoding.suffix()),
                None => (Encoder::plain(), String::new()),
            };
            let fan = Fan::create(&group.members, &to.place.key(&format!("{name}{suffix}")), &to.tasks).await;
            writers.push((group.index, encoder, fan));
        }
        to.check()?;
        Ok(Self { name: name.to_owned(), kind, writers, plain_size: 0, files: Vec::new() })
    }

    async fn write(&mut self, to: &Destinations, bytes: &[u8]) -> Result<(), Error> {
        self.plain_size += bytes.len() as u64;
        for (_, encoder, fan) in &mut self.writers {
            let encoded = encoder.push(bytes).await.map_err(Error::storage("encode", &self.name))?;
            fan.send(encoded, &self.name).await;
        }
        to.check()
    }

    async fn finish(self, to: &Destinations) -> Result<Written, Error> {
        let mut written = Written::default();
        for (index, encoder, mut fan) in self.writers {
            let rest = encoder.finish().await.map_err(Error::storage("encode", &self.name))?;
            fan.send(rest, &self.name).await;
            let suffix = match self.kind {
                ObjectKind::Manifest => String::new(),
                _ => to
                    .groups
                    .iter()
                    .find(|group| group.index == index)
                    .map(|group| group.encoding.suffix())
                    .unwrap_or_default(),
            };
            let name = format!("{}{suffix}", self.name);
            let Stored { size, sha256 } = fan.finish(&name).await;
            let object = Object { name, kind: self.kind, size, sha256, plain_size: self.plain_size };
            written.objects.entry(index).or_default().push(object);
        }
        if !self.files.is_empty() {
            written.files.insert(self.name, self.files);
        }
        to.check()?;
        Ok(written)
    }
}

/// One object being written as bytes come.
pub struct PlainWriter {
    to: Arc<Destinations>,
    branches: Branches,
}

impl PlainWriter {
    /// Begins an object of a backup.
    ///
    /// # Errors
    /// [`Error::Storage`] where no repository takes it.
    pub async fn create(to: &Arc<Destinations>, name: &str, kind: ObjectKind) -> Result<Self, Error> {
        Ok(Self { to: Arc::clone(to), branches: Branches::create(to, name, kind, Compressors::One).await? })
    }

    /// Writes bytes.
    ///
    /// # Errors
    /// [`Error::Storage`] where no repository is left.
    pub async fn write(&mut self, bytes: &[u8]) -> Result<(), Error> {
        self.branches.write(&self.to, bytes).await
    }

    /// Makes the object durable.
    ///
    /// # Errors
    /// [`Error::Storage`], [`Error::Damaged`].
    pub async fn finish(self) -> Result<Written, Error> {
        self.branches.finish(&self.to).await
    }
}

/// One tar volume being written.
pub struct VolumeWriter(PlainWriter);

impl VolumeWriter {
    /// Begins the volume `<name>.tar` with what its encoding adds.
    ///
    /// # Errors
    /// [`Error::Storage`] where no repository takes it.
    pub async fn create(to: &Arc<Destinations>, name: &str, kind: ObjectKind) -> Result<Self, Error> {
        Ok(Self(PlainWriter::create(to, &format!("{name}.tar"), kind).await?))
    }

    /// The same for the only stream there is, which is compressed on as many threads as configured.
    async fn of_stream(to: &Arc<Destinations>, name: &str, kind: ObjectKind) -> Result<Self, Error> {
        let branches = Branches::create(to, &format!("{name}.tar"), kind, Compressors::Configured).await?;
        Ok(Self(PlainWriter { to: Arc::clone(to), branches }))
    }

    /// Plain bytes so far.
    const fn plain_size(&self) -> u64 {
        self.0.branches.plain_size
    }

    /// Notes that a file begins here, by the text of its name.
    pub fn file(&mut self, name: &str) {
        self.0.branches.files.push(name.to_owned());
    }

    /// Writes bytes of the tar.
    ///
    /// # Errors
    /// [`Error::Storage`] where no repository is left.
    pub async fn write(&mut self, bytes: &[u8]) -> Result<(), Error> {
        self.0.write(bytes).await
    }

    /// Begins a file of this size; its contents follow with [`Self::write`], and whole blocks of 512 bytes end it.
    ///
    /// # Errors
    /// [`Error::Storage`] where no repository is left.
    pub async fn begin_file(&mut self, name: &str, size: u64) -> Result<(), Error> {
        let mut header = tar::Header::new_ustar();
        header.set_size(size);
        header.set_mode(0o600);
        self.file(name);
        self.write(&tar_header(header, name.as_bytes(), None)).await
    }

    /// Adds a small file.
    ///
    /// # Errors
    /// [`Error::Storage`] where no repository is left.
    pub async fn add_file(&mut self, name: &str, bytes: &[u8]) -> Result<(), Error> {
        self.begin_file(name, bytes.len() as u64).await?;
        self.write(bytes).await?;
        let padding = bytes.len().next_multiple_of(512) - bytes.len();
        self.write(&[0; 512][..padding]).await
    }

    /// Ends the tar and makes the volume durable.
    ///
    /// # Errors
    /// [`Error::Storage`], [`Error::Damaged`].
    pub async fn finish(mut self) -> Result<Written, Error> {
        self.write(&[0; 1024]).await?;
        self.0.finish().await
    }
}

/// Name and kind of a volume of an archive, the data directory or the tablespace of this identity: `base.0001`,
/// `tablespace-16385.0001`, to which `.tar` and the encoding add their endings.
pub fn volume_of(tablespace: Option<u32>, number: u32) -> (String, ObjectKind) {
    match tablespace {
        None => (format!("base.{number:04}"), ObjectKind::Data),
        Some(oid) => (format!("tablespace-{oid}.{number:04}"), ObjectKind::Tablespace(oid)),
    }
}

/// Turns one tar stream of any length into volumes.
pub struct TarVolumes {
    to: Arc<Destinations>,
    tablespace: Option<u32>,
    /// Volumes are cut at the first file boundary past this.
    full: u64,
    stream: TarStream,
    current: Option<VolumeWriter>,
    count: u32,
    written: Written,
}

impl TarVolumes {
    /// Begins the volumes of an archive: see [`volume_of`].
    pub fn new(to: &Arc<Destinations>, tablespace: Option<u32>) -> Self {
        let (to, full, stream) = (Arc::clone(to), to.volume_size(), TarStream::default());
        Self { to, tablespace, full, stream, current: None, count: 0, written: Written::default() }
    }

    /// Takes the next bytes of the stream.
    ///
    /// # Errors
    /// [`Error::Archive`] where it is no tar, [`Error::Storage`] where no repository is left.
    pub async fn write(&mut self, data: Bytes) -> Result<(), Error> {
        // The pieces are collected first, since the parser's callback cannot wait for storage.
        let mut steps: Vec<Step> = Vec::new();
        self.stream.push(&data, |piece| {
            steps.push(match piece {
                Piece::File { name, header } => Step::File(name, header.to_vec()),
                Piece::Contents(bytes) => Step::Contents(data.slice_ref(bytes)),
                Piece::Boundary => Step::Boundary,
            });
            Ok(())
        })?;
        for step in steps {
            match step {
                Step::File(name, header) => {
                    let volume = self.volume().await?;
                    volume.file(&name);
                    volume.write(&header).await?;
                }
                Step::Contents(bytes) => self.volume().await?.write(&bytes).await?,
                Step::Boundary => {
                    let full = self.full;
                    if let Some(volume) = self.current.take_if(|volume| volume.plain_size() >= full) {
                        self.written.extend(volume.finish().await?);
                    }
                }
            }
        }
        Ok(())
    }

    async fn volume(&mut self) -> Result<&mut VolumeWriter, Error> {
        let volume = match self.current.take() {
            Some(volume) => volume,
            None => {
                self.count += 1;
                let (name, kind) = volume_of(self.tablespace, self.count);
                VolumeWriter::of_stream(&self.to, &name, kind).await?
            }
        };
        Ok(self.current.insert(volume))
    }

    /// Ends the stream and returns its volumes.
    ///
    /// # Errors
    /// [`Error::Archive`] where the stream ended within a file, [`Error::Storage`].
    pub async fn finish(mut self) -> Result<Written, Error> {
        self.stream.finish()?;
        if let Some(volume) = self.current.take() {
            self.written.extend(volume.finish().await?);
        }
        Ok(self.written)
    }
}

enum Step {
    File(String, Vec<u8>),
    Contents(Bytes),
    Boundary,
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::storage::{Directories, Local};

    #[test]
    fn a_repository_leaves_with_the_error_that_made_it_leave() {
        let place = tempfile::tempdir().unwrap();
        let options = crate::test_options();
        let repository = Repository::on("r", &options, Arc::new(Local::new(place.path(), Directories::Synced)));
        let of = BackupRef { cluster: "main".into(), system_id: "7".into(), label: "a".into() };
        let to = Destinations::new(std::slice::from_ref(&repository), &of);
        let reset = std::io::Error::from(std::io::ErrorKind::ConnectionReset);
        to.leave("r", Error::storage("create", "leases/a")(reset));
        let dropped = to.dropped();
        let (_, error) = dropped.first().unwrap();
        assert_eq!(error.to_string(), "create leases/a");
        assert!(error.is_transient() && std::error::Error::source(error).is_some(), "{error:?}");
    }
}
