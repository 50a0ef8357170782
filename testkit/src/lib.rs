//! Clocks that run at another speed, pretend partners that speak the real protocol over the real network, and what a
//! partner may know ([`released`]).

mod alexa;
mod amazon;
mod clock;
pub mod latency;
pub mod released;
mod workload;

pub use alexa::{Exchange, PretendAlexa, SendError, directive};
pub use amazon::{PretendAmazon, Received, Whim};
pub use clock::{FakeClock, ScaledClock};
pub use workload::{Act, Step, Workload, WorkloadError};
