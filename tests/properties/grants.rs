//! L1 against a model that answers by enumeration, L5, and that attenuation composes.

use chrono::{DateTime, TimeDelta, Utc};
use proptest::prelude::*;
use proptest::sample::{Index, select};
use serde_json::{Value, json};
use taskgrant::domain::capability::{Capability, Grant, Lifetime, Widening, expiry, never_wider};
use taskgrant::domain::ceiling::Authority;
use taskgrant::domain::chain::{Actor, Chain};
use taskgrant::domain::claims::{Envelope, Login, TokenClaims};
use taskgrant::domain::ids::{Jti, TaskId};
use taskgrant::domain::principal::Principal;

use crate::world::{
    Call, RESOURCES, SCOPES, calls, detail, details, permits, read, rules, scope_set, some_resources,
    some_scopes, uris, within,
};

const OURS: &str = "https://tg.example";
const TENANTS: [&str; 2] = ["acme", "globex"];
const KEYS: [Option<&str>; 4] = [None, Some("k1"), Some("k2"), Some("k3")];
const AGENTS: [&str; 3] = ["a", "b", "c"];

/// A grant in plain words: what the model reads, and what the domain's value is made from.
#[derive(Clone, Debug)]
struct Plain {
    tenant: &'static str,
    principal: (&'static str, &'static str),
    task: u8,
    deadline: i64,
    agent: &'static str,
    /// The holder first.
    chain: Vec<(String, Option<String>)>,
    scopes: Vec<&'static str>,
    resources: Vec<&'static str>,
    details: Vec<Value>,
    expires: i64,
    depth: u32,
    key: Option<&'static str>,
    exchange_only: bool,
}

fn at(seconds: i64) -> DateTime<Utc> {
    DateTime::from_timestamp(1_800_000_000 + seconds, 0).unwrap()
}

fn task(number: u8) -> TaskId {
    TaskId::new(at(0), [number; 10])
}

fn chain_of(actors: &[(String, Option<String>)]) -> Chain {
    let nested = actors.iter().rev().fold(Value::Null, |inner, (sub, instance)| {
        let mut act = json!({"sub": sub, "iss": OURS});
        if let Some(instance) = instance {
            act["instance"] = json!(instance);
        }
        if !inner.is_null() {
            act["act"] = inner;
        }
        act
    });
    Chain::from_json(&nested).unwrap()
}

impl Plain {
    fn grant(&self) -> Grant {
        Grant {
            tenant: self.tenant.parse().unwrap(),
            principal: Principal { iss: self.principal.0.to_owned(), sub: self.principal.1.to_owned() },
            task_id: task(self.task),
            task_deadline: at(self.deadline),
            agent: self.agent.parse().unwrap(),
            chain: chain_of(&self.chain),
            capability: Capability {
                authority: Authority {
                    scopes: scope_set(&self.scopes),
                    resources: uris(&self.resources),
                    details: read(&self.details),
                },
                expires_at: at(self.expires),
                depth_left: self.depth,
                sender_key: self.key.map(str::to_owned),
            },
            exchange_only: self.exchange_only,
            may_act: None,
        }
    }

    /// Model: whether this grant, or one handed over from it as often as it allows, could ever allow the probe.
    fn allows(&self, probe: &Probe<'_>) -> bool {
        let Some(hops) = probe.chain.len().checked_sub(self.chain.len()) else { return false };
        let (newer, older) = probe.chain.split_at(hops);
        let (holder, history) = (&self.chain[0], &self.chain[1..]);
        let same_holder = older[0].0 == holder.0 && (holder.1.is_none() || older[0].1 == holder.1);
        let key = match (self.key, hops) {
            (None, _) => true,
            (Some(key), 0) => probe.key == Some(key),
            (Some(key), 1) => probe.key.is_some_and(|k| k != key),
            (Some(_), _) => probe.key.is_some(),
        };
        self.tenant == probe.tenant
            && self.principal == probe.principal
            && self.task == probe.task
            && self.scopes.contains(&probe.scope)
            && self.resources.contains(&probe.resource)
            && probe.call.is_none_or(|call| self.details.iter().any(|d| permits(d, call, probe.resource)))
            && probe.instant < self.expires
            && probe.instant < self.deadline
            && newer.len() <= self.depth as usize
            && same_holder
            && &older[1..] == history
            && key
    }
}

/// Something that somebody might do at some instant.
#[derive(Clone, Debug)]
struct Probe<'a> {
    tenant: &'static str,
    principal: (&'static str, &'static str),
    task: u8,
    scope: &'static str,
    resource: &'static str,
    call: Option<&'a Call>,
    instant: i64,
    /// All who acted up to now, the one who acts first.
    chain: Vec<(String, Option<String>)>,
    key: Option<&'static str>,
}

const PRINCIPALS: [(&str, &str); 3] =
    [("https://idp.example", "ann"), ("https://idp.example", "bob"), ("https://other.example", "ann")];

fn plain() -> impl Strategy<Value = Plain> {
    let whose = (select(&TENANTS[..]), select(&PRINCIPALS[..]), 0..2_u8, any::<bool>());
    let what = (some_scopes(1), some_resources(1), details(2));
    let how = (1..6_i64, 1..6_i64, 0..3_u32, select(&KEYS[..]), chain());
    (whose, what, how).prop_map(|(whose, what, how)| Plain {
        tenant: whose.0,
        principal: whose.1,
        task: whose.2,
        deadline: how.0,
        agent: AGENTS.into_iter().find(|a| *a == how.4[0].0).unwrap(),
        chain: how.4,
        scopes: what.0,
        resources: what.1,
        details: what.2,
        expires: how.1,
        depth: how.2,
        key: how.3,
        exchange_only: whose.3,
    })
}

fn chain() -> impl Strategy<Value = Vec<(String, Option<String>)>> {
    let instance = select(vec![None, None, Some("i".to_owned()), Some("j".to_owned())]);
    proptest::collection::vec((select(&AGENTS[..]).prop_map(str::to_owned), instance), 1..3)
}

/// A parent, and a child that mostly narrows it by the book and then takes a few dimensions from elsewhere.
fn pair() -> impl Strategy<Value = (Plain, Plain)> {
    let from = proptest::collection::vec(proptest::bool::weighted(0.06), 13);
    (plain(), plain(), narrowing(), from).prop_map(|(mut parent, other, step, from)| {
        parent.deadline = parent.deadline.max(parent.expires);
        let mut child = step.apply(&parent);
        let mut swap = |index: usize, with: &dyn Fn(&mut Plain)| {
            if from[index] {
                with(&mut child);
            }
        };
        swap(0, &|c| c.tenant = other.tenant);
        swap(1, &|c| c.principal = other.principal);
        swap(2, &|c| c.task = other.task);
        swap(3, &|c| c.deadline = other.deadline);
        swap(4, &|c| c.scopes.clone_from(&other.scopes));
        swap(5, &|c| c.resources.clone_from(&other.resources));
        swap(6, &|c| c.details.clone_from(&other.details));
        swap(7, &|c| c.expires = other.expires);
        swap(8, &|c| c.depth = other.depth);
        swap(9, &|c| c.key = other.key);
        swap(10, &|c| c.chain.clone_from(&other.chain));
        swap(11, &|c| c.agent = other.agent);
        swap(12, &|c| c.exchange_only = other.exchange_only);
        (parent, child)
    })
}

/// One attenuation by the book.
#[derive(Clone, Debug)]
struct Narrowing {
    to: Option<&'static str>,
    scopes: Vec<Index>,
    resource: Option<Index>,
    details: Vec<(Index, Value)>,
    sooner: i64,
    key: &'static str,
    instance: bool,
}

fn narrowing() -> impl Strategy<Value = Narrowing> {
    (
        proptest::option::of(select(&AGENTS[..])),
        proptest::collection::vec(any::<Index>(), 1..4),
        proptest::option::of(any::<Index>()),
        proptest::collection::vec((any::<Index>(), detail()), 0..3),
        0..3_i64,
        any::<bool>(),
    )
        .prop_map(|(to, scopes, resource, details, sooner, instance)| Narrowing {
            to,
            scopes,
            resource,
            details,
            sooner,
            key: "k3",
            instance,
        })
}

impl Narrowing {
    fn apply(&self, parent: &Plain) -> Plain {
        let mut child = parent.clone();
        let new = self.to.filter(|to| parent.depth > 0 && parent.chain.iter().all(|(sub, _)| sub != to));
        if let Some(to) = new {
            child.agent = to;
            child.chain.insert(0, (to.to_owned(), None));
            child.depth -= 1;
            if parent.key.is_some() {
                child.key = if parent.key == Some(self.key) { Some("k1") } else { Some(self.key) };
            }
        } else if self.instance && child.chain[0].1.is_none() {
            child.chain[0].1 = Some("i".to_owned());
        }
        child.scopes = self.scopes.iter().map(|i| *i.get(&parent.scopes)).collect();
        child.exchange_only = self.resource.is_none();
        if let Some(index) = &self.resource {
            child.resources = vec![*index.get(&parent.resources)];
        }
        child.details = self.narrowed_details(&parent.details);
        child.expires = (parent.expires - self.sooner).max(0);
        child
    }

    /// Details that lie within the parent's, by the model: a candidate where it fits, else the parent's own.
    fn narrowed_details(&self, held: &[Value]) -> Vec<Value> {
        if held.is_empty() {
            return Vec::new();
        }
        let narrowed = self.details.iter().map(|(index, candidate)| {
            let base = index.get(held);
            let mut near = base.clone();
            near.as_object_mut().unwrap().extend(candidate.as_object().cloned().unwrap_or_default());
            let fits = near["type"] == base["type"] && within(&near, base);
            if fits { near } else { base.clone() }
        });
        narrowed.collect()
    }
}

/// Every probe of the universe that the model says `grant` allows.
fn allowed<'a>(grant: &Plain, calls: &'a [Call]) -> Vec<Probe<'a>> {
    let mut chains = vec![grant.chain.clone()];
    if grant.chain[0].1.is_none() {
        let mut proved = grant.chain.clone();
        proved[0].1 = Some("i".to_owned());
        chains.push(proved);
    }
    for next in ["x", "y"] {
        let mut longer = chains.last().unwrap().clone();
        longer.insert(0, (next.to_owned(), None));
        chains.push(longer);
    }
    let calls: Vec<Option<&Call>> = std::iter::once(None).chain(calls.iter().map(Some)).collect();
    let mut found = Vec::new();
    for (scope, resource) in SCOPES.iter().flat_map(|s| RESOURCES.iter().map(move |r| (*s, *r))) {
        for chain in &chains {
            for key in KEYS {
                let probe = |instant, call| Probe {
                    tenant: grant.tenant,
                    principal: grant.principal,
                    task: grant.task,
                    scope,
                    resource,
                    call,
                    instant,
                    chain: chain.clone(),
                    key,
                };
                // What is decided by one dimension alone is told by the earliest instant and no call.
                if grant.allows(&probe(-1, None)) {
                    found.extend((-1..7).map(|instant| probe(instant, None)));
                    found.extend(calls.iter().map(|call| probe(-1, *call)));
                }
            }
        }
    }
    found.retain(|probe| grant.allows(probe));
    found
}

fn envelope() -> Envelope {
    Envelope {
        issuer: OURS.to_owned(),
        jti: Jti::new(at(0), [1; 10]),
        parent: None,
        iat: at(0),
        subject: "ann".to_owned(),
        task_type: "refund@1".to_owned(),
        login: Login::default(),
        approval: None,
        status: None,
    }
}

/// All ways to widen one dimension of a child, with the refusal that each must get.
fn widenings(parent: &Plain) -> Vec<(Widening, Plain)> {
    let mut all = Vec::new();
    let mut with = |widening, change: &dyn Fn(&mut Plain)| {
        let mut child = parent.clone();
        change(&mut child);
        all.push((widening, child));
    };
    let other = |of: &[&'static str], held: &[&'static str]| of.iter().find(|x| !held.contains(x)).copied();
    with(Widening::Tenant, &|c| c.tenant = if c.tenant == "acme" { "globex" } else { "acme" });
    with(Widening::Principal, &|c| c.principal.0 = "https://third.example");
    with(Widening::Principal, &|c| c.principal.1 = "eve");
    with(Widening::Task, &|c| c.task += 1);
    with(Widening::Task, &|c| c.deadline += 1);
    if let Some(scope) = other(&SCOPES, &parent.scopes) {
        with(Widening::Scopes, &|c| c.scopes.push(scope));
        with(Widening::Scopes, &|c| c.scopes = vec![scope]);
    }
    if let Some(resource) = other(&RESOURCES, &parent.resources) {
        with(Widening::Resources, &|c| c.resources = vec![resource]);
    }
    with(Widening::Resources, &|c| {
        c.exchange_only = false;
        c.resources.clear();
    });
    if parent.resources.len() > 1 {
        with(Widening::Resources, &|c| c.exchange_only = false);
    }
    for wider in wider_details(&parent.details) {
        with(Widening::Details, &|c| c.details.push(wider.clone()));
    }
    with(Widening::Expiry, &|c| c.expires += 1);
    with(Widening::Expiry, &|c| c.deadline = c.expires - 1);
    with(Widening::Depth, &|c| c.depth += 1);
    if parent.key.is_some() {
        with(Widening::SenderKey, &|c| c.key = None);
        with(Widening::SenderKey, &|c| c.key = Some("another"));
    }
    with(Widening::Chain, &|c| c.chain.push(("z".to_owned(), None)));
    with(Widening::Chain, &|c| c.chain.insert(0, ("z".to_owned(), None)));
    with(Widening::Chain, &|c| c.chain[0].0 = "z".to_owned());
    if parent.chain[0].1.is_some() {
        with(Widening::Chain, &|c| c.chain[0].1 = None);
        with(Widening::Chain, &|c| c.chain[0].1 = Some("another".to_owned()));
    }
    if parent.chain.len() > 1 {
        with(Widening::Chain, &|c| drop(c.chain.pop()));
        with(Widening::Chain, &|c| c.chain[1].0 = "z".to_owned());
        with(Widening::Chain, &|c| c.chain[1].1 = Some("forged".to_owned()));
        if parent.chain[0] != parent.chain[1] {
            with(Widening::Chain, &|c| c.chain.swap(0, 1));
        }
    }
    all
}

/// The parent's details with one limit loosened or dropped, where no detail of the parent covers the result.
fn wider_details(held: &[Value]) -> Vec<Value> {
    let mut all = vec![json!({"type": "file"}), json!({"type": "tool_call"})];
    for detail in held {
        for field in detail.as_object().unwrap().keys().filter(|field| *field != "type") {
            let mut dropped = detail.clone();
            dropped.as_object_mut().unwrap().remove(field);
            all.push(dropped);
            let mut loosened = detail.clone();
            loosened[field] = match field.as_str() {
                "amount" => json!(500.01),
                "floor" => json!(-1.01),
                "path" => json!("/elsewhere"),
                "operation" => json!("other"),
                _ => json!(["https://orders.example/a", "get", "more"]),
            };
            all.push(loosened);
        }
    }
    all.retain(|wider| !held.iter().any(|d| within(wider, d)));
    all
}

/// The same for a child that another agent holds.
fn hand_over_widenings(parent: &Plain, child: &Plain) -> Vec<(Widening, Plain)> {
    let mut all = Vec::new();
    let mut with = |widening, change: &dyn Fn(&mut Plain)| {
        let mut bent = child.clone();
        change(&mut bent);
        all.push((widening, bent));
    };
    with(Widening::Depth, &|c| c.depth = parent.depth);
    if parent.key.is_some() {
        with(Widening::SenderKey, &|c| c.key = None);
        with(Widening::SenderKey, &|c| c.key = parent.key);
    }
    with(Widening::Chain, &|c| c.chain.truncate(1));
    with(Widening::Chain, &|c| drop(c.chain.remove(1)));
    with(Widening::Chain, &|c| c.chain.insert(1, ("z".to_owned(), None)));
    with(Widening::Chain, &|c| c.chain[0].0 = "z".to_owned());
    with(Widening::Chain, &|c| c.chain[1].1 = Some("forged".to_owned()));
    with(Widening::Chain, &|c| c.chain.swap(0, 1));
    with(Widening::Chain, &|c| c.chain.clone_from(&parent.chain));
    all
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 300, ..ProptestConfig::default() })]

    #[test]
    fn l1_what_an_accepted_child_allows_its_parent_allows((parent, child) in pair()) {
        if never_wider(&parent.grant(), &child.grant()).is_ok() {
            let calls = calls();
            for probe in allowed(&child, &calls) {
                prop_assert!(parent.allows(&probe), "{probe:?}");
            }
            prop_assert!(child.exchange_only || child.resources.len() == 1);
            prop_assert!(child.expires <= parent.expires && child.expires <= child.deadline, "L5");
        }
    }

    #[test]
    fn l1_attenuation_by_the_book_is_accepted_again_and_again(parent in plain(), steps in proptest::collection::vec(narrowing(), 1..4)) {
        let root = Plain { deadline: parent.deadline.max(parent.expires), ..parent };
        let mut held = root.clone();
        for step in steps {
            let child = step.apply(&held);
            prop_assert_eq!(never_wider(&held.grant(), &child.grant()), Ok(()));
            prop_assert!(child.scopes.iter().all(|s| root.scopes.contains(s)), "twice is within once");
            prop_assert!(child.details.iter().all(|d| root.details.iter().any(|r| within(d, r))));
            prop_assert!(child.chain.ends_with(&root.chain[1..]) && child.expires <= root.expires);
            held = child;
        }
    }

    #[test]
    fn l1_each_widening_of_one_dimension_is_refused_by_its_name(parent in plain(), step in narrowing()) {
        let parent = Plain { deadline: parent.deadline.max(parent.expires), exchange_only: true, ..parent };
        prop_assert_eq!(never_wider(&parent.grant(), &parent.grant()), Ok(()), "the order is reflexive");
        for (widening, child) in widenings(&parent) {
            prop_assert_eq!(never_wider(&parent.grant(), &child.grant()), Err(widening), "{:?}", child);
        }
        let child = step.apply(&parent);
        if child.agent != parent.agent {
            for (widening, bent) in hand_over_widenings(&parent, &child) {
                prop_assert_eq!(never_wider(&parent.grant(), &bent.grant()), Err(widening), "{:?}", bent);
            }
        }
    }

    #[test]
    fn l5_a_token_ends_at_the_earliest_bound_in_whole_seconds(
        asked in proptest::option::of(0..2000_u32), default in 0..2000_u32, max in 0..2000_u32,
        now in 0..3_000_000_000_i64, ends in proptest::collection::vec(-2_000_000_000..3_000_000_000_i64, 0..4),
    ) {
        let instant = |nanos: i64| at(0) + TimeDelta::nanoseconds(nanos);
        let ends: Vec<DateTime<Utc>> = ends.into_iter().map(|n| instant(now) + TimeDelta::nanoseconds(n)).collect();
        let end = expiry(instant(now), Lifetime { asked, default, max }, &ends);
        prop_assert_eq!(end.timestamp_subsec_nanos(), 0);
        let seconds = |n: u32| instant(now) + TimeDelta::seconds(i64::from(n));
        let bounds = ends.into_iter().chain([seconds(max), seconds(asked.unwrap_or(default))]);
        let earliest = bounds.min().unwrap();
        prop_assert!(end <= earliest && earliest - end < TimeDelta::seconds(1));
    }

    #[test]
    fn a_grant_is_read_back_from_its_claims(plain in plain(), hop in narrowing()) {
        let mut plain = hop.apply(&plain);
        plain.exchange_only |= plain.resources.len() != 1;
        let grant = plain.grant();
        let claims = TokenClaims::new(&grant, envelope());
        let Value::Object(json) = serde_json::to_value(&claims).unwrap() else { unreachable!() };
        let read = TokenClaims::read(json.clone()).unwrap();
        prop_assert_eq!(&read, &claims);
        prop_assert_eq!(read.grant(&rules()), Ok(grant));
        let mut newer = json;
        newer.insert("limit".to_owned(), json!(1));
        prop_assert!(TokenClaims::read(newer).is_err(), "an unknown limit is not ignored");
    }
}

#[test]
fn the_actor_of_the_model_is_the_one_of_the_domain() {
    let chain = chain_of(&[("b".to_owned(), None), ("a".to_owned(), Some("i".to_owned()))]);
    let actor = |sub: &str, instance: Option<&str>| Actor {
        sub: sub.to_owned(),
        iss: OURS.to_owned(),
        instance: instance.map(str::to_owned),
    };
    assert!(chain.actors().eq(&[actor("b", None), actor("a", Some("i"))]));
}
