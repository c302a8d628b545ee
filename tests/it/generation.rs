//! The commit stands on the configuration that is stored then, not on the one that was in memory when it was decided
//! (DESIGN §7): another replica may have published, or an apply here.

use std::sync::Arc;

use chrono::TimeDelta;
use serde_json::json;
use taskgrant::configuration::active::Active;
use taskgrant::configuration::apply::{ApplyFault, Configuration, Options, load};
use taskgrant::configuration::documents::Source;
use taskgrant::domain::proposal::TwoPersons;
use taskgrant::policy::bundle::Bundle;
use taskgrant::policy::engine::PolicyEngine;
use taskgrant::store::Store;
use taskgrant::store::folder::Location;
use taskgrant::store::writer::Writer;

use crate::support::database;
use crate::support::server::{Answer, ORDERS, Server, secret, sha256};

/// A second server of the same data, as far as it publishes: the first one does not hear of it.
struct Replica {
    configuration: Configuration,
    active: Active,
}

impl Replica {
    async fn of(server: &Server) -> Self {
        // A process of its own has connections of its own; SQLite's data folder belongs to one.
        let store = match database::location(server.data.path()) {
            Location::Folder(_) | Location::Memory => server.store.clone(),
            shared @ Location::Postgres(_) => Store::open(&shared).await.unwrap(),
        };
        let clock = Arc::new(server.clock.clone());
        let policy = PolicyEngine::compile(Bundle::embedded_base().unwrap()).unwrap();
        let active = Active::new(load(&store, &server.issuer, policy).await.unwrap());
        let (writer, _task) = Writer::spawn(&store, clock.clone(), TimeDelta::zero());
        let told = (server.issuer.clone(), TwoPersons::default());
        let configuration = Configuration::new(store, writer, active.clone(), (clock, Arc::default()), told);
        Self { configuration, active }
    }

    async fn publish(&self, text: String) -> Result<(), ApplyFault> {
        let options = Options { allow_widening: true, ..Options::default() };
        let source = Source { file: "replica.yaml".to_owned(), text };
        self.configuration.apply(vec![source], options, "replica").await.map(drop)
    }
}

const START: [(&str, &str); 3] =
    [("task_type", "refund_order"), ("resource", ORDERS), ("scope", "orders:read refunds:write")];

async fn start(server: &Server) -> Answer {
    server.exchange("support-agent", &server.session(json!({})), &START).await
}

#[tokio::test]
async fn l4_what_another_replica_published_decides_the_very_next_exchange() {
    let server = Server::start().await;
    let parent = server.wide_root().await;
    let replica = Replica::of(&server).await;
    // What the newer one allows too is decided again, and issued.
    let objects = server.objects().replace("description: Refund one order", "description: Refund");
    replica.publish(objects).await.unwrap();
    let before = server.decisions().await;
    start(&server).await.token();
    assert_eq!(server.decisions().await, before + 1, "what was decided in vain is no decision");
    for narrower in ["[orders:read, mail:send]", "[orders:read]"] {
        let objects = server.objects().replace("[orders:read, refunds:write, mail:send]", narrower);
        replica.publish(objects).await.unwrap();
        let before = server.decisions().await;
        start(&server).await.refused(400, "invalid_scope", "scope_exceeds_ceiling");
        assert_eq!(server.decisions().await, before + 1);
        let child = [("resource", ORDERS), ("scope", "refunds:write")];
        let child = server.exchange("support-agent", &parent, &child).await;
        child.refused(400, "invalid_scope", "scope_exceeds_ceiling");
    }
}

#[tokio::test]
async fn what_authenticated_an_agent_and_was_taken_from_it_meanwhile_gets_no_token() {
    let server = Server::start().await;
    let replica = Replica::of(&server).await;
    let (old, new) = (sha256(&secret("support-agent")), sha256("another"));
    replica.publish(server.objects().replace(&old, &new)).await.unwrap();
    let answer = start(&server).await;
    // Either the exchange found out at its commit, or the server had heard of it before.
    assert!([401, 503].contains(&answer.status), "{answer:?}");
    start(&server).await.refused(401, "invalid_client", "client_authentication_failed");
}

#[tokio::test]
async fn two_replicas_that_publish_at_once_do_not_undo_one_another() {
    let server = Server::start().await;
    let (one, two) = (Replica::of(&server).await, Replica::of(&server).await);
    // Each declares one object alone: a whole set would declare the other's old one too, and undo it if it came second.
    let edit = |of: &str, from: &str, to: &str| {
        let objects = server.objects();
        let object = objects.split("---\n").find(|object| object.contains(of) && object.contains(from));
        object.unwrap().replace(from, to)
    };
    let (agent, task_type) = ("client_id: support-agent", "description: Refund one order");
    let (first, second) = tokio::join!(
        one.publish(edit(agent, "contact: support@acme.example", "contact: other@acme.example")),
        two.publish(edit(task_type, task_type, "description: Refund")),
    );
    // Both stand, or one was told to apply again; what is in memory never claims more than it holds.
    let conflicts = [&first, &second].into_iter().filter(|r| **r == Err(ApplyFault::Conflict)).count();
    let done = [&first, &second].into_iter().filter(|r| r.is_ok()).count();
    assert!(conflicts <= 1 && done + conflicts == 2, "{first:?} {second:?}");
    let generation = server.store.head().await.unwrap().generation;
    for replica in [one, two] {
        replica.configuration.catch_up(generation).await.unwrap();
        let in_force = replica.active.load();
        assert_eq!(in_force.generation, generation);
        let contact = &in_force.snapshot.agent(&"support-agent".parse().unwrap()).unwrap().spec.contact;
        let described =
            in_force.snapshot.task_types().any(|t| t.spec.description.starts_with("Refund after"));
        assert_eq!((contact == "other@acme.example", described), (first.is_ok(), second.is_ok()));
    }
}
