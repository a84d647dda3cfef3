//! A server of the user's own: JSON by POST, signed where there is a key. `docs/channels.md` has the schema.

use super::{Channel, ChannelType, DeliveryError, Message, Receipt, http::Http, own, shortened, templated::Templated};
use crate::bulletin::Item;
use async_trait::async_trait;
use hmac::{Hmac, KeyInit, Mac};
use pgbosun_core::{
    config::{ChannelOptions, Reader, Secret, Section, Variant},
    options,
};
use serde_json::{Value, json};
use sha2::Sha256;
use std::{
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

/// Version of the schema.
const VERSION: u32 = 1;
/// The most characters of what is one line.
const SUMMARY: usize = 300;
/// What a message may be, in bytes: servers have limits of their own, and refuse what is larger for good.
const LIMIT: usize = 200_000;

options! {
    /// A server of one's own, or a service with its own format: a POST.
    pub struct WebhookOptions {
        /// The URL to send to, which is needed without a template; with one it may contain `{{ secret }}`, and without `url` the secret is the URL.
        url: Option<String>;
        /// A file with a template (Jinja) for the body, for a service with its own format: see `docs/channels.md`. Without it
        /// the body is pgbosun's own JSON.
        template: Option<PathBuf>;
        /// With a template: the content type of the body.
        content_type: String = "\"application/json\"";
        /// With a template: additional headers, as "Name: value", in which `{{ secret }}` stands for the secret.
        headers: Vec<String> = "[]";
        /// A file of mode 0600 with the secret: the key for the signature in `X-Pgbosun-Signature`, without which nothing is
        /// signed; with a template what `{{ secret }}` stands for, or, without `url`, the URL. Without the file: the credential
        /// `channels.NAME.secret`.
        secret_file: Option<PathBuf>;
        /// The secret, for the environment only: `PGBOSUN_CHANNELS__NAME__SECRET`.
        secret: Option<Secret>;
        /// A file with certificates (PEM) to trust in addition to the system's.
        ca_file: Option<PathBuf>;
    }
}

impl WebhookOptions {
    /// Problems that no single value shows.
    fn check(&self, reader: &mut Reader<'_>) {
        let is_there = self.url.is_some() || (self.template.is_some() && self.secret.is_some());
        reader.require("url", is_there, "a channel of type webhook");
        reader.check_address("url", self.url.as_deref().map(|url| url.replace("{{ secret }}", "secret")).as_deref());
        if self.template.is_none() && !self.headers.is_empty() {
            reader.refuse("headers", "only works with a template", None);
        }
        for header in self.headers.iter().filter(|header| !header.contains(": ")) {
            reader.refuse("headers", format!("expected \"Name: value\", not {header:?}"), None);
        }
    }
}

impl ChannelOptions for WebhookOptions {
    fn secret_files(&self) -> Vec<&Path> {
        self.secret_file.iter().map(PathBuf::as_path).collect()
    }
}

pub(super) const TYPE: ChannelType = ChannelType {
    variant: Variant {
        name: "webhook",
        about: WebhookOptions::ABOUT,
        options: WebhookOptions::OPTIONS,
        read: |reader: &mut Reader<'_>| {
            let mut options = WebhookOptions::read(reader)?;
            reader.resolve("secret-file", &mut options.secret, options.secret_file.as_deref(), "secret");
            options.check(reader);
            Some(Arc::new(options))
        },
    },
    open: |channel| {
        let (timeout, options): (_, &WebhookOptions) = (channel.common.timeout, own(channel)?);
        Some(match options.template.clone() {
            Some(template) => Templated::new(timeout, options, template).map(|it| Box::new(it) as Box<dyn Channel>),
            None => Webhook::new(timeout, options).map(|it| Box::new(it) as Box<dyn Channel>),
        })
    },
};

pub(super) struct Webhook {
    http: Http,
    url: String,
    key: Option<Secret>,
}

impl Webhook {
    fn new(timeout: Duration, options: &WebhookOptions) -> Result<Self, DeliveryError> {
        // The configuration check has made sure of the address.
        let url = options.url.clone().unwrap_or_default();
        let parsed = reqwest::Url::parse(&url).map_err(|error| DeliveryError::Message(format!("url: {error}")))?;
        let service = parsed.host_str().unwrap_or("webhook").to_owned();
        Ok(Self { http: Http::new(&service, timeout, options.ca_file.as_deref())?, url, key: options.secret.clone() })
    }

    async fn post(&self, body: String) -> Result<Receipt, DeliveryError> {
        let at = pgbosun_core::clock::now().timestamp().to_string();
        let signature = self.key.as_ref().map(|key| signature(key.current().expose(), &at, &body));
        let mut request = self.http.post(&self.url, "application/json", body).header("X-Pgbosun-Timestamp", at);
        if let Some(signature) = signature {
            request = request.header("X-Pgbosun-Signature", signature);
        }
        let (status, _) = self.http.accepted(request).await?;
        Ok(Receipt::new(format!("it answered {status}")))
    }
}

#[async_trait]
impl Channel for Webhook {
    async fn deliver(&self, message: &Message) -> Result<Receipt, DeliveryError> {
        self.post(body(message).to_string()).await
    }

    async fn probe(&self) -> Result<Receipt, DeliveryError> {
        let ping = json!({ "version": VERSION, "occasion": "ping", "at": pgbosun_core::clock::now(), "alerts": [] });
        self.post(ping.to_string()).await
    }
}

/// `sha256=` and the HMAC of the timestamp, a dot and the body.
fn signature(key: &str, at: &str, body: &str) -> String {
    // A key of any length is one.
    let Ok(mut mac) = Hmac::<Sha256>::new_from_slice(key.as_bytes()) else { return String::new() };
    mac.update(at.as_bytes());
    mac.update(b".");
    mac.update(body.as_bytes());
    format!("sha256={}", hex::encode(mac.finalize().into_bytes()))
}

/// The message as JSON: for webhooks and programs. Where it would be too large its alerts have less of their details.
pub(super) fn body(message: &Message) -> Value {
    let mut most = usize::MAX;
    loop {
        let body = with_details(message, most);
        if most == 0 || body.to_string().len() <= LIMIT {
            return body;
        }
        most = if most == usize::MAX { LIMIT } else { most / 2 };
    }
}

/// The message with at most so many characters of each alert's detail.
fn with_details(message: &Message, most: usize) -> Value {
    let bulletin = &message.bulletin;
    json!({
        "version": VERSION,
        "id": message.id,
        "occasion": bulletin.occasion,
        "at": bulletin.at,
        "zone": bulletin.zone.name(),
        "instance": bulletin.instance,
        "group": bulletin.group,
        "severity": bulletin.severity(),
        "subject": bulletin.subject(),
        "note": bulletin.note,
        "alerts": bulletin.items.iter().map(|item| alert(item, most)).collect::<Vec<_>>(),
    })
}

fn alert(item: &Item, most: usize) -> Value {
    let alert = &item.alert;
    let line = |text: &str| shortened(text, SUMMARY.min(most.max(60)));
    json!({
        "notice": item.notice,
        "id": alert.id,
        "incident": alert.notified.map(|told| told.incident),
        "fingerprint": line(&alert.fingerprint),
        "job": alert.job,
        "object": line(alert.object()),
        "cluster": alert.cluster,
        "severity": item.severity(),
        "state": alert.state,
        "summary": line(&alert.summary),
        "meaning": alert.meaning,
        "advice": alert.advice,
        "detail": shortened(&alert.detail.to_string(), most),
        // The same in parts, while there is room for all of it.
        "parts": if most == usize::MAX { json!(alert.detail.parts()) } else { json!([]) },
        "opened_at": alert.opened_at,
        "changed_at": alert.changed_at,
        "resolved_at": alert.resolved_at,
        "resolution": alert.resolution.as_deref().map(line),
        "acknowledged_by": alert.acknowledged.as_ref().map(|acknowledged| &acknowledged.by),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bulletin::samples::bulletin;
    use pgbosun_core::alert::Notice;

    #[test]
    fn signatures_are_what_openssl_makes() {
        // printf '1763700000.{"a":1}' | openssl dgst -sha256 -hmac key
        let expected = "sha256=61046b9b2f6b91bccc8188b80b8bb3246988d940bd5af066ce762f947be5f8bb";
        assert_eq!(signature("key", "1763700000", r#"{"a":1}"#), expected);
    }

    #[test]
    fn a_message_stays_small_whatever_it_tells() {
        for (count, detail) in [(1, 10 << 20), (100, 100), (100, 100_000)] {
            let mut bulletin = bulletin(Notice::Opened);
            bulletin.items[0].alert.detail = "\"".repeat(detail).into();
            bulletin.items[0].alert.summary = "é".repeat(5000);
            bulletin.items[0].alert.fingerprint = format!("x/{}", "é".repeat(5000));
            bulletin.items[0].alert.resolution = Some("\"".repeat(120_000));
            bulletin.items = vec![bulletin.items.remove(0); count];
            let body = body(&Message { id: uuid::Uuid::nil(), bulletin, recipients: Vec::new() });
            assert!(body.to_string().len() <= LIMIT, "{count} {detail}: {}", body.to_string().len());
            assert_eq!(body["alerts"].as_array().unwrap().len(), count);
            assert!(!body["alerts"][0]["detail"].as_str().unwrap().is_empty());
        }
    }
}
