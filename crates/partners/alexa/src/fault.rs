//! Every error that Alexa can be told, in one table, with what it reveals.

use disclosure::{ActError, Refusal};
use model::{TemperatureScale, Value};
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
    Schedule,
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
    ErrorRow { namespace, error_type, message, reveals }
}

/// Every row. The two of the [`constants`](crate::constants) for strangers are not among them.
pub const ERRORS: [ErrorRow; 15] = [
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
    row(THERMOSTAT, "UNWILLING_TO_SET_SCHEDULE", "Set points are not scheduled from here.", NOTHING),
    row(
        THERMOSTAT,
        "THERMOSTAT_IS_OFF",
        "The thermostat is off.",
        "the mode; the gate says it to a link that may see the mode",
    ),
    row(
        ALEXA,
        "ENDPOINT_UNREACHABLE",
        "The device does not answer.",
        "reachability; the gate says it to a link that may see it",
    ),
    row(
        ALEXA,
        "BRIDGE_UNREACHABLE",
        "The hub can't reach its devices.",
        "that the hub's own broker is down; nothing of the home",
    ),
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
            off,
            device,
            bridge,
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
            Fault::Schedule => schedule,
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
            Fault::SetpointsTooClose { min_delta_milli } => {
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
            ActError::Refused(Refusal::NoGrant | Refusal::Ceiling | Refusal::PolicyError) => Fault::Refused,
            ActError::Refused(Refusal::NoSuchEndpoint) => Fault::NoSuchEndpoint,
            ActError::Refused(Refusal::NotSupported | Refusal::NoValue) => Fault::InvalidDirective,
            ActError::OutOfRange { min, max } => Fault::TemperatureOutOfRange { min, max },
            ActError::UnsupportedMode => Fault::UnsupportedMode,
            ActError::DualSetpointsUnsupported => Fault::DualSetpoints,
            ActError::TripleSetpointsUnsupported => Fault::TripleSetpoints,
            ActError::SetpointsTooClose { min_delta_milli } => Fault::SetpointsTooClose { min_delta_milli },
            ActError::ThermostatIsOff => Fault::ThermostatIsOff,
            ActError::Unreachable => Fault::Unreachable,
            ActError::BridgeUnreachable => Fault::BridgeUnreachable,
            ActError::NotRecorded => Fault::NotRecorded,
        }
    }
}
