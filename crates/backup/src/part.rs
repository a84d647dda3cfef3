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
use sqlx::{Connection, PgConnection};
use std::{
    collections::BTreeMap,
    ffi::OsString,
    io::{BufRead, BufReader},
    os::unix::fs::OpenOptionsExt,
    path::{Path, PathBuf},
    process::Stdio,
    sync::Arc,
    time::Duration,
};
use tokio::{io::AsyncReadExt, process::Command};
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

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
    /// A part of it; everything without.
    pub only: Option<Part>,
}

/// A part of a database, by the names that the catalogs have.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Part {
    /// A schema.
    Schema(String),
    /// A table, with its partitions and the tables that inherit from it.
    Table {
        /// Its schema.
        schema: String,
        /// Its name.
        table: String,
    },
}

/// What was taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Taken {
    /// The state that was recovered.
    pub recovered_to: DateTime<Utc>,
    /// Of a table, its rows in the recovered state and in what was written, as far as the latter can be counted.
    pub rows: Option<(u64, Option<u64>)>,
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
    /// Recovers, dumps, and removes the copy.
    ///
    /// # Errors
    /// Whatever went wrong; a live database is then as it was.
    pub async fn dump(&self, dump: &Dump) -> Result<Taken, Error> {
        self.plan.reading("a restore of a part", Box::pin(self.dump_held(dump))).await
    }

    async fn dump_held(&self, dump: &Dump) -> Result<Taken, Error> {
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
            in_place: false,
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

    async fn take(&self, scratch: &Scratch, dump: &Dump) -> Result<Taken, Error> {
        let source = scratch.server(&dump.what.database);
        let mut connection = source.connect().await?;
        let last: Option<DateTime<Utc>> = sqlx::query_scalar("select pg_catalog.pg_last_xact_replay_timestamp()")
            .fetch_one(&mut connection)
            .await
            .map_err(Error::query("ask for the last transaction"))?;
        let (only, name) = match &dump.what.only {
            None => (Vec::new(), None),
            Some(Part::Schema(schema)) => (vec![format!("--schema={}", quoted(schema))], None),
            Some(Part::Table { schema, table }) => {
                let name = format!("{}.{}", quoted(schema), quoted(table));
                (tables(&mut connection, &name).await?, Some(name))
            }
        };
        let held = match &name {
            Some(name) => Some(count(&mut connection, name).await?),
            None => None,
        };
        let _ = connection.close().await;
        let mut command = pg_dump(&self.programs, &source, &only);
        let written = match &dump.to {
            Ok(path) if path.as_os_str() == "-" => {
                run(command.stdout(Stdio::inherit()), "pg_dump").await?;
                None
            }
            Ok(path) => {
                let file = Private::beside(path)?;
                run(command.stdout(file.writer()?), "pg_dump").await?;
                let rows = name.is_some().then(|| rows_in(&file.path)).transpose()?;
                file.publish(path)?;
                rows
            }
            Err((server, database)) => {
                // Through a file: what cannot be dumped whole is not loaded in part.
                let file = scratch.directory().join("dump.sql");
                run(command.arg("--file").arg(&file).stdout(Stdio::null()), "pg_dump").await?;
                load(&self.programs, server, database, &file).await?;
                name.is_some().then(|| rows_in(&file)).transpose()?
            }
        };
        match (held, written) {
            (Some(held), Some(written)) if held != written => Err(Error::Scratch(format!(
                "the table has {held} rows in the recovered state, and {written} were written"
            ))),
            (rows, written) => Ok(Taken {
                recovered_to: last.unwrap_or(self.plan.info.finished_at),
                rows: rows.map(|rows| (rows, written)),
            }),
        }
    }
}

/// The options of pg_dump for a table, its partitions and what inherits from it: the rows of a partitioned table are theirs, and
/// pg_dump knows `--table-and-children` from 16 on only.
async fn tables(connection: &mut PgConnection, name: &str) -> Result<Vec<String>, Error> {
    let found = sqlx::query_as(include_str!("part/tables.sql")).bind(name).fetch_all(connection).await;
    let found: Vec<(String, String)> = found.map_err(Error::query("look for the table in the recovered state"))?;
    if found.is_empty() {
        return Err(Error::Scratch(format!("there is no table {name} in the recovered state")));
    }
    Ok(found.iter().map(|(schema, table)| format!("--table={}.{}", quoted(schema), quoted(table))).collect())
}

async fn count(connection: &mut PgConnection, name: &str) -> Result<u64, Error> {
    let statement = sqlx::AssertSqlSafe(format!("select pg_catalog.count(*) from {name}"));
    let rows: i64 = sqlx::query_scalar(statement).fetch_one(connection).await.map_err(Error::query("count rows"))?;
    Ok(rows.unsigned_abs())
}

/// The rows in a dump: the lines between `COPY` and `\.`.
fn rows_in(dump: &Path) -> Result<u64, Error> {
    let failed = || Error::file("read", dump);
    let mut reader = BufReader::new(std::fs::File::open(dump).map_err(failed())?);
    let (mut rows, mut copying, mut line) = (0, false, Vec::new());
    loop {
        line.clear();
        if reader.read_until(b'\n', &mut line).map_err(failed())? == 0 {
            return Ok(rows);
        }
        match copying {
            false => copying = line.starts_with(b"COPY ") && line.ends_with(b" FROM stdin;\n"),
            true if line == b"\\.\n" => copying = false,
            true => rows += 1,
        }
    }
}

/// A name as SQL and the patterns of pg_dump have it.
fn quoted(name: &str) -> String {
    format!("\"{}\"", name.replace('"', "\"\""))
}

/// Dumps out of a scratch server what nobody wants: to see that it can be had, and how long that takes.
pub(crate) async fn try_dump(programs: &Path, scratch: &Scratch, database: &str, table: &str) -> Result<(), Error> {
    let server = scratch.server(database);
    let mut connection = server.connect().await?;
    let only = tables(&mut connection, table).await?;
    let _ = connection.close().await;
    run(pg_dump(programs, &server, &only).args(["--file", "/dev/null"]).stdout(Stdio::null()), "pg_dump").await
}

fn pg_dump(programs: &Path, source: &Server, only: &[String]) -> Command {
    let mut command = Command::new(programs.join("pg_dump"));
    command.args(connection_arguments(source)).arg("--dbname").arg(&source.conninfo.database).args(only);
    command
}

/// A file beside where it will be: nobody else may read it, nobody else made it (C36), and it goes with this value.
struct Private {
    path: PathBuf,
    file: std::fs::File,
}

impl Private {
    fn beside(path: &Path) -> Result<Self, Error> {
        let name = path.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
        let path = path.with_file_name(format!(".{name}.{}.pgbosun-unfinished", Uuid::new_v4().simple()));
        // `create_new` follows no link, and takes no file that somebody put there.
        let file = std::fs::File::options().write(true).create_new(true).mode(0o600).open(&path);
        Ok(Self { file: file.map_err(Error::file("create", &path))?, path })
    }

    fn writer(&self) -> Result<std::fs::File, Error> {
        self.file.try_clone().map_err(Error::file("write", &self.path))
    }

    fn publish(self, to: &Path) -> Result<(), Error> {
        self.file.sync_all().and_then(|()| std::fs::rename(&self.path, to)).map_err(Error::file("write", to))
    }
}

impl Drop for Private {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.path);
    }
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
