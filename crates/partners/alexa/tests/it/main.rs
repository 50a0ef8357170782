//! Alexa against the real gate: every event that a test renders is valid by the schemas that the project wrote from the
//! documentation.

#![expect(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, reason = "tests")]

mod discovery;
mod golden;
mod house;
mod leaks;
mod peers;
mod schema;
mod state;
mod unasked;
