//! Two thermostats of one hub in Fahrenheit: a heat pump with its valve and auxiliary heat downstairs, an air conditioner that
//! also dries upstairs. The test moves the hub's clock.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Duration;

use comfort::simulate::plant::{Plant, PlantParameters};
use comfort::simulate::weather::Outdoors;
use comfort::{Call, Output};
use devices::mqtt::face::{Face, FaceEvent};
use devices::mqtt::house::Publication;
use serde_json::{Value, json};

use crate::harness::{Hub, Mosquitto, Subscriber, control, get, program, replace};
use crate::thermostat_hub::say;

/// Wednesday, 8 July 2026, noon in New York.
const BEGIN_MS: i64 = 1_783_526_400_000;
const STEP_S: i64 = 30;

const HOME: &str = "[home]\nunits = \"fahrenheit\"\ntimezone = \"America/New_York\"\n";
const DOWNSTAIRS: &str = r#"
[[thermostat]]
name = "Downstairs"
sensors = ["down"]
outdoor = "garden"
heat = "compressor"
cool = "compressor"
reversing_valve = "valve"
aux = "strip"
fan = "blower"
aux_lockout = 60
own_control = true
lock = [66, 78]
price_topic = "energy/price"
dear_set_back = 3
dear_ahead = 0
dear_limits = [66, 79]
demand_response_topic = "utility/requests"
"#;
const UPSTAIRS: &str = r#"
[[thermostat]]
name = "Upstairs"
sensors = ["up"]
cool = "ac"
fan = "ac_fan"
dry_by_cooling = true
overcool = 2
own_control = true
"#;
const RELAYS: [&str; 6] = ["compressor", "valve", "strip", "blower", "ac", "ac_fan"];

fn f(celsius: f64) -> f64 {
    celsius * 1.8 + 32.0
}

struct House {
    broker: Mosquitto,
    face: Face,
    down: Plant,
    up: Plant,
    humidity: u8,
    outdoor_f: f64,
    on: BTreeMap<String, bool>,
    /// When a relay was switched, and to what.
    switched: Vec<(i64, String, bool)>,
    now_s: i64,
    clock: PathBuf,
    data: PathBuf,
    names: Vec<&'static str>,
}

impl House {
    async fn new(dir: &Path) -> Self {
        let broker = Mosquitto::start();
        let will = say("house/status", "offline");
        let mut face = Face::start(&broker.url(), "house", &will, "house/+/set").expect("an address");
        while face.next().await != FaceEvent::Connected {}
        let plant = |seed| Plant::new(PlantParameters::default(), 24.9, seed);
        let mut house = Self {
            broker,
            face,
            down: plant(1),
            up: plant(2),
            humidity: 45,
            outdoor_f: 80.0,
            on: RELAYS.iter().map(|r| ((*r).to_owned(), false)).collect(),
            switched: Vec::new(),
            now_s: 0,
            clock: dir.join("clock"),
            data: dir.join("data"),
            names: vec!["Downstairs", "Upstairs"],
        };
        house.move_clock(0);
        for relay in RELAYS {
            let config = json!({"name": null, "unique_id": relay, "device": {"identifiers": [relay], "name": relay},
                "state_topic": format!("house/{relay}/state"), "command_topic": format!("house/{relay}/set")});
            house.face.publish(say(&format!("homeassistant/switch/{relay}/config"), &config.to_string())).await;
            house.report(relay).await;
        }
        for (sensor, class, unit, topic) in [
            ("down", "temperature", "°F", "house/down"),
            ("up", "temperature", "°F", "house/up"),
            ("up", "humidity", "%", "house/humidity"),
            ("garden", "temperature", "°F", "house/garden"),
        ] {
            let config = json!({"name": null, "unique_id": format!("{sensor}_{class}"), "device_class": class,
                "device": {"identifiers": [sensor], "name": sensor}, "unit_of_measurement": unit, "state_topic": topic});
            house
                .face
                .publish(say(&format!("homeassistant/sensor/{sensor}_{class}/config"), &config.to_string()))
                .await;
        }
        house.speak().await;
        house
    }

    fn move_clock(&mut self, seconds: i64) {
        self.now_s += seconds;
        replace(&self.clock, &(BEGIN_MS + self.now_s * 1000).to_string());
    }

    async fn report(&self, relay: &str) {
        let word = if self.on[relay] { "ON" } else { "OFF" };
        self.face.publish(say(&format!("house/{relay}/state"), word)).await;
    }

    async fn speak(&self) {
        for (topic, value) in [
            ("house/down", f(self.down.sensor_c())),
            ("house/up", f(self.up.sensor_c())),
            ("house/humidity", f64::from(self.humidity)),
            ("house/garden", self.outdoor_f),
        ] {
            self.face.publish(say(topic, &format!("{value:.2}"))).await;
        }
    }

    fn hub(&self, setup: &str) -> Hub {
        let file = self.data.with_extension("toml");
        std::fs::write(&file, setup).expect("written");
        let mut command = program();
        command.args(["serve", "--data"]).arg(&self.data).arg("--config").arg(file);
        command.env("VESTIBULE__MQTT__URL", self.broker.url()).env("VESTIBULE_CLOCK", &self.clock);
        Hub::spawn(command, &self.data)
    }

    fn status(&self, name: &str) -> Value {
        control(&self.data, &json!({"thermostat_of": {"name": name, "order": "status"}})).unwrap_or_default()
    }

    /// Half a minute.
    async fn step(&mut self) {
        self.move_clock(STEP_S);
        if self.now_s % 60 == 0 {
            self.speak().await;
        }
        self.settle().await;
        assert!(!self.on["compressor"] || self.on["blower"], "a compressor without air: {:?}", self.on);
        assert!(!self.on["ac"] || self.on["ac_fan"], "cooling without air: {:?}", self.on);
        let call = |outputs: &[(&str, Output)]| {
            let on: Vec<Output> = outputs.iter().filter(|(relay, _)| self.on[*relay]).map(|(_, o)| *o).collect();
            Call::of(&on)
        };
        let pump = if self.on["valve"] { Output::Cool1 } else { Output::Heat1 };
        let (down, up) = (call(&[("compressor", pump), ("strip", Output::Aux)]), call(&[("ac", Output::Cool1)]));
        let outdoors = Outdoors { temperature_c: (self.outdoor_f - 32.0) / 1.8, dew_point_c: 5.0, irradiance: 0.0 };
        for (plant, call) in [(&mut self.down, down), (&mut self.up, up)] {
            let asked_w = plant.asked_w(call);
            plant.step(STEP_S as f64, outdoors, asked_w);
        }
    }

    async fn minutes(&mut self, minutes: i64) {
        for _ in 0..minutes * 2 {
            self.step().await;
        }
    }

    /// Takes what the hub orders until every relay is as its thermostat says at this time.
    async fn settle(&mut self) {
        for _ in 0..6000 {
            while let Ok(event) = tokio::time::timeout(Duration::from_millis(4), self.face.next()).await {
                let FaceEvent::Order { topic, payload, .. } = event else { continue };
                let relay = topic.split('/').nth(1).expect("a relay").to_owned();
                let on = payload == "ON";
                if self.on.insert(relay.clone(), on) != Some(on) {
                    assert!(relay != "valve" || !self.on["compressor"], "the valve turned under a running compressor");
                    self.switched.push((self.now_s, relay.clone(), on));
                }
                self.report(&relay).await;
            }
            let is_so = |name: &str| {
                let status = self.status(name);
                let time = status["time"].as_str().and_then(|t| t.parse::<jiff::Timestamp>().ok());
                let is_now = time.is_some_and(|t| t.as_millisecond() >= BEGIN_MS + self.now_s * 1000);
                let on = |output: &str| status["relays"][output] == json!(true);
                let relays = match name {
                    "Downstairs" => {
                        [("compressor", on("heat1") || on("cool1")), ("strip", on("aux")), ("blower", on("fan"))]
                            .to_vec()
                    }
                    _ => [("ac", on("cool1")), ("ac_fan", on("fan"))].to_vec(),
                };
                is_now && relays.iter().all(|(relay, on)| self.on[*relay] == *on)
            };
            if self.names.iter().all(|name| is_so(name)) {
                return;
            }
        }
        panic!("the hub took no step: {} {}", self.status("Downstairs"), self.status("Upstairs"));
    }

    /// Starts of a relay since then.
    fn starts(&self, relay: &str, since_s: i64) -> Vec<i64> {
        let on = self.switched.iter().filter(|(at, name, on)| *at >= since_s && name == relay && *on);
        on.map(|(at, ..)| *at).collect()
    }

    async fn order(&mut self, topic: &str, payload: &str) {
        self.face.publish(Publication { retain: false, ..say(topic, payload) }).await;
    }
}

/// A summer afternoon, a winter's evening, and the day on which one of them is given up.
#[test]
fn two_thermostats_in_fahrenheit_keep_their_floors_with_a_heat_pump_and_a_dryer() {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build();
    runtime.expect("a runtime").block_on(async {
        let dir = tempfile::tempdir().expect("a directory");
        let mut house = House::new(dir.path()).await;
        let said = Subscriber::start(house.broker.port, "homeassistant/climate/+/config");
        let mut hub = house.hub(&format!("{HOME}{DOWNSTAIRS}{UPSTAIRS}"));
        let (one, other) = (said.next(), said.next());
        assert!(one.contains("Downstairs") != other.contains("Downstairs"), "{one} {other}");
        let both = hub.cli_json(&["thermostat", "status"]);
        assert_eq!(both.as_array().map(Vec::len), Some(2), "{both}");
        let to =
            |name: &'static str, order: &[&'static str]| [&["thermostat"], order, &["--thermostat", name]].concat();
        let base = format!("vestibule/{}", both[0]["device"].as_str().expect("an id").replace("-thermostat", ""));

        // Cooling: each floor to its own set point.
        hub.cli(&to("downstairs", &["set", "--mode", "cool"]));
        hub.cli(&to("Downstairs", &["hold", "76"]));
        hub.cli(&to("Upstairs", &["hold", "74"]));
        house.minutes(150).await;
        for (name, at) in [("Downstairs", 76.0), ("Upstairs", 74.0)] {
            let status = house.status(name);
            let t = status["temperature"].as_f64().expect("a temperature");
            assert!((t - at).abs() < 1.1 && status["cool_set_point"] == at, "{name} is at {t}: {status}");
        }
        assert!(house.on["valve"], "the valve is energised for cooling");
        for relay in ["compressor", "ac"] {
            let starts = house.starts(relay, 0);
            assert!(!starts.is_empty() && starts.windows(2).all(|w| w[1] - w[0] >= 900), "{relay}: {starts:?}");
        }

        // The household's listener tells the same.
        let (_, listed) = get(&format!("{}/api/thermostats", hub.console));
        let listed: Value = serde_json::from_str(&listed).expect("json");
        assert_eq!((listed[0]["name"].as_str(), listed[1]["name"].as_str()), (Some("Downstairs"), Some("Upstairs")));

        let (_, page) = get(&format!("{}/api/overview", hub.console));
        assert!(page.contains("It cools") || page.contains("It is idle"), "{page}");

        // Damp air upstairs is dried by cooling, two degrees below the set point and no further.
        hub.cli(&to("Upstairs", &["set", "--dry-above", "55"]));
        house.humidity = 70;
        let mut dried = false;
        let mut coldest = 99.0_f64;
        for _ in 0..120 {
            house.step().await;
            let up = house.status("Upstairs");
            dried |= up["reason"] == "tooHumid" && up["relays"]["cool1"] == true;
            coldest = coldest.min(up["temperature"].as_f64().expect("a temperature"));
        }
        assert!(dried && (71.0..73.4).contains(&coldest), "dried: {dried}, down to {coldest}");
        house.humidity = 45;

        // A dear hour that was heard moves downstairs' set point, to the limit and no further; `why` says so.
        let from_s = house.now_s;
        let at = |minutes: i64| {
            let ms = BEGIN_MS + from_s * 1000 + minutes * 60_000;
            jiff::Timestamp::from_millisecond(ms).expect("a time").to_string()
        };
        let (start, dear, end) = (at(-16 * 60), at(0), at(60));
        let later = at(8 * 60);
        let prices = json!([{"start": start, "end": dear, "price": 0.1}, {"start": dear, "end": end, "price": 0.5},
            {"start": end, "end": later, "price": 0.1}]);
        house.order("energy/price", &prices.to_string()).await;
        hub.wait_until(&to("Downstairs", &["status"]), |s| s["prices"]["dear"] == true);
        // A hold goes before a price.
        assert_eq!(house.status("Downstairs")["cool_set_point"], 76.0);
        hub.cli(&to("Downstairs", &["resume"]));
        let usual = house.status("Downstairs")["prices"]["cool_without"].as_f64().expect("a set point");
        let moved = house.status("Downstairs");
        assert_eq!(moved["cool_set_point"].as_f64(), Some((usual + 3.0).min(79.0)), "{moved}");
        let why = hub.cli(&to("Downstairs", &["why"]));
        assert!(why.contains("dear hours by prices") && why.contains("without that it would cool to"), "{why}");
        hub.cli(&to("Downstairs", &["resume"]));
        assert_eq!(house.status("Downstairs")["cool_set_point"].as_f64(), Some(usual), "the household opts out");

        // A utility asks; the household opts out at once; the same message again changes nothing.
        let (start, end) = (at(0), at(120));
        let request = json!({"name": "peak", "start": start, "end": end, "by": 2, "random_s": 0}).to_string();
        house.order("utility/requests", &request).await;
        let wanted = |s: &Value| s["source"]["event"] == "demandResponse" && s["cool_set_point"] == usual + 2.0;
        hub.wait_until(&to("Downstairs", &["status"]), wanted);
        house.order(&format!("{base}/thermostat/set/demand"), "decline").await;
        hub.wait_until(&to("Downstairs", &["status"]), |s| s["cool_set_point"] == usual);
        house.order("utility/requests", &request).await;
        house.minutes(1).await;
        let demands = hub.cli_json(&to("Downstairs", &["demand"]));
        assert_eq!((demands[0]["name"].as_str(), demands[0]["answer"].as_str()), (Some("peak"), Some("declined")));
        assert_eq!(house.status("Downstairs")["cool_set_point"], usual);

        // The lock holds whoever comes over the broker, until they say the code; it is neither kept nor logged.
        control(
            &house.data,
            &json!({"thermostat_of": {"name": "Downstairs", "order": {"code_set": {"code": "471147114711"}}}}),
        )
        .expect("a code");
        let set = format!("{base}/thermostat/set");
        house.order(&format!("{set}/temperature"), "70").await;
        hub.wait_until(&to("Downstairs", &["status"]), |s| s["cool_set_point"] == 70.0);
        house.order(&format!("{set}/temperature"), "80").await;
        house.order(&format!("{set}/mode"), "off").await;
        house.order(&format!("{set}/code"), "0000-wrong").await;
        hub.wait_until(&to("Downstairs", &["code"]), |c| c["wrong_attempts"] == 1);
        let locked = house.status("Downstairs");
        assert_eq!((locked["cool_set_point"].as_f64(), locked["mode"].as_str()), (Some(70.0), Some("cool")));
        house.order(&format!("{set}/code"), "471147114711").await;
        hub.wait_until(&to("Downstairs", &["code"]), |c| c["open"] == true);
        house.order(&format!("{set}/temperature"), "80").await;
        hub.wait_until(&to("Downstairs", &["status"]), |s| s["cool_set_point"] == 80.0);

        // Winter: the valve turns, with its pause; the heat pump does it alone, and auxiliary heat joins when it must.
        while !house.on["compressor"] {
            hub.cli(&to("Downstairs", &["hold", "66"]));
            house.step().await;
        }
        house.minutes(5).await;
        house.outdoor_f = 30.0;
        hub.cli(&to("Downstairs", &["set", "--mode", "heat"]));
        let changed_s = house.now_s;
        hub.cli(&to("Downstairs", &["hold", "72"]));
        while !house.status("Downstairs")["relays"]["heat1"].as_bool().unwrap_or(false) {
            house.step().await;
        }
        assert!(house.now_s - changed_s >= 300 && !house.on["valve"], "{:?}", house.switched);
        house.minutes(90).await;
        let t = house.status("Downstairs")["temperature"].as_f64().expect("a temperature");
        assert!((t - 72.0).abs() < 1.2, "{t} °F");
        assert_eq!(house.starts("strip", changed_s), Vec::<i64>::new(), "auxiliary heat is dear");
        hub.cli(&to("Downstairs", &["hold", "79"]));
        let wish_s = house.now_s;
        while !house.on["strip"] {
            house.step().await;
            assert!(house.now_s - wish_s < 2 * 3600, "auxiliary heat never came: {}", house.status("Downstairs"));
        }
        let ran_s = house.now_s - house.starts("compressor", 0).last().expect("it runs");
        assert!(ran_s >= 1800, "auxiliary heat joined a heat pump that had run for {ran_s} s");

        // The filter has seen some hours; it is told when it is due, and a crash forgets none of it.
        hub.cli(&to("Downstairs", &["reminder", "set", "filter", "--after", "1"]));
        house.minutes(2).await;
        hub.process.signal("KILL");
        let _ = hub.process.child.wait();
        house.move_clock(STEP_S);
        // Meanwhile downstairs is given up, and upstairs stands alone in the configuration.
        let data = house.data.to_str().expect("a path").to_owned();
        let kept = crate::harness::run_json(&[
            "thermostat",
            "reminder",
            "--thermostat",
            "Downstairs",
            "--json",
            "--data",
            &data,
        ]);
        assert!(kept[0]["due"] == true && kept[0]["used"].as_f64().is_some_and(|h| h > 1.2), "{kept}");
        house.names = vec!["Upstairs"];
        hub = house.hub(&format!("{HOME}{UPSTAIRS}"));
        let cleared = loop {
            let line = said.next();
            // Upstairs is described anew; the other one's description is empty now.
            if line.trim_end().ends_with("/config 1") {
                break line;
            }
            assert!(line.contains("Upstairs"), "{line}");
        };
        assert!(cleared.contains("_thermostat/config"), "{cleared}");
        house.step().await;
        let alone = hub.cli_json(&["thermostat", "status"]);
        assert_eq!(
            (alone["name"].as_str(), alone["events"][0]["heat"].is_null()),
            (Some("Upstairs"), false),
            "{alone}"
        );
        assert_eq!(alone["cool_set_point"], 74.0, "upstairs has kept its hold: {alone}");
        assert_eq!(alone["device"].as_str().map(|d| d.ends_with("-thermostat-2")), Some(true));
        hub.process.signal("TERM");
        let _ = hub.process.child.wait();
        let log = hub.process.said();
        let file = std::fs::read(house.data.join("thermostat.db")).expect("a file");
        let has = |bytes: &[u8], text: &str| bytes.windows(text.len()).any(|w| w == text.as_bytes());
        for secret in ["471147114711", "0000-wrong"] {
            assert!(!log.contains(secret) && !has(&file, secret), "`{secret}` is written down");
        }
    });
}
