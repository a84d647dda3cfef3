//! Jobs of the user's own: a program, or an SQL statement.

mod command;
mod sql;

pub use command::CommandJob;
pub(crate) use command::{Ended, execute};
pub use sql::SqlJob;
