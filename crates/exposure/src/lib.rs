//! What a partner would be sent over recorded days: readings go into the gate at their own times, the partner asks at a
//! stated rate, and what the gate and the partner's crate make of it is what would have left. Nothing is imitated but the
//! clock, the ids (constants) and the partner's questions.
//!
//! What a partner itself commands is not played: an answer that only repeats its own words tells it nothing.

mod comparison;
mod count;
mod partner;
mod profile;

pub use comparison::home_assistant;
pub use count::{Count, DayCount};
pub use partner::{ExposeError, expose};
pub use profile::{Pretended, under_profile};

use std::collections::BTreeMap;

use home::{Reading, Registered};
use jiff::tz::TimeZone;
use model::{DeviceId, EndpointId, HouseholdId, Property, Timestamp, Trigger, Value};

/// How often a partner asks for the state of each device that it knows of, unless something else is said, in minutes.
///
/// Amazon's app asks every few seconds while it is open, and otherwise when somebody speaks of a device; an assistant that
/// wants to know can ask at any time. Every five minutes, day and night, is as often as most thermostats speak at all, and as
/// fine as old history is kept.
pub const POLL_MINUTES: u16 = 5;

/// Recorded days of one home.
#[derive(Clone, Debug)]
pub struct Recorded {
    /// Its time zone.
    pub zone: TimeZone,
    /// Whose.
    pub household: HouseholdId,
    /// The devices.
    pub devices: BTreeMap<DeviceId, Registered>,
    /// What they said, in order of time.
    pub readings: Vec<Reading>,
}

/// From when to when.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Span {
    /// The first moment.
    pub from: Timestamp,
    /// The first moment that no longer counts.
    pub to: Timestamp,
}

/// A message that would have left.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sent {
    /// When.
    pub time: Timestamp,
    /// Its name in the ledger, as in `Alexa.StateReport`.
    pub message: String,
    /// Why.
    pub trigger: Trigger,
    /// The one device that it is about.
    pub endpoint: Option<EndpointId>,
    /// The bytes; of what is sent unasked without the token, as the record keeps it.
    pub body: Vec<u8>,
    /// What of the home is in it.
    pub facts: Vec<Fact>,
}

/// One value of one property at one time, as it was told.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Fact {
    /// Of which device.
    pub device: DeviceId,
    /// The property.
    pub property: Property,
    /// When it was true, as it was told.
    pub time: Timestamp,
    /// The value.
    pub value: Value,
}
