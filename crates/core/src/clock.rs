//! The clock, so that everything that asks for the time can be given another one.

use chrono::{DateTime, SubsecRound, Utc};
use std::sync::Arc;

/// Tells the time.
pub type Clock = Arc<dyn Fn() -> DateTime<Utc> + Send + Sync>;

/// The system's clock, in microseconds: what PostgreSQL can store, so that no copy of a time differs from another.
pub fn system_clock() -> Clock {
    Arc::new(now)
}

/// The time now, in whole microseconds.
pub fn now() -> DateTime<Utc> {
    Utc::now().trunc_subsecs(6)
}
