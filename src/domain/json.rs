//! One way to read JSON from the network: no member twice, not too deep (RFC 8725 §2.4) [JW-05].
//!
//! `serde_json` alone keeps the last of two equal members, so that two readers of one token may see different
//! claims, and its own `Value` gives special meaning to private member names: one of them starts a second parser
//! with a depth limit of its own, so that a small text exhausts the stack.

use std::cell::Cell;
use std::fmt;

use serde::de::{DeserializeSeed, Deserializer, Error, MapAccess, SeqAccess, Visitor};
use serde_json::map::Entry;
use serde_json::{Map, Number, Value};

use super::excerpt::Excerpt;

/// Deepest nesting accepted, counting the outer object as 1. A chain of 16 actors uses 18.
pub const MAX_DEPTH: u8 = 32;

/// Why a text is not acceptable JSON.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum JsonFault {
    /// Not JSON (RFC 8259), not UTF-8, something after the end, or a number beyond the range of a double.
    #[error("not valid JSON")]
    Syntax,
    /// Valid JSON of another kind.
    #[error("not a JSON object")]
    NotAnObject,
    /// A member name occurs twice in one object, at any depth, compared after unescaping.
    #[error("member {0} occurs twice")]
    Duplicate(Excerpt),
    /// A member name that `serde_json` gives a meaning of its own, here or when the value is read again from a record.
    #[error("member {0} has a reserved name")]
    Reserved(Excerpt),
    /// Nested deeper than [`MAX_DEPTH`].
    #[error("nested deeper than {MAX_DEPTH} levels")]
    TooDeep,
}

/// Reads one JSON object; the whole of `bytes` must be it.
pub fn object(bytes: &[u8]) -> Result<Map<String, Value>, JsonFault> {
    match value(bytes)? {
        Value::Object(members) => Ok(members),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) | Value::Array(_) => {
            Err(JsonFault::NotAnObject)
        }
    }
}

/// Reads JSON of any kind; the whole of `bytes` must be it.
pub fn value(bytes: &[u8]) -> Result<Value, JsonFault> {
    let fault = Cell::new(None);
    let mut reader = serde_json::Deserializer::from_slice(bytes);
    let read = Strict { left: MAX_DEPTH, fault: &fault }.deserialize(&mut reader);
    let read = read.and_then(|value| reader.end().map(|()| value));
    read.map_err(|_| fault.take().unwrap_or(JsonFault::Syntax))
}

/// What `serde_json` begins its private member names with.
const RESERVED: &str = "$serde_json::private::";

/// Builds a value and counts the levels `left`. serde's errors are text, so the typed one goes out by `fault`.
#[derive(Clone, Copy)]
struct Strict<'f> {
    left: u8,
    fault: &'f Cell<Option<JsonFault>>,
}

impl Strict<'_> {
    fn refuse<E: Error>(self, fault: JsonFault) -> E {
        let error = E::custom(&fault);
        self.fault.set(Some(fault));
        error
    }

    fn deeper<E: Error>(self) -> Result<Self, E> {
        let left = self.left.checked_sub(1).ok_or_else(|| self.refuse(JsonFault::TooDeep))?;
        Ok(Self { left, ..self })
    }
}

impl<'de> DeserializeSeed<'de> for Strict<'_> {
    type Value = Value;

    fn deserialize<D: Deserializer<'de>>(self, reader: D) -> Result<Value, D::Error> {
        reader.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Strict<'_> {
    type Value = Value;

    fn expecting(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str("a JSON value")
    }

    fn visit_unit<E: Error>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_bool<E: Error>(self, value: bool) -> Result<Value, E> {
        Ok(Value::Bool(value))
    }

    fn visit_i64<E: Error>(self, value: i64) -> Result<Value, E> {
        Ok(Value::Number(value.into()))
    }

    fn visit_u64<E: Error>(self, value: u64) -> Result<Value, E> {
        Ok(Value::Number(value.into()))
    }

    fn visit_f64<E: Error>(self, value: f64) -> Result<Value, E> {
        Number::from_f64(value).map(Value::Number).ok_or_else(|| self.refuse(JsonFault::Syntax))
    }

    fn visit_str<E: Error>(self, value: &str) -> Result<Value, E> {
        Ok(Value::String(value.to_owned()))
    }

    fn visit_string<E: Error>(self, value: String) -> Result<Value, E> {
        Ok(Value::String(value))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Value, A::Error> {
        let inner = self.deeper()?;
        let mut values = Vec::new();
        while let Some(value) = items.next_element_seed(inner)? {
            values.push(value);
        }
        Ok(Value::Array(values))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut members: A) -> Result<Value, A::Error> {
        let inner = self.deeper()?;
        let mut values = Map::new();
        while let Some(name) = members.next_key::<String>()? {
            if name.starts_with(RESERVED) {
                return Err(self.refuse(JsonFault::Reserved(Excerpt::of(&name))));
            }
            match values.entry(name) {
                Entry::Vacant(free) => free.insert(members.next_value_seed(inner)?),
                Entry::Occupied(taken) => {
                    return Err(self.refuse(JsonFault::Duplicate(Excerpt::of(taken.key()))));
                }
            };
        }
        Ok(Value::Object(values))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn nested(levels: usize) -> String {
        format!("{}1{}", r#"{"a":"#.repeat(levels), "}".repeat(levels))
    }

    #[test]
    fn an_object_reads_as_serde_json_reads_it() {
        let text = r#"{"a":[1,-2,3.5,1e3,true,null,"x\u00e9"],"b":{"a":{}},"c":18446744073709551615}"#;
        let plain: Map<String, Value> = serde_json::from_str(text).unwrap();
        assert_eq!(object(text.as_bytes()), Ok(plain));
    }

    #[test]
    fn jw_05_a_member_twice_is_refused_at_any_depth() {
        for text in [r#"{"a":1,"a":1}"#, r#"{"x":{"a":1,"a":2}}"#, r#"{"x":[{"a":1,"a":2}]}"#] {
            assert_eq!(object(text.as_bytes()), Err(JsonFault::Duplicate(Excerpt::of("a"))), "{text}");
        }
    }

    #[test]
    fn jw_05_an_escaped_spelling_is_the_same_member() {
        let text = br#"{"sub":"a","\u0073ub":"b"}"#;
        assert_eq!(object(text), Err(JsonFault::Duplicate(Excerpt::of("sub"))));
    }

    #[test]
    fn depth_32_is_read_and_33_is_not() {
        assert!(object(nested(32).as_bytes()).is_ok());
        assert_eq!(object(nested(33).as_bytes()), Err(JsonFault::TooDeep));
        let array = format!(r#"{{"a":{}{}}}"#, "[".repeat(32), "]".repeat(32));
        assert_eq!(object(array.as_bytes()), Err(JsonFault::TooDeep));
    }

    #[test]
    fn a_depth_bomb_does_not_reach_the_stack() {
        assert_eq!(object(nested(10_000).as_bytes()), Err(JsonFault::TooDeep));
        assert_eq!(object("{\"a\":".repeat(10_000).as_bytes()), Err(JsonFault::TooDeep));
        assert_eq!(object("[".repeat(1_000_000).as_bytes()), Err(JsonFault::TooDeep));
    }

    #[test]
    fn a_private_member_name_of_serde_json_is_refused_however_it_is_spelt() {
        for name in [
            "$serde_json::private::RawValue",
            "$serde_json::private::Number",
            r"\u0024serde_json::private::x",
        ] {
            let fault = object(format!(r#"{{"a":[{{"{name}":"[1]"}}]}}"#).as_bytes()).unwrap_err();
            assert!(matches!(fault, JsonFault::Reserved(_)), "{name}: {fault}");
        }
    }

    #[test]
    fn other_texts_are_refused() {
        for text in ["", "{", "{}x", "{}{}", "{'a':1}", "{\"a\":1e999}", "\u{feff}{}", "{\"a\":NaN}"] {
            assert_eq!(object(text.as_bytes()), Err(JsonFault::Syntax), "{text}");
        }
        assert_eq!(object(b"{\"a\":\"\xff\"}"), Err(JsonFault::Syntax));
        for text in ["[]", "null", "1", "\"{}\"", "true"] {
            assert_eq!(object(text.as_bytes()), Err(JsonFault::NotAnObject), "{text}");
        }
    }
}
