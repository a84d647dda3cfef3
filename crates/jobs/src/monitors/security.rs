//! Who tries to get in, and who may.

mod failed_logins;
mod hba;
mod passwords;
mod superusers;

pub use failed_logins::FailedLogins;
pub use hba::Hba;
pub use passwords::Passwords;
pub use superusers::Superusers;
