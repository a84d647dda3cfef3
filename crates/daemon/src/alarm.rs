//! The alarm clock: tokio-cron-scheduler wakes the scheduler when something may be due.
//!
//! By itself it keeps the UTC offset of the moment a job was made, and rings an hour off after a daylight-saving change.
//! Its metadata store is ours: it asks the same planner as everything else for the next tick. An activation is only a
//! wake-up; what is due is decided elsewhere, so that a lost, early or doubled one does no harm.

use crate::{
    error::Error,
    heartbeats::{Heartbeats, Part},
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
use tokio::{runtime::Runtime, sync::Notify};
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

/// A running alarm clock. It stops when it is dropped.
///
/// It has a runtime of its own: the library's tasks hold one another's channels open and would outlive their scheduler, a
/// few more with each reload; so they end with the runtime.
pub struct Alarm {
    runtime: Option<Runtime>,
}

impl Drop for Alarm {
    fn drop(&mut self) {
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }
}

impl Alarm {
    /// Rings `wake` at every time of these schedules. Equal ones share an alarm.
    ///
    /// # Errors
    /// Where the runtime cannot be started. What the library says is logged, and the watchdog sees that it is silent.
    pub fn start(schedules: &[(Cron, Tz)], wake: Arc<Notify>, heartbeats: Arc<Heartbeats>) -> Result<Self, Error> {
        let mut distinct: Vec<(Cron, Tz)> = Vec::new();
        for schedule in schedules {
            if !distinct.contains(schedule) {
                distinct.push(schedule.clone());
            }
        }
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .thread_name("pgbosun-alarm")
            .enable_time()
            .build()
            .map_err(|source| Error::System("start the alarm clock", source))?;
        runtime.spawn(async move {
            if let Err(error) = ring(distinct, wake, heartbeats).await {
                tracing::error!("alarm clock: {error}");
            }
        });
        Ok(Self { runtime: Some(runtime) })
    }
}

async fn ring(
    schedules: Vec<(Cron, Tz)>,
    wake: Arc<Notify>,
    heartbeats: Arc<Heartbeats>,
) -> Result<(), JobSchedulerError> {
    let rules = Rules::default();
    let store = ZonedStore { inner: SimpleMetadataStore::default(), rules: Arc::clone(&rules), seen: Utc::now() };
    let clock = JobScheduler::new_with_storage_and_code(
        Box::new(store),
        Box::<SimpleNotificationStore>::default(),
        Box::<SimpleJobCode>::default(),
        Box::<SimpleNotificationCode>::default(),
        CHANNEL,
    )
    .await?;
    for (cron, zone) in schedules {
        let wake = Arc::clone(&wake);
        add(&clock, &rules, cron, zone, move || wake.notify_one()).await?;
    }
    if let Ok(heartbeat) = HEARTBEAT.parse() {
        add(&clock, &rules, heartbeat, Tz::UTC, move || heartbeats.beat(Part::Alarm)).await?;
    }
    clock.start().await
}

async fn add(
    clock: &JobScheduler,
    rules: &Rules,
    cron: Cron,
    zone: Tz,
    ring: impl Fn() + Send + Sync + 'static,
) -> Result<(), JobSchedulerError> {
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
    /// When the library last asked.
    seen: DateTime<Utc>,
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
        let now = Utc::now();
        if now >= std::mem::replace(&mut self.seen, now) {
            return self.inner.list_next_ticks();
        }
        // The clock was set back: ticks computed before lie too far ahead, and the library would be silent until then.
        let ids: Vec<Uuid> = self.rules.read().map(|rules| rules.keys().copied().collect()).unwrap_or_default();
        let anew: Vec<_> =
            ids.into_iter().map(|id| self.inner.set_next_and_last_tick(id, self.next(id, now), None)).collect();
        let list = self.inner.list_next_ticks();
        Box::pin(async move {
            for tick in anew {
                tick.await?;
            }
            list.await
        })
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
        let mut store = ZonedStore { inner: SimpleMetadataStore::default(), rules, seen: Utc::now() };
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
        // After the clock was set back by an hour the ticks are made anew, without a last one in the future.
        let later = Utc::now() + chrono::Duration::hours(1);
        store.set_next_and_last_tick(id, None, Some(later)).await.unwrap();
        store.seen = later;
        store.list_next_ticks().await.unwrap();
        let data = store.get(id).await.unwrap().unwrap();
        assert_eq!((data.next_tick, data.last_tick), (expected, None));
    }

    #[tokio::test]
    async fn it_rings_within_a_second_of_the_time() {
        let (wake, heartbeats) = (Arc::new(Notify::new()), Arc::new(Heartbeats::default()));
        let every_second = ("* * * * * *".parse().unwrap(), Tz::UTC);
        let alarm = Alarm::start(&[every_second], Arc::clone(&wake), heartbeats).unwrap();
        for _ in 0..3 {
            tokio::time::timeout(Duration::from_secs(5), wake.notified()).await.expect("no ring");
        }
        drop(alarm);
    }
}
