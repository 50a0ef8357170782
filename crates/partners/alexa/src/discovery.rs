//! Discover: which devices there are, and what is honest to promise of them.

use disclosure::{EndpointView, Gate};
use model::{DeviceType, EndpointId, Property, Value};
use serde_json::{Map, Value as Json, json};

use crate::directive::{Directive, is_endpoint_id};
use crate::event::{one, plain};
use crate::interface::{
    DOOR_DOWN, DOOR_UP, FORWARD, INTERFACES, Interface, REVERSE, SLOTS, Slot, closes, commands, mode, opens,
};
use crate::limits::{ATTRIBUTE_MAX_CHARS, DISCOVERY_MAX_BYTES, ENDPOINTS_MAX, NAME_MAX_CHARS};
use crate::report::Endpoint;
use crate::{Outcome, Reply};

/// The maker, unless the household lets Alexa know the real one.
const MANUFACTURER: &str = "Vestibule";

/// The same for every device.
const DESCRIPTION: &str = "Connected through Vestibule";

/// The same for every scene: Amazon wants the word in it.
const SCENE_DESCRIPTION: &str = "Scene connected through Vestibule";

/// `additionalAttributes`, each only when it is granted.
const ATTRIBUTES: [(&str, Property); 4] = [
    ("manufacturer", Property::VendorName),
    ("model", Property::ProductName),
    ("serialNumber", Property::SerialNumber),
    ("softwareVersion", Property::SoftwareVersion),
];

pub(crate) fn answer<G: Gate>(gate: &mut G, directive: &Directive) -> Reply {
    let Found { endpoints: found, left_out, mixed } = endpoints(gate);
    let (mut endpoints, mut told) = (Vec::new(), Vec::new());
    for (id, json, properties) in found {
        told.extend(properties.into_iter().map(|p| (id.clone(), p)));
        endpoints.push(json);
    }
    let event = plain(gate, "Alexa.Discovery", "Discover.Response", one("endpoints", endpoints.into()));
    Reply { told, left_out, mixed, ..Reply::new(directive, event, Outcome::Answered) }
}

/// What Discovery tells.
#[derive(Debug, Default)]
pub struct Found {
    /// The endpoints, each with whose disclosed values are in it.
    pub endpoints: Vec<Endpoint>,
    /// How many more there would be.
    pub left_out: usize,
    /// Those of which a part alone is granted unasked: nothing of them is promised to be reported.
    pub mixed: Vec<EndpointId>,
}

pub(crate) fn endpoints<G: Gate>(gate: &mut G) -> Found {
    let views = gate.endpoints();
    let (mut endpoints, mut mixed) = (Vec::new(), Vec::new());
    let (mut bytes, mut left_out) = (0usize, 0);
    for (view, json) in views.iter().filter_map(|v| Some((v, endpoint(v)?))) {
        // The first ones by endpoint id, which tells nothing: what is left out stays left out until devices go.
        bytes = bytes.saturating_add(length(&json));
        if endpoints.len() >= ENDPOINTS_MAX || bytes > DISCOVERY_MAX_BYTES {
            left_out += 1;
            continue;
        }
        let known = ATTRIBUTES.iter().filter(|(_, p)| text(view, *p, ATTRIBUTE_MAX_CHARS).is_some()).map(|(_, p)| *p);
        // Its category and a name are told of every endpoint; the gate knows whether the name is a granted one.
        let always = [Property::DeviceTypeName, Property::NodeLabel];
        endpoints.push((view.id.clone(), json, known.chain(always).collect()));
        if promise(view) == Promise::InPart {
            mixed.push(view.id.clone());
        }
    }
    Found { endpoints, left_out, mixed }
}

/// How many bytes it takes on the wire, at most.
fn length(json: &Json) -> usize {
    let byte = |b: u8| match b {
        0..0x20 => 6,
        b'"' | b'\\' => 2,
        _ => 1,
    };
    let text = |s: &str| s.bytes().map(byte).sum::<usize>().saturating_add(2);
    match json {
        Json::Null | Json::Bool(_) => 5,
        Json::Number(_) => 24,
        Json::String(s) => text(s),
        Json::Array(items) => items.iter().map(|i| length(i).saturating_add(1)).sum::<usize>().saturating_add(2),
        Json::Object(map) => map
            .iter()
            .map(|(k, v)| text(k).saturating_add(length(v)).saturating_add(2))
            .sum::<usize>()
            .saturating_add(2),
    }
}

/// What an endpoint can be promised to report.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Promise {
    /// Whatever changes.
    All,
    /// Nothing.
    Nothing,
    /// Some interfaces, and others not. Alexa trusts the reports of none of them then, and polls the whole endpoint: so
    /// none is promised, and whoever grants is told.
    InPart,
}

/// What is promised of an endpoint: one word for all of its interfaces.
pub(crate) fn promise(view: &EndpointView) -> Promise {
    let (mut some, mut all) = (false, true);
    for interface in INTERFACES.into_iter().filter(|i| *i != Interface::Scene) {
        let slots: Vec<&Slot> = SLOTS.iter().filter(|s| s.interface == interface && s.declared(view)).collect();
        // A connectivity that is a constant never changes: it is reported by never being so.
        if slots.is_empty() || is_constant(view, &slots) {
            continue;
        }
        let reported = retrievable(view, interface, &slots) && slots.iter().all(|s| s.proactive(view));
        // That it answers is of no use by itself: the part of a split device that does something has it as well.
        some |= reported && interface != Interface::Health;
        all &= reported;
    }
    match (some, all) {
        (true, true) => Promise::All,
        (true, false) => Promise::InPart,
        (false, _) => Promise::Nothing,
    }
}

/// True for a connectivity that tells nothing, with no battery beside it.
fn is_constant(view: &EndpointView, slots: &[&Slot]) -> bool {
    matches!(slots, [only] if only.is_constant(view))
}

fn retrievable(view: &EndpointView, interface: Interface, slots: &[&Slot]) -> bool {
    match interface {
        // Connectivity is told in each report, as a constant if it is not granted: a battery beside it decides.
        Interface::Health => slots.iter().any(|s| s.retrievable(view)),
        _ => slots.iter().all(|s| s.retrievable(view)),
    }
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
    let is_scene = view.device_type == DeviceType::Scene;
    endpoint.insert("description".to_owned(), if is_scene { SCENE_DESCRIPTION } else { DESCRIPTION }.into());
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

/// What Alexa is promised of one interface: `retrievable` holds only when it holds for each property that is named, and
/// `proactivelyReported` only when it does for each interface of the endpoint. What can't be asked for is not reported
/// either: Alexa's tiles break on that pair.
fn capability(view: &EndpointView, interface: Interface) -> Option<Json> {
    let slots: Vec<&Slot> = SLOTS.iter().filter(|s| s.interface == interface && s.declared(view)).collect();
    if slots.is_empty() {
        return None;
    }
    let names: Vec<Json> = slots.iter().map(|s| json!({"name": s.name})).collect();
    let reported = promise(view) == Promise::All;
    let mut properties = json!({
        "supported": names,
        "proactivelyReported": reported,
        // A constant is told whenever it is asked for.
        "retrievable": retrievable(view, interface, &slots) || reported,
    });
    if interface == Interface::Scene {
        return Some(json!({
            "type": "AlexaInterface",
            "interface": interface.namespace(),
            "version": interface.version(),
            "supportsDeactivation": false,
            "proactivelyReported": false,
        }));
    }
    let mut capability = Map::new();
    capability.insert("type".to_owned(), "AlexaInterface".into());
    capability.insert("interface".to_owned(), interface.namespace().into());
    if let Some(instance) = interface.instance() {
        capability.insert("instance".to_owned(), instance.into());
    }
    capability.insert("version".to_owned(), interface.version().into());
    let by_instance = interface.instance().is_some();
    let controllable = slots.iter().any(|s| s.commanded(view));
    if by_instance
        && !controllable
        && let Json::Object(p) = &mut properties
    {
        p.insert("nonControllable".to_owned(), true.into());
    }
    capability.insert("properties".to_owned(), properties);
    let mut more = |key: &str, json: Json| capability.insert(key.to_owned(), json);
    match interface {
        Interface::Thermostat => {
            let has_mode = slots.iter().any(|s| s.name == "thermostatMode");
            more("configuration", thermostat(view, has_mode));
        }
        Interface::Hvac => {
            let stages = |name: &str| match name {
                "coolerOperation" => "numberOfCoolerOperations",
                _ => "numberOfPrimaryHeaterOperations",
            };
            let numbers: Map<String, Json> = slots.iter().map(|s| (stages(s.name).to_owned(), 1.into())).collect();
            more("configuration", numbers.into());
        }
        Interface::GarageDoor | Interface::BlindMode => {
            more("configuration", door_modes());
            more("capabilityResources", friendly("Alexa.Setting.Mode"));
            more("semantics", door_semantics(view));
        }
        Interface::BlindLift | Interface::BlindTilt => {
            more("configuration", percent_range());
            let lift = interface == Interface::BlindLift;
            more("capabilityResources", if lift { friendly("Alexa.Setting.Opening") } else { friendly_text("tilt") });
            // "Open" goes to one of them: the position, where there is one.
            let has_lift = SLOTS.iter().any(|s| s.interface == Interface::BlindLift && s.declared(view));
            if lift || !has_lift {
                more("semantics", range_semantics(controllable));
            }
        }
        Interface::FanSpeed => {
            more("configuration", percent_range());
            more("capabilityResources", friendly("Alexa.Setting.FanSpeed"));
        }
        Interface::FanSwing => {
            more("capabilityResources", friendly("Alexa.Setting.Oscillate"));
        }
        Interface::FanDirection => {
            let mode = |value: &str, text: &str| json!({"value": value, "modeResources": friendly_text(text)});
            let modes = [mode(FORWARD, "forward"), mode(REVERSE, "reverse")];
            more("configuration", json!({"ordered": false, "supportedModes": modes}));
            more("capabilityResources", friendly("Alexa.Setting.Direction"));
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
    let schedules = view.features.schedules && commands(view, Property::SetpointHoldDuration);
    if modes.is_empty() {
        return json!({"supportsScheduling": schedules});
    }
    json!({"supportedModes": modes, "supportsScheduling": schedules})
}

/// Words in the one language that the hub speaks; Alexa takes English names in every locale.
fn friendly_text(text: &str) -> Json {
    json!({"friendlyNames": [{"@type": "text", "value": {"text": text, "locale": "en-US"}}]})
}

fn percent_range() -> Json {
    json!({
        "supportedRange": {"minimumValue": 0, "maximumValue": 100, "precision": 1},
        "unitOfMeasure": "Alexa.Unit.Percent",
    })
}

fn range_semantics(controllable: bool) -> Json {
    let action = |action: &str, name: &str, payload: Json| {
        let directive = json!({"name": name, "payload": payload});
        json!({"@type": "ActionsToDirective", "actions": [action], "directive": directive})
    };
    let set = |to: i32| json!({"rangeValue": to});
    let adjust = |by: i32| json!({"rangeValueDelta": by, "rangeValueDeltaDefault": false});
    let mut semantics = Map::new();
    if controllable {
        let actions = [
            action("Alexa.Actions.Close", "SetRangeValue", set(0)),
            action("Alexa.Actions.Open", "SetRangeValue", set(100)),
            action("Alexa.Actions.Lower", "AdjustRangeValue", adjust(-10)),
            action("Alexa.Actions.Raise", "AdjustRangeValue", adjust(10)),
        ];
        semantics.insert("actionMappings".to_owned(), Json::Array(actions.to_vec()));
    }
    let open = json!({"minimumValue": 1, "maximumValue": 100});
    let states = json!([
        {"@type": "StatesToValue", "states": ["Alexa.States.Closed"], "value": 0},
        {"@type": "StatesToRange", "states": ["Alexa.States.Open"], "range": open},
    ]);
    semantics.insert("stateMappings".to_owned(), states);
    Json::Object(semantics)
}

fn friendly(asset: &str) -> Json {
    json!({"friendlyNames": [{"@type": "asset", "value": {"assetId": asset}}]})
}

fn door_modes() -> Json {
    json!({
        "ordered": false,
        "supportedModes": [
            {"value": DOOR_UP, "modeResources": friendly("Alexa.Value.Open")},
            {"value": DOOR_DOWN, "modeResources": friendly("Alexa.Value.Close")},
        ],
    })
}

/// "Open" is mapped only for a link that may open, "close" only for one that may close.
fn door_semantics(view: &EndpointView) -> Json {
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
        DeviceType::Scene => "SCENE_TRIGGER",
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
