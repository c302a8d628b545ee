//! Scopes (RFC 6749 §3.3): read where the grammar allows, printed as read, and by no ceiling ever widened (L1, L2, L8).

use std::collections::BTreeSet;
use std::sync::Arc;

use serde_json::json;
use taskgrant::domain::ceiling::{Bound, CeilingName, Ceilings, Defaults, Layer, Over, Wanted};
use taskgrant::domain::resource::ResourceUri;
use taskgrant::domain::scope::{Scope, ScopeSet};
use taskgrant::policy::judgement::Limits;

/// One set a line: what a ceiling allows, what the resource lists, what is asked for.
pub(crate) fn body(input: &[u8]) {
    let Ok(text) = std::str::from_utf8(input) else { return };
    let sets: Vec<Option<ScopeSet>> = text.splitn(3, '\n').map(read).collect();
    if let [Some(ceiling), Some(listed), rest @ ..] = sets.as_slice() {
        let asked = rest.first().cloned().flatten().unwrap_or_else(|| ceiling.clone());
        narrows(ceiling, listed);
        narrows(&asked, ceiling);
        attenuates(ceiling, listed, &asked);
        policy_narrows(ceiling, &asked);
    }
}

fn read(text: &str) -> Option<ScopeSet> {
    let set = text.parse::<ScopeSet>().ok();
    let mut tokens: Vec<&str> = text.split(' ').collect();
    let legal = |c: char| matches!(c, '\x21' | '\x23'..='\x5B' | '\x5D'..='\x7E');
    let is_token = |token: &&str| (1..=256).contains(&token.len()) && token.chars().all(legal);
    tokens.sort_unstable();
    let distinct = tokens.windows(2).all(|two| two[0] != two[1]);
    assert_eq!(set.is_some(), distinct && tokens.iter().all(is_token), "the grammar of RFC 6749");
    assert_eq!(serde_json::from_value::<ScopeSet>(json!(text)).ok(), set, "JSON and text say the same");
    let read = set?;
    assert!(read.iter().map(Scope::as_str).eq(tokens.iter().copied()), "its own tokens and no others");
    assert_eq!(read.to_string(), tokens.join(" "));
    assert_eq!(read.to_string().parse::<ScopeSet>().as_ref(), Ok(&read), "a set is read as it is printed");
    assert_eq!(serde_json::to_value(&read).unwrap(), json!(read.to_string()));
    Some(read)
}

fn narrows(a: &ScopeSet, b: &ScopeSet) {
    let (both, rest) = (a.intersection(b), a.difference(b));
    assert!(both.is_subset(a) && both.is_subset(b) && rest.is_subset(a));
    assert!(rest.intersection(b).is_empty() && both.intersection(&rest).is_empty());
    assert_eq!(both, b.intersection(a));
    assert_eq!(both.intersection(b), both);
    assert_eq!(both.iter().chain(rest.iter()).cloned().collect::<ScopeSet>(), *a);
    assert_eq!(a.is_subset(b), rest.is_empty());
    assert!(a.iter().all(|scope| both.contains(scope) == b.contains(scope)));
}

fn attenuates(ceiling: &ScopeSet, listed: &ScopeSet, asked: &ScopeSet) {
    let at: ResourceUri = "https://orders.example".parse().unwrap();
    let bound = Bound { scopes: Some(ceiling.clone()), ..Bound::default() };
    let ceilings = Ceilings {
        layers: vec![Layer::one(CeilingName::TaskType, bound)],
        listed: Arc::new([(at.clone(), listed.clone())].into()),
    };
    let most = ceiling.intersection(listed);
    assert_eq!(ceilings.grantable_scopes(&[at].into()), most);
    let want = |scopes: &ScopeSet| {
        let wanted = Wanted { scopes: Some(scopes.clone()), ..Wanted::default() };
        ceilings.attenuate(&wanted, &Defaults::default())
    };
    match want(asked) {
        Ok(granted) => {
            assert_eq!(granted.scopes, *asked, "nothing is trimmed in silence");
            assert!(asked.is_subset(&most));
            assert_eq!(ceilings.admits(&granted, false), Ok(()));
        }
        Err(refused) => {
            let Over::Scopes { excess, grantable } = refused.over else { panic!("{refused:?}") };
            assert!(!excess.is_empty() && excess.is_subset(asked) && excess.intersection(&most).is_empty());
            assert_eq!(grantable, most, "the largest that could have been asked for");
            assert!(most.is_empty() || want(&grantable).is_ok());
        }
    }
    let left_out =
        ceilings.attenuate(&Wanted::default(), &Defaults { scopes: asked.clone(), ..Defaults::default() });
    let within = asked.intersection(&most);
    assert_eq!(left_out.map(|granted| granted.scopes).ok(), (!within.is_empty()).then_some(within));
}

fn policy_narrows(limit: &ScopeSet, granted: &ScopeSet) {
    let texts = |set: &ScopeSet| set.iter().map(ToString::to_string).collect::<BTreeSet<_>>();
    let limits: Limits = serde_json::from_value(json!({ "scopes": texts(limit) })).unwrap();
    let left = limits.narrow_scopes(&texts(granted));
    assert_eq!(left, texts(&granted.intersection(limit)));
}
