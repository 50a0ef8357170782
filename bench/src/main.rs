//! Measures the hub against the limits of the machine that it runs on: `cargo xtask bench`.
//!
//! Every figure stands beside a limit that was measured in the same run, because a rate alone speaks of the machine. One
//! table goes to standard output, the same as JSON to a file. A bar that is missed is said, and is no failure: a busy
//! machine must not break a build. What must be true at any speed (each answer recorded first, each command seen once,
//! no reading lost, the record verifies) ends the run when it is not.

#![expect(clippy::disallowed_methods, reason = "it measures time")]

mod catalogue;
mod house;
mod http;
mod hub;
mod limits;
mod machine;
mod messages;
mod mqtt;
mod readings;
mod rest;
mod table;

use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use serde_json::{Value, json};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

/// Whatever went wrong, in words.
type Fail = Box<dyn std::error::Error + Send + Sync>;

/// How long to measure.
pub struct Settings {
    /// Time of one load in one round.
    round: Duration,
    /// Rounds; the median counts.
    rounds: usize,
    /// Readings to publish.
    readings: usize,
    /// Years of a simulated house.
    years: u64,
    /// Leaves of the ledger that a start is measured with.
    leaves: usize,
    /// Where the JSON goes.
    json: PathBuf,
    /// Only the parts with these names.
    only: Vec<String>,
}

const FULL: (Duration, usize, usize, usize, u64) = (Duration::from_secs(3), 3, 100_000, 100_000, 8);
const QUICK: (Duration, usize, usize, usize, u64) = (Duration::from_millis(400), 1, 10_000, 10_000, 1);

const USAGE: &str =
    "usage: cargo xtask bench [--quick] [--json FILE] [messages] [readings] [policy] [disk] [start] [catalogue] [house]

  --quick      short loads: to see that it works, not for figures
  --json FILE  where the JSON goes (target/bench.json)
  a name       only that part
";

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let runtime = match tokio::runtime::Builder::new_multi_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => return failed(&error.into()),
    };
    let parts: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let done = match parts.as_slice() {
        ["echo"] => runtime.block_on(limits::echo()),
        ["count", port, filter] => match port.parse() {
            Ok(port) => runtime.block_on(mqtt::count(port, filter)),
            Err(_) => Err("no port".into()),
        },
        _ => match settings(&parts) {
            Some(settings) => runtime.block_on(run(&settings)),
            None => {
                eprint!("{USAGE}");
                return ExitCode::from(2);
            }
        },
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => failed(&error),
    }
}

fn failed(error: &Fail) -> ExitCode {
    eprintln!("bench: {error}");
    ExitCode::FAILURE
}

fn settings(arguments: &[&str]) -> Option<Settings> {
    let quick = arguments.contains(&"--quick");
    let (round, rounds, readings, leaves, years) = if quick { QUICK } else { FULL };
    let json = "target/bench.json".into();
    let mut settings = Settings { round, rounds, readings, years, leaves, json, only: Vec::new() };
    let mut rest = arguments.iter();
    while let Some(argument) = rest.next() {
        match *argument {
            "--quick" => {}
            "--json" => settings.json = rest.next()?.into(),
            part @ ("messages" | "readings" | "policy" | "disk" | "start" | "catalogue" | "house") => {
                settings.only.push(part.to_owned())
            }
            _ => return None,
        }
    }
    Some(settings)
}

async fn run(settings: &Settings) -> Result<(), Fail> {
    let wants = |part: &str| settings.only.is_empty() || settings.only.iter().any(|only| only == part);
    let folder = hub::folder()?;
    let mut all = json!({"machine": machine::describe(folder.path())?});
    let mut put = |part: &str, value: Value| {
        if let Some(map) = all.as_object_mut() {
            map.insert(part.to_owned(), value);
        }
    };
    if wants("policy") {
        put("policy", json!(rest::policy()?));
    }
    if wants("start") {
        put("start", json!(rest::start(folder.path(), settings).await?));
    }
    if wants("disk") {
        put("disk", json!(rest::disk(folder.path()).await?));
    }
    if wants("readings") {
        put("readings", json!(readings::run(folder.path(), settings).await?));
    }
    if wants("messages") {
        put("messages", json!(messages::run(folder.path(), settings).await?));
    }
    if wants("catalogue") {
        put("catalogue", json!(catalogue::run(folder.path(), settings).await?));
    }
    if wants("house") {
        put("house", json!(house::run(settings.years)?));
    }
    put("load_at_end", json!(machine::load()));
    print!("{}", table::render(&all));
    std::fs::write(&settings.json, format!("{all:#}\n"))?;
    eprintln!("bench: the same as JSON is in {}", settings.json.display());
    Ok(())
}

/// The value below which so many percent of sorted values lie.
fn percentile(sorted: &[u64], percent: usize) -> u64 {
    let place = (sorted.len() * percent / 100).min(sorted.len().saturating_sub(1));
    sorted.get(place).copied().unwrap_or_default()
}

/// The body of a GET request to the household's listener.
async fn get(address: SocketAddr, path: &str) -> Result<String, Fail> {
    let mut stream = tokio::net::TcpStream::connect(address).await?;
    let request = format!("GET {path} HTTP/1.1\r\nhost: {address}\r\nconnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).await?;
    let mut text = String::new();
    stream.read_to_string(&mut text).await?;
    Ok(text.split_once("\r\n\r\n").map(|(_, body)| body.to_owned()).unwrap_or_default())
}
