//! Several people in one home: what is granted in it waits for the other owners, members are told, and taking back waits for nobody.

use std::io::Write as _;
use std::process::{Output, Stdio};

use serde_json::{Value, json};

use crate::conditions::{again, changes, linked, temperature};
use crate::harness::{Hub, program, run};
use crate::member::{Browser, PASSWORD, add_client, add_member};
use crate::promises::{arm, begin_at, set_clock};

const HOUR_MS: i64 = 3_600_000;

/// Monday, 24 November 2025, 05:00 in UTC.
const MONDAY_MS: i64 = 1_763_960_400_000;

const ADD: [&str; 9] =
    ["grant", "add", "alexa", "local_temperature", "--trigger", "partner_poll", "--rung", "live", "--yes"];

/// A command that reads a password from its standard input.
pub fn with_password(hub: &Hub, password: &str, args: &[&str]) -> Output {
    let mut command = program();
    command.args(args).arg("--data").arg(&hub.data);
    let piped = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = piped.spawn().unwrap();
    child.stdin.take().unwrap().write_all(format!("{password}\n").as_bytes()).unwrap();
    child.wait_with_output().unwrap()
}

fn done(hub: &Hub, args: &[&str]) -> Value {
    let out = with_password(hub, PASSWORD, &[args, &["--json"]].concat());
    assert!(out.status.success(), "{args:?}: {}", String::from_utf8_lossy(&out.stderr));
    serde_json::from_slice(&out.stdout).unwrap()
}

fn refused(out: &Output, says: &str) {
    assert_eq!(out.status.code(), Some(1));
    let text = String::from_utf8_lossy(&out.stderr);
    assert!(text.contains(says), "{text}");
}

/// The grants that wait.
fn waiting(hub: &Hub) -> Vec<Value> {
    let all = hub.cli_json(&["grant", "list"]);
    all.as_array().unwrap().iter().filter(|g| !g["waits"].is_null()).cloned().collect()
}

fn is_announced(hub: &Hub, token: &str) -> bool {
    let alexa = testkit::PretendAlexa::new(&hub.partners, token);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async { alexa.discover().await.unwrap() });
    alexa.endpoint_with("Alexa.TemperatureSensor", None).is_some()
}

#[test]
fn what_tells_who_is_at_home_waits_for_a_day_where_there_are_two_owners() {
    let (broker, mut hub, dir) = begin_at(Some(MONDAY_MS));
    add_member(&hub, "alice");
    let token = linked(&hub);
    // One owner, at the machine: nothing waits, and she is told.
    hub.cli(&[&ADD[..], &["--days", "10"]].concat());
    temperature(&hub, &token, Some(19.4));
    // Of the link, and of this.
    assert_eq!(hub.cli_json(&["notice", "list"]).as_array().unwrap().len(), 2);
    assert_eq!(done(&hub, &["notice", "seen", "--member", "alice"])["seen"], 2);
    assert_eq!(hub.cli_json(&["notice", "list"]), json!([]));
    hub.cli(&["grant", "revoke", "--property", "local_temperature"]);
    temperature(&hub, &token, None);

    add_member(&hub, "bob");
    let added = hub.cli_json(&ADD);
    assert_eq!((&added["waits"], added["waiting"].as_array().unwrap().len()), (&json!(1), 1), "{added}");
    let [row] = waiting(&hub).try_into().unwrap();
    assert_eq!(row["waits"]["until"], "2025-11-25T05:00:00.000Z");
    assert_eq!(row["waits"]["missing"], json!(["alice", "bob"]));
    assert_eq!((&row["counts_now"], &row["affects"]), (&json!(false), &json!(["alice", "bob"])));
    // It gives nothing, promises nothing, and is shown wherever somebody looks.
    temperature(&hub, &token, None);
    assert!(!is_announced(&hub, &token));
    assert!(!hub.cli(&["policy", "export"]).contains("local_temperature"));
    let why = hub.cli_json(&["policy", "explain", "alexa", "local_temperature", "partner_poll"]);
    assert!(why[0]["change"].as_str().unwrap().contains("waits until 2025-11-25T05:00:00"), "{why}");
    let shown = hub.cli_json(&["policy", "show"]);
    let cell = shown["rows"].as_array().unwrap().iter().find(|r| r["property"] == "local_temperature").unwrap();
    assert_eq!(cell["partner_poll"], "no_grant");
    assert_eq!((&cell["waiting"][0]["action"], &cell["waiting"][0]["rung"]), (&json!("partner_poll"), &json!("live")));
    let (_, page) = crate::harness::get(&format!("{}/api/overview", hub.console));
    let page: Value = serde_json::from_str(&page).unwrap();
    assert_eq!((&page["waiting"][0]["id"], &page["waiting"][0]["partner"]), (&row["id"], &json!("alexa")));
    let told = page["notices"].as_array().unwrap();
    assert_eq!(told.iter().find(|n| n["lines"] != json!([])).unwrap()["unseen_by"], json!(["alice", "bob"]));
    // Given again, it does not begin anew.
    set_clock(&dir, MONDAY_MS + 20 * HOUR_MS);
    hub.cli(&ADD);
    assert_eq!(waiting(&hub)[0]["id"], row["id"]);

    // Over a restart with a clock that is days behind nothing comes early, and what is given then has its day as well.
    hub.stop();
    set_clock(&dir, MONDAY_MS - 72 * HOUR_MS);
    let hub = again(hub, &broker, &dir);
    temperature(&hub, &token, None);
    hub.cli(&["grant", "add", "alexa", "contact_open", "--trigger", "partner_poll", "--rung", "live", "--yes"]);
    let all = waiting(&hub);
    assert!(all.iter().all(|g| g["waits"]["until"].as_str().unwrap() >= "2025-11-25T05:00"), "{all:?}");
    set_clock(&dir, MONDAY_MS + 24 * HOUR_MS - 60_000);
    // Looking at the matrix does what is due first.
    hub.cli(&["policy", "show"]);
    assert_eq!(waiting(&hub).len(), 2);
    temperature(&hub, &token, None);
    set_clock(&dir, MONDAY_MS + 24 * HOUR_MS);
    temperature(&hub, &token, Some(19.4));
    assert!(is_announced(&hub, &token));
    let said = changes(&hub);
    assert!(
        said.iter().any(|c| c.contains("1 granted by hand") && c.contains("1 wait until 2025-11-25T05")),
        "{said:?}"
    );
    assert!(said.iter().any(|c| c.contains("grants take force, a day after they were given")), "{said:?}");

    // Taking back is at once, of what waits too; and with a link goes what waits on it.
    let lock = ["grant", "add", "alexa", "lock_state", "--trigger", "partner_poll", "--rung", "live", "--yes"];
    let given = hub.cli_json(&lock);
    hub.cli(&["grant", "revoke", given["waiting"][0].as_str().unwrap()]);
    assert!(!waiting(&hub).iter().any(|g| g["property"] == "lock_state"));
    hub.cli(&lock);
    let unlinked = hub.cli_json(&["links"])[0]["id"].as_str().unwrap().to_owned();
    assert!(hub.cli_json(&["links"])[0]["waiting"].as_u64().unwrap() >= 1);
    hub.cli(&["unlink", &unlinked]);
    assert_eq!(hub.cli_json(&["grant", "list"]), json!([]));
    assert_eq!(hub.cli_json(&["ledger", "verify"])["ok"], true);
}

#[test]
fn what_every_owner_confirms_takes_force_at_once_and_a_profile_narrows_at_once() {
    let (_broker, hub, _dir) = begin_at(Some(MONDAY_MS));
    add_member(&hub, "alice");
    add_member(&hub, "bob");
    let resident = with_password(&hub, PASSWORD, &["member", "add", "carol", "--role", "resident"]);
    assert!(resident.status.success(), "{resident:?}");
    let token = linked(&hub);
    // In her own name she has agreed already.
    let given = done(&hub, &[&ADD[..], &["--member", "alice"]].concat());
    let id = given["waiting"][0].as_str().unwrap().to_owned();
    let row = waiting(&hub).remove(0);
    assert_eq!((&row["granted_by"], &row["waits"]["missing"]), (&json!("alice"), &json!(["bob"])));
    let told = hub.cli_json(&["notice", "list"]);
    let hers = told.as_array().unwrap().iter().find(|n| n["by"] == "alice").unwrap();
    assert_eq!(hers["unseen_by"], json!(["bob", "carol"]), "{told}");
    let confirm =
        |name: &str, password: &str| with_password(&hub, password, &["grant", "confirm", &id, "--member", name]);
    refused(&confirm("bob", "not the password at all"), "the password is another one");
    refused(&confirm("dave", PASSWORD), "no such member");
    refused(&confirm("carol", PASSWORD), "is no owner");
    temperature(&hub, &token, None);
    let confirmed = done(&hub, &["grant", "confirm", &id, "--member", "bob"]);
    assert_eq!(confirmed["in_force"], 1, "{confirmed}");
    temperature(&hub, &token, Some(19.4));
    assert_eq!(waiting(&hub), Vec::<Value>::new());
    let text = String::from_utf8_lossy(&std::fs::read(hub.data.join("vestibule.db")).unwrap()).into_owned();
    assert!(!text.contains(PASSWORD));

    // For longer it waits, and what stands goes on; coarser is coarser at once.
    let link = hub.cli_json(&["links"])[0]["id"].as_str().unwrap().to_owned();
    let applied = hub.cli_json(&["profile", "apply", &link, "--profile", "glance"]);
    assert!(applied["waiting"].as_u64().unwrap() >= 2, "{applied}");
    temperature(&hub, &token, Some(19.0));
    // Narrowed again before its day has come: nothing is left to wait.
    hub.cli(&["profile", "apply", &link, "--profile", "commands-only"]);
    assert_eq!(waiting(&hub), Vec::<Value>::new());
    temperature(&hub, &token, None);
    // An owner there must be.
    let data = hub.data.display().to_string();
    hub.cli(&["member", "remove", "bob"]);
    refused(&run(&["member", "remove", "alice", "--data", &data]), "the only owner");
    refused(&with_password(&hub, PASSWORD, &["member", "add", "alice", "--role", "resident"]), "somebody has to be");
}

#[test]
fn what_one_owner_agrees_to_when_linking_waits_for_the_other_and_a_renewal_does_too() {
    let (_broker, hub, _dir) = begin_at(Some(MONDAY_MS));
    add_member(&hub, "alice");
    add_member(&hub, "bob");
    let client = add_client(&hub, &[]);
    let mut browser = Browser::default();
    browser.log_in(&client.authorize_url(&hub, "s"), "alice", PASSWORD);
    let page = browser.send("GET", &format!("{}/oauth/consent", hub.partners), &[]);
    assert!(page.body.contains("bob will be told"), "{}", page.body);
    let code = Browser::default().link(&hub, &client, "commands-only", "");
    let token = client.exchange(&hub, &code).json()["access_token"].as_str().unwrap().to_owned();
    // Commands tell nothing: they count at once.
    assert_eq!(waiting(&hub), Vec::<Value>::new());
    assert!(hub.cli_json(&["links"])[0]["grants"].as_u64().unwrap() >= 4);
    // Made anew with more: what is added waits for the new tokens first, and then for bob.
    let link = hub.cli_json(&["links"])[0]["id"].as_str().unwrap().to_owned();
    let code = Browser::default().link(&hub, &client, "glance", &link);
    assert_eq!(waiting(&hub), Vec::<Value>::new());
    let tokens = client.exchange(&hub, &code).json();
    let all = waiting(&hub);
    assert!(all.iter().any(|g| g["property"] == "local_temperature"), "{all:?}");
    assert!(all.iter().all(|g| g["waits"]["missing"] == json!(["bob"]) && g["granted_by"] == "alice"), "{all:?}");
    let token = tokens["access_token"].as_str().map_or(token, str::to_owned);
    temperature(&hub, &token, None);
    let confirmed = done(&hub, &["grant", "confirm", "--link", "alexa", "--member", "bob"]);
    assert_eq!(confirmed["in_force"].as_u64().unwrap(), all.len() as u64);
    temperature(&hub, &token, Some(19.0));
    assert_eq!(hub.cli_json(&["ledger", "verify"])["ok"], true);
}

#[test]
fn what_waits_is_gone_only_when_what_comes_in_its_place_is_stored() {
    let (broker, mut hub, dir) = begin_at(Some(MONDAY_MS));
    add_member(&hub, "alice");
    add_member(&hub, "bob");
    linked(&hub);
    hub.cli(&ADD);
    let words = |hub: &Hub| -> Vec<Value> { waiting(hub).iter().map(|g| g["words"].clone()).collect() };
    let mut stands = words(&hub);
    assert_eq!(stands.len(), 1);
    let data = hub.data.display().to_string();
    let mut failed = 0;
    for (point, rung) in [(::faults::RECORD_BEFORE, "hour"), (::faults::RECORD_AFTER, "hour_coarse")] {
        for (at, rung) in [(1, rung), (2, "live"), (1, "quarter_hour")] {
            arm(&dir, &format!("{point} fail {at} 1"));
            let add =
                ["grant", "add", "alexa", "local_temperature", "--trigger", "partner_poll", "--rung", rung, "--yes"];
            let out = run(&[&add[..], &["--data", &data]].concat());
            if out.status.success() {
                stands = words(&hub);
            } else {
                failed += 1;
            }
            assert_eq!((words(&hub), stands.len()), (stands.clone(), 1), "{point} {at} {rung}");
            hub.process.signal("KILL");
            hub.process.child.wait().unwrap();
            arm(&dir, "");
            hub = again(hub, &broker, &dir);
            assert_eq!(words(&hub), stands, "after a restart: {point} {at} {rung}");
        }
    }
    assert!(failed >= 2);
    assert_eq!(hub.cli_json(&["ledger", "verify"])["ok"], true);
}

#[test]
fn who_is_a_member_and_who_agrees_is_on_record_and_told_to_the_others() {
    let (_broker, hub, _dir) = begin_at(Some(MONDAY_MS));
    let told = |text: &str| -> Vec<Value> {
        let all = hub.cli_json(&["notice", "list"]);
        let unseen = all.as_array().unwrap().iter().filter(|n| n["text"].as_str().unwrap().contains(text));
        unseen.map(|n| n["unseen_by"].clone()).collect()
    };
    let add = |args: &[&str]| {
        let out = with_password(&hub, PASSWORD, &[&["member", "add"], args].concat());
        assert!(out.status.success(), "{out:?}");
    };
    for name in ["alice", "bob", "carol"] {
        add_member(&hub, name);
    }
    assert_eq!(told("carol is a member now, as an owner"), [json!(["alice", "bob"])]);
    add(&["carol", "--role", "resident"]);
    assert_eq!(told("carol has a new password, and is a resident now"), [json!(["alice", "bob", "carol"])]);
    add(&["carol", "--role", "owner"]);
    add(&["bob"]);
    assert_eq!(told("bob has a new password"), [json!(["alice", "bob", "carol"])]);

    // One owner of three agrees: it is not in force, and the others see who has.
    let token = linked(&hub);
    let given = hub.cli_json(&ADD);
    let id = given["waiting"][0].as_str().unwrap();
    done(&hub, &["grant", "confirm", id, "--member", "bob"]);
    assert_eq!(told("1 grants that wait are confirmed by bob"), [json!(["alice", "carol"])]);
    // Who gives what waits agrees to it; given again in nobody's name it goes on waiting.
    hub.cli(&ADD);
    done(&hub, &[&ADD[..], &["--member", "alice"]].concat());
    assert_eq!(waiting(&hub)[0]["waits"]["missing"], json!(["carol"]));
    temperature(&hub, &token, None);
    let last = done(&hub, &[&ADD[..], &["--member", "carol"]].concat());
    // Nothing waits by that, and it said so before.
    assert_eq!((&last["waits"], &last["waiting"], waiting(&hub)), (&json!(0), &json!([]), vec![]));
    temperature(&hub, &token, Some(19.4));

    hub.cli(&["member", "remove", "bob"]);
    assert_eq!(told("bob is no member any more"), [json!(["alice", "carol"])]);
    let said = changes(&hub);
    for wanted in [
        "carol is a member now, as an owner",
        "carol has a new password, and is a resident now",
        "bob has a new password",
        "1 grants that wait are confirmed by bob",
        "1 that wait are confirmed",
        "1 that waited take force: every owner has confirmed them",
        "bob is no member any more",
    ] {
        assert!(said.iter().any(|c| c.contains(wanted)), "{wanted}: {said:?}");
    }
    assert_eq!(hub.cli_json(&["ledger", "verify"])["ok"], true);
}

#[test]
fn what_is_new_in_the_home_is_shared_with_nobody_and_members_are_told_of_it_once() {
    let (broker, mut hub, dir) = begin_at(Some(MONDAY_MS));
    for name in ["alice", "bob"] {
        add_member(&hub, name);
    }
    linked(&hub);
    let told = |hub: &Hub| -> Vec<Value> {
        let all = hub.cli_json(&["notice", "list"]);
        all.as_array().unwrap().iter().filter(|n| n["by"] == "hub").cloned().collect()
    };
    // What was there before anybody was a member is no news.
    assert_eq!(told(&hub), Vec::<Value>::new());
    let grants = hub.cli_json(&["grant", "list"]).as_array().unwrap().len();
    let sensor = |id: &str, components: &str| {
        let config =
            format!(r#"{{"dev":{{"ids":"{id}","name":"The {id}"}},"o":{{"name":"test"}},"cmps":{{{components}}}}}"#);
        crate::harness::publish(broker.port, &format!("homeassistant/device/{id}/config"), &config);
    };
    let motion = r#""m":{"p":"binary_sensor","dev_cla":"motion","uniq_id":"m","stat_t":"m/m"}"#;
    let battery = r#""b":{"p":"sensor","dev_cla":"battery","unit_of_meas":"%","uniq_id":"b","stat_t":"m/b"}"#;
    sensor("hall", motion);
    hub.wait_until(&["notice", "list"], |n| n.to_string().contains("hall"));
    sensor("hall", &format!("{motion},{battery}"));
    sensor("attic", &motion.replace("\"m\",", "\"a\","));
    let all =
        hub.wait_until(&["notice", "list"], |n| n.to_string().contains("attic") && n.to_string().contains("battery"));
    assert!(all.to_string().contains("shared with nobody"));
    // A grant for a room is one for the devices that are there, and no other; who comes later is announced.
    let room = |args: &[&str]| hub.cli(&[&["devices", "room"], args].concat());
    assert_eq!(room(&["hall", "Upstairs"]), "it is in the room Upstairs\n");
    let data = hub.data.display().to_string();
    let add = ["grant", "add", "alexa", "motion", "--trigger", "partner_poll", "--rung", "live", "--room"];
    let nowhere = run(&[&add[..], &["cellar", "--yes", "--data", &data]].concat());
    refused(&nowhere, "no device is in the room `cellar`; there is Upstairs");
    let shown = hub.cli_json(&[&add[..], &["upstairs", "--dry-run"]].concat());
    assert!(shown["difference"]["flows"].to_string().contains("hall"), "{shown}");
    assert!(!shown.to_string().contains("attic"), "{shown}");
    hub.cli(&[&add[..], &["upstairs", "--yes"]].concat());
    let of = |device: &str| {
        let all = hub.cli_json(&["grant", "list"]);
        all.as_array().unwrap().iter().filter(|g| g["device"] == device).count()
    };
    assert_eq!((of("hall") > 0, of("attic")), (true, 0));
    let attic = motion.replace("\"m\",", "\"a\",");
    let config = format!(
        r#"{{"dev":{{"ids":"attic","name":"The attic","sa":"UPSTAIRS"}},"o":{{"name":"test"}},"cmps":{{{attic}}}}}"#
    );
    crate::harness::publish(broker.port, "homeassistant/device/attic/config", &config);
    hub.wait_until(&["devices"], |d| d.to_string().contains("UPSTAIRS"));
    assert_eq!(of("attic"), 0);
    assert!(changes(&hub).iter().any(|c| c.contains("for the devices in the room upstairs")), "{:?}", changes(&hub));
    // Of what is granted nothing changes when it is put elsewhere, and that is said, once for each device. Of what is not, nothing.
    let moved = |hub: &Hub| -> Vec<String> {
        let all = hub.cli_json(&["notice", "list"]);
        let of_rooms =
            all.as_array().unwrap().iter().filter(|n| n["text"].as_str().unwrap().starts_with("in another room"));
        of_rooms.flat_map(|n| n["lines"].as_array().unwrap().clone()).map(|l| l.as_str().unwrap().to_owned()).collect()
    };
    assert_eq!(moved(&hub), Vec::<String>::new());
    let count = of("hall");
    for place in ["Cellar", "Garage"] {
        room(&["hall", place]);
        room(&["attic", place]);
    }
    assert_eq!(of("hall"), count);
    let line = format!(
        "hall \u{201c}The hall\u{201d}, from the room \u{201c}Cellar\u{201d} to \u{201c}Garage\u{201d}; grants: {count}"
    );
    assert_eq!(moved(&hub), [line]);
    room(&["attic"]);
    // Who takes back by room names the devices that are there now.
    let elsewhere = run(&["grant", "revoke", "--room", "Upstairs", "--data", &data]);
    refused(&elsewhere, "no grant is named by this");
    assert_eq!(of("hall"), count);
    hub.cli(&["grant", "revoke", "--room", "garage"]);
    assert_eq!(of("hall"), 0);

    // All of it in one notice, each thing once, over restarts and descriptions that come again too.
    hub.stop();
    let hub = again(hub, &broker, &dir);
    sensor("hall", motion);
    sensor("hall", &format!("{motion},{battery}"));
    hub.cli(&["devices", "room", "hall"]);
    hub.wait_until(&["devices"], |d| d.to_string().contains("battery_percent"));
    let (of_rooms, newcomers): (Vec<Value>, Vec<Value>) =
        told(&hub).into_iter().partition(|n| n["text"].as_str().unwrap().starts_with("in another room"));
    assert_eq!(of_rooms.len(), 1);
    let [notice] = newcomers.try_into().unwrap();
    let mut lines: Vec<&str> = notice["lines"].as_array().unwrap().iter().filter_map(Value::as_str).collect();
    lines.sort_unstable();
    assert_eq!(
        lines,
        [
            "attic \u{201c}The attic\u{201d}, a new device: motion",
            "hall \u{201c}The hall\u{201d}, a new device: motion",
            "hall \u{201c}The hall\u{201d}, new on this device: battery",
        ]
    );
    assert_eq!(notice["unseen_by"], json!(["alice", "bob"]));
    assert_eq!(hub.cli_json(&["grant", "list"]).as_array().unwrap().len(), grants, "nothing is granted by itself");
    // What alice has seen does not grow behind her back: the next is told anew.
    done(&hub, &["notice", "seen", "--member", "alice"]);
    sensor("cellar", &motion.replace("\"m\",", "\"c\","));
    hub.wait_until(&["notice", "list"], |n| n.to_string().contains("cellar"));
    let cellar = told(&hub).into_iter().find(|n| n["lines"].to_string().contains("cellar")).unwrap();
    assert_eq!((&cellar["unseen_by"], cellar["lines"].as_array().unwrap().len()), (&json!(["alice", "bob"]), 1));
}
