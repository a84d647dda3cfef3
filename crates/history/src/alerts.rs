//! Alerts in the journal.

use crate::{Error, Journal, NewNotification};
use chrono::{DateTime, Utc};
use pgbosun_core::{
    alert::{Alert, AlertState},
    finding::Severity,
};
use sqlx::{FromRow, SqliteConnection};
use uuid::fmt::Hyphenated;

#[derive(FromRow)]
struct AlertRow {
    id: Hyphenated,
    fingerprint: String,
    job: String,
    cluster: Option<String>,
    group_name: String,
    #[sqlx(try_from = "String")]
    severity: Severity,
    #[sqlx(try_from = "String")]
    state: AlertState,
    summary: String,
    meaning: String,
    advice: String,
    detail: String,
    opened_at: DateTime<Utc>,
    seen_at: DateTime<Utc>,
    notified_at: Option<DateTime<Utc>>,
    resolved_at: Option<DateTime<Utc>>,
    run_id: Option<Hyphenated>,
}

impl From<AlertRow> for Alert {
    fn from(row: AlertRow) -> Self {
        Self {
            id: row.id.into_uuid(),
            fingerprint: row.fingerprint,
            job: row.job,
            cluster: row.cluster,
            group: row.group_name,
            severity: row.severity,
            state: row.state,
            summary: row.summary,
            meaning: row.meaning,
            advice: row.advice,
            detail: row.detail,
            opened_at: row.opened_at,
            seen_at: row.seen_at,
            notified_at: row.notified_at,
            resolved_at: row.resolved_at,
            run_id: row.run_id.map(Hyphenated::into_uuid),
        }
    }
}

impl Journal {
    /// The alerts that are not resolved, of one job or of all, worst first.
    ///
    /// # Errors
    /// [`Error::Journal`].
    pub async fn open_alerts(&self, job: Option<&str>) -> Result<Vec<Alert>, Error> {
        self.alerts(
            "select * from alerts where state <> 'resolved' and (?1 is null or job = ?1)
             order by case severity when 'critical' then 0 when 'unknown' then 1 else 2 end, opened_at",
            job.map(str::to_owned),
        )
        .await
    }

    /// The newest alerts, resolved ones among them.
    ///
    /// # Errors
    /// [`Error::Journal`].
    pub async fn recent_alerts(&self, limit: u32) -> Result<Vec<Alert>, Error> {
        self.alerts("select * from alerts order by opened_at desc limit ?1", limit.to_string()).await
    }

    async fn alerts<'a, T>(&'a self, query: &'static str, argument: T) -> Result<Vec<Alert>, Error>
    where
        T: sqlx::Encode<'a, sqlx::Sqlite> + sqlx::Type<sqlx::Sqlite> + Send + 'a,
    {
        let rows: Vec<AlertRow> = sqlx::query_as(query)
            .bind(argument)
            .fetch_all(&self.readers)
            .await
            .map_err(Error::journal("read alerts"))?;
        Ok(rows.into_iter().map(Alert::from).collect())
    }

    /// Writes alerts that changed outside a run, with their messages.
    ///
    /// # Errors
    /// [`Error::Journal`].
    pub async fn write_alerts(&self, alerts: Vec<Alert>, notifications: Vec<NewNotification>) -> Result<(), Error> {
        self.write(move |connection| Box::pin(async move { write(connection, &alerts, notifications).await })).await
    }
}

pub(crate) async fn write(
    connection: &mut SqliteConnection,
    alerts: &[Alert],
    notifications: Vec<NewNotification>,
) -> Result<(), Error> {
    for alert in alerts {
        sqlx::query(
            "insert into alerts (id, fingerprint, job, cluster, group_name, severity, state, summary, meaning, advice,
                 detail, opened_at, seen_at, notified_at, resolved_at, run_id)
             values (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13, ?14, ?15, ?16)
             on conflict (id) do update set group_name = ?5, severity = ?6, state = ?7, summary = ?8, meaning = ?9,
                 advice = ?10, detail = ?11, seen_at = ?13, notified_at = ?14, resolved_at = ?15, run_id = ?16",
        )
        .bind(alert.id.hyphenated())
        .bind(&alert.fingerprint)
        .bind(&alert.job)
        .bind(&alert.cluster)
        .bind(&alert.group)
        .bind(alert.severity.as_str())
        .bind(alert.state.as_str())
        .bind(&alert.summary)
        .bind(&alert.meaning)
        .bind(&alert.advice)
        .bind(crate::runs::storable(&alert.detail))
        .bind(alert.opened_at)
        .bind(alert.seen_at)
        .bind(alert.notified_at)
        .bind(alert.resolved_at)
        .bind(alert.run_id.map(uuid::Uuid::hyphenated))
        .execute(&mut *connection)
        .await
        .map_err(Error::journal("write an alert"))?;
    }
    for notification in notifications {
        crate::outbox::insert(connection, notification).await?;
    }
    Ok(())
}
