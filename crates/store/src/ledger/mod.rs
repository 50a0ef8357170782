//! The ledger in SQLite: one writer thread that owns the connection and the log, and readers beside it.

mod reader;
mod tree;
mod writer;

pub use reader::{Filter, LIST_MAX, LedgerReader, ReadError, Shown};
pub use tree::{SqliteLedger, unpack};
pub use writer::{Append, BATCH_MAX_JOBS, LedgerError, LedgerWriter, Opening, QUEUE_MAX_BYTES, QUEUE_MAX_JOBS, Stats};
