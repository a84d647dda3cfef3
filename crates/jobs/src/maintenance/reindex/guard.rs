//! What keeps an index from being built at this moment: WAL that was just written, a base backup, a standby that lags, an old
//! transaction, no room.

use super::Reindex;
use crate::{
    JobContext, JobError,
    maintenance::{index::Index, run::MaintenanceRun, session::MaintenanceSession},
};
use pgbosun_core::human;
use std::{
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

/// How often it is looked whether the way is free.
const LOOK: Duration = Duration::from_secs(2);

/// Watches the way for one run.
pub(super) struct Guard<'a> {
    options: &'a Reindex,
    data_directory: Option<PathBuf>,
    /// What was waited for in vain: the next index does not wait for it all over again.
    patience: Duration,
    /// When the WAL written so far would have been, at the rate that is allowed.
    paid: Option<Instant>,
}

#[derive(sqlx::FromRow)]
struct Way {
    base_backups: i64,
    lag: i64,
    #[sqlx(try_from = "pgbosun_postgres::MaybeLossy")]
    transaction: Option<String>,
}

#[derive(sqlx::FromRow)]
struct Place {
    #[sqlx(try_from = "pgbosun_postgres::Lossy")]
    location: String,
}

impl<'a> Guard<'a> {
    /// Nothing was waited for yet.
    pub fn new(options: &'a Reindex, context: &JobContext) -> Result<Self, JobError> {
        let (name, _) = context.cluster()?;
        let data_directory = context.config.clusters.get(name).and_then(|cluster| cluster.data_directory.clone());
        Ok(Self { options, data_directory, patience: options.patience, paid: None })
    }

    /// Takes down that so much WAL was written since then.
    pub fn wrote(&mut self, wal: u64, since: Instant) {
        let rate = self.options.wal_rate.as_u64();
        if rate > 0 {
            let since = self.paid.map_or(since, |paid| paid.max(since));
            self.paid = Some(since + Duration::from_secs_f64(wal as f64 / rate as f64));
        }
    }

    /// Lets disks, standbys and the archive take in what was written; why there is no time for that.
    pub async fn rest(&self, run: &MaintenanceRun<'_>) -> Option<String> {
        let rest = self.paid?.checked_duration_since(Instant::now())?;
        if rest >= run.left() {
            return Some("wal-rate allows no more WAL within the time budget".into());
        }
        run.context.progress.step("pausing before the next index, to stay within wal-rate", 0);
        tokio::select! {
            () = tokio::time::sleep(rest) => None,
            over = run.over() => Some(over),
        }
    }

    /// Waits until the way is free; what is in it, where it is not in time, and whether that are others' locks and transactions.
    pub async fn in_the_way(
        &mut self,
        run: &MaintenanceRun<'_>,
        session: &mut MaintenanceSession,
        index: &Index,
    ) -> Result<Option<(String, bool)>, JobError> {
        let begun = Instant::now();
        loop {
            let Some((reason, others)) = self.obstacles(session, index).await? else { return Ok(None) };
            if begun.elapsed() >= self.patience {
                self.patience = Duration::ZERO;
                return Ok(Some((reason, others)));
            }
            let progress = &run.context.progress;
            progress.step(format!("{}: {} is waiting", session.database, index.name), 0);
            progress.detail(&reason);
            tokio::select! {
                () = tokio::time::sleep(LOOK) => {}
                over = run.over() => return Ok(Some((format!("{over} while waiting: {reason}"), false))),
            }
        }
    }

    async fn obstacles(
        &self,
        session: &mut MaintenanceSession,
        index: &Index,
    ) -> Result<Option<(String, bool)>, JobError> {
        let old = i64::try_from(self.options.lock_timeout.as_secs()).unwrap_or(i64::MAX).max(1);
        let ways: Vec<Way> = session.rows_of("look for what is in the way", include_str!("way.sql"), old).await?;
        let Some(way) = ways.into_iter().next() else { return Ok(None) };
        if way.base_backups > 0 {
            return Ok(Some(("a base backup is being taken".into(), false)));
        }
        let (lag, limit) = (way.lag.unsigned_abs(), self.options.lag_limit.as_u64());
        if lag > limit {
            let reason = format!("a standby lags by {} (limit {})", human::size(lag), human::size(limit));
            return Ok(Some((reason, false)));
        }
        if let Some(transaction) = way.transaction {
            return Ok(Some((format!("it would have to wait for {transaction}"), true)));
        }
        Ok(self.room(session, index).await?.map(|reason| (reason, false)))
    }

    /// The new index and what is sorted for it, and the WAL about it.
    async fn room(&self, session: &mut MaintenanceSession, index: &Index) -> Result<Option<String>, JobError> {
        let Some(data) = &self.data_directory else { return Ok(None) };
        let asked = "select pg_catalog.pg_tablespace_location($1::bigint::oid) as location";
        let place: Option<Place> = session.row_of("ask where the index is", asked, index.tablespace).await?;
        let tablespace = place.filter(|place| !place.location.is_empty()).map(|place| PathBuf::from(place.location));
        let needed = index.bytes.unsigned_abs().saturating_mul(2).saturating_add(self.options.keep_free.as_u64());
        for place in [tablespace.as_deref().unwrap_or(data), &data.join("pg_wal")] {
            if let Some(free) = free(place).filter(|free| *free < needed) {
                let (free, needed) = (human::size(free), human::size(needed));
                return Ok(Some(format!("{} has {free} free, but {needed} is needed", place.display())));
            }
        }
        Ok(None)
    }
}

fn free(path: &Path) -> Option<u64> {
    let system = nix::sys::statvfs::statvfs(path).ok()?;
    Some(system.blocks_available() * system.fragment_size())
}
