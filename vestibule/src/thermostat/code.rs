//! The access code: who says it is no longer held by the lock for some minutes. Its hash is kept, and attempts are limited.

use std::fmt;

use links::password;
use model::Timestamp;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

/// Fewest characters: attempts are limited, and it opens no more than a thermostat.
const CODE_MIN_CHARS: usize = 4;

/// Longest code, bytes.
const CODE_MAX_BYTES: usize = 64;

/// It is hashed behind this, which makes it long enough for the hash, and the hash good for nothing else.
const PREFIX: &str = "vestibule thermostat access code ";

/// It opens for so long.
const OPEN_MS: i64 = 10 * 60_000;

/// After so many wrong ones in a row none is taken for a while; ...
const ATTEMPTS_FREE: u32 = 5;

/// ... first for so long, then each time twice as long, ...
const WAIT_MS: i64 = 5 * 60_000;

/// ... and at most so long.
const WAIT_MAX_MS: i64 = 24 * 3_600_000;

/// A text that is written nowhere.
#[derive(Clone, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Secret(pub String);

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("(not shown)")
    }
}

/// Evenly from 0 to `below`, not included.
///
/// # Errors
/// When the system gives no randomness.
pub fn random_below(below: u32) -> Result<u32, String> {
    let mut bytes = [0; 8];
    getrandom::fill(&mut bytes).map_err(|e| format!("the system gives no randomness: {e}"))?;
    Ok(u32::try_from(u64::from_le_bytes(bytes) % u64::from(below.max(1))).unwrap_or(0))
}

/// The code, who tried, and whether it is open.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Door {
    /// argon2id, as a PHC string.
    hash: Option<String>,
    wrong: u32,
    /// No attempt is taken before.
    not_before_ms: i64,
    /// Not kept: after a restart it is shut.
    #[serde(skip)]
    open_until_ms: i64,
}

impl Door {
    /// Takes a new code.
    ///
    /// # Errors
    /// When it is too short or too long.
    pub fn set(&mut self, code: &Secret) -> Result<(), String> {
        if code.0.chars().count() < CODE_MIN_CHARS || code.0.len() > CODE_MAX_BYTES {
            return Err(format!("a code has {CODE_MIN_CHARS} to {CODE_MAX_BYTES} characters"));
        }
        let mut salt = [0; 16];
        getrandom::fill(&mut salt).map_err(|e| format!("the system gives no randomness: {e}"))?;
        let hash = password::hash(&format!("{PREFIX}{}", code.0), &salt).map_err(|e| e.to_string())?;
        *self = Self { hash: Some(hash), ..Self::default() };
        Ok(())
    }

    /// Somebody says a code.
    ///
    /// # Errors
    /// When it is wrong, there is none, or too many were wrong.
    pub fn knock(&mut self, code: &Secret, now: Timestamp) -> Result<(), String> {
        let now_ms = now.as_millis();
        // A clock that was set back makes nobody wait longer than the longest wait.
        if now_ms < self.not_before_ms && self.not_before_ms - now_ms <= WAIT_MAX_MS {
            let seconds = (self.not_before_ms - now_ms).div_euclid(1000) + 1;
            return Err(format!("too many wrong codes: wait for {seconds} s"));
        }
        // Counted before it is looked at: whoever pulls the plug has tried all the same.
        self.wrong = self.wrong.saturating_add(1);
        if self.wrong >= ATTEMPTS_FREE {
            let doubled = WAIT_MS.saturating_mul(1 << (self.wrong - ATTEMPTS_FREE).min(16));
            self.not_before_ms = now_ms.saturating_add(doubled.min(WAIT_MAX_MS));
        }
        let said = if code.0.len() > CODE_MAX_BYTES { "" } else { code.0.as_str() };
        if !password::verify(&format!("{PREFIX}{said}"), self.hash.as_deref()) {
            return Err("that is not the access code".into());
        }
        (self.wrong, self.not_before_ms) = (0, 0);
        self.open_until_ms = now_ms.saturating_add(OPEN_MS);
        Ok(())
    }

    /// The code was said within the last minutes.
    pub fn is_open(&self, now: Timestamp) -> bool {
        (1..=OPEN_MS).contains(&(self.open_until_ms - now.as_millis()))
    }

    /// For people, without the code.
    pub fn shown(&self, now: Timestamp) -> Value {
        let open = self.is_open(now);
        let until = open.then(|| Timestamp::from_millis(self.open_until_ms).to_rfc3339());
        json!({"code": self.hash.is_some(), "open": open, "open_until": until, "wrong_attempts": self.wrong})
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_code_opens_for_minutes_and_guessing_waits_longer_and_longer() {
        let at = |seconds: i64| Timestamp::from_millis(1_768_212_000_000 + seconds * 1000);
        let secret = |text: &str| Secret(text.to_owned());
        let mut door = Door::default();
        assert!(door.knock(&secret("4711"), at(0)).is_err(), "without a code nothing opens");
        assert!(door.set(&secret("471")).is_err());
        door.set(&secret("4711")).unwrap();
        let kept = serde_json::to_string(&door).unwrap();
        assert!(!kept.contains("4711") && kept.contains("$argon2id$"), "{kept}");
        assert!(!format!("{:?}", secret("4711")).contains("4711"));
        door.knock(&secret("4711"), at(1)).unwrap();
        assert!(door.is_open(at(600)) && !door.is_open(at(602)));
        for guess in 0..5 {
            assert!(door.knock(&secret(&format!("000{guess}")), at(700)).unwrap_err().contains("not the access code"));
        }
        // The right one waits, too; and a restart shortens nothing.
        let mut door: Door = serde_json::from_str(&serde_json::to_string(&door).unwrap()).unwrap();
        assert!(door.knock(&secret("4711"), at(999)).unwrap_err().contains("wait"));
        assert!(door.knock(&secret("9999"), at(1001)).unwrap_err().contains("not the access code"));
        assert!(door.knock(&secret("4711"), at(1001 + 599)).is_err(), "twice as long");
        door.knock(&secret("4711"), at(1001 + 601)).unwrap();
        assert_eq!(door.shown(at(1603))["wrong_attempts"], 0);
    }
}
