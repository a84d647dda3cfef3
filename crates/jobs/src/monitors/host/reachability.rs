//! Whether the machines of clusters answer at all. One that does not explains that its servers do not.

use crate::{
    Baseline, JobError,
    monitors::{Monitor, MonitorFacts, MonitorSession, Verdict},
};
use async_trait::async_trait;
use pgbosun_core::{
    config::Needs,
    detail::Detail,
    finding::{Finding, Reach, Severity},
    human,
    metric::Metric,
    options,
};
use std::{io::ErrorKind, time::Duration};
use tokio::net::TcpStream;

options! {
    /// Alerts when a machine does not answer: critical, at the first check. While that alert is open, nothing is reported about
    /// clusters whose connection names this machine.
    pub struct Reachability {
        /// The machines, each with a port on which it answers, if only by refusing: `["db1.example.com:22"]`. The name must be
        /// the one in the clusters' connections.
        hosts: Vec<String>;
        /// How long one attempt may take.
        limit: Duration = "\"3s\"";
        /// How many attempts in a row must fail.
        tries: u8 = "3";
    }
}

/// How a machine answered.
pub enum Answer {
    /// It accepted or refused the connection, after this time.
    There(Duration),
    /// Nothing came back.
    Silent(String),
    /// Its name has no address, or there was no trying.
    Unknown(String),
}

#[async_trait]
impl Monitor for Reachability {
    const FACTS: MonitorFacts = MonitorFacts {
        every: "* * * * *",
        group: "system",
        checks: 1,
        needs: Needs::Options,
        source: "our own: a refused connection is an answer from the machine, silence is not",
        queries: &[],
    };
    type Sample = Vec<(String, Answer)>;
    type Memory = ();

    async fn sample(&self, _: &mut MonitorSession<'_>) -> Result<Self::Sample, JobError> {
        let checks = self.hosts.iter().map(|host| async { (host.clone(), self.ask(host).await) });
        Ok(futures::future::join_all(checks).await)
    }

    fn verdict(&self, sample: &Self::Sample, (): &mut (), _: &Baseline) -> Verdict {
        let there = sample.iter().filter(|(_, answer)| matches!(answer, Answer::There(_))).count();
        let mut verdict = Verdict::of(format!("{there} of {} machines answer", sample.len()));
        for (address, answer) in sample {
            let host = address.rsplit_once(':').map_or(address.as_str(), |(host, _)| host);
            let up = f64::from(u8::from(matches!(answer, Answer::There(_))));
            verdict.measure(Metric::new("host_reachable", up).of("host", host));
            match answer {
                Answer::There(took) => {
                    verdict.measure(Metric::new("host_answer_seconds", took.as_secs_f64()).of("host", host));
                }
                Answer::Silent(reason) => verdict.find(
                    Finding::new(Severity::Critical, host, format!("machine {host} does not answer"))
                        .reaching(Reach::Host)
                        .meaning("Nothing on it can be reached from here: the machine is down, or the network to it.")
                        .advice("Check the machine's console and the network in between.")
                        .detail(
                            Detail::new()
                                .fact("address", address)
                                .fact("tries", format!("{} of {} each", self.tries, human::duration(self.limit)))
                                .fact("error", reason),
                        ),
                ),
                Answer::Unknown(reason) => verdict.find(
                    Finding::new(Severity::Unknown, host, format!("machine {host} cannot be checked"))
                        .meaning("It is unknown whether the machine is up.")
                        .advice("Check the name, and name resolution on this machine.")
                        .detail(Detail::new().fact("address", address).fact("error", reason)),
                ),
            }
        }
        verdict
    }
}

impl Reachability {
    async fn ask(&self, address: &str) -> Answer {
        let mut last = String::new();
        for _ in 0..self.tries.max(1) {
            let begun = tokio::time::Instant::now();
            match tokio::time::timeout(self.limit, TcpStream::connect(address)).await {
                Ok(Ok(_)) => return Answer::There(begun.elapsed()),
                Ok(Err(error)) => match error.kind() {
                    ErrorKind::ConnectionRefused | ErrorKind::ConnectionReset => {
                        return Answer::There(begun.elapsed());
                    }
                    ErrorKind::HostUnreachable | ErrorKind::NetworkUnreachable | ErrorKind::TimedOut => {
                        last = error.to_string();
                    }
                    _ => return Answer::Unknown(error.to_string()),
                },
                Err(_) => last = format!("no answer within {}", human::duration(self.limit)),
            }
        }
        Answer::Silent(last)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn silence_is_down_and_a_name_without_address_is_unknown() {
        let monitor = Reachability { hosts: Vec::new(), limit: Duration::from_secs(3), tries: 3 };
        let sample = vec![
            ("db1:22".into(), Answer::There(Duration::from_millis(1))),
            ("db2:22".into(), Answer::Silent("nothing".into())),
            ("db3:22".into(), Answer::Unknown("no address".into())),
        ];
        let verdict = monitor.verdict(&sample, &mut (), &Baseline::default());
        let found: Vec<_> = verdict.findings.iter().map(|f| (f.object.as_str(), f.severity, f.reach)).collect();
        assert_eq!(found, [("db2", Severity::Critical, Reach::Host), ("db3", Severity::Unknown, Reach::Object)]);
    }
}
