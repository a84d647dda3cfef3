//! What can go wrong between us and a server.

use crate::{
    conninfo::{Conninfo, Host, IgnoredPasswordFile},
    pooler,
};
use pgbosun_core::unit;
use std::io::ErrorKind;

/// An error from a server or on the way to it. No variant holds a password (C25).
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The connection string is wrong.
    #[error("connection string: {0}")]
    Conninfo(String),
    /// No connection to any of the hosts.
    #[error("connect to {target}")]
    Connect {
        /// The host as libpq names it.
        target: String,
        /// Why not.
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// The server wants a password, and there is none, or it took none.
    #[error("{ignored}")]
    PasswordFile {
        /// Where the password may have been.
        ignored: IgnoredPasswordFile,
        /// The server's answer.
        #[source]
        source: Box<Self>,
    },
    /// The server asks for a password.
    #[error("the server asks for a password, but none is configured and the password file has none")]
    NoPassword,
    /// Something took longer than it may; what does so while connecting is the source of [`Error::Connect`].
    #[error("{what} took longer than {limit:?}")]
    Timeout {
        /// What did.
        what: String,
        /// How long it may take.
        limit: std::time::Duration,
    },
    /// A query failed.
    #[error("{what}")]
    Query {
        /// What was asked.
        what: String,
        /// The server's answer.
        #[source]
        source: sqlx::Error,
    },
    /// Not a server answers, but a pooler that does not keep one for each session.
    #[error(
        "a connection pooler answers at {target}: connect directly to the PostgreSQL server, with its own host and port. A \
         pooler works only if it gives every session its own server connection (PgBouncer: pool_mode = session, \
         server_reset_query = DISCARD ALL, and ignore_startup_parameters = extra_float_digits,options)"
    )]
    Pooler {
        /// The host as libpq names it.
        target: String,
    },
    /// The server's certificate is rejected, or its kind of TLS is not ours.
    #[error("TLS: {}", in_words(.0))]
    Tls(#[source] rustls::Error),
    /// The server refused a replication command.
    #[error("server refused: {message} (SQLSTATE {code})")]
    Refused {
        /// SQLSTATE.
        code: String,
        /// Its words, in its own language.
        message: String,
        /// The function of the server that says so, in no language; empty where it does not say.
        routine: String,
    },
    /// The connection broke.
    #[error("connection to the server")]
    Io(#[from] std::io::Error),
    /// The server said something the protocol does not allow here.
    #[error("replication protocol: {0}")]
    Protocol(String),
}

impl Error {
    /// That a host did not let in. A password that was not read from its file is the likeliest reason where it wants one.
    pub(crate) fn connect(
        conninfo: &Conninfo,
        host: &Host,
        source: impl Into<Box<dyn std::error::Error + Send + Sync>>,
    ) -> Self {
        let source = source.into();
        let words = match (source.downcast_ref(), source.downcast_ref::<sqlx::Error>()) {
            (Some(Self::Refused { message, .. }), _) => Some(message.as_str()),
            (_, Some(error)) => error.as_database_error().map(|error| error.message()),
            _ => None,
        };
        if words.is_some_and(pooler::speaks) {
            return Self::Pooler { target: host.to_string() };
        }
        let socket = host.socket().filter(|_| !conninfo.is_own());
        let hidden = socket.and_then(|socket| unit::keeps_away(&socket));
        let io = match source.downcast_ref() {
            Some(sqlx::Error::Io(error)) => Some(error.kind()),
            _ => source.downcast_ref::<Self>().and_then(|error| match error {
                Self::Io(error) => Some(error.kind()),
                _ => None,
            }),
        };
        let nobody = matches!(io, Some(ErrorKind::NotFound | ErrorKind::ConnectionRefused));
        let why = hidden.or(nobody.then_some("no server is listening there"));
        let target = why.map_or_else(|| host.to_string(), |why| format!("{host} ({why})"));
        let failed = Self::Connect { target, source };
        let unasked =
            matches!(&failed, Self::Connect { source, .. } if matches!(source.downcast_ref(), Some(Self::NoPassword)));
        let refused = failed.code().is_some_and(|code| code.starts_with("28"));
        match conninfo.ignored_password_file() {
            Some(ignored) if unasked || refused => Self::PasswordFile { ignored, source: Box::new(failed) },
            _ => failed,
        }
    }

    /// That a host did not let in within the limit.
    pub fn slow_to_connect(host: &Host, limit: std::time::Duration) -> Self {
        Self::Connect { target: host.to_string(), source: Box::new(Self::Timeout { what: "it".into(), limit }) }
    }

    /// True where nobody answered, or a server that stops, starts or breaks down. Not where a server that is there says no, or
    /// does not come to the end of a query.
    pub fn is_unreachable(&self) -> bool {
        match self.code() {
            Some(code) => ["57P01", "57P02", "57P03"].contains(&code.as_str()),
            None => match self {
                Self::Connect { .. } => !matches!(
                    self.inner(),
                    Some(Self::NoPassword | Self::Protocol(_) | Self::Conninfo(_) | Self::Tls(_))
                ),
                _ => matches!(self, Self::Io(_)),
            },
        }
    }

    /// True where the role may not do this.
    pub fn is_refused(&self) -> bool {
        self.code().is_some_and(|code| code == "42501")
    }

    /// True where the server does not let this role in: no line of pg_hba.conf, a wrong password, no right to replicate.
    pub fn is_not_let_in(&self) -> bool {
        let denied = self.code().is_some_and(|code| code.starts_with("28") || code == "42501");
        denied && matches!(self, Self::Connect { .. } | Self::PasswordFile { .. })
    }

    /// True where the server itself said no: it is there.
    pub fn is_answer(&self) -> bool {
        self.code().is_some()
    }

    /// True where the database is not there, or no longer.
    pub fn is_missing_database(&self) -> bool {
        self.code().is_some_and(|code| code == "3D000")
    }

    /// True where the server is there, and did not come to the end in time.
    pub fn is_slow(&self) -> bool {
        matches!(self, Self::Timeout { .. }) || self.code().is_some_and(|code| code == "57014")
    }

    /// True where the server, the database or the role has no place for one more connection.
    pub fn is_full(&self) -> bool {
        self.code().is_some_and(|code| code == "53300")
    }

    /// What kept a connection from being made, where that is an error of ours.
    fn inner(&self) -> Option<&Self> {
        match self {
            Self::Connect { source, .. } => source.downcast_ref(),
            _ => None,
        }
    }

    /// The server's SQLSTATE.
    fn code(&self) -> Option<String> {
        let of = |error: &sqlx::Error| Some(error.as_database_error()?.code()?.into_owned());
        match self {
            Self::Connect { source, .. } => match source.downcast_ref() {
                Some(Self::Refused { code, .. }) => Some(code.clone()),
                _ => of(source.downcast_ref()?),
            },
            Self::Query { source, .. } => of(source),
            Self::Refused { code, .. } => Some(code.clone()),
            Self::PasswordFile { source, .. } => source.code(),
            _ => None,
        }
    }

    /// True where trying again later may help.
    pub fn is_transient(&self) -> bool {
        match self {
            Self::Connect { source, .. } => match source.downcast_ref::<sqlx::Error>() {
                Some(error) => sqlx_is_transient(error),
                None => self.inner().is_none_or(Self::is_transient),
            },
            Self::Timeout { .. } | Self::Io(_) => true,
            Self::Query { source, .. } => sqlx_is_transient(source),
            Self::Refused { code, .. } => transient_code(code),
            Self::Conninfo(_)
            | Self::Protocol(_)
            | Self::Tls(_)
            | Self::Pooler { .. }
            | Self::PasswordFile { .. }
            | Self::NoPassword => false,
        }
    }
}

/// What is wrong with a server's TLS, and what to do about it.
fn in_words(error: &rustls::Error) -> String {
    use rustls::CertificateError as Wrong;
    let rustls::Error::InvalidCertificate(wrong) = error else { return error.to_string() };
    let why = match wrong {
        Wrong::UnknownIssuer => "no authority in sslrootcert signed it; add the certificate of the authority that did",
        Wrong::NotValidForName | Wrong::NotValidForNameContext { .. } => {
            "it is for another host name; connect with the name in the certificate, or use sslmode=verify-ca"
        }
        Wrong::Expired | Wrong::ExpiredContext { .. } => "it has expired; the server needs a new one",
        Wrong::NotValidYet | Wrong::NotValidYetContext { .. } => {
            "it is not valid yet; compare the clocks of both machines"
        }
        _ => return format!("the server's certificate is rejected: {error}"),
    };
    format!("the server's certificate is rejected: {why}")
}

fn sqlx_is_transient(error: &sqlx::Error) -> bool {
    match error {
        sqlx::Error::Io(_) | sqlx::Error::PoolTimedOut | sqlx::Error::PoolClosed => true,
        sqlx::Error::Database(error) => error.code().is_some_and(|code| transient_code(&code)),
        _ => false,
    }
}

/// SQLSTATEs that pass: connection exceptions, rollbacks, resources, operator intervention, system errors, locks.
fn transient_code(code: &str) -> bool {
    ["08", "40", "53", "57", "58"].iter().any(|class| code.starts_with(class)) || code == "55P03" || code == "55006"
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_says_no_or_works_for_too_long_is_there() {
        let limit = std::time::Duration::from_secs(5);
        let host = Host { name: "db".into(), port: 5432 };
        let refused = |code: &str| Error::Connect {
            target: "db".into(),
            source: Box::new(Error::Refused { code: code.into(), message: String::new(), routine: String::new() }),
        };
        let away = Error::Connect { target: "db".into(), source: "refused".into() };
        assert!(away.is_unreachable() && Error::slow_to_connect(&host, limit).is_unreachable());
        assert!(refused("57P03").is_unreachable() && !refused("53300").is_unreachable());
        assert!(!Error::Timeout { what: "a query".into(), limit }.is_unreachable());
        let unasked = Error::Connect { target: "db".into(), source: Box::new(Error::NoPassword) };
        assert!(!unasked.is_unreachable() && !unasked.is_transient());
        let silent = Error::slow_to_connect(&host, limit);
        assert!(silent.is_transient() && refused("53300").is_transient());
    }
}
