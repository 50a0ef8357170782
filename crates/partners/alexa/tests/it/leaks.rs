//! Random homes, random grants, random histories: nothing withheld in any byte of any message.

use std::sync::Arc;

use home::Description;
use model::{Color, DoorState, FanDirection, LockState, Property, RunningState, SystemMode, Timestamp, Trigger, Value};
use policy::{Grant, What};
use proptest::prelude::*;
use serde_json::{Value as Json, json};

use crate::house::{House, START, devices};

const MINUTE: i64 = 60_000;

/// What a partner may do to a device: anything that there is.
fn moves() -> Vec<((&'static str, &'static str, &'static str), Json)> {
    let celsius = |key: &str, value: f64| json!({key: {"value": value, "scale": "CELSIUS"}});
    let t = "Alexa.ThermostatController";
    let range = |n: i32| json!({"rangeValue": n});
    let by = |n: i32| json!({"rangeValueDelta": n, "rangeValueDeltaDefault": false});
    let mode = |v: &str| json!({"thermostatMode": {"value": v}});
    vec![
        (("Alexa", "ReportState", ""), json!({})),
        (("Alexa", "ReportState", ""), json!({})),
        (("Alexa.Discovery", "Discover", ""), json!({})),
        ((t, "SetTargetTemperature", ""), celsius("targetSetpoint", 21.0)),
        ((t, "SetTargetTemperature", ""), celsius("lowerSetpoint", 19.0)),
        ((t, "SetTargetTemperature", ""), celsius("upperSetpoint", 20.0)),
        ((t, "AdjustTargetTemperature", ""), celsius("targetSetpointDelta", -2.0)),
        ((t, "SetThermostatMode", ""), mode("HEAT")),
        ((t, "SetThermostatMode", ""), mode("AUTO")),
        ((t, "ResumeSchedule", ""), json!({})),
        (("Alexa.PowerController", "TurnOn", ""), json!({})),
        (("Alexa.BrightnessController", "SetBrightness", ""), json!({"brightness": 30})),
        (("Alexa.BrightnessController", "AdjustBrightness", ""), json!({"brightnessDelta": 30})),
        (("Alexa.ColorController", "SetColor", ""), json!({"color": {"hue": 1, "saturation": 1, "brightness": 1}})),
        (("Alexa.ColorTemperatureController", "IncreaseColorTemperature", ""), json!({})),
        (("Alexa.RangeController", "AdjustRangeValue", "Fan.Speed"), by(10)),
        (("Alexa.RangeController", "SetRangeValue", "Fan.Speed"), range(10)),
        (("Alexa.RangeController", "AdjustRangeValue", "Blind.Lift"), by(-10)),
        (("Alexa.PercentageController", "SetPercentage", ""), json!({"percentage": 5})),
        (("Alexa.PowerLevelController", "AdjustPowerLevel", ""), json!({"powerLevelDelta": 5})),
        (("Alexa.ToggleController", "TurnOff", "Fan.Oscillate"), json!({})),
        (("Alexa.ModeController", "SetMode", "Fan.Direction"), json!({"mode": "Direction.Forward"})),
        (("Alexa.ModeController", "SetMode", "GarageDoor.Position"), json!({"mode": "Position.Up"})),
        (("Alexa.ModeController", "SetMode", "Blind.Position"), json!({"mode": "Position.Down"})),
        (("Alexa.LockController", "Unlock", ""), json!({})),
        (("Alexa.LockController", "Lock", ""), json!({})),
        (("Alexa.SceneController", "Activate", ""), json!({})),
    ]
}

/// Whether a directive means something to a device.
fn fits(id: &str, (namespace, _, instance): (&str, &str, &str)) -> bool {
    match (namespace, instance) {
        ("Alexa" | "Alexa.Discovery", _) => true,
        ("Alexa.ThermostatController", _) => matches!(id, "radiator" | "dual" | "triple"),
        ("Alexa.PowerController", _) => matches!(id, "plug" | "lamp" | "fan"),
        ("Alexa.PowerLevelController" | "Alexa.ToggleController", _) | (_, "Fan.Speed" | "Fan.Direction") => {
            id == "fan"
        }
        ("Alexa.PercentageController", _) | (_, "Blind.Lift") => id == "blind",
        (_, "Blind.Position") => id == "shutter",
        (_, "GarageDoor.Position") => id == "garage",
        ("Alexa.LockController", _) => id == "lock",
        ("Alexa.SceneController", _) => id == "scene",
        _ => id == "lamp",
    }
}

/// Some value of a property, out of a number.
fn value(property: Property, n: u32) -> Value {
    use Property as P;
    let of = |all: &[&str]| all[n as usize % all.len()].to_owned();
    match property {
        P::LocalTemperature
        | P::OutdoorTemperature
        | P::OccupiedHeatingSetpoint
        | P::OccupiedCoolingSetpoint
        | P::OccupiedSetpoint => Value::Temperature(12_000 + (n % 16_000) as i32),
        P::SystemMode => {
            let modes = ["off", "auto", "cool", "heat", "fan_only", "dry"];
            Value::SystemMode(SystemMode::parse(&of(&modes)).unwrap())
        }
        P::RunningState => Value::RunningState(RunningState::parse(&of(&["idle", "heating", "cooling"])).unwrap()),
        P::LockState => Value::LockState(LockState::parse(&of(&["locked", "unlocked", "jammed"])).unwrap()),
        P::DoorState => Value::DoorState(DoorState::parse(&of(&["open", "closed", "opening"])).unwrap()),
        P::FanDirection => Value::FanDirection(FanDirection::parse(&of(&["forward", "reverse"])).unwrap()),
        P::Color => Value::Color(Color { hue: (n % 36_000) as u16, saturation: (n % 10_000) as u16 }),
        P::ColorTemperature => Value::ColorTemperature(2_000 + (n % 5_000) as u16),
        P::Co2Concentration | P::VocConcentration => Value::Ppm(n % 2_000),
        P::ActivePower => Value::Power(i64::from(n)),
        P::CumulativeEnergy => Value::Energy(i64::from(n)),
        P::SetpointHoldDuration => Value::Minutes((n % 1_000) as u16),
        P::RelativeHumidity | P::CurrentLevel | P::FanPercent | P::CoverPosition | P::CoverTilt | P::BatteryPercent => {
            Value::Percent((n % 10_001) as u16)
        }
        _ => Value::Bool(n.is_multiple_of(2)),
    }
}

/// Alexa's words for what a device has: namespace, instance and name, and the properties from which they can be told.
const WORDS: &[(&str, &str, &str, &[Property])] = &[
    (
        "Alexa.ThermostatController",
        "",
        "targetSetpoint",
        &[Property::OccupiedHeatingSetpoint, Property::OccupiedCoolingSetpoint, Property::OccupiedSetpoint],
    ),
    ("Alexa.ThermostatController", "", "lowerSetpoint", &[Property::OccupiedHeatingSetpoint]),
    ("Alexa.ThermostatController", "", "upperSetpoint", &[Property::OccupiedCoolingSetpoint]),
    ("Alexa.ThermostatController", "", "thermostatMode", &[Property::SystemMode]),
    ("Alexa.ThermostatController.HVAC.Components", "", "primaryHeaterOperation", &[Property::RunningState]),
    ("Alexa.ThermostatController.HVAC.Components", "", "coolerOperation", &[Property::RunningState]),
    ("Alexa.TemperatureSensor", "", "temperature", &[Property::LocalTemperature]),
    ("Alexa.HumiditySensor", "", "relativeHumidity", &[Property::RelativeHumidity]),
    ("Alexa.ContactSensor", "", "detectionState", &[Property::ContactOpen]),
    ("Alexa.MotionSensor", "", "detectionState", &[Property::Motion, Property::Occupancy]),
    ("Alexa.LockController", "", "lockState", &[Property::LockState]),
    ("Alexa.ModeController", "GarageDoor.Position", "mode", &[Property::DoorState]),
    ("Alexa.ModeController", "Blind.Position", "mode", &[Property::DoorState]),
    ("Alexa.ModeController", "Fan.Direction", "mode", &[Property::FanDirection]),
    ("Alexa.RangeController", "Blind.Lift", "rangeValue", &[Property::CoverPosition]),
    ("Alexa.RangeController", "Blind.Tilt", "rangeValue", &[Property::CoverTilt]),
    ("Alexa.RangeController", "Fan.Speed", "rangeValue", &[Property::FanPercent]),
    ("Alexa.ToggleController", "Fan.Oscillate", "toggleState", &[Property::FanOscillation]),
    ("Alexa.PowerController", "", "powerState", &[Property::OnOff]),
    ("Alexa.BrightnessController", "", "brightness", &[Property::CurrentLevel]),
    ("Alexa.ColorTemperatureController", "", "colorTemperatureInKelvin", &[Property::ColorTemperature]),
    ("Alexa.ColorController", "", "color", &[Property::Color]),
    ("Alexa.PowerLevelController", "", "powerLevel", &[Property::FanPercent]),
    ("Alexa.PercentageController", "", "percentage", &[Property::CoverPosition]),
    ("Alexa.SceneController", "", "", &[Property::Scene]),
    ("Alexa.EndpointHealth", "", "battery", &[Property::BatteryPercent]),
];

const COMFORT: [Property; 4] = [
    Property::OccupiedHeatingSetpoint,
    Property::OccupiedCoolingSetpoint,
    Property::OccupiedSetpoint,
    Property::SystemMode,
];

/// No word for what is neither granted nor commanded.
fn names_nothing_else(event: &Json, endpoint: &str, granted: &dyn Fn(Property) -> bool) {
    let text = |json: &Json| json.as_str().unwrap_or_default().to_owned();
    let mut named = Vec::new();
    for e in event["event"]["payload"]["endpoints"].as_array().into_iter().flatten() {
        for c in e["capabilities"].as_array().unwrap().iter().filter(|_| e["endpointId"] == endpoint) {
            let supported = c["properties"]["supported"].as_array().cloned().unwrap_or_else(|| vec![json!({})]);
            named.extend(supported.iter().map(|p| (text(&c["interface"]), text(&c["instance"]), text(&p["name"]))));
        }
    }
    let mine = event["event"]["endpoint"]["endpointId"] == endpoint;
    for p in event["context"]["properties"].as_array().into_iter().flatten().filter(|_| mine) {
        named.push((text(&p["namespace"]), text(&p["instance"]), text(&p["name"])));
    }
    for (namespace, instance, name) in named {
        if namespace == "Alexa" || name == "connectivity" {
            continue;
        }
        let word = WORDS.iter().find(|w| w.0 == namespace && w.1 == instance && w.2 == name);
        let (_, _, _, from) = word.unwrap_or_else(|| panic!("{namespace} {instance} {name} is no word"));
        assert!(from.iter().any(|p| granted(*p)), "{namespace} {instance} {name} is not granted: {event:#}");
    }
}

#[derive(Clone, Debug)]
struct Step {
    device: usize,
    property: usize,
    /// The value in the one home, and in the other if it is withheld.
    values: (u32, u32),
    by_partner: usize,
    at: usize,
}

fn step() -> impl Strategy<Value = Step> {
    let values = (any::<u32>(), any::<u32>());
    (0usize..3, 0usize..16, values, 0usize..512, 0usize..3)
        .prop_map(|(device, property, values, by_partner, at)| Step { device, property, values, by_partner, at })
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 40, max_shrink_iters: 40, ..ProptestConfig::default() })]

    /// Two homes with the same devices and grants live through the same days, except that every reading of a property of
    /// which nothing is granted to be told is another one. Every event that they render is the same to the byte; and in no
    /// event is there a word for what is neither granted nor commanded, nor a text that is not granted.
    #[test]
    fn nothing_withheld_is_in_any_byte_of_any_message(
        which in prop::sample::subsequence((0..15).collect::<Vec<usize>>(), 3),
        keep in prop::collection::vec((0u8..10, 0usize..model::ALL_RUNGS.len()), 150),
        steps in prop::collection::vec(step(), 90),
    ) {
        let all = devices();
        let home: Vec<(&str, Description)> = which.iter().map(|n| all[*n].clone()).collect();
        let one = House::of(home.clone(), "everything");
        // Every grant that there could be, at any rung; of these a few.
        let mut grants: Vec<Grant> = Vec::new();
        for (n, mut grant) in one.grants("everything").into_iter().enumerate() {
            let (dice, rung) = keep[n % keep.len()];
            if dice < 5 && grant.property != Property::DeviceTypeName {
                continue;
            }
            if let What::Disclose { trigger, .. } = grant.what
                && !grant.property.is_live_only()
                && trigger != Trigger::Discovery
            {
                grant.what = What::Disclose { trigger, rung: model::ALL_RUNGS[rung] };
            }
            grants.push(grant);
        }
        let mut one = one;
        one.put_in_force(&grants);
        let table = Arc::clone(one.state.lock().unwrap().table());
        let other = House::of(home.clone(), "commands-only");
        other.state.lock().unwrap().replace_table(table, Timestamp::from_millis(START));
        let mut homes = [one, other];
        let told = |id: &str, p: Property| {
            grants.iter().any(|g| g.device.as_str() == id && g.property == p && matches!(g.what, What::Disclose { .. }))
        };
        // Where a change takes a set point follows from the mode and the other set points. A household that lets one of them
        // be told lets that be inferred, by commands or without: so they are withheld together, or the same in both homes.
        let withheld = |id: &str, p: Property| {
            !told(id, p) && (!COMFORT.contains(&p) || COMFORT.iter().all(|other| !told(id, *other)))
        };
        let any = |id: &str, p: Property| grants.iter().any(|g| g.device.as_str() == id && g.property == p);
        let moves = moves();
        for (minute, step) in steps.iter().enumerate() {
            let (id, description) = &home[step.device];
            let mut properties: Vec<Property> = description.properties.keys().copied().collect();
            properties.push(Property::Reachable);
            let property = properties[step.property % properties.len()];
            let target = home[step.at].0;
            // Mostly what means something to the device; now and then anything.
            let sense: Vec<_> = moves.iter().filter(|(what, _)| step.by_partner % 8 == 0 || fits(target, *what)).collect();
            let (what, payload) = sense[step.by_partner / 8 % sense.len()];
            let mut events = Vec::new();
            for (n, house) in homes.iter_mut().enumerate() {
                house.now = START + minute as i64 * 7 * MINUTE;
                let differs = n == 1 && withheld(id, property);
                let random = if differs { step.values.1 } else { step.values.0 };
                house.report(id, property, value(property, random));
                house.now += 1_000;
                events.push(house.ask(target, *what, payload.clone()));
            }
            prop_assert_eq!(&events[0], &events[1], "after {} of {} and {:?}", property, id, what);
            let text = events[0].to_string();
            for (id, _) in &home {
                let endpoint = homes[0].endpoint(id);
                names_nothing_else(&events[0], &endpoint, &|p| any(id, p));
                for (secret, p) in [("name of", Property::NodeLabel), ("serial of", Property::SerialNumber)] {
                    prop_assert!(told(id, p) || !text.contains(&format!("SECRET {secret} {id}")), "{}", text);
                }
                let own = format!("\"{id}\"");
                prop_assert!(!text.contains(&own), "{}", text);
            }
            prop_assert!(!text.contains("SECRET firmware"), "{}", text);
        }
    }
}

/// The test above can see: a home whose withheld lock state is told through a grant is another home.
#[test]
fn a_granted_difference_is_seen() {
    let report = |state: LockState| {
        let house = House::new("everything");
        house.report("lock", Property::LockState, Value::LockState(state));
        house.poll("lock")
    };
    assert_ne!(report(LockState::Locked), report(LockState::Jammed));
}
