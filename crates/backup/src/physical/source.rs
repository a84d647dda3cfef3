//! Which of a cluster's servers a backup is taken from. Roles are looked up, never configured.

use crate::Error;
use chrono::{DateTime, Utc};
use pgbosun_core::human;
use pgbosun_postgres::Server;
use sqlx::Connection;
use std::fmt;

/// What a server is at this moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// It takes writes.
    Primary,
    /// It recovers.
    Standby,
}

impl fmt::Display for Role {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Primary => "primary",
            Self::Standby => "standby",
        })
    }
}

/// The server to work on: of several the primary, or a standby that is fit where that is preferred.
///
/// A standby is fit when it streams, replays, and is less than a minute behind.
///
/// # Errors
/// Where none of them will do, each with its reason.
pub async fn member(cluster: &Server, prefer_standby: bool) -> Result<(Server, Role), Error> {
    let (mut primary, mut standby, mut reasons, mut last): (Option<(Server, u32)>, _, _, _) =
        (None, None, Vec::new(), None);
    for host in &cluster.conninfo.hosts {
        let server = cluster.at(host);
        match look(&server).await {
            // C41: of two that take writes the one that was promoted last is the cluster; the other one should not be there.
            Ok(Answer { timeline: Some(timeline), .. }) => {
                primary = primary.filter(|(_, known)| *known >= timeline).or(Some((server, timeline)));
            }
            Ok(Answer { fit: true, .. }) => standby = standby.or(Some(server)),
            Ok(_) => reasons.push(format!("{host} is a standby that is behind or does not stream")),
            Err(error) => {
                reasons.push(format!("{host}: {}", human::chain(&error)));
                // What passes at one of them may let it be the one that will do.
                last = last.filter(Error::is_transient).or(Some(error));
            }
        }
    }
    let primary = primary.map(|(server, _)| (server, Role::Primary));
    let standby = standby.map(|server| (server, Role::Standby));
    // Where only a standby is named it is the one that is meant.
    let alone = cluster.conninfo.hosts.len() == 1;
    let chosen = if prefer_standby { standby.or(primary) } else { primary.or(standby.filter(|_| alone)) };
    match (chosen, last) {
        (Some(chosen), _) => Ok(chosen),
        (None, Some(error)) if alone => Err(error),
        (None, Some(error)) if error.is_transient() => {
            Err(Error::Interrupted(format!("no server of the cluster will do: {}", reasons.join("; "))))
        }
        _ => Err(Error::Refused(format!(
            "no server of the cluster will do: {}",
            if reasons.is_empty() {
                "there are only standbys; set prefer-standby = true".into()
            } else {
                reasons.join("; ")
            }
        ))),
    }
}

/// A server that takes writes.
#[derive(Clone, Debug)]
pub struct Primary {
    /// How it is reached.
    pub server: Server,
    /// Its host, as configured.
    pub host: String,
    /// Its timeline.
    pub timeline: u32,
}

/// The servers of a cluster that take writes. More than one is a split brain. One that does not answer is none of them.
pub async fn primaries(cluster: &Server) -> Vec<Primary> {
    let looks = cluster.conninfo.hosts.iter().map(|host| async move {
        let server = cluster.at(host);
        let timeline = look(&server).await.ok()?.timeline?;
        Some(Primary { server, host: host.to_string(), timeline })
    });
    futures::future::join_all(looks).await.into_iter().flatten().collect()
}

/// What a server says of itself.
struct Answer {
    /// That of one that takes writes.
    timeline: Option<u32>,
    /// Whether a standby is fit for a backup.
    fit: bool,
}

async fn look(server: &Server) -> Result<Answer, Error> {
    let mut connection = server.connect().await?;
    let row = sqlx::query_as(include_str!("source/role.sql")).fetch_one(&mut connection).await;
    let _ = connection.close().await;
    let (standby, fit, timeline): (bool, bool, String) = row.map_err(Error::query("read the server's role"))?;
    let timeline = (!standby).then(|| u32::from_str_radix(&timeline, 16).unwrap_or_default());
    Ok(Answer { timeline, fit })
}

/// The server's clock.
///
/// # Errors
/// Where the server cannot be asked.
pub async fn now(server: &Server) -> Result<DateTime<Utc>, Error> {
    let mut connection = server.connect().await?;
    let now = sqlx::query_scalar("select pg_catalog.clock_timestamp()").fetch_one(&mut connection).await;
    let _ = connection.close().await;
    now.map_err(Error::query("read the server's clock"))
}

/// Asks the primary to begin a new segment, so that the last one is archived. Without the right to do so it comes with
/// `archive_timeout`, or with the next writes.
pub(super) async fn switch_wal(cluster: &Server) {
    let switched = async {
        let (primary, _) = member(cluster, false).await?;
        let mut connection = primary.connect().await?;
        let done = sqlx::query("select pg_catalog.pg_switch_wal()").execute(&mut connection).await;
        let _ = connection.close().await;
        done.map_err(Error::query("begin a new WAL segment"))
    };
    if let Err(error) = switched.await {
        tracing::info!("the WAL segment is not ended early: {}", human::chain(&error));
    }
}
