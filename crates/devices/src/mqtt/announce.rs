//! Home Assistant MQTT discovery, as text: both forms, short keys, `~`. What the components mean is in [`crate::mqtt::entity`].
//!
//! Source: Home Assistant, "MQTT" integration, discovery payload and its list of abbreviations.

use serde_json::{Map, Value};

use crate::counters::DropReason;

/// Most components in one device's description.
pub const COMPONENTS_MAX: usize = 128;

/// Longest topic that is taken, bytes.
pub const TOPIC_MAX_BYTES: usize = 512;

/// Short keys of the components that the hub knows, with their long forms: Home Assistant's whole list for these.
const SHORT: &[(&str, &str)] = &[
    ("act_t", "action_topic"),
    ("act_tpl", "action_template"),
    ("avty", "availability"),
    ("avty_mode", "availability_mode"),
    ("avty_t", "availability_topic"),
    ("avty_tpl", "availability_template"),
    ("b_tpl", "blue_template"),
    ("bri_cmd_t", "brightness_command_topic"),
    ("bri_cmd_tpl", "brightness_command_template"),
    ("bri_scl", "brightness_scale"),
    ("bri_stat_t", "brightness_state_topic"),
    ("bri_tpl", "brightness_template"),
    ("bri_val_tpl", "brightness_value_template"),
    ("clr_temp_cmd_t", "color_temp_command_topic"),
    ("clr_temp_cmd_tpl", "color_temp_command_template"),
    ("clr_temp_k", "color_temp_kelvin"),
    ("clr_temp_stat_t", "color_temp_state_topic"),
    ("clr_temp_tpl", "color_temp_template"),
    ("clr_temp_val_tpl", "color_temp_value_template"),
    ("clrm", "color_mode"),
    ("clrm_stat_t", "color_mode_state_topic"),
    ("clrm_val_tpl", "color_mode_value_template"),
    ("cmd_off_tpl", "command_off_template"),
    ("cmd_on_tpl", "command_on_template"),
    ("cmd_t", "command_topic"),
    ("cmd_tpl", "command_template"),
    ("cmps", "components"),
    ("curr_hum_t", "current_humidity_topic"),
    ("curr_hum_tpl", "current_humidity_template"),
    ("curr_temp_t", "current_temperature_topic"),
    ("curr_temp_tpl", "current_temperature_template"),
    ("def_ent_id", "default_entity_id"),
    ("dev", "device"),
    ("dev_cla", "device_class"),
    ("dir_cmd_t", "direction_command_topic"),
    ("dir_cmd_tpl", "direction_command_template"),
    ("dir_stat_t", "direction_state_topic"),
    ("dir_val_tpl", "direction_value_template"),
    ("e", "encoding"),
    ("en", "enabled_by_default"),
    ("ent_cat", "entity_category"),
    ("ent_pic", "entity_picture"),
    ("exp_aft", "expire_after"),
    ("fan_mode_cmd_t", "fan_mode_command_topic"),
    ("fan_mode_cmd_tpl", "fan_mode_command_template"),
    ("fan_mode_stat_t", "fan_mode_state_topic"),
    ("fan_mode_stat_tpl", "fan_mode_state_template"),
    ("flsh", "flash"),
    ("flsh_tlng", "flash_time_long"),
    ("flsh_tsht", "flash_time_short"),
    ("frc_upd", "force_update"),
    ("fx_cmd_t", "effect_command_topic"),
    ("fx_cmd_tpl", "effect_command_template"),
    ("fx_list", "effect_list"),
    ("fx_stat_t", "effect_state_topic"),
    ("fx_tpl", "effect_template"),
    ("fx_val_tpl", "effect_value_template"),
    ("g_tpl", "green_template"),
    ("hs_cmd_t", "hs_command_topic"),
    ("hs_cmd_tpl", "hs_command_template"),
    ("hs_stat_t", "hs_state_topic"),
    ("hs_val_tpl", "hs_value_template"),
    ("hum_cmd_t", "target_humidity_command_topic"),
    ("hum_cmd_tpl", "target_humidity_command_template"),
    ("hum_stat_t", "target_humidity_state_topic"),
    ("hum_state_tpl", "target_humidity_state_template"),
    ("ic", "icon"),
    ("json_attr", "json_attributes"),
    ("json_attr_t", "json_attributes_topic"),
    ("json_attr_tpl", "json_attributes_template"),
    ("lrst_t", "last_reset_topic"),
    ("lrst_val_tpl", "last_reset_value_template"),
    ("max_hum", "max_humidity"),
    ("max_k", "max_kelvin"),
    ("max_mirs", "max_mireds"),
    ("min_hum", "min_humidity"),
    ("min_k", "min_kelvin"),
    ("min_mirs", "min_mireds"),
    ("mode_cmd_t", "mode_command_topic"),
    ("mode_cmd_tpl", "mode_command_template"),
    ("mode_stat_t", "mode_state_topic"),
    ("mode_stat_tpl", "mode_state_template"),
    ("o", "origin"),
    ("obj_id", "object_id"),
    ("off_dly", "off_delay"),
    ("on_cmd_type", "on_command_type"),
    ("ops", "options"),
    ("opt", "optimistic"),
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
    ("pl_dir_fwd", "payload_direction_forward"),
    ("pl_dir_rev", "payload_direction_reverse"),
    ("pl_lock", "payload_lock"),
    ("pl_not_avail", "payload_not_available"),
    ("pl_off", "payload_off"),
    ("pl_on", "payload_on"),
    ("pl_open", "payload_open"),
    ("pl_osc_off", "payload_oscillation_off"),
    ("pl_osc_on", "payload_oscillation_on"),
    ("pl_rst", "payload_reset"),
    ("pl_rst_pct", "payload_reset_percentage"),
    ("pl_rst_pr_mode", "payload_reset_preset_mode"),
    ("pl_stop", "payload_stop"),
    ("pl_stop_tilt", "payload_stop_tilt"),
    ("pl_unlk", "payload_unlock"),
    ("pos_clsd", "position_closed"),
    ("pos_open", "position_open"),
    ("pos_t", "position_topic"),
    ("pos_tpl", "position_template"),
    ("pow_cmd_t", "power_command_topic"),
    ("pow_cmd_tpl", "power_command_template"),
    ("pr_mode_cmd_t", "preset_mode_command_topic"),
    ("pr_mode_cmd_tpl", "preset_mode_command_template"),
    ("pr_mode_stat_t", "preset_mode_state_topic"),
    ("pr_mode_val_tpl", "preset_mode_value_template"),
    ("pr_modes", "preset_modes"),
    ("r_tpl", "red_template"),
    ("ret", "retain"),
    ("rgb_cmd_t", "rgb_command_topic"),
    ("rgb_cmd_tpl", "rgb_command_template"),
    ("rgb_stat_t", "rgb_state_topic"),
    ("rgb_val_tpl", "rgb_value_template"),
    ("rgbw_cmd_t", "rgbw_command_topic"),
    ("rgbw_cmd_tpl", "rgbw_command_template"),
    ("rgbw_stat_t", "rgbw_state_topic"),
    ("rgbw_val_tpl", "rgbw_value_template"),
    ("rgbww_cmd_t", "rgbww_command_topic"),
    ("rgbww_cmd_tpl", "rgbww_command_template"),
    ("rgbww_stat_t", "rgbww_state_topic"),
    ("rgbww_val_tpl", "rgbww_value_template"),
    ("set_pos_t", "set_position_topic"),
    ("set_pos_tpl", "set_position_template"),
    ("spd_rng_max", "speed_range_max"),
    ("spd_rng_min", "speed_range_min"),
    ("stat_cla", "state_class"),
    ("stat_closing", "state_closing"),
    ("stat_clsd", "state_closed"),
    ("stat_jam", "state_jammed"),
    ("stat_locked", "state_locked"),
    ("stat_locking", "state_locking"),
    ("stat_off", "state_off"),
    ("stat_on", "state_on"),
    ("stat_open", "state_open"),
    ("stat_opening", "state_opening"),
    ("stat_stopped", "state_stopped"),
    ("stat_t", "state_topic"),
    ("stat_tpl", "state_template"),
    ("stat_unlocked", "state_unlocked"),
    ("stat_unlocking", "state_unlocking"),
    ("stat_val_tpl", "state_value_template"),
    ("sug_dsp_prc", "suggested_display_precision"),
    ("sup_clrm", "supported_color_modes"),
    ("swing_mode_cmd_t", "swing_mode_command_topic"),
    ("swing_mode_cmd_tpl", "swing_mode_command_template"),
    ("swing_mode_stat_t", "swing_mode_state_topic"),
    ("swing_mode_stat_tpl", "swing_mode_state_template"),
    ("t", "topic"),
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
    ("tilt_opt", "tilt_optimistic"),
    ("tilt_status_t", "tilt_status_topic"),
    ("tilt_status_tpl", "tilt_status_template"),
    ("trns", "transition"),
    ("uniq_id", "unique_id"),
    ("unit_of_meas", "unit_of_measurement"),
    ("val_tpl", "value_template"),
    ("whit_cmd_t", "white_command_topic"),
    ("whit_scl", "white_scale"),
    ("xy_cmd_t", "xy_command_topic"),
    ("xy_cmd_tpl", "xy_command_template"),
    ("xy_stat_t", "xy_state_topic"),
    ("xy_val_tpl", "xy_value_template"),
];

/// Short keys within `device`.
const SHORT_DEVICE: &[(&str, &str)] = &[
    ("cns", "connections"),
    ("cu", "configuration_url"),
    ("hw", "hw_version"),
    ("ids", "identifiers"),
    ("mdl", "model"),
    ("mdl_id", "model_id"),
    ("mf", "manufacturer"),
    ("sa", "suggested_area"),
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
                let config = expand(config);
                // Nothing but what it was: it is taken out of the device, whatever the root says.
                if config.keys().all(|key| key == "platform") {
                    continue;
                }
                // What stands at the root holds for every component that says nothing else.
                let mut merged = root.clone();
                merged.remove("components");
                merged.extend(config);
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

    #[test]
    fn no_short_key_stands_twice_or_for_another_short_key() {
        for table in [SHORT, SHORT_DEVICE, SHORT_AVAILABILITY] {
            assert!(table.windows(2).all(|pair| pair[0].0 < pair[1].0), "sorted, each once");
            assert!(table.iter().all(|(short, long)| short.len() < long.len()));
        }
        let light = r#"{"schema":"json","sup_clrm":["brightness"],"stat_stopped":"halted","hs_cmd_tpl":"x"}"#;
        let topic = Topic::Single { platform: "light".into(), object: "l".into() };
        let config = components(&topic, light).unwrap().remove(0).config;
        let keys: Vec<&String> = config.keys().collect();
        assert_eq!(keys, ["schema", "supported_color_modes", "state_stopped", "hs_command_template"]);
    }

    #[test]
    fn a_component_with_nothing_but_its_platform_is_taken_out_whatever_the_root_says() {
        let topic = Topic::Device { object: "d".into() };
        let left = |payload: &str| {
            let all = components(&topic, payload).unwrap();
            all.into_iter().map(|c| c.object).collect::<Vec<_>>()
        };
        let root = r#""stat_t":"d/s","cmd_t":"d/c","dev":{"ids":"d"}"#;
        assert_eq!(
            left(&format!(
                r#"{{{root},"cmps":{{"m":{{"p":"switch"}},"n":{{"platform":"switch","uniq_id":"n"}},"e":{{}}}}}}"#
            )),
            ["n"]
        );
    }
}
