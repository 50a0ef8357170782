//! The questions put to the solver, as files that anybody checks again with a cvc5 of their own.

use std::fs;
use std::path::{Path, PathBuf};

use cedar_policy_symcc::err::Error;
use cedar_policy_symcc::solver::WriterSolver;
use cedar_policy_symcc::{CedarSymCompiler, disjoint_asserts};
use policy::World;

use crate::report::Line;
use crate::solver::{Ready, breaking};
use crate::{Claim, exhaustive};

/// What re-checks them.
const CHECK: &str = include_str!("check.sh");

/// Why they can't be written.
#[derive(Debug, thiserror::Error)]
pub enum ScriptError {
    /// A file can't be written.
    #[error("`{path}` can't be written; check the folder")]
    File {
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// The claim can't be told to the solver.
    #[error("claim `{claim}` has no script: {why}")]
    Claim {
        /// The claim.
        claim: String,
        /// Why.
        why: String,
    },
}

/// A folder of scripts.
pub struct Scripts {
    folder: PathBuf,
    /// Lines of file and expected answer.
    answers: String,
    results: String,
}

impl Scripts {
    /// Begins a folder, making it if it is not there.
    ///
    /// # Errors
    /// When it can't be made.
    pub fn new(folder: &Path) -> Result<Self, ScriptError> {
        let failed = |source| ScriptError::File { path: folder.to_owned(), source };
        fs::create_dir_all(folder).map_err(failed)?;
        Ok(Self { folder: folder.to_owned(), answers: String::new(), results: String::new() })
    }

    fn write(&self, name: &str, text: &str) -> Result<(), ScriptError> {
        let path = self.folder.join(name);
        fs::write(&path, text).map_err(|source| ScriptError::File { path, source })
    }

    /// Writes the questions of one claim, with the answers that the table gives.
    ///
    /// # Errors
    /// When a file can't be written.
    pub fn claim(&mut self, claim: &Claim, ready: &Ready<'_>, line: &Line) -> Result<(), ScriptError> {
        let failed = |why: String| ScriptError::Claim { claim: claim.id.clone(), why };
        let broken = exhaustive::decide(claim, ready.subject).map_err(|e| failed(e.to_string()))?.broken;
        let stem = line.profile.iter().chain([&line.claim]).cloned().collect::<Vec<_>>().join(".");
        let mut policies = String::new();
        for action in claim.actions() {
            let (_, meant) = breaking(ready, claim, action).map_err(failed)?;
            let permitted = ready.policies(action).map_err(failed)?;
            let script = script(&permitted, &meant).map_err(failed)?;
            let name = format!("{stem}.{}.smt2", action.as_str());
            let expected = if broken.contains_key(&action) { "sat" } else { "unsat" };
            self.write(&name, &format!("; {}\n; {}: expected {expected}\n{script}", claim.says, action.as_str()))?;
            self.answers.push_str(&format!("{name} {expected}\n"));
            policies.push_str(&ready.subject.breaking(claim, action).concat());
        }
        self.write(&format!("{stem}.cedar"), &format!("// What would break: {}\n{policies}", claim.says))?;
        self.results.push_str(&serde_json::to_string(line).unwrap_or_default());
        self.results.push('\n');
        Ok(())
    }

    /// Writes what the claims of one subject were held against.
    ///
    /// # Errors
    /// When a file can't be written.
    pub fn subject(&self, ready: &Ready<'_>) -> Result<(), ScriptError> {
        let name = ready.subject.profile.as_deref().unwrap_or("home");
        let ceiling: String = ready.world.ceiling().policies().map(|p| format!("{p}\n")).collect();
        self.write(&format!("{name}.policies.cedar"), &format!("{ceiling}{}", ready.subject.permits_text()))
    }

    /// Ends the folder: what is expected, what came out, and the script that checks it.
    ///
    /// # Errors
    /// When a file can't be written.
    pub fn finish(self) -> Result<(), ScriptError> {
        self.write("vestibule.cedarschema", &World::schema_text())?;
        self.write("answers", &self.answers)?;
        self.write("results.jsonl", &self.results)?;
        self.write("check.sh", CHECK)
    }
}

/// The question whether two sets of policies have a request in common, in SMT-LIB.
fn script(
    permitted: &cedar_policy_symcc::CompiledPolicySet,
    meant: &cedar_policy_symcc::CompiledPolicySet,
) -> Result<String, String> {
    let runtime = tokio::runtime::Builder::new_current_thread().build().map_err(|e| e.to_string())?;
    let writer = WriterSolver { w: Vec::new() };
    let mut compiler = CedarSymCompiler::new(writer).map_err(|e| e.to_string())?;
    let asserts = disjoint_asserts(permitted, meant);
    match runtime.block_on(compiler.check_unsat(&asserts)) {
        // The compiler alone sees the answer: the question is a constant.
        Ok(disjoint) => Ok(format!("(set-logic ALL)\n(assert {})\n(check-sat)\n", !disjoint)),
        Err(Error::SolverUnknown) => {
            let text = String::from_utf8(compiler.solver_mut().w.clone()).map_err(|e| e.to_string())?;
            Ok(text.replace("(reset)\n", ""))
        }
        Err(error) => Err(error.to_string()),
    }
}
