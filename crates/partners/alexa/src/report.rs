//! What goes to Alexa unasked: ChangeReport, AddOrUpdateReport, DeleteReport. From disclosed values and constants alone, like
//! every answer; the token is put in last, so that what is kept beside the record never has one.

use std::collections::BTreeMap;

use disclosure::Gate;
use model::{EndpointId, Property, Rung, Trigger};
use serde_json::{Map, Value as Json, json};

use crate::discovery::{self, Found, Promise, promise};
use crate::event::{one, plain, unasked};
use crate::interface::{SLOTS, fill, told_of};
use crate::limits::{REPORT_ENDPOINTS_MAX, REPORT_MAX_BYTES};

/// The cause of every change. Amazon documents it for sensors that are read at intervals, which is what the grid does; any
/// other would tell whether somebody touched the thing, spoke to it, or used an app.
const CAUSE: &str = "PERIODIC_POLL";

/// What stands in place of the token in what is kept.
const REDACTED: &str = "redacted";

/// What an endpoint was last reported to be: by Alexa's property (with its instance), the value.
pub type Reported = BTreeMap<String, Json>;

/// A message that nobody asked for, ready but for its token.
#[derive(Clone, Debug, PartialEq)]
pub struct Report {
    event: Json,
    /// Where the scope stands: `endpoint` or `payload`.
    place: &'static str,
    /// Why it leaves.
    pub trigger: Trigger,
    /// Its name for the ledger, as in `Alexa.ChangeReport`.
    pub message: &'static str,
    /// Whose disclosed value is in it.
    pub told: Vec<(EndpointId, Property)>,
}

impl Report {
    /// The bytes for the wire, with the token.
    pub fn wire(&self, token: &str) -> Vec<u8> {
        let mut json = self.event.clone();
        let place = json.get_mut("event").and_then(|e| e.get_mut(self.place));
        if let Some(Json::Object(place)) = place {
            place.insert("scope".to_owned(), json!({"type": "BearerToken", "token": token}));
        }
        json.to_string().into_bytes()
    }

    /// The bytes that are kept beside the record.
    pub fn kept(&self) -> Vec<u8> {
        self.wire(REDACTED)
    }
}

/// What has changed of an endpoint since `before`, as far as it is granted unasked, with the whole of what it is reported
/// to be from then on. `None` when there is nothing to say. `live_ms` is the interval at which exact values are looked at.
pub fn change<G: Gate>(gate: &mut G, id: &EndpointId, before: &Reported, live_ms: i64) -> Option<(Report, Reported)> {
    let view = gate.endpoint(id)?;
    // What Discovery did not promise to report is not reported.
    if promise(&view) != Promise::All {
        return None;
    }
    let told = gate.ask_all(id, Trigger::ProactiveReport);
    let live = |p: Property| told.iter().any(|d| d.property() == p && d.rung() == Rung::Live);
    let (mut now, mut changed, mut same) = (Reported::new(), Vec::new(), Vec::new());
    let filled = fill(&view, &told, gate.now());
    let mut named = Vec::new();
    for mut filled in filled {
        // A constant is no news.
        let slot = SLOTS.get(filled.slot).filter(|s| s.proactive(&view));
        let (Some(slot), Some(tells)) = (slot, filled.tells) else { continue };
        if live(tells)
            && let Json::Object(p) = &mut filled.json
        {
            p.insert("uncertaintyInMilliseconds".to_owned(), live_ms.into());
        }
        let instance = slot.interface.instance().unwrap_or_default();
        let key = format!("{}/{instance}/{}", slot.interface.namespace(), slot.name);
        let value = filled.json.get("value").cloned().unwrap_or(Json::Null);
        if before.get(&key) == Some(&value) {
            same.push(filled.json.clone());
        } else {
            changed.push(filled.json.clone());
        }
        now.insert(key, value);
        named.push(filled);
    }
    if changed.is_empty() {
        return None;
    }
    let told = told_of(&view, &named);
    let change = json!({"change": {"cause": {"type": CAUSE}, "properties": changed}});
    let event = unasked(gate, "Alexa", "ChangeReport", id, change, same);
    let report =
        Report { event, place: "endpoint", trigger: Trigger::ProactiveReport, message: "Alexa.ChangeReport", told };
    Some((report, now))
}

/// A directive whose outcome is told later.
#[derive(Clone, Debug, PartialEq)]
pub struct Deferred {
    /// Of which endpoint.
    pub endpoint: EndpointId,
    /// The directive's correlation token: it comes back.
    pub correlation: String,
    /// What the directive itself said, as a context has it.
    pub said: Vec<Json>,
}

/// What has become of a directive that was deferred: how things are by now, as far as the link may see it after its own
/// commands. A link that may not see it is told what it said itself. `None` when the endpoint is this link's no more.
pub fn outcome<G: Gate>(gate: &mut G, deferred: &Deferred) -> Option<Report> {
    let view = gate.endpoint(&deferred.endpoint)?;
    let told = gate.ask_all(&deferred.endpoint, Trigger::DirectiveResponse);
    let filled = fill(&view, &told, gate.now());
    let told = told_of(&view, &filled);
    let mut context: Vec<Json> = filled.into_iter().map(|f| f.json).collect();
    for said in &deferred.said {
        let is_same = |p: &Json| ["namespace", "instance", "name"].iter().all(|key| p.get(*key) == said.get(*key));
        if !context.iter().any(is_same) {
            context.push(said.clone());
        }
    }
    let mut event = unasked(gate, "Alexa", "Response", &deferred.endpoint, json!({}), context);
    if let Some(Json::Object(header)) = event.pointer_mut("/event/header") {
        header.insert("correlationToken".to_owned(), deferred.correlation.as_str().into());
    }
    Some(Report { event, place: "endpoint", trigger: Trigger::DirectiveResponse, message: "Alexa.Response", told })
}

/// The endpoints as Discovery tells them.
pub fn endpoints<G: Gate>(gate: &mut G) -> Found {
    discovery::endpoints(gate)
}

/// An endpoint as Discovery tells it: its id, what is told, and whose disclosed values are in that.
pub type Endpoint = (EndpointId, String, Vec<Property>);

/// Parts of so many endpoints, and so long, that Amazon takes each in one message.
pub fn chunks(endpoints: Vec<Endpoint>) -> Vec<Vec<Endpoint>> {
    let mut chunks: Vec<(usize, Vec<Endpoint>)> = Vec::new();
    for endpoint in endpoints {
        let bytes = endpoint.1.len() + 1;
        match chunks.last_mut() {
            Some((sum, chunk)) if chunk.len() < REPORT_ENDPOINTS_MAX && *sum + bytes <= REPORT_MAX_BYTES => {
                *sum += bytes;
                chunk.push(endpoint);
            }
            _ => chunks.push((bytes, vec![endpoint])),
        }
    }
    chunks.into_iter().map(|(_, chunk)| chunk).collect()
}

/// New and changed endpoints: one of the [`chunks`].
pub fn add_or_update<G: Gate>(gate: &mut G, chunk: &[Endpoint]) -> Report {
    let told = chunk.iter().flat_map(|(id, _, told)| told.iter().map(|p| (id.clone(), *p))).collect();
    let list = chunk.iter().filter_map(|(_, json, _)| serde_json::from_str(json).ok()).collect();
    management(gate, "AddOrUpdateReport", "Alexa.Discovery.AddOrUpdateReport", list, told)
}

/// Endpoints that are no more, at most [`REPORT_ENDPOINTS_MAX`] of them.
pub fn delete<G: Gate>(gate: &mut G, gone: &[EndpointId]) -> Report {
    let list = gone.iter().map(|id| one("endpointId", id.as_str().into())).collect();
    management(gate, "DeleteReport", "Alexa.Discovery.DeleteReport", list, Vec::new())
}

fn management<G: Gate>(
    gate: &mut G,
    name: &str,
    message: &'static str,
    endpoints: Vec<Json>,
    told: Vec<(EndpointId, Property)>,
) -> Report {
    let mut payload = Map::new();
    payload.insert("endpoints".to_owned(), endpoints.into());
    let event = plain(gate, "Alexa.Discovery", name, payload.into());
    Report { event, place: "payload", trigger: Trigger::Discovery, message, told }
}
