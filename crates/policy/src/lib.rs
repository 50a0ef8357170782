//! Grants generate Cedar policies; policies are compiled to a decision table.
//!
//! Precision is part of the question put to Cedar: for each link, property and trigger it is asked from the finest rung
//! to the coarsest, and the first that is allowed stands in the table. Any evaluation error is a refusal (Cedar itself
//! would skip a `forbid` that errors, and let the permit win). Time is an argument: an expired grant is left out, and
//! the table says when the next one expires.

mod compile;
mod consent;
mod difference;
mod document;
mod grant;
mod impact;
mod profile;
mod questions;
mod schema;
mod table;
mod when;
mod world;

pub use compile::{
    CEILING_MAX_BYTES, CELL_POLICIES_MAX, Ceiling, CompileError, DeviceFact, Facts, LinkFact, Provenance,
    check_ceiling, compile, compile_as,
};
pub use consent::{Divided, WAIT_MS, divide, is_of_same, merged, taken_back, takes_force, waits, widens, wider};
pub use difference::{Changed, Difference, difference, longer};
pub use document::{DOCUMENT_MAX_BYTES, Document, DocumentError};
pub use grant::{Code, Grant, STEP_DOWN_DAYS, What, code_words, days_at_most, in_words};
pub use impact::{Confidence, Does, Impact, Task, Works, impact, tasks};
pub use profile::{Change, Cost, Profile, Terms, apply, opens, profile, profiles};
pub use questions::{Answer, Proposal, Question, propose, questions};
pub use table::{Decision, MatrixRow, Table, rung_words};
pub use when::{
    HOURS_MAX, Hours, HoursError, Moment, NAME_MAX_BYTES, Name, NameError, WINDOW_MAX_MINUTES, Windows, in_force,
};
pub use world::{Action, World};
