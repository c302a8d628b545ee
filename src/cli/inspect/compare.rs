//! Dimension by dimension: is a token wider than its parent? The answer is [`never_wider`]'s, the server's own last check.

use std::collections::{BTreeMap, BTreeSet};

use serde::Serialize;
use serde_json::{Map, Value};

use crate::domain::capability::{Grant, Widening, never_wider};
use crate::domain::claims::TokenClaims;
use crate::domain::details::DetailRules;
use crate::domain::details::FieldRule;

/// How a child stands to its parent.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub(super) struct Comparison {
    /// Whether it is wider in any dimension.
    pub(super) wider: bool,
    /// Every dimension.
    pub(super) dimensions: Vec<Dimension>,
    /// Types of authorization details whose rules are not known here, so that fields are compared for equality.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(super) unknown_types: Vec<String>,
}

/// One dimension.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub(super) struct Dimension {
    /// Its name.
    pub(super) name: &'static str,
    /// How the child stands to the parent in it.
    pub(super) verdict: Verdict,
    /// Why it is wider.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) why: Option<String>,
}

/// How a child stands to its parent in one dimension.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Verdict {
    /// Equal.
    Same,
    /// Less.
    Narrower,
    /// The parent's actors, and one more or a proved instance.
    Continued,
    /// More: the child must not exist.
    Wider,
}

/// The type of authorization details that comes with this program.
const SHIPPED: &str = "tool_call";

/// Copies one dimension of a child over that of its parent.
type Take = fn(&mut Grant, &Grant);

/// The dimensions of DESIGN §3, with tenant, principal and task, which must not change, and the chain.
const DIMENSIONS: [(&str, Widening, Take); 10] = [
    ("tenant", Widening::Tenant, |mix, child| mix.tenant = child.tenant.clone()),
    ("principal", Widening::Principal, |mix, child| mix.principal = child.principal.clone()),
    ("task", Widening::Task, |mix, child| {
        mix.task_id = child.task_id;
        mix.task_deadline = child.task_deadline;
    }),
    ("scopes", Widening::Scopes, |mix, child| {
        mix.capability.authority.scopes = child.capability.authority.scopes.clone();
    }),
    ("resources", Widening::Resources, |mix, child| {
        mix.exchange_only = child.exchange_only;
        mix.capability.authority.resources.clone_from(&child.capability.authority.resources);
    }),
    ("details", Widening::Details, |mix, child| {
        mix.capability.authority.details = child.capability.authority.details.clone();
    }),
    ("expiry", Widening::Expiry, |mix, child| mix.capability.expires_at = child.capability.expires_at),
    ("depth", Widening::Depth, |mix, child| mix.capability.depth_left = child.capability.depth_left),
    ("sender key", Widening::SenderKey, |mix, child| {
        mix.capability.sender_key.clone_from(&child.capability.sender_key);
    }),
    ("chain", Widening::Chain, |mix, child| mix.chain = child.chain.clone()),
];

/// Compares the claims of two tokens of ours.
pub(super) fn compare(parent: &Map<String, Value>, child: &Map<String, Value>) -> Result<Comparison, String> {
    let (rules, unknown_types) = rules(&[parent, child]);
    let grant = |claims: &Map<String, Value>| {
        let claims = TokenClaims::read(claims.clone());
        claims.and_then(|c| c.grant(&rules)).map_err(|fault| format!("cannot compare: {fault}"))
    };
    let (parent, child) = (grant(parent)?, grant(child)?);
    let dimensions: Vec<Dimension> = DIMENSIONS
        .into_iter()
        .map(|(name, widening, take)| dimension(name, widening, take, &parent, &child))
        .collect();
    let wider = never_wider(&parent, &child).is_err();
    Ok(Comparison { wider, dimensions, unknown_types })
}

/// Judges a mixture that is the child in one dimension and the parent in the others, as far as the hop lets it.
fn dimension(name: &'static str, widening: Widening, take: Take, parent: &Grant, child: &Grant) -> Dimension {
    let mut mix = Grant { agent: child.agent.clone(), exchange_only: true, ..parent.clone() };
    if child.agent != parent.agent {
        mix.capability.depth_left = mix.capability.depth_left.saturating_sub(1);
    }
    take(&mut mix, child);
    let wider = never_wider(parent, &mix).err().filter(|found| *found == widening);
    let mut changed = parent.clone();
    take(&mut changed, child);
    let verdict = match wider {
        Some(_) => Verdict::Wider,
        None if changed == *parent => Verdict::Same,
        None if widening == Widening::Chain => Verdict::Continued,
        None => Verdict::Narrower,
    };
    Dimension { name, verdict, why: wider.map(|w| w.to_string()) }
}

/// Rules to read the details of these tokens by: those of the shipped type, else by the kind of each value. Tells
/// the types that are not known.
fn rules(tokens: &[&Map<String, Value>]) -> (DetailRules, Vec<String>) {
    let shipped = crate::dev::tool_call_fields();
    let mut rules = DetailRules::new();
    let mut unknown = BTreeSet::new();
    let details =
        tokens.iter().filter_map(|claims| claims.get("authorization_details")?.as_array()).flatten();
    for detail in details.filter_map(Value::as_object) {
        let Some(kind) = detail.get("type").and_then(Value::as_str) else { continue };
        let Ok(name) = kind.parse() else { continue };
        let fields: &mut BTreeMap<String, FieldRule> = rules.entry(name).or_default();
        if kind == SHIPPED {
            fields.extend(shipped.clone());
        }
        for (field, value) in detail.iter().filter(|(field, _)| *field != "type") {
            let guess = if value.is_array() { FieldRule::Subset } else { FieldRule::Equals };
            if kind != SHIPPED || !fields.contains_key(field) {
                unknown.insert(kind.to_owned());
                fields.entry(field.clone()).or_insert(guess);
            }
        }
    }
    (rules, unknown.into_iter().collect())
}

#[cfg(test)]
#[path = "compare_tests.rs"]
mod tests;
