//! The daemon: scheduler, runner, delivery, systemd, reload, control socket.
//!
//! Invariants: every task is named, tracked and cancelled at the end; the scheduler's threads never do bulk work; the
//! watchdog is fed only while scheduler, runner and both deliveries move; a reload is one step or none.

mod alarm;
pub mod api;
mod beats;
mod control;
mod daemon;
mod engine;
mod error;
mod events;
mod faults;
mod history;
mod outbox;
mod reload;
mod rows;
mod runner;
mod schedule;
mod scheduler;
mod starts;
mod status;
mod systemd;
pub mod wal;

pub use daemon::run;
pub use engine::{Engine, frame, instance_name};
pub use error::{Error, chain};
pub use history::open as open_history;
pub use outbox::{channel, send_due};
pub use rows::new_run;
pub use runner::execute;
pub use schedule::{Upcoming, upcoming};
pub use status::assemble as assemble_status;
