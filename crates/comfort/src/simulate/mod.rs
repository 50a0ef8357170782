//! A house, its equipment, its weather and its faults: for tests, for `vestibule thermostat simulate`, and (the house and
//! the weather) for the simulated home of the demo. Everything is a function of its inputs and a seed.

pub mod faults;
pub mod house;
pub mod plant;
pub mod rng;
pub mod run;
pub mod watch;
pub mod weather;
