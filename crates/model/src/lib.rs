//! Words and units of Vestibule: ids, devices, properties, kinds, values. No state, no clock, no input or output.
//!
//! Property names follow Matter's data model where it has one (Matter Application Cluster Specification 1.4);
//! what Matter lacks is named in the same manner. Values are integers in fixed units, so that they can be compared,
//! hashed and converted without drift.

mod id;
mod kind;
mod property;
mod time;
mod value;

pub use id::{ClientId, DeviceId, EndpointId, GrantId, HouseholdId, IdError, LinkId, MemberId, PartnerId};
pub use kind::{Class, DeviceType, Kind, Reveals};
pub use property::{ALL_PROPERTIES, Property};
pub use time::{Clock, Timestamp};
pub use value::{
    Color, DoorState, FanDirection, LockState, RunningState, SystemMode, TemperatureScale, Value, ValueError,
};

use serde::{Deserialize, Serialize};

/// Why a message would leave, as the hub itself can verify it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Trigger {
    /// The partner asks which devices there are.
    Discovery,
    /// The answer to a directive of the partner.
    DirectiveResponse,
    /// A read: nothing in the protocol tells a person's question from a poll.
    PartnerPoll,
    /// The hub speaks first.
    ProactiveReport,
}

/// Every trigger, in the order of the decision table.
pub const ALL_TRIGGERS: [Trigger; 4] =
    [Trigger::Discovery, Trigger::DirectiveResponse, Trigger::PartnerPoll, Trigger::ProactiveReport];

impl Trigger {
    /// The name used in policies, the ledger and on the command line.
    pub fn as_str(self) -> &'static str {
        match self {
            Trigger::Discovery => "discovery",
            Trigger::DirectiveResponse => "directive_response",
            Trigger::PartnerPoll => "partner_poll",
            Trigger::ProactiveReport => "proactive_report",
        }
    }
}

impl std::fmt::Display for Trigger {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.as_str())
    }
}

/// One step of the fixed ladder from fine to coarse. Each rung is a function of the one before it, and all
/// ticks are aligned over partners, so that partners together know no more than the finest of them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Rung {
    /// The newest reading, exact, with its own sample time.
    Live,
    /// Exact, held on a grid of 15 minutes.
    QuarterHour,
    /// Exact, held on a grid of 60 minutes.
    Hour,
    /// Rounded to the property's coarse step, held on a grid of 60 minutes.
    HourCoarse,
    /// Rounded to the property's coarse step, held from 0, 6, 12 and 18 o'clock on in the home's time zone.
    QuarterDayCoarse,
    /// Rounded to the property's coarse step, held from midnight to midnight in the home's time zone.
    DayCoarse,
}

/// Every rung, from fine to coarse.
pub const ALL_RUNGS: [Rung; 6] =
    [Rung::Live, Rung::QuarterHour, Rung::Hour, Rung::HourCoarse, Rung::QuarterDayCoarse, Rung::DayCoarse];

/// How long a rung holds a value. Each grid's ticks are among those of the finer ones, in every time zone: were they not,
/// two partners on two rungs would know more together than the finer one does.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Grid {
    /// No grid: the newest value.
    None,
    /// Ticks at multiples of this many milliseconds since the Unix epoch; at most a quarter of an hour, which each time zone
    /// is a multiple of away from Greenwich.
    Every(i64),
    /// Ticks at each full hour of the home's time zone.
    Hour,
    /// Ticks at 0, 6, 12 and 18 o'clock of the home's time zone.
    QuarterDay,
    /// Ticks at each midnight of the home's time zone.
    Day,
}

impl Rung {
    /// The name used in policies, the ledger and on the command line.
    pub fn as_str(self) -> &'static str {
        match self {
            Rung::Live => "live",
            Rung::QuarterHour => "quarter_hour",
            Rung::Hour => "hour",
            Rung::HourCoarse => "hour_coarse",
            Rung::QuarterDayCoarse => "quarter_day_coarse",
            Rung::DayCoarse => "day_coarse",
        }
    }

    /// The grid on which values are sampled and held.
    pub fn grid(self) -> Grid {
        match self {
            Rung::Live => Grid::None,
            Rung::QuarterHour => Grid::Every(15 * 60_000),
            Rung::Hour | Rung::HourCoarse => Grid::Hour,
            Rung::QuarterDayCoarse => Grid::QuarterDay,
            Rung::DayCoarse => Grid::Day,
        }
    }

    /// Whether values are rounded to their property's coarse step (see [`Property::coarse`]).
    pub fn is_coarse(self) -> bool {
        matches!(self, Rung::HourCoarse | Rung::QuarterDayCoarse | Rung::DayCoarse)
    }

    /// This rung and every coarser one: what a grant at this rung permits.
    pub fn and_coarser(self) -> impl Iterator<Item = Rung> {
        ALL_RUNGS.into_iter().filter(move |r| *r >= self)
    }

    /// The rung with this name.
    pub fn parse(name: &str) -> Option<Rung> {
        ALL_RUNGS.into_iter().find(|r| r.as_str() == name)
    }
}

impl std::fmt::Display for Rung {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.as_str())
    }
}
