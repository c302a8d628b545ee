//! The declared objects: do they fit together, and what of them should somebody look at.

use std::collections::BTreeMap;

use chrono::NaiveDate;
use openidconnect::url::Url;

use super::Findings;
use crate::config::{Config, StatusConfig};
use crate::configuration::apply::fit;
use crate::configuration::documents::{Document, place};
use crate::domain::ids::ClientId;
use crate::domain::objects::{
    AdministratorSpec, AuthSpec, CaepSpec, Object, ResourceSpec, Role, SecretHash, Spec, TaskTypeSpec,
    TrustedIssuerSpec,
};
use crate::domain::snapshot::Snapshot;
use crate::hash::sha256;
use crate::keys::certificate::first_expiry;

/// What people put where a secret belongs.
const GUESSES: [&str; 12] = [
    "",
    "secret",
    "password",
    "changeme",
    "change-me",
    "test",
    "admin",
    "taskgrant",
    "client-secret",
    "client_secret",
    "foobar",
    "12345678",
];
/// Hashes that our own pages and examples show.
const PUBLISHED: [&str; 2] = [
    "60303ae22b998861bce3b28f33eec1be758a213c86c93c076dbe9f558c11c752",
    "9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08",
];
/// What mends a bad secret.
const REMEDY: &str = "make a secret with `taskgrant secret`";
/// The tenant of `taskgrant dev`.
const DEMO: &str = "demo";
/// How many times its `ttl` a token should live, for a status list to be of use.
const LIVES: u32 = 4;
/// A login older than a day is hardly a session.
const LONG_SESSION: u32 = 24 * 3600;
/// Top-level names that are nobody's (RFC 2606 §2).
const RESERVED: [&str; 4] = ["example", "test", "invalid", "localhost"];

pub(super) fn check(found: &mut Findings, documents: &[Document], config: &Config, today: NaiveDate) {
    let object = |d: &Document| Object { id: d.id.clone(), version: 1, spec: d.spec.clone() };
    let objects: Vec<Object> = documents.iter().map(object).collect();
    match fit(&objects, &[], &config.public_url) {
        Ok((snapshot, _)) => starters(found, documents, &snapshot),
        Err(faults) => place(&faults, documents).into_iter().for_each(|fault| found.error("objects", fault)),
    }
    second_person(found, documents, config);
    let mut secrets = BTreeMap::new();
    for document in documents {
        let mut one = One { found, document };
        one.demo();
        if !config.takes_certificates() {
            one.certificate();
        }
        match &document.spec {
            Spec::TrustedIssuer(spec) => one.issuer(spec),
            Spec::WorkloadIssuer(spec) => one.keys_of_workloads(spec.jwks_uri.as_deref()),
            Spec::Resource(spec) => {
                one.resource(spec);
                one.secrets(spec.client_id.as_ref().map(ClientId::as_str), &spec.auth, &mut secrets);
            }
            Spec::Agent(spec) => one.secrets(Some(spec.client_id.as_str()), &spec.auth, &mut secrets),
            Spec::TaskType(spec) => {
                one.task_type(spec, today);
                one.status(spec, config.status);
            }
            Spec::CertificateAuthority(spec) => one.authority(&spec.certificates, today),
            Spec::Tenant(_)
            | Spec::AuthorizationDetailType(_)
            | Spec::Exception(_)
            | Spec::Administrator(_) => {}
        }
    }
}

/// Task types that no declared agent may start: mostly a typing error in a class.
fn starters(found: &mut Findings, documents: &[Document], snapshot: &Snapshot) {
    for document in documents {
        let Some(task_type) = snapshot.task_types().find(|t| {
            matches!(document.spec, Spec::TaskType(_))
                && t.name == document.id.name
                && t.reach.tenant == document.id.tenant
        }) else {
            continue;
        };
        if !snapshot.agents().any(|agent| task_type.may_start(agent)) {
            let message = "no declared agent may start it".to_owned();
            let remedy = "name an agent or the class of one".to_owned();
            found.warning("no_starter", document.fault("spec.agents", message, Some(remedy)));
        }
    }
}

/// Where something takes two persons, and all who are declared to administer are one. Where none is, they are declared elsewhere.
fn second_person(found: &mut Findings, documents: &[Document], config: &Config) {
    let administrator = |document: &Document| {
        if let Spec::Administrator(spec) = &document.spec { Some(spec.clone()) } else { None }
    };
    let Some(first) = documents.iter().find(|document| administrator(document).is_some()) else { return };
    let all: Vec<AdministratorSpec> = documents.iter().filter_map(administrator).collect();
    let of = |role: Role| all.iter().filter(move |spec| spec.roles.contains(&role));
    let others = |a: &AdministratorSpec, b: &AdministratorSpec| {
        a.subject.is_none() || (&a.issuer, &a.subject) != (&b.issuer, &b.subject)
    };
    let two = of(Role::Admin).any(|a| of(Role::Approve).any(|b| others(a, b)));
    if !two && !config.admin.two_persons.is_empty() {
        let message =
            "`admin.two_persons` is set, and nobody but the one who proposes could confirm".to_owned();
        let remedy = "declare somebody with the role `admin` and somebody else with `approve`".to_owned();
        found.warning("no_second_person", first.fault("spec.roles", message, Some(remedy)));
    }
}

struct One<'f, 'd> {
    found: &'f mut Findings,
    document: &'d Document,
}

impl One<'_, '_> {
    fn warn(&mut self, code: &'static str, path: &str, message: &str, remedy: &str) {
        let fault = self.document.fault(path, message.to_owned(), Some(remedy.to_owned()));
        self.found.warning(code, fault);
    }

    fn error(&mut self, code: &'static str, path: &str, message: &str, remedy: &str) {
        let fault = self.document.fault(path, message.to_owned(), Some(remedy.to_owned()));
        self.found.error(code, fault);
    }

    fn trial(&mut self, code: &'static str, path: &str, message: &str, remedy: &str) {
        let fault = self.document.fault(path, message.to_owned(), Some(remedy.to_owned()));
        self.found.trial(code, fault);
    }

    fn demo(&mut self) {
        if self.document.id.tenant.as_str() == DEMO {
            let message = "an object of the tenant `demo`: its users and secrets are for a trial";
            self.trial("demo_object", "tenant", message, "leave the demo's objects out");
        }
    }

    /// An address in plain HTTP, or under a name that is nobody's.
    fn address(&mut self, path: &str, address: &str, what: &str) {
        if address.starts_with("http://") {
            let message = format!("{what} in plain HTTP: whoever sits between can exchange it");
            self.trial("http", path, &message, "use https");
        }
        let url = Url::parse(address).ok();
        let host = url.as_ref().and_then(Url::host_str).unwrap_or_default().trim_end_matches('.');
        let top = host.rsplit('.').next().unwrap_or_default();
        if RESERVED.contains(&top) {
            let message = format!("`.{top}` is reserved for trials and examples (RFC 2606)");
            self.trial("reserved_name", path, &message, "put the real address here");
        }
    }

    fn issuer(&mut self, spec: &TrustedIssuerSpec) {
        self.address("spec.issuer", &spec.issuer, "an issuer");
        if let Some(uri) = &spec.jwks_uri {
            self.address("spec.jwks_uri", uri, "an issuer's keys");
        }
        if spec.any_agent {
            let message = "any agent of the tenant may spend this issuer's session tokens";
            self.warn(
                "any_agent",
                "spec.any_agent",
                message,
                "list the applications in the agents' `upstream_clients`",
            );
        }
        if spec.max_session_age > LONG_SESSION {
            let message = format!("a login of {} hours ago still starts tasks", spec.max_session_age / 3600);
            let remedy = "the end of a session (`session_end`) does not bound it; keep it at 86400 or less";
            self.warn("session_age", "spec.max_session_age", &message, remedy);
        }
        if let Some(caep) = spec.logout.as_ref().and_then(|logout| logout.caep.as_ref()) {
            self.transmitter(caep);
        }
        for (index, accept) in spec.accept.iter().enumerate() {
            let audience = accept.audience.as_str();
            if ["*", "account", "api://default"].contains(&audience) || audience.ends_with("/userinfo") {
                let message = format!("tokens for every application have the audience `{audience}`");
                let remedy = "have the provider issue tokens for an audience of its own: this server";
                self.warn("shared_audience", &format!("spec.accept[{index}].audience"), &message, remedy);
            }
        }
        for (index, rule) in spec.entitlements.iter().enumerate() {
            let path = format!("spec.entitlements[{index}]");
            if rule.when.is_none() {
                let message = "every principal of the issuer may delegate this";
                self.warn("entitles_everybody", &path, message, "say whom it is for in `when`");
            }
            if rule.scopes.is_none() && rule.resources.is_none() && rule.authorization_details.is_none() {
                let message = "it limits nothing: whoever it is for may delegate everything";
                self.warn("entitles_to_everything", &path, message, "name `scopes`, `resources` or both");
            }
        }
        if spec.entitlements.is_empty() {
            let message = "without entitlements no principal of this issuer may delegate anything";
            self.warn("entitles_nobody", "spec", message, "add `entitlements`");
        }
    }

    fn transmitter(&mut self, spec: &CaepSpec) {
        if let Some(uri) = &spec.jwks_uri {
            self.address("spec.logout.caep.jwks_uri", uri, "a transmitter's keys");
        }
        for (index, hash) in spec.bearer_sha256.iter().enumerate() {
            if GUESSES.iter().any(|guess| sha256(&[guess.as_bytes()]) == *hash.bytes()) {
                let path = format!("spec.logout.caep.bearer_sha256[{index}]");
                self.error("secret_guessable", &path, "the hash of a secret that anybody can guess", REMEDY);
            }
        }
    }

    fn keys_of_workloads(&mut self, jwks_uri: Option<&str>) {
        if let Some(uri) = jwks_uri {
            self.address("spec.jwks_uri", uri, "an issuer's keys");
        }
    }

    /// A client that nobody asks for its certificate.
    fn certificate(&mut self) {
        let mut spec = self.document.spec.clone();
        if spec.auth_mut().is_some_and(|auth| auth.tls.is_some()) {
            let message = "this client authenticates by a certificate, and nobody asks for one";
            let remedy = "set `tls.client_certificates`, or `proxy_client_cert` where a proxy ends TLS";
            self.error("certificates_not_asked", "spec.auth.tls", message, remedy);
        }
    }

    /// An authority is believed until it is taken out: its own dates do not end that (RFC 5280 §6.1.1).
    fn authority(&mut self, pem: &str, today: NaiveDate) {
        let until = first_expiry(pem).map(|until| until.date_naive());
        if let Some(until) = until.filter(|until| *until < today) {
            let message = format!("a certificate expired on {until}, and vouches for clients all the same");
            self.error("authority_expired", "spec.certificates", &message, "take it out");
        }
    }

    fn resource(&mut self, spec: &ResourceSpec) {
        self.address("spec.uri", spec.uri.as_str(), "tokens for a service");
    }

    /// Secrets are 256 random bits, so that a fast hash is enough: a hash of anything else is weak.
    fn secrets(&mut self, client: Option<&str>, auth: &AuthSpec, seen: &mut BTreeMap<[u8; 32], String>) {
        let client = client.unwrap_or_default();
        let own = [client.to_owned(), format!("{client}-secret"), format!("{client}_secret")];
        for (index, hash) in auth.secret_sha256.iter().enumerate() {
            let path = format!("spec.auth.secret_sha256[{index}]");
            let is = |guess: &str| sha256(&[guess.as_bytes()]) == *hash.bytes();
            if GUESSES.iter().any(|guess| is(guess)) || own.iter().any(|guess| is(guess)) {
                self.error("secret_guessable", &path, "the hash of a secret that anybody can guess", REMEDY);
            }
            if PUBLISHED.contains(&String::from(SecretHash::clone(hash)).as_str()) {
                self.trial("secret_published", &path, "the hash stands in the documentation", REMEDY);
            }
            if let Some(other) = seen.get(hash.bytes()) {
                let message = format!("{other} has the same secret");
                self.error("secret_shared", &path, &message, "give each client a secret of its own");
            }
            seen.insert(*hash.bytes(), self.document.id.to_string());
        }
    }

    fn task_type(&mut self, spec: &TaskTypeSpec, today: NaiveDate) {
        if spec.review_by < today {
            let message = format!("the review was due on {}", spec.review_by);
            let owner = String::from(spec.owner.clone());
            let remedy = format!("have {owner} look at it, and set the next date");
            self.error("review_overdue", "spec.review_by", &message, &remedy);
        }
    }

    /// A list that may be kept for as long as a token lives tells nobody of its revocation (SL-03).
    fn status(&mut self, spec: &TaskTypeSpec, lists: StatusConfig) {
        let (life, ttl) = (spec.lifetime.token.default, lists.ttl);
        if lists.enabled && life < ttl.saturating_mul(LIVES) {
            let message = format!("its tokens live {life} s, and a status list may be kept for {ttl} s");
            let remedy =
                format!("set `status.ttl` to {} at most, or let the tokens live longer", life / LIVES);
            self.warn("status_ttl", "spec.lifetime", &message, &remedy);
        }
    }
}
