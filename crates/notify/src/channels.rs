//! Channels: how a message leaves. One trait, one file per channel.

mod folder;
mod mail;

use async_trait::async_trait;
use chrono::{DateTime, Utc};
use lettre::message::{
    Mailbox, MultiPart,
    header::{HeaderName, HeaderValue},
};
use pgbosun_core::config::{Mail, MailTransport};
use uuid::Uuid;

/// A message as a channel takes it.
#[derive(Clone, Debug)]
pub struct Message {
    /// Identity: a second copy has the same.
    pub id: Uuid,
    /// The alert it tells of: the thread it belongs to.
    pub thread: Option<Uuid>,
    /// Addresses.
    pub recipients: Vec<String>,
    /// Subject.
    pub subject: String,
    /// Plain text.
    pub text: String,
    /// HTML.
    pub html: String,
    /// When it was written.
    pub created_at: DateTime<Utc>,
}

/// That a message was accepted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Receipt {
    /// What the other side said, or where the message lies.
    pub detail: String,
}

/// Why a message was not accepted. The outbox tries again whatever the reason: people mend servers and passwords.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum DeliveryError {
    /// An address or header that no mail can have.
    #[error("the message cannot be written: {0}")]
    Message(String),
    /// The server, on the way to it or in its answer.
    #[error("mail server {server}: {reason}")]
    Server {
        /// Its name.
        server: String,
        /// Its words or ours.
        reason: String,
    },
    /// The folder.
    #[error("mail folder {0}")]
    Folder(String, #[source] std::io::Error),
}

/// Delivers messages.
#[async_trait]
pub trait Channel: Send + Sync {
    /// Delivers one message; a receipt means that the other side has it for good.
    async fn deliver(&self, message: &Message) -> Result<Receipt, DeliveryError>;

    /// Sees whether the other side is there, without sending anything.
    async fn probe(&self) -> Result<Receipt, DeliveryError>;
}

/// The channel of a configuration.
///
/// # Errors
/// [`DeliveryError`] where a certificate or an address in it is wrong.
pub fn open(mail: &Mail, instance: &str) -> Result<Box<dyn Channel>, DeliveryError> {
    let from: Mailbox =
        mail.from.parse().map_err(|error| DeliveryError::Message(format!("sender \"{}\": {error}", mail.from)))?;
    Ok(match mail.transport {
        MailTransport::Smtp => Box::new(mail::Smtp::new(mail, from, instance)?),
        MailTransport::Folder => Box::new(folder::Folder::new(mail, from, instance)),
    })
}

/// A message as RFC 5322 has it: text and HTML, threaded by alert, marked as written by a program (RFC 3834).
fn compose(message: &Message, from: &Mailbox, host: &str) -> Result<lettre::Message, DeliveryError> {
    let failed = |error: &dyn std::fmt::Display| DeliveryError::Message(error.to_string());
    let mut builder = lettre::Message::builder()
        .from(from.clone())
        .subject(&message.subject)
        .date(message.created_at.into())
        .message_id(Some(format!("<{}@{host}>", message.id.simple())))
        .raw_header(HeaderValue::new(HeaderName::new_from_ascii_str("Auto-Submitted"), "auto-generated".into()));
    if let Some(thread) = message.thread {
        let thread = format!("<{}@{host}>", thread.simple());
        builder = builder.in_reply_to(thread.clone()).references(thread);
    }
    for recipient in &message.recipients {
        let to: Mailbox = recipient.parse().map_err(|error| failed(&format!("recipient \"{recipient}\": {error}")))?;
        builder = builder.to(to);
    }
    builder
        .multipart(MultiPart::alternative_plain_html(message.text.clone(), message.html.clone()))
        .map_err(|error| failed(&error))
}

/// The right side of a Message-ID: letters, digits, dots and hyphens only.
fn host_part(instance: &str) -> String {
    let safe: String =
        instance.chars().map(|c| if c.is_ascii_alphanumeric() || c == '.' || c == '-' { c } else { '-' }).collect();
    if safe.is_empty() { "pgbosun".into() } else { safe }
}
