//! Tokens for XOAUTH2: fetched with the refresh token, or by the client's own right (RFC 6749, 6 and 4.4), and kept until
//! shortly before they end.
//!
//! A server may give a new refresh token with each token, and let the old one end. It is kept beside the journal, for its owner
//! alone, and goes before the configured one as long as that is the one it came from.

use super::{DeliveryError, http::Http};
use pgbosun_core::{
    config::{Mail, Secret},
    human,
};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use std::{
    fs::{self, DirBuilder},
    io,
    os::unix::fs::DirBuilderExt,
    path::{Path, PathBuf},
    time::{Duration, Instant},
};
use tokio::sync::Mutex;

/// A token that ends within this is fetched anew.
const SPARE: Duration = Duration::from_secs(60);
/// What is said of a refresh token that is good no more (RFC 6749, 5.2).
const INVALID: &str = "invalid_grant";
/// How long a token is kept of which nothing is said.
const DEFAULT: u64 = 300;

pub(super) struct Tokens {
    http: Http,
    url: String,
    /// Where addresses and forms are encoded: nobody else here needs an encoder.
    encoder: reqwest::Url,
    fields: Vec<(&'static str, Secret)>,
    refresh: Option<Refresh>,
    token: Mutex<Option<(Secret, Instant)>>,
}

impl Tokens {
    /// Where `oauth2-token-url` is set.
    pub fn new(mail: &Mail, state_directory: &Path) -> Result<Option<Self>, DeliveryError> {
        let Some(url) = mail.oauth2_token_url.clone() else { return Ok(None) };
        let refresh = mail
            .password
            .clone()
            .map(|configured| Refresh { configured, file: state_directory.join("mail-refresh-token.json") });
        let grant = if refresh.is_some() { "refresh_token" } else { "client_credentials" };
        let fields = [
            ("grant_type", Some(Secret::new(grant))),
            ("client_id", mail.oauth2_client_id.as_deref().map(Secret::new)),
            ("client_secret", mail.oauth2_client_secret.clone()),
            ("scope", mail.oauth2_scope.as_deref().map(Secret::new)),
        ];
        let fields = fields.into_iter().filter_map(|(key, value)| Some((key, value?))).collect();
        let failed = |error: &dyn std::fmt::Display| DeliveryError::Message(format!("oauth2-token-url: {error}"));
        let mut encoder = reqwest::Url::parse(&url).map_err(|error| failed(&error))?;
        encoder.set_query(None);
        let http = Http::new("the token server", mail.timeout, mail.ca_file.as_deref())?;
        Ok(Some(Self { http, url, encoder, fields, refresh, token: Mutex::new(None) }))
    }

    /// A token that is good for a while.
    pub async fn token(&self) -> Result<Secret, DeliveryError> {
        let mut kept = self.token.lock().await;
        if let Some((token, until)) = kept.as_ref().filter(|(_, until)| *until > Instant::now() + SPARE) {
            let _ = until;
            return Ok(token.clone());
        }
        let newest = self.refresh.as_ref().and_then(Refresh::kept);
        let mut fetched = self.fetch(newest.as_ref()).await?;
        // Only then: who shows an old one while the new one is good may lose both.
        if newest.is_some() && matches!(&fetched, Err(refusal) if refusal.starts_with(INVALID)) {
            tracing::warn!("the newest refresh token was rejected: trying the configured one");
            fetched = self.fetch(None).await?;
        }
        let (token, seconds) = fetched.map_err(|refusal| self.http.error(format!("returned no token: {refusal}")))?;
        *kept = Some((token.clone(), Instant::now() + Duration::from_secs(seconds)));
        Ok(token)
    }

    /// A token and how long it is good, for this refresh token or the configured one; or the server's words of refusal.
    async fn fetch(&self, newest: Option<&Secret>) -> Result<Result<(Secret, u64), String>, DeliveryError> {
        let configured = self.refresh.as_ref().map(|refresh| refresh.configured.current());
        let used = newest.or(configured.as_ref());
        let mut encoder = self.encoder.clone();
        let fields: Vec<_> = self.fields.iter().map(|(key, value)| (*key, value.current())).collect();
        let fields = fields.iter().map(|(key, value)| (*key, value.expose()));
        encoder.query_pairs_mut().extend_pairs(fields.chain(used.map(|used| ("refresh_token", used.expose()))));
        let form = encoder.query().unwrap_or_default().to_owned();
        let request = self.http.post(&self.url, "application/x-www-form-urlencoded", form);
        let (status, text) = self.http.send(request.header("accept", "application/json")).await?;
        let answer: serde_json::Value = serde_json::from_str(&text).unwrap_or_default();
        let Some(token) = answer["access_token"].as_str().filter(|_| status.is_success()) else {
            let words = ["error", "error_description"].map(|key| answer[key].as_str().unwrap_or_default());
            return Ok(Err(format!("{} ({status})", words.join(" ").trim())));
        };
        if let (Some(refresh), Some(next)) = (&self.refresh, answer["refresh_token"].as_str())
            && used.is_some_and(|used| used.expose() != next)
            && let Err(error) = refresh.keep(next)
        {
            tracing::error!(
                "cannot save the new refresh token in {}: {}",
                refresh.file.display(),
                human::chain(&error)
            );
        }
        Ok(Ok((Secret::new(token), answer["expires_in"].as_u64().unwrap_or(DEFAULT))))
    }

    /// Forgets the token: the mail server did not want it.
    pub async fn forget(&self) {
        *self.token.lock().await = None;
    }
}

/// The refresh token, as configured and as given since.
struct Refresh {
    configured: Secret,
    file: PathBuf,
}

#[derive(Serialize, Deserialize)]
struct Kept {
    /// SHA-256 of the configured token that it came from.
    of: String,
    token: String,
}

impl Refresh {
    fn of(&self) -> String {
        hex::encode(Sha256::digest(self.configured.current().expose()))
    }

    /// What was given last, unless another was configured since.
    fn kept(&self) -> Option<Secret> {
        let kept: Kept = serde_json::from_slice(&fs::read(&self.file).ok()?).ok()?;
        (kept.of == self.of()).then(|| Secret::new(kept.token))
    }

    fn keep(&self, token: &str) -> io::Result<()> {
        let text = serde_json::to_vec(&Kept { of: self.of(), token: token.to_owned() })?;
        if let Some(state) = self.file.parent() {
            DirBuilder::new().recursive(true).mode(0o700).create(state)?;
        }
        pgbosun_core::publish::publish(&self.file, 0o600, &text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::MetadataExt;

    #[test]
    fn what_was_given_last_counts_until_another_is_configured() {
        let directory = tempfile::tempdir().unwrap();
        let refresh = |token: &str| Refresh {
            configured: Secret::new(token),
            file: directory.path().join("mail-refresh-token.json"),
        };
        assert!(refresh("one").kept().is_none());
        refresh("one").keep("two").unwrap();
        refresh("one").keep("three").unwrap();
        assert_eq!(refresh("one").kept().unwrap().expose(), "three");
        assert_eq!(refresh("one").file.metadata().unwrap().mode() & 0o777, 0o600);
        assert!(refresh("another").kept().is_none());
    }
}
