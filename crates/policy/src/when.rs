//! When a grant counts: hours of the week, and windows that the household opens. Both are settled when the table is compiled,
//! and the table is compiled anew at each edge; no policy asks for the time.

use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;

use jiff::civil::Weekday;
use jiff::tz::TimeZone;
use model::Timestamp;
use serde::{Deserialize, Serialize};

use crate::grant::Grant;

/// At most so many spans of hours in one grant.
pub const HOURS_MAX: usize = 8;

/// The longest name of a window or a routine, in bytes.
pub const NAME_MAX_BYTES: usize = 64;

/// The longest that a window is open, in minutes.
pub const WINDOW_MAX_MINUTES: u16 = 60;

const DAY_MINUTES: u16 = 24 * 60;

const DAYS: [(&str, Weekday); 7] = [
    ("mon", Weekday::Monday),
    ("tue", Weekday::Tuesday),
    ("wed", Weekday::Wednesday),
    ("thu", Weekday::Thursday),
    ("fri", Weekday::Friday),
    ("sat", Weekday::Saturday),
    ("sun", Weekday::Sunday),
];

/// A span of hours on some days of the week, by the clock on the home's wall: `mon-fri 06:30-08:00`, `daily 22:00-06:00`. One that
/// ends before it begins ends on the next day.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(into = "String", try_from = "String")]
pub struct Hours {
    /// One bit for each day, Monday's the lowest: the days on which it begins.
    days: u8,
    /// Minutes since midnight.
    from: u16,
    to: u16,
}

/// Why a text is no span of hours.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "`{0}` is no span of hours: write days and times, as in `mon-fri 06:30-08:00`, `sat,sun 09:00-11:00` or `daily 22:00-06:00`"
)]
pub struct HoursError(String);

impl FromStr for Hours {
    type Err = HoursError;

    fn from_str(text: &str) -> Result<Self, HoursError> {
        parse(text).ok_or_else(|| HoursError(text.chars().take(NAME_MAX_BYTES).collect()))
    }
}

impl TryFrom<String> for Hours {
    type Error = HoursError;

    fn try_from(text: String) -> Result<Self, HoursError> {
        text.parse()
    }
}

impl From<Hours> for String {
    fn from(hours: Hours) -> Self {
        hours.to_string()
    }
}

impl fmt::Display for Hours {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let is_on = |n: &usize| self.days & (1 << n) != 0;
        if self.days == 0b111_1111 {
            f.write_str("daily")?;
        } else {
            let names: Vec<&str> = (0..7).filter(is_on).filter_map(|n| Some(DAYS.get(n)?.0)).collect();
            f.write_str(&names.join(","))?;
        }
        let time = |m: u16| format!("{:02}:{:02}", m / 60, m % 60);
        write!(f, " {}-{}", time(self.from), time(self.to))
    }
}

fn parse(text: &str) -> Option<Hours> {
    let (days, times) = text.trim().split_once(' ')?;
    let day = |name: &str| DAYS.iter().position(|(day, _)| *day == name);
    let mut bits = 0u8;
    for part in days.split(',') {
        match (part, part.split_once('-')) {
            ("daily", _) => bits |= 0b111_1111,
            (_, Some((first, last))) => {
                let (first, last) = (day(first)?, day(last)?);
                // From Saturday to Monday, too.
                let length = (last + 7 - first) % 7;
                (0..=length).for_each(|n| bits |= 1 << ((first + n) % 7));
            }
            (name, None) => bits |= 1 << day(name)?,
        }
    }
    let minutes = |time: &str| -> Option<u16> {
        let (hour, minute) = time.split_once(':')?;
        let is_number = |t: &str| t.len() == 2 && t.bytes().all(|b| b.is_ascii_digit());
        let (hour, minute): (u16, u16) =
            (is_number(hour).then(|| hour.parse().ok())??, is_number(minute).then(|| minute.parse().ok())??);
        (minute < 60 && hour * 60 + minute <= DAY_MINUTES).then_some(hour * 60 + minute)
    };
    let (from, to) = times.trim().split_once('-')?;
    let (from, to) = (minutes(from)?, minutes(to)?);
    (from != to && from < DAY_MINUTES).then_some(Hours { days: bits, from, to: to % DAY_MINUTES })
}

impl Hours {
    /// Whether it is within these hours.
    pub fn contains(self, weekday: Weekday, minute: u16) -> bool {
        let day = weekday.to_monday_zero_offset().unsigned_abs();
        let (today, yesterday) = (self.days & (1 << day) != 0, self.days & (1 << ((day + 6) % 7)) != 0);
        if self.from < self.to {
            today && (self.from..self.to).contains(&minute)
        } else {
            (today && minute >= self.from) || (yesterday && minute < self.to)
        }
    }
}

/// A name of a window or a routine, as people say it: no control characters, no quotes, nothing at its ends.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(into = "String", try_from = "String")]
pub struct Name(String);

/// Why a text is no name.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "a name has 1 to {NAME_MAX_BYTES} bytes, no control characters, quotes or backslashes, and no space at its ends"
)]
pub struct NameError;

impl Name {
    /// The name.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for Name {
    type Err = NameError;

    fn from_str(text: &str) -> Result<Self, NameError> {
        let is_plain = |c: char| !c.is_control() && !matches!(c, '"' | '\\' | '\'' | '`');
        let good = (1..=NAME_MAX_BYTES).contains(&text.len()) && text.trim() == text && text.chars().all(is_plain);
        good.then(|| Self(text.to_owned())).ok_or(NameError)
    }
}

impl TryFrom<String> for Name {
    type Error = NameError;

    fn try_from(text: String) -> Result<Self, NameError> {
        text.parse()
    }
}

impl From<Name> for String {
    fn from(name: Name) -> Self {
        name.0
    }
}

impl fmt::Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Until when each window is open.
pub type Windows = BTreeMap<Name, Timestamp>;

/// A moment in a home.
#[derive(Clone, Copy, Debug)]
pub struct Moment<'a> {
    /// When.
    pub now: Timestamp,
    /// The home's time zone.
    pub zone: &'a TimeZone,
    /// What is open.
    pub windows: &'a Windows,
    /// Whether time stands, for the wall clock was set back: then no condition of time is met, or hours and windows would last
    /// until it has caught up.
    pub stands: bool,
}

impl Moment<'_> {
    /// Whether the conditions of a grant are met.
    pub fn meets(&self, grant: &Grant) -> bool {
        if self.stands && grant.is_conditional() {
            return false;
        }
        let in_window = || {
            let open_until = |name| self.windows.get(name).is_some_and(|until| self.now < *until);
            grant.window.as_ref().is_none_or(open_until)
        };
        let in_hours = || {
            grant.hours.is_empty()
                || self.local().is_some_and(|(day, minute)| grant.hours.iter().any(|h| h.contains(day, minute)))
        };
        in_window() && in_hours()
    }

    /// None for a time that the calendar has no day for: then no hours hold.
    fn local(&self) -> Option<(Weekday, u16)> {
        let local = jiff::Timestamp::from_millisecond(self.now.as_millis()).ok()?.to_zoned_datetime(self.zone.clone());
        let minute = u16::try_from(i32::from(local.hour()) * 60 + i32::from(local.minute())).ok()?;
        Some((local.weekday(), minute))
    }

    /// When the conditions of these grants may next be other than they are: each full minute could be an edge of hours, and the
    /// first at which one of them changes is told, up to two weeks ahead: what would begin in an hour that a change of the clock
    /// leaves out is a week later.
    fn next_edge(&self, grants: &[Grant]) -> Option<Timestamp> {
        let closing = self.windows.iter().filter(|(name, _)| grants.iter().any(|g| g.window.as_ref() == Some(*name)));
        let closing = closing.map(|(_, until)| *until).filter(|until| *until > self.now).min();
        let mut all: Vec<Hours> = grants.iter().flat_map(|g| g.hours.iter().copied()).collect();
        all.sort_unstable();
        all.dedup();
        let edge = (!all.is_empty()).then(|| self.next_edge_of(&all)).flatten();
        closing.into_iter().chain(edge).min()
    }

    fn next_edge_of(&self, all: &[Hours]) -> Option<Timestamp> {
        let holding = |at: Timestamp| -> Option<Vec<bool>> {
            let (day, minute) = Moment { now: at, ..*self }.local()?;
            Some(all.iter().map(|h| h.contains(day, minute)).collect())
        };
        let now = holding(self.now)?;
        // Clocks are set by whole minutes: between two full minutes no hours begin or end.
        let first = self.now.floor_to(60_000).plus_millis(60_000);
        let minutes = i64::from(DAY_MINUTES) * 15;
        (0..minutes).map(|n| first.plus_millis(n * 60_000)).find(|at| holding(*at).is_some_and(|then| then != now))
    }
}

/// The grants whose conditions are met, and when that may next be otherwise.
pub fn in_force(grants: Vec<Grant>, moment: Moment<'_>) -> (Vec<Grant>, Option<Timestamp>) {
    let conditional: Vec<Grant> = grants.iter().filter(|g| g.is_conditional()).cloned().collect();
    if conditional.is_empty() {
        return (grants, None);
    }
    let next = moment.next_edge(&conditional);
    (grants.into_iter().filter(|g| moment.meets(g)).collect(), next)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hours_are_read_as_people_write_them_and_come_back() {
        for (text, back) in [
            ("mon-fri 06:30-08:00", "mon,tue,wed,thu,fri 06:30-08:00"),
            ("daily 22:00-06:00", "daily 22:00-06:00"),
            ("sat,sun 09:00-24:00", "sat,sun 09:00-00:00"),
            ("fri-mon 00:00-12:00", "mon,fri,sat,sun 00:00-12:00"),
        ] {
            let hours: Hours = text.parse().unwrap();
            assert_eq!(hours.to_string(), back);
            assert_eq!(back.parse::<Hours>().unwrap(), hours);
        }
        for wrong in [
            "",
            "daily",
            "06:00-07:00",
            "mon 6:00-7:00",
            "mon 06:00-06:00",
            "moo 06:00-07:00",
            "mon 24:00-01:00",
            "mon 06:60-07:00",
            "mon 25:00-26:00",
            "mon- 06:00-07:00",
            "mon 06:00",
            "mon 06:00-07:00-08:00",
        ] {
            assert!(wrong.parse::<Hours>().is_err(), "{wrong}");
        }
    }

    #[test]
    fn hours_over_midnight_belong_to_the_day_on_which_they_begin() {
        let hours: Hours = "fri 22:00-06:00".parse().unwrap();
        let at = |day, hour: u16| hours.contains(day, hour * 60);
        assert!(at(Weekday::Friday, 22) && at(Weekday::Saturday, 5));
        assert!(!at(Weekday::Friday, 5) && !at(Weekday::Saturday, 22) && !at(Weekday::Saturday, 6));
    }

    #[test]
    fn the_next_edge_is_where_it_changes_also_on_the_days_on_which_clocks_are_set() {
        let zone = TimeZone::get("Europe/Paris").unwrap();
        let windows = Windows::new();
        let at = |text: &str| Timestamp::from_millis(text.parse::<jiff::Timestamp>().unwrap().as_millisecond());
        for (hours, now, next) in [
            ("daily 06:30-08:00", "2026-03-28T12:00:00Z", Some("2026-03-29T04:30:00Z")),
            ("daily 06:30-08:00", "2026-03-29T05:00:30Z", Some("2026-03-29T06:00:00Z")),
            // Half past two is never on that day: it begins when the clock has passed it.
            ("sun 02:30-04:00", "2026-03-28T12:00:00Z", Some("2026-03-29T01:00:00Z")),
            ("mon 00:00-24:00", "2026-03-31T12:00:00Z", Some("2026-04-05T22:00:00Z")),
            ("daily 00:00-24:00", "2026-03-31T12:00:00Z", None),
            // The whole of it is left out: it begins a week later.
            ("sun 02:30-02:45", "2026-03-28T12:00:00Z", Some("2026-04-05T00:30:00Z")),
        ] {
            let moment = Moment { now: at(now), zone: &zone, windows: &windows, stands: false };
            assert_eq!(moment.next_edge_of(&[hours.parse().unwrap()]), next.map(at), "{hours} {now}");
        }
    }
}
