//! The limits of the format, each with a name. See `docs/specs/ledger.md`.

/// Longest leaf in bytes: an entry bundle of C2SP tlog-tiles has a 16-bit length prefix.
pub const LEAF_MAX_BYTES: usize = 65_535;

/// Room for the `items` of one leaf, in bytes. What doesn't fit goes to further leaves; the other keys of any leaf are
/// bounded by the limits below to less than the rest, even when each character needs an escape of six bytes.
pub const ITEMS_MAX_BYTES: usize = 44_000;

/// Most items in one draft. Alexa allows 300 endpoints in a discovery; this leaves over 30 properties for each.
pub const ITEMS_MAX: usize = 10_000;

/// Longest body in bytes.
pub const BODY_MAX_BYTES: usize = 1024 * 1024;

/// Length of a salt in bytes.
pub const SALT_BYTES: usize = 16;

/// Largest integer, 2^53-1: up to here a number is the same in every JSON reader.
pub const INTEGER_MAX: i64 = (1 << 53) - 1;

/// Longest kind of a message, in bytes.
pub const MESSAGE_MAX_BYTES: usize = 256;

/// Longest name of a command, in bytes.
pub const COMMAND_MAX_BYTES: usize = 128;

/// Longest reason of a refusal, in bytes.
pub const REASON_MAX_BYTES: usize = 64;

/// Longest name of a profile, in bytes.
pub const PROFILE_MAX_BYTES: usize = 64;

/// Longest line that describes a change of policy, in bytes.
pub const CHANGE_MAX_BYTES: usize = 512;

/// Longest name of who asked or who changed, in bytes.
pub const WHO_MAX_BYTES: usize = 256;

/// Longest threat of a demand, in bytes.
pub const THREAT_MAX_BYTES: usize = 1024;

/// Longest id of a policy, in bytes.
pub const POLICY_ID_MAX_BYTES: usize = 128;

/// Most policy ids beside one item or command.
pub const POLICIES_MAX: usize = 16;

/// Most demands that one decision refers to.
pub const DEMANDS_MAX: usize = 64;

/// Most properties that one command sets.
pub const PROPERTIES_MAX: usize = 32;

/// Longest random part of an origin, in characters.
pub const ORIGIN_MAX_CHARS: usize = 64;

/// Longest text of a receipt (tlog-proof) that is read, in bytes.
pub const PROOF_MAX_BYTES: usize = 64 * 1024;

/// How many leaves are read from a store at a time.
pub const PAGE_LEAVES: u64 = 512;
