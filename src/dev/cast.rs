//! Who plays in the demo: its users, and the names of its clients. What they may do stands in `objects/*.yaml`.

/// The demo tenant.
pub(super) const TENANT: &str = "demo";

/// The upstream client that users sign in with, and whose session tokens the demo agents may spend.
pub(super) const APP: &str = "demo-app";

/// Agents of the demo tenant, in the order in which they are told.
pub(super) const AGENTS: [&str; 3] = ["support-agent", "escalation-agent", "order-worker"];

/// Clients of the demo resources, in the order in which they are told.
pub(super) const RESOURCES: [&str; 3] = ["orders-service", "crm-service", "payments-service"];

/// The client through which the approver works. It is no agent of the demo tenant.
pub(super) const CONSOLE: &str = "demo-console";

/// The upstream client that admins sign in with, in a browser: no agent may spend its sessions.
pub(super) const ADMIN_APP: &str = "demo-admin";

/// Its redirect URIs, each on any port (RFC 8252 §7.3).
pub(super) const ADMIN_REDIRECTS: [&str; 2] = ["http://127.0.0.1/callback", "http://[::1]/callback"];

/// The client through which admins work.
pub(super) const ADMIN_CONSOLE: &str = "demo-admin-console";

/// A user of the demo identity provider.
pub(super) struct Person {
    /// User name, and `sub`.
    pub(super) name: &'static str,
    /// For people.
    pub(super) full_name: &'static str,
    /// What entitlements and policy go by.
    pub(super) groups: &'static [&'static str],
    /// The `roles` claim; left out when empty.
    pub(super) roles: &'static [&'static str],
}

impl Person {
    /// Their address, of a domain that is nobody's (RFC 2606).
    pub(super) fn email(&self) -> String {
        format!("{}@demo.example", self.name)
    }
}

/// The users on whose behalf agents work.
pub(super) const PRINCIPALS: [Person; 3] = [
    Person { name: "alice", full_name: "Alice Abel", groups: &["support"], roles: &[] },
    Person {
        name: "bob",
        full_name: "Bob Brand",
        groups: &["support", "support-leads", "analysts"],
        roles: &["lead"],
    },
    Person { name: "carol", full_name: "Carol Chen", groups: &["engineering"], roles: &["developer"] },
];

/// The user who approves, and on whose behalf no demo agent works.
pub(super) const APPROVER: Person =
    Person { name: "dana", full_name: "Dana Dietz", groups: &["finance"], roles: &["approver"] };

/// Everybody who can sign in.
pub(super) fn people() -> impl Iterator<Item = &'static Person> {
    PRINCIPALS.iter().chain([&APPROVER])
}

/// Every client with a secret.
pub(super) fn clients() -> impl Iterator<Item = &'static str> {
    AGENTS.into_iter().chain(RESOURCES).chain([CONSOLE, ADMIN_CONSOLE])
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn no_user_has_the_name_of_a_client_and_the_groups_differ() {
        let names: BTreeSet<&str> = people().map(|p| p.name).chain(clients()).collect();
        assert_eq!(names.len(), people().count() + clients().count());
        let groups: BTreeSet<_> = PRINCIPALS.iter().map(|p| p.groups).collect();
        assert_eq!(groups.len(), PRINCIPALS.len());
    }
}
