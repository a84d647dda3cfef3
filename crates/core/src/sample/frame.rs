//! Rows of values by key, and what becomes of two of them.

use super::{Merge, Topic};
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};

/// What a row is about.
pub type Key = Vec<String>;

/// The first key of the row that holds what is not kept by name.
pub const REST: &str = "…";

/// Rows of one topic.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Frame {
    #[serde(with = "pairs")]
    rows: BTreeMap<Key, Vec<f64>>,
}

/// As a list of pairs, since JSON knows only words as keys.
mod pairs {
    use super::{BTreeMap, Key};
    use serde::{Deserialize, Deserializer, Serializer};

    pub fn serialize<S: Serializer>(rows: &BTreeMap<Key, Vec<f64>>, serializer: S) -> Result<S::Ok, S::Error> {
        /// Whole numbers need no point: it would be half of the text.
        fn short(value: f64) -> serde_json::Value {
            let rounded = (value * 1000.0).round() / 1000.0;
            if rounded.fract() == 0.0 && rounded.abs() < 9e15 { (rounded as i64).into() } else { rounded.into() }
        }
        serializer
            .collect_seq(rows.iter().map(|(key, values)| (key, values.iter().map(|v| short(*v)).collect::<Vec<_>>())))
    }

    pub fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<BTreeMap<Key, Vec<f64>>, D::Error> {
        Ok(Vec::<(Key, Vec<f64>)>::deserialize(deserializer)?.into_iter().collect())
    }
}

impl Frame {
    /// Nothing so far.
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds a row, to what there is of the same key.
    pub fn add(&mut self, topic: Topic, key: Key, values: &[f64]) {
        let shape = topic.shape();
        match self.rows.get_mut(&key) {
            Some(row) => {
                for ((known, value), (_, merge)) in row.iter_mut().zip(values).zip(shape.values) {
                    *known = match merge {
                        Merge::Count | Merge::Position | Merge::Add => *known + value,
                        Merge::Most => known.max(*value),
                        Merge::Last => *value,
                    };
                }
            }
            None => {
                self.rows.insert(key, values.to_vec());
            }
        }
    }

    /// Adds the rows of a later frame.
    pub fn merge(&mut self, topic: Topic, later: &Self) {
        for (key, values) in &later.rows {
            self.add(topic, key.clone(), values);
        }
    }

    /// Keeps the first by each rank, and adds up the others.
    pub fn trim(&mut self, topic: Topic) {
        let shape = topic.shape();
        if self.rows.len() <= shape.kept {
            return;
        }
        let mut kept: BTreeSet<Key> = BTreeSet::new();
        for rank in shape.ranks {
            let place = topic.place(rank);
            let mut ranked: Vec<_> = self.rows.iter().filter(|(_, row)| row[place] > 0.0).collect();
            ranked.sort_by(|a, b| b.1[place].total_cmp(&a.1[place]));
            kept.extend(ranked.into_iter().take(shape.kept).map(|(key, _)| key.clone()));
        }
        let rest = Self::rest(topic);
        for (key, values) in std::mem::take(&mut self.rows) {
            let key = if kept.contains(&key) { key } else { rest.clone() };
            self.add(topic, key, &values);
        }
    }

    /// The key of the row that holds what is not kept by name.
    pub fn rest(topic: Topic) -> Key {
        topic.shape().keys.iter().map(|_| REST.to_owned()).collect()
    }

    /// The rows.
    pub fn rows(&self) -> impl Iterator<Item = (&Key, &[f64])> {
        self.rows.iter().map(|(key, row)| (key, row.as_slice()))
    }

    /// One row.
    pub fn row(&self, key: &[&str]) -> Option<&[f64]> {
        let key: Key = key.iter().map(|&part| part.to_owned()).collect();
        self.rows.get(&key).map(Vec::as_slice)
    }

    /// Whether it has none.
    pub fn is_empty(&self) -> bool {
        self.rows.is_empty()
    }

    /// What a value adds up to over all rows.
    pub fn total(&self, topic: Topic, value: &str) -> f64 {
        let place = topic.place(value);
        self.rows.values().map(|row| row[place]).sum()
    }
}

impl FromIterator<(Key, Vec<f64>)> for Frame {
    fn from_iter<T: IntoIterator<Item = (Key, Vec<f64>)>>(rows: T) -> Self {
        Self { rows: rows.into_iter().collect() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn waits(rows: &[(&str, f64)]) -> Frame {
        rows.iter().map(|(name, seen)| (vec!["IO".to_owned(), (*name).to_owned()], vec![*seen])).collect()
    }

    #[test]
    fn frames_add_up_and_totals_hold() {
        let mut hour = waits(&[("DataFileRead", 3.0)]);
        hour.merge(Topic::Waits, &waits(&[("DataFileRead", 2.0), ("WALSync", 1.0)]));
        assert_eq!(hour.row(&["IO", "DataFileRead"]), Some(&[5.0][..]));
        let many: Vec<_> = (0..100).map(|number| (format!("event{number}"), f64::from(number))).collect();
        let mut frame = waits(&many.iter().map(|(name, seen)| (name.as_str(), *seen)).collect::<Vec<_>>());
        let total = frame.total(Topic::Waits, "seen");
        frame.trim(Topic::Waits);
        assert_eq!(frame.rows().count(), 41);
        assert_eq!(frame.row(&[REST, REST]), Some(&[(0..60).sum::<i32>().into()][..]));
        assert!((frame.total(Topic::Waits, "seen") - total).abs() < f64::EPSILON);
    }

    #[test]
    fn sums_most_and_last() {
        let row = |samples: f64, most: f64, maximum: f64| {
            let mut values = vec![0.0; Topic::Server.shape().values.len()];
            for (name, value) in [("samples", samples), ("most_active", most), ("max_connections", maximum)] {
                values[Topic::Server.place(name)] = value;
            }
            Frame::from_iter([(Key::new(), values)])
        };
        let mut first = row(1.0, 7.0, 100.0);
        first.merge(Topic::Server, &row(1.0, 3.0, 200.0));
        assert_eq!(first, row(2.0, 7.0, 200.0));
    }

    #[test]
    fn short_in_json() {
        let frame = waits(&[("a", 3.0), ("b", 0.123_456)]);
        let text = serde_json::to_string(&frame).unwrap();
        assert_eq!(text, r#"[[["IO","a"],[3]],[["IO","b"],[0.123]]]"#);
        let back: Frame = serde_json::from_str(&text).unwrap();
        assert_eq!(back.row(&["IO", "a"]), Some(&[3.0][..]));
    }
}
