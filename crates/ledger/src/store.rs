//! What the ledger asks of a store.

use std::ops::Range;
use std::sync::Arc;

use model::{HouseholdId, Timestamp};

use crate::digest::Digest;
use crate::limits::SALT_BYTES;

/// Where one household's tree is kept. The memory of the record, and nothing else: a store computes nothing.
///
/// *Consistency.* Reads see every write that returned `Ok`, in order. There is one writer; the store holds it to that
/// by [`Batch::previous_size`].
///
/// *Durability.* When [`write`](Self::write) returns `Ok`, all of the batch survives a power cut. When it returns an
/// error, the batch may be there whole or not at all, never in part.
///
/// *Retry.* Nobody retries a write: after an error the [`Log`](crate::Log) is opened again from [`head`](Self::head).
/// Reads may be retried.
///
/// *Trust.* None. What comes back is checked against the signed checkpoint at opening and by [`verify`](crate::verify);
/// a store that lies is found, a store that forgets everything is not.
pub trait LedgerStore {
    /// The newest head; none when there is no tree yet.
    ///
    /// # Errors
    /// When the store can't be read.
    fn head(&self) -> Result<Option<StoredHead>, StoreError>;

    /// Hashes by position (`stored_hash_index` of tlog_tiles), as many as asked, in the order asked.
    ///
    /// # Errors
    /// When the store can't be read, or lacks one of them.
    fn hashes(&self, positions: &[u64]) -> Result<Vec<Digest>, StoreError>;

    /// The bytes of the leaves of a range, in order; fewer at the end of the tree or where one is missing.
    ///
    /// # Errors
    /// When the store can't be read.
    fn leaves(&self, range: Range<u64>) -> Result<Vec<Vec<u8>>, StoreError>;

    /// The body beside a leaf; none when it has none, or was erased.
    ///
    /// # Errors
    /// When the store can't be read, or the body can't be unpacked.
    fn body(&self, index: u64) -> Result<Option<StoredBody>, StoreError>;

    /// Writes a batch in one transaction, durably (see above).
    ///
    /// # Errors
    /// When it is not known to be durable, or [`Batch::previous_size`] is not the stored size.
    fn write(&mut self, batch: &Batch) -> Result<(), StoreError>;
}

/// The newest head as stored.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StoredHead {
    /// Leaves in the tree.
    pub size: u64,
    /// The signed checkpoint, as text.
    pub checkpoint: String,
}

/// What becomes durable together.
#[derive(Clone, Debug)]
pub struct Batch {
    /// Whose tree this is.
    pub household: HouseholdId,
    /// Size of the tree before: the write fails when the stored size is another.
    pub previous_size: u64,
    /// Size of the tree after.
    pub size: u64,
    /// The leaves, in order; the first has the index `previous_size`.
    pub leaves: Vec<LeafRow>,
    /// Position of the first of the hashes.
    pub first_hash: u64,
    /// New hashes, at consecutive positions.
    pub hashes: Vec<Digest>,
    /// Bodies of some of the leaves.
    pub bodies: Vec<BodyRow>,
    /// The signed checkpoint after, as text.
    pub checkpoint: Arc<str>,
}

/// A leaf to write.
#[derive(Clone, Debug)]
pub struct LeafRow {
    /// Place in the tree.
    pub index: u64,
    /// The leaf.
    pub bytes: Vec<u8>,
}

/// A body to write.
#[derive(Clone)]
pub struct BodyRow {
    /// Index of its leaf.
    pub index: u64,
    /// Time of its leaf: retention counts from here.
    pub time: Timestamp,
    /// The salt of the commitment.
    pub salt: [u8; SALT_BYTES],
    /// SHA-256 of the body as on the wire.
    pub sha256: Digest,
    /// What is kept: the body, or its redacted form.
    pub kept: Arc<[u8]>,
}

/// A body as read back.
#[derive(Clone, PartialEq, Eq)]
pub struct StoredBody {
    /// The salt of the commitment.
    pub salt: [u8; SALT_BYTES],
    /// SHA-256 of the body as on the wire.
    pub sha256: Digest,
    /// What was kept: the body, or its redacted form.
    pub kept: Vec<u8>,
}

/// A store failed. The text says what and where; the source says why.
#[derive(Debug, thiserror::Error)]
#[error("{what}")]
pub struct StoreError {
    what: String,
    source: Option<Box<dyn std::error::Error + Send + Sync>>,
}

impl StoreError {
    /// An error with a cause.
    pub fn new(what: impl Into<String>, source: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> Self {
        Self { what: what.into(), source: Some(source.into()) }
    }

    /// An error without a deeper cause.
    pub fn message(what: impl Into<String>) -> Self {
        Self { what: what.into(), source: None }
    }
}

impl std::fmt::Debug for BodyRow {
    // Bodies are not for logs.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "BodyRow({}, {} bytes)", self.index, self.kept.len())
    }
}

impl std::fmt::Debug for StoredBody {
    // Bodies are not for logs.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "StoredBody({} bytes)", self.kept.len())
    }
}
