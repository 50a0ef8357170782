//! The program: a week in half hours, each with a comfort setting.
//!
//! The grid is read by the clock on the wall. On the day that clocks go forward, the half hours that do not exist are
//! not lived; on the day that they go back, the repeated ones are lived twice. Every zone's transitions are survived,
//! also those that are no multiple of half an hour.

use jiff::Timestamp;
use jiff::tz::TimeZone;
use serde::{Deserialize, Serialize};

use crate::settings::FanMode;
use crate::temperature::Temp;

/// Days of a week, Monday first.
pub const DAYS: usize = 7;
/// Half hours of a day.
pub const SLOTS: usize = 48;
/// Most comfort settings of a program.
pub const CLIMATES_MAX: usize = 32;
/// Longest name of a comfort setting, in characters.
pub const NAME_CHARS_MAX: usize = 64;
/// Most sensors that take part in a comfort setting.
pub const PARTICIPANTS_MAX: usize = 32;
/// Half hours that are looked at for the next change: a week, and the hours that a zone may repeat.
const LOOK_AHEAD_SLOTS: usize = DAYS * SLOTS + 2 * SLOTS;
/// One half hour.
const SLOT_MS: i64 = 30 * 60_000;

/// The name by which the schedule means a comfort setting: `home`, `away`, `sleep`, or the household's own. Never changes.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(transparent)]
pub struct ClimateRef(pub String);

impl ClimateRef {
    /// By its word.
    pub fn new(word: &str) -> Self {
        Self(word.to_owned())
    }
}

impl std::fmt::Display for ClimateRef {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.0)
    }
}

/// A comfort setting.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Climate {
    /// Its name for people.
    pub name: String,
    /// Its name in the schedule.
    pub climate_ref: ClimateRef,
    /// Somebody is at home in it.
    #[serde(default)]
    pub is_occupied: bool,
    /// Heating aims here.
    pub heat_temp: Temp,
    /// Cooling aims here.
    pub cool_temp: Temp,
    /// The fan.
    #[serde(default)]
    pub fan: FanMode,
    /// Least minutes of ventilation in each hour; `None`: as in the settings.
    #[serde(default)]
    pub ventilator_min_on_time: Option<u8>,
    /// Ids of the sensors that take part in the average; empty: all that are in use.
    #[serde(default)]
    pub sensors: Vec<String>,
}

/// A week of comfort settings.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(try_from = "Wire", into = "Wire", rename_all = "camelCase")]
pub struct Program {
    climates: Vec<Climate>,
    /// Index into `climates` for each half hour, Monday first.
    grid: Vec<u8>,
}

#[derive(Clone, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Wire {
    /// Seven days of 48 half hours, Monday first.
    schedule: Vec<Vec<ClimateRef>>,
    climates: Vec<Climate>,
}

/// A program that can't be.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ProgramError {
    /// Not 7 days of 48 half hours.
    #[error(
        "a schedule has {DAYS} days of {SLOTS} half hours, Monday first; this one has {days} days, day {bad_day} of {slots}"
    )]
    Shape {
        /// Days given.
        days: usize,
        /// First day with another length, from 0.
        bad_day: usize,
        /// Its length.
        slots: usize,
    },
    /// The schedule names a comfort setting that is not there.
    #[error("there is no comfort setting `{0}`")]
    NoSuchClimate(ClimateRef),
    /// Two comfort settings of one name.
    #[error("two comfort settings are called `{0}`")]
    Twice(ClimateRef),
    /// The comfort setting is in the schedule.
    #[error("`{0}` is in the schedule: give its half hours another comfort setting first")]
    InUse(ClimateRef),
    /// Too many comfort settings, sensors, or too long a name.
    #[error(
        "a program has 1 to {CLIMATES_MAX} comfort settings, each with at most {PARTICIPANTS_MAX} sensors and a name of {NAME_CHARS_MAX} characters"
    )]
    TooMuch,
    /// A day or half hour outside the week.
    #[error("days are 0 to 6 (Monday first), half hours 0 to 47")]
    OutOfWeek,
}

impl TryFrom<Wire> for Program {
    type Error = ProgramError;

    fn try_from(wire: Wire) -> Result<Self, ProgramError> {
        let shape = |bad_day, slots| ProgramError::Shape { days: wire.schedule.len(), bad_day, slots };
        if wire.schedule.len() != DAYS {
            return Err(shape(0, wire.schedule.first().map_or(0, Vec::len)));
        }
        let first = wire.climates.first().ok_or(ProgramError::TooMuch)?.climate_ref.clone();
        let mut program = Self::uniform(wire.climates, &first)?;
        for (day, slots) in wire.schedule.iter().enumerate() {
            if slots.len() != SLOTS {
                return Err(shape(day, slots.len()));
            }
            for (slot, climate) in slots.iter().enumerate() {
                program.set(day, slot, slot + 1, climate)?;
            }
        }
        Ok(program)
    }
}

impl From<Program> for Wire {
    fn from(program: Program) -> Self {
        let name = |index: &u8| {
            program
                .climates
                .get(usize::from(*index))
                .map_or_else(|| ClimateRef(String::new()), |c| c.climate_ref.clone())
        };
        let schedule = program.grid.chunks(SLOTS).map(|day| day.iter().map(name).collect()).collect();
        Self { schedule, climates: program.climates.clone() }
    }
}

/// The half hour of a week in which an instant lies, and when it ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Slot {
    /// 0 is Monday.
    pub day: usize,
    /// 0 is midnight to half past.
    pub slot: usize,
    /// The first instant after it, milliseconds since the epoch: the clock's next half hour, or the zone's next change.
    pub end_ms: i64,
}

/// Which half hour it is, by the clock on the wall.
pub fn slot_at(wall_ms: i64, zone: &TimeZone) -> Slot {
    let instant = Timestamp::from_millisecond(wall_ms).unwrap_or(Timestamp::UNIX_EPOCH);
    let civil = zone.to_datetime(instant);
    let day = usize::try_from(civil.weekday().to_monday_zero_offset()).unwrap_or(0);
    let slot = usize::try_from(civil.hour()).unwrap_or(0) * 2 + usize::from(civil.minute() >= 30);
    let into_ms = i64::from(civil.minute() % 30) * 60_000
        + i64::from(civil.second()) * 1000
        + i64::from(civil.subsec_nanosecond() / 1_000_000);
    let by_clock = wall_ms.saturating_add(SLOT_MS - into_ms);
    let change = zone.following(instant).next().map(|t| t.timestamp().as_millisecond()).filter(|t| *t > wall_ms);
    Slot { day, slot, end_ms: change.map_or(by_clock, |t| t.min(by_clock)) }
}

/// A change of the comfort setting that the program foresees.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Transition {
    /// When, milliseconds since the epoch.
    pub at_ms: i64,
    /// To which comfort setting (its place among them).
    pub to: usize,
}

impl Program {
    /// One comfort setting for the whole week.
    ///
    /// # Errors
    /// When the comfort settings can't be, or `all_week` is none of them.
    pub fn uniform(climates: Vec<Climate>, all_week: &ClimateRef) -> Result<Self, ProgramError> {
        let too_much = climates.is_empty()
            || climates.len() > CLIMATES_MAX
            || climates.iter().any(|c| {
                c.sensors.len() > PARTICIPANTS_MAX
                    || c.name.chars().count() > NAME_CHARS_MAX
                    || c.climate_ref.0.is_empty()
                    || c.climate_ref.0.chars().count() > NAME_CHARS_MAX
            });
        if too_much {
            return Err(ProgramError::TooMuch);
        }
        for (index, climate) in climates.iter().enumerate() {
            if climates.iter().take(index).any(|c| c.climate_ref == climate.climate_ref) {
                return Err(ProgramError::Twice(climate.climate_ref.clone()));
            }
        }
        let index = index_of(&climates, all_week)?;
        Ok(Self { climates, grid: vec![index; DAYS * SLOTS] })
    }

    /// ecobee's three comfort settings, at home all week: sleep from 22:30 to 6:30.
    pub fn household() -> Self {
        let climate = |name: &str, occupied, heat, cool| Climate {
            name: name.to_owned(),
            climate_ref: ClimateRef::new(&name.to_lowercase()),
            is_occupied: occupied,
            heat_temp: Temp::from_tenths_f(heat),
            cool_temp: Temp::from_tenths_f(cool),
            fan: FanMode::Auto,
            ventilator_min_on_time: None,
            sensors: Vec::new(),
        };
        let climates =
            vec![climate("Home", true, 690, 760), climate("Away", false, 620, 820), climate("Sleep", true, 640, 760)];
        let mut grid = Vec::with_capacity(DAYS * SLOTS);
        for _ in 0..DAYS {
            grid.extend((0..SLOTS).map(|slot| if (13..45).contains(&slot) { 0 } else { 2 }));
        }
        Self { climates, grid }
    }

    /// Every comfort setting.
    pub fn climates(&self) -> &[Climate] {
        &self.climates
    }

    /// A comfort setting by its place.
    pub fn climate(&self, index: usize) -> Option<&Climate> {
        self.climates.get(index)
    }

    /// A comfort setting by its name in the schedule.
    pub fn find(&self, climate: &ClimateRef) -> Option<&Climate> {
        self.climates.iter().find(|c| c.climate_ref == *climate)
    }

    /// The comfort setting of a half hour, by its place among them.
    pub fn at(&self, day: usize, slot: usize) -> usize {
        self.grid.get(day * SLOTS + slot).map_or(0, |index| usize::from(*index))
    }

    /// Gives the half hours `from..to` of a day a comfort setting.
    ///
    /// # Errors
    /// When the day, the half hours or the comfort setting are not there.
    pub fn set(&mut self, day: usize, from: usize, to: usize, climate: &ClimateRef) -> Result<(), ProgramError> {
        let index = index_of(&self.climates, climate)?;
        if day >= DAYS || from > to || to > SLOTS {
            return Err(ProgramError::OutOfWeek);
        }
        let slots = self.grid.get_mut(day * SLOTS + from..day * SLOTS + to).ok_or(ProgramError::OutOfWeek)?;
        slots.fill(index);
        Ok(())
    }

    /// Copies a day to other days.
    ///
    /// # Errors
    /// When a day is not in the week.
    pub fn copy_day(&mut self, from: usize, to: &[usize]) -> Result<(), ProgramError> {
        let day = self.grid.get(from * SLOTS..(from + 1) * SLOTS).ok_or(ProgramError::OutOfWeek)?.to_vec();
        if to.iter().any(|day| *day >= DAYS) {
            return Err(ProgramError::OutOfWeek);
        }
        for target in to {
            if let Some(slots) = self.grid.get_mut(target * SLOTS..(target + 1) * SLOTS) {
                slots.copy_from_slice(&day);
            }
        }
        Ok(())
    }

    /// Adds a comfort setting, or changes the one of that name.
    ///
    /// # Errors
    /// When there would be too many, or a name is too long.
    pub fn put_climate(&mut self, climate: Climate) -> Result<(), ProgramError> {
        let mut climates = self.climates.clone();
        match climates.iter_mut().find(|c| c.climate_ref == climate.climate_ref) {
            Some(old) => *old = climate,
            None => climates.push(climate),
        }
        let first = climates.first().map(|c| c.climate_ref.clone()).ok_or(ProgramError::TooMuch)?;
        self.climates = Self::uniform(climates, &first)?.climates;
        Ok(())
    }

    /// Takes a comfort setting away that no half hour has.
    ///
    /// # Errors
    /// When it is not there, or in the schedule.
    pub fn remove_climate(&mut self, climate: &ClimateRef) -> Result<(), ProgramError> {
        let index = index_of(&self.climates, climate)?;
        if self.grid.contains(&index) {
            return Err(ProgramError::InUse(climate.clone()));
        }
        self.climates.remove(usize::from(index));
        self.grid.iter_mut().filter(|i| **i > index).for_each(|i| *i -= 1);
        Ok(())
    }

    /// The first change of comfort setting after an instant; `None` when the whole week has one.
    pub fn next_transition(&self, wall_ms: i64, zone: &TimeZone) -> Option<Transition> {
        let first = slot_at(wall_ms, zone);
        let now = self.at(first.day, first.slot);
        if self.grid.iter().all(|index| usize::from(*index) == now) {
            return None;
        }
        let mut at_ms = first.end_ms;
        for _ in 0..LOOK_AHEAD_SLOTS {
            let slot = slot_at(at_ms, zone);
            let to = self.at(slot.day, slot.slot);
            if to != now {
                return Some(Transition { at_ms, to });
            }
            if slot.end_ms <= at_ms {
                return None;
            }
            at_ms = slot.end_ms;
        }
        None
    }
}

fn index_of(climates: &[Climate], climate: &ClimateRef) -> Result<u8, ProgramError> {
    let index = climates.iter().position(|c| c.climate_ref == *climate);
    index.and_then(|i| u8::try_from(i).ok()).ok_or_else(|| ProgramError::NoSuchClimate(climate.clone()))
}
