//! Arguments of `backup` and `wal`.

use super::complete;
use clap::Subcommand;
use std::path::PathBuf;

/// What to do with backups.
#[derive(Debug, Subcommand)]
pub enum BackupCommand {
    /// Run a backup job now and wait for it.
    Create {
        /// The job; not needed if there is only one backup job.
        #[arg(add = complete::jobs())]
        job: Option<String>,
    },
    /// List the backups of every repository.
    List {
        /// Only backups of this cluster.
        #[arg(long, add = complete::clusters())]
        cluster: Option<String>,
    },
    /// Show everything about one backup.
    Show {
        /// Its label, or the beginning of it.
        #[arg(add = complete::labels())]
        label: String,
    },
    /// Copy a backup, with the backups it builds on, to another repository.
    Copy {
        /// Its label, or the beginning of it.
        #[arg(add = complete::labels())]
        label: String,
        /// The repository to copy to.
        #[arg(long, add = complete::repositories())]
        to: String,
        /// The repository to copy from; by default the first that has it.
        #[arg(long, add = complete::repositories())]
        from: Option<String>,
    },
    /// Remove backups and WAL that retention no longer keeps, and show for each backup why it stays or goes.
    Expire {
        /// Only this cluster.
        #[arg(long, add = complete::clusters())]
        cluster: Option<String>,
        /// Only in this repository.
        #[arg(long, add = complete::repositories())]
        repository: Option<String>,
        /// Show what would be removed, and remove nothing.
        #[arg(long)]
        dry_run: bool,
        /// Do not ask for confirmation.
        #[arg(long)]
        force: bool,
    },
    /// Keep a backup regardless of retention.
    Keep {
        /// Its label, or the beginning of it.
        #[arg(add = complete::labels())]
        label: String,
        /// Why, for the record.
        #[arg(long, default_value = "no reason given")]
        reason: String,
    },
    /// Make a kept backup subject to retention again.
    Unkeep {
        /// Its label, or the beginning of it.
        #[arg(add = complete::labels())]
        label: String,
    },
    /// Remove one backup regardless of retention, such as one of another server.
    ///
    /// WAL that only this backup needs is removed by the next expiry.
    Remove {
        /// Its label, or the beginning of it.
        #[arg(add = complete::labels())]
        label: String,
        /// Only from this repository.
        #[arg(long, add = complete::repositories())]
        repository: Option<String>,
        /// Do not ask for confirmation.
        #[arg(long)]
        force: bool,
    },
    /// Verify and sign what no trusted key has signed.
    ///
    /// That is what was written before signing was set up, or signed with a key that is no longer trusted. See docs/signatures.md.
    /// Exits with 2 if something is damaged and stays unsigned.
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
        /// Do not ask for confirmation.
        #[arg(long)]
        force: bool,
    },
    /// Read a backup from start to end and compare everything with what was recorded when it was taken.
    ///
    /// Exits with 2 if it is damaged.
    Verify {
        /// Its label, or the beginning of it.
        #[arg(conflicts_with_all = ["latest", "all"], add = complete::labels())]
        label: Option<String>,
        /// The newest backup of every cluster and repository; this is the default.
        #[arg(long, conflicts_with = "all")]
        latest: bool,
        /// Every backup, and the whole WAL archive.
        #[arg(long)]
        all: bool,
    },
}

/// What to do with WAL.
#[derive(Debug, Subcommand)]
pub enum WalCommand {
    /// Archive one file: `archive_command = 'pgbosun wal push "%p"'`.
    ///
    /// Exits with 0 once the file is durable in every required repository.
    Push {
        /// The file, as PostgreSQL names it.
        path: PathBuf,
        /// The cluster; by default the one with this data directory, or the only one.
        #[arg(long, add = complete::clusters())]
        cluster: Option<String>,
    },
    /// Fetch one file for recovery: `restore_command = 'pgbosun wal fetch "%f" "%p"'`.
    ///
    /// Exits with 1 only if no repository has the file.
    Fetch {
        /// The file's name.
        name: String,
        /// Where PostgreSQL wants it.
        path: PathBuf,
        /// The cluster; by default the one with this data directory, or the only one.
        #[arg(long, add = complete::clusters())]
        cluster: Option<String>,
        /// Only from this repository.
        #[arg(long, add = complete::repositories())]
        repository: Option<String>,
        /// For a copy alongside its original: put tablespaces that the WAL creates into the copy's data directory, not at the
        /// original's location.
        #[arg(long)]
        confined: bool,
        /// Do not pause recovery because the original raised settings such as max_connections after the backup.
        #[arg(long)]
        without_limits: bool,
        /// Ignore WAL of this timeline after this position: the timeline to follow branched off there.
        #[arg(long, value_name = "TIMELINE@LSN", value_parser = switch)]
        until: Option<pgbosun_core::wal::Switch>,
        /// Where to put a tablespace that the WAL creates at OLD.
        #[arg(long, value_name = "OLD=NEW")]
        tablespace: Vec<String>,
        /// Only read ahead: fetch what follows into the spool. For the command's own use.
        #[arg(long, hide = true)]
        ahead: bool,
    },
    /// Show what is archived: continuity per timeline, gaps, and what each backup needs.
    List {
        /// The cluster; not needed if only one is configured.
        #[arg(long, add = complete::clusters())]
        cluster: Option<String>,
        /// Only in this repository.
        #[arg(long, add = complete::repositories())]
        repository: Option<String>,
    },
    /// Receive WAL in the foreground, as the daemon does if `receive-wal` is set.
    Receive {
        /// The cluster; not needed if only one is configured.
        #[arg(long, add = complete::clusters())]
        cluster: Option<String>,
    },
}

/// Where a timeline was left.
fn switch(text: &str) -> Result<pgbosun_core::wal::Switch, String> {
    let (parent, at) = text.split_once('@').ok_or("write TIMELINE@LSN, such as 1@0/30000A8")?;
    let parent = parent.parse().map_err(|_| format!("\"{parent}\" is not a timeline"))?;
    let at = at.parse().map_err(|_| format!("\"{at}\" is not a WAL position"))?;
    Ok(pgbosun_core::wal::Switch { parent, at })
}
