//! Values: integers in fixed units.

use serde::{Deserialize, Serialize};

/// One value of a property.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "type", content = "value")]
pub enum Value {
    /// Thousandths of a degree Celsius, so that tenths of a degree Fahrenheit survive the way there and back.
    Temperature(i32),
    /// Hundredths of a percent, 0 to 10,000.
    Percent(u16),
    /// Parts per million.
    Ppm(u32),
    /// Milliwatts; negative when power is fed back.
    Power(i64),
    /// Watt-hours.
    Energy(i64),
    /// On, open, detected, occupied, reachable.
    Bool(bool),
    /// A thermostat's mode.
    SystemMode(SystemMode),
    /// What the equipment does.
    RunningState(RunningState),
    /// A lock's state.
    LockState(LockState),
    /// A driven door's state.
    DoorState(DoorState),
    /// Colour temperature of white light, in kelvin.
    ColorTemperature(u16),
    /// A colour without its brightness.
    Color(Color),
    /// Minutes.
    Minutes(u16),
    /// Which way a fan turns.
    FanDirection(FanDirection),
    /// How often something began.
    Count(u32),
    /// A name, maker, model, serial or firmware.
    Text(String),
}

/// A colour by hue and saturation. Its brightness is a property of its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Color {
    /// Hundredths of a degree, 0 to 36,000: red at both ends.
    pub hue: u16,
    /// Hundredths of a percent, 0 to 10,000: white at 0.
    pub saturation: u16,
}

/// A value that can't be.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum ValueError {
    /// Not a number, or infinite.
    #[error("the number is not finite")]
    NotFinite,
    /// Outside what is physically possible in a home.
    #[error("{value} {unit} is outside {min} to {max} {unit}")]
    OutOfRange {
        /// The value given.
        value: f64,
        /// Least accepted.
        min: f64,
        /// Greatest accepted.
        max: f64,
        /// Unit of all three.
        unit: &'static str,
    },
}

/// Scale of a temperature on the wire.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "UPPERCASE")]
pub enum TemperatureScale {
    /// Degrees Celsius.
    Celsius,
    /// Degrees Fahrenheit.
    Fahrenheit,
    /// Kelvin.
    Kelvin,
}

fn checked(value: f64, min: f64, max: f64, unit: &'static str) -> Result<f64, ValueError> {
    if !value.is_finite() {
        Err(ValueError::NotFinite)
    } else if value < min || value > max {
        Err(ValueError::OutOfRange { value, min, max, unit })
    } else {
        Ok(value)
    }
}

impl Value {
    /// A temperature, -90 to 150 °C (the coldest weather on Earth to a sauna and more).
    ///
    /// # Errors
    /// When it is not finite or out of range.
    pub fn temperature(value: f64, scale: TemperatureScale) -> Result<Value, ValueError> {
        if !value.is_finite() {
            return Err(ValueError::NotFinite);
        }
        let celsius = match scale {
            TemperatureScale::Celsius => value,
            TemperatureScale::Fahrenheit => (value - 32.0) * 5.0 / 9.0,
            TemperatureScale::Kelvin => value - 273.15,
        };
        let celsius = checked(celsius, -90.0, 150.0, "°C")?;
        Ok(Value::Temperature((celsius * 1000.0).round() as i32))
    }

    /// A percentage, 0 to 100.
    ///
    /// # Errors
    /// When it is not finite or out of range.
    pub fn percent(value: f64) -> Result<Value, ValueError> {
        Ok(Value::Percent((checked(value, 0.0, 100.0, "%")? * 100.0).round() as u16))
    }

    /// Parts per million, 0 to 1,000,000.
    ///
    /// # Errors
    /// When it is not finite or out of range.
    pub fn ppm(value: f64) -> Result<Value, ValueError> {
        Ok(Value::Ppm(checked(value, 0.0, 1_000_000.0, "ppm")?.round() as u32))
    }

    /// Electric power in watts, -1 to 1 MW.
    ///
    /// # Errors
    /// When it is not finite or out of range.
    pub fn power_watts(value: f64) -> Result<Value, ValueError> {
        Ok(Value::Power((checked(value, -1e6, 1e6, "W")? * 1000.0).round() as i64))
    }

    /// Energy in kilowatt-hours, 0 to 100 GWh.
    ///
    /// # Errors
    /// When it is not finite or out of range.
    pub fn energy_kwh(value: f64) -> Result<Value, ValueError> {
        Ok(Value::Energy((checked(value, 0.0, 1e8, "kWh")? * 1000.0).round() as i64))
    }

    /// A colour temperature in kelvin, 1,000 to 40,000 (a candle to a blue sky).
    ///
    /// # Errors
    /// When it is not finite or out of range.
    pub fn color_temperature(kelvin: f64) -> Result<Value, ValueError> {
        Ok(Value::ColorTemperature(checked(kelvin, 1_000.0, 40_000.0, "K")?.round() as u16))
    }

    /// A colour: hue in degrees, 0 to 360; saturation in percent, 0 to 100.
    ///
    /// # Errors
    /// When one of them is not finite or out of range.
    pub fn color(hue: f64, saturation: f64) -> Result<Value, ValueError> {
        let hue = (checked(hue, 0.0, 360.0, "°")? * 100.0).round() as u16;
        let saturation = (checked(saturation, 0.0, 100.0, "%")? * 100.0).round() as u16;
        Ok(Value::Color(Color { hue, saturation }))
    }

    /// What is measured, as a number in its own unit; none of what has states.
    pub fn number(&self) -> Option<i64> {
        match self {
            Value::Temperature(milli) => Some(i64::from(*milli)),
            Value::Percent(hundredths) => Some(i64::from(*hundredths)),
            Value::Ppm(ppm) => Some(i64::from(*ppm)),
            Value::Power(number) | Value::Energy(number) => Some(*number),
            _ => None,
        }
    }

    /// A value like this one with another number, as near to it as its type goes; one that has no number stays as it is.
    #[must_use]
    pub fn with_number(&self, number: i64) -> Value {
        match self {
            Value::Temperature(_) => Value::Temperature(number.clamp(i64::from(i32::MIN), i64::from(i32::MAX)) as i32),
            Value::Percent(_) => Value::Percent(number.clamp(0, i64::from(u16::MAX)) as u16),
            Value::Ppm(_) => Value::Ppm(number.clamp(0, i64::from(u32::MAX)) as u32),
            Value::Power(_) => Value::Power(number),
            Value::Energy(_) => Value::Energy(number),
            other => other.clone(),
        }
    }

    /// Whether what has two sides is on the one that people count: on, open, unlocked, somebody there.
    pub fn is_begun(&self) -> Option<bool> {
        match self {
            Value::Bool(on) => Some(*on),
            Value::DoorState(state) => Some(*state != DoorState::Closed),
            Value::LockState(state) => Some(*state == LockState::Unlocked),
            _ => None,
        }
    }

    /// A temperature in a scale, or `None` when the value is no temperature. Rounded to a tenth, which is what devices
    /// and partners speak.
    pub fn as_temperature(&self, scale: TemperatureScale) -> Option<f64> {
        let Value::Temperature(milli) = self else { return None };
        let celsius = f64::from(*milli) / 1000.0;
        let degrees = match scale {
            TemperatureScale::Celsius => celsius,
            TemperatureScale::Fahrenheit => celsius * 9.0 / 5.0 + 32.0,
            TemperatureScale::Kelvin => celsius + 273.15,
        };
        // Kelvin is offset by 0.15: a tenth there would not come back.
        let digits = if scale == TemperatureScale::Kelvin { 100.0 } else { 10.0 };
        Some((degrees * digits).round() / digits)
    }
}

/// As a person reads it.
impl std::fmt::Display for Value {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Value::Temperature(_) => {
                write!(f, "{} °C", self.as_temperature(TemperatureScale::Celsius).unwrap_or_default())
            }
            Value::Percent(hundredths) => write!(f, "{} %", f64::from(*hundredths) / 100.0),
            Value::Ppm(ppm) => write!(f, "{ppm} ppm"),
            Value::Power(milliwatts) => write!(f, "{} W", *milliwatts as f64 / 1000.0),
            Value::Energy(watt_hours) => write!(f, "{} kWh", *watt_hours as f64 / 1000.0),
            Value::Bool(on) => f.write_str(if *on { "yes" } else { "no" }),
            Value::SystemMode(m) => f.write_str(m.as_str()),
            Value::RunningState(s) => f.write_str(s.as_str()),
            Value::LockState(s) => f.write_str(s.as_str()),
            Value::DoorState(s) => f.write_str(s.as_str()),
            Value::ColorTemperature(kelvin) => write!(f, "{kelvin} K"),
            Value::Color(c) => write!(f, "hue {}°, {} %", f64::from(c.hue) / 100.0, f64::from(c.saturation) / 100.0),
            Value::Minutes(minutes) => write!(f, "{minutes} min"),
            Value::FanDirection(d) => f.write_str(d.as_str()),
            Value::Count(1) => f.write_str("once"),
            Value::Count(times) => write!(f, "{times} times"),
            Value::Text(t) => f.write_str(t),
        }
    }
}

macro_rules! states {
    ($(#[$doc:meta])* $name:ident { $($(#[$vdoc:meta])* $variant:ident = $text:literal,)* }) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
        pub enum $name { $($(#[$vdoc])* #[serde(rename = $text)] $variant,)* }

        impl $name {
            /// The word for this state.
            pub fn as_str(self) -> &'static str {
                match self { $($name::$variant => $text,)* }
            }

            /// The state with this word.
            pub fn parse(text: &str) -> Option<$name> {
                match text { $($text => Some($name::$variant),)* _ => None }
            }
        }
    };
}

states! {
    /// Matter Thermostat.SystemMode. `auto` is automatic change-over (Home Assistant's `heat_cool`).
    SystemMode {
        /// Off.
        Off = "off",
        /// Automatic change-over between heating and cooling.
        Auto = "auto",
        /// Cooling only.
        Cool = "cool",
        /// Heating only.
        Heat = "heat",
        /// Emergency (auxiliary) heat.
        EmergencyHeat = "emergency_heat",
        /// Fan only.
        FanOnly = "fan_only",
        /// Drying.
        Dry = "dry",
    }
}
states! {
    /// What the equipment does now.
    RunningState {
        /// Nothing runs.
        Idle = "idle",
        /// Heating.
        Heating = "heating",
        /// Cooling.
        Cooling = "cooling",
        /// Drying.
        Drying = "drying",
        /// Fan alone.
        Fan = "fan",
        /// Switched off.
        Off = "off",
    }
}
states! {
    /// Matter DoorLock.LockState.
    LockState {
        /// Locked.
        Locked = "locked",
        /// Unlocked.
        Unlocked = "unlocked",
        /// Neither: the bolt did not reach its end.
        Jammed = "jammed",
    }
}
states! {
    /// Which way a fan turns. Matter FanControl.AirflowDirection.
    FanDirection {
        /// The usual way.
        Forward = "forward",
        /// The other way.
        Reverse = "reverse",
    }
}
states! {
    /// State of a driven door.
    DoorState {
        /// Open, at least in part.
        Open = "open",
        /// Closed.
        Closed = "closed",
        /// On its way to open.
        Opening = "opening",
        /// On its way to closed.
        Closing = "closing",
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn what_can_not_be_is_refused() {
        assert_eq!(Value::temperature(f64::NAN, TemperatureScale::Celsius), Err(ValueError::NotFinite));
        assert!(Value::temperature(1e300, TemperatureScale::Fahrenheit).is_err());
        assert!(Value::temperature(0.0, TemperatureScale::Kelvin).is_err());
        assert!(Value::percent(100.1).is_err());
        assert!(Value::percent(-0.1).is_err());
        assert!(Value::color_temperature(999.0).is_err());
        assert!(Value::color(360.1, 0.0).is_err() && Value::color(0.0, 100.1).is_err());
    }

    proptest! {
        /// A tenth of a degree in any scale comes back as it was: 80 °F never becomes 80.1 °F.
        #[test]
        fn tenths_survive_every_scale(tenths in -400i32..2120) {
            for scale in [TemperatureScale::Celsius, TemperatureScale::Fahrenheit] {
                let degrees = f64::from(tenths) / 10.0;
                if let Ok(v) = Value::temperature(degrees, scale) {
                    prop_assert_eq!(v.as_temperature(scale), Some(degrees));
                }
            }
            // Hundredths of a kelvin, since zero Celsius is 273.15 K.
            let kelvin = f64::from(tenths * 10 + 27_315) / 100.0;
            if let Ok(v) = Value::temperature(kelvin, TemperatureScale::Kelvin) {
                prop_assert_eq!(v.as_temperature(TemperatureScale::Kelvin), Some(kelvin));
            }
        }
    }
}
