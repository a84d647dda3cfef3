//! Channels: how a message leaves. One trait, one file per channel.
//!
//! Invariants: whatever the other side does, a delivery ends within the channel's timeout; no error and no receipt holds a
//! secret, an address that is one included.

mod command;
mod folder;
mod http;
mod mail;
mod oauth;
mod pagerduty;
mod slack;
mod smtp;
mod templated;
mod webhook;

pub use http::fetch;

use crate::{bulletin::Bulletin, dispatch::MAIL};
use async_trait::async_trait;
use pgbosun_core::config::{self, ChannelOptions, Config, MailTransport, Variant};
use std::{any::Any, time::Duration};
use uuid::Uuid;

/// A message as a channel takes it.
#[derive(Clone, Debug)]
pub struct Message {
    /// Identity: a second copy has the same.
    pub id: Uuid,
    /// What it tells.
    pub bulletin: Bulletin,
    /// The mail addresses of the group.
    pub recipients: Vec<String>,
}

/// That a message was accepted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Receipt {
    /// What the other side said, or where the message lies.
    pub detail: String,
    /// Those who did not get it, where others did.
    pub missed: Vec<Missed>,
}

/// One who did not get a message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Missed {
    /// Who, as the message names them.
    pub recipient: String,
    /// Why.
    pub reason: String,
    /// They are refused for good, and not for now.
    pub refused: bool,
}

impl Receipt {
    /// Everybody has it.
    fn new(detail: String) -> Self {
        Self { detail, missed: Vec::new() }
    }
}

/// Why a message was not accepted. The outbox tries again whatever the reason: people repair servers and change passwords.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum DeliveryError {
    /// An address, header or certificate that cannot be used.
    #[error("the message cannot be composed: {0}")]
    Message(String),
    /// The mail server, on the way to it or in its answer.
    #[error("mail server {server}: {reason}")]
    Server {
        /// Its name.
        server: String,
        /// Its words or ours.
        reason: String,
        /// It refused this message for good (5yz), after it took others' greeting and login.
        refused: bool,
    },
    /// A service behind HTTP, on the way to it or in its answer.
    #[error("{service}: {reason}")]
    Service {
        /// Slack, PagerDuty, or the host.
        service: String,
        /// Its words or ours.
        reason: String,
        /// It refused this message for good (4yz), and may take another.
        refused: bool,
        /// How long it wants to be left alone.
        after: Option<Duration>,
    },
    /// A program.
    #[error("{0}")]
    Program(String),
    /// The folder.
    #[error("mail folder {0}")]
    Folder(String, #[source] std::io::Error),
}

impl DeliveryError {
    /// Whether it is about this message alone: another may be taken.
    pub fn is_own(&self) -> bool {
        match self {
            Self::Message(_) => true,
            Self::Server { refused, .. } | Self::Service { refused, .. } => *refused,
            Self::Program(_) | Self::Folder(..) => false,
        }
    }

    /// How long the other side wants to be left alone.
    pub fn after(&self) -> Option<Duration> {
        match self {
            Self::Service { after, .. } => *after,
            _ => None,
        }
    }
}

/// Delivers messages.
#[async_trait]
pub trait Channel: Send + Sync {
    /// Delivers one message; a receipt means that the other side has it for good, but for those it names.
    async fn deliver(&self, message: &Message) -> Result<Receipt, DeliveryError>;

    /// Sees whether the other side is there, without telling anybody anything.
    async fn probe(&self) -> Result<Receipt, DeliveryError>;
}

/// A channel, or why it cannot be used as configured.
type Opened = Result<Box<dyn Channel>, DeliveryError>;

/// A type of channel: the options that it declares, and how one is made from them.
struct ChannelType {
    variant: Variant<dyn ChannelOptions>,
    /// `None` where the channel is of another type.
    open: fn(&config::Channel) -> Option<Opened>,
}

/// The one list of them.
const TYPES: [ChannelType; 4] = [slack::TYPE, pagerduty::TYPE, webhook::TYPE, command::TYPE];

/// What they declare, for reading configuration and for its reference.
pub fn types() -> Vec<Variant<dyn ChannelOptions>> {
    TYPES.iter().map(|kind| kind.variant).collect()
}

/// The options of a channel, where it is of the type that has these.
fn own<T: 'static>(channel: &config::Channel) -> Option<&T> {
    (channel.own.as_ref() as &dyn Any).downcast_ref()
}

/// A channel of a configuration; `None` where it has none of this name.
///
/// # Errors
/// [`DeliveryError`] where a certificate or an address in it is wrong.
pub fn open(config: &Config, name: &str, instance: &str) -> Result<Option<Box<dyn Channel>>, DeliveryError> {
    if name == MAIL {
        let Some(mail) = &config.mail else { return Ok(None) };
        let form = mail::Form::new(mail, instance, &config.daemon.template_directory)?;
        return Ok(Some(match mail.transport {
            MailTransport::Smtp => Box::new(smtp::Smtp::new(mail, form, &config.daemon.state_directory)?),
            MailTransport::Folder => Box::new(folder::Folder::new(mail, form)),
        }));
    }
    let Some(options) = config.channels.get(name) else { return Ok(None) };
    TYPES.iter().find_map(|kind| (kind.open)(options)).transpose()
}

/// A text of at most so many characters.
pub(crate) fn shortened(text: &str, most: usize) -> String {
    if text.chars().count() <= most {
        return text.to_owned();
    }
    text.chars().take(most.saturating_sub(1)).chain(['…']).collect()
}
