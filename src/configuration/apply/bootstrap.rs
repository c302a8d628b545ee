//! The use case: the first administrator, who is let in by nobody but the machine's own account (DESIGN §9).

use std::str::FromStr;

use ring::rand::SystemRandom;
use serde::{Deserialize, Serialize};
use serde_json::json;
use thiserror::Error;

use super::secrets::FreshSecret;
use super::{ApplyFault, Configuration, Inner, Next, Options, Order, build, earlier, fit, objects, reason};
use crate::configuration::active::InForce;
use crate::configuration::documents;
use crate::configuration::plan::{Action, Plan, Step, undeclared_widenings};
use crate::domain::decision::Outcome;
use crate::domain::ids::{AgentClass, ClientId, DecisionId, Name};
use crate::domain::objects::{
    AdministratorSpec, AgentSpec, AuthSpec, Labels, Object, ObjectKind, ObjectRef, Owner, Role, Spec,
    UpstreamClientSpec,
};
use crate::domain::principal::Principal;
use crate::store::change::Change;

/// Client id of the console, unless another one is named.
const CONSOLE: &str = "taskgrant-console";

/// Description of the administrator.
pub const DESCRIPTION: &str = "By `taskgrant bootstrap-admin`";

/// Who is to administer, and through what.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct BootstrapRequest {
    /// The trusted issuer that they sign in at.
    pub issuer: String,
    /// Their `sub` there.
    pub subject: String,
    /// The client there that they sign in with. Needed unless there is a console through which they can, and refused where there
    /// is one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub console_client: Option<String>,
    /// Client id of that console here, which nobody else may have.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub client_id: Option<ClientId>,
    /// Whether to do it although somebody administers already.
    #[serde(default)]
    pub again: bool,
}

/// What was done.
#[derive(Clone, PartialEq, Serialize, Deserialize)]
pub struct Bootstrapped {
    /// The administrator that was declared.
    pub administrator: ObjectRef,
    /// The client to sign in through.
    pub console: ClientId,
    /// The console that was declared, if there was none to sign in through; else none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub declared_console: Option<ObjectRef>,
    /// Its secret, told this once.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub secret: Option<String>,
    /// The decision that records it.
    pub decision_id: DecisionId,
}

impl std::fmt::Debug for Bootstrapped {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Bootstrapped({} {})", self.administrator, self.console)
    }
}

/// Why nobody was let in.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
pub enum BootstrapFault {
    /// Somebody administers already.
    #[error("there are administrators already ({0}): let one of them apply another, or say --again")]
    Again(String),
    /// Nobody could sign in.
    #[error(
        "there is no console yet: name the client of the identity provider that admins sign in with (--console-client)"
    )]
    NoConsole,
    /// There are some, and through none of them can somebody of this issuer sign in.
    #[error(
        "nobody of {issuer} can sign in through a console ({why}): name the client of that issuer that admins sign in with \
         (--console-client), or change the console's object"
    )]
    NoUsableConsole {
        /// The issuer of the one who is to administer.
        issuer: String,
        /// What keeps each console from being used.
        why: String,
    },
    /// There is one, which somebody looks after.
    #[error(
        "there is a console already (`{0}`): leave --console-client and --client-id out, or change its object"
    )]
    Console(ClientId),
    /// Another client is called so.
    #[error("the client id `{id}` is that of {holder}: name another one with --client-id, or leave it out")]
    ClientIdTaken {
        /// The client id.
        id: ClientId,
        /// Whose it is.
        holder: ObjectRef,
    },
    /// As for an apply.
    #[error(transparent)]
    Apply(#[from] ApplyFault),
}

impl Configuration {
    /// Declares an administrator with every role, and a console where none lets them sign in, on behalf of `actor`; in force when this
    /// returns.
    pub async fn bootstrap_admin(
        &self,
        request: &BootstrapRequest,
        actor: &str,
    ) -> Result<Bootstrapped, BootstrapFault> {
        let (inner, request, actor) = (self.0.clone(), request.clone(), actor.to_owned());
        let run = tokio::spawn(async move { inner.bootstrap_admin(&request, &actor).await });
        run.await.unwrap_or_else(|error| Err(ApplyFault::Unavailable(error.to_string()).into()))
    }
}

/// What is to be declared.
struct Declared {
    administrator: Object,
    console: Option<Object>,
    client_id: ClientId,
    secret: Option<String>,
}

impl Inner {
    async fn bootstrap_admin(
        &self,
        request: &BootstrapRequest,
        actor: &str,
    ) -> Result<Bootstrapped, BootstrapFault> {
        let mut asked = json!({"command": "bootstrap-admin"});
        if let (Some(asked), Ok(serde_json::Value::Object(said))) =
            (asked.as_object_mut(), serde_json::to_value(request))
        {
            asked.extend(said);
        }
        let order = Order { options: Options::default(), actor, asked };
        let _turn = self.turn.lock().await;
        let base = self.store.head().await.map_err(ApplyFault::from)?.generation;
        let policy = self.standing_policy().await.map_err(ApplyFault::from)?;
        let rows = self.store.objects_current().await.map_err(ApplyFault::from)?;
        let current = objects(rows).map_err(ApplyFault::from)?;
        let declared = match declared(request, &current) {
            Ok(declared) => declared,
            Err(fault) => return Err(self.refuse_bootstrap(&order, fault).await?),
        };
        let Declared { administrator, console, client_id, secret } = declared;
        let declared_console = console.as_ref().map(|console| console.id.clone());
        let id = administrator.id.clone();
        let next = match self.bootstrapped(current, [Some(administrator), console]).await? {
            Ok(next) => next,
            Err(fault) => return Err(self.refuse_bootstrap(&order, fault.into()).await?),
        };
        let receipt = self.commit(&order, &next, (base, None)).await?;
        let (snapshot, schemas) = (next.snapshot.into(), next.schemas.into());
        self.put_in_force(InForce { generation: receipt.generation, snapshot, schemas, policy });
        let (administrator, console, decision_id) = (id, client_id, receipt.decision_id);
        Ok(Bootstrapped { administrator, console, declared_console, secret, decision_id })
    }

    /// All objects with `new` among them, if they fit.
    async fn bootstrapped(
        &self,
        mut all: Vec<Object>,
        new: [Option<Object>; 2],
    ) -> Result<Result<Next, ApplyFault>, ApplyFault> {
        let (mut put, mut steps) = (Vec::new(), Vec::new());
        let before = all.clone();
        for mut object in new.into_iter().flatten() {
            let versions = self.store.object_versions(object.id.kind).await?;
            let greatest = versions.iter().filter(|row| row.id == object.id).map(|row| row.version).max();
            object.version = greatest.unwrap_or(0) + 1;
            steps.push(Step::new(object.id.clone(), Action::Create, object.version));
            all.push(object.clone());
            put.push(object);
        }
        let earlier = earlier(&self.store, &all).await?;
        let (snapshot, schemas) = match fit(&all, &earlier, &self.own_issuer) {
            Ok(fitted) => fitted,
            Err(faults) => return Ok(Err(ApplyFault::Documents(documents::place(&faults, &[])))),
        };
        // What does not build allows nothing.
        let old = build(&before, &[], &self.own_issuer).unwrap_or_default();
        for step in &mut steps {
            step.widenings = undeclared_widenings(&step.object, &old, &snapshot);
        }
        Ok(Ok(Next { plan: Plan { steps }, put, retire: Vec::new(), snapshot, schemas }))
    }

    async fn refuse_bootstrap(
        &self,
        order: &Order<'_>,
        fault: BootstrapFault,
    ) -> Result<BootstrapFault, ApplyFault> {
        let mut decision = self.decision(order, Outcome::Deny)?;
        decision.record.reasons.push(reason("bootstrap_refused", &fault.to_string()));
        if let Err(error) = self.writer.submit(Change::from(decision)).await {
            tracing::warn!(%error, "a refused bootstrap-admin could not be recorded");
        }
        Ok(fault)
    }
}

fn declared(request: &BootstrapRequest, current: &[Object]) -> Result<Declared, BootstrapFault> {
    let of = |kind: ObjectKind| current.iter().filter(move |object| object.id.kind == kind);
    let known: Vec<String> = of(ObjectKind::Administrator).map(|object| object.id.name.to_string()).collect();
    if !known.is_empty() && !request.again {
        return Err(BootstrapFault::Again(known.join(", ")));
    }
    let principal = Principal { iss: request.issuer.clone(), sub: request.subject.clone() };
    let owner = Owner::Principal(principal);
    let administrator = AdministratorSpec {
        description: DESCRIPTION.to_owned(),
        owner: owner.clone(),
        contact: request.subject.clone(),
        issuer: request.issuer.clone(),
        subject: Some(request.subject.clone()),
        group: None,
        session_tenant: None,
        roles: Role::ALL.into(),
    };
    let administrator =
        object(ObjectKind::Administrator, "first", current, Spec::Administrator(administrator))?;
    match (usable_console(&request.issuer, current), &request.console_client) {
        (Ok(console), None) if request.client_id.is_none() => {
            Ok(Declared { administrator, console: None, client_id: console, secret: None })
        }
        (Ok(console), _) => Err(BootstrapFault::Console(console)),
        (Err(fault), None) => Err(fault),
        (Err(_), Some(client)) => {
            let client_id = free_client_id(request.client_id.as_ref(), current)?;
            let (spec, secret) = console(request, (client_id.clone(), client), owner)?;
            let console = object(ObjectKind::Agent, "console", current, Spec::Agent(Box::new(spec)))?;
            Ok(Declared { administrator, console: Some(console), client_id, secret: Some(secret) })
        }
    }
}

/// The first console through which somebody of `issuer` can sign in, or why there is none.
fn usable_console(issuer: &str, current: &[Object]) -> Result<ClientId, BootstrapFault> {
    let (mut usable, mut why) = (Vec::new(), Vec::new());
    for object in current {
        let Spec::Agent(spec) = &object.spec else { continue };
        if !spec.class.is_console() {
            continue;
        }
        if spec.disabled {
            why.push(format!("`{}` is disabled", spec.client_id));
        } else if !spec.upstream_clients.iter().any(|upstream| upstream.issuer == issuer) {
            why.push(format!("`{}` has no upstream client of it", spec.client_id));
        } else {
            usable.push(spec.client_id.clone());
        }
    }
    let none = || match why.as_slice() {
        [] => BootstrapFault::NoConsole,
        why => BootstrapFault::NoUsableConsole { issuer: issuer.to_owned(), why: why.join(", ") },
    };
    usable.into_iter().min().ok_or_else(none)
}

/// The client id of a new console: the one that is asked for, else the first of [`CONSOLE`], `…-2` and so on that nobody has.
fn free_client_id(wanted: Option<&ClientId>, current: &[Object]) -> Result<ClientId, BootstrapFault> {
    let holder = |id: &ClientId| {
        current.iter().find(|object| object.spec.client().is_some_and(|(client, _)| client == id))
    };
    if let Some(id) = wanted {
        let taken =
            |object: &Object| BootstrapFault::ClientIdTaken { id: id.clone(), holder: object.id.clone() };
        return holder(id).map_or_else(|| Ok(id.clone()), |object| Err(taken(object)));
    }
    let none = || ApplyFault::Unavailable("no client id is free".to_owned()).into();
    candidates(CONSOLE).find(|id| holder(id).is_none()).ok_or_else(none)
}

/// `name`, `name-2`, `name-3` …
fn candidates<T: FromStr>(name: &str) -> impl Iterator<Item = T> {
    let names = std::iter::once(name.to_owned()).chain((2..).map(move |number| format!("{name}-{number}")));
    names.filter_map(|text| text.parse().ok())
}

fn console(
    request: &BootstrapRequest,
    (client_id, client): (ClientId, &str),
    owner: Owner,
) -> Result<(AgentSpec, String), BootstrapFault> {
    let none = || ApplyFault::Unavailable("the system has no randomness".to_owned());
    let fresh = FreshSecret::new(&SystemRandom::new()).ok_or_else(none)?;
    let spec = AgentSpec {
        client_id,
        class: AgentClass::console(),
        owner,
        contact: request.subject.clone(),
        labels: Labels::default(),
        auth: AuthSpec { issued_sha256: vec![fresh.secret_sha256], ..AuthSpec::default() },
        actor_jwks: None,
        upstream_clients: vec![UpstreamClientSpec {
            issuer: request.issuer.clone(),
            client: client.to_owned(),
        }],
        default_task_type: None,
        disabled: false,
        tenants: None,
    };
    Ok((spec, fresh.secret))
}

/// An object of the platform under the first name of `name`, `name-2` … that is free.
fn object(kind: ObjectKind, name: &str, current: &[Object], spec: Spec) -> Result<Object, BootstrapFault> {
    let is_free = |candidate: &Name| {
        !current.iter().any(|o| o.id.kind == kind && o.id.tenant.is_system() && o.id.name == *candidate)
    };
    let name = candidates(name)
        .find(is_free)
        .ok_or_else(|| ApplyFault::Unavailable("no name is free".to_owned()))?;
    Ok(Object { id: ObjectRef { kind, tenant: Name::system(), name }, version: 1, spec })
}
