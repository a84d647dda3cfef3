//! A server of the user's own: JSON by POST, signed where there is a key. `docs/channels.md` has the schema.

use super::{Channel, DeliveryError, Message, Receipt, http::Http};
use crate::bulletin::Item;
use async_trait::async_trait;
use hmac::{Hmac, KeyInit, Mac};
use pgbosun_core::config::{self, Secret};
use serde_json::{Value, json};
use sha2::Sha256;

/// Version of the schema.
const VERSION: u32 = 1;

pub(super) struct Webhook {
    http: Http,
    url: String,
    key: Option<Secret>,
}

impl Webhook {
    pub fn new(options: &config::Channel) -> Result<Self, DeliveryError> {
        // The configuration check has made sure of the address.
        let url = options.url.clone().unwrap_or_default();
        let parsed = reqwest::Url::parse(&url).map_err(|error| DeliveryError::Message(format!("url: {error}")))?;
        let service = parsed.host_str().unwrap_or("webhook").to_owned();
        Ok(Self {
            http: Http::new(&service, options.timeout, options.ca_file.as_deref())?,
            url,
            key: options.secret.clone(),
        })
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

/// The message as JSON: for webhooks and programs.
pub(super) fn body(message: &Message) -> Value {
    let bulletin = &message.bulletin;
    json!({
        "version": VERSION,
        "id": message.id,
        "occasion": bulletin.occasion,
        "at": bulletin.at,
        "instance": bulletin.instance,
        "group": bulletin.group,
        "severity": bulletin.severity(),
        "subject": bulletin.subject(),
        "note": bulletin.note,
        "alerts": bulletin.items.iter().map(alert).collect::<Vec<_>>(),
    })
}

fn alert(item: &Item) -> Value {
    let alert = &item.alert;
    json!({
        "notice": item.notice,
        "id": alert.id,
        "incident": alert.told.map(|told| told.incident),
        "fingerprint": alert.fingerprint,
        "job": alert.job,
        "object": alert.object(),
        "cluster": alert.cluster,
        "severity": item.severity(),
        "state": alert.state,
        "summary": alert.summary,
        "meaning": alert.meaning,
        "advice": alert.advice,
        "detail": alert.detail,
        "opened_at": alert.opened_at,
        "changed_at": alert.changed_at,
        "resolved_at": alert.resolved_at,
        "acknowledged_by": alert.acknowledged.as_ref().map(|acknowledged| &acknowledged.by),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn signatures_are_what_openssl_makes() {
        // printf '1763700000.{"a":1}' | openssl dgst -sha256 -hmac key
        let expected = "sha256=61046b9b2f6b91bccc8188b80b8bb3246988d940bd5af066ce762f947be5f8bb";
        assert_eq!(signature("key", "1763700000", r#"{"a":1}"#), expected);
    }
}
