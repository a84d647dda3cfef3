//! Arguments of `alert` and `operator`.

use super::complete;
use clap::{Args, Subcommand};

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
        #[arg(add = complete::alerts())]
        id: String,
    },
    /// Say that you look at an alert: nobody is notified again until it gets worse or is over.
    Ack {
        /// Its id, or the beginning or end of it.
        #[arg(add = complete::alerts())]
        id: String,
        /// Why, for the record and for the others.
        #[arg(long, default_value = "no reason given")]
        reason: String,
    },
    /// Say that an alert is over, where nobody looks any more or will see it. What still is wrong is a new alert at the next look.
    Resolve {
        /// Its id, or the beginning or end of it.
        #[arg(add = complete::alerts())]
        id: String,
        /// Why, for the record and for the others.
        #[arg(long)]
        reason: String,
    },
    /// Keep quiet about some alerts until a time. They stay open, and what still is wrong then is told.
    Silence(Silence),
    /// End a silence before its time.
    Unsilence {
        /// Its id, or the beginning or end of it.
        id: String,
    },
    /// List the silences in force.
    Silences,
    /// Send a test message to a group through each of its channels and say what came of it.
    Test {
        /// The group.
        #[arg(default_value = "database")]
        group: String,
    },
}

/// A silence. `*` in a pattern stands for any text.
#[derive(Args, Debug)]
pub struct Silence {
    /// This alert alone, by its id, or the beginning or end of it.
    #[arg(conflicts_with_all = ["cluster", "job", "object"], add = complete::alerts())]
    pub id: Option<String>,
    /// Alerts of clusters like this.
    #[arg(long, value_name = "PATTERN", add = complete::clusters())]
    pub cluster: Option<String>,
    /// Alerts of jobs like this.
    #[arg(long, value_name = "PATTERN", add = complete::jobs())]
    pub job: Option<String>,
    /// Alerts about what is like this.
    #[arg(long, value_name = "PATTERN")]
    pub object: Option<String>,
    /// For so long, `2h`.
    #[arg(long = "for", value_name = "DURATION", required_unless_present = "until")]
    pub duration: Option<humantime::Duration>,
    /// Until this time: `2026-11-22 08:00` in the daemon's time zone, or with a zone of its own.
    #[arg(long, value_name = "TIME", conflicts_with = "duration")]
    pub until: Option<String>,
    /// Why, for the record and for the others.
    #[arg(long)]
    pub reason: String,
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
