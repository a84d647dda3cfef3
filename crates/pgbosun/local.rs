//! What a command works with: the configuration, the daemon where there is one, and the journal where there is none.

use crate::{client::Client, exit::Exit, guest, output::yellow};
use anyhow::Context as _;
use nix::unistd::{Gid, Uid, User, geteuid, initgroups, setgid, setuid};
use pgbosun_core::{
    config::{Config, daemon_user, state_directory},
    outcome::BackupStateRecord,
};
use pgbosun_daemon::Engine;
use pgbosun_history::{Journal, StateLock};
use pgbosun_repository::Repository;
use std::{ffi::CString, os::unix::fs::MetadataExt, path::Path, sync::Arc, time::Duration};
use tokio::runtime::{Handle, Runtime};

/// What a command works with.
pub struct Context {
    /// The configuration.
    pub config: Config,
    /// Print JSON.
    pub json: bool,
    /// Bulk work runs here.
    pub bulk: Handle,
    /// This user may not read the configuration, and it says nothing but where the daemon is.
    pub is_guest: bool,
}

/// The journal, held by this process while there is no daemon.
pub struct Offline {
    /// What the daemon would share.
    pub engine: Arc<Engine>,
    _lock: StateLock,
}

impl Context {
    /// The daemon, where one runs.
    ///
    /// # Errors
    /// Where there is one and this user may not talk to it.
    pub async fn daemon(&self) -> anyhow::Result<Option<Client>> {
        Client::find(&self.config.daemon.control_socket).await
    }

    /// The daemon, which this command needs.
    ///
    /// # Errors
    /// Where there is none.
    pub async fn need_daemon(&self, what: &str) -> anyhow::Result<Client> {
        self.daemon().await?.ok_or_else(|| {
            let socket = self.config.daemon.control_socket.display();
            Exit::refused(format!("no daemon answers on {socket}, and {what} needs one: systemctl start pgbosun"))
        })
    }

    /// Refuses what needs the configuration to whoever may not read it.
    fn need_configuration(&self) -> anyhow::Result<()> {
        let refused = || guest::refused(&self.config.path, &self.config.daemon.control_socket);
        if self.is_guest { Err(refused()) } else { Ok(()) }
    }

    /// The journal, in place of a daemon.
    ///
    /// # Errors
    /// Where this user may not, another process holds it or it cannot be opened.
    pub async fn offline(&self) -> anyhow::Result<Offline> {
        self.need_configuration()?;
        let directory = &self.config.daemon.state_directory;
        let lock = StateLock::wait(directory, Duration::from_secs(2)).await?;
        let journal = Journal::open(directory).await?;
        let engine = Engine::new(self.config.clone(), journal, self.bulk.clone());
        Ok(Offline { engine, _lock: lock })
    }

    /// Writes down what became of backups by hand, through the daemon or without it. The repository has it already: that history
    /// cannot be told is said, and is no failure.
    pub async fn note_backups(&self, changes: Vec<BackupStateRecord>) {
        if changes.is_empty() {
            return;
        }
        let noted = async {
            match self.daemon().await? {
                Some(daemon) => daemon.post("/backups", &changes).await,
                None => {
                    let offline = self.offline().await?;
                    Ok(offline.engine.journal.note_backups(changes, offline.engine.now()).await?)
                }
            }
        };
        if let Err(error) = noted.await {
            tell!("{} {}", yellow("not in history:"), crate::exit::describe(&error));
        }
    }

    /// The cluster a command is about: the named one, or the only one.
    ///
    /// # Errors
    /// Where there is no such cluster, or several and none was named.
    pub fn cluster(&self, named: Option<&str>) -> anyhow::Result<String> {
        self.need_configuration()?;
        let names: Vec<&str> = self.config.clusters.keys().map(String::as_str).collect();
        match (named, names.as_slice()) {
            (Some(name), names) if names.contains(&name) => Ok(name.to_owned()),
            (None, [name]) => Ok((*name).to_owned()),
            (Some(name), names) => Err(Exit::usage(format!("no cluster {name}; configured: {}", names.join(", ")))),
            (None, []) => Err(Exit::usage("no cluster is configured under [clusters.NAME]")),
            (None, names) => Err(Exit::usage(format!("which cluster? configured: {}", names.join(", ")))),
        }
    }

    /// The configured repositories, or the named one.
    ///
    /// # Errors
    /// Where there is no such repository.
    pub fn repositories(&self, named: Option<&str>) -> anyhow::Result<Vec<Repository>> {
        self.need_configuration()?;
        let wanted = self.config.repositories.iter().filter(|(name, _)| named.is_none_or(|named| named == *name));
        let found = wanted
            .map(|(name, options)| Repository::open(&self.config, name, options))
            .collect::<Result<Vec<_>, _>>()?;
        match (found.is_empty(), named) {
            (true, Some(name)) => Err(Exit::usage(format!("no repository {name} is configured"))),
            (true, None) => Err(Exit::usage("no repository is configured under [repositories.NAME]")),
            _ => Ok(found),
        }
    }

    /// The time zone in which people are told times.
    pub fn zone(&self) -> chrono_tz::Tz {
        self.config.daemon.time_zone
    }
}

/// The runtime for bulk work.
///
/// # Errors
/// Those of thread creation.
pub fn bulk() -> std::io::Result<Runtime> {
    tokio::runtime::Builder::new_multi_thread().worker_threads(2).thread_name("pgbosun-bulk").enable_all().build()
}

/// Started by root a command becomes the owner of the state directory first, so that it leaves nothing behind that the
/// daemon cannot read; one that restores becomes the owner of the place where it does, for PostgreSQL starts from nothing that is not
/// its user's own. Comes before any thread is started.
///
/// # Errors
/// Where that user cannot be become.
pub fn become_owner(state_directory: &Path, restores_into: Option<&Path>) -> anyhow::Result<()> {
    if !geteuid().is_root() {
        return Ok(());
    }
    let owner = |place: &Path| {
        let absolute = std::path::absolute(place).ok()?;
        let there = absolute.ancestors().find_map(|part| std::fs::metadata(part).ok())?;
        (there.uid() != 0).then(|| (Uid::from_raw(there.uid()), Gid::from_raw(there.gid()), place.to_owned()))
    };
    let Some((uid, gid, place)) = restores_into.and_then(owner).or_else(|| owner(state_directory)) else {
        return Ok(());
    };
    let user = User::from_uid(uid)?.with_context(|| format!("no user has the id {uid}"))?;
    become_user(&user, gid).with_context(|| format!("switch to user {}, the owner of {}", user.name, place.display()))
}

/// Becomes the user that the daemon runs as, where this is root: the one that the configuration names, else the owner of the state
/// directory.
///
/// # Errors
/// Where that is not to be had.
pub fn become_daemon(path: &Path) -> anyhow::Result<()> {
    match daemon_user(path).filter(|_| geteuid().is_root()) {
        Some(name) => {
            let user = User::from_name(&name)?.with_context(|| format!("there is no user {name}"))?;
            become_user(&user, user.gid)
        }
        None => become_owner(&state_directory(path), None),
    }
}

fn become_user(user: &User, gid: Gid) -> anyhow::Result<()> {
    let name = CString::new(user.name.as_str())?;
    initgroups(&name, user.gid).and_then(|()| setgid(gid)).and_then(|()| setuid(user.uid))?;
    pgbosun_history::was_started_by("root");
    Ok(())
}
