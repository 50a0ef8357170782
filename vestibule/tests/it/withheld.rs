//! Withheld data can't change the wire, of the real process: two hubs that begin with the same data directory live through
//! different days, and a partner that asks both the same gets the same bytes. Captured at the socket.
//!
//! Every pair comes from its seed. `VESTIBULE_FORM=full` lives through 200 pairs.

use std::collections::BTreeMap;
use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use model::Timestamp;
use serde_json::{Value, json};
use testkit::latency::Latencies;

use crate::harness::{Hub, Mosquitto, PATIENCE, get, publish};

/// Pairs of the short form, and of the full one.
const PAIRS: (u64, u64) = (12, 200);

/// Directives in one pair.
const MOVES: u64 = 10;

/// Answers measured of each sort.
const MEASURED: usize = 150;

/// So many milliseconds before the hour nothing that is held may differ, lest it differ at the tick.
const NEAR_TICK_MS: i64 = 5 * 60_000;

/// A hub's clock looks at the wall clock once in a while; on a busy machine it may be beside it by so much. Between what
/// happens in the homes and the partner's moves lies more, so that the time of a reading is not taken for that of a move.
const SKEW_MS: i64 = 250;

const HOUR_MS: i64 = 3_600_000;

struct Dice(u64);

impl Dice {
    fn roll(&mut self, sides: u64) -> u64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % sides
    }
}

#[expect(clippy::disallowed_methods, reason = "the hub under test has the wall clock too")]
fn now_ms() -> i64 {
    i64::try_from(SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_millis()).unwrap()
}

#[expect(clippy::disallowed_methods, reason = "measures")]
fn instant() -> Instant {
    Instant::now()
}

/// A partner's connection, as bytes.
struct Wire {
    stream: TcpStream,
    /// Times that this hub has shown for what the partner did itself, by the number of the move.
    own: BTreeMap<String, String>,
}

/// What came, to be compared.
struct Answer {
    head: String,
    body: Value,
    raw: String,
    took: Duration,
}

impl Wire {
    fn open(base: &str) -> Self {
        let stream = TcpStream::connect(base.trim_start_matches("http://")).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        stream.set_nodelay(true).unwrap();
        Wire { stream, own: BTreeMap::new() }
    }

    fn ask(&mut self, body: &str) -> Answer {
        let started = instant();
        let request = format!(
            "POST /alexa/v3/directives HTTP/1.1\r\nHost: h\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\r\n{body}",
            body.len()
        );
        self.stream.write_all(request.as_bytes()).unwrap();
        let mut bytes = Vec::new();
        let mut buffer = [0u8; 65_536];
        loop {
            let n = self.stream.read(&mut buffer).unwrap();
            assert!(n > 0, "the hub hung up");
            bytes.extend_from_slice(&buffer[..n]);
            let text = String::from_utf8_lossy(&bytes);
            let Some((head, body)) = text.split_once("\r\n\r\n") else { continue };
            let length =
                head.lines().find_map(|l| l.to_ascii_lowercase().strip_prefix("content-length: ").map(str::to_owned));
            let length: usize = length.expect("a length").parse().unwrap();
            if body.len() < length {
                continue;
            }
            let took = started.elapsed();
            assert_eq!(body.len(), length, "more than one answer: {text}");
            // The date is the public clock's.
            let head = head.lines().filter(|l| !l.starts_with("date: ")).collect::<Vec<_>>().join("\n");
            return Answer { head, body: serde_json::from_str(body).unwrap(), raw: body.to_owned(), took };
        }
    }

    /// Nothing has come unasked, and the connection stands.
    fn is_quiet(&mut self) -> bool {
        self.stream.set_nonblocking(true).unwrap();
        let quiet = matches!(self.stream.read(&mut [0u8; 1]), Err(e) if e.kind() == std::io::ErrorKind::WouldBlock);
        self.stream.set_nonblocking(false).unwrap();
        quiet
    }

    /// The answer without what two hubs can't have in common: the random id, and the very millisecond of this move.
    fn comparable(&mut self, answer: &Answer, asked: (i64, i64), number: u64) -> String {
        let mut text = answer.raw.clone();
        let id = answer.body["event"]["header"]["messageId"].as_str().unwrap().to_owned();
        assert_eq!(id.len(), 36);
        text = text.replace(&id, "ID");
        for p in answer.body["context"]["properties"].as_array().into_iter().flatten() {
            let time = p["timeOfSample"].as_str().unwrap();
            let ms = time.parse::<jiff::Timestamp>().unwrap().as_millisecond();
            if ms % HOUR_MS != 0 && (asked.0 - SKEW_MS..=asked.1 + SKEW_MS).contains(&ms) {
                // Named when it is first seen: on a slow machine it is near a later move, too.
                self.own.entry(time.to_owned()).or_insert_with(|| format!("MOVE{number:06}-------------"));
            }
        }
        // Each of the tokens is as long as a time, so that lengths are compared too.
        for (time, token) in &self.own {
            text = text.replace(time, token);
        }
        text
    }
}

/// A home; `n` tells apart what nobody may know.
fn announce(port: u16, n: u64) {
    let device = format!(r#""dev":{{"ids":["trv"],"name":"Trv","mf":"Maker {n}","mdl":"Model {n}","sw":"{n}"}}"#);
    publish(
        port,
        "homeassistant/climate/trv/config",
        &format!(
            r#"{{"name":null,"uniq_id":"trv",{device},"temp_unit":"C","modes":["off","heat"],"mode_stat_t":"t/mode",
            "mode_cmd_t":"t/mode/set","temp_stat_t":"t/sp","temp_cmd_t":"t/sp/set","min_temp":5,"max_temp":30,
            "curr_temp_t":"t/temp","avty_t":"t/avty"}}"#
        ),
    );
    publish(
        port,
        "homeassistant/device/door/config",
        &format!(
            r#"{{"dev":{{"ids":"door","name":"Door","sw":"{n}"}},"o":{{"name":"test"}},"cmps":{{
            "lock":{{"p":"lock","uniq_id":"door_lock","cmd_t":"d/lock/set","stat_t":"d/lock"}},
            "contact":{{"p":"binary_sensor","dev_cla":"door","uniq_id":"door_contact","stat_t":"d/open"}},
            "rh":{{"p":"sensor","dev_cla":"humidity","unit_of_meas":"%","uniq_id":"door_rh","stat_t":"d/rh"}}}}}}"#
        ),
    );
}

/// Waits until the hub has taken in everything that was published before: the humidity comes last.
fn settle(hub: &Hub, port: u16, mark: u64) {
    let hundredths = 1_000 + mark % 8_000;
    publish(port, "d/rh", &format!("{}.{:02}", hundredths / 100, hundredths % 100));
    hub.wait_until(&["devices"], |d| {
        let all = d["devices"]
            .as_array()
            .into_iter()
            .flatten()
            .flat_map(|d| d["properties"].as_array().into_iter().flatten());
        all.into_iter().any(|p| p["property"] == "relative_humidity" && p["value"]["value"] == json!(hundredths))
    });
}

/// What happens in one of the homes. What is held on the hour may differ between the hours.
fn live(port: u16, dice: &mut Dice, freely: bool) {
    for _ in 0..2 + dice.roll(3) {
        match dice.roll(9) {
            // In the bucket of 21 °C.
            0 => publish(port, "t/temp", &format!("{}", 20.5 + dice.roll(90) as f64 / 100.0)),
            1 if freely => publish(port, "t/temp", &format!("{}", 15 + dice.roll(15))),
            2 if freely => publish(port, "t/sp", &format!("{}", 10 + dice.roll(15))),
            3 if freely => publish(port, "t/mode", ["off", "heat"][dice.roll(2) as usize]),
            4 => publish(port, "d/lock", ["LOCKED", "UNLOCKED"][dice.roll(2) as usize]),
            5 => publish(port, "d/open", ["ON", "OFF"][dice.roll(2) as usize]),
            6 if freely => publish(port, "t/avty", ["online", "offline"][dice.roll(2) as usize]),
            7 => announce(port, dice.roll(50)),
            // Devices that nobody granted come, and go.
            8 => {
                let (n, goes) = (dice.roll(3), dice.roll(3) == 0);
                let here = format!(
                    r#"{{"name":"More","uniq_id":"more{n}","stat_t":"m/s","cmd_t":"m/c","dev":{{"ids":["more{n}"],"name":"More"}}}}"#
                );
                let payload = if goes { String::new() } else { here };
                publish(port, &format!("homeassistant/switch/more{n}/config"), &payload);
            }
            _ => publish(port, "d/rh", &format!("{}", dice.roll(100))),
        }
    }
}

/// What is held on the hour, equal in both homes.
fn agree(port: u16) {
    for (topic, payload) in [("t/temp", "21.1"), ("t/sp", "20"), ("t/mode", "heat"), ("t/avty", "online")] {
        publish(port, topic, payload);
    }
}

fn copy(from: &std::path::Path, to: &std::path::Path) {
    std::fs::create_dir_all(to).unwrap();
    for entry in std::fs::read_dir(from).unwrap().map(Result::unwrap) {
        let target = to.join(entry.file_name());
        match entry.file_type().unwrap() {
            kind if kind.is_dir() => copy(&entry.path(), &target),
            kind if kind.is_file() => drop(std::fs::copy(entry.path(), target).unwrap()),
            _ => {}
        }
    }
}

/// One move of the partner: by the dice, which all that it was told is in.
fn turn(dice: &mut Dice, token: &str, endpoints: &[String]) -> String {
    let endpoint = match endpoints.len() {
        0 => "0123456789abcdef0123456789abcdef",
        n if dice.roll(12) > 0 => &endpoints[dice.roll(n as u64) as usize],
        _ => "0123456789abcdef0123456789abcdef",
    };
    let degrees = |n: f64| json!({"value": n, "scale": "CELSIUS"});
    let thermostat = "Alexa.ThermostatController";
    let (namespace, name, payload) = match dice.roll(12) {
        _ if endpoints.is_empty() => ("Alexa.Discovery", "Discover", json!({})),
        0 => ("Alexa.Discovery", "Discover", json!({})),
        1 => (thermostat, "SetTargetTemperature", json!({"targetSetpoint": degrees(18.0 + dice.roll(8) as f64)})),
        2 => (thermostat, "SetTargetTemperature", json!({"targetSetpoint": degrees(99.0)})),
        3 => (thermostat, "AdjustTargetTemperature", json!({"targetSetpointDelta": degrees(0.0)})),
        4 => {
            (thermostat, "AdjustTargetTemperature", json!({"targetSetpointDelta": degrees(dice.roll(9) as f64 - 4.0)}))
        }
        5 => (
            thermostat,
            "SetThermostatMode",
            json!({"thermostatMode": {"value": (["HEAT", "OFF", "COOL"][dice.roll(3) as usize])}}),
        ),
        6 => ("Alexa.LockController", ["Lock", "Unlock"][dice.roll(2) as usize], json!({})),
        7 => ("Alexa.PowerController", "TurnOn", json!({})),
        _ => ("Alexa", "ReportState", json!({})),
    };
    testkit::directive(namespace, name, endpoint, token, payload).to_string()
}

struct Pair {
    brokers: [Mosquitto; 2],
    hubs: Vec<Hub>,
    /// Tokens by profile.
    tokens: Vec<(&'static str, String)>,
    dir: tempfile::TempDir,
}

/// Two hubs that have lived the same until now.
fn begin() -> Pair {
    let brokers = [Mosquitto::start(), Mosquitto::start()];
    for broker in &brokers {
        announce(broker.port, 0);
        agree(broker.port);
    }
    let dir = tempfile::tempdir().unwrap();
    let paths = [dir.path().join("one"), dir.path().join("other")];
    let mut first = Hub::start(&paths[0], &brokers[0].url());
    first.wait_until(&["devices"], |d| {
        let text = d.to_string();
        ["21.1 °C", "20 °C", "reachable", "lock_state"].iter().all(|w| text.contains(w))
    });
    settle(&first, brokers[0].port, 1);
    let token = |profile| first.cli(&["link", "alexa", "--profile", profile, "--print-token"]).trim().to_owned();
    let tokens = ["commands-only", "glance", "everything"].map(|profile| (profile, token(profile))).into();
    first.process.signal("TERM");
    first.process.child.wait().unwrap();
    copy(&paths[0], &paths[1]);
    let hubs = vec![Hub::start(&paths[0], &brokers[0].url()), Hub::start(&paths[1], &brokers[1].url())];
    let pair = Pair { brokers, hubs, tokens, dir };
    pair.settle(2);
    pair
}

impl Pair {
    fn settle(&self, mark: u64) {
        for (hub, broker) in self.hubs.iter().zip(&self.brokers) {
            settle(hub, broker.port, mark);
        }
    }

    fn wires(&self) -> [Wire; 2] {
        [Wire::open(&self.hubs[0].partners), Wire::open(&self.hubs[1].partners)]
    }

    fn healthy(&self, wanted: u16) {
        for hub in &self.hubs {
            hub.wait_until(&["links"], |_| get(&format!("{}/healthz", hub.console)).0 == wanted);
        }
    }

    fn lose_brokers(&mut self) {
        self.brokers.iter_mut().for_each(Mosquitto::kill);
        self.healthy(503);
    }

    /// They have forgotten everything; devices speak again.
    fn find_brokers(&mut self) {
        self.brokers.iter_mut().for_each(Mosquitto::again);
        self.healthy(200);
        self.brokers.iter().for_each(|broker| announce(broker.port, 0));
    }

    fn restart(&mut self, how: &str) {
        for n in 0..2 {
            self.hubs[n].process.signal(how);
            self.hubs[n].process.child.wait().unwrap();
            let data = self.dir.path().join(["one", "other"][n]);
            self.hubs[n] = Hub::start(&data, &self.brokers[n].url());
        }
    }
}

#[test]
fn two_real_hubs_with_other_days_behind_them_send_the_same() {
    let pairs = if std::env::var("VESTIBULE_FORM").is_ok_and(|f| f == "full") { PAIRS.1 } else { PAIRS.0 };
    let mut pair = begin();
    let mut wires: BTreeMap<&str, [Wire; 2]> = BTreeMap::new();
    let (mut compared, mut bytes, mut told_away) = (0u64, 0usize, 0u64);
    for seed in 0..pairs {
        let mut dice = [Dice(seed * 3 + 1), Dice(seed * 3 + 2), Dice(seed * 3 + 3)];
        let fault = match seed % 6 {
            5 => "broker away",
            2 => "restart",
            3 => "killed",
            4 => "grants edited",
            _ => "none",
        };
        match fault {
            "restart" => pair.restart("TERM"),
            "killed" => pair.restart("KILL"),
            "grants edited" => {
                for hub in &pair.hubs {
                    // A profile grants the devices that there are: those that are in one home alone are sent away first.
                    let devices = hub.cli_json(&["devices"]);
                    let ids = devices["devices"].as_array().unwrap().iter().filter_map(|d| d["id"].as_str());
                    for id in ids.filter(|id| id.contains("more")) {
                        hub.cli(&["devices", "forget", id]);
                    }
                    let links = hub.cli_json(&["links"]);
                    let all = links.as_array().unwrap();
                    let id = all.iter().find(|l| l["profile"] == "commands-only").unwrap()["id"].as_str().unwrap();
                    // By turns the lock is taken back, and granted again.
                    let granted = || hub.cli_json(&["grant", "list", "--link", id]).as_array().unwrap().clone();
                    let before = granted();
                    let named: Vec<&str> = before
                        .iter()
                        .filter(|g| g["property"] == "lock_state")
                        .filter_map(|g| g["id"].as_str())
                        .collect();
                    match named.is_empty() {
                        true => drop(hub.cli(&["profile", "apply", id])),
                        false => drop(hub.cli(&[&["grant", "revoke"][..], &named].concat())),
                    }
                    assert_ne!(granted().len(), before.len(), "an edit that edits nothing");
                }
            }
            _ => {}
        }
        let freely = HOUR_MS - now_ms().rem_euclid(HOUR_MS) > NEAR_TICK_MS;
        for (broker, dice) in pair.brokers.iter().zip(&mut dice) {
            live(broker.port, dice, freely);
        }
        pair.settle(100 + seed * 2);
        let settled = now_ms();
        while now_ms() <= settled + SKEW_MS {
            std::thread::sleep(Duration::from_millis(10));
        }
        if fault == "broker away" {
            pair.lose_brokers();
        }
        // By turns with each fault.
        let (profile, token) = pair.tokens[((seed + seed / 6) % 2) as usize].clone();
        let [one, other] = wires.entry(profile).or_insert_with(|| pair.wires());
        // A connection that idles is closed by the hub after a while. What was told over one still holds on the next.
        let [again_one, again_other] = pair.wires();
        (one.stream, other.stream) = (again_one.stream, again_other.stream);
        let mut endpoints: Vec<String> = Vec::new();
        for number in 0..MOVES {
            let body = turn(&mut dice[2], &token, &endpoints);
            let (a, b, asked) = loop {
                let from = now_ms();
                let (a, b) = (one.ask(&body), other.ask(&body));
                let until = now_ms();
                // The hour struck between the two: what is public differed. Ask again.
                if from / HOUR_MS == until / HOUR_MS {
                    break (a, b, (from, until));
                }
            };
            let id = seed * MOVES + number;
            let (x, y) = (one.comparable(&a, asked, id), other.comparable(&b, asked, id));
            assert_eq!((&a.head, &x), (&b.head, &y), "seed {seed}, move {number}, {profile}, fault {fault}: {body}");
            assert!(one.is_quiet() && other.is_quiet(), "seed {seed}: something came unasked");
            if let Some(found) = a.body["event"]["payload"]["endpoints"].as_array() {
                endpoints = found.iter().filter_map(|e| e["endpointId"].as_str().map(str::to_owned)).collect();
            }
            dice[2].0 ^= x.bytes().fold(0u64, |h, b| h.rotate_left(5) ^ u64::from(b));
            told_away += u64::from(a.body["event"]["payload"]["type"] == "BRIDGE_UNREACHABLE");
            compared += 1;
            bytes += a.raw.len();
        }
        if fault == "broker away" {
            pair.find_brokers();
        }
        for n in 0..2 {
            agree(pair.brokers[n].port);
        }
        pair.settle(101 + seed * 2);
    }
    println!("{pairs} pairs of real hubs: {compared} answers, {bytes} bytes each, all the same");
    assert!(compared == pairs * MOVES && bytes > 1000 && told_away > 0);
    // The two homes did differ: a link that is told everything sees it.
    let times = |hub: &Hub| -> Vec<String> {
        let all = hub.cli_json(&["devices"]);
        let properties =
            all["devices"].as_array().unwrap().iter().flat_map(|d| d["properties"].as_array().unwrap().clone());
        properties.map(|p| format!("{} {} {}", p["property"], p["value"], p["time"])).collect()
    };
    assert_ne!(times(&pair.hubs[0]), times(&pair.hubs[1]));
    let dated = Timestamp::from_millis(now_ms()).to_rfc3339();
    println!("{}", latency(&pair, &dated));
}

/// Answer times of the same question where it is withheld and where it is allowed, and of the same question to two homes. All
/// are asked in turns, so that what else the machine does is in all of them.
fn latency(pair: &Pair, dated: &str) -> String {
    let begin = |hub: &Hub, profile: &str| {
        let token = &pair.tokens.iter().find(|(p, _)| *p == profile).unwrap().1;
        let mut wire = Wire::open(&hub.partners);
        let found = wire.ask(&testkit::directive("Alexa.Discovery", "Discover", "", token, json!({})).to_string());
        let all = found.body["event"]["payload"]["endpoints"].as_array().unwrap().clone();
        let thermostat = all.iter().find(|e| e["displayCategories"][0] == "THERMOSTAT").expect("a thermostat");
        let id = thermostat["endpointId"].as_str().unwrap();
        (wire, testkit::directive("Alexa", "ReportState", id, token, json!({})).to_string(), Vec::new())
    };
    let [one, other] = [&pair.hubs[0], &pair.hubs[1]];
    let sorts = [(one, "commands-only"), (one, "everything"), (one, "commands-only"), (other, "commands-only")];
    let mut all = sorts.map(|(hub, profile)| begin(hub, profile));
    for n in 0..=MEASURED {
        // Whoever comes first is another one each time.
        for k in 0..all.len() {
            let (wire, question, took) = &mut all[(n + k) % sorts.len()];
            let answer = wire.ask(question);
            if n > 0 {
                took.push(answer.took);
            }
        }
    }
    let [withheld, allowed, again, home] = all.map(|(_, _, took)| Latencies::new(took));
    let row = |(a, x, b, y): (&str, &Latencies, &str, &Latencies)| {
        let (distance, chance) = (x.distance(y), x.chance(y));
        let (x, y) = (x.summary(), y.summary());
        format!("{a:15}{x}\n{b:15}{y}\n  KS distance {distance:.3} (by chance up to {chance:.3})\n")
    };
    let rows = [
        row(("withheld", &withheld, "allowed", &allowed)),
        row(("withheld", &withheld, "withheld again", &again)),
        row(("one home", &withheld, "another home", &home)),
    ];
    format!("ReportState, {dated}:\n{}", rows.concat())
}
