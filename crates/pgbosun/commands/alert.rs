//! `pgbosun alert`: list, show, test.

use crate::{
    cli::AlertCommand,
    exit::{Exit, FAILURE},
    local::Context,
    output::{bold, green, json, moment, red, severity, table},
};
use pgbosun_core::{
    alert::{Alert, AlertState, Notice},
    finding::Severity,
};
use pgbosun_daemon::{chain, channel, frame, open_history};
use pgbosun_notify::Message;
use uuid::Uuid;

/// Runs one of them.
///
/// # Errors
/// Whatever keeps it from being done.
pub async fn run(context: &Context, command: AlertCommand) -> anyhow::Result<u8> {
    match command {
        AlertCommand::List { all } => list(context, all).await,
        AlertCommand::Show { id } => show(context, &id).await,
        AlertCommand::Test { group } => test(context, &group).await,
    }
}

async fn alerts(context: &Context, all: bool) -> anyhow::Result<Vec<Alert>> {
    match context.daemon().await? {
        Some(daemon) => daemon.get(if all { "/alerts?limit=200" } else { "/alerts" }).await,
        None => {
            let journal = context.offline().await?.engine.journal.clone();
            Ok(if all { journal.recent_alerts(200).await? } else { journal.open_alerts(None).await? })
        }
    }
}

async fn list(context: &Context, all: bool) -> anyhow::Result<u8> {
    let alerts = alerts(context, all).await?;
    if context.json {
        json(&alerts)?;
        return Ok(0);
    }
    if alerts.is_empty() {
        println!("{}", green("no alerts"));
        return Ok(0);
    }
    let zone = context.zone();
    let rows = alerts.iter().map(|alert| {
        let id = alert.id.to_string();
        let until = alert.resolved_at.map_or_else(String::new, |at| moment(at, zone));
        vec![
            severity(alert.severity),
            alert.state.to_string(),
            alert.cluster.clone().unwrap_or_default(),
            alert.summary.clone(),
            moment(alert.opened_at, zone),
            until,
            id[id.len() - 8..].to_owned(),
        ]
    });
    println!("{}", table(&["SEVERITY", "STATE", "CLUSTER", "WHAT", "SINCE", "UNTIL", "ID"], rows));
    Ok(0)
}

async fn show(context: &Context, id: &str) -> anyhow::Result<u8> {
    let alerts = alerts(context, true).await?;
    let mut matching = alerts.iter().filter(|alert| {
        let whole = alert.id.to_string();
        whole.starts_with(id) || whole.ends_with(id)
    });
    let alert = match (matching.next(), matching.next()) {
        (Some(alert), None) => alert,
        (None, _) => return Err(Exit::refused(format!("no alert {id}; \"pgbosun alert list --all\" shows them"))),
        _ => return Err(Exit::usage(format!("{id} begins or ends several ids: give more of it"))),
    };
    if context.json {
        json(alert)?;
        return Ok(0);
    }
    let zone = context.zone();
    println!("{} {}: {}", severity(alert.severity), bold(alert.cluster.as_deref().unwrap_or("-")), alert.summary);
    println!("{} {}\n", alert.meaning, alert.advice);
    for (name, value) in [
        ("state", alert.state.to_string()),
        ("since", moment(alert.opened_at, zone)),
        ("last seen", moment(alert.seen_at, zone)),
        ("told", alert.notified_at.map_or_else(|| "never".into(), |at| moment(at, zone))),
        ("over", alert.resolved_at.map_or_else(|| "no".into(), |at| moment(at, zone))),
        ("group", alert.group.clone()),
        ("job", alert.job.clone()),
        ("id", alert.id.to_string()),
    ] {
        println!("  {name:<10} {value}");
    }
    println!("\n{}", alert.detail);
    Ok(0)
}

/// Sends directly, not through the outbox: the person waits for the answer.
async fn test(context: &Context, group: &str) -> anyhow::Result<u8> {
    let Some(settings) = context.config.groups.get(group) else {
        let names: Vec<_> = context.config.groups.keys().map(String::as_str).collect();
        return Err(Exit::usage(format!("no group {group}; there are {}", names.join(", "))));
    };
    let Some(channel) = channel(&context.config)? else {
        return Err(Exit::refused("no mail is configured: add a [mail] section"));
    };
    let mut recipients = settings.recipients.clone();
    if let Some(mut delivery) = open_history(&context.config, Uuid::nil())? {
        let operators = delivery.operators().await?;
        let active: Vec<_> =
            operators.into_iter().filter(|o| o.active && o.group_name == group).map(|o| o.email).collect();
        if !active.is_empty() {
            recipients = active;
        }
    }
    if recipients.is_empty() {
        return Err(Exit::refused(format!("group {group} has nobody: set groups.{group}.recipients")));
    }
    let now = pgbosun_core::clock::now();
    let alert = Alert {
        id: Uuid::now_v7(),
        fingerprint: "test".into(),
        job: "alert test".into(),
        cluster: None,
        group: group.to_owned(),
        severity: Severity::Ok,
        state: AlertState::Open,
        summary: "this is a test, nothing is wrong".into(),
        meaning: "Alerts of this group reach you.".into(),
        advice: "Nothing. Tell whoever asked for the test that it arrived.".into(),
        detail: format!("group: {group}\nrecipients: {}", recipients.join(", ")),
        opened_at: now,
        seen_at: now,
        notified_at: None,
        resolved_at: None,
        run_id: None,
    };
    let (renderer, frame) = frame(&context.config, group);
    let rendered = renderer.alert(&frame, &alert, Notice::Test, now);
    let message = Message {
        id: rendered.id,
        thread: None,
        recipients: recipients.clone(),
        subject: rendered.subject,
        text: rendered.text,
        html: rendered.html,
        created_at: now,
    };
    match channel.deliver(&message).await {
        Ok(receipt) => {
            println!("{} to {}: {}", green("accepted"), recipients.join(", "), receipt.detail);
            Ok(0)
        }
        Err(error) => {
            println!("{} {}", red("not accepted:"), chain(&error));
            Ok(FAILURE)
        }
    }
}
