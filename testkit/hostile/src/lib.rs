//! What outsiders send, and what a thief of the disk could put there: one entry function for each parser. The fuzzers in
//! `fuzz/` and the replay of the corpus in `tests/` call the same ones. Each asserts what must hold for any bytes.

#![expect(clippy::unwrap_used, clippy::expect_used, reason = "assertions about any input are the purpose")]

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, OnceLock};

use devices::Counters;
use devices::mqtt::house::{Event, House};
use devices::template::{Engine, OUTPUT_MAX_BYTES, Payload, Rendered};
use futures_util::FutureExt as _;
use gate::{Actuator, ActuatorError, GateState, Order, Session};
use home::{Description, Desired, PropertyDescription, Reading};
use jiff::tz::TimeZone;
use ledger::Leaf;
use links::Link;
use links::oauth::{Authority, AuthorizeFault, Client, ClientTerms};
use model::{
    Class, ClientId, DeviceId, DeviceType, GrantId, HouseholdId, LinkId, MemberId, PartnerId, Property,
    TemperatureScale, Timestamp, Value,
};

#[path = "../../../vestibule/src/config.rs"]
#[expect(dead_code, reason = "the binary's own file; only reading it is tried here")]
mod config;

/// A parser and what must hold of it.
#[derive(Clone, Copy)]
pub struct Target {
    /// Its name: that of its corpus and of its fuzzer.
    pub name: &'static str,
    /// Takes any bytes.
    pub run: fn(&[u8]),
}

/// All of them.
pub const TARGETS: &[Target] = &[
    Target { name: "discovery", run: discovery },
    Target { name: "template", run: template },
    Target { name: "directive", run: directive },
    Target { name: "token", run: token },
    Target { name: "oauth", run: oauth },
    Target { name: "recording", run: recording },
    Target { name: "config", run: config },
    Target { name: "leaf", run: leaf },
    Target { name: "proof", run: proof },
    Target { name: "stored", run: stored },
    Target { name: "body", run: body },
];

/// Largest answer to a directive in a home of one thermostat: far beyond what it needs.
const ANSWER_MAX_BYTES: usize = 64 * 1024;

const NOW: i64 = 1_768_212_000_000;

/// Splits at the first line that holds `---` alone.
fn halves(text: &str) -> (&str, &str) {
    text.split_once("\n---\n").unwrap_or((text, ""))
}

/// A device's messages: `TOPIC` and its payload, parted by lines of `---`; then what it heard is commanded.
pub fn discovery(bytes: &[u8]) {
    let counters = Arc::new(Counters::default());
    let mut house = House::new("homeassistant", TemperatureScale::Celsius, BTreeMap::new(), Arc::clone(&counters));
    let now = Timestamp::from_millis(NOW);
    let mut known = Vec::new();
    let (mut messages, mut rest) = (0u64, bytes);
    while !rest.is_empty() && messages < 8 {
        let end = rest.windows(5).position(|w| w == b"\n---\n");
        let (message, after) = rest.split_at(end.unwrap_or(rest.len()));
        rest = after.get(5..).unwrap_or_default();
        let line = message.iter().position(|b| *b == b'\n').unwrap_or(message.len());
        let (topic, payload) = message.split_at(line);
        let topic = String::from_utf8_lossy(topic);
        messages += 1;
        let mut events = house.hear(&topic, payload.get(1..).unwrap_or_default(), now);
        let heard: Vec<String> = house.topics().into_iter().take(8).collect();
        for topic in heard {
            for payload in [&b"21.5"[..], b"ON", b"open", payload] {
                messages += 1;
                events.extend(house.hear(&topic, payload, now));
            }
        }
        for event in events {
            match event {
                Event::Described { device, description } => {
                    assert!(description.name.chars().count() <= 128 && !description.name.contains(char::is_control));
                    assert!(description.properties.len() <= home::PROPERTIES_PER_DEVICE_MAX);
                    known.push((device, description));
                }
                Event::Reading(Reading { value: Value::Temperature(milli), .. }) => {
                    assert!((-100_000..=200_000).contains(&milli), "{milli}");
                }
                Event::Reading(Reading { value: Value::Percent(hundredths), .. }) => {
                    assert!(hundredths <= 10_000, "{hundredths}");
                }
                Event::Reading(_) | Event::Withdrawn { .. } => {}
            }
        }
    }
    for (device, description) in known.iter().take(8) {
        for property in description.properties.keys() {
            for value in [Value::Temperature(21_000), Value::Bool(true), Value::Percent(5_000)] {
                let desired = [Desired { property: *property, value }];
                if let Ok((publications, _)) = house.command(device, &desired, now) {
                    for p in publications {
                        assert!(!p.topic.contains(['+', '#', '\0']), "{}", p.topic);
                        // A word that a description gives is as long as it likes; what a template makes is bounded.
                        assert!(p.payload.len() <= OUTPUT_MAX_BYTES.max(bytes.len()));
                    }
                }
            }
        }
    }
    assert_eq!(counters.messages(), messages);
}

/// A template, and the payload that it is rendered over.
pub fn template(bytes: &[u8]) {
    let text = String::from_utf8_lossy(bytes);
    let (source, payload) = halves(&text);
    let mut engine = Engine::default();
    let checked = engine.check(source);
    let now = Timestamp::from_millis(NOW);
    let read = engine.read(source, &Payload::new(payload), now);
    assert!(checked.is_ok() || read.is_err(), "what was not let in was run");
    if let Ok(Rendered::Text(text)) = read {
        assert!(text.len() <= OUTPUT_MAX_BYTES);
    }
    if let Ok(text) = engine.write(source, minijinja::Value::from(21.5), now) {
        assert!(text.len() <= OUTPUT_MAX_BYTES);
    }
}

struct Nobody;

impl Actuator for Nobody {
    async fn carry_out(&self, _: Order) -> Result<(), ActuatorError> {
        Ok(())
    }
}

/// The token of the link in the seeds of `directive` and `token`.
pub const TOKEN_SEED: [u8; 32] = [1; 32];

/// A home with a thermostat, and a link that may see and do everything.
fn home() -> (Arc<Mutex<GateState>>, Link, String) {
    static HOME: OnceLock<(Arc<Mutex<GateState>>, Link, String)> = OnceLock::new();
    let make = || {
        let household = HouseholdId::new("home").unwrap();
        let empty = policy::compile(&policy::Facts::empty(household.clone()), &[], None, Timestamp::default()).unwrap();
        let mut state = GateState::new(TimeZone::UTC, Arc::new(empty));
        let device = DeviceId::new("thermostat").unwrap();
        let plain = |command| PropertyDescription { class: Class::None, command };
        let properties = BTreeMap::from([
            (Property::LocalTemperature, plain(false)),
            (Property::OccupiedHeatingSetpoint, plain(true)),
            (Property::SystemMode, plain(true)),
            (Property::LockState, plain(true)),
            (Property::OnOff, plain(true)),
            (Property::CurrentLevel, plain(true)),
            (Property::DoorState, plain(true)),
        ]);
        state.describe(&device, Description { name: "Alice".into(), properties, ..Description::default() }).unwrap();
        let time = Timestamp::from_millis(NOW);
        for (property, value) in
            [(Property::LocalTemperature, Value::Temperature(21_400)), (Property::OnOff, Value::Bool(true))]
        {
            state.report(Reading { device: device.clone(), property, value, time });
        }
        let (id, partner) = (LinkId::new("l").unwrap(), PartnerId::new("alexa").unwrap());
        let random = (TOKEN_SEED, [2; 32]);
        let (mut link, token) = Link::new(id, household.clone(), partner, "everything".into(), time, random);
        link.enroll([(&device, DeviceType::Thermostat)]);
        state.links.insert(link.clone());
        let facts = state.facts(household, |_| true);
        let owner = MemberId::new("owner").unwrap();
        let terms = policy::Terms { now: time, granted_by: owner.clone(), affects: vec![owner] };
        let mut n = 0;
        let ids = || {
            n += 1;
            GrantId::new(format!("g{n}")).ok()
        };
        let profile = policy::profile("everything").unwrap();
        let grants = policy::apply(profile, &facts, &link.id, &[], &terms, ids).unwrap().add;
        let table = policy::compile(&facts, &grants, None, time).unwrap();
        state.replace_table(Arc::new(table), time);
        (Arc::new(Mutex::new(state)), link, token.reveal().to_owned())
    };
    HOME.get_or_init(make).clone()
}

/// A partner's directive: parsed, and answered as if it came from the link, whatever token it has.
pub fn directive(bytes: &[u8]) {
    let Ok(directive) = alexa::parse(bytes) else { return };
    let (state, link, own) = home();
    let token = alexa::token(&directive).map(str::to_owned);
    if let Some(token) = &token {
        let opened = state.lock().unwrap().links.authenticate(token, Timestamp::from_millis(NOW)).is_some();
        assert_eq!(opened, *token == own, "a token that is not the link's opened it");
    }
    let now = Timestamp::from_millis(NOW);
    let id = "00000000-0000-4000-8000-000000000000".to_owned();
    let mut session = Session::new(state, Arc::new(Nobody), &link, now, directive.message_name().to_owned(), id);
    let reply = alexa::answer(&mut session, &directive).now_or_never().expect("nothing here is waited for");
    let text = reply.event().to_string();
    assert!(text.len() <= ANSWER_MAX_BYTES, "{} bytes", text.len());
    let event = reply.event();
    let header = &event.get("event").and_then(|e| e.get("header")).expect("an event has a header");
    assert!(header.get("namespace").is_some() && header.get("messageId").is_some());
    assert!(!text.contains(&own), "the token came back: {text}");
    session.finish();
}

/// A token as it stands in a directive.
pub fn token(bytes: &[u8]) {
    let (state, link, own) = home();
    let text = String::from_utf8_lossy(bytes);
    let found = state.lock().unwrap().links.authenticate(&text, Timestamp::from_millis(NOW)).map(|o| o.link.id.clone());
    assert_eq!(found, (*text == *own).then_some(link.id));
}

/// What comes to the OAuth server: the query of an authorization request, then after a line of `---` an `Authorization`
/// header and, in the line below, a form.
pub fn oauth(bytes: &[u8]) {
    const REDIRECT: &str = "https://partner.example/back";
    let text = String::from_utf8_lossy(bytes);
    let (query, rest) = halves(&text);
    let (header, form) = rest.split_once('\n').unwrap_or((rest, ""));
    let mut authority = Authority::default();
    let id = ClientId::new("alexa-1").unwrap();
    let terms = ClientTerms { secret: true, pkce: false, rotate: true };
    let partner = PartnerId::new("alexa").unwrap();
    let time = Timestamp::from_millis(NOW);
    let (client, _) = Client::new(id.clone(), partner, vec![REDIRECT.into()], terms, time, [3; 32]).unwrap();
    authority.add_client(client);
    match links::oauth::authorize(&authority, "https://hub.example", query) {
        Ok(asked) => assert!(asked.client == id && asked.redirect == REDIRECT),
        Err(AuthorizeFault::Back(url)) => assert!(url.starts_with(REDIRECT), "a browser is sent to {url}"),
        Err(AuthorizeFault::Unknown) => {}
    }
    for revocation in [false, true] {
        let header = Some(header).filter(|h| !h.is_empty());
        let Ok((credentials, _)) = links::oauth::token_request(header, form, revocation) else { continue };
        assert!(authority.authenticate_client(&credentials).is_err(), "a guess opened the door");
    }
}

/// A recording (CSV).
pub fn recording(bytes: &[u8]) {
    let Ok(rows) = devices::replay::parse(bytes) else { return };
    let lines = bytes.iter().filter(|b| **b == b'\n').count() + 1;
    let read = rows.take(lines + 1).count();
    assert!(read <= lines, "more rows than lines");
}

/// A configuration file.
pub fn config(bytes: &[u8]) {
    let text = String::from_utf8_lossy(bytes).into_owned();
    let (file, value) = halves(&text);
    let variable = ("VESTIBULE__HOME__NAME".to_owned(), value.to_owned());
    let environment = (!value.is_empty()).then_some(variable).into_iter();
    match config::Config::from_text(Some(("file".into(), Ok(file.to_owned()))), environment) {
        Ok(config) => {
            assert!((1..=36_500).contains(&config.retention_days));
            // What is read can be shown without its password.
            assert!(!format!("{:?}", config.mqtt).contains('@'));
        }
        Err(problems) => {
            assert!(!problems.is_empty());
            assert!(problems.iter().all(|p| !p.place.is_empty() && !p.text.is_empty()), "{problems:?}");
        }
    }
}

/// A record of the ledger, as read from the disk.
pub fn leaf(bytes: &[u8]) {
    if let Ok(leaf) = Leaf::decode(bytes) {
        assert_eq!(leaf.encode().unwrap(), bytes, "a leaf has one form");
        let row = ledger::Row::new(&leaf, None);
        assert!(serde_json::to_string(&row).is_ok());
    }
}

/// The verifier key of the log that the seeds of `proof` come from.
pub const VERIFIER_KEY: &str = include_str!("verifier.key");

/// A proof and the leaf that it is for, and the checkpoint in it.
pub fn proof(bytes: &[u8]) {
    let text = String::from_utf8_lossy(bytes);
    let (proof, leaf) = text.rsplit_once("\n---\n").unwrap_or((&text, ""));
    let key = VERIFIER_KEY.trim();
    if let Ok(proven) = ledger::verify_proof(proof, leaf.as_bytes(), key) {
        assert!(proven.index < proven.head.size);
        assert!(Leaf::decode(leaf.as_bytes()).is_ok_and(|l| l.index == proven.index), "a forged leaf was proven");
    }
    let _ = ledger::verify_checkpoint(proof, key);
    // And a key as somebody may have typed it.
    let _ = ledger::verify_checkpoint(proof, leaf);
}

/// An entry of the store: its key, a line end, its JSON.
pub fn stored(bytes: &[u8]) {
    let text = String::from_utf8_lossy(bytes);
    let (key, json) = text.split_once('\n').unwrap_or((&text, ""));
    static EMPTY: OnceLock<Arc<policy::Table>> = OnceLock::new();
    let table = EMPTY.get_or_init(|| {
        let facts = policy::Facts::empty(HouseholdId::new("home").unwrap());
        Arc::new(policy::compile(&facts, &[], None, Timestamp::default()).unwrap())
    });
    let mut state = GateState::new(TimeZone::UTC, Arc::clone(table));
    if let Ok(grant) = serde_json::from_str::<policy::Grant>(json) {
        // No id can end its string: one policy, of this grant.
        assert_eq!(grant.policy_text().matches("permit (").count(), 1);
        assert_eq!(grant.policy_text().matches(';').count(), 1);
    }
    if let Ok(link) = serde_json::from_str::<Link>(json) {
        state.links.insert(link);
    }
    if let Ok(device) = serde_json::from_str::<home::Registered>(json) {
        state.registry.restore(DeviceId::new("d").unwrap(), device);
    }
    state.restore(key, json);
    let facts = state.facts(HouseholdId::new("home").unwrap(), |_| false);
    assert!(facts.devices.len() <= 1 && facts.links.len() <= 1);
}

/// A body as it lies packed beside the tree.
pub fn body(bytes: &[u8]) {
    if let Ok(unpacked) = store::ledger::unpack(bytes) {
        assert!(unpacked.len() <= ledger::limits::BODY_MAX_BYTES + 1, "{}", unpacked.len());
    }
}
