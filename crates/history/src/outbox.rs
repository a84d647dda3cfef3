//! The outbox: messages wait here, durably, until a channel has accepted them.

use crate::{Error, Journal};
use chrono::{DateTime, Utc};
use pgbosun_core::{alert::Notice, finding::Severity};
use sqlx::{FromRow, SqliteConnection, types::Json};
use uuid::{Uuid, fmt::Hyphenated};

/// A message to be sent to a group over one channel.
#[derive(Clone, Debug)]
pub struct NewNotification {
    /// Identity; the mail's Message-ID is made of it, so that a second copy is known as one.
    pub id: Uuid,
    /// The alerts it tells of.
    pub alerts: Vec<Uuid>,
    /// Their incidents: messages of one incident leave in the order in which they were written.
    pub incidents: Vec<Uuid>,
    /// The group it goes to.
    pub group: String,
    /// The channel it leaves by.
    pub channel: String,
    /// What it tells above all.
    pub notice: Notice,
    /// How bad.
    pub severity: Severity,
    /// In one line.
    pub subject: String,
    /// What is told, as JSON.
    pub content: String,
    /// Past the limit of its channel: it waits for the digest.
    pub held: bool,
    /// When it was written.
    pub created_at: DateTime<Utc>,
}

/// A message that waits.
#[derive(Clone, Debug, FromRow)]
pub struct Notification {
    /// Identity.
    #[sqlx(try_from = "Hyphenated")]
    pub id: Uuid,
    /// Its incidents.
    pub incidents: Json<Vec<Uuid>>,
    /// The group it goes to.
    pub group_name: String,
    /// The channel it leaves by.
    pub channel: String,
    /// In one line.
    pub subject: String,
    /// What is told, as JSON.
    pub content: String,
    /// How often delivery was tried.
    pub attempts: u32,
    /// When it is tried again.
    pub next_attempt_at: DateTime<Utc>,
    /// When it was written.
    pub created_at: DateTime<Utc>,
    /// When the fail-safe group was told in its place.
    pub escalated_at: Option<DateTime<Utc>>,
    /// Why the last try failed.
    pub last_error: Option<String>,
    /// An earlier message of its incidents was told to the fail-safe group.
    pub follows_escalated: bool,
    /// Those who have it, while others of the group have not.
    pub recipients: Json<Vec<String>>,
}

/// How the delivery by a channel stands.
#[derive(Clone, Debug, FromRow)]
pub struct Backlog {
    /// The channel.
    pub channel: String,
    /// Messages that wait after a try that failed.
    pub failing: u32,
    /// Since when the oldest of them does.
    pub since: Option<DateTime<Utc>>,
    /// Messages given up since the time asked for.
    pub dead: u32,
    /// Why the last try failed.
    pub last_error: Option<String>,
}

impl Journal {
    /// Puts messages into the outbox that tell of no alert.
    ///
    /// # Errors
    /// [`Error::Journal`].
    pub async fn post(&self, messages: Vec<NewNotification>) -> Result<(), Error> {
        self.write(move |connection| {
            Box::pin(async move {
                for message in messages {
                    insert(connection, message).await?;
                }
                Ok(())
            })
        })
        .await
    }

    /// The messages that wait, oldest first.
    ///
    /// # Errors
    /// [`Error::Journal`].
    pub async fn pending_notifications(&self) -> Result<Vec<Notification>, Error> {
        let mut connection = self.readers.acquire().await.map_err(Error::journal("read the outbox"))?;
        waiting(&mut connection, "pending").await
    }

    /// How many messages wait.
    ///
    /// # Errors
    /// [`Error::Journal`].
    pub async fn outbox_depth(&self) -> Result<u32, Error> {
        sqlx::query_scalar("select count(*) from notifications where state in ('pending', 'held')")
            .fetch_one(&self.readers)
            .await
            .map_err(Error::journal("read the outbox"))
    }

    /// The channels that have messages nobody took, with those given up since a time.
    ///
    /// # Errors
    /// [`Error::Journal`].
    pub async fn backlog(&self, dead_since: DateTime<Utc>) -> Result<Vec<Backlog>, Error> {
        sqlx::query_as(
            "select channel, count(*) filter (where state = 'pending') as failing,
                 min(created_at) filter (where state = 'pending') as since, count(*) filter (where state = 'dead') as dead,
                 max(next_attempt_at) as newest, last_error
             from notifications
             where (state = 'pending' and attempts > 0) or (state = 'dead' and next_attempt_at > ?1) group by channel",
        )
        .bind(dead_since)
        .fetch_all(&self.readers)
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

    /// A try failed but for those who have it; the next one is at `next`, or the message is given up.
    ///
    /// # Errors
    /// [`Error::Journal`].
    pub async fn notification_failed(
        &self,
        id: Uuid,
        recipients: &[String],
        error: &str,
        at: DateTime<Utc>,
        next: Option<DateTime<Utc>>,
    ) -> Result<(), Error> {
        let recipients = serde_json::json!(recipients).to_string();
        let error = crate::runs::storable(error).into_owned();
        self.write(move |connection| {
            Box::pin(async move {
                sqlx::query(
                    "update notifications set attempts = attempts + 1, last_error = ?1, recipients = ?5,
                         state = iif(?2 is null, 'dead', 'pending'), next_attempt_at = coalesce(?2, ?3) where id = ?4",
                )
                .bind(error)
                .bind(next)
                .bind(at)
                .bind(id.hyphenated())
                .bind(recipients)
                .execute(connection)
                .await
                .map(drop)
                .map_err(Error::journal("mark a message as not sent"))
            })
        })
        .await
    }

    /// Those who are told in a group's place get copies of its message, once.
    ///
    /// # Errors
    /// [`Error::Journal`].
    pub async fn escalate(&self, id: Uuid, at: DateTime<Utc>, copies: Vec<NewNotification>) -> Result<(), Error> {
        self.write(move |connection| {
            Box::pin(async move {
                let done =
                    sqlx::query("update notifications set escalated_at = ? where id = ? and escalated_at is null")
                        .bind(at)
                        .bind(id.hyphenated())
                        .execute(&mut *connection)
                        .await
                        .map_err(Error::journal("notify the fail-safe group"))?;
                for message in copies.into_iter().filter(|_| done.rows_affected() > 0) {
                    insert(connection, message).await?;
                }
                Ok(())
            })
        })
        .await
    }
}

pub(crate) async fn waiting(
    connection: &mut SqliteConnection,
    state: &'static str,
) -> Result<Vec<Notification>, Error> {
    // So many of each channel: one that is away hides nothing of the others.
    sqlx::query_as(
        "select id, incidents, group_name, channel, subject, content, attempts, next_attempt_at, created_at, escalated_at,
             last_error, recipients, exists (select 1 from notifications e, json_each(e.incidents) a, json_each(n.incidents) b
                 where e.escalated_at is not null and e.group_name = n.group_name and a.value = b.value)
                 as follows_escalated
         from (select *, row_number() over (partition by channel order by created_at, id) as turn from notifications
               where state = ?1 and state in ('pending', 'held')) n
         where turn <= 200 order by created_at, id",
    )
    .bind(state)
    .fetch_all(connection)
    .await
    .map_err(Error::journal("read the outbox"))
}

/// The same, held back where earlier messages of the group are.
pub(crate) async fn insert_behind(connection: &mut SqliteConnection, message: NewNotification) -> Result<(), Error> {
    let held: bool = sqlx::query_scalar(
        "select exists (select 1 from notifications where state = 'held' and channel = ? and group_name = ?)",
    )
    .bind(&message.channel)
    .bind(&message.group)
    .fetch_one(&mut *connection)
    .await
    .map_err(Error::journal("read the outbox"))?;
    insert(connection, NewNotification { held, ..message }).await
}

/// Puts a message into the outbox.
pub(crate) async fn insert(connection: &mut SqliteConnection, message: NewNotification) -> Result<(), Error> {
    sqlx::query(
        "insert into notifications (id, alerts, incidents, group_name, channel, notice, severity, subject, content, state,
             attempts, next_attempt_at, recipients, created_at)
         values (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, iif(?10, 'held', 'pending'), 0, ?11, '[]', ?11)",
    )
    .bind(message.id.hyphenated())
    .bind(Json(message.alerts))
    .bind(Json(message.incidents))
    .bind(message.group)
    .bind(message.channel)
    .bind(message.notice.as_str())
    .bind(message.severity.as_str())
    .bind(crate::runs::storable(&message.subject))
    .bind(message.content)
    .bind(message.held)
    .bind(message.created_at)
    .execute(connection)
    .await
    .map(drop)
    .map_err(Error::journal("write a message"))
}
