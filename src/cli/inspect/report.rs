//! What `taskgrant inspect` found, for people and as JSON.

use chrono::{DateTime, Utc};
use serde::Serialize;
use serde_json::{Map, Value};

use super::compare::{Comparison, Verdict};
use crate::domain::chain::Chain;
use crate::domain::claims::TokenClaims;
use crate::terminal::output::Output;

/// Everything that was found.
#[derive(Clone, Debug, Serialize)]
pub(super) struct Report {
    signature: Signature,
    /// What it says as a token of ours; none for another's.
    #[serde(skip_serializing_if = "Option::is_none")]
    capability: Option<Capability>,
    left: Left,
    #[serde(skip_serializing_if = "Option::is_none")]
    parent: Option<Comparison>,
    claims: Map<String, Value>,
}

/// Whether the signature is right.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(tag = "state", rename_all = "snake_case")]
pub(super) enum Signature {
    /// By these keys.
    Verified {
        /// Where the keys are from.
        keys: String,
    },
    /// No keys were at hand.
    NotVerified,
    /// It is not by any of these keys.
    Wrong {
        /// Where the keys are from.
        keys: String,
        /// Why.
        why: String,
    },
}

/// What a token of ours says.
#[derive(Clone, Debug, Serialize)]
struct Capability {
    principal: String,
    tenant: String,
    task: String,
    /// The one service, or nothing for an exchange-only token.
    #[serde(skip_serializing_if = "Option::is_none")]
    service: Option<String>,
    resources: Vec<String>,
    scope: String,
    authorization_details: Vec<Value>,
    /// The actors, the current one first.
    chain: Vec<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    may_act: Option<String>,
}

/// What is left; negative seconds are past.
#[derive(Clone, Debug, Serialize)]
struct Left {
    #[serde(skip_serializing_if = "Option::is_none")]
    token_seconds: Option<i64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    task_seconds: Option<i64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    hand_overs: Option<u32>,
}

impl Report {
    pub(super) fn new(
        claims: Map<String, Value>,
        signature: Signature,
        parent: Option<Comparison>,
        now: DateTime<Utc>,
    ) -> Self {
        let ours = TokenClaims::read(claims.clone()).ok();
        let until = |seconds: i64| seconds - now.timestamp();
        let exp = claims.get("exp").and_then(Value::as_i64);
        let left = Left {
            token_seconds: exp.map(until),
            task_seconds: ours.as_ref().map(|c| until(c.task_exp)),
            hand_overs: ours.as_ref().map(|c| c.depth_left),
        };
        Self { signature, capability: ours.map(|c| Capability::new(&c)), left, parent, claims }
    }

    /// Whether nothing speaks against the token but, perhaps, its age.
    pub(super) fn is_sound(&self) -> bool {
        !matches!(self.signature, Signature::Wrong { .. }) && !self.parent.as_ref().is_some_and(|p| p.wider)
    }

    /// For people.
    pub(super) fn print(&self, output: &mut Output<'_>) {
        let mut row = |label: &str, text: &str| output.line(format!("{label:<11} {text}").trim_end());
        row("signature", &self.signature.words());
        match &self.capability {
            Some(capability) => capability.rows(&mut row),
            None => row("token", "not one of Taskgrant, or of another version of it: the claims are below"),
        }
        row("left", &self.left.words());
        output.line("");
        output.json(&self.claims);
        if let Some(parent) = &self.parent {
            output.line("");
            compared(parent, output);
        }
    }
}

impl Signature {
    fn words(&self) -> String {
        match self {
            Self::Verified { keys } => format!("verified with {keys}"),
            Self::NotVerified => {
                "NOT VERIFIED: anybody may have written this; give keys with --jwks".to_owned()
            }
            Self::Wrong { keys, why } => format!("WRONG by {keys}: {why}"),
        }
    }
}

impl Capability {
    fn new(claims: &TokenClaims) -> Self {
        let service = (claims.aud != claims.iss).then(|| claims.aud.clone());
        let carried = claims.resources.iter().flatten().map(ToString::to_string);
        let details = claims.authorization_details.as_ref().and_then(Value::as_array);
        let chain = Chain::from_json(&claims.act);
        let actor = |a: &crate::domain::chain::Actor| match &a.instance {
            Some(instance) => format!("{} (instance {instance})", a.sub),
            None => a.sub.clone(),
        };
        Self {
            principal: format!("{} of {}", claims.sub, claims.sub_id.iss),
            tenant: claims.tenant.to_string(),
            task: format!("{}, {}", claims.task_type, claims.task_id),
            resources: service.iter().cloned().chain(carried).collect(),
            service,
            scope: claims.scope.to_string(),
            authorization_details: details.cloned().unwrap_or_default(),
            chain: chain.map(|c| c.actors().map(actor).collect()).unwrap_or_default(),
            may_act: claims.may_act.as_ref().map(|m| m.sub.to_string()),
        }
    }

    fn rows(&self, row: &mut impl FnMut(&str, &str)) {
        row("principal", &self.principal);
        row("tenant", &self.tenant);
        row("task", &self.task);
        match &self.service {
            Some(service) => row("service", service),
            None => {
                row("service", &format!("none: it can only be exchanged, for {}", self.resources.join(" ")));
            }
        }
        row("scope", &self.scope);
        for (index, detail) in self.authorization_details.iter().enumerate() {
            row(if index == 0 { "details" } else { "" }, &detail.to_string());
        }
        for (index, actor) in self.chain.iter().enumerate() {
            let role = if index == 0 { "acts" } else { "handed over" };
            row(if index == 0 { "chain" } else { "" }, &format!("{actor:<24} {role}"));
        }
        if let Some(agent) = &self.may_act {
            row("may act", &format!("{agent} alone, once"));
        }
    }
}

impl Left {
    fn words(&self) -> String {
        let seconds = |what: &str, left: i64| match left {
            ..=0 => format!("{what} EXPIRED {} s ago", -left),
            _ => format!("{left} s of the {what}"),
        };
        let parts = [
            self.token_seconds.map(|s| seconds("token", s)),
            self.task_seconds.map(|s| seconds("task", s)),
            self.hand_overs.map(|n| format!("{n} hand-over{}", if n == 1 { "" } else { "s" })),
        ];
        parts.into_iter().flatten().collect::<Vec<_>>().join(", ")
    }
}

/// The comparison, a line for each dimension.
fn compared(parent: &Comparison, output: &mut Output<'_>) {
    for dimension in &parent.dimensions {
        let word = match dimension.verdict {
            Verdict::Same => "same",
            Verdict::Narrower => "narrower",
            Verdict::Continued => "continued",
            Verdict::Wider => "WIDER",
        };
        let why = dimension.why.as_ref().map(|why| format!(": {why}")).unwrap_or_default();
        output.line(&format!("{:<11} {word}{why}", dimension.name));
    }
    if !parent.unknown_types.is_empty() {
        let types = parent.unknown_types.join(", ");
        output.line(&format!(
            "the rules of {types} are not known here: their fields were compared for equality"
        ));
    }
    output.line(&format!("wider than the parent? {}", if parent.wider { "YES" } else { "no" }));
}
