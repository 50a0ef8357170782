//! The demonstration: a simulated home that lives, three links with three profiles to a pretend Alexa that asks for
//! everything, and the page that shows what it got. Everything speaks the real protocols over real sockets; only time
//! runs faster.

#![expect(clippy::indexing_slicing, reason = "a key that JSON has not is null, no panic")]

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use devices::simulator::Simulation;
use jiff::civil;
use jiff::tz::TimeZone;
use model::{DeviceId, LinkId, PartnerId, Timestamp};
use serde_json::{Value, json};
use store::Store;
use store::ledger::{Filter, LedgerReader};
use testkit::{PretendAlexa, ScaledClock, Workload};
use tokio::sync::watch;

use crate::cli::{DemoArgs, Failure};
use crate::commands::Request;
use crate::config::{Config, Mqtt};
use crate::core::Core;
use crate::hub::{self, Up};

/// The day that the pretend household lives.
const DAY: &str = include_str!("../../workloads/household-day.toml");

/// Seed of the simulated home and its residents.
const SEED: u64 = 7;

/// Where the simulated home stands: its weather is Greensboro's, North Carolina.
const ZONE: &str = "America/New_York";

/// How long to wait for the home's devices to announce themselves.
const DISCOVERY_PATIENCE: Duration = Duration::from_secs(20);

/// The devices have all announced themselves when none came for this long.
const DISCOVERY_QUIET: Duration = Duration::from_millis(400);

/// Alexa's app reads every device each 3 seconds while it is open. In scaled time that would be a storm; the pretend
/// one pauses this long on the wall between two rounds.
const POLL_PAUSE: Duration = Duration::from_millis(900);

/// The profiles, one link each.
const PROFILES: [&str; 3] = ["commands-only", "glance", "everything"];

/// What the pretend partner writes to the household.
const LETTER: &str = "To keep your certification you must report the state of every device at all times, \
    also when our assistant is not in use: the room temperature, and when the garage door was last opened.";

/// What it says would follow.
const THREAT: &str = "Loss of the certification badge, and no place in the next sales event.";

/// Runs the demonstration.
///
/// # Errors
/// When a port is taken, the recording can't be read, or the record does not verify at the end.
pub async fn run(args: DemoArgs) -> Result<(), Failure> {
    let mut signals = hub::Signals::listen()?;
    let temporary = match &args.data {
        Some(_) => None,
        None => Some(tempfile::Builder::new().prefix("vestibule-demo-").tempdir().map_err(|e| e.to_string())?),
    };
    let data: PathBuf =
        args.data.clone().or_else(|| temporary.as_ref().map(|t| t.path().to_owned())).unwrap_or_default();
    let zone = TimeZone::get(ZONE).map_err(|e| e.to_string())?;
    let start = start_of_story(&zone)?.max(end_of_record(&data));
    let clock = Arc::new(ScaledClock::new(start, args.speed));
    let config = Config {
        home_name: "A home in Greensboro".into(),
        timezone: zone.clone(),
        mqtt: args.broker.clone().map_or(Mqtt::Embedded(args.mqtt), Mqtt::External),
        retention_days: args.retention_days,
        console_listen: args.console,
        partners_listen: args.partners,
        ..Config::default()
    };
    let core = Core::open(&data, config, clock.clone()).await?;
    let up = hub::start(&core, clock.speed(), true).await?;
    eprintln!(
        "vestibule: data in {}{}",
        data.display(),
        if temporary.is_some() { " (removed at the end)" } else { "" }
    );

    let (stop, stopped) = watch::channel(false);
    let home = start_home(&args, &up, &core, clock.clone(), zone.clone(), stopped.clone())?;
    wait_for_devices(&core).await?;
    let tokens = link_all(&core).await?;
    let mut partners = Vec::new();
    for token in tokens {
        let alexa = Arc::new(PretendAlexa::new(&format!("http://{}", up.partners), &token));
        partners.push(tokio::spawn(live(alexa, core.clock(), zone.clone(), stopped.clone())));
    }
    up.say_ready();
    eprintln!("vestibule: open http://{}/ to watch; Ctrl-C ends it", up.console);

    match args.run_for {
        Some(time) => tokio::select! {
            () = tokio::time::sleep(time) => {}
            () = signals.asked() => {}
        },
        None => signals.asked().await,
    }
    // First the partners, so that each answer is counted; then the home; then the hub.
    let _ = stop.send(true);
    for partner in partners {
        let _ = partner.await;
    }
    let _ = home.await;
    up.stop().await;
    core.flush_refusals().await;
    let report = core.verify().await?;
    let counts = core.tally.all();
    let summary = json!({
        "asked": counts.asked, "answered": counts.answered, "refused": counts.refused, "errors": counts.errors,
        "properties_withheld": counts.properties_withheld, "messages_out": counts.messages_out,
        "bytes_out": counts.bytes_out, "leaves": report.size, "verified": report.ok(),
        "home_hours": (core.now().as_millis() - start.as_millis()) as f64 / 3_600_000.0,
    });
    core.close().await;
    if args.json {
        println!("{summary}");
    } else {
        println!("{}", in_words(&summary));
    }
    if report.ok() { Ok(()) } else { Err(Failure::Failed("the record does not verify".into())) }
}

/// When the last leaf was written, in a data directory that was used before: its home lives on from there.
fn end_of_record(data: &Path) -> Timestamp {
    let last = || {
        let store = Store::open_existing(&format!("sqlite:{}", data.join("vestibule.db").display())).ok()?;
        let reader = LedgerReader::open(&store, None).ok()?;
        let row = reader.list(reader.size().ok()?.checked_sub(1)?, 1, &Filter::default()).ok()?.pop()?;
        row.time.parse::<jiff::Timestamp>().ok()
    };
    last().map_or_else(Timestamp::default, |time| Timestamp::from_millis(time.as_millisecond() + 1))
}

/// A winter Monday, shortly before the household wakes.
fn start_of_story(zone: &TimeZone) -> Result<Timestamp, String> {
    let morning = civil::date(2026, 1, 12).at(5, 30, 0, 0);
    let zoned = zone.to_ambiguous_zoned_datetime(morning).compatible().map_err(|e| e.to_string())?;
    Ok(Timestamp::from_millis(zoned.timestamp().as_millisecond()))
}

fn start_home(
    args: &DemoArgs,
    up: &Up,
    core: &Arc<Core>,
    clock: Arc<ScaledClock>,
    zone: TimeZone,
    stopped: watch::Receiver<bool>,
) -> Result<tokio::task::JoinHandle<()>, String> {
    let (host, port) = match (&args.broker, up.broker) {
        (Some(url), _) => host_and_port(url)?,
        (None, Some(own)) => (own.ip().to_string(), own.port()),
        (None, None) => return Err("the demonstration needs a broker".into()),
    };
    if let Some(file) = &args.replay {
        let options = devices::replay::Options {
            file: file.clone(),
            mqtt_url: format!("mqtt://{host}:{port}"),
            speed: args.speed,
            stay_online: true,
        };
        let mut stopped = stopped;
        return Ok(tokio::spawn(async move {
            let replayed = devices::replay::run(options, |_| {});
            tokio::select! {
                done = replayed => if let Err(error) = done {
                    tracing::error!(%error, "the recording could not be replayed");
                },
                _ = stopped.wait_for(|s| *s) => {}
            }
        }));
    }
    let simulation = Simulation::new(SEED, core.now().as_millis(), zone);
    Ok(tokio::spawn(async move {
        if let Err(error) = devices::simulator::run(simulation, host, port, clock, stopped).await {
            tracing::error!(%error, "the simulated home stopped");
        }
    }))
}

/// Where a broker is that asks for no password, as in `mqtt://127.0.0.1:1883`.
fn host_and_port(url: &str) -> Result<(String, u16), String> {
    let parse = || {
        let (host, port) = url.strip_prefix("mqtt://")?.trim_end_matches('/').rsplit_once(':')?;
        (!host.is_empty() && !host.contains('@')).then_some((host.to_owned(), port.parse().ok()?))
    };
    parse().ok_or_else(|| format!("`{url}` is no broker that the demonstration can use: write mqtt://HOST:PORT"))
}

/// Waits until devices have come and no more come.
async fn wait_for_devices(core: &Core) -> Result<(), String> {
    let count = || core.state().registry.iter().map(|(_, d)| d.description.properties.len()).sum::<usize>();
    let mut known = 0;
    let patience = tokio::time::sleep(DISCOVERY_PATIENCE);
    let mut patience = std::pin::pin!(patience);
    loop {
        tokio::select! {
            () = tokio::time::sleep(DISCOVERY_QUIET) => {}
            () = &mut patience => return if known > 0 { Ok(()) } else { Err("no device announced itself".into()) },
        }
        let now = count();
        if now > 0 && now == known {
            return Ok(());
        }
        known = now;
    }
}

/// Makes the three links, names the devices as a household would, and posts the letter. Gives the tokens.
async fn link_all(core: &Core) -> Result<Vec<String>, String> {
    let names: Vec<(DeviceId, String)> =
        core.state().registry.iter().map(|(id, d)| (id.clone(), d.description.name.clone())).collect();
    for (device, name) in names {
        core.carry_out(Request::Name { device, name: Some(name), link: None }).await?;
    }
    // A data directory that was used before has its links, whose tokens are not known any more.
    let old: Vec<LinkId> = core.state().links.iter().map(|l| l.id.clone()).collect();
    for link in old {
        core.carry_out(Request::Unlink { link }).await?;
    }
    let partner = PartnerId::new("alexa").map_err(|e| e.to_string())?;
    let mut tokens = Vec::new();
    for profile in PROFILES {
        let request = Request::Link { partner: partner.clone(), profile: profile.into(), sensors: Vec::new() };
        let done = core.carry_out(request).await?;
        tokens.push(done["token"].as_str().unwrap_or_default().to_owned());
    }
    core.carry_out(Request::DocketAdd {
        partner,
        text: LETTER.into(),
        deadline: Some("2026-03-31".into()),
        threat: Some(THREAT.into()),
    })
    .await?;
    Ok(tokens)
}

/// One customer's Alexa: it discovers, offers to take reports, obeys its people at their times of day, and polls all the
/// time, as if the app never closed; now and then it tries commands that change nothing, to see what the answers tell.
async fn live(
    alexa: Arc<PretendAlexa>,
    clock: Arc<dyn model::Clock>,
    zone: TimeZone,
    mut stopped: watch::Receiver<bool>,
) {
    let Ok(steps) = Workload::parse(DAY).and_then(|w| w.steps()) else { return };
    // A partner that can't reach the hub tries again; there is nobody to tell.
    let _ = alexa.discover().await;
    let _ = alexa.send("Alexa.Authorization", "AcceptGrant", "", json!({})).await;
    let mut last = clock.now();
    let mut round = 0u64;
    while !*stopped.borrow() {
        let now = clock.now();
        for step in &steps {
            let wish = !matches!(step.act, testkit::Act::PollAll);
            if wish && falls_between(step.at_ms, last, now, &zone) {
                let _ = alexa.perform(&step.act).await;
            }
        }
        last = now;
        let _ = alexa.perform(&testkit::Act::PollAll).await;
        round += 1;
        if round.is_multiple_of(20) {
            let _ = alexa.discover().await;
            if let Some(endpoint) = alexa.endpoint_with("Alexa.ThermostatController", None) {
                let payload = json!({"targetSetpointDelta": {"value": 0.0, "scale": "CELSIUS"}});
                let _ = alexa.send("Alexa.ThermostatController", "AdjustTargetTemperature", &endpoint, payload).await;
            }
        }
        tokio::select! {
            () = tokio::time::sleep(POLL_PAUSE) => {}
            _ = stopped.wait_for(|s| *s) => {}
        }
    }
}

/// Whether a time of day lies after `last` and not after `now`.
fn falls_between(at_ms: i64, last: Timestamp, now: Timestamp, zone: &TimeZone) -> bool {
    let Ok(time) = jiff::Timestamp::from_millisecond(now.as_millis()) else { return false };
    let Ok(midnight) = time.to_zoned_datetime(zone.clone()).start_of_day() else { return false };
    let today = midnight.timestamp().as_millisecond().saturating_add(at_ms);
    [today, today - 86_400_000].iter().any(|t| *t > last.as_millis() && *t <= now.as_millis())
}

fn in_words(summary: &Value) -> String {
    format!(
        "In {:.1} hours of home time Alexa asked {} times: {} answered, {} refused by policy, {} wrong.\n\
         {} properties were withheld; {} messages left with {} bytes; the record has {} leaves and {}.",
        summary["home_hours"].as_f64().unwrap_or_default(),
        summary["asked"],
        summary["answered"],
        summary["refused"],
        summary["errors"],
        summary["properties_withheld"],
        summary["messages_out"],
        summary["bytes_out"],
        summary["leaves"],
        if summary["verified"] == true { "verifies" } else { "does NOT verify" },
    )
}
