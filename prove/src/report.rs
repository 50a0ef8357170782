//! One claim decided twice, and what is said of it.

use std::time::Instant;

use policy::CompileError;
use serde::Serialize;

use crate::Claim;
use crate::exhaustive::{self, Example};
use crate::solver::{Ready, Solved, Solver};

/// What came out of one way of deciding.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Verdict {
    /// It never happens.
    Proven,
    /// It can happen.
    Refuted,
    /// This way has no word of it.
    Unavailable,
}

impl Verdict {
    /// The word for it.
    pub fn as_str(self) -> &'static str {
        match self {
            Verdict::Proven => "proven",
            Verdict::Refuted => "refuted",
            Verdict::Unavailable => "unavailable",
        }
    }
}

/// One claim, decided.
#[derive(Clone, Debug, Serialize)]
pub struct Line {
    /// Its name.
    pub claim: String,
    /// What it says.
    pub says: String,
    /// Of which profile it was decided.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub profile: Option<String>,
    /// Over every cell of the table.
    pub exhaustive: Verdict,
    /// For all homes.
    pub solver: Verdict,
    /// What breaks it, in one sentence.
    pub counterexample: Option<String>,
    /// The same, to be read by a program.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub example: Option<Example>,
    /// What is told, and tells of what the claim says is not.
    pub derivable_from: Vec<model::Property>,
    /// Whether the home has nothing of what the claim speaks of: then it holds for want of it.
    pub vacuous: bool,
    /// Whether the two ways, or a counterexample and the authoriser, contradict each other: an error of this program.
    pub disagreement: bool,
    /// What else should be known.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub notes: Vec<String>,
    /// How long it took to decide, both ways.
    pub ms: f64,
}

impl Line {
    /// Whether it never happens, by all that has a word of it.
    pub fn is_proven(&self) -> bool {
        self.exhaustive == Verdict::Proven && self.solver != Verdict::Refuted && !self.disagreement
    }
}

/// Why a claim can't be decided.
#[derive(Debug, thiserror::Error)]
pub enum ProveError {
    /// The policies are none.
    #[error(transparent)]
    Compile(#[from] CompileError),
    /// A profile has no devices of its own.
    #[error("claim `{0}` names devices, and a profile is for whatever devices: give --data or --policy")]
    Devices(String),
}

/// Decides a claim in both ways.
///
/// # Errors
/// When it can't be asked at all.
pub fn prove(claim: &Claim, ready: &mut Ready<'_>, solver: &mut Solver) -> Result<Line, ProveError> {
    let subject = ready.subject;
    if subject.profile.is_some() && !claim.devices.is_empty() {
        return Err(ProveError::Devices(claim.id.clone()));
    }
    #[expect(clippy::disallowed_methods, reason = "how long it took is told, and nothing depends on it")]
    let begin = Instant::now();
    let found = exhaustive::decide(claim, subject)?;
    let solved = solver.solve(ready, claim);
    let mut notes = Vec::new();
    let mut disagreement = Vec::new();
    for example in found.broken.values().filter(|e| !e.confirmed) {
        disagreement.push(format!("the authoriser refuses what the table allows: {}", example.words));
    }
    let mut counterexample = found.broken.values().next().map(|e| e.words.clone());
    let verdict = match &solved {
        Solved::Unavailable(why) => {
            notes.push(format!("solver: {why}"));
            Verdict::Unavailable
        }
        Solved::Decided(all) => {
            for (action, answer) in all {
                match (found.broken.get(action), answer) {
                    (None, Some(f)) => disagreement.push(format!(
                        "at {} the table refuses, and the solver finds: {}",
                        action.as_str(),
                        f.words
                    )),
                    (Some(e), None) => disagreement.push(format!(
                        "at {} the solver finds nothing, and the table allows: {}",
                        action.as_str(),
                        e.words
                    )),
                    (Some(_), Some(f)) if !f.confirmed => disagreement.push(format!(
                        "the hub refuses what the solver found at {}: {}",
                        action.as_str(),
                        f.words
                    )),
                    _ => {}
                }
            }
            let first = all.values().flatten().next();
            if counterexample.is_none() {
                counterexample = first.map(|f| f.words.clone());
            }
            if first.is_some() { Verdict::Refuted } else { Verdict::Proven }
        }
    };
    if found.vacuous {
        notes.push("there is nothing in this home that the claim speaks of".to_owned());
    }
    if claim.provenance() != policy::Provenance::LocalDirect {
        notes.push("no data has come to this hub in that way yet: decided as if all of it had".to_owned());
    }
    let disagrees = !disagreement.is_empty();
    notes.extend(disagreement.into_iter().map(|what| format!("DISAGREEMENT: {what}")));
    Ok(Line {
        claim: claim.id.clone(),
        says: claim.says.clone(),
        profile: subject.profile.clone(),
        exhaustive: if found.broken.is_empty() { Verdict::Proven } else { Verdict::Refuted },
        solver: verdict,
        counterexample,
        example: found.broken.into_values().next(),
        derivable_from: found.derivable_from.into_iter().collect(),
        vacuous: found.vacuous,
        disagreement: disagrees,
        notes,
        ms: (begin.elapsed().as_secs_f64() * 1e6).round() / 1e3,
    })
}
