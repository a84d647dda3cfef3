//! Slack, by an incoming webhook: one message in blocks (Block Kit), within its limits.

use super::{Channel, ChannelType, DeliveryError, Message, Receipt, http::Http, own, shortened};
use crate::bulletin::{Bulletin, Item};
use async_trait::async_trait;
use pgbosun_core::{
    alert::Notice,
    config::{ChannelOptions, Reader, Secret, Section, Variant},
    finding::Severity,
    human, options,
};
use serde_json::{Value, json};
use std::{
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

/// The most a header holds (Block Kit reference, header block).
const HEADER: usize = 150;
/// The most a section holds (section block).
const SECTION: usize = 3000;
/// Alerts of one message: each takes two of the 50 blocks a message may have.
const ALERTS: usize = 20;

options! {
    /// Slack, or what accepts its messages: an incoming webhook.
    pub struct SlackOptions {
        /// A file of mode 0600 with the webhook's URL, which is itself secret. It is needed, or the credential
        /// `channels.NAME.secret` in its place.
        secret_file: Option<PathBuf>;
        /// The URL, for the environment only: `PGBOSUN_CHANNELS__NAME__SECRET`.
        secret: Option<Secret>;
        /// A file with certificates (PEM) to trust in addition to the system's.
        ca_file: Option<PathBuf>;
    }
}

impl ChannelOptions for SlackOptions {
    fn secret_files(&self) -> Vec<&Path> {
        self.secret_file.iter().map(PathBuf::as_path).collect()
    }
}

pub(super) const TYPE: ChannelType = ChannelType {
    variant: Variant {
        name: "slack",
        about: SlackOptions::ABOUT,
        options: SlackOptions::OPTIONS,
        read: |reader: &mut Reader<'_>| {
            let mut options = SlackOptions::read(reader)?;
            reader.resolve("secret-file", &mut options.secret, options.secret_file.as_deref(), "secret");
            reader.require("secret-file", options.secret.is_some(), "a channel of type slack");
            Some(Arc::new(options))
        },
    },
    open: |channel| {
        let options: &SlackOptions = own(channel)?;
        Some(Slack::new(channel.common.timeout, options).map(|slack| Box::new(slack) as Box<dyn Channel>))
    },
};

pub(super) struct Slack {
    http: Http,
    url: Secret,
}

impl Slack {
    fn new(timeout: Duration, options: &SlackOptions) -> Result<Self, DeliveryError> {
        let http = Http::new("Slack", timeout, options.ca_file.as_deref())?;
        // The configuration check has made sure of the secret.
        Ok(Self { http, url: options.secret.clone().unwrap_or_default() })
    }
}

#[async_trait]
impl Channel for Slack {
    async fn deliver(&self, message: &Message) -> Result<Receipt, DeliveryError> {
        let body = body(&message.bulletin).to_string();
        let request = self.http.post(self.url.current().expose(), "application/json", body);
        let (status, text) = self.http.accepted(request).await?;
        Ok(Receipt::new(format!("Slack: {status} {}", text.trim())))
    }

    async fn probe(&self) -> Result<Receipt, DeliveryError> {
        // A webhook answers an empty message with a refusal that it gives to nobody else: "no_text" or "invalid_payload".
        let (status, text) =
            self.http.send(self.http.post(self.url.current().expose(), "application/json", "{}".into())).await?;
        match text.trim() {
            known @ ("no_text" | "invalid_payload" | "no_service" | "ok") if known != "no_service" => {
                Ok(Receipt::new("Slack's webhook answers".into()))
            }
            other => Err(self.http.error(format!("{status}: {other}"))),
        }
    }
}

fn body(bulletin: &Bulletin) -> Value {
    let headline = bulletin.subject();
    let mut blocks = vec![json!({
        "type": "header",
        "text": { "type": "plain_text", "text": shortened(&headline, HEADER), "emoji": true },
    })];
    for item in bulletin.items.iter().take(ALERTS) {
        blocks.push(section(&words(bulletin, item)));
        let alert = &item.alert;
        let small = format!("{} on {} · alert `{}`", alert.job, bulletin.instance, short_id(&alert.id.to_string()));
        blocks.push(json!({ "type": "context", "elements": [{ "type": "mrkdwn", "text": escaped(&small) }] }));
    }
    let more = bulletin.items.len().saturating_sub(ALERTS);
    let more = (more > 0).then(|| format!("{more} more: \"pgbosun alert list\" shows all of them."));
    for note in bulletin.note.iter().chain(&more) {
        blocks.push(section(&escaped(note)));
    }
    json!({ "text": escaped(&headline), "blocks": blocks })
}

fn section(text: &str) -> Value {
    json!({ "type": "section", "text": { "type": "mrkdwn", "text": shortened(text, SECTION) } })
}

fn words(bulletin: &Bulletin, item: &Item) -> String {
    let alert = &item.alert;
    let sign = match (item.notice, item.severity()) {
        (Notice::Acknowledged, _) => ":eyes:",
        (_, Severity::Critical) => ":red_circle:",
        (_, Severity::Warning) => ":large_yellow_circle:",
        (_, Severity::Unknown) => ":white_circle:",
        (_, Severity::Ok) => ":large_green_circle:",
    };
    let title = format!("{} {}: {}", item.word(), bulletin.place(alert), alert.summary);
    let since = bulletin.moment(alert.opened_at);
    let rest = match (item.notice, &alert.acknowledged) {
        (Notice::Resolved, _) => {
            let until = alert.resolved_at.unwrap_or(bulletin.at);
            let why =
                alert.resolution.as_deref().map(|why| format!(" It was closed without a check: {}.", escaped(why)));
            let lasted = human::span(until - alert.opened_at);
            format!("It started {since} and lasted {lasted}.{}", why.unwrap_or_default())
        }
        (Notice::Acknowledged, Some(acknowledged)) => {
            format!("{} is looking into it: {}", acknowledged.by, acknowledged.reason)
        }
        _ => format!("Since {since}. {}\n*What to do:* {}", escaped(&alert.meaning), escaped(&alert.advice)),
    };
    format!("{sign} *{}*\n{rest}", escaped(&title))
}

/// The end of an id, by which people call it.
fn short_id(id: &str) -> &str {
    id.get(id.len().saturating_sub(8)..).unwrap_or(id)
}

/// The three characters that mean something (formatting text for app surfaces).
fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bulletin::samples::bulletin;

    #[test]
    fn a_message_keeps_within_the_limits_of_block_kit() {
        let one = bulletin(Notice::Opened);
        let mut many = one.clone();
        many.items = vec![Item { alert: alert_with("x".repeat(9000)), ..one.items[0].clone() }; 60];
        let body = body(&many);
        let blocks = body["blocks"].as_array().unwrap();
        assert!(blocks.len() <= 50, "{}", blocks.len());
        let longest = blocks.iter().filter_map(|block| block["text"]["text"].as_str()).map(|t| t.chars().count()).max();
        assert_eq!(longest, Some(SECTION));
        assert!(blocks.last().unwrap()["text"]["text"].as_str().unwrap().starts_with("40 more"));
    }

    fn alert_with(advice: String) -> pgbosun_core::alert::Alert {
        pgbosun_core::alert::Alert { advice, ..bulletin(Notice::Opened).items[0].alert.clone() }
    }

    #[test]
    fn what_means_something_to_slack_is_escaped() {
        let text =
            words(&bulletin(Notice::Opened), &Item { alert: alert_with("a < b & c".into()), notice: Notice::Opened });
        assert!(text.starts_with(":red_circle: *CRITICAL main: ") && text.ends_with("a &lt; b &amp; c"), "{text}");
    }
}
