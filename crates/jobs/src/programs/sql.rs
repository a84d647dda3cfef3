//! Runs an SQL statement of the user's in the cluster.

use crate::{Job, JobContext, JobError};
use async_trait::async_trait;
use pgbosun_core::{human, options, outcome::Outcome};
use pgbosun_postgres::{Error, cancel_backend};
use sqlx::{AssertSqlSafe, Connection};

options! {
    /// Runs SQL in the cluster; a single statement runs outside an explicit transaction. If the job is cancelled or times
    /// out, the statement is cancelled on the server too.
    pub struct SqlJob {
        /// The statement, or several with `;` between them.
        statement: String;
        /// The database; by default the one in the cluster's connection.
        database: Option<String>;
    }
}

#[async_trait]
impl Job for SqlJob {
    async fn run(&self, context: &JobContext) -> Result<Outcome, JobError> {
        let (_, server) = context.cluster()?;
        if context.dry_run {
            return Ok(Outcome { summary: format!("would run: {}", self.statement), ..Outcome::default() });
        }
        let mut server = server.for_own_sql();
        // The job's own timeout counts, and it cancels on the server.
        server.statement_timeout = std::time::Duration::ZERO;
        if let Some(database) = &self.database {
            server.conninfo = server.conninfo.with_database(database);
        }
        let failed = |source| Error::Query { what: "run the statement".into(), source };
        let mut connection = server.connect().await?;
        let backend: i32 = sqlx::query_scalar("select pg_catalog.pg_backend_pid()")
            .fetch_one(&mut connection)
            .await
            .map_err(failed)?;
        let done = tokio::select! {
            done = sqlx::raw_sql(AssertSqlSafe(self.statement.clone())).execute(&mut connection) => Some(done),
            () = context.cancel.cancelled() => None,
        };
        let Some(done) = done else {
            cancel_backend(&server, backend).await?;
            return Err(JobError::lasting("the statement was cancelled, on the server too"));
        };
        let rows = done.map_err(failed)?.rows_affected();
        let _ = connection.close().await;
        Ok(Outcome { summary: format!("{} affected", human::count(rows, "row")), ..Outcome::default() })
    }
}
