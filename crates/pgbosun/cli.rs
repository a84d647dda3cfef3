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
    /// Read a backup from end to end and compare everything with what was written down. Exits with 2 if it is damaged.
    Verify {
        /// Its label.
        #[arg(conflicts_with_all = ["latest", "all"])]
        label: Option<String>,
        /// The newest one of every cluster and repository; what is verified when nothing is said.
        #[arg(long, conflicts_with = "all")]
        latest: bool,
        /// Every one.
        #[arg(long)]
        all: bool,
    },
}

/// What to restore.
#[derive(Debug, Subcommand)]
pub enum RestoreCommand {
    /// A physical backup into an empty directory, from which PostgreSQL starts.
    Physical {
        /// The new data directory: empty, or not there.
        #[arg(long)]
        to: PathBuf,
        /// The backup; the newest good one by default.
        #[arg(long)]
        backup: Option<String>,
        /// The cluster it is of; the only one by default.
        #[arg(long)]
        cluster: Option<String>,
        /// The repository; the first that has it by default.
        #[arg(long)]
        repository: Option<String>,
        /// Where a tablespace goes, OLD=NEW; to its old place by default.
        #[arg(long, value_name = "OLD=NEW")]
        tablespace: Vec<String>,
        /// Leave archiving as it was: for replacing the original, not for a copy beside it.
        #[arg(long)]
        keep_archiving: bool,
    },
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
