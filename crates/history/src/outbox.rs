//! The outbox: messages wait here, durably, until a channel has accepted them.

use crate::{Error, Journal};
use chrono::{DateTime, Utc};
use pgbosun_core::{alert::Notice, finding::Severity};
use sqlx::{FromRow, SqliteConnection};
use uuid::{Uuid, fmt::Hyphenated};

/// A message to be sent to a group.
#[derive(Clone, Debug)]
pub struct NewNotification {
    /// Identity; the mail's Message-ID is made of it, so that a second copy is known as one.
    pub id: Uuid,
    /// The alert it tells of.
    pub alert_id: Option<Uuid>,
    /// The group it goes to.
    pub group: String,
    /// What it tells.
    pub notice: Notice,
    /// How bad.
    pub severity: Severity,
    /// Subject.
    pub subject: String,
    /// Plain text.
    pub text: String,
    /// HTML.
    pub html: String,
    /// When it was written.
    pub created_at: DateTime<Utc>,
}

/// A message that waits.
#[derive(Clone, Debug, FromRow)]
pub struct Notification {
    /// Identity.
    #[sqlx(try_from = "Hyphenated")]
    pub id: Uuid,
    /// The alert it tells of.
    pub alert_id: Option<Hyphenated>,
    /// The group it goes to.
    pub group_name: String,
    /// How bad.
    #[sqlx(try_from = "String")]
    pub severity: Severity,
    /// Subject.
    pub subject: String,
    /// Plain text.
    pub body_text: String,
    /// HTML.
    pub body_html: String,
    /// How often delivery was tried.
    pub attempts: u32,
    /// When it was written.
    pub created_at: DateTime<Utc>,
    /// Why the last try failed.
    pub last_error: Option<String>,
}

impl Journal {
    /// Messages whose time has come, oldest first.
    ///
    /// # Errors
    /// [`Error::Journal`].
    pub async fn due_notifications(&self, now: DateTime<Utc>) -> Result<Vec<Notification>, Error> {
        sqlx::query_as(
            "select id, alert_id, group_name, severity, subject, body_text, body_html, attempts, created_at, last_error
             from notifications where state = 'pending' and next_attempt_at <= ? order by created_at, id limit 50",
        )
        .bind(now)
        .fetch_all(&self.readers)
        .await
        .map_err(Error::journal("read the outbox"))
    }

    /// How many messages wait, and since when the oldest does.
    ///
    /// # Errors
    /// [`Error::Journal`].
    pub async fn outbox_depth(&self) -> Result<(u32, Option<DateTime<Utc>>), Error> {
        sqlx::query_as("select count(*), min(created_at) from notifications where state = 'pending'")
            .fetch_one(&self.readers)
            .await
            .map_err(Error::journal("read the outbox"))
    }

    /// A channel accepted the message for these recipients.
    ///
    /// # Errors
    /// [`Error::Journal`].
    pub async fn notification_sent(&self, id: Uuid, recipients: &[String], at: DateTime<Utc>) -> Result<(), Error> {
        let recipients = serde_json::json!(recipients).to_string();
        self.write(move |connection| {
            Box::pin(async move {
                sqlx::query(
                    "update notifications set state = 'sent', attempts = attempts + 1, recipients = ?, sent_at = ?,
                         last_error = null where id = ?",
                )
                .bind(recipients)
                .bind(at)
                .bind(id.hyphenated())
                .execute(connection)
                .await
                .map(drop)
                .map_err(Error::journal("mark a message as sent"))
            })
        })
        .await
    }

    /// A try failed; the next one is at `next`, or there is none.
    ///
    /// # Errors
    /// [`Error::Journal`].
    pub async fn notification_failed(&self, id: Uuid, error: &str, next: Option<DateTime<Utc>>) -> Result<(), Error> {
        let error = error.to_owned();
        self.write(move |connection| {
            Box::pin(async move {
                sqlx::query(
                    "update notifications set attempts = attempts + 1, last_error = ?1,
                         state = iif(?2 is null, 'dead', 'pending'), next_attempt_at = coalesce(?2, next_attempt_at)
                     where id = ?3",
                )
                .bind(error)
                .bind(next)
                .bind(id.hyphenated())
                .execute(connection)
                .await
                .map(drop)
                .map_err(Error::journal("mark a message as not sent"))
            })
        })
        .await
    }
}

pub(crate) async fn insert(connection: &mut SqliteConnection, notification: NewNotification) -> Result<(), Error> {
    sqlx::query(
        "insert into notifications (id, alert_id, group_name, notice, severity, subject, body_text, body_html, state,
             attempts, next_attempt_at, recipients, created_at)
         values (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, 'pending', 0, ?9, '[]', ?9)",
    )
    .bind(notification.id.hyphenated())
    .bind(notification.alert_id.map(Uuid::hyphenated))
    .bind(notification.group)
    .bind(notification.notice.as_str())
    .bind(notification.severity.as_str())
    .bind(notification.subject)
    .bind(notification.text)
    .bind(notification.html)
    .bind(notification.created_at)
    .execute(connection)
    .await
    .map(drop)
    .map_err(Error::journal("write a message"))
}
