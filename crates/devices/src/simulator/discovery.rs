//! What the simulated home's devices say of themselves: Home Assistant MQTT discovery, in both its forms, as real
//! devices mix them.

use serde_json::{Value, json};

use super::Publication;
use super::thermostat::{SET_POINT_MAX, SET_POINT_MIN, SET_POINT_STEP};

/// Root of the topics of all simulated devices.
pub(super) const BASE: &str = "house";
/// Where all of them say whether they answer.
pub(super) const AVAILABILITY: &str = "house/status";
pub(super) const THERMOSTAT: &str = "house/thermostat";
pub(super) const GARAGE: &str = "house/garage/door";
pub(super) const LOCK: &str = "house/front_door/lock";
pub(super) const CONTACT: &str = "house/front_door/contact";
pub(super) const MOTION: &str = "house/hall_motion";
pub(super) const LIGHT: &str = "house/living_room_light";
pub(super) const PLUG: &str = "house/tv_plug";
pub(super) const BEDROOM: &str = "house/bedroom";

const MAKER: &str = "Simulated";

/// Every discovery message of the home.
pub(super) fn configs() -> Vec<Publication> {
    let mut all = single_component();
    all.extend(device_form());
    all.into_iter().map(|(topic, config)| Publication { topic, payload: config.to_string(), retain: true }).collect()
}

/// The older form: one message for each component, tied together by the device's identifiers.
fn single_component() -> Vec<(String, Value)> {
    let thermostat = json!({
        "identifiers": ["house_thermostat"], "name": "Thermostat", "manufacturer": MAKER, "model": "Heat only",
    });
    let motion = json!({"ids": ["house_hall_motion"], "name": "Hall motion", "mf": MAKER, "mdl": "PIR"});
    let degrees = |tenths: i32| f64::from(tenths) / 10.0;
    vec![
        topic(
            "climate/house_thermostat/climate",
            json!({
                "name": null,
                "unique_id": "house_thermostat_climate",
                "device": thermostat,
                "availability": [{"topic": AVAILABILITY}],
                "modes": ["off", "heat"],
                "temperature_unit": "C",
                "min_temp": degrees(SET_POINT_MIN),
                "max_temp": degrees(SET_POINT_MAX),
                "temp_step": degrees(SET_POINT_STEP),
                "current_temperature_topic": format!("{THERMOSTAT}/state"),
                "current_temperature_template": "{{ value_json.local_temperature }}",
                "temperature_state_topic": format!("{THERMOSTAT}/state"),
                "temperature_state_template": "{{ value_json.set_point }}",
                "temperature_command_topic": format!("{THERMOSTAT}/set/temperature"),
                "mode_state_topic": format!("{THERMOSTAT}/state"),
                "mode_state_template": "{{ value_json.mode }}",
                "mode_command_topic": format!("{THERMOSTAT}/set/mode"),
                "action_topic": format!("{THERMOSTAT}/state"),
                "action_template":
                    "{% set values = {'idle':'idle','heat':'heating','off':'off'} %}{{ values[value_json.running_state] }}",
            }),
        ),
        topic(
            "sensor/house_thermostat/humidity",
            json!({
                "name": "Humidity",
                "unique_id": "house_thermostat_humidity",
                "device": thermostat,
                "availability_topic": AVAILABILITY,
                "device_class": "humidity",
                "state_class": "measurement",
                "unit_of_measurement": "%",
                "state_topic": format!("{THERMOSTAT}/air"),
                "value_template": "{{ value_json.humidity }}",
            }),
        ),
        topic(
            "sensor/house_thermostat/co2",
            json!({
                "name": "CO2",
                "unique_id": "house_thermostat_co2",
                "device": thermostat,
                "availability_topic": AVAILABILITY,
                "device_class": "carbon_dioxide",
                "state_class": "measurement",
                "unit_of_measurement": "ppm",
                "state_topic": format!("{THERMOSTAT}/air"),
                "value_template": "{{ value_json.co2 }}",
            }),
        ),
        topic(
            "cover/house_garage_door/door",
            json!({
                "~": GARAGE,
                "name": null,
                "uniq_id": "house_garage_door",
                "dev": {"ids": ["house_garage_door"], "name": "Garage door", "mf": MAKER, "mdl": "Sectional door"},
                "avty_t": AVAILABILITY,
                "dev_cla": "garage",
                "stat_t": "~/state",
                "cmd_t": "~/set",
            }),
        ),
        topic(
            "binary_sensor/house_hall_motion/motion",
            json!({
                "~": MOTION,
                "name": null,
                "uniq_id": "house_hall_motion_motion",
                "dev": motion,
                "avty": [{"t": AVAILABILITY}],
                "dev_cla": "motion",
                "stat_t": "~",
                "val_tpl": "{{ value_json.motion }}",
                "pl_on": true,
                "pl_off": false,
            }),
        ),
        topic(
            "sensor/house_hall_motion/battery",
            json!({
                "~": MOTION,
                "name": "Battery",
                "uniq_id": "house_hall_motion_battery",
                "dev": motion,
                "avty": [{"t": AVAILABILITY}],
                "dev_cla": "battery",
                "unit_of_meas": "%",
                "ent_cat": "diagnostic",
                "stat_t": "~",
                "val_tpl": "{{ value_json.battery }}",
            }),
        ),
        topic(
            "light/house_living_room_light/light",
            json!({
                "~": LIGHT,
                "name": null,
                "uniq_id": "house_living_room_light",
                "dev": {"ids": ["house_living_room_light"], "name": "Living room light", "mf": MAKER, "mdl": "Dimmer"},
                "avty_t": AVAILABILITY,
                "stat_t": "~/state",
                "stat_val_tpl": "{{ value_json.state }}",
                "cmd_t": "~/set",
                "bri_stat_t": "~/state",
                "bri_val_tpl": "{{ value_json.brightness }}",
                "bri_cmd_t": "~/set/brightness",
                "bri_scl": 255,
            }),
        ),
    ]
}

/// The newer form: one message for each device, with all its components.
fn device_form() -> Vec<(String, Value)> {
    let origin = json!({"name": "simulated home"});
    vec![
        topic(
            "device/house_front_door",
            json!({
                "dev": {"ids": ["house_front_door"], "name": "Front door", "mf": MAKER, "mdl": "Deadbolt with contact"},
                "o": origin,
                "avty_t": AVAILABILITY,
                "cmps": {
                    "lock": {
                        "p": "lock",
                        "name": "Lock",
                        "uniq_id": "house_front_door_lock",
                        "stat_t": format!("{LOCK}/state"),
                        "cmd_t": format!("{LOCK}/set"),
                    },
                    "contact": {
                        "p": "binary_sensor",
                        "name": "Contact",
                        "uniq_id": "house_front_door_contact",
                        "dev_cla": "door",
                        "stat_t": CONTACT,
                    },
                },
            }),
        ),
        topic(
            "device/house_tv_plug",
            json!({
                "device": {"identifiers": ["house_tv_plug"], "name": "TV plug", "manufacturer": MAKER, "model": "Metering plug"},
                "origin": origin,
                "availability": [{"topic": AVAILABILITY}],
                "state_topic": format!("{PLUG}/state"),
                "components": {
                    "switch": {
                        "platform": "switch",
                        "name": null,
                        "unique_id": "house_tv_plug_switch",
                        "command_topic": format!("{PLUG}/set"),
                        "value_template": "{{ value_json.state }}",
                    },
                    "power": {
                        "platform": "sensor",
                        "name": "Power",
                        "unique_id": "house_tv_plug_power",
                        "device_class": "power",
                        "unit_of_measurement": "W",
                        "value_template": "{{ value_json.power }}",
                    },
                    "energy": {
                        "platform": "sensor",
                        "name": "Energy",
                        "unique_id": "house_tv_plug_energy",
                        "device_class": "energy",
                        "state_class": "total_increasing",
                        "unit_of_measurement": "kWh",
                        "value_template": "{{ value_json.energy }}",
                    },
                },
            }),
        ),
        topic(
            "device/house_bedroom",
            json!({
                "dev": {"ids": "house_bedroom", "name": "Bedroom", "mf": MAKER, "mdl": "Climate sensor"},
                "o": origin,
                "avty": [{"t": AVAILABILITY}],
                "stat_t": BEDROOM,
                "cmps": {
                    "temperature": {
                        "p": "sensor",
                        "uniq_id": "house_bedroom_temperature",
                        "dev_cla": "temperature",
                        "unit_of_meas": "°C",
                        "val_tpl": "{{ value_json.temperature }}",
                    },
                    "humidity": {
                        "p": "sensor",
                        "uniq_id": "house_bedroom_humidity",
                        "dev_cla": "humidity",
                        "unit_of_meas": "%",
                        "val_tpl": "{{ value_json.humidity }}",
                    },
                    "battery": {
                        "p": "sensor",
                        "uniq_id": "house_bedroom_battery",
                        "dev_cla": "battery",
                        "unit_of_meas": "%",
                        "val_tpl": "{{ value_json.battery }}",
                    },
                },
            }),
        ),
    ]
}

fn topic(path: &str, config: Value) -> (String, Value) {
    (format!("homeassistant/{path}/config"), config)
}
