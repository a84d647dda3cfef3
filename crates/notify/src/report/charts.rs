//! Charts: drawn once as SVG, and as PNG where a mail needs one.

use super::SIZE;
use chrono::{DateTime, Utc};
use chrono_tz::Tz;
use pgbosun_core::report::{Chart, ChartUnit};
use plotters::{
    coord::ranged1d::{DefaultFormatting, KeyPointHint},
    prelude::*,
};
use resvg::{
    tiny_skia::{Pixmap, Transform},
    usvg::{Options, Tree},
};
use std::sync::{Arc, OnceLock};

/// The lines: what the report is about, and what it is beside.
const COLOURS: [RGBColor; 3] = [RGBColor(0x1f, 0x6f, 0xb4), RGBColor(0xb0, 0xb8, 0xc0), RGBColor(0xd1, 0x6a, 0x1d)];
const INK: RGBColor = RGBColor(0x57, 0x60, 0x6a);
const GRID: RGBColor = RGBColor(0xe4, 0xe7, 0xea);
/// The most marks that an axis of values has above nothing.
const MARKS: f64 = 5.0;
/// The family of the font that comes along.
const FONT: &str = "Ubuntu";

/// The chart as SVG, with times in this zone; a picture without lines where it cannot be drawn.
pub fn svg(chart: &Chart, zone: Tz) -> String {
    let mut drawn = String::new();
    if let Err(error) = draw(chart, zone, &mut drawn) {
        tracing::error!(chart = chart.name, "cannot be drawn: {error}");
    }
    // Who looks at the page may not have the font.
    drawn.replace(&format!("font-family=\"{FONT}\""), &format!("font-family=\"{FONT}, sans-serif\""))
}

fn draw(chart: &Chart, zone: Tz, drawn: &mut String) -> Result<(), Box<dyn std::error::Error>> {
    let points = || chart.series.iter().flat_map(|series| &series.points);
    let begin = points().map(|point| point.0).min().unwrap_or_default();
    let end = points().map(|point| point.0).max().unwrap_or_default().max(begin + chrono::TimeDelta::minutes(1));
    // The wall's time, so that marks are at its whole hours.
    let local = |at: DateTime<Utc>| at.with_timezone(&zone).naive_local().and_utc();
    let most = points().map(|point| point.1).fold(0.0, f64::max);
    let values = value_marks(chart.unit, most);
    let top = values.last().copied().unwrap_or(1.0).max(if chart.unit == ChartUnit::Percent {
        (most * 1.02).min(100.0)
    } else {
        most
    });
    let root = SVGBackend::with_string(drawn, SIZE).into_drawing_area();
    root.fill(&WHITE)?;
    let mut area = ChartBuilder::on(&root)
        .margin(8)
        // Half of a label stands beyond the last mark.
        .margin_top(14)
        .margin_right(30)
        .x_label_area_size(24)
        .y_label_area_size(72)
        .build_cartesian_2d(
            (local(begin)..local(end)).with_key_points(time_marks(local(begin), local(end))),
            Values { top, marks: values },
        )?;
    let long = (end - begin).num_hours() > 48;
    let time = |at: &DateTime<Utc>| at.format(if long { "%m-%d" } else { "%H:%M" }).to_string();
    let font = (FONT, 12).into_font().color(&INK);
    area.configure_mesh()
        .disable_x_mesh()
        .light_line_style(TRANSPARENT)
        .bold_line_style(GRID)
        .axis_style(GRID)
        .x_labels(12)
        .y_labels(12)
        .label_style(font.clone())
        .x_label_formatter(&time)
        .y_label_formatter(&|value| chart.unit.format(*value))
        .draw()?;
    // What it is about lies above what it is beside.
    for (number, series) in chart.series.iter().enumerate().rev() {
        let colour = COLOURS[number.min(COLOURS.len() - 1)];
        let line = || series.points.iter().map(|(at, value)| (local(*at), *value));
        if number == 0 {
            area.draw_series(AreaSeries::new(line(), 0.0, colour.mix(0.12)))?;
        }
        area.draw_series(LineSeries::new(line(), colour.stroke_width(if number == 0 { 2 } else { 1 })))?;
    }
    if chart.series.len() > 1 {
        for (number, series) in chart.series.iter().enumerate() {
            let (x, y) = (90 + 140 * i32::try_from(number).unwrap_or_default(), 6);
            let colour = COLOURS[number.min(COLOURS.len() - 1)];
            root.draw(&Rectangle::new([(x, y + 2), (x + 10, y + 12)], colour.filled()))?;
            root.draw(&Text::new(series.name.clone(), (x + 15, y), font.clone()))?;
        }
    }
    root.present()?;
    Ok(())
}

/// The axis of values, which has its marks where it is told.
struct Values {
    top: f64,
    marks: Vec<f64>,
}

impl Ranged for Values {
    type FormatOption = DefaultFormatting;
    type ValueType = f64;

    fn map(&self, value: &f64, limit: (i32, i32)) -> i32 {
        limit.0 + (f64::from(limit.1 - limit.0) * value / self.top).round() as i32
    }

    fn key_points<Hint: KeyPointHint>(&self, _: Hint) -> Vec<f64> {
        self.marks.clone()
    }

    fn range(&self) -> std::ops::Range<f64> {
        0.0..self.top
    }
}

/// Where the axis of values has its marks, from nothing to above the most: at figures that are round in the unit people read.
fn value_marks(unit: ChartUnit, most: f64) -> Vec<f64> {
    // A minute has 60 seconds, a KiB 1024 bytes: each step is round in one of these.
    let bases: &[f64] = match unit {
        ChartUnit::Bytes => &[1.0, 1024.0, 1_048_576.0, 1_073_741_824.0, 1_099_511_627_776.0, 1_125_899_906_842_624.0],
        ChartUnit::Milliseconds => &[0.01, 1.0, 1000.0, 60_000.0, 3_600_000.0, 86_400_000.0],
        ChartUnit::Number | ChartUnit::Percent => &[0.01],
    };
    let most = if unit == ChartUnit::Percent { most.min(100.0) } else { most };
    let most = most.max(if unit == ChartUnit::Milliseconds { 0.01 } else { 1.0 });
    let base = bases.iter().copied().rfind(|base| *base * 2.0 <= most).unwrap_or(bases[0]);
    let decades = (0..18).flat_map(|power| [1.0, 2.0, 5.0].map(|digit| digit * 10_f64.powi(power)));
    let limit = if unit == ChartUnit::Percent { 100.0 } else { f64::INFINITY };
    let step = decades.map(|times| base * times).find(|step| step * MARKS >= most).unwrap_or(most);
    let last = (most / step).ceil();
    let marks = (0..=64).map(f64::from).take_while(|number| *number <= last).map(|number| number * step);
    marks.filter(|mark| *mark <= limit).collect()
}

/// Where the axis of time has its marks: at whole minutes, hours or days of the wall.
fn time_marks(begin: DateTime<Utc>, end: DateTime<Utc>) -> Vec<DateTime<Utc>> {
    const MINUTES: [i64; 18] = [
        1,
        2,
        5,
        10,
        15,
        30,
        60,
        120,
        180,
        360,
        720,
        1440,
        2880,
        7 * 1440,
        14 * 1440,
        28 * 1440,
        91 * 1440,
        364 * 1440,
    ];
    let minutes = (end - begin).num_minutes().max(1);
    let step = MINUTES.into_iter().find(|step| minutes / step <= 8).unwrap_or(364 * 1440) * 60;
    let first = begin.timestamp().div_euclid(step) + 1;
    let marks = (first..first + 10).filter_map(|number| DateTime::from_timestamp(number * step, 0));
    marks.take_while(|at| *at <= end).collect()
}

/// A picture of an SVG that this module drew, twice as fine as it is large.
pub fn png(svg: &str) -> Option<Vec<u8>> {
    static OPTIONS: OnceLock<Options<'static>> = OnceLock::new();
    let options = OPTIONS.get_or_init(|| {
        let mut options = Options { font_family: FONT.into(), ..Options::default() };
        options
            .fontdb_mut()
            .load_font_source(resvg::usvg::fontdb::Source::Binary(Arc::new(epaint_default_fonts::UBUNTU_LIGHT)));
        options
    });
    let tree = Tree::from_str(svg, options).ok()?;
    let mut picture = Pixmap::new(2 * SIZE.0, 2 * SIZE.1)?;
    resvg::render(&tree, Transform::from_scale(2.0, 2.0), &mut picture.as_mut());
    picture.encode_png().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn marks_are_at_round_figures() {
        let told = |unit: ChartUnit, most: f64| {
            value_marks(unit, most).iter().map(|mark| unit.format(*mark)).collect::<Vec<_>>()
        };
        assert_eq!(told(ChartUnit::Bytes, 3.4e9), ["0 B", "1.0 GiB", "2.0 GiB", "3.0 GiB", "4.0 GiB"]);
        assert_eq!(told(ChartUnit::Bytes, 700.0), ["0 B", "200 B", "400 B", "600 B", "800 B"]);
        assert_eq!(told(ChartUnit::Milliseconds, 200_000.0), ["0.00 ms", "1 min", "2 min", "3 min", "4 min"]);
        assert_eq!(told(ChartUnit::Percent, 99.0).last().unwrap(), "100.0 %");
        assert_eq!(told(ChartUnit::Number, 0.0), ["0", "0.20", "0.40", "0.60", "0.80", "1"]);
        for unit in [ChartUnit::Number, ChartUnit::Bytes, ChartUnit::Percent, ChartUnit::Milliseconds] {
            for most in [0.0, 0.3, 7.0, 99.9, 12_345.0, 1e9, 1e15] {
                let marks = value_marks(unit, most);
                let enough = unit == ChartUnit::Percent || *marks.last().unwrap() >= most;
                assert!((2..=12).contains(&marks.len()) && enough, "{unit:?} {most}: {marks:?}");
            }
        }
        let at = |text: &str| format!("2026-11-21T{text}:00Z").parse::<DateTime<Utc>>().unwrap();
        let marks = time_marks(at("08:20"), at("14:10"));
        let expected = ["09:00", "10:00", "11:00", "12:00", "13:00", "14:00"].map(at);
        assert_eq!(marks, expected);
    }
}
