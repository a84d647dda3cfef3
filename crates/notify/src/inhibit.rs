//! What keeps an alert from being told at this moment: somebody asked for silence, or another alert explains it.
//!
//! What an outage explains stays explained for a while after it, so that checks can find that they work again: it is told when
//! it is seen again, or the while is over.
//!
//! Invariants: an alert is muted only by one that reaches further, so none mutes itself and no two mute each other; that an
//! alert is over is told whatever is muted.

use crate::dispatch::Hosts;
use chrono::{DateTime, Duration, Utc};
use pgbosun_core::{
    alert::{Alert, AlertState, Silence},
    config::Config,
    finding::Reach,
};

/// How long after an outage what it explained may take to be seen again.
const AFTER: Duration = Duration::minutes(10);

/// What decides about silence.
#[derive(Clone, Copy, Debug)]
pub struct InhibitionContext<'a> {
    /// The configuration in force.
    pub config: &'a Config,
    /// The machines of each cluster.
    pub hosts: &'a Hosts,
    /// Every unresolved alert, and what was down lately.
    pub alerts: &'a [Alert],
    /// The silences in force.
    pub silences: &'a [Silence],
    /// The time.
    pub now: DateTime<Utc>,
}

impl InhibitionContext<'_> {
    /// Why an alert is not told at this moment, where it is not.
    pub fn inhibited_by(&self, alert: &Alert) -> Option<String> {
        let zone = self.config.daemon.time_zone;
        let silence =
            self.silences.iter().find(|silence| silence.is_active(self.now) && silence.matcher.matches(alert));
        if let Some(silence) = silence {
            let until = silence.until.with_timezone(&zone).format("%Y-%m-%d %H:%M %Z");
            return Some(format!("silenced until {until} by {}: {}", silence.created_by, silence.reason));
        }
        let cause = self.alerts.iter().find(|cause| self.explains(cause, alert))?;
        let place = cause.cluster.as_deref().unwrap_or_else(|| cause.object());
        Some(format!("explained by {place}: {}", cause.summary))
    }

    /// Whether what one alert tells is the reason of another.
    fn explains(&self, cause: &Alert, alert: &Alert) -> bool {
        let down = match (cause.state, cause.resolved_at) {
            (AlertState::Open | AlertState::Acknowledged, _) => true,
            (_, Some(over)) => self.now - over < AFTER && alert.seen_at <= over,
            _ => false,
        };
        let needs_server = || self.config.jobs.get(&alert.job).is_some_and(|job| job.needs.server());
        let on_host = |cluster: &String| {
            self.hosts.get(cluster).is_some_and(|hosts| hosts.iter().any(|host| host == cause.object()))
        };
        down && cause.reach > alert.reach
            && match cause.reach {
                Reach::Object => false,
                Reach::Cluster => cause.cluster == alert.cluster && cause.cluster.is_some() && needs_server(),
                Reach::Host => alert.cluster.as_ref().is_some_and(on_host) && needs_server(),
            }
    }
}
