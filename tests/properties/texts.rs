//! Parsers: what is read prints back, nothing panics, nothing but the legal ASCII is accepted (T10, RFC 6749, 8707).

use proptest::prelude::*;
use proptest::sample::select;
use serde::Serialize;
use serde::de::DeserializeOwned;
use taskgrant::domain::ids::{ClientId, Jti, Name, TaskId, shown};
use taskgrant::domain::request::{ACCESS_TOKEN, TOKEN_EXCHANGE, TokenRequest};
use taskgrant::domain::resource::ResourceUri;
use taskgrant::domain::scope::{Scope, ScopeSet};

/// Texts close to the legal ones: ASCII with an odd character now and then.
fn near() -> impl Strategy<Value = String> {
    prop_oneof![
        "[a-z:/?#@.A-Z0-9 %\"\\\\\\-_\\[\\]]{0,12}",
        "[a-z]{1,4}://[a-zA-Z.:@\\[\\]0-9]{0,8}[/?#a-zA-Z%]{0,6}",
        ("[a-z:]{0,4}", any::<char>(), "[a-z:]{0,4}").prop_map(|(a, odd, b)| format!("{a}{odd}{b}")),
        any::<String>(),
        (select(vec!["a", "ab:", "https://a/"]), 60..70_usize).prop_map(|(part, times)| part.repeat(times)),
    ]
}

fn json_agrees<T: Serialize + DeserializeOwned + PartialEq + std::fmt::Debug>(text: &str, read: Option<&T>) {
    let by_json = serde_json::from_value::<T>(text.into()).ok();
    assert_eq!(by_json.as_ref(), read, "JSON and text accept the same");
    if let Some(read) = read {
        assert_eq!(serde_json::to_value(read).unwrap(), serde_json::Value::from(text));
    }
}

fn is_scope_char(c: char) -> bool {
    matches!(c, '!' | '#'..='[' | ']'..='~')
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, ..ProptestConfig::default() })]

    #[test]
    fn a_scope_is_read_where_rfc_6749_allows_it(text in near()) {
        let read = text.parse::<Scope>().ok();
        let legal = !text.is_empty() && text.chars().all(is_scope_char);
        prop_assert_eq!(read.is_some(), legal && text.len() <= 256);
        prop_assert!(read.as_ref().is_none_or(|r| r.as_str() == text));
        json_agrees(&text, read.as_ref());
    }

    #[test]
    fn t10_scopes_compare_octet_by_octet(one in near(), other in near(), turn in 0..4_u8) {
        let other = match turn {
            0 => one.to_ascii_uppercase(),
            1 => format!("{one}*"),
            2 => one.chars().skip(1).collect(),
            _ => other,
        };
        if let (Ok(a), Ok(b)) = (one.parse::<Scope>(), other.parse::<Scope>()) {
            let (held, asked): (ScopeSet, ScopeSet) = ([a].into_iter().collect(), [b].into_iter().collect());
            prop_assert_eq!(asked.is_subset(&held), one == other);
            prop_assert_eq!(asked.intersection(&held).is_empty(), one != other);
            prop_assert_eq!(asked.difference(&held).is_empty(), one == other);
        }
    }

    #[test]
    fn a_scope_set_is_read_as_it_is_printed(tokens in proptest::collection::btree_set("[!#-\\[\\]-~]{1,6}", 1..6), twice: bool) {
        let text = tokens.iter().cloned().collect::<Vec<_>>().join(" ");
        let set: ScopeSet = text.parse().unwrap();
        prop_assert_eq!(set.to_string(), text.clone());
        prop_assert_eq!(serde_json::from_value::<ScopeSet>(serde_json::to_value(&set).unwrap()).unwrap(), set);
        if twice {
            let again = format!("{text} {}", tokens.first().unwrap());
            prop_assert!(again.parse::<ScopeSet>().is_err());
        }
        for odd in [format!(" {text}"), format!("{text} "), text.replacen(' ', "  ", 1), format!("{text}\t")] {
            prop_assert!(odd == text || odd.parse::<ScopeSet>().is_err(), "{odd:?}");
        }
    }

    #[test]
    fn any_text_is_a_scope_set_of_its_own_tokens_or_refused(text in near()) {
        if let Ok(set) = text.parse::<ScopeSet>() {
            let mut tokens: Vec<&str> = text.split(' ').collect();
            tokens.sort_unstable();
            prop_assert_eq!(set.iter().map(Scope::as_str).collect::<Vec<_>>(), tokens);
        }
    }

    #[test]
    fn narrowing_scopes_is_idempotent_and_order_free(a in "[a-c]( [d-f])?", b in "[a-f]( [g-i])?", c in "[a-c]( [d-f])?") {
        let read = |text: &str| text.parse::<ScopeSet>().unwrap();
        let (a, b, c) = (read(&a), read(&b), read(&c));
        prop_assert_eq!(a.intersection(&b), b.intersection(&a));
        prop_assert_eq!(a.intersection(&b).intersection(&b), a.intersection(&b));
        prop_assert_eq!(a.intersection(&b).intersection(&c), a.intersection(&b.intersection(&c)));
        prop_assert!(a.intersection(&b).is_subset(&a) && a.intersection(&b).is_subset(&b));
        prop_assert!(a.difference(&b).intersection(&b).is_empty());
    }

    #[test]
    fn a_resource_is_an_absolute_ascii_uri_without_fragment(text in near()) {
        let read = text.parse::<ResourceUri>().ok();
        json_agrees(&text, read.as_ref());
        if let Some(uri) = read {
            prop_assert_eq!(uri.as_str(), text.as_str());
            prop_assert!(text.is_ascii() && !text.contains(['#', ' ', '"', '\\', '<', '>']) && text.len() <= 2048);
            let (scheme, rest) = text.split_once(':').unwrap();
            prop_assert!(scheme.starts_with(|c: char| c.is_ascii_alphabetic()));
            if let Some(after) = rest.strip_prefix("//") {
                let authority = after.split(['/', '?']).next().unwrap();
                prop_assert!(!authority.is_empty() && !authority.contains('@') && !authority.starts_with(':'));
            }
            let key: ResourceUri = uri.key().parse().unwrap();
            prop_assert_eq!(key.key(), uri.key(), "the compared form is its own compared form");
            prop_assert!(uri.key().eq_ignore_ascii_case(&text));
        }
    }

    #[test]
    fn resources_compare_with_scheme_and_host_folded_and_nothing_else(
        scheme in "[a-zA-Z]{1,5}", host in "[a-zA-Z.]{1,6}", port in "(:[0-9]{1,4})?", tail in "([/?][a-zA-Z%]{0,4})?", flips: [bool; 8],
    ) {
        let flip = |text: &str, on: bool| if on { text.chars().map(|c| if c.is_lowercase() { c.to_ascii_uppercase() } else { c.to_ascii_lowercase() }).collect() } else { text.to_owned() };
        let one: ResourceUri = format!("{scheme}://{host}{port}{tail}").parse().unwrap();
        let folded: ResourceUri = format!("{}://{}{port}{tail}", flip(&scheme, flips[0]), flip(&host, flips[1])).parse().unwrap();
        prop_assert_eq!(one.key(), folded.key());
        for other in [format!("{scheme}://{host}{port}{}", flip(&tail, true)), format!("{scheme}://{host}{port}{tail}/"), format!("{scheme}://{host}.{port}{tail}")] {
            let same = other == one.as_str();
            prop_assert_eq!(other.parse::<ResourceUri>().unwrap().key() == one.key(), same, "{} {}", one, other);
        }
    }

    #[test]
    fn names_and_client_ids_are_read_where_they_are_legal(text in near()) {
        let name = text.parse::<Name>().ok();
        let legal = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || "_-.".contains(c);
        let first = text.starts_with(|c: char| c.is_ascii_lowercase() || c.is_ascii_digit());
        prop_assert_eq!(name.is_some(), first && text.chars().all(legal) && text.len() <= 64);
        json_agrees(&text, name.as_ref());
        let client = text.parse::<ClientId>().ok();
        prop_assert_eq!(client.is_some(), !text.is_empty() && text.len() <= 255 && text.chars().all(is_scope_char));
        json_agrees(&text, client.as_ref());
    }

    #[test]
    fn an_id_has_one_spelling_and_later_ones_sort_later(seconds in 0..4_000_000_000_i64, later in 1..1_000_000_i64, random: [u8; 10], text in near()) {
        let at = |s| chrono::DateTime::from_timestamp(s, 0).unwrap();
        let id = Jti::new(at(seconds), random);
        prop_assert_eq!(id.to_string().parse::<Jti>().unwrap(), id);
        prop_assert!(id < Jti::new(at(seconds + later), [0; 10]));
        json_agrees(&id.to_string(), Some(&id));
        for odd in [id.to_string().to_uppercase(), format!("{{{id}}}"), format!("urn:uuid:{id}"), id.to_string().replace('-', ""), format!("{id} "), text] {
            if odd != id.to_string() {
                prop_assert!(odd.parse::<Jti>().is_err() || odd.parse::<Jti>().unwrap().to_string() == odd);
                json_agrees(&odd, odd.parse::<TaskId>().ok().as_ref());
            }
        }
    }

    #[test]
    fn what_an_error_shows_is_short_and_printable(text in any::<String>()) {
        let shown = shown(&text);
        prop_assert!(shown.len() <= 83 && shown.chars().all(|c| c == ' ' || c.is_ascii_graphic()));
        prop_assert!(!shown.contains(['"', '\\']));
    }

    #[test]
    fn any_form_is_read_or_refused_without_a_panic(
        mut form in proptest::collection::vec((select(vec![
            "grant_type", "subject_token", "subject_token_type", "actor_token", "actor_token_type", "scope", "resource",
            "audience", "authorization_details", "task_type", "requested_expires_in", "delegate_to", "claimed", "dry_run", "completion_mode",
            "deferral_code", "other",
        ]).prop_map(str::to_owned), near()), 0..8),
        valid: bool,
    ) {
        if valid {
            form.retain(|(name, _)| !["grant_type", "subject_token", "subject_token_type"].contains(&name.as_str()));
            let base = [("grant_type", TOKEN_EXCHANGE), ("subject_token", "s3cr3t"), ("subject_token_type", ACCESS_TOKEN)];
            form.extend(base.map(|(name, value)| (name.to_owned(), value.to_owned())));
        }
        match TokenRequest::parse(&form) {
            Ok(TokenRequest::Deferred(code)) => {
                let told = format!("{code:?}");
                prop_assert!(!told.contains("s3cr3t"));
            }
            Ok(TokenRequest::Exchange(request)) => {
                let once = |name: &str| form.iter().filter(|(n, _)| n == name).count() <= 1;
                prop_assert!(["scope", "subject_token", "claimed", "delegate_to", "task_type"].into_iter().all(once));
                let told = format!("{request:?}{}", request.asked());
                prop_assert!(!told.contains("s3cr3t"));
            }
            Err(refusal) => {
                let told = format!("{refusal:?}{refusal}");
                prop_assert!(!told.contains("s3cr3t"));
            }
        }
    }
}
