//! Reports on the command line.

use super::complete;
use clap::{Args, Subcommand};
use std::path::PathBuf;

/// Reports.
#[derive(Debug, Subcommand)]
pub enum ReportCommand {
    /// What a server did in a window of time: the last day, unless --from or --to say otherwise.
    Performance(PerformanceArguments),
    /// How everything stands: clusters, backups and what they reach, restore tests, storage, jobs, alerts.
    Health(HealthArguments),
    /// A disaster-recovery drill: what restore tests measured and people plan for, beside the objectives.
    Drill(DrillArguments),
}

/// What becomes of a report.
#[derive(Args, Debug)]
pub struct Destination {
    /// The file to write: .html, .md, .txt or .json; to the terminal without.
    #[arg(long, value_name = "FILE")]
    pub to: Option<PathBuf>,
    /// Keep it with the other reports, and send it to the groups of the job that makes such reports, or to `database`.
    #[arg(long)]
    pub mail: bool,
}

/// What a performance report is about, and what becomes of it.
#[derive(Debug, Args)]
pub struct PerformanceArguments {
    /// The cluster; the only one by default.
    #[arg(add = complete::clusters())]
    pub cluster: Option<String>,
    /// The beginning of the window, such as "2026-11-21 06:00".
    #[arg(long)]
    pub from: Option<String>,
    /// The end of the window where this is a time; else the file to write: .html, .md, .txt or .json. May be given twice.
    #[arg(long, value_name = "TIME|FILE")]
    pub to: Vec<String>,
    /// Beside the window of the same length that begins here; the one before by default.
    #[arg(long, value_name = "TIME")]
    pub compare: Option<String>,
    /// Keep it with the other reports, and send it to the groups of the job that reports on this cluster, or to `database`.
    #[arg(long)]
    pub mail: bool,
}

/// What a health report is about, and what becomes of it.
#[derive(Debug, Args)]
pub struct HealthArguments {
    /// The cluster; all of them by default.
    #[arg(add = complete::clusters())]
    pub cluster: Option<String>,
    /// Backups alone: what a daily mail about them says.
    #[arg(long)]
    pub backups: bool,
    /// The days whose runs, backups and alerts it lists.
    #[arg(long, default_value_t = 7)]
    pub days: u16,
    #[command(flatten)]
    pub destination: Destination,
}

/// What a drill report is about, and what becomes of it.
#[derive(Debug, Args)]
pub struct DrillArguments {
    /// The cluster; the only one by default.
    #[arg(add = complete::clusters())]
    pub cluster: Option<String>,
    /// Run every restore test of the cluster first.
    #[arg(long)]
    pub run: bool,
    #[command(flatten)]
    pub destination: Destination,
}
