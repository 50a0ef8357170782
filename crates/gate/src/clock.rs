//! The grids: ticks of a quarter of an hour and less on the UTC epoch, longer ones by the clock on the home's wall.

use home::Moments;
use jiff::ZonedDateTime;
use jiff::tz::TimeZone;
use model::{Grid, Timestamp};

/// How often exact values are looked at to be told unasked, in milliseconds: never when something happens, always on this
/// grid. Ten seconds is what a light that follows a sensor may be late, and all that is told of when it happened.
pub const REPORT_GRID_MS: i64 = 10_000;

/// Every grid that a rung of the ladder uses, and that of exact values told unasked.
pub const GRIDS: [Grid; 5] =
    [Grid::Every(REPORT_GRID_MS), Grid::Every(QUARTER_MS), Grid::Hour, Grid::QuarterDay, Grid::Day];

const QUARTER_MS: i64 = 15 * 60_000;

const HOUR_MS: i64 = 3_600_000;

/// The last tick of a grid at or before `now`. On days of 23 or 25 hours the daily tick is still the day's first moment.
pub fn tick(grid: Grid, now: Timestamp, zone: &TimeZone) -> Timestamp {
    let local = || Some(jiff::Timestamp::from_millisecond(now.as_millis()).ok()?.to_zoned_datetime(zone.clone()));
    // A time that the calendar has no day for, which no clock shows, falls on the UTC epoch.
    let (found, length_ms) = match grid {
        Grid::None => return now,
        Grid::Every(interval_ms) => return now.floor_to(interval_ms),
        Grid::Hour => (local().and_then(|z| full_hour(&z)), HOUR_MS),
        Grid::QuarterDay => (local().and_then(|z| quarter_of_day(&z)), 6 * HOUR_MS),
        Grid::Day => (local().and_then(|z| z.start_of_day().ok()?.timestamp().into()), 24 * HOUR_MS),
    };
    found.map_or_else(|| now.floor_to(length_ms), |t| Timestamp::from_millis(t.as_millisecond()))
}

/// The last quarter of an hour, hour and day at or before `now`, those before, and the next full hour.
pub fn moments(now: Timestamp, zone: &TimeZone) -> Moments {
    let last = |grid, now| tick(grid, now, zone);
    let (hour, day) = (last(Grid::Hour, now), last(Grid::Day, now));
    Moments {
        quarter: last(Grid::Every(QUARTER_MS), now),
        hour,
        hour_before: last(Grid::Hour, hour.plus_millis(-1)),
        hour_end: (1..=8)
            .map(|n| hour.plus_millis(n * QUARTER_MS))
            .find(|t| last(Grid::Hour, *t) == *t)
            .unwrap_or_else(|| hour.plus_millis(HOUR_MS)),
        day,
        day_before: last(Grid::Day, day.plus_millis(-1)),
    }
}

/// The last moment, at or before this one, at which the clock on the wall showed a full hour.
fn full_hour(now: &ZonedDateTime) -> Option<jiff::Timestamp> {
    let hour_before = |t: jiff::Timestamp, offset: jiff::tz::Offset| {
        let local = t.as_millisecond().checked_add(i64::from(offset.seconds()) * 1000)?;
        jiff::Timestamp::from_millisecond(t.as_millisecond() - local.rem_euclid(HOUR_MS)).ok()
    };
    let hour = hour_before(now.timestamp(), now.offset())?;
    let zone = now.time_zone();
    let offset_then = zone.to_offset(hour);
    if offset_then == now.offset() {
        return Some(hour);
    }
    // The clock was set in this hour by less than an hour (as in Lord Howe): what was full until then counts.
    let instant = jiff::SignedDuration::from_millis(1);
    let change = zone.preceding(now.timestamp().checked_add(instant).ok()?).next()?.timestamp();
    hour_before(change.checked_sub(instant).ok()?, offset_then)
}

/// The last of 0, 6, 12 and 18 o'clock.
fn quarter_of_day(now: &ZonedDateTime) -> Option<jiff::Timestamp> {
    let midnight = now.start_of_day().ok()?.timestamp();
    let at = |hour: i8| Some(now.time_zone().to_zoned_datetime(now.date().at(hour, 0, 0, 0)).ok()?.timestamp());
    [18, 12, 6].into_iter().filter_map(at).find(|t| *t <= now.timestamp()).or(Some(midnight))
}

/// How far the time shown may be ahead of the wall clock before it stands still for it. A clock that is trimmed by its
/// time server is not noticed.
pub const AHEAD_MAX_MS: i64 = 250;

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

    /// Whether it stands, for the wall clock was set back.
    pub fn stands(&self) -> bool {
        self.stands
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
        assert_eq!(tick(Grid::Hour, at("2026-10-25T12:59:59Z"), &zone), at("2026-10-25T12:00:00Z"));
        for (now, quarter) in [
            ("2026-03-29T03:59:59Z", "2026-03-28T23:00:00Z"),
            ("2026-03-29T04:00:00Z", "2026-03-29T04:00:00Z"),
            ("2026-10-25T04:59:59Z", "2026-10-24T22:00:00Z"),
            ("2026-10-25T22:59:59Z", "2026-10-25T17:00:00Z"),
        ] {
            assert_eq!(tick(Grid::QuarterDay, at(now), &zone), at(quarter));
        }
    }

    /// Nested: what a coarser grid knows is what a finer one knew at the coarser one's tick. Over years with every change of
    /// clocks that there is, in zones off the full hour, with changes of half an hour and at midnight.
    #[test]
    fn each_grids_ticks_are_among_those_of_the_finer_ones_in_every_zone_and_never_go_back() {
        for name in [
            "UTC",
            "Europe/Paris",
            "Asia/Kolkata",
            "Asia/Kathmandu",
            "Australia/Lord_Howe",
            "America/St_Johns",
            "Africa/Cairo",
            "Pacific/Chatham",
            "Asia/Gaza",
        ] {
            let zone = TimeZone::get(name).unwrap();
            let mut last = [Timestamp::default(); GRIDS.len()];
            let start: jiff::Timestamp = "2025-01-01T00:00:00Z".parse().unwrap();
            for step in 0..2 * 366 * 24 * 60 / 7 {
                // Seven minutes: prime to every grid.
                let now = Timestamp::from_millis(start.as_millisecond() + step * 7 * 60_000);
                let ticks = GRIDS.map(|grid| tick(grid, now, &zone));
                for (finer, pair) in ticks.windows(2).enumerate() {
                    assert!(pair[1] <= pair[0] && pair[0] <= now, "{name} {now:?} {ticks:?}");
                    assert_eq!(tick(GRIDS[finer], pair[1], &zone), pair[1], "{name} {now:?} {ticks:?}");
                }
                for (before, tick) in last.iter_mut().zip(ticks) {
                    assert!(*before <= tick, "{name} {now:?} {ticks:?}");
                    *before = tick;
                }
            }
        }
    }
}
