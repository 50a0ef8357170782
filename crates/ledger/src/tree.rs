//! The right edge of the tree: all that is needed to append and to know the root.

use std::collections::BTreeMap;

use tlog_tiles::{
    Error, Hash, HashReader, stored_hash_index, stored_hashes_for_record_hash, sub_tree_index, tree_hash,
};

use crate::digest::Digest;
use crate::store::{LedgerStore, StoreError};

/// Size of a tree and the hashes of its complete subtrees, by position: at most one for each bit of the size.
#[derive(Clone, Debug, Default)]
pub(crate) struct Edge {
    size: u64,
    hashes: BTreeMap<u64, Hash>,
}

impl Edge {
    /// Reads the edge of a tree of this size from a store.
    pub(crate) fn load(size: u64, store: &impl LedgerStore) -> Result<Self, StoreError> {
        let positions = positions(size);
        let hashes = store.hashes(&positions)?;
        if hashes.len() != positions.len() {
            return Err(StoreError::message("the store gave fewer hashes than asked"));
        }
        Ok(Self { size, hashes: positions.into_iter().zip(hashes.into_iter().map(Hash::from)).collect() })
    }

    pub(crate) fn size(&self) -> u64 {
        self.size
    }

    /// Position of the next hash that [`push`](Self::push) gives.
    pub(crate) fn next_position(&self) -> u64 {
        stored_hash_index(0, self.size)
    }

    /// Appends the hash of a leaf. Returns the new hashes, to be stored from [`next_position`](Self::next_position) on.
    pub(crate) fn push(&mut self, leaf_hash: Hash) -> Result<Vec<Hash>, Error> {
        let first = self.next_position();
        let new = stored_hashes_for_record_hash(self.size, leaf_hash, self)?;
        self.hashes.extend((first..).zip(new.iter().copied()));
        self.size = self.size.saturating_add(1);
        let keep = positions(self.size);
        self.hashes.retain(|position, _| keep.contains(position));
        Ok(new)
    }

    pub(crate) fn root(&self) -> Result<Digest, Error> {
        Ok(tree_hash(self.size, self)?.into())
    }
}

impl HashReader for Edge {
    fn read_hashes(&self, positions: &[u64]) -> Result<Vec<Hash>, Error> {
        positions.iter().map(|p| self.hashes.get(p).copied().ok_or(Error::IndexesNotInTree)).collect()
    }
}

fn positions(size: u64) -> Vec<u64> {
    sub_tree_index(0, size, Vec::new())
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use tlog_tiles::record_hash;

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(24))]

        #[test]
        fn two_implementations_agree_on_the_root(leaves in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..40), 0..200)) {
            let mut edge = Edge::default();
            let mut other = ct_merkle::mem_backed_tree::MemoryBackedTree::<sha2::Sha256, Vec<u8>>::new();
            for leaf in leaves {
                edge.push(record_hash(&leaf)).unwrap();
                other.push(leaf);
                let (ours, root) = (edge.root().unwrap(), other.root());
                prop_assert_eq!(ours.as_bytes().as_slice(), root.as_bytes().as_slice());
                prop_assert_eq!(edge.size(), root.num_leaves());
                prop_assert_eq!(edge.hashes.len(), edge.size().count_ones() as usize);
            }
            prop_assert_eq!(Edge::default().root().unwrap(), Digest::of(b""));
        }
    }
}
