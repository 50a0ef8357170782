//! A thermostat of the household: what it was set up as, what its members chose, and its state, in its own file. The running
//! hub and the command line alone use the same.

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

use comfort::event::{DR_RANDOM_MAX_S, QUICK_SAVE};
use comfort::guard::OUTPUTS;
use comfort::price::HEARD_NOW_MS;
use comfort::sensor::LeftOut;
use comfort::{
    About, Call, Caller, Climate, ClimateRef, Config, Counts, Decision, Delta, Demand, Event, FanMode, Heard, Hold,
    HoldType, HvacMode, Inputs, Now, Program, Temp, Thermostat,
};
use jiff::tz::TimeZone;
use model::{DeviceId, TemperatureScale, Timestamp};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};
use store::ThermostatStore;
use tokio::sync::{Notify, watch};

use super::code::{self, Door, Secret};
use crate::config::setup::{Setup, THERMOSTATS_MAX};
use crate::core::chain;

/// What somebody asks of the thermostat. Temperatures are as people write them: `21`, `21.5C`, `70F`.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum Order {
    /// All that there is to know.
    Status,
    /// Why it does what it does.
    Why,
    /// Changes what lasts: mode, fan, humidity; a temperature holds until the program changes.
    Set {
        /// off, heat, cool, auto, auxHeatOnly.
        mode: Option<String>,
        /// Set points.
        #[serde(default)]
        to: To,
        /// auto or on.
        fan: Option<String>,
        /// Least minutes of fan in each hour.
        fan_min: Option<u8>,
        /// The humidifier aims here, %; 0 is off.
        humidity: Option<u8>,
        /// The air is dried above this, %; 0 is off.
        dry_above: Option<u8>,
        /// Open windows: `pause` or `ignore`.
        #[serde(default)]
        windows: Option<String>,
    },
    /// Holds set points or a comfort setting.
    Hold {
        /// Set points.
        #[serde(default)]
        to: To,
        /// A comfort setting.
        climate: Option<String>,
        /// auto or on.
        fan: Option<String>,
        /// `next`, a time of today, a day and time; none: until resumed.
        until: Option<String>,
        /// For so many hours.
        hours: Option<u32>,
    },
    /// Ends the highest event, or all.
    Resume {
        /// All of them.
        #[serde(default)]
        all: bool,
    },
    /// Ends holds, and nothing else that runs.
    EndHolds,
    /// What the program tells whoever is told its set points, and what it costs to tell less.
    Privacy {
        /// Change the program.
        apply: bool,
    },
    /// The week.
    Program,
    /// Gives half hours a comfort setting.
    ProgramSet {
        /// Days, as in `mon` or `weekdays`.
        days: Vec<String>,
        /// As in `06:30`.
        from: String,
        /// As in `24:00`.
        to: String,
        /// The comfort setting.
        climate: String,
    },
    /// Copies a day to others.
    ProgramCopy {
        /// From.
        from: String,
        /// To.
        to: Vec<String>,
    },
    /// Changes a comfort setting, or makes one.
    ProgramClimate {
        /// Its name in the schedule.
        climate: String,
        /// Set points.
        to: To,
        /// Sensors that take part; empty: all.
        sensors: Option<Vec<String>>,
        /// auto or on.
        #[serde(default)]
        fan: Option<String>,
        /// Somebody is at home in it: yes or no.
        #[serde(default)]
        occupied: Option<String>,
        /// Least minutes of ventilation in each hour.
        #[serde(default)]
        ventilate_min: Option<u8>,
    },
    /// Takes a comfort setting away.
    ProgramRemove {
        /// Its name in the schedule.
        climate: String,
    },
    /// Vacations planned and under way.
    Vacations,
    /// Plans a vacation.
    VacationAdd {
        /// Its name.
        name: String,
        /// Set points.
        to: To,
        /// Begins.
        from: String,
        /// Ends.
        until: String,
    },
    /// Deletes a vacation.
    VacationDelete {
        /// Its name.
        name: String,
    },
    /// Set points give way at once.
    Save {
        /// By so many degrees.
        by: Option<String>,
        /// For so many hours.
        hours: Option<u32>,
        /// A time of today, a day and time; none: until resumed.
        until: Option<String>,
    },
    /// The alerts that stand.
    Alerts,
    /// Somebody has seen one.
    Acknowledge {
        /// Its number, from 1.
        number: usize,
    },
    /// The reminders.
    Reminders,
    /// Makes or changes one.
    ReminderSet {
        /// Its name.
        name: String,
        /// What it counts.
        of: String,
        /// Due after so many hours or days.
        after: u32,
    },
    /// What it reminds of is done.
    ReminderDone {
        /// Its name.
        name: String,
    },
    /// Takes one away.
    ReminderRemove {
        /// Its name.
        name: String,
    },
    /// Requests of utilities.
    Demands,
    /// A request of a utility, passed on by the household.
    DemandAdd(DemandWish),
    /// The household takes part.
    DemandAccept {
        /// The request's name.
        name: String,
    },
    /// It does not.
    DemandDecline {
        /// The request's name; none: all.
        name: Option<String>,
    },
    /// Whether there is an access code.
    Code,
    /// A new access code.
    CodeSet {
        /// The code.
        code: Secret,
    },
    /// No access code any more.
    CodeRemove,
    /// Somebody says the access code.
    Unlock {
        /// What they say.
        code: Secret,
    },
}

/// A request of a utility, as somebody writes it.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DemandWish {
    /// Its name: the same again is the same request.
    pub name: String,
    /// Begins; when it came first if it is not said.
    #[serde(default, alias = "start")]
    pub from: Option<String>,
    /// Ends.
    #[serde(default, alias = "end")]
    pub until: Option<String>,
    /// Set points give way by so many degrees.
    #[serde(default)]
    pub by: Option<Degrees>,
    /// It begins and ends up to so many seconds later, by chance.
    #[serde(default)]
    pub random_s: Option<u32>,
    /// The utility takes it back.
    #[serde(default)]
    pub cancel: bool,
}

/// Degrees as a text or a number.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(untagged)]
pub enum Degrees {
    /// As in `2`, `2C` or `4F`.
    Text(String),
    /// In the home's units.
    Number(f64),
}

impl Order {
    /// Whether it only looks.
    pub fn only_looks(&self) -> bool {
        matches!(
            self,
            Self::Status
                | Self::Why
                | Self::Program
                | Self::Vacations
                | Self::Alerts
                | Self::Reminders
                | Self::Demands
                | Self::Code
                | Self::Privacy { apply: false }
        )
    }

    /// Whether it can be asked of all thermostats of a home at once.
    pub fn is_of_all(&self) -> bool {
        matches!(self, Self::Status | Self::Why)
    }

    /// Whether it changes more than where the temperature is to be for now: a lock keeps that to the owners.
    fn is_owners(&self) -> bool {
        match self {
            Self::Set { mode, fan, fan_min, humidity, dry_above, windows, .. } => {
                let texts = [mode, fan, windows].into_iter().any(Option::is_some);
                texts || [fan_min, humidity, dry_above].into_iter().any(Option::is_some)
            }
            Self::Hold { .. } | Self::Resume { .. } | Self::EndHolds | Self::Save { .. } | Self::Unlock { .. } => false,
            Self::DemandDecline { .. } => false,
            _ => !self.only_looks(),
        }
    }
}

/// Set points as somebody writes them.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct To {
    /// One for both.
    pub temperature: Option<String>,
    /// Heating.
    pub heat: Option<String>,
    /// Cooling.
    pub cool: Option<String>,
}

/// What members chose beyond the set-up: it outlives restarts, and goes before the configuration.
#[derive(Clone, Debug, Serialize, Deserialize)]
struct Chosen {
    mode: HvacMode,
    program: Program,
    fan_min: u8,
    humidity: Option<u8>,
    dry_above: Option<u8>,
    #[serde(default)]
    ignore_windows: bool,
}

impl Chosen {
    fn of(config: &Config) -> Self {
        let s = &config.settings;
        Self {
            mode: s.hvac_mode,
            program: config.program.clone(),
            fan_min: s.fan_min_on_time,
            humidity: s.humidity,
            dry_above: s.dehumidifier_level,
            ignore_windows: s.open_window_bypass,
        }
    }

    fn apply(self, config: &mut Config, setup: &Setup) {
        if setup.takes(self.mode) {
            config.settings.hvac_mode = self.mode;
        }
        config.program = self.program;
        config.settings.fan_min_on_time = self.fan_min;
        config.settings.humidity = self.humidity;
        config.settings.dehumidifier_level = self.dry_above;
        config.settings.open_window_bypass = self.ignore_windows;
    }
}

struct Inner {
    thermostat: Thermostat,
    decision: Option<Decision>,
    inputs: Inputs,
    now: Option<Now>,
    /// What was known when a hub ran last.
    last: Option<Value>,
}

/// A thermostat of a data directory.
pub struct Unit {
    setup: Setup,
    zone: TimeZone,
    /// The last part of its topics at the broker: `thermostat`, or `thermostat-2`.
    pub word: String,
    /// Its file.
    pub path: PathBuf,
    /// Its name among the home's devices.
    pub device: DeviceId,
    /// Readings before this are of an earlier run.
    pub since: Timestamp,
    inner: Mutex<Inner>,
    /// What is stored is as new as what was stored before: held from what is changed, or looked at, until it is written.
    storing: Mutex<()>,
    door: Mutex<Door>,
    store: Mutex<ThermostatStore>,
    /// Something was asked: step at once.
    pub wake: Notify,
    /// A hub runs it.
    up: AtomicBool,
    /// Counts steps.
    pub steps: watch::Sender<u64>,
}

/// The two times of an order.
#[derive(Clone, Copy, Debug)]
pub struct Times {
    /// The hub's, which never steps back: by it the access code is guarded.
    pub now: Timestamp,
    /// That of the clock on the wall, which may be set back: program and events go by it.
    pub wall: Timestamp,
}

/// What a step came to.
pub struct Step {
    /// What is to be switched, and all else that was decided.
    pub decision: Decision,
    /// The relays are others than before.
    pub switched: bool,
    /// Alerts that are new.
    pub raised: Vec<String>,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The file of the n-th thermostat.
fn word(number: usize) -> String {
    if number == 1 { "thermostat".to_owned() } else { format!("thermostat-{number}") }
}

/// A thermostat's file, and as what it was set up last.
struct Found {
    number: usize,
    setup: Option<Setup>,
    /// It was in no configuration at the last start.
    gone: bool,
}

/// The thermostats' files that there are.
fn found(data: &Path) -> Result<Vec<Found>, String> {
    let mut all = Vec::new();
    for number in 1..=2 * THERMOSTATS_MAX {
        let path = data.join(format!("{}.db", word(number)));
        if path.exists() {
            let store = ThermostatStore::open(&path).map_err(|e| chain(&e))?;
            let get = |key: &str| store.state(key).map_err(|e| chain(&e));
            let setup = get("setup")?.and_then(|text| serde_json::from_str(&text).ok());
            let gone = get("gone")?.is_some_and(|text| text == "true");
            all.push(Found { number, setup, gone });
        }
    }
    Ok(all)
}

/// Whether a file may be a thermostat's.
type Rule<'a> = &'a dyn Fn(&Setup, &Setup) -> bool;

/// Which file is whose: by the name, or after a new name by what it switches or guides. What is new takes a file that nobody has.
fn assign(setups: &[Setup], found: &[Found]) -> Vec<usize> {
    let mut numbers = vec![0; setups.len()];
    let same_name = |a: &Setup, b: &Setup| a.name == b.name;
    let same_relays = |a: &Setup, b: &Setup| a.switches() == b.switches();
    let only_one = |_: &Setup, _: &Setup| setups.len() == 1 && found.len() == 1;
    let rules: [Rule<'_>; 3] = [&same_name, &same_relays, &only_one];
    for rule in rules {
        for index in 0..setups.len() {
            let free = |f: &&Found| !numbers.contains(&f.number);
            let fits = |f: &&Found| f.setup.as_ref().zip(setups.get(index)).is_some_and(|(a, b)| rule(a, b));
            let fitting = found.iter().filter(free).find(fits).map(|f| f.number);
            if let Some(number) = numbers.get_mut(index).filter(|n| **n == 0) {
                *number = fitting.unwrap_or(0);
            }
        }
    }
    for index in 0..setups.len() {
        // A file without a set-up holds what was imported before there was a thermostat.
        let unused = |n: &usize| !numbers.contains(n) && found.iter().all(|f| f.number != *n || f.setup.is_none());
        let free = (1..).find(unused).unwrap_or(1);
        if let Some(number) = numbers.get_mut(index).filter(|n| **n == 0) {
            *number = free;
        }
    }
    numbers
}

/// What a thermostat that is no longer configured has left at the broker.
pub struct Left {
    /// The retained topics.
    pub topics: Vec<String>,
    path: PathBuf,
}

impl Left {
    /// They were cleared.
    ///
    /// # Errors
    /// When its file can't be written.
    pub fn cleared(&self) -> Result<(), String> {
        let store = ThermostatStore::open(&self.path).map_err(|e| chain(&e))?;
        store.put_states(&[("announced", "[]")]).map_err(|e| chain(&e))
    }
}

/// What thermostats have left at the broker that are not among these.
///
/// # Errors
/// When a file can't be read.
pub fn left(data: &Path, units: &[std::sync::Arc<Unit>]) -> Result<Vec<Left>, String> {
    let mut all = Vec::new();
    for one in found(data)? {
        let path = data.join(format!("{}.db", word(one.number)));
        if units.iter().any(|u| u.path == path) {
            continue;
        }
        let store = ThermostatStore::open(&path).map_err(|e| chain(&e))?;
        if !one.gone {
            store.put_states(&[("gone", "true")]).map_err(|e| chain(&e))?;
        }
        let topics: Vec<String> = store
            .state("announced")
            .map_err(|e| chain(&e))?
            .and_then(|text| serde_json::from_str(&text).ok())
            .unwrap_or_default();
        if !topics.is_empty() {
            all.push(Left { topics, path });
        }
    }
    Ok(all)
}

impl Unit {
    /// Opens the thermostats of a data directory: as they are set up, or (for the command line alone) as they were last.
    ///
    /// # Errors
    /// When a file can't be used.
    pub fn open_all(
        data: &Path,
        setups: &[Setup],
        zone: &TimeZone,
        client_id: &str,
        now: Timestamp,
    ) -> Result<Vec<Self>, String> {
        let found = found(data)?;
        if setups.is_empty() {
            let last = found.iter().filter(|f| f.setup.is_some() && !f.gone);
            let all = last.map(|f| Self::open(data, f.number, None, zone, client_id, now));
            return Ok(all.collect::<Result<Vec<_>, _>>()?.into_iter().flatten().collect());
        }
        let numbers = assign(setups, &found);
        let all = setups.iter().zip(numbers).map(|(setup, n)| Self::open(data, n, Some(setup), zone, client_id, now));
        Ok(all.collect::<Result<Vec<_>, _>>()?.into_iter().flatten().collect())
    }

    fn open(
        data: &Path,
        number: usize,
        setup: Option<&Setup>,
        zone: &TimeZone,
        client_id: &str,
        now: Timestamp,
    ) -> Result<Option<Self>, String> {
        let word = word(number);
        let path = data.join(format!("{word}.db"));
        let store = ThermostatStore::open(&path).map_err(|e| chain(&e))?;
        let get = |key: &str| store.state(key).map_err(|e| chain(&e));
        let mut zone = zone.clone();
        let setup = match setup {
            Some(setup) => {
                let name = zone.iana_name().unwrap_or("UTC");
                let states = [("setup", to_text(setup)?), ("zone", name.to_owned()), ("gone", "false".to_owned())];
                let states: Vec<(&str, &str)> = states.iter().map(|(k, v)| (*k, v.as_str())).collect();
                store.put_states(&states).map_err(|e| chain(&e))?;
                setup.clone()
            }
            None => match get("setup")?.map(|text| serde_json::from_str(&text)) {
                Some(Ok(setup)) => {
                    zone = get("zone")?.and_then(|name| TimeZone::get(&name).ok()).unwrap_or(zone);
                    setup
                }
                Some(Err(_)) | None => return Ok(None),
            },
        };
        let mut config = setup.config();
        if let Some(text) = get("chosen")? {
            let chosen: Chosen = serde_json::from_str(&text)
                .map_err(|e| format!("`{}` holds a program that this version can't read: {e}", path.display()))?;
            chosen.apply(&mut config, &setup);
        }
        let thermostat = match get("state")? {
            None => Thermostat::new(config, zone.clone()),
            Some(text) => {
                let mut saved: Value = serde_json::from_str(&text).unwrap_or_default();
                if let (Some(saved), Some(learner)) = (saved.as_object_mut(), get("learner")?) {
                    saved.insert("learner".into(), serde_json::from_str(&learner).unwrap_or_default());
                }
                let load = |saved: &Value| Thermostat::load(config.clone(), zone.clone(), saved);
                let whole = load(&saved).or_else(|error| {
                    tracing::error!(%error, "what was learned of the house may be what can't be read: it is learned anew");
                    saved.as_object_mut().map(|saved| saved.remove("learner"));
                    load(&saved)
                });
                whole.unwrap_or_else(|error| {
                    tracing::error!(%error, "holds are lost");
                    Thermostat::new(config.clone(), zone.clone())
                })
            }
        };
        let last = get("last")?.and_then(|text| serde_json::from_str(&text).ok());
        let device = DeviceId::new(format!("{client_id}-{word}")).map_err(|e| e.to_string())?;
        let door = get("code")?.and_then(|text| serde_json::from_str(&text).ok()).unwrap_or_default();
        let inner = Inner { thermostat, decision: None, inputs: Inputs::default(), now: None, last };
        Ok(Some(Self {
            setup,
            zone,
            word,
            path,
            device,
            since: now,
            inner: Mutex::new(inner),
            storing: Mutex::default(),
            door: Mutex::new(door),
            store: Mutex::new(store),
            wake: Notify::new(),
            up: AtomicBool::new(false),
            steps: watch::Sender::new(0),
        }))
    }

    /// Whether a hub runs it.
    pub fn is_running(&self) -> bool {
        self.up.load(Ordering::SeqCst)
    }

    /// The comfort settings, as Home Assistant's presets.
    pub fn presets(&self) -> Vec<String> {
        lock(&self.inner).thermostat.config().program.climates().iter().map(|c| c.climate_ref.to_string()).collect()
    }

    /// The alerts that stand, in words.
    pub fn alert_texts(&self) -> Vec<String> {
        lock(&self.inner).thermostat.alerts().all().iter().map(|a| a.text.clone()).collect()
    }

    /// What it was set up as.
    pub fn setup(&self) -> &Setup {
        &self.setup
    }

    /// A hub runs it from now on, and finds out what the relays do.
    pub fn set_up(&self) {
        self.up.store(true, Ordering::SeqCst);
    }

    /// The hub goes on with it; `reported` is what the relays say that they do.
    pub fn begin(&self, reported: Option<Call>) {
        lock(&self.inner).thermostat.begin(reported);
    }

    /// Hears a sensor.
    pub fn hear(&self, sensor: &str, reading: &comfort::SensorReading, mono_ms: u64) {
        lock(&self.inner).thermostat.hear(sensor, reading, mono_ms);
    }

    /// One step.
    pub fn step(&self, now: Now, inputs: Inputs, faults: &[(About, Option<String>)]) -> Step {
        let mut inner = lock(&self.inner);
        let known: Vec<About> = inner.thermostat.alerts().all().iter().map(|a| a.about.clone()).collect();
        for (about, text) in faults {
            inner.thermostat.fault(about.clone(), text.as_deref(), now.wall_ms);
        }
        let decision = inner.thermostat.tick(&now, &inputs);
        let switched = inner.decision.as_ref().map(|d| d.relays) != Some(decision.relays);
        let alerts = inner.thermostat.alerts().all().iter();
        let raised = alerts.filter(|a| !known.contains(&a.about)).map(|a| a.text.clone()).collect();
        (inner.decision, inner.inputs, inner.now) = (Some(decision.clone()), inputs, Some(now));
        drop(inner);
        self.steps.send_modify(|n| *n += 1);
        Step { decision, switched, raised }
    }

    /// Keeps it over a restart; with what was learned if asked, which is large.
    ///
    /// # Errors
    /// When its file can't be written.
    pub fn save(&self, with_learned: bool) -> Result<(), String> {
        let _one = lock(&self.storing);
        self.write(with_learned)
    }

    /// The caller holds `storing`.
    fn write(&self, with_learned: bool) -> Result<(), String> {
        let (state, last) = {
            let inner = lock(&self.inner);
            (serde_json::to_value(inner.thermostat.save()), self.status(&inner))
        };
        let mut state = state.map_err(|e| e.to_string())?;
        let learner = state.as_object_mut().and_then(|s| s.remove("learner")).unwrap_or_default().to_string();
        let (state, last) = (state.to_string(), last.to_string());
        let mut all = vec![("state", state.as_str()), ("last", last.as_str())];
        if with_learned {
            all.push(("learner", learner.as_str()));
        }
        lock(&self.store).put_states(&all).map_err(|e| chain(&e))
    }

    /// Adds five minutes to the history.
    ///
    /// # Errors
    /// When its file can't be written.
    pub fn note(&self, interval: &comfort::Interval) -> Result<(), String> {
        let text = to_text(interval)?;
        lock(&self.store).put_interval(interval.at_ms, &text).map_err(|e| chain(&e))
    }

    /// What it shows at the broker: the state of a climate device, in Home Assistant's words.
    pub fn shown(&self) -> Value {
        let inner = lock(&self.inner);
        let Some(d) = &inner.decision else { return Value::Null };
        let scale = self.scale();
        let degrees = |t: Temp| f64::from(t.tenths(scale)) / 10.0;
        let (heat, cool) = (degrees(d.set_points.heat()), degrees(d.set_points.cool()));
        let single = match d.mode {
            HvacMode::Heat | HvacMode::AuxHeatOnly => json!(heat),
            HvacMode::Cool => json!(cool),
            HvacMode::Auto | HvacMode::Off => Value::Null,
        };
        let (low, high) =
            if d.mode == HvacMode::Auto { (json!(heat), json!(cool)) } else { (Value::Null, Value::Null) };
        let now_ms = inner.now.map_or(0, |n| n.wall_ms);
        let held = inner.thermostat.events().running(now_ms).find_map(|e| e.hold_climate_ref.clone());
        let preset = held.filter(|_| d.source.event.is_some());
        let action = match running(d) {
            "auxHeat" => Some("heating"),
            "unknown" => None,
            word => Some(word),
        };
        json!({
            "current_temperature": d.temperature.map(degrees), "humidity": d.humidity, "temperature": single,
            "low": low, "high": high, "mode": home_assistant_mode(d.mode), "action": action,
            "preset": preset.map_or_else(|| "none".to_owned(), |c| c.to_string()),
            "fan": d.fan, "target_humidity": inner.thermostat.config().settings.humidity,
            "why": d.reason.as_str(),
            "alerts": inner.thermostat.alerts().all().iter().map(|a| &a.text).collect::<Vec<_>>(),
        })
    }

    /// What it has retained at the broker is kept, so that it can be cleared when it is no longer there. What was before.
    ///
    /// # Errors
    /// When its file can't be written.
    pub fn announce(&self, topics: &[String]) -> Result<Vec<String>, String> {
        let store = lock(&self.store);
        let before: Vec<String> = store
            .state("announced")
            .map_err(|e| chain(&e))?
            .and_then(|text| serde_json::from_str(&text).ok())
            .unwrap_or_default();
        if before != topics {
            store.put_states(&[("announced", &to_text(&topics)?)]).map_err(|e| chain(&e))?;
        }
        Ok(before)
    }

    /// Hears prices: a number, which holds for an hour or until the next, or a list of spans.
    ///
    /// # Errors
    /// When it is neither, or too long.
    pub fn hear_prices(&self, text: &str, now: Times) -> Result<(), String> {
        let wall_ms = {
            let inner = lock(&self.inner);
            self.at(&inner, now).wall_ms
        };
        let heard: Vec<Heard> = match text.trim().parse::<f64>() {
            Ok(price) => vec![Heard { start_ms: wall_ms, end_ms: wall_ms.saturating_add(HEARD_NOW_MS), price }],
            Err(_) => {
                let spans: Vec<Span> = serde_json::from_str(text)
                    .map_err(|e| format!("prices are a number or a list of {{\"start\", \"end\", \"price\"}}: {e}"))?;
                self.spans(&spans, wall_ms)?
            }
        };
        let mut inner = lock(&self.inner);
        let at = self.at(&inner, now);
        match inner.thermostat.hear_prices(&heard, &at).map_err(|e| chain(&e))? {
            0 => Err("none of the prices is of these days".into()),
            _ => Ok(()),
        }
    }

    fn spans(&self, spans: &[Span], wall_ms: i64) -> Result<Vec<Heard>, String> {
        let mut heard = Vec::with_capacity(spans.len());
        for (index, span) in spans.iter().enumerate() {
            let start_ms = self.instant(&span.start, wall_ms)?;
            // Without its own end it lasts until the next begins.
            let end_ms = match (&span.end, spans.get(index + 1)) {
                (Some(end), _) => self.instant(end, wall_ms)?,
                (None, Some(next)) => self.instant(&next.start, wall_ms)?,
                (None, None) => start_ms.saturating_add(HEARD_NOW_MS),
            };
            heard.push(Heard { start_ms, end_ms, price: span.price });
        }
        Ok(heard)
    }

    fn at(&self, inner: &Inner, now: Times) -> Now {
        let wall_ms = now.wall.as_millis();
        // Before the first step nobody knows whether the clock is right: it goes on from what is known.
        let at = inner.now.unwrap_or(Now { wall_ms, mono_ms: 0, trusted: !self.is_running() });
        let now = Now { wall_ms, ..at };
        Now { wall_ms: inner.thermostat.wall(&now), ..now }
    }

    /// Somebody says the access code, or it is changed. Hashing is slow on purpose: nothing else waits for it.
    fn door(&self, order: &Order, now: Timestamp) -> Option<Result<Value, String>> {
        let mut door = lock(&self.door);
        let keep = |door: &Door| {
            to_text(door).and_then(|t| lock(&self.store).put_states(&[("code", &t)]).map_err(|e| chain(&e)))
        };
        let done = match order {
            Order::Code => return Some(Ok(door.shown(now))),
            Order::CodeSet { code } => door.set(code),
            Order::CodeRemove => {
                *door = Door::default();
                Ok(())
            }
            // Counted durably before it is looked at.
            Order::Unlock { code } => door.knock(now).and_then(|()| keep(&door)).and_then(|()| door.open(code, now)),
            _ => return None,
        };
        let kept = keep(&door);
        Some(done.and(kept).map(|()| door.shown(now)))
    }

    /// Carries an order out, or answers a question.
    ///
    /// # Errors
    /// Why not, in words for a person.
    pub fn order(&self, order: &Order, caller: Caller<'_>, times: Times) -> Result<Value, String> {
        let now = times.now;
        if !matches!(order, Order::Unlock { .. }) && !caller.owner && order.is_owners() && self.setup.lock.is_some() {
            if !lock(&self.door).is_open(now) {
                return Err(format!(
                    "the thermostat is locked: {} sets temperatures within its range only",
                    caller.name
                ));
            }
        } else if let Some(done) = self.door(order, now) {
            return done;
        }
        let caller = Caller { owner: caller.owner || lock(&self.door).is_open(now), ..caller };
        let _one = (!order.only_looks()).then(|| lock(&self.storing));
        let answer = {
            let mut inner = lock(&self.inner);
            let at = self.at(&inner, times);
            // What is refused has changed nothing.
            let before = (!order.only_looks()).then(|| inner.thermostat.clone());
            let done = self.carry_out(&mut inner, order, caller, &at);
            if let (Err(_), Some(before)) = (&done, before) {
                inner.thermostat = before;
            }
            done?
        };
        if !order.only_looks() {
            let chosen = to_text(&Chosen::of(lock(&self.inner).thermostat.config()));
            let put = |text: String| lock(&self.store).put_states(&[("chosen", &text)]).map_err(|e| chain(&e));
            let stored = chosen.and_then(put).and_then(|()| self.write(false));
            self.wake.notify_one();
            stored.map_err(|error| format!("it is done, and could not be stored: a restart would undo it: {error}"))?;
        }
        Ok(answer)
    }

    fn carry_out(&self, inner: &mut Inner, order: &Order, caller: Caller<'_>, now: &Now) -> Result<Value, String> {
        let text = |e: &dyn std::error::Error| chain(e);
        match order {
            Order::Status => return Ok(self.status_now(inner)),
            Order::Why => return Ok(self.why(inner)),
            Order::Program => return Ok(self.program(inner)),
            Order::Privacy { apply } => return self.privacy(inner, *apply),
            Order::Vacations => {
                return Ok(Value::Array(self.events(inner, |e| e.event_type == comfort::EventType::Vacation)));
            }
            Order::Alerts => return Ok(Value::Array(self.alerts(inner))),
            Order::Reminders => return Ok(Self::reminders(inner)),
            Order::Demands => return Ok(self.demands(inner, now)),
            Order::Code | Order::CodeSet { .. } | Order::CodeRemove | Order::Unlock { .. } => {
                return Err("it was asked at the wrong door".into());
            }
            Order::Save { by, hours, until } => {
                let by = by.as_ref().map_or(Ok(QUICK_SAVE), |by| self.difference(by))?;
                let end_ms = match (hours, until) {
                    (Some(_), Some(_)) => return Err("give --until or --hours".into()),
                    (Some(hours), None) => Some(now.wall_ms.saturating_add(i64::from(*hours) * 3_600_000)),
                    (None, Some(time)) => Some(self.instant(time, now.wall_ms)?),
                    (None, None) => None,
                };
                inner.thermostat.quick_save(by, end_ms, caller, now).map_err(|e| text(&e))?;
            }
            Order::Acknowledge { number } => {
                let none = || format!("there is no alert {number}; `vestibule thermostat alert` lists them");
                inner.thermostat.acknowledge(*number).ok_or_else(none)?;
                return Ok(Value::Array(self.alerts(inner)));
            }
            Order::ReminderSet { name, of, after } => {
                let words = Counts::ALL.map(Counts::as_str).join(", ");
                let counts = Counts::parse(of).ok_or_else(|| format!("`{of}` is none of {words}"))?;
                inner.thermostat.reminders_mut().put(name, counts, *after).map_err(|e| text(&e))?;
                return Ok(Self::reminders(inner));
            }
            Order::ReminderDone { name } | Order::ReminderRemove { name } => {
                let reminders = inner.thermostat.reminders_mut();
                let found = match order {
                    Order::ReminderDone { .. } => reminders.done(name),
                    _ => reminders.remove(name),
                };
                if !found {
                    return Err(format!("there is no reminder `{name}`; `vestibule thermostat reminder` lists them"));
                }
                return Ok(Self::reminders(inner));
            }
            Order::DemandAdd(wish) => {
                self.demand(inner, wish, caller.name, now)?;
                return Ok(self.demands(inner, now));
            }
            Order::DemandAccept { name } => {
                if !inner.thermostat.accept_demand_response(name, now).map_err(|e| text(&e))? {
                    return Err(format!("there is no request `{name}`; `vestibule thermostat demand` lists them"));
                }
                return Ok(self.demands(inner, now));
            }
            Order::DemandDecline { name } => {
                if !inner.thermostat.decline_demand_response(name.as_deref()) && name.is_some() {
                    return Err("there is no such request; `vestibule thermostat demand` lists them".into());
                }
                return Ok(self.demands(inner, now));
            }
            Order::Set { mode, to, fan, fan_min, humidity, dry_above, windows } => {
                let mut config = inner.thermostat.config().clone();
                let mut changed = false;
                if let Some(word) = mode {
                    config.settings.hvac_mode = self.mode(word)?;
                    inner.thermostat.set_mode(config.settings.hvac_mode);
                    changed = true;
                }
                if let Some(word) = fan {
                    let fan = fan_mode(word)?;
                    for climate in config.program.climates().to_vec() {
                        config.program.put_climate(Climate { fan, ..climate }).map_err(|e| text(&e))?;
                    }
                    changed = true;
                }
                if let Some(minutes) = fan_min {
                    if *minutes > 60 {
                        return Err("an hour has 60 minutes".into());
                    }
                    (config.settings.fan_min_on_time, changed) = (*minutes, true);
                }
                let percent = |given: u8| {
                    if given > 100 { Err("write a percentage") } else { Ok(Some(given).filter(|p| *p > 0)) }
                };
                if let Some(given) = humidity {
                    (config.settings.humidity, changed) = (percent(*given)?, true);
                }
                if let Some(given) = dry_above {
                    (config.settings.dehumidifier_level, changed) = (percent(*given)?, true);
                }
                if let Some(word) = windows {
                    config.settings.open_window_bypass = match word.as_str() {
                        "pause" => false,
                        "ignore" => true,
                        _ => return Err(format!("`{word}` is neither pause nor ignore")),
                    };
                    changed = true;
                }
                if changed {
                    inner.thermostat.configure(config);
                }
                if to.temperature.is_some() || to.heat.is_some() || to.cool.is_some() {
                    let hold = self.hold(inner, to, caller)?;
                    inner.thermostat.set_hold(&hold, HoldType::NextTransition, caller, now).map_err(|e| text(&e))?;
                } else if !changed {
                    return Err(
                        "give a temperature, --mode, --fan, --fan-min, --humidity, --dry-above or --windows".into()
                    );
                }
            }
            Order::Hold { to, climate, fan, until, hours } => {
                let mut hold = self.hold(inner, to, caller)?;
                if let Some(name) = climate {
                    hold = Hold { climate: Some(ClimateRef::new(name)), ..hold };
                }
                hold.fan = fan.as_deref().map(fan_mode).transpose()?;
                if hold == Hold::default() {
                    let d = inner.decision.as_ref().ok_or("give a temperature or --climate: the hub does not run")?;
                    hold = Hold { heat: Some(d.undisturbed.heat()), cool: Some(d.undisturbed.cool()), ..hold };
                }
                let kind = match (hours, until.as_deref()) {
                    (Some(_), Some(_)) => return Err("give --until or --hours".into()),
                    (Some(hours), None) => HoldType::HoldHours(*hours),
                    (None, None) => HoldType::Indefinite,
                    (None, Some("next")) => HoldType::NextTransition,
                    (None, Some(time)) => {
                        HoldType::DateTime { start_ms: now.wall_ms, end_ms: self.instant(time, now.wall_ms)? }
                    }
                };
                inner.thermostat.set_hold(&hold, kind, caller, now).map_err(|e| text(&e))?;
            }
            Order::EndHolds => {
                let ended = inner.thermostat.end_holds(caller, now);
                return Ok(json!({"ended": ended.iter().map(|e| self.event(e)).collect::<Vec<_>>()}));
            }
            Order::Resume { all } => {
                let ended = inner.thermostat.resume(*all, caller, now).map_err(|e| text(&e))?;
                return Ok(json!({"ended": ended.iter().map(|e| self.event(e)).collect::<Vec<_>>()}));
            }
            Order::ProgramSet { days, from, to, climate } => {
                let (from, to) = (slot(from)?, slot(to)?);
                let climate = ClimateRef::new(climate);
                return self.reprogram(inner, |program| {
                    for day in week_days(days)? {
                        program.set(day, from, to, &climate).map_err(|e| chain(&e))?;
                    }
                    Ok(())
                });
            }
            Order::ProgramCopy { from, to } => {
                let [from] = week_days(std::slice::from_ref(from))?[..] else { return Err("copy from one day".into()) };
                return self.reprogram(inner, |program| program.copy_day(from, &week_days(to)?).map_err(|e| chain(&e)));
            }
            Order::ProgramClimate { climate, to, sensors, fan, occupied, ventilate_min } => {
                let given = self.hold_raw(to)?;
                let fan = fan.as_deref().map(fan_mode).transpose()?;
                let occupied = match occupied.as_deref() {
                    None => None,
                    Some("yes") => Some(true),
                    Some("no") => Some(false),
                    Some(word) => return Err(format!("`{word}` is neither yes nor no")),
                };
                if ventilate_min.is_some_and(|minutes| minutes > 60) {
                    return Err("an hour has 60 minutes".into());
                }
                let reference = ClimateRef::new(climate);
                for id in sensors.iter().flatten() {
                    if !self.setup.sensors.iter().any(|s| s.id == *id) {
                        return Err(format!("`{id}` is no sensor of this thermostat"));
                    }
                }
                return self.reprogram(inner, |program| {
                    let old = program.find(&reference).cloned();
                    let mut new = match (old, given.heat, given.cool) {
                        (Some(old), _, _) => old,
                        (None, Some(heat_temp), Some(cool_temp)) => Climate {
                            name: climate.clone(),
                            climate_ref: reference.clone(),
                            is_occupied: true,
                            heat_temp,
                            cool_temp,
                            fan: FanMode::Auto,
                            ventilator_min_on_time: None,
                            sensors: Vec::new(),
                        },
                        _ => return Err(format!("`{climate}` is new: give --heat and --cool")),
                    };
                    new.heat_temp = given.heat.unwrap_or(new.heat_temp);
                    new.cool_temp = given.cool.unwrap_or(new.cool_temp);
                    new.sensors = sensors.clone().unwrap_or(new.sensors);
                    new.fan = fan.unwrap_or(new.fan);
                    new.is_occupied = occupied.unwrap_or(new.is_occupied);
                    new.ventilator_min_on_time = ventilate_min.or(new.ventilator_min_on_time);
                    program.put_climate(new).map_err(|e| chain(&e))
                });
            }
            Order::ProgramRemove { climate } => {
                return self.reprogram(inner, |program| {
                    program.remove_climate(&ClimateRef::new(climate)).map_err(|e| chain(&e))
                });
            }
            Order::VacationAdd { name, to, from, until } => {
                let given = self.hold_raw(to)?;
                let (Some(heat), Some(cool)) = (given.heat, given.cool) else {
                    return Err("a vacation needs --heat and --cool".into());
                };
                let times = (self.instant(from, now.wall_ms)?, self.instant(until, now.wall_ms)?);
                inner.thermostat.create_vacation(name, (heat, cool), times, caller).map_err(|e| text(&e))?;
            }
            Order::VacationDelete { name } => {
                if !inner.thermostat.delete_vacation(name) {
                    return Err(format!("there is no vacation `{name}`; `vestibule thermostat vacation` lists them"));
                }
            }
        }
        Ok(json!({"events": self.events(inner, |_| true)}))
    }

    /// A utility's request. The delay is drawn here, and kept with it.
    fn demand(&self, inner: &mut Inner, wish: &DemandWish, by: &str, now: &Now) -> Result<(), String> {
        let name = wish.name.as_str();
        if name.is_empty() || name.chars().count() > DEMAND_NAME_MAX_CHARS || name.chars().any(char::is_control) {
            return Err(format!("a request has a name of 1 to {DEMAND_NAME_MAX_CHARS} characters"));
        }
        if wish.cancel {
            inner.thermostat.cancel_demand_response(name);
            return Ok(());
        }
        let until = wish.until.as_deref().ok_or("a request needs its end")?;
        let start_ms = match wish.from.as_deref() {
            Some(from) => self.instant(from, now.wall_ms)?,
            // It begins when it came first.
            None => inner.thermostat.demand_start(name).unwrap_or(now.wall_ms),
        };
        let end_ms = self.instant(until, start_ms)?;
        let relative = match &wish.by {
            None => Delta::from_milli_k(DEMAND_MILLI_K),
            Some(Degrees::Text(text)) => self.difference(text)?,
            Some(Degrees::Number(degrees)) => self.difference(&degrees.to_string())?,
        };
        let most = wish.random_s.unwrap_or(0).min(DR_RANDOM_MAX_S);
        let delay_s = (code::random_below(most + 1)?, code::random_below(most + 1)?);
        let demand = Demand { name, start_ms, end_ms, relative, delay_s, by };
        inner.thermostat.demand_response(&demand, now).map_err(|e| chain(&e))?;
        Ok(())
    }

    fn privacy(&self, inner: &mut Inner, apply: bool) -> Result<Value, String> {
        let mut config = inner.thermostat.config().clone();
        let house = *inner.thermostat.learner().model();
        let offer = comfort::privacy::offer(&config.program, &config.settings, &house)
            .ok_or("the program has no comfort setting in which somebody is at home")?;
        if apply {
            config.program = comfort::privacy::taken(&config.program, &offer);
            inner.thermostat.configure(config);
        }
        let round = |n: f64| (n * 100.0).round() / 100.0;
        let both = |(now, then): (Temp, Temp)| json!({"now": self.degrees(now), "then": self.degrees(then)});
        let changes: Vec<Value> = offer
            .changes
            .iter()
            .map(|c| json!({"climate": c.climate, "heat": both(c.heat), "cool": both(c.cool), "hours_a_week": c.hours}))
            .collect();
        Ok(json!({
            "heat_steps": offer.heat_steps, "cool_steps": offer.cool_steps, "changes": changes,
            "comfort_kh_per_day": round(offer.comfort_kh_per_day), "heating_h_per_day": round(offer.heating_h_per_day),
            "cooling_h_per_day": round(offer.cooling_h_per_day), "applied": apply,
            "learned": inner.thermostat.house().samples > 0,
        }))
    }

    fn reprogram(
        &self,
        inner: &mut Inner,
        change: impl FnOnce(&mut Program) -> Result<(), String>,
    ) -> Result<Value, String> {
        let mut config = inner.thermostat.config().clone();
        change(&mut config.program)?;
        inner.thermostat.configure(config);
        Ok(self.program(inner))
    }

    fn scale(&self) -> TemperatureScale {
        self.setup.settings.scale
    }

    fn mode(&self, word: &str) -> Result<HvacMode, String> {
        let mode = HvacMode::parse(word)
            .ok_or_else(|| format!("`{word}` is no mode; write off, heat, cool, auto or auxHeatOnly"))?;
        if self.setup.takes(mode) { Ok(mode) } else { Err(format!("there is no equipment for the mode {word}")) }
    }

    /// A temperature as people write it.
    fn temperature(&self, text: &str) -> Result<Temp, String> {
        let bare = text.trim().trim_end_matches(['C', 'c', 'F', 'f']).trim_end_matches('°').trim();
        let scale = match text.trim().chars().last() {
            Some('C' | 'c') => TemperatureScale::Celsius,
            Some('F' | 'f') => TemperatureScale::Fahrenheit,
            _ => self.scale(),
        };
        let tenths = bare.parse::<f64>().ok().filter(|t| t.abs() < 1000.0).map(|t| (t * 10.0).round() as i32);
        tenths
            .map(|tenths| Temp::from_tenths(tenths, scale))
            .ok_or_else(|| format!("`{text}` is no temperature; write 21, 21.5C or 70F"))
    }

    /// A difference as people write it: `2`, `2C`, `4F`.
    fn difference(&self, text: &str) -> Result<Delta, String> {
        let bare = text.trim().trim_end_matches(['C', 'c', 'F', 'f', 'K', 'k']).trim_end_matches('°').trim();
        let scale = match text.trim().chars().last() {
            Some('C' | 'c' | 'K' | 'k') => TemperatureScale::Celsius,
            Some('F' | 'f') => TemperatureScale::Fahrenheit,
            _ => self.scale(),
        };
        let wrong = || format!("`{text}` is no number of degrees; write 2, 2C or 4F");
        let degrees = bare.parse::<f64>().ok().filter(|d| (0.0..100.0).contains(d)).ok_or_else(wrong)?;
        let kelvin = if scale == TemperatureScale::Fahrenheit { degrees / 1.8 } else { degrees };
        Ok(Delta::from_milli_k((kelvin * 1000.0).round() as i32))
    }

    /// Set points, each within its range.
    fn hold_raw(&self, to: &To) -> Result<Hold, String> {
        let scale = self.scale();
        let within = |text: &Option<String>, (low, high): (Temp, Temp), what: &str| {
            let Some(text) = text else { return Ok(None) };
            let t = self.temperature(text)?;
            if t < low || t > high {
                return Err(format!("{what} goes from {} to {}", low.text(scale), high.text(scale)));
            }
            Ok(Some(t))
        };
        let s = &self.setup.settings;
        let (heat, cool) = (within(&to.heat, s.heat_range, "heating")?, within(&to.cool, s.cool_range, "cooling")?);
        let both = match (
            self.setup.takes(HvacMode::Heat) || self.setup.equipment.has_aux,
            self.setup.takes(HvacMode::Cool),
        ) {
            (true, false) => s.heat_range,
            (false, true) => s.cool_range,
            _ => (s.heat_range.0.min(s.cool_range.0), s.heat_range.1.max(s.cool_range.1)),
        };
        match within(&to.temperature, both, "a set point")? {
            Some(_) if heat.is_some() || cool.is_some() => Err("give one temperature, or --heat and --cool".into()),
            Some(t) => Ok(Hold::at(t)),
            None => Ok(Hold { heat, cool, ..Hold::default() }),
        }
    }

    /// The same; where one of two is given, the other stays where it is, or is left to the program where the lock would not let the
    /// caller set it there.
    fn hold(&self, inner: &Inner, to: &To, caller: Caller<'_>) -> Result<Hold, String> {
        let mut hold = self.hold_raw(to)?;
        // Where power is dear, what gives way to it is no wish of anybody's.
        if let (Some(now), true) = (inner.decision.as_ref().map(|d| d.undisturbed), hold != Hold::default()) {
            // In automatic change-over one number stands in the middle: the set points move together.
            if let (HvacMode::Auto, Some(middle)) = (inner.thermostat.config().settings.hvac_mode, &to.temperature) {
                let middle = self.temperature(middle)?;
                let half = Delta::from_milli_k((now.cool().milli_c() - now.heat().milli_c()) / 2);
                return Ok(Hold { heat: Some(middle.minus(half)), cool: Some(middle.plus(half)), ..hold });
            }
            let lock = self.setup.lock.filter(|_| !caller.owner);
            let theirs = |t: Temp| Some(t).filter(|t| lock.is_none_or(|(low, high)| (low..=high).contains(t)));
            hold.heat = hold.heat.or(theirs(now.heat()));
            hold.cool = hold.cool.or(theirs(now.cool()));
        }
        Ok(hold)
    }

    /// An instant as people write it: `22:00` (the next one), `2026-12-24`, `2026-12-24T18:00`, or with an offset.
    fn instant(&self, text: &str, now_ms: i64) -> Result<i64, String> {
        let wrong = || format!("`{text}` is no time; write 22:00, 2026-12-24 or 2026-12-24T18:00");
        if let Ok(exact) = text.parse::<jiff::Timestamp>() {
            return Ok(exact.as_millisecond());
        }
        let in_zone = |civil: jiff::civil::DateTime| {
            let zoned = self.zone.to_ambiguous_zoned_datetime(civil).compatible().map_err(|_| wrong())?;
            Ok(zoned.timestamp().as_millisecond())
        };
        // A day with a time parses as a time alone, too.
        if let (false, Ok(time)) = (text.contains('-'), text.parse::<jiff::civil::Time>()) {
            let now = jiff::Timestamp::from_millisecond(now_ms).map_err(|_| wrong())?;
            let today = self.zone.to_datetime(now).date();
            let at = in_zone(today.to_datetime(time))?;
            let tomorrow = today.tomorrow().map_err(|_| wrong())?;
            return if at > now_ms { Ok(at) } else { in_zone(tomorrow.to_datetime(time)) };
        }
        if let Ok(civil) = text.replace(' ', "T").parse::<jiff::civil::DateTime>() {
            return in_zone(civil);
        }
        let date: jiff::civil::Date = text.parse().map_err(|_| wrong())?;
        in_zone(date.at(0, 0, 0, 0))
    }

    // Answers.

    fn degrees(&self, t: Temp) -> f64 {
        f64::from(t.tenths(self.scale())) / 10.0
    }

    fn event(&self, e: &Event) -> Value {
        json!({
            "id": e.id, "type": e.event_type, "name": e.name, "by": e.by, "start": rfc3339(e.start_ms),
            "end": e.end_ms.map(rfc3339), "climate": e.hold_climate_ref, "heat": e.heat_hold_temp.map(|t| self.degrees(t)),
            "cool": e.cool_hold_temp.map(|t| self.degrees(t)), "fan": e.fan,
        })
    }

    fn alerts(&self, inner: &Inner) -> Vec<Value> {
        let alerts = inner.thermostat.alerts().all().iter().enumerate();
        alerts
            .map(|(index, a)| {
                json!({
                    "number": index + 1, "about": a.about, "text": a.text, "since": rfc3339(a.since_ms),
                    "acknowledged": a.acknowledged,
                })
            })
            .collect()
    }

    fn reminders(inner: &Inner) -> Value {
        let reminders = inner.thermostat.reminders();
        let all = reminders.all().iter().map(|r| {
            let used = (r.used() * 10.0).round() / 10.0;
            let unit = if r.counts == Counts::Days { "days" } else { "hours" };
            json!({"name": r.name, "of": r.counts, "used": used, "after": r.life, "unit": unit, "due": r.due()})
        });
        Value::Array(all.collect())
    }

    fn demands(&self, inner: &Inner, now: &Now) -> Value {
        let all = inner.thermostat.demands(now).map(|a| {
            let scale = self.scale();
            let factor = if scale == TemperatureScale::Fahrenheit { 1.8 } else { 1.0 };
            let (start_s, end_s) = a.delay_s;
            json!({
                "name": a.name, "by": a.by, "answer": a.answer, "start": rfc3339(a.start_ms), "end": rfc3339(a.end_ms),
                "start_delay_s": start_s, "end_delay_s": end_s, "degrees": (a.relative.kelvin() * factor * 10.0).round() / 10.0,
            })
        });
        Value::Array(all.collect())
    }

    /// Minutes until the set point is reached by what runs, as the house was learned.
    fn minutes(&self, inner: &Inner, d: &Decision) -> Option<u32> {
        let target = if d.relays.heats() {
            d.set_points.heat()
        } else if d.relays.cools() {
            d.set_points.cool()
        } else {
            return None;
        };
        inner.thermostat.minutes_to(target, &inner.now?, &inner.inputs)
    }

    fn prices(&self, d: &Decision) -> Value {
        let Some(p) = d.prices else { return Value::Null };
        json!({
            "price": p.price, "mean": p.mean, "dear": p.dear, "until": rfc3339(p.until_ms),
            "next_dear": p.next_dear_ms.map(rfc3339), "heat_without": self.degrees(d.undisturbed.heat()),
            "cool_without": self.degrees(d.undisturbed.cool()),
        })
    }

    /// The stack, the highest first, those to come included.
    fn events(&self, inner: &Inner, which: impl Fn(&Event) -> bool) -> Vec<Value> {
        inner.thermostat.events().all().iter().filter(|e| which(e)).map(|e| self.event(e)).collect()
    }

    fn program(&self, inner: &Inner) -> Value {
        let program = &inner.thermostat.config().program;
        let climates: Vec<Value> = program
            .climates()
            .iter()
            .map(|c| {
                json!({
                    "climate": c.climate_ref, "name": c.name, "heat": self.degrees(c.heat_temp),
                    "cool": self.degrees(c.cool_temp), "fan": c.fan, "sensors": c.sensors, "occupied": c.is_occupied,
                    "ventilate_min": c.ventilator_min_on_time,
                })
            })
            .collect();
        let mut days = Map::new();
        for (day, name) in DAYS.iter().enumerate() {
            let mut spans: Vec<Value> = Vec::new();
            let mut last = None;
            for slot in 0..comfort::program::SLOTS {
                let index = program.at(day, slot);
                if last != Some(index) {
                    let climate = program.climate(index).map(|c| &c.climate_ref);
                    spans.push(json!({"from": format!("{:02}:{:02}", slot / 2, slot % 2 * 30), "climate": climate}));
                }
                last = Some(index);
            }
            days.insert((*name).to_owned(), Value::Array(spans));
        }
        json!({"climates": climates, "days": days})
    }

    fn why(&self, inner: &Inner) -> Value {
        match &inner.decision {
            Some(d) => json!({
                "name": self.setup.name, "why": d.why(self.scale()), "reason": d.reason, "running": running(d), "asked": d.asked.outputs().collect::<Vec<_>>(),
                "denied": denied(d), "source": self.source(d), "hub": "running",
                "alerts": inner.thermostat.alerts().all().iter().map(|a| &a.text).collect::<Vec<_>>(),
            }),
            None => {
                let last = inner.last.as_ref().and_then(|l| l.get("why")?.as_str()).unwrap_or("nothing is known yet");
                let time = inner.last.as_ref().and_then(|l| l.get("time")?.as_str()).unwrap_or("before");
                let (hub, now) = match self.is_running() {
                    true => ("running", "The hub has just started, and waits for the relays to say what they do"),
                    false => ("stopped", "The hub does not run, so nothing is switched"),
                };
                json!({"name": self.setup.name, "why": format!("{now}. At {time}: {last}"), "hub": hub})
            }
        }
    }

    /// The house as it was learned.
    fn house(&self, inner: &Inner) -> Value {
        let house = inner.thermostat.house();
        let round = |n: f64| (n * 100.0).round() / 100.0;
        json!({
            "samples": house.samples, "time_constant_h": round(house.time_constant_h), "error_k": round(house.error_k),
            "heating_k_h": round(house.heating_k_h), "cooling_k_h": round(house.cooling_k_h),
            "balance_point": house.balance_point.map(|t| self.degrees(t)),
        })
    }

    fn source(&self, d: &Decision) -> Value {
        json!({
            "event": d.source.event, "name": d.source.name, "by": d.source.by, "until": d.source.until_ms.map(rfc3339),
            "climate": d.source.climate,
        })
    }

    fn status_now(&self, inner: &Inner) -> Value {
        let mut status = match (&inner.decision, &inner.last) {
            (None, Some(last)) => last.clone(),
            _ => self.status(inner),
        };
        if let Some(status) = status.as_object_mut() {
            // What members may have changed without a hub is told as it is now.
            status.insert("hub".into(), json!(if self.is_running() { "running" } else { "stopped" }));
            status.insert("mode".into(), json!(inner.thermostat.config().settings.hvac_mode));
            status.insert("events".into(), Value::Array(self.events(inner, |_| true)));
        }
        status
    }

    fn status(&self, inner: &Inner) -> Value {
        let config = inner.thermostat.config();
        let scale = self.scale();
        let d = inner.decision.as_ref();
        let mono_ms = inner.now.map_or(0, |n| n.mono_ms);
        let climate = d.and_then(|d| config.program.find(&d.sensors_of));
        let participants = climate.map_or(&[][..], |c| &c.sensors);
        let sensors: Vec<Value> = inner
            .thermostat
            .sensors()
            .list(&config.sensors, participants, &config.settings, mono_ms)
            .map(|(sensor, t, why)| {
                json!({
                    "device": sensor.id, "name": sensor.name, "temperature": t.map(|t| self.degrees(t)),
                    "left_out": why.map(LeftOut::as_str),
                })
            })
            .collect();
        let relays: Map<String, Value> = OUTPUTS
            .iter()
            .filter(|o| self.setup.relays.contains_key(o))
            .map(|o| (o.as_str().to_owned(), json!(d.is_some_and(|d| d.relays.on(*o)))))
            .collect();
        json!({
            "name": self.setup.name, "device": self.device, "unit": unit_word(scale), "mode": config.settings.hvac_mode,
            "time": inner.now.map(|n| rfc3339(n.wall_ms)), "running": d.map(running),
            "minutes_to_set_point": d.and_then(|d| self.minutes(inner, d)),
            "temperature": d.and_then(|d| d.temperature).map(|t| self.degrees(t)), "humidity": d.and_then(|d| d.humidity),
            "outdoor": inner.inputs.outdoor.map(|t| self.degrees(t)),
            "heat_set_point": d.map(|d| self.degrees(d.set_points.heat())),
            "cool_set_point": d.map(|d| self.degrees(d.set_points.cool())),
            "source": d.map(|d| self.source(d)), "reason": d.map(|d| d.reason), "why": d.map(|d| d.why(scale)),
            "relays": relays, "asked": d.map(|d| d.asked.outputs().collect::<Vec<_>>()), "denied": d.map(denied),
            "next": d.and_then(|d| d.next.as_ref()).map(|(at, c)| json!({"at": rfc3339(*at), "climate": c})),
            "lead": d.and_then(|d| d.lead).map(|l| json!({
                "heating": l.heating, "at": rfc3339(l.at_ms), "target": self.degrees(l.target), "minutes": l.minutes,
                "running": l.running,
            })),
            "sensors": sensors, "events": self.events(inner, |_| true), "alerts": self.alerts(inner),
            "reminders": Self::reminders(inner), "prices": d.map(|d| self.prices(d)),
            "house": self.house(inner), "own_control": self.setup.equipment.has_own_control,
        })
    }
}

/// A price for a span of time, as it is heard.
#[derive(Deserialize)]
struct Span {
    start: String,
    #[serde(default)]
    end: Option<String>,
    price: f64,
}

/// Longest name of a utility's request.
const DEMAND_NAME_MAX_CHARS: usize = 64;

/// How far set points give way to a request that does not say: 2 K.
const DEMAND_MILLI_K: i32 = 2000;

/// Days of the week as they are written.
const DAYS: [&str; 7] = ["mon", "tue", "wed", "thu", "fri", "sat", "sun"];

fn week_days(words: &[String]) -> Result<Vec<usize>, String> {
    let mut days = Vec::new();
    for word in words.iter().flat_map(|w| w.split(',')) {
        let word = word.trim().to_lowercase();
        match word.as_str() {
            "all" => days.extend(0..7),
            "weekdays" => days.extend(0..5),
            "weekend" => days.extend(5..7),
            _ => {
                let short: String = word.chars().take(3).collect();
                let found = DAYS.iter().position(|d| *d == short);
                days.push(
                    found
                        .ok_or_else(|| format!("`{word}` is no day; write mon, tue, ..., weekdays, weekend or all"))?,
                );
            }
        }
    }
    Ok(days)
}

/// A half hour of the day, as in `06:30`; `24:00` ends it.
fn slot(text: &str) -> Result<usize, String> {
    let parse = || {
        let (hour, minute) = text.split_once(':')?;
        let (hour, minute): (usize, usize) = (hour.parse().ok()?, minute.parse().ok()?);
        let fits = hour < 24 && (minute == 0 || minute == 30) || hour == 24 && minute == 0;
        fits.then_some(hour * 2 + minute / 30)
    };
    parse().ok_or_else(|| format!("`{text}` is no half hour; write 06:30, or 24:00 for the day's end"))
}

fn fan_mode(word: &str) -> Result<FanMode, String> {
    match word {
        "auto" => Ok(FanMode::Auto),
        "on" => Ok(FanMode::On),
        _ => Err(format!("`{word}` is no fan mode; write auto or on")),
    }
}

/// What it does, in a word.
fn running(d: &Decision) -> &'static str {
    if !d.runs_known {
        "unknown"
    } else if d.relays.on(comfort::Output::Aux) {
        "auxHeat"
    } else if d.relays.heats() {
        "heating"
    } else if d.relays.cools() {
        "cooling"
    } else if d.relays.on(comfort::Output::Dehumidifier) {
        "drying"
    } else if d.relays.on(comfort::Output::Fan) {
        "fan"
    } else if d.mode == HvacMode::Off {
        "off"
    } else {
        "idle"
    }
}

/// What the guard did not do as asked.
fn denied(d: &Decision) -> Vec<Value> {
    let one = |d: &comfort::Denied| json!({"output": d.output, "why": d.why, "text": d.why.as_str(), "for_s": d.for_s});
    d.denied.iter().map(one).collect()
}

fn unit_word(scale: TemperatureScale) -> &'static str {
    match scale {
        TemperatureScale::Fahrenheit => "fahrenheit",
        TemperatureScale::Celsius | TemperatureScale::Kelvin => "celsius",
    }
}

/// Home Assistant's word for a mode.
pub fn home_assistant_mode(mode: HvacMode) -> &'static str {
    match mode {
        HvacMode::Off => "off",
        HvacMode::Heat | HvacMode::AuxHeatOnly => "heat",
        HvacMode::Cool => "cool",
        HvacMode::Auto => "heat_cool",
    }
}

fn rfc3339(ms: i64) -> String {
    Timestamp::from_millis(ms).to_rfc3339()
}

fn to_text(value: &impl Serialize) -> Result<String, String> {
    serde_json::to_string(value).map_err(|e| e.to_string())
}

#[cfg(test)]
pub(crate) mod tests {
    use toml::de::DeTable;

    use super::*;

    /// 8 July 2026, 16:00 in UTC.
    const BEGIN_MS: i64 = 1_783_526_400_000;

    pub(crate) fn setup(text: &str) -> Setup {
        let table = DeTable::parse(text).expect("TOML");
        Setup::read(table.get_ref(), TemperatureScale::Celsius).expect("a set-up")
    }

    /// A thermostat in a directory without a hub, and the time of its orders.
    struct Alone {
        _dir: tempfile::TempDir,
        unit: Unit,
    }

    impl Alone {
        fn new(text: &str) -> Self {
            let dir = tempfile::tempdir().expect("a directory");
            let now = Timestamp::from_millis(BEGIN_MS);
            let units = Unit::open_all(dir.path(), &[setup(text)], &TimeZone::UTC, "v", now);
            Self { unit: units.expect("opened").remove(0), _dir: dir }
        }

        fn order(&self, order: Value, caller: Caller<'_>, minutes: i64) -> Result<Value, String> {
            let order: Order = serde_json::from_value(order).expect("an order");
            let now = Timestamp::from_millis(BEGIN_MS + minutes * 60_000);
            self.unit.order(&order, caller, Times { now, wall: now })
        }
    }

    #[test]
    fn guided_thermostats_with_new_names_find_what_is_theirs() {
        let dir = tempfile::tempdir().expect("a directory");
        let open = |guided: [(&str, &str); 2]| {
            let setups = guided.map(|(name, device)| setup(&format!("name = \"{name}\"\nguides = \"{device}\"")));
            assert_eq!(setups[0].collides(&setups[1]), None);
            let now = Timestamp::from_millis(BEGIN_MS);
            let units = Unit::open_all(dir.path(), &setups, &TimeZone::UTC, "v", now).expect("opened");
            units.into_iter().map(|u| u.word).collect::<Vec<_>>()
        };
        assert_eq!(open([("Kitchen", "valve_1"), ("Bath", "valve_2")]), ["thermostat", "thermostat-2"]);
        assert_eq!(open([("Spa", "valve_2"), ("Pantry", "valve_1")]), ["thermostat-2", "thermostat"]);
    }

    #[test]
    fn the_lock_holds_what_comes_over_the_broker() {
        let alone = Alone::new("sensors = [\"s\"]\nheat = \"a\"\nlock = [18, 24]");
        let (owner, guest) = (Caller::owner("owner"), Caller::other("mqtt"));
        let until =
            |text: &str| json!({"hold": {"to": {}, "climate": text, "fan": null, "until": "next", "hours": null}});
        let refused = alone.order(until("away"), guest, 0).expect_err("below the range");
        assert!(refused.contains("mqtt sets 18 °C to 24 °C"), "{refused}");
        alone.order(until("home"), guest, 0).expect("within it");
        let (from, until) = ("2026-07-08T16:00", "2026-07-20");
        let to = json!({"heat": "12", "cool": "28"});
        let vacation = json!({"vacation_add": {"name": "Sea", "to": to, "from": from, "until": until}});
        alone.order(vacation, owner, 0).expect("planned");
        let all = json!({"resume": {"all": true}});
        let ended = alone.order(all.clone(), guest, 1).expect("their own");
        assert_eq!(ended["ended"].as_array().map(Vec::len), Some(1), "{ended}");
        assert_eq!(ended["ended"][0]["by"], "mqtt", "{ended}");
        assert!(alone.order(all.clone(), guest, 1).expect_err("the owner's").contains("`Sea` was set by an owner"));
        assert!(alone.order(json!({"demand_accept": {"name": "x"}}), guest, 1).expect_err("theirs").contains("locked"));
        assert_eq!(alone.order(all, owner, 1).expect("ended")["ended"][0]["name"], "Sea");
    }

    #[test]
    fn a_time_is_of_the_day_that_is_written_and_else_the_next_one() {
        let alone = Alone::new("sensors = [\"s\"]\nheat = \"a\"");
        let instant = |text| alone.unit.instant(text, BEGIN_MS).map(rfc3339);
        for (text, at) in [
            ("22:00", "2026-07-08T22:00:00.000Z"),
            ("06:30", "2026-07-09T06:30:00.000Z"),
            ("2026-12-24", "2026-12-24T00:00:00.000Z"),
            ("2026-12-24T18:00", "2026-12-24T18:00:00.000Z"),
            ("2026-12-24 18:00", "2026-12-24T18:00:00.000Z"),
            ("2026-12-24T18:00+01:00", "2026-12-24T17:00:00.000Z"),
        ] {
            assert_eq!(instant(text).as_deref(), Ok(at), "{text}");
        }
        assert!(instant("tomorrow").is_err() && instant("24-12").is_err());
    }

    #[test]
    fn a_request_without_a_beginning_begins_when_it_came_however_often_it_is_said() {
        let alone = Alone::new("sensors = [\"s\"]\ncool = \"a\"");
        let wish = json!({"demand_add": {"name": "peak", "until": "2026-07-10T16:00", "by": 2}});
        for minutes in [0, 50, 200, 239, 241, 700] {
            let said = alone.order(wish.clone(), Caller::owner("utility"), minutes).expect("taken");
            let first = (minutes < 241).then_some("2026-07-08T16:00:00.000Z");
            assert_eq!(said[0]["start"].as_str(), first, "after {minutes} min: {said}");
        }
    }
}
