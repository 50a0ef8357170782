//! The schemas (JSON Schema 2020-12), one per message and interface.

use std::sync::LazyLock;

use jsonschema::{Registry, Validator};
use serde_json::{Value as Json, json};

const PREFIX: &str = "urn:vestibule:alexa:";

static SCHEMAS: LazyLock<Vec<(String, Json)>> = LazyLock::new(|| {
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/schemas");
    let read = |entry: std::io::Result<std::fs::DirEntry>| {
        let path = entry.unwrap().path();
        let name = path.file_stem().unwrap().to_str().unwrap().to_owned();
        (name, serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap())
    };
    std::fs::read_dir(folder).unwrap().map(read).collect()
});

fn validator(schema: &Json) -> Validator {
    static REGISTRY: LazyLock<Registry<'static>> = LazyLock::new(|| {
        let mut all = Registry::new();
        for (name, schema) in SCHEMAS.iter() {
            all = all.add(format!("{PREFIX}{name}"), schema.clone()).unwrap();
        }
        all.prepare().unwrap()
    });
    jsonschema::options().with_registry(&REGISTRY).build(schema).unwrap()
}

fn of(reference: &str) -> Validator {
    validator(&json!({"$ref": format!("{PREFIX}{reference}")}))
}

fn faults(validator: &Validator, json: &Json) -> Vec<String> {
    validator.iter_errors(json).map(|e| format!("{}: {e}", e.instance_path())).collect()
}

/// Which schema an event is held against, by its header.
fn of_event(event: &Json) -> &'static Validator {
    static ALL: LazyLock<[Validator; 6]> = LazyLock::new(|| {
        [
            "discover-response",
            "accept-grant-response",
            "state-report",
            "response",
            "error-response",
            "activation-started",
        ]
        .map(of)
    });
    let header = &event["event"]["header"];
    let which = match (header["namespace"].as_str().unwrap(), header["name"].as_str().unwrap()) {
        ("Alexa.Discovery", "Discover.Response") => 0,
        ("Alexa.Authorization", "AcceptGrant.Response") => 1,
        ("Alexa", "StateReport") => 2,
        ("Alexa", "Response") => 3,
        (_, "ErrorResponse") => 4,
        ("Alexa.SceneController", "ActivationStarted") => 5,
        other => panic!("no schema for {other:?}"),
    };
    &ALL[which]
}

/// Fails when an event breaks its schema.
pub fn check_event(event: &Json) {
    let faults = faults(of_event(event), event);
    assert!(faults.is_empty(), "{faults:#?}\n{event:#}");
}

/// Fails when a directive breaks the schema of directives, or its payload that of its interface.
pub fn check_directive(directive: &Json) {
    static ENVELOPE: LazyLock<Validator> = LazyLock::new(|| of("directive"));
    let faults_of_all = faults(&ENVELOPE, directive);
    assert!(faults_of_all.is_empty(), "{faults_of_all:#?}\n{directive:#}");
    let header = &directive["directive"]["header"];
    let (namespace, name) = (header["namespace"].as_str().unwrap(), header["name"].as_str().unwrap());
    for (file, schema) in SCHEMAS.iter() {
        let is_of = |c: &Json| c["properties"]["interface"]["const"] == namespace;
        let capability = &schema["$defs"]["capability"];
        let mine = is_of(capability) || capability["oneOf"].as_array().is_some_and(|all| all.iter().any(is_of));
        if mine {
            assert!(schema["$defs"]["payload"][name].is_object(), "{namespace} has no {name}");
            let found = faults(&of(&format!("{file}#/$defs/payload/{name}")), &directive["directive"]["payload"]);
            assert!(found.is_empty(), "{found:#?}\n{directive:#}");
            return;
        }
    }
}

#[test]
fn the_schemas_are_schemas_and_refuse_what_is_wrong() {
    for (name, schema) in SCHEMAS.iter() {
        assert_eq!(schema["$id"], format!("{PREFIX}{name}"));
        assert!(jsonschema::meta::is_valid(schema), "{name}");
    }
    let property = |namespace: &str, name: &str, value: Json| {
        json!({"namespace": namespace, "name": name, "value": value, "timeOfSample": "2026-01-01T00:00:00.000Z",
            "uncertaintyInMilliseconds": 500})
    };
    let event = |properties: Vec<Json>| {
        let header = json!({"namespace": "Alexa", "name": "Response", "payloadVersion": "3", "messageId": "m"});
        json!({"event": {"header": header, "endpoint": {"endpointId": "e"}, "payload": {}},
            "context": {"properties": properties}})
    };
    let lock = property("Alexa.LockController", "lockState", json!("LOCKED"));
    check_event(&event(vec![lock.clone()]));
    let mut microseconds = lock.clone();
    microseconds["timeOfSample"] = json!("2026-01-01T00:00:00.000000Z");
    for wrong in [
        event(vec![lock.clone(), lock]),
        event(vec![microseconds]),
        event(vec![property("Alexa.LockController", "lockState", json!("OPEN"))]),
        event(vec![property("Alexa.RangeController", "rangeValue", json!(50))]),
        event(vec![property("Alexa.BrightnessController", "brightness", json!(50.5))]),
        event(vec![property("Alexa.CO2Sensor", "value", json!(1))]),
        event(vec![property("Alexa.TemperatureSensor", "temperature", json!({"value": 21, "scale": "C"}))]),
    ] {
        assert!(!faults(of_event(&wrong), &wrong).is_empty(), "{wrong}");
    }
}
