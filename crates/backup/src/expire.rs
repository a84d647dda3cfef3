//! Expiry: what retention no longer keeps is removed, backups first, then the WAL that nothing needs any more.
//!
//! C7 to C9, C11: decided from the catalogue of the repository itself, announced by a lease, never by file age. C33: a clock that
//! others contradict removes nothing. C43: nor does anybody where two servers pass for one.

use crate::{
    Catalogue, Error,
    another::{self, is_in_use},
    retention::{Candidate, Needed, Rules, decide, needed},
};
use chrono::{DateTime, Utc};
use chrono_tz::Tz;
use pgbosun_core::wal::WalFile;
use pgbosun_repository::{BackupInfo, CLOCK_TOLERANCE, Repository, WalArchive, WalContents};
use std::{
    collections::BTreeMap,
    time::{Duration, Instant},
};
use uuid::Uuid;

/// What to expire, and how.
#[derive(Clone, Debug)]
pub struct Expire {
    /// Where.
    pub repository: Repository,
    /// Cluster as configured.
    pub cluster: String,
    /// Rules by job.
    pub rules: Rules,
    /// Days begin in this zone.
    pub zone: Tz,
    /// This installation.
    pub instance: Uuid,
    /// Remove backups; WAL is checked either way.
    pub backups: bool,
    /// Decide, and remove nothing.
    pub dry_run: bool,
    /// Labels that this run has just taken: never removed by it, whatever the clock says (C33).
    pub spared: Vec<String>,
    /// Clocks to compare this machine's with: whose, and what it says.
    pub witnesses: Vec<(String, DateTime<Utc>)>,
}

/// How long the archive may take to come up to a backup that was just taken.
const ARCHIVING: Duration = Duration::from_secs(30);

/// What was decided and done.
#[derive(Clone, Debug, Default)]
pub struct Expired {
    /// Every backup with the reason why it stays, or `None` where it goes; oldest first.
    pub decisions: Vec<(BackupInfo, Option<String>)>,
    /// Labels removed.
    pub removed: Vec<String>,
    /// Files of WAL removed, or that would be.
    pub wal_removed: u64,
    /// Their bytes.
    pub wal_bytes: u64,
    /// Files of WAL that stay.
    pub wal_kept: u64,
    /// Leftovers of crashes that were removed.
    pub leftovers: Vec<String>,
    /// Why nothing goes at all: backups that cannot be read, or are not to be believed.
    pub doubts: Vec<String>,
}

impl Expire {
    /// Decides, and removes what goes: what was done, and the error that broke it off, if one did. Either somebody else is at work in the
    /// repository ([`Error::is_transient`]), or it is what that answered; a removal that was broken off is a leftover, and finished by the next.
    pub async fn run(&self, now: DateTime<Utc>) -> (Expired, Result<(), Error>) {
        let mut expired = Expired::default();
        let done = self.remove(now, &mut expired).await;
        (expired, done)
    }

    async fn remove(&self, now: DateTime<Utc>, expired: &mut Expired) -> Result<(), Error> {
        if !self.dry_run {
            self.await_archive(now).await?;
            expired.leftovers = self.repository.remove_leftovers(&self.cluster, self.instance).await?;
        }
        for system_id in self.repository.system_ids(&self.cluster).await? {
            if self.dry_run {
                self.of_system(&system_id, now, self.witnesses.clone(), expired).await?;
                continue;
            }
            let expiry = self.repository.begin_expiry(&self.cluster, &system_id, self.instance).await?;
            let store = expiry.store_time().map(|time| (format!("the store of {}", self.repository.name), time));
            let witnesses = self.witnesses.iter().cloned().chain(store).collect();
            let done = self.of_system(&system_id, now, witnesses, expired).await;
            expiry.end().await?;
            done?;
        }
        Ok(())
    }

    /// A server archives the last segment of a backup a moment after it: what was just taken shall count, where that lets anything go.
    async fn await_archive(&self, now: DateTime<Utc>) -> Result<(), Error> {
        let catalogue = Catalogue::shown(&self.repository, Some(&self.cluster)).await?;
        let taken = catalogue.entries().iter().rfind(|entry| self.spared.contains(&entry.info.label));
        let Some(info) = taken.map(|entry| &entry.info) else { return Ok(()) };
        let Some((last, _)) = info.last_segment() else { return Ok(()) };
        let of_system = catalogue.entries().iter().filter(|entry| entry.info.system_id == info.system_id);
        let known: Vec<_> = of_system.map(Candidate::new).collect();
        if decide(&known, &self.rules, self.zone, now).iter().all(Option::is_some) {
            return Ok(());
        }
        let archive = WalArchive::new(&self.repository, &self.cluster, &info.system_id);
        let Some(newest) = archive.contents().await?.newest_before(info).cloned() else { return Ok(()) };
        if !is_in_use(&self.repository, &newest, info).await? {
            return Ok(());
        }
        let begun = Instant::now();
        while archive.contents_of(&WalFile::Segment(last)).await?.believed.is_empty() && begun.elapsed() < ARCHIVING {
            tokio::time::sleep(ARCHIVING / 60).await;
        }
        Ok(())
    }

    async fn of_system(
        &self,
        system_id: &str,
        now: DateTime<Utc>,
        witnesses: Vec<(String, DateTime<Utc>)>,
        expired: &mut Expired,
    ) -> Result<(), Error> {
        let catalogue = Catalogue::read(&self.repository, Some(&self.cluster)).await?;
        let of_system = || catalogue.entries().iter().filter(|entry| entry.info.system_id == system_id);
        let (backups, damaged): (Vec<BackupInfo>, _) =
            (of_system().map(|entry| entry.info.clone()).collect(), &catalogue.unreadable);
        let mut known: Vec<Candidate> = of_system().map(Candidate::new).collect();
        for known in known.iter_mut().filter(|known| self.spared.contains(&known.label)) {
            known.kept = Some("taken by this run".into());
        }
        let archive = WalArchive::new(&self.repository, &self.cluster, system_id);
        let contents = archive.contents().await?;
        // C43: what is not known to be of the server that archives is in nobody's place.
        for (known, info) in known.iter_mut().zip(&backups) {
            if let Some(newest) = contents.newest_before(info)
                && is_in_use(&self.repository, newest, info).await?
            {
                (known.good, known.verified) = (false, false);
                known.kept = Some("the WAL archive has not reached it yet: it does not count until then".into());
            }
        }
        // C32: with its chain, which goes with it, and its WAL.
        let readers = self.repository.readers(&self.cluster, system_id, !self.dry_run).await?;
        for reader in &readers {
            for known in known.iter_mut().filter(|known| known.label == reader.label) {
                known.kept = Some(format!("{} has been reading it since {}", reader.work, shown(reader.began_at)));
            }
        }
        let mut taken_before = known.iter().filter(|known| !self.spared.contains(&known.label));
        if let Some(reason) = doubt(now, taken_before.next_back(), &witnesses) {
            return Err(Error::Refused(reason));
        }
        let mut decided = decide(&known, &self.rules, self.zone, now);
        if !self.backups {
            decided.fill(Some("this run expires only WAL".into()));
        }
        // C11, C41, C42: what a backup builds upon whose catalogue cannot be read, or is not to be believed, is not known, and without
        // the history of the live timeline not what is orphaned. So nothing is removed, what cannot be read neither: it may be from
        // before signing was set up.
        if !damaged.is_empty() {
            decided.fill(Some(
                "something here cannot be read or is not trusted: nothing is removed until that is resolved".into(),
            ));
            expired.doubts.extend(damaged.iter().map(ToString::to_string));
        }
        // C43: which of the two is the cluster is for a person to say.
        let strange =
            backups.iter().filter(|info| contents.is_of_another(info)).map(another::words).collect::<Vec<_>>();
        if !strange.is_empty() {
            decided.fill(Some(
                "two servers with the same system identifier write here: nothing is removed until that is resolved"
                    .into(),
            ));
            expired.doubts.extend(strange.iter().cloned());
        }
        // Children go before what they build upon: a crash in between leaves no chain without its beginning (C11).
        for (info, _) in backups.iter().zip(&decided).rev().filter(|(_, reason)| reason.is_none()) {
            if !self.dry_run {
                self.repository.remove(&info.place()).await?;
                tracing::info!(repository = self.repository.name, label = info.label, "removed: no rule keeps it");
            }
            expired.removed.push(info.label.clone());
        }
        let retained: Vec<&Candidate> =
            known.iter().zip(&decided).filter(|(_, reason)| reason.is_some()).map(|(known, _)| known).collect();
        // C7: what a catalogue that cannot be read would need is not known, so nothing goes.
        if damaged.is_empty() && strange.is_empty() && !retained.is_empty() {
            let needed = needed(&retained, &self.rules, now).and_from(readers.iter().map(|reader| reader.wal_from));
            self.wal(&archive, contents, &backups, &needed, expired).await?;
        }
        expired.decisions.extend(backups.into_iter().zip(decided));
        Ok(())
    }

    async fn wal(
        &self,
        archive: &WalArchive,
        contents: WalContents,
        backups: &[BackupInfo],
        needed: &Needed,
        expired: &mut Expired,
    ) -> Result<(), Error> {
        let sizes: BTreeMap<u64, ()> = backups.iter().map(|info| (info.wal_segment_size, ())).collect();
        // Positions of segments depend on their size; pg_resetwal can change it, and then nothing is certain.
        let (Some((size, ())), 1) = (sizes.first_key_value(), sizes.len()) else { return Ok(()) };
        // C42: every backup here is to be believed. WAL that is not serves none of them, and goes at the same place as the rest.
        for object in contents.believed.into_iter().chain(contents.untrusted) {
            let stays = match &object.file {
                WalFile::History(_) => true,
                file => file.segment().is_none_or(|segment| needed.keeps(segment, *size)),
            };
            if stays {
                expired.wal_kept += 1;
                continue;
            }
            if !self.dry_run {
                archive.remove(&object).await?;
            }
            expired.wal_removed += 1;
            expired.wal_bytes += object.size;
        }
        Ok(())
    }
}

fn shown(time: DateTime<Utc>) -> String {
    time.format("%Y-%m-%d %H:%M:%SZ").to_string()
}

/// Why this machine's clock cannot be relied on to remove anything (C33).
fn doubt(now: DateTime<Utc>, newest: Option<&Candidate>, witnesses: &[(String, DateTime<Utc>)]) -> Option<String> {
    let newest = newest.map(|known| (format!("the newest earlier backup, {},", known.label), known.started_at));
    let ahead = newest.filter(|(_, time)| *time > now + CLOCK_TOLERANCE);
    let differs = witnesses.iter().find(|(_, time)| (*time - now).abs() > CLOCK_TOLERANCE).cloned();
    let (whose, time) = differs.or(ahead)?;
    Some(format!(
        "this machine's clock says {}, but {whose} says {}: nothing is removed while a clock is wrong; set it right, then run \
         this again",
        shown(now),
        shown(time)
    ))
}

#[cfg(test)]
mod tests {
    use super::*;
    use chrono::TimeDelta;

    #[test]
    fn c33_a_clock_that_any_witness_contradicts_removes_nothing() {
        let now = pgbosun_core::clock::now();
        let witness = |name: &str, ahead: TimeDelta| (name.to_owned(), now + ahead);
        let (agrees, server) =
            (witness("the store", TimeDelta::minutes(-5)), witness("the server", TimeDelta::days(-400)));
        assert_eq!(doubt(now, None, &[]), None);
        assert_eq!(doubt(now, None, std::slice::from_ref(&agrees)), None);
        let said = doubt(now, None, &[agrees, server]).unwrap();
        assert!(said.contains("but the server says") && said.contains("set it right"), "{said}");
        assert!(doubt(now, None, &[witness("its uptime", TimeDelta::hours(2))]).is_some());
    }
}
