//! What would have been sent, and what can be made of it: `policy simulate` beside what the running hub really answers.

use serde_json::{Value, json};
use testkit::PretendAlexa;

use crate::devices_and_alexa::begin;
use crate::harness::{control, run};

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
