//! Mail to a server with lettre: STARTTLS, TLS or neither, with a password, XOAUTH2 or no login, over connections that are
//! used again.

use super::{
    Channel, DeliveryError, Message, Missed, Receipt,
    mail::{Form, Letter},
    oauth::Tokens,
};
use async_trait::async_trait;
use lettre::{
    Address, AsyncSmtpTransport, AsyncTransport, Tokio1Executor,
    address::Envelope,
    transport::smtp::{
        PoolConfig,
        authentication::{Credentials, Mechanism},
        client::{Certificate, Tls, TlsParameters},
        response::Response,
    },
};
use pgbosun_core::{
    config::{Mail, MailSecurity, Secret},
    human::chain,
};
use std::{future::Future, path::Path, time::Instant};
use tokio::sync::Mutex;

type Transport = AsyncSmtpTransport<Tokio1Executor>;

/// Connections at the same time: the outbox sends one message after the other.
const CONNECTIONS: u32 = 1;

pub(super) struct Smtp {
    mail: Mail,
    tls: Tls,
    port: u16,
    form: Form,
    tokens: Option<Tokens>,
    /// The transport, and the token or password it logs in with.
    open: Mutex<Option<(Transport, Option<Secret>)>>,
}

impl Smtp {
    pub fn new(mail: &Mail, form: Form, state_directory: &Path) -> Result<Self, DeliveryError> {
        let failed = |reason: String| DeliveryError::Server { server: mail.server.clone(), reason, refused: false };
        let mut parameters = TlsParameters::builder(mail.server.clone());
        if let Some(file) = &mail.ca_file {
            let pem = std::fs::read(file).map_err(|error| failed(format!("ca-file {}: {error}", file.display())))?;
            for certificate in split_pem(&pem) {
                let certificate = Certificate::from_pem(&certificate).map_err(|error| failed(chain(&error)))?;
                parameters = parameters.add_root_certificate(certificate);
            }
        }
        let (tls, port) = match mail.security {
            MailSecurity::None => (Tls::None, 25),
            security => {
                let parameters = parameters.build().map_err(|error| failed(chain(&error)))?;
                if security == MailSecurity::Tls {
                    (Tls::Wrapper(parameters), 465)
                } else {
                    (Tls::Required(parameters), 587)
                }
            }
        };
        let port = mail.port.unwrap_or(port);
        let tokens = Tokens::new(mail, state_directory)?;
        Ok(Self { mail: mail.clone(), tls, port, form, tokens, open: Mutex::new(None) })
    }

    /// The transport with its connections; a new one where the token or the password changed.
    async fn transport(&self) -> Result<Transport, DeliveryError> {
        let secret = match &self.tokens {
            Some(tokens) => Some(tokens.token().await?),
            None => self.mail.password.as_ref().map(Secret::current),
        };
        let mut open = self.open.lock().await;
        let same = |known: &Option<Secret>| known.as_ref().map(Secret::expose) == secret.as_ref().map(Secret::expose);
        if let Some((transport, _)) = open.as_ref().filter(|(_, known)| same(known)) {
            return Ok(transport.clone());
        }
        let mut builder = Transport::builder_dangerous(&self.mail.server)
            .port(self.port)
            .tls(self.tls.clone())
            .timeout(Some(self.mail.timeout))
            .pool_config(PoolConfig::new().max_size(CONNECTIONS));
        if let Some((user, secret)) = self.mail.user.as_ref().zip(secret.as_ref()) {
            builder = builder.credentials(Credentials::new(user.clone(), secret.expose().to_owned()));
            if self.tokens.is_some() {
                builder = builder.authentication(vec![Mechanism::Xoauth2]);
            }
        }
        let transport = builder.build();
        *open = Some((transport.clone(), secret));
        Ok(transport)
    }

    fn error(&self, reason: String, refused: bool) -> DeliveryError {
        DeliveryError::Server { server: format!("{}:{}", self.mail.server, self.port), reason, refused }
    }

    fn failed(&self, failed: Failed) -> DeliveryError {
        let refused = failed.refused();
        self.error(failed.reason, refused)
    }

    /// lettre's own timeout covers the connect alone.
    async fn limited<T>(
        &self,
        work: impl Future<Output = Result<T, lettre::transport::smtp::Error>>,
    ) -> Result<T, Failed> {
        let (reason, code) = match tokio::time::timeout(self.mail.timeout, work).await {
            Ok(Ok(done)) => return Ok(done),
            Ok(Err(error)) => (chain(&error), error.status().map(u16::from)),
            Err(_) => (format!("no answer within {:?}", self.mail.timeout), None),
        };
        // Whatever is wrong with the connection or the login, the next try begins anew.
        *self.open.lock().await = None;
        if let Some(tokens) = &self.tokens {
            tokens.forget().await;
        }
        Err(Failed { reason, code })
    }

    /// Sends a mail to all of its recipients, together where the server takes it so. Where one of them is wanted not, it goes to each by
    /// itself; `only` says that there are no other recipients, so that a failure is the delivery's.
    async fn to_all(
        &self,
        mail: &lettre::Message,
        to: Vec<(String, Address)>,
        taken: &mut Vec<String>,
        missed: &mut Vec<Missed>,
        only: bool,
    ) -> Result<(), DeliveryError> {
        let transport = self.transport().await?;
        let mut last = match self.limited(transport.send(mail.clone())).await {
            Ok(response) => {
                taken.push(words(&response));
                return Ok(());
            }
            Err(failed) if failed.is_one() && (to.len() > 1 || !only) => failed,
            Err(failed) => return Err(self.failed(failed)),
        };
        // The server wants one of the recipients not, and so took the mail for none: each gets it alone. Where it goes away
        // or takes its time meanwhile, the rest is for the next try: who has it by now must be known by then.
        let begin = Instant::now();
        for (recipient, address) in to {
            if last.is_one() && begin.elapsed() > self.mail.timeout {
                last = Failed { reason: "sending to the other recipients took too long".into(), code: None };
            }
            if last.is_one() {
                match self.alone(mail, address).await {
                    Ok(response) => {
                        taken.push(words(&response));
                        continue;
                    }
                    Err(failed) => last = failed,
                }
            }
            missed.push(Missed { recipient, reason: last.reason.clone(), refused: last.refused() });
        }
        Ok(())
    }

    /// Sends a mail to one of its recipients.
    async fn alone(&self, mail: &lettre::Message, to: Address) -> Result<Response, Failed> {
        let failed = |reason: String| Failed { reason, code: None };
        let envelope = Envelope::new(mail.envelope().from().cloned(), vec![to]);
        let envelope = envelope.map_err(|error| failed(chain(&error)))?;
        let transport = self.transport().await.map_err(|error| failed(chain(&error)))?;
        self.limited(transport.send_raw(&envelope, &mail.formatted())).await
    }
}

/// Why the server did not take a mail, with its code where that is its answer.
struct Failed {
    reason: String,
    code: Option<u16>,
}

impl Failed {
    /// It is a recipient or a text that it does not want, and not a login or a greeting (RFC 5321, 4.2.3; RFC 4954, 6).
    fn refused(&self) -> bool {
        self.code.is_some_and(|code| matches!(code, 550..=554))
    }

    /// Another recipient may be taken: this one is refused, or is not taken for now.
    fn is_one(&self) -> bool {
        self.refused() || self.code.is_some_and(|code| matches!(code, 450..=452))
    }
}

fn words(response: &Response) -> String {
    response.message().collect::<Vec<_>>().join(" ")
}

#[async_trait]
impl Channel for Smtp {
    async fn deliver(&self, message: &Message) -> Result<Receipt, DeliveryError> {
        let Letter { mail, to, beyond_ascii, mut missed } = self.form.compose(message, false)?;
        let (begin, mut taken) = (Instant::now(), Vec::new());
        if let Some(mail) = mail {
            self.to_all(&mail, to, &mut taken, &mut missed, beyond_ascii.is_empty()).await?;
        }
        for (recipient, mail) in beyond_ascii {
            let late = || Failed { reason: "sending to the other recipients took too long".into(), code: None };
            let sent = match begin.elapsed() > 2 * self.mail.timeout {
                true => Err(late()),
                false => self.limited(self.transport().await?.send(mail)).await,
            };
            match sent {
                Ok(response) => taken.push(words(&response)),
                Err(failed) => {
                    // What the server says it cannot do, lettre does not even ask for.
                    let refused = failed.refused() || failed.reason.contains("SMTPUTF8");
                    missed.push(Missed { recipient, reason: failed.reason, refused });
                }
            }
        }
        if taken.is_empty() {
            let reasons: Vec<_> = missed.iter().map(|one| format!("{}: {}", one.recipient, one.reason)).collect();
            return Err(self.error(reasons.join("; "), missed.iter().all(|one| one.refused)));
        }
        Ok(Receipt { detail: taken.join("; "), missed })
    }

    async fn probe(&self) -> Result<Receipt, DeliveryError> {
        let transport = self.transport().await?;
        match self.limited(transport.test_connection()).await.map_err(|failed| self.failed(failed))? {
            true => Ok(Receipt::new(format!("mail server {}:{} answers", self.mail.server, self.port))),
            false => Err(self.error("it does not answer NOOP".into(), false)),
        }
    }
}

/// The certificates of a PEM file, one by one.
fn split_pem(pem: &[u8]) -> Vec<Vec<u8>> {
    const END: &str = "-----END CERTIFICATE-----";
    let text = String::from_utf8_lossy(pem);
    text.split_inclusive(END).filter(|part| part.contains(END)).map(|part| part.trim().as_bytes().to_vec()).collect()
}
