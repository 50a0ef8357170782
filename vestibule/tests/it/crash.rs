//! Killed at any time, under load: what a partner received has its INTENT.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use testkit::PretendAlexa;

use crate::harness::{Hub, Mosquitto, publish, sha256};

/// How often the hub is killed.
const ROUNDS: u64 = 50;

#[test]
fn killed_fifty_times_under_load_every_message_received_has_its_intent() {
    let mosquitto = Mosquitto::start();
    let port = mosquitto.port;
    for i in 0..8 {
        publish(
            port,
            &format!("homeassistant/climate/t{i}/config"),
            &format!(
                r#"{{"name":"T{i}","uniq_id":"t{i}","dev":{{"ids":["t{i}"],"name":"T{i}"}},"modes":["off","heat"],
                "mode_stat_t":"t{i}/mode","mode_cmd_t":"t{i}/mode/set","temp_stat_t":"t{i}/sp","temp_cmd_t":"t{i}/sp/set",
                "curr_temp_t":"t{i}/temp"}}"#
            ),
        );
        publish(port, &format!("t{i}/temp"), "20.5");
        publish(port, &format!("t{i}/sp"), "20");
        publish(port, &format!("t{i}/mode"), "heat");
    }
    let dir = tempfile::tempdir().unwrap();
    let data = dir.path().join("data");
    let mut hub = Hub::start(&data, &mosquitto.url());
    hub.wait_until(&["devices"], |d| d["devices"].as_array().is_some_and(|a| a.len() == 8));
    let token = hub.cli(&["link", "alexa", "--profile", "everything", "--print-token"]).trim().to_owned();
    let received: Arc<Mutex<BTreeSet<String>>> = Arc::default();
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    for round in 0..ROUNDS {
        let base = hub.partners.clone();
        let (token, got) = (token.clone(), Arc::clone(&received));
        let load = runtime.spawn(async move {
            let workers = (0..4).map(|_| {
                let (alexa, got) = (PretendAlexa::new(&base, &token), Arc::clone(&got));
                tokio::spawn(async move {
                    let Ok(found) = alexa.discover().await else { return };
                    got.lock().unwrap().insert(sha256(&found.body));
                    let mut n = 0;
                    loop {
                        for endpoint in alexa.endpoints() {
                            let answer = if n % 5 == 4 {
                                alexa.set_temperature(&endpoint, 18.0 + f64::from(n % 8)).await
                            } else {
                                alexa.report_state(&endpoint).await
                            };
                            n += 1;
                            let Ok(answer) = answer else { return };
                            assert_eq!(answer.status, 200);
                            got.lock().unwrap().insert(sha256(&answer.body));
                        }
                    }
                })
            });
            for worker in workers.collect::<Vec<_>>() {
                worker.await.unwrap();
            }
        });
        // Another moment in each round, from the first request to full load: counted in messages, so that a busy machine
        // is under load as well.
        let count = || received.lock().unwrap().len();
        let goal = count() + usize::try_from((round * 7) % 40).unwrap();
        for _ in 0..5000 {
            if count() >= goal {
                break;
            }
            std::thread::sleep(Duration::from_millis(1));
        }
        hub.process.signal("KILL");
        let _ = hub.process.child.wait();
        runtime.block_on(load).unwrap();
        hub = Hub::start(&data, &mosquitto.url());
    }
    let kept: BTreeSet<String> = hub
        .ledger()
        .iter()
        .filter(|r| r["type"] == "intent")
        .filter_map(|r| r["body_sha256"].as_str().map(str::to_owned))
        .collect();
    let received = received.lock().unwrap();
    assert!(received.len() > 500, "only {} messages: no load", received.len());
    let missing: Vec<_> = received.difference(&kept).collect();
    assert!(missing.is_empty(), "{} of {} messages have no INTENT", missing.len(), received.len());
    let report = hub.cli_json(&["ledger", "verify"]);
    assert_eq!(report["ok"], true, "{report}");
}
