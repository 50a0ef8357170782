//! A leaf as one line of a list.

use model::{LinkId, PartnerId, Trigger};
use serde::Serialize;

use crate::digest::Digest;
use crate::leaf::{Entry, Leaf};

/// One line of `ledger list --json`. Every leaf has all the keys; what a type lacks is null.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Row {
    /// Place in the tree.
    pub index: u64,
    /// RFC 3339, UTC, milliseconds.
    pub time: String,
    /// The type of the leaf.
    #[serde(rename = "type")]
    pub kind: &'static str,
    /// The partner concerned.
    pub partner: Option<PartnerId>,
    /// The link concerned.
    pub link: Option<LinkId>,
    /// Why the message left.
    pub trigger: Option<Trigger>,
    /// Kind of the message.
    pub message: Option<String>,
    /// Length of the body in bytes.
    pub bytes: Option<u64>,
    /// SHA-256 of the body as on the wire; null once erased.
    pub body_sha256: Option<Digest>,
    /// For an outcome: the index of its intent.
    pub intent: Option<u64>,
    /// In one line, for people.
    pub summary: String,
}

impl Row {
    /// The row of a leaf, with the plain hash of its body if that is still there.
    pub fn new(leaf: &Leaf, body_sha256: Option<Digest>) -> Self {
        let (trigger, message, intent) = match &leaf.entry {
            Entry::Intent(e) => (Some(e.trigger), Some(e.message.clone()), None),
            Entry::Command(e) => (None, Some(e.message.clone()), None),
            Entry::Outcome(e) => (None, None, Some(e.intent)),
            Entry::More(e) => (None, None, Some(e.of)),
            _ => (None, None, None),
        };
        Self {
            index: leaf.index,
            time: leaf.time.to_rfc3339(),
            kind: leaf.entry.type_name(),
            partner: leaf.entry.partner().cloned(),
            link: leaf.entry.link().cloned(),
            trigger,
            message,
            bytes: leaf.body.map(|b| b.bytes),
            body_sha256: body_sha256.filter(|_| leaf.body.is_some()),
            intent,
            summary: summary(leaf),
        }
    }
}

fn summary(leaf: &Leaf) -> String {
    match &leaf.entry {
        Entry::Genesis(e) => format!("the ledger {} begins", e.origin),
        Entry::Intent(e) => {
            let more = if e.more > 0 { format!(", and {} further leaves of items", e.more) } else { String::new() };
            format!("{} discloses {} items{more}", e.message, e.items.len())
        }
        Entry::More(e) => format!("{} further items of intent {}", e.items.len(), e.of),
        Entry::Outcome(e) => format!("intent {}: {:?}", e.intent, e.result).to_lowercase(),
        Entry::Refusals(e) => {
            let count = e.items.iter().fold(0u64, |sum, item| sum.saturating_add(item.count));
            format!("refused {count} times, {} items, tick {}", e.items.len(), e.tick.to_rfc3339())
        }
        Entry::Command(e) => format!("{} on {}", e.command, e.device),
        Entry::Policy(e) => format!("{} (by {})", e.change, e.by),
        Entry::Demand(e) => match &e.deadline {
            Some(deadline) => format!("{} demands, until {deadline}", e.asked_by),
            None => format!("{} demands", e.asked_by),
        },
        Entry::Link(e) => format!("link {:?}", e.event).to_lowercase(),
    }
}
