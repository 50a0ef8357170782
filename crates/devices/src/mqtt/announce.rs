//! Home Assistant MQTT discovery, as text: both forms, short keys, `~`. What the components mean is in [`crate::mqtt::entity`].
//!
//! Source: Home Assistant, "MQTT" integration, discovery payload and its list of abbreviations.

use serde_json::{Map, Value};

use crate::counters::DropReason;

/// Most components in one device's description.
pub const COMPONENTS_MAX: usize = 128;

/// Longest topic that is taken, bytes.
pub const TOPIC_MAX_BYTES: usize = 512;

/// Short keys of a component that are read, with their long forms.
const SHORT: &[(&str, &str)] = &[
    ("act_t", "action_topic"),
    ("act_tpl", "action_template"),
    ("avty", "availability"),
    ("avty_mode", "availability_mode"),
    ("avty_t", "availability_topic"),
    ("avty_tpl", "availability_template"),
    ("bri_cmd_t", "brightness_command_topic"),
    ("bri_cmd_tpl", "brightness_command_template"),
    ("bri_scl", "brightness_scale"),
    ("bri_stat_t", "brightness_state_topic"),
    ("bri_val_tpl", "brightness_value_template"),
    ("clr_temp_cmd_t", "color_temp_command_topic"),
    ("clr_temp_cmd_tpl", "color_temp_command_template"),
    ("clr_temp_k", "color_temp_kelvin"),
    ("clr_temp_stat_t", "color_temp_state_topic"),
    ("clr_temp_val_tpl", "color_temp_value_template"),
    ("cmd_t", "command_topic"),
    ("cmd_tpl", "command_template"),
    ("cmps", "components"),
    ("curr_hum_t", "current_humidity_topic"),
    ("curr_hum_tpl", "current_humidity_template"),
    ("curr_temp_t", "current_temperature_topic"),
    ("curr_temp_tpl", "current_temperature_template"),
    ("dev", "device"),
    ("dev_cla", "device_class"),
    ("dir_cmd_t", "direction_command_topic"),
    ("dir_cmd_tpl", "direction_command_template"),
    ("dir_stat_t", "direction_state_topic"),
    ("dir_val_tpl", "direction_value_template"),
    ("hs_cmd_t", "hs_command_topic"),
    ("hs_cmd_tpl", "hs_command_template"),
    ("hs_stat_t", "hs_state_topic"),
    ("hs_val_tpl", "hs_value_template"),
    ("max_k", "max_kelvin"),
    ("max_mirs", "max_mireds"),
    ("min_k", "min_kelvin"),
    ("min_mirs", "min_mireds"),
    ("mode_cmd_t", "mode_command_topic"),
    ("mode_cmd_tpl", "mode_command_template"),
    ("mode_stat_t", "mode_state_topic"),
    ("mode_stat_tpl", "mode_state_template"),
    ("obj_id", "object_id"),
    ("osc_cmd_t", "oscillation_command_topic"),
    ("osc_cmd_tpl", "oscillation_command_template"),
    ("osc_stat_t", "oscillation_state_topic"),
    ("osc_val_tpl", "oscillation_value_template"),
    ("p", "platform"),
    ("pct_cmd_t", "percentage_command_topic"),
    ("pct_cmd_tpl", "percentage_command_template"),
    ("pct_stat_t", "percentage_state_topic"),
    ("pct_val_tpl", "percentage_value_template"),
    ("pl", "payload"),
    ("pl_avail", "payload_available"),
    ("pl_cls", "payload_close"),
    ("pl_lock", "payload_lock"),
    ("pl_not_avail", "payload_not_available"),
    ("pl_off", "payload_off"),
    ("pl_on", "payload_on"),
    ("pl_open", "payload_open"),
    ("pl_osc_off", "payload_oscillation_off"),
    ("pl_osc_on", "payload_oscillation_on"),
    ("pl_unlk", "payload_unlock"),
    ("pos_clsd", "position_closed"),
    ("pos_open", "position_open"),
    ("pos_t", "position_topic"),
    ("pos_tpl", "position_template"),
    ("pr_mode_cmd_t", "preset_mode_command_topic"),
    ("pr_mode_cmd_tpl", "preset_mode_command_template"),
    ("pr_mode_stat_t", "preset_mode_state_topic"),
    ("pr_mode_val_tpl", "preset_mode_value_template"),
    ("pr_modes", "preset_modes"),
    ("ret", "retain"),
    ("rgb_cmd_t", "rgb_command_topic"),
    ("rgb_cmd_tpl", "rgb_command_template"),
    ("rgb_stat_t", "rgb_state_topic"),
    ("rgb_val_tpl", "rgb_value_template"),
    ("set_pos_t", "set_position_topic"),
    ("set_pos_tpl", "set_position_template"),
    ("spd_rng_max", "speed_range_max"),
    ("spd_rng_min", "speed_range_min"),
    ("stat_closing", "state_closing"),
    ("stat_clsd", "state_closed"),
    ("stat_jam", "state_jammed"),
    ("stat_locked", "state_locked"),
    ("stat_off", "state_off"),
    ("stat_on", "state_on"),
    ("stat_open", "state_open"),
    ("stat_opening", "state_opening"),
    ("stat_t", "state_topic"),
    ("stat_unlocked", "state_unlocked"),
    ("stat_val_tpl", "state_value_template"),
    ("sup_clrm", "supported_color_modes"),
    ("temp_cmd_t", "temperature_command_topic"),
    ("temp_cmd_tpl", "temperature_command_template"),
    ("temp_hi_cmd_t", "temperature_high_command_topic"),
    ("temp_hi_cmd_tpl", "temperature_high_command_template"),
    ("temp_hi_stat_t", "temperature_high_state_topic"),
    ("temp_hi_stat_tpl", "temperature_high_state_template"),
    ("temp_lo_cmd_t", "temperature_low_command_topic"),
    ("temp_lo_cmd_tpl", "temperature_low_command_template"),
    ("temp_lo_stat_t", "temperature_low_state_topic"),
    ("temp_lo_stat_tpl", "temperature_low_state_template"),
    ("temp_stat_t", "temperature_state_topic"),
    ("temp_stat_tpl", "temperature_state_template"),
    ("temp_unit", "temperature_unit"),
    ("tilt_clsd_val", "tilt_closed_value"),
    ("tilt_cmd_t", "tilt_command_topic"),
    ("tilt_cmd_tpl", "tilt_command_template"),
    ("tilt_opnd_val", "tilt_opened_value"),
    ("tilt_status_t", "tilt_status_topic"),
    ("tilt_status_tpl", "tilt_status_template"),
    ("uniq_id", "unique_id"),
    ("unit_of_meas", "unit_of_measurement"),
    ("val_tpl", "value_template"),
];

/// Short keys within `device`.
const SHORT_DEVICE: &[(&str, &str)] = &[
    ("cns", "connections"),
    ("ids", "identifiers"),
    ("mdl", "model"),
    ("mf", "manufacturer"),
    ("sn", "serial_number"),
    ("sw", "sw_version"),
];

/// Short keys within an entry of `availability`.
const SHORT_AVAILABILITY: &[(&str, &str)] = &[
    ("pl_avail", "payload_available"),
    ("pl_not_avail", "payload_not_available"),
    ("t", "topic"),
    ("val_tpl", "value_template"),
];

/// One component as announced, keys in their long form and topics without `~`.
#[derive(Clone, Debug, PartialEq)]
pub struct Component {
    /// What it is: `climate`, `sensor`, ...
    pub platform: String,
    /// Its name within the device.
    pub object: String,
    /// Everything said of it.
    pub config: Map<String, Value>,
}

/// What a discovery topic is about.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Topic {
    /// One component: platform and object.
    Single {
        /// What it is.
        platform: String,
        /// Its name.
        object: String,
    },
    /// A whole device.
    Device {
        /// Its name.
        object: String,
    },
}

/// Whether a topic announces something: `PREFIX/PLATFORM/[NODE/]OBJECT/config` or `PREFIX/device/[NODE/]OBJECT/config`.
pub fn topic(prefix: &str, topic: &str) -> Option<Topic> {
    let rest = topic.strip_prefix(prefix)?.strip_prefix('/')?;
    let parts: Vec<&str> = rest.split('/').collect();
    let (platform, object) = match parts.as_slice() {
        [platform, object, "config"] => (*platform, (*object).to_owned()),
        [platform, node, object, "config"] => (*platform, format!("{node}_{object}")),
        _ => return None,
    };
    Some(match platform {
        "device" => Topic::Device { object },
        _ => Topic::Single { platform: platform.to_owned(), object },
    })
}

/// The components that a payload announces.
///
/// # Errors
/// When it is no JSON object, or announces too many.
pub fn components(topic: &Topic, payload: &str) -> Result<Vec<Component>, DropReason> {
    let Ok(Value::Object(root)) = serde_json::from_str(payload) else { return Err(DropReason::ConfigNotJson) };
    let root = expand(root);
    match topic {
        Topic::Single { platform, object } => {
            Ok(vec![Component { platform: platform.clone(), object: object.clone(), config: root }])
        }
        Topic::Device { .. } => {
            let Some(Value::Object(list)) = root.get("components").cloned() else {
                return Err(DropReason::ConfigInvalid);
            };
            if list.len() > COMPONENTS_MAX {
                return Err(DropReason::TooManyEntities);
            }
            let mut all = Vec::new();
            for (object, config) in list {
                let Value::Object(config) = config else { continue };
                // What stands at the root holds for every component that says nothing else.
                let mut merged = root.clone();
                merged.remove("components");
                merged.extend(expand(config));
                let merged = tilde(merged);
                let platform = merged.get("platform").and_then(Value::as_str).unwrap_or_default().to_owned();
                all.push(Component { platform, object, config: merged });
            }
            Ok(all)
        }
    }
}

fn expand(map: Map<String, Value>) -> Map<String, Value> {
    let long = long_keys(map, SHORT);
    let mut out = Map::new();
    for (key, value) in long {
        let value = match (key.as_str(), value) {
            ("device", Value::Object(device)) => Value::Object(long_keys(device, SHORT_DEVICE)),
            ("availability", Value::Array(list)) => Value::Array(list.into_iter().map(availability).collect()),
            ("availability", one @ Value::Object(_)) => Value::Array(vec![availability(one)]),
            (_, other) => other,
        };
        out.insert(key, value);
    }
    tilde(out)
}

fn availability(entry: Value) -> Value {
    match entry {
        Value::Object(map) => Value::Object(long_keys(map, SHORT_AVAILABILITY)),
        other => other,
    }
}

fn long_keys(map: Map<String, Value>, table: &[(&str, &str)]) -> Map<String, Value> {
    map.into_iter()
        .map(|(key, value)| {
            let long = table.iter().find(|(short, _)| *short == key).map(|(_, long)| (*long).to_owned());
            (long.unwrap_or(key), value)
        })
        .collect()
}

/// Puts the base topic in for `~` at the beginning or end of each topic.
fn tilde(mut map: Map<String, Value>) -> Map<String, Value> {
    let Some(Value::String(base)) = map.get("~").cloned() else { return map };
    let place = |text: &mut String| {
        if let Some(rest) = text.strip_prefix('~') {
            *text = format!("{base}{rest}");
        } else if let Some(rest) = text.strip_suffix('~') {
            *text = format!("{rest}{base}");
        }
    };
    for (key, value) in &mut map {
        match value {
            Value::String(text) if key.ends_with("topic") => place(text),
            Value::Array(list) if key == "availability" => {
                for entry in list {
                    if let Some(Value::String(text)) = entry.get_mut("topic") {
                        place(text);
                    }
                }
            }
            _ => {}
        }
    }
    map
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn topics_of_both_forms_are_known_and_the_birth_topic_is_not() {
        let single = |object: &str| Some(Topic::Single { platform: "sensor".into(), object: object.into() });
        assert_eq!(topic("homeassistant", "homeassistant/sensor/a/config"), single("a"));
        assert_eq!(topic("homeassistant", "homeassistant/sensor/n/a/config"), single("n_a"));
        assert_eq!(topic("ha", "ha/device/d/config"), Some(Topic::Device { object: "d".into() }));
        for other in ["homeassistant/status", "homeassistant/sensor/config", "homeassistantx/sensor/a/config", ""] {
            assert_eq!(topic("homeassistant", other), None, "{other}");
        }
    }

    #[test]
    fn short_keys_and_the_base_topic_are_spelt_out() {
        let payload = r#"{"~":"z/x","stat_t":"~/s","avty":{"t":"~/a","pl_avail":"yes"},"dev":{"ids":"1","mf":"M"},
            "cmps":{"t":{"p":"sensor","stat_t":"own"},"h":{"p":"sensor","~":"other","cmd_t":"~/c"}}}"#;
        let all = components(&Topic::Device { object: "d".into() }, payload).unwrap();
        let t = all.iter().find(|c| c.object == "t").unwrap();
        assert_eq!((t.platform.as_str(), t.config["state_topic"].as_str()), ("sensor", Some("own")));
        assert_eq!(t.config["availability"][0]["topic"], "z/x/a");
        assert_eq!(t.config["device"]["identifiers"], "1");
        let h = all.iter().find(|c| c.object == "h").unwrap();
        assert_eq!(
            (h.config["state_topic"].as_str(), h.config["command_topic"].as_str()),
            (Some("z/x/s"), Some("other/c"))
        );
        assert_eq!(components(&Topic::Device { object: "d".into() }, "[]"), Err(DropReason::ConfigNotJson));
    }
}
