//! Killed under load, at points chosen beforehand and at any time: what a partner received has its INTENT, what was
//! acknowledged is there, and the home knows again what it knew.

use std::collections::BTreeSet;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use serde_json::{Value, json};
use testkit::PretendAlexa;

use crate::harness::{
    Faults, Hub, Mosquitto, PATIENCE, Publisher, Random, control, full, publish, run_json, sha256, thermostats,
};

/// Thermostats in the home.
const DEVICES: usize = 8;

/// How late the history is written at most, as README and `store::History` state it.
const STATED_LOSS: Duration = Duration::from_secs(1);

/// Readings come this often, and are looked at as often.
const READING_EVERY: Duration = Duration::from_millis(50);

/// What a machine with other work may add to that.
const BUSY_MACHINE: Duration = Duration::from_millis(500);

/// A round: the point at which the hub dies, and at which time that it is reached; or none, and it is killed from outside.
fn rounds() -> Vec<Option<(&'static str, usize)>> {
    let mut random = Random::new(1);
    let (each, at_any_time) = if full() { (50, 250) } else { (2, 20) };
    let mut rounds: Vec<Option<(&str, usize)>> = vec![None; at_any_time];
    // Nothing goes out unasked here: those points have a test of their own.
    for point in faults::POINTS.iter().filter(|p| ![faults::EVENT_RECORDED, faults::EVENT_SENT].contains(p)) {
        for _ in 0..each {
            let from = match *point {
                // These are reached about once while a hub runs for so short a time.
                faults::ERASE_BEFORE | faults::ERASE_AFTER | faults::ERASE_LOG | faults::TABLE_COMPILED => 1,
                faults::GRANTS_NARROWED | faults::GRANTS_RECORDED => 1 + random.below(4),
                faults::HISTORY_BEFORE | faults::HISTORY_AFTER => 1 + random.below(8),
                _ => 1 + random.below(60),
            };
            rounds.push(Some((point, from)));
        }
    }
    // Mixed, so that each kind of crash is followed by each other one.
    for i in (1..rounds.len()).rev() {
        rounds.swap(i, random.below(i + 1));
    }
    rounds
}

/// What somebody was told, and which therefore must be there after each crash.
#[derive(Default)]
struct Told {
    /// Hashes of the bodies that a partner received.
    bodies: BTreeSet<String>,
    /// Indexes of the demands whose place on the docket was confirmed.
    demands: BTreeSet<u64>,
    /// The profile that is in force: the one confirmed last, and the one asked for since.
    profiles: Vec<&'static str>,
}

/// A partner that asks and orders until the hub is gone.
async fn ask(base: String, token: String, told: Arc<Mutex<Told>>) {
    let alexa = PretendAlexa::new(&base, &token);
    let Ok(found) = alexa.discover().await else { return };
    told.lock().unwrap().bodies.insert(sha256(&found.body));
    for n in 0.. {
        for endpoint in alexa.endpoints() {
            let answer = match n % 5 {
                4 => alexa.set_temperature(&endpoint, 18.0 + f64::from(n % 8)).await,
                _ => alexa.report_state(&endpoint).await,
            };
            let Ok(answer) = answer else { return };
            assert_eq!(answer.status, 200);
            told.lock().unwrap().bodies.insert(sha256(&answer.body));
        }
    }
}

/// The household, which changes its mind and writes demands down until the hub is gone.
fn decide(data: &Path, link: &str, told: &Mutex<Told>, over: &AtomicBool) {
    for profile in ["glance", "everything"].into_iter().cycle() {
        told.lock().unwrap().profiles.push(profile);
        let applied = control(data, &json!({"profile": {"link": link, "profile": profile, "apply": true}}));
        if over.load(Ordering::SeqCst) {
            return;
        }
        // Refused while devices describe themselves anew after a start, or the hub is gone: the round says which.
        if applied.is_err() {
            std::thread::sleep(READING_EVERY);
            continue;
        }
        let mut told_now = told.lock().unwrap();
        told_now.profiles = vec![profile];
        drop(told_now);
        let demand = json!({"partner": "alexa", "text": "Tell us more.", "deadline": null, "threat": null});
        let Ok(done) = control(data, &json!({"docket_add": demand})) else { return };
        told.lock().unwrap().demands.insert(done["index"].as_u64().unwrap());
    }
}

/// A sensor that reports until the round is over, with another value each time.
fn report(sensor: &mut Publisher, over: &AtomicBool, next: &mut u32) {
    while !over.load(Ordering::SeqCst) {
        sensor.publish(&format!("{:.2}", 20.0 + f64::from(*next % 2000) / 100.0));
        *next += 1;
        std::thread::sleep(READING_EVERY);
    }
}

#[expect(clippy::disallowed_methods, reason = "how much was lost is measured by the wall clock")]
fn now() -> jiff::Timestamp {
    jiff::Timestamp::now()
}

/// When the hub heard the sensor last, by the hub's own word or that of its directory.
fn heard(devices: &Value) -> Option<jiff::Timestamp> {
    let sensor = devices["devices"].as_array()?.iter().find(|d| d["name"] == "Sensor")?;
    let property = sensor["properties"].as_array()?.iter().find(|p| p["property"] == "local_temperature")?;
    property["time"].as_str()?.parse().ok()
}

/// Looks at what the hub knows of the sensor until it is gone: each look with its time.
fn watch(data: &Path, over: &AtomicBool) -> Vec<(jiff::Timestamp, jiff::Timestamp)> {
    let mut looks = Vec::new();
    while !over.load(Ordering::SeqCst) {
        if let Some(heard) = control(data, &json!("devices")).ok().as_ref().and_then(heard) {
            looks.push((now(), heard));
        }
        std::thread::sleep(READING_EVERY);
    }
    looks
}

#[test]
fn killed_at_every_point_and_at_any_time_nothing_told_is_lost() {
    let mosquitto = Mosquitto::start();
    thermostats(mosquitto.port, DEVICES);
    publish(
        mosquitto.port,
        "homeassistant/sensor/s/config",
        r#"{"name":"Sensor","uniq_id":"s","stat_t":"s/temp","dev_cla":"temperature","unit_of_meas":"°C",
            "dev":{"ids":["s"],"name":"Sensor"}}"#,
    );
    let dir = tempfile::tempdir().unwrap();
    let data = dir.path().join("data");
    let faults = Faults::new();
    let mut hub = Hub::start_with(&data, &mosquitto.url(), &faults);
    hub.wait_until(&["devices"], |d| d["devices"].as_array().is_some_and(|a| a.len() == DEVICES + 1));
    let token = hub.cli(&["link", "alexa", "--profile", "everything", "--print-token"]).trim().to_owned();
    let links = hub.cli_json(&["links"]);
    let link = links[0]["id"].as_str().unwrap().to_owned();
    let told = Arc::new(Mutex::new(Told { profiles: vec!["everything"], ..Told::default() }));
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    let mut random = Random::new(2);
    let mut sensor = Publisher::start(mosquitto.port, "s/temp");
    let (mut readings, mut worst, mut oldest_kept) = (0, Duration::ZERO, Duration::ZERO);
    let rounds = rounds();
    for (number, round) in rounds.iter().enumerate() {
        if let Some((point, from)) = round {
            if [faults::ERASE_BEFORE, faults::ERASE_AFTER, faults::ERASE_LOG].contains(point) {
                // Soon after the start, and then not for hours.
                drop(hub);
                faults.arm(&format!("{point} kill {from} 1"));
                hub = Hub::start_with(&data, &mosquitto.url(), &faults);
            }
            faults.arm(&format!("{point} kill {from} 1"));
            if *point == faults::TABLE_COMPILED {
                // A new device makes the table stale.
                let config = format!(r#"{{"name":"N","uniq_id":"n{number}","stat_t":"n/s","dev_cla":"motion"}}"#);
                publish(mosquitto.port, &format!("homeassistant/binary_sensor/n{number}/config"), &config);
            }
        }
        let over = AtomicBool::new(false);
        let died = std::thread::scope(|scope| {
            scope.spawn(|| decide(&data, &link, &told, &over));
            scope.spawn(|| report(&mut sensor, &over, &mut readings));
            let watcher = scope.spawn(|| watch(&data, &over));
            let load: Vec<_> =
                (0..4).map(|_| runtime.spawn(ask(hub.partners.clone(), token.clone(), Arc::clone(&told)))).collect();
            if round.is_none() {
                // Another moment each time, from the first request to full load.
                let longest = if number % 4 == 0 { 4000 } else { 400 };
                std::thread::sleep(Duration::from_millis(10 + random.below(longest) as u64));
                hub.process.signal("KILL");
            }
            let died = hub.process.wait_until_dead(PATIENCE);
            let at = now();
            over.store(true, Ordering::SeqCst);
            let _ = hub.process.child.kill();
            load.into_iter().for_each(|worker| runtime.block_on(worker).unwrap());
            died.then_some((at, watcher.join().unwrap()))
        });
        let (died, looks) = died.unwrap_or_else(|| panic!("{round:?} was not reached"));
        faults.arm("");

        // The directory is opened without a hub, and without devices that could report anew.
        let kept = heard(&run_json(&["devices", "--json", "--data", &data.display().to_string()]));
        for (at, reading) in looks {
            let age = Duration::try_from(died.duration_since(at)).unwrap_or_default();
            if kept.is_none_or(|kept| kept < reading) {
                worst = worst.max(age);
                assert!(age <= STATED_LOSS + BUSY_MACHINE, "{round:?}: lost what was known {age:?} before");
            } else {
                oldest_kept = oldest_kept.max(age);
            }
        }
        hub = Hub::start_with(&data, &mosquitto.url(), &faults);
        let mut told = told.lock().unwrap();
        let links = control(&data, &json!("links")).unwrap();
        let profile = told.profiles.iter().copied().find(|p| links[0]["profile"] == *p);
        told.profiles = vec![profile.unwrap_or_else(|| panic!("{round:?}: {links}, and not {:?}", told.profiles))];
        assert!(links[0]["grants"].as_u64() > Some(0), "{round:?}: the link is there without its grants");
        if number % 10 == 9 {
            assert_eq!(control(&data, &json!("ledger_verify")).unwrap()["ok"], true, "{round:?}");
        }
    }
    let rows = hub.ledger();
    let of = |kind: &str| rows.iter().filter(|r| r["type"] == kind).collect::<Vec<&Value>>();
    let kept: BTreeSet<String> =
        of("intent").iter().filter_map(|r| r["body_sha256"].as_str().map(str::to_owned)).collect();
    let told = told.lock().unwrap();
    let missing: Vec<_> = told.bodies.difference(&kept).collect();
    assert!(missing.is_empty(), "{} of {} messages have no INTENT", missing.len(), told.bodies.len());
    let demands: BTreeSet<u64> = of("demand").iter().filter_map(|r| r["index"].as_u64()).collect();
    let lost: Vec<_> = told.demands.difference(&demands).collect();
    assert!(lost.is_empty(), "acknowledged demands are gone: {lost:?}");
    assert!(told.bodies.len() > 10 * rounds.len(), "only {} messages: no load", told.bodies.len());
    assert!(!told.demands.is_empty());
    assert!(oldest_kept > STATED_LOSS + BUSY_MACHINE, "no round was long enough to tell what was lost");
    let report = hub.cli_json(&["ledger", "verify"]);
    assert_eq!(report["ok"], true, "{report}");
    println!(
        "killed {} times; {} bodies received, {} demands acknowledged, {} leaves; at most {worst:?} of readings lost",
        rounds.len(),
        told.bodies.len(),
        told.demands.len(),
        rows.len(),
    );
}
