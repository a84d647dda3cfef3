//! The time, in one resolution everywhere.

use crate::faults;
use chrono::{DateTime, SubsecRound, Utc};

/// The time now, in whole microseconds: what PostgreSQL can store, so that no copy of a time differs from another.
pub fn now() -> DateTime<Utc> {
    (Utc::now() + faults::ahead()).trunc_subsecs(6)
}
