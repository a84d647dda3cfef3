//! `pgbosun restore-test`: now, in a scratch server; through its job where one is configured, so that it is history.

use super::{backup::watch, job::run_now};
use crate::{
    exit::{DAMAGED, Exit},
    local::Context,
    output,
};
use pgbosun_backup::{Progress, RestoreTest};
use pgbosun_core::human;
use pgbosun_daemon::{api::Status, assemble_status};
use std::{sync::Arc, time::Duration};
use tokio_util::sync::CancellationToken;

/// Runs the test.
///
/// # Errors
/// Where the backup cannot be restored.
pub async fn run(context: &Context, cluster: Option<&str>) -> anyhow::Result<u8> {
    let cluster = context.cluster(cluster)?;
    let mut jobs = context.config.jobs.values().filter(|job| job.common.kind == "restore-test");
    let job = jobs.find(|job| context.config.cluster_of(job).is_some_and(|(name, _)| name == cluster));
    if let Some(job) = job {
        let code = run_now(context, &job.name, true, false).await?;
        return Ok(if code == 0 && !passed(context, &cluster).await? { DAMAGED } else { code });
    }
    for repository in context.repositories(None)? {
        let Some(info) = repository.newest_good(&cluster).await? else { continue };
        let (progress, cancel) = (Arc::new(Progress::default()), CancellationToken::new());
        let test = RestoreTest {
            repository,
            info: info.clone(),
            scratch_directory: context.config.daemon.state_directory.join("restore-test"),
            program_directory: None,
            recovery_timeout: Duration::from_secs(3600),
            progress: Arc::clone(&progress),
            cancel: cancel.clone(),
        };
        let result = watch(context, &info.label, progress, cancel, async move { test.run().await }).await?;
        let passed = result.faults.is_empty();
        println!("{} {}", if passed { output::green("passed") } else { output::red("failed") }, info.label);
        for (name, value) in [
            ("restore", human::duration(result.restore)),
            ("recovery", human::duration(result.recovery)),
            ("checks", human::duration(result.check)),
            ("recovery time (RTO)", human::duration(result.total)),
            ("recovery point (RPO)", format!("{} old", human::duration(result.recovery_point_age))),
            ("found", format!("{} databases, {} tables, {} rows", result.databases, result.tables, result.rows)),
        ] {
            println!("  {name:<22} {value}");
        }
        for fault in &result.faults {
            println!("  {} {fault}", output::red("fault"));
        }
        println!("{}", output::dim("not kept in history: configure a job of kind restore-test for that"));
        return Ok(if passed { 0 } else { DAMAGED });
    }
    Err(Exit::refused(format!("there is no good backup of {cluster} to test")))
}

/// Whether the newest restore test of a cluster held.
async fn passed(context: &Context, cluster: &str) -> anyhow::Result<bool> {
    let status: Status = match context.daemon().await? {
        Some(daemon) => daemon.get("/status").await?,
        None => assemble_status(context.offline().await?.engine.as_ref(), false).await?,
    };
    let mut clusters = status.clusters.into_iter();
    let test = clusters.find(|known| known.name == cluster).and_then(|known| known.restore_test);
    Ok(test.is_some_and(|test| test.passed))
}
