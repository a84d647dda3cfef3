//! Tokens for XOAUTH2: fetched with the refresh token, or by the client's own right (RFC 6749, 6 and 4.4), and kept until
//! shortly before they end.

use super::{DeliveryError, http::Http};
use pgbosun_core::config::{Mail, Secret};
use std::time::{Duration, Instant};
use tokio::sync::Mutex;

/// A token that ends within this is fetched anew.
const SPARE: Duration = Duration::from_secs(60);
/// How long a token is kept of which nothing is said.
const DEFAULT: u64 = 300;

pub(super) struct Tokens {
    http: Http,
    url: String,
    form: String,
    token: Mutex<Option<(Secret, Instant)>>,
}

impl Tokens {
    /// Where `oauth2-token-url` is set.
    pub fn new(mail: &Mail) -> Result<Option<Self>, DeliveryError> {
        let Some(url) = mail.oauth2_token_url.clone() else { return Ok(None) };
        let secret = |secret: &Option<Secret>| secret.as_ref().map(|secret| secret.expose().to_owned());
        let refresh = secret(&mail.password);
        let grant = if refresh.is_some() { "refresh_token" } else { "client_credentials" };
        let fields = [
            ("grant_type", Some(grant.to_owned())),
            ("refresh_token", refresh),
            ("client_id", mail.oauth2_client_id.clone()),
            ("client_secret", secret(&mail.oauth2_client_secret)),
            ("scope", mail.oauth2_scope.clone()),
        ];
        // An address as its own encoder of forms: nobody else here needs one.
        let failed = |error: &dyn std::fmt::Display| DeliveryError::Message(format!("oauth2-token-url: {error}"));
        let mut encoder = reqwest::Url::parse(&url).map_err(|error| failed(&error))?;
        encoder.set_query(None);
        encoder.query_pairs_mut().extend_pairs(fields.iter().filter_map(|(key, value)| Some((key, value.as_ref()?))));
        let form = encoder.query().unwrap_or_default().to_owned();
        let http = Http::new("the token server", mail.timeout, mail.ca_file.as_deref())?;
        Ok(Some(Self { http, url, form, token: Mutex::new(None) }))
    }

    /// A token that is good for a while.
    pub async fn token(&self) -> Result<Secret, DeliveryError> {
        let mut kept = self.token.lock().await;
        if let Some((token, until)) = kept.as_ref().filter(|(_, until)| *until > Instant::now() + SPARE) {
            let _ = until;
            return Ok(token.clone());
        }
        let request = self.http.post(&self.url, "application/x-www-form-urlencoded", self.form.clone());
        let (status, text) = self.http.send(request.header("accept", "application/json")).await?;
        let answer: serde_json::Value = serde_json::from_str(&text).unwrap_or_default();
        let Some(token) = answer["access_token"].as_str().filter(|_| status.is_success()) else {
            let words = ["error", "error_description"].map(|key| answer[key].as_str().unwrap_or_default());
            return Err(self.http.error(format!("gave no token: {status} {}", words.join(" ").trim())));
        };
        let seconds = answer["expires_in"].as_u64().unwrap_or(DEFAULT);
        let token = Secret::new(token);
        *kept = Some((token.clone(), Instant::now() + Duration::from_secs(seconds)));
        Ok(token)
    }

    /// Forgets the token: the mail server did not want it.
    pub async fn forget(&self) {
        *self.token.lock().await = None;
    }
}
