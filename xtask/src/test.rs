//! Runs every test of the workspace with plain `cargo test`, and counts.
//!
//! A test that can't run without a recording passes for cargo. It says so by appending one line,
//! `test name: reason`, to the file that `VESTIBULE_SKIPS` names; those are counted as skipped here,
//! and listed at the end.

use std::collections::BTreeSet;
use std::fmt;
use std::io::{BufRead, BufReader, Write};
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};
use std::{env, fs, io};

use crate::peers;
use crate::shell::{self, TaskError};

/// Tests find recordings of real homes below the folder that this names.
const RECORDINGS: &str = "VESTIBULE_RECORDINGS";
/// Tests append a line to the file that this names when they skip themselves.
const SKIPS: &str = "VESTIBULE_SKIPS";

/// How a test run ended.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Count {
    passed: u64,
    failed: u64,
    skipped: u64,
    /// Whether cargo itself ended with success: a test binary that crashes fails no test.
    clean: bool,
}

impl fmt::Display for Count {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} passed, {} failed, {} skipped", self.passed, self.failed, self.skipped)
    }
}

impl Count {
    /// Success only when something passed, nothing failed, and cargo agrees.
    pub fn verdict(&self) -> Result<(), TaskError> {
        if self.failed > 0 {
            Err(TaskError::Tests("tests failed: cargo names them above"))
        } else if !self.clean {
            Err(TaskError::Tests("cargo test failed outside a test (a crash, or docs that don't build): see above"))
        } else if self.passed == 0 {
            Err(TaskError::Tests("no test passed: the test run is broken"))
        } else {
            Ok(())
        }
    }

    /// Adds one line of cargo's output, if it closes a test binary.
    fn add(&mut self, line: &str) {
        let Some(result) = line.strip_prefix("test result: ") else {
            return;
        };
        let result = result.split_once(". ").map_or("", |(_, numbers)| numbers);
        for (number, what) in result.split("; ").filter_map(|part| part.split_once(' ')) {
            let number: u64 = number.parse().unwrap_or(0);
            match what {
                "passed" => self.passed += number,
                "failed" => self.failed += number,
                "ignored" => self.skipped += number,
                _ => {}
            }
        }
    }

    /// Counts tests that cargo saw pass, and that said they were skipped.
    fn skip(&mut self, number: u64) {
        let number = number.min(self.passed);
        self.passed -= number;
        self.skipped += number;
    }
}

/// Provides the peers, builds, runs every test to the end, and says aloud what was skipped.
///
/// # Errors
///
/// Where the tests could not be run at all: a missing peer, a failed build. Failed tests are in the
/// count, and in its verdict.
pub fn run() -> Result<Count, TaskError> {
    let mut variables = peers::provide()?;
    let recordings = recordings()?;
    match &recordings {
        Some(folder) => {
            eprintln!("xtask: recordings of real homes from `{}`", folder.display());
            variables.push((RECORDINGS, folder.clone()));
        }
        None => eprintln!("xtask: no recordings of real homes: tests on them will be skipped (set {RECORDINGS})"),
    }
    let skips = env::temp_dir().join(format!("vestibule-skips-{}", std::process::id()));
    fs::write(&skips, "").map_err(|source| TaskError::File { path: skips.clone(), source })?;
    variables.push((SKIPS, skips.clone()));

    shell::run(shell::cargo(&["test", "--workspace", "--locked", "--no-run"]))?;
    let mut tests = shell::cargo(&["test", "--workspace", "--locked", "--no-fail-fast"]);
    tests.envs(variables);
    let (mut count, took) = run_and_count(tests)?;

    let said = fs::read(&skips).map_err(|source| TaskError::File { path: skips.clone(), source })?;
    let said = String::from_utf8_lossy(&said).into_owned();
    let skipped: BTreeSet<&str> = said.lines().filter(|line| !line.trim().is_empty()).collect();
    for line in &skipped {
        println!("SKIPPED: {line}");
    }
    count.skip(skipped.len() as u64);
    // It held only what is printed above.
    let _ = fs::remove_file(&skips);
    println!("tests took {} minutes {} seconds", took.as_secs() / 60, took.as_secs() % 60);
    Ok(count)
}

#[expect(clippy::disallowed_methods, reason = "tells the developer how long the tests took; nothing depends on it")]
fn run_and_count(mut tests: Command) -> Result<(Count, Duration), TaskError> {
    eprintln!("xtask: {}", shell::line_of(&tests));
    let start = Instant::now();
    let mut child = tests.stdout(Stdio::piped()).spawn().map_err(|source| shell::start_error(&tests, source))?;
    let mut count = Count::default();
    if let Some(output) = child.stdout.take() {
        // A console that is gone must not stop the tests: what matters is the count.
        count_lines(BufReader::new(output), &mut count, |line| {
            let _ = io::stdout().write_all(line);
        })
        .map_err(|source| shell::start_error(&tests, source))?;
    }
    count.clean = child.wait().map_err(|source| shell::start_error(&tests, source))?.success();
    Ok((count, start.elapsed()))
}

fn count_lines(mut output: impl BufRead, count: &mut Count, mut show: impl FnMut(&[u8])) -> io::Result<()> {
    let mut line = Vec::new();
    while output.read_until(b'\n', &mut line)? > 0 {
        show(&line);
        count.add(String::from_utf8_lossy(&line).trim_end());
        line.clear();
    }
    Ok(())
}

/// The folder with recordings of real homes, if there is one: named, or beside the checkout.
fn recordings() -> Result<Option<PathBuf>, TaskError> {
    if peers::is_set(RECORDINGS) {
        let named = PathBuf::from(env::var_os(RECORDINGS).unwrap_or_default());
        return match fs::canonicalize(&named) {
            Ok(folder) if folder.is_dir() => Ok(Some(folder)),
            _ => Err(TaskError::Environment { name: RECORDINGS, value: named.display().to_string() }),
        };
    }
    let beside = shell::root().join("..").join("shared").join("data");
    Ok(fs::canonicalize(beside).ok().filter(|folder| folder.is_dir()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn counted(output: &str, clean: bool) -> Count {
        let mut count = Count { clean, ..Count::default() };
        count_lines(output.as_bytes(), &mut count, |_| {}).unwrap();
        count
    }

    #[test]
    fn cargos_closing_lines_are_added_up_and_skips_taken_off_the_passed() {
        let mut count = counted(
            "running 3 tests\n\
             test result: ok. 3 passed; 0 failed; 1 ignored; 0 measured; 0 filtered out; finished in 0.00s\n\
             noise: test result: ok. 9 passed; 9 failed\n\
             test result: FAILED. 12 passed; 2 failed; 0 ignored; 0 measured; 7 filtered out; finished in 1.50s",
            true,
        );
        assert_eq!(count.to_string(), "15 passed, 2 failed, 1 skipped");
        count.skip(4);
        assert_eq!(count.to_string(), "11 passed, 2 failed, 5 skipped");
    }

    #[test]
    fn only_a_run_that_passed_something_and_ended_well_is_a_pass() {
        let line = "test result: ok. 1 passed; 0 failed; 0 ignored; 0 measured; 0 filtered out; finished in 0.0s\n";
        assert!(counted(line, true).verdict().is_ok());
        assert!(counted(line, false).verdict().is_err(), "a crash fails no test, but is no pass");
        assert!(counted("", true).verdict().is_err(), "no test at all");
        assert!(counted(&line.replace("0 failed", "1 failed"), true).verdict().is_err());
        let mut all_skipped = counted(line, true);
        all_skipped.skip(1);
        assert!(all_skipped.verdict().is_err(), "all tests skipped themselves");
    }
}
