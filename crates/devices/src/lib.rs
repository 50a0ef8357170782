//! Bytes from MQTT, the simulator or a replayed recording become readings.

pub mod replay;
pub mod simulator;
