//! WAL: beside a backup, into the archive, out of it, and what lies in it.

mod archive;
mod beside;
mod confine;
mod descent;
mod fetch;
mod needed;
mod push;
mod receive;
mod scan;
mod segment;
mod spool;
mod unarchived;

pub use archive::{Archive, Coverage};
pub use confine::{Confined, Confinement, CreatedTablespace, borders, confine, confine_directory};
pub use descent::{follow_primary, newest_primary};
pub use fetch::Fetch;
pub use push::{Pushed, Pusher};
pub use receive::{Lag, Receive, system_id_of};
pub use scan::{Event, Scanner};
pub use segment::{Header, check as check_segment, check_file, system_identifier};
pub use spool::{Gap, Spool};
pub use unarchived::{Unarchived, unarchived};

pub(crate) use beside::Receiver;
pub(crate) use needed::needed;
#[cfg(any(test, fuzzing))]
pub(crate) use scan::read_record;
pub(crate) use unarchived::is_archived;
