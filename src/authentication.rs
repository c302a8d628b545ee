//! The use case: which client calls (DESIGN §4 step 2), by a secret, by an assertion that its key has signed, by
//! the token of its workload, or by a certificate.

use std::sync::Arc;

use ring::rand::SystemRandom;
use subtle::ConstantTimeEq as _;
use tracing::debug;

use crate::clock::Clock;
use crate::configuration::active::InForce;
use crate::domain::build_auth::trust_domain;
use crate::domain::ids::{ClientId, Name};
use crate::domain::objects::{AuthSpec, SecretHash, WorkloadKind};
use crate::domain::snapshot::{Agent, Reach, Resource, Snapshot, WorkloadIssuer};
use crate::hash::sha256;
use crate::issuers::assertion::{Assertion, verify_assertion};
use crate::issuers::certificate::{spiffe_id, verify_by_authority, verify_self_signed, verify_svid};
use crate::issuers::fault::{ActorFault, AssertionFault};
use crate::issuers::keysets::{KeySets, KeysUnavailable};
use crate::issuers::workload::{verify_workload, workload_issuer};
use crate::keys::algorithm::Algorithm;
use crate::keys::certificate::{Authorities, CertificateFault, Chain};
use crate::keys::fault::JwsFault;
use crate::keys::jws::Jws;
use crate::keys::signing::{KeySpec, SigningKey};
use crate::store::Store;
use crate::store::change::{Spend, SpendKind};
use crate::store::writer::Writer;

/// What a request shows of its client: exactly one way (CA-01).
pub enum Shown<'a> {
    /// Client id and secret (RFC 6749 §2.3.1).
    Secret {
        /// As sent.
        id: String,
        /// As sent.
        secret: String,
    },
    /// A JWT (RFC 7523 §2.2).
    Assertion {
        /// What it is declared to be.
        kind: AssertionKind,
        /// The compact JWT.
        compact: &'a str,
        /// The parameter `client_id`, if it was sent too.
        client_id: Option<&'a str>,
    },
    /// A certificate that the client has shown in TLS (RFC 8705 §2).
    Certificate {
        /// The parameter `client_id`.
        id: &'a str,
        /// The certificate.
        chain: &'a Chain,
    },
}

/// `client_assertion_type`, as far as it is known here.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AssertionKind {
    /// By the client's own key, or by the platform of a Kubernetes workload (RFC 7523 §2.2).
    Jwt,
    /// A JWT-SVID (draft-ietf-oauth-spiffe-client-auth §3.1).
    Spiffe,
}

/// An authenticated client.
#[derive(Clone, Debug)]
pub enum Client {
    /// An agent.
    Agent(Arc<Agent>),
    /// A resource.
    Resource(Arc<Resource>),
}

impl Client {
    /// Its client id.
    pub fn id(&self) -> &str {
        match self {
            Self::Agent(agent) => agent.spec.client_id.as_str(),
            Self::Resource(resource) => resource.spec.client_id.as_ref().map_or("", ClientId::as_str),
        }
    }

    fn name(&self) -> &Name {
        match self {
            Self::Agent(agent) => &agent.name,
            Self::Resource(resource) => &resource.name,
        }
    }

    fn reach(&self) -> &Reach {
        match self {
            Self::Agent(agent) => &agent.reach,
            Self::Resource(resource) => &resource.reach,
        }
    }

    fn auth(&self) -> &AuthSpec {
        match self {
            Self::Agent(agent) => &agent.spec.auth,
            Self::Resource(resource) => &resource.spec.auth,
        }
    }
}

/// A client that has shown who it is. One that did by an assertion of its own is believed once `assertion` is spent (T31).
#[derive(Clone, Debug)]
pub struct Authenticated {
    /// The client.
    pub client: Client,
    /// What has to be spent in the commit that answers it; none for a secret or a workload.
    pub assertion: Option<Spend>,
}

/// Why it is not known who calls.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum NotAuthenticated {
    /// Unknown or disabled client, wrong secret, not its key, or a used assertion: one answer for all (CA-02).
    Refused,
    /// The sender has the client's key, and so may know what is wrong with the assertion.
    Assertion(AssertionFault),
    /// The platform has signed the token, and its workload may know what is wrong with it.
    Workload(ActorFault),
    /// The parameter `client_id` names another client than the assertion does (RFC 7521 §4.2).
    OtherClientId,
    /// The client's `jwks_uri`, or its platform's, did not answer lately.
    KeysUnavailable,
    /// The store did not answer.
    Unavailable,
}

/// The use case with what it needs. Cheap to clone.
#[derive(Clone)]
pub struct Authentication(Arc<Parts>);

struct Parts {
    issuer: Arc<str>,
    key_sets: Arc<KeySets>,
    store: Store,
    writer: Writer,
    clock: Arc<dyn Clock>,
    decoy: Option<Decoy>,
}

impl Authentication {
    /// Wires the use case; `issuer` is our own `iss`.
    pub fn new(
        issuer: Arc<str>,
        key_sets: Arc<KeySets>,
        store: Store,
        writer: Writer,
        clock: Arc<dyn Clock>,
    ) -> Self {
        Self(Arc::new(Parts { issuer, key_sets, store, writer, clock, decoy: Decoy::new() }))
    }

    /// Authenticates the caller for an answer that commits by itself, which spends the assertion.
    pub async fn authenticate(
        &self,
        world: &InForce,
        shown: &Shown<'_>,
    ) -> Result<Authenticated, NotAuthenticated> {
        match shown {
            Shown::Secret { id, secret } => by_secret(&world.snapshot, id, secret),
            Shown::Assertion { kind, compact, client_id } => {
                let jws = Jws::parse(compact).map_err(|_| NotAuthenticated::Refused)?;
                self.by_jwt(&world.snapshot, *kind, jws, *client_id).await
            }
            Shown::Certificate { id, chain } => self.by_certificate(&world.snapshot, id, chain).await,
        }
    }

    /// A JWT is of a platform if it names one, else of the client itself: no client is called like a platform.
    async fn by_jwt(
        &self,
        snapshot: &Snapshot,
        kind: AssertionKind,
        jws: Jws<'_>,
        client_id: Option<&str>,
    ) -> Result<Authenticated, NotAuthenticated> {
        let platform = workload_issuer(snapshot, &jws);
        match (kind, platform.map(|issuer| (issuer.spec.kind, issuer))) {
            (AssertionKind::Jwt, Some((WorkloadKind::Kubernetes, issuer)))
            | (AssertionKind::Spiffe, Some((WorkloadKind::Spiffe, issuer))) => {
                self.by_workload(snapshot, issuer, jws, client_id).await
            }
            (AssertionKind::Jwt, _) => self.by_assertion(snapshot, jws, client_id).await,
            (AssertionKind::Spiffe, _) => Err(self.refused()),
        }
    }

    /// Authenticates the caller for an answer that commits nothing: an assertion is spent here, durably.
    pub async fn authenticate_and_spend(
        &self,
        world: &InForce,
        shown: &Shown<'_>,
    ) -> Result<Client, NotAuthenticated> {
        let Authenticated { client, assertion } = self.authenticate(world, shown).await?;
        let Some(assertion) = assertion else { return Ok(client) };
        match self.0.writer.spend(assertion).await {
            Ok(Ok(())) => Ok(client),
            Ok(Err(_)) => Err(NotAuthenticated::Refused),
            Err(_) => Err(NotAuthenticated::Unavailable),
        }
    }

    /// `private_key_jwt` [CA-03]: `iss` tells which client it should be, its keys tell whether it is.
    async fn by_assertion(
        &self,
        snapshot: &Snapshot,
        jws: Jws<'_>,
        client_id: Option<&str>,
    ) -> Result<Authenticated, NotAuthenticated> {
        let told = jws.unverified();
        if client_id.is_some_and(|id| told.issuer != Some(id)) {
            return Err(NotAuthenticated::OtherClientId);
        }
        let id: Option<ClientId> = told.issuer.and_then(|iss| iss.parse().ok());
        let client = id.as_ref().and_then(|id| find(snapshot, id)).filter(|c| c.auth().has_keys());
        let (Some(id), Some(client)) = (id, client) else { return Err(self.refused()) };
        let registered = (&id, client.name(), client.auth());
        let keys = self.0.key_sets.client_keys(registered, told.kid, told.algorithm).await;
        let keys = keys.map_err(|_| NotAuthenticated::KeysUnavailable)?;
        let registered = (&id, keys.as_ref(), client.auth().algorithms.as_slice());
        let verified = verify_assertion(jws, registered, &self.0.issuer, self.0.clock.now());
        let Assertion { jti, expires_at } = verified.map_err(|fault| self.refused_for(fault))?;
        let (kind, key) = (SpendKind::ClientAssertion, format!("{id}\n{jti}"));
        // The commit has the last word. This spares it, and the log, a flood of one assertion (L12).
        match self.0.store.is_spent(kind, &key).await {
            Ok(false) => {}
            Ok(true) => return Err(NotAuthenticated::Refused),
            Err(_) => return Err(NotAuthenticated::Unavailable),
        }
        Ok(Authenticated { client, assertion: Some(Spend { kind, key, keep_until: expires_at }) })
    }

    /// The token of a workload [CA-06, CA-07]: its platform says who it is, the mapping which client that is. It is not
    /// spent, since such tokens lie in files and are used until they are replaced.
    async fn by_workload(
        &self,
        snapshot: &Snapshot,
        issuer: &WorkloadIssuer,
        jws: Jws<'_>,
        client_id: Option<&str>,
    ) -> Result<Authenticated, NotAuthenticated> {
        let now = self.0.clock.now();
        let verified = verify_workload(&self.0.key_sets, issuer, jws, &self.0.issuer, now).await;
        let workload = verified.map_err(|fault| self.refused_workload(fault))?;
        let id = snapshot.workload_client(&issuer.spec.issuer, &workload.subject);
        let client = id.and_then(|id| find(snapshot, id)).filter(|client| {
            let mut mapped = client.auth().workload.iter().filter(|w| w.issuer == issuer.spec.issuer);
            mapped.any(|declared| workload.is(declared))
        });
        let client = client.ok_or(NotAuthenticated::Refused)?;
        if client_id.is_some_and(|id| id != client.id()) {
            return Err(NotAuthenticated::OtherClientId);
        }
        Ok(Authenticated { client, assertion: None })
    }

    /// A certificate [CA-05, CA-06]: `client_id` tells which client it should be, what that has registered whether it is.
    async fn by_certificate(
        &self,
        snapshot: &Snapshot,
        id: &str,
        chain: &Chain,
    ) -> Result<Authenticated, NotAuthenticated> {
        let Some(client) = named(snapshot, id) else { return Err(self.refused()) };
        let shown = match self.by_registered(snapshot, &client, chain).await {
            Err(Uncertified::Fault(_)) if !client.auth().workload.is_empty() => {
                self.by_svid(snapshot, &client, (id, chain)).await
            }
            shown => shown,
        };
        match shown {
            Ok(()) => Ok(Authenticated { client, assertion: None }),
            Err(Uncertified::Unavailable) => Err(NotAuthenticated::KeysUnavailable),
            Err(Uncertified::Fault(fault)) => {
                // Operators may know what is wrong; who calls may not, since anybody has some certificate (CA-02).
                debug!(client = client.id(), %fault, "a client showed a certificate that is not its own");
                Err(self.refused())
            }
        }
    }

    /// `tls_client_auth` and `self_signed_tls_client_auth`: what `auth.tls` declares [CA-05].
    async fn by_registered(
        &self,
        snapshot: &Snapshot,
        client: &Client,
        chain: &Chain,
    ) -> Result<(), Uncertified> {
        let declared = client.auth().tls.as_ref().ok_or(CertificateFault::NotRegistered)?;
        let now = self.0.clock.now();
        if declared.self_signed {
            let leaf = chain.leaf()?;
            let id = client.id().parse().map_err(|_| CertificateFault::NotRegistered)?;
            let registered = (&id, client.name(), client.auth());
            let keys =
                self.0.key_sets.client_certificates(registered, |key| leaf.is_registered_by(key)).await?;
            return Ok(verify_self_signed(chain, &keys, now)?);
        }
        let authority = declared.authority.as_ref().ok_or(CertificateFault::NotRegistered)?;
        let authority = snapshot.authority_for(client.reach(), authority);
        let pem = &authority.ok_or(CertificateFault::NotRegistered)?.spec.certificates;
        let authorities = Authorities::of_pem(pem).map_err(|_| CertificateFault::NotRegistered)?;
        Ok(verify_by_authority(chain, &authorities, declared, now)?)
    }

    /// The X.509-SVID of a workload that is this client [CA-06]. A `client_id` that is a SPIFFE ID is the one in it.
    async fn by_svid(
        &self,
        snapshot: &Snapshot,
        client: &Client,
        (id, chain): (&str, &Chain),
    ) -> Result<(), Uncertified> {
        let subject = spiffe_id(chain)?;
        let mut workloads = client.auth().workload.iter();
        let mapped =
            workloads.find(|w| w.subject == subject && (trust_domain(id).is_none() || id == subject));
        let issuer = mapped.and_then(|workload| snapshot.workload_issuer(&workload.issuer));
        let issuer = issuer.filter(|i| trust_domain(&subject) == Some(i.spec.issuer.as_str()));
        let bundle = self.0.key_sets.workload_authorities(issuer.ok_or(CertificateFault::OtherName)?).await?;
        Ok(verify_svid(chain, bundle.authorities(), self.0.clock.now())?)
    }

    fn refused_workload(&self, fault: ActorFault) -> NotAuthenticated {
        if matches!(fault, ActorFault::Keys(_)) {
            NotAuthenticated::KeysUnavailable
        } else if fault.is_unproved() {
            self.refused()
        } else {
            NotAuthenticated::Workload(fault)
        }
    }

    fn refused_for(&self, fault: AssertionFault) -> NotAuthenticated {
        if !fault.is_unproved() {
            return NotAuthenticated::Assertion(fault);
        }
        // A signature that was looked at has cost what the decoy would.
        let looked_at = fault == AssertionFault::Signature(JwsFault::BadSignature);
        if looked_at { NotAuthenticated::Refused } else { self.refused() }
    }

    /// A refusal without a look at a signature: made to cost the same, so that it does not tell who is registered.
    fn refused(&self) -> NotAuthenticated {
        if let Some(decoy) = &self.0.decoy {
            decoy.verify();
        }
        NotAuthenticated::Refused
    }
}

/// Why a certificate does not authenticate its client.
enum Uncertified {
    Fault(CertificateFault),
    /// What it would have to match could not be fetched.
    Unavailable,
}

impl From<CertificateFault> for Uncertified {
    fn from(fault: CertificateFault) -> Self {
        Self::Fault(fault)
    }
}

impl From<KeysUnavailable> for Uncertified {
    fn from(_: KeysUnavailable) -> Self {
        Self::Unavailable
    }
}

/// A signature that is checked where there is none to check.
struct Decoy {
    key: SigningKey,
    signature: Vec<u8>,
}

impl Decoy {
    const MESSAGE: &[u8] = b"decoy";

    fn new() -> Option<Self> {
        let random = SystemRandom::new();
        let (key, _) = SigningKey::generate(KeySpec::Es256, &random).ok()?;
        let signature = key.sign(Self::MESSAGE, &random).ok()?;
        Some(Self { key, signature })
    }

    fn verify(&self) {
        let verified = self.key.public().verify(Algorithm::Es256, Self::MESSAGE, &self.signature);
        std::hint::black_box(verified.is_ok());
    }
}

/// An unknown client, a wrong secret and a disabled agent get the same answer after the same work (CA-02).
fn by_secret(snapshot: &Snapshot, id: &str, secret: &str) -> Result<Authenticated, NotAuthenticated> {
    let presented = sha256(&[secret.as_bytes()]);
    let client = id.parse().ok().and_then(|id| find(snapshot, &id));
    let registered = client.iter().flat_map(|client| client.auth().secrets());
    let nobody = [0; 32];
    let mut matches = false;
    for hash in registered.map(SecretHash::bytes).chain([&nobody]) {
        matches |= bool::from(presented.as_ref().ct_eq(hash));
    }
    match client {
        Some(client) if matches => Ok(Authenticated { client, assertion: None }),
        Some(_) | None => Err(NotAuthenticated::Refused),
    }
}

/// The client that `client_id` names: by its id, or by the SPIFFE ID of a workload that it is.
fn named(snapshot: &Snapshot, id: &str) -> Option<Client> {
    let registered = id.parse().ok().and_then(|id| find(snapshot, &id));
    registered.or_else(|| find(snapshot, snapshot.workload_client(trust_domain(id)?, id)?))
}

fn find(snapshot: &Snapshot, id: &ClientId) -> Option<Client> {
    if let Some(agent) = snapshot.agent(id).filter(|a| !a.spec.disabled) {
        return Some(Client::Agent(agent.clone()));
    }
    snapshot.resource_client(id).map(|resource| Client::Resource(resource.clone()))
}
