//! Reading a ledger: of the running hub, of its data directory, or of a copy in somebody else's hands, who has neither the
//! signing key nor the right to write.

use std::fs::OpenOptions;
use std::path::Path;

use serde_json::{Value, json};
use store::ledger::{Filter, LedgerReader};
use store::{OpenError, Store};

use crate::commands::Request;
use crate::config::Config;
use crate::core::{KEY_FILE, chain};

/// Rows of the ledger in one answer.
pub const PAGE: u64 = 1000;

/// Rows from an index on, at most [`PAGE`].
pub fn rows(reader: &LedgerReader, from: u64, limit: u64) -> Result<Value, String> {
    let limit = usize::try_from(limit.min(PAGE)).unwrap_or(1);
    let rows = reader.list(from, limit, &Filter::default()).map_err(|e| chain(&e))?;
    serde_json::to_value(rows).map_err(|e| e.to_string())
}

/// One row with its body and proof.
pub fn row(reader: &LedgerReader, index: u64) -> Result<Value, String> {
    let shown = reader.show(index).map_err(|e| chain(&e))?;
    let shown = shown.ok_or_else(|| format!("the ledger has no leaf {index}"))?;
    serde_json::to_value(shown).map_err(|e| e.to_string())
}

/// What verifying came to.
pub fn verdict(report: &ledger::Report, verifier_key: &str) -> Result<Value, String> {
    let mut value = serde_json::to_value(report).map_err(|e| e.to_string())?;
    if let Some(value) = value.as_object_mut() {
        value.insert("ok".into(), json!(report.ok()));
        value.insert("verifier_key".into(), json!(verifier_key));
    }
    Ok(value)
}

/// Answers a request for the ledger of a directory that can only be read, or is without its signing key; `None` for any
/// other directory or request.
pub fn of_copy(data: &Path, config: &Config, request: &Request) -> Option<Result<Value, String>> {
    let about_the_ledger =
        matches!(request, Request::LedgerList { .. } | Request::LedgerShow { .. } | Request::LedgerVerify);
    let url = config.store_url(data);
    let is_copy = !data.join(KEY_FILE).exists() || OpenOptions::new().write(true).open(data.join("lock")).is_err();
    if !about_the_ledger || !is_copy {
        return None;
    }
    let store = match Store::open_existing(&url) {
        Ok(store) => store,
        Err(OpenError::Missing(_)) => return None,
        Err(error) => return Some(Err(chain(&error))),
    };
    let reader = match LedgerReader::open(&store, None) {
        Ok(reader) => reader,
        Err(error) => return Some(Err(chain(&error))),
    };
    Some(match request {
        Request::LedgerList { from, limit } => rows(&reader, *from, *limit),
        Request::LedgerShow { index } => row(&reader, *index),
        _ => verify(&reader),
    })
}

fn verify(reader: &LedgerReader) -> Result<Value, String> {
    eprintln!(
        "vestibule: a copy without its signing key is held against the key that its first leaf names: compare it"
    );
    let report = reader.verify(None).map_err(|e| chain(&e))?;
    let first = reader.show(0).map_err(|e| chain(&e))?;
    let key = first.as_ref().and_then(|shown| shown.leaf.get("key")).and_then(Value::as_str);
    verdict(&report, key.unwrap_or_default())
}
