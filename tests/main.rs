//! Integration tests: the program as it is built, on real PostgreSQL, systemd and SMTP. One module per feature.
//!
//! `make test` prepares what they need; see `support`.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on says so by panicking")]

mod alerts;
mod backup;
mod configuration;
mod crashes;
mod delivery;
mod faults;
mod imports;
mod monitors;
mod network;
mod recovery;
mod scheduling;
mod stores;
mod support;
mod systemd;
mod wal;
