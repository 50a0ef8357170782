//! Sheets of five minutes in the layout of ecobee's web portal, and what comes from Home Assistant and beestat turned into it.
//!
//! A sheet keeps every cell of a file: numbers as digits and their decimals, everything else as it stands. So a file comes out
//! to the byte as it went in, as long as it quotes no cell that needs no quotes.

use std::collections::BTreeMap;

use jiff::civil::DateTime;
use jiff::tz::TimeZone;
use serde::{Deserialize, Serialize};

use crate::event::EventType;
use crate::history::Interval;

/// Lines that may stand before the header.
const BEFORE_MAX: usize = 50;
/// Most columns.
pub const COLUMNS_MAX: usize = 512;
/// Most rows: ten years of five minutes.
pub const ROWS_MAX: usize = 10 * 366 * 288;
/// Seconds of a row.
const ROW_S: i64 = 300;
/// A value of Home Assistant's history holds for at most so long without another, seconds.
const HELD_MAX_S: i64 = 6 * 3600;
/// The byte order mark that spreadsheets write.
const BOM: char = '\u{feff}';

/// The columns of a sheet that is not from a file, in ecobee's order and words.
const COLUMNS: &[&str] = &[
    "Date",
    "Time",
    "System Setting",
    "System Mode",
    "Calendar Event",
    "Program Mode",
    "Cool Set Temp (F)",
    "Heat Set Temp (F)",
    "Current Temp (F)",
    "Current Humidity (%RH)",
    "Outdoor Temp (F)",
    "Cool Stage 1 (sec)",
    "Cool Stage 2 (sec)",
    "Heat Stage 1 (sec)",
    "Heat Stage 2 (sec)",
    "Aux Heat 1 (sec)",
    "Fan (sec)",
    "Humidifier (sec)",
    "Dehumidifier (sec)",
    "Ventilator (sec)",
];

/// One cell.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum Cell {
    /// A number: its digits as one integer, and how many of them are decimals.
    Number(i64, u8),
    /// Anything else; empty: nothing.
    Text(String),
}

impl Cell {
    /// Reads a cell. Only what is written back the same is a number.
    pub fn read(text: &str) -> Self {
        let number = || -> Option<Self> {
            let (whole, decimals) = text.split_once('.').map_or((text, ""), |(w, d)| (w, d));
            if text.len() > 15 || text.contains('.') && decimals.is_empty() {
                return None;
            }
            let digits: i64 = format!("{whole}{decimals}").parse().ok()?;
            let number = Self::Number(digits, u8::try_from(decimals.len()).ok()?);
            (number.write() == text).then_some(number)
        };
        number().unwrap_or_else(|| Self::Text(text.to_owned()))
    }

    /// Writes it.
    pub fn write(&self) -> String {
        match self {
            Self::Text(text) => text.clone(),
            Self::Number(digits, 0) => digits.to_string(),
            Self::Number(digits, decimals) => {
                let sign = if *digits < 0 { "-" } else { "" };
                let scale = 10u64.saturating_pow(u32::from(*decimals));
                let digits = digits.unsigned_abs();
                format!("{sign}{}.{:0width$}", digits / scale, digits % scale, width = usize::from(*decimals))
            }
        }
    }

    fn tenths(tenths: i32) -> Self {
        if tenths % 10 == 0 { Self::Number(i64::from(tenths / 10), 0) } else { Self::Number(i64::from(tenths), 1) }
    }

    fn empty() -> Self {
        Self::Text(String::new())
    }

    fn text(text: &str) -> Self {
        Self::Text(text.to_owned())
    }
}

/// How the file is written.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Layout {
    /// Lines before the header, as they stand.
    pub before: Vec<String>,
    /// The header.
    pub columns: Vec<String>,
    /// Lines end with CR LF.
    pub crlf: bool,
    /// The file begins with a byte order mark.
    pub bom: bool,
    /// The last line ends like the others.
    pub final_newline: bool,
}

impl Default for Layout {
    fn default() -> Self {
        Self {
            before: vec!["#,Thermostat,identifier,vestibule".to_owned(), "#,Thermostat,name,Thermostat".to_owned()],
            columns: COLUMNS.iter().map(|c| (*c).to_owned()).collect(),
            crlf: false,
            bom: false,
            final_newline: true,
        }
    }
}

/// A sheet.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Sheet {
    /// How it is written.
    pub layout: Layout,
    /// Its rows: date, time, and the rest.
    pub rows: Vec<Vec<Cell>>,
}

/// Which file it was.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Origin {
    /// ecobee's web portal.
    Ecobee,
    /// Home Assistant's history panel.
    HomeAssistant,
    /// beestat's download.
    Beestat,
}

/// A file that is none of them.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ArchiveError {
    /// No header is known.
    #[error(
        "the file is none that is known: ecobee's export has a line that begins with Date,Time; Home Assistant's history \
         begins with entity_id,state,last_changed; beestat's download begins with Timestamp"
    )]
    Unknown,
    /// Too large.
    #[error("the file has more than {COLUMNS_MAX} columns or {ROWS_MAX} rows")]
    TooLarge,
    /// A line that can't be read.
    #[error("line {line}: {why}")]
    Line {
        /// Which.
        line: usize,
        /// Why.
        why: String,
    },
}

/// The cells of a line. A quote that is not closed ends with it.
fn split(line: &str) -> Vec<String> {
    let mut cells = Vec::new();
    let mut cell = String::new();
    let mut quoted = false;
    let mut chars = line.chars().peekable();
    while let Some(c) = chars.next() {
        match c {
            '"' if quoted && chars.peek() == Some(&'"') => {
                cell.push('"');
                chars.next();
            }
            '"' if quoted || cell.is_empty() => quoted = !quoted,
            ',' if !quoted => cells.push(std::mem::take(&mut cell)),
            c => cell.push(c),
        }
    }
    cells.push(cell);
    cells
}

fn join(cells: impl Iterator<Item = String>) -> String {
    let quoted = cells.map(|cell| {
        let needs = cell.contains([',', '"']);
        if needs { format!("\"{}\"", cell.replace('"', "\"\"")) } else { cell }
    });
    quoted.collect::<Vec<_>>().join(",")
}

impl Sheet {
    /// Reads a file of any of the three kinds. `zone` is the home's, for those that write UTC.
    ///
    /// # Errors
    /// When it is none of them, or too large.
    pub fn read(text: &str, zone: &TimeZone) -> Result<(Self, Origin), ArchiveError> {
        let (body, bom) = text.strip_prefix(BOM).map_or((text, false), |rest| (rest, true));
        let first = split(body.lines().next().unwrap_or("")).iter().map(|c| c.to_ascii_lowercase()).collect::<Vec<_>>();
        let begins = |names: &[&str]| names.iter().enumerate().all(|(i, n)| first.get(i).is_some_and(|c| c == n));
        if begins(&["entity_id", "state", "last_changed"]) {
            return Ok((home_assistant(body, zone)?, Origin::HomeAssistant));
        }
        if begins(&["timestamp"]) {
            return Ok((beestat(body)?, Origin::Beestat));
        }
        Ok((ecobee(body, bom)?, Origin::Ecobee))
    }

    /// Writes the file.
    pub fn write(&self) -> String {
        let end = if self.layout.crlf { "\r\n" } else { "\n" };
        let mut text = String::new();
        if self.layout.bom {
            text.push(BOM);
        }
        let header = join(self.layout.columns.iter().cloned());
        let rows = self.rows.iter().map(|row| join(row.iter().map(Cell::write)));
        for line in self.layout.before.iter().cloned().chain([header]).chain(rows) {
            text.push_str(&line);
            text.push_str(end);
        }
        if !self.layout.final_newline {
            text.truncate(text.len() - end.len());
        }
        text
    }

    /// The local time of a row as it is written, by which rows are told apart.
    pub fn key(row: &[Cell]) -> String {
        row.iter().take(2).map(Cell::write).collect::<Vec<_>>().join(" ")
    }

    /// Adds an interval of our own.
    pub fn push(&mut self, interval: &Interval, zone: &TimeZone) {
        let instant = jiff::Timestamp::from_millisecond(interval.at_ms).unwrap_or(jiff::Timestamp::UNIX_EPOCH);
        let at = zone.to_datetime(instant);
        let cells = self.layout.columns.iter().map(|column| own_cell(column, interval, at)).collect();
        self.rows.push(cells);
    }
}

fn own_cell(column: &str, i: &Interval, at: DateTime) -> Cell {
    let celsius = column.ends_with("(C)");
    let temp = |t: Option<crate::Temp>| {
        t.map_or_else(Cell::empty, |t| Cell::tenths(if celsius { t.tenths_c() } else { t.tenths_f() }))
    };
    let seconds = |s: u16| Cell::Number(i64::from(s), 0);
    match column.trim_end_matches(" (C)").trim_end_matches(" (F)") {
        "Date" => Cell::Text(at.date().to_string()),
        "Time" => Cell::Text(format!("{:02}:{:02}:00", at.hour(), at.minute())),
        "System Setting" => Cell::text(i.mode.as_str()),
        "System Mode" => Cell::text(system_mode(i)),
        "Calendar Event" => Cell::text(calendar_event(i)),
        "Program Mode" => Cell::Text(i.climate.0.clone()),
        "Cool Set Temp" => temp(Some(i.cool)),
        "Heat Set Temp" => temp(Some(i.heat)),
        "Current Temp" => temp(i.temperature),
        "Current Humidity (%RH)" => i.humidity.map_or_else(Cell::empty, |h| Cell::Number(i64::from(h), 0)),
        "Outdoor Temp" => temp(i.outdoor),
        "Cool Stage 1 (sec)" => seconds(i.cool1_s),
        "Cool Stage 2 (sec)" => seconds(i.cool2_s),
        "Heat Stage 1 (sec)" => seconds(i.heat1_s),
        "Heat Stage 2 (sec)" => seconds(i.heat2_s),
        "Aux Heat 1 (sec)" => seconds(i.aux_s),
        "Fan (sec)" => seconds(i.fan_s),
        "Humidifier (sec)" => seconds(i.humidifier_s),
        "Dehumidifier (sec)" => seconds(i.dehumidifier_s),
        "Ventilator (sec)" => seconds(i.ventilator_s),
        _ => Cell::empty(),
    }
}

fn system_mode(i: &Interval) -> &'static str {
    let stages = [
        (i.cool2_s, "compressorCoolStage2On"),
        (i.cool1_s, "compressorCoolStage1On"),
        (i.aux_s, "auxHeatStage1On"),
        (i.heat2_s, "heatStage2On"),
        (i.heat1_s, "heatStage1On"),
    ];
    let on = stages.into_iter().find(|(s, _)| *s > 0).map(|(_, word)| word);
    on.unwrap_or(if i.mode.cools() { "compressorCoolOff" } else { "heatOff" })
}

fn calendar_event(i: &Interval) -> &'static str {
    match i.event {
        None if i.smart_recovery => "(SmartRecovery)",
        None => "",
        Some(EventType::Hold) => "hold",
        Some(EventType::Vacation) => "vacation",
        Some(EventType::QuickSave) => "quickSave",
        Some(EventType::DemandResponse) => "demandResponse",
        Some(EventType::Sensor) => "sensor",
        Some(EventType::AutoAway) => "autoAway",
        Some(EventType::AutoHome) => "autoHome",
    }
}

fn ecobee(body: &str, bom: bool) -> Result<Sheet, ArchiveError> {
    let crlf = body.contains("\r\n");
    let mut lines = body.split('\n').map(|l| l.strip_suffix('\r').unwrap_or(l)).collect::<Vec<_>>();
    let final_newline = lines.last().is_some_and(|l| l.is_empty());
    if final_newline {
        lines.pop();
    }
    let is_header = |line: &&str| {
        let lower = line.to_ascii_lowercase();
        lower.starts_with("date,time")
    };
    let header = lines.iter().take(BEFORE_MAX).position(is_header).ok_or(ArchiveError::Unknown)?;
    let columns = split(lines.get(header).copied().unwrap_or(""));
    if columns.len() > COLUMNS_MAX || lines.len() > ROWS_MAX {
        return Err(ArchiveError::TooLarge);
    }
    let before = lines.iter().take(header).map(|l| (*l).to_owned()).collect();
    let rows = lines.iter().skip(header + 1).map(|line| split(line).iter().map(|c| Cell::read(c)).collect()).collect();
    Ok(Sheet { layout: Layout { before, columns, crlf, bom, final_newline }, rows })
}

/// Builds a sheet row by row from values by name.
fn sheet_of(name: &str, celsius: bool, extra: &[String], rows: Vec<(DateTime, BTreeMap<String, Cell>)>) -> Sheet {
    let unit = |column: &str| if celsius { column.replace("(F)", "(C)") } else { column.to_owned() };
    let mut columns: Vec<String> = COLUMNS.iter().map(|c| unit(c)).collect();
    columns.extend(extra.iter().map(|c| unit(c)));
    let before = vec![format!("#,Thermostat,identifier,{name}"), format!("#,Thermostat,name,{name}")];
    let rows = rows
        .into_iter()
        .map(|(at, values)| {
            let cell = |column: &String| match column.as_str() {
                "Date" => Cell::Text(at.date().to_string()),
                "Time" => Cell::Text(format!("{:02}:{:02}:00", at.hour(), at.minute())),
                other => values.get(&other.replace("(C)", "(F)")).cloned().unwrap_or_else(Cell::empty),
            };
            columns.iter().map(cell).collect()
        })
        .collect();
    Sheet { layout: Layout { before, columns: columns.clone(), ..Layout::default() }, rows }
}

/// beestat's download: local times, and stages that don't overlap.
fn beestat(body: &str) -> Result<Sheet, ArchiveError> {
    let mut lines = body.lines().enumerate();
    let header = lines.next().map(|(_, l)| split(l)).unwrap_or_default();
    if header.len() > COLUMNS_MAX {
        return Err(ArchiveError::TooLarge);
    }
    let mut extra = Vec::new();
    for column in &header {
        if let Some(sensor) = column.strip_suffix(" - Temperature") {
            extra.push(format!("{sensor} (F)"));
        } else if let Some(sensor) = column.strip_suffix(" - Occupancy") {
            extra.push(format!("{sensor}2"));
        }
    }
    let mut rows = Vec::new();
    let mut warmest = f64::MIN;
    for (index, line) in lines {
        if rows.len() >= ROWS_MAX {
            return Err(ArchiveError::TooLarge);
        }
        let cells = split(line);
        let get = |name: &str| {
            let at = header.iter().position(|h| h.eq_ignore_ascii_case(name))?;
            cells.get(at).map(|c| c.trim()).filter(|c| !c.is_empty())
        };
        let Some(text) = get("Timestamp") else { continue };
        let at: DateTime = text
            .replace(' ', "T")
            .parse()
            .map_err(|_| ArchiveError::Line { line: index + 1, why: format!("{text:?} is no time") })?;
        let mut values = BTreeMap::new();
        let mut put = |column: &str, text: Option<&str>| {
            if let Some(text) = text {
                values.insert(column.to_owned(), Cell::read(text));
            }
        };
        let number = |name: &str| get(name).and_then(|c| c.parse::<f64>().ok());
        put("Current Temp (F)", get("Indoor Temperature"));
        put("Outdoor Temp (F)", get("Outdoor Temperature"));
        put("Current Humidity (%RH)", get("Indoor Humidity"));
        put("Cool Set Temp (F)", get("Setpoint Cool"));
        put("Heat Set Temp (F)", get("Setpoint Heat"));
        put("Calendar Event", get("Event"));
        put("Program Mode", get("Climate"));
        put("System Setting", get("System Mode").map(|m| if m == "auxiliary_heat" { "auxHeatOnly" } else { m }));
        put("Fan (sec)", get("Fan"));
        warmest = warmest.max(number("Indoor Temperature").unwrap_or(f64::MIN));
        let stage = |name: &str| number(name).unwrap_or(0.0);
        // There, the first stage does not count while the second runs; at ecobee it does.
        let both = ((stage("Compressor 1") + stage("Compressor 2")) as i64).to_string();
        let second = (stage("Compressor 2") as i64).to_string();
        match get("Compressor Mode") {
            Some("cool") => {
                put("Cool Stage 1 (sec)", Some(&both));
                put("Cool Stage 2 (sec)", Some(&second));
            }
            Some("heat") => {
                put("Heat Stage 1 (sec)", Some(&both));
                put("Heat Stage 2 (sec)", Some(&second));
            }
            _ => {
                put("Cool Stage 1 (sec)", Some("0"));
                put("Heat Stage 1 (sec)", Some("0"));
            }
        }
        let aux = ((stage("Auxiliary Heat 1") + stage("Auxiliary Heat 2")) as i64).to_string();
        put("Aux Heat 1 (sec)", Some(&aux));
        for kind in ["Humidifier", "Dehumidifier", "Ventilator"] {
            if get("Accessory Type").is_some_and(|t| t.eq_ignore_ascii_case(kind)) {
                put(&format!("{kind} (sec)"), get("Accessory"));
            }
        }
        for column in &header {
            if let Some(sensor) = column.strip_suffix(" - Temperature") {
                put(&format!("{sensor} (F)"), get(column));
            } else if let Some(sensor) = column.strip_suffix(" - Occupancy") {
                put(
                    &format!("{sensor}2"),
                    get(column).map(|c| if c == "0" || c.eq_ignore_ascii_case("false") { "0" } else { "1" }),
                );
            }
        }
        rows.push((at, values));
    }
    Ok(sheet_of("beestat", warmest < 45.0, &extra, rows))
}

/// Where an entity of Home Assistant belongs, by its id.
enum Place {
    Value(&'static str),
    Runs(&'static str),
    Mode,
    Sensor(String),
}

fn place(entity: &str) -> Option<Place> {
    let (domain, name) = entity.split_once('.')?;
    let has = |words: &[&str]| words.iter().any(|w| name.contains(w));
    match domain {
        "climate" => Some(Place::Mode),
        "switch" | "binary_sensor" | "fan" | "humidifier" => {
            if has(&["aux"]) {
                Some(Place::Runs("Aux Heat 1 (sec)"))
            } else if has(&["cool", "compressor", "air_condition"]) || name.ends_with("_ac") || name == "ac" {
                Some(Place::Runs("Cool Stage 1 (sec)"))
            } else if has(&["heat", "furnace", "boiler"]) {
                Some(Place::Runs("Heat Stage 1 (sec)"))
            } else if has(&["dehumidifier"]) {
                Some(Place::Runs("Dehumidifier (sec)"))
            } else if has(&["humidifier"]) {
                Some(Place::Runs("Humidifier (sec)"))
            } else if has(&["ventilat"]) {
                Some(Place::Runs("Ventilator (sec)"))
            } else if has(&["fan"]) {
                Some(Place::Runs("Fan (sec)"))
            } else {
                None
            }
        }
        "sensor" | "number" | "input_number" | "weather" => {
            let outdoors = has(&["outdoor", "outside"]);
            if has(&["humid"]) {
                (!outdoors).then_some(Place::Value("Current Humidity (%RH)"))
            } else if has(&["setpoint", "set_point", "target"]) {
                Some(Place::Value(if has(&["cool"]) { "Cool Set Temp (F)" } else { "Heat Set Temp (F)" }))
            } else if outdoors && has(&["temp"]) {
                Some(Place::Value("Outdoor Temp (F)"))
            } else if has(&["current_temp", "indoor", "thermostat_temp", "hall"]) {
                Some(Place::Value("Current Temp (F)"))
            } else if has(&["temp"]) {
                Some(Place::Sensor(name.to_owned()))
            } else {
                None
            }
        }
        _ => None,
    }
}

/// Home Assistant's history: one line for each change, in UTC; between them a value holds.
fn home_assistant(body: &str, zone: &TimeZone) -> Result<Sheet, ArchiveError> {
    let mut changes: BTreeMap<String, Vec<(i64, String)>> = BTreeMap::new();
    for (index, line) in body.lines().enumerate().skip(1) {
        let cells = split(line);
        let [entity, state, changed, ..] = cells.as_slice() else { continue };
        let at = changed.trim().replacen(' ', "T", 1).parse::<jiff::Timestamp>();
        let at = at.map_err(|_| ArchiveError::Line { line: index + 1, why: format!("{changed:?} is no time") })?;
        changes.entry(entity.trim().to_owned()).or_default().push((at.as_second(), state.trim().to_owned()));
    }
    let times = changes.values().flatten().map(|(at, _)| *at);
    let (Some(first), Some(last)) = (times.clone().min(), times.max()) else {
        return Ok(Sheet::default());
    };
    let first = first - first.rem_euclid(ROW_S);
    let count = usize::try_from((last - first) / ROW_S + 1).unwrap_or(usize::MAX);
    if count > ROWS_MAX {
        return Err(ArchiveError::TooLarge);
    }
    let mut table: Vec<BTreeMap<String, Cell>> = vec![BTreeMap::new(); count];
    let mut extra: Vec<String> = Vec::new();
    let (mut sum, mut seen) = (0.0, 0u32);
    for (entity, list) in &mut changes {
        let Some(place) = place(entity) else { continue };
        list.sort();
        if let Place::Sensor(name) = &place {
            if extra.len() >= COLUMNS_MAX / 2 {
                return Err(ArchiveError::TooLarge);
            }
            extra.push(format!("{name} (F)"));
        }
        for (index, row) in table.iter_mut().enumerate() {
            let start = first + ROW_S * i64::try_from(index).unwrap_or(0);
            let held = list.partition_point(|(at, _)| *at <= start).checked_sub(1).and_then(|i| list.get(i));
            match &place {
                Place::Runs(column) => {
                    let seconds = on_seconds(list, start, start + ROW_S);
                    let old = match row.get(*column) {
                        Some(Cell::Number(s, 0)) => *s,
                        _ => 0,
                    };
                    row.insert((*column).to_owned(), Cell::Number(old.max(seconds), 0));
                }
                Place::Mode => {
                    let mode = held.map(|(_, state)| if state == "heat_cool" { "auto" } else { state.as_str() });
                    if let Some(mode) = mode.filter(|m| crate::HvacMode::parse(m).is_some()) {
                        row.insert("System Setting".to_owned(), Cell::text(mode));
                    }
                }
                Place::Value(_) | Place::Sensor(_) => {
                    let fresh = held.filter(|(at, _)| start - at <= HELD_MAX_S);
                    let Some(number) = fresh.and_then(|(_, s)| s.parse::<f64>().ok()).filter(|n| n.is_finite()) else {
                        continue;
                    };
                    let column = match &place {
                        Place::Value(column) => (*column).to_owned(),
                        _ => extra.last().cloned().unwrap_or_default(),
                    };
                    if column == "Current Temp (F)" || column.starts_with(|c: char| c.is_lowercase()) {
                        (sum, seen) = (sum + number, seen + 1);
                    }
                    row.insert(column, Cell::tenths((number * 10.0).round() as i32));
                }
            }
        }
    }
    let celsius = seen == 0 || sum / f64::from(seen) < 45.0;
    let mut rows = Vec::with_capacity(count);
    for (index, values) in table.into_iter().enumerate() {
        let second = first + ROW_S * i64::try_from(index).unwrap_or(0);
        let at = zone.to_datetime(jiff::Timestamp::from_second(second).unwrap_or(jiff::Timestamp::UNIX_EPOCH));
        // In the order of time: the hour that clocks repeat stands twice, one after the other.
        rows.push((at, values));
    }
    Ok(sheet_of("home assistant", celsius, &extra, rows))
}

/// Seconds in `from..to` in which an entity was on.
fn on_seconds(list: &[(i64, String)], from: i64, to: i64) -> i64 {
    let is_on = |state: &str| matches!(state, "on" | "heating" | "cooling" | "true" | "1");
    let mut on = 0;
    let begin = list.partition_point(|(at, _)| *at <= from).saturating_sub(1);
    for (index, (at, state)) in list.iter().enumerate().skip(begin).take_while(|(_, (at, _))| *at < to) {
        let until = list.get(index + 1).map_or(to, |(next, _)| *next).min(to);
        if is_on(state) {
            on += (until - (*at).max(from)).max(0);
        }
    }
    on.min(to - from)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const PORTAL: &str = "#,Thermostat,identifier,1,,\n#,Start,date,6/9/23,,\n,,,,\n\
        Date,Time,System Setting,Cool Set Temp (F),Current Temp (F)\n\
        6/9/23,0:00:00,cool,76,70.7\n6/9/23,0:05:00,cool,-0.5,07\n6/9/23,0:10:00,\"a, \"\"b\"\"\",,1.50";

    #[test]
    fn a_file_comes_out_as_it_went_in() {
        for text in [PORTAL.to_owned(), format!("{PORTAL}\n"), format!("\u{feff}{}", PORTAL.replace('\n', "\r\n"))] {
            let (sheet, origin) = Sheet::read(&text, &TimeZone::UTC).unwrap();
            assert_eq!((origin, sheet.rows.len()), (Origin::Ecobee, 3));
            assert_eq!(sheet.rows[0][4], Cell::Number(707, 1));
            assert_eq!(sheet.write(), text);
        }
        assert_eq!(Sheet::read("a,b\n1,2\n", &TimeZone::UTC), Err(ArchiveError::Unknown));
    }

    proptest! {
        #[test]
        fn every_cell_is_written_as_it_was_read(text in "[-+0-9.a-z ]{0,8}") {
            prop_assert_eq!(Cell::read(&text).write(), text);
        }
    }

    #[test]
    fn home_assistants_changes_become_rows() {
        let text = "entity_id,state,last_changed\n\
            sensor.hall_temperature,20.5,2024-10-27T00:00:00.000Z\n\
            switch.boiler,on,2024-10-27T00:06:00.000Z\nswitch.boiler,off,2024-10-27T00:12:00.000Z\n\
            climate.home,heat,2024-10-27T00:00:00.000Z\nsensor.outdoor_temp,unavailable,2024-10-27T02:00:00.000Z\n";
        let (sheet, origin) = Sheet::read(text, &TimeZone::get("Europe/Berlin").unwrap()).unwrap();
        assert_eq!(origin, Origin::HomeAssistant);
        let column = |name: &str| sheet.layout.columns.iter().position(|c| c == name).unwrap();
        let heat: Vec<i64> = sheet
            .rows
            .iter()
            .map(|r| match r[column("Heat Stage 1 (sec)")] {
                Cell::Number(s, 0) => s,
                _ => -1,
            })
            .collect();
        assert_eq!((&heat[..4], heat.len()), (&[0, 240, 120, 0][..], 25));
        assert_eq!(sheet.rows[3][column("Current Temp (C)")], Cell::Number(205, 1));
        assert_eq!(sheet.rows[3][column("System Setting")], Cell::text("heat"));
        // Clocks go back at 1:00 UTC: 2:00 stands twice.
        assert_eq!(sheet.rows.iter().filter(|r| Sheet::key(r) == "2024-10-27 02:00:00").count(), 2);
    }

    #[test]
    fn beestats_stages_add_up() {
        let text = "Timestamp,\"Compressor Mode\",\"Compressor 1\",\"Compressor 2\",\"Auxiliary Heat 1\",\"Auxiliary Heat 2\",\
            Fan,\"Accessory Type\",Accessory,\"System Mode\",\"Indoor Temperature\",\"Indoor Humidity\",\"Outdoor Temperature\",\
            Event,Climate,\"Setpoint Cool\",\"Setpoint Heat\",\"Den - Temperature\",\"Den - Occupancy\"\n\
            \"2024-07-01 12:00:00\",cool,100,200,0,0,300,off,0,cool,75.2,50,90,,Home,74,,76.1,1\n\"2024-07-01 12:05:00\"\n";
        let (sheet, origin) = Sheet::read(text, &TimeZone::UTC).unwrap();
        assert_eq!((origin, sheet.rows.len()), (Origin::Beestat, 2));
        let cell = |name: &str| &sheet.rows[0][sheet.layout.columns.iter().position(|c| c == name).unwrap()];
        assert_eq!(*cell("Cool Stage 1 (sec)"), Cell::Number(300, 0));
        assert_eq!(*cell("Cool Stage 2 (sec)"), Cell::Number(200, 0));
        assert_eq!(*cell("Den (F)"), Cell::Number(761, 1));
        assert_eq!(*cell("Den2"), Cell::Number(1, 0));
        assert_eq!(*cell("Current Temp (F)"), Cell::Number(752, 1));
    }
}
