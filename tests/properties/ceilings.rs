//! L2 and L8 against a model that enumerates what each box of each ceiling allows.

use std::sync::Arc;

use proptest::prelude::*;
use proptest::sample::select;
use serde_json::Value;
use taskgrant::domain::ceiling::{
    Authority, Bound, CeilingName, Ceilings, Defaults, Excess, Layer, Over, Wanted,
};
use taskgrant::domain::details::Details;

use crate::world::{
    RESOURCES, SCOPES, calls, detail, details, is_for, permits, read, scope_set, some_resources, some_scopes,
    uri, uris, within,
};

/// A box of authority; `None` = it does not limit that dimension.
#[derive(Clone, Debug)]
struct Held {
    scopes: Option<Vec<&'static str>>,
    resources: Option<Vec<&'static str>>,
    details: Option<Vec<Value>>,
}

#[derive(Clone, Debug)]
struct World {
    layers: Vec<Vec<Held>>,
    /// For each registered resource the scopes that it lists.
    listed: Vec<(&'static str, Vec<&'static str>)>,
}

#[derive(Clone, Debug)]
struct Asked {
    scopes: Option<Vec<&'static str>>,
    resources: Option<Vec<&'static str>>,
    details: Option<Vec<Value>>,
    exchange_only: bool,
    default_scopes: Vec<&'static str>,
    default_details: Vec<Value>,
}

const NAMES: [CeilingName; 3] = [CeilingName::TaskType, CeilingName::Entitlement, CeilingName::Parent];

fn held() -> impl Strategy<Value = Held> {
    let limit = |weight| proptest::option::weighted(weight, some_scopes(1));
    (
        limit(0.7),
        proptest::option::weighted(0.5, some_resources(1)),
        proptest::option::weighted(0.5, details(2)),
    )
        .prop_map(|(scopes, resources, details)| Held { scopes, resources, details })
}

fn world() -> impl Strategy<Value = World> {
    let layers = proptest::collection::vec(proptest::collection::vec(held(), 0..4), 1..=3);
    let lists = [some_scopes(1), some_scopes(1), some_scopes(1)];
    (layers, lists, some_resources(1)).prop_map(|(layers, lists, registered)| World {
        layers,
        listed: RESOURCES.into_iter().zip(lists).filter(|(r, _)| registered.contains(r)).collect(),
    })
}

fn asked() -> impl Strategy<Value = Asked> {
    let one = || select(&RESOURCES[..]).prop_map(|r| vec![r]);
    let resources =
        prop_oneof![1 => Just(None), 3 => one().prop_map(Some), 1 => some_resources(1).prop_map(Some)];
    (
        proptest::option::of(some_scopes(1)),
        resources,
        proptest::option::of(details(2)),
        any::<bool>(),
        some_scopes(0),
        details(2),
    )
        .prop_map(|(scopes, resources, details, exchange_only, default_scopes, default_details)| Asked {
            scopes,
            resources,
            details,
            exchange_only,
            default_scopes,
            default_details,
        })
}

impl Held {
    fn bound(&self) -> Bound {
        Bound {
            scopes: self.scopes.as_deref().map(scope_set),
            resources: self.resources.as_deref().map(uris),
            details: self.details.as_deref().map(read),
        }
    }

    fn at(&self, resource: &str) -> bool {
        self.resources.as_ref().is_none_or(|held| held.contains(&resource))
    }

    fn has(&self, scope: &str, resource: &str) -> bool {
        self.at(resource) && self.scopes.as_ref().is_none_or(|held| held.contains(&scope))
    }

    fn covers(&self, detail: &Value) -> bool {
        self.details.as_ref().is_none_or(|held| held.iter().any(|h| within(detail, h)))
    }
}

impl World {
    fn ceilings(&self) -> Ceilings {
        let layers = self.layers.iter().zip(NAMES);
        Ceilings {
            layers: layers
                .map(|(boxes, ceiling)| Layer {
                    ceiling,
                    any_of: boxes.iter().map(Held::bound).map(Arc::new).collect(),
                })
                .collect(),
            listed: Arc::new(self.listed.iter().map(|(r, s)| (uri(r), scope_set(s))).collect()),
        }
    }

    fn in_every_layer(&self, holds: impl Fn(&Held) -> bool) -> bool {
        self.layers.iter().all(|boxes| boxes.iter().any(&holds))
    }

    fn choices(&self) -> Vec<&'static str> {
        self.listed.iter().map(|(r, _)| *r).filter(|r| self.in_every_layer(|b| b.at(r))).collect()
    }

    /// The scopes that could be asked for at one of `resources`.
    fn grantable(&self, resources: &[&str]) -> Vec<&'static str> {
        let at = |s: &str, (r, lists): &(&str, Vec<&str>)| {
            resources.contains(r) && lists.contains(&s) && self.in_every_layer(|b| b.has(s, r))
        };
        SCOPES.into_iter().filter(|s| self.listed.iter().any(|l| at(s, l))).collect()
    }

    /// Details within some of `held`: each as it stands, and with the limits of a box of each ceiling besides.
    fn narrowed(&self, held: &[Value]) -> Vec<Value> {
        let mut all = held.to_vec();
        for boxes in &self.layers {
            for (limit, base) in boxes
                .iter()
                .flat_map(|b| b.details.iter().flatten())
                .flat_map(|limit| all.clone().into_iter().map(move |base| (limit, base)))
                .collect::<Vec<_>>()
            {
                let mut narrower = base.clone();
                narrower.as_object_mut().unwrap().extend(limit.as_object().cloned().unwrap_or_default());
                all.extend(within(&narrower, &base).then_some(narrower));
            }
        }
        all
    }

    /// Whether a token with these scopes at these resources may carry the detail: for a service, as each of its
    /// scopes within one box of each ceiling; for an exchange-only token, as some scope at some resource.
    fn may_carry(&self, detail: &Value, scopes: &[&str], resources: &[&str], exchange_only: bool) -> bool {
        let fits = |b: &Held, s: &str| resources.iter().any(|r| b.has(s, r)) && b.covers(detail);
        let allowed = self.layers.iter().all(|boxes| {
            let mut each = scopes.iter().map(|s| boxes.iter().any(|b| fits(b, s)));
            if exchange_only { each.any(|fits| fits) } else { each.all(|fits| fits) }
        });
        allowed && is_for(detail, resources)
    }
}

impl Asked {
    fn wanted(&self) -> Wanted {
        Wanted {
            scopes: self.scopes.as_deref().map(scope_set),
            resources: self.resources.as_deref().map(uris),
            details: self.details.as_deref().map(read),
            exchange_only: self.exchange_only,
        }
    }

    fn defaults(&self) -> Defaults {
        Defaults { scopes: scope_set(&self.default_scopes), details: read(&self.default_details) }
    }

    fn ask(&self, world: &World) -> Result<Authority, Excess> {
        world.ceilings().attenuate(&self.wanted(), &self.defaults())
    }
}

fn json(details: &Details) -> Vec<Value> {
    details.to_json().as_array().unwrap().clone()
}

fn texts<T: ToString>(items: impl IntoIterator<Item = T>, of: &[&'static str]) -> Vec<&'static str> {
    let items: Vec<String> = items.into_iter().map(|i| i.to_string()).collect();
    of.iter().copied().filter(|o| items.iter().any(|i| i == o)).collect()
}

fn plain(authority: &Authority) -> (Vec<&'static str>, Vec<&'static str>, Vec<Value>) {
    let scopes = texts(authority.scopes.iter(), &SCOPES);
    (scopes, texts(&authority.resources, &RESOURCES), json(&authority.details))
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, ..ProptestConfig::default() })]

    #[test]
    fn l2_what_is_granted_lies_within_every_ceiling(world in world(), asked in asked()) {
        if let Ok(authority) = asked.ask(&world) {
            let (scopes, resources, details) = plain(&authority);
            prop_assert!(!scopes.is_empty() && !resources.is_empty());
            prop_assert!(asked.exchange_only || resources.len() == 1);
            prop_assert!(resources.iter().all(|r| world.choices().contains(r)));
            prop_assert!(scopes.iter().all(|s| world.grantable(&resources).contains(s)));
            for detail in &details {
                prop_assert!(world.may_carry(detail, &scopes, &resources, asked.exchange_only), "{detail}");
            }
            prop_assert!(world.ceilings().admits(&authority, asked.exchange_only).is_ok());
        }
    }

    #[test]
    fn l8_what_was_asked_for_is_granted_whole_or_refused(world in world(), asked in asked()) {
        if let Ok(authority) = asked.ask(&world) {
            let (scopes, resources, details) = plain(&authority);
            prop_assert_eq!(&authority.resources, &uris(&asked.resources.unwrap_or(world.choices())));
            let default_scopes = || {
                let within = world.grantable(&resources).into_iter();
                within.filter(|s| asked.default_scopes.contains(s)).collect()
            };
            prop_assert_eq!(&authority.scopes, &scope_set(&asked.scopes.unwrap_or_else(default_scopes)));
            if let Some(named) = &asked.details {
                prop_assert_eq!(&authority.details, &read(named));
                return Ok(());
            }
            prop_assert!(details.iter().all(|d| asked.default_details.iter().any(|held| within(d, held))));
            for default in &asked.default_details {
                let whole = world.may_carry(default, &scopes, &resources, asked.exchange_only);
                prop_assert!(!whole || authority.details.covers(&read(std::slice::from_ref(default))));
            }
            let here = asked.default_details.iter().any(|d| is_for(d, &resources));
            prop_assert!(!details.is_empty() || !here, "details that come to nothing are a refusal");
        }
    }

    #[test]
    fn l8_left_out_details_permit_what_the_defaults_and_every_ceiling_permit(
        defaults in details(2), ceilings in proptest::collection::vec(details(2), 1..3),
    ) {
        let at = RESOURCES[1];
        let limit = |details: &Vec<Value>| vec![Held { scopes: None, resources: None, details: Some(details.clone()) }];
        let world = World { layers: ceilings.iter().map(limit).collect(), listed: vec![(at, vec!["read"])] };
        let asked = Asked {
            scopes: Some(vec!["read"]), resources: Some(vec![at]), details: None, exchange_only: false,
            default_scopes: vec![], default_details: defaults.clone(),
        };
        let granted = asked.ask(&world).map(|authority| json(&authority.details)).unwrap_or_default();
        for call in calls() {
            let by = |details: &Vec<Value>| details.iter().any(|d| permits(d, &call, at));
            prop_assert_eq!(by(&granted), by(&defaults) && ceilings.iter().all(by), "{:?}", call);
        }
    }

    #[test]
    fn l8_what_lies_within_every_ceiling_is_granted(world in world(), asked in asked(), extra in detail()) {
        for resource in world.choices() {
            for scope in world.grantable(&[resource]) {
                let carried = world.may_carry(&extra, &[scope], &[resource], false);
                let asked = Asked {
                    scopes: Some(vec![scope]), resources: Some(vec![resource]), details: Some(vec![extra.clone()]),
                    exchange_only: false, ..asked.clone()
                };
                prop_assert_eq!(asked.ask(&world).is_ok(), carried);
                let bare = Asked { details: Some(vec![]), ..asked.clone() };
                let limits = |boxes: &Vec<Held>| boxes.iter().all(|b| !b.has(scope, resource) || b.details.is_some());
                let left_out = Asked { details: None, ..asked };
                let none_to_be_had = left_out.ask(&world).is_ok_and(|authority| authority.details.is_empty());
                prop_assert_eq!(bare.ask(&world).is_ok(), none_to_be_had || !world.layers.iter().any(limits));
            }
        }
    }

    #[test]
    fn l8_a_refusal_tells_exactly_what_could_have_been_asked_for(world in world(), asked in asked(), other in details(3)) {
        let Err(Excess { ceiling, over }) = asked.ask(&world) else { return Ok(()) };
        let resources = asked.resources.clone().unwrap_or(world.choices());
        match over {
            Over::Resources { excess, choices } => {
                prop_assert_eq!(choices, uris(&world.choices()));
                let beyond: Vec<_> = resources.iter().copied().filter(|r| !world.choices().contains(r)).collect();
                prop_assert_eq!(excess, uris(&beyond));
                prop_assert!(!beyond.is_empty());
            }
            Over::NotOneResource { choices } => {
                prop_assert_eq!(&choices, &uris(&world.choices()));
                prop_assert!(choices.is_empty() || !asked.exchange_only && resources.len() != 1);
            }
            Over::Scopes { excess, grantable } => {
                let largest = world.grantable(&resources);
                prop_assert_eq!(&grantable, &scope_set(&largest), "every one of them and no other");
                let named = asked.scopes.clone().unwrap_or_default();
                prop_assert_eq!(&excess, &scope_set(&named).difference(&grantable));
                let ask = |scopes: Vec<&'static str>| {
                    Asked { scopes: Some(scopes), details: Some(vec![]), ..asked.clone() }.ask(&world)
                };
                let too_many = |scopes| matches!(ask(scopes), Err(Excess { over: Over::Scopes { .. }, .. }));
                prop_assert_eq!(too_many(largest.clone()), largest.is_empty());
                for more in SCOPES.into_iter().filter(|s| !largest.contains(s)) {
                    prop_assert!(too_many(largest.iter().copied().chain([more]).collect()));
                }
            }
            Over::Details { excess, grantable } => {
                let bare = |r: &&str| !asked.details.iter().flatten().any(|d| is_for(d, &[r]));
                prop_assert!(!excess.is_empty() || asked.details.is_some() && resources.iter().any(bare));
                let scopes = asked.scopes.clone().unwrap_or_else(|| {
                    world.grantable(&resources).into_iter().filter(|s| asked.default_scopes.contains(s)).collect()
                });
                let may = |d: &Value| world.may_carry(d, &scopes, &resources, asked.exchange_only);
                prop_assert!(json(&grantable).iter().all(may), "each of them");
                let again = Asked { scopes: Some(scopes.clone()), details: Some(json(&grantable)), ..asked.clone() };
                let all_have_one = resources.iter().all(|r| json(&grantable).iter().any(|d| is_for(d, &[r])));
                prop_assert!(again.ask(&world).is_ok() || !all_have_one);
                if asked.details.is_none() {
                    for candidate in world.narrowed(&asked.default_details) {
                        prop_assert!(!may(&candidate), "{candidate} was left of the defaults");
                    }
                }
                if ceiling != CeilingName::Resource && asked.details.is_some() {
                    for candidate in other.iter().chain(asked.details.iter().flatten()).filter(|d| may(d)) {
                        prop_assert!(grantable.covers(&read(std::slice::from_ref(candidate))), "{candidate} is grantable too");
                    }
                    prop_assert!(json(&excess).iter().all(|d| !may(d)));
                }
            }
        }
    }

    #[test]
    fn l2_a_refusal_names_a_ceiling_that_cuts(world in world(), asked in asked()) {
        let Err(Excess { ceiling, over }) = asked.ask(&world) else { return Ok(()) };
        let Some(index) = NAMES.iter().position(|name| *name == ceiling) else {
            prop_assert_eq!(ceiling, CeilingName::Resource);
            return Ok(());
        };
        let Some(boxes) = world.layers.get(index) else {
            prop_assert!(false, "{ceiling} is no ceiling of this exchange");
            return Ok(());
        };
        let resources = asked.resources.clone().unwrap_or(world.choices());
        let earlier = World { layers: world.layers[..index].to_vec(), ..world.clone() };
        let upto = World { layers: world.layers[..=index].to_vec(), ..world.clone() };
        match over {
            Over::Resources { excess, .. } => prop_assert!(texts(&excess, &RESOURCES).iter().any(|r| !boxes.iter().any(|b| b.at(r)))),
            Over::NotOneResource { .. } => {
                prop_assert!(upto.choices().is_empty() && !earlier.choices().is_empty());
            }
            Over::Scopes { excess, .. } => {
                let named = if excess.is_empty() { scope_set(&asked.default_scopes) } else { excess };
                if let Some(first) = named.iter().next().map(ToString::to_string) {
                    prop_assert!(resources.iter().all(|r| !upto.in_every_layer(|b| b.has(&first, r))));
                    prop_assert!(resources.iter().any(|r| earlier.in_every_layer(|b| b.has(&first, r))));
                } else {
                    prop_assert_eq!(ceiling, CeilingName::TaskType, "no default was declared");
                }
            }
            Over::Details { .. } => prop_assert!(boxes.iter().any(|b| b.details.is_some()), "it limits details"),
        }
    }

    #[test]
    fn l2_a_grant_asked_for_again_is_the_same_and_layers_have_no_order(world in world(), asked in asked()) {
        if let Ok(authority) = asked.ask(&world) {
            let (scopes, resources, details) = plain(&authority);
            let again = Asked { scopes: Some(scopes), resources: Some(resources), details: Some(details), ..asked.clone() };
            prop_assert_eq!(again.ask(&world), Ok(authority.clone()), "idempotent");
            let mut turned = world.clone();
            turned.layers.reverse();
            let other = asked.ask(&turned).unwrap();
            prop_assert_eq!((&other.scopes, &other.resources), (&authority.scopes, &authority.resources));
            prop_assert!(other.details.covers(&authority.details) && authority.details.covers(&other.details));
        }
    }

    #[test]
    fn l8_the_widest_holds_all_that_requests_of_one_resource_are_granted(world in world(), asked in asked()) {
        let widest = world.ceilings().widest(&read(&asked.default_details));
        let (scopes, resources, details) = plain(&widest);
        prop_assert_eq!(&resources, &world.choices());
        prop_assert_eq!(&scopes, &world.grantable(&resources));
        prop_assert!(details.iter().all(|d| world.may_carry(d, &scopes, &resources, true)));
        prop_assert!(details.iter().all(|d| asked.default_details.iter().any(|held| within(d, held))));
        let one = Asked { details: None, exchange_only: false, ..asked };
        if let Ok(granted) = one.ask(&world) {
            prop_assert!(granted.scopes.is_subset(&widest.scopes));
            prop_assert!(granted.resources.is_subset(&widest.resources));
            prop_assert!(widest.details.covers(&granted.details));
        }
    }

    #[test]
    fn l2_attenuating_twice_is_within_attenuating_once(world in world(), first in asked(), second in asked()) {
        if let Ok(parent) = first.ask(&world) {
            let (scopes, resources, details) = plain(&parent);
            let mut below = world.clone();
            below.layers.truncate(2);
            let own = Held { scopes: Some(scopes.clone()), resources: Some(resources.clone()), details: Some(details.clone()) };
            below.layers.push(vec![own]);
            let second = Asked { default_scopes: scopes, default_details: details, ..second };
            if let Ok(child) = second.ask(&below) {
                prop_assert!(child.scopes.is_subset(&parent.scopes));
                prop_assert!(child.resources.is_subset(&parent.resources));
                prop_assert!(parent.details.covers(&child.details));
            }
        }
    }
}
