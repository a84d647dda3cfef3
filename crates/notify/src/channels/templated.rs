//! A service with a form of its own: a template of the operator's makes the body of the request.
//!
//! Invariants: what the template sees is what the webhook's JSON says (`docs/webhook.schema.json`), so that one page tells of both; what is
//! called JSON is JSON, or does not leave; the secret is in the address and headers only, and in no error.

use super::{
    Channel, DeliveryError, Message, Receipt,
    http::Http,
    shortened,
    webhook::{self, WebhookOptions},
};
use crate::{
    bulletin::{Bulletin, Item, Occasion},
    render::environment,
};
use async_trait::async_trait;
use chrono_tz::Tz;
use minijinja::{Error, ErrorKind, UndefinedBehavior, Value, value::Serde};
use pgbosun_core::{
    alert::{Alert, Notice},
    clock,
    config::Secret,
    detail::Detail,
    human,
};
use std::{path::PathBuf, time::Duration};
use uuid::Uuid;

/// Where the secret stands in an address or a header.
const SECRET: &str = "{{ secret }}";
/// What a body may be, in bytes.
const LIMIT: usize = 200_000;

pub(super) struct Templated {
    http: Http,
    url: Option<String>,
    secret: Option<Secret>,
    template: PathBuf,
    content_type: String,
    headers: Vec<String>,
}

impl Templated {
    pub fn new(timeout: Duration, options: &WebhookOptions, template: PathBuf) -> Result<Self, DeliveryError> {
        // The configuration check has made sure of the address; a secret one is nobody's business.
        let named = options.url.as_deref().map(|url| url.replace(SECRET, "secret"));
        let parsed = named.and_then(|url| reqwest::Url::parse(&url).ok());
        let service = parsed.and_then(|url| url.host_str().map(str::to_owned)).unwrap_or_else(|| "webhook".into());
        Ok(Self {
            http: Http::new(&service, timeout, options.ca_file.as_deref())?,
            url: options.url.clone(),
            secret: options.secret.clone(),
            template,
            content_type: options.content_type.clone(),
            headers: options.headers.clone(),
        })
    }

    /// The template is wrong: of every message, until somebody has set it right.
    fn wrong(&self, reason: impl std::fmt::Display) -> DeliveryError {
        DeliveryError::Program(format!("template {}: {reason}", self.template.display()))
    }

    /// The body that tells this.
    async fn body(&self, message: &Message) -> Result<String, DeliveryError> {
        let text = tokio::fs::read_to_string(&self.template).await.map_err(|error| self.wrong(error))?;
        let values = Value::from(Serde(webhook::body(message)));
        let body = rendered(&text, &values).map_err(|error| self.wrong(human::chain(&error)))?;
        if body.len() > LIMIT {
            return Err(self
                .wrong(format!("it turns this message into {}, which is too large", human::size(body.len() as u64))));
        }
        if self.content_type.contains("json")
            && let Err(error) = serde_json::from_str::<serde::de::IgnoredAny>(&body)
        {
            return Err(
                self.wrong(format!("the result is not valid JSON ({error}); write values as {{{{ value|tojson }}}}"))
            );
        }
        Ok(body)
    }

    async fn post(&self, body: String) -> Result<Receipt, DeliveryError> {
        let secret = self.secret.as_ref().map(|secret| secret.current().expose().to_owned()).unwrap_or_default();
        let filled = |text: &str| text.replace(SECRET, &secret);
        let url = self.url.as_deref().map_or_else(|| secret.trim().to_owned(), filled);
        let mut request = self.http.post(&url, &self.content_type, body);
        for (name, value) in self.headers.iter().filter_map(|header| header.split_once(": ")) {
            request = request.header(name, filled(value));
        }
        // A service may answer with the address it was asked for.
        let hidden = |error| match error {
            DeliveryError::Service { service, reason, refused, after } if !secret.is_empty() => {
                let reason = reason.replace(secret.trim(), "…");
                DeliveryError::Service { service, reason: without_paths(&reason, &url), refused, after }
            }
            error => error,
        };
        let (status, _) = self.http.accepted(request).await.map_err(hidden)?;
        Ok(Receipt::new(format!("it answered {status}")))
    }
}

/// An answer without the path and query of the address, which may be the secret.
fn without_paths(reason: &str, url: &str) -> String {
    let parsed = reqwest::Url::parse(url).ok();
    let Some(url) = parsed.filter(|url| url.path().len() > 1) else { return reason.to_owned() };
    let shortened = url.query().map_or_else(|| reason.to_owned(), |query| reason.replace(query, "…"));
    shortened.replace(url.path(), "/…")
}

/// A template with these values.
fn rendered(template: &str, values: &Value) -> Result<String, Error> {
    let mut environment = environment(false);
    environment.set_undefined_behavior(UndefinedBehavior::Strict);
    environment.add_filter("shortened", |text: String, most: usize| shortened(&text, most));
    environment.add_filter("moment", moment);
    environment.add_filter("markdown", markdown);
    environment.render_str(template, values)
}

/// Text in which Markdown finds nothing: what holds names of strangers makes no links.
fn markdown(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for letter in text.chars() {
        if "\\`*_{}[]()#+!|<>~".contains(letter) {
            escaped.push('\\');
        }
        escaped.push(letter);
    }
    escaped
}

/// A time of the message in a zone: `{{ at|moment("Europe/Berlin") }}`.
fn moment(at: &str, zone: &str) -> Result<String, Error> {
    let refused = |what: &str| Error::new(ErrorKind::InvalidOperation, what.to_owned());
    let at: chrono::DateTime<chrono::Utc> = at.parse().map_err(|_| refused("moment expects a time"))?;
    let zone: Tz = zone.parse().map_err(|_| refused("moment expects a time zone such as \"Europe/Berlin\""))?;
    Ok(human::moment(at, zone))
}

/// A message by which a template is tried.
fn sample() -> Message {
    let (at, group) = (clock::now(), "database".to_owned());
    let alert = Alert {
        cluster: Some("main".into()),
        detail: Detail::new().fact("a label", "a value"),
        ..Alert::of_message(Uuid::nil(), "template", &group, "test of a template", at)
    };
    let bulletin = Bulletin {
        group,
        prefix: "[PGBOSUN]".into(),
        instance: "here".into(),
        zone: Tz::UTC,
        occasion: Occasion::Test,
        items: vec![Item { notice: Notice::Test, alert }],
        note: None,
        report: None,
        at,
    };
    Message { id: Uuid::nil(), bulletin, recipients: Vec::new() }
}

#[async_trait]
impl Channel for Templated {
    async fn deliver(&self, message: &Message) -> Result<Receipt, DeliveryError> {
        let body = match self.body(message).await {
            // Others are not held up by a message that a template is not made for.
            Err(error) if self.body(&sample()).await.is_ok() => return Err(DeliveryError::Message(error.to_string())),
            body => body?,
        };
        self.post(body).await
    }

    /// Nothing is sent, since a service would show it to people: the template is tried.
    async fn probe(&self) -> Result<Receipt, DeliveryError> {
        self.body(&sample()).await?;
        Ok(Receipt::new("the template works; nothing was sent".into()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bulletin::samples::bulletin;
    use serde_json::Value as Json;

    /// The examples, and how much their services take: of a text in characters, of all in bytes.
    const EXAMPLES: [(&str, &str, usize, usize); 5] = [
        ("telegram", include_str!("../../../../etc/channels/telegram.json"), 4096, usize::MAX),
        ("discord", include_str!("../../../../etc/channels/discord.json"), 6000, usize::MAX),
        ("ntfy", include_str!("../../../../etc/channels/ntfy.json"), 4096, 4096),
        ("google-chat", include_str!("../../../../etc/channels/google-chat.json"), 4096, 32_000),
        ("teams", include_str!("../../../../etc/channels/teams.json"), usize::MAX, 28_000),
    ];

    /// Characters that a service counts: after entities have become what they stand for.
    fn texts(value: &Json) -> usize {
        const ENTITIES: [&str; 6] = ["&lt;", "&gt;", "&quot;", "&#x27;", "&#x2f;", "&amp;"];
        match value {
            Json::String(text) => {
                ENTITIES.iter().fold(text.clone(), |text, one| text.replace(one, "x")).chars().count()
            }
            Json::Array(all) => all.iter().map(texts).sum(),
            Json::Object(all) => all.values().map(texts).sum(),
            _ => 0,
        }
    }

    #[test]
    fn the_examples_make_what_their_services_take_whatever_is_told() {
        for (name, template, characters, bytes) in EXAMPLES {
            for notice in [Notice::Opened, Notice::Resolved, Notice::Test, Notice::Success] {
                for (count, hostile) in [(1, ""), (5, "*[x](http://y)<b>\"\\\n"), (100, "<é&\"*_]")] {
                    let mut bulletin = bulletin(notice);
                    let alert = &mut bulletin.items[0].alert;
                    for text in [&mut alert.summary, &mut alert.meaning, &mut alert.advice, &mut alert.fingerprint] {
                        text.push_str(&hostile.repeat(400));
                    }
                    bulletin.items = vec![bulletin.items[0].clone(); count];
                    bulletin.note = Some(hostile.repeat(200));
                    let message = Message { id: Uuid::nil(), bulletin, recipients: Vec::new() };
                    let body = rendered(template, &Value::from(Serde(webhook::body(&message)))).unwrap();
                    let json: Json =
                        serde_json::from_str(&body).unwrap_or_else(|error| panic!("{name}: {error}\n{body}"));
                    let (told, size) = (texts(&json), json.to_string().len());
                    assert!(told <= characters && size <= bytes, "{name} {count}: {told} characters, {size} bytes");
                    assert!(body.contains("main"), "{name}: {body}");
                    // C44: nothing of it is markup.
                    let markup = match name {
                        "discord" | "teams" => body.contains("[x](http"),
                        "telegram" => body.replace("<b>", "").replace("</b>", "").contains('<'),
                        "google-chat" => body.contains('<'),
                        _ => false,
                    };
                    assert!(!markup, "{name}: {body}");
                }
            }
        }
    }

    #[test]
    fn an_answer_that_repeats_the_address_tells_no_secret() {
        let url = "https://api.example.com/bot123:hush/send?key=hush2";
        let told = without_paths("404: Cannot POST /bot123:hush/send?key=hush2", url);
        assert_eq!(told, "404: Cannot POST /…?…");
        assert_eq!(without_paths("500: / is down", "https://example.com/"), "500: / is down");
    }

    #[test]
    fn c44_what_strangers_write_makes_no_link() {
        assert_eq!(markdown("[x](y) *a*"), "\\[x\\]\\(y\\) \\*a\\*");
        assert_eq!(moment("2026-11-21T11:00:00Z", "Europe/Berlin").unwrap(), "2026-11-21 12:00:00 CET");
        assert!(moment("now", "Europe/Berlin").is_err() && moment("2026-11-21T11:00:00Z", "Moon").is_err());
    }
}
