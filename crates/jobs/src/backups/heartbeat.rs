//! A row a minute, so that a restore test can see how far a recovered server really came.

use super::table_name::{TableName, quote};
use crate::{Job, JobContext, JobError};
use async_trait::async_trait;
use pgbosun_backup::member;
use pgbosun_core::{human, options, outcome::Outcome};
use pgbosun_postgres::{Error, Foreign};
use sqlx::{AssertSqlSafe, Connection, PgConnection};
use std::time::Duration;

options! {
    /// Writes the current time into a table of the cluster, and creates the table if it is missing. Give the job the
    /// schedule `* * * * *`, and name the same table as `heartbeat` of a restore test.
    pub struct Heartbeat {
        /// The table: `app.pgbosun.heartbeat` (database, schema, table).
        table: TableName;
        /// How long rows are kept.
        keep: Duration = "\"8d\"";
    }
}

#[async_trait]
impl Job for Heartbeat {
    async fn run(&self, context: &JobContext) -> Result<Outcome, JobError> {
        let (_, server) = context.cluster()?;
        let table = self.table.quoted();
        if context.dry_run {
            return Ok(Outcome { summary: format!("would write the time into {table}"), ..Outcome::default() });
        }
        let (mut server, _) = member(server, false).await?;
        server.conninfo = server.conninfo.with_database(&self.table.database);
        let mut connection = server.connect().await?;
        let failed = |source| Error::Query { what: format!("write the time into {table}"), source };
        self.create(&mut connection, &table).await.map_err(failed)?;
        let TableName { schema, name, .. } = &self.table;
        if let Some(foreign) = Foreign::find(&mut connection, schema, Some(name)).await? {
            return Err(JobError::lasting(format!("{foreign}, or name another table")));
        }
        let gone = self.beat(&mut connection, &table).await.map_err(failed)?;
        let _ = connection.close().await;
        let summary = format!("wrote the time into {table}; removed {}", human::count(gone, "old row"));
        Ok(Outcome { summary, ..Outcome::default() })
    }
}

impl Heartbeat {
    async fn create(&self, connection: &mut PgConnection, table: &str) -> Result<(), sqlx::Error> {
        let there: bool = sqlx::query_scalar("select pg_catalog.to_regclass($1) is not null")
            .bind(table)
            .fetch_one(&mut *connection)
            .await?;
        if !there {
            let schema = quote(&self.table.schema);
            let create = format!(
                "create schema if not exists {schema}; \
                 create table if not exists {table} (at timestamptz primary key default pg_catalog.clock_timestamp())"
            );
            sqlx::raw_sql(AssertSqlSafe(create)).execute(&mut *connection).await?;
        }
        Ok(())
    }

    async fn beat(&self, connection: &mut PgConnection, table: &str) -> Result<u64, sqlx::Error> {
        let insert = format!("insert into {table} default values");
        sqlx::query(AssertSqlSafe(insert)).execute(&mut *connection).await?;
        let old = format!("delete from {table} where at < pg_catalog.now() - pg_catalog.make_interval(secs => $1)");
        let gone = sqlx::query(AssertSqlSafe(old)).bind(self.keep.as_secs_f64()).execute(connection).await?;
        Ok(gone.rows_affected())
    }
}
