//! Integration tests: the program as it is built, on real PostgreSQL, systemd and SMTP. One module per feature.
//!
//! `make test` prepares what they need; see `support`.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on says so by panicking")]

mod alerts;
mod audit;
mod backup;
mod bare;
mod before;
mod by_hand;
mod certificates;
mod chains;
mod channels;
mod cloned;
mod command;
mod config_files;
mod configuration;
mod confined;
mod copies;
mod crashes;
mod day;
mod delivery;
mod demo;
mod encodings;
mod endings;
mod errors;
mod faults;
mod files_alone;
mod gaps;
mod hostile;
mod hour;
mod imports;
mod in_place;
mod journal;
mod links;
mod living;
mod loading;
mod logs;
mod maintenance;
mod metrics;
mod monitors;
mod names;
mod network;
mod outputs;
mod planted;
mod poolers;
mod readers;
mod recovery;
mod reports;
mod samples;
mod scheduling;
mod shares;
mod signatures;
mod standby;
mod standing;
mod stores;
mod subscribers;
mod support;
mod systemd;
mod tables;
mod timelines;
mod trust;
mod wal;
mod walk;
mod weekend;
