//! Alerts of runs and of the daemon itself, judged in the transaction that writes them, and what people do about them.

use crate::{
    api::{AlertInfo, SilenceRequest},
    engine::Engine,
    events,
};
use chrono::{DateTime, Utc};
use pgbosun_core::{
    alert::{Acknowledgement, Alert, AlertState, Notice, PSEUDO_JOBS, Silence},
    config::{Config, Job, Patience},
    finding::Finding,
    outcome::AuditRecord,
    run::Run,
};
use pgbosun_history::{Actor, AlertChange, Error, Judge};
use pgbosun_notify::{
    Hosts, InhibitionContext, Notifier, Observation, Subject, end, judge, resolve as resolve_alert, transition,
};
use pgbosun_postgres::Conninfo;
use std::collections::HashMap;
use uuid::Uuid;

/// Whose alerts a run's are.
pub(crate) fn subject(job: &Job, run: &Run) -> Subject {
    Subject {
        job: run.job.clone(),
        cluster: run.cluster.clone(),
        group: job.group.clone(),
        patience: job.patience,
        run_id: Some(run.id),
    }
}

/// What becomes of alerts by this verdict.
pub(crate) fn judged(subject: Subject, verdict: Observation, now: DateTime<Utc>) -> Judge {
    Box::new(move |open| judge(&subject, &open, verdict, now))
}

/// Notes in the log what happened to alerts, and wakes the delivery.
pub(crate) fn note(engine: &Engine, changes: &[AlertChange]) {
    for AlertChange { before, after } in changes {
        let place = after.cluster.as_deref().unwrap_or(&after.job);
        let (alert, summary) = (&after.fingerprint, &after.summary);
        match transition(before.as_ref(), after) {
            Some(Notice::Resolved) => {
                tracing::info!(message_id = events::ALERT_RESOLVED, alert, "{place}: resolved: {summary}");
            }
            Some(_) => {
                let severity = after.severity.as_str();
                tracing::warn!(message_id = events::ALERT_OPENED, alert, severity, "{place}: {summary}");
            }
            None => {}
        }
    }
    if !changes.is_empty() {
        engine.outbox.notify_one();
    }
}

/// What the daemon itself tells a group of.
pub(crate) fn own_subject(job: &str, group: String) -> Subject {
    Subject { job: job.into(), cluster: None, group, patience: Patience::Checks(1), run_id: None }
}

/// Opens or resolves alerts of the daemon's own, under one of its pseudo jobs.
pub(crate) async fn own(engine: &Engine, job: &'static str, verdict: Observation) -> Result<(), Error> {
    let group = engine.config().daemon.alert_group.0.clone();
    let judge = judged(own_subject(job, group), verdict, engine.now());
    let changes = engine.journal.change_alerts(Some(job.into()), judge).await?;
    note(engine, &changes);
    Ok(())
}

/// Opens or resolves the alert about one object, under one of the pseudo jobs.
pub(crate) async fn own_object(
    engine: &Engine,
    job: &'static str,
    object: &'static str,
    finding: Option<Finding>,
) -> Result<(), Error> {
    let (group, now) = (engine.config().daemon.alert_group.0.clone(), engine.now());
    let judge: Judge = Box::new(move |open| match finding {
        Some(finding) => {
            judge(&own_subject(job, group), &open, Observation::Partial { failure: None, findings: vec![finding] }, now)
        }
        None => {
            open.iter().filter(|alert| alert.object() == object).map(|alert| resolve_alert(alert, None, now)).collect()
        }
    });
    note(engine, &engine.journal.change_alerts(Some(job.into()), judge).await?);
    Ok(())
}

/// Alerts of jobs that left the configuration or are switched off are over: nobody looks any more.
pub(crate) async fn resolve_orphans(engine: &Engine, config: &Config) -> Result<(), Error> {
    let now = engine.now();
    let jobs: HashMap<_, _> = config.jobs.iter().map(|(name, job)| (name.clone(), job.common.enabled)).collect();
    let reason = move |alert: &Alert| match jobs.get(&alert.job) {
        _ if PSEUDO_JOBS.contains(&alert.job.as_str()) => None,
        Some(true) => None,
        Some(false) => Some(format!("job {} is switched off (enabled = false)", alert.job)),
        None => Some(format!("job {} is no longer configured", alert.job)),
    };
    let judge: Judge = Box::new(move |open| {
        open.iter().filter_map(|alert| reason(alert).map(|reason| end(alert, reason, now))).collect()
    });
    note(engine, &engine.journal.change_alerts(None, judge).await?);
    Ok(())
}

/// The machines of each cluster, by the names under which it is configured.
pub(crate) fn hosts(config: &Config) -> Hosts {
    let names = |connection: &str| {
        let parsed = Conninfo::parse(connection);
        parsed.map(|conninfo| conninfo.hosts.into_iter().map(|host| host.name).collect()).unwrap_or_default()
    };
    config.clusters.iter().map(|(name, cluster)| (name.clone(), names(&cluster.connection))).collect()
}

/// Alerts with what mutes them: those not resolved, or the newest of all.
///
/// # Errors
/// Where the journal cannot be read.
pub async fn list(engine: &Engine, limit: Option<u32>) -> Result<Vec<AlertInfo>, Error> {
    let (config, now) = (engine.config(), engine.now());
    let (told, silences) = (engine.journal.alerts_to_tell(now).await?, engine.journal.silences(now).await?);
    let hosts = hosts(&config);
    let context = InhibitionContext { config: &config, hosts: &hosts, alerts: &told, silences: &silences, now };
    let listed = match limit {
        Some(limit) => engine.journal.recent_alerts(limit).await?,
        None => engine.journal.open_alerts(None).await?,
    };
    let info = |alert: Alert| {
        let muted = (alert.state != AlertState::Resolved).then(|| context.inhibited_by(&alert)).flatten();
        AlertInfo { alert, muted }
    };
    Ok(listed.into_iter().map(info).collect())
}

/// Somebody looks at an alert: nobody is notified again until it gets worse or is over.
///
/// # Errors
/// Where there is no such alert, or the journal cannot be written.
pub async fn acknowledge(engine: &Engine, who: &Actor, id: Uuid, reason: &str) -> Result<Alert, crate::Error> {
    let done = set_acknowledged(engine, &who.name, id, reason).await;
    engine.audited(who, AuditRecord::new("acknowledge", named(id, &done), reason), done).await
}

async fn set_acknowledged(engine: &Engine, who: &str, id: Uuid, reason: &str) -> Result<Alert, crate::Error> {
    let (at, by, said) = (engine.now(), who.to_owned(), reason.to_owned());
    let judge: Judge = Box::new(move |open| {
        let known = open.into_iter().find(|alert| alert.id == id && alert.state != AlertState::Pending);
        let acknowledged = Some(Acknowledgement { by, at, reason: said });
        let state = AlertState::Acknowledged;
        known.map(|alert| Alert { state, acknowledged, changed_at: at, ..alert }).into_iter().collect()
    });
    let (config, instance) = (engine.config(), engine.config().instance_name());
    let rule = move |alert: &Alert| Notifier { config: &config, instance: &instance, now: at }.acknowledged(alert);
    let changed = engine.journal.change_and_tell(judge, rule).await?;
    let Some(AlertChange { after: alert, .. }) = changed.into_iter().next() else { return Err(not_open(id)) };
    engine.outbox.notify_one();
    Ok(alert)
}

/// Somebody says that an alert is over. What still is wrong is a new alert at the next check.
///
/// # Errors
/// Where there is no such alert, no reason is given, or the journal cannot be written.
pub async fn resolve(engine: &Engine, who: &Actor, id: Uuid, reason: &str) -> Result<Alert, crate::Error> {
    let done = set_resolved(engine, &who.name, id, reason).await;
    engine.audited(who, AuditRecord::new("resolve", named(id, &done), reason), done).await
}

async fn set_resolved(engine: &Engine, who: &str, id: Uuid, reason: &str) -> Result<Alert, crate::Error> {
    if reason.trim().is_empty() {
        return Err(crate::Error::Refused("give a reason with --reason: no check has seen that it is over".into()));
    }
    let (now, why) = (engine.now(), format!("{who} says: {reason}"));
    let judge: Judge = Box::new(move |open| {
        open.iter().filter(|alert| alert.id == id).map(|alert| end(alert, why.clone(), now)).collect()
    });
    let changed = engine.journal.change_alerts(None, judge).await?;
    note(engine, &changed);
    let alert = changed.into_iter().next().map(|change| change.after);
    alert.ok_or_else(|| not_open(id))
}

fn not_open(id: Uuid) -> crate::Error {
    crate::Error::Refused(format!("no alert {id} is open; \"pgbosun alert list\" shows them"))
}

/// How the audit log calls an alert.
fn named(id: Uuid, found: &Result<Alert, crate::Error>) -> String {
    found.as_ref().map_or_else(|_| id.to_string(), |alert| alert.fingerprint.clone())
}

/// Keeps quiet about some alerts until a time.
///
/// # Errors
/// Where the request makes no sense, or the journal cannot be written.
pub async fn silence(engine: &Engine, who: &Actor, request: SilenceRequest) -> Result<Silence, crate::Error> {
    let what = serde_json::json!(request.matcher).to_string();
    let record = AuditRecord::new("silence", what, format!("until {}: {}", request.until.to_rfc3339(), request.reason));
    let done = begin_silence(engine, &who.name, request).await;
    engine.audited(who, record, done).await
}

async fn begin_silence(engine: &Engine, who: &str, request: SilenceRequest) -> Result<Silence, crate::Error> {
    let SilenceRequest { matcher, until, reason } = request;
    let now = engine.now();
    if matcher.is_empty() {
        return Err(crate::Error::Refused(
            "this would silence everything: if that is intended, use \"--cluster '*'\"".into(),
        ));
    }
    if until <= now {
        return Err(crate::Error::Refused("a silence must end in the future".into()));
    }
    if reason.trim().is_empty() {
        return Err(crate::Error::Refused(
            "give a reason with --reason: it is shown to anyone who wonders about the silence".into(),
        ));
    }
    let config = engine.config();
    // What the daemon itself tells of has its own job, and alerts of jobs that are no more may still be open.
    let open = engine.journal.open_alerts(None).await?;
    let clusters = config.clusters.keys().chain(open.iter().filter_map(|alert| alert.cluster.as_ref()));
    let clusters: Vec<_> = clusters.map(String::as_str).chain([""]).collect();
    let jobs = config.jobs.keys().chain(open.iter().map(|alert| &alert.job));
    let jobs: Vec<_> = jobs.map(String::as_str).chain(PSEUDO_JOBS).collect();
    if let Some(pattern) = matcher.misses(&clusters, &jobs) {
        let words = format!("\"{pattern}\" matches no configured cluster or job: nothing would be silenced");
        return Err(crate::Error::Refused(words));
    }
    let created_by = who.to_owned();
    let silence = Silence { id: Uuid::now_v7(), matcher, reason, created_by, created_at: now, until, ended_at: None };
    engine.journal.add_silence(silence.clone()).await?;
    Ok(silence)
}

/// Ends a silence before its time. What still is wrong is told then.
///
/// # Errors
/// Where it is not in force, or the journal cannot be written.
pub async fn unsilence(engine: &Engine, who: &Actor, id: Uuid) -> Result<(), crate::Error> {
    let done = match engine.journal.end_silence(id, engine.now()).await {
        Ok(true) => Ok(()),
        Ok(false) => {
            Err(crate::Error::Refused(format!("no silence {id} is in force; \"pgbosun alert silences\" shows them")))
        }
        Err(error) => Err(error.into()),
    };
    engine.audited(who, AuditRecord::new("unsilence", id.to_string(), ""), done).await?;
    engine.outbox.notify_one();
    Ok(())
}
