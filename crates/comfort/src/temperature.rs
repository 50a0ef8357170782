//! Temperatures as integers, so that a set point comes back from every scale as it went in.

use model::TemperatureScale;
use serde::{Deserialize, Serialize};

/// Thousandths of a degree Celsius. Tenths of a degree in either scale survive the way there and back.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Temp(i32);

/// A difference of temperatures, thousandths of a kelvin.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Delta(i32);

/// Division that rounds to the nearest, halves away from zero.
const fn divide(a: i64, b: i64) -> i64 {
    let half = b / 2;
    if a >= 0 { (a + half) / b } else { (a - half) / b }
}

const fn narrow(value: i64) -> i32 {
    if value > i32::MAX as i64 {
        i32::MAX
    } else if value < i32::MIN as i64 {
        i32::MIN
    } else {
        value as i32
    }
}

impl Temp {
    /// From thousandths of a degree Celsius.
    pub const fn from_milli_c(milli: i32) -> Self {
        Self(milli)
    }

    /// Thousandths of a degree Celsius.
    pub const fn milli_c(self) -> i32 {
        self.0
    }

    /// From tenths of a degree Celsius.
    pub const fn from_tenths_c(tenths: i32) -> Self {
        Self(tenths.saturating_mul(100))
    }

    /// Tenths of a degree Celsius, rounded.
    pub const fn tenths_c(self) -> i32 {
        narrow(divide(self.0 as i64, 100))
    }

    /// From tenths of a degree Fahrenheit, ecobee's unit (720 is 72.0 °F).
    pub const fn from_tenths_f(tenths: i32) -> Self {
        Self(narrow(divide((tenths as i64 - 320) * 500, 9)))
    }

    /// Tenths of a degree Fahrenheit, rounded.
    pub const fn tenths_f(self) -> i32 {
        narrow(divide(self.0 as i64 * 9, 500) + 320)
    }

    /// From tenths of a degree in a scale (Kelvin counts as Celsius with its zero moved).
    pub const fn from_tenths(tenths: i32, scale: TemperatureScale) -> Self {
        match scale {
            TemperatureScale::Fahrenheit => Self::from_tenths_f(tenths),
            TemperatureScale::Celsius => Self::from_tenths_c(tenths),
            TemperatureScale::Kelvin => Self(tenths.saturating_mul(100).saturating_sub(273_150)),
        }
    }

    /// Tenths of a degree in a scale, rounded.
    pub const fn tenths(self, scale: TemperatureScale) -> i32 {
        match scale {
            TemperatureScale::Fahrenheit => self.tenths_f(),
            TemperatureScale::Celsius => self.tenths_c(),
            TemperatureScale::Kelvin => narrow(divide(self.0 as i64 + 273_150, 100)),
        }
    }

    /// From a measured number of degrees; `None` when it is not finite or beyond -273 to 1,000 °C.
    pub fn measured(degrees: f64, scale: TemperatureScale) -> Option<Self> {
        let celsius = match scale {
            TemperatureScale::Celsius => degrees,
            TemperatureScale::Fahrenheit => (degrees - 32.0) * 5.0 / 9.0,
            TemperatureScale::Kelvin => degrees - 273.15,
        };
        (celsius.is_finite() && (-273.2..=1000.0).contains(&celsius)).then(|| Self((celsius * 1000.0).round() as i32))
    }

    /// Degrees Celsius, for models and pages.
    pub fn celsius(self) -> f64 {
        f64::from(self.0) / 1000.0
    }

    /// Degrees Fahrenheit, for models and pages.
    pub fn fahrenheit(self) -> f64 {
        self.celsius() * 1.8 + 32.0
    }

    /// So much warmer.
    #[must_use]
    pub const fn plus(self, delta: Delta) -> Self {
        Self(self.0.saturating_add(delta.0))
    }

    /// So much colder.
    #[must_use]
    pub const fn minus(self, delta: Delta) -> Self {
        Self(self.0.saturating_sub(delta.0))
    }

    /// This many tenths warmer in the scale in which the person counts: 20 steps of 0.1 °F up and down again end where
    /// they began, because each step is taken among that scale's own tenths.
    #[must_use]
    pub const fn stepped(self, tenths: i32, scale: TemperatureScale) -> Self {
        Self::from_tenths(self.tenths(scale).saturating_add(tenths), scale)
    }

    /// From `other` up to this.
    pub const fn above(self, other: Self) -> Delta {
        Delta(self.0.saturating_sub(other.0))
    }

    /// As a person reads it, as in `21.5 °C`.
    pub fn text(self, scale: TemperatureScale) -> String {
        let tenths = self.tenths(scale);
        let unit = match scale {
            TemperatureScale::Fahrenheit => "°F",
            TemperatureScale::Celsius => "°C",
            TemperatureScale::Kelvin => "K",
        };
        format!("{} {unit}", f64::from(tenths) / 10.0)
    }
}

impl Delta {
    /// No difference.
    pub const ZERO: Self = Self(0);

    /// From thousandths of a kelvin.
    pub const fn from_milli_k(milli: i32) -> Self {
        Self(milli)
    }

    /// Thousandths of a kelvin.
    pub const fn milli_k(self) -> i32 {
        self.0
    }

    /// From tenths of a degree Fahrenheit.
    pub const fn from_tenths_f(tenths: i32) -> Self {
        Self(narrow(divide(tenths as i64 * 500, 9)))
    }

    /// Tenths of a degree Fahrenheit, rounded.
    pub const fn tenths_f(self) -> i32 {
        narrow(divide(self.0 as i64 * 9, 500))
    }

    /// Kelvin.
    pub fn kelvin(self) -> f64 {
        f64::from(self.0) / 1000.0
    }

    /// How a differential lies around a set point: how far before it equipment starts, and how far beyond it ends. The lag
    /// of the sensor carries the temperature beyond, so equipment ends a little short of the set point, and the mean lies on
    /// the saving side. While it is to arrive at a set point in time, the band lies closer around it.
    pub const fn around(self, arriving: bool) -> (Self, Self) {
        if arriving { (Self(self.0 / 2), Self(self.0 / 5)) } else { (Self(self.0 / 20 * 17), Self(self.0 / 20 * -3)) }
    }

    /// The half, rounded towards zero.
    #[must_use]
    pub const fn half(self) -> Self {
        Self(self.0 / 2)
    }
}

/// The mean, rounded; `None` of nothing.
pub fn mean(temperatures: &[Temp]) -> Option<Temp> {
    let count = i64::try_from(temperatures.len()).ok().filter(|n| *n > 0)?;
    let sum: i64 = temperatures.iter().map(|t| i64::from(t.0)).sum();
    Some(Temp(narrow(divide(sum, count))))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        /// A tenth in either scale comes back from the other, and steps up and down end where they began.
        #[test]
        fn set_points_do_not_drift_between_units(tenths in -400i32..2120, steps in 0i32..60) {
            for scale in [TemperatureScale::Celsius, TemperatureScale::Fahrenheit] {
                let temp = Temp::from_tenths(tenths, scale);
                prop_assert_eq!(temp.tenths(scale), tenths);
                let mut there = temp;
                for _ in 0..steps { there = there.stepped(1, scale); }
                prop_assert_eq!(there.tenths(scale), tenths + steps);
                for _ in 0..steps { there = there.stepped(-1, scale); }
                prop_assert_eq!(there, temp);
            }
        }
    }

    #[test]
    fn eighty_is_eighty() {
        assert_eq!(Temp::from_tenths_f(800).text(TemperatureScale::Fahrenheit), "80 °F");
        assert_eq!(Temp::from_tenths_f(800).milli_c(), 26_667);
        assert_eq!(mean(&[Temp::from_milli_c(1), Temp::from_milli_c(2)]), Some(Temp::from_milli_c(2)));
        assert_eq!(mean(&[]), None);
        assert_eq!(Temp::measured(f64::NAN, TemperatureScale::Celsius), None);
    }
}
