//! Clocks that run at another speed, and pretend partners that speak the real protocol over the real network.

mod alexa;
mod clock;
mod workload;

pub use alexa::{Exchange, PretendAlexa, SendError, directive};
pub use clock::{FakeClock, ScaledClock};
pub use workload::{Act, Step, Workload, WorkloadError};
