//! Events and the properties in them.

use disclosure::{Disclosed, Gate};
use model::{EndpointId, Rung, Timestamp};
use serde_json::{Map, Value as Json, json};

use crate::directive::Directive;

/// How far a value on the rung `live` may be behind the device, in milliseconds. A constant, as all of these are: a
/// measured one would tell how the home's network fares.
const LIVE_UNCERTAINTY_MS: i64 = 500;

/// Longest quarter of a day: seven hours, when summer time ends.
const QUARTER_DAY_MAX_MS: i64 = 7 * 3_600_000;

/// Longest day: 25 hours, when summer time ends.
const DAY_MAX_MS: i64 = 25 * 3_600_000;

/// The grid on which the constant connectivity is dated, so that asking again within the hour gets the same bytes.
pub(crate) const CONSTANT_GRID_MS: i64 = 3_600_000;

/// `uncertaintyInMilliseconds` of a rung: at least the time for which it holds a value, and of a mean the window too, in which
/// it was so at some moment.
pub(crate) fn uncertainty_ms(rung: Rung) -> i64 {
    match rung {
        Rung::Live => LIVE_UNCERTAINTY_MS,
        Rung::QuarterHour => 15 * 60_000,
        Rung::Hour | Rung::HourCoarse | Rung::HourSteady => 3_600_000,
        Rung::HourMean | Rung::HourLate => 2 * 3_600_000,
        Rung::QuarterDayCoarse => QUARTER_DAY_MAX_MS,
        Rung::DayCoarse => DAY_MAX_MS,
        Rung::DayMean | Rung::DayCount => DAY_MAX_MS + 24 * 3_600_000,
    }
}

/// A property in a context.
pub(crate) fn property(
    namespace: &str,
    instance: Option<&str>,
    name: &str,
    value: Json,
    time: Timestamp,
    rung: Rung,
) -> Json {
    let mut p = Map::new();
    p.insert("namespace".to_owned(), namespace.into());
    if let Some(instance) = instance {
        p.insert("instance".to_owned(), instance.into());
    }
    p.insert("name".to_owned(), name.into());
    p.insert("value".to_owned(), value);
    p.insert("timeOfSample".to_owned(), time.to_rfc3339().into());
    p.insert("uncertaintyInMilliseconds".to_owned(), uncertainty_ms(rung).into());
    Json::Object(p)
}

/// The value of a disclosed property at its own time and rung.
pub(crate) fn disclosed(namespace: &str, instance: Option<&str>, name: &str, value: Json, d: &Disclosed) -> Json {
    property(namespace, instance, name, value, d.time(), d.rung())
}

/// An event that answers nothing in particular: no correlation token, no endpoint.
pub(crate) fn plain<G: Gate>(gate: &mut G, namespace: &str, name: &str, payload: Json) -> Json {
    // Put together by hand: the macro would copy the payload, which of a Discover.Response is long.
    let mut event = Map::new();
    event.insert("header".to_owned(), header(gate, namespace, name).into());
    event.insert("payload".to_owned(), payload);
    one("event", event.into())
}

/// An event that answers a directive: the correlation token and the endpoint id of the partner come back to it.
pub(crate) fn reply_to<G: Gate>(
    gate: &mut G,
    directive: &Directive,
    namespace: &str,
    name: &str,
    payload: Json,
    context: Option<Vec<Json>>,
) -> Json {
    let mut header = header(gate, namespace, name);
    if let Some(token) = &directive.correlation_token {
        header.insert("correlationToken".to_owned(), token.as_str().into());
    }
    let mut event = Map::new();
    event.insert("header".to_owned(), header.into());
    if let Some(id) = &directive.endpoint_id {
        event.insert("endpoint".to_owned(), json!({"endpointId": id}));
    }
    event.insert("payload".to_owned(), payload);
    let mut reply = Map::new();
    reply.insert("event".to_owned(), event.into());
    if let Some(properties) = context {
        reply.insert("context".to_owned(), one("properties", properties.into()));
    }
    Json::Object(reply)
}

/// An event of Alexa's own that answers a directive and names no endpoint.
pub(crate) fn reply_to_none<G: Gate>(gate: &mut G, directive: &Directive, name: &str, payload: Json) -> Json {
    let mut event = plain(gate, "Alexa", name, payload);
    if let (Some(token), Some(Json::Object(header))) =
        (&directive.correlation_token, event.pointer_mut("/event/header"))
    {
        header.insert("correlationToken".to_owned(), token.as_str().into());
    }
    event
}

/// An event about an endpoint that answers nothing. Its scope is put in when it is sent.
pub(crate) fn unasked<G: Gate>(
    gate: &mut G,
    namespace: &str,
    name: &str,
    endpoint: &EndpointId,
    payload: Json,
    context: Vec<Json>,
) -> Json {
    let mut event = Map::new();
    event.insert("header".to_owned(), header(gate, namespace, name).into());
    event.insert("endpoint".to_owned(), json!({"endpointId": endpoint.as_str()}));
    event.insert("payload".to_owned(), payload);
    let mut message = Map::new();
    message.insert("event".to_owned(), event.into());
    message.insert("context".to_owned(), one("properties", context.into()));
    Json::Object(message)
}

/// An object with one member, which is moved into it.
pub(crate) fn one(key: &str, value: Json) -> Json {
    Json::Object(Map::from_iter([(key.to_owned(), value)]))
}

fn header<G: Gate>(gate: &mut G, namespace: &str, name: &str) -> Map<String, Json> {
    let mut header = Map::new();
    header.insert("namespace".to_owned(), namespace.into());
    header.insert("name".to_owned(), name.into());
    header.insert("payloadVersion".to_owned(), "3".into());
    header.insert("messageId".to_owned(), gate.message_id().into());
    header
}

#[cfg(test)]
mod tests {
    use model::{ALL_RUNGS, Grid};

    use super::*;

    #[test]
    fn the_uncertainty_covers_the_interval_and_depends_on_the_rung_alone() {
        for rung in ALL_RUNGS {
            let interval = match rung.grid() {
                Grid::None => 0,
                Grid::Every(ms) => ms,
                Grid::Hour => 3_600_000,
                Grid::QuarterDay => 7 * 3_600_000,
                Grid::Day => 25 * 3_600_000,
            };
            assert!(uncertainty_ms(rung) >= interval, "{rung}");
        }
    }
}
