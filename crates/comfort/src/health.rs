//! How sensors and equipment are, judged by what they do over hours and days: a sensor that drifts away from the others,
//! equipment that starts and stops more than anybody asked it to.
//!
//! Rooms differ, and so do sensors: each has its usual distance from the others, learned in its first week and followed
//! slowly, as seasons change it. What leaves that distance within weeks is a sensor that drifts or was moved. With two
//! sensors nobody can say which of them it is; with one there is nothing to compare with.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::guard::{Call, OUTPUTS, Output};
use crate::temperature::{Delta, Temp};

/// Five minutes' intervals in a day of comparing.
const DAY_INTERVALS: u32 = 288;
/// Fewest intervals of a sensor that make a day of it.
const DAY_LEAST: u32 = 144;
/// Days in which a sensor's usual distance is learned.
const LEARN_DAYS: u32 = 7;
/// After them the usual distance follows the present one, in so many days.
const FOLLOW_DAYS: f64 = 60.0;
/// A day's distance weighs so much against those before it.
const RECENT_SHARE: f64 = 0.5;
/// Further than this from its usual distance a sensor drifts, K.
pub const DRIFT_K: f64 = 1.5;
/// Within this it has come back, K.
const BACK_K: f64 = 0.9;
/// So many days in a row.
const DRIFT_DAYS: u32 = 2;

/// A relay that switched by itself so often ...
pub const BY_ITSELF: usize = 3;
/// ... within so long, milliseconds of running, makes short cycles.
const BY_ITSELF_MS: u64 = 3 * 3_600_000;
/// It is over when it has not done so for this long.
const BY_ITSELF_OVER_MS: u64 = 24 * 3_600_000;
/// Most of them that are remembered for one output.
const BY_ITSELF_MAX: usize = 8;
/// Runs that are looked at.
const RUNS: usize = 12;
/// So many of them are short.
const RUNS_SHORT: usize = 10;
/// A run is short when it is over so soon after its least time on, seconds.
const SHORT_AFTER_LEAST_S: u64 = 90;
/// Runs that are further apart than this in all are no short cycles, milliseconds: the house just needs little.
const RUNS_WITHIN_MS: u64 = 8 * 3_600_000;

/// A sensor's distance from the others.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct Distance {
    /// The correction with which it was learned: with another one it is learned anew.
    offset: Delta,
    sum_k: f64,
    count: u32,
    usual_k: f64,
    recent_k: f64,
    days: u32,
    beyond_days: u32,
    drifts: bool,
}

impl Distance {
    /// From its usual distance, K.
    fn off_k(&self) -> f64 {
        self.recent_k - self.usual_k
    }

    /// A day has ended.
    fn day(&mut self) {
        let (sum_k, count) = (std::mem::take(&mut self.sum_k), std::mem::take(&mut self.count));
        if count < DAY_LEAST {
            return;
        }
        let today_k = sum_k / f64::from(count);
        self.days = self.days.saturating_add(1);
        if self.days <= LEARN_DAYS {
            self.usual_k += (today_k - self.usual_k) / f64::from(self.days);
            self.recent_k = self.usual_k;
            return;
        }
        self.recent_k += RECENT_SHARE * (today_k - self.recent_k);
        if !self.drifts {
            self.usual_k += (today_k - self.usual_k) / FOLLOW_DAYS;
        }
        self.beyond_days = if self.off_k().abs() > DRIFT_K { self.beyond_days.saturating_add(1) } else { 0 };
        self.drifts &= self.off_k().abs() > BACK_K;
    }
}

/// A run of a first stage that ended because the temperature was where it should be.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Finished {
    /// It ended then, in lived milliseconds.
    at: u64,
    seconds: u64,
}

/// What is remembered. Over a restart the count of lived time goes on, and counts the time between as none.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct Health {
    lived_ms: u64,
    /// When a relay went off or on by itself.
    by_itself: BTreeMap<Output, Vec<u64>>,
    /// Outputs that switch by themselves too often.
    restless: Vec<Output>,
    finished: Vec<Finished>,
    sensors: BTreeMap<String, Distance>,
    intervals: u32,
    /// The relays told what they do at the last step.
    #[serde(skip)]
    told: bool,
}

/// Equipment that starts and stops too often, and how it shows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ShortCycles {
    /// Its relay goes off or on without an order.
    ByItself(Output, usize),
    /// Its runs reach the set point almost at once: so many, so long on average (seconds).
    Runs(usize, u64),
}

impl Health {
    /// Time has passed, with what was switched and what the relays report (`None`: they tell nothing now).
    pub(crate) fn pass(&mut self, dt_ms: u64, switched: Call, reported: Option<Call>) {
        self.lived_ms = self.lived_ms.saturating_add(dt_ms);
        let now = self.lived_ms;
        // After a time without reports what differs may be the order that did not get through.
        let told = std::mem::replace(&mut self.told, reported.is_some());
        if let Some(reported) = reported.filter(|_| told) {
            let timed = OUTPUTS.into_iter().filter(|o| o.heats() || o.cools());
            for output in timed.filter(|o| switched.has(*o) != reported.has(*o)) {
                let times = self.by_itself.entry(output).or_default();
                // One mishap is one, however many steps see it.
                if times.last().is_none_or(|last| now - last >= 60_000) {
                    times.push(now);
                }
                if times.len() > BY_ITSELF_MAX {
                    times.remove(0);
                }
            }
        }
        self.by_itself.retain(|_, times| times.last().is_some_and(|last| now - last < BY_ITSELF_OVER_MS));
        for (output, times) in &self.by_itself {
            let often = times.iter().filter(|at| now - **at < BY_ITSELF_MS).count() >= BY_ITSELF;
            if often && !self.restless.contains(output) {
                self.restless.push(*output);
            }
        }
        let restless = &self.by_itself;
        self.restless.retain(|output| restless.contains_key(output));
    }

    /// A first stage has stopped because the temperature was reached, after so many seconds.
    pub(crate) fn finished(&mut self, seconds: u64) {
        self.finished.push(Finished { at: self.lived_ms, seconds });
        if self.finished.len() > RUNS {
            self.finished.remove(0);
        }
    }

    /// Five minutes have ended: what the believed sensors say, with their corrections.
    pub(crate) fn compare(&mut self, said: &[(&str, Temp, Delta)]) {
        let trusted = |id: &str| !self.sensors.get(id).is_some_and(|d| d.drifts);
        let mut distances = Vec::with_capacity(said.len());
        for (id, temperature, offset) in said {
            let mut others: Vec<f64> =
                said.iter().filter(|(other, ..)| other != id && trusted(other)).map(|(_, t, _)| t.celsius()).collect();
            if let Some(middle) = median(&mut others) {
                distances.push((*id, temperature.celsius() - middle, *offset));
            }
        }
        for (id, distance_k, offset) in distances {
            let known = self.sensors.entry(id.to_owned()).or_default();
            if known.offset != offset {
                *known = Distance { offset, ..Distance::default() };
            }
            known.sum_k += distance_k;
            known.count += 1;
        }
        self.intervals += 1;
        if self.intervals < DAY_INTERVALS {
            return;
        }
        self.intervals = 0;
        self.sensors.values_mut().for_each(Distance::day);
        // One at a time, the worst: the others are then compared without it.
        let beyond = self.sensors.values_mut().filter(|d| !d.drifts && d.beyond_days >= DRIFT_DAYS);
        if let Some(worst) = beyond.max_by(|a, b| a.off_k().abs().total_cmp(&b.off_k().abs())) {
            worst.drifts = true;
        }
    }

    /// Forgets sensors that are no longer there.
    pub(crate) fn keep_sensors(&mut self, there: impl Fn(&str) -> bool) {
        self.sensors.retain(|id, _| there(id));
    }

    /// A sensor's distance is right as it is now: it is learned anew.
    pub(crate) fn accept(&mut self, sensor: &str) {
        self.sensors.remove(sensor);
    }

    /// Sensors that drift, and by how much, K (positive: they say more than they used to beside the others).
    pub fn drifts(&self) -> impl Iterator<Item = (&str, f64)> {
        self.sensors.iter().filter(|(_, d)| d.drifts).map(|(id, d)| (id.as_str(), d.off_k()))
    }

    /// Equipment that starts and stops too often, if any.
    pub fn short_cycles(&self, min_on_s: u32) -> Option<ShortCycles> {
        if let Some(output) = self.restless.first() {
            return Some(ShortCycles::ByItself(*output, self.by_itself.get(output).map_or(0, Vec::len)));
        }
        let short = |run: &&Finished| run.seconds <= u64::from(min_on_s) + SHORT_AFTER_LEAST_S;
        let spread = self.finished.first().zip(self.finished.last()).map_or(0, |(a, b)| b.at - a.at);
        let count = self.finished.iter().filter(short).count();
        let seconds: u64 = self.finished.iter().map(|run| run.seconds).sum();
        (self.finished.len() == RUNS && count >= RUNS_SHORT && spread <= RUNS_WITHIN_MS)
            .then(|| ShortCycles::Runs(count, seconds / RUNS as u64))
    }
}

fn median(values: &mut [f64]) -> Option<f64> {
    values.sort_by(f64::total_cmp);
    let middle = values.len().checked_sub(1)?;
    Some((values.get(middle / 2)? + values.get(values.len() / 2)?) / 2.0)
}
