//! JSON that can be read in one way only, and is no larger in memory than on the wire by much.

use serde::de::{Deserialize, DeserializeSeed, Deserializer, Error as _, MapAccess, SeqAccess, Visitor};
use serde_json::{Map, Value as Json};

use crate::limits::VALUES_MAX;

/// Reads a body. A key that stands twice in one object is an error: of two readers one would take the first and one the
/// last. So is a body of more than [`VALUES_MAX`] values: each takes many times its two bytes in memory.
pub(crate) fn read(body: &[u8]) -> Result<Json, serde_json::Error> {
    let mut left = VALUES_MAX;
    let mut reader = serde_json::Deserializer::from_slice(body);
    let json = Value { left: &mut left }.deserialize(&mut reader)?;
    reader.end()?;
    Ok(json)
}

struct Value<'a> {
    left: &'a mut usize,
}

impl<'de> DeserializeSeed<'de> for Value<'_> {
    type Value = Json;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Json, D::Error> {
        *self.left = self.left.checked_sub(1).ok_or_else(|| D::Error::custom("too many values"))?;
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Value<'_> {
    type Value = Json;

    fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("JSON")
    }

    fn visit_unit<E>(self) -> Result<Json, E> {
        Ok(Json::Null)
    }

    fn visit_bool<E>(self, value: bool) -> Result<Json, E> {
        Ok(Json::Bool(value))
    }

    fn visit_i64<E>(self, value: i64) -> Result<Json, E> {
        Ok(value.into())
    }

    fn visit_u64<E>(self, value: u64) -> Result<Json, E> {
        Ok(value.into())
    }

    fn visit_f64<E>(self, value: f64) -> Result<Json, E> {
        Ok(value.into())
    }

    fn visit_str<E>(self, value: &str) -> Result<Json, E> {
        Ok(Json::String(value.to_owned()))
    }

    fn visit_string<E>(self, value: String) -> Result<Json, E> {
        Ok(Json::String(value))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Json, A::Error> {
        let mut list = Vec::new();
        while let Some(item) = items.next_element_seed(Value { left: &mut *self.left })? {
            list.push(item);
        }
        Ok(Json::Array(list))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut entries: A) -> Result<Json, A::Error> {
        let mut map = Map::new();
        while let Some(Key(key)) = entries.next_key()? {
            if map.contains_key(&key) {
                return Err(A::Error::custom("a key stands twice"));
            }
            let value = entries.next_value_seed(Value { left: &mut *self.left })?;
            map.insert(key, value);
        }
        Ok(Json::Object(map))
    }
}

struct Key(String);

impl<'de> Deserialize<'de> for Key {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer).map(Key)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_read_is_what_serde_json_reads() {
        for text in [
            "null",
            "[]",
            r#"{"a":{"b":[1,-2,3.5,1e3,"x\n\u00e4",true,false,null]},"c":18446744073709551615,"d":{}}"#,
            r#""text""#,
            "-0.0",
        ] {
            assert_eq!(read(text.as_bytes()).unwrap(), serde_json::from_str::<Json>(text).unwrap(), "{text}");
        }
        for text in ["", "{", "[1,]", "1 2", "nul", "\u{feff}{}", "1e999", "{\"a\":1,}", "[NaN]"] {
            assert!(read(text.as_bytes()).is_err(), "{text}");
        }
    }

    #[test]
    fn a_key_that_stands_twice_is_an_error_however_it_is_written() {
        for text in [r#"{"a":1,"a":1}"#, r#"{"a":1,"\u0061":2}"#, r#"[{"b":{"a":[],"c":0,"a":[]}}]"#, r#"{"":1,"":1}"#]
        {
            assert!(read(text.as_bytes()).is_err(), "{text}");
        }
        assert!(read(br#"{"a":{"a":{"a":1}},"A":[{"a":1},{"a":1}]}"#).is_ok());
    }

    #[test]
    fn depth_and_number_of_values_are_bounded() {
        let nested = |n: usize| format!("{}{}", "[".repeat(n), "]".repeat(n));
        assert!(read(nested(100).as_bytes()).is_ok());
        assert!(read(nested(200).as_bytes()).is_err());
        assert!(read(nested(60_000).as_bytes()).is_err());
        let list = |n: usize| format!("[{}0]", "0,".repeat(n));
        assert!(read(list(VALUES_MAX - 2).as_bytes()).is_ok());
        assert!(read(list(VALUES_MAX - 1).as_bytes()).is_err());
    }
}
