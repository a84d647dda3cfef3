//! The clusters that run on this machine, and what they say of themselves.

use anyhow::Context;
use pgbosun_postgres::{Conninfo, Server, SessionSettings};
use sqlx::{AssertSqlSafe, Connection, PgConnection, Row};
use std::{
    fs,
    future::Future,
    path::{Path, PathBuf},
    time::Duration,
};

/// What the server calls for each segment.
pub const ARCHIVE_COMMAND: &str = "pgbosun wal push \"%p\"";
/// How long the server may take to answer.
const PATIENCE: Duration = Duration::from_secs(10);

/// A cluster as it lies on this machine.
pub struct Cluster {
    pub data_directory: PathBuf,
    pub socket_directory: PathBuf,
    pub port: u16,
}

/// What a server says of itself.
pub struct Settings {
    /// Where it collects its own log, if it does.
    pub log_directory: Option<PathBuf>,
    pub archiving: Archiving,
}

/// Whether a server archives its WAL.
#[derive(Debug, PartialEq, Eq)]
pub enum Archiving {
    /// With our command.
    Ours,
    /// It was set to do so just now.
    SetNow,
    /// With another one, or it is set up to once it archives.
    Others(String),
    Off,
}

impl Cluster {
    /// A connection string that reaches it.
    pub fn connection(&self) -> String {
        let port = if self.port == 5432 { String::new() } else { format!(" port={}", self.port) };
        format!("host={}{port} user=postgres", self.socket_directory.display())
    }

    /// The command that restarts it, as distributions have it.
    pub fn restart(&self) -> String {
        match service(&self.data_directory) {
            Some(unit) => format!("sudo systemctl restart {unit}"),
            None => {
                format!(
                    "pg_ctl -D {} restart, as its owner, or however you restart it here",
                    self.data_directory.display()
                )
            }
        }
    }
}

/// The unit that runs the server of a data directory, where Debian or Red Hat put it.
pub fn service(data_directory: &Path) -> Option<String> {
    let parts: Vec<_> = data_directory.iter().filter_map(|part| part.to_str()).collect();
    match parts[..] {
        ["/", "var", "lib", "postgresql", version, name] => Some(format!("postgresql@{version}-{name}")),
        ["/", "var", "lib", "pgsql", version, "data"] => Some(format!("postgresql-{version}")),
        _ => None,
    }
}

/// The one in the named directory, or those that run where Debian or Red Hat put them, the newest version first.
pub fn clusters(named: Option<&Path>) -> Vec<Cluster> {
    let candidates: Vec<PathBuf> = match named {
        Some(directory) => vec![directory.to_owned()],
        None => {
            let versions = fs::read_dir("/var/lib/postgresql").into_iter().flatten().flatten();
            let clusters = versions.flat_map(|version| fs::read_dir(version.path()).into_iter().flatten().flatten());
            let mut all: Vec<_> = clusters.map(|cluster| cluster.path()).collect();
            all.extend((15..=19).map(|major| format!("/var/lib/pgsql/{major}/data").into()));
            // 15 comes after 9.6.
            let version = |path: &PathBuf| {
                let numbers = path.iter().filter_map(|part| part.to_str()?.parse::<f64>().ok());
                numbers.map(|number| (number * 100.0) as u32).max()
            };
            all.sort_by_key(|path| std::cmp::Reverse((version(path), path.clone())));
            all
        }
    };
    candidates.into_iter().filter_map(running).collect()
}

/// `postmaster.pid`: process, data directory, start, port, socket directory (PostgreSQL, pidfile.h).
fn running(data_directory: PathBuf) -> Option<Cluster> {
    let text = fs::read_to_string(data_directory.join("postmaster.pid")).ok()?;
    let mut lines = text.lines().skip(3);
    let port = lines.next()?.trim().parse().ok()?;
    let socket_directory = lines.next()?.trim().into();
    Some(Cluster { data_directory, socket_directory, port })
}

/// What the server says of itself.
///
/// # Errors
/// Where it does not answer.
pub fn ask(cluster: &Cluster) -> anyhow::Result<Settings> {
    within(async {
        let mut connection = connect(cluster).await?;
        let row = sqlx::query(include_str!("server.sql")).fetch_one(&mut connection).await?;
        let _ = connection.close().await;
        let mode: String = row.try_get("archive_mode")?;
        let other: Option<String> = row.try_get("other")?;
        let archiving = match (mode.as_str(), other) {
            (_, Some(other)) => Archiving::Others(other),
            ("off", None) => Archiving::Off,
            (_, None) if row.try_get("ours")? => Archiving::Ours,
            _ => Archiving::Off,
        };
        let collected: Option<String> = row.try_get("log_directory")?;
        Ok(Settings { log_directory: collected.map(|directory| cluster.data_directory.join(directory)), archiving })
    })
}

/// Has the server archive its WAL from its next restart on. The mode comes last: half of this archives nothing.
///
/// # Errors
/// Where the role may not, or the server is away.
pub fn archive(cluster: &Cluster) -> anyhow::Result<()> {
    within(async {
        let mut connection = connect(cluster).await?;
        for (name, value) in [("archive_command", ARCHIVE_COMMAND), ("archive_timeout", "5min"), ("archive_mode", "on")]
        {
            // Both are ours, and there is no quote in them.
            let statement = format!("alter system set {name} = '{value}'");
            sqlx::query(AssertSqlSafe(statement)).execute(&mut connection).await?;
        }
        sqlx::query("select pg_catalog.pg_reload_conf()").execute(&mut connection).await?;
        let _ = connection.close().await;
        Ok(())
    })
}

fn within<T>(work: impl Future<Output = anyhow::Result<T>>) -> anyhow::Result<T> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async { tokio::time::timeout(PATIENCE, work).await.context("it does not answer")? })
}

async fn connect(cluster: &Cluster) -> anyhow::Result<PgConnection> {
    let server = Server {
        conninfo: Conninfo::parse(&cluster.connection())?,
        connect_timeout: PATIENCE,
        statement_timeout: PATIENCE,
        lock_timeout: PATIENCE,
        session: SessionSettings::Ours,
    };
    Ok(server.connect().await?)
}

/// Where the server's log lies: what it collects itself, or where Debian has it.
pub fn log_directory(cluster: Option<&Cluster>, settings: Option<&Settings>) -> Option<PathBuf> {
    let debian = Path::new("/var/log/postgresql");
    let is_debian =
        cluster.is_some_and(|cluster| cluster.data_directory.starts_with("/var/lib/postgresql")) && debian.is_dir();
    let collected = settings.and_then(|settings| settings.log_directory.clone());
    collected.or_else(|| is_debian.then(|| debian.to_owned()))
}
