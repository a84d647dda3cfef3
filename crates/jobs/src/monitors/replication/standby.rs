//! How a standby does, seen from itself (check_pgactivity: is_replay_paused; check_postgres: hot_standby_delay).

use crate::{
    JobError,
    monitors::{Facts, Look, Monitor, Query, Verdict, View},
};
use async_trait::async_trait;
use pgbosun_core::{
    config::Needs,
    figure::Figure,
    finding::{Finding, Severity},
    human, options,
};
use std::time::Duration;

options! {
    /// Alerts on a standby when replay is paused or far behind, or when nothing is received. Quiet on a primary. How far one
    /// is behind that gets its WAL from an archive alone it cannot know: there only the pause is told.
    pub struct Standby {
        /// Warns when what was received waits to be replayed for so long.
        warning: Duration = "\"5m\"";
        /// Critical after so long.
        critical: Duration = "\"30m\"";
    }
}

#[derive(sqlx::FromRow)]
pub struct Sample {
    standby: bool,
    paused: bool,
    streaming: bool,
    expected: bool,
    behind: f64,
    replayed: String,
}

#[async_trait]
impl Monitor for Standby {
    const FACTS: Facts = Facts {
        every: "*/5 * * * *",
        group: "database",
        looks: 2,
        needs: Needs::Cluster,
        source: "check_pgactivity is_replay_paused; pg_stat_wal_receiver",
        queries: &[Query { what: "ask how the standby does", sql: include_str!("standby.sql") }],
    };
    type Sample = Sample;
    type Memory = ();

    async fn sample(&self, look: &mut Look<'_>) -> Result<Sample, JobError> {
        look.row(&Self::FACTS.queries[0]).await
    }

    fn verdict(&self, sample: &Sample, (): &mut (), view: &View) -> Verdict {
        if !sample.standby {
            return Verdict::of("is a primary");
        }
        let behind = human::duration(Duration::from_secs_f64(sample.behind.max(0.0)));
        let mut verdict = Verdict::of(format!("replayed to {}, {behind} behind", sample.replayed));
        verdict.measure(Figure::new("postgres_replay_lag_seconds", sample.behind));
        verdict.measure(Figure::new("postgres_wal_receiver_up", f64::from(u8::from(sample.streaming))));
        if sample.paused {
            verdict.find(
                Finding::new(Severity::Warning, "replay", "replay is paused")
                    .meaning("The standby shows old data, and collects WAL until its disk is full.")
                    .advice("select pg_wal_replay_resume(), once whoever paused it is done."),
            );
        }
        if sample.expected && !sample.streaming {
            verdict.find(
                Finding::new(Severity::Critical, "receiver", "the standby receives nothing from its primary")
                    .meaning("It falls behind; what the primary loses now is lost.")
                    .advice("See its log: network, password, a slot that is gone, or WAL that was removed (restore_command helps).")
                    .detail(format!("replayed: {}", sample.replayed)),
            );
        }
        let severity = view.above("delay", sample.behind, self.warning.as_secs_f64(), self.critical.as_secs_f64());
        verdict.find(
            Finding::new(severity, "delay", format!("replay is {behind} behind"))
                .meaning("Who reads here sees old data, and taking over takes longer.")
                .advice("A long query here may hold replay up (max_standby_streaming_delay), or the disk is too slow."),
        );
        verdict
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paused_alone_and_behind() {
        let monitor = Standby { warning: Duration::from_secs(300), critical: Duration::from_secs(1800) };
        let look = |standby, paused, streaming, behind| {
            let sample = Sample { standby, paused, streaming, expected: true, behind, replayed: "0/1".into() };
            let findings = monitor.verdict(&sample, &mut (), &View::default()).findings;
            findings.into_iter().map(|finding| finding.object).collect::<Vec<_>>()
        };
        assert!(look(false, false, false, 0.0).is_empty());
        assert!(look(true, false, true, 10.0).is_empty());
        assert_eq!(look(true, true, false, 400.0), ["replay", "receiver", "delay"]);
    }
}
