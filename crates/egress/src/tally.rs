//! What was asked and what became of it: counted, summed, and told to whoever watches.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use disclosure::Refusal;
use ledger::{Digest, Draft, Refusals, Refused};
use model::{DeviceId, EndpointId, LinkId, PartnerId, Property, Timestamp, Trigger, Value};
use tokio::sync::broadcast;

use crate::limits::{EVENTS_MAX, REFUSAL_KEYS_MAX, REFUSAL_TICK_MS};

/// How a message of a partner ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// It was answered with something.
    Answered,
    /// Policy refused all of it.
    Refused,
    /// It was wrong, or something failed.
    Error,
}

/// Something that a partner was told.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Told {
    /// The device.
    pub device: DeviceId,
    /// The property.
    pub property: Property,
    /// The shaped value.
    pub value: Value,
    /// The time shown with it.
    pub time: Timestamp,
    /// True when it only repeats what the partner itself has just set.
    pub echo: bool,
}

/// One message of a partner and its answer, for whoever watches.
#[derive(Clone, Debug)]
pub struct Asked {
    /// When it was answered.
    pub time: Timestamp,
    /// The link.
    pub link: LinkId,
    /// The partner.
    pub partner: PartnerId,
    /// The directive, as in `Alexa.ReportState`.
    pub message: String,
    /// How it ended.
    pub outcome: Outcome,
    /// What was told.
    pub told: Vec<Told>,
    /// What was refused.
    pub refused: Vec<(DeviceId, Property, Trigger, Refusal)>,
    /// Length of the body that left.
    pub bytes: usize,
}

/// Counts of one link, or of all.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Messages of the partner.
    pub asked: u64,
    /// Of them answered with something.
    pub answered: u64,
    /// Of them refused by policy.
    pub refused: u64,
    /// Of them wrong or failed.
    pub errors: u64,
    /// Values for which an answer had room, and that were withheld.
    pub properties_withheld: u64,
    /// Bodies that left.
    pub messages_out: u64,
    /// Their bytes.
    pub bytes_out: u64,
    /// Distinct facts (device, property, value, sample time) that left.
    pub facts: u64,
}

/// The last sample that a link was told of each property. Sample times only go forward, so that any other one is new.
type LastTold = BTreeMap<(DeviceId, Property), (Value, Timestamp)>;

/// How often each thing was refused.
type RefusalSums = BTreeMap<(DeviceId, Property, Trigger, Refusal), u64>;

#[derive(Default)]
struct Inner {
    all: Counts,
    links: BTreeMap<LinkId, (Counts, LastTold)>,
    refusals: BTreeMap<(PartnerId, LinkId), RefusalSums>,
    refusal_keys: usize,
    demands: Vec<(PartnerId, u64)>,
    unauthenticated: u64,
    rejected: u64,
    not_recorded: u64,
    events_refused: u64,
    in_part: BTreeMap<LinkId, Vec<EndpointId>>,
}

/// Counts and sums of everything that partners asked.
pub struct Tally {
    inner: Mutex<Inner>,
    events: broadcast::Sender<Asked>,
}

fn newest(demands: &[(PartnerId, u64)], partner: &PartnerId) -> Vec<u64> {
    let mut of: Vec<u64> = demands.iter().filter(|(p, _)| p == partner).map(|(_, index)| *index).collect();
    of.sort_unstable();
    of.split_off(of.len().saturating_sub(ledger::limits::DEMANDS_MAX))
}

/// How many of the things told are new, and notes them.
fn new_facts(last: &mut LastTold, asked: &Asked) -> u64 {
    let mut new = 0;
    for t in asked.told.iter().filter(|t| !t.echo) {
        let sample = (t.value.clone(), t.time);
        let before = last.insert((t.device.clone(), t.property), sample.clone());
        new += u64::from(before.is_none_or(|b| b != sample));
    }
    new
}

impl Default for Tally {
    fn default() -> Self {
        Self { inner: Mutex::default(), events: broadcast::Sender::new(EVENTS_MAX) }
    }
}

impl Tally {
    /// Messages as they are answered. A slow reader loses the oldest and is told so.
    pub fn watch(&self) -> broadcast::Receiver<Asked> {
        self.events.subscribe()
    }

    /// Counts of all links, those that are gone too.
    pub fn all(&self) -> Counts {
        self.lock().all
    }

    /// Counts of one link.
    pub fn link(&self, link: &LinkId) -> Counts {
        self.lock().links.get(link).map(|(c, _)| *c).unwrap_or_default()
    }

    /// Drops the counts of a link that has ended; they stay in the sum of all. Its refusals are still recorded.
    pub fn forget(&self, link: &LinkId) {
        let mut inner = self.lock();
        inner.links.remove(link);
        inner.in_part.remove(link);
    }

    /// Requests without a valid token, requests that were no directive or too large, and answers that were held back
    /// because they could not be recorded.
    pub fn constant_answers(&self) -> (u64, u64, u64) {
        let inner = self.lock();
        (inner.unauthenticated, inner.rejected, inner.not_recorded)
    }

    /// Endpoints of a link of which a part alone is granted unasked: nothing of them is sent so. Said when it is news.
    pub(crate) fn in_part(&self, link: &LinkId, endpoints: Vec<EndpointId>) {
        let mut inner = self.lock();
        if inner.in_part.get(link).map_or(&[][..], Vec::as_slice) == endpoints {
            return;
        }
        if !endpoints.is_empty() {
            let count = endpoints.len();
            tracing::warn!(%link, count, "devices are granted unasked in part alone, and nothing of them is sent so: see `vestibule links`");
        }
        inner.in_part.insert(link.clone(), endpoints);
    }

    /// Those endpoints, as of the last look.
    pub fn granted_in_part(&self, link: &LinkId) -> Vec<EndpointId> {
        self.lock().in_part.get(link).cloned().unwrap_or_default()
    }

    /// Events that a partner found wrong, and that were dropped.
    pub fn events_refused(&self) -> u64 {
        self.lock().events_refused
    }

    pub(crate) fn event_refused(&self) {
        self.lock().events_refused += 1;
    }

    pub(crate) fn unauthenticated(&self) {
        self.lock().unauthenticated += 1;
    }

    pub(crate) fn rejected(&self) {
        self.lock().rejected += 1;
    }

    /// Notes an answered message; gives true when the sum of refusals should be recorded early.
    pub(crate) fn note(&self, asked: Asked, recorded: bool) -> bool {
        let full = {
            let mut inner = self.lock();
            let inner = &mut *inner;
            let (counts, last) = inner.links.entry(asked.link.clone()).or_default();
            let new_facts = if recorded { new_facts(last, &asked) } else { 0 };
            for c in [counts, &mut inner.all] {
                c.asked += 1;
                match asked.outcome {
                    Outcome::Answered => c.answered += 1,
                    Outcome::Refused => c.refused += 1,
                    Outcome::Error => c.errors += 1,
                }
                c.properties_withheld += asked.refused.len() as u64;
                c.messages_out += u64::from(recorded);
                c.bytes_out += if recorded { asked.bytes as u64 } else { 0 };
                c.facts += new_facts;
            }
            inner.not_recorded += u64::from(!recorded);
            let sums = inner.refusals.entry((asked.partner.clone(), asked.link.clone())).or_default();
            for key in &asked.refused {
                let before = sums.len();
                *sums.entry(key.clone()).or_default() += 1;
                inner.refusal_keys += sums.len() - before;
            }
            inner.refusal_keys >= REFUSAL_KEYS_MAX
        };
        // Nobody watching is no error.
        let _ = self.events.send(asked);
        full
    }

    /// Notes a message that nobody asked for, and that is on record.
    pub(crate) fn unasked(&self, sent: Asked) {
        {
            let mut inner = self.lock();
            let inner = &mut *inner;
            let (counts, last) = inner.links.entry(sent.link.clone()).or_default();
            let new_facts = new_facts(last, &sent);
            for c in [counts, &mut inner.all] {
                c.messages_out += 1;
                c.bytes_out += sent.bytes as u64;
                c.facts += new_facts;
            }
        }
        let _ = self.events.send(sent);
    }

    /// Notes a written demand: the partner, and the index of its leaf. Refusals refer to it.
    pub fn demand(&self, partner: PartnerId, index: u64) {
        self.lock().demands.push((partner, index));
    }

    /// The written demands: partner and index of the leaf.
    pub fn demands(&self) -> Vec<(PartnerId, u64)> {
        self.lock().demands.clone()
    }

    /// The newest written demands of a partner, as many as a leaf can refer to, in order.
    pub fn demands_of(&self, partner: &PartnerId) -> Vec<u64> {
        newest(&self.lock().demands, partner)
    }

    /// Takes the refusals summed so far, as drafts of one leaf per link.
    pub fn take_refusals(&self, now: Timestamp, policy_set: Digest) -> Vec<Draft> {
        let (sums, demands) = {
            let mut inner = self.lock();
            inner.refusal_keys = 0;
            (std::mem::take(&mut inner.refusals), inner.demands.clone())
        };
        let tick = now.floor_to(REFUSAL_TICK_MS);
        let mut drafts = Vec::new();
        for ((partner, link), sums) in sums {
            if sums.is_empty() {
                continue;
            }
            let items = sums
                .into_iter()
                .map(|((device, property, trigger, reason), count)| Refused {
                    device,
                    property,
                    trigger,
                    reason: reason.as_str().to_owned(),
                    count,
                })
                .collect();
            let demands = newest(&demands, &partner);
            match Draft::refusals(now, Refusals { partner, link, tick, policy_set, items, demands }) {
                Ok(draft) => drafts.push(draft),
                Err(error) => tracing::error!(%error, "refusals could not be written"),
            }
        }
        drafts
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_leaf_refers_to_the_newest_demands_of_its_partner_however_many_there_are() {
        let (alexa, other) = (PartnerId::new("alexa").unwrap(), PartnerId::new("other").unwrap());
        let tally = Tally::default();
        let most = ledger::limits::DEMANDS_MAX as u64;
        (0..most + 9).for_each(|index| tally.demand(if index % 4 == 3 { other.clone() } else { alexa.clone() }, index));
        (0..most).for_each(|index| tally.demand(alexa.clone(), 1000 + index));
        assert_eq!(tally.demands_of(&alexa), (1000..1000 + most).collect::<Vec<_>>());
        assert!(tally.demands_of(&other).iter().all(|index| index % 4 == 3));
        assert_eq!(tally.demands().len() as u64, 2 * most + 9);
    }
}
