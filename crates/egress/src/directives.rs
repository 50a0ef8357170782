//! `POST /alexa/v3/directives`: from bytes to a recorded answer.

use std::collections::HashSet;
use std::future::Future;
use std::sync::{Arc, Mutex, PoisonError};

use axum::Router;
use axum::body::Body;
use axum::extract::State;
use axum::http::{Extensions, HeaderMap, Request, Response, StatusCode, header};
use axum::routing::post;
use gate::{Actuator, Decided, GateState, Session, StateWrite};
use http_body::Body as _;
use http_body_util::BodyExt as _;
use ledger::{Body as LedgerBody, Digest, Draft, Intent, Item, Receipt};
use links::{Link, Opened, same_text};
use model::{Clock, DeviceId, EndpointId, Property, Timestamp, Value};
use tokio::sync::{Semaphore, SemaphorePermit};

use crate::door::{Answering, Seat};
use crate::events::Events;
use crate::limits::{BODIES_SHARED_BYTES, BODY_MAX_BYTES, BODY_OWN_BYTES, BODY_READ_TIMEOUT, IN_FLIGHT_MAX};
use crate::oauth::{self, Desk, Linking};
use crate::respond::{constant, last, recorded};
use crate::tally::{Asked, Outcome, Tally, Told};

/// Nothing was recorded, so nothing may leave.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RecordError;

/// The ledger, as egress uses it.
pub trait Recorder: Send + Sync + 'static {
    /// Makes drafts durable, with the gate's writes in the same transaction.
    ///
    /// # Errors
    /// When it is not certain that they are durable.
    fn record(
        &self,
        drafts: Vec<Draft>,
        writes: Vec<StateWrite>,
    ) -> impl Future<Output = Result<Vec<Receipt>, RecordError>> + Send;

    /// Records later, in a commit with others: an outcome.
    fn note(&self, draft: Draft);
}

/// Everything that an answer needs.
pub struct Egress<A, R> {
    /// The gate's state.
    pub state: Arc<Mutex<GateState>>,
    /// Carries commands out.
    pub actuator: Arc<A>,
    /// Records.
    pub recorder: Arc<R>,
    /// Tells the time.
    pub clock: Arc<dyn Clock>,
    /// Counts.
    pub tally: Arc<Tally>,
    /// Tells what is told unasked, if the household has set that up.
    pub events: Option<Arc<Events<R>>>,
}

struct Shared<A, R> {
    egress: Egress<A, R>,
    in_flight: Arc<Semaphore>,
    /// Room for what is large in bodies, in bytes.
    bodies: Arc<Semaphore>,
}

/// The partners' routes. There are no others on this listener.
pub fn router<A: Actuator, R: Recorder, H: Linking>(egress: Egress<A, R>, house: Arc<H>) -> Router {
    let bodies = Arc::new(Semaphore::new(BODIES_SHARED_BYTES));
    let (recorder, clock, tally) = (Arc::clone(&egress.recorder), Arc::clone(&egress.clock), Arc::clone(&egress.tally));
    let linking = oauth::routes(Arc::new(Desk::new(house, recorder, clock, tally, Arc::clone(&bodies))));
    let shared = Arc::new(Shared { egress, in_flight: Arc::new(Semaphore::new(IN_FLIGHT_MAX)), bodies });
    let wrong_method = |State(s): State<Arc<Shared<A, R>>>| async move {
        s.egress.tally.rejected();
        constant(StatusCode::METHOD_NOT_ALLOWED, alexa::constants::METHOD_NOT_ALLOWED)
    };
    let not_found = |State(s): State<Arc<Shared<A, R>>>| async move {
        s.egress.tally.rejected();
        constant(StatusCode::NOT_FOUND, alexa::constants::NOT_FOUND)
    };
    Router::new()
        .route("/alexa/v3/directives", post(directives::<A, R>).fallback(wrong_method))
        // Where the manual skill of Home Assistant posts to: its owners change one address and link again.
        .route("/api/alexa/smart_home", post(directives::<A, R>).fallback(wrong_method))
        .fallback(not_found)
        .with_state(shared)
        .merge(linking)
}

async fn directives<A: Actuator, R: Recorder>(
    State(shared): State<Arc<Shared<A, R>>>,
    request: Request<Body>,
) -> Response<Body> {
    let egress = &shared.egress;
    let (head, body) = request.into_parts();
    let directive = match read(body, &shared.bodies).await {
        Ok(read) => alexa::parse(&read.bytes),
        Err(unread) => {
            egress.tally.rejected();
            let (status, body) = match unread {
                Unread::TooLarge => (StatusCode::PAYLOAD_TOO_LARGE, alexa::constants::TOO_LARGE),
                Unread::Broken => (StatusCode::BAD_REQUEST, alexa::constants::BAD_REQUEST),
                Unread::TooMany => (StatusCode::SERVICE_UNAVAILABLE, alexa::constants::UNAVAILABLE),
            };
            return last(constant(status, body));
        }
    };
    let Ok(directive) = directive else {
        egress.tally.rejected();
        return constant(StatusCode::BAD_REQUEST, alexa::constants::BAD_REQUEST);
    };
    let Some(opened) = authenticate(egress, &head.headers, alexa::token(&directive)) else {
        egress.tally.unauthenticated();
        let body = alexa::constants::for_unauthenticated(Some(&directive));
        // Discovery answers with an empty list, which is well-formed; Alexa asks its customer to link again on 401.
        let status = if directive.is_discovery() { StatusCode::OK } else { StatusCode::UNAUTHORIZED };
        return constant(status, body);
    };
    // Only here: a stranger who sends slowly takes no place of a partner's.
    let slot = Arc::clone(&shared.in_flight).try_acquire_owned();
    let (Ok(slot), Some(_kept)) = (slot, keep(&head.extensions)) else {
        egress.tally.rejected();
        return constant(StatusCode::SERVICE_UNAVAILABLE, alexa::constants::UNAVAILABLE);
    };
    let shared = Arc::clone(&shared);
    let answered = to_its_end(async move {
        let _slot = slot;
        answer(&shared.egress, &opened, &directive).await
    });
    answered.await.unwrap_or_else(|| constant(StatusCode::SERVICE_UNAVAILABLE, alexa::constants::UNAVAILABLE))
}

/// Runs to its end, whoever still waits for it: a caller that hangs up must not leave a change half made. None when it
/// broke.
pub(crate) async fn to_its_end<T: Send + 'static>(work: impl Future<Output = T> + Send + 'static) -> Option<T> {
    tokio::spawn(work).await.ok()
}

/// Keeps the connection until the answer is made; `None` when it has to leave. (A router without a listener, as in tests,
/// has no connections.)
pub(crate) fn keep(extensions: &Extensions) -> Option<Option<Answering>> {
    match extensions.get::<Arc<Seat>>() {
        Some(seat) => seat.answering().map(Some),
        None => Some(None),
    }
}

/// Why a body was not read.
pub(crate) enum Unread {
    TooLarge,
    /// It broke off, or came too slowly.
    Broken,
    /// There is no room for another large one now.
    TooMany,
}

/// A body, with its share of the room for large ones.
pub(crate) struct Read<'a> {
    pub(crate) bytes: Vec<u8>,
    _room: Option<SemaphorePermit<'a>>,
}

pub(crate) async fn read(mut body: Body, bodies: &Semaphore) -> Result<Read<'_>, Unread> {
    if body.size_hint().lower() > BODY_MAX_BYTES as u64 {
        return Err(Unread::TooLarge);
    }
    let whole = async move {
        let mut bytes = Vec::new();
        let mut room: Option<SemaphorePermit<'_>> = None;
        while let Some(frame) = body.frame().await {
            let Ok(data) = frame.map_err(|_| Unread::Broken)?.into_data() else { continue };
            let length = bytes.len() + data.len();
            if length > BODY_MAX_BYTES {
                return Err(Unread::TooLarge);
            }
            let more = length.saturating_sub(bytes.len().max(BODY_OWN_BYTES));
            if more > 0 {
                let more = u32::try_from(more).unwrap_or(u32::MAX);
                let more = bodies.try_acquire_many(more).map_err(|_| Unread::TooMany)?;
                match &mut room {
                    Some(room) => room.merge(more),
                    None => room = Some(more),
                }
            }
            bytes.extend_from_slice(&data);
        }
        Ok(Read { bytes, _room: room })
    };
    tokio::time::timeout(BODY_READ_TIMEOUT, whole).await.unwrap_or(Err(Unread::Broken))
}

/// The link of the token in the directive or in the header. Where both have one, they must be the same.
fn authenticate<A, R>(egress: &Egress<A, R>, headers: &HeaderMap, token: Option<&str>) -> Option<Opened> {
    let header = match headers.get(header::AUTHORIZATION) {
        None => None,
        Some(value) => {
            let (scheme, given) = value.to_str().ok()?.split_once(' ')?;
            Some(Some(given.trim()).filter(|_| scheme.eq_ignore_ascii_case("bearer"))?)
        }
    };
    let token = match (token, header) {
        (Some(token), Some(header)) => Some(token).filter(|t| same_text(t, header))?,
        (token, header) => token.or(header)?,
    };
    let now = egress.clock.now();
    let mut state = egress.state.lock().unwrap_or_else(PoisonError::into_inner);
    state.links.authenticate(token, now)
}

async fn answer<A: Actuator, R: Recorder>(
    egress: &Egress<A, R>,
    opened: &Opened,
    directive: &alexa::Directive,
) -> Response<Body> {
    let link = &opened.link;
    let now = egress.clock.now();
    let mut session = Session::new(
        Arc::clone(&egress.state),
        Arc::clone(&egress.actuator),
        link,
        now,
        directive.message_name().to_owned(),
        uuid_v4(),
    )
    .asked_as(directive.message_id());
    let refused = match &egress.events {
        Some(events) if directive.kind() == alexa::Kind::AcceptGrant => match alexa::grant_code(directive) {
            Some(code) => !events.accept(link, code).await,
            None => true,
        },
        _ => false,
    };
    let reply = if refused {
        alexa::grant_failed(&mut session, directive)
    } else {
        alexa::answer(&mut session, directive).await
    };
    let mut answered = session.finish();
    let deferred = reply.deferred.clone();
    let told: HashSet<&(EndpointId, Property)> = reply.told.iter().collect();
    answered.decided.retain(|d| d.outcome.is_err() || left(link, &told, &d.device, d.property));
    // That this token has come back is stored with the answer: until then its predecessor could still be refreshed.
    if let Some((key, Some(json))) = opened.store.clone() {
        answered.writes.push(StateWrite::new(key, json));
    }
    if reply.left_out > 0 {
        let (link, left_out) = (&link.id, reply.left_out);
        tracing::warn!(%link, left_out, "Alexa takes no more endpoints: these devices were left out of discovery");
    }
    if directive.is_discovery() {
        egress.tally.in_part(&link.id, reply.mixed.clone());
    }
    let outcome = match reply.outcome {
        alexa::Outcome::Answered => Outcome::Answered,
        alexa::Outcome::RefusedByPolicy => Outcome::Refused,
        alexa::Outcome::Error => Outcome::Error,
    };
    let body = reply.wire();
    let asked = asked(link, now, reply.message, outcome, &answered.decided, &answered.echoed, body.len());
    let intent = Intent {
        partner: link.partner.clone(),
        link: link.id.clone(),
        trigger: reply.trigger,
        message: reply.event_name(),
        policy_set: Digest::new(answered.policy_set),
        items: items(&answered.decided),
        more: 0,
    };
    let receipts = match Draft::intent(now, intent, LedgerBody::new(body)) {
        Ok(draft) => egress.recorder.record(vec![draft], answered.writes.clone()).await,
        Err(error) => {
            tracing::error!(%error, "an answer could not be written to the ledger");
            Err(RecordError)
        }
    };
    let receipt = receipts.ok().and_then(|r| r.into_iter().next());
    if receipt.is_some() && !answered.writes.is_empty() {
        egress.state.lock().unwrap_or_else(PoisonError::into_inner).settle(&answered.writes);
    }
    if egress.tally.note(asked, receipt.is_some()) {
        let drafts = egress.tally.take_refusals(now, Digest::new(answered.policy_set));
        // Not waited for: how much was refused, and to whom, must not be heard in the latency of this answer.
        let recorder = Arc::clone(&egress.recorder);
        tokio::spawn(async move {
            if recorder.record(drafts, Vec::new()).await.is_err() {
                tracing::error!("refusals could not be recorded");
            }
        });
    }
    match receipt {
        Some(receipt) => {
            if let (Some(events), Some(deferred)) = (&egress.events, deferred) {
                events.defer(&link.id, deferred);
            }
            recorded(receipt, Arc::clone(&egress.recorder), Arc::clone(&egress.clock))
        }
        None => constant(StatusCode::SERVICE_UNAVAILABLE, alexa::constants::UNAVAILABLE),
    }
}

/// Whether a disclosed property is in the rendered event. What Alexa has no word for was decided, but did not leave: the
/// record must not say that it did.
pub(crate) fn left(
    link: &Link,
    told: &HashSet<&(EndpointId, Property)>,
    device: &DeviceId,
    property: Property,
) -> bool {
    link.endpoints(device).into_iter().any(|(id, _)| told.contains(&(id, property)))
}

pub(crate) fn items(decided: &[Decided]) -> Vec<Item> {
    decided
        .iter()
        .filter_map(|d| {
            let shown = d.outcome.as_ref().ok()?;
            Some(Item {
                device: d.device.clone(),
                property: d.property,
                kind: d.kind,
                rung: shown.rung,
                tick: shown.time,
                policies: d.policies.clone(),
            })
        })
        .collect()
}

pub(crate) fn asked(
    link: &Link,
    time: Timestamp,
    message: &str,
    outcome: Outcome,
    decided: &[Decided],
    echoed: &[(DeviceId, Property, Value, Timestamp)],
    bytes: usize,
) -> Asked {
    let shown = decided.iter().filter_map(|d| {
        let shown = d.outcome.as_ref().ok()?;
        let (device, value) = (d.device.clone(), shown.value.clone());
        Some(Told { device, property: d.property, value, time: shown.time, echo: false })
    });
    let echoes = echoed.iter().map(|(device, property, value, time)| {
        let (device, value) = (device.clone(), value.clone());
        Told { device, property: *property, value, time: *time, echo: true }
    });
    Asked {
        time,
        link: link.id.clone(),
        partner: link.partner.clone(),
        message: message.to_owned(),
        outcome,
        told: shown.chain(echoes).collect(),
        refused: decided
            .iter()
            .filter_map(|d| {
                let refusal = *d.outcome.as_ref().err()?;
                refusal.is_policy().then(|| (d.device.clone(), d.property, d.trigger, refusal))
            })
            .collect(),
        bytes,
    }
}

/// A random UUID (RFC 9562, version 4). Never from a counter: it would tell how much else left.
pub(crate) fn uuid_v4() -> String {
    let mut b = [0u8; 16];
    // Without randomness the id is constant, which tells nothing either.
    let _ = getrandom::fill(&mut b);
    let n =
        u128::from_be_bytes(b) & 0xffff_ffff_ffff_0fff_3fff_ffff_ffff_ffff | 0x0000_0000_0000_4000_8000_0000_0000_0000;
    let hex = format!("{n:032x}");
    let part = |range: std::ops::Range<usize>| hex.get(range).unwrap_or_default();
    [part(0..8), part(8..12), part(12..16), part(16..20), part(20..32)].join("-")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn message_ids_are_random_uuids() {
        let (a, b) = (uuid_v4(), uuid_v4());
        assert_ne!(a, b);
        assert_eq!(a.len(), 36);
        assert_eq!(a.as_bytes()[14], b'4');
        assert!(matches!(a.as_bytes()[19], b'8' | b'9' | b'a' | b'b'));
    }
}
