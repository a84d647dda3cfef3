//! The machine, where the server runs on this one.

use super::{Windows, live::Live};
use crate::reports::window::Window;
use pgbosun_core::{
    report::{Chart, ChartSeries, ChartUnit, ReportSection},
    sample::{Frame, Topic},
};

/// The share of processor time that was used, percent.
pub(super) fn busy(window: &Window) -> Option<f64> {
    let row = window.row(Topic::Host)?;
    (row.get("ticks") > 0.0).then(|| 100.0 * (row.get("busy_ticks") + row.get("stolen_ticks")) / row.get("ticks"))
}

/// The section.
pub(super) fn section(windows: &Windows, live: &Live) -> ReportSection {
    let mut section = ReportSection::new("Machine");
    if windows.now.row(Topic::Host).is_none() {
        section.note = Some(match (windows.now.is_empty(), &live.about) {
            (true, _) => "There are no samples for this window yet.".into(),
            _ => "Nothing is known about the machine: this needs pgbosun on the server's own host, and data-directory \
                  configured."
                .into(),
        });
        return section;
    }
    let row = |of: fn(&crate::reports::window::Row<'_>) -> f64| {
        move |window: &Window| window.row(Topic::Host).map(|row| of(&row))
    };
    let share = |part: &'static str| {
        move |window: &Window| window.row(Topic::Host).map(|row| 100.0 * row.get(part) / row.get("ticks").max(1.0))
    };
    section.figures.push(windows.figure("processors busy", ChartUnit::Percent, busy));
    section.figures.push(windows.figure("waiting for disks", ChartUnit::Percent, share("waiting_ticks")));
    section.figures.push(windows.figure("load on average", ChartUnit::Number, row(|row| row.mean("load"))));
    section.figures.push(windows.figure("highest 5-minute load", ChartUnit::Number, row(|row| row.get("most_load"))));
    section.figures.push(windows.figure(
        "memory used on average",
        ChartUnit::Bytes,
        row(|row| row.mean("memory_used")),
    ));
    section.figures.push(windows.figure("memory", ChartUnit::Bytes, row(|row| row.get("memory"))));
    section.figures.push(windows.figure("read from disks", ChartUnit::Bytes, row(|row| row.get("disk_read_bytes"))));
    section.figures.push(windows.figure(
        "written to disks",
        ChartUnit::Bytes,
        row(|row| row.get("disk_written_bytes")),
    ));
    section.figures.push(windows.figure("free on the data disk", ChartUnit::Bytes, row(|row| row.get("disk_free"))));
    let of = |frame: &Frame, _: f64| {
        let (_, row) = frame.rows().next()?;
        let at = |value: &str| row[Topic::Host.place(value)];
        (at("ticks") > 0.0).then(|| 100.0 * (at("busy_ticks") + at("stolen_ticks")) / at("ticks"))
    };
    let points = windows.now.series(Topic::Host, of);
    if points.len() > 1 {
        let series = vec![ChartSeries { name: "busy".into(), points }];
        section.charts.push(Chart {
            name: "processors".into(),
            title: "Processors busy".into(),
            unit: ChartUnit::Percent,
            series,
        });
    }
    section
}
