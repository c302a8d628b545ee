//! What `taskgrant policy check`, `coverage` and `eval` tell of Rego before it decides anything, over the real binary.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use serde_json::{Value, json};
use tempfile::TempDir;

use crate::support::process::Site;

/// Runs the binary at the root of the repository.
fn run(args: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_taskgrant"));
    command.args([&["policy"], args].concat()).current_dir(env!("CARGO_MANIFEST_DIR")).env_clear();
    command.output().unwrap()
}

fn told(args: &[&str]) -> (i32, String) {
    let output = run(args);
    let text = [output.stdout, output.stderr].map(|text| String::from_utf8(text).unwrap()).concat();
    (output.status.code().unwrap(), text)
}

fn json_of(args: &[&str]) -> Value {
    let output = run(args);
    assert!(output.status.success(), "{output:?}");
    serde_json::from_slice(&output.stdout).unwrap()
}

/// A folder of rules that nobody owns, with a test that reaches one of two.
struct Folder(TempDir);

impl Folder {
    fn new() -> Self {
        let folder = Self(tempfile::tempdir().unwrap());
        let rules = "package taskgrant.exchange\n\nimport rego.v1\n\nallow if {\n\tinput.now > 1\n}\n\n\
             tags contains \"late\" if {\n\tinput.now > 10\n\tinput.environment == \"test\"\n}\n";
        let tests = "package taskgrant.exchange_test.own\n\nimport rego.v1\n\nimport data.taskgrant.exchange\n\n\
             test_later if exchange.allow with input as {\"now\": 2}\n";
        fs::create_dir(folder.path()).unwrap();
        fs::write(folder.path().join("rules.rego"), rules).unwrap();
        fs::write(folder.path().join("rules_test.rego"), tests).unwrap();
        folder
    }

    fn path(&self) -> PathBuf {
        self.0.path().join("own")
    }

    fn text(&self) -> String {
        self.path().display().to_string()
    }

    /// Has the package say who owns its rules.
    fn own(&self, review_by: &str) {
        let file = self.path().join("rules.rego");
        let rules = fs::read_to_string(&file).unwrap();
        let title = "# METADATA\n# title: t\n";
        let rules = rules.replace("allow if", &format!("{title}allow if"));
        let rules = rules.replace("tags contains", &format!("{title}tags contains"));
        let package = format!("# METADATA\n# custom:\n#   owner: group:own\n#   review_by: {review_by}\n");
        fs::write(file, package + &rules).unwrap();
    }
}

#[test]
fn check_fails_a_rule_that_nobody_owns_until_its_package_says_who() {
    let folder = Folder::new();
    let (code, text) = told(&["check", &folder.text()]);
    assert!(
        code == 1 && text.contains("own/rules.rego:5:1: Error: `allow` lacks owner and review_by"),
        "{text}"
    );
    assert!(text.contains("own/rules.rego:9:1: Error: `tags` lacks"), "{text}");
    folder.own("2020-01-01");
    let (code, text) = told(&["check", &folder.text()]);
    assert!(code == 0 && text.contains("Warning: the review of `allow` was due on 2020-01-01"), "{text}");
    let owned = Folder::new();
    owned.own("2999-01-01");
    assert_eq!(told(&["check", &owned.text()]), (0, "ok\n".to_owned()));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn apply_warns_of_rules_that_nobody_owns_and_takes_them() {
    let (site, folder) = (Site::new().await, Folder::new());
    let process = site.start().await;
    let (code, text) = site.told(&["policy", "apply", &folder.text()]).await;
    assert!(code == 0 && text.contains("in force: "), "{text}");
    assert!(text.contains("warning: own/rules.rego:5:1: `allow` lacks owner and review_by"), "{text}");
    drop(process);
}

#[test]
fn coverage_names_the_lines_that_no_test_reaches_and_fails_below_its_minimum() {
    let folder = Folder::new();
    let (code, text) = told(&["coverage", &folder.text()]);
    let lines = "own/rules.rego:9: never reached\nown/rules.rego:11: never reached\n";
    assert_eq!((code, text), (0, format!("{lines}3 of 5 lines reached: 60 %\n")));
    assert_eq!(told(&["coverage", "--min", "60", &folder.text()]).0, 0);
    let (code, text) = told(&["coverage", "--min", "61", &folder.text()]);
    assert!(code == 1 && text.contains("less than 61 %"), "{text}");
    assert_eq!(told(&["coverage", "--min", "101"]).0, 2);
    let report = json_of(&["coverage", "--json", &folder.text()]);
    assert_eq!(report["files"], json!([{"path": "own/rules.rego", "lines": 5, "missed": [9, 11]}]));
    assert_eq!(
        told(&["coverage", "--min", "100", "policies/base", "policies/support"]).0,
        0,
        "the demo's own"
    );
}

#[test]
fn eval_explains_which_rules_fire_where_and_who_answers_for_them() {
    let fixture = fs::read_to_string("policies/support/fixtures/worker_on_restricted_data.json").unwrap();
    let fixture: Value = serde_json::from_str(&fixture).unwrap();
    let folder = tempfile::tempdir().unwrap();
    let input = folder.path().join("input.json");
    fs::write(&input, fixture["input"].to_string()).unwrap();
    let input = input.display().to_string();
    let args = ["eval", "--input", &input, "policies/base", "policies/support"];
    assert!(json_of(&args).get("rules").is_none());
    let told = json_of(&[&args[..], &["--explain"]].concat());
    assert_eq!(told["outcome"], "deny");
    let rules: Vec<_> =
        told["rules"].as_array().unwrap().iter().map(|rule| (&rule["rule"], &rule["at"])).collect();
    let place = |rule: &str, file: &str, starts: &str| {
        let text = fs::read_to_string(Path::new("policies").join(file)).unwrap();
        let line = text.lines().position(|line| line.starts_with(starts)).unwrap() + 1;
        (json!(rule), json!(format!("{file}:{line}:1")))
    };
    let expected = [
        place("allow", "base/ceilings.rego", "allow if"),
        place("allow", "support/refunds.rego", "allow if"),
        place("deny", "support/support.rego", "deny contains"),
        (json!("deny"), json!("support/support.rego:26:1")),
        place("limits", "support/support.rego", "limits contains"),
    ];
    assert_eq!(rules, expected.iter().map(|(rule, at)| (rule, at)).collect::<Vec<_>>());
    let deny = &told["rules"][2];
    assert_eq!(
        (&deny["title"], &deny["owner"]),
        (&json!("Only analysts export customers"), &json!("group:data-protection"))
    );
    assert_eq!(deny["adds"][0]["code"], "analysts_only");
}

#[test]
fn any_other_rego_is_evaluated_on_a_terraform_plan_and_a_kubernetes_admission_review() {
    for (folder, rego, query) in [
        ("terraform", "plan.rego", "data.terraform.plan"),
        ("kubernetes", "admission.rego", "data.kubernetes.admission.review"),
    ] {
        let file = |name: &str| format!("examples/rego/{folder}/{name}");
        let told =
            json_of(&["eval", "--rego", &file(rego), "--query", query, "--input", &file("input.json")]);
        let expected: Value =
            serde_json::from_str(&fs::read_to_string(file("expected.json")).unwrap()).unwrap();
        assert_eq!(told, expected, "{folder}");
    }
}

#[test]
fn a_query_without_an_answer_and_a_wrong_call_say_so() {
    let (rego, input) = ("examples/rego/terraform/plan.rego", "examples/rego/terraform/input.json");
    let (code, text) =
        told(&["eval", "--rego", rego, "--query", "data.terraform.plan.nothing", "--input", input]);
    assert!(code == 1 && text.contains("`data.terraform.plan.nothing` is undefined"), "{text}");
    for args in [
        &["eval", "--rego", rego, "--input", input][..],
        &["eval", "--query", "data.x", "--input", input],
        &["eval", "--rego", rego, "--query", "data.x", "--input", input, "--explain"],
        &["eval", "--rego", "nowhere.rego", "--query", "data.x", "--input", input],
        &["eval", "--input", "nowhere.json"],
    ] {
        assert_eq!(told(args).0, 2, "{args:?}");
    }
    let (code, text) = told(&["eval", "--rego", input, "--query", "data.x", "--input", input]);
    assert!(code == 1 && text.contains("input.json:1:1"), "{text}");
}

/// What people copy first is fit, and decides as fast as the starters.
#[test]
fn the_bundle_of_the_guide_passes_its_tests_in_the_virtual_machine() {
    let folder = tempfile::tempdir().unwrap();
    let night = folder.path().join("night");
    fs::create_dir(&night).unwrap();
    let mut blocks = include_str!("../../docs/how-to/write-a-policy.md").split("```rego\n").skip(1);
    for name in ["night.rego", "night_test.rego"] {
        let (text, _) = blocks.next().unwrap().split_once("```").unwrap();
        fs::write(night.join(name), text).unwrap();
    }
    let night = night.to_str().unwrap();
    assert_eq!(told(&["check", "policies/base", night]), (0, "ok\n".to_owned()));
    let (status, text) = told(&["test", "policies/base", night]);
    assert!(status == 0 && text.contains(" 0 failed"), "{text}");
}
