//! Exit codes, errors that say what to do, one writer.

use std::net::TcpListener;

use crate::harness::{Hub, Mosquitto, Process, get, program, run, run_json, run_ok};

#[test]
fn wrong_usage_is_2_and_failure_is_1() {
    assert_eq!(run(&["no-such-command"]).status.code(), Some(2));
    assert_eq!(run(&["link", "not a partner"]).status.code(), Some(2));
    assert_eq!(run(&["--help"]).status.code(), Some(0));
    assert_eq!(run(&["--version"]).status.code(), Some(0));
    let dir = tempfile::tempdir().unwrap();
    let data = dir.path().join("d").display().to_string();
    let out = run(&["link", "nobody", "--data", &data]);
    assert_eq!(out.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&out.stderr).contains("alexa"), "names what there is");
    let out = run(&["unlink", "lnk-0", "--data", &data]);
    assert_eq!(out.status.code(), Some(1));
}

#[test]
fn check_tells_every_problem_with_its_line_and_its_example_is_good() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("v.toml");
    std::fs::write(&file, "[home]\ntimezone = \"Nowhere\"\nfoo = 1\n[store]\nurl = \"postgres://x\"\n").unwrap();
    let out = run(&["check", "--config", file.to_str().unwrap()]);
    assert_eq!(out.status.code(), Some(1));
    let text = String::from_utf8(out.stderr).unwrap();
    for place in ["v.toml:2", "v.toml:3", "v.toml:5"] {
        assert!(text.contains(place), "{text}");
    }
    std::fs::write(&file, run_ok(&["check", "--example"])).unwrap();
    run_ok(&["check", "--config", file.to_str().unwrap()]);
}

#[test]
fn a_busy_port_is_told_and_fails() {
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let dir = tempfile::tempdir().unwrap();
    let out = program()
        .args(["serve", "--data", dir.path().to_str().unwrap()])
        .env("VESTIBULE__CONSOLE__LISTEN", taken.local_addr().unwrap().to_string())
        .env("VESTIBULE__PARTNERS__LISTEN", "127.0.0.1:0")
        .env("VESTIBULE__MQTT__LISTEN", "127.0.0.1:0")
        .output()
        .unwrap();
    assert_eq!(out.status.code(), Some(1));
    let text = String::from_utf8(out.stderr).unwrap();
    assert!(text.contains("[console] listen"), "{text}");
}

#[test]
fn a_stop_in_the_first_moment_is_an_orderly_end() {
    let mosquitto = Mosquitto::start();
    let dir = tempfile::tempdir().unwrap();
    for word in ["console: ", "ready"] {
        let mut command = program();
        command.args(["serve", "--data"]).arg(dir.path().join("data"));
        command.env("VESTIBULE__MQTT__URL", mosquitto.url());
        for listener in ["CONSOLE", "PARTNERS"] {
            command.env(format!("VESTIBULE__{listener}__LISTEN"), "127.0.0.1:0");
        }
        let mut hub = Process::start(command);
        hub.wait_for(word);
        hub.signal("TERM");
        assert_eq!(hub.child.wait().unwrap().code(), Some(0), "at `{word}`: {}", hub.said());
    }
}

#[test]
fn two_hubs_can_not_have_one_directory_and_files_are_private() {
    use std::os::unix::fs::PermissionsExt as _;
    let mosquitto = Mosquitto::start();
    let dir = tempfile::tempdir().unwrap();
    let data = dir.path().join("data");
    let hub = Hub::start(&data, &mosquitto.url());
    let out = program()
        .args(["serve", "--data"])
        .arg(&data)
        .env("VESTIBULE__MQTT__URL", mosquitto.url())
        .env("VESTIBULE__CONSOLE__LISTEN", "127.0.0.1:0")
        .env("VESTIBULE__PARTNERS__LISTEN", "127.0.0.1:0")
        .output()
        .unwrap();
    assert_eq!(out.status.code(), Some(1));
    for name in ["control.sock", "signing.key", "vestibule.db", "lock"] {
        let mode = std::fs::metadata(data.join(name)).unwrap_or_else(|e| panic!("{name}: {e}")).permissions().mode();
        assert_eq!(mode & 0o077, 0, "{name}");
    }
    drop(hub);
}

#[test]
fn health_follows_the_broker_metrics_stay_in_the_house_and_sigterm_ends_it() {
    let mosquitto = Mosquitto::start();
    let dir = tempfile::tempdir().unwrap();
    let mut hub = Hub::start(&dir.path().join("data"), &mosquitto.url());
    let health = |wanted: u16| {
        let found = (0..300).find_map(|_| {
            let (status, body) = get(&format!("{}/healthz", hub.console));
            (status == wanted).then_some(body).or_else(|| {
                std::thread::sleep(std::time::Duration::from_millis(100));
                None
            })
        });
        found.unwrap_or_else(|| panic!("/healthz never said {wanted}"))
    };
    health(200);
    let (status, metrics) = get(&format!("{}/metrics", hub.console));
    assert_eq!(status, 200);
    assert!(metrics.lines().any(|l| l.starts_with("vestibule_ledger_leaves ")), "{metrics}");
    for path in ["metrics", "healthz", "", "api/overview"] {
        assert_eq!(get(&format!("{}/{path}", hub.partners)).0, 404, "{path} is not the partners' business");
    }
    drop(mosquitto);
    assert!(health(503).contains("devices"));
    hub.process.signal("TERM");
    assert_eq!(hub.process.child.wait().unwrap().code(), Some(0));
}

#[test]
fn the_docket_and_the_links_are_the_same_beside_a_hub_and_without_one() {
    let mosquitto = Mosquitto::start();
    let dir = tempfile::tempdir().unwrap();
    let data = dir.path().join("data");
    let letter = dir.path().join("letter.txt");
    std::fs::write(&letter, "Report all state at all times. <script>alert(1)</script>").unwrap();
    let (data_text, letter_text) = (data.display().to_string(), letter.display().to_string());
    let add = [
        "docket",
        "add",
        "--partner",
        "alexa",
        "--file",
        &letter_text,
        "--deadline",
        "2026-12-31",
        "--threat",
        "No sale.",
    ];
    let token = {
        let hub = Hub::start(&data, &mosquitto.url());
        hub.cli(&add);
        hub.cli(&["link", "alexa", "--profile", "glance", "--print-token"])
    };
    assert!(token.trim().len() > 40 && token.lines().count() == 1);
    let mut alone = add.to_vec();
    alone.extend(["--data", &data_text]);
    run_ok(&alone);
    let rows = run_json(&["docket", "list", "--json", "--data", &data_text]);
    assert_eq!(rows.as_array().unwrap().iter().filter(|r| r["deadline"] == "2026-12-31").count(), 2);
    let links = run_json(&["links", "--json", "--data", &data_text]);
    assert_eq!(links[0]["profile"], "glance");
    let link = links[0]["id"].as_str().unwrap();
    run_ok(&["unlink", link, "--data", &data_text]);
    assert_eq!(run_json(&["links", "--json", "--data", &data_text]), serde_json::json!([]));
    assert_eq!(run_json(&["ledger", "verify", "--json", "--data", &data_text])["ok"], true);
    let bad = run(&[
        "docket",
        "add",
        "--partner",
        "alexa",
        "--file",
        &letter_text,
        "--deadline",
        "soon",
        "--data",
        &data_text,
    ]);
    assert_eq!(bad.status.code(), Some(1));
    std::fs::write(&letter, " \n").unwrap();
    assert_eq!(run(&alone).status.code(), Some(1), "an empty letter demands nothing");

    // Somebody else's copy, without the key and without the right to write, is verified all the same.
    let copy = dir.path().join("copy");
    std::fs::create_dir(&copy).unwrap();
    std::fs::copy(data.join("vestibule.db"), copy.join("vestibule.db")).unwrap();
    let copy_text = copy.display().to_string();
    let verdict = run_json(&["ledger", "verify", "--json", "--data", &copy_text]);
    let own = run_json(&["ledger", "verify", "--json", "--data", &data_text]);
    assert_eq!((&verdict["ok"], &verdict["root"]), (&own["ok"], &own["root"]));
    assert_eq!(verdict["verifier_key"], own["verifier_key"], "the first leaf names the key");
    assert!(!copy.join("signing.key").exists(), "a copy gets no key of its own");
    // A mistyped directory is told, and not made.
    let typo = dir.path().join("dta");
    assert_eq!(run(&["links", "--data", &typo.display().to_string()]).status.code(), Some(1));
    assert!(!typo.exists());
}
