//! The guards at the actuator: the last layer, which no caller gets past.
//!
//! [`Relays`] can only be made here, by the guard's step. The guard knows nothing of why something is asked for: set
//! points, holds, presets, partners and restarts are all the same to it. It counts on the monotonic clock alone and keeps
//! ages, not times, so that no step of the wall clock can shorten a pause; what it can't know (a power cut, a restart, a
//! clock that went back) counts as no time at all.

use serde::{Deserialize, Serialize};

use crate::settings::{Equipment, HvacMode, Settings, VentilatorType};
use crate::temperature::{Delta, Temp};

/// Something that can be switched.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Output {
    /// First stage of heating (a heat pump's compressor, a furnace, a boiler).
    Heat1,
    /// Second stage of heating.
    Heat2,
    /// Auxiliary heat.
    Aux,
    /// First stage of cooling.
    Cool1,
    /// Second stage of cooling.
    Cool2,
    /// The fan.
    Fan,
    /// The humidifier.
    Humidifier,
    /// The dehumidifier.
    Dehumidifier,
    /// The ventilator.
    Ventilator,
}

/// Every output, in the order of [`Output`].
pub const OUTPUTS: [Output; 9] = [
    Output::Heat1,
    Output::Heat2,
    Output::Aux,
    Output::Cool1,
    Output::Cool2,
    Output::Fan,
    Output::Humidifier,
    Output::Dehumidifier,
    Output::Ventilator,
];

/// Those with timers: what wears out by being switched.
const TIMED: [Output; 5] = [Output::Heat1, Output::Heat2, Output::Aux, Output::Cool1, Output::Cool2];

impl Output {
    const fn bit(self) -> u16 {
        1 << self as u16
    }

    /// Whether it warms the house.
    pub const fn heats(self) -> bool {
        matches!(self, Self::Heat1 | Self::Heat2 | Self::Aux)
    }

    /// Whether it cools the house.
    pub const fn cools(self) -> bool {
        matches!(self, Self::Cool1 | Self::Cool2)
    }

    /// Its name.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Heat1 => "heat1",
            Self::Heat2 => "heat2",
            Self::Aux => "aux",
            Self::Cool1 => "cool1",
            Self::Cool2 => "cool2",
            Self::Fan => "fan",
            Self::Humidifier => "humidifier",
            Self::Dehumidifier => "dehumidifier",
            Self::Ventilator => "ventilator",
        }
    }
}

/// What is asked for. Anybody may ask for anything.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Call(u16);

impl Call {
    /// Nothing.
    pub const NONE: Self = Self(0);

    /// These outputs.
    pub fn of(outputs: &[Output]) -> Self {
        Self(outputs.iter().fold(0, |bits, output| bits | output.bit()))
    }

    /// With one more.
    #[must_use]
    pub const fn with(self, output: Output) -> Self {
        Self(self.0 | output.bit())
    }

    /// Without one.
    #[must_use]
    pub const fn without(self, output: Output) -> Self {
        Self(self.0 & !output.bit())
    }

    /// Whether it is among them.
    pub const fn has(self, output: Output) -> bool {
        self.0 & output.bit() != 0
    }

    /// Whether any of it warms.
    pub fn heats(self) -> bool {
        TIMED.into_iter().any(|o| o.heats() && self.has(o))
    }

    /// Whether any of it cools.
    pub fn cools(self) -> bool {
        TIMED.into_iter().any(|o| o.cools() && self.has(o))
    }

    /// Its outputs.
    pub fn outputs(self) -> impl Iterator<Item = Output> {
        OUTPUTS.into_iter().filter(move |o| self.has(*o))
    }
}

/// What may be switched: made by the guard's step and by nothing else.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize)]
#[serde(transparent)]
pub struct Relays(Call);

impl Relays {
    /// Whether an output is on.
    pub const fn on(self, output: Output) -> bool {
        self.0.has(output)
    }

    /// All that is on.
    pub const fn call(self) -> Call {
        self.0
    }

    /// Whether any of it warms.
    pub fn heats(self) -> bool {
        self.0.heats()
    }

    /// Whether any of it cools.
    pub fn cools(self) -> bool {
        self.0.cools()
    }
}

/// How long the equipment is to be left alone.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct Limits {
    /// Off for at least so long (`compressorProtectionMinTime`), 240 to 900 s.
    pub min_off_s: u32,
    /// On for at least so long.
    pub min_on_s: u32,
    /// Between heating and cooling.
    pub reversing_delay_s: u32,
    /// A start at most each so many seconds: 900 is four an hour.
    pub min_cycle_s: u32,
    /// On for at most so long, then a pause of the least time off.
    pub longest_run_s: u32,
    /// No compressor for cooling below this outdoors.
    pub cooling_lockout: Option<Temp>,
    /// No heat pump below this outdoors (`compressorProtectionMinTemp`).
    pub compressor_min_outdoor: Option<Temp>,
    /// No auxiliary heat above this outdoors (`auxMaxOutdoorTemp`), save against frost.
    pub aux_max_outdoor: Option<Temp>,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            min_off_s: 300,
            min_on_s: 180,
            reversing_delay_s: 300,
            min_cycle_s: 900,
            longest_run_s: 8 * 3600,
            cooling_lockout: Some(Temp::from_tenths_f(550)),
            compressor_min_outdoor: Some(Temp::from_tenths_f(-40)),
            aux_max_outdoor: Some(Temp::from_tenths_f(500)),
        }
    }
}

/// The least and the greatest that may be configured: a compressor's protection can't be switched off.
const MIN_OFF_S: (u32, u32) = (240, 900);
const MIN_ON_S: (u32, u32) = (60, 1800);
const REVERSING_S: (u32, u32) = (60, 1800);
const MIN_CYCLE_S: (u32, u32) = (600, 7200);
const LONGEST_RUN_S: (u32, u32) = (3600, 24 * 3600);
/// The least distance of set points that may be configured: 2 °F.
pub const MIN_DELTA: Delta = Delta::from_tenths_f(20);

impl Limits {
    /// Within what may be configured.
    #[must_use]
    pub fn bounded(mut self) -> Self {
        let bound = |value: &mut u32, (least, most): (u32, u32)| *value = (*value).clamp(least, most);
        bound(&mut self.min_off_s, MIN_OFF_S);
        bound(&mut self.min_on_s, MIN_ON_S);
        bound(&mut self.reversing_delay_s, REVERSING_S);
        bound(&mut self.min_cycle_s, MIN_CYCLE_S);
        bound(&mut self.longest_run_s, LONGEST_RUN_S);
        self
    }
}

/// Why the guard did not do as asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Denial {
    /// Not installed.
    NotInstalled,
    /// Heating and cooling at once.
    HeatAndCool,
    /// A second stage without the first.
    WithoutFirstStage,
    /// It has not been off long enough.
    MinOff,
    /// It has not been on long enough to be switched off.
    MinOn,
    /// The last start was too short a time ago.
    MinCycle,
    /// Heating and cooling need a pause between them.
    Reversing,
    /// Too cold or too warm outdoors.
    Lockout,
    /// It has run for too long.
    LongestRun,
}

impl Denial {
    /// In words.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::NotInstalled => "not installed",
            Self::HeatAndCool => "heating and cooling never run together",
            Self::WithoutFirstStage => "a second stage needs the first",
            Self::MinOff => "the least time off has not passed",
            Self::MinOn => "the least time on has not passed",
            Self::MinCycle => "the last start was too short a time ago",
            Self::Reversing => "a pause between heating and cooling",
            Self::Lockout => "locked out by the outdoor temperature",
            Self::LongestRun => "it has run for as long as it may at a stretch",
        }
    }
}

/// One thing that the guard did not do as asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Denied {
    /// What.
    pub output: Output,
    /// Why.
    pub why: Denial,
    /// For how long still, if time mends it, seconds.
    pub for_s: Option<u32>,
}

/// One timer. Ages are in milliseconds and never run past a day.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Timer {
    on: bool,
    /// In this state for so long.
    age_ms: u64,
    /// Since it was last switched on.
    start_age_ms: u64,
    /// Who switched it on.
    #[serde(default)]
    by: By,
    /// Its relay has reported before, and did not at the last step.
    #[serde(skip)]
    reports: bool,
    #[serde(skip)]
    blind: bool,
}

/// Who switched an output on.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
enum By {
    /// The guard; so it counts while it is off, too.
    #[default]
    Guard,
    /// Something else.
    Other,
    /// Something else, when it was locked out, or in the pause that there must be between heating and cooling.
    OtherBarred,
}

/// Ages stop here: long past every limit.
const AGE_MAX_MS: u64 = 48 * 3_600_000;

impl Timer {
    /// Just switched off, as far as is known.
    const UNKNOWN: Self = Self::new(false, 0, AGE_MAX_MS, By::Guard);

    const fn new(on: bool, age_ms: u64, start_age_ms: u64, by: By) -> Self {
        Self { on, age_ms, start_age_ms, by, reports: false, blind: false }
    }

    fn advance(&mut self, dt_ms: u64) {
        self.age_ms = self.age_ms.saturating_add(dt_ms).min(AGE_MAX_MS);
        self.start_age_ms = self.start_age_ms.saturating_add(dt_ms).min(AGE_MAX_MS);
    }

    fn switch(&mut self, on: bool) {
        if on != self.on {
            (self.on, self.by) = (on, By::Guard);
            self.age_ms = 0;
            if on {
                self.start_age_ms = 0;
            }
        }
    }
}

/// The guard's memory. Serialise it with everything else; give it back by [`Guard::restarted`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Guard {
    timers: [Timer; TIMED.len()],
    /// The compressor that a heat pump has for heating and cooling.
    compressor: Timer,
    /// Since anything heated, and since anything cooled.
    heat_age_ms: u64,
    cool_age_ms: u64,
    #[serde(skip)]
    last_mono_ms: Option<u64>,
}

impl Default for Guard {
    /// A guard that has just come up: everything is off, and nobody knows for how long.
    fn default() -> Self {
        Self {
            timers: [Timer::UNKNOWN; TIMED.len()],
            compressor: Timer::UNKNOWN,
            heat_age_ms: 0,
            cool_age_ms: 0,
            last_mono_ms: None,
        }
    }
}

/// What the guard looks at besides what is asked.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Circumstances<'a> {
    pub(crate) mono_ms: u64,
    pub(crate) outdoor: Option<Temp>,
    pub(crate) equipment: &'a Equipment,
    pub(crate) limits: &'a Limits,
    /// What the relays say that they do; `None`: they don't, or not now.
    pub(crate) reported: Option<Call>,
    /// Of these nothing is known now, whatever the others say.
    pub(crate) silent: Call,
    /// The frost floor asks: auxiliary heat is not locked out, nor is a heat pump that has none beside it.
    pub(crate) frost: bool,
    /// Auxiliary heat is all that heats, or all that is to: it is not locked out.
    pub(crate) aux_alone: bool,
    /// The high limit, or no sensor is left: off without the least time on.
    pub(crate) urgent_off: bool,
}

impl Guard {
    /// After a restart: `reported` is what the relays themselves say (`None`: they can't tell, and count as off). What is
    /// still on stays on and keeps its age at least; what is off has been off for no time at all.
    pub fn restarted(&mut self, reported: Option<Call>) {
        let mut reported = reported.unwrap_or(Call::NONE);
        for (first, second) in [(Output::Heat1, Output::Heat2), (Output::Cool1, Output::Cool2)] {
            if !reported.has(first) {
                reported = reported.without(second);
            }
        }
        let consistent = !(reported.heats() && reported.cools());
        for (timer, output) in self.timers.iter_mut().zip(TIMED) {
            let on = reported.has(output) && consistent;
            let kept = if timer.on && on { timer.age_ms } else { 0 };
            let start_age_ms = if timer.on || on { 0 } else { timer.start_age_ms };
            *timer = Timer::new(on, kept, start_age_ms, if on { timer.by } else { By::Guard });
        }
        let on = consistent && (reported.has(Output::Cool1) || reported.has(Output::Heat1));
        let kept = if self.compressor.on && on { self.compressor.age_ms } else { 0 };
        self.compressor = Timer::new(on, kept, 0, By::Guard);
        self.heat_age_ms = 0;
        self.cool_age_ms = 0;
        self.last_mono_ms = None;
    }

    /// Takes in what the relays say that they do. What went off or on by itself has done so just now, for all that is known;
    /// and after a time without reports, what is off has been off for no time at all. A relay that is silent stays as it is
    /// believed to be, and blinds nobody to the others.
    fn observe(&mut self, around: &Circumstances<'_>) {
        let hears = |output: Output| around.reported.is_some() && !around.silent.has(output);
        let reported = around.reported.unwrap_or(Call::NONE);
        let reversing_ms = u64::from(around.limits.reversing_delay_s) * 1000;
        let (heat_age_ms, cool_age_ms) = (self.heat_age_ms, self.cool_age_ms);
        let mut returned = Call::NONE;
        for (timer, output) in self.timers.iter_mut().zip(TIMED) {
            if !hears(output) {
                timer.blind = timer.reports;
                continue;
            }
            timer.reports = true;
            if std::mem::take(&mut timer.blind) {
                returned = returned.with(output);
            }
            let (was, on) = (timer.on, reported.has(output));
            if on || was || returned.has(output) {
                *(if output.heats() { &mut self.heat_age_ms } else { &mut self.cool_age_ms }) = 0;
            }
            timer.switch(on);
            if on && !was {
                let opposite_ms = if output.heats() { cool_age_ms } else { heat_age_ms };
                let is_barred = opposite_ms < reversing_ms || locked_out(output, around);
                timer.by = if is_barred { By::OtherBarred } else { By::Other };
            }
            if returned.has(output) && !on {
                timer.age_ms = 0;
            }
        }
        let pair = [Output::Heat1, Output::Cool1];
        if around.equipment.has_heat_pump && pair.into_iter().any(|o| hears(o) && reported.has(o)) {
            self.compressor.switch(true);
        }
        let is_off = pair.into_iter().all(|o| hears(o) && !reported.has(o));
        if self.compressor.on && is_off || !self.compressor.on && pair.into_iter().any(|o| returned.has(o)) {
            self.compressor.switch(false);
            self.compressor.age_ms = 0;
        }
    }

    /// Where something else has switched heating and cooling on together, the side that goes off at once: the one that the
    /// guard did not switch on; of two that it did not, the one that is not wanted, else cooling.
    fn intruder(&self, wanted: Call) -> Option<fn(Output) -> bool> {
        let running = self.running();
        if !(running.heats() && running.cools()) {
            return None;
        }
        let own = |side: fn(Output) -> bool| {
            TIMED.into_iter().any(|o| side(o) && running.has(o) && self.timer(o).by == By::Guard)
        };
        let cools = match (own(Output::heats), own(Output::cools)) {
            (true, false) => true,
            (false, true) => false,
            _ => wanted.heats() || !wanted.cools(),
        };
        Some(if cools { Output::cools } else { Output::heats })
    }

    fn timer(&self, output: Output) -> Timer {
        let index = TIMED.iter().position(|o| *o == output);
        index.and_then(|i| self.timers.get(i)).copied().unwrap_or(Timer::UNKNOWN)
    }

    /// What is on of that which has timers.
    pub fn running(&self) -> Call {
        let on = TIMED.into_iter().zip(self.timers).filter(|(_, timer)| timer.on);
        on.fold(Call::NONE, |call, (output, _)| call.with(output))
    }

    /// For how long an output with a timer has been on or off, seconds.
    pub fn age_s(&self, output: Output) -> u64 {
        self.timer(output).age_ms / 1000
    }

    /// Seconds since anything heated and since anything cooled.
    pub fn since_s(&self) -> (u64, u64) {
        (self.heat_age_ms / 1000, self.cool_age_ms / 1000)
    }

    /// Another control switches: its guards are its own, and what it says is what runs. Nothing of it may be ordered.
    pub(crate) fn follow(&mut self, mono_ms: u64, reported: Call) -> Relays {
        let dt_ms = self.last_mono_ms.map_or(0, |last| mono_ms.saturating_sub(last));
        self.last_mono_ms = Some(mono_ms);
        for (timer, output) in self.timers.iter_mut().zip(TIMED) {
            timer.advance(dt_ms);
            timer.switch(reported.has(output));
        }
        Relays(reported)
    }

    /// Turns what is asked into what may be switched, and says what was denied.
    pub(crate) fn step(&mut self, asked: Call, around: &Circumstances<'_>) -> (Relays, Vec<Denied>) {
        // A monotonic clock that goes back, or a new run: no time has passed.
        let dt_ms = self.last_mono_ms.map_or(0, |last| around.mono_ms.saturating_sub(last));
        self.last_mono_ms = Some(around.mono_ms);
        for timer in &mut self.timers {
            timer.advance(dt_ms);
        }
        self.compressor.advance(dt_ms);
        let before = self.running();
        self.heat_age_ms = if before.heats() { 0 } else { self.heat_age_ms.saturating_add(dt_ms).min(AGE_MAX_MS) };
        self.cool_age_ms = if before.cools() { 0 } else { self.cool_age_ms.saturating_add(dt_ms).min(AGE_MAX_MS) };
        // Only now: what has changed by itself has done so at this moment, for all that is known.
        self.observe(around);

        let mut denied = Vec::new();
        let mut deny = |output, why, for_s| denied.push(Denied { output, why, for_s });
        let limits = around.limits;
        let mut wanted = asked;
        for output in OUTPUTS {
            if wanted.has(output) && !installed(output, around.equipment) {
                deny(output, Denial::NotInstalled, None);
                wanted = wanted.without(output);
            }
        }
        let intruder = self.intruder(wanted);
        if let Some(side) = intruder {
            for output in TIMED {
                if side(output) && wanted.has(output) {
                    deny(output, Denial::HeatAndCool, None);
                    wanted = wanted.without(output);
                }
            }
        }
        // What runs goes on; at rest, heating wins: cold harms a house sooner than warmth.
        if wanted.heats() && wanted.cools() {
            let drop_heat = self.running().cools();
            for output in TIMED {
                if wanted.has(output) && (if drop_heat { output.heats() } else { output.cools() }) {
                    deny(output, Denial::HeatAndCool, None);
                    wanted = wanted.without(output);
                }
            }
        }
        for (first, second) in [(Output::Heat1, Output::Heat2), (Output::Cool1, Output::Cool2)] {
            if wanted.has(second) && !wanted.has(first) {
                deny(second, Denial::WithoutFirstStage, None);
                wanted = wanted.without(second);
            }
        }
        for output in TIMED {
            if wanted.has(output) && locked_out(output, around) {
                deny(output, Denial::Lockout, None);
                wanted = wanted.without(output);
            }
            let timer = self.timer(output);
            if timer.on && timer.age_ms >= u64::from(limits.longest_run_s) * 1000 && wanted.has(output) {
                deny(output, Denial::LongestRun, Some(limits.min_off_s));
                wanted = wanted.without(output);
            }
        }
        // A second stage goes with the first.
        for (first, second) in [(Output::Heat1, Output::Heat2), (Output::Cool1, Output::Cool2)] {
            if !wanted.has(first) {
                wanted = wanted.without(second);
            }
        }

        // First what goes off, so that it is known what is still on.
        let mut on = Call::NONE;
        for output in TIMED {
            let timer = self.timer(output);
            if !timer.on {
                continue;
            }
            let least_ms = u64::from(limits.min_on_s) * 1000;
            // What something else switched on against a guard has no least time on.
            if intruder.is_some_and(|side| side(output)) || timer.by == By::OtherBarred {
                if wanted.has(output) {
                    deny(output, Denial::Reversing, Some(limits.min_off_s));
                    wanted = wanted.without(output);
                }
                continue;
            }
            if wanted.has(output) {
                on = on.with(output);
            } else if timer.age_ms < least_ms && !around.urgent_off {
                deny(output, Denial::MinOn, seconds(least_ms - timer.age_ms));
                on = on.with(output);
            }
        }
        // A second stage does not stay without the first: that waits for it, where it runs.
        for (first, second) in [(Output::Heat1, Output::Heat2), (Output::Cool1, Output::Cool2)] {
            if on.has(second) && !on.has(first) {
                let stays = self.timer(first).on && self.timer(first).by != By::OtherBarred;
                on = if stays { on.with(first) } else { on.without(second) };
            }
        }
        // Then what goes on.
        for output in TIMED {
            if !wanted.has(output) || on.has(output) || self.timer(output).on {
                continue;
            }
            match self.may_start(output, on, around) {
                Ok(()) => on = on.with(output),
                Err((why, wait_ms)) => deny(output, why, seconds(wait_ms)),
            }
        }
        for (first, second) in [(Output::Heat1, Output::Heat2), (Output::Cool1, Output::Cool2)] {
            if on.has(second) && !on.has(first) {
                on = on.without(second);
            }
        }
        for (timer, output) in self.timers.iter_mut().zip(TIMED) {
            timer.switch(on.has(output));
        }
        self.compressor.switch(on.has(Output::Cool1) || around.equipment.has_heat_pump && on.has(Output::Heat1));
        for output in [Output::Fan, Output::Humidifier, Output::Dehumidifier, Output::Ventilator] {
            if wanted.has(output) {
                on = on.with(output);
            }
        }
        // A coil without air freezes or burns.
        let needs_fan =
            on.cools() || on.heats() && (around.equipment.has_heat_pump || around.equipment.fan_control_required);
        if around.equipment.has_forced_air && needs_fan {
            on = on.with(Output::Fan);
        }
        (Relays(on), denied)
    }

    fn may_start(&self, output: Output, on: Call, around: &Circumstances<'_>) -> Result<(), (Denial, u64)> {
        let limits = around.limits;
        let ms = |s: u32| u64::from(s) * 1000;
        let opposite_on = if output.heats() { on.cools() } else { on.heats() };
        if opposite_on {
            return Err((Denial::HeatAndCool, ms(limits.reversing_delay_s)));
        }
        let opposite_age = if output.heats() { self.cool_age_ms } else { self.heat_age_ms };
        if opposite_age < ms(limits.reversing_delay_s) {
            return Err((Denial::Reversing, ms(limits.reversing_delay_s) - opposite_age));
        }
        let timer = self.timer(output);
        let shared = around.equipment.has_heat_pump && matches!(output, Output::Heat1 | Output::Cool1);
        let (off_age, start_age) = if shared {
            (self.compressor.age_ms.min(timer.age_ms), self.compressor.start_age_ms.min(timer.start_age_ms))
        } else {
            (timer.age_ms, timer.start_age_ms)
        };
        if off_age < ms(limits.min_off_s) {
            return Err((Denial::MinOff, ms(limits.min_off_s) - off_age));
        }
        // Starts of heating and of cooling count together: changing over is a cycle too.
        let start_age = if matches!(output, Output::Heat1 | Output::Cool1) {
            start_age.min(self.timer(Output::Heat1).start_age_ms).min(self.timer(Output::Cool1).start_age_ms)
        } else {
            start_age
        };
        if start_age < ms(limits.min_cycle_s) {
            return Err((Denial::MinCycle, ms(limits.min_cycle_s) - start_age));
        }
        Ok(())
    }
}

fn seconds(ms: u64) -> Option<u32> {
    u32::try_from(ms.div_ceil(1000)).ok()
}

fn installed(output: Output, equipment: &Equipment) -> bool {
    match output {
        Output::Heat1 => equipment.heat_stages >= 1,
        Output::Heat2 => equipment.heat_stages >= 2,
        Output::Aux => equipment.has_aux,
        Output::Cool1 => equipment.cool_stages >= 1,
        Output::Cool2 => equipment.cool_stages >= 2,
        Output::Fan => equipment.has_forced_air,
        Output::Humidifier => equipment.has_humidifier,
        Output::Dehumidifier => equipment.has_dehumidifier,
        Output::Ventilator => equipment.ventilator_type != VentilatorType::None,
    }
}

fn locked_out(output: Output, around: &Circumstances<'_>) -> bool {
    let Some(outdoor) = around.outdoor else { return false };
    match output {
        Output::Cool1 | Output::Cool2 => around.limits.cooling_lockout.is_some_and(|t| outdoor < t),
        Output::Heat1 | Output::Heat2 => {
            let exempt = around.frost && !around.equipment.has_aux;
            around.equipment.has_heat_pump
                && !exempt
                && around.limits.compressor_min_outdoor.is_some_and(|t| outdoor < t)
        }
        Output::Aux => !around.frost && !around.aux_alone && around.limits.aux_max_outdoor.is_some_and(|t| outdoor > t),
        _ => false,
    }
}

/// Two set points that may be aimed at: made by [`SetPoints::bounded`] and by nothing else, so that they are always in
/// range and, in auto, always apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct SetPoints {
    heat: Temp,
    cool: Temp,
}

impl SetPoints {
    /// Heating aims here.
    pub const fn heat(self) -> Temp {
        self.heat
    }

    /// Cooling aims here.
    pub const fn cool(self) -> Temp {
        self.cool
    }

    /// Brings what is wanted within its ranges, the frost floor and the high limit, and in auto so far apart as it must be
    /// (the cooling set point gives way; at the end of its range, the heating one).
    pub fn bounded(heat: Temp, cool: Temp, settings: &Settings) -> Self {
        let within = |value: Temp, (low, high): (Temp, Temp)| value.min(high).max(low);
        let mut heat = within(heat, settings.heat_range).max(settings.frost_floor).min(settings.high_limit);
        let mut cool = within(cool, settings.cool_range).max(settings.frost_floor).min(settings.high_limit);
        if settings.hvac_mode == HvacMode::Auto {
            let apart = settings.heat_cool_min_delta.max(MIN_DELTA);
            if cool < heat.plus(apart) {
                cool = heat.plus(apart).min(settings.cool_range.1).min(settings.high_limit);
                heat = heat.min(cool.minus(apart));
            }
        }
        Self { heat, cool }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::simulate::watch::{Seen, Watch};

    #[derive(Clone, Debug)]
    struct Step {
        asked: u16,
        seconds: u64,
        outdoor: Option<i32>,
        frost: bool,
        urgent: bool,
        /// 0: the monotonic clock goes back; 1: restart, relays kept; 2: restart, power was lost; 3: the relay dropped by
        /// itself and says so; 4: reports are missing; 5: something else switches on; 6: some relays are silent.
        mishap: u8,
        /// Which, of the last two.
        which: u16,
    }

    fn step() -> impl Strategy<Value = Step> {
        let outdoor = proptest::option::of(-30_000i32..40_000);
        let mishap = (0u8..40, 0u16..512);
        (0u16..512, 1u64..1200, outdoor, any::<bool>(), proptest::bool::weighted(0.1), mishap).prop_map(
            |(asked, seconds, outdoor, frost, urgent, (mishap, which))| Step {
                asked,
                seconds,
                outdoor,
                frost,
                urgent,
                mishap,
                which,
            },
        )
    }

    proptest! {
        #![proptest_config(ProptestConfig { cases: 2000, ..ProptestConfig::default() })]

        /// Any outputs at all may be asked for, in any order, at any pace, with clocks and relays that misbehave.
        #[test]
        fn whatever_is_asked_the_guard_holds(heat_pump: bool, has_aux: bool, steps in prop::collection::vec(step(), 1..120)) {
            let equipment = Equipment {
                heat_stages: 2, cool_stages: 2, has_aux, has_heat_pump: heat_pump, ..Equipment::default()
            };
            let limits = Limits { longest_run_s: 3600, ..Limits::default() };
            let mut guard = Guard::default();
            // The longest run can't be counted through a clock that goes back; it has its own test.
            let mut watch = Watch::new(Limits { longest_run_s: 1_000_000, ..limits.clone() }, &equipment);
            let (mut mono_ms, mut at_ms) = (10_000_000u64, 0u64);
            let mut relays = Call::NONE;
            for step in &steps {
                at_ms += step.seconds * 1000;
                mono_ms += step.seconds * 1000;
                let outdoor = step.outdoor.map(Temp::from_milli_c);
                let forced = step.mishap == 2;
                let mut reported = Some(relays);
                let mut silent = Call::NONE;
                match step.mishap {
                    0 => mono_ms = mono_ms.saturating_sub(step.seconds * 1000 + 5_000_000),
                    1 | 2 => {
                        let saved = serde_json::to_string(&guard).unwrap();
                        guard = serde_json::from_str(&saved).unwrap();
                        mono_ms = 1;
                        if forced {
                            relays = Call::NONE;
                            let seen = Seen { at_ms, relays, forced, ..Seen::default() };
                            watch.look(&seen);
                        }
                        guard.restarted((!forced).then_some(relays));
                        reported = None;
                    }
                    3 => {
                        relays = Call::NONE;
                        reported = Some(relays);
                        watch.look(&Seen { at_ms, relays, forced: true, ..Seen::default() });
                    }
                    4 => reported = None,
                    5 => {
                        relays = TIMED.into_iter().filter(|o| Call(step.which).has(*o)).fold(relays, Call::with);
                        reported = Some(relays);
                        watch.overridden(at_ms, relays);
                    }
                    6 => {
                        silent = Call(step.which);
                        reported = Some(silent.outputs().fold(relays, Call::without));
                    }
                    _ => {}
                }
                let (frost, urgent_off) = (step.frost, step.urgent);
                let around = Circumstances {
                    mono_ms, outdoor, equipment: &equipment, limits: &limits, reported, silent, frost, aux_alone: false,
                    urgent_off,
                };
                let (allowed, denied) = guard.step(Call(step.asked), &around);
                relays = allowed.call();
                watch.look(&Seen { at_ms, relays, urgent: urgent_off, outdoor, frost, ..Seen::default() });
                // What is not done is said.
                for output in TIMED.into_iter().filter(|o| Call(step.asked).has(*o) && !relays.has(*o)) {
                    prop_assert!(denied.iter().any(|d| d.output == output) || matches!(output, Output::Heat2 | Output::Cool2));
                }
                prop_assert!(!relays.cools() || relays.has(Output::Fan), "cooling without air");
            }
            prop_assert_eq!(watch.broken, 0, "{:?}", watch.list);
        }
    }
}
