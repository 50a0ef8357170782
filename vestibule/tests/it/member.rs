//! A member's browser without a browser: cookies, forms, redirects.

use std::collections::BTreeMap;
use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::process::Stdio;

use crate::harness::{Hub, PATIENCE, program};

/// The password of every member in these tests.
pub const PASSWORD: &str = "a long enough password";

/// A PKCE verifier and its challenge (RFC 7636, appendix B).
pub const VERIFIER: &str = "dBjftJeZ4CVP-mB92K27uhbUJU1p1r_wW1gFWFOEjXk";
pub const CHALLENGE: &str = "E9Melhoa2OwvFrEMTJguCHaoeK1t8URWbuGJSstw-cM";

/// Where the pretend partner's customers go back to. Nobody listens there: the browser's last step is the test's.
pub const REDIRECT: &str = "https://partner.example/link/M1";

/// An answer, whole.
#[derive(Debug)]
pub struct Answer {
    pub status: u16,
    pub headers: Vec<(String, String)>,
    pub body: String,
}

impl Answer {
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(n, _)| n.eq_ignore_ascii_case(name)).map(|(_, v)| v.as_str())
    }

    pub fn json(&self) -> serde_json::Value {
        serde_json::from_str(&self.body).unwrap_or_else(|e| panic!("{e}: {}", self.body))
    }

    /// A parameter of the address that the browser is sent to.
    pub fn parameter(&self, name: &str) -> Option<String> {
        let (_, query) = self.header("location")?.split_once('?')?;
        decode(query).into_iter().find(|(n, _)| n == name).map(|(_, v)| v)
    }
}

/// Sends one request; an error when the hub hangs up before a whole answer.
pub fn try_send(method: &str, url: &str, headers: &[(&str, &str)], body: &str) -> std::io::Result<Answer> {
    let rest = url.strip_prefix("http://").expect("a URL");
    let (host, path) = rest.split_once('/').map_or((rest, ""), |(h, p)| (h, p));
    let mut stream = TcpStream::connect(host)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    let mut head = format!("{method} /{path} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n");
    for (name, value) in headers {
        head.push_str(&format!("{name}: {value}\r\n"));
    }
    head.push_str(&format!("Content-Length: {}\r\n\r\n{body}", body.len()));
    stream.write_all(head.as_bytes())?;
    let mut text = String::new();
    stream.read_to_string(&mut text)?;
    let broken = || std::io::Error::other("no whole answer");
    let (head, body) = text.split_once("\r\n\r\n").ok_or_else(broken)?;
    let mut lines = head.lines();
    let status = lines.next().and_then(|l| l.split(' ').nth(1)).and_then(|s| s.parse().ok()).ok_or_else(broken)?;
    let headers: Vec<(String, String)> =
        lines.filter_map(|l| l.split_once(": ")).map(|(n, v)| (n.to_owned(), v.to_owned())).collect();
    let length = headers.iter().find(|(n, _)| n.eq_ignore_ascii_case("content-length")).map(|(_, v)| v.parse());
    if let Some(Ok(length)) = length
        && method != "HEAD"
        && body.len() < length
    {
        return Err(broken());
    }
    Ok(Answer { status, headers, body: body.to_owned() })
}

pub fn send(method: &str, url: &str, headers: &[(&str, &str)], body: &str) -> Answer {
    try_send(method, url, headers, body).expect("an answer")
}

/// Posts a form, as partners' servers do.
pub fn post_form(url: &str, fields: &[(&str, &str)]) -> Answer {
    send("POST", url, &[("Content-Type", "application/x-www-form-urlencoded")], &encode(fields))
}

pub fn encode(fields: &[(&str, &str)]) -> String {
    let one = |text: &str| -> String {
        text.bytes()
            .map(|b| {
                if b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.') {
                    char::from(b).to_string()
                } else {
                    format!("%{b:02X}")
                }
            })
            .collect()
    };
    fields.iter().map(|(n, v)| format!("{}={}", one(n), one(v))).collect::<Vec<_>>().join("&")
}

fn decode(query: &str) -> Vec<(String, String)> {
    let one = |text: &str| -> String {
        let (mut bytes, mut rest) = (Vec::new(), text.as_bytes());
        while let [first, tail @ ..] = rest {
            match (first, tail) {
                (b'%', [a, b, after @ ..]) => {
                    let hex = [*a, *b];
                    bytes.push(u8::from_str_radix(std::str::from_utf8(&hex).unwrap(), 16).unwrap());
                    rest = after;
                }
                (b'+', _) => {
                    bytes.push(b' ');
                    rest = tail;
                }
                _ => {
                    bytes.push(*first);
                    rest = tail;
                }
            }
        }
        String::from_utf8(bytes).unwrap()
    };
    query.split('&').filter_map(|p| p.split_once('=')).map(|(n, v)| (one(n), one(v))).collect()
}

/// A client registered at a hub.
#[derive(Clone, Debug)]
pub struct Client {
    pub id: String,
    pub secret: String,
}

/// Makes a member of this hub's home.
pub fn add_member(hub: &Hub, name: &str) {
    let mut command = program();
    command.args(["member", "add", name, "--data"]).arg(&hub.data).stdin(Stdio::piped()).stdout(Stdio::piped());
    let mut child = command.spawn().unwrap();
    child.stdin.take().unwrap().write_all(format!("{PASSWORD}\n").as_bytes()).unwrap();
    assert!(child.wait().unwrap().success());
}

/// Registers a client for Alexa.
pub fn add_client(hub: &Hub, more: &[&str]) -> Client {
    let mut args = vec!["client", "add", "alexa", "--redirect-uri", REDIRECT];
    args.extend(more);
    let done = hub.cli_json(&args);
    Client {
        id: done["client_id"].as_str().unwrap().to_owned(),
        secret: done["client_secret"].as_str().unwrap_or_default().to_owned(),
    }
}

impl Client {
    /// The address at which linking begins.
    pub fn authorize_url(&self, hub: &Hub, state: &str) -> String {
        let query = encode(&[
            ("response_type", "code"),
            ("client_id", &self.id),
            ("redirect_uri", REDIRECT),
            ("state", state),
            ("code_challenge", CHALLENGE),
            ("code_challenge_method", "S256"),
        ]);
        format!("{}/oauth/authorize?{query}", hub.partners)
    }

    /// Exchanges a code, or refreshes, as the partner's server.
    pub fn token(&self, hub: &Hub, fields: &[(&str, &str)]) -> Answer {
        let mut all = vec![("client_id", self.id.as_str()), ("client_secret", self.secret.as_str())];
        all.extend(fields);
        post_form(&format!("{}/oauth/token", hub.partners), &all)
    }

    pub fn exchange(&self, hub: &Hub, code: &str) -> Answer {
        let fields = [
            ("grant_type", "authorization_code"),
            ("code", code),
            ("redirect_uri", REDIRECT),
            ("code_verifier", VERIFIER),
        ];
        self.token(hub, &fields)
    }

    pub fn refresh(&self, hub: &Hub, token: &str) -> Answer {
        self.token(hub, &[("grant_type", "refresh_token"), ("refresh_token", token)])
    }
}

/// A member's browser.
#[derive(Default)]
pub struct Browser {
    pub cookies: BTreeMap<String, String>,
}

impl Browser {
    pub fn send(&mut self, method: &str, url: &str, fields: &[(&str, &str)]) -> Answer {
        let cookies: Vec<String> = self.cookies.iter().map(|(n, v)| format!("{n}={v}")).collect();
        let cookies = cookies.join("; ");
        let headers = [("Cookie", cookies.as_str()), ("Content-Type", "application/x-www-form-urlencoded")];
        let answer = send(method, url, &headers, &encode(fields));
        for (name, value) in &answer.headers {
            if name.eq_ignore_ascii_case("set-cookie") {
                let pair = value.split(';').next().unwrap();
                let (name, value) = pair.split_once('=').unwrap();
                self.cookies.insert(name.to_owned(), value.to_owned());
            }
        }
        answer
    }

    /// Logs in at an authorization address.
    pub fn log_in(&mut self, url: &str, member: &str, password: &str) -> Answer {
        let page = self.send("GET", url, &[]);
        assert_eq!(page.status, 200, "{page:?}");
        let csrf = hidden(&page.body, "csrf");
        self.send("POST", url, &[("csrf", &csrf), ("member", member), ("password", password)])
    }

    /// Logs in and agrees; gives the code.
    pub fn link(&mut self, hub: &Hub, client: &Client, profile: &str, renew: &str) -> String {
        let answer = self.log_in(&client.authorize_url(hub, "st&te"), "alice", PASSWORD);
        assert_eq!((answer.status, answer.header("location")), (303, Some("/oauth/consent")), "{answer:?}");
        let page = self.send("GET", &format!("{}/oauth/consent", hub.partners), &[]);
        assert_eq!(page.status, 200);
        let (csrf, shown) = (hidden(&page.body, "csrf"), hidden(&page.body, "shown"));
        let fields = [
            ("csrf", csrf.as_str()),
            ("shown", shown.as_str()),
            ("profile", profile),
            ("renew", renew),
            ("decision", "link"),
        ];
        let answer = self.send("POST", &format!("{}/oauth/decision", hub.partners), &fields);
        assert_eq!(answer.status, 303, "{answer:?}");
        assert_eq!(answer.parameter("state").as_deref(), Some("st&te"));
        answer.parameter("code").unwrap()
    }
}

/// The value of a hidden field.
pub fn hidden(html: &str, name: &str) -> String {
    let start = format!("<input type=\"hidden\" name=\"{name}\" value=\"");
    html.split_once(&start).and_then(|(_, rest)| rest.split_once('"')).map(|(v, _)| v.to_owned()).expect("the field")
}
