//! The outward face of the gate: what partner crates may see and ask.
