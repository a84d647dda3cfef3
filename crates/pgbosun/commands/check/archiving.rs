//! The round trip of one segment: written, archived by the server, and found in every repository.

use super::Report;
use pgbosun_core::{config::Config, finding::Severity, wal::WalFile};
use pgbosun_daemon::chain;
use pgbosun_jobs::ought_to_archive;
use pgbosun_postgres::Server;
use pgbosun_repository::{Repository, WalArchive};
use sqlx::Connection;
use std::time::{Duration, Instant};

/// How long the server may take to archive one segment.
const PATIENCE: Duration = Duration::from_secs(60);

/// Looks whether WAL gets into the archive. Ends the current segment of the server, which is harmless.
pub(super) async fn check(
    report: &mut Report,
    config: &Config,
    name: &str,
    server: &Server,
    system_id: &str,
    to: &[Repository],
) {
    match round_trip(server, name, system_id, to).await {
        Ok(Some(words)) => report.add(Severity::Ok, name, words),
        Ok(None) => match ought_to_archive(config, to, name, system_id).await {
            // C30: what is committed now is in no archive.
            Some(although) => {
                let words = format!(
                    "nothing is archived, and {although}: set archive_mode = on (a copy restored alongside its original has it \
                     off in postgresql.auto.conf), restart the server, and take a new backup"
                );
                report.add(Severity::Critical, name, words);
            }
            None if config.clusters[name].receive_wal => {
                let words = "WAL is received over a replication slot (receive-wal), and archive_mode is off";
                report.add(Severity::Ok, name, words);
            }
            None => {
                let words = "archive_mode is off: nothing after the newest backup can be recovered; see the README for \
                             archive_command";
                report.add(Severity::Ok, name, words);
            }
        },
        Err(words) => report.add(Severity::Critical, name, words),
    }
}

async fn round_trip(server: &Server, name: &str, system_id: &str, to: &[Repository]) -> Result<Option<String>, String> {
    let failed = |error: sqlx::Error| format!("archiving cannot be tested: {}", chain(&error));
    let mut connection = server.connect().await.map_err(|error| chain(&error))?;
    let mode: String = sqlx::query_scalar("select pg_catalog.current_setting('archive_mode')")
        .fetch_one(&mut connection)
        .await
        .map_err(failed)?;
    let standby: bool =
        sqlx::query_scalar("select pg_catalog.pg_is_in_recovery()").fetch_one(&mut connection).await.map_err(failed)?;
    if standby {
        return Ok(Some("a standby: archiving is tested on the primary".into()));
    }
    if mode == "off" {
        return Ok(None);
    }
    let segment: String =
        sqlx::query_scalar(include_str!("switch.sql")).fetch_one(&mut connection).await.map_err(failed)?;
    let begun = Instant::now();
    loop {
        let (archived, failing): (bool, bool) = sqlx::query_as(include_str!("archived.sql"))
            .bind(&segment)
            .fetch_one(&mut connection)
            .await
            .map_err(failed)?;
        if archived {
            break;
        }
        if failing || begun.elapsed() > PATIENCE {
            return Err(format!(
                "segment {segment} was not archived within {} s: see the server's log for the output of archive_command",
                begun.elapsed().as_secs()
            ));
        }
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
    let took = begun.elapsed();
    let _ = connection.close().await;
    let file = WalFile::parse(&segment).ok_or_else(|| format!("\"{segment}\" is not a WAL segment"))?;
    let mut lacking = Vec::new();
    for repository in to {
        match WalArchive::new(repository, name, system_id).find(&file).await {
            Ok(Some(_)) => {}
            Ok(None) => lacking.push(repository.name.clone()),
            Err(error) => return Err(chain(&error)),
        }
    }
    if lacking.is_empty() {
        return Ok(Some(format!(
            "segment {segment} was archived in {:.1} s and is in every repository",
            took.as_secs_f64()
        )));
    }
    Err(format!(
        "segment {segment} was archived, but not into {}: archive_command is not 'pgbosun wal push \"%p\"', or the \
         repository is unavailable and the segment is waiting in the spool",
        lacking.join(", ")
    ))
}
