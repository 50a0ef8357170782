//! How often something may be tried: a rate with a burst (the generic cell rate algorithm), one for each key.

use std::collections::BTreeMap;

use model::Timestamp;

/// A rate limit. Time is an argument.
#[derive(Debug)]
pub struct Limiter {
    burst: i64,
    interval_ms: i64,
    keys_max: usize,
    /// For each key, when it will be as if it had never been used.
    due: BTreeMap<String, i64>,
}

impl Limiter {
    /// `burst` at once, then one each `interval_ms`; remembers at most `keys_max` keys.
    pub fn new(burst: u32, interval_ms: i64, keys_max: usize) -> Self {
        Self { burst: i64::from(burst.max(1)), interval_ms: interval_ms.max(1), keys_max, due: BTreeMap::new() }
    }

    /// Takes one.
    ///
    /// # Errors
    /// When it is too early: how many milliseconds to wait. Too many keys at once are refused, too.
    pub fn take(&mut self, key: &str, now: Timestamp) -> Result<(), i64> {
        let now = now.as_millis();
        let whole = self.interval_ms.saturating_mul(self.burst);
        if self.due.len() >= self.keys_max && !self.due.contains_key(key) {
            self.due.retain(|_, due| *due > now);
            if self.due.len() >= self.keys_max {
                return Err(self.interval_ms);
            }
        }
        // A clock that stepped back must not close the door for longer than the limit itself would.
        let due = self.due.get(key).copied().unwrap_or(now).clamp(now, now.saturating_add(whole));
        let next = due.saturating_add(self.interval_ms);
        let over = next.saturating_sub(now).saturating_sub(whole);
        if over > 0 {
            return Err(over);
        }
        self.due.insert(key.to_owned(), next);
        Ok(())
    }

    /// Forgets what a key has used.
    pub fn forget(&mut self, key: &str) {
        self.due.remove(key);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_burst_then_one_at_a_time_and_keys_are_bounded() {
        let at = Timestamp::from_millis;
        let mut limiter = Limiter::new(3, 1000, 2);
        for _ in 0..3 {
            assert_eq!(limiter.take("a", at(0)), Ok(()));
        }
        assert_eq!(limiter.take("a", at(0)), Err(1000));
        assert_eq!(limiter.take("a", at(999)), Err(1));
        assert_eq!(limiter.take("a", at(1000)), Ok(()));
        assert_eq!(limiter.take("a", at(1000)), Err(1000));
        assert_eq!(limiter.take("b", at(1000)), Ok(()));
        assert_eq!(limiter.take("c", at(1000)), Err(1000), "a third key waits");
        assert_eq!(limiter.take("c", at(9000)), Ok(()), "until others are due");
        // The clock steps back an hour: the wait is no longer than the limit's own.
        assert!(limiter.take("c", at(9000 - 3_600_000)).is_err_and(|wait| wait <= 3000) || limiter.due["c"] < 9000);
        limiter.forget("a");
        assert_eq!(limiter.take("a", at(1000)), Ok(()));
    }
}
