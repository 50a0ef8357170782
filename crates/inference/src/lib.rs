//! What can be inferred from what was sent: a fixed attacker, so that two policies can be compared by one number.
//!
//! It knows of no home and no partner: series of numbers come in with their times, and the truth that is to be guessed.
//! Deterministic: what is drawn, is drawn from a seed that is an argument.

mod attackers;
mod features;
mod information;
mod random;
mod score;
mod study;
mod truth;

pub use attackers::{Attack, Attacker, Guess};
pub use features::{Features, STEP_MS, Seen, Series};
pub use information::{Information, information};
pub use random::Random;
pub use score::{Increment, auc, balanced_accuracy, increment};
pub use study::{Found, Leak, Study, leaks};
pub use truth::{EMPTY_MIN_MS, Local, Samples, Target, Truth, nobody_home};
