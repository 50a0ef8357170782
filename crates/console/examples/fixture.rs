//! Serves the console over an invented day, to work on the page without a hub.
//!
//! `cargo run -p console --example fixture -- 8490` (port; 0 is a free one), and with `empty` as
//! second argument the page of a hub that has no links and no history yet.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use console::{Options, Source};
use serde_json::{Value, json};
use tokio::sync::broadcast;
use tokio::time::{Instant, interval};

const MINUTE: i64 = 60_000;
const HOUR: i64 = 60 * MINUTE;
/// 2026-11-24 00:00 in Amsterdam (UTC+1).
const MIDNIGHT: i64 = (1_795_478_400 - 3_600) * 1_000;
/// The clock starts at 20:40 and runs two hours in a minute.
const START: i64 = MIDNIGHT + 20 * HOUR + 40 * MINUTE;
const SPEED: i64 = 120;

/// Links in the order of the page: id, profile, its name, asked, answered, refused, facts, bytes.
const LINKS: [(&str, &str, &str, [u64; 6]); 3] = [
    ("lnk_7Q2", "commands-only", "Commands only", [24_931, 68, 24_861, 2, 11, 49_204]),
    ("lnk_M0x", "glance", "Glance", [24_930, 16_622, 8_306, 2, 57, 9_141_772]),
    ("lnk_b8T", "everything", "Everything", [24_933, 24_931, 0, 2, 1_846, 31_402_518]),
];

/// One lane of the day: property, what Glance and Commands only may see of it, and its points.
struct Lane {
    device: &'static str,
    property: &'static str,
    label: &'static str,
    unit: &'static str,
    number: bool,
    points: Vec<(i64, Value)>,
}

struct Fixture {
    started: Instant,
    lanes: Vec<Lane>,
    empty: bool,
    events: broadcast::Sender<Value>,
}

impl Fixture {
    fn new(empty: bool) -> Self {
        Self { started: Instant::now(), lanes: lanes(), empty, events: broadcast::channel(256).0 }
    }

    /// The home's time; it stops at midnight.
    fn now(&self) -> i64 {
        let lived = i64::try_from(self.started.elapsed().as_millis()).unwrap_or(0) * SPEED;
        (START + lived).min(MIDNIGHT + 24 * HOUR - 1)
    }

    fn told(&self, lane: &Lane, profile: &str, now: i64) -> Vec<Value> {
        let set = |at: i64| (lane.property == "occupied_heating_setpoint").then_some(at);
        // What directives set is echoed under every profile: 07:12, 18:05 and the light at 19:32.
        let mut told: Vec<(i64, Value, i64)> = [7 * HOUR + 12 * MINUTE, 18 * HOUR + 5 * MINUTE]
            .into_iter()
            .filter_map(set)
            .chain((lane.property == "on_off").then_some(19 * HOUR + 32 * MINUTE))
            .map(|at| (at, value_at(&lane.points, at), at))
            .collect();
        match (profile, lane.property) {
            ("everything", _) => {
                let points = lane.points.iter();
                told.extend(points.map(|(at, value)| (at + 3_000, value.clone(), *at)));
            }
            ("glance", "local_temperature" | "occupied_heating_setpoint") => {
                for tick in (0..24).map(|hour| hour * HOUR) {
                    let mut value = value_at(&lane.points, tick);
                    if lane.property == "local_temperature" {
                        value = json!(value.as_f64().unwrap_or(0.0).round());
                    }
                    told.push((tick + 2_000, value, tick));
                }
            }
            _ => {}
        }
        told.sort_by_key(|point| point.0);
        told.into_iter()
            .filter(|point| point.0 + MIDNIGHT <= now)
            .map(|(at, value, tick)| json!([at + MIDNIGHT, value, tick + MIDNIGHT]))
            .collect()
    }
}

fn value_at(points: &[(i64, Value)], at: i64) -> Value {
    let before = points.iter().rev().find(|point| point.0 <= at);
    before.map_or(Value::Null, |point| point.1.clone())
}

fn at(hour: i64, minute: i64) -> i64 {
    hour * HOUR + minute * MINUTE
}

/// A state that is `on` in each of the spans and `off` between them.
fn spans(off: &str, on: &str, times: &[(i64, i64)]) -> Vec<(i64, Value)> {
    let mut points = vec![(0, json!(off))];
    for (from, to) in times {
        points.push((*from, json!(on)));
        points.push((*to, json!(off)));
    }
    points
}

fn lanes() -> Vec<Lane> {
    let set_points = vec![
        (0, json!(16.5)),
        (at(6, 15), json!(19.5)),
        (at(7, 12), json!(20.0)),
        (at(8, 30), json!(17.0)),
        (at(16, 30), json!(20.0)),
        (at(18, 5), json!(21.0)),
        (at(22, 40), json!(16.5)),
    ];
    // A leaky room with a heater that switches at half a degree: good enough to look at.
    let (mut room, mut heating, mut temperature, mut humidity) = (17.4_f64, false, vec![], vec![]);
    for minute in (0..1_440_i64).step_by(5) {
        let target = value_at(&set_points, minute * MINUTE).as_f64().unwrap_or(20.0);
        heating = room < target + if heating { 0.3 } else { -0.3 };
        let hours = f64::from(i32::try_from(minute).unwrap_or(0)) / 60.0;
        let outside = 4.0 - 3.0 * ((hours - 3.0) / 24.0 * std::f64::consts::TAU).cos();
        room += (outside - room) / 320.0 + if heating { 0.2 } else { 0.0 };
        let noise = f64::from(u8::try_from(minute * 37 % 11).unwrap_or(0)) / 110.0;
        temperature.push((minute * MINUTE, json!(((room + noise) * 10.0).round() / 10.0)));
        let steam = if (6.75..8.2).contains(&hours) || (18.2..19.5).contains(&hours) { 9.0 } else { 0.0 };
        humidity.push((minute * MINUTE, json!((43.0 + steam - (room - 18.0) * 1.5).round())));
    }
    let away = (at(8, 26), at(16, 48));
    let mut seen = Vec::new();
    for (from, to, every) in [
        (at(6, 20), at(8, 20), 13),
        (at(16, 52), at(19, 30), 17),
        (at(19, 40), at(22, 50), 29),
        (at(2, 40), at(2, 50), 60),
    ] {
        let mut start = from;
        while start < to {
            seen.push((start, start + (3 + start / MINUTE % 7) * MINUTE));
            start += every * MINUTE;
        }
    }
    seen.sort_unstable();
    let lane = |device, property, label, unit, number, points| Lane { device, property, label, unit, number, points };
    vec![
        lane("Hallway thermostat", "local_temperature", "Temperature", "°C", true, temperature),
        lane("Hallway thermostat", "occupied_heating_setpoint", "Set point", "°C", true, set_points),
        lane("Hallway thermostat", "relative_humidity", "Humidity", "%", true, humidity),
        lane("Hallway motion", "motion", "Motion", "", false, spans("clear", "motion", &seen)),
        lane(
            "Garage door",
            "door_state",
            "Garage door",
            "",
            false,
            spans("closed", "open", &[(at(8, 21), at(8, 26)), (at(12, 34), at(12, 36)), (at(16, 46), at(16, 51))]),
        ),
        lane(
            "Front door",
            "contact",
            "Front door",
            "",
            false,
            spans(
                "closed",
                "open",
                &[(at(7, 31), at(7, 33)), (at(15, 40), at(15, 42)), (at(17, 20), at(17, 22)), (at(19, 52), at(19, 53))],
            ),
        ),
        lane(
            "Front door lock",
            "lock_state",
            "Lock",
            "",
            false,
            spans("locked", "unlocked", &[(at(7, 29), at(7, 34)), (at(15, 39), at(15, 43)), (at(16, 55), at(21, 30))]),
        ),
        lane(
            "Living room lamp",
            "on_off",
            "Light",
            "",
            false,
            spans("off", "on", &[(at(6, 40), away.0 - 4 * MINUTE), (at(16, 58), at(19, 32)), (at(20, 5), at(22, 45))]),
        ),
    ]
}

fn costs(profile: &str) -> Value {
    let lost = |what, why| json!({ "what": what, "lost": true, "why": why });
    let kept = |what, why| json!({ "what": what, "lost": false, "why": why });
    let voice = kept("Control by voice", "“Set the heating to 21” needs no state");
    let badge = lost("Works with Alexa badge", "Certification wants every property, reported unasked");
    let routines = lost("Routines started by a door or by motion", "Needs reports sent unasked");
    match profile {
        "commands-only" => json!([
            voice,
            lost("Tile shows the temperature", "No reading may leave"),
            lost("“What is the heating set to?”", "Only the echo of what Alexa itself has set"),
            lost("“Is the garage door closed?”", "Alexa will say that it can't find out"),
            routines,
            lost("Hunches", "They are made from a timeline of states"),
            badge
        ]),
        "glance" => json!([
            voice,
            kept("Tile shows the temperature", "To 1 °C, renewed each hour"),
            kept("“What is the heating set to?”", "Exact, renewed each hour or when Alexa sets it"),
            lost("“Is the garage door closed?”", "Alexa will say that it can't find out"),
            routines,
            lost("Hunches", "They are made from a timeline of states"),
            badge
        ]),
        _ => json!([
            voice,
            kept("Tile shows the temperature", "Exact"),
            kept("“Is the garage door closed?”", "Exact"),
            lost("Routines started by a door or by motion", "Alexa's event gateway is not connected yet"),
            lost("Works with Alexa badge", "Until reports are sent unasked")
        ]),
    }
}

fn demands() -> Value {
    let per_link = |given: [Value; 3]| {
        let pairs = LINKS.iter().zip(given);
        Value::Object(pairs.map(|(link, value)| (link.0.to_owned(), value)).collect())
    };
    let all =
        json!({ "given": ["all 14 properties, exact"], "refused": [], "why": ["granted by the profile Everything"] });
    json!([
        { "title": "The state of every device at all times",
          "asked": "ReportState on 6 endpoints every 3 seconds while the app is open; Discovery, every hour, with a request for reports sent unasked",
          "count": 49_820,
          "per_link": per_link([
            json!({ "given": [], "refused": ["set point", "mode", "temperature", "humidity", "motion", "garage door", "front door", "lock", "light"], "why": ["no grant for polls", "nothing is sent unasked"] }),
            json!({ "given": ["set point, each hour", "mode, each hour", "temperature to 1 °C, each hour"], "refused": ["humidity", "motion", "garage door", "front door", "lock", "light"], "why": ["no grant for these properties", "nothing is sent unasked"] }),
            all.clone()]) },
        { "title": "The room temperature",
          "asked": "ReportState on “Thermostat 1”; SetTargetTemperature to the value already set, whose response has room for the full state",
          "count": 16_604,
          "per_link": per_link([
            json!({ "given": [], "refused": ["temperature"], "why": ["no grant", "a command that changes nothing is answered with what it set, no more"] }),
            json!({ "given": ["temperature to 1 °C, 21 values today"], "refused": ["finer than 1 °C", "fresher than an hour"], "why": ["rung: 1 °C, 60-minute grid"] }),
            json!({ "given": ["temperature, exact"], "refused": [], "why": ["granted by the profile Everything"] })]) },
        { "title": "When the garage door was last opened",
          "asked": "ReportState on “Door 1”; SetMode to the position it is already in",
          "count": 8_306,
          "per_link": per_link([
            json!({ "given": [], "refused": ["garage door", "time of last change"], "why": ["no grant: doors are exact or refused"] }),
            json!({ "given": [], "refused": ["garage door", "time of last change"], "why": ["no grant: doors are exact or refused"] }),
            json!({ "given": ["garage door, exact"], "refused": [], "why": ["granted by the profile Everything"] })]) }
    ])
}

impl Source for Fixture {
    fn overview(&self) -> Value {
        let now = self.now();
        if self.empty {
            return json!({
                "home": { "name": "Home", "timezone": "Europe/Amsterdam", "now": now, "speed": 1, "demo": false },
                "links": [], "truth": [], "demands": [], "docket": [],
                "ledger": { "leaves": 1, "bytes": 412, "root": "RBNvo1WzZ4oRRq0W9+hknpT7T8If536DEMBg9hyq/4o=", "verified": true, "intents": 0, "refusals": 0 }
            });
        }
        let links: Vec<Value> = LINKS
            .iter()
            .map(|(id, profile, name, [asked, answered, refused, errors, facts, bytes])| {
                json!({
                    "id": id, "partner": "alexa", "profile": profile, "profile_name": name, "costs": costs(profile),
                    "asked": asked, "answered": answered, "refused": refused, "errors": errors,
                    "facts": facts, "messages": answered + refused + errors, "bytes": bytes
                })
            })
            .collect();
        let mut truth: Vec<Value> = self.lanes.iter().map(|lane| {
            let shown = |value: &Value| match value.as_f64() {
                Some(number) if lane.unit == "%" => format!("{number} %"),
                Some(number) => format!("{number:.1} {}", lane.unit),
                None => value.as_str().unwrap_or("").to_owned(),
            };
            let told = LINKS.iter().map(|(id, profile, ..)| {
                let last = self.told(lane, profile, now).pop();
                (String::from(*id), last.map_or(Value::Null, |point| {
                    let part = |index: usize| point.get(index).cloned().unwrap_or_default();
                    json!({ "value": shown(&part(1)), "time": part(2) })
                }))
            });
            let told = Value::Object(told.collect());
            let last = lane.points.iter().rev().find(|point| point.0 + MIDNIGHT <= now);
            json!({
                "device": lane.device.to_lowercase().replace(' ', "-"), "device_name": lane.device, "property": lane.property,
                "label": lane.label, "kind": match lane.property {
                    "motion" => "presence", "door_state" | "contact" | "lock_state" => "access", "on_off" => "light", _ => "climate" },
                "value": last.map_or(String::new(), |point| shown(&point.1)),
                "time": last.map_or(0, |point| point.0 + MIDNIGHT), "told": told
            })
        }).collect();
        let never =
            json!({ "lnk_7Q2": null, "lnk_M0x": null, "lnk_b8T": { "value": "612 ppm", "time": now - 200_000 } });
        truth.insert(
            3,
            json!({ "device": "hallway-thermostat", "device_name": "Hallway thermostat", "property": "carbon_dioxide",
            "label": "CO₂", "kind": "presence", "value": "612 ppm", "time": now - 180_000, "told": never }),
        );
        let leaves = 74_812 + (now - START) / 40_000;
        json!({
            "home": { "name": "Demo home", "timezone": "Europe/Amsterdam", "now": now, "speed": SPEED, "demo": true },
            "links": links, "truth": truth, "demands": demands(),
            "docket": [
                { "index": 412, "time": MIDNIGHT + at(9, 2), "partner": "alexa", "deadline": "2026-12-31", "observed": false, "count": 1,
                  "text": "All devices shall report the state of every capability at all times, whether or not the customer is using them through our service.\n<img src=x onerror=alert(1)> <b>Room temperature</b> and the time of the last opening of each garage door are included.",
                  "threat": "Future models may not be certified, and may be left out of seasonal promotions." },
                { "index": 3_871, "time": MIDNIGHT + at(10, 15), "partner": "alexa", "deadline": null, "threat": null, "observed": true, "count": 24_861,
                  "text": "Poll storm: ReportState every 3 seconds on 6 endpoints" },
                { "index": 9_310, "time": MIDNIGHT + at(12, 36), "partner": "alexa", "deadline": null, "threat": null, "observed": true, "count": 8_306,
                  "text": "Reads of a withheld property: garage door" }
            ],
            "ledger": { "leaves": leaves, "bytes": 21_430_118, "root": "n4bQgYhMfWWaL+qgxVrQFaO/TxsrC4Is0V1sFbDwCgg=",
                        "verified": true, "intents": 41_623, "refusals": 33_167 }
        })
    }

    fn day(&self, link: &str) -> Option<Value> {
        let profile = LINKS.iter().find(|known| known.0 == link && !self.empty)?.1;
        let now = self.now();
        let lanes: Vec<Value> = self
            .lanes
            .iter()
            .map(|lane| {
                let points = lane.points.iter().filter(|point| point.0 + MIDNIGHT <= now);
                let lived: Vec<Value> = points.map(|(at, value)| json!([at + MIDNIGHT, value])).collect();
                json!({
                    "device": lane.device, "property": lane.property, "label": lane.label, "unit": lane.unit,
                    "type": if lane.number { "number" } else { "state" },
                    "lived": lived, "told": self.told(lane, profile, now)
                })
            })
            .collect();
        Some(json!({ "from": MIDNIGHT, "to": MIDNIGHT + 24 * HOUR, "now": now, "lanes": lanes }))
    }

    fn events(&self) -> broadcast::Receiver<Value> {
        self.events.subscribe()
    }

    fn healthy(&self) -> Result<(), Vec<String>> {
        Ok(())
    }

    fn metrics(&self) -> String {
        "# TYPE vestibule_ledger_leaves gauge\nvestibule_ledger_leaves 74812\n".into()
    }
}

/// What three pretend Alexas ask, over and over.
async fn ask(fixture: Arc<Fixture>) {
    let asks = [
        (
            "Alexa.ReportState",
            "Thermostat 1",
            &["local_temperature", "occupied_heating_setpoint"][..],
            &["relative_humidity"][..],
        ),
        ("Alexa.ReportState", "Door 1", &[], &["door_state"]),
        ("Alexa.ReportState", "Lock 1", &[], &["lock_state"]),
        ("Alexa.Discovery.Discover", "", &["names", "types"], &[]),
        ("Alexa.ReportState", "Sensor 1", &[], &["motion"]),
        (
            "Alexa.ThermostatController.SetTargetTemperature",
            "Thermostat 1",
            &["occupied_heating_setpoint"],
            &["local_temperature"],
        ),
    ];
    let mut every = interval(Duration::from_millis(120));
    for n in 0_usize.. {
        every.tick().await;
        let (Some((id, profile, ..)), Some((message, endpoint, grants, withheld))) =
            (LINKS.get(n % 3), asks.get(n / 3 % asks.len()))
        else {
            continue;
        };
        let poll = *message == "Alexa.ReportState";
        let (given, refused) = match *profile {
            "everything" => ([*grants, *withheld].concat(), vec![]),
            "commands-only" if poll => (vec![], [*grants, *withheld].concat()),
            _ => (grants.to_vec(), withheld.to_vec()),
        };
        let event = json!({
            "type": "asked", "time": fixture.now(), "link": id, "partner": "alexa", "message": message, "endpoint": endpoint,
            "outcome": if n % 97 == 96 { "error" } else if given.is_empty() { "refused" } else { "answered" },
            "why": if refused.is_empty() { "" } else { "no grant" }, "given": given, "refused": refused, "count": 1 + n % 4
        });
        // No reader is no fault.
        let _ = fixture.events.send(event);
        if n % 8 == 0 {
            let now = fixture.now();
            let _ =
                fixture.events.send(json!({ "type": "tick", "now": now, "leaves": 74_812 + (now - START) / 40_000 }));
        }
    }
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut arguments = std::env::args().skip(1);
    let port: u16 = arguments.next().unwrap_or_default().parse().unwrap_or(0);
    let fixture = Arc::new(Fixture::new(arguments.next().as_deref() == Some("empty")));
    let listener = tokio::net::TcpListener::bind(SocketAddr::from(([127, 0, 0, 1], port))).await?;
    eprintln!("http://{}/", listener.local_addr()?);
    if !fixture.empty {
        tokio::spawn(ask(Arc::clone(&fixture)));
    }
    axum::serve(listener, console::router(fixture, Options::default())).await?;
    Ok(())
}
