//! `openapi.yaml` is written by hand: here it is compared with the sources, and its examples with its schemas.

#[cfg(test)]
#[path = "openapi/document.rs"]
mod document;

#[cfg(test)]
mod openapi {
    use std::collections::BTreeSet;

    use serde_json::{Value, json};

    use crate::document::{Document, members};

    const HTTP: &str = include_str!("../src/http/mod.rs");
    const ERROR: &str = include_str!("../src/http/error.rs");
    const ADMIN: &str = include_str!("../src/admin/api.rs");
    const ADMIN_BOOTSTRAP: &str = include_str!("../src/admin/bootstrap.rs");
    const ADMIN_LOGIN: &str = include_str!("../src/admin/login.rs");
    const ADMIN_APPROVALS: &str = include_str!("../src/admin/approvals.rs");
    const ADMIN_DATA: &str = include_str!("../src/admin/data.rs");
    const ADMIN_KEYS: &str = include_str!("../src/admin/keys.rs");
    const ADMIN_POLICY: &str = include_str!("../src/admin/policy.rs");
    const ADMIN_PROPOSALS: &str = include_str!("../src/admin/proposals.rs");
    const ADMIN_REVOCATIONS: &str = include_str!("../src/admin/revocations.rs");
    const ADMIN_TASKS: &str = include_str!("../src/admin/tasks.rs");
    const APPROVAL: &str = include_str!("../src/domain/approval.rs");
    const REFUSAL: &str = include_str!("../src/domain/refusal.rs");
    const CEILING: &str = include_str!("../src/domain/ceiling.rs");
    const ISSUERS: &str = include_str!("../src/issuers/fault.rs");
    const PERSON: &str = include_str!("../src/issuers/person.rs");
    const REVOCATION: &str = include_str!("../src/revocation.rs");
    const VERIFY: &str = include_str!("../src/exchange/verify.rs");
    const ERRORS_PAGE: &str = include_str!("../docs/reference/errors.md");

    /// The string literals of a piece of source, without comments. Good enough for sources without `"` in literals.
    fn literals(source: &str) -> BTreeSet<String> {
        let code: Vec<&str> = source.lines().filter(|line| !line.trim_start().starts_with("//")).collect();
        code.join("\n").split('"').skip(1).step_by(2).map(str::to_owned).collect()
    }

    /// The texts between `from` and the next `to`, at every place.
    fn between<'a>(source: &'a str, from: &str, to: &str) -> Vec<&'a str> {
        source.split(from).skip(1).map(|rest| rest.split_once(to).map_or(rest, |(piece, _)| piece)).collect()
    }

    /// What comes before the tests of a file.
    fn production(source: &str) -> &str {
        source.split("#[cfg(test)]").next().unwrap_or_default()
    }

    /// A closed list of texts in the document, as a set.
    fn listed(pointer: &str) -> BTreeSet<String> {
        let document = Document::read();
        let list = document.at(pointer).as_array().unwrap_or_else(|| panic!("{pointer} is no list"));
        let set: BTreeSet<String> = list.iter().filter_map(Value::as_str).map(str::to_owned).collect();
        assert_eq!(set.len(), list.len(), "{pointer} names something twice");
        set
    }

    fn is_word(text: &str) -> bool {
        !text.is_empty() && text.bytes().all(|b| b.is_ascii_lowercase() || b == b'_')
    }

    #[track_caller]
    fn same(in_source: &BTreeSet<String>, in_document: &BTreeSet<String>) {
        let missing: Vec<_> = in_source.difference(in_document).collect();
        let extra: Vec<_> = in_document.difference(in_source).collect();
        assert!(
            missing.is_empty() && extra.is_empty(),
            "missing: {missing:?}; not in the sources: {extra:?}"
        );
    }

    #[test]
    fn every_route_is_documented_and_the_reverse() {
        let sources = [
            HTTP,
            ADMIN,
            ADMIN_BOOTSTRAP,
            ADMIN_LOGIN,
            ADMIN_APPROVALS,
            ADMIN_DATA,
            ADMIN_KEYS,
            ADMIN_POLICY,
            ADMIN_PROPOSALS,
            ADMIN_REVOCATIONS,
            ADMIN_TASKS,
        ];
        let routes = sources.into_iter().flat_map(|source| literals(production(source)));
        let routes: BTreeSet<String> =
            routes.filter(|t| t.starts_with('/')).map(|t| t.trim_end_matches("{path}").to_owned()).collect();
        assert!(routes.len() >= 11, "{routes:?}");
        same(&routes, &members(Document::read().at("/paths")).keys().cloned().collect());
    }

    /// Reason codes as the sources make them.
    fn codes() -> BTreeSet<String> {
        let of = |source: &str| -> BTreeSet<String> {
            literals(source).into_iter().filter(|text| is_word(text)).collect()
        };
        let prefixed = |prefix: &str, tails: BTreeSet<String>| -> BTreeSet<String> {
            tails.into_iter().map(|tail| format!("{prefix}_{tail}")).collect()
        };
        let bodies = |source| between(source, "pub fn code(&self)", "\n    }\n");
        let [refusals] = bodies(REFUSAL)[..] else { panic!("refusal.rs has changed") };
        let [session, actor] = bodies(ISSUERS)[..] else { panic!("issuers/fault.rs has changed") };
        let [person] = bodies(PERSON)[..] else { panic!("issuers/person.rs has changed") };
        let [keys_missing] = between(VERIFY, "fn actor_keys(", "\n}\n")[..] else {
            panic!("verify.rs has changed")
        };
        let own = VERIFY.replace(keys_missing, "");
        let own = [between(&own, "fault(", ","), between(&own, "code: ", ",")].concat().join("\n");
        let told = between(production(ERROR), "\"reason_code\", ", ")").join("\n");
        let [revocation] = between(REVOCATION, "pub fn code(self)", "\n    }\n")[..] else {
            panic!("revocation.rs has changed")
        };
        let [limits] = between(REFUSAL, "pub fn code(self)", "\n    }\n")[..] else {
            panic!("refusal.rs has changed")
        };
        let [not_fetched] = between(APPROVAL, "pub fn code(self)", "\n    }\n")[..] else {
            panic!("approval.rs has changed")
        };
        let mut codes = of(refusals);
        codes.extend(of(not_fetched));
        codes.extend(of(limits));
        codes.extend(of(revocation));
        codes.extend(prefixed("subject_token", of(session)));
        codes.extend(prefixed("subject_token", of(person)));
        codes.extend(prefixed("subject_token", of(&own)));
        codes.extend(prefixed("actor_token", of(actor)));
        codes.extend(prefixed("actor_token", of(&between(keys_missing, "code: ", ",").join("\n"))));
        codes.extend(of(&told));
        codes
    }

    #[test]
    fn every_reason_code_is_documented_and_the_reverse() {
        same(&codes(), &listed("/components/schemas/ReasonCode/enum"));
    }

    #[test]
    fn every_reason_code_has_a_row_in_the_reference_and_the_reverse() {
        let (_, tables) = ERRORS_PAGE.split_once("## Before a client is known").unwrap();
        let rows = tables.lines().filter_map(|line| line.strip_prefix("| `")?.split_once('`'));
        let rows: BTreeSet<String> = rows.map(|(code, _)| code.to_owned()).collect();
        same(&codes(), &rows);
    }

    #[test]
    fn every_oauth_error_is_documented_and_the_reverse() {
        let table = between(production(ERROR), "pub(super) fn oauth(", "\n}\n").join("\n");
        let made = between(production(ERROR), "Self::new(StatusCode::", ");").join("\n");
        let errors: BTreeSet<String> =
            literals(&format!("{table}\n{made}")).into_iter().filter(|text| is_word(text)).collect();
        same(&errors, &listed("/components/schemas/Error/properties/error/enum"));
    }

    #[test]
    fn ceilings_and_retries_are_those_of_the_domain() {
        let ceilings = between(CEILING, "impl fmt::Display for CeilingName", "\n}\n").join("\n");
        same(&literals(&ceilings), &listed("/components/schemas/Ceiling/enum"));
        let variants = between(REFUSAL, "pub enum Retry {", "\n}\n").join("\n");
        let variants = variants.lines().filter_map(|line| line.trim().strip_suffix(','));
        let snake = |name: &str| {
            let letter = |(at, c): (usize, char)| {
                let gap = if at > 0 && c.is_ascii_uppercase() { "_" } else { "" };
                format!("{gap}{}", c.to_ascii_lowercase())
            };
            name.char_indices().map(letter).collect::<String>()
        };
        same(&variants.map(snake).collect(), &listed("/components/schemas/Retry/enum"));
    }

    /// Each media type object: where it is, and itself.
    fn media_types<'a>(node: &'a Value, at: &str, found: &mut Vec<(String, &'a Value)>) {
        match node {
            Value::Object(object) => {
                for (key, value) in object {
                    let here = format!("{at}/{key}");
                    if at.ends_with("/content") {
                        found.push((here.clone(), value));
                    }
                    media_types(value, &here, found);
                }
            }
            Value::Array(items) => {
                for (index, value) in items.iter().enumerate() {
                    media_types(value, &format!("{at}/{index}"), found);
                }
            }
            Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
        }
    }

    #[test]
    fn every_body_has_an_example_that_its_schema_allows() {
        let document = Document::read();
        let mut found = Vec::new();
        media_types(document.at(""), "", &mut found);
        assert!(found.len() > 15);
        for (at, media_type) in found {
            let named = media_type.get("examples").map(members).into_iter().flatten();
            let examples: Vec<&Value> =
                named.map(|(_, example)| &example["value"]).chain(media_type.get("example")).collect();
            assert!(!examples.is_empty(), "{at} has no example");
            for example in examples {
                let faults = document.faults(&media_type["schema"], example);
                assert!(faults.is_empty(), "{at}: {faults:#?}");
                let closed = document.resolve(&media_type["schema"]).get("properties");
                let unknown: Vec<_> = members_of(example)
                    .filter(|key| closed.is_some_and(|known| known.get(*key).is_none()))
                    .collect();
                assert!(unknown.is_empty(), "{at}: not in the schema: {unknown:?}");
            }
        }
    }

    fn members_of(example: &Value) -> impl Iterator<Item = &String> {
        example.as_object().into_iter().flat_map(serde_json::Map::keys)
    }

    #[test]
    fn every_reference_leads_somewhere() {
        let document = Document::read();
        let mut open = vec![document.at("")];
        while let Some(node) = open.pop() {
            document.resolve(node);
            open.extend(node.as_object().into_iter().flat_map(serde_json::Map::values));
            open.extend(node.as_array().into_iter().flatten());
        }
    }

    #[test]
    fn a_body_that_is_not_as_documented_is_noticed() {
        let document = Document::read();
        let bad = json!({"error": "invalid_token", "error_description": "x"});
        assert!(!document.faults_of_answer("/oauth/token", "post", 400, &bad).is_empty());
        assert!(!document.faults_of_answer("/oauth/token", "post", 418, &json!({})).is_empty());
        let refreshed = json!({
            "access_token": "a", "issued_token_type": "urn:ietf:params:oauth:token-type:access_token",
            "token_type": "Bearer", "expires_in": 1, "scope": "a", "refresh_token": "r",
            "decision_id": "01a1fc73-36e3-7ac1-b6f6-5a51ff6afbb4", "task_id": "01a1fc73-36e3-784e-a2a2-79d87dbf1517",
        });
        assert!(!document.faults_of_answer("/oauth/token", "post", 200, &refreshed).is_empty());
    }
}
