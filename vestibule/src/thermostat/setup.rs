//! `[[thermostat]]` in the configuration: which devices are its sensors and relays, and how the equipment is to be treated.

use std::collections::{BTreeMap, BTreeSet};

use comfort::sensor::SENSORS_MAX;
use comfort::settings::VentilatorType;
use comfort::{Config, Delta, Equipment, HvacMode, Limits, Output, Program, SensorConfig, Settings, Temp};
use model::{DeviceId, TemperatureScale};
use serde::{Deserialize, Serialize};
use toml::Spanned;
use toml::de::{DeTable, DeValue};

/// Longest name, characters.
const NAME_MAX_CHARS: usize = 64;

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
    /// Devices whose room temperature counts.
    pub sensors: Vec<SensorConfig>,
    /// Devices that tell whether somebody is there.
    pub occupancy: Vec<DeviceId>,
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
}

/// What stands in the table while it is read.
struct Draft {
    setup: Setup,
    units: TemperatureScale,
    mode: Option<HvacMode>,
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
        comment: "Devices whose room temperature counts, as `vestibule devices` lists them; with a correction.",
        set: |d, v| {
            let DeValue::Array(list) = v else { return Err("write a list: [\"hall\", \"bedroom\"]".into()) };
            for entry in list {
                let sensor = sensor(entry.get_ref())?;
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
        comment: "Windows and doors: open for five minutes, they pause heating and cooling.",
        set: |d, v| {
            d.setup.windows = devices(v)?;
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
        key: "auto_away",
        example: "false",
        comment: "Treat the house as empty when nobody was seen for two hours. Whoever sees the set point then sees that.",
        set: |d, v| {
            d.setup.settings.auto_away = truth(v)?;
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
        comment: "Home Assistant, partners and guests set temperatures within these only.",
        set: |d, v| {
            let DeValue::Array(list) = v else { return Err("write two temperatures: [18, 24]".into()) };
            let [low, high] = list.as_ref() else { return Err("write two temperatures: [18, 24]".into()) };
            let (low, high) = (d.temperature(low.get_ref(), 5.0, 35.0)?, d.temperature(high.get_ref(), 5.0, 35.0)?);
            d.setup.lock = Some((low, high));
            if low < high { Ok(()) } else { Err("the first is the lower one".into()) }
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
        comment: "No heat pump below it outdoors.",
        set: |d, v| {
            d.setup.limits.compressor_min_outdoor = Some(d.temperature(v, -40.0, 20.0)?);
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

fn sensor(value: &DeValue<'_>) -> Result<SensorConfig, String> {
    let plain =
        |id: DeviceId| SensorConfig { id: id.to_string(), name: id.to_string(), offset: Delta::ZERO, in_use: true };
    let DeValue::Table(table) = value else { return device(value).map(plain) };
    let mut found = None;
    let mut offset = Delta::ZERO;
    let mut name = None;
    for (key, value) in table {
        match key.get_ref().as_ref() {
            "device" => found = Some(device(value.get_ref())?),
            "name" => name = Some(text(value.get_ref())?),
            "offset" => {
                let kelvin = number(value.get_ref())?;
                if kelvin.abs() > 10.0 {
                    return Err("an offset is at most 10 degrees".into());
                }
                offset = Delta::from_milli_k((kelvin * 1000.0).round() as i32);
            }
            other => return Err(format!("a sensor has no `{other}`; it has device, name, offset")),
        }
    }
    let mut sensor = plain(found.ok_or("a sensor needs its device: { device = \"bedroom\", offset = -0.5 }")?);
    sensor.offset = offset;
    sensor.name = name.unwrap_or(sensor.name);
    Ok(sensor)
}

impl Draft {
    fn relay(&mut self, key: &str, value: &DeValue<'_>) -> Result<(), String> {
        let device = device(value)?;
        if let Some((_, output)) = RELAYS.iter().find(|(name, _)| *name == key) {
            self.setup.relays.insert(*output, device);
        }
        Ok(())
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
        if setup.sensors.is_empty() {
            return Err("it needs `sensors`: the devices whose room temperature counts".into());
        }
        let (heat, cool, aux) = (has(setup, Output::Heat1), has(setup, Output::Cool1), has(setup, Output::Aux));
        if !heat && !cool && !aux {
            return Err("it needs equipment: `heat`, `cool` or `aux`, each the device that switches it".into());
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
        setup.equipment = equipment;
        let mode = self.mode.unwrap_or(match (heat || aux, cool) {
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

impl Setup {
    /// Reads a table; temperatures are in the home's units.
    ///
    /// # Errors
    /// Every problem, each with its place in the text (none is the table's own).
    pub fn read(table: &DeTable<'_>, units: TemperatureScale) -> Result<Self, Vec<(Option<usize>, String)>> {
        let settings = Settings { scale: units, sensor_stale_s: 3600, ..Settings::default() };
        let setup = Self {
            name: "Thermostat".into(),
            mode: HvacMode::Off,
            relays: BTreeMap::new(),
            reversing_valve: None,
            sensors: Vec::new(),
            occupancy: Vec::new(),
            outdoor: None,
            windows: Vec::new(),
            equipment: Equipment::default(),
            limits: Limits::default(),
            settings,
            lock: None,
        };
        let mut draft = Draft { setup, units, mode: None };
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
        }
    }
}
