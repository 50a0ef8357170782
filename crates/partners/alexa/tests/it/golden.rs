//! Every directive of every interface and every error, as pairs of request and response on file. Set UPDATE_GOLDEN=1 to
//! write them anew; a reviewer reads the difference.

use std::collections::BTreeSet;
use std::path::Path;

use alexa::{ERRORS, Kind};
use model::{Color, Property, SystemMode, Value};
use serde_json::{Value as Json, json};

use crate::house::{House, Mood};
use crate::schema;

type What = (&'static str, &'static str, &'static str);

/// A pair.
struct Case {
    name: &'static str,
    device: &'static str,
    what: What,
    payload: Json,
    profile: &'static str,
    /// What happens before.
    before: fn(&House),
    /// The directive itself breaks the rules.
    wrong: bool,
}

const T: &str = "Alexa.ThermostatController";

fn case(name: &'static str, device: &'static str, what: What, payload: Json) -> Case {
    Case { name, device, what, payload, profile: "everything", before: |_| {}, wrong: false }
}

fn is_in(mode: SystemMode) -> Value {
    Value::SystemMode(mode)
}

fn set(payload: &[(&str, f64)]) -> Json {
    let one = |(name, value): &(&str, f64)| ((*name).to_owned(), json!({"value": value, "scale": "CELSIUS"}));
    Json::Object(payload.iter().map(one).collect())
}

fn cases() -> Vec<Case> {
    let none = || json!({});
    let set_t: What = (T, "SetTargetTemperature", "");
    let mode: What = (T, "SetThermostatMode", "");
    let of = |v: &'static str| json!({"thermostatMode": {"value": v}});
    let range = |instance: &'static str| -> What { ("Alexa.RangeController", "SetRangeValue", instance) };
    let adjust_range = |instance: &'static str| -> What { ("Alexa.RangeController", "AdjustRangeValue", instance) };
    let by = |n: i32| json!({"rangeValueDelta": n, "rangeValueDeltaDefault": false});
    let commands = |c: Case| Case { profile: "commands-only", ..c };
    let wrong = |c: Case| Case { wrong: true, ..c };
    let before = |c: Case, before: fn(&House)| Case { before, ..c };
    let schedule = json!({"targetSetpoint": {"value": 21, "scale": "CELSIUS"}, "schedule": {"duration": "PT3H"}});
    let mut all = vec![
        case("discover-everything", "", ("Alexa.Discovery", "Discover", ""), none()),
        Case { profile: "glance", ..case("discover-glance", "", ("Alexa.Discovery", "Discover", ""), none()) },
        commands(case("discover-commands-only", "", ("Alexa.Discovery", "Discover", ""), none())),
        case("accept-grant", "", ("Alexa.Authorization", "AcceptGrant", ""), none()),
        // Set points.
        case("set-target-celsius", "radiator", set_t, set(&[("targetSetpoint", 21.5)])),
        case(
            "set-target-fahrenheit",
            "radiator",
            set_t,
            json!({"targetSetpoint": {"value": 71.3, "scale": "FAHRENHEIT"}}),
        ),
        case("set-target-kelvin", "radiator", set_t, json!({"targetSetpoint": {"value": 294.26, "scale": "KELVIN"}})),
        commands(case("set-target-commands-only", "radiator", set_t, set(&[("targetSetpoint", 21.5)]))),
        case("set-both", "dual", set_t, set(&[("lowerSetpoint", 19.0), ("upperSetpoint", 24.0)])),
        commands(case(
            "set-both-commands-only",
            "dual",
            set_t,
            set(&[("lowerSetpoint", 19.0), ("upperSetpoint", 24.0)]),
        )),
        case("set-lower-alone", "dual", set_t, set(&[("lowerSetpoint", 18.0)])),
        case("set-one-of-a-dual-in-auto", "dual", set_t, set(&[("targetSetpoint", 22.0)])),
        commands(case("set-one-of-a-dual-in-auto-commands-only", "dual", set_t, set(&[("targetSetpoint", 22.0)]))),
        case(
            "set-triple",
            "triple",
            set_t,
            set(&[("targetSetpoint", 21.0), ("lowerSetpoint", 19.0), ("upperSetpoint", 24.0)]),
        ),
        case("set-for-three-hours", "triple", set_t, schedule.clone()),
        case(
            "adjust-target",
            "dual",
            (T, "AdjustTargetTemperature", ""),
            json!({"targetSetpointDelta": {"value": 2, "scale": "FAHRENHEIT"}}),
        ),
        commands(case(
            "adjust-target-commands-only",
            "dual",
            (T, "AdjustTargetTemperature", ""),
            json!({"targetSetpointDelta": {"value": -1, "scale": "CELSIUS"}}),
        )),
        case("resume-schedule", "triple", (T, "ResumeSchedule", ""), none()),
        case("set-mode", "dual", mode, of("COOL")),
        case(
            "set-mode-custom",
            "dual",
            mode,
            json!({"thermostatMode": {"value": "CUSTOM", "customName": "DEHUMIDIFY"}}),
        ),
        // Switches, lamps, fans, covers, locks, scenes.
        case("turn-on", "plug", ("Alexa.PowerController", "TurnOn", ""), none()),
        case("turn-off", "lamp", ("Alexa.PowerController", "TurnOff", ""), none()),
        case("set-brightness", "lamp", ("Alexa.BrightnessController", "SetBrightness", ""), json!({"brightness": 65})),
        case(
            "adjust-brightness",
            "lamp",
            ("Alexa.BrightnessController", "AdjustBrightness", ""),
            json!({"brightnessDelta": -20}),
        ),
        commands(case(
            "adjust-brightness-commands-only",
            "lamp",
            ("Alexa.BrightnessController", "AdjustBrightness", ""),
            json!({"brightnessDelta": -20}),
        )),
        case(
            "set-color-temperature",
            "lamp",
            ("Alexa.ColorTemperatureController", "SetColorTemperature", ""),
            json!({"colorTemperatureInKelvin": 2700}),
        ),
        case(
            "set-color-temperature-nearest",
            "lamp",
            ("Alexa.ColorTemperatureController", "SetColorTemperature", ""),
            json!({"colorTemperatureInKelvin": 7000}),
        ),
        case(
            "increase-color-temperature",
            "lamp",
            ("Alexa.ColorTemperatureController", "IncreaseColorTemperature", ""),
            none(),
        ),
        case(
            "decrease-color-temperature",
            "lamp",
            ("Alexa.ColorTemperatureController", "DecreaseColorTemperature", ""),
            none(),
        ),
        case(
            "set-color",
            "lamp",
            ("Alexa.ColorController", "SetColor", ""),
            json!({"color": {"hue": 350.5, "saturation": 0.7138, "brightness": 1}}),
        ),
        commands(case(
            "set-color-commands-only",
            "lamp",
            ("Alexa.ColorController", "SetColor", ""),
            json!({"color": {"hue": 350.5, "saturation": 0.7138, "brightness": 1}}),
        )),
        case("set-fan-speed", "fan", range("Fan.Speed"), json!({"rangeValue": 70})),
        case("adjust-fan-speed", "fan", adjust_range("Fan.Speed"), by(10)),
        case("set-power-level", "fan", ("Alexa.PowerLevelController", "SetPowerLevel", ""), json!({"powerLevel": 20})),
        case(
            "adjust-power-level",
            "fan",
            ("Alexa.PowerLevelController", "AdjustPowerLevel", ""),
            json!({"powerLevelDelta": 30}),
        ),
        case("swing", "fan", ("Alexa.ToggleController", "TurnOn", "Fan.Oscillate"), none()),
        case("stand-still", "fan", ("Alexa.ToggleController", "TurnOff", "Fan.Oscillate"), none()),
        case(
            "turn-around",
            "fan",
            ("Alexa.ModeController", "SetMode", "Fan.Direction"),
            json!({"mode": "Direction.Forward"}),
        ),
        case("lift-blind", "blind", range("Blind.Lift"), json!({"rangeValue": 100})),
        case("lower-blind-a-little", "blind", adjust_range("Blind.Lift"), by(-10)),
        case("tilt-blind", "blind", range("Blind.Tilt"), json!({"rangeValue": 30})),
        case("set-percentage", "blind", ("Alexa.PercentageController", "SetPercentage", ""), json!({"percentage": 55})),
        case(
            "adjust-percentage",
            "blind",
            ("Alexa.PercentageController", "AdjustPercentage", ""),
            json!({"percentageDelta": 25}),
        ),
        case(
            "open-shutter",
            "shutter",
            ("Alexa.ModeController", "SetMode", "Blind.Position"),
            json!({"mode": "Position.Up"}),
        ),
        case(
            "open-garage",
            "garage",
            ("Alexa.ModeController", "SetMode", "GarageDoor.Position"),
            json!({"mode": "Position.Up"}),
        ),
        commands(case(
            "close-garage-commands-only",
            "garage",
            ("Alexa.ModeController", "SetMode", "GarageDoor.Position"),
            json!({"mode": "Position.Down"}),
        )),
        case("lock", "lock", ("Alexa.LockController", "Lock", ""), none()),
        commands(case("unlock-commands-only", "lock", ("Alexa.LockController", "Unlock", ""), none())),
        case("activate-scene", "scene", ("Alexa.SceneController", "Activate", ""), none()),
        // Errors that tell nothing of the home.
        case("error-deactivate", "scene", ("Alexa.SceneController", "Deactivate", ""), none()),
        case(
            "error-adjust-mode",
            "garage",
            ("Alexa.ModeController", "AdjustMode", "GarageDoor.Position"),
            json!({"modeDelta": 1}),
        ),
        case("error-not-its-interface", "plug", ("Alexa.LockController", "Lock", ""), none()),
        case("error-not-its-instance", "garage", range("Blind.Lift"), json!({"rangeValue": 100})),
        wrong(case("error-unknown-directive", "plug", ("Alexa.Cooking", "SetCookingMode", ""), none())),
        wrong(case("error-invalid-value", "radiator", set_t, none())),
        wrong(case(
            "error-value-out-of-range",
            "lamp",
            ("Alexa.BrightnessController", "SetBrightness", ""),
            json!({"brightness": 101}),
        )),
        case("error-no-such-endpoint", "nothing-here", ("Alexa.PowerController", "TurnOn", ""), none()),
        Case {
            profile: "no-opening",
            ..case("error-insufficient-permissions", "lock", ("Alexa.LockController", "Unlock", ""), none())
        },
        before(case("error-not-recorded", "plug", ("Alexa.PowerController", "TurnOn", ""), none()), |h| {
            *h.broker.mood.lock().unwrap() = Mood::NotRecorded
        }),
        before(case("error-bridge-unreachable", "plug", ("Alexa.PowerController", "TurnOn", ""), none()), |h| {
            *h.broker.mood.lock().unwrap() = Mood::Down
        }),
        case(
            "error-temperature-out-of-range-fahrenheit",
            "radiator",
            set_t,
            json!({"targetSetpoint": {"value": 95, "scale": "FAHRENHEIT"}}),
        ),
        case("error-unsupported-mode", "radiator", mode, of("COOL")),
        case("error-unsupported-mode-eco", "dual", mode, of("ECO")),
        case("error-dual-unsupported", "radiator", set_t, set(&[("lowerSetpoint", 19.0), ("upperSetpoint", 24.0)])),
        case(
            "error-triple-unsupported",
            "dual",
            set_t,
            set(&[("targetSetpoint", 21.0), ("lowerSetpoint", 19.0), ("upperSetpoint", 24.0)]),
        ),
        case(
            "error-too-close-kelvin",
            "dual",
            set_t,
            json!({"lowerSetpoint": {"value": 294, "scale": "KELVIN"}, "upperSetpoint": {"value": 295, "scale": "KELVIN"}}),
        ),
        case("error-schedule", "radiator", set_t, schedule),
        case("error-resume-schedule", "radiator", (T, "ResumeSchedule", ""), none()),
        // Errors that depend on state, each with what a link without the grant is answered.
        case("error-too-close-to-the-other", "dual", set_t, set(&[("lowerSetpoint", 24.0)])),
        commands(case("neutral-too-close-to-the-other", "dual", set_t, set(&[("lowerSetpoint", 24.0)]))),
    ];
    let off: fn(&House) = |h| h.report("radiator", Property::SystemMode, is_in(SystemMode::Off));
    let fan: fn(&House) = |h| h.report("dual", Property::SystemMode, is_in(SystemMode::FanOnly));
    let gone: fn(&House) = |h| h.report("plug", Property::Reachable, Value::Bool(false));
    let color: fn(&House) = |h| {
        let later = model::Timestamp::from_millis(h.now + 2);
        let value = Value::Color(Color { hue: 100, saturation: 100 });
        let (device, property) = (crate::house::device("lamp"), Property::Color);
        h.state.lock().unwrap().report(home::Reading { device, property, value, time: later });
    };
    for (error, neutral, device, what, payload, before) in [
        (
            "error-thermostat-is-off",
            "neutral-thermostat-is-off",
            "radiator",
            set_t,
            set(&[("targetSetpoint", 21.0)]),
            off,
        ),
        (
            "error-unwilling-in-fan-mode",
            "neutral-unwilling-in-fan-mode",
            "dual",
            set_t,
            set(&[("lowerSetpoint", 19.0), ("upperSetpoint", 24.0)]),
            fan,
        ),
        ("error-unreachable", "neutral-unreachable", "plug", ("Alexa.PowerController", "TurnOn", ""), none(), gone),
        (
            "error-lamp-shows-a-colour",
            "neutral-lamp-shows-a-colour",
            "lamp",
            ("Alexa.ColorTemperatureController", "IncreaseColorTemperature", ""),
            none(),
            color,
        ),
    ] {
        all.push(Case { before, ..case(error, device, what, payload.clone()) });
        all.push(Case { before, ..commands(case(neutral, device, what, payload)) });
    }
    for (device, name) in [
        ("radiator", "state-of-radiator"),
        ("dual", "state-of-dual"),
        ("triple", "state-of-triple"),
        ("lock", "state-of-lock"),
        ("garage", "state-of-garage"),
        ("blind", "state-of-blind"),
        ("shutter", "state-of-shutter"),
        ("lamp", "state-of-lamp"),
        ("fan", "state-of-fan"),
        ("plug", "state-of-plug"),
        ("contact", "state-of-contact"),
        ("motion", "state-of-motion"),
        ("climate", "state-of-climate"),
        ("scene", "state-of-scene"),
    ] {
        all.push(case(name, device, ("Alexa", "ReportState", ""), none()));
    }
    all.push(commands(case("state-commands-only", "dual", ("Alexa", "ReportState", ""), none())));
    all.push(Case { profile: "glance", ..case("state-glance", "radiator", ("Alexa", "ReportState", ""), none()) });
    all
}

#[test]
fn every_directive_and_every_error_is_answered_as_on_file() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden");
    let update = std::env::var_os("UPDATE_GOLDEN").is_some();
    let (mut kinds, mut errors, mut files) = (BTreeSet::new(), BTreeSet::new(), BTreeSet::new());
    let mut different = Vec::new();
    for case in cases() {
        let mut house = House::new(case.profile);
        house.report_all();
        house.now += 2;
        (case.before)(&house);
        house.now += 2;
        let request = house.directive(case.device, case.what, case.payload);
        if !case.wrong {
            schema::check_directive(&request);
        }
        let response = house.send(&request).event();
        kinds.insert(format!("{}.{}", case.what.0, case.what.1));
        let payload = &response["event"]["payload"];
        if response["event"]["header"]["name"] == "ErrorResponse" {
            errors.insert((response["event"]["header"]["namespace"].to_string(), payload["message"].to_string()));
        }
        let text = format!("{:#}\n", json!({"request": request, "response": response}));
        assert!(files.insert(format!("{}.json", case.name)), "{} is there twice", case.name);
        let path = folder.join(format!("{}.json", case.name));
        if update {
            std::fs::create_dir_all(&folder).unwrap();
            std::fs::write(&path, &text).unwrap();
        } else if std::fs::read_to_string(&path).unwrap_or_default() != text {
            different.push(format!("{}: {text}", case.name));
        }
    }
    assert!(different.is_empty(), "not as on file (set UPDATE_GOLDEN=1 if meant):\n{}", different.join("\n"));
    for kind in Kind::ALL {
        assert!(kinds.contains(kind.message()), "no pair for {}", kind.message());
    }
    for row in ERRORS {
        let key = (format!("{:?}", row.namespace), format!("{:?}", row.message));
        assert!(errors.contains(&key), "no pair for {row:?}");
    }
    for entry in std::fs::read_dir(&folder).unwrap() {
        let name = entry.unwrap().file_name().into_string().unwrap();
        assert!(files.contains(&name), "{name} is on file and no case writes it");
    }
}
