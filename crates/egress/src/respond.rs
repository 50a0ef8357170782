//! From a receipt to bytes on the wire.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use axum::body::Body;
use axum::http::{HeaderValue, Response, StatusCode, header};
use bytes::Bytes;
use http_body::{Body as HttpBody, Frame, SizeHint};
use ledger::{Receipt, SendResult};
use model::Clock;

use crate::directives::Recorder;

/// The answer for which this receipt was made. It takes the receipt by value: what was not recorded can't be sent, and
/// nothing can be sent twice.
pub(crate) fn recorded<R: Recorder>(receipt: Receipt, recorder: Arc<R>, clock: Arc<dyn Clock>) -> Response<Body> {
    faults::pass(faults::ANSWER_BEGINS);
    let bytes = receipt.body().map(|b| Bytes::copy_from_slice(b)).unwrap_or_default();
    let body = Sending { bytes: Some(bytes), receipt: Some(receipt), recorder, clock };
    with_type(StatusCode::OK, Body::new(body))
}

/// One of the closed list of constant bodies.
pub(crate) fn constant(status: StatusCode, body: &'static [u8]) -> Response<Body> {
    with_type(status, Body::from(body))
}

/// The last answer on its connection: where a body was not read to its end, the rest of it stands where the next request would.
/// The caller is told (RFC 9112, section 9.6), so that it sends nothing more into a connection that ends.
pub(crate) fn last(mut response: Response<Body>) -> Response<Body> {
    response.headers_mut().insert(header::CONNECTION, HeaderValue::from_static("close"));
    response
}

fn with_type(status: StatusCode, body: Body) -> Response<Body> {
    let mut response = Response::new(body);
    *response.status_mut() = status;
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    response
}

/// A recorded body on its way out. When it is dropped, the OUTCOME is noted: whether the network took the bytes. (That
/// the partner read them nobody can know.)
struct Sending<R: Recorder> {
    bytes: Option<Bytes>,
    receipt: Option<Receipt>,
    recorder: Arc<R>,
    clock: Arc<dyn Clock>,
}

impl<R: Recorder> HttpBody for Sending<R> {
    type Data = Bytes;
    type Error = std::convert::Infallible;

    fn poll_frame(
        self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, std::convert::Infallible>>> {
        faults::pass(faults::ANSWER_BODY);
        Poll::Ready(self.get_mut().bytes.take().map(|b| Ok(Frame::data(b))))
    }

    fn is_end_stream(&self) -> bool {
        self.bytes.is_none()
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(self.bytes.as_ref().map_or(0, |b| b.len() as u64))
    }
}

impl<R: Recorder> Drop for Sending<R> {
    fn drop(&mut self) {
        let Some(receipt) = self.receipt.take() else { return };
        faults::pass(faults::ANSWER_SENT);
        let result = if self.bytes.is_none() { SendResult::Sent } else { SendResult::Aborted };
        match receipt.outcome(self.clock.now(), result) {
            Ok(draft) => self.recorder.note(draft),
            Err(error) => tracing::error!(%error, "an outcome could not be written"),
        }
    }
}
