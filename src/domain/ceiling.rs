//! Ceilings (L2) and the attenuation of a request against them (L8): refuse what is too much, and say what is not.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::details::Details;
use super::resource::ResourceUri;
use super::scope::{Scope, ScopeSet};

/// Which ceiling cut a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum CeilingName {
    /// The session: tenant, principal and time.
    Session,
    /// What the principal may delegate at all.
    Entitlement,
    /// The task type, in the task's version or the current one.
    TaskType,
    /// The delegation edge of a hand-over.
    Delegation,
    /// The token presented.
    Parent,
    /// The policy's limits.
    Policy,
    /// What the named resource lists.
    Resource,
}

impl fmt::Display for CeilingName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Session => "session",
            Self::Entitlement => "entitlement",
            Self::TaskType => "task_type",
            Self::Delegation => "delegation",
            Self::Parent => "parent",
            Self::Policy => "policy",
            Self::Resource => "resource",
        })
    }
}

/// A box of authority. A dimension that it does not name is not limited by it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Bound {
    /// Scopes it allows.
    pub scopes: Option<ScopeSet>,
    /// Registered resources it allows.
    pub resources: Option<BTreeSet<ResourceUri>>,
    /// Authorization details of which one must cover each detail of the capability.
    pub details: Option<Details>,
}

impl Bound {
    fn holds_at(&self, resource: &ResourceUri) -> bool {
        self.resources.as_ref().is_none_or(|r| r.contains(resource))
    }

    /// Whether it allows `scope` at `resource`.
    pub fn allows(&self, resource: &ResourceUri, scope: &Scope) -> bool {
        self.holds_at(resource) && self.scopes.as_ref().is_none_or(|s| s.contains(scope))
    }
}

/// One ceiling: the capability must lie within it. Several boxes add up; no box at all allows nothing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Layer {
    /// What a refusal calls it.
    pub ceiling: CeilingName,
    /// The boxes whose union is the ceiling.
    pub any_of: Vec<Arc<Bound>>,
}

impl Layer {
    /// A ceiling of a single box.
    pub fn one(ceiling: CeilingName, bound: impl Into<Arc<Bound>>) -> Self {
        Self { ceiling, any_of: vec![bound.into()] }
    }

    fn holds_at(&self, resource: &ResourceUri) -> bool {
        self.any_of.iter().any(|b| b.holds_at(resource))
    }

    /// Whether one of its boxes allows `scope` at `resource`.
    pub fn allows(&self, resource: &ResourceUri, scope: &Scope) -> bool {
        self.any_of.iter().any(|b| b.allows(resource, scope))
    }

    /// The details this ceiling limits `authority` to, whose scopes it allows; `None` when it does not limit them.
    ///
    /// A service may read a token as any of its scopes with any of its details. Each such pair lies within one
    /// box: a box that gives one scope without naming details does not lift another box's limit for another
    /// scope. An exchange-only token is used nowhere, so there the boxes add up.
    fn details_for(&self, authority: &Authority, exchange_only: bool) -> Option<Details> {
        let boxes = |scope: &Scope| -> BTreeSet<usize> {
            let allows = |b: &Bound| authority.resources.iter().any(|r| b.allows(r, scope));
            self.any_of.iter().enumerate().filter(|(_, b)| allows(b)).map(|(index, _)| index).collect()
        };
        let mut combinations: BTreeSet<BTreeSet<usize>> = authority.scopes.iter().map(boxes).collect();
        if exchange_only {
            combinations = [combinations.into_iter().flatten().collect()].into();
        }
        let limits = combinations.iter().filter_map(|combination| self.sum_of_details(combination));
        limits.reduce(|held, limit| held.meet(&limit))
    }

    /// The details of the boxes with these indices together; `None` when one of them does not limit details.
    fn sum_of_details(&self, boxes: &BTreeSet<usize>) -> Option<Details> {
        let mut sum = Vec::new();
        for bound in boxes.iter().filter_map(|index| self.any_of.get(*index)) {
            sum.extend(bound.details.as_ref()?.iter().cloned());
        }
        Some(sum.into_iter().collect())
    }
}

/// All ceilings of one exchange, in the order in which a refusal names them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ceilings {
    /// The ceilings; the capability lies within every one.
    pub layers: Vec<Layer>,
    /// The registered resources of the tenant that any of this could be about, with the scopes each lists.
    pub listed: Arc<BTreeMap<ResourceUri, ScopeSet>>,
}

/// What is asked for; `None` means left out: then [`Defaults`] within every ceiling hold.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Wanted {
    /// The `scope` parameter.
    pub scopes: Option<ScopeSet>,
    /// Registered resources named by `resource` and `audience`.
    pub resources: Option<BTreeSet<ResourceUri>>,
    /// The `authorization_details` parameter.
    pub details: Option<Details>,
    /// Whether the token is to be exchange-only: it may then carry several resources.
    pub exchange_only: bool,
}

/// What a left-out parameter means before the ceilings: the parent's value, or the task type's default at the root.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Defaults {
    /// Scopes when `scope` is left out.
    pub scopes: ScopeSet,
    /// Details when `authorization_details` is left out.
    pub details: Details,
}

/// The part of a capability that requests name: scopes, resources, authorization details.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Authority {
    /// Scopes; never empty.
    pub scopes: ScopeSet,
    /// Registered resources; exactly one for a token for a service.
    pub resources: BTreeSet<ResourceUri>,
    /// Authorization details; may be empty.
    pub details: Details,
}

/// A request for too much: what, and which ceiling cut it (L8).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Excess {
    /// The ceiling that cut.
    pub ceiling: CeilingName,
    /// What was too much.
    pub over: Over,
}

/// What was too much, with the largest grantable subset before policy.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Over {
    /// These scopes; `grantable` is the largest set that could have been asked for.
    Scopes {
        /// What was too much; empty when the defaults came to nothing.
        excess: ScopeSet,
        /// What could be asked for.
        grantable: ScopeSet,
    },
    /// These resources; `choices` could have been asked for.
    Resources {
        /// What was too much.
        excess: BTreeSet<ResourceUri>,
        /// What could be asked for.
        choices: BTreeSet<ResourceUri>,
    },
    /// A token for a service names exactly one resource, and the request did not settle which.
    NotOneResource {
        /// What could be asked for.
        choices: BTreeSet<ResourceUri>,
    },
    /// These authorization details.
    Details {
        /// What was too much; empty when it was too much to ask for none of them.
        excess: Details,
        /// What could be asked for.
        grantable: Details,
    },
}

impl Over {
    /// How many things were too much: of two refusals, the smaller says more.
    pub fn size(&self) -> usize {
        match self {
            Self::Scopes { excess, .. } => excess.iter().count(),
            Self::Resources { excess, .. } => excess.len(),
            Self::NotOneResource { .. } => 0,
            Self::Details { excess, .. } => excess.iter().count(),
        }
    }
}

impl Ceilings {
    /// Attenuates `wanted` against every ceiling, or names what is too much (L2, L8).
    pub fn attenuate(&self, wanted: &Wanted, defaults: &Defaults) -> Result<Authority, Excess> {
        let resources = self.resources(wanted)?;
        self.admits_resources(&resources)?;
        let scopes = match &wanted.scopes {
            Some(asked) => asked.clone(),
            None => self.left_out_scopes(&defaults.scopes, &resources)?,
        };
        let mut authority = Authority { scopes, resources, details: Details::default() };
        self.admits_scopes(&authority)?;
        authority.details = match &wanted.details {
            Some(asked) => asked.clone(),
            None => self.left_out_details(&defaults.details, &authority, wanted.exchange_only)?,
        };
        self.admits_details(&authority, wanted.exchange_only)?;
        self.keeps_limits(&defaults.details, &authority, wanted.exchange_only)?;
        Ok(authority)
    }

    /// Whether `authority` lies within every ceiling: the check that also stands at the very end, after policy.
    pub fn admits(&self, authority: &Authority, exchange_only: bool) -> Result<(), Excess> {
        self.admits_resources(&authority.resources)?;
        if !exchange_only && authority.resources.len() != 1 {
            let choices = self.choices();
            return Err(Excess { ceiling: CeilingName::Resource, over: Over::NotOneResource { choices } });
        }
        self.admits_scopes(authority)?;
        self.admits_details(authority, exchange_only)
    }

    /// The resources that every ceiling allows.
    pub fn choices(&self) -> BTreeSet<ResourceUri> {
        self.listed.keys().filter(|r| self.layers.iter().all(|l| l.holds_at(r))).cloned().collect()
    }

    /// The largest scope set that could be asked for at `resources`.
    pub fn grantable_scopes(&self, resources: &BTreeSet<ResourceUri>) -> ScopeSet {
        let at = |r: &ResourceUri| {
            let listed = self.listed.get(r).into_iter().flat_map(ScopeSet::iter);
            let within = |s: &&Scope| self.layers.iter().all(|l| l.allows(r, s));
            listed.filter(within).cloned().collect::<Vec<_>>()
        };
        resources.iter().flat_map(at).collect()
    }

    /// The most that could be asked for at all, over several requests: every choice of resource, every scope
    /// grantable there, and what of `base` no ceiling takes away.
    pub fn widest(&self, base: &Details) -> Authority {
        let resources = self.choices();
        let scopes = self.grantable_scopes(&resources);
        let mut widest = Authority { scopes, resources, details: Details::default() };
        let limits = self.layers.iter().filter_map(|l| l.details_for(&widest, true));
        let details = limits.fold(base.clone(), |held, limit| held.meet(&limit));
        widest.details = details.for_any(&widest.resources);
        widest
    }

    /// What `defaults` come to within every ceiling; a refusal by the ceiling that leaves nothing of them (L8).
    fn left_out_scopes(
        &self,
        defaults: &ScopeSet,
        resources: &BTreeSet<ResourceUri>,
    ) -> Result<ScopeSet, Excess> {
        let grantable = self.grantable_scopes(resources);
        let left = defaults.intersection(&grantable);
        match defaults.iter().next() {
            Some(first) if left.is_empty() => Err(Excess {
                ceiling: self.scope_cut(first, resources),
                over: Over::Scopes { excess: ScopeSet::default(), grantable },
            }),
            Some(_) | None => Ok(left),
        }
    }

    /// What `defaults` come to within every ceiling; a refusal by the ceiling that leaves nothing of them (L8):
    /// a service may take a token without details for one that no detail limits. Details for other resources
    /// are no part of what is cut.
    fn left_out_details(
        &self,
        defaults: &Details,
        authority: &Authority,
        exchange_only: bool,
    ) -> Result<Details, Excess> {
        let mut left = defaults.for_any(&authority.resources);
        let here = left.clone();
        for layer in &self.layers {
            let Some(limit) = layer.details_for(authority, exchange_only) else { continue };
            left = left.meet(&limit).for_any(&authority.resources);
            if left.is_empty() && !here.is_empty() {
                return Err(self.over_details(layer.ceiling, here, authority, exchange_only));
            }
        }
        Ok(left)
    }

    /// A service may take a token without details for one that no detail limits: at a resource where there are
    /// any to be had, asking for none of them would widen (T09).
    fn keeps_limits(
        &self,
        defaults: &Details,
        authority: &Authority,
        exchange_only: bool,
    ) -> Result<(), Excess> {
        let limits = |l: &&Layer| l.details_for(authority, exchange_only).is_some();
        let Some(cut) = self.layers.iter().find(limits).map(|l| l.ceiling) else { return Ok(()) };
        let none_at = |details: &Details, r: &ResourceUri| details.for_any(&[r.clone()].into()).is_empty();
        let bare: BTreeSet<_> =
            authority.resources.iter().filter(|r| none_at(&authority.details, r)).cloned().collect();
        if bare.iter().all(|r| none_at(defaults, r)) {
            return Ok(());
        }
        let left_out = self.left_out_details(defaults, authority, exchange_only)?;
        if bare.iter().all(|r| none_at(&left_out, r)) {
            return Ok(());
        }
        Err(self.over_details(cut, Details::default(), authority, exchange_only))
    }

    fn resources(&self, wanted: &Wanted) -> Result<BTreeSet<ResourceUri>, Excess> {
        let choices = self.choices();
        let unsettled = |ceiling| Excess { ceiling, over: Over::NotOneResource { choices: choices.clone() } };
        match &wanted.resources {
            Some(asked) if wanted.exchange_only || asked.len() == 1 => Ok(asked.clone()),
            None if choices.is_empty() => Err(unsettled(self.emptying_layer())),
            None if wanted.exchange_only || choices.len() == 1 => Ok(choices),
            Some(_) | None => Err(unsettled(CeilingName::Resource)),
        }
    }

    /// The ceiling that leaves no resource at all.
    fn emptying_layer(&self) -> CeilingName {
        let mut left: Vec<&ResourceUri> = self.listed.keys().collect();
        for layer in &self.layers {
            left.retain(|r| layer.holds_at(r));
            if left.is_empty() {
                return layer.ceiling;
            }
        }
        CeilingName::Resource
    }

    fn admits_resources(&self, asked: &BTreeSet<ResourceUri>) -> Result<(), Excess> {
        let choices = self.choices();
        let excess: BTreeSet<_> = asked.difference(&choices).cloned().collect();
        if let Some(first) = excess.iter().next() {
            let cut =
                self.layers.iter().find(|l| !l.holds_at(first)).map_or(CeilingName::Resource, |l| l.ceiling);
            return Err(Excess { ceiling: cut, over: Over::Resources { excess, choices } });
        }
        if asked.is_empty() {
            return Err(Excess { ceiling: self.emptying_layer(), over: Over::NotOneResource { choices } });
        }
        Ok(())
    }

    fn admits_scopes(&self, authority: &Authority) -> Result<(), Excess> {
        let grantable = self.grantable_scopes(&authority.resources);
        let excess = authority.scopes.difference(&grantable);
        let first = excess.iter().next();
        if first.is_none() && !authority.scopes.is_empty() {
            return Ok(());
        }
        let ceiling =
            first.map_or(CeilingName::TaskType, |scope| self.scope_cut(scope, &authority.resources));
        Err(Excess { ceiling, over: Over::Scopes { excess, grantable } })
    }

    /// The ceiling at which `scope` was lost at the last of `resources`.
    fn scope_cut(&self, scope: &Scope, resources: &BTreeSet<ResourceUri>) -> CeilingName {
        let mut left: Vec<&ResourceUri> = resources.iter().collect();
        for layer in &self.layers {
            left.retain(|r| layer.allows(r, scope));
            if left.is_empty() {
                return layer.ceiling;
            }
        }
        CeilingName::Resource
    }

    fn admits_details(&self, authority: &Authority, exchange_only: bool) -> Result<(), Excess> {
        for layer in &self.layers {
            let Some(limit) = layer.details_for(authority, exchange_only) else { continue };
            let excess = authority.details.uncovered_by(&limit);
            if !excess.is_empty() {
                return Err(self.over_details(layer.ceiling, excess, authority, exchange_only));
            }
        }
        let here = authority.details.for_any(&authority.resources);
        if here == authority.details {
            return Ok(());
        }
        let elsewhere = authority.details.iter().filter(|d| !here.iter().any(|h| h == *d)).cloned().collect();
        Err(self.over_details(CeilingName::Resource, elsewhere, authority, exchange_only))
    }

    /// A refusal of `excess`. Where no ceiling limits details, what is grantable of those asked for is told.
    fn over_details(
        &self,
        ceiling: CeilingName,
        excess: Details,
        authority: &Authority,
        exchange_only: bool,
    ) -> Excess {
        let limits = self.layers.iter().filter_map(|l| l.details_for(authority, exchange_only));
        let widest = limits.reduce(|held, limit| held.meet(&limit)).unwrap_or(authority.details.clone());
        Excess { ceiling, over: Over::Details { excess, grantable: widest.for_any(&authority.resources) } }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;
    use crate::domain::details::{FieldRule, LOCATIONS};

    fn uri(name: &str) -> ResourceUri {
        format!("https://{name}.example").parse().unwrap()
    }

    fn scopes(text: &str) -> ScopeSet {
        text.parse().unwrap()
    }

    fn details(value: &Value) -> Details {
        let fields =
            [("tools", FieldRule::Subset), ("amount", FieldRule::AtMost), (LOCATIONS, FieldRule::Subset)];
        let fields = fields.map(|(field, rule)| (field.to_owned(), rule)).into();
        Details::read(value, &[("tool_call".parse().unwrap(), fields)].into()).unwrap()
    }

    fn bound(at: &[&str], scope: &str) -> Bound {
        Bound {
            scopes: Some(scopes(scope)),
            resources: Some(at.iter().map(|n| uri(n)).collect()),
            details: None,
        }
    }

    fn ceilings(entitlements: Vec<Bound>) -> Ceilings {
        Ceilings {
            layers: vec![
                Layer::one(CeilingName::TaskType, bound(&["orders", "mail"], "read write send")),
                Layer {
                    ceiling: CeilingName::Entitlement,
                    any_of: entitlements.into_iter().map(Arc::new).collect(),
                },
            ],
            listed: Arc::new(
                [(uri("orders"), scopes("read write")), (uri("mail"), scopes("read send"))].into(),
            ),
        }
    }

    fn at(names: &[&str], scope: Option<&str>, exchange_only: bool) -> Wanted {
        let resources = (!names.is_empty()).then(|| names.iter().map(|n| uri(n)).collect());
        Wanted { scopes: scope.map(scopes), resources, details: None, exchange_only }
    }

    #[test]
    fn entitlements_add_up_but_never_across_resources() {
        let held = ceilings(vec![bound(&["orders"], "write"), bound(&["mail"], "read")]);
        let ask = |at: &Wanted| held.attenuate(at, &Defaults::default());
        assert!(ask(&at(&["orders"], Some("write"), false)).is_ok());
        assert!(ask(&at(&["mail"], Some("read"), false)).is_ok());
        let error = ask(&at(&["orders"], Some("read"), false)).unwrap_err();
        assert_eq!(error.ceiling, CeilingName::Entitlement);
        assert_eq!(error.over, Over::Scopes { excess: scopes("read"), grantable: scopes("write") });
        assert!(ask(&at(&[], Some("read write"), true)).is_ok());
    }

    #[test]
    fn t09_entitlements_never_add_up_across_scopes_and_details() {
        let up_to = |amount: u32| details(&json!([{"type": "tool_call", "amount": amount}]));
        let limited = Bound { details: Some(up_to(50)), ..bound(&["orders"], "write") };
        let held = ceilings(vec![bound(&["orders"], "read"), limited]);
        let ask = |scope: &str, amount: u32, exchange_only: bool| {
            let wanted =
                Wanted { details: Some(up_to(amount)), ..at(&["orders"], Some(scope), exchange_only) };
            held.attenuate(&wanted, &Defaults::default())
        };
        assert!(ask("read", 500, false).is_ok(), "reading is not limited");
        assert!(ask("read write", 50, false).is_ok());
        for scope in ["write", "read write"] {
            let over = Over::Details { excess: up_to(500), grantable: up_to(50) };
            assert_eq!(
                ask(scope, 500, false),
                Err(Excess { ceiling: CeilingName::Entitlement, over }),
                "{scope}"
            );
        }
        assert!(ask("read write", 500, true).is_ok(), "each child is checked against the entitlements again");
        assert!(ask("write", 500, true).is_err());
        let wide = ask("read write", 500, true).unwrap();
        assert!(held.admits(&wide, true).is_ok() && held.admits(&wide, false).is_err());
    }

    #[test]
    fn no_entitlement_is_nothing() {
        let error = ceilings(vec![]).attenuate(&at(&["orders"], Some("read"), false), &Defaults::default());
        assert_eq!(error.unwrap_err().ceiling, CeilingName::Entitlement);
    }

    #[test]
    fn a_scope_that_the_resource_does_not_list_is_refused() {
        let error = ceilings(vec![Bound::default()])
            .attenuate(&at(&["orders"], Some("send"), false), &Defaults::default())
            .unwrap_err();
        assert_eq!(error.ceiling, CeilingName::Resource);
        assert_eq!(error.over, Over::Scopes { excess: scopes("send"), grantable: scopes("read write") });
    }

    #[test]
    fn t14_a_token_for_a_service_names_exactly_one_resource() {
        let held = ceilings(vec![Bound::default()]);
        for wanted in [at(&[], Some("read"), false), at(&["orders", "mail"], Some("read"), false)] {
            let error = held.attenuate(&wanted, &Defaults::default()).unwrap_err();
            assert_eq!(error.over, Over::NotOneResource { choices: [uri("orders"), uri("mail")].into() });
        }
    }

    #[test]
    fn ra_06_a_left_out_detail_that_a_ceiling_holds_elsewhere_is_dropped() {
        let mut elsewhere = bound(&["orders", "mail"], "read");
        elsewhere.details = Some(details(
            &json!([{"type": "tool_call", "tools": ["a"]}, {"type": "tool_call", "tools": ["b"], "locations": ["https://mail.example"]}]),
        ));
        let defaults = Defaults {
            scopes: scopes("read"),
            details: details(
                &json!([{"type": "tool_call", "tools": ["a"]}, {"type": "tool_call", "tools": ["b"]}]),
            ),
        };
        let granted = ceilings(vec![elsewhere]).attenuate(&at(&["orders"], None, false), &defaults).unwrap();
        assert_eq!(granted.details, details(&json!([{"type": "tool_call", "tools": ["a"]}])));
    }

    #[test]
    fn t08_a_left_out_scope_is_the_default_within_every_ceiling() {
        let held = ceilings(vec![bound(&["orders", "mail"], "read")]);
        let defaults = Defaults { scopes: scopes("read write"), details: Details::default() };
        let granted = held.attenuate(&at(&["orders"], None, false), &defaults).unwrap();
        assert_eq!(granted.scopes, scopes("read"));
        let defaults = Defaults { scopes: scopes("write"), details: Details::default() };
        let empty = held.attenuate(&at(&["orders"], None, false), &defaults).unwrap_err();
        assert_eq!(empty.ceiling, CeilingName::Entitlement, "an empty grant is a refusal by what emptied it");
        assert_eq!(empty.over, Over::Scopes { excess: ScopeSet::default(), grantable: scopes("read") });
    }

    #[test]
    fn t08_left_out_details_that_come_to_nothing_are_refused() {
        let tool = |name: &str| details(&json!([{"type": "tool_call", "tools": [name]}]));
        let mut other = bound(&["orders"], "read");
        other.details = Some(tool("a"));
        let ask = |defaults: Details| {
            let defaults = Defaults { scopes: scopes("read"), details: defaults };
            ceilings(vec![other.clone()]).attenuate(&at(&["orders"], None, false), &defaults)
        };
        assert!(ask(Details::default()).is_ok(), "there were none");
        let over = Over::Details { excess: tool("b"), grantable: tool("a") };
        assert_eq!(ask(tool("b")), Err(Excess { ceiling: CeilingName::Entitlement, over }));
        let elsewhere = json!([{"type": "tool_call", "tools": ["b"], "locations": ["https://mail.example"]}]);
        assert!(ask(details(&elsewhere)).is_ok(), "they are for another resource");
    }
}
