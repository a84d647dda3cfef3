//! Arguments of `config`, `job` and `cluster`.

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
