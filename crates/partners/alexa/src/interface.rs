//! Which property of the house is which property of Alexa: one table, from which Discovery's flags and every context
//! are made.
//!
//! | Alexa | house |
//! |---|---|
//! | ThermostatController.targetSetpoint | the set point in force, of a device that takes one at a time |
//! | ThermostatController.lowerSetpoint, upperSetpoint | heating and cooling set point, of a device that takes both |
//! | ThermostatController.thermostatMode | mode |
//! | TemperatureSensor.temperature | room temperature |
//! | HumiditySensor.relativeHumidity | humidity |
//! | ContactSensor.detectionState | contact |
//! | MotionSensor.detectionState | motion, else occupancy (Alexa has no word of its own for it) |
//! | LockController.lockState | lock state |
//! | ModeController.mode, `GarageDoor.Position` | door state of a garage door |
//! | ModeController.mode, `Blind.Position` | door state of a cover whose position nobody may command or see |
//! | RangeController.rangeValue, `Blind.Lift`, `Blind.Tilt` | cover position, slat tilt |
//! | RangeController.rangeValue, `Fan.Speed` | fan speed |
//! | ToggleController.toggleState, `Fan.Oscillate` | fan oscillation |
//! | ModeController.mode, `Fan.Direction` | fan direction |
//! | PowerController.powerState | power |
//! | BrightnessController.brightness | brightness |
//! | ColorTemperatureController.colorTemperatureInKelvin | white tone |
//! | ColorController.color | colour and brightness: Alexa's colour holds both |
//! | PowerLevelController.powerLevel | fan speed |
//! | PercentageController.percentage | cover position |
//! | ThermostatController.HVAC.Components | running state |
//! | SceneController | scene: no state |
//! | EndpointHealth.connectivity, battery | reachability, battery |
//!
//! What is not in the table never reaches Alexa: CO2, VOC, power, energy, outdoor temperature, hold. Alarms (smoke, carbon
//! monoxide, water) neither: the interface for them, EventDetectionSensor, was withdrawn by Amazon in February 2023.
//! Energy would go by DeviceUsage.Meter, in events of its own over closed intervals: it stays undeclared, since Amazon's words
//! for its unit and its way of measuring could not be looked up.

use disclosure::{Capability, Disclosed, EndpointView};
use model::{
    DeviceType, DoorState, EndpointId, FanDirection, LockState, Property, Rung, RunningState, SystemMode,
    TemperatureScale, Timestamp, Value,
};
use serde_json::{Value as Json, json};

use crate::event::{CONSTANT_GRID_MS, disclosed, property};

/// A capability of Alexa: an interface, and which instance of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Interface {
    Thermostat,
    Hvac,
    Temperature,
    Humidity,
    Contact,
    Motion,
    Lock,
    GarageDoor,
    BlindMode,
    BlindLift,
    BlindTilt,
    FanSpeed,
    FanSwing,
    FanDirection,
    Power,
    Brightness,
    ColorTemperature,
    Color,
    PowerLevel,
    Percentage,
    Scene,
    Health,
}

/// Every interface, in the order of Discovery.
pub(crate) const INTERFACES: [Interface; 22] = [
    Interface::Thermostat,
    Interface::Hvac,
    Interface::Temperature,
    Interface::Humidity,
    Interface::Contact,
    Interface::Motion,
    Interface::Lock,
    Interface::GarageDoor,
    Interface::BlindMode,
    Interface::BlindLift,
    Interface::BlindTilt,
    Interface::FanSpeed,
    Interface::FanSwing,
    Interface::FanDirection,
    Interface::Power,
    Interface::Brightness,
    Interface::ColorTemperature,
    Interface::Color,
    Interface::PowerLevel,
    Interface::Percentage,
    Interface::Scene,
    Interface::Health,
];

impl Interface {
    pub(crate) fn namespace(self) -> &'static str {
        match self {
            Interface::Thermostat => "Alexa.ThermostatController",
            Interface::Hvac => "Alexa.ThermostatController.HVAC.Components",
            Interface::Temperature => "Alexa.TemperatureSensor",
            Interface::Humidity => "Alexa.HumiditySensor",
            Interface::Contact => "Alexa.ContactSensor",
            Interface::Motion => "Alexa.MotionSensor",
            Interface::Lock => "Alexa.LockController",
            Interface::GarageDoor | Interface::BlindMode | Interface::FanDirection => "Alexa.ModeController",
            Interface::BlindLift | Interface::BlindTilt | Interface::FanSpeed => "Alexa.RangeController",
            Interface::FanSwing => "Alexa.ToggleController",
            Interface::Power => "Alexa.PowerController",
            Interface::Brightness => "Alexa.BrightnessController",
            Interface::ColorTemperature => "Alexa.ColorTemperatureController",
            Interface::Color => "Alexa.ColorController",
            Interface::PowerLevel => "Alexa.PowerLevelController",
            Interface::Percentage => "Alexa.PercentageController",
            Interface::Scene => "Alexa.SceneController",
            Interface::Health => "Alexa.EndpointHealth",
        }
    }

    pub(crate) fn version(self) -> &'static str {
        match self {
            Interface::Thermostat => "3.2",
            Interface::Hvac => "1.0",
            Interface::Health => "3.1",
            _ => "3",
        }
    }

    pub(crate) fn instance(self) -> Option<&'static str> {
        match self {
            Interface::GarageDoor => Some("GarageDoor.Position"),
            Interface::BlindMode => Some("Blind.Position"),
            Interface::BlindLift => Some("Blind.Lift"),
            Interface::BlindTilt => Some("Blind.Tilt"),
            Interface::FanSpeed => Some("Fan.Speed"),
            Interface::FanSwing => Some("Fan.Oscillate"),
            Interface::FanDirection => Some("Fan.Direction"),
            _ => None,
        }
    }

    /// The interface of a namespace with this instance.
    pub(crate) fn of(namespace: &str, instance: Option<&str>) -> Option<Interface> {
        INTERFACES.into_iter().find(|i| i.namespace() == namespace && i.instance() == instance)
    }
}

/// Mode of an open garage door or cover.
pub(crate) const DOOR_UP: &str = "Position.Up";

/// Mode of a closed garage door or cover.
pub(crate) const DOOR_DOWN: &str = "Position.Down";

/// Mode of a fan that turns the usual way.
pub(crate) const FORWARD: &str = "Direction.Forward";

/// Mode of a fan that turns the other way.
pub(crate) const REVERSE: &str = "Direction.Reverse";

/// A battery at or below this level, in percent, is low.
const BATTERY_LOW: u16 = 20;

/// What a property of Alexa is told from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Source {
    One(Property),
    /// The first of these that is granted.
    FirstOf(&'static [Property]),
    /// Both, on one rung: the second without the first tells nothing here.
    Both(Property, Property),
    /// The set point that the mode makes count.
    SetpointInForce,
}

/// One property of Alexa.
#[derive(Debug)]
pub(crate) struct Slot {
    pub(crate) interface: Interface,
    pub(crate) name: &'static str,
    source: Source,
    /// Commands of these set it.
    commanded_by: &'static [Property],
    /// Devices that have it.
    of: fn(&EndpointView) -> bool,
}

const SETPOINTS: &[Property] = &[Property::OccupiedHeatingSetpoint, Property::OccupiedCoolingSetpoint];

const ANY_SETPOINT: &[Property] =
    &[Property::OccupiedHeatingSetpoint, Property::OccupiedCoolingSetpoint, Property::OccupiedSetpoint];

/// Name of the slot for one set point.
pub(crate) const TARGET: &str = "targetSetpoint";
/// Name of the slot for the heating set point.
pub(crate) const LOWER: &str = "lowerSetpoint";
/// Name of the slot for the cooling set point.
pub(crate) const UPPER: &str = "upperSetpoint";

const fn sensor(interface: Interface, name: &'static str, property: Property) -> Slot {
    Slot { interface, name, source: Source::One(property), commanded_by: &[], of: |_| true }
}

const fn control(
    interface: Interface,
    name: &'static str,
    commanded_by: &'static [Property],
    property: Property,
    of: fn(&EndpointView) -> bool,
) -> Slot {
    Slot { interface, name, source: Source::One(property), commanded_by, of }
}

/// True for a cover that closes a window, not the home.
fn is_blind(view: &EndpointView) -> bool {
    view.device_type == DeviceType::WindowCovering
}

/// The table, in the order of every context.
pub(crate) static SLOTS: [Slot; 27] = [
    Slot {
        interface: Interface::Thermostat,
        name: TARGET,
        source: Source::SetpointInForce,
        commanded_by: ANY_SETPOINT,
        of: |v| v.features.single_setpoint || !v.features.dual_setpoints,
    },
    control(
        Interface::Thermostat,
        LOWER,
        &[Property::OccupiedHeatingSetpoint],
        Property::OccupiedHeatingSetpoint,
        |v| v.features.dual_setpoints,
    ),
    control(
        Interface::Thermostat,
        UPPER,
        &[Property::OccupiedCoolingSetpoint],
        Property::OccupiedCoolingSetpoint,
        |v| v.features.dual_setpoints,
    ),
    control(Interface::Thermostat, "thermostatMode", &[Property::SystemMode], Property::SystemMode, |_| true),
    Slot { of: heats, ..sensor(Interface::Hvac, HEATER, Property::RunningState) },
    Slot { of: cools, ..sensor(Interface::Hvac, COOLER, Property::RunningState) },
    sensor(Interface::Temperature, "temperature", Property::LocalTemperature),
    sensor(Interface::Humidity, "relativeHumidity", Property::RelativeHumidity),
    sensor(Interface::Contact, "detectionState", Property::ContactOpen),
    Slot {
        interface: Interface::Motion,
        name: "detectionState",
        source: Source::FirstOf(&[Property::Motion, Property::Occupancy]),
        commanded_by: &[],
        of: |_| true,
    },
    control(Interface::Lock, "lockState", &[Property::LockState], Property::LockState, |_| true),
    control(Interface::GarageDoor, "mode", &[Property::DoorState], Property::DoorState, |v| {
        v.device_type == DeviceType::GarageDoor
    }),
    control(Interface::BlindMode, "mode", &[Property::DoorState], Property::DoorState, |v| {
        is_blind(v) && capability(v, Property::CoverPosition).is_none()
    }),
    control(Interface::BlindLift, "rangeValue", &[Property::CoverPosition], Property::CoverPosition, is_blind),
    control(Interface::BlindTilt, "rangeValue", &[Property::CoverTilt], Property::CoverTilt, is_blind),
    control(Interface::FanSpeed, "rangeValue", &[Property::FanPercent], Property::FanPercent, |_| true),
    control(Interface::FanSwing, "toggleState", &[Property::FanOscillation], Property::FanOscillation, |_| true),
    control(Interface::FanDirection, "mode", &[Property::FanDirection], Property::FanDirection, |_| true),
    control(Interface::Power, "powerState", &[Property::OnOff], Property::OnOff, |_| true),
    control(Interface::Brightness, "brightness", &[Property::CurrentLevel], Property::CurrentLevel, |_| true),
    control(
        Interface::ColorTemperature,
        "colorTemperatureInKelvin",
        &[Property::ColorTemperature],
        Property::ColorTemperature,
        |_| true,
    ),
    Slot {
        interface: Interface::Color,
        name: "color",
        source: Source::Both(Property::Color, Property::CurrentLevel),
        commanded_by: &[Property::Color],
        of: |_| true,
    },
    control(Interface::PowerLevel, "powerLevel", &[Property::FanPercent], Property::FanPercent, |_| true),
    control(Interface::Percentage, "percentage", &[Property::CoverPosition], Property::CoverPosition, is_blind),
    // A scene has no state; it is in the table so that it is found here like all else.
    control(Interface::Scene, "scene", &[Property::Scene], Property::Scene, |_| true),
    sensor(Interface::Health, "connectivity", Property::Reachable),
    sensor(Interface::Health, BATTERY, Property::BatteryPercent),
];

const HEATER: &str = "primaryHeaterOperation";
const COOLER: &str = "coolerOperation";
const BATTERY: &str = "battery";

/// What the equipment can do follows from the modes of its description.
fn heats(view: &EndpointView) -> bool {
    let modes = &view.features.modes;
    modes.contains(&SystemMode::Heat) || modes.contains(&SystemMode::EmergencyHeat)
}

fn cools(view: &EndpointView) -> bool {
    view.features.modes.contains(&SystemMode::Cool)
}

fn capability(view: &EndpointView, property: Property) -> Option<&Capability> {
    view.capabilities.iter().find(|c| c.property == property)
}

/// True when the link may command the property, be it to open alone.
pub(crate) fn commands(view: &EndpointView, property: Property) -> bool {
    capability(view, property).is_some_and(|c| c.command || c.command_open)
}

/// True when the link may open or unlock by the property.
pub(crate) fn opens(view: &EndpointView, property: Property) -> bool {
    capability(view, property).is_some_and(|c| c.command_open)
}

/// True when the link may close or lock by the property.
pub(crate) fn closes(view: &EndpointView, property: Property) -> bool {
    capability(view, property).is_some_and(|c| c.command)
}

fn polls(view: &EndpointView, property: Property) -> bool {
    capability(view, property).is_some_and(|c| c.poll)
}

fn reports(view: &EndpointView, property: Property) -> bool {
    capability(view, property).is_some_and(|c| c.proactive)
}

impl Slot {
    /// The properties without each of which the slot can't be told.
    fn sources(&self, view: &EndpointView) -> Vec<Property> {
        match self.source {
            Source::One(p) => vec![p],
            Source::Both(p, q) => vec![p, q],
            Source::FirstOf(all) => {
                all.iter().copied().find(|p| polls(view, *p) || reports(view, *p)).into_iter().collect()
            }
            Source::SetpointInForce => {
                if capability(view, Property::OccupiedSetpoint).is_some() {
                    let by_mode = (!view.features.triple_setpoints).then_some(Property::SystemMode);
                    return [Property::OccupiedSetpoint].into_iter().chain(by_mode).collect();
                }
                let known: Vec<Property> =
                    SETPOINTS.iter().copied().filter(|p| capability(view, *p).is_some()).collect();
                match known.as_slice() {
                    [_] if !view.features.dual_setpoints => known,
                    // With two of them the mode decides.
                    _ => SETPOINTS.iter().copied().chain([Property::SystemMode]).collect(),
                }
            }
        }
    }

    pub(crate) fn retrievable(&self, view: &EndpointView) -> bool {
        let sources = self.sources(view);
        !sources.is_empty() && sources.iter().all(|p| polls(view, *p))
    }

    pub(crate) fn proactive(&self, view: &EndpointView) -> bool {
        let sources = self.sources(view);
        !sources.is_empty() && sources.iter().all(|p| reports(view, *p))
    }

    /// True for the connectivity of a link that may not know it: always OK.
    pub(crate) fn is_constant(&self, view: &EndpointView) -> bool {
        let connectivity = self.interface == Interface::Health && self.name != BATTERY;
        connectivity && !polls(view, Property::Reachable) && !reports(view, Property::Reachable)
    }

    /// True when the device has it.
    pub(crate) fn is_of(&self, view: &EndpointView) -> bool {
        (self.of)(view)
    }

    /// True when the link may command it.
    pub(crate) fn commanded(&self, view: &EndpointView) -> bool {
        (self.of)(view) && self.commanded_by.iter().any(|p| commands(view, *p))
    }

    /// True when Discovery names it. Connectivity is always named, since Alexa wants it of every endpoint.
    pub(crate) fn declared(&self, view: &EndpointView) -> bool {
        if self.interface == Interface::Health && self.name != BATTERY {
            return true;
        }
        let named = self.commanded(view) || (self.interface != Interface::Scene && self.retrievable(view));
        (self.of)(view) && (named || self.proactive(view))
    }

    /// What it is told from, the value itself first.
    fn find<'a>(&self, view: &EndpointView, told: &'a [Disclosed]) -> Option<(&'a Disclosed, Option<&'a Disclosed>)> {
        let find = |p: Property| told.iter().find(|d| d.property() == p);
        match (self.source, self.sources(view).as_slice()) {
            (Source::SetpointInForce, [only]) => Some((find(*only)?, None)),
            (Source::SetpointInForce, _) => {
                let mode = find(Property::SystemMode)?;
                let own = capability(view, Property::OccupiedSetpoint).map(|_| Property::OccupiedSetpoint);
                let property = match mode.value() {
                    Value::SystemMode(SystemMode::Heat | SystemMode::EmergencyHeat) => {
                        own.unwrap_or(Property::OccupiedHeatingSetpoint)
                    }
                    Value::SystemMode(SystemMode::Cool | SystemMode::Dry) => {
                        own.unwrap_or(Property::OccupiedCoolingSetpoint)
                    }
                    _ => return None,
                };
                let setpoint = find(property)?;
                // A mode of now does not tell which set point was in force an hour ago.
                (mode.rung() == setpoint.rung()).then_some((setpoint, None))
            }
            (Source::Both(p, q), _) => {
                let (first, second) = (find(p)?, find(q)?);
                (first.rung() == second.rung()).then_some((first, Some(second)))
            }
            (_, sources) => Some((sources.first().and_then(|p| find(*p))?, None)),
        }
    }
}

/// A slot of a context, filled.
#[derive(Debug)]
pub(crate) struct Filled {
    /// Position in [`SLOTS`].
    pub(crate) slot: usize,
    /// The property of the house that it tells; none for a constant.
    pub(crate) tells: Option<Property>,
    /// Another one that it tells along with it.
    pub(crate) also: Option<Property>,
    /// As Alexa reads it.
    pub(crate) json: Json,
}

/// Everything that Alexa has a word for and that Discovery names, in the order of the table.
///
/// Connectivity: without a poll grant for it, it is the constant OK, dated on a fixed grid. It discloses nothing, and
/// keeps Alexa from calling a device broken that the household has only made silent. With a grant it is the disclosed
/// value, and nothing when there is none.
pub(crate) fn fill(view: &EndpointView, told: &[Disclosed], now: Timestamp) -> Vec<Filled> {
    let mut filled: Vec<Filled> = Vec::new();
    for (slot, s) in SLOTS.iter().enumerate().filter(|(_, s)| s.declared(view)) {
        let target_is_told = s.interface == Interface::Thermostat && filled.first().is_some_and(|f| f.slot == 0);
        if matches!(s.name, LOWER | UPPER) && target_is_told && !view.features.triple_setpoints {
            continue;
        }
        let is_connectivity = s.interface == Interface::Health && s.name != BATTERY;
        if let Some((d, second)) = s.find(view, told) {
            let Some(value) = wire(s, d.value(), second.map(Disclosed::value)) else { continue };
            // Of two values the younger dates both: the older one was still the newest of its property then.
            let later = second.filter(|other| other.time() > d.time()).unwrap_or(d);
            let json = disclosed(s.interface.namespace(), s.interface.instance(), s.name, value, later);
            filled.push(Filled { slot, tells: Some(d.property()), also: second.map(Disclosed::property), json });
        } else if is_connectivity && !polls(view, Property::Reachable) {
            let at = now.floor_to(CONSTANT_GRID_MS);
            let json = property(s.interface.namespace(), None, s.name, json!({"value": "OK"}), at, Rung::Hour);
            filled.push(Filled { slot, tells: None, also: None, json });
        }
    }
    filled
}

/// What of the home is in a context.
pub(crate) fn told_of(view: &EndpointView, filled: &[Filled]) -> Vec<(EndpointId, Property)> {
    filled.iter().flat_map(|f| [f.tells, f.also]).flatten().map(|p| (view.id.clone(), p)).collect()
}

/// A temperature as Alexa writes it; `null` for what is none, which the gate never gives.
pub(crate) fn temperature(value: &Value, scale: TemperatureScale) -> Json {
    value.as_temperature(scale).map_or(Json::Null, |degrees| json!({"value": degrees, "scale": scale}))
}

/// A mode in Alexa's words. Alexa has none for fan and drying: both are a mode of the device's own.
pub(crate) fn mode(mode: SystemMode) -> &'static str {
    match mode {
        SystemMode::Off => "OFF",
        SystemMode::Auto => "AUTO",
        SystemMode::Cool => "COOL",
        SystemMode::Heat => "HEAT",
        SystemMode::EmergencyHeat => "EM_HEAT",
        SystemMode::FanOnly | SystemMode::Dry => "CUSTOM",
    }
}

/// The mode in Alexa's words. Those that Alexa has no word for go by the names that Home Assistant gave them towards
/// Alexa, and by the house's own.
pub(crate) fn mode_said(value: &str, custom_name: Option<&str>) -> Option<SystemMode> {
    Some(match value {
        "AUTO" => SystemMode::Auto,
        "COOL" => SystemMode::Cool,
        "HEAT" => SystemMode::Heat,
        "OFF" => SystemMode::Off,
        "EM_HEAT" => SystemMode::EmergencyHeat,
        "CUSTOM" => match custom_name?.to_ascii_uppercase().as_str() {
            "FAN" | "FAN_ONLY" => SystemMode::FanOnly,
            "DEHUMIDIFY" | "DRY" => SystemMode::Dry,
            _ => return None,
        },
        // ECO among them: the house has no such mode.
        _ => return None,
    })
}

/// A part in whole percent. What is not quite closed is not closed: to say that it is could be wrong.
fn whole_percent(hundredths: u16) -> u16 {
    let nearest = hundredths.saturating_add(50) / 100;
    if hundredths > 0 { nearest.clamp(1, 100) } else { 0 }
}

/// A value in an interface's words; `None` when it is of another type.
fn wire(slot: &Slot, value: &Value, second: Option<&Value>) -> Option<Json> {
    let detected = |yes: &bool| if *yes { "DETECTED" } else { "NOT_DETECTED" };
    let on_off = |on: &bool| if *on { "ON" } else { "OFF" };
    Some(match (slot.interface, value) {
        (Interface::Thermostat | Interface::Temperature, Value::Temperature(_)) => {
            temperature(value, TemperatureScale::Celsius)
        }
        (Interface::Thermostat, Value::SystemMode(m)) => mode(*m).into(),
        (Interface::Hvac, Value::RunningState(state)) => {
            let runs = match (slot.name, state) {
                (HEATER, s) => *s == RunningState::Heating,
                // Whether drying cools, the device does not say.
                (_, RunningState::Drying) => return None,
                (_, s) => *s == RunningState::Cooling,
            };
            if runs { "STAGE_1" } else { "OFF" }.into()
        }
        (Interface::Humidity, Value::Percent(hundredths)) => (f64::from(*hundredths) / 100.0).into(),
        (Interface::Contact | Interface::Motion, Value::Bool(yes)) => detected(yes).into(),
        (Interface::Lock, Value::LockState(state)) => match state {
            LockState::Locked => "LOCKED",
            LockState::Unlocked => "UNLOCKED",
            LockState::Jammed => "JAMMED",
        }
        .into(),
        // A door on its way is not closed: to say that it is could hurt somebody.
        (Interface::GarageDoor | Interface::BlindMode, Value::DoorState(state)) => match state {
            DoorState::Open | DoorState::Opening | DoorState::Closing => DOOR_UP,
            DoorState::Closed => DOOR_DOWN,
        }
        .into(),
        (Interface::FanDirection, Value::FanDirection(way)) => match way {
            FanDirection::Forward => FORWARD,
            FanDirection::Reverse => REVERSE,
        }
        .into(),
        (Interface::Power | Interface::FanSwing, Value::Bool(on)) => on_off(on).into(),
        (
            Interface::Brightness
            | Interface::BlindLift
            | Interface::BlindTilt
            | Interface::FanSpeed
            | Interface::PowerLevel
            | Interface::Percentage,
            Value::Percent(hundredths),
        ) => whole_percent(*hundredths).into(),
        (Interface::ColorTemperature, Value::ColorTemperature(kelvin)) => (*kelvin).into(),
        (Interface::Color, Value::Color(color)) => {
            let Some(Value::Percent(level)) = second else { return None };
            json!({
                "hue": f64::from(color.hue) / 100.0,
                "saturation": f64::from(color.saturation) / 10_000.0,
                "brightness": f64::from(*level) / 10_000.0,
            })
        }
        (Interface::Health, Value::Bool(yes)) => json!({"value": if *yes { "OK" } else { "UNREACHABLE" }}),
        (Interface::Health, Value::Percent(hundredths)) => {
            let level = (hundredths.saturating_add(50) / 100).min(100);
            let low = level <= BATTERY_LOW;
            let health =
                if low { json!({"state": "WARNING", "reasons": ["LOW_CHARGE"]}) } else { json!({"state": "OK"}) };
            json!({"health": health, "levelPercentage": level})
        }
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::limits::CAPABILITIES_MAX;

    /// Peers: `Heat`, `on`, `off`, `manual` as unsupported modes. Each mode of the house has a word, and comes back.
    #[test]
    fn every_mode_of_the_house_has_a_word_for_alexa_and_comes_back() {
        let all = ["off", "auto", "cool", "heat", "emergency_heat", "fan_only", "dry"];
        for m in all.map(|text| SystemMode::parse(text).unwrap()) {
            let word = mode(m);
            let custom = (word == "CUSTOM").then_some(m.as_str());
            assert_eq!(mode_said(word, custom), Some(m));
        }
        for (value, custom) in [("Heat", None), ("on", None), ("ECO", None), ("CUSTOM", None), ("CUSTOM", Some("x"))] {
            assert_eq!(mode_said(value, custom), None, "{value} {custom:?}");
        }
    }

    #[test]
    fn a_capability_is_found_by_its_namespace_and_instance_and_there_are_few() {
        const { assert!(INTERFACES.len() < CAPABILITIES_MAX) }
        for (i, interface) in INTERFACES.into_iter().enumerate() {
            assert_eq!(interface as usize, i);
            assert_eq!(Interface::of(interface.namespace(), interface.instance()), Some(interface));
            assert!(SLOTS.iter().any(|s| s.interface == interface));
        }
        assert_eq!(Interface::of("Alexa.RangeController", None), None);
    }

    #[test]
    fn a_blind_that_is_not_quite_closed_is_not_closed() {
        for (hundredths, whole) in [(0, 0), (1, 1), (149, 1), (150, 2), (9_950, 100), (10_000, 100)] {
            assert_eq!(whole_percent(hundredths), whole);
        }
    }
}
