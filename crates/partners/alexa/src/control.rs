//! Directives that do something.

use disclosure::{Acted, Command, Disclosed, EndpointView, Gate, Part};
use model::{DoorState, EndpointId, FanDirection, LockState, SystemMode, TemperatureScale, Timestamp, Value};
use serde_json::{Map, Value as Json, json};

use crate::directive::{Directive, Kind};
use crate::event::{disclosed, reply_to, reply_to_none};
use crate::fault::Fault;
use crate::interface::{
    DOOR_DOWN, DOOR_UP, FORWARD, Filled, Interface, LOWER, REVERSE, SLOTS, TARGET, UPPER, fill, mode_said, told_of,
};
use crate::limits::{ADJUST_MAX_MILLI, COLOR_STEP_KELVIN, DEFERRAL_S, HOLD_MAX_MINUTES, HOLD_START_SLACK_MS};
use crate::report::Deferred;
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
    let celsius = TemperatureScale::Celsius;
    let Some(text) = &directive.endpoint_id else {
        return refuse(gate, directive, Fault::InvalidDirective, celsius);
    };
    let found = EndpointId::new(text.as_str()).ok().and_then(|id| gate.endpoint(&id).map(|view| (id, view)));
    let Some((id, view)) = found else {
        return refuse(gate, directive, Fault::NoSuchEndpoint, celsius);
    };
    // Which capability it goes to: its namespace and instance, of a device that has it.
    let interface = Interface::of(directive.kind().namespace(), directive.instance.as_deref());
    let interface = interface.filter(|i| SLOTS.iter().any(|s| s.interface == *i && s.is_of(&view)));
    let Some(interface) = interface else {
        return refuse(gate, directive, Fault::InvalidDirective, celsius);
    };
    let wish = match read(directive, interface, gate.now()) {
        Ok(wish) => wish,
        Err(fault) => {
            let fault = plain_unless_commanded(fault, &view, interface);
            return refuse(gate, directive, fault, celsius);
        }
    };
    match gate.act(id, wish.command).await {
        Ok(_) if interface == Interface::Scene => started(gate, directive),
        Ok(acted) if interface == Interface::Lock && gate.sends() && directive.correlation_token.is_some() => {
            deferred(gate, directive, &view, &acted)
        }
        Ok(acted) => respond(gate, directive, &view, &wish.said, acted),
        Err(error) => refuse(gate, directive, error.into(), wish.scale),
    }
}

/// What is wrong with a payload is said in an interface's own words only to a link that may command that interface: to
/// any other each wrong payload looks the same, whatever the device is.
fn plain_unless_commanded(fault: Fault, view: &EndpointView, interface: Interface) -> Fault {
    let commanded = SLOTS.iter().any(|s| s.interface == interface && s.commanded(view));
    if commanded || fault == Fault::InvalidDirective { fault } else { Fault::InvalidValue }
}

/// A lock is slow, and this link can be told later what has become of it: every lock and every time, whatever its state.
/// Who can't be told later is answered as for any other device, when the command has been handed over.
fn deferred<G: Gate>(gate: &mut G, directive: &Directive, view: &EndpointView, acted: &Acted) -> Reply {
    let said = fill(view, &acted.echo, gate.now()).into_iter().filter(|f| f.tells.is_some()).map(|f| f.json).collect();
    let event = reply_to_none(gate, directive, "DeferredResponse", json!({"estimatedDeferralInSeconds": DEFERRAL_S}));
    let correlation = directive.correlation_token.clone().unwrap_or_default();
    let deferred = Some(Deferred { endpoint: view.id.clone(), correlation, said });
    Reply { deferred, ..Reply::new(directive, event, Outcome::Answered) }
}

/// A scene has started. A plain Response would make Alexa say that the scene does not answer.
fn started<G: Gate>(gate: &mut G, directive: &Directive) -> Reply {
    let payload = json!({"cause": {"type": "VOICE_INTERACTION"}, "timestamp": gate.now().to_rfc3339()});
    let scene = Interface::Scene.namespace();
    let event = reply_to(gate, directive, scene, "ActivationStarted", payload, Some(Vec::new()));
    Reply::new(directive, event, Outcome::Answered)
}

/// The answer to a command that was handed over: what the partner set, in its own words, and what it may see beside.
fn respond<G: Gate>(gate: &mut G, directive: &Directive, view: &EndpointView, said: &[Said], acted: Acted) -> Reply {
    let Acted { echo, context } = acted;
    let thermostat = Interface::Thermostat;
    let mut filled: Vec<Filled> = Vec::new();
    for s in said {
        let confirmed = echo.iter().find(|d| *d.value() == s.value);
        let slot = SLOTS.iter().position(|slot| slot.interface == thermostat && slot.name == s.name);
        // What Discovery does not name is not told: one target for a device that holds two set points moves those.
        let slot = slot.filter(|n| SLOTS.get(*n).is_some_and(|s| s.declared(view)));
        if let (Some(d), Some(slot)) = (confirmed, slot) {
            let json = disclosed(thermostat.namespace(), None, s.name, s.json.clone(), d);
            filled.push(Filled { slot, tells: Some(d.property()), also: None, json });
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

/// What a directive asks of an interface.
fn read(directive: &Directive, interface: Interface, now: Timestamp) -> Result<Wish, Fault> {
    let payload = &directive.payload;
    let plain = |command: Command| Wish { command, said: Vec::new(), scale: TemperatureScale::Celsius };
    let percent = |key: &str| Ok::<u16, Fault>((whole(payload.get(key), 0, 100)? * 100) as u16);
    let change = |key: &str| Ok::<i32, Fault>(whole(payload.get(key), -100, 100)? * 100);
    let part = match interface {
        Interface::BlindLift | Interface::Percentage => Ok(Part::CoverPosition),
        Interface::BlindTilt => Ok(Part::CoverTilt),
        Interface::FanSpeed | Interface::PowerLevel => Ok(Part::FanSpeed),
        _ => Err(Fault::InvalidDirective),
    };
    Ok(match directive.kind() {
        Kind::SetTargetTemperature => setpoints(payload, now)?,
        Kind::AdjustTargetTemperature => {
            let (number, scale) = degrees(payload.get("targetSetpointDelta")).ok_or(Fault::InvalidValue)?;
            let kelvin = if scale == TemperatureScale::Fahrenheit { number * 5.0 / 9.0 } else { number };
            let milli = (kelvin * 1000.0).round();
            if milli.abs() > f64::from(ADJUST_MAX_MILLI) {
                return Err(Fault::InvalidValue);
            }
            Wish { command: Command::AdjustSetpoint { delta_milli: milli as i32 }, said: Vec::new(), scale }
        }
        Kind::ResumeSchedule => plain(Command::ResumeSchedule),
        Kind::SetThermostatMode => plain(Command::SetSystemMode(system_mode(payload)?)),
        Kind::TurnOn => plain(Command::SetOnOff(true)),
        Kind::TurnOff => plain(Command::SetOnOff(false)),
        Kind::SetBrightness => plain(Command::SetLevel(percent("brightness")?)),
        Kind::AdjustBrightness => plain(Command::AdjustLevel(change("brightnessDelta")?)),
        Kind::SetColorTemperature => {
            let kelvin = whole(payload.get("colorTemperatureInKelvin"), 1_000, 10_000)?;
            plain(Command::SetColorTemperature(kelvin as u16))
        }
        Kind::IncreaseColorTemperature => plain(Command::AdjustColorTemperature(COLOR_STEP_KELVIN)),
        Kind::DecreaseColorTemperature => plain(Command::AdjustColorTemperature(-COLOR_STEP_KELVIN)),
        Kind::SetColor => {
            let number = |key: &str| payload.get("color").and_then(|c| c.get(key)).and_then(Json::as_f64);
            let (hue, saturation) = number("hue").zip(number("saturation")).ok_or(Fault::InvalidValue)?;
            // The page on SetColor: its brightness is to be ignored, the lamp keeps the one that was asked for before.
            match Value::color(hue, saturation * 100.0) {
                Ok(Value::Color(color)) => plain(Command::SetColor(color)),
                _ => return Err(Fault::InvalidValue),
            }
        }
        Kind::SetRangeValue => plain(Command::SetPart(part?, percent("rangeValue")?)),
        Kind::AdjustRangeValue => plain(Command::AdjustPart(part?, change("rangeValueDelta")?)),
        Kind::SetPowerLevel => plain(Command::SetPart(part?, percent("powerLevel")?)),
        Kind::AdjustPowerLevel => plain(Command::AdjustPart(part?, change("powerLevelDelta")?)),
        Kind::SetPercentage => plain(Command::SetPart(part?, percent("percentage")?)),
        Kind::AdjustPercentage => plain(Command::AdjustPart(part?, change("percentageDelta")?)),
        Kind::ToggleOn => plain(Command::SetOscillation(true)),
        Kind::ToggleOff => plain(Command::SetOscillation(false)),
        Kind::Activate => plain(Command::ActivateScene),
        Kind::Lock => plain(Command::SetLock(LockState::Locked)),
        Kind::Unlock => plain(Command::SetLock(LockState::Unlocked)),
        Kind::SetMode => match (interface, payload.get("mode").and_then(Json::as_str)) {
            (Interface::GarageDoor | Interface::BlindMode, Some(DOOR_UP)) => plain(Command::SetDoor(DoorState::Open)),
            (Interface::GarageDoor | Interface::BlindMode, Some(DOOR_DOWN)) => {
                plain(Command::SetDoor(DoorState::Closed))
            }
            (Interface::FanDirection, Some(FORWARD)) => plain(Command::SetFanDirection(FanDirection::Forward)),
            (Interface::FanDirection, Some(REVERSE)) => plain(Command::SetFanDirection(FanDirection::Reverse)),
            _ => return Err(Fault::InvalidValue),
        },
        Kind::AdjustMode
        | Kind::Deactivate
        | Kind::Discover
        | Kind::AcceptGrant
        | Kind::ReportState
        | Kind::Unknown => return Err(Fault::InvalidDirective),
    })
}

fn setpoints(payload: &Map<String, Json>, now: Timestamp) -> Result<Wish, Fault> {
    let minutes = match payload.get("schedule").filter(|s| !s.is_null()) {
        Some(schedule) => Some(hold(schedule, now)?),
        None => None,
    };
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
    let (target, heating, cooling) = (of(TARGET), of(LOWER), of(UPPER));
    let command = match minutes {
        Some(minutes) => Command::HoldSetpoint { target, heating, cooling, minutes },
        None => Command::SetSetpoint { target, heating, cooling },
    };
    Ok(Wish { command, said, scale })
}

/// For how long a set point holds. It can begin now alone: the hub keeps no orders for later.
fn hold(schedule: &Json, now: Timestamp) -> Result<u16, Fault> {
    if let Some(start) = schedule.get("start").filter(|s| !s.is_null()) {
        let start = start.as_str().and_then(Timestamp::from_rfc3339).ok_or(Fault::InvalidValue)?;
        if (start.as_millis().saturating_sub(now.as_millis())).saturating_abs() > HOLD_START_SLACK_MS {
            return Err(Fault::Schedule);
        }
    }
    let minutes = schedule.get("duration").and_then(Json::as_str).and_then(iso_minutes).ok_or(Fault::InvalidValue)?;
    u16::try_from(minutes).ok().filter(|m| (1..=HOLD_MAX_MINUTES).contains(m)).ok_or(Fault::Schedule)
}

/// Minutes of an ISO 8601 duration of days, hours, minutes and seconds, as in `P1DT2H30M`; part minutes count whole.
fn iso_minutes(text: &str) -> Option<u64> {
    let (days, time) = match text.strip_prefix('P')?.split_once('T') {
        Some((days, time)) if !time.is_empty() => (days, time),
        Some(_) => return None,
        None => (text.strip_prefix('P')?, ""),
    };
    let mut seconds = 0u64;
    let mut any = false;
    for (part, units) in [(days, &[('D', 86_400)][..]), (time, &[('H', 3_600), ('M', 60), ('S', 1)][..])] {
        let mut rest = part;
        for (letter, unit) in units {
            let Some((number, after)) = rest.split_once(*letter) else { continue };
            if number.len() > 6 || !number.bytes().all(|b| b.is_ascii_digit()) {
                return None;
            }
            seconds = seconds.checked_add(number.parse::<u64>().ok()?.checked_mul(*unit)?)?;
            any = true;
            rest = after;
        }
        if !rest.is_empty() {
            return None;
        }
    }
    any.then(|| seconds.div_ceil(60))
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
    let value = mode.get("value").and_then(Json::as_str).ok_or(Fault::InvalidValue)?;
    mode_said(value, mode.get("customName").and_then(Json::as_str)).ok_or(Fault::UnsupportedMode)
}

/// A whole number from `min` to `max`; 50.0 is one too.
fn whole(json: Option<&Json>, min: i32, max: i32) -> Result<i32, Fault> {
    let number = json.and_then(Json::as_f64).filter(|n| n.fract() == 0.0).ok_or(Fault::InvalidValue)?;
    if number < f64::from(min) || number > f64::from(max) {
        return Err(Fault::LevelOutOfRange { min, max });
    }
    Ok(number as i32)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_are_read_and_what_is_none_is_refused() {
        for (text, minutes) in
            [("PT3H", 180), ("P1D", 1_440), ("P1DT2H30M", 1_590), ("PT90M", 90), ("PT1S", 1), ("PT0S", 0)]
        {
            assert_eq!(iso_minutes(text), Some(minutes), "{text}");
        }
        for text in ["", "P", "PT", "3H", "PT3", "PT1M2H", "P1Y", "PT-1H", "PT1.5H", "PT9999999H", "P1DT"] {
            assert_eq!(iso_minutes(text), None, "{text}");
        }
        let hold = |json: Json| super::hold(&json, Timestamp::from_millis(1_764_000_000_000));
        assert_eq!(hold(json!({"start": "2025-11-24T16:00:30Z", "duration": "PT2H"})), Ok(120));
        assert_eq!(hold(json!({"duration": "PT24H"})), Ok(1_440));
        assert_eq!(hold(json!({"duration": "PT24H1M"})), Err(Fault::Schedule));
        assert_eq!(hold(json!({"start": "2025-11-24T18:00:00Z", "duration": "PT2H"})), Err(Fault::Schedule));
        assert_eq!(hold(json!({"start": "soon", "duration": "PT2H"})), Err(Fault::InvalidValue));
    }
}
