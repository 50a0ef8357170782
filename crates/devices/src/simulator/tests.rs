use std::collections::BTreeMap;

use serde_json::Value;

use super::thermostat::{MIN_OFF_MS, MIN_ON_MS};
use super::*;

/// Monday 5 January 2026, 00:00 in Paris.
const MONDAY: i64 = 1_767_567_600_000;

fn paris() -> TimeZone {
    TimeZone::get("Europe/Paris").unwrap()
}

fn at(ms: i64) -> Timestamp {
    Timestamp::from_millis(ms)
}

fn climate(publication: &Publication) -> Option<Value> {
    (publication.topic == "house/thermostat/state").then(|| serde_json::from_str(&publication.payload).unwrap())
}

#[test]
fn same_seed_same_publications_and_another_seed_others() {
    let day = |seed, steps: i64| {
        let mut home = Simulation::new(seed, MONDAY, paris());
        let mut all = home.announce();
        for step in 1..=steps {
            all.extend(home.step_to(at(MONDAY + step * DAY_MS / steps)));
        }
        all
    };
    let once = day(7, 1);
    assert!(once.len() > 300, "{} publications in a day", once.len());
    assert_eq!(once, day(7, 1));
    // How often the clock is looked at changes nothing either.
    assert_eq!(once, day(7, 1000));
    assert_ne!(once, day(8, 1));
}

#[test]
fn a_heated_house_stays_near_its_set_point_in_winter() {
    let mut home = Simulation::new(3, MONDAY, paris());
    let mut heated = 0;
    for minute in 0..14 * 24 * 60 {
        let now = MONDAY + minute * MINUTE_MS;
        // Asked for again and again, so that the program can't change it.
        let _ = home.handle("house/thermostat/set/temperature", b"20", at(now));
        heated += i32::from(home.thermostat.heating);
        if minute > 24 * 60 {
            assert!((home.house.air_c - 20.0).abs() < 2.0, "{} °C after {minute} min", home.house.air_c);
            assert!((10.0..=90.0).contains(&home.house.humidity()), "{} %", home.house.humidity());
            assert!((400.0..=2500.0).contains(&home.house.co2_ppm), "{} ppm", home.house.co2_ppm);
            assert!(home.house.bedroom_c > 14.0 && home.house.bedroom_c < 22.0, "{}", home.house.bedroom_c);
        }
    }
    let duty = f64::from(heated) / (14.0 * 24.0 * 60.0);
    assert!((0.2..0.8).contains(&duty), "the heating ran {duty} of the time");
}

#[test]
fn without_heating_a_winter_house_cools_and_a_summer_house_stays_habitable() {
    let mut home = Simulation::new(3, MONDAY, paris());
    let _ = home.handle("house/thermostat/set/mode", b"off", at(MONDAY));
    let before = home.house.air_c;
    let _ = home.step_to(at(MONDAY + 2 * DAY_MS));
    assert!(home.house.air_c < before - 4.0, "{before} -> {}", home.house.air_c);
    assert!(!home.thermostat.heating);

    let july = MONDAY + 190 * DAY_MS;
    let mut home = Simulation::new(3, july, paris());
    for hour in 0..14 * 24 {
        let _ = home.step_to(at(july + hour * 60 * MINUTE_MS));
        assert!((18.0..34.0).contains(&home.house.air_c), "{} °C", home.house.air_c);
    }
}

#[test]
fn minimum_run_and_off_times_hold_for_a_month_of_random_commands() {
    let mut home = Simulation::new(11, MONDAY, paris());
    let mut rng = Rng::new(99, 0, 0);
    let mut now = MONDAY;
    let mut heating = home.thermostat.heating;
    let mut switched = None;
    let mut runs = 0;
    while now < MONDAY + 30 * DAY_MS {
        now += rng.around(90, 85) * 1000;
        let (topic, payload) = match rng.around(3, 3) {
            0 => ("house/thermostat/set/mode", "off".to_owned()),
            1 | 2 => ("house/thermostat/set/mode", "heat".to_owned()),
            _ => ("house/thermostat/set/temperature", rng.around(19, 6).to_string()),
        };
        // Changes between two looks at the clock are told in order; each is at least one step apart.
        for change in home.handle(topic, payload.as_bytes(), at(now)).iter().filter_map(climate) {
            let runs_now = change["running_state"] == "heat";
            if runs_now != heating {
                heating = runs_now;
                runs += i32::from(heating);
            }
        }
        if home.thermostat.switched_ms != switched.unwrap_or(i64::MIN) {
            let this = home.thermostat.switched_ms;
            if let Some(last) = switched.replace(this).filter(|last| *last > 0) {
                let least = if home.thermostat.heating { MIN_OFF_MS } else { MIN_ON_MS };
                assert!(this - last >= least, "switched after {} ms", this - last);
            }
        }
    }
    assert!(runs > 500, "only {runs} runs: the test would prove little");
}

#[test]
fn absence_shows_in_doors_and_silence() {
    // Tuesday: both are out from about nine to five.
    let mut home = Simulation::new(5, MONDAY + DAY_MS, paris());
    let mut garage = Vec::new();
    let mut contacts = 0;
    let mut motion = BTreeMap::<i64, u32>::new();
    for minute in 1..=24 * 60 {
        for said in home.step_to(at(MONDAY + DAY_MS + minute * MINUTE_MS)) {
            match said.topic.as_str() {
                "house/garage/door/state" => garage.push((minute / 60, said.payload)),
                "house/front_door/contact" if said.payload == "ON" => contacts += 1,
                "house/hall_motion" if said.payload.contains("\"motion\":true") => {
                    *motion.entry(minute / 60).or_default() += 1;
                }
                _ => {}
            }
        }
    }
    let states: Vec<&str> = garage.iter().map(|(_, state)| state.as_str()).collect();
    assert_eq!(states, ["opening", "open", "closing", "closed"].repeat(2));
    assert!((7..=8).contains(&garage[0].0) && (17..=18).contains(&garage[7].0), "{garage:?}");
    assert_eq!(contacts, 2, "out in the morning, in again in the afternoon");
    let quiet: u32 = (9..16).filter_map(|hour| motion.get(&hour)).sum();
    let lively: u32 = (17..22).filter_map(|hour| motion.get(&hour)).sum();
    assert_eq!(quiet, 0, "{motion:?}");
    assert!(lively > 10, "{motion:?}");
}

#[test]
fn commands_take_effect_and_are_reported() {
    let mut home = Simulation::new(5, MONDAY, paris());
    let mut states = BTreeMap::new();
    let mut keep = |all: Vec<Publication>| {
        let mut changed = Vec::new();
        for said in all {
            states.insert(said.topic.clone(), said.payload.clone());
            changed.push((said.topic, said.payload));
        }
        changed
    };
    keep(home.announce());
    let say = |topic: &str, payload: &str| (topic.to_owned(), payload.to_owned());

    let said = keep(home.handle("house/front_door/lock/set", b"UNLOCK", at(MONDAY)));
    assert_eq!(said, [say("house/front_door/lock/state", "UNLOCKING")]);
    let said = keep(home.step_to(at(MONDAY + 5_000)));
    assert!(said.contains(&say("house/front_door/lock/state", "UNLOCKED")), "{said:?}");

    let said = keep(home.handle("house/garage/door/set", b"OPEN", at(MONDAY + 5_000)));
    assert_eq!(said, [say("house/garage/door/state", "opening")]);
    let said = keep(home.step_to(at(MONDAY + 15_000)));
    assert!(!said.iter().any(|(topic, _)| topic.contains("garage")), "ten seconds are not enough: {said:?}");
    let said = keep(home.step_to(at(MONDAY + 20_000)));
    assert!(said.contains(&say("house/garage/door/state", "open")), "{said:?}");
    // Told to open again, an open door doesn't move; shut again, it can be stopped half-way.
    assert_eq!(keep(home.handle("house/garage/door/set", b"OPEN", at(MONDAY + 20_000))), []);
    keep(home.handle("house/garage/door/set", b"CLOSE", at(MONDAY + 20_000)));
    keep(home.step_to(at(MONDAY + 25_000)));
    let said = keep(home.handle("house/garage/door/set", b"STOP", at(MONDAY + 25_000)));
    assert_eq!(said, [say("house/garage/door/state", "open")]);

    keep(home.handle("house/living_room_light/set/brightness", b"77", at(MONDAY + 30_000)));
    keep(home.handle("house/tv_plug/set", b"ON", at(MONDAY + 30_000)));
    keep(home.handle("house/thermostat/set/temperature", b"21.0", at(MONDAY + 30_000)));
    for (topic, payload) in [
        ("house/thermostat/set/temperature", "warm"),
        ("house/thermostat/set/temperature", "NaN"),
        ("house/thermostat/set/mode", "cool"),
        ("house/garage/door/set", "open"),
        ("house/living_room_light/set/brightness", "256"),
        ("house/nothing/set", "ON"),
        ("elsewhere", ""),
    ] {
        assert_eq!(keep(home.handle(topic, payload.as_bytes(), at(MONDAY + 30_000))), [], "{topic} {payload}");
    }
    assert_eq!(home.handle("house/tv_plug/set", &[0xff, 0xfe], at(MONDAY + 30_000)), []);
    let json = |topic: &str| serde_json::from_str::<Value>(&states[topic]).unwrap();
    assert_eq!(json("house/living_room_light/state")["brightness"], 77);
    assert_eq!(json("house/living_room_light/state")["state"], "ON");
    assert_eq!(json("house/tv_plug/state")["power"], 90.0);
    assert_eq!(json("house/thermostat/state")["set_point"], 21.0);
}

#[test]
fn discovery_names_only_topics_that_are_spoken_or_heard() {
    let home = Simulation::new(1, MONDAY, paris());
    let all = home.announce();
    let spoken: Vec<&str> = all.iter().map(|p| p.topic.as_str()).collect();
    let mut unique = Vec::new();
    let mut devices = std::collections::BTreeSet::new();
    for config in all.iter().filter(|p| p.topic.starts_with("homeassistant/")) {
        assert!(config.retain && config.topic.ends_with("/config"), "{}", config.topic);
        let value: Value = serde_json::from_str(&config.payload).unwrap();
        let base = value["~"].as_str().unwrap_or_default().to_owned();
        let device = if value["dev"].is_null() { &value["device"] } else { &value["dev"] };
        devices.insert(device["name"].as_str().unwrap().to_owned());
        let mut strings = Vec::new();
        collect(&value, "", &mut strings);
        for (key, text) in strings {
            let topic = text.replacen('~', &base, 1);
            if key.ends_with("cmd_t") || key.ends_with("command_topic") {
                let filters = home.command_filters();
                assert!(filters.iter().any(|filter| matches_filter(filter, &topic)), "{topic} is not heard");
                assert!(!spoken.contains(&topic.as_str()), "{topic} is both");
            } else if key.ends_with("_t") && key != "state_class" || key.ends_with("topic") || key == "t" {
                assert!(spoken.contains(&topic.as_str()), "{topic} is never spoken");
            } else if key == "uniq_id" || key == "unique_id" {
                unique.push(text);
            }
        }
    }
    let count = unique.len();
    unique.sort();
    unique.dedup();
    assert_eq!(unique.len(), count, "unique ids repeat");
    assert_eq!(devices.len(), 7, "{devices:?}");
    assert!(!spoken.contains(&"homeassistant/status"));

    fn collect(value: &Value, key: &str, out: &mut Vec<(String, String)>) {
        match value {
            Value::String(text) => out.push((key.to_owned(), text.clone())),
            Value::Array(items) => items.iter().for_each(|item| collect(item, key, out)),
            Value::Object(map) => map.iter().for_each(|(key, item)| collect(item, key, out)),
            _ => {}
        }
    }
    fn matches_filter(filter: &str, topic: &str) -> bool {
        let (filter, topic): (Vec<_>, Vec<_>) = (filter.split('/').collect(), topic.split('/').collect());
        filter.len() == topic.len() && filter.iter().zip(&topic).all(|(f, t)| *f == "+" || f == t)
    }
}

#[test]
fn a_clock_that_jumps_is_followed_and_one_that_steps_back_changes_nothing() {
    let mut home = Simulation::new(1, MONDAY, paris());
    assert_eq!(home.step_to(at(MONDAY - DAY_MS)), []);
    assert_eq!(home.step_to(at(i64::MIN)), []);
    let years = MONDAY + 3000 * DAY_MS;
    let _ = home.step_to(at(years));
    assert!(years - home.now_ms < STEP_MS);
    assert!((5.0..35.0).contains(&home.house.air_c));
}

/// A clock that runs 720 times as fast as the one of the machine.
struct Fast {
    start_ms: i64,
    since: tokio::time::Instant,
}

impl Clock for Fast {
    fn now(&self) -> Timestamp {
        at(self.start_ms + self.since.elapsed().as_millis() as i64 * 720)
    }
}

#[tokio::test]
async fn the_running_home_announces_itself_obeys_and_says_goodbye() {
    let broker = test_broker::TestBroker::start().await;
    let noon = MONDAY + 12 * 60 * MINUTE_MS;
    let home = Simulation::new(5, noon, paris());
    let expected = home.announce();
    let clock = Arc::new(Fast { start_ms: noon, since: tokio::time::Instant::now() });
    let (stop, shutdown) = watch::channel(false);
    let running = tokio::spawn(run(home, "127.0.0.1".to_owned(), broker.port, clock, shutdown));

    let all_of = |all: &[(String, String)]| expected.iter().all(|e| all.iter().any(|(topic, _)| *topic == e.topic));
    broker.heard_until(all_of).await;
    broker.say("house/garage/door/set", "OPEN").await;
    broker.say("house/thermostat/set/temperature", "22.5").await;
    let said = |topic: &'static str, text: &'static str| {
        move |all: &[(String, String)]| all.iter().any(|(t, p)| t == topic && p.contains(text))
    };
    broker.heard_until(said("house/thermostat/state", "\"set_point\":22.5")).await;
    broker.heard_until(said("house/garage/door/state", "opening")).await;
    broker.heard_until(|all| all.iter().any(|(t, p)| t == "house/garage/door/state" && p == "open")).await;

    stop.send(true).unwrap();
    running.await.unwrap().unwrap();
    let heard = broker.heard_until(|all| all.last().is_some_and(|(_, payload)| payload == "offline")).await;
    assert!(heard.iter().all(|(topic, _)| topic != "homeassistant/status"));
}
