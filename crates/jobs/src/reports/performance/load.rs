//! Connections, indexes, locks, checkpoints, WAL, cache and growth.

use super::{About, Windows};
use crate::{
    JobError,
    reports::{
        activity::Activity,
        window::{Row, Window},
    },
};
use chrono::{DateTime, TimeDelta, Utc};
use pgbosun_core::{
    human,
    report::{Chart, ChartSeries, ChartUnit, KeyFigure, ReportSection, ReportTable},
    sample::{Frame, REST, Span, Topic},
};

/// Rows shown of a table.
const SHOWN: usize = 10;

fn section(title: &str, windows: &Windows) -> ReportSection {
    let note = windows.now.is_empty().then(|| {
        "There are no samples for this window yet: a job of kind sample takes them every five minutes.".to_owned()
    });
    ReportSection { note, ..ReportSection::new(title) }
}

/// A value of the one row of a frame.
fn one(frame: &Frame, topic: Topic, value: &str) -> Option<f64> {
    frame.rows().next().map(|(_, row)| row[topic.place(value)])
}

fn chart(
    name: &str,
    title: &str,
    unit: ChartUnit,
    windows: &Windows,
    of: impl Fn(&Window) -> Vec<(DateTime<Utc>, f64)>,
) -> Option<Chart> {
    let now = of(&windows.now);
    if now.len() < 2 {
        return None;
    }
    let mut series = vec![ChartSeries { name: "now".into(), points: now }];
    // What was before is drawn below what is now, moved to the same times.
    let mut before = of(&windows.before);
    if let (Some(first), Some(begin)) =
        (before.first().map(|point| point.0), series[0].points.first().map(|point| point.0))
    {
        let day = (begin - first).num_minutes().max(1);
        before.iter_mut().for_each(|point| point.0 += TimeDelta::minutes(day));
        series.push(ChartSeries { name: "previous window".into(), points: before });
    }
    Some(Chart { name: name.to_owned(), title: title.to_owned(), unit, series })
}

fn mean(value: &'static str) -> impl Fn(&Window) -> Option<f64> {
    move |window| window.row(Topic::Server).map(|row| row.mean(value))
}

fn most(value: &'static str) -> impl Fn(&Window) -> Option<f64> {
    move |window| window.row(Topic::Server).map(|row| row.get(value))
}

/// Connections.
pub(super) fn connections(windows: &Windows) -> ReportSection {
    let mut section = section("Connections", windows);
    section.figures.push(windows.figure("connections on average", ChartUnit::Number, mean("connections")));
    section.figures.push(windows.figure("highest seen", ChartUnit::Number, most("most_connections")));
    section.figures.push(windows.figure("active on average", ChartUnit::Number, mean("active")));
    section.figures.push(windows.figure(
        "idle in transaction on average",
        ChartUnit::Number,
        mean("idle_in_transaction"),
    ));
    section.figures.push(windows.figure("allowed (max_connections)", ChartUnit::Number, most("max_connections")));
    let sessions = |window: &Window| Some(window.total(Topic::Databases, "sessions"));
    section.figures.push(windows.figure("sessions started", ChartUnit::Number, sessions));
    let of = |window: &Window| {
        window.series(Topic::Server, |frame, _| {
            Some(one(frame, Topic::Server, "connections")? / one(frame, Topic::Server, "samples")?.max(1.0))
        })
    };
    section.charts.extend(chart("connections", "Connections", ChartUnit::Number, windows, of));
    section
}

/// Indexes and tables as they were read.
pub(super) fn indexes(windows: &Windows, activity: &Activity) -> ReportSection {
    let mut section = section("Indexes and tables", windows);
    let rank = |topic: Topic, value: &'static str| {
        let mut rows: Vec<Row<'_>> =
            windows.now.rows(topic).filter(|row| row.key[0] != REST && row.get(value) > 0.0).collect();
        rows.sort_by(|a, b| b.get(value).total_cmp(&a.get(value)));
        rows.truncate(SHOWN);
        rows
    };
    let scans = rank(Topic::Indexes, "scans");
    if let Some(first) = scans.first() {
        let mut used = ReportTable::new("Most read indexes", &["index", "scans", "rows", "blocks read"]);
        for row in &scans {
            let cells = [
                format!("{}: {} of {}", row.key[0], row.key[2], row.key[1]),
                human::number(row.get("scans")),
                human::number(row.get("rows")),
                human::number(row.get("read")),
            ];
            used.row(cells, Some(row.get("scans") / first.get("scans")));
        }
        section.tables.push(used);
    }
    let whole = rank(Topic::Tables, "seq_rows");
    if let Some(first) = whole.first() {
        let mut read =
            ReportTable::new("Tables read most by sequential scans", &["table", "scans", "rows read", "rows in it"]);
        for row in &whole {
            let cells = [
                format!("{}: {}", row.key[0], row.key[1]),
                human::number(row.get("seq_scans")),
                human::number(row.get("seq_rows")),
                human::number(row.get("live")),
            ];
            read.row(cells, Some(row.get("seq_rows") / first.get("seq_rows")));
        }
        section.tables.push(read);
    }
    let unused = activity.unused();
    if unused > 0 {
        section.note =
            Some(format!("{unused} unused {}: see Recommendations.", if unused == 1 { "index" } else { "indexes" }));
    }
    section
}

/// Locks and waits.
pub(super) fn locks(windows: &Windows) -> ReportSection {
    let mut section = section("Locks and waits", windows);
    section.figures.push(windows.figure("waiting for a lock on average", ChartUnit::Number, mean("waiting_for_locks")));
    section.figures.push(windows.figure("highest seen", ChartUnit::Number, most("most_waiting_for_locks")));
    let deadlocks = |window: &Window| Some(window.total(Topic::Databases, "deadlocks"));
    section.figures.push(windows.figure("deadlocks", ChartUnit::Number, deadlocks));
    let longest = |window: &Window| window.row(Topic::Server).map(|row| 1000.0 * row.get("longest_transaction_s"));
    section.figures.push(windows.figure("longest transaction", ChartUnit::Milliseconds, longest));
    let mut waits: Vec<Row<'_>> = windows.now.rows(Topic::Waits).collect();
    waits.sort_by(|a, b| b.get("seen").total_cmp(&a.get("seen")));
    let (all, before) = (windows.now.total(Topic::Waits, "seen"), windows.before.total(Topic::Waits, "seen"));
    if let Some(first) = waits.first() {
        let mut seen = ReportTable::new(
            "What active sessions did or waited for, by share of samples",
            &["type", "event", "share", "before"],
        );
        for row in waits.iter().take(SHOWN) {
            let known = windows.before.of(Topic::Waits, row.key).map_or(0.0, |row| row.get("seen"));
            let known = if before > 0.0 { format!("{:.0} %", 100.0 * known / before) } else { "unknown".into() };
            let cells =
                [row.key[0].clone(), row.key[1].clone(), format!("{:.0} %", 100.0 * row.get("seen") / all), known];
            seen.row(cells, Some(row.get("seen") / first.get("seen")));
        }
        section.tables.push(seen);
    }
    section
}

/// Checkpoints.
pub(super) fn checkpoints(windows: &Windows) -> ReportSection {
    let mut section = section("Checkpoints", windows);
    for (label, value, unit) in [
        ("timed", "checkpoints_timed", ChartUnit::Number),
        ("requested (by WAL volume or by hand)", "checkpoints_requested", ChartUnit::Number),
        ("writing", "checkpoint_write_ms", ChartUnit::Milliseconds),
        ("syncing", "checkpoint_sync_ms", ChartUnit::Milliseconds),
        ("buffers written by checkpoints", "buffers_checkpoint", ChartUnit::Number),
        ("by the background writer", "buffers_clean", ChartUnit::Number),
    ] {
        section.figures.push(windows.figure(label, unit, most(value)));
    }
    section
}

/// WAL.
pub(super) fn wal(windows: &Windows) -> ReportSection {
    let mut section = section("WAL", windows);
    section.figures.push(windows.figure("written", ChartUnit::Bytes, most("wal_bytes")));
    let rate =
        |window: &Window| window.row(Topic::Server).map(|row| 3600.0 * row.get("wal_bytes") / window.seconds.max(1.0));
    section.figures.push(windows.figure("written per hour", ChartUnit::Bytes, rate));
    section.figures.push(windows.figure("full-page images", ChartUnit::Number, most("wal_full_pages")));
    let of = |window: &Window| {
        window.series(Topic::Server, |frame, seconds| Some(3600.0 * one(frame, Topic::Server, "wal_bytes")? / seconds))
    };
    section.charts.extend(chart("wal", "WAL written per hour", ChartUnit::Bytes, windows, of));
    section
}

/// The share of blocks found in the server's buffers, percent.
pub(super) fn hit_ratio(window: &Window) -> Option<f64> {
    let (hit, read) = (window.total(Topic::Databases, "hit"), window.total(Topic::Databases, "read"));
    (hit + read > 0.0).then(|| 100.0 * hit / (hit + read))
}

/// The buffer cache, and who reads and writes.
pub(super) fn cache(windows: &Windows) -> ReportSection {
    let mut section = section("Buffer cache and I/O", windows);
    section.figures.push(windows.figure("found in the cache", ChartUnit::Percent, hit_ratio));
    section
        .figures
        .push(windows.figure("blocks read", ChartUnit::Number, |window| Some(window.total(Topic::Databases, "read"))));
    section.figures.push(
        windows
            .figure("temporary files", ChartUnit::Bytes, |window| Some(window.total(Topic::Databases, "temp_bytes"))),
    );
    let mut rows: Vec<Row<'_>> =
        windows.now.rows(Topic::Databases).filter(|row| row.get("read") + row.get("hit") > 0.0).collect();
    rows.sort_by(|a, b| b.get("read").total_cmp(&a.get("read")));
    if let Some(first) = rows.first() {
        let mut databases = ReportTable::new(
            "Databases",
            &["database", "commits", "rollbacks", "blocks read", "in the cache", "temporary"],
        );
        for row in rows.iter().take(SHOWN) {
            let (read, hit) = (row.get("read"), row.get("hit"));
            let cells = [
                row.key[0].clone(),
                human::number(row.get("commits")),
                human::number(row.get("rollbacks")),
                human::number(read),
                format!("{:.1} %", 100.0 * hit / (hit + read)),
                human::size(row.get("temp_bytes") as u64),
            ];
            databases.row(cells, Some(read / first.get("read").max(1.0)));
        }
        section.tables.push(databases);
    }
    let mut io: Vec<Row<'_>> =
        windows.now.rows(Topic::Io).filter(|row| row.get("reads") + row.get("writes") > 0.0).collect();
    io.sort_by(|a, b| (b.get("reads") + b.get("writes")).total_cmp(&(a.get("reads") + a.get("writes"))));
    if let Some(first) = io.first() {
        let all = |row: &Row<'_>| row.get("reads") + row.get("writes");
        let mut who =
            ReportTable::new("Who reads and writes (pg_stat_io)", &["who", "what", "how", "reads", "writes", "fsyncs"]);
        for row in io.iter().take(SHOWN) {
            let cells = [
                row.key[0].clone(),
                row.key[1].clone(),
                row.key[2].clone(),
                human::number(row.get("reads")),
                human::number(row.get("writes")),
                human::number(row.get("fsyncs")),
            ];
            who.row(cells, Some(all(row) / all(first)));
        }
        section.tables.push(who);
    }
    section
}

/// Growth over the last week, and when the disk is full.
pub(super) async fn growth(
    about: &About<'_>,
    windows: &Windows,
    to: DateTime<Utc>,
) -> Result<(ReportSection, Option<f64>), JobError> {
    let mut section = ReportSection::new("Growth");
    let (name, topic) = (about.cluster, Topic::Sizes);
    let hours = about.journal.samples(name, topic, Span::Hour, (to - TimeDelta::days(8), to)).await?;
    let days =
        about.journal.samples(name, topic, Span::Day, (to - TimeDelta::days(35), to - TimeDelta::days(8))).await?;
    let (Some(last), Some(first)) = (hours.last(), hours.first()) else {
        section.note = Some("Sizes are not known yet: they are measured once an hour.".into());
        return Ok((section, None));
    };
    let bytes = |frame: &Frame| frame.rows().filter(|(key, _)| key[1].is_empty()).map(|(_, row)| row[0]).sum::<f64>();
    let points: Vec<_> = days.iter().chain(&hours).map(|part| (part.at, bytes(&part.frame))).collect();
    let (elapsed, grown) = ((last.at - first.at).as_seconds_f64() / 86_400.0, bytes(&last.frame) - bytes(&first.frame));
    let per_day = if elapsed > 0.04 { grown / elapsed } else { 0.0 };
    let mut figure = |label: &str, value: String| section.figures.push(KeyFigure::new(label, value));
    figure("all databases", human::size(bytes(&last.frame) as u64));
    let sign = if per_day < 0.0 { "-" } else { "" };
    figure("growth per day", format!("{sign}{}", human::size(per_day.abs() as u64)));
    // Hours are no measure of what a day brings.
    let full = if elapsed >= 0.9 { days_to_full(windows, per_day) } else { None };
    if let Some(days) = full {
        figure("days until the disk is full, at this rate", format!("{days:.0}"));
    }
    let mut tables: Vec<_> = last
        .frame
        .rows()
        .filter(|(key, _)| !key[1].is_empty() && key[0] != REST)
        .map(|(key, row)| (key, row[0], first.frame.row(&[&key[0], &key[1]]).map(|row| row[0])))
        .collect();
    tables.sort_by(|a, b| b.1.total_cmp(&a.1));
    if let Some((_, largest, _)) = tables.first().cloned() {
        let title = format!("Largest tables, and their growth in {}", human::span(last.at - first.at));
        let mut list = ReportTable::new(&title, &["table", "size", "growth"]);
        for (key, bytes, before) in tables.into_iter().take(SHOWN) {
            let grown = before.map_or_else(
                || "new".into(),
                |before| {
                    let sign = if bytes < before { "-" } else { "" };
                    format!("{sign}{}", human::size((bytes - before).abs() as u64))
                },
            );
            list.row(
                [format!("{}: {}", key[0], key[1]), human::size(bytes as u64), grown],
                Some(bytes / largest.max(1.0)),
            );
        }
        section.tables.push(list);
    }
    if points.len() > 1 {
        let series = vec![ChartSeries { name: "all databases".into(), points }];
        section.charts.push(Chart {
            name: "size".into(),
            title: "Size of all databases".into(),
            unit: ChartUnit::Bytes,
            series,
        });
    }
    Ok((section, full))
}

/// Days until the disk of the data directory is full, where it is known and filling.
fn days_to_full(windows: &Windows, bytes_a_day: f64) -> Option<f64> {
    let free = windows.now.row(Topic::Host)?.get("disk_free");
    (free > 0.0 && bytes_a_day > 0.0).then(|| free / bytes_a_day)
}
