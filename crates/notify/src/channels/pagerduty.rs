//! PagerDuty, Events API v2: an event for each alert of a message, under the alert's id as `dedup_key`, so that whatever is
//! sent twice is one incident there.

use super::{Channel, ChannelType, DeliveryError, Message, Receipt, http::Http, own, shortened};
use crate::bulletin::{Bulletin, Item};
use async_trait::async_trait;
use pgbosun_core::{
    alert::{AlertState, Notice},
    config::{ChannelOptions, Reader, Secret, Section, Variant},
    finding::Severity,
    options,
};
use serde_json::{Value, json};
use std::{
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

/// The public address of the service.
const URL: &str = "https://events.pagerduty.com/v2/enqueue";
/// The most a summary holds.
const SUMMARY: usize = 1024;
/// What is told of the detail: an event may have 512 KB in all.
const DETAIL: usize = 16_000;

options! {
    /// PagerDuty, by its Events API v2.
    pub struct PagerDutyOptions {
        /// A file of mode 0600 with the routing key. It is needed, or the credential `channels.NAME.secret` in its place.
        secret_file: Option<PathBuf>;
        /// The routing key, for the environment only: `PGBOSUN_CHANNELS__NAME__SECRET`.
        secret: Option<Secret>;
        /// A URL other than the service's own.
        url: Option<String>;
        /// A file with certificates (PEM) to trust in addition to the system's.
        ca_file: Option<PathBuf>;
    }
}

impl ChannelOptions for PagerDutyOptions {
    fn secret_files(&self) -> Vec<&Path> {
        self.secret_file.iter().map(PathBuf::as_path).collect()
    }
}

pub(super) const TYPE: ChannelType = ChannelType {
    variant: Variant {
        name: "pagerduty",
        about: PagerDutyOptions::ABOUT,
        options: PagerDutyOptions::OPTIONS,
        read: |reader: &mut Reader<'_>| {
            let mut options = PagerDutyOptions::read(reader)?;
            reader.resolve("secret-file", &mut options.secret, options.secret_file.as_deref(), "secret");
            reader.require("secret-file", options.secret.is_some(), "a channel of type pagerduty");
            reader.check_address("url", options.url.as_deref());
            Some(Arc::new(options))
        },
    },
    open: |channel| {
        let options: &PagerDutyOptions = own(channel)?;
        Some(PagerDuty::new(channel.common.timeout, options).map(|service| Box::new(service) as Box<dyn Channel>))
    },
};

pub(super) struct PagerDuty {
    http: Http,
    url: String,
    key: Secret,
}

impl PagerDuty {
    fn new(timeout: Duration, options: &PagerDutyOptions) -> Result<Self, DeliveryError> {
        let http = Http::new("PagerDuty", timeout, options.ca_file.as_deref())?;
        // The configuration check has made sure of the secret.
        let key = options.secret.clone().unwrap_or_default();
        Ok(Self { http, url: options.url.clone().unwrap_or_else(|| URL.to_owned()), key })
    }

    async fn event(&self, action: &str, bulletin: &Bulletin, item: &Item) -> Result<(), DeliveryError> {
        let body = event(self.key.current().expose(), action, bulletin, item).to_string();
        self.http.accepted(self.http.post(&self.url, "application/json", body)).await.map(drop)
    }
}

#[async_trait]
impl Channel for PagerDuty {
    async fn deliver(&self, message: &Message) -> Result<Receipt, DeliveryError> {
        let bulletin = &message.bulletin;
        for item in &bulletin.items {
            let taken = item.alert.state == AlertState::Acknowledged;
            let actions: &[&str] = match item.notice {
                // Somebody looked before this was told: out of a digest.
                Notice::Opened if taken => &["trigger", "acknowledge"],
                Notice::Opened | Notice::Changed | Notice::Reminder => &["trigger"],
                Notice::Acknowledged => &["acknowledge"],
                Notice::Resolved => &["resolve"],
                // An incident, and its end: nobody shall be kept awake by a test.
                Notice::Test => &["trigger", "resolve"],
                Notice::Report | Notice::Success => &[],
            };
            for action in actions {
                self.event(action, bulletin, item).await?;
            }
        }
        Ok(Receipt::new(format!("PagerDuty accepted {}", pgbosun_core::human::count(bulletin.items.len(), "alert"))))
    }

    async fn probe(&self) -> Result<Receipt, DeliveryError> {
        // The end of an incident that never was: taken, and nothing happens.
        let body = json!({
            "routing_key": self.key.current().expose(), "event_action": "resolve", "dedup_key": "pgbosun-check"
        });
        self.http.accepted(self.http.post(&self.url, "application/json", body.to_string())).await?;
        Ok(Receipt::new("PagerDuty accepts events with this routing key".into()))
    }
}

fn event(key: &str, action: &str, bulletin: &Bulletin, item: &Item) -> Value {
    let alert = &item.alert;
    let mut event = json!({
        "routing_key": key,
        "event_action": action,
        "dedup_key": alert.id,
        "client": format!("pgbosun on {}", bulletin.instance),
    });
    if action == "trigger" {
        let summary = format!("{} {}: {}", bulletin.prefix, bulletin.place(alert), alert.summary);
        event["payload"] = json!({
            "summary": shortened(&summary, SUMMARY),
            "source": bulletin.place(alert),
            "severity": match alert.severity {
                Severity::Critical => "critical",
                Severity::Unknown => "error",
                Severity::Warning => "warning",
                Severity::Ok => "info",
            },
            "timestamp": alert.opened_at.to_rfc3339(),
            "component": alert.object(),
            "group": bulletin.group,
            "class": alert.job,
            "custom_details": {
                "meaning": alert.meaning,
                "advice": alert.advice,
                "detail": shortened(&alert.detail.told(bulletin.zone), DETAIL),
            },
        });
    }
    event
}
