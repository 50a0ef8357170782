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

/// One step of the fixed ladder from fine to coarse. What a rung [gives](Rung::gives) is a function of it alone, and all
/// ticks are aligned over partners, so that partners together know no more than the rungs from which theirs follow.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Rung {
    /// The newest reading, exact, with its own sample time.
    Live,
    /// Exact, held on a grid of 15 minutes.
    QuarterHour,
    /// Exact, held on a grid of 60 minutes.
    Hour,
    /// The mean of what `quarter_hour` shows in the last full hour.
    HourMean,
    /// What `hour` showed an hour ago.
    HourLate,
    /// Rounded to the property's coarse step, held on a grid of 60 minutes.
    HourCoarse,
    /// The same with a dead band: a value near the border of two steps stays with the one that it came from.
    HourSteady,
    /// Rounded to the property's coarse step, held from 0, 6, 12 and 18 o'clock on in the home's time zone.
    QuarterDayCoarse,
    /// Rounded to the property's coarse step, held from midnight to midnight in the home's time zone.
    DayCoarse,
    /// The mean of what `hour_mean` shows of the last full day, rounded to the property's coarse step.
    DayMean,
    /// How often it began (came on, was opened, saw somebody) in the last full day.
    DayCount,
}

/// Every rung, in the order in which they are asked for: none [gives](Rung::gives) one that stands before it.
pub const ALL_RUNGS: [Rung; 11] = [
    Rung::Live,
    Rung::QuarterHour,
    Rung::Hour,
    Rung::HourMean,
    Rung::HourLate,
    Rung::HourCoarse,
    Rung::HourSteady,
    Rung::QuarterDayCoarse,
    Rung::DayCoarse,
    Rung::DayMean,
    Rung::DayCount,
];

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
            Rung::HourMean => "hour_mean",
            Rung::HourLate => "hour_late",
            Rung::HourCoarse => "hour_coarse",
            Rung::HourSteady => "hour_steady",
            Rung::QuarterDayCoarse => "quarter_day_coarse",
            Rung::DayCoarse => "day_coarse",
            Rung::DayMean => "day_mean",
            Rung::DayCount => "day_count",
        }
    }

    /// The grid on which values are sampled and held.
    pub fn grid(self) -> Grid {
        match self {
            Rung::Live => Grid::None,
            Rung::QuarterHour => Grid::Every(15 * 60_000),
            Rung::Hour | Rung::HourMean | Rung::HourLate | Rung::HourCoarse | Rung::HourSteady => Grid::Hour,
            Rung::QuarterDayCoarse => Grid::QuarterDay,
            Rung::DayCoarse | Rung::DayMean | Rung::DayCount => Grid::Day,
        }
    }

    /// Whether values are rounded to their property's coarse step (see [`Property::coarse`]).
    pub fn is_coarse(self) -> bool {
        matches!(self, Rung::HourCoarse | Rung::HourSteady | Rung::QuarterDayCoarse | Rung::DayCoarse)
    }

    /// Whether it is of a window that has closed, and of no moment: a mean, a count.
    pub fn is_aggregate(self) -> bool {
        matches!(self, Rung::HourMean | Rung::DayMean | Rung::DayCount)
    }

    /// The rungs that follow from this one alone, itself first: what a grant at this rung permits. Whoever sees it could work
    /// them out.
    pub fn gives(self) -> &'static [Rung] {
        use Rung::{
            DayCoarse, DayCount, DayMean, Hour, HourCoarse, HourLate, HourMean, HourSteady, QuarterDayCoarse,
            QuarterHour,
        };
        match self {
            Rung::Live => &ALL_RUNGS,
            QuarterHour => {
                &[QuarterHour, Hour, HourMean, HourLate, HourCoarse, HourSteady, QuarterDayCoarse, DayCoarse, DayMean]
            }
            Hour => &[Hour, HourLate, HourCoarse, HourSteady, QuarterDayCoarse, DayCoarse],
            HourMean => &[HourMean, DayMean],
            HourLate => &[HourLate],
            HourCoarse => &[HourCoarse, QuarterDayCoarse, DayCoarse],
            HourSteady => &[HourSteady],
            QuarterDayCoarse => &[QuarterDayCoarse, DayCoarse],
            DayCoarse => &[DayCoarse],
            DayMean => &[DayMean],
            DayCount => &[DayCount],
        }
    }

    /// The next that tells less, for what is to get worse before it ends: rounded rather than late.
    pub fn step_down(self) -> Option<Rung> {
        match self {
            Rung::Live => Some(Rung::QuarterHour),
            Rung::QuarterHour => Some(Rung::Hour),
            Rung::Hour => Some(Rung::HourCoarse),
            Rung::HourMean => Some(Rung::DayMean),
            Rung::HourCoarse => Some(Rung::QuarterDayCoarse),
            Rung::QuarterDayCoarse => Some(Rung::DayCoarse),
            Rung::HourLate | Rung::HourSteady | Rung::DayCoarse | Rung::DayMean | Rung::DayCount => None,
        }
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
