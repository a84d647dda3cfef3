//! Log files: rotated, compressed, removed.

mod rotate;

pub use rotate::LogsRotate;
