//! Reads the CSV that ecobee's web portal exports, with its oddities.
//!
//! Some lines of preamble (five, in today's exports) stand before the header; columns exist only for what is
//! installed; temperatures are in °F or °C as the header says, whatever the other columns use; remote sensors come as
//! `Name (F)` and `Name2` (motion); lines at the end have a date and no values; a spreadsheet on the way may have
//! changed the dates. Units are not converted here: a device says what it says, and the hub converts.

use std::io::BufRead;

use jiff::civil::{Date, DateTime, Time};

/// Longest line taken, bytes. A longer one is reported and skipped.
const MAX_LINE_BYTES: usize = 64 * 1024;
/// How many lines may stand before the header.
const MAX_PREAMBLE_LINES: u64 = 50;
/// Most columns of a recording; more are no ecobee export.
const MAX_COLUMNS: usize = 512;
/// Most remote sensors (a thermostat takes 32).
const MAX_SENSORS: usize = 64;
/// Years below this written with two digits are of this century.
const PIVOT_YEAR: i16 = 70;

/// The scale of the recording's temperatures.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scale {
    /// °C.
    Celsius,
    /// °F.
    Fahrenheit,
}

/// What the header says: which quantity stands in which column.
#[derive(Clone, Debug)]
pub struct Layout {
    /// The thermostat's name, from the preamble.
    pub name: String,
    /// The thermostat's identifier, from the preamble; empty when there is none.
    pub identifier: String,
    /// The scale of all temperatures.
    pub scale: Scale,
    /// Names of the sensors in the order of [`Row::sensors`]. The first may be the thermostat's own.
    pub sensors: Vec<String>,
    /// Header cells of columns that are not read.
    pub ignored: Vec<String>,
    columns: Columns,
    order: DateOrder,
}

/// One line of a recording. `None`: the cell is empty or the column doesn't exist.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Row {
    /// Line number in the file, from 1.
    pub line: u64,
    /// Local time at the start of the interval.
    pub time: DateTime,
    /// The thermostat's mode, in ecobee's words: `heat`, `cool`, `auto`, `auxHeatOnly`, `off`.
    pub system_setting: Option<String>,
    /// What the equipment did, in ecobee's words: `compressorCoolStage1On`, `heatOff`, ...
    pub system_mode: Option<String>,
    /// Why the set point is what it is: `hold`, `auto`, `(SmartRecovery)`, a vacation's name.
    pub event: Option<String>,
    /// The comfort setting of the program: `Home`, `Away`, `Sleep` or the household's own.
    pub program: Option<String>,
    /// Cooling set point; in the interval of a change it is a blend of old and new.
    pub cool_set_point: Option<f64>,
    /// Heating set point, blended likewise.
    pub heat_set_point: Option<f64>,
    /// The temperature that the thermostat controls: an average over the sensors that take part.
    pub temperature: Option<f64>,
    /// Relative humidity, %.
    pub humidity: Option<f64>,
    /// Outdoor temperature of a weather service.
    pub outdoor: Option<f64>,
    /// Seconds of the interval in which any heating stage ran; `None` without such a column.
    pub heating_s: Option<f64>,
    /// Seconds of the interval in which any cooling stage ran.
    pub cooling_s: Option<f64>,
    /// Seconds of the interval in which the fan ran.
    pub fan_s: Option<f64>,
    /// Carbon dioxide, ppm.
    pub co2: Option<f64>,
    /// Volatile organic compounds, in the header's unit (ppm).
    pub voc: Option<f64>,
    /// One for each name in [`Layout::sensors`].
    pub sensors: Vec<SensorRow>,
}

/// What one sensor says in a row.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct SensorRow {
    /// Temperature, in the recording's scale.
    pub temperature: Option<f64>,
    /// Motion seen in the interval.
    pub motion: Option<bool>,
}

/// A file that is no ecobee export, or can't be read at all.
#[derive(Debug, thiserror::Error)]
pub enum HeaderError {
    /// Reading failed.
    #[error("the recording can't be read: {0}")]
    Io(#[from] std::io::Error),
    /// No header line.
    #[error(
        "no header found in the first {MAX_PREAMBLE_LINES} lines: an ecobee export has a line that starts with \
         Date,Time (download it from the web portal under Home IQ)"
    )]
    Missing,
    /// Too many columns.
    #[error("line {line}: {columns} columns; an ecobee export has at most {MAX_COLUMNS}")]
    TooWide {
        /// Line number of the header.
        line: u64,
        /// How many columns it has.
        columns: usize,
    },
    /// Too many sensors.
    #[error("line {line}: more than {MAX_SENSORS} sensors")]
    TooManySensors {
        /// Line number of the header.
        line: u64,
    },
    /// Temperatures in both scales.
    #[error("line {line}: temperatures in both (C) and (F); export the recording again in one unit")]
    MixedScales {
        /// Line number of the header.
        line: u64,
    },
}

/// A line that can't be read.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("line {line}: {reason}")]
pub struct LineError {
    /// Line number in the file, from 1.
    pub line: u64,
    /// What is wrong with it.
    pub reason: String,
}

/// Reads the preamble and the header; what is left is an iterator over the rows. Lines that are blank altogether are
/// passed over; lines that can't be read come as errors, and reading goes on after them.
///
/// # Errors
/// When the reader fails or the file is no ecobee export.
pub fn parse<R: BufRead>(reader: R) -> Result<Rows<R>, HeaderError> {
    let mut lines = Lines { reader, number: 0, failed: false };
    let (mut name, mut identifier) = (String::new(), String::new());
    let mut dates = Vec::new();
    while lines.number < MAX_PREAMBLE_LINES {
        let Some(line) = lines.next() else { break };
        let cells = match line {
            Ok(line) => cells(&line),
            Err(Unreadable::Io(error)) => return Err(error.into()),
            Err(Unreadable::TooLong) => continue,
        };
        let cell = |index: usize| cells.get(index).map_or("", String::as_str);
        if cell(0).eq_ignore_ascii_case("date") && cell(1).eq_ignore_ascii_case("time") {
            let layout = Layout::from_header(lines.number, &cells, name, identifier, DateOrder::guess(&dates))?;
            return Ok(Rows { layout, lines });
        }
        match (cell(1).to_ascii_lowercase().as_str(), cell(2).to_ascii_lowercase().as_str()) {
            ("thermostat", "name") => name = cell(3).to_owned(),
            ("thermostat", "identifier") => identifier = cell(3).to_owned(),
            (_, "date") => dates.push(cell(3).to_owned()),
            _ => {}
        }
    }
    Err(HeaderError::Missing)
}

/// The rows of a recording: see [`parse`].
#[derive(Debug)]
pub struct Rows<R> {
    layout: Layout,
    lines: Lines<R>,
}

impl<R> Rows<R> {
    /// What the header says.
    pub fn layout(&self) -> &Layout {
        &self.layout
    }
}

impl<R: BufRead> Iterator for Rows<R> {
    type Item = Result<Row, LineError>;

    fn next(&mut self) -> Option<Self::Item> {
        loop {
            let line = self.lines.next()?;
            let number = self.lines.number;
            let failed = |reason| Some(Err(LineError { line: number, reason }));
            let line = match line {
                Ok(line) => line,
                Err(Unreadable::TooLong) => return failed(format!("longer than {MAX_LINE_BYTES} bytes")),
                Err(Unreadable::Io(error)) => return failed(format!("reading stopped here: {error}")),
            };
            let cells = cells(&line);
            if cells.iter().all(String::is_empty) {
                continue;
            }
            return match self.layout.row(number, &cells) {
                Ok(row) => Some(Ok(row)),
                Err(reason) => failed(reason),
            };
        }
    }
}

impl Row {
    /// True when the line has a value of the control temperature.
    pub fn has_control_temperature(&self) -> bool {
        self.temperature.is_some()
    }

    /// True when the outdoor temperature is all that the line has.
    pub fn has_outdoor_only(&self) -> bool {
        self.outdoor.is_some()
            && self.temperature.is_none()
            && self.humidity.is_none()
            && self.system_setting.is_none()
            && self.cool_set_point.is_none()
            && self.heat_set_point.is_none()
            && self.sensors.iter().all(|s| s.temperature.is_none() && s.motion.is_none())
    }
}

/// Positions of what is read.
#[derive(Clone, Debug, Default)]
struct Columns {
    system_setting: Option<usize>,
    system_mode: Option<usize>,
    event: Option<usize>,
    program: Option<usize>,
    cool_set_point: Option<usize>,
    heat_set_point: Option<usize>,
    temperature: Option<usize>,
    humidity: Option<usize>,
    outdoor: Option<usize>,
    heating: Vec<usize>,
    cooling: Vec<usize>,
    fan: Option<usize>,
    co2: Option<usize>,
    voc: Option<usize>,
    /// Temperature and motion of each sensor.
    sensors: Vec<(Option<usize>, Option<usize>)>,
    /// How many columns the header has.
    count: usize,
    header: Vec<String>,
}

impl Layout {
    fn from_header(
        line: u64,
        header: &[String],
        name: String,
        identifier: String,
        order: DateOrder,
    ) -> Result<Self, HeaderError> {
        if header.len() > MAX_COLUMNS {
            return Err(HeaderError::TooWide { line, columns: header.len() });
        }
        let mut columns = Columns { count: header.len(), header: header.to_vec(), ..Columns::default() };
        let mut sensors: Vec<String> = Vec::new();
        let mut ignored = Vec::new();
        let (mut celsius, mut fahrenheit) = (false, false);
        for (index, cell) in header.iter().enumerate().skip(2) {
            let (title, scale) = match (cell.strip_suffix("(C)"), cell.strip_suffix("(F)")) {
                (Some(title), _) => (title.trim_end(), Some(Scale::Celsius)),
                (_, Some(title)) => (title.trim_end(), Some(Scale::Fahrenheit)),
                _ => (cell.as_str(), None),
            };
            celsius |= scale == Some(Scale::Celsius);
            fahrenheit |= scale == Some(Scale::Fahrenheit);
            match (title, scale) {
                ("System Setting", _) => columns.system_setting = Some(index),
                ("System Mode", _) => columns.system_mode = Some(index),
                ("Calendar Event", _) => columns.event = Some(index),
                ("Program Mode", _) => columns.program = Some(index),
                ("Cool Set Temp", Some(_)) => columns.cool_set_point = Some(index),
                ("Heat Set Temp", Some(_)) => columns.heat_set_point = Some(index),
                ("Current Temp", Some(_)) => columns.temperature = Some(index),
                ("Current Humidity (%RH)", _) => columns.humidity = Some(index),
                ("Outdoor Temp", Some(_)) => columns.outdoor = Some(index),
                ("Fan (sec)", _) => columns.fan = Some(index),
                ("Thermostat CO2ppm", _) => columns.co2 = Some(index),
                ("Thermostat VOCppm", _) => columns.voc = Some(index),
                // "Thermostat" is the thermostat's own sensor, one among those that control.
                ("Thermostat Temperature", Some(_)) => {
                    sensors.push("Thermostat".to_owned());
                    columns.sensors.push((Some(index), None));
                }
                ("Thermostat Motion", _) => match sensors.iter().position(|s| s == "Thermostat") {
                    Some(own) => columns.sensors.get_mut(own).into_iter().for_each(|s| s.1 = Some(index)),
                    None => {
                        sensors.push("Thermostat".to_owned());
                        columns.sensors.push((None, Some(index)));
                    }
                },
                (title, _) if title.ends_with("(sec)") && title.contains("Cool") => columns.cooling.push(index),
                (title, _) if title.ends_with("(sec)") && title.contains("Heat") => columns.heating.push(index),
                (title, Some(_)) if !title.is_empty() => {
                    sensors.push(title.to_owned());
                    columns.sensors.push((Some(index), None));
                }
                (title, None) => {
                    // The motion of a sensor stands right after its temperature, under its name and a 2.
                    let motion_of = title.strip_suffix('2').map(str::trim_end);
                    match (motion_of, sensors.last(), columns.sensors.last_mut()) {
                        (Some(of), Some(last), Some(sensor)) if of == last => sensor.1 = Some(index),
                        _ if title.is_empty() => {}
                        _ => ignored.push(cell.clone()),
                    }
                }
                _ => ignored.push(cell.clone()),
            }
        }
        if sensors.len() > MAX_SENSORS {
            return Err(HeaderError::TooManySensors { line });
        }
        if celsius && fahrenheit {
            return Err(HeaderError::MixedScales { line });
        }
        let scale = if celsius { Scale::Celsius } else { Scale::Fahrenheit };
        let name = if name.is_empty() { "Thermostat".to_owned() } else { name };
        Ok(Self { name, identifier, scale, sensors, ignored, columns, order })
    }

    fn row(&self, line: u64, cells: &[String]) -> Result<Row, String> {
        let columns = &self.columns;
        // A spreadsheet may drop empty cells at the end of a line, or add some; it doesn't add values.
        if let Some(extra) = cells.iter().skip(columns.count).find(|cell| !cell.is_empty()) {
            return Err(format!("{extra:?} stands beyond the last of {} columns", columns.count));
        }
        let cell = |index: usize| cells.get(index).map(String::as_str).filter(|cell| !cell.is_empty());
        let text = |index: Option<usize>| index.and_then(cell).map(str::to_owned);
        let number = |index: Option<usize>| match index.and_then(|i| cell(i).map(|text| (i, text))) {
            None => Ok(None),
            Some((i, text)) => match text.parse::<f64>() {
                Ok(value) if value.is_finite() => Ok(Some(value)),
                _ => {
                    let title = columns.header.get(i).map_or("?", String::as_str);
                    Err(format!("{title:?} is {text:?}, which is no number"))
                }
            },
        };
        let sum = |indices: &[usize]| {
            indices.iter().try_fold(None, |sum: Option<f64>, index| {
                Ok::<_, String>(match number(Some(*index))? {
                    Some(seconds) => Some(sum.unwrap_or(0.0) + seconds),
                    None => sum,
                })
            })
        };
        let date = cell(0).and_then(|text| self.order.date(text));
        let date = date.ok_or_else(|| format!("{:?} is no date", cell(0).unwrap_or_default()))?;
        let time = cell(1).and_then(time).ok_or_else(|| format!("{:?} is no time", cell(1).unwrap_or_default()))?;
        let sensors = columns
            .sensors
            .iter()
            .map(|(temperature, motion)| {
                let motion = number(*motion)?.map(|seen| seen > 0.0);
                Ok(SensorRow { temperature: number(*temperature)?, motion })
            })
            .collect::<Result<Vec<_>, String>>()?;
        Ok(Row {
            line,
            time: date.to_datetime(time),
            system_setting: text(columns.system_setting),
            system_mode: text(columns.system_mode),
            event: text(columns.event),
            program: text(columns.program),
            cool_set_point: number(columns.cool_set_point)?,
            heat_set_point: number(columns.heat_set_point)?,
            temperature: number(columns.temperature)?,
            humidity: number(columns.humidity)?,
            outdoor: number(columns.outdoor)?,
            heating_s: sum(&columns.heating)?,
            cooling_s: sum(&columns.cooling)?,
            fan_s: number(columns.fan)?,
            co2: number(columns.co2)?,
            voc: number(columns.voc)?,
            sensors,
        })
    }
}

/// How a spreadsheet wrote the dates that have slashes. ISO dates are always understood.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum DateOrder {
    MonthFirst,
    DayFirst,
}

impl DateOrder {
    /// From the preamble's start and end: month first, unless one of them can't be so.
    fn guess(dates: &[String]) -> Self {
        let impossible = |text: &String| Self::MonthFirst.date(text).is_none() && Self::DayFirst.date(text).is_some();
        if dates.iter().any(impossible) { Self::DayFirst } else { Self::MonthFirst }
    }

    fn date(self, text: &str) -> Option<Date> {
        if let Ok(date) = text.parse::<Date>() {
            return Some(date);
        }
        let mut parts = text.split(['/', '.', '-']);
        let (first, second, year) = (parts.next()?, parts.next()?, parts.next()?);
        if parts.next().is_some() {
            return None;
        }
        let (month, day) = match self {
            Self::MonthFirst => (first, second),
            Self::DayFirst => (second, first),
        };
        let year = match (year.len(), year.parse::<i16>().ok()?) {
            (2, year) if year < PIVOT_YEAR => 2000 + year,
            (2, year) => 1900 + year,
            (4, year) => year,
            _ => return None,
        };
        Date::new(year, month.parse().ok()?, day.parse().ok()?).ok()
    }
}

/// `0:05:00`, `00:05`, `12:05 AM`.
fn time(text: &str) -> Option<Time> {
    let upper = text.to_ascii_uppercase();
    let (clock, afternoon) = match (upper.strip_suffix("AM"), upper.strip_suffix("PM")) {
        (Some(clock), _) => (clock.trim_end(), Some(false)),
        (_, Some(clock)) => (clock.trim_end(), Some(true)),
        _ => (upper.as_str(), None),
    };
    let mut parts = clock.split(':').map(str::parse::<i8>);
    let (hour, minute) = (parts.next()?.ok()?, parts.next()?.ok()?);
    let second = parts.next().unwrap_or(Ok(0)).ok()?;
    if parts.next().is_some() {
        return None;
    }
    let hour = match afternoon {
        None => hour,
        Some(_) if !(1..=12).contains(&hour) => return None,
        Some(afternoon) => hour % 12 + if afternoon { 12 } else { 0 },
    };
    Time::new(hour, minute, second, 0).ok()
}

/// The cells of one line, trimmed. A quote that isn't closed ends with the line, so that it harms no other.
fn cells(line: &str) -> Vec<String> {
    // Most lines have no quotes, and making a reader for each takes far longer than reading it.
    if !line.is_empty() && !line.contains(['"', '\r', '\n']) {
        return line.split(',').map(|cell| cell.trim().to_owned()).collect();
    }
    let mut reader =
        csv::ReaderBuilder::new().has_headers(false).flexible(true).trim(csv::Trim::All).from_reader(line.as_bytes());
    match reader.records().next() {
        Some(Ok(record)) => record.iter().map(str::to_owned).collect(),
        _ => Vec::new(),
    }
}

enum Unreadable {
    Io(std::io::Error),
    TooLong,
}

/// Numbered lines of limited length, without a byte order mark; bytes that are no UTF-8 are replaced.
#[derive(Debug)]
struct Lines<R> {
    reader: R,
    number: u64,
    failed: bool,
}

impl<R: BufRead> Iterator for Lines<R> {
    type Item = Result<String, Unreadable>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.failed {
            return None;
        }
        let mut line = Vec::new();
        let mut too_long = false;
        let mut any = false;
        loop {
            let buffer = match self.reader.fill_buf() {
                Ok(buffer) => buffer,
                Err(error) if error.kind() == std::io::ErrorKind::Interrupted => continue,
                Err(error) => {
                    self.failed = true;
                    self.number += 1;
                    return Some(Err(Unreadable::Io(error)));
                }
            };
            if buffer.is_empty() {
                break;
            }
            any = true;
            let end = buffer.iter().position(|byte| *byte == b'\n');
            let taken = end.map_or(buffer.len(), |end| end + 1);
            let part = buffer.get(..taken).unwrap_or_default();
            if line.len() + part.len() > MAX_LINE_BYTES {
                too_long = true;
            } else {
                line.extend_from_slice(part);
            }
            self.reader.consume(taken);
            if end.is_some() {
                break;
            }
        }
        if !any {
            return None;
        }
        self.number += 1;
        if too_long {
            return Some(Err(Unreadable::TooLong));
        }
        let text = String::from_utf8_lossy(&line);
        let text = if self.number == 1 { text.trim_start_matches('\u{feff}') } else { &text };
        Some(Ok(text.trim_end_matches(['\r', '\n']).to_owned()))
    }
}
