//! Alexa's messages against the hub, beside what the machine could do at best. In each round hub, echo and bare store
//! take turns, so that what else the machine does meets all three.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

use rumqttc::{Event, Packet, QoS};
use rusqlite::params;
use serde_json::{Value, json};
use sha2::Digest as _;
use testkit::{PretendAlexa, directive};

use crate::http::{Connection, Load, Requests, load, post};
use crate::hub::{self, Broker, Hub, PATIENCE};
use crate::limits::{self, Rows};
use crate::mqtt::{self, ENDPOINTS, THERMOSTATS};
use crate::{Fail, Settings, percentile};

/// Connections at once.
const CONNECTIONS: [usize; 3] = [1, 16, 64];

/// Share of the limit that the hub must reach.
pub const BAR: f64 = 0.5;

/// Answers of each message that are looked up in the record at the moment when they arrive.
const LOOKED_UP: usize = 100;

/// Where directives go.
const PATH: &str = "/alexa/v3/directives";

/// The commands that a subscriber saw: thermostat and millidegrees, how often.
type Seen = Arc<Mutex<BTreeMap<(usize, i64), u64>>>;

/// The three messages.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Message {
    ReportState,
    SetTargetTemperature,
    Discover,
}

impl Message {
    fn name(self) -> &'static str {
        match self {
            Self::ReportState => "ReportState",
            Self::SetTargetTemperature => "SetTargetTemperature",
            Self::Discover => "Discover",
        }
    }
}

/// A linked home.
struct Home {
    token: String,
    /// Endpoint ids of all devices.
    all: Vec<String>,
    /// Endpoint ids of the thermostats, by their number.
    thermostats: Vec<String>,
}

async fn link(hub: &Hub) -> Result<Home, Fail> {
    let token = hub.cli(&["link", "alexa", "--profile", "everything", "--print-token"])?.trim().to_owned();
    let alexa = PretendAlexa::new(&format!("http://{}", hub.partners), &token);
    let found = alexa.discover().await?;
    let endpoints = found.json.pointer("/event/payload/endpoints").and_then(Value::as_array).ok_or("no endpoints")?;
    let text = |v: &Value, key: &str| v.get(key).and_then(Value::as_str).unwrap_or_default().to_owned();
    let all: Vec<String> = endpoints.iter().map(|e| text(e, "endpointId")).collect();
    let mut thermostats = Vec::new();
    for i in 0..THERMOSTATS {
        let name = format!("Room {i}");
        let found = endpoints.iter().find(|e| text(e, "friendlyName") == name);
        thermostats.push(text(found.ok_or_else(|| format!("no `{name}` was discovered"))?, "endpointId"));
    }
    if all.len() != ENDPOINTS {
        return Err(format!("{} endpoints were discovered, and not {ENDPOINTS}", all.len()).into());
    }
    Ok(Home { token, all, thermostats })
}

/// Set points in turn: thermostat and millidegrees. Each differs from the one before on the same thermostat.
fn set_points() -> Vec<(usize, i64)> {
    (0..100).flat_map(|step| (0..THERMOSTATS).map(move |t| (t, 15_000 + (step * 37 % 100) * 100))).collect()
}

/// The body of each request.
fn bodies(message: Message, home: &Home) -> Vec<Vec<u8>> {
    let text = |v: Value| v.to_string().into_bytes();
    match message {
        Message::ReportState => {
            home.all.iter().map(|e| text(directive("Alexa", "ReportState", e, &home.token, json!({})))).collect()
        }
        Message::Discover => {
            vec![text(directive("Alexa.Discovery", "Discover", "", &home.token, json!({})))]
        }
        Message::SetTargetTemperature => set_points()
            .into_iter()
            .filter_map(|(t, milli)| {
                let payload = json!({"targetSetpoint": {"value": milli as f64 / 1000.0, "scale": "CELSIUS"}});
                let endpoint = home.thermostats.get(t)?;
                let name = Message::SetTargetTemperature.name();
                Some(text(directive("Alexa.ThermostatController", name, endpoint, &home.token, payload)))
            })
            .collect(),
    }
}

fn requests(message: Message, home: &Home) -> Arc<Requests> {
    Requests::new(bodies(message, home).iter().map(|body| post(PATH, body)).collect())
}

/// Leaves in the record.
fn size(hub: &Hub) -> Result<i64, Fail> {
    Ok(hub.record()?.query_row("SELECT size FROM ledger_head", [], |row| row.get(0))?)
}

/// INTENT leaves from an index on.
fn intents(hub: &Hub, from: i64) -> Result<u64, Fail> {
    let sql = "SELECT count(*) FROM ledger_leaf WHERE idx >= ?1 AND json_extract(leaf, '$.type') = 'intent'";
    Ok(hub.record()?.query_row(sql, [from], |row| row.get::<_, i64>(0)).map(i64::unsigned_abs)?)
}

/// Holds answers against the record at the moment when they arrive: each must be there already.
async fn look_up(hub: &Hub, requests: &Requests) -> Result<(), Fail> {
    let record = hub.record()?;
    let mut connection = Connection::open(hub.partners).await?;
    for _ in 0..LOOKED_UP {
        let before: i64 = record.query_row("SELECT size FROM ledger_head", [], |row| row.get(0))?;
        let (status, body) = connection.exchange(requests.take()).await?;
        let hash: [u8; 32] = sha2::Sha256::digest(body).into();
        let found: i64 = record.query_row(
            "SELECT count(*) FROM ledger_body WHERE idx >= ?1 AND sha256 = ?2",
            params![before, hash],
            |row| row.get(0),
        )?;
        if status != 200 || found != 1 {
            return Err(format!("an answer (status {status}) stood {found} times in the record when it came").into());
        }
    }
    Ok(())
}

/// The rows that one message wrote, taken from the hub's own record: that of the most common length.
fn rows_of(hub: &Hub, message: Message, from: i64) -> Result<Vec<Rows>, Fail> {
    let record = hub.record()?;
    let leaf = |index: i64| -> Result<(String, String), Fail> {
        let sql = "SELECT leaf, json_extract(leaf, '$.type') FROM ledger_leaf WHERE idx = ?1";
        Ok(record.query_row(sql, [index], |row| Ok((row.get(0)?, row.get(1)?)))?)
    };
    let body = |index: i64| -> Result<Vec<u8>, Fail> {
        Ok(record.query_row("SELECT body FROM ledger_body WHERE idx = ?1", [index], |row| row.get(0))?)
    };
    let typical = |kind: &str| -> Result<i64, Fail> {
        let sql = "SELECT idx FROM ledger_leaf WHERE idx >= ?1 AND json_extract(leaf, '$.type') = ?2 ORDER BY
            abs(length(leaf) - (SELECT avg(length(leaf)) FROM ledger_leaf
            WHERE idx >= ?1 AND json_extract(leaf, '$.type') = ?2)) LIMIT 1";
        Ok(record.query_row(sql, params![from, kind], |row| row.get(0))?)
    };
    let first = typical("intent")?;
    let mut leaves = vec![leaf(first)?.0];
    while let Ok((text, kind)) = leaf(first + i64::try_from(leaves.len())?)
        && kind == "more"
    {
        leaves.push(text);
    }
    leaves.push(leaf(typical("outcome")?)?.0);
    // A tree of n leaves has nearly 2 n hashes.
    let answer = Rows { hashes: 2 * leaves.len(), leaves, body: Some(body(first)?) };
    if message != Message::SetTargetTemperature {
        return Ok(vec![answer]);
    }
    let command = typical("command")?;
    Ok(vec![Rows { leaves: vec![leaf(command)?.0], hashes: 2, body: Some(body(command)?) }, answer])
}

/// Listens to the thermostats' commands.
async fn listen(port: u16) -> Result<Seen, Fail> {
    let (client, mut events) = mqtt::connect(port, "witness");
    mqtt::subscribe(&client, &mut events, "+/target/set").await?;
    let seen = Seen::default();
    let mine = Arc::clone(&seen);
    tokio::spawn(async move {
        let _client = client;
        while let Ok(event) = events.poll().await {
            let Event::Incoming(Packet::Publish(p)) = event else { continue };
            let topic = String::from_utf8_lossy(&p.topic).into_owned();
            let number = topic.split('/').next().and_then(|t| t.trim_start_matches('t').parse::<usize>().ok());
            let celsius = std::str::from_utf8(&p.payload).ok().and_then(|t| t.parse::<f64>().ok());
            // What is not as it must be counts under a key that nobody sent.
            let key = match (number, celsius) {
                (Some(t), Some(c)) if p.qos == QoS::AtLeastOnce && !p.dup => (t, (c * 1000.0).round() as i64),
                _ => (usize::MAX, 0),
            };
            *mine.lock().unwrap_or_else(PoisonError::into_inner).entry(key).or_default() += 1;
        }
    });
    Ok(seen)
}

/// What the taken requests ask for in all.
fn expected(requests: &Requests) -> BTreeMap<(usize, i64), u64> {
    let mut all = BTreeMap::new();
    for key in set_points().into_iter().cycle().take(usize::try_from(requests.taken()).unwrap_or(0)) {
        *all.entry(key).or_default() += 1;
    }
    all
}

/// Waits until the witness saw as many commands as were sent, and compares.
async fn compare(seen: &Seen, requests: &Requests) -> Result<u64, Fail> {
    let wanted = expected(requests);
    let total: u64 = wanted.values().sum();
    let begin = Instant::now();
    loop {
        let now = seen.lock().unwrap_or_else(PoisonError::into_inner).clone();
        if now == wanted {
            return Ok(total);
        }
        if now.values().sum::<u64>() > total || begin.elapsed() > PATIENCE {
            return Err(format!("{total} commands were sent, and {} seen", now.values().sum::<u64>()).into());
        }
        tokio::time::sleep(std::time::Duration::from_millis(20)).await;
    }
}

fn median(mut all: Vec<f64>) -> f64 {
    all.sort_by(f64::total_cmp);
    all.get(all.len() / 2).copied().unwrap_or_default()
}

/// All rows of the table.
pub async fn run(folder: &Path, settings: &Settings) -> Result<Vec<Value>, Fail> {
    let broker = Broker::start(folder)?;
    let client = mqtt::publisher(broker.port, "home");
    mqtt::publish(&client, mqtt::home(), true).await?;
    let hub = Hub::start(&folder.join("messages"), broker.port)?;
    let full = |d: &Value| {
        let list = d.get("devices").and_then(Value::as_array).map_or(&[][..], Vec::as_slice);
        let told = |d: &Value| {
            let all = d.get("properties").and_then(Value::as_array).map_or(&[][..], Vec::as_slice);
            all.iter().any(|p| p.get("value").is_some_and(|v| !v.is_null()))
        };
        list.len() == ENDPOINTS && list.iter().all(told)
    };
    hub.wait_devices(full)?;
    let home = link(&hub).await?;
    let echo = hub::again(&["echo"])?;
    let echo_at = limits::address(&echo.wait_for("")?)?;
    let mut rows = Vec::new();
    for message in [Message::ReportState, Message::SetTargetTemperature, Message::Discover] {
        look_up(&hub, &requests(message, &home)).await?;
        for connections in CONNECTIONS {
            eprintln!("bench: {} at {connections} connections", message.name());
            let row = row(&hub, &home, broker.port, echo_at, message, connections, folder, settings).await?;
            rows.push(row);
        }
    }
    let report = hub.cli_json(&["ledger", "verify"])?;
    if report.get("ok") != Some(&Value::Bool(true)) {
        return Err(format!("the record does not verify after the load: {report}").into());
    }
    hub.stop()?;
    Ok(rows)
}

#[expect(clippy::too_many_arguments, reason = "one row of the table needs all that there is")]
async fn row(
    hub: &Hub,
    home: &Home,
    port: u16,
    echo_at: SocketAddr,
    message: Message,
    connections: usize,
    folder: &Path,
    settings: &Settings,
) -> Result<Value, Fail> {
    // A short load first: it warms up, and shows the sizes for the limits.
    let from = size(hub)?;
    let warm = load(hub.partners, requests(message, home), connections, settings.round / 4).await?;
    let mean = warm.bytes.checked_div(warm.answers).ok_or("no answer")?;
    let bare = rows_of(hub, message, from)?;
    let path = format!("/echo/{mean}");
    let echo_requests = Requests::new(bodies(message, home).iter().map(|body| post(&path, body)).collect());
    let (mut rates, mut echoes, mut stores, mut ratios) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
    let (mut micros, mut answers, mut recorded, mut commands, mut cpu) = (Vec::new(), 0, 0, 0, 0);
    for _ in 0..settings.rounds {
        let before = size(hub)?;
        let requests = requests(message, home);
        let seen = if message == Message::SetTargetTemperature { Some(listen(port).await?) } else { None };
        let on_core = hub.cpu_micros();
        let mine = load(hub.partners, Arc::clone(&requests), connections, settings.round).await?;
        cpu += hub.cpu_micros().saturating_sub(on_core);
        let written = intents(hub, before)?;
        if written != mine.answers {
            return Err(format!("{} answers came, and {written} are in the record", mine.answers).into());
        }
        if let Some(seen) = seen {
            commands += compare(&seen, &requests).await?;
        }
        let echo = load(echo_at, Arc::clone(&echo_requests), connections, settings.round).await?;
        let store = limits::sqlite(&folder.join("bare.db"), &bare, connections, settings.round).await?;
        let limit = limit(&echo, &store);
        rates.push(mine.rate());
        echoes.push(echo.rate());
        stores.push(store.rate());
        ratios.push(mine.rate() / limit);
        answers += mine.answers;
        recorded += written;
        micros.extend(mine.micros);
    }
    micros.sort_unstable();
    let ratio = median(ratios);
    let (echo, store) = (median(echoes), median(stores));
    Ok(json!({
        "message": message.name(), "connections": connections, "per_second": median(rates).round(),
        "p50_ms": percentile(&micros, 50) as f64 / 1000.0, "p99_ms": percentile(&micros, 99) as f64 / 1000.0,
        "echo_per_second": echo.round(), "sqlite_per_second": store.round(),
        "limit_per_second": (1.0 / (1.0 / echo + 1.0 / store)).round(), "ratio": (ratio * 1000.0).round() / 1000.0,
        "bar": BAR, "met": ratio >= BAR, "answers": answers, "recorded": recorded,
        "commands_seen_once": if message == Message::SetTargetTemperature { json!(commands) } else { Value::Null },
        "hub_cpu_us_each": cpu / answers.max(1), "answer_bytes": mean, "load": crate::machine::load(),
    }))
}

/// Answering and recording share the cores: their times add up.
fn limit(echo: &Load, store: &Load) -> f64 {
    1.0 / (1.0 / echo.rate() + 1.0 / store.rate())
}
