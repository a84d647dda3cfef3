//! The vocabulary of pgbosun: configuration, schedules, findings, alerts, runs, WAL positions.
//!
//! Invariants: no I/O but reading configuration, and what the kernel says of this process; imports nothing else of pgbosun; schedules and positions are
//! pure functions of their arguments.

pub mod alert;
pub mod clock;
pub mod config;
pub mod detail;
pub mod family;
pub mod faults;
pub mod finding;
#[cfg(any(test, fuzzing))]
pub mod fuzz;
pub mod human;
pub mod lineage;
pub mod lsn;
pub mod maintenance;
pub mod metric;
pub mod mounts;
pub mod name;
pub mod outcome;
pub mod publish;
pub mod report;
pub mod run;
pub mod sample;
pub mod schedule;
pub mod unit;
pub mod wal;
mod words;
