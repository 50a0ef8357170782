//! What is played is what the gate answers live, and every byte of it is counted once.

#![expect(clippy::unwrap_used, clippy::panic, reason = "tests")]

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll, Waker};

use exposure::{Count, Fact, Pretended, Recorded, Sent, Span, expose, home_assistant, under_profile};
use gate::{Actuator, ActuatorError, GateState, Order, Session};
use home::{Description, PropertyDescription, Reading, Registry};
use jiff::tz::TimeZone;
use model::{Class, DeviceId, HouseholdId, PartnerId, Property, SystemMode, Timestamp, Value};
use serde_json::json;

const START: i64 = 1_774_712_340_000 - 1_774_712_340_000 % 86_400_000;
const MINUTE: i64 = 60_000;
const DAY: i64 = 1440 * MINUTE;

fn at(ms: i64) -> Timestamp {
    Timestamp::from_millis(START + ms)
}

struct NoBroker;

impl Actuator for NoBroker {
    async fn carry_out(&self, _: Order) -> Result<(), ActuatorError> {
        Err(ActuatorError::NotSupported)
    }
}

/// A thermostat, a door and a motion sensor, two days long. The thermostat repeats itself, as thermostats do.
fn recorded(repeats: bool) -> Recorded {
    use Property as P;
    let mut registry = Registry::default();
    for (id, properties) in [
        ("thermostat", &[P::LocalTemperature, P::OccupiedHeatingSetpoint, P::SystemMode, P::Reachable][..]),
        ("door", &[P::ContactOpen, P::Reachable]),
        ("hall", &[P::Motion, P::Reachable]),
    ] {
        let of = |p: &Property| {
            let class = if *p == P::ContactOpen { Class::Door } else { Class::None };
            (*p, PropertyDescription { class, command: *p == P::OccupiedHeatingSetpoint })
        };
        let properties = properties.iter().filter(|p| **p != P::Reachable).map(of).collect();
        let description = Description { name: id.to_owned(), properties, ..Description::default() };
        registry.describe(&DeviceId::new(id).unwrap(), description).unwrap();
    }
    let mut readings: Vec<Reading> = Vec::new();
    let mut last = BTreeMap::new();
    let mut say = |minute: i64, second: i64, device: &str, property: Property, value: Value| {
        let before = last.insert((device.to_owned(), property), value.clone());
        if repeats || before.as_ref() != Some(&value) {
            let device = DeviceId::new(device).unwrap();
            readings.push(Reading { device, property, value, time: at(minute * MINUTE + second * 1000) });
        }
    };
    for device in ["thermostat", "door", "hall"] {
        say(0, 1, device, P::Reachable, Value::Bool(true));
    }
    for minute in 0..2 * 1440 {
        let hour = minute / 60 % 24;
        let home = !(9..17).contains(&hour);
        if minute % 5 == 2 {
            let temperature = 20_000 + (minute * 37 % 400) as i32 - if home { 0 } else { 2_000 };
            say(minute, 20, "thermostat", P::LocalTemperature, Value::Temperature(temperature));
            let wanted = if home { 21_000 } else { 17_000 };
            say(minute, 20, "thermostat", P::OccupiedHeatingSetpoint, Value::Temperature(wanted));
            say(minute, 20, "thermostat", P::SystemMode, Value::SystemMode(SystemMode::Heat));
        }
        if home && minute % 11 == 0 {
            say(minute, 7, "hall", P::Motion, Value::Bool(true));
            say(minute, 40, "hall", P::Motion, Value::Bool(false));
        }
        if matches!(minute % 1440, 540 | 1020) {
            say(minute, 3, "door", P::ContactOpen, Value::Bool(true));
            say(minute, 9, "door", P::ContactOpen, Value::Bool(false));
        }
    }
    let devices = registry.iter().map(|(id, device)| (id.clone(), device.clone())).collect();
    Recorded { zone: TimeZone::UTC, household: HouseholdId::new("home").unwrap(), devices, readings }
}

fn span() -> Span {
    Span { from: at(60 * MINUTE), to: at(2 * DAY) }
}

fn pretended(recorded: &Recorded, slug: &str) -> Pretended {
    let alexa = PartnerId::new("alexa").unwrap();
    under_profile(recorded, policy::profile(slug).unwrap(), (&alexa, true), None).unwrap()
}

fn played(recorded: &Recorded, slug: &str, poll_ms: i64) -> Vec<Sent> {
    let Pretended { link, table, .. } = pretended(recorded, slug);
    let mut all = Vec::new();
    expose(recorded, (&link, &[(Timestamp::default(), table)]), span(), poll_ms, |sent| all.push(sent)).unwrap();
    all
}

/// The hub itself, as it runs: every reading as it comes in, repeated or not, and one question.
fn live_answer(recorded: &Recorded, slug: &str, sent: &Sent) -> Vec<u8> {
    let Pretended { link, table, .. } = pretended(recorded, slug);
    let mut state = GateState::new(TimeZone::UTC, Arc::clone(&table));
    for (id, device) in &recorded.devices {
        state.describe(id, device.description.clone()).unwrap();
    }
    state.links.insert(link.clone());
    state.resume(table);
    for reading in recorded.readings.iter().take_while(|r| r.time <= sent.time) {
        state.report(reading.clone());
    }
    let link = state.links.get(&link.id).unwrap().clone();
    let id = "00000000-0000-4000-8000-000000000000".to_owned();
    let (state, broker) = (Arc::new(Mutex::new(state)), Arc::new(NoBroker));
    let mut session = Session::new(state, broker, &link, sent.time, "Test".to_owned(), id);
    let question = json!({"directive": {
        "header": {"namespace": "Alexa", "name": "ReportState", "payloadVersion": "3", "messageId": "m",
            "correlationToken": "pretended"},
        "endpoint": {"scope": {"type": "BearerToken", "token": "t0ken"}, "endpointId": sent.endpoint, "cookie": {}},
        "payload": {},
    }});
    let directive = alexa::parse(question.to_string().as_bytes()).unwrap();
    let mut answer = std::pin::pin!(alexa::answer(&mut session, &directive));
    match answer.as_mut().poll(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(reply) => reply.wire(),
        Poll::Pending => panic!("an answer waits"),
    }
}

#[test]
fn an_answer_that_is_played_from_history_is_the_one_that_the_hub_gives() {
    let (history, home) = (recorded(false), recorded(true));
    for profile in policy::profiles() {
        let polls: Vec<Sent> =
            played(&history, &profile.slug, 7 * MINUTE).into_iter().filter(|s| s.endpoint.is_some()).collect();
        let polls: Vec<&Sent> = polls.iter().filter(|s| s.message == "Alexa.StateReport").step_by(37).collect();
        assert!(polls.len() > 5, "{}", profile.slug);
        for sent in polls {
            // History has changes alone: an exact value is dated when it last changed.
            let home = if sent.facts.iter().any(|f| f.time.floor_to(15 * MINUTE) != f.time) { &history } else { &home };
            let (played, live) = (&sent.body, live_answer(home, &profile.slug, sent));
            let text = String::from_utf8_lossy;
            assert_eq!(text(played), text(&live), "{} at {}", profile.slug, sent.time.to_rfc3339());
        }
    }
}

#[test]
fn what_is_told_unasked_is_on_the_grid_and_only_what_has_changed() {
    let home = recorded(true);
    let unasked: Vec<Sent> =
        played(&home, "everything", DAY).into_iter().filter(|s| s.message == "Alexa.ChangeReport").collect();
    assert!(unasked.iter().all(|s| (s.time.as_millis()) % 10_000 == 0));
    // The door opens at 9:00:03 and closes at 9:00:09: within one tick, and so nothing was.
    let door = |f: &Fact| f.property == Property::ContactOpen;
    assert_eq!(unasked.iter().filter(|s| s.facts.iter().any(door)).count(), 1, "only what it is at the start");
    // Motion is told twice for each time that it was seen, and not where nothing was.
    let motion = unasked.iter().filter(|s| s.facts.iter().any(|f| f.property == Property::Motion)).count();
    let seen = home.readings.iter().filter(|r| r.property == Property::Motion && r.time > span().from).count();
    assert!((seen..=seen + 1).contains(&motion), "{motion} of {seen}");
    assert!(!played(&home, "glance", DAY).iter().any(|s| s.message == "Alexa.ChangeReport"), "it grants none");
}

#[test]
fn facts_are_counted_once_however_often_they_are_asked_for() {
    let home = recorded(true);
    let count = |poll_ms: i64| {
        let mut count = Count::new(TimeZone::UTC);
        played(&home, "glance", poll_ms).iter().for_each(|sent| count.add(sent));
        (count.days().len(), count.total())
    };
    let ((days, often), (_, hourly)) = (count(MINUTE), count(60 * MINUTE));
    assert_eq!((days, often.facts), (2, hourly.facts));
    assert!(often.messages > 50 * hourly.messages && often.bytes > 50 * hourly.bytes);
    let mut rule = Count::new(TimeZone::UTC);
    home_assistant(&home, span(), |sent| rule.add(&sent));
    let changes = recorded(false).readings.iter().filter(|r| r.property != Property::Reachable).count() as u64;
    assert!(rule.total().facts >= changes && rule.total().messages <= changes, "{:?} of {changes}", rule.total());
}
