//! `pgbosun restore-test`: now, in a scratch server; through its job where one is configured, so that it is history.

use super::{
    backup::watch,
    job::{run_job, run_now},
    restore::choose,
};
use crate::{
    exit::{DAMAGED, FAILURE},
    local::Context,
    output,
};
use chrono::{DateTime, Utc};
use pgbosun_backup::{Plan, Progress, Recovery, Request, RestoreTest};
use pgbosun_core::{family::Family, human};
use pgbosun_daemon::{api, last_restore_test};
use std::{
    path::PathBuf,
    sync::Arc,
    time::{Duration, Instant},
};
use tokio_util::sync::CancellationToken;

/// Runs the test.
///
/// # Errors
/// Where the backup cannot be restored.
pub async fn run(context: &Context, cluster: Option<&str>) -> anyhow::Result<u8> {
    let cluster = context.cluster(cluster)?;
    let mut jobs = context.config.jobs.values().filter(|job| job.family() == Family::RestoreTest);
    let job = jobs.find(|job| context.config.cluster_of(job).is_some_and(|(name, _)| name == cluster));
    if let Some(job) = job {
        let before = newest(context, &cluster).await?.map(|test| test.started_at);
        if context.json {
            return by_job(context, &cluster, &job.name, before).await;
        }
        let code = run_now(context, &job.name, true, false).await?;
        let test = newest(context, &cluster).await?.filter(|test| Some(test.started_at) != before);
        return Ok(match test {
            Some(test) if test.passed => {
                let time = |seconds| human::duration(Duration::from_secs_f64(seconds));
                say!("recovery time (RTO)   {}", time(test.total_seconds));
                say!("recovery point (RPO)  {} old", time(test.recovery_point_age_seconds));
                code
            }
            Some(_) => DAMAGED,
            None => code,
        });
    }
    let begun = Instant::now();
    let request = Request {
        cluster: cluster.clone(),
        repositories: context.repositories(None)?,
        only: None,
        backup: None,
        target: None,
        timeline: None,
        exclusive: false,
    };
    let plan = choose(context, &request).await?;
    let code = Box::pin(test(context, &request, plan, begun.elapsed(), None)).await?;
    if !context.json {
        say!("{}", output::dim("not recorded in history: configure a job of kind restore-test for that"));
    }
    Ok(code)
}

/// Has the job test, and says what came of it as JSON.
async fn by_job(context: &Context, cluster: &str, job: &str, before: Option<DateTime<Utc>>) -> anyhow::Result<u8> {
    let Some(run) = run_job(context, job, true, false).await? else { return Ok(FAILURE) };
    let test = newest(context, cluster).await?.filter(|test| Some(test.started_at) != before);
    output::json(&serde_json::json!({
        "cluster": cluster, "job": job, "run": run.id, "state": run.state, "summary": run.summary, "error": run.error,
        "label": test.as_ref().map(|test| &test.label), "passed": test.as_ref().is_some_and(|test| test.passed),
        "rto_seconds": test.as_ref().map(|test| test.total_seconds),
        "rpo_seconds": test.as_ref().map(|test| test.recovery_point_age_seconds),
        "detail": test.as_ref().map(|test| &test.detail),
    }))?;
    Ok(match test {
        Some(test) if test.passed => 0,
        Some(_) => DAMAGED,
        None => FAILURE,
    })
}

/// Restores into a scratch server, looks through it, and prints what was measured.
///
/// # Errors
/// Where the backup cannot be restored.
pub(super) async fn test(
    context: &Context,
    request: &Request,
    plan: Plan,
    find: Duration,
    program_directory: Option<PathBuf>,
) -> anyhow::Result<u8> {
    let (progress, cancel) = (Arc::new(Progress::default()), CancellationToken::new());
    let (label, target) = (plan.info.label.clone(), plan.target.to_string());
    let test = RestoreTest {
        find,
        restore_command: Recovery::command(
            &std::env::current_exe()?,
            &context.config.path,
            request,
            &plan.confinement(),
        ),
        plan,
        queries: Vec::new(),
        amcheck: true,
        extract: None,
        heartbeat: None,
        scratch_directory: context.config.daemon.state_directory.join("restore-test"),
        program_directory,
        recovery_timeout: Duration::from_secs(3600),
        progress: Arc::clone(&progress),
        cancel: cancel.clone(),
    };
    let result = Box::pin(watch(context, &label, progress, cancel, async move { test.run().await })).await?;
    let passed = result.faults.is_empty();
    if context.json {
        output::json(&serde_json::json!({
            "label": label, "cluster": request.cluster, "target": target, "passed": passed,
            "recovered_to": result.recovered_to, "find_seconds": result.find.as_secs_f64(),
            "restore_seconds": result.restore.as_secs_f64(), "recovery_seconds": result.recovery.as_secs_f64(),
            "check_seconds": result.check.as_secs_f64(),
            "databases": result.databases, "tables": result.tables, "rows": result.rows,
            "checked": result.checked, "faults": result.faults,
            "rto_seconds": result.total.as_secs_f64(), "rpo_seconds": result.recovery_point_age.as_secs_f64(),
        }))?;
        return Ok(if passed { 0 } else { DAMAGED });
    }
    let found = [(result.databases, "database"), (result.tables, "table"), (result.rows, "row")];
    let found = found.map(|(count, what)| human::count(count, what)).join(", ");
    say!("{} {label}", if passed { output::green("passed") } else { output::red("failed") });
    for (name, value) in [
        ("find", human::duration(result.find)),
        ("fetch", human::duration(result.restore)),
        ("recover", format!("{} (to {target})", human::duration(result.recovery))),
        ("check", human::duration(result.check)),
        ("recovery time (RTO)", human::duration(result.total)),
        ("recovery point (RPO)", format!("{} old", human::duration(result.recovery_point_age))),
        ("found", found),
    ] {
        say!("  {name:<22} {value}");
    }
    for words in &result.checked {
        say!("  {:<22} {words}", "checked");
    }
    for fault in &result.faults {
        say!("  {} {fault}", output::red("fault"));
    }
    Ok(if passed { 0 } else { DAMAGED })
}

/// The newest restore test of a cluster.
async fn newest(context: &Context, cluster: &str) -> anyhow::Result<Option<api::RestoreTest>> {
    match context.daemon().await? {
        Some(daemon) => daemon.get(&format!("/clusters/{cluster}/restore-test")).await,
        None => Ok(last_restore_test(context.offline().await?.engine.as_ref(), cluster).await?),
    }
}
