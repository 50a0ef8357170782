//! Builds the hub and the bench as they are released, and measures (`bench/`).

use crate::peers;
use crate::shell::{self, TaskError};

/// Runs the bench with these arguments.
///
/// # Errors
///
/// When a peer is missing, the build fails, or something that must hold at any speed does not.
pub fn run(arguments: &[&str]) -> Result<(), TaskError> {
    let peers = peers::provide()?;
    shell::run(shell::cargo(&["build", "--release", "--locked", "-p", "vestibule", "-p", "bench"]))?;
    let mut bench = shell::cargo(&["run", "--quiet", "--release", "--locked", "-p", "bench", "--"]);
    bench.args(arguments).envs(peers);
    shell::run(bench)
}
