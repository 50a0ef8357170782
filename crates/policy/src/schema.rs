//! The Cedar schema, with the model's own lists in it: there is one source of each list.

use cedar_policy::{CedarSchemaError, Schema};
use model::{ALL_PROPERTIES, DeviceType, Kind};

const TEXT: &str = include_str!("schema.cedarschema");

/// Every device type.
const DEVICE_TYPES: [DeviceType; 17] = [
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

fn list<'a>(names: impl Iterator<Item = &'a str>) -> String {
    names.map(|n| format!("\"{n}\"")).collect::<Vec<_>>().join(", ")
}

/// The schema as text.
pub(crate) fn text() -> String {
    TEXT.replace("@PROPERTIES@", &list(ALL_PROPERTIES.iter().map(|p| p.as_str())))
        .replace("@KINDS@", &list(Kind::ALL.iter().map(|k| k.as_str())))
        .replace("@DEVICE_TYPES@", &list(DEVICE_TYPES.iter().map(|t| t.as_str())))
}

/// The schema.
///
/// # Errors
/// Never with the schema that is shipped.
pub(crate) fn parse(text: &str) -> Result<Schema, Box<CedarSchemaError>> {
    Ok(Schema::from_cedarschema_str(text).map_err(Box::new)?.0)
}
