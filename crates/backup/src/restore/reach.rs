//! A target that the archive does not reach yet: the server has written what is needed, and has not archived it.

use super::{Plan, Request, Target, plan};
use crate::{Error, Role, wal::is_archived};
use pgbosun_core::wal::WalFile;
use pgbosun_postgres::Server;
use pgbosun_repository::WalArchive;
use sqlx::{Connection, PgConnection};
use std::time::{Duration, Instant};

/// How long the server may take to archive what it wrote.
const PATIENCE: Duration = Duration::from_secs(60);
const PAUSE: Duration = Duration::from_secs(1);

/// Plans after [`Error::Beyond`]: has the primary end its segment, behind a transaction after the target, and waits until it is archived.
///
/// # Errors
/// [`Error::Beyond`] as before, with what keeps the server from it; those of [`plan`].
pub async fn plan_beyond(request: &Request, server: &Server, system_id: &str, beyond: String) -> Result<Plan, Error> {
    let add = |words: String| Error::Beyond { reason: format!("{beyond}; {words}"), system_id: system_id.to_owned() };
    let primary = match crate::member(server, false).await {
        Ok((primary, Role::Primary)) => primary,
        Ok(_) => return Err(add("none of the servers that answer is the primary".into())),
        Err(error) => {
            return Err(add(format!(
                "the server does not answer ({}). If it runs elsewhere, \"select pg_switch_wal()\" on it gets the rest \
                 archived; if it is lost, archive what is in its pg_wal with \"pgbosun wal push\"",
                pgbosun_core::human::chain(&error)
            )));
        }
    };
    let answered = primary.system_id().await?;
    if answered != system_id {
        return Err(add(format!("the server that answers is a different one, with system identifier {answered}")));
    }
    let mut connection = primary.connect().await?;
    let ended = end_segment(&mut connection, request.target.as_ref()).await;
    let _ = connection.close().await;
    let last = match ended? {
        Ok(last) => last,
        Err(refusal) => return Err(add(refusal)),
    };
    let archives = request.repositories.iter().map(|place| WalArchive::new(place, &request.cluster, system_id));
    let archives: Vec<_> = archives.collect();
    let begun = Instant::now();
    let mut seen = 0;
    loop {
        // Several are archived at once: earlier ones may come a moment after the last.
        seen += u32::from(is_archived(&archives, &last).await);
        let all = seen > 2;
        match Box::pin(plan(request)).await {
            Err(Error::Beyond { .. }) if !all && begun.elapsed() < PATIENCE => tokio::time::sleep(PAUSE).await,
            Err(Error::Beyond { reason, system_id }) => {
                let reason = match all {
                    true => format!("{reason}, and everything the server wrote is archived"),
                    false => {
                        format!("{reason}; the server was asked to archive the rest, but did not within {PATIENCE:?}")
                    }
                };
                return Err(Error::Beyond { reason, system_id });
            }
            planned => return planned,
        }
    }
}

/// The segment that the server ended, or why it cannot help.
async fn end_segment(connection: &mut PgConnection, target: Option<&Target>) -> Result<Result<WalFile, String>, Error> {
    let question = "select pg_catalog.current_setting('archive_mode') <> 'off' \
                    or exists (select from pg_catalog.pg_stat_replication), \
                    pg_catalog.clock_timestamp(), pg_catalog.pg_current_wal_insert_lsn()::text";
    let (is_archived, now, written): (bool, chrono::DateTime<chrono::Utc>, String) = sqlx::query_as(question)
        .fetch_one(&mut *connection)
        .await
        .map_err(Error::query("read how far WAL is written"))?;
    match target {
        Some(Target::Time(time)) if *time >= now => return Ok(Err("that time has not come yet".into())),
        Some(Target::Lsn(lsn)) if written.parse().is_ok_and(|written| *lsn > written) => {
            return Ok(Err(format!("the server has written only up to {written}")));
        }
        _ => {}
    }
    if !is_archived {
        return Ok(Err("the server does not archive WAL".into()));
    }
    // A recovery stops at the first transaction that ended after the time: there has to be one.
    let statements = [
        "select pg_catalog.pg_current_xact_id()::text",
        "select pg_catalog.pg_walfile_name(pg_catalog.pg_switch_wal())",
    ];
    let mut answer = String::new();
    for statement in statements {
        match sqlx::query_scalar(statement).fetch_one(&mut *connection).await {
            Ok(answered) => answer = answered,
            Err(error) => {
                return Ok(Err(format!(
                    "\"{statement}\" on the server, which would get the rest archived, failed: {error}"
                )));
            }
        }
    }
    Ok(WalFile::parse(&answer).ok_or_else(|| format!("the server reported an invalid segment name: {answer}")))
}
