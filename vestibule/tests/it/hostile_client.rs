//! Callers who wish the hub ill, on both listeners: they cost memory within bounds, and nobody else an answer.

use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use serde_json::json;
use testkit::PretendAlexa;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::task::JoinSet;
use tokio::time::Instant;

use crate::devices_and_alexa::{Story, begin};
use crate::harness::{Hub, PATIENCE, get};

/// Most memory that the hub ever has under attack, in KiB: 1,024 connections with a full head and their own part of a
/// body, the shared room for large bodies, and what an unoptimised hub needs at rest, twice.
const MEMORY_MAX_KIB: u64 = 256 * 1024;

/// An honest caller's longest wait: Alexa hangs up after 8 s.
const HONEST_WAIT_MAX: Duration = Duration::from_secs(8);

/// Connections that the flood tries, where the system lets one process have so many.
const FLOOD: usize = 10_000;

/// Peak memory of a process, in KiB.
pub fn peak_kib(pid: u32) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).expect("the process runs");
    let line = status.lines().find_map(|l| l.strip_prefix("VmHWM:")).expect("Linux tells the peak");
    line.trim().trim_end_matches(" kB").trim().parse().expect("a number")
}

/// A metric by its whole name, labels included.
fn metric(hub: &Hub, name: &str) -> u64 {
    let (_, text) = get(&format!("{}/metrics", hub.console));
    let line = text.lines().find_map(|l| l.strip_prefix(name)).unwrap_or_else(|| panic!("no {name} in {text}"));
    line.trim().parse().expect("a number")
}

fn address(url: &str) -> SocketAddr {
    url.trim_start_matches("http://").parse().expect("an address")
}

/// Asks for all the file handles that there are; gives how many.
fn file_handles() -> usize {
    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
    let limit = getrlimit(Resource::Nofile);
    let _ = setrlimit(Resource::Nofile, Rlimit { current: limit.maximum, maximum: limit.maximum });
    getrlimit(Resource::Nofile).current.map_or(usize::MAX, |n| usize::try_from(n).expect("fits"))
}

fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap()
}

/// A partner with a new connection for each question, as after each idle pause.
struct Honest {
    story: Story,
    token: String,
    thermostat: String,
}

impl Honest {
    fn new() -> Self {
        let story = begin();
        let token = story.hub.cli(&["link", "alexa", "--profile", "glance", "--print-token"]).trim().to_owned();
        let alexa = PretendAlexa::new(&story.hub.partners, &token);
        let thermostat = runtime().block_on(async {
            alexa.discover().await.unwrap();
            alexa.endpoint_with("Alexa.ThermostatController", None).expect("a thermostat")
        });
        Self { story, token, thermostat }
    }

    /// One question on a connection of its own; how long the answer took.
    async fn ask(&self) -> Duration {
        let begin = Instant::now();
        let alexa = PretendAlexa::new(&self.story.hub.partners, &self.token);
        let state = alexa.report_state(&self.thermostat).await.unwrap_or_else(|e| panic!("{e}: {e:?}"));
        assert_eq!((state.status, state.event().as_str()), (200, "Alexa.StateReport"));
        assert_eq!(state.property("Alexa.TemperatureSensor", "temperature").unwrap()["value"], 21.0);
        let took = begin.elapsed();
        assert!(took < HONEST_WAIT_MAX, "{took:?}");
        took
    }

    /// Asks again and again until `done`; how often, and the longest wait.
    async fn ask_until(&self, done: &AtomicBool) -> (u64, Duration) {
        let (mut times, mut longest) = (0, Duration::ZERO);
        while !done.load(Ordering::SeqCst) || times < 3 {
            longest = longest.max(self.ask().await);
            times += 1;
        }
        (times, longest)
    }
}

/// Opens `number` connections, sends `first` on each, and keeps each with a byte a second until it is cut or all is over.
/// Gives how many came to be.
async fn flood(to: SocketAddr, number: usize, first: &'static [u8], over: Arc<AtomicBool>) -> u64 {
    let opened = Arc::new(AtomicU64::new(0));
    let dialling = Arc::new(tokio::sync::Semaphore::new(256));
    let mut all = JoinSet::new();
    for _ in 0..number {
        let permit = Arc::clone(&dialling).acquire_owned().await.unwrap();
        let (opened, over) = (Arc::clone(&opened), Arc::clone(&over));
        all.spawn(async move {
            let connected = tokio::time::timeout(PATIENCE, tokio::net::TcpStream::connect(to)).await;
            let Ok(Ok(mut stream)) = connected else { return };
            opened.fetch_add(1, Ordering::SeqCst);
            let mut alive = stream.write_all(first).await.is_ok();
            drop(permit);
            let mut answer = [0; 64];
            while alive && !over.load(Ordering::SeqCst) {
                tokio::select! {
                    read = stream.read(&mut answer) => alive = read.is_ok_and(|n| n > 0),
                    () = tokio::time::sleep(Duration::from_secs(1)) => alive = stream.write_all(b"a").await.is_ok(),
                }
            }
        });
    }
    // All are dialled.
    let _all = dialling.acquire_many(256).await.unwrap();
    let opened = opened.load(Ordering::SeqCst);
    // They stay as long as `over` says no.
    tokio::spawn(async move { while all.join_next().await.is_some() {} });
    opened
}

#[test]
fn ten_thousand_slow_callers_lock_nobody_out() {
    let honest = Honest::new();
    let hub = &honest.story.hub;
    let handles = file_handles();
    let number = FLOOD.min(handles.saturating_sub(500));
    assert!(number > egress::CONNECTIONS_MAX + 500, "a process here may have {handles} file handles only");
    let (partners, console) = (address(&hub.partners), address(&hub.console));
    runtime().block_on(async {
        // Header, then body: neither ever ends.
        for (what, to, number, first) in [
            ("header", partners, number, &b"POST /alexa/v3/directives HTTP/1.1\r\nHost: x\r\nX-"[..]),
            (
                "body",
                partners,
                egress::CONNECTIONS_MAX + 500,
                b"POST /alexa/v3/directives HTTP/1.1\r\nHost: x\r\nContent-Length: 2000\r\n\r\n{",
            ),
            ("console", console, egress::CONSOLE_CONNECTIONS_MAX + 500, b"GET / HTTP/1.1\r\nHost: localhost\r\nX-"),
        ] {
            let (over, done) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicBool::new(false)));
            let dial = async {
                let opened = flood(to, number, first, Arc::clone(&over)).await;
                done.store(true, Ordering::SeqCst);
                opened
            };
            let (opened, (times, longest)) = tokio::join!(dial, honest.ask_until(&done));
            // The household's page answers too, and so it does on the control socket.
            let url = format!("{}/healthz", hub.console);
            let (health, body) = tokio::task::spawn_blocking(move || get(&url)).await.unwrap();
            assert_eq!((health, body.as_str()), (200, "ok\n"));
            assert_eq!(hub.cli_json(&["links"])[0]["partner"], "alexa");
            println!("{what}: {opened} of {number} connections; {times} honest answers, the slowest in {longest:?}");
            assert!(opened as usize > number * 9 / 10, "only {opened} connections came to be");
            over.store(true, Ordering::SeqCst);
        }
    });
    assert!(metric(hub, "vestibule_connections_shed_total{listener=\"partners\"}") > 0);
    assert!(metric(hub, "vestibule_connections_shed_total{listener=\"console\"}") > 0);
    let open = metric(hub, "vestibule_connections{listener=\"partners\"}");
    assert!(open <= egress::CONNECTIONS_MAX as u64, "{open}");
    let peak = peak_kib(hub.process.child.id());
    println!("peak memory {} MiB", peak / 1024);
    assert!(peak < MEMORY_MAX_KIB, "{peak} KiB");
}

/// A request that ends so has an end of the stream behind it.
const BREAKS_OFF: &[u8] = b"{\"breaks off";

/// Sends bytes and gives all that came back until the hub hung up.
fn exchange(to: SocketAddr, request: &[u8]) -> String {
    let mut stream = TcpStream::connect(to).expect("the listener is up");
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    stream.set_write_timeout(Some(PATIENCE)).unwrap();
    // Who is refused early may find the door shut while still speaking.
    let _ = stream.write_all(request);
    if request.ends_with(BREAKS_OFF) {
        let _ = stream.shutdown(std::net::Shutdown::Write);
    }
    let mut answer = Vec::new();
    let _ = stream.read_to_end(&mut answer);
    String::from_utf8_lossy(&answer).into_owned()
}

/// The statuses of all answers in a text.
fn statuses(answer: &str) -> Vec<u16> {
    let heads = answer.split("HTTP/1.1 ").skip(1);
    heads.filter_map(|h| h.get(..3)?.parse().ok()).collect()
}

const CLOSE: &str = "Connection: close";

fn post(head: &str, body: &str) -> Vec<u8> {
    let length = body.len();
    let head = format!("POST /alexa/v3/directives HTTP/1.1\r\nHost: x\r\nContent-Length: {length}\r\n{head}\r\n\r\n");
    [head.as_bytes(), body.as_bytes()].concat()
}

/// The connection is cut without a word.
const CUT: u16 = 0;

/// Whether the answer is one of those expected, and one only. A caller that is still speaking when it is refused may be
/// cut before it hears why.
fn is_refused(request: &[u8], answer: &str, expected: &[u16]) -> bool {
    match statuses(answer).as_slice() {
        [] => request.len() > 60_000 || expected.contains(&CUT),
        [one] => expected.contains(one),
        _ => false,
    }
}

/// What is refused on either listener, and with which statuses.
fn refused_everywhere(path: &str) -> Vec<(&'static str, Vec<u8>, &'static [u16])> {
    let get = |rest: &str| format!("GET {path} HTTP/1.1\r\nHost: localhost\r\n{rest}\r\n").into_bytes();
    let many: String = (0..10_000).map(|n| format!("X-{n}: y\r\n")).collect();
    vec![
        ("a header of 1 MiB", get(&format!("X: {}\r\n", "y".repeat(1 << 20))), &[431]),
        ("10,000 headers", get(&many), &[431]),
        ("a path of 1 MiB", format!("GET /{} HTTP/1.1\r\n\r\n", "a".repeat(1 << 20)).into_bytes(), &[414, 431]),
        ("HTTP/2", b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0".to_vec(), &[CUT, 400, 505]),
        ("TLS", b"\x16\x03\x01\x02\0\x01\0\x01\xfc\x03\x03".to_vec(), &[400]),
        ("no HTTP", vec![0; 4096], &[400]),
        ("a NUL in a header", get("X: a\0b\r\n"), &[400]),
        ("a header folded", get("X: a\r\n b\r\n"), &[400]),
        ("a space before the colon", get("Content-Length : 5\r\n"), &[400]),
        ("two lengths", get("Content-Length: 5\r\nContent-Length: 6\r\n"), &[400]),
        ("a length list", get("Content-Length: 5, 6\r\n"), &[400]),
        ("a signed length", get("Content-Length: +5\r\n"), &[400]),
        ("a length beyond all", get("Content-Length: 99999999999999999999\r\n"), &[400]),
        ("an unknown coding", get("Transfer-Encoding: xchunked\r\n"), &[400]),
        ("a coding after chunked", get("Transfer-Encoding: chunked, identity\r\n"), &[400]),
        ("chunked in HTTP/1.0", b"GET / HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n".to_vec(), &[400]),
    ]
}

#[test]
fn hostile_requests_are_refused_and_hurt_nobody() {
    let honest = Honest::new();
    let hub = &honest.story.hub;
    let (partners, console) = (address(&hub.partners), address(&hub.console));
    let leaves = hub.ledger().len();
    let runtime = runtime();
    for (listener, path) in [(partners, "/alexa/v3/directives"), (console, "/")] {
        for (what, request, expected) in refused_everywhere(path) {
            let answer = exchange(listener, &request);
            assert!(is_refused(&request, &answer, expected), "{what} at {path}: not {expected:?}: {answer}");
            assert!(!answer.contains("localhost") && !answer.contains("Alice"), "{what}: {answer}");
        }
    }

    let token = honest.token.as_str();
    let good = |id: &str| {
        let mut d = testkit::directive("Alexa", "ReportState", &honest.thermostat, token, json!({}));
        d["directive"]["header"]["messageId"] = json!(id);
        d.to_string()
    };
    let plain = good("m");
    let scope = format!(r#""scope":{{"type":"BearerToken","token":"{token}"}}"#);
    let doubled_scope = plain.replacen(r#""endpoint":{"#, &format!(r#""endpoint":{{{scope},"#), 1);
    let doubled_name = plain.replacen(r#""name":"#, r#""name":"Discover","name":"#, 1);
    let escaped = plain.replacen(r#""name":"#, r#""\u006eame":"Discover","name":"#, 1);
    for twice in [&doubled_scope, &doubled_name, &escaped] {
        assert!(twice.len() > plain.len());
    }
    let deep = plain.replace(r#""cookie":{}"#, &format!(r#""cookie":{}{}"#, "[".repeat(500), "]".repeat(500)));
    assert!(deep.len() > plain.len());
    let wide = plain.replace(r#""cookie":{}"#, &format!(r#""cookie":[{}0]"#, "0,".repeat(20_000)));
    let mut not_text = post(CLOSE, &plain);
    let at = not_text.iter().rposition(|b| *b == b'3').unwrap();
    not_text[at] = 0xff;
    let chunked = |body: &str| {
        format!("POST /alexa/v3/directives HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n{body}")
            .into_bytes()
    };
    let endless = chunked(&format!("{:x}\r\n{}\r\n", 4096, " ".repeat(4096)).repeat(64));
    let smuggled = "GET /smuggled HTTP/1.1\r\nHost: x\r\n\r\n";
    let both = |first: &str, second: &str, body: &str| {
        format!("POST /alexa/v3/directives HTTP/1.1\r\nHost: x\r\n{first}\r\n{second}\r\n\r\n{body}").into_bytes()
    };
    let (te, cl) = ("Transfer-Encoding: chunked", "Content-Length: 4");
    // Who would keep the connection is told that it ends: the rest of the body stands in it.
    let kept = exchange(partners, &both("Accept: */*", "Content-Length: 1000000000", ""));
    assert!(statuses(&kept) == [413] && kept.to_lowercase().contains("connection: close"), "{kept}");
    let cases: Vec<(&str, Vec<u8>, &[u16])> = vec![
        ("a scope that stands twice", post(CLOSE, &doubled_scope), &[400]),
        ("a name that stands twice", post(CLOSE, &doubled_name), &[400]),
        ("a name that stands twice, once escaped", post(CLOSE, &escaped), &[400]),
        ("deep JSON", post(CLOSE, &deep), &[400]),
        ("wide JSON", post(CLOSE, &wide), &[400]),
        ("deep JSON, the whole body", post(CLOSE, &"[".repeat(100_000)), &[400]),
        ("invalid UTF-8", not_text, &[400]),
        ("huge JSON", post(CLOSE, &format!("{plain}{}", " ".repeat(8 << 20))), &[413]),
        ("a huge length and nothing behind it", both(CLOSE, "Content-Length: 1000000000", ""), &[413]),
        ("a body that breaks off", both(CLOSE, "Content-Length: 100", "{\"breaks off"), &[CUT, 400]),
        ("chunks without end", endless, &[413]),
        ("a chunk of 2^64", chunked("ffffffffffffffff\r\n{\"breaks off"), &[CUT, 400]),
        ("a chunk size beyond all", chunked("fffffffffffffffffff\r\n"), &[400]),
        ("a chunk that is no number", chunked("zz\r\n"), &[400]),
        ("chunk extensions without end", chunked(&format!("1;{}", "a".repeat(1 << 20))), &[400]),
        ("length and chunks", both(cl, te, &format!("0\r\n\r\n{smuggled}")), &[400]),
        ("chunks and length", both(te, cl, &format!("0\r\n\r\n{smuggled}")), &[400]),
        ("two codings", both(te, "Transfer-Encoding: identity", &format!("0\r\n\r\n{smuggled}")), &[400]),
        ("a chunked request and what follows", chunked(&format!("0\r\n\r\n{smuggled}")), &[400]),
        (
            "another path",
            b"POST /api/overview HTTP/1.1\r\nHost: x\r\nConnection: close\r\nContent-Length: 0\r\n\r\n".to_vec(),
            &[404],
        ),
        (
            "another method",
            b"BREW /alexa/v3/directives HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n".to_vec(),
            &[405],
        ),
        (
            "a proxy's request",
            b"CONNECT evil.example:443 HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n".to_vec(),
            &[404, 405],
        ),
        (
            "markup in the path",
            b"GET /<script>%00%ff HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n".to_vec(),
            &[400, 404],
        ),
    ];
    let honest_answers = cases.len();
    for (what, request, expected) in cases {
        let answer = exchange(partners, &request);
        assert!(is_refused(&request, &answer, expected), "{what}: not {expected:?}: {answer}");
        runtime.block_on(honest.ask());
    }

    // Requests in one go are answered in their order, each as if it came alone.
    let line = [post("X: y", &good("m-1")), post("X: y", "{"), post("X: y", &good("m-2"))].concat();
    let last = [post("X: y", &good("m-1")), post("X: y", "{"), post(CLOSE, &good("m-2"))].concat();
    let answer = exchange(partners, &[line.repeat(19), last].concat());
    assert_eq!(statuses(&answer), [200, 400, 200].repeat(20));

    // Whoever takes no answer keeps nobody from theirs.
    let greedy: Vec<TcpStream> = (0..50)
        .map(|_| {
            let mut stream = TcpStream::connect(partners).unwrap();
            stream.set_write_timeout(Some(Duration::from_millis(200))).unwrap();
            let many = b"GET /x HTTP/1.1\r\nHost: x\r\n\r\n".repeat(40_000);
            let _ = stream.write_all(&many);
            stream
        })
        .collect();
    runtime.block_on(honest.ask());
    drop(greedy);

    // Nothing of all this was recorded, save the honest answers (each with its outcome; refusals are summed).
    let intents = |rows: &[serde_json::Value]| rows.iter().filter(|r| r["type"] == "intent").count();
    let rows = hub.ledger();
    let asked = honest_answers + 40 + 1;
    assert_eq!(intents(&rows[leaves..]), asked, "an answer of a stranger or a broken request was recorded");
    assert_eq!(hub.cli_json(&["ledger", "verify"])["ok"], true);
    let peak = peak_kib(hub.process.child.id());
    println!("peak memory {} MiB", peak / 1024);
    assert!(peak < MEMORY_MAX_KIB, "{peak} KiB");
}
