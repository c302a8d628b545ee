//! The leaf: what the log tells of a decision for ever, hence without personal data (DESIGN §8).

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use chrono::SecondsFormat;
use ring::digest::{Context, SHA256};
use serde::Serialize;

use super::tree::{Hash, leaf_hash};
use crate::domain::decision::Decision;
use crate::domain::ids::shown;

/// Most bytes of a leaf: log entries carry a 16-bit length (LG-04).
pub const MAX_LEAF: usize = 65_535;

/// Random bytes in front of the record: without them, who holds a leaf could guess at an erased record.
pub type Salt = [u8; 16];

/// Most reason codes in a leaf; the record has all of them.
const MAX_REASONS: usize = 256;
/// Stands after [`MAX_REASONS`] codes for those left out; sorts after every lower-case code.
const MORE_REASONS: &str = "~more";

/// Canonical bytes of one leaf: a JSON object with its members in alphabetical order, compact and pure ASCII,
/// which is also its RFC 8785 form.
///
/// `at` is RFC 3339 in UTC with microseconds; `record` is the base64url SHA-256 of salt and record; an absent
/// fact has no member. Every text is masked to printable ASCII and cut at 80 characters, and the reason codes
/// are bounded, so that no leaf comes near [`MAX_LEAF`] bytes, whatever a policy bundle puts into a code.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Leaf(Vec<u8>);

/// The members, in the order in which they are written.
#[derive(Serialize)]
struct Members {
    at: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    data: Option<String>,
    id: String,
    kind: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    mode: Option<String>,
    outcome: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    policy: Option<String>,
    reasons: Vec<String>,
    record: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    task_type: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    tenant: Option<String>,
    v: u8,
}

impl Leaf {
    /// The leaf of `decision`, whose record is stored as exactly the bytes `record`.
    pub fn new(decision: &Decision, salt: &Salt, record: &[u8]) -> Self {
        let members = Members {
            at: decision.at.to_rfc3339_opts(SecondsFormat::Micros, true),
            data: decision.record.data.as_ref().map(|data| shown(&data.version)),
            id: decision.id.to_string(),
            kind: decision.kind.as_str(),
            mode: decision.record.mode.as_ref().map(|mode| shown(&mode.mode)),
            outcome: decision.outcome.as_str(),
            policy: decision.policy.as_deref().map(shown),
            reasons: reason_codes(decision),
            record: record_digest(salt, record),
            task_type: decision.task_type.as_deref().map(shown),
            tenant: decision.tenant.as_ref().map(|name| shown(name.as_str())),
            v: 1,
        };
        // Writing strings and one number into memory cannot fail.
        Self(serde_json::to_vec(&members).unwrap_or_default())
    }

    /// The bytes that are hashed, stored and served.
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }

    /// Its hash in the tree.
    pub fn hash(&self) -> Hash {
        leaf_hash(&self.0)
    }
}

/// The decision's reason codes, sorted, each once.
fn reason_codes(decision: &Decision) -> Vec<String> {
    let mut codes: Vec<String> = decision.record.reasons.iter().map(|r| shown(&r.code)).collect();
    codes.sort_unstable();
    codes.dedup();
    if codes.len() > MAX_REASONS {
        codes.truncate(MAX_REASONS);
        codes.push(MORE_REASONS.to_owned());
    }
    codes
}

/// What binds the erasable record to the leaf: base64url(SHA-256(salt ‖ record)).
fn record_digest(salt: &Salt, record: &[u8]) -> String {
    let mut context = Context::new(&SHA256);
    context.update(salt);
    context.update(record);
    URL_SAFE_NO_PAD.encode(context.finish())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::decision::{DataRecord, Kind, ModeRecord, Outcome, Reason, Record};
    use crate::domain::ids::DecisionId;
    use crate::domain::principal::Principal;
    use chrono::DateTime;
    use serde_json::Value;

    fn decision(codes: &[&str]) -> Decision {
        let at = DateTime::from_timestamp_micros(1_700_000_000_000_001).unwrap();
        let reason = |code: &&str| Reason { code: (*code).into(), message: "why".into(), public: true };
        let principal = Principal { iss: "https://idp.example".into(), sub: "alice".into() };
        Decision {
            id: DecisionId::new(at, [1; 10]),
            kind: Kind::Exchange,
            at,
            tenant: Some("acme".parse().unwrap()),
            outcome: Outcome::Deny,
            policy: Some("sha256:ab".into()),
            task_type: Some("refund_order@3".into()),
            record: Record {
                principal: Some(principal),
                reasons: codes.iter().map(reason).collect(),
                ..Record::default()
            },
            input: None,
        }
    }

    #[test]
    fn a_leaf_is_these_bytes() {
        let leaf = Leaf::new(&decision(&["b", "a", "b"]), &[0; 16], b"{}");
        insta::assert_snapshot!(String::from_utf8_lossy(leaf.as_bytes()), @r#"{"at":"2023-11-14T22:13:20.000001Z","id":"018bcfe5-6800-7101-8101-010101010101","kind":"exchange","outcome":"deny","policy":"sha256:ab","reasons":["a","b"],"record":"MzsT_wL1euGASbgspm83WSxaPY_VTkTiOuXHCFwk_So","task_type":"refund_order@3","tenant":"acme","v":1}"#);
    }

    #[test]
    fn a_leaf_says_that_policy_did_not_bite_and_what_data_it_had() {
        let mut decision = decision(&[]);
        decision.record.mode = Some(ModeRecord { mode: "dry-run".into(), ..ModeRecord::default() });
        let documents = [("assets".to_owned(), "sha256:ef".to_owned())].into();
        decision.record.data = Some(DataRecord { version: "sha256:cd".into(), documents });
        let leaf = Leaf::new(&decision, &[0; 16], b"{}");
        let text = String::from_utf8_lossy(leaf.as_bytes()).into_owned();
        assert!(text.contains(r#""kind":"exchange","mode":"dry-run","outcome":"deny""#), "{text}");
        assert!(text.contains(r#"001Z","data":"sha256:cd","id":""#), "{text}");
    }

    #[test]
    fn members_are_sorted_and_an_absent_fact_has_none() {
        let mut bare = decision(&[]);
        (bare.tenant, bare.policy, bare.task_type) = (None, None, None);
        for decision in [bare, decision(&["a"])] {
            let leaf = Leaf::new(&decision, &[7; 16], b"x");
            let parsed: Value = serde_json::from_slice(leaf.as_bytes()).unwrap();
            // serde_json's own map is sorted: writing the value again gives the canonical order.
            assert_eq!(serde_json::to_vec(&parsed).unwrap(), leaf.as_bytes());
            assert!(!parsed.as_object().unwrap().values().any(Value::is_null));
        }
    }

    #[test]
    fn lg_04_no_codes_make_a_leaf_too_long_or_other_than_ascii() {
        let codes: Vec<String> = (0..10_000).map(|n| format!("{n}ü\"\u{0}{}", "é".repeat(300))).collect();
        let codes: Vec<&str> = codes.iter().map(String::as_str).collect();
        let mut wild = decision(&codes);
        wild.policy = Some("ß".repeat(100_000));
        let leaf = Leaf::new(&wild, &[0; 16], b"{}");
        assert!(leaf.as_bytes().len() <= MAX_LEAF, "{}", leaf.as_bytes().len());
        assert!(leaf.as_bytes().is_ascii());
        let parsed: Value = serde_json::from_slice(leaf.as_bytes()).unwrap();
        assert_eq!(parsed["reasons"].as_array().unwrap().last().unwrap(), "~more");
    }

    #[test]
    fn a_leaf_holds_nothing_of_the_principal_and_depends_on_salt_and_record() {
        let one = Leaf::new(&decision(&["a"]), &[0; 16], b"alice");
        assert!(!String::from_utf8_lossy(one.as_bytes()).contains("alice"));
        assert_ne!(one, Leaf::new(&decision(&["a"]), &[1; 16], b"alice"));
        assert_ne!(one, Leaf::new(&decision(&["a"]), &[0; 16], b"alicf"));
    }
}
