//! The access code: who says it is no longer held by the lock for some minutes. Its hash is kept, and attempts are limited.

use std::fmt;

use links::pin::Pin;
use model::Timestamp;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

/// It opens for so long.
const OPEN_MS: i64 = 10 * 60_000;

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
    /// Kept and guessed at as the PIN of a link is.
    pin: Option<Pin>,
    /// Not kept: after a restart it is shut.
    #[serde(skip)]
    open_until_ms: i64,
}

impl Door {
    /// Takes a new code.
    ///
    /// # Errors
    /// When it has too few or too many digits, or something else.
    pub fn set(&mut self, code: &Secret) -> Result<(), String> {
        let mut salt = [0; 16];
        getrandom::fill(&mut salt).map_err(|e| format!("the system gives no randomness: {e}"))?;
        *self = Self { pin: Some(Pin::new(&code.0, &salt).map_err(|e| format!("the code: {e}"))?), ..Self::default() };
        Ok(())
    }

    /// Somebody is about to say a code: that is counted, and to be kept before the code is looked at.
    ///
    /// # Errors
    /// When there is none, or too many were wrong.
    pub fn knock(&mut self, now: Timestamp) -> Result<(), String> {
        let pin = self.pin.as_ref().ok_or("there is no access code")?;
        let counted = pin.attempt(now).map_err(|until| {
            let seconds = (until.as_millis() - now.as_millis()).div_euclid(1000) + 1;
            format!("too many wrong codes: wait for {seconds} s")
        })?;
        self.pin = Some(counted);
        Ok(())
    }

    /// Looks at the code of somebody who was counted.
    ///
    /// # Errors
    /// When it is wrong.
    pub fn open(&mut self, code: &Secret, now: Timestamp) -> Result<(), String> {
        let pin = self.pin.as_ref().filter(|pin| pin.fits(&code.0)).ok_or("that is not the access code")?;
        self.pin = Some(pin.right());
        self.open_until_ms = now.as_millis().saturating_add(OPEN_MS);
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
        let wrong = self.pin.as_ref().map_or(0, Pin::tried);
        json!({"code": self.pin.is_some(), "open": open, "open_until": until, "wrong_attempts": wrong})
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_code_opens_for_minutes_and_guessing_waits_longer_and_longer() {
        let at = |seconds: i64| Timestamp::from_millis(1_768_212_000_000 + seconds * 1000);
        let secret = |text: &str| Secret(text.to_owned());
        let say = |door: &mut Door, text: &str, seconds: i64| {
            door.knock(at(seconds)).and_then(|()| door.open(&secret(text), at(seconds)))
        };
        let mut door = Door::default();
        assert!(say(&mut door, "4711", 0).is_err(), "without a code nothing opens");
        assert!(door.set(&secret("471")).is_err());
        door.set(&secret("4711")).unwrap();
        let kept = serde_json::to_string(&door).unwrap();
        assert!(!kept.contains("4711") && kept.contains("$argon2id$"), "{kept}");
        assert!(!format!("{:?}", secret("4711")).contains("4711"));
        say(&mut door, "4711", 1).unwrap();
        assert!(door.is_open(at(600)) && !door.is_open(at(602)));
        for guess in 0..5 {
            assert_eq!(say(&mut door, &format!("000{guess}"), 700), Err("that is not the access code".into()));
        }
        // The right one waits, too; and a restart shortens nothing.
        let mut door: Door = serde_json::from_str(&serde_json::to_string(&door).unwrap()).unwrap();
        assert!(say(&mut door, "4711", 700 + 899).unwrap_err().contains("wait"));
        say(&mut door, "4711", 700 + 900).unwrap();
        assert_eq!(door.shown(at(1603))["wrong_attempts"], 0);
        // Who pulls the plug while it is looked at has tried all the same.
        (0..5).for_each(|_| door.knock(at(1700)).unwrap());
        assert!(say(&mut door, "4711", 1701).unwrap_err().contains("wait"));
    }
}
