//! The append-only record: RFC 6962 tree, signed checkpoints, receipts, verifier. The format is `docs/specs/ledger.md`.
//!
//! Pure: no clock, no randomness, no input or output. Time comes in with each [`Draft`], salts through a function, and
//! everything durable goes through the trait [`LedgerStore`].
//!
//! A message leaves the home in this order: [`Draft::intent`] with the bytes, [`Log::append`], and only when the store
//! has made the leaf durable is there a [`Receipt`], which holds these bytes. Then they are sent, and
//! [`Receipt::outcome`] says what became of them.

mod canonical;
mod digest;
mod draft;
mod key;
mod leaf;
pub mod limits;
mod log;
mod memory;
mod proof;
mod row;
mod store;
#[cfg(test)]
mod tests;
mod tree;
mod verify;

pub use digest::{Digest, DigestError};
pub use draft::{Body, Draft};
pub use key::{CheckpointError, Head, KeyError, SigningKey, verify_checkpoint};
pub use leaf::{
    BodyRef, Command, Demand, Entry, Genesis, Intent, Item, Leaf, LeafError, Link, LinkEvent, More, Outcome, Policy,
    Refusals, Refused, SendResult,
};
pub use log::{AppendError, Log, NewLog, OpenError, Receipt, Salts};
pub use memory::MemoryStore;
pub use proof::{ProofError, Proven, prove, verify_proof};
pub use row::Row;
pub use store::{Batch, BodyRow, LeafRow, LedgerStore, StoreError, StoredBody, StoredHead};
pub use verify::{Report, verify};
