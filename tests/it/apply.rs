//! `taskgrant apply`: the same answers over the admin socket and in process, and nothing in part.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use chrono::TimeDelta;
use taskgrant::admin::api::{ApplyRequest, RefusalCode, Refused, router};
use taskgrant::admin::client::AdminClient;
use taskgrant::admin::socket::AdminSocket;
use taskgrant::cli::apply::{ApplyArgs, Deployment, apply};
use taskgrant::cli::target::TargetArgs;
use taskgrant::clock::{Clock, SystemClock};
use taskgrant::configuration::active::Active;
use taskgrant::configuration::apply::{Configuration, Options, load};
use taskgrant::configuration::documents::Source;
use taskgrant::domain::proposal::TwoPersons;
use taskgrant::policy::bundle::Bundle;
use taskgrant::policy::engine::PolicyEngine;
use taskgrant::store::Store;
use taskgrant::store::folder::Location;
use taskgrant::store::writer::Writer;
use taskgrant::terminal::output::{Exit, Output};
use tempfile::TempDir;
use tokio::sync::oneshot;
use tokio::task::JoinHandle;

const OWN: &str = "https://taskgrant.example";

const GOOD: &str = "\
kind: Tenant
tenant: acme
name: acme
spec: {}
---
kind: Resource
tenant: acme
name: orders
spec:
  uri: https://orders.example
  scopes: [orders:read, refunds:write]
---
kind: TaskType
tenant: acme
name: refund
spec:
  description: Refund one order
  owner: group:payments
  contact: payments@acme.example
  review_by: 2027-03-01
  agents: [class:support]
  scopes: [orders:read]
  resources: [orders]
  lifetime: {token: {default: 60, max: 300}, task: 3600}
";

/// A data folder and a folder of objects; a server runs on it between `start` and `stop`.
struct Site {
    root: TempDir,
    server: Option<Server>,
}

struct Server {
    active: Active,
    stop: oneshot::Sender<()>,
    served: JoinHandle<()>,
}

struct Answer {
    exit: Exit,
    out: String,
    err: String,
}

impl Site {
    fn new() -> Self {
        let root = tempfile::tempdir().unwrap();
        fs::create_dir(root.path().join("objects")).unwrap();
        Self { root, server: None }
    }

    fn objects(&self) -> PathBuf {
        self.root.path().join("objects")
    }

    fn write(&self, name: &str, text: &str) {
        fs::write(self.objects().join(name), text).unwrap();
    }

    fn deployment(&self) -> Deployment {
        let data = self.root.path().join("data");
        Deployment {
            admin_socket: data.join("admin.sock"),
            location: Location::Folder(data),
            own_issuer: OWN.into(),
            two_persons: TwoPersons::default(),
            remote: None,
        }
    }

    async fn start(&mut self) {
        let deployment = self.deployment();
        let store = Store::open(&deployment.location).await.unwrap();
        let clock: Arc<dyn Clock> = Arc::new(SystemClock);
        let (writer, writing) = Writer::spawn(&store, clock.clone(), TimeDelta::zero());
        let policy = PolicyEngine::compile(Bundle::embedded_base().unwrap()).unwrap();
        let active = Active::new(load(&store, OWN, policy).await.unwrap());
        let configuration = Configuration::new(
            store,
            writer,
            active.clone(),
            (clock, Arc::default()),
            (OWN.into(), TwoPersons::default()),
        );
        let socket = AdminSocket::bind(&deployment.admin_socket).unwrap();
        let (stop, stopped) = oneshot::channel();
        let served = tokio::spawn(async move {
            let shutdown = async { stopped.await.unwrap_or_default() };
            socket.serve(router(configuration), shutdown).await.unwrap();
            writing.await.unwrap();
        });
        self.server = Some(Server { active, stop, served });
    }

    async fn stop(&mut self) {
        let server = self.server.take().unwrap();
        server.stop.send(()).unwrap();
        server.served.await.unwrap();
    }

    /// Runs `taskgrant apply -f objects` with these further arguments.
    async fn apply(&self, flags: &[&str]) -> Answer {
        self.apply_from(&self.objects(), flags, "").await
    }

    async fn apply_from(&self, path: &Path, flags: &[&str], stdin: &str) -> Answer {
        let args = ApplyArgs {
            filename: vec![path.to_owned()],
            target: TargetArgs::default(),
            allow_widening: flags.contains(&"--allow-widening"),
            prune: flags.contains(&"--prune"),
            dry_run: flags.contains(&"--dry-run"),
            json: flags.contains(&"--json"),
        };
        let (mut out, mut err) = (Vec::new(), Vec::new());
        let output = &mut Output { out: &mut out, err: &mut err };
        let exit =
            apply(&args, &self.deployment(), Arc::new(SystemClock), &mut stdin.as_bytes(), output).await;
        let text = |bytes: Vec<u8>| {
            String::from_utf8(bytes).unwrap().replace(&format!("{}/", self.objects().display()), "")
        };
        Answer { exit, out: text(out), err: text(err) }
    }

    fn lifetime_in_force(&self) -> Option<u32> {
        let snapshot = self.server.as_ref().unwrap().active.load().snapshot.clone();
        snapshot.task_types().find(|t| !t.is_built_in()).map(|t| t.spec.lifetime.task)
    }
}

/// Runs the same steps in process and with a server, and wants the same answers.
async fn in_both_ways<F: AsyncFn(&Site) -> Vec<String>>(steps: F) -> Vec<String> {
    let site = Site::new();
    let alone = steps(&site).await;
    let mut site = Site::new();
    site.start().await;
    let through_server = steps(&site).await;
    site.stop().await;
    assert_eq!(alone, through_server);
    alone
}

fn without_id(text: &str) -> String {
    text.split(" (decision").next().unwrap().to_owned()
}

#[tokio::test]
async fn good_objects_are_applied_once_and_then_there_is_nothing_to_change() {
    let answers = in_both_ways(async |site: &Site| {
        site.write("all.yaml", GOOD);
        let mut answers = Vec::new();
        for flags in [&["--dry-run"][..], &[], &[]] {
            let answer = site.apply(flags).await;
            assert_eq!((answer.exit, answer.err.as_str()), (Exit::Done, ""));
            answers.push(without_id(answer.out.lines().last().unwrap()));
        }
        answers
    })
    .await;
    assert_eq!(
        answers,
        [
            "dry run, nothing is applied: 3 created, 0 changed, 0 unchanged",
            "applied: 3 created, 0 changed, 0 unchanged",
            "nothing to change: 0 created, 0 changed, 3 unchanged",
        ]
    );
}

#[tokio::test]
async fn one_bad_file_refuses_the_whole_folder_with_its_place() {
    let answers = in_both_ways(async |site: &Site| {
        site.write("a.yaml", GOOD);
        site.write("b.yml", "kind: Tenant\ntenant: globex\nname: globex\nspec: {lables: {a: b}}\n");
        let answer = site.apply(&[]).await;
        assert_eq!((answer.exit, answer.out.as_str()), (Exit::Refused, ""));
        fs::remove_file(site.objects().join("b.yml")).unwrap();
        let planned = site.apply(&["--dry-run"]).await.out;
        assert!(planned.contains("3 created"), "something was applied: {planned}");
        vec![answer.err]
    })
    .await;
    let expected = "b.yml:4:8: unknown key `lables` in Tenant spec\n  did you mean `labels`?\n\
                    the documents are faulty: nothing is applied\n";
    assert_eq!(answers, [expected]);
}

#[tokio::test]
async fn a_dangling_reference_is_refused_with_a_suggestion() {
    let answers = in_both_ways(async |site: &Site| {
        site.write("a.yaml", &GOOD.replace("resources: [orders]", "resources:\n    - order"));
        vec![site.apply(&[]).await.err.lines().take(2).collect::<Vec<_>>().join("\n")]
    })
    .await;
    let expected =
        "a.yaml:24:7: no resource `order` serves every tenant that this serves\n  did you mean `orders`?";
    assert_eq!(answers, [expected]);
}

#[tokio::test]
async fn a_widening_needs_the_flag_and_is_shown() {
    let answers = in_both_ways(async |site: &Site| {
        site.write("a.yaml", GOOD);
        assert_eq!(site.apply(&[]).await.exit, Exit::Done);
        site.write("a.yaml", &GOOD.replace("task: 3600", "task: 7200"));
        let refused = site.apply(&[]).await;
        assert_eq!(refused.exit, Exit::Refused);
        let allowed = site.apply(&["--allow-widening"]).await;
        assert_eq!(allowed.exit, Exit::Done);
        vec![refused.err, without_id(&allowed.out)]
    })
    .await;
    let refused = "a.yaml:24:52: widens `spec.lifetime.task`: rises from 3600 to 7200\n\
                   the change widens what is allowed: nothing is applied\n  \
                   if that is meant, apply again with --allow-widening\n";
    let allowed = "~ TaskType acme/refund (version 2)\n    spec.lifetime.task: 3600 -> 7200\n    \
                   ! widens `spec.lifetime.task`: rises from 3600 to 7200\n\
                   applied: 0 created, 1 changed, 2 unchanged";
    assert_eq!(answers, [refused, allowed]);
}

#[tokio::test]
async fn json_answers_have_file_line_column_and_suggestion() {
    let answers = in_both_ways(async |site: &Site| {
        let answer = site.apply_from(Path::new("-"), &["--json"], "kind: Tenannt\ntenant: a\n").await;
        assert_eq!((answer.exit, answer.err.as_str()), (Exit::Refused, ""));
        vec![answer.out]
    })
    .await;
    let refused: Refused = serde_json::from_str(&answers[0]).unwrap();
    assert_eq!(refused.error, RefusalCode::ConfigurationFaulty);
    let json: serde_json::Value = serde_json::from_str(&answers[0]).unwrap();
    let fault = &json["faults"][0];
    assert_eq!((&fault["file"], &fault["line"], &fault["column"]), (&"<stdin>".into(), &1.into(), &7.into()));
    assert_eq!(fault["suggestion"], "did you mean `Tenant`?");
}

#[tokio::test]
async fn the_running_server_decides_by_the_new_objects_before_apply_returns() {
    let mut site = Site::new();
    site.start().await;
    assert_eq!(site.lifetime_in_force(), None);
    for seconds in [3600, 1800, 900] {
        site.write("a.yaml", &GOOD.replace("task: 3600", &format!("task: {seconds}")));
        assert_eq!(site.apply(&[]).await.exit, Exit::Done);
        assert_eq!(site.lifetime_in_force(), Some(seconds));
    }
    site.stop().await;
    site.start().await;
    assert_eq!(site.lifetime_in_force(), Some(900), "and after a restart");
}

#[tokio::test]
async fn what_was_applied_in_process_is_served_after_the_start() {
    let mut site = Site::new();
    site.write("a.yaml", GOOD);
    assert_eq!(site.apply(&[]).await.exit, Exit::Done);
    site.start().await;
    assert_eq!(site.lifetime_in_force(), Some(3600));
}

#[tokio::test]
async fn the_admin_socket_is_for_its_owner_only_and_lists_the_objects() {
    let mut site = Site::new();
    site.start().await;
    let path = site.deployment().admin_socket;
    assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
    site.write("a.yaml", GOOD);
    site.apply(&[]).await;
    let client = AdminClient::find(&path).await.unwrap().unwrap();
    let objects = client.objects().await.unwrap().unwrap();
    let names: Vec<String> = objects.iter().map(|o| o.id.to_string()).collect();
    assert_eq!(names.len(), 3);
    assert!(names.contains(&"TaskType acme/refund".to_owned()), "{names:?}");
    site.stop().await;
    assert!(AdminClient::find(&path).await.unwrap().is_none());
}

#[tokio::test]
async fn concurrent_applies_through_the_server_follow_one_another() {
    let mut site = Site::new();
    site.start().await;
    site.write("a.yaml", GOOD);
    site.apply(&[]).await;
    let client = AdminClient::find(&site.deployment().admin_socket).await.unwrap().unwrap();
    let mut running = tokio::task::JoinSet::new();
    for index in 0..6 {
        let text = GOOD.replace("Refund one order", &format!("text {index}"));
        let documents = vec![Source { file: "a.yaml".into(), text }];
        let (client, request) = (client.clone(), ApplyRequest { documents, options: Options::default() });
        running.spawn(async move { client.apply(&request).await.unwrap().unwrap() });
    }
    let applied = running.join_all().await;
    let mut versions: Vec<i64> = applied.iter().flat_map(|a| a.plan.changes().map(|s| s.version)).collect();
    versions.sort_unstable();
    assert_eq!(versions, [2, 3, 4, 5, 6, 7]);
}
