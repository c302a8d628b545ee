//! Inputs and bundles for the tests of this module.

use std::collections::BTreeMap;

use proptest::collection::{btree_map, vec};
use proptest::option;
use proptest::prelude::*;
use proptest::sample::select;
use serde_json::json;

use super::bundle::Bundle;
use super::input::{
    ActorFacts, ApprovalFacts, CeilingFacts, ChainLink, EnvelopeFacts, ExceptionFacts, Labels, ParentFacts,
    PolicyInput, PrincipalFacts, PrincipalKind, RequestedFacts, TaskFacts, TenantFacts,
};

/// A root exchange that base allows; tests bend one thing of it.
pub(super) fn good_input() -> PolicyInput {
    serde_json::from_value(json!({
        "version": 1, "environment": "test", "now": 1_800_000_000_u64,
        "tenant": {"id": "acme"},
        "principal": {"iss": "https://idp.example", "sub": "ada", "kind": "human", "groups": ["support"]},
        "actor": {"id": "support-bot", "class": "support"},
        "chain": [{"sub": "support-bot"}],
        "task": {"type": "refund_order", "version": 3, "owner": "group:payments", "labels": {"risk": "medium"}},
        "requested": {"scopes": ["orders:read"], "resources": ["https://orders.example"],
            "exchange_only": false, "dry_run": false},
        "ceiling": {"scopes": ["orders:read", "refunds:write"], "resources": ["https://orders.example"],
            "lifetime": 300, "depth": 2},
    }))
    .unwrap()
}

/// A bundle of these files; `rules` alone becomes `own/rules.rego`.
pub(super) fn bundle_of(files: &[(&str, &str)]) -> Bundle {
    Bundle::from_files(files.iter().map(|(path, text)| ((*path).to_owned(), (*text).to_owned()))).unwrap()
}

/// A bundle with one module of the right package and these rules, which start on line 3.
pub(super) fn rules(body: &str) -> Bundle {
    bundle_of(&[("own/rules.rego", &module(body))])
}

/// A module of the right package.
pub(super) fn module(body: &str) -> String {
    format!("package taskgrant.exchange\nimport rego.v1\n{body}\n")
}

/// Any JSON value, also ones that the product would never send.
pub(super) fn any_json() -> impl Strategy<Value = serde_json::Value> {
    let leaf = prop_oneof![
        Just(serde_json::Value::Null),
        any::<bool>().prop_map(Into::into),
        any::<u64>().prop_map(Into::into),
        any::<i64>().prop_map(Into::into),
        (-1.0e9..1.0e9).prop_map(|number: f64| json!(number)),
        "\\PC{0,6}".prop_map(Into::into),
    ];
    leaf.prop_recursive(2, 12, 3, |inner| {
        prop_oneof![
            vec(inner.clone(), 0..3).prop_map(Into::into),
            btree_map("[a-z]{1,4}", inner, 0..3).prop_map(|members| json!(members)),
        ]
    })
}

fn names(values: &'static [&'static str]) -> impl Strategy<Value = Vec<String>> {
    vec(select(values).prop_map(str::to_owned), 0..3)
}

fn some_labels() -> impl Strategy<Value = Labels> {
    let names = select(vec!["risk", "data_class", "team"]).prop_map(str::to_owned);
    let values = select(vec!["high", "low", "restricted", "internal"]).prop_map(str::to_owned);
    btree_map(names, values, 0..3)
}

fn word(values: &'static [&'static str]) -> impl Strategy<Value = String> {
    prop_oneof![9 => select(values).prop_map(str::to_owned), 1 => "\\PC{0,5}"]
}

fn any_principal() -> impl Strategy<Value = PrincipalFacts> {
    let groups = names(&["analysts", "support", "ops"]);
    let kinds = select(vec![PrincipalKind::Human, PrincipalKind::Workload]);
    let login = (option::of(word(&["mfa"])), any::<Option<u64>>());
    let facts = btree_map("[a-z]{1,4}", any_json(), 0..2);
    (word(&["ada", "bob"]), kinds, names(&["admin"]), groups, login, facts).prop_map(
        |(sub, kind, roles, groups, (acr, auth_time), facts)| PrincipalFacts {
            iss: "https://idp.example".into(),
            sub,
            kind,
            roles,
            groups,
            acr,
            auth_time,
            facts,
        },
    )
}

fn any_actor() -> impl Strategy<Value = ActorFacts> {
    (word(&["bot"]), word(&["worker", "support"]), some_labels(), option::of("[a-z]{1,3}"))
        .prop_map(|(id, class, labels, instance)| ActorFacts { id, class, labels, instance })
}

fn any_chain() -> impl Strategy<Value = Vec<ChainLink>> {
    let link = (word(&["bot"]), option::of("[a-z]{1,3}"), option::of("[a-z]{1,3}"));
    vec(link.prop_map(|(sub, iss, instance)| ChainLink { sub, iss, instance }), 0..4)
}

fn any_task() -> impl Strategy<Value = TaskFacts> {
    let types = word(&["export_customers", "refund_order"]);
    (types, any::<u64>(), option::of("[a-z]{1,3}"), some_labels()).prop_map(|(kind, version, id, labels)| {
        TaskFacts { r#type: kind, version, id, labels, owner: "group:payments".into() }
    })
}

fn any_parent() -> impl Strategy<Value = ParentFacts> {
    (scopes(), scopes(), vec(any_json(), 0..2), any::<u64>(), any::<bool>(), option::of(word(&["bot"])))
        .prop_map(|(scopes, resources, authorization_details, number, exchange_only, may_act)| ParentFacts {
            jti: "j".into(),
            scopes,
            resources,
            authorization_details,
            depth_left: number,
            expires_in: number,
            exchange_only,
            may_act,
        })
}

fn scopes() -> impl Strategy<Value = Vec<String>> {
    names(&["orders:read", "refunds:write", "customers:export"])
}

fn any_request() -> impl Strategy<Value = RequestedFacts> {
    let flags = (any::<bool>(), any::<bool>());
    (scopes(), scopes(), vec(any_json(), 0..2), any::<Option<u64>>(), option::of(word(&["bot"])), flags)
        .prop_map(
            |(scopes, resources, authorization_details, lifetime, delegate_to, (exchange_only, dry_run))| {
                RequestedFacts {
                    scopes,
                    resources,
                    authorization_details,
                    lifetime,
                    delegate_to,
                    exchange_only,
                    dry_run,
                }
            },
        )
}

fn any_ceiling() -> impl Strategy<Value = CeilingFacts> {
    (scopes(), scopes(), vec(any_json(), 0..2), any::<u64>()).prop_map(
        |(scopes, resources, authorization_details, lifetime)| CeilingFacts {
            scopes,
            resources,
            authorization_details,
            lifetime,
            depth: lifetime,
        },
    )
}

fn any_exception() -> impl Strategy<Value = ExceptionFacts> {
    ("[a-z]{1,3}", any::<u64>(), some_labels()).prop_map(|(name, expires_at, about)| ExceptionFacts {
        name,
        owner: "group:ops".into(),
        expires_at,
        about: about.into_iter().map(|(k, v)| (k, v.into())).collect(),
    })
}

fn any_approval() -> impl Strategy<Value = ApprovalFacts> {
    let envelope = (0u64..3, 0u64..3).prop_map(|(used, of)| EnvelopeFacts { used, of });
    (names(&["high_risk_task"]), option::of(envelope)).prop_map(|(reasons, envelope)| ApprovalFacts {
        id: "a".into(),
        reasons,
        approvers: Vec::new(),
        envelope,
    })
}

type Extras = (
    Option<ParentFacts>,
    BTreeMap<String, u64>,
    Vec<ExceptionFacts>,
    Option<ApprovalFacts>,
    BTreeMap<String, serde_json::Value>,
);

fn any_extras() -> impl Strategy<Value = Extras> {
    (
        option::of(any_parent()),
        btree_map("[a-z]{1,4}", any::<u64>(), 0..3),
        vec(any_exception(), 0..2),
        option::of(any_approval()),
        btree_map("[a-z]{1,4}", any_json(), 0..3),
    )
}

/// Any input that the types admit, biased to what base and support look at.
pub(super) fn any_input() -> impl Strategy<Value = PolicyInput> {
    let facts = (any_principal(), any_actor(), any_chain(), any_task(), some_labels());
    (any::<u64>(), facts, any_request(), any_ceiling(), any_extras()).prop_map(
        |(now, (principal, actor, chain, task, labels), requested, ceiling, extras)| {
            let (parent, stats, exceptions, approval, claimed) = extras;
            PolicyInput {
                version: 1,
                environment: "test".into(),
                now,
                tenant: TenantFacts { id: "acme".into(), labels },
                principal,
                actor,
                chain,
                task,
                parent,
                requested,
                ceiling,
                stats,
                exceptions,
                approval,
                claimed,
            }
        },
    )
}
