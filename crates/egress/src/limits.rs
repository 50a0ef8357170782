//! Limits of the listeners.

use std::time::Duration;

/// Largest request body. Alexa's directives are under 2 KiB; a Lambda relay takes 128 KiB at most.
pub const BODY_MAX_BYTES: usize = 128 * 1024;

/// What each request may have of its body, however many there are: Alexa's directives fit.
pub(crate) const BODY_OWN_BYTES: usize = 8 * 1024;

/// What all requests together may have beyond that; who needs more then is told to come back (a constant body).
pub(crate) const BODIES_SHARED_BYTES: usize = 16 << 20;

/// Largest head of a request (request line and header). A token of 4 KiB and a proxy's own fields fit many times.
pub const HEAD_MAX_BYTES: usize = 32 * 1024;

/// Most connections of partners at once. With more, who has been quiet for longest is cut.
pub const CONNECTIONS_MAX: usize = 1024;

/// Most connections to the household's own listener at once.
pub const CONSOLE_CONNECTIONS_MAX: usize = 256;

/// Most requests of linked partners answered at once; further ones are told to come back (a constant body).
pub const IN_FLIGHT_MAX: usize = 256;

/// How long a client may take to send its header.
pub const HEADER_READ_TIMEOUT: Duration = Duration::from_secs(10);

/// How long a client may take to send its body.
pub const BODY_READ_TIMEOUT: Duration = Duration::from_secs(10);

/// How long a connection may neither ask nor take its answer.
pub const STALL_TIMEOUT: Duration = Duration::from_secs(60);

/// How long requests in flight may take after the hub was told to stop.
pub(crate) const DRAIN_TIMEOUT: Duration = Duration::from_secs(10);

/// Refusals are summed over this many milliseconds, then recorded in one leaf per link.
pub const REFUSAL_TICK_MS: i64 = 60_000;

/// Most different refusals (link, device, property, trigger, reason) summed at once; the sum is recorded early when it
/// is reached.
pub const REFUSAL_KEYS_MAX: usize = 4096;

/// Events kept for a slow reader of the live page.
pub const EVENTS_MAX: usize = 512;

/// Most requests of partners' servers for tokens worked on at once.
pub const OAUTH_IN_FLIGHT_MAX: usize = 32;

/// Most members and clients whose attempts are counted apart.
pub const OAUTH_KEYS_MAX: usize = 64;

/// Most members who are logged in and have not chosen yet; the oldest goes first.
pub const SESSIONS_MAX: usize = 64;

/// How long a member may take to log in, and then to choose.
pub const SESSION_MS: i64 = 10 * 60_000;

/// Most passwords and choices worked on at once: each takes a core, and a password 19 MiB.
pub const LOGINS_IN_FLIGHT_MAX: usize = 2;

/// Attempts of one member at once; a right password gives them back.
pub const LOGIN_BURST: u32 = 5;

/// Then one each minute.
pub const LOGIN_INTERVAL_MS: i64 = 60_000;

/// Attempts of all members at once.
pub const LOGIN_ALL_BURST: u32 = 20;

/// Then one each 10 seconds.
pub const LOGIN_ALL_INTERVAL_MS: i64 = 10_000;

/// Wrong credentials of clients at once; further ones are told to come back.
pub const FAILURES_BURST: u32 = 30;

/// Then one each 2 seconds.
pub const FAILURES_INTERVAL_MS: i64 = 2_000;

/// Requests for tokens of one client at once.
pub const CLIENT_BURST: u32 = 60;

/// Then one each second.
pub const CLIENT_INTERVAL_MS: i64 = 1_000;

/// Most directives whose outcome waits to be told, of all links; of further ones it is told nothing.
pub const DEFERRED_MAX: usize = 64;

/// Most endpoints that are reported of in one round: as many as Amazon knows of one customer.
pub const EVENT_REPORTS_MAX: usize = 300;

/// How often it is looked whether devices have changed for a partner that is told so unasked, in milliseconds. A change of
/// grants is told at the next tick of reports.
pub const MANAGE_GRID_MS: i64 = 60_000;

/// What Amazon found wrong is tried again this often, in milliseconds: the fault may have been its own.
pub const REFUSED_AGAIN_MS: i64 = 3_600_000;

/// How long before its end an access token for events is renewed, in milliseconds.
pub const REFRESH_EARLY_MS: i64 = 5 * 60_000;

/// How often a message that Amazon throttled, or that failed on its side, is sent again.
pub const RETRIES_MAX: u32 = 3;

/// Shortest time before a throttled message is sent again.
pub const THROTTLE_PAUSE: Duration = Duration::from_secs(1);

/// Longest time that Amazon may ask to wait for.
pub const RETRY_AFTER_MAX: Duration = Duration::from_secs(60);

/// After a cut-off, the first round that is left out takes this long, in milliseconds.
pub const BACKOFF_MIN_MS: i64 = 10_000;

/// And none longer than this.
pub const BACKOFF_MAX_MS: i64 = 15 * 60_000;

/// How long Amazon may take for the tokens of an AcceptGrant: Alexa waits 8 seconds for the answer.
pub const ACCEPT_TIMEOUT: Duration = Duration::from_secs(6);

/// Longest token of Amazon's.
pub const TOKEN_MAX_BYTES: usize = 4096;
