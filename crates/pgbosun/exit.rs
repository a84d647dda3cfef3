//! Exit codes: one table, documented in `docs/exit-codes.md`.

use pgbosun_daemon::chain;

/// Wrong usage (sysexits(3), EX_USAGE).
pub const USAGE: u8 = 64;
/// Wrong configuration, or a journal that another start does not repair (sysexits(3), EX_CONFIG).
pub const CONFIGURATION: u8 = 78;
/// A backup is damaged, or not everything in it could be restored.
pub const DAMAGED: u8 = 2;
/// Somebody stopped waiting: what a shell shows of a program that SIGINT ended.
pub const STOPPED: u8 = 130;
/// Whatever else failed.
pub const FAILURE: u8 = 1;

/// An error with an exit code of its own.
#[derive(Debug, thiserror::Error)]
#[error("{message}")]
pub struct Exit {
    /// The code.
    pub code: u8,
    /// What a person reads.
    pub message: String,
}

impl Exit {
    /// A refusal: what cannot be done, and what would work.
    pub fn refused(message: impl Into<String>) -> anyhow::Error {
        Self { code: FAILURE, message: message.into() }.into()
    }

    /// A wrong use of the command.
    pub fn usage(message: impl Into<String>) -> anyhow::Error {
        Self { code: USAGE, message: message.into() }.into()
    }
}

/// The code an error ends the program with.
pub fn code_of(error: &anyhow::Error) -> u8 {
    if let Some(exit) = error.downcast_ref::<Exit>() {
        return exit.code;
    }
    let journal = match error.downcast_ref::<pgbosun_daemon::Error>() {
        Some(pgbosun_daemon::Error::Configuration(_)) => return CONFIGURATION,
        Some(pgbosun_daemon::Error::History(error)) => Some(error),
        _ => error.downcast_ref(),
    };
    // The unit starts it again after anything else (RestartPreventExitStatus).
    if journal.is_some_and(pgbosun_history::Error::is_final) { CONFIGURATION } else { FAILURE }
}

/// An error with its causes in one line.
pub fn describe(error: &anyhow::Error) -> String {
    chain(error.as_ref())
}
