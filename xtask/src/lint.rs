//! Formatting, clippy, docs, and cargo-deny where it is installed.

use std::process::Stdio;

use crate::shell::{self, TaskError};

/// Runs every lint to the end.
///
/// # Errors
///
/// [`TaskError::Lints`] with the command lines that failed; each has said why above.
pub fn run() -> Result<(), TaskError> {
    let mut docs = shell::cargo(&["doc", "--workspace", "--no-deps", "--locked"]);
    docs.env("RUSTDOCFLAGS", "-D warnings");
    let mut lints = vec![
        shell::cargo(&["fmt", "--all", "--check"]),
        shell::cargo(&["clippy", "--workspace", "--all-targets", "--locked", "--", "-D", "warnings"]),
        docs,
    ];
    if has_deny() {
        // Advisories need a database from GitHub: a person runs them before a release.
        lints.push(shell::cargo(&["deny", "--locked", "check", "licenses", "bans", "sources"]));
    } else {
        eprintln!(
            "xtask: cargo-deny is not installed: licences, bans and sources are NOT checked \
             (cargo install cargo-deny --locked)"
        );
    }
    let failed: Vec<String> =
        lints.into_iter().filter_map(|lint| shell::run(lint).err()).map(|error| error.to_string()).collect();
    if failed.is_empty() { Ok(()) } else { Err(TaskError::Lints(failed.join("; "))) }
}

fn has_deny() -> bool {
    let mut command = shell::cargo(&["deny", "--version"]);
    command.stdout(Stdio::null()).stderr(Stdio::null()).status().is_ok_and(|status| status.success())
}
