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
//! | PowerController.powerState | power |
//! | BrightnessController.brightness | brightness |
//! | EndpointHealth.connectivity | reachability |
//!
//! What is not in the table never reaches Alexa in this version: CO2, VOC, running state, power, energy, battery,
//! outdoor temperature, alarms, cover position, fan speed.

use disclosure::{Capability, Disclosed, EndpointView};
use model::{
    DeviceType, DoorState, EndpointId, LockState, Property, Rung, SystemMode, TemperatureScale, Timestamp, Value,
};
use serde_json::{Value as Json, json};

use crate::event::{CONSTANT_GRID_MS, disclosed, property};

/// An interface of Alexa.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Interface {
    Thermostat,
    Temperature,
    Humidity,
    Contact,
    Motion,
    Lock,
    GarageDoor,
    Power,
    Brightness,
    Health,
}

/// Every interface, in the order of Discovery.
pub(crate) const INTERFACES: [Interface; 10] = [
    Interface::Thermostat,
    Interface::Temperature,
    Interface::Humidity,
    Interface::Contact,
    Interface::Motion,
    Interface::Lock,
    Interface::GarageDoor,
    Interface::Power,
    Interface::Brightness,
    Interface::Health,
];

impl Interface {
    pub(crate) fn namespace(self) -> &'static str {
        match self {
            Interface::Thermostat => "Alexa.ThermostatController",
            Interface::Temperature => "Alexa.TemperatureSensor",
            Interface::Humidity => "Alexa.HumiditySensor",
            Interface::Contact => "Alexa.ContactSensor",
            Interface::Motion => "Alexa.MotionSensor",
            Interface::Lock => "Alexa.LockController",
            Interface::GarageDoor => "Alexa.ModeController",
            Interface::Power => "Alexa.PowerController",
            Interface::Brightness => "Alexa.BrightnessController",
            Interface::Health => "Alexa.EndpointHealth",
        }
    }

    pub(crate) fn version(self) -> &'static str {
        match self {
            Interface::Thermostat => "3.2",
            Interface::Health => "3.1",
            _ => "3",
        }
    }

    pub(crate) fn instance(self) -> Option<&'static str> {
        (self == Interface::GarageDoor).then_some(GARAGE_DOOR)
    }
}

/// Instance of the ModeController of a garage door.
pub(crate) const GARAGE_DOOR: &str = "GarageDoor.Position";

/// Mode of an open garage door.
pub(crate) const DOOR_UP: &str = "Position.Up";

/// Mode of a closed garage door.
pub(crate) const DOOR_DOWN: &str = "Position.Down";

/// What a property of Alexa is told from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Source {
    One(Property),
    /// The first of these that is granted.
    FirstOf(&'static [Property]),
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

/// The table, in the order of every context.
pub(crate) const SLOTS: [Slot; 13] = [
    Slot {
        interface: Interface::Thermostat,
        name: TARGET,
        source: Source::SetpointInForce,
        commanded_by: SETPOINTS,
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
    control(Interface::Power, "powerState", &[Property::OnOff], Property::OnOff, |_| true),
    control(Interface::Brightness, "brightness", &[Property::CurrentLevel], Property::CurrentLevel, |_| true),
    sensor(Interface::Health, "connectivity", Property::Reachable),
];

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
            Source::FirstOf(all) => {
                all.iter().copied().find(|p| polls(view, *p) || reports(view, *p)).into_iter().collect()
            }
            Source::SetpointInForce => {
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

    /// True when the link may command it.
    pub(crate) fn commanded(&self, view: &EndpointView) -> bool {
        (self.of)(view) && self.commanded_by.iter().any(|p| commands(view, *p))
    }

    /// True when Discovery names it. Connectivity is always named, since Alexa wants it of every endpoint.
    pub(crate) fn declared(&self, view: &EndpointView) -> bool {
        (self.of)(view)
            && (self.interface == Interface::Health
                || self.commanded(view)
                || self.retrievable(view)
                || self.proactive(view))
    }

    fn find<'a>(&self, view: &EndpointView, told: &'a [Disclosed]) -> Option<&'a Disclosed> {
        let find = |p: Property| told.iter().find(|d| d.property() == p);
        match (self.source, self.sources(view).as_slice()) {
            (Source::SetpointInForce, [only]) => find(*only),
            (Source::SetpointInForce, _) => {
                let mode = find(Property::SystemMode)?;
                let setpoint = match mode.value() {
                    Value::SystemMode(SystemMode::Heat | SystemMode::EmergencyHeat) => {
                        find(Property::OccupiedHeatingSetpoint)?
                    }
                    Value::SystemMode(SystemMode::Cool | SystemMode::Dry) => find(Property::OccupiedCoolingSetpoint)?,
                    _ => return None,
                };
                // A mode of now does not tell which set point was in force an hour ago.
                (mode.rung() == setpoint.rung()).then_some(setpoint)
            }
            (_, sources) => sources.first().and_then(|p| find(*p)),
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
        if matches!(s.name, LOWER | UPPER) && target_is_told {
            continue;
        }
        if let Some(d) = s.find(view, told) {
            let Some(value) = wire(s.interface, d.value()) else { continue };
            let json = disclosed(s.interface.namespace(), s.interface.instance(), s.name, value, d);
            filled.push(Filled { slot, tells: Some(d.property()), json });
        } else if s.interface == Interface::Health && !polls(view, Property::Reachable) {
            let at = now.floor_to(CONSTANT_GRID_MS);
            let json = property(s.interface.namespace(), None, s.name, json!({"value": "OK"}), at, Rung::Hour);
            filled.push(Filled { slot, tells: None, json });
        }
    }
    filled
}

/// What of the home is in a context.
pub(crate) fn told_of(view: &EndpointView, filled: &[Filled]) -> Vec<(EndpointId, Property)> {
    filled.iter().filter_map(|f| Some((view.id.clone(), f.tells?))).collect()
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

/// A value in an interface's words; `None` when it is of another type.
fn wire(interface: Interface, value: &Value) -> Option<Json> {
    let detected = |yes: &bool| if *yes { "DETECTED" } else { "NOT_DETECTED" };
    Some(match (interface, value) {
        (Interface::Thermostat | Interface::Temperature, Value::Temperature(_)) => {
            temperature(value, TemperatureScale::Celsius)
        }
        (Interface::Thermostat, Value::SystemMode(m)) => mode(*m).into(),
        (Interface::Humidity, Value::Percent(hundredths)) => (f64::from(*hundredths) / 100.0).into(),
        (Interface::Contact | Interface::Motion, Value::Bool(yes)) => detected(yes).into(),
        (Interface::Lock, Value::LockState(state)) => match state {
            LockState::Locked => "LOCKED",
            LockState::Unlocked => "UNLOCKED",
            LockState::Jammed => "JAMMED",
        }
        .into(),
        // A door on its way is not closed: to say that it is could hurt somebody.
        (Interface::GarageDoor, Value::DoorState(state)) => match state {
            DoorState::Open | DoorState::Opening | DoorState::Closing => DOOR_UP,
            DoorState::Closed => DOOR_DOWN,
        }
        .into(),
        (Interface::Power, Value::Bool(on)) => if *on { "ON" } else { "OFF" }.into(),
        (Interface::Brightness, Value::Percent(hundredths)) => (hundredths.saturating_add(50) / 100).min(100).into(),
        (Interface::Health, Value::Bool(yes)) => json!({"value": if *yes { "OK" } else { "UNREACHABLE" }}),
        _ => return None,
    })
}
