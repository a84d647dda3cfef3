//! Whether the server is the primary or standby that it should be (check_pgactivity: is_master, is_hot_standby).

use crate::{
    Baseline, JobError,
    monitors::{Monitor, MonitorFacts, MonitorSession, Query, Verdict},
};
use async_trait::async_trait;
use pgbosun_core::{
    config::Needs,
    detail::{Detail, Value},
    finding::{Finding, Severity},
    metric::Metric,
    options, word_settings, words,
};

words! {
    /// What a server may be.
    pub enum Expected {
        /// Takes writes.
        Primary = "primary",
        /// Follows another.
        Standby = "standby",
        /// What it was when it was first seen.
        Same = "same",
    }
}

word_settings! {
    Expected: "\"primary\", \"standby\" or \"same\"";
}

options! {
    /// Alerts when the server is not the primary or standby it should be: after a failover, or when a standby was promoted
    /// while its primary was running. If the cluster's connection names several hosts, two that accept writes at the same time
    /// are critical.
    pub struct Role {
        /// What it should be. `same` is what it was at the first check; a change is reported for a day, and then becomes the
        /// new rule.
        expected: Expected = "\"same\"";
    }
}

/// Whether it was a standby, and until when a change is told.
#[derive(Clone, Debug, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Memory {
    standby: Option<bool>,
    changed: Option<chrono::DateTime<chrono::Utc>>,
}

#[derive(sqlx::FromRow)]
pub struct Sample {
    standby: bool,
    /// Of several servers of the cluster those that take writes, with their timelines.
    #[sqlx(skip)]
    primaries: Vec<(String, u32)>,
}

const fn word(standby: bool) -> &'static str {
    if standby { "standby" } else { "primary" }
}

#[async_trait]
impl Monitor for Role {
    const FACTS: MonitorFacts = MonitorFacts {
        every: "* * * * *",
        group: "database",
        checks: 1,
        needs: Needs::Cluster,
        source: "check_pgactivity is_master and is_hot_standby",
        queries: &[Query { what: "ask whether it is a standby", sql: include_str!("role.sql") }],
    };
    type Sample = Sample;
    type Memory = Memory;

    async fn sample(&self, session: &mut MonitorSession<'_>) -> Result<Sample, JobError> {
        let mut sample: Sample = session.row(&Self::FACTS.queries[0]).await?;
        session.release().await;
        let (_, server) = session.context.cluster()?;
        if server.conninfo.hosts.len() > 1 {
            let primaries = pgbosun_backup::primaries(server).await;
            sample.primaries = primaries.into_iter().map(|one| (one.host, one.timeline)).collect();
        }
        Ok(sample)
    }

    fn verdict(&self, sample: &Sample, memory: &mut Memory, baseline: &Baseline) -> Verdict {
        let is = word(sample.standby);
        let mut verdict = Verdict::of(format!("is a {is}"));
        verdict.measure(Metric::new("postgres_in_recovery", f64::from(u8::from(sample.standby))));
        if sample.primaries.len() > 1 {
            let servers = sample.primaries.iter().map(|(host, timeline)| [Value::of(host), Value::of(timeline)]);
            verdict.find(
                Finding::new(Severity::Critical, "split brain", "two servers of the cluster accept writes")
                    .meaning("What is written to one of them is not on the other. The timeline that started later is the live one.")
                    .advice(
                        "Stop the server with the lower timeline now, save what was written to it, then rebuild it as a standby \
                         (pg_rewind). What was archived and backed up from it is orphaned: \"pgbosun backup list\".",
                    )
                    .detail(Detail::new().table(["server", "timeline"], servers)),
            );
        }
        if memory.standby.is_some_and(|was| was != sample.standby) {
            memory.changed = Some(baseline.now);
        }
        memory.standby = Some(sample.standby);
        memory.changed = memory.changed.filter(|at| baseline.now - *at < chrono::Duration::days(1));
        let (severity, summary) = match self.expected {
            Expected::Primary | Expected::Standby if self.expected.as_str() != is => {
                (Severity::Critical, format!("is a {is}, and should be a {}", self.expected))
            }
            Expected::Same if memory.changed.is_some() => {
                (Severity::Warning, format!("became a {is}, and was a {}", word(!sample.standby)))
            }
            _ => return verdict,
        };
        let (meaning, advice) = if sample.standby {
            ("It accepts no writes.", "Find out which server is the primary now, and whether applications use it.")
        } else {
            (
                "It accepts writes. If another primary does too, their contents diverge.",
                "Make sure that applications reach only one of them; rebuild the other one as a standby.",
            )
        };
        verdict.find(Finding::new(severity, "role", summary).meaning(meaning).advice(advice));
        verdict
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample(standby: bool, hosts: &[(&str, u32)]) -> Sample {
        let primaries = hosts.iter().map(|(host, timeline)| ((*host).to_owned(), *timeline)).collect();
        Sample { standby, primaries }
    }

    #[test]
    fn a_change_is_told_for_a_day_and_an_expectation_for_ever() {
        let monitor = Role { expected: Expected::Same };
        let mut memory = Memory::default();
        let mut check = |standby, hour: i64| {
            let now = chrono::DateTime::UNIX_EPOCH + chrono::Duration::hours(hour);
            let verdict = monitor.verdict(&sample(standby, &[]), &mut memory, &Baseline { now, ..Baseline::default() });
            verdict.findings.into_iter().map(|finding| finding.summary).next()
        };
        assert_eq!(check(true, 0), None);
        assert_eq!(check(false, 1).as_deref(), Some("became a primary, and was a standby"));
        assert!(check(false, 24).is_some());
        assert_eq!(check(false, 25), None);
        let monitor = Role { expected: Expected::Standby };
        let verdict = monitor.verdict(&sample(false, &[]), &mut Memory::default(), &Baseline::default());
        assert_eq!(verdict.findings[0].severity, Severity::Critical);
    }

    #[test]
    fn c41_two_servers_that_take_writes_are_critical() {
        let monitor = Role { expected: Expected::Same };
        let findings = |hosts: &[(&str, u32)]| {
            let verdict = monitor.verdict(&sample(false, hosts), &mut Memory::default(), &Baseline::default());
            verdict.findings.into_iter().map(|finding| (finding.severity, finding.object)).collect::<Vec<_>>()
        };
        assert_eq!(findings(&[("a", 2)]), []);
        assert_eq!(findings(&[("a", 1), ("b", 2)]), [(Severity::Critical, "split brain".to_owned())]);
    }
}
