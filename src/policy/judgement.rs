//! What a policy answers: it may deny, ask for approval or narrow; no value of these types can widen anything.

use std::collections::BTreeSet;

use regorus::Value;
use serde::{Deserialize, Serialize};

use super::fault::PolicyFault;
use super::input::ApprovalFacts;
use crate::domain::decision::Reason;

/// Code of the reason that is given when no rule allows.
pub const DEFAULT_DENY: &str = "policy_default_deny";

/// What the policy takes away: the intersection of all its scope limits, the shortest of its lifetimes.
///
/// It can only be applied to something that is already granted, and gives no more than that.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Limits {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    scopes: Option<BTreeSet<String>>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    lifetime: Option<u64>,
}

impl Limits {
    /// The scopes that are left at most; `None` is no limit. Empty means: narrowed to nothing, the caller denies.
    pub fn scopes(&self) -> Option<&BTreeSet<String>> {
        self.scopes.as_ref()
    }

    /// The seconds that are left at most; `None` is no limit. 0 means: narrowed to nothing, the caller denies.
    pub fn lifetime(&self) -> Option<u64> {
        self.lifetime
    }

    /// Of `granted`, what the policy leaves.
    pub fn narrow_scopes(&self, granted: &BTreeSet<String>) -> BTreeSet<String> {
        match &self.scopes {
            Some(limit) => granted.intersection(limit).cloned().collect(),
            None => granted.clone(),
        }
    }

    /// Of `granted` seconds, what the policy leaves.
    pub fn narrow_lifetime(&self, granted: u64) -> u64 {
        self.lifetime.map_or(granted, |limit| limit.min(granted))
    }

    /// Whether these take away something that `other` leaves.
    pub fn are_tighter_than(&self, other: &Self) -> bool {
        let fewer_scopes = match (&self.scopes, &other.scopes) {
            (None, _) => false,
            (Some(_), None) => true,
            (Some(mine), Some(theirs)) => !mine.is_superset(theirs),
        };
        fewer_scopes || self.lifetime.is_some_and(|mine| other.lifetime.is_none_or(|theirs| mine < theirs))
    }

    fn meet(&mut self, other: Self) {
        self.scopes = match (self.scopes.take(), other.scopes) {
            (Some(mine), Some(theirs)) => Some(mine.intersection(&theirs).cloned().collect()),
            (mine, theirs) => mine.or(theirs),
        };
        self.lifetime = match (self.lifetime, other.lifetime) {
            (Some(mine), Some(theirs)) => Some(mine.min(theirs)),
            (mine, theirs) => mine.or(theirs),
        };
    }
}

/// The sum of a judgement. Later is stricter.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Outcome {
    /// Go on, within the limits.
    Allow,
    /// Go on once people have approved each reason.
    RequireApproval,
    /// Do not go on.
    Deny,
}

impl Outcome {
    /// The word for it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Allow => "allow",
            Self::RequireApproval => "require_approval",
            Self::Deny => "deny",
        }
    }
}

/// The answer to one question, all reasons collected.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Judgement {
    /// Whether a rule allows. Alone it decides nothing: ask [`Judgement::outcome`].
    pub allow: bool,
    /// Why not. When no rule allows, [`DEFAULT_DENY`] is among them.
    pub deny: BTreeSet<Reason>,
    /// What must be approved first.
    pub require_approval: BTreeSet<Reason>,
    /// What is taken away.
    pub limits: Limits,
    /// Marks for the decision log.
    pub tags: BTreeSet<String>,
}

impl Judgement {
    /// Deny beats approval beats allow.
    pub fn outcome(&self) -> Outcome {
        if !self.allow || !self.deny.is_empty() {
            Outcome::Deny
        } else if self.require_approval.is_empty() {
            Outcome::Allow
        } else {
            Outcome::RequireApproval
        }
    }

    /// Where no bundle is asked: nothing is denied, asked or taken away. Also the built-in policy of what opens the admin API.
    pub fn unasked() -> Self {
        Self {
            allow: true,
            deny: BTreeSet::new(),
            require_approval: BTreeSet::new(),
            limits: Limits::default(),
            tags: BTreeSet::new(),
        }
    }

    /// What is left of it where policy does not bite: the marks.
    pub fn unbound(&self) -> Self {
        Self { tags: self.tags.clone(), ..Self::unasked() }
    }

    /// Takes back what people have approved: a reason that they saw does not ask again (DESIGN §4 step 8).
    pub(super) fn without(mut self, approved: Option<&ApprovalFacts>) -> Self {
        if let Some(approved) = approved {
            self.require_approval.retain(|reason| !approved.reasons.contains(&reason.code));
        }
        self
    }

    /// Both at once: allowed where both allow, and denied, asked for and limited by each of them.
    pub(super) fn and(mut self, other: Self) -> Self {
        self.allow &= other.allow;
        self.deny.extend(other.deny);
        self.require_approval.extend(other.require_approval);
        self.limits.meet(other.limits);
        self.tags.extend(other.tags);
        self
    }

    /// Whether this refuses, asks for or takes away anything that `other` does not.
    pub fn is_stricter_than(&self, other: &Self) -> bool {
        self.outcome() > other.outcome()
            || !self.require_approval.is_subset(&other.require_approval)
            || self.limits.are_tighter_than(&other.limits)
    }

    /// All members and the `outcome`, as fixtures and `policy eval` show them.
    pub fn to_json(&self) -> serde_json::Value {
        serde_json::json!({
            "outcome": self.outcome(),
            "allow": self.allow,
            "deny": self.deny,
            "require_approval": self.require_approval,
            "limits": self.limits,
            "tags": self.tags,
        })
    }

    /// Reads the engine's value of `decision`. Undefined is a denial; an unknown member or kind is a fault.
    pub(super) fn parse(decision: &Value) -> Result<Self, PolicyFault> {
        if *decision == Value::Undefined {
            return Ok(Self::new(false));
        }
        let [allow, deny, require_approval, limits, tags] =
            members(decision, ["allow", "deny", "require_approval", "limits", "tags"], "decision")?;
        let mut judgement = Self::new(truth(allow, "allow")?);
        judgement.deny.extend(each(deny, "deny", |item| reason(item, "deny"))?);
        judgement.require_approval = each(require_approval, "require_approval", |item| {
            reason(item, "require_approval") //
        })?
        .into_iter()
        .collect();
        for limit in each(limits, "limits", limit)? {
            judgement.limits.meet(limit);
        }
        judgement.tags = each(tags, "tags", |tag| text(Some(tag), "tags"))?.into_iter().collect();
        Ok(judgement)
    }

    fn new(allow: bool) -> Self {
        let default_deny = Reason {
            code: DEFAULT_DENY.to_owned(),
            message: "no policy rule allows this request".to_owned(),
            public: true,
        };
        Self {
            allow,
            deny: if allow { BTreeSet::new() } else { BTreeSet::from([default_deny]) },
            require_approval: BTreeSet::new(),
            limits: Limits::default(),
            tags: BTreeSet::new(),
        }
    }
}

fn refused(problem: String) -> PolicyFault {
    PolicyFault::Output(problem)
}

/// The named members of an object; any other member is refused.
fn members<'value, const N: usize>(
    value: &'value Value,
    names: [&str; N],
    place: &str,
) -> Result<[Option<&'value Value>; N], PolicyFault> {
    let object =
        value.as_object().map_err(|_| refused(format!("`{place}` holds `{value}`, not an object")))?;
    let unknown = object.keys().find(|key| !names.iter().any(|name| is_text(key, name)));
    match unknown {
        Some(key) => Err(refused(format!("`{place}` has the unknown member {key}"))),
        None => Ok(names.map(|name| object.get(&Value::from(name)))),
    }
}

fn is_text(value: &Value, text: &str) -> bool {
    value.as_string().is_ok_and(|string| string.as_ref() == text)
}

/// The elements of a set or an array, converted.
fn each<T>(
    value: Option<&Value>,
    place: &str,
    convert: impl Fn(&Value) -> Result<T, PolicyFault>,
) -> Result<Vec<T>, PolicyFault> {
    match value {
        Some(Value::Set(items)) => items.iter().map(convert).collect(),
        Some(Value::Array(items)) => items.iter().map(convert).collect(),
        _ => Err(refused(format!("`{place}` is not a set"))),
    }
}

fn truth(value: Option<&Value>, place: &str) -> Result<bool, PolicyFault> {
    let truth = value.and_then(|value| value.as_bool().ok());
    truth.copied().ok_or_else(|| refused(format!("`{place}` is not a boolean")))
}

fn text(value: Option<&Value>, place: &str) -> Result<String, PolicyFault> {
    let text = value.and_then(|value| value.as_string().ok());
    text.map(ToString::to_string).ok_or_else(|| refused(format!("`{place}` is not a string")))
}

fn reason(value: &Value, place: &str) -> Result<Reason, PolicyFault> {
    let [code, message, public] = members(value, ["code", "message", "public"], place)?;
    let code = text(code, &format!("{place}.code"))?;
    let legal = |byte: u8| byte.is_ascii_alphanumeric() || b"_.:-".contains(&byte);
    if code.is_empty() || code.len() > 64 || !code.bytes().all(legal) {
        return Err(refused(format!("`{code}` is not a reason code")));
    }
    let public = if public.is_none() { false } else { truth(public, &format!("{place}.public"))? };
    Ok(Reason { code, message: text(message, &format!("{place}.message"))?, public })
}

fn limit(value: &Value) -> Result<Limits, PolicyFault> {
    let [scopes, lifetime] = members(value, ["scopes", "lifetime"], "limits")?;
    if scopes.is_none() && lifetime.is_none() {
        return Err(refused("a member of `limits` limits nothing".to_owned()));
    }
    let scope = |item: &Value| text(Some(item), "limits.scopes");
    let scopes = scopes.map(|scopes| each(Some(scopes), "limits.scopes", scope)).transpose()?;
    let seconds = |value: &Value| {
        value.as_u64().map_err(|_| refused("`limits.lifetime` is not a whole number of seconds".to_owned()))
    };
    Ok(Limits { scopes: scopes.map(BTreeSet::from_iter), lifetime: lifetime.map(seconds).transpose()? })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn parse(members: &str) -> Result<Judgement, PolicyFault> {
        let mut decision = serde_json::json!(
            {"allow": true, "deny": [], "require_approval": [], "limits": [], "tags": []});
        let serde_json::Value::Object(changes) = serde_json::from_str(members).unwrap() else { panic!() };
        decision.as_object_mut().unwrap().extend(changes);
        Judgement::parse(&Value::from_json_str(&decision.to_string()).unwrap())
    }

    fn codes(reasons: &BTreeSet<Reason>) -> Vec<&str> {
        reasons.iter().map(|reason| reason.code.as_str()).collect()
    }

    #[test]
    fn deny_beats_approval_beats_allow() {
        assert_eq!(parse("{}").unwrap().outcome(), Outcome::Allow);
        let ask = r#""require_approval": [{"code": "ask", "message": "m"}]"#;
        assert_eq!(parse(&format!("{{{ask}}}")).unwrap().outcome(), Outcome::RequireApproval);
        let deny = r#""deny": [{"code": "no", "message": "m", "public": true}]"#;
        assert_eq!(parse(&format!("{{{ask}, {deny}}}")).unwrap().outcome(), Outcome::Deny);
        assert_eq!(parse(&format!(r#"{{{ask}, "allow": false}}"#)).unwrap().outcome(), Outcome::Deny);
    }

    #[test]
    fn undefined_denies_by_default() {
        let judgement = Judgement::parse(&Value::Undefined).unwrap();
        assert_eq!((judgement.outcome(), codes(&judgement.deny)), (Outcome::Deny, vec![DEFAULT_DENY]));
    }

    #[test]
    fn all_reasons_are_collected() {
        let reasons = r#"[{"code": "b", "message": "m"}, {"code": "a", "message": "m", "public": true}]"#;
        let judgement = parse(&format!(r#"{{"allow": false, "deny": {reasons}}}"#)).unwrap();
        assert_eq!(codes(&judgement.deny), ["a", "b", DEFAULT_DENY]);
        assert_eq!(
            judgement.deny.iter().map(|reason| reason.public).collect::<Vec<_>>(),
            [true, false, true]
        );
    }

    #[test]
    fn limits_meet() {
        let limits = r#"[{"scopes": ["a", "b"], "lifetime": 90}, {"scopes": ["b", "c"]}, {"lifetime": 30}]"#;
        let limits = parse(&format!(r#"{{"limits": {limits}}}"#)).unwrap().limits;
        assert_eq!(limits.lifetime(), Some(30));
        assert_eq!(limits.scopes(), Some(&BTreeSet::from(["b".to_owned()])));
    }

    #[test]
    fn what_is_not_a_judgement_is_a_fault() {
        for (members, problem) in [
            (r#"{"extra": 1}"#, "unknown member \"extra\""),
            (r#"{"allow": "yes"}"#, "`allow` is not a boolean"),
            (r#"{"deny": {"code": "a"}}"#, "`deny` is not a set"),
            (r#"{"deny": ["a"]}"#, "not an object"),
            (r#"{"deny": [{"code": "a", "message": "m", "severity": 1}]}"#, "unknown member \"severity\""),
            (r#"{"deny": [{"code": "a"}]}"#, "`deny.message` is not a string"),
            (r#"{"deny": [{"code": "a b", "message": "m"}]}"#, "`a b` is not a reason code"),
            (r#"{"deny": [{"code": "a", "message": "m", "public": 1}]}"#, "`deny.public` is not a boolean"),
            (r#"{"limits": [{"lifetime": 1.5}]}"#, "whole number"),
            (r#"{"limits": [{"lifetime": -1}]}"#, "whole number"),
            (r#"{"limits": [{"scopes": "a"}]}"#, "`limits.scopes` is not a set"),
            (r#"{"limits": [{}]}"#, "limits nothing"),
            (r#"{"tags": [1]}"#, "`tags` is not a string"),
        ] {
            let fault = parse(members).unwrap_err();
            assert!(matches!(fault, PolicyFault::Output(_)), "{fault}");
            assert!(fault.to_string().contains(problem), "{fault} lacks {problem}");
        }
    }

    fn any_judgement() -> impl Strategy<Value = Judgement> {
        let reason = |code: &str| Reason { code: code.to_owned(), message: String::new(), public: false };
        let reasons = || proptest::collection::btree_set("[ab]".prop_map(move |code| reason(&code)), 0..2);
        let scopes = proptest::option::of(proptest::collection::btree_set("[a-c]", 0..3));
        (any::<bool>(), reasons(), reasons(), scopes, proptest::option::of(0_u64..3)).prop_map(
            |(allow, deny, require_approval, scopes, lifetime)| Judgement {
                allow,
                deny,
                require_approval,
                limits: Limits { scopes, lifetime },
                tags: BTreeSet::new(),
            },
        )
    }

    proptest! {
        #[test]
        fn both_judgements_together_are_as_strict_as_each(a in any_judgement(), b in any_judgement()) {
            let both = a.clone().and(b.clone());
            prop_assert!(!a.is_stricter_than(&both) && !b.is_stricter_than(&both));
            prop_assert_eq!(a.clone().and(a.clone()), a);
        }

        #[test]
        fn limits_never_widen(
            granted in proptest::collection::btree_set("[a-d]", 0..4), seconds in any::<u64>(),
            scopes in proptest::option::of(proptest::collection::btree_set("[a-f]", 0..4)),
            lifetime in any::<Option<u64>>(),
        ) {
            let limits = Limits { scopes, lifetime };
            prop_assert!(limits.narrow_scopes(&granted).is_subset(&granted));
            prop_assert!(limits.narrow_lifetime(seconds) <= seconds);
        }
    }
}
