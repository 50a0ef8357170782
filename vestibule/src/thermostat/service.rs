//! The thermostat at work: it hears its sensors from the home state, decides, switches its relays by the way that every
//! command goes, and is a climate device at the broker, for Home Assistant and for the hub's own device room.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use comfort::{About, Call, Caller, HvacMode, Inputs, Now, Output, Relays, SensorReading, Temp};
use devices::mqtt::face::{Face, FaceEvent};
use devices::mqtt::house::Publication;
use devices::mqtt::hub::Mqtt;
use gate::GateState;
use home::{Desired, Registered};
use model::{DeviceId, Property, RunningState, TemperatureScale, Timestamp, Value};
use serde_json::json;
use tokio::sync::watch;
use tokio::time::Instant;

use super::code::Secret;
use super::guide::{GUIDED, Guide, Said, Standing, set, set_humidity, set_mode, wishes};
use super::unit::{DemandWish, Left, Order, To, Unit, home_assistant_mode};
use crate::config::setup::Setup;
use crate::core::Core;

/// Time of the home between two steps.
const STEP: Duration = Duration::from_secs(5);

/// However fast the home's time runs, steps are at least so far apart on the wall.
const STEP_LEAST: Duration = Duration::from_millis(20);

/// How long relays are waited for at the start before they count as off.
const RELAYS_PATIENCE: Duration = Duration::from_secs(10);

/// How often is looked whether they have spoken.
const RELAYS_LOOK: Duration = Duration::from_millis(20);

/// After an order a relay has this long to report; until then it counts as obeying.
const RELAY_GRACE: Duration = Duration::from_secs(10);

/// What is on is ordered again after so much time of the home: equipment with a watchdog of its own falls back without it.
const HEARTBEAT_MS: u64 = 60_000;

/// What was learned is stored so often, in the home's time: it is large.
const LEARNED_EVERY_MS: u64 = 3_600_000;

/// An outdoor temperature older than this is none.
const OUTDOOR_STALE_MS: i64 = 2 * 3_600_000;

/// Requests of utilities begin and end up to so many seconds later, unless they say otherwise.
const RANDOM_S: u32 = 900;

/// What somebody turns at the guided thermostat is ordered under this name.
const DIAL: &str = "the thermostat itself";

/// Before this the clock has not been set since the machine came up.
const CLOCK_LEAST_MS: i64 = 1_735_689_600_000;

/// What the thermostat needs of the hub.
pub struct At {
    /// The hub.
    pub core: Arc<Core>,
    /// The thermostat.
    pub unit: Arc<Unit>,
    /// The way of commands.
    pub mqtt: Arc<Mqtt>,
    /// The broker.
    pub url: String,
    /// How many times faster than the wall the home's time runs.
    pub speed: f64,
}

/// A relay's orders.
#[derive(Clone, Copy, Debug)]
struct Sent {
    on: bool,
    at: Instant,
    mono_ms: u64,
    /// It has reported what was ordered, and nothing else since.
    confirmed: bool,
}

struct Service {
    at: At,
    /// The guided thermostat, where there is one.
    guide: Guide,
    face: Face,
    topics: Topics,
    began: Instant,
    began_ms: i64,
    sent: BTreeMap<DeviceId, Sent>,
    /// What could not be switched, or did not obey: on or off, and in words.
    failed: BTreeMap<DeviceId, (bool, String)>,
    /// The newest reading of each sensor that was heard.
    heard: BTreeMap<DeviceId, Heard>,
    shown: serde_json::Value,
    /// What an earlier run had retained elsewhere is gone.
    cleared: bool,
    learned_ms: u64,
    clock_was_set: bool,
}

/// Where the climate device lies at the broker.
struct Topics {
    base: String,
    config: String,
}

/// Runs the thermostat until `stopped` turns true, then hands the equipment back.
pub async fn run(at: At, mut stopped: watch::Receiver<bool>) {
    let id = at.core.client_id().to_owned();
    let word = at.unit.word.clone();
    let topics = Topics {
        base: format!("vestibule/{id}/{word}"),
        config: format!("{}/climate/{id}_{}/config", at.core.config().discovery_prefix, word.replace('-', "_")),
    };
    let will = topics.status("offline");
    let orders = format!("{}/set/+", topics.base);
    let setup = at.unit.setup();
    let listened: Vec<String> = setup.price_topic.iter().chain(&setup.demand_response_topic).cloned().collect();
    // As the first was called before there could be others.
    let client_id = format!("{id}-t{}", word.trim_start_matches("thermostat").trim_start_matches('-'));
    let face = match Face::start(&at.url, &client_id, &will, &orders).map(|face| face.listening(listened)) {
        Ok(face) => face,
        Err(error) => {
            tracing::error!(%error, "the thermostat can't speak with the broker: nothing is controlled");
            return;
        }
    };
    if !at.unit.setup().equipment.has_own_control {
        tracing::warn!(
            "the thermostat's equipment has no control of its own (own_control): while this hub does not run, nothing guards the house from frost"
        );
    }
    at.unit.set_up();
    let began_ms = at.core.now().as_millis();
    let mut service = Service {
        at,
        guide: Guide::default(),
        face,
        topics,
        began: Instant::now(),
        began_ms,
        sent: BTreeMap::new(),
        failed: BTreeMap::new(),
        heard: BTreeMap::new(),
        shown: serde_json::Value::Null,
        cleared: false,
        learned_ms: 0,
        clock_was_set: false,
    };
    tokio::select! {
        () = service.wait_for_relays() => {}
        () = ended(&mut stopped) => {}
    }
    let reported = service.reported().map(|(reported, _)| reported);
    service.at.unit.begin(reported);
    let pause = STEP.div_f64(service.at.speed.max(0.001)).clamp(STEP_LEAST, STEP);
    loop {
        if *stopped.borrow() {
            break;
        }
        service.step().await;
        let unit = Arc::clone(&service.at.unit);
        tokio::select! {
            () = tokio::time::sleep(pause) => {}
            () = unit.wake.notified() => {}
            event = service.face.next() => service.hear(event).await,
            () = ended(&mut stopped) => break,
        }
    }
    service.hand_back().await;
}

/// Clears at the broker what thermostats have left there that are no longer configured.
pub async fn clear(url: String, id: String, left: Vec<Left>) {
    let will = Publication { topic: format!("vestibule/{id}/thermostat-gone"), payload: String::new(), retain: false };
    let orders = format!("vestibule/{id}/thermostat-gone/+");
    let mut face = match Face::start(&url, &format!("{id}-tx"), &will, &orders) {
        Ok(face) => face,
        Err(error) => {
            tracing::error!(%error, "what a former thermostat left at the broker can't be cleared");
            return;
        }
    };
    while face.next().await != FaceEvent::Connected {}
    for one in left {
        for topic in &one.topics {
            face.publish(empty(topic)).await;
        }
        let done = tokio::task::spawn_blocking(move || one.cleared()).await;
        if let Ok(Err(error)) = done {
            tracing::warn!(%error, "what was cleared at the broker will be cleared again");
        }
    }
    face.finish().await;
}

/// Nothing is retained on a topic any more.
fn empty(topic: &str) -> Publication {
    Publication { topic: topic.to_owned(), payload: String::new(), retain: true }
}

/// The hub stops.
async fn ended(stopped: &mut watch::Receiver<bool>) {
    let _ = stopped.wait_for(|s| *s).await;
}

impl Topics {
    fn say(&self, topic: &str, payload: String) -> Publication {
        Publication { topic: format!("{}/{topic}", self.base), payload, retain: true }
    }

    fn status(&self, word: &str) -> Publication {
        self.say("status", word.to_owned())
    }

    /// All that is retained.
    fn retained(&self) -> Vec<String> {
        vec![self.config.clone(), format!("{}/state", self.base), format!("{}/status", self.base)]
    }

    /// Home Assistant's description of a climate device.
    fn description(&self, unit: &Unit) -> Publication {
        let setup = unit.setup();
        let scale = setup.settings.scale;
        let degrees = |t: Temp| f64::from(t.tenths(scale)) / 10.0;
        let (state, set) = (format!("{}/state", self.base), |what: &str| format!("{}/set/{what}", self.base));
        let ranges = (setup.settings.heat_range, setup.settings.cool_range);
        let (heats, cools) = (setup.takes(HvacMode::Heat), setup.takes(HvacMode::Cool));
        let (least, most) = match (heats, cools) {
            (true, true) => (ranges.0.0.min(ranges.1.0), ranges.0.1.max(ranges.1.1)),
            (false, true) => ranges.1,
            _ => ranges.0,
        };
        let modes = [HvacMode::Off, HvacMode::Heat, HvacMode::Cool, HvacMode::Auto];
        let modes: Vec<&str> = modes.into_iter().filter(|m| setup.takes(*m)).map(home_assistant_mode).collect();
        let mut config = json!({
            "name": null,
            "unique_id": unit.device,
            "device": {
                "identifiers": [unit.device], "name": setup.name, "manufacturer": "Vestibule", "model": "Thermostat",
                "sw_version": env!("CARGO_PKG_VERSION"),
            },
            "availability_topic": format!("{}/status", self.base),
            "modes": modes,
            "temperature_unit": if scale == TemperatureScale::Fahrenheit { "F" } else { "C" },
            "min_temp": degrees(least), "max_temp": degrees(most),
            "temp_step": if scale == TemperatureScale::Fahrenheit { 1.0 } else { 0.5 }, "precision": 0.1,
            "current_temperature_topic": state, "current_temperature_template": "{{ value_json.current_temperature }}",
            "temperature_state_topic": state, "temperature_state_template": "{{ value_json.temperature }}",
            "temperature_command_topic": set("temperature"),
            "mode_state_topic": state, "mode_state_template": "{{ value_json.mode }}",
            "mode_command_topic": set("mode"),
            "action_topic": state, "action_template": "{{ value_json.action }}",
            "preset_modes": unit.presets(),
            "preset_mode_state_topic": state, "preset_mode_value_template": "{{ value_json.preset }}",
            "preset_mode_command_topic": set("preset"),
            "json_attributes_topic": state,
        });
        if let Some(config) = config.as_object_mut() {
            if heats && cools {
                for (key, word) in [("low", "low"), ("high", "high")] {
                    config.insert(format!("temperature_{key}_state_topic"), json!(state));
                    config.insert(
                        format!("temperature_{key}_state_template"),
                        json!(format!("{{{{ value_json.{word} }}}}")),
                    );
                    config.insert(format!("temperature_{key}_command_topic"), json!(set(word)));
                }
            }
            if setup.relays.contains_key(&Output::Fan) {
                config.insert("fan_modes".into(), json!(["auto", "on"]));
                config.insert("fan_mode_state_topic".into(), json!(state));
                config.insert("fan_mode_state_template".into(), json!("{{ value_json.fan }}"));
                config.insert("fan_mode_command_topic".into(), json!(set("fan")));
            }
            if setup.relays.contains_key(&Output::Humidifier) {
                config.insert("target_humidity_state_topic".into(), json!(state));
                config.insert("target_humidity_state_template".into(), json!("{{ value_json.target_humidity }}"));
                config.insert("target_humidity_command_topic".into(), json!(set("humidity")));
            }
            if setup.relays.contains_key(&Output::Humidifier) || setup.relays.contains_key(&Output::Dehumidifier) {
                config.insert("current_humidity_topic".into(), json!(state));
                config.insert("current_humidity_template".into(), json!("{{ value_json.humidity }}"));
            }
        }
        Publication { topic: self.config.clone(), payload: config.to_string(), retain: true }
    }
}

impl Service {
    /// The two clocks. Where the home's time runs faster than the wall, it is the only clock there is.
    fn now(&mut self) -> Now {
        let times = self.at.core.times();
        let wall_ms = times.wall.as_millis();
        let mono_ms = if self.at.speed == 1.0 {
            u64::try_from(self.began.elapsed().as_millis()).unwrap_or(u64::MAX)
        } else {
            u64::try_from(times.now.as_millis().saturating_sub(self.began_ms)).unwrap_or(0)
        };
        self.clock_was_set |= wall_ms >= CLOCK_LEAST_MS;
        Now { wall_ms, mono_ms, trusted: self.clock_was_set }
    }

    /// Each relay and what the output is that it switches first.
    fn relays(&self) -> Vec<DeviceId> {
        let setup = self.at.unit.setup();
        let mut all: Vec<DeviceId> = setup.relays.values().chain(&setup.reversing_valve).cloned().collect();
        all.sort();
        all.dedup();
        all
    }

    async fn wait_for_relays(&self) {
        let end = self.began + RELAYS_PATIENCE;
        let relays = self.relays();
        while Instant::now() < end {
            {
                let gate = self.at.core.state();
                if relays.iter().all(|r| switch(&gate, r, self.at.unit.since).is_some()) {
                    return;
                }
            }
            tokio::time::sleep(RELAYS_LOOK).await;
        }
        tracing::warn!("not every relay of the thermostat has said what it does: those count as off");
    }

    /// What the relays say that they do, and of which outputs they say nothing; none when none of them does. A guided thermostat
    /// says it by its action, if it has one.
    fn reported(&mut self) -> Option<(Call, Call)> {
        if !self.at.core.devices_are_up() {
            return None;
        }
        if let Some(guided) = &self.at.unit.setup().guides {
            let gate = self.at.core.state();
            return said(&gate, guided, Property::RunningState).map(|s| match s.value {
                Value::RunningState(RunningState::Heating) => (Call::of(&[Output::Heat1]), Call::NONE),
                Value::RunningState(RunningState::Cooling) => (Call::of(&[Output::Cool1]), Call::NONE),
                _ => (Call::NONE, Call::NONE),
            });
        }
        let mut states = BTreeMap::new();
        {
            let gate = self.at.core.state();
            for relay in self.relays() {
                if let Some(reported) = switch(&gate, &relay, self.at.unit.since) {
                    states.insert(relay, reported);
                }
            }
        }
        if states.is_empty() {
            return None;
        }
        for (relay, on) in &mut states {
            let Some(sent) = self.sent.get_mut(relay) else { continue };
            if sent.on == *on {
                sent.confirmed = true;
            } else if !sent.confirmed && sent.at.elapsed() < RELAY_GRACE {
                *on = sent.on;
            } else {
                // It has changed by itself: the guard hears of it before anything is ordered.
                sent.confirmed = false;
            }
        }
        Some(heard_of(self.at.unit.setup(), &states))
    }

    /// What is to be switched so that the relays are as decided: first what goes off, then the valve, then what goes on.
    fn orders(&self, relays: Relays) -> Vec<(DeviceId, bool)> {
        let setup = self.at.unit.setup();
        let mut wanted: BTreeMap<&DeviceId, bool> = BTreeMap::new();
        for (output, device) in &setup.relays {
            *wanted.entry(device).or_default() |= relays.on(*output);
        }
        let (mut off, mut on): (Vec<_>, Vec<_>) =
            wanted.into_iter().map(|(d, on)| (d.clone(), on)).partition(|(_, on)| !on);
        if let Some(valve) = &setup.reversing_valve {
            let reversal = setup.equipment.heat_pump_reversal_on_cool;
            if relays.on(Output::Cool1) {
                off.push((valve.clone(), reversal));
            } else if relays.on(Output::Heat1) {
                off.push((valve.clone(), !reversal));
            }
        }
        off.append(&mut on);
        off
    }

    /// Gathers what is new of the sensors, and what else is known.
    fn listen(&mut self, now: &Now) -> Inputs {
        let core = Arc::clone(&self.at.core);
        let unit = Arc::clone(&self.at.unit);
        let gate = core.state();
        let setup = unit.setup();
        let sensors = setup.sensors.iter().filter_map(|s| DeviceId::new(s.id.clone()).ok());
        let all: Vec<DeviceId> =
            sensors.chain(setup.occupancy.iter().cloned()).chain(setup.rooms.keys().cloned()).collect();
        for device in all {
            let Some((newest, reading)) = sensor_reading(&gate, &device, unit.since) else { continue };
            let last = self.heard.get(&device).copied();
            // A detector speaks for the sensor of its room, of whether somebody is there and of nothing else.
            let room = setup.rooms.get(&device);
            let name = room.map_or(device.as_str(), String::as_str);
            let reading = match room {
                Some(_) if reading.offline => continue,
                Some(_) => SensorReading { occupied: reading.occupied, ..SensorReading::default() },
                None => reading,
            };
            if last != Some(newest) {
                // Only what is new of it: a detector that speaks does not make a dead thermometer's last word a fresh one.
                let new = |at: fn(&Heard) -> Option<Timestamp>| last.is_none_or(|last| at(&newest) > at(&last));
                let reading = SensorReading {
                    temperature: reading.temperature.filter(|_| new(|h| h.temperature)),
                    humidity: reading.humidity.filter(|_| new(|h| h.humidity)),
                    ..reading
                };
                self.heard.insert(device.clone(), newest);
                unit.hear(name, &reading, now.mono_ms);
            } else if reading.occupied == Some(true) && !reading.offline {
                // A detector says once that somebody came, and not again while somebody stays.
                let stays = SensorReading { occupied: Some(true), ..SensorReading::default() };
                unit.hear(name, &stays, now.mono_ms);
            }
        }
        let outdoor = setup.outdoor.as_ref().and_then(|device| {
            let properties = [Property::OutdoorTemperature, Property::LocalTemperature];
            let sample = properties.iter().find_map(|p| gate.home.reported(device, *p))?;
            let fresh = core.now().as_millis().saturating_sub(sample.time.as_millis()) < OUTDOOR_STALE_MS;
            temperature(&sample.value).filter(|_| fresh)
        });
        let phones: Vec<bool> = setup.phones.iter().filter_map(|device| at_home(&gate, device)).collect();
        // One that is out of reach may have been closed since: nobody freezes for a flat battery.
        let is_open = |device: &DeviceId| {
            said(&gate, device, Property::ContactOpen).is_some_and(|s| s.value == Value::Bool(true))
        };
        Inputs {
            outdoor,
            irradiance: None,
            opening: setup.windows.iter().any(is_open),
            phone_home: if phones.is_empty() { None } else { Some(phones.contains(&true)) },
            reported: None,
            silent: Call::NONE,
        }
    }

    async fn step(&mut self) {
        let now = self.now();
        let mut inputs = self.listen(&now);
        if let Some((reported, silent)) = self.reported() {
            (inputs.reported, inputs.silent) = (Some(reported), silent);
        }
        let up = self.at.core.devices_are_up();
        let mut faults = vec![(
            About::Broker,
            (!up).then(|| {
                "no connection to the broker: nothing is heard or switched, and nothing is known of the relays"
                    .to_owned()
            }),
        )];
        if let Some(guided) = self.at.unit.setup().guides.clone() {
            let fault = self.failed.get(&guided).map(|(_, text)| text.clone());
            faults.push((About::Relay(guided.to_string()), fault));
        }
        for relay in self.relays() {
            if let Some(fault) = self.disobeys(&relay) {
                self.failed.insert(relay.clone(), fault);
            }
            let fault = self.failed.get(&relay).map(|(_, text)| text.clone());
            faults.push((About::Relay(relay.to_string()), fault));
        }
        let step = self.at.unit.step(now, inputs, &faults);
        for text in &step.raised {
            tracing::warn!("the thermostat: {text}");
        }
        // What the guards know is durable before anything goes on.
        if step.switched || step.decision.interval.is_some() {
            let with_learned = now.mono_ms.saturating_sub(self.learned_ms) >= LEARNED_EVERY_MS;
            if with_learned {
                self.learned_ms = now.mono_ms;
            }
            self.keep(with_learned, step.decision.interval.clone()).await;
        }
        for (relay, on) in self.orders(step.decision.relays) {
            self.switch(&relay, on, now.mono_ms).await;
        }
        if let Some(guided) = self.at.unit.setup().guides.clone() {
            self.guide(&guided, &step.decision, now.mono_ms).await;
        }
        self.show().await;
    }

    /// Tells a thermostat that switches by itself its mode and set points, once for each change; and takes what somebody
    /// turns at it for an order of theirs.
    async fn guide(&mut self, device: &DeviceId, decision: &comfort::Decision, mono_ms: u64) {
        let said = self.guided_says(device);
        let turned = self.guide.hear(&said, mono_ms);
        if let Some(order) = turned {
            let (unit, now) = (Arc::clone(&self.at.unit), self.at.core.times());
            let done = tokio::task::spawn_blocking(move || unit.order(&order, Caller::other(DIAL), now)).await;
            if let Ok(Err(error)) = done {
                tracing::warn!(%error, "what was turned at the guided thermostat is turned back");
            }
            // Whatever comes of it is told anew.
            return;
        }
        let setup = self.at.unit.setup();
        let what = decision.guidance(&setup.settings, &setup.equipment);
        if self.guide.is_told(what) {
            match self.guide.standing(&said, mono_ms) {
                Standing::Waiting => return,
                Standing::Taken => {
                    self.failed.remove(device);
                    return;
                }
                Standing::Untaken => {
                    let text = format!("`{device}` does not take the mode and set points that it is told");
                    self.failed.insert(device.clone(), (true, text));
                }
            }
        }
        let desired = {
            let mut gate = self.at.core.state();
            let desired: Vec<Desired> = wishes(what)
                .into_iter()
                .filter(|d| gate.registry.get(device).is_some_and(|known| takes(known, d.property)))
                .collect();
            let time = self.at.core.now();
            for d in &desired {
                gate.home.desire(device.clone(), d.property, d.value.clone(), time);
            }
            desired
        };
        let done = match desired.is_empty() {
            true => Err("it has no set point that can be commanded".to_owned()),
            false => self.at.mqtt.carry_out(device, &desired).await.map_err(|e| e.to_string()),
        };
        match done {
            Ok(()) => self.guide.tell(what, &desired, &said, mono_ms),
            Err(error) => {
                self.failed.insert(device.clone(), (true, format!("`{device}` can't be guided: {error}")));
            }
        }
    }

    /// What a guided thermostat says of what it is told.
    fn guided_says(&self, device: &DeviceId) -> Said {
        let gate = self.at.core.state();
        let said = |property| Some((property, gate.home.reported(device, property)?.value.clone()));
        GUIDED.into_iter().filter_map(said).collect()
    }

    async fn keep(&self, with_learned: bool, interval: Option<comfort::Interval>) {
        let unit = Arc::clone(&self.at.unit);
        let done = tokio::task::spawn_blocking(move || {
            unit.save(with_learned)?;
            interval.map_or(Ok(()), |interval| unit.note(&interval))
        });
        if let Ok(Err(error)) = done.await {
            // The house is kept all the same; after a restart the guards wait their full time.
            tracing::error!(%error, "the thermostat's state could not be stored");
        }
    }

    /// A relay that says otherwise than it was told, long after.
    fn disobeys(&self, relay: &DeviceId) -> Option<(bool, String)> {
        let sent = self.sent.get(relay)?;
        let gate = self.at.core.state();
        let reported = switch(&gate, relay, self.at.unit.since)?;
        (reported != sent.on && sent.at.elapsed() >= RELAY_GRACE).then(|| {
            (sent.on, format!("`{relay}` was switched {} and says that it is {}", word(sent.on), word(reported)))
        })
    }

    /// Orders a relay if it is not known to be so; what is on is ordered again from time to time.
    async fn switch(&mut self, relay: &DeviceId, on: bool, mono_ms: u64) {
        let reported = switch(&self.at.core.state(), relay, self.at.unit.since);
        if reported == Some(on) && self.failed.get(relay).is_some_and(|(failed, _)| *failed == on) {
            self.failed.remove(relay);
        }
        let sent = self.sent.get(relay);
        let Some(confirmed) = due(sent, reported, on, mono_ms) else { return };
        let desired = vec![Desired { property: Property::OnOff, value: Value::Bool(on) }];
        {
            let mut gate = self.at.core.state();
            let time = self.at.core.now();
            gate.home.desire(relay.clone(), Property::OnOff, Value::Bool(on), time);
        }
        match self.at.mqtt.carry_out(relay, &desired).await {
            Ok(()) => {
                self.sent.insert(relay.clone(), Sent { on, at: Instant::now(), mono_ms, confirmed });
            }
            Err(error) => {
                self.failed.insert(relay.clone(), (on, format!("`{relay}` can't be switched {}: {error}", word(on))));
            }
        }
    }

    async fn show(&mut self) {
        let shown = self.at.unit.shown();
        if shown != self.shown {
            self.shown = shown;
            let state = self.topics.say("state", self.shown.to_string());
            self.face.publish(state).await;
        }
    }

    /// Hears what comes from the broker.
    async fn hear(&mut self, event: FaceEvent) {
        match event {
            FaceEvent::Connected => {
                self.clear_former().await;
                self.face.publish(self.topics.description(&self.at.unit)).await;
                self.face.publish(self.topics.status("online")).await;
                self.face.publish(self.topics.say("state", self.shown.to_string())).await;
            }
            FaceEvent::Order { topic, payload, .. } => {
                let what = topic.rsplit('/').next().unwrap_or_default();
                let Some(order) = order(what, payload.trim()) else {
                    // What was said may be a code with a slip in it: it is not written down.
                    tracing::warn!(what, "the thermostat does not understand an order from the broker");
                    return;
                };
                let unit = Arc::clone(&self.at.unit);
                let now = self.at.core.times();
                let done = tokio::task::spawn_blocking(move || unit.order(&order, Caller::other("mqtt"), now)).await;
                if let Ok(Err(error)) = done {
                    tracing::warn!(%error, "the thermostat did not take an order from the broker");
                }
                // Whoever ordered sees what it is now, also where that is what it was.
                self.shown = serde_json::Value::Null;
            }
            FaceEvent::Said { topic, payload } => self.take_in(&topic, payload).await,
        }
    }

    /// Prices, and requests of utilities.
    async fn take_in(&self, topic: &str, payload: String) {
        if payload.trim().is_empty() {
            return;
        }
        let unit = Arc::clone(&self.at.unit);
        let now = self.at.core.times();
        let is_price = unit.setup().price_topic.as_deref() == Some(topic);
        let done = tokio::task::spawn_blocking(move || {
            if is_price {
                return unit.hear_prices(&payload, now);
            }
            let wish: DemandWish = serde_json::from_str(&payload)
                .map_err(|e| format!("a request is {{\"name\", \"start\", \"end\", \"by\", \"random_s\"}}: {e}"))?;
            let wish = DemandWish { random_s: wish.random_s.or(Some(RANDOM_S)), ..wish };
            unit.order(&Order::DemandAdd(wish), Caller::owner("utility"), now).map(|_| ())
        })
        .await;
        if let Ok(Err(error)) = done {
            tracing::warn!(topic, error, "the thermostat does not take what was said");
        }
    }

    /// Clears what an earlier run had retained under other names, and keeps what this one will.
    async fn clear_former(&mut self) {
        if std::mem::replace(&mut self.cleared, true) {
            return;
        }
        let retained = self.topics.retained();
        let (unit, kept) = (Arc::clone(&self.at.unit), retained.clone());
        match tokio::task::spawn_blocking(move || unit.announce(&kept)).await {
            Ok(Ok(before)) => {
                for topic in before.iter().filter(|t| !retained.contains(t)) {
                    self.face.publish(empty(topic)).await;
                }
            }
            Ok(Err(error)) => tracing::warn!(%error, "what is announced at the broker could not be kept"),
            Err(_) => {}
        }
    }

    /// The hub stops: everything off, so that nothing runs on unwatched, and equipment with a control of its own takes over.
    async fn hand_back(mut self) {
        let mono_ms = self.now().mono_ms;
        for relay in self.relays() {
            if self.at.unit.setup().reversing_valve.as_ref() != Some(&relay) {
                self.switch(&relay, false, mono_ms).await;
            }
        }
        self.keep(true, None).await;
        self.face.publish(self.topics.status("offline")).await;
        self.face.finish().await;
        if !self.at.unit.setup().equipment.has_own_control {
            tracing::warn!(
                "the thermostat has stopped and switched everything off: nothing guards the house from frost now"
            );
        }
    }
}

/// What relays in these states do, and of which outputs nothing is known: their relays are not among them.
fn heard_of(setup: &Setup, states: &BTreeMap<DeviceId, bool>) -> (Call, Call) {
    let is_on = |device: &DeviceId| states.get(device).copied().unwrap_or(false);
    let (mut call, mut silent) = (Call::NONE, Call::NONE);
    for (output, device) in &setup.relays {
        if is_on(device) {
            call = call.with(*output);
        }
        if !states.contains_key(device) {
            silent = silent.with(*output);
        }
    }
    if setup.shares_compressor() {
        // A compressor that runs while its valve is silent does one or the other; one that is off does neither.
        let is_off = setup.relays.get(&Output::Heat1).is_some_and(|relay| states.get(relay) == Some(&false));
        if !is_off && setup.reversing_valve.as_ref().is_some_and(|valve| !states.contains_key(valve)) {
            silent = silent.with(Output::Heat1).with(Output::Cool1);
        }
        let valve = setup.reversing_valve.as_ref().is_some_and(is_on);
        let cools = valve == setup.equipment.heat_pump_reversal_on_cool;
        call = call.without(if cools { Output::Heat1 } else { Output::Cool1 });
    }
    (call, silent)
}

/// Whether a relay is to be ordered now: since it is not known to be so, or to keep it on. If it is: whether it counts as having
/// reported that already.
fn due(sent: Option<&Sent>, reported: Option<bool>, on: bool, mono_ms: u64) -> Option<bool> {
    let confirmed = sent.is_some_and(|s| s.confirmed);
    let is_so = match sent {
        None => reported == Some(on),
        // What it was and is no more has changed since the guard looked, which looks again first.
        Some(sent) => sent.on == on && (reported == Some(on) || confirmed || sent.at.elapsed() < RELAY_GRACE),
    };
    // One that has dropped by itself, or that spoke and is silent now (it may have), is not told to be on before the guard has
    // heard of it.
    let may_be_on = reported.unwrap_or(!confirmed);
    let beat = on && may_be_on && sent.is_none_or(|s| mono_ms.saturating_sub(s.mono_ms) >= HEARTBEAT_MS);
    (!is_so || beat).then_some(is_so && confirmed)
}

/// An order from the broker, in Home Assistant's words.
fn order(what: &str, payload: &str) -> Option<Order> {
    let text = Some(payload.to_owned());
    match what {
        "temperature" => Some(set(To { temperature: text, ..To::default() })),
        "low" => Some(set(To { heat: text, ..To::default() })),
        "high" => Some(set(To { cool: text, ..To::default() })),
        "mode" => {
            let mode = if payload == "heat_cool" { "auto" } else { payload };
            Some(set_mode(mode))
        }
        "fan" => {
            Some(Order::Hold { to: To::default(), climate: None, fan: text, until: Some("next".into()), hours: None })
        }
        "humidity" => {
            let percent = payload.parse::<f64>().ok().filter(|h| (0.0..=100.0).contains(h))?;
            Some(set_humidity(percent.round() as u8))
        }
        "code" => Some(Order::Unlock { code: Secret(payload.to_owned()) }),
        "save" => Some(Order::Save { by: text.filter(|t| !t.is_empty()), hours: None, until: None }),
        "demand" if payload == "decline" => Some(Order::DemandDecline { name: None }),
        // A vacation, dear hours and what a utility asks for are no presets of Home Assistant's.
        "preset" if payload == "none" => Some(Order::EndHolds),
        "preset" => {
            Some(Order::Hold { to: To::default(), climate: text, fan: None, until: Some("next".into()), hours: None })
        }
        _ => None,
    }
}

/// Whether a device takes orders for a property.
fn takes(known: &Registered, property: Property) -> bool {
    known.description.properties.get(&property).is_some_and(|p| p.command)
}

fn word(on: bool) -> &'static str {
    if on { "on" } else { "off" }
}

/// What a device has said at any time; none when it has not, or is out of reach now.
fn said<'a>(gate: &'a GateState, device: &DeviceId, property: Property) -> Option<&'a home::Sample> {
    let is_there = gate.home.reported(device, Property::Reachable).is_none_or(|s| s.value != Value::Bool(false));
    gate.home.reported(device, property).filter(|_| is_there)
}

/// Whether a phone is at home, as its device has told at any time; none when it has not, or does not answer now.
fn at_home(gate: &GateState, device: &DeviceId) -> Option<bool> {
    match said(gate, device, Property::Occupancy)?.value {
        Value::Bool(home) => Some(home),
        _ => None,
    }
}

/// What a switch has said in this run; none when it has not, or does not answer.
fn switch(gate: &GateState, device: &DeviceId, since: Timestamp) -> Option<bool> {
    match said(gate, device, Property::OnOff).filter(|s| s.time >= since)?.value {
        Value::Bool(on) => Some(on),
        _ => None,
    }
}

/// When a sensor has said what, and whether it is out of reach.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Heard {
    temperature: Option<Timestamp>,
    humidity: Option<Timestamp>,
    presence: Option<Timestamp>,
    offline: bool,
}

/// All that a sensor has said in this run, and when.
fn sensor_reading(gate: &GateState, device: &DeviceId, since: Timestamp) -> Option<(Heard, SensorReading)> {
    let sample = |property| gate.home.reported(device, property).filter(|s| s.time >= since);
    let percent = |property| match sample(property).map(|s| &s.value) {
        Some(Value::Percent(hundredths)) => u8::try_from((hundredths + 50) / 100).ok(),
        _ => None,
    };
    let truth = |property| match sample(property).map(|s| &s.value) {
        Some(Value::Bool(truth)) => Some(*truth),
        _ => None,
    };
    let occupied = match (truth(Property::Motion), truth(Property::Occupancy)) {
        (None, None) => None,
        (a, b) => Some(a == Some(true) || b == Some(true)),
    };
    let offline = truth(Property::Reachable) == Some(false);
    let reading = SensorReading {
        temperature: sample(Property::LocalTemperature).and_then(|s| temperature(&s.value)),
        humidity: percent(Property::RelativeHumidity),
        occupied,
        battery: percent(Property::BatteryPercent),
        offline,
    };
    // A sensor whose battery is all that speaks is not heard anew.
    let time = |property| sample(property).map(|s| s.time);
    let heard = Heard {
        temperature: time(Property::LocalTemperature),
        humidity: time(Property::RelativeHumidity),
        presence: time(Property::Motion).max(time(Property::Occupancy)),
        offline,
    };
    let has_spoken = heard.temperature.or(heard.humidity).or(heard.presence).is_some();
    (has_spoken || offline).then_some((heard, reading))
}

fn temperature(value: &Value) -> Option<Temp> {
    match value {
        Value::Temperature(milli) => Some(Temp::from_milli_c(*milli)),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::thermostat::unit::tests::setup;

    #[test]
    fn a_silent_valve_hides_no_compressor_that_is_off() {
        let setup = setup(
            "name = \"Hall\"\nsensors = [\"hall\"]\nheat = \"pump\"\ncool = \"pump\"\nreversing_valve = \"valve\"\n\
             fan = \"fan\"\nhumidifier = \"damp\"",
        );
        let says = |states: &[(&str, bool)]| {
            let states = states.iter().map(|(id, on)| (DeviceId::new(*id).unwrap(), *on)).collect();
            heard_of(&setup, &states)
        };
        let pair = Call::of(&[Output::Heat1, Output::Cool1]);
        let beside = [("fan", true), ("damp", false)];
        let (off, silent) = says(&[&[("pump", false)], &beside[..]].concat());
        assert_eq!((off, silent), (Call::of(&[Output::Fan]), Call::NONE));
        let (_, silent) = says(&[&[("pump", true)], &beside[..]].concat());
        assert_eq!(silent, pair, "it heats or cools: nobody knows");
        let (_, silent) = says(&[&[("valve", true)], &beside[..]].concat());
        assert_eq!(silent, pair);
        let (on, silent) = says(&[("pump", true), ("valve", true), ("fan", true)]);
        assert_eq!(silent, Call::of(&[Output::Humidifier]));
        assert!(on.heats() != on.cools());
    }

    /// A relay keeps on by its beats, and is never told to be on in the step in which it may have dropped.
    #[test]
    fn a_relay_that_dropped_or_fell_silent_is_not_ordered_before_the_guard_has_heard_of_it() {
        let late = Instant::now().checked_sub(RELAY_GRACE).unwrap();
        let sent = |on, confirmed| Sent { on, at: late, mono_ms: 0, confirmed };
        let (now, beat) = (HEARTBEAT_MS / 2, HEARTBEAT_MS);
        for (sent, reported, on, mono_ms, ordered) in [
            (None, Some(false), true, now, Some(false)),
            (None, Some(false), false, now, None),
            (None, None, true, now, Some(false)),
            // It does as it was told: at a beat it is told again.
            (Some(sent(true, true)), Some(true), true, now, None),
            (Some(sent(true, true)), Some(true), true, beat, Some(true)),
            // It dropped, or is silent, since the guard looked.
            (Some(sent(true, true)), Some(false), true, now, None),
            (Some(sent(true, true)), Some(false), true, beat, None),
            (Some(sent(true, true)), None, true, beat, None),
            // The guard has heard of it and wants it on again.
            (Some(sent(true, false)), Some(false), true, now, Some(false)),
            // One that never says what it does is kept on.
            (Some(sent(true, false)), None, true, beat, Some(false)),
            (Some(sent(true, true)), Some(true), false, now, Some(false)),
        ] {
            let said = due(sent.as_ref(), reported, on, mono_ms);
            assert_eq!(said, ordered, "{sent:?} {reported:?} {on} {mono_ms}");
        }
    }
}
