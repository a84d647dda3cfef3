//! Channels that do not deliver are an alert of their own, told by the others.

use crate::{alerts, engine::Engine, error::Error};
use chrono::{DateTime, Duration, Utc};
use pgbosun_core::{
    alert::DELIVERY,
    detail::Detail,
    finding::{Finding, Severity},
    human,
};
use pgbosun_history::Backlog;
use pgbosun_notify::{MAIL, Observation};

/// How often the channels are checked.
const EVERY: Duration = Duration::seconds(20);
/// For so long a message that was given up is worth an alert.
const MEMORY: Duration = Duration::days(1);

/// Looks at the channels now and then.
#[derive(Default)]
pub(super) struct Watch(Option<DateTime<Utc>>);

impl Watch {
    pub async fn check(&mut self, engine: &Engine) -> Result<(), Error> {
        let now = engine.now();
        if self.0.is_some_and(|last| now - last < EVERY && now >= last) {
            return Ok(());
        }
        self.0 = Some(now);
        let patience = Duration::from_std(engine.config().daemon.fail_safe_after).unwrap_or(Duration::MAX);
        let backlog = engine.journal.backlog(now - MEMORY).await?;
        // What was to leave by a channel that is configured no more is no failure of one.
        let config = engine.config();
        let backlog =
            backlog.into_iter().filter(|one| one.channel == MAIL || config.channels.contains_key(&one.channel));
        let backlog: Vec<_> = backlog.collect();
        let findings: Vec<_> = backlog.iter().filter_map(|backlog| finding(backlog, patience, now)).collect();
        // Most of the time nothing is wrong, and nothing was: then nothing is written.
        if !findings.is_empty() || !engine.journal.open_alerts(Some(DELIVERY)).await?.is_empty() {
            alerts::own(engine, DELIVERY, Observation::Complete(findings)).await?;
        }
        Ok(())
    }
}

fn finding(backlog: &Backlog, patience: Duration, now: DateTime<Utc>) -> Option<Finding> {
    let channel = &backlog.channel;
    let stuck = backlog.since.filter(|since| backlog.failing > 0 && now - *since >= patience);
    let summary = match (stuck, backlog.dead) {
        (Some(since), _) => {
            let waited = human::span(now - since);
            format!("{} by {channel} not delivered, for up to {waited}", human::count(backlog.failing, "message"))
        }
        (None, 0) => return None,
        (None, dead) => format!("{} by {channel} given up", human::count(dead, "message")),
    };
    let reason = backlog.last_error.as_deref().unwrap_or("unknown");
    Some(
        Finding::new(Severity::Critical, channel, summary)
            .meaning("People who can be reached only through this channel receive no alerts.")
            .advice(
                "Fix the cause named below, then try it with \"pgbosun alert test\". \"pgbosun alert list\" shows what they \
                 missed.",
            )
            .detail(
                Detail::new()
                    .fact("channel", channel)
                    .fact("given up since yesterday", backlog.dead)
                    .fact("error", reason),
            ),
    )
}
