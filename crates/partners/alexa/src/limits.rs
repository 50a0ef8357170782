//! Every limit of this room, by name.

/// Largest directive in bytes. Amazon names no limit; its directives are a few kilobytes, and a relay passes 128 KiB on.
pub const BODY_MAX_BYTES: usize = 128 * 1024;

/// Most values (texts, numbers, lists, objects) in a body. Alexa's largest directives have some tens.
pub const VALUES_MAX: usize = 4096;

/// Longest `messageId` in characters (Amazon's message schema).
pub const MESSAGE_ID_MAX_CHARS: usize = 127;

/// Longest `correlationToken` in bytes that is given back. Amazon names no limit; real ones have up to 2 KiB.
pub const CORRELATION_TOKEN_MAX_BYTES: usize = 8 * 1024;

/// Longest `endpointId` in characters (Amazon's message schema).
pub const ENDPOINT_ID_MAX_CHARS: usize = 256;

/// Longest bearer token in bytes. Those of Vestibule are far shorter: a longer one is nobody's.
pub const TOKEN_MAX_BYTES: usize = 2 * 1024;

/// Most endpoints in one Discover.Response (Amazon's limit for one customer). More are left out and counted in
/// [`Reply::left_out`](crate::Reply::left_out).
pub const ENDPOINTS_MAX: usize = 300;

/// Most capabilities of one endpoint (Amazon's limit). The table of interfaces is far shorter; a test holds it there.
pub const CAPABILITIES_MAX: usize = 100;

/// Longest `friendlyName`, `manufacturerName` and `description` in characters (Amazon's limit). More is cut off.
pub const NAME_MAX_CHARS: usize = 128;

/// Longest value in `additionalAttributes` in characters (Amazon's limit). More is cut off.
pub const ATTRIBUTE_MAX_CHARS: usize = 256;

/// Largest change of a set point that AdjustTargetTemperature may ask for, in thousandths of a kelvin: beyond it no
/// set point of a home can be reached from any other.
pub const ADJUST_MAX_MILLI: i32 = 100_000;

/// Most endpoints in one AddOrUpdateReport or DeleteReport: one product measured that Amazon fails at 134 and takes 30.
pub const REPORT_ENDPOINTS_MAX: usize = 30;

/// Most bytes of endpoints in one AddOrUpdateReport: Amazon takes 256 KiB, with the envelope and the token.
pub const REPORT_MAX_BYTES: usize = 240 * 1024;

/// Longest code of an AcceptGrant.
pub const GRANT_CODE_MAX_BYTES: usize = 4096;

/// How much warmer or cooler a white gets that is asked to be so without a figure, in kelvin (Home Assistant's step).
pub const COLOR_STEP_KELVIN: i32 = 500;

/// Longest time for which a set point may be held, in minutes (Matter's limit for a hold: a day).
pub const HOLD_MAX_MINUTES: u16 = 1_440;

/// How far the beginning of a hold may be from now, in milliseconds: further away it would be an order for later.
pub const HOLD_START_SLACK_MS: i64 = 5 * 60_000;

/// How long after a directive for a slow device its outcome is told, in seconds: always, however fast the device was, so
/// that the time tells nothing. Amazon waits 8 seconds for an answer and calls a lock slow that takes more than 5; radio
/// locks take up to 10.
pub const DEFERRAL_S: u32 = 10;

/// Largest Discover.Response in bytes: a Lambda function's answer may have 6 MiB, and its envelope needs some. Endpoints
/// that don't fit are left out and counted in [`Reply::left_out`](crate::Reply::left_out).
pub const DISCOVERY_MAX_BYTES: usize = 5 << 20;
