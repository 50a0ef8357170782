//! Alexa Smart Home API v3: parse directives, render events from disclosed values.
//!
//! [`parse`] reads what Alexa sends, [`token`] finds the bearer token in it, [`answer`] asks the gate and renders the
//! event. All that an event holds is a disclosed value, a constant, or what that partner itself has sent; the token
//! never comes back. Whoever is not authenticated gets one of the [`constants`].
//!
//! Nothing here knows the time, the network or the home. Facts about the protocol are from Amazon's pages "Alexa
//! Interface Message and Property Reference", "Alexa.Discovery", "Alexa.ThermostatController" and "Alexa.ErrorResponse",
//! and from its published message schema.

pub mod constants;
mod control;
mod directive;
mod discovery;
mod event;
mod fault;
mod interface;
pub mod limits;
pub mod report;
mod strict;

pub use directive::{Directive, Kind, ParseError, grant_code, parse, token};
pub use discovery::Found;
pub use fault::{ERRORS, ErrorRow, Neutral, StateRow};

use disclosure::Gate;
use model::{EndpointId, Property, TemperatureScale, Trigger};
use serde_json::{Value as Json, json};

use crate::event::{plain, reply_to};
use crate::fault::Fault;
use crate::interface::{fill, told_of};

/// How an answer ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Outcome {
    /// Told or done, at least in part.
    Answered,
    /// The household's or the maker's policy refused all of it.
    RefusedByPolicy,
    /// An ErrorResponse for another reason.
    Error,
}

/// An answer, ready to be recorded and sent.
#[derive(Clone, Debug, PartialEq)]
pub struct Reply {
    /// The event; of a Discover.Response without its endpoints.
    event: Json,
    /// The endpoints of a Discover.Response, as they are written.
    endpoints: Vec<String>,
    /// Why it leaves.
    pub trigger: Trigger,
    /// The directive's name for the ledger, as in `Alexa.ReportState`; `unknown` for one that is not known.
    pub message: &'static str,
    /// How it ended.
    pub outcome: Outcome,
    /// Whose disclosed value is in the event. What the gate disclosed and Alexa has no word for is not among them.
    pub told: Vec<(EndpointId, Property)>,
    /// Endpoints left out of a Discover.Response because of [`limits::ENDPOINTS_MAX`].
    pub left_out: usize,
    /// Endpoints in a Discover.Response of which a part alone is granted unasked. Alexa would trust the reports of none of
    /// it, and poll the whole endpoint: nothing of them is promised, and whoever grants should know.
    pub mixed: Vec<EndpointId>,
    /// The event is a DeferredResponse: what has become of it is to be told [`limits::DEFERRAL_S`] later.
    pub deferred: Option<report::Deferred>,
}

/// How a Discover.Response without endpoints ends: between the brackets is where they go.
const NO_ENDPOINTS: &str = "[]}}}";

impl Reply {
    fn new(directive: &Directive, event: Json, outcome: Outcome) -> Self {
        let (trigger, message) = (directive.kind().trigger(), directive.message_name());
        Self {
            event,
            endpoints: Vec::new(),
            trigger,
            message,
            outcome,
            told: Vec::new(),
            left_out: 0,
            mixed: Vec::new(),
            deferred: None,
        }
    }

    /// The event on the wire.
    pub fn wire(&self) -> Vec<u8> {
        let mut text = self.event.to_string();
        if !self.endpoints.is_empty() && text.ends_with(NO_ENDPOINTS) {
            text.truncate(text.len() - NO_ENDPOINTS.len() + 1);
            text.reserve(self.endpoints.iter().map(|e| e.len() + 1).sum::<usize>() + NO_ENDPOINTS.len());
            for (n, endpoint) in self.endpoints.iter().enumerate() {
                if n > 0 {
                    text.push(',');
                }
                text.push_str(endpoint);
            }
            text.push_str(NO_ENDPOINTS.get(1..).unwrap_or_default());
        }
        text.into_bytes()
    }

    /// The event, to be looked into.
    pub fn event(&self) -> Json {
        serde_json::from_slice(&self.wire()).unwrap_or(Json::Null)
    }

    /// The event's name for the ledger, as in `Alexa.StateReport`.
    pub fn event_name(&self) -> String {
        let header = |key: &str| self.event.pointer(&format!("/event/header/{key}")).and_then(Json::as_str);
        format!("{}.{}", header("namespace").unwrap_or_default(), header("name").unwrap_or_default())
    }
}

/// Answers a directive of an authenticated link: every one gets a well-formed event.
pub async fn answer<G: Gate>(gate: &mut G, directive: &Directive) -> Reply {
    match directive.kind() {
        // Always taken, whatever it looks like, so that linking works with nothing told unasked.
        Kind::AcceptGrant => {
            let event = plain(gate, "Alexa.Authorization", "AcceptGrant.Response", json!({}));
            Reply::new(directive, event, Outcome::Answered)
        }
        _ if directive.is_malformed() => refuse(gate, directive, Fault::InvalidDirective, TemperatureScale::Celsius),
        Kind::Discover => discovery::answer(gate, directive),
        Kind::ReportState => report_state(gate, directive),
        Kind::Unknown => refuse(gate, directive, Fault::InvalidDirective, TemperatureScale::Celsius),
        _ => control::answer(gate, directive).await,
    }
}

/// Answers an AcceptGrant whose code was worth nothing.
pub fn grant_failed<G: Gate>(gate: &mut G, directive: &Directive) -> Reply {
    let payload = json!({"type": "ACCEPT_GRANT_FAILED", "message": "The code was not taken. Please link again."});
    let event = plain(gate, "Alexa.Authorization", "ErrorResponse", payload);
    Reply::new(directive, event, Outcome::Error)
}

/// The state as far as it is granted. What is withheld is missing, as if the device had no such property; when all is,
/// the report holds the constant connectivity alone.
fn report_state<G: Gate>(gate: &mut G, directive: &Directive) -> Reply {
    let Some(text) = &directive.endpoint_id else {
        return refuse(gate, directive, Fault::InvalidDirective, TemperatureScale::Celsius);
    };
    let found = EndpointId::new(text.as_str()).ok().and_then(|id| {
        // Asked in any case: a device that is not announced is refused and counted, property by property.
        let told = gate.ask_all(&id, Trigger::PartnerPoll);
        gate.endpoint(&id).map(|view| (view, told))
    });
    let Some((view, told)) = found else {
        return refuse(gate, directive, Fault::NoSuchEndpoint, TemperatureScale::Celsius);
    };
    let filled = fill(&view, &told, gate.now());
    let granted = !told.is_empty() || view.capabilities.iter().any(|c| c.poll);
    let outcome = if granted { Outcome::Answered } else { Outcome::RefusedByPolicy };
    let told = told_of(&view, &filled);
    let properties = filled.into_iter().map(|f| f.json).collect();
    let event = reply_to(gate, directive, "Alexa", "StateReport", json!({}), Some(properties));
    Reply { told, ..Reply::new(directive, event, outcome) }
}

fn refuse<G: Gate>(gate: &mut G, directive: &Directive, fault: Fault, scale: TemperatureScale) -> Reply {
    let event = reply_to(gate, directive, fault.row().namespace, "ErrorResponse", fault.payload(scale), None);
    Reply::new(directive, event, fault.outcome())
}
