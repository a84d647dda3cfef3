//! The delivery of history: the journal's changes to `dba_ops`, the operators back, and the daily purge of both.

mod trouble;

use crate::{
    engine::Engine,
    error::{Error, chain},
    faults, hearing,
    heartbeats::Part,
};
use chrono::Duration;
use pgbosun_core::config::Config;
use pgbosun_history::{Delivery, Old, OperatorNews, Operators};
use pgbosun_postgres::{Conninfo, Server, SessionSettings};
use std::{
    sync::Arc,
    time::{Duration as StdDuration, Instant},
};
use uuid::Uuid;

/// The setting that says when old rows were last removed.
const PURGED: &str = "purged";
/// The longest pause after failures.
const LONGEST: StdDuration = StdDuration::from_secs(60);
/// The longest one pass may take.
const LIMIT: StdDuration = StdDuration::from_secs(180);
/// How often the operators are read while nothing else is to do.
const OPERATORS: StdDuration = StdDuration::from_secs(60);

/// The history database of a configuration, if it has one. A command that delivers nothing is no instance: the nil
/// identity.
///
/// # Errors
/// Where its connection string is wrong.
pub fn open(config: &Config, instance: Uuid) -> Result<Option<Delivery>, Error> {
    Ok(server(config)?.map(|server| Delivery::new(server, instance, &config.instance_name())))
}

/// The server of the history database, where one is configured.
///
/// # Errors
/// Where its connection string is wrong.
pub fn server(config: &Config) -> Result<Option<Server>, Error> {
    let Some(connection) = &config.history.connection else { return Ok(None) };
    let conninfo = Conninfo::parse(connection).map_err(pgbosun_history::Error::Server)?;
    Ok(Some(Server {
        conninfo: conninfo.with_password(config.history.password.clone()),
        connect_timeout: StdDuration::from_secs(10),
        statement_timeout: StdDuration::from_secs(30),
        lock_timeout: StdDuration::from_secs(10),
        session: SessionSettings::Ours,
    }))
}

/// Listens for changes of the operators until the daemon stops. What is missed while nobody listens, the next check finds.
pub(crate) async fn listen(engine: Arc<Engine>) {
    loop {
        let listening = async {
            // A schema that is not there yet has nobody who tells.
            let Some(server) = server(&engine.config())? else { return Ok(()) };
            let mut news = OperatorNews::listen(&server).await?;
            loop {
                engine.operators.notify_one();
                news.wait().await?;
            }
        };
        tokio::select! {
            ended = listening => if let Err::<(), Error>(error) = ended {
                tracing::debug!("operators: {}", chain(&error));
            },
            () = engine.stop.cancelled() => return,
        }
        tokio::select! {
            () = tokio::time::sleep(LONGEST) => {}
            () = engine.stop.cancelled() => return,
        }
    }
}

/// Delivers until the daemon stops, and once more then.
pub(crate) async fn run(engine: Arc<Engine>) {
    let begun = Instant::now();
    let heartbeat = engine.config().daemon.heartbeat;
    let mut commits = engine.journal.commits();
    let mut target = Target::default();
    let mut read_operators = false;
    loop {
        faults::stall(faults::STALL_DELIVERY, begun.elapsed()).await;
        engine.heartbeats.beat(Part::History);
        commits.borrow_and_update();
        if std::mem::take(&mut read_operators) {
            target.operators_read = None;
        }
        let mut pass = std::pin::pin!(target.pass(&engine));
        // A database that takes its time, or is dead, is no stall: the beat goes on beside it.
        let more = loop {
            tokio::select! {
                more = &mut pass => break more,
                () = tokio::time::sleep(heartbeat) => engine.heartbeats.beat(Part::History),
            }
        };
        if engine.stop.is_cancelled() && engine.tasks.is_empty() {
            return;
        }
        if !more {
            tokio::select! {
                changed = commits.changed() => if changed.is_err() { return },
                () = engine.operators.notified() => read_operators = true,
                () = tokio::time::sleep(heartbeat) => {}
                () = engine.stop.cancelled() => tokio::time::sleep(StdDuration::from_millis(100)).await,
            }
        }
    }
}

/// The connection to the history database and what is known of it.
#[derive(Default)]
struct Target {
    delivery: Option<Delivery>,
    /// The configuration it was made from.
    config: Option<Arc<Config>>,
    failures: u32,
    not_before: Option<Instant>,
    operators_read: Option<Instant>,
    trouble: trouble::Watch,
}

impl Target {
    /// One pass; true where more waits.
    async fn pass(&mut self, engine: &Engine) -> bool {
        if self.not_before.is_some_and(|time| Instant::now() < time) {
            return false;
        }
        let pass = tokio::time::timeout(LIMIT, self.try_pass(engine)).await;
        match pass.unwrap_or(Err(Error::History(pgbosun_history::Error::Timeout(LIMIT)))) {
            Ok(more) => {
                if self.failures > 0 {
                    tracing::info!("history is delivered again");
                    engine.history_trouble.send_replace(None);
                }
                (self.failures, self.not_before) = (0, None);
                self.trouble.over(engine).await;
                more
            }
            Err(error) => {
                let reason = chain(&error);
                let since = engine.history_trouble.borrow().as_ref().map_or_else(|| engine.now(), |(since, _)| *since);
                if self.failures == 0 {
                    tracing::warn!("history has not been delivered, it waits in the journal: {reason}");
                }
                self.trouble.lasts(engine, since, &reason).await;
                engine.history_trouble.send_replace(Some((since, reason)));
                self.failures += 1;
                self.not_before = Some(Instant::now() + LONGEST.min(StdDuration::from_secs(1 << self.failures.min(6))));
                if let Some(delivery) = &mut self.delivery {
                    delivery.disconnect();
                }
                false
            }
        }
    }

    async fn try_pass(&mut self, engine: &Engine) -> Result<bool, Error> {
        let config = engine.config();
        if !self.config.as_ref().is_some_and(|known| Arc::ptr_eq(known, &config)) {
            self.delivery = open(&config, engine.journal.instance())?;
            self.operators_read = None;
            self.config = Some(Arc::clone(&config));
        }
        let more = self.deliver(engine).await?;
        if let Err(error) = self.purge(engine, &config).await {
            tracing::warn!("old history could not be removed, trying again tomorrow: {}", chain(&error));
        }
        Ok(more)
    }

    async fn deliver(&mut self, engine: &Engine) -> Result<bool, Error> {
        let Some(delivery) = &mut self.delivery else { return Ok(false) };
        let delivered = delivery.step(&engine.journal).await?;
        if self.operators_read.is_none_or(|read| read.elapsed() > OPERATORS) {
            let (operators, groups) = (delivery.operators().await?, delivery.operator_groups().await?);
            let known = engine.journal.cached_operators().await?;
            if let Some(known) = known {
                hearing::compare(engine, &known, &Operators::new(&operators, &groups)).await?;
            }
            engine.journal.cache_operators(operators, &groups).await?;
            self.operators_read = Some(Instant::now());
        }
        Ok(delivered.more)
    }

    /// Once a day, in small batches.
    async fn purge(&mut self, engine: &Engine, config: &Config) -> Result<(), Error> {
        let now = engine.now();
        let last: Option<chrono::DateTime<chrono::Utc>> =
            engine.journal.setting(PURGED).await?.and_then(|text| text.parse().ok());
        if last.is_some_and(|last| now - last < Duration::days(1)) {
            return Ok(());
        }
        // Noted first, so that a purge that fails is not tried in every pass.
        engine.journal.set_setting(PURGED, Some(&now.to_rfc3339())).await?;
        let ago = |keep| now - Duration::from_std(keep).unwrap_or(Duration::days(400));
        let history = &config.history;
        let old = Old {
            before: ago(history.keep),
            monitor_runs: ago(history.keep_looks),
            details: ago(history.keep_maintenance),
            samples: ago(history.keep_samples),
            hours: ago(history.keep_hours),
        };
        let removed = engine.journal.purge(old).await?;
        if let Some(delivery) = &mut self.delivery {
            delivery.purge(old).await?;
        }
        if removed > 0 {
            tracing::info!(removed, "old history removed");
        }
        Ok(())
    }
}
