//! The JSON, the events, and what monitoring reads.

use std::convert::Infallible;
use std::sync::Arc;

use axum::Json;
use axum::body::Bytes;
use axum::extract::rejection::BytesRejection;
use axum::extract::{Path, State};
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::sse::{Event, KeepAlive, Sse};
use axum::response::{Html, IntoResponse, Response};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use futures_util::stream;
use serde_json::{Value, json};
use tokio::sync::broadcast::error::RecvError;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, broadcast};

use crate::guard::from_another_site;
use crate::{MemberOrder, OrderFault, Source, assets};

/// Most event streams open at once; one more is answered with 503.
pub const MAX_STREAMS: usize = 32;

/// Most look-ups in the [`Source`] at once; further requests wait (the listener bounds how many
/// connections there are).
pub const MAX_READS: usize = 8;

/// Longest event, as JSON, in bytes; a longer one is replaced by `{"type":"omitted","bytes":n}`.
pub const MAX_EVENT_BYTES: usize = 65_536;

/// Longest order to a thermostat, in bytes.
pub const MAX_ORDER_BYTES: usize = 16_384;

/// Longest name of a thermostat, in bytes, and longest member's name with the password.
pub const MAX_NAME_BYTES: usize = 1024;

/// Most orders at once; further ones wait. Each means a look at a password, which is slow on purpose and needs much memory.
const MAX_ORDERS: usize = 2;

/// Longest link id that is looked up, in bytes.
pub const MAX_LINK_ID_BYTES: usize = 128;

/// Links whose day comes with the page; it asks for those of others when they are chosen.
const MAX_FIRST_DAYS: usize = 3;

/// The source, and the permits that bound its use.
pub(crate) struct Api {
    source: Arc<dyn Source>,
    reads: Arc<Semaphore>,
    orders: Arc<Semaphore>,
    streams: Arc<Semaphore>,
}

impl Api {
    pub(crate) fn new(source: Arc<dyn Source>) -> Self {
        let (reads, orders) = (Arc::new(Semaphore::new(MAX_READS)), Arc::new(Semaphore::new(MAX_ORDERS)));
        Self { source, reads, orders, streams: Arc::new(Semaphore::new(MAX_STREAMS)) }
    }

    /// Runs a look-up, which may block, on a thread of its own. A fault in it (a panic) is a 500.
    async fn read<T: Send + 'static>(
        &self,
        look_up: impl FnOnce(&dyn Source) -> T + Send + 'static,
    ) -> Result<T, Response> {
        self.with(&self.reads, look_up).await
    }

    async fn with<T: Send + 'static>(
        &self,
        permits: &Arc<Semaphore>,
        look_up: impl FnOnce(&dyn Source) -> T + Send + 'static,
    ) -> Result<T, Response> {
        let source = Arc::clone(&self.source);
        let fault = || error(StatusCode::INTERNAL_SERVER_ERROR, "the look-up failed: see the log");
        let permit = Arc::clone(permits).acquire_owned().await.map_err(|_| fault())?;
        // Held by the work, not by who waits for it: hanging up frees no place for another.
        let work = move || {
            let _permit = permit;
            look_up(source.as_ref())
        };
        tokio::task::spawn_blocking(work).await.map_err(|failed| {
            tracing::error!(%failed, "a look-up for the console failed");
            fault()
        })
    }
}

/// The page, with the overview and each link's day in it. Another site that opens it gets it without them.
pub(crate) async fn page(State(api): State<Arc<Api>>, headers: HeaderMap) -> Result<Html<String>, Response> {
    if from_another_site(&headers) {
        return Ok(Html(assets::page(None)));
    }
    let data = api.read(|source| {
        let overview = source.overview();
        let links = overview.get("links").and_then(Value::as_array);
        let ids = links.into_iter().flatten().filter_map(|link| link.get("id")?.as_str()).take(MAX_FIRST_DAYS);
        let days: serde_json::Map<String, Value> =
            ids.filter_map(|id| Some((id.to_owned(), source.day(id)?))).collect();
        json!({ "days": days, "overview": overview })
    });
    Ok(Html(assets::page(Some(&data.await?))))
}

pub(crate) async fn overview(State(api): State<Arc<Api>>) -> Result<Json<Value>, Response> {
    api.read(|source| source.overview()).await.map(Json)
}

pub(crate) async fn day(State(api): State<Arc<Api>>, Path(link): Path<String>) -> Result<Json<Value>, Response> {
    let unknown = || error(StatusCode::NOT_FOUND, "no such link: `vestibule links` lists them");
    if link.len() > MAX_LINK_ID_BYTES {
        return Err(unknown());
    }
    let day = api.read(move |source| source.day(&link)).await?;
    day.map(Json).ok_or_else(unknown)
}

pub(crate) async fn thermostats(State(api): State<Arc<Api>>) -> Result<Json<Value>, Response> {
    api.read(|source| source.thermostats()).await.map(Json)
}

/// An order of a member.
pub(crate) async fn order(
    State(api): State<Arc<Api>>,
    Path(thermostat): Path<String>,
    headers: HeaderMap,
    body: Result<Bytes, BytesRejection>,
) -> Result<Json<Value>, Response> {
    let kind = headers.get(header::CONTENT_TYPE).and_then(|kind| kind.to_str().ok()).unwrap_or_default();
    if kind.split(';').next().map(str::trim) != Some("application/json") {
        return Err(error(StatusCode::UNSUPPORTED_MEDIA_TYPE, "an order is JSON: `content-type: application/json`"));
    }
    let body =
        body.map_err(|fault| error(fault.status(), "the order could not be read: it is too long, or broken off"))?;
    let Some((member, password)) = basic(&headers) else {
        return Err(fault(OrderFault::NotAMember("name a member, with the password (HTTP Basic)".into())));
    };
    let order =
        serde_json::from_slice(&body).map_err(|e| fault(OrderFault::Refused(format!("this is no JSON: {e}"))))?;
    if thermostat.len() > MAX_NAME_BYTES {
        return Err(fault(OrderFault::NoThermostat("there is no thermostat of so long a name".into())));
    }
    let order = MemberOrder { thermostat, member, password, order };
    api.with(&api.orders, |source| source.order(order)).await?.map(Json).map_err(fault)
}

fn fault(fault: OrderFault) -> Response {
    match fault {
        OrderFault::NotAMember(why) => {
            let scheme = [(header::WWW_AUTHENTICATE, "Basic realm=\"Vestibule\", charset=\"UTF-8\"")];
            (scheme, error(StatusCode::UNAUTHORIZED, &why)).into_response()
        }
        OrderFault::TooMany(seconds) => {
            let why = format!("too many attempts: try again in {seconds} seconds");
            ([(header::RETRY_AFTER, seconds.to_string())], error(StatusCode::TOO_MANY_REQUESTS, &why)).into_response()
        }
        OrderFault::NoThermostat(why) => error(StatusCode::NOT_FOUND, &why),
        OrderFault::Refused(why) => error(StatusCode::UNPROCESSABLE_ENTITY, &why),
    }
}

/// A name and a password, as HTTP's Basic scheme has them (RFC 7617, 2).
fn basic(headers: &HeaderMap) -> Option<(String, String)> {
    let (scheme, credentials) = headers.get(header::AUTHORIZATION)?.to_str().ok()?.split_once(' ')?;
    if !scheme.eq_ignore_ascii_case("basic") || credentials.len() > MAX_NAME_BYTES {
        return None;
    }
    let text = String::from_utf8(STANDARD.decode(credentials.trim()).ok()?).ok()?;
    text.split_once(':').map(|(name, password)| (name.to_owned(), password.to_owned()))
}

pub(crate) async fn events(State(api): State<Arc<Api>>) -> Response {
    let Ok(permit) = Arc::clone(&api.streams).try_acquire_owned() else {
        return error(StatusCode::SERVICE_UNAVAILABLE, "too many open pages: close one and reload");
    };
    let reader = Reader { events: api.source.events(), open: true, _permit: permit };
    let stream = stream::unfold(reader, |mut reader| async {
        let event = reader.next().await?;
        Some((Ok::<_, Infallible>(event), reader))
    });
    Sse::new(stream).keep_alive(KeepAlive::default()).into_response()
}

pub(crate) async fn healthz(State(api): State<Arc<Api>>) -> Result<Response, Response> {
    Ok(match api.read(|source| source.healthy()).await? {
        Ok(()) => "ok\n".into_response(),
        Err(down) => {
            let lines: String = down.iter().map(|what| format!("down: {what}\n")).collect();
            (StatusCode::SERVICE_UNAVAILABLE, lines).into_response()
        }
    })
}

pub(crate) async fn metrics(State(api): State<Arc<Api>>) -> Result<impl IntoResponse, Response> {
    let kind = (header::CONTENT_TYPE, "text/plain; version=0.0.4; charset=utf-8");
    let text = api.read(|source| source.metrics()).await?;
    Ok(([kind], text))
}

pub(crate) async fn not_found() -> Response {
    error(StatusCode::NOT_FOUND, "there is no such page")
}

/// An error as JSON: `{"error": what}`.
pub(crate) fn error(status: StatusCode, what: &str) -> Response {
    (status, Json(json!({ "error": what }))).into_response()
}

/// One open stream of events.
struct Reader {
    events: broadcast::Receiver<Value>,
    open: bool,
    _permit: OwnedSemaphorePermit,
}

impl Reader {
    async fn next(&mut self) -> Option<Event> {
        if !self.open {
            return None;
        }
        let value = match self.events.recv().await {
            Ok(value) => value,
            Err(RecvError::Lagged(missed)) => json!({ "type": "lagged", "missed": missed }),
            Err(RecvError::Closed) => return None,
        };
        self.open = value.get("type").and_then(Value::as_str) != Some("closing");
        let mut text = value.to_string();
        if text.len() > MAX_EVENT_BYTES {
            text = json!({ "type": "omitted", "bytes": text.len() }).to_string();
        }
        Some(Event::default().data(text))
    }
}
