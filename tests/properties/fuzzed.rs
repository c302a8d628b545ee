//! The bodies of the fuzz targets, driven by proptest: on the seeds, on seeds bent in a few places, and on any bytes.
//! `just fuzz` drives the same ones with libFuzzer for as long as one likes.

use std::fs;
use std::path::Path;

use proptest::prelude::*;
use proptest::sample::{Index, select};

use crate::bodies;

/// What one of few changes does to an input.
#[derive(Clone, Debug)]
enum Change {
    Put(Index, Vec<u8>),
    Cut(Index, usize),
    Flip(Index, u8),
    /// Copies a piece of another seed.
    Splice(Index, Index, usize),
}

fn seeds(target: &str) -> Vec<Vec<u8>> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz/seeds").join(target);
    let mut paths: Vec<_> = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    paths.sort();
    paths.iter().map(|path| fs::read(path).unwrap()).collect()
}

/// The words of the target's dictionary: what its grammar is made of.
fn words(target: &str) -> Vec<Vec<u8>> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz/dictionaries").join(target);
    let text = fs::read_to_string(path).unwrap();
    let quoted = text.lines().filter(|line| line.starts_with('"'));
    let word = |line: &str| serde_json::from_str::<String>(&line.replace("\\x", "\\u00")).unwrap();
    quoted.map(|line| word(line).into_bytes()).collect()
}

fn changes(words: Vec<Vec<u8>>) -> impl Strategy<Value = Vec<Change>> {
    let odd = prop_oneof![3 => select(words), 1 => any::<[u8; 1]>().prop_map(Vec::from), 1 => any::<char>().prop_map(|c| c.to_string().into_bytes())];
    let change = prop_oneof![
        3 => (any::<Index>(), odd).prop_map(|(at, text)| Change::Put(at, text)),
        2 => (any::<Index>(), 1..12_usize).prop_map(|(at, len)| Change::Cut(at, len)),
        1 => (any::<Index>(), any::<u8>()).prop_map(|(at, byte)| Change::Flip(at, byte)),
        1 => (any::<Index>(), any::<Index>(), 1..80_usize).prop_map(|(at, from, len)| Change::Splice(at, from, len)),
    ];
    proptest::collection::vec(change, 1..6)
}

fn changed(seed: &[u8], other: &[u8], changes: Vec<Change>) -> Vec<u8> {
    let mut bytes = seed.to_vec();
    for change in changes {
        match change {
            Change::Put(at, text) => {
                let at = at.index(bytes.len() + 1);
                bytes.splice(at..at, text);
            }
            Change::Cut(at, len) => {
                let at = at.index(bytes.len() + 1);
                bytes.drain(at..bytes.len().min(at + len));
            }
            Change::Flip(at, byte) if !bytes.is_empty() => {
                let at = at.index(bytes.len());
                bytes[at] ^= byte;
            }
            Change::Flip(..) => {}
            Change::Splice(at, from, len) => {
                let (at, from) = (at.index(bytes.len() + 1), from.index(other.len() + 1));
                let piece = other[from..other.len().min(from + len)].to_vec();
                bytes.splice(at..at, piece);
            }
        }
    }
    bytes
}

/// `cases` inputs beside the seeds themselves, one in eight of them any bytes at all.
fn drive(target: &str, cases: u32, body: fn(&[u8])) {
    let seeds = seeds(target);
    assert!(seeds.len() >= 3, "{target} has {} seeds", seeds.len());
    for seed in &seeds {
        body(seed);
    }
    let bent = (select(seeds.clone()), select(seeds), changes(words(target)));
    let inputs = prop_oneof![
        7 => bent.prop_map(|(seed, other, changes)| changed(&seed, &other, changes)),
        1 => proptest::collection::vec(any::<u8>(), 0..200),
    ];
    let config = ProptestConfig { cases, failure_persistence: None, ..ProptestConfig::default() };
    let ran = proptest::test_runner::TestRunner::new(config).run(&inputs, |input| {
        body(&input);
        Ok(())
    });
    if let Err(found) = ran {
        panic!("{target}: {found}");
    }
}

#[test]
fn tx_01_any_form_is_read_as_it_was_meant_or_refused() {
    drive("form", 600, bodies::form::body);
}

#[test]
fn jw_01_any_jwt_is_believed_by_its_signature_or_refused() {
    drive("jwt", 600, bodies::jwt::body);
}

#[test]
fn l1_any_scopes_are_read_by_the_grammar_and_never_widened() {
    drive("scope", 1_000, bodies::scope::body);
}

#[test]
fn any_objects_make_a_whole_configuration_or_are_told_what_is_wrong() {
    drive("objects", 150, bodies::objects::body);
}

#[test]
fn l11_any_policy_input_is_judged_within_the_ceilings_and_no_claim_loosens() {
    drive("policy_input", 200, bodies::policy_input::body);
}
