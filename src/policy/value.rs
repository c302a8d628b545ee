//! `PolicyInput` as the engine's own value, built directly: going through JSON text costs as much as evaluating.

use std::collections::BTreeMap;

use regorus::Value;

use super::input::{
    ActorFacts, ApprovalFacts, CeilingFacts, ChainLink, EnvelopeFacts, ExceptionFacts, Labels, ParentFacts,
    PolicyInput, PrincipalFacts, PrincipalKind, RequestedFacts, TaskFacts, TenantFacts,
};

/// An object of fixed members, its names made once for each thread; an undefined member is left out.
macro_rules! object {
    ($($name:literal: $value:expr),* $(,)?) => {{
        const NAMES: &[&str] = &[$($name),*];
        thread_local! {
            static KEYS: [Value; NAMES.len()] = [$(Value::from($name)),*];
        }
        KEYS.with(|keys| object(keys, [$($value),*]))
    }};
}

impl PolicyInput {
    /// The engine's value of this input; equal to what serde would give.
    pub fn to_value(&self) -> Value {
        input(self)
    }
}

fn input(facts: &PolicyInput) -> Value {
    object! {
        "version": Value::from(facts.version),
        "environment": Value::from(facts.environment.as_str()),
        "now": Value::from(facts.now),
        "tenant": tenant(&facts.tenant),
        "principal": principal(&facts.principal),
        "actor": actor(&facts.actor),
        "chain": list(&facts.chain, link),
        "task": task(&facts.task),
        "parent": facts.parent.as_ref().map_or(Value::Undefined, parent),
        "requested": requested(&facts.requested),
        "ceiling": ceiling(&facts.ceiling),
        "stats": map(&facts.stats, |count| Value::from(*count)),
        "exceptions": list(&facts.exceptions, exception),
        "approval": facts.approval.as_ref().map_or(Value::Undefined, approval),
        "claimed": map(&facts.claimed, json),
    }
}

fn tenant(facts: &TenantFacts) -> Value {
    object! { "id": Value::from(facts.id.as_str()), "labels": labels(&facts.labels) }
}

fn principal(facts: &PrincipalFacts) -> Value {
    object! {
        "iss": Value::from(facts.iss.as_str()),
        "sub": Value::from(facts.sub.as_str()),
        "kind": Value::from(match facts.kind {
            PrincipalKind::Human => "human",
            PrincipalKind::Workload => "workload",
        }),
        "roles": texts(&facts.roles),
        "groups": texts(&facts.groups),
        "acr": maybe(facts.acr.as_ref()),
        "auth_time": number(facts.auth_time),
        "facts": map(&facts.facts, json),
    }
}

fn actor(facts: &ActorFacts) -> Value {
    object! {
        "id": Value::from(facts.id.as_str()),
        "class": Value::from(facts.class.as_str()),
        "labels": labels(&facts.labels),
        "instance": maybe(facts.instance.as_ref()),
    }
}

fn link(facts: &ChainLink) -> Value {
    object! {
        "sub": Value::from(facts.sub.as_str()),
        "iss": maybe(facts.iss.as_ref()),
        "instance": maybe(facts.instance.as_ref()),
    }
}

fn task(facts: &TaskFacts) -> Value {
    object! {
        "type": Value::from(facts.r#type.as_str()),
        "version": Value::from(facts.version),
        "id": maybe(facts.id.as_ref()),
        "labels": labels(&facts.labels),
        "owner": Value::from(facts.owner.as_str()),
    }
}

fn parent(facts: &ParentFacts) -> Value {
    object! {
        "jti": Value::from(facts.jti.as_str()),
        "scopes": texts(&facts.scopes),
        "resources": texts(&facts.resources),
        "authorization_details": list(&facts.authorization_details, json),
        "depth_left": Value::from(facts.depth_left),
        "expires_in": Value::from(facts.expires_in),
        "exchange_only": Value::from(facts.exchange_only),
        "may_act": maybe(facts.may_act.as_ref()),
    }
}

fn requested(facts: &RequestedFacts) -> Value {
    object! {
        "scopes": texts(&facts.scopes),
        "resources": texts(&facts.resources),
        "authorization_details": list(&facts.authorization_details, json),
        "lifetime": number(facts.lifetime),
        "delegate_to": maybe(facts.delegate_to.as_ref()),
        "exchange_only": Value::from(facts.exchange_only),
        "dry_run": Value::from(facts.dry_run),
    }
}

fn ceiling(facts: &CeilingFacts) -> Value {
    object! {
        "scopes": texts(&facts.scopes),
        "resources": texts(&facts.resources),
        "authorization_details": list(&facts.authorization_details, json),
        "lifetime": Value::from(facts.lifetime),
        "depth": Value::from(facts.depth),
    }
}

fn exception(facts: &ExceptionFacts) -> Value {
    object! {
        "name": Value::from(facts.name.as_str()),
        "owner": Value::from(facts.owner.as_str()),
        "expires_at": Value::from(facts.expires_at),
        "about": map(&facts.about, json),
    }
}

fn approval(facts: &ApprovalFacts) -> Value {
    object! {
        "id": Value::from(facts.id.as_str()),
        "reasons": texts(&facts.reasons),
        "approvers": texts(&facts.approvers),
        "envelope": facts.envelope.as_ref().map_or(Value::Undefined, envelope),
    }
}

fn envelope(facts: &EnvelopeFacts) -> Value {
    object! {"used": Value::from(facts.used), "of": Value::from(facts.of)}
}

/// A JSON value as the engine's; numbers keep their kind (integer or binary float).
pub(super) fn json(value: &serde_json::Value) -> Value {
    match value {
        serde_json::Value::Null => Value::Null,
        serde_json::Value::Bool(truth) => Value::from(*truth),
        serde_json::Value::Number(number) => number_value(number),
        serde_json::Value::String(string) => Value::from(string.as_str()),
        serde_json::Value::Array(items) => list(items, json),
        serde_json::Value::Object(members) => {
            let pairs = members.iter().map(|(name, value)| (Value::from(name.as_str()), json(value)));
            Value::from(pairs.collect::<BTreeMap<_, _>>())
        }
    }
}

/// A number of JSON; one that is neither integer nor finite cannot come from JSON and reads as null.
fn number_value(number: &serde_json::Number) -> Value {
    if let Some(natural) = number.as_u64() {
        Value::from(natural)
    } else if let Some(integer) = number.as_i64() {
        Value::from(integer)
    } else {
        number.as_f64().map_or(Value::Null, Value::from)
    }
}

fn object<const N: usize>(keys: &[Value; N], values: [Value; N]) -> Value {
    let members = keys.iter().zip(values).filter(|(_, value)| *value != Value::Undefined);
    Value::from(members.map(|(key, value)| (key.clone(), value)).collect::<BTreeMap<_, _>>())
}

fn map<T>(members: &BTreeMap<String, T>, convert: impl Fn(&T) -> Value) -> Value {
    let pairs = members.iter().map(|(name, value)| (Value::from(name.as_str()), convert(value)));
    Value::from(pairs.collect::<BTreeMap<_, _>>())
}

fn list<T>(items: &[T], convert: impl Fn(&T) -> Value) -> Value {
    Value::from(items.iter().map(convert).collect::<Vec<_>>())
}

fn number(value: Option<u64>) -> Value {
    value.map_or(Value::Undefined, Value::from)
}

fn maybe(value: Option<&String>) -> Value {
    value.map_or(Value::Undefined, |text| Value::from(text.as_str()))
}

fn texts(values: &[String]) -> Value {
    list(values, |value| Value::from(value.as_str()))
}

fn labels(labels: &Labels) -> Value {
    map(labels, |value| Value::from(value.as_str()))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use regorus::Value;

    use super::json;
    use crate::policy::testing::{any_input, any_json};

    proptest! {
        #[test]
        fn the_direct_value_equals_that_of_serde(input in any_input()) {
            let text = serde_json::to_string(&input).unwrap();
            prop_assert_eq!(input.to_value(), Value::from_json_str(&text).unwrap());
        }

        #[test]
        fn a_json_value_equals_that_of_serde(value in any_json()) {
            prop_assert_eq!(json(&value), Value::from_json_str(&value.to_string()).unwrap());
        }
    }
}
