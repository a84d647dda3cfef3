//! `pgbosun report`: reports on demand.

use super::job::{run_job, told};
use crate::{
    cli::{Destination, DrillArguments, HealthArguments, PerformanceArguments, ReportCommand},
    exit::{Exit, FAILURE},
    local::Context,
    output::{json, say_fitted},
};
use anyhow::Context as _;
use chrono::{DateTime, NaiveDate, NaiveDateTime, TimeDelta, TimeZone, Utc};
use chrono_tz::Tz;
use pgbosun_core::{config::Job, family::Family, report::Report, run::RunState};
use pgbosun_daemon::{
    api::{ReportAbout, ReportRequest},
    report,
};
use pgbosun_jobs::Scope;
use pgbosun_notify::report as form;
use std::{
    path::{Path, PathBuf},
    time::Duration,
};

/// How long a report may take: servers and repositories that are away are waited for.
const PATIENCE: Duration = Duration::from_secs(600);

/// Makes one.
///
/// # Errors
/// Where the window makes no sense, history cannot be read, or the file cannot be written.
pub async fn run(context: &Context, command: ReportCommand) -> anyhow::Result<u8> {
    match command {
        ReportCommand::Performance(arguments) => performance(context, arguments).await,
        ReportCommand::Health(arguments) => health(context, arguments).await,
        ReportCommand::Drill(arguments) => drill(context, arguments).await,
    }
}

async fn health(context: &Context, arguments: HealthArguments) -> anyhow::Result<u8> {
    let to = pgbosun_core::clock::now();
    let cluster = arguments.cluster.as_deref().map(|cluster| context.cluster(Some(cluster))).transpose()?;
    let about = if arguments.backups { Scope::Backups } else { Scope::Everything };
    let window = (to - TimeDelta::days(arguments.days.into()), to);
    make(context, ReportAbout::Health { cluster, about, window }, arguments.destination).await
}

async fn drill(context: &Context, arguments: DrillArguments) -> anyhow::Result<u8> {
    let cluster = context.cluster(arguments.cluster.as_deref())?;
    let mut code = 0;
    if arguments.run {
        let here = |job: &&Job| context.config.cluster_of(job).is_some_and(|(name, _)| name == cluster);
        let tests = context.config.jobs.values().filter(|job| job.family() == Family::RestoreTest).filter(here);
        let tests: Vec<_> = tests.map(|job| job.name.clone()).collect();
        if tests.is_empty() {
            let hint = "there is no restore test to run: configure a job of kind restore-test";
            return Err(Exit::refused(format!("{hint} for {cluster}")));
        }
        // A test that fails is what the report is to tell.
        for test in tests {
            let run = run_job(context, &test, true, false).await?;
            // The report alone is the output.
            run.iter().for_each(|run| tell!("{}", told(run)));
            if run.is_some_and(|run| run.state != RunState::Succeeded) {
                code = FAILURE;
            }
        }
    }
    let made = make(context, ReportAbout::Drill { cluster }, arguments.destination).await?;
    Ok(code.max(made))
}

async fn performance(context: &Context, arguments: PerformanceArguments) -> anyhow::Result<u8> {
    let zone = context.zone();
    let (times, files): (Vec<_>, Vec<_>) = arguments.to.iter().partition(|to| moment(to, zone).is_some());
    let ([] | [_], [] | [_]) = (times.as_slice(), files.as_slice()) else {
        return Err(Exit::usage("--to takes at most one time and one file"));
    };
    let time = |text: Option<&String>| {
        let parsed = text.map(|text| {
            let wrong = || Exit::usage(format!("\"{text}\" is not a time such as \"2026-11-21 06:00\" or 2026-11-21"));
            moment(text, zone).ok_or_else(wrong)
        });
        parsed.transpose()
    };
    let to = time(times.first().copied())?.unwrap_or_else(pgbosun_core::clock::now);
    let from = time(arguments.from.as_ref())?.unwrap_or(to - TimeDelta::days(1));
    if from >= to {
        return Err(Exit::usage(format!("the window ends before it starts: {from} to {to}")));
    }
    let compare: Option<DateTime<Utc>> = time(arguments.compare.as_ref())?;
    let cluster = context.cluster(arguments.cluster.as_deref())?;
    let beside = compare.map(|begin| (begin, begin + (to - from)));
    let destination = Destination { to: files.first().map(PathBuf::from), mail: arguments.mail };
    make(context, ReportAbout::Performance { cluster, window: (from, to), beside }, destination).await
}

/// Has the daemon make it, or makes it where there is none; and puts it where it is wanted.
async fn make(context: &Context, about: ReportAbout, destination: Destination) -> anyhow::Result<u8> {
    if let Some(file) = &destination.to {
        form_of(file)?;
    }
    let request = ReportRequest { about, mail: destination.mail };
    let made: Report = match context.daemon().await? {
        Some(daemon) => daemon.ask(PATIENCE, "/reports", &request).await?,
        None => {
            let offline = context.offline().await?;
            let made = report(&offline.engine, &request).await?;
            if request.mail {
                pgbosun_daemon::send_due(&offline.engine).await?;
            }
            made
        }
    };
    if let Some(file) = &destination.to {
        let text = form_of(file)?(&made);
        std::fs::write(file, text).with_context(|| format!("write {}", file.display()))?;
    }
    match destination.to {
        _ if context.json => json(&made)?,
        Some(file) => say!("{}: {}", file.display(), made.window()),
        None => say_fitted(form::text(&made).trim_end()),
    }
    Ok(0)
}

/// The form that the name of a file asks for.
fn form_of(file: &Path) -> anyhow::Result<fn(&Report) -> String> {
    match file.extension().and_then(|extension| extension.to_str()) {
        Some("html" | "htm") => Ok(form::page),
        Some("md") => Ok(form::markdown),
        Some("txt") => Ok(form::text),
        Some("json") => Ok(|report| serde_json::to_string_pretty(report).unwrap_or_default()),
        _ => Err(Exit::usage(format!(
            "\"{}\" is neither a file name that ends in .html, .md, .txt or .json nor a time such as \"2026-11-21 06:00\"",
            file.display()
        ))),
    }
}

/// A time as people write it: with its zone, or in the zone in which they are told times; a day alone is its beginning.
fn moment(text: &str, zone: Tz) -> Option<DateTime<Utc>> {
    if let Ok(at) = DateTime::parse_from_rfc3339(&text.replacen(' ', "T", 1)) {
        return Some(at.to_utc());
    }
    let formats = ["%Y-%m-%d %H:%M:%S", "%Y-%m-%d %H:%M", "%Y-%m-%dT%H:%M:%S", "%Y-%m-%dT%H:%M"];
    let local = formats.iter().find_map(|format| NaiveDateTime::parse_from_str(text, format).ok());
    let local = local.or_else(|| NaiveDate::parse_from_str(text, "%Y-%m-%d").ok()?.and_hms_opt(0, 0, 0))?;
    zone.from_local_datetime(&local).earliest().map(|at| at.to_utc())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_with_and_without_a_zone() {
        let at = |text| moment(text, chrono_tz::Europe::Berlin).map(|at| at.to_rfc3339());
        assert_eq!(at("2026-11-21 06:00").unwrap(), "2026-11-21T05:00:00+00:00");
        assert_eq!(at("2026-11-21").unwrap(), "2026-11-20T23:00:00+00:00");
        assert_eq!(at("2026-11-21T06:00:00Z").unwrap(), "2026-11-21T06:00:00+00:00");
        assert_eq!(at("report.html"), None);
    }
}
