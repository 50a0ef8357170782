//! The Cedar schema, with the model's own lists in it: there is one source of each list.

use cedar_policy::{CedarSchemaError, Schema};
use model::{ALL_PROPERTIES, ALL_RUNGS, DeviceType, Kind};

const TEXT: &str = include_str!("schema.cedarschema");

fn list<'a>(names: impl Iterator<Item = &'a str>) -> String {
    names.map(|n| format!("\"{n}\"")).collect::<Vec<_>>().join(", ")
}

/// The schema as text.
pub(crate) fn text() -> String {
    TEXT.replace("@PROPERTIES@", &list(ALL_PROPERTIES.iter().map(|p| p.as_str())))
        .replace("@KINDS@", &list(Kind::ALL.iter().map(|k| k.as_str())))
        .replace("@RUNGS@", &list(ALL_RUNGS.iter().map(|r| r.as_str())))
        .replace("@DEVICE_TYPES@", &list(DeviceType::ALL.iter().map(|t| t.as_str())))
}

/// The schema.
///
/// # Errors
/// Never with the schema that is shipped.
pub(crate) fn parse(text: &str) -> Result<Schema, Box<CedarSchemaError>> {
    Ok(Schema::from_cedarschema_str(text).map_err(Box::new)?.0)
}
