//! `docs/alexa.md`, followed to the letter by somebody who has nothing: each of its commands is run in its order, and
//! what Amazon and the person do in between is played. The public address is a TLS proxy of the test's own.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::sync::{Arc, Mutex};

use serde_json::{Value, json};
use tokio::net::{TcpListener, TcpStream};

use crate::foreign::relay;
use crate::harness::{Hub, Mosquitto, program};
use crate::linking::thermostat;
use crate::member::{Browser, CHALLENGE, Client, PASSWORD, VERIFIER, encode, hidden, post_form};

/// A proxy that gives a hub HTTPS on a free port, as Caddy would.
struct Front {
    port: u16,
    /// The authority that signed its certificate, as a file.
    authority: PathBuf,
    upstream: Arc<Mutex<Option<SocketAddr>>>,
    _runtime: tokio::runtime::Runtime,
}

impl Front {
    fn start(dir: &Path, name: &str, days: i64) -> Self {
        let (authority, chain, key) = certificates(name, days);
        let file = dir.join(format!("authority-{days}.pem"));
        std::fs::write(&file, authority).unwrap();
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let config = rustls::ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(chain, key)
            .unwrap();
        let acceptor = tokio_rustls::TlsAcceptor::from(Arc::new(config));
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
        let listener = runtime.block_on(TcpListener::bind("127.0.0.1:0")).unwrap();
        let port = listener.local_addr().unwrap().port();
        let upstream: Arc<Mutex<Option<SocketAddr>>> = Arc::default();
        let to = Arc::clone(&upstream);
        runtime.spawn(async move {
            loop {
                let Ok((stream, _)) = listener.accept().await else { continue };
                let (acceptor, to) = (acceptor.clone(), *to.lock().unwrap());
                tokio::spawn(async move {
                    let (Ok(mut outside), Some(to)) = (acceptor.accept(stream).await, to) else { return };
                    let Ok(mut inside) = TcpStream::connect(to).await else { return };
                    let _ = tokio::io::copy_bidirectional(&mut outside, &mut inside).await;
                });
            }
        });
        Self { port, authority: file, upstream, _runtime: runtime }
    }

    fn leads_to(&self, hub: &Hub) {
        let address = hub.partners.strip_prefix("http://").unwrap().parse().unwrap();
        *self.upstream.lock().unwrap() = Some(address);
    }

    fn url(&self) -> String {
        format!("https://localhost:{}", self.port)
    }
}

type Key = rustls::pki_types::PrivateKeyDer<'static>;

/// An authority as PEM, and a certificate of it for `name` that ends in so many days.
fn certificates(name: &str, days: i64) -> (String, Vec<rustls::pki_types::CertificateDer<'static>>, Key) {
    let key = rcgen::KeyPair::generate().unwrap();
    let mut authority = rcgen::CertificateParams::new(Vec::new()).unwrap();
    authority.distinguished_name.push(rcgen::DnType::CommonName, "the test's authority");
    authority.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
    let root = authority.self_signed(&key).unwrap();
    let issuer = rcgen::Issuer::new(authority, key);
    let own = rcgen::KeyPair::generate().unwrap();
    let mut params = rcgen::CertificateParams::new(vec![name.to_owned()]).unwrap();
    params.distinguished_name.push(rcgen::DnType::CommonName, name);
    // Calendar arithmetic is `date`'s: rcgen takes a day.
    let end = Command::new("date").args(["-u", "-d", &format!("{days} days"), "+%Y %m %d"]).output().unwrap();
    let end: Vec<i32> = String::from_utf8(end.stdout).unwrap().split_whitespace().map(|n| n.parse().unwrap()).collect();
    params.not_after = rcgen::date_time_ymd(end[0], u8::try_from(end[1]).unwrap(), u8::try_from(end[2]).unwrap());
    let leaf = params.signed_by(&own, &issuer).unwrap();
    (root.pem(), vec![leaf.der().clone()], Key::Pkcs8(own.serialize_der().into()))
}

/// The fenced blocks of one language in a document.
fn blocks<'a>(text: &'a str, language: &'a str) -> impl Iterator<Item = &'a str> {
    let fence = format!("```{language}\n");
    let parts: Vec<&str> = text.split(fence.as_str()).skip(1).filter_map(|rest| rest.split("```").next()).collect();
    parts.into_iter()
}

fn run(line: &str, stdin: &str, authority: &Path) -> Output {
    use std::io::Write as _;
    let mut command = program();
    command.args(line.split(' ').skip(1)).env("SSL_CERT_FILE", authority);
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().unwrap();
    let mut input = child.stdin.take().unwrap();
    // Who reads no standard input has closed it.
    let _ = input.write_all(stdin.as_bytes());
    drop(input);
    child.wait_with_output().unwrap()
}

/// The verdicts of `doctor`: each check by name, the worst of several.
fn verdicts(out: &Output) -> (i32, Vec<(String, String)>) {
    let text = String::from_utf8(out.stdout.clone()).unwrap();
    let line = |l: &str| {
        let mut words = l.split_whitespace();
        (words.next().unwrap().to_owned(), words.next().unwrap().to_owned())
    };
    (out.status.code().unwrap(), text.lines().map(line).collect())
}

fn failed(verdicts: &[(String, String)]) -> Vec<&str> {
    verdicts.iter().filter(|(word, _)| word == "FAIL").map(|(_, check)| check.as_str()).collect()
}

#[test]
fn a_new_user_follows_the_guide_to_a_linked_skill() {
    let guide = std::fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/alexa.md")).unwrap();
    let dir = tempfile::tempdir().unwrap();
    let mosquitto = Mosquitto::start();
    thermostat(mosquitto.port);
    let front = Front::start(dir.path(), "localhost", 90);
    let data = dir.path().join("data");
    let here = |text: &str| {
        let text = text.replace("https://home.example.org", &front.url());
        let text = text.replace("vestibule.toml", &dir.path().join("vestibule.toml").display().to_string());
        text.replace("./data", &data.display().to_string())
    };
    // What the guide says goes into the configuration, goes into it.
    let config = here(blocks(&guide, "toml").next().unwrap());
    std::fs::write(dir.path().join("vestibule.toml"), config).unwrap();
    let lines: Vec<String> =
        blocks(&guide, "sh").flat_map(str::lines).filter(|l| l.starts_with("vestibule ")).map(here).collect();

    let mut hub: Option<Hub> = None;
    let mut client: Option<Client> = None;
    let mut redirect = String::new();
    let (mut doctors, mut done) = (0, Vec::new());
    for line in &lines {
        let words: Vec<&str> = line.split(' ').collect();
        done.push(words[1..3.min(words.len())].join(" "));
        if words[1] == "serve" {
            let mut command = program();
            command.args(&words[1..]).env("VESTIBULE__MQTT__URL", mosquitto.url());
            let started = Hub::spawn(command, &data);
            front.leads_to(&started);
            started.wait_until(&["devices"], |d| d.to_string().contains("21.4 °C"));
            hub = Some(started);
            continue;
        }
        // Everything else is said in a second terminal.
        let out = run(line, &format!("{PASSWORD}\n"), &front.authority);
        let said = String::from_utf8(out.stdout.clone()).unwrap();
        if words[1] == "doctor" {
            doctors += 1;
            let (code, verdicts) = verdicts(&out);
            let expected: &[&str] = if doctors == 1 { &["members", "clients"] } else { &[] };
            assert_eq!(failed(&verdicts), expected, "{said}");
            assert_eq!(code, i32::from(!expected.is_empty()));
            for check in ["hub", "certificate", "clock", "reachable", "linking"] {
                assert!(verdicts.contains(&("ok".into(), check.into())), "{check}: {said}");
            }
            assert!(said.contains("told nothing unasked"), "{said}");
            // The check leaves nothing behind but its record.
            let hub = hub.as_ref().unwrap();
            assert_eq!(hub.cli_json(&["links"]), json!([]));
            if let Some(client) = &client {
                link(hub, &front, client, &redirect);
            }
            continue;
        }
        assert!(out.status.success(), "{line}: {}", String::from_utf8_lossy(&out.stderr));
        match (words[1], words[2]) {
            ("devices", _) => assert!(said.contains("21.4 °C"), "{said}"),
            ("client", "add") => {
                let value = |name: &str| {
                    let line = said.lines().find(|l| l.starts_with(name)).unwrap();
                    line.split_whitespace()
                        .find(|w| w.contains(['-', '_', '/']) && !w.ends_with(':'))
                        .unwrap()
                        .to_owned()
                };
                redirect = words.iter().find(|w| w.starts_with("https://")).unwrap().to_string();
                // What the guide has one type into Amazon's console is what the hub says.
                assert_eq!(value("authorization URI"), here("https://home.example.org/oauth/authorize"));
                assert_eq!(value("access token URI"), here("https://home.example.org/oauth/token"));
                assert!(guide.contains("`https://home.example.org/oauth/authorize`"));
                assert!(guide.contains("`https://home.example.org/oauth/token`"));
                client = Some(Client { id: value("client id"), secret: value("client secret") });
            }
            ("links", _) => {
                assert!(said.contains("commands-only"), "{said}");
            }
            ("ledger", "list") => {
                for message in ["OAuth.Tokens", "Alexa.Discovery.Discover.Response"] {
                    assert!(guide.contains(message) && said.contains(message), "{message}: {said}");
                }
            }
            _ => {}
        }
    }
    assert_eq!(doctors, 2, "the guide checks twice: {done:?}");
}

/// Step 7: the person enables the skill, logs in, chooses nothing, links; Alexa fetches tokens and discovers through the
/// relay, over HTTPS.
fn link(hub: &Hub, front: &Front, client: &Client, redirect: &str) {
    let query = encode(&[
        ("response_type", "code"),
        ("client_id", &client.id),
        ("redirect_uri", redirect),
        ("scope", "smart_home"),
        ("state", "amazon's"),
        ("code_challenge", CHALLENGE),
        ("code_challenge_method", "S256"),
    ]);
    let mut browser = Browser::default();
    let answer = browser.log_in(&format!("{}/oauth/authorize?{query}", hub.partners), "alice", PASSWORD);
    assert_eq!(answer.status, 303, "{answer:?}");
    let page = browser.send("GET", &format!("{}/oauth/consent", hub.partners), &[]);
    let fields =
        [("csrf", hidden(&page.body, "csrf")), ("shown", hidden(&page.body, "shown")), ("decision", "link".to_owned())];
    let fields: Vec<(&str, &str)> = fields.iter().map(|(n, v)| (*n, v.as_str())).collect();
    let answer = browser.send("POST", &format!("{}/oauth/decision", hub.partners), &fields);
    assert!(answer.header("location").unwrap().starts_with(&format!("{redirect}?code=")), "{answer:?}");
    assert_eq!(answer.parameter("iss").as_deref(), Some(front.url().as_str()));
    let code = answer.parameter("code").unwrap();
    let tokens = post_form(
        &format!("{}/oauth/token", hub.partners),
        &[
            ("grant_type", "authorization_code"),
            ("code", &code),
            ("redirect_uri", redirect),
            ("code_verifier", VERIFIER),
            ("client_id", &client.id),
            ("client_secret", &client.secret),
        ],
    );
    assert_eq!(tokens.status, 200, "{tokens:?}");
    let token = tokens.json()["access_token"].as_str().unwrap().to_owned();
    let directive = testkit::directive("Alexa.Discovery", "Discover", "", &token, json!({}));
    let (found, logged) = relay(&front.url(), Some(&front.authority), false, &directive);
    let found: Value = found.unwrap_or_else(|e| panic!("{e}: {logged}"));
    assert_eq!(found["event"]["payload"]["endpoints"].as_array().map(Vec::len), Some(1), "{found}");
}

#[test]
fn the_doctor_finds_what_is_wrong_and_says_what_to_do() {
    let dir = tempfile::tempdir().unwrap();
    let mosquitto = Mosquitto::start();
    let doctor = |data: &Path, authority: &Path| {
        let out = run(&format!("vestibule doctor alexa --data {}", data.display()), "", authority);
        let (code, verdicts) = verdicts(&out);
        (code, failed(&verdicts).join(" "), String::from_utf8(out.stdout).unwrap())
    };
    let start = |name: &str, front: &Front| {
        let mut command = program();
        let data = dir.path().join(name);
        command.args(["serve", "--data"]).arg(&data).env("VESTIBULE__MQTT__URL", mosquitto.url());
        command.env("VESTIBULE__PARTNERS__PUBLIC_URL", front.url());
        let hub = Hub::spawn(command, &data);
        // A broker may be heard a moment after everything else is up.
        hub.wait_until(&["links"], |_| crate::harness::get(&format!("{}/healthz", hub.console)).0 == 200);
        (hub, data)
    };
    let good = Front::start(dir.path(), "localhost", 90);
    let (code, wrong, said) = doctor(&dir.path().join("nothing"), &good.authority);
    assert_eq!((code, wrong.as_str()), (1, "hub"), "{said}");
    let (hub, data) = start("one", &good);
    // Nothing behind the proxy; another hub behind it; a certificate that is not trusted, for another name, or near its end.
    let (code, wrong, said) = doctor(&data, &good.authority);
    assert_eq!((code, wrong.as_str()), (1, "reachable members clients"), "{said}");
    let (other, _) = start("two", &Front::start(dir.path(), "localhost", 91));
    good.leads_to(&other);
    let (_, wrong, said) = doctor(&data, &good.authority);
    assert!(wrong.contains("reachable") && said.contains("calls itself"), "{said}");
    good.leads_to(&hub);
    let stranger = Front::start(dir.path(), "localhost", 92);
    let (_, wrong, said) = doctor(&data, &stranger.authority);
    assert!(wrong.contains("certificate") && !said.contains("reachable"), "{said}");
    for (name, days, text) in
        [("elsewhere.example", 93, "not good for this name"), ("localhost", 10, "ends within two weeks")]
    {
        let front = Front::start(dir.path(), name, days);
        let (hub, data) = start(&format!("hub-{days}"), &front);
        front.leads_to(&hub);
        let (code, wrong, said) = doctor(&data, &front.authority);
        assert!(code == 1 && wrong.contains("certificate") && said.contains(text), "{said}");
    }
    // A broker that is gone is told, too.
    drop(mosquitto);
    hub.wait_until(&["links"], |_| crate::harness::get(&format!("{}/healthz", hub.console)).0 == 503);
    let (_, wrong, said) = doctor(&data, &good.authority);
    assert!(wrong.starts_with("hub") && said.contains("down: devices"), "{said}");
}
