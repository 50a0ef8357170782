//! House-years a second, with faults: `cargo run --release -p comfort --example years [FIRST_SEED] [COUNT]`. Fails with the
//! seed when a guard is broken or a house freezes.

use comfort::HvacMode;
use comfort::simulate::faults;
use comfort::simulate::plant::PlantParameters;
use comfort::simulate::run::{Run, Scenario, config};
use jiff::civil::date;
use jiff::tz::TimeZone;

const DAYS: u32 = 365;
/// The house never gets colder than the default frost floor, °C.
const FLOOR_C: f64 = 7.0;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut arguments = std::env::args().skip(1);
    let mut number = |default: u64| arguments.next().map_or(Ok(default), |text| text.parse());
    let (first, count) = (number(1)?, number(4)?);
    let zone = TimeZone::get("America/New_York")?;
    let start_ms = date(2025, 1, 1).to_zoned_datetime(zone.clone())?.timestamp().as_millisecond();
    let scenario = Scenario::Year { start_ms, days: DAYS };
    let parameters = PlantParameters::default();
    #[expect(clippy::disallowed_methods, reason = "measuring is what this program is for")]
    let began = std::time::Instant::now();
    for seed in first..first + count {
        let faults = faults::draw(seed, u64::from(DAYS) * 1440);
        let config = config(HvacMode::Auto);
        let run = Run { scenario: &scenario, parameters: &parameters, zone: &zone, config, seed, faults: &faults };
        let outcome = run.play();
        println!(
            "seed {seed}: {} faults, {} starts, at most {} an hour, coldest {:.1} °C, guards broken {}",
            outcome.faults, outcome.starts, outcome.starts_per_hour_max, outcome.coldest_c, outcome.guards_broken
        );
        if outcome.guards_broken > 0 || outcome.coldest_c < FLOOR_C {
            return Err(format!("seed {seed}: {:?}", outcome.broken).into());
        }
    }
    let seconds = began.elapsed().as_secs_f64();
    println!("{count} house-years in {seconds:.1} s: {:.2} a second", count as f64 / seconds);
    Ok(())
}
