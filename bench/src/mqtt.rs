//! Devices and subscribers at the broker.

use std::time::Duration;

use rumqttc::{AsyncClient, Event, EventLoop, MqttOptions, Packet, PublishOptions, QoS};
use serde_json::json;

use crate::Fail;
use crate::hub::PATIENCE;

/// Messages that a publisher may have on the way.
const IN_FLIGHT: u16 = 100;

/// Endpoints of the measured home.
pub const ENDPOINTS: usize = 28;

/// Of them thermostats; the others are what homes have beside.
pub const THERMOSTATS: usize = 12;

/// A client whose connection is kept up by a task of its own.
pub fn publisher(port: u16, name: &str) -> AsyncClient {
    let (client, mut events) = connect(port, name);
    tokio::spawn(async move { while events.poll().await.is_ok() {} });
    client
}

/// A client and its events.
pub fn connect(port: u16, name: &str) -> (AsyncClient, EventLoop) {
    let mut options = MqttOptions::new(name, ("127.0.0.1".to_owned(), port));
    options.set_inflight(IN_FLIGHT);
    options.set_max_packet_size(1 << 20, 1 << 20);
    AsyncClient::builder(options).capacity(usize::from(IN_FLIGHT)).build()
}

/// Publishes and waits until the broker has all of it.
pub async fn publish(
    client: &AsyncClient,
    messages: impl IntoIterator<Item = (String, String)>,
    retain: bool,
) -> Result<(), Fail> {
    let mut notices = Vec::new();
    for (topic, payload) in messages {
        let how = PublishOptions::new(QoS::AtLeastOnce).retain(retain);
        notices.push(client.publish_tracked(topic, payload, how).await?);
    }
    for notice in notices {
        tokio::time::timeout(PATIENCE, notice.wait_async()).await??;
    }
    Ok(())
}

/// Subscribes at QoS 1; comes back when the broker has agreed.
pub async fn subscribe(client: &AsyncClient, events: &mut EventLoop, filter: &str) -> Result<(), Fail> {
    client.subscribe(filter, QoS::AtLeastOnce).await?;
    loop {
        if let Event::Incoming(Packet::SubAck(_)) = tokio::time::timeout(PATIENCE, events.poll()).await?? {
            return Ok(());
        }
    }
}

/// What a home with [`ENDPOINTS`] devices announces, and the state of each.
pub fn home() -> Vec<(String, String)> {
    let mut all = Vec::new();
    let mut say = |topic: String, payload: serde_json::Value| all.push((topic, payload.to_string()));
    for i in 0..THERMOSTATS {
        say(
            format!("homeassistant/climate/t{i}/config"),
            json!({
                "name": null, "uniq_id": format!("t{i}"), "dev": {"ids": [format!("t{i}")], "name": format!("Room {i}"),
                "mf": "Maker", "mdl": "TRV", "sw": "1.2.3"}, "modes": ["off", "heat"], "temp_unit": "C",
                "mode_stat_t": format!("t{i}/mode"), "mode_cmd_t": format!("t{i}/mode/set"),
                "temp_stat_t": format!("t{i}/target"), "temp_cmd_t": format!("t{i}/target/set"),
                "curr_temp_t": format!("t{i}/temperature"), "min_temp": 5, "max_temp": 30, "temp_step": 0.1,
            }),
        );
        say(format!("t{i}/mode"), json!("heat"));
        say(format!("t{i}/target"), json!(20.5));
        say(format!("t{i}/temperature"), json!(21.25));
    }
    for i in THERMOSTATS..ENDPOINTS {
        let device = json!({"ids": [format!("d{i}")], "name": format!("Device {i}"), "mf": "Maker", "mdl": "Thing"});
        let (kind, mut config, state) = match i % 4 {
            0 => (
                "light",
                json!({"cmd_t": format!("d{i}/set"), "bri_stat_t": format!("d{i}/b"),
                "bri_cmd_t": format!("d{i}/b/set"), "bri_scl": 100}),
                "ON",
            ),
            1 => ("switch", json!({"cmd_t": format!("d{i}/set")}), "OFF"),
            2 => ("lock", json!({"cmd_t": format!("d{i}/set")}), "LOCKED"),
            _ => ("binary_sensor", json!({"dev_cla": "door"}), "OFF"),
        };
        if let Some(config) = config.as_object_mut() {
            config.insert("name".to_owned(), json!(format!("Device {i}")));
            config.insert("uniq_id".to_owned(), json!(format!("d{i}")));
            config.insert("dev".to_owned(), device);
            config.insert("stat_t".to_owned(), json!(format!("d{i}/state")));
        }
        say(format!("homeassistant/{kind}/d{i}/config"), config);
        say(format!("d{i}/state"), json!(state));
    }
    // Payloads are words and numbers, not JSON strings.
    all.into_iter().map(|(topic, payload)| (topic, payload.trim_matches('"').to_owned())).collect()
}

/// Counts messages below a topic, prints how many when the last one said `end`, and ends: the bare subscriber.
pub async fn count(port: u16, filter: &str) -> Result<(), Fail> {
    let (client, mut events) = connect(port, "bare");
    subscribe(&client, &mut events, filter).await?;
    println!("ready");
    let mut count = 0u64;
    loop {
        if let Event::Incoming(Packet::Publish(message)) = events.poll().await? {
            if message.payload.as_ref() == b"end" {
                println!("counted {count}");
                // The last acknowledgement still has to leave.
                let _ = tokio::time::timeout(Duration::from_millis(50), events.poll()).await;
                return Ok(());
            }
            count += 1;
        }
    }
}
