//! The building: heat, moisture and carbon dioxide.
//!
//! Two heat capacities (the air with the furniture, and the mass of the building), as buildings are commonly
//! identified from thermostat records (2R2C), and the bedroom's air apart. The numbers of [`Parameters::medium`] are those of a house
//! of 120 m² and medium weight: its time constant, some 36 h, lies in the middle of the 15 to 55 h that John, Vallianos, Candanedo
//! and Athienitis (2018) found for most of 10,000 homes in winter.

use serde::{Deserialize, Serialize};

use super::weather::Outdoors;

/// What the building is.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Parameters {
    /// Heat capacity of air and furniture, J/K.
    pub air_capacity: f64,
    /// Heat capacity of walls and floors, J/K.
    pub mass_capacity: f64,
    /// Heat capacity of the bedroom's air and furniture, J/K; 0: there is no room apart.
    pub bedroom_capacity: f64,
    /// Between air and mass, W/K.
    pub air_to_mass: f64,
    /// Between air and outdoors (windows, leaks), W/K.
    pub air_to_outdoors: f64,
    /// Between mass and outdoors (walls, roof), W/K.
    pub mass_to_outdoors: f64,
    /// Between air and bedroom (an open door), W/K.
    pub air_to_bedroom: f64,
    /// Between bedroom and outdoors, W/K.
    pub bedroom_to_outdoors: f64,
    /// Added between air and outdoors while windows are open, W/K.
    pub open_windows: f64,
    /// Area that turns horizontal irradiance into heat indoors, m².
    pub solar_area: f64,
    /// Share of internal and solar gains that warms the air first; the rest warms the mass.
    pub gain_to_air: f64,
    /// The thermostat's sensor follows the air so slowly, s.
    pub sensor_lag_s: f64,
}

impl Parameters {
    /// A house of medium weight (few square metres of sun: shades, and most windows see little of it).
    pub const fn medium() -> Self {
        Self {
            air_capacity: 4.0e6,
            mass_capacity: 20.0e6,
            bedroom_capacity: 0.6e6,
            air_to_mass: 1500.0,
            air_to_outdoors: 90.0,
            mass_to_outdoors: 90.0,
            air_to_bedroom: 120.0,
            bedroom_to_outdoors: 15.0,
            open_windows: 300.0,
            solar_area: 2.0,
            gain_to_air: 0.5,
            sensor_lag_s: 420.0,
        }
    }
}

/// Heat from one person awake and asleep, W.
const PERSON_AWAKE_W: f64 = 90.0;
const PERSON_ASLEEP_W: f64 = 70.0;

/// Volume of the house and of the bedroom, m³.
const VOLUME: f64 = 300.0;
const BEDROOM_VOLUME: f64 = 35.0;
/// Air exchanged between them, m³/h.
const BEDROOM_EXCHANGE: f64 = 40.0;
/// Air changes per hour, windows shut and open.
const AIR_CHANGES_SHUT: f64 = 0.3;
const AIR_CHANGES_OPEN: f64 = 3.0;
/// Furniture and walls take up moisture: the air behaves as if its volume were so many times larger.
const MOISTURE_BUFFER: f64 = 4.0;
/// Moisture from one person awake and asleep, g/h.
const VAPOUR_AWAKE: f64 = 60.0;
const VAPOUR_ASLEEP: f64 = 40.0;
/// Moisture from plants, g/h.
const VAPOUR_BASE: f64 = 40.0;
/// Carbon dioxide from one person awake and asleep, litres an hour.
const CO2_AWAKE: f64 = 18.0;
const CO2_ASLEEP: f64 = 13.0;
/// Carbon dioxide outdoors, ppm.
const CO2_OUTDOORS: f64 = 425.0;

/// What acts on the house during a step.
#[derive(Clone, Copy, Debug)]
pub struct Inputs {
    /// The weather.
    pub outdoors: Outdoors,
    /// Heat from the equipment, W; negative: cooling.
    pub heating_w: f64,
    /// Heat from appliances and light, W (people are added by the model).
    pub appliances_w: f64,
    /// Moisture from cooking and showers, g/h.
    pub steam_g_h: f64,
    /// People at home, awake.
    pub awake: u8,
    /// People at home, asleep in the bedroom.
    pub asleep: u8,
    /// Windows stand open.
    pub windows_open: bool,
}

/// The state of the house.
#[derive(Clone, Debug)]
pub struct House {
    parameters: Parameters,
    /// Air, °C.
    pub air_c: f64,
    /// Walls and floors, °C.
    pub mass_c: f64,
    /// The bedroom's air, °C.
    pub bedroom_c: f64,
    /// The thermostat's sensor, °C.
    pub sensor_c: f64,
    /// Water in the air of house and bedroom, g/m³.
    vapour: f64,
    bedroom_vapour: f64,
    /// Carbon dioxide, ppm.
    pub co2_ppm: f64,
}

impl House {
    /// A house that has settled at this temperature, with comfortable air.
    pub fn at(parameters: Parameters, celsius: f64) -> Self {
        let vapour = 0.4 * saturation(celsius);
        Self {
            parameters,
            air_c: celsius,
            mass_c: celsius,
            bedroom_c: celsius,
            sensor_c: celsius,
            vapour,
            bedroom_vapour: vapour,
            co2_ppm: 600.0,
        }
    }

    /// Advances by `dt` seconds (explicit Euler; the fastest time constant is the sensor's, so keep `dt` under 60).
    pub fn step(&mut self, dt: f64, input: &Inputs) {
        self.step_heat(dt, input);
        self.step_air(dt, input);
    }

    /// The heat alone.
    pub fn step_heat(&mut self, dt: f64, input: &Inputs) {
        let p = &self.parameters;
        let (awake, asleep) = (f64::from(input.awake), f64::from(input.asleep));
        let outdoors = input.outdoors.temperature_c;
        let gains = input.appliances_w + awake * PERSON_AWAKE_W + p.solar_area * input.outdoors.irradiance;
        let to_outdoors = p.air_to_outdoors + if input.windows_open { p.open_windows } else { 0.0 };

        let to_mass = (self.air_c - self.mass_c) * p.air_to_mass;
        let to_bedroom = if p.bedroom_capacity > 0.0 { (self.air_c - self.bedroom_c) * p.air_to_bedroom } else { 0.0 };
        let air_w =
            input.heating_w + p.gain_to_air * gains - to_mass - to_bedroom - (self.air_c - outdoors) * to_outdoors;
        let mass_w = (1.0 - p.gain_to_air) * gains + to_mass - (self.mass_c - outdoors) * p.mass_to_outdoors;
        let bedroom_w = to_bedroom + asleep * PERSON_ASLEEP_W - (self.bedroom_c - outdoors) * p.bedroom_to_outdoors;
        let sensor_rate = (self.air_c - self.sensor_c) / p.sensor_lag_s;
        self.air_c += air_w / p.air_capacity * dt;
        self.mass_c += mass_w / p.mass_capacity * dt;
        if p.bedroom_capacity > 0.0 {
            self.bedroom_c += bedroom_w / p.bedroom_capacity * dt;
        }
        self.sensor_c += sensor_rate * dt;
    }

    /// Moisture and carbon dioxide.
    fn step_air(&mut self, dt: f64, input: &Inputs) {
        let (awake, asleep) = (f64::from(input.awake), f64::from(input.asleep));
        let hours = dt / 3600.0;
        let changes = if input.windows_open { AIR_CHANGES_OPEN } else { AIR_CHANGES_SHUT };
        let outdoor_vapour = saturation(input.outdoors.dew_point_c);
        let swap = (self.vapour - self.bedroom_vapour) * BEDROOM_EXCHANGE;
        let house_g = VAPOUR_BASE + input.steam_g_h + awake * VAPOUR_AWAKE
            - swap
            - (self.vapour - outdoor_vapour) * changes * VOLUME;
        let bedroom_g =
            asleep * VAPOUR_ASLEEP + swap - (self.bedroom_vapour - outdoor_vapour) * changes * BEDROOM_VOLUME;
        // What the air can't hold condenses on the windows.
        self.vapour = (self.vapour + house_g * hours / (VOLUME * MOISTURE_BUFFER)).min(saturation(self.air_c));
        self.bedroom_vapour = (self.bedroom_vapour + bedroom_g * hours / (BEDROOM_VOLUME * MOISTURE_BUFFER))
            .min(saturation(self.bedroom_c));

        let litres = awake * CO2_AWAKE + asleep * CO2_ASLEEP;
        self.co2_ppm += (litres * 1000.0 / VOLUME - (self.co2_ppm - CO2_OUTDOORS) * changes) * hours;
    }

    /// Relative humidity of the house, %.
    pub fn humidity(&self) -> f64 {
        100.0 * self.vapour / saturation(self.air_c)
    }

    /// Relative humidity of the bedroom, %.
    pub fn bedroom_humidity(&self) -> f64 {
        100.0 * self.bedroom_vapour / saturation(self.bedroom_c)
    }
}

/// Water that air of this temperature holds at most, g/m³ (Magnus formula, constants of Sonntag 1990).
fn saturation(celsius: f64) -> f64 {
    let pressure_pa = 611.2 * (17.62 * celsius / (243.12 + celsius)).exp();
    2.167 * pressure_pa / (celsius + 273.15)
}

#[cfg(test)]
mod tests {
    use super::*;

    const P: Parameters = Parameters::medium();

    fn empty(outdoor_c: f64, heating_w: f64) -> Inputs {
        Inputs {
            outdoors: Outdoors { temperature_c: outdoor_c, dew_point_c: outdoor_c - 5.0, irradiance: 0.0 },
            heating_w,
            appliances_w: 0.0,
            steam_g_h: 0.0,
            awake: 0,
            asleep: 0,
            windows_open: false,
        }
    }

    fn run(house: &mut House, hours: u32, input: &Inputs) {
        for _ in 0..hours * 60 {
            house.step(60.0, input);
        }
    }

    #[test]
    fn an_empty_cold_house_floats_with_a_real_houses_time_constant() {
        let mut house = House::at(Parameters::medium(), 20.0);
        // The first hours belong to the air; then one exponential is left.
        run(&mut house, 6, &empty(0.0, 0.0));
        let start = house.air_c;
        run(&mut house, 24, &empty(0.0, 0.0));
        let time_constant_h = 24.0 / (start / house.air_c).ln();
        assert!((15.0..=55.0).contains(&time_constant_h), "{time_constant_h} h");
    }

    #[test]
    fn energy_is_conserved() {
        // Settled: what is put in is what is lost through the walls, and the temperatures say so.
        let mut house = House::at(Parameters::medium(), 20.0);
        run(&mut house, 24 * 30, &empty(0.0, 4000.0));
        let loss = house.air_c * P.air_to_outdoors
            + house.mass_c * P.mass_to_outdoors
            + house.bedroom_c * P.bedroom_to_outdoors;
        assert!((loss - 4000.0).abs() < 5.0, "{loss} W");
        // On the way: stored heat changes by what came in minus what went out.
        let stored =
            |h: &House| h.air_c * P.air_capacity + h.mass_c * P.mass_capacity + h.bedroom_c * P.bedroom_capacity;
        let mut house = House::at(Parameters::medium(), 15.0);
        let before = stored(&house);
        let mut lost = 0.0;
        for _ in 0..3600 {
            lost += house.air_c * P.air_to_outdoors
                + house.mass_c * P.mass_to_outdoors
                + house.bedroom_c * P.bedroom_to_outdoors;
            house.step(1.0, &empty(0.0, 8000.0));
        }
        let gained = stored(&house) - before;
        assert!((gained - (8000.0 * 3600.0 - lost)).abs() < 1.0, "{gained}");
    }

    #[test]
    fn people_show_in_the_air() {
        let mut house = House::at(Parameters::medium(), 20.0);
        run(&mut house, 48, &empty(5.0, 2000.0));
        let (co2, humidity) = (house.co2_ppm, house.humidity());
        assert!((co2 - CO2_OUTDOORS).abs() < 20.0, "{co2} ppm in an empty house");
        run(&mut house, 6, &Inputs { awake: 2, steam_g_h: 100.0, ..empty(5.0, 2000.0) });
        assert!(house.co2_ppm > co2 + 200.0 && house.co2_ppm < 1500.0, "{} ppm", house.co2_ppm);
        assert!(house.humidity() > humidity + 3.0 && house.humidity() < 100.0, "{} %", house.humidity());
    }
}
