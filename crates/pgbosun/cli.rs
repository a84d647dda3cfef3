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

/// Cares for PostgreSQL clusters: monitors, backups, restore tests, maintenance and alerts, on schedule.
#[derive(Debug, Parser)]
#[command(name = "pgbosun", version = env!("PGBOSUN_VERSION"), propagate_version = true, max_term_width = 100)]
pub struct Cli {
    /// The configuration file.
    #[arg(long, global = true, help_heading = GLOBAL, env = "PGBOSUN_CONFIG", default_value = pgbosun_core::config::DEFAULT_PATH)]
    pub config: PathBuf,
    /// The daemon's control socket, where it is not the configured one.
    #[arg(long, global = true, help_heading = GLOBAL, value_name = "PATH")]
    pub socket: Option<PathBuf>,
    /// Print JSON for programs instead of tables for people.
    #[arg(long, global = true, help_heading = GLOBAL)]
    pub json: bool,
    /// When to use colours.
    #[arg(long, global = true, help_heading = GLOBAL, value_enum, default_value = "auto")]
    pub color: Colour,
    /// Say more; twice for everything.
    #[arg(short, long, global = true, help_heading = GLOBAL, action = clap::ArgAction::Count)]
    pub verbose: u8,
    /// Say only what went wrong.
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
    Status {
        /// Show it again every 2 s until Ctrl-C.
        #[arg(long)]
        watch: bool,
    },
    /// Look at everything pgbosun needs: connections, privileges, repositories, channels, history. The first line is that
    /// of a monitoring plugin; exits with 0, 1 (warning), 2 (critical) or 3 (unknown).
    Check {
        /// Only this cluster.
        #[arg(add = complete::clusters())]
        cluster: Option<String>,
        /// Check in this process as this user, even if a daemon runs (its unit may see and write less).
        #[arg(long)]
        here: bool,
    },
    /// Figures for machines, as Prometheus reads them; with --json how backups stand.
    Metrics,
    /// Write, check or show the configuration.
    Config {
        /// What to do with it.
        #[command(subcommand)]
        command: ConfigCommand,
    },
    /// When each job will run, with daylight-saving changes and blackout windows marked.
    Schedule(ScheduleArguments),
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
    /// Print completions for a shell: `pgbosun completions bash > /usr/share/bash-completion/completions/pgbosun`.
    Completions {
        /// The shell.
        shell: clap_complete::Shell,
    },
    /// Write manual pages into a directory.
    Man {
        /// The directory.
        directory: PathBuf,
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
        #[arg(add = complete::clusters())]
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
    /// Reports: what a server did.
    Report {
        /// Which.
        #[command(subcommand)]
        command: ReportCommand,
    },
    /// Run a program that may write in some directories and nowhere else: how scratch servers are started.
    #[command(hide = true)]
    Fence {
        /// A directory in which it may write.
        #[arg(long)]
        writable: Vec<PathBuf>,
        /// The program and its arguments.
        #[arg(last = true, required = true)]
        program: Vec<std::ffi::OsString>,
    },
    /// Take what recovery needed out of the configuration of the data directory this runs in: what a restored server calls in the end.
    #[command(hide = true)]
    RecoveryEnded,
    /// The journal, in which the daemon keeps what happened.
    Journal {
        /// What to do.
        #[command(subcommand)]
        command: JournalCommand,
    },
    /// Bring the schema dba_ops up to date.
    Migrate {
        /// Where something was taken out of it: rebuild it, with its operators. What is left keeps its rows under another name, and the
        /// daemon fills the new one from its journal.
        #[arg(long)]
        rebuild: bool,
    },
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

/// What to do with the journal.
#[derive(Debug, Subcommand)]
pub enum JournalCommand {
    /// Where it cannot be used: set it aside and make a new one, with what dba_ops has of this installation. The daemon must be stopped.
    Renew,
}
