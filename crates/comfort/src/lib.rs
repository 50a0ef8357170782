//! The thermostat. Pure: time is an argument, nothing here reads a clock, a file or a socket.
//!
//! # Where to enter
//!
//! - Make one: [`Thermostat::new`] with a [`Config`] and a time zone; after a restart [`Thermostat::restore`] with what
//!   [`Thermostat::save`] gave and what the relays report.
//! - Hear a sensor: [`Thermostat::hear`], for each message.
//! - Step: [`Thermostat::tick`], at least once a minute and after each order, with the two clocks ([`Now`]) and what else is
//!   known ([`Inputs`]). Switch [`Decision::relays`], and nothing else. Tell it what the relays report ([`Inputs::reported`]).
//! - Order: [`Thermostat::set_hold`], [`resume`](Thermostat::resume), [`create_vacation`](Thermostat::create_vacation),
//!   [`set_mode`](Thermostat::set_mode), [`configure`](Thermostat::configure) (settings, program, sensors), ...
//! - Explain: [`Decision::why`], [`Decision::denied`], [`Thermostat::events`] (the stack, highest first),
//!   [`Thermostat::alerts`].
//! - Show the learned house: [`Thermostat::house`].
//! - Keep: [`Thermostat::save`] after each change of relays or events and each few minutes; each [`Decision::interval`]
//!   (five minutes that have ended) in the history.
//!
//! # How a step goes
//!
//! Sensors are fused ([`sensor`]), the stack of events is laid over the program ([`event`], [`program`]), an optimal start
//! may bring the next comfort setting forward ([`learn`]), both set points pass [`SetPoints::bounded`], the control asks
//! ([`Call`]), and the guard answers ([`guard`]): [`Relays`] can be made by the guard alone. A request from anywhere, however
//! it is worded, changes only what is asked.
//!
//! # The two clocks
//!
//! [`Now`] has the wall clock, by which the program and the ends of events go, and a monotonic one, by which guards and
//! sensors go. The guard keeps ages and no times: a wall clock that steps can't shorten a pause; a restart counts as no time.
//!
//! [`simulate`] has a house, its weather and faults for tests and for `vestibule thermostat simulate`.

pub mod alert;
pub mod archive;
pub mod control;
pub mod event;
pub mod guard;
pub mod health;
pub mod history;
pub mod learn;
pub mod price;
pub mod privacy;
pub mod program;
pub mod reminder;
pub mod report;
pub mod sensor;
pub mod settings;
pub mod simulate;
pub mod temperature;
pub mod thermostat;

pub use alert::{About, Alert};
pub use control::Reason;
pub use event::{Event, EventError, EventType, HoldType};
pub use guard::{Call, Denial, Denied, Limits, Output, Relays, SetPoints};
pub use history::Interval;
pub use price::{Heard, HeardPrices, Outlook, PricePlan};
pub use program::{Climate, ClimateRef, Program};
pub use reminder::{Counts, Reminders};
pub use sensor::{SensorConfig, SensorReading};
pub use settings::{Equipment, FanMode, HvacMode, Settings};
pub use temperature::{Delta, Temp};
pub use thermostat::{Answer, Caller, Config, Decision, Demand, Hold, Inputs, Lead, LearnedHouse, Now, Thermostat};
