//! The record is complete: what was captured at the socket is what the ledger says, body for body, whatever was sent.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use serde_json::{Value, json};
use testkit::directive;

use crate::harness::{Hub, Mosquitto, Random, full, sha256, thermostats};
use crate::wire::{Answer, Wire, post, post_chunked};

/// Messages sent.
fn messages() -> usize {
    if full() { 110_000 } else { 3_000 }
}

/// Connections at once.
const WORKERS: usize = 24;

/// Thermostats in the home.
const DEVICES: usize = 6;

/// A partner's access to the home.
#[derive(Clone)]
struct Link {
    id: String,
    token: String,
    endpoints: Vec<String>,
}

/// Everything captured.
#[derive(Default)]
struct Captured {
    /// Hashes of the bodies that came whole, by link, and how often.
    told: BTreeMap<(String, String), usize>,
    /// Messages of a link whose sender hung up before its answer was whole.
    hung_up: BTreeMap<String, usize>,
    /// Answers to strangers.
    constants: BTreeMap<Vec<u8>, usize>,
    /// What HTTP itself refused, before any route: an answer without a body.
    bare: BTreeMap<u16, usize>,
    faults: Vec<String>,
}

/// Who a message was from, as the hub must see it.
#[derive(Clone, Copy)]
enum From<'a> {
    Link(&'a Link),
    Stranger,
}

struct Load {
    base: String,
    links: Vec<Link>,
    captured: Mutex<Captured>,
    left: AtomicUsize,
}

impl Load {
    fn took(&self, from: From<'_>, answer: &Answer, sent: &str) {
        let mut captured = self.captured.lock().unwrap();
        let constant = alexa::constants::ALL.contains(&answer.body.as_slice());
        match from {
            From::Link(link) if answer.status == 200 && !constant => {
                *captured.told.entry((link.id.clone(), sha256(&answer.body))).or_default() += 1;
            }
            From::Stranger if constant => *captured.constants.entry(answer.body.clone()).or_default() += 1,
            From::Stranger if answer.body.is_empty() && [400, 431].contains(&answer.status) => {
                *captured.bare.entry(answer.status).or_default() += 1;
            }
            _ => {
                let text = String::from_utf8_lossy(&answer.body).into_owned();
                captured.faults.push(format!("{sent}: {} {text}", answer.status));
            }
        }
    }

    /// No answer came, and the sender had not hung up.
    fn lost(&self, sent: &str) {
        self.captured.lock().unwrap().faults.push(format!("{sent}: no answer"));
    }

    async fn work(&self, seed: u64) {
        let mut random = Random::new(seed);
        let mut wire = Wire::connect(&self.base).await.unwrap();
        while self.left.fetch_update(Ordering::SeqCst, Ordering::SeqCst, |n| n.checked_sub(1)).is_ok() {
            let link = &self.links[random.below(self.links.len())];
            // Those that end a connection get one of their own, so that the long-lived ones stay.
            match random.below(100) {
                0..70 => self.talk(&mut wire, link, &mut random).await,
                70..80 => self.slow(link, &mut random).await,
                80..90 => self.hang_up(link, &mut random).await,
                _ => self.break_http(&mut random).await,
            }
        }
    }

    /// A message on a connection that stays.
    async fn talk(&self, wire: &mut Wire, link: &Link, random: &mut Random) {
        // Whoever says nothing for as long as a header may take is cut off, and may find that out with its next message: a
        // client takes a new connection then. This one waited elsewhere for what is cut off, too.
        if wire.quiet() > egress::HEADER_READ_TIMEOUT / 2 {
            *wire = Wire::connect(&self.base).await.unwrap();
        }
        let (from, bytes, sent) = match random.below(20) {
            0..9 => (From::Link(link), right(link, random), "right"),
            9..13 => (From::Link(link), wrong(link, random), "wrong"),
            13 => (From::Link(link), post(&padded(link, 100 * 1024, random), ""), "large"),
            // The hub ends a connection after a request in chunks: it gets one of its own.
            14 => {
                let bytes = post_chunked(&body(link, random), 1 + random.below(99));
                let Ok(mut own) = Wire::connect(&self.base).await else { return self.lost("in chunks") };
                match (own.write(&bytes).await, own.answer().await) {
                    (Ok(()), Some(answer)) => self.took(From::Link(link), &answer, "in chunks"),
                    _ => self.lost("in chunks"),
                }
                return;
            }
            15 => {
                let more = format!("Authorization: Bearer {}\r\n", link.token);
                (From::Link(link), post(&body(link, random), &more), "with the header too")
            }
            16..18 => (From::Stranger, stranger(link, random), "stranger"),
            18 => (From::Stranger, post(malformed(random), ""), "malformed"),
            // Three at once, the answers in their order.
            _ => {
                let [first, third] = [right(link, random), wrong(link, random)];
                let all = [first, stranger(link, random), third].concat();
                if wire.write(&all).await.is_err() {
                    self.lost("three at once");
                }
                for from in [From::Link(link), From::Stranger, From::Link(link)] {
                    match wire.answer().await {
                        Some(answer) => self.took(from, &answer, "one of three at once"),
                        None => self.lost("one of three at once"),
                    }
                }
                return;
            }
        };
        match (wire.write(&bytes).await, wire.answer().await) {
            (Ok(()), Some(answer)) => self.took(from, &answer, sent),
            _ => {
                self.lost(sent);
                *wire = Wire::connect(&self.base).await.unwrap();
            }
        }
    }

    async fn slow(&self, link: &Link, random: &mut Random) {
        let mut wire = Wire::connect(&self.base).await.unwrap();
        let (from, bytes) = match random.below(3) {
            0 => (From::Stranger, stranger(link, random)),
            1 => (From::Link(link), post_chunked(&body(link, random), 7)),
            _ => (From::Link(link), right(link, random)),
        };
        let _ = wire.dribble(&bytes, 4 + random.below(20)).await;
        match wire.answer().await {
            Some(answer) => self.took(from, &answer, "slow"),
            None => self.lost("slow"),
        }
    }

    /// A sender that is gone before it has its answer: while it writes, while it waits, while it reads.
    async fn hang_up(&self, link: &Link, random: &mut Random) {
        let mut wire = Wire::connect(&self.base).await.unwrap();
        let bytes = right(link, random);
        let part = match random.below(4) {
            0 => random.below(bytes.len()),
            _ => bytes.len(),
        };
        wire.write(&bytes[..part]).await.unwrap();
        if random.below(2) == 0 && part == bytes.len() {
            // Every answer is longer than this.
            wire.at_least(1 + random.below(400)).await;
        }
        *self.captured.lock().unwrap().hung_up.entry(link.id.clone()).or_default() += 1;
    }

    async fn break_http(&self, random: &mut Random) {
        let mut wire = Wire::connect(&self.base).await.unwrap();
        let huge = vec![b' '; 140 * 1024];
        let bytes = match random.below(8) {
            0 => b"GET /alexa/v3/directives HTTP/1.1\r\nHost: hub\r\n\r\n".to_vec(),
            1 => b"DELETE /alexa/v3/directives HTTP/1.1\r\nHost: hub\r\n\r\n".to_vec(),
            2 => b"GET /metrics HTTP/1.1\r\nHost: hub\r\n\r\n".to_vec(),
            3 => b"POST /alexa/v3/directives/../../api/overview HTTP/1.1\r\nHost: hub\r\nContent-Length: 0\r\n\r\n"
                .to_vec(),
            4 => b"\x16\x03\x01 this is no HTTP\r\n\r\n".to_vec(),
            5 => format!("GET / HTTP/1.1\r\nHost: hub\r\nX: {}\r\n\r\n", "x".repeat(1 << 20)).into_bytes(),
            6 => post(&huge, "Expect: 100-continue\r\n"),
            _ => post_chunked(&huge, 4096),
        };
        // Whoever says too much may be cut off before it has said it all: then its answer may be lost with it.
        let cut = wire.write(&bytes).await.is_err();
        match wire.answer().await {
            Some(answer) => self.took(From::Stranger, &answer, "broken HTTP"),
            None if cut || bytes.len() > 100_000 => {}
            None => self.lost("broken HTTP"),
        }
    }
}

fn body(link: &Link, random: &mut Random) -> Vec<u8> {
    let endpoint = &link.endpoints[random.below(link.endpoints.len())];
    let json = match random.below(20) {
        0 => directive("Alexa.Discovery", "Discover", "", &link.token, json!({})),
        1 => directive("Alexa.Authorization", "AcceptGrant", "", &link.token, json!({})),
        2..5 => {
            let half = u32::try_from(random.below(20)).unwrap();
            let payload = json!({"targetSetpoint": {"value": 15.0 + f64::from(half) / 2.0, "scale": "CELSIUS"}});
            directive("Alexa.ThermostatController", "SetTargetTemperature", endpoint, &link.token, payload)
        }
        _ => directive("Alexa", "ReportState", endpoint, &link.token, json!({})),
    };
    json.to_string().into_bytes()
}

fn right(link: &Link, random: &mut Random) -> Vec<u8> {
    post(&body(link, random), "")
}

/// What a linked partner says wrongly: it still gets an answer of its own, and that is on the record.
fn wrong(link: &Link, random: &mut Random) -> Vec<u8> {
    let endpoint = &link.endpoints[random.below(link.endpoints.len())];
    let set = |payload| directive("Alexa.ThermostatController", "SetTargetTemperature", endpoint, &link.token, payload);
    let json = match random.below(7) {
        0 => directive("Alexa", "ReportState", "ffffffffffffffffffffffffffffffff", &link.token, json!({})),
        1 => directive("Alexa", "ReportState", "\u{0}../../\u{202e}", &link.token, json!({})),
        2 => directive("Alexa.Nonsense", "Frobnicate", endpoint, &link.token, json!([1, {"a": null}])),
        3 => set(json!({"targetSetpoint": {"value": 90.0, "scale": "CELSIUS"}})),
        4 => set(json!({"targetSetpoint": {"value": "warm", "scale": "CELSIUS"}})),
        5 => set(json!({"targetSetpoint": {"value": 1e308, "scale": "KELVIN"}})),
        _ => directive("Alexa.PowerController", "TurnOn", endpoint, &link.token, json!({})),
    };
    post(json.to_string().as_bytes(), "")
}

/// A right directive that is large, and still within the limit.
fn padded(link: &Link, bytes: usize, random: &mut Random) -> Vec<u8> {
    let mut json: Value = serde_json::from_slice(&body(link, random)).unwrap();
    json["directive"]["payload"]["padding"] = json!("x".repeat(bytes));
    json.to_string().into_bytes()
}

fn stranger(link: &Link, random: &mut Random) -> Vec<u8> {
    let mut bad = link.token.clone();
    bad.pop();
    let endpoint = link.endpoints[0].as_str();
    let ask = |token: &str| directive("Alexa", "ReportState", endpoint, token, json!({})).to_string();
    match random.below(7) {
        0 => post(directive("Alexa.Discovery", "Discover", "", &bad, json!({})).to_string().as_bytes(), ""),
        1 => post(directive("Alexa.Authorization", "AcceptGrant", "", &bad, json!({})).to_string().as_bytes(), ""),
        2 => post(ask(&bad).as_bytes(), ""),
        3 => post(ask("").as_bytes(), ""),
        4 => post(ask(&"x".repeat(9000)).as_bytes(), ""),
        // The right token in the body and another one, or none at all, in the header.
        5 => post(ask(&link.token).as_bytes(), "Authorization: Bearer vst_other\r\n"),
        _ => post(ask(&link.token).as_bytes(), "Authorization: Basic\r\n"),
    }
}

fn malformed(random: &mut Random) -> &'static [u8] {
    let all: [&[u8]; 8] = [
        b"",
        b"{",
        b"[]",
        b"null",
        b"{\"directive\":{}}",
        b"{\"directive\":{\"header\":7}}",
        b"\xff\xfe\x00",
        b"{\"directive\":{\"header\":{\"namespace\":\"Alexa\"",
    ];
    all[random.below(all.len())]
}

async fn discover(base: &str, id: String, token: String, seed: &mut Captured) -> Link {
    let mut wire = Wire::connect(base).await.unwrap();
    let ask = directive("Alexa.Discovery", "Discover", "", &token, json!({})).to_string();
    wire.write(&post(ask.as_bytes(), "")).await.unwrap();
    let answer = wire.answer().await.unwrap();
    seed.told.insert((id.clone(), sha256(&answer.body)), 1);
    let json: Value = serde_json::from_slice(&answer.body).unwrap();
    let found = json["event"]["payload"]["endpoints"].as_array().unwrap();
    let endpoints: Vec<String> = found.iter().map(|e| e["endpointId"].as_str().unwrap().to_owned()).collect();
    assert_eq!(endpoints.len(), DEVICES);
    Link { id, token, endpoints }
}

#[test]
fn bodies_captured_at_the_socket_are_the_ledgers_one_for_one() {
    let mosquitto = Mosquitto::start();
    thermostats(mosquitto.port, DEVICES);
    let dir = tempfile::tempdir().unwrap();
    let mut hub = Hub::start(&dir.path().join("data"), &mosquitto.url());
    hub.wait_until(&["devices"], |d| d["devices"].as_array().is_some_and(|a| a.len() == DEVICES));
    let mut captured = Captured::default();
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    let links = ["everything", "glance", "commands-only"].map(|profile| {
        let token = hub.cli(&["link", "alexa", "--profile", profile, "--print-token"]).trim().to_owned();
        let links = hub.cli_json(&["links"]);
        let mine = links.as_array().unwrap().iter().find(|l| l["profile"] == profile).unwrap();
        let id = mine["id"].as_str().unwrap().to_owned();
        runtime.block_on(discover(&hub.partners, id, token, &mut captured))
    });
    let load = Arc::new(Load {
        base: hub.partners.clone(),
        links: links.to_vec(),
        captured: Mutex::new(captured),
        left: AtomicUsize::new(messages()),
    });
    runtime.block_on(async {
        let workers: Vec<_> = (0..WORKERS)
            .map(|seed| {
                let load = Arc::clone(&load);
                tokio::spawn(async move { load.work(seed as u64).await })
            })
            .collect();
        for worker in workers {
            worker.await.unwrap();
        }
    });

    let captured = load.captured.lock().unwrap();
    assert!(captured.faults.is_empty(), "{} faults: {:?}", captured.faults.len(), captured.faults);
    // Stopped in the ordinary way, so that every outcome is there too.
    hub.stop();
    let rows = hub.ledger();
    let mut kept: BTreeMap<(String, String), usize> = BTreeMap::new();
    let mut intents: BTreeMap<u64, (String, String)> = BTreeMap::new();
    for row in rows.iter().filter(|r| r["type"] == "intent") {
        let key = ["link", "body_sha256"].map(|k| row[k].as_str().unwrap().to_owned());
        let key: (String, String) = key.into();
        *kept.entry(key.clone()).or_default() += 1;
        intents.insert(row["index"].as_u64().unwrap(), key);
    }
    // What came out is recorded, as often as it came, and for that link.
    for (key, times) in &captured.told {
        assert_eq!(kept.get(key), Some(times), "a body captured from {} is not in the ledger", key.0);
    }
    // What is recorded came out, or its receiver had hung up.
    let mut only_kept: BTreeMap<String, usize> = BTreeMap::new();
    for ((link, hash), times) in &kept {
        if !captured.told.contains_key(&(link.clone(), hash.clone())) {
            *only_kept.entry(link.clone()).or_default() += times;
        }
    }
    for (link, recorded) in &only_kept {
        let hung_up = captured.hung_up.get(link).copied().unwrap_or(0);
        assert!(*recorded <= hung_up, "{recorded} intents of {link} without a message, and {hung_up} hung up");
    }
    // What was received whole was sent, by the hub's own word.
    let outcomes: BTreeMap<u64, bool> = rows
        .iter()
        .filter(|r| r["type"] == "outcome")
        .map(|r| (r["intent"].as_u64().unwrap(), r["summary"].as_str().unwrap().contains("sent")))
        .collect();
    for (index, key) in intents.iter().filter(|(_, key)| captured.told.contains_key(*key)) {
        assert_eq!(outcomes.get(index), Some(&true), "intent {index} of {} came whole", key.0);
    }
    // All of it was there: each kind of message, each constant for strangers.
    let told: usize = captured.told.values().sum();
    let sum = |map: &BTreeMap<String, usize>| map.values().sum::<usize>();
    assert!(told > messages() / 2 && sum(&captured.hung_up) > messages() / 20);
    assert!(sum(&only_kept) > 0, "nobody hung up while the hub was answering");
    for constant in alexa::constants::ALL.iter().filter(|c| **c != alexa::constants::UNAVAILABLE) {
        assert!(captured.constants.contains_key(*constant), "{}", String::from_utf8_lossy(constant));
    }
    assert_eq!(captured.bare.keys().copied().collect::<Vec<_>>(), [400, 431]);
    let report = hub.cli_json(&["ledger", "verify"]);
    assert_eq!(report["ok"], true, "{report}");
    println!(
        "{told} bodies captured whole, {} recorded for who hung up ({} did), {} to strangers, {} by HTTP alone",
        sum(&only_kept),
        sum(&captured.hung_up),
        captured.constants.values().sum::<usize>(),
        captured.bare.values().sum::<usize>(),
    );
}
