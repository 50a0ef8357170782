//! Marked values, names, tokens and passwords go through everything; each is found in its place and nowhere else.

use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::{Value, json};
use testkit::directive;

use crate::harness::{Hub, Mosquitto, control, free_port, get, peer, program, publish, run};
use crate::wire::{Wire, post};

/// A room temperature, as it is sent, shown and stored. (Below zero, so that no time of day looks like it.)
const TEMPERATURE: &[&str] = &["-17.34", ":-17342"];
/// A set point that Alexa orders, in kelvin, and the same in the home.
const SET_POINT: &[&str] = &["294.31", ":21160"];
/// What a device says of itself, and what the household calls it.
const NAMES: &[&str] =
    &["Quokka-4711", "Maker-of-Canaries", "Model-Canary-9", "SN-QX7731", "Firmware-Canary", "Auntie-0815"];
/// What only a partner sent.
const DIRECTIVE: &[&str] =
    &["correlation-canary", "malformed-canary", "stranger-canary", "payload-canary", "header-canary"];
/// A letter, and its threat.
const LETTER: &[&str] = &["letter-canary", "threat-canary"];
/// The password of the broker.
const BROKER: &[&str] = &["broker-canary-password"];

fn found<'a>(bytes: &[u8], marks: &'a [&'a str]) -> Option<&'a str> {
    marks.iter().copied().find(|mark| bytes.windows(mark.len()).any(|window| window == mark.as_bytes()))
}

fn assert_absent(what: &str, bytes: &[u8], marks: &[&str]) {
    if let Some(mark) = found(bytes, marks) {
        let at = bytes.windows(mark.len()).position(|window| window == mark.as_bytes()).unwrap();
        let around = String::from_utf8_lossy(&bytes[at.saturating_sub(300)..(at + 100).min(bytes.len())]).into_owned();
        panic!("`{mark}` stands in {what}: {around}");
    }
}

/// Every file below a folder with its bytes, its path relative.
fn files(folder: &Path) -> Vec<(String, Vec<u8>)> {
    let mut files = Vec::new();
    let mut open = vec![folder.to_owned()];
    while let Some(next) = open.pop() {
        for entry in std::fs::read_dir(next).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                open.push(path);
            } else if let Ok(bytes) = std::fs::read(&path) {
                files.push((path.strip_prefix(folder).unwrap().display().to_string(), bytes));
            }
        }
    }
    assert!(files.len() > 4, "{:?}", files.iter().map(|(name, _)| name).collect::<Vec<_>>());
    files
}

/// A data directory, file by file.
fn assert_in_place(data: &Path, secrets: &[&str]) {
    let all = files(data);
    for (name, bytes) in &all {
        let is = |database: &str| name.starts_with(database);
        for marks in [secrets, BROKER, DIRECTIVE] {
            assert_absent(name, bytes, marks);
        }
        if !is("vestibule.db") {
            assert_absent(name, bytes, NAMES);
            assert_absent(name, bytes, LETTER);
        }
        if !is("vestibule.db") && !is("history.db") {
            assert_absent(name, bytes, TEMPERATURE);
            assert_absent(name, bytes, SET_POINT);
        }
    }
    // The search can find: what belongs there is there.
    let any = |database: &str, marks: &[&str]| {
        all.iter().any(|(name, bytes)| name.starts_with(database) && found(bytes, marks).is_some())
    };
    assert!(any("history.db", TEMPERATURE) && any("vestibule.db", NAMES), "the marks did not arrive");
}

/// What the program said while it ran, at its most talkative.
fn assert_silent(said: &str, secrets: &[&str]) {
    assert!(!said.contains("panicked"), "{said}");
    for marks in [secrets, BROKER, DIRECTIVE, TEMPERATURE, SET_POINT, NAMES, LETTER] {
        assert_absent("the log", said.as_bytes(), marks);
    }
}

fn traced(data: &Path) -> Command {
    let mut command = program();
    command.args(["serve", "--data"]).arg(data).env("RUST_LOG", "trace");
    command
}

async fn ask(hub: &Hub, bytes: &[u8]) -> String {
    let mut wire = Wire::connect(&hub.partners).await.unwrap();
    wire.write(bytes).await.unwrap();
    String::from_utf8(wire.answer().await.unwrap().body).unwrap()
}

/// Announces the marked thermostat on a broker.
fn announce(announce: impl Fn(&str, &str)) {
    let device = format!(
        r#""dev":{{"ids":["c1"],"name":"{}","mf":"{}","mdl":"{}","sn":"{}","sw":"{}"}}"#,
        NAMES[0], NAMES[1], NAMES[2], NAMES[3], NAMES[4]
    );
    announce(
        "homeassistant/climate/c1/config",
        &format!(
            r#"{{"name":"{}","uniq_id":"c1",{device},"modes":["off","heat"],"mode_stat_t":"c/mode","mode_cmd_t":"c/mode/set",
            "temp_stat_t":"c/sp","temp_cmd_t":"c/sp/set","curr_temp_t":"c/temp"}}"#,
            NAMES[0]
        ),
    );
    announce("c/temp", "-17.3419");
    announce("c/mode", "heat");
    // Wrong in every way: what is dropped is counted, and not repeated.
    announce("homeassistant/climate/c2/config", &format!("{{\"name\":\"{}", NAMES[0]));
    announce(
        "homeassistant/sensor/c3/config",
        &format!(r#"{{"name":"{0}","stat_t":"{{{{ {0} }}}}","val_tpl":"{{%{0}"}}"#, NAMES[0]),
    );
    announce("c/mode", NAMES[0]);
}

fn wait_for_reading(hub: &Hub) -> String {
    let devices = hub.wait_until(&["devices"], |d| d.to_string().contains(TEMPERATURE[1]));
    devices["devices"][0]["id"].as_str().unwrap().to_owned()
}

#[test]
fn marked_values_names_and_secrets_are_in_their_place_and_nowhere_else() {
    let mosquitto = Mosquitto::start();
    announce(|topic, payload| publish(mosquitto.port, topic, payload));
    let dir = tempfile::tempdir().unwrap();
    let data = dir.path().join("data");
    let mut command = traced(&data);
    command.env("VESTIBULE__MQTT__URL", format!("mqtt://canary:{}@127.0.0.1:{}", BROKER[0], mosquitto.port));
    let mut hub = Hub::spawn(command, &data);
    let device = wait_for_reading(&hub);
    hub.cli(&["devices", "name", &device, NAMES[5]]);
    let token = hub.cli(&["link", "alexa", "--profile", "everything", "--print-token"]).trim().to_owned();
    let gone = hub.cli(&["link", "alexa", "--profile", "glance", "--print-token"]).trim().to_owned();
    let secrets: Vec<&str> =
        [&token, &gone].into_iter().flat_map(|t| [t.as_str(), t.trim_start_matches("vst_")]).collect();
    let letter = dir.path().join("letter.txt");
    std::fs::write(&letter, LETTER[0]).unwrap();
    let letter = letter.display().to_string();
    hub.cli(&["docket", "add", "--partner", "alexa", "--file", &letter, "--threat", LETTER[1]]);

    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let send = |namespace: &str, name: &str, endpoint: &str, token: &str, payload: Value| {
            let mut json = directive(namespace, name, endpoint, token, payload);
            json["directive"]["header"]["correlationToken"] = json!(DIRECTIVE[0]);
            post(json.to_string().as_bytes(), &format!("X-Canary: {}\r\n", DIRECTIVE[4]))
        };
        let found = ask(&hub, &send("Alexa.Discovery", "Discover", "", &token, json!({}))).await;
        assert!(found.contains(NAMES[5]), "everything tells names: {found}");
        let found: Value = serde_json::from_str(&found).unwrap();
        let endpoint = found["event"]["payload"]["endpoints"][0]["endpointId"].as_str().unwrap().to_owned();
        let state = ask(&hub, &send("Alexa", "ReportState", &endpoint, &token, json!({}))).await;
        assert!(state.contains("-17.3,"), "everything tells values: {state}");
        let payload = json!({"targetSetpoint": {"value": 294.31, "scale": "KELVIN"}, "x": DIRECTIVE[3]});
        for (endpoint, token) in
            [(endpoint.as_str(), token.as_str()), (DIRECTIVE[3], &token), (&endpoint, DIRECTIVE[2])]
        {
            ask(&hub, &send("Alexa.ThermostatController", "SetTargetTemperature", endpoint, token, payload.clone()))
                .await;
        }
        ask(&hub, &send(DIRECTIVE[3], DIRECTIVE[3], DIRECTIVE[3], &token, json!(DIRECTIVE[3]))).await;
        ask(&hub, &post(format!("{{\"{}\":\"{token}", DIRECTIVE[1]).as_bytes(), "")).await;
        ask(&hub, &post(format!("[\"{}\"]", DIRECTIVE[1]).as_bytes(), &format!("Authorization: Bearer {token}\r\n")))
            .await;
        ask(&hub, format!("GET /{}?{token} HTTP/1.1\r\nHost: {}\r\n\r\n", DIRECTIVE[1], DIRECTIVE[4]).as_bytes()).await;
        ask(&hub, format!("{} /{token} HTTP/9\r\n\r\n", DIRECTIVE[1]).as_bytes()).await;
    });
    let links = control(&data, &json!("links")).unwrap();
    let glance = links.as_array().unwrap().iter().find(|l| l["profile"] == "glance").unwrap()["id"].clone();
    control(&data, &json!({"unlink": {"link": glance}})).unwrap();
    // The order has come back from the device, as it would in life.
    publish(mosquitto.port, "c/sp", "21.16");
    hub.wait_until(&["devices"], |d| d.to_string().contains(SET_POINT[1]));

    // What monitoring reads has no marks at all.
    for path in ["/metrics", "/healthz", "/no-such-page", "/api/links/no-such-link/day"] {
        let (_, text) = get(&format!("{}{path}", hub.console));
        for marks in [&secrets, BROKER, DIRECTIVE, TEMPERATURE, SET_POINT, NAMES, LETTER] {
            assert_absent(path, text.as_bytes(), marks);
        }
    }
    // In the ledger's own words and bodies there is no secret.
    for row in hub.ledger() {
        let shown = control(&data, &json!({"ledger_show": {"index": row["index"]}})).unwrap().to_string();
        assert_absent("a leaf", shown.as_bytes(), &secrets);
        assert_absent("a leaf", shown.as_bytes(), BROKER);
        // What a linked partner names is given back to it; what a stranger sent, or HTTP carried, is not even kept.
        assert_absent("a leaf", shown.as_bytes(), &[DIRECTIVE[1], DIRECTIVE[2], DIRECTIVE[4]]);
    }
    // With the write-ahead logs as they are, then after a crash, then after an orderly end.
    assert_in_place(&data, &secrets);
    hub.process.signal("KILL");
    let said = hub.process.said();
    assert!(said.contains("DEBUG "), "the log was not at its most talkative: {said}");
    assert_silent(&said, &secrets);
    assert_in_place(&data, &secrets);
    let mut command = traced(&data);
    // Nobody listens there any more: that is told without the password.
    drop(mosquitto);
    command.env("VESTIBULE__MQTT__URL", format!("mqtt://canary:{}@127.0.0.1:{}", BROKER[0], free_port()));
    let mut hub = Hub::spawn(command, &data);
    hub.process.wait_for("no connection to the broker");
    hub.stop();
    assert_silent(&hub.process.said(), &secrets);
    assert_in_place(&data, &secrets);
}

#[test]
fn the_brokers_own_passwords_are_nowhere() {
    let dir = tempfile::tempdir().unwrap();
    let data = dir.path().join("data");
    let text = data.display().to_string();
    let out = run(&["devices", "add", "canary", "--data", &text]);
    let shown = String::from_utf8(out.stdout).unwrap();
    let password = shown.lines().find_map(|l| l.split_once("this once: ")).unwrap().1.trim().to_owned();
    let mut command = traced(&data);
    command.env("VESTIBULE__MQTT__LISTEN", "127.0.0.1:0");
    let mut hub = Hub::spawn(command, &data);
    let port = hub.process.wait_for("mqtt: mqtt://127.0.0.1:");
    let send = |password: &str, topic: &str, payload: &str| {
        let program: PathBuf = peer("VESTIBULE_MOSQUITTO_PUB", &["/usr/bin/mosquitto_pub"]);
        let args = [
            "-h",
            "127.0.0.1",
            "-p",
            &port,
            "-u",
            "canary",
            "-P",
            password,
            "-q",
            "1",
            "-r",
            "-t",
            topic,
            "-m",
            payload,
        ];
        Command::new(program).args(args).output().unwrap().status.success()
    };
    announce(|topic, payload| assert!(send(&password, topic, payload)));
    assert!(!send(BROKER[0], "c/temp", "1"), "a wrong password opens nothing");
    wait_for_reading(&hub);
    hub.stop();
    let said = hub.process.said();
    assert_silent(&said, &[&password]);
    for (name, bytes) in files(&data) {
        assert_absent(&name, &bytes, &[&password]);
        assert_absent(&name, &bytes, BROKER);
    }
}

#[test]
fn errors_of_the_configuration_repeat_no_password() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("v.toml");
    let file_text = file.display().to_string();
    let urls =
        ["mqtt://u:PW@", "mqtt://u:PW@host:notaport", "http://u:PW@host", "mqtts://u:PW@[::1", "mqtt://u:PW@ho st"];
    for url in urls.map(|url| url.replace("PW", BROKER[0])) {
        let store = format!("[store]\nurl = \"postgres://u:{}@db\"\n", BROKER[0]);
        for more in [store.as_str(), "[mqtt.url]\nx = 1\n", "nonsense", ""] {
            std::fs::write(&file, format!("[mqtt]\nurl = \"{url}\"\n{more}")).unwrap();
            let data = dir.path().join("d").display().to_string();
            let serve = program()
                .args(["serve", "--config", &file_text, "--data", &data])
                .env("VESTIBULE__CONSOLE__LISTEN", "256.0.0.1:0")
                .output()
                .unwrap();
            for out in [run(&["check", "--config", &file_text]), serve] {
                assert_absent("an error", &out.stderr, BROKER);
                assert_absent("an error", &out.stdout, BROKER);
            }
        }
    }
}
