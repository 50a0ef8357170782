//! Messages held against the schemas.

use serde_json::Value as Json;
use testkit::schemas::{directive_faults, event_faults};

/// Fails when an event breaks its schema.
pub fn check_event(event: &Json) {
    let faults = event_faults(event, false);
    assert!(faults.is_empty(), "{faults:#?}\n{event:#}");
}

/// Fails when an event for the gateway breaks its schema.
pub fn check_gateway(event: &Json) {
    let faults = event_faults(event, true);
    assert!(faults.is_empty(), "{faults:#?}\n{event:#}");
}

/// Fails when a directive breaks the schema of directives, or its payload that of its interface.
pub fn check_directive(directive: &Json) {
    let faults = directive_faults(directive);
    assert!(faults.is_empty(), "{faults:#?}\n{directive:#}");
}
