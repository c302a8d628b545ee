//! The secrets that the server makes for agents: added and retired by command, beside those that files declare.
//!
//! They lie in the agent's object, in a field that no file may set: every apply keeps what is there, so that neither way
//! undoes the other, and every change is a version of the object and a decision.

use std::fmt;
use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use ring::rand::{SecureRandom, SystemRandom};
use serde::{Deserialize, Serialize};
use serde_json::json;
use thiserror::Error;

use super::{ApplyFault, Configuration, Inner, Next, Options, Order, earlier, objects, reason};
use crate::configuration::active::InForce;
use crate::configuration::documents;
use crate::configuration::plan::{Action, Plan, Step, differences};
use crate::configuration::schemas::DetailSchemas;
use crate::domain::build::build;
use crate::domain::decision::Outcome;
use crate::domain::ids::{ClientId, DecisionId};
use crate::domain::objects::{AgentSpec, Object, ObjectKind, SecretHash, Spec};
use crate::hash::sha256;
use crate::store::change::Change;

/// Most secrets of a client that are valid at once, whoever made them.
const MOST: usize = 2;

/// A fresh secret and its hash. `Debug` hides the secret.
#[derive(Serialize)]
pub struct FreshSecret {
    /// For the client; stored nowhere.
    pub secret: String,
    /// What is stored: it covers the whole text with its prefix `tgs_`.
    pub secret_sha256: SecretHash,
}

impl FreshSecret {
    /// A secret of 256 random bits; none if the system has no randomness.
    pub fn new(random: &dyn SecureRandom) -> Option<Self> {
        let mut bytes = [0; 32];
        random.fill(&mut bytes).ok()?;
        let secret = format!("tgs_{}", URL_SAFE_NO_PAD.encode(bytes));
        let secret_sha256 = SecretHash::new(sha256(&[secret.as_bytes()]));
        Some(Self { secret, secret_sha256 })
    }
}

impl fmt::Debug for FreshSecret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("FreshSecret(..)")
    }
}

/// A secret that was added. `Debug` hides it.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Added {
    /// Whose.
    pub client_id: ClientId,
    /// Its id: the first 12 digits of its hash.
    pub secret_id: String,
    /// The secret, told this once.
    pub secret: String,
    /// How many are valid now.
    pub valid: usize,
    /// The decision that records it.
    pub decision_id: DecisionId,
}

impl fmt::Debug for Added {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Added({} {})", self.client_id, self.secret_id)
    }
}

/// A secret that was retired: from now on it authenticates nobody.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Retired {
    /// Whose.
    pub client_id: ClientId,
    /// Its id.
    pub secret_id: String,
    /// How many are valid now.
    pub valid: usize,
    /// The decision that records it.
    pub decision_id: DecisionId,
}

/// Why an agent's secrets stay as they are.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
pub enum SecretFault {
    /// No agent of this client id is in force.
    #[error("no agent has the client id `{0}`; apply its file first")]
    NoAgent(ClientId),
    /// Two are valid already.
    #[error("two secrets are valid already: retire one first, or take one out of the agent's file")]
    Full,
    /// None of those made by command has this id.
    #[error(
        "no secret with this id was made by command; `auth.secret_sha256` in the agent's file holds the others"
    )]
    NoSecret,
    /// Which one is meant, or whether the last one, has to be said.
    #[error("say which by its id: {0}")]
    Which(String),
    /// As for an apply.
    #[error(transparent)]
    Apply(#[from] ApplyFault),
}

impl Configuration {
    /// Makes a secret for the agent `client` on behalf of `actor`, in force when this returns. At most two are valid.
    pub async fn add_secret(&self, client: &ClientId, actor: &str) -> Result<Added, SecretFault> {
        let (inner, client, actor) = (self.0.clone(), client.clone(), actor.to_owned());
        let run = tokio::spawn(async move { inner.add_secret(&client, &actor).await });
        run.await.unwrap_or_else(|error| Err(ApplyFault::Unavailable(error.to_string()).into()))
    }

    /// Ends a secret that was made by command: the one whose id begins with `id`; without one the older of two that were
    /// made by command.
    pub async fn retire_secret(
        &self,
        client: &ClientId,
        id: Option<&str>,
        actor: &str,
    ) -> Result<Retired, SecretFault> {
        let (inner, client, actor) = (self.0.clone(), client.clone(), actor.to_owned());
        let id = id.map(str::to_owned);
        let run = tokio::spawn(async move { inner.retire_secret(&client, id.as_deref(), &actor).await });
        run.await.unwrap_or_else(|error| Err(ApplyFault::Unavailable(error.to_string()).into()))
    }
}

/// What of a hash names a secret to people.
fn id_of(hash: &SecretHash) -> String {
    String::from(hash.clone()).chars().take(12).collect()
}

/// Which of the secrets made by command is to end.
fn meant(spec: &AgentSpec, id: Option<&str>) -> Result<SecretHash, SecretFault> {
    let (issued, declared) = (&spec.auth.issued_sha256, &spec.auth.secret_sha256);
    match id {
        Some(id) if id.len() >= 4 => {
            let named = issued.iter().find(|hash| String::from((*hash).clone()).starts_with(id));
            named.cloned().ok_or(SecretFault::NoSecret)
        }
        Some(_) => Err(SecretFault::NoSecret),
        None => match issued.as_slice() {
            [] => Err(SecretFault::NoSecret),
            [older, _, ..] if declared.is_empty() => Ok(older.clone()),
            all => Err(SecretFault::Which(all.iter().map(id_of).collect::<Vec<_>>().join(", "))),
        },
    }
}

impl Inner {
    async fn add_secret(&self, client: &ClientId, actor: &str) -> Result<Added, SecretFault> {
        let none = || ApplyFault::Unavailable("the system has no randomness".to_owned());
        let FreshSecret { secret, secret_sha256 } =
            FreshSecret::new(&SystemRandom::new()).ok_or_else(none)?;
        let secret_id = id_of(&secret_sha256);
        let asked = json!({"command": "agent secret add", "client_id": client, "secret_id": secret_id});
        let order = Order { options: Options::default(), actor, asked };
        let change = |spec: &mut AgentSpec| {
            spec.auth.issued_sha256.push(secret_sha256);
            let valid = spec.auth.secrets().count();
            if valid > MOST { Err(SecretFault::Full) } else { Ok(valid) }
        };
        let (valid, decision_id) = self.change_agent(client, &order, change).await?;
        Ok(Added { client_id: client.clone(), secret_id, secret, valid, decision_id })
    }

    async fn retire_secret(
        &self,
        client: &ClientId,
        id: Option<&str>,
        actor: &str,
    ) -> Result<Retired, SecretFault> {
        let asked = json!({"command": "agent secret retire", "client_id": client, "secret_id": id});
        let order = Order { options: Options::default(), actor, asked };
        let change = |spec: &mut AgentSpec| {
            let ended = meant(spec, id)?;
            spec.auth.issued_sha256.retain(|hash| *hash != ended);
            Ok((id_of(&ended), spec.auth.secrets().count()))
        };
        let ((secret_id, valid), decision_id) = self.change_agent(client, &order, change).await?;
        Ok(Retired { client_id: client.clone(), secret_id, valid, decision_id })
    }

    /// Publishes another version of the agent `client`. A refusal is recorded like one of an apply.
    async fn change_agent<T>(
        &self,
        client: &ClientId,
        order: &Order<'_>,
        change: impl FnOnce(&mut AgentSpec) -> Result<T, SecretFault>,
    ) -> Result<(T, DecisionId), SecretFault> {
        let _turn = self.turn.lock().await;
        let base = self.store.head().await.map_err(ApplyFault::from)?.generation;
        let policy = self.standing_policy().await.map_err(ApplyFault::from)?;
        let mut all = objects(self.store.objects_current().await.map_err(ApplyFault::from)?)
            .map_err(ApplyFault::from)?;
        let is_agent =
            |object: &&mut Object| matches!(&object.spec, Spec::Agent(a) if a.client_id == *client);
        let found = all.iter_mut().find(is_agent);
        let changed = found.ok_or_else(|| SecretFault::NoAgent(client.clone())).and_then(|object| {
            let before = object.spec.clone();
            let Spec::Agent(spec) = &mut object.spec else {
                return Err(SecretFault::NoAgent(client.clone()));
            };
            let told = change(spec)?;
            Ok((told, differences(&before, &object.spec), object.clone()))
        });
        let (told, differences, mut object) = match changed {
            Ok(changed) => changed,
            Err(fault) => return Err(self.refuse_secret(order, fault).await?),
        };
        let versions = self.store.object_versions(ObjectKind::Agent).await.map_err(ApplyFault::from)?;
        let greatest = versions.iter().filter(|row| row.id == object.id).map(|row| row.version).max();
        object.version = greatest.unwrap_or(object.version) + 1;
        let step = Step { differences, ..Step::new(object.id.clone(), Action::Change, object.version) };
        let next = self.next(&all, Plan { steps: vec![step] }, object).await?;
        let receipt = self.commit(order, &next, (base, None)).await?;
        let (snapshot, schemas) = (Arc::new(next.snapshot), Arc::new(next.schemas));
        self.put_in_force(InForce { generation: receipt.generation, snapshot, schemas, policy });
        Ok((told, receipt.decision_id))
    }

    async fn next(&self, all: &[Object], plan: Plan, object: Object) -> Result<Next, ApplyFault> {
        let earlier = earlier(&self.store, all).await?;
        let faults = |faults: Vec<_>| ApplyFault::Documents(documents::place(&faults, &[]));
        let snapshot = build(all, &earlier, &self.own_issuer).map_err(faults)?;
        let schemas = DetailSchemas::compile(&snapshot).map_err(faults)?;
        Ok(Next { plan, put: vec![object], retire: Vec::new(), snapshot, schemas })
    }

    async fn refuse_secret(&self, order: &Order<'_>, fault: SecretFault) -> Result<SecretFault, ApplyFault> {
        let mut decision = self.decision(order, Outcome::Deny)?;
        decision.record.reasons.push(reason("secret_refused", &fault.to_string()));
        if let Err(error) = self.writer.submit(Change::from(decision)).await {
            tracing::warn!(%error, "a refused change of an agent's secrets could not be recorded");
        }
        Ok(fault)
    }
}
