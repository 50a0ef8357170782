//! The thermostat at work: a real hub and a real broker, and a house behind the relays. The test moves the hub's clock.

use std::path::{Path, PathBuf};
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use comfort::simulate::plant::{Plant, PlantParameters};
use comfort::simulate::weather::Outdoors;
use comfort::{Call, Output};
use devices::mqtt::face::{Face, FaceEvent};
use devices::mqtt::house::Publication;
use serde_json::{Value, json};
use testkit::PretendAlexa;

use crate::harness::{Hub, Mosquitto, Subscriber, control, program, replace, run, run_json};
use crate::household::with_password;
use crate::member;

/// A winter Monday, 5:00 in UTC.
const BEGIN_MS: i64 = 1_768_194_000_000;

/// One step of the house.
const STEP_S: i64 = 30;

const SETUP: &str = r#"
[home]
units = "celsius"

[[thermostat]]
name = "Landing"
sensors = ["hall"]
heat = "furnace"
own_control = true
sensor_stale_s = 900
"#;

/// A furnace with a relay, and a sensor in the hall.
struct House {
    broker: Mosquitto,
    face: Face,
    plant: Plant,
    furnace: bool,
    sensor_speaks: bool,
    now_s: i64,
    clock: PathBuf,
    outdoor_c: f64,
    /// When the furnace was switched, and to what.
    switched: Vec<(i64, bool)>,
    /// Temperatures of the hall, one a step.
    hall: Vec<f64>,
}

impl House {
    async fn new(dir: &Path) -> Self {
        let broker = Mosquitto::start();
        let will = say("house/status", "offline");
        let mut face = Face::start(&broker.url(), "house", &will, "house/+/set").expect("an address");
        while face.next().await != FaceEvent::Connected {}
        let plant = Plant::new(PlantParameters::default(), 17.0, 1);
        let clock = dir.join("clock");
        let mut house = Self {
            broker,
            face,
            plant,
            furnace: false,
            sensor_speaks: true,
            now_s: 0,
            clock,
            outdoor_c: -5.0,
            switched: Vec::new(),
            hall: Vec::new(),
        };
        house.move_clock(0);
        for (topic, config) in [
            (
                "homeassistant/switch/furnace/config",
                json!({"name": null, "unique_id": "furnace", "device": {"identifiers": ["furnace"], "name": "Furnace"},
                    "state_topic": "house/furnace/state", "command_topic": "house/furnace/set"}),
            ),
            (
                "homeassistant/sensor/hall/config",
                json!({"name": null, "unique_id": "hall", "device": {"identifiers": ["hall"], "name": "Hall"},
                    "device_class": "temperature", "unit_of_measurement": "°C", "state_topic": "house/hall"}),
            ),
        ] {
            house.face.publish(say(topic, &config.to_string())).await;
        }
        house.report().await;
        house.speak().await;
        house
    }

    fn move_clock(&mut self, seconds: i64) {
        self.now_s += seconds;
        replace(&self.clock, &(BEGIN_MS + self.now_s * 1000).to_string());
    }

    async fn report(&self) {
        self.face.publish(say("house/furnace/state", if self.furnace { "ON" } else { "OFF" })).await;
    }

    async fn speak(&self) {
        self.face.publish(say("house/hall", &format!("{:.2}", self.plant.sensor_c()))).await;
    }

    /// Takes what the hub orders until the furnace is as the hub says; then time passes.
    async fn step(&mut self, hub: &Hub) -> Value {
        self.move_clock(STEP_S);
        if self.sensor_speaks && self.now_s % 60 == 0 {
            self.speak().await;
        }
        let status = self.settle(hub).await;
        let call = if self.furnace { Call::of(&[Output::Heat1]) } else { Call::NONE };
        let outdoors = Outdoors { temperature_c: self.outdoor_c, dew_point_c: -10.0, irradiance: 0.0 };
        let asked_w = self.plant.asked_w(call);
        self.plant.step(STEP_S as f64, outdoors, asked_w);
        self.hall.push(self.plant.sensor_c());
        status
    }

    /// Steps until the furnace is on, or off; gives what the last step said.
    async fn until(&mut self, hub: &Hub, on: bool) -> Value {
        let mut last = Value::Null;
        while self.furnace != on {
            last = self.step(hub).await;
        }
        last
    }

    /// Waits until the hub has taken a step at this time, and the furnace is as it said.
    async fn settle(&mut self, hub: &Hub) -> Value {
        let mut last = Value::Null;
        for _ in 0..6000 {
            if let Ok(FaceEvent::Order { topic, payload, .. }) =
                tokio::time::timeout(Duration::from_millis(5), self.face.next()).await
            {
                assert_eq!(topic, "house/furnace/set");
                let on = payload == "ON";
                if on != self.furnace {
                    self.switched.push((self.now_s, on));
                }
                self.furnace = on;
                self.report().await;
            }
            last = status(&hub.data);
            let time = last["time"].as_str().and_then(|t| t.parse::<jiff::Timestamp>().ok());
            let is_now = time.is_some_and(|t| t.as_millisecond() >= BEGIN_MS + self.now_s * 1000);
            if is_now && last["relays"]["heat1"] == json!(self.furnace) {
                return last;
            }
        }
        panic!("the hub took no step, or its order did not come: {last}");
    }

    fn hub(&self, data: &Path) -> Hub {
        self.hub_with(data, "")
    }

    fn hub_with(&self, data: &Path, more: &str) -> Hub {
        let file = data.with_extension("toml");
        std::fs::write(&file, format!("{SETUP}{more}")).expect("written");
        let mut command = program();
        command.args(["serve", "--data"]).arg(data).arg("--config").arg(file);
        command.env("VESTIBULE__MQTT__URL", self.broker.url()).env("VESTIBULE_CLOCK", &self.clock);
        Hub::spawn(command, data)
    }
}

/// What a device says, for the broker to keep.
pub fn say(topic: &str, payload: &str) -> Publication {
    Publication { topic: topic.to_owned(), payload: payload.to_owned(), retain: true }
}

fn status(data: &Path) -> Value {
    control(data, &json!({"thermostat": "status"})).unwrap_or_default()
}

fn runtime() -> tokio::runtime::Runtime {
    // The house's connection goes on while the test waits for a program.
    tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().expect("a runtime")
}

/// From a cold house through a crash and a dead sensor to a clean end.
#[test]
fn a_hub_keeps_the_house_through_crashes_and_a_dead_sensor() {
    runtime().block_on(async {
        let dir = tempfile::tempdir().expect("a directory");
        let data = dir.path().join("data");
        let mut house = House::new(dir.path()).await;
        let mut hub = house.hub(&data);

        // The house is brought to its set point and kept there.
        hub.cli(&["thermostat", "hold", "20"]);
        for _ in 0..8 * 120 {
            house.step(&hub).await;
        }
        let kept = &house.hall[4 * 120..];
        let (low, high) = kept.iter().fold((f64::MAX, f64::MIN), |(l, h), t| (l.min(*t), h.max(*t)));
        assert!(low > 19.2 && high < 20.8, "the hall was between {low:.2} and {high:.2}");
        let starts: Vec<i64> = house.switched.iter().filter(|s| s.1).map(|s| s.0).collect();
        assert!(starts.len() >= 4, "{:?}", house.switched);
        assert!(starts.windows(2).all(|w| w[1] - w[0] >= 900), "more than four starts an hour: {starts:?}");
        let offs = house.switched.windows(2).filter(|w| !w[0].1).map(|w| w[1].0 - w[0].0);
        assert!(offs.min().is_some_and(|s| s >= 300), "{:?}", house.switched);

        // The mode, the program and the hold are there after a crash; what runs goes on; and what has just stopped stays off.
        hub.cli(&["thermostat", "program", "climate", "night", "--heat", "16.5", "--cool", "26", "--fan", "on"]);
        hub.cli(&["thermostat", "program", "set", "--day", "mon,tue", "--from", "22:30", "night"]);
        house.until(&hub, true).await;
        hub.process.signal("KILL");
        let _ = hub.process.child.wait();
        house.move_clock(STEP_S);
        hub = house.hub(&data);
        let back = house.step(&hub).await;
        assert_eq!(back["events"][0]["heat"], 20.0, "{back}");
        assert!(house.furnace && back["relays"]["heat1"] == true, "a restart switched the furnace off: {back}");
        let program = hub.cli_json(&["thermostat", "program"]);
        assert_eq!(program["days"]["mon"].as_array().and_then(|d| d.last()?["climate"].as_str()), Some("night"));
        let night = &program["climates"][3];
        assert_eq!((night["heat"].as_f64(), night["fan"].as_str()), (Some(16.5), Some("on")), "{program}");
        house.until(&hub, false).await;
        let off_s = house.now_s;
        hub.process.signal("KILL");
        let _ = hub.process.child.wait();
        house.move_clock(STEP_S);
        hub = house.hub(&data);
        hub.cli(&["thermostat", "hold", "25"]);
        let held = house.step(&hub).await;
        assert_eq!(held["denied"][0]["output"], "heat1", "{held}");
        let why = hub.cli(&["thermostat", "why"]);
        assert!(why.contains("The guard holds heat1") && why.contains("colder than the heating set point"), "{why}");
        house.until(&hub, true).await;
        assert!(house.now_s - off_s >= 300, "on again after {} s", house.now_s - off_s);

        // The sensor dies: it is named, nobody heats by its last word, and `why` says so.
        house.sensor_speaks = false;
        let mut dead = Value::Null;
        for _ in 0..40 {
            dead = house.step(&hub).await;
        }
        assert_eq!(dead["reason"], "noSensor", "{dead}");
        let alerts: Vec<&str> =
            dead["alerts"].as_array().into_iter().flatten().filter_map(|a| a["text"].as_str()).collect();
        assert!(alerts.iter().any(|a| a.contains("hall is not believed: silent for too long")), "{alerts:?}");
        assert!(hub.cli(&["thermostat", "why"]).contains("no sensor is believed"));
        // Nobody knows how cold it is outdoors: from when the house may have come down to 12 °C, frost is kept out.
        let (before, from_s) = (house.switched.len(), house.now_s);
        while house.now_s - from_s < 12 * 3600 && house.switched[before..].iter().filter(|s| s.1).count() < 3 {
            house.step(&hub).await;
        }
        let runs = &house.switched[before..];
        let first_s = runs.iter().find(|s| s.1).map_or(0, |s| s.0 - from_s);
        assert!((5 * 3600..11 * 3600).contains(&first_s), "{first_s} s");
        let on_s: i64 = runs.windows(2).filter(|w| w[0].1).map(|w| w[1].0 - w[0].0).sum();
        assert!(on_s > 0 && on_s < 3 * 3600 * 6 / 10, "frost is kept out for a share of the time: {on_s} s");
        assert!(house.hall.iter().all(|t| *t > 5.0));

        // It comes back, and the house is kept again; a clean stop leaves nothing on.
        house.sensor_speaks = true;
        house.outdoor_c = 5.0;
        let mut alive = house.step(&hub).await;
        while alive["reason"] == "noSensor" || !house.furnace {
            alive = house.step(&hub).await;
        }
        hub.stop();
        while house.furnace {
            if let FaceEvent::Order { payload, .. } = house.face.next().await {
                house.furnace = payload == "ON";
            }
        }
        // Without a hub the data directory answers, and takes orders for later.
        let data = data.to_str().expect("a path");
        let asleep = run_json(&["thermostat", "status", "--json", "--data", data]);
        assert_eq!((asleep["hub"].as_str(), asleep["mode"].as_str()), (Some("stopped"), Some("heat")), "{asleep}");
        run_json(&["thermostat", "resume", "--all", "--json", "--data", data]);
        let asleep = run_json(&["thermostat", "status", "--json", "--data", data]);
        assert_eq!(asleep["events"], json!([]), "{asleep}");
        assert!(
            run_json(&["thermostat", "why", "--json", "--data", data])["why"]
                .as_str()
                .is_some_and(|w| w.starts_with("The hub does not run"))
        );
        // Twelve hours and more were written down.
        let report = run_json(&["thermostat", "report", "--month", "2026-01", "--json", "--data", data]);
        assert!(report["days"][0]["heating_h"].as_f64().is_some_and(|h| h > 2.0), "{report}");
    });
}

/// It is a device like any other: the hub's own device room hears it, and Alexa commands it through the gate.
#[test]
fn alexa_has_it_through_the_gate_and_home_assistant_by_its_description() {
    runtime().block_on(async {
        let dir = tempfile::tempdir().expect("a directory");
        let data = dir.path().join("data");
        let mut house = House::new(dir.path()).await;
        let mut hub = house.hub(&data);
        house.step(&hub).await;
        let is_there = |d: &Value| {
            d["devices"].as_array().is_some_and(|all| {
                all.iter().any(|d| {
                    d["name"] == "Landing" && d["properties"].to_string().contains("occupied_heating_setpoint")
                })
            })
        };
        let devices = hub.wait_until(&["devices"], is_there);
        assert!(devices.to_string().contains("Vestibule"));
        let token = hub.cli(&["link", "alexa", "--profile", "everything", "--print-token"]);
        let alexa = PretendAlexa::new(&hub.partners, token.trim());
        alexa.discover().await.expect("an answer");
        let endpoint = alexa.endpoint_with("Alexa.ThermostatController", None).expect("a thermostat");
        let done = alexa.set_temperature(&endpoint, 21.5).await.expect("an answer");
        assert_eq!(done.json["event"]["header"]["name"], "Response", "{}", done.json);
        let held = hub.wait_until(&["thermostat", "status"], |s| s["heat_set_point"] == 21.5);
        assert_eq!((held["source"]["event"].as_str(), held["source"]["by"].as_str()), (Some("hold"), Some("mqtt")));
        assert!(held["source"]["until"].is_string(), "it ends with the program's next change: {held}");
        // What the week tells, and to whom; less if it is wished.
        let tells = hub.cli_json(&["thermostat", "privacy"]);
        assert_eq!(tells["heat_steps"], 2, "{tells}");
        assert!(
            tells["told"].as_array().is_some_and(|t| t.iter().any(|t| t["property"] == "occupied_heating_setpoint"))
        );
        assert!(tells["heating_h_per_day"].as_f64().is_some_and(|h| h > 0.0), "{tells}");
        hub.cli(&["thermostat", "privacy", "--apply"]);
        assert_eq!(hub.cli_json(&["thermostat", "privacy"])["heat_steps"], 1);
        // Home Assistant's words: a preset, and the mode.
        let base = format!("vestibule/{}/set", held["device"].as_str().unwrap().replace("-thermostat", "/thermostat"));
        let order =
            |what: &str, payload: &str| Publication { retain: false, ..say(&format!("{base}/{what}"), payload) };
        // A kept order is of another time: after the next start nobody obeys it.
        house.face.publish(say(&format!("{base}/temperature"), "25")).await;
        hub.wait_until(&["thermostat", "status"], |s| s["heat_set_point"] == 25.0);
        hub.cli(&["thermostat", "set", "19"]);
        let said = Subscriber::start(house.broker.port, &format!("{}/status", base.trim_end_matches("/set")));
        hub.process.signal("KILL");
        let _ = hub.process.child.wait();
        while !said.next().ends_with("offline") {}
        house.move_clock(STEP_S);
        hub = house.hub(&data);
        while !said.next().ends_with("online") {}
        house.step(&hub).await;
        assert_eq!(house.step(&hub).await["heat_set_point"], 19.0);
        house.face.publish(order("preset", "away")).await;
        hub.wait_until(&["thermostat", "status"], |s| s["events"][0]["climate"] == "away");
        house.face.publish(order("preset", "none")).await;
        house.face.publish(order("temperature", "950")).await;
        house.face.publish(order("mode", "off")).await;
        let off = hub.wait_until(&["thermostat", "status"], |s| s["mode"] == "off" && s["reason"] == "off");
        assert_eq!(off["events"], json!([]), "{off}");
    });
}

/// A thermometer dies beside a motion detector that speaks on; a relay drops while another one is out of reach.
#[test]
fn what_still_speaks_does_not_stand_in_for_what_is_silent() {
    runtime().block_on(async {
        let dir = tempfile::tempdir().expect("a directory");
        let mut house = House::new(dir.path()).await;
        let motion = json!({"name": null, "unique_id": "motion", "device": {"identifiers": ["hall"], "name": "Hall"},
            "device_class": "motion", "state_topic": "house/motion"});
        house.face.publish(say("homeassistant/binary_sensor/hall/config", &motion.to_string())).await;
        let door = json!({"name": null, "unique_id": "door", "device": {"identifiers": ["door"], "name": "Door"},
            "device_class": "door", "state_topic": "house/door", "availability_topic": "house/door/status"});
        house.face.publish(say("homeassistant/binary_sensor/door/config", &door.to_string())).await;
        house.face.publish(say("house/door/status", "online")).await;
        house.face.publish(say("house/door", "ON")).await;
        let hub = house.hub_with(&dir.path().join("data"), "humidifier = \"nowhere\"\nwindows = [\"door\"]\n");
        hub.cli(&["thermostat", "hold", "25"]);
        // An open door pauses it; one that is out of reach does not.
        while house.step(&hub).await["reason"] != "windowOpen" {}
        house.face.publish(say("house/door/status", "offline")).await;
        house.until(&hub, true).await;
        for _ in 0..10 {
            house.step(&hub).await;
        }
        // What was ordered before that is taken first.
        while tokio::time::timeout(Duration::from_secs(1), house.face.next()).await.is_ok() {}
        // The furnace's relay drops by itself and says so: it has its pause, though the humidifier's says nothing.
        house.furnace = false;
        house.report().await;
        let off_s = house.now_s;
        house.switched.clear();
        house.until(&hub, true).await;
        assert!(house.now_s - off_s >= 300, "on again after {} s", house.now_s - off_s);
        house.sensor_speaks = false;
        let mut last = Value::Null;
        for n in 0..40 {
            house.face.publish(say("house/motion", if n % 2 == 0 { "ON" } else { "OFF" })).await;
            last = house.step(&hub).await;
        }
        assert_eq!(
            (&last["reason"], &last["sensors"][0]["left_out"]),
            (&json!("noSensor"), &json!("silent for too long")),
            "{last}"
        );
    });
}

/// From the page, or by whatever else speaks HTTP: with a member's password, and within the lock where that is no owner's.
#[test]
fn a_member_orders_over_http_with_the_password_and_a_resident_within_the_lock() {
    runtime().block_on(async {
        let dir = tempfile::tempdir().expect("a directory");
        let mut house = House::new(dir.path()).await;
        let hub = house.hub_with(&dir.path().join("data"), "lock = [18, 22]\n");
        house.step(&hub).await;
        let order = |name: &str, password: &str, order: Value| {
            let login = format!("Basic {}", BASE64.encode(format!("{name}:{password}")));
            let headers = [("authorization", login.as_str()), ("content-type", "application/json")];
            let url = format!("{}/api/thermostats/landing", hub.console);
            let answer = member::send("POST", &url, &headers, &order.to_string());
            (answer.status, answer.json())
        };
        let hold = |to: &str| json!({"hold": {"to": {"temperature": to}, "hours": 2}});
        let (status, none) = order("anna", member::PASSWORD, hold("20"));
        assert_eq!(status, 401);
        assert!(none["error"].as_str().is_some_and(|e| e.contains("vestibule member add")), "{none}");
        member::add_member(&hub, "anna");
        let added = with_password(&hub, member::PASSWORD, &["member", "add", "carl", "--role", "resident"]);
        assert!(added.status.success(), "{added:?}");
        let (status, held) = order("anna", member::PASSWORD, hold("23.5"));
        assert_eq!((status, held["events"][0]["heat"].as_f64()), (200, Some(23.5)), "{held}");
        assert_eq!(
            (&held["events"][0]["by"], hub.cli_json(&["thermostat", "status"])["heat_set_point"].as_f64()),
            (&json!("anna"), Some(23.5))
        );
        assert_eq!(order("anna", member::PASSWORD, json!({"resume": {"all": true}})).0, 200);
        assert_eq!(hub.cli_json(&["thermostat", "status"])["events"], json!([]));
        let (status, beyond) = order("carl", member::PASSWORD, hold("23.5"));
        assert_eq!(status, 422);
        assert!(beyond["error"].as_str().is_some_and(|e| e.contains("carl sets 18 °C to 22 °C")), "{beyond}");
        let (status, held) = order("carl", member::PASSWORD, hold("22"));
        assert_eq!((status, held["events"][0]["heat"].as_f64()), (200, Some(22.0)), "{held}");
        let (status, locked) = order("carl", member::PASSWORD, json!({"set": {"mode": "off"}}));
        assert_eq!(status, 422);
        assert!(locked["error"].as_str().is_some_and(|e| e.contains("locked")), "{locked}");
        let half = json!({"set": {"mode": "off", "to": {"temperature": "warm"}}});
        for (wrong, says) in [(json!({"explode": {}}), "no order"), (half, "warm")] {
            let (status, said) = order("anna", member::PASSWORD, wrong);
            assert_eq!(status, 422);
            assert!(said["error"].as_str().is_some_and(|e| e.contains(says)), "{said}");
        }
        let mode = order("anna", member::PASSWORD, json!("status")).1["mode"].clone();
        assert_eq!(mode, "heat", "of what is refused nothing is done");
        // What the guide shows is taken as it stands there.
        let guide = include_str!("../../../docs/thermostat.md");
        let table = guide.split("| Order |").nth(1).and_then(|rest| rest.split("\n\n").next()).expect("the table");
        let cells =
            table.lines().filter_map(|row| row.split('|').nth(1)).flat_map(|cell| cell.split('`').skip(1).step_by(2));
        let shown: Vec<Value> = cells.filter_map(|text| serde_json::from_str(text).ok()).collect();
        assert!(shown.len() >= 11, "{shown:?}");
        for example in shown {
            let (status, said) = order("anna", member::PASSWORD, example.clone());
            assert_eq!(status, 200, "{example}: {said}");
        }
        order("anna", member::PASSWORD, json!({"resume": {"all": true}}));
        order("anna", member::PASSWORD, hold("22"));
        // Guessing ends soon, for that name; and who guesses has changed nothing.
        let tries: Vec<u16> = (0..7).map(|_| order("carl", "another password", hold("19")).0).collect();
        assert_eq!(tries, [401, 401, 401, 401, 401, 429, 429]);
        assert_eq!(order("carl", member::PASSWORD, hold("19")).0, 429);
        assert_eq!(order("anna", member::PASSWORD, json!("status")).1["heat_set_point"].as_f64(), Some(22.0));
    });
}

#[test]
fn a_thermostat_that_can_not_be_is_refused_with_the_line_and_the_mend() {
    let dir = tempfile::tempdir().expect("a directory");
    let check = |text: &str| {
        let file = dir.path().join("v.toml");
        std::fs::write(&file, text).expect("written");
        let out = run(&["check", "--config", file.to_str().expect("a path")]);
        (out.status.code(), String::from_utf8(out.stderr).expect("text"))
    };
    assert_eq!(check(SETUP).0, Some(0), "{}", check(SETUP).1);
    for (text, line, mend) in [
        ("[thermostat]\nheat = \"a\"\n", 1, "[[thermostat]]"),
        ("[[thermostat]]\nheat = \"a\"\n", 1, "it needs `sensors`"),
        ("[[thermostat]]\nsensors = [\"s\"]\n", 1, "it needs equipment"),
        ("[[thermostat]]\nsensors = [\"s\"]\nheat = \"a\"\nfan = \"a\"\n", 1, "give each its own relay"),
        ("[[thermostat]]\nsensors = [\"s\"]\nheat = \"a\"\ncool = \"a\"\n", 1, "`reversing_valve` the valve"),
        ("[[thermostat]]\nsensors = [\"s\"]\nheat = \"a\"\nmin_off_s = 5\n", 4, "from 240 to 900"),
        ("[[thermostat]]\nsensors = [\"s\"]\nheat = \"a\"\nmode = \"cool\"\n", 1, "can't be in the mode cool"),
        ("[[thermostat]]\nsensors = [{ device = \"s\", offset = 99 }]\nheat = \"a\"\n", 2, "at most 10 degrees"),
        ("[[thermostat]]\nsensors = [\"s\"]\nheat = \"a\"\nheating = 1\n", 4, "there is no setting `heating`"),
        (
            "[home]\nunits = \"fahrenheit\"\n[[thermostat]]\nsensors = [\"s\"]\nheat = \"a\"\nfrost_floor = 7\n",
            6,
            "35.6 °F to 59 °F",
        ),
        (
            "[[thermostat]]\nsensors = [\"s\"]\nheat = \"a\"\n[[thermostat]]\nsensors = [\"t\"]\nheat = \"b\"\n",
            4,
            "give each its own `name`",
        ),
        (
            "[[thermostat]]\nsensors = [\"s\"]\nheat = \"a\"\n[[thermostat]]\nname = \"B\"\nsensors = [\"t\"]\naux = \"a\"\n",
            4,
            "each relay has one thermostat",
        ),
        ("[[thermostat]]\nsensors = [\"s\"]\nheat = \"a\"\ndear_set_back = 1\n", 1, "needs `rates` or `price_topic`"),
        (
            "[[thermostat]]\nsensors = [\"s\"]\nheat = \"a\"\nrates = [{ price = 1, days = \"friday-x\" }]\n",
            4,
            "none of mon",
        ),
        (
            "[[thermostat]]\nsensors = [\"s\"]\nheat = \"a\"\nrates = [{ from = \"16:00\" }]\n",
            4,
            "a rate needs its price",
        ),
        ("[[thermostat]]\nsensors = [\"s\"]\nheat = \"a\"\nprice_topic = \"a/#\"\n", 4, "one MQTT topic"),
    ] {
        let (code, told) = check(text);
        assert_eq!(code, Some(1), "{text}");
        assert!(told.contains(&format!("v.toml:{line}: ")) && told.contains(mend), "{text}: {told}");
    }
    let data = dir.path().join("data");
    let out = run(&["thermostat", "status", "--data", data.to_str().expect("a path")]);
    assert_eq!(out.status.code(), Some(1));
}

const GUIDED: &str = r#"
[home]
units = "celsius"

[[thermostat]]
name = "Living room"
guides = "valve"
windows = ["window"]
window_pause_s = 60
"#;

/// A radiator's own thermostat: it takes its set point in steps of a degree, says so late, and repeats itself.
#[test]
fn complaint_a_guided_thermostat_and_the_hub_order_each_other_about() {
    runtime().block_on(async {
        let dir = tempfile::tempdir().expect("a directory");
        let data = dir.path().join("data");
        let clock = dir.path().join("clock");
        let broker = Mosquitto::start();
        let will = say("house/status", "offline");
        let mut face = Face::start(&broker.url(), "house", &will, "house/+/set").expect("an address");
        while face.next().await != FaceEvent::Connected {}
        let climate = json!({"name": null, "unique_id": "valve", "device": {"identifiers": ["valve"], "name": "Valve"},
            "modes": ["off", "heat"], "mode_state_topic": "house/mode", "mode_command_topic": "house/mode/set",
            "temperature_state_topic": "house/point", "temperature_command_topic": "house/point/set",
            "current_temperature_topic": "house/room", "action_topic": "house/action"});
        let window = json!({"name": null, "unique_id": "window", "device": {"identifiers": ["window"], "name": "Window"},
            "device_class": "window", "state_topic": "house/window"});
        for (topic, payload) in [
            ("homeassistant/climate/valve/config", climate.to_string()),
            ("homeassistant/binary_sensor/window/config", window.to_string()),
            ("house/mode", "heat".into()),
            ("house/point", "17".into()),
            ("house/room", "19.0".into()),
            ("house/action", "idle".into()),
            ("house/window", "OFF".into()),
        ] {
            face.publish(say(topic, &payload)).await;
        }
        let mut now_s = 0;
        let mut move_clock = |seconds: i64| {
            now_s += seconds;
            replace(&clock, &(BEGIN_MS + now_s * 1000).to_string());
            BEGIN_MS + now_s * 1000
        };
        move_clock(0);
        let file = data.with_extension("toml");
        std::fs::write(&file, GUIDED).expect("written");
        let mut command = program();
        command.args(["serve", "--data"]).arg(&data).arg("--config").arg(&file);
        command.env("VESTIBULE__MQTT__URL", broker.url()).env("VESTIBULE_CLOCK", &clock);
        let mut hub = Hub::spawn(command, &data);
        let mut orders: Vec<(String, String)> = Vec::new();
        // Half a minute: the valve obeys, rounded, and repeats what it said before.
        macro_rules! minutes {
            ($minutes:expr) => {
                for _ in 0..$minutes * 2 {
                    let at_ms = move_clock(30);
                    for _ in 0..2000 {
                        while let Ok(event) = tokio::time::timeout(Duration::from_millis(4), face.next()).await {
                            let FaceEvent::Order { topic, payload, .. } = event else { continue };
                            if topic == "house/point/set" {
                                let rounded = payload.parse::<f64>().expect("a number").round();
                                face.publish(say("house/point", &format!("{rounded:.0}"))).await;
                            } else {
                                face.publish(say("house/mode", &payload)).await;
                            }
                            orders.push((topic, payload));
                        }
                        let time = status(&data)["time"].as_str().and_then(|t| t.parse::<jiff::Timestamp>().ok());
                        if time.is_some_and(|t| t.as_millisecond() >= at_ms) {
                            break;
                        }
                    }
                }
            };
        }
        hub.wait_until(&["devices"], |d| d.to_string().contains("occupied_heating_setpoint"));
        minutes!(2);
        assert!(orders.iter().any(|o| o.1 == "17.8"), "{orders:?}");
        hub.cli(&["thermostat", "hold", "20.4"]);
        minutes!(5);
        // Told once; the valve's 20 is its own word for it, and no order of anybody.
        assert_eq!(orders.iter().filter(|o| o.1 == "20.4").count(), 1, "{orders:?}");
        let now = status(&data);
        assert_eq!((now["heat_set_point"].as_f64(), now["source"]["by"].as_str()), (Some(20.4), Some("owner")), "{now}");
        // The valve was asleep: what it said before comes once more, late. That is nobody's order, and is not answered.
        let said = orders.len();
        face.publish(say("house/point", "18")).await;
        minutes!(3);
        let late = status(&data);
        assert_eq!((late["heat_set_point"].as_f64(), late["source"]["by"].as_str()), (Some(20.4), Some("owner")), "{late}");
        face.publish(say("house/point", "20")).await;
        minutes!(1);
        assert_eq!(orders.len(), said, "{orders:?}");
        // What it does is told as what runs, without any relay.
        face.publish(say("house/action", "heating")).await;
        minutes!(2);
        assert_eq!((status(&data)["running"].as_str(), status(&data)["relays"].clone()), (Some("heating"), json!({})));
        // Somebody turns it: theirs it is, until the program's next change, and it is told once what it said.
        face.publish(say("house/point", "23")).await;
        minutes!(4);
        let turned = status(&data);
        assert_eq!((turned["heat_set_point"].as_f64(), turned["source"]["by"].as_str()), (Some(23.0), Some("the thermostat itself")), "{turned}");
        assert!(turned["source"]["until"].is_string());
        let said = orders.len();
        minutes!(6);
        assert_eq!(orders.len(), said, "an echo loop: {orders:?}");
        // A window pauses it; closed, it goes on where it was.
        face.publish(say("house/window", "ON")).await;
        minutes!(3);
        // It is never left off: were the hub gone before the window is shut, it would stay so.
        let least = orders.last().and_then(|o| o.1.parse::<f64>().ok());
        assert!(least.is_some_and(|t| (7.0..10.0).contains(&t)), "{orders:?}");
        assert_eq!(status(&data)["mode"], "heat", "the pause is no mode of the household's");
        face.publish(say("house/window", "OFF")).await;
        minutes!(5);
        assert_eq!(orders.last().map(|o| o.1.as_str()), Some("23"), "{orders:?}");
        assert_eq!(status(&data)["heat_set_point"], 23.0);
        // Switched off at the valve, it stays off.
        face.publish(say("house/mode", "off")).await;
        minutes!(4);
        assert_eq!(status(&data)["mode"], "off");
        hub.stop();
    });
}
