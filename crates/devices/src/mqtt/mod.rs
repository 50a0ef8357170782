//! Devices that speak MQTT. [`hub::Mqtt`] keeps the connection; [`house::House`] is pure and knows what was announced
//! ([`announce`], [`entity`]) and what a message means; [`inbox`] is where what was heard waits; [`broker`] is for homes
//! without one.

pub mod announce;
pub mod broker;
mod color;
pub mod entity;
pub mod face;
pub mod house;
pub mod hub;
pub mod inbox;
mod sieve;
