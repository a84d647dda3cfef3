//! Whether the machine's clock is right (check_postgres: timesync): by systemd's word, and by a time server where one is named.

use crate::{
    Baseline, JobError,
    monitors::{Monitor, MonitorFacts, MonitorSession, Verdict},
};
use async_trait::async_trait;
use pgbosun_core::{
    config::Needs,
    finding::{Finding, Severity},
    metric::Metric,
    options,
};
use std::time::{Duration, SystemTime, UNIX_EPOCH};
use tokio::{net::UdpSocket, process::Command, time::timeout};

options! {
    /// Alerts when the clock of this machine is not synchronized, or is off by too much compared with a time server.
    pub struct Clock {
        /// A time server (NTP) to compare with, such as `pool.ntp.org` or `ntp.example.com:123`.
        server: Option<String>;
        /// Warns when the clock is off by more than this.
        warning: Duration = "\"500ms\"";
        /// Critical when it is off by more than this.
        critical: Duration = "\"30s\"";
    }
}

pub struct Sample {
    /// What systemd says, where it says anything.
    synchronized: Option<bool>,
    /// The server's clock less ours, seconds.
    offset: Option<f64>,
}

#[async_trait]
impl Monitor for Clock {
    const FACTS: MonitorFacts = MonitorFacts {
        every: "29 * * * *",
        group: "system",
        checks: 2,
        needs: Needs::Host,
        source: "check_postgres timesync; RFC 4330 (SNTP)",
        queries: &[],
    };
    type Sample = Sample;
    type Memory = ();

    async fn sample(&self, _: &mut MonitorSession<'_>) -> Result<Sample, JobError> {
        let offset =
            match &self.server {
                Some(server) => Some(offset(server).await.map_err(|error| {
                    JobError::passing(format!("time server {server} does not answer")).because(error)
                })?),
                None => None,
            };
        Ok(Sample { synchronized: synchronized().await, offset })
    }

    fn verdict(&self, sample: &Sample, (): &mut (), baseline: &Baseline) -> Verdict {
        let mut verdict = Verdict::of(match (sample.synchronized, sample.offset) {
            (_, Some(offset)) => format!("off by {offset:+.3} s"),
            (Some(true), None) => "synchronized".into(),
            (Some(false), None) => "not synchronized".into(),
            (None, None) => "nothing on this machine reports whether it is synchronized".into(),
        });
        let finding = |severity, object: &str, summary: String| {
            Finding::new(severity, object, summary)
                .meaning("Times in logs, backups and recovery targets are wrong, and so are certificates and tickets.")
                .advice("Look at the time service: \"timedatectl\", \"chronyc tracking\".")
        };
        if sample.synchronized == Some(false) {
            verdict.find(finding(Severity::Warning, "synchronization", "the clock is not synchronized".into()));
        }
        if let Some(offset) = sample.offset {
            verdict.measure(Metric::new("host_clock_offset_seconds", offset));
            let severity =
                baseline.above("offset", offset.abs(), self.warning.as_secs_f64(), self.critical.as_secs_f64());
            verdict.find(finding(severity, "offset", format!("the clock is off by {offset:+.3} s")));
        }
        verdict
    }
}

/// Whether the clock is kept by a time service; `None` where there is no systemd to ask.
pub(crate) async fn synchronized() -> Option<bool> {
    let asked =
        Command::new("timedatectl").args(["show", "--property=NTPSynchronized", "--value"]).kill_on_drop(true).output();
    let said = timeout(Duration::from_secs(5), asked).await.ok()?.ok()?;
    match String::from_utf8_lossy(&said.stdout).trim() {
        "yes" => Some(true),
        "no" => Some(false),
        _ => None,
    }
}

/// Seconds from 1900, where NTP begins, to 1970.
const EPOCH: f64 = 2_208_988_800.0;

/// Asks a time server once, and takes half of the way there and back off.
async fn offset(server: &str) -> std::io::Result<f64> {
    let target = if server.contains(':') { server.to_owned() } else { format!("{server}:123") };
    let now = || SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs_f64() + EPOCH;
    let socket = UdpSocket::bind(("::", 0)).await;
    let socket = match socket {
        Ok(socket) => socket,
        Err(_) => UdpSocket::bind(("0.0.0.0", 0)).await?,
    };
    let ask = async {
        socket.connect(&target).await?;
        // Version 4, client; everything else is left to the server.
        let mut packet = [0_u8; 48];
        packet[0] = 0x23;
        let sent = now();
        socket.send(&packet).await?;
        let length = socket.recv(&mut packet).await?;
        let received = now();
        // Mode 4 is an answer of a server; stratum 0 is a refusal, 16 a server that knows no time itself.
        if length < 48 || packet[0] & 7 != 4 || packet[1] == 0 || packet[1] >= 16 {
            return Err(std::io::Error::other("it refused, or has no valid time itself"));
        }
        Ok((stamp(&packet[32..40]) - sent + stamp(&packet[40..48]) - received) / 2.0)
    };
    timeout(Duration::from_secs(5), ask).await.map_err(|_| std::io::ErrorKind::TimedOut)?
}

/// A time of NTP: seconds since 1900 and their fraction.
fn stamp(bytes: &[u8]) -> f64 {
    let word = |bytes: &[u8]| bytes.iter().fold(0_u64, |word, byte| word << 8 | u64::from(*byte)) as f64;
    word(&bytes[..4]) + word(&bytes[4..8]) / 4_294_967_296.0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_server_that_is_ahead() {
        let server = UdpSocket::bind(("127.0.0.1", 0)).await.unwrap();
        let address = server.local_addr().unwrap().to_string();
        let answering = tokio::spawn(async move {
            let mut packet = [0_u8; 48];
            let (_, client) = server.recv_from(&mut packet).await.unwrap();
            let ahead = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs() + 2_208_988_800 + 60;
            (packet[0], packet[1]) = (0x24, 2);
            for at in [32, 40] {
                packet[at..at + 4].copy_from_slice(&u32::try_from(ahead).unwrap().to_be_bytes());
            }
            server.send_to(&packet, client).await.unwrap();
        });
        let offset = offset(&address).await.unwrap();
        answering.await.unwrap();
        assert!((58.5..61.0).contains(&offset), "{offset}");
        let monitor = Clock { server: None, warning: Duration::from_secs(1), critical: Duration::from_secs(30) };
        let judge = |offset| {
            let sample = Sample { synchronized: None, offset: Some(offset) };
            monitor.verdict(&sample, &mut (), &Baseline::default()).findings.first().map(|finding| finding.severity)
        };
        assert_eq!([judge(offset), judge(-2.0), judge(0.5)], [Some(Severity::Critical), Some(Severity::Warning), None]);
    }
}
