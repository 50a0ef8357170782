//! Discover: which devices there are, and what is honest to promise of them.

use std::borrow::Cow;
use std::sync::LazyLock;

use disclosure::{EndpointView, Gate};
use model::{DeviceType, EndpointId, Property, Value};
use serde::Serialize;
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
    let event = plain(gate, "Alexa.Discovery", "Discover.Response", one("endpoints", Json::Array(Vec::new())));
    Reply { endpoints, told, left_out, mixed, ..Reply::new(directive, event, Outcome::Answered) }
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
    for (view, (json, promise)) in views.iter().filter_map(|v| Some((v, endpoint(v)?))) {
        // The first ones by endpoint id, which tells nothing: what is left out stays left out until devices go.
        bytes = bytes.saturating_add(json.len());
        if endpoints.len() >= ENDPOINTS_MAX || bytes > DISCOVERY_MAX_BYTES {
            left_out += 1;
            continue;
        }
        let known = ATTRIBUTES.iter().filter(|(_, p)| text(view, *p, ATTRIBUTE_MAX_CHARS).is_some()).map(|(_, p)| *p);
        // Its category and a name are told of every endpoint; the gate knows whether the name is a granted one.
        let always = [Property::DeviceTypeName, Property::NodeLabel];
        endpoints.push((view.id.clone(), json, known.chain(always).collect()));
        if promise == Promise::InPart {
            mixed.push(view.id.clone());
        }
    }
    Found { endpoints, left_out, mixed }
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

/// What Discovery names of an endpoint. Whoever asks more than once keeps it: it is most of the work.
fn declared(view: &EndpointView) -> Vec<&'static Slot> {
    SLOTS.iter().filter(|s| s.declared(view)).collect()
}

/// What is promised of an endpoint: one word for all of its interfaces.
pub(crate) fn promise(view: &EndpointView) -> Promise {
    promise_of(view, &declared(view))
}

fn promise_of(view: &EndpointView, declared: &[&'static Slot]) -> Promise {
    let (mut some, mut all) = (false, true);
    for interface in INTERFACES.into_iter().filter(|i| *i != Interface::Scene) {
        let slots: Vec<&Slot> = declared.iter().copied().filter(|s| s.interface == interface).collect();
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

/// An endpoint and what is promised of it, or nothing for a device of which Alexa has no word for anything that is granted.
fn endpoint(view: &EndpointView) -> Option<(String, Promise)> {
    let declared = declared(view);
    if !is_endpoint_id(view.id.as_str()) || declared.iter().all(|s| s.interface == Interface::Health) {
        return None;
    }
    let promise = promise_of(view, &declared);
    let name = Some(cut(&view.name, NAME_MAX_CHARS)).filter(|n| !n.is_empty());
    let maker = text(view, Property::VendorName, NAME_MAX_CHARS);
    let is_scene = view.device_type == DeviceType::Scene;
    let attributes: Map<String, Json> = ATTRIBUTES
        .iter()
        .filter_map(|(key, p)| Some(((*key).to_owned(), text(view, *p, ATTRIBUTE_MAX_CHARS)?.into())))
        .collect();
    let capabilities = INTERFACES.into_iter().filter_map(|i| capability(view, i, &declared, promise));
    let endpoint = Announced {
        endpoint_id: view.id.as_str(),
        manufacturer_name: maker.as_deref().unwrap_or(MANUFACTURER),
        friendly_name: name.as_deref().unwrap_or_else(|| view.device_type.neutral_name()),
        description: if is_scene { SCENE_DESCRIPTION } else { DESCRIPTION },
        display_categories: [category(view.device_type)],
        additional_attributes: attributes,
        capabilities: capabilities.chain([Capability::new("Alexa", "3")]).collect(),
    };
    // Of strings and numbers alone: that can always be written.
    Some((serde_json::to_string(&endpoint).ok()?, promise))
}

/// An endpoint on the wire. Written from here straight to text: as a tree of values it took most of the time of a discovery to
/// build and to drop.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Announced<'a> {
    endpoint_id: &'a str,
    manufacturer_name: &'a str,
    friendly_name: &'a str,
    description: &'a str,
    display_categories: [&'static str; 1],
    #[serde(skip_serializing_if = "Map::is_empty")]
    additional_attributes: Map<String, Json>,
    capabilities: Vec<Capability>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Capability {
    #[serde(rename = "type")]
    of: &'static str,
    interface: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    instance: Option<&'static str>,
    version: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    properties: Option<Properties>,
    #[serde(skip_serializing_if = "Option::is_none")]
    configuration: Option<Part>,
    #[serde(skip_serializing_if = "Option::is_none")]
    capability_resources: Option<Part>,
    #[serde(skip_serializing_if = "Option::is_none")]
    semantics: Option<Part>,
    #[serde(skip_serializing_if = "Option::is_none")]
    supports_deactivation: Option<bool>,
    #[serde(skip_serializing_if = "Option::is_none")]
    proactively_reported: Option<bool>,
}

/// A part that is the same for every device is made once.
type Part = Cow<'static, Json>;

impl Capability {
    fn new(interface: &'static str, version: &'static str) -> Self {
        Self {
            of: "AlexaInterface",
            interface,
            instance: None,
            version,
            properties: None,
            configuration: None,
            capability_resources: None,
            semantics: None,
            supports_deactivation: None,
            proactively_reported: None,
        }
    }
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Properties {
    supported: Vec<Named>,
    proactively_reported: bool,
    retrievable: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    non_controllable: Option<bool>,
}

#[derive(Serialize)]
struct Named {
    name: &'static str,
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
fn capability(
    view: &EndpointView,
    interface: Interface,
    declared: &[&'static Slot],
    promise: Promise,
) -> Option<Capability> {
    let slots: Vec<&Slot> = declared.iter().copied().filter(|s| s.interface == interface).collect();
    if slots.is_empty() {
        return None;
    }
    let mut capability = Capability::new(interface.namespace(), interface.version());
    if interface == Interface::Scene {
        capability.supports_deactivation = Some(false);
        capability.proactively_reported = Some(false);
        return Some(capability);
    }
    let reported = promise == Promise::All;
    let controllable = slots.iter().any(|s| s.commanded(view));
    capability.instance = interface.instance();
    capability.properties = Some(Properties {
        supported: slots.iter().map(|s| Named { name: s.name }).collect(),
        proactively_reported: reported,
        // A constant is told whenever it is asked for.
        retrievable: retrievable(view, interface, &slots) || reported,
        non_controllable: (interface.instance().is_some() && !controllable).then_some(true),
    });
    let (configuration, resources, semantics) = match interface {
        Interface::Thermostat => {
            let has_mode = slots.iter().any(|s| s.name == "thermostatMode");
            (Some(Part::Owned(thermostat(view, has_mode))), None, None)
        }
        Interface::Hvac => {
            let stages = |name: &str| match name {
                "coolerOperation" => "numberOfCoolerOperations",
                _ => "numberOfPrimaryHeaterOperations",
            };
            let numbers: Map<String, Json> = slots.iter().map(|s| (stages(s.name).to_owned(), 1.into())).collect();
            (Some(Part::Owned(numbers.into())), None, None)
        }
        Interface::GarageDoor | Interface::BlindMode => {
            (Some(made(&DOOR_MODES)), Some(made(&MODE)), Some(Part::Owned(door_semantics(view))))
        }
        Interface::BlindLift | Interface::BlindTilt => {
            let lift = interface == Interface::BlindLift;
            // "Open" goes to one of them: the position, where there is one.
            let has_lift = declared.iter().any(|s| s.interface == Interface::BlindLift);
            let semantics = if controllable { &RANGE_ACTIONS } else { &RANGE_STATES };
            let semantics = (lift || !has_lift).then(|| made(semantics));
            (Some(made(&PERCENT)), Some(made(if lift { &OPENING } else { &TILT })), semantics)
        }
        Interface::FanSpeed => (Some(made(&PERCENT)), Some(made(&FAN_SPEED)), None),
        Interface::FanSwing => (None, Some(made(&OSCILLATE)), None),
        Interface::FanDirection => (Some(made(&FAN_DIRECTIONS)), Some(made(&DIRECTION)), None),
        _ => (None, None, None),
    };
    capability.configuration = configuration;
    capability.capability_resources = resources;
    capability.semantics = semantics;
    Some(capability)
}

/// What is the same for every device, made when it is first wanted.
type Made = LazyLock<Json>;

static DOOR_MODES: Made = LazyLock::new(door_modes);
static PERCENT: Made = LazyLock::new(percent_range);
static RANGE_ACTIONS: Made = LazyLock::new(|| range_semantics(true));
static RANGE_STATES: Made = LazyLock::new(|| range_semantics(false));
static FAN_DIRECTIONS: Made = LazyLock::new(fan_directions);
static MODE: Made = LazyLock::new(|| friendly("Alexa.Setting.Mode"));
static OPENING: Made = LazyLock::new(|| friendly("Alexa.Setting.Opening"));
static TILT: Made = LazyLock::new(|| friendly_text("tilt"));
static FAN_SPEED: Made = LazyLock::new(|| friendly("Alexa.Setting.FanSpeed"));
static OSCILLATE: Made = LazyLock::new(|| friendly("Alexa.Setting.Oscillate"));
static DIRECTION: Made = LazyLock::new(|| friendly("Alexa.Setting.Direction"));

fn made(part: &'static Made) -> Part {
    Cow::Borrowed(part)
}

fn fan_directions() -> Json {
    let mode = |value: &str, text: &str| json!({"value": value, "modeResources": friendly_text(text)});
    let modes = [mode(FORWARD, "forward"), mode(REVERSE, "reverse")];
    json!({"ordered": false, "supportedModes": modes})
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
