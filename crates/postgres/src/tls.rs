//! The way to a server: a Unix socket, TCP, or TLS over it as libpq's `sslmode` means it. `require` encrypts, `verify-ca` checks
//! the issuer, `verify-full` the host too.
//!
//! Invariants: every connection of ours, for queries and for replication, comes from [`open`]; what is checked is checked against
//! `sslrootcert` alone, and never against the authorities of the system beside it.

mod verify;

use crate::{
    Conninfo, Error,
    conninfo::{Host, SslMode},
};
use bytes::BytesMut;
use postgres_protocol::message::frontend;
use rustls::ClientConfig;
use rustls_pki_types::{CertificateDer, ServerName, pem::PemObject};
use socket2::SockRef;
use std::{io, path::Path, sync::Arc, time::Duration};
use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt},
    net::{TcpStream, UnixStream},
};
use tokio_rustls::TlsConnector;
use verify::Verifier;

/// What a connection reads from and writes to.
pub(crate) trait Stream: AsyncRead + AsyncWrite + Send + Unpin {}
impl<T: AsyncRead + AsyncWrite + Send + Unpin> Stream for T {}

/// `sslrootcert` of those who trust the authorities that the system trusts.
pub(crate) const SYSTEM: &str = "system";

/// How long what was sent may stay unanswered (tcp(7), TCP_USER_TIMEOUT): whoever waits for a server that is gone, or
/// reads no more, ends then.
const UNANSWERED: Duration = Duration::from_secs(300);

/// Connects to a host, with TLS where `sslmode` asks for it and the server has it.
pub(crate) async fn open(conninfo: &Conninfo, host: &Host) -> Result<Box<dyn Stream>, Error> {
    if let Some(path) = host.socket() {
        return Ok(Box::new(UnixStream::connect(path).await?));
    }
    let mut tcp = TcpStream::connect((host.name.as_str(), host.port)).await?;
    tcp.set_nodelay(true)?;
    let socket = SockRef::from(&tcp);
    socket.set_keepalive(true)?;
    socket.set_tcp_user_timeout(Some(UNANSWERED))?;
    if conninfo.sslmode == SslMode::Disable {
        return Ok(Box::new(tcp));
    }
    let mut request = BytesMut::new();
    frontend::ssl_request(&mut request);
    tcp.write_all_buf(&mut request).await?;
    match (tcp.read_u8().await?, conninfo.sslmode) {
        (b'S', _) => {
            let name = ServerName::try_from(host.name.clone())
                .map_err(|_| Error::Conninfo(format!("\"{}\" is not a host name that TLS can verify", host.name)))?;
            let connector = TlsConnector::from(client(conninfo)?);
            Ok(Box::new(connector.connect(name, tcp).await.map_err(refusal)?))
        }
        (b'N', SslMode::Prefer) => Ok(Box::new(tcp)),
        (b'N', _) => Err(Error::Protocol("the server does not support TLS, but sslmode requires it".into())),
        _ => Err(Error::Protocol("the answer to the TLS request is not from PostgreSQL".into())),
    }
}

/// A certificate that is rejected, or a server of another kind of TLS, is nothing another try would change.
fn refusal(error: io::Error) -> Error {
    match error.get_ref().and_then(|inner| inner.downcast_ref::<rustls::Error>()) {
        Some(
            refused @ (rustls::Error::InvalidCertificate(_)
            | rustls::Error::PeerIncompatible(_)
            | rustls::Error::AlertReceived(_)),
        ) => Error::Tls(refused.clone()),
        _ => error.into(),
    }
}

fn client(conninfo: &Conninfo) -> Result<Arc<ClientConfig>, Error> {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let roots = match conninfo.sslmode {
        SslMode::Disable | SslMode::Prefer | SslMode::Require => None,
        SslMode::VerifyCa | SslMode::VerifyFull => {
            let file = conninfo.sslrootcert.as_deref();
            Some(Roots::read(
                file.ok_or_else(|| Error::Conninfo("there is no sslrootcert to verify the server with".into()))?,
            )?)
        }
    };
    let name_matters = conninfo.sslmode == SslMode::VerifyFull;
    let config = ClientConfig::builder_with_provider(Arc::clone(&provider))
        .with_safe_default_protocol_versions()
        .map_err(io::Error::other)?
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(Verifier { roots, name_matters, provider }))
        .with_no_client_auth();
    Ok(Arc::new(config))
}

/// The certificates of whom to believe.
#[derive(Debug)]
struct Roots(Vec<CertificateDer<'static>>);

impl Roots {
    fn read(file: &Path) -> Result<Self, Error> {
        if file.as_os_str() == SYSTEM {
            return Ok(Self(rustls_native_certs::load_native_certs().certs));
        }
        let failed = |why: &dyn std::fmt::Display| Error::Conninfo(format!("sslrootcert {}: {why}", file.display()));
        let found = CertificateDer::pem_file_iter(file).map_err(|error| failed(&error))?;
        let certificates: Vec<_> = found.collect::<Result<_, _>>().map_err(|error| failed(&error))?;
        match certificates.is_empty() {
            true => Err(failed(&"it contains no certificate")),
            false => Ok(Self(certificates)),
        }
    }
}
