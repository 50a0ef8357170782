//! Grants by hand, beside a running hub: what they let through is shown, told to the partner, and gone when taken back.

use serde_json::{Value, json};
use testkit::PretendAlexa;

use crate::devices_and_alexa::{announce, begin, reported};
use crate::harness::{Faults, Hub, Mosquitto, control, publish, run};

fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap()
}

/// The temperature that a poll of the thermostat tells.
fn told(alexa: &PretendAlexa) -> Option<Value> {
    runtime().block_on(async {
        alexa.discover().await.unwrap();
        let thermostat = alexa.endpoint_with("Alexa.ThermostatController", None).expect("a thermostat is announced");
        let state = alexa.report_state(&thermostat).await.unwrap();
        state.property("Alexa.TemperatureSensor", "temperature").cloned()
    })
}

#[test]
fn a_grant_by_hand_is_shown_told_explained_exported_and_taken_back() {
    let story = begin();
    let hub = &story.hub;
    let token = hub.cli(&["link", "alexa", "--profile", "commands-only", "--print-token"]);
    let alexa = PretendAlexa::new(&hub.partners, token.trim());
    assert_eq!(told(&alexa), None);
    let before = hub.cli(&["policy", "export"]);

    // Why not, and what would change it.
    let asked = ["policy", "explain", "alexa", "local_temperature", "partner_poll"];
    let why = hub.cli_json(&asked);
    let row = why.as_array().unwrap().iter().find(|r| r["device"] == "0x01").unwrap().clone();
    assert_eq!((&row["allowed"], &row["refusal"]), (&json!(false), &json!("no_grant")));
    let change = row["change"].as_str().unwrap();
    assert!(change.starts_with("vestibule grant add lnk") && change.contains("--device 0x01"), "{change}");

    // Nothing is granted without a yes; the difference is shown.
    let add = ["grant", "add", "alexa", "local_temperature", "--device", "0x01", "--trigger", "partner_poll"];
    let data = hub.data.display().to_string();
    let unasked = run(&[&add[..], &["--data", &data]].concat());
    assert_eq!(unasked.status.code(), Some(1));
    let shown = String::from_utf8(unasked.stdout).unwrap();
    assert!(shown.contains("+ alexa 0x01 room temperature: told when it asks, rounded, held for an hour"), "{shown}");
    assert!(shown.contains("tells:"), "what it reveals stands beside it: {shown}");
    assert_eq!(hub.cli(&["policy", "export"]), before);

    let dry = hub.cli_json(&[&add[..], &["--dry-run"]].concat());
    assert_eq!((&dry["added"], &dry["applied"]), (&json!(1), &json!(false)));
    assert_eq!(told(&alexa), None);
    hub.cli(&[&add[..], &["--yes"]].concat());
    assert_eq!(told(&alexa), Some(json!({"value": 21.0, "scale": "CELSIUS"})), "rounded, as granted");

    // Given again for less long: what is held stays held, and nothing that came since shows.
    let state = json!({"local_temperature": 25.3, "occupied_heating_setpoint": 20.0, "system_mode": "heat"});
    publish(story.mosquitto.port, "z/trv", &state.to_string());
    hub.wait_until(&["devices"], |d| reported(d, "local_temperature").as_deref() == Some("25.3 °C"));
    hub.cli(&[&add[..], &["--days", "90", "--yes"]].concat());
    assert_eq!(told(&alexa), Some(json!({"value": 21.0, "scale": "CELSIUS"})), "held until the next full hour");

    // The same thing finer: one grant takes the place of the other.
    hub.cli(&[&add[..], &["--rung", "live", "--days", "7", "--yes"]].concat());
    assert_eq!(told(&alexa), Some(json!({"value": 25.3, "scale": "CELSIUS"})));
    let grants = hub.cli_json(&["grant", "list", "--link", "alexa"]);
    let of_it: Vec<&Value> = grants
        .as_array()
        .unwrap()
        .iter()
        .filter(|g| g["property"] == "local_temperature" && g["device"] == "0x01")
        .collect();
    let [grant] = of_it.as_slice() else { panic!("{of_it:?}") };
    assert_eq!((&grant["granted_by"], &grant["profile"]), (&json!("owner"), &Value::Null));
    assert!(grant["days_left"].as_i64().unwrap() <= 7);
    let id = grant["id"].as_str().unwrap();
    let row = hub.cli_json(&asked).as_array().unwrap().iter().find(|r| r["device"] == "0x01").unwrap().clone();
    assert_eq!((&row["allowed"], &row["rung"], &row["granted"][0]["id"]), (&json!(true), &json!("live"), &json!(id)));
    assert_eq!(row["change"], format!("vestibule grant revoke {id}"));
    hub.cli(&["grant", "renew", id]);
    let renewed = hub.cli_json(&["grant", "list"]);
    let renewed = renewed.as_array().unwrap().iter().find(|g| g["id"] == id).unwrap().clone();
    assert!(renewed["days_left"].as_i64().unwrap() > 170, "{renewed}");

    // As a file: both forms say the same, and the earlier one would stop just this.
    let dir = tempfile::tempdir().unwrap();
    let file = |name: &str| dir.path().join(name).display().to_string();
    hub.cli(&["policy", "export", &file("now.json")]);
    hub.cli(&["policy", "export", "--cedar", &file("now.cedar")]);
    std::fs::write(file("before.json"), &before).unwrap();
    for same in ["now.json", "now.cedar"] {
        let none = hub.cli_json(&["policy", "diff", &file(same)]);
        assert_eq!((&none["flows"], &none["stops"], &none["longer"]), (&json!([]), &json!([]), &json!([])), "{same}");
        let none = hub.cli_json(&["policy", "import", &file(same), "--yes"]);
        assert_eq!((&none["added"], &none["removed"]), (&json!(0), &json!(0)), "{same}");
    }
    let diff = hub.cli_json(&["policy", "diff", &file("before.json")]);
    assert_eq!((&diff["only_narrows"], diff["stops"].as_array().unwrap().len()), (&json!(true), 1), "{diff}");
    assert_eq!(diff["stops"][0]["property"], "local_temperature");

    // Taken back: in force at once, and in the record.
    hub.cli(&["grant", "revoke", id]);
    assert_eq!(told(&alexa), None);
    assert_eq!(hub.cli(&["policy", "export"]), before);
    // Given again by the file, by whoever imports it, and for no longer than it may be.
    hub.cli(&["policy", "import", &file("now.cedar"), "--yes"]);
    assert_eq!(told(&alexa), Some(json!({"value": 25.3, "scale": "CELSIUS"})));
    let changes: Vec<String> = hub
        .ledger()
        .iter()
        .filter(|row| row["type"] == "policy")
        .map(|row| row["summary"].as_str().unwrap_or_default().to_owned())
        .collect();
    for wanted in
        ["1 granted by hand, 0 replaced", "1 granted by hand, 1 replaced", "renewed", "taken back", "imported"]
    {
        assert!(changes.iter().any(|c| c.contains(wanted)), "{wanted}: {changes:?}");
    }
    assert_eq!(hub.cli_json(&["ledger", "verify"])["ok"], true);
}

#[test]
fn what_was_shown_is_what_is_granted() {
    let story = begin();
    let hub = &story.hub;
    hub.cli(&["link", "alexa", "--profile", "commands-only", "--print-token"]);
    let wish = json!({"link": "alexa", "device": null, "kind": null, "property": "lock_state", "triggers": ["partner_poll"],
        "rung": "live", "control": false, "open": false, "days": null});
    let ask = |doing: Value| control(&hub.data, &json!({"grant_add": {"wish": wish, "doing": doing}}));
    let shown = ask(json!({"apply": false})).unwrap()["shown"].clone();
    // A second lock comes while somebody reads.
    let lock = r#"{"name":"Back","uniq_id":"back1","cmd_t":"b/set","stat_t":"b/state","dev":{"ids":["back1"]}}"#;
    publish(story.mosquitto.port, "homeassistant/lock/back/config", lock);
    hub.wait_until(&["devices"], |d| d["devices"].as_array().unwrap().iter().any(|d| d["id"] == "back1"));
    let refused = ask(json!({"apply": true, "shown": shown})).unwrap_err();
    assert!(refused.contains("look again"), "{refused}");
    let again = ask(json!({"apply": false})).unwrap();
    assert_eq!(again["applied"], false);
    assert_eq!(ask(json!({"apply": true, "shown": again["shown"]})).unwrap()["applied"], true);
    // Of two in a file that give the same, and of one that stands, one is left.
    let granted = |hub: &Hub| {
        let all = hub.cli_json(&["grant", "list"]);
        all.as_array().unwrap().iter().filter(|g| g["property"] == "lock_state" && g["device"] == "back1").count()
    };
    let doubled = |mut document: Value| {
        let all = document["grants"].as_array_mut().unwrap();
        let one = all.iter().find(|g| g["device"] == "back1" && g["property"] == "lock_state").unwrap().clone();
        all.extend(["g-x", "g-y"].map(|id| {
            let mut twin = one.clone();
            twin["id"] = json!(id);
            twin
        }));
        document
    };
    let document = serde_json::from_str(&hub.cli(&["policy", "export"])).unwrap();
    let import = json!({"policy_import": {"document": doubled(document).to_string(), "doing": {"apply": true}}});
    let before = granted(hub);
    control(&hub.data, &import).unwrap();
    assert_eq!(granted(hub), before);
    // An end that comes later is shown too.
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("longer.json").display().to_string();
    let mut document: Value = serde_json::from_str(&hub.cli(&["policy", "export"])).unwrap();
    document["grants"].as_array_mut().unwrap().iter_mut().for_each(|g| g["expires"] = Value::Null);
    std::fs::write(&file, document.to_string()).unwrap();
    let diff = hub.cli_json(&["policy", "diff", &file]);
    assert_eq!((&diff["flows"], &diff["only_narrows"]), (&json!([]), &json!(false)));
    assert!(diff["longer"][0].as_str().unwrap().contains("for ever (now: until "), "{}", diff["longer"][0]);
}

/// A hub whose disk fails when a test says so.
struct Faulty {
    mosquitto: Mosquitto,
    faults: Faults,
    hub: Hub,
    dir: tempfile::TempDir,
}

/// One that knows its devices, with a link under this profile.
fn faulty(profile: &str) -> Faulty {
    let mosquitto = Mosquitto::start();
    announce(mosquitto.port);
    let dir = tempfile::tempdir().unwrap();
    let faults = Faults::new();
    let hub = Hub::start_with(&dir.path().join("data"), &mosquitto.url(), &faults);
    hub.wait_until(&["devices"], |d| reported(d, "lock_state").is_some());
    hub.cli(&["link", "alexa", "--profile", profile, "--print-token"]);
    Faulty { mosquitto, faults, hub, dir }
}

impl Faulty {
    fn kill(&mut self) {
        self.hub.process.signal("KILL");
        let _ = self.hub.process.child.wait();
    }

    /// Started again, with a disk that works.
    fn start(&mut self) {
        self.faults.arm("");
        self.hub = Hub::start_with(&self.dir.path().join("data"), &self.mosquitto.url(), &self.faults);
    }
}

#[test]
fn a_change_that_can_not_be_recorded_gives_nothing_and_loses_nothing() {
    let mut story = faulty("glance");
    let standing = story.hub.cli(&["policy", "export"]);
    let selection = json!({"ids": [], "link": "alexa", "device": null, "property": null});
    let wish = json!({"link": "alexa", "device": null, "kind": null, "property": "lock_state", "triggers": ["partner_poll"],
        "rung": "live", "control": false, "open": false, "days": null});
    let link = story.hub.cli_json(&["links"])[0]["id"].as_str().unwrap().to_owned();
    let applied = json!({"profile": {"link": link, "profile": "everything", "sensors": [], "apply": true}});
    // Told as failed, and stored all the same: it does not come true with a restart, and that is on record each time.
    let said = |hub: &Hub, text: &str| {
        hub.ledger().iter().filter(|r| r["summary"].as_str().unwrap_or_default().contains(text)).count()
    };
    let not_made = "or not made, could not be stored before the hub stopped";
    for (times, request) in
        [json!({"grant_add": {"wish": wish, "doing": {"apply": true}}}), applied.clone()].iter().enumerate()
    {
        story.faults.arm(&format!("{} fail 1 0", ::faults::RECORD_AFTER));
        control(&story.hub.data, request).unwrap_err();
        assert_eq!(said(&story.hub, not_made), times);
        story.kill();
        story.start();
        assert_eq!(story.hub.cli(&["policy", "export"]), standing, "{request}");
        assert_eq!(story.hub.cli_json(&["links"])[0]["profile"], "glance");
        assert_eq!(said(&story.hub, not_made), times + 1);
    }
    story.faults.arm(&format!("{} fail 1 0", ::faults::RECORD_BEFORE));
    control(&story.hub.data, &json!({"grant_renew": {"selection": selection, "days": null}})).unwrap_err();
    control(&story.hub.data, &json!({"grant_add": {"wish": wish, "doing": {"apply": true}}})).unwrap_err();
    control(&story.hub.data, &applied).unwrap_err();
    assert_eq!(story.hub.cli(&["policy", "export"]), standing);
    assert_eq!(story.hub.cli_json(&["links"])[0]["profile"], "glance");
    story.faults.arm(&format!("{} fail 1 0", ::faults::RECORD_BEFORE));
    // Taking back holds at once, whatever the disk says, and is recorded as what it was.
    let error = control(&story.hub.data, &json!({"grant_revoke": {"selection": selection}})).unwrap_err();
    assert!(error.contains("in force, and not recorded yet"), "{error}");
    assert_eq!(story.hub.cli_json(&["grant", "list"]), json!([]));
    story.faults.arm("");
    story.hub.wait_until(&["ledger", "verify"], |_| {
        story.hub.ledger().iter().any(|r| r["summary"].as_str().unwrap_or_default().contains("grants taken back"))
    });
    assert_eq!(story.hub.cli_json(&["ledger", "verify"])["ok"], true);
    // What was stored all the same is on record, and that it was not made.
    assert_eq!(said(&story.hub, "granted by hand"), 1);
    assert_eq!(said(&story.hub, "could not be confirmed, and was not made"), 1);
}

#[test]
fn what_is_taken_back_stays_so_whatever_is_left_of_what_was_owed_before() {
    let mut story = faulty("glance");
    // A renewal is told as failed: that the grants are to stand as they were is owed.
    let file = story.hub.data.join("taken-back");
    let selection = json!({"ids": [], "link": "alexa", "device": null, "property": null});
    story.faults.arm(&format!("{} fail 1 0", ::faults::RECORD_AFTER));
    control(&story.hub.data, &json!({"grant_renew": {"selection": selection, "days": 90}})).unwrap_err();
    let left = std::fs::read(&file).unwrap();
    assert!(left.iter().any(|b| *b != 0));
    story.faults.arm("");
    story.hub.cli(&["grant", "revoke", "--property", "local_temperature"]);
    let standing = story.hub.cli(&["policy", "export"]);
    story.kill();
    assert!(std::fs::read(&file).unwrap().iter().all(|b| *b == 0), "it is stored, and nothing of it is left");
    // That it was wiped out did not reach the disk.
    std::fs::write(&file, left).unwrap();
    story.start();
    assert_eq!(story.hub.cli(&["policy", "export"]), standing);
}

#[test]
fn a_window_that_nobody_was_told_to_be_open_is_shut_after_a_restart() {
    let mut story = faulty("commands-only");
    let add = ["grant", "add", "alexa", "lock_state", "--trigger", "partner_poll", "--rung", "live", "--yes"];
    story.hub.cli(&[&add[..], &["--window", "guests"]].concat());
    let open = json!({"window_open": {"name": "guests", "minutes": 60}});
    story.faults.arm(&format!("{} kill 1 1", ::faults::RECORD_AFTER));
    assert!(control(&story.hub.data, &open).is_err());
    assert_eq!(story.faults.hits(), 1);
    story.kill();
    story.start();
    assert_eq!(story.hub.cli_json(&["window", "list"])[0]["open_until"], Value::Null);
    // Told as open, it is so after a restart.
    control(&story.hub.data, &open).unwrap();
    story.kill();
    story.start();
    assert!(story.hub.cli_json(&["window", "list"])[0]["open_until"].is_string());
}

#[test]
fn routines_are_for_the_sensors_that_were_named_and_a_proposal_grants_nothing() {
    let story = begin();
    let hub = &story.hub;
    let devices = hub.cli_json(&["devices"]);
    let with = |property: &str| {
        let has = |d: &&Value| d["properties"].as_array().unwrap().iter().any(|p| p["property"] == property);
        devices["devices"].as_array().unwrap().iter().find(has).unwrap()["id"].as_str().unwrap().to_owned()
    };
    let (contact, thermostat) = (with("contact_open"), with("local_temperature"));
    let data = hub.data.display().to_string();
    // Who is no sensor can't be named, nor can one where no names are taken.
    let error = |args: &[&str]| {
        let out = run(&[args, &["--data", &data]].concat());
        assert_eq!(out.status.code(), Some(1));
        String::from_utf8(out.stderr).unwrap()
    };
    assert!(error(&["link", "alexa", "--profile", "routines", "--sensor", &thermostat]).contains("is no sensor of"));
    assert!(
        error(&["link", "alexa", "--profile", "glance", "--sensor", &contact]).contains("takes no sensors by name")
    );
    assert_eq!(hub.cli_json(&["links"]), json!([]));

    hub.cli(&["link", "alexa", "--profile", "routines", "--sensor", &contact, "--print-token"]);
    let link = hub.cli_json(&["links"])[0]["id"].as_str().unwrap().to_owned();
    let unasked = || -> Vec<(Value, Value)> {
        let shown = hub.cli_json(&["policy", "show"]);
        let rows = shown["rows"].as_array().unwrap();
        let told = rows.iter().filter(|r| r["proactive_report"] == "live");
        told.filter(|r| r["property"] != "reachable").map(|r| (r["device"].clone(), r["property"].clone())).collect()
    };
    let named = vec![(json!(contact), json!("contact_open"))];
    assert_eq!(unasked(), named);
    // Applied again, it keeps the names; as another profile, it does not.
    hub.cli(&["profile", "apply", &link]);
    assert_eq!(unasked(), named);
    hub.cli(&["profile", "apply", &link, "--profile", "commands-only"]);
    assert_eq!(unasked(), []);

    let before = hub.cli(&["policy", "export"]);
    let answers = ["tell=nothing", "sensors=yes", "absence=any"].map(|a| ["--answer", a]).concat();
    let out = run(&[&["profile", "propose", "--json"], &answers[..]].concat());
    let proposed: Value = serde_json::from_slice(&out.stdout).unwrap();
    assert_eq!(proposed["profile"], "routines", "{proposed}");
    assert_eq!(hub.cli(&["policy", "export"]), before);
    let out = run(&["profile", "propose", "--answer", "tell=perhaps"]);
    assert_eq!(out.status.code(), Some(2));
    assert!(String::from_utf8(out.stderr).unwrap().contains("nothing, thermostat, all"));
    assert_eq!(run(&["profile", "propose"]).status.code(), Some(2), "nobody is there to ask");
}

#[test]
fn why_a_partner_may_command_or_not_is_told_with_what_would_change_it() {
    let story = begin();
    let hub = &story.hub;
    hub.cli(&["link", "alexa", "--profile", "commands-only", "--print-token"]);
    let why = |property: &str, action: &str| -> Value {
        let all = hub.cli_json(&["policy", "explain", "alexa", property, action]);
        assert_eq!(all.as_array().unwrap().len(), 1, "{all}");
        all[0].clone()
    };
    let yes = why("lock_state", "open");
    assert_eq!((&yes["allowed"], &yes["trigger"], &yes["action"]), (&json!(true), &Value::Null, &json!("open")));
    assert!(yes["why"].as_str().unwrap().contains("once the partner has asked for its own code"), "{yes}");
    assert_eq!((&yes["granted"][0]["profile"], &yes["needs"]), (&json!("commands-only"), &Value::Null));
    // What is said to change it does.
    let run_it = |row: &Value| {
        let words: Vec<&str> = row["change"].as_str().unwrap().split(' ').collect();
        assert_eq!(words[0], "vestibule");
        hub.cli(&[&words[1..], if words[2] == "add" { &["--yes"][..] } else { &[] }].concat());
    };
    run_it(&yes);
    let no = why("lock_state", "open");
    assert_eq!((&no["allowed"], &no["refusal"]), (&json!(false), &json!("no_grant")));
    assert!(
        no["why"]
            .as_str()
            .unwrap()
            .ends_with("may not unlock or open `door7` by its lock state: nobody has granted it."),
        "{no}"
    );
    assert_eq!(why("lock_state", "command")["allowed"], true);
    run_it(&no);
    assert_eq!(why("lock_state", "open")["allowed"], true);
    hub.cli(&["grant", "revoke", "--property", "lock_state"]);
    let hours = ["--control", "--hours", "daily 00:00-00:01", "--window", "never", "--yes"];
    hub.cli(&[&["grant", "add", "alexa", "lock_state"][..], &hours].concat());
    let waits = why("lock_state", "command");
    assert!(
        waits["change"].as_str().unwrap().starts_with("nothing: it is granted, only daily 00:00-00:01, only while"),
        "{waits}"
    );
    // Without what it is the partner does not know of it, and can command nothing.
    hub.cli(&["grant", "revoke", "--property", "device_type"]);
    assert!(why("occupied_heating_setpoint", "command")["needs"].as_str().unwrap().contains("to know of the device"));
    for (property, action) in [("local_temperature", "command"), ("occupied_heating_setpoint", "open")] {
        assert_eq!(why(property, action)["change"], "nothing: the device takes no such command", "{property}");
    }
    let out = run(&["policy", "explain", "alexa", "lock_state", "unlock", "--data", &hub.data.display().to_string()]);
    assert_eq!(out.status.code(), Some(2));
    assert!(String::from_utf8_lossy(&out.stderr).contains("command, open"), "{out:?}");
}

#[test]
fn what_can_not_be_granted_is_refused_in_words_and_changes_nothing() {
    let story = begin();
    let hub = &story.hub;
    hub.cli(&["link", "alexa", "--profile", "commands-only", "--print-token"]);
    let before = hub.cli(&["policy", "export"]);
    let data = hub.data.display().to_string();
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("grants");
    let path = file.display().to_string();
    let elsewhere = before.replace("\"household\": \"", "\"household\": \"not-");
    let stranger = before.replace("\"device\": \"0x01\"", "\"device\": \"0x99\"");
    std::fs::write(&file, &elsewhere).unwrap();
    let refused = |args: &[&str], says: &str| {
        let out = run(&[args, &["--data", &data]].concat());
        let text = String::from_utf8_lossy(&out.stderr).into_owned();
        assert!(matches!(out.status.code(), Some(1 | 2)), "{args:?}");
        assert!(text.contains(says), "{args:?}: {text}");
    };
    refused(&["grant", "add", "alexa", "soul", "--trigger", "partner_poll", "--yes"], "local_temperature");
    refused(
        &["grant", "add", "google", "lock_state", "--trigger", "partner_poll", "--yes"],
        "neither a linked partner",
    );
    refused(&["grant", "add", "alexa", "lock_state", "--yes"], "--trigger");
    refused(&["grant", "add", "alexa", "co2_concentration", "--trigger", "partner_poll", "--yes"], "no device");
    refused(
        &["grant", "add", "alexa", "local_temperature", "--trigger", "proactive_report", "--days", "31", "--yes"],
        "1 to 30 days",
    );
    refused(&["grant", "revoke"], "name the grants");
    refused(&["grant", "revoke", "g-none"], "no grant `g-none`");
    refused(&["policy", "diff", &path], "household");
    std::fs::write(&file, &stranger).unwrap();
    refused(&["policy", "import", &path, "--yes"], "0x99");
    std::fs::write(&file, "permit (principal, action, resource);").unwrap();
    refused(&["policy", "import", &path, "--yes"], "one link one action on one property");
    assert_eq!(hub.cli(&["policy", "export"]), before);
}

/// What a maker forbids is a file of its own, seen with the same tools before it stands above anybody's grants.
#[test]
fn another_ceiling_is_shown_by_what_it_would_stop() {
    let story = begin();
    let hub = &story.hub;
    hub.cli(&["link", "alexa", "--profile", "convenience"]);
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("ceiling.cedar").display().to_string();
    // The one of the guide.
    let guide = include_str!("../../../docs/policy.md");
    let coarse = guide.split("```cedar\n").nth(1).and_then(|text| text.split("```").next()).unwrap();
    let locks = "@id(\"locks-stay\") forbid (principal, action in [Vestibule::Action::\"control\", Vestibule::Action::\"open\"], resource)
        when { resource.kind == Vestibule::Kind::\"comfort\" };";
    std::fs::write(&path, locks).unwrap();
    let difference = hub.cli_json(&["policy", "diff", "--ceiling", &path]);
    assert_eq!((&difference["flows"], &difference["only_narrows"]), (&json!([]), &json!(true)), "{difference}");
    let stops = difference["stops"].as_array().unwrap();
    assert!(!stops.is_empty() && stops.iter().all(|c| c["action"] == "control"), "{difference}");
    // Beside a file of grants, which it stops in part.
    hub.cli(&["grant", "add", "alexa", "local_temperature", "--trigger", "partner_poll", "--rung", "live", "--yes"]);
    let grants = dir.path().join("grants.json").display().to_string();
    hub.cli(&["policy", "export", &grants]);
    std::fs::write(&path, coarse).unwrap();
    let difference = hub.cli_json(&["policy", "diff", &grants, "--ceiling", &path]);
    let stops = difference["stops"].as_array().unwrap();
    let falls: Vec<_> = stops.iter().map(|c| (&c["before"], &c["after"])).collect();
    assert_eq!(falls, [(&json!("live"), &json!("hour_coarse"))], "{difference}");
    // What permits is no ceiling, and nothing is in force that was only shown.
    std::fs::write(&path, "@id(\"p\") permit (principal, action, resource);").unwrap();
    let wrong = run(&["policy", "diff", "--ceiling", &path, "--data", &hub.data.display().to_string()]);
    assert!(String::from_utf8_lossy(&wrong.stderr).contains("a ceiling only forbids"), "{wrong:?}");
    let why = hub.cli_json(&["policy", "explain", "alexa", "local_temperature", "partner_poll"]);
    assert!(why.as_array().unwrap().iter().any(|row| row["rung"] == "live"), "{why}");
}
