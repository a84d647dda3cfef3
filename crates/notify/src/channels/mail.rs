//! A message as a mail (RFC 5322): text and HTML, pictures in it, attachments, threads by incident, and marked as written
//! by a program (RFC 3834).

use super::{DeliveryError, Message, Missed};
use crate::render::{File, Rendered, Renderer};
use lettre::{
    Address,
    message::{
        Attachment, Body, Mailbox, MultiPart, SinglePart,
        header::{ContentType, HeaderName, HeaderValue},
    },
};
use pgbosun_core::config::{Mail, MailAddress};
use std::path::Path;

/// How an installation writes its mails.
pub(super) struct Form {
    from: Mailbox,
    reply_to: Option<Mailbox>,
    host: String,
    renderer: Renderer,
    attachment_limit: u64,
}

/// Recipients, each with what it says.
type Addresses = Vec<(String, Mailbox)>;

/// A mail, and whom it goes to.
pub(super) struct Letter {
    /// To those whose addresses every server takes; none where there is nobody.
    pub mail: Option<lettre::Message>,
    /// Each recipient of it with the address.
    pub to: Vec<(String, Address)>,
    /// To each of those whose name has letters beyond ASCII, which not every server takes (SMTPUTF8, RFC 6531): by itself, so that it costs
    /// nobody else the mail.
    pub beyond_ascii: Vec<(String, lettre::Message)>,
    /// Those whose address is none.
    pub missed: Vec<Missed>,
}

impl Form {
    pub fn new(mail: &Mail, instance: &str, templates: &Path) -> Result<Self, DeliveryError> {
        let mailbox = |address: &MailAddress| {
            let parsed = address.as_str().parse().map(in_ascii);
            parsed.map_err(|error| DeliveryError::Message(format!("\"{address}\": {error}")))
        };
        Ok(Self {
            from: mailbox(&mail.from)?,
            reply_to: mail.reply_to.as_ref().map(mailbox).transpose()?,
            host: host_part(instance),
            renderer: Renderer::new(templates),
            attachment_limit: mail.attachment_limit.as_u64(),
        })
    }

    /// The mail: one to all where whoever gets it `takes_all` addresses.
    pub fn compose(&self, message: &Message, takes_all: bool) -> Result<Letter, DeliveryError> {
        let failed = |error: &dyn std::fmt::Display| DeliveryError::Message(error.to_string());
        let bulletin = &message.bulletin;
        let id = |id: uuid::Uuid| format!("<{}@{}>", id.simple(), self.host);
        let mut builder = lettre::Message::builder()
            .from(self.from.clone())
            .subject(bulletin.subject())
            .date(bulletin.at.into())
            .message_id(Some(id(message.id)))
            .raw_header(HeaderValue::new(HeaderName::new_from_ascii_str("Auto-Submitted"), "auto-generated".into()));
        if let Some(reply_to) = &self.reply_to {
            builder = builder.reply_to(reply_to.clone());
        }
        let incidents: Vec<_> = bulletin.incidents().into_iter().map(id).collect();
        if let Some(first) = incidents.first() {
            builder = builder.in_reply_to(first.clone()).references(incidents.join(" "));
        }
        let (good, missed) = addresses(&message.recipients)?;
        let rendered = self.renderer.render(bulletin, self.attachment_limit);
        let parts = parts(rendered).map_err(|error| failed(&error))?;
        let (mut to, mut beyond_ascii, mut all) = (Vec::new(), Vec::new(), builder.clone());
        for (recipient, mailbox) in good {
            if takes_all || AsRef::<str>::as_ref(&mailbox.email).is_ascii() {
                to.push((recipient, mailbox.email.clone()));
                all = all.to(mailbox);
            } else {
                let own = builder.clone().to(mailbox).multipart(parts.clone()).map_err(|error| failed(&error))?;
                beyond_ascii.push((recipient, own));
            }
        }
        let mail = (!to.is_empty()).then(|| all.multipart(parts)).transpose().map_err(|error| failed(&error))?;
        Ok(Letter { mail, to, beyond_ascii, missed })
    }
}

/// With the form of its domain that mail servers take (RFC 5891): `xn--bcher-kva.example`.
fn in_ascii(mailbox: Mailbox) -> Mailbox {
    let domain = idna::domain_to_ascii(mailbox.email.domain()).ok();
    let address = domain.and_then(|domain| Address::new(mailbox.email.user(), domain).ok());
    Mailbox { email: address.unwrap_or_else(|| mailbox.email.clone()), ..mailbox }
}

/// The addresses among these: one that is none must not cost the others their mail.
fn addresses(recipients: &[String]) -> Result<(Addresses, Vec<Missed>), DeliveryError> {
    let (mut addresses, mut missed) = (Vec::new(), Vec::new());
    for recipient in recipients {
        match recipient.parse() {
            Ok(address) => addresses.push((recipient.clone(), in_ascii(address))),
            Err(error) => missed.push(Missed {
                recipient: recipient.clone(),
                reason: format!("not a mail address: {error}"),
                refused: true,
            }),
        }
    }
    if addresses.is_empty() {
        let all = recipients.join("\", \"");
        return Err(DeliveryError::Message(format!("none of the recipients is a mail address: \"{all}\"")));
    }
    Ok((addresses, missed))
}

fn parts(rendered: Rendered) -> Result<MultiPart, lettre::message::header::ContentTypeErr> {
    let Rendered { text, html, pictures, attachments } = rendered;
    let html = if pictures.is_empty() {
        MultiPart::alternative_plain_html(text, html)
    } else {
        let mut related = MultiPart::related().singlepart(SinglePart::html(html));
        for File { name, kind, bytes } in pictures {
            let kind = ContentType::parse(kind)?;
            related = related.singlepart(Attachment::new_inline(name).body(Body::new(bytes), kind));
        }
        MultiPart::alternative().singlepart(SinglePart::plain(text)).multipart(related)
    };
    if attachments.is_empty() {
        return Ok(html);
    }
    let mut mixed = MultiPart::mixed().multipart(html);
    for File { name, kind, bytes } in attachments {
        mixed = mixed.singlepart(Attachment::new(name).body(Body::new(bytes), ContentType::parse(kind)?));
    }
    Ok(mixed)
}

/// The right side of a Message-ID: letters, digits, dots and hyphens only.
fn host_part(instance: &str) -> String {
    let safe: String =
        instance.chars().map(|c| if c.is_ascii_alphanumeric() || c == '.' || c == '-' { c } else { '-' }).collect();
    if safe.is_empty() { "pgbosun".into() } else { safe }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bulletin::samples::bulletin;
    use pgbosun_core::alert::Notice;

    fn composed(notice: Notice) -> String {
        let form = Form {
            from: "pgbosun <alerts@example.com>".parse().unwrap(),
            reply_to: None,
            host: host_part("db 1"),
            renderer: Renderer::new(Path::new("/nonexistent")),
            attachment_limit: 1 << 20,
        };
        let mut bulletin = bulletin(notice);
        bulletin.items[0].alert.detail = "line\n".repeat(100).into();
        let message = Message { id: uuid::Uuid::nil(), bulletin, recipients: vec!["dba@example.com".into()] };
        String::from_utf8(form.compose(&message, true).unwrap().mail.unwrap().formatted()).unwrap()
    }

    #[test]
    fn a_mail_is_threaded_marked_and_carries_what_is_long_as_an_attachment() {
        let mail = composed(Notice::Opened);
        for line in [
            "Message-ID: <00000000000000000000000000000000@db-1>",
            "References: <00000000000000000000000000000007@db-1>",
            "Auto-Submitted: auto-generated",
            "multipart/mixed",
            "multipart/alternative",
            "Content-Disposition: attachment; filename=\"alert-00000000.txt\"",
        ] {
            assert!(mail.contains(line), "{line}\n{mail}");
        }
    }

    #[test]
    fn an_address_that_is_none_costs_the_others_nothing() {
        let words = |recipients: &[&str]| {
            let recipients: Vec<_> = recipients.iter().map(|&one| one.to_owned()).collect();
            addresses(&recipients).map(|(good, missed)| (good.len(), missed.len())).map_err(|error| error.to_string())
        };
        assert_eq!(words(&["anna", "dba@example.com", "Ann <ann@example.com>"]), Ok((2, 1)));
        assert!(words(&["anna"]).unwrap_err().contains("none of the recipients is a mail address: \"anna\""));
    }

    #[test]
    fn the_test_message_shows_a_picture_by_its_content_id() {
        let mail = composed(Notice::Test);
        assert!(mail.contains("multipart/related") && mail.contains("Content-ID: <tick>"), "{mail}");
        assert!(mail.contains("cid:tick"), "{mail}");
    }
}
