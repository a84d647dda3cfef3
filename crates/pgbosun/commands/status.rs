//! `pgbosun status`: everything on one screen.

use crate::{
    local::Context,
    output::{ago, bold, dim, green, json, moment, red, severity, state, table, yellow},
};
use pgbosun_core::{alert::AlertState, finding::Severity, human, run::Run};
use pgbosun_daemon::{
    api::{ClusterStatus, Restorable, Status},
    assemble_status,
};
use std::time::Duration;

/// Prints the status; the exit code is that of the worst open alert.
///
/// # Errors
/// Where neither daemon nor journal can be asked.
pub async fn run(context: &Context) -> anyhow::Result<u8> {
    let status: Status = match context.daemon().await? {
        Some(daemon) => daemon.get("/status").await?,
        None => assemble_status(context.offline().await?.engine.as_ref(), false).await?,
    };
    if context.json {
        json(&status)?;
    } else {
        print(&status, context);
    }
    Ok(worst(&status).exit_code())
}

/// The worst that is open: what only was seen once or so is none yet. That no daemon runs is a warning.
fn worst(status: &Status) -> Severity {
    let open = status.alerts.iter().filter(|info| info.alert.state != AlertState::Pending);
    // Without a daemon nobody looks, and nothing of what is due happens.
    let idle = status.daemon_since.is_none() && (!status.next.is_empty() || status.next_look.is_some());
    let without = if idle { Severity::Warning } else { Severity::Ok };
    open.map(|info| info.alert.severity).chain([without]).max().unwrap_or(Severity::Ok)
}

fn print(status: &Status, context: &Context) {
    let zone = context.zone();
    let daemon = match status.daemon_since {
        Some(since) => green(&format!("daemon up {}", human::span(status.at - since))),
        None => red("no daemon: nothing is scheduled"),
    };
    say!("{} {}  {daemon}  {}", bold("pgbosun"), bold(&status.instance), dim(&moment(status.at, zone)));
    if let Some(paused) = &status.paused {
        say!("{}", yellow(&format!("all jobs are paused {paused}")));
    }
    if let Some(trouble) = &status.history.trouble {
        say!("{}", yellow(&format!("history is not delivered {trouble}")));
    }
    if status.outbox > 0 {
        say!("{}", yellow(&format!("{} messages wait to be sent", status.outbox)));
    }

    say!("\n{}", bold("ALERTS"));
    let pending = status.alerts.iter().filter(|info| info.alert.state == AlertState::Pending).count();
    if status.alerts.len() == pending {
        say!("  {}", green("none open"));
    }
    for info in status.alerts.iter().filter(|info| info.alert.state != AlertState::Pending) {
        let alert = &info.alert;
        let place = alert.cluster.as_deref().unwrap_or(&status.instance);
        let since =
            dim(&format!("since {} ({})", moment(alert.opened_at, zone), human::span(status.at - alert.opened_at)));
        say!("  {} {}: {}  {since}", severity(alert.severity), bold(place), human::line(&alert.summary));
        let looked_at = alert.acknowledged.as_ref().map(|a| format!("{} looks at it: {}", a.by, a.reason));
        for line in info.muted.iter().chain(&looked_at) {
            say!("             {}", dim(line));
        }
    }
    if pending > 0 {
        say!("  {}", dim(&format!("{pending} more were seen, but not often enough yet")));
    }

    say!("\n{}", bold("CLUSTERS"));
    for cluster in &status.clusters {
        print_cluster(cluster, zone);
    }
    for reason in &status.unreadable {
        say!("  {} {}", red("not listed:"), first_line(reason));
    }

    if !status.running.is_empty() {
        say!("\n{}", bold("RUNNING"));
        for running in &status.running {
            let progress = match running.total {
                0 => String::new(),
                total => {
                    let percent = (100 * running.done / total).min(100);
                    format!("  {percent} %, {} of {}", human::size(running.done), human::size(total))
                }
            };
            say!("  {}  for {}{progress}", bold(&running.job), human::span(status.at - running.since));
            if !running.what.is_empty() {
                say!("    {}", dim(&running.what));
            }
        }
    }

    print_monitors(status);

    say!("\n{}", bold("LAST RUNS"));
    // Of monitors only what is wrong with them: what they found is above.
    let told = status.last.iter().filter(|run| !run.is_look() || run.state.is_failure());
    // What fails for the same reason is one line.
    let mut runs: Vec<(&Run, usize)> = Vec::new();
    for run in told {
        match runs.iter_mut().find(|(known, _)| run.is_look() && known.is_look() && known.summary == run.summary) {
            Some((_, more)) => *more += 1,
            None => runs.push((run, 0)),
        }
    }
    let rows = runs.into_iter().map(|(run, more)| {
        let ended = run.finished_at.map_or_else(String::new, ago);
        let took =
            run.finished_at.zip(run.started_at).map_or_else(String::new, |(end, start)| human::span(end - start));
        let job = if more == 0 { run.job.clone() } else { format!("{} and {more} more", run.job) };
        vec![format!("  {}", state(run.state)), job, ended, took, first_line(&run.summary)]
    });
    say!("{}", table(&["  STATE", "JOB", "ENDED", "TOOK", "WHAT"], rows));

    say!("\n{}", bold("NEXT"));
    for next in &status.next {
        let wait = human::span(next.at - status.at);
        let note = next.note.as_ref().map_or_else(String::new, |note| yellow(&format!("  {note}")));
        say!("  {}  {:<20} {}{note}", next.local, next.job, dim(&format!("in {wait}")));
    }
}

fn print_monitors(status: &Status) {
    if status.monitors == 0 {
        return;
    }
    let looks = || status.last.iter().filter(|run| run.is_look());
    let failed = looks().filter(|run| run.state.is_failure()).count();
    let newest = looks().filter_map(|run| run.finished_at).max().map_or_else(|| "never".into(), ago);
    let next = status.next_look.map_or_else(String::new, |at| format!(", next in {}", human::span(at - status.at)));
    let trouble = if failed == 0 { String::new() } else { red(&format!(", {failed} could not look")) };
    say!(
        "\n{}\n  {} in all, {} looked{trouble}; last {newest}{next}",
        bold("MONITORS"),
        status.monitors,
        looks().count()
    );
}

fn print_cluster(cluster: &ClusterStatus, zone: chrono_tz::Tz) {
    say!("  {}", bold(&cluster.name));
    if cluster.backups.is_empty() {
        say!("    newest backup  {}", red("none"));
    }
    for backup in &cluster.backups {
        let verified = if backup.state == "verified" { green(&backup.state) } else { backup.state.clone() };
        say!(
            "    newest backup  {} in {}: {}, {}, {verified}; {} there",
            backup.label,
            backup.repository,
            ago(backup.finished_at),
            human::size(backup.stored_bytes),
            backup.count
        );
        if let Some(reason) = &backup.away {
            say!("                   {} {}", red("last seen:"), first_line(reason));
        }
    }
    if let Some(Restorable { from, to }) = &cluster.restorable {
        // In whole seconds that lie within.
        let from = *from + chrono::TimeDelta::milliseconds(999);
        say!("    restorable     {} to {} ({})", moment(from, zone), moment(*to, zone), ago(*to));
    }
    if let Some(archive) = &cluster.archive {
        let waits = match archive.waiting {
            0 => "no segment waits".to_owned(),
            1 => "1 segment waits".to_owned(),
            many => format!("{many} segments wait"),
        };
        match (archive.failing, archive.last_archived_at) {
            (true, last) => {
                let last = last.map_or_else(|| "never".into(), ago);
                say!("    WAL archived   {}, {waits}; worked last {last}", red("fails"));
            }
            (false, Some(last)) => say!("    WAL archived   {}, {waits}", ago(last)),
            (false, None) => say!("    WAL archived   {}", dim("never")),
        }
    }
    if let Some(receiver) = &cluster.receiver {
        let (flushed, behind) = (receiver.flushed, human::size(receiver.behind_bytes));
        match &receiver.trouble {
            None => say!("    WAL received   up to {flushed}, {behind} behind the server"),
            Some(reason) => say!("    WAL received   up to {flushed}, {}", red(&format!("broken off: {reason}"))),
        }
    }
    match &cluster.restore_test {
        None => say!("    restore test   {}", yellow("never made")),
        Some(test) if !test.passed => {
            say!("    restore test   {} {}: {}", red("failed"), ago(test.started_at), first_line(&test.detail));
        }
        Some(test) => {
            let passed = green("passed");
            say!(
                "    restore test   {passed} {}: recovery takes {} (RTO), to a state {} old (RPO)",
                ago(test.started_at),
                human::duration(Duration::from_secs_f64(test.total_seconds)),
                human::duration(Duration::from_secs_f64(test.recovery_point_age_seconds))
            );
        }
    }
}

/// The first line of a text.
pub fn first_line(text: &str) -> String {
    text.lines().next().unwrap_or_default().to_owned()
}
