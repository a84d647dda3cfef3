//! Talking to a PostgreSQL server: connection strings, queries, and the replication protocol.
//!
//! Invariants: every connection begins with settings of ours (`session`), carries a timeout and `application_name = pgbosun`; a
//! password is never part of an error; one connection string serves queries, replication and client programs alike.

mod bridge;
mod child;
pub mod conninfo;
mod databases;
mod error;
mod extension;
#[cfg(any(test, fuzzing))]
pub mod fuzz;
mod lossy;
mod owner;
mod pooler;
mod program;
mod query;
pub mod replication;
mod session;
mod tls;

use pgbosun_core::config::Secret;

pub use child::GroupChild;
pub use conninfo::Conninfo;
pub use databases::{DATABASE_SIZES, DATABASES, Database, DatabaseBytes};
pub use error::Error;
pub use extension::{Extension, ForeignSchema};
pub use lossy::{Lossy, LossyArray, MaybeLossy};
pub use owner::Foreign;
pub use query::{Server, cancel_backend};
pub use session::SessionSettings;

/// What a server keeps of a password (SCRAM-SHA-256), for statements that a server may log.
pub fn password_verifier(password: &Secret) -> String {
    postgres_protocol::password::scram_sha_256(password.expose().as_bytes())
}
