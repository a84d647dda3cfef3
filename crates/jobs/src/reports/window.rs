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

    /// A value that was added up at each look, divided by the looks.
    pub fn mean(&self, value: &str) -> f64 {
        self.get(value) / self.get("samples").max(1.0)
    }
}
