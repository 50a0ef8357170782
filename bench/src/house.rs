//! How fast the thermostat lives in a simulated house, with faults of every kind. What must be true at any speed: no guard is broken,
//! and no house freezes.

use comfort::HvacMode;
use comfort::simulate::faults;
use comfort::simulate::plant::PlantParameters;
use comfort::simulate::run::{Run, Scenario, config};
use jiff::tz::TimeZone;
use serde_json::{Value, json};

use crate::Fail;
use crate::rest::cpu_nanos;

const DAYS: u32 = 365;
/// The default frost floor, °C.
const FLOOR_C: f64 = 7.0;

/// So many years, each with faults of its own, one after the other on one core.
pub fn run(years: u64) -> Result<Vec<Value>, Fail> {
    let zone = TimeZone::get("America/New_York")?;
    let start_ms = jiff::civil::date(2025, 1, 1).to_zoned_datetime(zone.clone())?.timestamp().as_millisecond();
    let scenario = Scenario::Year { start_ms, days: DAYS };
    let parameters = PlantParameters::default();
    let mut injected = 0;
    let begin = cpu_nanos()?;
    for seed in 1..=years {
        let faults = faults::draw(seed, u64::from(DAYS) * 1440);
        let config = config(HvacMode::Auto);
        let run = Run { scenario: &scenario, parameters: &parameters, zone: &zone, config, seed, faults: &faults };
        let outcome = run.play();
        injected += outcome.faults;
        if outcome.guards_broken > 0 || outcome.coldest_c < FLOOR_C {
            return Err(format!(
                "seed {seed}: {} °C, {:?}; `vestibule thermostat simulate --faults --seed {seed}` plays it again",
                outcome.coldest_c, outcome.broken
            )
            .into());
        }
    }
    let seconds = (cpu_nanos()? - begin) as f64 / 1e9;
    let a_second = (years as f64 / seconds * 100.0).round() / 100.0;
    let what = format!("house-years that are simulated in a second of one core ({injected} faults in {years} years)");
    Ok(vec![json!({"what": what, "figure": a_second, "unit": "1/s", "bar": null, "met": null})])
}
