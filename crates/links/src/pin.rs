//! The PIN of a link: what a person says to a partner before it may unlock or open, where the partner hands it over. Each link has
//! its own, since a partner hears it. Hashed as passwords are; few digits are only as good as the limit on attempts, so an attempt is
//! counted before it is tried.

use model::Timestamp;
use serde::{Deserialize, Serialize};

use crate::password;

/// Fewest digits.
pub const PIN_MIN_DIGITS: usize = 4;

/// Most digits: people say them aloud.
pub const PIN_MAX_DIGITS: usize = 12;

/// Wrong ones in a row on one link after which none is taken for a while.
pub const PIN_ATTEMPTS_MAX: u8 = 5;

/// How long none is taken then, in milliseconds; each further time twice as long, until one was right.
pub const PIN_LOCKOUT_MS: i64 = 15 * 60_000;

/// The longest that none is taken, in milliseconds.
pub const PIN_LOCKOUT_MAX_MS: i64 = 24 * 3_600_000;

/// A link's PIN, with what was tried.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Pin {
    /// argon2id, as a PHC string.
    hash: String,
    /// Tried in a row, and not known to be right.
    #[serde(default)]
    tried: u8,
    /// How often none was taken for a while since one was right.
    #[serde(default)]
    lockouts: u32,
    /// Until when none is taken.
    #[serde(default)]
    locked_until: Option<Timestamp>,
}

/// Why a text is no PIN.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PinError {
    /// Not of this form.
    #[error("a PIN has {PIN_MIN_DIGITS} to {PIN_MAX_DIGITS} digits, and nothing else")]
    Form,
    /// argon2 failed.
    #[error("the PIN could not be hashed: {0}")]
    Hash(String),
}

impl Pin {
    /// A new one, with a salt of 16 random bytes.
    ///
    /// # Errors
    /// When it is no PIN.
    pub fn new(digits: &str, salt: &[u8; 16]) -> Result<Self, PinError> {
        let is_one = (PIN_MIN_DIGITS..=PIN_MAX_DIGITS).contains(&digits.len());
        if !is_one || !digits.bytes().all(|b| b.is_ascii_digit()) {
            return Err(PinError::Form);
        }
        let hash = password::phc(digits, salt).map_err(PinError::Hash)?;
        Ok(Self { hash, tried: 0, lockouts: 0, locked_until: None })
    }

    /// Tried in a row, and not known to be right.
    pub fn tried(&self) -> u8 {
        self.tried
    }

    /// Until when none is taken, if that is so now. `now` is to be a time that never steps back.
    pub fn locked(&self, now: Timestamp) -> Option<Timestamp> {
        self.locked_until.filter(|until| now < *until)
    }

    /// The same with one more attempt counted: to be kept before it is tried.
    ///
    /// # Errors
    /// Until when none is taken.
    pub fn attempt(&self, now: Timestamp) -> Result<Self, Timestamp> {
        if let Some(until) = self.locked(now) {
            return Err(until);
        }
        let mut next = Self { tried: self.tried.saturating_add(1), locked_until: None, ..self.clone() };
        if next.tried >= PIN_ATTEMPTS_MAX {
            let doubled = PIN_LOCKOUT_MS.checked_shl(self.lockouts).filter(|ms| (1..=PIN_LOCKOUT_MAX_MS).contains(ms));
            next.locked_until = Some(now.plus_millis(doubled.unwrap_or(PIN_LOCKOUT_MAX_MS)));
            next.lockouts = self.lockouts.saturating_add(1);
            next.tried = 0;
        }
        Ok(next)
    }

    /// Whether these digits are the PIN. It takes as long as a password does.
    pub fn fits(&self, digits: &str) -> bool {
        password::verify(digits, Some(&self.hash))
    }

    /// The same after a right one: nothing is counted against it.
    #[must_use]
    pub fn right(&self) -> Self {
        Self { tried: 0, lockouts: 0, locked_until: None, ..self.clone() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn five_attempts_then_none_for_longer_and_longer_until_one_is_right() {
        let mut pin = Pin::new("4711", &[7; 16]).unwrap();
        assert!(pin.fits("4711") && !pin.fits("4712") && !pin.fits(""));
        let mut now = Timestamp::from_millis(1_000);
        let mut lockouts = Vec::new();
        for _ in 0..9 {
            for _ in 0..PIN_ATTEMPTS_MAX {
                pin = pin.attempt(now).unwrap();
            }
            let until = pin.attempt(now).unwrap_err();
            assert_eq!(pin.attempt(until.plus_millis(-1)), Err(until));
            lockouts.push((until.as_millis() - now.as_millis()) / 60_000);
            now = until;
        }
        assert_eq!(lockouts, [15, 30, 60, 120, 240, 480, 960, 1440, 1440]);
        let right = pin.attempt(now).unwrap().right();
        assert_eq!(right, Pin::new("4711", &[7; 16]).unwrap());
        for wrong in ["", "123", "1234567890123", "12 34", "١٢٣٤", "abcd"] {
            assert_eq!(Pin::new(wrong, &[7; 16]), Err(PinError::Form), "{wrong}");
        }
    }
}
