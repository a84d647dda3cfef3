//! A scratch server: started on a restored directory with our own configuration, on a private socket, and always
//! stopped and removed (C21).

use crate::{
    Error, fence,
    restore::{Recovery, recovery_settings},
    settings,
};
use nix::sys::signal::Signal;
use pgbosun_postgres::{Conninfo, GroupChild, Server, SessionSettings, conninfo::Host};
use pgbosun_repository::BackupInfo;
use sqlx::Connection;
use std::{
    fs,
    os::unix::fs::{DirBuilderExt, MetadataExt},
    path::{Path, PathBuf},
    process::Stdio,
    time::{Duration, Instant},
};
use tokio::process::Command;
use tokio_util::sync::CancellationToken;

/// The programs of a major version: where Debian, Red Hat and hand-made installations put them.
///
/// # Errors
/// [`Error::Refused`] with the places that were checked.
pub fn find_programs(version: &str, configured: Option<&Path>) -> Result<PathBuf, Error> {
    let major = version.split(|c: char| !c.is_ascii_digit()).next().unwrap_or_default();
    let places = match configured {
        Some(directory) => vec![directory.to_owned()],
        None => vec![
            format!("/usr/lib/postgresql/{major}/bin").into(),
            format!("/usr/pgsql-{major}/bin").into(),
            format!("/usr/local/pgsql-{major}/bin").into(),
            format!("/opt/pg{major}/usr/lib/postgresql/{major}/bin").into(),
            "/usr/local/pgsql/bin".into(),
        ],
    };
    places.iter().find(|place| place.join("postgres").exists()).cloned().ok_or_else(|| {
        let tried: Vec<_> = places.iter().map(|place| place.display().to_string()).collect();
        Error::Refused(format!(
            "no PostgreSQL {major} server program in {}; install postgresql-{major}, or set program-directory",
            tried.join(", ")
        ))
    })
}

/// A running scratch server.
#[derive(Debug)]
pub(crate) struct Scratch {
    child: Option<GroupChild>,
    directory: PathBuf,
    /// Where its socket lies.
    socket: PathBuf,
    /// That directory, where it is one of its own; it goes with this value.
    _short: Option<SocketDirectory>,
    user: String,
}

/// Tells `wal fetch` behind the fence where it may read ahead: the spool is out of its reach.
pub const AHEAD_VARIABLE: &str = "PGBOSUN_AHEAD_DIRECTORY";

/// A directory with a short path, for the socket of a server whose own path is too long.
#[derive(Debug)]
pub(crate) struct SocketDirectory(PathBuf);

/// The longest path of a directory in which a server can have its socket: a socket's path has 107 bytes (unix(7)).
const SOCKET_DIRECTORY: usize = 107 - "/.s.PGSQL.5432.lock".len();

impl SocketDirectory {
    /// A new one that only this user may enter, where `directory` is too long for a socket.
    fn beside(directory: &Path) -> Result<Option<Self>, Error> {
        if directory.as_os_str().len() <= SOCKET_DIRECTORY {
            return Ok(None);
        }
        let [first, last] = Self::places(directory);
        let path = if first.as_os_str().len() <= SOCKET_DIRECTORY { first } else { last };
        // Fails where it is there already, whoever made it.
        fs::DirBuilder::new().mode(0o700).create(&path).map_err(Error::file("create", &path))?;
        Ok(Some(Self(path)))
    }

    /// What a process that was killed left for this directory, which has a name of its own.
    pub fn left_by(directory: &Path) -> Option<Self> {
        let own = |path: &PathBuf| {
            let found = fs::symlink_metadata(path);
            found.is_ok_and(|found| found.is_dir() && found.uid() == nix::unistd::geteuid().as_raw())
        };
        Self::places(directory).into_iter().find(own).map(Self)
    }

    /// Where it may lie, by the name of the directory.
    fn places(directory: &Path) -> [PathBuf; 2] {
        let name = directory.file_name().unwrap_or_default().to_string_lossy();
        let name = format!("pgbosun-{}", name.rsplit('-').next().unwrap_or_default());
        [std::env::temp_dir(), PathBuf::from("/tmp")].map(|place| place.join(&name))
    }
}

impl Drop for SocketDirectory {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

impl Scratch {
    /// Starts the server on `directory/data` and waits until it accepts connections, which is when it is consistent.
    pub async fn start(
        programs: &Path,
        directory: &Path,
        info: &BackupInfo,
        recovery: Option<&Recovery>,
        limit: Duration,
        cancel: &CancellationToken,
    ) -> Result<Self, Error> {
        let data = directory.join("data");
        let short = SocketDirectory::beside(directory)?;
        let socket = short.as_ref().map_or(directory, |short| &short.0).to_owned();
        configure(&data, directory, &socket, info, recovery)?;
        let log = directory.join("server.log");
        let output = fs::File::create(&log).map_err(Error::file("create", &log))?;
        let errors = output.try_clone().map_err(Error::file("create", &log))?;
        let program = programs.join("postgres");
        if !fence::is_there() {
            tracing::warn!(
                "this kernel has no Landlock (Linux 5.13): only its settings confine the scratch server to {}",
                directory.display()
            );
        }
        let child = GroupChild::spawn(
            gently(&program, &[directory, &socket])
                .arg("-D")
                .arg(&data)
                .arg("-c")
                .arg(format!("config_file={}", directory.join("scratch.conf").display()))
                .env(AHEAD_VARIABLE, directory.join("ahead"))
                .stdin(Stdio::null())
                .stdout(output)
                .stderr(errors),
        )
        .map_err(Error::file("start", &program))?;
        let mut scratch = Self {
            child: Some(child),
            directory: directory.to_owned(),
            socket,
            _short: short,
            user: info.superuser.clone(),
        };
        let started = scratch.wait_until_ready(&log, limit, cancel).await;
        match started {
            Ok(()) => Ok(scratch),
            Err(error) => {
                scratch.stop().await;
                Err(error)
            }
        }
    }

    async fn wait_until_ready(&mut self, log: &Path, limit: Duration, cancel: &CancellationToken) -> Result<(), Error> {
        let begun = Instant::now();
        let server = self.server("postgres");
        let last_words = || {
            let text = fs::read_to_string(log).unwrap_or_default();
            let lines: Vec<_> = text.lines().rev().take(12).collect();
            lines.into_iter().rev().collect::<Vec<_>>().join("\n")
        };
        loop {
            if cancel.is_cancelled() {
                return Err(Error::Cancelled);
            }
            if self.child.as_mut().is_none_or(GroupChild::has_ended) {
                return Err(Error::Scratch(format!("it ended instead of recovering:\n{}", last_words())));
            }
            match server.connect().await {
                Ok(mut connection) => {
                    let recovering = sqlx::query_scalar("select pg_catalog.pg_is_in_recovery()");
                    let recovering: bool = recovering.fetch_one(&mut connection).await.unwrap_or(true);
                    let _ = connection.close().await;
                    if !recovering {
                        return Ok(());
                    }
                }
                // "Starting up" and the like pass; a role or database that is not there does not.
                Err(error) if !error.is_transient() => {
                    let cause = std::error::Error::source(&error).map(ToString::to_string).unwrap_or_default();
                    return Err(Error::Scratch(format!("it recovered, but cannot be queried: {cause}")));
                }
                Err(_) => {}
            }
            if begun.elapsed() > limit {
                return Err(Error::Scratch(format!("it did not recover within {limit:?}:\n{}", last_words())));
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }

    /// Where it lives, and may keep files until it is removed.
    pub fn directory(&self) -> &Path {
        &self.directory
    }

    /// The server as a place to connect to.
    pub fn server(&self, database: &str) -> Server {
        let host = Host { name: self.socket.display().to_string(), port: PORT };
        let mut conninfo = Conninfo::local(host, &self.user, database);
        // Whatever the copied databases say: programs get this too.
        conninfo.options.push(("role".into(), "none".into()));
        Server {
            conninfo,
            connect_timeout: Duration::from_secs(5),
            statement_timeout: Duration::ZERO,
            lock_timeout: Duration::from_secs(10),
            session: SessionSettings::Ours,
        }
    }

    /// Stops the server: fast, then by force, its whole process group.
    pub async fn stop(mut self) {
        if let Some(child) = self.child.take() {
            child.end(Signal::SIGINT, Duration::from_secs(30)).await;
        }
    }
}

/// Behind a fence (C29), and a test must not slow down what it shares the machine with: the server runs with the lowest priority
/// for processor and disk, where the programs for that are installed.
fn gently(program: &Path, writable: &[&Path]) -> Command {
    let mut command = fence::command(writable);
    let found = |name: &str| ["/usr/bin", "/bin"].iter().map(|place| Path::new(place).join(name)).find(|p| p.exists());
    if let (Some(nice), Some(ionice)) = (found("nice"), found("ionice")) {
        command.arg(nice).args(["-n", "10"]).arg(ionice).args(["-t", "-c", "2", "-n", "7"]);
    }
    command.arg(program);
    command
}

/// Only names the socket: no scratch server listens on a network.
const PORT: u16 = 5432;

/// C21: our configuration, not the original's: nothing of production runs in a scratch server.
fn configure(
    data: &Path,
    directory: &Path,
    socket: &Path,
    info: &BackupInfo,
    recovery: Option<&Recovery>,
) -> Result<(), Error> {
    let write = |path: PathBuf, text: &str| fs::write(&path, text).map_err(Error::file("write", path));
    let place = |name: &str, path: &Path| settings::line(name, &path.display().to_string());
    let mut text = format!(
        "listen_addresses = ''\nport = {PORT}\nunix_socket_permissions = 0700\n\
         archive_mode = off\narchive_command = ''\nrestore_command = ''\nshared_preload_libraries = ''\n\
         max_logical_replication_workers = 0\nautovacuum = off\njit = off\nlogging_collector = off\n\
         log_destination = 'stderr'\nprimary_conninfo = ''\nssl = off\nallow_in_place_tablespaces = on\n\
         hot_standby = off\nlc_messages = 'C'\n\
         cluster_name = 'pgbosun restore test'\n"
    );
    text.push_str(&place("unix_socket_directories", socket));
    text.push_str(&place("hba_file", &directory.join("scratch_hba.conf")));
    text.push_str(&place("ident_file", &directory.join("scratch_ident.conf")));
    // Login event triggers, from 17 on, would run production's code as the role that looks around.
    if info.server_version.split('.').next().and_then(|major| major.parse().ok()).is_some_and(|major: u32| major >= 17)
    {
        text.push_str("event_triggers = off\n");
    }
    text.push_str(&settings::of_scratch(info));
    if let Some(recovery) = recovery {
        text.push_str(&recovery_settings(recovery));
    }
    write(directory.join("scratch.conf"), &text)?;
    write(directory.join("scratch_hba.conf"), "local all all trust\n")?;
    write(directory.join("scratch_ident.conf"), "")?;
    // It would override ours.
    write(data.join("postgresql.auto.conf"), "")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn c21_a_socket_has_a_short_path_wherever_the_scratch_directory_is_and_goes_with_it() {
        let parent = tempfile::tempdir().unwrap();
        let directory =
            parent.path().join("x".repeat(100)).join(format!("pgbosun-restore-test-{}", uuid::Uuid::new_v4().simple()));
        let made = SocketDirectory::beside(&directory).unwrap().unwrap();
        let path = made.0.clone();
        assert!(path.is_dir() && path.as_os_str().len() <= SOCKET_DIRECTORY);
        // Killed: nothing is dropped; the next one that looks knows whose it was.
        std::mem::forget(made);
        drop(SocketDirectory::left_by(&directory).unwrap());
        assert!(!path.exists());
        assert!(SocketDirectory::beside(Path::new("/srv/short")).unwrap().is_none());
    }
}
