//! From finding to message: the life cycle of alerts as pure functions, rendering, and the channels that deliver.
//!
//! Invariants: one problem is one alert; a failed run touches only its own job-failed alert; a message is in the outbox
//! before anybody tries to send it, and leaves it only when a server has accepted it or its time is over.

mod channels;
mod lifecycle;
mod render;
mod retry;

pub use channels::{Channel, DeliveryError, Message, Receipt, open as open_channel};
pub use lifecycle::{Change, Subject, Verdict, judge, raise};
pub use render::{Frame, Renderer};
pub use retry::next_attempt;
