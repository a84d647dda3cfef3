//! Who tries to get in, and who may.

mod failed_logins;
mod hba;
mod passwords;
mod superusers;

#[cfg(any(test, fuzzing))]
pub(crate) use failed_logins::read_log;
pub use failed_logins::{FailedLogins, log_advice};
pub use hba::Hba;
pub use passwords::Passwords;
pub use superusers::Superusers;
