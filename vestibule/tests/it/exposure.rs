//! What would have been sent, and what can be made of it: `policy simulate` beside what the running hub really answers.

use serde_json::{Value, json};
use testkit::PretendAlexa;

use crate::devices_and_alexa::begin;
use crate::harness::{control, full, recordings, run, run_json, run_ok, skipped};

fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap()
}

#[test]
fn what_is_simulated_of_the_history_is_what_the_hub_answers() {
    let story = begin();
    let hub = &story.hub;
    let token = hub.cli(&["link", "alexa", "--profile", "everything", "--print-token"]);
    let alexa = PretendAlexa::new(&hub.partners, token.trim());
    let answered: Vec<(String, Value)> = runtime().block_on(async {
        alexa.discover().await.unwrap();
        let mut all = Vec::new();
        for endpoint in alexa.endpoints() {
            let answer = alexa.report_state(&endpoint).await.unwrap();
            all.push((endpoint, answer.json["context"]["properties"].clone()));
        }
        all
    });
    assert!(answered.len() > 2, "{answered:?}");

    // The coming minutes, on the history as it is: nothing changes until then.
    let ledger = hub.ledger();
    let now = ledger.last().unwrap()["time"].as_str().unwrap().parse::<jiff::Timestamp>().unwrap();
    let (from, to) = (now - jiff::SignedDuration::from_mins(1), now + jiff::SignedDuration::from_mins(3));
    let span = ["policy", "simulate", "--from", &from.to_string(), "--to", &to.to_string(), "--every", "1"];
    let simulated = hub.cli_json(&span);
    let link = &simulated["links"][0];
    let messages = link["messages"].as_array().unwrap();
    for (endpoint, properties) in &answered {
        let last = messages.iter().rfind(|m| m["endpoint"] == **endpoint && m["message"] == "Alexa.StateReport");
        assert_eq!(last.unwrap()["body"]["context"]["properties"], *properties);
    }
    let (count, bytes): (u64, u64) = messages.iter().fold((0, 0), |(count, bytes), m| {
        let times = 1 + m["again"].as_u64().unwrap();
        (count + times, bytes + times * m["bytes"].as_u64().unwrap())
    });
    let total = &link["total"];
    assert_eq!((total["messages"].as_u64(), total["bytes"].as_u64()), (Some(count), Some(bytes)));
    assert!(total["facts"].as_u64().unwrap() > 5 && link["days"][0]["messages"].as_u64().unwrap() > 0, "{total}");

    // Under another policy, which is only looked at; and in words.
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("none.json").display().to_string();
    let before = hub.cli(&["policy", "export"]);
    let mut none: Value = serde_json::from_str(&before).unwrap();
    none["grants"] = json!([]);
    std::fs::write(&file, none.to_string()).unwrap();
    let nothing = hub.cli_json(&[&span[..], &["--policy", &file]].concat());
    let of = &nothing["links"][0];
    assert_eq!((&of["total"]["facts"], &of["messages"].as_array().unwrap().len()), (&json!(0), &1), "{of}");
    assert!(hub.cli(&span).contains("together"));
    assert_eq!(hub.cli(&["policy", "export"]), before);
    let data = hub.data.display().to_string();
    let wrong = run(&["policy", "simulate", "--from", "2026-02-02", "--to", "2026-02-01", "--data", &data]);
    assert_eq!(wrong.status.code(), Some(1));
    assert!(
        control(&hub.data, &json!({"policy_simulate": {"from": "soon", "to": "later", "document": null, "every": 5}}))
            .unwrap_err()
            .contains("is no time")
    );
}

/// The lines that `infer` prints, by profile.
fn measured(args: &[&str]) -> std::collections::BTreeMap<String, Value> {
    let out = run_ok(&[&["infer", "--json"], args].concat());
    let lines = out.lines().map(|line| serde_json::from_str::<Value>(line).unwrap());
    lines.map(|line| (line["profile"].as_str().unwrap().to_owned(), line)).collect()
}

const TARGETS: [&str; 3] = ["nobody_home_now", "away_for_days", "daily_rhythm"];

/// What holds of each line, whatever the home.
fn check(lines: &std::collections::BTreeMap<String, Value>, profiles: &[&str]) {
    let mut names: Vec<&str> = lines.keys().map(String::as_str).collect();
    names.sort_unstable();
    let mut wanted: Vec<&str> = profiles.iter().copied().chain(["home-assistant"]).collect();
    wanted.sort_unstable();
    assert_eq!(names, wanted);
    for line in lines.values() {
        for key in ["facts_per_day", "messages_per_day", "bytes_per_day"] {
            assert!(line[key].as_f64().unwrap() >= 0.0, "{key}: {line}");
        }
        for target in TARGETS {
            let found = &line["targets"][target];
            for key in ["prior_auc", "auc", "balanced_accuracy"] {
                // None where the days are all of one sort.
                assert!(found[key].is_null() || (0.0..=1.0).contains(&found[key].as_f64().unwrap()), "{key}: {line}");
            }
            let ends = (found["increment_low"].as_f64(), found["increment_high"].as_f64());
            assert!(ends.0 <= ends.1, "{line}");
        }
    }
    // What tells nothing adds nothing; who is told all knows it; and of a hundred facts that the rule tells, Glance tells
    // three at most.
    let none = &lines["commands-only"];
    assert_eq!(none["targets"]["nobody_home_now"]["increment_high"], 0.0, "{none}");
    assert!(lines["glance"]["fewer_facts"].as_f64() >= Some(0.97), "{}", lines["glance"]);
    let bits = |line: &Value, of: &str| line["information"][of]["bits"].as_f64().unwrap();
    assert_eq!(
        (bits(none, "count"), bits(none, "times")),
        (0.0, 0.0),
        "answers at fixed times tell nothing by being sent"
    );
    let everything = &lines["everything"]["targets"]["nobody_home_now"];
    assert!(
        everything["auc"].as_f64().unwrap() > 0.9 && everything["increment_low"].as_f64().unwrap() > 0.0,
        "{everything}"
    );
}

#[test]
fn a_real_home_is_measured_the_same_each_time() {
    let name = "a_real_home_is_measured_the_same_each_time";
    let Some(folder) = recordings() else { return skipped(name, "VESTIBULE_RECORDINGS is not set") };
    let file = |name: &str| folder.join(name).display().to_string();
    let (export, log) = (file("ecobee/report_thermostat.csv"), file("ordonez/OrdonezA_Sensors.txt"));
    let all: Vec<String> = policy_slugs();
    let all: Vec<&str> = all.iter().map(String::as_str).collect();
    // Short: days of a family at home, until it has left for a week.
    let short: &[&str] = if full() { &[] } else { &["--days", "9"] };
    let (short_log, every): (&[&str], _) = if full() { (&[], "5") } else { (&["--days", "6"], "15") };
    let args = [&["--recording", &export, "--every", every], short].concat();
    let lines = measured(&args);
    check(&lines, &all);
    assert!(
        lines["everything"]["information"]["count"]["bits"].as_f64()
            > lines["glance"]["information"]["count"]["bits"].as_f64()
    );

    let some = ["--profile", "everything", "--profile", "glance", "--profile", "commands-only"];
    let args = [&["--recording", &log], &some[..], short_log].concat();
    let lines = measured(&args);
    check(&lines, &["commands-only", "glance", "everything"]);
    assert_eq!(measured(&args), lines);
    // In words, and learnt in the other home.
    let other = file("ordonez/OrdonezB_ADLs.txt");
    let across = ["infer", "--recording", &log, "--across", &other, "--profile", "commands-only", "--together"];
    let table = run_ok(&[&across[..], short_log].concat());
    assert!(table.contains("whole days") && table.lines().any(|l| l.starts_with("together ")), "{table}");
}

fn policy_slugs() -> Vec<String> {
    let profiles: Value = run_json(&["profile", "list", "--json"]);
    profiles.as_array().unwrap().iter().map(|p| p["slug"].as_str().unwrap().to_owned()).collect()
}

#[test]
fn what_can_not_be_measured_is_said() {
    let dir = tempfile::tempdir().unwrap();
    let data = dir.path().join("data").display().to_string();
    let refused = |args: &[&str], says: &str| {
        let out = run(&[&["infer"], args].concat());
        let text = String::from_utf8_lossy(&out.stderr).into_owned();
        assert!(!out.status.success() && text.contains(says), "{args:?}: {text}");
    };
    refused(&["--data", &data], "data directory");
    refused(&["--recording", "nowhere.csv"], "nowhere.csv");
    refused(&["--recording", "x.csv", "--data", &data], "cannot be used with");
    refused(&["--recording", "x.csv", "--profile", "nobody"], "there is no profile `nobody`");
    let export = dir.path().join("short.csv");
    std::fs::write(&export, "Date,Time,Current Temp (F)\n6/9/23,0:00:00,70\n").unwrap();
    refused(&["--recording", export.to_str().unwrap()], "no motion or presence sensor");
}
