//! The grid: ticks shorter than a day on the UTC epoch, daily ones at the home's midnight.

use jiff::tz::TimeZone;
use model::{Grid, Timestamp};

/// How often exact values are looked at to be told unasked, in milliseconds: never when something happens, always on this
/// grid. Ten seconds is what a light that follows a sensor may be late, and all that is told of when it happened.
pub const REPORT_GRID_MS: i64 = 10_000;

/// Every grid that a rung of the ladder uses, and that of exact values told unasked.
pub const GRIDS: [Grid; 4] =
    [Grid::Every(REPORT_GRID_MS), Grid::Every(15 * 60_000), Grid::Every(60 * 60_000), Grid::Day];

/// The last tick of a grid at or before `now`. On days of 23 or 25 hours the daily tick is still the day's first moment.
pub fn tick(grid: Grid, now: Timestamp, zone: &TimeZone) -> Timestamp {
    match grid {
        Grid::None => now,
        Grid::Every(interval_ms) => now.floor_to(interval_ms),
        Grid::Day => jiff::Timestamp::from_millisecond(now.as_millis())
            .ok()
            .and_then(|t| t.to_zoned_datetime(zone.clone()).start_of_day().ok())
            .map_or_else(|| now.floor_to(86_400_000), |z| Timestamp::from_millis(z.timestamp().as_millisecond())),
    }
}

/// How far the time shown may be ahead of the wall clock before it stands still for it. A clock that is trimmed by its
/// time server is not noticed.
const AHEAD_MAX_MS: i64 = 250;

/// Time that never steps back, out of a wall clock that may, and a monotonic one.
///
/// It looks at the wall clock only at a beat, and beats come from the clock alone. So the time is a function of the two
/// clocks: a reading that somebody took in just before the wall clock was set back leaves no trace in it, as it would if
/// the latest time ever seen were kept.
#[derive(Clone, Copy, Debug)]
pub struct Steady {
    shown: Timestamp,
    at_ms: i64,
    stands: bool,
}

impl Steady {
    /// Starts with the wall clock, at a time of the monotonic clock.
    pub fn new(wall: Timestamp, monotonic_ms: i64) -> Self {
        Self { shown: wall, at_ms: monotonic_ms, stands: false }
    }

    /// The time.
    pub fn now(&self, monotonic_ms: i64) -> Timestamp {
        let passed = if self.stands { 0 } else { monotonic_ms.saturating_sub(self.at_ms).max(0) };
        self.shown.plus_millis(passed)
    }

    /// Looks at the wall clock: follows it forward; when it is behind, stands until it has caught up.
    pub fn beat(&mut self, wall: Timestamp, monotonic_ms: i64) {
        let now = self.now(monotonic_ms);
        self.shown = now.max(wall);
        self.at_ms = monotonic_ms;
        self.stands = wall.plus_millis(AHEAD_MAX_MS) < now;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn steady_time_follows_forward_stands_for_a_step_back_and_is_deaf_between_beats() {
        let at = Timestamp::from_millis;
        let mut steady = Steady::new(at(1_000_000), 0);
        assert_eq!(steady.now(700), at(1_000_700));
        steady.beat(at(1_001_000), 1000);
        // An hour back: it stands, then follows again.
        steady.beat(at(1_002_000 - 3_600_000), 2000);
        assert_eq!((steady.now(2500), steady.now(60_000)), (at(1_002_000), at(1_002_000)));
        steady.beat(at(1_003_000), 3_605_000);
        assert_eq!(steady.now(3_605_500), at(1_003_500));
        // An hour forward, at the next beat.
        steady.beat(at(5_000_000), 3_606_000);
        assert_eq!(steady.now(3_606_001), at(5_000_001));
        // Trimmed by less than is noticed: it runs on.
        steady.beat(at(5_000_900), 3_607_000);
        assert_eq!(steady.now(3_607_100), at(5_001_100));
    }

    #[test]
    fn days_of_23_and_25_hours_tick_at_midnight() {
        let zone = TimeZone::get("Europe/Paris").unwrap();
        let at = |text: &str| Timestamp::from_millis(text.parse::<jiff::Timestamp>().unwrap().as_millisecond());
        for (now, midnight) in [
            ("2026-03-29T12:00:00Z", "2026-03-28T23:00:00Z"),
            ("2026-10-25T12:00:00Z", "2026-10-24T22:00:00Z"),
            ("2026-10-25T23:30:00Z", "2026-10-25T23:00:00Z"),
        ] {
            assert_eq!(tick(Grid::Day, at(now), &zone), at(midnight));
        }
        assert_eq!(tick(Grid::Every(3_600_000), at("2026-10-25T12:59:59Z"), &zone), at("2026-10-25T12:00:00Z"));
    }
}
