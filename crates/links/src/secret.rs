//! Secrets that are shown once, and the hashes that are kept of them.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};
use subtle::ConstantTimeEq as _;

/// What every access token begins with, so that a leaked one can be found by a scanner.
pub const TOKEN_PREFIX: &str = "vst_";

/// What every refresh token begins with.
pub const REFRESH_PREFIX: &str = "vsr_";

/// What every authorization code begins with.
pub const CODE_PREFIX: &str = "vsc_";

/// What every client secret begins with.
pub const SECRET_PREFIX: &str = "vss_";

/// A secret: an access token, a refresh token, a code or a client's secret. Its `Debug` shows nothing.
#[derive(Clone, PartialEq, Eq)]
pub struct Token(String);

impl Token {
    /// An access token of 256 random bits.
    pub fn from_random(random: [u8; 32]) -> Self {
        Self::of_kind(TOKEN_PREFIX, random)
    }

    /// A secret of 256 random bits that begins with what tells its kind.
    pub(crate) fn of_kind(prefix: &str, random: [u8; 32]) -> Self {
        Self(format!("{prefix}{}", URL_SAFE_NO_PAD.encode(random)))
    }

    /// The text that the partner is given.
    pub fn reveal(&self) -> &str {
        &self.0
    }
}

impl std::fmt::Debug for Token {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Token(redacted)")
    }
}

/// SHA-256 of a secret: all that is kept of it. Secrets have 256 random bits, so that a slow hash would add nothing.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Hash([u8; 32]);

impl Hash {
    /// The hash of a secret.
    pub fn of(secret: &str) -> Self {
        Self(Sha256::digest(secret.as_bytes()).into())
    }

    /// Whether two hashes are the same, in constant time.
    pub fn is(&self, other: &Hash) -> bool {
        bool::from(self.0.ct_eq(&other.0))
    }

    /// As text, for a key in the store.
    pub fn text(&self) -> String {
        URL_SAFE_NO_PAD.encode(self.0)
    }
}

impl std::fmt::Debug for Hash {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Hash")
    }
}

impl TryFrom<String> for Hash {
    type Error = &'static str;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        let bytes = URL_SAFE_NO_PAD.decode(text).map_err(|_| "a hash is not base64url")?;
        bytes.try_into().map(Self).map_err(|_| "a hash has not 32 bytes")
    }
}

impl From<Hash> for String {
    fn from(hash: Hash) -> String {
        hash.text()
    }
}

/// Whether two texts are the same; the time taken tells only their lengths.
pub fn same_text(a: &str, b: &str) -> bool {
    bool::from(a.as_bytes().ct_eq(b.as_bytes()))
}
