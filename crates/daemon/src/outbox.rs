//! The delivery of messages: what waits in the outbox goes to the operators of its group, until a server took it.

use crate::{
    beats::Part,
    engine::{Engine, instance_name},
    error::{Error, chain},
};
use pgbosun_core::config::Config;
use pgbosun_history::{Journal, Notification};
use pgbosun_notify::{Channel, DeliveryError, Message, next_attempt, open_channel};
use std::{collections::HashMap, sync::Arc};
use uuid::Uuid;

/// The channel of a configuration, where mail is configured.
///
/// # Errors
/// Where an address or certificate in it is wrong.
pub fn channel(config: &Config) -> Result<Option<Box<dyn Channel>>, DeliveryError> {
    config.mail.as_ref().map(|mail| open_channel(mail, &instance_name(config))).transpose()
}

/// Delivers until the daemon stops.
pub(crate) async fn run(engine: Arc<Engine>) {
    let heartbeat = engine.config().daemon.heartbeat;
    let mut accepted = Accepted::new();
    loop {
        engine.beats.beat(Part::Outbox);
        let mut sending = std::pin::pin!(send(&engine, &mut accepted));
        // A mail server that takes its time is no stall: the beat goes on beside it.
        let sent = loop {
            tokio::select! {
                sent = &mut sending => break sent,
                () = tokio::time::sleep(heartbeat) => engine.beats.beat(Part::Outbox),
                () = engine.stop.cancelled() => return,
            }
        };
        if let Err(error) = sent {
            tracing::error!("outbox: {}", chain(&error));
        }
        tokio::select! {
            () = engine.outbox.notified() => {}
            () = tokio::time::sleep(heartbeat) => {}
            () = engine.stop.cancelled() => return,
        }
    }
}

/// Tries to deliver what is due, oldest first; returns how many messages were accepted.
///
/// # Errors
/// Where the journal cannot be read or written.
pub async fn send_due(engine: &Engine) -> Result<usize, Error> {
    send(engine, &mut Accepted::new()).await
}

/// Messages that a server took and the journal does not know of yet: they are not sent again, only written down.
type Accepted = HashMap<Uuid, Vec<String>>;

async fn send(engine: &Engine, accepted: &mut Accepted) -> Result<usize, Error> {
    let due = engine.journal.due_notifications(engine.now()).await?;
    if due.is_empty() || engine.config().mail.is_none() {
        return Ok(0);
    }
    let mut sent = 0;
    let opened = channel(&engine.config());
    for notification in due {
        if let Some(recipients) = accepted.get(&notification.id) {
            engine.journal.notification_sent(notification.id, recipients, engine.now()).await?;
            accepted.remove(&notification.id);
            continue;
        }
        let delivered = match &opened {
            Ok(Some(channel)) => deliver(engine, channel.as_ref(), &notification).await?,
            Ok(None) => return Ok(0),
            Err(error) => Err(chain(error)),
        };
        match delivered {
            Ok(recipients) => {
                accepted.insert(notification.id, recipients.clone());
                engine.journal.notification_sent(notification.id, &recipients, engine.now()).await?;
                accepted.remove(&notification.id);
                tracing::info!("message sent to {}: {}", recipients.join(", "), notification.subject);
                sent += 1;
            }
            Err(reason) => {
                let next = next_attempt(notification.created_at, notification.attempts, engine.now());
                tracing::warn!(last = next.is_none(), "message not sent: {}: {reason}", notification.subject);
                engine.journal.notification_failed(notification.id, &reason, next).await?;
            }
        }
    }
    Ok(sent)
}

async fn deliver(
    engine: &Engine,
    channel: &dyn Channel,
    notification: &Notification,
) -> Result<Result<Vec<String>, String>, Error> {
    let recipients = recipients(&engine.journal, &engine.config(), &notification.group_name).await?;
    if recipients.is_empty() {
        let group = &notification.group_name;
        return Ok(Err(format!(
            "group {group} has nobody: add one with \"pgbosun operator add\", or set groups.{group}.recipients"
        )));
    }
    let message = Message {
        id: notification.id,
        thread: notification.alert_id.map(uuid::fmt::Hyphenated::into_uuid),
        recipients: recipients.clone(),
        subject: notification.subject.clone(),
        text: notification.body_text.clone(),
        html: notification.body_html.clone(),
        created_at: notification.created_at,
    };
    Ok(channel.deliver(&message).await.map(|_| recipients).map_err(|error| chain(&error)))
}

/// Who is told: the operators as last read from `dba_ops`, or the list of the configuration; where a group has nobody, those
/// of the daemon's own group, so that no alert is told to no one.
async fn recipients(journal: &Journal, config: &Config, group: &str) -> Result<Vec<String>, Error> {
    let cached = journal.cached_operators().await?.unwrap_or_default();
    let of = |group: &str| {
        let operators = cached.get(group).filter(|operators| !operators.is_empty()).cloned();
        operators.or_else(|| config.groups.get(group).map(|group| group.recipients.clone())).unwrap_or_default()
    };
    let own = of(group);
    Ok(if own.is_empty() { of(&config.daemon.alert_group.0) } else { own })
}
