//! Linking while something fails: callers that hang up, homes that change meanwhile, a store that can't write.

use std::io::Write as _;
use std::net::TcpStream;
use std::path::Path;
use std::time::Duration;

use serde_json::{Value, json};
use testkit::PretendAlexa;

use crate::harness::{Faults, Hub, Mosquitto, control, publish, run};
use crate::linking::thermostat;
use crate::member::{
    Answer, Browser, Client, PASSWORD, REDIRECT, VERIFIER, add_client, add_member, encode, hidden, post_form,
};

/// How long a slow disk takes for a write here: long enough to hang up in the middle of it.
const SLOW_MS: u64 = 1500;

struct Story {
    hub: Hub,
    mosquitto: Mosquitto,
    faults: Faults,
    dir: tempfile::TempDir,
}

fn begin() -> Story {
    let mosquitto = Mosquitto::start();
    thermostat(mosquitto.port);
    let (dir, faults) = (tempfile::tempdir().unwrap(), Faults::new());
    let hub = Hub::start_with(&dir.path().join("data"), &mosquitto.url(), &faults);
    hub.wait_until(&["devices"], |d| d.to_string().contains("21.4 °C") && d.to_string().contains("\"20 °C\""));
    add_member(&hub, "alice");
    Story { hub, mosquitto, faults, dir }
}

impl Story {
    /// The next write is slow. `time` makes each plan another one: the same again would count on.
    fn slow(&self, time: u64) {
        self.faults.arm(&format!("{} wait:{} 1 1", faults::RECORD_BEFORE, SLOW_MS + time));
    }

    /// Waits until the slow write has begun.
    fn wait_for_the_write(&self) {
        for _ in 0..3000 {
            if self.faults.hits() > 0 {
                return;
            }
            std::thread::sleep(Duration::from_millis(5));
        }
        panic!("nothing was written");
    }

    fn links(&self) -> Vec<Value> {
        self.hub.cli_json(&["links"]).as_array().unwrap().clone()
    }

    fn linked(&self, client: &Client, profile: &str, renew: &str) -> (String, String) {
        let code = Browser::default().link(&self.hub, client, profile, renew);
        tokens(&client.exchange(&self.hub, &code))
    }
}

fn tokens(answer: &Answer) -> (String, String) {
    assert_eq!(answer.status, 200, "{answer:?}");
    let json = answer.json();
    (json["access_token"].as_str().unwrap().to_owned(), json["refresh_token"].as_str().unwrap().to_owned())
}

/// Sends a form and gives the connection, with the answer still to come.
fn begin_form(url: &str, headers: &str, fields: &[(&str, &str)]) -> TcpStream {
    let (host, path) = url.strip_prefix("http://").unwrap().split_once('/').unwrap();
    let body = encode(fields);
    let mut stream = TcpStream::connect(host).unwrap();
    let head = format!(
        "POST /{path} HTTP/1.1\r\nHost: {host}\r\nContent-Type: application/x-www-form-urlencoded\r\n{headers}\
         Content-Length: {}\r\n\r\n{body}",
        body.len()
    );
    stream.write_all(head.as_bytes()).unwrap();
    stream
}

fn exchange_fields<'a>(client: &'a Client, code: &'a str) -> Vec<(&'a str, &'a str)> {
    vec![
        ("client_id", client.id.as_str()),
        ("client_secret", client.secret.as_str()),
        ("grant_type", "authorization_code"),
        ("code", code),
        ("redirect_uri", REDIRECT),
        ("code_verifier", VERIFIER),
    ]
}

/// What a token opens: the endpoints, without what differs from message to message.
fn discover(hub: &Hub, token: &str) -> Vec<Value> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let exchange = runtime.block_on(PretendAlexa::new(&hub.partners, token).discover()).unwrap();
    exchange.json["event"]["payload"]["endpoints"].as_array().unwrap().clone()
}

/// A browser that has logged in and looks at the page of choices.
fn look(hub: &Hub, client: &Client) -> (Browser, String) {
    let mut browser = Browser::default();
    assert_eq!(browser.log_in(&client.authorize_url(hub, "s"), "alice", PASSWORD).status, 303);
    let page = browser.send("GET", &format!("{}/oauth/consent", hub.partners), &[]);
    assert_eq!(page.status, 200);
    (browser, page.body)
}

fn choose(hub: &Hub, browser: &mut Browser, page: &str, profile: &str) -> Answer {
    let (csrf, shown) = (hidden(page, "csrf"), hidden(page, "shown"));
    let fields = [("csrf", csrf.as_str()), ("shown", &shown), ("profile", profile), ("decision", "link")];
    browser.send("POST", &format!("{}/oauth/decision", hub.partners), &fields)
}

#[test]
fn who_hangs_up_in_the_middle_leaves_nothing_half_made() {
    let story = begin();
    let (hub, client) = (&story.hub, add_client(&story.hub, &[]));
    // A member's browser that goes away while the link is made.
    let (browser, page) = look(hub, &client);
    let cookies: Vec<String> = browser.cookies.iter().map(|(n, v)| format!("{n}={v}")).collect();
    let (csrf, shown) = (hidden(&page, "csrf"), hidden(&page, "shown"));
    let fields = [("csrf", csrf.as_str()), ("shown", &shown), ("profile", "glance"), ("decision", "link")];
    story.slow(1);
    let cookie = format!("Cookie: {}\r\n", cookies.join("; "));
    let gone = begin_form(&format!("{}/oauth/decision", hub.partners), &cookie, &fields);
    story.wait_for_the_write();
    drop(gone);
    hub.wait_until(&["links"], |l| l[0]["profile"] == "glance" && l[0]["grants"].as_u64() > Some(0));
    let link = story.links()[0]["id"].as_str().unwrap().to_owned();
    hub.cli(&["unlink", &link]);

    // A partner's server that goes away while its tokens are made: the code is used, and can't be used again.
    let code = Browser::default().link(hub, &client, "glance", "");
    let url = format!("{}/oauth/token", hub.partners);
    story.slow(2);
    let gone = begin_form(&url, "", &exchange_fields(&client, &code));
    story.wait_for_the_write();
    drop(gone);
    hub.wait_until(&["links"], |l| l[0]["member"] == "alice");
    assert_eq!(client.exchange(hub, &code).json()["error"], "invalid_grant");
    assert_eq!(story.links()[0]["stopped"], "code_reused");
    let given = hub.ledger().iter().filter(|r| r["message"] == "OAuth.Tokens").count();
    assert_eq!(given, 1);
}

#[test]
fn old_tokens_of_a_renewed_link_get_nothing_new_and_lose_at_once_what_was_taken() {
    let story = begin();
    let (hub, client) = (&story.hub, add_client(&story.hub, &[]));
    let (old, _) = story.linked(&client, "commands-only", "");
    let link = story.links()[0]["id"].as_str().unwrap().to_owned();
    let before = discover(hub, &old);
    let retrievable = |found: &[Value]| serde_json::to_string(found).unwrap().contains("\"retrievable\":true");
    assert!(!before.is_empty() && !retrievable(&before));
    // Agreed to, not fetched.
    let code = Browser::default().link(hub, &client, "everything", &link);
    assert_eq!(discover(hub, &old), before);
    assert!(story.links()[0]["notice"].as_str().unwrap().contains("agreed to anew"));
    // Agreed to once more: only the newest counts.
    let newest = Browser::default().link(hub, &client, "glance", &link);
    assert_eq!(client.exchange(hub, &code).json()["error"], "invalid_grant");
    assert_eq!(discover(hub, &old), before);
    let (new, _) = tokens(&client.exchange(hub, &newest));
    assert_eq!((discover(hub, &old), retrievable(&discover(hub, &new))), (Vec::new(), true));
    assert_eq!((story.links().len(), story.links()[0]["profile"].as_str()), (1, Some("glance")));
    // What is taken is taken when it is agreed to, fetched or not; also over a kill.
    let code = Browser::default().link(hub, &client, "commands-only", &link);
    assert!(!retrievable(&discover(hub, &new)) && !discover(hub, &new).is_empty());
    tokens(&client.exchange(hub, &code));
    // What is to be added outlasts a kill as well, also one after tokens that were told as failed and stored all the same: then the
    // old grants stand, and the code is still good.
    let code = Browser::default().link(hub, &client, "glance", &link);
    story.faults.arm(&format!("{} fail 1 0", faults::RECORD_AFTER));
    assert_eq!(client.exchange(hub, &code).status, 503);
    let Story { mut hub, mosquitto, faults, dir } = story;
    hub.process.signal("KILL");
    let _ = hub.process.child.wait();
    faults.arm("");
    let hub = Hub::start_with(&dir.path().join("data"), &mosquitto.url(), &faults);
    assert_eq!(hub.cli_json(&["links"])[0]["profile"], "commands-only");
    let (new, _) = tokens(&client.exchange(&hub, &code));
    assert!(retrievable(&discover(&hub, &new)));
    // The household changes its mind in between: that is what counts.
    let code = Browser::default().link(&hub, &client, "everything", &link);
    hub.cli(&["profile", "apply", &link, "--profile", "commands-only"]);
    let (new, _) = tokens(&client.exchange(&hub, &code));
    assert!(!retrievable(&discover(&hub, &new)));
    assert_eq!(hub.cli_json(&["links"])[0]["profile"], "commands-only");
    assert_eq!(hub.cli_json(&["ledger", "verify"])["ok"], true);
}

#[test]
fn what_a_member_agrees_to_is_what_was_shown() {
    let story = begin();
    let (hub, client) = (&story.hub, add_client(&story.hub, &[]));
    let (mut browser, page) = look(hub, &client);
    // A lock is paired while the member reads.
    publish(
        story.mosquitto.port,
        "homeassistant/lock/l/config",
        r#"{"name":"Front door","uniq_id":"l","stat_t":"l/s","cmd_t":"l/set","dev":{"ids":["l"],"name":"Front door"}}"#,
    );
    hub.wait_until(&["devices"], |d| d.to_string().contains("Front door"));
    let answer = choose(hub, &mut browser, &page, "everything");
    assert_eq!((answer.status, answer.header("location")), (303, Some("/oauth/consent")));
    assert!(story.links().is_empty(), "{:?}", story.links());
    // The page says so, and shows what there is now.
    let page = browser.send("GET", &format!("{}/oauth/consent", hub.partners), &[]).body;
    assert!(page.contains("has changed since") && page.contains("Front door"), "{page}");
    let answer = choose(hub, &mut browser, &page, "everything");
    let (access, _) = tokens(&client.exchange(hub, &answer.parameter("code").unwrap()));
    assert_eq!(discover(hub, &access).len(), 2);
}

#[test]
fn a_client_that_is_removed_takes_every_link_along_whatever_happens_meanwhile() {
    let story = begin();
    let (hub, data) = (&story.hub, story.hub.data.clone());
    // In the middle of an exchange.
    let client = add_client(hub, &[]);
    let code = Browser::default().link(hub, &client, "glance", "");
    story.slow(1);
    let exchange = begin_form(&format!("{}/oauth/token", hub.partners), "", &exchange_fields(&client, &code));
    story.wait_for_the_write();
    control(&data, &json!({"client_remove": {"client": client.id}})).unwrap();
    drop(exchange);
    assert!(story.links().is_empty(), "{:?}", story.links());
    // One that agreed and never came.
    let client = add_client(hub, &[]);
    Browser::default().link(hub, &client, "glance", "");
    hub.cli(&["client", "remove", &client.id]);
    assert!(story.links().is_empty(), "{:?}", story.links());
    // With a write that fails in the middle, and again when it is tried again: the first link's.
    let client = add_client(hub, &[]);
    let held: Vec<_> = (0..3).map(|_| story.linked(&client, "glance", "")).collect();
    story.faults.arm(&format!("{} fail 2 2", faults::RECORD_BEFORE));
    let removed = control(&data, &json!({"client_remove": {"client": client.id}}));
    assert!(removed.is_err(), "that a write failed is said: {removed:?}");
    assert!(story.links().is_empty(), "{:?}", story.links());
    for (access, _) in held {
        assert!(discover(hub, &access).is_empty());
    }
}

/// Kills the hub without warning and starts it on a store that works.
fn restart(story: &mut Story) {
    story.hub.process.signal("KILL");
    let _ = story.hub.process.child.wait();
    story.faults.arm("");
    story.hub = Hub::start_with(&story.dir.path().join("data"), &story.mosquitto.url(), &story.faults);
}

#[test]
fn what_was_taken_back_while_the_store_failed_stays_so_after_a_kill() {
    let mut story = begin();
    let hub = &story.hub;
    let [one, two, three, four] = [(); 4].map(|()| add_client(hub, &["--rotate", "true"]));
    let revoked = story.linked(&one, "glance", "");
    let ended = story.linked(&two, "glance", "");
    let removed = story.linked(&three, "glance", "");
    let stolen = story.linked(&four, "glance", "");
    let (used, _) = tokens(&four.refresh(hub, &stolen.1));
    assert!(!discover(hub, &used).is_empty());
    let data = hub.data.clone();
    let link_of = |client: &Client| -> String {
        let links = story.links();
        let link = links.iter().find(|l| l["client"] == client.id.as_str()).unwrap();
        link["id"].as_str().unwrap().to_owned()
    };
    let unlinked = link_of(&two);
    story.faults.arm(&format!("{} fail 1 0", faults::RECORD_BEFORE));
    let fields = [("token", revoked.0.as_str()), ("client_id", &one.id), ("client_secret", &one.secret)];
    assert_eq!(post_form(&format!("{}/oauth/revoke", hub.partners), &fields).status, 200);
    assert!(control(&data, &json!({"unlink": {"link": unlinked}})).unwrap_err().contains("a restart leaves it so"));
    assert!(control(&data, &json!({"client_remove": {"client": three.id}})).is_err());
    assert_eq!(four.refresh(hub, &stolen.1).json()["error"], "invalid_grant");
    for (access, _) in [&revoked, &ended, &removed, &(used.clone(), String::new())] {
        assert!(discover(hub, access).is_empty(), "in force at once");
    }
    restart(&mut story);
    let hub = &story.hub;
    for (access, _) in [&revoked, &ended, &removed, &(used, String::new())] {
        assert!(discover(hub, access).is_empty(), "a token came back with the restart");
    }
    assert_eq!(three.refresh(hub, &removed.1).json()["error"], "invalid_client");
    let links = story.links();
    let left: Vec<&str> = links.iter().map(|l| l["client"].as_str().unwrap()).collect();
    assert_eq!(left.len(), 2, "{links:?}");
    assert!(links.iter().any(|l| l["stopped"] == "refresh_reused"), "{links:?}");
    // The ends of the links are on record now.
    let ends = hub.ledger().iter().filter(|r| r["summary"] == "link revoked").count();
    assert_eq!(ends, 2);
    // The access token alone was revoked: its refresh token is good.
    tokens(&one.refresh(hub, &revoked.1));
    assert!(Path::new(&hub.data).join("taken-back").is_file());
    let out = run(&["ledger", "verify", "--data", &hub.data.display().to_string()]);
    assert!(out.status.success());
}
