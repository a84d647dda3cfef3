//! Samples in the journal: written at the end of a run, read for reports and for what becomes of them.

use crate::{Error, Journal, runs::storable};
use chrono::{DateTime, Utc};
use pgbosun_core::{
    run::Run,
    sample::{Frame, QueryText, SampleRecord, Span, Topic},
};
use sqlx::{FromRow, SqliteConnection};
use std::collections::{BTreeMap, BTreeSet};

#[derive(FromRow)]
struct SampleRow {
    at: DateTime<Utc>,
    seconds: f64,
    rows: String,
}

impl Journal {
    /// Samples of a topic that begin in a span of time, oldest first. One that cannot be read is none.
    ///
    /// # Errors
    /// [`Error::Journal`].
    pub async fn samples(
        &self,
        cluster: &str,
        topic: Topic,
        span: Span,
        (from, to): (DateTime<Utc>, DateTime<Utc>),
    ) -> Result<Vec<SampleRecord>, Error> {
        let rows: Vec<SampleRow> = sqlx::query_as(
            "select at, seconds, rows from samples where cluster = ? and topic = ? and span = ? and at >= ? and at < ?
             order by at",
        )
        .bind(cluster)
        .bind(topic.as_str())
        .bind(span.as_str())
        .bind(from)
        .bind(to)
        .fetch_all(&self.readers)
        .await
        .map_err(Error::journal("read samples"))?;
        let read = |row: SampleRow| {
            let frame: Frame = serde_json::from_str(&row.rows).ok()?;
            Some(SampleRecord { at: row.at, seconds: row.seconds, span, topic, frame })
        };
        Ok(rows.into_iter().filter_map(read).collect())
    }

    /// The hours before a time that have samples and are no hour yet; or, the same for days of hours. As `2026-11-22T03`.
    ///
    /// # Errors
    /// [`Error::Journal`].
    pub async fn unrolled(
        &self,
        cluster: &str,
        topic: Topic,
        (from, to): (Span, Span),
        before: DateTime<Utc>,
    ) -> Result<BTreeSet<String>, Error> {
        let length = if to == Span::Hour { 13 } else { 10 };
        let names: Vec<String> = sqlx::query_scalar(
            "select distinct substr(at, 1, ?5) from samples s where cluster = ?1 and topic = ?2 and span = ?3 and at < ?6
                 and not exists (select 1 from samples d where d.cluster = ?1 and d.topic = ?2 and d.span = ?4
                     and substr(d.at, 1, ?5) = substr(s.at, 1, ?5))",
        )
        .bind(cluster)
        .bind(topic.as_str())
        .bind(from.as_str())
        .bind(to.as_str())
        .bind(length)
        .bind(before)
        .fetch_all(&self.readers)
        .await
        .map_err(Error::journal("look up samples"))?;
        Ok(names.into_iter().collect())
    }

    /// The words of statements of a cluster.
    ///
    /// # Errors
    /// [`Error::Journal`].
    pub async fn queries(&self, cluster: &str) -> Result<BTreeMap<String, String>, Error> {
        let rows: Vec<(String, String)> = sqlx::query_as("select query, text from queries where cluster = ?")
            .bind(cluster)
            .fetch_all(&self.readers)
            .await
            .map_err(Error::journal("read statements"))?;
        Ok(rows.into_iter().collect())
    }

    /// The counters as a job left them.
    ///
    /// # Errors
    /// [`Error::Journal`].
    pub async fn counters(&self, job: &str) -> Result<Option<Vec<u8>>, Error> {
        sqlx::query_scalar("select counters from sample_counters where job = ?")
            .bind(job)
            .fetch_optional(&self.readers)
            .await
            .map_err(Error::journal("read counters"))
    }
}

pub(crate) async fn write(connection: &mut SqliteConnection, sample: &SampleRecord, run: &Run) -> Result<(), Error> {
    let rows = serde_json::to_string(&sample.frame).unwrap_or_default();
    sqlx::query(
        "insert into samples (cluster, topic, span, at, seconds, rows) values (?, ?, ?, ?, ?, ?) on conflict do nothing",
    )
    .bind(run.cluster.as_deref().unwrap_or_default())
    .bind(sample.topic.as_str())
    .bind(sample.span.as_str())
    .bind(sample.at)
    .bind(sample.seconds)
    .bind(storable(&rows))
    .execute(connection)
    .await
    .map(drop)
    .map_err(Error::journal("write a sample"))
}

pub(crate) async fn write_query(
    connection: &mut SqliteConnection,
    query: &QueryText,
    run: &Run,
    at: DateTime<Utc>,
) -> Result<(), Error> {
    sqlx::query("insert into queries (cluster, query, text, seen_at) values (?, ?, ?, ?) on conflict do nothing")
        .bind(run.cluster.as_deref().unwrap_or_default())
        .bind(&query.query)
        .bind(storable(&query.text))
        .bind(at)
        .execute(connection)
        .await
        .map(drop)
        .map_err(Error::journal("write a statement"))
}

pub(crate) async fn write_counters(connection: &mut SqliteConnection, counters: &[u8], run: &Run) -> Result<(), Error> {
    sqlx::query("insert or replace into sample_counters (job, counters) values (?, ?)")
        .bind(&run.job)
        .bind(counters)
        .execute(connection)
        .await
        .map(drop)
        .map_err(Error::journal("write counters"))
}
