//! Running other programs, and the one error type of the tasks.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// Why a task failed. Each message says what to do.
#[derive(Debug, thiserror::Error)]
pub enum TaskError {
    /// A program could not be started at all.
    #[error("could not start `{program}`: is it installed?")]
    Start {
        /// The program's name.
        program: String,
        /// What the system said.
        #[source]
        source: std::io::Error,
    },
    /// A program ran and failed; it has said why itself.
    #[error("`{line}` failed")]
    Failed {
        /// The command line.
        line: String,
    },
    /// Programs are missing and can't be installed from here.
    #[error("missing, and not installed by this task ({why}):\n{list}")]
    Missing {
        /// Why they were not installed.
        why: &'static str,
        /// What to install, one a line.
        list: String,
    },
    /// An environment variable points at nothing.
    #[error("{name} is set to `{value}`, which does not exist: correct or unset it")]
    Environment {
        /// The variable's name.
        name: &'static str,
        /// Its value.
        value: String,
    },
    /// A file could not be read or written.
    #[error("could not read or write `{}`", path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// What the system said.
        #[source]
        source: std::io::Error,
    },
    /// The test run was not a pass.
    #[error("{0}")]
    Tests(&'static str),
    /// Several lints failed.
    #[error("failed: {0}")]
    Lints(String),
}

/// The repository's root: the folder above this package.
pub fn root() -> PathBuf {
    let package = Path::new(env!("CARGO_MANIFEST_DIR"));
    package.parent().unwrap_or(package).to_path_buf()
}

/// A program to be run in the repository's root, without standard input.
///
/// What `cargo run` sets for this task itself is taken away: some build scripts (ring's) watch
/// those variables, and would otherwise be built again each time one changes between `cargo xtask`
/// and plain cargo.
pub fn command(program: &str, arguments: &[&str]) -> Command {
    let mut command = Command::new(program);
    command.args(arguments).current_dir(root()).stdin(Stdio::null());
    for (name, _) in std::env::vars_os() {
        let name = name.to_string_lossy();
        if name.starts_with("CARGO_PKG_") || name.starts_with("CARGO_MANIFEST_") || name == "CARGO_BIN_NAME" {
            command.env_remove(name.as_ref());
        }
    }
    command
}

/// The cargo that runs this task.
pub fn cargo(arguments: &[&str]) -> Command {
    let program = std::env::var("CARGO").unwrap_or_else(|_| "cargo".to_owned());
    command(&program, arguments)
}

/// Runs to the end, output shown.
pub fn run(mut command: Command) -> Result<(), TaskError> {
    let line = line_of(&command);
    eprintln!("xtask: {line}");
    let status = command.status().map_err(|source| start_error(&command, source))?;
    if status.success() { Ok(()) } else { Err(TaskError::Failed { line }) }
}

/// The error for a program that did not start.
pub fn start_error(command: &Command, source: std::io::Error) -> TaskError {
    TaskError::Start { program: command.get_program().to_string_lossy().into_owned(), source }
}

/// The command as one would type it; a program's folder is left out.
pub fn line_of(command: &Command) -> String {
    let program = Path::new(command.get_program());
    let name = program.file_name().unwrap_or(command.get_program()).to_string_lossy().into_owned();
    std::iter::once(name)
        .chain(command.get_args().map(|argument| argument.to_string_lossy().into_owned()))
        .collect::<Vec<_>>()
        .join(" ")
}
