//! What needs no load: the decision table, bytes on disk, memory, and how long a start takes.

use std::fs;
use std::hint::black_box;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use devices::simulator::Simulation;
use ledger::{Body, Digest, Draft, Intent, Item};
use model::{
    ALL_PROPERTIES, ALL_TRIGGERS, Class, Clock as _, DeviceId, DeviceType, GrantId, HouseholdId, Kind, LinkId,
    MemberId, PartnerId, Property, Rung, Timestamp, Trigger,
};
use policy::{DeviceFact, Facts, LinkFact, Terms};
use serde_json::{Value, json};
use store::Store;
use store::ledger::{Append, LedgerWriter, Opening};
use testkit::{Act, PretendAlexa, ScaledClock, Workload};

use crate::hub::{Broker, Hub, folder_bytes};
use crate::{Fail, Settings, mqtt, percentile};

/// A household's day with a voice assistant.
const DAY: &str = include_str!("../../workloads/household-day.toml");

/// Longest compilation of the table, in milliseconds.
const COMPILE_MAX_MS: f64 = 500.0;
/// Longest decision, in nanoseconds.
const DECISION_MAX_NS: f64 = 1000.0;
/// Largest idle hub, in MiB.
const IDLE_MAX_MIB: f64 = 40.0;
/// Longest start, in milliseconds.
const READY_MAX_MS: f64 = 300.0;

/// Look-ups timed together: one alone is shorter than looking at the clock.
const LOOK_UPS: usize = 100;
/// How often.
const BATCHES: usize = 20_000;

/// Starts of which the median counts.
const STARTS: usize = 7;

/// What a hub settles down in, before its memory is read.
const IDLE: Duration = Duration::from_secs(3);

/// Answers for the bytes of one.
const ANSWERS: usize = 2000;

fn row(what: impl Into<String>, figure: f64, unit: &str, bar: Option<f64>) -> Value {
    let what = what.into();
    let figure = (figure * 1000.0).round() / 1000.0;
    json!({"what": what, "figure": figure, "unit": unit, "bar": bar, "met": bar.map(|bar| figure < bar)})
}

/// Nanoseconds that this thread has been on a core: what takes one thread takes as long on a machine that is quiet.
pub fn cpu_nanos() -> Result<u64, Fail> {
    let text = fs::read_to_string("/proc/thread-self/schedstat")?;
    Ok(text.split(' ').next().ok_or("no schedstat")?.parse()?)
}

/// A large home: 6 links, 20 devices of 20 properties.
fn large_home() -> Result<Facts, Fail> {
    let mut facts = Facts::empty(HouseholdId::new("home")?);
    for n in 0..6 {
        let (link, partner) = (LinkId::new(format!("lnk_{n}"))?, PartnerId::new("alexa")?);
        facts.links.push(LinkFact { link, partner, gatekeeper: true, agent: false });
    }
    for n in 0..20 {
        facts.devices.push(DeviceFact {
            device: DeviceId::new(format!("device_{n}"))?,
            device_type: DeviceType::Thermostat,
            properties: ALL_PROPERTIES.iter().take(20).map(|p| (*p, Kind::of(*p, Class::None))).collect(),
        });
    }
    Ok(facts)
}

/// Compiling the table of a large home, and deciding by it.
pub fn policy() -> Result<Vec<Value>, Fail> {
    let facts = large_home()?;
    let cells: usize = facts.devices.iter().map(|d| d.properties.len()).sum();
    let owner = MemberId::new("owner")?;
    let terms = Terms { now: Timestamp::default(), granted_by: owner.clone(), affects: vec![owner] };
    let mut rows = Vec::new();
    for slug in ["commands-only", "glance", "everything"] {
        let profile = policy::profile(slug).ok_or("no such profile")?;
        let mut grants = Vec::new();
        for link in &facts.links {
            let mut n = 0;
            let ids = || {
                n += 1;
                GrantId::new(format!("{}_{n}", link.link)).ok()
            };
            grants.extend(policy::apply(profile, &facts, &link.link, &[], &terms, ids)?.add);
        }
        let mut took = Vec::new();
        let mut table = None;
        for _ in 0..5 {
            let begin = cpu_nanos()?;
            table = Some(policy::compile(&facts, &grants, None, Timestamp::default())?);
            took.push((cpu_nanos()? - begin) / 1000);
        }
        took.sort_unstable();
        let what =
            format!("table of {} links x {cells} properties, {slug} ({} grants)", facts.links.len(), grants.len());
        rows.push(row(what, percentile(&took, 50) as f64 / 1000.0, "ms CPU", Some(COMPILE_MAX_MS)));
        let table = table.ok_or("no table")?;
        if slug == "everything" {
            rows.extend(decisions(&facts, &table)?);
        }
    }
    Ok(rows)
}

fn decisions(facts: &Facts, table: &policy::Table) -> Result<Vec<Value>, Fail> {
    let mut questions = Vec::new();
    // In no order that would favour a cache.
    for n in 0..LOOK_UPS * 64 {
        let n = n * 7919;
        let pick = |len: usize| n % len.max(1);
        let device = facts.devices.get(pick(facts.devices.len())).ok_or("no device")?;
        let link = facts.links.get(pick(facts.links.len())).ok_or("no link")?;
        let property = ALL_PROPERTIES.get(n / 20 % 20).ok_or("no property")?;
        let trigger = ALL_TRIGGERS.get(pick(ALL_TRIGGERS.len())).ok_or("no trigger")?;
        questions.push((&link.link, &device.device, *property, *trigger));
    }
    let mut nanos = Vec::with_capacity(BATCHES);
    for batch in questions.chunks(LOOK_UPS).cycle().take(BATCHES) {
        let begin = Instant::now();
        for (link, device, property, trigger) in batch {
            black_box(table.decide(link, device, *property, *trigger));
        }
        nanos.push(u64::try_from(begin.elapsed().as_nanos())? / LOOK_UPS as u64);
    }
    nanos.sort_unstable();
    let what = |p: &str| format!("decision, {p} of means over {LOOK_UPS}");
    Ok(vec![
        row(what("p50"), percentile(&nanos, 50) as f64, "ns", Some(DECISION_MAX_NS)),
        row(what("p99"), percentile(&nanos, 99) as f64, "ns", Some(DECISION_MAX_NS)),
    ])
}

/// Memory of a hub that has nothing to do, and how long it takes to start.
pub async fn start(folder: &Path, settings: &Settings) -> Result<Vec<Value>, Fail> {
    let broker = Broker::start(folder)?;
    let client = mqtt::publisher(broker.port, "home");
    mqtt::publish(&client, mqtt::home(), true).await?;
    let mut rows = Vec::new();
    let mut first = Vec::new();
    for n in 0..STARTS {
        let hub = Hub::start(&folder.join(format!("new-{n}")), broker.port)?;
        first.push(hub.ready_ms);
        hub.stop()?;
    }
    rows.push(row("ready after the start, new home", middle(first), "ms", Some(READY_MAX_MS)));

    let data = folder.join("idle");
    let hub = Hub::start(&data, broker.port)?;
    hub.wait_devices(|d| d.get("devices").and_then(Value::as_array).is_some_and(|all| all.len() == mqtt::ENDPOINTS))?;
    hub.cli(&["link", "alexa", "--profile", "everything", "--print-token"])?;
    tokio::time::sleep(IDLE).await;
    rows.push(row(
        format!("idle memory, {} devices, 1 link", mqtt::ENDPOINTS),
        hub.memory_kib() as f64 / 1024.0,
        "MiB",
        Some(IDLE_MAX_MIB),
    ));
    hub.stop()?;
    rows.push(row(
        format!("ready after the start, {} devices, 1 link", mqtt::ENDPOINTS),
        starts(&data, broker.port)?,
        "ms",
        Some(READY_MAX_MS),
    ));

    let data = folder.join("long");
    long_ledger(&data, settings.leaves).await?;
    let name = format!("a ledger of {} leaves", settings.leaves);
    rows.push(row(format!("ready after the start, {name}"), starts(&data, broker.port)?, "ms", Some(READY_MAX_MS)));
    let hub = Hub::start(&data, broker.port)?;
    let begin = Instant::now();
    let report = hub.cli_json(&["ledger", "verify"])?;
    if report.get("ok") != Some(&Value::Bool(true)) {
        return Err(format!("the long ledger does not verify: {report}").into());
    }
    rows.push(row(format!("verifying {name}"), begin.elapsed().as_secs_f64() * 1000.0, "ms", None));
    tokio::time::sleep(IDLE).await;
    rows.push(row(
        format!("idle memory, {name}, verified"),
        hub.memory_kib() as f64 / 1024.0,
        "MiB",
        Some(IDLE_MAX_MIB),
    ));
    hub.stop()?;
    Ok(rows)
}

fn middle(mut all: Vec<f64>) -> f64 {
    all.sort_by(f64::total_cmp);
    all.get(all.len() / 2).copied().unwrap_or_default()
}

fn starts(data: &Path, port: u16) -> Result<f64, Fail> {
    let mut all = Vec::new();
    for _ in 0..STARTS {
        let hub = Hub::start(data, port)?;
        all.push(hub.ready_ms);
        hub.stop()?;
    }
    Ok(middle(all))
}

/// A data directory whose ledger has so many leaves of the usual kind.
async fn long_ledger(data: &Path, leaves: usize) -> Result<(), Fail> {
    use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
    fs::DirBuilder::new().mode(0o700).create(data)?;
    let seed = [42u8; 32];
    let key = data.join("signing.key");
    std::io::Write::write_all(&mut fs::OpenOptions::new().create_new(true).write(true).mode(0o600).open(key)?, &seed)?;
    let store = Store::open(&format!("sqlite:{}", data.join("vestibule.db").display()))?;
    let begin = Timestamp::from_millis(1_790_000_000_000);
    let opening = Opening { household: HouseholdId::new("home")?, seed, begin: Some(begin) };
    let writer = LedgerWriter::open(&store, &opening)?;
    let mut written = 0;
    while written < leaves {
        let mut drafts = Vec::new();
        for n in written..(written + 500).min(leaves) {
            drafts.push(intent(begin.plus_millis(i64::try_from(n)?))?);
        }
        written += drafts.len();
        writer.append(Append { drafts, held: Vec::new() }).await?;
    }
    tokio::task::spawn_blocking(move || writer.close()).await?;
    Ok(())
}

fn intent(time: Timestamp) -> Result<Draft, Fail> {
    let item = |property| -> Result<Item, Fail> {
        let (device, kind) = (DeviceId::new("thermostat-1")?, Kind::of(property, Class::None));
        Ok(Item { device, property, kind, rung: Rung::Live, tick: time, policies: ["g-0123456789ab".into()].into() })
    };
    let intent = Intent {
        partner: PartnerId::new("alexa")?,
        link: LinkId::new("lnk-0123456789ab")?,
        trigger: Trigger::PartnerPoll,
        message: "Alexa.StateReport".into(),
        policy_set: Digest::of(b"policies"),
        items: vec![item(Property::LocalTemperature)?, item(Property::OccupiedHeatingSetpoint)?],
        more: 0,
    };
    let body = json!({"event": {"header": {"namespace": "Alexa", "name": "StateReport", "messageId": time.to_rfc3339()}},
        "context": {"properties": [{"namespace": "Alexa.TemperatureSensor", "name": "temperature", "value": 21.5}]}});
    Ok(Draft::intent(time, intent, Body::new(body.to_string().into_bytes()))?)
}

/// Bytes that stay on disk.
pub async fn disk(folder: &Path) -> Result<Vec<Value>, Fail> {
    let broker = Broker::start(folder)?;
    let client = mqtt::publisher(broker.port, "home");
    mqtt::publish(&client, mqtt::home(), true).await?;
    let data = folder.join("disk");
    let hub = Hub::start(&data, broker.port)?;
    hub.wait_devices(|d| d.get("devices").and_then(Value::as_array).is_some_and(|all| all.len() == mqtt::ENDPOINTS))?;
    let token = hub.cli(&["link", "alexa", "--profile", "everything", "--print-token"])?.trim().to_owned();
    let alexa = PretendAlexa::new(&format!("http://{}", hub.partners), &token);
    alexa.discover().await?;
    let before = record_bytes(&hub)?;
    let endpoints = alexa.endpoints();
    for endpoint in endpoints.iter().cycle().take(ANSWERS) {
        alexa.report_state(endpoint).await?;
    }
    let each = (record_bytes(&hub)? - before) as f64 / ANSWERS as f64;
    let (intents, facts) = (ANSWERS as f64, items(&hub)?);
    hub.stop()?;
    let mut rows = vec![
        row("disk for one StateReport with its proof and outcome", each, "bytes", None),
        row("disk for one disclosed value", each * intents / facts.max(1.0), "bytes", None),
    ];
    for profile in ["commands-only", "glance", "everything"] {
        rows.extend(home_year(folder, profile).await?);
    }
    Ok(rows)
}

/// Values disclosed in the last answers.
fn items(hub: &Hub) -> Result<f64, Fail> {
    let sql = "SELECT sum(json_array_length(leaf, '$.items')) FROM (SELECT leaf FROM ledger_leaf
        WHERE json_extract(leaf, '$.message') = 'Alexa.StateReport' ORDER BY idx DESC LIMIT ?1)";
    Ok(hub.record()?.query_row(sql, [i64::try_from(ANSWERS)?], |row| row.get(0))?)
}

/// Bytes that the record's pages hold; what still stands in the write-ahead log is counted by its pages.
fn record_bytes(hub: &Hub) -> Result<i64, Fail> {
    let record = hub.record()?;
    let pages: i64 = record.query_row("PRAGMA page_count", [], |row| row.get(0))?;
    let free: i64 = record.query_row("PRAGMA freelist_count", [], |row| row.get(0))?;
    let size: i64 = record.query_row("PRAGMA page_size", [], |row| row.get(0))?;
    Ok((pages - free) * size)
}

/// One day of a household, lived against a simulated home; times 365.
async fn home_year(folder: &Path, profile: &str) -> Result<Vec<Value>, Fail> {
    let beside = tempfile::tempdir_in(folder)?;
    let broker = Broker::start(beside.path())?;
    let clock = Arc::new(ScaledClock::new(Timestamp::from_millis(1_768_200_000_000), 1.0));
    let simulation = Simulation::new(7, clock.now().as_millis(), jiff::tz::TimeZone::UTC);
    let (stop, stopped) = tokio::sync::watch::channel(false);
    let home = tokio::spawn(devices::simulator::run(simulation, "127.0.0.1".into(), broker.port, clock, stopped));
    let data = beside.path().join("data");
    let hub = Hub::start(&data, broker.port)?;
    let mut known = 0;
    hub.wait_devices(|d| {
        let now = d.get("devices").and_then(Value::as_array).map_or(0, Vec::len);
        let quiet = now >= 6 && now == known;
        known = now;
        quiet
    })?;
    let token = hub.cli(&["link", "alexa", "--profile", profile, "--print-token"])?.trim().to_owned();
    let alexa = PretendAlexa::new(&format!("http://{}", hub.partners), &token);
    alexa.discover().await?;
    let before = record_bytes(&hub)?;
    let mut messages = 0;
    for step in Workload::parse(DAY)?.steps()? {
        messages += if step.act == Act::PollAll { alexa.endpoints().len() } else { 1 };
        alexa.perform(&step.act).await?;
    }
    let day = record_bytes(&hub)? - before;
    let bodies: i64 =
        hub.record()?.query_row("SELECT coalesce(sum(length(body) + 48), 0) FROM ledger_body", [], |row| row.get(0))?;
    let _ = stop.send(true);
    let _ = home.await;
    hub.stop()?;
    let mib = |bytes: i64| bytes as f64 * 365.0 / 1_048_576.0;
    let what = format!("record of a home-year, {profile} ({messages} messages a day)");
    Ok(vec![
        row(&what, mib(day), "MiB", None),
        row(format!("{what}, bodies erased"), mib(day - bodies), "MiB", None),
        row(format!("all files after that day, {profile}"), folder_bytes(&data)? as f64 / 1024.0, "KiB", None),
    ])
}
