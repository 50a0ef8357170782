//! The workload files are data that benchmarks run against the hub: this holds their form, so that
//! a slip is found before a day is run.

use std::fs;

use model::{DeviceType, DoorState, LockState, Property, SystemMode};
use serde::Deserialize;
use serde::de::DeserializeOwned;
use toml::Value;

use crate::shell::root;

const MINUTES_OF_A_DAY: u32 = 24 * 60;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Workload {
    name: String,
    #[serde(rename = "home")]
    _home: String,
    ask: Vec<Ask>,
    app_open: Vec<AppOpen>,
    command: Vec<Command>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Ask {
    at: String,
    says: String,
    #[serde(rename = "device")]
    _device: DeviceType,
    #[serde(rename = "property")]
    _property: Property,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct AppOpen {
    at: String,
    minutes: u32,
    poll_seconds: u32,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Command {
    at: String,
    says: String,
    #[serde(rename = "device")]
    _device: DeviceType,
    property: Property,
    value: Option<Value>,
    change: Option<f64>,
}

/// Minutes since midnight of `HH:MM`.
fn minute(at: &str) -> u32 {
    let (hours, minutes) = at
        .split_once(':')
        .filter(|_| at.len() == 5)
        .unwrap_or_else(|| panic!("`{at}` is not HH:MM"));
    let (hours, minutes): (u32, u32) = (hours.parse().unwrap(), minutes.parse().unwrap());
    assert!(hours < 24 && minutes < 60, "`{at}` is no time of day");
    hours * 60 + minutes
}

fn in_order<'a>(times: impl Iterator<Item = &'a str>) {
    let times: Vec<u32> = times.map(minute).collect();
    assert!(!times.is_empty() && times.is_sorted(), "out of order: {times:?}");
}

fn one_of<T: DeserializeOwned>(value: &Value) -> bool {
    value.clone().try_into::<T>().is_ok()
}

/// Whether the value is one that the property can be set to.
fn fits(property: Property, value: &Value) -> bool {
    let number = value
        .as_float()
        .or_else(|| value.as_integer().map(|whole| whole as f64));
    match property {
        Property::OccupiedHeatingSetpoint | Property::OccupiedCoolingSetpoint => {
            number.is_some_and(|celsius| (5.0..=35.0).contains(&celsius))
        }
        Property::CurrentLevel => number.is_some_and(|percent| (0.0..=100.0).contains(&percent)),
        Property::OnOff => value.is_bool(),
        Property::SystemMode => one_of::<SystemMode>(value),
        Property::LockState => one_of::<LockState>(value),
        Property::DoorState => one_of::<DoorState>(value),
        _ => false,
    }
}

fn check(text: &str) -> Workload {
    let workload: Workload = toml::from_str(text).unwrap();
    in_order(workload.ask.iter().map(|ask| ask.at.as_str()));
    in_order(workload.app_open.iter().map(|open| open.at.as_str()));
    in_order(workload.command.iter().map(|command| command.at.as_str()));
    let says = workload
        .ask
        .iter()
        .map(|ask| &ask.says)
        .chain(workload.command.iter().map(|command| &command.says));
    assert!(says.into_iter().all(|says| !says.is_empty()));
    let mut free_from = 0;
    for AppOpen {
        at,
        minutes,
        poll_seconds,
    } in &workload.app_open
    {
        assert!(minute(at) >= free_from, "the app is opened at {at} while it is open");
        assert!(*minutes > 0 && *poll_seconds > 0);
        free_from = minute(at) + minutes;
    }
    assert!(free_from <= MINUTES_OF_A_DAY, "the app stays open past midnight");
    for command in &workload.command {
        let good = match (&command.value, command.change) {
            (Some(value), None) => fits(command.property, value),
            (None, Some(change)) => change != 0.0 && fits(command.property, &Value::Float(20.0)),
            _ => false,
        };
        assert!(
            good,
            "the command at {} needs a `value` or a `change` that fits its property",
            command.at
        );
    }
    workload
}

#[test]
fn every_workload_is_well_formed_and_named_as_its_file() {
    let mut found = 0;
    for entry in fs::read_dir(root().join("workloads")).unwrap() {
        let path = entry.unwrap().path();
        let workload = check(&fs::read_to_string(&path).unwrap());
        assert_eq!(
            Some(workload.name.as_str()),
            path.file_stem().and_then(|stem| stem.to_str())
        );
        found += 1;
    }
    assert!(found > 0);
}

#[test]
fn slips_in_a_workload_are_found() {
    let good = fs::read_to_string(root().join("workloads").join("household-day.toml")).unwrap();
    for (was, slip) in [
        ("at = \"06:40\"", "at = \"6:40\""),
        ("at = \"06:40\"", "at = \"23:40\""),
        ("value = \"open\"", "value = \"ajar\""),
        ("value = 21.0", "value = 210.0"),
        ("change = 1.0", ""),
        ("minutes = 6", "minutes = 700"),
        ("property = \"system_mode\"", "property = \"mood\""),
        ("poll_seconds = 3", "poll_second = 3"),
    ] {
        let slipped = good.replacen(was, slip, 1);
        assert_ne!(slipped, good, "`{was}` is not in the file");
        assert!(
            std::panic::catch_unwind(|| check(&slipped)).is_err(),
            "not found: {slip}"
        );
    }
}
