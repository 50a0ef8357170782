//! A pretend Amazon for what is sent unasked: Login with Amazon's tokens and the event gateway, on one loopback address. It
//! looks at every message as the real one's documentation says, keeps all that it got, and fails as it is told.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use http_body_util::{BodyExt as _, Full};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper::{Request, Response};
use hyper_util::rt::TokioIo;
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tokio::task::JoinHandle;

use crate::schemas;

/// The code that a pretend Alexa sends in an AcceptGrant.
const CODE: &str = "a-code";

/// Longest wait for what is to come.
const PATIENCE: Duration = Duration::from_secs(60);

/// Most bytes of an event that are taken.
const EVENT_MAX_BYTES: usize = 256 * 1024;

/// What is done with the next message, in place of the right thing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Whim {
    /// An HTTP status, with the code that the gateway names.
    Answer(u16, &'static str),
    /// Status 429, with the seconds of `Retry-After`.
    Throttle(u64),
    /// No answer; the connection is closed.
    HangUp,
    /// An answer that is none.
    Nonsense,
    /// The right thing: for letting some messages through before the next whim.
    Right,
}

/// A message that was received.
#[derive(Clone, Debug)]
pub struct Received {
    /// The path.
    pub path: String,
    /// The bearer of the header.
    pub bearer: Option<String>,
    /// The body, byte for byte.
    pub body: Bytes,
    /// The body as JSON, or null.
    pub json: Value,
    /// What it was answered.
    pub status: u16,
}

impl Received {
    /// The event's name, as in `ChangeReport`; empty for a request of tokens.
    pub fn name(&self) -> &str {
        self.json.pointer("/event/header/name").and_then(Value::as_str).unwrap_or_default()
    }
}

#[derive(Default)]
struct Inner {
    received: Vec<Received>,
    /// What was wrong with messages.
    faults: Vec<String>,
    event_whims: VecDeque<Whim>,
    token_whims: VecDeque<Whim>,
    /// How many tokens were given out: the newest has this number.
    given: u64,
    /// Access tokens up to this number have ended.
    expired: u64,
    code_used: bool,
    disabled: bool,
    expires_in: i64,
}

/// A pretend Amazon that listens until it is dropped.
pub struct PretendAmazon {
    url: String,
    inner: Arc<Mutex<Inner>>,
    listening: JoinHandle<()>,
}

impl Drop for PretendAmazon {
    fn drop(&mut self) {
        self.listening.abort();
    }
}

impl PretendAmazon {
    /// Begins to listen on a free port of loopback.
    ///
    /// # Errors
    /// When there is none.
    pub async fn start() -> std::io::Result<Self> {
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let url = format!("http://{}", listener.local_addr()?);
        let inner = Arc::new(Mutex::new(Inner { expires_in: 3600, ..Inner::default() }));
        let shared = Arc::clone(&inner);
        let listening = tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let shared = Arc::clone(&shared);
                tokio::spawn(async move {
                    let answer = service_fn(move |request| answer(Arc::clone(&shared), request));
                    let _ =
                        hyper::server::conn::http1::Builder::new().serve_connection(TokioIo::new(stream), answer).await;
                });
            }
        });
        Ok(Self { url, inner, listening })
    }

    /// Its address.
    pub fn url(&self) -> &str {
        &self.url
    }

    fn inner(&self) -> MutexGuard<'_, Inner> {
        lock(&self.inner)
    }

    /// What to do with the next events.
    pub fn with_events(&self, whims: impl IntoIterator<Item = Whim>) {
        self.inner().event_whims.extend(whims);
    }

    /// What to do with the next requests for tokens.
    pub fn with_tokens(&self, whims: impl IntoIterator<Item = Whim>) {
        self.inner().token_whims.extend(whims);
    }

    /// From now on only the right things.
    pub fn forget_whims(&self) {
        let mut inner = self.inner();
        inner.event_whims.clear();
        inner.token_whims.clear();
        inner.expires_in = 3600;
    }

    /// Another customer comes, with a code of their own.
    pub fn forget_code(&self) {
        self.inner().code_used = false;
    }

    /// Every access token given out so far has ended.
    pub fn expire(&self) {
        let mut inner = self.inner();
        inner.expired = inner.given;
    }

    /// Access tokens given out from now on hold for so many seconds.
    pub fn expires_in(&self, seconds: i64) {
        self.inner().expires_in = seconds;
    }

    /// The customer disables the skill.
    pub fn disable(&self) {
        self.inner().disabled = true;
    }

    /// Everything received so far.
    pub fn received(&self) -> Vec<Received> {
        self.inner().received.clone()
    }

    /// What was accepted of one kind of event.
    pub fn accepted(&self, name: &str) -> Vec<Received> {
        self.received().into_iter().filter(|r| r.name() == name && r.status == 202).collect()
    }

    /// What was wrong with messages, in words.
    pub fn faults(&self) -> Vec<String> {
        self.inner().faults.clone()
    }

    /// Waits until what was received is as wanted. False when it never is.
    pub async fn wait(&self, wanted: impl Fn(&[Received]) -> bool) -> bool {
        let waiting = async {
            while !wanted(&self.received()) {
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        };
        tokio::time::timeout(PATIENCE, waiting).await.is_ok()
    }
}

fn lock(inner: &Mutex<Inner>) -> MutexGuard<'_, Inner> {
    inner.lock().unwrap_or_else(PoisonError::into_inner)
}

async fn answer(
    inner: Arc<Mutex<Inner>>,
    request: Request<Incoming>,
) -> Result<Response<Full<Bytes>>, Box<dyn std::error::Error + Send + Sync>> {
    let (head, body) = request.into_parts();
    let body = body.collect().await?.to_bytes();
    let path = head.uri.path().to_owned();
    let bearer = head.headers.get("authorization").and_then(|v| v.to_str().ok()?.strip_prefix("Bearer "));
    let bearer = bearer.map(str::to_owned);
    let json = serde_json::from_slice(&body).unwrap_or(Value::Null);
    let mut received = Received { path, bearer, body, json, status: 0 };
    let (whim, (status, text)) = {
        let mut inner = lock(&inner);
        let is_event = received.path == "/v3/events";
        let whim = if is_event { inner.event_whims.pop_front() } else { inner.token_whims.pop_front() };
        let right = match (received.path.as_str(), &whim) {
            (_, Some(Whim::Answer(status, code))) => (*status, exception(code)),
            (_, Some(Whim::Throttle(_))) => (429, exception("THROTTLING_EXCEPTION")),
            (_, Some(Whim::HangUp)) => (0, String::new()),
            (_, Some(Whim::Nonsense)) => (200, "<html>\u{0}".to_owned()),
            ("/v3/events", _) => event(&mut inner, &received),
            ("/auth/o2/token", _) => token(&mut inner, &received),
            _ => (404, String::new()),
        };
        received.status = right.0;
        inner.received.push(received);
        (whim, right)
    };
    if status == 0 {
        return Err("hung up".into());
    }
    let mut response = Response::builder().status(status);
    if let Some(Whim::Throttle(seconds)) = whim {
        response = response.header("retry-after", seconds.to_string());
    }
    Ok(response.body(Full::new(Bytes::from(text)))?)
}

fn exception(code: &str) -> String {
    let header = json!({"namespace": "System", "name": "Exception", "messageId": "x"});
    json!({"header": header, "payload": {"code": code, "description": "as told"}}).to_string()
}

/// Login with Amazon.
fn token(inner: &mut Inner, received: &Received) -> (u16, String) {
    let text = String::from_utf8_lossy(&received.body).into_owned();
    let field = |name: &str| {
        let found = text.split('&').find_map(|pair| pair.strip_prefix(&format!("{name}=")));
        found.map(|v| v.replace("%7C", "|")).unwrap_or_default()
    };
    let error = |code: &str| (400, json!({"error": code}).to_string());
    if field("client_id") != "skill-client" || field("client_secret") != "skill-secret" {
        return (401, json!({"error": "invalid_client"}).to_string());
    }
    let good = match field("grant_type").as_str() {
        "authorization_code" => field("code") == CODE && !std::mem::replace(&mut inner.code_used, true),
        "refresh_token" => !inner.disabled && field("refresh_token") == "Atzr|refresh",
        _ => return error("unsupported_grant_type"),
    };
    if !good {
        return error("invalid_grant");
    }
    inner.given += 1;
    let json = json!({
        "access_token": format!("Atza|{}", inner.given), "refresh_token": "Atzr|refresh", "token_type": "bearer",
        "expires_in": inner.expires_in,
    });
    (200, json.to_string())
}

/// The event gateway.
fn event(inner: &mut Inner, received: &Received) -> (u16, String) {
    let number = received.bearer.as_deref().and_then(|b| b.strip_prefix("Atza|")?.parse::<u64>().ok());
    if number.is_none_or(|n| n <= inner.expired || n > inner.given) {
        return (401, exception("INVALID_ACCESS_TOKEN_EXCEPTION"));
    }
    if inner.disabled {
        return (403, exception("SKILL_DISABLED_EXCEPTION"));
    }
    let wrong = check(received);
    if wrong.is_empty() {
        return (202, String::new());
    }
    inner.faults.extend(wrong);
    (400, exception("INVALID_REQUEST_EXCEPTION"))
}

/// What is wrong with an event: by its schema, and by what no schema can say.
fn check(received: &Received) -> Vec<String> {
    let mut wrong = schemas::event_faults(&received.json, true);
    let at = |path: &str| received.json.pointer(path).and_then(Value::as_str);
    let scope = at("/event/endpoint/scope/token").or(at("/event/payload/scope/token"));
    if scope != received.bearer.as_deref() {
        wrong.push("the token in it is not that of the header".to_owned());
    }
    if received.body.len() > EVENT_MAX_BYTES {
        wrong.push(format!("{} bytes are too many", received.body.len()));
    }
    wrong.into_iter().map(|what| format!("{what}: {}", received.json)).collect()
}
