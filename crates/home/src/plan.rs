//! A command becomes desired values.

use disclosure::{ActError, Command, Features};
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
    /// The device has no schedule, or takes no set point for a limited time.
    #[error("the device takes no schedule")]
    ScheduleUnsupported,
    /// There is nothing to start from: the value to change is not known yet.
    #[error("the value to change is not known yet")]
    NotKnown,
}

/// The set point range of a device, in thousandths of a degree Celsius.
pub(crate) fn range(features: &Features) -> (i32, i32) {
    let min = features.min_setpoint_milli.unwrap_or(MIN_SETPOINT_MILLI);
    (min, features.max_setpoint_milli.unwrap_or(MAX_SETPOINT_MILLI).max(min))
}

/// The range of white of a lamp that names none, in kelvin (Home Assistant's default: 500 to 153 mireds).
const COLOR_KELVIN: (u16, u16) = (2_000, 6_535);

/// The nearest white that a lamp has, in kelvin.
pub fn nearest_white(features: &Features, wanted: i32) -> u16 {
    let min = features.min_color_kelvin.unwrap_or(COLOR_KELVIN.0);
    let max = features.max_color_kelvin.unwrap_or(COLOR_KELVIN.1).max(min);
    wanted.clamp(i32::from(min), i32::from(max)) as u16
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
    let takes = |p: Property| takes(known, p);
    let one = |property: Property, value: Value| {
        if takes(property) { Ok(vec![Desired { property, value }]) } else { Err(PlanError::NotSupported) }
    };
    let percent = |property: Property, delta: i32| match newest(device, home, property) {
        Some(Value::Percent(now)) => {
            let level = i32::from(now).saturating_add(delta).clamp(0, 10_000);
            one(property, Value::Percent(level as u16))
        }
        _ => Err(if takes(property) { PlanError::NotKnown } else { PlanError::NotSupported }),
    };
    let kelvin = |wanted: i32| Value::ColorTemperature(nearest_white(&known.description.features, wanted));
    match command {
        Command::SetSetpoint { target, heating, cooling } => {
            setpoints(device, known, home, (target.as_ref(), heating.as_ref(), cooling.as_ref()))
        }
        Command::HoldSetpoint { target, heating, cooling, minutes } => {
            if !known.description.features.schedules || !takes(Property::SetpointHoldDuration) {
                return Err(PlanError::ScheduleUnsupported);
            }
            let mut desired = setpoints(device, known, home, (target.as_ref(), heating.as_ref(), cooling.as_ref()))?;
            desired.push(Desired { property: Property::SetpointHoldDuration, value: Value::Minutes(*minutes) });
            Ok(desired)
        }
        Command::ResumeSchedule => match one(Property::SetpointHold, Value::Bool(false)) {
            Err(PlanError::NotSupported) => Err(PlanError::ScheduleUnsupported),
            planned => planned,
        },
        Command::AdjustSetpoint { delta_milli } => adjust(device, known, home, *delta_milli),
        Command::SetSystemMode(mode) => {
            if takes(Property::SystemMode) && !known.description.features.modes.contains(mode) {
                return Err(PlanError::UnsupportedMode);
            }
            one(Property::SystemMode, Value::SystemMode(*mode))
        }
        Command::SetOnOff(on) => one(Property::OnOff, Value::Bool(*on)),
        Command::SetLevel(level) => one(Property::CurrentLevel, Value::Percent((*level).min(10_000))),
        Command::AdjustLevel(delta) => percent(Property::CurrentLevel, *delta),
        Command::SetColorTemperature(wanted) => one(Property::ColorTemperature, kelvin(i32::from(*wanted))),
        Command::AdjustColorTemperature(delta) => match newest(device, home, Property::ColorTemperature) {
            Some(Value::ColorTemperature(now)) => {
                one(Property::ColorTemperature, kelvin(i32::from(now).saturating_add(*delta)))
            }
            _ if takes(Property::ColorTemperature) => Err(PlanError::NotKnown),
            _ => Err(PlanError::NotSupported),
        },
        Command::SetColor(color) => one(Property::Color, Value::Color(*color)),
        Command::SetPart(part, to) => one(part.property(), Value::Percent((*to).min(10_000))),
        Command::AdjustPart(part, delta) => percent(part.property(), *delta),
        Command::SetOscillation(on) => one(Property::FanOscillation, Value::Bool(*on)),
        Command::SetFanDirection(way) => one(Property::FanDirection, Value::FanDirection(*way)),
        Command::ActivateScene => one(Property::Scene, Value::Bool(true)),
        Command::SetLock(state) => one(Property::LockState, Value::LockState(*state)),
        Command::SetDoor(state) => one(Property::DoorState, Value::DoorState(*state)),
    }
}

/// What the home's state has against a command, the weightiest first. Each of them tells that state, so it is said only
/// to a link that may see it; for any other the command goes to the device, as it is planned.
pub fn objections(device: &DeviceId, known: &Registered, home: &HomeState, command: &Command) -> Vec<ActError> {
    // What it has no more is told by no error either.
    let sample = |p: Property| home.reported(device, p).filter(|_| known.has(p));
    let reported = |p: Property| sample(p).map(|s| &s.value);
    let mut all = Vec::new();
    if reported(Property::Reachable) == Some(&Value::Bool(false)) {
        all.push(ActError::Unreachable);
    }
    let is_setpoint =
        matches!(command, Command::SetSetpoint { .. } | Command::HoldSetpoint { .. } | Command::AdjustSetpoint { .. });
    match reported(Property::SystemMode) {
        Some(Value::SystemMode(SystemMode::Off)) if is_setpoint => all.push(ActError::ThermostatIsOff),
        Some(Value::SystemMode(SystemMode::FanOnly)) if is_setpoint => all.push(ActError::UnwillingToSet),
        _ => {}
    }
    if let Command::SetSetpoint { target: None, heating, cooling }
    | Command::HoldSetpoint { target: None, heating, cooling, .. } = command
        && let Some(min_delta_milli) = known.description.features.min_setpoint_delta_milli
    {
        let milli = |v: Option<Value>| match v {
            Some(Value::Temperature(m)) => Some(m),
            _ => None,
        };
        // By what the device reports: what another link has asked for meanwhile is nobody's business.
        let now = |p: Property| milli(reported(p).cloned());
        let (heat, cool) = (Property::OccupiedHeatingSetpoint, Property::OccupiedCoolingSetpoint);
        let gap = match (milli(heating.clone()), milli(cooling.clone())) {
            (Some(h), None) => now(cool).map(|c| (c.saturating_sub(h), cool)),
            (None, Some(c)) => now(heat).map(|h| (c.saturating_sub(h), heat)),
            _ => None,
        };
        if let Some((gap, other)) = gap
            && gap < min_delta_milli
        {
            all.push(ActError::TooCloseToOther { min_delta_milli, other });
        }
    }
    if matches!(command, Command::AdjustColorTemperature(_)) {
        let time = |p: Property| sample(p).map(|s| s.time);
        // A lamp reports what it shows: a colour, or a white. The younger of the two is on.
        if time(Property::Color).is_some_and(|c| time(Property::ColorTemperature).is_none_or(|w| c > w)) {
            all.push(ActError::ShowsColor);
        }
    }
    all
}

fn takes(known: &Registered, property: Property) -> bool {
    known.description.properties.get(&property).is_some_and(|d| d.command)
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
    let mode = match newest(device, home, Property::SystemMode) {
        Some(Value::SystemMode(m)) => Some(m),
        _ => None,
    };
    let (heating, cooling) = (Property::OccupiedHeatingSetpoint, Property::OccupiedCoolingSetpoint);
    // A device that takes three has one of its own for every mode but change-over.
    if takes(known, Property::OccupiedSetpoint) && mode != Some(SystemMode::Auto) {
        return vec![Property::OccupiedSetpoint];
    }
    let wanted: &[Property] = match mode {
        Some(SystemMode::Cool | SystemMode::Dry) => &[cooling],
        Some(SystemMode::Auto) => &[heating, cooling],
        _ => &[heating],
    };
    let fits: Vec<Property> = wanted.iter().copied().filter(|p| takes(known, *p)).collect();
    if fits.is_empty() { [heating, cooling].into_iter().filter(|p| takes(known, *p)).take(1).collect() } else { fits }
}

/// Warmer or cooler. Two set points keep their distance: the band stops as a whole at the end of the device's range.
fn adjust(device: &DeviceId, known: &Registered, home: &HomeState, delta: i32) -> Result<Vec<Desired>, PlanError> {
    let (min, max) = range(&known.description.features);
    let mut now = Vec::new();
    for property in in_force(device, known, home) {
        let Some(Value::Temperature(t)) = newest(device, home, property) else { return Err(PlanError::NotKnown) };
        now.push((property, t));
    }
    let (Some(low), Some(high)) = (now.iter().map(|(_, t)| *t).min(), now.iter().map(|(_, t)| *t).max()) else {
        return Err(PlanError::NotSupported);
    };
    let (down, up) = (min.saturating_sub(low).min(0), max.saturating_sub(high).max(0));
    let delta = delta.clamp(down, up);
    let moved = |(property, t): (Property, i32)| {
        let value = Value::Temperature(t.saturating_add(delta).clamp(min, max));
        Desired { property, value }
    };
    Ok(now.into_iter().map(moved).collect())
}

/// One target for a device that holds two set points: the band moves until its nearest edge is at the target, and keeps
/// its width. The nearest edge is the one that is at work in this season: whoever asks for 21 °C in winter wants it to be
/// heated to 21 °C, and not to half a band below it, which centring the band would give. Asking again moves nothing.
///
/// At the end of the device's range the band gets narrower, down to the least distance; if that is not enough, the other
/// edge takes the target.
fn shift(heating: i32, cooling: i32, target: i32, least: i32, (min, max): (i32, i32)) -> (i32, i32) {
    let width = cooling.saturating_sub(heating).max(least).max(0);
    let by_heating = (target, target.saturating_add(width).min(max));
    let by_cooling = (target.saturating_sub(width).max(min), target);
    let fits = |(h, c): (i32, i32)| c.saturating_sub(h) >= least;
    let to_heating = target.saturating_sub(heating).saturating_abs() <= target.saturating_sub(cooling).saturating_abs();
    let (first, second) = if to_heating { (by_heating, by_cooling) } else { (by_cooling, by_heating) };
    if fits(first) || !fits(second) { first } else { second }
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
    if ![Property::OccupiedHeatingSetpoint, Property::OccupiedCoolingSetpoint, Property::OccupiedSetpoint]
        .into_iter()
        .any(|p| takes(known, p))
    {
        return Err(PlanError::NotSupported);
    }
    // How many set points fit the device comes before where they lie: the first is what a person can mend.
    if target.is_some() && (heating.is_some() || cooling.is_some()) && !features.triple_setpoints {
        return Err(PlanError::TripleSetpointsUnsupported);
    }
    if (heating.is_some() || cooling.is_some()) && !features.dual_setpoints {
        return Err(PlanError::DualSetpointsUnsupported);
    }
    let least = features.min_setpoint_delta_milli.unwrap_or(0);
    if let (Some(h), Some(c)) = (heating, cooling)
        && c.saturating_sub(h) < least
    {
        return Err(PlanError::SetpointsTooClose { min_delta_milli: least });
    }
    let (min, max) = range(features);
    for t in [target, heating, cooling].into_iter().flatten() {
        if t < min || t > max {
            return Err(PlanError::OutOfRange { min_milli: min, max_milli: max });
        }
    }
    let mut desired = Vec::new();
    let mut push = |property: Property, t: i32| {
        desired.push(Desired { property, value: Value::Temperature(t) });
    };
    let alone = heating.is_none() && cooling.is_none();
    match target {
        Some(target) if !alone => push(Property::OccupiedSetpoint, target),
        Some(target) => {
            let in_force = in_force(device, known, home);
            if let [heating, cooling] = in_force.as_slice() {
                let (Some(Value::Temperature(h)), Some(Value::Temperature(c))) =
                    (newest(device, home, *heating), newest(device, home, *cooling))
                else {
                    return Err(PlanError::NotKnown);
                };
                let (h, c) = shift(h, c, target, least, (min, max));
                push(*heating, h);
                push(*cooling, c);
            } else {
                in_force.into_iter().for_each(|property| push(property, target));
            }
        }
        None => {}
    }
    for (property, t) in [(Property::OccupiedHeatingSetpoint, heating), (Property::OccupiedCoolingSetpoint, cooling)] {
        if let Some(t) = t {
            push(property, t);
        }
    }
    if desired.is_empty() || !desired.iter().all(|d| takes(known, d.property)) {
        return Err(PlanError::NotSupported);
    }
    Ok(desired)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use model::{Class, Timestamp};
    use proptest::prelude::*;

    use super::*;
    use crate::Wall;
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
            household_room: None,
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
        // The heating edge is the nearest: it goes to the target, and the band keeps its width.
        assert_eq!(values, [Value::Temperature(21_000), Value::Temperature(25_000)]);
    }

    #[test]
    fn a_single_set_point_in_auto_moves_the_band_by_its_nearest_edge_and_keeps_its_width() {
        let (range, least) = ((7_000, 35_000), 2_000);
        for (target, expected) in [
            (21_000, (21_000, 25_000)),
            (23_500, (19_500, 23_500)),
            (22_000, (22_000, 26_000)),
            (18_000, (18_000, 22_000)),
            (28_000, (24_000, 28_000)),
            // At the end of the range the band gets narrower, never narrower than it may.
            (9_000, (9_000, 13_000)),
            (34_500, (30_500, 34_500)),
        ] {
            assert_eq!(shift(20_000, 24_000, target, least, range), expected, "{target}");
        }
        // The nearest edge has no room for the least distance: the other takes the target.
        assert_eq!(shift(34_000, 35_000, 34_000, least, range), (32_000, 34_000));
        assert_eq!(shift(7_000, 9_000, 8_500, least, range), (8_500, 10_500));
    }

    proptest! {
        /// Whatever is asked, one edge is the target, the band is in range and as wide as it must be, and asking again
        /// changes nothing.
        #[test]
        fn a_shifted_band_holds_the_target(h in 7_000i32..33_000, width in 2_000i32..8_000, target in 7_000i32..=35_000) {
            let (range, least) = ((7_000, 35_000), 2_000);
            let c = (h + width).min(35_000);
            let (lower, upper) = shift(h, c, target, least, range);
            prop_assert!(lower == target || upper == target);
            prop_assert!(lower >= 7_000 && upper <= 35_000 && upper - lower >= least, "{lower} {upper}");
            prop_assert_eq!(shift(lower, upper, target, least, range), (lower, upper));
        }
    }

    #[test]
    fn a_band_that_is_moved_stops_as_a_whole_at_the_end_of_the_range() {
        let (id, at) = (DeviceId::new("t").unwrap(), Timestamp::from_millis(1));
        let mut home = HomeState::default();
        home.desire(id.clone(), Property::SystemMode, Value::SystemMode(SystemMode::Auto), at);
        home.desire(id.clone(), Property::OccupiedHeatingSetpoint, Value::Temperature(28_000), at);
        home.desire(id.clone(), Property::OccupiedCoolingSetpoint, Value::Temperature(32_000), at);
        let moved = plan(&id, &thermostat(true), &home, &Command::AdjustSetpoint { delta_milli: 9_000 }).unwrap();
        let values: Vec<_> = moved.into_iter().map(|d| d.value).collect();
        assert_eq!(values, [Value::Temperature(31_000), Value::Temperature(35_000)]);
    }

    #[test]
    fn what_the_state_has_against_a_command_is_told_apart_from_what_the_device_has() {
        let (id, at) = (DeviceId::new("t").unwrap(), Timestamp::from_millis(1));
        let mut home = HomeState::default();
        let dual = thermostat(true);
        let heat = |t| Command::SetSetpoint { target: None, heating: Some(Value::Temperature(t)), cooling: None };
        assert_eq!(objections(&id, &dual, &home, &heat(23_000)), []);
        let (cool, value) = (Property::OccupiedCoolingSetpoint, Value::Temperature(24_000));
        let reading = crate::Reading { device: id.clone(), property: cool, value, time: at };
        home.report(reading, &[], &Wall::NONE);
        // What somebody has asked for is not told by an error: the device has not taken it.
        home.desire(id.clone(), cool, Value::Temperature(30_000), Timestamp::from_millis(2));
        assert_eq!(objections(&id, &dual, &home, &heat(22_000)), []);
        let too_close = ActError::TooCloseToOther { min_delta_milli: 2_000, other: Property::OccupiedCoolingSetpoint };
        assert_eq!(objections(&id, &dual, &home, &heat(22_001)), [too_close]);
        // It could be carried out all the same.
        assert!(plan(&id, &dual, &home, &heat(22_001)).is_ok());
        for (mode, expected) in
            [(SystemMode::Off, ActError::ThermostatIsOff), (SystemMode::FanOnly, ActError::UnwillingToSet)]
        {
            let value = Value::SystemMode(mode);
            let reading = crate::Reading { device: id.clone(), property: Property::SystemMode, value, time: at };
            home.report(reading, &[], &Wall::NONE);
            assert_eq!(objections(&id, &dual, &home, &target(21_000)), [expected]);
            assert_eq!(objections(&id, &dual, &home, &Command::SetSystemMode(SystemMode::Heat)), []);
        }
    }

    #[test]
    fn three_set_points_and_timed_ones_go_to_devices_that_take_them() {
        let id = DeviceId::new("t").unwrap();
        let home = HomeState::default();
        let mut triple = thermostat(true);
        triple.description.features.triple_setpoints = true;
        let d = PropertyDescription { class: Class::None, command: true };
        triple.description.properties.insert(Property::OccupiedSetpoint, d);
        let all = |dual: &Registered| {
            let t = |m| Some(Value::Temperature(m));
            let command = Command::SetSetpoint { target: t(21_000), heating: t(20_000), cooling: t(24_000) };
            plan(&id, dual, &home, &command)
        };
        let planned: Vec<_> = all(&triple).unwrap().into_iter().map(|d| d.property).collect();
        let (heat, cool) = (Property::OccupiedHeatingSetpoint, Property::OccupiedCoolingSetpoint);
        assert_eq!(planned, [Property::OccupiedSetpoint, heat, cool]);
        assert_eq!(all(&thermostat(true)), Err(PlanError::TripleSetpointsUnsupported));
        // Alone, the target is the device's own single set point, save while it changes over.
        assert_eq!(plan(&id, &triple, &home, &target(21_000)).unwrap()[0].property, Property::OccupiedSetpoint);

        let hold = Command::HoldSetpoint {
            target: Some(Value::Temperature(21_000)),
            heating: None,
            cooling: None,
            minutes: 90,
        };
        assert_eq!(plan(&id, &triple, &home, &hold), Err(PlanError::ScheduleUnsupported));
        assert_eq!(plan(&id, &triple, &home, &Command::ResumeSchedule), Err(PlanError::ScheduleUnsupported));
        triple.description.features.schedules = true;
        triple.description.properties.insert(Property::SetpointHoldDuration, d);
        triple.description.properties.insert(Property::SetpointHold, d);
        let held = plan(&id, &triple, &home, &hold).unwrap();
        assert_eq!(held[1], Desired { property: Property::SetpointHoldDuration, value: Value::Minutes(90) });
        let resumed = plan(&id, &triple, &home, &Command::ResumeSchedule).unwrap();
        assert_eq!(resumed, [Desired { property: Property::SetpointHold, value: Value::Bool(false) }]);
    }

    #[test]
    fn a_lamp_gets_the_nearest_white_that_it_has() {
        let id = DeviceId::new("t").unwrap();
        let mut lamp = thermostat(false);
        let d = PropertyDescription { class: Class::Light, command: true };
        lamp.description.properties.insert(Property::ColorTemperature, d);
        lamp.description.features.max_color_kelvin = Some(5_000);
        let mut home = HomeState::default();
        let white = |home: &HomeState, c: Command| plan(&id, &lamp, home, &c).map(|d| d[0].value.clone());
        assert_eq!(white(&home, Command::SetColorTemperature(7_000)), Ok(Value::ColorTemperature(5_000)));
        assert_eq!(white(&home, Command::AdjustColorTemperature(500)), Err(PlanError::NotKnown));
        home.desire(id.clone(), Property::ColorTemperature, Value::ColorTemperature(2_200), Timestamp::default());
        assert_eq!(white(&home, Command::AdjustColorTemperature(-500)), Ok(Value::ColorTemperature(2_000)));
    }

    #[test]
    fn that_a_lamp_shows_a_colour_is_not_told_once_it_has_none() {
        let id = DeviceId::new("t").unwrap();
        let mut lamp = thermostat(false);
        let d = PropertyDescription { class: Class::Light, command: true };
        lamp.description.properties.extend([(Property::ColorTemperature, d), (Property::Color, d)]);
        let mut home = HomeState::default();
        let value = Value::Color(model::Color { hue: 100, saturation: 100 });
        let time = Timestamp::from_millis(1);
        let reading = crate::Reading { device: id.clone(), property: Property::Color, value, time };
        home.report(reading, &[], &Wall::NONE);
        let whiter = Command::AdjustColorTemperature(500);
        assert_eq!(objections(&id, &lamp, &home, &whiter), [ActError::ShowsColor]);
        lamp.description.properties.remove(&Property::Color);
        assert_eq!(objections(&id, &lamp, &home, &whiter), []);
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
