//! Canonical JSON, RFC 8785, for the values that a leaf may hold.

use serde_json::Value;

use crate::leaf::LeafError;
use crate::limits::INTEGER_MAX;

/// The canonical form. Null, fractions and integers beyond 2^53-1 have no place in a leaf.
pub(crate) fn to_bytes(value: &Value) -> Result<Vec<u8>, LeafError> {
    let mut out = Vec::with_capacity(512);
    write(value, &mut out)?;
    Ok(out)
}

fn write(value: &Value, out: &mut Vec<u8>) -> Result<(), LeafError> {
    match value {
        Value::Null => return Err(LeafError::NotCanonical),
        Value::Bool(b) => out.extend_from_slice(if *b { b"true" } else { b"false" }),
        Value::Number(n) => {
            let n = n.as_i64().filter(|n| (-INTEGER_MAX..=INTEGER_MAX).contains(n)).ok_or(LeafError::Integer)?;
            out.extend_from_slice(n.to_string().as_bytes());
        }
        Value::String(s) => write_text(s, out)?,
        Value::Array(items) => {
            out.push(b'[');
            for (i, item) in items.iter().enumerate() {
                if i > 0 {
                    out.push(b',');
                }
                write(item, out)?;
            }
            out.push(b']');
        }
        Value::Object(map) => {
            let mut entries: Vec<_> = map.iter().collect();
            // RFC 8785 section 3.2.3: by UTF-16 code units.
            entries.sort_by(|(a, _), (b, _)| a.encode_utf16().cmp(b.encode_utf16()));
            out.push(b'{');
            for (i, (key, item)) in entries.into_iter().enumerate() {
                if i > 0 {
                    out.push(b',');
                }
                write_text(key, out)?;
                out.push(b':');
                write(item, out)?;
            }
            out.push(b'}');
        }
    }
    Ok(())
}

/// serde_json escapes as RFC 8785 section 3.2.2.2 asks: the five short escapes, `\u00xx` in lower case for the other
/// control characters, nothing else.
fn write_text(text: &str, out: &mut Vec<u8>) -> Result<(), LeafError> {
    serde_json::to_writer(out, text).map_err(LeafError::Json)
}

#[cfg(test)]
mod tests {
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
