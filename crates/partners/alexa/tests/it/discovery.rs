//! Discovery promises what is kept.

use std::collections::BTreeSet;

use alexa::limits::{CAPABILITIES_MAX, DISCOVERY_MAX_BYTES, ENDPOINTS_MAX};
use disclosure::{
    ActError, Acted, Answer, Capability, Command, Disclosed, EndpointView, Features, Gate, Question, Refusal,
};
use model::{ALL_PROPERTIES, DeviceType, EndpointId, Property, Timestamp, Trigger, Value};
use policy::What;
use proptest::prelude::*;
use serde_json::{Value as Json, json};

use crate::house::{House, MESSAGE_ID, block_on, devices, told};
use crate::schema;

/// A gate that shows any endpoints at all.
struct Views(Vec<EndpointView>);

impl Gate for Views {
    fn endpoints(&mut self) -> Vec<EndpointView> {
        self.0.clone()
    }
    fn endpoint(&mut self, id: &EndpointId) -> Option<EndpointView> {
        self.0.iter().find(|v| v.id == *id).cloned()
    }
    fn ask(&mut self, _: Question) -> Answer {
        Answer::Refused(Refusal::NoGrant)
    }
    fn ask_all(&mut self, _: &EndpointId, _: Trigger) -> Vec<Disclosed> {
        Vec::new()
    }
    async fn act(&mut self, _: EndpointId, _: Command) -> Result<Acted, ActError> {
        Ok(Acted::default())
    }
    fn sends(&self) -> bool {
        false
    }
    fn now(&self) -> Timestamp {
        Timestamp::from_millis(crate::house::START)
    }
    fn message_id(&mut self) -> String {
        MESSAGE_ID.into()
    }
}

fn discover(views: Vec<EndpointView>) -> alexa::Reply {
    let directive = json!({"directive": {"header": {"namespace": "Alexa.Discovery", "name": "Discover",
        "payloadVersion": "3", "messageId": "m"}, "payload": {"scope": {"type": "BearerToken", "token": "t"}}}});
    let parsed = alexa::parse(directive.to_string().as_bytes()).unwrap();
    let reply = block_on(alexa::answer(&mut Views(views), &parsed));
    schema::check_event(&reply.event());
    reply
}

fn endpoints(event: &Json) -> &Vec<Json> {
    event["event"]["payload"]["endpoints"].as_array().unwrap()
}

fn view(n: usize, name: &str, capabilities: Vec<Capability>, features: Features) -> EndpointView {
    EndpointView {
        id: EndpointId::new(format!("{n:032x}")).unwrap(),
        name: name.to_owned(),
        device_type: DeviceType::OnOffPlug,
        metadata: Vec::new(),
        capabilities,
        features,
    }
}

fn capability(property: Property) -> impl Strategy<Value = Capability> {
    (any::<bool>(), any::<bool>(), any::<bool>(), any::<bool>()).prop_map(
        move |(poll, proactive, command, command_open)| Capability { property, poll, proactive, command, command_open },
    )
}

proptest! {
    /// Whatever is granted: what Discovery says is valid, never "reported but not to be asked for" (by the schema), and
    /// an interface is retrievable only when each property that it names may be asked for.
    #[test]
    fn no_set_of_grants_makes_discovery_promise_what_is_not_kept(
        sets in prop::collection::vec(prop::sample::subsequence(ALL_PROPERTIES.to_vec(), 0..12), 1..4),
        flags in prop::collection::vec(capability(Property::OnOff), 12),
        kinds in prop::collection::vec(0usize..6, 4),
        dual: bool, single: bool, triple: bool,
    ) {
        let types = [DeviceType::Thermostat, DeviceType::WindowCovering, DeviceType::GarageDoor, DeviceType::Light,
            DeviceType::Scene, DeviceType::Fan];
        let features = Features { dual_setpoints: dual, single_setpoint: single, triple_setpoints: triple,
            modes: vec![model::SystemMode::Heat, model::SystemMode::FanOnly], ..Features::default() };
        let views: Vec<EndpointView> = sets.iter().enumerate().map(|(n, set)| {
            let capabilities = set.iter().zip(&flags).map(|(p, f)| Capability { property: *p, ..*f }).collect();
            EndpointView { device_type: types[kinds[n]], ..view(n, "x", capabilities, features.clone()) }
        }).collect();
        let reply = discover(views.clone());
        for endpoint in endpoints(&reply.event()) {
            let view = views.iter().find(|v| v.id.as_str() == endpoint["endpointId"]).unwrap();
            for c in endpoint["capabilities"].as_array().unwrap() {
                if c["properties"]["retrievable"] == true {
                    prop_assert!(view.capabilities.iter().any(|c| c.poll), "{c}");
                }
                if c["properties"]["proactivelyReported"] == true {
                    prop_assert!(view.capabilities.iter().any(|c| c.proactive && c.poll), "{c}");
                }
            }
        }
    }
}

/// What is retrievable is in the report, and what is in the report is named: for every device and profile.
#[test]
fn what_discovery_names_is_what_a_report_holds() {
    for profile in policy::profiles().iter().map(|p| p.slug.as_str()) {
        let mut house = House::new(profile);
        house.report_all();
        house.now += 5;
        let discovered = house.discover();
        for (id, _) in devices() {
            let endpoint = house.endpoint(id);
            let Some(found) = endpoints(&discovered).iter().find(|e| e["endpointId"] == endpoint.as_str()) else {
                continue;
            };
            let key = |namespace: &Json, instance: &Json, name: &Json| format!("{namespace} {instance} {name}");
            let (mut named, mut retrievable) = (BTreeSet::new(), BTreeSet::new());
            for c in found["capabilities"].as_array().unwrap() {
                for p in c["properties"]["supported"].as_array().into_iter().flatten() {
                    let key = key(&c["interface"], &c["instance"], &p["name"]);
                    if c["properties"]["retrievable"] == true {
                        retrievable.insert(key.clone());
                    }
                    named.insert(key);
                }
            }
            let report = house.poll(id);
            let all = report["context"]["properties"].as_array().unwrap();
            let held: BTreeSet<String> = all.iter().map(|p| key(&p["namespace"], &p["instance"], &p["name"])).collect();
            assert!(held.is_subset(&named), "{profile} {id}: {:?}", held.difference(&named));
            // One target and two set points exclude each other, by the mode.
            let missing: Vec<_> = retrievable.difference(&held).filter(|k| !k.contains("etpoint\"")).collect();
            assert!(missing.is_empty(), "{profile} {id}: {missing:?}");
            assert!(found["capabilities"].as_array().unwrap().len() < CAPABILITIES_MAX);
        }
    }
}

#[test]
fn more_endpoints_than_alexa_takes_are_left_out_and_counted() {
    let on = Capability { property: Property::OnOff, poll: true, proactive: false, command: true, command_open: false };
    let many = |n: usize| (0..n).map(|n| view(n, "x", vec![on], Features::default())).collect::<Vec<_>>();
    let full = discover(many(ENDPOINTS_MAX));
    assert_eq!((endpoints(&full.event()).len(), full.left_out), (ENDPOINTS_MAX, 0));
    let over = discover(many(ENDPOINTS_MAX + 7));
    assert_eq!((endpoints(&over.event()).len(), over.left_out), (ENDPOINTS_MAX, 7));
}

/// Mixed flags make Alexa poll the whole endpoint, and trust no report of it: an endpoint is promised as a whole or not at
/// all, and which ones are granted in part is said. A connectivity that tells nothing is in nobody's way.
#[test]
fn endpoints_are_promised_as_a_whole_and_those_granted_in_part_are_named() {
    let flags = |p, proactive| Capability { property: p, poll: true, proactive, command: false, command_open: false };
    let (temperature, humidity, reachable) =
        (Property::LocalTemperature, Property::RelativeHumidity, Property::Reachable);
    let with = |n: usize, flags: Vec<Capability>| view(n, "x", flags, Features::default());
    let reply = discover(vec![
        with(1, vec![flags(temperature, false), flags(humidity, false), flags(reachable, false)]),
        with(2, vec![flags(temperature, true), flags(humidity, true), flags(reachable, true)]),
        with(3, vec![flags(temperature, true), flags(humidity, false), flags(reachable, true)]),
        with(4, vec![flags(temperature, true)]),
    ]);
    let mixed: Vec<_> = reply.mixed.iter().map(|id| id.as_str().trim_start_matches('0')).collect();
    assert_eq!(mixed, ["3"]);
    for (endpoint, promised) in endpoints(&reply.event()).iter().zip([false, true, false, true]) {
        for capability in endpoint["capabilities"].as_array().unwrap().iter().filter(|c| c["interface"] != "Alexa") {
            assert_eq!(capability["properties"]["proactivelyReported"], promised, "{capability}");
            assert!(!promised || capability["properties"]["retrievable"] == true, "{capability}");
        }
    }
}

/// No shipped profile makes Alexa poll an endpoint over and over: each is reported in whole or not at all.
#[test]
fn under_no_shipped_profile_an_endpoint_is_reported_in_part() {
    for profile in policy::profiles() {
        let house = House::new(&profile.slug);
        house.state.lock().unwrap().set_reporting(&house.link.id, true);
        let reply = house.send(&house.directive("", ("Alexa.Discovery", "Discover", ""), json!({})));
        assert!(reply.mixed.is_empty(), "{}: {:?}", profile.slug, reply.mixed);
        let event = reply.event();
        let found = endpoints(&event);
        let reported = found.iter().filter(|e| e.to_string().contains("\"proactivelyReported\":true")).count();
        // All that has a state; the thermostats and what tells a temperature; the named sensors.
        let expected = match profile.slug.as_str() {
            "everything" => 13,
            "convenience" => 4,
            "routines" => 2,
            _ => 0,
        };
        assert_eq!(reported, expected, "{}", profile.slug);
    }
}

/// Three hundred endpoints with everything that there is are far below what a Lambda function may answer.
#[test]
fn the_largest_home_fits_into_one_answer() {
    let all: Vec<Capability> = ALL_PROPERTIES
        .iter()
        .map(|p| Capability { property: *p, poll: true, proactive: true, command: true, command_open: true })
        .collect();
    let modes = vec![model::SystemMode::Heat, model::SystemMode::Cool, model::SystemMode::Auto];
    let features =
        Features { modes, dual_setpoints: true, single_setpoint: true, triple_setpoints: true, ..Features::default() };
    let mut views: Vec<EndpointView> =
        (0..ENDPOINTS_MAX).map(|n| view(n, &"ü".repeat(200), all.clone(), features.clone())).collect();
    for v in &mut views {
        v.device_type = DeviceType::WindowCovering;
    }
    let reply = discover(views);
    assert_eq!((endpoints(&reply.event()).len(), reply.left_out), (ENDPOINTS_MAX, 0));
    let bytes = reply.event().to_string().len();
    assert!(bytes < DISCOVERY_MAX_BYTES / 2, "{bytes} bytes");
}

/// No serial number, maker, model, firmware, own name or own id unless it is granted.
#[test]
fn metadata_is_told_where_it_is_granted() {
    let mut house = House::new("commands-only");
    let text = house.discover().to_string();
    assert!(!text.contains("SECRET"), "{text}");
    for (id, _) in devices() {
        assert!(!text.contains(&format!("\"{id}\"")), "{id} in {text}");
    }
    // Everything tells names, makers and models, and still no serial number or firmware.
    let everything = House::new("everything").discover().to_string();
    assert!(everything.contains("SECRET maker") && everything.contains("SECRET name"));
    assert!(!everything.contains("SECRET serial") && !everything.contains("SECRET firmware"));
    // Granted by itself, the serial number is told; of that device alone.
    let mut grants = house.grants("commands-only");
    let mut serial = grants.iter().find(|g| g.device.as_str() == "lock").unwrap().clone();
    serial.id = model::GrantId::new("serial").unwrap();
    serial.property = Property::SerialNumber;
    serial.what = What::Disclose { trigger: Trigger::Discovery, rung: model::Rung::Live };
    grants.push(serial);
    house.put_in_force(&grants);
    let text = house.discover().to_string();
    assert_eq!(text.matches("SECRET").count(), 1);
    assert!(text.contains("\"serialNumber\":\"SECRET serial of lock\""));
    assert_eq!(told(&house.poll("lock"), "lockState"), None);
}

/// A refused read looks like a property that does not exist; energy and alarms have no interface that can be asked.
#[test]
fn what_is_withheld_or_has_no_word_is_not_declared() {
    let interfaces = |house: &House| {
        let event = house.discover();
        let all = endpoints(&event).iter().flat_map(|e| e["capabilities"].as_array().unwrap().clone());
        all.map(|c| c["interface"].as_str().unwrap().to_owned()).collect::<BTreeSet<_>>()
    };
    let everything = interfaces(&House::new("everything"));
    assert_eq!(everything.len(), 19, "{everything:?}");
    for none in ["Alexa.DeviceUsage.Meter", "Alexa.EventDetectionSensor"] {
        assert!(!everything.contains(none));
    }
    let commands = interfaces(&House::new("commands-only"));
    for sensor in
        ["TemperatureSensor", "HumiditySensor", "ContactSensor", "MotionSensor", "ThermostatController.HVAC.Components"]
    {
        assert!(everything.contains(&format!("Alexa.{sensor}")) && !commands.contains(&format!("Alexa.{sensor}")));
    }
    let mut house = House::new("everything");
    house.grant_all_but_told(&[Property::RelativeHumidity]);
    house.report("climate", Property::RelativeHumidity, Value::Percent(5_000));
    assert!(!interfaces(&house).contains("Alexa.HumiditySensor"));
    assert_eq!(told(&house.poll("climate"), "relativeHumidity"), None);
}
