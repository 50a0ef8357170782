//! `vestibule doctor`: whether a partner can reach this hub and be linked, as far as that can be checked from here.
//!
//! The check goes the partner's way: out to the public address and back in. It links itself with a client and a code of its
//! own, to a link without any grant, refreshes, revokes, and is gone; the record shows that it was there.

#![expect(clippy::indexing_slicing, reason = "a key that JSON has not is null, no panic")]

use egress::{Probe, Probed};
use model::{Clock as _, PartnerId, Timestamp};
use serde::Serialize;
use serde_json::{Value, json};

use crate::clock::WallClock;
use crate::commands::Request;
use crate::core::chain;

/// How far the clock may be off: Amazon and TLS both mind minutes.
const CLOCK_MS: i64 = 2 * 60_000;

/// A certificate that ends sooner than this is warned of.
const CERTIFICATE_MS: i64 = 14 * 86_400_000;

/// The path of Alexa's directives.
const DIRECTIVES: &str = "/alexa/v3/directives";

/// How one check ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Verdict {
    /// Good.
    Ok,
    /// Not wrong, and worth knowing.
    Note,
    /// Wrong; what it says comes with what to do.
    Fail,
}

/// One check.
#[derive(Clone, Debug, Serialize)]
pub struct Check {
    /// What was looked at.
    pub check: &'static str,
    /// How it ended.
    pub verdict: Verdict,
    /// In words.
    pub text: String,
}

/// The checks done so far.
#[derive(Debug, Default)]
struct Report(Vec<Check>);

impl Report {
    fn add(&mut self, check: &'static str, verdict: Verdict, text: impl Into<String>) {
        self.0.push(Check { check, verdict, text: text.into() });
    }

    fn take(&mut self, check: &'static str, result: Result<String, String>) -> bool {
        match result {
            Ok(text) => self.add(check, Verdict::Ok, text),
            Err(text) => {
                self.add(check, Verdict::Fail, text);
                return false;
            }
        }
        true
    }
}

/// Does every check that can be done. `ask` puts a request to the running hub; none when no hub runs.
pub async fn run(partner: &PartnerId, ask: impl Fn(Request) -> Option<Result<Value, String>>) -> Vec<Check> {
    let mut report = Report::default();
    let facts = match ask(Request::Doctor { partner: partner.clone() }) {
        Some(Ok(facts)) => facts,
        Some(Err(error)) => {
            report.add("hub", Verdict::Fail, error);
            return report.0;
        }
        None => {
            report.add("hub", Verdict::Fail, "no hub runs on this data directory: start `vestibule serve` with it");
            return report.0;
        }
    };
    match facts["down"].as_array().filter(|d| !d.is_empty()) {
        None => report.add("hub", Verdict::Ok, "it runs, and devices, store and listeners are up"),
        Some(down) => {
            let names: Vec<&str> = down.iter().filter_map(Value::as_str).collect();
            report.add("hub", Verdict::Fail, format!("down: {}; its log says why", names.join(", ")));
        }
    }
    let probe = public(&facts, &mut report);
    if let Some(probe) = &probe {
        outside(probe, &facts, partner, &mut report, &ask).await;
    }
    setup(&facts, &mut report);
    health(&facts, &mut report);
    report.add("events", Verdict::Note, events(&facts));
    report.0
}

/// What Alexa can be told unasked. Its gateway is not tried: what goes there is told to Amazon.
fn events(facts: &Value) -> String {
    if facts["events"] != true {
        return "not set up: Alexa is told nothing unasked, whatever is granted ([alexa] in the configuration)".into();
    }
    let links = facts["links"].as_array().map_or(&[][..], Vec::as_slice);
    match links.iter().filter(|l| l["reports"] == true).count() {
        0 => "set up, and no link has Amazon's grant yet: turn Send Alexa Events on, and enable the skill anew".into(),
        count => format!("set up; Amazon takes them for {count} of {} links", links.len()),
    }
}

/// The public address, if it can be tried at all.
fn public(facts: &Value, report: &mut Report) -> Option<Probe> {
    let base = facts["issuer"].as_str().unwrap_or_default();
    if facts["public"] != true {
        report.add("address", Verdict::Fail, "set [partners] public_url to the https:// address that the proxy serves");
    }
    match Probe::new(base) {
        Ok(probe) => Some(probe),
        Err(error) => {
            report.add("address", Verdict::Fail, chain(&error));
            None
        }
    }
}

async fn outside(
    probe: &Probe,
    facts: &Value,
    partner: &PartnerId,
    report: &mut Report,
    ask: &impl Fn(Request) -> Option<Result<Value, String>>,
) {
    let now = WallClock::new().now();
    if probe.is_tls() {
        if probe.port() != 443 {
            report.add(
                "address",
                Verdict::Note,
                format!("port {}: Amazon opens the login page on port 443 only", probe.port()),
            );
        }
        match probe.certificate_at(now).await {
            Ok(()) => match probe.certificate_at(now.plus_millis(CERTIFICATE_MS)).await {
                Ok(()) => report.add("certificate", Verdict::Ok, "good for this name, and for two weeks at least"),
                Err(_) => report.add(
                    "certificate",
                    Verdict::Fail,
                    "it ends within two weeks: renew it now, and look at why that is not automatic",
                ),
            },
            Err(error) => {
                report.add("certificate", Verdict::Fail, chain(&error));
                return;
            }
        }
    } else {
        report.add("certificate", Verdict::Note, "none: a loopback address is checked without TLS");
    }
    let issuer = facts["issuer"].as_str().unwrap_or_default();
    let answer = probe.get("/.well-known/oauth-authorization-server", now).await;
    let answer = match answer {
        Ok(answer) => answer,
        Err(error) => {
            report.add("reachable", Verdict::Fail, chain(&error));
            return;
        }
    };
    clock(&answer, facts, now, report);
    let theirs = parse(&answer)["issuer"].as_str().map(str::to_owned);
    let same = match theirs {
        Some(theirs) if theirs == issuer => Ok(()),
        Some(theirs) => {
            Err(format!("{issuer} leads to a hub that calls itself {theirs}: correct [partners] public_url"))
        }
        None => Err(format!(
            "{issuer} does not lead to this hub (HTTP {}): forward all paths to the partners' listener, as they are",
            answer.status
        )),
    };
    if let Err(text) = same {
        report.add("reachable", Verdict::Fail, text);
        return;
    }
    let wrong = directive("ReportState", "vst_doctor");
    let refused = post(probe, DIRECTIVES, "application/json", wrong).await;
    let reachable = refused.and_then(|a| {
        if a.status == 401 && parse(&a)["event"]["payload"]["type"] == "INVALID_AUTHORIZATION_CREDENTIAL" {
            Ok("the public address leads here, and a wrong token is refused".to_owned())
        } else {
            Err(format!(
                "directives do not arrive as they are sent (HTTP {}): the proxy must not change POST bodies",
                a.status
            ))
        }
    });
    if !report.take("reachable", reachable) {
        return;
    }
    let begun = match ask(Request::DoctorBegin { partner: partner.clone() }) {
        Some(Ok(begun)) => begun,
        Some(Err(error)) => {
            report.add("linking", Verdict::Fail, error);
            return;
        }
        None => return,
    };
    let result = round_trip(probe, &begun).await;
    report.take(
        "linking",
        result.map(|()| {
            "login page, code, tokens, a directive, refresh and revocation, all by the public address".to_owned()
        }),
    );
    if let Ok(client) = model::ClientId::new(begun["client_id"].as_str().unwrap_or_default())
        && let Some(Err(error)) = ask(Request::ClientRemove { client })
    {
        report.add("linking", Verdict::Note, format!("the check's own client could not be removed: {error}"));
    }
}

fn clock(answer: &Probed, facts: &Value, now: Timestamp, report: &mut Report) {
    let theirs = answer.date.as_deref().and_then(|d| jiff::fmt::rfc2822::parse(d).ok());
    let theirs = theirs.map(|d| Timestamp::from_millis(d.timestamp().as_millisecond()));
    let newest = facts["newest"].as_i64().unwrap_or(0);
    let off = |t: Timestamp| (t.as_millis() - now.as_millis()).abs();
    let result = if newest > now.as_millis() + CLOCK_MS {
        Err("the clock stands before the newest entry of the record: it was set back; set up time synchronisation (NTP)".to_owned())
    } else {
        match theirs {
            Some(t) if off(t) > CLOCK_MS => Err(format!(
                "{} minutes away from what the public address says: set up time synchronisation (NTP)",
                off(t) / 60_000
            )),
            Some(_) => Ok(format!("{}, as the public address says, too", now.to_rfc3339())),
            None => Ok(format!("{}; the public address names no time to compare", now.to_rfc3339())),
        }
    };
    report.take("clock", result);
}

/// Links, uses, refreshes and revokes with the check's own client and code.
async fn round_trip(probe: &Probe, begun: &Value) -> Result<(), String> {
    let text = |key: &str| begun[key].as_str().unwrap_or_default();
    let fields = |more: &[(&str, &str)]| {
        let mut form = form_urlencoded::Serializer::new(String::new());
        form.append_pair("client_id", text("client_id")).append_pair("client_secret", text("client_secret"));
        for (name, value) in more {
            form.append_pair(name, value);
        }
        form.finish()
    };
    let query = form_urlencoded::Serializer::new(String::new())
        .append_pair("response_type", "code")
        .append_pair("client_id", text("client_id"))
        .append_pair("redirect_uri", text("redirect_uri"))
        .append_pair("code_challenge", text("code_challenge"))
        .append_pair("code_challenge_method", "S256")
        .finish();
    let page = get(probe, &format!("/oauth/authorize?{query}")).await?;
    if page.status != 200 || !String::from_utf8_lossy(&page.body).contains("name=\"password\"") {
        return Err(format!(
            "the login page does not come (HTTP {}): the proxy must forward /oauth/ with its query",
            page.status
        ));
    }
    let form = "application/x-www-form-urlencoded";
    let exchange = fields(&[
        ("grant_type", "authorization_code"),
        ("code", text("code")),
        ("redirect_uri", text("redirect_uri")),
        ("code_verifier", text("code_verifier")),
    ]);
    let tokens = |a: &Probed, what: &str| -> Result<(String, String), String> {
        let json = parse(a);
        match (json["access_token"].as_str(), json["refresh_token"].as_str()) {
            (Some(access), Some(refresh)) => Ok((access.to_owned(), refresh.to_owned())),
            _ => Err(format!("{what} gave no tokens (HTTP {}, {}): the hub's log says why", a.status, json["error"])),
        }
    };
    let (access, refresh) = tokens(&post(probe, "/oauth/token", form, exchange).await?, "the code")?;
    let answer = post(probe, DIRECTIVES, "application/json", directive("Discover", &access)).await?;
    if answer.status != 200 || !parse(&answer)["event"]["payload"]["endpoints"].is_array() {
        return Err(format!("a directive with a good token was not answered (HTTP {})", answer.status));
    }
    let again = fields(&[("grant_type", "refresh_token"), ("refresh_token", &refresh)]);
    let (access, refresh) = tokens(&post(probe, "/oauth/token", form, again).await?, "the refresh token")?;
    let revoked = post(probe, "/oauth/revoke", form, fields(&[("token", &refresh)])).await?;
    let after = post(probe, DIRECTIVES, "application/json", directive("ReportState", &access)).await?;
    match (revoked.status, after.status) {
        (200, 401) => Ok(()),
        (revoked, after) => Err(format!("a revoked token still opens (HTTP {revoked}, then {after})")),
    }
}

fn setup(facts: &Value, report: &mut Report) {
    let count = |key: &str| facts[key].as_u64().unwrap_or(0);
    let members = match count("members") {
        0 => Err("nobody can log in to link: `vestibule member add NAME`".to_owned()),
        n => Ok(format!("{n} can log in to link")),
    };
    report.take("members", members);
    let clients = match count("clients") {
        0 => Err("the skill is not registered: `vestibule client add alexa --redirect-uri ...`, with each redirect URL of its console".to_owned()),
        n => Ok(format!("{n} registered")),
    };
    report.take("clients", clients);
}

fn health(facts: &Value, report: &mut Report) {
    let links = facts["links"].as_array().map(Vec::as_slice).unwrap_or_default();
    if links.is_empty() {
        report.add("tokens", Verdict::Note, "not linked yet: enable the skill in the Alexa app");
    }
    for link in links {
        let id = link["id"].as_str().unwrap_or_default();
        let over = link["stopped"].is_string() || link["expired"] == true;
        match link["notice"].as_str() {
            Some(notice) if over => report.add("tokens", Verdict::Fail, format!("{id}: {notice}")),
            Some(notice) => report.add("tokens", Verdict::Note, format!("{id}: {notice}")),
            None => {
                let ends = link["ends"].as_str().and_then(|t| t.get(..10)).unwrap_or("never");
                report.add("tokens", Verdict::Ok, format!("{id}: good; ends by itself: {ends}"));
            }
        }
    }
}

fn directive(name: &str, token: &str) -> String {
    let scope = json!({"type": "BearerToken", "token": token});
    let namespace = if name == "Discover" { "Alexa.Discovery" } else { "Alexa" };
    let header = json!({"namespace": namespace, "name": name, "payloadVersion": "3", "messageId": "doctor"});
    let body = if name == "Discover" {
        json!({"header": header, "payload": {"scope": scope}})
    } else {
        json!({"header": header, "endpoint": {"endpointId": "doctor", "scope": scope}, "payload": {}})
    };
    json!({"directive": body}).to_string()
}

fn parse(answer: &Probed) -> Value {
    serde_json::from_slice(&answer.body).unwrap_or(Value::Null)
}

async fn get(probe: &Probe, path: &str) -> Result<Probed, String> {
    probe.get(path, WallClock::new().now()).await.map_err(|e| chain(&e))
}

async fn post(probe: &Probe, path: &str, kind: &str, body: String) -> Result<Probed, String> {
    probe.post(path, kind, body, WallClock::new().now()).await.map_err(|e| chain(&e))
}
