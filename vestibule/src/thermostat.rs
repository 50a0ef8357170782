//! `vestibule thermostat`: what needs no running hub.

use std::fs::File;
use std::io::BufReader;
use std::path::{Path, PathBuf};

use clap::{Args, Subcommand};
use comfort::simulate::plant::{HouseFile, PlantParameters};
use comfort::simulate::run::{Outcome, Record, Row, Run, Scenario, baseline, config};
use comfort::simulate::{faults, run};
use comfort::{HvacMode, Temp};
use devices::replay;
use jiff::tz::TimeZone;
use model::TemperatureScale;
use serde_json::{Value, json};

use crate::cli::Failure;

/// Rows of a recording are so far apart, milliseconds.
const ROW_MS: i64 = 300_000;
/// Longest recording that is simulated or reported: ten years of rows.
const ROWS_MAX: i64 = 10 * 366 * 288;
/// Longest simulation, days.
const DAYS_MAX: u32 = 3660;
/// Days that are simulated when nothing is said.
const DAYS: u32 = 365;
/// Longest house file, bytes.
const HOUSE_FILE_MAX: u64 = 64 * 1024;
/// The simulated year begins so: 1 January 2025, 0:00 in its zone.
const YEAR: (i16, &str) = (2025, "America/New_York");

/// Orders about the thermostat.
#[derive(Subcommand)]
pub enum ThermostatCmd {
    /// Run the thermostat against a simulated house, and measure
    Simulate(SimulateArgs),
}

/// Options of the simulation.
#[derive(Args)]
pub struct SimulateArgs {
    /// Weather and wishes of this recording (an ecobee web-portal export), side by side with its own control
    #[arg(long, value_name = "FILE", conflicts_with = "days")]
    recording: Option<PathBuf>,
    /// So many days of a typical year from 1 January
    #[arg(long, value_name = "N")]
    days: Option<u32>,
    /// The house (TOML or JSON); a real one of medium weight if not given. See docs/specs/thermostat.md
    #[arg(long, value_name = "FILE")]
    house: Option<PathBuf>,
    /// For noise and faults: the same seed plays the same run
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Inject faults: sensors, broker, restarts, power, clocks
    #[arg(long)]
    faults: bool,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

/// Does what was asked.
///
/// # Errors
/// When a file can't be read, or something is asked that can't be.
pub fn run(command: ThermostatCmd) -> Result<String, Failure> {
    match command {
        ThermostatCmd::Simulate(args) => simulate(&args),
    }
}

fn house(file: Option<&Path>) -> Result<PlantParameters, Failure> {
    let Some(path) = file else { return Ok(PlantParameters::default()) };
    let place = path.display();
    let size = std::fs::metadata(path).map_err(|e| format!("{place}: {e}"))?.len();
    if size > HOUSE_FILE_MAX {
        return Err(format!("{place} has {size} bytes; a house's file has at most {HOUSE_FILE_MAX}").into());
    }
    let text = std::fs::read_to_string(path).map_err(|e| format!("{place}: {e}"))?;
    let file: HouseFile = if text.trim_start().starts_with('{') {
        // Some owners write remarks into their JSON.
        let bare: Vec<&str> = text.lines().filter(|line| !line.trim_start().starts_with("//")).collect();
        serde_json::from_str(&bare.join("\n")).map_err(|e| format!("{place}: {e}"))?
    } else {
        toml::from_str(&text).map_err(|e| format!("{place}: {e}"))?
    };
    file.resolve().map_err(|e| format!("{place}: {e}").into())
}

fn simulate(args: &SimulateArgs) -> Result<String, Failure> {
    let parameters = house(args.house.as_deref())?;
    let (scenario, zone) = match &args.recording {
        Some(path) => (Scenario::Record(record(path)?), TimeZone::UTC),
        None => {
            let days = args.days.unwrap_or(DAYS);
            if days == 0 || days > DAYS_MAX {
                return Err(Failure::Usage(format!("--days is 1 to {DAYS_MAX}")));
            }
            let zone = TimeZone::get(YEAR.1).map_err(|e| e.to_string())?;
            let start = jiff::civil::date(YEAR.0, 1, 1).to_zoned_datetime(zone.clone()).map_err(|e| e.to_string())?;
            (Scenario::Year { start_ms: start.timestamp().as_millisecond(), days }, zone)
        }
    };
    let (mode, minutes) = match &scenario {
        Scenario::Record(record) => (record.mode, record.rows.len() as u64 * 5),
        Scenario::Year { days, .. } => (HvacMode::Auto, u64::from(*days) * 1440),
    };
    let faults = if args.faults { faults::draw(args.seed, minutes) } else { Vec::new() };
    let began = std::time::SystemTime::UNIX_EPOCH;
    let _ = began;
    let outcome = Run {
        scenario: &scenario,
        parameters: &parameters,
        zone: &zone,
        config: config(mode),
        seed: args.seed,
        faults: &faults,
    }
    .play();
    let own = match &scenario {
        Scenario::Record(record) => Some(baseline(record, &parameters, &zone)),
        Scenario::Year { .. } => None,
    };
    if args.json {
        let mut value = serde_json::to_value(&outcome).map_err(|e| e.to_string())?;
        if let Some(object) = value.as_object_mut() {
            object.insert("seed".to_owned(), json!(args.seed));
            if let Some(own) = &own {
                object.insert("recording".to_owned(), own_figures(own));
            }
        }
        return Ok(format!("{value}\n"));
    }
    Ok(text(&outcome, own.as_ref(), args.seed))
}

/// Figures of the recording's own control: it has no guards and no leads of ours.
fn own_figures(own: &Outcome) -> Value {
    json!({
        "over_1f_share": own.over_1f_share,
        "starts_per_hour_max": own.starts_per_hour_max,
        "starts": own.starts,
        "off_s_min": own.off_s_min,
        "discomfort_fh_per_day": own.discomfort_fh_per_day,
        "runtime_h": own.runtime_h,
    })
}

fn text(outcome: &Outcome, own: Option<&Outcome>, seed: u64) -> String {
    let mut lines =
        vec![format!("{:<34} {:>12} {:>14}", "", "vestibule", if own.is_some() { "the recording" } else { "" })];
    let mut row = |name: &str, ours: String, theirs: Option<String>| {
        lines.push(format!("{name:<34} {ours:>12} {:>14}", theirs.unwrap_or_default()));
    };
    let share = |o: &Outcome| format!("{:.2} %", o.over_1f_share * 100.0);
    let number = |v: f64| format!("{v:.2}");
    let pause = |o: &Outcome| o.off_s_min.map_or_else(|| "-".to_owned(), |s| s.to_string());
    row("more than 1 °F off", share(outcome), own.map(share));
    row("discomfort, °F h a day", number(outcome.discomfort_fh_per_day), own.map(|o| number(o.discomfort_fh_per_day)));
    row("equipment, h", number(outcome.runtime_h), own.map(|o| number(o.runtime_h)));
    row("starts", outcome.starts.to_string(), own.map(|o| o.starts.to_string()));
    row(
        "most starts in an hour",
        outcome.starts_per_hour_max.to_string(),
        own.map(|o| o.starts_per_hour_max.to_string()),
    );
    row("shortest pause, s", pause(outcome), own.map(pause));
    row("guards broken", outcome.guards_broken.to_string(), None);
    row("faults injected", outcome.faults.to_string(), None);
    row("coldest air, °C", number(outcome.coldest_c), own.map(|o| number(o.coldest_c)));
    row("hottest air, °C", number(outcome.hottest_c), own.map(|o| number(o.hottest_c)));
    if let Some(hours) = outcome.learned_time_constant_h {
        row("learned time constant, h", number(hours), None);
    }
    if let Some(m) = &outcome.learned {
        lines.push(format!("learned: {m:?}"));
    }
    lines.push(format!("arrival errors, °F: {:?}", outcome.arrival_error_f));
    lines.push(format!("leads, min: {:?}", outcome.lead_min));
    lines.extend(outcome.broken.iter().map(|b| format!("BROKEN: {b}")));
    lines.push(format!("seed {seed}"));
    lines.join("\n") + "\n"
}

fn open(path: &Path) -> Result<BufReader<File>, Failure> {
    Ok(BufReader::new(File::open(path).map_err(|e| format!("{}: {e}", path.display()))?))
}

fn milli_c(degrees: f64, scale: replay::Scale) -> Option<Temp> {
    let scale = match scale {
        replay::Scale::Celsius => TemperatureScale::Celsius,
        replay::Scale::Fahrenheit => TemperatureScale::Fahrenheit,
    };
    Temp::measured(degrees, scale)
}

/// Reads a recording for the simulation.
fn record(path: &Path) -> Result<Record, Failure> {
    let place = path.display();
    let rows = replay::parse(open(path)?).map_err(|e| format!("{place}: {e}"))?;
    let scale = rows.layout().scale;
    let rows: Vec<replay::Row> = rows.filter_map(Result::ok).collect();
    let instant = |row: &replay::Row| TimeZone::UTC.to_timestamp(row.time).map(|t| t.as_millisecond()).ok();
    let whole = |row: &&replay::Row| row.cool_set_point.is_some() || row.heat_set_point.is_some();
    let start_ms =
        rows.iter().find(whole).and_then(instant).ok_or_else(|| format!("{place}: no row has a set point"))?;
    let end_ms = rows.iter().rev().find(whole).and_then(instant).unwrap_or(start_ms);
    let count = (end_ms - start_ms) / ROW_MS + 1;
    if !(1..=ROWS_MAX).contains(&count) {
        return Err(format!("{place}: {count} rows of five minutes; 1 to {ROWS_MAX} are simulated").into());
    }
    let mut grid: Vec<Option<&replay::Row>> = vec![None; usize::try_from(count).unwrap_or(0)];
    for row in &rows {
        let index = instant(row).and_then(|at| usize::try_from((at - start_ms) / ROW_MS).ok());
        if let Some(place) = index.and_then(|i| grid.get_mut(i)) {
            *place = Some(row);
        }
    }
    let mode = rows.iter().find_map(|r| HvacMode::parse(r.system_setting.as_deref()?)).unwrap_or(HvacMode::Auto);
    let indoor =
        rows.iter().find_map(|r| milli_c(r.temperature?, scale)).ok_or_else(|| format!("{place}: no temperature"))?;
    let mut outdoor = rows.iter().find_map(|r| milli_c(r.outdoor?, scale)).unwrap_or(indoor);
    let wide = (Temp::from_tenths_c(0), Temp::from_tenths_c(450));
    let point = |row: Option<&replay::Row>| {
        let row = row?;
        if row.cool_set_point.is_none() && row.heat_set_point.is_none() {
            return None;
        }
        let heat = row.heat_set_point.and_then(|d| milli_c(d, scale)).unwrap_or(wide.0);
        let cool = row.cool_set_point.and_then(|d| milli_c(d, scale)).unwrap_or(wide.1);
        Some((heat, cool))
    };
    let mut out = Vec::with_capacity(grid.len());
    let mut last = None;
    for index in 0..grid.len() {
        let row = grid.get(index).copied().flatten();
        outdoor = row.and_then(|r| milli_c(r.outdoor?, scale)).unwrap_or(outdoor);
        let mut set_points = point(row);
        // In the row of a change the recording has a blend of old and new: the old one holds until the change is over.
        let after = point(grid.get(index + 1).copied().flatten());
        if let (Some(before), Some(now), Some(after)) = (last, set_points, after) {
            let between = |a: Temp, b: Temp, c: Temp| a.min(c) <= b && b <= a.max(c);
            let (b, n, a): ((Temp, Temp), (Temp, Temp), (Temp, Temp)) = (before, now, after);
            if n != b && n != a && between(b.0, n.0, a.0) && between(b.1, n.1, a.1) {
                set_points = Some(b);
            }
        }
        let event = row.and_then(|r| r.event.as_deref()).unwrap_or("");
        let event_before =
            index.checked_sub(1).and_then(|i| grid.get(i).copied().flatten()?.event.as_deref()).unwrap_or("");
        let scheduled = |e: &str| e.is_empty() || e == "(SmartRecovery)";
        let on_grid = row.is_some_and(|r| r.time.minute() % 30 == 0);
        let foreseen = on_grid && scheduled(event) && scheduled(event_before);
        last = set_points.or(last);
        out.push(Row {
            outdoor_c: outdoor.celsius(),
            set_points,
            foreseen,
            heating_s: row.and_then(|r| r.heating_s).unwrap_or(0.0),
            cooling_s: row.and_then(|r| r.cooling_s).unwrap_or(0.0),
        });
    }
    Ok(run::Record { start_ms, rows: out, indoor_c: indoor.celsius(), mode })
}
