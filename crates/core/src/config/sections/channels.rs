//! `[mail]` and `[channels.NAME]`: the ways by which messages leave.

use super::super::{ChannelOptions, MailAddress, Reader, Secret, TypeName};
use crate::{finding::Severity, options};
use bytesize::ByteSize;
use std::{path::PathBuf, sync::Arc, time::Duration};

crate::words! {
    /// How a connection to a mail server is secured.
    pub enum MailSecurity {
        /// Begins in the clear and is upgraded before anything is sent; refused where the server cannot.
        Starttls = "starttls",
        /// TLS from the first byte.
        Tls = "tls",
        /// Not at all: for a server on this machine.
        None = "none",
    }
}

crate::words! {
    /// How mail leaves.
    pub enum MailTransport {
        /// To a mail server.
        Smtp = "smtp",
        /// Into a folder, one `.eml` file a message.
        Folder = "folder",
    }
}

crate::word_settings! {
    MailSecurity: "\"starttls\", \"tls\" or \"none\"";
    MailTransport: "\"smtp\" or \"folder\"";
}

options! {
    /// How mail is sent.
    pub struct Mail {
        /// To a server, or into a folder.
        transport: MailTransport = "\"smtp\"";
        /// The mail server's name.
        server: String = "\"localhost\"";
        /// Its port; by default 587 for starttls, 465 for tls, 25 for none.
        port: Option<u16>;
        /// How the connection is secured.
        security: MailSecurity = "\"starttls\"";
        /// A file with certificates (PEM) to trust in addition to the system's.
        ca_file: Option<PathBuf>;
        /// The account; without it pgbosun does not log in.
        user: Option<String>;
        /// A file of mode 0600 with the account's password. Without it: the credential `mail.password`. With `oauth2-token-url`
        /// it holds the refresh token; without a refresh token, the client logs in as itself (client credentials).
        password_file: Option<PathBuf>;
        /// The password, for the environment only: `PGBOSUN_MAIL__PASSWORD`.
        password: Option<Secret>;
        /// Log in with OAuth 2 (XOAUTH2): the URL of the token endpoint.
        oauth2_token_url: Option<String>;
        /// The client ID there.
        oauth2_client_id: Option<String>;
        /// A file of mode 0600 with the client's secret. Without it: the credential `mail.oauth2-client-secret`.
        oauth2_client_secret_file: Option<PathBuf>;
        /// The client's secret, for the environment only.
        oauth2_client_secret: Option<Secret>;
        /// The scope to ask for, such as `https://outlook.office365.com/.default`; most providers need none to refresh a token.
        oauth2_scope: Option<String>;
        /// The sender, such as `pgbosun <alerts@example.com>`.
        from: MailAddress;
        /// Where replies go; by default to the sender.
        reply_to: Option<MailAddress>;
        /// The folder for the folder transport.
        folder: Option<PathBuf>;
        /// How long one message may take, from connection to acceptance.
        timeout: Duration = "\"60s\"";
        /// Attachments of one message that together are larger than this are left out, and the message says so.
        attachment_limit: ByteSize = "\"5MiB\"";
        /// The lowest severity that is sent by mail.
        from_severity: Severity = "\"warning\"";
        /// How many messages an hour are sent by mail. Anything beyond that is sent in a digest once there is room.
        hourly_limit: u32 = "60";
    }
}

crate::word_settings! {
    Severity: "\"warning\", \"unknown\" or \"critical\"";
}

options! {
    /// A way to send messages other than by mail. Groups name their channels in `channels`.
    pub struct ChannelCommon {
        /// What is at the other end.
        r#type: TypeName;
        /// How long one message may take.
        timeout: Duration = "\"30s\"";
        /// The lowest severity that is sent. Once an alert has been this severe, the channel also gets everything that follows
        /// about it.
        from_severity: Severity = "\"warning\"";
        /// How many messages an hour are sent. Anything beyond that is sent in a digest once there is room.
        hourly_limit: u32 = "60";
    }
}

/// A way to send messages other than by mail, as configured.
#[derive(Clone, Debug)]
pub struct Channel {
    /// What every channel has.
    pub common: ChannelCommon,
    /// What its type has.
    pub own: Arc<dyn ChannelOptions>,
}

impl ChannelCommon {
    /// Problems that no single value shows.
    pub(in super::super) fn check(&self, reader: &mut Reader<'_>) {
        if self.hourly_limit == 0 {
            reader.refuse("hourly-limit", "expected 1 or more", None);
        }
    }
}

impl Mail {
    /// Problems that no single value shows.
    pub(in super::super) fn check(&self, reader: &mut Reader<'_>) {
        if self.transport == MailTransport::Folder && self.folder.is_none() {
            reader.refuse("folder", "is missing: the folder transport needs one", None);
        }
        if self.transport == MailTransport::Folder && reader.is_given("server") {
            let hint = "remove transport and folder to send to the server".to_owned();
            reader.refuse("server", "has no effect: transport is \"folder\"", Some(hint));
        }
        reader.check_address("oauth2-token-url", self.oauth2_token_url.as_deref());
        // A relay on this machine hears it from nobody else.
        let here = ["localhost", "127.0.0.1", "::1"].contains(&self.server.as_str());
        if self.security == MailSecurity::None && self.user.is_some() && !here {
            let hint = "\"starttls\" or \"tls\" encrypts the connection; without user no password is sent".to_owned();
            reader.refuse("security", "\"none\" would send the password over the network in the clear", Some(hint));
        }
        if self.oauth2_token_url.is_some() && (self.oauth2_client_id.is_none() || self.user.is_none()) {
            reader.refuse("oauth2-token-url", "also needs oauth2-client-id and user", None);
        }
        if self.hourly_limit == 0 {
            reader.refuse("hourly-limit", "expected 1 or more", None);
        }
    }
}
