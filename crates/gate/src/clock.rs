//! The grid: ticks shorter than a day on the UTC epoch, daily ones at the home's midnight.

use jiff::tz::TimeZone;
use model::{Grid, Timestamp};

/// Every grid that a rung of the ladder uses.
pub const GRIDS: [Grid; 3] = [Grid::Every(15 * 60_000), Grid::Every(60 * 60_000), Grid::Day];

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

#[cfg(test)]
mod tests {
    use super::*;

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
