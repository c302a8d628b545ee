use std::sync::Arc;

use chrono::TimeDelta;

use super::*;
use crate::clock::SystemClock;
use crate::domain::ids::ClientId;
use crate::policy::bundle::Bundle;
use crate::policy::engine::PolicyEngine;
use crate::store::folder::Location;

const WORLD: &str = "\
kind: Tenant
tenant: acme
name: acme
spec: {}
---
kind: Resource
tenant: acme
name: orders
spec: {uri: https://orders.example, scopes: [orders:read, refunds:write]}
---
kind: Agent
tenant: acme
name: helper
spec: {client_id: helper, class: support, owner: group:a, contact: a@acme.example}
";

const TASK_TYPE: &str = "\
kind: TaskType
tenant: acme
name: refund
spec:
  description: Refund one order
  owner: group:a
  contact: a@acme.example
  review_by: 2027-03-01
  agents: [class:support]
  scopes: [orders:read]
  resources: [orders]
  lifetime: {token: {default: 60, max: 300}, task: 3600}
";

const OWN: &str = "https://us.example";

struct Bench {
    store: Store,
    active: Active,
    configuration: Configuration,
}

async fn bench() -> Bench {
    let store = Store::open(&Location::Memory).await.unwrap();
    let clock: Arc<dyn Clock> = Arc::new(SystemClock);
    let (writer, _task) = Writer::spawn(&store, clock.clone(), TimeDelta::zero());
    let policy = PolicyEngine::compile(Bundle::embedded_base().unwrap()).unwrap();
    let active = Active::new(load(&store, OWN, policy).await.unwrap());
    let configuration = Configuration::new(
        store.clone(),
        writer,
        active.clone(),
        (clock, Arc::default()),
        (OWN.into(), TwoPersons::default()),
    );
    Bench { store, active, configuration }
}

fn files(texts: &[(&str, &str)]) -> Vec<Source> {
    texts.iter().map(|(file, text)| Source { file: (*file).into(), text: (*text).into() }).collect()
}

impl Bench {
    async fn apply(&self, texts: &[(&str, &str)], options: Options) -> Result<Applied, ApplyFault> {
        self.configuration.apply(files(texts), options, "uid 0").await
    }

    async fn good(&self) -> Applied {
        self.apply(&[("world.yaml", WORLD), ("task.yaml", TASK_TYPE)], Options::default()).await.unwrap()
    }

    fn version_in_force(&self) -> Option<i64> {
        let name = |text: &str| text.parse::<Name>().unwrap();
        self.active.load().snapshot.task_type(&name("acme"), &name("refund")).map(|t| t.version)
    }

    async fn stored(&self) -> usize {
        self.store.objects_current().await.unwrap().len()
    }
}

fn told(result: Result<Applied, ApplyFault>) -> Vec<String> {
    let (ApplyFault::Documents(faults) | ApplyFault::Widens(faults)) = result.unwrap_err() else {
        panic!("another fault")
    };
    let suggestion = |f: &Fault| f.suggestion.clone().map(|s| format!(" ({s})")).unwrap_or_default();
    faults.iter().map(|f| format!("{f}{}", suggestion(f))).collect()
}

#[tokio::test]
async fn an_apply_is_in_force_before_it_answers_and_survives_a_restart() {
    let bench = bench().await;
    let applied = bench.good().await;
    assert_eq!(applied.plan.steps.len(), 4);
    assert_eq!(bench.version_in_force(), Some(1));
    let policy = bench.active.load().policy.clone();
    let again = load(&bench.store, OWN, policy).await.unwrap();
    assert_eq!(again.snapshot.task_types().filter(|t| !t.is_built_in()).count(), 1);
    let decision = bench.store.decision(applied.decision_id.unwrap()).await.unwrap().unwrap();
    let record = String::from_utf8(decision.record.unwrap()).unwrap();
    assert!(record.contains("uid 0") && record.contains("refund"), "{record}");
}

#[tokio::test]
async fn applying_the_same_again_changes_nothing_and_says_so() {
    let bench = bench().await;
    bench.good().await;
    let size = bench.store.head().await.unwrap().frontier.size();
    let again = bench.good().await;
    assert!(again.plan.is_empty() && again.decision_id.is_none());
    assert_eq!(bench.store.head().await.unwrap().frontier.size(), size);
    assert_eq!(bench.version_in_force(), Some(1));
}

#[tokio::test]
async fn a_change_makes_the_next_version_and_keeps_the_earlier_one_for_its_tasks() {
    let bench = bench().await;
    bench.good().await;
    let narrower = TASK_TYPE.replace("task: 3600", "task: 600");
    bench.apply(&[("task.yaml", &narrower)], Options::default()).await.unwrap();
    assert_eq!(bench.version_in_force(), Some(2));
    let (tenant, name) = ("acme".parse().unwrap(), "refund".parse().unwrap());
    let active = bench.active.load();
    assert_eq!(active.snapshot.task_type_version(&tenant, &name, 1).unwrap().spec.lifetime.task, 3600);
}

#[tokio::test]
async fn secrets_made_by_command_belong_to_a_client_id() {
    let bench = bench().await;
    bench.good().await;
    let helper: ClientId = "helper".parse().unwrap();
    let added = bench.configuration.add_secret(&helper, "uid 0").await.unwrap();
    let secrets = |client: &str| {
        let snapshot = bench.active.load().snapshot.clone();
        snapshot.agent(&client.parse().unwrap()).map(|agent| agent.spec.auth.secrets().count())
    };
    let prune = Options { prune: true, allow_widening: true, ..Options::default() };
    for (from, to, client) in [
        // Another object with the same client id has them, the same object with another client id has not.
        ("name: helper\n", "name: aide\n", "helper"),
        ("contact: a@acme.example", "contact: b@acme.example", "helper"),
    ] {
        let world = WORLD.replace(from, to);
        bench.apply(&[("world.yaml", &world), ("task.yaml", TASK_TYPE)], prune).await.unwrap();
        assert_eq!(secrets(client), Some(1), "{to}");
    }
    let renamed = WORLD.replace("client_id: helper", "client_id: aide");
    bench.apply(&[("world.yaml", &renamed), ("task.yaml", TASK_TYPE)], prune).await.unwrap();
    assert_eq!((secrets("helper"), secrets("aide")), (None, Some(0)));
    // Nor does the old client id get them back.
    bench.apply(&[("world.yaml", WORLD), ("task.yaml", TASK_TYPE)], prune).await.unwrap();
    assert_eq!(secrets("helper"), Some(0), "{}", added.secret_id);
}

#[tokio::test]
async fn a_widening_needs_the_flag() {
    let bench = bench().await;
    bench.good().await;
    let wider = TASK_TYPE.replace("[orders:read]", "[orders:read, refunds:write]");
    let refused = bench.apply(&[("task.yaml", &wider)], Options::default()).await;
    assert_eq!(told(refused), ["task.yaml:10:3: widens `spec.scopes`: adds `refunds:write`"]);
    assert_eq!(bench.version_in_force(), Some(1));
    let options = Options { allow_widening: true, ..Options::default() };
    let applied = bench.apply(&[("task.yaml", &wider)], options).await.unwrap();
    assert_eq!((applied.plan.widenings().count(), bench.version_in_force()), (1, Some(2)));
}

#[tokio::test]
async fn a_dangling_reference_is_refused_with_place_and_suggestion() {
    let bench = bench().await;
    let bent = TASK_TYPE.replace("[orders]", "[order]").replace("[orders:read]", "[orders:reed]");
    let refused = bench.apply(&[("world.yaml", WORLD), ("task.yaml", &bent)], Options::default()).await;
    assert_eq!(
        told(refused),
        [
            "task.yaml:11:15: no resource `order` serves every tenant that this serves (did you mean `orders`?)",
            "task.yaml:10:12: none of the task type's resources lists the scope `orders:reed`",
        ]
    );
    assert_eq!(bench.stored().await, 0, "nothing is applied in part");
}

#[tokio::test]
async fn what_breaks_an_object_in_force_is_refused_by_its_name() {
    let bench = bench().await;
    bench.good().await;
    let fewer = WORLD.replace("[orders:read, refunds:write]", "[refunds:write]");
    let refused = bench.apply(&[("world.yaml", &fewer)], Options::default()).await;
    let expected = "TaskType acme/refund (in force), spec.scopes[0]: none of the task type's resources lists the \
                    scope `orders:read`";
    assert_eq!(told(refused), [expected]);
}

#[tokio::test]
async fn a_half_bad_directory_applies_nothing() {
    let bench = bench().await;
    let bad = TASK_TYPE.replace("scopes:", "scope:");
    let refused = bench.apply(&[("world.yaml", WORLD), ("task.yaml", &bad)], Options::default()).await;
    assert_eq!(
        told(refused),
        ["task.yaml:10:3: unknown key `scope` in TaskType spec (did you mean `scopes`?)"]
    );
    assert_eq!((bench.stored().await, bench.version_in_force()), (0, None));
    let none = bench.apply(&[("empty.yaml", "# nothing\n")], Options::default()).await;
    assert_eq!(told(none), ["no object is declared in any of the files"]);
}

#[tokio::test]
async fn a_refusal_is_recorded_and_a_dry_run_is_not() {
    let bench = bench().await;
    let dry = Options { dry_run: true, ..Options::default() };
    let planned = bench.apply(&[("world.yaml", WORLD)], dry).await.unwrap();
    assert_eq!((planned.plan.changes().count(), planned.decision_id), (3, None));
    assert!(bench.apply(&[("a.yaml", "a: 1")], dry).await.is_err());
    assert_eq!((bench.stored().await, bench.store.head().await.unwrap().frontier.size()), (0, 0));
    assert!(bench.apply(&[("a.yaml", "a: 1")], Options::default()).await.is_err());
    assert_eq!(bench.store.head().await.unwrap().frontier.size(), 1);
}

#[tokio::test]
async fn concurrent_applies_follow_one_another() {
    let bench = bench().await;
    bench.good().await;
    let texts: Vec<String> =
        (0..8).map(|i| TASK_TYPE.replace("Refund one order", &format!("text {i}"))).collect();
    let mut running = tokio::task::JoinSet::new();
    for text in texts {
        let configuration = bench.configuration.clone();
        let sources = files(&[("task.yaml", &text)]);
        running.spawn(async move { configuration.apply(sources, Options::default(), "uid 0").await });
    }
    let mut versions: Vec<i64> =
        running.join_all().await.into_iter().map(|r| r.unwrap().plan.steps[0].version).collect();
    versions.sort_unstable();
    assert_eq!(versions, [2, 3, 4, 5, 6, 7, 8, 9]);
    assert_eq!(bench.version_in_force(), Some(9));
}

#[tokio::test]
async fn an_apply_whose_caller_goes_away_is_carried_to_its_end() {
    let bench = bench().await;
    let sources = files(&[("world.yaml", WORLD), ("task.yaml", TASK_TYPE)]);
    {
        let mut apply = Box::pin(bench.configuration.apply(sources, Options::default(), "uid 0"));
        let _ = futures_poll(&mut apply).await;
    }
    for _ in 0..500 {
        if bench.version_in_force().is_some() {
            return;
        }
        tokio::time::sleep(std::time::Duration::from_millis(10)).await;
    }
    panic!("not in force");
}

/// Polls once, and gives up on the future if it is not ready.
async fn futures_poll<F: Future + Unpin>(future: &mut F) -> Option<F::Output> {
    std::future::poll_fn(|cx| match std::pin::Pin::new(&mut *future).poll(cx) {
        std::task::Poll::Ready(output) => std::task::Poll::Ready(Some(output)),
        std::task::Poll::Pending => std::task::Poll::Ready(None),
    })
    .await
}

#[tokio::test]
async fn a_private_key_never_reaches_the_store() {
    let bench = bench().await;
    let leaky = WORLD.replace(
        "contact: a@acme.example}",
        "contact: a@acme.example, actor_jwks: {keys: [{kty: OKP, crv: Ed25519, x: \
         11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo, d: nWGxne_9WmC6hEr0kuwsxERJxWl7MmkZcDusAxyuf2A}]}}",
    );
    let refused = told(bench.apply(&[("world.yaml", &leaky)], Options::default()).await);
    assert!(refused[0].starts_with("world.yaml:14:"), "{refused:?}");
    assert!(refused[0].contains("private") && !refused[0].contains("nWGxne"), "{refused:?}");
    assert_eq!(bench.stored().await, 0);
}
