//! The weather outside the simulated home: a real, typical year, vendored (origin and licence in `data/README.md`).

use jiff::civil::DateTime;

/// Tenths of a degree and W/m² for each hour of a year.
const YEAR: &str = include_str!("../../data/greensboro-tmy3.csv");

/// Hours in the vendored year.
const HOURS: usize = 8760;

/// Day of the year that 29 February is read as: 28 February.
const LEAP_DAY_STANDS_FOR: i16 = 59;

/// The air outside at one moment.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Outdoors {
    /// Dry-bulb temperature, °C.
    pub temperature_c: f64,
    /// Dew point, °C.
    pub dew_point_c: f64,
    /// Global horizontal irradiance, W/m².
    pub irradiance: f64,
}

/// A year of hourly weather.
#[derive(Clone, Debug)]
pub struct Weather(Vec<Outdoors>);

impl Weather {
    /// The vendored year.
    pub fn vendored() -> Self {
        Self(YEAR.lines().filter_map(hour).collect())
    }

    /// The weather at this local standard time (without summer time), interpolated between the hours.
    pub fn at(&self, standard: DateTime) -> Outdoors {
        let day = standard.day_of_year_no_leap().unwrap_or(LEAP_DAY_STANDS_FOR);
        let hour = f64::from(day - 1) * 24.0
            + f64::from(standard.hour())
            + f64::from(standard.minute()) / 60.0
            + f64::from(standard.second()) / 3600.0;
        let (temperature_c, dew_point_c) =
            (self.between(hour, |h| h.temperature_c), self.between(hour, |h| h.dew_point_c));
        // Irradiance is the mean of the hour before its time stamp, so it holds half an hour earlier.
        Outdoors { temperature_c, dew_point_c, irradiance: self.between(hour + 0.5, |h| h.irradiance) }
    }

    /// Linear between the two records around `hour`; record 0 is stamped hour 1.
    fn between(&self, hour: f64, field: impl Fn(&Outdoors) -> f64) -> f64 {
        let whole = hour.floor();
        let before = (whole as usize + HOURS - 1) % HOURS;
        let after = (before + 1) % HOURS;
        let (Some(a), Some(b)) = (self.0.get(before), self.0.get(after)) else {
            return 0.0;
        };
        field(a) + (field(b) - field(a)) * (hour - whole)
    }
}

fn hour(line: &str) -> Option<Outdoors> {
    let mut fields = line.split(',').map(str::parse::<f64>);
    let mut next = || fields.next()?.ok();
    Some(Outdoors { temperature_c: next()? / 10.0, dew_point_c: next()? / 10.0, irradiance: next()? })
}

#[cfg(test)]
mod tests {
    use jiff::civil::date;

    use super::*;

    #[test]
    fn the_year_is_whole_and_read_at_the_right_hour() {
        let weather = Weather::vendored();
        assert_eq!(weather.0.len(), HOURS);
        // The first record is 1 January 01:00; the last, 31 December 24:00, is also the midnight before it.
        let one = weather.at(date(2026, 1, 1).at(1, 0, 0, 0));
        assert_eq!((one.temperature_c, one.dew_point_c), (weather.0[0].temperature_c, weather.0[0].dew_point_c));
        let midnight = weather.at(date(2026, 1, 1).at(0, 0, 0, 0));
        assert_eq!(midnight.temperature_c, weather.0[HOURS - 1].temperature_c);
        // Half past twelve stands in the middle of the hour that ends at one.
        let noon = weather.at(date(2026, 1, 1).at(12, 30, 0, 0));
        assert_eq!(noon.irradiance, weather.0[12].irradiance);
        assert_eq!(weather.at(date(2028, 2, 29).at(12, 0, 0, 0)), weather.at(date(2028, 2, 28).at(12, 0, 0, 0)));
        let mean = |month: i8| {
            let hours = (1..=28).flat_map(|d| (0..24).map(move |h| date(2026, month, d).at(h, 0, 0, 0)));
            hours.map(|t| weather.at(t).temperature_c).sum::<f64>() / (28.0 * 24.0)
        };
        assert!(mean(1) < 2.0 && mean(7) > 24.0, "January {}, July {}", mean(1), mean(7));
    }
}
