use serde_json::{Value, json};

use super::*;
use crate::domain::build::build;
use crate::domain::objects::{Object, Spec};

fn object(kind: ObjectKind, tenant: &str, name: &str, spec: &Value) -> Object {
    let id = ObjectRef { kind, tenant: tenant.parse().unwrap(), name: name.parse().unwrap() };
    Object { id, version: 1, spec: Spec::from_json(kind, spec.to_string().as_bytes()).unwrap() }
}

fn pem(certificates: &[&str]) -> String {
    let armoured =
        |inner: &&str| format!("-----BEGIN CERTIFICATE-----\n{inner}\n-----END CERTIFICATE-----\n");
    certificates.iter().map(armoured).collect()
}

fn exception() -> Value {
    json!({"reason": "outage", "owner": "group:a", "approvers": ["group:b", "group:c"],
        "not_before": "2026-01-02T00:00:00Z", "expires_at": "2026-02-01T00:00:00Z"})
}

fn world() -> Vec<(ObjectKind, &'static str, &'static str, Value)> {
    use ObjectKind::{
        Agent, AuthorizationDetailType, CertificateAuthority, Exception, Resource, TaskType, Tenant,
        TrustedIssuer,
    };
    let agent =
        |id: &str, class: &str| json!({"client_id": id, "class": class, "owner": "group:a", "contact": "c"});
    vec![
        (Tenant, "acme", "acme", json!({})),
        (Tenant, "other", "other", json!({})),
        (
            TrustedIssuer,
            "acme",
            "idp",
            json!({
                "issuer": "https://idp.example",
                "accept": [{"type": "access_token", "audience": "us"}],
                "session_end": {"after_auth_time": 600},
                "logout": {
                    "backchannel": {"clients": ["app", "desk"]},
                    "caep": {"audience": "stream", "opaque": "session", "bearer_sha256": ["b".repeat(64)]},
                },
                "entitlements": [{"when": {"claim": "groups", "contains": "support"}, "scopes": ["read"]}],
            }),
        ),
        (CertificateAuthority, "acme", "ca", json!({"certificates": pem(&["one", "two"])})),
        (
            AuthorizationDetailType,
            "acme",
            "tool_call",
            json!({"schema": {}, "fields": {"tools": "subset", "amount": "at_most"}}),
        ),
        (Resource, "acme", "orders", json!({"uri": "https://orders.example", "scopes": ["read", "write"]})),
        (Resource, "acme", "mail", json!({"uri": "https://mail.example", "scopes": ["read", "write"]})),
        (Agent, "acme", "helper", agent("helper", "support")),
        (Agent, "acme", "worker", agent("worker", "worker")),
        (
            TaskType,
            "acme",
            "refund",
            json!({
                "description": "d", "owner": "group:a", "contact": "c", "review_by": "2027-01-01",
                "agents": ["class:support"], "scopes": ["read"], "resources": ["orders"],
                "authorization_details": [{"type": "tool_call", "tools": ["a", "b"], "amount": 500}],
                "lifetime": {"token": {"default": 60, "max": 300}, "task": 3600},
                "delegation": {"max_depth": 1, "edges": [{"to": "class:worker", "scopes": ["read"]}]},
                "approval": {"when": "always", "approvers": ["group:leads", "group:heads"], "quorum": 2,
                    "envelope": {"exchanges": 3, "minutes": 30}},
            }),
        ),
        (Exception, "acme", "outage", exception()),
    ]
}

/// The paths that are wider once the member at `pointer` of the object called `name` has become `value`.
fn wider(name: &str, pointer: &str, value: Value) -> Vec<String> {
    let before = world();
    let mut after = before.clone();
    let changed = after.iter_mut().find(|(_, _, n, _)| *n == name).unwrap();
    let (parent, key) = pointer.rsplit_once('/').unwrap();
    let parent = changed.3.pointer_mut(parent).unwrap();
    match (parent.as_array_mut(), key) {
        (Some(items), "-") => items.push(value),
        (Some(items), index) => items[index.parse::<usize>().unwrap()] = value,
        (None, member) => parent[member] = value,
    }
    let id = object(changed.0, changed.1, changed.2, &changed.3).id;
    let snapshot = |objects: &[(ObjectKind, &str, &str, Value)]| {
        let objects: Vec<_> = objects.iter().map(|(k, t, n, s)| object(*k, t, n, s)).collect();
        build(&objects, &[], "https://us.example").unwrap()
    };
    widenings(&id, &snapshot(&before), &snapshot(&after)).into_iter().map(|w| w.path).collect()
}

#[test]
fn every_step_up_of_a_task_type_is_called_out() {
    let edge = |to: &str, scopes: Value| json!({"to": to, "scopes": scopes});
    let detail = |tools: Value, amount: u32| json!({"type": "tool_call", "tools": tools, "amount": amount});
    let cases = [
        ("/scopes", json!(["read", "write"]), "spec.scopes"),
        ("/resources", json!(["orders", "mail"]), "spec.resources"),
        ("/authorization_details/0", detail(json!(["a"]), 501), "spec.authorization_details"),
        ("/authorization_details/-", detail(json!(["c"]), 1), "spec.authorization_details"),
        ("/authorization_details", json!([]), "spec.authorization_details"),
        ("/agents/-", json!("class:worker"), "spec.agents[1]"),
        ("/agents/-", json!("agent:worker"), "spec.agents[1]"),
        ("/lifetime/token/default", json!(61), "spec.lifetime.token.default"),
        ("/lifetime/token/max", json!(301), "spec.lifetime.token.max"),
        ("/lifetime/task", json!(3601), "spec.lifetime.task"),
        ("/delegation/max_depth", json!(2), "spec.delegation.max_depth"),
        ("/delegation/edges/-", edge("class:support", json!(["read"])), "spec.delegation.edges[1]"),
        ("/delegation/edges/0", json!({"to": "class:worker"}), "spec.delegation.edges[0]"),
        ("/approval/when", json!("policy"), "spec.approval.when"),
        ("/approval/quorum", json!(1), "spec.approval.quorum"),
        ("/approval/envelope/exchanges", json!(4), "spec.approval.envelope.exchanges"),
        ("/approval/envelope/minutes", json!(31), "spec.approval.envelope.minutes"),
        ("/approval/approvers/-", json!("group:all"), "spec.approval.approvers"),
    ];
    for (pointer, value, path) in cases {
        assert_eq!(wider("refund", pointer, value.clone()), [path], "{pointer} {value}");
    }
}

#[test]
fn an_envelope_where_there_was_none_is_a_step_up() {
    let with = |envelope: Value| {
        let mut objects = world();
        let refund = objects.iter_mut().find(|(_, _, name, _)| *name == "refund").unwrap();
        refund.3["approval"]["envelope"] = envelope;
        let (kind, tenant, name, spec) = refund.clone();
        let id = object(kind, tenant, name, &spec).id;
        let objects: Vec<_> = objects.iter().map(|(k, t, n, s)| object(*k, t, n, s)).collect();
        (id, build(&objects, &[], "https://us.example").unwrap())
    };
    let ((id, none), (_, one)) = (with(json!(null)), with(json!({"exchanges": 1, "minutes": 1})));
    let paths: Vec<_> = widenings(&id, &none, &one).into_iter().map(|w| w.path).collect();
    assert_eq!(paths, ["spec.approval.envelope"]);
    assert!(widenings(&id, &one, &none).is_empty());
}

#[test]
fn what_narrows_or_says_the_same_is_no_step_up() {
    let cases = [
        ("refund", "/description", json!("other")),
        ("refund", "/authorization_details/0", json!({"type": "tool_call", "tools": ["a"], "amount": 5})),
        ("refund", "/agents", json!(["agent:helper"])),
        ("refund", "/agents/-", json!("agent:helper")),
        ("refund", "/lifetime", json!({"token": {"default": 60, "max": 60}, "task": 60})),
        ("refund", "/delegation", json!({})),
        (
            "refund",
            "/delegation/edges/0",
            json!({"from": "class:support", "to": "agent:worker", "scopes": ["read"]}),
        ),
        ("refund", "/approval/quorum", json!(3)),
        ("refund", "/approval/envelope", json!({"exchanges": 2, "minutes": 30})),
        ("refund", "/approval/envelope", json!(null)),
        ("refund", "/disabled", json!(true)),
        ("idp", "/entitlements", json!([])),
        ("idp", "/max_session_age", json!(60)),
        ("idp", "/algorithms", json!(["ES256"])),
        ("idp", "/session_end", json!("token")),
        ("idp", "/session_end", json!({"after_auth_time": 60})),
        ("idp", "/logout/backchannel/clients/-", json!("more")),
        ("idp", "/logout/backchannel/typ", json!(["logout+jwt", "JWT"])),
        ("idp", "/logout/caep/bearer_sha256", json!([])),
        ("tool_call", "/fields/amount", json!("equals")),
        ("helper", "/disabled", json!(true)),
        ("outage", "/expires_at", json!("2026-01-03T00:00:00Z")),
        ("acme", "/labels", json!({"a": "b"})),
    ];
    for (name, pointer, value) in cases {
        assert_eq!(wider(name, pointer, value.clone()), [""; 0], "{name} {pointer} {value}");
    }
}

#[test]
fn every_step_up_of_the_other_kinds_is_called_out() {
    let hash = "a".repeat(64);
    let support = json!({"claim": "groups", "contains": "support"});
    let cases = [
        (
            "idp",
            "/entitlements/0",
            json!({"when": support, "scopes": ["read", "write"]}),
            "spec.entitlements[0].scopes",
        ),
        ("idp", "/entitlements/-", json!({"scopes": ["read"]}), "spec.entitlements[1]"),
        ("idp", "/any_agent", json!(true), "spec.any_agent"),
        ("idp", "/accept/-", json!({"type": "id_token", "audience": "us"}), "spec.accept[1]"),
        ("idp", "/algorithms", json!(["ES256", "RS512"]), "spec.algorithms"),
        ("idp", "/max_session_age", json!(43_201), "spec.max_session_age"),
        ("idp", "/issuer", json!("https://evil.example"), "spec.issuer"),
        ("idp", "/jwks_uri", json!("https://evil.example"), "spec.jwks_uri"),
        ("idp", "/subject_prefix", json!("x:"), "spec.subject_prefix"),
        ("idp", "/session_end", json!({"after_auth_time": 601}), "spec.session_end.after_auth_time"),
        ("idp", "/session_end", json!({"claim": "end"}), "spec.session_end"),
        ("idp", "/logout/backchannel/clients", json!(["app"]), "spec.logout.backchannel"),
        ("idp", "/logout/backchannel/typ", json!(["JWT"]), "spec.logout.backchannel"),
        ("idp", "/logout/backchannel", Value::Null, "spec.logout.backchannel"),
        ("idp", "/logout/caep", Value::Null, "spec.logout.caep"),
        ("idp", "/logout/caep/audience", json!("another"), "spec.logout.caep"),
        ("idp", "/logout/caep/jwks_uri", json!("https://keys.example"), "spec.logout.caep"),
        ("idp", "/logout/caep/opaque", json!("principal"), "spec.logout.caep"),
        ("helper", "/class", json!("worker"), "spec.class"),
        ("helper", "/auth", json!({"secret_sha256": [hash]}), "spec.auth.secret_sha256"),
        ("helper", "/actor_jwks", json!({"keys": []}), "spec.actor_jwks"),
        (
            "helper",
            "/upstream_clients",
            json!([{"issuer": "https://idp.example", "client": "x"}]),
            "spec.upstream_clients[0]",
        ),
        ("orders", "/scopes/-", json!("admin"), "spec.scopes"),
        ("orders", "/uri", json!("https://evil.example"), "spec.uri"),
        ("tool_call", "/fields/path", json!("prefix"), "spec.fields.path"),
        ("tool_call", "/schema", json!({"type": "object"}), "spec.schema"),
        ("outage", "/expires_at", json!("2026-03-01T00:00:00Z"), "spec.expires_at"),
        ("outage", "/about", json!({"agent": "x"}), "spec.about"),
    ];
    for (name, pointer, value, path) in cases {
        assert_eq!(wider(name, pointer, value.clone()), [path], "{name} {pointer} {value}");
    }
}

#[test]
fn what_is_enabled_again_is_a_step_up() {
    let disabled = |disabled: bool| {
        let objects = world().into_iter().map(|(kind, tenant, name, mut spec)| {
            if matches!(kind, ObjectKind::Agent | ObjectKind::TaskType) {
                spec["disabled"] = json!(disabled);
            }
            object(kind, tenant, name, &spec)
        });
        let objects: Vec<_> = objects.collect();
        (build(&objects, &[], "https://us.example").unwrap(), objects)
    };
    let ((before, objects), (after, _)) = (disabled(true), disabled(false));
    let wider = objects.iter().flat_map(|o| widenings(&o.id, &before, &after));
    assert_eq!(wider.map(|w| w.path).collect::<Vec<_>>(), ["spec.disabled"; 3]);
}

#[test]
fn a_new_exception_is_a_step_up_and_any_other_new_object_is_not() {
    let objects: Vec<_> = world().iter().map(|(k, t, n, s)| object(*k, t, n, s)).collect();
    let after = build(&objects, &[], "https://us.example").unwrap();
    let wider: Vec<_> =
        objects.iter().filter(|o| !widenings(&o.id, &Snapshot::default(), &after).is_empty()).collect();
    assert_eq!(wider.iter().map(|o| o.id.kind).collect::<Vec<_>>(), [ObjectKind::Exception]);
}

type Change = fn(&mut Value);

#[test]
fn an_object_by_another_name_is_compared_with_the_one_that_went_by_its_key() {
    let named = |kind: ObjectKind, more: &dyn Fn(&mut Value)| {
        let rename = |(k, tenant, name, mut spec): (ObjectKind, &str, &str, Value)| {
            let is_it = k == kind;
            if is_it {
                more(&mut spec);
            }
            let name = if is_it { format!("{name}-anew") } else { name.to_owned() };
            object(k, tenant, &name, &spec)
        };
        world().into_iter().map(rename).collect::<Vec<_>>()
    };
    let snapshot = |objects: &[Object]| build(objects, &[], "https://us.example").unwrap();
    let before = snapshot(&world().iter().map(|(k, t, n, s)| object(*k, t, n, s)).collect::<Vec<_>>());
    let kinds: [(ObjectKind, &str, Change); 2] = [
        (ObjectKind::TrustedIssuer, "spec.jwks_uri", |spec| {
            spec["jwks_uri"] = json!("https://evil.example/keys");
        }),
        (ObjectKind::Agent, "spec.auth.secret_sha256", |spec| {
            spec["auth"] = json!({"secret_sha256": ["f".repeat(64)]});
        }),
    ];
    for (kind, path, change) in kinds {
        let wider = |more: &dyn Fn(&mut Value)| {
            let objects = named(kind, more);
            let after = snapshot(&objects);
            let of_kind = objects.iter().filter(|o| o.id.kind == kind);
            of_kind.flat_map(|o| widenings(&o.id, &before, &after)).map(|w| w.path).collect::<Vec<_>>()
        };
        assert_eq!(wider(&|_| ()), [""; 0], "{kind:?}: the same by another name");
        assert!(wider(&change).iter().any(|wider| wider == path), "{kind:?}: {:?}", wider(&change));
    }
}

#[test]
fn ap_03_who_owned_an_agent_may_approve_for_it_once_somebody_else_does() {
    assert_eq!(wider("helper", "/owner", json!("group:nobody")), ["spec.owner"]);
    assert_eq!(wider("helper", "/contact", json!("d")), [""; 0]);
}

#[test]
fn ca_05_another_certificate_or_authority_is_wider_and_one_less_is_not() {
    let certificates = |all: &[&str]| wider("ca", "/certificates", json!(pem(all)));
    for same in [&["one", "two"][..], &["two", "one"], &["two"]] {
        assert_eq!(certificates(same), [""; 0], "{same:?}");
    }
    for more in [&["one", "two", "three"][..], &["one", "three"]] {
        assert_eq!(certificates(more), ["spec.certificates"], "{more:?}");
    }
    let tls = json!({"tls": {"authority": "ca", "san_dns": "helper.example"}});
    assert_eq!(wider("helper", "/auth", tls), ["spec.auth.tls"]);
}
