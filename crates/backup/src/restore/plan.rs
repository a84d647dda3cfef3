//! Which backup serves a recovery target, and whether the WAL reaches it: decided before the first byte (C19).

mod branch;

use crate::{
    Catalogue, Error, another,
    wal::{Archive, Confinement, Event, Fetch, Scanner},
};
use bytes::Bytes;
use chrono::{DateTime, Utc};
use futures::{FutureExt, StreamExt, future::BoxFuture, stream};
use pgbosun_core::{
    clock,
    lsn::Lsn,
    wal::{Segment, Switch, WalFile},
};
use pgbosun_repository::{BackupInfo, Repository, sort_backups};
use std::{fmt, time::Duration};

/// How far to recover.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Target {
    /// To the backup's own end, with the WAL that lies in it.
    BackupEnd,
    /// As soon as it is consistent.
    Immediate,
    /// To the end of the archive.
    Latest,
    /// To a time.
    Time(DateTime<Utc>),
    /// To a position.
    Lsn(Lsn),
    /// To a transaction.
    Xid(u32),
    /// To a restore point.
    Name(String),
}

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::BackupEnd => f.write_str("the backup's own end"),
            Self::Immediate => f.write_str("the first consistent state"),
            Self::Latest => f.write_str("the end of the archive"),
            Self::Time(time) => write!(f, "{}", shown(*time)),
            Self::Lsn(lsn) => write!(f, "{lsn}"),
            Self::Xid(xid) => write!(f, "transaction {xid}"),
            Self::Name(name) => write!(f, "restore point \"{name}\""),
        }
    }
}

/// A time for people, with its zone (C20).
fn shown(time: DateTime<Utc>) -> impl fmt::Display {
    time.format("%Y-%m-%d %H:%M:%S%.fZ")
}

/// What is asked for.
#[derive(Clone, Debug)]
pub struct Request {
    /// Cluster as configured.
    pub cluster: String,
    /// Where backups and WAL lie, the preferred first.
    pub repositories: Vec<Repository>,
    /// The one of them that was named: recovery asks no other, which may be why.
    pub only: Option<String>,
    /// A backup that was named.
    pub backup: Option<String>,
    /// How far; `None` is as far as the archive goes, or the backup's own end where there is no archive.
    pub target: Option<Target>,
    /// Along which timeline; the newest by default.
    pub timeline: Option<u32>,
    /// Stop just before the target.
    pub exclusive: bool,
}

/// What serves it.
#[derive(Clone, Debug)]
pub struct Plan {
    /// Where the backup is.
    pub repository: Repository,
    /// Where its WAL may come from: all that were asked.
    pub repositories: Vec<Repository>,
    /// The backup; what it builds upon lies beside it.
    pub info: BackupInfo,
    /// How far.
    pub target: Target,
    /// The timeline that is followed.
    pub timeline: u32,
    /// Segments of the archive that recovery will need.
    pub segments: u64,
    /// C41: where they end before the timeline's own: what its parent wrote behind this place is on a dead branch.
    pub until: Option<Switch>,
    /// C34: that it ends at a gap, and not at the end of the archive; which segment is missing, and what is reached.
    pub gap: Option<String>,
}

impl Plan {
    /// What must not reach a copy that recovers by this plan (C29).
    pub fn confinement(&self) -> Confinement {
        Confinement { until: self.until, ..Confinement::copy() }
    }
}

/// The times a restore can reach.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Reachable {
    /// From: the end of the oldest good backup from which WAL goes on without a gap.
    pub from: DateTime<Utc>,
    /// To: the last transaction that ended in the archive, without a gap.
    pub to: DateTime<Utc>,
    /// Along this timeline.
    pub timeline: u32,
}

impl fmt::Display for Reachable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "reachable: {} to {}", shown(self.from), shown(self.to))
    }
}

/// Finds what serves a request.
///
/// # Errors
/// [`Error::Refused`] with what is missing and what would work instead; what a repository answered.
pub async fn plan(request: &Request) -> Result<Plan, Error> {
    let mut tries = 0;
    loop {
        let plan = plan_once(request).await?;
        tries += 1;
        // Several segments are archived at once: for a moment a later one may be there before an earlier.
        if plan.gap.is_none() || tries == GAP_TRIES {
            return Ok(plan);
        }
        tokio::time::sleep(GAP_PAUSE).await;
    }
}

/// How often, and how far apart, a gap is checked before it is believed.
pub(crate) const GAP_TRIES: u32 = 3;
pub(crate) const GAP_PAUSE: Duration = Duration::from_secs(2);

async fn plan_once(request: &Request) -> Result<Plan, Error> {
    let mut planner = planner(request).await?;
    while let Some(known) = &mut planner {
        let plan = known.plan().await?;
        // C43: what the archive says is another server's is taken only by its label.
        match another::backup(&plan.repository, &plan.info).await? {
            Some(words) if request.backup.is_none() => {
                tracing::warn!(cluster = request.cluster, "skipped: {words}");
                known.candidates.retain(|(_, info)| info.label != plan.info.label);
                if known.candidates.is_empty() {
                    planner = None;
                }
            }
            _ => return Ok(plan),
        }
    }
    Err(Error::Refused(match &request.backup {
        Some(label) => {
            format!("no good backup {label} of {}; \"pgbosun backup list\" shows what there is", request.cluster)
        }
        None => format!(
            "there is no good backup of {}; \"pgbosun backup list\" shows what there is, and --backup LABEL restores one anyway",
            request.cluster
        ),
    }))
}

/// The times a request could reach, if there is any good backup.
///
/// # Errors
/// What a repository answered.
pub async fn reachable(request: &Request) -> Result<Option<Reachable>, Error> {
    match planner(request).await? {
        Some(planner) => planner.reachable().await,
        None => Ok(None),
    }
}

async fn planner(request: &Request) -> Result<Option<Planner<'_>>, Error> {
    let mut candidates = candidates(request).await?;
    let Some((_, newest)) = candidates.first() else { return Ok(None) };
    // C10: another system identifier is another cluster.
    let (system_id, size, newest) = (newest.system_id.clone(), newest.wal_segment_size, newest.timeline);
    let other = candidates.iter().find(|(_, info)| info.system_id != system_id).map(|(_, info)| info.label.clone());
    candidates.retain(|(_, info)| info.system_id == system_id);
    let archive = Archive::read(&request.repositories, &request.cluster, &system_id, size).await?;
    if let (None, Some(reason)) = (request.timeline, archive.unknown_line(newest)) {
        return Err(Error::Refused(format!(
            "the live timeline is unknown: {reason}; --timeline N restores along the one you name"
        )));
    }
    let fetch = Fetch {
        cluster: request.cluster.clone(),
        system_id,
        repositories: request.repositories.clone(),
        spools: Vec::new(),
        partial_directory: None,
    };
    Ok(Some(Planner { request, archive, fetch, candidates, other }))
}

/// Good backups, newest first (C33), each in the first repository that has it so. One that something is known against (C27) is
/// among them only where it was asked for by its label, and can be restored at all.
async fn candidates(request: &Request) -> Result<Vec<(Repository, BackupInfo)>, Error> {
    let mut found: Vec<(Repository, BackupInfo)> = Vec::new();
    let (mut away, mut doubtful) = (None, Vec::new());
    for repository in &request.repositories {
        let mut catalogue = match Catalogue::for_restore(repository, &request.cluster).await {
            Ok(catalogue) => catalogue,
            // One that cannot be asked must not keep the others from serving.
            Err(error) if request.repositories.len() > 1 => {
                tracing::warn!(repository = repository.name, "skipped: {}", pgbosun_core::human::chain(&error));
                away = away.or(Some(error));
                continue;
            }
            Err(error) => return Err(error.into()),
        };
        for error in &catalogue.unreadable {
            tracing::warn!(repository = repository.name, "skipped: {error}");
        }
        // C42: what was asked for is there and not to be believed, which is to be said where there is nothing else.
        let asked_for =
            |object: &str| request.backup.as_ref().is_none_or(|label| object.contains(&format!("/{label}/")));
        let untrusted = catalogue.unreadable.iter().position(
            |error| matches!(error, pgbosun_repository::Error::Untrusted { object, .. } if asked_for(object)),
        );
        for entry in catalogue.entries().iter().rev() {
            let (info, health) = (&entry.info, entry.health());
            let wanted = request.backup.as_ref().is_none_or(|label| *label == info.label);
            if !wanted || found.iter().any(|(_, known)| known.label == info.label) {
                continue;
            }
            // C41: what lies on a dead branch is taken where its timeline is named.
            if health.is_good() || (request.timeline.is_some() && health.is_sound()) {
                found.push((repository.clone(), info.clone()));
            } else if request.backup.is_some() && health.is_whole() {
                doubtful.push((repository.clone(), info.clone()));
            } else {
                tracing::warn!(repository = repository.name, "{} is skipped: {health}", info.label);
            }
        }
        away = away.or(untrusted.map(|index| catalogue.unreadable.swap_remove(index)));
    }
    if found.is_empty() {
        found = doubtful;
    }
    sort_backups(&mut found, |(_, info)| info, clock::now());
    found.reverse();
    match away {
        Some(error) if found.is_empty() => Err(error.into()),
        _ => Ok(found),
    }
}

struct Planner<'a> {
    request: &'a Request,
    archive: Archive,
    fetch: Fetch,
    candidates: Vec<(Repository, BackupInfo)>,
    /// The newest of another system identifier, as from before pg_upgrade: taken where it is named (C10).
    other: Option<String>,
}

impl Planner<'_> {
    async fn plan(&self) -> Result<Plan, Error> {
        let Some((repository, newest)) = self.candidates.iter().find(|(_, info)| self.fits(info)) else {
            return Err(self.no_timeline());
        };
        let target = match &self.request.target {
            Some(target) => target.clone(),
            // C34: also where the very first segment after the backup is missing.
            None if self.way(newest).next().is_some() => Target::Latest,
            None if self.missing(newest).is_some() => Target::Latest,
            None => Target::BackupEnd,
        };
        match &target {
            Target::BackupEnd => Ok(self.chosen(repository, newest, &target)),
            Target::Immediate => {
                self.check_own_wal(newest)?;
                Ok(self.chosen(repository, newest, &target))
            }
            Target::Latest => {
                self.check_own_wal(newest)?;
                let missing = self.missing(newest);
                let gap = match missing {
                    None => None,
                    Some(missing) => {
                        let reached = self.last_end(newest).await?.unwrap_or(newest.finished_at);
                        Some(format!(
                            "segment {missing} {}, but later ones exist: recovery ends at {}, and everything committed after \
                             it is lost",
                            self.archive.how_missing(missing),
                            shown(reached)
                        ))
                    }
                };
                Ok(Plan { gap, ..self.chosen(repository, newest, &target) })
            }
            Target::Time(time) => self.for_time(*time, &target).await,
            Target::Lsn(lsn) => self.for_lsn(*lsn, &target).await,
            Target::Xid(_) | Target::Name(_) => self.for_event(&target).await,
        }
    }

    /// C41: the live timeline, whichever backup it is asked for.
    fn timeline(&self, info: &BackupInfo) -> u32 {
        self.request.timeline.unwrap_or_else(|| self.archive.lineage.towards(info.timeline))
    }

    /// Whether recovery from this backup can follow the wanted timeline.
    fn fits(&self, info: &BackupInfo) -> bool {
        self.archive.lineage.passes(self.timeline(info), info.timeline, info.stop_lsn)
    }

    fn no_timeline(&self) -> Error {
        let Some(wanted) = self.request.timeline else {
            // C41: only what was named, or all that there is, lies on a dead branch.
            let orphans = self.candidates.iter().map(|(_, info)| {
                let (label, own) = (&info.label, info.timeline);
                format!(
                    "{label} is orphaned: timeline {} branched off before its end; --timeline {own} restores along its own \
                     timeline",
                    self.timeline(info)
                )
            });
            return Error::Refused(orphans.collect::<Vec<_>>().join("; "));
        };
        let known: Vec<_> = self.archive.timelines().iter().map(ToString::to_string).collect();
        Error::Refused(format!(
            "no backup leads to timeline {wanted}; the archive has {}",
            if known.is_empty() { "none".into() } else { known.join(", ") }
        ))
    }

    /// The archived segments from a backup's end onwards.
    fn way(&self, info: &BackupInfo) -> impl Iterator<Item = Segment> + '_ {
        self.archive.way(self.timeline(info), self.onward(info))
    }

    fn onward(&self, info: &BackupInfo) -> Lsn {
        self.archive.onward(self.timeline(info), info)
    }

    fn missing(&self, info: &BackupInfo) -> Option<Segment> {
        self.archive.missing(self.timeline(info), self.onward(info))
    }

    fn until(&self, info: &BackupInfo) -> Option<Switch> {
        self.archive.until(self.timeline(info), info.timeline, self.onward(info))
    }

    /// From where on what lies in the segments on the way from a backup is on a dead branch.
    fn dead_from(&self, info: &BackupInfo) -> Lsn {
        self.until(info).map_or(Lsn(u64::MAX), |switch| switch.at)
    }

    /// C14: a backup without WAL of its own needs the archive's from its start.
    fn check_own_wal(&self, info: &BackupInfo) -> Result<(), Error> {
        if info.object(pgbosun_repository::ObjectKind::Wal).is_some() {
            return Ok(());
        }
        match self.archive.lacks(info) {
            None => Ok(()),
            Some(missing) => Err(Error::Refused(format!(
                "segment {missing} {}, but backup {} needs it to be consistent",
                self.archive.how_missing(missing),
                info.label
            ))),
        }
    }

    fn chosen(&self, repository: &Repository, info: &BackupInfo, target: &Target) -> Plan {
        Plan {
            repository: repository.clone(),
            repositories: self.request.repositories.clone(),
            info: info.clone(),
            target: target.clone(),
            timeline: self.timeline(info),
            segments: self.way(info).count() as u64,
            until: self.until(info),
            gap: None,
        }
    }

    async fn for_time(&self, time: DateTime<Utc>, target: &Target) -> Result<Plan, Error> {
        let mut fitting = self.candidates.iter().filter(|(_, info)| self.fits(info));
        let before = fitting.clone().find(|(_, info)| info.finished_at <= time);
        let Some((repository, info)) = before else {
            let oldest = fitting.next_back().ok_or_else(|| self.no_timeline())?;
            let reason = match &self.request.backup {
                Some(label) => format!("backup {label} ended at {}, which is later", shown(oldest.1.finished_at)),
                None => format!("the oldest good backup ended at {}", shown(oldest.1.finished_at)),
            };
            return Err(self.unreachable(target, &reason).await);
        };
        self.check_own_wal(info)?;
        self.check_branch(info, time).await?;
        match self.last_end(info).await? {
            // The server stops at the first transaction that ended later; without one it would fail (PostgreSQL:
            // "recovery ended before configured recovery target was reached").
            Some(last) if time < last || (self.request.exclusive && time == last) => {
                Ok(self.chosen(repository, info, target))
            }
            Some(last) => {
                let reason = format!("the last transaction in the archive ended at {}", shown(last));
                Err(self.beyond(target, &reason, info).await)
            }
            None => {
                let reason = format!("no transaction ended in the archive after backup {}", info.label);
                Err(self.beyond(target, &reason, info).await)
            }
        }
    }

    async fn for_lsn(&self, lsn: Lsn, target: &Target) -> Result<Plan, Error> {
        let mut fitting = self.candidates.iter().filter(|(_, info)| self.fits(info));
        let Some((repository, info)) = fitting.find(|(_, info)| info.stop_lsn <= lsn) else {
            let reason = format!("no good backup ended before {lsn}");
            return Err(self.unreachable(target, &reason).await);
        };
        self.check_own_wal(info)?;
        let size = self.archive.segment_size;
        let last = self.way(info).last();
        let reached = match last {
            Some(last) if Lsn(last.start(size).0 + size) > lsn && last.start(size) <= lsn => {
                // The last segment may be filled in part only.
                let mut scanner = Scanner::default();
                scanner.segment(&self.read(last).await?, &mut |_| {});
                scanner.end().min(self.dead_from(info)) >= lsn
            }
            Some(last) => last.start(size) > lsn,
            None => false,
        };
        if reached {
            return Ok(self.chosen(repository, info, target));
        }
        let end = last.map_or(self.onward(info), |last| Lsn(last.start(size).0 + size));
        Err(self.beyond(target, &format!("the archive ends before {end}"), info).await)
    }

    /// For a transaction or a restore point: the newest backup before it, found by reading the WAL.
    async fn for_event(&self, target: &Target) -> Result<Plan, Error> {
        let fits = |event: &Event| match (target, event) {
            (Target::Xid(wanted), Event::End { xid, .. }) => wanted == xid,
            (Target::Name(wanted), Event::RestorePoint { name, .. }) => wanted == name,
            _ => false,
        };
        let mut until = Lsn(u64::MAX);
        for (repository, info) in self.candidates.iter().filter(|(_, info)| self.fits(info)) {
            let (size, dead) = (self.archive.segment_size, self.dead_from(info));
            let way = self.way(info).take_while(|segment| segment.start(size) < until);
            let reads: Vec<BoxFuture<'_, _>> = way.map(|segment| self.read(segment).boxed()).collect();
            let mut read = stream::iter(reads).buffered(4);
            let (mut scanner, mut seen) = (Scanner::default(), Vec::new());
            while let Some(bytes) = read.next().await {
                scanner.segment(&bytes?, &mut |event| {
                    let (Event::End { at, time, .. } | Event::RestorePoint { at, time, .. }) = &event;
                    if *at >= info.stop_lsn && *at < dead && fits(&event) {
                        seen.push(format!("{at} ({})", time.format("%Y-%m-%d %H:%M:%SZ")));
                    }
                });
                // A transaction ends once. A name can be given again, and recovery stops at the first.
                if !seen.is_empty() && matches!(target, Target::Xid(_)) {
                    break;
                }
            }
            match seen.as_slice() {
                [] => {}
                [_] => {
                    self.check_own_wal(info)?;
                    return Ok(self.chosen(repository, info, target));
                }
                [earlier @ .., last] => {
                    let reason = format!(
                        "there are restore points of this name at {} and {last}: choose one with --target-lsn",
                        earlier.join(", ")
                    );
                    return Err(self.unreachable(target, &reason).await);
                }
            }
            until = info.stop_lsn;
        }
        let reason = "it is not in the archived WAL after any good backup";
        match self.candidates.iter().find(|(_, info)| self.fits(info)) {
            Some((_, newest)) => Err(self.beyond(target, reason, newest).await),
            None => Err(self.unreachable(target, reason).await),
        }
    }

    /// When the last transaction ended on the way from a backup.
    async fn last_end(&self, info: &BackupInfo) -> Result<Option<DateTime<Utc>>, Error> {
        let (way, dead) = (self.way(info).collect::<Vec<_>>(), self.dead_from(info));
        let mut after: Option<Bytes> = None;
        for segment in way.into_iter().rev() {
            let bytes = self.read(segment).await?;
            let (mut scanner, mut last) = (Scanner::default(), None);
            let mut note = |event: Event| {
                if let Event::End { time, at, .. } = event
                    && at >= info.stop_lsn
                    && at < dead
                {
                    last = last.max(Some(time));
                }
            };
            let goes_on = scanner.segment(&bytes, &mut note);
            // A record that begins here and ends in the next segment.
            if let (true, Some(after)) = (goes_on, &after) {
                scanner.segment(after, &mut note);
            }
            if last.is_some() {
                return Ok(last);
            }
            after = Some(bytes);
        }
        Ok(None)
    }

    async fn read(&self, segment: Segment) -> Result<Bytes, Error> {
        match self.fetch.find(&WalFile::Segment(segment)).await? {
            Some(bytes) => Ok(bytes),
            None => Err(Error::Interrupted(format!("segment {segment} was there a moment ago, but is gone now"))),
        }
    }

    /// What was written later may be archived yet, where the live timeline is followed and no segment is missing (C34).
    async fn beyond(&self, target: &Target, reason: &str, info: &BackupInfo) -> Error {
        if let Some(missing) = self.missing(info) {
            let reason =
                format!("{reason}; segment {missing} {}, but later ones exist", self.archive.how_missing(missing));
            return self.unreachable(target, &reason).await;
        }
        match self.unreachable(target, reason).await {
            Error::Refused(reason) if self.request.timeline.is_none() => {
                Error::Beyond { reason, system_id: info.system_id.clone() }
            }
            error => error,
        }
    }

    async fn unreachable(&self, target: &Target, reason: &str) -> Error {
        let mut words = format!("{target} cannot be reached: {reason}");
        if let Ok(Some(reachable)) = self.reachable().await {
            words.push_str(&format!("; {reachable}"));
        }
        if let Some(label) = &self.other {
            let cluster = &self.request.cluster;
            words.push_str(&format!(
                "; {cluster} had another system identifier before: to restore from that time, name one of its backups with \
                 --backup (the newest is {label})"
            ));
        }
        Error::Refused(words)
    }

    /// What could be reached instead.
    async fn reachable(&self) -> Result<Option<Reachable>, Error> {
        let fitting: Vec<_> = self.candidates.iter().map(|(_, info)| info).filter(|info| self.fits(info)).collect();
        let Some(newest) = fitting.first() else { return Ok(None) };
        let to = self.last_end(newest).await?.unwrap_or(newest.finished_at);
        let from = self.begin(&fitting).finished_at;
        Ok(Some(Reachable { from, to: to.max(newest.finished_at), timeline: self.timeline(newest) }))
    }

    /// The oldest of these backups, newest first, from which WAL goes on without a gap until the newest.
    fn begin<'b>(&self, fitting: &[&'b BackupInfo]) -> &'b BackupInfo {
        let size = self.archive.segment_size;
        let goal = self.onward(fitting[0]).segment_start(size);
        let mut gap = Lsn(0);
        for info in fitting.iter().rev().copied() {
            // What begins before a gap that was met comes to the same gap.
            if info.stop_lsn < gap {
                continue;
            }
            gap = Lsn(self.onward(info).segment_start(size).0 + size * self.way(info).count() as u64);
            if gap > goal {
                return info;
            }
        }
        fitting[0]
    }
}
