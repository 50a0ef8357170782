//! A week in an hour: a home that lives in scaled time, with everything at once and at a low rate (polls, directives,
//! broken clients, device storms, a broker that goes away, grants edited, links ended and made, bodies erased). Nothing may
//! grow that a named limit does not explain: memory, files, file handles, what waits; no message stays unanswered; and the
//! record verifies.
//!
//! `VESTIBULE_FORM=full` takes the hour; without it, days pass in seconds.

use std::collections::BTreeSet;
use std::io::{Read as _, Write as _};
use std::net::{Shutdown, TcpStream};
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::sync::{Arc, RwLock};
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use testkit::{PretendAlexa, directive};

use crate::harness::{Hub, Mosquitto, PATIENCE, get, peer, program, publish, run_json};

/// How long and how fast.
struct Form {
    wall: Duration,
    /// Between two rounds of disturbances; each round takes a sample.
    round: Duration,
    speed: u32,
    /// What memory may grow from the second quarter to the last, in MiB: what the page keeps of what links were told (20 MiB
    /// by its limit), and pages that SQLite and the allocator keep.
    growth_mib: u64,
}

fn form() -> Form {
    let full = std::env::var("VESTIBULE_FORM").is_ok_and(|form| form == "full");
    let (wall, round, days) =
        if full { (3600, Duration::from_secs(10), 7) } else { (20, Duration::from_millis(400), 3) };
    let speed = days * 86_400 / u32::try_from(wall).unwrap();
    Form { wall: Duration::from_secs(wall), round, speed, growth_mib: 32 }
}

/// Rounds at least, however slow the machine: each disturbance comes several times.
const ROUNDS_MIN: usize = 24;

/// Messages of one storm.
const STORM: usize = 500;

/// Handles that may come and go: connections in flight.
const HANDLES_SLACK: usize = 24;

/// Largest write-ahead log: SQLite begins anew at 4 MiB when no reader holds it.
const WAL_MAX_BYTES: u64 = 64 << 20;

/// Bytes of the record's file for one leaf, at most.
const LEAF_MAX_BYTES: u64 = 4096;

/// What the hub takes at one time.
#[derive(Clone, Debug, Default)]
struct Sample {
    memory_mib: u64,
    handles: usize,
    threads: u64,
    files: BTreeSet<String>,
    wal_bytes: u64,
}

fn sample(hub: &Hub) -> Sample {
    let id = hub.process.child.id();
    let status = std::fs::read_to_string(format!("/proc/{id}/status")).unwrap_or_default();
    let number = |key: &str| -> u64 {
        let line = status.lines().find(|line| line.starts_with(key)).unwrap_or_default();
        line.split_whitespace().nth(1).and_then(|n| n.parse().ok()).unwrap_or(0)
    };
    let mut all = Sample {
        memory_mib: number("VmRSS:") / 1024,
        handles: std::fs::read_dir(format!("/proc/{id}/fd")).map_or(0, Iterator::count),
        threads: number("Threads:"),
        ..Sample::default()
    };
    for entry in std::fs::read_dir(&hub.data).unwrap().map(Result::unwrap) {
        let name = entry.file_name().to_string_lossy().into_owned();
        if name.ends_with("-wal") {
            all.wal_bytes = all.wal_bytes.max(entry.metadata().map_or(0, |m| m.len()));
        }
        all.files.insert(name);
    }
    all
}

/// Waits until the next beat, or gives false when it is time to stop.
fn beat(stop: &Receiver<()>, time: Duration) -> bool {
    matches!(stop.recv_timeout(time), Err(RecvTimeoutError::Timeout))
}

/// One customer's Alexa under a token that changes when its link is made anew.
fn customer(base: String, token: Arc<RwLock<String>>, stop: Receiver<()>) -> u64 {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let mut answered = 0;
    let mut n = 0u32;
    while beat(&stop, Duration::from_millis(200)) {
        // Held while asking: nobody ends this link under a question.
        let token = token.read().unwrap();
        runtime.block_on(async {
            let alexa = PretendAlexa::new(&base, &token);
            let mut all = vec![alexa.discover().await.expect("an answer")];
            for endpoint in alexa.endpoints() {
                all.push(alexa.report_state(&endpoint).await.expect("an answer"));
            }
            if let Some(thermostat) = alexa.endpoint_with("Alexa.ThermostatController", None) {
                all.push(alexa.set_temperature(&thermostat, 18.0 + f64::from(n % 8)).await.expect("an answer"));
            }
            all.push(alexa.report_state("no-such-endpoint").await.expect("an answer"));
            for exchange in all {
                assert_eq!(exchange.status, 200, "{exchange:?}");
                assert!(!exchange.event().is_empty(), "{exchange:?}");
                answered += 1;
            }
        });
        n += 1;
    }
    answered
}

/// Clients that break the protocol; each gets a constant answer, or is hung up on.
fn broken_clients(base: &str, stop: &Receiver<()>) -> u64 {
    let address = base.trim_start_matches("http://").to_owned();
    let post = |length: usize, body: &[u8]| {
        let head = format!("POST /alexa/v3/directives HTTP/1.1\r\nHost: h\r\nContent-Length: {length}\r\n\r\n");
        [head.as_bytes(), body].concat()
    };
    let stranger = directive("Alexa", "ReportState", "e", "vst_nobody", json!({})).to_string();
    let deep = "[".repeat(60_000);
    let cases = [
        b"\x16\x03\x01 this is no HTTP\r\n\r\n".to_vec(),
        b"GET / HTTP/1.1\r\nHost: h\r\n\r\n".to_vec(),
        b"GET /alexa/v3/directives HTTP/1.1\r\nHost: h\r\n\r\n".to_vec(),
        post(7, b"no json"),
        post(deep.len(), deep.as_bytes()),
        post(stranger.len(), stranger.as_bytes()),
        post(10_000_000, &vec![b' '; 200_000]),
        post(100, b"half a body"),
        [b"POST / HTTP/1.1\r\n".to_vec(), b"x: y\r\n".repeat(5000)].concat(),
        Vec::new(),
    ];
    let mut seen = 0;
    for case in cases.iter().cycle() {
        if !beat(stop, Duration::from_millis(100)) {
            break;
        }
        let mut stream = TcpStream::connect(&address).expect("the listener takes connections");
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        // The hub may hang up before all is written.
        let _ = stream.write_all(case);
        let _ = stream.shutdown(Shutdown::Write);
        let mut answer = Vec::new();
        let _ = stream.read_to_end(&mut answer);
        let text = String::from_utf8_lossy(&answer);
        let status = text.get(9..12).unwrap_or_default();
        assert!(matches!(status, "" | "400" | "401" | "404" | "405" | "408" | "413" | "431" | "503"), "{text}");
        seen += 1;
    }
    seen
}

/// Many messages on one topic at once; the broker may go away meanwhile.
fn storm(port: u16, topic: &str, line: impl Fn(usize) -> String) {
    let program = peer("VESTIBULE_MOSQUITTO_PUB", &["/usr/bin/mosquitto_pub"]);
    let mut child = Command::new(program)
        .args(["-h", "127.0.0.1", "-p", &port.to_string(), "-q", "1", "-l", "-t", topic])
        .stdin(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .expect("mosquitto_pub runs");
    let text: String = (0..STORM).map(|n| line(n) + "\n").collect();
    let _ = child.stdin.take().expect("piped").write_all(text.as_bytes());
    let _ = child.wait();
}

/// What devices of all sorts do wrong, in turns.
fn disturb(port: u16, n: usize) {
    match n % 4 {
        // A known topic, too often, with what it can't be.
        0 => storm(port, "storm/temperature", |n| if n % 3 == 0 { "hot".into() } else { format!("{}", n % 40) }),
        // A device that comes and goes.
        1 => {
            let topic = format!("homeassistant/sensor/guest{n}/temperature/config");
            let config = json!({"uniq_id": format!("g{n}"), "dev": {"ids": [format!("g{n}")]}, "dev_cla": "temperature",
                "unit_of_meas": "°C", "stat_t": format!("guest/{n}")});
            publish(port, &topic, &config.to_string());
            publish(port, &format!("guest/{n}"), "21.5");
            publish(port, &topic, "");
        }
        // Descriptions that are none.
        2 => storm(port, "homeassistant/sensor/storm/broken/config", |n| format!("{{\"no\": {n}")),
        // A device that can't decide what it is.
        _ => storm(port, "homeassistant/cover/fickle/config", |n| {
            let class = if n % 2 == 0 { "garage" } else { "blind" };
            json!({"uniq_id": "fickle", "dev": {"ids": ["fickle"]}, "dev_cla": class, "stat_t": "fickle/state",
                "cmd_t": "fickle/set"})
            .to_string()
        }),
    }
}

/// Names and sizes below a folder.
fn bytes(folder: &Path, name: &str) -> u64 {
    std::fs::metadata(folder.join(name)).map_or(0, |m| m.len())
}

fn metric(hub: &Hub, name: &str) -> u64 {
    let (_, text) = get(&format!("{}/metrics", hub.console));
    let line = text.lines().find_map(|l| l.strip_prefix(&format!("vestibule_{name} ")).map(str::to_owned));
    line.and_then(|n| n.trim().parse().ok()).unwrap_or_else(|| panic!("no metric {name} in {text}"))
}

#[test]
#[expect(clippy::disallowed_methods, reason = "it runs for a given time")]
fn a_week_of_everything_at_once_leaves_nothing_behind_but_the_record() {
    let form = form();
    let mut mosquitto = Mosquitto::start();
    let port = mosquitto.port;
    let dir = tempfile::tempdir().unwrap();
    let data = dir.path().join("data");
    let mut command = program();
    command.args(["demo", "--console", "127.0.0.1:0", "--partners", "127.0.0.1:0", "--json", "--retention-days", "1"]);
    command.args(["--speed", &form.speed.to_string(), "--broker", &mosquitto.url(), "--data"]).arg(&data);
    command.stdout(Stdio::piped());
    let mut hub = Hub::spawn(command, &data);
    let sensor = json!({"uniq_id": "storm", "dev": {"ids": ["storm"]}, "dev_cla": "temperature", "unit_of_meas": "°C",
        "stat_t": "storm/temperature"});

    let make = |profile: &str| hub.cli(&["link", "alexa", "--profile", profile, "--print-token"]).trim().to_owned();
    let ids = || -> BTreeSet<String> {
        let links = hub.cli_json(&["links"]);
        links.as_array().unwrap().iter().map(|l| l["id"].as_str().unwrap().to_owned()).collect()
    };
    let others = ids();
    let token = Arc::new(RwLock::new(make("everything")));
    let mut stops: Vec<Sender<()>> = Vec::new();
    let mut stopper = || {
        let (stop, stopped) = channel();
        stops.push(stop);
        stopped
    };
    let (asking, breaking) = (stopper(), stopper());
    let (base, mine) = (hub.partners.clone(), Arc::clone(&token));
    let customer = std::thread::spawn(move || customer(base, mine, asking));
    let base = hub.partners.clone();
    let broken = std::thread::spawn(move || broken_clients(&base, &breaking));

    let (_never, clock) = channel::<()>();
    let (mut samples, mut readings) = (Vec::new(), Vec::new());
    let begin = Instant::now();
    let mut n = 0;
    while begin.elapsed() < form.wall || n < ROUNDS_MIN {
        match n % 8 {
            0 => {
                publish(port, "homeassistant/sensor/storm/temperature/config", &sensor.to_string());
                disturb(port, n);
            }
            // The broker goes away under whatever is on its way.
            2 if n % 16 == 2 => mosquitto.restart(),
            // Grants are edited under questions.
            3 => {
                let profile = ["glance", "commands-only", "everything"][n / 8 % 3];
                let id = ids().difference(&others).next().unwrap().clone();
                hub.cli(&["profile", "apply", &id, "--profile", profile]);
            }
            // The link is made anew; what it was called before opens nothing.
            5 => {
                let old: Vec<String> = ids().difference(&others).cloned().collect();
                let new = make("everything");
                let before = std::mem::replace(&mut *token.write().unwrap(), new);
                for id in old {
                    hub.cli(&["unlink", &id]);
                }
                let question = directive("Alexa", "ReportState", "e", &before, json!({})).to_string();
                assert_eq!(status_of(&hub.partners, &question), 401);
            }
            _ => disturb(port, n),
        }
        samples.push(sample(&hub));
        readings.push(metric(&hub, "readings_total"));
        n += 1;
        let _ = beat(&clock, form.round);
    }
    drop(stops);
    let answered = customer.join().expect("every message was answered");
    let broken = broken.join().expect("broken clients got constant answers");
    assert!(answered > 100 && broken > 20, "{answered} answers, {broken} broken clients");

    // The home is still heard, after all the restarts of the broker.
    let quarter = samples.len() / 4;
    assert!(readings.last() > readings.get(3 * quarter), "no readings in the last quarter: {readings:?}");
    for name in ["ledger_lost_total", "ledger_failed_total", "ledger_refused_full_total", "not_recorded_total"] {
        assert_eq!(metric(&hub, name), 0, "{name}");
    }
    let (early, late) = (&samples[quarter..2 * quarter], &samples[3 * quarter..]);
    let most = |part: &[Sample], of: fn(&Sample) -> u64| part.iter().map(of).max().unwrap();
    let shown = |s: &Sample| format!("{} MiB, {} handles, {} threads", s.memory_mib, s.handles, s.threads);
    let course: Vec<String> = samples.iter().step_by(quarter.max(1)).map(shown).collect();
    println!("week: {course:?}; {answered} answers, {broken} broken clients");
    let (before, after) = (most(early, |s| s.memory_mib), most(late, |s| s.memory_mib));
    assert!(after <= before + form.growth_mib, "memory grew from {before} to {after} MiB: {course:?}");
    let (before, after) = (most(early, |s| s.handles as u64), most(late, |s| s.handles as u64));
    assert!(after <= before + HANDLES_SLACK as u64, "file handles grew from {before} to {after}: {course:?}");
    assert!(most(late, |s| s.threads) <= most(early, |s| s.threads) + 8, "threads grew: {course:?}");
    let files = |part: &[Sample]| part.iter().flat_map(|s| s.files.iter().cloned()).collect::<BTreeSet<_>>();
    assert_eq!(files(late).difference(&files(early)).count(), 0, "new files: {:?}", files(late));
    assert!(most(&samples, |s| s.wal_bytes) <= WAL_MAX_BYTES);

    // In order, not by force: what waits is recorded.
    hub.process.signal("TERM");
    let mut out = String::new();
    hub.process.child.stdout.take().unwrap().read_to_string(&mut out).unwrap();
    assert!(hub.process.child.wait().unwrap().success());
    let summary: Value = serde_json::from_str(&out).unwrap_or_else(|e| panic!("{e}: {out}"));
    println!("week: {summary}");
    assert_eq!(summary["verified"], true);
    assert_eq!(summary["asked"], summary["messages_out"], "each message was answered and recorded");
    let report = run_json(&["ledger", "verify", "--json", "--data", &data.display().to_string()]);
    println!("week: {report}");
    assert_eq!(report["ok"], true);
    assert_eq!(report["unknown_outcomes"], 0, "{report}");
    assert!(report["missing_bodies"].as_u64() > Some(0), "retention erased nothing: {report}");
    let leaves = summary["leaves"].as_u64().unwrap();
    assert!(bytes(&data, "vestibule.db") <= leaves * LEAF_MAX_BYTES, "the record is larger than its leaves explain");
}

/// Status of one answer.
fn status_of(base: &str, body: &str) -> u16 {
    let mut stream = TcpStream::connect(base.trim_start_matches("http://")).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    let head = format!(
        "POST /alexa/v3/directives HTTP/1.1\r\nHost: h\r\nConnection: close\r\nContent-Length: {}\r\n\r\n",
        body.len()
    );
    stream.write_all((head + body).as_bytes()).unwrap();
    let mut text = String::new();
    stream.read_to_string(&mut text).unwrap();
    text.get(9..12).and_then(|s| s.parse().ok()).unwrap()
}
