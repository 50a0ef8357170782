//! Devices on a real broker, driven by Alexa's directives: what works, what is told, what is recorded.

use serde_json::{Value, json};
use testkit::{Exchange, PretendAlexa};

use crate::harness::{Hub, Mosquitto, Subscriber, publish, sha256};

/// A home as three common kinds of bridge announce it.
pub fn announce(port: u16) {
    let device = r#""dev":{"ids":["0x01"],"name":"Bedroom of Alice","mf":"Maker of Secrets","mdl":"SECRET-TRV"}"#;
    publish(
        port,
        "homeassistant/climate/0x01/climate/config",
        &format!(
            r#"{{"name":null,"uniq_id":"0x01_climate",{device},"~":"z/trv","temp_unit":"C","modes":["off","heat"],
            "mode_stat_t":"~","mode_stat_tpl":"{{{{ value_json.system_mode }}}}","mode_cmd_t":"~/set/system_mode",
            "temp_stat_t":"~","temp_stat_tpl":"{{{{ value_json.occupied_heating_setpoint }}}}",
            "temp_cmd_t":"~/set/occupied_heating_setpoint","min_temp":5,"max_temp":30,"temp_step":0.5,
            "curr_temp_t":"~","curr_temp_tpl":"{{{{ value_json.local_temperature }}}}",
            "avty":[{{"t":"~/availability","val_tpl":"{{{{ value_json.state }}}}"}}]}}"#
        ),
    );
    publish(
        port,
        "homeassistant/cover/garage/config",
        r#"{"name":"Garage of Alice","uniq_id":"garage1","dev_cla":"garage","stat_t":"g/state","cmd_t":"g/set",
           "dev":{"ids":["garage1"],"name":"Garage of Alice"}}"#,
    );
    publish(
        port,
        "homeassistant/device/door7/config",
        r#"{"dev":{"ids":"door7","name":"Front door of Alice"},"o":{"name":"test"},"stat_t":"d/state","cmps":{
           "lock":{"p":"lock","uniq_id":"door7_lock","cmd_t":"d/lock/set","val_tpl":"{{ value_json.lock }}",
                   "stat_locked":"LOCKED","stat_unlocked":"UNLOCKED"},
           "contact":{"p":"binary_sensor","dev_cla":"door","uniq_id":"door7_contact",
                      "val_tpl":"{{ 'ON' if value_json.open else 'OFF' }}"},
           "humidity":{"p":"sensor","dev_cla":"humidity","unit_of_meas":"%","uniq_id":"door7_rh",
                      "val_tpl":"{{ value_json.rh }}"}}}"#,
    );
    publish(port, "z/trv/availability", r#"{"state":"online"}"#);
    trv(port, 21.4, 20.0);
    publish(port, "g/state", "closed");
    publish(port, "d/state", r#"{"lock":"LOCKED","open":false,"rh":43.21}"#);
}

fn trv(port: u16, temperature: f64, set_point: f64) {
    let state =
        json!({"local_temperature": temperature, "occupied_heating_setpoint": set_point, "system_mode": "heat"});
    publish(port, "z/trv", &state.to_string());
}

/// Value of a property in `devices --json`.
pub fn reported(devices: &Value, property: &str) -> Option<String> {
    let devices = devices["devices"].as_array()?;
    let all = devices.iter().flat_map(|d| d["properties"].as_array().into_iter().flatten());
    let mut found = all.filter(|p| p["property"] == property).filter_map(|p| p["shown"].as_str());
    found.next().map(str::to_owned)
}

fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap()
}

pub struct Story {
    pub mosquitto: Mosquitto,
    pub hub: Hub,
    _dir: tempfile::TempDir,
}

pub fn begin() -> Story {
    let mosquitto = Mosquitto::start();
    announce(mosquitto.port);
    let dir = tempfile::tempdir().unwrap();
    let hub = Hub::start(&dir.path().join("data"), &mosquitto.url());
    hub.wait_until(&["devices"], |d| {
        reported(d, "local_temperature").as_deref() == Some("21.4 °C")
            && reported(d, "door_state").as_deref() == Some("closed")
            && reported(d, "relative_humidity").as_deref() == Some("43.21 %")
            && reported(d, "lock_state").is_some()
            && reported(d, "contact_open").is_some()
    });
    Story { mosquitto, hub, _dir: dir }
}

impl Story {
    fn alexa(&self, profile: &str) -> PretendAlexa {
        let token = self.hub.cli(&["link", "alexa", "--profile", profile, "--print-token"]);
        PretendAlexa::new(&self.hub.partners, token.trim())
    }
}

/// What must not leave under a profile, searched in every byte that left.
fn assert_absent(exchanges: &[Exchange], secrets: &[&str]) {
    for e in exchanges {
        let text = String::from_utf8_lossy(&e.body);
        for secret in secrets {
            assert!(!text.contains(secret), "`{secret}` left in {}: {text}", e.directive);
        }
    }
}

#[test]
fn commands_only_obeys_and_tells_nothing() {
    let story = begin();
    let alexa = story.alexa("commands-only");
    let commands = Subscriber::start(story.mosquitto.port, "z/trv/set/#");
    let mut all = Vec::new();
    runtime().block_on(async {
        all.push(alexa.discover().await.unwrap());
        let thermostat = alexa.endpoint_with("Alexa.ThermostatController", None).expect("a thermostat is announced");
        let done = alexa.set_temperature(&thermostat, 22.5).await.unwrap();
        assert_eq!(done.event(), "Alexa.Response");
        assert_eq!(
            done.property("Alexa.ThermostatController", "targetSetpoint"),
            Some(&json!({"value": 22.5, "scale": "CELSIUS"}))
        );
        all.push(done);
        // Asking in every way gets an answer that is well-formed and tells nothing.
        for endpoint in alexa.endpoints() {
            let state = alexa.report_state(&endpoint).await.unwrap();
            assert_eq!((state.status, state.event().as_str()), (200, "Alexa.StateReport"));
            all.push(state);
        }
        let unknown = alexa.report_state("ffffffffffffffffffffffffffffffff").await.unwrap();
        assert_eq!(unknown.json["event"]["payload"]["type"], "NO_SUCH_ENDPOINT");
        all.push(unknown);
        let delta = json!({"targetSetpointDelta": {"value": 1.0, "scale": "CELSIUS"}});
        let adjust =
            alexa.send("Alexa.ThermostatController", "AdjustTargetTemperature", &thermostat, delta).await.unwrap();
        assert_eq!(adjust.event(), "Alexa.Response");
        assert_eq!(adjust.property("Alexa.ThermostatController", "targetSetpoint"), None);
        all.push(adjust);
    });
    // The order reached the broker once, at QoS 1; the change is relative to it.
    let heard = commands.until_now(story.mosquitto.port, "z/trv/set/end");
    let orders: Vec<&str> = heard.iter().map(String::as_str).collect();
    assert_eq!(orders, ["z/trv/set/occupied_heating_setpoint 1 22.5", "z/trv/set/occupied_heating_setpoint 1 23.5"]);
    assert_absent(&all, &["Alice", "Secret", "SECRET", "21.4", "20.0", "43.2", "0x01", "door7", "garage1", "LOCKED"]);
    let names: Vec<_> =
        all[0].json["event"]["payload"]["endpoints"].as_array().unwrap().iter().map(|e| &e["friendlyName"]).collect();
    assert!(names.contains(&&json!("Thermostat 1")), "{names:?}");

    // What left is what the ledger says, body for body.
    let mut left: Vec<String> = all.iter().map(|e| sha256(&e.body)).collect();
    let mut kept: Vec<String> = story
        .hub
        .ledger()
        .iter()
        .filter(|r| r["type"] == "intent")
        .map(|r| r["body_sha256"].as_str().unwrap().to_owned())
        .collect();
    left.sort();
    kept.sort();
    assert_eq!(left, kept);
    assert_eq!(story.hub.cli_json(&["ledger", "verify"])["ok"], true);
    // And the refusals are there too, summed.
    let docket = story.hub.cli_json(&["docket", "list"]);
    assert!(docket.is_array());
    assert!(story.hub.ledger().iter().any(|r| r["type"] == "refusals"), "refusals are recorded");
}

#[test]
fn glance_is_coarse_held_and_never_false() {
    let story = begin();
    let alexa = story.alexa("glance");
    runtime().block_on(async {
        alexa.discover().await.unwrap();
        let thermostat = alexa.endpoint_with("Alexa.ThermostatController", None).unwrap();
        let first = alexa.report_state(&thermostat).await.unwrap();
        let temperature = |e: &Exchange| e.property("Alexa.TemperatureSensor", "temperature").cloned();
        assert_eq!(temperature(&first), Some(json!({"value": 21.0, "scale": "CELSIUS"})));
        trv(story.mosquitto.port, 25.6, 20.0);
        story.hub.wait_until(&["devices"], |d| reported(d, "local_temperature").as_deref() == Some("25.6 °C"));
        let second = alexa.report_state(&thermostat).await.unwrap();
        let properties = |e: &Exchange| e.json["context"]["properties"].clone();
        // Asking buys nothing: the same values with the same times (unless the hour has just struck).
        let tick = |e: &Exchange| properties(e)[0]["timeOfSample"].clone();
        if tick(&first) == tick(&second) {
            assert_eq!(properties(&first), properties(&second));
        }
        // What this link has just set replaces its held sample at once.
        alexa.set_temperature(&thermostat, 23.0).await.unwrap();
        let third = alexa.report_state(&thermostat).await.unwrap();
        assert_eq!(
            third.property("Alexa.ThermostatController", "targetSetpoint"),
            Some(&json!({"value": 23.0, "scale": "CELSIUS"}))
        );
        // "Is the garage closed?" is refused: the state looks like one that does not exist.
        let garage = alexa.endpoint_with("Alexa.ModeController", None).unwrap();
        let state = alexa.report_state(&garage).await.unwrap();
        assert_eq!(state.property("Alexa.ModeController", "mode"), None);
        assert_eq!(alexa.endpoint_with("Alexa.ContactSensor", None), None);
    });
}

#[test]
fn everything_is_exact_and_its_flags_are_true() {
    let story = begin();
    let alexa = story.alexa("everything");
    runtime().block_on(async {
        let found = alexa.discover().await.unwrap();
        let text = String::from_utf8_lossy(&found.body).into_owned();
        assert!(text.contains("Bedroom of Alice") && text.contains("SECRET-TRV"));
        assert!(!text.contains("\"proactivelyReported\":true"), "none is sent, and the flags say so");
        let thermostat = alexa.endpoint_with("Alexa.ThermostatController", None).unwrap();
        let state = alexa.report_state(&thermostat).await.unwrap();
        assert_eq!(
            state.property("Alexa.TemperatureSensor", "temperature"),
            Some(&json!({"value": 21.4, "scale": "CELSIUS"}))
        );
        let garage = alexa.endpoint_with("Alexa.ModeController", None).unwrap();
        let commands = Subscriber::start(story.mosquitto.port, "g/set");
        let opened = alexa
            .send_to_instance(
                "Alexa.ModeController",
                "SetMode",
                "GarageDoor.Position",
                &garage,
                json!({"mode": "Position.Up"}),
            )
            .await
            .unwrap();
        assert_eq!(opened.event(), "Alexa.Response", "{}", opened.json);
        assert_eq!(commands.next(), "g/set 1 OPEN");
        let wrong = alexa.set_temperature(&thermostat, 90.0).await.unwrap();
        assert_eq!(wrong.json["event"]["payload"]["type"], "TEMPERATURE_VALUE_OUT_OF_RANGE");
        assert_eq!(wrong.json["event"]["payload"]["validRange"]["maximumValue"]["value"], 30.0);
    });
}

#[test]
fn the_record_names_what_left_and_the_docket_what_was_asked() {
    let story = begin();
    publish(
        story.mosquitto.port,
        "homeassistant/device/air/config",
        r#"{"dev":{"ids":"air","name":"Air"},"o":{"name":"test"},"stat_t":"air","cmps":{
           "t":{"p":"sensor","dev_cla":"temperature","unit_of_meas":"°C","uniq_id":"air_t","val_tpl":"{{ value_json.t }}"},
           "c":{"p":"sensor","dev_cla":"carbon_dioxide","unit_of_meas":"ppm","uniq_id":"air_c",
                "val_tpl":"{{ value_json.c }}"}}}"#,
    );
    publish(story.mosquitto.port, "air", r#"{"t":19.5,"c":612}"#);
    story.hub.wait_until(&["devices"], |d| reported(d, "co2_concentration").is_some());
    let (all, glance) = (story.alexa("everything"), story.alexa("glance"));
    runtime().block_on(async {
        let found = all.discover().await.unwrap();
        let endpoints = found.json["event"]["payload"]["endpoints"].as_array().unwrap();
        let air = endpoints.iter().find(|e| e["friendlyName"] == "Air").unwrap()["endpointId"].as_str().unwrap();
        all.report_state(air).await.unwrap();
        for _ in 0..12 {
            glance.discover().await.unwrap();
        }
        let garage = glance.endpoint_with("Alexa.ModeController", None).unwrap();
        for _ in 0..12 {
            glance.report_state(&garage).await.unwrap();
        }
    });
    // Alexa has no word for CO2: it was granted, and did not leave.
    let rows = story.hub.ledger();
    let report = rows.iter().find(|r| r["message"] == "Alexa.StateReport").unwrap();
    let shown = story.hub.cli_json(&["ledger", "show", &report["index"].to_string()]);
    let items: Vec<_> = shown["leaf"]["items"].as_array().unwrap().iter().map(|i| i["property"].clone()).collect();
    assert!(items.contains(&json!("local_temperature")) && !items.contains(&json!("co2_concentration")), "{items:?}");
    // Reads are questions; that discovery leaves a name or a serial number out was nobody's question.
    let docket = story.hub.cli_json(&["docket", "list"]);
    let observed: Vec<_> = docket.as_array().unwrap().iter().filter(|r| r["observed"] == true).collect();
    let what: Vec<_> = observed.iter().map(|r| (r["what"].as_str().unwrap(), r["count"].as_u64().unwrap())).collect();
    assert_eq!(what, [("door state", 12), ("reachability", 12)]);
}

#[test]
fn who_is_not_authenticated_gets_constants_and_leaves_no_trace() {
    let story = begin();
    let leaves = story.hub.ledger();
    let stranger = PretendAlexa::new(&story.hub.partners, "vst_not-a-token");
    runtime().block_on(async {
        let found = stranger.discover().await.unwrap();
        assert_eq!((found.status, &found.json["event"]["payload"]["endpoints"]), (200, &json!([])));
        assert_eq!(stranger.discover().await.unwrap().body, found.body, "constant to the byte");
        let (a, b) = (stranger.report_state("a").await.unwrap(), stranger.set_temperature("b", 21.0).await.unwrap());
        assert_eq!(a.body, b.body);
        assert_eq!(a.json["event"]["payload"]["type"], "INVALID_AUTHORIZATION_CREDENTIAL");
        let send = |bytes: Vec<u8>| stranger.send_bytes("raw".into(), bytes);
        assert_eq!(send(b"{".to_vec()).await.unwrap().status, 400);
        assert_eq!(send(b"[]".to_vec()).await.unwrap().status, 400);
        assert_eq!(send(vec![b' '; 4 << 20]).await.map_or(413, |e| e.status), 413);
        // On a connection of its own: the hub ends one on which it was sent too much.
        let stranger = PretendAlexa::new(&story.hub.partners, "vst_not-a-token");
        let deep = format!("{}{}", "[".repeat(60_000), "]".repeat(60_000));
        assert_eq!(stranger.send_bytes("raw".into(), deep.into_bytes()).await.unwrap().status, 400);
    });
    assert_eq!(story.hub.ledger(), leaves);
    // The right token in the body and another in the header do not agree.
    let token = story.hub.cli(&["link", "alexa", "--print-token"]);
    let body = testkit::directive("Alexa.Discovery", "Discover", "", token.trim(), json!({})).to_string();
    let out = std::process::Command::new("curl")
        .args(["-s", "-H", "Authorization: Bearer vst_other", "-H", "content-type: application/json", "-d", &body])
        .arg(format!("{}/alexa/v3/directives", story.hub.partners))
        .output();
    if let Ok(out) = out {
        let answer: Value = serde_json::from_slice(&out.stdout).unwrap();
        assert_eq!(answer["event"]["payload"]["endpoints"], json!([]));
    }
}

#[test]
fn an_unlinked_partner_is_a_stranger_and_a_new_device_waits() {
    let story = begin();
    let alexa = story.alexa("everything");
    let port = story.mosquitto.port;
    runtime().block_on(async {
        alexa.discover().await.unwrap();
        let before = alexa.endpoints().len();
        publish(
            port,
            "homeassistant/light/later/config",
            r#"{"name":"Later","uniq_id":"later","stat_t":"l/s","cmd_t":"l/c","dev":{"ids":["later"],"name":"Later"}}"#,
        );
        publish(port, "l/s", "ON");
        story.hub.wait_until(&["devices"], |d| reported(d, "on_off").is_some());
        let found = alexa.discover().await.unwrap();
        assert_eq!(alexa.endpoints().len(), before);
        assert!(!String::from_utf8_lossy(&found.body).contains("Later"));
        let links = story.hub.cli_json(&["links"]);
        let id = links[0]["id"].as_str().unwrap().to_owned();
        story.hub.cli(&["profile", "apply", &id]);
        alexa.discover().await.unwrap();
        assert_eq!(alexa.endpoints().len(), before + 1);
        story.hub.cli(&["unlink", &id]);
        let after = alexa.discover().await.unwrap();
        assert_eq!(after.json["event"]["payload"]["endpoints"], json!([]));
    });
}

#[test]
fn what_is_removed_by_an_empty_payload_is_gone_and_what_has_no_availability_answers() {
    let story = begin();
    let alexa = story.alexa("everything");
    let port = story.mosquitto.port;
    let device_of = |devices: &Value, id: &str| {
        devices["devices"].as_array().and_then(|all| all.iter().find(|d| d["id"] == id).cloned()).unwrap_or_default()
    };
    let types = |found: &Exchange| {
        let endpoints = found.json["event"]["payload"]["endpoints"].as_array().unwrap().clone();
        let mut all: Vec<String> =
            endpoints.iter().map(|e| e["displayCategories"][0].as_str().unwrap_or_default().to_owned()).collect();
        all.sort();
        all
    };
    runtime().block_on(async {
        let before = types(&alexa.discover().await.unwrap());
        assert!(before.iter().any(|t| t == "GARAGE_DOOR"), "{before:?}");
        let garage = alexa.endpoint_with("Alexa.ModeController", None).unwrap();
        let state = alexa.report_state(&garage).await.unwrap();
        let connectivity = state.property("Alexa.EndpointHealth", "connectivity");
        assert_eq!(connectivity, Some(&json!({"value": "OK"})), "{}", state.json);

        // The garage door comes again as a blind: that is another device, and the door is gone.
        publish(
            port,
            "homeassistant/cover/garage/config",
            r#"{"uniq_id":"garage1","dev_cla":"blind","stat_t":"g/state","cmd_t":"g/set","dev":{"ids":["garage1"]}}"#,
        );
        // A component is taken out of the front door, and then the whole of it.
        publish(
            port,
            "homeassistant/device/door7/config",
            r#"{"dev":{"ids":"door7"},"o":{"name":"test"},"stat_t":"d/state","cmps":{"humidity":{"p":"sensor"},
               "lock":{"p":"lock","uniq_id":"door7_lock","cmd_t":"d/lock/set","val_tpl":"{{ value_json.lock }}"}}}"#,
        );
        let now = story.hub.wait_until(&["devices"], |d| {
            device_of(d, "garage1")["present"] == false
                && device_of(d, "door7")["properties"].as_array().is_some_and(|p| p.len() == 2)
        });
        assert_eq!(device_of(&now, "garage1.k2")["type"], "window_covering");
        let found = alexa.discover().await.unwrap();
        assert!(!types(&found).iter().any(|t| t == "GARAGE_DOOR"), "{}", found.json);
        assert!(!String::from_utf8_lossy(&found.body).contains("Alexa.HumiditySensor"));
        for gone in [alexa.report_state(&garage).await.unwrap(), alexa.set_temperature(&garage, 20.0).await.unwrap()] {
            assert_eq!(gone.json["event"]["payload"]["type"], "NO_SUCH_ENDPOINT", "{}", gone.json);
        }
        let lock = alexa.endpoint_with("Alexa.LockController", None).unwrap();
        publish(port, "homeassistant/device/door7/config", "");
        story.hub.wait_until(&["devices"], |d| device_of(d, "door7")["present"] == false);
        let found = alexa.discover().await.unwrap();
        assert!(!types(&found).iter().any(|t| t == "SMARTLOCK"), "{}", found.json);
        let state = alexa.report_state(&lock).await.unwrap();
        assert_eq!(state.json["event"]["payload"]["type"], "NO_SUCH_ENDPOINT");
    });
}
