//! Five promises, of the whole hub and from outside: coarse is never false, asking buys nothing, nothing withheld is among the
//! bytes that leave, a refusal is an answer that hurts nobody and is on record, and losing a partner costs the home nothing.

use std::io::{Read as _, Write as _};
use std::net::TcpStream;

use serde_json::{Value, json};
use testkit::directive;

use crate::harness::{Hub, Mosquitto, PATIENCE, Subscriber, program, publish, replace, sha256};
use crate::wire::post;

/// What devices say of themselves, where they say it, and what the household calls one.
pub const TEXTS: &[&str] = &[
    "Wombat-5823",
    "Maker-Zyx",
    "Model-Qrt-77",
    "SN-KJ4410092",
    "fw-9.87.65",
    "uid-thermo-6612",
    "topic-quoll",
    "uid-door-9934",
    "Numbat-door",
    "uid-extra-7001",
    "Extra-Bilby",
    "Grandpa-3307",
];

/// Readings, round by round: room temperature, humidity, and set point. Each number is unlike any other.
const ROUNDS: [(f64, f64, f64); 3] = [(19.37, 43.21, 17.75), (21.83, 57.94, 18.25), (22.62, 61.18, 16.35)];

fn begin() -> (Mosquitto, Hub, tempfile::TempDir) {
    begin_at(None)
}

/// With a clock that stands, until the file is written anew: `CLOCK` in the directory.
pub fn begin_at(millis: Option<i64>) -> (Mosquitto, Hub, tempfile::TempDir) {
    let mosquitto = Mosquitto::start();
    let port = mosquitto.port;
    let device = format!(
        r#""dev":{{"ids":["{}"],"name":"{}","mf":"{}","mdl":"{}","sn":"{}","sw":"{}"}}"#,
        TEXTS[5], TEXTS[0], TEXTS[1], TEXTS[2], TEXTS[3], TEXTS[4]
    );
    publish(
        port,
        "homeassistant/climate/t/config",
        &format!(
            r#"{{"name":null,"uniq_id":"{}",{device},"~":"{}","modes":["off","heat"],"mode_stat_t":"~/mode",
            "mode_cmd_t":"~/mode/set","temp_stat_t":"~/sp","temp_cmd_t":"~/sp/set","min_temp":5,"max_temp":30,
            "curr_temp_t":"~/temp","temp_unit":"C"}}"#,
            TEXTS[5], TEXTS[6]
        ),
    );
    publish(
        port,
        "homeassistant/device/door/config",
        &format!(
            r#"{{"dev":{{"ids":"{0}","name":"{1}"}},"o":{{"name":"test"}},"cmps":{{
            "lock":{{"p":"lock","uniq_id":"{0}_lock","cmd_t":"d/lock/set","stat_t":"d/lock"}},
            "contact":{{"p":"binary_sensor","dev_cla":"door","uniq_id":"{0}_contact","stat_t":"d/open"}},
            "rh":{{"p":"sensor","dev_cla":"humidity","unit_of_meas":"%","uniq_id":"{0}_rh","stat_t":"d/rh"}}}}}}"#,
            TEXTS[7], TEXTS[8]
        ),
    );
    publish(port, "d/lock", "UNLOCKED");
    publish(port, "d/open", "ON");
    publish(port, &format!("{}/mode", TEXTS[6]), "heat");
    let dir = tempfile::tempdir().unwrap();
    let data = dir.path().join("data");
    let mut command = program();
    command.args(["serve", "--data"]).arg(&data).env("VESTIBULE__MQTT__URL", mosquitto.url());
    command.env("VESTIBULE_FAULTS", dir.path().join(FAULTS));
    if let Some(millis) = millis {
        set_clock(&dir, millis);
        command.env("VESTIBULE_CLOCK", dir.path().join(CLOCK));
    }
    let hub = Hub::spawn(command, &data);
    live(&hub, port, ROUNDS[0]);
    (mosquitto, hub, dir)
}

/// The file that a moved clock is read from.
const CLOCK: &str = "clock";

/// The file of the points at which it fails.
pub const FAULTS: &str = "faults";

pub fn set_clock(dir: &tempfile::TempDir, millis: i64) {
    replace(&dir.path().join(CLOCK), &millis.to_string());
}

/// Arms points at which that hub fails, waits or dies (see the crate `faults`), in place of those before.
pub fn arm(dir: &tempfile::TempDir, plan: &str) {
    replace(&dir.path().join(FAULTS), plan);
}

const MINUTE_MS: i64 = 60_000;

/// Ten past an hour of an afternoon in November 2025.
const TEN_PAST_MS: i64 = 1_764_000_000_000 - 1_764_000_000_000 % (60 * MINUTE_MS) + 10 * MINUTE_MS;

/// What a poll tells of an endpoint of this category: name, value and time of each property.
pub fn state(hub: &Hub, token: &str, category: &str) -> Vec<(String, Value, String)> {
    let id = endpoints(hub, token).into_iter().find(|(_, c)| c == category).unwrap().0;
    let (_, json) = ask(hub, token, REPORT, &id, json!({}));
    let all = json["context"]["properties"].as_array().unwrap().clone();
    let text = |v: &Value| v.as_str().unwrap().to_owned();
    all.iter().map(|p| (text(&p["name"]), p["value"].clone(), text(&p["timeOfSample"]))).collect()
}

pub fn one(all: &[(String, Value, String)], name: &str) -> Option<(Value, String)> {
    all.iter().find(|(n, ..)| n == name).map(|(_, value, time)| (value.clone(), time.clone()))
}

/// One round of readings, until the hub has them.
fn live(hub: &Hub, port: u16, (temperature, humidity, set_point): (f64, f64, f64)) {
    publish(port, &format!("{}/temp", TEXTS[6]), &temperature.to_string());
    publish(port, &format!("{}/sp", TEXTS[6]), &set_point.to_string());
    publish(port, "d/rh", &humidity.to_string());
    let stored = [temperature * 1000.0, humidity * 100.0, set_point * 1000.0].map(|v| format!("\"value\":{v:.0}}}"));
    hub.wait_until(&["devices"], |d| {
        let text = d.to_string();
        stored.iter().all(|v| text.contains(v)) && text.contains("lock_state") && text.contains("contact_open")
    });
}

fn link(hub: &Hub, profile: &str) -> String {
    hub.cli(&["link", "alexa", "--profile", profile, "--print-token"]).trim().to_owned()
}

/// Every byte that comes for these, until the hub hangs up.
fn exchange(hub: &Hub, bytes: &[u8]) -> Vec<u8> {
    let mut stream = TcpStream::connect(hub.partners.trim_start_matches("http://")).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    stream.write_all(bytes).unwrap();
    let mut all = Vec::new();
    stream.read_to_end(&mut all).unwrap();
    all
}

fn body(answer: &[u8]) -> Value {
    let text = String::from_utf8_lossy(answer);
    text.split_once("\r\n\r\n").and_then(|(_, body)| serde_json::from_str(body).ok()).unwrap_or(Value::Null)
}

fn request(directive: &Value) -> Vec<u8> {
    post(directive.to_string().as_bytes(), "Connection: close\r\n")
}

fn ask(hub: &Hub, token: &str, (namespace, name): (&str, &str), endpoint: &str, payload: Value) -> (Vec<u8>, Value) {
    let answer = exchange(hub, &request(&directive(namespace, name, endpoint, token, payload)));
    let json = body(&answer);
    (answer, json)
}

const DISCOVER: (&str, &str) = ("Alexa.Discovery", "Discover");
const REPORT: (&str, &str) = ("Alexa", "ReportState");
const SET: (&str, &str) = ("Alexa.ThermostatController", "SetTargetTemperature");
const ADJUST: (&str, &str) = ("Alexa.ThermostatController", "AdjustTargetTemperature");

fn degrees(celsius: f64) -> Value {
    json!({"targetSetpoint": {"value": celsius, "scale": "CELSIUS"}})
}

/// Endpoint ids of a link, with the display category of each.
fn endpoints(hub: &Hub, token: &str) -> Vec<(String, String)> {
    let (_, json) = ask(hub, token, DISCOVER, "", json!({}));
    let all = json["event"]["payload"]["endpoints"].as_array().unwrap();
    let text = |v: &Value| v.as_str().unwrap().to_owned();
    all.iter().map(|e| (text(&e["endpointId"]), text(&e["displayCategories"][0]))).collect()
}

/// One partner does everything that it can think of, and strangers too; every byte that comes back.
fn everything_asked(hub: &Hub, token: &str) -> Vec<Vec<u8>> {
    let mut all = vec![ask(hub, token, DISCOVER, "", json!({})).0];
    let mut ids: Vec<String> = endpoints(hub, token).into_iter().map(|(id, _)| id).collect();
    ids.push("0123456789abcdef0123456789abcdef".to_owned());
    for id in &ids {
        for (what, payload) in [
            (REPORT, json!({})),
            (SET, degrees(99.0)),
            (
                SET,
                json!({"lowerSetpoint": {"value": 20, "scale": "CELSIUS"}, "upperSetpoint": {"value": 24, "scale": "CELSIUS"}}),
            ),
            (ADJUST, json!({"targetSetpointDelta": {"value": 0.0, "scale": "CELSIUS"}})),
            (ADJUST, json!({"targetSetpointDelta": {"value": 40.0, "scale": "CELSIUS"}})),
            (("Alexa.ThermostatController", "SetThermostatMode"), json!({"thermostatMode": {"value": "COOL"}})),
            // It is unlocked, and says nothing of being locked; what the partner itself said comes back.
            (("Alexa.LockController", "Lock"), json!({})),
            (("Alexa.PowerController", "TurnOn"), json!({})),
            (("Alexa.BrightnessController", "AdjustBrightness"), json!({"brightnessDelta": 5})),
            (("Alexa.Strange", "Thing"), json!({})),
        ] {
            all.push(ask(hub, token, what, id, payload).0);
        }
    }
    all.push(ask(hub, token, ("Alexa.Authorization", "AcceptGrant"), "", json!({})).0);
    all.push(exchange(hub, &post(b"{\"directive\":", "Connection: close\r\n")));
    all.push(ask(hub, "vst_nobody", DISCOVER, "", json!({})).0);
    for path in
        ["", "healthz", "metrics", "api/devices", "devices", "alexa/v3/directives", "oauth/authorize", ".well-known/x"]
    {
        let request = format!("GET /{path} HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n");
        all.push(exchange(hub, request.as_bytes()));
    }
    all
}

/// A number of degrees or percent as anybody might write it: in three units, with a point or a comma, rounded or whole.
fn written(value: f64, is_temperature: bool) -> Vec<String> {
    let mut numbers = vec![value];
    if is_temperature {
        numbers.extend([value * 1.8 + 32.0, value + 273.15]);
    }
    let mut all = Vec::new();
    for n in numbers {
        for text in [format!("{n}"), format!("{n:.1}"), format!("{n:.2}"), format!("{n:.3}")] {
            // "22.0" is what is granted when whole degrees are.
            if !text.ends_with(".0") && text.contains('.') {
                all.extend([text.replace('.', ","), text.replace('.', ""), text]);
            }
        }
        all.push(format!("{:.0}", n * 1000.0));
    }
    all.retain(|text| text.len() >= 4);
    all
}

fn base64(bytes: &[u8]) -> String {
    const ALPHABET: &[u8] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut text = String::new();
    // Whole groups alone: what stands around a value doesn't matter then.
    for group in bytes.chunks_exact(3) {
        let bits = (u32::from(group[0]) << 16) | (u32::from(group[1]) << 8) | u32::from(group[2]);
        text.extend([18, 12, 6, 0].map(|shift| char::from(ALPHABET[(bits >> shift) as usize & 63])));
    }
    text
}

/// A text in the ways in which it could be hidden: cases, hexadecimal, base 64 at each offset, reversed, as a bare hash.
fn hidden(text: &str) -> Vec<String> {
    let hex = |bytes: &[u8]| bytes.iter().map(|b| format!("{b:02x}")).collect::<String>();
    let digest = sha256(text.as_bytes());
    let mut all = vec![text.to_owned(), text.to_lowercase(), text.to_uppercase(), text.chars().rev().collect()];
    all.extend([hex(text.as_bytes()), hex(text.as_bytes()).to_uppercase(), digest.chars().take(16).collect()]);
    all.extend((0..3).map(|skip| base64(&text.as_bytes()[skip..])));
    all
}

/// A body without what is random, sent by the partner itself, or a public time: digits there say nothing.
fn without_ids(bytes: &[u8]) -> String {
    let text = String::from_utf8_lossy(bytes);
    let (_, mut rest) = text.split_once("\r\n\r\n").expect("a head");
    let mut out = String::new();
    loop {
        let keys = ["timeOfSample", "messageId", "correlationToken", "endpointId"].map(|key| format!("\"{key}\":\""));
        let next = keys.iter().filter_map(|key| Some((rest.find(key.as_str())?, key.len()))).min();
        let Some((at, len)) = next else { return out + rest };
        let (before, after) = rest.split_at(at + len);
        out.push_str(before);
        rest = after.split_once('"').expect("a text ends").1;
    }
}

/// Which of the withheld things stand in these bytes.
fn told(all: &[Vec<u8>], numbers: &[String], texts: &[String]) -> Vec<String> {
    let mut found = Vec::new();
    for answer in all {
        let (whole, digits) = (String::from_utf8_lossy(answer).into_owned(), without_ids(answer));
        let numbers = numbers.iter().filter(|n| digits.contains(n.as_str()));
        let texts = texts.iter().filter(|t| whole.contains(t.as_str()));
        found.extend(numbers.chain(texts).map(|what| format!("`{what}` in {whole}")));
    }
    found
}

#[test]
fn no_withheld_value_is_among_the_bytes_that_leave_in_any_unit_or_encoding() {
    let (mosquitto, hub, _dir) = begin();
    let devices = hub.cli_json(&["devices"]).to_string();
    assert!(devices.contains(TEXTS[0]), "{devices}");
    let tokens = ["commands-only", "glance", "everything"].map(|profile| link(&hub, profile));
    // What came after the grants is nobody's but the household's.
    publish(
        mosquitto.port,
        "homeassistant/switch/x/config",
        &format!(
            r#"{{"name":"{1}","uniq_id":"{0}","stat_t":"x","cmd_t":"x/set","dev":{{"ids":["{0}"],"name":"{1}"}}}}"#,
            TEXTS[9], TEXTS[10]
        ),
    );
    let known = hub.wait_until(&["devices"], |d| d.to_string().contains(TEXTS[10]));
    let all = known["devices"].as_array().unwrap();
    let thermostat = all.iter().find(|d| d.to_string().contains(TEXTS[0])).unwrap();
    hub.cli(&["devices", "name", thermostat["id"].as_str().unwrap(), TEXTS[11]]);
    let mut left: [Vec<Vec<u8>>; 3] = Default::default();
    for round in ROUNDS {
        live(&hub, mosquitto.port, round);
        for (token, left) in tokens.iter().zip(&mut left) {
            left.extend(everything_asked(&hub, token));
        }
    }
    let texts: Vec<String> = TEXTS.iter().copied().chain(tokens.iter().map(String::as_str)).flat_map(hidden).collect();
    let temperatures = || ROUNDS.iter().flat_map(|r| written(r.0, true));
    let humidities = || ROUNDS.iter().flat_map(|r| written(r.1, false));
    let set_points = || ROUNDS.iter().flat_map(|r| [r.2, r.2 + 40.0]).flat_map(|v| written(v, true));
    let states = ["UNLOCKED", "DETECTED", "HEAT\"}"].map(str::to_owned);
    let [commands_only, glance, everything] = left;
    // The modes that it takes are told; the mode that it is in is not.
    let mut nothing: Vec<String> = temperatures().chain(humidities()).chain(set_points()).collect();
    nothing.extend(states[..2].iter().cloned());
    assert_eq!(told(&commands_only, &nothing, &texts), Vec::<String>::new());
    // Of the temperature, whole degrees on the hour; of the set point, what it was then.
    let names: Vec<String> = texts.iter().filter(|t| !hidden(TEXTS[11]).contains(t)).cloned().collect();
    let withheld: Vec<String> = temperatures().chain(humidities()).chain(states[..2].iter().cloned()).collect();
    assert_eq!(told(&glance, &withheld, &names), Vec::<String>::new());
    // The search can find: who may know all this was told it.
    for wanted in ["19.4,", "21.8,", "22.6,", "UNLOCKED", TEXTS[8], TEXTS[11], TEXTS[1]] {
        let found = told(&everything, &[], &[wanted.to_owned()]);
        assert!(!found.is_empty(), "`{wanted}` was not told to who may know everything");
    }
    assert!(!told(&everything, &temperatures().collect::<Vec<_>>(), &[]).is_empty());
    // And even then nothing of a device that came later, of how devices are wired, or of another link.
    let other = &tokens[..2];
    let never = [5, 6, 7, 9, 10].map(|n| TEXTS[n]).into_iter().chain(other.iter().map(String::as_str));
    assert_eq!(told(&everything, &[], &never.flat_map(hidden).collect::<Vec<_>>()), Vec::<String>::new());
}

/// Whether an answer is one that Alexa takes: an event with its head, which answers this very directive.
fn assert_well_formed(asked: &Value, answer: &[u8], name: &str) {
    let (text, json) = (String::from_utf8_lossy(answer), body(answer));
    assert!(text.starts_with("HTTP/1.1 200 "), "{text}");
    let (header, sent) = (&json["event"]["header"], &asked["directive"]["header"]);
    assert_eq!((&header["name"], &header["payloadVersion"]), (&json!(name), &json!("3")), "{text}");
    assert_eq!(header["messageId"].as_str().map(str::len), Some(36), "{text}");
    assert_eq!(header["correlationToken"], sent["correlationToken"], "{text}");
    assert_eq!(json["event"]["endpoint"]["endpointId"], asked["directive"]["endpoint"]["endpointId"], "{text}");
    match name {
        "ErrorResponse" => {
            let (kind, message) = (&json["event"]["payload"]["type"], &json["event"]["payload"]["message"]);
            assert!(
                kind.is_string() && message.is_string() && json.get("context").is_none_or(Value::is_object),
                "{text}"
            );
        }
        _ => {
            for p in json["context"]["properties"].as_array().into_iter().flatten() {
                let all = ["namespace", "name", "value", "timeOfSample", "uncertaintyInMilliseconds"];
                assert!(all.iter().all(|key| !p[*key].is_null()), "{text}");
            }
            assert_eq!(json["event"]["payload"], json!({}), "{text}");
        }
    }
}

#[test]
fn a_refusal_is_a_well_formed_answer_that_breaks_nothing_else_and_is_on_record_in_sums() {
    const TIMES: usize = 12;
    let (mosquitto, hub, _dir) = begin();
    let token = link(&hub, "commands-only");
    let all = endpoints(&hub, &token);
    let of = |category: &str| all.iter().find(|(_, c)| c == category).unwrap_or_else(|| panic!("{all:?}")).0.clone();
    let (thermostat, lock) = (of("THERMOSTAT"), of("SMARTLOCK"));
    let unlock = ("Alexa.LockController", "Unlock");
    // The household takes the unlocking back, and nothing else.
    let grants = hub.cli_json(&["grant", "list"]);
    let opens = |g: &&Value| g["property"] == "lock_state" && g["what"]["control"]["open"] == true;
    let opening = grants.as_array().unwrap().iter().find(opens).unwrap_or_else(|| panic!("{grants}"));
    hub.cli(&["grant", "revoke", opening["id"].as_str().unwrap()]);
    let before = hub.ledger().len();
    for _ in 0..TIMES {
        for ((namespace, name), endpoint, expected) in [
            (unlock, lock.as_str(), "INSUFFICIENT_PERMISSIONS"),
            (unlock, thermostat.as_str(), "INVALID_DIRECTIVE"),
            (("Alexa.PowerController", "TurnOn"), lock.as_str(), "INVALID_DIRECTIVE"),
            (("Alexa.Strange", "Thing"), lock.as_str(), "INVALID_DIRECTIVE"),
            (unlock, "0123456789abcdef0123456789abcdef", "NO_SUCH_ENDPOINT"),
        ] {
            let asked = directive(namespace, name, endpoint, &token, json!({}));
            let answer = exchange(&hub, &request(&asked));
            assert_well_formed(&asked, &answer, "ErrorResponse");
            // None of these says that a device or the hub is ill: Alexa would show it so to the household.
            assert_eq!(body(&answer)["event"]["payload"]["type"], expected);
        }
        // What may not be told is left out of a report that is whole for the rest.
        for endpoint in [&thermostat, &lock] {
            let asked = directive(REPORT.0, REPORT.1, endpoint, &token, json!({}));
            let answer = exchange(&hub, &request(&asked));
            assert_well_formed(&asked, &answer, "StateReport");
            let properties = body(&answer)["context"]["properties"].clone();
            let health = |p: &Value| p["namespace"] == "Alexa.EndpointHealth" && p["value"]["value"] == "OK";
            assert!(properties.as_array().unwrap().iter().all(health), "{properties}");
        }
    }
    // The other device, and the same one's other command, go on.
    let commands = Subscriber::start(mosquitto.port, &format!("{}/sp/set", TEXTS[6]));
    let asked = directive(SET.0, SET.1, &thermostat, &token, degrees(20.5));
    assert_well_formed(&asked, &exchange(&hub, &request(&asked)), "Response");
    assert_eq!(commands.next(), format!("{}/sp/set 1 20.5", TEXTS[6]));
    assert_eq!(endpoints(&hub, &token), all, "discovery is what it was");
    // Every answer has its leaf; the refusals of many answers are summed in few.
    let docket = hub.cli_json(&["docket", "list"]);
    let rows = docket.as_array().unwrap();
    let count = |what: &str| -> u64 {
        let of = rows.iter().filter(|r| r["what"].as_str().is_some_and(|w| w.contains(what)));
        of.filter_map(|r| r["count"].as_u64()).sum()
    };
    assert!(count("lock state") >= TIMES as u64, "{docket}");
    let ledger = hub.ledger();
    let kinds = |kind: &str| ledger[before..].iter().filter(|r| r["type"] == kind).count();
    assert!(kinds("intent") >= TIMES * 7, "{}", kinds("intent"));
    assert!((1..=TIMES).contains(&kinds("refusals")), "{} leaves of refusals", kinds("refusals"));
    assert_eq!(hub.cli_json(&["ledger", "verify"])["ok"], true);
}

/// Nothing has come on this connection, unless that it ended.
fn is_silent(stream: &mut TcpStream) -> bool {
    stream.set_nonblocking(true).unwrap();
    let silent = match stream.read(&mut [0u8; 1]) {
        Ok(n) => n == 0,
        Err(e) => e.kind() == std::io::ErrorKind::WouldBlock,
    };
    stream.set_nonblocking(false).unwrap();
    silent
}

#[test]
fn losing_a_partner_costs_the_home_and_other_partners_nothing_and_it_is_told_nothing_of_the_time_between() {
    const HANGING: usize = 40;
    let (mosquitto, hub, _dir) = begin();
    let port = mosquitto.port;
    let (lost, stays) = (link(&hub, "everything"), link(&hub, "glance"));
    let id_of = |profile: &str| {
        let links = hub.cli_json(&["links"]);
        let all = links.as_array().unwrap();
        all.iter().find(|l| l["profile"] == profile && l["ended"].is_null()).unwrap()["id"].as_str().unwrap().to_owned()
    };
    let thermostat = |token: &str| endpoints(&hub, token).into_iter().find(|(_, c)| c == "THERMOSTAT").unwrap().0;
    let (of_lost, of_stays) = (thermostat(&lost), thermostat(&stays));
    let commands = Subscriber::start(port, &format!("{}/sp/set", TEXTS[6]));
    let address = hub.partners.trim_start_matches("http://").to_owned();
    // It hangs: answers that it never reads, and a command that is half said.
    let discover = post(directive(DISCOVER.0, DISCOVER.1, "", &lost, json!({})).to_string().as_bytes(), "");
    let mut hanging: Vec<TcpStream> = (0..HANGING).map(|_| TcpStream::connect(&address).unwrap()).collect();
    for stream in &mut hanging {
        stream.write_all(&discover).unwrap();
    }
    let command = request(&directive(SET.0, SET.1, &of_lost, &lost, degrees(25.5)));
    let (first, rest) = command.split_at(command.len() - 40);
    let mut half_said = TcpStream::connect(&address).unwrap();
    half_said.set_read_timeout(Some(PATIENCE)).unwrap();
    half_said.write_all(first).unwrap();
    let mut quiet = TcpStream::connect(&address).unwrap();
    // Then it is lost: its link ends, in the middle of all this.
    hub.cli(&["unlink", &id_of("everything")]);
    half_said.write_all(rest).unwrap();
    let mut answer = Vec::new();
    half_said.read_to_end(&mut answer).unwrap();
    assert_eq!(body(&answer)["event"]["payload"]["type"], "INVALID_AUTHORIZATION_CREDENTIAL");
    // The home goes on, and so does the other partner; what the lost one had half said is not carried out.
    let between = (11.46, 71.93, 13.85);
    live(&hub, port, between);
    let (_, set) = ask(&hub, &stays, SET, &of_stays, degrees(19.5));
    assert_eq!(set["event"]["header"]["name"], "Response", "{set}");
    assert_eq!(commands.next(), format!("{}/sp/set 1 19.5", TEXTS[6]));
    let (_, report) = ask(&hub, &stays, REPORT, &of_stays, json!({}));
    assert_eq!(report["event"]["header"]["name"], "StateReport");
    // A new link that is refused changes nothing for the one that there is.
    let refused =
        exchange(&hub, b"GET /oauth/authorize?client_id=nobody HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n");
    assert!(!refused.starts_with(b"HTTP/1.1 2"), "{}", String::from_utf8_lossy(&refused));
    assert_eq!(ask(&hub, &stays, REPORT, &of_stays, json!({})).1["context"], report["context"]);
    // To the lost one nothing was sent meanwhile, and what it asks is a stranger's question.
    assert!(is_silent(&mut quiet), "something came unasked");
    let (_, stranger) = ask(&hub, &lost, DISCOVER, "", json!({}));
    assert_eq!(stranger["event"]["payload"]["endpoints"], json!([]));
    // It comes back: it is told what is, and nothing of what was between; and nothing waits for it.
    live(&hub, port, ROUNDS[1]);
    let back = link(&hub, "everything");
    let answers = everything_asked(&hub, &back);
    let missed: Vec<String> = written(between.0, true).into_iter().chain(written(between.1, false)).collect();
    assert_eq!(told(&answers, &missed, &[]), Vec::<String>::new());
    assert!(!told(&answers, &["21.8".to_owned()], &[]).is_empty());
    assert!(is_silent(&mut quiet), "something came unasked");
    drop(hanging);
    assert_eq!(hub.cli_json(&["ledger", "verify"])["ok"], true);
}

#[test]
fn coarse_was_true_at_its_tick_and_locks_and_doors_are_exact_or_not_told() {
    let (mosquitto, hub, dir) = begin_at(Some(TEN_PAST_MS));
    let (glance, everything) = (link(&hub, "glance"), link(&hub, "everything"));
    let celsius = |value: f64| json!({"value": value, "scale": "CELSIUS"});
    let rfc = |millis: i64| model::Timestamp::from_millis(millis).to_rfc3339();
    let room = |hub: &Hub| one(&state(hub, &glance, "THERMOSTAT"), "temperature").unwrap();
    assert_eq!(room(&hub), (celsius(19.0), rfc(TEN_PAST_MS)), "19.37 °C, when it was granted");
    set_clock(&dir, TEN_PAST_MS + 20 * MINUTE_MS);
    live(&hub, mosquitto.port, ROUNDS[1]);
    assert_eq!(room(&hub), (celsius(19.0), rfc(TEN_PAST_MS)));
    // The next tick comes between the second reading and the third.
    set_clock(&dir, TEN_PAST_MS + 55 * MINUTE_MS);
    live(&hub, mosquitto.port, ROUNDS[2]);
    assert_eq!(room(&hub), (celsius(22.0), rfc(TEN_PAST_MS + 50 * MINUTE_MS)), "21.83 °C at the hour");
    for (lock, door) in [("LOCKED", "OFF"), ("UNLOCKED", "ON"), ("LOCKED", "ON")] {
        publish(mosquitto.port, "d/lock", lock);
        publish(mosquitto.port, "d/open", door);
        let is_told = |d: &Value| {
            let text = d.to_string();
            text.contains(&format!("\"{}\"", lock.to_lowercase()))
                && text.contains(&format!("\"value\":{}", door == "ON"))
        };
        hub.wait_until(&["devices"], is_told);
        let all = state(&hub, &everything, "SMARTLOCK");
        assert_eq!(one(&all, "lockState").unwrap(), (json!(lock), rfc(TEN_PAST_MS + 55 * MINUTE_MS)));
        let detected = if door == "ON" { "DETECTED" } else { "NOT_DETECTED" };
        assert_eq!(one(&all, "detectionState").unwrap().0, json!(detected));
        let known = state(&hub, &glance, "SMARTLOCK");
        assert!(known.iter().all(|(name, ..)| name == "connectivity"), "{known:?}");
    }
}

#[test]
fn who_asks_often_is_told_what_is_told_to_who_asks_seldom() {
    let (mosquitto, hub, dir) = begin_at(Some(TEN_PAST_MS));
    let (often, seldom) = (link(&hub, "glance"), link(&hub, "glance"));
    let before = state(&hub, &seldom, "THERMOSTAT");
    for (n, round) in [ROUNDS[1], ROUNDS[2], ROUNDS[0]].into_iter().enumerate() {
        set_clock(&dir, TEN_PAST_MS + (n as i64 + 1) * 10 * MINUTE_MS);
        live(&hub, mosquitto.port, round);
        for (id, _) in endpoints(&hub, &often) {
            // A change by nothing tells no more than a poll.
            ask(&hub, &often, ADJUST, &id, json!({"targetSetpointDelta": {"value": 0.0, "scale": "CELSIUS"}}));
            ask(&hub, &often, REPORT, &id, json!({}));
        }
        assert_eq!(state(&hub, &often, "THERMOSTAT"), before, "within the hour, for the {n}th time");
    }
    assert_eq!(state(&hub, &seldom, "THERMOSTAT"), before);
    set_clock(&dir, TEN_PAST_MS + 55 * MINUTE_MS);
    let after = state(&hub, &seldom, "THERMOSTAT");
    assert_ne!(after, before);
    assert_eq!(state(&hub, &often, "THERMOSTAT"), after);
}
