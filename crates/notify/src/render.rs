//! Messages in words: subject, plain text and HTML, from templates that the operator can replace.

use chrono::{DateTime, Utc};
use chrono_tz::Tz;
use minijinja::{Environment, context};
use pgbosun_core::{
    alert::{Alert, Notice},
    finding::Severity,
    human,
};
use pgbosun_history::NewNotification;
use std::path::Path;
use uuid::Uuid;

/// What every message says beside the alert.
#[derive(Clone, Debug)]
pub struct Frame {
    /// Subject prefix of the group.
    pub prefix: String,
    /// Name of the installation.
    pub instance: String,
    /// The zone in which times are told.
    pub zone: Tz,
}

/// Renders messages.
#[derive(Debug)]
pub struct Renderer {
    templates: Environment<'static>,
}

const TEMPLATES: [(&str, &str); 2] =
    [("alert.html", include_str!("../templates/alert.html")), ("alert.txt", include_str!("../templates/alert.txt"))];

/// Severity colours that keep their contrast on white and on black: red, yellow, grey-blue, green.
const fn colour(severity: Severity, notice: Notice) -> &'static str {
    match (notice, severity) {
        (Notice::Resolved, _) | (_, Severity::Ok) => "#1a7f37",
        (_, Severity::Critical) => "#c62828",
        (_, Severity::Warning) => "#b58100",
        (_, Severity::Unknown) => "#5c6b7a",
    }
}

impl Renderer {
    /// With the built-in templates, each replaced by the file of its name in `directory` where there is one that parses.
    pub fn new(directory: &Path) -> Self {
        let mut templates = Environment::new();
        templates.set_trim_blocks(true);
        templates.set_lstrip_blocks(true);
        for (name, built_in) in TEMPLATES {
            let own = std::fs::read_to_string(directory.join(name)).ok();
            let replaced = own.is_some_and(|own| match templates.add_template_owned(name, own) {
                Ok(()) => true,
                Err(error) => {
                    tracing::error!(template = name, "mail template is wrong, the built-in one is used: {error}");
                    false
                }
            });
            if !replaced && let Err(error) = templates.add_template(name, built_in) {
                tracing::error!(template = name, "built-in mail template: {error}");
            }
        }
        Self { templates }
    }

    /// The message that tells of an alert.
    pub fn alert(&self, frame: &Frame, alert: &Alert, notice: Notice, now: DateTime<Utc>) -> NewNotification {
        let word = match notice {
            Notice::Resolved => "RESOLVED".to_owned(),
            Notice::Test => "TEST".to_owned(),
            _ => alert.severity.as_str().to_uppercase(),
        };
        let place = alert.cluster.as_deref().unwrap_or(&frame.instance);
        let reminder = if notice == Notice::Reminder { "still: " } else { "" };
        let subject = format!("{} {word} {place}: {reminder}{}", frame.prefix, alert.summary);
        let told = |at: DateTime<Utc>| at.with_timezone(&frame.zone).format("%Y-%m-%d %H:%M:%S %Z").to_string();
        let lasted = human::span(alert.resolved_at.unwrap_or(now) - alert.opened_at);
        let facts: Vec<(&str, &str)> = alert.detail.lines().filter_map(|line| line.split_once(": ")).collect();
        let lines: Vec<&str> = alert.detail.lines().filter(|line| line.split_once(": ").is_none()).collect();
        let values = context! {
            word, place, subject, facts, lines, lasted,
            notice => notice.as_str(),
            colour => colour(alert.severity, notice),
            summary => alert.summary,
            meaning => alert.meaning,
            advice => alert.advice,
            since => told(alert.opened_at),
            until => alert.resolved_at.map(told),
            job => alert.job,
            instance => frame.instance,
            alert_id => alert.id.to_string(),
            run_id => alert.run_id.map(|id| id.to_string()),
        };
        let render = |name: &str| {
            let rendered = self.templates.get_template(name).and_then(|template| template.render(&values));
            rendered.unwrap_or_else(|error| {
                // A template of the operator's that fails must not cost the message.
                tracing::error!(template = name, "mail template failed: {error}");
                format!("{subject}\n\n{}\n{}\n\n{}", alert.meaning, alert.advice, alert.detail)
            })
        };
        NewNotification {
            id: Uuid::now_v7(),
            alert_id: (notice != Notice::Test).then_some(alert.id),
            group: alert.group.clone(),
            notice,
            severity: alert.severity,
            text: render("alert.txt"),
            html: render("alert.html"),
            subject,
            created_at: now,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use pgbosun_core::alert::AlertState;

    fn message(notice: Notice) -> NewNotification {
        let alert = Alert {
            id: Uuid::nil(),
            fingerprint: "backup-age/local".into(),
            job: "backup-age".into(),
            cluster: Some("main".into()),
            group: "database".into(),
            severity: Severity::Critical,
            state: if notice == Notice::Resolved { AlertState::Resolved } else { AlertState::Open },
            summary: "backup is 27 h old (limit 25 h)".into(),
            meaning: "Whatever changed since the newest backup is lost if the server is.".into(),
            advice: "Run \"pgbosun job run full-backup\".".into(),
            detail: "newest: <20261120T090000Z-full>\nfinished: 2026-11-20 09:00:07 UTC".into(),
            opened_at: "2026-11-21T11:00:00Z".parse().unwrap(),
            seen_at: "2026-11-21T12:00:00Z".parse().unwrap(),
            notified_at: None,
            resolved_at: (notice == Notice::Resolved).then(|| "2026-11-21T12:00:00Z".parse().unwrap()),
            run_id: None,
        };
        let frame = Frame { prefix: "[DB-ALERT]".into(), instance: "db1".into(), zone: chrono_tz::Europe::Berlin };
        let now = "2026-11-21T12:00:00Z".parse().unwrap();
        Renderer::new(Path::new("/nonexistent")).alert(&frame, &alert, notice, now)
    }

    #[test]
    fn subjects_are_those_of_the_contract() {
        assert_eq!(message(Notice::Opened).subject, "[DB-ALERT] CRITICAL main: backup is 27 h old (limit 25 h)");
        assert_eq!(
            message(Notice::Reminder).subject,
            "[DB-ALERT] CRITICAL main: still: backup is 27 h old (limit 25 h)"
        );
        assert_eq!(message(Notice::Resolved).subject, "[DB-ALERT] RESOLVED main: backup is 27 h old (limit 25 h)");
    }

    #[test]
    fn the_text_says_what_since_when_what_it_means_and_what_to_do() {
        insta::assert_snapshot!(message(Notice::Opened).text, @r#"
        main: backup is 27 h old (limit 25 h), since 2026-11-21 12:00:00 CET. Whatever changed since the newest backup is lost if the server is. Run "pgbosun job run full-backup".

        newest:    <20261120T090000Z-full>
        finished:  2026-11-20 09:00:07 UTC

        Severity:  CRITICAL
        Job:       backup-age
        Host:      db1
        Alert:     00000000-0000-0000-0000-000000000000
        "#);
        let resolved = message(Notice::Resolved).text;
        assert!(resolved.starts_with("main: resolved after 1 h: backup is 27 h old"), "{resolved}");
    }

    #[test]
    fn html_is_escaped_and_coloured() {
        let html = message(Notice::Opened).html;
        assert!(html.contains("&lt;20261120T090000Z-full&gt;") && html.contains("#c62828"), "{html}");
        assert!(message(Notice::Resolved).html.contains("#1a7f37"));
    }
}
