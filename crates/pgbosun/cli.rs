//! The command line. The doc comments are its help.

mod alerts;
mod backups;
pub mod complete;
pub mod examples;
mod jobs;
mod reports;
mod restore;

pub use alerts::{AlertCommand, GroupCommand, OperatorCommand, Silence};
pub use backups::{BackupCommand, WalCommand};
pub use jobs::{ClusterCommand, ConfigCommand, HistoryArguments, JobCommand, PauseArguments, ScheduleArguments};
pub use reports::{Destination, DrillArguments, HealthArguments, PerformanceArguments, ReportCommand};
pub use restore::{RestoreCommand, RestorePart, RestorePhysical, RestoreTarget};

use clap::{CommandFactory, FromArgMatches, Parser, Subcommand, ValueEnum};
use std::path::PathBuf;

/// What every command takes.
const GLOBAL: &str = "Global options";

/// Looks after PostgreSQL clusters: scheduled monitoring, backups, restore tests, maintenance and alerts.
#[derive(Debug, Parser)]
#[command(name = "pgbosun", version = env!("PGBOSUN_VERSION"), propagate_version = true, max_term_width = 100)]
pub struct Cli {
    /// The configuration file.
    #[arg(long, global = true, help_heading = GLOBAL, env = "PGBOSUN_CONFIG", default_value = pgbosun_core::config::DEFAULT_PATH)]
    pub config: PathBuf,
    /// The daemon's control socket, if it is not the configured one.
    #[arg(long, global = true, help_heading = GLOBAL, value_name = "PATH")]
    pub socket: Option<PathBuf>,
    /// Print JSON for programs instead of tables for people.
    #[arg(long, global = true, help_heading = GLOBAL)]
    pub json: bool,
    /// When to use colours.
    #[arg(long, global = true, help_heading = GLOBAL, value_enum, default_value = "auto")]
    pub color: Colour,
    /// Log more; -vv for debug output.
    #[arg(short, long, global = true, help_heading = GLOBAL, action = clap::ArgAction::Count)]
    pub verbose: u8,
    /// Log errors only.
    #[arg(short, long, global = true, help_heading = GLOBAL, conflicts_with = "verbose")]
    pub quiet: bool,
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

impl Cli {
    /// What was typed.
    ///
    /// # Errors
    /// What is wrong with it, or the help that was asked for.
    pub fn typed() -> Result<Self, clap::Error> {
        let command = examples::with_examples(Self::command(), "");
        Self::from_arg_matches(&command.try_get_matches()?)
    }
}

/// When to use colours.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Colour {
    /// Only when printing to a terminal.
    Auto,
    /// Always.
    Always,
    /// Never.
    Never,
}

/// What to do.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Run the daemon in the foreground, as the systemd unit does.
    Daemon,
    /// Show everything on one screen: clusters, newest backups, open alerts, running and next jobs.
    ///
    /// Exits with 1 (warning), 2 (critical) or 3 (unknown) when alerts are open.
    Status {
        /// Refresh every 2 s until Ctrl-C.
        #[arg(long)]
        watch: bool,
    },
    /// Check everything pgbosun needs: connections, privileges, repositories, channels, history.
    ///
    /// The first line of the output is in the format of monitoring plugins. Exits with 0, 1 (warning), 2 (critical) or 3
    /// (unknown).
    Check {
        /// Only this cluster.
        #[arg(add = complete::clusters())]
        cluster: Option<String>,
        /// Check in this process, as this user, even if a daemon is running (its unit may let it read and write less).
        #[arg(long)]
        here: bool,
    },
    /// Print metrics in Prometheus format; with --json, the state of the backups.
    Metrics,
    /// Write, check or show the configuration.
    Config {
        /// What to do with it.
        #[command(subcommand)]
        command: ConfigCommand,
    },
    /// Show when each job will run, with daylight-saving changes and blackout windows marked.
    Schedule(ScheduleArguments),
    /// List, run, cancel, pause and resume jobs, and show their history.
    Job {
        /// What to do.
        #[command(subcommand)]
        command: JobCommand,
    },
    /// Take, list, verify, copy, keep and remove backups.
    Backup {
        /// What to do.
        #[command(subcommand)]
        command: BackupCommand,
    },
    /// Restore a cluster, database, schema or table from a backup.
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
    /// Print a completion script for a shell.
    Completions {
        /// The shell.
        shell: clap_complete::Shell,
    },
    /// Write the manual pages to a directory.
    Man {
        /// The directory.
        directory: PathBuf,
    },
    /// Set which server a cluster's name stands for in the repositories.
    Cluster {
        /// What to do.
        #[command(subcommand)]
        command: ClusterCommand,
    },
    /// Restore the newest backup into a scratch server, check it, and print the measured times.
    RestoreTest {
        /// The cluster; not needed if only one is configured.
        #[arg(add = complete::clusters())]
        cluster: Option<String>,
    },
    /// List, acknowledge, silence and resolve alerts, and test their delivery.
    Alert {
        /// What to do.
        #[command(subcommand)]
        command: AlertCommand,
    },
    /// Manage who is notified of alerts. Needs the history database.
    Operator {
        /// What to do.
        #[command(subcommand)]
        command: OperatorCommand,
    },
    /// Report on performance, health and disaster recovery.
    Report {
        /// Which.
        #[command(subcommand)]
        command: ReportCommand,
    },
    /// Run a program that may write to some directories and nowhere else. Scratch servers are started this way.
    #[command(hide = true)]
    Fence {
        /// A directory it may write to.
        #[arg(long)]
        writable: Vec<PathBuf>,
        /// The program and its arguments.
        #[arg(last = true, required = true)]
        program: Vec<std::ffi::OsString>,
    },
    /// Remove the recovery settings from the data directory this runs in. A restored server calls this when recovery ends.
    #[command(hide = true)]
    RecoveryEnded,
    /// Replace the journal, the daemon's local history, if it cannot be used.
    Journal {
        /// What to do.
        #[command(subcommand)]
        command: JournalCommand,
    },
    /// Bring the dba_ops schema up to date.
    Migrate {
        /// Rebuild the schema, including its operators, after something was dropped from it. What is left is renamed and keeps its
        /// rows, and the daemon fills the new schema from its journal.
        #[arg(long)]
        rebuild: bool,
    },
    /// Run the whole program on a scratch PostgreSQL, then list what to look at.
    Demo {
        /// Where to put everything.
        #[arg(long, default_value = "/tmp/pgbosun-demo")]
        directory: PathBuf,
        /// Leave the scratch servers and the daemon running.
        #[arg(long)]
        keep_running: bool,
    },
}

/// What to do with the journal.
#[derive(Debug, Subcommand)]
pub enum JournalCommand {
    /// Set aside a journal that cannot be used, and create a new one from what dba_ops has of this installation.
    ///
    /// The daemon must be stopped.
    Renew,
}
