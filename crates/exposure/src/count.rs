//! How much was sent, day by day.

use std::collections::{BTreeMap, HashSet};

use jiff::civil::Date;
use jiff::tz::TimeZone;
use model::Timestamp;
use serde::Serialize;

use crate::{Fact, Sent};

/// What was sent on one day.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct DayCount {
    /// Messages.
    pub messages: u64,
    /// Their bytes.
    pub bytes: u64,
    /// Facts (property, value, sample time) that were told on this day for the first time.
    pub facts: u64,
}

/// Counts messages as they come.
#[derive(Clone, Debug)]
pub struct Count {
    zone: TimeZone,
    facts: HashSet<Fact>,
    days: BTreeMap<Date, DayCount>,
}

impl Count {
    /// Counts by the days of this zone.
    pub fn new(zone: TimeZone) -> Self {
        Self { zone, facts: HashSet::new(), days: BTreeMap::new() }
    }

    /// Counts one message.
    pub fn add(&mut self, sent: &Sent) {
        let Some(day) = date(sent.time, &self.zone) else { return };
        let count = self.days.entry(day).or_default();
        count.messages += 1;
        count.bytes += sent.body.len() as u64;
        for fact in &sent.facts {
            count.facts += u64::from(self.facts.insert(fact.clone()));
        }
    }

    /// The days on which something was sent.
    pub fn days(&self) -> &BTreeMap<Date, DayCount> {
        &self.days
    }

    /// All of them together.
    pub fn total(&self) -> DayCount {
        self.days.values().fold(DayCount::default(), |sum, day| DayCount {
            messages: sum.messages + day.messages,
            bytes: sum.bytes + day.bytes,
            facts: sum.facts + day.facts,
        })
    }
}

fn date(time: Timestamp, zone: &TimeZone) -> Option<Date> {
    let time = jiff::Timestamp::from_millisecond(time.as_millis()).ok()?;
    Some(time.to_zoned_datetime(zone.clone()).date())
}
