//! Home Assistant's templates, as far as devices use them. They come from the network: no files, no loader, bounded
//! work ([`FUEL`]), bounded output ([`OUTPUT_MAX_BYTES`]), and no clock (`now()` is the time of arrival).
//!
//! Where Home Assistant differs from plain Jinja it is followed: `int`, `float` and `round` of what is no number fail
//! without a default, so that a missing field never becomes 0.

mod check;

use std::borrow::Cow;
use std::collections::{BTreeMap, HashMap};

use minijinja::value::{Rest, Serde, ValueKind};
use minijinja::{Environment, Error, ErrorKind, State, UndefinedBehavior, Value};
use model::Timestamp;
use regex::{Regex, RegexBuilder};

use crate::counters::DropReason;

/// Work that one rendering may do, in minijinja's units: an instruction, or 64 bytes made, or two list items. Real
/// templates need some tens, plus one per 64 bytes of payload that they filter.
pub const FUEL: u64 = 25_000;

/// Longest rendered text. A state is a word or a number; a command at most a small JSON object.
pub const OUTPUT_MAX_BYTES: usize = 4096;

/// Longest template text. The longest of Zigbee2MQTT's are near 1 KiB.
pub const SOURCE_MAX_BYTES: usize = 8192;

/// Compiled templates kept; at the limit all are compiled anew when they are next used.
const COMPILED_MAX: usize = 8192;

/// Depth of calls within a template.
const RECURSION_MAX: usize = 50;

/// Largest compiled regular expression, bytes.
const REGEX_MAX_BYTES: usize = 64 * 1024;

/// What making a regular expression costs in fuel: compiling one takes far longer than an instruction.
const REGEX_FUEL: u64 = 500;

/// What came out of a template.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Rendered {
    /// This text, trimmed.
    Text(String),
    /// The payload lacks what the template reads (`is_defined`): no fault, and no value.
    Absent,
}

/// Renders templates. Compiled ones are kept.
pub struct Engine {
    environment: Environment<'static>,
    /// What is known of each compiled template.
    checked: HashMap<String, check::Checked>,
}

impl std::fmt::Debug for Engine {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Engine").finish_non_exhaustive()
    }
}

impl Default for Engine {
    fn default() -> Self {
        Self { environment: environment(), checked: HashMap::new() }
    }
}

impl Engine {
    /// Checks that a text is a template that can do no harm, without running it.
    ///
    /// # Errors
    /// When it is too long, can't be parsed, or could make lists without bounds.
    pub fn check(&mut self, source: &str) -> Result<(), DropReason> {
        self.compile(source).map(drop).ok_or(DropReason::ConfigTemplate)
    }

    /// Renders a value template over a payload.
    ///
    /// # Errors
    /// When the template fails or reaches a limit.
    pub fn read(&mut self, source: &str, payload: &Payload<'_>, now: Timestamp) -> Result<Rendered, DropReason> {
        let checked = self.compile(source).ok_or(DropReason::TemplateError)?;
        let json = payload.json.as_ref().map_or(Value::UNDEFINED, |json| value_of(json, checked.without_arrays));
        let context = [("value", Value::from(payload.text)), ("value_json", json), (NOW, Value::from(now.as_millis()))];
        self.render(source, BTreeMap::from(context))
    }

    /// Renders a command template over the value to send.
    ///
    /// # Errors
    /// When the template fails or reaches a limit.
    pub fn write(&mut self, source: &str, value: Value, now: Timestamp) -> Result<String, DropReason> {
        self.compile(source).ok_or(DropReason::TemplateError)?;
        match self.render(source, BTreeMap::from([("value", value), (NOW, Value::from(now.as_millis()))]))? {
            Rendered::Text(text) => Ok(text),
            Rendered::Absent => Err(DropReason::TemplateError),
        }
    }

    fn compile(&mut self, source: &str) -> Option<check::Checked> {
        if let Some(checked) = self.checked.get(source) {
            return Some(*checked);
        }
        if source.len() > SOURCE_MAX_BYTES {
            return None;
        }
        // Before compiling: that already computes what is constant.
        let checked = check::check(source).ok()?;
        if self.checked.len() >= COMPILED_MAX {
            self.environment.clear_templates();
            self.checked.clear();
        }
        self.environment.add_template_owned(source.to_owned(), source.to_owned()).ok()?;
        self.checked.insert(source.to_owned(), checked);
        Some(checked)
    }

    fn render(&mut self, source: &str, context: BTreeMap<&str, Value>) -> Result<Rendered, DropReason> {
        let rendered = self.environment.get_template(source).and_then(|t| t.render(context));
        match rendered {
            Ok(text) if text.len() > OUTPUT_MAX_BYTES => Err(DropReason::TemplateOutput),
            Ok(text) => Ok(Rendered::Text(text.trim().to_owned())),
            Err(error) => match cause(&error) {
                ErrorKind::OutOfFuel => Err(DropReason::TemplateFuel),
                ErrorKind::UndefinedError => Ok(Rendered::Absent),
                _ => Err(DropReason::TemplateError),
            },
        }
    }
}

/// A payload as templates see it: the JSON is read once for all of them.
#[derive(Clone, Debug)]
pub struct Payload<'a> {
    /// The text.
    pub text: &'a str,
    /// The same as JSON, if it is.
    pub json: Option<serde_json::Value>,
}

impl<'a> Payload<'a> {
    /// Reads the payload.
    pub fn new(text: &'a str) -> Self {
        Self { text, json: serde_json::from_str(text).ok() }
    }
}

/// JSON for a template. Where it adds or multiplies, arrays become maps from 0 to the last: they can be indexed, and
/// not multiplied.
fn value_of(json: &serde_json::Value, without_arrays: bool) -> Value {
    use serde_json::Value as Json;
    match json {
        Json::Array(items) if without_arrays => items
            .iter()
            .enumerate()
            .map(|(i, item)| (Value::from(i), value_of(item, true)))
            .collect::<BTreeMap<_, _>>()
            .into(),
        Json::Object(fields) if without_arrays => fields
            .iter()
            .map(|(key, item)| (Value::from(key.as_str()), value_of(item, true)))
            .collect::<BTreeMap<_, _>>()
            .into(),
        other => Value::from(Serde(other)),
    }
}

/// The variable that `now()` reads; not a name that a template can write.
const NOW: &str = "now ";

/// The kind of the innermost error: an exhausted budget may be wrapped.
fn cause(error: &Error) -> ErrorKind {
    let mut kind = error.kind();
    let mut source = std::error::Error::source(error);
    while let Some(inner) = source {
        if let Some(inner) = inner.downcast_ref::<Error>() {
            kind = inner.kind();
        }
        source = inner.source();
    }
    kind
}

fn environment() -> Environment<'static> {
    let mut e = Environment::new();
    e.set_auto_escape_callback(|_| minijinja::AutoEscape::None);
    e.set_undefined_behavior(UndefinedBehavior::Chainable);
    e.set_fuel(Some(FUEL));
    e.set_recursion_limit(RECURSION_MAX);
    // They put their inputs into one list, which `check` does not follow.
    e.remove_filter("zip");
    e.remove_filter("chain");
    e.set_unknown_method_callback(minijinja_contrib::pycompat::unknown_method_callback);

    e.add_filter("float", float);
    e.add_filter("int", int);
    e.add_filter("round", round);
    e.add_filter("is_defined", |value: Value| {
        if value.is_undefined() { Err(Error::from(ErrorKind::UndefinedError)) } else { Ok(value) }
    });
    e.add_filter("is_number", |value: Value| number(&value).is_some());
    e.add_filter("multiply", |value: Value, by: f64, default: Option<Value>| {
        number(&value).map(|v| Value::from(v * by)).or(default).ok_or_else(|| no_number(&value))
    });
    e.add_filter("add", |value: Value, by: f64, default: Option<Value>| {
        number(&value).map(|v| Value::from(v + by)).or(default).ok_or_else(|| no_number(&value))
    });
    e.add_filter("bitwise_and", |a: i64, b: i64| a & b);
    e.add_filter("bitwise_or", |a: i64, b: i64| a | b);
    e.add_filter("iif", iif);
    e.add_filter("from_json", from_json);
    e.add_filter("to_json", to_json);
    e.add_filter("regex_match", regex_match);
    e.add_filter("regex_search", regex_search);
    e.add_filter("regex_replace", regex_replace);
    e.add_filter("regex_findall", regex_findall);
    e.add_filter("regex_findall_index", |state: &State, text: Value, find: &str, index: Option<usize>| {
        let found = regex_findall(state, text, find, None)?;
        found.get_item_by_index(index.unwrap_or(0))
    });
    e.add_filter("as_timestamp", as_timestamp);
    e.add_filter("timestamp_utc", timestamp_utc);
    // The device's text decides nothing here, so the home's time zone is not needed: UTC for both.
    e.add_filter("timestamp_local", timestamp_utc);

    e.add_test("number", |value: Value| number(&value).is_some());
    e.add_test("match", |state: &State, text: Value, find: &str| regex_match(state, text, find, None));
    e.add_test("search", |state: &State, text: Value, find: &str| regex_search(state, text, find, None));

    e.add_function("float", float);
    e.add_function("int", int);
    e.add_function("iif", iif);
    e.add_function("is_number", |value: Value| number(&value).is_some());
    e.add_function("now", |state: &State| arrival(state).map(Timestamp::to_rfc3339));
    e.add_function("utcnow", |state: &State| arrival(state).map(Timestamp::to_rfc3339));
    e.add_function("as_timestamp", as_timestamp);
    // Other entities' states are not a device's to read: the answer that Home Assistant gives for one it does not know.
    e.add_function("states", |_entity: Rest<Value>| "unknown");
    e.add_function("state_attr", |_entity: Rest<Value>| Value::from(()));
    e.add_function("is_state", |_entity: Rest<Value>| false);
    e
}

/// The number that a value is or spells, if it is finite.
fn number(value: &Value) -> Option<f64> {
    let number = match value.kind() {
        ValueKind::Number => f64::try_from(value.clone()).ok()?,
        ValueKind::Bool => f64::from(u8::from(value.is_true())),
        ValueKind::String => value.as_str()?.trim().parse().ok()?,
        _ => return None,
    };
    number.is_finite().then_some(number)
}

fn no_number(value: &Value) -> Error {
    Error::new(ErrorKind::InvalidOperation, format!("a {} is no number, and there is no default", value.kind()))
}

fn float(value: Value, default: Option<Value>) -> Result<Value, Error> {
    number(&value).map(Value::from).or(default).ok_or_else(|| no_number(&value))
}

fn int(value: Value, default: Option<Value>, base: Option<u32>) -> Result<Value, Error> {
    let whole = match (value.as_str(), base) {
        (Some(text), Some(base)) if (2..=36).contains(&base) => {
            i64::from_str_radix(text.trim().trim_start_matches("0x"), base).ok()
        }
        _ => number(&value).map(|n| n.trunc() as i64),
    };
    whole.map(Value::from).or(default).ok_or_else(|| no_number(&value))
}

fn round(value: Value, precision: Option<i32>, method: Option<&str>, default: Option<Value>) -> Result<Value, Error> {
    let Some(n) = number(&value) else { return default.ok_or_else(|| no_number(&value)) };
    let factor = 10f64.powi(precision.unwrap_or(0).clamp(-12, 12));
    let scaled = n * factor;
    let rounded = match method.unwrap_or("common") {
        "ceil" => scaled.ceil(),
        "floor" => scaled.floor(),
        "half" => return Ok(Value::from((n * 2.0).round() / 2.0)),
        "common" => scaled.round_ties_even(),
        _ => return Err(Error::new(ErrorKind::InvalidOperation, "round knows common, ceil, floor and half")),
    } / factor;
    Ok(if precision.unwrap_or(0) == 0 { Value::from(rounded as i64) } else { Value::from(rounded) })
}

fn iif(value: Value, yes: Option<Value>, no: Option<Value>, none: Option<Value>) -> Value {
    if value.is_none() && none.is_some() {
        none.unwrap_or_default()
    } else if value.is_true() {
        yes.unwrap_or_else(|| Value::from(true))
    } else {
        no.unwrap_or_else(|| Value::from(false))
    }
}

fn from_json(state: &State, text: &str, default: Option<Value>) -> Result<Value, Error> {
    state.consume_fuel(text.len() as u64)?;
    match serde_json::from_str::<serde_json::Value>(text) {
        Ok(json) => Ok(Value::from(Serde(&json))),
        Err(_) => default.ok_or_else(|| Error::new(ErrorKind::InvalidOperation, "not json, and there is no default")),
    }
}

/// With the fuel that the engine's own filter takes.
fn to_json(state: &mut State, value: Value) -> Result<Value, Error> {
    state.apply_filter("tojson", &[value])
}

fn regex(state: &State, pattern: &str, haystack: &str, ignorecase: Option<bool>) -> Result<Regex, Error> {
    state.consume_fuel(REGEX_FUEL + (pattern.len() + haystack.len()) as u64 / 8)?;
    RegexBuilder::new(pattern)
        .case_insensitive(ignorecase.unwrap_or(false))
        .size_limit(REGEX_MAX_BYTES)
        .dfa_size_limit(REGEX_MAX_BYTES)
        .build()
        .map_err(|_| Error::new(ErrorKind::InvalidOperation, "the regular expression can't be used"))
}

fn text_of(value: &Value) -> Result<Cow<'_, str>, Error> {
    match value.kind() {
        ValueKind::String => Ok(Cow::Borrowed(value.as_str().unwrap_or_default())),
        ValueKind::Number | ValueKind::Bool => Ok(Cow::Owned(value.to_string())),
        other => Err(Error::new(ErrorKind::InvalidOperation, format!("a {other} is no text"))),
    }
}

/// Python's `re.match`: at the beginning.
fn regex_match(state: &State, text: Value, find: &str, ignorecase: Option<bool>) -> Result<bool, Error> {
    let text = text_of(&text)?;
    Ok(regex(state, find, &text, ignorecase)?.find(&text).is_some_and(|m| m.start() == 0))
}

fn regex_search(state: &State, text: Value, find: &str, ignorecase: Option<bool>) -> Result<bool, Error> {
    let text = text_of(&text)?;
    Ok(regex(state, find, &text, ignorecase)?.is_match(&text))
}

fn regex_replace(
    state: &State,
    text: Value,
    find: &str,
    replace: Option<&str>,
    ignorecase: Option<bool>,
) -> Result<String, Error> {
    let text = text_of(&text)?;
    let regex = regex(state, find, &text, ignorecase)?;
    // Python writes groups as `\1`.
    let replace = replace.unwrap_or("").replace('$', "$$");
    let groups = Regex::new(r"\\(\d+)").map_err(|e| Error::new(ErrorKind::InvalidOperation, e.to_string()))?;
    let replace = groups.replace_all(&replace, "$${$1}").into_owned();
    // How long it gets is not known before: at most each byte and each gap replaced by the whole text and all words.
    let (text_bytes, grown) = (text.len() as u64, replace.len() as u64);
    let groups = replace.matches("${").count() as u64;
    state.consume_fuel((text_bytes + 1).saturating_mul(grown.saturating_add(groups * text_bytes)) / 64)?;
    Ok(regex.replace_all(&text, replace.as_str()).into_owned())
}

fn regex_findall(state: &State, text: Value, find: &str, ignorecase: Option<bool>) -> Result<Value, Error> {
    let text = text_of(&text)?;
    let regex = regex(state, find, &text, ignorecase)?;
    let mut all = Vec::new();
    for found in regex.captures_iter(&text) {
        state.consume_fuel(1)?;
        // As Python does: the group if there is one, else the whole.
        let one = found.get(1).or_else(|| found.get(0)).map_or("", |m| m.as_str());
        all.push(Value::from(one));
    }
    Ok(Value::from(all))
}

fn arrival(state: &State) -> Result<Timestamp, Error> {
    let millis = state.lookup(NOW).and_then(|v| i64::try_from(v).ok());
    millis.map(Timestamp::from_millis).ok_or_else(|| Error::from(ErrorKind::UndefinedError))
}

fn as_timestamp(value: Value, default: Option<Value>) -> Result<Value, Error> {
    let parsed = value.as_str().and_then(|t| t.trim().parse::<jiff::Timestamp>().ok());
    match parsed {
        Some(t) => Ok(Value::from(t.as_millisecond() as f64 / 1000.0)),
        None => number(&value).map(Value::from).or(default).ok_or_else(|| no_number(&value)),
    }
}

fn timestamp_utc(value: Value, default: Option<Value>) -> Result<Value, Error> {
    let time = number(&value).and_then(|s| jiff::Timestamp::from_millisecond((s * 1000.0) as i64).ok());
    time.map(|t| Value::from(t.to_string())).or(default).ok_or_else(|| no_number(&value))
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use proptest::prelude::*;

    use super::*;

    const NOON: Timestamp = Timestamp::from_millis(1_764_072_000_000);

    fn read(source: &str, payload: &str) -> Result<Rendered, DropReason> {
        Engine::default().read(source, &Payload::new(payload), NOON)
    }

    fn text(source: &str, payload: &str) -> String {
        match read(source, payload) {
            Ok(Rendered::Text(text)) => text,
            other => panic!("{source}: {other:?}"),
        }
    }

    #[test]
    fn what_real_devices_write_is_rendered() {
        for (source, payload, expected) in [
            ("{{ value_json.temperature }}", r#"{"temperature":21.5}"#, "21.5"),
            ("{{ value_json['local temp'] | round(1) }}", r#"{"local temp":"20.449"}"#, "20.4"),
            ("{{ value_json.t | float / 10 }}", r#"{"t":"215"}"#, "21.5"),
            ("{{ value_json.t | float(0) | round }}", r#"{"t":"x"}"#, "0"),
            ("{{ (value | int(base=16)) if false else value | int }}", " 42 ", "42"),
            ("{{ value | int(0, 16) }}", "ff", "255"),
            ("{{ value_json.a.b.c }}", r#"{"a":{}}"#, ""),
            ("{{ value_json.missing.deeper | default('off') }}", "{}", "off"),
            ("{{ value }}", "plain", "plain"),
            ("{{ value_json }}", "not json", ""),
            ("{{ 'ON' if value_json.contact == false else 'OFF' }}", r#"{"contact":false}"#, "ON"),
            ("{% if value_json.position > 0 %}open{% else %}closed{% endif %}", r#"{"position":3}"#, "open"),
            (
                "{{ {None:None,'idle':'idle','heat':'heating'}[value_json.running_state] }}",
                r#"{"running_state":"heat"}"#,
                "heating",
            ),
            ("{% set m = {'heat':'heating'} %}{{ m.get(value_json.s, 'idle') }}", r#"{"s":"x"}"#, "idle"),
            ("{{ iif(value_json.x, 'yes', 'no') }}{{ (1 > 2) | iif('a', 'b') }}", r#"{"x":true}"#, "yesb"),
            ("{{ value | regex_replace('^T=(\\\\d+)$', '\\\\1.0') }}", "T=21", "21.0"),
            ("{{ value | regex_findall_index('[0-9.]+') }}", "temp 21.5 C", "21.5"),
            ("{{ value is search('open') }}{{ value | regex_match('door') }}", "door open", "TrueTrue"),
            ("{{ (value | from_json).a | multiply(2) }}", r#"{"a":4}"#, "8.0"),
            ("{{ value.split('|')[1] | trim }}", "a| b |c", "b"),
            (
                "{{ value_json.list | selectattr('on') | map(attribute='n') | join(',') }}",
                r#"{"list":[{"on":true,"n":1},{"on":false,"n":2}]}"#,
                "1",
            ),
            (
                "{% set ns = namespace(v=0) %}{% for x in [1,2,3] %}{% set ns.v = ns.v + x %}{% endfor %}{{ ns.v }}",
                "",
                "6",
            ),
            ("{{ now() }}", "", "2025-11-25T12:00:00.000Z"),
            ("{{ as_timestamp(now()) | int }}", "", "1764072000"),
            ("{{ states('sensor.other') }}", "", "unknown"),
            ("{{ value_json.x | bitwise_and(1) }}", r#"{"x":5}"#, "1"),
            ("{{ '%.1f' | format(value_json.x) }}", r#"{"x":5.25}"#, "5.2"),
        ] {
            assert_eq!(text(source, payload), expected, "{source}");
        }
    }

    #[test]
    fn a_missing_field_never_becomes_a_number() {
        for source in ["{{ value_json.t | float }}", "{{ value_json.t | int }}", "{{ value_json.t | round(1) }}"] {
            assert_eq!(read(source, "{}"), Err(DropReason::TemplateError), "{source}");
        }
        assert_eq!(read("{{ value_json.t | is_defined }}", "{}"), Ok(Rendered::Absent));
    }

    #[test]
    fn a_bomb_costs_bounded_work_and_has_a_name() {
        let fuel = Err(DropReason::TemplateFuel);
        for (source, expected) in [
            (
                "{% for a in range(99999) %}{% for b in range(99999) %}{% for c in range(99999) %}x{% endfor %}{% endfor %}{% endfor %}",
                fuel.clone(),
            ),
            ("{{ 'a' * 1000000000 }}", fuel.clone()),
            ("{{ 'a' * 99999999 }}", fuel.clone()),
            ("{{ range(1000000000) | list | length }}", Err(DropReason::TemplateError)),
            ("{{ [1] * 99999999 | list }}", Err(DropReason::TemplateError)),
            ("{% macro f(x) %}{{ f(x) }}{{ f(x) }}{% endmacro %}{{ f(1) }}", Err(DropReason::TemplateError)),
            (
                "{% set ns = namespace(s='aaaaaaaa') %}{% for i in range(1000) %}{% set ns.s = ns.s ~ ns.s %}{% endfor %}{{ ns.s | length }}",
                fuel.clone(),
            ),
            (
                "{% set ns = namespace(s=[1]) %}{% for i in range(1000) %}{% set ns.s = ns.s + ns.s %}{% endfor %}{{ ns.s | list | length }}",
                Err(DropReason::TemplateError),
            ),
            ("{{ '%1000000000d' | format(1) }}", fuel.clone()),
            ("{{ 'x'.rjust(1000000000) }}", Err(DropReason::TemplateError)),
            ("{{ ('a' * 1000) | regex_replace('', 'b' * 3000) | length }}", fuel.clone()),
            ("{{ 'a' | regex_match('(a{1000}){1000}') }}", Err(DropReason::TemplateError)),
            ("{{ ('a' * 40000) | regex_match('(a*)*b') }}", Ok(Rendered::Text("False".into()))),
            ("{{ 'a' * 5000 }}", Err(DropReason::TemplateOutput)),
            ("{% include '/etc/passwd' %}", Err(DropReason::TemplateError)),
            ("{{ ''.__class__.__mro__ }}", Ok(Rendered::Text(String::new()))),
        ] {
            // One that is not stopped does not end at all, or takes the machine's memory.
            let (done, wait) = std::sync::mpsc::channel();
            std::thread::spawn(move || done.send(read(source, "{}")));
            let got = wait.recv_timeout(Duration::from_secs(30)).expect(source);
            assert_eq!(got, expected, "{source}");
        }
        assert_eq!(Engine::default().check(&"x".repeat(SOURCE_MAX_BYTES + 1)), Err(DropReason::ConfigTemplate));
        assert_eq!(Engine::default().check("{{ unclosed"), Err(DropReason::ConfigTemplate));
    }

    proptest! {
        #[test]
        fn no_text_and_no_payload_panics(source in "\\PC{0,60}", inner in "[a-z_.|()'\\[\\]{}0-9 %*~+-]{0,40}", payload in "\\PC{0,60}") {
            let _ = read(&source, &payload);
            let _ = read(&format!("{{{{ {inner} }}}}"), &payload);
            let _ = read(&format!("{{% {inner} %}}"), &payload);
        }
    }
}
