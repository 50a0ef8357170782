//! Typed ids: an id of a link can't be passed for an id of a device. A copy is cheap: every message names ids many times.

use std::sync::Arc;

use serde::{Deserialize, Serialize, Serializer};

/// Longest id in bytes. Alexa allows 256 for an endpoint id; ours leave room for a prefix.
pub const ID_MAX_BYTES: usize = 128;

/// A text that is not an id.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("`{text}` is not {what}: use 1 to {ID_MAX_BYTES} of a-z, A-Z, 0-9, `-`, `_`, `.`, `:`")]
pub struct IdError {
    /// What the text should have been.
    pub what: &'static str,
    /// The text, shortened.
    pub text: String,
}

macro_rules! id {
    ($(#[$doc:meta])* $name:ident, $what:literal) => {
        $(#[$doc])*
        #[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Deserialize)]
        #[serde(try_from = "String")]
        pub struct $name(Arc<str>);

        impl $name {
            /// Checks and wraps a text.
            ///
            /// # Errors
            /// When the text is empty, too long, or has another character than letters, digits and `-_.:`.
            pub fn new(text: impl Into<String>) -> Result<Self, IdError> {
                let text = text.into();
                let fits = !text.is_empty()
                    && text.len() <= ID_MAX_BYTES
                    && text.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.' | b':'));
                if fits { Ok(Self(text.into())) } else { Err(IdError { what: $what, text: text.chars().take(40).collect() }) }
            }

            /// The text of the id.
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl std::fmt::Debug for $name {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str(&self.0)
            }
        }

        impl std::fmt::Display for $name {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str(&self.0)
            }
        }

        impl TryFrom<String> for $name {
            type Error = IdError;
            fn try_from(text: String) -> Result<Self, IdError> {
                Self::new(text)
            }
        }

        impl From<$name> for String {
            fn from(id: $name) -> String {
                id.as_str().to_owned()
            }
        }

        impl Serialize for $name {
            fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.serialize_str(self.as_str())
            }
        }
    };
}

id!(
    /// One home. Part of every key, since a maker runs many.
    HouseholdId,
    "a household id"
);
id!(
    /// A person in a household.
    MemberId,
    "a member id"
);
id!(
    /// A device, by the name that the hub uses inside; partners never see it.
    DeviceId,
    "a device id"
);
id!(
    /// A company's platform or an agent outside the home: `alexa`, `google`, `mcp`.
    PartnerId,
    "a partner id"
);
id!(
    /// A partner's software as it is registered to link: the `client_id` of OAuth.
    ClientId,
    "a client id"
);
id!(
    /// One partner's authorised connection to one household.
    LinkId,
    "a link id"
);
id!(
    /// A device as one link knows it: random per link, so that two links can't be joined by it.
    EndpointId,
    "an endpoint id"
);
id!(
    /// A member's consent; also the id of the Cedar policy generated from it.
    GrantId,
    "a grant id"
);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_refuse_what_could_break_out_of_a_policy_or_a_topic() {
        for bad in ["", "a b", "a\"b", "a/b", "ä", "a\n", &"x".repeat(129)] {
            assert!(DeviceId::new(bad).is_err(), "{bad:?}");
        }
        assert_eq!(DeviceId::new("0x00158d0001.temp_1-a:b").unwrap().as_str(), "0x00158d0001.temp_1-a:b");
    }
}
