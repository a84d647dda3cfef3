//! The delivery of messages: what is news is told, and what waits in the outbox goes out until the other side took it.
//!
//! Invariants: messages of one incident leave by a channel in the order in which they were written; a message that a server
//! took is not sent again while this process lives, also where the journal could not be told; who has a message gets no second
//! copy since others of the group have not.

mod trouble;

use crate::{
    alerts,
    engine::Engine,
    error::{Error, chain},
    hearing::Hearing,
    heartbeats::Part,
};
use pgbosun_core::{config::Config, faults};
use pgbosun_history::{AlertSnapshot, Dispatch, Notification};
use pgbosun_notify::{Channel, DeliveryError, MAIL, Message, Missed, Notifier, next_attempt, open_channel};
use std::{
    collections::{BTreeMap, HashMap, HashSet},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};
use tokio::runtime::Handle;
use tokio_util::task::AbortOnDropHandle;
use uuid::Uuid;

/// The longest one delivery may take, whatever the channel's own limit: a folder on a dead mount has none.
const LONGEST: Duration = Duration::from_secs(300);
/// How long a delivery may take to end when the daemon stops, so that what was taken is known to be.
const LAST: Duration = Duration::from_secs(5);

/// A channel, or why it cannot be one.
type Opened = Result<Option<Arc<dyn Channel>>, DeliveryError>;

/// A channel of a configuration.
///
/// # Errors
/// Where an address or certificate in it is wrong.
pub fn channel(config: &Config, name: &str) -> Opened {
    Ok(open_channel(config, name, &config.instance_name())?.map(Arc::from))
}

/// Delivers until the daemon stops.
pub(crate) async fn run(engine: Arc<Engine>) {
    let heartbeat = engine.config().daemon.heartbeat;
    let mut outbox = Outbox::default();
    loop {
        engine.heartbeats.beat(Part::Outbox);
        let mut pass = std::pin::pin!(outbox.pass(&engine));
        // A mail server that takes its time is no stall: the beat goes on beside it.
        let done = loop {
            tokio::select! {
                done = &mut pass => break done,
                () = tokio::time::sleep(heartbeat) => engine.heartbeats.beat(Part::Outbox),
                () = engine.stop.cancelled() => break tokio::time::timeout(LAST, pass).await.unwrap_or(Ok(())),
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
    let told = move |snapshot: &AlertSnapshot| -> Dispatch {
        Notifier { config: &config, instance: &instance, now }.dispatch(snapshot, &hosts, at_once)
    };
    // Asked first: mostly what is open was reported, and there is nothing to write.
    if told(&engine.journal.alert_snapshot(now).await?).is_empty() {
        return Ok(());
    }
    engine.journal.dispatch(now, Box::new(told)).await?;
    Ok(())
}

#[derive(Default)]
struct Outbox {
    /// The configuration the channels were opened with.
    config: Option<Arc<Config>>,
    channels: BTreeMap<String, Opened>,
    /// Messages that a server took and the journal does not know of yet: they are not sent again, only written down.
    accepted: Mutex<HashMap<Uuid, Taken>>,
    /// Until when channels want to be left alone.
    rests: Mutex<HashMap<String, Instant>>,
    /// Groups, with the channel that works and does not reach them.
    unreached: Mutex<HashSet<(String, String)>>,
    watch: trouble::Watch,
}

impl Outbox {
    async fn pass(&mut self, engine: &Engine) -> Result<(), Error> {
        tell(engine, false).await?;
        self.send(engine).await?;
        self.watch.check(engine).await
    }

    /// Tries to deliver what is due: channels beside each other, the messages of each oldest first.
    async fn send(&mut self, engine: &Engine) -> Result<(), Error> {
        let config = engine.config();
        if !self.config.as_ref().is_some_and(|known| Arc::ptr_eq(known, &config)) {
            self.channels.clear();
            lock(&self.rests).clear();
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
        if lock(&self.rests).get(&name).is_some_and(|until| Instant::now() < *until) {
            return Ok(());
        }
        // Incidents of which a message waits, with those who have it: they may hear what comes later, the others not yet.
        let mut waiting: HashMap<(&str, Uuid), Vec<String>> = HashMap::new();
        for message in &messages {
            let incidents = || message.incidents.iter().map(|incident| (message.group_name.as_str(), *incident));
            let earlier = incidents().filter_map(|incident| waiting.get(&incident).cloned());
            let only = earlier.reduce(|have, these| have.into_iter().filter(|one| these.contains(one)).collect());
            let blocked = only.as_ref().is_some_and(Vec::is_empty);
            let have = if message.next_attempt_at > engine.now() || blocked {
                message.recipients.0.clone()
            } else if let Err(failure) = self.deliver(engine, config, message, only.as_deref()).await? {
                let (own, have) = (failure.own, failure.reached.clone());
                self.failed(engine, config, message, failure).await?;
                if !own {
                    break;
                }
                have
            } else {
                continue;
            };
            for incident in incidents() {
                waiting.entry(incident).or_insert_with(|| have.clone()).retain(|one| have.contains(one));
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
            self.escalated(engine, config, message, reason).await?;
        }
        Ok(())
    }

    /// Whether the fail-safe group was told, now or before.
    async fn escalated(
        &self,
        engine: &Engine,
        config: &Config,
        message: &Notification,
        reason: &str,
    ) -> Result<bool, Error> {
        let (now, instance) = (engine.now(), config.instance_name());
        let works = lock(&self.unreached).contains(&way(message));
        let copies = Notifier { config, instance: &instance, now }.escalated(message, works, reason);
        let told = message.escalated_at.is_some() || !copies.is_empty();
        if !copies.is_empty() {
            engine.journal.escalate(message.id, now, copies).await?;
        }
        Ok(told)
    }

    /// One try, where an earlier message waits for these alone. What a server took is written down.
    async fn deliver(
        &self,
        engine: &Engine,
        config: &Config,
        message: &Notification,
        only: Option<&[String]>,
    ) -> Result<Result<(), Failure>, Error> {
        let known = lock(&self.accepted).get(&message.id).cloned();
        let Taken { reached, owed } = match known {
            Some(taken) => taken,
            None => match self.attempt(engine, config, message, only).await? {
                Ok(taken) => {
                    faults::die(faults::MESSAGE_TAKEN);
                    lock(&self.accepted).insert(message.id, taken.clone());
                    taken
                }
                Err(failure) => return Ok(Err(failure)),
            },
        };
        if let Some(reason) = owed {
            return Ok(Err(Failure { reached, ..Failure::new(reason, true) }));
        }
        engine.journal.notification_sent(message.id, &reached, engine.now()).await?;
        lock(&self.accepted).remove(&message.id);
        lock(&self.unreached).remove(&way(message));
        tracing::info!(channel = message.channel, "message sent to {}: {}", reached.join(", "), message.subject);
        Ok(Ok(()))
    }

    /// Sends to those of the group who have not got it.
    async fn attempt(
        &self,
        engine: &Engine,
        config: &Config,
        message: &Notification,
        only: Option<&[String]>,
    ) -> Result<Result<Taken, Failure>, Error> {
        let (name, reached) = (&message.channel, message.recipients.0.clone());
        let (group, silent) = if name == MAIL {
            let operators = engine.journal.cached_operators().await?.unwrap_or_default();
            let to = Hearing::of(&operators, config, &message.group_name).to;
            (to, operators.of(&message.group_name).is_some())
        } else {
            (vec![name.clone()], false)
        };
        let left = group.into_iter().filter(|one| !reached.contains(one));
        let (now, later): (Vec<_>, Vec<_>) = left.partition(|one| only.is_none_or(|only| only.contains(one)));
        if now.is_empty() {
            return Ok(if reached.is_empty() && later.is_empty() {
                Err(Failure { silent, ..Failure::nobody(&message.group_name) })
            } else {
                Ok(Taken::of(reached, &now, Vec::new(), &later))
            });
        }
        let tried = match self.channels.get(name) {
            Some(Ok(Some(channel))) => send(&engine.bulk, Arc::clone(channel), message, &now).await,
            Some(Err(error)) => Err(Failure::of(error)),
            Some(Ok(None)) | None => Err(Failure::gone(name)),
        };
        Ok(match tried {
            Ok(missed) => Ok(Taken::of(reached, &now, missed, &later)),
            // Who is left is refused, and the others have it.
            Err(failure) if failure.own && !failure.gone && !reached.is_empty() => {
                let missed =
                    |one: &String| Missed { recipient: one.clone(), reason: failure.reason.clone(), refused: true };
                Ok(Taken::of(reached, &now, now.iter().map(missed).collect(), &later))
            }
            Err(failure) => Err(Failure { reached, ..failure }),
        })
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
        if let Some(after) = failure.after {
            lock(&self.rests).insert(message.channel.clone(), Instant::now() + after);
        }
        if failure.own && !failure.gone {
            lock(&self.unreached).insert(way(message));
        } else {
            lock(&self.unreached).remove(&way(message));
        }
        if failure.silent && self.escalated(engine, config, message, &failure.reason).await? {
            tracing::info!("the fail-safe group is notified instead of {}: {}", message.group_name, message.subject);
            return Ok(engine.journal.notification_sent(message.id, &[], now).await?);
        }
        let after = failure.after.and_then(|after| chrono::Duration::from_std(after).ok());
        let next = next.map(|next| after.map_or(next, |after| now + after));
        let (reason, channel) = (&failure.reason, &message.channel);
        tracing::warn!(channel, last = next.is_none(), "message not sent: {}: {reason}", message.subject);
        engine.journal.notification_failed(message.id, &failure.reached, reason, now, next).await?;
        lock(&self.accepted).remove(&message.id);
        if failure.nobody || next.is_none() {
            self.escalated(engine, config, message, reason).await?;
        }
        Ok(())
    }
}

/// What became of a message that a server took.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Taken {
    /// Who has it.
    reached: Vec<String>,
    /// Who is to get it yet, and why they have not.
    owed: Option<String>,
}

impl Taken {
    /// After a try for some, of whom some missed it, where others have it already and others must wait.
    fn of(mut reached: Vec<String>, tried: &[String], missed: Vec<Missed>, later: &[String]) -> Self {
        let has = |one: &&String| !missed.iter().any(|missed| missed.recipient == **one);
        reached.extend(tried.iter().filter(has).cloned());
        let mut owed = Vec::new();
        for Missed { recipient, reason, refused } in missed {
            if refused {
                tracing::error!("{recipient} gets no mail: {reason}");
            } else {
                owed.push(format!("{recipient}: {reason}"));
            }
        }
        owed.extend(later.iter().map(|one| format!("{one}: an earlier message waits")));
        Self { reached, owed: (!owed.is_empty()).then(|| owed.join("; ")) }
    }
}

/// Why a message did not leave.
struct Failure {
    reason: String,
    /// It is this message that is not taken, and another may be.
    own: bool,
    /// Nobody is in the group.
    nobody: bool,
    /// And that is as the history database wants it: no fault, where the fail-safe group hears it.
    silent: bool,
    /// The channel left the configuration.
    gone: bool,
    /// How long the other side wants to be left alone.
    after: Option<Duration>,
    /// Who has it all the same.
    reached: Vec<String>,
}

impl Failure {
    fn new(reason: String, own: bool) -> Self {
        Self { reason, own, nobody: false, silent: false, gone: false, after: None, reached: Vec::new() }
    }

    fn of(error: &DeliveryError) -> Self {
        Self { after: error.after(), ..Self::new(chain(error), error.is_own()) }
    }

    fn nobody(group: &str) -> Self {
        let reason = format!(
            "group {group} has nobody to notify: \"pgbosun operator add\" adds or reactivates somebody; \
             groups.{group}.recipients is used while the history database has nobody in the group"
        );
        Self { nobody: true, ..Self::new(reason, true) }
    }

    fn gone(channel: &str) -> Self {
        Self { gone: true, ..Self::new(format!("channel {channel} is no longer configured"), true) }
    }
}

/// Sends; who missed it, where others have it. A message is rendered when it is sent, and a report's mail has charts, which are work:
/// that is done away from the scheduler's threads.
async fn send(
    bulk: &Handle,
    channel: Arc<dyn Channel>,
    message: &Notification,
    recipients: &[String],
) -> Result<Vec<Missed>, Failure> {
    let bulletin = serde_json::from_str(&message.content)
        .map_err(|error| Failure::new(format!("it was written by another version: {error}"), true))?;
    let message = Message { id: message.id, bulletin, recipients: recipients.to_vec() };
    let delivery = AbortOnDropHandle::new(bulk.spawn(async move { channel.deliver(&message).await }));
    match tokio::time::timeout(LONGEST, delivery).await {
        Ok(Ok(delivered)) => delivered.map(|receipt| receipt.missed).map_err(|error| Failure::of(&error)),
        Ok(Err(error)) => Err(Failure::new(format!("the delivery ended unexpectedly: {error}"), false)),
        Err(_) => Err(Failure::new(format!("not finished within {LONGEST:?}"), false)),
    }
}

/// The group and the channel that a message goes by.
fn way(message: &Notification) -> (String, String) {
    (message.group_name.clone(), message.channel.clone())
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_has_a_message_is_known_and_who_is_refused_is_owed_nothing() {
        let list = |names: &[&str]| names.iter().map(|&name| name.to_owned()).collect::<Vec<_>>();
        let missed = |name: &str, refused| Missed { recipient: name.into(), reason: "no".into(), refused };
        let some = Taken::of(
            list(&["a"]),
            &list(&["b", "c", "d"]),
            vec![missed("c", true), missed("d", false)],
            &list(&["e"]),
        );
        assert_eq!(some.reached, ["a", "b"]);
        assert_eq!(some.owed.as_deref(), Some("d: no; e: an earlier message waits"));
        let all = Taken::of(list(&["a", "b"]), &list(&["c", "d"]), vec![missed("c", true)], &[]);
        assert_eq!((all.reached, all.owed), (list(&["a", "b", "d"]), None));
    }
}
