//! systemd: readiness, status, watchdog, stop. Outside a unit all of it does nothing.

use crate::{
    engine::Engine,
    heartbeats::{Heartbeats, Observer},
    schedule::upcoming,
};
use chrono::Duration;
use pgbosun_core::human;
use sd_notify::NotifyState;
use std::{sync::Arc, time::Duration as StdDuration};

/// How often the status line is updated.
const STATUS: StdDuration = StdDuration::from_secs(5);
/// The shortest interval of pings in which every part beats for sure.
const SHORTEST: StdDuration = StdDuration::from_secs(6);

fn tell(states: &[NotifyState<'_>]) {
    if let Err(error) = sd_notify::notify(states) {
        tracing::warn!("systemd cannot be notified: {error}");
    }
}

/// Configuration, journal, scheduler and control socket stand.
pub(crate) fn ready(status: &str) {
    tell(&[NotifyState::Ready, NotifyState::Status(status)]);
}

/// A reload begins; [`ready`] ends it, also where it was refused.
pub(crate) fn reloading() {
    match NotifyState::monotonic_usec_now() {
        Ok(now) => tell(&[NotifyState::Reloading, now]),
        Err(error) => tracing::warn!("the monotonic clock cannot be read: {error}"),
    }
}

/// The daemon stops.
pub(crate) fn stopping() {
    tell(&[NotifyState::Stopping, NotifyState::Status("stopping")]);
}

/// Jobs are winding down: systemd shall wait so much longer.
pub(crate) fn extend(by: StdDuration) {
    tell(&[NotifyState::ExtendTimeoutUsec(u32::try_from(by.as_micros()).unwrap_or(u32::MAX))]);
}

/// What runs, and what comes next, in one line.
pub(crate) fn status_line(engine: &Engine) -> String {
    let now = engine.now();
    let config = engine.config();
    let mut running: Vec<_> =
        engine.live().iter().map(|(job, live)| format!("{job} ({})", human::span(now - live.since))).collect();
    running.sort();
    let running = if running.is_empty() { "idle".to_owned() } else { format!("running {}", running.join(", ")) };
    let next = upcoming(&config, now, now + Duration::days(31), 1).into_iter().next();
    let next = next.map_or_else(
        || "nothing is scheduled".to_owned(),
        |next| {
            format!("next {} at {}", next.job, next.at.with_timezone(&config.daemon.time_zone).format("%a %H:%M:%S %Z"))
        },
    );
    let history = if engine.history_trouble.borrow().is_some() { "; history has not been delivered" } else { "" };
    format!("{running}; {next}{history}")
}

/// Tells systemd the status when it changes, and feeds the watchdog while every part moves.
pub(crate) async fn run(engine: Arc<Engine>) {
    let watchdog = sd_notify::watchdog_enabled().map(|limit| limit / 2);
    if watchdog.is_some_and(|interval| interval < SHORTEST) {
        tracing::warn!(
            "WatchdogSec is below {} s: parts that report every 5 s will look stalled",
            2 * SHORTEST.as_secs()
        );
    }
    let mut told = String::new();
    let mut fed = std::time::Instant::now();
    let mut observer = Observer::default();
    loop {
        let line = status_line(&engine);
        if line != told {
            tell(&[NotifyState::Status(&line)]);
            told = line;
        }
        if watchdog.is_some_and(|interval| fed.elapsed() >= interval) {
            feed(&mut observer, &engine.heartbeats);
            fed = std::time::Instant::now();
        }
        let until_feed = watchdog.map_or(STATUS, |interval| interval.saturating_sub(fed.elapsed()));
        tokio::select! {
            () = tokio::time::sleep(until_feed.min(STATUS)) => {}
            () = engine.stop.cancelled() => return,
        }
    }
}

fn feed(observer: &mut Observer, heartbeats: &Heartbeats) {
    let silent = observer.silent(heartbeats);
    if silent.is_empty() {
        tell(&[NotifyState::Watchdog]);
    } else {
        tracing::error!(?silent, "watchdog not fed: these parts made no progress since the last ping");
    }
}
