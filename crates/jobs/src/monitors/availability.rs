//! Whether the cluster is there, and still what it was.

mod certificate;
mod connectivity;
mod log_tail;
mod restart;
mod role;
mod settings;
mod version;

pub use certificate::Certificate;
pub use connectivity::Connectivity;
pub use restart::Restart;
pub use role::Role;
pub use settings::Settings;
pub use version::Version;
