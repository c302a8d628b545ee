//! A bounded memory of what was used lately, for caches that callers can fill.

use std::collections::HashMap;
use std::hash::Hash;

use serde_json::{Map, Value};

/// Keeps what was used lately, within a number of entries and of bytes.
///
/// Two halves: what is used moves to the young half; when that is full it becomes the old one, and the old is gone.
#[derive(Debug)]
pub struct Recent<K, V> {
    young: HashMap<K, Entry<V>>,
    old: HashMap<K, Entry<V>>,
    young_bytes: usize,
    half: usize,
    half_bytes: usize,
}

#[derive(Debug)]
struct Entry<V> {
    value: V,
    bytes: usize,
}

impl<K: Eq + Hash + Copy, V: Clone> Recent<K, V> {
    /// At most `entries` of together at most `bytes`; fewer than 2 entries are none.
    pub fn new(entries: usize, bytes: usize) -> Self {
        let (young, old) = (HashMap::new(), HashMap::new());
        Self { young, old, young_bytes: 0, half: entries / 2, half_bytes: bytes / 2 }
    }

    /// What is kept under `key`, which counts as used.
    pub fn get(&mut self, key: &K) -> Option<V> {
        if let Some(entry) = self.young.get(key) {
            return Some(entry.value.clone());
        }
        let Entry { value, bytes } = self.old.remove(key)?;
        self.put(*key, value.clone(), bytes);
        Some(value)
    }

    /// Keeps `value`, which takes `bytes`; one that alone takes more than a 64th of the memory is not kept, so that a
    /// few large ones do not displace all others.
    pub fn put(&mut self, key: K, value: V, bytes: usize) {
        if self.half == 0 || bytes > self.half_bytes / 32 {
            return;
        }
        if self.young.len() >= self.half || self.young_bytes + bytes > self.half_bytes {
            self.old = std::mem::take(&mut self.young);
            self.young_bytes = 0;
        }
        let replaced = self.young.insert(key, Entry { value, bytes });
        self.young_bytes = (self.young_bytes + bytes).saturating_sub(replaced.map_or(0, |entry| entry.bytes));
    }

    /// Bytes that the entries take, as they were told.
    pub fn bytes(&self) -> usize {
        self.young_bytes + self.old.values().map(|entry| entry.bytes).sum::<usize>()
    }
}

/// About how many bytes a JSON object takes in memory: many small members take some eighty times their text.
pub fn bytes_of(members: &Map<String, Value>) -> usize {
    /// A leaf of the map, with room for eleven members.
    const NODE: usize = 640;
    let each = members.iter().map(|(name, value)| name.len() + bytes_within(value));
    each.sum::<usize>() + members.len().div_ceil(5) * NODE
}

/// What a value takes beyond its own slot.
fn bytes_within(value: &Value) -> usize {
    match value {
        Value::Null | Value::Bool(_) | Value::Number(_) => 0,
        Value::String(text) => text.len(),
        Value::Array(items) => {
            2 * items.len() * size_of::<Value>() + items.iter().map(bytes_within).sum::<usize>()
        }
        Value::Object(members) => bytes_of(members),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn what_is_used_stays_and_the_rest_goes() {
        let mut recent = Recent::new(8, 8 * 64);
        for key in 0..100 {
            recent.put(key, key, 1);
            assert_eq!(recent.get(&0), Some(0), "used all the time, after {key}");
            assert!(recent.young.len() <= 4 && recent.old.len() <= 4);
        }
        assert_eq!((recent.get(&99), recent.get(&50)), (Some(99), None));
    }

    #[test]
    fn neither_many_nor_large_entries_take_more_than_the_bytes() {
        let mut recent = Recent::new(1_000_000, 64_000);
        for key in 0..10_000 {
            recent.put(key, (), 900);
            recent.put(key, (), 900);
            assert!(recent.bytes() <= 64_000);
        }
        assert!(recent.bytes() > 32_000, "and it keeps what fits");
        recent.put(1_000_000, (), 1_001);
        assert_eq!(recent.get(&1_000_000), None);
        let mut none = Recent::new(1, 64_000);
        none.put(1, (), 1);
        assert_eq!(none.get(&1), None);
    }

    #[test]
    fn small_members_weigh_what_they_take() {
        let weight = |value: &Value| bytes_of(value.as_object().unwrap());
        let small: Value = (0..300).map(|_| json!({"": 0})).collect();
        assert!(weight(&json!({"a": small})) > 300 * 600);
        assert!(weight(&json!({"sub": "ann", "groups": ["a", "b"], "exp": 1})) < 1_000);
        assert!(weight(&json!({"a": "x".repeat(10_000)})) > 10_000);
    }
}
