//! `pgbosun status`: everything on one screen.

/// Adds lines to a screen; with `below COLUMN` one that goes on there where the terminal is too narrow.
macro_rules! put {
    ($screen:expr, below $column:expr, $($words:tt)*) => { $screen.extend($crate::output::folded(&format!($($words)*), $column)) };
    ($screen:expr, $($words:tt)*) => { $screen.extend(format!($($words)*).split('\n').map(str::to_owned)) };
}

mod cluster;
mod watch;

pub use watch::watch;

use crate::{
    local::Context,
    output::{Column, ago, aside, bold, dim, green, json, moment, red, severity, state, table, text, whole, yellow},
    progress::in_words,
};
use pgbosun_core::{alert::AlertState, finding::Severity, human, run::Run};
use pgbosun_daemon::{api::Status, assemble_status};

const LAST_RUNS: [Column; 5] = [whole("  STATE"), whole("JOB"), whole("ENDED"), aside("TOOK"), text("WHAT")];

/// The column in which an alert is told, behind its severity.
const ALERT: usize = 11;

/// Prints the status; the exit code is that of the worst open alert.
///
/// # Errors
/// Where neither daemon nor journal can be asked.
pub async fn run(context: &Context) -> anyhow::Result<u8> {
    let status = ask(context).await?;
    if context.json {
        json(&status)?;
    } else {
        for line in lines(&status, context) {
            say!("{line}");
        }
    }
    Ok(worst(&status).exit_code())
}

async fn ask(context: &Context) -> anyhow::Result<Status> {
    match context.daemon().await? {
        Some(daemon) => daemon.get("/status").await,
        None => Ok(assemble_status(context.offline().await?.engine.as_ref(), false).await?),
    }
}

/// The worst that is open: what only was seen once or so is none yet. That no daemon runs is a warning.
fn worst(status: &Status) -> Severity {
    let open = status.alerts.iter().filter(|info| info.alert.state != AlertState::Pending);
    // Without a daemon nobody looks, and nothing of what is due happens.
    let idle = status.daemon_since.is_none() && (!status.next.is_empty() || status.next_check.is_some());
    let without = if idle { Severity::Warning } else { Severity::Ok };
    open.map(|info| info.alert.severity).chain([without]).max().unwrap_or(Severity::Ok)
}

fn lines(status: &Status, context: &Context) -> Vec<String> {
    let mut screen = Vec::new();
    let zone = context.zone();
    let daemon = match status.daemon_since {
        Some(since) => green(&format!("daemon up {}", human::span(status.at - since))),
        None => red("no daemon: nothing runs on schedule"),
    };
    put!(screen, "{} {}  {daemon}  {}", bold("pgbosun"), bold(&status.instance), dim(&moment(status.at, zone)));
    if let Some(paused) = &status.paused {
        put!(screen, "{}", yellow(&format!("all jobs are paused {paused}")));
    }
    if let Some(trouble) = &status.history.trouble {
        put!(screen, below 2, "{}", yellow(&format!("history has not been delivered {trouble}")));
    }
    if status.outbox > 0 {
        put!(screen, "{}", yellow(&format!("{} waiting to be sent", human::count(status.outbox, "message"))));
    }

    put!(screen, "\n{}", bold("ALERTS"));
    let pending = status.alerts.iter().filter(|info| info.alert.state == AlertState::Pending).count();
    if status.alerts.len() == pending {
        put!(screen, "  {}", green("none open"));
    }
    for info in status.alerts.iter().filter(|info| info.alert.state != AlertState::Pending) {
        let alert = &info.alert;
        let place = alert.cluster.as_deref().unwrap_or(&status.instance);
        let since =
            dim(&format!("since {} ({})", moment(alert.opened_at, zone), human::span(status.at - alert.opened_at)));
        put!(screen, below ALERT, "  {} {}: {}  {since}", severity(alert.severity), bold(place), human::line(&alert.summary));
        let acknowledged = alert.acknowledged.as_ref().map(|a| format!("acknowledged by {}: {}", a.by, a.reason));
        for line in info.muted.iter().chain(&acknowledged) {
            put!(screen, below ALERT + 2, "             {}", dim(line));
        }
    }
    if pending > 0 {
        put!(
            screen,
            "  {}",
            dim(&format!(
                "{} pending: not seen often enough yet to be reported",
                human::count(pending, "more problem")
            ))
        );
    }

    put!(screen, "\n{}", bold("CLUSTERS"));
    for cluster in &status.clusters {
        cluster::show(cluster, zone, &mut screen);
    }
    for reason in &status.unreadable {
        put!(screen, below 14, "  {} {}", red("not listed:"), first_line(reason));
    }

    if !status.running.is_empty() {
        put!(screen, "\n{}", bold("RUNNING"));
        for running in &status.running {
            let progress = match running.total {
                0 => String::new(),
                total => {
                    let percent = (100 * running.done / total).min(100);
                    format!("  {percent} %, {} of {}", human::size(running.done), human::size(total))
                }
            };
            put!(screen, "  {}  for {}{progress}", bold(&running.job), human::span(status.at - running.since));
            if !running.what.is_empty() {
                put!(screen, below 4, "    {}", dim(&in_words(&running.words())));
            }
        }
    }

    show_monitors(status, &mut screen);

    put!(screen, "\n{}", bold("LAST RUNS"));
    // Of monitors only what is wrong with them: what they found is above.
    let told = status.last.iter().filter(|run| !run.is_monitor() || run.state.is_failure());
    // What fails for the same reason is one line.
    let mut runs: Vec<(&Run, usize)> = Vec::new();
    for run in told {
        match runs.iter_mut().find(|(known, _)| run.is_monitor() && known.is_monitor() && known.summary == run.summary)
        {
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
    put!(screen, "{}", table(&LAST_RUNS, rows));

    let next = if status.daemon_since.is_some() { "NEXT" } else { "NEXT, once the daemon runs" };
    put!(screen, "\n{}", bold(next));
    for next in &status.next {
        let wait = human::span(next.at - status.at);
        let note = next.note.as_ref().map_or_else(String::new, |note| yellow(&format!("  {note}")));
        put!(screen, below 4, "  {}  {:<20} {}{note}", next.local, next.job, dim(&format!("in {wait}")));
    }
    screen
}

fn show_monitors(status: &Status, screen: &mut Vec<String>) {
    if status.monitors == 0 {
        return;
    }
    let monitors = || status.last.iter().filter(|run| run.is_monitor());
    let failed = monitors().filter(|run| run.state.is_failure()).count();
    let newest = monitors().filter_map(|run| run.finished_at).max().map_or_else(|| "never".into(), ago);
    let is_next = status.next_check.filter(|_| status.daemon_since.is_some() && status.paused.is_none());
    let next = is_next.map_or_else(String::new, |at| format!(", next in {}", human::span(at - status.at)));
    let trouble = if failed == 0 { String::new() } else { red(&format!(", {failed} failed")) };
    let have_run = match monitors().count() {
        0 => "none has run yet".to_owned(),
        count => format!("{count} have run{trouble}; last {newest}"),
    };
    put!(screen, "\n{}\n  {} in all, {have_run}{next}", bold("MONITORS"), status.monitors);
}

/// The first line of a text.
pub fn first_line(text: &str) -> String {
    text.lines().next().unwrap_or_default().to_owned()
}
