//! How sensitive a property is, and what it reveals.

use serde::{Deserialize, Serialize};

use crate::property::Property;

/// What a device is, by its main function (Matter's device types).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum DeviceType {
    /// Matter 0x0301.
    Thermostat,
    /// Matter 0x000A.
    DoorLock,
    /// A driven garage door or gate.
    GarageDoor,
    /// Matter 0x0202.
    WindowCovering,
    /// Matter 0x0101 and richer lights.
    Light,
    /// Matter 0x002B.
    Fan,
    /// A switch or plug, Matter 0x010A.
    OnOffPlug,
    /// Matter 0x0076.
    SmokeCoAlarm,
    /// Matter 0x0043.
    WaterLeakDetector,
    /// Matter 0x0107, with an occupancy or presence sensor.
    OccupancySensor,
    /// Matter 0x0015.
    ContactSensor,
    /// Matter 0x0302.
    TemperatureSensor,
    /// Matter 0x0307.
    HumiditySensor,
    /// Matter 0x002C.
    AirQualitySensor,
    /// Matter 0x0510.
    ElectricalSensor,
    /// A scene: it is started and has no state.
    Scene,
    /// Nothing above.
    Unknown,
}

impl DeviceType {
    /// Every device type.
    pub const ALL: [DeviceType; 17] = [
        DeviceType::Thermostat,
        DeviceType::DoorLock,
        DeviceType::GarageDoor,
        DeviceType::WindowCovering,
        DeviceType::Light,
        DeviceType::Fan,
        DeviceType::OnOffPlug,
        DeviceType::SmokeCoAlarm,
        DeviceType::WaterLeakDetector,
        DeviceType::OccupancySensor,
        DeviceType::ContactSensor,
        DeviceType::TemperatureSensor,
        DeviceType::HumiditySensor,
        DeviceType::AirQualitySensor,
        DeviceType::ElectricalSensor,
        DeviceType::Scene,
        DeviceType::Unknown,
    ];

    /// The name used in policies, the ledger and on the command line.
    pub fn as_str(self) -> &'static str {
        match self {
            DeviceType::Thermostat => "thermostat",
            DeviceType::DoorLock => "door_lock",
            DeviceType::GarageDoor => "garage_door",
            DeviceType::WindowCovering => "window_covering",
            DeviceType::Light => "light",
            DeviceType::Fan => "fan",
            DeviceType::OnOffPlug => "on_off_plug",
            DeviceType::SmokeCoAlarm => "smoke_co_alarm",
            DeviceType::WaterLeakDetector => "water_leak_detector",
            DeviceType::OccupancySensor => "occupancy_sensor",
            DeviceType::ContactSensor => "contact_sensor",
            DeviceType::TemperatureSensor => "temperature_sensor",
            DeviceType::HumiditySensor => "humidity_sensor",
            DeviceType::AirQualitySensor => "air_quality_sensor",
            DeviceType::ElectricalSensor => "electrical_sensor",
            DeviceType::Scene => "scene",
            DeviceType::Unknown => "unknown",
        }
    }

    /// The neutral name that a partner is given when the household has named nothing, as in "Thermostat 1".
    pub fn neutral_name(self) -> &'static str {
        match self {
            DeviceType::Thermostat => "Thermostat",
            DeviceType::DoorLock => "Lock",
            DeviceType::GarageDoor => "Garage door",
            DeviceType::WindowCovering => "Blind",
            DeviceType::Light => "Light",
            DeviceType::Fan => "Fan",
            DeviceType::OnOffPlug => "Switch",
            DeviceType::SmokeCoAlarm => "Alarm",
            DeviceType::WaterLeakDetector => "Leak sensor",
            DeviceType::OccupancySensor => "Motion sensor",
            DeviceType::ContactSensor => "Contact sensor",
            DeviceType::TemperatureSensor => "Temperature sensor",
            DeviceType::HumiditySensor => "Humidity sensor",
            DeviceType::AirQualitySensor => "Air sensor",
            DeviceType::ElectricalSensor => "Energy meter",
            DeviceType::Scene => "Scene",
            DeviceType::Unknown => "Device",
        }
    }

    /// The type of a device that has these properties: its most consequential function decides.
    pub fn of<'a>(properties: impl IntoIterator<Item = (Property, &'a Class)>) -> DeviceType {
        properties.into_iter().map(|(p, c)| DeviceType::of_property(p, *c)).min().unwrap_or(DeviceType::Unknown)
    }

    fn of_property(property: Property, class: Class) -> DeviceType {
        match property {
            Property::OccupiedHeatingSetpoint
            | Property::OccupiedCoolingSetpoint
            | Property::OccupiedSetpoint
            | Property::SetpointHold
            | Property::SetpointHoldDuration
            | Property::SystemMode
            | Property::RunningState => DeviceType::Thermostat,
            Property::LockState => DeviceType::DoorLock,
            Property::DoorState | Property::CoverPosition | Property::CoverTilt => match class {
                Class::Garage | Class::Gate => DeviceType::GarageDoor,
                _ => DeviceType::WindowCovering,
            },
            Property::CurrentLevel | Property::ColorTemperature | Property::Color => DeviceType::Light,
            Property::FanPercent | Property::FanOscillation | Property::FanDirection => DeviceType::Fan,
            Property::Scene => DeviceType::Scene,
            Property::OnOff => match class {
                Class::Light => DeviceType::Light,
                Class::Fan => DeviceType::Fan,
                _ => DeviceType::OnOffPlug,
            },
            Property::SmokeState | Property::CoState => DeviceType::SmokeCoAlarm,
            Property::LeakState => DeviceType::WaterLeakDetector,
            Property::Motion | Property::Occupancy => DeviceType::OccupancySensor,
            Property::ContactOpen => DeviceType::ContactSensor,
            Property::LocalTemperature | Property::OutdoorTemperature => DeviceType::TemperatureSensor,
            Property::RelativeHumidity => DeviceType::HumiditySensor,
            Property::Co2Concentration | Property::VocConcentration => DeviceType::AirQualitySensor,
            Property::ActivePower | Property::CumulativeEnergy => DeviceType::ElectricalSensor,
            Property::BatteryPercent
            | Property::Reachable
            | Property::NodeLabel
            | Property::DeviceTypeName
            | Property::VendorName
            | Property::ProductName
            | Property::SerialNumber
            | Property::SoftwareVersion => DeviceType::Unknown,
        }
    }
}

impl std::fmt::Display for DeviceType {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.as_str())
    }
}

/// What a property is about when its name alone does not say (Home Assistant's device classes, reduced to what
/// changes the sensitivity or the device type).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Class {
    /// No class, or one that changes nothing.
    #[default]
    None,
    /// A door.
    Door,
    /// A garage door.
    Garage,
    /// A gate.
    Gate,
    /// A window.
    Window,
    /// Any other opening.
    Opening,
    /// A blind, shutter, shade, curtain or awning.
    Blind,
    /// A light's power.
    Light,
    /// A fan's power.
    Fan,
    /// A plug's or switch's power.
    Switch,
}

impl Class {
    /// Every class.
    pub const ALL: [Class; 10] = [
        Class::None,
        Class::Door,
        Class::Garage,
        Class::Gate,
        Class::Window,
        Class::Opening,
        Class::Blind,
        Class::Light,
        Class::Fan,
        Class::Switch,
    ];
}

/// How sensitive a property is. Policies speak of kinds, so that a new property of a known kind is covered by them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Kind {
    /// What a device is called and who made it.
    Metadata,
    /// Whether a device answers.
    Connectivity,
    /// Battery level.
    Battery,
    /// Room temperature.
    Temperature,
    /// Humidity and gases: the readings that tell presence best.
    Air,
    /// Set points and mode.
    Comfort,
    /// What the equipment does, and its energy.
    Equipment,
    /// Lights, switches, fans.
    Appliance,
    /// Covers that don't close the home.
    Covering,
    /// Doors, gates and windows.
    Opening,
    /// Locks.
    Lock,
    /// Motion and occupancy.
    Presence,
    /// Smoke, carbon monoxide, water.
    Alarm,
    /// Not known: the most sensitive, never granted.
    Unknown,
}

/// What somebody who sees a property can infer. Shown beside every grant.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Reveals {
    /// Whether somebody is at home now.
    Occupancy,
    /// That the home is empty for days.
    Absence,
    /// When people sleep, wake, come and go.
    DailyRhythm,
    /// Which devices the household bought.
    Belongings,
    /// Whether the home is locked or open.
    Security,
}

impl Kind {
    /// The name used in policies, the ledger and on the command line.
    pub fn as_str(self) -> &'static str {
        match self {
            Kind::Metadata => "metadata",
            Kind::Connectivity => "connectivity",
            Kind::Battery => "battery",
            Kind::Temperature => "temperature",
            Kind::Air => "air",
            Kind::Comfort => "comfort",
            Kind::Equipment => "equipment",
            Kind::Appliance => "appliance",
            Kind::Covering => "covering",
            Kind::Opening => "opening",
            Kind::Lock => "lock",
            Kind::Presence => "presence",
            Kind::Alarm => "alarm",
            Kind::Unknown => "unknown",
        }
    }

    /// Every kind.
    pub const ALL: [Kind; 14] = [
        Kind::Metadata,
        Kind::Connectivity,
        Kind::Battery,
        Kind::Temperature,
        Kind::Air,
        Kind::Comfort,
        Kind::Equipment,
        Kind::Appliance,
        Kind::Covering,
        Kind::Opening,
        Kind::Lock,
        Kind::Presence,
        Kind::Alarm,
        Kind::Unknown,
    ];

    /// The kind of a property of a class. It comes from this table, never from a device's own text.
    pub fn of(property: Property, class: Class) -> Kind {
        match property {
            Property::NodeLabel
            | Property::DeviceTypeName
            | Property::VendorName
            | Property::ProductName
            | Property::SerialNumber
            | Property::SoftwareVersion => Kind::Metadata,
            Property::Reachable => Kind::Connectivity,
            Property::BatteryPercent => Kind::Battery,
            Property::LocalTemperature | Property::OutdoorTemperature => Kind::Temperature,
            Property::RelativeHumidity | Property::Co2Concentration | Property::VocConcentration => Kind::Air,
            Property::OccupiedHeatingSetpoint
            | Property::OccupiedCoolingSetpoint
            | Property::OccupiedSetpoint
            | Property::SetpointHold
            | Property::SetpointHoldDuration
            | Property::SystemMode => Kind::Comfort,
            Property::RunningState | Property::ActivePower | Property::CumulativeEnergy => Kind::Equipment,
            Property::OnOff
            | Property::CurrentLevel
            | Property::ColorTemperature
            | Property::Color
            | Property::FanPercent
            | Property::FanOscillation
            | Property::FanDirection
            | Property::Scene => Kind::Appliance,
            Property::DoorState | Property::CoverPosition | Property::CoverTilt => match class {
                Class::Blind => Kind::Covering,
                _ => Kind::Opening,
            },
            Property::ContactOpen => Kind::Opening,
            Property::LockState => Kind::Lock,
            Property::Motion | Property::Occupancy => Kind::Presence,
            Property::SmokeState | Property::CoState | Property::LeakState => Kind::Alarm,
        }
    }

    /// The kinds that somebody can infer who is told this one: what is withheld of them is not quite withheld. Of its own kind it
    /// is named where one device tells of another (motion in the hall of motion in the kitchen). Sources: as of
    /// [`reveals`](Kind::reveals), and physics: a room follows its set point, and equipment that runs is felt and metered.
    pub fn gives_away(self) -> &'static [Kind] {
        match self {
            Kind::Metadata | Kind::Connectivity | Kind::Battery | Kind::Covering | Kind::Alarm | Kind::Unknown => &[],
            Kind::Temperature => &[Kind::Presence, Kind::Comfort, Kind::Equipment],
            Kind::Air | Kind::Presence => &[Kind::Presence],
            Kind::Comfort => &[Kind::Presence, Kind::Temperature, Kind::Equipment],
            Kind::Equipment => &[Kind::Presence, Kind::Temperature, Kind::Comfort, Kind::Appliance, Kind::Equipment],
            Kind::Appliance => &[Kind::Presence, Kind::Equipment],
            Kind::Opening => &[Kind::Presence, Kind::Opening, Kind::Lock],
            Kind::Lock => &[Kind::Presence, Kind::Opening],
        }
    }

    /// What this kind reveals, beside itself. Sources: Morgner et al., ESORICS 2017 (temperature and humidity tell
    /// presence); Amazon Science, "The science behind Hunches" (on and off times tell sleep and absence).
    pub fn reveals(self) -> &'static [Reveals] {
        match self {
            Kind::Metadata => &[Reveals::Belongings],
            Kind::Connectivity | Kind::Battery | Kind::Unknown => &[],
            Kind::Temperature => &[Reveals::Occupancy, Reveals::Absence],
            Kind::Air => &[Reveals::Occupancy, Reveals::Absence, Reveals::DailyRhythm],
            Kind::Comfort => &[Reveals::Occupancy, Reveals::Absence, Reveals::DailyRhythm],
            Kind::Equipment | Kind::Appliance => &[Reveals::Occupancy, Reveals::Absence, Reveals::DailyRhythm],
            Kind::Covering => &[Reveals::DailyRhythm],
            Kind::Opening | Kind::Lock => &[Reveals::Occupancy, Reveals::DailyRhythm, Reveals::Security],
            Kind::Presence => &[Reveals::Occupancy, Reveals::Absence, Reveals::DailyRhythm],
            Kind::Alarm => &[Reveals::Security],
        }
    }
}

impl std::fmt::Display for Kind {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.as_str())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ALL_PROPERTIES;

    #[test]
    fn the_most_consequential_function_names_the_device() {
        let none = Class::None;
        let of = |ps: &[Property]| DeviceType::of(ps.iter().map(|p| (*p, &none)));
        assert_eq!(of(&[Property::LocalTemperature, Property::SystemMode]), DeviceType::Thermostat);
        assert_eq!(
            of(&[Property::BatteryPercent, Property::ContactOpen, Property::LocalTemperature]),
            DeviceType::ContactSensor
        );
        assert_eq!(of(&[]), DeviceType::Unknown);
        assert_eq!(DeviceType::of([(Property::OnOff, &Class::Light)]), DeviceType::Light);
    }

    #[test]
    fn only_garages_and_gates_are_garage_doors_and_what_closes_the_home_is_an_opening() {
        for (class, device_type, kind) in [
            (Class::Garage, DeviceType::GarageDoor, Kind::Opening),
            (Class::Gate, DeviceType::GarageDoor, Kind::Opening),
            (Class::Door, DeviceType::WindowCovering, Kind::Opening),
            (Class::Window, DeviceType::WindowCovering, Kind::Opening),
            (Class::Blind, DeviceType::WindowCovering, Kind::Covering),
        ] {
            for property in [Property::DoorState, Property::CoverPosition] {
                assert_eq!(DeviceType::of([(property, &class)]), device_type, "{class:?}");
                assert_eq!(Kind::of(property, class), kind, "{class:?}");
            }
        }
    }

    #[test]
    fn what_reveals_who_is_at_home_gives_presence_away() {
        for kind in Kind::ALL {
            let both = (kind.reveals().contains(&Reveals::Occupancy), kind.gives_away().contains(&Kind::Presence));
            assert_eq!(both.0, both.1, "{kind}");
        }
    }

    #[test]
    fn no_property_is_of_unknown_kind() {
        for p in ALL_PROPERTIES {
            assert_ne!(Kind::of(*p, Class::None), Kind::Unknown);
        }
    }
}
