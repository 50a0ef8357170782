//! Events: what for a while overrides the program. They form a stack whose order is total and visible.
//!
//! From the highest: what the household said (holds, quick save, vacations), the latest to take effect first; demand
//! response, which may always be declined; prices; smart home and away; the program. A vacation that begins covers an
//! older hold, which is back when it ends; a hold set during the vacation covers the vacation.

use std::cmp::Reverse;

use serde::{Deserialize, Serialize};

use crate::price::Move;
use crate::program::ClimateRef;
use crate::settings::FanMode;
use crate::temperature::{Delta, Temp};

/// Most events on the stack.
pub const EVENTS_MAX: usize = 64;
/// Longest hold in hours (a year).
pub const HOLD_HOURS_MAX: u32 = 366 * 24;
/// A hold until the next transition lasts so long when the program has none.
pub const HOLD_WITHOUT_TRANSITION_MS: i64 = 24 * 3_600_000;
/// Demand response lasts at most so long.
pub const DR_MAX_MS: i64 = 4 * 3_600_000;
/// Demand response moves a set point at most so far.
pub const DR_MAX: Delta = Delta::from_tenths_f(40);
/// The longest random delay of demand response, seconds.
pub const DR_RANDOM_MAX_S: u32 = 1800;
/// Most requests of utilities that wait for an answer, or whose refusal is remembered.
pub const OFFERS_MAX: usize = 16;
/// Quick save moves the set points so far if nothing else is said.
pub const QUICK_SAVE: Delta = Delta::from_tenths_f(40);
/// Quick save moves them at most so far.
pub const QUICK_SAVE_MAX: Delta = Delta::from_tenths_f(90);

/// What kind of event.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum EventType {
    /// Somebody set a temperature or a comfort setting.
    Hold,
    /// Somebody pressed "save now".
    QuickSave,
    /// The house is empty for days.
    Vacation,
    /// The utility asks.
    DemandResponse,
    /// A price plan asks.
    Sensor,
    /// Nobody was seen for long.
    AutoAway,
    /// Somebody is there although the program says away.
    AutoHome,
}

/// How long a hold lasts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum HoldType {
    /// Until the program changes.
    NextTransition,
    /// Until resumed.
    Indefinite,
    /// So many hours.
    HoldHours(u32),
    /// From one instant to another, milliseconds since the epoch.
    DateTime {
        /// From.
        start_ms: i64,
        /// Until.
        end_ms: i64,
    },
}

/// One event.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Event {
    /// Number in order of arrival; never used twice.
    pub id: u64,
    /// What kind.
    #[serde(rename = "type")]
    pub event_type: EventType,
    /// For people; a vacation's is unique.
    pub name: String,
    /// Who asked: a member, a partner, a rule.
    pub by: String,
    /// An owner asked: whom the lock holds does not end it.
    #[serde(default)]
    pub by_owner: bool,
    /// Runs from, milliseconds since the epoch.
    pub start_ms: i64,
    /// Until (not included); `None`: until resumed.
    pub end_ms: Option<i64>,
    /// The comfort setting it holds.
    pub hold_climate_ref: Option<ClimateRef>,
    /// Heating aims here instead.
    pub heat_hold_temp: Option<Temp>,
    /// Cooling aims here instead.
    pub cool_hold_temp: Option<Temp>,
    /// Moves what the household wants beneath it towards less energy by so much, when there are no temperatures. Several do not
    /// add up.
    pub relative: Option<Delta>,
    /// The fan.
    pub fan: Option<FanMode>,
    /// What a price does to the set points beneath.
    #[serde(default)]
    pub price: Option<Move>,
}

impl Event {
    /// An event that changes nothing, from now until resumed.
    pub fn new(event_type: EventType, name: &str, by: &str, start_ms: i64) -> Self {
        Self {
            id: 0,
            event_type,
            name: name.to_owned(),
            by: by.to_owned(),
            by_owner: false,
            start_ms,
            end_ms: None,
            hold_climate_ref: None,
            heat_hold_temp: None,
            cool_hold_temp: None,
            relative: None,
            fan: None,
            price: None,
        }
    }

    /// Whether it runs now.
    pub fn running(&self, wall_ms: i64) -> bool {
        self.start_ms <= wall_ms && self.end_ms.is_none_or(|end| wall_ms < end)
    }

    /// Class of precedence: 0 is the highest.
    pub fn class(&self) -> u8 {
        match self.event_type {
            EventType::Hold | EventType::QuickSave | EventType::Vacation => 0,
            EventType::DemandResponse => 1,
            EventType::Sensor => 2,
            EventType::AutoHome | EventType::AutoAway => 3,
        }
    }

    /// The key of the order of precedence: the least comes first. No two events have the same.
    pub fn precedence(&self) -> (u8, Reverse<i64>, Reverse<u64>) {
        (self.class(), Reverse(self.start_ms), Reverse(self.id))
    }
}

/// Why an event was not taken.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum EventError {
    /// The stack is full.
    #[error("at most {EVENTS_MAX} events: end one first")]
    Full,
    /// It ends before it begins, or is longer than allowed.
    #[error("an event begins before it ends, and a hold lasts at most {HOLD_HOURS_MAX} hours")]
    Times,
    /// A vacation of this name exists.
    #[error("a vacation called `{0}` exists")]
    Name(String),
    /// The comfort setting is not there.
    #[error("there is no comfort setting `{0}`")]
    NoSuchClimate(ClimateRef),
    /// Beyond what the lock allows.
    #[error("the thermostat is locked: {0}")]
    Locked(String),
    /// No temperature, comfort setting or fan was given.
    #[error("a hold needs a temperature, a comfort setting or a fan mode")]
    Empty,
    /// Too many requests of utilities wait for an answer.
    #[error("at most {OFFERS_MAX} requests wait for the household's answer")]
    Offers,
    /// The household wants nothing of utilities.
    #[error("requests of utilities are left, as `demand_response = \"never\"` says")]
    Never,
}

/// The stack.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Events {
    next_id: u64,
    /// Sorted by precedence.
    events: Vec<Event>,
}

impl Events {
    /// Puts an event in its place, gives it its number.
    ///
    /// # Errors
    /// When the stack is full or the event can't be.
    pub fn put(&mut self, mut event: Event) -> Result<u64, EventError> {
        if event.end_ms.is_some_and(|end| end <= event.start_ms) {
            return Err(EventError::Times);
        }
        if event.event_type == EventType::Vacation
            && self.events.iter().any(|e| e.event_type == EventType::Vacation && e.name == event.name)
        {
            return Err(EventError::Name(event.name));
        }
        if self.events.len() >= EVENTS_MAX {
            return Err(EventError::Full);
        }
        self.next_id += 1;
        event.id = self.next_id;
        self.events.push(event);
        self.events.sort_by_key(Event::precedence);
        Ok(self.next_id)
    }

    /// All of them, the highest first, those to come included.
    pub fn all(&self) -> &[Event] {
        &self.events
    }

    /// Those that run now, the highest first.
    pub fn running(&self, wall_ms: i64) -> impl DoubleEndedIterator<Item = &Event> {
        self.events.iter().filter(move |event| event.running(wall_ms))
    }

    /// Ends the highest event that runs, or all of them; `theirs` says of which somebody may end it. What was ended.
    pub fn resume(&mut self, wall_ms: i64, all: bool, theirs: impl Fn(&Event) -> bool) -> Vec<Event> {
        let mut ended = Vec::new();
        self.events.retain(|event| {
            let ends = event.running(wall_ms) && theirs(event) && (all || ended.is_empty());
            if ends {
                ended.push(event.clone());
            }
            !ends
        });
        ended
    }

    /// Takes away the holds that run, of those that somebody may end: another takes their place, of temperatures (`thermal`) or
    /// of the fan alone.
    pub(crate) fn replace_running_hold(&mut self, wall_ms: i64, thermal: bool, theirs: impl Fn(&Event) -> bool) {
        self.events.retain(|event| {
            let is_thermal =
                event.heat_hold_temp.is_some() || event.cool_hold_temp.is_some() || event.hold_climate_ref.is_some();
            event.event_type != EventType::Hold || !event.running(wall_ms) || is_thermal != thermal || !theirs(event)
        });
    }

    /// Takes events away by kind and name (any name if `None`).
    pub fn remove(&mut self, event_type: EventType, name: Option<&str>) -> bool {
        let before = self.events.len();
        self.events.retain(|e| e.event_type != event_type || name.is_some_and(|name| e.name != name));
        self.events.len() < before
    }

    /// The event of this kind and name, if there is one.
    pub fn find(&self, event_type: EventType, name: &str) -> Option<&Event> {
        self.events.iter().find(|e| e.event_type == event_type && e.name == name)
    }

    /// Takes away what has ended, and gives it.
    pub fn expire(&mut self, wall_ms: i64) -> Vec<Event> {
        let over = |event: &mut Event| event.end_ms.is_some_and(|end| end <= wall_ms);
        self.events.extract_if(.., over).collect()
    }

    /// The clock was set back to `wall_ms`: what runs goes on. What has begun since `era_ms`, by a clock that was wrong then, moves
    /// back by `by_ms`, save for what somebody has given a date.
    pub(crate) fn set_back(&mut self, wall_ms: i64, last_ms: i64, era_ms: Option<i64>, by_ms: i64) {
        let begun = |event: &&mut Event| event.start_ms > wall_ms && event.start_ms <= last_ms;
        for event in self.events.iter_mut().filter(begun) {
            let dated = matches!(event.event_type, EventType::Vacation | EventType::DemandResponse);
            match era_ms {
                _ if dated => {}
                Some(era_ms) if event.start_ms >= era_ms => {
                    event.start_ms = event.start_ms.saturating_sub(by_ms).min(wall_ms);
                    event.end_ms = event.end_ms.map(|end| end.saturating_sub(by_ms));
                }
                _ => event.start_ms = wall_ms,
            }
        }
        self.events.sort_by_key(Event::precedence);
    }

    /// What had ended by a wrong clock is there again, with the number that it had.
    pub(crate) fn restore(&mut self, ended: Vec<Event>) {
        for event in ended {
            let again = self.events.iter().any(|e| e.event_type == event.event_type && e.name == event.name);
            // Of a kind of which there can be one, the newer one counts.
            if self.events.len() < EVENTS_MAX && !(again && event.event_type != EventType::Hold) {
                self.events.push(event);
            }
        }
        self.events.sort_by_key(Event::precedence);
    }
}
