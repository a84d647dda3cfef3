//! How long processes wait for processor, memory and disks: pressure stall information, where the kernel has it.

use crate::{
    Baseline, JobError,
    monitors::{Monitor, MonitorFacts, MonitorSession, Verdict},
};
use async_trait::async_trait;
use pgbosun_core::{config::Needs, finding::Finding, metric::Metric, options};
use procfs::{CpuPressure, Current, IoPressure, MemoryPressure};

options! {
    /// Alerts when processes wait long for memory or disks, as measured by the kernel over five minutes. Quiet if the kernel
    /// does not measure it.
    pub struct Pressure {
        /// Warns when something waited for disks this share of the time, percent.
        warning_io_percent: f64 = "60.0";
        /// Critical at this share, percent.
        critical_io_percent: f64 = "90.0";
        /// Warns when something waited for memory this share of the time, percent.
        warning_memory_percent: f64 = "10.0";
        /// Critical at this share, percent.
        critical_memory_percent: f64 = "40.0";
    }
}

/// Shares of the last five minutes in which something waited, percent.
pub struct Sample {
    cpu: f64,
    memory: f64,
    io: f64,
}

#[async_trait]
impl Monitor for Pressure {
    const FACTS: MonitorFacts = MonitorFacts {
        every: "*/5 * * * *",
        group: "system",
        checks: 2,
        needs: Needs::Host,
        source: "Linux: Documentation/accounting/psi",
        queries: &[],
    };
    type Sample = Option<Sample>;
    type Memory = ();

    async fn sample(&self, _: &mut MonitorSession<'_>) -> Result<Self::Sample, JobError> {
        super::blocking("measure pressure", || {
            let (cpu, memory, io) = (CpuPressure::current(), MemoryPressure::current(), IoPressure::current());
            let (Ok(cpu), Ok(memory), Ok(io)) = (cpu, memory, io) else { return Ok(None) };
            let (cpu, memory, io) = (cpu.some.avg300, memory.some.avg300, io.some.avg300);
            Ok(Some(Sample { cpu: cpu.into(), memory: memory.into(), io: io.into() }))
        })
        .await
    }

    fn verdict(&self, sample: &Self::Sample, (): &mut (), baseline: &Baseline) -> Verdict {
        let Some(Sample { cpu, memory, io }) = sample else { return Verdict::of("the kernel does not measure it") };
        let mut verdict =
            Verdict::of(format!("waited for processors {cpu:.0} %, memory {memory:.0} %, disks {io:.0} % of the time"));
        let resources = [
            (
                "io",
                *io,
                self.warning_io_percent,
                self.critical_io_percent,
                "disks",
                "iostat -x and pg_stat_io show what is read and written; checkpoints, vacuum and backups can be slowed down.",
            ),
            (
                "memory",
                *memory,
                self.warning_memory_percent,
                self.critical_memory_percent,
                "memory",
                "The machine reclaims and swaps: less work_mem, fewer sessions, or more memory.",
            ),
        ];
        verdict.measure(Metric::new("host_pressure_percent", *cpu).of("resource", "cpu"));
        for (object, value, warning, critical, what, advice) in resources {
            verdict.measure(Metric::new("host_pressure_percent", value).of("resource", object));
            let severity = baseline.above(object, value, warning, critical);
            verdict.find(
                Finding::new(
                    severity,
                    object,
                    format!("processes waited for {what} {value:.1} % of the last five minutes"),
                )
                .meaning("Queries take that much longer, however idle the processors are.")
                .advice(advice),
            );
        }
        verdict
    }
}
