//! Messages as mails: plain text and HTML, from templates that the operator can replace.
//!
//! Invariants: a template of the operator's that is wrong costs no message; a mail about alerts is no larger than [`LIMIT`], however
//! many there are and whatever they say, and says what it leaves out.

use crate::{
    bulletin::{Attached, Bulletin, Item},
    channels::shortened,
    report,
};
use chrono_tz::Tz;
use minijinja::{Environment, Value, context, escape_formatter, syntax::SyntaxConfig};
use pgbosun_core::{
    alert::Notice,
    detail::{Detail, Part, cells, figures},
    finding::Severity,
    human,
    report::Report,
};
use std::{borrow::Cow, path::Path};

/// What a mail about alerts may be, in bytes as they are sent: what mail servers and people take without a thought.
const LIMIT: usize = 190_000;
/// Alerts that a mail shows whole; it has a line for each of the others.
const WHOLE: usize = 20;
/// Lines and rows of an alert's detail that a mail shows; the whole is attached where there are more.
const LINES: usize = 25;
/// The most characters of one of these lines, and of a summary.
const WIDTH: usize = 300;
/// The picture of the test message.
const TICK: &[u8] = include_bytes!("../pictures/tick.png");

/// A file that goes with a mail.
pub(crate) struct File {
    pub name: String,
    pub kind: &'static str,
    pub bytes: Vec<u8>,
}

/// A message in the words of a mail.
pub(crate) struct Rendered {
    pub text: String,
    pub html: String,
    /// Shown in the HTML, by their names.
    pub pictures: Vec<File>,
    pub attachments: Vec<File>,
}

/// Renders messages.
#[derive(Debug)]
pub(crate) struct Renderer {
    templates: Environment<'static>,
    /// The operator's own that know nothing of alerts they are not given.
    older: Vec<&'static str>,
}

const TEMPLATES: [(&str, &str); 2] = [
    ("message.html", include_str!("../templates/message.html")),
    ("message.txt", include_str!("../templates/message.txt")),
];

/// A severity's colour and that of the text on it: red, yellow, grey-blue, green. Text and ground come together, so that
/// they keep their contrast whatever a dark mode makes of the rest.
const fn colours(severity: Severity) -> (&'static str, &'static str) {
    match severity {
        Severity::Ok => ("#1a7f37", "#ffffff"),
        Severity::Critical => ("#c62828", "#ffffff"),
        Severity::Warning => ("#f5c518", "#1f2328"),
        Severity::Unknown => ("#5c6b7a", "#ffffff"),
    }
}

/// An environment in which whatever is written is text: what it holds of strangers moves no cursor (C44).
pub(crate) fn environment(keep_line_end: bool) -> Environment<'static> {
    let mut environment = Environment::new();
    let syntax =
        SyntaxConfig::builder().trim_blocks(true).lstrip_blocks(true).keep_trailing_newline(keep_line_end).build();
    environment.set_syntax(syntax.unwrap_or_default());
    environment.set_formatter(|out, state, value| match value.as_str().map(human::plain) {
        Some(Cow::Owned(plain)) if value.is_safe() => escape_formatter(out, state, &Value::from_safe_string(plain)),
        Some(Cow::Owned(plain)) => escape_formatter(out, state, &Value::from(plain)),
        _ => escape_formatter(out, state, value),
    });
    environment
}

impl Renderer {
    /// With the built-in templates, each replaced by the file of its name in `directory` where there is one that parses.
    pub fn new(directory: &Path) -> Self {
        let (mut templates, mut older) = (environment(false), Vec::new());
        for (name, built_in) in TEMPLATES {
            let own = std::fs::read_to_string(directory.join(name)).ok();
            older.extend(own.as_ref().filter(|own| !own.contains("unlisted")).map(|_| name));
            let replaced = own.is_some_and(|own| match templates.add_template_owned(name, own) {
                Ok(()) => true,
                Err(error) => {
                    tracing::error!(template = name, "mail template is not valid, using the built-in one: {error}");
                    false
                }
            });
            if !replaced && let Err(error) = templates.add_template(name, built_in) {
                tracing::error!(template = name, "built-in mail template: {error}");
            }
        }
        Self { templates, older }
    }

    /// The mail that tells this, with attachments of at most so many bytes together.
    pub fn render(&self, bulletin: &Bulletin, attachment_limit: u64) -> Rendered {
        if let Some(attached) = &bulletin.report {
            return carried(attached, attachment_limit);
        }
        let (mut whole, mut listed) = (WHOLE, usize::MAX);
        loop {
            let mut rendered = self.alerts(bulletin, whole, listed, 0);
            let size = sent(&rendered.text) + sent(&rendered.html);
            if size <= LIMIT || (whole, listed) == (1, 0) {
                // In base64 three bytes are four, and a line end.
                let room = LIMIT.saturating_sub(size) as u64 / 37 * 27;
                if bulletin.items.iter().any(|item| lines_beyond(item) > 0) {
                    rendered = self.alerts(bulletin, whole, listed, room.min(attachment_limit));
                }
                return rendered;
            }
            match whole {
                1 => listed = listed.min(bulletin.items.len()) / 2,
                _ => whole /= 2,
            }
        }
    }

    /// The mail with so many alerts as they are and a line for each of so many others.
    fn alerts(&self, bulletin: &Bulletin, whole: usize, listed: usize, attachment_limit: u64) -> Rendered {
        let mut attachments = Vec::new();
        let mut left = attachment_limit;
        let count = bulletin.items.len();
        let brief: Vec<_> = bulletin.items.iter().skip(whole).take(listed).map(|item| brief(bulletin, item)).collect();
        let unlisted = count.saturating_sub(whole).saturating_sub(brief.len());
        let items: Vec<_> = bulletin
            .items
            .iter()
            .take(whole)
            .map(|item| {
                let more = Some(lines_beyond(item)).filter(|count| *count > 0).map(|count| {
                    let file = attachment(bulletin, item);
                    let size = file.bytes.len() as u64;
                    if size <= left {
                        left -= size;
                        let words = format!("{} attached as {}.", human::count(count, "more line"), file.name);
                        attachments.push(file);
                        words
                    } else {
                        let lines = human::count(count, "more line");
                        format!("{lines} left out to keep this mail small: \"pgbosun alert show\" prints everything.")
                    }
                });
                values(bulletin, item, more)
            })
            .collect();
        let subject = bulletin.subject();
        let note = bulletin.note.clone().unwrap_or_default();
        let (tally, instance) = (tally(bulletin), bulletin.instance.as_str());
        let values = context! { subject, note, tally, instance, items, brief, unlisted, count, group => bulletin.group.as_str() };
        let render = |name: &str| {
            let rendered = self.templates.get_template(name).and_then(|template| template.render(&values));
            let rendered = rendered.unwrap_or_else(|error| {
                tracing::error!(template = name, "mail template failed: {error}");
                plain(bulletin)
            });
            // What it leaves out is said, whoever wrote it.
            let more = count.saturating_sub(whole);
            if more > 0 && self.older.contains(&name) {
                return format!("{rendered}\n{more} more: \"pgbosun alert list\" shows all of them.\n");
            }
            rendered
        };
        let tick = || File { name: "tick".into(), kind: "image/png", bytes: TICK.to_vec() };
        let pictures = bulletin.items.iter().any(|item| item.notice == Notice::Test).then(tick);
        Rendered {
            text: render("message.txt"),
            html: render("message.html"),
            pictures: pictures.into_iter().collect(),
            attachments,
        }
    }
}

/// A report as a mail, with its page beside it.
fn carried(attached: &Attached, attachment_limit: u64) -> Rendered {
    let read = std::fs::read(&attached.path).map_err(|error| error.to_string());
    let report: Result<Report, _> =
        read.and_then(|bytes| serde_json::from_slice(&bytes).map_err(|error| error.to_string()));
    let report = match report {
        Ok(report) => report,
        // Whoever waits for it hears at least what it said.
        Err(error) => {
            let text = format!(
                "{}\n\nThe report itself cannot be read: {}: {error}\n",
                attached.headline,
                attached.path.display()
            );
            let html = format!("<pre>{}</pre>", text.replace('&', "&amp;").replace('<', "&lt;"));
            return Rendered { text, html, pictures: Vec::new(), attachments: Vec::new() };
        }
    };
    let mail = report::mail(&report);
    let page = report::page(&report).into_bytes();
    let fits = page.len() as u64 <= attachment_limit;
    let name = format!("{}.html", report.file_stem());
    let page = fits.then_some(File { name, kind: "text/html", bytes: page });
    let pictures = mail.pictures.into_iter().map(|(name, bytes)| File { name, kind: "image/png", bytes });
    Rendered { text: mail.text, html: mail.html, pictures: pictures.collect(), attachments: page.into_iter().collect() }
}

/// What templates know of an alert.
fn values(bulletin: &Bulletin, item: &Item, more: Option<String>) -> Value {
    let alert = &item.alert;
    let (colour, ink) = colours(item.severity());
    // Nobody needs the lines of what is over.
    let most = if item.notice == Notice::Resolved { 0 } else { LINES };
    let shown = alert.detail.first(most).map(|text| {
        let lines: Vec<_> = text.lines().map(|line| shortened(line, WIDTH)).collect();
        lines.join("\n")
    });
    let (facts, parts) = parts(&shown, bulletin.zone);
    // What templates of earlier versions know: facts, and everything else as lines.
    let lines: Vec<String> = shown.without_facts().told(bulletin.zone).lines().map(str::to_owned).collect();
    context! {
        colour, ink, facts, lines, parts, more,
        word => item.word(),
        place => bulletin.place(alert),
        notice => item.notice.as_str(),
        summary => shortened(&alert.summary, WIDTH),
        meaning => alert.meaning.as_str(),
        advice => alert.advice.as_str(),
        since => bulletin.moment(alert.opened_at),
        resolution => alert.resolution.as_deref().map(|reason| shortened(reason, WIDTH)),
        until => alert.resolved_at.map(|at| bulletin.moment(at)),
        lasted => human::span(alert.resolved_at.unwrap_or(bulletin.at) - alert.opened_at),
        picture => (item.notice == Notice::Test).then_some("tick"),
        job => alert.job.as_str(),
        alert_id => alert.id.to_string(),
        run_id => alert.run_id.map(|id| id.to_string()),
    }
}

/// The facts of a detail, label and value, and its other parts as templates know them.
fn parts(detail: &Detail, zone: Tz) -> (Vec<(String, String)>, Vec<Value>) {
    let (mut facts, mut others) = (Vec::new(), Vec::new());
    for part in detail.parts() {
        match part {
            Part::Fact { label, value } => facts.push((label.clone(), value.words(zone))),
            Part::Table { head, rows } => {
                let (rows, lines) = (cells(rows, zone), part.told(zone));
                let figures = figures(&rows);
                others.push(context! { head, rows, figures, lines });
            }
            Part::Text(text) => others.push(context! { text }),
        }
    }
    (facts, others)
}

/// What templates know of an alert that has a line.
fn brief(bulletin: &Bulletin, item: &Item) -> Value {
    let (colour, ink) = colours(item.severity());
    context! {
        colour, ink,
        word => item.word(),
        place => bulletin.place(&item.alert),
        summary => shortened(&item.alert.summary, WIDTH / 2),
    }
}

/// How many bytes of a mail a text becomes: quoted-printable has three for what is no plain character, and line ends of its own.
fn sent(text: &str) -> usize {
    let plain = text.bytes().filter(|byte| byte.is_ascii() && *byte != b'=').count();
    (plain + 3 * (text.len() - plain)) * 78 / 75
}

/// How many lines of the detail a mail does not show, where they matter.
fn lines_beyond(item: &Item) -> usize {
    if item.notice == Notice::Resolved { 0 } else { item.alert.detail.lines().saturating_sub(LINES) }
}

fn attachment(bulletin: &Bulletin, item: &Item) -> File {
    let id = item.alert.id.simple().to_string();
    let name = format!("alert-{}.txt", &id[id.len() - 8..]);
    File { name, kind: "text/plain; charset=utf-8", bytes: item.alert.detail.told(bulletin.zone).into_bytes() }
}

/// How many of each sort: `: 2 critical, 1 resolved`.
fn tally(bulletin: &Bulletin) -> String {
    let mut counts: Vec<(String, usize)> = Vec::new();
    for word in bulletin.items.iter().map(|item| item.word().to_lowercase()) {
        match counts.iter_mut().find(|(known, _)| *known == word) {
            Some((_, count)) => *count += 1,
            None => counts.push((word, 1)),
        }
    }
    let counts: Vec<_> = counts.iter().map(|(word, count)| format!("{count} {word}")).collect();
    format!(": {}", counts.join(", "))
}

/// Without any template.
fn plain(bulletin: &Bulletin) -> String {
    let items = bulletin.items.iter().map(|Item { alert, .. }| {
        format!(
            "{}: {}\n{}\n{}\n\n{}",
            bulletin.place(alert),
            alert.summary,
            alert.meaning,
            alert.advice,
            alert.detail.told(bulletin.zone)
        )
    });
    [bulletin.subject()].into_iter().chain(items).collect::<Vec<_>>().join("\n\n")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bulletin::samples::bulletin;

    fn rendered(bulletin: &Bulletin) -> Rendered {
        Renderer::new(Path::new("/nonexistent")).render(bulletin, 1000)
    }

    #[test]
    fn the_text_says_what_since_when_what_it_means_and_what_to_do() {
        insta::assert_snapshot!(rendered(&bulletin(Notice::Opened)).text, @r#"
        main: backup is 27 h old (limit 25 h), since 2026-11-21 12:00:00 CET. Whatever changed since the newest backup is lost if the server is. Run "pgbosun job run full-backup".

        newest:    <20261120T090000Z-full>
        finished:  2026-11-20 10:00:07 CET

        Severity:  CRITICAL
        Job:       backup-age
        Host:      db1
        Alert:     00000000-0000-0000-0000-000000000000
        "#);
        let resolved = rendered(&bulletin(Notice::Resolved)).text;
        assert!(resolved.starts_with("main: resolved after 1 h: backup is 27 h old"), "{resolved}");
    }

    #[test]
    fn several_alerts_are_counted_first() {
        let mut both = bulletin(Notice::Opened);
        both.items.extend(bulletin(Notice::Resolved).items);
        both.note = Some("A note.".into());
        let text = rendered(&both).text;
        assert!(text.starts_with("2 alerts: 1 critical, 1 resolved. A note.\n\nmain: backup is"), "{text}");
        assert!(text.contains("\n-----") && text.contains("resolved after 1 h"), "{text}");
    }

    #[test]
    fn html_is_escaped_and_coloured() {
        let html = rendered(&bulletin(Notice::Opened)).html;
        assert!(html.contains("&lt;20261120T090000Z-full&gt;") && html.contains("#c62828"), "{html}");
        assert!(rendered(&bulletin(Notice::Resolved)).html.contains("#1a7f37"));
    }

    #[test]
    fn a_long_detail_is_attached_unless_it_is_too_long() {
        let mut long = bulletin(Notice::Opened);
        long.items[0].alert.detail = "a line\n".repeat(100).into();
        let mail = rendered(&long);
        assert_eq!((mail.attachments.len(), mail.text.matches("a line").count()), (1, 25));
        assert!(mail.text.contains("75 more lines attached as alert-00000000.txt."), "{}", mail.text);
        long.items[0].alert.detail = "a line\n".repeat(1000).into();
        let mail = rendered(&long);
        assert!(mail.attachments.is_empty() && mail.text.contains("975 more lines left out"), "{}", mail.text);
    }

    #[test]
    fn a_mail_stays_small_whatever_it_tells_and_says_what_it_leaves_out() {
        let details = [
            "a: b\n".repeat(3),
            "x".repeat(10 << 20),
            "<\"&'>".repeat(300) + "\n",
            ("ü".repeat(2000) + "\n").repeat(40),
            "name: värdet = ='\n".repeat(100_000),
        ];
        for (count, detail) in [1, 2, 21, 100].into_iter().flat_map(|n| details.iter().map(move |detail| (n, detail))) {
            let mut many = bulletin(Notice::Opened);
            let mut item = many.items.remove(0);
            item.alert.detail = detail.as_str().into();
            item.alert.summary =
                format!("{}{}", item.alert.summary, "é".repeat(if detail.len() > 1000 { 5000 } else { 0 }));
            many.items = vec![item; count];
            let mail = Renderer::new(Path::new("/nonexistent")).render(&many, 5 << 20);
            let attached: usize = mail.attachments.iter().map(|file| file.bytes.len() * 37 / 27).sum();
            let size = sent(&mail.text) + sent(&mail.html) + attached;
            assert!(size <= LIMIT, "{count}: {size}");
            let whole = mail.text.matches("Severity:").count();
            let brief = mail.text.lines().filter(|line| line.starts_with("CRITICAL  main: backup is")).count();
            let unlisted = mail.text.lines().find_map(|line| line.strip_prefix("Not listed here: "));
            let unlisted = unlisted.and_then(|line| line.split_once(" more")?.0.parse().ok());
            assert_eq!(whole + brief + unlisted.unwrap_or(0), count, "{whole} {brief} {unlisted:?}\n{}", mail.text);
            assert!(
                whole >= 1 && (whole == count) != mail.text.contains("\"pgbosun alert list\" shows all"),
                "{}",
                mail.text
            );
            assert_eq!(mail.html.matches("alert 00000000-").count(), whole);
        }
    }

    #[test]
    fn a_wrong_template_costs_no_message() {
        let directory = tempfile::tempdir().unwrap();
        std::fs::write(directory.path().join("message.txt"), "{{ nothing.at.all }}").unwrap();
        std::fs::write(directory.path().join("message.html"), "{% if %}").unwrap();
        let mail = Renderer::new(directory.path()).render(&bulletin(Notice::Opened), 0);
        assert!(mail.text.contains("backup is 27 h old") && mail.html.contains("<table"), "{}", mail.text);
        std::fs::write(directory.path().join("message.txt"), "{{ items|length }}").unwrap();
        let mut many = bulletin(Notice::Opened);
        many.items = vec![many.items.remove(0); 60];
        let mail = Renderer::new(directory.path()).render(&many, 0);
        assert_eq!(mail.text, "20\n40 more: \"pgbosun alert list\" shows all of them.\n");
        std::fs::write(directory.path().join("message.txt"), "{{ items[0].place }}!").unwrap();
        assert_eq!(Renderer::new(directory.path()).render(&bulletin(Notice::Opened), 0).text, "main!");
    }
}
