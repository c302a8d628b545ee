//! Policy (DESIGN §6): whatever the input, the starter allows what the ceilings allow and no more, the demo rules take
//! away what they say, and no claim of an agent lifts anything (L2, L7, L11).

use std::collections::{BTreeMap, BTreeSet};
use std::sync::LazyLock;
use std::time::Duration;

use serde_json::{Map, Value};
use taskgrant::domain::decision::Reason;
use taskgrant::domain::json;
use taskgrant::policy::bundle::Bundle;
use taskgrant::policy::engine::{PolicyEngine, RunLimits};
use taskgrant::policy::fault::PolicyFault;
use taskgrant::policy::input::PolicyInput;
use taskgrant::policy::judgement::{Judgement, Outcome};

const SOUND: &str = include_str!("../../policies/support/fixtures/plain_refund.json");
/// Rules that look at what an agent claims, in both directions.
const CREDULOUS: &str = r#"package taskgrant.exchange
import rego.v1
deny contains {"code": "unsaid", "message": "m"} if not input.claimed.intent
deny contains {"code": "said", "message": "m"} if input.claimed.harm
require_approval contains {"code": "alone", "message": "m"} if not input.claimed.vouched
require_approval contains {"code": "large", "message": "m"} if input.claimed.amount > 100
limits contains {"lifetime": 60} if not input.claimed.slow
limits contains {"lifetime": 30} if input.claimed.quick
limits contains {"scopes": ["orders:read"]} if input.claimed.readonly
"#;

struct Engines {
    starter: PolicyEngine,
    demo: PolicyEngine,
    credulous: PolicyEngine,
}

static ENGINES: LazyLock<Engines> = LazyLock::new(|| {
    // A busy machine must not decide what is found: only the instructions bound a judgement here.
    let limits = RunLimits { time: Duration::from_mins(10), ..RunLimits::default() };
    let compile = |bundle: Bundle| PolicyEngine::compile_with(bundle, limits).unwrap();
    let starter = Bundle::embedded_base().unwrap();
    let files = starter.files().map(|(path, text)| (path.to_owned(), text.to_owned()));
    let credulous = files.chain([("own/rules.rego".to_owned(), CREDULOUS.to_owned())]);
    Engines {
        credulous: compile(Bundle::from_files(credulous).unwrap()),
        demo: compile(Bundle::embedded_demo().unwrap()),
        starter: compile(starter),
    }
});

/// The input is a JSON merge patch (RFC 7396) of a sound policy input.
pub(crate) fn body(input: &[u8]) {
    let Ok(patch) = json::value(input) else { return };
    let mut whole = serde_json::from_str::<Value>(SOUND).unwrap()["input"].take();
    merge(&mut whole, &patch);
    let Ok(input) = serde_json::from_value::<PolicyInput>(whole) else { return };
    let again = serde_json::from_slice(&serde_json::to_vec(&input).unwrap());
    assert_eq!(again.ok().as_ref(), Some(&input), "a recorded input is read as it was judged");
    allows_what_the_ceilings_allow(&input);
    takes_away_what_the_rules_say(&input);
    believes_no_claim(&input);
}

fn merge(target: &mut Value, patch: &Value) {
    let Value::Object(patch) = patch else {
        *target = patch.clone();
        return;
    };
    if !target.is_object() {
        *target = Value::Object(Map::new());
    }
    let members = target.as_object_mut().unwrap();
    for (name, value) in patch {
        if value.is_null() {
            members.remove(name);
        } else {
            merge(members.entry(name.as_str()).or_insert(Value::Null), value);
        }
    }
}

/// A fault is a denial (L7): the only one that any input may cause is that it takes too many instructions.
fn judged(engine: &PolicyEngine, input: &PolicyInput) -> Option<Judgement> {
    match engine.judge(input) {
        Ok(judgement) => Some(judgement),
        Err(PolicyFault::Limit("instruction")) => None,
        Err(fault) => panic!("{fault}"),
    }
}

fn is_within(input: &PolicyInput) -> bool {
    let among = |asked: &[String], most: &[String]| asked.iter().all(|one| most.contains(one));
    among(&input.requested.scopes, &input.ceiling.scopes)
        && among(&input.requested.resources, &input.ceiling.resources)
}

fn allows_what_the_ceilings_allow(input: &PolicyInput) {
    let Some(judgement) = judged(&ENGINES.starter, input) else { return };
    let expected = if is_within(input) { Outcome::Allow } else { Outcome::Deny };
    assert_eq!(judgement.outcome(), expected);
    assert_eq!((judgement.limits.scopes(), judgement.limits.lifetime()), (None, None));
}

fn takes_away_what_the_rules_say(input: &PolicyInput) {
    let Some(judgement) = judged(&ENGINES.demo, input) else { return };
    let label = |name: &str, value: &str| input.task.labels.get(name).is_some_and(|held| held == value);
    let is_worker = input.actor.class == "worker";
    let is_stranger = !input.principal.groups.iter().any(|group| group == "analysts");
    let reasons = [
        ("policy_default_deny", !is_within(input)),
        ("analysts_only", input.task.r#type == "export_customers" && is_stranger),
        ("restricted_data_worker", label("data_class", "restricted") && is_worker),
    ];
    let expected: BTreeSet<&str> =
        reasons.iter().filter(|(_, holds)| *holds).map(|(code, _)| *code).collect();
    assert_eq!(codes(&judgement.deny), expected);
    assert_eq!(judgement.require_approval.is_empty(), !label("risk", "high"));
    assert_eq!(judgement.limits.lifetime(), is_worker.then_some(120));
    assert!(judgement.limits.narrow_lifetime(input.ceiling.lifetime) <= input.ceiling.lifetime);
    assert_eq!(judgement.outcome() == Outcome::Allow, expected.is_empty() && !label("risk", "high"));
}

fn codes(reasons: &BTreeSet<Reason>) -> BTreeSet<&str> {
    reasons.iter().map(|reason| reason.code.as_str()).collect()
}

fn believes_no_claim(input: &PolicyInput) {
    let silent = PolicyInput { claimed: BTreeMap::new(), ..input.clone() };
    for engine in [&ENGINES.starter, &ENGINES.demo, &ENGINES.credulous] {
        let (Some(with), Some(without)) = (judged(engine, input), judged(engine, &silent)) else { continue };
        assert!(!without.is_stricter_than(&with), "{without:?} {with:?}");
        assert!(without.deny.is_subset(&with.deny) && (without.allow || !with.allow));
        let asked: BTreeSet<String> = input.requested.scopes.iter().cloned().collect();
        let left = with.limits.narrow_scopes(&asked);
        assert!(left.is_subset(&asked) && left.is_subset(&without.limits.narrow_scopes(&asked)));
    }
    if let Some(silence) = judged(&ENGINES.credulous, &silent) {
        assert!(codes(&silence.deny).contains("unsaid") && silence.limits.lifetime() == Some(60));
    }
}
