//! The thermostat of the simulated home: heating only, with a daily program and guards that nothing gets past.

use jiff::civil::{DateTime, Weekday};

/// Between two runs of the heating, at least so long, ms.
pub(super) const MIN_OFF_MS: i64 = 300_000;
/// A run of the heating lasts at least so long, ms.
pub(super) const MIN_ON_MS: i64 = 180_000;
/// Full width of the band around the set point, °C.
const DIFFERENTIAL: f64 = 0.5;
/// Output of the heating, W, and how long it takes to reach it, s.
const OUTPUT_W: f64 = 8000.0;
const RAMP_S: f64 = 90.0;
/// Set points that the thermostat takes, tenths of °C, and their step.
pub(super) const SET_POINT_MIN: i32 = 70;
pub(super) const SET_POINT_MAX: i32 = 300;
pub(super) const SET_POINT_STEP: i32 = 5;

/// Program periods as (hour, minute, set point in tenths of °C): sleep until morning, home, away, home, sleep.
const WEEKDAY: &[(i8, i8, i32)] = &[(6, 15, 205), (8, 45, 170), (16, 15, 205), (22, 45, 180)];
const WEEKEND: &[(i8, i8, i32)] = &[(7, 45, 205), (23, 0, 180)];
const SLEEP: i32 = 180;

/// Heating or off.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Mode {
    Off,
    Heat,
}

/// The thermostat.
#[derive(Clone, Debug)]
pub(super) struct Thermostat {
    pub(super) mode: Mode,
    /// Tenths of °C. What a person sets holds until the program next changes.
    pub(super) set_point: i32,
    program: i32,
    pub(super) heating: bool,
    /// When the heating was last switched, ms.
    pub(super) switched_ms: i64,
}

impl Thermostat {
    /// In heat mode, following the program, with the heating long off.
    pub(super) fn new(local: DateTime) -> Self {
        let program = program(local);
        Self { mode: Mode::Heat, set_point: program, program, heating: false, switched_ms: i64::MIN / 2 }
    }

    /// Follows the program; call once a minute.
    pub(super) fn follow_program(&mut self, local: DateTime) {
        let now = program(local);
        if now != self.program {
            self.program = now;
            self.set_point = now;
        }
    }

    /// A person's set point in °C, rounded to half degrees; false when it is no number or out of range.
    pub(super) fn set(&mut self, celsius: f64) -> bool {
        let steps = (celsius * 10.0 / f64::from(SET_POINT_STEP)).round();
        // A NaN fails this too.
        let within =
            steps >= f64::from(SET_POINT_MIN / SET_POINT_STEP) && steps <= f64::from(SET_POINT_MAX / SET_POINT_STEP);
        if within {
            self.set_point = steps as i32 * SET_POINT_STEP;
        }
        within
    }

    /// Switches the heating if the band and the guards say so. The guards hold whatever the reason of the wish.
    pub(super) fn control(&mut self, now_ms: i64, sensor_c: f64) {
        let set_point = f64::from(self.set_point) / 10.0;
        let wish = match self.mode {
            Mode::Off => false,
            Mode::Heat if sensor_c < set_point - DIFFERENTIAL / 2.0 => true,
            Mode::Heat if sensor_c > set_point + DIFFERENTIAL / 2.0 => false,
            Mode::Heat => self.heating,
        };
        let guard = if self.heating { MIN_ON_MS } else { MIN_OFF_MS };
        if wish != self.heating && now_ms - self.switched_ms >= guard {
            self.heating = wish;
            self.switched_ms = now_ms;
        }
    }

    /// Heat that comes out now, W.
    pub(super) fn output_w(&self, now_ms: i64) -> f64 {
        if !self.heating {
            return 0.0;
        }
        let on_s = (now_ms - self.switched_ms) as f64 / 1000.0;
        OUTPUT_W * (on_s / RAMP_S).min(1.0)
    }
}

/// The program's set point at this local time, tenths of °C.
fn program(local: DateTime) -> i32 {
    let day = match local.weekday() {
        Weekday::Saturday | Weekday::Sunday => WEEKEND,
        _ => WEEKDAY,
    };
    let minute = |hour: i8, minute: i8| i32::from(hour) * 60 + i32::from(minute);
    let now = minute(local.hour(), local.minute());
    day.iter().rev().find(|(h, m, _)| minute(*h, *m) <= now).map_or(SLEEP, |(_, _, set_point)| *set_point)
}

#[cfg(test)]
mod tests {
    use jiff::civil::date;

    use super::*;

    #[test]
    fn the_program_knows_nights_and_weekends() {
        let friday = date(2026, 1, 9);
        assert_eq!(program(friday.at(3, 0, 0, 0)), 180);
        assert_eq!(program(friday.at(6, 15, 0, 0)), 205);
        assert_eq!(program(friday.at(12, 0, 0, 0)), 170);
        assert_eq!(program(friday.at(23, 59, 0, 0)), 180);
        assert_eq!(program(date(2026, 1, 10).at(12, 0, 0, 0)), 205);
    }

    #[test]
    fn absurd_set_points_are_refused() {
        let mut thermostat = Thermostat::new(date(2026, 1, 9).at(12, 0, 0, 0));
        for absurd in [f64::NAN, f64::INFINITY, -40.0, 6.7, 30.3, 1e300] {
            assert!(!thermostat.set(absurd), "{absurd}");
        }
        assert_eq!(thermostat.set_point, 170);
        assert!(thermostat.set(21.2));
        assert_eq!(thermostat.set_point, 210);
    }
}
