//! One physical replication connection: start-up, authentication, simple queries, message framing.

use crate::{
    Conninfo, Error,
    conninfo::Host,
    session,
    tls::{self, Stream},
};
use bytes::{Buf, Bytes, BytesMut};
use fallible_iterator::FallibleIterator;
use pgbosun_core::lsn::Lsn;
use pgbosun_core::name::to_text;
use postgres_protocol::{
    authentication::{
        md5_hash,
        sasl::{ChannelBinding, SCRAM_SHA_256, ScramSha256},
    },
    message::{
        backend::{self, ErrorResponseBody, Message},
        frontend,
    },
};
use std::{
    io,
    pin::Pin,
    task::{Context, Waker},
    time::Duration,
};
use tokio::{
    io::{AsyncReadExt, AsyncWrite, AsyncWriteExt},
    time::timeout,
};

/// A connection in replication mode.
pub struct Replication {
    stream: Box<dyn Stream>,
    input: BytesMut,
    output: BytesMut,
    /// The server let us in.
    ready: bool,
}

/// The longest message that is read. PostgreSQL sends a base backup in pieces of 32 KiB and WAL in pieces of 128 KiB.
const LONGEST: usize = 64 << 20;
/// Bytes of a block that is read into.
const BLOCK: usize = 1 << 19;

/// Who the server is: `IDENTIFY_SYSTEM`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SystemIdentity {
    /// The cluster's identifier, a number as text.
    pub system_id: String,
    /// Current timeline.
    pub timeline: u32,
    /// Position flushed so far.
    pub position: Lsn,
}

/// What [`Replication::receive`] yields: `postgres-protocol` knows every message but `CopyBothResponse`.
pub(super) enum Received {
    CopyBoth,
    Other(Message),
}

impl Drop for Replication {
    /// Says goodbye, where the socket takes that at once: a server logs a connection that just ends.
    fn drop(&mut self) {
        const TERMINATE: [u8; 5] = [b'X', 0, 0, 0, 4];
        // Before that it expects a password, and logs whatever else comes.
        if !self.ready {
            return;
        }
        let mut context = Context::from_waker(Waker::noop());
        let mut stream = Pin::new(&mut self.stream);
        if stream.as_mut().poll_write(&mut context, &TERMINATE).is_ready() {
            let _ = stream.poll_flush(&mut context);
        }
    }
}

impl Replication {
    /// Connects to the first host that answers.
    ///
    /// # Errors
    /// The last host's error.
    pub async fn connect(conninfo: &Conninfo, limit: Duration) -> Result<Self, Error> {
        let mut last = Error::Conninfo("no host".into());
        for host in &conninfo.hosts {
            match timeout(limit, Self::connect_to(conninfo, host)).await {
                Ok(Ok(connection)) => return Ok(connection),
                Ok(Err(error)) => last = Error::connect(conninfo, host, error),
                Err(_) => last = Error::slow_to_connect(host, limit),
            }
        }
        Err(last)
    }

    pub(crate) fn over(stream: Box<dyn Stream>) -> Self {
        Self { stream, input: BytesMut::with_capacity(1 << 16), output: BytesMut::new(), ready: false }
    }

    async fn connect_to(conninfo: &Conninfo, host: &Host) -> Result<Self, Error> {
        let mut connection = Self::over(tls::open(conninfo, host).await?);
        let options = session::options(&conninfo.options);
        let parameters = [
            ("user", conninfo.user.as_str()),
            ("replication", "true"),
            ("application_name", "pgbosun"),
            ("client_encoding", "UTF8"),
            ("options", options.as_str()),
        ];
        frontend::startup_message(parameters, &mut connection.output)?;
        connection.flush().await?;
        connection.authenticate(conninfo, host).await?;
        Ok(connection)
    }

    pub(crate) async fn authenticate(&mut self, conninfo: &Conninfo, host: &Host) -> Result<(), Error> {
        // The password database is asked for "replication", as libpq does for replication connections.
        let password = || conninfo.clone().with_database("replication").password_for(host).ok_or(Error::NoPassword);
        let mut scram = None;
        loop {
            match self.message().await? {
                Message::AuthenticationOk => {}
                Message::AuthenticationCleartextPassword => {
                    frontend::password_message(password()?.expose().as_bytes(), &mut self.output)?;
                    self.flush().await?;
                }
                Message::AuthenticationMd5Password(body) => {
                    let secret = password()?;
                    let hash = md5_hash(conninfo.user.as_bytes(), secret.expose().as_bytes(), body.salt());
                    frontend::password_message(hash.as_bytes(), &mut self.output)?;
                    self.flush().await?;
                }
                Message::AuthenticationSasl(body) => {
                    if !body.mechanisms().any(|mechanism| Ok(mechanism == SCRAM_SHA_256))? {
                        return Err(Error::Protocol("the server does not offer SCRAM-SHA-256".into()));
                    }
                    let client = ScramSha256::new(password()?.expose().as_bytes(), ChannelBinding::unsupported());
                    frontend::sasl_initial_response(SCRAM_SHA_256, client.message(), &mut self.output)?;
                    scram = Some(client);
                    self.flush().await?;
                }
                Message::AuthenticationSaslContinue(body) => {
                    let client = scram.as_mut().ok_or_else(|| unexpected("SASLContinue"))?;
                    client.update(body.data())?;
                    frontend::sasl_response(client.message(), &mut self.output)?;
                    self.flush().await?;
                }
                Message::AuthenticationSaslFinal(body) => {
                    scram.as_mut().ok_or_else(|| unexpected("SASLFinal"))?.finish(body.data())?;
                }
                Message::BackendKeyData(_) => {}
                Message::ReadyForQuery(_) => {
                    self.ready = true;
                    return Ok(());
                }
                _ => return Err(unexpected("message during authentication; its method is not supported")),
            }
        }
    }

    /// `IDENTIFY_SYSTEM`.
    ///
    /// # Errors
    /// The server's refusal or a broken connection.
    pub async fn identify(&mut self) -> Result<SystemIdentity, Error> {
        let rows = self.query("IDENTIFY_SYSTEM").await?;
        let identity = rows.first().and_then(|row| {
            let field = |index: usize| row.get(index)?.clone();
            Some(SystemIdentity {
                system_id: field(0)?,
                timeline: field(1)?.parse().ok()?,
                position: field(2)?.parse().ok()?,
            })
        });
        identity.ok_or_else(|| unexpected("answer to IDENTIFY_SYSTEM"))
    }

    /// Runs one command and returns its rows as text.
    ///
    /// # Errors
    /// The server's refusal or a broken connection.
    pub async fn query(&mut self, command: &str) -> Result<Vec<Vec<Option<String>>>, Error> {
        self.send(command).await?;
        let mut rows = Vec::new();
        loop {
            match self.message().await? {
                Message::DataRow(row) => rows.push(columns(&row)?),
                Message::ReadyForQuery(_) => return Ok(rows),
                _ => {}
            }
        }
    }

    pub(super) async fn send(&mut self, command: &str) -> Result<(), Error> {
        frontend::query(command, &mut self.output)?;
        self.flush().await
    }

    pub(super) async fn send_copy_data(&mut self, data: &[u8]) -> Result<(), Error> {
        frontend::CopyData::new(data)?.write(&mut self.output);
        self.flush().await
    }

    pub(super) async fn send_copy_done(&mut self) -> Result<(), Error> {
        frontend::copy_done(&mut self.output);
        self.flush().await
    }

    async fn flush(&mut self) -> Result<(), Error> {
        self.stream.write_all_buf(&mut self.output).await?;
        self.stream.flush().await?;
        Ok(())
    }

    /// The next message; an error of the server becomes ours, notices are logged and passed over.
    pub(super) async fn message(&mut self) -> Result<Message, Error> {
        match self.receive().await? {
            Received::Other(message) => Ok(message),
            Received::CopyBoth => Err(unexpected("CopyBothResponse")),
        }
    }

    /// Room for at least so many bytes. What was handed out still lies in the old block, so that the beginning of a message
    /// has to move into the new one: large blocks make that rare.
    fn make_room(&mut self, least: usize) {
        if self.input.capacity() - self.input.len() < least {
            self.input.reserve(least.max(BLOCK));
        }
    }

    pub(super) async fn receive(&mut self) -> Result<Received, Error> {
        loop {
            let frame = if self.input.len() < 5 { None } else { frame_length(&self.input) };
            match frame {
                Some(length) if self.input.len() >= length => {
                    if self.input[0] == b'W' {
                        self.input.advance(length);
                        return Ok(Received::CopyBoth);
                    }
                    match Message::parse(&mut self.input)? {
                        Some(Message::ErrorResponse(body)) => return Err(refused(&body)),
                        Some(Message::NoticeResponse(_) | Message::ParameterStatus(_)) => continue,
                        Some(message) => return Ok(Received::Other(message)),
                        None => {}
                    }
                }
                Some(length) if length > LONGEST => {
                    let words = format!(
                        "a message of {length} bytes: what answers there is not a PostgreSQL server sending a backup"
                    );
                    return Err(Error::Protocol(words));
                }
                Some(length) => self.make_room(length - self.input.len()),
                None => self.make_room(1 << 16),
            }
            if self.stream.read_buf(&mut self.input).await? == 0 {
                return Err(io::Error::new(io::ErrorKind::UnexpectedEof, "the server closed the connection").into());
            }
        }
    }
}

fn frame_length(input: &[u8]) -> Option<usize> {
    let length: [u8; 4] = input.get(1..5)?.try_into().ok()?;
    usize::try_from(u32::from_be_bytes(length)).ok().map(|length| length + 1)
}

pub(super) fn columns(row: &backend::DataRowBody) -> Result<Vec<Option<String>>, Error> {
    let text = |range: Option<std::ops::Range<usize>>| Ok(range.map(|range| to_text(&row.buffer()[range])));
    Ok(row.ranges().map(text).collect()?)
}

pub(super) fn unexpected(what: &str) -> Error {
    Error::Protocol(format!("unexpected {what}"))
}

fn refused(body: &ErrorResponseBody) -> Error {
    let (mut code, mut message, mut routine) = (String::new(), String::new(), String::new());
    let mut fields = body.fields();
    while let Ok(Some(field)) = fields.next() {
        let value = String::from_utf8_lossy(field.value_bytes());
        match field.type_() {
            b'C' => code = value.into_owned(),
            b'M' => message = value.into_owned(),
            b'R' => routine = value.into_owned(),
            b'D' | b'H' => message = format!("{message} ({value})"),
            _ => {}
        }
    }
    Error::Refused { code, message, routine }
}

/// A copy-data payload without copying.
pub(super) fn payload(body: backend::CopyDataBody) -> Bytes {
    body.into_bytes()
}
