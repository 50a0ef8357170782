//! No sequence of requests, from any caller, gets past the guards; the stack has one order; every schedule survives every
//! zone; and the complaints that people have about other thermostats.

#![expect(clippy::unwrap_used, clippy::indexing_slicing, reason = "tests")]

use comfort::event::{Event, Events};
use comfort::guard::{Call, Limits, Output};
use comfort::price::{Heard, PricePlan, Rate};
use comfort::program::{DAYS, Program, SLOTS, slot_at};
use comfort::simulate::watch::{Seen, Watch};
use comfort::{
    Answer, Caller, ClimateRef, Config, Counts, Decision, Delta, Demand, Denial, EventType, Hold, HoldType, HvacMode,
    Inputs, Now, Reason, SensorConfig, SensorReading, Temp, Thermostat,
};
use jiff::tz::TimeZone;
use proptest::prelude::*;

const START_MS: i64 = 1_700_000_000_000;
const MINUTE_MS: u64 = 60_000;

fn f(degrees: i32) -> Temp {
    Temp::from_tenths_f(degrees * 10)
}

fn config(mode: HvacMode) -> Config {
    let mut config = Config::default();
    config.settings.hvac_mode = mode;
    config.equipment.heat_stages = 2;
    config.equipment.cool_stages = 2;
    config.equipment.has_aux = true;
    config.limits.cooling_lockout = None;
    config.limits.aux_max_outdoor = None;
    config.sensors = vec![SensorConfig { id: "hall".into(), name: "Hall".into(), offset: Delta::ZERO, in_use: true }];
    config
}

/// A thermostat with a clock, a room as warm as one says, and a watchman.
struct Bench {
    thermostat: Thermostat,
    watch: Watch,
    wall_ms: i64,
    mono_ms: u64,
    true_ms: u64,
    room: Temp,
    outdoor: Option<Temp>,
    relays: Call,
    wiggle: i32,
}

impl Bench {
    fn new(config: Config) -> Self {
        let limits = config.limits.clone().bounded();
        let watch = Watch::new(limits, &config.equipment);
        let thermostat = Thermostat::new(config, TimeZone::UTC);
        Self {
            thermostat,
            watch,
            wall_ms: START_MS,
            mono_ms: 1000,
            true_ms: 0,
            room: f(70),
            outdoor: Some(f(70)),
            relays: Call::NONE,
            wiggle: 0,
        }
    }

    fn now(&self) -> Now {
        Now { wall_ms: self.wall_ms, mono_ms: self.mono_ms, trusted: true }
    }

    /// Time passes, the sensor speaks, the thermostat decides, the watchman looks.
    fn pass(&mut self, ms: u64) -> Decision {
        self.wall_ms += ms as i64;
        self.mono_ms += ms;
        self.true_ms += ms;
        self.wiggle = 56 - self.wiggle;
        let room = self.room.plus(Delta::from_milli_k(self.wiggle));
        let reading = SensorReading { temperature: Some(room), ..SensorReading::default() };
        self.thermostat.hear("hall", &reading, self.mono_ms);
        self.look(false)
    }

    fn look(&mut self, forced: bool) -> Decision {
        let inputs = Inputs { outdoor: self.outdoor, ..Inputs::default() };
        let decision = self.thermostat.tick(&self.now(), &inputs);
        self.relays = decision.relays.call();
        let urgent = matches!(decision.reason, Reason::HighLimit | Reason::NoSensor);
        let frost = decision.reason == Reason::FrostFloor;
        let (at_ms, relays, outdoor) = (self.true_ms, self.relays, self.outdoor);
        let aux_only = self.thermostat.config().settings.hvac_mode == HvacMode::AuxHeatOnly;
        self.watch.look(&Seen { at_ms, relays, forced, urgent, outdoor, frost, aux_only });
        decision
    }

    fn minutes(&mut self, minutes: u64) -> Decision {
        let mut last = self.pass(MINUTE_MS);
        for _ in 1..minutes {
            last = self.pass(MINUTE_MS);
        }
        last
    }

    fn restart(&mut self, power_cut: bool) {
        let saved = serde_json::to_string(&self.thermostat.save()).unwrap();
        let reported = (!power_cut).then_some(self.relays);
        let config = self.thermostat.config().clone();
        let mut from = serde_json::Deserializer::from_str(&saved);
        self.thermostat = Thermostat::restore(config, TimeZone::UTC, &mut from, reported).unwrap();
        self.mono_ms = 1000;
        if power_cut {
            self.relays = Call::NONE;
            let (at_ms, relays) = (self.true_ms, Call::NONE);
            self.watch.look(&Seen { at_ms, relays, forced: true, ..Seen::default() });
        }
        // A hub that has started takes its first step at once.
        self.look(false);
    }

    fn hold(&mut self, degrees: i32) {
        let now = self.now();
        self.thermostat.set_hold(&Hold::at(f(degrees)), HoldType::Indefinite, Caller::owner("me"), &now).unwrap();
    }
}

#[derive(Clone, Debug)]
enum Act {
    Pass(u64),
    Mode(usize),
    Hold(i32, i32),
    Climate(usize),
    Resume,
    Room(i32),
    Outdoor(Option<i32>),
    Wall(i64),
    Restart(bool),
    Configure(u32, u32, u32),
    Fan,
    Save(i32),
    Demand(i64, u32),
    Decline,
}

fn act() -> impl Strategy<Value = Act> {
    prop_oneof![
        6 => (1u64..900).prop_map(|s| Act::Pass(s * 1000)),
        2 => (0usize..5).prop_map(Act::Mode),
        3 => (50i32..90, 50i32..90).prop_map(|(h, c)| Act::Hold(h, c)),
        1 => (0usize..3).prop_map(Act::Climate),
        1 => Just(Act::Resume),
        3 => (20i32..110).prop_map(Act::Room),
        1 => proptest::option::of(-20i32..110).prop_map(Act::Outdoor),
        1 => (-900_000_000i64..900_000_000).prop_map(Act::Wall),
        1 => any::<bool>().prop_map(Act::Restart),
        1 => (0u32..2000, 0u32..2000, 0u32..9000).prop_map(|(a, b, c)| Act::Configure(a, b, c)),
        1 => Just(Act::Fan),
        1 => (-200i32..200).prop_map(Act::Save),
        1 => (-9_000_000i64..9_000_000, 0u32..5000).prop_map(|(start, delay)| Act::Demand(start, delay)),
        1 => Just(Act::Decline),
    ]
}

fn play(heat_pump: bool, acts: &[Act]) -> (u64, Vec<String>) {
    let mut c = config(HvacMode::Auto);
    c.equipment.has_heat_pump = heat_pump;
    c.limits.longest_run_s = 3600;
    c.prices = Some(plan());
    let mut bench = Bench::new(c);
    for act in acts {
        let now = bench.now();
        match act {
            Act::Pass(ms) => {
                // In steps that a hub would make, and one long silence now and then.
                let step = if ms % 7000 == 0 { *ms } else { 37_000 };
                let mut left = *ms;
                while left > 0 {
                    let dt = left.min(step);
                    bench.pass(dt);
                    left -= dt;
                }
            }
            Act::Mode(i) => {
                let modes = [HvacMode::Off, HvacMode::Heat, HvacMode::Cool, HvacMode::Auto, HvacMode::AuxHeatOnly];
                bench.thermostat.set_mode(modes[*i]);
                bench.pass(1000);
            }
            Act::Hold(heat, cool) => {
                let hold = Hold { heat: Some(f(*heat)), cool: Some(f(*cool)), ..Hold::default() };
                let _ = bench.thermostat.set_hold(&hold, HoldType::NextTransition, Caller::other("anybody"), &now);
                bench.pass(1000);
            }
            Act::Climate(i) => {
                let hold = Hold::climate(["home", "away", "sleep"][*i]);
                let _ = bench.thermostat.set_hold(&hold, HoldType::HoldHours(2), Caller::other("anybody"), &now);
                bench.pass(1000);
            }
            Act::Resume => {
                bench.thermostat.resume(true, Caller::owner("me"), &now).unwrap();
                bench.pass(1000);
            }
            Act::Room(degrees) => bench.room = f(*degrees),
            Act::Outdoor(degrees) => bench.outdoor = degrees.map(f),
            Act::Wall(step) => bench.wall_ms += step,
            Act::Restart(cut) => bench.restart(*cut),
            Act::Configure(off, on, cycle) => {
                // Whatever is configured: the protection of the compressor can't be taken away. The watchman keeps to the
                // least that may be configured, and to what he was told at first for the rest.
                let mut c = bench.thermostat.config().clone();
                let old = c.limits.clone();
                c.limits.min_off_s = (*off).max(old.min_off_s);
                c.limits.min_on_s = (*on).max(old.min_on_s);
                c.limits.min_cycle_s = (*cycle).max(old.min_cycle_s);
                if old == c.limits.clone().bounded() {
                    continue;
                }
                bench.thermostat.configure(c);
                bench.pass(1000);
                let mut c = bench.thermostat.config().clone();
                c.limits = old;
                bench.thermostat.configure(c);
            }
            Act::Fan => {
                let hold = Hold { fan: Some(comfort::FanMode::On), ..Hold::default() };
                let _ = bench.thermostat.set_hold(&hold, HoldType::HoldHours(1), Caller::other("anybody"), &now);
            }
            Act::Save(tenths) => {
                let by = Delta::from_tenths_f(*tenths);
                let _ = bench.thermostat.quick_save(by, None, Caller::other("anybody"), &now);
                bench.pass(1000);
            }
            Act::Demand(start, delay) => {
                let (start_ms, end_ms) = (bench.wall_ms + start, bench.wall_ms + start + 5_000_000);
                let (relative, delay_s) = (Delta::from_tenths_f(80), (*delay, *delay));
                let demand = Demand { name: "peak", start_ms, end_ms, relative, delay_s, by: "anybody" };
                let _ = bench.thermostat.demand_response(&demand, &now);
                bench.pass(1000);
            }
            Act::Decline => {
                bench.thermostat.decline_demand_response(None);
                bench.pass(1000);
            }
        }
    }
    (bench.watch.broken, bench.watch.list)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, ..ProptestConfig::default() })]

    #[test]
    fn no_sequence_of_requests_breaks_a_guard(heat_pump: bool, acts in prop::collection::vec(act(), 1..80)) {
        let (broken, list) = play(heat_pump, &acts);
        prop_assert_eq!(broken, 0, "{:?}", list);
    }

    /// Any two events are in one order, whichever came first, and the one that runs is the least of it.
    #[test]
    fn precedence_is_a_total_order(
        events in prop::collection::vec((0usize..7, -5i64..5, proptest::option::of(1i64..9)), 1..12),
        at in -6i64..12,
    ) {
        const TYPES: [EventType; 7] = [
            EventType::Hold, EventType::QuickSave, EventType::Vacation, EventType::DemandResponse, EventType::Sensor,
            EventType::AutoAway, EventType::AutoHome,
        ];
        let mut stack = Events::default();
        for (index, (kind, start, length)) in events.iter().enumerate() {
            let mut event = Event::new(TYPES[*kind], &format!("{index}"), "a", *start);
            event.end_ms = length.map(|l| start + l);
            stack.put(event).unwrap();
        }
        let all = stack.all();
        for (i, a) in all.iter().enumerate() {
            for (j, b) in all.iter().enumerate() {
                prop_assert_eq!(a.precedence().cmp(&b.precedence()), i.cmp(&j), "{:?} {:?}", a, b);
            }
        }
        let top = stack.running(at).next().map(|e| e.id);
        let least = all.iter().filter(|e| e.running(at)).min_by_key(|e| e.precedence()).map(|e| e.id);
        prop_assert_eq!(top, least);
        prop_assert!(all.windows(2).all(|w| w[0].class() <= w[1].class()));
    }

    /// Walking from transition to transition visits exactly the changes that a clock on the wall shows.
    #[test]
    fn every_schedule_survives_every_zones_transitions(
        zone in 0usize..600, year in 1890i32..2040, grid in prop::collection::vec(0usize..3, DAYS * SLOTS),
    ) {
        let names: Vec<String> = jiff::tz::db().available().map(|n| n.to_string()).collect();
        let name = &names[zone % names.len()];
        let zone = TimeZone::get(name).unwrap();
        let mut program = Program::household();
        let refs = ["home", "away", "sleep"].map(ClimateRef::new);
        for (i, climate) in grid.iter().enumerate() {
            program.set(i / SLOTS, i % SLOTS, i % SLOTS + 1, &refs[*climate]).unwrap();
        }
        // Around each change of the zone in two years.
        let start = jiff::Timestamp::from_second(i64::from(year - 1970) * 31_556_952).unwrap();
        let changes: Vec<i64> = zone.following(start).take(4).map(|t| t.timestamp().as_millisecond()).collect();
        for change in changes.into_iter().chain([start.as_millisecond()]) {
            let (from, to) = (change - 3 * 3_600_000, change + 3 * 3_600_000);
            let mut at = from;
            let mut walked = Vec::new();
            while let Some(next) = program.next_transition(at, &zone) {
                prop_assert!(next.at_ms > at, "{} goes back at {}", name, at);
                if next.at_ms > to { break }
                walked.push((next.at_ms, next.to));
                at = next.at_ms;
            }
            // The clock, second by second where it matters: each quarter of a minute.
            let climate = |ms: i64| {
                let civil = zone.to_datetime(jiff::Timestamp::from_millisecond(ms).unwrap());
                let day = civil.weekday().to_monday_zero_offset() as usize;
                program.at(day, civil.hour() as usize * 2 + usize::from(civil.minute() >= 30))
            };
            let mut shown = Vec::new();
            let mut ms = from;
            let mut last = climate(ms);
            while ms <= to {
                let now = climate(ms);
                if now != last {
                    shown.push((ms, now));
                    last = now;
                }
                ms += 1000;
            }
            let near = walked.len() == shown.len()
                && walked.iter().zip(&shown).all(|(w, s)| w.1 == s.1 && (0..1000).contains(&(s.0 - w.0)));
            prop_assert!(near, "{}: walked {:?}, shown {:?}", name, walked, shown);
        }
    }
}

#[test]
fn a_day_of_23_hours_and_one_of_25_are_lived_by_the_clock_on_the_wall() {
    let zone = TimeZone::get("Europe/Paris").unwrap();
    let slots = |date: jiff::civil::Date| {
        let midnight = |d: jiff::civil::Date| d.to_zoned_datetime(zone.clone()).unwrap().timestamp().as_millisecond();
        let (mut at, end) = (midnight(date), midnight(date.tomorrow().unwrap()));
        let mut seen = Vec::new();
        while at < end {
            let slot = slot_at(at, &zone);
            seen.push(slot.slot);
            at = slot.end_ms;
        }
        seen
    };
    let spring = slots(jiff::civil::date(2026, 3, 29));
    assert_eq!(spring.len(), 46);
    assert!(!spring.contains(&4) && !spring.contains(&5), "2:00 to 3:00 does not exist");
    let autumn = slots(jiff::civil::date(2026, 10, 25));
    assert_eq!(autumn.len(), 50);
    assert_eq!(autumn.iter().filter(|s| **s == 4).count(), 2, "2:00 is lived twice");
}

// The open complaints of other thermostats' users, one by one.

#[test]
fn complaint_the_minimum_cycle_is_ignored_when_the_set_point_or_preset_changes() {
    let mut bench = Bench::new(config(HvacMode::Heat));
    bench.room = f(60);
    assert!(bench.minutes(20).relays.heats());
    // Down, up, preset, mode: within the least times nothing switches.
    bench.hold(50);
    assert!(!bench.pass(1000).relays.heats());
    for step in 0..50 {
        bench.hold(if step % 2 == 0 { 75 } else { 50 });
        assert!(!bench.pass(5000).relays.heats(), "on after {} s", step * 5);
    }
    bench.hold(75);
    let running = bench.pass(1000);
    assert!(running.denied.iter().any(|d| d.why == Denial::MinOff), "{:?}", running.denied);
    assert!(running.why(model::TemperatureScale::Fahrenheit).contains("least time off"), "the household is told");
    assert_eq!(bench.watch.broken, 0, "{:?}", bench.watch.list);
}

#[test]
fn complaint_the_minimum_cycle_is_ignored_with_a_keep_alive() {
    // A keep-alive is a tick and nothing else: a thousand of them in a second change nothing.
    let mut bench = Bench::new(config(HvacMode::Cool));
    bench.room = f(90);
    bench.minutes(20);
    bench.thermostat.set_mode(HvacMode::Off);
    bench.minutes(4);
    assert!(!bench.relays.cools());
    bench.thermostat.set_mode(HvacMode::Cool);
    for _ in 0..1000 {
        bench.pass(1);
        assert!(!bench.relays.cools());
    }
    assert_eq!(bench.watch.broken, 0);
}

#[test]
fn complaint_the_mode_and_the_holds_are_lost_after_a_start() {
    let mut bench = Bench::new(config(HvacMode::Heat));
    bench.room = f(60);
    bench.hold(72);
    let before = bench.minutes(20);
    bench.restart(true);
    let after = bench.minutes(3);
    assert_eq!((after.mode, after.set_points), (before.mode, before.set_points));
    assert_eq!(after.source, before.source);
    assert!(!after.relays.heats(), "the least time off counts from the power cut on");
    assert!(bench.minutes(20).relays.heats());
    assert_eq!(bench.watch.broken, 0, "{:?}", bench.watch.list);
}

#[test]
fn complaint_a_restart_of_the_hub_switches_running_equipment() {
    let mut bench = Bench::new(config(HvacMode::Heat));
    bench.room = f(60);
    bench.minutes(10);
    assert!(bench.relays.heats());
    let starts = bench.watch.starts_total;
    bench.restart(false);
    for _ in 0..10 {
        assert!(bench.pass(MINUTE_MS).relays.heats());
    }
    assert_eq!(bench.watch.starts_total, starts);
}

#[test]
fn complaint_an_echo_of_the_device_becomes_an_order() {
    // What relays report is heard by the guard alone: no loop of reports can change a wish.
    let mut bench = Bench::new(config(HvacMode::Heat));
    bench.room = f(75);
    let before = bench.minutes(5);
    for relay in [Output::Heat1, Output::Fan, Output::Cool1] {
        let inputs = Inputs { outdoor: Some(f(40)), reported: Some(Call::of(&[relay])), ..Inputs::default() };
        bench.mono_ms += 1000;
        let decision = bench.thermostat.tick(&bench.now(), &inputs);
        assert_eq!(
            (decision.asked, decision.set_points, decision.source),
            (before.asked, before.set_points, before.source.clone())
        );
    }
}

#[test]
fn complaint_overrides_stay_for_ever() {
    let mut bench = Bench::new(config(HvacMode::Heat));
    let now = bench.now();
    bench.thermostat.set_hold(&Hold::at(f(75)), HoldType::HoldHours(2), Caller::owner("me"), &now).unwrap();
    assert_eq!(bench.pass(MINUTE_MS).set_points.heat(), f(75));
    assert_eq!(bench.minutes(121).source.event, None);
}

#[test]
fn complaint_80_becomes_80_point_1() {
    let mut bench = Bench::new(config(HvacMode::Cool));
    bench.hold(80);
    let decision = bench.pass(1000);
    assert_eq!(decision.set_points.cool().text(model::TemperatureScale::Fahrenheit), "80 °F");
}

#[test]
fn without_a_sensor_what_can_heat_in_this_cold_keeps_the_frost_out() {
    let mut config = config(HvacMode::Heat);
    config.equipment.has_heat_pump = true;
    config.limits.compressor_min_outdoor = Some(f(0));
    let mut bench = Bench::new(config);
    bench.outdoor = Some(f(-20));
    bench.minutes(10);
    let mut heated = 0;
    for _ in 0..180 {
        bench.mono_ms += MINUTE_MS;
        bench.true_ms += MINUTE_MS;
        bench.wall_ms += MINUTE_MS as i64;
        let decision = bench.look(false);
        heated += u32::from(decision.reason == Reason::NoSensor && decision.relays.on(Output::Aux));
    }
    assert!(heated > 30, "{heated} minutes of three hours");
    assert_eq!(bench.watch.broken, 0, "{:?}", bench.watch.list);
}

#[test]
fn a_guided_thermostat_is_never_left_off_in_the_cold() {
    let mut config = config(HvacMode::Heat);
    (config.equipment.heat_stages, config.equipment.has_aux) = (1, false);
    let (settings, equipment) = (config.settings.clone(), config.equipment.clone());
    let mut bench = Bench::new(config);
    let told = |d: &Decision| d.guidance(&settings, &equipment);
    assert_eq!(told(&bench.pass(MINUTE_MS)).0, HvacMode::Heat);
    // Neither while a window is open, nor when the sensor has fallen silent: nobody may be there to end it.
    let mut paused = bench.pass(MINUTE_MS);
    for _ in 0..10 {
        bench.wall_ms += MINUTE_MS as i64;
        bench.mono_ms += MINUTE_MS;
        let reading = SensorReading { temperature: Some(bench.room), ..SensorReading::default() };
        bench.thermostat.hear("hall", &reading, bench.mono_ms);
        let inputs = Inputs { outdoor: bench.outdoor, opening: true, ..Inputs::default() };
        paused = bench.thermostat.tick(&bench.now(), &inputs);
    }
    let (mode, heat, _) = told(&paused);
    assert_eq!((mode, paused.reason), (HvacMode::Heat, Reason::WindowOpen));
    assert!(settings.frost_floor < heat && heat < f(50), "{heat:?}");
    for _ in 0..60 {
        bench.mono_ms += MINUTE_MS;
        bench.wall_ms += MINUTE_MS as i64;
        let decision = bench.look(false);
        assert_eq!(told(&decision).0, HvacMode::Heat);
    }
}

#[test]
fn a_guided_thermostat_that_does_not_tell_what_it_does_teaches_nothing() {
    let learned = |tells: bool| {
        let mut config = config(HvacMode::Heat);
        (config.equipment.is_guided, config.equipment.has_aux) = (true, false);
        let mut bench = Bench::new(config);
        let mut decision = bench.pass(MINUTE_MS);
        for step in 0..3 * 288u64 {
            let heats = step % 12 < 6;
            bench.room = bench.room.plus(Delta::from_milli_k(if heats { 150 } else { -150 }));
            bench.mono_ms += 5 * MINUTE_MS;
            bench.wall_ms += 5 * MINUTE_MS as i64;
            let reading = SensorReading { temperature: Some(bench.room), ..SensorReading::default() };
            bench.thermostat.hear("hall", &reading, bench.mono_ms);
            let call = if heats { Call::of(&[Output::Heat1]) } else { Call::NONE };
            let inputs = Inputs { outdoor: Some(f(40)), reported: tells.then_some(call), ..Inputs::default() };
            decision = bench.thermostat.tick(&bench.now(), &inputs);
        }
        (bench.thermostat.house().samples, decision.why(model::TemperatureScale::Celsius))
    };
    let (samples, why) = learned(true);
    assert!(samples >= 288 && why.starts_with("It is idle"), "{samples} {why}");
    let (samples, why) = learned(false);
    assert!(samples == 0 && why.starts_with("It does not tell what it does"), "{samples} {why}");
}

#[test]
fn complaint_a_stalled_sensor_heats_the_house_for_ever() {
    let mut bench = Bench::new(config(HvacMode::Heat));
    bench.room = f(60);
    bench.outdoor = Some(f(75));
    bench.minutes(30);
    assert!(bench.relays.heats());
    // The sensor falls silent.
    for minute in 0..60 {
        bench.mono_ms += MINUTE_MS;
        bench.true_ms += MINUTE_MS;
        bench.wall_ms += MINUTE_MS as i64;
        let decision = bench.look(false);
        if minute > 25 {
            assert!(!decision.relays.heats() && decision.reason == Reason::NoSensor, "minute {minute}");
        }
    }
    assert!(bench.thermostat.alerts().all().iter().any(|a| a.about == comfort::About::NoSensor));
    assert_eq!(bench.watch.broken, 0, "{:?}", bench.watch.list);
}

#[test]
fn complaint_an_open_window_heats_the_street() {
    let mut bench = Bench::new(config(HvacMode::Heat));
    bench.room = f(60);
    bench.minutes(20);
    let open = |bench: &mut Bench, opening: bool| {
        bench.wall_ms += MINUTE_MS as i64;
        bench.mono_ms += MINUTE_MS;
        let reading = SensorReading { temperature: Some(bench.room), ..SensorReading::default() };
        bench.thermostat.hear("hall", &reading, bench.mono_ms);
        bench.thermostat.tick(&bench.now(), &Inputs { outdoor: bench.outdoor, opening, ..Inputs::default() })
    };
    let reasons: Vec<Reason> = (0..8).map(|_| open(&mut bench, true).reason).collect();
    assert_eq!(reasons[1], Reason::BelowHeatSetPoint, "a door that is passed through does not pause");
    assert_eq!(reasons[7], Reason::WindowOpen);
    // Not against the frost.
    bench.room = f(40);
    let frozen = (0..12).map(|_| open(&mut bench, true).reason).last();
    assert_eq!(frozen, Some(Reason::FrostFloor));
    bench.room = f(60);
    let mut closed = open(&mut bench, false);
    for _ in 0..14 {
        closed = open(&mut bench, false);
    }
    assert_eq!(closed.reason, Reason::BelowHeatSetPoint);
}

#[test]
fn complaint_an_open_window_can_not_be_ignored() {
    // Some want the pause, some a window that is always ajar: it is theirs to say, and the delay too.
    let mut c = config(HvacMode::Heat);
    c.settings.open_window_after_s = 60;
    let mut bench = Bench::new(c);
    bench.room = f(60);
    bench.minutes(20);
    let open = |bench: &mut Bench| {
        bench.mono_ms += MINUTE_MS;
        let reading = SensorReading { temperature: Some(bench.room), ..SensorReading::default() };
        bench.thermostat.hear("hall", &reading, bench.mono_ms);
        let inputs = Inputs { outdoor: bench.outdoor, opening: true, ..Inputs::default() };
        bench.thermostat.tick(&bench.now(), &inputs).reason
    };
    open(&mut bench);
    assert_eq!(open(&mut bench), Reason::WindowOpen);
    let mut c = bench.thermostat.config().clone();
    c.settings.open_window_bypass = true;
    bench.thermostat.configure(c);
    assert_eq!(open(&mut bench), Reason::BelowHeatSetPoint);
}

#[test]
fn complaint_the_fan_shortens_or_restarts_the_pause_of_cooling() {
    let pause_s = |with_fan: bool| {
        let mut bench = Bench::new(config(HvacMode::Cool));
        bench.room = f(90);
        bench.minutes(20);
        bench.room = f(70);
        while bench.relays.cools() {
            bench.pass(5000);
        }
        bench.room = f(90);
        let mut seconds = 0;
        while !bench.relays.cools() {
            let now = bench.now();
            let fan = if with_fan && seconds % 60 < 30 { comfort::FanMode::On } else { comfort::FanMode::Auto };
            let hold = Hold { fan: Some(fan), ..Hold::default() };
            let _ = bench.thermostat.set_hold(&hold, HoldType::HoldHours(1), Caller::owner("me"), &now);
            bench.pass(5000);
            seconds += 5;
        }
        assert_eq!(bench.watch.broken, 0, "{:?}", bench.watch.list);
        seconds
    };
    assert_eq!(pause_s(true), pause_s(false));
}

#[test]
fn complaint_the_fan_runs_on_after_its_hold_and_with_the_mode_off() {
    let mut bench = Bench::new(config(HvacMode::Cool));
    bench.room = f(70);
    assert!(!bench.minutes(5).relays.on(Output::Fan), "auto: not by itself");
    let now = bench.now();
    let hold = Hold { fan: Some(comfort::FanMode::On), ..Hold::default() };
    bench.thermostat.set_hold(&hold, HoldType::HoldHours(1), Caller::owner("me"), &now).unwrap();
    assert!(bench.minutes(5).relays.on(Output::Fan));
    bench.thermostat.set_mode(HvacMode::Off);
    assert!(!bench.minutes(2).relays.on(Output::Fan), "off is off");
    bench.thermostat.set_mode(HvacMode::Cool);
    assert!(bench.minutes(2).relays.on(Output::Fan));
    assert!(!bench.minutes(60).relays.on(Output::Fan), "the hold has ended");
}

#[test]
fn complaint_a_passing_cat_brings_an_empty_house_home_and_a_quiet_evening_sends_it_away() {
    let mut c = config(HvacMode::Heat);
    c.settings.auto_away = true;
    c.settings.auto_away_after_s = 3600;
    c.program = Program::uniform(c.program.climates().to_vec(), &ClimateRef::new("home")).unwrap();
    let mut bench = Bench::new(c);
    bench.minute_with(None, Some(true));
    // An hour without a movement, no less, and each movement begins it anew.
    for _ in 0..50 {
        assert_eq!(bench.minute_with(None, Some(false)).source.event, None);
    }
    bench.minute_with(None, Some(true));
    for _ in 0..58 {
        assert_eq!(bench.minute_with(None, Some(false)).source.event, None);
    }
    for _ in 0..4 {
        bench.minute_with(None, Some(false));
    }
    assert_eq!(bench.minute_with(None, Some(false)).source.event, Some(EventType::AutoAway));
    // A phone that is at home counts for more than still air.
    let inputs = Inputs { outdoor: bench.outdoor, phone_home: Some(true), ..Inputs::default() };
    bench.mono_ms += 1000;
    assert_eq!(bench.thermostat.tick(&bench.now(), &inputs).source.event, None);
}

#[test]
fn complaint_every_sensor_counts_at_every_hour() {
    let mut c = config(HvacMode::Heat);
    c.sensors.push(SensorConfig { id: "den".into(), name: "Den".into(), offset: Delta::ZERO, in_use: true });
    let mut climates = c.program.climates().to_vec();
    for climate in &mut climates {
        climate.sensors = vec![if climate.climate_ref == ClimateRef::new("sleep") { "den" } else { "hall" }.into()];
    }
    c.program = Program::uniform(climates, &ClimateRef::new("home")).unwrap();
    let mut bench = Bench::new(c);
    bench.room = f(70);
    let den = SensorReading { temperature: Some(f(60)), ..SensorReading::default() };
    bench.thermostat.hear("den", &den, bench.mono_ms);
    assert!((bench.pass(1000).temperature.unwrap().fahrenheit() - 70.0).abs() < 0.3);
    let now = bench.now();
    bench.thermostat.set_hold(&Hold::climate("sleep"), HoldType::HoldHours(8), Caller::owner("me"), &now).unwrap();
    assert!((bench.pass(1000).temperature.unwrap().fahrenheit() - 60.0).abs() < 0.3);
}

#[test]
fn complaint_nobody_says_why_it_runs_or_why_not() {
    let scale = model::TemperatureScale::Fahrenheit;
    let mut bench = Bench::new(config(HvacMode::Heat));
    bench.room = f(60);
    for (act, word) in [
        ("start", "colder than the heating set point"),
        ("off", "the mode is off"),
        ("on at once", "the least time off has not passed"),
        ("warm", "nothing is needed"),
        ("frost", "frost floor"),
        ("hot", "high limit"),
    ] {
        match act {
            "off" => bench.thermostat.set_mode(HvacMode::Off),
            "on at once" => bench.thermostat.set_mode(HvacMode::Heat),
            "warm" => bench.room = f(72),
            "frost" => bench.room = f(40),
            "hot" => bench.room = f(95),
            _ => {}
        }
        let decision = match act {
            "on at once" => bench.pass(1000),
            "off" => bench.minutes(4),
            _ => bench.minutes(15),
        };
        let why = decision.why(scale);
        assert!(why.contains(word), "{act}: {why}");
    }
}

#[test]
fn complaint_the_heat_pump_reverses_at_once() {
    let mut c = config(HvacMode::Auto);
    c.equipment.has_heat_pump = true;
    let mut bench = Bench::new(c);
    bench.room = f(85);
    bench.minutes(20);
    assert!(bench.relays.cools());
    bench.room = f(55);
    let mut seconds = 0;
    while !bench.relays.has(Output::Heat1) {
        bench.pass(5000);
        seconds += 5;
        assert!(seconds < 3600);
    }
    assert!(seconds >= 300, "after {seconds} s");
    assert_eq!(bench.watch.broken, 0, "{:?}", bench.watch.list);
}

#[test]
fn the_frost_floor_and_the_high_limit_hold_in_every_mode() {
    for mode in [HvacMode::Off, HvacMode::Cool, HvacMode::Heat, HvacMode::Auto, HvacMode::AuxHeatOnly] {
        let mut bench = Bench::new(config(mode));
        bench.room = f(43);
        assert!(bench.minutes(20).relays.heats(), "{mode:?}");
        bench.hold(79);
        bench.room = f(95);
        let hot = bench.minutes(12);
        assert!(!hot.relays.heats() && hot.reason == Reason::HighLimit, "{mode:?}");
    }
}

#[test]
fn a_clock_step_shortens_no_pause_and_ends_no_hold_when_it_is_not_believed() {
    let mut bench = Bench::new(config(HvacMode::Heat));
    bench.room = f(60);
    let now = bench.now();
    bench.thermostat.set_hold(&Hold::at(f(72)), HoldType::HoldHours(2), Caller::owner("me"), &now).unwrap();
    bench.minutes(20);
    bench.thermostat.set_mode(HvacMode::Off);
    bench.minutes(4);
    bench.thermostat.set_mode(HvacMode::Heat);
    let step = Now { wall_ms: bench.wall_ms + 86_400_000, mono_ms: bench.mono_ms + 1000, trusted: false };
    let decision = bench.thermostat.tick(&step, &Inputs::default());
    assert!(!decision.relays.heats());
    assert_eq!(decision.source.event, Some(EventType::Hold));
    assert!(decision.denied.iter().any(|d| d.why == Denial::MinOff));
}

/// The clock says 2036, and an hour later it is put right.
#[test]
fn what_a_leap_of_the_clock_has_ended_is_there_again_when_it_is_put_right() {
    let (hour_ms, leap_ms) = (3_600_000i64, 3650 * 86_400_000i64);
    for restart in [false, true] {
        let mut bench = Bench::new(config(HvacMode::Heat));
        bench.thermostat.configure(Config {
            program: Program::uniform(Program::household().climates().to_vec(), &ClimateRef::new("home")).unwrap(),
            ..bench.thermostat.config().clone()
        });
        let now = bench.now();
        bench.thermostat.set_hold(&Hold::at(f(72)), HoldType::HoldHours(4), Caller::owner("me"), &now).unwrap();
        let span = (bench.wall_ms + 24 * hour_ms, bench.wall_ms + 48 * hour_ms);
        bench.thermostat.create_vacation("Sea", (f(55), f(85)), span, Caller::owner("me")).unwrap();
        let (start_ms, end_ms) = (bench.wall_ms, bench.wall_ms + 3 * hour_ms);
        let peak = Demand {
            name: "peak",
            start_ms,
            end_ms,
            relative: Delta::from_tenths_f(20),
            delay_s: (0, 0),
            by: "utility",
        };
        bench.thermostat.demand_response(&peak, &now).unwrap();
        bench.thermostat.decline_demand_response(None);
        assert_eq!(bench.minutes(60).set_points.heat(), f(72));
        bench.wall_ms += leap_ms;
        assert_eq!(bench.minutes(30).source.event, None, "the clock is followed");
        if restart {
            bench.restart(true);
        }
        // What is asked for meanwhile is meant from then on, not for 2036.
        let now = bench.now();
        bench.thermostat.set_hold(&Hold::at(f(66)), HoldType::HoldHours(1), Caller::owner("me"), &now).unwrap();
        assert_eq!(bench.minutes(30).set_points.heat(), f(66));
        bench.wall_ms -= leap_ms;
        assert_eq!(bench.minutes(25).set_points.heat(), f(66));
        assert_eq!(bench.minutes(10).set_points.heat(), f(72), "the older hold goes on");
        let now = bench.now();
        assert_eq!(bench.thermostat.demand_response(&peak, &now), Ok(Answer::Declined));
        assert_eq!(bench.minutes(90).source.event, None, "and has its end");
        assert_eq!(bench.minutes(21 * 60).set_points.heat(), f(55), "the vacation as well");
        assert_eq!(bench.minutes(24 * 60).source.event, None);
    }
}

#[test]
fn a_clock_that_is_set_back_pauses_nothing_that_runs_and_brings_nothing_back_that_was_over() {
    let mut bench = Bench::new(config(HvacMode::Heat));
    let now = bench.now();
    bench.thermostat.set_hold(&Hold::at(f(71)), HoldType::HoldHours(1), Caller::owner("me"), &now).unwrap();
    bench.minutes(70);
    bench.hold(72);
    bench.minutes(5);
    bench.wall_ms -= 3 * 86_400_000;
    assert_eq!(bench.minutes(5).set_points.heat(), f(72));
    let now = bench.now();
    assert_eq!(bench.thermostat.resume(true, Caller::owner("me"), &now).unwrap().len(), 1);
    // A hub that was off for a day has missed the end of this one; a clock that is wrong a month later brings it not back.
    bench.thermostat.set_hold(&Hold::at(f(70)), HoldType::HoldHours(1), Caller::owner("me"), &now).unwrap();
    bench.minutes(2);
    bench.wall_ms += 86_400_000;
    bench.restart(true);
    assert_eq!(bench.minutes(2).source.event, None);
    for _ in 0..24 * 8 {
        bench.minutes(60);
    }
    bench.wall_ms -= 9 * 86_400_000;
    assert_eq!(bench.minutes(2).source.event, None);
}

#[test]
fn the_least_protection_can_not_be_configured_away() {
    let limits = Limits {
        min_off_s: 0,
        min_on_s: 0,
        reversing_delay_s: 0,
        min_cycle_s: 0,
        longest_run_s: u32::MAX,
        ..Limits::default()
    };
    let bounded = limits.bounded();
    assert_eq!(
        (bounded.min_off_s, bounded.min_on_s, bounded.reversing_delay_s, bounded.min_cycle_s),
        (240, 60, 60, 600)
    );
    assert_eq!(bounded.longest_run_s, 24 * 3600);
    let mut bench = Bench::new(config(HvacMode::Auto));
    bench.hold(72);
    let points = bench.pass(1000).set_points;
    assert!(points.cool().above(points.heat()) >= Delta::from_tenths_f(49), "{points:?}");
}

#[test]
fn a_vacation_covers_an_older_hold_and_gives_it_back() {
    let mut bench = Bench::new(config(HvacMode::Heat));
    bench.hold(72);
    let start = bench.wall_ms + 3_600_000;
    let span = (start, start + 2 * 3_600_000);
    bench.thermostat.create_vacation("Sea", (f(55), f(85)), span, Caller::owner("me")).unwrap();
    assert!(bench.thermostat.create_vacation("Sea", (f(55), f(85)), span, Caller::owner("me")).is_err());
    assert_eq!(bench.minutes(59).set_points.heat(), f(72));
    assert_eq!(bench.minutes(5).set_points.heat(), f(55));
    assert_eq!(bench.minutes(120).set_points.heat(), f(72));
    let now = bench.now();
    assert_eq!(bench.thermostat.resume(false, Caller::owner("me"), &now).unwrap().len(), 1);
    assert_eq!(bench.pass(1000).source.event, None);
}

#[test]
fn the_lock_holds_whoever_is_no_owner() {
    let mut c = config(HvacMode::Heat);
    c.lock = Some((f(65), f(72)));
    let mut bench = Bench::new(c);
    let now = bench.now();
    let hold = Hold { heat: Some(f(80)), ..Hold::default() };
    let refused = bench.thermostat.set_hold(&hold, HoldType::Indefinite, Caller::other("a guest"), &now);
    assert!(refused.unwrap_err().to_string().contains("a guest"));
    assert!(bench.thermostat.set_hold(&hold, HoldType::Indefinite, Caller::owner("me"), &now).is_ok());
}

#[test]
fn the_lock_holds_whichever_way_somebody_comes() {
    let guest = Caller::other("a guest");
    let mut c = config(HvacMode::Auto);
    c.lock = Some((f(66), f(78)));
    c.program = Program::uniform(c.program.climates().to_vec(), &ClimateRef::new("home")).unwrap();
    let mut bench = Bench::new(c);
    let points = |d: &Decision| (d.set_points.heat().tenths_f(), d.set_points.cool().tenths_f());
    assert_eq!(points(&bench.pass(1000)), (690, 760));
    // By the name of a comfort setting no further than by degrees.
    let now = bench.now();
    let to = |climate: &str| Hold::climate(climate);
    for refused in ["away", "sleep"] {
        assert!(bench.thermostat.set_hold(&to(refused), HoldType::NextTransition, guest, &now).is_err(), "{refused}");
    }
    bench.thermostat.set_hold(&to("home"), HoldType::HoldHours(1), guest, &now).unwrap();
    // Saving stops at the range; an owner's does not, and neither brings an owner's own wish back into it.
    bench.thermostat.quick_save(Delta::from_tenths_f(60), None, guest, &now).unwrap();
    assert_eq!(points(&bench.pass(1000)), (660, 780));
    let now = bench.now();
    bench.thermostat.quick_save(Delta::from_tenths_f(60), None, Caller::owner("me"), &now).unwrap();
    assert_eq!(points(&bench.pass(1000)), (630, 820));
    let now = bench.now();
    assert!(bench.thermostat.resume(false, guest, &now).unwrap_err().to_string().contains("a guest"));
    // All that is theirs ends, nothing that is an owner's.
    let ended = bench.thermostat.resume(true, guest, &now).unwrap();
    assert_eq!(ended.iter().map(|e| e.event_type).collect::<Vec<_>>(), [EventType::Hold]);
    assert_eq!(points(&bench.pass(1000)), (630, 820));
    let now = bench.now();
    assert!(bench.thermostat.resume(true, guest, &now).is_err());
    bench.thermostat.resume(true, Caller::owner("me"), &now).unwrap();
    // An owner's hold is covered by theirs, and there again when that ends.
    bench.hold(60);
    let now = bench.now();
    bench.thermostat.set_hold(&Hold::at(f(70)), HoldType::HoldHours(1), guest, &now).unwrap();
    assert_eq!(bench.minutes(50).set_points.heat(), f(70));
    assert_eq!(bench.minutes(15).set_points.heat(), f(60));
    // Without a lock anybody may end anything.
    let mut c = bench.thermostat.config().clone();
    c.lock = None;
    bench.thermostat.configure(c);
    let now = bench.now();
    assert_eq!(bench.thermostat.resume(true, guest, &now).unwrap().len(), 1);
}

#[test]
fn a_sensor_that_says_what_can_not_be_is_left_out_and_named() {
    let mut c = config(HvacMode::Heat);
    c.sensors.push(SensorConfig {
        id: "den".into(),
        name: "Den".into(),
        offset: Delta::from_milli_k(1000),
        in_use: true,
    });
    let mut bench = Bench::new(c);
    let say = |bench: &mut Bench, t: Temp| {
        let reading = SensorReading { temperature: Some(t), ..SensorReading::default() };
        bench.thermostat.hear("den", &reading, bench.mono_ms);
        bench.pass(MINUTE_MS)
    };
    bench.room = f(68);
    let both = say(&mut bench, f(68)).temperature.unwrap();
    assert!((both.celsius() - 20.5).abs() < 0.1, "the offset counts: {both:?}");
    for _ in 0..25 {
        say(&mut bench, f(68));
    }
    for wild in [f(185), f(-60), f(110)] {
        let one = say(&mut bench, wild).temperature.unwrap();
        assert!((one.celsius() - 20.0).abs() < 0.1, "{wild:?} counted: {one:?}");
    }
    let alerts: Vec<String> = bench.thermostat.alerts().all().iter().map(|a| a.text.clone()).collect();
    assert!(alerts.iter().any(|a| a.contains("Den") && a.contains("impossible")), "{alerts:?}");
}

#[test]
fn a_heat_pump_is_given_its_time_before_auxiliary_heat() {
    let mut c = config(HvacMode::Heat);
    c.equipment.has_heat_pump = true;
    let mut bench = Bench::new(c);
    bench.hold(72);
    bench.room = f(66);
    bench.outdoor = Some(f(30));
    let early = bench.minutes(30);
    assert!(early.relays.on(Output::Heat1) && !early.relays.on(Output::Aux) && early.relays.on(Output::Fan));
    assert!(bench.minutes(30).relays.on(Output::Aux));
    // Colder than the compressor bears, auxiliary heat does it alone.
    bench.outdoor = Some(f(-40));
    let cold = bench.minutes(10);
    assert!(!cold.relays.on(Output::Heat1) && cold.relays.on(Output::Aux), "{:?}", cold.relays);
    assert_eq!(bench.watch.broken, 0, "{:?}", bench.watch.list);
}

#[test]
fn demand_response_moves_the_set_point_and_can_be_declined() {
    let mut bench = Bench::new(config(HvacMode::Cool));
    let before = bench.pass(1000).set_points.cool();
    let (start_ms, end_ms) = (bench.wall_ms, bench.wall_ms + 3_600_000);
    let (relative, by) = (Delta::from_tenths_f(90), "utility");
    let peak = Demand { name: "peak", start_ms, end_ms, relative, delay_s: (120, 600), by };
    let now = bench.now();
    assert_eq!(bench.thermostat.demand_response(&peak, &now), Ok(Answer::Accepted));
    assert_eq!(bench.pass(60_000).set_points.cool(), before, "the random delay has not passed");
    // A restart and the same message again: the delay that was drawn first stays.
    bench.restart(false);
    let now = bench.now();
    let again = Demand { delay_s: (1800, 0), ..peak };
    assert_eq!(bench.thermostat.demand_response(&again, &now), Ok(Answer::Accepted));
    let moved = bench.pass(90_000).set_points.cool();
    assert_eq!(moved.above(before), Delta::from_tenths_f(40), "4 °F at most");
    // It is declined at once, and neither a repetition nor other times bring it back; only the household does.
    assert!(bench.thermostat.decline_demand_response(Some("peak")));
    assert_eq!(bench.pass(1000).set_points.cool(), before);
    let now = bench.now();
    assert_eq!(bench.thermostat.demand_response(&peak, &now), Ok(Answer::Declined));
    let longer = Demand { end_ms: end_ms + 3_600_000, ..peak };
    assert_eq!(bench.thermostat.demand_response(&longer, &now), Ok(Answer::Declined));
    assert_eq!(bench.minutes(5).set_points.cool(), before);
    let now = bench.now();
    assert_eq!(bench.thermostat.accept_demand_response("peak", &now), Ok(true));
    assert_eq!(bench.pass(1000).set_points.cool(), moved);
    // To resume is to decline.
    let now = bench.now();
    assert_eq!(bench.thermostat.resume(false, Caller::owner("me"), &now).unwrap().len(), 1);
    assert_eq!(bench.thermostat.demand_response(&longer, &now), Ok(Answer::Declined));
    assert_eq!(bench.pass(1000).set_points.cool(), before);
    // Where the household wants to be asked, it is.
    let mut c = bench.thermostat.config().clone();
    c.settings.dr_accept = comfort::settings::DrAccept::DefaultDecline;
    bench.thermostat.configure(c);
    let now = bench.now();
    let other = Demand { name: "evening", ..longer };
    assert_eq!(bench.thermostat.demand_response(&other, &now), Ok(Answer::Waiting));
    assert_eq!(bench.pass(1000).set_points.cool(), before);
    assert!(bench.thermostat.cancel_demand_response("evening") && !bench.thermostat.cancel_demand_response("evening"));
    // What is over can't be asked for.
    let over = Demand { name: "over", start_ms: start_ms - 9_000_000, end_ms: start_ms - 1, ..peak };
    let now = bench.now();
    assert!(bench.thermostat.demand_response(&over, &now).is_err());
}

#[test]
fn requests_of_utilities_do_not_add_up_and_keep_within_the_limits_and_the_four_hours() {
    let mut bench = Bench::new(config(HvacMode::Cool));
    let before = bench.pass(1000).set_points.cool();
    let hour_ms = 3_600_000;
    let start_ms = bench.wall_ms;
    let ask = |bench: &mut Bench, name: &str, start_ms: i64, end_ms: i64, tenths_f: i32| {
        let relative = Delta::from_tenths_f(tenths_f);
        let demand = Demand { name, start_ms, end_ms, relative, delay_s: (0, 0), by: "utility" };
        let now = bench.now();
        bench.thermostat.demand_response(&demand, &now).unwrap();
        bench.pass(1000).set_points.cool().above(before)
    };
    let end_ms = start_ms + 24 * hour_ms;
    assert_eq!(ask(&mut bench, "one", start_ms, end_ms, 30), Delta::from_tenths_f(30));
    assert_eq!(ask(&mut bench, "two", start_ms, start_ms + hour_ms, 40), Delta::from_tenths_f(40), "not seven degrees");
    // Nor does what the household gives way by itself come on top.
    let now = bench.now();
    bench.thermostat.quick_save(Delta::from_tenths_f(20), None, Caller::owner("me"), &now).unwrap();
    assert_eq!(bench.pass(1000).set_points.cool().above(before), Delta::from_tenths_f(40));
    let now = bench.now();
    assert_eq!(bench.thermostat.resume(false, Caller::owner("me"), &now).unwrap()[0].event_type, EventType::QuickSave);
    // What the household wants is without it.
    assert_eq!(bench.pass(1000).undisturbed.cool(), before);
    // Its limits hold for the sum of all that anybody asks.
    let mut c = bench.thermostat.config().clone();
    c.prices = Some(PricePlan { limits: (f(68), f(77)), ..plan() });
    bench.thermostat.configure(c);
    assert_eq!(bench.pass(1000).set_points.cool(), f(77));
    let mut c = bench.thermostat.config().clone();
    c.prices = None;
    bench.thermostat.configure(c);
    // Four hours are four hours, however often it is said again that it begins now, and with a restart between.
    let mut hours = 0;
    for step in 1..=40 {
        bench.minutes(15);
        if step == 7 {
            bench.restart(false);
        }
        let now_ms = bench.wall_ms;
        let moved = ask(&mut bench, "one", now_ms, end_ms, 30);
        hours += usize::from(moved > Delta::ZERO);
    }
    assert_eq!(bench.thermostat.demand_start("one"), Some(start_ms));
    assert!((15..=16).contains(&hours), "{hours} quarters of an hour");
    assert_eq!(bench.thermostat.demands(&bench.now()).count(), 0, "it is over, if not forgotten");
}

#[test]
fn a_declined_request_stays_declined_when_it_is_taken_back_and_comes_again() {
    let mut bench = Bench::new(config(HvacMode::Cool));
    let before = bench.pass(1000).set_points.cool();
    let (start_ms, end_ms) = (bench.wall_ms, bench.wall_ms + 7_200_000);
    let (relative, by) = (Delta::from_tenths_f(40), "utility");
    let peak = Demand { name: "peak", start_ms, end_ms, relative, delay_s: (0, 0), by };
    let now = bench.now();
    assert_eq!(bench.thermostat.demand_response(&peak, &now), Ok(Answer::Accepted));
    assert!(bench.thermostat.decline_demand_response(Some("peak")));
    for restart in [false, true] {
        assert!(bench.thermostat.cancel_demand_response("peak"));
        assert!(!bench.thermostat.cancel_demand_response("peak"), "it is taken back once");
        assert_eq!(bench.thermostat.demands(&bench.now()).count(), 0);
        let now = bench.now();
        assert_eq!(
            bench.thermostat.accept_demand_response("peak", &now),
            Ok(false),
            "there is nothing to take part in"
        );
        if restart {
            bench.restart(true);
        }
        let now = bench.now();
        let again = Demand { start_ms: bench.wall_ms, ..peak };
        assert_eq!(bench.thermostat.demand_response(&again, &now), Ok(Answer::Declined));
        assert_eq!(bench.pass(1000).set_points.cool(), before);
    }
    // Neither do many others push its refusal out.
    assert!(bench.thermostat.cancel_demand_response("peak"));
    for number in 0..40 {
        let now = bench.now();
        let name = format!("other {number}");
        let other = Demand { name: &name, ..peak };
        assert!(bench.thermostat.demand_response(&other, &now).is_ok());
        assert!(bench.thermostat.cancel_demand_response(&name));
    }
    let now = bench.now();
    assert_eq!(bench.thermostat.demand_response(&peak, &now), Ok(Answer::Declined));
    // Where nothing of utilities is wanted any more, what was accepted ends, at a start with that setting as well.
    let never = |bench: &Bench| {
        let mut c = bench.thermostat.config().clone();
        c.settings.dr_accept = comfort::settings::DrAccept::Never;
        c
    };
    for at_start in [false, true] {
        let now = bench.now();
        assert_eq!(bench.thermostat.accept_demand_response("peak", &now), Ok(true));
        assert_ne!(bench.pass(1000).set_points.cool(), before);
        let usual = bench.thermostat.config().clone();
        let config = never(&bench);
        if at_start {
            let saved = serde_json::to_string(&bench.thermostat.save()).unwrap();
            let mut from = serde_json::Deserializer::from_str(&saved);
            let relays = Some(bench.relays);
            bench.thermostat = Thermostat::restore(config, TimeZone::UTC, &mut from, relays).unwrap();
        } else {
            bench.thermostat.configure(config);
        }
        assert_eq!(bench.pass(1000).set_points.cool(), before);
        let now = bench.now();
        assert!(bench.thermostat.accept_demand_response("peak", &now).is_err());
        bench.thermostat.configure(usual);
        assert_eq!(bench.pass(1000).set_points.cool(), before, "nor does it come back by itself");
    }
}

#[test]
fn quick_save_gives_way_at_once_and_until_resumed() {
    let mut bench = Bench::new(config(HvacMode::Auto));
    let before = bench.pass(1000).set_points;
    let now = bench.now();
    bench.thermostat.quick_save(Delta::from_tenths_f(40), None, Caller::other("anybody"), &now).unwrap();
    let saving = bench.pass(1000);
    assert_eq!(before.heat().above(saving.set_points.heat()), Delta::from_tenths_f(40));
    assert_eq!(saving.set_points.cool().above(before.cool()), Delta::from_tenths_f(40));
    assert!(saving.why(model::TemperatureScale::Fahrenheit).contains("quick save by anybody"));
    // Pressed again it begins anew, and does not add up.
    let (now, end_ms) = (bench.now(), bench.wall_ms + 600_000);
    bench.thermostat.quick_save(Delta::from_tenths_f(20), Some(end_ms), Caller::owner("me"), &now).unwrap();
    assert_eq!(before.heat().above(bench.pass(1000).set_points.heat()), Delta::from_tenths_f(20));
    assert_eq!(bench.minutes(11).set_points, before);
}

// Prices.

/// Power costs 10, and 40 from 17 to 21 UTC.
fn plan() -> PricePlan {
    let rate = |from_min, to_min, price| Rate { days: [true; 7], months: [true; 12], from_min, to_min, price };
    PricePlan {
        rates: vec![rate(0, 1440, 10.0), rate(17 * 60, 21 * 60, 40.0)],
        set_back: Delta::from_tenths_f(40),
        ahead: Delta::from_tenths_f(20),
        limits: (f(68), f(80)),
    }
}

#[test]
fn dear_hours_give_way_within_the_limits_and_the_house_goes_ahead_of_them() {
    let mut c = config(HvacMode::Heat);
    c.prices = Some(plan());
    let mut bench = Bench::new(c);
    bench.outdoor = Some(f(30));
    let day_ms = 86_400_000;
    let at = |bench: &mut Bench, hour: i64, minute: i64| {
        bench.wall_ms = bench.wall_ms - bench.wall_ms % day_ms + hour * 3_600_000 + minute * 60_000;
        bench.pass(MINUTE_MS)
    };
    let usual = at(&mut bench, 12, 0).set_points.heat();
    assert_eq!(usual, f(69));
    // Not far ahead: as late as it can be.
    let mut ahead = at(&mut bench, 13, 30);
    assert_eq!(ahead.set_points.heat(), usual);
    while ahead.source.event.is_none() {
        ahead = bench.pass(MINUTE_MS);
    }
    let before_min = (17 * 60) - (bench.wall_ms % day_ms) / 60_000;
    assert!((15..=195).contains(&before_min), "{before_min} min ahead");
    assert_eq!((ahead.set_points.heat(), ahead.undisturbed.heat()), (f(71), f(69)));
    let why = ahead.why(model::TemperatureScale::Fahrenheit);
    assert!(why.contains("dear in") && why.contains("without that it would heat to 69 °F"), "{why}");
    // Dear: 4 °F less would be 65; the limit is 68. A comfort setting that lies lower is left alone.
    let dear = at(&mut bench, 17, 5);
    assert_eq!((dear.set_points.heat(), dear.source.event), (f(68), Some(EventType::Sensor)));
    let why = dear.why(model::TemperatureScale::Fahrenheit);
    assert!(why.contains("Power costs 40.0000 (15.0000 on average over the day)"), "{why}");
    let now = bench.now();
    let id = bench.thermostat.set_hold(&Hold::climate("away"), HoldType::HoldHours(1), Caller::owner("me"), &now);
    assert!(id.is_ok());
    assert_eq!(bench.pass(MINUTE_MS).set_points.heat(), f(62), "a hold goes before a price");
    let now = bench.now();
    bench.thermostat.resume(false, Caller::owner("me"), &now).unwrap();
    assert_eq!(bench.pass(MINUTE_MS).set_points.heat(), f(68));
    // Opted out of, these dear hours stay away over a restart; tomorrow's come.
    let now = bench.now();
    assert_eq!(bench.thermostat.resume(false, Caller::owner("me"), &now).unwrap().len(), 1);
    assert_eq!(bench.pass(MINUTE_MS).set_points.heat(), usual);
    bench.restart(false);
    assert_eq!(at(&mut bench, 20, 30).set_points.heat(), usual);
    assert_eq!(at(&mut bench, 21, 5).set_points.heat(), usual);
    bench.wall_ms += day_ms;
    assert_eq!(at(&mut bench, 18, 0).set_points.heat(), f(68));
    // Guards and the frost floor go before any price.
    bench.room = f(42);
    bench.hold(45);
    assert_eq!(bench.minutes(20).reason, Reason::FrostFloor);
    assert_eq!(bench.watch.broken, 0, "{:?}", bench.watch.list);
}

/// Each hour the price of the next is heard, a minute before it begins: 40 from 17 to 21, else 10. That from 19 to 20 never comes.
#[test]
fn opting_out_of_dear_hours_outlives_every_new_list() {
    let mut c = config(HvacMode::Heat);
    c.prices = Some(PricePlan { rates: Vec::new(), ..plan() });
    let mut bench = Bench::new(c);
    bench.outdoor = Some(f(30));
    let (hour_ms, day_ms) = (3_600_000i64, 86_400_000i64);
    bench.wall_ms -= bench.wall_ms % day_ms;
    let mut moved = Vec::new();
    for minute in 0..3 * 1440 {
        let now = bench.now();
        let start_ms = bench.wall_ms - bench.wall_ms % hour_ms + hour_ms;
        let hour = start_ms % day_ms / hour_ms;
        if minute % 60 == 59 && hour != 19 {
            let price = if (17..21).contains(&hour) { 40.0 } else { 10.0 };
            bench.thermostat.hear_prices(&[Heard { start_ms, end_ms: start_ms + hour_ms, price }], &now).unwrap();
        }
        if bench.pass(MINUTE_MS).source.event == Some(EventType::Sensor) {
            moved.push((minute / 1440, bench.wall_ms % day_ms / hour_ms));
            let now = bench.now();
            bench.thermostat.resume(true, Caller::owner("me"), &now).unwrap();
            bench.restart(false);
        }
    }
    // Once a day, and not again that day.
    assert_eq!(moved, [(0, 17), (1, 17), (2, 17)]);
}

#[test]
fn going_ahead_ends_when_a_new_list_has_the_dear_hours_later() {
    let mut c = config(HvacMode::Heat);
    c.prices = Some(PricePlan { rates: Vec::new(), ..plan() });
    let mut bench = Bench::new(c);
    bench.outdoor = Some(f(30));
    let (hour_ms, day_ms) = (3_600_000i64, 86_400_000i64);
    bench.wall_ms -= bench.wall_ms % day_ms - 12 * hour_ms;
    let noon_ms = bench.wall_ms;
    let list = |bench: &mut Bench, dear_h: i64| {
        let of = |from: i64, to: i64, price| Heard {
            start_ms: noon_ms + from * hour_ms,
            end_ms: noon_ms + to * hour_ms,
            price,
        };
        let now = bench.now();
        let spans = [of(-12, dear_h, 10.0), of(dear_h, dear_h + 3, 40.0), of(dear_h + 3, 48, 10.0)];
        bench.thermostat.hear_prices(&spans, &now).unwrap();
    };
    list(&mut bench, 1);
    assert_eq!(bench.minutes(30).source.name, "before dear hours");
    // It is dear tomorrow at noon, and not today.
    list(&mut bench, 24);
    let mut minutes = 0;
    while bench.minutes(15).source.event.is_none() {
        minutes += 15;
    }
    assert!(minutes >= 20 * 60, "ahead of tomorrow's noon after {minutes} min");
}

// Faults of equipment and sensors.

fn alerts(bench: &Bench) -> Vec<String> {
    bench.thermostat.alerts().all().iter().map(|a| a.text.clone()).collect()
}

#[test]
fn a_sensor_that_drifts_is_named_and_the_steady_ones_are_not() {
    let mut c = config(HvacMode::Off);
    for id in ["den", "attic"] {
        c.sensors.push(SensorConfig { id: id.into(), name: id.to_uppercase(), offset: Delta::ZERO, in_use: true });
    }
    let mut bench = Bench::new(c);
    bench.room = f(70);
    // Rooms differ, and differ more by day than by night; that is no drift.
    let day = |bench: &mut Bench, drift_k: f64| {
        for step in 0..288u32 {
            let sun = 1.5 * f64::from(step).mul_add(std::f64::consts::TAU / 288.0, 0.0).sin();
            for (id, offset) in [("den", 1.0 + drift_k), ("attic", 3.0 + sun)] {
                let milli = 21_100 + ((offset * 1000.0) as i32) + i32::try_from(step % 2).unwrap() * 56;
                let reading =
                    SensorReading { temperature: Some(Temp::from_milli_c(milli)), ..SensorReading::default() };
                bench.thermostat.hear(id, &reading, bench.mono_ms);
            }
            bench.pass(5 * MINUTE_MS);
        }
    };
    for _ in 0..20 {
        day(&mut bench, 0.0);
    }
    assert!(!alerts(&bench).iter().any(|a| a.contains("than it used to")), "{:?}", alerts(&bench));
    bench.restart(false);
    let mut days = 0;
    while !alerts(&bench).iter().any(|a| a.contains("DEN")) {
        days += 1;
        assert!(days < 30, "2.5 °C in 25 days were not seen: {:?}", alerts(&bench));
        day(&mut bench, -0.1 * f64::from(days.min(25)));
    }
    assert!(days >= 10, "after {days} days of a tenth of a degree");
    let found = alerts(&bench);
    assert!(found.iter().any(|a| a.contains("DEN shows") && a.contains("colder")), "{found:?}");
    assert_eq!(found.iter().filter(|a| a.contains("than it used to")).count(), 1, "{found:?}");
    // It hangs elsewhere, says its owner: that is how it is from now on.
    let number = bench.thermostat.alerts().all().iter().position(|a| a.text.contains("DEN")).unwrap() + 1;
    bench.thermostat.acknowledge(number).unwrap();
    for _ in 0..12 {
        day(&mut bench, -2.5);
    }
    assert!(!alerts(&bench).iter().any(|a| a.contains("than it used to")), "{:?}", alerts(&bench));
}

#[test]
fn a_relay_that_drops_again_and_again_makes_an_alert_and_one_that_obeys_none() {
    let mut bench = Bench::new(config(HvacMode::Heat));
    bench.room = f(60);
    let mut drops = 0;
    for minute in 0..200u64 {
        bench.mono_ms += MINUTE_MS;
        bench.wall_ms += MINUTE_MS as i64;
        let reading = SensorReading {
            temperature: Some(bench.room.plus(Delta::from_milli_k((minute % 2) as i32 * 56))),
            ..SensorReading::default()
        };
        bench.thermostat.hear("hall", &reading, bench.mono_ms);
        // It obeys for an hour; then it drops in the midst of each run.
        let dropped = minute > 60 && bench.relays.heats() && minute % 20 == 0;
        drops += u64::from(dropped);
        let reported = Some(if dropped { Call::NONE } else { bench.relays });
        let inputs = Inputs { outdoor: bench.outdoor, reported, ..Inputs::default() };
        bench.relays = bench.thermostat.tick(&bench.now(), &inputs).relays.call();
        let said = alerts(&bench).iter().any(|a| a.contains("short cycles: the relay of heat"));
        assert_eq!(said, drops >= 3, "minute {minute}, {drops} drops: {:?}", alerts(&bench));
    }
    assert!(drops >= 3);
}

#[test]
fn runs_that_are_over_at_once_make_an_alert_and_long_ones_none() {
    let cycles = |minutes_on: u64| {
        let mut bench = Bench::new(config(HvacMode::Heat));
        for _ in 0..14 {
            bench.room = f(68);
            while !bench.relays.heats() {
                bench.pass(MINUTE_MS);
            }
            bench.minutes(minutes_on);
            bench.room = f(72);
            bench.minutes(5);
        }
        alerts(&bench)
    };
    assert!(cycles(2).iter().any(|a| a.contains("short cycles") && a.contains("too large")), "{:?}", cycles(2));
    assert!(!cycles(9).iter().any(|a| a.contains("short cycles")), "{:?}", cycles(9));
}

/// Auxiliary heat joins early in each run and leaves shortly before its end: the run is as long as the heat pump's.
#[test]
fn a_stage_that_comes_and_goes_makes_no_short_cycles() {
    let mut c = config(HvacMode::Heat);
    c.equipment.has_heat_pump = true;
    c.settings.aux_after_s = 0;
    let mut bench = Bench::new(c);
    bench.hold(69);
    for _ in 0..14 {
        bench.room = f(66);
        while !bench.relays.has(Output::Aux) {
            bench.pass(MINUTE_MS);
        }
        bench.minutes(9);
        bench.room = Temp::from_tenths_f(683);
        while bench.relays.has(Output::Aux) {
            bench.pass(MINUTE_MS);
        }
        bench.minutes(1);
        assert!(bench.relays.has(Output::Heat1), "the heat pump goes on");
        bench.room = f(72);
        bench.minutes(6);
        assert!(!bench.relays.heats());
    }
    assert!(!alerts(&bench).iter().any(|a| a.contains("short cycles")), "{:?}", alerts(&bench));
}

#[test]
fn a_filter_is_due_after_its_hours_of_air_and_is_counted_over_restarts() {
    let mut c = config(HvacMode::Heat);
    c.settings.filter_life_h = Some(2);
    let mut bench = Bench::new(c);
    bench.room = f(60);
    bench.thermostat.reminders_mut().put("service", Counts::Days, 1).unwrap();
    bench.minutes(90);
    bench.restart(false);
    assert!(!alerts(&bench).iter().any(|a| a.contains("is due")), "{:?}", alerts(&bench));
    bench.minutes(60);
    assert!(alerts(&bench).iter().any(|a| a.starts_with("filter is due")), "{:?}", alerts(&bench));
    assert!(bench.thermostat.reminders_mut().done("filter"));
    bench.minutes(3);
    assert!(!alerts(&bench).iter().any(|a| a.contains("filter")), "{:?}", alerts(&bench));
    bench.minutes(22 * 60);
    assert!(alerts(&bench).iter().any(|a| a.starts_with("service is due: 1 days")), "{:?}", alerts(&bench));
}

// Air, humidity, presence.

impl Bench {
    /// A minute with this humidity and occupancy, whose relays are given.
    fn minute_with(&mut self, humidity: Option<u8>, occupied: Option<bool>) -> Decision {
        let reading = SensorReading { humidity, occupied, ..SensorReading::default() };
        self.thermostat.hear("hall", &reading, self.mono_ms);
        self.pass(MINUTE_MS)
    }
}

#[test]
fn the_fan_runs_its_minutes_of_each_hour_and_on_after_cooling() {
    let mut c = config(HvacMode::Cool);
    c.settings.fan_min_on_time = 15;
    let mut bench = Bench::new(c);
    let on: usize = (0..240).filter(|_| bench.pass(MINUTE_MS).relays.on(Output::Fan)).count();
    assert!((56..=64).contains(&on), "{on} of 240 minutes");
    let mut bench = Bench::new(config(HvacMode::Cool));
    bench.hold(72);
    bench.room = f(75);
    assert!(bench.minutes(20).relays.on(Output::Fan), "no cooling without air");
    bench.room = f(71);
    let mut after = 0;
    while bench.pass(5000).relays.on(Output::Fan) {
        after += u32::from(!bench.relays.cools());
    }
    assert!((8..=10).contains(&after), "{} s after cooling", after * 5);
}

#[test]
fn damp_air_is_dried_and_dry_air_moistened_within_what_windows_bear() {
    let mut c = config(HvacMode::Cool);
    c.settings.dehumidifier_level = Some(55);
    c.settings.dehumidify_with_ac = true;
    c.settings.dehumidify_overcool_offset = Delta::from_tenths_f(20);
    let mut bench = Bench::new(c.clone());
    bench.hold(76);
    bench.room = f(75);
    for _ in 0..20 {
        bench.minute_with(Some(65), None);
    }
    let decision = bench.minute_with(Some(65), None);
    assert!(decision.relays.cools() && decision.reason == Reason::TooHumid, "{:?}", decision.reason);
    bench.room = f(73);
    let mut deep = bench.minute_with(Some(65), None);
    for _ in 0..5 {
        deep = bench.minute_with(Some(65), None);
    }
    assert!(!deep.relays.cools(), "no colder than two degrees below the set point");
    c.equipment.has_humidifier = true;
    c.settings.humidity = Some(45);
    c.settings.hvac_mode = HvacMode::Heat;
    let mut bench = Bench::new(c);
    bench.room = f(70);
    bench.outdoor = Some(f(60));
    assert!(bench.minute_with(Some(35), None).relays.on(Output::Humidifier));
    bench.outdoor = Some(f(0));
    assert!(!bench.minute_with(Some(35), None).relays.on(Output::Humidifier), "windows would run with water");
}

/// A house in which somebody is at home all week, by the program, and that notices when nobody is.
fn at_home_all_week() -> Bench {
    let mut c = config(HvacMode::Heat);
    c.settings.auto_away = true;
    let all_week = ClimateRef::new("home");
    c.program = Program::uniform(c.program.climates().to_vec(), &all_week).unwrap();
    Bench::new(c)
}

#[test]
fn an_empty_house_goes_away_and_somebody_brings_it_home() {
    let mut bench = at_home_all_week();
    assert_eq!(bench.minute_with(None, Some(true)).source.event, None);
    let mut last = bench.minute_with(None, Some(false));
    for _ in 0..125 {
        last = bench.minute_with(None, Some(false));
    }
    assert_eq!(last.source.event, Some(EventType::AutoAway));
    assert_eq!(last.set_points.heat(), f(62));
    // A hold counts for more than a guess.
    bench.hold(70);
    assert_eq!(bench.minute_with(None, Some(false)).set_points.heat(), f(70));
    let now = bench.now();
    bench.thermostat.resume(false, Caller::owner("me"), &now).unwrap();
    assert_eq!(bench.minute_with(None, Some(true)).source.event, None);
}

/// Detectors may be slow to speak again; a hub that starts each hour is as good as one that runs.
#[test]
fn who_was_seen_is_known_after_a_restart() {
    let mut c = config(HvacMode::Heat);
    c.settings.auto_away = true;
    c.program = Program::uniform(c.program.climates().to_vec(), &ClimateRef::new("home")).unwrap();
    let mut bench = Bench::new(c);
    bench.minute_with(None, Some(true));
    let mut minutes = 0;
    while bench.minute_with(None, Some(false)).source.event.is_none() {
        minutes += 1;
        if minutes % 50 == 0 {
            bench.restart(minutes == 50);
        }
    }
    assert!((115..=125).contains(&minutes), "away after {minutes} min");
    // Away it stays, whether the detector has spoken again or not yet; and not for ever without it.
    bench.restart(true);
    assert_eq!(bench.pass(1000).source.event, Some(EventType::AutoAway));
    assert_eq!(bench.minutes(60).source.event, Some(EventType::AutoAway));
    let mut silent = bench.minutes(62);
    assert_eq!(silent.source.event, None, "nobody tells any more");
    silent = bench.minute_with(None, Some(false));
    assert_eq!(silent.source.event, Some(EventType::AutoAway));
    bench.restart(false);
    assert_eq!(bench.minute_with(None, Some(true)).source.event, None);
    // A phone that was away is so until it says otherwise, and one at home is at home.
    for home in [false, true] {
        let mut c = bench.thermostat.config().clone();
        c.settings.auto_away_after_s = 3600;
        let mut bench = Bench::new(c);
        let say = |bench: &mut Bench, phone_home: Option<bool>| {
            bench.pass(MINUTE_MS);
            let inputs = Inputs { outdoor: bench.outdoor, phone_home, ..Inputs::default() };
            bench.thermostat.tick(&bench.now(), &inputs).source.event
        };
        let away = (!home).then_some(EventType::AutoAway);
        assert_eq!(say(&mut bench, Some(home)), away);
        bench.restart(false);
        assert_eq!(say(&mut bench, None), away);
        assert_eq!(say(&mut bench, Some(!home)), (home).then_some(EventType::AutoAway));
    }
}

#[test]
fn a_room_in_use_weighs_in_the_average_when_it_is_followed() {
    let mut c = config(HvacMode::Heat);
    c.settings.follow_me_comfort = true;
    c.sensors.push(SensorConfig { id: "den".into(), name: "Den".into(), offset: Delta::ZERO, in_use: true });
    let mut climates = c.program.climates().to_vec();
    climates.iter_mut().for_each(|climate| climate.sensors = vec!["hall".into()]);
    c.program = Program::uniform(climates, &ClimateRef::new("home")).unwrap();
    let mut bench = Bench::new(c);
    bench.room = f(70);
    let say = |bench: &mut Bench, occupied: bool, minutes: usize| {
        let reading = SensorReading { temperature: Some(f(60)), occupied: Some(occupied), ..SensorReading::default() };
        for _ in 0..minutes {
            bench.thermostat.hear("den", &reading, bench.mono_ms);
            bench.pass(MINUTE_MS);
        }
        bench.thermostat.hear("den", &reading, bench.mono_ms);
        bench.pass(MINUTE_MS).temperature.unwrap().fahrenheit()
    };
    assert!(say(&mut bench, true, 3) > 69.0, "not before ten minutes");
    assert!((say(&mut bench, true, 12) - 65.0).abs() < 0.2);
    assert!((say(&mut bench, false, 30) - 65.0).abs() < 0.2);
    assert!(say(&mut bench, false, 40) > 69.0, "an hour later it is forgotten");
}

#[test]
fn relays_that_drop_by_themselves_are_noticed_and_left_their_pause() {
    let mut bench = Bench::new(config(HvacMode::Heat));
    bench.room = f(60);
    bench.minutes(20);
    let report = |bench: &mut Bench, reported: Option<Call>| {
        bench.mono_ms += MINUTE_MS;
        let reading = SensorReading { temperature: Some(bench.room), ..SensorReading::default() };
        bench.thermostat.hear("hall", &reading, bench.mono_ms);
        bench.thermostat.tick(&bench.now(), &Inputs { outdoor: bench.outdoor, reported, ..Inputs::default() })
    };
    let relays = bench.relays;
    assert!(report(&mut bench, Some(relays)).relays.heats());
    let dropped = report(&mut bench, Some(Call::NONE));
    assert!(!dropped.relays.heats() && dropped.denied.iter().any(|d| d.why == Denial::MinOff), "{dropped:?}");
}

/// Time passes and the sensors say nothing more.
fn silent_minutes(bench: &mut Bench, minutes: u64) -> (Decision, u64) {
    let (mut heated, mut last) = (0, None);
    for _ in 0..minutes {
        bench.mono_ms += MINUTE_MS;
        bench.true_ms += MINUTE_MS;
        bench.wall_ms += MINUTE_MS as i64;
        let decision = bench.look(false);
        heated += u64::from(decision.relays.heats());
        last = Some(decision);
    }
    (last.unwrap(), heated)
}

#[test]
fn a_sensor_by_the_stove_does_not_let_another_room_freeze() {
    let mut c = config(HvacMode::Heat);
    c.sensors.push(SensorConfig { id: "kitchen".into(), name: "Kitchen".into(), offset: Delta::ZERO, in_use: true });
    let mut bench = Bench::new(c);
    bench.room = f(39);
    let mut last = bench.pass(MINUTE_MS);
    for minute in 0..20 {
        let by_the_stove = f(98).plus(Delta::from_milli_k(minute % 2 * 100));
        let reading = SensorReading { temperature: Some(by_the_stove), ..SensorReading::default() };
        bench.thermostat.hear("kitchen", &reading, bench.mono_ms);
        last = bench.pass(MINUTE_MS);
    }
    assert!(last.relays.heats(), "{:?}", last.reason);
    assert_eq!(last.reason, Reason::FrostFloor);
    let said = alerts(&bench);
    assert!(
        said.iter().any(|a| a.contains("frost floor")) && said.iter().any(|a| a.contains("high limit")),
        "{said:?}"
    );
}

#[test]
fn a_heat_pump_with_nothing_beside_it_is_not_locked_out_against_frost_and_auxiliary_heat_alone_is_never() {
    let mut c = config(HvacMode::Heat);
    (c.equipment.has_heat_pump, c.equipment.has_aux) = (true, false);
    c.limits.compressor_min_outdoor = Some(f(-4));
    let mut bench = Bench::new(c);
    (bench.room, bench.outdoor) = (f(39), Some(f(-10)));
    assert!(bench.minutes(15).relays.on(Output::Heat1));
    assert_eq!(bench.watch.broken, 0, "{:?}", bench.watch.list);
    // A compressor that is broken, and baseboards that are all there is.
    for (stages, mode) in [(2, HvacMode::AuxHeatOnly), (0, HvacMode::Heat)] {
        let mut c = config(mode);
        c.equipment.heat_stages = stages;
        c.limits.aux_max_outdoor = Some(f(50));
        let mut bench = Bench::new(c);
        bench.outdoor = Some(f(52));
        bench.hold(70);
        bench.room = f(61);
        assert!(bench.minutes(15).relays.on(Output::Aux), "{mode:?}");
        assert_eq!(bench.watch.broken, 0, "{:?}", bench.watch.list);
    }
}

#[test]
fn without_any_word_of_cold_nothing_heats_a_warm_house_blindly_until_it_may_be_cold() {
    let mut c = config(HvacMode::Cool);
    c.settings.sensor_stale_s = 1200;
    let mut bench = Bench::new(c);
    bench.outdoor = None;
    bench.room = f(72);
    bench.minutes(10);
    let (last, heated) = silent_minutes(&mut bench, 9 * 60);
    assert_eq!((last.reason, heated), (Reason::NoSensor, 0));
    // Nor does a restart bring that forward; when it may have come down to 12 °C, frost is kept out.
    bench.restart(false);
    let (_, heated) = silent_minutes(&mut bench, 6 * 60);
    assert!(heated > 30, "{heated}");
}

#[test]
fn who_resumes_from_smart_away_stays_at_home_until_somebody_was_seen_or_the_program_changes() {
    let mut bench = at_home_all_week();
    bench.minute_with(None, Some(true));
    let away = |bench: &mut Bench, minutes: u64| {
        let mut last = bench.minute_with(None, Some(false));
        for _ in 1..minutes {
            last = bench.minute_with(None, Some(false));
        }
        last.source.event == Some(EventType::AutoAway)
    };
    assert!(away(&mut bench, 126));
    let now = bench.now();
    assert_eq!(bench.thermostat.resume(true, Caller::owner("me"), &now).unwrap().len(), 1);
    assert!(!away(&mut bench, 60));
    bench.restart(false);
    assert!(!away(&mut bench, 10));
    // Somebody was seen, and left: it is a new day of being away.
    bench.minute_with(None, Some(true));
    assert!(away(&mut bench, 126));
    // Home Assistant's preset "none" ends no vacation.
    let now = bench.now();
    let span = (bench.wall_ms, bench.wall_ms + 86_400_000);
    bench.thermostat.create_vacation("sea", (f(55), f(85)), span, Caller::owner("me")).unwrap();
    let ended: Vec<EventType> =
        bench.thermostat.end_holds(Caller::other("mqtt"), &now).iter().map(|e| e.event_type).collect();
    assert_eq!(ended, [EventType::AutoAway]);
    assert_eq!(bench.pass(MINUTE_MS).source.event, Some(EventType::Vacation));
}

#[test]
fn a_request_that_is_short_is_followed_whatever_was_drawn() {
    let mut bench = Bench::new(config(HvacMode::Cool));
    let before = bench.pass(1000).set_points.cool();
    let (start_ms, end_ms) = (bench.wall_ms, bench.wall_ms + 600_000);
    let relative = Delta::from_tenths_f(40);
    let short = Demand { name: "short", start_ms, end_ms, relative, delay_s: (800, 50), by: "utility" };
    let now = bench.now();
    assert_eq!(bench.thermostat.demand_response(&short, &now), Ok(Answer::Accepted));
    assert!(bench.minutes(7).set_points.cool() > before);
    assert_eq!(bench.minutes(10).set_points.cool(), before);
}

#[test]
fn an_early_start_does_not_aim_at_what_the_program_no_longer_says() {
    let mut bench = Bench::new(config(HvacMode::Heat));
    let leads = |d: &Decision| d.lead.is_some_and(|l| l.running);
    bench.room = f(60);
    bench.outdoor = Some(f(30));
    let mut running = false;
    for _ in 0..24 * 60 {
        running = leads(&bench.pass(MINUTE_MS));
        if running {
            break;
        }
    }
    assert!(running, "the program's changes are prepared");
    let mut c = bench.thermostat.config().clone();
    c.settings.disable_pre_heating = true;
    bench.thermostat.configure(c);
    assert!(!leads(&bench.pass(MINUTE_MS)));
}

#[test]
fn a_guest_ends_no_owners_saving_and_holds_of_the_fan_do_not_pile_up() {
    let mut c = config(HvacMode::Heat);
    c.lock = Some((f(60), f(72)));
    let mut bench = Bench::new(c);
    let now = bench.now();
    let by = Delta::from_tenths_f(40);
    bench.thermostat.quick_save(by, None, Caller::owner("me"), &now).unwrap();
    let refused = bench.thermostat.quick_save(Delta::ZERO, None, Caller::other("a guest"), &now);
    assert!(refused.unwrap_err().to_string().contains("an owner"));
    let fan = Hold { fan: Some(comfort::FanMode::On), ..Hold::default() };
    for _ in 0..100 {
        bench.thermostat.set_hold(&fan, HoldType::Indefinite, Caller::owner("me"), &now).unwrap();
    }
    bench.hold(68);
    assert_eq!(bench.thermostat.events().all().len(), 3, "what is saved, the fan, and the temperature");
}

#[test]
fn a_window_that_is_told_to_be_open_for_hours_makes_an_alert() {
    let mut bench = Bench::new(config(HvacMode::Heat));
    bench.hold(72);
    let paused = |bench: &mut Bench, minutes: i32| {
        for minute in 0..minutes {
            bench.wall_ms += MINUTE_MS as i64;
            bench.mono_ms += MINUTE_MS;
            let room = f(60).plus(Delta::from_milli_k(minute % 2 * 100));
            let reading = SensorReading { temperature: Some(room), ..SensorReading::default() };
            bench.thermostat.hear("hall", &reading, bench.mono_ms);
            let inputs = Inputs { outdoor: bench.outdoor, opening: true, ..Inputs::default() };
            bench.thermostat.tick(&bench.now(), &inputs);
        }
        alerts(bench).iter().any(|a| a.contains("told to be open"))
    };
    assert!(!paused(&mut bench, 3 * 60));
    bench.restart(false);
    assert!(paused(&mut bench, 90));
    bench.minutes(20);
    assert!(!alerts(&bench).iter().any(|a| a.contains("told to be open")));
}
