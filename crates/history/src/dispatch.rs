//! Which alerts are to be reported, and the messages that report them: read and written in one transaction.
//!
//! Invariant: that an alert was reported, and the message that reports it, are one fact.

use crate::{Error, Journal, NewNotification, Notification, alerts, outbox, silences};
use chrono::{DateTime, Duration, Utc};
use pgbosun_core::alert::{Alert, Silence};
use sqlx::SqliteConnection;
use std::collections::BTreeMap;
use uuid::Uuid;

/// Everything that decides what is reported.
#[derive(Clone, Debug, Default)]
pub struct AlertSnapshot {
    /// The alerts that are not resolved, those whose end was not reported yet, and what was down lately.
    pub alerts: Vec<Alert>,
    /// The silences in force.
    pub silences: Vec<Silence>,
    /// How many messages each channel has sent in the last hour, or is about to send. What has waited for longer holds nothing
    /// back.
    pub sent: BTreeMap<String, u32>,
    /// Messages past the limit of their channel, oldest first.
    pub held: Vec<Notification>,
}

/// What is reported.
#[derive(Clone, Debug, Default)]
pub struct Dispatch {
    /// Alerts, with what was reported of them.
    pub alerts: Vec<Alert>,
    /// The messages.
    pub messages: Vec<NewNotification>,
    /// Held messages that are part of one of these.
    pub digested: Vec<Uuid>,
}

impl Dispatch {
    /// Whether there is nothing to write.
    pub fn is_empty(&self) -> bool {
        self.alerts.is_empty() && self.messages.is_empty() && self.digested.is_empty()
    }
}

/// The rule by which a snapshot becomes messages.
pub type DispatchRule = Box<dyn FnOnce(&AlertSnapshot) -> Dispatch + Send>;

impl Journal {
    /// Whether anything may be news: nearly always nothing is, and this one query is all.
    ///
    /// # Errors
    /// [`Error::Journal`].
    pub async fn may_have_news(&self) -> Result<bool, Error> {
        sqlx::query_scalar(
            "select exists (select 1 from alerts where state <> 'resolved')
                 or exists (select 1 from alerts where state = 'resolved' and told_severity <> 'ok')
                 or exists (select 1 from notifications where state = 'held')",
        )
        .fetch_one(&self.readers)
        .await
        .map_err(Error::journal("read alerts"))
    }

    /// Everything that decides what is reported at this moment.
    ///
    /// # Errors
    /// [`Error::Journal`].
    pub async fn alert_snapshot(&self, now: DateTime<Utc>) -> Result<AlertSnapshot, Error> {
        let mut connection = self.readers.acquire().await.map_err(Error::journal("read alerts"))?;
        alert_snapshot(&mut connection, now).await
    }

    /// Reports what is new; returns how many messages were written.
    ///
    /// # Errors
    /// [`Error::Journal`]; then nothing was reported.
    pub async fn dispatch(&self, now: DateTime<Utc>, rule: DispatchRule) -> Result<usize, Error> {
        self.write(move |connection| {
            Box::pin(async move {
                let Dispatch { alerts, messages, digested } = rule(&alert_snapshot(connection, now).await?);
                alerts::write(connection, &alerts).await?;
                for id in digested {
                    sqlx::query("update notifications set state = 'digested' where id = ?")
                        .bind(id.hyphenated())
                        .execute(&mut *connection)
                        .await
                        .map_err(Error::journal("write a digest"))?;
                }
                let count = messages.len();
                for message in messages {
                    outbox::insert(connection, message).await?;
                }
                Ok(count)
            })
        })
        .await
    }
}

async fn alert_snapshot(connection: &mut SqliteConnection, now: DateTime<Utc>) -> Result<AlertSnapshot, Error> {
    let failed = Error::journal("read alerts");
    let sent: Vec<(String, u32)> = sqlx::query_as(
        "select channel, count(*) from notifications
         where (state = 'sent' and sent_at > ?1) or (state = 'pending' and created_at > ?1
             and (attempts = 0 or next_attempt_at <= ?2 or recipients <> '[]'))
         group by 1",
    )
    .bind(now - Duration::hours(1))
    .bind(now)
    .fetch_all(&mut *connection)
    .await
    .map_err(failed)?;
    Ok(AlertSnapshot {
        alerts: alerts::to_tell(connection, now).await?,
        silences: silences::active(connection, now).await?,
        sent: sent.into_iter().collect(),
        held: outbox::waiting(connection, "held").await?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use pgbosun_core::finding::Severity;
    use sqlx::{ConnectOptions, Connection, sqlite::SqliteConnectOptions};

    #[tokio::test]
    async fn what_an_earlier_version_had_not_sent_is_still_news() {
        let directory = tempfile::tempdir().unwrap();
        let options = SqliteConnectOptions::new().filename(directory.path().join("journal.sqlite"));
        let mut connection = options.create_if_missing(true).connect().await.unwrap();
        let mut earlier = sqlx::migrate!("../../migrations/journal");
        earlier.migrations = earlier.migrations.iter().filter(|one| one.version <= 3).cloned().collect();
        earlier.run(&mut connection).await.unwrap();
        let id = |number: u128| Uuid::from_u128(number).hyphenated();
        // Told, not told yet, its end not told yet, all told.
        for (number, state, waits) in
            [(1, "open", false), (2, "open", true), (3, "resolved", true), (4, "resolved", false)]
        {
            let at = "2026-11-21T00:00:00+00:00";
            let over = (state == "resolved").then_some(at);
            sqlx::query("insert into alerts values (?1, ?2, 'j', null, 'database', 'critical', ?3, '', '', '', '', ?4, ?4, ?4, ?5, null)")
                .bind(id(number))
                .bind(format!("j/{number}"))
                .bind(state)
                .bind(at)
                .bind(over)
                .execute(&mut connection)
                .await
                .unwrap();
            let messages = [("opened", number != 2), ("resolved", !waits)];
            let messages = messages.into_iter().take(if state == "resolved" { 2 } else { 1 });
            for (turn, (notice, sent)) in messages.enumerate() {
                sqlx::query(
                    "insert into notifications values (?1, ?2, 'database', ?3, 'critical', '', '', '', ?4, 0, ?5, '[]', null, ?5, ?6)",
                )
                .bind(id(number * 10 + turn as u128))
                .bind(id(number))
                .bind(notice)
                .bind(if sent { "sent" } else { "pending" })
                .bind(at)
                .bind(sent.then_some(at))
                .execute(&mut connection)
                .await
                .unwrap();
            }
        }
        connection.close().await.unwrap();

        let journal = Journal::open(directory.path()).await.unwrap();
        let alert_snapshot = journal.alert_snapshot(pgbosun_core::clock::now()).await.unwrap();
        let told = |alert: &Alert| (alert.id.as_u128(), alert.notified.map(|told| told.severity));
        let mut told: Vec<_> = alert_snapshot.alerts.iter().map(told).collect();
        told.sort();
        // The fourth is no news.
        assert_eq!(told, [(1, Some(Severity::Critical)), (2, None), (3, Some(Severity::Critical))]);
        assert!(journal.pending_notifications().await.unwrap().is_empty());
    }

    #[tokio::test]
    async fn what_has_waited_for_long_holds_nothing_back() {
        let directory = tempfile::tempdir().unwrap();
        let journal = Journal::open(directory.path()).await.unwrap();
        let now = pgbosun_core::clock::now();
        let post = |minutes: i64| NewNotification {
            id: Uuid::now_v7(),
            alerts: Vec::new(),
            incidents: Vec::new(),
            group: "database".into(),
            channel: "mail".into(),
            notice: pgbosun_core::alert::Notice::Opened,
            severity: Severity::Critical,
            subject: String::new(),
            content: String::new(),
            held: false,
            created_at: now - Duration::minutes(minutes),
        };
        let messages: Vec<_> = [90, 50, 50, 50, 50, 5].map(post).into();
        let ids: Vec<_> = messages.iter().map(|message| message.id).collect();
        journal.post(messages).await.unwrap();
        let anna = ["anna@example.com".to_owned()];
        let later = Some(now + Duration::minutes(5));
        journal.notification_sent(ids[0], &anna, now - Duration::minutes(1)).await.unwrap();
        journal.notification_sent(ids[1], &anna, now - Duration::minutes(61)).await.unwrap();
        journal.notification_failed(ids[2], &[], "refused", now, later).await.unwrap();
        journal.notification_failed(ids[3], &[], "refused", now, Some(now)).await.unwrap();
        journal.notification_failed(ids[4], &anna, "refused", now, later).await.unwrap();
        // Sent lately, due again, sent to somebody, and new.
        assert_eq!(journal.alert_snapshot(now).await.unwrap().sent, [("mail".to_owned(), 4)].into());
        let waiting = journal.pending_notifications().await.unwrap();
        let reached: Vec<_> = waiting.iter().map(|message| message.recipients.len()).collect();
        assert_eq!(reached, [0, 0, 1, 0]);
    }
}
