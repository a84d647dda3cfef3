//! A target that the archive does not reach yet: the server has written what is needed, and has not archived it.

use super::{Plan, Request, Target, plan};
use crate::{Error, Role};
use pgbosun_postgres::Server;
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
        Ok(_) => return Err(add("no server that answers is the primary".into())),
        Err(error) => {
            return Err(add(format!(
                "and the server does not answer ({}). If it lives elsewhere, \"select pg_switch_wal()\" on it has the rest archived; if \
                 it is lost, what its pg_wal holds can be given to \"pgbosun wal push\"",
                pgbosun_core::human::chain(&error)
            )));
        }
    };
    let answered = primary.system_id().await?;
    if answered != system_id {
        return Err(add(format!("the server that answers is another one, with the system identifier {answered}")));
    }
    let mut connection = primary.connect().await?;
    let refusal = end_segment(&mut connection, request.target.as_ref()).await;
    let _ = connection.close().await;
    if let Some(refusal) = refusal? {
        return Err(add(refusal));
    }
    let begun = Instant::now();
    loop {
        match Box::pin(plan(request)).await {
            Err(Error::Beyond { .. }) if begun.elapsed() < PATIENCE => tokio::time::sleep(PAUSE).await,
            Err(Error::Beyond { reason, system_id }) => {
                let reason =
                    format!("{reason}; the server was asked to archive the rest, and did not within {PATIENCE:?}");
                return Err(Error::Beyond { reason, system_id });
            }
            planned => return planned,
        }
    }
}

/// Why the server cannot help, where it cannot.
async fn end_segment(connection: &mut PgConnection, target: Option<&Target>) -> Result<Option<String>, Error> {
    let question = "select pg_catalog.current_setting('archive_mode') <> 'off' \
                    or exists (select from pg_catalog.pg_stat_replication), \
                    pg_catalog.clock_timestamp(), pg_catalog.pg_current_wal_insert_lsn()::text";
    let (is_archived, now, written): (bool, chrono::DateTime<chrono::Utc>, String) =
        sqlx::query_as(question).fetch_one(&mut *connection).await.map_err(Error::query("ask for what is written"))?;
    match target {
        Some(Target::Time(time)) if *time >= now => return Ok(Some("it has not come yet".into())),
        Some(Target::Lsn(lsn)) if written.parse().is_ok_and(|written| *lsn > written) => {
            return Ok(Some(format!("the server has written up to {written}")));
        }
        _ => {}
    }
    if !is_archived {
        return Ok(Some("the server archives nothing".into()));
    }
    // A recovery stops at the first transaction that ended after the time: there has to be one.
    for statement in ["select pg_catalog.pg_current_xact_id()", "select pg_catalog.pg_switch_wal()"] {
        if let Err(error) = sqlx::query(statement).execute(&mut *connection).await {
            return Ok(Some(format!(
                "\"{statement}\" on the server would have the rest archived, and failed: {error}"
            )));
        }
    }
    Ok(None)
}
