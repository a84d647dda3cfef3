//! A monitor that is a query of the user's own.

use crate::{
    Baseline, JobError,
    monitors::{Monitor, MonitorFacts, MonitorSession, Verdict},
};
use async_trait::async_trait;
use pgbosun_core::{config::Needs, finding::Finding, human, metric::Metric, options};

options! {
    /// Runs a query as a monitor. Its rows are a value, or a name and a value, or a name, a value and a text about it; each
    /// name is judged separately, and no rows means that nothing is wrong. The query is read-only: it cannot change anything.
    pub struct SqlMonitor {
        /// The query.
        query: String;
        /// The database; by default that of the cluster's connection.
        database: Option<String>;
        /// What the value is, such as "queue length"; the job's name by default.
        title: Option<String>;
        /// Warns above this value.
        warning: Option<f64>;
        /// Critical above this value.
        critical: Option<f64>;
        /// Warn and be critical below the limits instead of above them.
        below: bool = "false";
        /// What it means when a value is beyond its limits.
        meaning: Option<String>;
        /// What to do in that case.
        advice: Option<String>;
    }
}

/// One row.
#[derive(Clone, Debug, PartialEq)]
pub struct Row {
    name: String,
    value: f64,
    words: String,
}

/// The rows, and the name of the job.
pub struct Sample {
    rows: Vec<Row>,
    job: String,
}

#[async_trait]
impl Monitor for SqlMonitor {
    const FACTS: MonitorFacts = MonitorFacts {
        every: "*/5 * * * *",
        group: "database",
        checks: 1,
        needs: Needs::ClusterOptions,
        source: "the configuration",
        queries: &[],
    };
    type Sample = Sample;
    type Memory = ();

    async fn sample(&self, session: &mut MonitorSession<'_>) -> Result<Sample, JobError> {
        let rows = session.text(&self.query, self.database.as_deref()).await?;
        let rows = rows.into_iter().map(row).collect::<Result<_, _>>()?;
        Ok(Sample { rows, job: session.context.job.clone() })
    }

    fn verdict(&self, sample: &Sample, (): &mut (), baseline: &Baseline) -> Verdict {
        let title = self.title.as_deref().unwrap_or(&sample.job);
        let shown = |row: &Row| if row.name.is_empty() { title.to_owned() } else { format!("{title} of {}", row.name) };
        let mut verdict = Verdict::of(match sample.rows.as_slice() {
            [] => "no rows".to_owned(),
            [row] => format!("{} is {}", shown(row), row.value),
            rows => human::count(rows.len(), "row"),
        });
        for row in &sample.rows {
            let object = if row.name.is_empty() { "value" } else { &row.name };
            let metric = Metric::new("custom_value", row.value).of("label", title);
            verdict.measure(if row.name.is_empty() { metric } else { metric.of("name", &row.name) });
            let severity = match self.below {
                true => {
                    let never = f64::NEG_INFINITY;
                    baseline.below(object, row.value, self.warning.unwrap_or(never), self.critical.unwrap_or(never))
                }
                false => {
                    let never = f64::INFINITY;
                    baseline.above(object, row.value, self.warning.unwrap_or(never), self.critical.unwrap_or(never))
                }
            };
            verdict.find(
                Finding::new(severity, object, format!("{} is {}", shown(row), row.value))
                    .meaning(self.meaning.clone().unwrap_or_default())
                    .advice(self.advice.clone().unwrap_or_default())
                    .detail(&row.words),
            );
        }
        verdict
    }
}

/// One column is a value, two are name and value, three have words about it.
fn row(fields: Vec<Option<String>>) -> Result<Row, JobError> {
    let text = |index: usize| fields.get(index).cloned().flatten().unwrap_or_default();
    let (name, value, words) = match fields.len() {
        1 => (String::new(), text(0), String::new()),
        2 => (text(0), text(1), String::new()),
        3 => (text(0), text(1), text(2)),
        other => return Err(JobError::lasting(format!("the query returns {other} columns; a monitor needs 1 to 3"))),
    };
    let value = value
        .trim()
        .parse()
        .map_err(|_| JobError::lasting(format!("the query returns \"{value}\", which is not a number")))?;
    Ok(Row { name, value, words })
}

#[cfg(test)]
mod tests {
    use super::*;
    use pgbosun_core::finding::Severity;

    #[test]
    fn one_to_three_columns_and_both_directions() {
        let text = |words: &[&str]| row(words.iter().map(|word| Some((*word).to_owned())).collect());
        assert_eq!(text(&["7"]).unwrap(), Row { name: String::new(), value: 7.0, words: String::new() });
        assert_eq!(text(&["a", "7.5", "why"]).unwrap(), Row { name: "a".into(), value: 7.5, words: "why".into() });
        assert!(text(&["a"]).is_err() && text(&["1", "2", "3", "4"]).is_err());
        let judge = |below, value| {
            let monitor = SqlMonitor {
                query: String::new(),
                database: None,
                title: None,
                warning: Some(10.0),
                critical: None,
                below,
                meaning: None,
                advice: None,
            };
            let sample =
                Sample { rows: vec![Row { name: String::new(), value, words: String::new() }], job: "queue".into() };
            let findings = monitor.verdict(&sample, &mut (), &Baseline::default()).findings;
            findings.into_iter().map(|finding| (finding.severity, finding.summary)).next()
        };
        assert_eq!(judge(false, 11.0), Some((Severity::Warning, "queue is 11".into())));
        assert_eq!([judge(false, 10.0), judge(true, 10.0)], [None, None]);
        assert_eq!(judge(true, 9.0).unwrap().0, Severity::Warning);
    }
}
