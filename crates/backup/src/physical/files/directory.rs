//! The server's data directory, where it lies on this machine and may be read.

use super::control::Control;
use crate::{Error, wal::system_identifier};
use pgbosun_postgres::Server;
use sqlx::{Connection, PgConnection};
use std::{
    fs, io,
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
    time::Duration,
};

/// A data directory here that is that of the server.
#[derive(Clone, Debug)]
pub(crate) struct DataDirectory {
    root: PathBuf,
    /// Pages carry checksums.
    pub(super) checksums: bool,
    /// As `server_version_num`.
    pub(super) server_version: i32,
}

impl DataDirectory {
    /// The server's data directory, or why it cannot be read.
    ///
    /// The server and we must see the same `postmaster.pid`, and the same system identifier: a server elsewhere may well
    /// have its data under a path that exists here, too.
    pub async fn find(server: &Server, system_id: &str) -> Result<Result<Self, Error>, Error> {
        let mut connection = server.connect().await?;
        let found = Self::ask(&mut connection).await;
        let _ = connection.close().await;
        Ok(found?.and_then(|(data, pid)| data.check(&pid, system_id).map(|()| data)))
    }

    /// What the server says of its data directory, with its `postmaster.pid`.
    async fn ask(connection: &mut PgConnection) -> Result<Result<(Self, String), Error>, Error> {
        let asked = sqlx::query_as(include_str!("directory.sql")).fetch_one(&mut *connection).await;
        let failed = || Error::query("look up the data directory");
        let (root, may_start, usual, checksums, server_version): (Option<String>, bool, bool, bool, i32) =
            asked.map_err(failed())?;
        let refused = |reason: &str| Ok(Err(Error::Refused(reason.into())));
        if !may_start {
            return refused("the role may not call pg_backup_start and pg_backup_stop");
        }
        if !usual {
            return refused("the server was built with a different block or segment size");
        }
        let Some(root) = root else {
            return refused("the role cannot see data_directory: it is not a member of pg_monitor");
        };
        let pid = sqlx::query_scalar("select pg_catalog.pg_read_file('postmaster.pid')").fetch_one(connection).await;
        match pid {
            Ok(pid) => Ok(Ok((Self { root: root.into(), checksums, server_version }, pid))),
            Err(sqlx::Error::Database(error)) if error.code().is_some_and(|code| code == "42501") => {
                refused(&format!("the role may not read postmaster.pid: {}", error.message()))
            }
            Err(error) => Err(failed()(error)),
        }
    }

    fn check(&self, pid: &str, system_id: &str) -> Result<(), Error> {
        let refused = |reason: &str| Error::Refused(format!("{} {reason}", self.root.display()));
        let path = self.root.join("postmaster.pid");
        // Read by group or capability, one file that is its owner's alone would end every backup.
        let owner = fs::metadata(&self.root).map(|metadata| metadata.uid()).ok();
        let user = nix::unistd::geteuid();
        if !user.is_root() && owner.is_some_and(|owner| owner != user.as_raw()) {
            return Err(refused("belongs to another user"));
        }
        let here = fs::read_to_string(&path).map_err(|error| match error.kind() {
            io::ErrorKind::NotFound => refused("is not on this machine"),
            _ => Error::file("read", &path)(error),
        })?;
        if here != pid || system_identifier(&self.root)? != system_id {
            return Err(refused("here belongs to another server"));
        }
        match self.hidden_tablespace(Control::read(&self.root)?.catalogue) {
            Some(path) => Err(Error::Refused(format!("the tablespace {} cannot be seen from here", path.display()))),
            None => Ok(()),
        }
    }

    /// Whether this session's server still is the one whose files are read.
    pub async fn is_served_by(&self, session: &mut PgConnection) -> Result<bool, Error> {
        let pid: String = sqlx::query_scalar("select pg_catalog.pg_read_file('postmaster.pid')")
            .fetch_one(session)
            .await
            .map_err(Error::query("look up the data directory"))?;
        Ok(fs::read_to_string(self.root.join("postmaster.pid")).is_ok_and(|here| here == pid))
    }

    /// Tablespaces as links: their names below `pg_tblspc` and where they lead.
    pub fn tablespaces(&self) -> Vec<(PathBuf, PathBuf)> {
        let directory = self.root.join("pg_tblspc");
        let names = fs::read_dir(&directory).into_iter().flatten().flatten().map(|entry| entry.path());
        names.filter_map(|path| fs::read_link(&path).ok().map(|location| (path, location))).collect()
    }

    /// The name of this version's directory in a tablespace.
    pub fn version_directory(&self, catalogue: u32) -> String {
        format!("PG_{}_{catalogue}", self.server_version / 10_000)
    }

    /// A tablespace whose contents are not where its link leads, as in a container that mounts the data directory alone.
    /// Its directory is there as long as the tablespace is; one that is being dropped gets a moment.
    pub fn hidden_tablespace(&self, catalogue: u32) -> Option<PathBuf> {
        let version = self.version_directory(catalogue);
        let hidden = || self.tablespaces().into_iter().find(|(link, _)| !link.join(&version).is_dir());
        hidden()?;
        std::thread::sleep(Duration::from_secs(1));
        hidden().map(|(_, location)| location)
    }

    /// Where it lies.
    pub fn root(&self) -> &Path {
        &self.root
    }
}

#[cfg(test)]
impl DataDirectory {
    /// One of a server that never ran.
    pub fn for_test(root: &Path) -> Self {
        Self { root: root.to_owned(), checksums: true, server_version: 150_000 }
    }
}
