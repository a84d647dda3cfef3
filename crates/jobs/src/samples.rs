//! Samples of what a server does, for reports: counters as they grew, sizes, waits, and the machine.

mod host;
mod roll;
mod server;

use crate::{Job, JobContext, JobError};
use async_trait::async_trait;
use chrono::{DateTime, Timelike, Utc};
use pgbosun_core::{
    clock,
    finding::Severity,
    human, options,
    outcome::{Outcome, Record},
    sample::{Counters, Frame, SampleRecord, Span, Topic},
};

options! {
    /// Takes a sample of what the server does: statements (if pg_stat_statements is installed), tables, indexes, databases,
    /// WAL, checkpoints, reads and writes, waits, sizes, and the machine if the server runs on this one. Reports are made from
    /// samples; if there is a report, samples are taken every 5 minutes without being configured. Nothing is ever reset.
    pub struct Sample {
        /// How many times it checks what active sessions are waiting for, one second apart.
        wait_looks: u8 = "5";
        /// The statements that rank highest are kept individually; the text of each is kept up to this many bytes.
        query_bytes: u32 = "4000";
    }
}

/// What must be between two samples at least.
const LEAST: chrono::TimeDelta = chrono::TimeDelta::seconds(20);

#[async_trait]
impl Job for Sample {
    fn failure_severity(&self) -> Severity {
        Severity::Warning
    }

    async fn run(&self, context: &JobContext) -> Result<Outcome, JobError> {
        if context.dry_run {
            let summary = "would read the server's counters, and record how much they grew".into();
            return Ok(Outcome { summary, ..Outcome::default() });
        }
        let (cluster, target) = context.cluster()?;
        let now = clock::now();
        let before: Option<Counters> = context.journal.counters(&context.job).await?.and_then(|bytes| unpack(&bytes));
        let (hours, soon) = match &before {
            Some(before) => (hour(before.at) != hour(now), now - before.at < LEAST && now >= before.at),
            None => (true, false),
        };
        if soon {
            return Ok(Outcome { summary: "the last sample is only seconds old".into(), ..Outcome::default() });
        }
        let mut counters = Counters::at(now);
        let mut taken = server::take(self, context, target, &mut counters, hours).await?;
        let local = context.config.clusters.get(cluster).and_then(|cluster| cluster.data_directory.clone());
        if let Some(data) = local {
            let place = data.clone();
            match crate::place::at(&place, std::time::Duration::from_secs(20), move || host::row(&data)).await {
                Ok(Ok(row)) => counters.add(Topic::Host, Vec::new(), &row),
                Ok(Err(error)) => tracing::warn!("the machine is not in this sample: {error}"),
                Err(hung) => tracing::warn!("the machine is not in this sample: {hung}"),
            }
        }
        let mut outcome = Outcome::default();
        let mut kept = Frame::new();
        let mut told = "the first sample: the next one shows what grew".to_owned();
        if let Some(before) = &before {
            let seconds = (now - before.at).as_seconds_f64();
            for (topic, mut frame) in counters.since(before) {
                frame.trim(topic);
                if topic == Topic::Statements {
                    kept.clone_from(&frame);
                }
                let record = SampleRecord { at: before.at, seconds, span: Span::Sample, topic, frame };
                outcome.records.push(Record::Sample(record));
            }
            told = format!("{} since the last sample", human::span(now - before.at));
        }
        if let Some(mut frame) = taken.sizes {
            frame.trim(Topic::Sizes);
            let (span, topic) = (Span::Hour, Topic::Sizes);
            outcome.records.push(Record::Sample(SampleRecord { at: hour(now), seconds: 3600.0, span, topic, frame }));
        }
        if let Some(database) = &taken.statements_in {
            let known = context.journal.queries(cluster).await?;
            let wanted =
                kept.rows().map(|(key, _)| key[2].clone()).filter(|query| !known.contains_key(query)).collect();
            let texts = server::texts(target, database, wanted, self.query_bytes).await?;
            outcome.records.extend(texts.into_iter().map(Record::Query));
        }
        let last = before.as_ref().map_or(now, |before| before.at.min(now));
        outcome.records.extend(roll::all(context, cluster, last).await?.into_iter().map(Record::Sample));
        outcome.records.push(Record::Counters(pack(&counters)?));
        if taken.statements_in.is_none() {
            taken.missing.push("pg_stat_statements is not installed".into());
        }
        outcome.summary = [vec![told], taken.missing].concat().join("; ");
        Ok(outcome)
    }
}

/// The hour a time lies in.
fn hour(at: DateTime<Utc>) -> DateTime<Utc> {
    at.with_minute(0).and_then(|at| at.with_second(0)).and_then(|at| at.with_nanosecond(0)).unwrap_or(at)
}

/// Counters of thousands of statements are mostly the same digits: a tenth of the bytes are left.
fn pack(counters: &Counters) -> Result<Vec<u8>, JobError> {
    let failed = || JobError::lasting("cannot keep the counters");
    let text = serde_json::to_vec(counters).map_err(|error| failed().because(error))?;
    zstd::bulk::compress(&text, 1).map_err(|error| failed().because(error))
}

/// What another version left is none.
fn unpack(bytes: &[u8]) -> Option<Counters> {
    /// More than any server has.
    const MOST: usize = 1 << 28;
    serde_json::from_slice(&zstd::bulk::decompress(bytes, MOST).ok()?).ok()
}
