//! Arguments of `alert` and `operator`.

use super::complete;
use clap::{Args, Subcommand};

/// What to do with alerts.
#[derive(Debug, Subcommand)]
pub enum AlertCommand {
    /// List the open alerts.
    List {
        /// Include resolved alerts.
        #[arg(long)]
        all: bool,
    },
    /// Show everything about one alert.
    Show {
        /// Its id, or the beginning or end of it.
        #[arg(add = complete::alerts())]
        id: String,
    },
    /// Acknowledge an alert: nobody is notified again until it gets worse or is resolved.
    Ack {
        /// Its id, or the beginning or end of it.
        #[arg(add = complete::alerts())]
        id: String,
        /// Why, for the record and for your colleagues.
        #[arg(long, default_value = "no reason given")]
        reason: String,
    },
    /// Mark an alert as resolved if no check will do so any more.
    ///
    /// If something is still wrong, the next check opens a new alert.
    Resolve {
        /// Its id, or the beginning or end of it.
        #[arg(add = complete::alerts())]
        id: String,
        /// Why, for the record and for your colleagues.
        #[arg(long)]
        reason: String,
    },
    /// Silence some alerts for a while. They stay open, and whatever is still wrong afterwards is reported.
    Silence(Silence),
    /// End a silence early.
    Unsilence {
        /// Its id, or the beginning or end of it.
        id: String,
    },
    /// List the silences in force.
    Silences,
    /// Send a test message to a group through each of its channels and report the results.
    Test {
        /// The group.
        #[arg(default_value = "database")]
        group: String,
    },
}

/// A silence. `*` in a pattern stands for any text.
#[derive(Args, Debug)]
pub struct Silence {
    /// Only this alert: its id, or the beginning or end of it.
    #[arg(conflicts_with_all = ["cluster", "job", "object"], add = complete::alerts())]
    pub id: Option<String>,
    /// Alerts of clusters whose name matches; `*` stands for any text.
    #[arg(long, value_name = "PATTERN", add = complete::clusters())]
    pub cluster: Option<String>,
    /// Alerts of jobs whose name matches; `*` stands for any text.
    #[arg(long, value_name = "PATTERN", add = complete::jobs())]
    pub job: Option<String>,
    /// Alerts about objects whose name matches; `*` stands for any text.
    #[arg(long, value_name = "PATTERN")]
    pub object: Option<String>,
    /// For this long, such as `2h`.
    #[arg(long = "for", value_name = "DURATION", required_unless_present = "until")]
    pub duration: Option<humantime::Duration>,
    /// Until this time: `2026-11-22 08:00` in the daemon's time zone, or with an explicit time zone.
    #[arg(long, value_name = "TIME", conflicts_with = "duration")]
    pub until: Option<String>,
    /// Why, for the record and for your colleagues.
    #[arg(long)]
    pub reason: String,
}

/// What to do with operators.
#[derive(Debug, Subcommand)]
pub enum OperatorCommand {
    /// List the operators.
    List,
    /// Add an operator to a group.
    Add {
        /// The group.
        group: String,
        /// The mail address.
        email: String,
        /// The person's name.
        #[arg(long)]
        name: Option<String>,
    },
    /// Remove an operator from a group.
    Remove {
        /// The group.
        group: String,
        /// The mail address.
        email: String,
    },
    /// Manage groups of operators.
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
    /// Add a group.
    Add {
        /// Its name.
        name: String,
        /// What the group is responsible for.
        #[arg(long)]
        description: Option<String>,
    },
}
