//! The command line. The doc comments are its help.

use clap::{Args, Parser, Subcommand, ValueEnum};
use std::path::PathBuf;

/// Cares for PostgreSQL clusters: monitors, backups, restore tests, maintenance and alerts, on schedule.
#[derive(Debug, Parser)]
#[command(name = "pgbosun", version, propagate_version = true, max_term_width = 100)]
pub struct Cli {
    /// The configuration file.
    #[arg(long, global = true, env = "PGBOSUN_CONFIG", default_value = pgbosun_core::config::DEFAULT_PATH)]
    pub config: PathBuf,
    /// Print JSON for programs instead of tables for people.
    #[arg(long, global = true)]
    pub json: bool,
    /// When to use colours.
    #[arg(long, global = true, value_enum, default_value = "auto")]
    pub color: Colour,
    /// Say more; twice for everything.
    #[arg(short, long, global = true, action = clap::ArgAction::Count)]
    pub verbose: u8,
    /// Say only what went wrong.
    #[arg(short, long, global = true, conflicts_with = "verbose")]
    pub quiet: bool,
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

/// When to use colours.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Colour {
    /// On a terminal.
    Auto,
    /// Always.
    Always,
    /// Never.
    Never,
}

/// What to do.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Run the daemon in the foreground: what the unit starts.
    Daemon,
    /// One screen: clusters, newest backups, open alerts, running and next jobs. Exits with 1 (warning), 2 (critical) or 3 (unknown) when alerts are open.
    Status,
    /// Look at everything pgbosun needs: connections, privileges, repositories, mail, history. Exits with 0, 1, 2 or 3.
    Check {
        /// Only this cluster.
        cluster: Option<String>,
    },
    /// Write, check or show the configuration.
    Config {
        /// What to do with it.
        #[command(subcommand)]
        command: ConfigCommand,
    },
    /// When each job will run, with daylight-saving changes and blackout windows marked.
    Schedule {
        /// How many days ahead.
        #[arg(long, default_value_t = 7)]
        days: u16,
    },
    /// List, run, cancel, pause and resume jobs, and see their history.
    Job {
        /// What to do.
        #[command(subcommand)]
        command: JobCommand,
    },
    /// Take, list, show and verify backups.
    Backup {
        /// What to do.
        #[command(subcommand)]
        command: BackupCommand,
    },
    /// Restore from a backup.
    Restore {
        /// What to restore.
        #[command(subcommand)]
        command: RestoreCommand,
    },
    /// Archive, fetch, list and receive WAL.
    Wal {
        /// What to do.
        #[command(subcommand)]
        command: WalCommand,
    },
    /// What a cluster's name stands for in the repositories.
    Cluster {
        /// What to do.
        #[command(subcommand)]
        command: ClusterCommand,
    },
    /// Restore the newest backup into a scratch server, check it, and print the measured times.
    RestoreTest {
        /// The cluster; the only one by default.
        cluster: Option<String>,
    },
    /// List alerts, and test that they arrive.
    Alert {
        /// What to do.
        #[command(subcommand)]
        command: AlertCommand,
    },
    /// Who is told about alerts. Needs the history database.
    Operator {
        /// What to do.
        #[command(subcommand)]
        command: OperatorCommand,
    },
    /// Bring the schema dba_ops up to date.
    Migrate,
    /// The whole program on a scratch PostgreSQL, then what to look at.
    Demo {
        /// Where everything goes.
        #[arg(long, default_value = "/tmp/pgbosun-demo")]
        directory: PathBuf,
        /// Leave the scratch servers and the daemon running.
        #[arg(long)]
        keep_running: bool,
    },
}

/// What to do with the configuration.
#[derive(Debug, Subcommand)]
pub enum ConfigCommand {
    /// Write a commented configuration for the cluster found on this machine.
    Init {
        /// The file to write; `-` for standard output. A file that exists is not touched.
        #[arg(long, short, default_value = "-")]
        output: PathBuf,
        /// The data directory, if it is not where distributions put it.
        #[arg(long)]
        data_directory: Option<PathBuf>,
    },
    /// Report every mistake at once. Exits with 78 if there is one.
    Check,
    /// Print the effective configuration with the source of every value, secrets masked.
    Show,
    /// Print every option.
    Reference {
        /// As the page docs/configuration.md.
        #[arg(long)]
        markdown: bool,
        /// Every monitor with its queries, as the page docs/monitors.md.
        #[arg(long, conflicts_with = "markdown")]
        monitors: bool,
    },
}

/// What to do with jobs.
#[derive(Debug, Subcommand)]
pub enum JobCommand {
    /// List the jobs with their last and next runs.
    List,
    /// Run a job now.
    Run {
        /// The job.
        name: String,
        /// Wait for its end and exit with 1 if it did not succeed.
        #[arg(long)]
        wait: bool,
        /// Say what would be done, and do nothing.
        #[arg(long)]
        dry_run: bool,
    },
    /// End a run that is at work, with its child processes and queries.
    Cancel {
        /// The job.
        name: String,
    },
    /// Skip a job's times until it is resumed.
    Pause(PauseArguments),
    /// Let a job run again.
    Resume(PauseArguments),
    /// Show past runs.
    History {
        /// Only this job's.
        name: Option<String>,
        /// How many.
        #[arg(long, short = 'n', default_value_t = 20)]
        limit: u32,
    },
}

/// Which job, and why.
#[derive(Args, Debug)]
pub struct PauseArguments {
    /// The job.
    #[arg(required_unless_present = "all", conflicts_with = "all")]
    pub name: Option<String>,
    /// All jobs.
    #[arg(long)]
    pub all: bool,
    /// Why, for the record.
    #[arg(long, default_value = "no reason given")]
    pub reason: String,
}

/// What to do with backups.
#[derive(Debug, Subcommand)]
pub enum BackupCommand {
    /// Run a backup job now and wait for it.
    Create {
        /// The job; the only backup job by default.
        job: Option<String>,
    },
    /// List the backups of every repository.
    List {
        /// Only this cluster's.
        #[arg(long)]
        cluster: Option<String>,
    },
    /// Show everything about one backup.
    Show {
        /// Its label.
        label: String,
    },
    /// Copy a backup, with what it builds upon, to another repository.
    Copy {
        /// Its label.
        label: String,
        /// The repository to copy to.
        #[arg(long)]
        to: String,
        /// The repository to copy from; the first that has it by default.
        #[arg(long)]
        from: Option<String>,
    },
    /// Remove what retention no longer keeps, backups and WAL, and say for each backup why it stays or goes.
    Expire {
        /// Only this cluster's.
        #[arg(long)]
        cluster: Option<String>,
        /// Only in this repository.
        #[arg(long)]
        repository: Option<String>,
        /// Say what would go, and remove nothing.
        #[arg(long)]
        dry_run: bool,
    },
    /// Keep a backup whatever retention says.
    Keep {
        /// Its label.
        label: String,
        /// Why, for the record.
        #[arg(long, default_value = "no reason given")]
        reason: String,
    },
    /// Give a kept backup back to retention.
    Unkeep {
        /// Its label.
        label: String,
    },
    /// Read a backup from end to end and compare everything with what was written down. Exits with 2 if it is damaged.
    Verify {
        /// Its label.
        #[arg(conflicts_with_all = ["latest", "all"])]
        label: Option<String>,
        /// The newest one of every cluster and repository; what is verified when nothing is said.
        #[arg(long, conflicts_with = "all")]
        latest: bool,
        /// Every one, and the whole WAL archive.
        #[arg(long)]
        all: bool,
    },
}

/// What to do with WAL.
#[derive(Debug, Subcommand)]
pub enum WalCommand {
    /// Archive one file: `archive_command = 'pgbosun wal push "%p"'`. Exits with 0 once it is durable everywhere it must be.
    Push {
        /// The file, as PostgreSQL names it.
        path: PathBuf,
        /// The cluster; the one with this data directory, or the only one, by default.
        #[arg(long)]
        cluster: Option<String>,
    },
    /// Fetch one file for recovery: `restore_command = 'pgbosun wal fetch "%f" "%p"'`. Exits with 1 only where no repository has it.
    Fetch {
        /// The file's name.
        name: String,
        /// Where PostgreSQL wants it.
        path: PathBuf,
        /// The cluster; the one with this data directory, or the only one, by default.
        #[arg(long)]
        cluster: Option<String>,
        /// Only from this repository.
        #[arg(long)]
        repository: Option<String>,
        /// Only read ahead: fetch what follows into the spool. For the command's own use.
        #[arg(long, hide = true)]
        ahead: bool,
    },
    /// What is archived: continuity per timeline, gaps, and what each backup needs.
    List {
        /// The cluster; the only one by default.
        #[arg(long)]
        cluster: Option<String>,
        /// Only in this repository.
        #[arg(long)]
        repository: Option<String>,
    },
    /// Receive WAL in the foreground, as the daemon does where `receive-wal` is set.
    Receive {
        /// The cluster; the only one by default.
        #[arg(long)]
        cluster: Option<String>,
    },
}

/// What to do with a cluster's name.
#[derive(Debug, Subcommand)]
pub enum ClusterCommand {
    /// Say that the server which answers now is the right one, after an upgrade or a new initdb.
    Accept {
        /// The cluster.
        cluster: String,
        /// Why, for the record.
        #[arg(long, default_value = "no reason given")]
        reason: String,
    },
}

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
    /// The backup; by default the one that serves the target, the newest good one where there is no target.
    #[arg(long)]
    pub backup: Option<String>,
    /// The cluster it is of; the only one by default.
    #[arg(long)]
    pub cluster: Option<String>,
    /// The repository; the first that has what is needed by default.
    #[arg(long)]
    pub repository: Option<String>,
    /// Recover to this time, with its zone: `2026-11-21 08:30:00+01`, `2026-11-21T07:30:00Z`.
    #[arg(long, value_name = "TIME", group = "target")]
    pub target_time: Option<String>,
    /// Recover to this WAL position, `16/B374D848`.
    #[arg(long, value_name = "LSN", group = "target")]
    pub target_lsn: Option<String>,
    /// Recover to this transaction.
    #[arg(long, value_name = "XID", group = "target")]
    pub target_xid: Option<u32>,
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
    /// What the server does at its target.
    #[arg(long, default_value = "promote", value_parser = ["promote", "pause", "shutdown"])]
    pub target_action: String,
    /// Become a standby (`standby.signal`) instead of ending recovery.
    #[arg(long)]
    pub standby: bool,
    /// Where a tablespace goes, OLD=NEW; to its old place by default.
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
    pub rate_limit: Option<bytesize::ByteSize>,
    /// Leave archiving as it was: for replacing the original, not for a copy beside it.
    #[arg(long)]
    pub keep_archiving: bool,
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
    /// Where the programs of the scratch server are, unless in the usual place of their version.
    #[arg(long, value_name = "DIRECTORY")]
    pub program_directory: Option<PathBuf>,
}

/// What to do with alerts.
#[derive(Debug, Subcommand)]
pub enum AlertCommand {
    /// List the open alerts.
    List {
        /// The resolved ones too.
        #[arg(long)]
        all: bool,
    },
    /// Show everything about one alert.
    Show {
        /// Its id, or the beginning or end of it.
        id: String,
    },
    /// Send a test message to a group and say what came of it.
    Test {
        /// The group.
        #[arg(default_value = "database")]
        group: String,
    },
}

/// What to do with operators.
#[derive(Debug, Subcommand)]
pub enum OperatorCommand {
    /// List the operators.
    List,
    /// Add one to a group.
    Add {
        /// The group.
        group: String,
        /// The address.
        email: String,
        /// The person.
        #[arg(long)]
        name: Option<String>,
    },
    /// Remove one from a group.
    Remove {
        /// The group.
        group: String,
        /// The address.
        email: String,
    },
    /// Groups of operators.
    Group {
        /// What to do.
        #[command(subcommand)]
        command: GroupCommand,
    },
}

/// What to do with groups.
#[derive(Debug, Subcommand)]
pub enum GroupCommand {
    /// List the groups.
    List,
    /// Add one.
    Add {
        /// Its name.
        name: String,
        /// What it cares for.
        #[arg(long)]
        description: Option<String>,
    },
}
