//! Reading the ledger beside its writer, or without one.

use std::sync::{Mutex, MutexGuard, PoisonError};

use ledger::{
    Digest, Entry, Leaf, LeafError, LedgerStore, ProofError, Report, Row, StoreError, StoredHead, prove, verify,
};
use model::{HouseholdId, LinkId, PartnerId};
use rusqlite::params;
use serde::Serialize;
use serde_json::{Map, Value};

use super::tree::{SqliteLedger, failed, signed};
use crate::{OpenError, Store, find_household};

/// Most rows that one [`LedgerReader::list`] gives.
pub const LIST_MAX: usize = 10_000;

/// Reads one household's ledger over its own connection. The calls block on the disk: in async code, use
/// `spawn_blocking`.
#[derive(Debug)]
pub struct LedgerReader {
    store: Store,
    household: HouseholdId,
    tree: Mutex<SqliteLedger>,
}

/// Which leaves to list. What is none matches all.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Filter {
    /// The `type` of the leaf.
    pub kind: Option<String>,
    /// The partner concerned.
    pub partner: Option<PartnerId>,
    /// The link concerned.
    pub link: Option<LinkId>,
}

/// All that is known of one leaf.
#[derive(Clone, Debug, Serialize)]
pub struct Shown {
    /// As in the list.
    #[serde(flatten)]
    pub row: Row,
    /// The leaf itself.
    pub leaf: Map<String, Value>,
    /// Its RFC 6962 hash.
    pub leaf_hash: Digest,
    /// The stored body, if it is still there. Foreign text: show it as text.
    pub body: Option<String>,
    /// Secrets in the stored body were replaced.
    pub redacted: bool,
    /// The receipt for others: a C2SP tlog-proof for the newest checkpoint.
    pub proof: String,
}

/// Why the ledger could not be read.
#[derive(Debug, thiserror::Error)]
pub enum ReadError {
    /// The file can't be opened.
    #[error(transparent)]
    Open(#[from] OpenError),
    /// No such household.
    #[error("the store has no ledger of this household; name one that it has")]
    NoHousehold,
    /// The store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// A leaf is damaged.
    #[error("leaf {index} can't be read: run `ledger verify`")]
    Leaf {
        /// The leaf.
        index: i64,
        /// Why.
        #[source]
        source: LeafError,
    },
    /// The proof can't be made.
    #[error("the proof of a leaf can't be made: run `ledger verify`")]
    Proof(#[from] ProofError),
}

impl LedgerReader {
    /// Opens the ledger of a household; with no name, of the only one in the store.
    ///
    /// # Errors
    /// When the file can't be read or has no such household.
    pub fn open(store: &Store, household: Option<&HouseholdId>) -> Result<Self, ReadError> {
        let connection = store.connect_read()?;
        let (key, name) = find_household(&connection, household)
            .map_err(failed("the households can't be read"))?
            .ok_or(ReadError::NoHousehold)?;
        let household = HouseholdId::new(name).map_err(failed("the store names a household wrongly"))?;
        Ok(Self { store: store.clone(), household, tree: Mutex::new(SqliteLedger::new(connection, key)) })
    }

    /// Whose ledger this is.
    pub fn household(&self) -> &HouseholdId {
        &self.household
    }

    /// Leaves in the tree.
    ///
    /// # Errors
    /// When the store can't be read.
    pub fn size(&self) -> Result<u64, ReadError> {
        Ok(self.head()?.map_or(0, |head| head.size))
    }

    /// The newest size and signed checkpoint; none when there is no tree.
    ///
    /// # Errors
    /// When the store can't be read.
    pub fn head(&self) -> Result<Option<StoredHead>, ReadError> {
        Ok(self.tree().head()?)
    }

    /// The held values, by key.
    ///
    /// # Errors
    /// When the store can't be read.
    pub fn load_held(&self) -> Result<Vec<(String, String)>, ReadError> {
        Ok(self.tree().held()?)
    }

    /// Leaves from an index on that match the filter, at most `limit` and [`LIST_MAX`].
    ///
    /// # Errors
    /// When the store can't be read, or a leaf is damaged.
    pub fn list(&self, from: u64, limit: usize, filter: &Filter) -> Result<Vec<Row>, ReadError> {
        type Found = (i64, Vec<u8>, Option<[u8; 32]>);
        let from = signed(from)?;
        let limit = i64::try_from(limit.min(LIST_MAX)).map_err(failed("the limit is out of range"))?;
        let rows = {
            let tree = self.tree();
            let read = || -> rusqlite::Result<Vec<Found>> {
                tree.connection
                    .prepare_cached(
                        "SELECT l.idx, l.leaf, b.sha256
                         FROM ledger_leaf l LEFT JOIN ledger_body b ON b.household = l.household AND b.idx = l.idx
                         WHERE l.household = ?1 AND l.idx >= ?2
                           AND (?3 IS NULL OR json_extract(l.leaf, '$.type') = ?3)
                           AND (?4 IS NULL OR json_extract(l.leaf, '$.partner') = ?4)
                           AND (?5 IS NULL OR json_extract(l.leaf, '$.link') = ?5)
                         ORDER BY l.idx LIMIT ?6",
                    )?
                    .query_map(
                        params![
                            tree.household(),
                            from,
                            filter.kind,
                            filter.partner.as_ref().map(PartnerId::as_str),
                            filter.link.as_ref().map(LinkId::as_str),
                            limit
                        ],
                        |row| Ok((row.get(0)?, row.get_ref(1)?.as_bytes()?.to_vec(), row.get(2)?)),
                    )?
                    .collect()
            };
            read().map_err(failed("the leaves can't be listed"))?
        };
        rows.into_iter()
            .map(|(index, bytes, sha256)| {
                let leaf = Leaf::decode(&bytes).map_err(|source| ReadError::Leaf { index, source })?;
                Ok(Row::new(&leaf, sha256.map(Digest::new)))
            })
            .collect()
    }

    /// The leaves of a range.
    ///
    /// # Errors
    /// When the store can't be read, or a leaf is damaged.
    pub fn leaves(&self, range: std::ops::Range<u64>) -> Result<Vec<Leaf>, ReadError> {
        let first = range.start;
        let leaves = self.tree().leaves(range)?;
        (first..)
            .zip(leaves)
            .map(|(index, bytes)| {
                Leaf::decode(&bytes)
                    .map_err(|source| ReadError::Leaf { index: i64::try_from(index).unwrap_or(i64::MAX), source })
            })
            .collect()
    }

    /// All that is known of one leaf; none when there is no such leaf.
    ///
    /// # Errors
    /// When the store can't be read, or the leaf is damaged.
    pub fn show(&self, index: u64) -> Result<Option<Shown>, ReadError> {
        let tree = self.tree();
        let Some(bytes) = tree.leaves(index..index.saturating_add(1))?.pop() else { return Ok(None) };
        let unreadable = |source| ReadError::Leaf { index: i64::try_from(index).unwrap_or(i64::MAX), source };
        let leaf = Leaf::decode(&bytes).map_err(unreadable)?;
        let body = tree.body(index)?;
        Ok(Some(Shown {
            row: Row::new(&leaf, body.as_ref().map(|b| b.sha256)),
            leaf: leaf.to_object().map_err(unreadable)?,
            leaf_hash: Digest::of(&[&[0u8], bytes.as_slice()].concat()),
            body: body.map(|b| String::from_utf8_lossy(&b.kept).into_owned()),
            redacted: leaf.body.is_some_and(|b| b.redacted.is_some()),
            proof: prove(&*tree, index)?,
        }))
    }

    /// Verifies the whole ledger, in a snapshot over a connection of its own. Without a verifier key, the one that the
    /// first leaf names is used: that finds damage, but not somebody who wrote a whole new ledger.
    ///
    /// # Errors
    /// When the store can't be read. What is wrong with the ledger stands in the report.
    pub fn verify(&self, verifier_key: Option<&str>) -> Result<Report, ReadError> {
        let connection = self.store.connect_read()?;
        connection.execute_batch("BEGIN").map_err(failed("no snapshot of the ledger can be taken"))?;
        let tree = SqliteLedger::new(connection, self.tree().household());
        let key = match verifier_key {
            Some(key) => key.to_owned(),
            None => named_key(&tree)?,
        };
        Ok(verify(&tree, &key)?)
    }

    fn tree(&self) -> MutexGuard<'_, SqliteLedger> {
        // Reading leaves nothing half done behind.
        self.tree.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The verifier key that the first leaf names; empty, which verifies nothing, when there is none.
fn named_key(tree: &SqliteLedger) -> Result<String, StoreError> {
    let first = tree.leaves(0..1)?.pop().and_then(|bytes| Leaf::decode(&bytes).ok());
    Ok(match first.map(|leaf| leaf.entry) {
        Some(Entry::Genesis(genesis)) => genesis.key,
        _ => String::new(),
    })
}
