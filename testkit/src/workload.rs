//! A day of a household with a voice assistant: what it asks, how long the app is open, what it orders.

use serde::Deserialize;
use serde_json::{Value, json};

use crate::alexa::{Exchange, PretendAlexa, SendError};

/// Most entries in a workload.
const ENTRIES_MAX: usize = 10_000;

/// A day, as read from its file.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Workload {
    /// Its name.
    pub name: String,
    /// The home that it is written for.
    pub home: String,
    #[serde(default)]
    ask: Vec<Ask>,
    #[serde(default)]
    app_open: Vec<AppOpen>,
    #[serde(default)]
    command: Vec<Order>,
    /// What is read off policies (`policy::tasks`), and is no part of the day.
    #[serde(default, rename = "task")]
    _tasks: serde::de::IgnoredAny,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Ask {
    at: String,
    says: String,
    device: String,
    property: String,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct AppOpen {
    at: String,
    minutes: u32,
    poll_seconds: u32,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Order {
    at: String,
    says: String,
    device: String,
    property: String,
    value: Option<toml::Value>,
    change: Option<f64>,
}

/// One thing that happens.
#[derive(Clone, Debug, PartialEq)]
pub struct Step {
    /// Milliseconds after midnight, in home time.
    pub at_ms: i64,
    /// What happens.
    pub act: Act,
}

/// What happens.
#[derive(Clone, Debug, PartialEq)]
pub enum Act {
    /// A person asks for one property; the assistant reads the device.
    Ask {
        /// The person's words.
        says: String,
        /// Type of the device.
        device: String,
        /// Property asked for.
        property: String,
    },
    /// The app is open: it reads every device it knows.
    PollAll,
    /// A person orders.
    Command {
        /// The person's words.
        says: String,
        /// Type of the device.
        device: String,
        /// Property to set.
        property: String,
        /// The value, or the change when `relative`.
        value: Value,
        /// True for a change.
        relative: bool,
    },
}

/// A workload that can't be read.
#[derive(Debug, thiserror::Error)]
pub enum WorkloadError {
    /// Not TOML, or with unknown keys.
    #[error("the workload is not readable: {0}")]
    Toml(String),
    /// A time that is none.
    #[error("`{0}` is no time of day: write HH:MM")]
    Time(String),
    /// An order with neither or both of `value` and `change`.
    #[error("the command at {0} needs `value` or `change`, and not both")]
    Value(String),
    /// Too long.
    #[error("a workload has at most {ENTRIES_MAX} steps")]
    TooLong,
}

fn time_of_day(text: &str) -> Result<i64, WorkloadError> {
    let parse = || {
        let (h, m) = text.split_once(':')?;
        let (h, m): (i64, i64) = (h.parse().ok()?, m.parse().ok()?);
        (h < 24 && m < 60 && h >= 0 && m >= 0).then_some((h * 60 + m) * 60_000)
    };
    parse().ok_or_else(|| WorkloadError::Time(text.to_owned()))
}

impl Workload {
    /// Reads a workload.
    ///
    /// # Errors
    /// When it is not TOML of the known form.
    pub fn parse(text: &str) -> Result<Self, WorkloadError> {
        toml::from_str(text).map_err(|e| WorkloadError::Toml(e.to_string()))
    }

    /// The day's steps in order of time.
    ///
    /// # Errors
    /// When a time or a value is wrong, or there are too many steps.
    pub fn steps(&self) -> Result<Vec<Step>, WorkloadError> {
        let mut steps = Vec::new();
        for a in &self.ask {
            let act = Act::Ask { says: a.says.clone(), device: a.device.clone(), property: a.property.clone() };
            steps.push(Step { at_ms: time_of_day(&a.at)?, act });
        }
        for open in &self.app_open {
            let (start, every) = (time_of_day(&open.at)?, i64::from(open.poll_seconds.max(1)) * 1000);
            let end = start + i64::from(open.minutes.min(24 * 60)) * 60_000;
            let mut at_ms = start;
            while at_ms < end {
                steps.push(Step { at_ms, act: Act::PollAll });
                at_ms += every;
                if steps.len() > ENTRIES_MAX {
                    return Err(WorkloadError::TooLong);
                }
            }
        }
        for o in &self.command {
            let (value, relative) = match (&o.value, o.change) {
                (Some(v), None) => (serde_json::to_value(v).unwrap_or(Value::Null), false),
                (None, Some(c)) => (json!(c), true),
                _ => return Err(WorkloadError::Value(o.at.clone())),
            };
            let (says, device, property) = (o.says.clone(), o.device.clone(), o.property.clone());
            let act = Act::Command { says, device, property, value, relative };
            steps.push(Step { at_ms: time_of_day(&o.at)?, act });
        }
        steps.sort_by_key(|s| s.at_ms);
        Ok(steps)
    }
}

/// Display category by which Alexa knows a device type.
fn category(device: &str) -> &'static str {
    match device {
        "thermostat" => "THERMOSTAT",
        "garage_door" => "GARAGE_DOOR",
        "door_lock" => "SMARTLOCK",
        "light" => "LIGHT",
        "on_off_plug" => "SMARTPLUG",
        "contact_sensor" => "CONTACT_SENSOR",
        "occupancy_sensor" => "MOTION_SENSOR",
        "temperature_sensor" => "TEMPERATURE_SENSOR",
        _ => "OTHER",
    }
}

/// Where Alexa reads a property: interface and property name.
fn interface(property: &str) -> (&'static str, &'static str) {
    match property {
        "local_temperature" => ("Alexa.TemperatureSensor", "temperature"),
        "occupied_heating_setpoint" => ("Alexa.ThermostatController", "targetSetpoint"),
        "system_mode" => ("Alexa.ThermostatController", "thermostatMode"),
        "door_state" => ("Alexa.ModeController", "mode"),
        "lock_state" => ("Alexa.LockController", "lockState"),
        "on_off" => ("Alexa.PowerController", "powerState"),
        "current_level" => ("Alexa.BrightnessController", "brightness"),
        "contact_open" => ("Alexa.ContactSensor", "detectionState"),
        "motion" => ("Alexa.MotionSensor", "detectionState"),
        _ => ("Alexa", ""),
    }
}

impl PretendAlexa {
    /// Does one step. Gives the exchanges, and whether a person would say that it worked (`None` for polls, which are
    /// nobody's wish). A device that was never announced can't be asked: nothing is sent, and the wish failed.
    ///
    /// # Errors
    /// When no whole answer comes within 8 seconds.
    pub async fn perform(&self, act: &Act) -> Result<(Vec<Exchange>, Option<bool>), SendError> {
        match act {
            Act::PollAll => {
                let mut exchanges = Vec::new();
                for endpoint in self.endpoints() {
                    exchanges.push(self.report_state(&endpoint).await?);
                }
                Ok((exchanges, None))
            }
            Act::Ask { device, property, .. } => {
                let (namespace, name) = interface(property);
                let found = self.endpoint_with(namespace, Some(category(device)));
                let found = found.or_else(|| self.endpoint_with(namespace, None).filter(|_| device == "thermostat"));
                let Some(endpoint) = found else { return Ok((Vec::new(), Some(false))) };
                let exchange = self.report_state(&endpoint).await?;
                let told = exchange.property(namespace, name).is_some();
                Ok((vec![exchange], Some(told)))
            }
            Act::Command { device, property, value, relative, .. } => {
                let (namespace, _) = interface(property);
                let Some(endpoint) = self.endpoint_with(namespace, Some(category(device))) else {
                    return Ok((Vec::new(), Some(false)));
                };
                let Some((name, payload)) = order(property, value, *relative) else {
                    return Ok((Vec::new(), Some(false)));
                };
                let (namespace, name, payload) = (namespace, name, payload);
                let exchange = if property == "door_state" {
                    self.send_to_instance(namespace, name, "GarageDoor.Position", &endpoint, payload).await?
                } else {
                    self.send(namespace, name, &endpoint, payload).await?
                };
                let done = exchange.event() == "Alexa.Response";
                Ok((vec![exchange], Some(done)))
            }
        }
    }
}

/// The directive for an order: its name and payload.
fn order(property: &str, value: &Value, relative: bool) -> Option<(&'static str, Value)> {
    let degrees = |v: &Value| json!({"value": v, "scale": "CELSIUS"});
    Some(match (property, relative) {
        ("occupied_heating_setpoint", false) => ("SetTargetTemperature", json!({"targetSetpoint": degrees(value)})),
        ("occupied_heating_setpoint", true) => {
            ("AdjustTargetTemperature", json!({"targetSetpointDelta": degrees(value)}))
        }
        ("system_mode", false) => {
            ("SetThermostatMode", json!({"thermostatMode": {"value": value.as_str()?.to_uppercase()}}))
        }
        ("on_off", false) => (if value.as_bool()? { "TurnOn" } else { "TurnOff" }, json!({})),
        ("current_level", false) => ("SetBrightness", json!({"brightness": value})),
        ("current_level", true) => ("AdjustBrightness", json!({"brightnessDelta": value})),
        ("lock_state", false) => (if value == "locked" { "Lock" } else { "Unlock" }, json!({})),
        ("door_state", false) => {
            ("SetMode", json!({"mode": if value == "open" { "Position.Up" } else { "Position.Down" }}))
        }
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_day_is_in_order_and_its_polls_are_spread() {
        let text = "name = 'd'\nhome = 'h'\n[[ask]]\nat = '08:00'\nsays = 's'\ndevice = 'thermostat'\n\
                    property = 'local_temperature'\n[[app_open]]\nat = '07:59'\nminutes = 2\npoll_seconds = 3\n";
        let steps = Workload::parse(text).unwrap().steps().unwrap();
        assert_eq!(steps.len(), 41);
        assert!(steps.windows(2).all(|w| w[0].at_ms <= w[1].at_ms));
        assert!(Workload::parse("name = 'd'\nhome = 'h'\nfoo = 1\n").is_err());
        assert!(time_of_day("24:00").is_err());
    }
}
