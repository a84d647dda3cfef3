//! A part of a cluster as of a time: the whole is recovered in a scratch server, and `pg_dump` takes from there what is
//! wanted. What is dumped goes into a file, or straight into a live database, all of it or nothing.

mod lent;
mod load;
mod rows;

pub use load::{Load, LoadedAs};

use crate::{
    Error, Progress,
    restore::{Existing, Plan, Recovery, Restore},
    restore_test::Directory,
    scratch::Scratch,
};
use chrono::{DateTime, Utc};
use pgbosun_postgres::{GroupChild, Server};
use rows::{rows_in_archive, rows_in_file};
use sqlx::{Connection, PgConnection};
use std::{
    collections::{BTreeMap, BTreeSet},
    io::Read,
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
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Taken {
    /// The state that was recovered.
    pub recovered_to: DateTime<Utc>,
    /// Of a table, its rows in the recovered state and in what was written, as far as the latter can be counted.
    pub rows: Option<(u64, Option<u64>)>,
    /// The file may hold commands of psql that nobody wrote into it on purpose: an old pg_dump does not keep them out.
    pub unguarded: bool,
    /// Who loaded it.
    pub loaded: Option<LoadedAs>,
}

/// Where it goes.
#[derive(Clone, Debug)]
pub enum Destination {
    /// A file, as SQL; `-` for standard output.
    File(PathBuf),
    /// A database of a live server.
    Database(Box<Load>),
}

/// What is taken, and where it goes.
#[derive(Clone, Debug)]
pub struct Dump {
    /// What.
    pub what: DumpWhat,
    /// Where to.
    pub to: Destination,
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
        // Recovery may take hours: where it goes and what is needed for it is tried before.
        let file = match &dump.to {
            Destination::File(path) if path.as_os_str() != "-" => Some(Private::beside(path)?),
            _ => None,
        };
        self.find_programs(dump)?;
        let info = &self.plan.info;
        let directory = Directory::create(&self.directory)?;
        let place = |oid: u32| directory.path.join("tablespaces").join(oid.to_string());
        let tablespaces: BTreeMap<String, PathBuf> =
            info.tablespaces.iter().map(|space| (space.location.clone(), place(space.oid))).collect();
        let restore = Restore {
            original: None,
            servers: Vec::new(),
            until: self.plan.until,
            repository: self.plan.repository.clone(),
            info: info.clone(),
            target: directory.path.join("data"),
            existing: Existing::Refuse,
            tablespaces,
            in_place: false,
            config_files: false,
            recovery: self.recovery.clone(),
            max_rate: None,
            progress: Arc::clone(&self.progress),
            cancel: self.cancel.clone(),
        };
        self.progress.step(format!("restoring {}", info.label), 0);
        restore.run().await?;
        self.progress.step("recovering", 0);
        let recovery = self.recovery.as_ref();
        let limit = self.recovery_timeout;
        let scratch = Scratch::start(&self.programs, &directory.path, info, recovery, limit, &self.cancel).await?;
        self.progress.step("dumping what was recovered", 0);
        let done = tokio::select! {
            done = self.take(&scratch, dump, file.as_ref()) => done,
            () = self.cancel.cancelled() => Err(Error::Cancelled),
        };
        scratch.stop().await;
        let (mut taken, owners) = done?;
        if let Destination::Database(load) = &dump.to {
            taken.loaded = Some(load.run(&self.programs, &archive(&directory.path), &owners, &self.cancel).await?);
        }
        Ok(taken)
    }

    /// Refuses where the programs of the server are there, and not those of its clients: packages often keep them apart.
    fn find_programs(&self, dump: &Dump) -> Result<(), Error> {
        let loads = matches!(dump.to, Destination::Database(_));
        for program in ["pg_dump", "pg_restore"].into_iter().take(if loads { 2 } else { 1 }) {
            if !self.programs.join(program).is_file() {
                return Err(Error::Refused(format!(
                    "there is no {program} in {}: install the client programs of this version there, or name another directory with \
                     --program-directory",
                    self.programs.display()
                )));
            }
        }
        Ok(())
    }

    /// Dumps, into the file where there is one; also says whose that was.
    async fn take(
        &self,
        scratch: &Scratch,
        dump: &Dump,
        file: Option<&Private>,
    ) -> Result<(Taken, Vec<String>), Error> {
        let source = scratch.server(&dump.what.database);
        let mut connection = source.connect().await?;
        let last: Option<DateTime<Utc>> = sqlx::query_scalar("select pg_catalog.pg_last_xact_replay_timestamp()")
            .fetch_one(&mut connection)
            .await
            .map_err(Error::query("read the time of the last transaction"))?;
        let (only, owners, held) = match &dump.what.only {
            Some(Part::Table { schema, table }) => {
                let found = tables(&mut connection, &format!("{}.{}", quoted(schema), quoted(table))).await?;
                let owners: BTreeSet<_> = found.iter().map(|table| table.owner.clone()).collect();
                let held = count(&mut connection, &found).await?;
                (found.iter().map(Tabled::option).collect(), owners.into_iter().collect(), held)
            }
            Some(Part::Schema(schema)) => {
                let owners = owners(&mut connection, Some(schema)).await?;
                (vec![format!("--schema={}", quoted(schema))], owners, None)
            }
            None => (Vec::new(), owners(&mut connection, None).await?, None),
        };
        let _ = connection.close().await;
        let mut command = pg_dump(&self.programs, &source, &only);
        let mut unguarded = false;
        let written = match (&dump.to, file) {
            (Destination::File(_), None) => {
                run(command.stdout(Stdio::inherit()), "pg_dump").await?;
                None
            }
            (Destination::File(path), Some(file)) => {
                run(command.stdout(file.writer()?), "pg_dump").await?;
                let rows = match held {
                    Some(_) => Some(rows_in_file(&file.path).await?),
                    None => None,
                };
                same(held, rows)?;
                unguarded = !is_guarded(&file.path)?;
                file.publish(path)?;
                rows
            }
            (Destination::Database(_), _) => {
                // Through a file: what cannot be dumped whole is not loaded in part.
                let file = archive(scratch.directory());
                run(command.args(["--format=custom", "--compress=1", "--file"]).arg(&file), "pg_dump").await?;
                let rows = match held {
                    Some(_) => Some(rows_in_archive(&self.programs, &file).await?),
                    None => None,
                };
                same(held, rows)?;
                rows
            }
        };
        let recovered_to = last.unwrap_or(self.plan.info.finished_at);
        Ok((Taken { recovered_to, rows: held.map(|held| (held, written)), unguarded, loaded: None }, owners))
    }
}

/// Whether psql takes no commands of its own from a dump (`\restrict`, since CVE-2025-8714).
fn is_guarded(dump: &Path) -> Result<bool, Error> {
    let mut head = Vec::new();
    let file = std::fs::File::open(dump).map_err(Error::file("read", dump))?;
    file.take(4096).read_to_end(&mut head).map_err(Error::file("read", dump))?;
    Ok(head.split(|byte| *byte == b'\n').any(|line| line.starts_with(b"\\restrict ")))
}

fn same(held: Option<u64>, written: Option<u64>) -> Result<(), Error> {
    match (held, written) {
        (Some(held), Some(written)) if held != written => {
            Err(Error::Scratch(format!("the table has {held} rows in the recovered state, but {written} were written")))
        }
        _ => Ok(()),
    }
}

/// Where the dump lies until it is loaded.
fn archive(directory: &Path) -> PathBuf {
    directory.join("dump.pgdump")
}

/// A table of a dump.
#[derive(sqlx::FromRow)]
struct Tabled {
    schema: String,
    name: String,
    /// Its rows are dumped: not those of views, foreign tables, and sequences.
    has_rows: bool,
    owner: String,
}

impl Tabled {
    fn quoted(&self) -> String {
        format!("{}.{}", quoted(&self.schema), quoted(&self.name))
    }

    fn option(&self) -> String {
        format!("--table={}", self.quoted())
    }
}

/// A table, its partitions and what inherits from it: the rows of a partitioned table are theirs, and pg_dump knows
/// `--table-and-children` from 16 on only.
async fn tables(connection: &mut PgConnection, name: &str) -> Result<Vec<Tabled>, Error> {
    let found = sqlx::query_as(include_str!("part/tables.sql")).bind(name).fetch_all(connection).await;
    let found: Vec<Tabled> = found.map_err(Error::query("look up the table in the recovered state"))?;
    if found.is_empty() {
        return Err(Error::Scratch(format!("there is no table {name} in the recovered state")));
    }
    Ok(found)
}

async fn owners(connection: &mut PgConnection, schema: Option<&String>) -> Result<Vec<String>, Error> {
    let found = sqlx::query_scalar(include_str!("part/objects.sql")).bind(schema).fetch_all(connection).await;
    found.map_err(Error::query("look up the owners in the recovered state"))
}

/// The rows that a dump has to hold; of a view nobody knows. A foreign table is not asked: it would ask another server (C29).
async fn count(connection: &mut PgConnection, tables: &[Tabled]) -> Result<Option<u64>, Error> {
    let mut rows = None;
    for table in tables.iter().filter(|table| table.has_rows) {
        let statement = sqlx::AssertSqlSafe(format!("select pg_catalog.count(*) from only {}", table.quoted()));
        let found: i64 =
            sqlx::query_scalar(statement).fetch_one(&mut *connection).await.map_err(Error::query("count rows"))?;
        rows = Some(rows.unwrap_or(0) + found.unsigned_abs());
    }
    Ok(rows)
}

/// A name as SQL and the patterns of pg_dump have it.
fn quoted(name: &str) -> String {
    format!("\"{}\"", name.replace('"', "\"\""))
}

/// Dumps out of a scratch server what nobody wants: to see that it can be had, and how long that takes.
pub(crate) async fn try_dump(programs: &Path, scratch: &Scratch, database: &str, table: &str) -> Result<(), Error> {
    let server = scratch.server(database);
    let mut connection = server.connect().await?;
    let only: Vec<_> = tables(&mut connection, table).await?.iter().map(Tabled::option).collect();
    let _ = connection.close().await;
    run(pg_dump(programs, &server, &only).args(["--file", "/dev/null"]), "pg_dump").await
}

fn pg_dump(programs: &Path, source: &Server, only: &[String]) -> Command {
    let mut command = source.client_program(&programs.join("pg_dump"), &source.conninfo.database);
    command.args(only).stdout(Stdio::null());
    command
}

/// A file beside where it will be: nobody else may read it, nobody else made it (C36), and it goes with this value.
struct Private {
    path: PathBuf,
    file: std::fs::File,
}

impl Private {
    fn beside(path: &Path) -> Result<Self, Error> {
        if path.is_dir() {
            return Err(Error::Refused(format!("{} is a directory: name a file in it", path.display())));
        }
        let name = path.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
        let path = path.with_file_name(format!(".{name}.{}.pgbosun-unfinished", Uuid::new_v4().simple()));
        // `create_new` follows no link, and takes no file that somebody put there.
        let file = std::fs::File::options().write(true).create_new(true).mode(0o600).open(&path);
        Ok(Self { file: file.map_err(Error::file("create", &path))?, path })
    }

    fn writer(&self) -> Result<std::fs::File, Error> {
        self.file.try_clone().map_err(Error::file("write", &self.path))
    }

    /// Gives it its name, durably.
    fn publish(&self, to: &Path) -> Result<(), Error> {
        let published = self.file.sync_all().and_then(|()| std::fs::rename(&self.path, to));
        published.map_err(Error::file("write", to))?;
        let directory = to.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
        // One that may be written into and not read, or a file system that knows no such thing: it is there all the same.
        if let Err(error) = std::fs::File::open(directory).and_then(|directory| directory.sync_all()) {
            tracing::warn!("{} is written, but its directory was not flushed to disk: {error}", to.display());
        }
        Ok(())
    }
}

impl Drop for Private {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.path);
    }
}

async fn run(command: &mut Command, program: &'static str) -> Result<(), Error> {
    let failed = |said: String| Error::Program { program, said };
    let spawned = GroupChild::spawn(command.stdin(Stdio::null()).stderr(Stdio::piped()));
    let mut child = spawned.map_err(Error::file("start", program))?;
    // What it says need not be UTF-8: names and messages come in the server's encoding.
    let mut errors = Vec::new();
    if let Some(mut complaints) = child.child().stderr.take() {
        let _ = complaints.read_to_end(&mut errors).await;
    }
    let status = child.wait().await.map_err(Error::file("wait for", program))?;
    let said = String::from_utf8_lossy(&errors);
    let own = format!("{program}: ");
    let said = said.trim().lines().map(|line| line.strip_prefix(&own).unwrap_or(line)).collect::<Vec<_>>().join("\n");
    if status.success() { Ok(()) } else { Err(failed(said)) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn where_a_dump_cannot_go_is_known_before_it_is_made() {
        let directory = tempfile::tempdir().unwrap();
        let refused = |path: &Path| Private::beside(path).map(|_| ()).unwrap_err().to_string();
        assert!(refused(directory.path()).contains("is a directory: name a file in it"));
        assert!(refused(&directory.path().join("none/dump.sql")).starts_with("create "));
        let file = Private::beside(&directory.path().join("dump.sql")).unwrap();
        file.publish(&directory.path().join("dump.sql")).unwrap();
        drop(file);
        let left: Vec<_> =
            std::fs::read_dir(directory.path()).unwrap().map(|entry| entry.unwrap().file_name()).collect();
        assert_eq!(left, ["dump.sql"]);
    }

    #[tokio::test]
    async fn what_a_program_says_is_kept_whatever_its_encoding() {
        let mut command = Command::new("sh");
        let error = run(command.args(["-c", r"printf 'no table \374ber\n' >&2; exit 1"]), "pg_dump").await.unwrap_err();
        assert_eq!(error.to_string(), "pg_dump: no table \u{fffd}ber");
    }
}
