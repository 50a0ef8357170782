//! A command becomes desired values.

use disclosure::{Command, Features};
use model::{DeviceId, Property, SystemMode, Value};

use crate::registry::Registered;
use crate::state::HomeState;

/// Default lowest set point, 7 °C, when the device names none (Home Assistant's default for climate devices).
const MIN_SETPOINT_MILLI: i32 = 7_000;

/// Default highest set point, 35 °C, when the device names none (Home Assistant's default for climate devices).
const MAX_SETPOINT_MILLI: i32 = 35_000;

/// What a device is asked to become.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Desired {
    /// The property.
    pub property: Property,
    /// The value that it should take.
    pub value: Value,
}

/// Why a command can't be carried out.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PlanError {
    /// The device does not take this command.
    #[error("the device does not take this command")]
    NotSupported,
    /// Outside the device's range, in thousandths of a degree Celsius.
    #[error("the set point is outside the device's range")]
    OutOfRange {
        /// Least.
        min_milli: i32,
        /// Greatest.
        max_milli: i32,
    },
    /// The device has no such mode.
    #[error("the device has no such mode")]
    UnsupportedMode,
    /// The device takes one set point only.
    #[error("the device takes one set point only")]
    DualSetpointsUnsupported,
    /// The device takes no target beside two set points.
    #[error("the device does not take three set points")]
    TripleSetpointsUnsupported,
    /// The two set points of the command are too close.
    #[error("the set points are too close")]
    SetpointsTooClose {
        /// Least distance, thousandths of a kelvin.
        min_delta_milli: i32,
    },
    /// There is nothing to start from: the value to change is not known yet.
    #[error("the value to change is not known yet")]
    NotKnown,
}

/// The set point range of a device, in thousandths of a degree Celsius.
pub(crate) fn range(features: &Features) -> (i32, i32) {
    let min = features.min_setpoint_milli.unwrap_or(MIN_SETPOINT_MILLI);
    (min, features.max_setpoint_milli.unwrap_or(MAX_SETPOINT_MILLI).max(min))
}

/// Turns a command into what the device is asked to become.
///
/// # Errors
/// When the device can't do it; see [`PlanError`].
pub fn plan(
    device: &DeviceId,
    known: &Registered,
    home: &HomeState,
    command: &Command,
) -> Result<Vec<Desired>, PlanError> {
    let takes = |p: Property| known.description.properties.get(&p).is_some_and(|d| d.command);
    let one = |property: Property, value: Value| {
        if takes(property) { Ok(vec![Desired { property, value }]) } else { Err(PlanError::NotSupported) }
    };
    match command {
        Command::SetSetpoint { target, heating, cooling } => {
            setpoints(device, known, home, (target.as_ref(), heating.as_ref(), cooling.as_ref()))
        }
        Command::AdjustSetpoint { delta_milli } => {
            let (min, max) = range(&known.description.features);
            let mut desired = Vec::new();
            for property in in_force(device, known, home) {
                let Some(Value::Temperature(now)) = newest(device, home, property) else {
                    return Err(PlanError::NotKnown);
                };
                let value = Value::Temperature(now.saturating_add(*delta_milli).clamp(min, max));
                desired.push(Desired { property, value });
            }
            if desired.is_empty() { Err(PlanError::NotSupported) } else { Ok(desired) }
        }
        Command::SetSystemMode(mode) => {
            if takes(Property::SystemMode) && !known.description.features.modes.contains(mode) {
                return Err(PlanError::UnsupportedMode);
            }
            one(Property::SystemMode, Value::SystemMode(*mode))
        }
        Command::SetOnOff(on) => one(Property::OnOff, Value::Bool(*on)),
        Command::SetLevel(level) => one(Property::CurrentLevel, Value::Percent((*level).min(10_000))),
        Command::AdjustLevel(delta) => {
            let Some(Value::Percent(now)) = newest(device, home, Property::CurrentLevel) else {
                return Err(if takes(Property::CurrentLevel) { PlanError::NotKnown } else { PlanError::NotSupported });
            };
            let level = i32::from(now).saturating_add(*delta).clamp(0, 10_000);
            one(Property::CurrentLevel, Value::Percent(level as u16))
        }
        Command::SetLock(state) => one(Property::LockState, Value::LockState(*state)),
        Command::SetDoor(state) => one(Property::DoorState, Value::DoorState(*state)),
    }
}

/// The newest known value, what was asked for last before what was reported if it is the younger.
fn newest(device: &DeviceId, home: &HomeState, property: Property) -> Option<Value> {
    let (reported, desired) = (home.reported(device, property), home.desired(device, property));
    match (reported, desired) {
        (Some(r), Some(d)) => Some(if d.time > r.time { d.value.clone() } else { r.value.clone() }),
        (one, other) => one.or(other).map(|s| s.value.clone()),
    }
}

/// The set points that the mode in force makes count. When the mode is not known, or is off, heating goes first.
fn in_force(device: &DeviceId, known: &Registered, home: &HomeState) -> Vec<Property> {
    let takes = |p: &Property| known.description.properties.get(p).is_some_and(|d| d.command);
    let mode = match newest(device, home, Property::SystemMode) {
        Some(Value::SystemMode(m)) => Some(m),
        _ => None,
    };
    let (heating, cooling) = (Property::OccupiedHeatingSetpoint, Property::OccupiedCoolingSetpoint);
    let wanted: &[Property] = match mode {
        Some(SystemMode::Cool | SystemMode::Dry) => &[cooling],
        Some(SystemMode::Auto) => &[heating, cooling],
        _ => &[heating],
    };
    let fits: Vec<Property> = wanted.iter().copied().filter(takes).collect();
    if fits.is_empty() { [heating, cooling].into_iter().filter(takes).take(1).collect() } else { fits }
}

fn setpoints(
    device: &DeviceId,
    known: &Registered,
    home: &HomeState,
    given: (Option<&Value>, Option<&Value>, Option<&Value>),
) -> Result<Vec<Desired>, PlanError> {
    let features = &known.description.features;
    let milli = |v: Option<&Value>| match v {
        Some(Value::Temperature(m)) => Some(*m),
        _ => None,
    };
    let (target, heating, cooling) = (milli(given.0), milli(given.1), milli(given.2));
    let takes = |p: Property| known.description.properties.get(&p).is_some_and(|d| d.command);
    if !takes(Property::OccupiedHeatingSetpoint) && !takes(Property::OccupiedCoolingSetpoint) {
        return Err(PlanError::NotSupported);
    }
    let (min, max) = range(features);
    for t in [target, heating, cooling].into_iter().flatten() {
        if t < min || t > max {
            return Err(PlanError::OutOfRange { min_milli: min, max_milli: max });
        }
    }
    if target.is_some() && (heating.is_some() || cooling.is_some()) {
        return Err(PlanError::TripleSetpointsUnsupported);
    }
    if (heating.is_some() || cooling.is_some()) && !features.dual_setpoints {
        return Err(PlanError::DualSetpointsUnsupported);
    }
    if let (Some(h), Some(c)) = (heating, cooling) {
        let min_delta_milli = features.min_setpoint_delta_milli.unwrap_or(0);
        if c.saturating_sub(h) < min_delta_milli {
            return Err(PlanError::SetpointsTooClose { min_delta_milli });
        }
    }
    let mut desired = Vec::new();
    if let Some(target) = target {
        let in_force = in_force(device, known, home);
        if let [heating, cooling] = in_force.as_slice() {
            // One target for a device that holds two set points: they move together around it, keeping their distance.
            let (Some(Value::Temperature(h)), Some(Value::Temperature(c))) =
                (newest(device, home, *heating), newest(device, home, *cooling))
            else {
                return Err(PlanError::NotKnown);
            };
            let half = (c.saturating_sub(h) / 2).max(0);
            for (property, t) in [(*heating, target.saturating_sub(half)), (*cooling, target.saturating_add(half))] {
                desired.push(Desired { property, value: Value::Temperature(t.clamp(min, max)) });
            }
        } else {
            desired
                .extend(in_force.into_iter().map(|property| Desired { property, value: Value::Temperature(target) }));
        }
    }
    for (property, t) in [(Property::OccupiedHeatingSetpoint, heating), (Property::OccupiedCoolingSetpoint, cooling)] {
        if let Some(t) = t {
            if !takes(property) {
                return Err(PlanError::NotSupported);
            }
            desired.push(Desired { property, value: Value::Temperature(t) });
        }
    }
    if desired.is_empty() { Err(PlanError::NotSupported) } else { Ok(desired) }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use model::{Class, Timestamp};

    use super::*;
    use crate::registry::{Description, PropertyDescription};

    fn thermostat(dual: bool) -> Registered {
        let d = PropertyDescription { class: Class::None, command: true };
        let mut properties = BTreeMap::from([(Property::OccupiedHeatingSetpoint, d), (Property::SystemMode, d)]);
        if dual {
            properties.insert(Property::OccupiedCoolingSetpoint, d);
        }
        Registered {
            description: Description {
                properties,
                features: Features {
                    modes: vec![SystemMode::Off, SystemMode::Heat, SystemMode::Auto],
                    dual_setpoints: dual,
                    single_setpoint: true,
                    min_setpoint_delta_milli: Some(2000),
                    ..Features::default()
                },
                ..Description::default()
            },
            pins: BTreeMap::new(),
            household_name: None,
            present: true,
        }
    }

    fn target(milli: i32) -> Command {
        Command::SetSetpoint { target: Some(Value::Temperature(milli)), heating: None, cooling: None }
    }

    #[test]
    fn one_target_serves_the_mode_in_force() {
        let id = DeviceId::new("t").unwrap();
        let mut home = HomeState::default();
        let at = Timestamp::from_millis(1);
        let plan1 = plan(&id, &thermostat(false), &home, &target(21_000)).unwrap();
        assert_eq!(plan1, [Desired { property: Property::OccupiedHeatingSetpoint, value: Value::Temperature(21_000) }]);
        home.desire(id.clone(), Property::SystemMode, Value::SystemMode(SystemMode::Auto), at);
        home.desire(id.clone(), Property::OccupiedHeatingSetpoint, Value::Temperature(20_000), at);
        home.desire(id.clone(), Property::OccupiedCoolingSetpoint, Value::Temperature(24_000), at);
        let plan2 = plan(&id, &thermostat(true), &home, &target(21_000)).unwrap();
        let values: Vec<_> = plan2.into_iter().map(|d| d.value).collect();
        assert_eq!(values, [Value::Temperature(19_000), Value::Temperature(23_000)]);
    }

    #[test]
    fn each_wrong_command_has_its_own_answer() {
        let id = DeviceId::new("t").unwrap();
        let home = HomeState::default();
        let single = thermostat(false);
        let p = |c: Command| plan(&id, &single, &home, &c);
        assert!(matches!(p(target(90_000)), Err(PlanError::OutOfRange { min_milli: 7_000, max_milli: 35_000 })));
        let two = |h, c| Command::SetSetpoint {
            target: None,
            heating: Some(Value::Temperature(h)),
            cooling: Some(Value::Temperature(c)),
        };
        assert_eq!(p(two(20_000, 24_000)), Err(PlanError::DualSetpointsUnsupported));
        assert_eq!(
            plan(&id, &thermostat(true), &home, &two(20_000, 21_000)),
            Err(PlanError::SetpointsTooClose { min_delta_milli: 2000 })
        );
        assert_eq!(p(Command::SetSystemMode(SystemMode::Cool)), Err(PlanError::UnsupportedMode));
        assert_eq!(p(Command::AdjustSetpoint { delta_milli: 1000 }), Err(PlanError::NotKnown));
        assert_eq!(p(Command::SetOnOff(true)), Err(PlanError::NotSupported));
    }
}
