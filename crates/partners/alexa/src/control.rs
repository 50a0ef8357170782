//! Directives that do something.

use disclosure::{Acted, Command, Disclosed, EndpointView, Gate};
use model::{DeviceType, DoorState, EndpointId, LockState, SystemMode, TemperatureScale, Value};
use serde_json::{Map, Value as Json, json};

use crate::directive::{Directive, Kind};
use crate::event::{disclosed, reply_to};
use crate::fault::Fault;
use crate::interface::{
    DOOR_DOWN, DOOR_UP, Filled, GARAGE_DOOR, Interface, LOWER, SLOTS, TARGET, UPPER, fill, told_of,
};
use crate::limits::ADJUST_MAX_MILLI;
use crate::{Outcome, Reply, refuse};

/// A set point as the partner wrote it.
struct Said {
    name: &'static str,
    value: Value,
    json: Json,
}

/// What a directive asks for.
struct Wish {
    command: Command,
    said: Vec<Said>,
    /// The scale of the first temperature in it.
    scale: TemperatureScale,
}

pub(crate) async fn answer<G: Gate>(gate: &mut G, directive: &Directive) -> Reply {
    let Some(text) = &directive.endpoint_id else {
        return refuse(gate, directive, Fault::InvalidDirective, TemperatureScale::Celsius);
    };
    let found = EndpointId::new(text.as_str()).ok().and_then(|id| gate.endpoint(&id).map(|view| (id, view)));
    let Some((id, view)) = found else {
        return refuse(gate, directive, Fault::NoSuchEndpoint, TemperatureScale::Celsius);
    };
    let wish = match read(directive) {
        Ok(wish) => wish,
        Err(fault) => {
            let fault = plain_unless_commanded(fault, &view, directive.kind());
            return refuse(gate, directive, fault, TemperatureScale::Celsius);
        }
    };
    if matches!(wish.command, Command::SetDoor(_)) && view.device_type != DeviceType::GarageDoor {
        return refuse(gate, directive, Fault::InvalidDirective, wish.scale);
    }
    match gate.act(id, wish.command).await {
        Ok(acted) => respond(gate, directive, &view, &wish.said, acted),
        Err(error) => refuse(gate, directive, error.into(), wish.scale),
    }
}

/// What is wrong with a payload is said in an interface's own words only to a link that may command that interface: to
/// any other each wrong payload looks the same, whatever the device is.
fn plain_unless_commanded(fault: Fault, view: &EndpointView, kind: Kind) -> Fault {
    let interface = match kind {
        Kind::SetBrightness | Kind::AdjustBrightness => Interface::Brightness,
        _ => Interface::Thermostat,
    };
    let commanded = SLOTS.iter().any(|s| s.interface == interface && s.commanded(view));
    if commanded || fault == Fault::InvalidDirective { fault } else { Fault::InvalidValue }
}

/// The answer to a command that was handed over: what the partner set, in its own words, and what it may see beside.
fn respond<G: Gate>(gate: &mut G, directive: &Directive, view: &EndpointView, said: &[Said], acted: Acted) -> Reply {
    let Acted { echo, context } = acted;
    let thermostat = Interface::Thermostat;
    let mut filled: Vec<Filled> = Vec::new();
    for s in said {
        let confirmed = echo.iter().find(|d| *d.value() == s.value);
        let slot = SLOTS.iter().position(|slot| slot.interface == thermostat && slot.name == s.name);
        if let (Some(d), Some(slot)) = (confirmed, slot) {
            let json = disclosed(thermostat.namespace(), None, s.name, s.json.clone(), d);
            filled.push(Filled { slot, tells: Some(d.property()), json });
        }
    }
    // A set point that was said is told in the partner's words above, and not again in the hub's.
    let in_words = |d: &Disclosed| said.iter().any(|s| s.value == *d.value());
    let told: Vec<Disclosed> = echo.into_iter().filter(|d| !in_words(d)).chain(context).collect();
    for more in fill(view, &told, gate.now()) {
        if filled.iter().all(|f| f.slot != more.slot) {
            filled.push(more);
        }
    }
    filled.sort_by_key(|f| f.slot);
    let told = told_of(view, &filled);
    let properties = filled.into_iter().map(|f| f.json).collect();
    let event = reply_to(gate, directive, "Alexa", "Response", json!({}), Some(properties));
    Reply { told, ..Reply::new(directive, event, Outcome::Answered) }
}

fn read(directive: &Directive) -> Result<Wish, Fault> {
    let payload = &directive.payload;
    let plain = |command: Command| Wish { command, said: Vec::new(), scale: TemperatureScale::Celsius };
    Ok(match directive.kind() {
        Kind::SetTargetTemperature => setpoints(payload)?,
        Kind::AdjustTargetTemperature => {
            let (number, scale) = degrees(payload.get("targetSetpointDelta")).ok_or(Fault::InvalidValue)?;
            let kelvin = if scale == TemperatureScale::Fahrenheit { number * 5.0 / 9.0 } else { number };
            let milli = (kelvin * 1000.0).round();
            if milli.abs() > f64::from(ADJUST_MAX_MILLI) {
                return Err(Fault::InvalidValue);
            }
            Wish { command: Command::AdjustSetpoint { delta_milli: milli as i32 }, said: Vec::new(), scale }
        }
        Kind::SetThermostatMode => plain(Command::SetSystemMode(system_mode(payload)?)),
        Kind::TurnOn => plain(Command::SetOnOff(true)),
        Kind::TurnOff => plain(Command::SetOnOff(false)),
        Kind::SetBrightness => {
            let level = whole(payload.get("brightness"), 0, 100)?;
            plain(Command::SetLevel(u16::try_from(level * 100).map_err(|_| Fault::InvalidValue)?))
        }
        Kind::AdjustBrightness => plain(Command::AdjustLevel(whole(payload.get("brightnessDelta"), -100, 100)? * 100)),
        Kind::Lock => plain(Command::SetLock(LockState::Locked)),
        Kind::Unlock => plain(Command::SetLock(LockState::Unlocked)),
        Kind::SetMode if directive.instance.as_deref() == Some(GARAGE_DOOR) => {
            match payload.get("mode").and_then(Json::as_str) {
                Some(DOOR_UP) => plain(Command::SetDoor(DoorState::Open)),
                Some(DOOR_DOWN) => plain(Command::SetDoor(DoorState::Closed)),
                _ => return Err(Fault::InvalidValue),
            }
        }
        Kind::SetMode
        | Kind::AdjustMode
        | Kind::ResumeSchedule
        | Kind::Discover
        | Kind::AcceptGrant
        | Kind::ReportState
        | Kind::Unknown => return Err(Fault::InvalidDirective),
    })
}

fn setpoints(payload: &Map<String, Json>) -> Result<Wish, Fault> {
    if payload.get("schedule").is_some_and(|s| !s.is_null()) {
        return Err(Fault::Schedule);
    }
    let mut said = Vec::new();
    let mut first = None;
    for name in [TARGET, LOWER, UPPER] {
        let Some(json) = payload.get(name).filter(|j| !j.is_null()) else { continue };
        let (number, scale) = degrees(Some(json)).ok_or(Fault::InvalidValue)?;
        let value = Value::temperature(number, scale).map_err(|_| Fault::InvalidValue)?;
        first.get_or_insert(scale);
        let json = json!({"value": json.get("value"), "scale": scale});
        said.push(Said { name, value, json });
    }
    let scale = first.ok_or(Fault::InvalidValue)?;
    let of = |name: &str| said.iter().find(|s| s.name == name).map(|s| s.value.clone());
    let command = Command::SetSetpoint { target: of(TARGET), heating: of(LOWER), cooling: of(UPPER) };
    Ok(Wish { command, said, scale })
}

fn degrees(json: Option<&Json>) -> Option<(f64, TemperatureScale)> {
    let json = json?;
    let scale = match json.get("scale").and_then(Json::as_str)? {
        "CELSIUS" => TemperatureScale::Celsius,
        "FAHRENHEIT" => TemperatureScale::Fahrenheit,
        "KELVIN" => TemperatureScale::Kelvin,
        _ => return None,
    };
    Some((json.get("value").and_then(Json::as_f64)?, scale))
}

fn system_mode(payload: &Map<String, Json>) -> Result<SystemMode, Fault> {
    let mode = payload.get("thermostatMode").ok_or(Fault::InvalidValue)?;
    match mode.get("value").and_then(Json::as_str).ok_or(Fault::InvalidValue)? {
        "AUTO" => Ok(SystemMode::Auto),
        "COOL" => Ok(SystemMode::Cool),
        "HEAT" => Ok(SystemMode::Heat),
        "OFF" => Ok(SystemMode::Off),
        "EM_HEAT" => Ok(SystemMode::EmergencyHeat),
        // The names that Home Assistant gave them towards Alexa.
        "CUSTOM" => match mode.get("customName").and_then(Json::as_str) {
            Some("FAN") => Ok(SystemMode::FanOnly),
            Some("DEHUMIDIFY") => Ok(SystemMode::Dry),
            _ => Err(Fault::UnsupportedMode),
        },
        // ECO among them: the house has no such mode.
        _ => Err(Fault::UnsupportedMode),
    }
}

/// A whole number from `min` to `max`; 50.0 is one too.
fn whole(json: Option<&Json>, min: i32, max: i32) -> Result<i32, Fault> {
    let number = json.and_then(Json::as_f64).filter(|n| n.fract() == 0.0).ok_or(Fault::InvalidValue)?;
    if number < f64::from(min) || number > f64::from(max) {
        return Err(Fault::LevelOutOfRange { min, max });
    }
    Ok(number as i32)
}
