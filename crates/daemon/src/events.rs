//! The events an operator searches the journal for, each with its `MESSAGE_ID` (`journalctl MESSAGE_ID=…`).

/// A run began.
pub const RUN_STARTED: &str = "5d7b1c1f0a5e4a0c9a3e0c6f6a1d2e01";
/// A run did what it should.
pub const RUN_SUCCEEDED: &str = "5d7b1c1f0a5e4a0c9a3e0c6f6a1d2e02";
/// A run did not.
pub const RUN_FAILED: &str = "5d7b1c1f0a5e4a0c9a3e0c6f6a1d2e03";
/// A time of a schedule was skipped or missed.
pub const RUN_NOT_STARTED: &str = "5d7b1c1f0a5e4a0c9a3e0c6f6a1d2e04";
/// An alert opened or got worse.
pub const ALERT_OPENED: &str = "5d7b1c1f0a5e4a0c9a3e0c6f6a1d2e05";
/// An alert is over.
pub const ALERT_RESOLVED: &str = "5d7b1c1f0a5e4a0c9a3e0c6f6a1d2e06";
/// The daemon is ready.
pub const DAEMON_READY: &str = "5d7b1c1f0a5e4a0c9a3e0c6f6a1d2e07";
/// A reload was applied.
pub const RELOADED: &str = "5d7b1c1f0a5e4a0c9a3e0c6f6a1d2e08";
/// A reload was refused; the old configuration stays.
pub const RELOAD_REFUSED: &str = "5d7b1c1f0a5e4a0c9a3e0c6f6a1d2e09";
