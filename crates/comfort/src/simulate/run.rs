//! Runs a thermostat against a house, and measures.

use jiff::Timestamp;
use jiff::tz::TimeZone;
use serde::Serialize;

use super::faults::{Fault, Kind};
use super::plant::{Plant, PlantParameters};
use super::rng::Rng;
use super::watch::{Seen, Watch};
use super::weather::{Outdoors, Weather};
use crate::alert::About;
use crate::control::Reason;
use crate::event::HoldType;
use crate::guard::{Call, Output, SetPoints};
use crate::price::HeardPrices;
use crate::program::{Climate, ClimateRef, DAYS, Program, SLOTS, slot_at};
use crate::sensor::{SensorConfig, SensorReading};
use crate::settings::{FanMode, HvacMode};
use crate::temperature::Temp;
use crate::thermostat::{Caller, Config, Hold, Inputs, Now, Thermostat};

/// One minute.
const MINUTE_MS: i64 = 60_000;
/// Five minutes, in minutes.
const ROW_MIN: usize = 5;
/// Relays drop when nobody has commanded them for so many minutes.
const RELAY_WATCHDOG_MIN: u64 = 5;
/// Most suspicions that are listed.
const SUSPECTED_MAX: usize = 20;
/// 1 °F.
const FAHRENHEIT_K: f64 = 5.0 / 9.0;
/// A transition counts for arrival when it was begun early, or missed by more than this, K.
const MISSED_K: f64 = 0.5 * FAHRENHEIT_K;

/// Five minutes of a recording.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Row {
    /// Outdoors, °C.
    pub outdoor_c: f64,
    /// Set points and whether they are known here.
    pub set_points: Option<(Temp, Temp)>,
    /// The program foresaw the change of set points at the start of this row.
    pub foreseen: bool,
    /// Seconds of heating and cooling in the recording.
    pub heating_s: f64,
    /// Seconds of cooling.
    pub cooling_s: f64,
}

/// A recording: the weather and the wishes of a real house.
#[derive(Clone, Debug, PartialEq)]
pub struct Record {
    /// The first row's instant, milliseconds since the epoch.
    pub start_ms: i64,
    /// Rows of five minutes, without gaps.
    pub rows: Vec<Row>,
    /// Temperature at the start, °C.
    pub indoor_c: f64,
    /// The mode throughout.
    pub mode: HvacMode,
}

/// Where wishes and weather come from.
#[derive(Clone, Debug)]
pub enum Scenario {
    /// A recording.
    Record(Record),
    /// The vendored year, from a date on, with the household's program.
    Year {
        /// First instant, milliseconds since the epoch.
        start_ms: i64,
        /// How many days.
        days: u32,
    },
}

/// What came of it.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Outcome {
    /// Share of the time in which it was more than 1 °F beyond the set point.
    pub over_1f_share: f64,
    /// Most starts of the equipment in any 60 minutes.
    pub starts_per_hour_max: u64,
    /// Starts in all.
    pub starts: u64,
    /// The shortest pause, seconds; `None`: it never paused.
    pub off_s_min: Option<u64>,
    /// Degrees Fahrenheit beyond the set point, times hours, a day.
    pub discomfort_fh_per_day: f64,
    /// Hours of equipment.
    pub runtime_h: f64,
    /// Electricity, kWh: heat without a heat pump counts as electric, too.
    pub kwh: f64,
    /// What it costs by the price plan, in its coin; `None`: there is none.
    pub cost: Option<f64>,
    /// As `discomfort_fh_per_day`, against the set points that would hold without the plan.
    pub plan_discomfort_fh_per_day: Option<f64>,
    /// For each optimal start: temperature minus set point at the transition, °F (positive: warmer).
    pub arrival_error_f: Vec<f64>,
    /// Minutes of lead of each.
    pub lead_min: Vec<u32>,
    /// How often a guard was broken.
    pub guards_broken: u64,
    /// The first of them.
    pub broken: Vec<String>,
    /// The coldest air, °C.
    pub coldest_c: f64,
    /// The hottest air, °C.
    pub hottest_c: f64,
    /// Days that were measured.
    pub days: f64,
    /// How many faults were injected.
    pub faults: u64,
    /// Sensors that it took for drifting and equipment that it took for restless or broken, in its words.
    pub suspected: Vec<String>,
    /// The learned house's time constant, hours.
    pub learned_time_constant_h: Option<f64>,
    /// The learned model.
    pub learned: Option<crate::learn::Model>,
}

/// Discomfort as it is added up.
#[derive(Clone, Copy, Debug, Default)]
struct Comfort {
    minutes: u64,
    over: u64,
    k_minutes: f64,
}

impl Comfort {
    fn add(&mut self, sensor_c: f64, (heat, cool): (Temp, Temp), mode: HvacMode) {
        let mut beyond = 0.0f64;
        if mode.cools() {
            beyond = beyond.max(sensor_c - cool.celsius());
        }
        if mode.heats() {
            beyond = beyond.max(heat.celsius() - sensor_c);
        }
        self.minutes += 1;
        self.k_minutes += beyond;
        self.over += u64::from(beyond > FAHRENHEIT_K);
    }

    fn days(&self) -> f64 {
        self.minutes as f64 / 1440.0
    }

    fn fh_per_day(&self) -> f64 {
        self.k_minutes / FAHRENHEIT_K / 60.0 / self.days().max(1e-9)
    }

    fn into(self, outcome: &mut Outcome) {
        outcome.days = self.days();
        outcome.over_1f_share = self.over as f64 / self.minutes.max(1) as f64;
        outcome.discomfort_fh_per_day = self.fh_per_day();
    }
}

/// The outdoors of a scenario.
struct Sky<'a> {
    scenario: &'a Scenario,
    weather: Option<Weather>,
    parameters: PlantParameters,
    zone: TimeZone,
    start_ms: i64,
    cached: (i64, Outdoors),
}

impl<'a> Sky<'a> {
    fn new(scenario: &'a Scenario, parameters: PlantParameters, zone: TimeZone) -> Self {
        let (weather, start_ms) = match scenario {
            Scenario::Record(record) => (None, record.start_ms),
            Scenario::Year { start_ms, .. } => (Some(Weather::vendored()), *start_ms),
        };
        let cached = (i64::MIN, Outdoors { temperature_c: 0.0, dew_point_c: 0.0, irradiance: 0.0 });
        Self { scenario, weather, parameters, zone, start_ms, cached }
    }

    /// The weather of a minute; looked up each five.
    fn at(&mut self, minute: i64) -> Outdoors {
        let block = minute / ROW_MIN as i64;
        if self.cached.0 == block {
            return self.cached.1;
        }
        let instant = Timestamp::from_millisecond(self.start_ms + minute * MINUTE_MS).unwrap_or(Timestamp::UNIX_EPOCH);
        let outdoors = match (&self.weather, self.scenario) {
            (Some(weather), _) => weather.at(self.zone.to_datetime(instant)),
            (None, Scenario::Record(record)) => {
                let row = usize::try_from(block).ok().and_then(|b| record.rows.get(b)).copied().unwrap_or_default();
                let civil = self.zone.to_datetime(instant);
                let hour = f64::from(civil.hour()) + f64::from(civil.minute()) / 60.0;
                let irradiance = self.parameters.clear_sky(f64::from(civil.date().day_of_year()), hour);
                Outdoors { temperature_c: row.outdoor_c, dew_point_c: row.outdoor_c - 5.0, irradiance }
            }
            (None, Scenario::Year { .. }) => self.cached.1,
        };
        self.cached = (block, outdoors);
        outdoors
    }
}

/// Plays the recording's own heating and cooling into the house.
pub fn baseline(record: &Record, parameters: &PlantParameters, zone: &TimeZone) -> Outcome {
    let scenario = Scenario::Record(record.clone());
    let mut sky = Sky::new(&scenario, parameters.clone(), zone.clone());
    let mut plant = Plant::new(parameters.clone(), record.indoor_c, 0);
    let mut comfort = Comfort::default();
    let mut outcome = Outcome { coldest_c: f64::MAX, hottest_c: f64::MIN, ..Outcome::default() };
    let (heat_w, cool_w) = (plant.asked_w(Call::of(&[Output::Heat1])), plant.asked_w(Call::of(&[Output::Cool1])));
    let mut was_on = false;
    let mut off_s: Option<f64> = None;
    let mut starts: Vec<i64> = Vec::new();
    let mut last = None;
    for (index, row) in record.rows.iter().enumerate() {
        last = row.set_points.or(last);
        let on_s = row.heating_s.max(row.cooling_s).min(300.0);
        outcome.runtime_h += on_s / 3600.0;
        // To five minutes' resolution: a run goes on when the row before was on to its end.
        let minute = (index * ROW_MIN) as i64;
        if on_s > 0.0 && !was_on {
            outcome.starts += 1;
            starts.retain(|at| minute - at < 60);
            starts.push(minute);
            outcome.starts_per_hour_max = outcome.starts_per_hour_max.max(starts.len() as u64);
            if let Some(pause) = off_s.map(|s| s as u64) {
                outcome.off_s_min = Some(outcome.off_s_min.map_or(pause, |least| least.min(pause)));
            }
            off_s = None;
        }
        if on_s < 300.0 && (on_s > 0.0 || off_s.is_some()) {
            off_s = Some(off_s.unwrap_or(0.0) + 300.0 - on_s);
        }
        was_on = on_s > 0.0;
        let asked = if row.cooling_s > 0.0 { cool_w } else { heat_w };
        let mut on_left = on_s;
        for step in 0..ROW_MIN {
            let outdoors = sky.at(minute + step as i64);
            if let (Some(set_points), true) = (last, row.set_points.is_some()) {
                comfort.add(plant.sensor_c(), set_points, record.mode);
            }
            let on = on_left.min(60.0);
            on_left -= on;
            if on > 0.0 {
                plant.step(on, outdoors, asked);
            }
            if on < 60.0 {
                plant.step(60.0 - on, outdoors, 0.0);
            }
            outcome.coldest_c = outcome.coldest_c.min(plant.air_c());
            outcome.hottest_c = outcome.hottest_c.max(plant.air_c());
        }
    }
    comfort.into(&mut outcome);
    outcome
}

fn climate(name: &str, (heat_temp, cool_temp): (Temp, Temp)) -> Climate {
    Climate {
        name: name.to_owned(),
        climate_ref: ClimateRef::new(name),
        is_occupied: true,
        heat_temp,
        cool_temp,
        fan: FanMode::Auto,
        ventilator_min_on_time: None,
        sensors: Vec::new(),
    }
}

/// A program of which a recording shows this much: what holds now, and the next change that the program foresees.
fn glimpse(now: (Temp, Temp), next: Option<(i64, (Temp, Temp))>, zone: &TimeZone) -> Option<Program> {
    let this = ClimateRef::new("now");
    let mut climates = vec![climate("now", now)];
    if let Some((_, then)) = next {
        climates.push(climate("next", then));
    }
    let mut program = Program::uniform(climates, &this).ok()?;
    if let Some((at_ms, _)) = next {
        let slot = slot_at(at_ms, zone);
        let start = slot.day * SLOTS + slot.slot;
        for index in start..start + SLOTS {
            let (day, slot) = (index / SLOTS % DAYS, index % SLOTS);
            program.set(day, slot, slot + 1, &ClimateRef::new("next")).ok()?;
        }
    }
    Some(program)
}

/// The household's program of a simulated year: away on weekdays from 9 to 16.
fn week() -> Program {
    let mut program = Program::household();
    for day in 0..5 {
        let _ = program.set(day, 18, 32, &ClimateRef::new("away"));
    }
    program
}

/// What the sim's thermostat is configured with.
pub fn config(mode: HvacMode) -> Config {
    let mut config = Config::default();
    config.settings.hvac_mode = mode;
    config.settings.scale = model::TemperatureScale::Fahrenheit;
    let sensor = |id: &str| SensorConfig {
        id: id.to_owned(),
        name: id.to_owned(),
        offset: crate::temperature::Delta::ZERO,
        in_use: true,
    };
    config.sensors = vec![sensor("hall"), sensor("room")];
    // Recordings hold set points wherever their household wanted them.
    config.settings.cool_range.0 = Temp::from_tenths_f(600);
    config
}

/// One run: the thermostat is told what the sensors say and what the household wants, and nothing about the house.
pub struct Run<'a> {
    /// Weather and wishes.
    pub scenario: &'a Scenario,
    /// The house.
    pub parameters: &'a PlantParameters,
    /// The zone of its clocks.
    pub zone: &'a TimeZone,
    /// What the thermostat is configured with (its program comes from the scenario).
    pub config: Config,
    /// For noise.
    pub seed: u64,
    /// What goes wrong.
    pub faults: &'a [Fault],
}

/// The state of everything around the thermostat.
struct Around {
    plant: Plant,
    watch: Watch,
    relays: Call,
    /// Minutes since the relays were commanded.
    idle_min: u64,
    boot_min: u64,
    frozen: [Option<Temp>; 2],
}

impl Run<'_> {
    /// Plays it.
    pub fn play(self) -> Outcome {
        let (start_ms, minutes, indoor_c) = match self.scenario {
            Scenario::Record(record) => (record.start_ms, record.rows.len() * ROW_MIN, record.indoor_c),
            Scenario::Year { start_ms, days } => (*start_ms, *days as usize * 1440, 20.5),
        };
        let mode = self.config.settings.hvac_mode;
        let mut config = self.config;
        config.program = match self.scenario {
            Scenario::Record(record) => {
                let first = record.rows.iter().find_map(|r| r.set_points);
                let first = first.unwrap_or((Temp::from_tenths_c(200), Temp::from_tenths_c(250)));
                glimpse(first, None, self.zone).unwrap_or_else(Program::household)
            }
            Scenario::Year { .. } => week(),
        };
        let limits = config.limits.clone().bounded();
        let heat_pump = config.equipment.has_heat_pump;
        let mut thermostat = Thermostat::new(config.clone(), self.zone.clone());
        let mut sky = Sky::new(self.scenario, self.parameters.clone(), self.zone.clone());
        let mut around = Around {
            plant: Plant::new(self.parameters.clone(), indoor_c, self.seed),
            watch: Watch::new(limits, &config.equipment),
            relays: Call::NONE,
            idle_min: 0,
            boot_min: 0,
            frozen: [None; 2],
        };
        let mut outcome = Outcome { coldest_c: f64::MAX, hottest_c: f64::MIN, ..Outcome::default() };
        let mut comfort = Comfort::default();
        let mut beside = Comfort::default();
        let plan = config.prices.clone();
        let no_news = HeardPrices::default();
        let mut cost = 0.0;
        let mut fiddler = Rng::new(self.seed, 31, 0);
        let mut active: Vec<Fault> = Vec::new();
        let mut coming = self.faults.iter().copied().peekable();
        let mut last: Option<(SetPoints, Option<crate::thermostat::Lead>, i64)> = None;
        let mut wishes = None;
        let mut fiddled = false;
        let mut saved: Option<(String, bool)> = None;
        for minute in 0..minutes as u64 {
            let true_ms = start_ms + minute as i64 * MINUTE_MS;
            active.retain(|f| minute < f.to_min);
            while let Some(fault) = coming.next_if(|f| f.from_min <= minute) {
                outcome.faults += 1;
                active.push(fault);
            }
            let is = |wanted: fn(&Kind) -> bool| active.iter().any(|f| wanted(&f.kind));
            let power_cut = is(|k| matches!(k, Kind::PowerCut));
            let down = power_cut || is(|k| matches!(k, Kind::Restart));
            let connected = !is(|k| matches!(k, Kind::Broker));
            let outdoors = sky.at(minute as i64);
            // Wishes of a recording.
            if let Scenario::Record(record) = self.scenario
                && minute % ROW_MIN as u64 == 0
            {
                let row = minute as usize / ROW_MIN;
                wish(record, row, &mut wishes, self.zone, &mut thermostat);
            }
            if down && saved.is_none() {
                saved = Some((serde_json::to_string(&thermostat.save()).unwrap_or_default(), power_cut));
            }
            let mut forced = false;
            let mut urgent = false;
            let mut frost = false;
            let mut known_outdoor = None;
            if down {
                around.idle_min += 1;
                if power_cut {
                    (around.relays, forced) = (Call::NONE, true);
                }
            } else {
                if let Some((state, _)) = saved.take() {
                    let reported = connected.then_some(around.relays);
                    let mut deserializer = serde_json::Deserializer::from_str(&state);
                    let config = thermostat.config().clone();
                    thermostat = Thermostat::restore(config.clone(), self.zone.clone(), &mut deserializer, reported)
                        .unwrap_or_else(|_| Thermostat::new(config, self.zone.clone()));
                    around.boot_min = minute;
                }
                let mono_ms = (minute - around.boot_min) * MINUTE_MS as u64 + 1000;
                let step = active.iter().find_map(|f| match f.kind {
                    Kind::Clock { step_ms, trusted } => Some((step_ms, trusted)),
                    _ => None,
                });
                let (step_ms, trusted) = step.unwrap_or((0, true));
                let now = Now { wall_ms: true_ms + step_ms, mono_ms, trusted };
                if connected {
                    hear(&mut thermostat, &mut around, &active, mono_ms);
                }
                if is(|k| matches!(k, Kind::Fiddling)) {
                    fiddle(&mut thermostat, &mut fiddler, &now);
                    fiddled = true;
                } else if std::mem::take(&mut fiddled) {
                    // Whoever lives there puts it right.
                    let _ = thermostat.resume(true, Caller::owner("household"), &now);
                    thermostat.set_mode(mode);
                }
                let outdoor_known = connected && !is(|k| matches!(k, Kind::NoOutdoor));
                known_outdoor = outdoor_known.then(|| Temp::from_milli_c((outdoors.temperature_c * 1000.0) as i32));
                let inputs = Inputs {
                    outdoor: known_outdoor,
                    reported: connected.then_some(around.relays),
                    ..Inputs::default()
                };
                let decision = thermostat.tick(&now, &inputs);
                urgent = matches!(decision.reason, Reason::HighLimit | Reason::NoSensor);
                frost = decision.reason == Reason::FrostFloor;
                if connected {
                    around.relays = decision.relays.call();
                    around.idle_min = 0;
                } else {
                    around.idle_min += 1;
                }
                arrive(&mut outcome, &mut last, &decision, &around.plant, mode, true_ms + step_ms);
                let measured = match self.scenario {
                    Scenario::Record(record) => {
                        let row = record.rows.get(minute as usize / ROW_MIN);
                        row.and_then(|r| r.set_points).and(wishes)
                    }
                    Scenario::Year { .. } => Some((decision.set_points.heat(), decision.set_points.cool())),
                };
                if let Some(set_points) = measured {
                    comfort.add(around.plant.sensor_c(), set_points, mode);
                }
                for alert in thermostat.alerts().all() {
                    let suspects = matches!(alert.about, About::Drift(_) | About::ShortCycles | About::NoResponse);
                    if suspects && !outcome.suspected.contains(&alert.text) && outcome.suspected.len() < SUSPECTED_MAX {
                        outcome.suspected.push(alert.text.clone());
                    }
                }
                let undisturbed = (decision.undisturbed.heat(), decision.undisturbed.cool());
                beside.add(around.plant.sensor_c(), undisturbed, mode);
            }
            if around.idle_min > RELAY_WATCHDOG_MIN && around.relays != Call::NONE {
                (around.relays, forced) = (Call::NONE, true);
            }
            let at_ms = minute * MINUTE_MS as u64;
            let relays = around.relays;
            around.watch.look(&Seen {
                at_ms,
                relays,
                forced,
                urgent,
                outdoor: known_outdoor,
                frost,
                aux_only: mode == HvacMode::AuxHeatOnly,
            });
            let asked = around.plant.asked_w(relays);
            let kwh = around.plant.electric_w(relays, heat_pump) / 60_000.0;
            outcome.kwh += kwh;
            let price = plan.as_ref().filter(|_| kwh > 0.0).and_then(|p| p.price_at(&no_news, true_ms, self.zone));
            cost += kwh * price.unwrap_or(0.0);
            around.plant.step(60.0, outdoors, asked);
            outcome.coldest_c = outcome.coldest_c.min(around.plant.air_c());
            outcome.hottest_c = outcome.hottest_c.max(around.plant.air_c());
        }
        comfort.into(&mut outcome);
        if plan.is_some() {
            outcome.cost = Some(cost);
            outcome.plan_discomfort_fh_per_day = Some(beside.fh_per_day());
        }
        let watch = around.watch;
        outcome.starts_per_hour_max = watch.starts_per_hour_max as u64;
        outcome.starts = watch.starts_total;
        outcome.off_s_min = watch.off_min_ms.map(|ms| ms / 1000);
        outcome.runtime_h = watch.runtime_h();
        outcome.guards_broken = watch.broken;
        outcome.broken = watch.list;
        let learner = thermostat.learner();
        outcome.learned = (learner.fitted() > 0).then(|| *learner.model());
        outcome.learned_time_constant_h = outcome.learned.map(|m| m.time_constant_h());
        outcome
    }
}

/// The recording's household changes its mind, or its program has the next comfort setting.
fn wish(record: &Record, row: usize, wishes: &mut Option<(Temp, Temp)>, zone: &TimeZone, thermostat: &mut Thermostat) {
    let Some(now) = record.rows.get(row).and_then(|r| r.set_points) else { return };
    if *wishes == Some(now) {
        return;
    }
    *wishes = Some(now);
    // What the program foresees: the next change, when it is the program's.
    let mut coming = record.rows.iter().enumerate().skip(row + 1);
    let change = coming.find(|(_, r)| r.set_points.is_some_and(|s| s != now));
    let next = change
        .filter(|(_, r)| r.foreseen)
        .and_then(|(index, r)| Some((record.start_ms + (index * ROW_MIN) as i64 * MINUTE_MS, r.set_points?)));
    if let Some(program) = glimpse(now, next, zone) {
        let mut config = thermostat.config().clone();
        config.program = program;
        thermostat.configure(config);
    }
}

fn hear(thermostat: &mut Thermostat, around: &mut Around, active: &[Fault], mono_ms: u64) {
    for (index, id) in ["hall", "room"].into_iter().enumerate() {
        let mine = |sensor: &Option<usize>| sensor.is_none_or(|s| s == index);
        let read = around.plant.read();
        let mut said = Some(read);
        let mut frozen = false;
        for fault in active {
            match &fault.kind {
                Kind::Freeze { sensor } if mine(sensor) => frozen = true,
                Kind::Silence { sensor } if mine(sensor) => said = None,
                Kind::Nonsense { sensor, celsius } if *sensor == index => {
                    said = Some(Temp::from_milli_c((celsius * 1000.0) as i32));
                }
                _ => {}
            }
        }
        if let Some(memory) = around.frozen.get_mut(index) {
            if frozen {
                said = said.map(|_| *memory.get_or_insert(read));
            } else {
                *memory = None;
            }
        }
        if let Some(temperature) = said {
            let reading =
                SensorReading { temperature: Some(temperature), humidity: Some(45), ..SensorReading::default() };
            thermostat.hear(id, &reading, mono_ms);
        }
    }
}

/// A request without sense, as a bored caller would send.
fn fiddle(thermostat: &mut Thermostat, rng: &mut Rng, now: &Now) {
    let caller = Caller::other("fiddler");
    let temperature = |rng: &mut Rng| Temp::from_tenths_f(i32::try_from(rng.around(700, 150)).unwrap_or(700));
    match rng.around(3, 3) {
        0 => {
            let modes = [HvacMode::Off, HvacMode::Heat, HvacMode::Cool, HvacMode::Auto, HvacMode::AuxHeatOnly];
            let mode = usize::try_from(rng.around(2, 2)).ok().and_then(|i| modes.get(i)).copied();
            thermostat.set_mode(mode.unwrap_or_default());
        }
        1 | 2 => {
            let hold = Hold::at(temperature(rng));
            let _ = thermostat.set_hold(&hold, HoldType::NextTransition, caller, now);
        }
        3 => {
            let hold = Hold { heat: Some(temperature(rng)), cool: Some(temperature(rng)), ..Hold::default() };
            let _ = thermostat.set_hold(&hold, HoldType::HoldHours(1), caller, now);
        }
        4 => {
            let hold = Hold { fan: Some(FanMode::On), ..Hold::default() };
            let _ = thermostat.set_hold(&hold, HoldType::HoldHours(1), caller, now);
        }
        _ => {
            let _ = thermostat.resume(true, caller, now);
            thermostat.set_mode(HvacMode::Auto);
        }
    }
}

/// Notes how an optimal start has ended.
fn arrive(
    outcome: &mut Outcome,
    last: &mut Option<(SetPoints, Option<crate::thermostat::Lead>, i64)>,
    decision: &crate::thermostat::Decision,
    plant: &Plant,
    mode: HvacMode,
    wall_ms: i64,
) {
    let next_ms = decision.next.as_ref().map_or(i64::MAX, |(at, _)| *at);
    if let Some((before, lead, at_ms)) = *last
        && wall_ms >= at_ms
        && wall_ms < at_ms + 2 * MINUTE_MS
        && decision.source.event.is_none()
    {
        let t = plant.sensor_c();
        let (heat, cool) = (decision.set_points.heat(), decision.set_points.cool());
        let begun = lead.filter(|l| l.running);
        let late_cool = mode.cools() && cool < before.cool() && t - cool.celsius() > MISSED_K;
        let late_heat = mode.heats() && heat > before.heat() && heat.celsius() - t > MISSED_K;
        let error = match begun {
            Some(lead) => Some(t - lead.target.celsius()),
            None if late_cool => Some(t - cool.celsius()),
            None if late_heat => Some(t - heat.celsius()),
            None => None,
        };
        if let Some(error) = error {
            outcome.arrival_error_f.push((error / FAHRENHEIT_K * 100.0).round() / 100.0);
        }
    }
    let running = decision.lead.filter(|l| l.running);
    if let (Some(lead), true) = (running, last.is_none_or(|(_, l, _)| l.is_none_or(|l| !l.running))) {
        outcome.lead_min.push(lead.minutes);
    }
    *last = Some((decision.set_points, decision.lead, next_ms));
}
