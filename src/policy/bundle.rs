//! A policy bundle: an immutable set of files, named by the hash of its content.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use super::fault::PolicyFault;
use super::folder;
use crate::hash::sha256;

/// Heads the canonical bytes; a change of their form changes it.
const MAGIC: &[u8] = b"taskgrant policy bundle 1\n";

/// Files of Rego, tests, fixtures, data and schemas, by bundle path (`FOLDER/…`, segments parted by `/`).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Bundle {
    files: BTreeMap<String, String>,
    version: String,
}

/// What a file of a bundle is, told by its path.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// `*.rego`
    Rules,
    /// `*_test.rego`
    Tests,
    /// `FOLDER/fixtures/*.json`
    Fixture,
    /// `FOLDER/data/**/*.json`
    Data,
    /// `FOLDER/schemas/**/*.json`
    Schema,
}

impl Kind {
    /// The kind of the file at this path; `None` if it has no place in a bundle.
    pub(super) fn of(path: &str) -> Option<Self> {
        let mut segments = path.split('/');
        let (Some(folder), Some(second)) = (segments.next(), segments.next()) else { return None };
        let extension = Path::new(path).extension()?.to_str()?;
        let sound = |segment: &str| !segment.is_empty() && !segment.starts_with('.');
        if !sound(folder) || !path.split('/').all(sound) {
            return None;
        }
        match (second, segments.next(), extension) {
            ("fixtures", Some(_), "json") => Some(Self::Fixture),
            ("data", Some(_), "json") => Some(Self::Data),
            ("schemas", Some(_), "json") => Some(Self::Schema),
            ("fixtures" | "data", Some(_), _) => None,
            (_, _, "rego") if path.ends_with("_test.rego") => Some(Self::Tests),
            (_, _, "rego") => Some(Self::Rules),
            _ => None,
        }
    }
}

impl Bundle {
    /// Loads named folders, such as `[("base", …), ("support", …)]`. Their order has no meaning. One without any file of a bundle is
    /// refused: it is the wrong one, or not there yet.
    pub fn load(folders: &[(&str, PathBuf)]) -> Result<Self, PolicyFault> {
        let mut files = Vec::new();
        for (name, root) in folders {
            let before = files.len();
            folder::read(name, root, &mut files)?;
            if files.len() == before {
                let problem =
                    "there is no policy in this folder: rules are files `*.rego`, data `data/*.json`"
                        .to_owned();
                return Err(PolicyFault::File { path: root.display().to_string(), problem });
            }
        }
        let bundle = Self::from_files(files)?;
        bundle.has_rules()?;
        Ok(bundle)
    }

    /// That it has rules: without any it would deny everything, which nobody means.
    pub(super) fn has_rules(&self) -> Result<(), PolicyFault> {
        self.of_kind(Kind::Rules).next().map(drop).ok_or(PolicyFault::NoRules)
    }

    /// The bundle made of `folders`, each under its own name, or the starter when there are none.
    pub fn of_folders(folders: &[PathBuf]) -> Result<Self, PolicyFault> {
        if folders.is_empty() {
            return Self::embedded_base();
        }
        let name = |folder: &Path| folder.file_name().map(|n| n.to_string_lossy().into_owned());
        let named: Vec<(String, PathBuf)> =
            folders.iter().map(|f| (name(f).unwrap_or_default(), f.clone())).collect();
        let borrowed: Vec<(&str, PathBuf)> = named.iter().map(|(n, f)| (n.as_str(), f.clone())).collect();
        Self::load(&borrowed)
    }

    /// The starter: allows what the ceilings allow, so that no Rego is needed for the first token.
    pub fn embedded_base() -> Result<Self, PolicyFault> {
        Self::embedded(&BASE)
    }

    /// The starter and the demo rules on top of it.
    pub fn embedded_demo() -> Result<Self, PolicyFault> {
        Self::embedded(&[BASE.as_slice(), SUPPORT.as_slice()].concat())
    }

    fn embedded(files: &[(&str, &str)]) -> Result<Self, PolicyFault> {
        Self::from_files(files.iter().map(|(path, text)| ((*path).to_owned(), (*text).to_owned())))
    }

    /// A bundle of these files. A path twice, or one without a place in a bundle, is refused.
    pub fn from_files(files: impl IntoIterator<Item = (String, String)>) -> Result<Self, PolicyFault> {
        let mut sorted = BTreeMap::new();
        for (path, text) in files {
            if Kind::of(&path).is_none() {
                return Err(PolicyFault::File { path, problem: "this has no place in a bundle".to_owned() });
            }
            if sorted.contains_key(&path) {
                return Err(PolicyFault::File {
                    path,
                    problem: "this path is in the bundle twice".to_owned(),
                });
            }
            sorted.insert(path, text);
        }
        let version = version_of(&canonical(&sorted));
        Ok(Self { files: sorted, version })
    }

    /// `sha256:` and the hash of [`Bundle::to_bytes`], in hexadecimal.
    pub fn version(&self) -> &str {
        &self.version
    }

    /// The paths and contents, in the order of the paths.
    pub fn files(&self) -> impl Iterator<Item = (&str, &str)> {
        self.files.iter().map(|(path, text)| (path.as_str(), text.as_str()))
    }

    /// Whether documents may be put beside it.
    pub(super) fn has_schemas(&self) -> bool {
        self.of_kind(Kind::Schema).next().is_some()
    }

    pub(super) fn of_kind(&self, kind: Kind) -> impl Iterator<Item = (&str, &str)> {
        self.files().filter(move |(path, _)| Kind::of(path) == Some(kind))
    }

    /// The canonical bytes: for each file, in the order of the paths, the length of path and content and both.
    pub fn to_bytes(&self) -> Vec<u8> {
        canonical(&self.files)
    }

    /// Reads [`Bundle::to_bytes`] back; anything else, also another order of the same files, is refused.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, PolicyFault> {
        let mut rest = bytes.strip_prefix(MAGIC).ok_or(PolicyFault::NotABundle)?;
        let mut files = Vec::new();
        while !rest.is_empty() {
            let (path, after) = take(rest).ok_or(PolicyFault::NotABundle)?;
            let (text, after) = take(after).ok_or(PolicyFault::NotABundle)?;
            files.push((path.to_owned(), text.to_owned()));
            rest = after;
        }
        let bundle = Self::from_files(files)?;
        if bundle.to_bytes() == bytes { Ok(bundle) } else { Err(PolicyFault::NotABundle) }
    }
}

fn canonical(files: &BTreeMap<String, String>) -> Vec<u8> {
    let mut bytes = MAGIC.to_vec();
    for part in files.iter().flat_map(|(path, text)| [path, text]) {
        bytes.extend((part.len() as u64).to_be_bytes());
        bytes.extend(part.as_bytes());
    }
    bytes
}

/// One part of the canonical bytes, and what follows it.
fn take(bytes: &[u8]) -> Option<(&str, &[u8])> {
    let (length, rest) = bytes.split_first_chunk()?;
    let length = usize::try_from(u64::from_be_bytes(*length)).ok()?;
    let (part, rest) = rest.split_at_checked(length)?;
    Some((std::str::from_utf8(part).ok()?, rest))
}

fn version_of(bytes: &[u8]) -> String {
    format!("sha256:{}", hex::encode(sha256(&[bytes])))
}

/// Pairs each file of a folder under `policies/` with its text.
macro_rules! embed {
    ($($path:literal),* $(,)?) => {
        [$(($path, include_str!(concat!("../../policies/", $path)))),*]
    };
}

const BASE: [(&str, &str); 5] = embed![
    "base/ceilings.rego",
    "base/ceilings_test.rego",
    "base/fixtures/beyond_the_ceiling.json",
    "base/fixtures/hand_over.json",
    "base/fixtures/within_the_ceiling.json",
];

const SUPPORT: [(&str, &str); 10] = embed![
    "support/refunds.rego",
    "support/refunds_test.rego",
    "support/support.rego",
    "support/support_test.rego",
    "support/fixtures/analyst_exports.json",
    "support/fixtures/high_risk_asks.json",
    "support/fixtures/plain_refund.json",
    "support/fixtures/stranger_exports.json",
    "support/fixtures/worker_lives_short.json",
    "support/fixtures/worker_on_restricted_data.json",
];

#[cfg(test)]
mod tests {
    use super::*;
    use crate::policy::testing::{bundle_of, module};

    fn two() -> Vec<(String, String)> {
        let first = ("a/x.rego".to_owned(), module("allow if true"));
        vec![first, ("b/fixtures/f.json".to_owned(), "{}".to_owned())]
    }

    #[test]
    fn the_version_does_not_depend_on_the_order_of_files() {
        let mut reversed = two();
        reversed.reverse();
        assert_eq!(Bundle::from_files(two()).unwrap(), Bundle::from_files(reversed).unwrap());
    }

    #[test]
    fn any_byte_changes_the_version() {
        let version = |files: Vec<(String, String)>| Bundle::from_files(files).unwrap().version().to_owned();
        let base = version(two());
        for file in 0..2 {
            for byte in 0..two()[file].1.len() {
                let mut files = two();
                files[file].1.replace_range(byte..=byte, "~");
                assert_ne!(version(files), base);
            }
        }
        let mut renamed = two();
        renamed[0].0 = "a/y.rego".to_owned();
        assert_ne!(version(renamed), base);
    }

    #[test]
    fn bytes_are_read_back_and_nothing_else_is() {
        let bundle = Bundle::embedded_demo().unwrap();
        let bytes = bundle.to_bytes();
        assert_eq!(Bundle::from_bytes(&bytes).unwrap(), bundle);
        assert_eq!(bundle.version(), version_of(&bytes));
        for cut in 0..bytes.len().min(200) {
            assert!(cut == MAGIC.len() || Bundle::from_bytes(&bytes[..cut]).is_err(), "{cut}");
        }
        let mut longer = bytes;
        longer.push(0);
        assert_eq!(Bundle::from_bytes(&longer), Err(PolicyFault::NotABundle));
    }

    #[test]
    fn the_kind_of_a_file_is_told_by_its_path() {
        for (path, kind) in [
            ("a/x.rego", Some(Kind::Rules)),
            ("a/deep/x.rego", Some(Kind::Rules)),
            ("a/x_test.rego", Some(Kind::Tests)),
            ("a/fixtures/x.json", Some(Kind::Fixture)),
            ("a/data/teams/eu.json", Some(Kind::Data)),
            ("a/schemas/teams/eu.json", Some(Kind::Schema)),
            ("a/schemas/teams.yaml", None),
            ("a/schemas/x.rego", Some(Kind::Rules)),
            ("a/data/teams.yaml", None),
            ("a/x.json", None),
            ("x.rego", None),
            ("a/../x.rego", None),
            ("/x.rego", None),
        ] {
            assert_eq!(Kind::of(path), kind, "{path}");
        }
    }

    #[test]
    fn the_embedded_files_are_all_that_the_folders_hold() {
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("policies");
        let loaded = Bundle::load(&[("base", root.join("base")), ("support", root.join("support"))]).unwrap();
        assert_eq!(loaded, Bundle::embedded_demo().unwrap());
    }

    #[test]
    fn a_path_twice_is_refused() {
        let twice = two().into_iter().chain(two());
        assert!(Bundle::from_files(twice).unwrap_err().to_string().contains("twice"));
        assert_eq!(bundle_of(&[]).files().count(), 0);
    }
}
