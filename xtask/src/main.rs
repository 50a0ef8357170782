//! Development tasks, run as `cargo xtask <task>`.
//!
//! - `test`: installs or asks for the outside programs that tests talk to, runs every test, counts.
//! - `lint`: formatting, clippy, docs, and cargo-deny where it is installed.
//! - `ci`: `test`, then `lint`; what `.ci/run` calls.
//! - `bench`: measures the release build against what this machine could do at best.
//! - `soak`: the long forms of tests, in release builds where they can be.
//! - `peers`: prints the outside programs as shell exports, for running one test by hand.
//!
//! The tests in this package hold the workspace's shape: the arrows between rooms (`arrows`), and
//! the tidiness of every file (`tidy`).

mod bench;
mod fuzz;
mod lint;
mod peers;
mod shell;
mod soak;
mod test;

#[cfg(test)]
mod arrows;
#[cfg(test)]
mod tidy;

use std::process::ExitCode;

use shell::TaskError;

const USAGE: &str = "usage: cargo xtask <task>

  test    install (Debian, as root) or list the programs that tests need, then run every test
  lint    cargo fmt --check, clippy, rustdoc, and cargo-deny where it is installed
  ci      test, then lint
  bench   build for release and measure; `cargo xtask bench --help` lists its parts
  soak    run the long forms of tests: all, or those named
  peers   print the programs that tests need as shell exports: eval \"$(cargo xtask peers)\"
";

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let done = match arguments.iter().map(String::as_str).collect::<Vec<_>>().as_slice() {
        ["test"] => run_test(),
        ["lint"] => lint::run(),
        ["ci"] => run_ci(),
        ["bench", rest @ ..] => bench::run(rest),
        ["soak", names @ ..] => soak::run(names),
        ["peers"] => run_peers(),
        ["help" | "--help" | "-h"] => {
            print!("{USAGE}\nsoaks:\n{}", soak::list());
            return ExitCode::SUCCESS;
        }
        _ => {
            eprint!("{USAGE}");
            return ExitCode::from(2);
        }
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("xtask: {error}");
            ExitCode::FAILURE
        }
    }
}

/// Runs every test. The count is printed last, also when tests fail.
fn run_test() -> Result<(), TaskError> {
    let count = test::run()?;
    println!("{count}");
    count.verdict()
}

/// Tests and lints, both to the end, so that one run shows everything; the count is printed last.
fn run_ci() -> Result<(), TaskError> {
    let count = test::run()?;
    let lints = lint::run();
    if let Err(error) = &lints {
        eprintln!("xtask: {error}");
    }
    println!("{count}");
    count.verdict().and(lints)
}

fn run_peers() -> Result<(), TaskError> {
    for (name, path) in peers::provide()? {
        println!("export {name}='{}'", path.display());
    }
    Ok(())
}
