//! What commands change by themselves goes into the audit log; what they ask the daemon for, the daemon writes down.
//!
//! Invariants: every command is named in [`change`], and with it whoever adds one decides; a restore is written down before it begins,
//! and whatever else takes away or takes long, since what ends it may end us too. A log that cannot be written is said, and keeps nobody from restoring.

use crate::{
    cli::{BackupCommand, ClusterCommand, Command, RestoreCommand},
    exit,
    local::Context,
    output::yellow,
};
use anyhow::Context as _;
use pgbosun_core::outcome::AuditRecord;
use pgbosun_history::Actor;
use std::time::Duration;

/// How long the daemon may take: what is to be done does not wait for it.
const LIMIT: Duration = Duration::from_secs(5);

/// A change that a command makes by itself.
pub struct Change {
    record: AuditRecord,
    /// Written down before it begins, too.
    begins: bool,
}

impl Change {
    /// What a command changes, if it does.
    pub fn of(command: &Command) -> Option<Self> {
        let (action, object, begins) = change(command)?;
        let words: Vec<_> = std::env::args_os().skip(1).map(|word| word.to_string_lossy().into_owned()).collect();
        Some(Self { record: AuditRecord::new(action, object, words.join(" ")), begins })
    }

    /// Before it begins.
    pub async fn begin(&self, context: &Context) {
        if self.begins {
            write(context, self.record.clone().came("begun")).await;
        }
    }

    /// When it has ended.
    pub async fn end(self, context: &Context, done: &anyhow::Result<u8>) {
        let outcome = match done {
            Ok(0) => "done".to_owned(),
            Ok(code) => format!("ended with code {code}"),
            Err(error) => format!("failed: {}", exit::describe(error)),
        };
        write(context, self.record.came(outcome)).await;
    }
}

fn change(command: &Command) -> Option<(&'static str, String, bool)> {
    let all = || "all".to_owned();
    let long = |action, object: &str| Some((action, object.to_owned(), true));
    let quick = |action, object: &str| Some((action, object.to_owned(), false));
    match command {
        Command::Restore { command } => match command {
            RestoreCommand::Physical(arguments) if arguments.verify_only => None,
            RestoreCommand::Physical(arguments) => {
                let to = arguments.to.as_ref().map_or_else(String::new, |to| to.display().to_string());
                Some(("restore physical", to, true))
            }
            RestoreCommand::Table(arguments) => Some(("restore table", arguments.name.clone(), true)),
            RestoreCommand::Schema(arguments) => Some(("restore schema", arguments.name.clone(), true)),
            RestoreCommand::Database(arguments) => Some(("restore database", arguments.name.clone(), true)),
        },
        Command::Backup { command } => match command {
            BackupCommand::Create { .. }
            | BackupCommand::List { .. }
            | BackupCommand::Show { .. }
            | BackupCommand::Expire { dry_run: true, .. } => None,
            BackupCommand::Copy { label, .. } => long("backup copy", label),
            BackupCommand::Expire { cluster, .. } => Some(("backup expire", cluster.clone().unwrap_or_else(all), true)),
            BackupCommand::Keep { label, .. } => quick("backup keep", label),
            BackupCommand::Unkeep { label } => quick("backup unkeep", label),
            BackupCommand::Remove { label, .. } => long("backup remove", label),
            BackupCommand::Sign { label, .. } => Some(("backup sign", label.clone().unwrap_or_else(all), false)),
            BackupCommand::Verify { all: true, .. } => quick("backup verify", "all"),
            BackupCommand::Verify { label, .. } => quick("backup verify", label.as_deref().unwrap_or("the newest")),
        },
        Command::Cluster { command: ClusterCommand::Accept { cluster, .. } } => quick("cluster accept", cluster),
        Command::Journal { .. } => quick("journal renew", "the journal"),
        Command::Migrate { rebuild: false } => quick("migrate", "dba_ops"),
        Command::Migrate { rebuild: true } => Some(("migrate --rebuild", "dba_ops".to_owned(), true)),
        // They change nothing, or by the daemon, the trigger in dba_ops, or a run, each of which writes it down.
        Command::Daemon
        | Command::Status { .. }
        | Command::Check { .. }
        | Command::Metrics
        | Command::Config { .. }
        | Command::Schedule(_)
        | Command::Job { .. }
        | Command::Wal { .. }
        | Command::Completions { .. }
        | Command::Man { .. }
        | Command::RestoreTest { .. }
        | Command::Alert { .. }
        | Command::Operator { .. }
        | Command::Report { .. }
        | Command::Fence { .. }
        | Command::RecoveryEnded
        | Command::Demo { .. } => None,
    }
}

/// Adds a row, through the daemon or without it.
pub async fn write(context: &Context, record: AuditRecord) {
    let written = async {
        match context.daemon().await? {
            // It may still take the row, when it goes on.
            Some(daemon) => daemon.ask(LIMIT, "/audit", &record).await.context("the daemon did not accept it"),
            None => Ok(context.offline().await?.engine.journal.audit(&Actor::own(), record).await?),
        }
    };
    if let Err(error) = written.await {
        tell!("{} {}", yellow("not in the audit log:"), exit::describe(&error));
    }
}
