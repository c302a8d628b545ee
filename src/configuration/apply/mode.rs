//! The use case: the mode of the policy, set for a time (DESIGN §6). Stored and followed like the bundle in force: each change
//! begins a generation, so that all replicas are in the same mode. That its time is over each of them sees by its clock, at
//! each decision; the change back is recorded by whichever comes first.

use chrono::{DateTime, TimeDelta, Utc};
use serde::{Deserialize, Serialize};
use serde_json::json;
use tracing::{info, warn};

use super::policy::{PolicyChangeFault, TRIES};
use super::standing::{By, Standing};
use super::word::{Ready, Word, carrying};
use super::{ApplyFault, Configuration, Inner, Options, Order};
use crate::domain::decision::Outcome;
use crate::domain::ids::DecisionId;
use crate::policy::mode::{Mode, TimedMode};
use crate::store::change::{Configure, MODE};
use crate::store::error::StoreError;

/// The longest time, in seconds, for which policy may be kept from biting at once.
pub(super) const LONGEST: u32 = 24 * 60 * 60;
/// Who changes the mode when its time is over.
const BY_ITSELF: &str = "the server";

/// A mode as the store has it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct KeptMode {
    /// The mode, and its time.
    #[serde(flatten)]
    pub timed: TimedMode,
    /// Whose word it was.
    pub account: String,
    /// Why.
    pub reason: String,
}

impl KeptMode {
    /// The setting where there is none: what policy says bites.
    const NONE: &str = "null";
}

/// Which mode.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ModeOrder {
    /// The mode.
    pub mode: Mode,
    /// For how many seconds, at most a day; none with `enforce`, which has no end.
    #[serde(rename = "for", default, skip_serializing_if = "Option::is_none")]
    pub lasts: Option<u32>,
    /// Why, for the record.
    pub reason: String,
}

/// What a change of the mode did.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ModeChanged {
    /// The mode from now on; none is `enforce`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mode: Option<KeptMode>,
    /// The one until now; none was `enforce`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub before: Option<KeptMode>,
    /// The decision that records it; none if nothing has changed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub decision_id: Option<DecisionId>,
}

/// One change of the mode.
#[derive(Clone, Copy, Debug)]
enum Change {
    /// To another one: how long it holds.
    Set(Mode, TimeDelta),
    /// Back, if its time is over.
    End,
}

impl ModeOrder {
    fn change(&self) -> Result<Change, PolicyChangeFault> {
        if self.reason.trim().is_empty() {
            return Err(PolicyChangeFault::NoReason);
        }
        let lasts = match (self.mode, self.lasts) {
            (Mode::Enforce, None) => 0,
            (Mode::DryRun | Mode::Off, Some(seconds @ 1..=LONGEST)) => seconds,
            (Mode::Enforce, Some(_)) => return Err(PolicyChangeFault::NoEnd),
            (Mode::DryRun | Mode::Off, Some(_) | None) => return Err(PolicyChangeFault::NoTime),
        };
        Ok(Change::Set(self.mode, TimeDelta::seconds(lasts.into())))
    }
}

impl Configuration {
    /// Puts the policy in another mode, on behalf of `account`. Anything but `enforce` needs a time, after which it ends by
    /// itself.
    pub async fn set_policy_mode(
        &self,
        order: ModeOrder,
        word: impl Into<Word>,
    ) -> Result<ModeChanged, PolicyChangeFault> {
        let change = order.change()?;
        let (inner, word) = (self.0.clone(), word.into());
        // Runs to its end also if the caller goes away.
        let run = tokio::spawn(async move {
            let by = By::new("policy mode", &word, Some(&order.reason));
            inner.change_mode(change, by).await
        });
        run.await.unwrap_or_else(|error| Err(PolicyChangeFault::Unavailable(error.to_string())))
    }

    /// Records that the mode has ended, if its time is over and nobody has yet. It bites again from that instant on, whether it is
    /// recorded or not.
    pub async fn end_policy_mode(&self) {
        let inner = &self.0;
        let is_over = |mode: &TimedMode| mode.is_over(inner.clock.now());
        if !inner.active.load().policy.timed_mode().is_some_and(is_over) {
            return;
        }
        let word = Word::from(BY_ITSELF);
        let by = By::new("policy mode", &word, Some("its time is over"));
        if let Err(fault) = inner.change_mode(Change::End, by).await {
            warn!(%fault, "the mode of the policy has ended, which could not be recorded yet");
        }
    }

    /// Says in the log that policy does not bite, if so: at a start.
    pub fn warn_of_mode(&self) {
        let policy = &self.0.active.load().policy;
        let mode = policy.mode(self.0.clock.now());
        if let (Mode::DryRun | Mode::Off, Some(timed)) = (mode, policy.timed_mode()) {
            warn!(mode = mode.as_str(), until = %timed.until, "what policy says does not bite");
        }
    }
}

impl Inner {
    /// The mode that the store names, none for `enforce`; inside, why what it holds names none.
    pub(super) async fn kept_mode(&self) -> Result<Result<Option<KeptMode>, String>, StoreError> {
        let Some(text) = self.store.setting(MODE).await? else { return Ok(Ok(None)) };
        Ok(serde_json::from_str(&text).map_err(|why| why.to_string()))
    }

    /// The mode to decide in. One that cannot be read is `enforce` (L7).
    pub(super) async fn standing_mode(&self) -> Result<Option<TimedMode>, StoreError> {
        let kept = self.kept_mode().await?.unwrap_or_else(|why| {
            warn!(why, "what is stored of the policy's mode is unreadable: it is `enforce`; set one");
            None
        });
        Ok(kept.map(|kept| kept.timed))
    }

    async fn change_mode(&self, change: Change, by: By<'_>) -> Result<ModeChanged, PolicyChangeFault> {
        let _turn = self.turn.lock().await;
        for _ in 0..TRIES {
            let standing = self.standing().await?;
            let kept = self.kept_mode().await?;
            let before = kept.clone().unwrap_or(None);
            let now = self.clock.now();
            let is_over = before.as_ref().is_some_and(|mode| mode.timed.is_over(now));
            let mode = change.next(now, by);
            let is_done = match change {
                Change::Set(..) => kept == Ok(None) && mode.is_none(),
                Change::End => !is_over,
            };
            if is_done {
                return Ok(ModeChanged { mode: before, before: None, decision_id: None });
            }
            let agreed = self.agreed(by, change.ready(&standing, before.as_ref())).await?;
            let configure = self.configure_mode(&standing, (mode.as_ref(), before.as_ref()), by)?;
            let configure = carrying(configure, agreed);
            let decision_id = configure.decision.id;
            if !self.is_recorded(configure).await? {
                continue;
            }
            // From here on nothing is issued by a decision of the other mode, in any replica.
            if let Err(fault) = self.take_stored().await {
                warn!(%fault, "the mode of the policy is changed, but cannot be read yet");
            }
            if let Some(KeptMode { timed, account, .. }) = &mode {
                let (mode, until) = (timed.mode.as_str(), timed.until);
                warn!(mode, %until, account, %decision_id, "what policy says does not bite");
            } else {
                info!(%decision_id, account = by.account, "what policy says bites again");
            }
            return Ok(ModeChanged { mode, before, decision_id: Some(decision_id) });
        }
        Err(PolicyChangeFault::Conflict)
    }

    fn configure_mode(
        &self,
        standing: &Standing,
        (mode, before): (Option<&KeptMode>, Option<&KeptMode>),
        by: By<'_>,
    ) -> Result<Configure, ApplyFault> {
        let word = |kept: Option<&KeptMode>| kept.map_or(Mode::Enforce, |kept| kept.timed.mode).as_str();
        let mut asked = json!({ "command": by.command, "mode": word(mode), "before": word(before) });
        if let (Some(mode), Some(asked)) = (mode, asked.as_object_mut()) {
            asked.insert("until".to_owned(), json!(mode.timed.until));
        }
        by.tell_reason(&mut asked);
        let order = Order { options: Options::default(), actor: by.account, asked };
        let mut decision = self.decision(&order, Outcome::Allow)?;
        decision.policy.clone_from(&standing.active);
        let kept = mode.map_or_else(|| Ok(KeptMode::NONE.to_owned()), serde_json::to_string);
        let kept = kept.map_err(|error| ApplyFault::Unavailable(error.to_string()))?;
        let settings = vec![(MODE.to_owned(), kept)];
        Ok(Configure { settings, base: Some(standing.generation), ..Configure::only(decision) })
    }
}

impl Change {
    /// To keep what policy says from biting takes two persons, where the policy does; to have it bite takes one.
    fn ready(self, standing: &Standing, before: Option<&KeptMode>) -> Ready {
        let (mode, lasts, guarded) = match self {
            Self::Set(mode @ (Mode::DryRun | Mode::Off), lasts) => (mode, Some(lasts.num_seconds()), true),
            Self::Set(Mode::Enforce, _) | Self::End => (Mode::Enforce, None, false),
        };
        let before = before.map_or(Mode::Enforce, |kept| kept.timed.mode);
        let effect = json!({
            "mode": mode.as_str(), "for": lasts, "before": before.as_str(), "policy": standing.active,
        });
        Ready::policy(guarded, effect, standing.generation)
    }

    /// The mode after it.
    fn next(self, now: DateTime<Utc>, by: By<'_>) -> Option<KeptMode> {
        match self {
            Self::Set(Mode::Enforce, _) | Self::End => None,
            Self::Set(mode @ (Mode::DryRun | Mode::Off), lasts) => Some(KeptMode {
                timed: TimedMode { mode, since: now, until: now + lasts },
                account: by.account.to_owned(),
                reason: by.reason.unwrap_or_default().to_owned(),
            }),
        }
    }
}
