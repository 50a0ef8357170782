//! Grants that count at some times alone, what becomes of those that expire, and which of them were of use: of the whole hub with
//! a moved clock.

use serde_json::{Value, json};

use crate::harness::{Hub, Mosquitto, Publisher, Subscriber, program, publish, run};
use crate::promises::{FAULTS, TEXTS, arm, begin_at, one, set_clock, state};

const MINUTE_MS: i64 = 60_000;
const DAY_MS: i64 = 24 * 60 * MINUTE_MS;

/// Monday, 24 November 2025, 05:00 in UTC.
const MONDAY_MS: i64 = 1_763_960_400_000;

pub fn linked(hub: &Hub) -> String {
    hub.cli(&["link", "alexa", "--profile", "commands-only", "--print-token"]).trim().to_owned()
}

/// What a poll of the thermostat tells of the room temperature, as soon as that is as wanted.
pub fn temperature(hub: &Hub, token: &str, wanted: Option<f64>) {
    let told = || one(&state(hub, token, "THERMOSTAT"), "temperature").and_then(|(v, _)| v["value"].as_f64());
    // The scheduler goes by the clock in its own time.
    let patience = (0..200).find(|_| {
        let is = told() == wanted;
        if !is {
            std::thread::sleep(std::time::Duration::from_millis(50));
        }
        is
    });
    assert!(patience.is_some(), "told {:?}, not {wanted:?}", told());
}

/// The same hub, started again.
pub fn again(hub: Hub, broker: &Mosquitto, dir: &tempfile::TempDir) -> Hub {
    let data = hub.data.clone();
    drop(hub);
    let mut command = program();
    command.args(["serve", "--data"]).arg(&data).env("VESTIBULE__MQTT__URL", broker.url());
    command.env("VESTIBULE_CLOCK", dir.path().join("clock")).env("VESTIBULE_FAULTS", dir.path().join(FAULTS));
    Hub::spawn(command, &data)
}

pub fn changes(hub: &Hub) -> Vec<String> {
    let leaves = hub.ledger();
    let shown = leaves.iter().filter(|l| l["type"] == "policy").map(|l| {
        let leaf = hub.cli_json(&["ledger", "show", &l["index"].to_string()]);
        leaf["leaf"]["change"].as_str().unwrap_or_default().to_owned()
    });
    shown.collect()
}

#[test]
fn a_grant_with_hours_counts_within_them_alone_and_is_announced_at_all_times() {
    let (broker, hub, dir) = begin_at(Some(MONDAY_MS));
    let token = linked(&hub);
    let add = ["grant", "add", "alexa", "local_temperature", "--trigger", "partner_poll", "--rung", "live", "--yes"];
    let hours =
        ["--hours", "mon-fri 06:30-08:00", "--hours", "sat,sun 09:00-11:00", "--routine", "Warm in the morning"];
    let added = hub.cli_json(&[&add[..], &hours].concat());
    let conditions = "only mon,tue,wed,thu,fri 06:30-08:00 and sat,sun 09:00-11:00, for the routine \u{201c}Warm in the morning\u{201d}";
    assert_eq!(added["conditions"], json!([conditions]));
    assert_eq!(added["difference"]["flows"].as_array().unwrap().len(), 1, "{added}");

    // That it can be asked for is told at all hours: a partner discovers once.
    let alexa = testkit::PretendAlexa::new(&hub.partners, &token);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async { alexa.discover().await.unwrap() });
    assert!(alexa.endpoint_with("Alexa.TemperatureSensor", None).is_some());

    temperature(&hub, &token, None);
    let why = hub.cli_json(&["policy", "explain", "alexa", "local_temperature", "partner_poll"]);
    let change = why[0]["change"].as_str().unwrap();
    assert!(change.starts_with("nothing: it is granted, only mon"), "{change}");
    for (minutes, told) in [(89, None), (90, Some(19.4)), (179, Some(19.4)), (180, None)] {
        set_clock(&dir, MONDAY_MS + minutes * MINUTE_MS);
        temperature(&hub, &token, told);
    }
    // Within the hours the clock is set back: they would last until it has caught up.
    set_clock(&dir, MONDAY_MS + DAY_MS + 100 * MINUTE_MS);
    temperature(&hub, &token, Some(19.4));
    set_clock(&dir, MONDAY_MS + DAY_MS + 40 * MINUTE_MS);
    temperature(&hub, &token, None);
    set_clock(&dir, MONDAY_MS + DAY_MS + 101 * MINUTE_MS);
    temperature(&hub, &token, Some(19.4));
    // Saturday, and not yet nine.
    set_clock(&dir, MONDAY_MS + 5 * DAY_MS + 120 * MINUTE_MS);
    temperature(&hub, &token, None);
    set_clock(&dir, MONDAY_MS + 5 * DAY_MS + 241 * MINUTE_MS);
    temperature(&hub, &token, Some(19.4));
    // A restart with a clock that is days back, within hours, begins none of them anew.
    let mut hub = hub;
    hub.stop();
    set_clock(&dir, MONDAY_MS + 100 * MINUTE_MS);
    let hub = again(hub, &broker, &dir);
    temperature(&hub, &token, None);
    let granted = hub.cli_json(&["grant", "list", "--link", "alexa"]);
    let row = granted.as_array().unwrap().iter().find(|g| g["property"] == "local_temperature").unwrap();
    assert_eq!(row["counts_now"], false, "{row}");
    let began_and_ended =
        changes(&hub).iter().filter(|c| *c == "hours or windows of grants have begun or ended").count();
    assert!(began_and_ended >= 3, "{:?}", changes(&hub));

    // Taken back by the routine's name.
    hub.cli(&["grant", "revoke", "--routine", "Warm in the morning"]);
    temperature(&hub, &token, None);
    assert_eq!(hub.cli_json(&["ledger", "verify"])["ok"], true);
}

#[test]
fn means_and_what_is_late_are_told_when_their_hour_is_over_also_after_a_restart() {
    let (broker, hub, dir) = begin_at(Some(MONDAY_MS));
    let token = linked(&hub);
    let data = hub.data.display().to_string();
    let add = ["grant", "add", "alexa", "local_temperature", "--trigger", "partner_poll", "--yes", "--rung"];
    // Of what jumps there is no mean, and a voice assistant has no word for a count.
    for (property, rung, wrong) in [
        ("occupied_heating_setpoint", "hour_mean", "has live, quarter_hour, hour, hour_late, hour_coarse"),
        ("lock_state", "hour_late", "the lock state has no rung hour_late: it has live, day_count"),
        ("lock_state", "day_count", "agents alone"),
    ] {
        let trigger = ["--trigger", "partner_poll", "--rung", rung, "--yes", "--data", &data];
        let refused = run(&[&["grant", "add", "alexa", property][..], &trigger].concat());
        assert!(String::from_utf8_lossy(&refused.stderr).contains(wrong), "{refused:?}");
    }
    hub.cli(&[&add[..], &["hour_mean"]].concat());
    temperature(&hub, &token, None);
    // At the quarters of the first hour after it was seen: 19.4.
    set_clock(&dir, MONDAY_MS + 60 * MINUTE_MS + 1000);
    temperature(&hub, &token, Some(19.4));
    // At those of the next one: 19.4, then three times 25.
    publish(broker.port, &format!("{}/temp", TEXTS[6]), "25");
    hub.wait_until(&["devices"], |d| d.to_string().contains("\"value\":25000"));
    temperature(&hub, &token, Some(19.4));
    set_clock(&dir, MONDAY_MS + 120 * MINUTE_MS + 1000);
    temperature(&hub, &token, Some(23.6));
    let time = one(&state(&hub, &token, "THERMOSTAT"), "temperature").unwrap().1;
    assert!(time.starts_with("2025-11-24T07:00:00"), "{time}");
    let mut hub = hub;
    hub.stop();
    let hub = again(hub, &broker, &dir);
    temperature(&hub, &token, Some(23.6));
    // Late: until eight, what it was at six.
    hub.cli(&[&add[..], &["hour_late"]].concat());
    temperature(&hub, &token, Some(19.4));
    set_clock(&dir, MONDAY_MS + 180 * MINUTE_MS + 1000);
    temperature(&hub, &token, Some(25.0));
    assert_eq!(hub.cli_json(&["ledger", "verify"])["ok"], true);
    // Played again, a mean is of what was before the hour that is played.
    hub.cli(&[&add[..], &["hour_mean"]].concat());
    let (from, to) = ("2025-11-24T07:30:00Z", "2025-11-24T08:00:00Z");
    let played = hub.cli_json(&["policy", "simulate", "--from", from, "--to", to]).to_string();
    assert!(played.contains("23.6") && !played.contains("\"value\":25"), "{played}");
}

#[test]
fn a_window_lets_through_while_it_is_open_also_over_a_restart() {
    let (broker, mut hub, dir) = begin_at(Some(MONDAY_MS));
    let token = linked(&hub);
    let add = ["grant", "add", "alexa", "local_temperature", "--trigger", "partner_poll", "--rung", "live", "--yes"];
    hub.cli(&[&add[..], &["--window", "guests"]].concat());
    temperature(&hub, &token, None);
    let data = hub.data.display().to_string();
    let unknown = run(&["window", "open", "gusts", "--data", &data]);
    assert!(String::from_utf8_lossy(&unknown.stderr).contains("no grant is for a window"), "{unknown:?}");
    let long = run(&["window", "open", "guests", "--minutes", "61", "--data", &data]);
    assert!(String::from_utf8_lossy(&long.stderr).contains("1 to 60 minutes"), "{long:?}");

    hub.cli(&["window", "open", "guests", "--minutes", "5"]);
    temperature(&hub, &token, Some(19.4));
    let open = |hub: &Hub| -> Value { hub.cli_json(&["window", "list"])[0]["open_until"].clone() };
    assert_eq!(open(&hub), "2025-11-24T05:05:00.000Z");
    hub.stop();
    let hub = again(hub, &broker, &dir);
    temperature(&hub, &token, Some(19.4));
    set_clock(&dir, MONDAY_MS + 5 * MINUTE_MS);
    temperature(&hub, &token, None);

    // A clock that is set back shuts it: its minutes would last until it has caught up.
    hub.cli(&["window", "open", "guests", "--minutes", "10"]);
    temperature(&hub, &token, Some(19.4));
    set_clock(&dir, MONDAY_MS - 60 * MINUTE_MS);
    temperature(&hub, &token, None);
    // Nor is it opened now, to stand open when the clock has caught up.
    let late = run(&["window", "open", "guests", "--data", &data]);
    assert!(String::from_utf8_lossy(&late.stderr).contains("the clock was set back"), "{late:?}");
    set_clock(&dir, MONDAY_MS + 6 * MINUTE_MS);
    temperature(&hub, &token, None);

    hub.cli(&["window", "open", "guests"]);
    temperature(&hub, &token, Some(19.4));
    hub.cli(&["window", "close", "guests"]);
    temperature(&hub, &token, None);
    let changes = changes(&hub);
    assert!(changes.iter().any(|c| c.starts_with("window guests opened until")), "{changes:?}");
    assert!(changes.iter().any(|c| c == "window guests closed"), "{changes:?}");
    assert_eq!(hub.cli_json(&["ledger", "verify"])["ok"], true);
}

#[test]
fn simulated_days_keep_to_the_hours_and_to_the_windows_that_were_open() {
    let (_broker, hub, dir) = begin_at(Some(MONDAY_MS));
    linked(&hub);
    let add = |property: &str, more: [&str; 2]| {
        let poll = ["--trigger", "partner_poll", "--rung", "live", "--yes"];
        hub.cli(&[&["grant", "add", "alexa", property], &poll[..], &more].concat());
    };
    add("local_temperature", ["--hours", "daily 06:30-08:00"]);
    add("contact_open", ["--window", "guests"]);
    add("lock_state", ["--window", "never"]);
    set_clock(&dir, MONDAY_MS + 10 * MINUTE_MS);
    hub.cli(&["window", "open", "guests", "--minutes", "20"]);
    set_clock(&dir, MONDAY_MS + 20 * MINUTE_MS);
    hub.cli(&["window", "close", "guests"]);
    set_clock(&dir, MONDAY_MS + 240 * MINUTE_MS);
    let span = ["policy", "simulate", "--from", "2025-11-24T05:00:00Z", "--to", "2025-11-24T09:00:00Z"];
    let simulated = hub.cli_json(&[&span[..], &["--every", "5"]].concat());
    // From the first message with it to the first without.
    let told = |what: &str| -> (String, String) {
        let all = simulated["links"][0]["messages"].as_array().unwrap();
        let has = |m: &&Value| m["message"] == "Alexa.StateReport" && m["body"]["context"].to_string().contains(what);
        let from = all.iter().find(has).unwrap_or_else(|| panic!("{what}: {simulated}"));
        let of = |m: &&Value| m["endpoint"] == from["endpoint"] && m["message"] == from["message"];
        let after = all.iter().filter(of).skip_while(|m| !has(m)).find(|m| !has(m)).unwrap();
        let time = |m: &Value| m["time"].as_str().unwrap().get(11..16).unwrap().to_owned();
        (time(from), time(after))
    };
    assert_eq!(told("Alexa.TemperatureSensor"), ("06:30".into(), "08:00".into()));
    assert_eq!(told("Alexa.ContactSensor"), ("05:10".into(), "05:20".into()));
    assert!(!simulated["links"][0]["messages"].to_string().contains("lockState\",\"value"), "{simulated}");
    let windows =
        json!([{"window": "guests", "from": "2025-11-24T05:10:00.000Z", "until": "2025-11-24T05:20:00.000Z"}]);
    assert_eq!((&simulated["windows"], &simulated["shut"]), (&windows, &json!(["never"])));
    let text = hub.cli(&span);
    assert!(text.contains("window guests: open from 2025-11-24T05:10:00.000Z"), "{text}");
}

#[test]
fn a_press_of_its_button_at_the_broker_opens_a_window_and_one_that_the_broker_kept_does_not() {
    let (broker, mut hub, dir) = begin_at(Some(MONDAY_MS));
    let token = linked(&hub);
    let announced = Subscriber::start(broker.port, "homeassistant/button/#");
    let add = ["grant", "add", "alexa", "local_temperature", "--trigger", "partner_poll", "--rung", "live", "--yes"];
    hub.cli(&[&add[..], &["--window", "guests & friends"]].concat());
    let config = |line: String| -> (String, Value) {
        let mut parts = line.splitn(3, ' ');
        let topic = parts.next().unwrap().to_owned();
        (topic, serde_json::from_str(parts.nth(1).unwrap()).unwrap_or_default())
    };
    let (_, button) = config(announced.next());
    assert_eq!(button["name"], "Open guests & friends for 10 minutes");
    hub.cli(&["window", "button", "guests & friends", "--minutes", "5"]);
    let (topic, button) = config(announced.next());
    assert_eq!(button["name"], "Open guests & friends for 5 minutes");
    let press = button["command_topic"].as_str().unwrap().to_owned();

    let contact = ["grant", "add", "alexa", "contact_open", "--trigger", "partner_poll", "--rung", "live", "--yes"];
    hub.cli(&[&contact[..], &["--window", "other"]].concat());
    let (_, other) = config(announced.next());

    // What the broker has kept is of another time: when the other button, pressed after it, has done its work, it has done none.
    hub.stop();
    publish(broker.port, &press, "PRESS");
    let status = Subscriber::start(broker.port, button["availability_topic"].as_str().unwrap());
    let mut hub = again(hub, &broker, &dir);
    while !status.next().ends_with("online") {}
    // Somebody clears it: that is heard as an order without words.
    publish(broker.port, &press, "");
    let mut presser = Publisher::start(broker.port, other["command_topic"].as_str().unwrap());
    presser.publish("PRESS");
    let open = |window: &Value, name: &str| -> Value {
        window.as_array().unwrap().iter().find(|w| w["window"] == name).unwrap()["open_until"].clone()
    };
    let windows = hub.wait_until(&["window", "list"], |w| open(w, "other").is_string());
    assert_eq!(open(&windows, "guests & friends"), Value::Null);
    temperature(&hub, &token, None);
    set_clock(&dir, MONDAY_MS + MINUTE_MS);
    let mut presser = Publisher::start(broker.port, &press);
    presser.publish("PRESS");
    temperature(&hub, &token, Some(19.4));
    assert_eq!(open(&hub.cli_json(&["window", "list"]), "guests & friends"), "2025-11-24T05:06:00.000Z");
    assert!(changes(&hub).iter().any(|c| c.contains("for 1 grants, by its button")), "{:?}", changes(&hub));
    set_clock(&dir, MONDAY_MS + 6 * MINUTE_MS);
    temperature(&hub, &token, None);

    // Behind a disk that is busy for long both are obeyed too late: neither window opens then.
    let shut = |windows: &Value| windows.as_array().unwrap().iter().all(|w| w["open_until"].is_null());
    set_clock(&dir, MONDAY_MS + 20 * MINUTE_MS);
    hub.wait_until(&["window", "list"], shut);
    arm(&dir, &format!("{} wait:7000 1 1", ::faults::RECORD_BEFORE));
    presser.publish("PRESS");
    let mut second = Publisher::start(broker.port, other["command_topic"].as_str().unwrap());
    second.publish("PRESS");
    for _ in 0..2 {
        hub.process.wait_for_next("pressed more than 5 seconds ago");
    }
    assert!(shut(&hub.cli_json(&["window", "list"])));
    temperature(&hub, &token, None);
    assert!(changes(&hub).iter().any(|c| c.contains("was not opened after all")), "{:?}", changes(&hub));
    presser.publish("PRESS");
    temperature(&hub, &token, Some(19.4));
    hub.cli(&["window", "close", "guests & friends"]);

    // Of its own buttons the hub counts nothing as dropped; and a window without a grant has none.
    assert_eq!(hub.cli_json(&["devices"])["dropped"]["config_unsupported"], Value::Null);
    hub.cli(&["grant", "revoke", "--property", "local_temperature"]);
    let gone = |line: &String| line.trim_end() == format!("{topic} 1");
    while !gone(&announced.next()) {}
    hub.stop();
}

#[test]
fn an_expired_grant_tells_a_rung_less_for_a_month_and_ends() {
    let (broker, mut hub, dir) = begin_at(Some(MONDAY_MS));
    let token = linked(&hub);
    let add = ["grant", "add", "alexa", "local_temperature", "--trigger", "partner_poll", "--rung", "hour", "--yes"];
    hub.cli(&add);
    let granted = ["grant", "list", "--link", "alexa"];
    temperature(&hub, &token, Some(19.4));
    set_clock(&dir, MONDAY_MS + 160 * DAY_MS);
    let notice = hub.cli_json(&["links"])[0]["notice"].as_str().unwrap_or_default().to_owned();
    assert!(notice.contains("grants end on 2026-05-23"), "{notice}");
    // It expires while no hub runs.
    hub.stop();
    set_clock(&dir, MONDAY_MS + 180 * DAY_MS);
    let hub = again(hub, &broker, &dir);
    // Rounded from then on, and still by its name.
    hub.wait_until(&granted, |g| g.as_array().unwrap().iter().any(|g| g["stepped_down"] == true));
    let rows = hub.cli_json(&granted);
    let row = rows.as_array().unwrap().iter().find(|g| g["property"] == "local_temperature").unwrap();
    assert_eq!(
        (&row["words"], &row["days_left"]),
        (&json!("told when it asks, rounded, held for an hour"), &json!(30))
    );
    hub.wait_until(&["grant", "list"], |_| changes(&hub).iter().any(|c| c.contains("tell a rung less")));
    temperature(&hub, &token, Some(19.0));
    set_clock(&dir, MONDAY_MS + 210 * DAY_MS);
    hub.wait_until(&granted, |g| g.as_array().unwrap().iter().all(|g| g["property"] != "local_temperature"));
}

#[test]
fn the_smallest_grants_are_those_of_use_and_under_them_the_same_days_go_the_same() {
    let (_broker, hub, dir) = begin_at(Some(MONDAY_MS));
    let token = linked(&hub);
    let grant = |property: &str| {
        hub.cli(&["grant", "add", "alexa", property, "--trigger", "partner_poll", "--rung", "live", "--yes"]);
    };
    grant("local_temperature");
    grant("contact_open");
    let alexa = testkit::PretendAlexa::new(&hub.partners, &token);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    // Three weeks ago somebody asked for the door: that is long over.
    runtime.block_on(async {
        alexa.discover().await.unwrap();
        let door = alexa.endpoint_with("Alexa.ContactSensor", None).unwrap();
        assert!(alexa.report_state(&door).await.unwrap().property("Alexa.ContactSensor", "detectionState").is_some());
    });
    set_clock(&dir, MONDAY_MS + 21 * DAY_MS);
    let live = || {
        runtime.block_on(async {
            let thermostat = alexa.endpoint_with("Alexa.ThermostatController", None).unwrap();
            let state = alexa.report_state(&thermostat).await.unwrap();
            let set = alexa.set_temperature(&thermostat, 19.5).await;
            (
                state.property("Alexa.TemperatureSensor", "temperature").cloned(),
                set.unwrap().property("Alexa.ThermostatController", "targetSetpoint").cloned(),
            )
        })
    };
    let before = live();
    assert!(before.0.is_some() && before.1.is_some());
    let flushed = |s: &Value| s["links"][0]["refused"].as_array().is_some_and(|r| !r.is_empty());
    set_clock(&dir, MONDAY_MS + 21 * DAY_MS + 30 * MINUTE_MS);
    let said = hub.wait_until(&["suggest"], flushed);
    let link = &said["links"][0];
    let named = |list: &str| -> Vec<String> {
        let rows = link[list].as_array().unwrap();
        rows.iter().map(|r| format!("{}: {}", r["property"].as_str().unwrap(), r["words"].as_str().unwrap())).collect()
    };
    let (keep, unused, refused) = (named("keep"), named("unused"), named("refused"));
    assert!(keep.contains(&"local_temperature: told when it asks, exact, at once".to_owned()), "{keep:?}");
    assert!(keep.contains(&"occupied_heating_setpoint: may command it".to_owned()), "{keep:?}");
    assert!(unused.contains(&"contact_open: told when it asks, exact, at once".to_owned()), "{unused:?}");
    assert!(unused.contains(&"lock_state: may unlock or open it".to_owned()), "{unused:?}");
    assert!(refused.iter().any(|r| r.starts_with("system_mode: told when it asks, rounded")), "{refused:?}");
    assert!(!keep.iter().any(|k| unused.contains(k) && !k.contains("discovery")), "{keep:?} {unused:?}");

    // The file narrows, and under it the same is told and done.
    let file = dir.path().join("smallest.json");
    let shown = hub.cli(&["suggest", "alexa", "--out", file.to_str().unwrap()]);
    assert!(shown.contains("vestibule grant revoke") && shown.contains("no reason to grant it"), "{shown}");
    let difference = hub.cli_json(&["policy", "diff", file.to_str().unwrap()]);
    assert_eq!(difference["only_narrows"], true, "{difference}");
    assert!(!difference["stops"].as_array().unwrap().is_empty());
    hub.cli(&["policy", "import", file.to_str().unwrap(), "--yes"]);
    assert_eq!(live(), before);
    // What was refused is in the file only when it is asked for; and what has no coarser form not even then.
    hub.cli(&["suggest", "alexa", "--with-refused", "--out", file.to_str().unwrap()]);
    let wider = hub.cli_json(&["policy", "diff", file.to_str().unwrap()]);
    assert!(wider["flows"].to_string().contains("system_mode"), "{wider}");
    assert!(!wider["flows"].to_string().contains("lock_state"), "{wider}");

    // What is granted at some hours is no refusal at others.
    hub.cli(&["policy", "import", file.to_str().unwrap(), "--yes"]);
    let hours = ["--trigger", "partner_poll", "--rung", "hour", "--hours", "daily 00:00-00:01", "--yes"];
    hub.cli(&[&["grant", "add", "alexa", "system_mode"][..], &hours].concat());
    let link = hub.cli_json(&["suggest"])["links"][0].clone();
    let offered = link["refused"].as_array().unwrap().iter().any(|r| r["property"] == "system_mode");
    assert!(!offered, "{link}");
    // Fewer steps at more hours are more all the same.
    let wider = ["--trigger", "partner_poll", "--rung", "day_coarse"];
    let asked = hub.cli_json(&[&["grant", "add", "alexa", "system_mode", "--dry-run"][..], &wider].concat());
    assert!(asked["longer"].to_string().contains("at all times"), "{asked}");
}
