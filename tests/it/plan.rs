//! `taskgrant plan` and `apply --prune` by the real binary: what CI reads, and what is never half done.

use std::fs;

use serde_json::{Value, json};
use taskgrant::domain::ids::DecisionId;
use taskgrant::store::Store;

use crate::support::process::Site;
use crate::support::server::{ORDERS, secret};

impl Site {
    /// Replaces a text of the objects' file.
    fn edit(&self, from: &str, to: &str) {
        let file = self.path("objects.yaml");
        let text = fs::read_to_string(&file).unwrap();
        assert!(text.contains(from), "{from}");
        fs::write(file, text.replacen(from, to, 1)).unwrap();
    }

    /// Takes the document out that declares `name`, and gives it.
    fn take_out(&self, name: &str) -> String {
        let file = self.path("objects.yaml");
        let text = fs::read_to_string(&file).unwrap();
        let marker = format!("\nname: {name}\n");
        let (taken, left): (Vec<&str>, Vec<&str>) = text.split("---\n").partition(|d| d.contains(&marker));
        assert_eq!(taken.len(), 1, "{name}");
        fs::write(file, left.join("---\n")).unwrap();
        taken[0].to_owned()
    }
}

/// A resource that takes over the name `order-service`, and what it was taken from, without a task type among them.
fn name_moves(site: &Site) -> String {
    let text = fs::read_to_string(site.path("objects.yaml")).unwrap();
    let marker = "\nname: orders\n";
    let orders = text.split("---\n").find(|d| d.contains(marker)).unwrap();
    let taker = "kind: Resource\ntenant: acme\nname: elsewhere\nspec:\n  uri: https://elsewhere.acme.example\n  \
                 names: [order-service]\n  scopes: [orders:read, refunds:write, mail:send]\n";
    format!("{}---\n{taker}", orders.replace("  names: [order-service]\n", ""))
}

#[tokio::test]
async fn a_name_that_moves_to_another_resource_widens_what_uses_it() {
    let site = Site::new().await;
    site.edit("  resources: [orders, mail]\n", "  resources: [order-service, mail]\n");
    site.apply().await;
    fs::write(site.path("moved.yaml"), name_moves(&site)).unwrap();
    let (status, plan) = site.told(&["plan", "-f", "moved.yaml"]).await;
    let step =
        "  TaskType acme/refund_order\n    ! widens `spec.resources`: adds https://elsewhere.acme.example";
    assert_eq!(status, 3, "{plan}");
    assert!(plan.contains(step), "{plan}");
    let (status, refused) = site.told(&["apply", "-f", "moved.yaml"]).await;
    assert_eq!(status, 1, "{refused}");
    assert!(refused.contains("TaskType acme/refund_order (in force), spec.resources: widens"), "{refused}");
    let whole = fs::read_to_string(site.path("objects.yaml")).unwrap();
    let kept: Vec<&str> = whole.split("---\n").filter(|d| !d.contains("\nname: orders\n")).collect();
    fs::write(site.path("whole.yaml"), format!("{}---\n{}", kept.join("---\n"), name_moves(&site))).unwrap();
    let (status, declared) = site.told(&["apply", "-f", "whole.yaml"]).await;
    assert_eq!(status, 1, "also where a document declares the task type as it is: {declared}");
    assert!(declared.contains("widens `spec.resources`"), "{declared}");
    let (status, allowed) = site.told(&["apply", "-f", "moved.yaml", "--allow-widening"]).await;
    assert_eq!(status, 0, "{allowed}");
}

const PLAN: [&str; 3] = ["plan", "-f", "objects.yaml"];

/// Every exit status and text, from an empty deployment on.
async fn outcomes(site: &Site) -> Vec<(i32, String)> {
    let mut outcomes = vec![site.told(&PLAN).await];
    site.apply().await;
    outcomes.push(site.told(&PLAN).await);
    site.edit("max: 300", "max: 200");
    outcomes.push(site.told(&PLAN).await);
    site.edit("max: 200", "max: 400");
    outcomes.push(site.told(&PLAN).await);
    outcomes.push(site.told(&["plan", "-f", "objects.yaml", "--json"]).await);
    site.edit("max: 400", "most: 400");
    outcomes.push(site.told(&PLAN).await);
    site.edit("most: 400", "max: 300");
    outcomes.push(site.told(&PLAN).await);
    outcomes
}

#[tokio::test]
async fn a_plan_tells_ci_by_its_status_and_changes_nothing_with_and_without_a_server() {
    let site = Site::new().await;
    let alone = outcomes(&site).await;
    let (statuses, texts): (Vec<i32>, Vec<String>) = alone.into_iter().unzip();
    assert_eq!(statuses, [2, 0, 2, 3, 3, 1, 0], "{texts:#?}");
    assert!(texts[0].contains("+ TaskType acme/refund_order\n"), "{}", texts[0]);
    assert!(texts[2].contains("~ TaskType acme/refund_order (version 2)\n"), "{}", texts[2]);
    assert!(texts[2].contains("    spec.lifetime.token.max: 300 -> 200\n"), "{}", texts[2]);
    assert!(
        texts[3].contains("    ! widens `spec.lifetime.token.max`: rises from 300 to 400\n"),
        "{}",
        texts[3]
    );
    let json: Value = serde_json::from_str(&texts[4]).unwrap();
    assert_eq!(json["outcome"], "widens");
    let step = json["steps"].as_array().unwrap().iter().find(|s| s["action"] == "change").unwrap();
    assert_eq!((&step["name"], &step["differences"][0]["after"]), (&"refund_order".into(), &400.into()));
    assert!(step["widenings"][0]["line"].is_u64());
    assert!(
        texts[5].contains("did you mean `max`?") || texts[5].contains("unknown key `most`"),
        "{}",
        texts[5]
    );

    let site = Site::new().await;
    let server = site.start().await;
    let through_server = outcomes(&site).await;
    assert_eq!(through_server.iter().map(|(status, _)| *status).collect::<Vec<_>>(), statuses);
    assert!(server.terminate().await.success());
}

#[tokio::test]
async fn a_plan_leaves_no_trace_and_a_wrong_call_is_no_change() {
    let site = Site::new().await;
    assert_eq!(site.told(&PLAN).await.0, 2);
    assert!(!site.path("data").exists(), "a plan made the data folder");
    for wrong in [&["plan"][..], &["plan", "-f", "objects.yaml", "--pune"], &["plan", "-f", "nowhere.yaml"]] {
        assert_eq!(site.told(wrong).await.0, 1, "{wrong:?}");
    }
    assert_eq!(site.told(&["plan", "-f", "objects.yaml", "--config", "none.toml"]).await.0, 1);
    assert_eq!(site.told(&["apply", "--pune"]).await.0, 2);
    assert_eq!(site.told(&["plan", "--help"]).await.0, 0);
}

#[tokio::test]
async fn what_is_pruned_is_listed_recorded_and_refused_from_then_on() {
    let site = Site::new().await;
    let server = site.start().await;
    site.apply().await;
    let client = ("support-agent", secret("support-agent"));
    let exchange = async || {
        let claims = json!({"org_id": "acme", "groups": ["support"]});
        site.start_task((client.0, &client.1), claims, &[("task_type", "refund_order"), ("resource", ORDERS)])
            .await
    };
    assert!(exchange().await["access_token"].is_string());

    let taken = site.take_out("refund_order");
    assert_eq!(site.told(&PLAN).await.0, 0, "what no file declares stays");
    let (status, text) = site.told(&["plan", "-f", "objects.yaml", "--prune"]).await;
    assert_eq!(status, 2, "{text}");
    assert!(text.starts_with("- TaskType acme/refund_order (version 1)\n"), "{text}");
    assert!(text.contains("0 to create, 0 to change, 1 to retire"), "{text}");
    assert!(exchange().await["access_token"].is_string(), "a plan retired something");

    let (status, text) = site.told(&["apply", "-f", "objects.yaml", "--prune"]).await;
    assert_eq!(status, 0, "{text}");
    assert!(text.contains("- TaskType acme/refund_order") && text.contains("1 retired"), "{text}");
    assert_eq!(exchange().await["reason_code"], "task_type_unavailable");
    assert!(server.terminate().await.success());

    let id: DecisionId = text.split("(decision ").nth(1).unwrap().split(')').next().unwrap().parse().unwrap();
    let store = Store::open(&site.location()).await.unwrap();
    let record = store.decision(id).await.unwrap().unwrap().record.unwrap();
    let record: Value = serde_json::from_slice(&record).unwrap();
    assert_eq!(record["asked"]["prune"], true);
    assert_eq!(record["granted"]["objects"][0]["object"], "TaskType acme/refund_order");
    assert_eq!(record["granted"]["objects"][0]["action"], "retire");
    store.close().await;
    drop(store);

    // Declared again it goes on from its last version, and that it comes back is told.
    let file = site.path("objects.yaml");
    fs::write(&file, format!("{}---\n{taken}", fs::read_to_string(&file).unwrap())).unwrap();
    let (status, text) = site.told(&["plan", "-f", "objects.yaml", "--prune", "--json"]).await;
    let json: Value = serde_json::from_str(&text).unwrap();
    let created = json["steps"].as_array().unwrap().iter().find(|s| s["action"] == "create").unwrap();
    assert_eq!((status, &created["version"]), (3, &2.into()));
    assert_eq!(created["formers"][0]["version"], 1, "{created}");
    let told = site.told(&["plan", "-f", "objects.yaml", "--prune"]).await.1;
    for line in
        ["before: TaskType acme/refund_order (version 1), which is the same", "version 1 of it was retired"]
    {
        assert!(told.contains(line), "{told}");
    }
    let (status, text) = site.told(&["apply", "-f", "objects.yaml", "--prune"]).await;
    assert!(status == 1 && text.contains("--allow-widening"), "{status} {text}");
    let back = site.told(&["apply", "-f", "objects.yaml", "--prune", "--allow-widening"]).await;
    assert_eq!(back.0, 0, "{}", back.1);
}

#[tokio::test]
async fn a_tenant_goes_with_all_its_objects_or_not_at_all() {
    let site = Site::new().await;
    site.apply().await;
    let tenant = "kind: Tenant\ntenant: shop\nname: shop\nspec: {}\n";
    let resource =
        "kind: Resource\ntenant: shop\nname: till\nspec: {uri: https://till.example, scopes: [till:read]}\n";
    fs::write(site.path("tenant.yaml"), tenant).unwrap();
    fs::write(site.path("resource.yaml"), resource).unwrap();
    let with = |files: &[&'static str], command: &'static str| {
        let named = ["objects.yaml"].iter().chain(files).flat_map(|file| ["-f", file]);
        [command, "--prune"].into_iter().chain(named).collect::<Vec<_>>()
    };
    assert_eq!(site.told(&with(&["tenant.yaml", "resource.yaml"], "apply")).await.0, 0);
    for command in ["plan", "apply"] {
        let (status, text) = site.told(&with(&["resource.yaml"], command)).await;
        assert_eq!(status, 1, "{text}");
        assert!(text.contains("resource.yaml:2:9: no tenant `shop` is declared"), "{text}");
    }
    let (status, text) = site.told(&with(&["tenant.yaml", "resource.yaml"], "plan")).await;
    assert_eq!(status, 0, "something was retired: {text}");
    let (status, text) = site.told(&with(&[], "plan")).await;
    assert_eq!(status, 2);
    assert!(text.contains("- Tenant shop/shop") && text.contains("- Resource shop/till"), "{text}");
    let (status, text) = site.told(&with(&[], "apply")).await;
    assert_eq!(status, 0, "{text}");
    assert!(text.contains("0 created, 0 changed, 2 retired"), "{text}");
}

#[tokio::test]
async fn an_empty_folder_does_not_prune_everything() {
    let site = Site::new().await;
    site.apply().await;
    fs::create_dir(site.path("empty")).unwrap();
    let (status, text) = site.told(&["apply", "-f", "empty", "--prune"]).await;
    assert_eq!(status, 1, "{text}");
    assert!(text.contains("no object is declared"), "{text}");
    assert_eq!(site.told(&PLAN).await.0, 0);
}
