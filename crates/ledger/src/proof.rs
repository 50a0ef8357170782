//! Receipts for others: C2SP tlog-proof, version 1.

use std::cell::RefCell;
use std::fmt::Write as _;

use tlog_tiles::{Error, Hash, HashReader, check_record, prove_record, record_hash};

use crate::digest::Digest;
use crate::key::{CheckpointError, Head, verify_checkpoint};
use crate::limits::PROOF_MAX_BYTES;
use crate::store::{LedgerStore, StoreError};

const FIRST_LINE: &str = "c2sp.org/tlog-proof@v1";

/// What a proof proves: this log had this leaf at this place when it signed this root.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Proven {
    /// Place of the leaf.
    pub index: u64,
    /// The signed tree.
    pub head: Head,
}

/// A proof that can't be made, or doesn't prove.
#[derive(Debug, thiserror::Error)]
pub enum ProofError {
    /// There is no such leaf.
    #[error("there is no leaf {index}: the ledger has {size}")]
    NoLeaf {
        /// The index asked for.
        index: u64,
        /// Leaves in the tree.
        size: u64,
    },
    /// The store failed.
    #[error("the store can't be read")]
    Store(#[from] StoreError),
    /// Not of the form of a tlog-proof.
    #[error("not a tlog-proof of version 1: {0}")]
    Malformed(&'static str),
    /// The checkpoint in it can't be trusted.
    #[error("the proof's checkpoint can't be trusted")]
    Checkpoint(#[from] CheckpointError),
    /// The hashes don't lead from the leaf to the root.
    #[error("the proof does not lead from this leaf to the signed root")]
    Wrong(#[source] Error),
}

/// Makes the proof that the newest checkpoint includes a leaf, as text (`.tlog-proof`).
///
/// # Errors
/// When there is no such leaf, or the store fails.
pub fn prove(store: &impl LedgerStore, index: u64) -> Result<String, ProofError> {
    let (size, checkpoint) = store.head()?.map_or_else(Default::default, |h| (h.size, h.checkpoint));
    if index >= size {
        return Err(ProofError::NoLeaf { index, size });
    }
    let reader = Reader { store, failed: RefCell::new(None) };
    let hashes = prove_record(size, index, &reader)
        .map_err(|e| reader.failed.take().map_or(ProofError::Wrong(e), ProofError::Store))?;
    let mut text = format!("{FIRST_LINE}\nindex {index}\n");
    for hash in hashes {
        // Writing to a String can't fail.
        let _ok = writeln!(text, "{hash}");
    }
    text.push('\n');
    text.push_str(&checkpoint);
    Ok(text)
}

/// Checks a proof offline: the text, the leaf it is for, and the verifier key of the log.
///
/// # Errors
/// When the text is not a tlog-proof, its checkpoint is not signed by the key, or it doesn't prove this leaf.
pub fn verify_proof(text: &str, leaf: &[u8], verifier_key: &str) -> Result<Proven, ProofError> {
    if text.len() > PROOF_MAX_BYTES {
        return Err(ProofError::Malformed("too long"));
    }
    let (proof, checkpoint) = text.split_once("\n\n").ok_or(ProofError::Malformed("no empty line"))?;
    let mut lines = proof.split('\n').peekable();
    if lines.next() != Some(FIRST_LINE) {
        return Err(ProofError::Malformed("another first line"));
    }
    // Extra data is not authenticated and means nothing here.
    lines.next_if(|line| line.starts_with("extra "));
    let digits = lines.next().and_then(|line| line.strip_prefix("index ")).ok_or(ProofError::Malformed("no index"))?;
    let index: u64 = digits.parse().map_err(|_| ProofError::Malformed("the index is no number"))?;
    if index.to_string() != digits {
        return Err(ProofError::Malformed("the index has leading zeroes"));
    }
    let hashes = lines
        .map(|line| Hash::parse_hash(line).map_err(|_| ProofError::Malformed("a line is no hash")))
        .collect::<Result<Vec<_>, _>>()?;
    let head = verify_checkpoint(checkpoint, verifier_key)?;
    check_record(&hashes, head.size, head.root.into(), index, record_hash(leaf)).map_err(ProofError::Wrong)?;
    Ok(Proven { index, head })
}

/// Lets tlog_tiles read from a store, and keeps the store's own error.
struct Reader<'a, S> {
    store: &'a S,
    failed: RefCell<Option<StoreError>>,
}

impl<S: LedgerStore> HashReader for Reader<'_, S> {
    fn read_hashes(&self, positions: &[u64]) -> Result<Vec<Hash>, Error> {
        match self.store.hashes(positions) {
            Ok(hashes) if hashes.len() == positions.len() => Ok(hashes.into_iter().map(Digest::into).collect()),
            Ok(_) => Err(Error::IndexesNotInTree),
            Err(e) => {
                self.failed.replace(Some(e));
                Err(Error::IndexesNotInTree)
            }
        }
    }
}
