//! The one crate with sockets towards partners.
//!
//! An answer leaves in this order: the gate decides, the partner crate renders, the INTENT over the rendered bytes is
//! made durable, and only its [`ledger::Receipt`], which holds these bytes, can be sent. What became of them is recorded
//! later as OUTCOME. Who is not authenticated gets one of a closed list of constant bodies, is counted, and leaves no leaf.

mod directives;
mod door;
mod limits;
mod listener;
mod respond;
mod tally;

pub use directives::{Egress, RecordError, Recorder, router};
pub use door::{Door, DoorCounts};
pub use limits::{
    BODY_MAX_BYTES, BODY_READ_TIMEOUT, CONNECTIONS_MAX, CONSOLE_CONNECTIONS_MAX, EVENTS_MAX, HEAD_MAX_BYTES,
    HEADER_READ_TIMEOUT, IN_FLIGHT_MAX, REFUSAL_KEYS_MAX, REFUSAL_TICK_MS, STALL_TIMEOUT,
};
pub use listener::serve;
pub use tally::{Asked, Counts, Outcome, Tally, Told};
