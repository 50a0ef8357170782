//! The hub's own broker, and the hub's name at any.

use std::process::Command;

use crate::harness::{Hub, Mosquitto, get, peer, program, run};

/// Whether a client is let in and may publish.
fn is_let_in(port: &str, as_who: &[&str]) -> bool {
    let program = peer("VESTIBULE_MOSQUITTO_PUB", &["/usr/bin/mosquitto_pub"]);
    let mut command = Command::new(program);
    command.args(["-h", "127.0.0.1", "-p", port, "-q", "1", "-t", "a/b", "-m", "x"]).args(as_who);
    command.output().expect("mosquitto_pub runs").status.success()
}

fn password(printed: &str) -> String {
    printed.trim().rsplit(' ').next().unwrap().to_owned()
}

#[test]
fn a_new_name_holds_at_once_and_the_hubs_own_is_for_nobody_else() {
    let dir = tempfile::tempdir().unwrap();
    let data = dir.path().join("data");
    let mut command = program();
    command.args(["serve", "--data"]).arg(&data).env("VESTIBULE__MQTT__LISTEN", "127.0.0.1:0");
    let mut hub = Hub::spawn(command, &data);
    let port = hub.process.wait_for("mqtt: mqtt://127.0.0.1:");
    let port = port.trim();
    let refused = |args: &[&str], text: &str| {
        let data = data.display().to_string();
        let out = run(&[args, &["--data", &data]].concat());
        assert_eq!(out.status.code(), Some(1), "{args:?}");
        let told = String::from_utf8_lossy(&out.stderr).into_owned();
        assert!(told.contains(text), "{told}");
    };

    let first = password(&hub.cli(&["devices", "add", "lamp"]));
    assert!(is_let_in(port, &["-u", "lamp", "-P", &first]));
    assert!(!is_let_in(port, &["-u", "lamp", "-P", "wrong"]));
    refused(&["devices", "add", "lamp"], "--replace");
    let second = password(&hub.cli(&["devices", "add", "lamp", "--replace"]));
    assert!(!is_let_in(port, &["-u", "lamp", "-P", &first]));
    assert!(is_let_in(port, &["-u", "lamp", "-P", &second]));
    refused(&["devices", "add", "vestibule"], "the hub's own name");

    // Nobody else has the name of one of the hub's clients, so nobody puts it out.
    let id = std::fs::read_to_string(data.join("client.id")).unwrap();
    for name in [id.clone(), format!("{id}-c")] {
        assert!(!is_let_in(port, &["-i", &name]), "{name}");
        assert!(!is_let_in(port, &["-i", &name, "-u", "lamp", "-P", &second]), "{name}");
    }
    assert!(is_let_in(port, &["-i", "another"]));
}

#[test]
fn two_hubs_on_one_broker_have_names_of_their_own_that_stay() {
    let mosquitto = Mosquitto::start();
    let dir = tempfile::tempdir().unwrap();
    let places = ["one", "two"].map(|name| dir.path().join(name));
    let hubs = places.clone().map(|data| Hub::start(&data, &mosquitto.url()));
    let ids = || places.clone().map(|data| std::fs::read_to_string(data.join("client.id")).unwrap());
    let before = ids();
    assert_ne!(before[0], before[1]);
    assert!(before.iter().all(|id| id.len() + "-c".len() <= 23));
    for hub in &hubs {
        let healthy = (0..600).any(|_| {
            std::thread::sleep(std::time::Duration::from_millis(20));
            get(&format!("{}/healthz", hub.console)).0 == 200
        });
        assert!(healthy);
    }
    let data = places[0].display().to_string();
    let out = run(&["devices", "add", "lamp", "--data", &data]);
    assert!(String::from_utf8_lossy(&out.stderr).contains("[mqtt] url"), "an external broker has its own users");
    drop(hubs);
    let _again = Hub::start(&places[0], &mosquitto.url());
    assert_eq!(ids(), before);
}
