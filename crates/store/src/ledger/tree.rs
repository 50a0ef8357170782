//! [`LedgerStore`] over a SQLite connection.

use std::cell::RefCell;
use std::ops::Range;
use std::time::Duration;

use flate2::{Compress, Compression, Decompress, FlushCompress, FlushDecompress, Status};
use ledger::limits::{BODY_MAX_BYTES, SALT_BYTES};
use ledger::{Batch, Digest, LedgerStore, StoreError, StoredBody, StoredHead};
use model::Timestamp;
use rusqlite::{Connection, OptionalExtension, Transaction, TransactionBehavior, params};

use crate::BUSY_TIMEOUT;

/// Most bodies erased in one transaction: appends can come in between.
pub(crate) const ERASE_MAX_BODIES: i64 = 1000;

/// How long emptying the write-ahead log waits for readers.
const EMPTY_WAL_TIMEOUT: Duration = Duration::from_millis(50);

/// Room for the smallest packed body, bytes.
const PACKED_MIN_BYTES: usize = 256;

/// The tree of one household, over one connection.
#[derive(Debug)]
pub struct SqliteLedger {
    pub(crate) connection: Connection,
    household: i64,
    /// Held values to write with the next batch; none deletes the key.
    held: Vec<(String, Option<String>)>,
    /// Packs the bodies. Kept, because a new one takes longer to make than a body to pack.
    packer: Compress,
    /// Unpacks them. Kept, because its memory is aligned: glibc before 2.38 hardly ever gives such memory out again, and
    /// a new one for each body of a long ledger leaves the process four times as large.
    unpacker: RefCell<Decompress>,
}

impl SqliteLedger {
    /// The tree of the household with this number (see [`crate::household_key`]).
    pub fn new(connection: Connection, household: i64) -> Self {
        let packer = Compress::new(Compression::fast(), false);
        Self { connection, household, held: Vec::new(), packer, unpacker: RefCell::new(Decompress::new(false)) }
    }

    /// Key and value pairs that the next write commits together with its leaves; none deletes the key. The newest of a
    /// key counts.
    pub fn stage_held(&mut self, held: Vec<(String, Option<String>)>) {
        self.held = held;
    }

    /// All held values.
    ///
    /// # Errors
    /// When SQLite fails.
    pub fn held(&self) -> Result<Vec<(String, String)>, StoreError> {
        let read = || -> rusqlite::Result<Vec<(String, String)>> {
            self.connection
                .prepare_cached("SELECT key, json FROM held WHERE household = ?1 ORDER BY key")?
                .query_map([self.household], |row| Ok((row.get(0)?, row.get(1)?)))?
                .collect()
        };
        read().map_err(failed("the held values can't be read"))
    }

    /// Writes held values without a leaf, in a transaction of their own.
    pub(crate) fn write_held_alone(&mut self, held: &[(String, Option<String>)]) -> Result<(), StoreError> {
        let what = "values were not stored";
        let household = self.household;
        let transaction =
            self.connection.transaction_with_behavior(TransactionBehavior::Immediate).map_err(failed(what))?;
        write_held(&transaction, household, held).map_err(failed(what))?;
        commit(transaction, what)
    }

    /// Number of the household in this file.
    pub(crate) fn household(&self) -> i64 {
        self.household
    }

    /// Erases some of the bodies whose leaves are older than `time`: at most [`ERASE_MAX_BODIES`]. Returns how many.
    pub(crate) fn erase_some(&mut self, time: Timestamp) -> Result<u64, StoreError> {
        faults::at(faults::ERASE_BEFORE).map_err(failed("bodies can't be erased"))?;
        let erased = self.connection.execute(
            "UPDATE ledger_body SET body = NULL, salt = NULL, sha256 = NULL
             WHERE household = ?1 AND idx IN (
                 SELECT idx FROM ledger_body
                 WHERE household = ?1 AND time < ?2 AND body IS NOT NULL LIMIT ?3)",
            params![self.household, time.as_millis(), ERASE_MAX_BODIES],
        );
        faults::at(faults::ERASE_AFTER).map_err(failed("bodies may not be erased"))?;
        erased.map(|n| u64::try_from(n).unwrap_or(u64::MAX)).map_err(failed("bodies can't be erased"))
    }

    /// Empties the write-ahead log, in which erased bodies may still stand.
    pub(crate) fn empty_wal(&mut self) -> Result<(), StoreError> {
        let what = "the write-ahead log can't be emptied";
        faults::at(faults::ERASE_LOG).map_err(failed(what))?;
        // Appends wait meanwhile: a long read must not stop them.
        self.connection.busy_timeout(EMPTY_WAL_TIMEOUT).map_err(failed(what))?;
        let busy = self.connection.query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |row| row.get::<_, i64>(0));
        self.connection.busy_timeout(BUSY_TIMEOUT).map_err(failed(what))?;
        let busy = busy.map_err(failed(what))?;
        if busy == 0 {
            Ok(())
        } else {
            Err(StoreError::message(
                "erased bodies may still stand in the write-ahead log, a reader holds it; erase again",
            ))
        }
    }
}

impl LedgerStore for SqliteLedger {
    fn head(&self) -> Result<Option<StoredHead>, StoreError> {
        self.connection
            .prepare_cached("SELECT size, checkpoint FROM ledger_head WHERE household = ?1")
            .and_then(|mut s| s.query_row([self.household], |row| Ok((row.get::<_, i64>(0)?, row.get(1)?))).optional())
            .map_err(failed("the ledger's head can't be read"))?
            .map(|(size, checkpoint)| Ok(StoredHead { size: unsigned(size)?, checkpoint }))
            .transpose()
    }

    fn hashes(&self, positions: &[u64]) -> Result<Vec<Digest>, StoreError> {
        let mut statement = self
            .connection
            .prepare_cached("SELECT hash FROM ledger_hash WHERE household = ?1 AND pos = ?2")
            .map_err(failed("the ledger's hashes can't be read"))?;
        positions
            .iter()
            .map(|position| {
                let hash: [u8; 32] = statement
                    .query_row(params![self.household, signed(*position)?], |row| row.get(0))
                    .map_err(failed("a hash of the ledger can't be read"))?;
                Ok(Digest::new(hash))
            })
            .collect()
    }

    fn leaves(&self, range: Range<u64>) -> Result<Vec<Vec<u8>>, StoreError> {
        let (start, end) = (signed(range.start)?, signed(range.end)?);
        let read = || -> rusqlite::Result<Vec<(i64, Vec<u8>)>> {
            self.connection
                .prepare_cached(
                    "SELECT idx, leaf FROM ledger_leaf WHERE household = ?1 AND idx >= ?2 AND idx < ?3 ORDER BY idx",
                )?
                .query_map(params![self.household, start, end], |row| {
                    Ok((row.get(0)?, row.get_ref(1)?.as_bytes()?.to_vec()))
                })?
                .collect()
        };
        let rows = read().map_err(failed("leaves can't be read"))?;
        // Where one is missing, what follows is not the continuation.
        Ok((start..).zip(rows).take_while(|(want, (index, _))| want == index).map(|(_, (_, leaf))| leaf).collect())
    }

    fn body(&self, index: u64) -> Result<Option<StoredBody>, StoreError> {
        type Row = (Vec<u8>, [u8; SALT_BYTES], [u8; 32]);
        let row: Option<Row> = self
            .connection
            .prepare_cached(
                "SELECT body, salt, sha256 FROM ledger_body WHERE household = ?1 AND idx = ?2 AND body IS NOT NULL",
            )
            .and_then(|mut s| {
                let row = s.query_row(params![self.household, signed_or_max(index)], |row| {
                    Ok((row.get(0)?, row.get(1)?, row.get(2)?))
                });
                row.optional()
            })
            .map_err(failed("a body can't be read"))?;
        row.map(|(packed, salt, sha256)| {
            let kept = unpack_by(&mut self.unpacker.borrow_mut(), &packed)?;
            Ok(StoredBody { salt, sha256: Digest::new(sha256), kept })
        })
        .transpose()
    }

    fn write(&mut self, batch: &Batch) -> Result<(), StoreError> {
        let held = std::mem::take(&mut self.held);
        let household = self.household;
        let bodies = batch
            .bodies
            .iter()
            .map(|row| Ok((signed(row.index)?, row, pack(&mut self.packer, &row.kept)?)))
            .collect::<Result<Vec<_>, StoreError>>()?;
        let (size, previous) = (signed(batch.size)?, signed(batch.previous_size)?);
        let (first_leaf, first_hash) = (previous, signed(batch.first_hash)?);

        let what = "the ledger's batch was not written";
        let transaction =
            self.connection.transaction_with_behavior(TransactionBehavior::Immediate).map_err(failed(what))?;
        let stored: i64 = transaction
            .query_row("SELECT size FROM ledger_head WHERE household = ?1", [household], |row| row.get(0))
            .optional()
            .map_err(failed(what))?
            .unwrap_or(0);
        if stored != previous {
            return Err(StoreError::message(format!(
                "the ledger has {stored} leaves and not {previous}: another program wrote to it; stop one of them"
            )));
        }
        let write = || -> rusqlite::Result<()> {
            transaction
                .prepare_cached(
                    "INSERT INTO ledger_head (household, size, checkpoint) VALUES (?1, ?2, ?3)
                     ON CONFLICT (household) DO UPDATE SET size = excluded.size, checkpoint = excluded.checkpoint",
                )?
                .execute(params![household, size, batch.checkpoint])?;
            let mut leaf =
                transaction.prepare_cached("INSERT INTO ledger_leaf (household, idx, leaf) VALUES (?1, ?2, ?3)")?;
            for (index, row) in (first_leaf..).zip(&batch.leaves) {
                leaf.execute(params![household, index, String::from_utf8_lossy(&row.bytes)])?;
            }
            let mut hash =
                transaction.prepare_cached("INSERT INTO ledger_hash (household, pos, hash) VALUES (?1, ?2, ?3)")?;
            for (position, digest) in (first_hash..).zip(&batch.hashes) {
                hash.execute(params![household, position, digest.as_bytes()])?;
            }
            let mut body = transaction.prepare_cached(
                "INSERT INTO ledger_body (household, idx, time, body, salt, sha256) VALUES (?1, ?2, ?3, ?4, ?5, ?6)",
            )?;
            for (index, row, packed) in &bodies {
                let sha256 = row.sha256.as_bytes();
                body.execute(params![household, index, row.time.as_millis(), packed, row.salt, sha256])?;
            }
            write_held(&transaction, household, &held)
        };
        write().map_err(failed(what))?;
        commit(transaction, "the ledger's batch may not be durable")
    }
}

fn commit(transaction: Transaction<'_>, what: &'static str) -> Result<(), StoreError> {
    faults::at(faults::RECORD_BEFORE).map_err(failed(what))?;
    transaction.commit().map_err(failed(what))?;
    faults::at(faults::RECORD_AFTER).map_err(failed(what))
}

fn write_held(transaction: &Connection, household: i64, held: &[(String, Option<String>)]) -> rusqlite::Result<()> {
    let mut put = transaction.prepare_cached(
        "INSERT INTO held (household, key, json) VALUES (?1, ?2, ?3)
         ON CONFLICT (household, key) DO UPDATE SET json = excluded.json",
    )?;
    let mut delete = transaction.prepare_cached("DELETE FROM held WHERE household = ?1 AND key = ?2")?;
    for (key, json) in held {
        match json {
            Some(json) => put.execute(params![household, key, json])?,
            None => delete.execute(params![household, key])?,
        };
    }
    Ok(())
}

pub(crate) fn failed<E: std::error::Error + Send + Sync + 'static>(what: &'static str) -> impl Fn(E) -> StoreError {
    move |source| StoreError::new(what, source)
}

/// Indexes and positions stay far below 2^63 (spec L2); what doesn't is not ours.
pub(crate) fn signed(n: u64) -> Result<i64, StoreError> {
    i64::try_from(n).map_err(failed("an index is out of range"))
}

pub(crate) fn unsigned(n: i64) -> Result<u64, StoreError> {
    u64::try_from(n).map_err(failed("a stored index is negative"))
}

fn signed_or_max(n: u64) -> i64 {
    i64::try_from(n).unwrap_or(i64::MAX)
}

fn pack(packer: &mut Compress, bytes: &[u8]) -> Result<Vec<u8>, StoreError> {
    packer.reset();
    let mut packed = Vec::with_capacity(bytes.len() / 2 + PACKED_MIN_BYTES);
    loop {
        let done = usize::try_from(packer.total_in()).unwrap_or(usize::MAX);
        let rest = bytes.get(done..).unwrap_or_default();
        let status = packer.compress_vec(rest, &mut packed, FlushCompress::Finish);
        if status.map_err(failed("a body can't be compressed"))? == Status::StreamEnd {
            return Ok(packed);
        }
        packed.reserve(packed.capacity());
    }
}

/// Unpacks a stored body.
///
/// # Errors
/// When it is not what [`SqliteLedger`] packed.
pub fn unpack(packed: &[u8]) -> Result<Vec<u8>, StoreError> {
    unpack_by(&mut Decompress::new(false), packed)
}

fn unpack_by(unpacker: &mut Decompress, packed: &[u8]) -> Result<Vec<u8>, StoreError> {
    unpacker.reset(false);
    let mut bytes = Vec::with_capacity(packed.len().saturating_mul(2).max(PACKED_MIN_BYTES));
    loop {
        let before = (unpacker.total_in(), unpacker.total_out());
        let done = usize::try_from(before.0).unwrap_or(usize::MAX);
        let rest = packed.get(done..).unwrap_or_default();
        let status = unpacker.decompress_vec(rest, &mut bytes, FlushDecompress::None);
        // A bomb stops here, and then doesn't fit its commitment.
        if status.map_err(failed("a body can't be unpacked"))? == Status::StreamEnd || bytes.len() > BODY_MAX_BYTES {
            bytes.truncate(BODY_MAX_BYTES.saturating_add(1));
            return Ok(bytes);
        }
        if bytes.len() < bytes.capacity() && before == (unpacker.total_in(), unpacker.total_out()) {
            return Err(StoreError::message("a body can't be unpacked: its end is missing"));
        }
        bytes.reserve(bytes.capacity());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_body_comes_back_a_cut_one_is_an_error_and_a_bomb_stops() {
        let mut packer = Compress::new(Compression::fast(), false);
        let body: Vec<u8> = (0..40_000u32).flat_map(|n| (n * n).to_le_bytes()).collect();
        for part in [&body[..], &body[..1], &[]] {
            let packed = pack(&mut packer, part).unwrap();
            assert_eq!(unpack(&packed).unwrap(), part);
            for cut in [packed.len() - 1, packed.len() / 2, 0] {
                assert!(unpack(&packed[..cut]).is_err(), "{cut} of {}", packed.len());
            }
        }
        let bomb = pack(&mut packer, &vec![7; 8 * BODY_MAX_BYTES]).unwrap();
        assert_eq!(unpack(&bomb).unwrap().len(), BODY_MAX_BYTES + 1);
    }
}
