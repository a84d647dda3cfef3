//! Restoring a physical backup, with the chain it builds upon, into a directory from which PostgreSQL starts.

mod account;
mod assembly;
mod before;
mod configuration;
pub(crate) mod extract;
mod finish;
mod living;
mod plan;
mod prepare;
mod reach;
mod recovered;
mod served;

pub use finish::is_copy;
pub use plan::{Plan, Reachable, Request, Target, plan, reachable};
pub use reach::plan_beyond;
pub use recovered::forget_recovery;
pub use served::primary_of;

pub(crate) use assembly::{Assembly, Link};
pub(crate) use finish::settings as recovery_settings;
pub(crate) use plan::{GAP_PAUSE, GAP_TRIES};

use crate::{Error, Progress, config_files, manifest, pace::Pace, wal::Confinement};
use account::{Account, Contents};
use extract::{Access, Unpacking, Wanted};
use futures::{FutureExt, StreamExt, TryStreamExt, future::BoxFuture, stream};
use pgbosun_core::{faults, wal::Switch};
use pgbosun_postgres::Server;
use pgbosun_repository::{BackupInfo, Object, ObjectKind, Repository, read_volume};
use std::{
    collections::{BTreeMap, HashMap, HashSet},
    io,
    path::{Path, PathBuf},
    sync::Arc,
};
use tokio_util::sync::CancellationToken;

/// What to restore, and where to.
#[derive(Clone, Debug)]
pub struct Restore {
    /// From where.
    pub repository: Repository,
    /// Which backup; what it builds upon is found.
    pub info: BackupInfo,
    /// Where the line that is followed leaves the backup's (C41).
    pub until: Option<Switch>,
    /// The servers that are known: a copy takes none of their ports, and nothing is restored over one that answers.
    pub servers: Vec<Server>,
    /// The servers of the cluster whose backup it is.
    pub original: Option<Server>,
    /// The new data directory.
    pub target: PathBuf,
    /// What to do with what is there already.
    pub existing: Existing,
    /// Where tablespaces go, by their old location; one that is not named goes to its old location.
    pub tablespaces: BTreeMap<String, PathBuf>,
    /// Whether it takes the place of its original, which goes on as it was; else it is a copy beside it, kept apart (C21, C30).
    pub in_place: bool,
    /// Whether configuration files that lay elsewhere go back there.
    pub config_files: bool,
    /// How the server recovers; without it to the backup's own end.
    pub recovery: Option<Recovery>,
    /// The most that is written in a second, bytes.
    pub max_rate: Option<u64>,
    /// Told how far it is.
    pub progress: Arc<Progress>,
    /// Ends it.
    pub cancel: CancellationToken,
}

/// What to do with a target that is not empty (C17).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Existing {
    /// Refuse it.
    Refuse,
    /// Keep the files that are right already.
    Delta,
    /// Remove everything in it first.
    Replace,
}

pgbosun_core::words! {
    /// What the server does when it reached its target (`recovery_target_action`).
    pub enum TargetAction {
        /// Ends recovery and takes writes.
        Promote = "promote",
        /// Waits, open for reading, until `pg_wal_replay_resume()`.
        Pause = "pause",
        /// Stops.
        Shutdown = "shutdown",
    }
}

/// How a restored server recovers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Recovery {
    /// Fetches WAL: a command with `%f` and `%p`.
    pub restore_command: String,
    /// How far.
    pub target: Target,
    /// Along which timeline.
    pub timeline: u32,
    /// Stop just before the target, not just after.
    pub exclusive: bool,
    /// What then.
    pub action: TargetAction,
    /// Become a standby instead of ending recovery.
    pub standby: bool,
    /// Run when recovery has ended; empty for none.
    pub end_command: String,
}

impl Recovery {
    /// The `restore_command` of a cluster: this program, told where its configuration is, and what must not reach the places of the
    /// original (C29).
    pub fn command(program: &Path, configuration: &Path, request: &Request, confinement: &Confinement) -> String {
        let (program, configuration) = (in_command(program), in_command(configuration));
        let flags = [(confinement.places, "--confined "), (confinement.settings, "--without-limits ")];
        let mut confined: String = flags.iter().filter(|(is_set, _)| *is_set).map(|(_, flag)| *flag).collect();
        if let Some(Switch { parent, at }) = confinement.until {
            confined.push_str(&format!("--until {parent}@{at} "));
        }
        for (old, new) in &confinement.moved {
            let escaped = |path: &str| path.replace('=', "\\=");
            let pair = PathBuf::from(format!("{}={}", escaped(old), escaped(&new.display().to_string())));
            confined.extend(["--tablespace ", &in_command(&pair), " "]);
        }
        let only = request.only.as_ref().map_or_else(String::new, |only| format!(" --repository {only}"));
        let cluster = &request.cluster;
        format!("{program} --config {configuration} wal fetch {confined}--cluster {cluster}{only} \"%f\" \"%p\"")
    }
}

/// The `recovery_end_command` that calls [`forget_recovery`]: it runs in the data directory. Whatever becomes of it, the server starts.
pub fn recovery_end_command(program: &Path) -> String {
    format!("{} recovery-ended || :", in_command(program))
}

/// A path in a command of PostgreSQL's configuration: for the shell, which reads it, and for PostgreSQL, to which % means something.
fn in_command(path: &Path) -> String {
    let mut quoted = String::from('"');
    for c in path.display().to_string().chars() {
        match c {
            '"' | '$' | '`' | '\\' => quoted.extend(['\\', c]),
            '%' => quoted.push_str("%%"),
            c => quoted.push(c),
        }
    }
    quoted.push('"');
    quoted
}

/// What was restored.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Restored {
    /// Files written.
    pub files: u64,
    /// Bytes written.
    pub bytes: u64,
    /// Files that were right already.
    pub kept: u64,
    /// Where each tablespace went.
    pub tablespaces: Vec<PathBuf>,
    /// What became of configuration files that the backup's data does not hold, and of settings in it (C31).
    pub configuration: Vec<String>,
}

impl Restore {
    /// Whether what recovers from it is a copy beside the original, and must not reach the original's places (C29). A standby is a
    /// member of its cluster, and has its tablespaces where the others have them.
    fn is_beside(&self) -> bool {
        self.confinement().places
    }

    /// What must not reach it from the WAL.
    fn confinement(&self) -> Confinement {
        let standby = self.recovery.as_ref().is_some_and(|recovery| recovery.standby);
        Confinement::of(&self.info, self.in_place, standby, &self.tablespaces, self.until)
    }

    /// What can be told of the target before anybody is asked anything (C17). Returns where each tablespace goes.
    ///
    /// # Errors
    /// Those of [`Self::run`].
    pub fn check(&self) -> Result<BTreeMap<u32, PathBuf>, Error> {
        let places = self.places()?;
        self.check_target(&places)?;
        self.check_access(&places)?;
        Ok(places)
    }

    /// Restores. Must run away from the scheduler's threads.
    ///
    /// # Errors
    /// [`Error::Refused`] before the first byte where the target will not do (C17); whatever went wrong later: then the
    /// target holds no `pg_control`, and nothing starts from it.
    pub async fn run(&self) -> Result<Restored, Error> {
        let places = self.check()?;
        self.check_servers().await?;
        let assembly = Assembly::load(&self.repository, &self.info).await?;
        self.check_space(&places, &assembly)?;
        let (manifest, expected) = assembly::read_manifest(&self.repository, &self.info).await?;
        let accounts = self.accounts(&assembly, &expected).await?;
        let links = self.links(&expected);
        let access = Access::of(&self.target);
        access.create(&self.target)?;
        let claim = self.claim()?;
        self.lay_out(&places, &links, access)?;
        let combined = assembly.combined();
        let present = match self.existing {
            Existing::Delta => {
                let (target, combined) = (self.target.clone(), combined.clone());
                let (expected, links, major) = (expected.clone(), links.clone(), self.info.major());
                blocking(&self.target, move || {
                    prepare::keep_what_is_right(&target, &expected, &combined, &links, major)
                })
                .await?
            }
            _ => HashSet::new(),
        };
        let unpacked = self.target.join(config_files::UNPACKED);
        match std::fs::remove_dir_all(&unpacked) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                return Err(Error::file("remove", unpacked)(error));
            }
            _ => {}
        }
        let tablespaces = places.values().cloned().collect();
        let mut restored =
            Restored { files: 0, bytes: 0, kept: present.len() as u64, tablespaces, configuration: Vec::new() };
        self.fetch(&assembly, accounts, &places, &present, &mut restored).await?;
        self.write_manifest(manifest, &expected, combined).await?;
        claim.check()?;
        let (restore, spaces) = (self.clone(), restored.tablespaces.clone());
        let made = blocking(&self.target, move || finish::finish(&restore, &spaces)).await?;
        restored.configuration.extend(links.kept.into_iter().map(|name| format!("{name}: link kept")));
        let gone = links.removed.into_iter().map(|name| format!("{name}: the previous link was removed"));
        restored.configuration.extend(gone);
        restored.configuration.extend(made);
        claim.end()?;
        Ok(restored)
    }

    /// For each link of the chain what its manifest says of the files that may be taken from it: of the last one all.
    async fn accounts(
        &self,
        assembly: &Assembly,
        expected: &HashMap<String, manifest::Expected>,
    ) -> Result<Vec<Arc<Account>>, Error> {
        let (mut accounts, volumes) = (Vec::new(), assembly.volumes(&HashSet::new())?);
        for (link, (_, objects)) in assembly.links.iter().zip(&volumes) {
            let expected = if link.info.label == self.info.label {
                expected.clone()
            } else if objects.is_empty() {
                HashMap::new()
            } else {
                let (_, mut expected) = assembly::read_manifest(&self.repository, &link.info).await?;
                let taken = paths(objects);
                expected.retain(|path, _| taken.contains(path));
                expected
            };
            accounts.push(Arc::new(Account::new(&link.info.label, expected)));
        }
        Ok(accounts)
    }

    /// Reads the volumes, of each backup several at a time; a later backup's blocks go over an earlier one's files.
    async fn fetch(
        &self,
        assembly: &Assembly,
        accounts: Vec<Arc<Account>>,
        places: &BTreeMap<u32, PathBuf>,
        present: &HashSet<String>,
        restored: &mut Restored,
    ) -> Result<(), Error> {
        let pace = Arc::new(Pace::new(self.max_rate));
        let mut steps = Vec::new();
        for ((place, objects), account) in assembly.volumes(present)?.into_iter().zip(accounts) {
            let taken = paths(&objects);
            let objects: Result<Vec<_>, Error> = objects
                .into_iter()
                .filter_map(|(object, wanted)| Some((self.directory_for(&object, places).transpose()?, object, wanted)))
                .map(|(into, object, wanted)| Ok((object, into?, wanted)))
                .collect();
            steps.push((place, objects?, account, taken));
        }
        let total = steps.iter().flat_map(|(_, objects, ..)| objects).map(|(object, ..)| object.size).sum();
        self.progress.expect(total);
        let parallel = std::thread::available_parallelism().map_or(2, std::num::NonZero::get).min(8);
        for (place, objects, account, taken) in steps {
            let reads: Vec<BoxFuture<'_, Result<(u64, u64), Error>>> = objects
                .into_iter()
                .map(|(object, into, wanted)| {
                    self.unpack(place.key(&object.name), object, into, wanted, &account, &pace).boxed()
                })
                .collect();
            let done: Vec<(u64, u64)> = stream::iter(reads).buffer_unordered(parallel).try_collect().await?;
            restored.files += done.iter().map(|(files, _)| files).sum::<u64>();
            restored.bytes += done.iter().map(|(_, bytes)| bytes).sum::<u64>();
            account.is_complete(|path| taken.contains(path))?;
            if place.label == self.info.label {
                account.is_complete(|path| !present.contains(path))?;
                self.check_wal(&account)?;
            }
        }
        Ok(())
    }

    /// C36: the WAL that the backup brings along is whole, or is not there at all and comes from the archive.
    fn check_wal(&self, account: &Account) -> Result<(), Error> {
        if self.info.object(ObjectKind::Wal).is_none() {
            return Ok(());
        }
        let missing = self.info.own_segments().find(|name| !account.has(&WAL, name));
        missing.map_or(Ok(()), |name| {
            Err(Error::Refused(format!("backup {} lacks the WAL segment {name} that it needs", self.info.label)))
        })
    }

    async fn unpack(
        &self,
        key: String,
        object: Object,
        into: PathBuf,
        wanted: Wanted,
        account: &Arc<Account>,
        pace: &Arc<Pace>,
    ) -> Result<(u64, u64), Error> {
        if self.cancel.is_cancelled() {
            return Err(Error::Cancelled);
        }
        let (account, pace, cancel) = (Arc::clone(account), Arc::clone(pace), self.cancel.clone());
        let (contents, access) = (contents(object.kind), Access::of(&self.target));
        let done = read_volume(&self.repository, &key, &object, move |reader| {
            let (into, wanted, contents) = (&into, &wanted, &contents);
            let (account, pace, cancel) = (&account, &pace, &cancel);
            extract::extract(reader, &Unpacking { into, wanted, contents, account, access, pace, cancel })
        });
        let done = done.await?;
        faults::die(faults::VOLUME_UNPACKED);
        self.progress.add(object.size);
        Ok(done)
    }

    /// Where the contents of an object go; `None` for one that is not unpacked.
    fn directory_for(&self, object: &Object, places: &BTreeMap<u32, PathBuf>) -> Result<Option<PathBuf>, Error> {
        Ok(match object.kind {
            ObjectKind::Data => Some(self.target.clone()),
            ObjectKind::Tablespace(oid) => match places.get(&oid) {
                Some(place) => Some(place.clone()),
                None => return Err(Error::Refused(format!("tablespace {oid} is not described in backup.json"))),
            },
            ObjectKind::Wal => Some(self.target.join("pg_wal")),
            ObjectKind::Config => Some(self.target.join(config_files::UNPACKED)),
            ObjectKind::Manifest | ObjectKind::Index => None,
        })
    }

    /// PostgreSQL's manifest; of a combined backup a new one, in which the combined files are whole (C12).
    async fn write_manifest(
        &self,
        manifest: Vec<u8>,
        expected: &HashMap<String, manifest::Expected>,
        combined: HashSet<String>,
    ) -> Result<(), Error> {
        let (target, path) = (self.target.clone(), self.target.join("backup_manifest"));
        let missing = |name: &String| {
            !expected.contains_key(&name.rsplit_once('/').map_or_else(
                || format!("INCREMENTAL.{name}"),
                |(directory, file)| format!("{directory}/INCREMENTAL.{file}"),
            ))
        };
        if let Some(name) = combined.iter().find(|name| missing(name)) {
            return Err(Error::Refused(format!("{name} is in the backup but not in its manifest")));
        }
        let incremental = self.info.is_incremental();
        blocking(&path.clone(), move || {
            let text = match incremental {
                true => {
                    finish::without_incremental_lines(&target)?;
                    manifest::combined(&manifest, &combined, &target)?
                }
                false => manifest,
            };
            extract::write_file(&path, Access::of(&target).file(), &mut text.as_slice()).map(drop)
        })
        .await
    }
}

const WAL: Contents = Contents::Other("pg_wal");

fn contents(kind: ObjectKind) -> Contents {
    match kind {
        ObjectKind::Tablespace(oid) => Contents::Data(format!("pg_tblspc/{oid}")),
        ObjectKind::Wal => WAL,
        ObjectKind::Config => Contents::Other(config_files::DIRECTORY),
        ObjectKind::Data | ObjectKind::Manifest | ObjectKind::Index => Contents::Data(String::new()),
    }
}

/// What is taken from these objects by name, as the manifest names it.
fn paths(objects: &[(Object, Wanted)]) -> HashSet<String> {
    let named = objects.iter().filter_map(|(object, wanted)| match wanted {
        Wanted::All => None,
        Wanted::Some(names) => Some(names.iter().map(|name| contents(object.kind).path(name))),
    });
    named.flatten().collect()
}

async fn blocking<T: Send + 'static>(
    path: &Path,
    work: impl FnOnce() -> Result<T, Error> + Send + 'static,
) -> Result<T, Error> {
    let done = tokio::task::spawn_blocking(work).await;
    done.unwrap_or_else(|error| Err(Error::file("finish", path)(io::Error::other(error))))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn c36_a_path_in_a_command_is_one_word_for_the_shell_and_nothing_for_postgresql() {
        let path = Path::new("/srv/a b/50%/$HOME/`id`/\"x\"\\");
        let mut request = Request {
            cluster: "main".into(),
            repositories: Vec::new(),
            only: None,
            backup: None,
            target: None,
            timeline: None,
            exclusive: false,
        };
        let of =
            |request: &Request| Recovery::command(path, Path::new("/etc/p.toml"), request, &Confinement::default());
        let command = of(&request);
        assert!(command.ends_with("\"/etc/p.toml\" wal fetch --cluster main \"%f\" \"%p\""), "{command}");
        request.only = Some("share".into());
        assert!(of(&request).ends_with("wal fetch --cluster main --repository share \"%f\" \"%p\""));
        let word = command.split(" --config").next().unwrap().replace("%%", "%");
        let said = std::process::Command::new("sh").args(["-c", &format!("printf %s {word}")]).output().unwrap();
        assert_eq!(String::from_utf8_lossy(&said.stdout), path.display().to_string());
    }
}
