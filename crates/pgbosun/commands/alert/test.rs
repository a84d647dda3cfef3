//! `pgbosun alert test`: directly, not through the outbox, since the person waits for the answer.

use crate::{
    exit::{Exit, FAILURE},
    local::Context,
    output::{green, json, red, yellow},
};
use pgbosun_core::{
    alert::{Alert, AlertState},
    finding::{Reach, Severity},
};
use pgbosun_daemon::{chain, channel, open_history, recipients};
use pgbosun_history::{Delivery, Operators, operators_beside};
use pgbosun_notify::{Desk, MAIL, Message};
use serde::Serialize;
use uuid::Uuid;

#[derive(Serialize)]
struct Tried {
    channel: String,
    to: Vec<String>,
    accepted: bool,
    answer: String,
}

/// Sends a test message through each channel of a group.
///
/// # Errors
/// Where there is no such group, or nothing to send with.
pub async fn run(context: &Context, name: &str) -> anyhow::Result<u8> {
    let config = &context.config;
    let Some(group) = config.groups.get(name) else {
        let names: Vec<_> = config.groups.keys().map(String::as_str).collect();
        return Err(Exit::usage(format!("no group {name}; there are {}", names.join(", "))));
    };
    let (instance, now) = (config.instance_name(), pgbosun_core::clock::now());
    let desk = Desk { config, instance: &instance, now };
    let mut results = Vec::new();
    for channel_name in desk.channels(group) {
        let to = if channel_name == MAIL { addresses(context, name).await? } else { vec![channel_name.to_owned()] };
        let bulletin = desk.test(name, group, alert(name, channel_name, &to, now));
        let message = Message { id: Uuid::now_v7(), bulletin, recipients: to.clone() };
        let answer = match channel(config, channel_name) {
            _ if to.is_empty() => Err(format!(
                "group {name} has nobody who is told: see \"pgbosun operator list\", or set groups.{name}.recipients"
            )),
            Ok(Some(channel)) => channel.deliver(&message).await.map_err(|error| chain(&error)),
            Ok(None) => continue,
            Err(error) => Err(chain(&error)),
        };
        let accepted = answer.is_ok();
        let missed = answer.as_ref().map(|receipt| receipt.missed.clone()).unwrap_or_default();
        let to = to.into_iter().filter(|one| !missed.iter().any(|missed| missed.recipient == *one)).collect();
        let answer = answer.map_or_else(|reason| reason, |receipt| receipt.detail);
        let others = missed.into_iter().map(|one| format!("not to {}: {}", one.recipient, one.reason));
        let answer = std::iter::once(answer).chain(others).collect::<Vec<_>>().join("; ");
        results.push(Tried { channel: channel_name.to_owned(), to, accepted, answer });
    }
    if results.is_empty() {
        let why = format!("group {name} has no channel: add a [mail] section, or set groups.{name}.channels");
        return Err(Exit::refused(why));
    }
    if context.json {
        json(&results)?;
    } else {
        for Tried { channel, to, accepted, answer } in &results {
            let to = if *channel == MAIL { format!(" to {}", to.join(", ")) } else { String::new() };
            let word = if *accepted { green("accepted") } else { red("not accepted") };
            say!("{channel:<12} {word}{to}: {answer}");
        }
    }
    Ok(if results.iter().all(|result| result.accepted) { 0 } else { FAILURE })
}

/// Who gets the group's mail: the operators as they are now, or as the daemon last read them.
async fn addresses(context: &Context, name: &str) -> anyhow::Result<Vec<String>> {
    let config = &context.config;
    let operators = match open_history(config, Uuid::nil())? {
        None => Operators::default(),
        Some(delivery) => match read(delivery).await {
            Ok(operators) => operators,
            Err(error) => {
                let (operators, who) = match operators_beside(&config.daemon.state_directory).await {
                    Ok(Some(operators)) => (operators, "the operators as last read from it are told".to_owned()),
                    Ok(None) => (Operators::default(), "the recipients of the configuration are told".to_owned()),
                    Err(unread) => {
                        let why = format!("the recipients of the configuration are told, since {}", chain(&unread));
                        (Operators::default(), why)
                    }
                };
                tell!("{} {}: {who}", yellow("no history database:"), chain(&error));
                operators
            }
        },
    };
    Ok(recipients(&operators, config, name))
}

async fn read(mut delivery: Delivery) -> Result<Operators, pgbosun_history::Error> {
    Ok(Operators::new(&delivery.operators().await?, &delivery.operator_groups().await?))
}

fn alert(group: &str, channel: &str, to: &[String], now: chrono::DateTime<chrono::Utc>) -> Alert {
    Alert {
        id: Uuid::now_v7(),
        fingerprint: "alert test".into(),
        job: "alert test".into(),
        cluster: None,
        group: group.to_owned(),
        severity: Severity::Ok,
        state: AlertState::Open,
        reach: Reach::Object,
        summary: "this is a test, nothing is wrong".into(),
        meaning: format!("Alerts of group {group} reach you by {channel}."),
        advice: "Nothing. Tell whoever asked for the test that it arrived.".into(),
        detail: format!("group: {group}\nchannel: {channel}\nto: {}", to.join(", ")),
        looks: 1,
        opened_at: now,
        changed_at: now,
        seen_at: now,
        resolved_at: None,
        run_id: None,
        acknowledged: None,
        told: None,
    }
}
