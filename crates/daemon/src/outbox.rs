//! The delivery of messages: what is news is told, and what waits in the outbox goes out until the other side took it.
//!
//! Invariants: messages of one incident leave by a channel in the order in which they were written; a message that a server
//! took is not sent again while this process lives, also where the journal could not be told.

mod trouble;

use crate::{
    alerts,
    beats::Part,
    engine::Engine,
    error::{Error, chain},
};
use pgbosun_core::{config::Config, faults};
use pgbosun_history::{Journal, Notification, Scene, Telling};
use pgbosun_notify::{Channel, DeliveryError, Desk, MAIL, Message, next_attempt, open_channel};
use std::{
    collections::{BTreeMap, HashMap, HashSet},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};
use uuid::Uuid;

/// The longest one delivery may take, whatever the channel's own limit: a folder on a dead mount has none.
const LONGEST: Duration = Duration::from_secs(300);
/// How long a delivery may take to end when the daemon stops, so that what was taken is known to be.
const LAST: Duration = Duration::from_secs(5);

/// A channel, or why it cannot be one.
type Opened = Result<Option<Box<dyn Channel>>, DeliveryError>;

/// A channel of a configuration.
///
/// # Errors
/// Where an address or certificate in it is wrong.
pub fn channel(config: &Config, name: &str) -> Opened {
    open_channel(config, name, &config.instance_name())
}

/// Delivers until the daemon stops.
pub(crate) async fn run(engine: Arc<Engine>) {
    let heartbeat = engine.config().daemon.heartbeat;
    let mut outbox = Outbox::default();
    loop {
        engine.beats.beat(Part::Outbox);
        let mut turn = std::pin::pin!(outbox.turn(&engine));
        // A mail server that takes its time is no stall: the beat goes on beside it.
        let done = loop {
            tokio::select! {
                done = &mut turn => break done,
                () = tokio::time::sleep(heartbeat) => engine.beats.beat(Part::Outbox),
                () = engine.stop.cancelled() => break tokio::time::timeout(LAST, turn).await.unwrap_or(Ok(())),
            }
        };
        if let Err(error) = done {
            tracing::error!("outbox: {}", chain(&error));
        }
        tokio::select! {
            biased;
            () = engine.stop.cancelled() => return,
            () = engine.outbox.notified() => {}
            () = tokio::time::sleep(heartbeat) => {}
        }
    }
}

/// Tells what is news without waiting for more, and sends what is due: for a command without a daemon.
///
/// # Errors
/// Where the journal cannot be read or written.
pub async fn send_due(engine: &Engine) -> Result<(), Error> {
    tell(engine, true).await?;
    Outbox::default().send(engine).await
}

/// Turns news into messages.
async fn tell(engine: &Engine, at_once: bool) -> Result<(), Error> {
    if !engine.journal.may_have_news().await? {
        return Ok(());
    }
    let now = engine.now();
    let (config, hosts) = (engine.config(), alerts::hosts(&engine.config()));
    let instance = config.instance_name();
    let told = move |scene: &Scene| -> Telling {
        Desk { config: &config, instance: &instance, now }.tell(scene, &hosts, at_once)
    };
    // A look first: mostly what is open was told, and there is nothing to write.
    if told(&engine.journal.scene(now).await?).is_empty() {
        return Ok(());
    }
    engine.journal.tell(now, Box::new(told)).await?;
    Ok(())
}

#[derive(Default)]
struct Outbox {
    /// The configuration the channels were opened with.
    config: Option<Arc<Config>>,
    channels: BTreeMap<String, Opened>,
    /// Messages that a server took and the journal does not know of yet: they are not sent again, only written down.
    accepted: Mutex<HashMap<Uuid, Vec<String>>>,
    watch: trouble::Watch,
}

impl Outbox {
    async fn turn(&mut self, engine: &Engine) -> Result<(), Error> {
        tell(engine, false).await?;
        self.send(engine).await?;
        self.watch.look(engine).await
    }

    /// Tries to deliver what is due: channels beside each other, the messages of each oldest first.
    async fn send(&mut self, engine: &Engine) -> Result<(), Error> {
        let config = engine.config();
        if !self.config.as_ref().is_some_and(|known| Arc::ptr_eq(known, &config)) {
            self.channels.clear();
            self.config = Some(Arc::clone(&config));
        }
        let mut waiting: BTreeMap<String, Vec<Notification>> = BTreeMap::new();
        for message in engine.journal.pending_notifications().await? {
            waiting.entry(message.channel.clone()).or_default().push(message);
        }
        // One that could not be opened may be by now.
        self.channels.retain(|_, opened| opened.is_ok());
        for name in waiting.keys() {
            self.channels.entry(name.clone()).or_insert_with(|| channel(&config, name));
        }
        let this = &*self;
        let lines = waiting.into_iter().map(|(name, messages)| this.send_by(engine, &config, name, messages));
        futures::future::join_all(lines).await.into_iter().collect()
    }

    /// Delivers the messages of one channel. Where the channel itself fails, the others need not try at this moment.
    async fn send_by(
        &self,
        engine: &Engine,
        config: &Config,
        name: String,
        messages: Vec<Notification>,
    ) -> Result<(), Error> {
        for message in &messages {
            self.escalate(engine, config, message).await?;
        }
        let mut blocked: HashSet<(&str, Uuid)> = HashSet::new();
        for message in &messages {
            let incidents = || message.incidents.iter().map(|incident| (message.group_name.as_str(), *incident));
            if message.next_attempt_at > engine.now() || incidents().any(|incident| blocked.contains(&incident)) {
                blocked.extend(incidents());
                continue;
            }
            if let Err(failure) = self.deliver(engine, config, &name, message).await? {
                let own = failure.own;
                self.failed(engine, config, message, failure).await?;
                if !own {
                    break;
                }
                blocked.extend(incidents());
            }
        }
        Ok(())
    }

    /// Tells the fail-safe group of a message that has waited too long, tried or not, and of what follows it.
    async fn escalate(&self, engine: &Engine, config: &Config, message: &Notification) -> Result<(), Error> {
        let now = engine.now();
        let age = (now - message.created_at).to_std().unwrap_or_default();
        if message.follows_escalated || age >= config.daemon.fail_safe_after {
            let reason = message.last_error.as_deref().unwrap_or("an earlier message waits");
            self.escalated(engine, config, message, false, reason).await?;
        }
        Ok(())
    }

    async fn escalated(
        &self,
        engine: &Engine,
        config: &Config,
        message: &Notification,
        nobody: bool,
        reason: &str,
    ) -> Result<(), Error> {
        let (now, instance) = (engine.now(), config.instance_name());
        let copies = Desk { config, instance: &instance, now }.escalated(message, nobody, reason);
        if !copies.is_empty() {
            engine.journal.escalate(message.id, now, copies).await?;
        }
        Ok(())
    }

    /// One try.
    async fn deliver(
        &self,
        engine: &Engine,
        config: &Config,
        name: &str,
        message: &Notification,
    ) -> Result<Result<(), Failure>, Error> {
        let known = self.accepted().get(&message.id).cloned();
        let recipients = match known {
            Some(recipients) => recipients,
            None => {
                let recipients = if name == MAIL {
                    recipients(&engine.journal, config, &message.group_name).await?
                } else {
                    vec![name.to_owned()]
                };
                let tried = match self.channels.get(name) {
                    _ if recipients.is_empty() => Err(Failure::nobody(&message.group_name)),
                    Some(Ok(Some(channel))) => attempt(channel.as_ref(), message, &recipients).await,
                    Some(Err(error)) => Err(Failure::of(error)),
                    Some(Ok(None)) | None => Err(Failure::gone(name)),
                };
                if let Err(failure) = tried {
                    return Ok(Err(failure));
                }
                faults::die(faults::MESSAGE_TAKEN);
                self.accepted().insert(message.id, recipients.clone());
                recipients
            }
        };
        engine.journal.notification_sent(message.id, &recipients, engine.now()).await?;
        self.accepted().remove(&message.id);
        tracing::info!(channel = name, "message sent to {}: {}", recipients.join(", "), message.subject);
        Ok(Ok(()))
    }

    fn accepted(&self) -> MutexGuard<'_, HashMap<Uuid, Vec<String>>> {
        self.accepted.lock().unwrap_or_else(PoisonError::into_inner)
    }

    async fn failed(
        &self,
        engine: &Engine,
        config: &Config,
        message: &Notification,
        failure: Failure,
    ) -> Result<(), Error> {
        let now = engine.now();
        let next = next_attempt(message.created_at, message.attempts, now).filter(|_| !failure.gone);
        let after = failure.after.and_then(|after| chrono::Duration::from_std(after).ok());
        let next = next.map(|next| after.map_or(next, |after| now + after));
        let (reason, channel) = (&failure.reason, &message.channel);
        tracing::warn!(channel, last = next.is_none(), "message not sent: {}: {reason}", message.subject);
        engine.journal.notification_failed(message.id, reason, now, next).await?;
        if failure.nobody || next.is_none() {
            self.escalated(engine, config, message, failure.nobody, reason).await?;
        }
        Ok(())
    }
}

/// Why a message did not leave.
struct Failure {
    reason: String,
    /// It is this message that is not taken, and another may be.
    own: bool,
    /// Nobody is in the group.
    nobody: bool,
    /// The channel left the configuration.
    gone: bool,
    /// How long the other side wants to be left alone.
    after: Option<std::time::Duration>,
}

impl Failure {
    fn of(error: &DeliveryError) -> Self {
        Self { reason: chain(error), own: error.is_own(), nobody: false, gone: false, after: error.after() }
    }

    fn nobody(group: &str) -> Self {
        let reason = format!(
            "group {group} has nobody: \"pgbosun operator add\" adds somebody, or set groups.{group}.recipients"
        );
        Self { reason, own: true, nobody: true, gone: false, after: None }
    }

    fn gone(channel: &str) -> Self {
        let reason = format!("channel {channel} is not configured any more");
        Self { reason, own: true, nobody: false, gone: true, after: None }
    }
}

async fn attempt(channel: &dyn Channel, message: &Notification, recipients: &[String]) -> Result<(), Failure> {
    let failed = |reason: String, own| Failure { reason, own, nobody: false, gone: false, after: None };
    let bulletin = serde_json::from_str(&message.content)
        .map_err(|error| failed(format!("another version wrote it: {error}"), true))?;
    let message = Message { id: message.id, bulletin, recipients: recipients.to_vec() };
    match tokio::time::timeout(LONGEST, channel.deliver(&message)).await {
        Ok(delivered) => delivered.map(drop).map_err(|error| Failure::of(&error)),
        Err(_) => Err(failed(format!("no end within {LONGEST:?}"), false)),
    }
}

/// Who gets mail: the operators as last read from `dba_ops`, or the list of the configuration. Where a group has nobody and
/// there is no fail-safe group, those of the daemon's own group, so that no alert is told to no one.
async fn recipients(journal: &Journal, config: &Config, group: &str) -> Result<Vec<String>, Error> {
    let cached = journal.cached_operators().await?.unwrap_or_default();
    let of = |group: &str| {
        let operators = cached.get(group).filter(|operators| !operators.is_empty()).cloned();
        operators.or_else(|| config.groups.get(group).map(|group| group.recipients.clone())).unwrap_or_default()
    };
    let own = of(group);
    let spare = config.daemon.fail_safe_group.is_none();
    Ok(if own.is_empty() && spare { of(&config.daemon.alert_group.0) } else { own })
}
