//! What users of other bridges complained of, each as a test: the items of the project's list of peers that concern
//! Alexa's directives, state and discovery. Those on events, tokens and being cut off stand where those things are.

use disclosure::Features;
use home::{Description, PropertyDescription};
use model::{Class, Property, SystemMode, Value};
use proptest::prelude::*;
use serde_json::{Value as Json, json};

use crate::house::{House, devices, error, told};

const T: &str = "Alexa.ThermostatController";

fn set_target(value: f64, scale: &str) -> Json {
    json!({"targetSetpoint": {"value": value, "scale": scale}})
}

/// 1, 2: `expose_by_default` ignored after an upgrade, entities exposed that were set not to be. A new device, and a new
/// property of a known device, are shared with nobody until somebody grants it.
#[test]
fn a_new_device_and_a_new_property_are_pending_and_inherit_nothing() {
    let mut house = House::new("everything");
    let before = house.discover();
    let (_, lamp) = devices().into_iter().find(|(id, _)| *id == "lamp").unwrap();
    let new = crate::house::device("new-lamp");
    house.state.lock().unwrap().describe(&new, lamp).unwrap();
    house.link = house.state.lock().unwrap().links.get(&house.link.id).unwrap().clone();
    house.link.enroll([(&new, model::DeviceType::Light)]);
    house.state.lock().unwrap().links.insert(house.link.clone());
    assert_eq!(house.discover(), before);
    let refused = house.ask("new-lamp", ("Alexa", "ReportState", ""), json!({}));
    assert_eq!(error(&refused), Some(("Alexa", "NO_SUCH_ENDPOINT")));
    // A contact that the lock grows with its next firmware.
    let (_, mut lock) = devices().into_iter().find(|(id, _)| *id == "lock").unwrap();
    let contact = PropertyDescription { class: Class::Door, command: false };
    lock.properties.insert(Property::ContactOpen, contact);
    house.state.lock().unwrap().describe(&crate::house::device("lock"), lock).unwrap();
    house.report("lock", Property::ContactOpen, Value::Bool(true));
    assert_eq!(house.discover(), before);
    assert_eq!(told(&house.poll("lock"), "detectionState"), None);
}

/// 2: the exposed set of one message is not that of another. Discovery, state and answers go by one table: what is not
/// declared is in no context, for every profile, device and directive on file.
#[test]
fn one_evaluator_serves_discovery_polls_and_answers() {
    for profile in ["commands-only", "glance"] {
        let house = House::new(profile);
        house.report_all();
        let discovered = house.discover();
        let endpoint = house.endpoint("dual");
        let all = discovered["event"]["payload"]["endpoints"].as_array().unwrap();
        let dual = all.iter().find(|e| e["endpointId"] == endpoint.as_str()).unwrap().to_string();
        let answer = house.ask("dual", (T, "SetThermostatMode", ""), json!({"thermostatMode": {"value": "HEAT"}}));
        for event in [house.poll("dual"), answer] {
            for p in event["context"]["properties"].as_array().unwrap() {
                let name = format!("{{\"name\":{}}}", p["name"]);
                assert!(dual.contains(&name), "{name} is not in {dual}");
            }
        }
    }
}

/// 3, 15: proactive reports by default. Whatever is granted, no flag promises one before events are set up.
#[test]
fn nothing_is_promised_to_be_reported_unasked() {
    for profile in policy::profiles().iter().map(|p| p.slug.as_str()) {
        let text = House::new(profile).discover().to_string();
        assert!(text.contains("\"proactivelyReported\":false") && !text.contains("\"proactivelyReported\":true"));
    }
}

/// 11, 18: a directive that Alexa sends again does not act again.
#[test]
fn a_repeated_directive_is_answered_again_and_acts_once() {
    let mut house = House::new("everything");
    house.report("lamp", Property::CurrentLevel, Value::Percent(5_000));
    house.now += 5;
    let what = ("Alexa.BrightnessController", "AdjustBrightness", "");
    let directive = house.directive("lamp", what, json!({"brightnessDelta": 10}));
    let first = house.send_once(&directive);
    house.now += 2_000;
    let again = house.send_once(&directive);
    assert_eq!(told(&first, "brightness"), Some(&json!(60)));
    assert_eq!(told(&again, "brightness"), Some(&json!(60)));
    assert_eq!(house.broker.orders.lock().unwrap().len(), 1);
}

/// 12: the app polls every 2 to 3 seconds. Within the interval of the rung it gets the same bytes.
#[test]
fn polling_every_two_seconds_buys_nothing() {
    let mut house = House::new("glance");
    house.report_all();
    house.now += 1;
    let first = house.poll("radiator");
    for n in 0..60 {
        house.now += 2_000;
        house.report("radiator", Property::LocalTemperature, Value::Temperature(20_000 + n * 50));
        assert_eq!(house.poll("radiator"), first);
    }
}

/// 19: "unresponsive" after an upgrade. With a property withheld the context stays valid, and the device stays OK.
#[test]
fn a_withheld_property_leaves_a_valid_context_and_a_device_that_is_ok() {
    let mut house = House::new("everything");
    house.grant_all_but_told(&[Property::SystemMode, Property::Reachable]);
    house.report_all();
    house.report("dual", Property::Reachable, Value::Bool(false));
    let report = house.poll("dual");
    assert_eq!(told(&report, "thermostatMode"), None);
    assert_eq!(told(&report, "connectivity"), Some(&json!({"value": "OK"})));
    assert!(told(&report, "temperature").is_some());
    // Granted, it is the truth.
    let house = House::new("everything");
    house.report_all();
    house.report("dual", Property::Reachable, Value::Bool(false));
    assert_eq!(told(&house.poll("dual"), "connectivity"), Some(&json!({"value": "UNREACHABLE"})));
}

/// 20: modes that a device has and Alexa has no word for, and the other way round. Every mode of the house is told and
/// taken; what Alexa says and the device lacks is its own error; a value never seen is left out.
#[test]
fn every_mode_is_mapped_and_an_unknown_one_is_never_an_error_of_the_report() {
    let modes = ["off", "auto", "cool", "heat", "emergency_heat", "fan_only", "dry"];
    for mode in modes.map(|m| SystemMode::parse(m).unwrap()) {
        let house = House::new("everything");
        assert_eq!(told(&house.poll("dual"), "thermostatMode"), None, "absent stays absent");
        house.report("dual", Property::SystemMode, Value::SystemMode(mode));
        let word = told(&house.poll("dual"), "thermostatMode").unwrap().clone();
        let custom = word == "CUSTOM";
        let mut payload = json!({"thermostatMode": {"value": word}});
        if custom {
            payload["thermostatMode"]["customName"] = json!(mode.as_str());
        }
        let answer = house.ask("dual", (T, "SetThermostatMode", ""), payload);
        assert_eq!(error(&answer), None, "{mode:?}");
        assert_eq!(house.last_order(), [(Property::SystemMode, Value::SystemMode(mode))]);
    }
}

/// 21: Amazon began to send a single set point to thermostats with two. The band moves by its nearest edge and keeps its
/// width; the one target goes nowhere else.
#[test]
fn a_single_set_point_to_a_dual_thermostat_in_auto_shifts_the_band_by_its_nearest_edge() {
    let (heat, cool) = (Property::OccupiedHeatingSetpoint, Property::OccupiedCoolingSetpoint);
    for (mode, target, expected) in [
        (SystemMode::Auto, 21.0, vec![(heat, 21_000), (cool, 26_500)]),
        (SystemMode::Auto, 24.5, vec![(heat, 19_000), (cool, 24_500)]),
        (SystemMode::Heat, 21.0, vec![(heat, 21_000)]),
        (SystemMode::Cool, 21.0, vec![(cool, 21_000)]),
    ] {
        for profile in ["everything", "commands-only"] {
            let house = House::new(profile);
            house.report_all();
            house.report("dual", Property::SystemMode, Value::SystemMode(mode));
            let answer = house.ask("dual", (T, "SetTargetTemperature", ""), set_target(target, "CELSIUS"));
            assert_eq!(error(&answer), None);
            let expected: Vec<_> = expected.iter().map(|(p, t)| (*p, Value::Temperature(*t))).collect();
            assert_eq!(house.last_order(), expected, "{mode:?} {target}");
            // Which edge it was is told to who may see both.
            let tells = profile == "everything";
            assert_eq!(told(&answer, "lowerSetpoint").is_some(), tells);
        }
    }
}

/// 23: "other" in place of heating and cooling, `auto` for `heatcool`, empty modes. Automatic change-over is AUTO, and
/// a thermostat without modes declares none.
#[test]
fn change_over_is_auto_and_no_modes_are_none() {
    let d = PropertyDescription { class: Class::None, command: true };
    let bare = Description {
        properties: [(Property::OccupiedHeatingSetpoint, d)].into(),
        features: Features { single_setpoint: true, ..Features::default() },
        ..Description::default()
    };
    let house = House::of(vec![("bare", bare)], "everything");
    let text = house.discover().to_string();
    assert!(text.contains("\"configuration\":{\"supportsScheduling\":false}"), "{text}");
    let house = House::new("everything");
    house.report("dual", Property::SystemMode, Value::SystemMode(SystemMode::Auto));
    assert_eq!(told(&house.poll("dual"), "thermostatMode"), Some(&json!("AUTO")));
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, ..ProptestConfig::default() })]

    /// 24: Fahrenheit never converted, spoken as Celsius, 50 too high. What is said in a scale is done in kelvin and
    /// answered in the same scale and figures; asked again ten times it is still that.
    #[test]
    fn temperatures_keep_the_scale_and_figures_in_which_they_were_said(tenths in 450i32..850, scale in 0usize..3) {
        let fahrenheit = f64::from(tenths) / 10.0;
        let celsius = (fahrenheit - 32.0) * 5.0 / 9.0;
        let (value, scale) = match scale {
            0 => (fahrenheit, "FAHRENHEIT"),
            1 => ((celsius * 10.0).round() / 10.0, "CELSIUS"),
            _ => ((celsius * 100.0).round() / 100.0 + 273.15, "KELVIN"),
        };
        let house = House::new("commands-only");
        for _ in 0..3 {
            let answer = house.ask("radiator", (T, "SetTargetTemperature", ""), set_target(value, scale));
            prop_assert_eq!(told(&answer, "targetSetpoint"), Some(&json!({"value": value, "scale": scale})));
            let [(Property::OccupiedHeatingSetpoint, Value::Temperature(milli))] = house.last_order()[..] else {
                panic!("another order");
            };
            prop_assert!((f64::from(milli) / 1000.0 - celsius).abs() < 0.06, "{milli} for {celsius} °C");
        }
    }
}

/// 25: a missing temperature as 0. Absent stays absent.
#[test]
fn what_was_never_reported_is_not_told_as_zero() {
    let house = House::new("everything");
    for (id, _) in devices().iter().filter(|(id, _)| *id != "smoke") {
        let report = house.poll(id);
        let all = report["context"]["properties"].as_array().unwrap();
        assert!(all.iter().all(|p| p["namespace"] == "Alexa.EndpointHealth"), "{report:#}");
    }
}

/// 27: linking fails because proactive mode is on. AcceptGrant is taken, and nothing of it comes back.
#[test]
fn accept_grant_is_taken_whatever_is_granted() {
    for profile in ["commands-only", "everything"] {
        let answer = House::new(profile).ask("", ("Alexa.Authorization", "AcceptGrant", ""), json!({}));
        assert_eq!(answer["event"]["header"]["name"], "AcceptGrant.Response");
    }
}

/// 29: refusals that trip a partner's health checks. A refused directive is INSUFFICIENT_PERMISSIONS, a refused read an
/// empty state: never an internal error, never an unreachable device.
#[test]
fn a_refusal_is_a_well_formed_answer_that_says_so() {
    let house = House::new("no-opening");
    house.report_all();
    let refused = house.ask("lock", ("Alexa.LockController", "Unlock", ""), json!({}));
    assert_eq!(error(&refused), Some(("Alexa", "INSUFFICIENT_PERMISSIONS")));
    let report = house.poll("lock");
    assert_eq!(report["event"]["header"]["name"], "StateReport");
    assert_eq!(report["context"]["properties"].as_array().unwrap().len(), 1);
    assert_eq!(told(&report, "connectivity"), Some(&json!({"value": "OK"})));
}

/// 32: garage doors and locks that open without a PIN. Opening is its own grant, apart from closing, also by every other
/// way to the same door.
#[test]
fn opening_needs_its_own_grant_by_every_way() {
    let house = House::new("no-opening");
    house.report_all();
    let mode = ("Alexa.ModeController", "SetMode", "GarageDoor.Position");
    let open = house.ask("garage", mode, json!({"mode": "Position.Up"}));
    assert_eq!(error(&open), Some(("Alexa", "INSUFFICIENT_PERMISSIONS")));
    let by = json!({"rangeValueDelta": 50, "rangeValueDeltaDefault": false});
    for (what, payload) in [
        (("Alexa.RangeController", "SetRangeValue", "Blind.Lift"), json!({"rangeValue": 100})),
        (("Alexa.RangeController", "AdjustRangeValue", "Blind.Lift"), by),
        (("Alexa.PercentageController", "SetPercentage", ""), json!({"percentage": 100})),
        (("Alexa.ModeController", "SetMode", "Blind.Position"), json!({"mode": "Position.Up"})),
    ] {
        assert_eq!(error(&house.ask("garage", what, payload)), Some(("Alexa", "INVALID_DIRECTIVE")), "{what:?}");
    }
    assert_eq!(house.broker.orders.lock().unwrap().len(), 0);
    assert_eq!(error(&house.ask("garage", mode, json!({"mode": "Position.Down"}))), None);
    // A blind is none of the home's doors.
    let lift = ("Alexa.RangeController", "SetRangeValue", "Blind.Lift");
    assert_eq!(error(&house.ask("blind", lift, json!({"rangeValue": 100}))), None);
}

/// A colour keeps the brightness that was asked for, where other hubs take the one that Alexa fills in; and a lamp that is
/// off is asked for the colour and for nothing else: the hub switches nothing on by itself, and the same for who may see
/// that the lamp is off and who may not.
#[test]
fn a_colour_keeps_the_brightness_and_a_lamp_that_is_off_gets_what_was_said() {
    for on in [true, false] {
        for profile in ["everything", "commands-only"] {
            let house = House::new(profile);
            house.report("lamp", Property::OnOff, Value::Bool(on));
            house.report("lamp", Property::CurrentLevel, Value::Percent(5_000));
            let red = json!({"color": {"hue": 0, "saturation": 1, "brightness": 1}});
            let answer = house.ask("lamp", ("Alexa.ColorController", "SetColor", ""), red);
            assert_eq!(error(&answer), None);
            let orders = house.last_order();
            assert_eq!(orders.iter().map(|(p, _)| *p).collect::<Vec<_>>(), [Property::Color]);
            let color = told(&answer, "color");
            let brightness = color.map(|c| c["brightness"].clone());
            assert_eq!(brightness, (profile == "everything").then(|| json!(0.5)));
            let level = ("Alexa.BrightnessController", "SetBrightness", "");
            house.ask("lamp", level, json!({"brightness": 20}));
            assert_eq!(house.last_order(), [(Property::CurrentLevel, Value::Percent(2_000))]);
        }
    }
}
