//! A message that tests a group: through each of its channels, directly and not through the outbox, since somebody waits for the
//! answer. The daemon sends it, where one runs, so that it leaves as a real message does: with its secrets, its directories and what its
//! unit lets it do.

use crate::{
    Error,
    api::{GroupTest, Tried},
    error::chain,
    hearing::{self, Hearing},
    outbox::channel,
};
use pgbosun_core::{alert::Alert, config::Config, detail::Detail};
use pgbosun_notify::{Channel, DeliveryError, MAIL, Message, Notifier, Receipt};
use std::{sync::Arc, time::Duration};
use uuid::Uuid;

/// The longest that all channels may take: they are tried beside each other.
pub const LONGEST: Duration = Duration::from_secs(120);

/// Sends a test message through each channel of a group.
///
/// # Errors
/// Where there is no such group, or it has no channel.
pub async fn send(config: &Config, name: &str) -> Result<GroupTest, Error> {
    let Some(group) = config.groups.get(name) else {
        return Err(Error::Refused(format!("no group {name} in the configuration that the daemon uses: reload it")));
    };
    let (instance, now) = (config.instance_name(), pgbosun_core::clock::now());
    let notifier = Notifier { config, instance: &instance, now };
    let mut note = None;
    let mut tries = Vec::new();
    for channel_name in notifier.channels(group) {
        let to = if channel_name == MAIL {
            let (operators, said) = hearing::operators(config).await?;
            note = said;
            Hearing::of(&operators, config, name).to
        } else {
            vec![channel_name.to_owned()]
        };
        let opened = match channel(config, channel_name) {
            Ok(None) => continue,
            Ok(Some(channel)) => Ok(channel),
            Err(error) => Err(error),
        };
        let bulletin = notifier.test(name, group, alert(name, channel_name, &to, now));
        let message = Message { id: Uuid::now_v7(), bulletin, recipients: to };
        tries.push(tried(channel_name.to_owned(), opened, message, name));
    }
    if tries.is_empty() {
        let why = format!("group {name} has no channel: add a [mail] section, or set groups.{name}.channels");
        return Err(Error::Refused(why));
    }
    Ok(GroupTest { note, channels: futures::future::join_all(tries).await })
}

async fn tried(name: String, opened: Result<Arc<dyn Channel>, DeliveryError>, message: Message, group: &str) -> Tried {
    let answer = match opened {
        _ if message.recipients.is_empty() => Err(format!(
            "group {group} has nobody to notify: see \"pgbosun operator list\", or set groups.{group}.recipients"
        )),
        Ok(channel) => match tokio::time::timeout(LONGEST, channel.deliver(&message)).await {
            Ok(delivered) => delivered.map_err(|error| chain(&error)),
            Err(_) => Err(format!("not finished within {LONGEST:?}")),
        },
        Err(error) => Err(chain(&error)),
    };
    let accepted = answer.is_ok();
    let Receipt { detail, missed } = answer.unwrap_or_else(|detail| Receipt { detail, missed: Vec::new() });
    let to =
        message.recipients.into_iter().filter(|one| !missed.iter().any(|missed| missed.recipient == *one)).collect();
    let others = missed.iter().map(|one| format!("not to {}: {}", one.recipient, one.reason));
    Tried { channel: name, to, accepted, answer: std::iter::once(detail).chain(others).collect::<Vec<_>>().join("; ") }
}

fn alert(group: &str, channel: &str, to: &[String], now: chrono::DateTime<chrono::Utc>) -> Alert {
    Alert {
        meaning: format!("Alerts of group {group} reach you by {channel}."),
        advice: "Nothing to do. Tell whoever asked for the test that it arrived.".into(),
        detail: Detail::new().fact("group", group).fact("channel", channel).fact("to", to.join(", ")),
        ..Alert::of_message(Uuid::now_v7(), "alert test", group, "this is a test, nothing is wrong", now)
    }
}
