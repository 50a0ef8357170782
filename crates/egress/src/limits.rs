//! Limits of the partners' listener.

use std::time::Duration;

/// Largest request body. Alexa's directives are under 2 KiB; a Lambda relay takes 128 KiB at most.
pub const BODY_MAX_BYTES: usize = 128 * 1024;

/// Most connections at once; further ones wait in the kernel's queue.
pub const CONNECTIONS_MAX: usize = 1024;

/// Most requests worked on at once; further ones are told to come back (a constant body).
pub const IN_FLIGHT_MAX: usize = 256;

/// How long a client may take to send its header.
pub const HEADER_READ_TIMEOUT: Duration = Duration::from_secs(10);

/// How long a client may take to send its body.
pub const BODY_READ_TIMEOUT: Duration = Duration::from_secs(10);

/// How long requests in flight may take after the hub was told to stop.
pub(crate) const DRAIN_TIMEOUT: Duration = Duration::from_secs(10);

/// Refusals are summed over this many milliseconds, then recorded in one leaf per link.
pub const REFUSAL_TICK_MS: i64 = 60_000;

/// Most different refusals (link, device, property, trigger, reason) summed at once; the sum is recorded early when it
/// is reached.
pub const REFUSAL_KEYS_MAX: usize = 4096;

/// Events kept for a slow reader of the live page.
pub const EVENTS_MAX: usize = 512;
