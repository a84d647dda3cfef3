//! A page of metrics, put together at the moment of a scrape and written by `prometheus-client`.
//!
//! Invariant: a series appears once, however many jobs measure it: the first value stays.

use prometheus_client::{
    collector::Collector,
    encoding::{DescriptorEncoder, EncodeMetric, text::encode},
    metrics::{MetricType, counter::ConstCounter, gauge::ConstGauge},
    registry::Registry,
};
use std::{collections::BTreeMap, fmt};

/// The end of a counter's name.
const TOTAL: &str = "_total";

/// Pairs of a label and its value.
type Labels = Vec<(String, String)>;

/// Families of metrics by name: what they are, and their series.
#[derive(Debug, Default)]
pub(super) struct Page(BTreeMap<String, (String, BTreeMap<Labels, f64>)>);

impl Page {
    /// Adds a value.
    pub fn add(&mut self, name: &str, help: &str, labels: &[(&str, &str)], value: f64) {
        let labels = labels.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
        let family = self.0.entry(name.to_owned()).or_insert_with(|| (help.to_owned(), BTreeMap::new()));
        family.1.entry(labels).or_insert(value);
    }

    /// The page in the text format of OpenMetrics, which Prometheus reads.
    pub fn text(self) -> String {
        let mut registry = Registry::default();
        registry.register_collector(Box::new(self));
        let mut text = String::new();
        // Writing into a String cannot fail.
        let _ = encode(&mut text, &registry);
        text
    }
}

impl Collector for Page {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> Result<(), fmt::Error> {
        for (name, (help, series)) in &self.0 {
            // The encoder ends the sentence and the names of counters itself.
            let help = help.trim_end_matches('.');
            let counter = name.strip_suffix(TOTAL);
            let kind = if counter.is_some() { MetricType::Counter } else { MetricType::Gauge };
            let mut family = encoder.encode_descriptor(counter.unwrap_or(name), help, None, kind)?;
            for (labels, value) in series {
                let encoder = family.encode_family(labels)?;
                match counter {
                    Some(_) => ConstCounter::new(*value).encode(encoder)?,
                    None => ConstGauge::new(*value).encode(encoder)?,
                }
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::Page;

    #[test]
    fn the_page_is_what_prometheus_reads() {
        let mut page = Page::default();
        page.add("postgres_up", "Whether it answers.", &[("cluster", "main")], 1.0);
        page.add("postgres_up", "Whether it answers.", &[("cluster", "main")], 0.0);
        page.add("deadlocks_total", "Deadlocks.", &[("database", "a \"b\"\\\n")], 3.0);
        insta::assert_snapshot!(page.text(), @r#"
        # HELP deadlocks Deadlocks
        # TYPE deadlocks counter
        deadlocks_total{database="a \"b\"\\\n"} 3.0
        # HELP postgres_up Whether it answers
        # TYPE postgres_up gauge
        postgres_up{cluster="main"} 1.0
        # EOF
        "#);
    }
}
