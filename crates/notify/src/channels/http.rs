//! What the channels behind HTTP share: one client a channel, one POST, and what is known of a refusal.

use super::DeliveryError;
use pgbosun_core::human::chain;
use reqwest::{Client, RequestBuilder, Response, StatusCode, header::RETRY_AFTER};
use std::{path::Path, time::Duration};

/// What is read of an answer. No service has more to say about a message; a page of a proxy has, and somebody who wants our memory.
const ANSWER: usize = 64 << 10;
/// What is told of it.
const TOLD: usize = 500;
/// The longest that a service is left alone at its own wish.
const LONGEST: Duration = Duration::from_secs(3600);

pub(super) struct Http {
    client: Client,
    service: String,
}

impl Http {
    /// A client for one service, which errors call by this name.
    pub fn new(service: &str, timeout: Duration, ca_file: Option<&Path>) -> Result<Self, DeliveryError> {
        let failed = |reason: String| DeliveryError::Message(reason);
        let mut builder = Client::builder()
            .timeout(timeout)
            .tls_backend_rustls()
            .redirect(reqwest::redirect::Policy::none())
            .user_agent(concat!("pgbosun/", env!("CARGO_PKG_VERSION")));
        if let Some(file) = ca_file {
            let name = |error: &dyn std::fmt::Display| failed(format!("ca-file {}: {error}", file.display()));
            let pem = std::fs::read(file).map_err(|error| name(&error))?;
            let certificates = reqwest::Certificate::from_pem_bundle(&pem).map_err(|error| name(&error))?;
            builder = builder.tls_certs_merge(certificates);
        }
        let client = builder.build().map_err(|error| failed(chain(&error)))?;
        Ok(Self { client, service: service.to_owned() })
    }

    /// A request to post.
    pub fn post(&self, url: &str, kind: &str, body: String) -> RequestBuilder {
        self.client.post(url).header("content-type", kind).body(body)
    }

    /// Sends it; the answer's status and the first of its text.
    pub async fn send(&self, request: RequestBuilder) -> Result<(StatusCode, String), DeliveryError> {
        // The address may be the secret.
        let failed = |error: reqwest::Error| self.error(chain(&error.without_url()));
        let mut answer = request.send().await.map_err(failed)?;
        let status = answer.status();
        let after =
            (status == StatusCode::TOO_MANY_REQUESTS || status.is_server_error()).then(|| after(&answer)).flatten();
        let mut bytes = Vec::new();
        loop {
            match answer.chunk().await {
                Ok(Some(chunk)) => bytes.extend_from_slice(&chunk),
                Ok(None) => break,
                // What was accepted is, also where the rest of the answer does not arrive.
                Err(_) if status.is_success() => break,
                Err(error) => return Err(failed(error)),
            }
            if bytes.len() > ANSWER {
                let reason =
                    format!("{status}, with an answer of more than 64 KiB: this does not look like the service");
                return Err(self.error(reason));
            }
        }
        let text = String::from_utf8_lossy(&bytes).into_owned();
        match after {
            Some(after) => {
                let reason = format!("{status}, retry after {} s", after.as_secs());
                Err(DeliveryError::Service {
                    service: self.service.clone(),
                    reason,
                    refused: false,
                    after: Some(after),
                })
            }
            None => Ok((status, text)),
        }
    }

    /// The same, where any answer but a success is a refusal.
    pub async fn accepted(&self, request: RequestBuilder) -> Result<(StatusCode, String), DeliveryError> {
        let (status, text) = self.send(request).await?;
        if status.is_success() {
            return Ok((status, text));
        }
        let (service, reason) = (self.service.clone(), format!("{status}: {}", super::shortened(text.trim(), TOLD)));
        // What is wrong with the address or the key is wrong with every message.
        let all = matches!(status.as_u16(), 401 | 403 | 404 | 408 | 410 | 429);
        Err(DeliveryError::Service { service, reason, refused: status.is_client_error() && !all, after: None })
    }

    /// Something this service did.
    pub fn error(&self, reason: String) -> DeliveryError {
        DeliveryError::Service { service: self.service.clone(), reason, refused: false, after: None }
    }
}

/// Fetches an address whose answer only has to be a success.
///
/// # Errors
/// Where there is no answer, or another one.
pub async fn fetch(url: &str, limit: Duration) -> Result<(), DeliveryError> {
    let http = Http::new("the address", limit, None)?;
    http.accepted(http.client.get(url)).await.map(drop)
}

/// `Retry-After` in seconds; services that answer with a date are asked at the outbox's own pace.
fn after(answer: &Response) -> Option<Duration> {
    let seconds = answer.headers().get(RETRY_AFTER)?.to_str().ok()?.trim().parse().ok()?;
    Some(Duration::from_secs(seconds).min(LONGEST))
}
