//! As many endpoints as Amazon takes of one customer: Discover and ReportState beside Amazon's own limits, and what it costs
//! to report all of them unasked.

use std::path::Path;
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use testkit::{PretendAlexa, PretendAmazon};

use crate::hub::{Broker, Hub};
use crate::{Fail, Settings, mqtt};

/// Endpoints that Amazon takes of one customer.
const ENDPOINTS: usize = 300;

/// Amazon waits this long for an answer, in milliseconds.
const ANSWER_MAX_MS: f64 = 8_000.0;

/// What a Lambda function may answer, in KiB.
const LAMBDA_MAX_KIB: f64 = 6.0 * 1024.0;

/// Largest share of one core for reports, in percent.
const SHARE_MAX: f64 = 1.0;

/// Reports leave on a grid of this length.
const GRID: Duration = Duration::from_secs(10);

fn row(what: impl Into<String>, figure: f64, unit: &str, bar: f64) -> Value {
    let figure = (figure * 1000.0).round() / 1000.0;
    json!({"what": what.into(), "figure": figure, "unit": unit, "bar": bar, "met": figure < bar})
}

fn device(i: usize) -> (String, String) {
    let text = json!({
        "name": null, "uniq_id": format!("c{i}"), "modes": ["off", "auto", "heat", "cool"], "temp_unit": "C",
        "dev": {"ids": [format!("c{i}")], "name": format!("Room {i}"), "mf": "Maker", "mdl": "Thermostat"},
        "mode_stat_t": format!("c{i}/mode"), "mode_cmd_t": format!("c{i}/mode/set"),
        "temp_hi_stat_t": format!("c{i}/high"), "temp_hi_cmd_t": format!("c{i}/high/set"),
        "temp_lo_stat_t": format!("c{i}/low"), "temp_lo_cmd_t": format!("c{i}/low/set"),
        "act_t": format!("c{i}/action"), "curr_temp_t": format!("c{i}/temperature"),
        "curr_hum_t": format!("c{i}/humidity"), "min_temp": 5, "max_temp": 30, "temp_step": 0.1,
    });
    (format!("homeassistant/climate/c{i}/config"), text.to_string())
}

fn states(i: usize, temperature: f64) -> Vec<(String, String)> {
    let state = |name: &str, text: String| (format!("c{i}/{name}"), text);
    vec![
        state("mode", "auto".into()),
        state("high", "25.5".into()),
        state("low", "20.5".into()),
        state("action", "heating".into()),
        state("humidity", "45".into()),
        state("temperature", format!("{temperature:.2}")),
    ]
}

fn millis(begin: Instant) -> f64 {
    begin.elapsed().as_secs_f64() * 1000.0
}

/// Waits until Amazon has taken so many reports in all.
async fn reports(amazon: &PretendAmazon, count: usize) -> Result<(), Fail> {
    let there =
        amazon.wait(|all| all.iter().filter(|r| r.name() == "ChangeReport" && r.status == 202).count() >= count);
    if there.await { Ok(()) } else { Err(format!("{count} reports never came").into()) }
}

/// All rows.
pub async fn run(folder: &Path, settings: &Settings) -> Result<Vec<Value>, Fail> {
    eprintln!("bench: {ENDPOINTS} endpoints");
    let broker = Broker::start(folder)?;
    let client = mqtt::publisher(broker.port, "catalogue");
    mqtt::publish(&client, (0..ENDPOINTS).map(device), true).await?;
    mqtt::publish(&client, (0..ENDPOINTS).flat_map(|i| states(i, 20.0)), true).await?;
    let amazon = PretendAmazon::start().await?;
    let skill = [
        ("VESTIBULE__ALEXA__REGION", "eu"),
        ("VESTIBULE__ALEXA__PRETEND", amazon.url()),
        ("VESTIBULE__ALEXA__CLIENT_ID", "skill-client"),
        ("VESTIBULE__ALEXA__CLIENT_SECRET", "skill-secret"),
    ];
    let hub = Hub::start_with(&folder.join("catalogue"), broker.port, &skill)?;
    let told = |d: &Value| d.get("readings").and_then(Value::as_u64) >= Some(6 * ENDPOINTS as u64);
    hub.wait_devices(told)?;
    let token = hub.cli(&["link", "alexa", "--profile", "everything", "--print-token"])?.trim().to_owned();
    let alexa = PretendAlexa::new(&format!("http://{}", hub.partners), &token);
    let mut rows = Vec::new();
    let (mut found, mut discover) = (Vec::new(), Vec::new());
    for _ in 0..5 {
        let begin = Instant::now();
        let answer = alexa.discover().await?;
        discover.push(millis(begin));
        found = answer.body.to_vec();
    }
    discover.sort_by(f64::total_cmp);
    if alexa.endpoints().len() != ENDPOINTS {
        return Err(format!("{} endpoints were discovered, and not {ENDPOINTS}", alexa.endpoints().len()).into());
    }
    let worst = |all: &[f64]| all.last().copied().unwrap_or_default();
    rows.push(row(format!("Discover, {ENDPOINTS} endpoints, the slowest of 5"), worst(&discover), "ms", ANSWER_MAX_MS));
    rows.push(row(format!("Discover, {ENDPOINTS} endpoints"), found.len() as f64 / 1024.0, "KiB", LAMBDA_MAX_KIB));
    let (mut largest, mut slowest) = (0, Vec::new());
    for endpoint in alexa.endpoints() {
        let begin = Instant::now();
        let answer = alexa.report_state(&endpoint).await?;
        if answer.body.len() >= largest {
            largest = answer.body.len();
            slowest.push(millis(begin));
        }
    }
    slowest.sort_by(f64::total_cmp);
    let what = format!("ReportState of the largest endpoint ({largest} bytes), the slowest");
    rows.push(row(what, worst(&slowest), "ms", ANSWER_MAX_MS));

    // Amazon lets it send; all is told once, and then what changes.
    let taken = alexa.send("Alexa.Authorization", "AcceptGrant", "", json!({})).await?;
    if taken.event() != "Alexa.Authorization.AcceptGrant.Response" {
        return Err(format!("the right to send was not taken: {}", taken.json).into());
    }
    reports(&amazon, ENDPOINTS).await?;
    let mut sent = ENDPOINTS;
    let ticks = if settings.rounds > 1 { 6 } else { 2 };
    let mut temperature = 20.0;
    for (what, changing) in [("nothing changes", 0), ("a tenth changes", ENDPOINTS / 10), ("all change", ENDPOINTS)] {
        let on_core = hub.cpu_micros();
        let begin = Instant::now();
        for _ in 0..ticks {
            temperature += 0.5;
            let changed = (0..changing).map(|i| (format!("c{i}/temperature"), format!("{temperature:.2}")));
            mqtt::publish(&client, changed, true).await?;
            sent += changing;
            reports(&amazon, sent).await?;
            tokio::time::sleep(GRID.saturating_sub(Duration::from_secs_f64(begin.elapsed().as_secs_f64() % 10.0)))
                .await;
        }
        let share = hub.cpu_micros().saturating_sub(on_core) as f64 / begin.elapsed().as_micros() as f64 * 100.0;
        let what = format!("ChangeReports of {ENDPOINTS} endpoints at each tick, {what}");
        rows.push(row(what, share, "% of a core", SHARE_MAX));
    }
    if !amazon.faults().is_empty() {
        return Err(format!("Amazon found events wrong: {:?}", amazon.faults()).into());
    }
    hub.stop()?;
    Ok(rows)
}
