//! What a server says it is.

use super::care::told;
use crate::JobError;
use chrono::{DateTime, Utc};
use chrono_tz::Tz;
use pgbosun_core::{clock, human};
use pgbosun_postgres::{Error, Server};
use sqlx::{Connection, FromRow, PgConnection};

/// What it is.
#[derive(Clone, Debug, FromRow)]
pub(super) struct Facts {
    /// Its version.
    pub version: String,
    started: DateTime<Utc>,
    standby: bool,
    /// Databases, without templates.
    pub databases: i64,
    bytes: i64,
}

impl Facts {
    /// Asks a server.
    pub async fn ask(server: &Server) -> Result<Self, JobError> {
        let mut connection = server.connect().await?;
        let facts = Self::read(&mut connection).await;
        let _ = connection.close().await;
        facts
    }

    /// Asks over a connection that is there.
    pub async fn read(connection: &mut PgConnection) -> Result<Self, JobError> {
        let row = sqlx::query_as(include_str!("facts.sql")).fetch_one(connection).await;
        Ok(row.map_err(|source| Error::Query { what: "ask the server what it is".into(), source })?)
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
        human::size(self.bytes.unsigned_abs())
    }
}
