//! Reports on the command line.

use super::complete;
use clap::{Args, Subcommand};
use std::path::PathBuf;

/// Reports.
#[derive(Debug, Subcommand)]
pub enum ReportCommand {
    /// What a server did in a time window: the last day, unless --from or --to says otherwise.
    Performance(PerformanceArguments),
    /// The state of everything: clusters, backups and what they can restore, restore tests, storage, jobs, alerts.
    Health(HealthArguments),
    /// A disaster-recovery drill: what restore tests measured and people plan for, compared with the objectives.
    Drill(DrillArguments),
}

/// What becomes of a report.
#[derive(Args, Debug)]
pub struct Destination {
    /// The file to write: .html, .md, .txt or .json; without it, the report is printed.
    #[arg(long, value_name = "FILE")]
    pub to: Option<PathBuf>,
    /// Store it with the other reports, and mail it to the groups of the job that writes such reports, or to `database`.
    #[arg(long)]
    pub mail: bool,
}

/// What a performance report is about, and what becomes of it.
#[derive(Debug, Args)]
pub struct PerformanceArguments {
    /// The cluster; not needed if only one is configured.
    #[arg(add = complete::clusters())]
    pub cluster: Option<String>,
    /// The start of the window, such as "2026-11-21 06:00".
    #[arg(long)]
    pub from: Option<String>,
    /// The end of the window if this is a time, otherwise the file to write: .html, .md, .txt or .json. May be given twice.
    #[arg(long, value_name = "TIME|FILE")]
    pub to: Vec<String>,
    /// Compare with the window of the same length that starts here; by default the one before.
    #[arg(long, value_name = "TIME")]
    pub compare: Option<String>,
    /// Store it with the other reports, and mail it to the groups of the job that reports on this cluster, or to `database`.
    #[arg(long)]
    pub mail: bool,
}

/// What a health report is about, and what becomes of it.
#[derive(Debug, Args)]
pub struct HealthArguments {
    /// The cluster; by default all of them.
    #[arg(add = complete::clusters())]
    pub cluster: Option<String>,
    /// Only backups, as in a daily mail about them.
    #[arg(long)]
    pub backups: bool,
    /// How many days of runs, backups and alerts to list.
    #[arg(long, default_value_t = 7)]
    pub days: u16,
    #[command(flatten)]
    pub destination: Destination,
}

/// What a drill report is about, and what becomes of it.
#[derive(Debug, Args)]
pub struct DrillArguments {
    /// The cluster; not needed if only one is configured.
    #[arg(add = complete::clusters())]
    pub cluster: Option<String>,
    /// Run every restore test of the cluster first.
    #[arg(long)]
    pub run: bool,
    #[command(flatten)]
    pub destination: Destination,
}
