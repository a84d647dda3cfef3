//! What a server says it is.

use super::activity::told;
use crate::JobError;
use chrono::{DateTime, Utc};
use chrono_tz::Tz;
use pgbosun_core::{clock, human};
use pgbosun_postgres::{DATABASE_SIZES, DatabaseBytes, Error, Server};
use sqlx::{Connection, FromRow, PgConnection};

/// What it is.
#[derive(Clone, Debug, FromRow)]
pub(super) struct ServerOverview {
    /// Its version.
    #[sqlx(try_from = "pgbosun_postgres::Lossy")]
    pub version: String,
    started: DateTime<Utc>,
    standby: bool,
    /// Databases, without templates.
    #[sqlx(skip)]
    pub databases: usize,
    #[sqlx(skip)]
    bytes: u64,
}

impl ServerOverview {
    /// Asks a server.
    pub async fn ask(server: &Server) -> Result<Self, JobError> {
        let mut connection = server.connect().await?;
        let overview = Self::read(&mut connection).await;
        let _ = connection.close().await;
        overview
    }

    /// Asks over a connection that is there.
    pub async fn read(connection: &mut PgConnection) -> Result<Self, JobError> {
        let failed = |source| Error::Query { what: "read the version and role of the server".into(), source };
        let asked = sqlx::query_as(include_str!("overview.sql"));
        let mut overview: Self = asked.fetch_one(&mut *connection).await.map_err(failed)?;
        let databases: Vec<DatabaseBytes> =
            sqlx::query_as(DATABASE_SIZES).fetch_all(connection).await.map_err(failed)?;
        overview.databases = databases.iter().filter(|database| !database.template).count();
        overview.bytes = databases.iter().map(|database| database.bytes.unsigned_abs()).sum();
        Ok(overview)
    }

    /// Its version without what a distribution adds, and its role: `17.2 primary`.
    pub fn short(&self) -> String {
        format!("{} {}", self.version.split(' ').next().unwrap_or_default(), self.role())
    }

    /// `primary` or `standby`.
    pub fn role(&self) -> &'static str {
        if self.standby { "standby" } else { "primary" }
    }

    /// Since when it is up, as people read it.
    pub fn up(&self, zone: Tz) -> String {
        format!("{} ({})", told(self.started, zone), human::span(clock::now() - self.started))
    }

    /// How large all its databases are.
    pub fn size(&self) -> String {
        human::size(self.bytes)
    }
}
