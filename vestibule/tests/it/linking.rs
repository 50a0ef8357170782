//! A member links a partner by OAuth: the pages, the tokens, what goes wrong, and the record of it.

use serde_json::{Value, json};
use testkit::PretendAlexa;

use crate::harness::{Hub, Mosquitto, get, publish, run, sha256};
use crate::member::{
    Answer, Browser, CHALLENGE, Client, PASSWORD, REDIRECT, VERIFIER, add_client, add_member, encode, hidden,
    post_form, send, try_send,
};

struct Story {
    hub: Hub,
    mosquitto: Mosquitto,
    dir: tempfile::TempDir,
}

/// A thermostat, as its bridge announces it.
pub fn thermostat(port: u16) {
    publish(
        port,
        "homeassistant/climate/t/config",
        r#"{"name":"Bedroom of Alice","uniq_id":"t","dev":{"ids":["t"],"name":"Bedroom of Alice","mf":"Maker of Secrets"},
           "modes":["off","heat"],"mode_stat_t":"t/mode","mode_cmd_t":"t/mode/set","temp_stat_t":"t/sp",
           "temp_cmd_t":"t/sp/set","curr_temp_t":"t/temp"}"#,
    );
    publish(port, "t/temp", "21.37");
    publish(port, "t/sp", "20");
    publish(port, "t/mode", "heat");
}

fn begin() -> Story {
    let mosquitto = Mosquitto::start();
    thermostat(mosquitto.port);
    let dir = tempfile::tempdir().unwrap();
    let hub = Hub::start(&dir.path().join("data"), &mosquitto.url());
    hub.wait_until(&["devices"], |d| d.to_string().contains("21.4 °C") && d.to_string().contains("\"20 °C\""));
    add_member(&hub, "alice");
    Story { hub, mosquitto, dir }
}

impl Story {
    /// Killed without warning, and started again.
    fn kill_and_restart(&mut self) {
        self.hub.process.signal("KILL");
        let _ = self.hub.process.child.wait();
        self.restart();
    }

    /// Sends one request to the token endpoint and kills the hub so many milliseconds later. Gives the answer if it came.
    fn ask_and_kill(&mut self, client: &Client, fields: &[(&str, &str)], after_ms: f64) -> Option<Answer> {
        let mut all = vec![("client_id", client.id.as_str()), ("client_secret", client.secret.as_str())];
        all.extend(fields);
        let (url, body) = (format!("{}/oauth/token", self.hub.partners), encode(&all));
        let asked = std::thread::spawn(move || {
            try_send("POST", &url, &[("Content-Type", "application/x-www-form-urlencoded")], &body)
        });
        std::thread::sleep(std::time::Duration::from_secs_f64(after_ms / 1000.0));
        self.kill_and_restart();
        asked.join().unwrap().ok().filter(|a| a.status == 200)
    }

    /// Ends the only link.
    fn unlink(&self) {
        let link = self.hub.cli_json(&["links"])[0]["id"].as_str().unwrap().to_owned();
        self.hub.cli(&["unlink", &link]);
    }

    fn restart(&mut self) {
        self.hub = Hub::start(&self.dir.path().join("data"), &self.mosquitto.url());
    }
}

fn tokens(answer: &Answer) -> (String, String) {
    assert_eq!(answer.status, 200, "{answer:?}");
    let json = answer.json();
    (json["access_token"].as_str().unwrap().to_owned(), json["refresh_token"].as_str().unwrap().to_owned())
}

fn error(answer: &Answer) -> (u16, String) {
    (answer.status, answer.json()["error"].as_str().unwrap_or_default().to_owned())
}

fn discover(hub: &Hub, token: &str) -> (Value, String) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let exchange = runtime.block_on(PretendAlexa::new(&hub.partners, token).discover()).unwrap();
    (exchange.json["event"]["payload"]["endpoints"].clone(), sha256(&exchange.body))
}

fn invalid_grant() -> (u16, String) {
    (400, "invalid_grant".to_owned())
}

#[test]
fn a_member_links_a_partner_that_learns_what_was_chosen_and_all_is_on_record() {
    let story = begin();
    let (hub, client) = (&story.hub, add_client(&story.hub, &[]));
    let mut browser = Browser::default();
    // Before the login: nothing of the home, nothing that the partner wrote but in the form's own address.
    let url = client.authorize_url(hub, "<script>alert(1)</script>");
    let login = browser.send("GET", &url, &[]);
    for secret in ["Bedroom", "Alice", "alice", "Thermostat", "21.37", "<script", "Glance"] {
        assert!(!login.body.contains(secret), "{secret}: {}", login.body);
    }
    let policy = login.header("content-security-policy").unwrap();
    for rule in ["default-src 'none'", "frame-ancestors 'none'", "form-action 'self'", "base-uri 'none'"] {
        assert!(policy.contains(rule), "{policy}");
    }
    assert_eq!(login.header("x-frame-options"), Some("DENY"));
    assert_eq!(login.header("cache-control"), Some("no-store"));
    let cookie = login.header("set-cookie").unwrap();
    for part in ["__Host-", "Secure", "HttpOnly", "SameSite=Strict", "Path=/;"] {
        assert!(cookie.contains(part), "{cookie}");
    }
    // After it: each device in plain words, each profile with what it costs, none chosen.
    let answer = browser.log_in(&url, "alice", PASSWORD);
    assert_eq!((answer.status, answer.header("location")), (303, Some("/oauth/consent")));
    let page = browser.send("GET", &format!("{}/oauth/consent", hub.partners), &[]);
    for text in [
        "Bedroom of Alice",
        "<b>room temperature</b>: when it asks: rounded, held for an hour",
        "<b>room temperature</b>: after its own commands: exact, at once; when it asks: exact, at once",
        "<b>heating set point</b>: when it asks: rounded, held for a quarter of a day",
        "Alexa calls it \u{201c}Thermostat and a number\u{201d}",
        "Alexa may command: heating set point",
        "nothing of it is told",
        "value=\"commands-only\"",
        "value=\"glance\"",
        "value=\"everything\"",
        "Without a choice it is Commands only",
        "Alexa&#39;s energy dashboard",
        "https://partner.example",
    ] {
        let told_nothing = text == "nothing of it is told";
        assert!(page.body.contains(text) || told_nothing, "{text}: {}", page.body);
    }
    assert!(!page.body.contains("checked") && !page.body.contains("<script"), "{}", page.body);
    let (csrf, shown) = (hidden(&page.body, "csrf"), hidden(&page.body, "shown"));
    let decision = format!("{}/oauth/decision", hub.partners);
    let fields = [("csrf", csrf.as_str()), ("shown", &shown), ("profile", "glance"), ("decision", "link")];
    let answer = browser.send("POST", &decision, &fields);
    assert_eq!(answer.status, 303);
    assert!(answer.header("location").unwrap().starts_with(&format!("{REDIRECT}?code=vsc_")), "{answer:?}");
    assert_eq!(answer.parameter("state").as_deref(), Some("<script>alert(1)</script>"));
    assert_eq!(answer.parameter("iss").as_deref(), Some(hub.partners.as_str()));
    // The choice counts once.
    assert_eq!(browser.send("POST", &decision, &fields).status, 403);
    // Agreed, and waiting for the partner.
    let links = hub.cli_json(&["links"]);
    assert!(links[0]["notice"].as_str().unwrap().contains("not fetched") && links[0]["member"].is_null(), "{links}");

    let (access, refresh) = tokens(&client.exchange(hub, &answer.parameter("code").unwrap()));
    let links = hub.cli_json(&["links"]);
    assert_eq!((links[0]["profile"].as_str(), links[0]["member"].as_str()), (Some("glance"), Some("alice")));
    let (endpoints, hash) = discover(hub, &access);
    assert_eq!(endpoints.as_array().unwrap().len(), 1);
    assert!(!endpoints.to_string().contains("Alice"), "{endpoints}");
    let (newer, newest) = tokens(&client.refresh(hub, &refresh));
    discover(hub, &newer);

    // Everything that left is on record by its hash, and no secret is.
    let rows = hub.ledger();
    let message = |name: &str| rows.iter().filter(|r| r["message"] == name).count();
    assert_eq!((message("OAuth.Tokens"), message("Alexa.Discovery.Discover.Response")), (2, 2));
    assert!(rows.iter().any(|r| r["body_sha256"] == hash));
    let created = rows.iter().position(|r| r["type"] == "link").unwrap();
    let given = rows.iter().position(|r| r["message"] == "OAuth.Tokens").unwrap();
    assert!(created < given, "the link is on record before its tokens leave");
    let policy = rows.iter().find(|r| r["type"] == "policy" && r["link"] == links[0]["id"]).unwrap();
    assert!(policy["summary"].as_str().unwrap().contains("alice") || policy.to_string().contains("glance"), "{policy}");
    let shown = hub.cli(&["ledger", "show", &given.to_string()]);
    assert!(shown.contains("(redacted)"), "{shown}");
    assert_eq!(hub.cli_json(&["ledger", "verify"])["ok"], true);
    let kept: String = rows
        .iter()
        .filter(|r| r["type"] == "intent" || r["type"] == "command")
        .map(|r| hub.cli(&["ledger", "show", &r["index"].to_string()]))
        .collect();
    let files: Vec<u8> = ["vestibule.db", "vestibule.db-wal", "history.db"]
        .iter()
        .flat_map(|f| std::fs::read(hub.data.join(f)).unwrap_or_default())
        .collect();
    let code = answer.parameter("code").unwrap();
    for secret in [&access, &refresh, &newer, &newest, &code, &client.secret, &PASSWORD.to_owned()] {
        let found = files.windows(secret.len()).any(|w| w == secret.as_bytes());
        assert!(!found && !kept.contains(secret.as_str()), "{secret} is in the files");
    }
}

#[test]
fn strangers_wrong_forms_and_wrong_passwords_get_nowhere() {
    let story = begin();
    let (hub, client) = (&story.hub, add_client(&story.hub, &[]));
    let good = client.authorize_url(hub, "s");
    // A browser is sent nowhere that was not registered.
    for bad in [
        good.replace("M1", "M2"),
        good.replace(&client.id, "alexa-0"),
        format!("{good}&state=t"),
        good.replace("redirect", "x"),
    ] {
        let answer = send("GET", &bad, &[], "");
        assert_eq!((answer.status, answer.header("location")), (400, None), "{bad}");
        assert!(answer.body.contains("Nothing was linked"));
    }
    // Elsewhere an error goes back, with the state.
    let answer = send("GET", &good.replace("S256", "plain"), &[], "");
    let told = |name: &str| answer.parameter(name).unwrap();
    assert_eq!((answer.status, told("error"), told("state")), (303, "invalid_request".into(), "s".into()));
    // The way in has no way round.
    let consent = format!("{}/oauth/consent", hub.partners);
    assert_eq!(send("GET", &consent, &[], "").status, 403);
    assert_eq!(send("GET", &consent, &[("Cookie", "__Host-vestibule-link=0")], "").status, 403);
    let decision = format!("{}/oauth/decision", hub.partners);
    assert_eq!(post_form(&decision, &[("decision", "link"), ("profile", "everything")]).status, 403);
    // A form from elsewhere: without the cookie, with another's token, or marked by the browser as cross-site.
    let mut browser = Browser::default();
    let csrf = hidden(&browser.send("GET", &good, &[]).body, "csrf");
    let fields = [("csrf", csrf.as_str()), ("member", "alice"), ("password", PASSWORD)];
    assert_eq!(post_form(&good, &fields).status, 403);
    assert_eq!(browser.send("POST", &good, &[("csrf", "x"), ("member", "alice"), ("password", PASSWORD)]).status, 403);
    let csrf = hidden(&browser.send("GET", &good, &[]).body, "csrf");
    let cookie = format!("__Host-vestibule-login={csrf}");
    let fields = encode(&[("csrf", &csrf), ("member", "alice"), ("password", PASSWORD)]);
    let form = ("Content-Type", "application/x-www-form-urlencoded");
    let headers = [("Cookie", cookie.as_str()), form, ("Sec-Fetch-Site", "cross-site")];
    assert_eq!(send("POST", &good, &headers, &fields).status, 403);
    let headers = [("Cookie", cookie.as_str()), form, ("Sec-Fetch-Site", "same-origin")];
    assert_eq!(send("POST", &good, &headers, &fields).status, 303);
    // A logged-in member's decision needs the page's own token; and Cancel is told to the partner.
    let mut browser = Browser::default();
    assert_eq!(browser.log_in(&good, "alice", PASSWORD).status, 303);
    assert_eq!(browser.send("POST", &decision, &[("csrf", "x"), ("decision", "link")]).status, 403);
    let csrf = hidden(&browser.send("GET", &consent, &[]).body, "csrf");
    let answer = browser.send("POST", &decision, &[("csrf", &csrf), ("decision", "cancel")]);
    assert_eq!(answer.parameter("error").as_deref(), Some("access_denied"));
    assert_eq!(hub.cli_json(&["links"]), json!([]));
    // Passwords: wrong ones and unknown names are told apart by nothing, and run out.
    let mut bodies = Vec::new();
    for (name, password) in [("alice", "not her password!"), ("nobody", PASSWORD), ("a b", PASSWORD)] {
        let answer = Browser::default().log_in(&good, name, password);
        assert_eq!(answer.status, 403);
        bodies.push(answer.body.replace(&hidden(&answer.body, "csrf"), ""));
    }
    assert!(bodies.iter().all(|b| *b == bodies[0]));
    let mut statuses: Vec<u16> =
        (0..6).map(|_| Browser::default().log_in(&good, "alice", "wrong wrong wrong").status).collect();
    assert_eq!(statuses.pop(), Some(429), "{statuses:?}");
    let answer = Browser::default().log_in(&good, "alice", PASSWORD);
    assert_eq!(answer.status, 429, "the right password waits as well: nobody learns that it is right");
    assert!(answer.body.contains("Too many attempts"));
    // A short password is not taken, and no member is made.
    let data = hub.data.display().to_string();
    let out = run(&["member", "add", "bob", "--data", &data]);
    assert_eq!(out.status.code(), Some(1), "no password on standard input");
    assert_eq!(hub.cli_json(&["member", "list"]).as_array().unwrap().len(), 1);
    for path in ["oauth/authorize", "oauth/token", ".well-known/oauth-authorization-server"] {
        assert_eq!(get(&format!("{}/{path}", hub.console)).0, 404, "{path} is not the household's");
    }
}

#[test]
fn a_member_names_on_the_page_the_sensors_that_may_start_routines() {
    let story = begin();
    let (hub, client) = (&story.hub, add_client(&story.hub, &[]));
    for (id, name) in [("door1", "Front door <b>"), ("door2", "Cellar")] {
        let config = json!({
            "name": name, "uniq_id": id, "stat_t": format!("{id}/state"), "dev_cla": "door",
            "dev": {"ids": [id], "name": name},
        });
        publish(story.mosquitto.port, &format!("homeassistant/binary_sensor/{id}/config"), &config.to_string());
        publish(story.mosquitto.port, &format!("{id}/state"), "OFF");
    }
    hub.wait_until(&["devices"], |d| d.to_string().matches("contact_open").count() == 2);
    let mut browser = Browser::default();
    browser.log_in(&client.authorize_url(hub, "s"), "alice", PASSWORD);
    let page = browser.send("GET", &format!("{}/oauth/consent", hub.partners), &[]).body;
    for (id, name) in [("door1", "Front door &lt;b&gt;"), ("door2", "Cellar")] {
        let field = format!("<input type=\"checkbox\" name=\"sensor\" value=\"{id}\"> {name}");
        assert_eq!(page.matches(&field).count(), 1, "{field}: {page}");
    }
    let (csrf, shown) = (hidden(&page, "csrf"), hidden(&page, "shown"));
    let choice = [("profile", "routines"), ("sensor", "door2"), ("decision", "link")];
    let fields = [&[("csrf", csrf.as_str()), ("shown", &shown)], &choice[..]].concat();
    let answer = browser.send("POST", &format!("{}/oauth/decision", hub.partners), &fields);
    tokens(&client.exchange(hub, &answer.parameter("code").unwrap()));
    let shown = hub.cli_json(&["policy", "show"]);
    let rows = shown["rows"].as_array().unwrap().iter().filter(|r| r["proactive_report"] == "live");
    let told: Vec<_> = rows.map(|r| (r["device"].as_str().unwrap(), r["property"].as_str().unwrap())).collect();
    assert_eq!(told, [("door2", "contact_open")]);
}

#[test]
fn every_wrong_use_of_a_code_has_its_error_and_a_second_use_stops_what_the_first_gave() {
    let story = begin();
    let (hub, client) = (&story.hub, add_client(&story.hub, &[]));
    let other = add_client(hub, &["--pkce", "if-sent"]);
    let code = Browser::default().link(hub, &client, "commands-only", "");
    let ask = |client: &Client, fields: [(&str, &str); 4]| {
        let fields: Vec<_> = fields.into_iter().filter(|(_, v)| !v.is_empty()).collect();
        error(&client.token(hub, &fields))
    };
    let grant = ("grant_type", "authorization_code");
    let (redirect, verifier) = (("redirect_uri", REDIRECT), ("code_verifier", VERIFIER));
    let right = ("code", code.as_str());
    assert_eq!(ask(&other, [grant, right, redirect, verifier]), invalid_grant(), "another client's");
    assert_eq!(ask(&client, [grant, ("code", "vsc_x"), redirect, verifier]), invalid_grant());
    assert_eq!(
        ask(&client, [grant, right, ("redirect_uri", "https://partner.example/link/M2"), verifier]),
        invalid_grant()
    );
    assert_eq!(ask(&client, [grant, right, redirect, ("code_verifier", "")]), invalid_grant(), "PKCE is missing");
    assert_eq!(ask(&client, [grant, right, redirect, ("code_verifier", CHALLENGE)]), invalid_grant());
    assert_eq!(ask(&client, [grant, ("code", ""), redirect, verifier]), (400, "invalid_request".into()));
    assert_eq!(
        ask(&client, [("grant_type", "password"), right, redirect, verifier]),
        (400, "unsupported_grant_type".into())
    );
    let wrong = Client { secret: "vss_wrong".into(), ..client.clone() };
    assert_eq!(error(&wrong.exchange(hub, &code)), (401, "invalid_client".into()));
    let none = Client { secret: String::new(), ..client.clone() };
    assert_eq!(error(&none.exchange(hub, &code)), (401, "invalid_client".into()));
    let url = format!("{}/oauth/token", hub.partners);
    let basic = [("Authorization", "Basic eDp5"), ("Content-Type", "application/x-www-form-urlencoded")];
    let answer = send("POST", &url, &basic, "grant_type=refresh_token&refresh_token=r");
    assert_eq!(answer.status, 401);
    assert!(answer.header("www-authenticate").is_some_and(|v| v.starts_with("Basic")));
    let answer = send("POST", &url, &[("Content-Type", "application/json")], "{}");
    assert_eq!(error(&answer), (400, "invalid_request".into()));
    assert_eq!(send("GET", &url, &[], "").status, 405);

    // After all of that it still works, once.
    let (access, refresh) = tokens(&client.exchange(hub, &code));
    discover(hub, &access);
    assert_eq!(error(&client.exchange(hub, &code)), invalid_grant());
    assert_eq!(discover(hub, &access).0, json!([]), "an empty list, as for any wrong token");
    assert_eq!(error(&client.refresh(hub, &refresh)), invalid_grant());
    let links = hub.cli_json(&["links"]);
    assert_eq!(links[0]["stopped"], "code_reused");
    assert!(links[0]["notice"].as_str().unwrap().contains("Link again"));
    // Linked anew, it is the same link, with the same ids, under the profile chosen now.
    let link = links[0]["id"].as_str().unwrap();
    let code = Browser::default().link(hub, &client, "glance", link);
    let (access, _) = tokens(&client.exchange(hub, &code));
    assert_eq!(discover(hub, &access).0.as_array().unwrap().len(), 1);
    let links = hub.cli_json(&["links"]);
    assert_eq!((links.as_array().unwrap().len(), links[0]["profile"].as_str()), (1, Some("glance")));
    assert_eq!((links[0]["id"].as_str(), links[0]["stopped"].is_null()), (Some(link), true));
}

#[test]
fn a_stolen_refresh_token_stops_the_link_and_a_partner_may_end_it() {
    let story = begin();
    let (hub, client) = (&story.hub, add_client(&story.hub, &[]));
    let code = Browser::default().link(hub, &client, "glance", "");
    let (_, first) = tokens(&client.exchange(hub, &code));
    let (access, second) = tokens(&client.refresh(hub, &first));
    discover(hub, &access);
    // The thief comes with the first one.
    assert_eq!(error(&client.refresh(hub, &first)), invalid_grant());
    assert_eq!(error(&client.refresh(hub, &second)), invalid_grant());
    assert_eq!(discover(hub, &access).0, json!([]));
    let links = hub.cli_json(&["links"]);
    assert_eq!(links[0]["stopped"], "refresh_reused");
    assert!(hub.ledger().iter().any(|r| r["type"] == "link" && r["summary"].to_string().contains("changed")));

    let revoke = |client: &Client, token: &str| {
        let fields = [("token", token), ("client_id", &client.id), ("client_secret", &client.secret)];
        post_form(&format!("{}/oauth/revoke", hub.partners), &fields).status
    };
    // Another client, without rotation.
    let steady = add_client(hub, &["--rotate", "false"]);
    let code = Browser::default().link(hub, &steady, "commands-only", "");
    let (access, refresh) = tokens(&steady.exchange(hub, &code));
    for _ in 0..3 {
        assert!(steady.refresh(hub, &refresh).json().get("refresh_token").is_none());
    }
    assert_eq!((revoke(&client, &refresh), revoke(&steady, "unknown")), (200, 200));
    discover(hub, &access);
    assert_eq!(revoke(&steady, &access), 200);
    assert_eq!(discover(hub, &access).0, json!([]));
    assert_eq!(steady.refresh(hub, &refresh).status, 200, "only the access token was taken back");
    assert_eq!(hub.cli_json(&["links"]).as_array().unwrap().len(), 2);
    assert_eq!(revoke(&steady, &refresh), 200);
    assert_eq!(error(&steady.refresh(hub, &refresh)), invalid_grant());
    assert_eq!(hub.cli_json(&["links"]).as_array().unwrap().len(), 1, "the link ended");
    let wrong = Client { secret: "vss_wrong".into(), ..steady.clone() };
    assert_eq!(revoke(&wrong, &refresh), 401);
    // A client that is removed takes its links along.
    hub.cli(&["client", "remove", &client.id]);
    assert_eq!(hub.cli_json(&["links"]), json!([]));
    assert_eq!(error(&client.refresh(hub, &second)), (401, "invalid_client".into()));
    assert_eq!(hub.cli_json(&["ledger", "verify"])["ok"], true);
}

/// How often the hub is killed.
const ROUNDS: u64 = 12;

#[test]
fn killed_around_the_exchange_no_code_works_twice_and_no_lost_answer_strands_the_partner() {
    let mut story = begin();
    let client = add_client(&story.hub, &[]);
    let (mut lost, mut came) = (0, 0);
    // The moment of the kill closes in on the moment of the answer, from both sides.
    let (mut exchange_ms, mut refresh_ms) = (20.0, 20.0);
    let closer = |ms: f64, came: bool| if came { ms * 0.55 } else { (ms * 1.6).min(5000.0) };
    for _ in 0..ROUNDS {
        let code = Browser::default().link(&story.hub, &client, "glance", "");
        let fields = [
            ("grant_type", "authorization_code"),
            ("code", &code),
            ("redirect_uri", REDIRECT),
            ("code_verifier", VERIFIER),
        ];
        let first = story.ask_and_kill(&client, &fields, exchange_ms);
        exchange_ms = closer(exchange_ms, first.is_some());
        // The partner that got no answer comes again; the one that got one keeps its tokens.
        let refresh = match first {
            Some(answer) => {
                came += 1;
                tokens(&answer).1
            }
            None => {
                lost += 1;
                let again = client.exchange(&story.hub, &code);
                if again.status != 200 {
                    // Stored, and the answer lost: the code is worth nothing, and the member links again.
                    assert_eq!(error(&again), invalid_grant());
                    story.unlink();
                    continue;
                }
                tokens(&again).1
            }
        };
        // A refresh whose answer may be lost. Whatever happened, the token that the partner holds is answered.
        let fields = [("grant_type", "refresh_token"), ("refresh_token", refresh.as_str())];
        let answer = story.ask_and_kill(&client, &fields, refresh_ms);
        refresh_ms = closer(refresh_ms, answer.is_some());
        let held = answer.map_or_else(|| refresh.clone(), |a| tokens(&a).1);
        let (access, newest) = tokens(&client.refresh(&story.hub, &held));
        assert_eq!(discover(&story.hub, &access).0.as_array().unwrap().len(), 1);
        // That the newest has come back survives a kill: from here on the old one is theft.
        story.kill_and_restart();
        assert_eq!(error(&client.refresh(&story.hub, &refresh)), invalid_grant());
        assert_eq!(error(&client.refresh(&story.hub, &newest)), invalid_grant());
        assert_eq!(error(&client.exchange(&story.hub, &code)), invalid_grant(), "no code works twice");
        story.unlink();
    }
    assert!(came > 0 && lost > 0, "{came} came, {lost} were lost: no round was killed at the right moment");
    assert_eq!(story.hub.cli_json(&["ledger", "verify"])["ok"], true);
    // Everything handed out has its row.
    let rows = story.hub.ledger();
    assert!(rows.iter().filter(|r| r["message"] == "OAuth.Tokens").count() >= usize::try_from(came).unwrap());
}

#[test]
fn the_path_of_home_assistants_skill_answers_alike() {
    let story = begin();
    let hub = &story.hub;
    let token = hub.cli(&["link", "alexa", "--profile", "glance", "--print-token"]).trim().to_owned();
    let directive = testkit::directive("Alexa.Discovery", "Discover", "", &token, json!({})).to_string();
    let post = |path: &str, headers: &[(&str, &str)], body: &str| {
        let mut all = vec![("Content-Type", "application/json")];
        all.extend(headers);
        let answer = send("POST", &format!("{}/{path}", hub.partners), &all, body);
        let endpoints =
            serde_json::from_str(&answer.body).unwrap_or(Value::Null)["event"]["payload"]["endpoints"].clone();
        (answer.status, endpoints)
    };
    let bearer = format!("Bearer {token}");
    let authorization = [("Authorization", bearer.as_str())];
    let ours = post("alexa/v3/directives", &[], &directive);
    assert_eq!((ours.0, ours.1.as_array().unwrap().len()), (200, 1));
    for headers in [&[][..], &authorization] {
        assert_eq!(post("api/alexa/smart_home", headers, &directive), ours);
    }
    // The token in the header alone; and two that differ.
    let bare = directive.replace(&token, "");
    assert_eq!(post("api/alexa/smart_home", &authorization, &bare), ours);
    assert_eq!(post("api/alexa/smart_home", &[("Authorization", "Bearer vst_x")], &directive), (200, json!([])));
    assert_eq!(post("api/alexa/smart_home", &[], &bare), (200, json!([])));
    assert_eq!(get(&format!("{}/api/alexa/smart_home", hub.partners)).0, 405);
}

#[test]
fn ends_are_announced_and_passwords_and_clients_are_told_in_plain_words() {
    let mut story = begin();
    let client = add_client(&story.hub, &[]);
    let code = Browser::default().link(&story.hub, &client, "glance", "");
    let (access, _) = tokens(&client.exchange(&story.hub, &code));
    let links = story.hub.cli_json(&["links"]);
    assert!(links[0]["ends"].is_string() && links[0]["notice"].is_null(), "{links}");
    // What is stored says that its tokens and grants end in ten days.
    story.hub.process.signal("TERM");
    let _ = story.hub.process.child.wait();
    let status = std::process::Command::new("date").args(["+%s"]).output().unwrap();
    let now: i64 = String::from_utf8(status.stdout).unwrap().trim().parse::<i64>().unwrap() * 1000;
    age(&story.dir.path().join("data/vestibule.db"), now + 10 * 86_400_000);
    story.restart();
    let links = story.hub.cli_json(&["links"]);
    let notice = links[0]["notice"].as_str().unwrap();
    // A profile would take back what was granted by hand: what is advised is what renews it.
    assert!(notice.contains("grants end on") && notice.contains("grant renew --link"), "{links}");
    assert!(!notice.contains("profile apply"), "{links}");
    assert!(story.hub.cli(&["links"]).contains("grants end on"));
    story.hub.process.wait_for("grants end on");
    // A partner that asks is still answered: an announcement is no end.
    assert_eq!(discover(&story.hub, &access).0.as_array().unwrap().len(), 1);
    let clients = story.hub.cli_json(&["client", "list"]);
    assert_eq!((clients[0]["pkce"].as_str(), clients[0]["links"].as_u64()), (Some("required"), Some(1)));
    assert!(!clients.to_string().contains(&client.secret));
}

/// Moves every end that is stored to a time.
fn age(file: &std::path::Path, to: i64) {
    let connection = rusqlite::Connection::open(file).unwrap();
    let rows: Vec<(String, String)> = connection
        .prepare("SELECT key, json FROM held WHERE key LIKE 'grant/%' OR key LIKE 'family/%'")
        .unwrap()
        .query_map([], |r| Ok((r.get(0)?, r.get(1)?)))
        .unwrap()
        .map(Result::unwrap)
        .collect();
    assert!(rows.len() > 2);
    for (key, json) in rows {
        let mut value: Value = serde_json::from_str(&json).unwrap();
        value["expires"] = json!(to);
        if key.starts_with("grant/") {
            value["created"] = json!(to - 180 * 86_400_000);
        }
        connection.execute("UPDATE held SET json = ?1 WHERE key = ?2", (value.to_string(), key)).unwrap();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn on_a_phone_in_a_real_browser_a_member_reads_chooses_and_comes_back() {
    use std::io::{BufRead as _, Write as _};
    let story = tokio::task::spawn_blocking(begin).await.unwrap();
    let hub = &story.hub;
    let long = "Thermostat".repeat(12);
    hub.cli(&["devices", "name", "t", &long]);
    // Where the partner's customer comes back to: a page of the partner's, which leads on to another.
    let back = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let at = format!("http://{}/link/M1?vendor=1", back.local_addr().unwrap());
    std::thread::spawn(move || {
        for stream in back.incoming().map_while(Result::ok) {
            let mut line = String::new();
            let mut reader = std::io::BufReader::new(stream.try_clone().unwrap());
            let _ = reader.read_line(&mut line);
            while reader.read_line(&mut String::new()).is_ok_and(|n| n > 2) {}
            let answer = match line.contains("/link/") {
                true => "HTTP/1.1 302 Found\r\nLocation: /done?".to_owned() + line.split(['?', ' ']).nth(2).unwrap(),
                false => "HTTP/1.1 200 OK\r\nContent-Type: text/html".to_owned(),
            };
            let body = "<title>linked</title>";
            let _ = write!(&stream, "{answer}\r\nContent-Length: {}\r\nConnection: close\r\n\r\n{body}", body.len());
        }
    });
    let done = hub.cli_json(&["client", "add", "alexa", "--redirect-uri", &at]);
    let text = |key: &str| done[key].as_str().unwrap().to_owned();
    let client = Client { id: text("client_id"), secret: text("client_secret") };
    let url = client
        .authorize_url(hub, "s")
        .replace(&encode(&[("redirect_uri", REDIRECT)]), &encode(&[("redirect_uri", &at)]));

    let phone = crate::browser::Browser::open(390, 844, true).await;
    let fits = "document.documentElement.scrollWidth <= innerWidth";
    let large = "[...document.querySelectorAll('button, .choice, summary')].every((e) => e.offsetHeight >= 44)";
    phone.goto(&url).await;
    assert_eq!(
        phone.read("getComputedStyle(document.querySelector('main')).maxWidth").await,
        "640px",
        "the style came"
    );
    assert_eq!(phone.read(fits).await, true);
    assert_eq!(phone.read(large).await, true);
    phone.read("(document.querySelector('[name=member]').value = 'alice', 1)").await;
    phone.read(&format!("(document.querySelector('[name=password]').value = '{PASSWORD}', 1)")).await;
    phone.click("button").await;
    phone.wait_for("location.pathname === '/oauth/consent'").await;
    assert_eq!(phone.read("document.querySelectorAll('[name=profile]').length").await, 5);
    assert_eq!(phone.read("document.querySelectorAll(':checked, script').length").await, 0);
    phone.read("(document.querySelectorAll('details').forEach((d) => { d.open = true; }), 1)").await;
    assert_eq!(phone.read(fits).await, true, "a long name wraps");
    assert_eq!(phone.read(large).await, true);
    assert!(phone.read("document.body.innerText").await.as_str().unwrap().contains(&long));
    phone.click("[name=profile][value=glance]").await;
    phone.click("button[value=link]").await;
    phone.wait_for("location.pathname === '/done' && document.title === 'linked'").await;
    let code = phone.read("new URLSearchParams(location.search).get('code')").await.as_str().unwrap().to_owned();
    assert_eq!(phone.read("new URLSearchParams(location.search).get('state')").await, "s");
    phone.close().await;
    let fields = [
        ("grant_type", "authorization_code"),
        ("code", code.as_str()),
        ("redirect_uri", at.as_str()),
        ("code_verifier", VERIFIER),
    ];
    tokens(&client.token(hub, &fields));
    assert_eq!(hub.cli_json(&["links"])[0]["profile"], "glance");
}

#[test]
fn a_partner_that_loops_is_told_to_wait_and_another_is_not() {
    let story = begin();
    let (hub, looping) = (&story.hub, add_client(&story.hub, &["--rotate", "false"]));
    let calm = add_client(hub, &[]);
    let code = Browser::default().link(hub, &looping, "commands-only", "");
    let (_, refresh) = tokens(&looping.exchange(hub, &code));
    let limited = (0..600).map(|_| looping.refresh(hub, &refresh)).find(|a| a.status != 200).expect("a limit");
    assert_eq!((limited.status, limited.header("retry-after")), (429, Some("5")));
    assert_eq!(limited.json()["error"], "temporarily_unavailable");
    assert_eq!(error(&calm.refresh(hub, "vsr_x")), invalid_grant());
    // Guessing secrets is limited as well, and does not keep the right one out.
    let wrong = Client { secret: "vss_wrong".into(), ..calm.clone() };
    assert!((0..600).any(|_| wrong.refresh(hub, "vsr_x").status == 429));
    assert_eq!(error(&calm.refresh(hub, "vsr_x")), invalid_grant());
}
