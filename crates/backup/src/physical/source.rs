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

/// Why one of a cluster's servers will not do.
#[derive(Debug, thiserror::Error)]
pub enum Unfit {
    /// It could not be asked. Its causes are said here: an error has room for the causes of one server only.
    #[error("{host}: {}", human::chain(.error))]
    Silent {
        /// The server.
        host: String,
        /// Why not.
        error: Error,
    },
    /// A standby that is not up to date.
    #[error("{host} is a standby that is behind or is not streaming")]
    Behind {
        /// The server.
        host: String,
    },
    /// A standby where the primary is wanted.
    #[error("{host} is a standby (prefer-standby = true lets a backup use it)")]
    Standby {
        /// The server.
        host: String,
    },
}

impl Unfit {
    /// A standby may catch up or be promoted; a server that could not be asked is as its error says.
    fn is_transient(&self) -> bool {
        match self {
            Self::Silent { error, .. } => error.is_transient(),
            Self::Behind { .. } | Self::Standby { .. } => true,
        }
    }

    fn error(&self) -> Option<&Error> {
        match self {
            Self::Silent { error, .. } => Some(error),
            _ => None,
        }
    }
}

/// That none of a cluster's servers will do, with the reason of each.
#[derive(Debug)]
pub struct NoServer(pub Vec<Unfit>);

impl NoServer {
    /// True where the reason of one of them may pass: then it may be the one that will do.
    pub fn is_transient(&self) -> bool {
        self.0.iter().any(Unfit::is_transient)
    }
}

impl fmt::Display for NoServer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let reasons: Vec<_> = self.0.iter().map(Unfit::to_string).collect();
        write!(f, "no server of the cluster can be used: {}", reasons.join("; "))
    }
}

impl std::error::Error for NoServer {
    /// The error that decides whether it is tried again.
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        let mut errors = self.0.iter().filter_map(Unfit::error);
        let first = errors.clone().next();
        errors.find(|error| error.is_transient()).or(first).map(|error| error as _)
    }
}

/// The server to work on: of several the primary, or a standby that is fit where that is preferred.
///
/// A standby is fit when it streams, replays, and is less than a minute behind.
///
/// # Errors
/// [`Error::NoServer`] where none of them will do; of a single one that cannot be asked, its error.
pub async fn member(cluster: &Server, prefer_standby: bool) -> Result<(Server, Role), Error> {
    let (mut primary, mut standby, mut unfit): (Option<(Server, u32)>, Option<Server>, _) = (None, None, Vec::new());
    for host in &cluster.conninfo.hosts {
        let (server, host) = (cluster.at(host), host.to_string());
        match identify(&server).await {
            // C41: of two that take writes the one that was promoted last is the cluster; the other one should not be there.
            Ok(Answer { timeline: Some(timeline), .. }) => {
                primary = primary.filter(|(_, known)| *known >= timeline).or(Some((server, timeline)));
            }
            Ok(Answer { fit: true, .. }) => {
                standby = standby.or(Some(server));
                unfit.push(Unfit::Standby { host });
            }
            Ok(_) => unfit.push(Unfit::Behind { host }),
            Err(error) => unfit.push(Unfit::Silent { host, error }),
        }
    }
    let primary = primary.map(|(server, _)| (server, Role::Primary));
    let standby = standby.map(|server| (server, Role::Standby));
    // Where only a standby is named it is the one that is meant.
    let alone = cluster.conninfo.hosts.len() == 1;
    let chosen = if prefer_standby { standby.or(primary) } else { primary.or(standby.filter(|_| alone)) };
    match (chosen, unfit.pop_if(|_| alone)) {
        (Some(chosen), _) => Ok(chosen),
        (None, Some(Unfit::Silent { error, .. })) => Err(error),
        (None, last) => {
            unfit.extend(last);
            Err(NoServer(unfit).into())
        }
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
    let answers = cluster.conninfo.hosts.iter().map(|host| async move {
        let server = cluster.at(host);
        let timeline = identify(&server).await.ok()?.timeline?;
        Some(Primary { server, host: host.to_string(), timeline })
    });
    futures::future::join_all(answers).await.into_iter().flatten().collect()
}

/// What a server says of itself.
struct Answer {
    /// That of one that takes writes.
    timeline: Option<u32>,
    /// Whether a standby is fit for a backup.
    fit: bool,
}

async fn identify(server: &Server) -> Result<Answer, Error> {
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
        done.map_err(Error::query("switch to a new WAL segment"))
    };
    if let Err(error) = switched.await {
        tracing::info!("the WAL segment could not be ended early: {}", human::chain(&error));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::{error::Error as _, io};

    fn silent(host: &str, kind: io::ErrorKind) -> Unfit {
        let source = io::Error::new(kind, format!("{kind:?}"));
        let repository = pgbosun_repository::Error::Storage { action: "ask", object: host.into(), source };
        Unfit::Silent { host: host.into(), error: repository.into() }
    }

    /// The kind of the error of the system that an error comes from.
    fn root(error: &Error) -> Option<io::ErrorKind> {
        let mut cause: &dyn std::error::Error = error;
        while let Some(next) = cause.source() {
            cause = next;
        }
        cause.downcast_ref::<io::Error>().map(io::Error::kind)
    }

    #[test]
    fn of_several_servers_each_keeps_its_reason() {
        use io::ErrorKind::{ConnectionRefused, PermissionDenied};
        // Whatever their order, the one that may pass decides, and is the source.
        for [one, other] in [[PermissionDenied, ConnectionRefused], [ConnectionRefused, PermissionDenied]] {
            let error = Error::from(NoServer(vec![silent("a", one), silent("b", other)]));
            assert!(error.is_transient() && root(&error) == Some(ConnectionRefused), "{error:?}");
            let words = human::chain(&error);
            assert_eq!(words, format!("no server of the cluster can be used: a: ask a: {one:?}; b: ask b: {other:?}"));
        }
        let lasting = Error::from(NoServer(vec![silent("a", PermissionDenied), silent("b", PermissionDenied)]));
        assert!(!lasting.is_transient() && root(&lasting) == Some(PermissionDenied));
        // A standby catches up, or is promoted.
        let standbys = NoServer(vec![Unfit::Behind { host: "a".into() }, Unfit::Standby { host: "b".into() }]);
        assert!(standbys.is_transient() && standbys.source().is_none());
        assert!(
            standbys.to_string().contains("a is a standby that is behind") && standbys.to_string().contains("b is")
        );
    }
}
