//! A watchman beside the house: he sees the relays and a true clock, and knows nothing of the guard's own counting.

use crate::guard::{Call, Limits, Output};
use crate::settings::Equipment;
use crate::temperature::Temp;

/// Milliseconds of rounding that are forgiven.
const GRACE_MS: u64 = 1000;
const HOUR_MS: u64 = 3_600_000;
/// Most broken guards that are listed; all are counted.
const LISTED_MAX: usize = 20;

/// What he looks at in one step.
#[derive(Clone, Copy, Debug, Default)]
pub struct Seen {
    /// True time since the beginning, milliseconds.
    pub at_ms: u64,
    /// What is really on.
    pub relays: Call,
    /// Something other than the hub switched off what went off: a power cut, a relay's own watchdog.
    pub forced: bool,
    /// The hub switched off for safety: the high limit, or no sensor left.
    pub urgent: bool,
    /// The outdoor temperature that the hub knew (`None`: none).
    pub outdoor: Option<Temp>,
    /// The frost floor was asking.
    pub frost: bool,
    /// Auxiliary heat alone was to heat.
    pub aux_only: bool,
}

/// What he counts.
#[derive(Clone, Debug)]
pub struct Watch {
    limits: Limits,
    equipment: Equipment,
    last: Call,
    /// When each output last went on and off.
    on_ms: [Option<u64>; 5],
    off_ms: [Option<u64>; 5],
    starts: Vec<u64>,
    heat_ms: Option<u64>,
    cool_ms: Option<u64>,
    /// How often a guard was broken.
    pub broken: u64,
    /// The first of them.
    pub list: Vec<String>,
    /// Most starts in any hour.
    pub starts_per_hour_max: usize,
    /// Starts of the first stages.
    pub starts_total: u64,
    /// The shortest pause of a first stage, milliseconds.
    pub off_min_ms: Option<u64>,
    /// Milliseconds in which each of the five ran.
    pub run_ms: [u64; 5],
    last_ms: u64,
}

const WATCHED: [Output; 5] = [Output::Heat1, Output::Heat2, Output::Aux, Output::Cool1, Output::Cool2];

impl Watch {
    /// For these limits of this equipment.
    pub fn new(limits: Limits, equipment: &Equipment) -> Self {
        Self {
            limits,
            equipment: equipment.clone(),
            last: Call::NONE,
            on_ms: [None; 5],
            off_ms: [None; 5],
            starts: Vec::new(),
            heat_ms: None,
            cool_ms: None,
            broken: 0,
            list: Vec::new(),
            starts_per_hour_max: 0,
            starts_total: 0,
            off_min_ms: None,
            run_ms: [0; 5],
            last_ms: 0,
        }
    }

    fn broke(&mut self, at_ms: u64, what: &str) {
        self.broken += 1;
        if self.list.len() < LISTED_MAX {
            self.list.push(format!("at {:.3} h: {what}", at_ms as f64 / HOUR_MS as f64));
        }
    }

    /// Looks once. Call at every change, and at least once a minute.
    pub fn look(&mut self, seen: &Seen) {
        let at_ms = seen.at_ms;
        let passed = at_ms.saturating_sub(self.last_ms);
        self.last_ms = at_ms;
        let (before, now) = (self.last, seen.relays);
        for (sum, output) in self.run_ms.iter_mut().zip(WATCHED) {
            if before.has(output) {
                *sum += passed;
            }
        }
        if before.heats() {
            self.heat_ms = Some(at_ms);
        }
        if before.cools() {
            self.cool_ms = Some(at_ms);
        }
        if now.heats() && now.cools() {
            self.broke(at_ms, "heating and cooling together");
        }
        let min_off = u64::from(self.limits.min_off_s) * 1000 - GRACE_MS;
        let min_on = u64::from(self.limits.min_on_s) * 1000 - GRACE_MS;
        let longest = u64::from(self.limits.longest_run_s + self.limits.min_on_s) * 1000 + 120_000;
        for (index, output) in WATCHED.into_iter().enumerate() {
            let (was, is) = (before.has(output), now.has(output));
            let on_ms = self.on_ms.get(index).copied().flatten();
            let off_ms = self.off_ms.get(index).copied().flatten();
            let first_stage = matches!(output, Output::Heat1 | Output::Cool1);
            if is && !was {
                let pause = off_ms.map(|off| at_ms - off);
                let shared = if self.equipment.has_heat_pump && first_stage {
                    let other = self.off_ms.get(if output == Output::Heat1 { 3 } else { 0 }).copied().flatten();
                    other.map(|off| at_ms - off)
                } else {
                    None
                };
                if let Some(pause) = pause.into_iter().chain(shared).min() {
                    if pause < min_off {
                        self.broke(at_ms, &format!("{} on after {} s off", output.as_str(), pause / 1000));
                    }
                    if first_stage {
                        self.off_min_ms = Some(self.off_min_ms.map_or(pause, |least| least.min(pause)));
                    }
                }
                let opposite = if output.heats() { self.cool_ms } else { self.heat_ms };
                let reversing = u64::from(self.limits.reversing_delay_s) * 1000 - GRACE_MS;
                if opposite.is_some_and(|at| at_ms - at < reversing) {
                    self.broke(at_ms, &format!("{} without the reversing delay", output.as_str()));
                }
                if locked(output, seen, &self.limits, &self.equipment) {
                    self.broke(at_ms, &format!("{} although locked out", output.as_str()));
                }
                if first_stage {
                    self.starts_total += 1;
                    self.starts.retain(|start| at_ms - start < HOUR_MS);
                    self.starts.push(at_ms);
                    self.starts_per_hour_max = self.starts_per_hour_max.max(self.starts.len());
                    let allowed = (3600 / self.limits.min_cycle_s).max(1) as usize;
                    if self.starts.len() > allowed {
                        self.broke(at_ms, "more starts in an hour than allowed");
                    }
                }
                if let Some(slot) = self.on_ms.get_mut(index) {
                    *slot = Some(at_ms);
                }
            }
            if was && !is {
                let ran = on_ms.map_or(u64::MAX, |on| at_ms - on);
                if ran < min_on && !seen.forced && !seen.urgent {
                    self.broke(at_ms, &format!("{} off after {} s on", output.as_str(), ran / 1000));
                }
                if let Some(slot) = self.off_ms.get_mut(index) {
                    *slot = Some(at_ms);
                }
            }
            if is && on_ms.is_some_and(|on| was && at_ms - on > longest) {
                self.broke(at_ms, &format!("{} ran for too long", output.as_str()));
                if let Some(slot) = self.on_ms.get_mut(index) {
                    *slot = Some(at_ms);
                }
            }
        }
        self.last = now;
    }

    /// Something else than the hub has switched on what is on now. That breaks no guard of the hub's; what the hub does next may.
    pub fn overridden(&mut self, at_ms: u64, relays: Call) {
        for (on_ms, output) in self.on_ms.iter_mut().zip(WATCHED) {
            if relays.has(output) && !self.last.has(output) {
                *on_ms = None;
            }
        }
        if relays.heats() {
            self.heat_ms = Some(at_ms);
        }
        if relays.cools() {
            self.cool_ms = Some(at_ms);
        }
        self.last = relays;
    }

    /// Hours of the first stages and auxiliary heat.
    pub fn runtime_h(&self) -> f64 {
        let [heat1, _, aux, cool1, _] = self.run_ms;
        (heat1 + aux + cool1) as f64 / HOUR_MS as f64
    }
}

fn locked(output: Output, seen: &Seen, limits: &Limits, equipment: &Equipment) -> bool {
    let Some(outdoor) = seen.outdoor else { return false };
    match output {
        Output::Cool1 | Output::Cool2 => limits.cooling_lockout.is_some_and(|t| outdoor < t),
        Output::Heat1 | Output::Heat2 => {
            let alone_in_frost = seen.frost && !equipment.has_aux;
            equipment.has_heat_pump && !alone_in_frost && limits.compressor_min_outdoor.is_some_and(|t| outdoor < t)
        }
        Output::Aux if seen.aux_only || equipment.heat_stages == 0 => false,
        Output::Aux => !seen.frost && limits.aux_max_outdoor.is_some_and(|t| outdoor > t),
        _ => false,
    }
}
