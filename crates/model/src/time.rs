//! Points in time.

use serde::{Deserialize, Serialize};

/// A point in time: milliseconds since the Unix epoch, UTC.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Timestamp(i64);

impl Timestamp {
    /// From milliseconds since the Unix epoch.
    pub const fn from_millis(millis: i64) -> Self {
        Self(millis)
    }

    /// Milliseconds since the Unix epoch.
    pub const fn as_millis(self) -> i64 {
        self.0
    }

    /// This time plus so many milliseconds; stops at the ends of the range.
    pub const fn plus_millis(self, millis: i64) -> Self {
        Self(self.0.saturating_add(millis))
    }

    /// The largest multiple of `interval_ms` that is not after this time. An interval below 1 gives the time itself.
    pub const fn floor_to(self, interval_ms: i64) -> Self {
        if interval_ms < 1 { self } else { Self(self.0.saturating_sub(self.0.rem_euclid(interval_ms))) }
    }

    /// RFC 3339 in UTC with three fractional digits, as in `2026-11-24T08:00:00.000Z`.
    pub fn to_rfc3339(self) -> String {
        match jiff::Timestamp::from_millisecond(self.0) {
            Ok(t) => format!("{t:.3}"),
            // Outside the years -9999..9999 there is no RFC 3339 form; the number is still the truth.
            Err(_) => format!("@{}", self.0),
        }
    }

    /// The time that [`Timestamp::to_rfc3339`] wrote; any RFC 3339 text is read, to the millisecond.
    pub fn from_rfc3339(text: &str) -> Option<Self> {
        match text.strip_prefix('@') {
            Some(millis) => millis.parse().ok().map(Self),
            None => text.parse::<jiff::Timestamp>().ok().map(|t| Self(t.as_millisecond())),
        }
    }
}

/// Where time comes from at the edges. The pure rooms take a [`Timestamp`] as an argument instead.
pub trait Clock: Send + Sync + 'static {
    /// The time now.
    fn now(&self) -> Timestamp;

    /// The time of day as it is told now, which may have been set back: for what has to be right again at once, as the program of a
    /// thermostat, and never for what is told to anybody.
    fn told(&self) -> Timestamp {
        self.now()
    }

    /// Whether time stands still, until a wall clock that was set back has caught up: then nothing may be told for as long as
    /// a time lasts.
    fn stands(&self) -> bool {
        false
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rfc3339_has_three_digits_and_z() {
        assert_eq!(Timestamp::from_millis(0).to_rfc3339(), "1970-01-01T00:00:00.000Z");
        assert_eq!(Timestamp::from_millis(1_764_000_000_120).to_rfc3339(), "2025-11-24T16:00:00.120Z");
        let offset = Timestamp::from_rfc3339("2025-11-24T17:00:00.12+01:00");
        assert_eq!(offset, Some(Timestamp::from_millis(1_764_000_000_120)));
        assert_eq!(Timestamp::from_rfc3339("2025-11-24"), None);
        assert_eq!(Timestamp::from_millis(i64::MAX).to_rfc3339(), format!("@{}", i64::MAX));
        for millis in [0, 1_764_000_000_120, -1, i64::MIN, i64::MAX] {
            let time = Timestamp::from_millis(millis);
            assert_eq!(Timestamp::from_rfc3339(&time.to_rfc3339()), Some(time));
        }
        assert_eq!(Timestamp::from_rfc3339("tomorrow"), None);
    }

    #[test]
    fn floor_goes_down_before_the_epoch_too() {
        assert_eq!(Timestamp::from_millis(-1).floor_to(1000), Timestamp::from_millis(-1000));
        assert_eq!(Timestamp::from_millis(1999).floor_to(1000), Timestamp::from_millis(1000));
        assert_eq!(Timestamp::from_millis(5).floor_to(0), Timestamp::from_millis(5));
    }
}
