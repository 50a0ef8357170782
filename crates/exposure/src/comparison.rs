//! For comparison: Home Assistant's reporting rule. Each change of the state of each exposed entity is sent at once, with
//! all that the entity tells.
//!
//! An entity is exposed when Home Assistant has words for it towards Alexa: thermostats whole, of sensors the temperature,
//! motion, presence and contacts, locks, covers, lights, fans and switches. Humidity, air, power and battery it does not tell
//! Alexa.

use std::collections::BTreeMap;

use home::Reading;
use model::{DeviceId, Property, Timestamp, Trigger, Value};
use serde_json::{Value as Json, json};

use crate::{Fact, Recorded, Sent, Span};

/// Stands in place of the token, as in what our own record keeps.
const REDACTED: &str = "redacted";

/// Stands in place of a message's random id.
const MESSAGE_ID: &str = "00000000-0000-4000-8000-000000000000";

/// What a thermostat's one entity tells, and in which of Alexa's words.
const CLIMATE: [(Property, &str, &str); 4] = [
    (Property::LocalTemperature, "Alexa.TemperatureSensor", "temperature"),
    (Property::OccupiedHeatingSetpoint, "Alexa.ThermostatController", "lowerSetpoint"),
    (Property::OccupiedCoolingSetpoint, "Alexa.ThermostatController", "upperSetpoint"),
    (Property::SystemMode, "Alexa.ThermostatController", "thermostatMode"),
];

/// What is an entity of its own.
const SINGLE: [(Property, &str, &str); 15] = [
    (Property::LocalTemperature, "Alexa.TemperatureSensor", "temperature"),
    (Property::OutdoorTemperature, "Alexa.TemperatureSensor", "temperature"),
    (Property::Motion, "Alexa.MotionSensor", "detectionState"),
    (Property::Occupancy, "Alexa.MotionSensor", "detectionState"),
    (Property::ContactOpen, "Alexa.ContactSensor", "detectionState"),
    (Property::LockState, "Alexa.LockController", "lockState"),
    (Property::DoorState, "Alexa.ModeController", "mode"),
    (Property::CoverPosition, "Alexa.RangeController", "rangeValue"),
    (Property::CoverTilt, "Alexa.RangeController", "rangeValue"),
    (Property::OnOff, "Alexa.PowerController", "powerState"),
    (Property::CurrentLevel, "Alexa.BrightnessController", "brightness"),
    (Property::ColorTemperature, "Alexa.ColorTemperatureController", "colorTemperatureInKelvin"),
    (Property::Color, "Alexa.ColorController", "color"),
    (Property::FanPercent, "Alexa.RangeController", "rangeValue"),
    (Property::FanOscillation, "Alexa.ToggleController", "toggleState"),
];

/// An entity: a device, and a property where it is not the thermostat itself.
type Entity = (DeviceId, Option<Property>);

/// What Home Assistant's rule would have sent over recorded days, in order of time.
pub fn home_assistant(recorded: &Recorded, span: Span, mut sink: impl FnMut(Sent)) {
    let mut state: BTreeMap<Entity, BTreeMap<Property, Value>> = BTreeMap::new();
    let mut changed: BTreeMap<Entity, Timestamp> = BTreeMap::new();
    let mut at = span.from;
    for reading in recorded.readings.iter().take_while(|r| r.time < span.to) {
        if reading.time > at {
            send(&state, std::mem::take(&mut changed), &mut sink);
            at = reading.time;
        }
        let Some(entity) = entity(recorded, reading) else { continue };
        let before = state.entry(entity.clone()).or_default().insert(reading.property, reading.value.clone());
        if before.as_ref() != Some(&reading.value) && reading.time >= span.from {
            changed.insert(entity, reading.time);
        }
    }
    send(&state, changed, &mut sink);
}

/// Whose change a reading may be; none when the entity is not exposed.
fn entity(recorded: &Recorded, reading: &Reading) -> Option<Entity> {
    let device = recorded.devices.get(&reading.device)?;
    let is_climate = device.device_type() == model::DeviceType::Thermostat;
    if is_climate && CLIMATE.iter().any(|(p, ..)| *p == reading.property) {
        return Some((reading.device.clone(), None));
    }
    let is_told = SINGLE.iter().any(|(p, ..)| *p == reading.property);
    is_told.then(|| (reading.device.clone(), Some(reading.property)))
}

fn send(
    state: &BTreeMap<Entity, BTreeMap<Property, Value>>,
    changed: BTreeMap<Entity, Timestamp>,
    sink: &mut impl FnMut(Sent),
) {
    for ((device, of), time) in changed {
        let Some(values) = state.get(&(device.clone(), of)) else { continue };
        let words = if of.is_none() { &CLIMATE[..] } else { &SINGLE[..] };
        let mut facts = Vec::new();
        let mut properties = Vec::new();
        for (property, namespace, name) in words.iter().filter(|(p, ..)| of.is_none_or(|of| of == *p)) {
            let Some(value) = values.get(property) else { continue };
            facts.push(Fact { device: device.clone(), property: *property, time, value: value.clone() });
            properties.push(json!({
                "namespace": namespace, "name": name, "value": value_json(value),
                "timeOfSample": time.to_rfc3339(), "uncertaintyInMilliseconds": 0,
            }));
        }
        let endpoint = of.map_or_else(|| format!("climate#{device}"), |p| format!("sensor#{device}_{p}"));
        let body = json!({"event": {
            "header": {"namespace": "Alexa", "name": "ChangeReport", "messageId": MESSAGE_ID, "payloadVersion": "3"},
            "endpoint": {"scope": {"type": "BearerToken", "token": REDACTED}, "endpointId": endpoint},
            "payload": {"change": {"cause": {"type": "APP_INTERACTION"}, "properties": properties}},
        }});
        sink(Sent {
            time,
            message: "Alexa.ChangeReport".to_owned(),
            trigger: Trigger::ProactiveReport,
            endpoint: None,
            body: body.to_string().into_bytes(),
            facts,
        });
    }
}

fn value_json(value: &Value) -> Json {
    match value {
        Value::Temperature(milli) => json!({"value": f64::from(*milli) / 1000.0, "scale": "CELSIUS"}),
        Value::Bool(on) => json!(if *on { "DETECTED" } else { "NOT_DETECTED" }),
        other => serde_json::to_value(other).unwrap_or(Json::Null),
    }
}
