//! The other end of the control socket: HTTP over a unix socket.

use crate::exit::Exit;
use anyhow::Context;
use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use hyper::{Method, Request, client::conn::http1, header::HeaderValue};
use hyper_util::rt::TokioIo;
use pgbosun_daemon::api::{Refusal, SUDO_USER};
use serde::{Serialize, de::DeserializeOwned};
use std::{
    io::{
        self,
        ErrorKind::{ConnectionRefused, InvalidInput, NotFound},
    },
    path::{Path, PathBuf},
    time::Duration,
};
use tokio::net::UnixStream;

/// How long the daemon may take to answer.
const LIMIT: Duration = Duration::from_secs(30);

/// A daemon that answers.
pub struct Client {
    socket: PathBuf,
}

impl Client {
    /// The daemon behind a socket; `None` where there is none.
    ///
    /// # Errors
    /// Where there is one and this user may not talk to it.
    pub async fn find(socket: &Path) -> anyhow::Result<Option<Self>> {
        match UnixStream::connect(socket).await {
            Ok(_) => Ok(Some(Self { socket: socket.to_owned() })),
            // At a path that is too long for a socket (unix(7)) nobody can listen.
            Err(error) if matches!(error.kind(), NotFound | ConnectionRefused | InvalidInput) => Ok(None),
            Err(error) if error.kind() == io::ErrorKind::PermissionDenied => Err(Exit::refused(format!(
                "this user may not use {}: use sudo, or join the group that owns it (usermod -aG pgbosun NAME)",
                socket.display()
            ))),
            Err(error) => Err(error).with_context(|| format!("connect to {}", socket.display())),
        }
    }

    /// Whether it answers within a time: one that hangs accepts connections all the same.
    pub async fn answers(&self, limit: Duration) -> bool {
        let answer = self.exchange(Method::GET, "/running", Bytes::new());
        matches!(tokio::time::timeout(limit, answer).await, Ok(Ok(_)))
    }

    /// Reads.
    ///
    /// # Errors
    /// The daemon's refusal, or a broken connection.
    pub async fn get<T: DeserializeOwned>(&self, path: &str) -> anyhow::Result<T> {
        self.request(Method::GET, path, Bytes::new()).await
    }

    /// Reads what is no JSON.
    ///
    /// # Errors
    /// The daemon's refusal, or a broken connection.
    pub async fn text(&self, path: &str) -> anyhow::Result<String> {
        let (succeeded, bytes) = self.limited(Method::GET, path, Bytes::new()).await?;
        let text = String::from_utf8_lossy(&bytes).into_owned();
        if succeeded { Ok(text) } else { Err(Exit::refused(text)) }
    }

    /// Asks for something to be done.
    ///
    /// # Errors
    /// The daemon's refusal, or a broken connection.
    pub async fn post<T: DeserializeOwned>(&self, path: &str, body: &impl Serialize) -> anyhow::Result<T> {
        self.request(Method::POST, path, serde_json::to_vec(body)?.into()).await
    }

    /// Asks for something that may take its time.
    ///
    /// # Errors
    /// The daemon's refusal as an [`Exit`]; a broken connection or none in time as any other error.
    pub async fn ask<T: DeserializeOwned>(
        &self,
        limit: Duration,
        path: &str,
        body: &impl Serialize,
    ) -> anyhow::Result<T> {
        let answer = self.exchange(Method::POST, path, serde_json::to_vec(body)?.into());
        let (succeeded, bytes) = tokio::time::timeout(limit, answer).await??;
        read(succeeded, &bytes)
    }

    async fn request<T: DeserializeOwned>(&self, method: Method, path: &str, body: Bytes) -> anyhow::Result<T> {
        let (succeeded, bytes) = self.limited(method, path, body).await?;
        read(succeeded, &bytes)
    }

    async fn limited(&self, method: Method, path: &str, body: Bytes) -> anyhow::Result<(bool, Bytes)> {
        tokio::time::timeout(LIMIT, self.exchange(method, path, body))
            .await
            .map_err(|_| Exit::refused(format!("the daemon did not answer within {} s", LIMIT.as_secs())))?
            .context("talk to the daemon")
    }

    async fn exchange(&self, method: Method, path: &str, body: Bytes) -> anyhow::Result<(bool, Bytes)> {
        let stream = UnixStream::connect(&self.socket).await?;
        let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await?;
        let connection = tokio::spawn(connection);
        let mut request = Request::builder()
            .method(method)
            .uri(path)
            .header("host", "pgbosun")
            .header("content-type", "application/json");
        if let Some(user) = pgbosun_history::started_by().and_then(|user| user.parse::<HeaderValue>().ok()) {
            request = request.header(SUDO_USER, user);
        }
        let request = request.body(Full::new(body))?;
        let response = sender.send_request(request).await?;
        let succeeded = response.status().is_success();
        let bytes = response.into_body().collect().await?.to_bytes();
        connection.abort();
        Ok((succeeded, bytes))
    }
}

/// A path with a query: what is asked for, in names and values.
pub fn query(path: &str, values: &[(&str, Option<String>)]) -> String {
    let given = values.iter().filter_map(|(name, value)| Some(format!("{name}={}", encoded(value.as_deref()?))));
    format!("{path}?{}", given.collect::<Vec<_>>().join("&"))
}

/// Text as a part of a path or query (RFC 3986, 2.1).
pub fn encoded(text: &str) -> String {
    let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-._~".contains(&byte);
    let encode = |byte: u8| if is_plain(byte) { char::from(byte).to_string() } else { format!("%{byte:02X}") };
    text.bytes().map(encode).collect()
}

fn read<T: DeserializeOwned>(succeeded: bool, bytes: &[u8]) -> anyhow::Result<T> {
    if succeeded {
        return serde_json::from_slice(bytes).context("read the daemon's answer");
    }
    let refusal = serde_json::from_slice::<Refusal>(bytes);
    let words = refusal.map_or_else(|_| String::from_utf8_lossy(bytes).into_owned(), |refusal| refusal.error);
    Err(Exit::refused(words))
}
