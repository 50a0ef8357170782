//! The log: appends drafts, and alone makes receipts.

use std::sync::Arc;

use model::{HouseholdId, Timestamp};
use tlog_tiles::record_hash;

use crate::digest::Digest;
use crate::draft::Draft;
use crate::key::{CheckpointError, KeyError, SigningKey, claimed_origin, verify_checkpoint};
use crate::leaf::{BodyRef, Entry, Genesis, Leaf, LeafError, Outcome, SendResult};
use crate::limits::{INTEGER_MAX, SALT_BYTES};
use crate::store::{Batch, BodyRow, LeafRow, LedgerStore, StoreError, StoredHead};
use crate::tree::Edge;

/// Where salts come from: 16 random bytes at each call, or none when there is no randomness to be had.
pub type Salts<'a> = &'a mut dyn FnMut() -> Option<[u8; SALT_BYTES]>;

/// The tree of one household, open for appending.
#[derive(Debug)]
pub struct Log {
    key: SigningKey,
    household: HouseholdId,
    edge: Edge,
    checkpoint: Arc<str>,
    poisoned: bool,
}

/// What a new log needs to know.
#[derive(Clone, Debug)]
pub struct NewLog {
    /// Whose tree it will be.
    pub household: HouseholdId,
    /// Random part of its name, 1 to 64 of `a-z 0-9`: it must tell nothing about the household.
    pub random: String,
    /// The time now.
    pub time: Timestamp,
}

/// Proof that a leaf is durable. Only [`Log::append`] makes one, and it can't be copied: what asks for a receipt by
/// value can't be called for something that was not recorded.
///
/// ```compile_fail
/// let forged = ledger::Receipt { index: 0 };
/// ```
/// ```compile_fail
/// fn twice(receipt: ledger::Receipt) -> (ledger::Receipt, ledger::Receipt) {
///     (receipt.clone(), receipt)
/// }
/// ```
pub struct Receipt {
    index: u64,
    intent: bool,
    leaf_hash: Digest,
    checkpoint: Arc<str>,
    body: Option<(Arc<[u8]>, Digest)>,
}

/// Why a log could not be opened.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// Nothing there.
    #[error("there is no ledger in the store yet: create one")]
    Empty,
    /// Something there already: creating would fork it.
    #[error("there is a ledger in the store already: open it instead of creating one")]
    Exists,
    /// The random part of the origin doesn't fit.
    #[error(transparent)]
    Key(#[from] KeyError),
    /// The store failed.
    #[error("the store can't be read")]
    Store(#[from] StoreError),
    /// Not signed by our key.
    #[error("the ledger's checkpoint doesn't fit the signing key: restore the key file that belongs to this ledger")]
    Checkpoint(#[from] CheckpointError),
    /// What is stored is not what was signed.
    #[error("the stored ledger doesn't fit its checkpoint ({0}): run `ledger verify`, and restore a back-up")]
    Damaged(String),
    /// The first leaf could not be written.
    #[error("the first leaf could not be written")]
    Genesis(#[source] Box<AppendError>),
}

/// Why nothing was appended (or nobody knows whether it was).
#[derive(Debug, thiserror::Error)]
pub enum AppendError {
    /// No randomness for a salt. Nothing was written.
    #[error("no random salt to be had: nothing was recorded")]
    NoSalt,
    /// A draft doesn't fit. Nothing was written.
    #[error("a draft does not fit the leaf format")]
    Leaf(#[from] LeafError),
    /// The tree is as large as a tree can be. Nothing was written.
    #[error("the ledger is full at {INTEGER_MAX} leaves")]
    Full,
    /// The tree's own arithmetic failed. Nothing was written.
    #[error("the tree could not be computed")]
    Tree(#[from] tlog_tiles::Error),
    /// Signing failed. Nothing was written.
    #[error("the checkpoint could not be signed")]
    Sign(#[from] CheckpointError),
    /// The store failed: it may or may not have written. The log is poisoned.
    #[error("the store did not confirm the record; open the log again")]
    Store(#[from] StoreError),
    /// An earlier write failed.
    #[error("an earlier write failed; open the log again")]
    Poisoned,
}

impl Log {
    /// Begins a log in an empty store, and opens it.
    ///
    /// # Errors
    /// When the store already has one, or fails.
    pub fn create(store: &mut impl LedgerStore, seed: &[u8; 32], new: NewLog) -> Result<Self, OpenError> {
        if store.head()?.is_some() {
            return Err(OpenError::Exists);
        }
        let key = SigningKey::new(&format!("vestibule/{}", new.random), seed)?;
        let genesis = Genesis { key: key.verifier_key(), origin: key.origin().to_owned() };
        let genesis = Draft::genesis(new.time, genesis).map_err(|e| OpenError::Genesis(Box::new(e.into())))?;
        let mut log =
            Self { key, household: new.household, edge: Edge::default(), checkpoint: "".into(), poisoned: false };
        log.append(vec![genesis], &mut || None, store).map_err(|e| OpenError::Genesis(Box::new(e)))?;
        Self::open(store, seed)
    }

    /// Opens the log of a store: the only way to a log that appends, at start and after a failure alike (spec L14, L16).
    ///
    /// # Errors
    /// When there is none, the key is not the one that signed it, or what is stored doesn't fit the checkpoint.
    pub fn open(store: &impl LedgerStore, seed: &[u8; 32]) -> Result<Self, OpenError> {
        let StoredHead { size, checkpoint } = store.head()?.ok_or(OpenError::Empty)?;
        let key = SigningKey::new(&claimed_origin(&checkpoint)?, seed)?;
        let head = verify_checkpoint(&checkpoint, &key.verifier_key())?;
        let damaged = |what: &str| OpenError::Damaged(what.to_owned());
        if head.size != size {
            return Err(damaged("the stored size is not the signed one"));
        }
        let edge = Edge::load(size, store)?;
        if edge.root().map_err(|e| OpenError::Damaged(e.to_string()))? != head.root {
            return Err(damaged("the stored hashes don't give the signed root"));
        }
        let first = read_leaf(store, 0)?;
        let Entry::Genesis(genesis) = &first.entry else {
            return Err(damaged("leaf 0 is no genesis"));
        };
        if genesis.key != key.verifier_key() || genesis.origin != key.origin() {
            return Err(damaged("leaf 0 names another key"));
        }
        let last = read_leaf(store, size.saturating_sub(1))?;
        if last.household != first.household {
            return Err(damaged("the last leaf is of another household"));
        }
        Ok(Self { key, household: first.household, edge, checkpoint: checkpoint.into(), poisoned: false })
    }

    /// Appends drafts in order, in one transaction of the store. One receipt for each draft, once all are durable.
    ///
    /// # Errors
    /// See [`AppendError`]. After an error of the store this log refuses everything: [`open`](Self::open) it again.
    pub fn append(
        &mut self,
        drafts: Vec<Draft>,
        salts: Salts<'_>,
        store: &mut impl LedgerStore,
    ) -> Result<Vec<Receipt>, AppendError> {
        if self.poisoned {
            return Err(AppendError::Poisoned);
        }
        if drafts.is_empty() {
            return Ok(Vec::new());
        }
        let mut edge = self.edge.clone();
        let first_hash = edge.next_position();
        let mut batch = Batch {
            household: self.household.clone(),
            previous_size: edge.size(),
            size: 0,
            leaves: Vec::with_capacity(drafts.len()),
            first_hash,
            hashes: Vec::new(),
            bodies: Vec::new(),
            checkpoint: "".into(),
        };
        let mut receipts = Vec::with_capacity(drafts.len());
        for draft in drafts {
            receipts.push(self.stage(draft, salts, &mut edge, &mut batch)?);
        }
        batch.size = edge.size();
        batch.checkpoint = self.key.sign(batch.size, edge.root()?)?.into();

        // From here until the store answers, nobody knows what is durable.
        self.poisoned = true;
        store.write(&batch)?;
        self.poisoned = false;
        self.edge = edge;
        self.checkpoint = Arc::clone(&batch.checkpoint);
        for receipt in &mut receipts {
            receipt.checkpoint = Arc::clone(&batch.checkpoint);
        }
        Ok(receipts)
    }

    /// Leaves in the tree.
    pub fn size(&self) -> u64 {
        self.edge.size()
    }

    /// The newest signed checkpoint.
    pub fn checkpoint(&self) -> &str {
        &self.checkpoint
    }

    /// Whose tree this is.
    pub fn household(&self) -> &HouseholdId {
        &self.household
    }

    /// The public key that verifies this log.
    pub fn verifier_key(&self) -> String {
        self.key.verifier_key()
    }

    /// Puts the leaves of one draft into the batch.
    fn stage(
        &self,
        draft: Draft,
        salts: Salts<'_>,
        edge: &mut Edge,
        batch: &mut Batch,
    ) -> Result<Receipt, AppendError> {
        let index = edge.size();
        let mut body = None;
        if let Some(b) = &draft.body {
            let salt = salts().ok_or(AppendError::NoSalt)?;
            let sha256 = Digest::of(&b.wire);
            body = Some(BodyRef {
                bytes: u64::try_from(b.wire.len()).unwrap_or(u64::MAX),
                commitment: Digest::salted(&salt, &b.wire),
                redacted: b.redacted.as_ref().map(|kept| Digest::salted(&salt, kept)),
            });
            batch.bodies.push(BodyRow { index, time: draft.time, salt, sha256, kept: Arc::clone(b.kept()) });
        }
        let mut receipt = Receipt {
            index,
            intent: matches!(draft.entry, Entry::Intent(_)),
            leaf_hash: Digest::new([0; 32]),
            checkpoint: "".into(),
            body: draft.body.as_ref().map(|b| Arc::clone(&b.wire)).zip(batch.bodies.last().map(|row| row.sha256)),
        };
        let time = draft.time;
        for entry in draft.split(index)? {
            let index = edge.size();
            if index >= INTEGER_MAX.unsigned_abs() {
                return Err(AppendError::Full);
            }
            let leaf = Leaf { index, time, household: self.household.clone(), entry, body: body.take() };
            let bytes = leaf.encode()?;
            let hash = record_hash(&bytes);
            if index == receipt.index {
                receipt.leaf_hash = hash.into();
            }
            batch.hashes.extend(edge.push(hash)?.into_iter().map(Digest::from));
            batch.leaves.push(LeafRow { index, bytes });
        }
        Ok(receipt)
    }
}

impl Receipt {
    /// Place of the leaf in the tree.
    pub fn index(&self) -> u64 {
        self.index
    }

    /// RFC 6962 hash of the leaf.
    pub fn leaf_hash(&self) -> Digest {
        self.leaf_hash
    }

    /// The signed checkpoint that covers the leaf.
    pub fn checkpoint(&self) -> &str {
        &self.checkpoint
    }

    /// The very bytes that were recorded: send these, not another rendering (spec L8).
    pub fn body(&self) -> Option<&Arc<[u8]>> {
        self.body.as_ref().map(|(bytes, _)| bytes)
    }

    /// SHA-256 of the body.
    pub fn body_sha256(&self) -> Option<Digest> {
        self.body.as_ref().map(|(_, sha256)| *sha256)
    }

    /// The draft that says what became of this intent. It uses the receipt up: an intent has one outcome.
    ///
    /// # Errors
    /// When the receipt is not of an intent, or the time can't stand in a leaf.
    pub fn outcome(self, time: Timestamp, result: SendResult) -> Result<Draft, LeafError> {
        if self.intent {
            Draft::outcome(time, Outcome { intent: self.index, result })
        } else {
            Err(LeafError::NotAnIntent(self.index))
        }
    }
}

impl std::fmt::Debug for Receipt {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Receipt({})", self.index)
    }
}

/// Reads one leaf and holds it against its place and its stored hash.
fn read_leaf(store: &impl LedgerStore, index: u64) -> Result<Leaf, OpenError> {
    let damaged = |what: String| OpenError::Damaged(format!("leaf {index}: {what}"));
    let bytes = store.leaves(index..index.saturating_add(1))?.pop().ok_or_else(|| damaged("missing".into()))?;
    let stored = store.hashes(&[tlog_tiles::stored_hash_index(0, index)])?;
    if stored != [Digest::from(record_hash(&bytes))] {
        return Err(damaged("its bytes don't give its stored hash".into()));
    }
    let leaf = Leaf::decode(&bytes).map_err(|e| damaged(e.to_string()))?;
    if leaf.index == index { Ok(leaf) } else { Err(damaged(format!("it says it is leaf {}", leaf.index))) }
}
