//! The verifier: recomputes everything from the leaves (spec section 6).

use std::collections::BTreeSet;

use serde::Serialize;
use tlog_tiles::record_hash;

use crate::digest::Digest;
use crate::key::verify_checkpoint;
use crate::leaf::{BodyRef, Entry, Leaf};
use crate::limits::PAGE_LEAVES;
use crate::store::{LedgerStore, StoreError};
use crate::tree::Edge;

/// What the verifier found.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Report {
    /// Leaves in the tree, as the signed checkpoint says.
    pub size: u64,
    /// Root hash, recomputed from the leaves; hexadecimal.
    pub root: Option<Digest>,
    /// The checkpoint is signed by the key, and says this size and root.
    pub checkpoint_ok: bool,
    /// Leaves read.
    pub leaves: u64,
    /// Intents among them.
    pub intents: u64,
    /// Outcomes among them.
    pub outcomes: u64,
    /// Intents without an outcome: whether these left is unknown.
    pub unknown_outcomes: u64,
    /// Bodies that fit what their leaves say.
    pub bodies: u64,
    /// Bodies of which only a redacted form was kept; it fits. Counted in `bodies`, too.
    pub redacted_bodies: u64,
    /// Bodies that are not there any more: erased.
    pub missing_bodies: u64,
    /// Bodies that don't fit what their leaves say.
    pub body_mismatches: u64,
    /// How many problems there are.
    pub problems: u64,
    /// The first of them, in words.
    pub first_problem: Option<String>,
}

impl Report {
    /// Nothing was found wrong.
    pub fn ok(&self) -> bool {
        self.problems == 0 && self.checkpoint_ok
    }

    fn problem(&mut self, what: String) {
        self.problems = self.problems.saturating_add(1);
        self.first_problem.get_or_insert(what);
    }
}

/// Verifies a whole ledger against a verifier key. What is wrong stands in the report; an error means that it could not
/// be read. The store must not change meanwhile: give it a snapshot.
///
/// # Errors
/// When the store fails.
pub fn verify(store: &impl LedgerStore, verifier_key: &str) -> Result<Report, StoreError> {
    let mut report = Report::default();
    let Some(head) = store.head()? else {
        report.problem("there is no ledger".into());
        return Ok(report);
    };
    report.size = head.size;
    let signed = verify_checkpoint(&head.checkpoint, verifier_key);
    let mut walk = Walk { edge: Edge::default(), household: None, open: BTreeSet::new(), more: None };
    // One beyond the signed size, to see a leaf that was put behind the end.
    let end = head.size.saturating_add(1);
    let mut next = 0;
    while next < end {
        let page = store.leaves(next..next.saturating_add(PAGE_LEAVES).min(end))?;
        if page.is_empty() {
            break;
        }
        for bytes in page {
            walk.leaf(next, &bytes, store, verifier_key, &mut report)?;
            next = next.saturating_add(1);
        }
    }
    walk.end(&mut report);
    if report.leaves != head.size {
        report.problem(format!("the store holds {} leaves, its head says {}", report.leaves, head.size));
    }
    match walk.edge.root() {
        Ok(root) => report.root = Some(root),
        Err(e) => report.problem(format!("the root can't be computed: {e}")),
    }
    match signed {
        Ok(signed) if signed.size == report.leaves && Some(signed.root) == report.root => report.checkpoint_ok = true,
        Ok(signed) => {
            report.problem(format!("the signed checkpoint is of another tree, of {} leaves", signed.size));
        }
        Err(e) => report.problem(e.to_string()),
    }
    Ok(report)
}

/// What the verifier carries from leaf to leaf.
struct Walk {
    edge: Edge,
    household: Option<model::HouseholdId>,
    /// Intents without an outcome so far.
    open: BTreeSet<u64>,
    /// The intent whose further items come now, and how many leaves of them.
    more: Option<(u64, u64)>,
}

impl Walk {
    fn leaf(
        &mut self,
        index: u64,
        bytes: &[u8],
        store: &impl LedgerStore,
        verifier_key: &str,
        report: &mut Report,
    ) -> Result<(), StoreError> {
        report.leaves = report.leaves.saturating_add(1);
        let first = self.edge.next_position();
        match self.edge.push(record_hash(bytes)) {
            Ok(hashes) => {
                let positions: Vec<u64> = (first..).take(hashes.len()).collect();
                let computed: Vec<Digest> = hashes.into_iter().map(Digest::from).collect();
                // A missing hash is a problem of the ledger, not of reading it.
                if store.hashes(&positions).ok() != Some(computed) {
                    report.problem(format!("leaf {index}: the stored hashes are not those of the leaves"));
                }
            }
            Err(e) => report.problem(format!("leaf {index}: the tree can't be computed: {e}")),
        }
        match Leaf::decode(bytes) {
            Ok(leaf) => {
                self.entry(index, &leaf, verifier_key, report);
                if let Some(body) = &leaf.body {
                    check_body(index, body, store, report);
                }
            }
            Err(e) => report.problem(format!("leaf {index}: {e}")),
        }
        Ok(())
    }

    fn entry(&mut self, index: u64, leaf: &Leaf, verifier_key: &str, report: &mut Report) {
        if leaf.index != index {
            report.problem(format!("leaf {index} says it is leaf {}", leaf.index));
        }
        let household = self.household.get_or_insert_with(|| leaf.household.clone());
        if *household != leaf.household {
            report.problem(format!("leaf {index} is of another household"));
        }
        if matches!(leaf.entry, Entry::Genesis(_)) != (index == 0) {
            report.problem(format!("leaf {index}: `genesis` must be leaf 0 and only there"));
        }
        let due = self.more.take().filter(|(_, left)| *left > 0);
        match (&leaf.entry, due) {
            (Entry::More(more), Some((of, left))) if more.of == of => self.more = Some((of, left.saturating_sub(1))),
            (Entry::More(_), _) => report.problem(format!("leaf {index} continues no intent")),
            (_, Some((of, _))) => report.problem(format!("leaf {index} stands where items of intent {of} should")),
            (_, None) => {}
        }
        match &leaf.entry {
            Entry::Genesis(genesis) if genesis.key != verifier_key => {
                report.problem(format!("leaf {index} names another verifier key"));
            }
            Entry::Intent(intent) => {
                report.intents = report.intents.saturating_add(1);
                self.open.insert(index);
                self.more = Some((index, intent.more));
            }
            Entry::Outcome(outcome) => {
                report.outcomes = report.outcomes.saturating_add(1);
                if !self.open.remove(&outcome.intent) {
                    report.problem(format!("leaf {index}: leaf {} is no intent without an outcome", outcome.intent));
                }
            }
            _ => {}
        }
    }

    fn end(&mut self, report: &mut Report) {
        report.unknown_outcomes = u64::try_from(self.open.len()).unwrap_or(u64::MAX);
        if let Some((of, left)) = self.more.filter(|(_, left)| *left > 0) {
            report.problem(format!("intent {of} lacks {left} leaves of items"));
        }
    }
}

fn check_body(index: u64, said: &BodyRef, store: &impl LedgerStore, report: &mut Report) {
    let count = |n: &mut u64| *n = n.saturating_add(1);
    let fits = match store.body(index) {
        Ok(None) => return count(&mut report.missing_bodies),
        Ok(Some(body)) => match said.redacted {
            Some(redacted) => Digest::salted(&body.salt, &body.kept) == redacted,
            None => {
                Digest::salted(&body.salt, &body.kept) == said.commitment
                    && Digest::of(&body.kept) == body.sha256
                    && u64::try_from(body.kept.len()) == Ok(said.bytes)
            }
        },
        // A body that can't be unpacked is one that was tampered with.
        Err(_) => false,
    };
    if !fits {
        count(&mut report.body_mismatches);
        report.problem(format!("leaf {index}: the stored body is not the one that was recorded"));
        return;
    }
    count(&mut report.bodies);
    if said.redacted.is_some() {
        count(&mut report.redacted_bodies);
    }
}
