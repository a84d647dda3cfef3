//! Fault points: named places where a test makes the daemon misbehave. All of them are in this list.
//!
//! `PGBOSUN_FAULT=stall-scheduler` arms one. Nothing else reads the variable, and nothing arms one by itself.

use std::{sync::LazyLock, time::Duration};

/// The scheduler stops moving, ten seconds after its start.
pub const STALL_SCHEDULER: &str = "stall-scheduler";
/// The delivery of history stops moving, ten seconds after its start.
pub const STALL_DELIVERY: &str = "stall-delivery";

static ARMED: LazyLock<Option<String>> = LazyLock::new(|| std::env::var("PGBOSUN_FAULT").ok());

/// Stays here for ever where this fault point is armed and its time has come.
pub async fn stall(point: &str, since_start: Duration) {
    if ARMED.as_deref() == Some(point) && since_start > Duration::from_secs(10) {
        tracing::warn!(point, "fault point: this task stands still from now on");
        std::future::pending::<()>().await;
    }
}
