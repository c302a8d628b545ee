//! Step 7 where policy does not bite, or a fault of it does not: the ceilings alone decide, and what it would have done is
//! recorded (DESIGN §6 "Modes").

use serde_json::json;

use crate::config::OnError;
use crate::domain::decision::ModeRecord;
use crate::policy::comparison::Unjudged;
use crate::policy::fault::PolicyFault;
use crate::policy::input::PolicyInput;
use crate::policy::judgement::Judgement;
use crate::policy::mode::Mode;

/// What policy said, and of what.
pub(super) struct Said {
    pub(super) input: PolicyInput,
    pub(super) unjudged: Unjudged,
    /// Whether a candidate says so, and not the bundle in force.
    pub(super) by_candidate: bool,
    pub(super) judgement: Result<Judgement, PolicyFault>,
}

impl Said {
    /// What of it bites; and what is recorded where not all of it does. A fault is lifted only where no claim brings it about
    /// (L11), and the bundle in force has it; never a panic, which says nothing of the bundle.
    pub(super) fn in_mode(
        self,
        mode: Mode,
        on_error: OnError,
    ) -> (Result<Judgement, PolicyFault>, Option<ModeRecord>) {
        let word = match (mode, &self.judgement, on_error) {
            (Mode::DryRun | Mode::Off, _, _) => mode.as_str(),
            (Mode::Enforce, Err(fault), OnError::AllowWithinCeiling) if self.is_lifted(fault) => {
                on_error.as_str()
            }
            (Mode::Enforce, _, _) => return (self.judgement, None),
        };
        let Self { input, unjudged, judgement, .. } = self;
        let record = ModeRecord { mode: word.to_owned(), ..would(unjudged, input, &judgement) };
        (Ok(judgement.map_or_else(|_| Judgement::unasked(), |said| said.unbound())), Some(record))
    }

    fn is_lifted(&self, fault: &PolicyFault) -> bool {
        !self.by_candidate && !matches!(fault, PolicyFault::Claimed(_) | PolicyFault::Panic)
    }
}

/// What is recorded where policy is not asked.
pub(super) fn unasked() -> ModeRecord {
    ModeRecord { mode: Mode::Off.as_str().to_owned(), ..ModeRecord::default() }
}

fn would(unjudged: Unjudged, input: PolicyInput, judged: &Result<Judgement, PolicyFault>) -> ModeRecord {
    let Some((change, end)) = unjudged.let_pass(input, judged) else { return ModeRecord::default() };
    let limits = judged.as_ref().map(|said| json!(said.limits)).unwrap_or_default();
    let has_limits = limits.as_object().is_some_and(|limits| !limits.is_empty());
    ModeRecord {
        change: Some(change.as_str().to_owned()),
        reasons: end.reasons.into_iter().collect(),
        limits: if has_limits { limits } else { serde_json::Value::Null },
        fault: end.fault,
        ..ModeRecord::default()
    }
}
