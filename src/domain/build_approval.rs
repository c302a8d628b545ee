//! What must hold of a task type's `approval`.

use super::objects::{ApprovalSpec, ApprovalWhen};

/// Faults, as (path, message).
pub(super) fn check(spec: &ApprovalSpec) -> Vec<(&'static str, &'static str)> {
    let mut faults = Vec::new();
    if spec.quorum == 0 {
        faults.push(("spec.approval.quorum", "at least 1"));
    }
    if !(30..=604_800).contains(&spec.expires_in) {
        faults.push(("spec.approval.expires_in", "30 to 604800 seconds (a week)"));
    }
    if spec.when == ApprovalWhen::Always && spec.approvers.is_empty() {
        faults.push(("spec.approval.approvers", "`when: always` needs somebody who may approve"));
    }
    if let Some(envelope) = spec.envelope {
        if spec.approvers.is_empty() {
            faults.push(("spec.approval.envelope", "needs somebody who may approve: name `approvers`"));
        }
        if !(1..=1000).contains(&envelope.exchanges) {
            faults.push(("spec.approval.envelope.exchanges", "1 to 1000"));
        }
        if !(1..=1440).contains(&envelope.minutes) {
            faults.push(("spec.approval.envelope.minutes", "1 to 1440 (a day)"));
        }
    }
    faults
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::envelope::EnvelopeTerms;

    fn faults(approvers: &[&str], exchanges: u32, minutes: u32) -> Vec<&'static str> {
        let spec = ApprovalSpec {
            approvers: approvers.iter().map(|owner| (*owner).to_owned().try_into().unwrap()).collect(),
            envelope: Some(EnvelopeTerms { exchanges, minutes }),
            ..ApprovalSpec::default()
        };
        check(&spec).into_iter().map(|(path, _)| path).collect()
    }

    #[test]
    fn an_envelope_has_bounds_and_somebody_who_may_give_it() {
        for (exchanges, minutes) in [(1, 1), (1000, 1440)] {
            assert_eq!(faults(&["group:leads"], exchanges, minutes), [""; 0]);
        }
        for exchanges in [0, 1001] {
            assert_eq!(faults(&["group:leads"], exchanges, 5), ["spec.approval.envelope.exchanges"]);
        }
        for minutes in [0, 1441] {
            assert_eq!(faults(&["group:leads"], 5, minutes), ["spec.approval.envelope.minutes"]);
        }
        assert_eq!(faults(&[], 5, 5), ["spec.approval.envelope"]);
    }
}
