//! The household's web listener: one page, and the JSON it reads.
//!
//! [`router`] turns a [`Source`] (the hub) into an axum [`Router`]. No socket is opened here. Every
//! route answers GET and HEAD only, but for one: a member may order a thermostat, with the password.
//!
//! | route | what |
//! |---|---|
//! | `/` | the page, with the data that it shows first |
//! | `/style.css`, `/app.js`, `/icon.svg` | its files, embedded in the program |
//! | `/api/overview` | home, links, truth beside what was told, demands, docket, ledger |
//! | `/api/day/{link}` | one day as lived, and as that link was told it |
//! | `/api/thermostats` | the thermostats that the hub runs: what they do and why |
//! | `POST /api/thermostats/{name}` | an order to one of them, by a member ([`Source::order`]) |
//! | `/api/events` | what is asked, live (server-sent events) |
//! | `/healthz`, `/metrics` | for the household's own monitoring |
//!
//! Every request must name a host that this listener is meant to have ([`Options`]): a page on the
//! internet can point its own name at 127.0.0.1 (DNS rebinding), and would then read the home with
//! the member's browser. `/api` moreover refuses requests that a browser marks as coming from
//! another site, and an order must be JSON, which no form of another site can send.

mod api;
mod assets;
mod guard;

use std::net::SocketAddr;
use std::sync::Arc;

use axum::extract::DefaultBodyLimit;
use axum::routing::{get, post};
use axum::{Router, middleware};
use serde_json::Value;
use tokio::sync::broadcast;

pub use api::{MAX_EVENT_BYTES, MAX_LINK_ID_BYTES, MAX_NAME_BYTES, MAX_ORDER_BYTES, MAX_READS, MAX_STREAMS};
pub use guard::{CONTENT_SECURITY_POLICY, MAX_HOST_BYTES};

/// What the console shows; implemented by the hub.
///
/// All times in the JSON are milliseconds UTC on the home's clock (scaled in the demo). Strings
/// that came from partners or devices are passed as they are: the page shows them as text only.
/// The methods may block for as long as a look-up in the store takes; they are called on tokio's
/// blocking threads, at most [`MAX_READS`] at a time.
pub trait Source: Send + Sync + 'static {
    /// `GET /api/overview`: home, links, truth, demands, docket and ledger.
    fn overview(&self) -> Value;

    /// `GET /api/day/{link}`: the day as lived and as that link was told it; `None` (404) when
    /// there is no such link.
    fn day(&self, link: &str) -> Option<Value>;

    /// `GET /api/thermostats`: a list, each with all that `thermostat status` tells.
    fn thermostats(&self) -> Value;

    /// `POST /api/thermostats/{name}`: what a member orders, or asks; the answer is as on the command line. Who it is says HTTP's
    /// Basic scheme (RFC 7617): the member's name and password.
    ///
    /// # Errors
    /// See [`OrderFault`].
    fn order(&self, order: MemberOrder) -> Result<Value, OrderFault>;

    /// `GET /api/events`: a receiver for one reader. The channel's capacity bounds what a slow
    /// reader can hold back; it is told `{"type":"lagged","missed":n}` and goes on.
    ///
    /// An event whose `type` is `closing` is delivered and ends the stream, as does the drop of
    /// the sender: send one of the two at shutdown, or open pages keep the listener alive.
    fn events(&self) -> broadcast::Receiver<Value>;

    /// `GET /healthz`.
    ///
    /// # Errors
    /// The names of what is down (devices, store, listeners); answered with 503.
    fn healthy(&self) -> Result<(), Vec<String>>;

    /// `GET /metrics`: text in the Prometheus exposition format.
    fn metrics(&self) -> String;
}

/// What somebody orders of a thermostat, in a member's name.
pub struct MemberOrder {
    /// The thermostat's name.
    pub thermostat: String,
    /// The member's name, as it was sent.
    pub member: String,
    /// The password, as it was sent.
    pub password: String,
    /// The order.
    pub order: Value,
}

impl std::fmt::Debug for MemberOrder {
    // The password is nobody's to read.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "MemberOrder({:?} of {:?})", self.order, self.thermostat)
    }
}

/// Why an order was not carried out.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum OrderFault {
    /// Name or password is not a member's (401).
    NotAMember(String),
    /// Too many were wrong: for so many seconds none is looked at (429).
    TooMany(u64),
    /// There is no such thermostat (404).
    NoThermostat(String),
    /// It is no order, or can't be carried out: why, in words for a person (422).
    Refused(String),
}

/// Which hosts the household's listener answers to, besides the loopback names.
#[derive(Clone, Debug, Default)]
pub struct Options {
    /// The address it listens on. If that is unspecified (`0.0.0.0`, `[::]`), every host that is
    /// an IP address is accepted: rebinding needs a name, an address is always its own origin.
    pub listen: Option<SocketAddr>,
    /// More host names or addresses, without port, such as `hub.lan`.
    pub hosts: Vec<String>,
}

/// The household's pages and API over `source`.
pub fn router(source: Arc<dyn Source>, options: Options) -> Router {
    let guard = Arc::new(guard::Guard::new(options));
    let mut router = Router::new()
        .route("/", get(api::page))
        .route("/api/overview", get(api::overview))
        .route("/api/day/{link}", get(api::day))
        .route("/api/thermostats", get(api::thermostats))
        .route("/api/thermostats/{name}", post(api::order).layer(DefaultBodyLimit::max(MAX_ORDER_BYTES)))
        .route("/api/events", get(api::events))
        .route("/healthz", get(api::healthz))
        .route("/metrics", get(api::metrics))
        .fallback(api::not_found)
        .with_state(Arc::new(api::Api::new(source)));
    for asset in assets::all() {
        router = router.route(asset.path, get(move |headers| assets::serve(asset, headers)));
    }
    router.layer(middleware::from_fn_with_state(guard, guard::check))
}

#[cfg(test)]
mod tests {
    use super::*;
    use axum::body::Body;
    use axum::http::{Method, Request, Response, StatusCode, header};
    use http_body_util::BodyExt as _;
    use serde_json::json;
    use std::sync::atomic::{AtomicBool, Ordering};
    use tower::ServiceExt as _;

    struct Fake {
        up: AtomicBool,
        events: broadcast::Sender<Value>,
    }

    impl Fake {
        /// Room for two events, so that a third makes a reader lag.
        fn new() -> Arc<Self> {
            Arc::new(Self { up: AtomicBool::new(true), events: broadcast::channel(2).0 })
        }
    }

    impl Source for Fake {
        fn overview(&self) -> Value {
            json!({ "home": { "name": "</script><b>Home</b>" }, "links": [{ "id": "known" }, { "id": "gone" }] })
        }
        fn day(&self, link: &str) -> Option<Value> {
            assert_ne!(link, "panics", "a fault in the hub");
            (link == "known").then(|| json!({ "lanes": [] }))
        }
        fn thermostats(&self) -> Value {
            json!([{ "name": "Hall" }])
        }
        fn order(&self, order: MemberOrder) -> Result<Value, OrderFault> {
            match (order.member.as_str(), order.password.as_str()) {
                ("anna", "a pass:word") => Ok(json!({ "thermostat": order.thermostat, "order": order.order })),
                ("bert", _) => Err(OrderFault::TooMany(60)),
                _ => Err(OrderFault::NotAMember("there is no such member".into())),
            }
        }
        fn events(&self) -> broadcast::Receiver<Value> {
            self.events.subscribe()
        }
        fn healthy(&self) -> Result<(), Vec<String>> {
            if self.up.load(Ordering::Relaxed) { Ok(()) } else { Err(vec!["store".into(), "devices".into()]) }
        }
        fn metrics(&self) -> String {
            "vestibule_leaves 7\n".into()
        }
    }

    const ROUTES: [&str; 11] = [
        "/",
        "/style.css",
        "/app.js",
        "/icon.svg",
        "/api/overview",
        "/api/day/known",
        "/api/thermostats",
        "/api/events",
        "/healthz",
        "/metrics",
        "/nowhere",
    ];

    fn request(method: Method, path: &str, extra: &[(&str, &str)]) -> Request<Body> {
        let mut request = Request::builder().method(method).uri(path);
        if !extra.iter().any(|(name, _)| *name == "host") {
            request = request.header("host", "localhost:8480");
        }
        for (name, value) in extra {
            request = request.header(*name, *value);
        }
        request.body(Body::empty()).unwrap()
    }

    async fn send(router: &Router, request: Request<Body>) -> Response<Body> {
        router.clone().oneshot(request).await.unwrap()
    }

    async fn get(router: &Router, path: &str, extra: &[(&str, &str)]) -> Response<Body> {
        send(router, request(Method::GET, path, extra)).await
    }

    async fn text(response: Response<Body>) -> String {
        let bytes = response.into_body().collect().await.unwrap().to_bytes();
        String::from_utf8(bytes.to_vec()).unwrap()
    }

    /// The next `data:` of a stream of events, or `None` at its end.
    async fn next_event(body: &mut Body) -> Option<Value> {
        let frame = body.frame().await?.unwrap().into_data().unwrap();
        let line = String::from_utf8(frame.to_vec()).unwrap();
        Some(serde_json::from_str(line.strip_prefix("data: ").unwrap().trim_end()).unwrap())
    }

    #[tokio::test]
    async fn only_its_own_hosts_are_answered() {
        let listen = |address: &str| Options {
            listen: Some(address.parse().unwrap()),
            hosts: vec!["Hub.LAN".into(), "fd00::7".into()],
        };
        let one = router(Fake::new(), listen("192.0.2.4:8480"));
        let any = router(Fake::new(), listen("0.0.0.0:8480"));
        for (host, on_one, on_any) in [
            ("localhost:8480", true, true),
            ("LOCALHOST", true, true),
            ("127.0.0.1:1", true, true),
            ("127.9.9.9", true, true),
            ("[::1]:8480", true, true),
            ("192.0.2.4:8480", true, true),
            ("hub.lan.:80", true, true),
            ("[fd00::7]", true, true),
            ("192.0.2.5", false, true),
            ("evil.example:8480", false, false),
            ("localhost.evil.example", false, false),
            ("127.0.0.1.evil.example", false, false),
            ("evil.example@localhost", false, false),
            ("localhost, evil.example", false, false),
            ("", false, false),
        ] {
            for (router, expected) in [(&one, on_one), (&any, on_any)] {
                for path in ROUTES {
                    let got = get(router, path, &[("host", host)]).await.status();
                    assert_eq!(got != StatusCode::FORBIDDEN, expected, "{host:?} {path}");
                }
            }
        }
        let two = [("host", "localhost"), ("host", "evil.example")];
        assert_eq!(get(&one, "/", &two).await.status(), StatusCode::FORBIDDEN);
        let no_host = Request::get("/").body(Body::empty()).unwrap();
        assert_eq!(send(&one, no_host).await.status(), StatusCode::FORBIDDEN);
        let absolute = request(Method::GET, "http://evil.example/", &[]);
        assert_eq!(send(&one, absolute).await.status(), StatusCode::FORBIDDEN);
    }

    #[tokio::test]
    async fn another_site_cannot_ask_for_data() {
        let router = router(Fake::new(), Options::default());
        for (site, allowed) in [("same-origin", true), ("none", true), ("same-site", false), ("cross-site", false)] {
            let marked = [("sec-fetch-site", site)];
            for path in ["/api/overview", "/api/events", "/api/day/known"] {
                let status = get(&router, path, &marked).await.status();
                assert_eq!(status == StatusCode::OK, allowed, "{site} {path}");
            }
            // A link to the page from elsewhere works.
            assert_eq!(get(&router, "/", &marked).await.status(), StatusCode::OK);
        }
    }

    #[tokio::test]
    async fn every_answer_carries_the_security_headers() {
        let router = router(Fake::new(), Options::default());
        let mut answers = vec![get(&router, "/", &[("host", "evil.example")]).await];
        for path in ROUTES {
            answers.push(get(&router, path, &[]).await);
            answers.push(send(&router, request(Method::POST, path, &[])).await);
        }
        answers.push(get(&router, "/api/day/%ff", &[]).await);
        for answer in answers {
            let header = |name: &str| answer.headers().get(name).map(|v| v.to_str().unwrap());
            let policy = header("content-security-policy").unwrap();
            assert!(policy.starts_with("default-src 'self'") && !policy.contains("unsafe"));
            assert_eq!(header("x-content-type-options"), Some("nosniff"));
            assert_eq!(header("referrer-policy"), Some("no-referrer"));
            assert_eq!(header("cross-origin-resource-policy"), Some("same-origin"));
            assert!(matches!(header("cache-control"), Some("no-cache" | "no-store")));
        }
    }

    #[tokio::test]
    async fn nothing_but_get_is_answered() {
        let router = router(Fake::new(), Options::default());
        for path in ROUTES {
            for method in [Method::POST, Method::PUT, Method::PATCH, Method::DELETE, Method::OPTIONS] {
                let answer = send(&router, request(method, path, &[])).await;
                assert_eq!(answer.status(), StatusCode::METHOD_NOT_ALLOWED);
                assert_eq!(answer.headers()[header::ALLOW], "GET, HEAD");
            }
        }
    }

    #[tokio::test]
    async fn a_member_orders_with_the_password_and_no_other_page_can() {
        let router = router(Fake::new(), Options::default());
        let order = |extra: &[(&str, &str)], body: &str| {
            let mut request = request(Method::POST, "/api/thermostats/Living%20room", extra);
            *request.body_mut() = Body::from(body.to_owned());
            request
        };
        // anna:a pass:word
        let anna = ("authorization", "Basic YW5uYTphIHBhc3M6d29yZA==");
        let json = ("content-type", "application/json; charset=utf-8");
        let hold = r#"{"hold":{"to":{"temperature":"21"}}}"#;
        let done = send(&router, order(&[anna, json], hold)).await;
        assert_eq!(done.status(), StatusCode::OK);
        let answer: Value = serde_json::from_str(&text(done).await).unwrap();
        assert_eq!(answer["thermostat"], "Living room");
        assert_eq!(answer["order"]["hold"]["to"]["temperature"], "21");
        let long = format!("\"{}\"", "x".repeat(MAX_ORDER_BYTES));
        let bert = ("authorization", "basic YmVydDp4");
        for (extra, body, status) in [
            (&[json][..], hold, StatusCode::UNAUTHORIZED),
            (&[("authorization", "Basic YW5uYQ=="), json], hold, StatusCode::UNAUTHORIZED),
            (&[("authorization", "Basic %%%"), json], hold, StatusCode::UNAUTHORIZED),
            (&[("authorization", "Bearer YW5uYTphIHBhc3M6d29yZA=="), json], hold, StatusCode::UNAUTHORIZED),
            (&[("authorization", "Basic YW5uYTp4"), json], hold, StatusCode::UNAUTHORIZED),
            (&[bert, json], hold, StatusCode::TOO_MANY_REQUESTS),
            // What a form of another site could send.
            (&[anna, ("content-type", "text/plain")], hold, StatusCode::UNSUPPORTED_MEDIA_TYPE),
            (&[anna], hold, StatusCode::UNSUPPORTED_MEDIA_TYPE),
            (&[anna, json, ("sec-fetch-site", "same-site")], hold, StatusCode::FORBIDDEN),
            (&[anna, json, ("origin", "http://evil.example")], hold, StatusCode::FORBIDDEN),
            (&[anna, json, ("origin", "null")], hold, StatusCode::FORBIDDEN),
            (&[anna, json], "{", StatusCode::UNPROCESSABLE_ENTITY),
            (&[anna, json], &long, StatusCode::PAYLOAD_TOO_LARGE),
        ] {
            let answer = send(&router, order(extra, body)).await;
            assert_eq!(answer.status(), status, "{extra:?}");
            let asks = answer.headers().get("www-authenticate").is_some();
            assert_eq!(asks, status == StatusCode::UNAUTHORIZED);
            assert_eq!(answer.headers().get("retry-after").is_some(), status == StatusCode::TOO_MANY_REQUESTS);
            let body: Value = serde_json::from_str(&text(answer).await).unwrap();
            assert!(body["error"].is_string());
        }
        let own = [anna, json, ("origin", "http://localhost:8480"), ("sec-fetch-site", "same-origin")];
        assert_eq!(send(&router, order(&own, hold)).await.status(), StatusCode::OK);
        assert_eq!(get(&router, "/api/thermostats/Hall", &[]).await.status(), StatusCode::METHOD_NOT_ALLOWED);
    }

    #[tokio::test]
    async fn the_page_is_whole_and_has_no_inline_code_and_its_files_are_revalidated() {
        let router = router(Fake::new(), Options::default());
        let page = get(&router, "/", &[]).await;
        assert_eq!(page.headers()[header::CONTENT_TYPE], "text/html; charset=utf-8");
        let html = text(page).await;
        let data = html.split_once("id=\"data\">").unwrap().1.split_once("</script>").unwrap().0;
        let data: Value = serde_json::from_str(data).unwrap();
        assert_eq!(data["days"], json!({ "known": { "lanes": [] } }));
        assert_eq!(data["overview"]["home"]["name"], "</script><b>Home</b>");
        let elsewhere = text(get(&router, "/", &[("sec-fetch-site", "cross-site")]).await).await;
        assert!(!elsewhere.contains("Home</b>") && elsewhere.contains("/app.js"), "data for another site");
        // What the content security policy would refuse to run or apply.
        for inline in ["style=", "<style", "onclick", "onload", "<script>", "javascript:"] {
            assert!(!html.contains(inline), "{inline}");
        }
        let script = get(&router, "/app.js", &[]).await;
        let tag = script.headers()[header::ETAG].to_str().unwrap().to_owned();
        let script = text(script).await;
        for markup in ["innerHTML", "outerHTML", "insertAdjacentHTML", "document.write", "eval("] {
            assert!(!script.contains(markup), "{markup}");
        }
        let again = get(&router, "/app.js", &[("if-none-match", &tag)]).await;
        assert_eq!(again.status(), StatusCode::NOT_MODIFIED);
        assert_eq!(text(again).await, "");
        let other = get(&router, "/style.css", &[("if-none-match", &tag)]).await;
        assert_eq!(other.status(), StatusCode::OK);
    }

    #[tokio::test]
    async fn days_are_found_by_link_and_faults_stay_inside() {
        let router = router(Fake::new(), Options::default());
        let known = get(&router, "/api/day/known", &[]).await;
        assert_eq!(known.status(), StatusCode::OK);
        assert_eq!(text(known).await, r#"{"lanes":[]}"#);
        let long = format!("/api/day/{}", "k".repeat(MAX_LINK_ID_BYTES + 1));
        for path in ["/api/day/unknown", "/api/day/%3Cb%3E", long.as_str()] {
            let answer = get(&router, path, &[]).await;
            assert_eq!(answer.status(), StatusCode::NOT_FOUND, "{path}");
            let body: Value = serde_json::from_str(&text(answer).await).unwrap();
            assert!(body["error"].is_string());
        }
        let fault = get(&router, "/api/day/panics", &[]).await;
        assert_eq!(fault.status(), StatusCode::INTERNAL_SERVER_ERROR);
        assert_eq!(get(&router, "/healthz", &[]).await.status(), StatusCode::OK);
    }

    #[tokio::test]
    async fn health_and_metrics_speak_for_the_hub() {
        let fake = Fake::new();
        let router = router(fake.clone(), Options::default());
        let up = get(&router, "/healthz", &[]).await;
        assert_eq!(up.status(), StatusCode::OK);
        assert_eq!(text(up).await, "ok\n");
        fake.up.store(false, Ordering::Relaxed);
        let down = get(&router, "/healthz", &[]).await;
        assert_eq!(down.status(), StatusCode::SERVICE_UNAVAILABLE);
        assert_eq!(text(down).await, "down: store\ndown: devices\n");
        let metrics = get(&router, "/metrics", &[]).await;
        let kind = metrics.headers()[header::CONTENT_TYPE].to_str().unwrap();
        assert!(kind.starts_with("text/plain; version=0.0.4"));
        assert_eq!(text(metrics).await, "vestibule_leaves 7\n");
    }

    #[tokio::test]
    async fn a_slow_reader_is_told_what_it_missed_and_goes_on() {
        let fake = Fake::new();
        let router = router(fake.clone(), Options::default());
        let answer = get(&router, "/api/events", &[]).await;
        assert_eq!(answer.headers()[header::CONTENT_TYPE], "text/event-stream");
        let mut body = answer.into_body();
        let send = |event: Value| fake.events.send(event).unwrap();
        send(json!({ "type": "tick", "n": "line\nbreak" }));
        assert_eq!(next_event(&mut body).await.unwrap(), json!({ "type": "tick", "n": "line\nbreak" }));
        for n in 0..5 {
            send(json!({ "type": "asked", "n": n }));
        }
        assert_eq!(next_event(&mut body).await.unwrap(), json!({ "type": "lagged", "missed": 3 }));
        assert_eq!(next_event(&mut body).await.unwrap()["n"], 3);
        assert_eq!(next_event(&mut body).await.unwrap()["n"], 4);
        send(json!({ "type": "asked", "why": "x".repeat(MAX_EVENT_BYTES) }));
        assert_eq!(next_event(&mut body).await.unwrap()["type"], "omitted");
        send(json!({ "type": "closing" }));
        send(json!({ "type": "tick" }));
        assert_eq!(next_event(&mut body).await.unwrap()["type"], "closing");
        assert_eq!(next_event(&mut body).await, None);
    }

    #[tokio::test]
    async fn streams_are_counted_and_given_back() {
        let router = router(Fake::new(), Options::default());
        let mut open = Vec::new();
        for _ in 0..MAX_STREAMS {
            let answer = get(&router, "/api/events", &[]).await;
            assert_eq!(answer.status(), StatusCode::OK);
            open.push(answer);
        }
        let full = get(&router, "/api/events", &[]).await;
        assert_eq!(full.status(), StatusCode::SERVICE_UNAVAILABLE);
        open.pop();
        let free = get(&router, "/api/events", &[]).await;
        assert_eq!(free.status(), StatusCode::OK);
    }
}
