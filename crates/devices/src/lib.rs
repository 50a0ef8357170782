//! Bytes from MQTT, the simulator or a replayed recording become readings.

pub mod counters;
pub mod mqtt;
pub mod replay;
pub mod simulator;
pub mod template;

pub use counters::{Counters, DropReason};
