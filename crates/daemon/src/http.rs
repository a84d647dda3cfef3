//! HTTP in the daemon: who listens, what is asked for, and in which form it is told.
//!
//! Invariants: a handler asks the functions that the command asks, so that both say the same; whoever connects and says nothing costs a
//! bounded amount ([`connections`]).

pub mod api;
pub(crate) mod connections;
pub(crate) mod control;
pub(crate) mod scrape;
