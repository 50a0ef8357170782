//! The demonstration, as a visitor sees it.

use std::io::Read as _;
use std::process::{Command, Stdio};

use serde_json::Value;

use crate::harness::{Process, peer, program};

fn number(summary: &Value, key: &str) -> u64 {
    summary[key].as_u64().unwrap_or_else(|| panic!("{key} in {summary}"))
}

#[test]
fn the_demo_lives_shows_its_page_and_verifies() {
    let mut command = program();
    command.args(["demo", "--console", "127.0.0.1:0", "--partners", "127.0.0.1:0", "--for", "25s", "--json"]);
    command.stdout(Stdio::piped());
    let mut demo = Process::start(command);
    let console = demo.wait_for("console: ").trim().to_owned();
    demo.wait_for("ready");

    let browser = peer("VESTIBULE_CHROMIUM", &["/usr/bin/chromium"]);
    let profile = tempfile::tempdir().unwrap();
    let dom = Command::new(browser)
        .args(["--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run"])
        .args(["--disable-background-networking", "--disable-component-update", "--disable-sync", "--timeout=9000"])
        .arg(format!("--user-data-dir={}", profile.path().display()))
        .args(["--dump-dom", &format!("{console}#commands-only")])
        .output()
        .unwrap();
    let dom = String::from_utf8_lossy(&dom.stdout).into_owned();
    for text in
        ["Commands only", "Glance", "Everything", "The room temperature", "When the garage door was last opened"]
    {
        assert!(dom.contains(text), "`{text}` is not on the page:\n{dom}");
    }
    // The strips are drawn, and the letter is shown as text.
    assert!(dom.contains("<svg"), "nothing is drawn");
    assert!(dom.contains("certification"), "the docket is empty");

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
