//! Counters as they stood, and what they grew by since. One that went backwards began anew: after a restart, a crash or a
//! reset, what it shows now is what was counted since.

use super::{Frame, Key, Merge, Topic};
use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// By how much a counter may have been rounded up when it was written down.
const ROUNDED: f64 = 0.001;

/// The counters of one moment.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct Counters {
    /// When.
    pub at: DateTime<Utc>,
    topics: BTreeMap<Topic, Frame>,
}

impl Counters {
    /// None so far.
    pub fn at(at: DateTime<Utc>) -> Self {
        Self { at, topics: BTreeMap::new() }
    }

    /// Takes over what stands in the server now; rows of one key add up.
    pub fn add(&mut self, topic: Topic, key: Key, values: &[f64]) {
        self.topics.entry(topic).or_default().add(topic, key, values);
    }

    /// What each topic grew by since; nothing for a topic that was not counted before.
    pub fn since(&self, before: &Self) -> BTreeMap<Topic, Frame> {
        let grown = |(topic, now): (&Topic, &Frame)| {
            let before = before.topics.get(topic)?;
            Some((*topic, grown(*topic, now, before)))
        };
        self.topics.iter().filter_map(grown).filter(|(_, frame)| !frame.is_empty()).collect()
    }
}

/// Rows in which something moved.
fn grown(topic: Topic, now: &Frame, before: &Frame) -> Frame {
    let shape = topic.shape();
    let counts = |place: usize| shape.values[place].1 == Merge::Count;
    let row = |(key, values): (&Key, &[f64])| {
        let words: Vec<&str> = key.iter().map(String::as_str).collect();
        let known = match before.row(&words) {
            Some(known) => known.to_vec(),
            None if shape.fresh => vec![0.0; values.len()],
            None => return None,
        };
        let anew = (0..values.len()).any(|place| counts(place) && values[place] < known[place] - ROUNDED);
        let difference = (0..values.len()).map(|place| match shape.values[place].1 {
            Merge::Count if anew => values[place],
            Merge::Count | Merge::Position => (values[place] - known[place]).max(0.0),
            Merge::Add | Merge::Most | Merge::Last => values[place],
        });
        let difference: Vec<f64> = difference.collect();
        let moves = |place: usize| matches!(shape.values[place].1, Merge::Count | Merge::Position | Merge::Add);
        let moved = (0..values.len()).any(|place| moves(place) && difference[place] > 0.0);
        let stands = !(0..values.len()).any(moves);
        (moved || stands).then(|| (key.clone(), difference))
    };
    now.rows().filter_map(row).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn counters(rows: &[(&str, f64)]) -> Counters {
        let mut counters = Counters::at(DateTime::UNIX_EPOCH);
        for (name, calls) in rows {
            let mut values = vec![0.0; Topic::Statements.shape().values.len()];
            values[0] = *calls;
            counters.add(Topic::Statements, vec!["app".into(), "u".into(), (*name).into()], &values);
        }
        counters
    }

    fn calls(now: &Counters, before: &Counters) -> Vec<(String, f64)> {
        let grown = now.since(before);
        let rows = grown.get(&Topic::Statements).into_iter().flat_map(Frame::rows);
        rows.map(|(key, row)| (key[2].clone(), row[0])).collect()
    }

    #[test]
    fn what_grew_what_is_new_and_what_began_anew() {
        let before = counters(&[("a", 10.0), ("b", 5.0), ("c", 7.0)]);
        let now = counters(&[("a", 12.0), ("b", 5.0), ("c", 3.0), ("d", 4.0)]);
        let expected = [("a", 2.0), ("c", 3.0), ("d", 4.0)].map(|(name, calls)| (name.to_owned(), calls));
        assert_eq!(calls(&now, &before), expected);
        assert!(calls(&now, &Counters::at(DateTime::UNIX_EPOCH)).is_empty(), "the first look knows nothing");
    }

    #[test]
    fn what_a_crash_takes_is_not_the_position() {
        let server = |wal: f64, records: f64| {
            let mut counters = counters(&[]);
            let mut values = vec![0.0; Topic::Server.shape().values.len()];
            (values[Topic::Server.place("wal_bytes")], values[Topic::Server.place("wal_records")]) = (wal, records);
            counters.add(Topic::Server, Vec::new(), &values);
            counters
        };
        let grown = |now: Counters, before: Counters| {
            let grown = now.since(&before);
            let total = |value| grown.get(&Topic::Server).map_or(0.0, |frame| frame.total(Topic::Server, value));
            (total("wal_bytes"), total("wal_records"))
        };
        assert_eq!(grown(server(5e12 + 70.0, 3.0), server(5e12, 900.0)), (70.0, 3.0), "statistics were lost");
        assert_eq!(grown(server(4e12, 3.0), server(5e12, 900.0)), (0.0, 3.0), "a restored server");
    }

    #[test]
    fn what_was_written_down_and_read_is_the_same_counter() {
        let before = counters(&[("a", 10.000_6), ("b", 20.123_456)]);
        let kept: Counters = serde_json::from_str(&serde_json::to_string(&before).unwrap()).unwrap();
        assert!(calls(&before, &kept).iter().all(|(_, grown)| *grown < 0.01), "{:?}", calls(&before, &kept));
    }

    #[test]
    fn a_table_that_was_not_there_is_known_from_now_on() {
        let table = |name: &str, scans: f64| {
            let mut counters = counters(&[]);
            let mut values = vec![0.0; Topic::Tables.shape().values.len()];
            values[0] = scans;
            counters.add(Topic::Tables, vec!["app".into(), name.into()], &values);
            counters
        };
        assert!(table("renamed", 1000.0).since(&table("t", 900.0)).is_empty());
        assert_eq!(
            table("t", 1000.0).since(&table("t", 900.0))[&Topic::Tables].total(Topic::Tables, "seq_scans"),
            100.0
        );
    }
}
