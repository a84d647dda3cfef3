//! Arguments of `backup` and `wal`.

use super::complete;
use clap::Subcommand;
use std::path::PathBuf;

/// What to do with backups.
#[derive(Debug, Subcommand)]
pub enum BackupCommand {
    /// Run a backup job now and wait for it.
    Create {
        /// The job; the only backup job by default.
        #[arg(add = complete::jobs())]
        job: Option<String>,
    },
    /// List the backups of every repository.
    List {
        /// Only this cluster's.
        #[arg(long, add = complete::clusters())]
        cluster: Option<String>,
    },
    /// Show everything about one backup.
    Show {
        /// Its label, or the beginning of it.
        #[arg(add = complete::labels())]
        label: String,
    },
    /// Copy a backup, with what it builds upon, to another repository.
    Copy {
        /// Its label, or the beginning of it.
        #[arg(add = complete::labels())]
        label: String,
        /// The repository to copy to.
        #[arg(long, add = complete::repositories())]
        to: String,
        /// The repository to copy from; the first that has it by default.
        #[arg(long, add = complete::repositories())]
        from: Option<String>,
    },
    /// Remove what retention no longer keeps, backups and WAL, and say for each backup why it stays or goes.
    Expire {
        /// Only this cluster's.
        #[arg(long, add = complete::clusters())]
        cluster: Option<String>,
        /// Only in this repository.
        #[arg(long, add = complete::repositories())]
        repository: Option<String>,
        /// Say what would go, and remove nothing.
        #[arg(long)]
        dry_run: bool,
        /// Do not ask.
        #[arg(long)]
        force: bool,
    },
    /// Keep a backup whatever retention says.
    Keep {
        /// Its label, or the beginning of it.
        #[arg(add = complete::labels())]
        label: String,
        /// Why, for the record.
        #[arg(long, default_value = "no reason given")]
        reason: String,
    },
    /// Give a kept backup back to retention.
    Unkeep {
        /// Its label, or the beginning of it.
        #[arg(add = complete::labels())]
        label: String,
    },
    /// Remove one backup, whatever retention says of it: that of another server, for one. WAL that it alone needs goes with the next
    /// expiry.
    Remove {
        /// Its label, or the beginning of it.
        #[arg(add = complete::labels())]
        label: String,
        /// From this repository only.
        #[arg(long, add = complete::repositories())]
        repository: Option<String>,
        /// Do not ask.
        #[arg(long)]
        force: bool,
    },
    /// Verify and sign what no trusted key has signed: what was written before signing was set up, or with a key that is trusted no
    /// more. See docs/signatures.md. Exits with 2 if something is damaged and stays unsigned.
    Sign {
        /// The backup's label.
        #[arg(required_unless_present = "all", conflicts_with = "all", add = complete::labels())]
        label: Option<String>,
        /// Every backup, and the whole WAL archive.
        #[arg(long)]
        all: bool,
        /// Only in this repository.
        #[arg(long, add = complete::repositories())]
        repository: Option<String>,
        /// Do not ask.
        #[arg(long)]
        force: bool,
    },
    /// Read a backup from end to end and compare everything with what was written down. Exits with 2 if it is damaged.
    Verify {
        /// Its label, or the beginning of it.
        #[arg(conflicts_with_all = ["latest", "all"], add = complete::labels())]
        label: Option<String>,
        /// The newest one of every cluster and repository; what is verified when nothing is said.
        #[arg(long, conflicts_with = "all")]
        latest: bool,
        /// Every one, and the whole WAL archive.
        #[arg(long)]
        all: bool,
    },
}

/// What to do with WAL.
#[derive(Debug, Subcommand)]
pub enum WalCommand {
    /// Archive one file: `archive_command = 'pgbosun wal push "%p"'`. Exits with 0 once it is durable everywhere it must be.
    Push {
        /// The file, as PostgreSQL names it.
        path: PathBuf,
        /// The cluster; the one with this data directory, or the only one, by default.
        #[arg(long, add = complete::clusters())]
        cluster: Option<String>,
    },
    /// Fetch one file for recovery: `restore_command = 'pgbosun wal fetch "%f" "%p"'`. Exits with 1 only where no repository has it.
    Fetch {
        /// The file's name.
        name: String,
        /// Where PostgreSQL wants it.
        path: PathBuf,
        /// The cluster; the one with this data directory, or the only one, by default.
        #[arg(long, add = complete::clusters())]
        cluster: Option<String>,
        /// Only from this repository.
        #[arg(long, add = complete::repositories())]
        repository: Option<String>,
        /// For a copy that stands beside its original: a tablespace that the WAL creates is made inside the copy's data directory,
        /// not at the original's place.
        #[arg(long)]
        confined: bool,
        /// Recovery does not wait for settings such as max_connections that the original raised after the backup.
        #[arg(long)]
        without_limits: bool,
        /// What this timeline has behind this position is left out: another timeline branched off there, which is the one to follow.
        #[arg(long, value_name = "TIMELINE@LSN", value_parser = switch)]
        until: Option<pgbosun_core::wal::Switch>,
        /// Where a tablespace goes that the WAL creates at OLD.
        #[arg(long, value_name = "OLD=NEW")]
        tablespace: Vec<String>,
        /// Only read ahead: fetch what follows into the spool. For the command's own use.
        #[arg(long, hide = true)]
        ahead: bool,
    },
    /// What is archived: continuity per timeline, gaps, and what each backup needs.
    List {
        /// The cluster; the only one by default.
        #[arg(long, add = complete::clusters())]
        cluster: Option<String>,
        /// Only in this repository.
        #[arg(long, add = complete::repositories())]
        repository: Option<String>,
    },
    /// Receive WAL in the foreground, as the daemon does where `receive-wal` is set.
    Receive {
        /// The cluster; the only one by default.
        #[arg(long, add = complete::clusters())]
        cluster: Option<String>,
    },
}

/// Where a timeline was left.
fn switch(text: &str) -> Result<pgbosun_core::wal::Switch, String> {
    let (parent, at) = text.split_once('@').ok_or("write TIMELINE@LSN, as 1@0/30000A8")?;
    let parent = parent.parse().map_err(|_| format!("\"{parent}\" is no timeline"))?;
    let at = at.parse().map_err(|_| format!("\"{at}\" is no position in the WAL"))?;
    Ok(pgbosun_core::wal::Switch { parent, at })
}
