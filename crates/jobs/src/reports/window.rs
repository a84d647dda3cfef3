//! A window of time, as samples tell of it.

use crate::JobError;
use chrono::{DateTime, DurationRound, TimeDelta, Utc};
use pgbosun_core::sample::{Frame, SampleRecord, Span, Topic};
use pgbosun_history::Journal;
use std::collections::BTreeMap;

/// What was sampled in a window.
#[derive(Debug, Default)]
pub(super) struct Window {
    /// All of it together, by topic.
    frames: BTreeMap<Topic, Frame>,
    /// One after the other, for charts: of the topics that have one row.
    parts: BTreeMap<Topic, Vec<SampleRecord>>,
    /// How much of it was sampled, seconds.
    pub seconds: f64,
}

/// Topics of which charts are made.
const CHARTED: [Topic; 3] = [Topic::Server, Topic::Host, Topic::Databases];

impl Window {
    /// Reads what begins in the window: whole hours as such where they were made, the rest as it was sampled; where that is
    /// gone, the nearest hours.
    pub async fn read(journal: &Journal, cluster: &str, (from, to): super::Span) -> Result<Self, JobError> {
        let hour = TimeDelta::hours(1);
        let down = |at: DateTime<Utc>| at.duration_trunc(hour).unwrap_or(at);
        let near = |at: DateTime<Utc>| down(at + hour / 2);
        let (first, last) = (if down(from) == from { from } else { down(from) + hour }, down(to));
        let mut window = Self::default();
        for topic in Topic::ALL {
            let mut hours = journal.samples(cluster, topic, Span::Hour, (first, last)).await?;
            let (begin, end) = match (hours.first(), hours.last()) {
                (Some(first), Some(last)) => (first.at, last.at + hour),
                _ => (to, to),
            };
            // What no hour has; charts want what the hours were made of too, as long as it is there.
            let charted = CHARTED.contains(&topic);
            let spans = if charted { [(from - hour, to), (to, to)] } else { [(from - hour, begin), (end, to)] };
            let mut fine = journal.samples(cluster, topic, Span::Sample, spans[0]).await?;
            fine.extend(journal.samples(cluster, topic, Span::Sample, spans[1]).await?);
            // One that lies on the edge belongs to where most of it is.
            fine.retain(|part| {
                (from..to).contains(&(part.at + TimeDelta::milliseconds((500.0 * part.seconds) as i64)))
            });
            if near(from) < first && !fine.iter().any(|part| part.at < first) {
                hours.splice(0..0, journal.samples(cluster, topic, Span::Hour, (near(from), first)).await?);
            }
            if near(to) > last && !fine.iter().any(|part| part.at >= last) {
                hours.extend(journal.samples(cluster, topic, Span::Hour, (last, near(to))).await?);
            }
            let mut frame = Frame::new();
            let edges = fine.iter().filter(|part| part.at < begin || part.at >= end);
            let mut parts: Vec<_> = edges.cloned().chain(hours.iter().cloned()).collect();
            parts.sort_by_key(|part| part.at);
            parts.iter().for_each(|part| frame.merge(topic, &part.frame));
            if topic == Topic::Server {
                window.seconds = parts.iter().map(|part| part.seconds).sum();
            }
            if charted {
                let whole = fine.first().is_some_and(|part| part.at <= from + hour);
                window.parts.insert(topic, if whole { fine } else { parts });
            }
            window.frames.insert(topic, frame);
        }
        Ok(window)
    }

    /// Whether there is anything.
    pub fn is_empty(&self) -> bool {
        self.seconds <= 0.0
    }

    /// The rows of a topic.
    pub fn rows(&self, topic: Topic) -> impl Iterator<Item = Row<'_>> {
        self.frames.get(&topic).into_iter().flat_map(Frame::rows).map(move |(key, values)| Row { topic, key, values })
    }

    /// The one row of a topic that has but one.
    pub fn row(&self, topic: Topic) -> Option<Row<'_>> {
        self.rows(topic).next()
    }

    /// A row by its key.
    pub fn of(&self, topic: Topic, key: &[String]) -> Option<Row<'_>> {
        self.rows(topic).find(|row| row.key == key)
    }

    /// What a value adds up to.
    pub fn total(&self, topic: Topic, value: &str) -> f64 {
        self.frames.get(&topic).map_or(0.0, |frame| frame.total(topic, value))
    }

    /// A value over time, as each part of the window has it.
    pub fn series(&self, topic: Topic, of: impl Fn(&Frame, f64) -> Option<f64>) -> Vec<(DateTime<Utc>, f64)> {
        let parts = self.parts.get(&topic).into_iter().flatten();
        parts.filter_map(|part| Some((part.at, of(&part.frame, part.seconds.max(1.0))?))).collect()
    }
}

/// A row of a topic.
#[derive(Clone, Copy, Debug)]
pub(super) struct Row<'a> {
    topic: Topic,
    /// What it is about.
    pub key: &'a [String],
    values: &'a [f64],
}

impl Row<'_> {
    /// A value of it.
    pub fn get(&self, value: &str) -> f64 {
        self.values.get(self.topic.place(value)).copied().unwrap_or_default()
    }

    /// A value that was added up at each check, divided by the checks.
    pub fn mean(&self, value: &str) -> f64 {
        self.get(value) / self.get("samples").max(1.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use sqlx::{ConnectOptions, SqliteConnection, sqlite::SqliteConnectOptions};

    fn at(text: &str) -> DateTime<Utc> {
        format!("2026-11-22T{text}:00Z").parse().unwrap()
    }

    /// So many sessions were connected, as one sample or hour has it.
    async fn sampled(connection: &mut SqliteConnection, span: Span, begin: &str, seconds: f64, connections: f64) {
        let mut values = vec![0.0; Topic::Server.shape().values.len()];
        values[Topic::Server.place("connections")] = connections;
        let mut frame = Frame::new();
        frame.add(Topic::Server, Vec::new(), &values);
        let rows = serde_json::to_string(&frame).unwrap();
        sqlx::query(
            "insert into samples (cluster, topic, span, at, seconds, rows) values ('main', 'server', ?, ?, ?, ?)",
        )
        .bind(span.as_str())
        .bind(at(begin))
        .bind(seconds)
        .bind(rows)
        .execute(connection)
        .await
        .unwrap();
    }

    #[tokio::test]
    async fn whole_hours_their_edges_and_the_nearest_where_samples_are_gone() {
        let directory = tempfile::tempdir().unwrap();
        let journal = Journal::open(directory.path()).await.unwrap();
        let file = SqliteConnectOptions::new().filename(directory.path().join("journal.sqlite"));
        let mut connection = file.connect().await.unwrap();
        // Each place has its digit: 1 to 3 for hours, and tenths for the samples that the fourth is made of.
        for (begin, connections) in [("00:00", 1.0), ("01:00", 20.0), ("02:00", 300.0)] {
            sampled(&mut connection, Span::Hour, begin, 3600.0, connections).await;
        }
        for (begin, connections) in [("03:00", 0.5), ("03:20", 0.05), ("03:40", 0.005)] {
            sampled(&mut connection, Span::Sample, begin, 1200.0, connections).await;
        }
        let read = async |from: &str, to: &str| {
            let window = Window::read(&journal, "main", (at(from), at(to))).await.unwrap();
            (window.total(Topic::Server, "connections"), window.seconds)
        };
        assert_eq!(read("00:00", "02:00").await, (21.0, 7200.0));
        assert_eq!(read("00:20", "02:00").await, (21.0, 7200.0), "the nearest whole hour is the first");
        assert_eq!(read("00:40", "02:40").await, (320.0, 7200.0), "and here the second, and the third");
        assert_eq!(read("00:40", "02:20").await, (20.0, 3600.0));
        assert_eq!(read("02:00", "03:25").await, (300.5, 4800.0), "a sample belongs to where most of it is");
        assert_eq!(read("02:00", "03:35").await, (300.55, 6000.0));
        assert_eq!(read("03:15", "04:00").await, (0.055, 2400.0));
        assert_eq!(read("05:00", "06:00").await, (0.0, 0.0));
    }
}
