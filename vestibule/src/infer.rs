//! `vestibule infer`: how much of a home's life can be told from what partners were sent. The attackers are in
//! `inference`, what is sent comes from `exposure`; here one is given to the other.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use clap::Args;
use exposure::{Count, DayCount, Recorded, Sent, Span};
use home::{Reading, Registered, Registry};
use inference::{Leak, Local, Seen, Series, Study, Truth, leaks, nobody_home};
use jiff::tz::TimeZone;
use model::{
    DeviceId, DoorState, HouseholdId, LockState, PartnerId, Property, RunningState, Timestamp, Trigger, Value,
};
use policy::{Profile, Works};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value as Json, json};

use crate::cli::{DataArgs, Failure, ask};
use crate::commands::Request;
use crate::core::{chain, find_profile};

/// The name of Home Assistant's rule among the profiles.
const HOME_ASSISTANT: &str = "home-assistant";

/// The name of all that were named, held by partners who put together what they know.
const TOGETHER: &str = "together";

/// What people do with a partner: a list that is fixed, so that profiles can be compared by it.
const WORKLOAD: &str = include_str!("../../workloads/household-day.toml");

/// For what is drawn: the same home gives the same figures each time.
const SEED: u64 = 1;

/// Fewest whole days of which anything can be said.
const DAYS_MIN: i64 = 4;

/// Days of its own history that a home is measured by, if nothing else is asked: the newest.
const DAYS: u16 = 31;

/// Silence of all devices after which nothing was recorded, in milliseconds; of who is quiet when nobody is at home it says
/// nothing.
const SILENCE_MAX_MS: i64 = 6 * 3_600_000;

const DAY_MS: i64 = 86_400_000;

/// Options of the measurement.
#[derive(Args)]
pub struct InferArgs {
    /// A recording instead of the home's own history: an ecobee web-portal export, or one of the Ordóñez logs
    /// (OrdonezA_Sensors.txt beside OrdonezA_ADLs.txt)
    #[arg(long, value_name = "FILE", conflicts_with_all = ["data", "config"])]
    recording: Option<PathBuf>,
    /// Let the attackers learn from this recording of another home, instead of from other days of the same
    #[arg(long, value_name = "FILE", requires = "recording")]
    across: Option<PathBuf>,
    /// Only under this profile (may be repeated; all that there are if not given)
    #[arg(long = "profile", value_name = "SLUG")]
    profiles: Vec<String>,
    /// Also what partners could tell who put together what each was sent under these profiles
    #[arg(long)]
    together: bool,
    /// How often each device is asked for, in minutes
    #[arg(long, value_name = "MINUTES", default_value_t = exposure::POLL_MINUTES, value_parser = clap::value_parser!(u16).range(1..=1440))]
    every: u16,
    /// Only so many whole days: the newest of the history, the first of a recording
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(DAYS_MIN..=31))]
    days: Option<u16>,
    /// Print JSON, one line for each profile
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    data: DataArgs,
}

/// Recorded days as the hub gives them to the command line.
#[derive(Serialize, Deserialize)]
pub struct Days {
    /// The name of the time zone.
    pub zone: String,
    /// Whose.
    pub household: HouseholdId,
    /// The devices.
    pub devices: BTreeMap<DeviceId, Registered>,
    /// What they said, in order of time.
    pub readings: Vec<Reading>,
    /// When partners gave commands, in order.
    pub commands: Vec<Timestamp>,
}

/// A home to be measured.
struct Home {
    recorded: Recorded,
    truth: Truth,
    commands: Vec<i64>,
    span: Span,
}

/// Measures, and prints one line for each profile.
///
/// # Errors
/// When there is nothing to measure.
pub fn run(args: &InferArgs, mut print: impl FnMut(&str) -> Result<(), Failure>) -> Result<(), Failure> {
    let profiles: Vec<&'static Profile> = match args.profiles.as_slice() {
        [] => policy::profiles().iter().collect(),
        slugs => slugs.iter().map(|slug| find_profile(slug)).collect::<Result<_, _>>()?,
    };
    let home = match &args.recording {
        Some(file) => Home::of_recording(file, args.days)?,
        None => Home::of_history(&args.data, args.days.unwrap_or(DAYS))?,
    };
    let other = args.across.as_deref().map(|file| Home::of_recording(file, None)).transpose()?;
    let poll_ms = i64::from(args.every) * 60_000;
    if !args.json {
        print(&home.headline())?;
        print(&heading())?;
    }
    let mut out = |line: &Line| print(&if args.json { format!("{}\n", line.json()) } else { line.row() });
    let mut rule = home.seen(|sink| {
        exposure::home_assistant(&home.recorded, home.span, sink);
        Ok(())
    })?;
    let rule_there = match &other {
        None => None,
        Some(other) => Some(other.seen(|sink| {
            exposure::home_assistant(&other.recorded, other.span, sink);
            Ok(())
        })?),
    };
    let most = rule.count;
    let (mut all, mut all_there) = (Exposed::default(), Exposed::default());
    for profile in &profiles {
        let (exposed, tasks) = home.under(profile, poll_ms)?;
        let there = other.as_ref().map(|other| Ok::<_, Failure>(other.under(profile, poll_ms)?.0)).transpose()?;
        let leak = home.leak(&exposed.seen, other.as_ref().zip(there.as_ref().map(|t| &t.seen)));
        out(&home.line(&profile.slug, &exposed, leak, tasks, most))?;
        all.join(&profile.slug, exposed);
        if let Some(there) = there {
            all_there.join(&profile.slug, there);
        }
    }
    if args.together {
        all.settle(&home);
        if let Some(other) = &other {
            all_there.settle(other);
        }
        let leak = home.leak(&all.seen, other.as_ref().map(|other| (other, &all_there.seen)));
        out(&home.line(TOGETHER, &all, leak, Vec::new(), most))?;
    }
    rule.settle(&home);
    let leak = home.leak(&rule.seen, other.as_ref().zip(rule_there.as_ref().map(|r| &r.seen)));
    out(&home.line(HOME_ASSISTANT, &rule, leak, Vec::new(), most))
}

/// What a partner came to know, and how much of it there was.
#[derive(Default)]
struct Exposed {
    seen: Seen,
    count: DayCount,
}

impl Exposed {
    /// Puts what another partner knows beside it.
    fn join(&mut self, slug: &str, other: Exposed) {
        let named = |series: Series| Series { device: format!("{slug}/{}", series.device), ..series };
        self.seen.series.extend(other.seen.series.into_iter().map(named));
        self.seen.messages.extend(other.seen.messages);
        self.count.messages += other.count.messages;
        self.count.bytes += other.count.bytes;
        self.count.facts += other.count.facts;
    }

    fn settle(&mut self, home: &Home) {
        self.seen.span = (home.span.from.as_millis(), home.span.to.as_millis());
        self.seen.commands.clone_from(&home.commands);
        self.seen.messages.sort_unstable();
    }
}

impl Home {
    fn of_recording(file: &Path, days: Option<u16>) -> Result<Self, Failure> {
        let heard = devices::replay::hear(file).map_err(|e| Failure::Failed(chain(&e)))?;
        let mut registry = Registry::default();
        for (id, description) in heard.devices {
            registry.describe(&id, description).map_err(|e| Failure::Failed(format!("`{id}`: {e}")))?;
        }
        let devices: BTreeMap<_, _> = registry.iter().map(|(id, device)| (id.clone(), device.clone())).collect();
        let household = HouseholdId::new("recording").map_err(|e| Failure::Failed(e.to_string()))?;
        let recorded = Recorded { zone: TimeZone::UTC, household, devices, readings: heard.readings };
        let said =
            heard.nobody_home.map(|spans| spans.into_iter().map(|(a, b)| (a.as_millis(), b.as_millis())).collect());
        let mut home = Self::new(recorded, said, Vec::new())?;
        if let Some(days) = days {
            home.span.to = home.span.to.min(home.span.from.plus_millis(i64::from(days) * DAY_MS));
        }
        Ok(home)
    }

    fn of_history(data: &DataArgs, days: u16) -> Result<Self, Failure> {
        let answer = ask(data, Request::Recorded { days })?;
        let days: Days = serde_json::from_value(answer).map_err(|e| Failure::Failed(e.to_string()))?;
        let zone = TimeZone::get(&days.zone).map_err(|e| Failure::Failed(e.to_string()))?;
        let Days { household, devices, readings, commands, .. } = days;
        let recorded = Recorded { zone, household, devices, readings };
        Self::new(recorded, None, commands.into_iter().map(Timestamp::as_millis).collect())
    }

    /// `said` is when nobody was at home, where somebody has said so; else motion and presence tell it.
    fn new(recorded: Recorded, said: Option<Vec<(i64, i64)>>, commands: Vec<i64>) -> Result<Self, Failure> {
        let zone = recorded.zone.clone();
        let local = move |at: i64| local(&zone, at);
        let lives = lives(&recorded);
        let known = said.is_some();
        let last = recorded.readings.last().map(|r| r.time.as_millis());
        let days_from = |first: i64| {
            days(last.map_or(Span { from: Timestamp::default(), to: Timestamp::default() }, |last| {
                whole_days(&recorded.zone, first, last)
            }))
        };
        // Before all sensors are there, silence says less; but one that came lately does not undo the days before it.
        let first = match known {
            true => recorded.readings.iter().find(|r| r.property != Property::Reachable).map(|r| r.time.as_millis()),
            false => {
                let mut firsts: Vec<i64> = lives.values().map(|life| life.first).collect();
                firsts.sort_unstable();
                firsts.iter().rfind(|first| days_from(**first) >= DAYS_MIN).or(firsts.first()).copied()
            }
        };
        let (Some(first), Some(last)) = (first, last) else {
            return Err(Failure::Failed(
                "nobody can say when somebody was at home: there is no motion or presence sensor in what is recorded"
                    .into(),
            ));
        };
        let span = whole_days(&recorded.zone, first, last);
        if days(span) < DAYS_MIN {
            return Err(Failure::Failed(format!(
                "{} whole days are recorded, and fewer than {DAYS_MIN} say nothing: try again later",
                days(span).max(0)
            )));
        }
        let active = united(lives.values().flat_map(|life| life.active.iter().copied()).collect());
        let span_ms = (span.from.as_millis(), span.to.as_millis());
        let empty = said.unwrap_or_else(|| nobody_home(&active, (first, last), &local));
        let recorded_spans = if known { vec![(first, last)] } else { recorded_spans(&recorded, span_ms) };
        let truth = Truth { active, empty, recorded: recorded_spans };
        Ok(Self { recorded, truth, commands, span })
    }

    /// What goes to a partner that `play` plays for.
    fn seen(&self, play: impl FnOnce(&mut dyn FnMut(Sent)) -> Result<(), Failure>) -> Result<Exposed, Failure> {
        let mut count = Count::new(self.recorded.zone.clone());
        let mut series: BTreeMap<(DeviceId, Property), Series> = BTreeMap::new();
        let mut exposed = Exposed::default();
        play(&mut |sent: Sent| {
            count.add(&sent);
            let time = sent.time.as_millis();
            // Which devices there are is asked once, at the start: that tells nothing of the days.
            if sent.trigger != Trigger::Discovery {
                exposed.seen.messages.push((time, u32::try_from(sent.body.len()).unwrap_or(u32::MAX)));
            }
            for fact in &sent.facts {
                let Some(number) = number(&fact.value) else { continue };
                let of = series.entry((fact.device.clone(), fact.property)).or_insert_with(|| Series {
                    device: fact.device.to_string(),
                    property: fact.property.to_string(),
                    is_binary: is_binary(&fact.value),
                    points: Vec::new(),
                });
                // When a thing changed is told with it; but nothing is known before it is told.
                let step = (time - 1).div_euclid(inference::STEP_MS) * inference::STEP_MS + 1;
                let at = if of.is_binary { fact.time.as_millis().clamp(step, time) } else { time };
                of.points.push((at.max(of.points.last().map_or(at, |p| p.0)), number));
            }
        })?;
        exposed.seen.series = series.into_values().collect();
        exposed.count = count.total();
        exposed.settle(self);
        Ok(exposed)
    }

    fn under(&self, profile: &Profile, poll_ms: i64) -> Result<(Exposed, Tasks), Failure> {
        let (name, gatekeeper) = links::PARTNERS.first().copied().unwrap_or(("alexa", true));
        let partner = PartnerId::new(name).map_err(|e| Failure::Failed(e.to_string()))?;
        let pretended = exposure::under_profile(&self.recorded, profile, (&partner, gatekeeper), None)
            .map_err(|e| Failure::Failed(chain(&e)))?;
        let (link, table) = (&pretended.link, &pretended.table);
        // No profile has hours or windows.
        let tables = [(self.span.from, Arc::clone(table))];
        let exposed = self.seen(|sink| {
            exposure::expose(&self.recorded, (link, &tables), self.span, poll_ms, sink)
                .map_err(|e| Failure::Failed(e.to_string()))
        })?;
        let tasks = policy::tasks(WORKLOAD).map_err(Failure::Failed)?;
        let works =
            |task: policy::Task| task.works(table, &pretended.facts, &link.id, true).map(|works| (task.says, works));
        Ok((exposed, tasks.into_iter().filter_map(works).collect()))
    }

    fn study<R>(&self, with: impl FnOnce(&Study<'_>) -> R) -> R {
        let local = |at: i64| local(&self.recorded.zone, at);
        let span = (self.span.from.as_millis(), self.span.to.as_millis());
        with(&Study { span, truth: &self.truth, local: &local, seed: SEED })
    }

    fn leak(&self, seen: &Seen, elsewhere: Option<(&Home, &Seen)>) -> Leak {
        self.study(|study| match elsewhere {
            None => leaks(study, seen, None),
            Some((home, there)) => home.study(|other| leaks(study, seen, Some((other, there)))),
        })
    }

    fn days(&self) -> f64 {
        (self.span.to.as_millis() - self.span.from.as_millis()) as f64 / DAY_MS as f64
    }

    fn headline(&self) -> String {
        let day = |at: Timestamp| at.to_rfc3339().chars().take(10).collect::<String>();
        let within = |span: &(i64, i64)| {
            (span.1.min(self.span.to.as_millis()) - span.0.max(self.span.from.as_millis())).max(0) as f64
        };
        let empty = self.truth.empty.iter().map(within).sum::<f64>() / (self.days() * DAY_MS as f64);
        format!(
            "{:.0} whole days, {} up to {}; {} devices; nobody was at home for {:.0} % of the time\n",
            self.days(),
            day(self.span.from),
            day(self.span.to),
            self.recorded.devices.len(),
            100.0 * empty
        )
    }

    fn line<'a>(&self, profile: &'a str, exposed: &Exposed, leak: Leak, tasks: Tasks, rule: DayCount) -> Line<'a> {
        let days = self.days();
        let per_day = |n: u64| (n as f64 / days * 10.0).round() / 10.0;
        let DayCount { messages, bytes, facts } = exposed.count;
        let fewer = 1.0 - facts as f64 / (rule.facts as f64).max(1.0);
        Line { profile, facts: per_day(facts), messages: per_day(messages), bytes: per_day(bytes), fewer, leak, tasks }
    }
}

/// What a person does with the partner, and whether it works.
type Tasks = Vec<(String, Works)>;

/// What is printed of one profile.
struct Line<'a> {
    profile: &'a str,
    facts: f64,
    messages: f64,
    bytes: f64,
    /// Share of facts that Home Assistant's rule tells and this does not.
    fewer: f64,
    leak: Leak,
    tasks: Tasks,
}

/// To three digits behind the point: what comes after them is chance.
fn three(x: f64) -> f64 {
    let rounded = (x * 1000.0).round() / 1000.0;
    if rounded == 0.0 { 0.0 } else { rounded }
}

fn heading() -> String {
    let targets = ["nobody home now", "away for days", "daily rhythm"].map(|name| format!("{name:<36}")).concat();
    format!(
        "{:<16}{:>10}{:>14}{:>12}{:>9}  {targets}{:<26}{}\n",
        "profile", "facts/day", "messages/day", "bytes/day", "than HA", "bits: count, time, size", "tasks"
    )
}

impl Line<'_> {
    fn json(&self) -> Json {
        let mut targets = Map::new();
        for (target, found) in &self.leak.targets {
            let of = match found {
                Some(f) => json!({
                    "prior_auc": three(f.prior_auc), "auc": three(f.auc), "increment_low": three(f.increment.low),
                    "increment_high": three(f.increment.high), "balanced_accuracy": three(f.balanced_accuracy),
                    "attacker": f.attacker.as_str(), "cases": f.cases.0, "true_cases": f.cases.1,
                }),
                // The home has only days of one sort: there is nothing to tell apart.
                None => json!({
                    "prior_auc": null, "auc": null, "increment_low": null, "increment_high": null,
                    "balanced_accuracy": null, "attacker": null,
                }),
            };
            targets.insert(target.as_str().to_owned(), of);
        }
        let bits = |i: &inference::Information| json!({"bits": three(i.bits), "chance": three(i.chance)});
        let tasks: Map<String, Json> = self.tasks.iter().map(|(says, works)| (says.clone(), json!(works))).collect();
        json!({
            "profile": self.profile, "facts_per_day": self.facts, "messages_per_day": self.messages,
            "bytes_per_day": self.bytes, "fewer_facts": three(self.fewer), "targets": targets,
            "information": {
                "count": bits(&self.leak.count), "times": bits(&self.leak.times), "sizes": bits(&self.leak.sizes),
            },
            "tasks": tasks,
        })
    }

    fn row(&self) -> String {
        let target = |found: &Option<inference::Found>| match found {
            None => "-".to_owned(),
            Some(f) => format!(
                "{:.2} - {:.2} = {:+.2} ({:+.2} to {:+.2})",
                f.auc,
                f.prior_auc,
                three(f.auc - f.prior_auc),
                three(f.increment.low),
                three(f.increment.high)
            ),
        };
        let star = |i: &inference::Information| if i.bits > i.chance { '*' } else { ' ' };
        let leak = &self.leak;
        let mut row = format!(
            "{:<16}{:>10.1}{:>14.0}{:>12.0}{:>+8.0}%  ",
            self.profile,
            self.facts,
            self.messages,
            self.bytes,
            0.0 - (100.0 * self.fewer).round()
        );
        leak.targets.iter().for_each(|(_, found)| row.push_str(&format!("{:<36}", target(found))));
        let information =
            [&leak.count, &leak.times, &leak.sizes].map(|i| format!("{:.3}{} ", i.bits, star(i))).concat();
        let works = self.tasks.iter().filter(|(_, works)| *works == Works::Yes).count();
        let tasks = if self.tasks.is_empty() { "-".to_owned() } else { format!("{works} of {}", self.tasks.len()) };
        format!("{row}{information:<26}{tasks}\n")
    }
}

/// What one presence sensor has seen.
struct Life {
    first: i64,
    active: Vec<(i64, i64)>,
}

/// Signs of life, sensor by sensor: from when something is seen until it is seen no more.
fn lives(recorded: &Recorded) -> BTreeMap<(DeviceId, Property), Life> {
    let mut lives: BTreeMap<(DeviceId, Property), (Life, Option<i64>)> = BTreeMap::new();
    let mut end = 0;
    for reading in recorded.readings.iter().filter(|r| is_life(r.property)) {
        let at = reading.time.as_millis();
        end = at;
        let key = (reading.device.clone(), reading.property);
        let (life, since) = lives.entry(key).or_insert_with(|| (Life { first: at, active: Vec::new() }, None));
        match (since.take(), reading.value == Value::Bool(true)) {
            (None, true) => *since = Some(at),
            (Some(start), true) => *since = Some(start),
            (Some(start), false) => life.active.push((start, at.max(start + 1))),
            (None, false) => {}
        }
    }
    let ended = |(mut life, since): (Life, Option<i64>)| {
        life.active.extend(since.map(|start| (start, end.max(start + 1))));
        life
    };
    lives.into_iter().map(|(key, life)| (key, ended(life))).collect()
}

fn is_life(property: Property) -> bool {
    matches!(property, Property::Motion | Property::Occupancy)
}

/// Spans in order, overlapping ones as one.
fn united(mut spans: Vec<(i64, i64)>) -> Vec<(i64, i64)> {
    spans.sort_unstable();
    let mut all: Vec<(i64, i64)> = Vec::new();
    for (start, end) in spans {
        match all.last_mut() {
            Some(last) if start <= last.1 => last.1 = last.1.max(end),
            _ => all.push((start, end)),
        }
    }
    all
}

/// When any device spoke often enough to say that the home was recorded.
fn recorded_spans(recorded: &Recorded, (from, to): (i64, i64)) -> Vec<(i64, i64)> {
    let times = recorded.readings.iter().map(|r| r.time.as_millis());
    united(times.map(|at| (at, at + SILENCE_MAX_MS)).collect())
        .into_iter()
        .map(|(start, end)| (start.max(from), end.min(to)))
        .filter(|(start, end)| start < end)
        .collect()
}

/// How many days a span has; one of 23 or 25 hours is a day.
fn days(span: Span) -> i64 {
    (span.to.as_millis() - span.from.as_millis() + DAY_MS / 2).div_euclid(DAY_MS)
}

fn whole_days(zone: &TimeZone, first: i64, last: i64) -> Span {
    let midnight = |at: i64, tomorrow: bool| {
        let time = jiff::Timestamp::from_millisecond(at).ok()?.to_zoned_datetime(zone.clone());
        let time = if tomorrow { time.tomorrow().ok()? } else { time };
        Some(Timestamp::from_millis(time.start_of_day().ok()?.timestamp().as_millisecond()))
    };
    // What begins at midnight itself begins with that day.
    let from = midnight(first.saturating_sub(1), true).unwrap_or(Timestamp::from_millis(first));
    Span { from, to: midnight(last, false).unwrap_or(from) }
}

fn local(zone: &TimeZone, at: i64) -> Local {
    let Ok(time) = jiff::Timestamp::from_millisecond(at) else {
        return Local { day: at.div_euclid(DAY_MS), minute: 0, weekend: false };
    };
    let time = time.to_zoned_datetime(zone.clone());
    let day = time.date().to_datetime(jiff::civil::Time::midnight()).to_zoned_datetime(TimeZone::UTC);
    Local {
        day: day.map_or(0, |d| d.timestamp().as_second().div_euclid(86_400)),
        minute: i32::from(time.hour()) * 60 + i32::from(time.minute()),
        weekend: time.weekday().to_monday_one_offset() > 5,
    }
}

/// What a value is to an attacker; none for a text.
fn number(value: &Value) -> Option<f64> {
    Some(match value {
        Value::Temperature(milli) => f64::from(*milli) / 1000.0,
        Value::Percent(hundredths) => f64::from(*hundredths) / 100.0,
        Value::Ppm(ppm) => f64::from(*ppm),
        Value::Power(milliwatts) => *milliwatts as f64 / 1000.0,
        Value::Energy(watt_hours) => *watt_hours as f64,
        Value::Bool(on) => f64::from(u8::from(*on)),
        Value::SystemMode(mode) => f64::from(*mode as u8),
        Value::RunningState(state) => f64::from(u8::from(*state != RunningState::Idle)),
        Value::LockState(state) => f64::from(u8::from(*state != LockState::Locked)),
        Value::DoorState(state) => f64::from(u8::from(*state != DoorState::Closed)),
        Value::ColorTemperature(kelvin) => f64::from(*kelvin),
        Value::Color(color) => f64::from(color.hue),
        Value::Minutes(minutes) => f64::from(*minutes),
        Value::FanDirection(way) => f64::from(*way as u8),
        Value::Text(_) => return None,
    })
}

fn is_binary(value: &Value) -> bool {
    matches!(value, Value::Bool(_) | Value::RunningState(_) | Value::LockState(_) | Value::DoorState(_))
}
