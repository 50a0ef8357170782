//! More devices than a home has: what the hub has taken in keeps working beside them.

use std::time::Duration;

use serde_json::json;
use testkit::PretendAlexa;
use tokio::time::Instant;

use crate::harness::{Hub, Mosquitto, Subscriber, publish, publish_all};

/// Retained descriptions that all come at once.
const DESCRIPTIONS: usize = 10_000;

/// What Alexa waits for an answer.
const ALEXA_WAITS: Duration = Duration::from_secs(8);

fn thermostat(port: u16) {
    publish(
        port,
        "homeassistant/climate/t/config",
        r#"{"uniq_id":"t","dev":{"ids":["t"],"name":"T"},"temp_unit":"C","modes":["off","heat"],"mode_stat_t":"t/mode",
            "mode_cmd_t":"t/mode/set","temp_stat_t":"t/set_point","temp_cmd_t":"t/set","min_temp":5,"max_temp":30}"#,
    );
    publish(port, "t/mode", "heat");
    publish(port, "t/set_point", "20");
}

fn rubbish() -> impl Iterator<Item = (String, String)> {
    (0..DESCRIPTIONS).map(|n| {
        let config = json!({
            "uniq_id": format!("x{n}"), "dev": {"ids": [format!("x{n}")], "name": format!("Sensor {n}")},
            "dev_cla": "humidity", "stat_t": format!("x/{n}"), "val_tpl": "{{ value_json.h }}",
        });
        (format!("homeassistant/sensor/x{n}/config"), config.to_string())
    })
}

#[test]
fn ten_thousand_descriptions_delay_no_command_and_none_is_carried_out_twice() {
    let mosquitto = Mosquitto::start();
    thermostat(mosquitto.port);
    let dir = tempfile::tempdir().unwrap();
    let hub = Hub::start(&dir.path().join("data"), &mosquitto.url());
    hub.wait_until(&["devices"], |d| d["readings"].as_u64() >= Some(2));
    let token = hub.cli(&["link", "alexa", "--profile", "everything", "--print-token"]);
    let alexa = PretendAlexa::new(&hub.partners, token.trim());
    let commands = Subscriber::start(mosquitto.port, "t/set");
    publish_all(mosquitto.port, rubbish());
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let mut wanted = Vec::new();
    runtime.block_on(async {
        alexa.discover().await.unwrap();
        let thermostat = alexa.endpoint_with("Alexa.ThermostatController", None).unwrap();
        for n in 0..40 {
            let target = 15.0 + f64::from(n % 10);
            let begin = Instant::now();
            let done = alexa.set_temperature(&thermostat, target).await.unwrap();
            let took = begin.elapsed();
            assert_eq!(done.event(), "Alexa.Response", "after {n} orders, {took:?}: {}", done.json);
            assert!(took < ALEXA_WAITS, "{took:?}");
            wanted.push(format!("t/set 1 {target}"));
        }
    });
    assert_eq!(commands.until_now(mosquitto.port, "t/set"), wanted, "each once, in order");
    // What was too much is counted, and said once.
    let devices = hub.wait_until(&["devices"], |d| {
        d["dropped"]["too_many_entities"].as_u64() >= Some(5000)
            && d["dropped"]["too_many_devices"].as_u64() >= Some(3999)
    });
    assert_eq!(devices["devices"].as_array().map(Vec::len), Some(1000));
}
