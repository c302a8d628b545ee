//! The use case: an identity provider tells that sessions have ended, and their tasks end with them [SE-04].

use std::sync::Arc;

use chrono::{DateTime, TimeDelta, Utc};
use serde_json::{Value, json};

use crate::aggregates::Aggregates;
use crate::clock::{Clock, Random};
use crate::configuration::active::InForce;
use crate::domain::decision::{Decision, Kind, Outcome, Reason, Record};
use crate::domain::principal::Principal;
use crate::domain::record::{KEPT_AFTER, LONGEST_TASK, RevocationKey};
use crate::domain::snapshot::Issuer;
use crate::issuers::event::{About, Ended, Event};
use crate::issuers::event_fault::EventFault;
use crate::issuers::keysets::KeySets;
use crate::issuers::logout_token::verify_logout_token;
use crate::issuers::security_event::verify_security_event;
use crate::keys::jws::Jws;
use crate::metrics::Metrics;
use crate::store::Store;
use crate::store::change::{Change, Committed, Hear, Revoke, Spend, SpendKind};
use crate::store::writer::Writer;

/// How long it is remembered that an event was heard: longer than any sender goes on repeating it. To hear one again
/// does no harm but for its record, since what it ends is bound to its own time.
const KEPT: TimeDelta = TimeDelta::days(7);

/// What came, and where it says it is from.
#[derive(Clone, Copy)]
pub enum Sent<'a> {
    /// A logout token (OpenID Connect Back-Channel Logout 1.0 §2.5).
    LogoutToken(&'a str),
    /// A security event token, and the bearer credential that it came with (RFC 8935 §2.1).
    SecurityEvent(&'a str, Option<&'a str>),
}

impl<'a> Sent<'a> {
    fn compact(self) -> &'a str {
        match self {
            Self::LogoutToken(compact) | Self::SecurityEvent(compact, _) => compact,
        }
    }

    fn spends(self) -> SpendKind {
        match self {
            Self::LogoutToken(_) => SpendKind::LogoutToken,
            Self::SecurityEvent(..) => SpendKind::SecurityEvent,
        }
    }

    /// How metrics and records call it, as far as is known without its content.
    fn name(self) -> &'static str {
        match self {
            Self::LogoutToken(_) => "backchannel_logout",
            Self::SecurityEvent(..) => "security_event",
        }
    }
}

/// What became of an event that is accepted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Heard {
    /// What it named has ended, durably.
    Ended,
    /// Nothing hangs on it here.
    Ignored,
    /// It was heard before.
    Seen,
}

impl Heard {
    fn name(self) -> &'static str {
        match self {
            Self::Ended => "ended",
            Self::Ignored => "ignored",
            Self::Seen => "seen",
        }
    }
}

/// Why an event was not accepted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum NotHeard {
    /// Refused, and nothing acted on.
    Refused(EventFault),
    /// It, or its refusal, could not be recorded: to be sent again.
    Unavailable,
}

/// The use case with what it needs. Cheap to clone.
#[derive(Clone)]
pub struct Events {
    key_sets: Arc<KeySets>,
    store: Store,
    writer: Writer,
    metrics: Arc<Metrics>,
    aggregates: Arc<Aggregates>,
    clock: Arc<dyn Clock>,
    random: Random,
}

impl Events {
    /// Wires the use case.
    pub fn new(
        key_sets: Arc<KeySets>,
        (store, writer): (Store, Writer),
        (metrics, aggregates): (Arc<Metrics>, Arc<Aggregates>),
        (clock, random): (Arc<dyn Clock>, Random),
    ) -> Self {
        Self { key_sets, store, writer, metrics, aggregates, clock, random }
    }

    /// Verifies what was sent and ends what it names. Once this has answered, no token of those sessions lives.
    pub async fn hear(&self, world: &InForce, sent: Sent<'_>) -> Result<Heard, NotHeard> {
        let (kind, heard) = match self.verify(world, sent).await {
            Ok(event) => (name(sent, &event.about), self.act(event, sent.spends()).await),
            Err(fault) => (sent.name(), Err(self.refuse(world, sent, fault).await)),
        };
        match &heard {
            Ok(heard) => self.metrics.heard(kind, heard.name(), ""),
            Err(NotHeard::Refused(fault)) => self.metrics.heard(kind, "refused", fault.code()),
            Err(NotHeard::Unavailable) => self.metrics.heard(kind, "unavailable", "not_recorded"),
        }
        heard
    }

    async fn verify(&self, world: &InForce, sent: Sent<'_>) -> Result<Event, EventFault> {
        let jws = Jws::parse(sent.compact()).map_err(EventFault::NotAJws)?;
        let (keys, snapshot, now) = (&self.key_sets, &world.snapshot, self.clock.now());
        match sent {
            Sent::LogoutToken(_) => verify_logout_token(keys, snapshot, jws, now).await,
            Sent::SecurityEvent(_, bearer) => verify_security_event(keys, snapshot, (jws, bearer), now).await,
        }
    }

    /// Acts on an event once, however often it comes (RFC 8935 §2: at least once).
    async fn act(&self, event: Event, kind: SpendKind) -> Result<Heard, NotHeard> {
        let now = self.clock.now();
        let key = format!("{}\n{}", event.sender, event.jti);
        if self.store.is_spent(kind, &key).await.map_err(|_| NotHeard::Unavailable)? {
            return Ok(Heard::Seen);
        }
        let heard = match &event.about {
            About::End { .. } => Heard::Ended,
            About::Other(_) => Heard::Ignored,
        };
        let decision = self.decision(&event.issuer, Outcome::Allow, record(&event));
        let (keys, until) = rows(&event);
        let longest = LONGEST_TASK.max(TimeDelta::seconds(event.issuer.spec.max_session_age.into()));
        let revoke = Revoke {
            keys,
            keep_until: now + longest + KEPT_AFTER,
            reason: "ended at its identity provider".to_owned(),
            decision,
        };
        let spend = Spend { kind, key, keep_until: now + KEPT };
        match self.submit(Hear { event: spend, revoke, until }).await? {
            Committed::Done(_) => Ok(heard),
            Committed::Lost(..) => Ok(Heard::Seen),
            // It stands on no generation of the configuration.
            Committed::Superseded { .. } => Err(NotHeard::Unavailable),
        }
    }

    /// What the issuer itself has told this server is recorded, the first of its like: a mapping is missing, or the issuer is
    /// at fault. The rest anybody may send.
    async fn refuse(&self, world: &InForce, sent: Sent<'_>, fault: EventFault) -> NotHeard {
        tracing::info!(event = sent.name(), reason_code = fault.code(), "event refused");
        let Some(issuer) = Self::sender(world, sent).filter(|_| fault.is_proved()) else {
            return NotHeard::Refused(fault);
        };
        let (sender, code) = (issuer.spec.issuer.as_str(), format!("event_{}", fault.code()));
        if !self.aggregates.is_first(Kind::Admin, sender, &code) {
            return NotHeard::Refused(fault);
        }
        let reason = Reason { code, message: fault.to_string(), public: true };
        let record = Record {
            actor: Some(sender.to_owned()),
            asked: json!({"event": sent.name()}),
            reasons: vec![reason],
            ..Record::default()
        };
        let decision = self.decision(&issuer, Outcome::Deny, record);
        match self.submit(decision).await {
            Ok(_) => NotHeard::Refused(fault),
            Err(unavailable) => unavailable,
        }
    }

    /// The issuer whose sessions the event would be about, by the sender's word.
    fn sender(world: &InForce, sent: Sent<'_>) -> Option<Arc<Issuer>> {
        let jws = Jws::parse(sent.compact()).ok()?;
        let iss = jws.unverified().issuer?;
        let issuer = match sent {
            Sent::LogoutToken(_) => world.snapshot.issuer(iss),
            Sent::SecurityEvent(..) => world.snapshot.transmitter(iss),
        };
        issuer.cloned()
    }

    async fn submit(&self, change: impl Into<Change>) -> Result<Committed, NotHeard> {
        self.writer.submit(change).await.map_err(|_| NotHeard::Unavailable)
    }

    fn decision(&self, issuer: &Issuer, outcome: Outcome, record: Record) -> Decision {
        let now = self.clock.now();
        let tenant = &issuer.reach.tenant;
        let one = if tenant.is_system() { issuer.spec.fixed_tenant.as_ref() } else { Some(tenant) };
        Decision {
            id: self.random.decision(now),
            kind: Kind::Admin,
            at: now,
            tenant: one.cloned(),
            outcome,
            policy: None,
            task_type: None,
            record,
            input: None,
        }
    }
}

fn name(sent: Sent<'_>, about: &About) -> &'static str {
    match (sent, about) {
        (Sent::LogoutToken(_), _) => "backchannel_logout",
        (Sent::SecurityEvent(..), About::End { .. }) => "session_revoked",
        (Sent::SecurityEvent(..), About::Other(_)) => "other",
    }
}

/// What dies of the event: for good, and as far as it began before the event.
///
/// A `sid` is of one login and never used again, so that its session is dead whenever the event comes. A principal logs in
/// again: an event that comes late must not end what began after it.
fn rows(event: &Event) -> (Vec<RevocationKey>, Vec<(RevocationKey, DateTime<Utc>)>) {
    let About::End { sessions: Ended { sid, sub }, at, .. } = &event.about else { return Default::default() };
    let iss = event.issuer.spec.issuer.as_str();
    let of_principal = |sub: &String| match sid {
        Some(_) => (RevocationKey::nameless_sessions(iss, sub), *at),
        None => (RevocationKey::principal(iss, sub), *at),
    };
    let keys = sid.iter().map(|sid| RevocationKey::session(iss, sid)).collect();
    (keys, sub.iter().map(of_principal).collect())
}

/// Who told what of whom (L12).
fn record(event: &Event) -> Record {
    let (asked, sub) = match &event.about {
        About::End { sessions: Ended { sid, sub }, at, by } => {
            (json!({"event": "session_ended", "jti": event.jti, "sid": sid, "at": at, "by": by}), sub.clone())
        }
        About::Other(types) => {
            let types: Vec<String> = types.iter().map(ToString::to_string).collect();
            (json!({"event": "other", "jti": event.jti, "types": types}), None)
        }
    };
    let iss = event.issuer.spec.issuer.clone();
    Record {
        actor: Some(event.sender.clone()),
        principal: sub.map(|sub| Principal { iss, sub }),
        asked: without_nulls(asked),
        ..Record::default()
    }
}

fn without_nulls(mut value: Value) -> Value {
    if let Some(members) = value.as_object_mut() {
        members.retain(|_, member| !member.is_null());
    }
    value
}
