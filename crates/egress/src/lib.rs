//! The one crate with sockets towards partners.
//!
//! An answer leaves in this order: the gate decides, the partner crate renders, the INTENT over the rendered bytes is
//! made durable, and only its [`ledger::Receipt`], which holds these bytes, can be sent. What became of them is recorded
//! later as OUTCOME. Who is not authenticated gets one of a closed list of constant bodies, is counted, and leaves no leaf.

mod directives;
mod door;
mod events;
mod gateway;
mod limits;
mod listener;
mod oauth;
mod probe;
mod respond;
mod tally;

pub use directives::{Egress, RecordError, Recorder, router};
pub use door::{Door, DoorCounts};
pub use events::{Ended, EventLines, EventSettings, Events};
pub use gateway::{Gateways, Region};
pub use limits::{
    ACCEPT_TIMEOUT, BACKOFF_MAX_MS, BACKOFF_MIN_MS, BODY_MAX_BYTES, BODY_READ_TIMEOUT, CLIENT_BURST,
    CLIENT_INTERVAL_MS, CONNECTIONS_MAX, CONSOLE_CONNECTIONS_MAX, DEFERRED_MAX, EVENT_REPORTS_MAX, EVENTS_MAX,
    FAILURES_BURST, FAILURES_INTERVAL_MS, HEAD_MAX_BYTES, HEADER_READ_TIMEOUT, IN_FLIGHT_MAX, LOGIN_ALL_BURST,
    LOGIN_ALL_INTERVAL_MS, LOGIN_BURST, LOGIN_INTERVAL_MS, LOGINS_IN_FLIGHT_MAX, MANAGE_GRID_MS, OAUTH_IN_FLIGHT_MAX,
    OAUTH_KEYS_MAX, REFRESH_EARLY_MS, REFUSAL_KEYS_MAX, REFUSAL_TICK_MS, REFUSED_AGAIN_MS, RETRIES_MAX,
    RETRY_AFTER_MAX, SESSION_MS, SESSIONS_MAX, STALL_TIMEOUT, THROTTLE_PAUSE, TOKEN_MAX_BYTES,
};
pub use listener::serve;
pub use oauth::{AgreeFault, Agreed, Choice, Linking};
pub use probe::{Probe, ProbeError, Probed};
pub use tally::{Asked, Counts, Outcome, Tally, Told};
