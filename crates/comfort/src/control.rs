//! Control: from temperatures to what is asked of the equipment. What is asked passes the guard afterwards.

use serde::{Deserialize, Serialize};

use crate::guard::{Call, Guard, Limits, Output, SetPoints};
use crate::settings::{Equipment, FanMode, HvacMode, Settings, VentMode, VentilatorType};
use crate::temperature::{Delta, Temp};

/// Seconds in which fan and ventilator have their minutes.
const HOUR_S: u64 = 3600;
/// Heating blind has this period, seconds.
const DUTY_PERIOD_S: u64 = 3600;
/// Humidity is switched so far around its set point, %.
const HUMIDITY_BAND: u8 = 2;
/// Free cooling needs the air outdoors to be so much cooler.
const FREE_COOLING_DELTA: Delta = Delta::from_milli_k(2000);
/// Heating without any sensor aims here at most, °C: above frost, and far from too warm.
const BLIND_TARGET_C: f64 = 12.0;
/// Blind heating never runs for more than this share of time.
const BLIND_DUTY_MAX: f64 = 0.6;
/// Blind heating without an outdoor temperature.
const BLIND_DUTY_UNKNOWN: f64 = 0.3;

/// So fast a house may lose its heat that is not heated, kelvin an hour: a light one in frost.
const BLIND_FALL_K_H: f64 = 1.0;

/// What the control remembers from step to step.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ControlState {
    heating: bool,
    cooling: bool,
    stage2: bool,
    aux: bool,
    drying: bool,
    humidifying: bool,
    frost: bool,
    high: bool,
    /// Milliseconds of the fan and the ventilator in the present hour, and how far into it we are.
    fan_ms: u64,
    vent_ms: u64,
    hour_ms: u64,
    /// What the sensors said last, and how long ago.
    #[serde(default)]
    last: Option<(Temp, u64)>,
}

/// Why the equipment does what it does.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Reason {
    /// The mode is off.
    Off,
    /// Nothing is needed.
    Satisfied,
    /// Below the heating set point.
    BelowHeatSetPoint,
    /// Above the cooling set point.
    AboveCoolSetPoint,
    /// The air is too damp.
    TooHumid,
    /// Below the frost floor: heated in any mode.
    FrostFloor,
    /// Above the high limit: not heated, and cooled where it can be.
    HighLimit,
    /// No sensor is believed: no cooling, and as much heating as keeps the frost out.
    NoSensor,
    /// A window or door is open.
    WindowOpen,
    /// The program is about to ask for less, and the temperature lasts until then.
    Coasting,
}

impl Reason {
    /// In words.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Off => "the mode is off",
            Self::Satisfied => "nothing is needed: the temperature is where it should be",
            Self::BelowHeatSetPoint => "it is colder than the heating set point",
            Self::AboveCoolSetPoint => "it is warmer than the cooling set point",
            Self::TooHumid => "the air is more humid than wanted",
            Self::FrostFloor => "a room is below the frost floor, which is held in any mode",
            Self::HighLimit => "a room is above the high limit: no heating, whatever is asked",
            Self::NoSensor => "no sensor is believed: no cooling, and heating for a share of the time against frost",
            Self::WindowOpen => "paused, because a window or door is open",
            Self::Coasting => "the program is about to ask for less, and the temperature lasts until then",
        }
    }
}

/// What the control looks at.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Situation<'a> {
    pub(crate) settings: &'a Settings,
    pub(crate) equipment: &'a Equipment,
    pub(crate) limits: &'a Limits,
    pub(crate) guard: &'a Guard,
    pub(crate) set_points: SetPoints,
    pub(crate) temperature: Option<Temp>,
    pub(crate) coldest: Option<Temp>,
    pub(crate) hottest: Option<Temp>,
    pub(crate) humidity: Option<u8>,
    pub(crate) outdoor: Option<Temp>,
    pub(crate) fan: FanMode,
    pub(crate) fan_min_on_time: u8,
    pub(crate) ventilator_min_on_time: u8,
    pub(crate) window_open: bool,
    /// The hub has started a moment ago.
    pub(crate) just_started: bool,
    /// Sensors have had their time to be heard since the start.
    pub(crate) settled: bool,
    /// The program is about to ask for less, and the temperature lasts until then.
    pub(crate) coasting: bool,
    /// An optimal start runs: auxiliary heat stays out.
    pub(crate) recovering: bool,
    /// Kelvin that heating lifts the house over outdoors in the long run, as learned.
    pub(crate) lift_k: f64,
    pub(crate) mono_ms: u64,
    pub(crate) dt_ms: u64,
    pub(crate) fan_was_on: bool,
    pub(crate) vent_was_on: bool,
}

/// What is asked, and why.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Wish {
    pub(crate) call: Call,
    pub(crate) reason: Reason,
    pub(crate) frost: bool,
    pub(crate) urgent_off: bool,
}

impl ControlState {
    /// One step of control.
    pub(crate) fn step(&mut self, s: &Situation<'_>) -> Wish {
        self.count_hour(s);
        let (mut call, reason, urgent_off) = self.temperature(s);
        // Drying by cooling may go below the set point; drying by a dehumidifier may always.
        let mut reason = reason;
        self.humidity(s, &mut call, &mut reason);
        self.air(s, &mut call);
        Wish { call, reason, frost: self.frost, urgent_off }
    }

    /// Nothing is known any more; minutes of the hour are.
    fn forget(&mut self) {
        let Self { fan_ms, vent_ms, hour_ms, last, .. } = *self;
        *self = Self { fan_ms, vent_ms, hour_ms, last, ..Self::default() };
    }

    /// A room is below the frost floor, and one above the high limit: both may be.
    pub(crate) fn limits(&self) -> (bool, bool) {
        (self.frost, self.high)
    }

    fn temperature(&mut self, s: &Situation<'_>) -> (Call, Reason, bool) {
        self.last = match (s.temperature, self.last) {
            (Some(t), _) => Some((t, 0)),
            (None, last) => last.map(|(t, age_ms)| (t, age_ms.saturating_add(s.dt_ms))),
        };
        let Some(t) = s.temperature else {
            if s.settled {
                self.forget();
                return (blind(s, self.last), Reason::NoSensor, true);
            }
            // Just started: sensors speak in a moment, and until then a restart changes nothing of what runs.
            if s.just_started {
                return (s.guard.running(), Reason::NoSensor, false);
            }
            self.forget();
            return (Call::NONE, Reason::NoSensor, false);
        };
        // Half a kelvin of hysteresis around the two limits that hold in any mode.
        let band = Delta::from_milli_k(500);
        let coldest = s.coldest.map_or(t, |c| c.min(t));
        let hottest = s.hottest.map_or(t, |h| h.max(t));
        let floor = s.settings.frost_floor.plus(band);
        self.frost = coldest < if self.frost { floor.plus(band) } else { floor };
        let limit = s.settings.high_limit;
        self.high = hottest > if self.high { limit.minus(band) } else { limit };
        // One room that is too warm (a sensor by the stove, one that drifts) does not let another freeze.
        let is_hot = self.high && (t > limit || !self.frost);
        if is_hot {
            (self.heating, self.aux, self.stage2, self.frost) = (false, false, false, false);
            self.cooling = t > s.set_points.cool();
            let call = if self.cooling && s.equipment.cool_stages > 0 { cool_call(s, false) } else { Call::NONE };
            return (call, Reason::HighLimit, true);
        }
        if self.frost {
            self.cooling = false;
            self.heating = true;
            return (self.heat_call(s, true), Reason::FrostFloor, false);
        }
        if s.settings.hvac_mode == HvacMode::Off {
            (self.heating, self.cooling, self.aux, self.stage2) = (false, false, false, false);
            return (Call::NONE, Reason::Off, false);
        }
        if s.window_open {
            (self.heating, self.cooling, self.aux, self.stage2) = (false, false, false, false);
            return (Call::NONE, Reason::WindowOpen, false);
        }
        let (heat_on, heat_off) = s.settings.stage1_heating_differential.around(s.recovering);
        let (cool_on, cool_off) = s.settings.stage1_cooling_differential.around(s.recovering);
        let (heat, cool) = (s.set_points.heat(), s.set_points.cool());
        let below = if self.heating { t < heat.plus(heat_off) } else { t <= heat.minus(heat_on) };
        let above = if self.cooling { t > cool.minus(cool_off) } else { t >= cool.plus(cool_on) };
        self.heating = s.settings.hvac_mode.heats() && below;
        self.cooling = s.settings.hvac_mode.cools() && above && !self.heating;
        if s.coasting && (self.heating || self.cooling) {
            (self.heating, self.cooling, self.aux, self.stage2) = (false, false, false, false);
            return (Call::NONE, Reason::Coasting, false);
        }
        if self.heating {
            (self.heat_call(s, false), Reason::BelowHeatSetPoint, false)
        } else if self.cooling {
            let far = t > cool.plus(s.settings.stage2_delta);
            let long = s.guard.running().has(Output::Cool1)
                && s.guard.age_s(Output::Cool1) > u64::from(s.settings.stage2_after_s)
                && t >= cool.plus(cool_on);
            self.stage2 = far || long || self.stage2 && t > cool;
            (cool_call(s, self.stage2), Reason::AboveCoolSetPoint, false)
        } else {
            (self.stage2, self.aux) = (false, false);
            (Call::NONE, Reason::Satisfied, false)
        }
    }

    /// Heating by what is there: stages, the heat pump, auxiliary heat where it must be.
    fn heat_call(&mut self, s: &Situation<'_>, frost: bool) -> Call {
        let e = s.equipment;
        let t = s.temperature.unwrap_or(s.settings.frost_floor);
        let heat = s.set_points.heat();
        if is_aux_only(s) {
            self.aux = true;
            return Call::of(&[Output::Aux]);
        }
        let mut call = Call::of(&[Output::Heat1]);
        let running = s.guard.running().has(Output::Heat1);
        let far = t < heat.minus(s.settings.stage2_delta);
        let long = running
            && s.guard.age_s(Output::Heat1) > u64::from(s.settings.stage2_after_s)
            && t <= heat.minus(s.settings.stage1_heating_differential.around(s.recovering).0);
        self.stage2 = far || long || frost || self.stage2 && t < heat;
        if self.stage2 && e.heat_stages >= 2 {
            call = call.with(Output::Heat2);
        }
        // Auxiliary heat is dear: the heat pump is given its time, and an optimal start has begun early enough.
        let given = running && s.guard.age_s(Output::Heat1) > u64::from(s.settings.aux_after_s);
        let needed = t < heat.minus(s.settings.aux_delta) && given && !s.recovering;
        self.aux = needed || frost || self.aux && t < heat.minus(s.settings.aux_delta.half());
        if self.aux && e.has_aux {
            call = call.with(Output::Aux);
        }
        call
    }

    fn humidity(&mut self, s: &Situation<'_>, call: &mut Call, reason: &mut Reason) {
        let Some(humidity) = s.humidity else {
            (self.drying, self.humidifying) = (false, false);
            return;
        };
        let paused = s.window_open || s.settings.hvac_mode == HvacMode::Off;
        let level = s.settings.dehumidifier_level.filter(|_| !paused);
        let damp = level.is_some_and(|l| humidity > if self.drying { l.saturating_sub(HUMIDITY_BAND) } else { l });
        self.drying = damp;
        if damp {
            if s.equipment.has_dehumidifier {
                *call = call.with(Output::Dehumidifier);
            } else if s.settings.dehumidify_with_ac && s.settings.hvac_mode.cools() && !call.heats() {
                let deep = s.set_points.cool().minus(s.settings.dehumidify_overcool_offset);
                let heat = s.set_points.heat().plus(Delta::from_milli_k(1000));
                let warm_enough =
                    s.temperature.is_some_and(|t| t > deep && (!s.settings.hvac_mode.heats() || t > heat));
                if warm_enough && !call.cools() {
                    *call = call.with(Output::Cool1);
                    *reason = Reason::TooHumid;
                }
            }
        }
        let aim = s.settings.humidity.filter(|_| !paused).map(|aim| match s.outdoor {
            Some(outdoor) if s.settings.condensation_avoid => aim.min(dry_enough(outdoor)),
            _ => aim,
        });
        let dry = aim
            .is_some_and(|a| if self.humidifying { humidity < a } else { humidity < a.saturating_sub(HUMIDITY_BAND) });
        self.humidifying = dry && !damp && !call.cools();
        if self.humidifying && s.equipment.has_humidifier {
            *call = call.with(Output::Humidifier);
            if s.equipment.has_forced_air {
                *call = call.with(Output::Fan);
            }
        }
    }

    /// The fan and the ventilator.
    fn air(&mut self, s: &Situation<'_>, call: &mut Call) {
        let left_s = HOUR_S.saturating_sub(self.hour_ms / 1000);
        let due = |minutes: u8, done_ms: u64| {
            let needed_s = (u64::from(minutes.min(60)) * 60).saturating_sub(done_ms / 1000);
            needed_s > 0 && left_s <= needed_s
        };
        let (heat_s, cool_s) = s.guard.since_s();
        let running = s.guard.running();
        // The heat that is left in the exchanger, the cold that is left in the coil. A furnace sees to its own.
        let after_heat = s.fan_was_on
            && (s.equipment.has_heat_pump || s.equipment.fan_control_required)
            && s.settings.heat_dissipation_s > 0
            && (running.heats() || heat_s < u64::from(s.settings.heat_dissipation_s));
        let after_cool = s.fan_was_on
            && s.settings.cool_dissipation_s > 0
            && (running.cools() || cool_s < u64::from(s.settings.cool_dissipation_s));
        let asked = s.fan == FanMode::On && s.settings.hvac_mode != HvacMode::Off;
        if s.equipment.has_forced_air
            && (asked || due(s.fan_min_on_time, self.fan_ms) || after_heat || after_cool || call.cools())
        {
            *call = call.with(Output::Fan);
        }
        if s.equipment.ventilator_type != VentilatorType::None && !s.window_open {
            let free = s.settings.ventilator_free_cooling
                && s.settings.hvac_mode.cools()
                && matches!((s.temperature, s.outdoor), (Some(t), Some(o))
                    if o < t.minus(FREE_COOLING_DELTA) && t > s.set_points.cool().minus(Delta::from_milli_k(1000)));
            let on = match s.settings.vent {
                VentMode::On => true,
                VentMode::Off => false,
                VentMode::Auto => free || due(s.ventilator_min_on_time, self.vent_ms),
            };
            if on {
                *call = call.with(Output::Ventilator);
            }
        }
    }

    fn count_hour(&mut self, s: &Situation<'_>) {
        self.hour_ms += s.dt_ms;
        if s.fan_was_on {
            self.fan_ms += s.dt_ms;
        }
        if s.vent_was_on {
            self.vent_ms += s.dt_ms;
        }
        if self.hour_ms >= HOUR_S * 1000 {
            (self.hour_ms, self.fan_ms, self.vent_ms) = (0, 0, 0);
        }
    }
}

/// Whether auxiliary heat is there and must do it alone: a heat pump is locked out by the cold, or broken.
fn is_aux_only(s: &Situation<'_>) -> bool {
    let e = s.equipment;
    let locked =
        e.has_heat_pump && matches!((s.outdoor, s.limits.compressor_min_outdoor), (Some(o), Some(least)) if o < least);
    e.has_aux && (s.settings.hvac_mode == HvacMode::AuxHeatOnly || locked || e.heat_stages == 0)
}

fn cool_call(s: &Situation<'_>, stage2: bool) -> Call {
    let call = Call::of(&[Output::Cool1]);
    if stage2 && s.equipment.cool_stages >= 2 { call.with(Output::Cool2) } else { call }
}

/// No sensor is believed: heat for a share of each hour that holds some 12 °C against the outdoors. Where nothing is known of
/// the outdoors either, it begins when the house may have come down to that from what it was last.
fn blind(s: &Situation<'_>, last: Option<(Temp, u64)>) -> Call {
    let may_be_c = last.map(|(t, age_ms)| t.celsius() - age_ms as f64 / 3.6e6 * BLIND_FALL_K_H);
    let duty = match s.outdoor {
        Some(outdoor) => ((BLIND_TARGET_C - outdoor.celsius()) / s.lift_k.max(5.0)).clamp(0.0, BLIND_DUTY_MAX),
        None if may_be_c.is_some_and(|c| c > BLIND_TARGET_C) => 0.0,
        None => BLIND_DUTY_UNKNOWN,
    };
    if duty <= 0.0 || !in_duty(s.mono_ms, duty.max(0.1)) {
        return Call::NONE;
    }
    if is_aux_only(s) { Call::of(&[Output::Aux]) } else { Call::of(&[Output::Heat1]) }
}

fn in_duty(mono_ms: u64, duty: f64) -> bool {
    ((mono_ms / 1000) % DUTY_PERIOD_S) as f64 <= duty * DUTY_PERIOD_S as f64
}

/// Relative humidity that double glazing bears at this temperature outdoors without running with water, %: the usual
/// table of humidifier makers, from 15 % at -30 °C to 45 % above 5 °C.
fn dry_enough(outdoor: Temp) -> u8 {
    let celsius = outdoor.celsius();
    (38.0 + celsius * 0.8).clamp(15.0, 45.0) as u8
}
