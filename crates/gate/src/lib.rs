//! The gate: the one place that sees both the home and a partner. It decides (by the table that `policy` compiled) and
//! shapes (by the rung), and it writes down each decision.
//!
//! Everything here is a function of its arguments: readings, grants, questions and the time that comes with them.

mod clock;
mod once;
mod session;
mod shape;
mod state;

pub use clock::{AHEAD_MAX_MS, GRIDS, REPORT_GRID_MS, Steady, moments, tick};
pub use once::{ONCE_PER_LINK_MAX, ONCE_WINDOW_MS};
pub use session::{Actuator, ActuatorError, Decided, Finished, Order, PinFault, Session, Shown};
pub use state::{Begun, GateState, StateWrite};
