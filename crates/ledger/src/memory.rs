//! A store in memory.

use std::collections::BTreeMap;
use std::ops::Range;

use crate::digest::Digest;
use crate::store::{Batch, LedgerStore, StoreError, StoredBody, StoredHead};

/// A store in memory: for tests of what stands above the ledger. Nothing survives.
#[derive(Clone, Debug, Default)]
pub struct MemoryStore {
    pub(crate) head: Option<StoredHead>,
    pub(crate) leaves: Vec<Vec<u8>>,
    pub(crate) hashes: Vec<Digest>,
    pub(crate) bodies: BTreeMap<u64, StoredBody>,
}

impl LedgerStore for MemoryStore {
    fn head(&self) -> Result<Option<StoredHead>, StoreError> {
        Ok(self.head.clone())
    }

    fn hashes(&self, positions: &[u64]) -> Result<Vec<Digest>, StoreError> {
        positions
            .iter()
            .map(|p| {
                let hash = usize::try_from(*p).ok().and_then(|p| self.hashes.get(p));
                hash.copied().ok_or_else(|| StoreError::message(format!("hash {p} is missing")))
            })
            .collect()
    }

    fn leaves(&self, range: Range<u64>) -> Result<Vec<Vec<u8>>, StoreError> {
        let start = usize::try_from(range.start).unwrap_or(usize::MAX);
        let count = usize::try_from(range.end.saturating_sub(range.start)).unwrap_or(usize::MAX);
        Ok(self.leaves.iter().skip(start).take(count).cloned().collect())
    }

    fn body(&self, index: u64) -> Result<Option<StoredBody>, StoreError> {
        Ok(self.bodies.get(&index).cloned())
    }

    fn write(&mut self, batch: &Batch) -> Result<(), StoreError> {
        let size = self.head.as_ref().map_or(0, |h| h.size);
        if size != batch.previous_size {
            return Err(StoreError::message(format!("the ledger has {size} leaves, not {}", batch.previous_size)));
        }
        self.leaves.extend(batch.leaves.iter().map(|leaf| leaf.bytes.clone()));
        self.hashes.extend(&batch.hashes);
        for row in &batch.bodies {
            let body = StoredBody { salt: row.salt, sha256: row.sha256, kept: row.kept.to_vec() };
            self.bodies.insert(row.index, body);
        }
        self.head = Some(StoredHead { size: batch.size, checkpoint: batch.checkpoint.to_string() });
        Ok(())
    }
}
