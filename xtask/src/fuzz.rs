//! LibFuzzer on every parser of what outsiders send, under the ordinary compiler: what cargo-fuzz would pass to a nightly one,
//! without the address sanitizer (this project has no unsafe code of its own).

use std::fs;
use std::path::Path;

use crate::shell::{self, TaskError, root};

/// How long each target is fuzzed, in seconds.
const SECONDS: u32 = 300;

/// Longest input, bytes; as in the replay of the corpus.
const INPUT_MAX_BYTES: u32 = 128 * 1024;

/// Most memory of one fuzzer, in MiB.
const MEMORY_MAX_MIB: u32 = 1024;

/// Most time for one input, in seconds: whatever takes longer is a finding.
const INPUT_MAX_S: u32 = 20;

/// Coverage at each edge, and what is compared with what: LibFuzzer goes by both.
const FLAGS: &str = "--cfg fuzzing -Cpasses=sancov-module -Cllvm-args=-sanitizer-coverage-level=4 \
                     -Cllvm-args=-sanitizer-coverage-inline-8bit-counters -Cllvm-args=-sanitizer-coverage-pc-table \
                     -Cllvm-args=-sanitizer-coverage-trace-compares -Clink-dead-code -Cdebug-assertions -Coverflow-checks";

/// Builds the fuzzers and runs each for a while. What they find is left in `target/fuzz/found`.
///
/// # Errors
/// When they can't be built (they need crates.io and a C++ compiler), or one of them has found something.
pub fn run() -> Result<(), TaskError> {
    let target = root().join("target").join("fuzz");
    let found = target.join("found");
    let made =
        |path: &Path| fs::create_dir_all(path).map_err(|source| TaskError::File { path: path.to_owned(), source });
    made(&found)?;
    let host = host()?;
    // With a target of its own the flags are not those of build scripts.
    let arguments =
        ["build", "--release", "--locked", "--bins", "--manifest-path", "fuzz/Cargo.toml", "--target", &host];
    let mut build = shell::cargo(&arguments);
    build.env("RUSTFLAGS", FLAGS).env("CARGO_TARGET_DIR", &target);
    shell::run(build)?;
    let mut failed = Vec::new();
    for name in names()? {
        // What is new goes there; the corpus of the project stays as it is.
        let grown = target.join("corpus").join(&name);
        made(&grown)?;
        let program = target.join(&host).join("release").join(&name);
        let seeds = root().join("fuzz").join("corpus").join(&name);
        let mut command = shell::command(&program.to_string_lossy(), &[]);
        command.arg(&grown).arg(&seeds);
        command.arg(format!("-max_total_time={SECONDS}")).arg(format!("-max_len={INPUT_MAX_BYTES}"));
        command.arg(format!("-rss_limit_mb={MEMORY_MAX_MIB}")).arg(format!("-timeout={INPUT_MAX_S}"));
        command.arg(format!("-artifact_prefix={}/{name}-", found.display())).arg("-print_final_stats=1");
        if let Err(error) = shell::run(command) {
            eprintln!("xtask: {error}");
            failed.push(name);
        }
    }
    if failed.is_empty() {
        return Ok(());
    }
    Err(TaskError::Lints(format!("{}: see `{}`", failed.join(", "), found.display())))
}

/// The fuzzers, by the files that they are.
fn names() -> Result<Vec<String>, TaskError> {
    let path = root().join("fuzz").join("fuzz_targets");
    let read = || -> std::io::Result<Vec<String>> {
        let mut names = Vec::new();
        for entry in fs::read_dir(&path)? {
            names.extend(entry?.path().file_stem().map(|stem| stem.to_string_lossy().into_owned()));
        }
        names.sort();
        Ok(names)
    };
    read().map_err(|source| TaskError::File { path, source })
}

/// The compiler's own target.
fn host() -> Result<String, TaskError> {
    let output = shell::command("rustc", &["-vV"])
        .output()
        .map_err(|source| TaskError::Start { program: "rustc".into(), source })?;
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let host = text.lines().find_map(|line| line.strip_prefix("host: ")).map(str::to_owned);
    host.ok_or_else(|| TaskError::Failed { line: "rustc -vV".into() })
}
