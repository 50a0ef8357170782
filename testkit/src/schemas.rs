//! The schemas of Alexa's messages (JSON Schema 2020-12), one per message and interface. They are written from Amazon's
//! documentation and lie beside the partner crate; whoever pretends to be Amazon holds each message against them.

use std::collections::BTreeMap;
use std::sync::LazyLock;

use jsonschema::{Registry, Validator};
use serde_json::{Value, json};

/// How the id of every schema begins.
pub const PREFIX: &str = "urn:vestibule:alexa:";

/// Every schema, by its name.
pub static SCHEMAS: LazyLock<BTreeMap<String, Value>> = LazyLock::new(|| {
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/../crates/partners/alexa/schemas");
    let read = |entry: std::io::Result<std::fs::DirEntry>| {
        let path = entry.ok()?.path();
        let name = path.file_stem()?.to_str()?.to_owned();
        Some((name, serde_json::from_slice(&std::fs::read(path).ok()?).ok()?))
    };
    std::fs::read_dir(folder).into_iter().flatten().filter_map(read).collect()
});

/// Messages that have a schema of their own: namespace, name, whether it goes to the event gateway, schema.
const MESSAGES: [(&str, &str, bool, &str); 11] = [
    ("Alexa.Discovery", "Discover.Response", false, "discover-response"),
    ("Alexa.Authorization", "AcceptGrant.Response", false, "accept-grant-response"),
    ("Alexa", "StateReport", false, "state-report"),
    ("Alexa", "Response", false, "response"),
    ("Alexa", "DeferredResponse", false, "deferred-response"),
    ("Alexa.SceneController", "ActivationStarted", false, "activation-started"),
    ("Alexa", "ChangeReport", true, "change-report"),
    ("Alexa", "Response", true, "asynchronous-response"),
    ("Alexa.Discovery", "AddOrUpdateReport", true, "add-or-update-report"),
    ("Alexa.Discovery", "DeleteReport", true, "delete-report"),
    ("", "ErrorResponse", false, "error-response"),
];

static VALIDATORS: LazyLock<Vec<Option<Validator>>> =
    LazyLock::new(|| MESSAGES.iter().map(|(_, _, _, schema)| of(schema)).collect());

fn of(reference: &str) -> Option<Validator> {
    static REGISTRY: LazyLock<Option<Registry<'static>>> = LazyLock::new(|| {
        let mut all = Registry::new();
        for (name, schema) in SCHEMAS.iter() {
            all = all.add(format!("{PREFIX}{name}"), schema.clone()).ok()?;
        }
        all.prepare().ok()
    });
    let schema = json!({"$ref": format!("{PREFIX}{reference}")});
    jsonschema::options().with_registry(REGISTRY.as_ref()?).build(&schema).ok()
}

fn faults(validator: Option<&Validator>, json: &Value) -> Vec<String> {
    match validator {
        Some(validator) => validator.iter_errors(json).map(|e| format!("{}: {e}", e.instance_path())).collect(),
        None => vec!["its schema is no schema".to_owned()],
    }
}

/// What is wrong with an event: one that answers a directive, or one that goes to the event gateway.
pub fn event_faults(event: &Value, to_gateway: bool) -> Vec<String> {
    let header = |key: &str| event.pointer(&format!("/event/header/{key}")).and_then(Value::as_str).unwrap_or_default();
    let (namespace, name) = (header("namespace"), header("name"));
    let fits = |m: &(&str, &str, bool, &str)| (m.0.is_empty() || m.0 == namespace) && m.1 == name && m.2 == to_gateway;
    match MESSAGES.iter().position(fits) {
        Some(at) => faults(VALIDATORS.get(at).and_then(Option::as_ref), event),
        None => vec![format!("there is no schema for `{namespace}` `{name}`")],
    }
}

/// What is wrong with a directive: by the schema of all directives, and its payload by that of its interface.
pub fn directive_faults(directive: &Value) -> Vec<String> {
    static ENVELOPE: LazyLock<Option<Validator>> = LazyLock::new(|| of("directive"));
    let mut found = faults(ENVELOPE.as_ref(), directive);
    let header = |key: &str| directive.pointer(&format!("/directive/header/{key}")).and_then(Value::as_str);
    let (namespace, name) = (header("namespace").unwrap_or_default(), header("name").unwrap_or_default());
    let is_of = |c: &Value| c.pointer("/properties/interface/const").and_then(Value::as_str) == Some(namespace);
    let mine = SCHEMAS.iter().find(|(_, schema)| {
        let capability = schema.pointer("/$defs/capability");
        let several = capability.and_then(|c| c.get("oneOf")).and_then(Value::as_array);
        capability.is_some_and(is_of) || several.is_some_and(|all| all.iter().any(is_of))
    });
    if let Some((file, schema)) = mine {
        match schema.pointer(&format!("/$defs/payload/{name}")) {
            Some(_) => {
                let payload = directive.pointer("/directive/payload").unwrap_or(&Value::Null);
                found.extend(faults(of(&format!("{file}#/$defs/payload/{name}")).as_ref(), payload));
            }
            None => found.push(format!("`{namespace}` has no `{name}`")),
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_schemas_are_schemas_and_each_message_has_one() {
        for (name, schema) in SCHEMAS.iter() {
            assert_eq!(schema["$id"], format!("{PREFIX}{name}"));
            assert!(jsonschema::meta::is_valid(schema), "{name}");
        }
        assert!(VALIDATORS.iter().all(Option::is_some));
    }

    #[test]
    fn what_is_wrong_with_a_message_is_found() {
        let property = |namespace: &str, name: &str, value: Value, uncertainty: i64| {
            json!({"namespace": namespace, "name": name, "value": value, "timeOfSample": "2026-01-01T00:00:00.000Z",
                "uncertaintyInMilliseconds": uncertainty})
        };
        let header = |namespace: &str, name: &str| json!({"namespace": namespace, "name": name, "payloadVersion": "3", "messageId": "m"});
        let lock = |uncertainty: i64| property("Alexa.LockController", "lockState", json!("LOCKED"), uncertainty);
        let reply = |properties: Vec<Value>| {
            json!({"event": {"header": header("Alexa", "Response"), "endpoint": {"endpointId": "e"}, "payload": {}},
                "context": {"properties": properties}})
        };
        assert_eq!(event_faults(&reply(vec![lock(500)]), false), Vec::<String>::new());
        let mut microseconds = lock(500);
        microseconds["timeOfSample"] = json!("2026-01-01T00:00:00.000000Z");
        for wrong in [
            vec![lock(500), lock(500)],
            vec![microseconds],
            vec![property("Alexa.LockController", "lockState", json!("OPEN"), 500)],
            vec![property("Alexa.RangeController", "rangeValue", json!(50), 500)],
            vec![property("Alexa.BrightnessController", "brightness", json!(50.5), 500)],
            vec![property("Alexa.CO2Sensor", "value", json!(1), 500)],
            vec![property("Alexa.TemperatureSensor", "temperature", json!({"value": 21, "scale": "C"}), 500)],
        ] {
            assert!(!event_faults(&reply(wrong.clone()), false).is_empty(), "{wrong:?}");
        }

        let endpoint = json!({"scope": {"type": "BearerToken", "token": "t"}, "endpointId": "e"});
        let change = |cause: &str, changed: Vec<Value>| {
            let payload = json!({"change": {"cause": {"type": cause}, "properties": changed}});
            json!({"event": {"header": header("Alexa", "ChangeReport"), "endpoint": endpoint, "payload": payload},
                "context": {"properties": []}})
        };
        let good = change("PERIODIC_POLL", vec![lock(10_000)]);
        assert_eq!(event_faults(&good, true), Vec::<String>::new());
        let mut unscoped = good.clone();
        unscoped["event"]["endpoint"] = json!({"endpointId": "e"});
        let mut answers = good.clone();
        answers["event"]["header"]["correlationToken"] = json!("c");
        for wrong in [
            change("PHYSICAL_INTERACTION", vec![lock(10_000)]),
            change("PERIODIC_POLL", Vec::new()),
            change("PERIODIC_POLL", vec![lock(500)]),
            unscoped,
            answers,
            // No answer goes to the gateway without saying what it answers.
            reply(vec![lock(500)]),
        ] {
            assert!(!event_faults(&wrong, true).is_empty(), "{wrong}");
        }
        assert!(!event_faults(&good, false).is_empty(), "a report answers nothing");
        let gone = |payload: Value| json!({"event": {"header": header("Alexa.Discovery", "DeleteReport"), "payload": payload}});
        let scope = json!({"type": "BearerToken", "token": "t"});
        assert_eq!(
            event_faults(&gone(json!({"endpoints": [{"endpointId": "e"}], "scope": scope})), true),
            Vec::<String>::new()
        );
        assert!(!event_faults(&gone(json!({"endpoints": [], "scope": scope})), true).is_empty());
        assert!(!event_faults(&gone(json!({"endpoints": [{"endpointId": "e"}]})), true).is_empty());

        let grant = |code: &str| {
            let payload = json!({"grant": {"type": "OAuth2.AuthorizationCode", "code": code}, "grantee": scope});
            json!({"directive": {"header": header("Alexa.Authorization", "AcceptGrant"), "payload": payload}})
        };
        assert_eq!(directive_faults(&grant("c")), Vec::<String>::new());
        assert!(!directive_faults(&grant("")).is_empty());
    }
}
