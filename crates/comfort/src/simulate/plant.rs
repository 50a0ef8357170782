//! A house with its equipment and its sensor: what a thermostat controls.

use serde::{Deserialize, Serialize};

use super::house::{House, Inputs, Parameters};
use super::rng::Rng;
use super::weather::Outdoors;
use crate::guard::{Call, Output};
use crate::temperature::Temp;

/// Longest step of the model, seconds.
const STEP_S: f64 = 20.0;
/// Heat moved for each unit of electricity that a compressor draws.
pub const COP: f64 = 3.0;
/// Joules of a BTU, and kelvin of a degree Fahrenheit.
const BTU_J: f64 = 1055.06;
const K_PER_F: f64 = 5.0 / 9.0;

/// A house's file: every key may be left out. Either in watts and joules, or in the hours and rates in which houses are
/// usually fitted; a key of rates goes before its counterpart in watts. The owner's file of the public project
/// `housetemp` is read too (its keys are in BTU, hours and °F).
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct HouseFile {
    /// A remark.
    pub description: Option<String>,
    /// Heat capacity of the air and furniture, J/K.
    pub air_capacity_j_k: Option<f64>,
    /// Heat capacity of walls and floors, J/K.
    pub mass_capacity_j_k: Option<f64>,
    /// Between air and mass, W/K.
    pub air_mass_w_k: Option<f64>,
    /// Between air and outdoors, W/K.
    pub air_outdoor_w_k: Option<f64>,
    /// Between mass and outdoors, W/K.
    pub mass_outdoor_w_k: Option<f64>,
    /// People and appliances, W.
    pub gain_w: Option<f64>,
    /// Window area that counts, m².
    pub solar_m2: Option<f64>,
    /// Share of the gains that warms the air first, 0 to 1.
    pub gain_to_air: Option<f64>,
    /// Lag of the sensor, seconds.
    pub sensor_lag_s: Option<f64>,
    /// Noise of the sensor (standard deviation), °F.
    pub sensor_noise_f: Option<f64>,
    /// Step of the sensor, °F.
    pub sensor_step_f: Option<f64>,
    /// First stage of cooling, W of heat removed.
    pub cool_w: Option<f64>,
    /// Second stage of cooling, W more.
    pub cool2_w: Option<f64>,
    /// First stage of heating, W.
    pub heat_w: Option<f64>,
    /// Second stage of heating, W more.
    pub heat2_w: Option<f64>,
    /// Auxiliary heat, W.
    pub aux_w: Option<f64>,
    /// Time constant of the start of any equipment, seconds.
    pub ramp_s: Option<f64>,
    /// Time constant of the air towards the mass, hours.
    pub air_mass_h: Option<f64>,
    /// Time constant of the mass towards outdoors, hours.
    pub mass_outdoor_h: Option<f64>,
    /// Time constant of the air towards outdoors, hours.
    pub air_outdoor_h: Option<f64>,
    /// Capacity of the mass over that of the air.
    pub mass_ratio: Option<f64>,
    /// First stage of cooling, °F/h on the air.
    pub cool_f_h: Option<f64>,
    /// First stage of heating, °F/h on the air.
    pub heat_f_h: Option<f64>,
    /// People and appliances, °F/h on the air.
    pub gain_f_h: Option<f64>,
    /// Full sun (1,000 W/m²), °F/h on the air.
    pub solar_f_h: Option<f64>,
    /// Latitude for the clear sky where no irradiance is recorded, degrees.
    pub latitude: Option<f64>,
    /// Solar noon by the clock on the wall, hours.
    pub solar_noon_h: Option<f64>,
    /// `housetemp`: heat capacity, BTU/°F.
    #[serde(rename = "C_thermal")]
    pub c_thermal: Option<f64>,
    /// `housetemp`: heat loss, BTU/h°F.
    #[serde(rename = "UA_overall")]
    pub ua_overall: Option<f64>,
    /// `housetemp`: BTU/h for each kW of its solar panels.
    #[serde(rename = "K_solar")]
    pub k_solar: Option<f64>,
    /// `housetemp`: internal gains, BTU/h.
    #[serde(rename = "Q_int")]
    pub q_int: Option<f64>,
    /// `housetemp`: heating for each °F below the set point, BTU/h. Read and not used: equipment here has stages.
    #[serde(rename = "H_factor")]
    pub h_factor: Option<f64>,
    /// `housetemp`: duct losses.
    pub efficiency_derate: Option<f64>,
}

/// A house whose file can't be.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("`{key}` is {value}: it must be a number from {least} to {most}")]
pub struct HouseError {
    key: &'static str,
    value: String,
    least: String,
    most: String,
}

/// A house with its equipment: numbers only.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct PlantParameters {
    /// The building.
    pub house: Parameters,
    /// People and appliances, W.
    pub gain_w: f64,
    /// First and second stage of cooling, W.
    pub cool_w: [f64; 2],
    /// First and second stage of heating, W.
    pub heat_w: [f64; 2],
    /// Auxiliary heat, W.
    pub aux_w: f64,
    /// Time constant of the start, seconds.
    pub ramp_s: f64,
    /// Noise of the sensor, K.
    pub noise_k: f64,
    /// Step of the sensor, K; 0: none.
    pub step_k: f64,
    /// Latitude, degrees.
    pub latitude: f64,
    /// Solar noon by the clock, hours.
    pub solar_noon_h: f64,
}

impl Default for PlantParameters {
    /// A real house, as fitted to an ecobee's record of a cooling season (air to mass 1.36 h, mass to outdoors 43 h,
    /// cooling 3.7 °F/h on the air, sun 0.6 °F/h), and a furnace of the usual size.
    fn default() -> Self {
        let air = 6.0e6;
        Self {
            house: Parameters {
                air_capacity: air,
                mass_capacity: 3.78 * air,
                bedroom_capacity: 0.0,
                air_to_mass: air / (1.36 * 3600.0),
                air_to_outdoors: 0.0,
                mass_to_outdoors: 3.78 * air / (43.0 * 3600.0),
                air_to_bedroom: 0.0,
                bedroom_to_outdoors: 0.0,
                open_windows: 300.0,
                solar_area: 0.65,
                gain_to_air: 0.8,
                sensor_lag_s: 420.0,
            },
            gain_w: 335.0,
            cool_w: [3.7 * K_PER_F * air / 3600.0, 0.7 * 3.7 * K_PER_F * air / 3600.0],
            heat_w: [8000.0, 4000.0],
            aux_w: 6000.0,
            ramp_s: 0.0,
            noise_k: 0.05 * K_PER_F,
            step_k: 0.1 * K_PER_F,
            latitude: 40.4,
            solar_noon_h: 13.35,
        }
    }
}

impl HouseFile {
    /// The house of this file, what is left out being as in the default.
    ///
    /// # Errors
    /// When a number can't be.
    pub fn resolve(&self) -> Result<PlantParameters, HouseError> {
        let mut p = PlantParameters::default();
        let check = |key: &'static str, value: Option<f64>, least: f64, most: f64| match value {
            Some(v) if !(v.is_finite() && (least..=most).contains(&v)) => {
                Err(HouseError { key, value: v.to_string(), least: least.to_string(), most: most.to_string() })
            }
            other => Ok(other),
        };
        let h = &mut p.house;
        if let Some(c) = check("C_thermal", self.c_thermal, 100.0, 1e6)? {
            let total = c * BTU_J / K_PER_F;
            let ua = check("UA_overall", self.ua_overall, 1.0, 1e5)?.unwrap_or(c / 20.0) * BTU_J / 3600.0 / K_PER_F;
            // One capacity in that file: a fifth of it is air and furniture here, with the usual exchange.
            (h.air_capacity, h.mass_capacity) = (0.2 * total, 0.8 * total);
            h.air_to_mass = h.air_capacity / (1.0 * 3600.0);
            (h.air_to_outdoors, h.mass_to_outdoors) = (0.3 * ua, 0.7 * ua);
            let derate = check("efficiency_derate", self.efficiency_derate, 0.1, 1.0)?.unwrap_or(1.0);
            p.heat_w = [12_000.0 * BTU_J / 3600.0 * 2.5 * derate, 12_000.0 * BTU_J / 3600.0 * 2.0 * derate];
            p.cool_w = [30_000.0 * BTU_J / 3600.0 * derate, 15_000.0 * BTU_J / 3600.0 * derate];
            if let Some(k) = check("K_solar", self.k_solar, 0.0, 1e6)? {
                // Panels of some 5 kW at full sun.
                h.solar_area = k * 5.0 * BTU_J / 3600.0 / 1000.0;
            }
            if let Some(q) = check("Q_int", self.q_int, 0.0, 1e6)? {
                p.gain_w = q * BTU_J / 3600.0;
            }
        }
        let set = |target: &mut f64, value: Option<f64>| value.into_iter().for_each(|v| *target = v);
        let old_air = h.air_capacity;
        set(&mut h.air_capacity, check("air_capacity_j_k", self.air_capacity_j_k, 1e4, 1e10)?);
        // Rates stay when the capacity alone is given another size.
        let scale = h.air_capacity / old_air;
        for value in [&mut h.mass_capacity, &mut h.air_to_mass, &mut h.air_to_outdoors, &mut h.mass_to_outdoors] {
            *value *= scale;
        }
        for value in p.cool_w.iter_mut().chain(&mut p.heat_w).chain([&mut p.aux_w, &mut p.gain_w, &mut h.solar_area]) {
            *value *= scale;
        }
        let mass_h = h.mass_capacity / h.mass_to_outdoors;
        set(&mut h.mass_capacity, check("mass_capacity_j_k", self.mass_capacity_j_k, 1e4, 1e11)?);
        if let Some(ratio) = check("mass_ratio", self.mass_ratio, 0.01, 1000.0)? {
            h.mass_capacity = ratio * h.air_capacity;
        }
        h.mass_to_outdoors = h.mass_capacity / mass_h;
        set(&mut h.air_to_mass, check("air_mass_w_k", self.air_mass_w_k, 0.0, 1e6)?);
        set(&mut h.air_to_outdoors, check("air_outdoor_w_k", self.air_outdoor_w_k, 0.0, 1e6)?);
        set(&mut h.mass_to_outdoors, check("mass_outdoor_w_k", self.mass_outdoor_w_k, 0.0, 1e6)?);
        if let Some(hours) = check("air_mass_h", self.air_mass_h, 0.02, 1000.0)? {
            h.air_to_mass = h.air_capacity / (hours * 3600.0);
        }
        if let Some(hours) = check("air_outdoor_h", self.air_outdoor_h, 0.02, 1e6)? {
            h.air_to_outdoors = h.air_capacity / (hours * 3600.0);
        }
        if let Some(hours) = check("mass_outdoor_h", self.mass_outdoor_h, 0.02, 1e6)? {
            h.mass_to_outdoors = h.mass_capacity / (hours * 3600.0);
        }
        set(&mut h.gain_to_air, check("gain_to_air", self.gain_to_air, 0.0, 1.0)?);
        set(&mut h.sensor_lag_s, check("sensor_lag_s", self.sensor_lag_s, 20.0, 7200.0)?);
        set(&mut h.solar_area, check("solar_m2", self.solar_m2, 0.0, 1e4)?);
        set(&mut p.gain_w, check("gain_w", self.gain_w, 0.0, 1e5)?);
        let on_air = h.air_capacity * K_PER_F / 3600.0;
        let [cool1, cool2] = &mut p.cool_w;
        set(cool1, check("cool_w", self.cool_w, 0.0, 1e6)?);
        set(cool2, check("cool2_w", self.cool2_w, 0.0, 1e6)?);
        set(cool1, check("cool_f_h", self.cool_f_h, 0.0, 100.0)?.map(|rate| rate * on_air));
        let [heat1, heat2] = &mut p.heat_w;
        set(heat1, check("heat_w", self.heat_w, 0.0, 1e6)?);
        set(heat2, check("heat2_w", self.heat2_w, 0.0, 1e6)?);
        set(heat1, check("heat_f_h", self.heat_f_h, 0.0, 100.0)?.map(|rate| rate * on_air));
        set(&mut p.aux_w, check("aux_w", self.aux_w, 0.0, 1e6)?);
        let share = h.gain_to_air.max(0.05);
        set(&mut p.gain_w, check("gain_f_h", self.gain_f_h, 0.0, 50.0)?.map(|rate| rate * on_air / share));
        set(&mut h.solar_area, check("solar_f_h", self.solar_f_h, 0.0, 50.0)?.map(|r| r * on_air / share / 1000.0));
        set(&mut p.ramp_s, check("ramp_s", self.ramp_s, 0.0, 1800.0)?);
        set(&mut p.noise_k, check("sensor_noise_f", self.sensor_noise_f, 0.0, 5.0)?.map(|f| f * K_PER_F));
        set(&mut p.step_k, check("sensor_step_f", self.sensor_step_f, 0.0, 5.0)?.map(|f| f * K_PER_F));
        set(&mut p.latitude, check("latitude", self.latitude, -70.0, 70.0)?);
        set(&mut p.solar_noon_h, check("solar_noon_h", self.solar_noon_h, 0.0, 24.0)?);
        Ok(p)
    }
}

impl PlantParameters {
    /// Irradiance of a clear sky, W/m²: the sine of the sun's elevation.
    pub fn clear_sky(&self, day_of_year: f64, hour: f64) -> f64 {
        let latitude = self.latitude.to_radians();
        let declination = (23.45f64).to_radians() * (std::f64::consts::TAU * (284.0 + day_of_year) / 365.0).sin();
        let angle = (15.0 * (hour - self.solar_noon_h)).to_radians();
        let elevation = latitude.sin() * declination.sin() + latitude.cos() * declination.cos() * angle.cos();
        1000.0 * elevation.max(0.0)
    }
}

/// The house as it is.
#[derive(Clone, Debug)]
pub struct Plant {
    parameters: PlantParameters,
    house: House,
    /// Power of the equipment now, W.
    power_w: f64,
    rng: Rng,
}

impl Plant {
    /// A settled house.
    pub fn new(parameters: PlantParameters, celsius: f64, seed: u64) -> Self {
        let house = House::at(parameters.house.clone(), celsius);
        Self { parameters, house, power_w: 0.0, rng: Rng::new(seed, 11, 0) }
    }

    /// The numbers.
    pub fn parameters(&self) -> &PlantParameters {
        &self.parameters
    }

    /// What the relays ask of the equipment at full power, W; negative cools.
    pub fn asked_w(&self, relays: Call) -> f64 {
        let p = &self.parameters;
        let [cool1, cool2] = p.cool_w;
        let [heat1, heat2] = p.heat_w;
        let parts = [
            (Output::Heat1, heat1),
            (Output::Heat2, heat2),
            (Output::Aux, p.aux_w),
            (Output::Cool1, -cool1),
            (Output::Cool2, -cool2),
        ];
        parts.into_iter().filter(|(output, _)| relays.has(*output)).map(|(_, w)| w).sum()
    }

    /// Electric power of what the relays ask for, W: a compressor moves [`COP`] times as much heat as it draws.
    pub fn electric_w(&self, relays: Call, heat_pump: bool) -> f64 {
        let of = |outputs: &[Output]| {
            let on: Vec<Output> = outputs.iter().copied().filter(|o| relays.has(*o)).collect();
            self.asked_w(Call::of(&on)).abs()
        };
        let heat_w = of(&[Output::Heat1, Output::Heat2]);
        of(&[Output::Cool1, Output::Cool2]) / COP + if heat_pump { heat_w / COP } else { heat_w } + of(&[Output::Aux])
    }

    /// Advances by `seconds` with the equipment asked for `asked_w`.
    pub fn step(&mut self, seconds: f64, outdoors: Outdoors, asked_w: f64) {
        let mut left = seconds;
        while left > 0.0 {
            let dt = left.min(STEP_S);
            left -= dt;
            // Equipment comes up slowly and goes off at once.
            if self.parameters.ramp_s > 0.0 && asked_w != 0.0 {
                self.power_w += (asked_w - self.power_w) * (dt / self.parameters.ramp_s).min(1.0);
            } else {
                self.power_w = asked_w;
            }
            let input = Inputs {
                outdoors,
                heating_w: self.power_w,
                appliances_w: self.parameters.gain_w,
                steam_g_h: 0.0,
                awake: 0,
                asleep: 0,
                windows_open: false,
            };
            self.house.step_heat(dt, &input);
        }
    }

    /// What the sensor would say without noise or steps, °C.
    pub fn sensor_c(&self) -> f64 {
        self.house.sensor_c
    }

    /// The air, °C.
    pub fn air_c(&self) -> f64 {
        self.house.air_c
    }

    /// What the sensor says.
    pub fn read(&mut self) -> Temp {
        let uniform = (0..4).map(|_| self.rng.unit() - 0.5).sum::<f64>();
        let noisy = self.house.sensor_c + uniform * self.parameters.noise_k * 1.73;
        let step = self.parameters.step_k;
        // Steps are counted in °F from its zero, as such sensors do.
        let stepped = if step > 0.0 { ((noisy + 160.0 / 9.0) / step).round() * step - 160.0 / 9.0 } else { noisy };
        Temp::from_milli_c((stepped * 1000.0).round() as i32)
    }
}
