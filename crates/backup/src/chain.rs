//! Backups with what is known of them: the one walk along a chain, and the one answer to how good a backup is (C27).
//!
//! A backup is as good as the worst link of its chain. Choosing a parent, planning a restore, verifying, copying, monitors, lists
//! and retention all ask here; nobody else follows `parent`.

use chrono::{DateTime, Utc};
use pgbosun_core::{clock, human, lineage::Lineage};
use pgbosun_repository::{
    BackupInfo, BackupRef, Error as RepositoryError, Notes, Repository, WalArchive, sort_backups,
};
use std::{collections::HashMap, fmt};

/// How good a backup is, with everything it builds on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Health {
    /// Every link passed its last verification.
    Verified,
    /// Nothing is known against any link, and not every one was verified.
    Unverified,
    /// C41: the live timeline branched off before its end: what it holds is of a branch that is dead.
    Orphaned {
        /// The link.
        label: String,
        /// The timeline it was taken on.
        timeline: u32,
        /// The live one.
        live: u32,
    },
    /// C15: the server reported damaged pages when this link was taken. What it holds is what the server had.
    Suspect {
        /// The link.
        label: String,
    },
    /// This link failed its last verification.
    Damaged {
        /// The link.
        label: String,
    },
    /// The chain does not lead to a full backup, so it cannot be restored at all.
    Broken {
        /// Where it ends, and why.
        reason: String,
    },
}

impl Health {
    /// Nothing is known against it, and it lies on the live line.
    pub const fn is_good(&self) -> bool {
        matches!(self, Self::Verified | Self::Unverified)
    }

    /// Nothing is known against what it holds, wherever it belongs.
    pub const fn is_sound(&self) -> bool {
        matches!(self, Self::Verified | Self::Unverified | Self::Orphaned { .. })
    }

    /// In one word.
    pub const fn word(&self) -> &'static str {
        match self {
            Self::Verified => "verified",
            Self::Unverified => "complete",
            Self::Orphaned { .. } => "orphaned",
            Self::Suspect { .. } => "suspect",
            Self::Damaged { .. } => "damaged",
            Self::Broken { .. } => "broken",
        }
    }

    /// Whether it was verified as a whole.
    pub const fn is_verified(&self) -> bool {
        matches!(self, Self::Verified)
    }

    /// Whether a restore can be tried at all.
    pub const fn is_whole(&self) -> bool {
        !matches!(self, Self::Broken { .. })
    }

    /// The worse of two is the greater.
    const fn rank(&self) -> u8 {
        match self {
            Self::Verified => 0,
            Self::Unverified => 1,
            Self::Orphaned { .. } => 2,
            Self::Suspect { .. } => 3,
            Self::Damaged { .. } => 4,
            Self::Broken { .. } => 5,
        }
    }

    fn worst(self, other: Self) -> Self {
        if other.rank() > self.rank() { other } else { self }
    }
}

impl fmt::Display for Health {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Verified => f.write_str("verified"),
            Self::Unverified => f.write_str("not verified"),
            Self::Orphaned { label, timeline, live } => write!(
                f,
                "{label} is orphaned: it was taken on timeline {timeline}, but timeline {live} branched off before its end"
            ),
            Self::Suspect { label } => write!(f, "{label} is suspect: damaged pages were found when it was taken"),
            Self::Damaged { label } => write!(f, "{label} is damaged: its last verification failed"),
            Self::Broken { reason } => f.write_str(reason),
        }
    }
}

/// A backup and what is known of it.
#[derive(Clone, Debug)]
pub struct Entry {
    /// Its catalogue.
    pub info: BackupInfo,
    /// What is written down beside it: of itself alone.
    pub notes: Notes,
    health: Health,
    chain: Vec<usize>,
}

impl Entry {
    /// How good it is, with everything it builds on.
    pub const fn health(&self) -> &Health {
        &self.health
    }

    /// Why it stays whatever retention says, and by whose word, where somebody had it kept.
    pub fn kept(&self) -> Option<String> {
        let keep = self.notes.keep.as_ref()?;
        Some(human::plain(&format!("{} ({})", keep.reason, keep.by)).into_owned())
    }
}

/// A backup with those it builds on, the full one first.
#[derive(Clone, Debug)]
pub struct Chain<'a> {
    /// The links; never empty.
    pub links: Vec<&'a BackupInfo>,
    /// As good as its worst link.
    pub health: &'a Health,
}

/// The backups of a repository with their health, oldest first (C33).
#[derive(Debug, Default)]
pub struct Catalogue {
    entries: Vec<Entry>,
    /// What cannot be read: catalogues, where there may be a backup or a link of one, and histories of timelines, by which it may be
    /// orphaned.
    pub unreadable: Vec<RepositoryError>,
}

impl Catalogue {
    /// Reads what decides: nothing comes from a cache, and notes that cannot be read are an error.
    ///
    /// # Errors
    /// What the repository answered.
    pub async fn read(repository: &Repository, cluster: Option<&str>) -> Result<Self, RepositoryError> {
        let (backups, unreadable) = repository.backups(cluster).await?;
        Self::with_notes(repository, backups, unreadable).await
    }

    /// Reads for showing: catalogues may come from the cache.
    ///
    /// # Errors
    /// What the repository answered.
    pub async fn shown(repository: &Repository, cluster: Option<&str>) -> Result<Self, RepositoryError> {
        let (backups, unreadable) = repository.shown(cluster).await?;
        Self::with_notes(repository, backups, unreadable).await
    }

    async fn with_notes(
        repository: &Repository,
        backups: Vec<BackupInfo>,
        mut unreadable: Vec<RepositoryError>,
    ) -> Result<Self, RepositoryError> {
        let notes = repository.notes(&backups).await?;
        let lineages = lineages(repository, &backups, &mut unreadable).await?;
        Ok(Self::of(backups.into_iter().zip(notes).collect(), &lineages, unreadable))
    }

    /// Reads for restoring: notes that cannot be read keep nobody from it.
    ///
    /// # Errors
    /// What the repository answered.
    pub async fn for_restore(repository: &Repository, cluster: &str) -> Result<Self, RepositoryError> {
        let (backups, mut unreadable) = repository.backups(Some(cluster)).await?;
        let notes = repository.notes(&backups).await.unwrap_or_else(|error| {
            let reason = human::chain(&error);
            tracing::warn!(repository = repository.name, "which backups are verified is unknown: {reason}");
            vec![Notes::default(); backups.len()]
        });
        let lineages = lineages(repository, &backups, &mut unreadable).await.unwrap_or_else(|error| {
            let reason = human::chain(&error);
            tracing::warn!(repository = repository.name, "the live timeline is unknown: {reason}");
            Lineages::new()
        });
        Ok(Self::of(backups.into_iter().zip(notes).collect(), &lineages, unreadable))
    }

    /// Of backups in their order, with what is written down beside each.
    pub fn of(backups: Vec<(BackupInfo, Notes)>, lineages: &Lineages, unreadable: Vec<RepositoryError>) -> Self {
        let index: HashMap<_, _> =
            backups.iter().enumerate().map(|(index, (info, _))| (key(info, &info.label), index)).collect();
        let walks: Vec<_> = (0..backups.len()).map(|last| walk(&backups, &index, lineages, last)).collect();
        let entries = backups.into_iter().zip(walks);
        let entries = entries.map(|((info, notes), (chain, health))| Entry { info, notes, health, chain }).collect();
        Self { entries, unreadable }
    }

    /// All, oldest first.
    pub fn entries(&self) -> &[Entry] {
        &self.entries
    }

    /// The backups alone, oldest first.
    pub fn infos(&self) -> impl DoubleEndedIterator<Item = &BackupInfo> {
        self.entries.iter().map(|entry| &entry.info)
    }

    /// The backup at this place: a label alone may be there under several system identifiers.
    pub fn find(&self, place: &BackupRef) -> Option<&Entry> {
        self.entries.iter().find(|entry| entry.info.place() == *place)
    }

    /// The backup with what it builds on.
    pub fn chain<'a>(&'a self, entry: &'a Entry) -> Chain<'a> {
        let links = entry.chain.iter().filter_map(|index| Some(&self.entries.get(*index)?.info)).collect();
        Chain { links, health: &entry.health }
    }

    /// Those that build on a backup, directly or not.
    pub fn dependents<'a>(&'a self, info: &'a BackupInfo) -> impl Iterator<Item = &'a Entry> {
        let builds_on = |entry: &Entry| {
            let mut links = entry.chain.iter().filter_map(|index| self.entries.get(*index));
            entry.info.label != info.label && links.any(|link| link.info.place() == info.place())
        };
        self.entries.iter().filter(move |entry| builds_on(entry))
    }

    /// The newest that nothing is known against, of the current system. One that is dated in the future does not count while
    /// there is another (C33): its age is unknown.
    pub fn newest_good(&self, now: DateTime<Utc>) -> Option<&BackupInfo> {
        let mut good = self.entries.iter().rev().filter(|entry| entry.health.is_good()).map(|entry| &entry.info);
        let newest = good.clone().next()?;
        Some(good.find(|info| info.system_id == newest.system_id && !info.is_dated_ahead(now)).unwrap_or(newest))
    }
}

/// The newest of what several repositories hold of a cluster, by the one order (C33): positions are compared within a system alone.
pub fn newest_of(mut found: Vec<BackupInfo>, now: DateTime<Utc>) -> Option<BackupInfo> {
    sort_backups(&mut found, |info| info, now);
    found.pop()
}

/// The newest backup of a cluster in a repository that nothing is known against.
///
/// # Errors
/// What the repository answered; a share that is away has no backups, and says nothing about them.
pub async fn newest_good(repository: &Repository, cluster: &str) -> Result<Option<BackupInfo>, RepositoryError> {
    let catalogue = Catalogue::shown(repository, Some(cluster)).await?;
    Ok(catalogue.newest_good(clock::now()).cloned())
}

/// The live line of each cluster and system identifier, as the WAL archive beside the backups has it.
pub type Lineages = HashMap<(String, String), Lineage>;

/// Reads the live lines beside backups. A history that is sealed or damaged speaks against nobody; the damage is told with what cannot
/// be read.
async fn lineages(
    repository: &Repository,
    backups: &[BackupInfo],
    unreadable: &mut Vec<RepositoryError>,
) -> Result<Lineages, RepositoryError> {
    let mut lineages = Lineages::new();
    for info in backups {
        let system = (info.cluster.clone(), info.system_id.clone());
        if lineages.contains_key(&system) {
            continue;
        }
        match WalArchive::new(repository, &info.cluster, &info.system_id).live_line().await {
            Ok(lineage) => drop(lineages.insert(system, lineage)),
            // C41: a network that is away for a moment makes no orphan good.
            Err(error) if !error.is_of_contents() => return Err(error),
            Err(error) => {
                // Sealed: who has no key sees less.
                unreadable.extend(Some(error).filter(|error| !error.is_sealed()));
                lineages.insert(system, Lineage::default());
            }
        }
    }
    Ok(lineages)
}

type Key = (String, String, String);

fn key(info: &BackupInfo, label: &str) -> Key {
    (info.cluster.clone(), info.system_id.clone(), label.to_owned())
}

/// The indices of a chain, the full backup first, and its health.
fn walk(
    backups: &[(BackupInfo, Notes)],
    index: &HashMap<Key, usize>,
    lineages: &Lineages,
    last: usize,
) -> (Vec<usize>, Health) {
    let (mut links, mut health) = (Vec::new(), Health::Verified);
    let mut at = last;
    loop {
        let (info, notes) = &backups[at];
        links.push(at);
        health = health.worst(own_health(info, notes)).worst(place(info, lineages));
        let Some(label) = &info.parent else { break };
        let broken = |reason: String| Health::Broken { reason };
        let Some(&parent) = index.get(&key(info, label)) else {
            let words = format!("{} builds on {label}, which is missing or cannot be read", info.label);
            health = health.worst(broken(words));
            break;
        };
        let below = &backups[parent].0;
        // A parent began earlier on the way to this one; so no chain goes in circles. On an idle standby both may begin at the
        // same restartpoint.
        if (below.start_lsn, below.stop_lsn) > (info.start_lsn, info.stop_lsn) || links.contains(&parent) {
            health = health.worst(broken(format!("{} builds on {label}, which started later", info.label)));
            break;
        }
        at = parent;
    }
    links.reverse();
    (links, health)
}

/// What is known of one link alone.
fn own_health(info: &BackupInfo, notes: &Notes) -> Health {
    match notes.verified {
        Some(false) => Health::Damaged { label: info.label.clone() },
        _ if info.checksum_failures => Health::Suspect { label: info.label.clone() },
        Some(true) => Health::Verified,
        None => Health::Unverified,
    }
}

/// Whether a link lies on the live line (C41).
fn place(info: &BackupInfo, lineages: &Lineages) -> Health {
    let lineage = lineages.get(&(info.cluster.clone(), info.system_id.clone()));
    match lineage.and_then(|lineage| lineage.left_by(info.timeline, info.stop_lsn)) {
        Some(live) => Health::Orphaned { label: info.label.clone(), timeline: info.timeline, live },
        None => Health::Verified,
    }
}

#[cfg(test)]
pub(crate) mod tests;
