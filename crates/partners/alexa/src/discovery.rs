//! Discover: which devices there are, and what is honest to promise of them.

use disclosure::{EndpointView, Gate};
use model::{DeviceType, EndpointId, Property, Value};
use serde_json::{Map, Value as Json, json};

use crate::directive::{Directive, is_endpoint_id};
use crate::event::{one, plain};
use crate::interface::{DOOR_DOWN, DOOR_UP, INTERFACES, Interface, SLOTS, Slot, closes, commands, mode, opens};
use crate::limits::{ATTRIBUTE_MAX_CHARS, ENDPOINTS_MAX, NAME_MAX_CHARS};
use crate::{Outcome, Reply};

/// The maker, unless the household lets Alexa know the real one.
const MANUFACTURER: &str = "Vestibule";

/// The same for every device.
const DESCRIPTION: &str = "Connected through Vestibule";

/// `additionalAttributes`, each only when it is granted.
const ATTRIBUTES: [(&str, Property); 4] = [
    ("manufacturer", Property::VendorName),
    ("model", Property::ProductName),
    ("serialNumber", Property::SerialNumber),
    ("softwareVersion", Property::SoftwareVersion),
];

pub(crate) fn answer<G: Gate>(gate: &mut G, directive: &Directive) -> Reply {
    let (found, left_out) = endpoints(gate);
    let (mut endpoints, mut told) = (Vec::new(), Vec::new());
    for (id, json, properties) in found {
        told.extend(properties.into_iter().map(|p| (id.clone(), p)));
        endpoints.push(json);
    }
    let event = plain(gate, "Alexa.Discovery", "Discover.Response", one("endpoints", endpoints.into()));
    Reply { told, left_out, ..Reply::new(directive, event, Outcome::Answered) }
}

/// The endpoints, each with whose disclosed values are in it, and how many more there would be.
pub(crate) fn endpoints<G: Gate>(gate: &mut G) -> (Vec<(EndpointId, Json, Vec<Property>)>, usize) {
    let views = gate.endpoints();
    let mut all = views.iter().filter_map(|v| Some((v, endpoint(v)?)));
    let mut endpoints = Vec::new();
    for (view, json) in all.by_ref().take(ENDPOINTS_MAX) {
        let known = ATTRIBUTES.iter().filter(|(_, p)| text(view, *p, ATTRIBUTE_MAX_CHARS).is_some()).map(|(_, p)| *p);
        // Its category and a name are told of every endpoint; the gate knows whether the name is a granted one.
        let always = [Property::DeviceTypeName, Property::NodeLabel];
        endpoints.push((view.id.clone(), json, known.chain(always).collect()));
    }
    let left_out = all.count();
    (endpoints, left_out)
}

/// An endpoint, or nothing for a device of which Alexa has no word for anything that is granted.
fn endpoint(view: &EndpointView) -> Option<Json> {
    let speaks = |s: &Slot| s.interface != Interface::Health && s.declared(view);
    if !is_endpoint_id(view.id.as_str()) || !SLOTS.iter().any(speaks) {
        return None;
    }
    let name = Some(cut(&view.name, NAME_MAX_CHARS)).filter(|n| !n.is_empty());
    let name = name.unwrap_or_else(|| view.device_type.neutral_name().to_owned());
    let maker = text(view, Property::VendorName, NAME_MAX_CHARS).unwrap_or_else(|| MANUFACTURER.to_owned());
    let mut endpoint = Map::new();
    endpoint.insert("endpointId".to_owned(), view.id.as_str().into());
    endpoint.insert("manufacturerName".to_owned(), maker.into());
    endpoint.insert("friendlyName".to_owned(), name.into());
    endpoint.insert("description".to_owned(), DESCRIPTION.into());
    endpoint.insert("displayCategories".to_owned(), json!([category(view.device_type)]));
    let attributes: Map<String, Json> = ATTRIBUTES
        .iter()
        .filter_map(|(key, p)| Some(((*key).to_owned(), text(view, *p, ATTRIBUTE_MAX_CHARS)?.into())))
        .collect();
    if !attributes.is_empty() {
        endpoint.insert("additionalAttributes".to_owned(), attributes.into());
    }
    let mut capabilities: Vec<Json> = INTERFACES.into_iter().filter_map(|i| capability(view, i)).collect();
    capabilities.push(json!({"type": "AlexaInterface", "interface": "Alexa", "version": "3"}));
    endpoint.insert("capabilities".to_owned(), capabilities.into());
    Some(Json::Object(endpoint))
}

/// A granted text of the device itself, cut to a length.
fn text(view: &EndpointView, property: Property, max: usize) -> Option<String> {
    match view.metadata.iter().find(|d| d.property() == property)?.value() {
        Value::Text(t) => Some(cut(t, max)).filter(|t| !t.is_empty()),
        _ => None,
    }
}

/// What Alexa is promised of one interface: `retrievable` and `proactivelyReported` hold only when they hold for each
/// property that is named.
fn capability(view: &EndpointView, interface: Interface) -> Option<Json> {
    let slots: Vec<&Slot> = SLOTS.iter().filter(|s| s.interface == interface && s.declared(view)).collect();
    if slots.is_empty() {
        return None;
    }
    let names: Vec<Json> = slots.iter().map(|s| json!({"name": s.name})).collect();
    let mut properties = json!({
        "supported": names,
        "proactivelyReported": slots.iter().all(|s| s.proactive(view)),
        "retrievable": slots.iter().all(|s| s.retrievable(view)),
    });
    let mut capability = Map::new();
    capability.insert("type".to_owned(), "AlexaInterface".into());
    capability.insert("interface".to_owned(), interface.namespace().into());
    if let Some(instance) = interface.instance() {
        capability.insert("instance".to_owned(), instance.into());
    }
    capability.insert("version".to_owned(), interface.version().into());
    if interface == Interface::GarageDoor
        && !commands(view, Property::DoorState)
        && let Json::Object(p) = &mut properties
    {
        p.insert("nonControllable".to_owned(), true.into());
    }
    capability.insert("properties".to_owned(), properties);
    match interface {
        Interface::Thermostat => {
            let has_mode = slots.iter().any(|s| s.name == "thermostatMode");
            capability.insert("configuration".to_owned(), thermostat(view, has_mode));
        }
        Interface::GarageDoor => {
            capability.insert("configuration".to_owned(), garage_modes());
            capability.insert("capabilityResources".to_owned(), friendly("Alexa.Setting.Mode"));
            capability.insert("semantics".to_owned(), garage_semantics(view));
        }
        _ => {}
    }
    Some(Json::Object(capability))
}

fn thermostat(view: &EndpointView, has_mode: bool) -> Json {
    let mut modes: Vec<&str> = Vec::new();
    for m in view.features.modes.iter().filter(|_| has_mode).map(|m| mode(*m)) {
        if !modes.contains(&m) {
            modes.push(m);
        }
    }
    if modes.is_empty() {
        return json!({"supportsScheduling": false});
    }
    json!({"supportedModes": modes, "supportsScheduling": false})
}

fn friendly(asset: &str) -> Json {
    json!({"friendlyNames": [{"@type": "asset", "value": {"assetId": asset}}]})
}

fn garage_modes() -> Json {
    json!({
        "ordered": false,
        "supportedModes": [
            {"value": DOOR_UP, "modeResources": friendly("Alexa.Value.Open")},
            {"value": DOOR_DOWN, "modeResources": friendly("Alexa.Value.Close")},
        ],
    })
}

/// "Open" is mapped only for a link that may open, "close" only for one that may close.
fn garage_semantics(view: &EndpointView) -> Json {
    let action = |actions: [&str; 2], mode: &str| {
        json!({
            "@type": "ActionsToDirective",
            "actions": actions,
            "directive": {"name": "SetMode", "payload": {"mode": mode}},
        })
    };
    let mut actions = Vec::new();
    if opens(view, Property::DoorState) {
        actions.push(action(["Alexa.Actions.Open", "Alexa.Actions.Raise"], DOOR_UP));
    }
    if closes(view, Property::DoorState) {
        actions.push(action(["Alexa.Actions.Close", "Alexa.Actions.Lower"], DOOR_DOWN));
    }
    let mut semantics = Map::new();
    if !actions.is_empty() {
        semantics.insert("actionMappings".to_owned(), actions.into());
    }
    let state = |state: &str, mode: &str| json!({"@type": "StatesToValue", "states": [state], "value": mode});
    let states = json!([state("Alexa.States.Open", DOOR_UP), state("Alexa.States.Closed", DOOR_DOWN)]);
    semantics.insert("stateMappings".to_owned(), states);
    Json::Object(semantics)
}

fn category(device_type: DeviceType) -> &'static str {
    match device_type {
        DeviceType::Thermostat => "THERMOSTAT",
        DeviceType::DoorLock => "SMARTLOCK",
        DeviceType::GarageDoor => "GARAGE_DOOR",
        DeviceType::WindowCovering => "INTERIOR_BLIND",
        DeviceType::Light => "LIGHT",
        DeviceType::Fan => "FAN",
        DeviceType::OnOffPlug => "SMARTPLUG",
        DeviceType::OccupancySensor => "MOTION_SENSOR",
        DeviceType::ContactSensor => "CONTACT_SENSOR",
        // Amazon names this category for humidity too.
        DeviceType::TemperatureSensor | DeviceType::HumiditySensor => "TEMPERATURE_SENSOR",
        DeviceType::AirQualitySensor => "AIR_QUALITY_MONITOR",
        DeviceType::SmokeCoAlarm
        | DeviceType::WaterLeakDetector
        | DeviceType::ElectricalSensor
        | DeviceType::Unknown => "OTHER",
    }
}

/// At most so many characters, none of them a control character, no space at either end.
fn cut(text: &str, max: usize) -> String {
    let clean: String = text.chars().filter(|c| !c.is_control()).collect();
    clean.trim().chars().take(max).collect::<String>().trim_end().to_owned()
}
