//! `pgbosun alert silence`, `unsilence`, `silences`.

use super::{alerts, chosen, short};
use crate::{
    cli,
    local::Context,
    output::{aside, done, green, json, moment, table, text, whole},
    when,
};
use chrono::{DateTime, Utc};
use pgbosun_core::alert::{Matcher, Silence};
use pgbosun_daemon::{api::SilenceRequest, silence, unsilence};
use pgbosun_history::Actor;

/// Adds one.
///
/// # Errors
/// Where the time or the alert is not one, or the journal cannot be written.
pub async fn add(context: &Context, arguments: cli::Silence) -> anyhow::Result<u8> {
    let until = until(context, &arguments)?;
    let matcher = match &arguments.id {
        Some(id) => {
            let alerts = alerts(context, false).await?;
            let alert = &chosen(id, "open alert", &alerts, |info| info.alert.id)?.alert;
            let (job, object) = (Some(alert.job.clone()), Some(alert.object().to_owned()));
            Matcher { cluster: alert.cluster.clone(), job, object }
        }
        None => Matcher { cluster: arguments.cluster, job: arguments.job, object: arguments.object },
    };
    let request = SilenceRequest { matcher, until, reason: arguments.reason };
    let added: Silence = match context.daemon().await? {
        Some(daemon) => daemon.post("/silences", &request).await?,
        None => silence(&context.offline().await?.engine, &Actor::own(), request).await?,
    };
    if context.json {
        json(&added)?;
        return Ok(0);
    }
    let until = moment(added.until, context.zone());
    say!(
        "{} {} until {until}; \"pgbosun alert unsilence {}\" ends it",
        green("silenced"),
        words(&added.matcher),
        short(added.id)
    );
    Ok(0)
}

/// Ends one.
///
/// # Errors
/// Where there is none, or the journal cannot be written.
pub async fn end(context: &Context, id: &str) -> anyhow::Result<u8> {
    let silences = silences(context).await?;
    let id = chosen(id, "silence", &silences, |silence| silence.id)?.id;
    match context.daemon().await? {
        Some(daemon) => daemon.post::<()>(&format!("/silences/{id}/end"), &serde_json::json!({})).await?,
        None => unsilence(&context.offline().await?.engine, &Actor::own(), id).await?,
    }
    let words = format!("{} whatever is still wrong is reported now", green("ended:"));
    done(context.json, &serde_json::json!({"silence": id, "ended": true}), &words)?;
    Ok(0)
}

/// Lists those in force.
///
/// # Errors
/// Where the journal cannot be read.
pub async fn list(context: &Context) -> anyhow::Result<u8> {
    let silences = silences(context).await?;
    if context.json {
        json(&silences)?;
        return Ok(0);
    }
    if silences.is_empty() {
        say!("{}", green("no silences"));
        return Ok(0);
    }
    let zone = context.zone();
    let rows = silences.iter().map(|silence| {
        let (by, reason) = (silence.created_by.clone(), silence.reason.clone());
        vec![words(&silence.matcher), moment(silence.until, zone), by, reason, short(silence.id)]
    });
    say!("{}", table(&[text("ALERTS"), whole("UNTIL"), aside("BY"), text("WHY"), whole("ID")], rows));
    Ok(0)
}

async fn silences(context: &Context) -> anyhow::Result<Vec<Silence>> {
    match context.daemon().await? {
        Some(daemon) => daemon.get("/silences").await,
        None => {
            let engine = context.offline().await?.engine.clone();
            Ok(engine.journal.silences(engine.now()).await?)
        }
    }
}

fn words(matcher: &Matcher) -> String {
    let part = |name: &str, pattern: &Option<String>| pattern.as_ref().map(|pattern| format!("{name} {pattern}"));
    let parts = [part("cluster", &matcher.cluster), part("job", &matcher.job), part("object", &matcher.object)];
    parts.into_iter().flatten().collect::<Vec<_>>().join(", ")
}

fn until(context: &Context, arguments: &cli::Silence) -> anyhow::Result<DateTime<Utc>> {
    if let Some(duration) = arguments.duration {
        return Ok(pgbosun_core::clock::now() + chrono::Duration::from_std(*duration)?);
    }
    when::moment(arguments.until.as_deref().unwrap_or_default(), context.zone())
}
