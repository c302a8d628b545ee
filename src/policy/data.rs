//! Data documents that are put beside a bundle and change without it (DESIGN §6). Each is immutable and named by its content, and
//! so are all of them together.

use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use serde::{Deserialize, Serialize};
use serde_json::Value;
use thiserror::Error;

use super::rules::PACKAGE;
use crate::domain::decision::DataRecord;
use crate::domain::ids::shown;
use crate::domain::json::{self, JsonFault};
use crate::hash::sha256;

/// Heads what is hashed for the version of one document, and of all of them.
const DOCUMENT: &[u8] = b"taskgrant policy document 1\n";
const SET: &[u8] = b"taskgrant policy documents 1\n";
/// Most segments of a path, and most bytes of one.
const MOST_SEGMENTS: usize = 8;
const LONGEST_SEGMENT: usize = 64;
/// Most bytes of all documents together, each without white space: a server holds several times as much in memory, and rules run
/// into their limits long before they have looked at all of it.
pub const MOST_BYTES: usize = 16 << 20;

/// Where a document lies below `data`, as rules name it: `assets`, `teams.eu`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct DataPath(String);

/// A text that is no path of a document.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
#[error("`{0}` is no path of a document: write it as rules do after `data.`, such as `assets` or `teams.eu`")]
pub struct NoDataPath(String);

impl FromStr for DataPath {
    type Err = NoDataPath;

    fn from_str(text: &str) -> Result<Self, NoDataPath> {
        let legal = |b: u8| b.is_ascii_alphanumeric() || b == b'_' || b == b'-';
        let sound = |s: &str| !s.is_empty() && s.len() <= LONGEST_SEGMENT && s.bytes().all(legal);
        let is_rules = text.split('.').next() == Some(PACKAGE[0]);
        if is_rules || text.split('.').count() > MOST_SEGMENTS || !text.split('.').all(sound) {
            return Err(NoDataPath(shown(text)));
        }
        Ok(Self(text.to_owned()))
    }
}

impl fmt::Display for DataPath {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(&self.0)
    }
}

impl TryFrom<String> for DataPath {
    type Error = NoDataPath;
    fn try_from(text: String) -> Result<Self, NoDataPath> {
        text.parse()
    }
}

impl From<DataPath> for String {
    fn from(path: DataPath) -> Self {
        path.0
    }
}

impl DataPath {
    /// The text of it.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Its segments.
    pub(super) fn segments(&self) -> impl DoubleEndedIterator<Item = &str> {
        self.0.split('.')
    }

    /// Whether one of both lies within the other, or they are the same.
    pub(super) fn meets(&self, other: &Self) -> bool {
        self.segments().zip(other.segments()).all(|(one, other)| one == other)
    }
}

/// Why a document is not taken.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
pub enum BadDocument {
    /// It is no JSON, or JSON that two readers may take for different things.
    #[error("the document is {0}")]
    Json(#[from] JsonFault),
    /// There would be too much of them.
    #[error("all documents together may have {MOST_BYTES} bytes without white space, and would have {0}")]
    TooLarge(usize),
}

/// One document.
#[derive(Clone, PartialEq, Eq)]
pub struct Document {
    path: DataPath,
    version: String,
    content: Arc<[u8]>,
}

impl fmt::Debug for Document {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "Document({} {})", self.path, self.version)
    }
}

impl Document {
    /// Reads a document. Members in another order, and white space, make no other one.
    pub fn read(path: DataPath, text: &[u8]) -> Result<Self, BadDocument> {
        let value = json::value(text)?;
        // Writing a value to memory cannot fail; what is sorted is written sorted.
        let content = serde_json::to_vec(&value).unwrap_or_default();
        let version = version_of(&[DOCUMENT, path.as_str().as_bytes(), b"\n", &content]);
        Ok(Self { path, version, content: content.into() })
    }

    /// Where it lies.
    pub fn path(&self) -> &DataPath {
        &self.path
    }

    /// `sha256:` and the hash of path and content, in hexadecimal.
    pub fn version(&self) -> &str {
        &self.version
    }

    /// The content: JSON without white space.
    pub fn content(&self) -> &[u8] {
        &self.content
    }

    pub(super) fn value(&self) -> Result<Value, BadDocument> {
        Ok(json::value(&self.content)?)
    }
}

fn version_of(parts: &[&[u8]]) -> String {
    format!("sha256:{}", hex::encode(sha256(parts)))
}

/// All documents in force. Clones are the same.
#[derive(Clone, Debug, Default)]
pub struct Data(Arc<Documents>);

#[derive(Debug, Default)]
struct Documents {
    all: BTreeMap<DataPath, Document>,
    version: Option<String>,
}

impl Data {
    /// These documents; of two at one path the last one.
    pub fn of(documents: impl IntoIterator<Item = Document>) -> Result<Self, BadDocument> {
        let all: BTreeMap<_, _> = documents.into_iter().map(|d| (d.path.clone(), d)).collect();
        let bytes: usize = all.values().map(|document| document.content.len()).sum();
        if bytes > MOST_BYTES {
            return Err(BadDocument::TooLarge(bytes));
        }
        let names = names(&all);
        let version = (!all.is_empty()).then(|| version_of(&[SET, &names]));
        Ok(Self(Arc::new(Documents { all, version })))
    }

    /// The same with `document` in the place of what lies at its path.
    pub fn with(&self, document: Document) -> Result<Self, BadDocument> {
        Self::of(self.documents().cloned().chain([document]))
    }

    /// The same without what lies at `path`.
    pub fn without(&self, path: &DataPath) -> Result<Self, BadDocument> {
        Self::of(self.documents().filter(|document| document.path != *path).cloned())
    }

    /// `sha256:` and the hash of paths and versions, in hexadecimal; none where there are none.
    pub fn version(&self) -> Option<&str> {
        self.0.version.as_deref()
    }

    /// The names of all of them, as they are hashed: a JSON object of paths and versions. [`Data::listed`] reads it.
    pub fn names(&self) -> Vec<u8> {
        names(&self.0.all)
    }

    /// Paths and versions of [`Data::names`].
    pub fn listed(names: &[u8]) -> Result<BTreeMap<DataPath, String>, String> {
        serde_json::from_slice(names).map_err(|why| why.to_string())
    }

    /// The documents, in the order of their paths.
    pub fn documents(&self) -> impl Iterator<Item = &Document> {
        self.0.all.values()
    }

    /// The document at this path.
    pub fn get(&self, path: &DataPath) -> Option<&Document> {
        self.0.all.get(path)
    }
}

fn names(all: &BTreeMap<DataPath, Document>) -> Vec<u8> {
    let names: BTreeMap<_, _> = all.iter().map(|(path, d)| (path.as_str(), d.version.as_str())).collect();
    serde_json::to_vec(&names).unwrap_or_default()
}

/// What a decision names of the documents that it was made with.
pub(super) fn record(version: &str, used: &[Document]) -> DataRecord {
    let documents = used.iter().map(|d| (d.path.to_string(), d.version.clone())).collect();
    DataRecord { version: version.to_owned(), documents }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn document(path: &str, text: &str) -> Document {
        Document::read(path.parse().unwrap(), text.as_bytes()).unwrap()
    }

    #[test]
    fn a_path_is_what_rules_write_after_data() {
        for good in ["assets", "teams.eu", "a.b.c.d.e.f.g.h", "x-y_Z9"] {
            let path: DataPath = good.parse().unwrap();
            assert_eq!(path.to_string(), good);
        }
        let long = "x".repeat(65);
        for bad in ["", ".", "a.", ".a", "a..b", "a/b", "../a", "a b", "ä", "taskgrant", "taskgrant.x", &long]
        {
            assert!(bad.parse::<DataPath>().is_err(), "{bad}");
        }
        assert!("a.b.c.d.e.f.g.h.i".parse::<DataPath>().is_err());
        let meets = |one: &str, other: &str| one.parse::<DataPath>().unwrap().meets(&other.parse().unwrap());
        assert!(meets("a", "a") && meets("a.b", "a") && meets("a", "a.b"));
        assert!(!meets("a.b", "a.c") && !meets("ab", "a"));
    }

    #[test]
    fn a_version_is_of_path_and_content_and_of_nothing_else() {
        let one = document("a", r#"{"x": 1, "y": [1, 2]}"#);
        assert_eq!(one, document("a", "{\"y\":[1,2],\n\"x\":1}"));
        for other in [document("b", r#"{"x":1,"y":[1,2]}"#), document("a", r#"{"x":1,"y":[2,1]}"#)] {
            assert_ne!(one.version(), other.version());
        }
        // Fixed: another one would make every decision's data unknown.
        assert_eq!(
            document("assets", "{}").version(),
            format!("sha256:{}", hex::encode(sha256(&[b"taskgrant policy document 1\nassets\n{}"])))
        );
    }

    #[test]
    fn a_set_is_named_by_all_of_it_and_its_names_are_read_back() {
        let (one, two) = (document("a", "1"), document("b", "2"));
        let both = Data::of([one.clone(), two.clone()]).unwrap();
        assert_eq!(both.version(), Data::of([two.clone(), one.clone()]).unwrap().version());
        let other = both.with(document("b", "3")).unwrap();
        assert_ne!(other.version(), both.version());
        assert_eq!(other.with(two).unwrap().version(), both.version());
        let listed = Data::listed(&both.names()).unwrap();
        assert_eq!(listed[&"a".parse::<DataPath>().unwrap()], one.version());
        let none = both.without(one.path()).unwrap().without(&"b".parse().unwrap()).unwrap();
        assert_eq!((none.version(), none.documents().count()), (None, 0));
    }

    #[test]
    fn what_two_readers_may_take_for_different_things_is_not_taken() {
        let read = |text: &str| Document::read("a".parse().unwrap(), text.as_bytes()).unwrap_err();
        for bad in ["", "{", r#"{"a": 1, "a": 2}"#, "{} {}", &"[".repeat(100)] {
            assert!(matches!(read(bad), BadDocument::Json(_)), "{bad}");
        }
    }

    #[test]
    fn there_is_a_most_of_all_of_them_together() {
        let half = format!("\"{}\"", "x".repeat(MOST_BYTES / 2 - 2));
        let (one, two) = (document("a", &half), document("b", &half));
        let both = Data::of([one, two]).unwrap();
        assert_eq!(both.with(document("c", "1")).unwrap_err(), BadDocument::TooLarge(MOST_BYTES + 1));
        assert!(both.with(document("a", "1")).is_ok());
    }
}
