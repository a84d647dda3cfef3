//! Arguments of `config`, `job` and `cluster`.

use super::complete;
use clap::{Args, Subcommand};
use std::path::PathBuf;

/// What to do with the configuration.
#[derive(Debug, Subcommand)]
pub enum ConfigCommand {
    /// Write a commented configuration for the cluster found on this machine.
    Init {
        /// The file to write; `-` for standard output. A file that exists is not touched, unless everything in it is a comment.
        #[arg(long, short, default_value = "-")]
        output: PathBuf,
        /// The data directory, if it is not where distributions put it.
        #[arg(long)]
        data_directory: Option<PathBuf>,
        /// Have the server archive its WAL with pgbosun, where it archives none: sets archive_mode, archive_command and archive_timeout
        /// (ALTER SYSTEM), which apply when you restart it.
        #[arg(long)]
        archive: bool,
    },
    /// Report every mistake at once. Exits with 78 if there is one.
    Check,
    /// Print the effective configuration with the source of every value, secrets masked.
    Show,
    /// Print what the systemd unit needs for this configuration: where it may write, which mounts come first, user and weights.
    Unit {
        /// Write it beside the unit and have systemd read it, instead of printing it. The daemon's start does this by itself.
        #[arg(long)]
        install: bool,
    },
    /// Print every option.
    Reference {
        /// As the page docs/configuration.md.
        #[arg(long)]
        markdown: bool,
        /// Every monitor with its queries, as the page docs/monitors.md.
        #[arg(long, conflicts_with = "markdown")]
        monitors: bool,
        /// What samples hold, as the page docs/samples.md.
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
        #[arg(add = complete::jobs())]
        name: String,
    },
    /// Skip a job's times until it is resumed.
    Pause(PauseArguments),
    /// Let a job run again.
    Resume(PauseArguments),
    /// Show past runs. The looks of monitors are left out unless --all, --failed, a job or a kind asks for them.
    History(HistoryArguments),
}

/// Which runs.
#[derive(Args, Debug)]
pub struct HistoryArguments {
    /// Only this job's.
    #[arg(conflicts_with = "job", add = complete::jobs())]
    pub name: Option<String>,
    /// Only this job's.
    #[arg(long, value_name = "NAME", add = complete::jobs())]
    pub job: Option<String>,
    /// Only those of this kind, `backup.physical`.
    #[arg(long)]
    pub kind: Option<String>,
    /// Only those that failed, ran out of time or were interrupted.
    #[arg(long)]
    pub failed: bool,
    /// Only those due since: `2h`, `2026-11-22 08:00` in the daemon's time zone, or with a zone of its own.
    #[arg(long, value_name = "TIME|DURATION")]
    pub since: Option<String>,
    /// The looks of monitors too.
    #[arg(long)]
    pub all: bool,
    /// How many.
    #[arg(long, short = 'n', default_value_t = 20)]
    pub limit: u32,
}

/// What of the schedule.
#[derive(Args, Debug)]
pub struct ScheduleArguments {
    /// How many days ahead.
    #[arg(long, default_value_t = 7)]
    pub days: u16,
    /// Each monitor by itself, not one line a schedule.
    #[arg(long, conflicts_with = "job")]
    pub all: bool,
    /// Only this job's.
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
    /// Say that the server which answers now is the right one, after an upgrade or a new initdb.
    Accept {
        /// The cluster.
        #[arg(add = complete::clusters())]
        cluster: String,
        /// Why, for the record.
        #[arg(long, default_value = "no reason given")]
        reason: String,
    },
}
