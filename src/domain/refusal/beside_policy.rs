//! The codes of refusals that policy neither made nor caused.

use super::Refusal;

/// The codes of refusals that policy neither made nor caused; a test holds them to [`Refusal::code`]. Those of tokens that are not
/// accepted are not among them: they begin with `subject_token_` or `actor_token_`, and come before policy is asked.
const BESIDE_POLICY: [&str; 46] = [
    "actor_chain_malformed",
    "actor_chain_too_long",
    "actor_repeated",
    "administrator_role_missing",
    "agent_not_of_tenant",
    "approval_cancelled",
    "approval_denied",
    "approval_expired",
    "approvals_waiting",
    "authorization_details_exceed_ceiling",
    "authorization_details_invalid",
    "client_is_no_agent",
    "clock_unsteady",
    "deferral_code_unknown",
    "deferral_code_used",
    "delegation_depth_exhausted",
    "delegation_not_allowed",
    "grant_type_unsupported",
    "hand_over_spent",
    "instance_not_proved",
    "lockdown",
    "malformed_request",
    "nothing_left",
    "parent_unknown",
    "rate_limited_address",
    "rate_limited_client",
    "rate_limited_failures",
    "rate_limited_principal",
    "rate_limited_task",
    "revoked",
    "scope_exceeds_ceiling",
    "scope_malformed",
    "store_unavailable",
    "subject_token_not_yours",
    "target_ambiguous",
    "target_exceeds_ceiling",
    "target_none_allowed",
    "target_unknown",
    "task_ended",
    "task_tokens_exhausted",
    "task_type_missing",
    "task_type_unavailable",
    "token_children_exhausted",
    "token_too_large",
    "token_tree_too_high",
    "wider_than_parent",
];

impl Refusal {
    /// Whether a refusal has this code that policy neither made nor caused: a ceiling, a limit, a revocation, the commit.
    pub fn is_beside_policy(code: &str) -> bool {
        BESIDE_POLICY.binary_search(&code).is_ok()
    }
}

#[cfg(test)]
#[path = "beside_policy_tests.rs"]
mod tests;
