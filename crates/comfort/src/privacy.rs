//! Privacy by control. A set point that falls when the house is empty tells so to whoever is told it, and the temperature of
//! the room follows. The coarse rungs round temperatures to whole degrees Celsius: a program whose set points all round to
//! the same degree shows the same degree all week. This finds the nearest such program, and what it costs. Nothing is
//! invented: the set points are those that the house is kept at.

use model::TemperatureScale;
use serde::Serialize;

use crate::learn::Model;
use crate::program::{ClimateRef, DAYS, Program, SLOTS};
use crate::settings::Settings;
use crate::temperature::{Delta, Temp};

/// The step of the coarse rungs: see `Property::coarse` in `model`.
pub const STEP: Delta = Delta::from_milli_k(1000);

/// One comfort setting, as it is and as it would be.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Change {
    /// Which.
    pub climate: ClimateRef,
    /// Heating aims here now, and would then.
    pub heat: (Temp, Temp),
    /// The same for cooling.
    pub cool: (Temp, Temp),
    /// Hours of the week in it.
    pub hours: f64,
}

/// What a program tells, and what it costs to tell less.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Offer {
    /// Steps of the heating set point that a coarse rung shows in a week now. One tells nothing.
    pub heat_steps: usize,
    /// The same of cooling.
    pub cool_steps: usize,
    /// What would change; nothing if there is nothing to hide.
    pub changes: Vec<Change>,
    /// Kelvin times hours a day by which comfort settings in which somebody is there move away from what was chosen.
    pub comfort_kh_per_day: f64,
    /// More hours of heating on a day that is cold all through.
    pub heating_h_per_day: f64,
    /// More hours of cooling on a day that is hot all through.
    pub cooling_h_per_day: f64,
}

/// The degree that a coarse rung shows: rounded half away from zero.
pub fn shown(t: Temp) -> i32 {
    let (milli, step) = (i64::from(t.milli_c()), i64::from(STEP.milli_k()));
    let half = step / 2;
    let rounded = if milli >= 0 { (milli + half) / step } else { (milli - half) / step };
    i32::try_from(rounded).unwrap_or(0)
}

/// The nearest temperature, in tenths of the household's scale, that shows as `degree`.
fn within(t: Temp, degree: i32, scale: TemperatureScale) -> Temp {
    let mut near = t;
    // A degree is at most 18 tenths of any scale, and no set point lies a hundred degrees away.
    for _ in 0..2000 {
        match shown(near).cmp(&degree) {
            std::cmp::Ordering::Less => near = near.stepped(1, scale),
            std::cmp::Ordering::Greater => near = near.stepped(-1, scale),
            std::cmp::Ordering::Equal => break,
        }
    }
    near
}

/// Looks at a program with a house as it was learned. The first comfort setting with somebody at home stays as it is.
pub fn offer(program: &Program, settings: &Settings, house: &Model) -> Option<Offer> {
    let home = program.climates().iter().find(|c| c.is_occupied)?;
    let (heats, cools) = (settings.hvac_mode.heats(), settings.hvac_mode.cools());
    let mut hours = vec![0.0; program.climates().len()];
    for day in 0..DAYS {
        for slot in 0..SLOTS {
            if let Some(hours) = hours.get_mut(program.at(day, slot)) {
                *hours += 0.5;
            }
        }
    }
    let used = || program.climates().iter().zip(&hours).filter(|(_, hours)| **hours > 0.0);
    let steps = |of: fn(&crate::program::Climate) -> Temp| {
        let mut all: Vec<i32> = used().map(|(c, _)| shown(of(c))).collect();
        all.sort_unstable();
        all.dedup();
        all.len()
    };
    let (heat_steps, cool_steps) =
        (if heats { steps(|c| c.heat_temp) } else { 0 }, if cools { steps(|c| c.cool_temp) } else { 0 });
    let (mut comfort, mut heating, mut cooling) = (0.0, 0.0, 0.0);
    let mut changes = Vec::new();
    for (climate, hours) in used() {
        let heat =
            if heats { within(climate.heat_temp, shown(home.heat_temp), settings.scale) } else { climate.heat_temp };
        let cool =
            if cools { within(climate.cool_temp, shown(home.cool_temp), settings.scale) } else { climate.cool_temp };
        if (heat, cool) == (climate.heat_temp, climate.cool_temp) {
            continue;
        }
        let (warmer, cooler) = (heat.above(climate.heat_temp).kelvin(), climate.cool_temp.above(cool).kelvin());
        let a_day = hours / DAYS as f64;
        if climate.is_occupied {
            comfort += a_day * (warmer.abs() + cooler.abs());
        }
        // In the long run a kelvin more needs this share of the time.
        heating += a_day * warmer / (house.heat_k_h * house.lift_h()).max(1.0);
        cooling += a_day * cooler / (house.cool_k_h * house.lift_h()).max(1.0);
        changes.push(Change {
            climate: climate.climate_ref.clone(),
            heat: (climate.heat_temp, heat),
            cool: (climate.cool_temp, cool),
            hours: *hours,
        });
    }
    Some(Offer {
        heat_steps,
        cool_steps,
        changes,
        comfort_kh_per_day: comfort,
        heating_h_per_day: heating,
        cooling_h_per_day: cooling,
    })
}

/// The program with the offer taken.
#[must_use]
pub fn taken(program: &Program, offer: &Offer) -> Program {
    let mut program = program.clone();
    for change in &offer.changes {
        if let Some(climate) = program.find(&change.climate).cloned() {
            let new = crate::program::Climate { heat_temp: change.heat.1, cool_temp: change.cool.1, ..climate };
            // It is there already: it can't be one too many.
            let _ = program.put_climate(new);
        }
    }
    program
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::settings::HvacMode;
    use model::{Property, Value};

    proptest! {
        /// Whatever a household chose: taken, a coarse rung shows one degree all week, and no set point moved further than it had to.
        #[test]
        fn an_offer_taken_shows_one_degree_all_week(
            temps in prop::collection::vec((100i32..260, 200i32..330), 3),
            fahrenheit: bool,
        ) {
            let scale = if fahrenheit { TemperatureScale::Fahrenheit } else { TemperatureScale::Celsius };
            let settings = Settings { hvac_mode: HvacMode::Auto, scale, ..Settings::default() };
            let mut program = Program::household();
            program.set(1, 18, 30, &ClimateRef::new("away")).unwrap();
            for (climate, (heat, cool)) in program.climates().to_vec().into_iter().zip(temps) {
                let (heat_temp, cool_temp) = (Temp::from_tenths_c(heat), Temp::from_tenths_c(cool));
                program.put_climate(crate::program::Climate { heat_temp, cool_temp, ..climate }).unwrap();
            }
            let offered = offer(&program, &settings, &Model::default()).unwrap();
            let after = taken(&program, &offered);
            // What is shown is what the gate's own rounding makes of it.
            let coarse = |t: Temp| Property::OccupiedHeatingSetpoint.coarse(&Value::Temperature(t.milli_c()));
            let first = &after.climates()[0];
            prop_assert_eq!(first, &program.climates()[0]);
            for (old, new) in program.climates().iter().zip(after.climates()) {
                prop_assert_eq!(coarse(new.heat_temp), coarse(first.heat_temp));
                prop_assert_eq!(coarse(new.cool_temp), coarse(first.cool_temp));
                let back = if new.heat_temp > old.heat_temp { -1 } else { 1 };
                prop_assert!(new.heat_temp == old.heat_temp
                    || coarse(new.heat_temp.stepped(back, scale)) != coarse(first.heat_temp));
            }
            let again = offer(&after, &settings, &Model::default()).unwrap();
            prop_assert_eq!((again.heat_steps, again.cool_steps, again.changes.len()), (1, 1, 0));
        }
    }

    #[test]
    fn a_night_and_a_day_away_have_their_price() {
        let settings = Settings { hvac_mode: HvacMode::Heat, ..Settings::default() };
        let mut program = Program::household();
        for day in 0..5 {
            program.set(day, 18, 34, &ClimateRef::new("away")).unwrap();
        }
        let house = Model::default();
        let offered = offer(&program, &settings, &house).unwrap();
        // 69, 62 and 64 °F show as 21, 17 and 18 °C.
        assert_eq!((offered.heat_steps, offered.cool_steps), (3, 0));
        let away = offered.changes.iter().find(|c| c.climate == ClimateRef::new("away")).unwrap();
        assert_eq!((away.heat.1.tenths_c(), away.hours), (205, 40.0));
        assert_eq!(away.cool.0, away.cool.1);
        // 40 h a week some 3.8 K warmer, and 56 h of sleep some 2.7 K.
        let lift = house.heat_k_h * house.lift_h();
        let kelvin_hours = (40.0 * 3.833 + 56.0 * 2.722) / 7.0;
        assert!((offered.heating_h_per_day * lift - kelvin_hours).abs() < 0.1, "{offered:?}");
        assert!((offered.comfort_kh_per_day - 56.0 * 2.722 / 7.0).abs() < 0.1, "{offered:?}");
    }
}
