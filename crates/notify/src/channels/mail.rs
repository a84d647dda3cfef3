//! Mail to a server with lettre: STARTTLS, TLS or neither, with or without a login.

use super::{Channel, DeliveryError, Message, Receipt, compose, host_part};
use async_trait::async_trait;
use lettre::{
    AsyncSmtpTransport, AsyncTransport, Tokio1Executor,
    message::Mailbox,
    transport::smtp::{
        authentication::Credentials,
        client::{Certificate, Tls, TlsParameters},
    },
};
use pgbosun_core::{
    config::{Mail, MailSecurity},
    human::chain,
};
use std::{future::Future, time::Duration};

pub(super) struct Smtp {
    transport: AsyncSmtpTransport<Tokio1Executor>,
    server: String,
    from: Mailbox,
    host: String,
    limit: Duration,
}

impl Smtp {
    pub fn new(mail: &Mail, from: Mailbox, instance: &str) -> Result<Self, DeliveryError> {
        let failed = |reason: String| DeliveryError::Server { server: mail.server.clone(), reason };
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
        let mut builder = AsyncSmtpTransport::<Tokio1Executor>::builder_dangerous(&mail.server)
            .port(mail.port.unwrap_or(port))
            .tls(tls)
            .timeout(Some(mail.timeout));
        if let (Some(user), Some(password)) = (&mail.user, &mail.password) {
            builder = builder.credentials(Credentials::new(user.clone(), password.expose().to_owned()));
        }
        let server = format!("{}:{}", mail.server, mail.port.unwrap_or(port));
        Ok(Self { transport: builder.build(), server, from, host: host_part(instance), limit: mail.timeout })
    }

    /// lettre's own timeout covers the connect alone.
    async fn limited<T>(
        &self,
        work: impl Future<Output = Result<T, lettre::transport::smtp::Error>>,
    ) -> Result<T, DeliveryError> {
        let reason = match tokio::time::timeout(self.limit, work).await {
            Ok(Ok(done)) => return Ok(done),
            Ok(Err(error)) => chain(&error),
            Err(_) => format!("no answer within {:?}", self.limit),
        };
        Err(DeliveryError::Server { server: self.server.clone(), reason })
    }
}

#[async_trait]
impl Channel for Smtp {
    async fn deliver(&self, message: &Message) -> Result<Receipt, DeliveryError> {
        let mail = compose(message, &self.from, &self.host)?;
        let response = self.limited(self.transport.send(mail)).await?;
        Ok(Receipt { detail: response.message().collect::<Vec<_>>().join(" ") })
    }

    async fn probe(&self) -> Result<Receipt, DeliveryError> {
        match self.limited(self.transport.test_connection()).await? {
            true => Ok(Receipt { detail: format!("mail server {} answers", self.server) }),
            false => {
                Err(DeliveryError::Server { server: self.server.clone(), reason: "it does not answer NOOP".into() })
            }
        }
    }
}

/// The certificates of a PEM file, one by one.
fn split_pem(pem: &[u8]) -> Vec<Vec<u8>> {
    const END: &str = "-----END CERTIFICATE-----";
    let text = String::from_utf8_lossy(pem);
    text.split_inclusive(END).filter(|part| part.contains(END)).map(|part| part.trim().as_bytes().to_vec()).collect()
}
