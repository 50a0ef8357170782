//! The learned house: two heat capacities, found again and again from the house's own record.
//!
//! The air `a` (with the furniture, as the sensor feels it) and the mass `m`, in °C and hours:
//!
//! ```text
//! da/dt = (m - a)/air_mass - cool*u_cool + heat*u_heat + gain + solar*sun
//! dm/dt = (a - m)/(air_mass*ratio) + (outdoor - m)/mass_outdoor
//! ```
//!
//! For given time constants the prediction is linear in the four rates, so these come from one least-squares solution;
//! only three numbers are searched for. The controller knows nothing else about the house: no parameter of a simulated
//! house can reach it.

use serde::{Deserialize, Serialize};

/// One sample each so many seconds.
pub const SAMPLE_S: u32 = 300;
/// Most samples that are kept: 14 days.
pub const SAMPLES_MAX: usize = 14 * 288;
/// Fewest samples before the first fit: a day.
const SAMPLES_MIN: usize = 288;
/// Between two fits, in samples: a day, and once a week is known three.
const FIT_EVERY: u32 = 288;
const FIT_EVERY_LATER: u32 = 3 * 288;
const WEEK: usize = 7 * 288;
/// Hours between two samples.
const STEP_H: f64 = SAMPLE_S as f64 / 3600.0;
/// How far one sample pulls the predicted air and mass: the prediction looks some four hours ahead.
const PULL_AIR: f64 = 0.02;
const PULL_MASS: f64 = 0.015;
/// Bounds of the time constants (hours) and the ratio of capacities.
const BOUNDS: [(f64, f64); 3] = [(0.25, 8.0), (6.0, 250.0), (1.0, 25.0)];
/// First factor of the search, and the one at which it ends.
const SEARCH: (f64, f64) = (1.35, 1.04);
/// Most evaluations in one fit.
const EVALUATIONS_MAX: u32 = 48;
/// Hours after which a forecast of the time to a temperature gives up.
pub const FORECAST_MAX_H: f64 = 12.0;
/// The forecast's step, hours.
const FORECAST_STEP_H: f64 = 1.0 / 30.0;
/// Equipment is felt so much later, hours: the sensor's lag and the ramp.
const DEAD_TIME_H: f64 = 5.0 / 60.0;
/// The correction of leads stays within.
const CORRECTION: (f64, f64) = (0.7, 1.8);

/// What was measured in five minutes.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Sample {
    /// Control temperature at the end, °C; `None`: no sensor was believed.
    #[serde(rename = "t")]
    pub indoor: Option<f32>,
    /// Outdoors, °C.
    #[serde(rename = "o")]
    pub outdoor: f32,
    /// Share of the time in which it was heated (a second stage counts as much again).
    #[serde(rename = "h")]
    pub heat: f32,
    /// Share of the time in which it was cooled.
    #[serde(rename = "c")]
    pub cool: f32,
    /// The sun, 0 to 1.
    #[serde(rename = "s")]
    pub sun: f32,
    /// It is not known what ran: the temperatures alone count.
    #[serde(rename = "u", default, skip_serializing_if = "std::ops::Not::not")]
    pub unseen: bool,
}

/// The house as learned.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Model {
    /// Time constant of the air towards the mass, hours.
    pub air_mass_h: f64,
    /// Time constant of the mass towards outdoors, hours.
    pub mass_outdoor_h: f64,
    /// Capacity of the mass over that of the air.
    pub ratio: f64,
    /// Cooling, K/h on the air.
    pub cool_k_h: f64,
    /// Heating, K/h on the air.
    pub heat_k_h: f64,
    /// People and appliances, K/h on the air.
    pub gain_k_h: f64,
    /// The highest sun, K/h on the air.
    pub solar_k_h: f64,
}

impl Default for Model {
    /// A house of which nothing is known yet: of medium weight, with equipment of the usual size.
    fn default() -> Self {
        Self {
            air_mass_h: 1.5,
            mass_outdoor_h: 40.0,
            ratio: 5.0,
            cool_k_h: 2.2,
            heat_k_h: 3.0,
            gain_k_h: 0.15,
            solar_k_h: 0.2,
        }
    }
}

impl Model {
    /// One step of Euler.
    fn step(&self, air: f64, mass: f64, outdoor: f64, rate: f64, dt: f64) -> (f64, f64) {
        let to_mass = (air - mass) / self.air_mass_h;
        let da = rate - to_mass;
        let dm = to_mass / self.ratio + (outdoor - mass) / self.mass_outdoor_h;
        (air + da * dt, mass + dm * dt)
    }

    /// How long the whole house takes to lose 63 % of its warmth, hours: the slower of its two time constants.
    pub fn time_constant_h(&self) -> f64 {
        let (a, b, c) = (1.0 / self.air_mass_h, 1.0 / (self.air_mass_h * self.ratio), 1.0 / self.mass_outdoor_h);
        let (trace, determinant) = (a + b + c, a * c);
        let slow = (trace - (trace * trace - 4.0 * determinant).max(0.0).sqrt()) / 2.0;
        if slow > 1e-9 { 1.0 / slow } else { f64::INFINITY }
    }

    /// Kelvin that one K/h on the air lifts the house in the long run.
    pub fn lift_h(&self) -> f64 {
        self.air_mass_h + self.mass_outdoor_h / self.ratio
    }

    /// Outdoor temperature at which the house keeps `indoor` without equipment, °C (a fifth of the sun's highest is its
    /// mean over the day).
    pub fn balance_point_c(&self, indoor: f64) -> f64 {
        indoor - (self.gain_k_h + 0.2 * self.solar_k_h) * self.lift_h()
    }

    /// The air after so many hours without equipment, °C.
    pub fn float(&self, state: (f64, f64), hours: f64, outdoor: f64, sun: f64) -> f64 {
        self.after(state, hours, outdoor, 0.0, sun)
    }

    /// The same with equipment at `rate` K/h on the air (negative cools).
    pub fn after(&self, state: (f64, f64), hours: f64, outdoor: f64, rate: f64, sun: f64) -> f64 {
        let (mut air, mut mass) = state;
        let mut left = hours.clamp(0.0, FORECAST_MAX_H);
        while left > 0.0 {
            let dt = left.min(FORECAST_STEP_H);
            (air, mass) = self.step(air, mass, outdoor, self.gain_k_h + self.solar_k_h * sun + rate, dt);
            left -= dt;
        }
        air
    }

    /// Hours until the air reaches `target` with equipment at `rate` K/h (negative cools); `None`: not within
    /// [`FORECAST_MAX_H`].
    pub fn hours_to(&self, state: (f64, f64), target: f64, outdoor: f64, rate: f64, sun: f64) -> Option<f64> {
        let (mut air, mut mass) = state;
        let background = self.gain_k_h + self.solar_k_h * sun;
        let mut hours = 0.0;
        while hours < FORECAST_MAX_H {
            if if rate < 0.0 { air <= target } else { air >= target } {
                return Some(hours);
            }
            let felt = if hours < DEAD_TIME_H { 0.0 } else { rate };
            (air, mass) = self.step(air, mass, outdoor, background + felt, FORECAST_STEP_H);
            hours += FORECAST_STEP_H;
        }
        None
    }
}

/// The learner: samples, the model, the state of the house, and how leads turned out.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Learner {
    model: Model,
    /// Samples behind the last fit; 0: nothing is learned yet.
    fitted: u32,
    since_fit: u32,
    samples: Vec<Sample>,
    /// Predicted air and mass, °C.
    state: Option<(f64, f64)>,
    last: (f32, f32),
    /// By how much leads are longer than forecast, for heating and for cooling.
    correction: [f64; 2],
    /// Root mean square of the last fit's errors, K.
    rmse: f64,
}

impl Default for Learner {
    fn default() -> Self {
        Self {
            model: Model::default(),
            fitted: 0,
            since_fit: 0,
            samples: Vec::new(),
            state: None,
            last: (0.0, 0.0),
            correction: [1.0; 2],
            rmse: 0.0,
        }
    }
}

/// Sums of a least-squares problem with four unknowns.
type Normal = ([[f64; 4]; 4], [f64; 4]);

impl Learner {
    /// The house as learned so far.
    pub fn model(&self) -> &Model {
        &self.model
    }

    /// Samples behind the last fit; 0: these are assumptions.
    pub fn fitted(&self) -> u32 {
        self.fitted
    }

    /// Root mean square of the last fit's errors, K.
    pub fn rmse(&self) -> f64 {
        self.rmse
    }

    /// Air and mass now, °C, with the air as just measured.
    pub fn state(&self, indoor: f64) -> (f64, f64) {
        let mass = self.state.map_or(indoor, |(air, mass)| mass + (indoor - air) * 0.3);
        (indoor, mass)
    }

    /// Takes five minutes in, and fits once a day.
    pub fn take(&mut self, sample: Sample) {
        let (heat, cool) = (f64::from(self.last.0), f64::from(self.last.1));
        self.last = (sample.heat, sample.cool);
        if let Some((air, mass)) = self.state {
            let m = &self.model;
            let rate = m.gain_k_h + m.solar_k_h * f64::from(sample.sun) + m.heat_k_h * heat - m.cool_k_h * cool;
            let (air, mass) = m.step(air, mass, f64::from(sample.outdoor), rate, STEP_H);
            let error = sample.indoor.map_or(0.0, |t| f64::from(t) - air);
            // The live state follows the measured air closely, and the mass slowly; what ran unseen says nothing of the mass.
            let (to_air, to_mass) = if sample.unseen { (1.0, 0.0) } else { (0.5, 0.03) };
            self.state = Some((air + to_air * error, mass + to_mass * error));
        } else {
            self.state = sample.indoor.map(|t| (f64::from(t), f64::from(t)));
        }
        if self.samples.len() >= SAMPLES_MAX {
            self.samples.drain(..FIT_EVERY as usize);
        }
        self.samples.push(sample);
        self.since_fit += u32::from(!sample.unseen);
        let every = if self.samples.len() < WEEK { FIT_EVERY } else { FIT_EVERY_LATER };
        if self.since_fit >= every && self.seen() >= SAMPLES_MIN {
            self.since_fit = 0;
            self.fit();
        }
    }

    /// How many samples say what ran.
    fn seen(&self) -> usize {
        self.samples.iter().filter(|s| !s.unseen).count()
    }

    /// Finds the house in the samples.
    pub fn fit(&mut self) {
        let seen = self.seen();
        if seen < SAMPLES_MIN / 2 {
            return;
        }
        let prior = if self.fitted == 0 { Model::default() } else { self.model };
        let mut best = [self.model.air_mass_h, self.model.mass_outdoor_h, self.model.ratio];
        let Some((mut cost, mut rates)) = self.cost(best, &prior) else { return };
        let mut factor = SEARCH.0;
        let mut evaluations = 0;
        while factor > SEARCH.1 && evaluations < EVALUATIONS_MAX {
            let mut better = false;
            for index in 0..best.len() {
                for step in [factor, 1.0 / factor] {
                    let mut tried = best;
                    if let (Some(value), Some((least, most))) = (tried.get_mut(index), BOUNDS.get(index)) {
                        *value = (*value * step).clamp(*least, *most);
                    }
                    evaluations += 1;
                    if let Some((c, r)) = self.cost(tried, &prior)
                        && c < cost * 0.9999
                    {
                        (best, cost, rates, better) = (tried, c, r, true);
                        break;
                    }
                }
            }
            if !better {
                factor = factor.sqrt();
            }
        }
        let [air_mass_h, mass_outdoor_h, ratio] = best;
        let [cool, heat, gain, solar] = rates;
        self.model = Model {
            air_mass_h,
            mass_outdoor_h,
            ratio,
            cool_k_h: cool.max(0.2),
            heat_k_h: heat.max(0.2),
            gain_k_h: gain,
            solar_k_h: solar,
        };
        self.rmse = (cost / seen as f64).sqrt();
        self.fitted = u32::try_from(seen).unwrap_or(u32::MAX);
    }

    /// Sum of squared errors and the best rates for these time constants.
    fn cost(&self, [air_mass_h, mass_outdoor_h, ratio]: [f64; 3], prior: &Model) -> Option<(f64, [f64; 4])> {
        let model = Model { air_mass_h, mass_outdoor_h, ratio, ..Model::default() };
        let first = self.samples.iter().find_map(|s| s.indoor)?;
        let mut base = (f64::from(first), f64::from(first));
        // The answer to each of cooling, heating, gain and sun, and to the unknown mass at the start.
        let mut answers = [(0.0, 0.0); 4];
        let mut normal: Normal = ([[0.0; 4]; 4], [0.0; 4]);
        let mut squares = 0.0;
        let mut last = (0.0, 0.0);
        for sample in &self.samples {
            let outdoor = f64::from(sample.outdoor);
            let inputs = [-last.1, last.0, 1.0, f64::from(sample.sun)];
            last = (f64::from(sample.heat), f64::from(sample.cool));
            base = model.step(base.0, base.1, outdoor, 0.0, STEP_H);
            for (answer, input) in answers.iter_mut().zip(inputs) {
                *answer = model.step(answer.0, answer.1, 0.0, input, STEP_H);
            }
            let Some(indoor) = sample.indoor else { continue };
            if sample.unseen {
                // The air is as it was measured, whatever made it so; the mass goes on after it.
                base.0 = f64::from(indoor);
                answers.iter_mut().for_each(|answer| answer.0 = 0.0);
                continue;
            }
            let error = f64::from(indoor) - base.0;
            squares += error * error;
            for ((row, right), a) in normal.0.iter_mut().zip(normal.1.iter_mut()).zip(answers) {
                *right += a.0 * error;
                for (cell, b) in row.iter_mut().zip(answers) {
                    *cell += a.0 * b.0;
                }
            }
            base = (base.0 + PULL_AIR * error, base.1 + PULL_MASS * error);
            for answer in &mut answers {
                *answer = (answer.0 * (1.0 - PULL_AIR), answer.1 - PULL_MASS * answer.0);
            }
        }
        // What was hardly seen stays near what was known.
        let known = [prior.cool_k_h, prior.heat_k_h, prior.gain_k_h, prior.solar_k_h];
        let weights = [1.0, 1.0, 4.0, 4.0];
        let (matrix, right) = normal;
        let mut ridged = (matrix, right);
        for (index, (value, weight)) in known.into_iter().zip(weights).enumerate() {
            if let (Some(cell), Some(r)) =
                (ridged.0.get_mut(index).and_then(|row| row.get_mut(index)), ridged.1.get_mut(index))
            {
                *cell += weight;
                *r += weight * value;
            }
        }
        let rates = solve(ridged)?;
        // |e - A r|² = e² - 2 r·Aᵀe + rᵀAᵀA r
        let mut cost = squares;
        for ((row, r), b) in matrix.iter().zip(rates).zip(right) {
            let along: f64 = row.iter().zip(rates).map(|(cell, other)| cell * other).sum();
            cost += r * (along - 2.0 * b);
        }
        Some((cost.max(0.0), rates))
    }

    /// Hours of lead for reaching `target` by heating (`true`) or cooling from `indoor`.
    pub fn lead_h(&self, heating: bool, indoor: f64, target: f64, outdoor: f64, sun: f64) -> Option<f64> {
        let rate = if heating { self.model.heat_k_h } else { -self.model.cool_k_h };
        let hours = self.model.hours_to(self.state(indoor), target, outdoor, rate, sun)?;
        let [for_heat, for_cool] = self.correction;
        Some(hours * if heating { for_heat } else { for_cool })
    }

    /// An optimal start has ended at its transition: how far it was from its target (positive: not yet there), and how
    /// long it ran.
    pub fn arrived(&mut self, heating: bool, short_k: f64, lead_h: f64, reached_early_h: f64) {
        let rate = if heating { self.model.heat_k_h } else { self.model.cool_k_h };
        // Late: what was missing, in hours at the rate; early: half of what was too much.
        let missing_h = if short_k > 0.1 { short_k / rate.max(0.3) } else { -0.5 * reached_early_h };
        let factor = (1.0 + 0.5 * missing_h / lead_h.max(0.25)).clamp(0.8, 1.3);
        if let Some(correction) = self.correction.get_mut(usize::from(!heating)) {
            *correction = (*correction * factor).clamp(CORRECTION.0, CORRECTION.1);
        }
    }
}

/// Gauss with pivots; `None` when there is no single solution.
fn solve((mut a, mut b): Normal) -> Option<[f64; 4]> {
    for column in 0..4 {
        let pivot = (column..4).max_by(|x, y| {
            let at = |row: usize| a.get(row).and_then(|r| r.get(column)).map_or(0.0, |v| v.abs());
            at(*x).total_cmp(&at(*y))
        })?;
        a.swap(column, pivot);
        b.swap(column, pivot);
        let top = *a.get(column)?;
        let (head, right) = (*top.get(column)?, *b.get(column)?);
        if head.abs() < 1e-12 {
            return None;
        }
        for row in (0..4).filter(|row| *row != column) {
            let line = a.get_mut(row)?;
            let factor = line.get(column)? / head;
            for (cell, above) in line.iter_mut().zip(top) {
                *cell -= factor * above;
            }
            *b.get_mut(row)? -= factor * right;
        }
    }
    let mut x = [0.0; 4];
    for (index, value) in x.iter_mut().enumerate() {
        *value = b.get(index)? / a.get(index)?.get(index)?;
    }
    Some(x)
}

/// The sun by the clock alone, where nothing measures it: 0 at 6:00 and 20:00, 1 between.
pub fn sun_by_clock(hour: f64) -> f64 {
    (std::f64::consts::PI * (hour - 6.0) / 14.0).sin().max(0.0) * f64::from((6.0..20.0).contains(&hour))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Ten days in a house that is heated now and then, and all through two nights: without anybody's seeing it, where there is a
    /// curtain.
    fn lived(curtain: bool, told: bool) -> Model {
        let house = Model { heat_k_h: 4.0, ..Model::default() };
        let mut learner = Learner::default();
        let (mut air, mut mass) = (19.0, 18.0);
        for step in 0..10 * 288u32 {
            let outdoor = 4.0 + 6.0 * (f64::from(step) / 374.0 * std::f64::consts::TAU).sin();
            let night = step % 288 >= 144 && [3, 7].contains(&(step / 288));
            let heat = f32::from(u8::from(night || (step / 9).wrapping_mul(2_654_435_761) & 0x6000_0000 == 0));
            let sun = sun_by_clock(f64::from(step % 288) / 12.0);
            let rate = house.gain_k_h + house.solar_k_h * sun + house.heat_k_h * f64::from(heat);
            (air, mass) = house.step(air, mass, outdoor, rate, STEP_H);
            let hidden = curtain && night;
            let sample = Sample {
                indoor: Some(air as f32),
                outdoor: outdoor as f32,
                heat: if hidden { 0.0 } else { heat },
                cool: 0.0,
                sun: sun as f32,
                unseen: hidden && told,
            };
            learner.take(sample);
        }
        learner.fit();
        *learner.model()
    }

    #[test]
    fn what_ran_unseen_teaches_nothing() {
        let near = |model: Model| {
            (model.heat_k_h / 4.0 - 1.0).abs() < 0.15 && (model.lift_h() / Model::default().lift_h() - 1.0).abs() < 0.3
        };
        assert!(near(lived(false, false)), "{:?}", lived(false, false));
        assert!(near(lived(true, true)), "{:?}", lived(true, true));
        assert!(!near(lived(true, false)), "taken for nothing it would mislead: {:?}", lived(true, false));
    }
}
