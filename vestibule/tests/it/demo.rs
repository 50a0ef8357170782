//! The demonstration, as a visitor sees it.

use std::io::Read as _;
use std::process::Stdio;

use serde_json::Value;

use crate::browser::{Browser, text, verdicts};
use crate::harness::{Process, program};

fn number(summary: &Value, key: &str) -> u64 {
    summary[key].as_u64().unwrap_or_else(|| panic!("{key} in {summary}"))
}

#[test]
fn the_demo_lives_shows_its_page_and_verifies() {
    let mut command = program();
    command.args(["demo", "--console", "127.0.0.1:0", "--partners", "127.0.0.1:0", "--for", "30s", "--json"]);
    command.stdout(Stdio::piped());
    let mut demo = Process::start(command);
    let console = demo.wait_for("console: ").trim().to_owned();
    demo.wait_for("ready");

    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(async {
        let desk = Browser::open(1280, 900, false).await;
        desk.goto(&format!("{console}#commands-only")).await;
        desk.wait_for("document.querySelector('#told svg') && document.querySelector('#state.live')").await;
        desk.wait_for(&format!("{}.includes(', verified')", text("#top-ledger"))).await;
        let told = "document.querySelector('#told svg').getAttribute('aria-label')";
        // The curtain: each notch redraws the second strip and says what it costs.
        for (nth, name) in ["Commands only", "Glance", "Everything"].into_iter().enumerate() {
            desk.click(&format!("#notches label:nth-of-type({})", nth + 1)).await;
            desk.wait_for(&format!("{}.includes({name:?})", text("#told-note"))).await;
            desk.wait_for(&format!("{}.includes({name:?})", text("#costs"))).await;
            let temperature = format!("/[Tt]hermostat temperature: (?!nothing)/.test({told})");
            let garage = "When the garage door was last opened";
            if name == "Commands only" {
                desk.wait_for(&format!("{told}.includes('Thermostat temperature: nothing was told')")).await;
                let verdicts = verdicts(&desk).await;
                assert_eq!((&*verdicts["The room temperature"], &*verdicts[garage]), ("Refused", "Refused"));
            } else {
                desk.wait_for(&temperature).await;
                let verdict = verdicts(&desk).await[garage].clone();
                assert_eq!(verdict, if name == "Glance" { "Refused" } else { "Given" });
            }
        }
        // The truth beside what was told, the stream of questions, and the letter.
        desk.wait_for("document.querySelectorAll('#truth-table tbody tr').length > 10").await;
        desk.wait_for("document.querySelectorAll('#stream li').length > 5").await;
        desk.wait_for(&format!("{}.includes('certification')", text("#docket-list"))).await;
        desk.close().await;

        let phone = Browser::open(390, 844, true).await;
        phone.goto(&console).await;
        phone.wait_for("document.querySelector('#told svg') && document.querySelector('#state.live')").await;
        assert_eq!(phone.read("document.documentElement.scrollWidth").await, 390, "a phone need not scroll sideways");
        phone.close().await;
    });

    let mut out = String::new();
    demo.child.stdout.take().unwrap().read_to_string(&mut out).unwrap();
    assert!(demo.child.wait().unwrap().success());
    let summary: Value = serde_json::from_str(&out).unwrap_or_else(|e| panic!("{e}: {out}"));
    assert_eq!(summary["verified"], true);
    let asked = number(&summary, "asked");
    assert_eq!(asked, number(&summary, "answered") + number(&summary, "refused") + number(&summary, "errors"));
    assert_eq!(asked, number(&summary, "messages_out"));
    assert_eq!(number(&summary, "errors"), 0, "{summary}");
    assert!(
        asked > 100 && number(&summary, "refused") > 10 && number(&summary, "properties_withheld") > 100,
        "{summary}"
    );
    assert!(number(&summary, "leaves") > asked);
}
