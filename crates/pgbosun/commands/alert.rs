//! `pgbosun alert`: list, show, acknowledge, silence, test.

mod silence;
mod test;

use crate::{
    cli::AlertCommand,
    exit::Exit,
    local::Context,
    output::{Column, aside, bold, dim, green, json, moment, say_below, severity, table, text, whole},
};
use pgbosun_core::{
    alert::{Alert, AlertState},
    human,
};
use pgbosun_daemon::{
    acknowledge,
    api::{ActionRequest, AlertInfo},
    list_alerts, resolve as resolve_alert,
};
use pgbosun_history::Actor;
use uuid::Uuid;

/// How many alerts are looked through for an id, and listed with `--all`.
const RECENT: u32 = 200;

const OPEN: [Column; 6] =
    [whole("SEVERITY"), whole("STATE"), whole("CLUSTER"), text("WHAT"), aside("SINCE"), whole("ID")];

const ALL: [Column; 7] = [OPEN[0], OPEN[1], OPEN[2], OPEN[3], OPEN[4], aside("UNTIL"), OPEN[5]];

/// Runs one of them.
///
/// # Errors
/// Whatever keeps it from being done.
pub async fn run(context: &Context, command: AlertCommand) -> anyhow::Result<u8> {
    match command {
        AlertCommand::List { all } => list(context, all).await,
        AlertCommand::Show { id } => show(context, &id).await,
        AlertCommand::Ack { id, reason } => ack(context, &id, reason).await,
        AlertCommand::Resolve { id, reason } => resolve(context, &id, reason).await,
        AlertCommand::Silence(arguments) => silence::add(context, arguments).await,
        AlertCommand::Unsilence { id } => silence::end(context, &id).await,
        AlertCommand::Silences => silence::list(context).await,
        AlertCommand::Test { group } => test::run(context, &group).await,
    }
}

async fn alerts(context: &Context, all: bool) -> anyhow::Result<Vec<AlertInfo>> {
    match context.daemon().await? {
        Some(daemon) if all => daemon.get(&format!("/alerts?limit={RECENT}")).await,
        Some(daemon) => daemon.get("/alerts").await,
        None => Ok(list_alerts(&context.offline().await?.engine, all.then_some(RECENT)).await?),
    }
}

/// Every alert a person may mean: the newest, and the open ones however old.
async fn known(context: &Context) -> anyhow::Result<Vec<AlertInfo>> {
    let mut known = alerts(context, false).await?;
    let open: Vec<_> = known.iter().map(|info| info.alert.id).collect();
    known.extend(alerts(context, true).await?.into_iter().filter(|info| !open.contains(&info.alert.id)));
    Ok(known)
}

/// The one of which `id` is the beginning or the end.
fn chosen<'a, T>(id: &str, what: &str, all: &'a [T], of: impl Fn(&T) -> Uuid) -> anyhow::Result<&'a T> {
    let mut matching = all.iter().filter(|one| {
        let whole = of(one).to_string();
        whole.starts_with(id) || whole.ends_with(id)
    });
    match (matching.next(), matching.next()) {
        (Some(one), None) => Ok(one),
        (None, _) if what == "silence" => {
            Err(Exit::refused(format!("no silence {id} is in force; \"pgbosun alert silences\" lists them")))
        }
        (None, _) => Err(Exit::refused(format!("no {what} {id}; \"pgbosun alert list --all\" lists them"))),
        _ => Err(Exit::usage(format!("{id} matches several ids: type more of it"))),
    }
}

/// The end of an id, which is how people call it.
fn short(id: Uuid) -> String {
    let whole = id.to_string();
    whole[whole.len() - 8..].to_owned()
}

/// Where it stands, in one word.
pub fn standing(info: &AlertInfo) -> String {
    match &info.muted {
        Some(reason) if reason.starts_with("silenced") => "silenced".into(),
        Some(_) => "explained".into(),
        None => info.alert.state.to_string(),
    }
}

async fn list(context: &Context, all: bool) -> anyhow::Result<u8> {
    let alerts = alerts(context, all).await?;
    if context.json {
        json(&alerts)?;
        return Ok(0);
    }
    if alerts.is_empty() {
        say!("{}", green("no alerts"));
        return Ok(0);
    }
    let zone = context.zone();
    let rows = alerts.iter().map(|info| {
        let alert = &info.alert;
        let until = alert.resolved_at.map_or_else(String::new, |at| moment(at, zone));
        let mut row = vec![
            severity(alert.severity),
            standing(info),
            alert.cluster.clone().unwrap_or_default(),
            human::line(&alert.summary).into_owned(),
            moment(alert.opened_at, zone),
        ];
        row.extend(all.then_some(until));
        row.push(short(alert.id));
        row
    });
    say!("{}", if all { table(&ALL, rows) } else { table(&OPEN, rows) });
    Ok(0)
}

async fn show(context: &Context, id: &str) -> anyhow::Result<u8> {
    let alerts = known(context).await?;
    let info = chosen(id, "alert", &alerts, |info| info.alert.id)?;
    let alert = &info.alert;
    if context.json {
        json(info)?;
        return Ok(0);
    }
    let zone = context.zone();
    say!(
        "{} {}: {}",
        severity(alert.severity),
        bold(alert.cluster.as_deref().unwrap_or("-")),
        human::line(&alert.summary)
    );
    say_below(0, &format!("{} {}", alert.meaning, alert.advice));
    say!("");
    let acknowledged = alert.acknowledged.as_ref();
    let by = acknowledged.map(|a| format!("by {}, {}: {}", a.by, moment(a.at, zone), a.reason));
    for (name, value) in [
        ("state", alert.state.to_string()),
        ("since", moment(alert.opened_at, zone)),
        ("last seen", moment(alert.seen_at, zone)),
        ("notified", alert.notified.map_or_else(|| "never".into(), |told| moment(told.at, zone))),
        ("muted", info.muted.clone().unwrap_or_else(|| "no".into())),
        ("acknowledged", by.unwrap_or_else(|| "no".into())),
        ("resolved", alert.resolved_at.map_or_else(|| "no".into(), |at| moment(at, zone))),
        ("resolution", human::line(alert.resolution.as_deref().unwrap_or("-")).into_owned()),
        ("group", alert.group.clone()),
        ("job", alert.job.clone()),
        ("about", alert.object().to_owned()),
        ("id", alert.id.to_string()),
    ] {
        say_below(15, &format!("  {name:<12} {value}"));
    }
    say!("\n{}", alert.detail.told(zone));
    Ok(0)
}

async fn resolve(context: &Context, id: &str, reason: String) -> anyhow::Result<u8> {
    let alerts = alerts(context, false).await?;
    let id = chosen(id, "open alert", &alerts, |info| info.alert.id)?.alert.id;
    let alert: Alert = match context.daemon().await? {
        Some(daemon) => {
            let action = ActionRequest { reason, ..ActionRequest::default() };
            daemon.post(&format!("/alerts/{id}/resolve"), &action).await?
        }
        None => resolve_alert(&context.offline().await?.engine, &Actor::own(), id, &reason).await?,
    };
    if context.json {
        json(&alert)?;
        return Ok(0);
    }
    let place = alert.cluster.as_deref().unwrap_or(&alert.job);
    say!("{} {place}: {}", green("resolved"), human::line(&alert.summary));
    say!("{}", dim("if something is still wrong, the next check opens a new alert"));
    Ok(0)
}

async fn ack(context: &Context, id: &str, reason: String) -> anyhow::Result<u8> {
    let alerts = known(context).await?;
    let id = chosen(id, "alert", &alerts, |info| info.alert.id)?.alert.id;
    let alert: Alert = match context.daemon().await? {
        Some(daemon) => {
            let action = ActionRequest { reason, ..ActionRequest::default() };
            daemon.post(&format!("/alerts/{id}/acknowledge"), &action).await?
        }
        None => acknowledge(&context.offline().await?.engine, &Actor::own(), id, &reason).await?,
    };
    if context.json {
        json(&alert)?;
        return Ok(0);
    }
    debug_assert_eq!(alert.state, AlertState::Acknowledged);
    let place = alert.cluster.as_deref().unwrap_or(&alert.job);
    say!("{} {place}: {}", green("acknowledged"), human::line(&alert.summary));
    say!("{}", dim("nobody is notified again until it gets worse or is resolved"));
    Ok(0)
}
