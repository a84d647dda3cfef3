//! Leases of readers (C32): what restores, restore tests, copies and verifications read, so that an expiry leaves it.
//!
//! A reader never waits for long and is never refused: where its lease cannot be written (a repository that is mounted for
//! reading) it reads all the same, and says so. An expiry announces itself before it looks for readers, and a reader looks for
//! an expiry after it has written its lease: one of the two sees the other.

use super::{Repository, leases::expiry_lease};
use crate::{
    BackupInfo, Error, HEARTBEAT,
    lease::{Place, is_at_work},
};
use chrono::{DateTime, TimeDelta, Utc};
use futures::future::join_all;
use pgbosun_core::{clock, human, lsn::Lsn};
use serde::{Deserialize, Serialize};
use std::{future::Future, time::Duration};
use uuid::Uuid;

/// The longest that WAL stays for a server that was restored and recovers from the archive by itself.
pub const RECOVERY_HOLD: TimeDelta = TimeDelta::hours(24);

/// A repository that does not take a lease in this time is read without one.
const PATIENCE: Duration = Duration::from_secs(30);

/// What one process reads in one repository.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct Reader {
    /// What is done, in words: "a restore".
    pub work: String,
    /// The backup; all that it builds on is read too. Empty where only WAL is read.
    pub label: String,
    /// WAL from here on is read, on every timeline.
    pub wal_from: Lsn,
    /// When it began.
    pub began_at: DateTime<Utc>,
    /// When the reader last said that it is at work.
    pub renewed_at: DateTime<Utc>,
    /// The process, by which its death is seen on the same machine.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub process: Option<Place>,
    /// The reader has ended, and a server that it restored goes on reading until then.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub held_until: Option<DateTime<Utc>>,
}

impl Reader {
    /// Someone who is about to read.
    fn new(work: &str, label: &str, wal_from: Lsn) -> Self {
        Self {
            work: work.to_owned(),
            label: label.to_owned(),
            wal_from,
            began_at: clock::now(),
            renewed_at: clock::now(),
            process: Place::current(),
            held_until: None,
        }
    }

    /// Whether it still reads. C33: no date holds anything for longer than a lease may last, wherever it comes from.
    fn is_alive(&self, now: DateTime<Utc>) -> bool {
        match self.held_until {
            Some(until) => now < until && (now - self.renewed_at).abs() < RECOVERY_HOLD,
            None => is_at_work(self.process.as_ref(), self.renewed_at, now),
        }
    }
}

pub(super) fn directory(cluster: &str, system_id: &str) -> String {
    format!("{cluster}/{system_id}/readers")
}

/// Leases that are held in repositories; [`Reading::during`] keeps them alive.
#[derive(Debug)]
pub struct Reading {
    reader: Reader,
    leases: Vec<(Repository, String)>,
}

impl Reading {
    /// Announces a reader of this backup in these repositories, and waits there for an expiry to end.
    ///
    /// What was chosen before may be gone by then: the caller looks again, or meets a missing object.
    pub async fn begin(repositories: &[Repository], info: &BackupInfo, work: &str) -> Self {
        let reader = Reader::new(work, &info.label, info.start_lsn);
        Self::announce(repositories, &info.cluster, &info.system_id, reader).await
    }

    /// The same of one who reads all WAL of a system in one repository.
    pub async fn begin_wal(repository: &Repository, cluster: &str, system_id: &str, work: &str) -> Self {
        let reader = Reader::new(work, "", Lsn(0));
        Self::announce(std::slice::from_ref(repository), cluster, system_id, reader).await
    }

    async fn announce(repositories: &[Repository], cluster: &str, system_id: &str, reader: Reader) -> Self {
        let key = format!("{}/{}.json", directory(cluster, system_id), Uuid::now_v7());
        let announced = repositories.iter().map(|repository| {
            let (reader, key) = (&reader, &key);
            async move {
                let written = tokio::time::timeout(PATIENCE, async {
                    // Where the cluster has nothing there is nothing to hold, and no directory is made.
                    let known = repository.system_ids(cluster).await?;
                    if !known.iter().any(|known| known == system_id) {
                        return Ok(false);
                    }
                    repository.write_json(key, reader).await.map(|()| true)
                });
                let reason = match written.await {
                    Ok(Ok(false)) => return None,
                    Ok(Ok(true)) => {
                        repository.wait_for_expiry(cluster, system_id).await;
                        return Some((repository.clone(), key.clone()));
                    }
                    Ok(Err(error)) => human::chain(&error),
                    Err(_) => format!("no answer within {} s", PATIENCE.as_secs()),
                };
                tracing::warn!(
                    repository = repository.name,
                    "no lease could be written, so an expiry may remove what {} is reading: {reason}",
                    reader.work
                );
                None
            }
        });
        let leases = join_all(announced).await.into_iter().flatten().collect();
        Self { reader, leases }
    }

    /// Does the work, and says meanwhile that somebody is at it.
    pub async fn during<T>(&self, work: impl Future<Output = T>) -> T {
        tokio::select! {
            done = work => done,
            never = self.announced() => match never {},
        }
    }

    async fn announced(&self) -> std::convert::Infallible {
        loop {
            tokio::time::sleep(HEARTBEAT).await;
            self.write(&Reader { renewed_at: clock::now(), ..self.reader.clone() }).await;
        }
    }

    async fn write(&self, reader: &Reader) {
        let writes = self.leases.iter().map(|(repository, key)| async move {
            if let Err(error) = repository.write_json(key, reader).await {
                tracing::warn!(repository = repository.name, "lease not renewed: {}", human::chain(&error));
            }
        });
        join_all(writes).await;
    }

    /// Ends it.
    pub async fn end(self) {
        let ends = self.leases.iter().map(|(repository, key)| async move {
            if let Err(error) = repository.storage.delete(key).await {
                tracing::warn!(repository = repository.name, "lease not removed: {}", human::chain(&error));
            }
        });
        join_all(ends).await;
    }

    /// Ends it, and leaves the WAL to a server that goes on reading it; returns until when, where any lease is held.
    pub async fn leave(self) -> Option<DateTime<Utc>> {
        let now = clock::now();
        let until = now + RECOVERY_HOLD;
        self.write(&Reader { renewed_at: now, held_until: Some(until), ..self.reader.clone() }).await;
        (!self.leases.is_empty()).then_some(until)
    }
}

impl Repository {
    /// Waits until no expiry is at work, as long as it may take at most.
    async fn wait_for_expiry(&self, cluster: &str, system_id: &str) {
        let key = expiry_lease(cluster, system_id);
        let begun = std::time::Instant::now();
        while let Ok(Some(lease)) = self.expiry_at_work(&key).await
            && lease.is_alive(None, &key)
        {
            if begun.elapsed() > self.options.stall_timeout.min(PATIENCE) {
                tracing::warn!(
                    repository = self.name,
                    "an expiry has been running since {}; not waiting for it any longer",
                    lease.started_at
                );
                return;
            }
            tokio::time::sleep(Duration::from_millis(500)).await;
        }
    }

    /// Who reads a system's backups and WAL now. Leases of those that are gone are removed, unless this is only a look.
    ///
    /// # Errors
    /// [`Error::Storage`].
    pub async fn readers(&self, cluster: &str, system_id: &str, tidy: bool) -> Result<Vec<Reader>, Error> {
        let (directory, now) = (directory(cluster, system_id), clock::now());
        let mut alive = Vec::new();
        for name in self.storage.names(&directory).await? {
            let key = format!("{directory}/{name}");
            match self.note::<Reader>(&key).await? {
                Some(Ok(reader)) if reader.is_alive(now) => alive.push(reader),
                Some(Ok(_)) if tidy => self.storage.delete(&key).await?,
                // One object must not stop all expiry (C36).
                Some(Err(error)) => tracing::warn!(repository = self.name, "skipped: {error}"),
                Some(Ok(_)) | None => {}
            }
        }
        Ok(alive)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn reader(renewed_minutes_ago: i64, held_hours: Option<i64>) -> Reader {
        let now = clock::now();
        Reader {
            work: "a restore".into(),
            label: "20260101T000000Z".into(),
            wal_from: Lsn(0),
            began_at: now,
            renewed_at: now - TimeDelta::minutes(renewed_minutes_ago),
            process: Place::current(),
            held_until: held_hours.map(|hours| now + TimeDelta::hours(hours)),
        }
    }

    #[test]
    fn c32_a_reader_that_is_silent_or_dead_holds_nothing() {
        let now = clock::now();
        assert!(reader(0, None).is_alive(now) && reader(59, None).is_alive(now));
        assert!(!reader(61, None).is_alive(now));
        let mut child = std::process::Command::new("sleep").arg("60").spawn().unwrap();
        let of_child = Reader { process: Place::of(child.id()), ..reader(0, None) };
        assert!(of_child.process.is_some() && of_child.is_alive(now));
        child.kill().unwrap();
        child.wait().unwrap();
        assert!(!of_child.is_alive(now));
        // The server that it restored goes on all the same.
        assert!(Reader { held_until: Some(now + TimeDelta::hours(1)), ..of_child }.is_alive(now));
    }

    #[test]
    fn c33_a_reader_from_the_future_holds_nothing_for_years() {
        let now = clock::now();
        assert!(!reader(-60 * 24 * 365, None).is_alive(now));
        assert!(!reader(-60 * 24 * 365, Some(24 * 366)).is_alive(now));
        assert!(!reader(60 * 25, Some(24 * 365)).is_alive(now));
        assert!(reader(60 * 23, Some(1)).is_alive(now) && !reader(60, Some(-1)).is_alive(now));
    }
}
