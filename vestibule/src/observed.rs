//! Demands that nobody wrote: what partners keep asking for although it is refused, and storms of polls. Read from the
//! ledger, each leaf once.

use std::collections::BTreeMap;

use model::{PartnerId, Property, Trigger};
use serde_json::{Value, json};
use store::ledger::{Filter, LIST_MAX, LedgerReader};

/// Leaves looked through when the hub starts; older ones are not summed.
const LEAVES_MAX: u64 = 100_000;

/// A refused property that was asked for this often is an observed demand.
const REFUSED_FROM: u64 = 10;

/// So many polls within one hour of the clock are a storm: one a minute.
const STORM_FROM: u64 = 60;

/// Sums that are kept; partners and properties are few.
const SUMS_MAX: usize = 4096;

#[derive(Default)]
struct Sum {
    count: u64,
    /// The last leaf that tells of it, and its time in milliseconds.
    index: u64,
    time: i64,
}

#[derive(Default)]
struct Polls {
    /// The hour under way, as the beginning of an RFC 3339 time, and its polls.
    hour: String,
    count: u64,
    /// The worst hour.
    worst: Sum,
}

/// The sums so far.
#[derive(Default)]
pub struct Observed {
    next: Option<u64>,
    refused: BTreeMap<(PartnerId, String), Sum>,
    polls: BTreeMap<PartnerId, Polls>,
}

impl Observed {
    /// Reads the leaves that are new since it was called last.
    pub fn read_on(&mut self, reader: &LedgerReader) {
        let size = reader.size().unwrap_or(0);
        let mut next = self.next.unwrap_or_else(|| size.saturating_sub(LEAVES_MAX));
        while next < size {
            let Ok(rows) = reader.list(next, LIST_MAX, &Filter::default()) else { return };
            let Some(last) = rows.last() else { return };
            next = last.index + 1;
            for row in &rows {
                let Some(partner) = &row.partner else { continue };
                match (row.kind, row.trigger) {
                    ("refusals", _) => self.refusals(reader, partner, row.index),
                    ("intent", Some(Trigger::PartnerPoll)) => self.poll(partner, row.index, &row.time),
                    _ => {}
                }
            }
            self.next = Some(next);
        }
        self.next = Some(next);
    }

    fn refusals(&mut self, reader: &LedgerReader, partner: &PartnerId, index: u64) {
        let Ok(Some(shown)) = reader.show(index) else { return };
        let time = shown.leaf.get("time").and_then(Value::as_i64).unwrap_or_default();
        let items = shown.leaf.get("items").and_then(Value::as_array);
        // A poll asks for all that a device can tell. Discovery and the answers to orders withhold too, but nobody asked.
        let asked = |item: &&Value| item.get("trigger").and_then(Value::as_str) == Some(Trigger::PartnerPoll.as_str());
        for item in items.into_iter().flatten().filter(asked) {
            let property = item.get("property").and_then(Value::as_str).unwrap_or_default();
            let key = (partner.clone(), property.to_owned());
            if self.refused.len() >= SUMS_MAX && !self.refused.contains_key(&key) {
                continue;
            }
            let sum = self.refused.entry(key).or_default();
            sum.count += item.get("count").and_then(Value::as_u64).unwrap_or(0);
            (sum.index, sum.time) = (index, time);
        }
    }

    fn poll(&mut self, partner: &PartnerId, index: u64, time: &str) {
        let polls = self.polls.entry(partner.clone()).or_default();
        let hour = time.get(..13).unwrap_or_default();
        if polls.hour != hour {
            (polls.hour, polls.count) = (hour.to_owned(), 0);
        }
        polls.count += 1;
        if polls.count > polls.worst.count {
            let time = time.parse::<jiff::Timestamp>().map_or(0, |t| t.as_millisecond());
            polls.worst = Sum { count: polls.count, index, time };
        }
    }

    /// The demands, as rows of the docket.
    pub fn rows(&self) -> Vec<Value> {
        let row = |partner: &PartnerId, sum: &Sum, what: &str, text: String| {
            json!({
                "index": sum.index, "time": sum.time, "partner": partner, "what": what, "text": text,
                "deadline": null, "threat": null, "observed": true, "count": sum.count,
            })
        };
        let storms = self.polls.iter().filter(|(_, polls)| polls.worst.count >= STORM_FROM).map(|(partner, polls)| {
            let text = format!("read devices {} times within one hour", polls.worst.count);
            row(partner, &polls.worst, "polls within one hour", text)
        });
        let refused = self.refused.iter().filter(|(_, sum)| sum.count >= REFUSED_FROM).map(|((partner, p), sum)| {
            let label = Property::parse(p).map_or("something unknown", Property::label);
            let text = format!("asked for the {label} {} times although it is refused", sum.count);
            row(partner, sum, label, text)
        });
        storms.chain(refused).collect()
    }
}
