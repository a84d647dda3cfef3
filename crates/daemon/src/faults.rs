//! Standing still at a fault point of [`pgbosun_core::faults`].

pub use pgbosun_core::faults::{STALL_DELIVERY, STALL_SCHEDULER};

use pgbosun_core::faults::armed;
use std::time::Duration;

/// Stays here for ever where this fault point is armed and its time has come.
pub async fn stall(point: &str, since_start: Duration) {
    if armed(point) && since_start > Duration::from_secs(10) {
        tracing::warn!(point, "fault point: this task stands still from now on");
        std::future::pending::<()>().await;
    }
}
