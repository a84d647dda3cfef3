//! A monitor that is a program: any plugin of Nagios or Icinga (monitoring-plugins.org: exit code, output, performance data).

use crate::{
    Baseline, JobError,
    monitors::{Monitor, MonitorFacts, MonitorSession, Verdict},
    programs::{Ended, execute},
};
use async_trait::async_trait;
use pgbosun_core::{
    config::Needs,
    finding::{Finding, Severity},
    metric::Metric,
    options,
};
use std::{
    path::{Path, PathBuf},
    time::Duration,
};

options! {
    /// Runs a program as a monitor, the way Nagios does: exit code 0 is OK, 1 a warning, 2 critical, and anything else means
    /// that it could not check. The first line of its output is what is reported; what follows a `|` is performance data.
    pub struct CommandMonitor {
        /// The program.
        program: PathBuf;
        /// Its arguments, passed unchanged: no shell is involved.
        arguments: Vec<String> = "[]";
        /// What it means when the program finds something.
        meaning: Option<String>;
        /// What to do in that case.
        advice: Option<String>;
    }
}

pub struct Sample {
    severity: Severity,
    output: String,
}

#[async_trait]
impl Monitor for CommandMonitor {
    const FACTS: MonitorFacts = MonitorFacts {
        every: "*/5 * * * *",
        group: "database",
        checks: 1,
        needs: Needs::Options,
        source: "monitoring-plugins.org, development guidelines",
        queries: &[],
    };
    type Sample = Sample;
    type Memory = ();

    async fn sample(&self, session: &mut MonitorSession<'_>) -> Result<Sample, JobError> {
        const PATIENCE: Duration = Duration::from_secs(5);
        let Ended { status, output, errors } =
            execute(session.context, &self.program, &self.arguments, Path::new("/"), PATIENCE).await?;
        let severity = match status.code() {
            Some(0) => Severity::Ok,
            Some(1) => Severity::Warning,
            Some(2) => Severity::Critical,
            _ => {
                let words = if output.is_empty() { errors } else { output };
                let program = self.program.display();
                return Err(JobError::lasting(format!("{program} could not check ({status}): {words}")));
            }
        };
        Ok(Sample { severity, output })
    }

    fn verdict(&self, sample: &Sample, (): &mut (), _: &Baseline) -> Verdict {
        let first = sample.output.lines().next().unwrap_or_default();
        let (words, data) = first.split_once('|').unwrap_or((first, ""));
        let words = words.trim();
        let mut verdict = Verdict::of(if words.is_empty() { "no output" } else { words });
        verdict.metrics = metrics(data);
        verdict.find(
            Finding::new(sample.severity, "command", &verdict.summary)
                .meaning(self.meaning.clone().unwrap_or_default())
                .advice(self.advice.clone().unwrap_or_default())
                .detail(&sample.output),
        );
        verdict
    }
}

/// Performance data: `'label'=value[unit];warn;crit;min;max`, with blanks between.
fn metrics(data: &str) -> Vec<Metric> {
    let mut metrics = Vec::new();
    let mut rest = data.trim();
    while !rest.is_empty() {
        let (label, after) = match rest.strip_prefix('\'') {
            Some(quoted) => quoted.split_once("'=").unwrap_or((quoted, "")),
            None => rest.split_once('=').unwrap_or((rest, "")),
        };
        let (values, next) = after.split_once(char::is_whitespace).unwrap_or((after, ""));
        let value = values.split(';').next().unwrap_or_default();
        let end = value.find(|c: char| !c.is_ascii_digit() && !"+-.eE".contains(c)).unwrap_or(value.len());
        if let Ok(number) = value[..end].parse() {
            let (number, unit) = based(number, &value[end..]);
            let metric = Metric::new("custom_value", number).of("label", label.trim());
            metrics.push(if unit.is_empty() { metric } else { metric.of("unit", unit) });
        }
        rest = next.trim_start();
    }
    metrics
}

/// In the base unit, as metrics are: seconds, bytes, percent.
fn based(value: f64, unit: &str) -> (f64, &str) {
    match unit {
        "s" => (value, "seconds"),
        "ms" => (value / 1e3, "seconds"),
        "us" => (value / 1e6, "seconds"),
        "%" => (value, "percent"),
        "B" => (value, "bytes"),
        "KB" | "kB" => (value * 1024.0, "bytes"),
        "MB" => (value * 1024.0 * 1024.0, "bytes"),
        "GB" => (value * 1024.0 * 1024.0 * 1024.0, "bytes"),
        "TB" => (value * 1024.0 * 1024.0 * 1024.0 * 1024.0, "bytes"),
        other => (value, other),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn output_and_performance_data_of_a_plugin() {
        let monitor =
            CommandMonitor { program: "/x".into(), arguments: Vec::new(), meaning: None, advice: Some("Look.".into()) };
        let output = "DISK WARNING - free space: / 3326 MB (5%);| '/ used'=2643MB;5948;5958;0;5968 rta=1.5ms\nmore";
        let sample = Sample { severity: Severity::Warning, output: output.into() };
        let verdict = monitor.verdict(&sample, &mut (), &Baseline::default());
        assert_eq!(verdict.findings[0].summary, "DISK WARNING - free space: / 3326 MB (5%);");
        let labels: Vec<_> = verdict.metrics.iter().map(|metric| (metric.labels[0].1.as_str(), metric.value)).collect();
        assert_eq!(labels, [("/ used", 2643.0 * 1024.0 * 1024.0), ("rta", 0.0015)]);
        let quiet = Sample { severity: Severity::Ok, output: String::new() };
        assert!(monitor.verdict(&quiet, &mut (), &Baseline::default()).findings.is_empty());
    }
}
