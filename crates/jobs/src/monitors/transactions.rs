//! What transactions hold up: numbers, vacuum, each other.

mod deadlocks;
mod locks;
mod long_transactions;
mod xid_age;

pub use deadlocks::Deadlocks;
pub use locks::Locks;
pub use long_transactions::LongTransactions;
pub use xid_age::XidAge;
