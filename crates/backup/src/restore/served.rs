//! Whether a data directory is that of a server that answers.
//!
//! A process number means nothing in another container, so that a server may run where `postmaster.pid` names nobody (C17). What else
//! that file says, any role can ask of a server: when it was started, and its port.

use pgbosun_postgres::Server;
use sqlx::Connection;
use std::{fs, path::Path};

/// What a `postmaster.pid` says of its server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Postmaster {
    /// When it was started, seconds since 1970.
    since: i64,
    port: i32,
}

impl Postmaster {
    /// PostgreSQL: `LOCK_FILE_LINE_START_TIME` and `LOCK_FILE_LINE_PORT` in pidfile.h.
    fn read(directory: &Path) -> Option<Self> {
        let text = fs::read_to_string(directory.join("postmaster.pid")).ok()?;
        let mut lines = text.lines().skip(2);
        Some(Self { since: lines.next()?.trim().parse().ok()?, port: lines.next()?.trim().parse().ok()? })
    }

    /// Written down a moment after the server noted its start.
    const fn is(self, other: Self) -> bool {
        self.port == other.port && self.since.abs_diff(other.since) <= 2
    }
}

/// The host of the first of these servers that runs from a data directory.
pub async fn served_by(directory: &Path, servers: &[Server]) -> Option<String> {
    let written = Postmaster::read(directory)?;
    for server in servers {
        for host in &server.conninfo.hosts {
            let asked = async {
                let mut connection = server.at(host).connect().await.ok()?;
                let asked = "select pg_catalog.date_part('epoch', pg_catalog.pg_postmaster_start_time())::bigint,
                                    pg_catalog.current_setting('port')::int";
                let (since, port) = sqlx::query_as(asked).fetch_one(&mut connection).await.ok()?;
                let _ = connection.close().await;
                Some(Postmaster { since, port })
            };
            if asked.await.is_some_and(|found| written.is(found)) {
                return Some(host.to_string());
            }
        }
    }
    None
}

/// The host of a server of this cluster that has a system identifier and takes writes.
pub async fn primary_of(system_id: &str, cluster: Option<&Server>) -> Option<String> {
    for primary in crate::primaries(cluster?).await {
        if primary.server.system_id().await.is_ok_and(|answered| answered == system_id) {
            return Some(primary.host);
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn c17_a_server_is_known_by_its_start_and_its_port() {
        let directory = tempfile::tempdir().unwrap();
        assert_eq!(Postmaster::read(directory.path()), None);
        fs::write(directory.path().join("postmaster.pid"), "42\n/data\n1795910400\n5432\n/tmp\n*\n 1 2\nready   \n")
            .unwrap();
        let read = Postmaster::read(directory.path()).unwrap();
        assert_eq!(read, Postmaster { since: 1_795_910_400, port: 5432 });
        assert!(read.is(Postmaster { since: 1_795_910_399, port: 5432 }));
        assert!(!read.is(Postmaster { since: 1_795_910_399, port: 5433 }));
        assert!(!read.is(Postmaster { since: 1_795_910_000, port: 5432 }));
    }
}
