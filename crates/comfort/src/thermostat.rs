//! The thermostat: everything together, one step at a time.

use jiff::tz::TimeZone;
use serde::{Deserialize, Serialize};

use crate::alert::{About, Alerts};
use crate::control::{ControlState, Reason, Situation};
use crate::event::{
    DR_MAX, DR_MAX_MS, DR_RANDOM_MAX_S, EVENTS_MAX, Event, EventError, EventType, Events, HOLD_HOURS_MAX,
    HOLD_WITHOUT_TRANSITION_MS, HoldType, OFFERS_MAX, QUICK_SAVE_MAX,
};
use crate::guard::{Call, Circumstances, Denial, Denied, Guard, Limits, Output, Relays, SetPoints};
use crate::health::{Health, ShortCycles};
use crate::history::{Accumulator, Interval};
use crate::learn::{FORECAST_MAX_H, Learner, SAMPLE_S, Sample, sun_by_clock};
use crate::price::{HEARD_NOW_MS, Heard, HeardPrices, Move, Outlook, PricePlan, STEP_MS, TooManyPrices};
use crate::program::{Climate, ClimateRef, Program, Slot, Transition, slot_at};
use crate::reminder::Reminders;
use crate::sensor::{Fused, SensorConfig, SensorReading, Sensors};
use crate::settings::{DrAccept, Equipment, FanMode, HvacMode, Settings};
use crate::temperature::{Delta, Temp};

/// An optimal start begins at most so long before its transition.
pub const LEAD_MAX_MS: i64 = 4 * 3_600_000;
/// Leads are looked at once in so many seconds.
const LEAD_EVERY_MS: u64 = 60_000;
/// After a start, what runs goes on for so long without any sensor heard.
const JUST_STARTED_MS: u64 = 3 * 60_000;
/// Before the program asks for less, it coasts for at most so long.
const COAST_MAX_MS: i64 = 60 * 60_000;
/// The temperature may drift so far from the set point while it coasts.
const COAST_DRIFT: Delta = Delta::from_milli_k(420);
/// A program that asks for less than this much more is not started early.
const LEAD_LEAST: Delta = Delta::from_milli_k(200);
/// Equipment that has run this long does not let the temperature go the wrong way.
const RESPONSE_S: u64 = 60 * 60;
/// A temperature that went this far the wrong way in that time says that nothing happens.
const RESPONSE_WRONG: Delta = Delta::from_milli_k(500);
/// Equipment that has run this long in a house that is known should be felt; in one of which nothing is learned yet, so long.
const FELT_S: (u64, u64) = (90 * 60, 4 * 3600);
/// It is not felt when the temperature has gone its way by less than this ...
const FELT_LEAST: Delta = Delta::from_milli_k(200);
/// ... and it is no more than this share of the expected effect warmer or cooler than it would be without, in a house that is known
/// and in another. A heat pump in the cold, at the end of its power, is felt by half.
const FELT_SHARE: (f64, f64) = (0.2, 0.1);
/// Once it is not felt, it is when it is felt so many times more.
const FELT_AGAIN: f64 = 2.0;
/// Less than this is no effect that could be missed, K.
const FELT_EXPECTED_K: f64 = 0.5;
/// Auxiliary heat that runs this long at a stretch is worth an alert, seconds.
const AUX_ALERT_S: u64 = 3 * 3600;
/// Motion for so long in a house that should be empty makes it a home.
const AUTO_HOME_MS: u64 = 15 * 60_000;
/// Before dear hours the house is warmed or cooled in advance for at most so many hours.
const AHEAD_MAX_H: f64 = 3.0;
/// It begins so much earlier than it takes, hours: prices are looked at each quarter of an hour.
const AHEAD_SPARE_H: f64 = 0.25;
/// What prices do stands on the stack under these names.
const DEAR: &str = "dear hours";
const BEFORE_DEAR: &str = "before dear hours";
/// By whom.
const PRICES: &str = "prices";
/// Against frost a guided thermostat is told to heat to so much more than the floor.
const FROST_GUIDED: Delta = Delta::from_milli_k(1500);
/// A wall clock that moves so much further than the time that has passed has leapt.
const LEAP_MS: i64 = 10 * 60_000;
/// A leap forward that is not taken back within so much running time was true.
const LEAP_BELIEVED_MS: u64 = 7 * 86_400_000;
/// Alerts are looked at once in so many milliseconds.
const ALERTS_EVERY_MS: u64 = 60_000;
/// A pause for an open window is told of after so long.
const PAUSE_ALERT_MS: u64 = 4 * 3_600_000;

/// The two clocks and whether the wall's is to be believed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Now {
    /// Wall clock, milliseconds since the epoch. The program and the ends of events go by it, nothing else.
    pub wall_ms: i64,
    /// A clock that only goes forward within one run of the hub. Guards and sensors go by it.
    pub mono_ms: u64,
    /// The wall clock is believed (the system says that it is synchronised, or it has not been reset).
    pub trusted: bool,
}

/// What is known besides the sensors.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Inputs {
    /// Outdoor temperature.
    pub outdoor: Option<Temp>,
    /// Horizontal irradiance, W/m², where it is measured.
    pub irradiance: Option<f64>,
    /// Any window or door of those that count is open.
    pub opening: bool,
    /// Somebody's phone is at home (`None`: nobody's phone tells).
    pub phone_home: Option<bool>,
    /// What the relays, or a guided thermostat, say that they do, where they say it (`None`: unknown now). Guards go by it.
    pub reported: Option<Call>,
    /// Outputs of which that says nothing now: their relays don't answer.
    pub silent: Call,
}

/// What a household configures: settings, equipment, limits, sensors, the program.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Config {
    /// Settings.
    #[serde(default)]
    pub settings: Settings,
    /// What is installed.
    #[serde(default)]
    pub equipment: Equipment,
    /// How the equipment is to be treated.
    #[serde(default)]
    pub limits: Limits,
    /// Sensors.
    #[serde(default)]
    pub sensors: Vec<SensorConfig>,
    /// The week.
    pub program: Program,
    /// Who is not an owner sets temperatures only within these.
    #[serde(default)]
    pub lock: Option<(Temp, Temp)>,
    /// What power costs, and how far comfort may give way to it; `None`: it does not.
    #[serde(default)]
    pub prices: Option<PricePlan>,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            settings: Settings::default(),
            equipment: Equipment::default(),
            limits: Limits::default(),
            sensors: Vec::new(),
            program: Program::household(),
            lock: None,
            prices: None,
        }
    }
}

/// What runs: the highest event, or the program.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Source {
    /// The kind of event; `None`: the program.
    pub event: Option<EventType>,
    /// The event's name, or the comfort setting's.
    pub name: String,
    /// Who asked.
    pub by: String,
    /// Until when, milliseconds since the epoch.
    pub until_ms: Option<i64>,
    /// The comfort setting of the program now.
    pub climate: ClimateRef,
}

/// An optimal start, ahead or under way.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Lead {
    /// Heating (else cooling).
    pub heating: bool,
    /// The transition that it is for, milliseconds since the epoch.
    pub at_ms: i64,
    /// Where it should be by then.
    pub target: Temp,
    /// How long it would take from now, minutes.
    pub minutes: u32,
    /// It has begun.
    pub running: bool,
}

/// The house as it was learned from its own record.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct LearnedHouse {
    /// Five minutes behind it; 0: nothing is learned yet, these are assumptions.
    pub samples: u32,
    /// Hours in which it loses 63 % of its warmth.
    pub time_constant_h: f64,
    /// First stage of heating on the air, K/h.
    pub heating_k_h: f64,
    /// First stage of cooling on the air, K/h.
    pub cooling_k_h: f64,
    /// Outdoors, at which it needs no heating for the first comfort setting.
    pub balance_point: Option<Temp>,
    /// Root mean square of what it does not explain, K.
    pub error_k: f64,
}

/// What was decided in one step, and why.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Decision {
    /// The wall time that it goes by, milliseconds since the epoch.
    pub wall_ms: i64,
    /// What is to be switched. Nothing else may be.
    pub relays: Relays,
    /// What runs is known: it is what is switched, or a guided thermostat tells what it does.
    pub runs_known: bool,
    /// What the control asked for.
    pub asked: Call,
    /// What the guard did not do.
    pub denied: Vec<Denied>,
    /// Where heating and cooling aim.
    pub set_points: SetPoints,
    /// Where they would aim if power cost the same at all times and no utility asked for anything.
    pub undisturbed: SetPoints,
    /// What power costs, where it is known.
    pub prices: Option<Outlook>,
    /// The mode.
    pub mode: HvacMode,
    /// What runs: the highest event or the program.
    pub source: Source,
    /// The comfort setting whose sensors count.
    pub sensors_of: ClimateRef,
    /// The fan's mode.
    pub fan: FanMode,
    /// What the sensors say together.
    pub temperature: Option<Temp>,
    /// Relative humidity, %.
    pub humidity: Option<u8>,
    /// Why.
    pub reason: Reason,
    /// An optimal start.
    pub lead: Option<Lead>,
    /// The program's next change, milliseconds since the epoch, and its comfort setting.
    pub next: Option<(i64, ClimateRef)>,
    /// Five minutes that have just ended, for the history.
    #[serde(skip)]
    pub interval: Option<Interval>,
}

/// What is kept over a restart.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct State {
    events: Events,
    guard: Guard,
    control: ControlState,
    sensors: Sensors,
    learner: Learner,
    alerts: Alerts,
    recovery: Option<Recovery>,
    /// The last wall time that was believed.
    wall_ms: Option<i64>,
    /// The monotonic clock at the last step.
    mono_ms: u64,
    outdoor: Option<Temp>,
    window: Window,
    /// Somebody's phone was at home, when one told last.
    phone_home: Option<bool>,
    health: Health,
    /// `None`: those with which a thermostat begins.
    reminders: Option<Reminders>,
    heard: HeardPrices,
    price_declined: Option<PriceDeclined>,
    /// Smart home or away that the household has ended, and until when.
    #[serde(default)]
    presence_declined: Option<(EventType, i64)>,
    demands: Vec<Asked>,
    leapt: Option<Leapt>,
}

/// The wall clock has leapt forward, or the hub did not run for as long. What ended by that is there again when the clock is set
/// back.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Leapt {
    /// From there, milliseconds since the epoch.
    from_ms: i64,
    /// To there.
    to_ms: i64,
    events: Vec<Event>,
    demands: Vec<Asked>,
    /// It counts as true after so much more running time, milliseconds.
    left_ms: u64,
}

/// The household has opted out of dear hours, or of those that it was going ahead of.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct PriceDeclined {
    /// They last until then, for all that was known when they were looked at last.
    until_ms: i64,
    /// They have begun.
    begun: bool,
}

/// A utility's request, as it was heard and answered.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Asked {
    /// The utility's name for it.
    pub name: String,
    /// Who passed it on.
    pub by: String,
    /// As the utility has it, milliseconds since the epoch.
    pub start_ms: i64,
    /// Until.
    pub end_ms: i64,
    /// How far set points give way.
    pub relative: Delta,
    /// Drawn when it came: it begins and ends so many seconds later.
    pub delay_s: (u32, u32),
    /// What the household says to it.
    pub answer: Answer,
    /// The utility has taken it back. It is remembered all the same, so that what comes again under its name finds its beginning,
    /// its delay and its answer.
    #[serde(default)]
    cancelled: bool,
}

impl Asked {
    /// It ends at the latest, whatever was drawn.
    fn last_ms(&self) -> i64 {
        self.end_ms.max(self.span().1)
    }

    /// It is in force or to come.
    fn stands(&self, wall_ms: i64) -> bool {
        !self.cancelled && wall_ms < self.span().1
    }

    fn span(&self) -> (i64, i64) {
        let (start, end) = self.delay_s;
        let start_ms = self.start_ms.saturating_add(i64::from(start) * 1000);
        let end_ms = self.end_ms.saturating_add(i64::from(end) * 1000);
        // What was drawn leaves half of it at least.
        let half_ms = self.end_ms.saturating_sub(self.start_ms).max(0) / 2;
        let start_ms = start_ms.min(self.start_ms.saturating_add(half_ms));
        (start_ms, end_ms.min(start_ms.saturating_add(DR_MAX_MS)))
    }
}

/// What the household says to a utility's request.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Answer {
    /// It is followed.
    Accepted,
    /// It waits for the household.
    Waiting,
    /// It is not followed.
    Declined,
}

/// An optimal start that runs.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Recovery {
    heating: bool,
    at_ms: i64,
    target: Temp,
    began_ms: i64,
    reached_ms: Option<i64>,
}

/// Openings, with their delays.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Window {
    open: bool,
    changing_ms: u64,
    /// Open for so long.
    #[serde(default)]
    open_ms: u64,
}

/// What is found again after a restart by itself.
#[derive(Clone, Debug, Default)]
struct Cache {
    slot: Option<(i64, Slot)>,
    next: Option<(i64, i64, Option<Transition>)>,
    lead: Option<Lead>,
    lead_ms: Option<u64>,
    alerts_ms: Option<u64>,
    run: Option<ThermalRun>,
    /// What power costs, in the quarter of an hour of this number.
    outlook: Option<(i64, Option<Outlook>)>,
}

/// Heating or cooling that runs, or neither, since the last change. Stages that come and go belong to one run.
#[derive(Clone, Copy, Debug)]
struct ThermalRun {
    heats: bool,
    cools: bool,
    began_ms: u64,
    /// Its beginning was seen.
    whole: bool,
    measure: Measure,
}

/// From where it is measured what a run does: its beginning, or since other sensors count.
#[derive(Clone, Copy, Debug)]
struct Measure {
    from: Temp,
    from_ms: u64,
    /// Air and mass of the house as it was learned, °C.
    state: (f64, f64),
    /// The comfort setting, and how many of its sensors are believed.
    counted: (usize, usize),
}

/// A thermostat.
#[derive(Clone, Debug)]
pub struct Thermostat {
    config: Config,
    state: State,
    zone: TimeZone,
    last_mono_ms: Option<u64>,
    began_mono_ms: u64,
    relays: Relays,
    /// Of the present interval it is not known throughout what ran.
    blind: bool,
    /// A phone has told in this run whether it is at home.
    phone_told: bool,
    history: Accumulator,
    cache: Cache,
}

/// A state that can't be read.
#[derive(Debug, thiserror::Error)]
#[error("the thermostat's saved state can't be read; it begins anew, with all equipment off for its least time")]
pub struct StateError;

/// Who orders, and whether the lock holds for them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Caller<'a> {
    /// A member's, partner's or rule's name.
    pub name: &'a str,
    /// Owners are not held by the lock.
    pub owner: bool,
}

impl<'a> Caller<'a> {
    /// An owner.
    pub const fn owner(name: &'a str) -> Self {
        Self { name, owner: true }
    }

    /// Anybody else.
    pub const fn other(name: &'a str) -> Self {
        Self { name, owner: false }
    }
}

/// What a hold holds. All that is `None` is left to what lies beneath.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct Hold {
    /// A comfort setting.
    pub climate: Option<ClimateRef>,
    /// Heating aims here.
    pub heat: Option<Temp>,
    /// Cooling aims here.
    pub cool: Option<Temp>,
    /// The fan.
    pub fan: Option<FanMode>,
}

impl Hold {
    /// One number for both, as a person at a dial means it: in auto the set points keep their distance around it.
    pub fn at(temperature: Temp) -> Self {
        Self { heat: Some(temperature), cool: Some(temperature), ..Self::default() }
    }

    /// A comfort setting.
    pub fn climate(climate: &str) -> Self {
        Self { climate: Some(ClimateRef::new(climate)), ..Self::default() }
    }
}

/// A utility's request.
#[derive(Clone, Copy, Debug)]
pub struct Demand<'a> {
    /// The utility's name for it: the same name again is the same request.
    pub name: &'a str,
    /// From, milliseconds since the epoch.
    pub start_ms: i64,
    /// Until.
    pub end_ms: i64,
    /// Set points give way by so much.
    pub relative: Delta,
    /// Drawn by whoever calls, within what the request allows: it begins and ends so many seconds later, so that not all
    /// houses of a street do at once. At most [`DR_RANDOM_MAX_S`].
    pub delay_s: (u32, u32),
    /// Who passes it on.
    pub by: &'a str,
}

/// What holds now, before the guards: from the stack.
struct Effective<'a> {
    climate: &'a Climate,
    heat: Temp,
    cool: Temp,
    fan: FanMode,
    top: Option<&'a Event>,
}

impl Thermostat {
    /// A thermostat that begins anew.
    pub fn new(mut config: Config, zone: TimeZone) -> Self {
        config.limits = config.limits.bounded();
        Self {
            config,
            state: State::default(),
            zone,
            last_mono_ms: None,
            began_mono_ms: 0,
            relays: Relays::default(),
            blind: false,
            phone_told: false,
            history: Accumulator::default(),
            cache: Cache::default(),
        }
    }

    /// A thermostat that goes on after a restart with what [`Self::save`] gave. `reported` is what the relays say that
    /// they do (`None`: they can't tell, and count as off).
    ///
    /// # Errors
    /// When `saved` is not what `save` gave. Begin with [`Self::new`] then.
    pub fn restore<'de, D: serde::Deserializer<'de>>(
        config: Config,
        zone: TimeZone,
        saved: D,
        reported: Option<Call>,
    ) -> Result<Self, StateError> {
        let mut thermostat = Self::load(config, zone, saved)?;
        thermostat.begin(reported);
        Ok(thermostat)
    }

    /// The same, for looking and for orders, before it is known what the relays do: [`Self::begin`] goes on with it.
    ///
    /// # Errors
    /// As [`Self::restore`].
    pub fn load<'de, D: serde::Deserializer<'de>>(
        config: Config,
        zone: TimeZone,
        saved: D,
    ) -> Result<Self, StateError> {
        let mut thermostat = Self::new(config, zone);
        thermostat.state = State::deserialize(saved).map_err(|_| StateError)?;
        thermostat.heed_setting();
        thermostat.state.sensors.prune(&thermostat.config.sensors);
        Ok(thermostat)
    }

    /// A new run: nothing has been heard on its clock, and the relays are as they report.
    pub fn begin(&mut self, reported: Option<Call>) {
        self.state.guard.restarted(reported);
        self.state.sensors.restarted(self.state.mono_ms);
        self.phone_told = false;
    }

    /// A fault that whoever switches the relays has found (`None`: it is over).
    pub fn fault(&mut self, about: About, text: Option<&str>, wall_ms: i64) {
        self.state.alerts.set(about, text.is_some(), wall_ms, || text.unwrap_or_default().to_owned());
    }

    /// What is to be kept over a restart. Save it after every change of relays or events, and each few minutes.
    pub fn save(&self) -> impl Serialize + '_ {
        &self.state
    }

    /// What is configured.
    pub fn config(&self) -> &Config {
        &self.config
    }

    /// Configures. Guards keep their memory.
    pub fn configure(&mut self, mut config: Config) {
        config.limits = config.limits.bounded();
        self.config = config;
        self.cache = Cache::default();
        // It aims at what was configured; whether one is due is looked at anew.
        self.state.recovery = None;
        self.state.sensors.prune(&self.config.sensors);
        self.heed_setting();
    }

    /// Sets the mode. Guards keep their memory, holds stay.
    pub fn set_mode(&mut self, mode: HvacMode) {
        self.config.settings.hvac_mode = mode;
        self.state.recovery = None;
    }

    /// The stack of events, the highest first.
    pub fn events(&self) -> &Events {
        &self.state.events
    }

    /// Alerts that stand.
    pub fn alerts(&self) -> &Alerts {
        &self.state.alerts
    }

    /// Alerts, to acknowledge them.
    pub fn alerts_mut(&mut self) -> &mut Alerts {
        &mut self.state.alerts
    }

    /// The learned house.
    pub fn learner(&self) -> &Learner {
        &self.state.learner
    }

    /// The learned house, for people: time constant, rates, balance point.
    pub fn house(&self) -> LearnedHouse {
        let learner = &self.state.learner;
        let model = learner.model();
        let heat = self.config.program.climates().first().map_or(20.0, |c| c.heat_temp.celsius());
        LearnedHouse {
            samples: learner.fitted(),
            time_constant_h: model.time_constant_h(),
            heating_k_h: model.heat_k_h,
            cooling_k_h: model.cool_k_h,
            balance_point: Temp::measured(model.balance_point_c(heat), model::TemperatureScale::Celsius),
            error_k: learner.rmse(),
        }
    }

    /// Minutes until a temperature is reached with the equipment running from now on; `None`: not within hours, or nothing
    /// is known to reckon with.
    pub fn minutes_to(&self, target: Temp, now: &Now, inputs: &Inputs) -> Option<u32> {
        let all = self.state.sensors.fuse(&self.config.sensors, &[], &self.config.settings, now.mono_ms);
        let (indoor, outdoor) = (all.temperature?, self.state.outdoor.or(inputs.outdoor)?);
        let sun = self.sun(inputs, self.wall(now));
        let heating = target > indoor;
        let hours = self.state.learner.lead_h(heating, indoor.celsius(), target.celsius(), outdoor.celsius(), sun)?;
        Some((hours * 60.0).ceil() as u32)
    }

    /// The sensors' last words.
    pub fn sensors(&self) -> &Sensors {
        &self.state.sensors
    }

    /// The reminders.
    pub fn reminders(&self) -> Reminders {
        let usual = || Reminders::usual(&self.config.equipment, &self.config.settings);
        self.state.reminders.clone().unwrap_or_else(usual)
    }

    /// The reminders, to change them.
    pub fn reminders_mut(&mut self) -> &mut Reminders {
        let (equipment, settings) = (&self.config.equipment, &self.config.settings);
        self.state.reminders.get_or_insert_with(|| Reminders::usual(equipment, settings))
    }

    /// How sensors and equipment are, from what they did.
    pub fn health(&self) -> &Health {
        &self.state.health
    }

    /// Somebody has seen an alert (counted from 1, as [`Self::alerts`] lists them). A sensor that drifts is taken as it is
    /// from now on. `None`: there is no such alert.
    pub fn acknowledge(&mut self, number: usize) -> Option<About> {
        let about = self.state.alerts.acknowledge(number)?;
        if let About::Drift(sensor) = &about {
            self.state.health.accept(sensor);
        }
        Some(about)
    }

    /// Hears what power costs. How many of the prices were taken.
    ///
    /// # Errors
    /// When there are too many.
    pub fn hear_prices(&mut self, prices: &[Heard], now: &Now) -> Result<usize, TooManyPrices> {
        let wall_ms = self.wall(now);
        self.cache.outlook = None;
        self.state.heard.hear(prices, wall_ms)
    }

    /// Hears a sensor. One that is not configured is heard, but weighs nothing.
    pub fn hear(&mut self, sensor: &str, reading: &SensorReading, mono_ms: u64) -> bool {
        self.state.sensors.hear(sensor, reading, mono_ms)
    }

    // Orders.

    /// Holds temperatures, a comfort setting or the fan.
    ///
    /// # Errors
    /// When the hold can't be, or the lock forbids it.
    pub fn set_hold(&mut self, hold: &Hold, kind: HoldType, caller: Caller<'_>, now: &Now) -> Result<u64, EventError> {
        if *hold == Hold::default() {
            return Err(EventError::Empty);
        }
        let climate = match &hold.climate {
            None => None,
            Some(named) => {
                let found = self.config.program.find(named);
                Some(found.ok_or_else(|| EventError::NoSuchClimate(named.clone()))?)
            }
        };
        self.locked(hold.heat.or(climate.map(|c| c.heat_temp)), hold.cool.or(climate.map(|c| c.cool_temp)), caller)?;
        let wall_ms = self.wall(now);
        let mut event = Event::new(EventType::Hold, "hold", caller.name, wall_ms);
        match kind {
            HoldType::Indefinite => {}
            HoldType::HoldHours(hours) if hours == 0 || hours > HOLD_HOURS_MAX => return Err(EventError::Times),
            HoldType::HoldHours(hours) => event.end_ms = Some(wall_ms + i64::from(hours) * 3_600_000),
            HoldType::DateTime { start_ms, end_ms } => (event.start_ms, event.end_ms) = (start_ms, Some(end_ms)),
            HoldType::NextTransition => {
                let next = self.config.program.next_transition(wall_ms, &self.zone);
                event.end_ms = Some(next.map_or(wall_ms + HOLD_WITHOUT_TRANSITION_MS, |t| t.at_ms));
            }
        }
        event.hold_climate_ref.clone_from(&hold.climate);
        (event.heat_hold_temp, event.cool_hold_temp, event.fan) = (hold.heat, hold.cool, hold.fan);
        event.by_owner = caller.owner;
        // A hold that begins now replaces the hold that runs; the fan's alone does not end a temperature's.
        if event.running(wall_ms) {
            let thermal = hold.heat.is_some() || hold.cool.is_some() || hold.climate.is_some();
            let held = self.is_held(caller);
            self.state.events.replace_running_hold(wall_ms, thermal, |e| !held || !e.by_owner);
        }
        self.state.recovery = None;
        self.state.events.put(event)
    }

    /// Ends the highest event (the next one on the stack takes over), or all that run. What a price or a utility asked for
    /// does not come back: these dear hours and this request are declined. Whom the lock holds ends nothing that an owner has
    /// set.
    ///
    /// # Errors
    /// When what would end was set by an owner, and the lock holds the caller.
    pub fn resume(&mut self, all: bool, caller: Caller<'_>, now: &Now) -> Result<Vec<Event>, EventError> {
        let wall_ms = self.wall(now);
        let held = self.is_held(caller);
        let theirs = |event: &Event| !held || !event.by_owner;
        let highest = self.state.events.running(wall_ms).next();
        let refused = |event: &&Event| !theirs(event);
        if let Some(event) = highest.filter(refused).filter(|_| !all || !self.state.events.running(wall_ms).any(theirs))
        {
            return Err(EventError::Locked(format!(
                "`{}` was set by an owner, and {} does not end it",
                event.name, caller.name
            )));
        }
        let ended = self.state.events.resume(wall_ms, all, theirs);
        for event in &ended {
            if event.price.is_some() {
                self.decline_price(event, wall_ms);
            }
            if let Some(asked) = self.state.demands.iter_mut().find(|a| is_of(event, a)) {
                asked.answer = Answer::Declined;
            }
        }
        self.decline_presence(&ended, wall_ms);
        Ok(ended)
    }

    /// Ends the holds that run, and what was saved or presence changed: vacations, and what prices and utilities ask for, go on.
    /// Whom the lock holds ends nothing that an owner has set.
    pub fn end_holds(&mut self, caller: Caller<'_>, now: &Now) -> Vec<Event> {
        let wall_ms = self.wall(now);
        let held = self.is_held(caller);
        let of_holds = |e: &Event| {
            use EventType::{AutoAway, AutoHome, Hold, QuickSave};
            matches!(e.event_type, Hold | QuickSave | AutoAway | AutoHome) && (!held || !e.by_owner)
        };
        let ended = self.state.events.resume(wall_ms, true, of_holds);
        self.decline_presence(&ended, wall_ms);
        ended
    }

    /// Smart home and away is declined until the program's next change, or until it would end by itself.
    fn decline_presence(&mut self, ended: &[Event], wall_ms: i64) {
        let of_presence = |e: &&Event| matches!(e.event_type, EventType::AutoAway | EventType::AutoHome);
        if let Some(event) = ended.iter().find(of_presence) {
            let until_ms = self.next(wall_ms).map_or(wall_ms + HOLD_WITHOUT_TRANSITION_MS, |t| t.at_ms);
            self.state.presence_declined = Some((event.event_type, until_ms));
        }
    }

    /// Until the dear hours are over that it is for.
    fn decline_price(&mut self, event: &Event, wall_ms: i64) {
        let end_ms = event.end_ms.unwrap_or(wall_ms);
        let begun = event.name == DEAR;
        let after = |plan: &PricePlan| plan.outlook(&self.state.heard, end_ms, &self.zone).filter(|o| o.dear);
        let until = if begun { None } else { self.config.prices.as_ref().and_then(after) };
        let until_ms = until.map_or(end_ms, |o| o.until_ms);
        self.state.price_declined = Some(PriceDeclined { until_ms, begun });
    }

    /// Whether the household has opted out of what the price is now. Prices may come hour by hour: dear hours are over when it is
    /// known to be dear no longer, or when nothing has been known for an hour.
    fn has_declined_price(&mut self, outlook: Option<Outlook>, wall_ms: i64) -> bool {
        let Some(declined) = &mut self.state.price_declined else { return false };
        let over = match outlook {
            Some(o) if o.dear => {
                *declined = PriceDeclined { until_ms: o.until_ms, begun: true };
                false
            }
            Some(_) => declined.begun || wall_ms >= declined.until_ms,
            None => wall_ms >= declined.until_ms.saturating_add(HEARD_NOW_MS),
        };
        if over {
            self.state.price_declined = None;
        }
        !over
    }

    /// "Save now": set points give way by so much until then, or until resumed, and within the lock's range if it holds who
    /// pressed it. Pressed again, it begins anew.
    ///
    /// # Errors
    /// When it can't be.
    pub fn quick_save(
        &mut self,
        relative: Delta,
        end_ms: Option<i64>,
        caller: Caller<'_>,
        now: &Now,
    ) -> Result<u64, EventError> {
        let wall_ms = self.wall(now);
        let mut event = Event::new(EventType::QuickSave, "quick save", caller.name, wall_ms);
        event.end_ms = end_ms;
        event.relative = Some(relative.clamp(Delta::ZERO, QUICK_SAVE_MAX));
        event.by_owner = caller.owner;
        if end_ms.is_some_and(|end| end <= wall_ms) {
            return Err(EventError::Times);
        }
        let owners = |e: &Event| e.event_type == EventType::QuickSave && e.by_owner;
        if self.is_held(caller) && self.state.events.running(wall_ms).any(owners) {
            return Err(EventError::Locked(format!("an owner saves already, and {} does not end that", caller.name)));
        }
        self.state.recovery = None;
        self.state.events.remove(EventType::QuickSave, None);
        self.state.events.put(event)
    }

    /// Plans a vacation.
    ///
    /// # Errors
    /// When it can't be.
    pub fn create_vacation(
        &mut self,
        name: &str,
        (heat, cool): (Temp, Temp),
        (start_ms, end_ms): (i64, i64),
        caller: Caller<'_>,
    ) -> Result<u64, EventError> {
        self.locked(Some(heat), Some(cool), caller)?;
        let mut event = Event::new(EventType::Vacation, name, caller.name, start_ms);
        event.end_ms = Some(end_ms);
        (event.heat_hold_temp, event.cool_hold_temp, event.by_owner) = (Some(heat), Some(cool), caller.owner);
        self.state.events.put(event)
    }

    /// Deletes a vacation. `false`: there is none of this name.
    pub fn delete_vacation(&mut self, name: &str) -> bool {
        self.state.events.remove(EventType::Vacation, Some(name))
    }

    /// A utility's request. The same again changes nothing; with other times it takes the old one's place, but one that has
    /// begun keeps its beginning, and what the household declined stays declined, also when it was taken back meanwhile.
    ///
    /// # Errors
    /// When it can't be.
    pub fn demand_response(&mut self, demand: &Demand<'_>, now: &Now) -> Result<Answer, EventError> {
        let wall_ms = self.wall(now);
        self.state.demands.retain(|a| wall_ms < a.last_ms());
        let before = self.state.demands.iter().find(|a| a.name == demand.name).cloned();
        let begun = before.as_ref().filter(|b| b.span().0 <= wall_ms);
        let start_ms = begun.map_or(demand.start_ms, |b| b.start_ms);
        if demand.end_ms <= start_ms || demand.end_ms <= wall_ms {
            return Err(EventError::Times);
        }
        let relative = demand.relative.clamp(Delta::ZERO, DR_MAX);
        let wanted = (start_ms, demand.end_ms, relative, false);
        if let Some(same) = before.as_ref().filter(|b| (b.start_ms, b.end_ms, b.relative, b.cancelled) == wanted) {
            return Ok(same.answer);
        }
        let answer = match (before.as_ref().map(|b| b.answer), self.config.settings.dr_accept) {
            (_, DrAccept::Never) => return Ok(Answer::Declined),
            (Some(answer), _) => answer,
            (None, DrAccept::DefaultDecline) => Answer::Waiting,
            (None, DrAccept::DefaultAccept) => Answer::Accepted,
        };
        if before.is_none() && self.state.demands.len() >= OFFERS_MAX {
            let over = |a: &Asked| a.answer != Answer::Declined && !a.stands(wall_ms);
            let oldest = self.state.demands.iter().position(over).ok_or(EventError::Offers)?;
            self.state.demands.remove(oldest);
        }
        let (start_s, end_s) = demand.delay_s;
        let drawn = (start_s.min(DR_RANDOM_MAX_S), end_s.min(DR_RANDOM_MAX_S));
        let asked = Asked {
            name: demand.name.to_owned(),
            by: demand.by.to_owned(),
            start_ms,
            end_ms: demand.end_ms,
            relative,
            delay_s: before.map_or(drawn, |b| b.delay_s),
            answer,
            cancelled: false,
        };
        let events = self.state.events.clone();
        self.state.events.remove(EventType::DemandResponse, Some(demand.name));
        if answer == Answer::Accepted
            && asked.stands(wall_ms)
            && let Err(error) = self.follow(&asked)
        {
            self.state.events = events;
            return Err(error);
        }
        self.state.demands.retain(|a| a.name != asked.name);
        self.state.demands.push(asked);
        Ok(answer)
    }

    /// When a request that is known begins, as the utility has it: it goes on from there when it comes again without a beginning.
    pub fn demand_start(&self, name: &str) -> Option<i64> {
        self.state.demands.iter().find(|a| a.name == name).map(|a| a.start_ms)
    }

    fn follow(&mut self, asked: &Asked) -> Result<u64, EventError> {
        let (start_ms, end_ms) = asked.span();
        let mut event = Event::new(EventType::DemandResponse, &asked.name, &asked.by, start_ms);
        event.end_ms = Some(end_ms);
        event.relative = Some(asked.relative);
        self.state.events.put(event)
    }

    /// The requests of utilities that are not over, with what the household said to them.
    pub fn demands(&self, now: &Now) -> impl Iterator<Item = &Asked> {
        let wall_ms = self.wall(now);
        self.state.demands.iter().filter(move |a| a.stands(wall_ms))
    }

    /// The household opts out of a request, or of all (`None`). `false`: there was none.
    pub fn decline_demand_response(&mut self, name: Option<&str>) -> bool {
        let mut found = self.state.events.remove(EventType::DemandResponse, name);
        for asked in self.state.demands.iter_mut().filter(|a| name.is_none_or(|n| a.name == n)) {
            found |= asked.answer != Answer::Declined;
            asked.answer = Answer::Declined;
        }
        found
    }

    /// The household takes part in a request that waits, or that it declined. `false`: there is none of this name.
    ///
    /// # Errors
    /// When requests are left in general, or the stack is full.
    pub fn accept_demand_response(&mut self, name: &str, now: &Now) -> Result<bool, EventError> {
        let wall_ms = self.wall(now);
        if self.config.settings.dr_accept == DrAccept::Never {
            return Err(EventError::Never);
        }
        let Some(asked) = self.state.demands.iter().find(|a| a.name == name && a.stands(wall_ms)).cloned() else {
            return Ok(false);
        };
        if asked.answer != Answer::Accepted {
            self.follow(&asked)?;
        }
        self.state.demands.iter_mut().filter(|a| a.name == name).for_each(|a| a.answer = Answer::Accepted);
        Ok(true)
    }

    /// The utility takes its request back. `false`: there was none.
    pub fn cancel_demand_response(&mut self, name: &str) -> bool {
        let known = self.state.demands.iter_mut().find(|a| a.name == name && !a.cancelled);
        let found = known.map(|a| a.cancelled = true).is_some();
        self.state.events.remove(EventType::DemandResponse, Some(name)) || found
    }

    /// Where the household wants nothing of utilities, nothing that it once accepted goes on.
    fn heed_setting(&mut self) {
        if self.config.settings.dr_accept == DrAccept::Never {
            self.decline_demand_response(None);
        }
    }

    /// Whether the lock holds somebody.
    fn is_held(&self, caller: Caller<'_>) -> bool {
        self.config.lock.is_some() && !caller.owner
    }

    /// The lock's check, which whatever aims somewhere passes: set points of what is not installed don't count.
    fn locked(&self, heat: Option<Temp>, cool: Option<Temp>, caller: Caller<'_>) -> Result<(), EventError> {
        let Some((low, high)) = self.config.lock.filter(|_| !caller.owner) else { return Ok(()) };
        let equipment = &self.config.equipment;
        let heat = heat.filter(|_| equipment.heat_stages > 0 || equipment.has_aux);
        let cool = cool.filter(|_| equipment.cool_stages > 0);
        if heat.into_iter().chain(cool).any(|t| t < low || t > high) {
            let scale = self.config.settings.scale;
            return Err(EventError::Locked(format!(
                "{} sets {} to {}",
                caller.name,
                low.text(scale),
                high.text(scale)
            )));
        }
        Ok(())
    }

    /// The wall time to go by, milliseconds UTC: the clock's, or, when it is not believed, the last one that was, and what has
    /// passed since.
    pub fn wall(&self, now: &Now) -> i64 {
        match (now.trusted, self.state.wall_ms) {
            (true, _) | (_, None) => now.wall_ms,
            (false, Some(last)) => {
                let passed = self.last_mono_ms.map_or(0, |mono| now.mono_ms.saturating_sub(mono));
                last.saturating_add(i64::try_from(passed).unwrap_or(0))
            }
        }
    }

    fn slot(&mut self, wall_ms: i64) -> Slot {
        match self.cache.slot {
            Some((from, slot)) if from <= wall_ms && wall_ms < slot.end_ms => slot,
            _ => {
                let slot = slot_at(wall_ms, &self.zone);
                self.cache.slot = Some((wall_ms, slot));
                slot
            }
        }
    }

    fn next(&mut self, wall_ms: i64) -> Option<Transition> {
        match &self.cache.next {
            Some((from, until, next)) if *from <= wall_ms && wall_ms < *until => next.clone(),
            _ => {
                let next = self.config.program.next_transition(wall_ms, &self.zone);
                let until = next.as_ref().map_or(wall_ms.saturating_add(3_600_000), |t| t.at_ms);
                self.cache.next = Some((wall_ms, until, next.clone()));
                next
            }
        }
    }

    /// One step: what is to be switched now. Call it at least once a minute, and after every order.
    pub fn tick(&mut self, now: &Now, inputs: &Inputs) -> Decision {
        let wall_ms = self.wall(now);
        let dt_ms = self.last_mono_ms.map_or(0, |last| now.mono_ms.saturating_sub(last));
        if self.last_mono_ms.is_none() {
            self.began_mono_ms = now.mono_ms;
        }
        self.last_mono_ms = Some(now.mono_ms);
        self.heed_clock(wall_ms, dt_ms);
        self.state.wall_ms = Some(wall_ms);
        self.state.mono_ms = now.mono_ms;
        self.state.outdoor = inputs.outdoor;
        self.windows(inputs.opening, dt_ms);
        self.presence(now, wall_ms, inputs);
        self.history.pass(self.relays, dt_ms);
        let reported = inputs.reported.filter(|_| !self.config.equipment.is_guided);
        // Who is silent does as is decided, for all that is known.
        let believed = |call: Call, output: Output| if self.relays.on(output) { call.with(output) } else { call };
        let reported = reported.map(|call| inputs.silent.outputs().fold(call, believed));
        self.state.health.pass(dt_ms, self.relays.call(), reported);
        let relays = self.relays.call();
        self.reminders_mut().pass(relays, dt_ms);

        let slot = self.slot(wall_ms);
        let scheduled = self.config.program.at(slot.day, slot.slot);
        let next = self.next(wall_ms);
        let mono_ms = now.mono_ms;
        let prices = self.prices(now, wall_ms, scheduled, inputs);
        let Some(effective) = effective(&self.config, &self.state.events, scheduled, wall_ms, true) else {
            return self.nothing(now);
        };
        let in_advance = effective.top.is_some_and(|e| e.price.is_some() && e.name == BEFORE_DEAR);
        let undisturbed = match effective.top.filter(|e| is_of_grid(e)) {
            None => None,
            Some(_) => self::effective(&self.config, &self.state.events, scheduled, wall_ms, false),
        }
        .map(|e| SetPoints::bounded(e.heat, e.cool, &self.config.settings));
        let fused =
            self.state.sensors.fuse(&self.config.sensors, &effective.climate.sensors, &self.config.settings, mono_ms);
        let source = Source {
            event: effective.top.map(|e| e.event_type),
            name: effective.top.map_or_else(|| effective.climate.name.clone(), |e| e.name.clone()),
            by: effective.top.map_or_else(|| "program".to_owned(), |e| e.by.clone()),
            until_ms: effective.top.map_or(next.as_ref().map(|t| t.at_ms), |e| e.end_ms),
            climate: self
                .config
                .program
                .climate(scheduled)
                .map_or_else(|| ClimateRef::new(""), |c| c.climate_ref.clone()),
        };
        let sensors_of = effective.climate.climate_ref.clone();
        let (mut heat, mut cool) = (effective.heat, effective.cool);
        let by_program = effective.top.is_none();
        let fan = effective.fan;
        let vent_min = effective.climate.ventilator_min_on_time.unwrap_or(self.config.settings.ventilator_min_on_time);
        let setting = self.config.program.climates().iter().position(|c| std::ptr::eq(c, effective.climate));
        // What has begun early is the program's own future.
        let lead = self.recover(now, wall_ms, &fused, next.as_ref(), by_program, (heat, cool), inputs);
        if let Some(lead) = lead.filter(|l| l.running) {
            if lead.heating {
                heat = lead.target.max(heat);
            } else {
                cool = lead.target.min(cool);
            }
        }
        let set_points = SetPoints::bounded(heat, cool, &self.config.settings);
        let settled =
            mono_ms.saturating_sub(self.began_mono_ms) >= u64::from(self.config.settings.sensor_stale_s) * 1000;
        let guided = self.config.equipment.is_guided;
        let runs_known = !guided || inputs.reported.is_some();
        self.blind |= !runs_known;
        let coasting = by_program && !guided && self.coasts(wall_ms, &fused, next.as_ref(), set_points, inputs);
        let model = self.state.learner.model();
        let wish = self.state.control.step(&Situation {
            settings: &self.config.settings,
            equipment: &self.config.equipment,
            limits: &self.config.limits,
            guard: &self.state.guard,
            set_points,
            temperature: fused.temperature,
            coldest: fused.coldest,
            hottest: fused.hottest,
            humidity: fused.humidity,
            outdoor: inputs.outdoor,
            fan,
            fan_min_on_time: self.config.settings.fan_min_on_time,
            ventilator_min_on_time: vent_min,
            window_open: self.state.window.open && !self.config.settings.open_window_bypass,
            settled,
            just_started: mono_ms.saturating_sub(self.began_mono_ms) < JUST_STARTED_MS,
            coasting,
            recovering: in_advance || lead.is_some_and(|l| l.running),
            lift_k: model.heat_k_h * model.lift_h(),
            mono_ms,
            dt_ms,
            fan_was_on: self.relays.on(Output::Fan),
            vent_was_on: self.relays.on(Output::Ventilator),
        });
        let around = Circumstances {
            mono_ms,
            outdoor: inputs.outdoor,
            equipment: &self.config.equipment,
            limits: &self.config.limits,
            reported: inputs.reported,
            silent: inputs.silent,
            frost: wish.frost,
            aux_alone: self.config.settings.hvac_mode == HvacMode::AuxHeatOnly
                || self.config.equipment.heat_stages == 0,
            urgent_off: wish.urgent_off,
        };
        let (relays, denied) = match guided {
            true => (self.state.guard.follow(mono_ms, inputs.reported.unwrap_or(Call::NONE)), Vec::new()),
            false => self.state.guard.step(wish.call, &around),
        };
        self.relays = relays;
        let decision = Decision {
            wall_ms,
            relays,
            runs_known,
            asked: wish.call,
            denied,
            set_points,
            undisturbed: undisturbed.unwrap_or(set_points),
            prices,
            mode: self.config.settings.hvac_mode,
            source,
            sensors_of,
            fan,
            temperature: fused.temperature,
            humidity: fused.humidity,
            reason: wish.reason,
            lead,
            next: next.and_then(|t| Some((t.at_ms, self.config.program.climate(t.to)?.climate_ref.clone()))),
            interval: None,
        };
        self.response(now, &fused, &decision, setting.unwrap_or(0), inputs);
        self.watch(now, wall_ms, &fused, &decision);
        let interval = self.history.interval(wall_ms, &decision, inputs.outdoor);
        if let Some(interval) = &interval {
            self.learn(interval, inputs);
            self.blind = !runs_known;
            self.compare(mono_ms);
        }
        Decision { interval, ..decision }
    }

    /// A program without comfort settings can't be made; should it be, nothing runs.
    fn nothing(&mut self, now: &Now) -> Decision {
        let (relays, denied) = self.state.guard.step(
            Call::NONE,
            &Circumstances {
                mono_ms: now.mono_ms,
                outdoor: None,
                equipment: &self.config.equipment,
                limits: &self.config.limits,
                reported: None,
                silent: Call::NONE,
                frost: false,
                aux_alone: false,
                urgent_off: false,
            },
        );
        self.relays = relays;
        let floor = self.config.settings.frost_floor;
        let none = ClimateRef::new("");
        let set_points = SetPoints::bounded(floor, floor, &self.config.settings);
        Decision {
            wall_ms: self.wall(now),
            relays,
            runs_known: true,
            asked: Call::NONE,
            denied,
            set_points,
            undisturbed: set_points,
            prices: None,
            mode: self.config.settings.hvac_mode,
            source: Source {
                event: None,
                name: String::new(),
                by: String::new(),
                until_ms: None,
                climate: none.clone(),
            },
            sensors_of: none,
            fan: FanMode::Auto,
            temperature: None,
            humidity: None,
            reason: Reason::NoSensor,
            lead: None,
            next: None,
            interval: None,
        }
    }

    /// Ends what is over. A clock that leaps is followed: nobody can know yet whether it was wrong before or is wrong now. But what
    /// ended by a leap alone is kept until it is known.
    fn heed_clock(&mut self, wall_ms: i64, dt_ms: u64) {
        let last_ms = self.state.wall_ms.unwrap_or(wall_ms);
        let leap_ms = wall_ms.saturating_sub(last_ms).saturating_sub(i64::try_from(dt_ms).unwrap_or(i64::MAX));
        if let Some(leapt) = &mut self.state.leapt {
            leapt.left_ms = leapt.left_ms.saturating_sub(dt_ms);
        }
        self.state.leapt.take_if(|leapt| leapt.left_ms == 0);
        if leap_ms < -LEAP_MS {
            // Behind where it leapt from it is not put right, but wrong in another way.
            let mended = self.state.leapt.take_if(|leapt| wall_ms >= leapt.from_ms.saturating_sub(LEAP_MS));
            self.state.recovery = None;
            self.state.events.set_back(wall_ms, last_ms, mended.as_ref().map(|m| m.to_ms), leap_ms.saturating_neg());
            if let Some(mended) = mended {
                self.state.events.restore(mended.events);
                let known = |a: &Asked| self.state.demands.iter().any(|b| b.name == a.name);
                let missing: Vec<Asked> = mended.demands.into_iter().filter(|a| !known(a)).collect();
                self.state.demands.extend(missing);
            }
        }
        let events = self.state.events.expire(wall_ms);
        let demands: Vec<Asked> = self.state.demands.extract_if(.., |a| a.last_ms() <= wall_ms).collect();
        if leap_ms > LEAP_MS {
            let leapt = self.state.leapt.get_or_insert_with(|| Leapt {
                from_ms: last_ms,
                to_ms: wall_ms,
                events: Vec::new(),
                demands: Vec::new(),
                left_ms: LEAP_BELIEVED_MS,
            });
            leapt.events.extend(events);
            leapt.events.truncate(EVENTS_MAX);
            leapt.demands.extend(demands);
            leapt.demands.truncate(OFFERS_MAX);
        }
    }

    fn windows(&mut self, opening: bool, dt_ms: u64) {
        let window = &mut self.state.window;
        let settings = &self.config.settings;
        window.open_ms = if window.open { window.open_ms.saturating_add(dt_ms) } else { 0 };
        if opening == window.open {
            window.changing_ms = 0;
            return;
        }
        window.changing_ms = window.changing_ms.saturating_add(dt_ms);
        let delay_s = if opening { settings.open_window_after_s } else { settings.closed_window_after_s };
        if window.changing_ms >= u64::from(delay_s) * 1000 {
            *window = Window { open: opening, ..Window::default() };
        }
    }

    /// Smart home and away. After a restart it goes on as it was, for as long as detectors and phones may need to speak again.
    fn presence(&mut self, now: &Now, wall_ms: i64, inputs: &Inputs) {
        let settings = &self.config.settings;
        let patience_ms = u64::from(settings.auto_away_after_s) * 1000;
        let young = now.mono_ms.saturating_sub(self.began_mono_ms) < patience_ms;
        self.phone_told |= inputs.phone_home.is_some();
        if self.phone_told || !young {
            self.state.phone_home = inputs.phone_home;
        }
        let phone_home = self.state.phone_home;
        let seen_ms = self.state.sensors.last_seen_ms(now.mono_ms);
        let known = phone_home.is_some() || seen_ms.is_some() && (self.state.sensors.tells() || young);
        if !settings.auto_away || !known {
            self.state.events.remove(EventType::AutoAway, None);
            self.state.events.remove(EventType::AutoHome, None);
            return;
        }
        let recently = seen_ms.is_some_and(|ms| ms < AUTO_HOME_MS) || phone_home == Some(true);
        let long_gone = seen_ms.is_none_or(|ms| ms >= patience_ms) && phone_home != Some(true);
        let slot = self.slot(wall_ms);
        let Some(climate) = self.config.program.climate(self.config.program.at(slot.day, slot.slot)) else { return };
        let sleeping = climate.climate_ref == ClimateRef::new("sleep");
        let away = climate.is_occupied && !sleeping && long_gone;
        let home = !climate.is_occupied && recently;
        for (kind, stands, to) in [(EventType::AutoAway, away, "away"), (EventType::AutoHome, home, "home")] {
            let there = self.state.events.all().iter().any(|e| e.event_type == kind);
            let declined = self.state.presence_declined.filter(|(of, _)| *of == kind);
            if declined.is_some_and(|(_, until_ms)| !stands || wall_ms >= until_ms) {
                self.state.presence_declined = None;
            } else if declined.is_some() {
                continue;
            }
            if stands && !there && self.config.program.find(&ClimateRef::new(to)).is_some() {
                let mut event = Event::new(kind, to, "sensors", wall_ms);
                event.hold_climate_ref = Some(ClimateRef::new(to));
                let _ = self.state.events.put(event);
            } else if !stands && there {
                self.state.events.remove(kind, None);
            }
        }
    }

    /// What power costs, and what the set points do about it: an event of its own on the stack.
    fn prices(&mut self, now: &Now, wall_ms: i64, scheduled: usize, inputs: &Inputs) -> Option<Outlook> {
        let Some(plan) = &self.config.prices else {
            self.price_event(None, wall_ms);
            return None;
        };
        let block = wall_ms.div_euclid(STEP_MS);
        let outlook = match self.cache.outlook {
            Some((known, outlook)) if known == block => outlook,
            _ => plan.outlook(&self.state.heard, wall_ms, &self.zone),
        };
        let (set_back, limits) = (plan.set_back, plan.limits);
        let declined = self.has_declined_price(outlook, wall_ms);
        let wanted = match outlook.filter(|_| !declined) {
            Some(o) if o.dear && set_back > Delta::ZERO => {
                Some((DEAR, o.until_ms, Move::giving_way(set_back, Some(limits))))
            }
            Some(o) if !o.dear => {
                let at_ms = o.next_dear_ms;
                at_ms.and_then(|at_ms| {
                    Some((BEFORE_DEAR, at_ms, self.in_advance(now, wall_ms, at_ms, scheduled, inputs)?))
                })
            }
            _ => None,
        };
        self.cache.outlook = Some((block, outlook));
        self.price_event(wanted, wall_ms);
        outlook
    }

    /// The house is warmed or cooled before dear hours: as late as it can be, and not while nobody is there.
    fn in_advance(&self, now: &Now, wall_ms: i64, at_ms: i64, scheduled: usize, inputs: &Inputs) -> Option<Move> {
        let plan = self.config.prices.as_ref().filter(|p| p.ahead > Delta::ZERO)?;
        let beneath = effective(&self.config, &self.state.events, scheduled, wall_ms, false)?;
        let (indoor, outdoor) = (self.all_rooms(now)?, inputs.outdoor?);
        let mode = self.config.settings.hvac_mode;
        let heating = mode.heats() && (!mode.cools() || outdoor < beneath.heat);
        if !beneath.climate.is_occupied || !heating && !mode.cools() {
            return None;
        }
        let (heat, cool) = match heating {
            true => (plan.ahead, Delta::ZERO),
            false => (Delta::ZERO, Delta::from_milli_k(-plan.ahead.milli_k())),
        };
        let by = Move { heat, cool, limits: plan.limits };
        let within = |hours: f64| ((at_ms - wall_ms) as f64) <= (hours + AHEAD_SPARE_H) * 3.6e6;
        // Once begun it goes on, for the same hours: where others have been heard of since, it is too soon perhaps.
        let begun = self.state.events.find(EventType::Sensor, BEFORE_DEAR).filter(|e| e.end_ms == Some(at_ms));
        if begun.is_some() || !within(AHEAD_MAX_H) {
            return begun.map(|_| by);
        }
        let (heat, cool) = by.apply(beneath.heat, beneath.cool);
        let target = if heating { heat } else { cool };
        let sun = self.sun(inputs, wall_ms);
        let learner = &self.state.learner;
        let hours = learner.lead_h(heating, indoor.celsius(), target.celsius(), outdoor.celsius(), sun);
        within(hours.map_or(AHEAD_MAX_H, |h| h.min(AHEAD_MAX_H))).then_some(by)
    }

    /// The mean of every believed sensor.
    fn all_rooms(&self, now: &Now) -> Option<Temp> {
        self.state.sensors.fuse(&self.config.sensors, &[], &self.config.settings, now.mono_ms).temperature
    }

    /// Puts what prices do on the stack, or takes it away.
    fn price_event(&mut self, wanted: Option<(&str, i64, Move)>, wall_ms: i64) {
        let events = &mut self.state.events;
        for name in [DEAR, BEFORE_DEAR] {
            let there = events.find(EventType::Sensor, name).filter(|e| e.price.is_some());
            let stays = wanted.is_some_and(|(n, until_ms, by)| {
                n == name && there.is_some_and(|e| e.price == Some(by) && e.end_ms == Some(until_ms))
            });
            if there.is_some() && !stays {
                events.remove(EventType::Sensor, Some(name));
            }
        }
        let Some((name, until_ms, by)) = wanted else { return };
        if events.find(EventType::Sensor, name).is_none() {
            let mut event = Event::new(EventType::Sensor, name, PRICES, wall_ms);
            event.end_ms = Some(until_ms);
            event.price = Some(by);
            let _ = events.put(event);
        }
    }

    /// Whether the next comfort setting has to begin early, and by how much.
    #[expect(clippy::too_many_arguments, reason = "one step of one thing, called once")]
    fn recover(
        &mut self,
        now: &Now,
        wall_ms: i64,
        fused: &Fused,
        next: Option<&Transition>,
        by_program: bool,
        (heat, cool): (Temp, Temp),
        inputs: &Inputs,
    ) -> Option<Lead> {
        let indoor = fused.temperature;
        if let Some(recovery) = self.state.recovery {
            let reached =
                indoor.is_some_and(|t| if recovery.heating { t >= recovery.target } else { t <= recovery.target });
            let still = by_program && next.is_some_and(|n| n.at_ms == recovery.at_ms) && wall_ms < recovery.at_ms;
            if still {
                if let Some(running) = self.state.recovery.as_mut().filter(|r| reached && r.reached_ms.is_none()) {
                    running.reached_ms = Some(wall_ms);
                }
                let minutes = u32::try_from((recovery.at_ms - wall_ms) / 60_000).unwrap_or(0);
                let Recovery { heating, at_ms, target, .. } = recovery;
                return Some(Lead { heating, at_ms, target, minutes, running: true });
            }
            self.state.recovery = None;
            // It was judged by the program: how well did it go?
            if let Some(t) = indoor.filter(|_| wall_ms >= recovery.at_ms && wall_ms < recovery.at_ms + 120_000) {
                let short = if recovery.heating { recovery.target.above(t) } else { t.above(recovery.target) };
                let early_ms = recovery.reached_ms.map_or(0, |at| recovery.at_ms - at);
                let lead_h = (recovery.at_ms - recovery.began_ms) as f64 / 3.6e6;
                self.state.learner.arrived(recovery.heating, short.kelvin(), lead_h, early_ms as f64 / 3.6e6);
            }
            self.cache.lead_ms = None;
        }
        let next = next.filter(|n| by_program && n.at_ms - wall_ms <= LEAD_MAX_MS)?;
        let due =
            self.cache.lead_ms.is_none_or(|at| now.mono_ms.saturating_sub(at) >= LEAD_EVERY_MS || now.mono_ms < at);
        if !due {
            return self.cache.lead.filter(|l| l.at_ms == next.at_ms);
        }
        self.cache.lead_ms = Some(now.mono_ms);
        self.cache.lead = None;
        let settings = &self.config.settings;
        let climate = self.config.program.climate(next.to)?;
        let wanted = SetPoints::bounded(climate.heat_temp, climate.cool_temp, settings);
        let (indoor, outdoor) = (indoor?, self.state.outdoor.or(inputs.outdoor)?);
        let heating = settings.hvac_mode.heats()
            && !settings.disable_pre_heating
            && wanted.heat() > heat.plus(LEAD_LEAST)
            && indoor < wanted.heat();
        let cooling = settings.hvac_mode.cools()
            && !settings.disable_pre_cooling
            && wanted.cool().plus(LEAD_LEAST) < cool
            && indoor > wanted.cool();
        if !heating && !cooling {
            return None;
        }
        let target = if heating { wanted.heat() } else { wanted.cool() };
        let sun = self.sun(inputs, wall_ms);
        let hours = self.state.learner.lead_h(heating, indoor.celsius(), target.celsius(), outdoor.celsius(), sun);
        let minutes = hours.map_or(LEAD_MAX_MS / 60_000, |h| (h * 60.0).ceil() as i64).min(LEAD_MAX_MS / 60_000);
        let running = next.at_ms - wall_ms <= minutes * 60_000;
        let lead = Lead { heating, at_ms: next.at_ms, target, minutes: u32::try_from(minutes).unwrap_or(0), running };
        if running {
            let at_ms = next.at_ms;
            self.state.recovery = Some(Recovery { heating, at_ms, target, began_ms: wall_ms, reached_ms: None });
        }
        self.cache.lead = Some(lead);
        Some(lead)
    }

    /// Whether the temperature lasts without equipment until the program asks for less.
    fn coasts(&self, wall_ms: i64, fused: &Fused, next: Option<&Transition>, now: SetPoints, inputs: &Inputs) -> bool {
        let settings = &self.config.settings;
        let Some(next) = next.filter(|n| (0..=COAST_MAX_MS).contains(&(n.at_ms - wall_ms))) else { return false };
        let (Some(t), Some(outdoor)) = (fused.temperature, self.state.outdoor) else { return false };
        let Some(climate) = self.config.program.climate(next.to).filter(|_| !settings.disable_coasting) else {
            return false;
        };
        let then = SetPoints::bounded(climate.heat_temp, climate.cool_temp, settings);
        let less_heat = settings.hvac_mode.heats() && then.heat().plus(COAST_DRIFT) < now.heat();
        let less_cool = settings.hvac_mode.cools() && then.cool() > now.cool().plus(COAST_DRIFT);
        let near_heat = t < now.heat().plus(COAST_DRIFT);
        let near_cool = t > now.cool().minus(COAST_DRIFT);
        if !(less_heat && near_heat || less_cool && near_cool) {
            return false;
        }
        let learner = &self.state.learner;
        let hours = (next.at_ms - wall_ms) as f64 / 3.6e6;
        let sun = self.sun(inputs, wall_ms);
        let end = learner.model().float(learner.state(t.celsius()), hours, outdoor.celsius(), sun);
        let (t, drift) = (t.celsius(), COAST_DRIFT.kelvin());
        let heat_lasts = !settings.hvac_mode.heats() || now.heat().celsius() - end.min(t) <= drift;
        let cool_lasts = !settings.hvac_mode.cools() || end.max(t) - now.cool().celsius() <= drift;
        heat_lasts && cool_lasts
    }

    fn sun(&self, inputs: &Inputs, wall_ms: i64) -> f64 {
        inputs.irradiance.map_or_else(
            || {
                let instant = jiff::Timestamp::from_millisecond(wall_ms).unwrap_or(jiff::Timestamp::UNIX_EPOCH);
                let civil = self.zone.to_datetime(instant);
                sun_by_clock(f64::from(civil.hour()) + f64::from(civil.minute()) / 60.0)
            },
            |w| (w / 1000.0).clamp(0.0, 1.2),
        )
    }

    fn learn(&mut self, interval: &Interval, inputs: &Inputs) {
        let Some(outdoor) = interval.outdoor else { return };
        let share = |s: u16| f32::from(s) / SAMPLE_S as f32;
        let sun = self.sun(inputs, interval.at_ms) as f32;
        self.state.learner.take(Sample {
            indoor: interval.end_temperature.map(|t| t.celsius() as f32),
            outdoor: outdoor.celsius() as f32,
            heat: share(interval.heat1_s.max(interval.aux_s))
                + share(interval.heat2_s)
                + share(interval.heat1_s.min(interval.aux_s)),
            cool: share(interval.cool1_s) + share(interval.cool2_s),
            sun,
            unseen: self.blind,
        });
    }

    /// Compares the sensors with each other.
    fn compare(&mut self, mono_ms: u64) {
        let State { sensors, health, .. } = &mut self.state;
        let config = &self.config;
        let believed: Vec<(&str, Temp, Delta)> = sensors
            .list(&config.sensors, &[], &config.settings, mono_ms)
            .filter(|(.., left_out)| left_out.is_none())
            .filter_map(|(sensor, temperature, _)| Some((sensor.id.as_str(), temperature?, sensor.offset)))
            .collect();
        health.compare(&believed);
        health.keep_sensors(|id| config.sensors.iter().any(|s| s.id == id));
    }

    /// Looks for what the household should know.
    fn watch(&mut self, now: &Now, wall_ms: i64, fused: &Fused, decision: &Decision) {
        let mono_ms = now.mono_ms;
        if self.cache.alerts_ms.is_some_and(|at| mono_ms >= at && mono_ms - at < ALERTS_EVERY_MS) {
            return;
        }
        self.cache.alerts_ms = Some(mono_ms);
        let settings = &self.config.settings;
        let scale = settings.scale;
        let settled = mono_ms.saturating_sub(self.began_mono_ms) >= u64::from(settings.sensor_stale_s) * 1000;
        let alerts = &mut self.state.alerts;
        for (sensor, _, why) in self.state.sensors.list(&self.config.sensors, &[], settings, mono_ms) {
            let fault = why.filter(|w| w.is_fault() && settled);
            alerts.set(About::Sensor(sensor.id.clone()), fault.is_some(), wall_ms, || {
                format!("{} is not believed: {}", sensor.name, fault.map_or("", crate::sensor::LeftOut::as_str))
            });
        }
        let sensors = &self.config.sensors;
        alerts.end(|about| matches!(about, About::Sensor(id) if !sensors.iter().any(|s| s.id == *id)));
        let low: Vec<(String, u8)> = self.state.sensors.low_batteries().map(|(id, b)| (id.to_owned(), b)).collect();
        alerts.end(|about| matches!(about, About::Battery(id) if !low.iter().any(|(l, _)| l == id)));
        for (id, percent) in low {
            alerts.set(About::Battery(id.clone()), true, wall_ms, || format!("the battery of {id} is at {percent} %"));
        }
        alerts.set(About::NoSensor, fused.temperature.is_none() && settled, wall_ms, || {
            Reason::NoSensor.as_str().to_owned()
        });
        alerts.set(About::Fallback, fused.fallback, wall_ms, || {
            "none of the sensors of this comfort setting is believed: the others stand in".to_owned()
        });
        let (frost, high) = self.state.control.limits();
        alerts.set(About::FrostFloor, frost, wall_ms, || Reason::FrostFloor.as_str().to_owned());
        alerts.set(About::HighLimit, high, wall_ms, || match decision.reason {
            Reason::FrostFloor => "a room is above the high limit, and another below the frost floor".to_owned(),
            _ => Reason::HighLimit.as_str().to_owned(),
        });
        let paused_ms = self.state.window.open_ms;
        alerts.set(About::WindowOpen, decision.reason == Reason::WindowOpen && paused_ms >= PAUSE_ALERT_MS, wall_ms, || {
            "nothing has run for hours, since a window or door is told to be open: see that it is, and its sensor's battery"
                .to_owned()
        });
        let t = fused.temperature;
        let cold = t.zip(settings.cold_temp_alert).is_some_and(|(t, limit)| t < limit);
        alerts.set(About::Cold, cold, wall_ms, || format!("it is {}", t.map_or_else(String::new, |t| t.text(scale))));
        let hot = t.zip(settings.hot_temp_alert).is_some_and(|(t, limit)| t > limit);
        alerts.set(About::Hot, hot, wall_ms, || format!("it is {}", t.map_or_else(String::new, |t| t.text(scale))));
        let humidity = fused.humidity;
        let dry = humidity.zip(settings.humidity_low_alert).is_some_and(|(h, limit)| h < limit);
        alerts.set(About::Dry, dry, wall_ms, || format!("the humidity is {} %", humidity.unwrap_or(0)));
        let damp = humidity.zip(settings.humidity_high_alert).is_some_and(|(h, limit)| h > limit);
        alerts.set(About::Damp, damp, wall_ms, || format!("the humidity is {} %", humidity.unwrap_or(0)));
        let reminders = self.state.reminders.as_ref().map_or(&[][..], Reminders::all);
        alerts.end(|about| matches!(about, About::Reminder(name) if !reminders.iter().any(|r| r.name == *name)));
        for reminder in reminders {
            alerts.set(About::Reminder(reminder.name.clone()), reminder.due(), wall_ms, || reminder.text());
        }
        let drifts: Vec<(&str, f64)> = self.state.health.drifts().collect();
        alerts.end(|about| matches!(about, About::Drift(id) if !drifts.iter().any(|(d, _)| d == id)));
        for (id, off_k) in &drifts {
            let name = sensors.iter().find(|s| s.id == *id).map_or(*id, |s| s.name.as_str());
            alerts.set(About::Drift((*id).to_owned()), true, wall_ms, || {
                drift_text(name, *off_k, sensors.len() == 2, scale)
            });
        }
        let short = self.state.health.short_cycles(self.config.limits.min_on_s);
        alerts.set(About::ShortCycles, short.is_some(), wall_ms, || short.map_or_else(String::new, short_text));
        alerts.set(About::Clock, !now.trusted, wall_ms, || {
            "the clock is not to be believed: the program goes on by the time that has passed".to_owned()
        });
        let heats = self.config.equipment.heat_stages > 0 || self.config.equipment.has_aux;
        alerts.set(About::HubOnlyFrost, heats && !self.config.equipment.has_own_control, wall_ms, || {
            "nothing but this hub guards the house from frost: the equipment has no control of its own to fall back to".to_owned()
        });
    }

    /// Does what runs have an effect, and does it run for too long?
    fn response(&mut self, now: &Now, fused: &Fused, decision: &Decision, setting: usize, inputs: &Inputs) {
        let (heats, cools) = (decision.relays.heats(), decision.relays.cools());
        let Some(t) = fused.temperature else { return };
        let wall_ms = decision.wall_ms;
        let state = self.state.learner.state(t.celsius());
        let measure = Measure { from: t, from_ms: now.mono_ms, state, counted: (setting, fused.used) };
        match &mut self.cache.run {
            Some(run) if (run.heats, run.cools) == (heats, cools) => {
                if run.measure.counted != measure.counted {
                    run.measure = measure;
                }
                let measure = run.measure;
                let what = if heats { "heating" } else { "cooling" };
                if let Some(fault) = (heats || cools).then(|| self.fails(now, t, heats, &measure, inputs)).flatten() {
                    self.state.alerts.set(About::NoResponse, fault.is_some(), wall_ms, || {
                        format!("{what} {}", fault.unwrap_or_default())
                    });
                }
            }
            before => {
                let ended = before.filter(|b| b.whole && (b.heats || b.cools) && !heats && !cools);
                if let Some(ended) = ended.filter(|_| decision.reason == Reason::Satisfied) {
                    self.state.health.finished(now.mono_ms.saturating_sub(ended.began_ms) / 1000);
                    self.state.alerts.set(About::NoResponse, false, wall_ms, String::new);
                }
                let whole = before.is_some();
                self.cache.run = Some(ThermalRun { heats, cools, began_ms: now.mono_ms, whole, measure });
            }
        }
        let stopped = decision.denied.iter().any(|d| d.why == Denial::LongestRun);
        if stopped {
            self.state.alerts.set(About::LongRun, true, wall_ms, || Denial::LongestRun.as_str().to_owned());
        } else if decision.reason == Reason::Satisfied {
            self.state.alerts.set(About::LongRun, false, wall_ms, String::new);
        }
        let aux = decision.relays.on(Output::Aux) && self.state.guard.age_s(Output::Aux) > AUX_ALERT_S;
        self.state
            .alerts
            .set(About::AuxRuntime, aux, wall_ms, || "auxiliary heat has run for hours at a stretch".to_owned());
    }
}

impl Thermostat {
    /// What is wrong with what runs, in words, if anything is; `None`: it has not run for long enough to say.
    fn fails(
        &self,
        now: &Now,
        t: Temp,
        heats: bool,
        measure: &Measure,
        inputs: &Inputs,
    ) -> Option<Option<&'static str>> {
        let ran_s = now.mono_ms.saturating_sub(measure.from_ms) / 1000;
        if ran_s < RESPONSE_S {
            return None;
        }
        let gone = if heats { t.above(measure.from) } else { measure.from.above(t) };
        if gone < Delta::from_milli_k(-RESPONSE_WRONG.milli_k()) {
            return Some(Some("has run for an hour and the temperature went the other way"));
        }
        let learner = &self.state.learner;
        let known = learner.fitted() > 0;
        let (felt_s, least) = if known { (FELT_S.0, FELT_SHARE.0) } else { (FELT_S.1, FELT_SHARE.1) };
        let hours = ran_s as f64 / 3600.0;
        // A guided thermostat that heats may do so by a trickle; and further than this nothing is forecast.
        let (true, Some(outdoor)) =
            (ran_s >= felt_s && hours < FORECAST_MAX_H && !self.config.equipment.is_guided, inputs.outdoor)
        else {
            return Some(None);
        };
        let model = learner.model();
        let sun = self.sun(inputs, self.wall(now));
        let rate = if heats { model.heat_k_h } else { -model.cool_k_h };
        let after = |rate| model.after(measure.state, hours, outdoor.celsius(), rate, sun);
        let (without, with) = (after(0.0), after(rate));
        let share = (t.celsius() - without) / (with - without);
        let stands = self.state.alerts.all().iter().any(|a| a.about == About::NoResponse);
        let factor = if stands { FELT_AGAIN } else { 1.0 };
        let felt = gone.kelvin() >= FELT_LEAST.kelvin() * factor || share >= least * factor;
        let fault = "has run for hours and is not felt: the temperature is where it would be without it; look at the equipment, its \
                     power and fuel, and whether a window is open";
        Some((!felt && (with - without).abs() >= FELT_EXPECTED_K).then_some(fault))
    }
}

/// Whether an event is what became of a utility's request.
fn is_of(event: &Event, asked: &Asked) -> bool {
    event.event_type == EventType::DemandResponse && event.name == asked.name
}

fn drift_text(name: &str, off_k: f64, one_of_two: bool, scale: model::TemperatureScale) -> String {
    let (degrees, unit) = match scale {
        model::TemperatureScale::Fahrenheit => (off_k.abs() * 1.8, "°F"),
        model::TemperatureScale::Celsius | model::TemperatureScale::Kelvin => (off_k.abs(), "°C"),
    };
    let word = if off_k > 0.0 { "warmer" } else { "colder" };
    let which = if one_of_two { " (or the other one drifts: two sensors can't tell)" } else { "" };
    format!(
        "{name} shows {degrees:.1} {unit} {word} beside the other sensors than it used to{which}: compare it with a \
         thermometer and correct its offset, or acknowledge this if it hangs elsewhere now"
    )
}

fn short_text(how: ShortCycles) -> String {
    match how {
        ShortCycles::ByItself(output, times) => format!(
            "short cycles: the relay of {} has switched by itself {times} times in the last hours; look at its power, its wiring, \
             a safety switch of the equipment, or who else commands it",
            output.as_str()
        ),
        ShortCycles::Runs(count, seconds) => format!(
            "short cycles: {count} of the last runs were over after hardly more than their least time ({} min on average): the \
             equipment is too large for what is asked, its air blows at the sensor, or the differential is too small",
            seconds.div_ceil(60)
        ),
    }
}

/// Whether it moves set points for a price's or a utility's sake.
fn is_of_grid(event: &Event) -> bool {
    event.price.is_some() || event.event_type == EventType::DemandResponse
}

/// What the stack says: the program's comfort setting, with every running event laid over it from the lowest to the highest;
/// with what is done for the sake of prices and utilities, or without.
fn effective<'a>(
    config: &'a Config,
    events: &'a Events,
    scheduled: usize,
    wall_ms: i64,
    with_grid: bool,
) -> Option<Effective<'a>> {
    let climate = config.program.climate(scheduled)?;
    let mut e = Effective { climate, heat: climate.heat_temp, cool: climate.cool_temp, fan: climate.fan, top: None };
    // Where the household wants to be, before anything gives way.
    let (mut heat, mut cool) = (e.heat, e.cool);
    for event in events.running(wall_ms).rev().filter(|e| with_grid || !is_of_grid(e)) {
        if let Some(held) = event.hold_climate_ref.as_ref().and_then(|c| config.program.find(c)) {
            (e.climate, e.heat, e.cool, e.fan) = (held, held.heat_temp, held.cool_temp, held.fan);
            (heat, cool) = (held.heat_temp, held.cool_temp);
        }
        let absolute = event.heat_hold_temp.is_some() || event.cool_hold_temp.is_some();
        if let Some(held) = event.heat_hold_temp {
            (e.heat, heat) = (held, held);
        }
        if let Some(held) = event.cool_hold_temp {
            (e.cool, cool) = (held, held);
        }
        if let Some(price) = event.price {
            (e.heat, e.cool) = price.apply(heat, cool);
        }
        // Who gives way to several at once gives way to the one that asks for most, not to their sum.
        if let Some(relative) = event.relative {
            let limits = match event.event_type {
                EventType::DemandResponse => config.prices.as_ref().map(|p| p.limits),
                _ => config.lock.filter(|_| !event.by_owner),
            };
            let by = Move::giving_way(relative, limits);
            let given = by.apply(heat, cool);
            (e.heat, e.cool) = (e.heat.min(given.0), e.cool.max(given.1));
        }
        e.fan = event.fan.unwrap_or(e.fan);
        // The fan alone doesn't stop the program from running, nor from beginning early.
        if absolute || event.hold_climate_ref.is_some() || event.relative.is_some() || event.price.is_some() {
            e.top = Some(event);
        }
    }
    Some(e)
}

/// In words: what it does, towards what, because of what, and what holds it back.
impl Decision {
    /// What a thermostat that switches by itself is to be told: the mode, and where to heat and cool to. What can heat is never
    /// told to be off for a pause, nor where this hub sees nothing: it would stay so, in the cold too, were the hub or its
    /// sensors gone by the time at which the pause is over.
    pub fn guidance(&self, settings: &Settings, equipment: &Equipment) -> (HvacMode, Temp, Temp) {
        let (heat, cool) = (self.set_points.heat(), self.set_points.cool());
        // Above the floor by what ends the frost's own call.
        let least = settings.frost_floor.plus(FROST_GUIDED);
        let resting =
            if equipment.heat_stages == 0 { (HvacMode::Off, heat, cool) } else { (HvacMode::Heat, least, cool) };
        match self.reason {
            Reason::FrostFloor if self.mode.heats() => (resting.0, heat.max(least), cool),
            Reason::FrostFloor => resting,
            Reason::NoSensor if !self.mode.heats() => resting,
            Reason::HighLimit if self.mode.cools() => (HvacMode::Cool, heat, cool),
            Reason::HighLimit | Reason::WindowOpen => resting,
            _ => (self.mode, heat, cool),
        }
    }

    /// "Why is it running, why not?" in a few sentences.
    pub fn why(&self, scale: model::TemperatureScale) -> String {
        let mut text = String::new();
        let doing = if !self.runs_known {
            "It does not tell what it does"
        } else if self.relays.heats() {
            "It heats"
        } else if self.relays.cools() {
            "It cools"
        } else if self.relays.on(Output::Fan) {
            "Only the fan runs"
        } else {
            "It is idle"
        };
        text.push_str(doing);
        text.push_str(": ");
        text.push_str(self.reason.as_str());
        if let Some(t) = self.temperature {
            text.push_str(&format!(" ({} now", t.text(scale)));
            if self.mode.heats() {
                text.push_str(&format!(", heat to {}", self.set_points.heat().text(scale)));
            }
            if self.mode.cools() {
                text.push_str(&format!(", cool to {}", self.set_points.cool().text(scale)));
            }
            text.push(')');
        }
        text.push_str(". ");
        match self.source.event {
            None => text.push_str(&format!("The program is at {}.", self.source.name)),
            Some(_) => text.push_str(&format!("{} by {} overrides the program.", self.source.name, self.source.by)),
        }
        text.push_str(&self.why_prices(scale));
        if let Some(lead) = self.lead.filter(|l| l.running) {
            text.push_str(&format!(" It began early, to be at {} in {} min.", lead.target.text(scale), lead.minutes));
        }
        for denied in &self.denied {
            text.push_str(&format!(" The guard holds {}: {}", denied.output.as_str(), denied.why.as_str()));
            if let Some(seconds) = denied.for_s {
                text.push_str(&format!(" ({seconds} s)"));
            }
            text.push('.');
        }
        text
    }

    /// What power costs, where that moves the set points or will soon.
    fn why_prices(&self, scale: model::TemperatureScale) -> String {
        let Some(prices) = self.prices else { return String::new() };
        let minutes = |at_ms: i64| (at_ms - self.wall_ms).max(0).div_euclid(60_000);
        let cost = format!("Power costs {:.4} ({:.4} on average over the day)", prices.price, prices.mean);
        let by_price = self.source.by == PRICES && self.source.event == Some(EventType::Sensor);
        let without = || {
            let mut parts = Vec::new();
            if self.mode.heats() {
                parts.push(format!("heat to {}", self.undisturbed.heat().text(scale)));
            }
            if self.mode.cools() {
                parts.push(format!("cool to {}", self.undisturbed.cool().text(scale)));
            }
            parts.join(", ")
        };
        if by_price && prices.dear {
            format!(" {cost} for {} min more; without that it would {}.", minutes(prices.until_ms), without())
        } else if by_price {
            let at = prices.next_dear_ms.unwrap_or(self.wall_ms);
            format!(" {cost} and is dear in {} min: it goes ahead; without that it would {}.", minutes(at), without())
        } else if prices.dear {
            format!(" {cost} for {} min more; that moves nothing now.", minutes(prices.until_ms))
        } else {
            String::new()
        }
    }
}
