//! Fits a YAML tree into a declared type: errors name the key, its place, and what could have been meant.

use std::fmt::{self, Display};

use serde::de::value::StrDeserializer;
use serde::de::{
    self, DeserializeOwned, DeserializeSeed, Deserializer, EnumAccess, Expected, IntoDeserializer, MapAccess,
    SeqAccess, Unexpected, VariantAccess, Visitor,
};
use serde::forward_to_deserialize_any;

use super::fault::{Place, suggest};
use super::node::{Entry, Kind, Node};

/// Why a tree does not fit.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Misfit {
    /// Where; set by the innermost node that knows.
    pub(super) place: Option<Place>,
    /// The way down to it, `lifetime.token`.
    pub(super) path: String,
    /// Whether a key is unknown or missing in the mapping at `path`: the message then goes on with its name.
    pub(super) within: bool,
    /// What is wrong.
    pub(super) message: String,
    /// What could have been meant.
    pub(super) suggestion: Option<String>,
}

impl Misfit {
    fn new(message: impl Into<String>) -> Self {
        Self { place: None, path: String::new(), within: false, message: message.into(), suggestion: None }
    }

    fn at(mut self, place: Place) -> Self {
        self.place = self.place.or(Some(place));
        self
    }

    fn under(mut self, step: &str) -> Self {
        let joint = if self.path.is_empty() || self.path.starts_with('[') { "" } else { "." };
        self.path = format!("{step}{joint}{}", self.path);
        self
    }
}

impl Display for Misfit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl std::error::Error for Misfit {}

impl de::Error for Misfit {
    fn custom<T: Display>(message: T) -> Self {
        Self::new(message.to_string())
    }

    fn invalid_type(found: Unexpected<'_>, wanted: &dyn Expected) -> Self {
        Self::new(format!("expected {}, found {}", plain(wanted), told(found)))
    }

    fn invalid_value(found: Unexpected<'_>, wanted: &dyn Expected) -> Self {
        Self::invalid_type(found, wanted)
    }

    fn unknown_field(key: &str, known: &'static [&'static str]) -> Self {
        let suggestion = suggest(key, known.iter().copied());
        Self { within: true, suggestion, ..Self::new(format!("unknown key `{key}`")) }
    }

    fn unknown_variant(word: &str, known: &'static [&'static str]) -> Self {
        let suggestion = suggest(word, known.iter().copied());
        Self { suggestion, ..Self::new(format!("unknown value `{word}`")) }
    }

    fn missing_field(key: &'static str) -> Self {
        Self { within: true, ..Self::new(format!("missing key `{key}`")) }
    }
}

/// Serde's name for what was wanted, in words of the reference.
fn plain(wanted: &dyn Expected) -> String {
    let name = wanted.to_string();
    match name.as_str() {
        "u8" | "u16" | "u32" | "u64" => "a whole number that is not negative and not too large".to_owned(),
        "i8" | "i16" | "i32" | "i64" => "a whole number that is not too large".to_owned(),
        "a string" => "a text".to_owned(),
        "a sequence" => "a list".to_owned(),
        "a map" => "a mapping".to_owned(),
        _ => name,
    }
}

fn told(found: Unexpected<'_>) -> String {
    match found {
        Unexpected::Bool(flag) => format!("the boolean `{flag}`"),
        Unexpected::Unsigned(n) => format!("the number `{n}`"),
        Unexpected::Signed(n) => format!("the number `{n}`"),
        Unexpected::Float(n) => format!("the number `{n}`"),
        // A text is not repeated: it could be a secret in the wrong place.
        Unexpected::Str(_) => "a text".to_owned(),
        Unexpected::Unit | Unexpected::Option => "nothing".to_owned(),
        Unexpected::Seq => "a list".to_owned(),
        Unexpected::Map => "a mapping".to_owned(),
        Unexpected::Char(_)
        | Unexpected::Bytes(_)
        | Unexpected::NewtypeStruct
        | Unexpected::Enum
        | Unexpected::UnitVariant
        | Unexpected::NewtypeVariant
        | Unexpected::TupleVariant
        | Unexpected::StructVariant
        | Unexpected::Other(_) => "something else".to_owned(),
    }
}

/// Reads a `T` from `node`.
pub(super) fn fit<T: DeserializeOwned>(node: &Node) -> Result<T, Misfit> {
    T::deserialize(node).map_err(|misfit| misfit.at(node.place))
}

impl Node {
    fn entries(&self) -> Result<&[Entry], Misfit> {
        match &self.kind {
            Kind::Map(entries) => Ok(entries),
            Kind::Null | Kind::Flag(_) | Kind::Number(_) | Kind::Text(_) | Kind::List(_) => {
                Err(Misfit::new(format!("expected a mapping, found {}", self.what())))
            }
        }
    }
}

impl<'de> Deserializer<'de> for &'de Node {
    type Error = Misfit;

    fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Misfit> {
        match &self.kind {
            Kind::Null => visitor.visit_unit(),
            Kind::Flag(flag) => visitor.visit_bool(*flag),
            Kind::Number(number) => match (number.as_u64(), number.as_i64(), number.as_f64()) {
                (Some(n), _, _) => visitor.visit_u64(n),
                (None, Some(n), _) => visitor.visit_i64(n),
                (None, None, n) => visitor.visit_f64(n.unwrap_or_default()),
            },
            Kind::Text(text) => visitor.visit_str(text),
            Kind::List(items) => visitor.visit_seq(Items { items, next: 0 }),
            Kind::Map(entries) => visitor.visit_map(Entries { entries: entries.iter(), value: None }),
        }
    }

    fn deserialize_option<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Misfit> {
        // A key without a value is no key left out: for a limit it would mean that there is none.
        if self.kind == Kind::Null {
            return Err(Misfit::new("expected a value, found nothing: write one, or leave the key out"));
        }
        visitor.visit_some(self)
    }

    fn deserialize_struct<V: Visitor<'de>>(
        self,
        _name: &'static str,
        _fields: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Misfit> {
        visitor.visit_map(Entries { entries: self.entries()?.iter(), value: None })
    }

    fn deserialize_newtype_struct<V: Visitor<'de>>(
        self,
        _name: &'static str,
        visitor: V,
    ) -> Result<V::Value, Misfit> {
        visitor.visit_newtype_struct(self)
    }

    fn deserialize_enum<V: Visitor<'de>>(
        self,
        _name: &'static str,
        known: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Misfit> {
        match &self.kind {
            Kind::Text(word) => visitor.visit_enum(Word(word)),
            Kind::Map(entries) if entries.len() == 1 => visitor.visit_enum(Single(entries)),
            Kind::Null | Kind::Flag(_) | Kind::Number(_) | Kind::List(_) | Kind::Map(_) => {
                let words: Vec<String> = known.iter().map(|k| format!("`{k}`")).collect();
                Err(Misfit::new(format!("expected one of {}, found {}", words.join(", "), self.what())))
            }
        }
    }

    forward_to_deserialize_any! {
        bool i8 i16 i32 i64 i128 u8 u16 u32 u64 u128 f32 f64 char str string bytes byte_buf unit unit_struct
        seq tuple tuple_struct map identifier ignored_any
    }
}

struct Items<'de> {
    items: &'de [Node],
    next: usize,
}

impl<'de> SeqAccess<'de> for Items<'de> {
    type Error = Misfit;

    fn next_element_seed<T: DeserializeSeed<'de>>(&mut self, seed: T) -> Result<Option<T::Value>, Misfit> {
        let Some(node) = self.items.get(self.next) else { return Ok(None) };
        let step = format!("[{}]", self.next);
        self.next += 1;
        seed.deserialize(node).map(Some).map_err(|m| m.at(node.place).under(&step))
    }
}

struct Entries<'de> {
    entries: std::slice::Iter<'de, Entry>,
    value: Option<&'de Entry>,
}

impl<'de> MapAccess<'de> for Entries<'de> {
    type Error = Misfit;

    fn next_key_seed<K: DeserializeSeed<'de>>(&mut self, seed: K) -> Result<Option<K::Value>, Misfit> {
        let Some(entry) = self.entries.next() else { return Ok(None) };
        self.value = Some(entry);
        let key: StrDeserializer<'_, Misfit> = entry.key.as_str().into_deserializer();
        seed.deserialize(key).map(Some).map_err(|m| m.at(entry.place))
    }

    fn next_value_seed<V: DeserializeSeed<'de>>(&mut self, seed: V) -> Result<V::Value, Misfit> {
        let entry = self.value.take().ok_or_else(|| Misfit::new("a value without a key"))?;
        // A missing key is told at the key whose mapping lacks it, anything else at the value.
        let place = if matches!(entry.value.kind, Kind::Map(_)) { entry.place } else { entry.value.place };
        seed.deserialize(&entry.value).map_err(|m| m.at(place).under(&entry.key))
    }
}

/// A word that stands for a variant without content.
struct Word<'de>(&'de str);

impl<'de> EnumAccess<'de> for Word<'de> {
    type Error = Misfit;
    type Variant = Self;

    fn variant_seed<V: DeserializeSeed<'de>>(self, seed: V) -> Result<(V::Value, Self), Misfit> {
        let word: StrDeserializer<'_, Misfit> = self.0.into_deserializer();
        Ok((seed.deserialize(word)?, self))
    }
}

impl<'de> VariantAccess<'de> for Word<'de> {
    type Error = Misfit;

    fn unit_variant(self) -> Result<(), Misfit> {
        Ok(())
    }

    fn newtype_variant_seed<T: DeserializeSeed<'de>>(self, _seed: T) -> Result<T::Value, Misfit> {
        Err(Misfit::new(format!("`{}` takes a value", self.0)))
    }

    fn tuple_variant<V: Visitor<'de>>(self, _len: usize, _visitor: V) -> Result<V::Value, Misfit> {
        Err(Misfit::new(format!("`{}` takes a list", self.0)))
    }

    fn struct_variant<V: Visitor<'de>>(
        self,
        _fields: &'static [&'static str],
        _visitor: V,
    ) -> Result<V::Value, Misfit> {
        Err(Misfit::new(format!("`{}` takes a mapping", self.0)))
    }
}

/// A mapping of one entry: its key stands for a variant, its value is the content.
struct Single<'de>(&'de [Entry]);

impl<'de> Single<'de> {
    fn entry(&self) -> Result<&'de Entry, Misfit> {
        self.0.first().ok_or_else(|| Misfit::new("a mapping without an entry"))
    }
}

impl<'de> EnumAccess<'de> for Single<'de> {
    type Error = Misfit;
    type Variant = Self;

    fn variant_seed<V: DeserializeSeed<'de>>(self, seed: V) -> Result<(V::Value, Self), Misfit> {
        let entry = self.entry()?;
        let key: StrDeserializer<'_, Misfit> = entry.key.as_str().into_deserializer();
        Ok((seed.deserialize(key).map_err(|m| m.at(entry.place))?, self))
    }
}

impl<'de> VariantAccess<'de> for Single<'de> {
    type Error = Misfit;

    fn unit_variant(self) -> Result<(), Misfit> {
        let entry = self.entry()?;
        Err(Misfit::new(format!("`{}` takes no value: write the word alone", entry.key)).at(entry.place))
    }

    fn newtype_variant_seed<T: DeserializeSeed<'de>>(self, seed: T) -> Result<T::Value, Misfit> {
        let entry = self.entry()?;
        seed.deserialize(&entry.value).map_err(|m| m.at(entry.value.place).under(&entry.key))
    }

    fn tuple_variant<V: Visitor<'de>>(self, _len: usize, visitor: V) -> Result<V::Value, Misfit> {
        let entry = self.entry()?;
        entry.value.deserialize_any(visitor).map_err(|m| m.at(entry.value.place).under(&entry.key))
    }

    fn struct_variant<V: Visitor<'de>>(
        self,
        _fields: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Misfit> {
        let entry = self.entry()?;
        let read = entry.value.deserialize_struct("", &[], visitor);
        read.map_err(|m| m.at(entry.value.place).under(&entry.key))
    }
}
