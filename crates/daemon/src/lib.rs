//! The daemon: scheduler, runner, delivery, systemd, reload, control socket.
//!
//! Invariants: every task is named, tracked and cancelled at the end; the scheduler's threads never do bulk work; the
//! watchdog is fed only while scheduler, runner and both deliveries move; a reload is one step or none.

pub mod accepted;
mod again;
mod alarm;
pub mod alert_test;
mod alerts;
mod alive;
mod configuration;
mod daemon;
mod engine;
mod error;
mod events;
mod faults;
#[cfg(any(test, fuzzing))]
pub mod fuzz;
mod hearing;
mod heartbeats;
mod history;
mod holdings;
mod http;
mod latest_metrics;
mod metrics;
mod outbox;
mod reads;
mod reload;
mod reports;
mod rows;
mod runner;
mod schedule;
mod scheduler;
mod slots;
mod starts;
mod status;
mod systemd;
pub mod wal;

pub use alerts::{acknowledge, list as list_alerts, resolve, silence, unsilence};
pub use configuration::{load, load_without_secrets, reference};
pub use daemon::{record_interrupted, run};
pub use engine::Engine;
pub use error::{Error, chain};
pub use hearing::{By, Hearing, operators, told_by_mail};
pub use history::{open as open_history, server as history_server};
pub use holdings::{Holding, last_seen, list_catalogues};
pub use http::api;
pub use latest_metrics::{JobMetrics, LatestMetrics};
pub use metrics::{BackupSummary, Summary, summary, text as metrics_text};
pub use outbox::{channel, send_due};
pub use reports::make as report;
pub use rows::new_run;
pub use runner::execute;
pub use schedule::{Upcoming, upcoming};
pub use status::{assemble as assemble_status, jobs as list_jobs, last_restore_test};
