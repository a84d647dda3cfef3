//! Talking to a PostgreSQL server: connection strings, queries, and the replication protocol.
//!
//! Invariants: every connection carries a timeout and `application_name = pgbosun`; a password is never part of
//! an error; one connection string serves queries, replication and client programs alike.

mod child;
pub mod conninfo;
mod error;
mod query;
pub mod replication;

pub use child::GroupChild;
pub use conninfo::Conninfo;
pub use error::Error;
pub use query::{Server, cancel_backend};

/// Asks for the databases that can be connected to, by name: one text column.
pub const DATABASES: &str = include_str!("databases.sql");
