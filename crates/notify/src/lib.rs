//! From finding to message: the life of alerts, what is told of them to whom, and the channels that deliver.
//!
//! Invariants: one problem is one alert; a failed run touches only its own job-failed alert; a message is in the outbox
//! before anybody tries to send it, and leaves it only when the other side has accepted it or its time is over.

mod bulletin;
mod channels;
mod dispatch;
mod inhibit;
mod lifecycle;
mod render;
pub mod report;
mod retry;

pub use bulletin::{Attached, Bulletin, Item, Occasion};
pub use channels::{
    Channel, DeliveryError, Message, Missed, Receipt, fetch, open as open_channel, types as channel_types,
};
pub use dispatch::{Hosts, MAIL, Notifier};
pub use inhibit::InhibitionContext;
pub use lifecycle::{Observation, Subject, end, judge, resolve, transition};
pub use retry::next_attempt;
