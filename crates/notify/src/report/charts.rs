//! Charts: drawn once as SVG, and as PNG where a mail needs one.

use super::SIZE;
use chrono::{DateTime, Utc};
use chrono_tz::Tz;
use pgbosun_core::report::{Chart, Unit};
use plotters::prelude::*;
use resvg::{
    tiny_skia::{Pixmap, Transform},
    usvg::{Options, Tree},
};
use std::sync::{Arc, OnceLock};

/// The lines: what the report is about, and what it is beside.
const COLOURS: [RGBColor; 3] = [RGBColor(0x1f, 0x6f, 0xb4), RGBColor(0xb0, 0xb8, 0xc0), RGBColor(0xd1, 0x6a, 0x1d)];
const INK: RGBColor = RGBColor(0x57, 0x60, 0x6a);
const GRID: RGBColor = RGBColor(0xe4, 0xe7, 0xea);
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
    let top = if chart.unit == Unit::Percent { (most * 1.1).clamp(1.0, 100.0) } else { (most * 1.1).max(1.0) };
    let root = SVGBackend::with_string(drawn, SIZE).into_drawing_area();
    root.fill(&WHITE)?;
    let mut area = ChartBuilder::on(&root)
        .margin(8)
        .x_label_area_size(24)
        .y_label_area_size(72)
        .build_cartesian_2d(local(begin)..local(end), 0.0..top)?;
    let long = (end - begin).num_hours() > 48;
    let time = |at: &DateTime<Utc>| at.format(if long { "%m-%d" } else { "%H:%M" }).to_string();
    let font = (FONT, 12).into_font().color(&INK);
    area.configure_mesh()
        .disable_x_mesh()
        .light_line_style(TRANSPARENT)
        .bold_line_style(GRID)
        .axis_style(GRID)
        .x_labels(8)
        .y_labels(5)
        .label_style(font.clone())
        .x_label_formatter(&time)
        .y_label_formatter(&|value| chart.unit.tell(*value))
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
