//! The properties that a device can have: one table, from which everything else is derived.

use serde::{Deserialize, Serialize};

use crate::Rung;
use crate::value::Value;

macro_rules! properties {
    ($($(#[$doc:meta])* $variant:ident = $name:literal, $label:literal;)*) => {
        /// What can be known of a device. Held against Google's traits as well as Alexa's interfaces, so that a
        /// second partner needs no other words.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
        pub enum Property {
            $($(#[$doc])* #[serde(rename = $name)] $variant,)*
        }

        /// Every property, in the order of the decision table.
        pub const ALL_PROPERTIES: &[Property] = &[$(Property::$variant,)*];

        impl Property {
            /// The name used in policies, the ledger and on the command line.
            pub fn as_str(self) -> &'static str {
                match self { $(Property::$variant => $name,)* }
            }

            /// The name that a person reads.
            pub fn label(self) -> &'static str {
                match self { $(Property::$variant => $label,)* }
            }
        }
    };
}

properties! {
    /// The room's temperature. Matter Thermostat.LocalTemperature, TemperatureMeasurement.MeasuredValue.
    LocalTemperature = "local_temperature", "room temperature";
    /// Temperature outdoors. Matter Thermostat.OutdoorTemperature.
    OutdoorTemperature = "outdoor_temperature", "outdoor temperature";
    /// Set point while heating. Matter Thermostat.OccupiedHeatingSetpoint.
    OccupiedHeatingSetpoint = "occupied_heating_setpoint", "heating set point";
    /// Set point while cooling. Matter Thermostat.OccupiedCoolingSetpoint.
    OccupiedCoolingSetpoint = "occupied_cooling_setpoint", "cooling set point";
    /// The one set point that serves the mode in force, of a device that also takes two at once (three set points).
    OccupiedSetpoint = "occupied_setpoint", "set point";
    /// A set point holds against the device's schedule. Matter Thermostat.TemperatureSetpointHold.
    SetpointHold = "temperature_setpoint_hold", "hold";
    /// How long it holds. Matter Thermostat.TemperatureSetpointHoldDuration, in minutes.
    SetpointHoldDuration = "temperature_setpoint_hold_duration", "hold duration";
    /// Mode. Matter Thermostat.SystemMode.
    SystemMode = "system_mode", "thermostat mode";
    /// What the equipment does now. Matter Thermostat.ThermostatRunningState.
    RunningState = "running_state", "running state";
    /// Relative humidity. Matter RelativeHumidityMeasurement.MeasuredValue.
    RelativeHumidity = "relative_humidity", "humidity";
    /// Carbon dioxide. Matter CarbonDioxideConcentrationMeasurement.
    Co2Concentration = "co2_concentration", "CO2";
    /// Volatile organic compounds. Matter TotalVolatileOrganicCompoundsConcentrationMeasurement.
    VocConcentration = "voc_concentration", "VOC";
    /// Movement seen just now (a motion detector). Matter OccupancySensing has no other word; Alexa's MotionSensor.
    Motion = "motion", "motion";
    /// Somebody is there. Matter OccupancySensing.Occupancy.
    Occupancy = "occupancy", "occupancy";
    /// A door or window contact is open. Matter BooleanState (inverted there: true is closed).
    ContactOpen = "contact_open", "door or window contact";
    /// A driven door or gate. Google OpenClose; Alexa ModeController.
    DoorState = "door_state", "door state";
    /// How far a blind or cover is open. Matter WindowCovering.CurrentPositionLiftPercent100ths (inverted there).
    CoverPosition = "cover_position", "cover position";
    /// How far the slats are open. Matter WindowCovering.CurrentPositionTiltPercent100ths (inverted there).
    CoverTilt = "cover_tilt", "slat tilt";
    /// Matter DoorLock.LockState.
    LockState = "lock_state", "lock state";
    /// Matter OnOff.OnOff.
    OnOff = "on_off", "power";
    /// Brightness. Matter LevelControl.CurrentLevel, in percent.
    CurrentLevel = "current_level", "brightness";
    /// Matter FanControl.PercentCurrent.
    FanPercent = "fan_percent", "fan speed";
    /// A fan swings. Matter FanControl.RockSetting.
    FanOscillation = "fan_oscillation", "fan oscillation";
    /// Which way a fan turns. Matter FanControl.AirflowDirection.
    FanDirection = "fan_direction", "fan direction";
    /// White of a lamp, warm to cool. Matter ColorControl.ColorTemperatureMireds, in kelvin here.
    ColorTemperature = "color_temperature", "white tone";
    /// Colour of a lamp. Matter ColorControl.CurrentHue and CurrentSaturation.
    Color = "color", "colour";
    /// A scene that somebody has set up elsewhere; it is started and has no state. Matter ScenesManagement.
    Scene = "scene", "scene";
    /// Smoke alarm. Matter SmokeCOAlarm.SmokeState.
    SmokeState = "smoke_state", "smoke alarm";
    /// Carbon monoxide alarm. Matter SmokeCOAlarm.COState.
    CoState = "co_state", "carbon monoxide alarm";
    /// Water leak. Matter BooleanState of a water leak detector.
    LeakState = "leak_state", "water leak";
    /// Matter ElectricalPowerMeasurement.ActivePower.
    ActivePower = "active_power", "electric power";
    /// Matter ElectricalEnergyMeasurement.CumulativeEnergyImported.
    CumulativeEnergy = "cumulative_energy", "energy used";
    /// Matter PowerSource.BatPercentRemaining, in percent.
    BatteryPercent = "battery_percent", "battery";
    /// Whether the device answers. Matter BridgedDeviceBasicInformation.Reachable.
    Reachable = "reachable", "reachability";
    /// The household's name for the device. Matter BasicInformation.NodeLabel.
    NodeLabel = "node_label", "name";
    /// What the device is (a thermostat, a lock, ...). Matter Descriptor.DeviceTypeList.
    DeviceTypeName = "device_type", "device type";
    /// Matter BasicInformation.VendorName.
    VendorName = "vendor_name", "maker";
    /// Matter BasicInformation.ProductName.
    ProductName = "product_name", "model";
    /// Matter BasicInformation.SerialNumber.
    SerialNumber = "serial_number", "serial number";
    /// Matter BasicInformation.SoftwareVersionString.
    SoftwareVersion = "software_version", "firmware";
}

impl Property {
    /// The property with this name.
    pub fn parse(name: &str) -> Option<Property> {
        ALL_PROPERTIES.iter().copied().find(|p| p.as_str() == name)
    }

    /// Position in [`ALL_PROPERTIES`].
    pub fn index(self) -> usize {
        self as usize
    }

    /// True for what describes the device itself and is told at discovery only.
    pub fn is_metadata(self) -> bool {
        matches!(
            self,
            Property::NodeLabel
                | Property::DeviceTypeName
                | Property::VendorName
                | Property::ProductName
                | Property::SerialNumber
                | Property::SoftwareVersion
        )
    }

    /// Locks, doors and alarms are exact or refused, never held: an old answer could hurt somebody.
    pub fn is_live_only(self) -> bool {
        matches!(
            self,
            Property::LockState
                | Property::DoorState
                | Property::ContactOpen
                | Property::SmokeState
                | Property::CoState
                | Property::LeakState
        )
    }

    /// Whether it is measured and changes gradually, so that what it was on average it also was at some moment. A set point or a
    /// brightness jumps: its mean was never true.
    pub fn has_mean(self) -> bool {
        matches!(
            self,
            Property::LocalTemperature
                | Property::OutdoorTemperature
                | Property::RelativeHumidity
                | Property::Co2Concentration
                | Property::VocConcentration
                | Property::ActivePower
        )
    }

    /// Whether it begins and ends, so that it can be said how often it began.
    pub fn is_counted(self) -> bool {
        matches!(
            self,
            Property::Motion
                | Property::Occupancy
                | Property::ContactOpen
                | Property::DoorState
                | Property::LockState
                | Property::OnOff
        )
    }

    /// Whether its values are rounded at all (see [`Property::coarse`]).
    pub fn has_coarse_step(self) -> bool {
        self.has_mean()
            || matches!(
                self,
                Property::OccupiedHeatingSetpoint
                    | Property::OccupiedCoolingSetpoint
                    | Property::OccupiedSetpoint
                    | Property::CoverPosition
                    | Property::CoverTilt
                    | Property::CurrentLevel
                    | Property::FanPercent
                    | Property::BatteryPercent
                    | Property::CumulativeEnergy
            )
    }

    /// Whether there is such a rung of it. Locks, doors and alarms are never held, but how often a door was opened yesterday is
    /// no answer to whether it is open; what describes a device has nothing to average.
    pub fn takes(self, rung: Rung) -> bool {
        match rung {
            Rung::Live => true,
            Rung::HourMean | Rung::DayMean => self.has_mean(),
            Rung::DayCount => self.is_counted(),
            Rung::HourSteady => self.has_coarse_step(),
            Rung::HourLate => !self.is_live_only() && !self.is_metadata(),
            Rung::QuarterHour | Rung::Hour | Rung::HourCoarse | Rung::QuarterDayCoarse | Rung::DayCoarse => {
                !self.is_live_only()
            }
        }
    }

    /// The value rounded to this property's coarse step, half away from zero; values without a coarse step are
    /// returned as they are. Steps: temperature 1 °C, humidity 10 %, CO2 and VOC 200 ppm, power 100 W, energy 1 kWh,
    /// percentages 10 %.
    pub fn coarse(self, value: &Value) -> Value {
        match (value.number(), step(value)) {
            (Some(number), Some(step)) => value.with_number(round_half_away(number, step)),
            _ => value.clone(),
        }
    }

    /// The same with a dead band of a quarter of a step: the rounded value of before stays for as long as the new one is no
    /// further from it than three quarters of a step.
    pub fn steady(self, before: &Value, value: &Value) -> Value {
        match (before.number(), value.number(), step(value)) {
            (Some(was), Some(is), Some(step)) if is.saturating_sub(was).saturating_abs() <= step / 4 * 3 => {
                before.clone()
            }
            _ => self.coarse(value),
        }
    }
}

/// The coarse step of a value, in its own unit.
fn step(value: &Value) -> Option<i64> {
    match value {
        Value::Temperature(_) | Value::Percent(_) | Value::Energy(_) => Some(1000),
        Value::Ppm(_) => Some(200),
        Value::Power(_) => Some(100_000),
        _ => None,
    }
}

/// Rounds to a multiple of `step`, half away from zero; values within a step of the type's end are clamped by it.
fn round_half_away(value: i64, step: i64) -> i64 {
    let rest = value % step;
    let down = value - rest;
    if rest.abs() * 2 >= step { down.saturating_add(step * rest.signum()) } else { down }
}

impl std::fmt::Display for Property {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.as_str())
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn names_and_indexes_are_a_bijection() {
        for (i, p) in ALL_PROPERTIES.iter().enumerate() {
            assert_eq!(p.index(), i);
            assert_eq!(Property::parse(p.as_str()), Some(*p));
            assert_eq!(serde_json::to_value(p).unwrap(), p.as_str());
        }
    }

    #[test]
    fn halves_go_away_from_zero() {
        let p = Property::LocalTemperature;
        for (milli, expected) in [(20_500, 21_000), (20_499, 20_000), (-500, -1000), (-499, 0), (21_000, 21_000)] {
            assert_eq!(p.coarse(&Value::Temperature(milli)), Value::Temperature(expected));
        }
    }

    proptest! {
        /// With a dead band, too: no further than three quarters of a step from the truth, and the same when nothing has
        /// changed. What creeps over the border of two steps and back changes nothing.
        #[test]
        fn steady_is_idempotent_near_and_still(start in -60_000i32..120_000, walk in prop::collection::vec(-700i32..700, 1..40)) {
            let p = Property::LocalTemperature;
            let mut shown = p.coarse(&Value::Temperature(start));
            let mut milli = start;
            for by in walk {
                milli += by;
                let next = p.steady(&shown, &Value::Temperature(milli));
                prop_assert_eq!(p.steady(&next, &Value::Temperature(milli)), next.clone());
                let (Value::Temperature(rounded), Value::Temperature(before)) = (&next, &shown) else { panic!("type changed") };
                prop_assert!((rounded - milli).abs() <= 750 && rounded % 1000 == 0);
                prop_assert!(next == shown || (milli - before).abs() > 750);
                shown = next;
            }
        }

        /// A coarse value is a function of the fine one, applied twice it is itself, and it is within half a step.
        #[test]
        fn coarse_is_idempotent_and_near(milli in -60_000i32..120_000) {
            let p = Property::LocalTemperature;
            let once = p.coarse(&Value::Temperature(milli));
            prop_assert_eq!(p.coarse(&once), once.clone());
            let Value::Temperature(rounded) = once else { panic!("type changed") };
            prop_assert!((rounded - milli).abs() <= 500);
        }
    }
}
