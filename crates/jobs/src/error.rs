//! How a run fails, and whether it is worth another try.
//!
//! Invariant: an error keeps its source, and the first error decides whether it is transient, never its wording.

use pgbosun_repository::may_pass;

/// How a run failed.
#[derive(Debug, thiserror::Error)]
#[error("{message}")]
pub struct JobError {
    message: String,
    cause: Cause,
    #[source]
    source: Option<Box<dyn std::error::Error + Send + Sync>>,
    output: String,
}

/// What a failure is due to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Cause {
    /// Trying again does not cure it.
    Lasting,
    /// It may pass.
    Passing,
    /// The server did not come to the end in time, which may pass.
    Slow,
    /// The server is away, which may pass too.
    Unreachable,
    /// The role may not do this.
    Refused,
}

impl JobError {
    fn new(message: impl Into<String>, cause: Cause) -> Self {
        Self { message: message.into(), cause, source: None, output: String::new() }
    }

    /// A failure that trying again does not cure.
    pub fn lasting(message: impl Into<String>) -> Self {
        Self::new(message, Cause::Lasting)
    }

    /// A failure that may pass.
    pub fn passing(message: impl Into<String>) -> Self {
        Self::new(message, Cause::Passing)
    }

    /// The server is away.
    pub fn unreachable(message: impl Into<String>) -> Self {
        Self::new(message, Cause::Unreachable)
    }

    /// What it comes from. An error of the operating system that may pass makes the failure one that may.
    #[must_use]
    pub fn because(self, source: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> Self {
        let source = source.into();
        let cause = match (self.cause, source.downcast_ref()) {
            (Cause::Lasting, Some(error)) if may_pass(error) => Cause::Passing,
            (cause, _) => cause,
        };
        Self { cause, source: Some(source), ..self }
    }

    /// With the end of what the program that failed said.
    #[must_use]
    pub fn with_output(self, output: impl Into<String>) -> Self {
        Self { output: output.into(), ..self }
    }

    /// The end of what the program that failed said; empty where there is none.
    pub fn output(&self) -> &str {
        &self.output
    }

    /// The same failure of a server that is to be taken for away.
    #[must_use]
    pub fn as_unreachable(self) -> Self {
        Self { cause: Cause::Unreachable, ..self }
    }

    /// Whether a retry makes sense.
    pub const fn is_transient(&self) -> bool {
        matches!(self.cause, Cause::Passing | Cause::Slow | Cause::Unreachable)
    }

    /// Whether it failed because the server is away.
    pub const fn is_unreachable(&self) -> bool {
        matches!(self.cause, Cause::Unreachable)
    }

    /// Whether there was no connection to the server at all: nobody listens, or nobody answers.
    pub fn has_no_connection(&self) -> bool {
        let source = self.source.as_ref().and_then(|source| source.downcast_ref::<pgbosun_postgres::Error>());
        source.is_some_and(|error| error.is_unreachable() && !error.is_answer())
    }

    /// Whether the server did not come to the end in time.
    pub const fn is_slow(&self) -> bool {
        matches!(self.cause, Cause::Slow)
    }

    /// Whether the role may not do this.
    pub const fn is_refused(&self) -> bool {
        matches!(self.cause, Cause::Refused)
    }
}

/// The error says of itself what it says, and stays what it is as the source of this one.
fn told(error: impl Into<Box<dyn std::error::Error + Send + Sync>>, cause: Cause) -> JobError {
    let error = error.into();
    JobError { message: error.to_string(), cause, source: Some(error), output: String::new() }
}

impl From<pgbosun_postgres::Error> for JobError {
    fn from(error: pgbosun_postgres::Error) -> Self {
        let cause = match (error.is_transient(), error.is_unreachable()) {
            _ if error.is_refused() => Cause::Refused,
            (true, true) => Cause::Unreachable,
            (true, false) if error.is_slow() => Cause::Slow,
            (true, false) => Cause::Passing,
            (false, _) => Cause::Lasting,
        };
        told(error, cause)
    }
}

impl From<pgbosun_repository::Error> for JobError {
    fn from(error: pgbosun_repository::Error) -> Self {
        let cause = if error.is_transient() { Cause::Passing } else { Cause::Lasting };
        told(error, cause)
    }
}

impl From<pgbosun_backup::Error> for JobError {
    fn from(error: pgbosun_backup::Error) -> Self {
        match error {
            // Whatever it was done for, a server that is away is away.
            pgbosun_backup::Error::Postgres(error) => error.into(),
            pgbosun_backup::Error::Repository(error) => error.into(),
            error => {
                let cause = if error.is_transient() { Cause::Passing } else { Cause::Lasting };
                told(error, cause)
            }
        }
    }
}

impl From<pgbosun_history::Error> for JobError {
    fn from(error: pgbosun_history::Error) -> Self {
        told(error, Cause::Passing)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use pgbosun_core::human::chain;
    use std::{error::Error as _, io};

    #[test]
    fn an_error_of_the_system_decides_whether_a_try_is_worth_it() {
        let failure = |kind: io::ErrorKind| JobError::lasting("cannot look").because(io::Error::new(kind, "no answer"));
        let away = failure(io::ErrorKind::TimedOut);
        assert!(away.is_transient() && !failure(io::ErrorKind::PermissionDenied).is_transient());
        assert_eq!(chain(&away), "cannot look: no answer");
        assert!(away.source().is_some_and(|source| source.is::<io::Error>()));
        // What is known to pass does, whatever it comes from.
        let denied = io::Error::from(io::ErrorKind::PermissionDenied);
        assert!(JobError::passing("no answer").because(denied).is_transient());
        assert!(!JobError::lasting("cannot look").because("in words").is_transient());
    }

    #[test]
    fn an_error_of_a_server_stays_one_within_a_backup() {
        let away = || pgbosun_postgres::Error::Connect { target: "db".into(), source: "nobody answered".into() };
        for failure in [JobError::from(away()), pgbosun_backup::Error::from(away()).into()] {
            assert!(failure.is_unreachable() && failure.is_transient());
            assert!(failure.source().is_some_and(|source| source.is::<pgbosun_postgres::Error>()));
            assert_eq!(chain(&failure), "connect to db: nobody answered");
        }
    }
}
