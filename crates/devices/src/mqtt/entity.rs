//! What a component of Home Assistant's discovery means: where its properties are read, how they are commanded.

use disclosure::Features;
use home::PropertyDescription;
use model::{Class, DoorState, FanDirection, LockState, Property, RunningState, SystemMode, TemperatureScale, Value};
use serde_json::{Map, Value as Json};

use crate::counters::DropReason;
use crate::mqtt::announce::{Component, TOPIC_MAX_BYTES};
use crate::mqtt::color;

/// Longest name, maker, model and the like that is kept, in characters.
pub const TEXT_MAX_CHARS: usize = 128;

/// Where one property is read.
#[derive(Clone, Debug, PartialEq)]
pub struct Source {
    /// Topic.
    pub topic: String,
    /// Template over the payload.
    pub template: Option<String>,
    /// What is read.
    pub property: Property,
    /// How the text is understood.
    pub read: Read,
}

/// How a text becomes a value.
#[derive(Clone, Debug, PartialEq)]
pub enum Read {
    /// A temperature in a scale.
    Temperature(TemperatureScale),
    /// Percent.
    Percent,
    /// Parts per million, after multiplying.
    Ppm(f64),
    /// Watts, after multiplying.
    Watts(f64),
    /// Kilowatt-hours, after multiplying.
    KilowattHours(f64),
    /// A part of a range, as percent.
    Range {
        /// The number at 0 %.
        from: f64,
        /// The number at 100 %.
        to: f64,
    },
    /// Colour temperature, in mireds or in kelvin.
    ColorTemperature {
        /// In mireds.
        mireds: bool,
    },
    /// A colour, as numbers with commas between them.
    Color(ColorForm),
    /// Closed at this number, open at any other.
    ClosedAt(f64),
    /// One of these words. `None` is a word that says nothing (a lock on its way).
    Words(Vec<(String, Option<Value>)>),
}

/// How a colour is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ColorForm {
    /// Hue in degrees, saturation in percent.
    Hs,
    /// Red, green and blue, 0 to 255.
    Rgb,
    /// CIE 1931 chromaticity.
    Xy,
}

/// How one property is commanded.
#[derive(Clone, Debug, PartialEq)]
pub struct Sink {
    /// Topic.
    pub topic: String,
    /// Template over the value.
    pub template: Option<String>,
    /// What is commanded.
    pub property: Property,
    /// How the value becomes a text.
    pub write: Write,
    /// The message is retained.
    pub retain: bool,
}

/// How a value becomes a text.
#[derive(Clone, Debug, PartialEq)]
pub enum Write {
    /// A temperature in a scale.
    Temperature(TemperatureScale),
    /// A part of a range.
    Range {
        /// The number at 0 %.
        from: f64,
        /// The number at 100 %.
        to: f64,
    },
    /// One of these words.
    Words(Vec<(Value, String)>),
    /// Colour temperature, in mireds or in kelvin.
    ColorTemperature {
        /// In mireds.
        mireds: bool,
    },
    /// A colour, as numbers with commas between them.
    Color(ColorForm),
    /// A light that takes JSON: `{"state": ...}`, with the brightness of this scale.
    LightJson {
        /// The number at 100 %.
        scale: f64,
        /// How it takes colours.
        color: ColorForm,
        /// It takes mireds, not kelvin.
        mireds: bool,
    },
}

/// One topic that tells whether the device answers.
#[derive(Clone, Debug, PartialEq)]
pub struct Availability {
    /// Topic.
    pub topic: String,
    /// Template over the payload.
    pub template: Option<String>,
    /// Word for yes.
    pub available: String,
    /// Word for no.
    pub unavailable: String,
}

/// How several availability topics count together.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AvailabilityMode {
    /// All must say yes.
    All,
    /// One is enough.
    Any,
    /// The last word counts.
    Latest,
}

/// The one set point of a climate device that has two of its own for automatic change-over: it counts while the device only
/// heats or only cools, the two while it does both.
#[derive(Clone, Debug, PartialEq)]
pub struct SingleSetpoint {
    /// Where it is read, as the heating set point.
    pub source: Option<Source>,
    /// How it is commanded, as the heating set point.
    pub sink: Option<Sink>,
}

/// A component that the hub understands.
#[derive(Clone, Debug, PartialEq)]
pub struct Entity {
    /// Its name within the device.
    pub object: String,
    /// The device's own identifier: entities with the same one belong together.
    pub identifier: String,
    /// The device's name.
    pub name: String,
    /// Maker.
    pub vendor: Option<String>,
    /// Model.
    pub product: Option<String>,
    /// Serial number.
    pub serial: Option<String>,
    /// Firmware.
    pub firmware: Option<String>,
    /// The room that it is in.
    pub room: Option<String>,
    /// Its properties.
    pub properties: Vec<(Property, PropertyDescription)>,
    /// Where they are read.
    pub sources: Vec<Source>,
    /// How they are commanded.
    pub sinks: Vec<Sink>,
    /// The set point beside the two in `sources` and `sinks`, if it has both.
    pub single: Option<SingleSetpoint>,
    /// Where its availability is read.
    pub availability: Vec<Availability>,
    /// How these count together.
    pub availability_mode: AvailabilityMode,
    /// What it takes.
    pub features: Features,
}

/// Characters that are not seen and change how others are: they turn the direction of a text, end its line, or carry words
/// that only a machine reads.
fn is_unseen(c: char) -> bool {
    c.is_control()
        || matches!(c, '\u{200b}' | '\u{200e}' | '\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{206f}')
        || matches!(c, '\u{feff}' | '\u{fff9}'..='\u{fffb}' | '\u{e0000}'..='\u{e0fff}')
}

/// A text for people: bounded, without what is not seen.
fn tidy(text: &str) -> Option<String> {
    let text: String = text.chars().filter(|c| !is_unseen(*c)).take(TEXT_MAX_CHARS).collect();
    let text = text.trim().to_owned();
    (!text.is_empty()).then_some(text)
}

fn text(map: &Map<String, Json>, key: &str) -> Option<String> {
    match map.get(key)? {
        Json::String(s) => tidy(s),
        Json::Number(n) => Some(n.to_string()),
        _ => None,
    }
}

/// A payload word: a text, or what JSON would write.
fn word(map: &Map<String, Json>, key: &str) -> Option<String> {
    match map.get(key)? {
        Json::String(s) => Some(s.clone()),
        Json::Null | Json::Array(_) | Json::Object(_) => None,
        other => Some(other.to_string()),
    }
}

fn number(map: &Map<String, Json>, key: &str) -> Option<f64> {
    match map.get(key)? {
        Json::Number(n) => n.as_f64(),
        Json::String(s) => s.trim().parse().ok(),
        _ => None,
    }
    .filter(|n| n.is_finite())
}

/// Builds entities out of components.
struct Builder<'a> {
    config: &'a Map<String, Json>,
    entity: Entity,
}

/// Understands a component.
///
/// # Errors
/// When it is of no kind that the hub knows, or lacks what it needs.
pub fn understand(component: &Component, home_unit: TemperatureScale) -> Result<Entity, DropReason> {
    let config = &component.config;
    let empty = Map::new();
    let device = match config.get("device") {
        Some(Json::Object(d)) => d,
        _ => &empty,
    };
    let first = |v: &Json| match v {
        Json::String(s) => Some(s.clone()),
        Json::Array(list) => list.iter().find_map(|e| e.as_str().map(str::to_owned)),
        _ => None,
    };
    let connection = || {
        let list = device.get("connections")?.as_array()?;
        list.iter().find_map(|pair| pair.get(1)?.as_str().map(str::to_owned))
    };
    let identifier = device
        .get("identifiers")
        .and_then(first)
        .or_else(connection)
        .or_else(|| word(config, "unique_id"))
        .unwrap_or_else(|| format!("{}_{}", component.platform, component.object));
    let name = text(device, "name").or_else(|| text(config, "name")).unwrap_or_else(|| component.object.clone());
    let entity = Entity {
        object: component.object.clone(),
        identifier,
        name: tidy(&name).unwrap_or_else(|| "device".into()),
        vendor: text(device, "manufacturer"),
        product: text(device, "model"),
        serial: text(device, "serial_number"),
        firmware: text(device, "sw_version"),
        room: text(device, "suggested_area"),
        properties: Vec::new(),
        sources: Vec::new(),
        sinks: Vec::new(),
        single: None,
        availability: Vec::new(),
        availability_mode: match config.get("availability_mode").and_then(Json::as_str) {
            Some("any") => AvailabilityMode::Any,
            Some("latest") => AvailabilityMode::Latest,
            _ => AvailabilityMode::All,
        },
        features: Features::default(),
    };
    let mut b = Builder { config, entity };
    match component.platform.as_str() {
        "climate" => b.climate(home_unit),
        "sensor" => b.sensor(home_unit, &component.object)?,
        "binary_sensor" => b.binary_sensor()?,
        "cover" => b.cover(),
        "lock" => b.lock(),
        "switch" => b.switch(Class::Switch),
        "light" => b.light(),
        "fan" => b.fan(),
        "scene" => b.scene(),
        _ => return Err(DropReason::ConfigUnsupported),
    }
    b.availability();
    let entity = b.entity;
    if entity.properties.is_empty() {
        return Err(DropReason::ConfigInvalid);
    }
    let single = entity.single.as_ref().and_then(|s| s.sink.as_ref());
    for topic in entity.heard().chain(entity.sinks.iter().chain(single).map(|s| &s.topic)) {
        // Wildcards would hear other devices; the birth topic is Home Assistant's own.
        let fits = !topic.is_empty()
            && topic.len() <= TOPIC_MAX_BYTES
            && !topic.contains(['+', '#', '\0'])
            && !topic.starts_with('$')
            && !topic.ends_with("/status/config");
        if !fits || topic == "homeassistant/status" {
            return Err(DropReason::ConfigTopic);
        }
    }
    Ok(entity)
}

impl Entity {
    /// Where its properties are read, the single set point among them.
    pub fn all_sources(&self) -> impl Iterator<Item = &Source> {
        self.sources.iter().chain(self.single.iter().filter_map(|s| s.source.as_ref()))
    }

    /// Every topic that it is heard on.
    pub fn heard(&self) -> impl Iterator<Item = &String> {
        self.all_sources().map(|s| &s.topic).chain(self.availability.iter().map(|a| &a.topic))
    }
}

impl Builder<'_> {
    fn topic(&self, key: &str) -> Option<String> {
        self.config.get(key).and_then(Json::as_str).map(str::to_owned)
    }

    fn template(&self, keys: &[&str]) -> Option<String> {
        keys.iter().find_map(|k| self.config.get(*k).and_then(Json::as_str).map(str::to_owned))
    }

    fn word(&self, key: &str, default: &str) -> String {
        word(self.config, key).unwrap_or_else(|| default.to_owned())
    }

    /// Adds a property, with a source if it has a state topic and a sink if it has a command topic.
    fn add(&mut self, property: Property, class: Class, source: Option<Source>, sink: Option<Sink>) {
        if source.is_none() && sink.is_none() {
            return;
        }
        let command = sink.is_some();
        match self.entity.properties.iter_mut().find(|(p, _)| *p == property) {
            Some((_, d)) => d.command |= command,
            None => self.entity.properties.push((property, PropertyDescription { class, command })),
        }
        self.entity.sources.extend(source);
        self.entity.sinks.extend(sink);
    }

    fn source(&self, topic: &str, templates: &[&str], property: Property, read: Read) -> Option<Source> {
        Some(Source { topic: self.topic(topic)?, template: self.template(templates), property, read })
    }

    fn sink(&self, topic: &str, templates: &[&str], property: Property, write: Write) -> Option<Sink> {
        let retain = self.config.get("retain").and_then(Json::as_bool).unwrap_or(false);
        Some(Sink { topic: self.topic(topic)?, template: self.template(templates), property, write, retain })
    }

    fn availability(&mut self) {
        let mut all = Vec::new();
        if let Some(topic) = self.topic("availability_topic") {
            all.push(Availability {
                topic,
                template: self.template(&["availability_template"]),
                available: self.word("payload_available", "online"),
                unavailable: self.word("payload_not_available", "offline"),
            });
        }
        for entry in self.config.get("availability").and_then(Json::as_array).into_iter().flatten() {
            let Json::Object(entry) = entry else { continue };
            let Some(topic) = entry.get("topic").and_then(Json::as_str) else { continue };
            all.push(Availability {
                topic: topic.to_owned(),
                template: entry.get("value_template").and_then(Json::as_str).map(str::to_owned),
                available: word(entry, "payload_available").unwrap_or_else(|| "online".into()),
                unavailable: word(entry, "payload_not_available").unwrap_or_else(|| "offline".into()),
            });
        }
        self.entity.availability = all;
    }

    /// One set point serves whatever mode is in force: it is the heating one if the device heats, else the cooling one.
    /// Two set points are heating and cooling.
    fn climate(&mut self, home_unit: TemperatureScale) {
        let unit = match self.config.get("temperature_unit").and_then(Json::as_str) {
            Some("F") => TemperatureScale::Fahrenheit,
            Some("C") => TemperatureScale::Celsius,
            _ => home_unit,
        };
        let listed: Vec<String> = match self.config.get("modes") {
            Some(Json::Array(list)) => list.iter().filter_map(|m| m.as_str().map(str::to_owned)).collect(),
            // Home Assistant's default list.
            _ => ["auto", "off", "cool", "heat", "dry", "fan_only"].map(str::to_owned).to_vec(),
        };
        let words = modes(&listed);
        let mut known: Vec<SystemMode> = words.iter().map(|(_, m)| *m).collect();
        known.sort_unstable();
        known.dedup();
        let heats = known.contains(&SystemMode::Heat) || !known.contains(&SystemMode::Cool);
        let temperature = || Read::Temperature(unit);
        let source = self.source(
            "current_temperature_topic",
            &["current_temperature_template"],
            Property::LocalTemperature,
            temperature(),
        );
        self.add(Property::LocalTemperature, Class::None, source, None);
        let source = self.source(
            "current_humidity_topic",
            &["current_humidity_template"],
            Property::RelativeHumidity,
            Read::Percent,
        );
        self.add(Property::RelativeHumidity, Class::None, source, None);

        let dual = self.topic("temperature_low_state_topic").is_some()
            || self.topic("temperature_low_command_topic").is_some();
        let single =
            self.topic("temperature_state_topic").is_some() || self.topic("temperature_command_topic").is_some();
        let set_point = |b: &mut Self, name: &str, property: Property| {
            let (state, command) = (format!("{name}_state_topic"), format!("{name}_command_topic"));
            let (read, write) = (format!("{name}_state_template"), format!("{name}_command_template"));
            let source = b.source(&state, &[&read], property, Read::Temperature(unit));
            let sink = b.sink(&command, &[&write], property, Write::Temperature(unit));
            b.add(property, Class::None, source, sink);
        };
        if dual {
            set_point(self, "temperature_low", Property::OccupiedHeatingSetpoint);
            set_point(self, "temperature_high", Property::OccupiedCoolingSetpoint);
            if single {
                let (property, state) = (Property::OccupiedHeatingSetpoint, "temperature_state_template");
                let source = self.source("temperature_state_topic", &[state], property, temperature());
                let write = Write::Temperature(unit);
                let sink = self.sink("temperature_command_topic", &["temperature_command_template"], property, write);
                self.entity.single = Some(SingleSetpoint { source, sink });
            }
        } else if single {
            let property = if heats { Property::OccupiedHeatingSetpoint } else { Property::OccupiedCoolingSetpoint };
            set_point(self, "temperature", property);
        }

        let to_words: Vec<(Value, String)> = known
            .iter()
            .filter_map(|m| words.iter().find(|(_, w)| w == m).map(|(t, m)| (Value::SystemMode(*m), t.clone())))
            .collect();
        let from_words = words.iter().map(|(t, m)| (t.clone(), Some(Value::SystemMode(*m)))).collect();
        let source =
            self.source("mode_state_topic", &["mode_state_template"], Property::SystemMode, Read::Words(from_words));
        let sink =
            self.sink("mode_command_topic", &["mode_command_template"], Property::SystemMode, Write::Words(to_words));
        self.add(Property::SystemMode, Class::None, source, sink);

        let actions = [
            ("off", RunningState::Off),
            ("heating", RunningState::Heating),
            ("preheating", RunningState::Heating),
            ("cooling", RunningState::Cooling),
            ("drying", RunningState::Drying),
            ("idle", RunningState::Idle),
            ("fan", RunningState::Fan),
        ];
        let read = Read::Words(actions.iter().map(|(t, s)| ((*t).to_owned(), Some(Value::RunningState(*s)))).collect());
        let source = self.source("action_topic", &["action_template"], Property::RunningState, read);
        self.add(Property::RunningState, Class::None, source, None);

        self.schedule();

        let milli = |key: &str| match Value::temperature(number(self.config, key)?, unit) {
            Ok(Value::Temperature(milli)) => Some(milli),
            _ => None,
        };
        let (min, max) = (milli("min_temp"), milli("max_temp"));
        let features = &mut self.entity.features;
        features.modes = known;
        features.min_setpoint_milli = min;
        features.max_setpoint_milli = max;
        features.dual_setpoints = dual;
        features.single_setpoint = single || !dual;
    }

    /// A preset that is the device's own schedule: whatever else is preset holds against it.
    fn schedule(&mut self) {
        let is_schedule = |name: &str| name.eq_ignore_ascii_case("schedule") || name.eq_ignore_ascii_case("program");
        let listed = self.config.get("preset_modes").and_then(Json::as_array);
        let names: Vec<String> = listed.into_iter().flatten().filter_map(|m| m.as_str().map(str::to_owned)).collect();
        let Some(own) = names.iter().find(|n| is_schedule(n)).cloned() else { return };
        let mut words: Vec<(String, Option<Value>)> =
            names.into_iter().map(|n| (n.clone(), Some(Value::Bool(n != own)))).collect();
        words.push(("none".to_owned(), Some(Value::Bool(true))));
        let templates = ["preset_mode_value_template"];
        let source = self.source("preset_mode_state_topic", &templates, Property::SetpointHold, Read::Words(words));
        let write = Write::Words(vec![(Value::Bool(false), own)]);
        let templates = ["preset_mode_command_template"];
        let sink = self.sink("preset_mode_command_topic", &templates, Property::SetpointHold, write);
        self.add(Property::SetpointHold, Class::None, source, sink);
    }

    fn scene(&mut self) {
        let write = Write::Words(vec![(Value::Bool(true), self.word("payload_on", "ON"))]);
        let sink = self.sink("command_topic", &[], Property::Scene, write);
        self.add(Property::Scene, Class::None, None, sink);
    }

    fn sensor(&mut self, home_unit: TemperatureScale, object: &str) -> Result<(), DropReason> {
        let class = self.config.get("device_class").and_then(Json::as_str).unwrap_or_default();
        let unit = self.config.get("unit_of_measurement").and_then(Json::as_str).unwrap_or_default();
        let outdoors = |text: &str| text.to_lowercase().contains("outdoor") || text.to_lowercase().contains("outside");
        let (property, read) = match class {
            "temperature" => {
                let scale = match unit {
                    "°F" | "F" => TemperatureScale::Fahrenheit,
                    "K" => TemperatureScale::Kelvin,
                    "°C" | "C" => TemperatureScale::Celsius,
                    _ => home_unit,
                };
                let outdoor = outdoors(object) || text(self.config, "name").is_some_and(|n| outdoors(&n));
                let property = if outdoor { Property::OutdoorTemperature } else { Property::LocalTemperature };
                (property, Read::Temperature(scale))
            }
            "humidity" => (Property::RelativeHumidity, Read::Percent),
            "carbon_dioxide" => (Property::Co2Concentration, Read::Ppm(1.0)),
            "volatile_organic_compounds_parts" => {
                (Property::VocConcentration, Read::Ppm(if unit == "ppb" { 0.001 } else { 1.0 }))
            }
            "battery" => (Property::BatteryPercent, Read::Percent),
            "power" => (Property::ActivePower, Read::Watts(if unit == "kW" { 1000.0 } else { 1.0 })),
            "energy" => {
                let factor = match unit {
                    "Wh" => 0.001,
                    "MWh" => 1000.0,
                    _ => 1.0,
                };
                (Property::CumulativeEnergy, Read::KilowattHours(factor))
            }
            _ => return Err(DropReason::ConfigUnsupported),
        };
        let source = self.source("state_topic", &["value_template"], property, read);
        self.add(property, Class::None, source, None);
        Ok(())
    }

    fn binary_sensor(&mut self) -> Result<(), DropReason> {
        let class = self.config.get("device_class").and_then(Json::as_str).unwrap_or_default();
        let (property, class) = match class {
            "door" => (Property::ContactOpen, Class::Door),
            "garage_door" => (Property::ContactOpen, Class::Garage),
            "window" => (Property::ContactOpen, Class::Window),
            "opening" => (Property::ContactOpen, Class::Opening),
            "motion" | "moving" => (Property::Motion, Class::None),
            "occupancy" | "presence" => (Property::Occupancy, Class::None),
            "smoke" => (Property::SmokeState, Class::None),
            "carbon_monoxide" => (Property::CoState, Class::None),
            "moisture" => (Property::LeakState, Class::None),
            _ => return Err(DropReason::ConfigUnsupported),
        };
        let read = self.on_off("payload_on", "payload_off");
        let source = self.source("state_topic", &["value_template"], property, read);
        self.add(property, class, source, None);
        Ok(())
    }

    fn on_off(&self, on: &str, off: &str) -> Read {
        Read::Words(vec![
            (self.word(on, "ON"), Some(Value::Bool(true))),
            (self.word(off, "OFF"), Some(Value::Bool(false))),
        ])
    }

    fn cover(&mut self) {
        let class = match self.config.get("device_class").and_then(Json::as_str) {
            Some("garage") => Class::Garage,
            Some("gate") => Class::Gate,
            Some("door") => Class::Door,
            Some("window") => Class::Window,
            _ => Class::Blind,
        };
        let door = |s: DoorState| Some(Value::DoorState(s));
        let words = vec![
            (self.word("state_open", "open"), door(DoorState::Open)),
            (self.word("state_closed", "closed"), door(DoorState::Closed)),
            (self.word("state_opening", "opening"), door(DoorState::Opening)),
            (self.word("state_closing", "closing"), door(DoorState::Closing)),
            (self.word("state_stopped", "stopped"), None),
        ];
        let closed_at = number(self.config, "position_closed").unwrap_or(0.0);
        let open_at = number(self.config, "position_open").unwrap_or(100.0);
        let source =
            self.source("state_topic", &["value_template"], Property::DoorState, Read::Words(words)).or_else(|| {
                let templates = ["position_template"];
                self.source("position_topic", &templates, Property::DoorState, Read::ClosedAt(closed_at))
            });
        let write = Write::Words(vec![
            (Value::DoorState(DoorState::Open), self.word("payload_open", "OPEN")),
            (Value::DoorState(DoorState::Closed), self.word("payload_close", "CLOSE")),
        ]);
        let sink = self.sink("command_topic", &[], Property::DoorState, write);
        self.add(Property::DoorState, class, source, sink);
        let (from, to) = (closed_at, open_at);
        let source =
            self.source("position_topic", &["position_template"], Property::CoverPosition, Read::Range { from, to });
        let sink = self.sink(
            "set_position_topic",
            &["set_position_template"],
            Property::CoverPosition,
            Write::Range { from, to },
        );
        self.add(Property::CoverPosition, class, source, sink);

        let (min, max) =
            (number(self.config, "tilt_min").unwrap_or(0.0), number(self.config, "tilt_max").unwrap_or(100.0));
        let closed = number(self.config, "tilt_closed_value").unwrap_or(min);
        let opened = number(self.config, "tilt_opened_value").unwrap_or(max);
        let (from, to) = if closed > opened { (max, min) } else { (min, max) };
        let source =
            self.source("tilt_status_topic", &["tilt_status_template"], Property::CoverTilt, Read::Range { from, to });
        let sink =
            self.sink("tilt_command_topic", &["tilt_command_template"], Property::CoverTilt, Write::Range { from, to });
        self.add(Property::CoverTilt, class, source, sink);
    }

    fn lock(&mut self) {
        let lock = |s: LockState| Some(Value::LockState(s));
        let words = vec![
            (self.word("state_locked", "LOCKED"), lock(LockState::Locked)),
            (self.word("state_unlocked", "UNLOCKED"), lock(LockState::Unlocked)),
            (self.word("state_jammed", "JAMMED"), lock(LockState::Jammed)),
            (self.word("state_locking", "LOCKING"), None),
            (self.word("state_unlocking", "UNLOCKING"), None),
        ];
        let source = self.source("state_topic", &["value_template"], Property::LockState, Read::Words(words));
        let write = Write::Words(vec![
            (Value::LockState(LockState::Locked), self.word("payload_lock", "LOCK")),
            (Value::LockState(LockState::Unlocked), self.word("payload_unlock", "UNLOCK")),
        ]);
        let sink = self.sink("command_topic", &["command_template"], Property::LockState, write);
        self.add(Property::LockState, Class::Door, source, sink);
    }

    fn switch(&mut self, class: Class) {
        let (on, off) = (self.word("payload_on", "ON"), self.word("payload_off", "OFF"));
        let read = Read::Words(vec![
            (self.word("state_on", &on), Some(Value::Bool(true))),
            (self.word("state_off", &off), Some(Value::Bool(false))),
        ]);
        let templates = ["state_value_template", "value_template"];
        let source = self.source("state_topic", &templates, Property::OnOff, read);
        let write = Write::Words(vec![(Value::Bool(true), on), (Value::Bool(false), off)]);
        let sink = self.sink("command_topic", &["command_template"], Property::OnOff, write);
        self.add(Property::OnOff, class, source, sink);
    }

    fn light(&mut self) {
        let mireds = !self.config.get("color_temp_kelvin").and_then(Json::as_bool).unwrap_or(false);
        let kelvin = |key: &str| number(self.config, key).filter(|k| (1_000.0..=40_000.0).contains(k));
        let from_mireds = |key: &str| number(self.config, key).filter(|m| *m >= 25.0).map(|m| 1e6 / m);
        let whole = |k: f64| k.clamp(1_000.0, 40_000.0).round() as u16;
        // Mireds run the other way: the most of them is the warmest white.
        let (min, max) = (
            kelvin("min_kelvin").or_else(|| from_mireds("max_mireds")).map(whole),
            kelvin("max_kelvin").or_else(|| from_mireds("min_mireds")).map(whole),
        );
        self.entity.features.min_color_kelvin = min;
        self.entity.features.max_color_kelvin = max;
        let scale = number(self.config, "brightness_scale").filter(|s| *s > 0.0).unwrap_or(255.0);
        let range = || Read::Range { from: 0.0, to: scale };
        if self.config.get("schema").and_then(Json::as_str) != Some("json") {
            self.switch(Class::Light);
            let templates = ["brightness_value_template"];
            let source = self.source("brightness_state_topic", &templates, Property::CurrentLevel, range());
            let sink = self.sink(
                "brightness_command_topic",
                &["brightness_command_template"],
                Property::CurrentLevel,
                Write::Range { from: 0.0, to: scale },
            );
            self.add(Property::CurrentLevel, Class::Light, source, sink);
            let templates = ["color_temp_value_template"];
            let white = Property::ColorTemperature;
            let source = self.source("color_temp_state_topic", &templates, white, Read::ColorTemperature { mireds });
            let templates = ["color_temp_command_template"];
            let sink = self.sink("color_temp_command_topic", &templates, white, Write::ColorTemperature { mireds });
            self.add(white, Class::Light, source, sink);
            for (name, form) in [("hs", ColorForm::Hs), ("rgb", ColorForm::Rgb), ("xy", ColorForm::Xy)] {
                // A template for colours gets each number under a name of its own: that is not understood here.
                let plain = self.template(&[&format!("{name}_command_template")]).is_none();
                let (state, command) = (format!("{name}_state_topic"), format!("{name}_command_topic"));
                let read = Read::Color(form);
                let source = self.source(&state, &[&format!("{name}_value_template")], Property::Color, read);
                let sink = self.sink(&command, &[], Property::Color, Write::Color(form)).filter(|_| plain);
                if sink.is_some() {
                    self.add(Property::Color, Class::Light, source, sink);
                    break;
                }
            }
            return;
        }
        let at = |s: Option<Source>, template: &str| s.map(|s| Source { template: Some(template.to_owned()), ..s });
        let read = Read::Words(vec![("ON".into(), Some(Value::Bool(true))), ("OFF".into(), Some(Value::Bool(false)))]);
        let source = at(self.source("state_topic", &[], Property::OnOff, read), "{{ value_json.state }}");
        let modes = self.config.get("supported_color_modes").and_then(Json::as_array);
        let has = |mode: &str| modes.is_some_and(|m| m.iter().any(|m| m == mode));
        let (hs, rgb) = (has("hs"), has("rgb"));
        let color = match (hs, rgb) {
            (true, _) => ColorForm::Hs,
            (false, true) => ColorForm::Rgb,
            _ => ColorForm::Xy,
        };
        let (colors, whites) = (hs || rgb || has("xy"), has("color_temp"));
        let write = || Write::LightJson { scale, color, mireds };
        let sink = self.sink("command_topic", &[], Property::OnOff, write());
        self.add(Property::OnOff, Class::Light, source, sink);
        let dims = self.config.get("brightness").and_then(Json::as_bool).unwrap_or(false)
            || modes.is_some_and(|m| m.iter().any(|m| m != "onoff"));
        if dims {
            let source =
                at(self.source("state_topic", &[], Property::CurrentLevel, range()), "{{ value_json.brightness }}");
            let sink = self.sink("command_topic", &[], Property::CurrentLevel, write());
            self.add(Property::CurrentLevel, Class::Light, source, sink);
        }
        // Such a lamp says which of them it shows.
        if whites {
            let read = Read::ColorTemperature { mireds };
            let template = "{% if value_json.color_mode == 'color_temp' %}{{ value_json.color_temp }}{% endif %}";
            let source = at(self.source("state_topic", &[], Property::ColorTemperature, read), template);
            let sink = self.sink("command_topic", &[], Property::ColorTemperature, write());
            self.add(Property::ColorTemperature, Class::Light, source, sink);
        }
        if colors {
            let template = match color {
                ColorForm::Hs => {
                    "{% if value_json.color_mode == 'hs' %}{{ value_json.color.h }},{{ value_json.color.s }}{% endif %}"
                }
                ColorForm::Rgb => {
                    "{% if value_json.color_mode == 'rgb' %}{{ value_json.color.r }},{{ value_json.color.g }},{{ \
                     value_json.color.b }}{% endif %}"
                }
                ColorForm::Xy => {
                    "{% if value_json.color_mode == 'xy' %}{{ value_json.color.x }},{{ value_json.color.y }}{% endif %}"
                }
            };
            let source = at(self.source("state_topic", &[], Property::Color, Read::Color(color)), template);
            let sink = self.sink("command_topic", &[], Property::Color, write());
            self.add(Property::Color, Class::Light, source, sink);
        }
    }

    fn fan(&mut self) {
        self.switch(Class::Fan);
        let min = number(self.config, "speed_range_min").unwrap_or(1.0);
        let max = number(self.config, "speed_range_max").filter(|m| *m >= min).unwrap_or(100.0);
        // Home Assistant's range leaves 0 for off.
        let (from, to) = (min - 1.0, max);
        let templates = ["percentage_value_template"];
        let source = self.source("percentage_state_topic", &templates, Property::FanPercent, Read::Range { from, to });
        let sink = self.sink(
            "percentage_command_topic",
            &["percentage_command_template"],
            Property::FanPercent,
            Write::Range { from, to },
        );
        self.add(Property::FanPercent, Class::Fan, source, sink);

        let (on, off) = (
            self.word("payload_oscillation_on", "oscillate_on"),
            self.word("payload_oscillation_off", "oscillate_off"),
        );
        let words = [(on, Value::Bool(true)), (off, Value::Bool(false))];
        self.words("oscillation", Property::FanOscillation, &words);
        let words = [FanDirection::Forward, FanDirection::Reverse];
        let words = words.map(|way| (way.as_str().to_owned(), Value::FanDirection(way)));
        self.words("direction", Property::FanDirection, &words);
    }

    /// A property that is read and commanded with the same words, on topics that begin with a name.
    fn words(&mut self, name: &str, property: Property, words: &[(String, Value)]) {
        let read = Read::Words(words.iter().map(|(t, v)| (t.clone(), Some(v.clone()))).collect());
        let write = Write::Words(words.iter().map(|(t, v)| (v.clone(), t.clone())).collect());
        let source = self.source(&format!("{name}_state_topic"), &[&format!("{name}_value_template")], property, read);
        let sink = self.sink(&format!("{name}_command_topic"), &[&format!("{name}_command_template")], property, write);
        self.add(property, Class::Fan, source, sink);
    }
}

/// The modes that a device lists, in the hub's words. Without automatic change-over, `auto` stands for it.
fn modes(listed: &[String]) -> Vec<(String, SystemMode)> {
    let changes_over = listed.iter().any(|m| m == "heat_cool");
    let mode = |text: &str| match text {
        "off" => Some(SystemMode::Off),
        "heat" => Some(SystemMode::Heat),
        "cool" => Some(SystemMode::Cool),
        "heat_cool" => Some(SystemMode::Auto),
        "auto" if !changes_over => Some(SystemMode::Auto),
        "dry" => Some(SystemMode::Dry),
        "fan_only" => Some(SystemMode::FanOnly),
        _ => None,
    };
    listed.iter().filter_map(|t| mode(t).map(|m| (t.clone(), m))).collect()
}

/// Understands a text that was read.
///
/// # Errors
/// Why it is dropped.
pub fn read(how: &Read, text: &str) -> Result<Option<Value>, DropReason> {
    let number = || -> Result<f64, DropReason> {
        text.trim().parse::<f64>().ok().filter(|n| n.is_finite()).ok_or(DropReason::NotANumber)
    };
    let value = match how {
        Read::Temperature(scale) => Value::temperature(number()?, *scale),
        Read::Percent => Value::percent(number()?),
        Read::Ppm(factor) => Value::ppm(number()? * factor),
        Read::Watts(factor) => Value::power_watts(number()? * factor),
        Read::KilowattHours(factor) => Value::energy_kwh(number()? * factor),
        Read::Range { from, to } => {
            let span = to - from;
            if span == 0.0 {
                return Err(DropReason::OutOfRange);
            }
            Value::percent(((number()? - from) / span * 10_000.0).round() / 100.0)
        }
        Read::ColorTemperature { mireds: true } => {
            let mireds = number()?;
            if mireds < 1.0 {
                return Err(DropReason::OutOfRange);
            }
            Value::color_temperature(1e6 / mireds)
        }
        Read::ColorTemperature { mireds: false } => Value::color_temperature(number()?),
        Read::Color(form) => {
            let numbers: Option<Vec<f64>> = text.split(',').map(|n| n.trim().parse().ok()).collect();
            let numbers = numbers.filter(|n| n.iter().all(|n| n.is_finite())).ok_or(DropReason::NotANumber)?;
            match (form, numbers.as_slice()) {
                (ColorForm::Hs, [hue, saturation]) => Value::color(*hue, *saturation),
                (ColorForm::Rgb, [r, g, b]) => {
                    if [r, g, b].into_iter().any(|c| !(0.0..=255.0).contains(c)) {
                        return Err(DropReason::OutOfRange);
                    }
                    let (hue, saturation) = color::hs_of_rgb([*r / 255.0, *g / 255.0, *b / 255.0]);
                    Value::color(hue, saturation)
                }
                (ColorForm::Xy, [x, y]) => {
                    let Some(rgb) = color::rgb_of_xy(*x, *y) else { return Err(DropReason::OutOfRange) };
                    let (hue, saturation) = color::hs_of_rgb(rgb);
                    Value::color(hue, saturation)
                }
                _ => return Err(DropReason::NotANumber),
            }
        }
        Read::ClosedAt(closed) => {
            let state = if number()? == *closed { DoorState::Closed } else { DoorState::Open };
            Ok(Value::DoorState(state))
        }
        Read::Words(words) => {
            let found = words.iter().find(|(w, _)| w == text);
            let found = found.or_else(|| words.iter().find(|(w, _)| w.eq_ignore_ascii_case(text)));
            return found.map(|(_, v)| v.clone()).ok_or(DropReason::UnknownState);
        }
    };
    value.map(Some).map_err(|_| DropReason::OutOfRange)
}

/// The value to put into a command, as a number or a word; none when the device has no word for it.
pub fn write(how: &Write, property: Property, value: &Value) -> Option<Json> {
    let number = |n: f64| {
        let n = (n * 10.0).round() / 10.0;
        // Whole numbers without a fraction: "21", as people and devices write it.
        if n.fract() == 0.0 && n.abs() < 1e15 { Json::from(n as i64) } else { Json::from(n) }
    };
    let percent = |v: &Value| match v {
        Value::Percent(hundredths) => Some(f64::from(*hundredths) / 10_000.0),
        _ => None,
    };
    match how {
        Write::Temperature(scale) => value.as_temperature(*scale).map(number),
        Write::Range { from, to } => {
            percent(value).map(|share| Json::from((from + share * (to - from)).round() as i64))
        }
        Write::Words(words) => words.iter().find(|(v, _)| v == value).map(|(_, w)| Json::from(w.clone())),
        Write::ColorTemperature { mireds } => Some(white(value, *mireds)?.into()),
        Write::Color(form) => {
            let texts: Vec<String> = colored(value, *form)?.iter().map(|(_, n)| n.to_string()).collect();
            Some(texts.join(",").into())
        }
        Write::LightJson { scale, color, mireds } => {
            let mut map = Map::new();
            match (property, value) {
                (Property::OnOff, Value::Bool(on)) => {
                    map.insert("state".into(), if *on { "ON" } else { "OFF" }.into());
                }
                (Property::CurrentLevel, v) => {
                    let level = (percent(v)? * scale).round() as i64;
                    map.insert("state".into(), if level > 0 { "ON" } else { "OFF" }.into());
                    if level > 0 {
                        map.insert("brightness".into(), level.into());
                    }
                }
                (Property::ColorTemperature, v) => {
                    map.insert("state".into(), "ON".into());
                    map.insert("color_temp".into(), white(v, *mireds)?.into());
                }
                (Property::Color, v) => {
                    let parts = colored(v, *color)?;
                    map.insert("state".into(), "ON".into());
                    map.insert("color".into(), parts.into_iter().map(|(k, n)| (k.to_owned(), n)).collect());
                }
                _ => return None,
            }
            Some(Json::Object(map))
        }
    }
}

/// A white, as the lamp counts.
fn white(value: &Value, mireds: bool) -> Option<u32> {
    let Value::ColorTemperature(kelvin) = value else { return None };
    let kelvin = u32::from((*kelvin).max(1));
    Some(if mireds { (1_000_000 + kelvin / 2) / kelvin } else { kelvin })
}

/// The numbers of a colour, by name.
fn colored(value: &Value, form: ColorForm) -> Option<Vec<(&'static str, Json)>> {
    let Value::Color(c) = value else { return None };
    let (hue, saturation) = (f64::from(c.hue) / 100.0, f64::from(c.saturation) / 100.0);
    Some(match form {
        ColorForm::Hs => vec![("h", hue.into()), ("s", saturation.into())],
        ColorForm::Rgb => {
            let [r, g, b] = color::rgb_of_hs(hue, saturation).map(|c| Json::from((c * 255.0).round() as u8));
            vec![("r", r), ("g", g), ("b", b)]
        }
        ColorForm::Xy => {
            let (x, y) = color::xy_of_rgb(color::rgb_of_hs(hue, saturation));
            let digits = |n: f64| Json::from((n * 10_000.0).round() / 10_000.0);
            vec![("x", digits(x)), ("y", digits(y))]
        }
    })
}
