//! Proofs of what can never happen.
//!
//! A [`Claim`] says what is never told or done. It is decided twice: over every cell of the compiled table of a home, and for
//! all homes by a solver (cvc5, through cedar-policy-symcc), which is given the policies and the claim and looks for any
//! request that both allow. A counterexample is put to the real authoriser before it is believed. The two must agree: where
//! they don't, one of them is wrong, and that is said loudly.
//!
//! This is a room of its own, and a binary of its own, because the solver's compiler is heavy: the hub does not carry it.

mod claim;
mod data;
mod exhaustive;
mod report;
mod scripts;
mod solver;
mod subject;

pub use claim::{CLAIMS_MAX, CLAIMS_MAX_BYTES, Claim, ClaimError, standing};
pub use data::{DataError, of_data};
pub use exhaustive::{Example, Exhaustive, decide};
pub use report::{Line, ProveError, Verdict, prove};
pub use scripts::{ScriptError, Scripts};
pub use solver::{CVC5, Found, Ready, SOLVER_POLICIES_MAX, SOLVER_TIMEOUT, STACK_BYTES, Solved, Solver};
pub use subject::{Subject, of_document, of_home, of_profile};
