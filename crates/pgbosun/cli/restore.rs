//! Arguments of `restore`.

use super::complete;
use clap::{Args, Subcommand};
use std::path::PathBuf;

/// What to restore.
#[derive(Debug, Subcommand)]
pub enum RestoreCommand {
    /// Restore a physical backup into a data directory, ready to start and recover as far as you want.
    Physical(Box<RestorePhysical>),
    /// Restore one table as of a point in time.
    ///
    /// The cluster is recovered in a scratch server, and the table is dumped from there.
    Table(Box<RestorePart>),
    /// Restore one schema as of a point in time.
    ///
    /// The cluster is recovered in a scratch server, and the schema is dumped from there.
    Schema(Box<RestorePart>),
    /// Restore one database as of a point in time.
    ///
    /// The cluster is recovered in a scratch server, and the database is dumped from there.
    Database(Box<RestorePart>),
}

/// Which state of a cluster.
#[derive(Args, Clone, Debug)]
pub struct RestoreTarget {
    /// The backup, by its label or the beginning of it; by default one that can reach the target, or without a target the newest
    /// good one.
    #[arg(long, add = complete::labels())]
    pub backup: Option<String>,
    /// The cluster; not needed if only one is configured.
    #[arg(long, add = complete::clusters())]
    pub cluster: Option<String>,
    /// The repository; by default the first that has what is needed. `restore physical` also takes a location, and then needs no
    /// configuration: a directory such as /mnt/backup, s3://BUCKET/PREFIX, gcs://, azure://, sftp://USER@HOST/PATH.
    #[arg(long, add = complete::repositories())]
    pub repository: Option<String>,
    /// Recover to this time, with its time zone: `2026-11-21 08:30:00+01`, `2026-11-21 08:30:00 Europe/Berlin`,
    /// `2026-11-21T07:30:00Z`.
    #[arg(long, value_name = "TIME", group = "target")]
    pub target_time: Option<String>,
    /// Recover to this WAL position, such as `16/B374D848`.
    #[arg(long, value_name = "LSN", group = "target")]
    pub target_lsn: Option<String>,
    /// Recover to this transaction ID, as `txid_current` or `pg_current_xact_id` shows it.
    #[arg(long, value_name = "XID", group = "target")]
    pub target_xid: Option<u64>,
    /// Recover to this restore point (`pg_create_restore_point`).
    #[arg(long, value_name = "NAME", group = "target")]
    pub target_name: Option<String>,
    /// Recover only until the backup is consistent.
    #[arg(long, group = "target")]
    pub immediate: bool,
    /// Recover as far as the archive goes; this is the default if WAL is archived.
    #[arg(long, group = "target")]
    pub latest: bool,
    /// Stop just before the target instead of just after.
    #[arg(long)]
    pub target_exclusive: bool,
    /// Follow this timeline; the newest by default.
    #[arg(long)]
    pub timeline: Option<u32>,
    /// If a segment is missing from the archive, recover up to there without asking: everything committed after that is lost.
    #[arg(long)]
    pub accept_gap: bool,
}

/// A physical restore.
#[derive(Args, Debug)]
pub struct RestorePhysical {
    /// The new data directory; without --delta or --force it must be empty or not exist.
    #[arg(long, required_unless_present = "verify_only")]
    pub to: Option<PathBuf>,
    /// Which state.
    #[command(flatten)]
    pub target: RestoreTarget,
    /// What the server does when it reaches the target; anything but `promote` needs a target.
    #[arg(long, default_value = "promote", value_parser = ["promote", "pause", "shutdown"])]
    pub target_action: String,
    /// Become a standby (`standby.signal`) instead of ending recovery.
    #[arg(long)]
    pub standby: bool,
    /// Where to put a tablespace, OLD=NEW; by default at its old location. Write an = in a path as `\=`.
    #[arg(long, value_name = "OLD=NEW")]
    pub tablespace: Vec<String>,
    /// Restore over an earlier restore or the damaged cluster, and keep the files that are already right.
    #[arg(long)]
    pub delta: bool,
    /// Replace what is in the directory without asking.
    #[arg(long)]
    pub force: bool,
    /// The most to write per second, such as 100MB.
    #[arg(long, value_name = "SIZE")]
    pub rate_limit: Option<pgbosun_core::config::Rate>,
    /// Let it take the original's place: archiving, subscriptions and background jobs continue as before. The default if the
    /// target is the cluster's data-directory, after asking on a terminal.
    #[arg(long, alias = "keep-archiving", conflicts_with = "beside")]
    pub in_place: bool,
    /// Restore configuration files from outside the data directory to where they were: included files, pg_hba.conf, certificates,
    /// and keys if the repository is encrypted. The files they replace are kept next to them.
    #[arg(long, conflicts_with = "beside")]
    pub config_files: bool,
    /// Discard WAL that is in pg_wal of the replaced cluster but not in the archive, and lose what was committed in it.
    #[arg(long)]
    pub discard_wal: bool,
    /// Make it a copy alongside the original: it archives nothing, takes no changes meant for the original and runs no background
    /// jobs. The default anywhere else.
    #[arg(long, conflicts_with = "standby")]
    pub beside: bool,
    /// If the repository is given by its location and is encrypted: the file with the age identity that opens it.
    #[arg(long, value_name = "FILE")]
    pub identity_file: Option<PathBuf>,
    /// If the repository is given by its location: an option it would have in a configuration, such as endpoint=https://… or
    /// secret-file=/root/s3.
    #[arg(long, value_name = "KEY=VALUE")]
    pub repository_option: Vec<String>,
    /// Restore into a scratch server, check it there, and remove it.
    #[arg(long, conflicts_with_all = ["to", "delta", "force"])]
    pub verify_only: bool,
    /// Where the scratch server's programs are, if not in the usual place for their version.
    #[arg(long, value_name = "DIRECTORY", requires = "verify_only")]
    pub program_directory: Option<PathBuf>,
}

/// A part of a cluster.
#[derive(Args, Debug)]
pub struct RestorePart {
    /// What to restore: `app.public.orders` (database, schema, table), `app.public`, or `app`.
    pub name: String,
    /// Which state.
    #[command(flatten)]
    pub target: RestoreTarget,
    /// Write it to this file as SQL; `-` for standard output.
    #[arg(long, conflicts_with = "into")]
    pub to: Option<PathBuf>,
    /// Load it into this database of the live cluster, in addition to what is there: the table or schema must not exist in it.
    #[arg(long)]
    pub into: Option<String>,
    /// Load it as this role, which then owns it, and with no other rights, because checks, defaults and triggers run code of the
    /// table's owner. By default the role that owned it. With a superuser, owners stay as they were, and their code may do
    /// anything.
    #[arg(long, requires = "into", value_name = "NAME")]
    pub role: Option<String>,
    /// Overwrite a file without asking.
    #[arg(long)]
    pub force: bool,
    /// Where the scratch server's programs are, if not in the usual place for their version.
    #[arg(long, value_name = "DIRECTORY")]
    pub program_directory: Option<PathBuf>,
}
