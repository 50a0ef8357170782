//! The append-only record: RFC 6962 tree, signed checkpoints, receipts, verifier.
