//! Readings become home state and history. Pure: no input or output, no clock.

mod derived;
mod history;
mod plan;
mod registry;
mod state;

pub use derived::{Moments, Wall};
pub use history::{HISTORY_FINE_MS, HISTORY_STEP_MS, thin};
pub use plan::{Desired, PlanError, nearest_white, objections, plan};
pub use registry::{
    DEVICES_MAX, Description, PROPERTIES_PER_DEVICE_MAX, PropertyDescription, Registered, Registry, RegistryError,
};
pub use state::{HomeState, Known, Reading, Sample, Update};
