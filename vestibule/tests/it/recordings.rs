//! The real recording through a real broker.

use crate::harness::{Hub, Mosquitto, recordings, run_json, skipped};

#[test]
fn every_reading_of_the_real_recording_arrives() {
    let Some(folder) = recordings() else {
        skipped("every_reading_of_the_real_recording_arrives", "VESTIBULE_RECORDINGS is not set");
        return;
    };
    let mosquitto = Mosquitto::start();
    let dir = tempfile::tempdir().unwrap();
    let hub = Hub::start(&dir.path().join("data"), &mosquitto.url());
    let file = folder.join("ecobee/report_thermostat.csv");
    let replayed = run_json(&["replay", file.to_str().unwrap(), "--mqtt", &mosquitto.url(), "--json"]);
    assert_eq!(replayed["rows"], 9216);
    assert_eq!(replayed["with_control_temperature"], 9095);
    assert_eq!(replayed["outdoor_only"], 13);
    assert_eq!(replayed["skipped"], 0);
    let wanted = replayed["readings"].as_u64().unwrap();
    // Property by property, each reading that was published has arrived.
    let arrived = |devices: &serde_json::Value, property: &str| -> u64 {
        let all = devices["devices"].as_array().into_iter().flatten();
        all.flat_map(|d| d["properties"].as_array().into_iter().flatten())
            .filter(|p| p["property"] == property)
            .filter_map(|p| p["readings"].as_u64())
            .sum()
    };
    let published = replayed["readings_by_property"].as_object().unwrap();
    assert!(wanted > 200_000 && published.len() > 6, "{replayed}");
    hub.wait_until(&["devices"], |d| published.iter().all(|(p, n)| arrived(d, p) >= n.as_u64().unwrap()));
    let devices = hub.cli_json(&["devices"]);
    for (property, count) in published {
        assert_eq!(arrived(&devices, property), count.as_u64().unwrap(), "{property}");
    }
}
