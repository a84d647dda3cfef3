//! The server's configuration files, wherever they lie: what its settings name, and what these files include.
//!
//! Invariants: they are read as the server reads them, by the server itself; where the role may not, and the server is on this machine,
//! by us. A backup never fails for one that cannot be read: it goes without it, and the log says so. What holds a private key is marked, so that
//! it only goes where it is encrypted. Sizes and numbers are bounded.

mod named;
mod put_back;

pub(crate) use put_back::{CERTIFICATES, DIRECTORY, PutBack, differing, fill_in, put_back};

use crate::{Error, physical::DataDirectory, settings::is_read_in};
use named::{absolute, auth_names, setting_names};
use pgbosun_core::human;
use pgbosun_postgres::Server;
use sqlx::{Connection, PgConnection};
use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    io::Read,
    os::unix::fs::OpenOptionsExt,
    path::{Path, PathBuf},
    time::Duration,
};

/// The three that every server has, and their names in a backup, which `docs/restore-by-hand.md` knows.
const MAIN: [(&str, &str); 3] =
    [("config_file", "postgresql.conf"), ("hba_file", "pg_hba.conf"), ("ident_file", "pg_ident.conf")];

/// Other settings that name a file or, as `ssl_crl_dir`, a directory of them (PostgreSQL: `guc_tables.c`).
const OTHERS: [&str; 8] = [
    "hosts_file",
    "ssl_cert_file",
    "ssl_key_file",
    "ssl_ca_file",
    "ssl_crl_file",
    "ssl_crl_dir",
    "ssl_dh_params_file",
    "krb_server_keyfile",
];

/// What of these is a secret whatever is in it.
const KEYS: [&str; 2] = ["ssl_key_file", "krb_server_keyfile"];

/// Bytes of a file, and files, that are taken at most: far beyond any configuration.
const LARGEST: u64 = 16 << 20;
const MOST: usize = 1000;

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
}

impl ConfigFiles {
    /// Reads them. Whatever cannot be read is left out, and said in the log.
    pub async fn read(server: &Server, system_id: &str) -> Self {
        let reading = tokio::time::timeout(PATIENCE, collect(server, system_id));
        let (found, left_out) = match reading.await {
            Ok(Ok(read)) => read,
            Ok(Err(error)) => (Self::default(), vec![human::chain(&error)]),
            Err(_) => (Self::default(), vec![format!("not read within {}", human::duration(PATIENCE))]),
        };
        for reason in &left_out {
            tracing::warn!("a configuration file is not in the backup: {reason}");
        }
        found
    }

    /// Their names in the volume of a backup with their contents: the three main ones by their usual names, all by where they lie
    /// ([`DIRECTORY`]). Those in the data directory that are `in_data` are there already; one that is not is linked from elsewhere.
    pub fn members(&self, with_secrets: bool, in_data: impl Fn(&str) -> bool) -> Vec<(String, &[u8])> {
        let mut members = BTreeMap::new();
        for (name, path) in &self.main {
            let file = self.files.iter().find(|file| file.path == *path);
            members.extend(file.map(|file| ((*name).to_owned(), file.bytes.as_slice())));
        }
        for file in &self.files {
            let name = match file.path.strip_prefix(&self.data_directory).ok().and_then(Path::to_str) {
                _ if file.kind == Kind::Secret && !with_secrets => continue,
                Some(inside) if in_data(inside) => continue,
                _ if file.kind == Kind::Certificate && !with_secrets => {
                    format!("{}{}", put_back::CERTIFICATES, file.path.display())
                }
                Some(inside) => format!("{}/{inside}", put_back::INSIDE),
                None => format!("{}{}", put_back::OUTSIDE, file.path.display()),
            };
            members.insert(name, file.bytes.as_slice());
        }
        members.into_iter().collect()
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

async fn collect(server: &Server, system_id: &str) -> Result<(ConfigFiles, Vec<String>), Error> {
    let mut connection = server.connect().await?;
    let asked: Vec<&str> = MAIN.iter().map(|(setting, _)| *setting).chain(OTHERS).chain(["data_directory"]).collect();
    let settings: BTreeMap<String, String> = sqlx::query_as(include_str!("inspect/settings.sql"))
        .bind(&asked)
        .fetch_all(&mut connection)
        .await
        .map_err(Error::query("read where the configuration files are"))?
        .into_iter()
        .filter(|(_, value): &(String, String)| !value.is_empty())
        .collect();
    let Some(root) = settings.get("data_directory").map(PathBuf::from) else {
        let _ = connection.close().await;
        return Ok((
            ConfigFiles::default(),
            vec!["the role may not see where they are: it is not in pg_monitor".into()],
        ));
    };
    let mut walk = Walk {
        files: Files { connection, server, system_id, here: None },
        root: root.clone(),
        waiting: VecDeque::new(),
        seen: BTreeSet::new(),
        found: Vec::new(),
        left_out: Vec::new(),
    };
    let mut main = Vec::new();
    for (setting, name) in MAIN {
        if let Some(path) = settings.get(setting).and_then(|path| absolute(&root, path)) {
            let grammar = if setting == "config_file" { Grammar::Settings } else { Grammar::Auth };
            walk.waiting.push_back((path.clone(), grammar));
            main.push((name, path));
        }
    }
    for setting in OTHERS {
        let Some(path) = settings.get(setting).and_then(|path| absolute(&root, path)) else { continue };
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
    let Walk { files: Files { connection, .. }, found, left_out, .. } = walk;
    let _ = connection.close().await;
    Ok((ConfigFiles { data_directory: root, main, files: found }, left_out))
}

/// The way from file to file.
struct Walk<'a> {
    files: Files<'a>,
    root: PathBuf,
    waiting: VecDeque<(PathBuf, Grammar)>,
    seen: BTreeSet<PathBuf>,
    found: Vec<ConfigFile>,
    left_out: Vec<String>,
}

impl Walk<'_> {
    async fn all(&mut self) {
        while let Some((path, grammar)) = self.waiting.pop_front() {
            if !self.seen.insert(path.clone()) {
                continue;
            }
            if self.found.len() == MOST {
                self.left_out.push(format!("{} and what comes after it: {MOST} files are taken", path.display()));
                return;
            }
            match self.files.read(&path).await {
                // Of a certificate that is not used the setting names the usual place.
                Ok(None) => {}
                Ok(Some(bytes)) if bytes.len() as u64 > LARGEST => {
                    self.left_out.push(format!("{} is larger than {}", path.display(), human::size(LARGEST)));
                }
                Ok(Some(bytes)) => {
                    self.follow(&path, grammar, &bytes).await;
                    let kind = match grammar {
                        _ if has_private_key(&bytes) => Kind::Secret,
                        Grammar::Opaque(kind) => kind,
                        Grammar::Settings | Grammar::Auth => Kind::Plain,
                    };
                    self.found.push(ConfigFile { path, bytes, kind });
                }
                Err(error) => self.left_out.push(human::chain(&error)),
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
        let from = path.parent().unwrap_or(&self.root).to_owned();
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
            Err(error) => self.left_out.push(human::chain(&error)),
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
        let asked = sqlx::query_scalar("select pg_catalog.pg_read_binary_file($1, 0, $2, true)")
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
        Err(pgbosun_postgres::Error::Query { what: format!("read {}", path.display()), source: error }.into())
    }

    /// The names in a directory; none where there is none.
    async fn list(&mut self, path: &Path) -> Result<Vec<String>, Error> {
        let asked = sqlx::query_scalar("select pg_catalog.pg_ls_dir($1, true, false)")
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
                    read => read.map_err(Error::file("look into", path)),
                }
            }
            Err(source) => {
                Err(pgbosun_postgres::Error::Query { what: format!("look into {}", path.display()), source }.into())
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
