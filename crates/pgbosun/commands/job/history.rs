//! `pgbosun job history`: which runs there were, and how they ended.

use super::{configured, took};
use crate::{
    cli::HistoryArguments,
    client::query,
    commands::status::first_line,
    exit::Exit,
    local::Context,
    output::{Column, aside, json, moment, state, table, text, whole},
    when,
};
use chrono::SecondsFormat;
use pgbosun_core::{clock, config::nearest, run::Run};
use pgbosun_history::RunFilter;

const COLUMNS: [Column; 6] =
    [whole("DUE"), whole("JOB"), whole("STATE"), aside("TRIGGER"), aside("TOOK"), text("WHAT")];

/// Lists runs, newest first.
///
/// # Errors
/// Where there is no such job or kind, or neither daemon nor journal can be asked.
pub async fn run(context: &Context, arguments: HistoryArguments) -> anyhow::Result<u8> {
    let filter = filter(context, arguments)?;
    let runs: Vec<Run> = match context.daemon().await? {
        Some(daemon) => daemon.get(&path(&filter)).await?,
        None => context.offline().await?.engine.journal.runs(filter.clone()).await?,
    };
    if runs.is_empty() {
        check_names(context, &filter)?;
    }
    if context.json {
        json(&runs)?;
        return Ok(0);
    }
    let zone = context.zone();
    let rows = runs.iter().map(|run| {
        let (due, job) = (moment(run.scheduled_for, zone), run.job.clone());
        vec![due, job, state(run.state), run.trigger.to_string(), took(run), first_line(&run.summary)]
    });
    say!("{}", table(&COLUMNS, rows));
    Ok(0)
}

/// Which runs are meant. Monitors run so often that nothing else would be seen among their runs.
fn filter(context: &Context, arguments: HistoryArguments) -> anyhow::Result<RunFilter> {
    let HistoryArguments { name, job, kind, failed, since, all, limit } = arguments;
    let since = since.map(|text| when::since(&text, context.zone(), clock::now())).transpose()?;
    let job = job.or(name);
    let without_monitors = !(all || failed || job.is_some() || kind.is_some());
    Ok(RunFilter { job, kind, since, failed, without_monitors, limit, unfinished: false })
}

fn path(filter: &RunFilter) -> String {
    let flag = |set: bool| set.then(|| "true".to_owned());
    query(
        "/runs",
        &[
            ("limit", Some(filter.limit.to_string())),
            ("job", filter.job.clone()),
            ("kind", filter.kind.clone()),
            ("since", filter.since.map(|at| at.to_rfc3339_opts(SecondsFormat::Millis, true))),
            ("failed", flag(filter.failed)),
            ("without-looks", flag(filter.without_monitors)),
        ],
    )
}

/// Whether nothing was found since nothing has this name. A job that was configured once has its history.
fn check_names(context: &Context, filter: &RunFilter) -> anyhow::Result<()> {
    if let Some(name) = &filter.job {
        configured(context, name)?;
    }
    let kinds = pgbosun_jobs::kinds();
    match &filter.kind {
        Some(wanted) if !kinds.iter().any(|kind| kind.name == wanted) => {
            let near = nearest(wanted, kinds.iter().map(|kind| kind.name));
            let hint = near.map_or_else(String::new, |near| format!("; did you mean {near}?"));
            Err(Exit::usage(format!("there is no kind {wanted}{hint}")))
        }
        _ => Ok(()),
    }
}
