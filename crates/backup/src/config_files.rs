//! The server's configuration files, wherever they lie: what its settings name, and what these files include.
//!
//! Invariants: they are read as the server reads them, by the server itself; where the role may not, and the server is on this machine,
//! by us. A backup never fails for one that cannot be read: it goes without it, and the log says so ([`ConfigFiles::warn`]). What holds a private key is marked, so that
//! it only goes where it is encrypted. Sizes and numbers are bounded.

mod named;
mod put_back;

pub(crate) use put_back::{CERTIFICATES, DIRECTORY, OUTSIDE, PutBack, UNPACKED, differing, fill_in, put_back, settle};

use crate::{
    Error,
    physical::DataDirectory,
    settings::{CREDENTIALS, is_read_in},
};
use named::{absolute, auth_names, setting_names};
use pgbosun_core::human;
use pgbosun_postgres::Server;
use sqlx::{Connection, PgConnection};
use std::{
    collections::{BTreeMap, BTreeSet, HashSet, VecDeque},
    io::Read,
    os::unix::fs::OpenOptionsExt,
    path::{Path, PathBuf},
    time::Duration,
};

/// The three that every server has, and their names in a backup, which `docs/restore-by-hand.md` knows.
const MAIN: [(&str, &str); 3] =
    [("config_file", "postgresql.conf"), ("hba_file", "pg_hba.conf"), ("ident_file", "pg_ident.conf")];

/// Beside these and [`CREDENTIALS`], what a server of PostgreSQL 19 has for each name it goes by.
const HOSTS: &str = "hosts_file";

/// What of these is a secret whatever is in it.
const KEYS: [&str; 2] = ["ssl_key_file", "krb_server_keyfile"];

/// Bytes of a file, files, and bytes of all, that are taken at most: far beyond any configuration.
const LARGEST: u64 = 16 << 20;
const MOST: usize = 1000;
const ALL: u64 = 64 << 20;

/// How long all of it may take: a file may lie on a share that hangs.
const PATIENCE: Duration = Duration::from_secs(60);

/// One file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct ConfigFile {
    /// Where it is, as the server names it.
    pub path: PathBuf,
    pub bytes: Vec<u8>,
    pub kind: Kind,
}

/// How far one may go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// Anywhere.
    Plain,
    /// Without its key it keeps a server with another key from starting: it is in the backup, and goes back only beside its key.
    Certificate,
    /// It holds a private key, and goes only where it is encrypted.
    Secret,
}

/// All of a server's.
#[derive(Clone, Debug, Default)]
pub(crate) struct ConfigFiles {
    data_directory: PathBuf,
    main: Vec<(&'static str, PathBuf)>,
    files: Vec<ConfigFile>,
    left_out: Vec<LeftOut>,
}

/// What could not be read, and why; without a path all of it.
#[derive(Clone, Debug)]
struct LeftOut {
    path: Option<PathBuf>,
    reason: String,
}

impl ConfigFiles {
    /// Reads them. Whatever cannot be read is left out.
    pub async fn read(server: &Server, system_id: &str) -> Self {
        let mut found = Self::default();
        let reason = match tokio::time::timeout(PATIENCE, found.collect(server, system_id)).await {
            Ok(Ok(())) => return found,
            Ok(Err(error)) => human::chain(&error),
            Err(_) => format!("reading did not finish within {}", human::duration(PATIENCE)),
        };
        found.left_out.push(LeftOut { path: None, reason });
        found
    }

    /// What of them lies in the data directory, by the paths from there: whether a backup's data has it is asked of these alone.
    pub fn inside(&self) -> HashSet<&str> {
        let left_out = self.left_out.iter().filter_map(|left_out| left_out.path.as_ref());
        let all = self.files.iter().map(|file| &file.path).chain(left_out);
        all.filter_map(|path| path.strip_prefix(&self.data_directory).ok()?.to_str()).collect()
    }

    /// Says in the log what could not be read, but for what is `in_data`.
    pub fn warn(&self, in_data: impl Fn(&str) -> bool) {
        for LeftOut { path, reason } in &self.left_out {
            let inside = path.as_ref().and_then(|path| path.strip_prefix(&self.data_directory).ok()?.to_str());
            if !inside.is_some_and(&in_data) {
                tracing::warn!("configuration file not backed up: {reason}");
            }
        }
    }

    /// Their names in the volume of a backup with their contents: the three main ones by their usual names, all by where they lie
    /// ([`DIRECTORY`]). Those in the data directory that are `in_data` are there already; one that is not is linked from elsewhere.
    pub fn members(&self, with_secrets: bool, in_data: impl Fn(&str) -> bool) -> Vec<(String, &[u8])> {
        let mut members = BTreeMap::new();
        let has_key = with_secrets && self.files.iter().any(|file| file.kind == Kind::Secret);
        for (name, path) in &self.main {
            let file = self.files.iter().find(|file| file.path == *path);
            let file = file.filter(|file| with_secrets || file.kind != Kind::Secret);
            members.extend(file.map(|file| ((*name).to_owned(), file.bytes.as_slice())));
        }
        for file in &self.files {
            let name = match file.path.strip_prefix(&self.data_directory).ok().and_then(Path::to_str) {
                _ if file.kind == Kind::Secret && !with_secrets => continue,
                Some(inside) if in_data(inside) => continue,
                _ if file.kind == Kind::Certificate && !has_key => {
                    format!("{}{}", CERTIFICATES, file.path.display())
                }
                Some(inside) => format!("{}/{inside}", put_back::INSIDE),
                None => format!("{}{}", OUTSIDE, file.path.display()),
            };
            members.insert(name, file.bytes.as_slice());
        }
        members.into_iter().collect()
    }

    async fn collect(&mut self, server: &Server, system_id: &str) -> Result<(), Error> {
        let mut connection = server.connect().await?;
        let asked: Vec<&str> =
            MAIN.iter().map(|(setting, _)| *setting).chain(CREDENTIALS).chain([HOSTS, "data_directory"]).collect();
        let settings: BTreeMap<String, String> = sqlx::query_as(include_str!("inspect/settings.sql"))
            .bind(&asked)
            .fetch_all(&mut connection)
            .await
            .map_err(Error::query("read the paths of the configuration files"))?
            .into_iter()
            .filter(|(_, value): &(String, String)| !value.is_empty())
            .collect();
        let Some(root) = settings.get("data_directory").map(PathBuf::from) else {
            let _ = connection.close().await;
            let reason = "the role cannot see where they are: it is not a member of pg_monitor".into();
            self.left_out.push(LeftOut { path: None, reason });
            return Ok(());
        };
        self.data_directory.clone_from(&root);
        let main: Vec<_> = MAIN
            .iter()
            .filter_map(|(setting, name)| Some((*name, absolute(&root, settings.get(*setting)?)?)))
            .collect();
        self.main.clone_from(&main);
        let files = Files { connection, server, system_id, here: None };
        let mut walk = Walk { files, found: self, waiting: VecDeque::new(), seen: BTreeSet::new() };
        for (name, path) in main {
            let grammar = if name == "postgresql.conf" { Grammar::Settings } else { Grammar::Auth };
            walk.waiting.push_back((path, grammar));
        }
        for setting in CREDENTIALS.into_iter().chain([HOSTS]) {
            // A key table of Kerberos has its kind before it.
            let named = settings.get(setting).map(|path| path.strip_prefix("FILE:").unwrap_or(path));
            let Some(path) = named.and_then(|path| absolute(&root, path)) else { continue };
            if setting.ends_with("_dir") {
                walk.directory(&path, Grammar::Opaque(Kind::Plain), |_| true).await;
            } else {
                let kind = match setting {
                    _ if KEYS.contains(&setting) => Kind::Secret,
                    "ssl_cert_file" => Kind::Certificate,
                    _ => Kind::Plain,
                };
                walk.waiting.push_back((path, Grammar::Opaque(kind)));
            }
        }
        walk.all().await;
        let Walk { files: Files { connection, .. }, .. } = walk;
        let _ = connection.close().await;
        Ok(())
    }
}

/// What the files are that are still to be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Grammar {
    /// Settings, as `postgresql.conf`.
    Settings,
    /// Lines of `pg_hba.conf` and `pg_ident.conf`.
    Auth,
    /// Whatever a setting names, in which nothing is looked for.
    Opaque(Kind),
}

/// The way from file to file.
struct Walk<'a> {
    files: Files<'a>,
    found: &'a mut ConfigFiles,
    waiting: VecDeque<(PathBuf, Grammar)>,
    seen: BTreeSet<PathBuf>,
}

impl Walk<'_> {
    async fn all(&mut self) {
        while let Some((path, grammar)) = self.waiting.pop_front() {
            if !self.seen.insert(path.clone()) {
                continue;
            }
            let all: u64 = self.found.files.iter().map(|file| file.bytes.len() as u64).sum();
            if self.found.files.len() == MOST || all > ALL {
                let limit = human::size(ALL);
                let reason = format!("{} and those after it: the limit is {MOST} files and {limit}", path.display());
                return self.found.left_out.push(LeftOut { path: None, reason });
            }
            match self.files.read(&path).await {
                // Of a certificate that is not used the setting names the usual place.
                Ok(None) => {}
                Ok(Some(bytes)) if bytes.len() as u64 > LARGEST => {
                    let reason = format!("{} is larger than {}", path.display(), human::size(LARGEST));
                    self.found.left_out.push(LeftOut { path: Some(path), reason });
                }
                Ok(Some(bytes)) => {
                    self.follow(&path, grammar, &bytes).await;
                    let kind = match grammar {
                        _ if has_private_key(&bytes) => Kind::Secret,
                        Grammar::Opaque(kind) => kind,
                        Grammar::Settings | Grammar::Auth => Kind::Plain,
                    };
                    self.found.files.push(ConfigFile { path, bytes, kind });
                }
                Err(error) => self.found.left_out.push(LeftOut { reason: human::chain(&error), path: Some(path) }),
            }
        }
    }

    /// Looks into what was read for the names of others.
    async fn follow(&mut self, path: &Path, grammar: Grammar, bytes: &[u8]) {
        let named = match grammar {
            Grammar::Settings => setting_names(bytes),
            Grammar::Auth => auth_names(bytes),
            Grammar::Opaque(_) => return,
        };
        let from = path.parent().unwrap_or(&self.found.data_directory).to_owned();
        for name in named {
            let Some(found) = absolute(&from, &name.path) else { continue };
            match name.is_directory {
                true => self.directory(&found, grammar, is_read_in).await,
                false => self.waiting.push_back((found, grammar)),
            }
        }
    }

    async fn directory(&mut self, path: &Path, grammar: Grammar, is_read: impl Fn(&str) -> bool) {
        match self.files.list(path).await {
            Ok(mut names) => {
                names.sort();
                let read = names.iter().filter(|name| is_read(name)).take(MOST + 1);
                self.waiting.extend(read.map(|name| (path.join(name), grammar)));
            }
            Err(error) => self.found.left_out.push(LeftOut { path: None, reason: human::chain(&error) }),
        }
    }
}

/// A certificate may have its key in the same file.
fn has_private_key(bytes: &[u8]) -> bool {
    bytes.windows(16).any(|window| window == b"PRIVATE KEY-----")
}

/// Files as the server sees them.
struct Files<'a> {
    connection: PgConnection,
    server: &'a Server,
    system_id: &'a str,
    /// Whether the server is on this machine, once that was asked.
    here: Option<bool>,
}

impl Files<'_> {
    /// A file's contents, one byte more than may be taken at most; none where there is no such file.
    async fn read(&mut self, path: &Path) -> Result<Option<Vec<u8>>, Error> {
        let limit = LARGEST + 1;
        let asked = sqlx::query_scalar("select /* pgbosun */ pg_catalog.pg_read_binary_file($1, 0, $2, true)")
            .bind(path.to_str())
            .bind(limit.cast_signed())
            .fetch_one(&mut self.connection)
            .await;
        let error = match asked {
            Err(error) if !self.may_look_itself(&error).await => error,
            Ok(bytes) => return Ok(bytes),
            Err(_) => {
                let file = path.to_owned();
                let read = tokio::task::spawn_blocking(move || {
                    // A FIFO would have us wait for its writer.
                    let opened = std::fs::File::options().read(true).custom_flags(nix::libc::O_NONBLOCK).open(&file);
                    let mut bytes = Vec::new();
                    opened.and_then(|file| file.take(limit).read_to_end(&mut bytes)).map(|_| bytes)
                });
                return match read.await.map_err(Error::broke_off("reading a configuration file"))? {
                    Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
                    read => read.map(Some).map_err(Error::file("read", path)),
                };
            }
        };
        // A role that was granted this one reads texts by it.
        let text = sqlx::query_scalar::<_, Option<String>>("select /* pgbosun */ pg_catalog.pg_read_file($1)")
            .bind(path.to_str())
            .fetch_one(&mut self.connection)
            .await;
        if let Ok(Some(text)) = text {
            return Ok(Some(text.into_bytes()));
        }
        Err(pgbosun_postgres::Error::Query { what: format!("read {}", path.display()), source: error }.into())
    }

    /// The names in a directory; none where there is none.
    async fn list(&mut self, path: &Path) -> Result<Vec<String>, Error> {
        let asked = sqlx::query_scalar("select /* pgbosun */ pg_catalog.pg_ls_dir($1, true, false)")
            .bind(path.to_str())
            .fetch_all(&mut self.connection)
            .await;
        match asked {
            Ok(names) => Ok(names),
            Err(error) if self.may_look_itself(&error).await => {
                let directory = path.to_owned();
                let read = tokio::task::spawn_blocking(move || {
                    let names = std::fs::read_dir(directory)?.flatten().take(MOST + 1);
                    Ok::<Vec<String>, std::io::Error>(
                        names.filter_map(|entry| entry.file_name().into_string().ok()).collect(),
                    )
                });
                match read.await.map_err(Error::broke_off("looking for configuration files"))? {
                    Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(Vec::new()),
                    read => read.map_err(Error::file("list", path)),
                }
            }
            Err(source) => {
                Err(pgbosun_postgres::Error::Query { what: format!("list {}", path.display()), source }.into())
            }
        }
    }

    /// Whether the server refused it to the role, and its files are here.
    async fn may_look_itself(&mut self, error: &sqlx::Error) -> bool {
        let refused = error.as_database_error().and_then(|error| error.code()).is_some_and(|code| code == "42501");
        if refused && self.here.is_none() {
            self.here = Some(matches!(DataDirectory::find(self.server, self.system_id).await, Ok(Ok(_))));
        }
        refused && self.here == Some(true)
    }
}
