//! Arguments of `config`, `job` and `cluster`.

use super::complete;
use clap::{Args, Subcommand};
use std::path::PathBuf;

/// What to do with the configuration.
#[derive(Debug, Subcommand)]
pub enum ConfigCommand {
    /// Write a commented configuration for the cluster found on this machine.
    Init {
        /// The file to write; `-` for standard output. An existing file is left alone unless everything in it is a comment.
        #[arg(long, short, default_value = "-")]
        output: PathBuf,
        /// The data directory, if it is not where distributions put it.
        #[arg(long)]
        data_directory: Option<PathBuf>,
        /// Have the server archive its WAL with pgbosun, if it archives none yet: sets archive_mode, archive_command and
        /// archive_timeout (ALTER SYSTEM), which take effect when you restart it.
        #[arg(long)]
        archive: bool,
    },
    /// Check the configuration and report all mistakes at once. Exits with 78 if there are any.
    Check,
    /// Print the effective configuration with the source of every value and with secrets masked.
    Show,
    /// Print the systemd drop-in for this configuration: where the unit may write, mounts to start after, user and weights.
    Unit {
        /// Install it next to the unit and reload systemd, instead of printing it. The unit does this whenever it starts.
        #[arg(long)]
        install: bool,
    },
    /// Print every option.
    Reference {
        /// In Markdown, as docs/configuration.md.
        #[arg(long)]
        markdown: bool,
        /// Print every monitor with its queries instead, as docs/monitors.md.
        #[arg(long, conflicts_with = "markdown")]
        monitors: bool,
        /// Print what samples contain instead, as docs/samples.md.
        #[arg(long, conflicts_with_all = ["markdown", "monitors"])]
        samples: bool,
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
        #[arg(add = complete::jobs())]
        name: String,
        /// Wait for it to finish, and exit with 1 if it did not succeed.
        #[arg(long)]
        wait: bool,
        /// Show what would be done, and do nothing.
        #[arg(long)]
        dry_run: bool,
    },
    /// Cancel a running job, with its child processes and queries.
    Cancel {
        /// The job.
        #[arg(add = complete::jobs())]
        name: String,
    },
    /// Skip a job's scheduled runs until it is resumed.
    Pause(PauseArguments),
    /// Let a job run again.
    Resume(PauseArguments),
    /// Show past runs; those of monitors only with --all, --failed, a job or a kind.
    History(HistoryArguments),
}

/// Which runs.
#[derive(Args, Debug)]
pub struct HistoryArguments {
    /// Only runs of this job.
    #[arg(conflicts_with = "job", add = complete::jobs())]
    pub name: Option<String>,
    /// Only runs of this job.
    #[arg(long, value_name = "NAME", add = complete::jobs())]
    pub job: Option<String>,
    /// Only runs of this kind, such as `backup.physical`.
    #[arg(long)]
    pub kind: Option<String>,
    /// Only runs that failed, timed out or were interrupted.
    #[arg(long)]
    pub failed: bool,
    /// Only runs due since: `2h`, `2026-11-22 08:00` in the daemon's time zone, or with an explicit time zone.
    #[arg(long, value_name = "TIME|DURATION")]
    pub since: Option<String>,
    /// Include runs of monitors.
    #[arg(long)]
    pub all: bool,
    /// How many runs to show.
    #[arg(long, short = 'n', default_value_t = 20)]
    pub limit: u32,
}

/// What of the schedule.
#[derive(Args, Debug)]
pub struct ScheduleArguments {
    /// How many days ahead to look.
    #[arg(long, default_value_t = 7)]
    pub days: u16,
    /// List each monitor separately, not one line per schedule.
    #[arg(long, conflicts_with = "job")]
    pub all: bool,
    /// Only this job.
    #[arg(long, value_name = "NAME", add = complete::jobs())]
    pub job: Option<String>,
}

/// Which job, and why.
#[derive(Args, Debug)]
pub struct PauseArguments {
    /// The job.
    #[arg(required_unless_present = "all", conflicts_with = "all", add = complete::jobs())]
    pub name: Option<String>,
    /// All jobs.
    #[arg(long)]
    pub all: bool,
    /// Why, for the record.
    #[arg(long, default_value = "no reason given")]
    pub reason: String,
}

/// What to do with a cluster's name.
#[derive(Debug, Subcommand)]
pub enum ClusterCommand {
    /// Accept the server that answers now as the right one, after an upgrade or a new initdb.
    Accept {
        /// The cluster.
        #[arg(add = complete::clusters())]
        cluster: String,
        /// Why, for the record.
        #[arg(long, default_value = "no reason given")]
        reason: String,
    },
}
