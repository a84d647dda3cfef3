//! How busy the processors are (reference 000: warning above 80 %, sustained over the sample, with the top processes).

use super::processes;
use crate::{
    Baseline, JobError,
    monitors::{Monitor, MonitorFacts, MonitorSession, Verdict},
};
use async_trait::async_trait;
use pgbosun_core::{config::Needs, detail::Detail, finding::Finding, human, metric::Metric, options};
use procfs::{Current, CurrentSI, KernelStats, LoadAverage, ProcResult};
use std::time::Duration;

options! {
    /// Alerts when the processors are busy over the whole sample, or more processes want to run than they can handle, and names
    /// the processes that use the most.
    pub struct Cpu {
        /// How long it measures, so that a single spike does not count.
        sample: Duration = "\"20s\"";
        /// Warns above this share, percent.
        warning_percent: f64 = "80.0";
        /// Critical above this share, percent.
        critical_percent: f64 = "95.0";
        /// Warns when the five-minute load average per processor is above this.
        warning_load: f64 = "4.0";
        /// Critical above this.
        critical_load: f64 = "10.0";
    }
}

/// Shares in percent of all processors, and the load of five minutes a processor.
pub struct Sample {
    busy: f64,
    waiting: f64,
    stolen: f64,
    load: f64,
    busiest: String,
}

/// Ticks so far: working, waiting for disks, taken by the hypervisor, all.
fn ticks() -> ProcResult<[u64; 4]> {
    let total = KernelStats::current()?.total;
    let (waiting, stolen) = (total.iowait.unwrap_or_default(), total.steal.unwrap_or_default());
    let interrupts = total.irq.unwrap_or_default() + total.softirq.unwrap_or_default();
    let working = total.user + total.nice + total.system + interrupts;
    Ok([working, waiting, stolen, working + waiting + stolen + total.idle])
}

#[async_trait]
impl Monitor for Cpu {
    const FACTS: MonitorFacts = MonitorFacts {
        every: "*/5 * * * *",
        group: "system",
        checks: 1,
        needs: Needs::Host,
        source: "reference 000, cpu monitor: 80 %",
        queries: &[],
    };
    type Sample = Sample;
    type Memory = ();

    async fn sample(&self, _: &mut MonitorSession<'_>) -> Result<Sample, JobError> {
        let what = "measure the processors";
        let before = super::blocking(what, || Ok((ticks()?, processes::times()))).await?;
        tokio::time::sleep(self.sample).await;
        let seconds = self.sample.as_secs_f64().max(0.01);
        super::blocking(what, move || {
            let (after, times) = (ticks()?, processes::times());
            let grown: Vec<_> =
                after.iter().zip(before.0).map(|(after, before)| after.saturating_sub(before) as f64).collect();
            let share = |part: f64| 100.0 * part / grown[3].max(1.0);
            let load = LoadAverage::current()?.five;
            let processors = std::thread::available_parallelism().map_or(1, usize::from);
            Ok(Sample {
                busy: share(grown[0] + grown[2]),
                waiting: share(grown[1]),
                stolen: share(grown[2]),
                load: f64::from(load) / processors as f64,
                busiest: processes::busiest(&before.1, &times, seconds),
            })
        })
        .await
    }

    fn verdict(&self, sample: &Sample, (): &mut (), baseline: &Baseline) -> Verdict {
        let Sample { busy, waiting, stolen, load, busiest } = sample;
        let over = human::duration(self.sample);
        let mut verdict = Verdict::of(format!("{busy:.0} % busy over {over}, load {load:.1} per processor"));
        verdict.measure(Metric::new("host_cpu_busy_percent", *busy));
        verdict.measure(Metric::new("host_cpu_waiting_percent", *waiting));
        verdict.measure(Metric::new("host_load_per_processor", *load));
        let detail = Detail::new()
            .fact("waiting for disks", format!("{waiting:.0} %"))
            .fact("steal (taken by the hypervisor)", format!("{stolen:.0} %"))
            .fact("load", format!("{load:.1} per processor"))
            .text(busiest);
        let severity = baseline.above("cpu", *busy, self.warning_percent, self.critical_percent);
        verdict.find(
            Finding::new(severity, "cpu", format!("processors are {busy:.0} % busy over {over}"))
                .meaning("Everything takes longer, and a little more load makes it much longer.")
                .advice("See below what uses it; for a PostgreSQL session, pg_stat_activity shows the query.")
                .detail(detail.clone()),
        );
        let severity = baseline.above("load", *load, self.warning_load, self.critical_load);
        verdict.find(
            Finding::new(severity, "load", format!("the load is {load:.1} per processor"))
                .meaning("Processes wait for their turn, or for disks that do not keep up.")
                .advice("If the processors are idle, it is the disks: see monitor.pressure and iostat -x.")
                .detail(detail),
        );
        verdict
    }
}
