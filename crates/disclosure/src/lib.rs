//! The outward face of the gate: everything that a partner crate may see, and the two things it may do ([`Gate`]).
//!
//! A partner crate depends on this and on `model`, and on nothing else of the house: it can't name a raw reading.
//! What it renders comes from [`Disclosed`] values, from constants, and from what the partner itself sent.

use std::future::Future;

use model::{
    Color, DeviceType, DoorState, EndpointId, FanDirection, Kind, LockState, Property, Rung, SystemMode, Timestamp,
    Trigger, Value,
};

/// What a partner wants to know.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Question {
    /// The device, as this link knows it.
    pub endpoint: EndpointId,
    /// The property asked for.
    pub property: Property,
    /// Why the answer would leave.
    pub trigger: Trigger,
}

/// What came out of the gate for a question.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Answer {
    /// The household allows it: this value, as coarse and as old as the rung says.
    Disclosed(Disclosed),
    /// Nothing may be told. To the partner this looks like a property that does not exist.
    Refused(Refusal),
}

impl Answer {
    /// The disclosed value, if there is one.
    pub fn disclosed(self) -> Option<Disclosed> {
        match self {
            Answer::Disclosed(d) => Some(d),
            Answer::Refused(_) => None,
        }
    }
}

/// A value that may leave. Only the gate makes one (`Disclosed::from_gate` is a disallowed method elsewhere).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Disclosed {
    property: Property,
    value: Value,
    time: Timestamp,
    rung: Rung,
}

impl Disclosed {
    /// For the gate alone: wraps a shaped value.
    pub fn from_gate(property: Property, value: Value, time: Timestamp, rung: Rung) -> Self {
        Self { property, value, time, rung }
    }

    /// The property.
    pub fn property(&self) -> Property {
        self.property
    }

    /// The shaped value.
    pub fn value(&self) -> &Value {
        &self.value
    }

    /// When the value was true: the grid tick, or on the rung `live` the sample time.
    pub fn time(&self) -> Timestamp {
        self.time
    }

    /// The rung that it was shaped to.
    pub fn rung(&self) -> Rung {
        self.rung
    }
}

/// Why nothing is told.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Refusal {
    /// No grant of the household covers it (default deny), or one has expired.
    NoGrant,
    /// The maker's ceiling forbids it.
    Ceiling,
    /// The policies could not be evaluated: any error is a refusal.
    PolicyError,
    /// This link knows no such endpoint.
    NoSuchEndpoint,
    /// The device has no such property, or has never told a value.
    NoValue,
    /// The command is not one that this endpoint takes.
    NotSupported,
    /// The command counts only with the link's PIN, and none came with it.
    PinNeeded,
    /// The PIN that came with it is another one.
    PinWrong,
    /// Too many were wrong: none is taken for a while.
    PinLocked,
}

impl Refusal {
    /// The word in the ledger and on the page.
    pub fn as_str(self) -> &'static str {
        match self {
            Refusal::NoGrant => "no_grant",
            Refusal::Ceiling => "ceiling",
            Refusal::PolicyError => "policy_error",
            Refusal::NoSuchEndpoint => "no_such_endpoint",
            Refusal::NoValue => "no_value",
            Refusal::NotSupported => "not_supported",
            Refusal::PinNeeded => "pin_needed",
            Refusal::PinWrong => "pin_wrong",
            Refusal::PinLocked => "pin_locked",
        }
    }

    /// True when the household's or the maker's policy is the reason.
    pub fn is_policy(self) -> bool {
        let is_pin = matches!(self, Refusal::PinNeeded | Refusal::PinWrong | Refusal::PinLocked);
        is_pin || matches!(self, Refusal::NoGrant | Refusal::Ceiling | Refusal::PolicyError)
    }
}

impl std::fmt::Display for Refusal {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.as_str())
    }
}

/// A PIN that a person has said to a partner, on its way to be held against the link's. It is shown nowhere.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(String);

impl Secret {
    /// Longest that is taken, in bytes; what is longer is cut, and fits no PIN.
    pub const MAX_BYTES: usize = 64;

    /// Takes what came.
    pub fn new(text: &str) -> Self {
        Self(text.chars().take(Self::MAX_BYTES / 4).collect())
    }

    /// For the comparison alone.
    pub fn reveal(&self) -> &str {
        &self.0
    }
}

impl std::fmt::Debug for Secret {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Secret")
    }
}

/// An order to a device, in the hub's words.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Command {
    /// Set points of a thermostat. `target` is for a device with one set point in force; the hub finds out which.
    SetSetpoint {
        /// The one set point, a [`Value::Temperature`].
        target: Option<Value>,
        /// The lower one (heating).
        heating: Option<Value>,
        /// The upper one (cooling).
        cooling: Option<Value>,
    },
    /// Moves the set point in force by thousandths of a degree Celsius (a difference, not a temperature).
    AdjustSetpoint {
        /// How far, in thousandths of a kelvin.
        delta_milli: i32,
    },
    /// Set points that hold for some time, then give way to the schedule again.
    HoldSetpoint {
        /// The one set point, a [`Value::Temperature`].
        target: Option<Value>,
        /// The lower one (heating).
        heating: Option<Value>,
        /// The upper one (cooling).
        cooling: Option<Value>,
        /// For how long.
        minutes: u16,
    },
    /// Back to the schedule.
    ResumeSchedule,
    /// Sets the thermostat's mode.
    SetSystemMode(SystemMode),
    /// Switches on or off.
    SetOnOff(bool),
    /// Brightness in hundredths of a percent.
    SetLevel(u16),
    /// Changes brightness by hundredths of a percent.
    AdjustLevel(i32),
    /// White of a lamp, in kelvin; the nearest that the lamp has.
    SetColorTemperature(u16),
    /// Cooler or warmer white, by so many kelvin.
    AdjustColorTemperature(i32),
    /// Colour of a lamp. Its brightness stays as it is.
    SetColor(Color),
    /// Speed of a fan, position or tilt of a cover: hundredths of a percent.
    SetPart(Part, u16),
    /// Changes a speed, position or tilt by hundredths of a percent.
    AdjustPart(Part, i32),
    /// A fan swings, or stands.
    SetOscillation(bool),
    /// Which way a fan turns.
    SetFanDirection(FanDirection),
    /// Starts a scene.
    ActivateScene,
    /// Locks or unlocks.
    SetLock(LockState),
    /// Opens or closes a driven door.
    SetDoor(DoorState),
}

/// What [`Command::SetPart`] sets.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Part {
    /// Speed of a fan.
    FanSpeed,
    /// How far a cover is open.
    CoverPosition,
    /// How far its slats are open.
    CoverTilt,
}

impl Part {
    /// The property.
    pub fn property(self) -> Property {
        match self {
            Part::FanSpeed => Property::FanPercent,
            Part::CoverPosition => Property::CoverPosition,
            Part::CoverTilt => Property::CoverTilt,
        }
    }
}

impl Command {
    /// The property that the command sets; policies authorise commands by it.
    pub fn property(&self) -> Property {
        match self {
            Command::SetSetpoint { target: None, heating: None, .. }
            | Command::HoldSetpoint { target: None, heating: None, .. } => Property::OccupiedCoolingSetpoint,
            Command::SetSetpoint { .. } | Command::HoldSetpoint { .. } | Command::AdjustSetpoint { .. } => {
                Property::OccupiedHeatingSetpoint
            }
            Command::ResumeSchedule => Property::SetpointHold,
            Command::SetSystemMode(_) => Property::SystemMode,
            Command::SetOnOff(_) => Property::OnOff,
            Command::SetLevel(_) | Command::AdjustLevel(_) => Property::CurrentLevel,
            Command::SetColorTemperature(_) | Command::AdjustColorTemperature(_) => Property::ColorTemperature,
            Command::SetColor(_) => Property::Color,
            Command::SetPart(part, _) | Command::AdjustPart(part, _) => part.property(),
            Command::SetOscillation(_) => Property::FanOscillation,
            Command::SetFanDirection(_) => Property::FanDirection,
            Command::ActivateScene => Property::Scene,
            Command::SetLock(_) => Property::LockState,
            Command::SetDoor(_) => Property::DoorState,
        }
    }

    /// True for what opens the home: unlocking, opening a door. Policies authorise these apart.
    pub fn opens_the_home(&self) -> bool {
        matches!(
            self,
            Command::SetLock(LockState::Unlocked | LockState::Jammed)
                | Command::SetDoor(DoorState::Open | DoorState::Opening)
        )
    }

    /// True for what opens the home by a property of this kind: besides [`Command::opens_the_home`], any way up of a
    /// cover that closes it.
    pub fn opens(&self, kind: Kind) -> bool {
        let up = match self {
            Command::SetPart(part, to) => *part != Part::FanSpeed && *to > 0,
            Command::AdjustPart(part, by) => *part != Part::FanSpeed && *by > 0,
            _ => false,
        };
        self.opens_the_home() || (up && kind != Kind::Covering)
    }

    /// The name in the ledger.
    pub fn name(&self) -> &'static str {
        match self {
            Command::SetSetpoint { .. } => "set_setpoint",
            Command::AdjustSetpoint { .. } => "adjust_setpoint",
            Command::HoldSetpoint { .. } => "hold_setpoint",
            Command::ResumeSchedule => "resume_schedule",
            Command::SetSystemMode(_) => "set_system_mode",
            Command::SetOnOff(_) => "set_on_off",
            Command::SetLevel(_) => "set_level",
            Command::AdjustLevel(_) => "adjust_level",
            Command::SetColorTemperature(_) => "set_color_temperature",
            Command::AdjustColorTemperature(_) => "adjust_color_temperature",
            Command::SetColor(_) => "set_color",
            Command::SetPart(Part::FanSpeed, _) => "set_fan_percent",
            Command::SetPart(Part::CoverPosition, _) => "set_cover_position",
            Command::SetPart(Part::CoverTilt, _) => "set_cover_tilt",
            Command::AdjustPart(Part::FanSpeed, _) => "adjust_fan_percent",
            Command::AdjustPart(Part::CoverPosition, _) => "adjust_cover_position",
            Command::AdjustPart(Part::CoverTilt, _) => "adjust_cover_tilt",
            Command::SetOscillation(_) => "set_fan_oscillation",
            Command::SetFanDirection(_) => "set_fan_direction",
            Command::ActivateScene => "activate_scene",
            Command::SetLock(_) => "set_lock",
            Command::SetDoor(_) => "set_door",
        }
    }
}

/// Why a command was not carried out. Variants that would tell the home's state (see [`ActError::reveals`]) are given
/// only to a link that may see that state; to any other the gate answers [`Acted`] once the command has been handed over.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ActError {
    /// Policy refuses, or there is nothing to command.
    Refused(Refusal),
    /// The set point is outside what the device takes. The range is part of the device's description.
    OutOfRange {
        /// Least, a [`Value::Temperature`].
        min: Value,
        /// Greatest, a [`Value::Temperature`].
        max: Value,
    },
    /// The device has no such mode. Modes are part of its description.
    UnsupportedMode,
    /// Heating and cooling set points were given to a device with one.
    DualSetpointsUnsupported,
    /// Three set points were given.
    TripleSetpointsUnsupported,
    /// The two set points *of this command* are closer than the device takes.
    SetpointsTooClose {
        /// Least distance in thousandths of a kelvin.
        min_delta_milli: i32,
    },
    /// One set point of this command is closer to the other one, that the device has now, than it takes. Tells the other.
    TooCloseToOther {
        /// Least distance in thousandths of a kelvin.
        min_delta_milli: i32,
        /// The other set point.
        other: Property,
    },
    /// The device has no schedule, or takes no set point for a limited time. Part of its description.
    ScheduleUnsupported,
    /// No set point counts in the mode in force (fan alone). Tells the mode.
    UnwillingToSet,
    /// The lamp shows a colour, and white can't be made warmer or cooler. Tells that its colour is younger than its white.
    ShowsColor,
    /// The thermostat is off. Tells the mode.
    ThermostatIsOff,
    /// The device does not answer. Tells its reachability.
    Unreachable,
    /// The hub can't reach its own broker. Tells nothing of the home.
    BridgeUnreachable,
    /// The hub could not record the command. Nothing was done.
    NotRecorded,
}

impl ActError {
    /// What somebody who is told this error learns of the home's state. The gate says it only to a link that may see
    /// each of these after its commands, exact; any other link's command is carried out and answered as if nothing
    /// were in its way.
    pub fn reveals(&self) -> &'static [Property] {
        match self {
            ActError::ThermostatIsOff | ActError::UnwillingToSet => &[Property::SystemMode],
            ActError::Unreachable => &[Property::Reachable],
            // Which of the two is the younger.
            ActError::ShowsColor => &[Property::Color, Property::ColorTemperature],
            ActError::TooCloseToOther { other: Property::OccupiedHeatingSetpoint, .. } => {
                &[Property::OccupiedHeatingSetpoint]
            }
            ActError::TooCloseToOther { .. } => &[Property::OccupiedCoolingSetpoint],
            ActError::Refused(_)
            | ActError::OutOfRange { .. }
            | ActError::UnsupportedMode
            | ActError::DualSetpointsUnsupported
            | ActError::TripleSetpointsUnsupported
            | ActError::SetpointsTooClose { .. }
            | ActError::ScheduleUnsupported
            | ActError::BridgeUnreachable
            | ActError::NotRecorded => &[],
        }
    }
}

/// A command was handed over. `echo` holds what the partner itself set, `context` what it may see beside that.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Acted {
    /// What the command itself fully determined: the partner's own words, in the hub's units, at this time.
    pub echo: Vec<Disclosed>,
    /// Other properties of the endpoint that the link is granted at [`Trigger::DirectiveResponse`].
    pub context: Vec<Disclosed>,
}

/// A device as one link may know it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EndpointView {
    /// Random per link.
    pub id: EndpointId,
    /// The household's name for this link, or a neutral one ("Thermostat 1").
    pub name: String,
    /// What it is.
    pub device_type: DeviceType,
    /// Maker, model, serial number and firmware: only those that are granted.
    pub metadata: Vec<Disclosed>,
    /// What it can do and tell on this link.
    pub capabilities: Vec<Capability>,
    /// What the device takes, from its description.
    pub features: Features,
}

/// One property of an endpoint on this link.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Capability {
    /// The property.
    pub property: Property,
    /// A poll of it is answered.
    pub poll: bool,
    /// It is reported unasked.
    pub proactive: bool,
    /// It can be commanded.
    pub command: bool,
    /// It can be opened or unlocked (see [`Command::opens_the_home`]).
    pub command_open: bool,
}

/// What a device takes, from its own description: fixed, and no state.
#[derive(Clone, Debug, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(default)]
pub struct Features {
    /// Modes of a thermostat, in the hub's words.
    pub modes: Vec<SystemMode>,
    /// Least set point, thousandths of a degree Celsius.
    pub min_setpoint_milli: Option<i32>,
    /// Greatest set point, thousandths of a degree Celsius.
    pub max_setpoint_milli: Option<i32>,
    /// Least distance between heating and cooling set points, thousandths of a kelvin.
    pub min_setpoint_delta_milli: Option<i32>,
    /// It takes a heating and a cooling set point at once.
    pub dual_setpoints: bool,
    /// It takes one set point that serves the mode in force.
    pub single_setpoint: bool,
    /// It takes all three at once.
    pub triple_setpoints: bool,
    /// It takes set points for a limited time, and goes back to its schedule.
    pub schedules: bool,
    /// Warmest white, in kelvin.
    pub min_color_kelvin: Option<u16>,
    /// Coolest white, in kelvin.
    pub max_color_kelvin: Option<u16>,
}

/// What partner crates call. One value of it serves one message of one authenticated link; implementations record
/// each question, so that what was asked and refused can be summed in the ledger.
pub trait Gate: Send {
    /// The endpoints of this link, in an order that tells nothing (by endpoint id).
    fn endpoints(&mut self) -> Vec<EndpointView>;

    /// One endpoint of this link.
    fn endpoint(&mut self, id: &EndpointId) -> Option<EndpointView>;

    /// Asks for one property.
    fn ask(&mut self, question: Question) -> Answer;

    /// Every property that the endpoint's device has, whether this link may see it or not: a poll asks for all of
    /// them, so that each refusal is counted. The gate decides what comes back.
    fn ask_all(&mut self, endpoint: &EndpointId, trigger: Trigger) -> Vec<Disclosed>;

    /// Gives a command; comes back when it is recorded and handed to the broker, not when the device has obeyed.
    fn act(&mut self, endpoint: EndpointId, command: Command) -> impl Future<Output = Result<Acted, ActError>> + Send;

    /// The same, with a PIN that a person has said to the partner. Where the household asks for none it is not looked at.
    fn act_with(
        &mut self,
        endpoint: EndpointId,
        command: Command,
        _pin: Option<Secret>,
    ) -> impl Future<Output = Result<Acted, ActError>> + Send {
        self.act(endpoint, command)
    }

    /// Whether this link can be sent what it has not asked for just now: the partner has given the right to, and the
    /// household has set it up. It depends on nothing in the home.
    fn sends(&self) -> bool;

    /// The time at which this message is answered.
    fn now(&self) -> Timestamp;

    /// A fresh random id for a message that leaves (UUID form). Never from a counter: it would tell how much else left.
    fn message_id(&mut self) -> String;
}

/// Something a partner asked for and was refused, or demanded in writing.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Demand {
    /// Who asks.
    pub partner: String,
    /// What is asked, in the partner's words: untrusted text.
    pub text: String,
    /// Until when, `YYYY-MM-DD`.
    pub deadline: Option<String>,
    /// What follows a refusal, in the partner's words: untrusted text.
    pub threat: Option<String>,
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Whatever way leads to an open door, it is authorised as opening; a blind is no door, and down is not up.
    #[test]
    fn every_way_up_of_what_closes_the_home_opens_it() {
        let ways = [
            (Command::SetPart(Part::CoverPosition, 1), true),
            (Command::AdjustPart(Part::CoverPosition, 1), true),
            (Command::SetPart(Part::CoverTilt, 10_000), true),
            (Command::SetPart(Part::CoverPosition, 0), false),
            (Command::AdjustPart(Part::CoverPosition, -1), false),
            (Command::SetPart(Part::FanSpeed, 10_000), false),
        ];
        for (command, opens) in ways {
            assert_eq!(command.opens(Kind::Opening), opens, "{command:?}");
            assert_eq!(command.opens(Kind::Unknown), opens, "{command:?}");
            assert!(!command.opens(Kind::Covering), "{command:?}");
        }
        for kind in Kind::ALL {
            assert!(Command::SetLock(LockState::Unlocked).opens(kind) && Command::SetDoor(DoorState::Open).opens(kind));
        }
    }
}
