//! The steps of the tour, in order. They read as the story of one refund.

use super::super::shell::SERVER;
use super::call::{Arg, Call};
use crate::domain::request::{ACCESS_TOKEN, TOKEN_EXCHANGE};

/// The token that services verify, and its parent.
pub(super) const VERIFIED: &str = "WORK";

/// One step.
pub(super) struct Step {
    pub(super) title: &'static str,
    pub(super) why: &'static str,
    pub(super) call: Call,
    pub(super) expect: Expect,
}

/// How a step should end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Expect {
    /// A session token.
    Session,
    /// A token with this `scope`.
    Granted(&'static str),
    /// This OAuth error with this reason code.
    Refused(&'static str, &'static str),
    /// Keys by which [`VERIFIED`] verifies.
    Keys,
    /// Introspection says so.
    Active(bool),
    /// Status 200 without a body.
    Done,
}

/// The steps; `password` knows the users'.
pub(super) fn steps(password: impl Fn(&str) -> String) -> Vec<Step> {
    let mut steps = granted(&password);
    steps.extend(handed_over());
    steps.extend(refused(&password));
    steps.extend(verified());
    steps.extend(revoked());
    steps
}

fn granted(password: &impl Fn(&str) -> String) -> Vec<Step> {
    vec![
        sign_in("Alice signs in", "alice", password, "SESSION"),
        Step {
            title: "A root token",
            why: "An agent turns her session into a task: one kind of work, one service, a few minutes.",
            call: exchange(
                "SUPPORT",
                "SESSION",
                "ROOT",
                &[("task_type", text("refund_order")), ("scope", text("orders:read refunds:write"))],
            ),
            expect: Expect::Granted("orders:read refunds:write"),
        },
        Step {
            title: "A narrower child",
            why: "For one step the agent gives up what the step does not need.",
            call: exchange(
                "SUPPORT",
                "ROOT",
                "CHILD",
                &[("scope", text("orders:read")), ("requested_expires_in", text("60"))],
            ),
            expect: Expect::Granted("orders:read"),
        },
    ]
}

fn handed_over() -> Vec<Step> {
    vec![
        Step {
            title: "A hand-over",
            why: "No service takes this token: order-worker alone may exchange it, once, within 60 seconds.",
            call: exchange(
                "SUPPORT",
                "ROOT",
                "HANDOVER",
                &[
                    ("audience", Arg::Var(SERVER)),
                    ("delegate_to", text("order-worker")),
                    ("scope", text("orders:read")),
                ],
            ),
            expect: Expect::Granted("orders:read"),
        },
        Step {
            title: "The other agent takes over",
            why: "It never saw the wider token. Its own says who acts, and for whom: order-worker, for support-agent.",
            call: exchange("WORKER", "HANDOVER", VERIFIED, &[]),
            expect: Expect::Granted("orders:read"),
        },
    ]
}

fn refused(password: &impl Fn(&str) -> String) -> Vec<Step> {
    vec![
        Step {
            title: "Asking for more",
            why: "The child tries to climb back. The refusal names what was too much, and what could be granted.",
            call: exchange("SUPPORT", "CHILD", "MORE", &[("scope", text("orders:read refunds:write"))]),
            expect: Expect::Refused("invalid_scope", "scope_exceeds_ceiling"),
        },
        Step {
            title: "Policy says no",
            why: "Alice may delegate this scope, but policies/support has customers exported for analysts only.",
            call: exchange(
                "SUPPORT",
                "SESSION",
                "EXPORT",
                &[("task_type", text("export_customers")), ("scope", text("customers:read"))],
            ),
            expect: Expect::Refused("invalid_request", "policy_denied"),
        },
        sign_in("Bob signs in", "bob", password, "BOB"),
        Step {
            title: "A person must approve",
            why: "Bob may delegate payments; policy wants a person to look at tasks of high risk first.",
            call: exchange(
                "SUPPORT",
                "BOB",
                "WIRE",
                &[("task_type", text("wire_money")), ("scope", text("payments:wire"))],
            ),
            expect: Expect::Refused("interaction_required", "approval_required"),
        },
    ]
}

fn verified() -> Vec<Step> {
    let keys = Call { path: "/oauth/jwks", client: None, form: Vec::new(), saves: None };
    vec![
        Step {
            title: "Any service can verify",
            why: "The published keys and any JWT library are enough. The worker's token, verified with them, says:",
            call: keys,
            expect: Expect::Keys,
        },
        Step {
            title: "Or ask",
            why: "Introspection tells the token's own service whether it is alive, and the same claims. In short:",
            call: post("/oauth/introspect", "ORDERS", VERIFIED),
            expect: Expect::Active(true),
        },
    ]
}

fn revoked() -> Vec<Step> {
    vec![
        Step {
            title: "Revoke the root",
            why: "One call. Nothing below it gets anything more.",
            call: post("/oauth/revoke", "SUPPORT", "ROOT"),
            expect: Expect::Done,
        },
        Step {
            title: "Its child is dead",
            why: "The child's own signature and dates are fine; the token above it is revoked.",
            call: exchange("SUPPORT", "CHILD", "LATE", &[]),
            expect: Expect::Refused("invalid_request", "revoked"),
        },
        Step {
            title: "And so is the worker's token",
            why: "The hand-over does not outlive what it came from.",
            call: post("/oauth/introspect", "ORDERS", VERIFIED),
            expect: Expect::Active(false),
        },
    ]
}

fn sign_in(
    title: &'static str,
    user: &'static str,
    password: &impl Fn(&str) -> String,
    saves: &'static str,
) -> Step {
    let form = vec![
        ("grant_type", text("password")),
        ("username", text(user)),
        ("password", Arg::Text(password(user))),
    ];
    Step {
        title,
        why: "A session token of the demo identity provider: wide, and long-lived.",
        call: Call { path: "/idp/token", client: None, form, saves: Some(saves) },
        expect: Expect::Session,
    }
}

/// A token exchange by `client` of what `subject` holds (RFC 8693 §2.1).
fn exchange(
    client: &'static str,
    subject: &'static str,
    saves: &'static str,
    extra: &[(&'static str, Arg)],
) -> Call {
    let mut form = vec![
        ("grant_type", text(TOKEN_EXCHANGE)),
        ("subject_token_type", text(ACCESS_TOKEN)),
        ("subject_token", Arg::Var(subject)),
    ];
    form.extend_from_slice(extra);
    Call { path: "/oauth/token", client: Some(client), form, saves: Some(saves) }
}

fn post(path: &'static str, client: &'static str, token: &'static str) -> Call {
    Call { path, client: Some(client), form: vec![("token", Arg::Var(token))], saves: None }
}

fn text(text: &str) -> Arg {
    Arg::Text(text.to_owned())
}
