//! The long forms of tests: hours where `test` takes minutes. Each is an ordinary test that reads `VESTIBULE_FORM`.

use std::fs;

use crate::shell::{self, TaskError};
use crate::{fuzz, peers, shell::root};

/// Tests take their full form when this is `full`.
const FORM: &str = "VESTIBULE_FORM";

/// One soak: some tests, by a filter.
struct Soak {
    name: &'static str,
    what: &'static str,
    /// The test target, and the filter that picks its tests.
    target: &'static str,
    filter: &'static str,
}

/// Every soak. `cargo xtask soak NAME` runs one, without a name all in this order.
const SOAKS: &[Soak] = &[
    Soak {
        name: "record",
        what: "100,000 mixed messages captured at the socket are the ledger's, one for one",
        target: "it",
        filter: "record::",
    },
    Soak {
        name: "crash",
        what: "1,000 times kill -9, at injected points and at any time",
        target: "it",
        filter: "crash::",
    },
    Soak {
        name: "disk",
        what: "a store that fails at every write, a full, a read-only and a slow disk",
        target: "it",
        filter: "disk::",
    },
    Soak {
        name: "power",
        what: "every prefix of what was written to the database, as after a power cut",
        target: "power_cut",
        filter: "power_cut",
    },
    Soak {
        name: "events",
        what: "20,000 rounds of what is told unasked, to an Amazon that fails in every way",
        target: "it",
        filter: "events::days",
    },
    Soak {
        name: "canaries",
        what: "nothing secret in logs, metrics, errors, or in files where it does not belong",
        target: "it",
        filter: "canaries::",
    },
    Soak {
        name: "pairs",
        what: "20,000 pairs of homes with equal released views, through the gate and Alexa; planted leaks",
        target: "withheld",
        filter: "homes",
    },
    Soak {
        name: "proofs",
        what: "the solver and the table on whatever claims about a thousand homes with random grants",
        target: "claims",
        filter: "whatever",
    },
    Soak {
        name: "hubs",
        what: "200 pairs of real hubs with other days behind them, captured at the socket",
        target: "it",
        filter: "withheld::",
    },
    Soak {
        name: "decision",
        what: "a million questions to the table, to Cedar and to a naive evaluator",
        target: "decision",
        filter: "table_cedar",
    },
    Soak {
        name: "parsers",
        what: "250,000 mutations of the corpus for each parser of what outsiders send",
        target: "replay",
        filter: "",
    },
    Soak { name: "week", what: "a week of everything at once, in an hour", target: "it", filter: "week::" },
];

/// LibFuzzer's name among the soaks.
const FUZZ: (&str, &str) = ("fuzz", "libFuzzer, five minutes for each parser of what outsiders send");

/// What the release binary may not hold, each with the file that does: the variable that arms points of failure, a point, and
/// what a planted leak sends.
const NOT_IN_RELEASE: &[(&str, &str)] = &[
    (concat!("VESTIBULE_", "FAULTS"), "crates/faults/src/lib.rs"),
    (concat!("record-", "before-commit"), "crates/faults/src/lib.rs"),
    (concat!("x-readings", ": "), LEAKS),
];

/// Where the planted leaks are.
const LEAKS: &str = "testkit/tests/withheld/leaks.rs";

/// Names and descriptions, for the help.
pub fn list() -> String {
    let all = SOAKS.iter().map(|soak| (soak.name, soak.what)).chain([FUZZ]);
    all.map(|(name, what)| format!("  {name:9} {what}\n")).collect()
}

/// Runs the soaks of these names, in their order; with no name, all. Every one is run, also when one fails.
///
/// # Errors
/// When a name is none, a build fails, or a soak does.
pub fn run(names: &[&str]) -> Result<(), TaskError> {
    let is_known = |name: &str| name == FUZZ.0 || SOAKS.iter().any(|soak| soak.name == name);
    if let Some(unknown) = names.iter().find(|name| !is_known(name)) {
        return Err(TaskError::Lints(format!("there is no soak `{unknown}`; there are\n{}", list())));
    }
    shell::run(shell::cargo(&["build", "--release", "--locked"]))?;
    release_is_clean()?;
    let variables = peers::provide()?;
    let mut failed = Vec::new();
    for soak in SOAKS.iter().filter(|soak| names.is_empty() || names.contains(&soak.name)) {
        eprintln!("xtask: soak {}: {}", soak.name, soak.what);
        // All of the workspace each time: a part of it would build its dependencies anew, with other features.
        let arguments = ["test", "--locked", "--workspace", "--test", soak.target, "--profile", "soak"];
        let mut command = shell::cargo(&arguments);
        command.args(["--", soak.filter, "--nocapture", "--test-threads=1"]);
        command.env(FORM, "full").envs(variables.iter().map(|(name, path)| (name, path)));
        if let Err(error) = shell::run(command) {
            eprintln!("xtask: {error}");
            failed.push(soak.name);
        }
    }
    if names.is_empty() || names.contains(&FUZZ.0) {
        eprintln!("xtask: soak {}: {}", FUZZ.0, FUZZ.1);
        if let Err(error) = fuzz::run() {
            eprintln!("xtask: {error}");
            failed.push(FUZZ.0);
        }
    }
    if failed.is_empty() { Ok(()) } else { Err(TaskError::Lints(failed.join(", "))) }
}

/// The release binary has no points of failure: their names are not in it.
fn release_is_clean() -> Result<(), TaskError> {
    let target = std::env::var_os("CARGO_TARGET_DIR").map_or_else(|| root().join("target"), Into::into);
    let path = target.join("release").join("vestibule");
    let bytes = fs::read(&path).map_err(|source| TaskError::File { path: path.clone(), source })?;
    match NOT_IN_RELEASE.iter().find(|(text, _)| holds(&bytes, text.as_bytes())) {
        None => Ok(()),
        Some((text, _)) => {
            Err(TaskError::Lints(format!("`{}` holds `{text}`, which is for tests only", path.display())))
        }
    }
}

fn holds(bytes: &[u8], part: &[u8]) -> bool {
    bytes.windows(part.len()).any(|window| window == part)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_looked_for_in_the_release_binary_stands_in_the_source() {
        for (text, file) in NOT_IN_RELEASE {
            assert!(holds(&fs::read(root().join(file)).unwrap(), text.as_bytes()), "{text}");
        }
        assert!(run(&["no-such-soak"]).is_err());
    }
}
