//! A part of a cluster as of a time: the whole is recovered in a scratch server, and `pg_dump` takes from there what is
//! wanted. What is dumped goes into a file, or straight into a live database, all of it or nothing.

use crate::{
    Error, Progress,
    restore::{Existing, Plan, Recovery, Restore},
    restore_test::Directory,
    scratch::Scratch,
};
use chrono::{DateTime, Utc};
use pgbosun_postgres::{GroupChild, Server};
use sqlx::Connection;
use std::{
    collections::BTreeMap,
    ffi::OsString,
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    process::Stdio,
    sync::Arc,
    time::Duration,
};
use tokio::{io::AsyncReadExt, process::Command};
use tokio_util::sync::CancellationToken;

/// A copy of a cluster to take something from.
#[derive(Clone, Debug)]
pub struct ScratchCopy {
    /// Which state.
    pub plan: Plan,
    /// How it recovers.
    pub recovery: Option<Recovery>,
    /// Where the scratch server may live.
    pub directory: PathBuf,
    /// The programs of its version.
    pub programs: PathBuf,
    /// How long it may take to recover.
    pub recovery_timeout: Duration,
    /// Told how far it is.
    pub progress: Arc<Progress>,
    /// Ends it.
    pub cancel: CancellationToken,
}

/// What is taken.
#[derive(Clone, Debug)]
pub struct DumpWhat {
    /// The database.
    pub database: String,
    /// `--table` or `--schema` with its pattern; everything without.
    pub only: Option<(String, String)>,
}

/// What is taken, and where it goes.
#[derive(Clone, Debug)]
pub struct Dump {
    /// What.
    pub what: DumpWhat,
    /// A file, or a database of a live server.
    pub to: Result<PathBuf, (Server, String)>,
}

impl ScratchCopy {
    /// Recovers, dumps, and removes the copy. Returns the state that was recovered.
    ///
    /// # Errors
    /// Whatever went wrong; a live database is then as it was.
    pub async fn dump(&self, dump: &Dump) -> Result<DateTime<Utc>, Error> {
        let info = &self.plan.info;
        let directory = Directory::create(&self.directory)?;
        let place = |oid: u32| directory.path.join("tablespaces").join(oid.to_string());
        let tablespaces: BTreeMap<String, PathBuf> =
            info.tablespaces.iter().map(|space| (space.location.clone(), place(space.oid))).collect();
        let restore = Restore {
            repository: self.plan.repository.clone(),
            info: info.clone(),
            target: directory.path.join("data"),
            existing: Existing::Refuse,
            tablespaces,
            keep_archiving: false,
            recovery: self.recovery.clone(),
            max_rate: None,
            progress: Arc::clone(&self.progress),
            cancel: self.cancel.clone(),
        };
        restore.run().await?;
        let recovery = self.recovery.as_ref();
        let limit = self.recovery_timeout;
        let scratch = Scratch::start(&self.programs, &directory.path, info, recovery, limit, &self.cancel).await?;
        let done = tokio::select! {
            done = self.take(&scratch, dump) => done,
            () = self.cancel.cancelled() => Err(Error::Cancelled),
        };
        scratch.stop().await;
        done
    }

    async fn take(&self, scratch: &Scratch, dump: &Dump) -> Result<DateTime<Utc>, Error> {
        let source = scratch.server(&dump.what.database);
        let mut connection = source.connect().await?;
        let last: Option<DateTime<Utc>> = sqlx::query_scalar("select pg_catalog.pg_last_xact_replay_timestamp()")
            .fetch_one(&mut connection)
            .await
            .map_err(Error::query("ask for the last transaction"))?;
        let _ = connection.close().await;
        let mut command = pg_dump(&self.programs, &source, &dump.what);
        match &dump.to {
            Ok(path) if path.as_os_str() == "-" => run(command.stdout(Stdio::inherit()), "pg_dump").await?,
            Ok(path) => {
                let temporary = path.with_extension("pgbosun-unfinished");
                let done = run(command.arg("--file").arg(&temporary).stdout(Stdio::null()), "pg_dump").await;
                let placed = done.and_then(|()| publish(&temporary, path));
                if placed.is_err() {
                    let _ = std::fs::remove_file(&temporary);
                }
                placed?;
            }
            Err((server, database)) => {
                // Through a file: what cannot be dumped whole is not loaded in part.
                let file = scratch.directory().join("dump.sql");
                run(command.arg("--file").arg(&file).stdout(Stdio::null()), "pg_dump").await?;
                load(&self.programs, server, database, &file).await?;
            }
        }
        Ok(last.unwrap_or(self.plan.info.finished_at))
    }
}

/// Dumps out of a scratch server what nobody wants: to see that it can be had, and how long that takes.
pub(crate) async fn try_dump(programs: &Path, scratch: &Scratch, database: &str, table: &str) -> Result<(), Error> {
    let server = scratch.server(database);
    // The rows of a partitioned table are its children's; pg_dump knows that option from 16 on.
    let major = server.connect().await?.server_version_num().unwrap_or_default() / 10_000;
    let flag = if major >= 16 { "--table-and-children" } else { "--table" };
    let what = DumpWhat { database: database.to_owned(), only: Some((flag.to_owned(), table.to_owned())) };
    let mut command = pg_dump(programs, &server, &what);
    run(command.args(["--file", "/dev/null"]).stdout(Stdio::null()), "pg_dump").await
}

fn pg_dump(programs: &Path, source: &Server, what: &DumpWhat) -> Command {
    let mut command = Command::new(programs.join("pg_dump"));
    command.args(connection_arguments(source)).arg("--dbname").arg(&source.conninfo.database);
    if let Some((flag, pattern)) = &what.only {
        command.arg(format!("{flag}={pattern}"));
    }
    command
}

fn publish(temporary: &Path, path: &Path) -> Result<(), Error> {
    let failed = || Error::file("write", path);
    let file = std::fs::File::open(temporary).map_err(failed())?;
    file.set_permissions(std::fs::Permissions::from_mode(0o600)).map_err(failed())?;
    file.sync_all().map_err(failed())?;
    std::fs::rename(temporary, path).map_err(failed())
}

fn connection_arguments(server: &Server) -> Vec<OsString> {
    let Some(host) = server.conninfo.hosts.first() else { return Vec::new() };
    ["--host", &host.name, "--port", &host.port.to_string(), "--username", &server.conninfo.user]
        .into_iter()
        .map(OsString::from)
        .collect()
}

/// Loads in one transaction: all of it or nothing.
async fn load(programs: &Path, server: &Server, database: &str, file: &Path) -> Result<(), Error> {
    let (server, _) = crate::member(server, false).await?;
    let mut command = Command::new(programs.join("psql"));
    command.args(["-X", "--quiet", "--single-transaction", "--set", "ON_ERROR_STOP=1", "--output", "/dev/null"]);
    command.args(connection_arguments(&server)).arg("--dbname").arg(database).arg("--file").arg(file);
    // C25: a password goes by the environment, never by the arguments.
    if let Some(password) = server.conninfo.hosts.first().and_then(|host| server.conninfo.password_for(host)) {
        command.env("PGPASSWORD", password.expose());
    }
    run(command.stdout(Stdio::null()), "psql").await
}

async fn run(command: &mut Command, name: &str) -> Result<(), Error> {
    let failed = |words: String| Error::Scratch(format!("{name}: {words}"));
    let spawned = GroupChild::spawn(command.stdin(Stdio::null()).stderr(Stdio::piped()));
    let mut child = spawned.map_err(|error| failed(error.to_string()))?;
    let mut errors = String::new();
    if let Some(mut complaints) = child.child().stderr.take() {
        let _ = complaints.read_to_string(&mut errors).await;
    }
    let status = child.wait().await.map_err(|error| failed(error.to_string()))?;
    if status.success() { Ok(()) } else { Err(failed(errors.trim().to_owned())) }
}
