//! The OAuth 2.0 authorization server (RFC 6749) without its sockets: authorization code with PKCE (RFC 7636), refresh,
//! revocation (RFC 7009), metadata (RFC 8414). One for all partners; what differs between them is in [`Client`].
//!
//! Pure: time and randomness are arguments. Secrets are kept as hashes and compared in constant time.

mod authority;
mod client;
mod family;
mod request;
#[cfg(test)]
mod tests;

pub use authority::{Authority, Code, CodeFault, Consent, Entry, Issued, RefreshFault, Revoked};
pub use client::{Client, ClientError, ClientTerms, PartnerWords, partner_words};
pub use family::{Family, StopReason, Stopped};
pub use request::{
    AuthorizeFault, AuthorizeRequest, Credentials, FormError, RedirectError, TokenError, TokenRequest, authorize,
    denied, form, metadata, redirect_with_code, token_request,
};

/// Most registered clients.
pub const CLIENTS_MAX: usize = 32;

/// Most redirect URIs of one client.
pub const REDIRECTS_MAX: usize = 8;

/// Longest redirect URI, in bytes.
pub const REDIRECT_MAX_BYTES: usize = 512;

/// Longest `state`, in bytes; Amazon's are under 1 KiB.
pub const STATE_MAX_BYTES: usize = 2048;

/// Most parameters of one request.
pub const PARAMETERS_MAX: usize = 32;

/// Longest query or form, in bytes.
pub const FORM_MAX_BYTES: usize = 16 * 1024;

/// Most codes remembered at once, used ones among them. Each needs a member's consent.
pub const CODES_MAX: usize = 256;

/// How long a code may be exchanged (RFC 6749 advises 10 minutes at most).
pub const CODE_LIFE_MS: i64 = 5 * 60_000;

/// How long a code is remembered after that, so that a second use takes back what the first gave.
pub const CODE_MEMORY_MS: i64 = 24 * 3_600_000;

/// How long an access token is good for.
pub const ACCESS_LIFE_MS: i64 = 3_600_000;

/// How long a refresh token is good for, counted anew at each refresh.
pub const REFRESH_LIFE_MS: i64 = 180 * 86_400_000;

/// An end that is nearer than this is announced; of what lasts less than twice as long, in its second half.
pub const ANNOUNCE_MS: i64 = 30 * 86_400_000;

/// Most access tokens of one link that are good at once; the oldest goes first.
pub const ACCESS_MAX: usize = 16;

/// Most answers to one refresh token, of which the first that comes back counts.
pub const ANSWERS_MAX: usize = 8;

/// How many spent refresh tokens of one link are recognised. Older ones are worth nothing all the same.
pub const SPENT_MAX: usize = 200;
