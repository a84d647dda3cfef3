//! Reports in the forms in which people get them: one self-contained page, a mail, text, and Markdown.
//!
//! Invariants: the page needs nothing from elsewhere; the mail stays below [`MAIL_LIMIT`], since some readers cut what is
//! longer, and says the same where pictures are blocked: bars are cells of tables.

mod charts;

use crate::render::environment;
use minijinja::{Value, context, value::Serde};
use pgbosun_core::{
    detail,
    finding::Severity,
    report::{Chart, Report, ReportKind, ReportSection},
};

pub use charts::{png, svg};

/// The most a mail's HTML may have, bytes.
pub const MAIL_LIMIT: usize = 90 << 10;
/// Rows of a table that a mail shows: of the long lists of a performance report, and of others.
const MAIL_ROWS: (usize, usize) = (5, 15);
/// Charts that a mail shows.
const MAIL_CHARTS: usize = 4;
/// Letters to which a column of a text is filled up at most.
const WIDEST: usize = 48;
/// Width and height of charts, pixels.
pub(crate) const SIZE: (u32, u32) = (760, 220);

const TEMPLATES: [(&str, &str); 4] = [
    ("report.html", include_str!("../templates/report.html")),
    ("report-mail.html", include_str!("../templates/report-mail.html")),
    ("report.txt", include_str!("../templates/report.txt")),
    ("report.md", include_str!("../templates/report.md")),
];

/// A report as a mail.
#[derive(Debug)]
pub struct ReportMail {
    /// The plain text.
    pub text: String,
    /// The HTML.
    pub html: String,
    /// Its pictures (PNG), by content id.
    pub pictures: Vec<(String, Vec<u8>)>,
}

/// The page: everything, with its charts in it.
pub fn page(report: &Report) -> String {
    render("report.html", report, usize::MAX, |section| {
        let drawn = |chart: &Chart| context! { title => chart.title.as_str(), svg => svg(chart, report.zone) };
        section.charts.iter().map(drawn).collect()
    })
}

/// The text: everything but charts.
pub fn text(report: &Report) -> String {
    render("report.txt", report, usize::MAX, |_| Vec::new())
}

/// The same as Markdown.
pub fn markdown(report: &Report) -> String {
    render("report.md", report, usize::MAX, |_| Vec::new())
}

/// The mail: what fits, and charts as pictures.
pub fn mail(report: &Report) -> ReportMail {
    let charts: Vec<_> = report.sections.iter().flat_map(|section| &section.charts).take(MAIL_CHARTS).collect();
    let pictures: Vec<_> =
        charts.iter().filter_map(|chart| Some((chart.name.clone(), png(&svg(chart, report.zone))?))).collect();
    let shown = |name: &str| pictures.iter().any(|(known, _)| known == name);
    let names = |section: &ReportSection| {
        let charts = section.charts.iter().filter(|chart| shown(&chart.name));
        charts.map(|chart| context! { title => chart.title.as_str(), name => chart.name.as_str() }).collect::<Vec<_>>()
    };
    let mut rows = if report.kind == ReportKind::Performance { MAIL_ROWS.0 } else { MAIL_ROWS.1 };
    loop {
        let html = render("report-mail.html", report, rows, names);
        if html.len() <= MAIL_LIMIT || rows == 0 {
            return ReportMail { text: render("report.txt", report, rows.max(1), |_| Vec::new()), html, pictures };
        }
        rows -= 1;
    }
}

fn render(
    template: &'static str,
    report: &Report,
    rows: usize,
    charts: impl Fn(&ReportSection) -> Vec<Value>,
) -> String {
    let mut environment = environment(true);
    for (name, source) in TEMPLATES {
        if let Err(error) = environment.add_template(name, source) {
            tracing::error!(template = name, "report template: {error}");
        }
    }
    let sections: Vec<_> = report.sections.iter().map(|section| values(section, rows, charts(section))).collect();
    let verdict: Vec<_> = report
        .verdict
        .iter()
        .map(|line| context! { severity => line.severity.as_str(), colour => colour(line.severity), text => line.text.as_str() })
        .collect();
    let values = context! {
        title => report.title.as_str(),
        kind => report.kind.as_str(),
        instance => report.instance.as_str(),
        window => report.window(),
        made => report.made_at.with_timezone(&report.zone).format("%Y-%m-%d %H:%M %Z").to_string(),
        verdict,
        sections,
    };
    let rendered = environment.get_template(template).and_then(|template| template.render(values));
    rendered.unwrap_or_else(|error| {
        tracing::error!(template, "report template: {error}");
        format!("{}\n{}\n", report.title, report.window())
    })
}

/// What templates know of a section, with at most so many rows of each table.
fn values(section: &ReportSection, rows: usize, charts: Vec<Value>) -> Value {
    let tables: Vec<_> = section
        .tables
        .iter()
        .map(|table| {
            let shown: Vec<_> = table
                .rows
                .iter()
                .take(rows)
                .map(|row| {
                    let bar = row.bar.map(|bar| (100.0 * bar).round().clamp(1.0, 100.0) as u32);
                    context! { cells => Serde(&row.cells), bar, severities => severities(&table.head, &row.cells) }
                })
                .collect();
            let cells: Vec<_> = table.rows.iter().take(rows).map(|row| row.cells.clone()).collect();
            let (figures, lines) = (detail::figures(&cells), detail::columns(&table.head, &cells, WIDEST));
            let lines: Vec<_> = lines.lines().filter(|_| !cells.is_empty()).map(str::to_owned).collect();
            let bars = table.rows.iter().any(|row| row.bar.is_some());
            let more = table.rows.len().saturating_sub(rows);
            context! { title => table.title.as_str(), head => Serde(&table.head), rows => shown, lines, bars, more, figures }
        })
        .collect();
    let figures: Vec<_> = section
        .figures
        .iter()
        .map(|figure| {
            context! {
                label => figure.label.as_str(),
                value => figure.value.as_str(),
                before => figure.before.as_deref(),
                week => figure.week.as_deref(),
                severity => figure.severity.as_str(),
                alarm => (figure.severity > Severity::Ok).then(|| colour(figure.severity)),
            }
        })
        .collect();
    let compared = section.figures.iter().any(|figure| figure.before.is_some());
    let weeks = section.figures.iter().any(|figure| figure.week.is_some());
    context! { title => section.title.as_str(), note => section.note.as_deref(), figures, compared, weeks, tables, charts }
}

/// How bad each cell of the columns is that say so.
fn severities(head: &[String], cells: &[String]) -> Vec<Option<Value>> {
    let severity = |cell: &str| match cell {
        "failed" | "damaged" => Some(Severity::Critical),
        "suspect" => Some(Severity::Warning),
        "succeeded" | "passed" | "verified" => Some(Severity::Ok),
        word => word.parse().ok(),
    };
    let told = |severity: Severity| context! { name => severity.as_str(), colour => colour(severity) };
    let columns = head.iter().zip(cells);
    columns
        .map(|(head, cell)| {
            severity(cell).filter(|_| ["severity", "state", "result"].contains(&head.as_str())).map(told)
        })
        .collect()
}

const fn colour(severity: Severity) -> &'static str {
    match severity {
        Severity::Ok => "#1a7f37",
        Severity::Warning => "#9a6700",
        Severity::Unknown => "#5c6b7a",
        Severity::Critical => "#c62828",
    }
}
