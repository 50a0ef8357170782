//! Errors that depend on state: the table in `fault.rs`, held against the gate.

use alexa::{ERRORS, ErrorRow, Neutral};
use home::Reading;
use model::{Color, Property, Rung, SystemMode, Timestamp, Trigger, Value};
use serde_json::{Value as Json, json};

use crate::house::{House, device, error};

type What = (&'static str, &'static str, &'static str);

/// How each error of the table comes about: a device, a directive, the state that it tells, and a state in which the same
/// directive is simply carried out.
struct Way {
    error_type: &'static str,
    reveals: Property,
    device: &'static str,
    what: What,
    payload: Json,
    told: Value,
    plain: Value,
}

fn ways() -> Vec<Way> {
    let set: What = ("Alexa.ThermostatController", "SetTargetTemperature", "");
    let white: What = ("Alexa.ColorTemperatureController", "DecreaseColorTemperature", "");
    let celsius = |key: &str, value: f64| json!({key: {"value": value, "scale": "CELSIUS"}});
    let mode = Value::SystemMode;
    let kelvin = Value::ColorTemperature(3_000);
    let color = Value::Color(Color { hue: 1, saturation: 2 });
    let (heat, cool) = (Property::OccupiedHeatingSetpoint, Property::OccupiedCoolingSetpoint);
    let way = |error_type, reveals, device, what, payload, told, plain| Way {
        error_type,
        reveals,
        device,
        what,
        payload,
        told,
        plain,
    };
    let close = "REQUESTED_SETPOINTS_TOO_CLOSE";
    let (warm, cold) = (Value::Temperature(28_000), Value::Temperature(12_000));
    vec![
        way(close, cool, "dual", set, celsius("lowerSetpoint", 21.0), Value::Temperature(22_000), warm),
        way(close, heat, "dual", set, celsius("upperSetpoint", 21.0), Value::Temperature(20_000), cold),
        way(
            "UNWILLING_TO_SET_VALUE",
            Property::SystemMode,
            "dual",
            set,
            celsius("lowerSetpoint", 15.0),
            mode(SystemMode::FanOnly),
            mode(SystemMode::Heat),
        ),
        way(
            "THERMOSTAT_IS_OFF",
            Property::SystemMode,
            "radiator",
            set,
            celsius("targetSetpoint", 21.0),
            mode(SystemMode::Off),
            mode(SystemMode::Heat),
        ),
        // Any colour that is younger than the white is the one that the lamp shows.
        way("NOT_SUPPORTED_IN_CURRENT_MODE", Property::Color, "lamp", white, json!({}), color.clone(), color),
        // And that the white is older is told as well.
        way(
            "NOT_SUPPORTED_IN_CURRENT_MODE",
            Property::ColorTemperature,
            "lamp",
            white,
            json!({}),
            kelvin.clone(),
            kelvin,
        ),
        way(
            "ENDPOINT_UNREACHABLE",
            Property::Reachable,
            "plug",
            ("Alexa.PowerController", "TurnOn", ""),
            json!({}),
            Value::Bool(false),
            Value::Bool(true),
        ),
    ]
}

/// The home in one of the two states, and the answer there.
fn answer(house: &House, way: &Way, telling: bool) -> Json {
    house.report_all();
    let (mut at, mut value) = (house.now + 5, way.told.clone());
    if !telling {
        value = way.plain.clone();
        // A colour that is older than the white.
        if way.reveals == Property::Color {
            at = house.now;
        }
    }
    // And a white that is older than the colour.
    if way.reveals == Property::ColorTemperature {
        let (property, value) = (Property::Color, Value::Color(Color { hue: 1, saturation: 2 }));
        let time = Timestamp::from_millis(house.now + 3);
        house.state.lock().unwrap().report(Reading { device: device(way.device), property, value, time });
        at = if telling { house.now + 2 } else { at };
    }
    let time = Timestamp::from_millis(at);
    let reading = Reading { device: device(way.device), property: way.reveals, value, time };
    house.state.lock().unwrap().report(reading);
    let mut later = House {
        now: house.now + 10,
        state: house.state.clone(),
        broker: house.broker.clone(),
        link: house.link.clone(),
    };
    later.now += 1;
    later.ask(way.device, way.what, way.payload.clone())
}

/// Each row of the table: with the grant that it names the error is said, without it the answer is the neutral one, byte
/// for byte what the link is answered when there is nothing to tell; and the command goes to the broker.
#[test]
fn an_error_that_tells_state_is_said_to_who_may_see_that_state_and_to_nobody_else() {
    let ways = ways();
    let rows: Vec<&ErrorRow> = ERRORS.iter().filter(|r| r.state.is_some()).collect();
    for row in &rows {
        let state = row.state.unwrap();
        assert_eq!((state.trigger, state.rung), (Trigger::DirectiveResponse, Rung::Live));
        assert_eq!(state.neutral, Neutral::HandedOver);
        for property in state.properties {
            let way = ways.iter().find(|w| w.error_type == row.error_type && w.reveals == *property);
            assert!(way.is_some(), "nothing here brings about {row:?} by {property}");
        }
    }
    for way in &ways {
        let row = rows.iter().find(|r| r.error_type == way.error_type).unwrap();
        let orders = |h: &House| h.broker.orders.lock().unwrap().len();
        let granted = House::new("everything");
        let told = answer(&granted, way, true);
        assert_eq!(error(&told), Some((row.namespace, row.error_type)));
        assert_eq!(orders(&granted), 0, "{}: said, and not carried out", way.error_type);
        assert_eq!(error(&answer(&House::new("everything"), way, false)), None, "{}", way.error_type);

        // Everything else may be granted; the one property that the error tells is not.
        let without = || {
            let mut house = House::new("everything");
            house.grant_all_but_told(&[way.reveals]);
            house
        };
        let (one, other) = (without(), without());
        let (telling, plain) = (answer(&one, way, true), answer(&other, way, false));
        assert_eq!(telling, plain, "{} is told without the grant for {}", way.error_type, way.reveals);
        assert_eq!(error(&telling), None);
        assert_eq!((orders(&one), orders(&other)), (1, 1), "{}", way.error_type);

        // A grant at a coarser rung, or to be polled, is not enough either.
        let mut polled = House::new("commands-only");
        polled.grant("glance");
        assert_eq!(error(&answer(&polled, way, true)), None, "{}", way.error_type);
    }
}

/// "One degree warmer" at the end of the range: the absolute set point would be told by an error, so there is none.
#[test]
fn a_change_that_ends_at_the_edge_of_the_range_is_answered_like_any_other() {
    let warmer = |t: i32| {
        let house = House::new("commands-only");
        house.report("radiator", Property::OccupiedHeatingSetpoint, Value::Temperature(t));
        let payload = json!({"targetSetpointDelta": {"value": 3, "scale": "CELSIUS"}});
        house.ask("radiator", ("Alexa.ThermostatController", "AdjustTargetTemperature", ""), payload)
    };
    assert_eq!(warmer(20_000), warmer(29_500));
}

/// Slow locks: without a grant for events the answer comes when the broker has the order, and repeats what was asked;
/// whether the bolt moved, jammed, or was there before, it does not tell.
#[test]
fn a_lock_is_answered_with_what_was_asked_and_its_state_is_not_told() {
    use model::LockState;
    let lock = |before: Option<LockState>, reachable: bool| {
        let house = House::new("commands-only");
        if let Some(before) = before {
            house.report("lock", Property::LockState, Value::LockState(before));
        }
        house.report("lock", Property::Reachable, Value::Bool(reachable));
        let answer = house.ask("lock", ("Alexa.LockController", "Lock", ""), json!({}));
        assert_eq!(house.last_order(), [(Property::LockState, Value::LockState(LockState::Locked))]);
        answer
    };
    let echo = lock(None, true);
    assert_eq!(crate::house::told(&echo, "lockState"), Some(&json!("LOCKED")));
    for before in [LockState::Locked, LockState::Unlocked, LockState::Jammed] {
        for reachable in [true, false] {
            assert_eq!(lock(Some(before), reachable), echo, "{before:?}");
        }
    }
}
