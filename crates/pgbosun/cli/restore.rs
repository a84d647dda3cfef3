//! Arguments of `restore`.

use super::complete;
use clap::{Args, Subcommand};
use std::path::PathBuf;

/// What to restore.
#[derive(Debug, Subcommand)]
pub enum RestoreCommand {
    /// A physical backup into a directory from which PostgreSQL starts, recovered as far as wanted.
    Physical(Box<RestorePhysical>),
    /// One table as of a time: recovered in a scratch server, dumped from there.
    Table(Box<RestorePart>),
    /// One schema as of a time: recovered in a scratch server, dumped from there.
    Schema(Box<RestorePart>),
    /// One database as of a time: recovered in a scratch server, dumped from there.
    Database(Box<RestorePart>),
}

/// Which state of a cluster.
#[derive(Args, Clone, Debug)]
pub struct RestoreTarget {
    /// The backup, by its label or the beginning of it; by default the one that serves the target, the newest good one where there is no target.
    #[arg(long, add = complete::labels())]
    pub backup: Option<String>,
    /// The cluster it is of; the only one by default.
    #[arg(long, add = complete::clusters())]
    pub cluster: Option<String>,
    /// The repository; the first that has what is needed by default. `restore physical` also takes a place, and needs no configuration
    /// then: a directory as /mnt/backup, s3://BUCKET/PREFIX, gcs://, azure://, sftp://USER@HOST/PATH.
    #[arg(long, add = complete::repositories())]
    pub repository: Option<String>,
    /// Recover to this time, with its zone: `2026-11-21 08:30:00+01`, `2026-11-21 08:30:00 Europe/Berlin`, `2026-11-21T07:30:00Z`.
    #[arg(long, value_name = "TIME", group = "target")]
    pub target_time: Option<String>,
    /// Recover to this WAL position, `16/B374D848`.
    #[arg(long, value_name = "LSN", group = "target")]
    pub target_lsn: Option<String>,
    /// Recover to this transaction, as `txid_current` or `pg_current_xact_id` shows it.
    #[arg(long, value_name = "XID", group = "target")]
    pub target_xid: Option<u64>,
    /// Recover to this restore point (`pg_create_restore_point`).
    #[arg(long, value_name = "NAME", group = "target")]
    pub target_name: Option<String>,
    /// Recover only until it is consistent.
    #[arg(long, group = "target")]
    pub immediate: bool,
    /// Recover as far as the archive goes; what is done where WAL is archived and nothing is said.
    #[arg(long, group = "target")]
    pub latest: bool,
    /// Stop just before the target instead of just after.
    #[arg(long)]
    pub target_exclusive: bool,
    /// Follow this timeline; the newest by default.
    #[arg(long)]
    pub timeline: Option<u32>,
    /// Recover to where a segment is missing in the archive, without asking: what was committed after it is lost.
    #[arg(long)]
    pub accept_gap: bool,
}

/// A physical restore.
#[derive(Args, Debug)]
pub struct RestorePhysical {
    /// The new data directory: empty, or not there.
    #[arg(long, required_unless_present = "verify_only")]
    pub to: Option<PathBuf>,
    /// Which state.
    #[command(flatten)]
    pub target: RestoreTarget,
    /// What the server does at its target, which there must be for anything but `promote`.
    #[arg(long, default_value = "promote", value_parser = ["promote", "pause", "shutdown"])]
    pub target_action: String,
    /// Become a standby (`standby.signal`) instead of ending recovery.
    #[arg(long)]
    pub standby: bool,
    /// Where a tablespace goes, OLD=NEW; to its old place by default. An = in a path is written `\=`.
    #[arg(long, value_name = "OLD=NEW")]
    pub tablespace: Vec<String>,
    /// Into a directory that holds an earlier restore or the damaged cluster: keep the files that are right already.
    #[arg(long)]
    pub delta: bool,
    /// Replace what is in the directory without asking.
    #[arg(long)]
    pub force: bool,
    /// The most that is written in a second, such as 100MB.
    #[arg(long, value_name = "SIZE")]
    pub rate_limit: Option<pgbosun_core::config::Rate>,
    /// Put it in the original's place: archiving, subscriptions and background jobs go on as they were. The default where the target is
    /// the cluster's data-directory; asked for on a terminal.
    #[arg(long, alias = "keep-archiving", conflicts_with = "beside")]
    pub in_place: bool,
    /// Put configuration files that lie outside the data directory back to where they were: what includes lead to, pg_hba.conf,
    /// certificates, and keys where the repository is encrypted. What they replace is kept beside them.
    #[arg(long, conflicts_with = "beside")]
    pub config_files: bool,
    /// Let WAL go that is in pg_wal of what is replaced and not in the archive, and what was committed in it.
    #[arg(long)]
    pub discard_wal: bool,
    /// Put it beside the original: it archives nothing, takes no changes meant for the original, runs no background jobs. The
    /// default anywhere else.
    #[arg(long, conflicts_with = "standby")]
    pub beside: bool,
    /// Where the repository is named by its place: the file with the age identity that opens it, where it is encrypted.
    #[arg(long, value_name = "FILE")]
    pub identity_file: Option<PathBuf>,
    /// Where the repository is named by its place: an option that it has in a configuration, such as endpoint=https://… or
    /// secret-file=/root/s3.
    #[arg(long, value_name = "KEY=VALUE")]
    pub repository_option: Vec<String>,
    /// Restore into a scratch server, check it there, and remove it.
    #[arg(long, conflicts_with_all = ["to", "delta", "force"])]
    pub verify_only: bool,
    /// Where the programs of the scratch server are, unless in the usual place of their version.
    #[arg(long, value_name = "DIRECTORY", requires = "verify_only")]
    pub program_directory: Option<PathBuf>,
}

/// A part of a cluster.
#[derive(Args, Debug)]
pub struct RestorePart {
    /// What: `app.public.orders` (database, schema, table), `app.public`, or `app`.
    pub name: String,
    /// Which state.
    #[command(flatten)]
    pub target: RestoreTarget,
    /// Write it into this file as SQL; `-` for standard output.
    #[arg(long, conflicts_with = "into")]
    pub to: Option<PathBuf>,
    /// Load it into this database of the live cluster, beside what is there: a table or schema must not exist in it.
    #[arg(long)]
    pub into: Option<String>,
    /// Load it as this role, which owns it then, and with no other rights: checks, defaults and triggers run code of the table's
    /// owner. By default the role that owned it. A superuser keeps the owners, and their code may do everything.
    #[arg(long, requires = "into", value_name = "NAME")]
    pub role: Option<String>,
    /// Do not ask before a file is replaced.
    #[arg(long)]
    pub force: bool,
    /// Where the programs of the scratch server are, unless in the usual place of their version.
    #[arg(long, value_name = "DIRECTORY")]
    pub program_directory: Option<PathBuf>,
}
