//! Drafts: what to append. A draft has been checked against the limits, so that appending it can only fail for reasons
//! of the store; it has no index yet.

use std::sync::Arc;

use model::Timestamp;

use crate::canonical;
use crate::leaf::{self, Command, Demand, Entry, Genesis, Intent, LeafError, Link, More, Outcome, Policy, Refusals};
use crate::limits::{BODY_MAX_BYTES, ITEMS_MAX_BYTES};

/// What to append.
#[derive(Clone, Debug)]
pub struct Draft {
    pub(crate) time: Timestamp,
    pub(crate) entry: Entry,
    pub(crate) body: Option<Body>,
}

/// The body of a draft.
#[derive(Clone)]
pub struct Body {
    /// The bytes on the wire.
    pub(crate) wire: Arc<[u8]>,
    /// What is kept instead, when secrets had to be replaced.
    pub(crate) redacted: Option<Arc<[u8]>>,
}

impl Body {
    /// A body that is kept as it is. It must hold no token.
    pub fn new(wire: impl Into<Arc<[u8]>>) -> Self {
        Self { wire: wire.into(), redacted: None }
    }

    /// A body with secrets: `wire` goes over the network, `kept` is stored.
    pub fn redacted(wire: impl Into<Arc<[u8]>>, kept: impl Into<Arc<[u8]>>) -> Self {
        Self { wire: wire.into(), redacted: Some(kept.into()) }
    }

    /// What is stored.
    pub(crate) fn kept(&self) -> &Arc<[u8]> {
        self.redacted.as_ref().unwrap_or(&self.wire)
    }
}

impl std::fmt::Debug for Body {
    // Bodies hold what the household disclosed, and tokens: not for logs.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Body({} bytes)", self.wire.len())
    }
}

impl Draft {
    /// A message that is about to leave. All its items go into `intent.items`; the log splits them over leaves.
    ///
    /// # Errors
    /// When a limit of the spec is exceeded.
    pub fn intent(time: Timestamp, intent: Intent, body: Body) -> Result<Self, LeafError> {
        Self::new(time, Entry::Intent(Intent { more: 0, ..intent }), Some(body))
    }

    /// What was refused to one link in one tick.
    ///
    /// # Errors
    /// When a limit of the spec is exceeded.
    pub fn refusals(time: Timestamp, refusals: Refusals) -> Result<Self, LeafError> {
        Self::new(time, Entry::Refusals(refusals), None)
    }

    /// A directive that was allowed; the body is the directive, tokens redacted.
    ///
    /// # Errors
    /// When a limit of the spec is exceeded.
    pub fn command(time: Timestamp, command: Command, body: Option<Body>) -> Result<Self, LeafError> {
        Self::new(time, Entry::Command(command), body)
    }

    /// A change of the policy set; the body is the policies' text.
    ///
    /// # Errors
    /// When a limit of the spec is exceeded.
    pub fn policy(time: Timestamp, policy: Policy, body: Option<Body>) -> Result<Self, LeafError> {
        Self::new(time, Entry::Policy(policy), body)
    }

    /// A written demand with its text.
    ///
    /// # Errors
    /// When a limit of the spec is exceeded, or the deadline is not a date.
    pub fn demand(time: Timestamp, demand: Demand, text: &str) -> Result<Self, LeafError> {
        Self::new(time, Entry::Demand(demand), Some(Body::new(text.as_bytes())))
    }

    /// A link was made, changed or ended.
    ///
    /// # Errors
    /// When a limit of the spec is exceeded.
    pub fn link(time: Timestamp, link: Link) -> Result<Self, LeafError> {
        Self::new(time, Entry::Link(link), None)
    }

    /// Bytes of memory that the body takes while it waits.
    pub fn body_bytes(&self) -> usize {
        self.body.as_ref().map_or(0, |b| b.wire.len().saturating_add(b.redacted.as_ref().map_or(0, |r| r.len())))
    }

    /// What is recorded.
    pub fn entry(&self) -> &Entry {
        &self.entry
    }

    pub(crate) fn genesis(time: Timestamp, genesis: Genesis) -> Result<Self, LeafError> {
        Self::new(time, Entry::Genesis(genesis), None)
    }

    pub(crate) fn outcome(time: Timestamp, outcome: Outcome) -> Result<Self, LeafError> {
        Self::new(time, Entry::Outcome(outcome), None)
    }

    fn new(time: Timestamp, entry: Entry, body: Option<Body>) -> Result<Self, LeafError> {
        leaf::time(time)?;
        entry.check(body.is_some())?;
        if body.as_ref().is_some_and(|b| b.wire.len() > BODY_MAX_BYTES || b.kept().len() > BODY_MAX_BYTES) {
            return Err(LeafError::Limit { what: "body", max: BODY_MAX_BYTES });
        }
        Ok(Self { time, entry, body })
    }

    /// The entries of the leaves that this draft becomes when its first leaf gets the index `first` (spec L7). Only
    /// the first has the body.
    pub(crate) fn split(self, first: u64) -> Result<Vec<Entry>, LeafError> {
        match self.entry {
            Entry::Intent(mut intent) => {
                let mut parts = pack(std::mem::take(&mut intent.items))?.into_iter();
                intent.items = parts.next().unwrap_or_default();
                let more: Vec<Entry> = parts.map(|items| Entry::More(More { of: first, items })).collect();
                intent.more = u64::try_from(more.len()).unwrap_or(u64::MAX);
                Ok(std::iter::once(Entry::Intent(intent)).chain(more).collect())
            }
            Entry::Refusals(mut refusals) => {
                let parts = pack(std::mem::take(&mut refusals.items))?;
                Ok(parts.into_iter().map(|items| Entry::Refusals(Refusals { items, ..refusals.clone() })).collect())
            }
            other => Ok(vec![other]),
        }
    }
}

/// Cuts a list into parts that fit a leaf each. At least one part, perhaps empty.
fn pack<T: serde::Serialize>(items: Vec<T>) -> Result<Vec<Vec<T>>, LeafError> {
    let mut parts = Vec::new();
    let mut part = Vec::with_capacity(items.len());
    let mut bytes = 0usize;
    let mut written = Vec::new();
    for item in items {
        written.clear();
        canonical::write(&item, &mut written)?;
        let len = written.len().saturating_add(1);
        if bytes.saturating_add(len) > ITEMS_MAX_BYTES && !part.is_empty() {
            parts.push(std::mem::take(&mut part));
            bytes = 0;
        }
        bytes = bytes.saturating_add(len);
        part.push(item);
    }
    parts.push(part);
    Ok(parts)
}
