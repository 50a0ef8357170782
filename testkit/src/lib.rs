//! Clocks that run at another speed, pretend partners that speak the real protocol over the real network, and what a
//! partner may know ([`released`]).

mod alexa;
#[cfg(feature = "amazon")]
mod amazon;
mod clock;
pub mod latency;
pub mod released;
#[cfg(feature = "amazon")]
pub mod schemas;
mod workload;

pub use alexa::{Exchange, PretendAlexa, SendError, directive};
#[cfg(feature = "amazon")]
pub use amazon::{PretendAmazon, Received, Whim};
pub use clock::{FakeClock, ScaledClock};
pub use workload::{Act, Step, Workload, WorkloadError};
