//! Readings in, through Mosquitto at QoS 1, beside a subscriber that only counts. None may be lost: each is taken in or
//! counted as dropped, and the last of each device is in the home state. The history may be a second behind.

use std::path::Path;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use rumqttc::{AsyncClient, PublishOptions, QoS};
use serde_json::{Value, json};

use crate::hub::{self, Broker, Hub, PATIENCE, read_only};
use crate::mqtt::{self, THERMOSTATS};
use crate::{Fail, Settings};

/// Share of the bare subscriber's rate that the hub must reach.
const BAR: f64 = 0.5;

/// How far the history may be behind, in milliseconds.
const BEHIND_MAX_MS: i64 = 1000;

/// How often the history and the counters are looked at.
const LOOK_EVERY: Duration = Duration::from_millis(100);

/// What devices say.
#[derive(Clone, Copy)]
enum Form {
    /// A number.
    Plain,
    /// A JSON object that two templates read, as Zigbee2MQTT sends it.
    Json,
}

impl Form {
    fn name(self) -> &'static str {
        match self {
            Self::Plain => "a number each",
            Self::Json => "JSON, two templates each",
        }
    }

    fn readings_each(self) -> u64 {
        match self {
            Self::Plain => 1,
            Self::Json => 2,
        }
    }

    fn filter(self) -> &'static str {
        match self {
            Self::Plain => "+/temperature",
            Self::Json => "zigbee/+",
        }
    }

    /// The n-th message, and the temperature in it.
    fn message(self, n: usize) -> (String, String, f64) {
        let device = n % THERMOSTATS;
        let celsius = 15.0 + ((n / THERMOSTATS) % 1000) as f64 / 100.0;
        match self {
            Self::Plain => (format!("t{device}/temperature"), format!("{celsius}"), celsius),
            Self::Json => {
                let humidity = 40.0 + (n % 300) as f64 / 10.0;
                let state = json!({"battery": 87, "humidity": humidity, "linkquality": 120, "pressure": 1013.2,
                    "temperature": celsius, "voltage": 2900});
                (format!("zigbee/s{device}"), state.to_string(), celsius)
            }
        }
    }
}

/// Sensors as Zigbee2MQTT announces them.
fn sensors() -> Vec<(String, String)> {
    let mut all = Vec::new();
    for i in 0..THERMOSTATS {
        for (what, unit) in [("temperature", "°C"), ("humidity", "%")] {
            let config = json!({
                "name": what, "uniq_id": format!("s{i}_{what}"), "dev": {"ids": [format!("s{i}")], "name": format!("Sensor {i}")},
                "dev_cla": what, "unit_of_meas": unit, "stat_t": format!("zigbee/s{i}"),
                "val_tpl": format!("{{{{ value_json.{what} }}}}"),
            });
            all.push((format!("homeassistant/sensor/s{i}/{what}/config"), config.to_string()));
        }
    }
    all
}

async fn publish(client: &AsyncClient, form: Form, count: usize) -> Result<(), Fail> {
    for n in 0..count {
        let (topic, payload, _) = form.message(n);
        client.publish(topic, payload, PublishOptions::new(QoS::AtLeastOnce)).await?;
    }
    Ok(())
}

/// Messages a second of a subscriber that only counts.
async fn bare(port: u16, client: &AsyncClient, form: Form, count: usize) -> Result<f64, Fail> {
    let subscriber = hub::again(&["count", &port.to_string(), form.filter()])?;
    subscriber.wait_for("ready")?;
    let begin = Instant::now();
    publish(client, form, count).await?;
    let (topic, ..) = form.message(0);
    client.publish(topic, "end", PublishOptions::new(QoS::AtLeastOnce)).await?;
    let counted = tokio::task::spawn_blocking(move || subscriber.wait_for("counted ")).await??;
    let took = begin.elapsed();
    if counted.parse::<usize>()? != count {
        return Err(format!("the bare subscriber counted {counted} of {count}").into());
    }
    Ok(count as f64 / took.as_secs_f64())
}

/// What the hub made of it.
struct Taken {
    rate: f64,
    behind_max_ms: i64,
    dropped: u64,
}

fn dropped(devices: &Value) -> u64 {
    let all = devices.get("dropped").and_then(Value::as_object);
    all.map_or(0, |all| all.values().filter_map(Value::as_u64).sum())
}

async fn taken(hub: &Hub, client: &AsyncClient, form: Form, count: usize) -> Result<Taken, Fail> {
    let before = hub.metric("readings_total").await?;
    let dropped_before = dropped(&hub.cli_json(&["devices"])?);
    let wanted = count as u64 * form.readings_each();
    let history = read_only(&hub.history())?;
    let begin = Instant::now();
    let sender = client.clone();
    let publisher = tokio::spawn(async move { publish(&sender, form, count).await });
    let (mut behind_max_ms, mut last) = (0, begin);
    let took = loop {
        let done = hub.metric("readings_total").await?.saturating_sub(before);
        let took = begin.elapsed();
        if done >= wanted {
            break took;
        }
        if took > PATIENCE * 5 {
            return Err(format!("{wanted} readings were sent, and only {done} taken in").into());
        }
        if last.elapsed() >= LOOK_EVERY && took > Duration::from_secs(1) {
            last = Instant::now();
            let sql = "SELECT max(json_extract(json, '$.reported.time')) FROM known";
            let newest: i64 = history.query_row(sql, [], |row| row.get(0))?;
            let now = i64::try_from(SystemTime::now().duration_since(UNIX_EPOCH)?.as_millis())?;
            behind_max_ms = behind_max_ms.max(now - newest);
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    };
    publisher.await??;
    let dropped = dropped(&hub.cli_json(&["devices"])?) - dropped_before;
    let done = hub.metric("readings_total").await?.saturating_sub(before);
    if done != wanted {
        return Err(format!("{wanted} readings were sent, {done} taken in and {dropped} dropped").into());
    }
    visible(hub, form, count)?;
    Ok(Taken { rate: count as f64 / took.as_secs_f64(), behind_max_ms, dropped })
}

/// The last value of each device is in the home state.
fn visible(hub: &Hub, form: Form, count: usize) -> Result<(), Fail> {
    let devices = hub.cli_json(&["devices"])?;
    let list = devices.get("devices").and_then(Value::as_array).ok_or("no devices")?;
    for n in count - THERMOSTATS..count {
        let (topic, _, celsius) = form.message(n);
        let id = topic.split('/').find(|part| part.starts_with(['t', 's']) && *part != "temperature");
        let device = list.iter().find(|d| d.get("id").and_then(Value::as_str) == id).ok_or("a device is missing")?;
        let properties = device.get("properties").and_then(Value::as_array).ok_or("no properties")?;
        let found = properties.iter().find(|p| p.get("property").and_then(Value::as_str) == Some("local_temperature"));
        let value = found.and_then(|p| p.get("value")).map(ToString::to_string).unwrap_or_default();
        // A temperature is in millidegrees, whatever stands around the number.
        let digits: String = value.chars().filter(char::is_ascii_digit).collect();
        if digits.parse::<f64>().ok() != Some((celsius * 1000.0).round()) {
            return Err(format!("{topic} said {celsius} last, and the home state is {value}").into());
        }
    }
    Ok(())
}

/// Both forms.
pub async fn run(folder: &Path, settings: &Settings) -> Result<Vec<Value>, Fail> {
    let broker = Broker::start(folder)?;
    let client = mqtt::publisher(broker.port, "home");
    mqtt::publish(&client, mqtt::home(), true).await?;
    mqtt::publish(&client, sensors(), true).await?;
    let hub = Hub::start(&folder.join("readings"), broker.port)?;
    let known = mqtt::ENDPOINTS + THERMOSTATS;
    // The bare subscriber has a broker of its own: nobody else hears what it counts.
    let beside = tempfile::tempdir_in(folder)?;
    let alone = Broker::start(beside.path())?;
    let to_alone = mqtt::publisher(alone.port, "home");
    hub.wait_devices(|d| d.get("devices").and_then(Value::as_array).is_some_and(|all| all.len() == known))?;
    let mut rows = Vec::new();
    for form in [Form::Plain, Form::Json] {
        // Once without counting: until all subscriptions stand, and what is lazy is done.
        let mut tries = 0;
        while taken(&hub, &client, form, THERMOSTATS).await.is_err() {
            tries += 1;
            if tries > 5 {
                return Err("the hub does not hear its devices".into());
            }
        }
        let mut rounds = Vec::new();
        for _ in 0..settings.rounds {
            eprintln!("bench: readings, {}", form.name());
            let bare = bare(alone.port, &to_alone, form, settings.readings).await?;
            let mine = taken(&hub, &client, form, settings.readings).await?;
            rounds.push((mine.rate / bare, mine, bare));
        }
        rounds.sort_by(|a, b| a.0.total_cmp(&b.0));
        let behind = rounds.iter().map(|(_, mine, _)| mine.behind_max_ms).max().unwrap_or(0);
        let dropped: u64 = rounds.iter().map(|(_, mine, _)| mine.dropped).sum();
        let (ratio, mine, bare) = rounds.get(rounds.len() / 2).ok_or("no rounds")?;
        rows.push(json!({
            "form": form.name(), "messages": settings.readings * settings.rounds,
            "readings": settings.readings as u64 * settings.rounds as u64 * form.readings_each(),
            "per_second": mine.rate.round(), "bare_per_second": bare.round(), "ratio": (ratio * 1000.0).round() / 1000.0,
            "bar": BAR, "met": *ratio >= BAR, "lost": 0, "dropped": dropped, "history_behind_max_ms": behind,
            "history_met": behind <= BEHIND_MAX_MS, "load": crate::machine::load(),
        }));
    }
    hub.stop()?;
    Ok(rows)
}
