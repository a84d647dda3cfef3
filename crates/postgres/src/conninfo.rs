//! Connection strings in every form libpq takes (PostgreSQL documentation, "Connection Strings"): `key=value`,
//! URIs, service files, several hosts, `.pgpass`; made usable for sqlx, replication and client programs alike.

mod files;
mod parse;

pub use files::IgnoredPasswordFile;

use crate::Error;
use pgbosun_core::config::Secret;
use std::{fmt, path::PathBuf};

/// One server of a cluster.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Host {
    /// A name, an address, or the directory of a unix socket.
    pub name: String,
    /// Port.
    pub port: u16,
}

impl Host {
    /// The path of the unix socket, where the host is a directory.
    pub fn socket(&self) -> Option<PathBuf> {
        self.name.starts_with('/').then(|| PathBuf::from(format!("{}/.s.PGSQL.{}", self.name, self.port)))
    }
}

impl fmt::Display for Host {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.name, self.port)
    }
}

/// How far TLS is asked for and checked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SslMode {
    /// Never.
    Disable,
    /// Where the server has it, unchecked.
    Prefer,
    /// Always, unchecked.
    Require,
    /// Always, with a certificate of a known authority.
    VerifyCa,
    /// Always, and the certificate names the host.
    VerifyFull,
}

/// Whether the password exchange is tied to the TLS connection. `require` is refused: sqlx has no SCRAM-SHA-256-PLUS.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum ChannelBinding {
    /// Never.
    Disable,
    /// Where both sides can, which is in client programs.
    #[default]
    Prefer,
}

/// A resolved connection string.
#[derive(Clone, Debug)]
pub struct Conninfo {
    /// The servers, in the order in which they are tried.
    pub hosts: Vec<Host>,
    /// Role.
    pub user: String,
    /// Database.
    pub database: String,
    /// TLS.
    pub sslmode: SslMode,
    /// A file with the certificates to trust, or `system` for those of the system; not `None` where certificates are checked.
    pub sslrootcert: Option<PathBuf>,
    /// For client programs.
    pub channel_binding: ChannelBinding,
    /// Only a server that takes writes will do (`target_session_attrs=read-write` or `primary`).
    pub primary_only: bool,
    /// Settings for the session, from libpq's `options`. Those of ours go before them (C39).
    pub options: Vec<(String, String)>,
    password: Option<Secret>,
    passfile: Option<PathBuf>,
    own: bool,
}

impl Conninfo {
    /// Parses a connection string and fills in the service file and libpq's defaults.
    ///
    /// # Errors
    /// [`Error::Conninfo`] with the offending word.
    pub fn parse(text: &str) -> Result<Self, Error> {
        let mut settings = parse::settings(text).map_err(Error::Conninfo)?;
        let service = settings.get("service").cloned().or_else(|| std::env::var("PGSERVICE").ok());
        if let Some(service) = service {
            for (key, value) in files::service(&service).map_err(Error::Conninfo)? {
                settings.entry(key).or_insert(value);
            }
        }
        parse::check_promises(&settings).map_err(Error::Conninfo)?;
        parse::resolve(settings).map_err(Error::Conninfo)
    }

    /// One host without TLS or password: a server of our own.
    pub fn local(host: Host, user: &str, database: &str) -> Self {
        Self {
            hosts: vec![host],
            user: user.to_owned(),
            database: database.to_owned(),
            sslmode: SslMode::Disable,
            sslrootcert: None,
            channel_binding: ChannelBinding::Prefer,
            primary_only: false,
            options: Vec::new(),
            password: None,
            passfile: None,
            own: true,
        }
    }

    /// True of a server of our own.
    pub(crate) const fn is_own(&self) -> bool {
        self.own
    }

    /// With a password, unless the string had one.
    #[must_use]
    pub fn with_password(mut self, password: Option<Secret>) -> Self {
        self.password = self.password.or(password);
        self
    }

    /// With another database.
    #[must_use]
    pub fn with_database(mut self, database: &str) -> Self {
        self.database = database.to_owned();
        self
    }

    /// As another role, with this password or what the password file has for it.
    #[must_use]
    pub fn as_user(mut self, user: &str, password: Option<Secret>) -> Self {
        (self.user, self.password) = (user.to_owned(), password);
        self
    }

    /// True where the string itself holds a password.
    pub fn holds_password(&self) -> bool {
        self.password.is_some()
    }

    /// The password for one host: given, or from the password file.
    pub fn password_for(&self, host: &Host) -> Option<Secret> {
        self.password.as_ref().map(Secret::current).or_else(|| {
            let text = files::password_file(self.passfile.as_deref()).ok()?;
            files::password_in(&text, host, &self.database, &self.user)
        })
    }

    /// The password file, where none was given, that might have had one and is not used.
    pub fn ignored_password_file(&self) -> Option<IgnoredPasswordFile> {
        if self.password.is_some() { None } else { files::password_file(self.passfile.as_deref()).err() }
    }
}

impl fmt::Display for Conninfo {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let hosts: Vec<_> = self.hosts.iter().map(Host::to_string).collect();
        write!(f, "{} as {}", hosts.join(","), self.user)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;

    #[test]
    fn key_value_uri_and_several_hosts() {
        let c = Conninfo::parse(r"host=/var/run/postgresql user=postgres dbname='with space' port=5433").unwrap();
        assert_eq!(c.hosts, [Host { name: "/var/run/postgresql".into(), port: 5433 }]);
        assert_eq!((c.user.as_str(), c.database.as_str()), ("postgres", "with space"));
        assert_eq!(c.hosts[0].socket().unwrap().to_str(), Some("/var/run/postgresql/.s.PGSQL.5433"));

        let c = Conninfo::parse("host=a,b,c port=5432,5433,5434 user=u target_session_attrs=read-write").unwrap();
        assert_eq!(c.hosts[2], Host { name: "c".into(), port: 5434 });
        assert!(c.primary_only);

        let c = Conninfo::parse("postgresql://me%40x:s%3Acret@db1:5000,[::1]/app?sslmode=verify-full").unwrap();
        assert_eq!((c.user.as_str(), c.database.as_str(), c.sslmode), ("me@x", "app", SslMode::VerifyFull));
        assert_eq!(c.hosts[1], Host { name: "::1".into(), port: 5432 });
        assert_eq!(c.password_for(&c.hosts[0]).unwrap().expose(), "s:cret");
        assert!(!format!("{c} {c:?}").contains("s:cret"));
    }

    #[test]
    fn refusals_name_the_word() {
        let message = |text: &str| Conninfo::parse(text).unwrap_err().to_string();
        assert!(message("hots=localhost user=u").contains("\"hots\""));
        assert!(message("host=a,b port=1,2,3 user=u").contains("3 ports for 2 hosts"));
        assert!(message("host=a port=x user=u").contains("\"x\""));
        assert!(message("host='a user=u").contains("quote"));
    }

    #[test]
    fn a_promise_that_cannot_be_kept_is_refused_in_every_form() {
        let binding = |text: &str| Conninfo::parse(text).map(|conninfo| conninfo.channel_binding);
        assert_eq!(binding("host=a user=u").unwrap(), ChannelBinding::Prefer);
        assert_eq!(binding("host=a user=u channel_binding=prefer").unwrap(), ChannelBinding::Prefer);
        assert_eq!(binding("postgresql://u@a/d?channel_binding=disable").unwrap(), ChannelBinding::Disable);
        for (text, word) in [
            ("host=a user=u channel_binding=require", "sslmode=verify-full"),
            ("postgresql://u@a/d?channel_binding=require", "sslmode=verify-full"),
            ("host=a user=u channel_binding=maybe", "disable, prefer or require"),
            ("host=a user=u require_auth=scram-sha-256", "require_auth"),
            ("host=a user=u sslcert=/c sslkey=/k", "client certificate"),
            ("host=a user=u gssencmode=require", "gssencmode"),
            ("host=a user=u ssl_min_protocol_version=TLSv1.3", "ssl_min_protocol_version"),
            ("host=a user=u sslmode=require sslrootcert=system", "sslmode=verify-full"),
        ] {
            let refused = Conninfo::parse(text).unwrap_err().to_string();
            assert!(refused.contains(word), "{text}: {refused}");
        }
        for harmless in
            ["keepalives_idle=30", "gssencmode=disable", "ssl_min_protocol_version=TLSv1.2", "client_encoding=auto"]
        {
            Conninfo::parse(&format!("host=a user=u {harmless}")).unwrap();
        }
    }

    #[test]
    fn root_certificates_are_checked_against_where_libpq_does() {
        let trust = |text: &str| {
            let conninfo = Conninfo::parse(&format!("host=a user=u {text}")).unwrap();
            (conninfo.sslmode, conninfo.sslrootcert.map(|file| file.display().to_string()))
        };
        let system = Some("system".to_owned());
        assert_eq!(trust("sslmode=verify-full"), (SslMode::VerifyFull, system.clone()));
        assert_eq!(trust("sslrootcert=system"), (SslMode::VerifyFull, system));
        assert_eq!(trust("sslmode=require sslrootcert=/r"), (SslMode::VerifyCa, Some("/r".into())));
        assert_eq!(trust("sslmode=prefer sslrootcert=/r"), (SslMode::Prefer, Some("/r".into())));
        assert_eq!(trust("sslmode=require"), (SslMode::Require, None));
        assert!(Conninfo::parse("host=a user=u sslmode=verify-ca").unwrap_err().to_string().contains("sslrootcert"));
    }

    #[test]
    fn password_file_is_matched_like_libpq_and_must_be_private() {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("pgpass");
        std::fs::write(&file, "# comment\nother:*:*:*:no\n*:5432:app:me:pa\\:ss\n").unwrap();
        let text = format!("host=db user=me dbname=app passfile={}", file.display());
        let c = Conninfo::parse(&text).unwrap();
        for mode in [0o644, 0o640, 0o620, 0o601] {
            std::fs::set_permissions(&file, std::fs::Permissions::from_mode(mode)).unwrap();
            assert!(c.password_for(&c.hosts[0]).is_none());
            let ignored = c.ignored_password_file().unwrap().to_string();
            assert!(ignored.contains(&format!("{mode:04o}")) && ignored.contains("chmod 0600 /"), "{ignored}");
        }
        assert!(c.clone().with_password(Some(Secret::new("x"))).ignored_password_file().is_none());
        std::fs::set_permissions(&file, std::fs::Permissions::from_mode(0o600)).unwrap();
        assert!(c.ignored_password_file().is_none());
        assert_eq!(c.password_for(&c.hosts[0]).unwrap().expose(), "pa:ss");
        assert!(c.with_database("else").password_for(&Host { name: "db".into(), port: 5432 }).is_none());
    }
}
