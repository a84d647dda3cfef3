//! Alerts in the journal.
//!
//! Invariant: whoever changes alerts reads them in the same transaction, and the journal has one writer: nobody overwrites
//! what another just wrote.

use crate::{Error, Journal, NewNotification, runs::storable};
use chrono::{DateTime, Utc};
use pgbosun_core::{
    alert::{Acknowledgement, Alert, AlertState, Notified},
    detail::{Detail, Part},
    finding::{Reach, Severity},
};
use sqlx::{FromRow, SqliteConnection};
use uuid::{Uuid, fmt::Hyphenated};

/// What becomes of the alerts that are not resolved: gives those back that changed.
pub type Judge = Box<dyn FnOnce(Vec<Alert>) -> Vec<Alert> + Send>;

/// An alert that was written.
#[derive(Clone, Debug)]
pub struct AlertChange {
    /// How it stood.
    pub before: Option<Alert>,
    /// How it stands.
    pub after: Alert,
}

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
    #[sqlx(try_from = "String")]
    reach: Reach,
    summary: String,
    meaning: String,
    advice: String,
    detail: String,
    parts: String,
    #[sqlx(rename = "looks")]
    checks: u32,
    opened_at: DateTime<Utc>,
    changed_at: DateTime<Utc>,
    seen_at: DateTime<Utc>,
    resolved_at: Option<DateTime<Utc>>,
    run_id: Option<Hyphenated>,
    acknowledged_at: Option<DateTime<Utc>>,
    acknowledged_by: Option<String>,
    acknowledgement: Option<String>,
    notified_at: Option<DateTime<Utc>>,
    told_severity: Option<String>,
    told_worst: Option<String>,
    incident_id: Option<Hyphenated>,
    resolution: Option<String>,
}

impl From<AlertRow> for Alert {
    fn from(row: AlertRow) -> Self {
        let severity = |word: Option<String>| word.and_then(|word| word.parse().ok());
        let told = row.notified_at.zip(severity(row.told_severity)).zip(severity(row.told_worst)).zip(row.incident_id);
        let acknowledged = row.acknowledged_at.zip(row.acknowledged_by);
        Self {
            id: row.id.into_uuid(),
            fingerprint: row.fingerprint,
            job: row.job,
            cluster: row.cluster,
            group: row.group_name,
            severity: row.severity,
            state: row.state,
            reach: row.reach,
            summary: row.summary,
            meaning: row.meaning,
            advice: row.advice,
            // An earlier version wrote a text alone.
            detail: serde_json::from_str::<Vec<Part>>(&row.parts).map_or_else(|_| row.detail.into(), Detail::from),
            checks: row.checks,
            opened_at: row.opened_at,
            changed_at: row.changed_at,
            seen_at: row.seen_at,
            resolved_at: row.resolved_at,
            resolution: row.resolution,
            run_id: row.run_id.map(Hyphenated::into_uuid),
            acknowledged: acknowledged.map(|(at, by)| {
                let reason = row.acknowledgement.unwrap_or_default();
                Acknowledgement { by, at, reason }
            }),
            notified: told.map(|(((at, severity), worst), incident)| {
                let incident = incident.into_uuid();
                Notified { at, severity, worst, incident }
            }),
        }
    }
}

/// What is not resolved, what nobody was told the end of, and what was down lately.
const TO_TELL: &str = "select * from alerts where state <> 'resolved'
    union all select * from alerts where state = 'resolved' and told_severity <> 'ok'
    union all select * from alerts where state = 'resolved' and reach <> 'object' and resolved_at > ?1
        and coalesce(told_severity, 'ok') = 'ok'";

/// Worst first.
const UNRESOLVED: &str = "select * from alerts where state <> 'resolved' and (?1 is null or job = ?1)
    order by case severity when 'critical' then 0 when 'unknown' then 1 else 2 end, opened_at";

impl Journal {
    /// The alerts that are not resolved, of one job or of all, worst first.
    ///
    /// # Errors
    /// [`Error::Journal`].
    pub async fn open_alerts(&self, job: Option<&str>) -> Result<Vec<Alert>, Error> {
        let mut connection = self.readers.acquire().await.map_err(Error::journal("read alerts"))?;
        select(&mut connection, UNRESOLVED, job.map(str::to_owned)).await
    }

    /// The newest alerts, resolved ones among them.
    ///
    /// # Errors
    /// [`Error::Journal`].
    pub async fn recent_alerts(&self, limit: u32) -> Result<Vec<Alert>, Error> {
        let mut connection = self.readers.acquire().await.map_err(Error::journal("read alerts"))?;
        let query = "select * from alerts order by opened_at desc limit cast(?1 as integer)";
        select(&mut connection, query, Some(limit.to_string())).await
    }

    /// Whether an alert about this, opened after this time, has ended and none came since.
    ///
    /// # Errors
    /// [`Error::Journal`].
    pub async fn is_alert_over(&self, fingerprint: &str, after: DateTime<Utc>) -> Result<bool, Error> {
        let over = "select coalesce((select state = 'resolved' from alerts where fingerprint = ? and opened_at > ?
             order by opened_at desc limit 1), false)";
        sqlx::query_scalar(over)
            .bind(fingerprint)
            .bind(after)
            .fetch_one(&self.readers)
            .await
            .map_err(Error::journal("read alerts"))
    }

    /// The alerts that decide what is told at this moment.
    ///
    /// # Errors
    /// [`Error::Journal`].
    pub async fn alerts_to_tell(&self, now: DateTime<Utc>) -> Result<Vec<Alert>, Error> {
        let mut connection = self.readers.acquire().await.map_err(Error::journal("read alerts"))?;
        to_tell(&mut connection, now).await
    }

    /// Changes alerts outside a run: those of one job, or any.
    ///
    /// # Errors
    /// [`Error::Journal`].
    pub async fn change_alerts(&self, job: Option<String>, judge: Judge) -> Result<Vec<AlertChange>, Error> {
        self.write(move |connection| Box::pin(change(connection, job, judge))).await
    }

    /// The same, with the messages that tell of each alert that changed. Behind what is held back they are held back too.
    ///
    /// # Errors
    /// [`Error::Journal`]; then nothing changed and nothing is told.
    pub async fn change_and_tell(
        &self,
        judge: Judge,
        messages_of: impl Fn(&Alert) -> Vec<NewNotification> + Send + 'static,
    ) -> Result<Vec<AlertChange>, Error> {
        self.write(move |connection| {
            Box::pin(async move {
                let changes = change(connection, None, judge).await?;
                let messages: Vec<_> = changes.iter().flat_map(|change| messages_of(&change.after)).collect();
                for message in messages {
                    crate::outbox::insert_behind(connection, message).await?;
                }
                Ok(changes)
            })
        })
        .await
    }
}

pub(crate) async fn change(
    connection: &mut SqliteConnection,
    job: Option<String>,
    judge: Judge,
) -> Result<Vec<AlertChange>, Error> {
    let before = select(connection, UNRESOLVED, job).await?;
    let changed = judge(before.clone());
    write(connection, &changed).await?;
    let known = |after: &Alert| before.iter().find(|alert| alert.id == after.id).cloned();
    Ok(changed.into_iter().map(|after| AlertChange { before: known(&after), after }).collect())
}

/// What was down up to a day ago may still explain something.
pub(crate) async fn to_tell(connection: &mut SqliteConnection, now: DateTime<Utc>) -> Result<Vec<Alert>, Error> {
    let since = (now - chrono::Duration::days(1)).to_rfc3339();
    select(connection, TO_TELL, Some(since)).await
}

/// The alerts a query gives.
async fn select(
    connection: &mut SqliteConnection,
    query: &'static str,
    argument: Option<String>,
) -> Result<Vec<Alert>, Error> {
    let rows: Vec<AlertRow> =
        sqlx::query_as(query).bind(argument).fetch_all(connection).await.map_err(Error::journal("read alerts"))?;
    Ok(rows.into_iter().map(Alert::from).collect())
}

/// Writes alerts as they stand.
pub(crate) async fn write(connection: &mut SqliteConnection, alerts: &[Alert]) -> Result<(), Error> {
    for alert in alerts {
        let (acknowledged, told) = (alert.acknowledged.as_ref(), alert.notified);
        sqlx::query(
            "insert into alerts (id, fingerprint, job, cluster, group_name, severity, state, reach, summary, meaning,
                 advice, detail, looks, opened_at, changed_at, seen_at, resolved_at, run_id, acknowledged_at,
                 acknowledged_by, acknowledgement, notified_at, told_severity, told_worst, incident_id,
                 resolution, parts)
             values (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13, ?14, ?15, ?16, ?17, ?18, ?19, ?20, ?21, ?22,
                 ?23, ?24, ?25, ?26, ?27)
             on conflict (id) do update set group_name = ?5, severity = ?6, state = ?7, reach = ?8, summary = ?9,
                 meaning = ?10, advice = ?11, detail = ?12, looks = ?13, changed_at = ?15, seen_at = ?16,
                 resolved_at = ?17, run_id = ?18, acknowledged_at = ?19, acknowledged_by = ?20, acknowledgement = ?21,
                 notified_at = ?22, told_severity = ?23, told_worst = ?24, incident_id = ?25, resolution = ?26, parts = ?27",
        )
        .bind(alert.id.hyphenated())
        .bind(storable(&alert.fingerprint))
        .bind(&alert.job)
        .bind(&alert.cluster)
        .bind(&alert.group)
        .bind(alert.severity.as_str())
        .bind(alert.state.as_str())
        .bind(alert.reach.as_str())
        .bind(storable(&alert.summary))
        .bind(storable(&alert.meaning))
        .bind(storable(&alert.advice))
        .bind(storable(&alert.detail.to_string()))
        .bind(alert.checks)
        .bind(alert.opened_at)
        .bind(alert.changed_at)
        .bind(alert.seen_at)
        .bind(alert.resolved_at)
        .bind(alert.run_id.map(Uuid::hyphenated))
        .bind(acknowledged.map(|acknowledged| acknowledged.at))
        .bind(acknowledged.map(|acknowledged| storable(&acknowledged.by)))
        .bind(acknowledged.map(|acknowledged| storable(&acknowledged.reason)))
        .bind(told.map(|told| told.at))
        .bind(told.map(|told| told.severity.as_str()))
        .bind(told.map(|told| told.worst.as_str()))
        .bind(told.map(|told| told.incident.hyphenated()))
        .bind(alert.resolution.as_deref().map(storable))
        .bind(serde_json::json!(alert.detail.parts()).to_string())
        .execute(&mut *connection)
        .await
        .map_err(Error::journal("write an alert"))?;
    }
    Ok(())
}
