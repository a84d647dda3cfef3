//! Connections for queries, with the limits that keep a monitor from hurting what it watches.

use crate::{
    Conninfo, Error, SessionSettings, bridge,
    conninfo::{Host, SslMode},
    pooler, session, tls,
};
use pgbosun_core::config::Cluster;
use sqlx::{
    ConnectOptions, Connection, PgConnection,
    postgres::{PgConnectOptions, PgSslMode},
};
use std::time::Duration;
use uuid::Uuid;

/// A cluster as a place to connect to.
#[derive(Clone, Debug)]
pub struct Server {
    /// Where.
    pub conninfo: Conninfo,
    /// How long a connection may take.
    pub connect_timeout: Duration,
    /// How long a query may take, on the server.
    pub statement_timeout: Duration,
    /// How long a query may wait for a lock, on the server.
    pub lock_timeout: Duration,
    /// What a session begins with.
    pub session: SessionSettings,
}

impl Server {
    /// The server of a configured cluster.
    ///
    /// # Errors
    /// [`Error::Conninfo`].
    pub fn of(cluster: &Cluster) -> Result<Self, Error> {
        Ok(Self {
            conninfo: Conninfo::parse(&cluster.connection)?.with_password(cluster.password.clone()),
            connect_timeout: cluster.connect_timeout,
            statement_timeout: cluster.statement_timeout,
            lock_timeout: cluster.lock_timeout,
            session: SessionSettings::Ours,
        })
    }

    /// The same cluster by one of its hosts alone.
    #[must_use]
    pub fn at(&self, host: &Host) -> Self {
        let mut server = self.clone();
        server.conninfo.hosts = vec![host.clone()];
        server
    }

    /// The same place, for SQL that the user wrote.
    #[must_use]
    pub fn for_own_sql(&self) -> Self {
        Self { session: SessionSettings::AsTheServerHasIt, ..self.clone() }
    }

    /// A new connection to the first host that answers (and takes writes, where the string asks for that).
    ///
    /// # Errors
    /// The last host's error.
    pub async fn connect(&self) -> Result<PgConnection, Error> {
        let mut last = Error::Conninfo("no host".into());
        for host in &self.conninfo.hosts {
            let attempt = Box::pin(self.connect_to(host));
            match tokio::time::timeout(self.connect_timeout, attempt).await {
                Ok(Ok(connection)) => return Ok(connection),
                Ok(Err(error)) => last = error,
                Err(_) => last = Error::slow_to_connect(host, self.connect_timeout),
            }
        }
        Err(last)
    }

    async fn connect_to(&self, host: &Host) -> Result<PgConnection, Error> {
        let failed = |source: sqlx::Error| Error::connect(&self.conninfo, host, source);
        let (options, mark) = self.options(host).await?;
        let mut connection = options.connect().await.map_err(failed)?;
        let limits = session::limits_of(connection.server_version_num().unwrap_or_default());
        match self.settle(host, mark, &mut connection).await {
            // A very short limit may have ended the session, whatever the error says: a write may fail before its reason is read.
            Err(error) if !limits.is_empty() && !matches!(error, Error::Pooler { .. }) => {
                let (options, mark) = self.options(host).await?;
                connection = options.options(limits.iter().copied()).connect().await.map_err(failed)?;
                self.settle(host, mark, &mut connection).await?;
            }
            settled => settled?,
        }
        if self.conninfo.primary_only {
            let standby: bool = sqlx::query_scalar("select /* pgbosun */ pg_catalog.pg_is_in_recovery()")
                .fetch_one(&mut connection)
                .await
                .map_err(failed)?;
            if standby {
                let _ = connection.close().await;
                let source = "the server is a standby, but the connection asks for a primary".into();
                return Err(Error::Connect { target: host.to_string(), source });
            }
        }
        Ok(connection)
    }

    /// The rest of the settings, on a connection that was made with [`Server::options`].
    ///
    /// # Errors
    /// Where the connection breaks, or a pooler that would change the server between statements is in the way.
    pub async fn settle(&self, host: &Host, mark: Uuid, connection: &mut PgConnection) -> Result<(), Error> {
        let failed = |source| Error::connect(&self.conninfo, host, source);
        if !pooler::is_passed_on(connection, mark).await.map_err(failed)? {
            Box::pin(pooler::check_session(self, host, connection)).await?;
            session::make(connection, &self.settings()).await.map_err(failed)?;
        }
        match self.session {
            SessionSettings::Ours => session::settle(connection, &self.conninfo.options).await.map_err(failed),
            SessionSettings::AsTheServerHasIt => Ok(()),
        }
    }

    /// What a connection asks for when it begins. Of two values for one setting the later counts.
    fn settings(&self) -> Vec<(String, String)> {
        let millis = |limit: Duration| limit.as_millis().to_string();
        let mut settings = self.conninfo.options.clone();
        settings.extend([
            ("statement_timeout".to_owned(), millis(self.statement_timeout)),
            ("lock_timeout".to_owned(), millis(self.lock_timeout)),
            ("idle_in_transaction_session_timeout".to_owned(), "60000".to_owned()),
        ]);
        if self.session == SessionSettings::Ours {
            settings.extend(session::SETTINGS.map(|(name, value)| (name.to_owned(), value.to_owned())));
        }
        settings
    }

    /// The system identifier of the cluster (C10); no replication connection is needed for it.
    ///
    /// # Errors
    /// Where the server cannot be asked.
    pub async fn system_id(&self) -> Result<String, Error> {
        let mut connection = self.connect().await?;
        let asked = "select /* pgbosun */ system_identifier from pg_catalog.pg_control_system()";
        let found: Result<i64, _> = sqlx::query_scalar(asked).fetch_one(&mut connection).await;
        let _ = connection.close().await;
        let failed = |source| Error::Query { what: "read the system identifier".into(), source };
        // SQL knows no unsigned numbers.
        Ok(found.map_err(failed)?.cast_unsigned().to_string())
    }

    /// sqlx's options for one connection to a host, over a stream of ours where there may be TLS, and its mark; the connection wants
    /// [`Server::settle`] with it then.
    ///
    /// # Errors
    /// Where the host cannot be reached, or is not taken for who it should be.
    pub async fn options(&self, host: &Host) -> Result<(PgConnectOptions, Uuid), Error> {
        let mark = Uuid::new_v4();
        let conninfo = &self.conninfo;
        let mut options = PgConnectOptions::new_without_pgpass()
            .port(host.port)
            .username(&conninfo.user)
            .database(&conninfo.database)
            .application_name("pgbosun")
            .ssl_mode(PgSslMode::Disable)
            .options(self.settings())
            .options([(pooler::MARK, mark)])
            .disable_statement_logging();
        options = match (host.socket(), conninfo.sslmode) {
            (Some(_), _) => options.socket(&host.name),
            (None, SslMode::Disable) => options.host(&host.name),
            (None, _) => {
                options.socket(self.bridge(host).await.map_err(|error| Error::connect(conninfo, host, error))?)
            }
        };
        if let Some(password) = conninfo.password_for(host) {
            options = options.password(password.expose());
        }
        Ok((options, mark))
    }

    async fn bridge(&self, host: &Host) -> Result<String, Error> {
        Ok(bridge::open(tls::open(&self.conninfo, host).await?, host.port)?)
    }
}

/// Asks the server to cancel what backend `pid` is doing; a dropped future does not.
///
/// # Errors
/// Where no second connection is to be had.
pub async fn cancel_backend(server: &Server, pid: i32) -> Result<(), Error> {
    let mut connection = server.connect().await?;
    sqlx::query("select /* pgbosun */ pg_catalog.pg_cancel_backend($1)")
        .bind(pid)
        .execute(&mut connection)
        .await
        .map_err(|source| Error::Query { what: "cancel a running query".into(), source })?;
    let _ = connection.close().await;
    Ok(())
}
