//! One partner, over recorded days.

use std::collections::{BTreeMap, HashSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};

use alexa::report;
use gate::{Actuator, ActuatorError, Decided, GateState, Order, REPORT_GRID_MS, Session};
use home::Reading;
use links::Link;
use model::{DeviceId, EndpointId, Property, Timestamp, Trigger};
use policy::Table;
use serde_json::{Value as Json, json};

use crate::{Fact, Recorded, Sent, Span};

/// Stands in place of what a partner puts into a question for itself and gets back. Amazon's is some hundred bytes longer,
/// and the same in every answer.
const PRETENDED: &str = "pretended";

/// Stands in place of a message's random id, and is as long.
const MESSAGE_ID: &str = "00000000-0000-4000-8000-000000000000";

/// The shortest grid of the ladder: at its ticks held values may move on without a reading.
const SHORTEST_GRID_MS: i64 = 15 * 60_000;

/// Why nothing can be played.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ExposeError {
    /// The partner's own words could not be made.
    #[error("a question of the pretended partner is no directive: this is a fault of the program, please report it")]
    Question,
    /// Nothing says what is granted.
    #[error("there is no table to decide by: this is a fault of the program, please report it")]
    NoTable,
    /// It asks without a pause.
    #[error("a partner can't ask every {0} ms: say 1 or more")]
    Pause(i64),
}

/// No command is played.
struct Nothing;

impl Actuator for Nothing {
    async fn carry_out(&self, _: Order) -> Result<(), ActuatorError> {
        Err(ActuatorError::NotSupported)
    }
}

/// Plays recorded days to a partner: what is sent to it goes to `sink`, in order.
///
/// The partner asks for each device that it knows of at the multiples of `poll_ms` milliseconds, and is told unasked what is
/// granted unasked, as once events are set up. Discovery is asked for once, at the start.
///
/// `tables` are what is granted, each from a time on, in order; the first stands from before the start, so that then the
/// partner holds what it would hold. More than one there are where grants count at some times alone. Rounds of
/// what is told unasked, which go on every ten seconds, are played where anything can differ from the last: after a reading,
/// and at each tick of the ladder.
///
/// # Errors
/// When the pretended partner can't ask.
pub fn expose(
    recorded: &Recorded,
    (link, tables): (&Link, &[(Timestamp, Arc<Table>)]),
    span: Span,
    poll_ms: i64,
    mut sink: impl FnMut(Sent),
) -> Result<(), ExposeError> {
    if poll_ms < 1 {
        return Err(ExposeError::Pause(poll_ms));
    }
    let Some(((_, table), later)) = tables.split_first() else { return Err(ExposeError::NoTable) };
    let mut later = later.iter().peekable();
    let mut state = GateState::new(recorded.zone.clone(), Arc::clone(table));
    for (id, device) in &recorded.devices {
        state.registry.restore(id.clone(), device.clone());
    }
    state.links.insert(link.clone());
    let mut readings = recorded.readings.iter().peekable();
    while let Some(reading) = readings.next_if(|r| r.time <= span.from) {
        state.report(reading.clone());
    }
    state.resume(Arc::clone(table));
    let unasked = is_told_unasked(recorded, link, table);
    state.set_reporting(&link.id, unasked);
    // What a device is called on the link may have been set just now.
    let link = state.links.get(&link.id).cloned().unwrap_or_else(|| link.clone());
    let mut partner = Partner {
        state: Arc::new(Mutex::new(state)),
        nothing: Arc::new(Nothing),
        link,
        reported: None,
        endpoints: Vec::new(),
    };
    partner.discover(span.from, &mut sink)?;
    let next = |time: Timestamp, grid: i64| time.plus_millis(-1).floor_to(grid).plus_millis(grid);
    let mut poll = next(span.from, poll_ms);
    let mut tick = next(span.from, SHORTEST_GRID_MS);
    // The tick at which a reading that has come in is told.
    let mut due: Option<Timestamp> = None;
    loop {
        let coming = readings.peek().map(|r| told_at(r));
        let round = [Some(tick), due, coming].into_iter().flatten().min().filter(|_| unasked);
        let next_table = later.peek().map(|(at, _)| *at);
        let now = round.into_iter().chain(next_table).fold(poll, Timestamp::min);
        if now >= span.to {
            return Ok(());
        }
        let mut due_at = |at: Timestamp| due = Some(due.map_or(at, |due| due.min(at)));
        while let Some(reading) = readings.next_if(|r| r.time <= now) {
            due_at(told_at(reading));
            partner.lock().report(reading.clone());
        }
        if let Some((_, table)) = later.next_if(|(at, _)| *at <= now) {
            partner.lock().replace_table(Arc::clone(table), now);
            // What began or ended is told by the next round, which may be this moment's.
            due_at(now.plus_millis(-1).floor_to(REPORT_GRID_MS).plus_millis(REPORT_GRID_MS));
            continue;
        }
        if round == Some(now) {
            partner.round(now, &mut sink);
            due = due.filter(|due| *due > now);
            tick = next(now.plus_millis(1), SHORTEST_GRID_MS);
        }
        if poll == now {
            partner.poll(now, &mut sink)?;
            poll = poll.plus_millis(poll_ms);
        }
    }
}

/// Whether anything at all is granted unasked. Without, no round is begun: the right to send would not be asked for.
fn is_told_unasked(recorded: &Recorded, link: &Link, table: &Table) -> bool {
    let told = |device: &DeviceId, property: Property| {
        // Also what is told at some times alone.
        table.promised().decide(&link.id, device, property, Trigger::ProactiveReport).rung.is_ok()
    };
    recorded.devices.iter().any(|(id, device)| device.pins.keys().any(|property| told(id, *property)))
}

/// The first round that can tell of a reading.
fn told_at(reading: &Reading) -> Timestamp {
    reading.time.floor_to(REPORT_GRID_MS).plus_millis(REPORT_GRID_MS)
}

struct Partner {
    state: Arc<Mutex<GateState>>,
    nothing: Arc<Nothing>,
    link: Link,
    /// What it has been told unasked, once it was told that there is something.
    reported: Option<BTreeMap<EndpointId, report::Reported>>,
    /// What it knows of from Discovery.
    endpoints: Vec<String>,
}

impl Partner {
    fn lock(&self) -> MutexGuard<'_, GateState> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn session(&self, now: Timestamp, message: &str) -> Session<Nothing> {
        let (state, nothing) = (Arc::clone(&self.state), Arc::clone(&self.nothing));
        Session::new(state, nothing, &self.link, now, message.to_owned(), MESSAGE_ID.to_owned())
    }

    /// Which of the gate's decisions is in a message.
    fn facts(&self, decided: &[Decided], told: &[(EndpointId, Property)]) -> Vec<Fact> {
        let told: HashSet<&(EndpointId, Property)> = told.iter().collect();
        let fact = |d: &Decided| {
            let shown = d.outcome.as_ref().ok()?;
            self.link.endpoints(&d.device).into_iter().any(|(id, _)| told.contains(&(id, d.property))).then(|| Fact {
                device: d.device.clone(),
                property: d.property,
                time: shown.time,
                value: shown.value.clone(),
            })
        };
        decided.iter().filter_map(fact).collect()
    }

    fn discover(&mut self, now: Timestamp, sink: &mut impl FnMut(Sent)) -> Result<(), ExposeError> {
        let asked = json!({"directive": {
            "header": {"namespace": "Alexa.Discovery", "name": "Discover", "payloadVersion": "3", "messageId": PRETENDED},
            "payload": {},
        }});
        let answer = self.ask(now, &asked, None, sink)?;
        let endpoints = answer.pointer("/event/payload/endpoints").and_then(Json::as_array);
        let id = |endpoint: &Json| endpoint.get("endpointId").and_then(Json::as_str).map(str::to_owned);
        self.endpoints = endpoints.into_iter().flatten().filter_map(id).collect();
        Ok(())
    }

    fn poll(&mut self, now: Timestamp, sink: &mut impl FnMut(Sent)) -> Result<(), ExposeError> {
        for endpoint in self.endpoints.clone() {
            let asked = json!({"directive": {
                "header": {
                    "namespace": "Alexa", "name": "ReportState", "payloadVersion": "3",
                    "messageId": PRETENDED, "correlationToken": PRETENDED,
                },
                "endpoint": {"endpointId": endpoint, "cookie": {}},
                "payload": {},
            }});
            self.ask(now, &asked, EndpointId::new(endpoint).ok(), sink)?;
        }
        Ok(())
    }

    /// Asks, and gives the answer, which has gone to `sink` too.
    fn ask(
        &mut self,
        now: Timestamp,
        asked: &Json,
        endpoint: Option<EndpointId>,
        sink: &mut impl FnMut(Sent),
    ) -> Result<Json, ExposeError> {
        // Without a token: who asks is known, and the token would be taken off.
        let parsed = alexa::parse(asked.to_string().as_bytes()).ok();
        let directive = parsed.filter(|d| !d.is_malformed()).ok_or(ExposeError::Question)?;
        let mut session = self.session(now, directive.message_name());
        let reply = at_once(alexa::answer(&mut session, &directive)).ok_or(ExposeError::Question)?;
        let decided = session.finish().decided;
        sink(Sent {
            time: now,
            message: reply.event_name(),
            trigger: reply.trigger,
            endpoint,
            body: reply.wire(),
            facts: self.facts(&decided, &reply.told),
        });
        Ok(reply.event())
    }

    /// One round of what is told unasked, as the hub makes it: first which devices there are, then what has changed.
    fn round(&mut self, now: Timestamp, sink: &mut impl FnMut(Sent)) {
        let mut reported = match self.reported.take() {
            Some(reported) => reported,
            None => self.announce(now, sink),
        };
        for (id, before) in &mut reported {
            let mut session = self.session(now, "Alexa.ChangeReport");
            let Some((report, state)) = report::change(&mut session, id, before, REPORT_GRID_MS) else { continue };
            *before = state;
            let decided = session.finish().decided;
            self.sent(now, &report, Some(id.clone()), &decided, sink);
        }
        self.reported = Some(reported);
    }

    /// Tells which devices there are. In recorded days they stay the same, so that it is told once.
    fn announce(&self, now: Timestamp, sink: &mut impl FnMut(Sent)) -> BTreeMap<EndpointId, report::Reported> {
        let mut session = self.session(now, "Alexa.Discovery.AddOrUpdateReport");
        let found = report::endpoints(&mut session).endpoints;
        let decided = session.finish().decided;
        let ids = found.iter().map(|(id, ..)| (id.clone(), report::Reported::new())).collect();
        for chunk in report::chunks(found) {
            let mut session = self.session(now, "Alexa.Discovery.AddOrUpdateReport");
            let report = report::add_or_update(&mut session, &chunk);
            self.sent(now, &report, None, &decided, sink);
        }
        ids
    }

    fn sent(
        &self,
        now: Timestamp,
        report: &report::Report,
        endpoint: Option<EndpointId>,
        decided: &[Decided],
        sink: &mut impl FnMut(Sent),
    ) {
        sink(Sent {
            time: now,
            message: report.message.to_owned(),
            trigger: report.trigger,
            endpoint,
            body: report.kept(),
            facts: self.facts(decided, &report.told),
        });
    }
}

/// What a future gives that never waits: an answer waits for commands alone, and none is given here.
fn at_once<F: Future>(future: F) -> Option<F::Output> {
    match std::pin::pin!(future).poll(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(output) => Some(output),
        Poll::Pending => None,
    }
}
