//! What the console shows, gathered from the hub: the day as lived and as told, and what became of each demand.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use comfort::Caller;
use console::Source as _;
use disclosure::Refusal;
use egress::{Asked, Outcome, Told};
use model::{DeviceId, LinkId, Property, TemperatureScale, Timestamp, Trigger, Value};
use serde_json::{Value as Json, json};
use tokio::sync::broadcast;

use crate::core::Core;
use crate::thermostat::unit::{Order, Unit};

/// Points kept of what one link was told of one property: a day of polls each half minute.
const TOLD_POINTS_MAX: usize = 3000;

/// Cells (link, device, property) of which points are kept.
const TOLD_CELLS_MAX: usize = 5000;

/// Points kept in all, some 20 MiB: at the limit each property gives its oldest away for its newest.
const TOLD_POINTS_ALL_MAX: usize = 200_000;

/// Lanes of a strip.
const LANES_MAX: usize = 40;

/// Points of one lane: more can't be seen on any screen.
const LANE_POINTS_MAX: usize = 4000;

/// Events that wait for a slow page.
const EVENTS_MAX: usize = 256;

/// An hour.
const HOUR_MS: i64 = 3_600_000;

/// A day.
const DAY_MS: i64 = 24 * HOUR_MS;

/// The shortest time that the strips show.
const WINDOW_MIN_MS: i64 = 12 * HOUR_MS;

type Cell = (LinkId, DeviceId, Property);

#[derive(Default)]
struct Seen {
    told: BTreeMap<Cell, VecDeque<(Timestamp, Value, Timestamp)>>,
    /// Points of all cells.
    points: usize,
    /// What a link was told beside its own echoes: how many distinct facts, per property.
    facts: BTreeMap<(LinkId, Property), u64>,
    refused: BTreeMap<(LinkId, Property), BTreeMap<(Trigger, Refusal), u64>>,
    /// Reads of any device.
    polls: BTreeMap<LinkId, u64>,
    /// Messages whose answer had room for a property: reads, and answers to orders.
    asked: BTreeMap<(LinkId, Property), u64>,
}

/// The console's source.
pub struct Page {
    core: Arc<Core>,
    seen: Mutex<Seen>,
    events: broadcast::Sender<Json>,
    speed: f64,
    demo: bool,
}

impl Page {
    /// A page on this hub; `speed` is how fast its clock runs. Must be called within a runtime.
    pub fn new(core: Arc<Core>, speed: f64, demo: bool) -> Arc<Self> {
        let page =
            Arc::new(Self { core, seen: Mutex::default(), events: broadcast::Sender::new(EVENTS_MAX), speed, demo });
        let watcher = Arc::clone(&page);
        tokio::spawn(async move {
            let mut asked = watcher.core.tally.watch();
            loop {
                match asked.recv().await {
                    Ok(asked) => watcher.note(&asked),
                    Err(broadcast::error::RecvError::Lagged(_)) => {}
                    Err(broadcast::error::RecvError::Closed) => return,
                }
            }
        });
        page
    }

    /// Tells open pages that the hub stops, so that their connections end.
    pub fn close(&self) {
        let _ = self.events.send(json!({"type": "closing"}));
    }

    fn note(&self, asked: &Asked) {
        let is_new = !self.lock().polls.contains_key(&asked.link);
        // Each new link makes room of the old ones.
        let links: Option<BTreeSet<LinkId>> =
            is_new.then(|| self.core.state().links.iter().map(|l| l.id.clone()).collect());
        let mut seen = self.lock();
        if let Some(links) = links {
            seen.keep(&links);
        }
        *seen.polls.entry(asked.link.clone()).or_default() += u64::from(asked.message == "Alexa.ReportState");
        let told = asked.told.iter().filter(|t| !t.echo).map(|t| t.property);
        let refused = asked.refused.iter().filter(|r| r.2 != Trigger::Discovery).map(|r| r.1);
        for property in told.chain(refused).collect::<BTreeSet<_>>() {
            *seen.asked.entry((asked.link.clone(), property)).or_default() += 1;
        }
        for t in &asked.told {
            seen.tell(asked, t);
        }
        for (_, property, trigger, refusal) in &asked.refused {
            let sums = seen.refused.entry((asked.link.clone(), *property)).or_default();
            *sums.entry((*trigger, *refusal)).or_default() += 1;
        }
        drop(seen);
        let names = |list: Vec<Property>| {
            let mut list: Vec<&str> = list.into_iter().map(Property::as_str).collect();
            list.sort_unstable();
            list.dedup();
            list
        };
        let endpoint = asked
            .told
            .iter()
            .map(|t| &t.device)
            .chain(asked.refused.iter().map(|r| &r.0))
            .next()
            .map(|d| self.device_name(d))
            .filter(|_| !asked.message.starts_with("Alexa.Discovery"));
        let why = asked.refused.first().map(|r| reason(r.3));
        let event = json!({
            "type": "asked", "time": asked.time.as_millis(), "link": asked.link, "partner": asked.partner,
            "message": asked.message, "endpoint": endpoint,
            "outcome": match asked.outcome {
                Outcome::Answered => "answered", Outcome::Refused => "refused", Outcome::Error => "error",
            },
            "given": names(asked.told.iter().filter(|t| !t.echo).map(|t| t.property).collect()),
            "refused": names(asked.refused.iter().map(|r| r.1).collect()),
            "why": why, "count": 1,
        });
        // No page is open: nobody misses it.
        let _ = self.events.send(event);
    }

    fn device_name(&self, device: &DeviceId) -> String {
        let state = self.core.state();
        let known = state.registry.get(device);
        known.map_or_else(
            || device.to_string(),
            |k| k.household_name.clone().unwrap_or_else(|| k.description.name.clone()),
        )
    }

    /// What each thermostat does, why, and what is wrong.
    fn thermostats_in_short(&self) -> Json {
        let short = |one: &Json| {
            let alerts = one["alerts"].as_array().into_iter().flatten().map(|a| &a["text"]);
            json!({
                "name": one["name"], "why": one["why"], "temperature": one["temperature"], "unit": one["unit"],
                "mode": one["mode"], "heat_set_point": one["heat_set_point"], "cool_set_point": one["cool_set_point"],
                "alerts": alerts.collect::<Vec<_>>(),
            })
        };
        Json::Array(self.thermostats().as_array().into_iter().flatten().map(short).collect())
    }

    fn lock(&self) -> MutexGuard<'_, Seen> {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The devices' properties, in the order in which people care.
    fn cells(&self) -> Vec<(DeviceId, Property, String)> {
        let state = self.core.state();
        let mut cells = Vec::new();
        for (id, known) in state.registry.iter().filter(|(_, known)| known.present) {
            let name = known.household_name.clone().unwrap_or_else(|| known.description.name.clone());
            for property in known.description.properties.keys() {
                cells.push((id.clone(), *property, name.clone()));
            }
        }
        cells
    }

    fn links(&self) -> Vec<Json> {
        let links: Vec<_> = {
            let state = self.core.state();
            state.links.iter().map(|l| (l.id.clone(), l.partner.clone(), l.profile.clone(), l.created)).collect()
        };
        let mut links = links;
        links.sort_by_key(|l| l.3);
        links
            .into_iter()
            .map(|(id, partner, slug, _)| {
                let counts = self.core.tally.link(&id);
                let profile = policy::profile(&slug);
                let costs: Vec<Json> = profile
                    .map(|p| p.costs.iter().map(|c| json!({"what": c.what, "lost": c.lost, "why": c.why})).collect())
                    .unwrap_or_default();
                let (_, notice) = self.core.link_end(&id, self.core.now());
                json!({
                    "id": id, "partner": partner, "profile": slug, "notice": notice,
                    "profile_name": profile.map_or(slug.as_str(), |p| p.title.as_str()), "costs": costs,
                    "asked": counts.asked, "withheld": counts.properties_withheld,
                    "errors": counts.errors, "facts": counts.facts, "messages": counts.messages_out,
                    "bytes": counts.bytes_out,
                })
            })
            .collect()
    }

    fn truth(&self, links: &[LinkId]) -> Vec<Json> {
        let cells = self.cells();
        let seen = self.lock();
        let state = self.core.state();
        cells
            .into_iter()
            .map(|(device, property, name)| {
                let told: serde_json::Map<String, Json> = links
                    .iter()
                    .map(|link| {
                        let last = seen.told.get(&(link.clone(), device.clone(), property)).and_then(VecDeque::back);
                        let json = last.map_or(
                            Json::Null,
                            |(_, v, tick)| json!({"value": words(property, v), "time": tick.as_millis()}),
                        );
                        (link.to_string(), json)
                    })
                    .collect();
                let sample = state.home.reported(&device, property);
                let kind = state.registry.get(&device).map(|k| k.kind(property).as_str());
                json!({
                    "device": device, "device_name": name, "property": property, "label": property.label(),
                    "kind": kind, "value": sample.map(|s| words(property, &s.value)),
                    "time": sample.map(|s| s.time.as_millis()), "told": told,
                })
            })
            .collect()
    }

    fn demands(&self, links: &[LinkId]) -> Vec<Json> {
        let seen = self.lock();
        DEMANDS
            .iter()
            .map(|demand| {
                let mut count = 0;
                let per_link: serde_json::Map<String, Json> = links
                    .iter()
                    .map(|link| {
                        let (json, asked) = seen.demand(demand, link);
                        count += asked;
                        (link.to_string(), json)
                    })
                    .collect();
                json!({"title": demand.title, "asked": demand.asked, "count": count, "per_link": per_link})
            })
            .collect()
    }
}

/// One of the demands that Amazon made of Ecobee in 2020, as this protocol can carry it.
struct Demand {
    title: &'static str,
    asked: &'static str,
    /// The properties that would answer it; none for all.
    properties: &'static [Property],
}

const DEMANDS: [Demand; 3] = [
    Demand {
        title: "The state of every device at all times",
        asked: "by reading every device again and again, and by offering to take reports unasked (AcceptGrant)",
        properties: &[],
    },
    Demand {
        title: "The room temperature",
        asked: "by ReportState of the thermostat and the sensors, and in the answers to its own commands",
        properties: &[Property::LocalTemperature],
    },
    Demand {
        title: "When the garage door was last opened",
        asked: "by reading the door often enough to see it change, with the time of each sample",
        properties: &[Property::DoorState],
    },
];

impl Seen {
    /// Drops what links that have ended were told.
    fn keep(&mut self, links: &BTreeSet<LinkId>) {
        self.told.retain(|(link, _, _), _| links.contains(link));
        self.points = self.told.values().map(VecDeque::len).sum();
        self.facts.retain(|(link, _), _| links.contains(link));
        self.refused.retain(|(link, _), _| links.contains(link));
        self.polls.retain(|link, _| links.contains(link));
        self.asked.retain(|(link, _), _| links.contains(link));
    }

    fn tell(&mut self, asked: &Asked, told: &Told) {
        let cell = (asked.link.clone(), told.device.clone(), told.property);
        if !self.told.contains_key(&cell) && self.told.len() >= TOLD_CELLS_MAX {
            return;
        }
        let points = self.told.entry(cell).or_default();
        let fresh = points.back().is_none_or(|(_, value, tick)| *value != told.value || *tick != told.time);
        if fresh {
            if !told.echo {
                *self.facts.entry((asked.link.clone(), told.property)).or_default() += 1;
            }
            points.push_back((asked.time, told.value.clone(), told.time));
            self.points += 1;
            if (points.len() > TOLD_POINTS_MAX || self.points > TOLD_POINTS_ALL_MAX) && points.pop_front().is_some() {
                self.points -= 1;
            }
        }
    }

    fn demand(&self, demand: &Demand, link: &LinkId) -> (Json, u64) {
        let wanted = |p: Property| {
            !p.is_metadata()
                && p != Property::Reachable
                && (demand.properties.is_empty() || demand.properties.contains(&p))
        };
        let mut given = Vec::new();
        for ((_, property), facts) in self.facts.iter().filter(|((l, p), _)| l == link && wanted(*p)) {
            let last = self.told.iter().rev().find(|((l, _, p), _)| l == link && p == property);
            let last = last.and_then(|(_, points)| points.back());
            let last = last.map(|(_, value, _)| format!(", last {}", words(*property, value))).unwrap_or_default();
            let times = if *facts == 1 { "once".to_owned() } else { format!("{facts} different samples") };
            given.push(format!("{}: {times}{last}", property.label()));
        }
        let mut refused = Vec::new();
        let mut why = Vec::new();
        for ((_, property), sums) in self.refused.iter().filter(|((l, p), _)| l == link && wanted(*p)) {
            let total: u64 = sums.values().sum();
            // What is told in one way and refused in another says in which.
            let told = self.facts.contains_key(&(link.clone(), *property));
            let only_commands = sums.keys().all(|(trigger, _)| *trigger == Trigger::DirectiveResponse);
            let way = if told && only_commands { " in answers to its own orders" } else { "" };
            refused.push(format!("{}{way}: refused {total} times", property.label()));
            for (_, refusal) in sums.keys() {
                let text = reason(*refusal);
                if !why.contains(&text) {
                    why.push(text);
                }
            }
        }
        let asked = if demand.properties.is_empty() {
            refused.push("reports unasked: none is sent, and discovery says so (proactivelyReported: false)".into());
            self.polls.get(link).copied().unwrap_or(0)
        } else {
            let of = |p: &Property| self.asked.get(&(link.clone(), *p)).copied().unwrap_or(0);
            demand.properties.iter().map(of).sum()
        };
        (json!({"given": given, "refused": refused, "why": why}), asked)
    }
}

fn reason(refusal: Refusal) -> &'static str {
    match refusal {
        Refusal::NoGrant => "no grant of the household on this link covers it",
        Refusal::Ceiling => "a rule above all grants forbids it",
        Refusal::PolicyError => "the policies could not be evaluated, and any error is a refusal",
        Refusal::NoSuchEndpoint => "there is no such device on this link",
        Refusal::NoValue => "the device has told no value yet",
        Refusal::NotSupported => "the device takes no such command",
        Refusal::PinNeeded => "it counts only with the link's PIN, and none came with it",
        Refusal::PinWrong => "the PIN was wrong",
        Refusal::PinLocked => "too many PINs were wrong: none is taken for a while",
    }
}

/// A value in the words of a person.
fn words(property: Property, value: &Value) -> String {
    match (property, value) {
        (_, Value::Bool(on)) => state_word(property, *on).to_owned(),
        (_, other) => other.to_string(),
    }
}

fn state_word(property: Property, on: bool) -> &'static str {
    let (yes, no) = match property {
        Property::Motion => ("motion", "clear"),
        Property::Occupancy => ("occupied", "empty"),
        Property::ContactOpen => ("open", "closed"),
        Property::OnOff => ("on", "off"),
        Property::Reachable => ("reachable", "unreachable"),
        Property::SmokeState | Property::CoState | Property::LeakState => ("alarm", "clear"),
        _ => ("yes", "no"),
    };
    if on { yes } else { no }
}

/// A value as a lane draws it: a number, or a word.
fn drawn(property: Property, value: &Value) -> Json {
    match value {
        Value::Temperature(_) => json!(value.as_temperature(TemperatureScale::Celsius)),
        Value::Percent(hundredths) => json!(f64::from(*hundredths) / 100.0),
        Value::Ppm(ppm) => json!(ppm),
        Value::Power(milliwatts) => json!(*milliwatts as f64 / 1000.0),
        Value::Energy(watt_hours) => json!(*watt_hours as f64 / 1000.0),
        other => json!(words(property, other)),
    }
}

fn unit(property: Property) -> Option<&'static str> {
    match property {
        Property::LocalTemperature
        | Property::OutdoorTemperature
        | Property::OccupiedHeatingSetpoint
        | Property::OccupiedCoolingSetpoint
        | Property::OccupiedSetpoint => Some("°C"),
        Property::RelativeHumidity
        | Property::CurrentLevel
        | Property::FanPercent
        | Property::CoverPosition
        | Property::CoverTilt
        | Property::BatteryPercent => Some("%"),
        Property::Co2Concentration | Property::VocConcentration => Some("ppm"),
        Property::ActivePower => Some("W"),
        Property::CumulativeEnergy => Some("kWh"),
        _ => None,
    }
}

/// What a lane is called: the device and, where its name doesn't say it, what is measured.
fn lane_label(device: &str, property: Property) -> String {
    let what = match property {
        Property::LocalTemperature => "temperature",
        Property::OutdoorTemperature => "outdoors",
        Property::OccupiedHeatingSetpoint => "set point",
        Property::OccupiedCoolingSetpoint => "cooling set point",
        Property::SystemMode => "mode",
        Property::RunningState => "running",
        Property::RelativeHumidity => "humidity",
        Property::DoorState => "door",
        Property::ContactOpen => "contact",
        Property::LockState => "lock",
        Property::OnOff => "on",
        Property::Motion => "motion",
        Property::BatteryPercent => "battery",
        Property::ActivePower => "power",
        Property::CumulativeEnergy => "energy",
        other => other.label(),
    };
    if device.to_lowercase().contains(what) { device.to_owned() } else { format!("{device} {what}") }
}

/// Which lanes stand first.
fn rank(property: Property) -> u8 {
    match property {
        Property::LocalTemperature => 0,
        Property::OccupiedHeatingSetpoint => 1,
        Property::OccupiedCoolingSetpoint => 2,
        Property::Motion | Property::Occupancy => 3,
        Property::DoorState => 4,
        Property::ContactOpen => 5,
        Property::LockState => 6,
        Property::OnOff => 7,
        Property::RelativeHumidity => 8,
        Property::Co2Concentration => 9,
        Property::SystemMode => 10,
        Property::RunningState => 11,
        _ => 12,
    }
}

impl console::Source for Page {
    fn overview(&self) -> Json {
        let links = self.links();
        let ids: Vec<LinkId> =
            links.iter().filter_map(|l| l["id"].as_str()).filter_map(|id| LinkId::new(id).ok()).collect();
        let config = self.core.config();
        json!({
            "home": {
                "name": config.home_name, "timezone": self.core.zone_name(),
                "now": self.core.now().as_millis(), "speed": self.speed, "demo": self.demo,
            },
            "links": links,
            "truth": self.truth(&ids),
            "demands": self.demands(&ids),
            "thermostats": self.thermostats_in_short(),
            "docket": self.core.docket_rows(),
            "notices": self.core.notice_rows(),
            "waiting": self.core.waiting_rows(),
            "ledger": self.core.ledger_summary(),
        })
    }

    fn day(&self, link: &str) -> Option<Json> {
        let link = LinkId::new(link).ok()?;
        self.core.state().links.get(&link)?;
        let now = self.core.now();
        let whole_hour = |t: i64, up: i64| (t + up).div_euclid(HOUR_MS) * HOUR_MS;
        let to = whole_hour(now.as_millis(), HOUR_MS - 1);
        let from = Timestamp::from_millis(to - DAY_MS);
        let mut first = now;
        let mut cells = self.cells();
        cells.sort_by_key(|(device, property, _)| (rank(*property), device.clone()));
        let lanes: Vec<Json> = cells
            .into_iter()
            .take(LANES_MAX)
            .map(|(device, property, name)| {
                let lived = self.core.history.read(&device, property, from, now).unwrap_or_default();
                if let Some(sample) = lived.first() {
                    first = first.min(sample.time);
                }
                let every = lived.len().div_ceil(LANE_POINTS_MAX).max(1);
                let lived: Vec<Json> = lived
                    .iter()
                    .step_by(every)
                    .map(|s| json!([s.time.max(from).as_millis(), drawn(property, &s.value)]))
                    .collect();
                let seen = self.lock();
                let told: Vec<Json> = seen
                    .told
                    .get(&(link.clone(), device.clone(), property))
                    .map(|points| {
                        points
                            .iter()
                            .filter(|(at, _, _)| *at >= from)
                            .map(|(at, v, tick)| json!([at.as_millis(), drawn(property, v), tick.as_millis()]))
                            .collect()
                    })
                    .unwrap_or_default();
                let unit = unit(property);
                json!({
                    "device": device, "property": property, "label": lane_label(&name, property),
                    "unit": unit, "type": if unit.is_some() { "number" } else { "state" },
                    "lived": lived, "told": told,
                })
            })
            .collect();
        // A home that is known for less than a day is not shown as a day with nothing in it.
        let from = from.max(Timestamp::from_millis(whole_hour(first.as_millis(), 0)));
        let to = Timestamp::from_millis(to.max(from.as_millis() + WINDOW_MIN_MS));
        Some(json!({"from": from.as_millis(), "to": to.as_millis(), "now": now.as_millis(), "lanes": lanes}))
    }

    fn thermostats(&self) -> Json {
        let now = self.core.times();
        let status = |unit: &Arc<Unit>| unit.order(&Order::Status, Caller::owner("console"), now).ok();
        Json::Array(self.core.thermostats().iter().filter_map(status).collect())
    }

    fn order(&self, order: console::MemberOrder) -> Result<Json, console::OrderFault> {
        tokio::runtime::Handle::current().block_on(self.core.member_order(order))
    }

    fn events(&self) -> broadcast::Receiver<Json> {
        self.events.subscribe()
    }

    fn healthy(&self) -> Result<(), Vec<String>> {
        self.core.healthy()
    }

    fn metrics(&self) -> String {
        self.core.metrics()
    }
}
