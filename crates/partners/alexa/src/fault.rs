//! Every error that Alexa can be told, in one table, with what it reveals.

use disclosure::{ActError, Refusal};
use model::{Property, Rung, TemperatureScale, Trigger, Value};
use serde_json::{Value as Json, json};

use crate::Outcome;
use crate::interface::temperature;

/// One row of the table: an error as Alexa knows it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ErrorRow {
    /// Namespace of the ErrorResponse.
    pub namespace: &'static str,
    /// `payload.type`. Alexa may say it aloud.
    pub error_type: &'static str,
    /// `payload.message`. A constant; Alexa doesn't say it.
    pub message: &'static str,
    /// What somebody who sees it learns of the home.
    pub reveals: &'static str,
    /// Set when it depends on the home's state.
    pub state: Option<StateRow>,
}

/// What an error that depends on state reveals, and to whom it may be said. The gate holds to it: it has the same columns
/// from [`ActError::reveals`], and a test compares the two over this table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct StateRow {
    /// The properties that it reveals, each time one of them or more: the gate has for each error which.
    pub properties: &'static [Property],
    /// The grant that it needs for the one that it reveals: told after the link's own commands,
    pub trigger: Trigger,
    /// exact and at once.
    pub rung: Rung,
    /// What a link without the grant is answered.
    pub neutral: Neutral,
}

/// The answer in place of an error that would tell the home's state.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Neutral {
    /// The command goes to the broker, and the answer is that of a command that was handed over: what the link itself has
    /// said, and what it may see beside.
    HandedOver,
}

/// A fault that is answered with an ErrorResponse.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Fault {
    InvalidDirective,
    InvalidValue,
    LevelOutOfRange { min: i32, max: i32 },
    NoSuchEndpoint,
    Refused,
    NotRecorded,
    TemperatureOutOfRange { min: Value, max: Value },
    UnsupportedMode,
    DualSetpoints,
    TripleSetpoints,
    SetpointsTooClose { min_delta_milli: i32 },
    TooCloseToOther { min_delta_milli: i32 },
    Schedule,
    UnwillingToSet,
    ShowsColor,
    ThermostatIsOff,
    Unreachable,
    BridgeUnreachable,
}

const ALEXA: &str = "Alexa";
const THERMOSTAT: &str = "Alexa.ThermostatController";
const NOTHING: &str = "nothing: it follows from what the partner sent";
const DESCRIPTION: &str = "what the device takes, from its description; given to a link that may command it";

const fn row(
    namespace: &'static str,
    error_type: &'static str,
    message: &'static str,
    reveals: &'static str,
) -> ErrorRow {
    ErrorRow { namespace, error_type, message, reveals, state: None }
}

/// A row of an error that depends on state.
const fn state_row(
    namespace: &'static str,
    error_type: &'static str,
    message: &'static str,
    reveals: &'static str,
    properties: &'static [Property],
) -> ErrorRow {
    let (trigger, rung, neutral) = (Trigger::DirectiveResponse, Rung::Live, Neutral::HandedOver);
    let state = Some(StateRow { properties, trigger, rung, neutral });
    ErrorRow { namespace, error_type, message, reveals, state }
}

/// Every row. The two of the [`constants`](crate::constants) for strangers are not among them.
pub const ERRORS: [ErrorRow; 18] = [
    row(ALEXA, "INVALID_DIRECTIVE", "The endpoint does not take this directive.", NOTHING),
    row(ALEXA, "INVALID_VALUE", "The directive holds a value that can't be.", NOTHING),
    row(ALEXA, "VALUE_OUT_OF_RANGE", "The value is out of range.", NOTHING),
    row(
        ALEXA,
        "NO_SUCH_ENDPOINT",
        "There is no such endpoint.",
        "nothing: a device of another link and no device look the same",
    ),
    row(
        ALEXA,
        "INSUFFICIENT_PERMISSIONS",
        "The household does not allow this.",
        "that the device takes it, and that the household withholds it",
    ),
    row(ALEXA, "INTERNAL_ERROR", "The command could not be recorded, and was not carried out.", "nothing of the home"),
    row(ALEXA, "TEMPERATURE_VALUE_OUT_OF_RANGE", "The temperature is out of the device's range.", DESCRIPTION),
    row(THERMOSTAT, "UNSUPPORTED_THERMOSTAT_MODE", "The thermostat has no such mode.", DESCRIPTION),
    row(THERMOSTAT, "DUAL_SETPOINTS_UNSUPPORTED", "The thermostat takes one set point.", DESCRIPTION),
    row(THERMOSTAT, "TRIPLE_SETPOINTS_UNSUPPORTED", "The thermostat does not take three set points.", DESCRIPTION),
    row(THERMOSTAT, "REQUESTED_SETPOINTS_TOO_CLOSE", "The set points are too close to each other.", DESCRIPTION),
    row(THERMOSTAT, "UNWILLING_TO_SET_SCHEDULE", "The thermostat takes no such schedule.", DESCRIPTION),
    row(ALEXA, "BRIDGE_UNREACHABLE", "The hub can't reach its devices.", "that the hub's own broker is down"),
    state_row(
        THERMOSTAT,
        "REQUESTED_SETPOINTS_TOO_CLOSE",
        "The set point is too close to the other one.",
        "about where the other set point is",
        &[Property::OccupiedHeatingSetpoint, Property::OccupiedCoolingSetpoint],
    ),
    state_row(
        THERMOSTAT,
        "UNWILLING_TO_SET_VALUE",
        "No set point counts in the mode in force.",
        "the mode",
        &[Property::SystemMode],
    ),
    state_row(THERMOSTAT, "THERMOSTAT_IS_OFF", "The thermostat is off.", "the mode", &[Property::SystemMode]),
    state_row(
        ALEXA,
        "NOT_SUPPORTED_IN_CURRENT_MODE",
        "The lamp shows a colour.",
        "that the lamp's colour is younger than its white",
        &[Property::Color, Property::ColorTemperature],
    ),
    state_row(ALEXA, "ENDPOINT_UNREACHABLE", "The device does not answer.", "reachability", &[Property::Reachable]),
];

impl Fault {
    /// The row in [`ERRORS`].
    pub(crate) fn row(&self) -> ErrorRow {
        let [
            directive,
            value,
            level,
            endpoint,
            refused,
            internal,
            temperature,
            mode,
            dual,
            triple,
            close,
            schedule,
            bridge,
            close_to_other,
            unwilling,
            off,
            color,
            device,
        ] = ERRORS;
        match self {
            Fault::InvalidDirective => directive,
            Fault::InvalidValue => value,
            Fault::LevelOutOfRange { .. } => level,
            Fault::NoSuchEndpoint => endpoint,
            Fault::Refused => refused,
            Fault::NotRecorded => internal,
            Fault::TemperatureOutOfRange { .. } => temperature,
            Fault::UnsupportedMode => mode,
            Fault::DualSetpoints => dual,
            Fault::TripleSetpoints => triple,
            Fault::SetpointsTooClose { .. } => close,
            Fault::TooCloseToOther { .. } => close_to_other,
            Fault::Schedule => schedule,
            Fault::UnwillingToSet => unwilling,
            Fault::ShowsColor => color,
            Fault::ThermostatIsOff => off,
            Fault::Unreachable => device,
            Fault::BridgeUnreachable => bridge,
        }
    }

    pub(crate) fn outcome(&self) -> Outcome {
        if *self == Fault::Refused { Outcome::RefusedByPolicy } else { Outcome::Error }
    }

    /// The payload, temperatures in the scale in which the partner asked.
    pub(crate) fn payload(&self, scale: TemperatureScale) -> Json {
        let row = self.row();
        let mut payload = json!({"type": row.error_type, "message": row.message});
        let extra = match self {
            Fault::LevelOutOfRange { min, max } => {
                Some(("validRange", json!({"minimumValue": min, "maximumValue": max})))
            }
            Fault::TemperatureOutOfRange { min, max } => Some((
                "validRange",
                json!({"minimumValue": temperature(min, scale), "maximumValue": temperature(max, scale)}),
            )),
            Fault::ShowsColor => Some(("currentDeviceMode", json!("COLOR"))),
            Fault::SetpointsTooClose { min_delta_milli } | Fault::TooCloseToOther { min_delta_milli } => {
                let kelvin = f64::from(*min_delta_milli) / 1000.0;
                let degrees = if scale == TemperatureScale::Fahrenheit { kelvin * 9.0 / 5.0 } else { kelvin };
                let tenths = (degrees * 10.0).round() / 10.0;
                Some(("minimumTemperatureDelta", json!({"value": tenths, "scale": scale})))
            }
            _ => None,
        };
        if let (Some((key, value)), Json::Object(payload)) = (extra, &mut payload) {
            payload.insert(key.to_owned(), value);
        }
        payload
    }
}

impl From<ActError> for Fault {
    fn from(error: ActError) -> Self {
        match error {
            // Which of Amazon's words would ask for a PIN? None: Alexa asks for its own code, before it sends the order.
            ActError::Refused(refusal) if refusal.is_policy() => Fault::Refused,
            ActError::Refused(Refusal::NoSuchEndpoint) => Fault::NoSuchEndpoint,
            ActError::Refused(_) => Fault::InvalidDirective,
            ActError::OutOfRange { min, max } => Fault::TemperatureOutOfRange { min, max },
            ActError::UnsupportedMode => Fault::UnsupportedMode,
            ActError::DualSetpointsUnsupported => Fault::DualSetpoints,
            ActError::TripleSetpointsUnsupported => Fault::TripleSetpoints,
            ActError::SetpointsTooClose { min_delta_milli } => Fault::SetpointsTooClose { min_delta_milli },
            ActError::TooCloseToOther { min_delta_milli, .. } => Fault::TooCloseToOther { min_delta_milli },
            ActError::ScheduleUnsupported => Fault::Schedule,
            ActError::UnwillingToSet => Fault::UnwillingToSet,
            ActError::ShowsColor => Fault::ShowsColor,
            ActError::ThermostatIsOff => Fault::ThermostatIsOff,
            ActError::Unreachable => Fault::Unreachable,
            ActError::BridgeUnreachable => Fault::BridgeUnreachable,
            ActError::NotRecorded => Fault::NotRecorded,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The table and what the gate goes by are one: an error of the gate that tells state has a row that names just the
    /// properties that it tells, and no other has.
    #[test]
    fn the_table_names_what_the_gate_goes_by() {
        let (min_delta_milli, min, max) = (2_000, Value::Temperature(0), Value::Temperature(1));
        let all = [
            ActError::Refused(Refusal::NoGrant),
            ActError::OutOfRange { min, max },
            ActError::UnsupportedMode,
            ActError::DualSetpointsUnsupported,
            ActError::TripleSetpointsUnsupported,
            ActError::SetpointsTooClose { min_delta_milli },
            ActError::TooCloseToOther { min_delta_milli, other: Property::OccupiedHeatingSetpoint },
            ActError::TooCloseToOther { min_delta_milli, other: Property::OccupiedCoolingSetpoint },
            ActError::ScheduleUnsupported,
            ActError::UnwillingToSet,
            ActError::ShowsColor,
            ActError::ThermostatIsOff,
            ActError::Unreachable,
            ActError::BridgeUnreachable,
            ActError::NotRecorded,
        ];
        let mut named = Vec::new();
        for error in all {
            let reveals = error.reveals();
            let row = Fault::from(error.clone()).row();
            match row.state {
                None => assert_eq!(reveals, [], "{error:?}"),
                Some(state) => {
                    assert!(!reveals.is_empty() && reveals.iter().all(|p| state.properties.contains(p)), "{error:?}");
                    named.extend(reveals.iter().map(|p| (row.error_type, *p)));
                }
            }
        }
        let rows = ERRORS.iter().filter_map(|r| r.state.map(|s| s.properties.iter().map(move |p| (r.error_type, *p))));
        for row in rows.flatten() {
            assert!(named.contains(&row), "{row:?} is in the table and never said");
        }
    }
}
