//! The devices of a recording: what they are called, and what each row makes them say.

use model::Property;
use serde_json::{Map, Value, json};

use super::recording::{Layout, Row, Scale};
use crate::simulator::Publication;

/// Root of the topics of replayed devices.
const BASE: &str = "recording";

/// A message of a device and the properties that it tells.
pub(super) struct Message {
    pub(super) publication: Publication,
    pub(super) properties: Vec<Property>,
}

/// The devices of one recording.
#[derive(Debug)]
pub(super) struct Home {
    name: String,
    /// Identifies the thermostat; the sensors' ids begin with it.
    id: String,
    unit: &'static str,
    unit_letter: &'static str,
    /// Name and id part of each sensor.
    sensors: Vec<(String, String)>,
}

impl Home {
    pub(super) fn new(layout: &Layout) -> Self {
        let identity = if layout.identifier.is_empty() { &layout.name } else { &layout.identifier };
        let mut sensors: Vec<(String, String)> = Vec::new();
        for name in &layout.sensors {
            let plain = slug(name);
            let mut id = plain.clone();
            let mut copy = 2;
            while sensors.iter().any(|(_, taken)| *taken == id) {
                id = format!("{plain}_{copy}");
                copy += 1;
            }
            // The thermostat's own sensor is a device of its own: its temperature is not the controlled one.
            let name = if name == "Thermostat" { format!("{} sensor", layout.name) } else { name.clone() };
            sensors.push((name, id));
        }
        let (unit, unit_letter) = match layout.scale {
            Scale::Celsius => ("°C", "C"),
            Scale::Fahrenheit => ("°F", "F"),
        };
        Self { name: layout.name.clone(), id: format!("ecobee_{}", slug(identity)), unit, unit_letter, sensors }
    }

    /// How many devices there are: the thermostat and its sensors.
    pub(super) fn devices(&self) -> usize {
        1 + self.sensors.len()
    }

    /// That the devices answer (`online`) or don't (`offline`).
    pub(super) fn availability(&self, state: &str) -> Publication {
        retained(self.topic("availability"), state.to_owned())
    }

    /// What is said at each connection: the descriptions, then that all answer.
    pub(super) fn announce(&self) -> Vec<Publication> {
        let mut all = vec![self.thermostat()];
        all.extend(self.sensors.iter().flat_map(|(name, id)| self.sensor(name, id)));
        all.push(self.availability("online"));
        all
    }

    /// What the devices say in this row. A device without values says nothing.
    pub(super) fn messages(&self, row: &Row) -> Vec<Message> {
        let mut all = Vec::new();
        let mut state = State::default();
        state.number("temperature", Property::LocalTemperature, row.temperature);
        state.number("heat_set_point", Property::OccupiedHeatingSetpoint, row.heat_set_point);
        state.number("cool_set_point", Property::OccupiedCoolingSetpoint, row.cool_set_point);
        state.text("mode", Property::SystemMode, row.system_setting.as_deref().and_then(mode));
        state.text("action", Property::RunningState, action(row));
        state.number("humidity", Property::RelativeHumidity, row.humidity);
        state.number("co2", Property::Co2Concentration, row.co2);
        state.number("voc", Property::VocConcentration, row.voc);
        if !state.properties.is_empty() {
            // For who looks at the broker; no template reads these.
            for (key, text) in [("program", &row.program), ("event", &row.event)] {
                state.json.insert(key.to_owned(), json!(text));
            }
            state.json.insert("recorded_at".to_owned(), json!(row.time.to_string()));
            all.push(state.message(self.topic("thermostat")));
        }
        if let Some(outdoor) = row.outdoor {
            all.push(Message {
                publication: retained(self.topic("outdoor"), outdoor.to_string()),
                properties: vec![Property::OutdoorTemperature],
            });
        }
        for ((_, id), sensor) in self.sensors.iter().zip(&row.sensors) {
            let mut state = State::default();
            state.number("temperature", Property::LocalTemperature, sensor.temperature);
            state.text("occupancy", Property::Occupancy, sensor.motion.map(|seen| if seen { "ON" } else { "OFF" }));
            if !state.properties.is_empty() {
                all.push(state.message(self.topic(&format!("sensor/{id}"))));
            }
        }
        all
    }

    fn topic(&self, end: &str) -> String {
        format!("{BASE}/{}/{end}", self.id)
    }

    /// The device form: one message with all components.
    fn thermostat(&self) -> Publication {
        let (id, state, unit) = (&self.id, self.topic("thermostat"), self.unit);
        let sensor = |object: &str, name: &str, class: &str, unit: &str, template: &str| {
            json!({
                "p": "sensor",
                "name": name,
                "uniq_id": format!("{id}_{object}"),
                "dev_cla": class,
                "stat_cla": "measurement",
                "unit_of_meas": unit,
                "stat_t": state,
                "val_tpl": template,
            })
        };
        let config = json!({
            "dev": {"ids": [id], "name": self.name, "mf": "ecobee", "mdl": "recording"},
            "o": {"name": "recorded home"},
            "avty_t": self.topic("availability"),
            "cmps": {
                "climate": {
                    "p": "climate",
                    "name": null,
                    "uniq_id": format!("{id}_climate"),
                    "temp_unit": self.unit_letter,
                    "precision": 0.1,
                    "modes": ["off", "heat", "cool", "heat_cool"],
                    "curr_temp_t": state,
                    "curr_temp_tpl": "{{ value_json.temperature }}",
                    "temp_lo_stat_t": state,
                    "temp_lo_stat_tpl": "{{ value_json.heat_set_point }}",
                    "temp_hi_stat_t": state,
                    "temp_hi_stat_tpl": "{{ value_json.cool_set_point }}",
                    "mode_stat_t": state,
                    "mode_stat_tpl": "{{ value_json.mode }}",
                    "act_t": state,
                    "act_tpl": "{{ value_json.action }}",
                },
                "humidity": sensor("humidity", "Humidity", "humidity", "%", "{{ value_json.humidity }}"),
                "co2": sensor("co2", "CO2", "carbon_dioxide", "ppm", "{{ value_json.co2 }}"),
                // The export's header calls its unit ppm; whether it is, only ecobee knows.
                "voc": sensor("voc", "VOC", "volatile_organic_compounds_parts", "ppm", "{{ value_json.voc }}"),
                "outdoor_temperature": {
                    "p": "sensor",
                    "name": "Outdoor temperature",
                    "uniq_id": format!("{id}_outdoor_temperature"),
                    "dev_cla": "temperature",
                    "unit_of_meas": unit,
                    "stat_t": self.topic("outdoor"),
                },
            },
        });
        retained(format!("homeassistant/device/{id}/config"), config.to_string())
    }

    /// The single-component form, abbreviated in one message and spelt out in the other.
    fn sensor(&self, name: &str, sensor: &str) -> [Publication; 2] {
        let id = format!("{}_{sensor}", self.id);
        let base = self.topic("sensor");
        let temperature = json!({
            "~": base,
            "name": "Temperature",
            "uniq_id": format!("{id}_temperature"),
            "dev": {"ids": [id], "name": name, "mf": "ecobee", "mdl": "recording", "via_device": self.id},
            "avty_t": self.topic("availability"),
            "dev_cla": "temperature",
            "unit_of_meas": self.unit,
            "stat_t": format!("~/{sensor}"),
            "val_tpl": "{{ value_json.temperature }}",
        });
        let occupancy = json!({
            "name": "Occupancy",
            "unique_id": format!("{id}_occupancy"),
            "device": {"identifiers": [id], "name": name, "manufacturer": "ecobee", "model": "recording"},
            "availability": [{"topic": self.topic("availability")}],
            "device_class": "occupancy",
            "state_topic": format!("{base}/{sensor}"),
            "value_template": "{{ value_json.occupancy }}",
        });
        [
            retained(format!("homeassistant/sensor/{id}/temperature/config"), temperature.to_string()),
            retained(format!("homeassistant/binary_sensor/{id}/occupancy/config"), occupancy.to_string()),
        ]
    }
}

/// A JSON state message in the making.
#[derive(Default)]
struct State {
    json: Map<String, Value>,
    properties: Vec<Property>,
}

impl State {
    fn number(&mut self, key: &str, property: Property, value: Option<f64>) {
        if let Some(value) = value {
            self.json.insert(key.to_owned(), json!(value));
            self.properties.push(property);
        }
    }

    fn text(&mut self, key: &str, property: Property, value: Option<&str>) {
        if let Some(value) = value {
            self.json.insert(key.to_owned(), json!(value));
            self.properties.push(property);
        }
    }

    fn message(self, topic: String) -> Message {
        let payload = Value::Object(self.json).to_string();
        Message { publication: retained(topic, payload), properties: self.properties }
    }
}

/// ecobee's system setting as a Home Assistant mode; an unknown one is not told.
fn mode(setting: &str) -> Option<&'static str> {
    match setting {
        "off" => Some("off"),
        "cool" => Some("cool"),
        "heat" | "auxHeatOnly" => Some("heat"),
        "auto" => Some("heat_cool"),
        _ => None,
    }
}

/// What the equipment did: by the system mode at the interval's start, without one by the seconds run in it.
fn action(row: &Row) -> Option<&'static str> {
    let ran = |seconds: Option<f64>| seconds.is_some_and(|s| s > 0.0);
    let fan_or_idle = if ran(row.fan_s) { "fan" } else { "idle" };
    match row.system_mode.as_deref() {
        Some(mode) if mode.ends_with("On") && (mode.contains("Cool") || mode.contains("cool")) => Some("cooling"),
        Some(mode) if mode.ends_with("On") => Some("heating"),
        Some(_) if row.system_setting.as_deref() == Some("off") => Some("off"),
        Some(_) => Some(fan_or_idle),
        None if ran(row.heating_s) => Some("heating"),
        None if ran(row.cooling_s) => Some("cooling"),
        None if row.heating_s.is_some() || row.cooling_s.is_some() => Some(fan_or_idle),
        None => None,
    }
}

fn retained(topic: String, payload: String) -> Publication {
    Publication { topic, payload, retain: true }
}

/// Lower-case letters and digits of a name, other characters as `_`; never empty, and safe in a topic.
fn slug(name: &str) -> String {
    let plain: String =
        name.trim().chars().map(|c| if c.is_ascii_alphanumeric() { c.to_ascii_lowercase() } else { '_' }).collect();
    if plain.is_empty() { "unnamed".to_owned() } else { plain }
}
