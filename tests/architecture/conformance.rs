//! `docs/reference/conformance.md` cannot rot: every rule has a row, and every test that a row names exists.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;

const DOCUMENT: &str = "docs/reference/conformance.md";

/// The rules that must have a row: prefix and highest number.
const RULES: [(&str, u32); 17] = [
    ("TX-", 19),
    ("TT-", 7),
    ("TA-", 3),
    ("AT-", 5),
    ("JW-", 6),
    ("RA-", 6),
    ("MD-", 3),
    ("PR-", 2),
    ("CA-", 7),
    ("DP-", 3),
    ("IN-", 3),
    ("RV-", 2),
    ("SE-", 4),
    ("SL-", 3),
    ("AP-", 5),
    ("TR-", 5),
    ("T", 42),
];

/// The rules that must hold over HTTP on SQLite and on PostgreSQL.
const ON_BOTH: [&str; 19] = [
    "IN-01", "IN-02", "RV-01", "RV-02", "SL-01", "SL-02", "SL-03", "SE-03", "SE-04", "T02", "T11", "T12",
    "T13", "T14", "T15", "T26", "T27", "T28", "T29",
];

/// Tests of theirs that are not run again: of time, and of a command without a server.
const ON_ONE: [&str; 2] =
    ["a_principals_rate_is_its_own_whoever_asks", "each_fault_is_told_under_its_code_and_fails_or_not"];

/// Id and last cell of each row of each table.
fn rows(text: &str) -> Vec<(&str, &str)> {
    text.lines()
        .filter_map(|line| line.strip_prefix("| ")?.strip_suffix(" |"))
        .filter_map(|line| Some((line.split_once(" | ")?.0, line.rsplit_once(" | ")?.1)))
        .filter(|(id, _)| *id != "id")
        .collect()
}

/// Words in backquotes that could be the name of a test.
fn cited(cell: &str) -> impl Iterator<Item = &str> {
    let names = cell.split('`').skip(1).step_by(2);
    names.filter(|name| name.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'_'))
}

/// Names of all functions under a folder.
fn functions(folder: &Path, found: &mut BTreeSet<String>) {
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            functions(&path, found);
        } else if path.extension().is_some_and(|e| e == "rs") {
            let text = fs::read_to_string(&path).unwrap();
            let names = text.split("fn ").skip(1).filter_map(|rest| rest.split(['(', '<']).next());
            found.extend(names.map(str::to_owned));
        }
    }
}

fn faults(text: &str) -> Vec<String> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut known = BTreeSet::new();
    for folder in ["src", "tests"] {
        functions(&root.join(folder), &mut known);
    }
    let rows = rows(text);
    let mut faults = Vec::new();
    for (id, cell) in &rows {
        if cited(cell).next().is_none() && !cell.starts_with("Not ") {
            faults.push(format!("{id}: names no test and does not say why"));
        }
        let unknown = cited(cell).filter(|name| !known.contains(*name));
        faults.extend(unknown.map(|name| format!("{id}: there is no test `{name}`")));
    }
    for (prefix, last) in RULES {
        for number in 1..=last {
            let id = format!("{prefix}{number:02}");
            let count = rows.iter().filter(|(row, _)| *row == id).count();
            if count != 1 {
                faults.push(format!("{id}: has {count} rows"));
            }
        }
    }
    faults
}

/// The tests with whole servers, as `cargo test` names them, by their last name. Those of the store run on both anyway.
fn whole_servers(folder: &Path, module: &str, found: &mut BTreeMap<String, String>) {
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_stem().unwrap().to_str().unwrap();
        if path.is_dir() && name != "store" {
            whole_servers(&path, &format!("{module}{name}::"), found);
        } else if path.extension().is_some_and(|e| e == "rs") {
            let within = if name == "mod" { module.to_owned() } else { format!("{module}{name}::") };
            let text = fs::read_to_string(&path).unwrap();
            let tests = text.split("\nasync fn ").skip(1).filter_map(|rest| rest.split('(').next());
            found.extend(tests.map(|test| (test.to_owned(), format!("{within}{test}"))));
        }
    }
}

/// Tests that show one of [`ON_BOTH`] and that no filter of `.ci/run` lets run on PostgreSQL.
fn on_one_only(document: &str, ci: &str) -> Vec<String> {
    let mut tests = BTreeMap::new();
    whole_servers(&Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/it"), "", &mut tests);
    let (_, list) = ci.split_once("on_postgres=(").unwrap();
    let filters: Vec<&str> = list.split(')').next().unwrap().split_whitespace().collect();
    let rows = rows(document).into_iter().filter(|(id, _)| ON_BOTH.contains(id));
    let named = rows.flat_map(|(_, cell)| cited(cell)).filter(|name| !ON_ONE.contains(name));
    let paths: BTreeSet<_> = named.filter_map(|name| tests.get(name)).collect();
    assert!(paths.len() > 40, "{paths:?}");
    paths.into_iter().filter(|path| !filters.iter().any(|f| path.contains(f))).cloned().collect()
}

#[test]
fn what_must_hold_on_both_databases_is_run_on_both() {
    let read = |file: &str| fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join(file)).unwrap();
    let (document, ci) = (read(DOCUMENT), read(".ci/run"));
    assert_eq!(on_one_only(&document, &ci), [""; 0]);
    let without = on_one_only(&document, &ci.replace(" tasks:: ", " "));
    assert!(without.iter().any(|path| path.starts_with("tasks::rv_02_t28_")), "{without:?}");
}

#[test]
fn every_rule_has_a_row_and_every_test_named_exists() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(DOCUMENT);
    let found = faults(&fs::read_to_string(path).unwrap());
    assert!(found.is_empty(), "{DOCUMENT}:\n{}", found.join("\n"));
}

#[test]
fn a_test_that_is_gone_and_a_row_without_reason_are_caught() {
    for (row, fault) in [
        ("| TX-01 | x | `no_such_test_anywhere` |", "there is no test"),
        ("| TX-01 | x | soon |", "names no test"),
        ("| TX-01 | x | Not yet: later |\n| TX-01 | x | Not yet: later |", "has 2 rows"),
        ("", "TX-02: has 0 rows"),
    ] {
        assert!(faults(row).iter().any(|f| f.contains(fault)), "{row}");
    }
}
