//! Canonical JSON, RFC 8785, for what a leaf may hold: written in one go from the types themselves, because every leaf is
//! written on the one thread that all messages wait for.

use std::borrow::Cow;
use std::cmp::Ordering;
use std::fmt::Display;
use std::ops::Range;

use serde::ser::{Impossible, SerializeMap, SerializeSeq, SerializeStruct};
use serde::{Serialize, Serializer};

use crate::leaf::LeafError;
use crate::limits::INTEGER_MAX;

/// The canonical form. Null, fractions and integers beyond 2^53-1 have no place in a leaf.
pub(crate) fn to_bytes(value: &impl Serialize) -> Result<Vec<u8>, LeafError> {
    let mut out = Vec::with_capacity(512);
    write(value, &mut out)?;
    Ok(out)
}

/// Appends the canonical form.
pub(crate) fn write(value: &impl Serialize, out: &mut Vec<u8>) -> Result<(), LeafError> {
    Ok(value.serialize(Canonical { out })?)
}

/// serde_json escapes as RFC 8785 section 3.2.2.2 asks: the five short escapes, `\u00xx` in lower case for the other
/// control characters, nothing else.
fn write_text(text: &str, out: &mut Vec<u8>) -> Result<(), Fault> {
    if text.bytes().all(|b| b >= b' ' && b != b'"' && b != b'\\') {
        out.push(b'"');
        out.extend_from_slice(text.as_bytes());
        out.push(b'"');
        return Ok(());
    }
    serde_json::to_writer(out, text).map_err(|e| Fault(LeafError::Json(e)))
}

/// A [`LeafError`] in the shape that serde asks for.
#[derive(Debug, thiserror::Error)]
#[error(transparent)]
struct Fault(LeafError);

impl From<Fault> for LeafError {
    fn from(fault: Fault) -> Self {
        fault.0
    }
}

impl serde::ser::Error for Fault {
    fn custom<T: Display>(message: T) -> Self {
        Self(LeafError::Json(serde::ser::Error::custom(message)))
    }
}

/// Writes one value.
struct Canonical<'a> {
    out: &'a mut Vec<u8>,
}

impl Canonical<'_> {
    fn integer(self, n: i128) -> Result<(), Fault> {
        let exact = i64::try_from(n).ok().filter(|n| (-INTEGER_MAX..=INTEGER_MAX).contains(n));
        let n = exact.ok_or(Fault(LeafError::Integer))?;
        serde_json::to_writer(self.out, &n).map_err(|e| Fault(LeafError::Json(e)))
    }
}

/// What no leaf holds.
fn never<T>() -> Result<T, Fault> {
    Err(Fault(LeafError::NotCanonical))
}

macro_rules! integers {
    ($($name:ident: $type:ty,)*) => {
        $(fn $name(self, n: $type) -> Result<(), Fault> {
            self.integer(n.into())
        })*
    };
}

impl<'a> Serializer for Canonical<'a> {
    type Ok = ();
    type Error = Fault;
    type SerializeSeq = List<'a>;
    type SerializeTuple = Impossible<(), Fault>;
    type SerializeTupleStruct = Impossible<(), Fault>;
    type SerializeTupleVariant = Impossible<(), Fault>;
    type SerializeMap = Nested<'a>;
    type SerializeStruct = Nested<'a>;
    type SerializeStructVariant = Impossible<(), Fault>;

    integers! {
        serialize_i8: i8, serialize_i16: i16, serialize_i32: i32, serialize_i64: i64,
        serialize_u8: u8, serialize_u16: u16, serialize_u32: u32, serialize_u64: u64,
    }

    fn serialize_bool(self, value: bool) -> Result<(), Fault> {
        self.out.extend_from_slice(if value { b"true" } else { b"false" });
        Ok(())
    }

    fn serialize_f32(self, _: f32) -> Result<(), Fault> {
        Err(Fault(LeafError::Integer))
    }

    fn serialize_f64(self, _: f64) -> Result<(), Fault> {
        Err(Fault(LeafError::Integer))
    }

    fn serialize_char(self, value: char) -> Result<(), Fault> {
        write_text(value.encode_utf8(&mut [0; 4]), self.out)
    }

    fn serialize_str(self, text: &str) -> Result<(), Fault> {
        write_text(text, self.out)
    }

    fn serialize_bytes(self, _: &[u8]) -> Result<(), Fault> {
        never()
    }

    fn serialize_none(self) -> Result<(), Fault> {
        never()
    }

    fn serialize_some<T: Serialize + ?Sized>(self, value: &T) -> Result<(), Fault> {
        value.serialize(self)
    }

    fn serialize_unit(self) -> Result<(), Fault> {
        never()
    }

    fn serialize_unit_struct(self, _: &'static str) -> Result<(), Fault> {
        never()
    }

    fn serialize_unit_variant(self, _: &'static str, _: u32, variant: &'static str) -> Result<(), Fault> {
        write_text(variant, self.out)
    }

    fn serialize_newtype_struct<T: Serialize + ?Sized>(self, _: &'static str, value: &T) -> Result<(), Fault> {
        value.serialize(self)
    }

    fn serialize_newtype_variant<T: Serialize + ?Sized>(
        self,
        _: &'static str,
        _: u32,
        _: &'static str,
        _: &T,
    ) -> Result<(), Fault> {
        never()
    }

    fn serialize_seq(self, _: Option<usize>) -> Result<List<'a>, Fault> {
        self.out.push(b'[');
        Ok(List { out: self.out, first: true })
    }

    fn serialize_tuple(self, _: usize) -> Result<Self::SerializeTuple, Fault> {
        never()
    }

    fn serialize_tuple_struct(self, _: &'static str, _: usize) -> Result<Self::SerializeTupleStruct, Fault> {
        never()
    }

    fn serialize_tuple_variant(
        self,
        _: &'static str,
        _: u32,
        _: &'static str,
        _: usize,
    ) -> Result<Self::SerializeTupleVariant, Fault> {
        never()
    }

    fn serialize_map(self, members: Option<usize>) -> Result<Nested<'a>, Fault> {
        Ok(Nested::begin(self.out, members.unwrap_or_default()))
    }

    fn serialize_struct(self, _: &'static str, members: usize) -> Result<Nested<'a>, Fault> {
        Ok(Nested::begin(self.out, members))
    }

    fn serialize_struct_variant(
        self,
        _: &'static str,
        _: u32,
        _: &'static str,
        _: usize,
    ) -> Result<Self::SerializeStructVariant, Fault> {
        never()
    }
}

/// Writes a list.
struct List<'a> {
    out: &'a mut Vec<u8>,
    first: bool,
}

impl SerializeSeq for List<'_> {
    type Ok = ();
    type Error = Fault;

    fn serialize_element<T: Serialize + ?Sized>(&mut self, value: &T) -> Result<(), Fault> {
        if !std::mem::take(&mut self.first) {
            self.out.push(b',');
        }
        value.serialize(Canonical { out: self.out })
    }

    fn end(self) -> Result<(), Fault> {
        self.out.push(b']');
        Ok(())
    }
}

/// Writes an object. Its members are put in order at the end, and only where they did not come in order.
struct Nested<'a> {
    out: &'a mut Vec<u8>,
    /// Where the object begins.
    start: usize,
    /// Keys, and where their members (key and value) stand.
    members: Vec<(Cow<'static, str>, Range<usize>)>,
    sorted: bool,
    key: Option<Cow<'static, str>>,
}

impl<'a> Nested<'a> {
    fn begin(out: &'a mut Vec<u8>, members: usize) -> Self {
        let start = out.len();
        out.push(b'{');
        Self { out, start, members: Vec::with_capacity(members), sorted: true, key: None }
    }

    fn put(&mut self, key: Cow<'static, str>, value: &(impl Serialize + ?Sized)) -> Result<(), Fault> {
        if let Some((last, _)) = self.members.last() {
            self.out.push(b',');
            self.sorted &= order(last, &key).is_lt();
        }
        let start = self.out.len();
        write_text(&key, self.out)?;
        self.out.push(b':');
        value.serialize(Canonical { out: self.out })?;
        self.members.push((key, start..self.out.len()));
        Ok(())
    }

    fn finish(mut self) -> Result<(), Fault> {
        if !self.sorted {
            self.members.sort_by(|(a, _), (b, _)| order(a, b));
            if self.members.windows(2).any(|pair| matches!(pair, [(a, _), (b, _)] if a == b)) {
                return Err(Fault(LeafError::NotCanonical));
            }
            let written = self.out.split_off(self.start);
            self.out.push(b'{');
            for (i, (_, range)) in self.members.iter().enumerate() {
                if i > 0 {
                    self.out.push(b',');
                }
                let range = range.start.saturating_sub(self.start)..range.end.saturating_sub(self.start);
                self.out.extend_from_slice(written.get(range).unwrap_or_default());
            }
        }
        self.out.push(b'}');
        Ok(())
    }
}

/// RFC 8785 section 3.2.3: by UTF-16 code units.
fn order(a: &str, b: &str) -> Ordering {
    if a.is_ascii() && b.is_ascii() { a.cmp(b) } else { a.encode_utf16().cmp(b.encode_utf16()) }
}

impl SerializeStruct for Nested<'_> {
    type Ok = ();
    type Error = Fault;

    fn serialize_field<T: Serialize + ?Sized>(&mut self, key: &'static str, value: &T) -> Result<(), Fault> {
        self.put(Cow::Borrowed(key), value)
    }

    fn end(self) -> Result<(), Fault> {
        self.finish()
    }
}

impl SerializeMap for Nested<'_> {
    type Ok = ();
    type Error = Fault;

    fn serialize_key<T: Serialize + ?Sized>(&mut self, key: &T) -> Result<(), Fault> {
        // A key is a text: what it is written as is read back.
        let mut text = Vec::new();
        key.serialize(Canonical { out: &mut text })?;
        self.key = Some(serde_json::from_slice::<String>(&text).map_err(|e| Fault(LeafError::Json(e)))?.into());
        Ok(())
    }

    fn serialize_value<T: Serialize + ?Sized>(&mut self, value: &T) -> Result<(), Fault> {
        match self.key.take() {
            Some(key) => self.put(key, value),
            None => never(),
        }
    }

    fn end(self) -> Result<(), Fault> {
        self.finish()
    }
}

#[cfg(test)]
mod tests {
    use serde_json::Value;

    use super::*;

    #[test]
    fn keys_sort_by_utf16_and_controls_are_escaped() {
        // The example of RFC 8785 section 3.2.3, with strings as values.
        let value: Value = serde_json::from_str(
            r#"{"\u20ac":"Euro Sign","\r":"Carriage Return","\ufb33":"Hebrew Letter Dalet With Dagesh",
               "1":"One","\ud83d\ude00":"Emoji: Grinning Face","\u0080":"Control","\u00f6":"Latin Small Letter O With Diaeresis"}"#,
        )
        .unwrap();
        let want = "{\"\\r\":\"Carriage Return\",\"1\":\"One\",\"\u{80}\":\"Control\",\"ö\":\"Latin Small Letter O With Diaeresis\",\
                    \"€\":\"Euro Sign\",\"😀\":\"Emoji: Grinning Face\",\"\u{fb33}\":\"Hebrew Letter Dalet With Dagesh\"}";
        assert_eq!(String::from_utf8(to_bytes(&value).unwrap()).unwrap(), want);
        let controls: Value = serde_json::from_str(r#""\u0000\u001f\u0008\t\n\f\r\"\\\/\u007f""#).unwrap();
        assert_eq!(to_bytes(&controls).unwrap(), b"\"\\u0000\\u001f\\b\\t\\n\\f\\r\\\"\\\\/\x7f\"");
    }

    #[test]
    fn a_key_stands_once_wherever_it_comes_from() {
        #[derive(Serialize)]
        struct Inner {
            b: u8,
            a: Option<bool>,
        }
        #[derive(Serialize)]
        struct Outer {
            c: Vec<u8>,
            #[serde(flatten)]
            inner: Inner,
            b: Vec<&'static str>,
        }
        let inner = || Inner { b: 1, a: Some(true) };
        assert_eq!(to_bytes(&inner()).unwrap(), br#"{"a":true,"b":1}"#);
        let text = |value: &Value| String::from_utf8(to_bytes(value).unwrap()).unwrap();
        assert_eq!(text(&serde_json::json!([{}, [], {"b": [1], "a": "x"}])), r#"[{},[],{"a":"x","b":[1]}]"#);
        assert!(matches!(to_bytes(&Outer { c: vec![], inner: inner(), b: vec![] }), Err(LeafError::NotCanonical)));
        assert!(matches!(to_bytes(&Inner { b: 1, a: None }), Err(LeafError::NotCanonical)));
    }

    #[test]
    fn numbers_stay_exact_in_every_reader() {
        for (text, fits) in [
            ("9007199254740991", true),
            ("-9007199254740991", true),
            ("9007199254740992", false),
            ("18446744073709551615", false),
            ("1.0", false),
            ("1e2", false),
            ("-0", false),
            ("null", false),
        ] {
            let value: Value = serde_json::from_str(text).unwrap();
            assert_eq!(to_bytes(&value).is_ok(), fits, "{text}");
        }
    }
}
