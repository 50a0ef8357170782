//! `[[thermostat]]` in the configuration: which devices are its sensors and relays, and how the equipment is to be treated.

use std::collections::{BTreeMap, BTreeSet};

use comfort::price::{PRICE_MAX, RATES_MAX, Rate};
use comfort::sensor::SENSORS_MAX;
use comfort::settings::{DrAccept, VentMode, VentilatorType};
use comfort::{Config, Delta, Equipment, HvacMode, Limits, Output, PricePlan, Program, SensorConfig, Settings, Temp};
use model::{DeviceId, TemperatureScale};
use serde::{Deserialize, Serialize};
use toml::Spanned;
use toml::de::{DeTable, DeValue};

/// Most thermostats of a hub.
pub const THERMOSTATS_MAX: usize = 8;

/// Longest name, characters.
const NAME_MAX_CHARS: usize = 64;

/// Longest topic, bytes.
const TOPIC_MAX_BYTES: usize = 256;

/// With which a price plan begins: how far set points give way, go ahead, and within what, in thousandths.
const SET_BACK: Delta = Delta::from_milli_k(1500);
const AHEAD: Delta = Delta::from_milli_k(1000);
const PRICE_LIMITS: (Temp, Temp) = (Temp::from_tenths_c(180), Temp::from_tenths_c(260));

/// Most windows and doors, and most detectors of presence.
const DEVICES_MAX: usize = 64;

/// A relay's feed and its place in the configuration.
const RELAYS: [(&str, Output); 9] = [
    ("heat", Output::Heat1),
    ("heat2", Output::Heat2),
    ("aux", Output::Aux),
    ("cool", Output::Cool1),
    ("cool2", Output::Cool2),
    ("fan", Output::Fan),
    ("humidifier", Output::Humidifier),
    ("dehumidifier", Output::Dehumidifier),
    ("ventilator", Output::Ventilator),
];

/// A thermostat as its owner set it up.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Setup {
    /// Its name.
    pub name: String,
    /// The mode with which it begins.
    pub mode: HvacMode,
    /// The switch of each output. A heat pump's compressor serves heating and cooling.
    pub relays: BTreeMap<Output, DeviceId>,
    /// The switch of a heat pump's reversing valve.
    pub reversing_valve: Option<DeviceId>,
    /// A thermostat that switches by itself, and is told its set points; then there are no relays.
    #[serde(default)]
    pub guides: Option<DeviceId>,
    /// Devices whose room temperature counts.
    pub sensors: Vec<SensorConfig>,
    /// Devices that tell whether somebody is there.
    pub occupancy: Vec<DeviceId>,
    /// Devices that tell whether somebody is in the room of a sensor.
    #[serde(default)]
    pub rooms: BTreeMap<DeviceId, String>,
    /// The device that measures outdoors.
    pub outdoor: Option<DeviceId>,
    /// Windows and doors that pause it.
    pub windows: Vec<DeviceId>,
    /// What is installed.
    pub equipment: Equipment,
    /// How it is to be treated.
    pub limits: Limits,
    /// Settings.
    pub settings: Settings,
    /// Who is no owner sets temperatures within these.
    pub lock: Option<(Temp, Temp)>,
    /// Devices that tell whether their owner is at home.
    #[serde(default)]
    pub phones: Vec<DeviceId>,
    /// What power costs, and how far comfort gives way to it.
    #[serde(default)]
    pub prices: Option<PricePlan>,
    /// The topic on which prices are heard.
    #[serde(default)]
    pub price_topic: Option<String>,
    /// The topic on which utilities' requests are heard.
    #[serde(default)]
    pub demand_response_topic: Option<String>,
}

/// What stands in the table while it is read.
struct Draft {
    setup: Setup,
    units: TemperatureScale,
    mode: Option<HvacMode>,
    /// Keys of prices that were given: none of them counts without prices.
    priced: Option<&'static str>,
    /// It is said below which temperature the heat pump stays off.
    heat_pump_lockout: bool,
    /// Stages of heating and cooling of the thermostat that is guided.
    guided: (u8, u8),
}

/// One key: its name, an example, what it is for, and how it is read.
struct Key {
    key: &'static str,
    example: &'static str,
    comment: &'static str,
    set: fn(&mut Draft, &DeValue<'_>) -> Result<(), String>,
}

macro_rules! relay {
    ($key:literal, $example:literal, $comment:literal) => {
        Key { key: $key, example: $example, comment: $comment, set: |d, v| d.relay($key, v) }
    };
}

const KEYS: &[Key] = &[
    Key {
        key: "name",
        example: "\"Thermostat\"",
        comment: "Its name, as Home Assistant and partners show it.",
        set: |d, v| {
            let name = text(v)?;
            let fits =
                !name.is_empty() && name.chars().count() <= NAME_MAX_CHARS && !name.chars().any(char::is_control);
            d.setup.name = name;
            if fits { Ok(()) } else { Err(format!("use 1 to {NAME_MAX_CHARS} characters")) }
        },
    },
    Key {
        key: "sensors",
        example: "[\"hall\", { device = \"bedroom\", offset = -0.5 }]",
        comment: "Devices whose room temperature counts, as `vestibule devices` lists them; with a correction, and the motion \
                  detector of that room (occupancy) if it is a device of its own.",
        set: |d, v| {
            let DeValue::Array(list) = v else { return Err("write a list: [\"hall\", \"bedroom\"]".into()) };
            for entry in list {
                let sensor = d.sensor(entry.get_ref())?;
                if d.setup.sensors.iter().any(|s| s.id == sensor.id) {
                    return Err(format!("`{}` stands there twice", sensor.id));
                }
                d.setup.sensors.push(sensor);
            }
            if d.setup.sensors.len() > SENSORS_MAX {
                return Err(format!("at most {SENSORS_MAX} sensors"));
            }
            Ok(())
        },
    },
    relay!(
        "heat",
        "\"furnace\"",
        "The switch of the furnace, the boiler or (with reversing_valve) the heat pump's compressor."
    ),
    relay!("heat2", "\"furnace_2\"", "Second stage of heating."),
    relay!("aux", "\"heat_strip\"", "Auxiliary heat."),
    relay!("cool", "\"ac\"", "The switch of the air conditioner; of a heat pump the same as heat."),
    relay!("cool2", "\"ac_2\"", "Second stage of cooling."),
    relay!("fan", "\"blower\"", "The fan."),
    relay!("humidifier", "\"humidifier\"", "The humidifier."),
    relay!("dehumidifier", "\"dehumidifier\"", "The dehumidifier."),
    relay!("ventilator", "\"ventilator\"", "What brings fresh air."),
    Key {
        key: "guides",
        example: "\"living_thermostat\"",
        comment: "In place of relays: a thermostat that switches by itself, and is told its mode and set points.",
        set: |d, v| {
            d.setup.guides = Some(device(v)?);
            Ok(())
        },
    },
    Key {
        key: "guides_to",
        example: "\"heat\"",
        comment: "heat, cool or both: what that thermostat can do.",
        set: |d, v| {
            let (heat, cool) = match text(v)?.as_str() {
                "heat" => (1, 0),
                "cool" => (0, 1),
                "both" => (1, 1),
                _ => return Err("write \"heat\", \"cool\" or \"both\"".into()),
            };
            d.guided = (heat, cool);
            Ok(())
        },
    },
    Key {
        key: "reversing_valve",
        example: "\"valve\"",
        comment: "The switch of the heat pump's reversing valve; heat and cool name its compressor.",
        set: |d, v| {
            d.setup.reversing_valve = Some(device(v)?);
            Ok(())
        },
    },
    Key {
        key: "reversing_valve_on",
        example: "\"cool\"",
        comment: "cool or heat: when the valve is energised.",
        set: |d, v| {
            d.setup.equipment.heat_pump_reversal_on_cool = match text(v)?.as_str() {
                "cool" => true,
                "heat" => false,
                _ => return Err("write \"cool\" or \"heat\"".into()),
            };
            Ok(())
        },
    },
    Key {
        key: "fan_with_heat",
        example: "false",
        comment: "The fan must be called with heating; a furnace runs it by itself.",
        set: |d, v| {
            d.setup.equipment.fan_control_required = truth(v)?;
            Ok(())
        },
    },
    Key {
        key: "own_control",
        example: "false",
        comment: "Without orders for some minutes the equipment returns to a control of its own. Where it has none, frost is this hub's to keep out.",
        set: |d, v| {
            d.setup.equipment.has_own_control = truth(v)?;
            Ok(())
        },
    },
    Key {
        key: "mode",
        example: "\"heat\"",
        comment: "off, heat, cool, auto or auxHeatOnly: the mode with which it begins; `vestibule thermostat set --mode` changes it.",
        set: |d, v| {
            let word = text(v)?;
            let mode = HvacMode::parse(&word);
            d.mode =
                Some(mode.ok_or_else(|| format!("`{word}` is no mode; write off, heat, cool, auto or auxHeatOnly"))?);
            Ok(())
        },
    },
    Key {
        key: "outdoor",
        example: "\"garden\"",
        comment: "The device that measures outdoors.",
        set: |d, v| {
            d.setup.outdoor = Some(device(v)?);
            Ok(())
        },
    },
    Key {
        key: "windows",
        example: "[\"kitchen_window\"]",
        comment: "Windows and doors that pause heating and cooling while they are open.",
        set: |d, v| {
            d.setup.windows = devices(v)?;
            Ok(())
        },
    },
    Key {
        key: "window_pause_s",
        example: "300",
        comment: "They do after so many seconds; `vestibule thermostat set --windows ignore` passes over them.",
        set: |d, v| {
            d.setup.settings.open_window_after_s = whole(v, 30, 3600)?;
            Ok(())
        },
    },
    Key {
        key: "occupancy",
        example: "[\"hall_motion\"]",
        comment: "Motion and presence detectors, for auto_away and follow_me.",
        set: |d, v| {
            d.setup.occupancy = devices(v)?;
            Ok(())
        },
    },
    Key {
        key: "phones",
        example: "[\"anna_phone\"]",
        comment: "Devices that tell (occupancy) whether somebody's phone is at home, for auto_away.",
        set: |d, v| {
            d.setup.phones = devices(v)?;
            Ok(())
        },
    },
    Key {
        key: "auto_away",
        example: "false",
        comment: "Treat the house as empty when nobody was seen for auto_away_s. Whoever sees the set point then sees that.",
        set: |d, v| {
            d.setup.settings.auto_away = truth(v)?;
            Ok(())
        },
    },
    Key {
        key: "auto_away_s",
        example: "7200",
        comment: "So many seconds.",
        set: |d, v| {
            d.setup.settings.auto_away_after_s = whole(v, 600, 24 * 3600)?;
            Ok(())
        },
    },
    Key {
        key: "follow_me",
        example: "false",
        comment: "Rooms in use weigh in the average.",
        set: |d, v| {
            d.setup.settings.follow_me_comfort = truth(v)?;
            Ok(())
        },
    },
    Key {
        key: "pre_heating",
        example: "true",
        comment: "Heating begins before the program asks for more, as long as the house was learned to take.",
        set: |d, v| {
            d.setup.settings.disable_pre_heating = !truth(v)?;
            Ok(())
        },
    },
    Key {
        key: "pre_cooling",
        example: "true",
        comment: "The same for cooling.",
        set: |d, v| {
            d.setup.settings.disable_pre_cooling = !truth(v)?;
            Ok(())
        },
    },
    Key {
        key: "heat_differential",
        example: "0.5",
        comment: "Between the thresholds at which heating turns on and off, degrees.",
        set: |d, v| {
            d.setup.settings.stage1_heating_differential = d.degrees(v, 0.2, 3.0)?;
            Ok(())
        },
    },
    Key {
        key: "cool_differential",
        example: "0.5",
        comment: "The same for cooling.",
        set: |d, v| {
            d.setup.settings.stage1_cooling_differential = d.degrees(v, 0.2, 3.0)?;
            Ok(())
        },
    },
    Key {
        key: "least_apart",
        example: "2.8",
        comment: "Least distance of the two set points in auto, degrees.",
        set: |d, v| {
            d.setup.settings.heat_cool_min_delta = d.degrees(v, 1.0, 10.0)?;
            Ok(())
        },
    },
    Key {
        key: "aux_delta",
        example: "1.1",
        comment: "So many degrees below the set point auxiliary heat may join the heat pump, ...",
        set: |d, v| {
            d.setup.settings.aux_delta = d.degrees(v, 0.5, 6.0)?;
            Ok(())
        },
    },
    Key {
        key: "aux_after_s",
        example: "1800",
        comment: "... when the heat pump has run for so many seconds. An optimal start does without.",
        set: |d, v| {
            d.setup.settings.aux_after_s = whole(v, 0, 4 * 3600)?;
            Ok(())
        },
    },
    Key {
        key: "dry_by_cooling",
        example: "false",
        comment: "Damp air (`set --dry-above`) may be dried by cooling where there is no dehumidifier.",
        set: |d, v| {
            d.setup.settings.dehumidify_with_ac = truth(v)?;
            Ok(())
        },
    },
    Key {
        key: "overcool",
        example: "0",
        comment: "Drying may cool so many degrees below the set point.",
        set: |d, v| {
            d.setup.settings.dehumidify_overcool_offset = d.degrees(v, 0.0, 2.8)?;
            Ok(())
        },
    },
    Key {
        key: "fan_after_heat_s",
        example: "60",
        comment: "The fan runs on so long after heating, where it is called with it.",
        set: |d, v| {
            d.setup.settings.heat_dissipation_s = whole(v, 0, 600)?;
            Ok(())
        },
    },
    Key {
        key: "fan_after_cool_s",
        example: "45",
        comment: "And after cooling.",
        set: |d, v| {
            d.setup.settings.cool_dissipation_s = whole(v, 0, 600)?;
            Ok(())
        },
    },
    Key {
        key: "ventilate",
        example: "\"auto\"",
        comment: "auto (its minutes in each hour), on or off.",
        set: |d, v| {
            d.setup.settings.vent = match text(v)?.as_str() {
                "auto" => VentMode::Auto,
                "on" => VentMode::On,
                "off" => VentMode::Off,
                _ => return Err("write \"auto\", \"on\" or \"off\"".into()),
            };
            Ok(())
        },
    },
    Key {
        key: "ventilate_min",
        example: "0",
        comment: "Least minutes of ventilation in each hour.",
        set: |d, v| {
            d.setup.settings.ventilator_min_on_time = u8::try_from(whole(v, 0, 60)?).unwrap_or(60);
            Ok(())
        },
    },
    Key {
        key: "free_cooling",
        example: "false",
        comment: "The ventilator also cools, when it is cooler outdoors.",
        set: |d, v| {
            d.setup.settings.ventilator_free_cooling = truth(v)?;
            Ok(())
        },
    },
    Key {
        key: "cold_alert",
        example: "12",
        comment: "An alert below it.",
        set: |d, v| {
            d.setup.settings.cold_temp_alert = Some(d.temperature(v, 0.0, 25.0)?);
            Ok(())
        },
    },
    Key {
        key: "hot_alert",
        example: "35",
        comment: "An alert above it.",
        set: |d, v| {
            d.setup.settings.hot_temp_alert = Some(d.temperature(v, 20.0, 50.0)?);
            Ok(())
        },
    },
    Key {
        key: "rates",
        example: "[{ price = 0.12 }, { price = 0.45, days = \"weekdays\", from = \"16:00\", to = \"21:00\", months = \"jun-sep\" }]",
        comment: "What a kilowatt hour costs, as the bill has it; of two that cover an hour the later one counts. With rates or \
                  price_topic, set points give way while power is dear (a fifth over the day's mean).",
        set: |d, v| {
            let rates = rates(v)?;
            d.prices("rates").rates = rates;
            Ok(())
        },
    },
    Key {
        key: "price_topic",
        example: "\"energy/price\"",
        comment: "MQTT topic of prices: a number (the price now), or a list of {\"start\", \"end\", \"price\"}.",
        set: |d, v| {
            d.setup.price_topic = Some(topic(v)?);
            d.prices("price_topic");
            Ok(())
        },
    },
    Key {
        key: "dear_set_back",
        example: "1.5",
        comment: "While power is dear, set points give way by so many degrees; 0 is not at all.",
        set: |d, v| {
            let by = d.degrees(v, 0.0, 5.0)?;
            d.prices("dear_set_back").set_back = by;
            Ok(())
        },
    },
    Key {
        key: "dear_ahead",
        example: "1",
        comment: "Before it is dear, the house is warmed or cooled so many degrees further; 0 is not at all.",
        set: |d, v| {
            let by = d.degrees(v, 0.0, 3.0)?;
            d.prices("dear_ahead").ahead = by;
            Ok(())
        },
    },
    Key {
        key: "dear_limits",
        example: "[18, 26]",
        comment: "For the sake of a price or of a utility's request nothing is heated less than to the first or cooled less than to the second.",
        set: |d, v| {
            let limits = d.range(v)?;
            // They bind utilities, too: they may stand alone.
            d.plan().limits = limits;
            Ok(())
        },
    },
    Key {
        key: "demand_response",
        example: "\"accept\"",
        comment: "What becomes of a utility's request unless the household says otherwise: accept, ask or never.",
        set: |d, v| {
            d.setup.settings.dr_accept = match text(v)?.as_str() {
                "accept" => DrAccept::DefaultAccept,
                "ask" => DrAccept::DefaultDecline,
                "never" => DrAccept::Never,
                _ => return Err("write \"accept\", \"ask\" or \"never\"".into()),
            };
            Ok(())
        },
    },
    Key {
        key: "demand_response_topic",
        example: "\"utility/requests\"",
        comment: "MQTT topic of such requests; see docs/thermostat.md.",
        set: |d, v| {
            d.setup.demand_response_topic = Some(topic(v)?);
            Ok(())
        },
    },
    Key {
        key: "frost_floor",
        example: "7",
        comment: "No room is left below it, in any mode.",
        set: |d, v| {
            d.setup.settings.frost_floor = d.temperature(v, 2.0, 15.0)?;
            Ok(())
        },
    },
    Key {
        key: "high_limit",
        example: "33",
        comment: "Above it nothing heats, whatever is asked.",
        set: |d, v| {
            d.setup.settings.high_limit = d.temperature(v, 25.0, 45.0)?;
            Ok(())
        },
    },
    Key {
        key: "lock",
        example: "[18, 24]",
        comment: "Home Assistant, partners and guests set temperatures within these only, and not the mode; `vestibule thermostat code` makes a code that opens it for ten minutes, to everybody at the broker.",
        set: |d, v| {
            d.setup.lock = Some(d.range(v)?);
            Ok(())
        },
    },
    Key {
        key: "min_off_s",
        example: "300",
        comment: "Equipment stays off for at least so many seconds.",
        set: |d, v| d.limit(v, |l, s| l.min_off_s = s, |l| l.min_off_s),
    },
    Key {
        key: "min_on_s",
        example: "180",
        comment: "It stays on for at least so many.",
        set: |d, v| d.limit(v, |l, s| l.min_on_s = s, |l| l.min_on_s),
    },
    Key {
        key: "min_cycle_s",
        example: "900",
        comment: "From start to start; 900 is four an hour.",
        set: |d, v| d.limit(v, |l, s| l.min_cycle_s = s, |l| l.min_cycle_s),
    },
    Key {
        key: "reversing_delay_s",
        example: "300",
        comment: "Between heating and cooling.",
        set: |d, v| d.limit(v, |l, s| l.reversing_delay_s = s, |l| l.reversing_delay_s),
    },
    Key {
        key: "longest_run_s",
        example: "28800",
        comment: "Longest run at a stretch.",
        set: |d, v| d.limit(v, |l, s| l.longest_run_s = s, |l| l.longest_run_s),
    },
    Key {
        key: "cooling_lockout",
        example: "13",
        comment: "No cooling below it outdoors.",
        set: |d, v| {
            d.setup.limits.cooling_lockout = Some(d.temperature(v, -20.0, 30.0)?);
            Ok(())
        },
    },
    Key {
        key: "heat_pump_lockout",
        example: "-15",
        comment: "No heat pump below it outdoors. Without auxiliary heat there is none unless you set it, and none against frost.",
        set: |d, v| {
            d.setup.limits.compressor_min_outdoor = Some(d.temperature(v, -40.0, 20.0)?);
            d.heat_pump_lockout = true;
            Ok(())
        },
    },
    Key {
        key: "aux_lockout",
        example: "10",
        comment: "No auxiliary heat above it outdoors, save against frost.",
        set: |d, v| {
            d.setup.limits.aux_max_outdoor = Some(d.temperature(v, -40.0, 30.0)?);
            Ok(())
        },
    },
    Key {
        key: "sensor_stale_s",
        example: "3600",
        comment: "A sensor that has said nothing for so many seconds is not believed. Many say nothing while nothing changes: at least twice their interval.",
        set: |d, v| {
            d.setup.settings.sensor_stale_s = whole(v, 60, 6 * 3600)?;
            Ok(())
        },
    },
];

fn text(value: &DeValue<'_>) -> Result<String, String> {
    match value {
        DeValue::String(text) => Ok(text.to_string()),
        _ => Err("write a text in quotes".into()),
    }
}

fn truth(value: &DeValue<'_>) -> Result<bool, String> {
    match value {
        DeValue::Boolean(truth) => Ok(*truth),
        _ => Err("write true or false".into()),
    }
}

fn number(value: &DeValue<'_>) -> Result<f64, String> {
    let parsed = match value {
        DeValue::Integer(i) if i.radix() == 10 => i.as_str().parse().ok(),
        DeValue::Float(f) => f.as_str().parse().ok(),
        _ => None,
    };
    parsed.filter(|n: &f64| n.is_finite()).ok_or_else(|| "write a number, without quotes".to_owned())
}

fn whole(value: &DeValue<'_>, least: u32, most: u32) -> Result<u32, String> {
    let wrong = || format!("write a whole number from {least} to {most}");
    match value {
        DeValue::Integer(i) if i.radix() == 10 => {
            i.as_str().parse().ok().filter(|n| (least..=most).contains(n)).ok_or_else(wrong)
        }
        _ => Err(wrong()),
    }
}

fn device(value: &DeValue<'_>) -> Result<DeviceId, String> {
    let text = text(value)?;
    DeviceId::new(text.clone()).map_err(|_| format!("`{text}` is no device; `vestibule devices` lists them"))
}

fn devices(value: &DeValue<'_>) -> Result<Vec<DeviceId>, String> {
    let DeValue::Array(list) = value else { return Err("write a list: [\"one\", \"other\"]".into()) };
    if list.len() > DEVICES_MAX {
        return Err(format!("at most {DEVICES_MAX}"));
    }
    list.iter().map(|entry| device(entry.get_ref())).collect()
}

/// A sensor without anything said of it.
fn plain(id: &DeviceId) -> SensorConfig {
    SensorConfig { id: id.to_string(), name: id.to_string(), offset: Delta::ZERO, in_use: true }
}

/// A topic to hear: no wildcards.
fn topic(value: &DeValue<'_>) -> Result<String, String> {
    let topic = text(value)?;
    let fits =
        (1..=TOPIC_MAX_BYTES).contains(&topic.len()) && !topic.contains(['#', '+', '\0']) && !topic.starts_with('$');
    if fits { Ok(topic) } else { Err("write the name of one MQTT topic, without # and +".into()) }
}

/// The rates of a bill.
fn rates(value: &DeValue<'_>) -> Result<Vec<Rate>, String> {
    let DeValue::Array(list) = value else { return Err("write a list: [{ price = 0.12 }]".into()) };
    if list.is_empty() || list.len() > RATES_MAX {
        return Err(format!("1 to {RATES_MAX} rates"));
    }
    list.iter().map(|entry| rate(entry.get_ref())).collect()
}

fn rate(value: &DeValue<'_>) -> Result<Rate, String> {
    let DeValue::Table(table) = value else { return Err("a rate is a table: { price = 0.12 }".into()) };
    let mut rate = Rate { days: [true; 7], months: [true; 12], from_min: 0, to_min: 1440, price: f64::NAN };
    for (key, value) in table {
        let value = value.get_ref();
        match key.get_ref().as_ref() {
            "price" => rate.price = number(value)?,
            "from" => rate.from_min = minute(&text(value)?)? % 1440,
            "to" => rate.to_min = minute(&text(value)?)?,
            "days" => rate.days = words(&text(value)?, &DAYS, &[("weekdays", 0, 5), ("weekend", 5, 7), ("all", 0, 7)])?,
            "months" => rate.months = words(&text(value)?, &MONTHS, &[("all", 0, 12)])?,
            other => return Err(format!("a rate has no `{other}`; it has price, days, from, to, months")),
        }
    }
    if rate.price.is_finite() && rate.price.abs() <= PRICE_MAX && rate.to_min > 0 {
        Ok(rate)
    } else {
        Err("a rate needs its price, and does not end at 00:00 (write 24:00)".into())
    }
}

const DAYS: [&str; 7] = ["mon", "tue", "wed", "thu", "fri", "sat", "sun"];
const MONTHS: [&str; 12] = ["jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec"];

/// Minutes after midnight, as in `16:00`; `24:00` ends a day.
fn minute(text: &str) -> Result<u16, String> {
    let parse = || {
        let (hour, minute) = text.split_once(':')?;
        let (hour, minute): (u16, u16) = (hour.parse().ok()?, minute.parse().ok()?);
        (hour < 24 && minute < 60 || hour == 24 && minute == 0).then_some(hour * 60 + minute)
    };
    parse().ok_or_else(|| format!("`{text}` is no time of day; write 16:00"))
}

/// Days or months: `mon,wed`, `jun-sep`, `nov-feb`, or one of the groups.
fn words<const N: usize>(text: &str, names: &[&str; N], groups: &[(&str, usize, usize)]) -> Result<[bool; N], String> {
    let mut all = [false; N];
    let place = |word: &str| {
        let short: String = word.trim().to_lowercase().chars().take(3).collect();
        let found = names.iter().position(|n| *n == short);
        found.ok_or_else(|| format!("`{}` is none of {}", word.trim(), names.join(", ")))
    };
    for part in text.split(',') {
        let group = groups.iter().find(|g| g.0 == part.trim());
        let (first, last) = match (group, part.split_once('-')) {
            (Some((_, from, to)), _) => (*from, to - 1),
            (None, Some((from, to))) => (place(from)?, place(to)?),
            (None, None) => (place(part)?, place(part)?),
        };
        // Over the turn of the year or week, if it is written so.
        let last = if last < first { last + N } else { last };
        for (index, on) in all.iter_mut().enumerate() {
            *on |= (first..=last).contains(&index) || (first..=last).contains(&(index + N));
        }
    }
    Ok(all)
}

impl Draft {
    fn new(units: TemperatureScale) -> Self {
        let settings = Settings { scale: units, sensor_stale_s: 3600, ..Settings::default() };
        let setup = Setup {
            name: "Thermostat".into(),
            mode: HvacMode::Off,
            relays: BTreeMap::new(),
            reversing_valve: None,
            guides: None,
            sensors: Vec::new(),
            occupancy: Vec::new(),
            rooms: BTreeMap::new(),
            outdoor: None,
            windows: Vec::new(),
            equipment: Equipment::default(),
            limits: Limits::default(),
            settings,
            lock: None,
            phones: Vec::new(),
            prices: None,
            price_topic: None,
            demand_response_topic: None,
        };
        Self { setup, units, mode: None, priced: None, heat_pump_lockout: false, guided: (1, 0) }
    }

    fn relay(&mut self, key: &str, value: &DeValue<'_>) -> Result<(), String> {
        let device = device(value)?;
        if let Some((_, output)) = RELAYS.iter().find(|(name, _)| *name == key) {
            self.setup.relays.insert(*output, device);
        }
        Ok(())
    }

    /// A sensor, with what is said of it.
    fn sensor(&mut self, value: &DeValue<'_>) -> Result<SensorConfig, String> {
        let DeValue::Table(table) = value else { return device(value).map(|id| plain(&id)) };
        let mut found = None;
        let mut offset = Delta::ZERO;
        let mut name = None;
        let mut detector = None;
        for (key, value) in table {
            match key.get_ref().as_ref() {
                "device" => found = Some(device(value.get_ref())?),
                "name" => name = Some(text(value.get_ref())?),
                "offset" => {
                    let factor = if self.units == TemperatureScale::Fahrenheit { 1.8 } else { 1.0 };
                    let kelvin = number(value.get_ref())? / factor;
                    if kelvin.abs() > 10.0 {
                        return Err(format!("an offset is at most {} degrees", 10.0 * factor));
                    }
                    offset = Delta::from_milli_k((kelvin * 1000.0).round() as i32);
                }
                "occupancy" => detector = Some(device(value.get_ref())?),
                other => return Err(format!("a sensor has no `{other}`; it has device, name, offset, occupancy")),
            }
        }
        let mut sensor = plain(&found.ok_or("a sensor needs its device: { device = \"bedroom\", offset = -0.5 }")?);
        sensor.offset = offset;
        sensor.name = name.unwrap_or(sensor.name);
        if let Some(detector) = detector {
            self.setup.rooms.insert(detector, sensor.id.clone());
        }
        Ok(sensor)
    }

    /// A temperature in the home's units, within bounds in °C.
    fn temperature(&self, value: &DeValue<'_>, least: f64, most: f64) -> Result<Temp, String> {
        let degrees = number(value)?;
        let shown =
            |c: f64| Temp::measured(c, TemperatureScale::Celsius).map_or_else(String::new, |t| t.text(self.units));
        Temp::measured(degrees, self.units)
            .filter(|t| (least..=most).contains(&t.celsius()))
            .ok_or_else(|| format!("write a temperature from {} to {}", shown(least), shown(most)))
    }

    /// Two temperatures in the home's units, the lower one first.
    fn range(&self, value: &DeValue<'_>) -> Result<(Temp, Temp), String> {
        let wrong = || "write two temperatures: [18, 24]".to_owned();
        let DeValue::Array(list) = value else { return Err(wrong()) };
        let [low, high] = list.as_ref() else { return Err(wrong()) };
        let (low, high) = (self.temperature(low.get_ref(), 5.0, 35.0)?, self.temperature(high.get_ref(), 5.0, 35.0)?);
        if low < high { Ok((low, high)) } else { Err("the first is the lower one".into()) }
    }

    /// A difference in the home's units, within bounds in K.
    fn degrees(&self, value: &DeValue<'_>, least: f64, most: f64) -> Result<Delta, String> {
        let factor = if self.units == TemperatureScale::Fahrenheit { 1.8 } else { 1.0 };
        let kelvin = number(value)? / factor;
        // A bound that was rounded for people is still within.
        if !(least - 0.03..=most + 0.03).contains(&kelvin) {
            return Err(format!("write degrees from {:.1} to {:.1}", least * factor, most * factor));
        }
        Ok(Delta::from_milli_k((kelvin * 1000.0).round() as i32))
    }

    /// The price plan, for a key that says nothing without prices.
    fn prices(&mut self, key: &'static str) -> &mut PricePlan {
        self.priced = self.priced.or(Some(key));
        self.plan()
    }

    /// The price plan, made by the first of its keys.
    fn plan(&mut self) -> &mut PricePlan {
        let new = || PricePlan { rates: Vec::new(), set_back: SET_BACK, ahead: AHEAD, limits: PRICE_LIMITS };
        self.setup.prices.get_or_insert_with(new)
    }

    /// Seconds within what the guards allow.
    fn limit(&mut self, value: &DeValue<'_>, set: fn(&mut Limits, u32), get: fn(&Limits) -> u32) -> Result<(), String> {
        let allowed = |seconds: u32| {
            let mut limits = Limits::default();
            set(&mut limits, seconds);
            get(&limits.bounded())
        };
        let (least, most) = (allowed(0), allowed(u32::MAX));
        set(&mut self.setup.limits, whole(value, least, most)?);
        Ok(())
    }

    fn check(&mut self) -> Result<(), String> {
        let has = |setup: &Setup, output| setup.relays.contains_key(&output);
        let setup = &mut self.setup;
        if let Some(guided) = &setup.guides {
            if !setup.relays.is_empty() || setup.reversing_valve.is_some() {
                return Err("it has `guides` or relays, not both: the guided thermostat switches by itself".into());
            }
            if setup.sensors.is_empty() {
                setup.sensors.push(plain(guided));
            }
            let (heat_stages, cool_stages) = self.guided;
            setup.equipment = Equipment {
                heat_stages,
                cool_stages,
                has_forced_air: false,
                is_guided: true,
                has_own_control: true,
                ..setup.equipment.clone()
            };
        }
        if setup.sensors.is_empty() {
            return Err("it needs `sensors`: the devices whose room temperature counts".into());
        }
        let without_prices = setup.prices.as_ref().is_some_and(|p| p.rates.is_empty()) && setup.price_topic.is_none();
        if let Some(key) = self.priced.filter(|_| without_prices) {
            return Err(format!("`{key}` needs `rates` or `price_topic`"));
        }
        let (heat, cool, aux) = (has(setup, Output::Heat1), has(setup, Output::Cool1), has(setup, Output::Aux));
        if !heat && !cool && !aux && setup.guides.is_none() {
            return Err(
                "it needs equipment: `heat`, `cool` or `aux`, each the device that switches it, or `guides`".into()
            );
        }
        for (first, second, name) in [(heat, Output::Heat2, "heat"), (cool, Output::Cool2, "cool")] {
            if has(setup, second) && !first {
                return Err(format!("`{name}2` is a second stage: it needs `{name}`"));
            }
        }
        let shared = setup.shares_compressor();
        if shared != setup.reversing_valve.is_some() {
            return Err("a heat pump has one compressor and a valve: `heat` and `cool` name the compressor, \
                        `reversing_valve` the valve"
                .into());
        }
        let mut seen = BTreeSet::new();
        let relays = setup.relays.iter().filter(|(o, _)| !(shared && **o == Output::Cool1)).map(|(_, d)| d);
        for device in relays.chain(&setup.reversing_valve) {
            if !seen.insert(device) {
                return Err(format!("`{device}` switches two things: give each its own relay"));
            }
        }
        let stages = |first: bool, second: Output| u8::from(first) + u8::from(has(setup, second));
        let equipment = Equipment {
            heat_stages: stages(heat, Output::Heat2),
            cool_stages: stages(cool, Output::Cool2),
            has_heat_pump: shared,
            has_forced_air: has(setup, Output::Fan),
            has_boiler: !has(setup, Output::Fan),
            has_aux: aux,
            has_humidifier: has(setup, Output::Humidifier),
            has_dehumidifier: has(setup, Output::Dehumidifier),
            ventilator_type: match has(setup, Output::Ventilator) {
                true => VentilatorType::Ventilator,
                false => VentilatorType::None,
            },
            ..setup.equipment.clone()
        };
        // Where nothing else heats, a heat pump that stays off in the cold is no lock-out that anybody asked for.
        if shared && !aux && !self.heat_pump_lockout {
            setup.limits.compressor_min_outdoor = None;
        }
        if setup.guides.is_none() {
            setup.equipment = equipment;
        }
        let (heats, cools) = (setup.takes(HvacMode::Heat), setup.takes(HvacMode::Cool));
        let mode = self.mode.unwrap_or(match (heats, cools) {
            (true, true) => HvacMode::Auto,
            (true, false) => HvacMode::Heat,
            _ => HvacMode::Cool,
        });
        if !setup.takes(mode) {
            return Err(format!("it can't be in the mode {}: the equipment for it is not there", mode.as_str()));
        }
        setup.mode = mode;
        Ok(())
    }
}

/// Reads the keys of prices alone, in degrees Celsius.
///
/// # Errors
/// When there are others, or one of them can't be.
pub fn price_plan(text: &str) -> Result<PricePlan, String> {
    let root = DeTable::parse(text).map_err(|e| e.to_string())?;
    let mut draft = Draft::new(TemperatureScale::Celsius);
    for (key, value) in root.get_ref() {
        let key: &str = key.get_ref().as_ref();
        let known = KEYS.iter().find(|k| k.key == key && PRICE_KEYS.contains(&key));
        let known =
            known.ok_or_else(|| format!("there is no `{key}` in a price plan; it has {}", PRICE_KEYS.join(", ")))?;
        (known.set)(&mut draft, value.get_ref()).map_err(|e| format!("`{key}`: {e}"))?;
    }
    draft.setup.prices.filter(|p| !p.rates.is_empty()).ok_or_else(|| "it needs `rates`".to_owned())
}

/// The keys of a price plan's file.
const PRICE_KEYS: [&str; 4] = ["rates", "dear_set_back", "dear_ahead", "dear_limits"];

impl Setup {
    /// Reads a table; temperatures are in the home's units.
    ///
    /// # Errors
    /// Every problem, each with its place in the text (none is the table's own).
    pub fn read(table: &DeTable<'_>, units: TemperatureScale) -> Result<Self, Vec<(Option<usize>, String)>> {
        let mut draft = Draft::new(units);
        let mut problems = Vec::new();
        for (key, value) in table {
            let (place, key): (usize, &str) = (Spanned::span(key).start, key.get_ref().as_ref());
            let place = Some(place);
            let done = match KEYS.iter().find(|k| k.key == key) {
                Some(known) => (known.set)(&mut draft, value.get_ref()).map_err(|e| format!("`thermostat.{key}`: {e}")),
                None => {
                    let known: Vec<&str> = KEYS.iter().map(|k| k.key).collect();
                    Err(format!("there is no setting `{key}` in [[thermostat]]; it has {}", known.join(", ")))
                }
            };
            problems.extend(done.err().map(|text| (place, text)));
        }
        if problems.is_empty() {
            problems.extend(draft.check().err().map(|text| (None, format!("[[thermostat]]: {text}"))));
        }
        if problems.is_empty() { Ok(draft.setup) } else { Err(problems) }
    }

    /// The table with every key, as comments.
    pub fn example() -> String {
        let mut out = String::from(
            "\n# A thermostat that this hub runs; without it there is none. Only the first lines are needed.\n",
        );
        out.push_str("# [[thermostat]]\n");
        for key in KEYS {
            out.push_str(&format!("# # {}\n# {} = {}\n", key.comment, key.key, key.example));
        }
        out
    }

    /// Why it can't be beside another one, if it can't.
    pub fn collides(&self, other: &Self) -> Option<String> {
        if self.name == other.name {
            return Some(format!("two thermostats are called `{}`: give each its own `name`", self.name));
        }
        let mine = self.switches();
        let both = other.switches().into_iter().find(|d| mine.contains(d))?;
        Some(format!("`{both}` is switched by `{}` already: each relay has one thermostat", self.name))
    }

    /// Every device that it switches or guides.
    pub fn switches(&self) -> BTreeSet<&DeviceId> {
        self.relays.values().chain(&self.reversing_valve).chain(&self.guides).collect()
    }

    /// Heating and cooling have one compressor.
    pub fn shares_compressor(&self) -> bool {
        self.relays.get(&Output::Heat1).is_some_and(|d| self.relays.get(&Output::Cool1) == Some(d))
    }

    /// Whether its equipment can be in this mode.
    pub fn takes(&self, mode: HvacMode) -> bool {
        let heats = self.equipment.heat_stages > 0 || self.equipment.has_aux;
        let cools = self.equipment.cool_stages > 0;
        match mode {
            HvacMode::Off => true,
            HvacMode::Heat => heats,
            HvacMode::Cool => cools,
            HvacMode::Auto => heats && cools,
            HvacMode::AuxHeatOnly => self.equipment.has_aux,
        }
    }

    /// The thermostat's configuration before its members changed anything.
    pub fn config(&self) -> Config {
        Config {
            settings: Settings { hvac_mode: self.mode, ..self.settings.clone() },
            equipment: self.equipment.clone(),
            limits: self.limits.clone(),
            sensors: self.sensors.clone(),
            program: Program::household(),
            lock: self.lock,
            prices: self.prices.clone(),
        }
    }
}
