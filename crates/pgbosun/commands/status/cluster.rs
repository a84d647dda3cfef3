//! What `pgbosun status` shows of a cluster.

use super::first_line;
use crate::output::{ago, bold, dim, green, moment, red, yellow};
use chrono_tz::Tz;
use pgbosun_core::{clock, human};
use pgbosun_daemon::api::{ClusterStatus, Restorable, ServerStatus};
use std::time::Duration;

/// The column in which values begin, behind their labels.
const VALUE: usize = 19;

/// Shows one.
pub fn show(cluster: &ClusterStatus, zone: Tz, screen: &mut Vec<String>) {
    put!(screen, "  {}", bold(&cluster.name));
    if let Some(server) = &cluster.server {
        put!(screen, below VALUE, "    server         {}", words(server));
    }
    if cluster.backups.is_empty() {
        put!(screen, below VALUE, "    newest backup  {}", red("none"));
    }
    for backup in &cluster.backups {
        let verified = if backup.state == "verified" { green(&backup.state) } else { backup.state.clone() };
        put!(
            screen,
            below VALUE,
            "    newest backup  {} in {}: {}, {}, {verified}; {}",
            backup.label,
            backup.repository,
            ago(backup.finished_at),
            human::size(backup.stored_bytes),
            human::count(backup.count, "backup")
        );
        if let Some(reason) = &backup.away {
            put!(screen, below VALUE, "                   {} {}", red("last seen:"), first_line(reason));
        }
    }
    if let Some(Restorable { from, to }) = &cluster.restorable {
        // In whole seconds that lie within.
        let from = *from + chrono::TimeDelta::milliseconds(999);
        // Where nothing was committed since, the backup's own end is all there is.
        let to = from.max(*to);
        put!(screen, below VALUE, "    restorable     {} to {} ({})", moment(from, zone), moment(to, zone), ago(to));
    }
    if let Some(archive) = &cluster.archive {
        let waits = match archive.waiting {
            0 => "no segments waiting".to_owned(),
            waiting => format!("{} waiting", human::count(waiting, "segment")),
        };
        match (archive.failing, archive.last_archived_at) {
            (true, last) => {
                let last = last.map_or_else(|| "never worked".into(), |at| format!("last worked {}", ago(at)));
                put!(screen, below VALUE, "    WAL archived   {}, {waits}; {last}", red("failing"));
            }
            (false, Some(last)) => put!(screen, below VALUE, "    WAL archived   {}, {waits}", ago(last)),
            (false, None) => put!(screen, below VALUE, "    WAL archived   {}", dim("never")),
        }
    }
    if let Some(receiver) = &cluster.receiver {
        let (flushed, behind) = (receiver.flushed, human::size(receiver.behind_bytes));
        match &receiver.trouble {
            None => put!(screen, below VALUE, "    WAL received   up to {flushed}, {behind} behind the server"),
            Some(reason) => {
                put!(screen, below VALUE, "    WAL received   up to {flushed}, {}", red(&format!("interrupted: {reason}")))
            }
        }
    }
    match &cluster.restore_test {
        None => put!(screen, below VALUE, "    restore test   {}", yellow("never run")),
        Some(test) if !test.passed => {
            put!(screen, below VALUE, "    restore test   {} {}: {}", red("failed"), ago(test.started_at), first_line(&test.detail));
        }
        Some(test) => {
            let passed = green("passed");
            put!(
                screen,
                below VALUE,
                "    restore test   {passed} {}: recovery takes {} (RTO), to a state {} old (RPO)",
                ago(test.started_at),
                human::duration(Duration::from_secs_f64(test.total_seconds)),
                human::duration(Duration::from_secs_f64(test.recovery_point_age_seconds))
            );
        }
    }
}

/// A server, as far as it is known.
fn words(server: &ServerStatus) -> String {
    let version = server.version.as_ref().map(|version| format!("PostgreSQL {version}"));
    let role = server.standby.map(|standby| if standby { "standby" } else { "primary" }.to_owned());
    let up = match (server.answers, server.started_at) {
        (Some(false), _) => Some(red("does not answer")),
        (_, Some(at)) => Some(format!("up for {}", human::span(clock::now() - at))),
        (Some(true), None) => Some("answers".to_owned()),
        (None, None) => None,
    };
    [version, role, up].into_iter().flatten().collect::<Vec<_>>().join(", ")
}
