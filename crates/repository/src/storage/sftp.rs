//! A directory of another machine, over SFTP: the protocol by `openssh-sftp-client`, the connection by the system's
//! `ssh`, so that its keys, host keys and configuration count.
//!
//! C1 holds there too: an object is written under a temporary name, fsynced (`fsync@openssh.com`), renamed
//! (`posix-rename@openssh.com`). A server without these extensions is refused.
//!
//! C36: the protocol takes whole paths, and follows what links are in them. So every name on the way to an object is inspected
//! (lstat, all at once) before anything is done there and again afterwards; what is no plain file is refused, what was opened must be
//! what was inspected, and a walk never goes through a link. Who exchanges a directory for a link and back just in between is not
//! seen: [`Storage::exposed`] says where others than the account could.

use super::{
    Foreign, ObjectWriter, OverNetwork, Stat, Storage, Store, is_unfinished, own, temporary_name,
    tree::{DEPTH, ENTRIES, parts},
};
use crate::Error;
use async_trait::async_trait;
use bytes::Bytes;
use futures::{StreamExt, future::try_join_all};
use openssh_sftp_client::{
    Sftp as Client, SftpOptions as ClientOptions,
    file::TokioCompatFile,
    fs::Fs,
    metadata::{MetaData, Permissions},
};
use pgbosun_core::{
    config::{Reader, RepositoryOptions, Section, StoreOptions, Variant},
    options,
};
use std::{
    fmt, io,
    path::{Path, PathBuf},
    process::Stdio,
    sync::Arc,
    time::Duration,
};
use tokio::{
    io::{AsyncRead, AsyncReadExt},
    process::{Child, Command},
    sync::Mutex,
};

options! {
    /// In a directory of another machine, over SFTP.
    pub struct SftpOptions {
        /// The directory. It is created with mode 0700 if it is missing. Only the account may have write access to it
        /// (`chmod go-w`, or `chmod +t`), since SFTP cannot keep others from replacing a directory with a link while it is in
        /// use. `check` reports where others can.
        path: PathBuf;
        /// The machine.
        host: String;
        /// Its port.
        port: u16 = "22";
        /// The account there; by default the name of the user that pgbosun runs as.
        user: Option<String>;
        /// The private key.
        key_file: Option<PathBuf>;
        /// The file with the machine's host key. A machine whose key is unknown is refused.
        known_hosts_file: Option<PathBuf>;
    }
}

impl StoreOptions for SftpOptions {
    fn place(&self) -> String {
        format!("sftp://{}:{}{}", self.host, self.port, self.path.display())
    }

    fn shown(&self) -> String {
        format!("{}:{}", self.host, self.path.display())
    }

    fn secret_files(&self) -> Vec<&Path> {
        self.key_file.iter().map(PathBuf::as_path).collect()
    }
}

pub(super) const STORE: Store = Store {
    variant: Variant {
        name: "sftp",
        about: SftpOptions::ABOUT,
        options: SftpOptions::OPTIONS,
        read: |reader: &mut Reader<'_>| Some(Arc::new(SftpOptions::read(reader)?)),
    },
    open: |repository, _| Some(Ok(Arc::new(Sftp::new(&repository.common, own(repository)?)))),
};

/// Objects as files below a directory of another machine.
#[derive(Clone)]
pub struct Sftp {
    root: PathBuf,
    command: Arc<Vec<String>>,
    timeout: Duration,
    session: Arc<Mutex<Option<Arc<Session>>>>,
}

/// One `ssh` with the protocol on its pipes. Dropped, the process is killed.
struct Session {
    client: Client,
    _ssh: Mutex<Child>,
}

impl fmt::Debug for Sftp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "sftp {}", self.root.display())
    }
}

type SftpError = openssh_sftp_client::Error;

fn not_found(error: &SftpError) -> bool {
    use openssh_sftp_client::error::SftpErrorKind;
    matches!(error, SftpError::SftpError(SftpErrorKind::NoSuchFile, _))
}

impl Sftp {
    /// The directory of this configuration. Nothing is connected yet.
    pub fn new(common: &RepositoryOptions, options: &SftpOptions) -> Self {
        let mut command: Vec<String> =
            ["ssh", "-o", "BatchMode=yes", "-o", "StrictHostKeyChecking=yes", "-o", "ServerAliveInterval=15"]
                .map(str::to_owned)
                .to_vec();
        command.extend(["-o".into(), format!("ConnectTimeout={}", common.timeout.as_secs().max(1))]);
        command.extend(["-p".into(), options.port.to_string()]);
        if let Some(key) = &options.key_file {
            command.extend(["-o".into(), "IdentitiesOnly=yes".into(), "-i".into(), key.display().to_string()]);
        }
        if let Some(file) = &options.known_hosts_file {
            command.extend(["-o".into(), format!("UserKnownHostsFile={}", file.display())]);
        }
        if let Some(user) = &options.user {
            command.extend(["-l".into(), user.clone()]);
        }
        command.extend(["-s".into(), "--".into(), options.host.clone(), "sftp".into()]);
        Self {
            root: options.path.clone(),
            command: Arc::new(command),
            timeout: common.timeout,
            session: Arc::default(),
        }
    }

    fn path(&self, key: &str) -> PathBuf {
        if key.is_empty() { self.root.clone() } else { self.root.join(key) }
    }

    async fn session(&self) -> io::Result<Arc<Session>> {
        let mut session = self.session.lock().await;
        if let Some(session) = &*session {
            return Ok(Arc::clone(session));
        }
        let connected = tokio::time::timeout(self.timeout * 2, self.connect()).await;
        let connected = Arc::new(connected.map_err(|_| io::Error::from(io::ErrorKind::TimedOut))??);
        *session = Some(Arc::clone(&connected));
        Ok(connected)
    }

    async fn connect(&self) -> io::Result<Session> {
        let mut ssh = Command::new(&self.command[0])
            .args(&self.command[1..])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .process_group(0)
            .kill_on_drop(true)
            .spawn()
            .map_err(|error| io::Error::new(error.kind(), format!("start ssh: {error}")))?;
        let pipes = (ssh.stdin.take(), ssh.stdout.take(), ssh.stderr.take());
        let (Some(input), Some(output), Some(mut errors)) = pipes else {
            return Err(io::Error::other("ssh has no pipes"));
        };
        let client = match Client::new(input, output, ClientOptions::new()).await {
            Ok(client) => client,
            Err(error) => {
                // What ssh itself says is the reason that helps.
                let mut words = String::new();
                let said = tokio::time::timeout(Duration::from_secs(2), errors.read_to_string(&mut words)).await;
                let words = said.ok().map_or("", |_| words.trim());
                let reason = if words.is_empty() { error.to_string() } else { words.to_owned() };
                return Err(io::Error::new(io::ErrorKind::ConnectionRefused, reason));
            }
        };
        // A full pipe would stop ssh; what it says later is in the errors of the requests.
        tokio::spawn(async move { tokio::io::copy(&mut errors, &mut tokio::io::sink()).await });
        if !client.support_fsync() || !client.support_posix_rename() {
            let reason =
                "the server lacks fsync@openssh.com or posix-rename@openssh.com: nothing written there is durable";
            return Err(io::Error::new(io::ErrorKind::Unsupported, reason));
        }
        Ok(Session { client, _ssh: Mutex::new(ssh) })
    }

    /// Runs one request within the timeout; a connection that broke is made anew by the next.
    async fn request<T>(
        &self,
        action: &'static str,
        path: &Path,
        work: impl AsyncFnOnce(Fs, &Client) -> Result<T, SftpError>,
    ) -> Result<Option<T>, Error> {
        let failed = |error: io::Error| Error::storage(action, path.display().to_string())(error);
        let session = self.session().await.map_err(failed)?;
        match tokio::time::timeout(self.timeout, work(session.client.fs(), &session.client)).await {
            Ok(Ok(done)) => Ok(Some(done)),
            Ok(Err(error)) if not_found(&error) => Ok(None),
            Ok(Err(error)) => {
                if !matches!(error, SftpError::SftpError(..)) {
                    self.session.lock().await.take();
                    return Err(failed(io::Error::new(io::ErrorKind::ConnectionReset, error)));
                }
                Err(failed(io::Error::other(error)))
            }
            Err(_) => {
                self.session.lock().await.take();
                Err(failed(io::ErrorKind::TimedOut.into()))
            }
        }
    }

    /// What lies under a key, which nothing but directories leads to.
    async fn stat_path(&self, key: &str) -> Result<Option<MetaData>, Error> {
        let failed = |error| Error::storage("inspect", self.path(key).display().to_string())(error);
        let names = parts(key).map_err(failed)?;
        let ways = (0..=names.len()).map(|count| self.path(&names[..count].join("/"))).skip(1);
        let stats = ways.map(|way| async move {
            self.request("inspect", &way, async |mut fs, _| fs.symlink_metadata(&way).await).await
        });
        let mut found = try_join_all(stats).await?;
        let last = found.pop().flatten();
        for (name, way) in names.iter().zip(found) {
            let Some(way) = way else { return Ok(None) };
            if way.file_type().is_some_and(|kind| !kind.is_dir()) {
                return Err(failed(Foreign::new(name, "not a directory, and probably a link").into()));
            }
        }
        Ok(last)
    }

    /// A plain file, or nothing.
    async fn stat_file(&self, key: &str) -> Result<Option<MetaData>, Error> {
        let found = self.stat_path(key).await?;
        if found.as_ref().and_then(MetaData::file_type).is_some_and(|kind| !kind.is_file()) {
            let name = key.rsplit('/').next().unwrap_or(key);
            let foreign = Foreign::new(name, "not a plain file, and probably a link");
            return Err(Error::storage("inspect", self.path(key).display().to_string())(foreign.into()));
        }
        Ok(found)
    }

    /// Whether a directory lies there; what else does is no directory of ours.
    async fn stat_directory(&self, key: &str) -> Result<bool, Error> {
        match self.stat_path(key).await?.and_then(|found| found.file_type()) {
            Some(kind) if !kind.is_dir() => {
                let name = key.rsplit('/').next().unwrap_or(key);
                let foreign = Foreign::new(name, "not a directory, and probably a link");
                Err(Error::storage("inspect", self.path(key).display().to_string())(foreign.into()))
            }
            found => Ok(found.is_some()),
        }
    }

    /// The same for a walk: a link in its place is reported, and is none.
    async fn is_directory(&self, prefix: &str) -> Result<bool, Error> {
        if prefix.is_empty() {
            return Ok(true);
        }
        match self.stat_directory(prefix).await {
            Err(error @ Error::Damaged { .. }) => {
                tracing::warn!(object = prefix, "{error}");
                Ok(false)
            }
            answer => answer,
        }
    }

    /// Creates what is missing of the way to a key, and goes through no link below the root.
    async fn create_parents(&self, key: &str) -> Result<(), Error> {
        let Some((parent, _)) = key.rsplit_once('/') else { return self.create_root(&self.root).await };
        if self.stat_directory(parent).await? {
            return Ok(());
        }
        Box::pin(self.create_parents(parent)).await?;
        match self.create_directory(&self.path(parent)).await {
            // Another writer may have been faster.
            Err(error) if !self.stat_directory(parent).await? => Err(error),
            _ => Ok(()),
        }
    }

    /// Creates what is missing of the root, which the configuration names: it may lie behind a link.
    async fn create_root(&self, directory: &Path) -> Result<(), Error> {
        let known = async || self.request("inspect", directory, async |mut fs, _| fs.metadata(directory).await).await;
        if known().await?.is_some() {
            return Ok(());
        }
        if let Some(parent) = directory.parent() {
            Box::pin(self.create_root(parent)).await?;
        }
        match self.create_directory(directory).await {
            Err(error) if known().await?.is_none() => Err(error),
            _ => Ok(()),
        }
    }

    async fn create_directory(&self, directory: &Path) -> Result<(), Error> {
        let made = self.request("create", directory, async |mut fs, _| {
            let mut builder = fs.dir_builder();
            let mut mode = Permissions::new();
            mode.set_read_by_owner(true).set_write_by_owner(true).set_execute_by_owner(true);
            builder.permissions(mode).create(directory).await
        });
        made.await.map(drop)
    }

    /// Name, kind and size of what lies in a directory; nothing where there is none.
    async fn entries(&self, prefix: &str) -> Result<Vec<(String, bool, u64)>, Error> {
        if !self.is_directory(prefix).await? {
            return Ok(Vec::new());
        }
        let directory = &self.path(prefix);
        let read = self.request("list", directory, async |mut fs, _| {
            let opened = fs.open_dir(directory).await?;
            let mut entries = Box::pin(opened.read_dir());
            let mut found = Vec::new();
            while let Some(entry) = entries.next().await {
                let entry = entry?;
                let name = entry.filename().to_string_lossy().into_owned();
                let metadata = entry.metadata();
                let is_directory = metadata.file_type().is_some_and(|kind| kind.is_dir());
                if found.len() >= ENTRIES {
                    break;
                }
                if name != "." && name != ".." && !name.contains('/') {
                    found.push((name, is_directory, metadata.len().unwrap_or(0)));
                }
            }
            Ok(found)
        });
        let found = read.await?.unwrap_or_default();
        Ok(if self.is_directory(prefix).await? { found } else { Vec::new() })
    }

    async fn walk(&self, prefix: &str, found: &mut Vec<(String, u64)>) -> Result<(), Error> {
        for (name, is_directory, size) in self.entries(prefix).await? {
            let key = if prefix.is_empty() { name } else { format!("{prefix}/{name}") };
            if is_directory {
                if key.split('/').count() > DEPTH || found.len() > ENTRIES {
                    let reason = format!("{key} is nested deeper, or holds more, than anything in a repository");
                    return Err(Error::storage("list", key)(io::Error::other(reason)));
                }
                Box::pin(self.walk(&key, found)).await?;
            } else {
                found.push((key, size));
            }
        }
        Ok(())
    }

    async fn remove(&self, path: &Path) -> Result<(), Error> {
        self.request("remove", path, async |mut fs, _| fs.remove_file(path).await).await.map(drop)
    }
}

#[async_trait]
impl Storage for Sftp {
    async fn create(&self, key: &str) -> Result<Box<dyn ObjectWriter>, Error> {
        let path = self.path(key);
        let name = path.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
        let temporary = path.with_file_name(temporary_name(&name));
        self.create_parents(key).await?;
        let opened = self.request("create", &temporary, async |_, client| {
            client.options().write(true).create_new(true).open(&temporary).await
        });
        let missing = || Error::storage("create", temporary.display().to_string())(io::ErrorKind::NotFound.into());
        let file = opened.await?.ok_or_else(missing)?;
        // From here on it is removed where anything is wrong.
        let upload = Upload { file: Some(file), store: self.clone(), temporary, key: key.to_owned(), finished: false };
        self.stat_path(key).await?;
        Ok(Box::new(upload))
    }

    async fn open(&self, key: &str) -> Result<Box<dyn AsyncRead + Send + Unpin>, Error> {
        let path = self.path(key);
        let failed = |error: io::Error| Error::storage("open", path.display().to_string())(error);
        let missing = || failed(io::ErrorKind::NotFound.into());
        // A lease or a note may be replaced meanwhile, but not each time.
        for _ in 0..REPLACED {
            let seen = self.stat_file(key).await?.ok_or_else(missing)?;
            let opened = self.request("open", &path, async |_, client| {
                let mut file = client.open(&path).await?;
                Ok((file.metadata().await?, file))
            });
            let (held, file) = opened.await?.ok_or_else(missing)?;
            self.stat_path(key).await?;
            if is_same(&seen, &held) {
                return Ok(Box::new(OverNetwork(Box::pin(TokioCompatFile::new(file)))));
            }
        }
        let name = key.rsplit('/').next().unwrap_or(key);
        Err(failed(Foreign::new(name, "replaced by something else whenever it is opened").into()))
    }

    async fn stat(&self, key: &str) -> Result<Option<Stat>, Error> {
        Ok(self.stat_file(key).await?.map(|metadata| {
            let modified = metadata.modified().map(|at| i64::from(at.into_raw()) * 1000);
            Stat { size: metadata.len().unwrap_or(0), modified }
        }))
    }

    async fn list(&self, prefix: &str) -> Result<Vec<(String, u64)>, Error> {
        let mut found = Vec::new();
        self.walk(prefix, &mut found).await?;
        found.retain(|(key, _)| !is_unfinished(key.rsplit('/').next().unwrap_or_default()));
        found.sort();
        Ok(found)
    }

    async fn names(&self, prefix: &str) -> Result<Vec<String>, Error> {
        let entries = self.entries(prefix).await?.into_iter();
        let mut names: Vec<_> = entries.map(|(name, ..)| name).filter(|name| !is_unfinished(name)).collect();
        names.sort();
        Ok(names)
    }

    async fn delete(&self, key: &str) -> Result<(), Error> {
        let path = self.path(key);
        if self.stat_path(key).await?.is_none() {
            return Ok(());
        }
        self.remove(&path).await?;
        self.stat_path(key).await?;
        let mut directory = path.parent();
        // A directory goes with its last object; one that is not empty refuses, which ends the walk.
        while let Some(parent) = directory.filter(|parent| *parent != self.root && parent.starts_with(&self.root)) {
            match self.request("remove", parent, async |mut fs, _| fs.remove_dir(parent).await).await {
                Ok(Some(())) => directory = parent.parent(),
                _ => break,
            }
        }
        Ok(())
    }

    async fn delete_unfinished(&self, prefix: &str) -> Result<u64, Error> {
        let mut found = Vec::new();
        self.walk(prefix, &mut found).await?;
        found.retain(|(key, _)| is_unfinished(key.rsplit('/').next().unwrap_or_default()));
        for (key, _) in &found {
            self.delete(key).await?;
        }
        Ok(found.len() as u64)
    }

    async fn free_bytes(&self) -> Result<Option<u64>, Error> {
        Ok(None)
    }

    async fn exposed(&self) -> Result<Option<String>, Error> {
        let root = &self.root;
        let found = self.request("inspect", root, async |mut fs, _| fs.metadata(root).await).await?;
        // A group of the same number is the account's own.
        let shared = found.as_ref().is_some_and(|found| found.uid() != found.gid());
        let mode = found.and_then(|found| found.permissions());
        let is_open =
            mode.is_some_and(|mode| (shared && mode.write_by_group() || mode.write_by_other()) && !mode.svtx());
        Ok(is_open.then(|| {
            let root = root.display();
            format!(
                "users other than the account can replace directories in {root} with links, and SFTP cannot be told not to \
                 follow links: on that machine, run chmod go-w {root}, or chmod +t {root} if they have to write into it, or \
                 set ChrootDirectory for the account"
            )
        }))
    }
}

/// How often an object may be replaced while it is opened.
const REPLACED: usize = 5;

/// Whether a file is the one that was checked, as far as the protocol can tell.
fn is_same(seen: &MetaData, held: &MetaData) -> bool {
    let told = |of: &MetaData| {
        let kind = of.file_type().map(|kind| kind.as_raw());
        (of.len(), of.uid(), of.gid(), kind, of.permissions().map(|mode| mode.as_raw()), of.modified())
    };
    told(seen) == told(held)
}

/// A file that is renamed into place when it is finished, and removed when it is not.
struct Upload {
    file: Option<openssh_sftp_client::file::File>,
    store: Sftp,
    temporary: PathBuf,
    key: String,
    finished: bool,
}

impl Upload {
    fn failed(&self, action: &'static str) -> impl FnOnce(io::Error) -> Error + use<> {
        Error::storage(action, self.store.path(&self.key).display().to_string())
    }

    fn broken(&self, action: &'static str) -> impl FnOnce(SftpError) -> Error + use<> {
        let failed = self.failed(action);
        move |error| failed(io::Error::new(io::ErrorKind::ConnectionReset, error))
    }
}

#[async_trait]
impl ObjectWriter for Upload {
    async fn write(&mut self, data: Bytes) -> Result<(), Error> {
        let broken = self.broken("write");
        let Some(file) = &mut self.file else { return Ok(()) };
        file.write_all(&data).await.map_err(broken)
    }

    async fn finish(mut self: Box<Self>) -> Result<u64, Error> {
        let Some(mut file) = self.file.take() else { return Ok(0) };
        file.sync_all().await.map_err(self.broken("sync"))?;
        file.close().await.map_err(self.broken("close"))?;
        // Hours may have passed since the way was checked.
        self.store.stat_path(&self.key).await?;
        let (temporary, path) = (self.temporary.clone(), self.store.path(&self.key));
        let renamed = self.store.request("store", &path, async |mut fs, _| fs.rename(&temporary, &path).await).await?;
        self.finished = renamed.is_some();
        let gone = self.failed("store");
        let stored = match renamed {
            Some(()) => self.store.stat_file(&self.key).await?,
            None => None,
        };
        let stored = stored.ok_or_else(|| gone(io::ErrorKind::NotFound.into()))?;
        Ok(stored.len().unwrap_or(0))
    }
}

impl Drop for Upload {
    fn drop(&mut self) {
        if !self.finished
            && let Ok(runtime) = tokio::runtime::Handle::try_current()
        {
            let (store, temporary) = (self.store.clone(), std::mem::take(&mut self.temporary));
            // One that stays is found by `delete_unfinished`.
            runtime.spawn(async move { store.remove(&temporary).await });
        }
    }
}
