//! The verdict: what changed and what to do, in five lines at most, the worst first.

use super::{
    Windows,
    live::Live,
    load::hit_ratio,
    machine::busy,
    statements::{ranked, words},
};
use crate::reports::activity::Activity;
use chrono_tz::Tz;
use pgbosun_core::{finding::Severity, human, report::VerdictLine, sample::Topic};
use std::collections::BTreeMap;

/// Lines at most.
const MOST: usize = 5;
/// What counts as another day: by how much the time in statements may differ, and of how much it has to be about, ms.
const CHANGED: (f64, f64) = (1.5, 60_000.0);
/// Letters of a statement in a line.
const LETTERS: usize = 70;

/// What there is to say.
pub(super) fn of(
    windows: &Windows,
    (cluster, zone): (&str, Tz),
    texts: &BTreeMap<String, String>,
    live: &Live,
    activity: &Activity,
    days_to_full: Option<f64>,
) -> Vec<VerdictLine> {
    let mut lines = Vec::new();
    let mut say = |severity, text: String| lines.push(VerdictLine { severity, text });
    if let Some(reason) = &live.silent {
        say(Severity::Critical, format!("The server does not answer: {reason}."));
    }
    let open: Vec<_> = activity.open().collect();
    if let Some(worst) = open.iter().max_by_key(|alert| alert.severity) {
        let more = if open.len() > 1 { format!(" (and {} more open)", open.len() - 1) } else { String::new() };
        say(worst.severity, format!("Open alert: {}{more}.", worst.summary));
    }
    let outage = activity.outages(zone, |_| true).into_iter().take(1);
    for line in activity.missing_backup(cluster).into_iter().chain(outage).chain(activity.failures(|_| true)) {
        say(line.severity, line.text);
    }
    if let Some(days) = days_to_full.filter(|days| *days < 60.0) {
        let severity = if days < 14.0 { Severity::Critical } else { Severity::Warning };
        say(severity, format!("At this rate the disk will be full in {days:.0} days: free up space or remove data."));
    }
    if windows.now.is_empty() {
        say(Severity::Warning, "There are no samples for this window: what the server did is unknown.".into());
    } else {
        changes(windows, texts, &mut say);
    }
    lines.sort_by_key(|line: &VerdictLine| std::cmp::Reverse(line.severity));
    lines.truncate(MOST);
    if lines.is_empty() {
        lines.push(VerdictLine::new(Severity::Ok, "Nothing changed that needs attention."));
    }
    lines
}

/// What was otherwise than in the window before.
fn changes(windows: &Windows, texts: &BTreeMap<String, String>, say: &mut impl FnMut(Severity, String)) {
    let (now, before) = (&windows.now, &windows.before);
    let connections = now.row(Topic::Server).map(|row| (row.get("most_connections"), row.get("max_connections")));
    if let Some((most, allowed)) = connections.filter(|(most, allowed)| *most > 0.8 * allowed) {
        say(
            Severity::Warning,
            format!(
                "{most:.0} of {allowed:.0} connections were in use: raise max_connections, or use a connection pooler."
            ),
        );
    }
    let deadlocks = now.total(Topic::Databases, "deadlocks");
    if deadlocks > 0.0 {
        let text =
            format!("{}: the server's log names who waited for whom.", human::count(deadlocks as usize, "deadlock"));
        say(Severity::Warning, text);
    }
    if let Some(busy) = busy(now).filter(|busy| *busy > 80.0) {
        say(Severity::Warning, format!("The processors were busy {busy:.0} % of the time."));
    }
    if before.is_empty() {
        return;
    }
    // Rates, so that windows of different length compare.
    let rate =
        |window: &crate::reports::window::Window, topic, value| window.total(topic, value) / window.seconds.max(1.0);
    let (time, was) = (rate(now, Topic::Statements, "time_ms"), rate(before, Topic::Statements, "time_ms"));
    let all = now.total(Topic::Statements, "time_ms").max(before.total(Topic::Statements, "time_ms"));
    if was > 0.0 && all > CHANGED.1 && (time > CHANGED.0 * was || time * CHANGED.0 < was) {
        let grown = |row: &crate::reports::window::Row<'_>| {
            row.get("time_ms") / now.seconds.max(1.0)
                - before.of(Topic::Statements, row.key).map_or(0.0, |row| row.get("time_ms") / before.seconds.max(1.0))
        };
        let cause = ranked(now, "time_ms").into_iter().max_by(|a, b| grown(a).total_cmp(&grown(b)));
        let cause = cause.filter(|row| time > was && grown(row) > 0.0);
        let cause =
            cause.map_or_else(String::new, |row| format!(", mostly because of: {}", words(texts, &row, LETTERS)));
        say(
            Severity::Warning,
            format!("Statements took {:.1} times as long as in the window before{cause}.", time / was),
        );
    }
    if let (Some(hit), Some(was)) = (hit_ratio(now), hit_ratio(before))
        && hit < was - 5.0
    {
        say(
            Severity::Warning,
            format!(
                "Only {hit:.1} % of the blocks were in the cache, {was:.1} % before: see which statements read the most."
            ),
        );
    }
    let (wal, was) = (rate(now, Topic::Server, "wal_bytes"), rate(before, Topic::Server, "wal_bytes"));
    if wal > 2.0 * was && now.total(Topic::Server, "wal_bytes") > 1e9 {
        say(
            Severity::Warning,
            format!("{:.1} times as much WAL as before: the archive grows with it.", wal / was.max(1.0)),
        );
    }
}
