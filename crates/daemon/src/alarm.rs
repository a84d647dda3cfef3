//! The alarm clock: tokio-cron-scheduler wakes the scheduler when something may be due.
//!
//! By itself it keeps the UTC offset of the moment a job was made, and rings an hour off after a daylight-saving change.
//! Its metadata store is ours: it asks the same planner as everything else for the next tick. An activation is only a
//! wake-up; what is due is decided elsewhere, so that a lost, early or doubled one does no harm.

use crate::{
    beats::{Beats, Part},
    error::Error,
};
use chrono::{DateTime, Utc};
use chrono_tz::Tz;
use pgbosun_core::schedule::{Cron, occurrences};
use std::{
    collections::HashMap,
    future::Future,
    pin::Pin,
    sync::{Arc, RwLock},
    time::Duration,
};
use tokio::sync::Notify;
use tokio_cron_scheduler::{
    Job, JobScheduler, JobSchedulerError, MetaDataStorage, SimpleJobCode, SimpleMetadataStore, SimpleNotificationCode,
    SimpleNotificationStore,
    job::job_data::{JobAndNextTick, JobStoredData},
    store::{DataStore, InitStore},
};
use uuid::Uuid;

type Answer<T> = Pin<Box<dyn Future<Output = Result<T, JobSchedulerError>> + Send>>;
type Rules = Arc<RwLock<HashMap<Uuid, (Cron, Tz)>>>;

/// Activations that may wait for the listener; more are dropped by the library.
const CHANNEL: usize = 1024;
/// What the library is told; our store never lets it use it.
const PLACEHOLDER: &str = "0 0 0 1 1 *";
/// Rings so often whether anything is due or not, to show that the library lives.
const HEARTBEAT: &str = "*/5 * * * * *";

/// A running alarm clock.
pub struct Alarm {
    clock: JobScheduler,
}

impl Alarm {
    /// Rings `wake` at every time of these schedules. Equal ones share an alarm.
    ///
    /// # Errors
    /// What the library says.
    pub async fn start(schedules: &[(Cron, Tz)], wake: Arc<Notify>, beats: Arc<Beats>) -> Result<Self, Error> {
        let rules = Rules::default();
        let store = ZonedStore { inner: SimpleMetadataStore::default(), rules: Arc::clone(&rules) };
        let clock = JobScheduler::new_with_storage_and_code(
            Box::new(store),
            Box::<SimpleNotificationStore>::default(),
            Box::<SimpleJobCode>::default(),
            Box::<SimpleNotificationCode>::default(),
            CHANNEL,
        )
        .await?;
        let mut distinct: Vec<&(Cron, Tz)> = Vec::new();
        for schedule in schedules {
            if !distinct.contains(&schedule) {
                distinct.push(schedule);
            }
        }
        for (cron, zone) in distinct {
            let wake = Arc::clone(&wake);
            add(&clock, &rules, cron.clone(), *zone, move || wake.notify_one()).await?;
        }
        if let Ok(heartbeat) = HEARTBEAT.parse() {
            add(&clock, &rules, heartbeat, Tz::UTC, move || beats.beat(Part::Alarm)).await?;
        }
        clock.start().await?;
        Ok(Self { clock })
    }

    /// Stops ringing. A clock that was stopped is not started again; a new one is made.
    pub async fn stop(mut self) {
        if let Err(error) = self.clock.shutdown().await {
            tracing::warn!(%error, "alarm clock did not stop");
        }
    }
}

async fn add(
    clock: &JobScheduler,
    rules: &Rules,
    cron: Cron,
    zone: Tz,
    ring: impl Fn() + Send + Sync + 'static,
) -> Result<(), Error> {
    let job = Job::new_async_tz(PLACEHOLDER, zone, move |_, _| {
        ring();
        Box::pin(std::future::ready(()))
    })?;
    // The rule must be known before the store hears of the job.
    if let Ok(mut rules) = rules.write() {
        rules.insert(job.guid(), (cron, zone));
    }
    clock.add(job).await?;
    Ok(())
}

/// The library's store, with next ticks from the planner.
struct ZonedStore {
    inner: SimpleMetadataStore,
    rules: Rules,
}

impl ZonedStore {
    fn next(&self, id: Uuid, after: DateTime<Utc>) -> Option<DateTime<Utc>> {
        let rules = self.rules.read().ok()?;
        let (cron, zone) = rules.get(&id)?;
        occurrences(cron, *zone, after).next()
    }
}

impl InitStore for ZonedStore {
    fn init(&mut self) -> Answer<()> {
        self.inner.init()
    }

    fn inited(&mut self) -> Answer<bool> {
        self.inner.inited()
    }
}

impl DataStore<JobStoredData> for ZonedStore {
    fn get(&mut self, id: Uuid) -> Answer<Option<JobStoredData>> {
        self.inner.get(id)
    }

    fn add_or_update(&mut self, mut data: JobStoredData) -> Answer<()> {
        let next = data.id.as_ref().and_then(|id| self.next(id.into(), Utc::now()));
        if let Some(next) = next {
            data.next_tick = next.timestamp().unsigned_abs();
        }
        self.inner.add_or_update(data)
    }

    fn delete(&mut self, id: Uuid) -> Answer<()> {
        self.inner.delete(id)
    }
}

impl MetaDataStorage for ZonedStore {
    fn list_next_ticks(&mut self) -> Answer<Vec<JobAndNextTick>> {
        self.inner.list_next_ticks()
    }

    fn set_next_and_last_tick(
        &mut self,
        id: Uuid,
        suggested: Option<DateTime<Utc>>,
        last: Option<DateTime<Utc>>,
    ) -> Answer<()> {
        // From now, not from the last tick: after a jump of the clock one ring is enough for all that was skipped.
        let next = self.next(id, Utc::now()).or(suggested);
        self.inner.set_next_and_last_tick(id, next, last)
    }

    fn time_till_next_job(&mut self) -> Answer<Option<Duration>> {
        self.inner.time_till_next_job()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn the_store_sets_ticks_by_the_planner_and_not_by_the_library() {
        let id = Uuid::now_v7();
        let cron: Cron = "30 2 * * *".parse().unwrap();
        let rules = Rules::default();
        rules.write().unwrap().insert(id, (cron.clone(), chrono_tz::Europe::Berlin));
        let mut store = ZonedStore { inner: SimpleMetadataStore::default(), rules };
        store.init().await.unwrap();
        let wrong = DateTime::UNIX_EPOCH;
        let data = JobStoredData {
            id: Some(id.into()),
            last_updated: None,
            last_tick: None,
            next_tick: 1,
            job_type: 0,
            count: 0,
            extra: Vec::new(),
            ran: false,
            stopped: false,
            job: None,
            time_offset_seconds: 0,
        };
        store.add_or_update(data).await.unwrap();
        let expected = occurrences(&cron, chrono_tz::Europe::Berlin, Utc::now()).next().unwrap().timestamp() as u64;
        assert_eq!(store.get(id).await.unwrap().unwrap().next_tick, expected);
        store.set_next_and_last_tick(id, Some(wrong), None).await.unwrap();
        assert_eq!(store.get(id).await.unwrap().unwrap().next_tick, expected);
    }

    #[tokio::test]
    async fn it_rings_within_a_second_of_the_time() {
        let (wake, beats) = (Arc::new(Notify::new()), Arc::new(Beats::default()));
        let every_second = ("* * * * * *".parse().unwrap(), Tz::UTC);
        let alarm = Alarm::start(&[every_second], Arc::clone(&wake), beats).await.unwrap();
        for _ in 0..3 {
            tokio::time::timeout(Duration::from_secs(5), wake.notified()).await.expect("no ring");
        }
        alarm.stop().await;
    }
}
