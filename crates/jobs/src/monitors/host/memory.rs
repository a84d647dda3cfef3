//! How much memory is left (reference 000: warning above 85 %, with the top processes).

use super::processes;
use crate::{
    Baseline, JobError,
    monitors::{Monitor, MonitorFacts, MonitorSession, Verdict},
};
use async_trait::async_trait;
use pgbosun_core::{config::Needs, detail::Detail, finding::Finding, human, metric::Metric, options};
use procfs::{Current, Meminfo};

options! {
    /// Alerts when memory runs out. Memory that the system could give back, such as file cache, does not count as used.
    pub struct Memory {
        /// Warns above this share in use, percent.
        warning_percent: f64 = "85.0";
        /// Critical above this share, percent.
        critical_percent: f64 = "95.0";
        /// Warns above this share of swap in use, percent.
        warning_swap_percent: f64 = "50.0";
        /// Critical above this share of swap, percent.
        critical_swap_percent: f64 = "90.0";
    }
}

/// Bytes.
pub struct Sample {
    total: u64,
    available: u64,
    swap: u64,
    swap_free: u64,
    largest: String,
}

#[async_trait]
impl Monitor for Memory {
    const FACTS: MonitorFacts = MonitorFacts {
        every: "*/5 * * * *",
        group: "system",
        checks: 2,
        needs: Needs::Host,
        source: "reference 000, memory monitor: 85 %",
        queries: &[],
    };
    type Sample = Sample;
    type Memory = ();

    async fn sample(&self, _: &mut MonitorSession<'_>) -> Result<Sample, JobError> {
        super::blocking("measure memory", || {
            let info = Meminfo::current()?;
            let available = info.mem_available.unwrap_or(info.mem_free + info.cached);
            let (total, swap, swap_free) = (info.mem_total, info.swap_total, info.swap_free);
            Ok(Sample { total, available, swap, swap_free, largest: processes::largest() })
        })
        .await
    }

    fn verdict(&self, sample: &Sample, (): &mut (), baseline: &Baseline) -> Verdict {
        let share =
            |free: u64, all: u64| if all == 0 { 0.0 } else { 100.0 * (all - free.min(all)) as f64 / all as f64 };
        let used = share(sample.available, sample.total);
        let swapped = share(sample.swap_free, sample.swap);
        let left = human::size(sample.available);
        let mut verdict = Verdict::of(format!("{used:.0} % of memory in use, {left} left; {swapped:.0} % of swap"));
        verdict.measure(Metric::new("host_memory_available_bytes", sample.available as f64));
        verdict.measure(Metric::new("host_memory_bytes", sample.total as f64));
        verdict.measure(Metric::new("host_swap_used_percent", swapped));
        let detail = Detail::new()
            .fact("memory", format!("{}, {left} left", human::size(sample.total)))
            .fact("swap", human::size(sample.swap))
            .text(&sample.largest);
        let severity = baseline.above("memory", used, self.warning_percent, self.critical_percent);
        verdict.find(
            Finding::new(severity, "memory", format!("{used:.0} % of memory is in use, {left} left"))
                .meaning("When none is left, the kernel kills a process; if that is one of PostgreSQL's, all sessions end.")
                .advice("See below who holds it; work_mem times sessions is often the answer. vm.overcommit_memory = 2 protects PostgreSQL.")
                .detail(detail.clone()),
        );
        let severity = baseline.above("swap", swapped, self.warning_swap_percent, self.critical_swap_percent);
        verdict.find(
            Finding::new(severity, "swap", format!("{swapped:.0} % of swap is in use"))
                .meaning("Whatever needs memory that was swapped out has to wait for it.")
                .advice("See below who holds memory; vm.swappiness = 1 suits a database server.")
                .detail(detail),
        );
        verdict
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use pgbosun_core::finding::Severity;

    #[test]
    fn what_could_be_given_back_is_not_used() {
        let monitor = Memory {
            warning_percent: 85.0,
            critical_percent: 95.0,
            warning_swap_percent: 50.0,
            critical_swap_percent: 90.0,
        };
        let check = |available, swap_free| {
            let sample = Sample { total: 100, available, swap: 10, swap_free, largest: String::new() };
            let findings = monitor.verdict(&sample, &mut (), &Baseline::default()).findings;
            findings.into_iter().map(|finding| (finding.object, finding.severity)).collect::<Vec<_>>()
        };
        assert!(check(15, 10).is_empty());
        assert_eq!(check(14, 4), [("memory".into(), Severity::Warning), ("swap".into(), Severity::Warning)]);
        assert_eq!(check(4, 10), [("memory".into(), Severity::Critical)]);
    }
}
