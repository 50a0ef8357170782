//! Other people's OAuth clients link, refresh, revoke, and are robbed: Python's authlib (HTTP Basic) and npm's
//! oauth4webapi (secret in the body). Each is a program that prints `word JSON` and reads one line at a time.

use std::io::{BufRead as _, BufReader, Write as _};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};

use serde_json::{Value, json};
use testkit::PretendAlexa;

use crate::harness::{Hub, Mosquitto, peer};
use crate::member::{Browser, PASSWORD, REDIRECT, add_client, add_member, hidden};

/// A foreign client's program.
struct Foreign {
    child: Child,
    stdin: ChildStdin,
    stdout: BufReader<ChildStdout>,
}

impl Foreign {
    fn start(mut command: Command) -> Self {
        let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().expect("the client runs");
        let (stdin, stdout) = (child.stdin.take().unwrap(), BufReader::new(child.stdout.take().unwrap()));
        Self { child, stdin, stdout }
    }

    /// Reads a line that begins with this word.
    fn expect(&mut self, word: &str) -> Value {
        let mut line = String::new();
        self.stdout.read_line(&mut line).unwrap();
        let rest = line.strip_prefix(word).unwrap_or_else(|| panic!("no `{word}` but `{line}`"));
        serde_json::from_str(rest.trim()).unwrap()
    }

    fn ask(&mut self, line: &str, word: &str) -> Value {
        writeln!(self.stdin, "{line}").unwrap();
        self.expect(word)
    }
}

impl Drop for Foreign {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn script(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/it/foreign").join(name)
}

/// Whether a token opens: one that is not known is refused; one that is, asks for an endpoint that is not there.
fn opens(hub: &Hub, token: &Value) -> bool {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let alexa = PretendAlexa::new(&hub.partners, token.as_str().unwrap());
    let answer = runtime.block_on(alexa.report_state("e")).unwrap();
    let known = answer.json["event"]["payload"]["type"] == "NO_SUCH_ENDPOINT";
    assert!(known || answer.status == 401, "{answer:?}");
    known
}

fn links_refreshes_revokes_and_is_robbed(start: impl Fn(&str, &str, &str) -> Foreign) {
    let mosquitto = Mosquitto::start();
    let dir = tempfile::tempdir().unwrap();
    let hub = Hub::start(&dir.path().join("data"), &mosquitto.url());
    add_member(&hub, "alice");
    let client = add_client(&hub, &[]);
    let link = |hub: &Hub| {
        let mut foreign = start(&hub.partners, &client.id, &client.secret);
        let url = foreign.expect("authorize");
        let mut browser = Browser::default();
        assert_eq!(browser.log_in(url.as_str().unwrap(), "alice", PASSWORD).status, 303);
        let page = browser.send("GET", &format!("{}/oauth/consent", hub.partners), &[]).body;
        let (csrf, shown) = (hidden(&page, "csrf"), hidden(&page, "shown"));
        let fields = [("csrf", csrf.as_str()), ("shown", &shown), ("decision", "link")];
        let answer = browser.send("POST", &format!("{}/oauth/decision", hub.partners), &fields);
        let tokens = foreign.ask(answer.header("location").unwrap(), "tokens");
        assert!(opens(hub, &tokens["access_token"]));
        (foreign, tokens)
    };
    let text = |v: &Value| v.as_str().unwrap().to_owned();

    // A thief's copy of an old refresh token stops everything.
    let (mut foreign, first) = link(&hub);
    let second = foreign.ask(&format!("refresh {}", text(&first["refresh_token"])), "tokens");
    assert!(opens(&hub, &second["access_token"]));
    let stolen = format!("stolen {}", text(&first["refresh_token"]));
    assert_eq!(foreign.ask(&stolen, "refused"), json!("invalid_grant"));
    assert!(!opens(&hub, &second["access_token"]));
    let newest = format!("stolen {}", text(&second["refresh_token"]));
    assert_eq!(foreign.ask(&newest, "refused"), json!("invalid_grant"));
    drop(foreign);

    // A code that comes twice stops what it gave.
    let (mut foreign, tokens) = link(&hub);
    assert_eq!(foreign.ask("reuse", "refused"), json!("invalid_grant"));
    assert!(!opens(&hub, &tokens["access_token"]));
    drop(foreign);

    // Revoked by the partner, the link ends.
    let (mut foreign, tokens) = link(&hub);
    let before = hub.cli_json(&["links"]).as_array().unwrap().len();
    assert_eq!(foreign.ask(&format!("revoke {}", text(&tokens["refresh_token"])), "revoked"), Value::Null);
    assert!(!opens(&hub, &tokens["access_token"]));
    assert_eq!(hub.cli_json(&["links"]).as_array().unwrap().len(), before - 1);
}

#[test]
fn pythons_authlib_links_refreshes_revokes_and_is_robbed() {
    let python = peer("VESTIBULE_PYTHON", &["target/peers/python/bin/python"]);
    links_refreshes_revokes_and_is_robbed(|issuer, id, secret| {
        let mut command = Command::new(&python);
        command.arg(script("authlib_client.py")).args([issuer, id, secret, REDIRECT]);
        Foreign::start(command)
    });
}

#[test]
fn npms_oauth4webapi_links_refreshes_revokes_and_is_robbed() {
    let node = peer("VESTIBULE_NODE", &["/usr/bin/node"]);
    let library = peer("VESTIBULE_OAUTH4WEBAPI", &["target/peers/node/node_modules/oauth4webapi/build/index.js"]);
    links_refreshes_revokes_and_is_robbed(|issuer, id, secret| {
        let mut command = Command::new(&node);
        command.arg(script("oauth4webapi.mjs")).arg(&library).args([issuer, id, secret, REDIRECT]);
        Foreign::start(command)
    });
}

/// Runs the relay's handler once, as Lambda would. Gives its answer, or what it threw; and what it logged.
pub fn relay(
    url: &str,
    authority: Option<&Path>,
    loopback: bool,
    directive: &Value,
) -> (Result<Value, String>, String) {
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("../deploy/alexa-lambda/index.mjs");
    let code = "const { handler } = await import(process.argv[1]);\
                let text = ''; for await (const part of process.stdin) text += part;\
                try { console.log('answer ' + JSON.stringify(await handler(JSON.parse(text)))); }\
                catch (error) { console.log('threw ' + error.message); }";
    let mut command = Command::new(peer("VESTIBULE_NODE", &["/usr/bin/node"]));
    command.args(["--input-type=module", "-e", code]).arg(file.canonicalize().unwrap());
    command.env("VESTIBULE_URL", url).env_remove("VESTIBULE_TEST_LOOPBACK");
    if let Some(file) = authority {
        command.env("NODE_EXTRA_CA_CERTS", file);
    }
    if loopback {
        command.env("VESTIBULE_TEST_LOOPBACK", "1");
    }
    let mut child =
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("node runs");
    child.stdin.take().unwrap().write_all(directive.to_string().as_bytes()).unwrap();
    let out = child.wait_with_output().unwrap();
    let (said, logged) = (String::from_utf8(out.stdout).unwrap(), String::from_utf8(out.stderr).unwrap());
    let answer = match said.trim().split_once(' ') {
        Some(("answer", json)) => Ok(serde_json::from_str(json).unwrap()),
        Some((_, text)) => Err(text.to_owned()),
        None => panic!("{logged}"),
    };
    (answer, logged)
}

#[test]
fn the_relay_hands_directives_on_and_logs_no_content() {
    let mosquitto = Mosquitto::start();
    let dir = tempfile::tempdir().unwrap();
    let hub = Hub::start(&dir.path().join("data"), &mosquitto.url());
    crate::linking::thermostat(mosquitto.port);
    hub.wait_until(&["devices"], |d| d.to_string().contains("21.4 °C"));
    let token = hub.cli(&["link", "alexa", "--profile", "everything", "--print-token"]).trim().to_owned();
    let ask = |name: &str, endpoint: &str, token: &str| {
        let namespace = if name == "Discover" { "Alexa.Discovery" } else { "Alexa" };
        testkit::directive(namespace, name, endpoint, token, json!({}))
    };
    let type_of = |answer: &Result<Value, String>| {
        answer.as_ref().unwrap()["event"]["payload"]["type"].as_str().unwrap_or_default().to_owned()
    };
    let (found, logged) = relay(&hub.partners, None, true, &ask("Discover", "", &token));
    let found = found.unwrap();
    assert_eq!(found["event"]["payload"]["endpoints"].as_array().unwrap().len(), 1);
    let endpoint = found["event"]["payload"]["endpoints"][0]["endpointId"].as_str().unwrap();
    let (state, also_logged) = relay(&format!("{}/", hub.partners), None, true, &ask("ReportState", endpoint, &token));
    assert!(state.unwrap().to_string().contains("21.4"));
    assert_eq!(logged + &also_logged, "", "nothing is logged when all goes well");
    // A wrong token is refused by the hub, in its own words.
    let (refused, _) = relay(&hub.partners, None, true, &ask("ReportState", endpoint, "vst_wrong"));
    assert_eq!(type_of(&refused), "INVALID_AUTHORIZATION_CREDENTIAL");
    // Tokens go over HTTPS: plain HTTP is refused, to a loopback address too unless a test says so.
    for (url, loopback) in
        [(hub.partners.as_str(), false), ("http://192.0.2.1", true), ("", true), ("https://u:p@h.example", true)]
    {
        let (answer, _) = relay(url, None, loopback, &ask("ReportState", endpoint, &token));
        assert!(answer.unwrap_err().contains("VESTIBULE_URL"), "{url}");
    }
    // A hub that is down: a well-formed error, no content in the log, and no empty home.
    let down = "http://127.0.0.1:9";
    let (answer, logged) = relay(down, None, true, &ask("ReportState", endpoint, &token));
    let answer = answer.unwrap();
    assert_eq!(answer["event"]["payload"]["type"], "BRIDGE_UNREACHABLE");
    assert!(answer["event"]["header"]["correlationToken"].is_string());
    assert!(!logged.contains(&token) && !logged.contains(endpoint), "{logged}");
    assert_eq!(relay(down, None, true, &ask("Discover", "", &token)).0.unwrap_err(), "the hub did not answer");
    let grant = testkit::directive("Alexa.Authorization", "AcceptGrant", "", &token, json!({}));
    assert_eq!(type_of(&relay(down, None, true, &grant).0), "ACCEPT_GRANT_FAILED");
    // Linking works when Alexa asks for proactive events, too, and the grant is taken through the relay.
    let (accepted, _) = relay(&hub.partners, None, true, &grant);
    assert_eq!(accepted.unwrap()["event"]["header"]["name"], "AcceptGrant.Response");
    // What is no event is not handed on: here the answer to a path that is not there.
    let (answer, _) = relay(&format!("{}/elsewhere", hub.partners), None, true, &ask("ReportState", endpoint, &token));
    assert_eq!(type_of(&answer), "BRIDGE_UNREACHABLE");
}
