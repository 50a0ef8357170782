//! The outside programs that tests talk to: found, or installed on Debian as root, or asked for.
//!
//! A missing one is always a failure. It is never a reason to skip a test.

use std::env;
use std::ffi::OsStr;
use std::path::{Path, PathBuf};

use crate::shell::{self, TaskError};

/// One outside program.
struct Peer {
    /// The variable by which tests are told where it is, and by which a user can say so.
    variable: &'static str,
    /// What it may be called; the first that is found is taken.
    programs: &'static [&'static str],
    /// The Debian package that holds it.
    package: &'static str,
    /// What it is for.
    purpose: &'static str,
}

const PEERS: &[Peer] = &[
    Peer {
        variable: "VESTIBULE_MOSQUITTO",
        programs: &["mosquitto"],
        package: "mosquitto",
        purpose: "the MQTT broker that the device tests talk to",
    },
    Peer {
        variable: "VESTIBULE_MOSQUITTO_PUB",
        programs: &["mosquitto_pub"],
        package: "mosquitto-clients",
        purpose: "an MQTT client that is not ours",
    },
    Peer {
        variable: "VESTIBULE_CHROMIUM",
        programs: &["chromium", "chromium-browser", "google-chrome"],
        package: "chromium",
        purpose: "the browser that opens the console's pages",
    },
    Peer {
        variable: "VESTIBULE_CHROMEDRIVER",
        programs: &["chromedriver"],
        package: "chromium-driver",
        purpose: "what drives the browser",
    },
    Peer {
        variable: "VESTIBULE_NODE",
        programs: &["node", "nodejs"],
        package: "nodejs",
        purpose: "runs the relay of deploy/alexa-lambda, and a foreign OAuth client",
    },
    Peer {
        variable: "VESTIBULE_CVC5",
        programs: &["cvc5"],
        package: "cvc5",
        purpose: "the solver that proofs are put to",
    },
    Peer { variable: "VESTIBULE_NPM", programs: &["npm"], package: "npm", purpose: "fetches a foreign OAuth client" },
    Peer {
        variable: "VESTIBULE_PYTHON3",
        programs: &["python3"],
        package: "python3-venv",
        purpose: "runs a foreign OAuth client",
    },
];

/// Libraries of other languages that tests use as foreign clients, by the variable that tells where they are: the file
/// below `target/peers` that must be there.
const PYTHON: (&str, &str) = ("VESTIBULE_PYTHON", "python/bin/python");
const OAUTH4WEBAPI: (&str, &str) = ("VESTIBULE_OAUTH4WEBAPI", "node/node_modules/oauth4webapi/build/index.js");

/// Their versions. A folder that holds others is made anew.
const PYTHON_PACKAGES: &[&str] = &["authlib==1.9.10", "requests==2.32.5"];
const NODE_PACKAGES: &[&str] = &["oauth4webapi@3.8.8"];

/// Folders searched after `PATH`. Debian puts mosquitto in `/usr/sbin`, which the `PATH` of an
/// ordinary user leaves out.
const MORE_FOLDERS: &[&str] = &["/usr/local/sbin", "/usr/sbin", "/sbin", "/usr/local/bin", "/usr/bin"];

/// Seconds to wait for another apt-get to finish.
const APT_LOCK_SECONDS: &str = "DPkg::Lock::Timeout=300";
const APT_RETRIES: &str = "Acquire::Retries=3";

/// Finds every peer, installing what is missing where that can be done, and returns the variables
/// to set for the tests.
///
/// # Errors
///
/// [`TaskError::Missing`] with the list where a peer is missing and this is not Debian, or not
/// root; [`TaskError::Environment`] where a variable names a program that does not exist.
pub fn provide() -> Result<Vec<(&'static str, PathBuf)>, TaskError> {
    let folders = folders();
    let missing = missing(&folders)?;
    if !missing.is_empty() {
        install(&missing)?;
        let still = self::missing(&folders)?;
        if !still.is_empty() {
            return Err(TaskError::Missing { why: "apt-get ran, and still they are not found", list: list(&still) });
        }
    }
    let mut found: Vec<(&'static str, PathBuf)> = PEERS
        .iter()
        .filter_map(|peer| find(peer, &folders).map(|found| found.map(|path| (peer.variable, path))).transpose())
        .collect::<Result<_, _>>()?;
    let program = |variable: &str| found.iter().find(|(v, _)| *v == variable).map(|(_, path)| path.clone());
    let (python, npm) = (program("VESTIBULE_PYTHON3"), program("VESTIBULE_NPM"));
    if let (Some(python), Some(npm)) = (python, npm) {
        found.push(python_packages(&python)?);
        found.push(node_packages(&npm)?);
    }
    Ok(found)
}

/// A Python environment of its own with the packages in it, from PyPI.
fn python_packages(python: &Path) -> Result<(&'static str, PathBuf), TaskError> {
    library(PYTHON, PYTHON_PACKAGES, |folder| {
        let pip = folder.join("bin/pip").display().to_string();
        let folder = folder.display().to_string();
        let mut install = vec!["install", "--quiet", "--disable-pip-version-check"];
        install.extend(PYTHON_PACKAGES);
        shell::run(quiet(shell::command(&python.to_string_lossy(), &["-m", "venv", "--clear", &folder])))?;
        shell::run(quiet(shell::command(&pip, &install)))
    })
}

/// The packages in a folder of their own, from npm, without running what they bring.
fn node_packages(npm: &Path) -> Result<(&'static str, PathBuf), TaskError> {
    library(OAUTH4WEBAPI, NODE_PACKAGES, |folder| {
        let folder = folder.display().to_string();
        let mut install =
            vec!["install", "--prefix", &folder, "--ignore-scripts", "--no-audit", "--no-fund", "--silent"];
        install.extend(NODE_PACKAGES);
        shell::run(quiet(shell::command(&npm.to_string_lossy(), &install)))
    })
}

/// `cargo xtask peers` prints exports on standard output, and nothing else may stand there.
fn quiet(mut command: std::process::Command) -> std::process::Command {
    command.stdout(std::io::stderr());
    command
}

/// The file of a library, put there by `install` unless the very same versions were before.
fn library(
    (variable, file): (&'static str, &str),
    packages: &[&str],
    install: impl FnOnce(&Path) -> Result<(), TaskError>,
) -> Result<(&'static str, PathBuf), TaskError> {
    if let Some(path) = env::var_os(variable).filter(|value| !value.is_empty()).map(PathBuf::from) {
        return if path.is_file() {
            Ok((variable, path))
        } else {
            Err(TaskError::Environment { name: variable, value: path.display().to_string() })
        };
    }
    let peers = shell::root().join("target").join("peers");
    let folder = peers.join(file.split('/').next().unwrap_or_default());
    let (path, stamp) = (peers.join(file), folder.join("versions"));
    let versions = packages.join(" ");
    let there = path.is_file() && std::fs::read_to_string(&stamp).is_ok_and(|text| text == versions);
    if !there {
        let failed = |path: &Path, source| TaskError::File { path: path.to_path_buf(), source };
        std::fs::create_dir_all(&folder).map_err(|source| failed(&folder, source))?;
        install(&folder)?;
        std::fs::write(&stamp, versions).map_err(|source| failed(&stamp, source))?;
    }
    Ok((variable, path))
}

fn folders() -> Vec<PathBuf> {
    let path = env::var_os("PATH").unwrap_or_default();
    env::split_paths(&path).chain(MORE_FOLDERS.iter().map(PathBuf::from)).collect()
}

fn missing(folders: &[PathBuf]) -> Result<Vec<&'static Peer>, TaskError> {
    let mut missing = Vec::new();
    for peer in PEERS {
        if find(peer, folders)?.is_none() {
            missing.push(peer);
        }
    }
    Ok(missing)
}

fn find(peer: &Peer, folders: &[PathBuf]) -> Result<Option<PathBuf>, TaskError> {
    if let Some(path) = env::var_os(peer.variable).filter(|value| !value.is_empty()).map(PathBuf::from) {
        return if path.is_file() {
            Ok(Some(path))
        } else {
            Err(TaskError::Environment { name: peer.variable, value: path.display().to_string() })
        };
    }
    Ok(peer.programs.iter().find_map(|program| search(program, folders)))
}

/// The first folder's file of that name.
fn search(program: &str, folders: &[PathBuf]) -> Option<PathBuf> {
    folders.iter().map(|folder| folder.join(program)).find(|path| path.is_file())
}

fn install(missing: &[&Peer]) -> Result<(), TaskError> {
    let folders = folders();
    let Some(apt_get) = search("apt-get", &folders).filter(|_| Path::new("/etc/debian_version").exists()) else {
        return Err(TaskError::Missing { why: "this is not Debian", list: list(missing) });
    };
    if !is_root()? {
        return Err(TaskError::Missing { why: "this is not root", list: list(missing) });
    }
    let apt_get = apt_get.to_string_lossy();
    let mut packages: Vec<&str> = missing.iter().map(|peer| peer.package).collect();
    packages.dedup();
    let mut arguments =
        vec!["install", "-y", "-qq", "--no-install-recommends", "-o", APT_LOCK_SECONDS, "-o", APT_RETRIES];
    arguments.extend(packages);
    for arguments in [&["update", "-qq", "-o", APT_RETRIES][..], &arguments] {
        let mut command = shell::command(&apt_get, arguments);
        command.env("DEBIAN_FRONTEND", "noninteractive");
        // `cargo xtask peers` prints exports on standard output, and nothing else may stand there.
        command.stdout(std::io::stderr());
        shell::run(command)?;
    }
    Ok(())
}

fn is_root() -> Result<bool, TaskError> {
    let mut command = shell::command("id", &["-u"]);
    let output = command.output().map_err(|source| shell::start_error(&command, source))?;
    Ok(output.stdout.trim_ascii() == b"0")
}

fn list(missing: &[&Peer]) -> String {
    let lines = missing.iter().map(|peer| {
        let Peer { variable, package, purpose, .. } = peer;
        format!("  {package:18} {purpose}; or name the program by {variable}")
    });
    let packages: Vec<&str> = missing.iter().map(|peer| peer.package).collect();
    let debian = format!("on Debian: apt-get install --no-install-recommends {}", packages.join(" "));
    lines.chain([debian]).collect::<Vec<_>>().join("\n")
}

/// Whether a variable is set to something.
pub fn is_set(name: &str) -> bool {
    env::var_os(name).is_some_and(|value| value != OsStr::new(""))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_missing_program_is_named_with_its_package_and_its_variable() {
        let list = list(&PEERS.iter().collect::<Vec<_>>());
        for peer in PEERS {
            assert!(list.contains(peer.package) && list.contains(peer.variable), "{list}");
        }
        assert!(list.ends_with(
            "apt-get install --no-install-recommends mosquitto mosquitto-clients chromium chromium-driver nodejs cvc5 \
                 npm python3-venv"
        ));
    }

    #[test]
    fn search_goes_through_the_folders_in_order() {
        let package = PathBuf::from(env!("CARGO_MANIFEST_DIR"));
        let folders = [package.join("no-such-folder"), package.join("src"), package.clone()];
        assert_eq!(search("main.rs", &folders), Some(package.join("src").join("main.rs")));
        assert_eq!(search("Cargo.toml", &folders), Some(package.join("Cargo.toml")));
        assert_eq!(search("src", &[package]), None, "a folder is not a program");
    }
}
