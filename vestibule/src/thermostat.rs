//! `vestibule thermostat`: orders to the thermostat that the hub runs ([`mod@unit`], [`service`]), and what needs no running hub.

mod code;
mod guide;
pub mod service;
pub mod unit;

use std::fs::File;
use std::io::{BufReader, Read as _};
use std::path::{Path, PathBuf};

use clap::{Args, Subcommand};
use comfort::archive::{Cell, Layout, Sheet};
use comfort::report;
use comfort::simulate::plant::{HouseFile, PlantParameters};
use comfort::simulate::run::{Outcome, Record, Row, Run, Scenario, baseline, config};
use comfort::simulate::{faults, run};
use comfort::{HvacMode, Temp};
use devices::replay;
use jiff::tz::TimeZone;
use model::{TemperatureScale, Timestamp};
use serde_json::{Value, json};
use store::ThermostatStore;

use crate::cli::{DataArgs, Failure, ask, typed_twice};
use crate::commands::Request;
use crate::core::chain;
use code::Secret;
use unit::{Degrees, DemandWish, Order, To};

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
/// Longest file that is imported, bytes.
const IMPORT_MAX: u64 = 48 << 20;
/// The first thermostat's file in the data directory.
pub const FILE: &str = "thermostat.db";
/// The simulated year begins so: 1 January 2025, 0:00 in its zone.
const YEAR: (i16, &str) = (2025, "America/New_York");

/// Orders about the thermostat.
#[derive(Subcommand)]
pub enum ThermostatCmd {
    /// Show all that there is to know of the thermostat
    Status(Show),
    /// Say why it runs, or why not
    Why(Show),
    /// Set the mode, the fan, humidity; a temperature holds until the program changes
    Set {
        #[command(flatten)]
        to: ToArgs,
        /// off, heat, cool, auto or auxHeatOnly
        #[arg(long)]
        mode: Option<String>,
        /// auto or on
        #[arg(long)]
        fan: Option<String>,
        /// Least minutes of fan in each hour
        #[arg(long, value_name = "MINUTES")]
        fan_min: Option<u8>,
        /// Where the humidifier aims, %; 0 is off
        #[arg(long, value_name = "%")]
        humidity: Option<u8>,
        /// Above which humidity the air is dried, %; 0 is off
        #[arg(long, value_name = "%")]
        dry_above: Option<u8>,
        /// Open windows: pause or ignore
        #[arg(long, value_name = "WORD")]
        windows: Option<String>,
        #[command(flatten)]
        show: Show,
    },
    /// Hold a temperature or a comfort setting, until resumed if no end is given
    Hold {
        #[command(flatten)]
        to: ToArgs,
        /// A comfort setting, as in away
        #[arg(long)]
        climate: Option<String>,
        /// auto or on
        #[arg(long)]
        fan: Option<String>,
        /// Until: next (the program's next change), 22:00, 2026-12-24T18:00
        #[arg(long, value_name = "TIME")]
        until: Option<String>,
        /// For so many hours
        #[arg(long, value_name = "N", conflicts_with = "until")]
        hours: Option<u32>,
        #[command(flatten)]
        show: Show,
    },
    /// End the hold or vacation that runs: what lies beneath goes on
    Resume {
        /// End all of them
        #[arg(long)]
        all: bool,
        #[command(flatten)]
        show: Show,
    },
    /// Show what the week's set points tell whoever is told them, and what it costs to tell less
    Privacy {
        /// Change the program so
        #[arg(long)]
        apply: bool,
        #[command(flatten)]
        show: Show,
    },
    /// Show or change the week
    #[command(args_conflicts_with_subcommands = true)]
    Program {
        #[command(subcommand)]
        command: Option<ProgramCmd>,
        #[command(flatten)]
        show: Show,
    },
    /// List, plan or delete vacations
    #[command(args_conflicts_with_subcommands = true)]
    Vacation {
        #[command(subcommand)]
        command: Option<VacationCmd>,
        #[command(flatten)]
        show: Show,
    },
    /// Save now: set points give way, until resumed if no end is given
    Save {
        /// By so many degrees, as in 2, 2C or 4F; 4F if not given
        #[arg(long, value_name = "DEGREES")]
        by: Option<String>,
        /// Until: 22:00, 2026-12-24T18:00
        #[arg(long, value_name = "TIME")]
        until: Option<String>,
        /// For so many hours
        #[arg(long, value_name = "N", conflicts_with = "until")]
        hours: Option<u32>,
        #[command(flatten)]
        show: Show,
    },
    /// List or answer what utilities ask for (demand response)
    #[command(args_conflicts_with_subcommands = true)]
    Demand {
        #[command(subcommand)]
        command: Option<DemandCmd>,
        #[command(flatten)]
        show: Show,
    },
    /// List or change reminders: what is due after so many hours of running
    #[command(args_conflicts_with_subcommands = true)]
    Reminder {
        #[command(subcommand)]
        command: Option<ReminderCmd>,
        #[command(flatten)]
        show: Show,
    },
    /// List the alerts, or say that one was seen
    #[command(args_conflicts_with_subcommands = true)]
    Alert {
        #[command(subcommand)]
        command: Option<AlertCmd>,
        #[command(flatten)]
        show: Show,
    },
    /// The access code: said once, it opens the lock for ten minutes, to everybody at the broker
    #[command(args_conflicts_with_subcommands = true)]
    Code {
        #[command(subcommand)]
        command: Option<CodeCmd>,
        #[command(flatten)]
        show: Show,
    },
    /// Run the thermostat against a simulated house, and measure
    Simulate(SimulateArgs),
    /// Take in an export of ecobee's web portal, Home Assistant's history or beestat
    Import {
        /// The file
        file: PathBuf,
        #[command(flatten)]
        show: Show,
    },
    /// Write the history in the layout of ecobee's web portal
    Export {
        /// The file (- for standard output)
        file: PathBuf,
        /// Of this thermostat, where there are several
        #[arg(long, value_name = "NAME")]
        thermostat: Option<String>,
        #[command(flatten)]
        data: DataArgs,
    },
    /// Report a month: runtime by day, degree days, EPA's savings metric
    Report {
        /// As in 2023-06
        #[arg(long, value_name = "YYYY-MM")]
        month: String,
        /// From this recording (an ecobee web-portal export) instead of the data directory
        #[arg(long, value_name = "FILE")]
        recording: Option<PathBuf>,
        #[command(flatten)]
        show: Show,
    },
}

/// Which home and thermostat, and how to print.
#[derive(Args)]
pub struct Show {
    /// Print JSON
    #[arg(long)]
    json: bool,
    /// This thermostat, where there are several
    #[arg(long, value_name = "NAME")]
    thermostat: Option<String>,
    #[command(flatten)]
    data: DataArgs,
}

/// Set points: 21, 21.5C or 70F; without a letter in the home's units.
#[derive(Args)]
pub struct ToArgs {
    /// One temperature: 21, 21.5C or 70F
    #[arg(allow_hyphen_values = true)]
    temperature: Option<String>,
    /// Heat to
    #[arg(long, value_name = "T", conflicts_with = "temperature")]
    heat: Option<String>,
    /// Cool to
    #[arg(long, value_name = "T", conflicts_with = "temperature")]
    cool: Option<String>,
}

impl From<ToArgs> for To {
    fn from(args: ToArgs) -> Self {
        Self { temperature: args.temperature, heat: args.heat, cool: args.cool }
    }
}

/// Changes of the week.
#[derive(Subcommand)]
pub enum ProgramCmd {
    /// Give half hours a comfort setting
    Set {
        /// mon, tue, ..., weekdays, weekend or all
        #[arg(long, required = true, value_delimiter = ',')]
        day: Vec<String>,
        /// As in 06:30
        #[arg(long, default_value = "00:00")]
        from: String,
        /// As in 08:00
        #[arg(long, default_value = "24:00")]
        to: String,
        /// The comfort setting, as in home
        climate: String,
        #[command(flatten)]
        show: Show,
    },
    /// Copy a day to others
    Copy {
        /// As in mon
        from: String,
        /// As in tue or weekend
        #[arg(required = true)]
        to: Vec<String>,
        #[command(flatten)]
        show: Show,
    },
    /// Change a comfort setting's set points or sensors, or make a new one
    Climate {
        /// Its name in the schedule, as in home
        climate: String,
        /// Heat to
        #[arg(long, value_name = "T")]
        heat: Option<String>,
        /// Cool to
        #[arg(long, value_name = "T")]
        cool: Option<String>,
        /// Sensors that take part
        #[arg(long, value_delimiter = ',', value_name = "DEVICE")]
        sensors: Option<Vec<String>>,
        /// auto or on
        #[arg(long)]
        fan: Option<String>,
        /// Somebody is at home in it: yes or no; a new one's is yes
        #[arg(long, value_name = "WORD")]
        occupied: Option<String>,
        /// Least minutes of ventilation in each hour
        #[arg(long, value_name = "MINUTES")]
        ventilate_min: Option<u8>,
        #[command(flatten)]
        show: Show,
    },
    /// Take a comfort setting away that the week does not use
    Remove {
        /// Its name in the schedule
        climate: String,
        #[command(flatten)]
        show: Show,
    },
}

/// Vacations.
#[derive(Subcommand)]
pub enum VacationCmd {
    /// Plan one
    Add {
        /// Its name
        name: String,
        /// Begins: 2026-12-24 or 2026-12-24T18:00
        #[arg(long, value_name = "TIME")]
        from: String,
        /// Ends
        #[arg(long, value_name = "TIME")]
        until: String,
        /// Heat to
        #[arg(long, value_name = "T")]
        heat: String,
        /// Cool to
        #[arg(long, value_name = "T")]
        cool: String,
        #[command(flatten)]
        show: Show,
    },
    /// Delete one
    Delete {
        /// Its name
        name: String,
        #[command(flatten)]
        show: Show,
    },
}

/// What utilities ask for.
#[derive(Subcommand)]
pub enum DemandCmd {
    /// Pass a request on
    Add {
        /// Its name: the same again is the same request
        name: String,
        /// Begins: 16:00 or 2026-07-08T16:00; now if not given
        #[arg(long, value_name = "TIME")]
        from: Option<String>,
        /// Ends
        #[arg(long, value_name = "TIME")]
        until: String,
        /// Set points give way by so many degrees, as in 2, 2C or 4F
        #[arg(long, value_name = "DEGREES")]
        by: Option<String>,
        /// It begins and ends up to so many seconds later, by chance
        #[arg(long, value_name = "SECONDS", default_value_t = 0)]
        random: u32,
        #[command(flatten)]
        show: Show,
    },
    /// Take part
    Accept {
        /// The request's name
        name: String,
        #[command(flatten)]
        show: Show,
    },
    /// Opt out, at once
    Decline {
        /// The request's name; all of them if not given
        name: Option<String>,
        #[command(flatten)]
        show: Show,
    },
}

/// Reminders.
#[derive(Subcommand)]
pub enum ReminderCmd {
    /// It is done: counting begins anew
    Done {
        /// Its name, as in filter
        name: String,
        #[command(flatten)]
        show: Show,
    },
    /// Make one, or change it
    Set {
        /// Its name
        name: String,
        /// What it counts: air (hours of fan, heating or cooling), heating, cooling, aux, humidifier, dehumidifier, ventilator
        /// or days
        #[arg(long, value_name = "WORD", default_value = "air")]
        of: String,
        /// Due after so many hours (or days)
        #[arg(long, value_name = "N")]
        after: u32,
        #[command(flatten)]
        show: Show,
    },
    /// Take one away
    Remove {
        /// Its name
        name: String,
        #[command(flatten)]
        show: Show,
    },
}

/// Alerts.
#[derive(Subcommand)]
pub enum AlertCmd {
    /// It was seen; a sensor that drifts is taken as it is from now on
    Ack {
        /// Its number in the list
        number: usize,
        #[command(flatten)]
        show: Show,
    },
}

/// The access code.
#[derive(Subcommand)]
pub enum CodeCmd {
    /// Set it: asks for it, or takes the first line of standard input
    Set {
        #[command(flatten)]
        show: Show,
    },
    /// No code passes the lock any more
    Remove {
        #[command(flatten)]
        show: Show,
    },
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
    /// Heating is a heat pump with auxiliary heat
    #[arg(long)]
    heat_pump: bool,
    /// A price plan (TOML with rates, dear_set_back, dear_ahead and dear_limits as in `[[thermostat]]`, degrees Celsius): run with it
    /// and without, side by side
    #[arg(long, value_name = "FILE")]
    prices: Option<PathBuf>,
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
        ThermostatCmd::Status(show) => tell(&show, Order::Status),
        ThermostatCmd::Why(show) => tell(&show, Order::Why),
        ThermostatCmd::Set { to, mode, fan, fan_min, humidity, dry_above, windows, show } => {
            tell(&show, Order::Set { mode, to: to.into(), fan, fan_min, humidity, dry_above, windows })
        }
        ThermostatCmd::Save { by, until, hours, show } => tell(&show, Order::Save { by, hours, until }),
        ThermostatCmd::Demand { command: None, show } => tell(&show, Order::Demands),
        ThermostatCmd::Demand { command: Some(command), .. } => match command {
            DemandCmd::Add { name, from, until, by, random, show } => {
                let by = by.map(Degrees::Text);
                let wish = DemandWish { name, from, until: Some(until), by, random_s: Some(random), cancel: false };
                tell(&show, Order::DemandAdd(wish))
            }
            DemandCmd::Accept { name, show } => tell(&show, Order::DemandAccept { name }),
            DemandCmd::Decline { name, show } => tell(&show, Order::DemandDecline { name }),
        },
        ThermostatCmd::Reminder { command: None, show } => tell(&show, Order::Reminders),
        ThermostatCmd::Reminder { command: Some(command), .. } => match command {
            ReminderCmd::Done { name, show } => tell(&show, Order::ReminderDone { name }),
            ReminderCmd::Set { name, of, after, show } => tell(&show, Order::ReminderSet { name, of, after }),
            ReminderCmd::Remove { name, show } => tell(&show, Order::ReminderRemove { name }),
        },
        ThermostatCmd::Alert { command: None, show } => tell(&show, Order::Alerts),
        ThermostatCmd::Alert { command: Some(AlertCmd::Ack { number, show }), .. } => {
            tell(&show, Order::Acknowledge { number })
        }
        ThermostatCmd::Code { command: None, show } => tell(&show, Order::Code),
        ThermostatCmd::Code { command: Some(command), .. } => match command {
            CodeCmd::Set { show } => {
                let code = Secret(typed_twice("code")?);
                tell(&show, Order::CodeSet { code })
            }
            CodeCmd::Remove { show } => tell(&show, Order::CodeRemove),
        },
        ThermostatCmd::Hold { to, climate, fan, until, hours, show } => {
            tell(&show, Order::Hold { to: to.into(), climate, fan, until, hours })
        }
        ThermostatCmd::Resume { all, show } => tell(&show, Order::Resume { all }),
        ThermostatCmd::Privacy { apply, show } => tell(&show, Order::Privacy { apply }),
        ThermostatCmd::Program { command: None, show } => tell(&show, Order::Program),
        ThermostatCmd::Program { command: Some(command), .. } => match command {
            ProgramCmd::Set { day, from, to, climate, show } => {
                tell(&show, Order::ProgramSet { days: day, from, to, climate })
            }
            ProgramCmd::Copy { from, to, show } => tell(&show, Order::ProgramCopy { from, to }),
            ProgramCmd::Climate { climate, heat, cool, sensors, fan, occupied, ventilate_min, show } => {
                let to = To { temperature: None, heat, cool };
                tell(&show, Order::ProgramClimate { climate, to, sensors, fan, occupied, ventilate_min })
            }
            ProgramCmd::Remove { climate, show } => tell(&show, Order::ProgramRemove { climate }),
        },
        ThermostatCmd::Vacation { command: None, show } => tell(&show, Order::Vacations),
        ThermostatCmd::Vacation { command: Some(command), .. } => match command {
            VacationCmd::Add { name, from, until, heat, cool, show } => {
                let to = To { temperature: None, heat: Some(heat), cool: Some(cool) };
                tell(&show, Order::VacationAdd { name, to, from, until })
            }
            VacationCmd::Delete { name, show } => tell(&show, Order::VacationDelete { name }),
        },
        ThermostatCmd::Simulate(args) => simulate(&args),
        ThermostatCmd::Import { file, show } => {
            let request = Request::ThermostatImport { text: read_text(&file)?, name: show.thermostat };
            let done = ask(&show.data, request)?;
            Ok(if show.json { format!("{done}\n") } else { imported(&done) })
        }
        ThermostatCmd::Export { file, thermostat, data } => {
            let done = ask(&data, Request::ThermostatExport { name: thermostat })?;
            let text = done.get("text").and_then(Value::as_str).unwrap_or_default();
            if file == Path::new("-") {
                return Ok(text.to_owned());
            }
            std::fs::write(&file, text).map_err(|e| format!("{}: {e}", file.display()))?;
            Ok(format!("wrote {} rows to {}\n", done.get("rows").unwrap_or(&Value::Null), file.display()))
        }
        ThermostatCmd::Report { month, recording, show } => {
            let value = match recording {
                Some(path) => {
                    month_of(&report_rows(open(&path)?).map_err(|e| format!("{}: {e}", path.display()))?, &month)?
                }
                None => ask(&show.data, Request::ThermostatReport { month, name: show.thermostat })?,
            };
            Ok(if show.json { format!("{value}\n") } else { report_text(&value) })
        }
    }
}

/// Asks the thermostat and prints its answer.
fn tell(show: &Show, order: Order) -> Result<String, Failure> {
    let why = matches!(order, Order::Why);
    let of_all = order.is_of_all();
    let request = match show.thermostat.clone() {
        Some(name) => Request::ThermostatOf { name, order },
        None => Request::Thermostat(order),
    };
    let answer = ask(&show.data, request)?;
    if show.json {
        return Ok(format!("{answer}\n"));
    }
    let parts = match &answer {
        Value::Array(all) if of_all => all.as_slice(),
        one => std::slice::from_ref(one),
    };
    let mut out = String::new();
    for part in parts {
        if !out.is_empty() {
            out.push('\n');
        }
        match part.get("why").and_then(Value::as_str).filter(|_| why) {
            Some(text) => {
                let name = part.get("name").and_then(Value::as_str).filter(|_| parts.len() > 1);
                let name = name.map_or_else(String::new, |n| format!("{n}: "));
                out.push_str(&format!("{name}{text}\n"));
                let alerts = part.get("alerts").and_then(Value::as_array).into_iter().flatten();
                alerts.for_each(|alert| out.push_str(&format!("Alert: {}\n", brief(alert))));
            }
            None => lines(&mut out, "", part),
        }
    }
    if out.is_empty() {
        out.push_str("nothing\n");
    }
    Ok(out)
}

/// A JSON value for people: one line for each leaf, or for each entry of a list.
fn lines(out: &mut String, name: &str, value: &Value) {
    match value {
        Value::Null => {}
        Value::Object(map) if name.is_empty() => map.iter().for_each(|(key, value)| lines(out, key, value)),
        Value::Array(list) if list.iter().any(|v| v.is_object()) => {
            let indent = if name.is_empty() { "" } else { "  " };
            if !name.is_empty() {
                out.push_str(&format!("{}:\n", name.replace('_', " ")));
            }
            list.iter().for_each(|entry| out.push_str(&format!("{indent}{}\n", brief(entry))));
        }
        other => {
            let text = brief(other);
            if !text.is_empty() {
                out.push_str(&format!("{}: {text}\n", name.replace('_', " ")));
            }
        }
    }
}

/// The same in one line.
fn brief(value: &Value) -> String {
    match value {
        Value::Null => String::new(),
        Value::String(text) => text.clone(),
        Value::Array(list) => list.iter().map(brief).collect::<Vec<_>>().join(", "),
        Value::Object(map) => {
            let parts = map.iter().map(|(key, value)| (key, brief(value))).filter(|(_, text)| !text.is_empty());
            parts.map(|(key, text)| format!("{} {text}", key.replace('_', " "))).collect::<Vec<_>>().join(", ")
        }
        other => other.to_string(),
    }
}

fn read_text(file: &Path) -> Result<String, Failure> {
    let place = file.display();
    let mut text = String::new();
    let mut limited = open(file)?.take(IMPORT_MAX + 1);
    limited.read_to_string(&mut text).map_err(|e| format!("{place}: {e}"))?;
    if text.len() as u64 > IMPORT_MAX {
        return Err(format!("{place} is longer than {IMPORT_MAX} bytes: import it in parts").into());
    }
    Ok(text)
}

fn imported(done: &Value) -> String {
    let get =
        |key: &str| done.get(key).map_or_else(String::new, |v| v.as_str().map_or_else(|| v.to_string(), str::to_owned));
    format!(
        "{} rows ({} of them new) from {} to {}, {} columns, from {}\n",
        get("rows"),
        get("new_rows"),
        get("from"),
        get("to"),
        get("columns"),
        get("origin")
    )
}

/// Where a row stands among the others: by its local time; of an hour that clocks repeat, first all of the one, then all of
/// the other.
fn places(text: &str) -> Result<Vec<(u64, String)>, String> {
    let rows = replay::parse(text.as_bytes()).map_err(|e| e.to_string())?;
    let mut seen = std::collections::BTreeMap::new();
    let mut places = Vec::new();
    for row in rows.filter_map(Result::ok) {
        let time = row.time;
        let nth = seen.entry(time).and_modify(|n| *n += 1).or_insert(0u32);
        let place = format!("{} {:02} {nth:02} {:02}:{:02}", time.date(), time.hour(), time.minute(), time.second());
        places.push((row.line, place));
    }
    Ok(places)
}

/// Takes an export in.
///
/// # Errors
/// When it is none that is known, or can't be stored.
pub fn import_text(file: &Path, zone: &TimeZone, text: &str, now: Timestamp) -> Result<Value, String> {
    let (sheet, origin) = Sheet::read(text, zone).map_err(|e| e.to_string())?;
    let written = sheet.write();
    // Which line is when, in the words of the parser that also replays recordings: a line without a time can't be placed.
    let places: std::collections::BTreeMap<u64, String> = places(&written)?.into_iter().collect();
    let first = sheet.layout.before.len() as u64 + 2;
    let mut rows = Vec::with_capacity(sheet.rows.len());
    let mut skipped = 0u64;
    for (index, cells) in sheet.rows.iter().enumerate() {
        match places.get(&(first + index as u64)) {
            Some(place) => rows.push((place.clone(), serde_json::to_string(cells).map_err(|e| e.to_string())?)),
            None => skipped += 1,
        }
    }
    let layout = serde_json::to_string(&sheet.layout).map_err(|e| e.to_string())?;
    let key = format!("{origin:?}: {}", sheet.layout.columns.join(","));
    let mut store = ThermostatStore::open(file).map_err(|e| chain(&e))?;
    let new_rows = store.put_sheet(&key, &layout, &rows, now.as_millis()).map_err(|e| chain(&e))?;
    let day =
        |row: Option<&(String, String)>| row.and_then(|(place, _)| place.get(..10)).unwrap_or_default().to_owned();
    Ok(json!({
        "origin": origin, "rows": rows.len(), "new_rows": new_rows, "skipped": skipped,
        "columns": sheet.layout.columns.len(),
        "from": day(rows.iter().min()), "to": day(rows.iter().max()),
    }))
}

fn stored(file: &Path, zone: &TimeZone) -> Result<Sheet, String> {
    let store = ThermostatStore::open(file).map_err(|e| chain(&e))?;
    let mut sheet = Sheet::default();
    if let Some(found) = store.sheet().map_err(|e| chain(&e))? {
        let layout: Layout = serde_json::from_str(&found.layout).map_err(|e| e.to_string())?;
        let rows: Result<Vec<Vec<Cell>>, _> = found.rows.iter().map(|r| serde_json::from_str(r)).collect();
        sheet = Sheet { layout, rows: rows.map_err(|e| e.to_string())? };
    }
    for interval in store.intervals(i64::MIN, i64::MAX).map_err(|e| chain(&e))? {
        sheet.push(&serde_json::from_str(&interval).map_err(|e| e.to_string())?, zone);
    }
    Ok(sheet)
}

/// The history in ecobee's layout: the sheet imported last, then the hub's own intervals.
///
/// # Errors
/// When it can't be read.
pub fn export_of(file: &Path, zone: &TimeZone) -> Result<Value, String> {
    stored(file, zone).map(|sheet| json!({ "text": sheet.write(), "rows": sheet.rows.len() }))
}

/// The report of a month from the data directory.
///
/// # Errors
/// When the month is none, or the history can't be read.
pub fn report_of(file: &Path, zone: &TimeZone, month: &str) -> Result<Value, String> {
    month_of(&report_rows(stored(file, zone)?.write().as_bytes())?, month)
}

fn report_rows(reader: impl std::io::BufRead) -> Result<Vec<report::Row>, String> {
    let rows = replay::parse(reader).map_err(|e| e.to_string())?;
    let scale = rows.layout().scale;
    let fahrenheit = |degrees: Option<f64>| match scale {
        replay::Scale::Fahrenheit => degrees,
        replay::Scale::Celsius => degrees.map(|c| c * 1.8 + 32.0),
    };
    let row = |row: replay::Row| report::Row {
        at: row.time,
        indoor_f: fahrenheit(row.temperature),
        outdoor_f: fahrenheit(row.outdoor),
        heating_s: row.heating_s.unwrap_or(0.0),
        cooling_s: row.cooling_s.unwrap_or(0.0),
        fan_s: row.fan_s.unwrap_or(0.0),
    };
    Ok(rows.filter_map(Result::ok).map(row).collect())
}

fn month_of(rows: &[report::Row], month: &str) -> Result<Value, String> {
    let wrong = || format!("`{month}` is no month: write it as in 2023-06");
    let (year, number) = month.split_once('-').ok_or_else(wrong)?;
    let (year, number): (i16, i8) = (year.parse().map_err(|_| wrong())?, number.parse().map_err(|_| wrong())?);
    jiff::civil::Date::new(year, number, 1).map_err(|_| wrong())?;
    serde_json::to_value(report::month(rows, year, number)).map_err(|e| e.to_string())
}

fn report_text(value: &Value) -> String {
    let number =
        |value: Option<&Value>| value.and_then(Value::as_f64).map_or_else(|| "-".to_owned(), |n| format!("{n:.1}"));
    let mut lines = vec![format!(
        "{:<12}{:>10}{:>10}{:>8}{:>11}{:>11}{:>8}{:>8}",
        "day", "heating h", "cooling h", "fan h", "indoors °F", "outdoors", "HDD °F", "CDD °F"
    )];
    let columns =
        ["heating_h", "cooling_h", "fan_h", "indoor_f", "outdoor_f", "heating_degree_days_f", "cooling_degree_days_f"];
    let mut line = |name: &str, of: &Value| {
        let [a, b, c, d, e, f, g] = columns.map(|column| number(of.get(column)));
        lines.push(format!("{name:<12}{a:>10}{b:>10}{c:>8}{d:>11}{e:>11}{f:>8}{g:>8}"));
    };
    for day in value.get("days").and_then(Value::as_array).into_iter().flatten() {
        line(day.get("date").and_then(Value::as_str).unwrap_or_default(), day);
    }
    line(value.get("month").and_then(Value::as_str).unwrap_or_default(), value);
    for (mode, over) in [("heating", "heating_h_per_degree_day"), ("cooling", "cooling_h_per_degree_day")] {
        let starts = value.get(format!("{mode}_starts")).and_then(Value::as_u64).filter(|n| *n > 0);
        if let Some(starts) = starts {
            let minutes = number(value.get(format!("{mode}_min_per_start")));
            lines.push(format!("{mode}: {starts} starts of {minutes} min on average"));
        }
        if let Some(hours) = value.get(over).and_then(Value::as_f64) {
            lines.push(format!("{mode}: {hours:.2} h for each degree day"));
        }
        if let Some(epa) = value.get("epa").and_then(|e| e.get(mode)).filter(|e| e.is_object()) {
            lines.push(format!(
                "{mode}, EPA's metric over the whole history: {} core days, balance {} °F, baseline {} °F, savings {} %",
                epa.get("core_days").unwrap_or(&Value::Null),
                number(epa.get("tau_f")),
                number(epa.get("baseline_f")),
                number(epa.get("savings_percent"))
            ));
        }
    }
    let alerts = value.get("alerts").and_then(Value::as_array).into_iter().flatten();
    lines.extend(alerts.map(|alert| format!("alert: {}", brief(alert))));
    lines.join("\n") + "\n"
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
    let mut configured = config(mode);
    if args.heat_pump {
        (configured.equipment.has_heat_pump, configured.equipment.has_aux) = (true, true);
    }
    configured.prices = args.prices.as_deref().map(price_plan).transpose()?;
    let play = |config: comfort::Config| {
        let (scenario, parameters, zone, seed) = (&scenario, &parameters, &zone, args.seed);
        Run { scenario, parameters, zone, config, seed, faults: &faults }.play()
    };
    // The same plan, which moves nothing: it only counts what power costs.
    let without = configured.prices.clone().map(|plan| {
        let prices = Some(comfort::PricePlan { set_back: comfort::Delta::ZERO, ahead: comfort::Delta::ZERO, ..plan });
        play(comfort::Config { prices, ..configured.clone() })
    });
    let outcome = play(configured);
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
            if let Some(without) = &without {
                object.insert("without_prices".to_owned(), without_figures(without));
            }
        }
        return Ok(format!("{value}\n"));
    }
    let mut told = text(&outcome, own.as_ref(), args.seed);
    if let Some(without) = &without {
        told.push_str(&prices_text(&outcome, without));
    }
    Ok(told)
}

/// A price plan's file: the keys of `[[thermostat]]` that are about prices.
fn price_plan(path: &Path) -> Result<comfort::PricePlan, Failure> {
    let place = path.display();
    let mut text = String::new();
    open(path)?.take(HOUSE_FILE_MAX).read_to_string(&mut text).map_err(|e| format!("{place}: {e}"))?;
    crate::config::setup::price_plan(&text).map_err(|e| format!("{place}: {e}").into())
}

/// Figures of the same days without what prices do.
fn without_figures(without: &Outcome) -> Value {
    json!({
        "cost": without.cost, "kwh": without.kwh, "runtime_h": without.runtime_h,
        "plan_discomfort_fh_per_day": without.plan_discomfort_fh_per_day,
    })
}

fn prices_text(with: &Outcome, without: &Outcome) -> String {
    let mut lines = vec![format!("{:<34} {:>12} {:>14}", "prices", "with", "without")];
    let mut row = |name: &str, a: f64, b: f64| lines.push(format!("{name:<34} {a:>12.2} {b:>14.2}"));
    row("cost", with.cost.unwrap_or(0.0), without.cost.unwrap_or(0.0));
    row("electricity, kWh", with.kwh, without.kwh);
    let beyond = |o: &Outcome| o.plan_discomfort_fh_per_day.unwrap_or(0.0);
    row("beyond the program, °F h a day", beyond(with), beyond(without));
    lines.join("\n") + "\n"
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
    lines.extend(outcome.suspected.iter().map(|s| format!("suspected: {s}")));
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
