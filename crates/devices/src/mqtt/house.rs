//! All devices of one broker: what they announced, which topics to hear, what a message means. Pure: bytes and a time go
//! in, events come out.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use home::{Description, Desired, Reading};
use model::{DeviceId, Kind, Property, SystemMode, TemperatureScale, Timestamp, Value};

use crate::counters::{Counters, DropReason};
use crate::mqtt::announce::{self, Topic};
use crate::mqtt::entity::{self, AvailabilityMode, Entity, Sink, Write};
use crate::template::{Engine, Payload, Rendered};

/// Most components that are kept. When there are so many, only devices that the home knew at the start get further places.
pub const ENTITIES_MAX: usize = 5000;

/// Most topics that are heard.
pub const TOPICS_MAX: usize = 10_000;

/// How many times as many components and topics there may be for devices that the home knew at the start.
const KNOWN_TIMES: usize = 4;

/// Most kinds that are pinned: a device that takes itself out and comes back under ever new names finds no end of names,
/// but an end of places. Those of the devices that the home has taken in come from there at each start.
pub const PINS_MAX: usize = 4 * home::DEVICES_MAX * home::PROPERTIES_PER_DEVICE_MAX;

/// How often a device may change its kind, each time as a new device; then it is dropped.
const KIND_CHANGES_MAX: u32 = 8;

/// Longest payload that is read, bytes.
pub const PAYLOAD_MAX_BYTES: usize = 1 << 20;

/// Words with which devices say that they have nothing to say.
const NOTHING: [&str; 5] = ["", "None", "null", "unknown", "unavailable"];

/// What came of a message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    /// A device describes itself, for the first time or anew.
    Described {
        /// The device.
        device: DeviceId,
        /// What it says.
        description: Description,
    },
    /// A device has withdrawn itself.
    Withdrawn {
        /// The device.
        device: DeviceId,
    },
    /// A value.
    Reading(Reading),
}

/// A message to publish.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Publication {
    /// Topic.
    pub topic: String,
    /// Payload.
    pub payload: String,
    /// Retained.
    pub retain: bool,
}

struct Kept {
    entity: Entity,
    device: DeviceId,
    /// The last word of each availability topic, in their order; and of the latest one that spoke.
    available: Vec<Option<bool>>,
    latest: Option<bool>,
    /// Of a climate device with a single set point beside two: what it said last.
    climate: Climate,
}

/// What such a climate device said of itself.
#[derive(Clone, Debug, Default)]
struct Climate {
    mode: Option<SystemMode>,
    /// The mode that was ordered since it last said one.
    wanted: Option<SystemMode>,
    single: Option<Value>,
    low: Option<Value>,
    high: Option<Value>,
}

impl Kept {
    /// Whether it answers; none while too few of its topics have spoken.
    fn answers(&self) -> Option<bool> {
        let all = &self.available;
        let (yes, no) = (all.contains(&Some(true)), all.contains(&Some(false)));
        let spoken = !all.contains(&None);
        match self.entity.availability_mode {
            AvailabilityMode::All => {
                if no {
                    Some(false)
                } else {
                    spoken.then_some(true)
                }
            }
            AvailabilityMode::Any => {
                if yes {
                    Some(true)
                } else {
                    (spoken && no).then_some(false)
                }
            }
            AvailabilityMode::Latest => {
                if all.is_empty() {
                    Some(true)
                } else {
                    self.latest
                }
            }
        }
    }

    /// Where a set point goes in the mode in force.
    fn sink(&self, property: Property, both: bool) -> Option<&Sink> {
        let own = || self.entity.sinks.iter().find(|s| s.property == property);
        let single = self.entity.single.as_ref().and_then(|s| s.sink.as_ref());
        let is_set_point = matches!(property, Property::OccupiedHeatingSetpoint | Property::OccupiedCoolingSetpoint);
        match single {
            Some(single) if is_set_point && !both && self.climate.commanded_mode() != Some(SystemMode::Auto) => {
                // Only where its own would be taken too: that it can be commanded was said of that.
                own().map(|_| single)
            }
            _ => own(),
        }
    }
}

/// Key of a component: its discovery topic, and its name within a device's description.
type Key = (String, String);

/// Everything that was announced.
pub struct House {
    prefix: String,
    unit: TemperatureScale,
    engine: Engine,
    entities: BTreeMap<Key, Kept>,
    /// The components of each device.
    parts: BTreeMap<DeviceId, BTreeSet<Key>>,
    /// Topics and the components that hear them.
    topics: BTreeMap<String, BTreeSet<Key>>,
    /// Kinds that were pinned when a property was first seen.
    pins: BTreeMap<(DeviceId, Property), Kind>,
    /// The devices that the home knew at the start.
    known: BTreeSet<DeviceId>,
    described: BTreeMap<DeviceId, Description>,
    reachable: BTreeMap<DeviceId, bool>,
    counters: Arc<Counters>,
    wanted: Vec<String>,
}

impl Climate {
    /// Takes a value in; true when it is a set point, which counts by the mode and is told by [`Climate::in_force`].
    /// What was heard is not in `before` any more.
    fn hear(&mut self, before: &mut Self, property: Property, single: bool, value: &Value) -> bool {
        if let (Property::SystemMode, Value::SystemMode(mode)) = (property, value) {
            (self.mode, self.wanted) = (Some(*mode), None);
        }
        let (new, old) = match (property, single) {
            (Property::OccupiedHeatingSetpoint, true) => (&mut self.single, &mut before.single),
            (Property::OccupiedHeatingSetpoint, false) => (&mut self.low, &mut before.low),
            (Property::OccupiedCoolingSetpoint, _) => (&mut self.high, &mut before.high),
            _ => return false,
        };
        (*new, *old) = (Some(value.clone()), None);
        true
    }

    /// The mode by which set points are commanded: the one that was ordered last, until the device says which it is in.
    fn commanded_mode(&self) -> Option<SystemMode> {
        self.wanted.or(self.mode)
    }

    /// The set points that count in the mode in force, where they or the mode are new. While it is off nothing counts: what
    /// was in force last stays.
    fn in_force(&self, before: &Self, says_mode: bool) -> Vec<(Property, Value)> {
        let mode = if says_mode { self.mode } else { Some(self.wanted.unwrap_or(SystemMode::Heat)) };
        let (heating, cooling) = (Property::OccupiedHeatingSetpoint, Property::OccupiedCoolingSetpoint);
        let points = match mode {
            Some(SystemMode::Auto) => vec![(heating, &self.low, &before.low), (cooling, &self.high, &before.high)],
            Some(SystemMode::Heat) => vec![(heating, &self.single, &before.single)],
            Some(SystemMode::Cool | SystemMode::Dry) => vec![(cooling, &self.single, &before.single)],
            _ => Vec::new(),
        };
        let new = points.into_iter().filter(|(_, now, then)| self.mode != before.mode || now != then);
        new.filter_map(|(property, now, _)| Some((property, now.clone()?))).collect()
    }
}

impl House {
    /// Nothing announced yet. `pins` are the kinds of the properties that the home knows already.
    pub fn new(
        prefix: &str,
        unit: TemperatureScale,
        pins: BTreeMap<(DeviceId, Property), Kind>,
        counters: Arc<Counters>,
    ) -> Self {
        Self {
            prefix: prefix.trim_end_matches('/').to_owned(),
            unit,
            engine: Engine::default(),
            entities: BTreeMap::new(),
            parts: BTreeMap::new(),
            topics: BTreeMap::new(),
            known: pins.keys().map(|(device, _)| device.clone()).collect(),
            pins,
            described: BTreeMap::new(),
            reachable: BTreeMap::new(),
            counters,
            wanted: Vec::new(),
        }
    }

    /// What announces devices: the filters to subscribe to first.
    pub fn discovery_filters(&self) -> Vec<String> {
        vec![format!("{}/+/+/config", self.prefix), format!("{}/+/+/+/config", self.prefix)]
    }

    /// Every topic that is heard now.
    pub fn topics(&self) -> Vec<String> {
        self.topics.keys().cloned().collect()
    }

    /// Topics that are new since this was called last.
    pub fn take_new_topics(&mut self) -> Vec<String> {
        std::mem::take(&mut self.wanted)
    }

    /// Takes a message in.
    pub fn hear(&mut self, topic: &str, payload: &[u8], now: Timestamp) -> Vec<Event> {
        self.counters.message();
        if payload.len() > PAYLOAD_MAX_BYTES {
            self.counters.count(DropReason::TooLarge, None);
            return Vec::new();
        }
        let Ok(text) = std::str::from_utf8(payload) else {
            self.counters.count(DropReason::NotUtf8, None);
            return Vec::new();
        };
        if let Some(announced) = announce::topic(&self.prefix, topic) {
            return self.announced(topic, &announced, text, now);
        }
        let Some(keys) = self.topics.get(topic).cloned() else {
            self.counters.count(DropReason::NoSuchTopic, None);
            return Vec::new();
        };
        let payload = Payload::new(text);
        let mut events = Vec::new();
        for key in keys {
            self.read(&key, topic, &payload, now, &mut events);
        }
        events
    }

    fn announced(&mut self, topic: &str, announced: &Topic, payload: &str, now: Timestamp) -> Vec<Event> {
        let old: Vec<Key> = self
            .entities
            .range((topic.to_owned(), String::new())..)
            .map(|(k, _)| k.clone())
            .take_while(|k| k.0 == topic)
            .collect();
        let mut touched: BTreeSet<DeviceId> =
            old.iter().filter_map(|k| self.entities.get(k)).map(|k| k.device.clone()).collect();
        let components = if payload.trim().is_empty() {
            Vec::new()
        } else {
            match announce::components(announced, payload) {
                Ok(components) => components,
                Err(reason) => {
                    // What was understood before stays: a broken message removes nothing.
                    self.counters.count(reason, None);
                    return Vec::new();
                }
            }
        };
        let mut before: BTreeMap<String, Kept> = BTreeMap::new();
        for key in &old {
            if let Some(kept) = self.entities.remove(key) {
                self.unhear(key, &kept);
                before.insert(key.1.clone(), kept);
            }
        }
        for component in components {
            let understood = entity::understand(&component, self.unit).and_then(|e| self.check_templates(e));
            match understood {
                Ok(entity) => {
                    let before = before.remove(&entity.object);
                    touched.extend(self.keep((topic.to_owned(), component.object.clone()), entity, before));
                }
                Err(reason) => self.counters.count(reason, None),
            }
        }
        let mut events = Vec::new();
        for device in touched {
            events.extend(self.describe(device.clone()));
            if self.described.contains_key(&device) {
                events.extend(self.reachability(&device, now));
            }
        }
        events
    }

    fn check_templates(&mut self, entity: Entity) -> Result<Entity, DropReason> {
        let sources = entity.all_sources().filter_map(|s| s.template.as_ref());
        let single = entity.single.as_ref().and_then(|s| s.sink.as_ref());
        let sinks = entity.sinks.iter().chain(single).filter_map(|s| s.template.as_ref());
        for template in sources.chain(sinks).chain(entity.availability.iter().filter_map(|a| a.template.as_ref())) {
            self.engine.check(template)?;
        }
        Ok(entity)
    }

    /// Keeps a component; gives the device that it belongs to.
    fn keep(&mut self, key: Key, entity: Entity, before: Option<Kept>) -> Option<DeviceId> {
        let Some(device) = self.device_of(&entity) else {
            self.counters.count(DropReason::TooManyDevices, None);
            return None;
        };
        // After a restart everything is announced anew, in any order: whoever floods the hub must not take the places of the
        // devices that the home has.
        let times = if self.known.contains(&device) { KNOWN_TIMES } else { 1 };
        if self.entities.len() >= ENTITIES_MAX * times {
            self.counters.count(DropReason::TooManyEntities, None);
            return None;
        }
        let unknown = |p: &Property| !self.pins.contains_key(&(device.clone(), *p));
        if self.pins.len() + entity.properties.iter().filter(|(p, _)| unknown(p)).count() > PINS_MAX {
            self.counters.count(DropReason::TooManyDevices, Some(&device));
            return None;
        }
        let new: BTreeSet<String> = entity.heard().filter(|t| !self.topics.contains_key(*t)).cloned().collect();
        if self.topics.len() + new.len() > TOPICS_MAX * times {
            self.counters.count(DropReason::TooManyTopics, Some(&device));
            return None;
        }
        self.wanted.extend(new);
        for topic in entity.heard() {
            self.topics.entry(topic.clone()).or_default().insert(key.clone());
        }
        for (property, d) in &entity.properties {
            self.pins.entry((device.clone(), *property)).or_insert_with(|| Kind::of(*property, d.class));
        }
        let silent = vec![None; entity.availability.len()];
        let (available, latest, climate) = match before {
            Some(kept) if kept.entity.availability == entity.availability => {
                (kept.available, kept.latest, kept.climate)
            }
            Some(kept) => (silent, None, kept.climate),
            None => (silent, None, Climate::default()),
        };
        self.parts.entry(device.clone()).or_default().insert(key.clone());
        self.entities.insert(key, Kept { entity, device: device.clone(), available, latest, climate });
        Some(device)
    }

    fn unhear(&mut self, key: &Key, kept: &Kept) {
        for topic in kept.entity.heard() {
            if let Some(keys) = self.topics.get_mut(topic) {
                keys.remove(key);
                if keys.is_empty() {
                    self.topics.remove(topic);
                }
            }
        }
        if let Some(keys) = self.parts.get_mut(&kept.device) {
            keys.remove(key);
            if keys.is_empty() {
                self.parts.remove(&kept.device);
            }
        }
    }

    /// The components of a device.
    fn parts(&self, device: &DeviceId) -> impl Iterator<Item = &Kept> {
        self.parts.get(device).into_iter().flatten().filter_map(|key| self.entities.get(key))
    }

    /// The id of the device that a component belongs to. A component that claims a property which another component of the
    /// device has is a device of its own; and so is one whose property has changed its kind since it was first seen.
    fn device_of(&self, entity: &Entity) -> Option<DeviceId> {
        let base = slug(&entity.identifier);
        let own = format!("{base}.{}", slug(&entity.object));
        let fits_pins = |id: &DeviceId| {
            entity
                .properties
                .iter()
                .all(|(p, d)| self.pins.get(&(id.clone(), *p)).is_none_or(|pinned| *pinned == Kind::of(*p, d.class)))
        };
        let is_free = |id: &DeviceId| {
            !self
                .parts(id)
                .flat_map(|k| &k.entity.properties)
                .any(|(p, _)| entity.properties.iter().any(|(q, _)| p == q))
        };
        for name in [base, own] {
            for change in 0..KIND_CHANGES_MAX {
                let id = if change == 0 { name.clone() } else { format!("{name}.k{}", change + 1) };
                let Ok(id) = DeviceId::new(id) else { continue };
                if !fits_pins(&id) {
                    continue;
                }
                if is_free(&id) {
                    return Some(id);
                }
                break;
            }
        }
        None
    }

    fn describe(&mut self, device: DeviceId) -> Option<Event> {
        let mut description: Option<Description> = None;
        for kept in self.parts(&device) {
            let e = &kept.entity;
            let d = description.get_or_insert_with(Description::default);
            if d.name.is_empty() {
                d.name.clone_from(&e.name);
            }
            for (mine, theirs) in [
                (&mut d.vendor, &e.vendor),
                (&mut d.product, &e.product),
                (&mut d.serial, &e.serial),
                (&mut d.firmware, &e.firmware),
                (&mut d.room, &e.room),
            ] {
                if mine.is_none() {
                    mine.clone_from(theirs);
                }
            }
            d.properties.extend(e.properties.iter().copied());
            if e.features != disclosure::Features::default() {
                d.features = e.features.clone();
            }
        }
        let Some(description) = description else {
            self.reachable.remove(&device);
            return self.described.remove(&device).map(|_| Event::Withdrawn { device });
        };
        if self.described.get(&device) == Some(&description) {
            return None;
        }
        self.described.insert(device.clone(), description.clone());
        Some(Event::Described { device, description })
    }

    fn read(&mut self, key: &Key, topic: &str, payload: &Payload<'_>, now: Timestamp, events: &mut Vec<Event>) {
        let Some(kept) = self.entities.get(key) else { return };
        let device = kept.device.clone();
        let mut words = Vec::new();
        for (i, a) in kept.entity.availability.iter().enumerate().filter(|(_, a)| a.topic == topic) {
            match render(&mut self.engine, a.template.as_deref(), payload, now) {
                Ok(Some(text)) if text == a.available => words.push((i, true)),
                Ok(Some(text)) if text == a.unavailable => words.push((i, false)),
                Ok(Some(_)) => self.counters.count(DropReason::UnknownState, Some(&device)),
                Ok(None) => {}
                Err(reason) => self.counters.count(reason, Some(&device)),
            }
        }
        let mut climate = kept.entity.single.is_some().then(|| (kept.climate.clone(), kept.climate.clone()));
        let own = kept.entity.sources.len();
        for (i, source) in kept.entity.all_sources().enumerate().filter(|(_, s)| s.topic == topic) {
            let text = match render(&mut self.engine, source.template.as_deref(), payload, now) {
                Ok(Some(text)) => text,
                Ok(None) => continue,
                Err(reason) => {
                    self.counters.count(reason, Some(&device));
                    continue;
                }
            };
            match entity::read(&source.read, &text) {
                Ok(Some(value)) => {
                    self.counters.reading();
                    if climate.as_mut().is_some_and(|(c, before)| c.hear(before, source.property, i >= own, &value)) {
                        continue;
                    }
                    events.push(Event::Reading(Reading {
                        device: device.clone(),
                        property: source.property,
                        value,
                        time: now,
                    }));
                }
                Ok(None) => {}
                Err(reason) => self.counters.count(reason, Some(&device)),
            }
        }
        if let (Some((climate, before)), Some(kept)) = (climate, self.entities.get_mut(key)) {
            let says_mode = kept.entity.sources.iter().any(|s| s.property == Property::SystemMode);
            kept.climate = climate;
            for (property, value) in kept.climate.in_force(&before, says_mode) {
                events.push(Event::Reading(Reading { device: device.clone(), property, value, time: now }));
            }
        }
        if words.is_empty() {
            return;
        }
        if let Some(kept) = self.entities.get_mut(key) {
            for (i, word) in words {
                kept.latest = Some(word);
                if let Some(place) = kept.available.get_mut(i) {
                    *place = Some(word);
                }
            }
        }
        events.extend(self.reachability(&device, now));
    }

    /// A reading of the device's reachability, if it changed: all its components must be available, and one without an
    /// availability topic always is. None while it is not known.
    fn reachability(&mut self, device: &DeviceId, now: Timestamp) -> Option<Event> {
        let answers: Vec<Option<bool>> = self.parts(device).map(Kept::answers).collect();
        let all = if answers.contains(&Some(false)) {
            false
        } else if answers.contains(&None) {
            return None;
        } else {
            true
        };
        if self.reachable.insert(device.clone(), all) == Some(all) {
            return None;
        }
        let (device, property, value) = (device.clone(), Property::Reachable, Value::Bool(all));
        Some(Event::Reading(Reading { device, property, value, time: now }))
    }

    /// What to publish so that a device becomes what is desired, and what to take as reported where the device never
    /// reports (it has no state topic).
    ///
    /// # Errors
    /// When the device takes no such command.
    pub fn command(
        &mut self,
        device: &DeviceId,
        desired: &[Desired],
        now: Timestamp,
    ) -> Result<(Vec<Publication>, Vec<Reading>), DropReason> {
        let mut publications = Vec::new();
        let mut readings = Vec::new();
        self.foresee(device, desired);
        let asks = |p: Property| desired.iter().any(|d| d.property == p);
        let both = asks(Property::OccupiedHeatingSetpoint) && asks(Property::OccupiedCoolingSetpoint);
        for d in desired {
            let found = self.parts(device).find_map(|k| k.sink(d.property, both));
            let Some(sink) = found.cloned() else { return Err(DropReason::ConfigUnsupported) };
            let Some(json) = entity::write(&sink.write, d.property, &d.value) else {
                return Err(DropReason::UnknownState);
            };
            let is_read = self.parts(device).flat_map(|k| k.entity.all_sources()).any(|s| s.property == d.property);
            let payload = match (&sink.template, &sink.write) {
                (Some(template), w) if !matches!(w, Write::LightJson { .. }) => {
                    self.engine.write(template, minijinja_value(&json), now)?
                }
                _ => match json {
                    serde_json::Value::String(s) => s,
                    other => other.to_string(),
                },
            };
            publications.push(Publication { topic: sink.topic.clone(), payload, retain: sink.retain });
            if !is_read {
                let take = |property, value| Reading { device: device.clone(), property, value, time: now };
                // A light that takes brightness and power as one is off at no brightness, and on at any.
                if let (Write::LightJson { .. }, Property::CurrentLevel, Value::Percent(level)) =
                    (&sink.write, d.property, &d.value)
                    && !asks(Property::OnOff)
                {
                    readings.push(take(Property::OnOff, Value::Bool(*level > 0)));
                }
                readings.push(take(d.property, d.value.clone()));
            }
        }
        Ok((publications, readings))
    }

    /// A climate device that is told a mode is in it from now on, until it says another: that decides where set points go.
    fn foresee(&mut self, device: &DeviceId, desired: &[Desired]) {
        let mode = desired.iter().find_map(|d| match d.value {
            Value::SystemMode(mode) => Some(mode),
            _ => None,
        });
        let (Some(mode), Some(keys)) = (mode, self.parts.get(device)) else { return };
        for key in keys {
            if let Some(kept) = self.entities.get_mut(key) {
                kept.climate.wanted = Some(mode);
            }
        }
    }
}

/// A number or word as templates take it.
fn minijinja_value(json: &serde_json::Value) -> minijinja::Value {
    match json {
        serde_json::Value::String(s) => minijinja::Value::from(s.as_str()),
        serde_json::Value::Number(n) => match n.as_i64() {
            Some(i) => minijinja::Value::from(i),
            None => minijinja::Value::from(n.as_f64().unwrap_or_default()),
        },
        other => minijinja::Value::from(other.to_string()),
    }
}

/// The text that a template (or the payload itself) gives; none when the device says nothing.
fn render(
    engine: &mut Engine,
    template: Option<&str>,
    payload: &Payload<'_>,
    now: Timestamp,
) -> Result<Option<String>, DropReason> {
    let text = match template {
        None => payload.text.trim().to_owned(),
        Some(template) => match engine.read(template, payload, now)? {
            Rendered::Text(text) => text,
            Rendered::Absent => return Ok(None),
        },
    };
    Ok(Some(text).filter(|t| !NOTHING.contains(&t.as_str())))
}

/// Longest part of a device's identifier that is kept as it is, bytes.
const SLUG_MAX_BYTES: usize = 48;

/// An identifier in the characters of a [`DeviceId`]. What was changed or cut gets a hash behind it, so that two different
/// identifiers stay different.
fn slug(text: &str) -> String {
    let plain: String = text
        .chars()
        .map(|c| if c.is_ascii_alphanumeric() || c == '-' || c == '_' { c.to_ascii_lowercase() } else { '-' })
        .take(SLUG_MAX_BYTES)
        .collect();
    if plain == text {
        return plain;
    }
    use sha2::Digest as _;
    let hash = sha2::Sha256::digest(text.as_bytes());
    let tail: String = hash.iter().take(4).map(|b| format!("{b:02x}")).collect();
    format!("{plain}-{tail}")
}

#[cfg(test)]
mod tests {
    use model::{Class, DeviceType, DoorState};
    use proptest::prelude::*;

    use super::*;

    fn house() -> House {
        House::new("homeassistant", TemperatureScale::Celsius, BTreeMap::new(), Arc::default())
    }

    fn hear(house: &mut House, topic: &str, payload: &str) -> Vec<Event> {
        house.hear(topic, payload.as_bytes(), Timestamp::from_millis(1))
    }

    fn readings(events: &[Event]) -> Vec<(String, Value)> {
        let reading = |e: &Event| match e {
            Event::Reading(r) => Some((r.property.to_string(), r.value.clone())),
            _ => None,
        };
        events.iter().filter_map(reading).collect()
    }

    const TRV: &str = r#"{"name":null,"uniq_id":"0x01_climate","dev":{"ids":["0x01"],"name":"TRV"},"temp_unit":"C",
        "modes":["off","heat","auto"],"mode_stat_t":"z/t",
        "mode_stat_tpl":"{% set v = {'off':'off','heat':'heat',None:'None'} %}{{ v[value_json.system_mode] if value_json.system_mode in v else 'auto' }}",
        "mode_cmd_t":"z/t/set/system_mode","temp_stat_t":"z/t","temp_stat_tpl":"{{ value_json['occupied_heating_setpoint'] }}",
        "temp_cmd_t":"z/t/set/occupied_heating_setpoint","curr_temp_t":"z/t","curr_temp_tpl":"{{ value_json['local_temperature'] }}",
        "act_t":"z/t","act_tpl":"{% set values = {None:None,'idle':'idle','heat':'heating'} %}{{ values[value_json.running_state] }}",
        "min_temp":"5","max_temp":"30"}"#;

    #[test]
    fn a_thermostat_is_read_and_commanded() {
        let mut house = house();
        let events = hear(&mut house, "homeassistant/climate/0x01/climate/config", TRV);
        let [Event::Described { device, description }, Event::Reading(answers)] = events.as_slice() else {
            panic!("{events:?}")
        };
        assert_eq!(
            (answers.property, &answers.value),
            (Property::Reachable, &Value::Bool(true)),
            "it has no availability"
        );
        assert_eq!(device.as_str(), "0x01");
        let types = DeviceType::of(description.properties.iter().map(|(p, d)| (*p, &d.class)));
        assert_eq!(types, DeviceType::Thermostat);
        assert_eq!(
            (description.features.min_setpoint_milli, description.features.max_setpoint_milli),
            (Some(5_000), Some(30_000))
        );
        let events = hear(
            &mut house,
            "z/t",
            r#"{"local_temperature":20.55,"occupied_heating_setpoint":21,"system_mode":"heat","running_state":"heat"}"#,
        );
        let mut got = readings(&events);
        got.sort();
        let expected = [
            ("local_temperature", Value::Temperature(20_550)),
            ("occupied_heating_setpoint", Value::Temperature(21_000)),
            ("running_state", Value::RunningState(model::RunningState::Heating)),
            ("system_mode", Value::SystemMode(model::SystemMode::Heat)),
        ];
        assert_eq!(got, expected.map(|(p, v)| (p.to_owned(), v)));
        let desired = [
            Desired { property: Property::OccupiedHeatingSetpoint, value: Value::Temperature(22_500) },
            Desired { property: Property::SystemMode, value: Value::SystemMode(model::SystemMode::Auto) },
        ];
        let (publications, optimistic) = house.command(device, &desired, Timestamp::from_millis(2)).unwrap();
        let sent: Vec<_> = publications.iter().map(|p| (p.topic.as_str(), p.payload.as_str())).collect();
        assert_eq!(sent, [("z/t/set/occupied_heating_setpoint", "22.5"), ("z/t/set/system_mode", "auto")]);
        assert_eq!(optimistic, []);
    }

    #[test]
    fn a_device_that_changes_its_kind_is_another_device_and_a_second_claim_too() {
        let mut house = house();
        let cover = |class: &str| {
            format!(r#"{{"uniq_id":"c","dev":{{"ids":["c"]}},"dev_cla":"{class}","stat_t":"c/s","cmd_t":"c/c"}}"#)
        };
        let described = |events: Vec<Event>| {
            let name = |e: &Event| match e {
                Event::Described { device, .. } => Some(device.to_string()),
                _ => None,
            };
            events.iter().filter_map(name).collect::<Vec<_>>()
        };
        assert_eq!(described(hear(&mut house, "homeassistant/cover/c/config", &cover("blind"))), ["c"]);
        assert_eq!(described(hear(&mut house, "homeassistant/cover/c/config", &cover("garage"))), ["c.k2"]);
        // And back: it is the first one again, as it was pinned.
        assert_eq!(described(hear(&mut house, "homeassistant/cover/c/config", &cover("shade"))), ["c"]);
        let relay =
            |n: u8| format!(r#"{{"uniq_id":"r{n}","dev":{{"ids":["r"]}},"stat_t":"r/{n}","cmd_t":"r/{n}/set"}}"#);
        assert_eq!(described(hear(&mut house, "homeassistant/switch/r/one/config", &relay(1))), ["r"]);
        assert_eq!(described(hear(&mut house, "homeassistant/switch/r/two/config", &relay(2))), ["r.r_two"]);
        assert_eq!(
            hear(&mut house, "homeassistant/switch/r/two/config", ""),
            [Event::Withdrawn { device: DeviceId::new("r.r_two").unwrap() }]
        );
        assert!(readings(&hear(&mut house, "r/2", "ON")).is_empty());
        assert_eq!(readings(&hear(&mut house, "r/1", "ON")), [("on_off".to_owned(), Value::Bool(true))]);
    }

    #[test]
    fn what_can_not_be_is_dropped_counted_and_hurts_nothing_else() {
        let mut house = house();
        let counters = Arc::clone(&house.counters);
        let sensor = r#"{"uniq_id":"s","dev":{"ids":["s"]},"dev_cla":"temperature","unit_of_meas":"°F","stat_t":"s/t","val_tpl":"{{ value_json.t }}"}"#;
        hear(&mut house, "homeassistant/sensor/s/config", sensor);
        let cases: [(&str, &[u8], DropReason); 9] = [
            ("s/t", br#"{"t":"NaN"}"#, DropReason::NotANumber),
            ("s/t", br#"{"t":9000}"#, DropReason::OutOfRange),
            ("s/t", br#"{"t":"warm"}"#, DropReason::NotANumber),
            ("s/t", &[0xff, 0xfe], DropReason::NotUtf8),
            ("s/other", b"1", DropReason::NoSuchTopic),
            ("homeassistant/sensor/x/config", b"{", DropReason::ConfigNotJson),
            ("homeassistant/vacuum/x/config", b"{\"a\":1,\"b\":2}", DropReason::ConfigUnsupported),
            ("homeassistant/switch/x/config", br##"{"uniq_id":"x","stat_t":"#"}"##, DropReason::ConfigTopic),
            (
                "homeassistant/switch/x/config",
                br#"{"uniq_id":"x","stat_t":"a","val_tpl":"{% for"}"#,
                DropReason::ConfigTemplate,
            ),
        ];
        for (topic, payload, reason) in cases {
            let before = counters.dropped().get(&reason).copied().unwrap_or(0);
            assert_eq!(house.hear(topic, payload, Timestamp::from_millis(1)), [], "{topic}");
            assert_eq!(counters.dropped().get(&reason).copied().unwrap_or(0), before + 1, "{reason}");
        }
        // Nothing said is no fault.
        assert_eq!(hear(&mut house, "s/t", r#"{"other":1}"#), []);
        assert_eq!(
            readings(&hear(&mut house, "s/t", r#"{"t":70.7}"#)),
            [("local_temperature".to_owned(), Value::Temperature(21_500))]
        );
    }

    #[test]
    fn availability_counts_all_any_or_the_latest() {
        for (mode, words, reachable) in [
            ("all", ["online", "offline"], false),
            ("any", ["online", "offline"], true),
            ("latest", ["offline", "online"], true),
        ] {
            let mut house = house();
            let config = format!(
                r#"{{"uniq_id":"a","dev":{{"ids":["a"]}},"dev_cla":"garage","stat_t":"a/s","cmd_t":"a/c","avty_mode":"{mode}",
                "avty":[{{"t":"a/1"}},{{"t":"a/2","val_tpl":"{{{{ value_json.state }}}}"}}]}}"#
            );
            hear(&mut house, "homeassistant/cover/a/config", &config);
            hear(&mut house, "a/1", words[0]);
            hear(&mut house, "a/2", &format!(r#"{{"state":"{}"}}"#, words[1]));
            assert_eq!(house.reachable.get(&DeviceId::new("a").unwrap()), Some(&reachable), "{mode}");
            assert_eq!(
                readings(&hear(&mut house, "a/s", "opening")),
                [("door_state".to_owned(), Value::DoorState(DoorState::Opening))]
            );
        }
    }

    #[test]
    fn nothing_is_said_of_a_device_before_its_topics_have_spoken() {
        let config = |mode: &str| {
            format!(
                r#"{{"uniq_id":"a","dev":{{"ids":["a"]}},"dev_cla":"moisture","stat_t":"a/s","avty_mode":"{mode}",
                "avty":[{{"t":"bridge"}},{{"t":"a/avty"}}]}}"#
            )
        };
        // What is said after the first topic, and after the second.
        for (mode, words, said) in [
            ("all", ["online", "online"], [None, Some(true)]),
            ("all", ["offline", "online"], [Some(false), None]),
            ("any", ["offline", "online"], [None, Some(true)]),
            ("any", ["offline", "offline"], [None, Some(false)]),
            ("latest", ["online", "offline"], [Some(true), Some(false)]),
        ] {
            let mut house = house();
            let topic = "homeassistant/binary_sensor/a/config";
            let answers = |events: &[Event]| match readings(events).as_slice() {
                [] => None,
                [(name, Value::Bool(yes))] if name == "reachable" => Some(*yes),
                other => panic!("{other:?}"),
            };
            assert_eq!(answers(&hear(&mut house, topic, &config(mode))), None);
            let got = [("bridge", words[0]), ("a/avty", words[1])].map(|(t, w)| answers(&hear(&mut house, t, w)));
            assert_eq!(got, said, "{mode} {words:?}");
            // Announced again, nothing changes; without availability it is always there.
            assert_eq!(answers(&hear(&mut house, topic, &config(mode))), None);
            let plain = r#"{"uniq_id":"a","dev":{"ids":["a"]},"dev_cla":"moisture","stat_t":"a/s"}"#;
            let was = house.reachable.get(&DeviceId::new("a").unwrap()) == Some(&true);
            assert_eq!(answers(&hear(&mut house, topic, plain)), (!was).then_some(true));
        }
    }

    #[test]
    fn a_single_set_point_counts_in_heat_and_cool_and_two_in_automatic_change_over() {
        let mut house = house();
        let config = r#"{"uniq_id":"c","dev":{"ids":["c"]},"temp_unit":"F","modes":["off","heat","cool","heat_cool"],
            "mode_stat_t":"c/mode","mode_cmd_t":"c/mode/set","temp_stat_t":"c/one","temp_cmd_t":"c/one/set",
            "temp_lo_stat_t":"c/low","temp_lo_cmd_t":"c/low/set","temp_hi_stat_t":"c/high","temp_hi_cmd_t":"c/high/set"}"#;
        hear(&mut house, "homeassistant/climate/c/config", config);
        let (heating, cooling) = (Property::OccupiedHeatingSetpoint, Property::OccupiedCoolingSetpoint);
        let milli = |f: i32| Value::Temperature(((f - 32) * 5000 + 4) / 9);
        let mut say = |topic: &str, text: &str| {
            let events = hear(&mut house, topic, text);
            let points = readings(&events).into_iter().filter(|(p, _)| p != "system_mode");
            points.collect::<Vec<_>>()
        };
        // Before the mode is known none counts.
        for (topic, text) in [("c/low", "60"), ("c/high", "78"), ("c/one", "68")] {
            assert_eq!(say(topic, text), []);
        }
        let told = |p: Property, f: i32| (p.to_string(), milli(f));
        assert_eq!(say("c/mode", "heat"), [told(heating, 68)]);
        assert_eq!(say("c/low", "61"), []);
        assert_eq!(say("c/one", "70"), [told(heating, 70)]);
        assert_eq!(say("c/mode", "cool"), [told(cooling, 70)]);
        assert_eq!(say("c/mode", "heat_cool"), [told(heating, 61), told(cooling, 78)]);
        assert_eq!(say("c/one", "71"), []);
        assert_eq!(say("c/mode", "off"), []);
        assert_eq!(say("c/mode", "heat"), [told(heating, 71)]);

        let id = DeviceId::new("c").unwrap();
        let mut order = |desired: &[(Property, Value)]| {
            let desired: Vec<Desired> =
                desired.iter().map(|(property, value)| Desired { property: *property, value: value.clone() }).collect();
            let (sent, _) = house.command(&id, &desired, Timestamp::default()).unwrap();
            sent.into_iter().map(|p| p.topic).collect::<Vec<_>>()
        };
        let at = || Value::Temperature(21_000);
        let mode = |m| (Property::SystemMode, Value::SystemMode(m));
        assert_eq!(order(&[(heating, at())]), ["c/one/set"]);
        assert_eq!(order(&[(heating, at()), (cooling, at())]), ["c/low/set", "c/high/set"]);
        assert_eq!(order(&[mode(SystemMode::Auto)]), ["c/mode/set"]);
        assert_eq!(order(&[(heating, at())]), ["c/low/set"], "it was told to change over");
        assert_eq!(order(&[mode(SystemMode::Cool), (cooling, at())]), ["c/mode/set", "c/one/set"]);
    }

    #[test]
    fn a_component_that_is_taken_out_takes_its_properties_with_it() {
        let mut house = house();
        let config = |components: &str| {
            format!(r#"{{"dev":{{"ids":"d"}},"stat_t":"d/s","cmd_t":"d/c","cmps":{{{components}}}}}"#)
        };
        let properties = |events: &[Event]| match events.first() {
            Some(Event::Described { description, .. }) => description.properties.keys().copied().collect(),
            _ => Vec::new(),
        };
        let topic = "homeassistant/device/d/config";
        let both = r#""s":{"p":"switch","uniq_id":"s"},"h":{"p":"sensor","dev_cla":"humidity","uniq_id":"h"}"#;
        let first = hear(&mut house, topic, &config(both));
        assert_eq!(properties(&first), [Property::RelativeHumidity, Property::OnOff]);
        let second = hear(&mut house, topic, &config(r#""s":{"p":"switch","uniq_id":"s"},"h":{"p":"sensor"}"#));
        assert_eq!(properties(&second), [Property::OnOff]);
        let device = DeviceId::new("d").unwrap();
        let third = hear(&mut house, topic, &config(r#""s":{"p":"switch"},"h":{"p":"sensor"}"#));
        assert_eq!(third, [Event::Withdrawn { device }]);
        assert!(house.topics.is_empty() && house.parts.is_empty());
        assert_eq!(hear(&mut house, topic, &config(r#""m":{"p":"switch"}"#)), []);
    }

    #[test]
    fn a_cover_may_have_words_of_its_own() {
        let mut house = house();
        let config = r#"{"uniq_id":"w","dev":{"ids":["w"]},"stat_t":"w/s","cmd_t":"w/c","stat_stopped":"halted"}"#;
        hear(&mut house, "homeassistant/cover/w/config", config);
        assert_eq!(hear(&mut house, "w/s", "halted"), []);
        assert_eq!(house.counters.dropped(), BTreeMap::new());
    }

    #[test]
    fn a_flood_of_strangers_ends_and_takes_no_place_of_a_known_device() {
        let known = DeviceId::new("known").unwrap();
        let pins = BTreeMap::from([((known.clone(), Property::OnOff), Kind::of(Property::OnOff, Class::Switch))]);
        let mut house = House::new("homeassistant", TemperatureScale::Celsius, pins, Arc::default());
        let counters = Arc::clone(&house.counters);
        let switch =
            |id: &str| format!(r#"{{"uniq_id":"{id}","dev":{{"ids":["{id}"]}},"stat_t":"{id}/s","cmd_t":"{id}/c"}}"#);
        let dropped = |reason| counters.dropped().get(&reason).copied().unwrap_or(0);
        for n in 0..ENTITIES_MAX + 10 {
            hear(&mut house, &format!("homeassistant/switch/f{n}/config"), &switch(&format!("f{n}")));
        }
        assert_eq!((house.entities.len(), dropped(DropReason::TooManyEntities)), (ENTITIES_MAX, 10));
        let events = hear(&mut house, "homeassistant/switch/known/config", &switch("known"));
        let described =
            matches!(events.as_slice(), [Event::Described { device, .. }, Event::Reading(_)] if *device == known);
        assert!(described, "{events:?}");
        assert_eq!(readings(&hear(&mut house, "known/s", "ON")), [("on_off".to_owned(), Value::Bool(true))]);
        // Who takes itself out and comes back under another name, again and again, leaves a pin each time; and nothing else.
        for n in 0..ENTITIES_MAX {
            hear(&mut house, &format!("homeassistant/switch/f{n}/config"), "");
        }
        assert_eq!((house.entities.len(), house.topics.len(), house.parts.len()), (1, 1, 1));
        let left = PINS_MAX - house.pins.len();
        house
            .pins
            .extend((0..left).map(|n| ((DeviceId::new(format!("p{n}")).unwrap(), Property::OnOff), Kind::Appliance)));
        assert_eq!(hear(&mut house, "homeassistant/switch/new/config", &switch("new")), []);
        assert_eq!(dropped(DropReason::TooManyDevices), 1);
        assert_eq!(
            hear(&mut house, "homeassistant/switch/f1/config", &switch("f1")).len(),
            2,
            "its pin is there already"
        );
    }

    #[test]
    fn a_json_light_and_a_dimmer_take_the_same_orders() {
        let mut house = house();
        let json = r#"{"schema":"json","uniq_id":"j","dev":{"ids":["j"]},"stat_t":"j","cmd_t":"j/set","brightness":true,"brightness_scale":254}"#;
        hear(&mut house, "homeassistant/light/j/config", json);
        let id = DeviceId::new("j").unwrap();
        let desired = [Desired { property: Property::CurrentLevel, value: Value::Percent(5_000) }];
        let (sent, _) = house.command(&id, &desired, Timestamp::default()).unwrap();
        assert_eq!(sent[0].payload, r#"{"state":"ON","brightness":127}"#);
        let events = hear(&mut house, "j", r#"{"state":"ON","brightness":254}"#);
        assert_eq!(
            readings(&events),
            [("on_off".to_owned(), Value::Bool(true)), ("current_level".to_owned(), Value::Percent(10_000))]
        );
        let kind = house.described.get(&id).unwrap().properties.get(&Property::OnOff).unwrap().class;
        assert_eq!(kind, Class::Light);
        // One that never reports, and says that it dims by the short key alone: no brightness is off.
        let silent = r#"{"schema":"json","uniq_id":"q","dev":{"ids":["q"]},"cmd_t":"q/set","sup_clrm":["brightness"]}"#;
        hear(&mut house, "homeassistant/light/q/config", silent);
        let id = DeviceId::new("q").unwrap();
        for (level, payload, on) in
            [(0, r#"{"state":"OFF"}"#, false), (10_000, r#"{"state":"ON","brightness":255}"#, true)]
        {
            let desired = [Desired { property: Property::CurrentLevel, value: Value::Percent(level) }];
            let (sent, told) = house.command(&id, &desired, Timestamp::default()).unwrap();
            assert_eq!(sent[0].payload, payload);
            let told: Vec<_> = told.into_iter().map(|r| (r.property, r.value)).collect();
            let expected = [(Property::OnOff, Value::Bool(on)), (Property::CurrentLevel, Value::Percent(level))];
            assert_eq!(told, expected);
        }
    }

    /// A device over MQTT: what it announces, what it is asked to become and what that publishes, what it says and means.
    fn speaks(platform: &str, config: &str, asked: &[(Property, Value, &str, &str)], said: &[(&str, &str, &[Value])]) {
        let mut house = house();
        let events = hear(&mut house, &format!("homeassistant/{platform}/x/config"), config);
        let [Event::Described { device, .. }, ..] = events.as_slice() else { panic!("{events:?} {config}") };
        for (property, value, topic, payload) in asked {
            let desired = [Desired { property: *property, value: value.clone() }];
            let (sent, _) = house.command(device, &desired, Timestamp::default()).unwrap();
            assert_eq!((sent[0].topic.as_str(), sent[0].payload.as_str()), (*topic, *payload), "{property}");
        }
        for (topic, payload, values) in said {
            let heard: Vec<Value> = readings(&hear(&mut house, topic, payload)).into_iter().map(|(_, v)| v).collect();
            assert_eq!(heard, *values, "{topic} {payload}");
        }
    }

    #[test]
    fn lamps_take_and_tell_colours_and_whites_in_every_form() {
        let red = Value::Color(model::Color { hue: 0, saturation: 10_000 });
        let white = Value::ColorTemperature(2_703);
        let (color, temperature) = (Property::Color, Property::ColorTemperature);
        let plain = r#"{"uniq_id":"x","dev":{"ids":["x"]},"cmd_t":"l/set","stat_t":"l","clr_temp_cmd_t":"l/ct","clr_temp_stat_t":"l/cts","max_mirs":454,"min_mirs":"153","#;
        let asked = (temperature, Value::ColorTemperature(2_700), "l/ct", "370");
        for (form, sent, more) in
            [("hs", "0.0,100.0", "120,50"), ("rgb", "255,0,0", "128,255,128"), ("xy", "0.6401,0.33", "0.3127,0.329")]
        {
            let config = format!(r#"{plain}"{form}_command_topic":"l/c","{form}_state_topic":"l/cs"}}"#);
            let said =
                [("l/cts", "370", &[white.clone()][..]), ("l/cts", "0", &[]), ("l/cs", "x,y", &[]), ("l/cs", "1", &[])];
            speaks("light", &config, &[asked.clone(), (color, red.clone(), "l/c", sent)], &said);
            let mut house = house();
            hear(&mut house, "homeassistant/light/x/config", &config);
            assert_eq!(readings(&hear(&mut house, "l/cs", more)).len(), 1, "{form} {more}");
            let features = &house.described.values().next().unwrap().features;
            assert_eq!((features.min_color_kelvin, features.max_color_kelvin), (Some(2_203), Some(6_536)));
        }
        // As zigbee2mqtt announces them: JSON, and the lamp says which of the two it shows.
        let json = r#"{"schema":"json","uniq_id":"x","dev":{"ids":["x"]},"stat_t":"j","cmd_t":"j/set","brightness":true,"sup_clrm":["xy","color_temp"]}"#;
        speaks(
            "light",
            json,
            &[
                (temperature, Value::ColorTemperature(4_000), "j/set", r#"{"state":"ON","color_temp":250}"#),
                (color, red, "j/set", r#"{"state":"ON","color":{"x":0.6401,"y":0.33}}"#),
            ],
            &[
                (
                    "j",
                    r#"{"state":"ON","brightness":255,"color_mode":"color_temp","color_temp":370,"color":{"x":0.46,"y":0.41}}"#,
                    &[Value::Bool(true), Value::Percent(10_000), white],
                ),
                (
                    "j",
                    r#"{"color_mode":"xy","color_temp":370,"color":{"x":0.3,"y":0.6}}"#,
                    &[Value::Color(model::Color { hue: 12_001, saturation: 10_000 })],
                ),
            ],
        );
    }

    #[test]
    fn fans_slats_scenes_and_schedules_are_read_and_commanded() {
        let way = Value::FanDirection;
        speaks(
            "fan",
            r#"{"uniq_id":"x","dev":{"ids":["x"]},"cmd_t":"f/set","osc_cmd_t":"f/o","osc_stat_t":"f/os","dir_cmd_t":"f/d","dir_stat_t":"f/ds"}"#,
            &[
                (Property::FanOscillation, Value::Bool(true), "f/o", "oscillate_on"),
                (Property::FanDirection, way(model::FanDirection::Reverse), "f/d", "reverse"),
            ],
            &[
                ("f/os", "oscillate_off", &[Value::Bool(false)]),
                ("f/ds", "forward", &[way(model::FanDirection::Forward)]),
                ("f/ds", "sideways", &[]),
            ],
        );
        speaks(
            "cover",
            r#"{"uniq_id":"x","dev":{"ids":["x"]},"cmd_t":"c/set","tilt_cmd_t":"c/t","tilt_status_t":"c/ts","tilt_min":0,"tilt_max":180}"#,
            &[(Property::CoverTilt, Value::Percent(5_000), "c/t", "90")],
            &[("c/ts", "180", &[Value::Percent(10_000)])],
        );
        speaks(
            "scene",
            r#"{"uniq_id":"x","dev":{"ids":["x"]},"cmd_t":"s/set","pl_on":"go"}"#,
            &[(Property::Scene, Value::Bool(true), "s/set", "go")],
            &[],
        );
        // A thermostat with a schedule among its presets.
        speaks(
            "climate",
            r#"{"uniq_id":"x","dev":{"ids":["x"]},"temp_cmd_t":"t/one","temp_lo_cmd_t":"t/lo","temp_hi_cmd_t":"t/hi",
                "pr_mode_cmd_t":"t/p","pr_mode_stat_t":"t/ps","pr_modes":["manual","schedule"]}"#,
            &[
                (Property::OccupiedHeatingSetpoint, Value::Temperature(20_000), "t/one", "20"),
                (Property::SetpointHold, Value::Bool(false), "t/p", "schedule"),
            ],
            &[("t/ps", "manual", &[Value::Bool(true)]), ("t/ps", "schedule", &[Value::Bool(false)])],
        );
    }

    proptest! {
        #![proptest_config(ProptestConfig { cases: 400, ..ProptestConfig::default() })]

        /// No bytes, on no topic, make the hub fall over.
        #[test]
        fn nothing_panics(payload in prop::collection::vec(any::<u8>(), 0..300), which in 0usize..5) {
            let mut house = house();
            hear(&mut house, "homeassistant/climate/0x01/climate/config", TRV);
            let topics = ["homeassistant/climate/0x01/climate/config", "homeassistant/device/d/config", "z/t", "homeassistant/sensor/s/config", ""];
            house.hear(topics[which], &payload, Timestamp::from_millis(1));
        }

        /// Nor any JSON in the place of a configuration.
        #[test]
        fn no_configuration_panics(
            keys in prop::collection::vec(prop::sample::select(vec!["stat_t", "cmd_t", "val_tpl", "dev_cla", "dev", "avty", "~", "cmps", "modes", "brightness_scale", "pos_open", "schema", "uniq_id", "min_temp", "spd_rng_max", "hs_cmd_t", "rgb_stat_t", "min_mirs", "clr_temp_stat_t", "tilt_status_t", "pr_modes", "osc_stat_t", "sup_clrm"]), 0..8),
            values in prop::collection::vec(prop::sample::select(vec!["null", "1", "-1e308", "\"x\"", "\"~/s\"", "[]", "[1]", "{}", "{\"ids\":[]}", "[{\"t\":\"~\"}]", "{\"a\":{\"p\":\"light\"}}", "true", "\"garage\"", "\"json\""]), 8),
            platform in prop::sample::select(vec!["climate", "sensor", "binary_sensor", "cover", "lock", "switch", "light", "fan", "scene", "device"]),
        ) {
            let body: Vec<String> = keys.iter().zip(&values).map(|(k, v)| format!("\"{k}\":{v}")).collect();
            let mut house = house();
            hear(&mut house, &format!("homeassistant/{platform}/x/config"), &format!("{{{}}}", body.join(",")));
            hear(&mut house, "~/s", "ON");
            hear(&mut house, "x", "12");
        }
    }
}
