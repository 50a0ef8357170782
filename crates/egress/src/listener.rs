//! A listener: HTTP/1.1 for callers who may be anybody.

use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::http::{HeaderValue, Request, Response, header};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::server::graceful::GracefulShutdown;
use tokio::net::{TcpListener, TcpStream};
use tower::ServiceExt as _;

use crate::door::{Answering, Door, Seat};
use crate::limits::{DRAIN_TIMEOUT, HEAD_MAX_BYTES, HEADER_READ_TIMEOUT, STALL_TIMEOUT};

/// How long to wait after the kernel refused a connection (out of file handles): others are served meanwhile.
const ACCEPT_PAUSE: Duration = Duration::from_millis(5);

/// Serves HTTP/1.1 until `shutdown` comes; then takes no more connections and finishes what is in flight. A client that
/// dawdles over its header is dropped, and when the door is full, whoever has been quiet for longest.
pub async fn serve(listener: TcpListener, router: Router, door: Arc<Door>, shutdown: impl Future<Output = ()>) {
    let graceful = GracefulShutdown::new();
    let mut shutdown = std::pin::pin!(shutdown);
    loop {
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            () = &mut shutdown => break,
        };
        match accepted {
            Ok((stream, _)) => {
                // A newcomer who finds everybody being answered is turned away.
                let Some(seat) = door.enter() else { continue };
                take(stream, router.clone(), seat, &door, &graceful);
            }
            Err(error) if is_the_callers(&error) => {}
            Err(error) => {
                tracing::warn!(%error, listener = door.name(), "a connection was not accepted");
                door.make_room();
                tokio::time::sleep(ACCEPT_PAUSE).await;
            }
        }
    }
    drop(listener);
    if tokio::time::timeout(DRAIN_TIMEOUT, graceful.shutdown()).await.is_err() {
        tracing::warn!(listener = door.name(), "some connections did not finish in time and were cut");
    }
}

/// The caller has gone before it was let in.
fn is_the_callers(error: &std::io::Error) -> bool {
    use std::io::ErrorKind;
    matches!(
        error.kind(),
        ErrorKind::ConnectionAborted
            | ErrorKind::ConnectionReset
            | ErrorKind::ConnectionRefused
            | ErrorKind::Interrupted
    )
}

fn take(stream: TcpStream, router: Router, seat: Arc<Seat>, door: &Arc<Door>, graceful: &GracefulShutdown) {
    // Answers are small and waited for: Nagle's algorithm would only delay them.
    let _ = stream.set_nodelay(true);
    let guest = Arc::clone(&seat);
    let service = service_fn(move |request| answer(request, router.clone(), Arc::clone(&guest)));
    let connection = hyper::server::conn::http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEADER_READ_TIMEOUT)
        .max_buf_size(HEAD_MAX_BYTES)
        .serve_connection(TokioIo::new(stream), service);
    let connection = graceful.watch(connection);
    let door = Arc::clone(door);
    tokio::spawn(async move {
        let mut connection = std::pin::pin!(connection);
        loop {
            // One that is answered now is looked at again later.
            let look = seat.quiet_until(STALL_TIMEOUT).unwrap_or_else(|| tokio::time::Instant::now() + STALL_TIMEOUT);
            tokio::select! {
                // A client that hangs up or breaks the protocol is its own loss.
                ended = &mut connection => {
                    if ended.is_err_and(|e| e.is_parse() || e.is_timeout()) {
                        door.broken();
                    }
                    return;
                }
                () = seat.told_to_leave() => return,
                () = tokio::time::sleep_until(look) => {
                    if seat.quiet_until(STALL_TIMEOUT).is_some_and(|until| until <= tokio::time::Instant::now()) {
                        door.stalled();
                        return;
                    }
                }
            }
        }
    });
}

async fn answer(
    request: Request<Incoming>,
    router: Router,
    seat: Arc<Seat>,
) -> Result<Response<Body>, std::convert::Infallible> {
    seat.touch();
    // A body of unstated length ends where its last chunk says. A proxy in between that reads the length otherwise
    // (`Content-Length` beside it) would take what follows for another caller's request: nothing follows.
    let chunked = request.headers().contains_key(header::TRANSFER_ENCODING);
    let mut request = request.map(Body::new);
    request.extensions_mut().insert(Arc::clone(&seat));
    let mut response = router.oneshot(request).await?;
    if chunked {
        response.headers_mut().insert(header::CONNECTION, HeaderValue::from_static("close"));
    }
    // A stream of events is quiet for long and is no stalled answer. Its room bounds how many there are.
    let streams = response.headers().get(header::CONTENT_TYPE).is_some_and(|t| t == "text/event-stream");
    if streams && let Some(kept) = seat.answering() {
        return Ok(response.map(|body| Body::new(Streaming { body, _kept: kept })));
    }
    Ok(response)
}

/// A body whose connection is kept while it lasts.
struct Streaming {
    body: Body,
    _kept: Answering,
}

impl http_body::Body for Streaming {
    type Data = bytes::Bytes;
    type Error = axum::Error;

    fn poll_frame(
        self: std::pin::Pin<&mut Self>,
        cx: &mut std::task::Context<'_>,
    ) -> std::task::Poll<Option<Result<http_body::Frame<bytes::Bytes>, axum::Error>>> {
        std::pin::Pin::new(&mut self.get_mut().body).poll_frame(cx)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> http_body::SizeHint {
        self.body.size_hint()
    }
}
