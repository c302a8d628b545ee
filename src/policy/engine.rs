//! Runs a bundle: one synchronous call without side effects, and no cache of decisions.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::thread::available_parallelism;

use super::bundle::Bundle;
use super::data::{Data, DataPath, Document};
use super::declared::{self, Overlay, Schemas};
use super::fault::PolicyFault;
use super::input::PolicyInput;
use super::judgement::Judgement;
use super::machine::Worker;
pub use super::machine::{Machine, RunLimits};
use super::suite::patient;
use crate::domain::decision::DataRecord;

/// Numbers the engines of this process, so that a worker of another bundle is never taken for this one's.
static GENERATION: AtomicU64 = AtomicU64::new(0);

thread_local! {
    /// The workers of this thread: one for each engine alive that it has served (active, candidate).
    static WORKERS: RefCell<Vec<Seat>> = const { RefCell::new(Vec::new()) };
}

struct Seat {
    generation: u64,
    engine: Weak<Compiled>,
    worker: Worker,
}

struct Compiled {
    generation: u64,
    bundle: Bundle,
    schemas: Schemas,
    /// Version of all documents that it was compiled under.
    under: Option<String>,
    overlay: Overlay,
    machine: Machine,
    limits: RunLimits,
    /// Workers that no thread has taken yet.
    spares: Mutex<Vec<Worker>>,
}

/// A bundle that compiles. Clones are the same engine; each thread that judges has its own worker: one that was built ahead, else it
/// builds one, once.
#[derive(Clone)]
pub struct PolicyEngine(Arc<Compiled>);

impl std::fmt::Debug for PolicyEngine {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        out.debug_struct("PolicyEngine").field("version", &self.version()).finish_non_exhaustive()
    }
}

impl PolicyEngine {
    /// Compiles a bundle under the default limits. Faults name file, line and column.
    pub fn compile(bundle: Bundle) -> Result<Self, PolicyFault> {
        Self::compile_with(bundle, RunLimits::default())
    }

    /// Compiles a bundle under these limits.
    pub fn compile_with(bundle: Bundle, limits: RunLimits) -> Result<Self, PolicyFault> {
        Self::compile_under(bundle, &Data::default(), limits)
    }

    /// The same with those documents of `data` that the bundle declares in the place of its own.
    pub fn compile_under(bundle: Bundle, data: &Data, limits: RunLimits) -> Result<Self, PolicyFault> {
        let schemas = declared::check(&bundle)?;
        let overlay = Overlay::of(&schemas, data)?;
        let (worker, machine) = Worker::build_under(&bundle, &overlay, limits)?;
        let generation = GENERATION.fetch_add(1, Ordering::Relaxed);
        let under = data.version().map(str::to_owned);
        let spares = Mutex::new(vec![worker]);
        Ok(Self(Arc::new(Compiled { generation, bundle, schemas, under, overlay, machine, limits, spares })))
    }

    /// Builds a worker ahead for each thread that may judge, so that no exchange waits for it: of thousands of rules that takes seconds.
    pub fn prepare(&self) -> Result<(), PolicyFault> {
        let ready = self.spares().len();
        for _ in ready..available_parallelism().map_or(1, usize::from) {
            let worker = self.build()?;
            self.spares().push(worker);
        }
        Ok(())
    }

    /// The same for those who decide again what was decided, with nobody waiting: as many instructions, but more time, so that
    /// a busy machine changes no answer.
    pub fn compile_patiently(bundle: Bundle, data: &Data) -> Result<Self, PolicyFault> {
        Self::compile_under(bundle, data, patient())
    }

    /// The hash that names the bundle.
    pub fn version(&self) -> &str {
        self.0.bundle.version()
    }

    /// The bundle.
    pub fn bundle(&self) -> &Bundle {
        &self.0.bundle
    }

    /// The documents in the place of the bundle's own, as a decision names them; none where it has its own only.
    pub fn data(&self) -> Option<&DataRecord> {
        self.0.overlay.record()
    }

    /// Whether it decides as if it had been compiled under all these documents.
    pub fn is_under(&self, data: &Data) -> bool {
        self.0.under.as_deref() == data.version() || !self.0.bundle.has_schemas()
    }

    /// Where documents may be put beside the bundle.
    pub fn declared(&self) -> impl Iterator<Item = &DataPath> {
        self.0.schemas.paths()
    }

    /// Whether a document fits the schemas that the bundle has for its path.
    pub fn check_document(&self, document: &Document) -> Result<(), PolicyFault> {
        self.0.schemas.check(document)
    }

    /// Whether it could decide under `data`: those documents that the bundle declares fit their schemas, find a place in its own
    /// data, and the rules compile beside them.
    pub fn fits(&self, data: &Data) -> Result<(), PolicyFault> {
        if self.is_under(data) {
            return Ok(());
        }
        Self::compile_under(self.0.bundle.clone(), data, self.0.limits).map(drop)
    }

    /// How the bundle runs.
    pub fn machine(&self) -> &Machine {
        &self.0.machine
    }

    /// Asks the policy. A fault is a denial upstream, unless an admin has set otherwise.
    ///
    /// Where the agent claims something, the policy is asked again as if it had claimed nothing, and the stricter of
    /// both answers holds in each member: a claim can deny, ask or narrow, and never lift any of that (L11, T39). What
    /// people have approved does not ask again. A fault that the claim alone brings about is told apart
    /// ([`PolicyFault::Claimed`]): nothing may be lifted for it.
    pub fn judge(&self, input: &PolicyInput) -> Result<Judgement, PolicyFault> {
        let judgement = if input.claimed.is_empty() {
            self.ask(input)?
        } else {
            let claiming = self.ask(input);
            let unclaimed = self.ask(&PolicyInput { claimed: BTreeMap::new(), ..input.clone() })?;
            claiming.map_err(|fault| PolicyFault::Claimed(Box::new(fault)))?.and(unclaimed)
        };
        Ok(judgement.without(input.approval.as_ref()))
    }

    fn ask(&self, input: &PolicyInput) -> Result<Judgement, PolicyFault> {
        self.guarded(|| self.with_worker(|worker| Judgement::parse(&worker.decide(input)?)))
    }

    /// A panic is a fault, and nothing else of it is left.
    fn guarded<T>(&self, run: impl FnOnce() -> Result<T, PolicyFault>) -> Result<T, PolicyFault> {
        catch_unwind(AssertUnwindSafe(run)).unwrap_or_else(|_| {
            // In what state it left its worker is not known: the next question builds another one.
            WORKERS.with_borrow_mut(|seats| seats.retain(|seat| seat.generation != self.0.generation));
            Err(PolicyFault::Panic)
        })
    }

    fn with_worker<T>(
        &self,
        run: impl FnOnce(&mut Worker) -> Result<T, PolicyFault>,
    ) -> Result<T, PolicyFault> {
        WORKERS.with_borrow_mut(|seats| {
            if let Some(seat) = seats.iter_mut().find(|seat| seat.generation == self.0.generation) {
                return run(&mut seat.worker);
            }
            let spare = self.spares().pop();
            let worker = spare.map_or_else(|| self.build(), Ok)?;
            run(self.sit(seats, worker))
        })
    }

    fn build(&self) -> Result<Worker, PolicyFault> {
        Worker::build_under(&self.0.bundle, &self.0.overlay, self.0.limits).map(|(worker, _)| worker)
    }

    fn spares(&self) -> MutexGuard<'_, Vec<Worker>> {
        self.0.spares.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Adds a worker, and lets go of those whose engine is gone.
    fn sit<'seats>(&self, seats: &'seats mut Vec<Seat>, worker: Worker) -> &'seats mut Worker {
        seats.retain(|seat| seat.engine.strong_count() > 0);
        let engine = Arc::downgrade(&self.0);
        &mut seats.push_mut(Seat { generation: self.0.generation, engine, worker }).worker
    }
}

/// Evaluates one input as JSON, as a server would but with more time; for `taskgrant policy eval`.
pub fn eval(bundle: &Bundle, input: &serde_json::Value) -> Result<serde_json::Value, PolicyFault> {
    let input: PolicyInput = serde_json::from_value(input.clone())
        .map_err(|error| PolicyFault::Evaluation(format!("the input does not fit its schema: {error}")))?;
    let judgement = PolicyEngine::compile_with(bundle.clone(), patient())?.judge(&input)?;
    Ok(judgement.to_json())
}

#[cfg(test)]
mod tests {
    use std::path::{Path, PathBuf};
    use std::time::Duration;

    use proptest::test_runner::{Config, TestCaseError, TestRunner};

    use super::*;
    use crate::policy::judgement::{DEFAULT_DENY, Outcome};
    use crate::policy::suite::Pair;
    use crate::policy::testing::{any_input, bundle_of, good_input, module, rules};

    const DENY_A: &str = "deny contains {\"code\": \"a\", \"message\": \"m\"}";

    /// Under limits that a busy machine does not run into.
    fn compile(bundle: Bundle) -> Result<PolicyEngine, PolicyFault> {
        PolicyEngine::compile_with(bundle, patient())
    }

    fn judge(body: &str) -> Result<Judgement, PolicyFault> {
        compile(rules(body)).unwrap().judge(&good_input())
    }

    fn codes(judgement: &Judgement) -> Vec<&str> {
        judgement.deny.iter().map(|reason| reason.code.as_str()).collect()
    }

    #[test]
    fn a_bundle_without_rules_denies() {
        let judgement = judge("").unwrap();
        assert_eq!((judgement.outcome(), codes(&judgement)), (Outcome::Deny, vec![DEFAULT_DENY]));
    }

    #[test]
    fn each_outcome_is_reached() {
        let ask =
            "require_approval contains {\"code\": \"ask\", \"message\": \"m\", \"public\": true} if true";
        assert_eq!(judge("allow if true").unwrap().outcome(), Outcome::Allow);
        assert_eq!(judge(&format!("allow if true\n{ask}")).unwrap().outcome(), Outcome::RequireApproval);
        assert_eq!(judge(&format!("allow if true\n{ask}\n{DENY_A}")).unwrap().outcome(), Outcome::Deny);
        assert_eq!(judge(ask).unwrap().outcome(), Outcome::Deny);
    }

    #[test]
    fn folders_add_up() {
        let bundle = bundle_of(&[
            (
                "a/x.rego",
                &module("allow if true\nlimits contains {\"lifetime\": 60, \"scopes\": {\"a\", \"b\"}}"),
            ),
            ("b/x.rego", &module("limits contains {\"scopes\": [\"b\", \"c\"]}\ntags contains \"seen\"")),
        ]);
        let judgement = compile(bundle).unwrap().judge(&good_input()).unwrap();
        assert_eq!(judgement.limits.lifetime(), Some(60));
        assert_eq!(judgement.limits.scopes().unwrap().iter().collect::<Vec<_>>(), ["b"]);
        assert!(judgement.tags.contains("seen"));
    }

    #[test]
    fn t39_l11_a_claim_lifts_nothing_of_what_holds_without_it() {
        let judged = |body: &str| {
            let mut input = good_input();
            input.claimed.insert("fast".to_owned(), true.into());
            compile(rules(body)).unwrap().judge(&input)
        };
        let reason = r#"{"code": "a", "message": "m"}"#;
        let limit = "allow if true\nlimits contains {\"lifetime\": 60} if not input.claimed.fast";
        assert_eq!(judged(limit).unwrap().limits.lifetime(), Some(60));
        let narrower = "limits contains {\"lifetime\": 30, \"scopes\": [\"a\"]} if input.claimed.fast";
        let both = judged(&format!("{limit}\n{narrower}")).unwrap().limits;
        assert_eq!((both.lifetime(), both.scopes().unwrap().len()), (Some(30), 1));
        let deny = judged(&format!("allow if true\ndeny contains {reason} if not input.claimed.fast"));
        assert_eq!(codes(&deny.unwrap()), ["a"]);
        let ask =
            judged(&format!("allow if true\nrequire_approval contains {reason} if not input.claimed.fast"));
        assert_eq!(ask.unwrap().outcome(), Outcome::RequireApproval);
        let faulty = judged("allow if true\nlimits contains {\"lifetime\": -1} if not input.claimed.fast");
        assert!(matches!(faulty, Err(PolicyFault::Output(_))), "{faulty:?}");
        let by_claim = judged("allow if true\nlimits contains {\"lifetime\": -1} if input.claimed.fast");
        let Err(PolicyFault::Claimed(fault)) = by_claim else { panic!("{by_claim:?}") };
        assert!(matches!(*fault, PolicyFault::Output(_)), "{fault:?}");
    }

    #[test]
    fn an_unknown_member_is_a_fault() {
        let fault = judge("allow if true\ndeny contains {\"code\": \"a\", \"message\": \"m\", \"level\": 2}");
        assert!(fault.unwrap_err().to_string().contains("unknown member \"level\""));
    }

    #[test]
    fn data_is_read_from_its_place() {
        let rules = module("allow if data.teams.eu.open\nallow if input.actor.id in data.bots");
        let bundle = bundle_of(&[
            ("a/x.rego", rules.as_str()),
            ("a/data/teams/eu.json", r#"{"open": false}"#),
            ("a/data/bots.json", r#"["support-bot"]"#),
        ]);
        assert!(compile(bundle).unwrap().judge(&good_input()).unwrap().allow);
    }

    #[test]
    fn data_may_not_pose_as_rules_nor_contradict_itself() {
        let fault = |files: &[(&str, &str)]| compile(bundle_of(files)).unwrap_err().to_string();
        assert!(fault(&[("a/data/taskgrant/exchange.json", "{}")]).contains("the place of the rules"));
        assert!(fault(&[("a/data/x.json", "{")]).starts_with("`a/data/x.json`: "));
        assert!(fault(&[("a/data/x.json", "1"), ("b/data/x.json", "2")]).starts_with("`b/data/x.json`: "));
    }

    #[test]
    fn a_bad_module_is_placed() {
        for (body, place, problem) in [
            ("allow if {", "own/rules.rego:", "expect"),
            ("\nallow if nowhere.x", "own/rules.rego:4:10: ", "undefined variable `nowhere`"),
            ("allow if missing(1)", "own/rules.rego:3:10: ", "Unknown function: 'missing'"),
        ] {
            let fault = compile(rules(body)).unwrap_err().to_string();
            assert!(fault.starts_with(place) && fault.contains(problem), "{fault}");
        }
    }

    #[test]
    fn a_fault_says_where_in_the_interpreter() {
        let interpreted = "allow if { input.now with input.now as 1 }\ndeny contains {\"code\": \"a\", \"message\": \"m\"} if count(input.now) > 0";
        let fault = judge(interpreted).unwrap_err();
        assert!(fault.to_string().starts_with("the policy failed: own/rules.rego:4:"), "{fault}");
    }

    const ENDLESS: &str = "allow if {\n\tsome a in xs; some b in xs; some c in xs; some d in xs; some e in xs; some f in xs\n\
        \ta + b + c + d + e + f == 0\n}\nxs := [1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16, 17, 18, 19, 20]";

    #[test]
    fn an_expensive_rule_runs_into_the_instruction_limit() {
        let limits = RunLimits { instructions: 10_000, time: Duration::from_mins(1) };
        let engine = PolicyEngine::compile_with(rules(ENDLESS), limits).unwrap();
        assert_eq!(engine.judge(&good_input()), Err(PolicyFault::Limit("instruction")));
        assert_eq!(
            engine.judge(&good_input()),
            Err(PolicyFault::Limit("instruction")),
            "the worker is still sound"
        );
    }

    #[test]
    fn an_expensive_rule_runs_into_the_time_limit() {
        let limits = RunLimits { instructions: usize::MAX, time: Duration::from_millis(20) };
        let engine = PolicyEngine::compile_with(rules(ENDLESS), limits).unwrap();
        assert_eq!(engine.judge(&good_input()), Err(PolicyFault::Limit("time")));
        let interpreted = format!("{ENDLESS}\ndeny contains {{}} if {{ input.x with input.x as 1; false }}");
        let engine = PolicyEngine::compile_with(rules(&interpreted), limits).unwrap();
        assert!(matches!(engine.machine(), Machine::Interpreter { .. }));
        assert_eq!(engine.judge(&good_input()), Err(PolicyFault::Limit("time")));
    }

    #[test]
    fn what_the_virtual_machine_lacks_runs_in_the_interpreter() {
        let engine = compile(rules("allow if { input.now == 1 with input.now as 1 }")).unwrap();
        let Machine::Interpreter { at: Some(at), reason } = engine.machine() else { panic!() };
        assert_eq!((at.line, reason.contains("with")), (3, true));
        assert!(engine.judge(&good_input()).unwrap().allow);
    }

    #[test]
    fn base_and_support_run_in_the_virtual_machine() {
        let engine = compile(Bundle::embedded_demo().unwrap()).unwrap();
        assert_eq!(engine.machine(), &Machine::Vm);
    }

    /// Alone, with the example of its data, and all of them together.
    #[test]
    fn every_starter_runs_in_the_virtual_machine_and_agrees_there_with_the_interpreter() {
        let policies = Path::new(env!("CARGO_MANIFEST_DIR")).join("policies");
        let starters: Vec<PathBuf> = ["support", "guardrails", "remediation", "developer-platform"]
            .map(|name| policies.join(name))
            .into();
        let examples: Vec<PathBuf> = ["support", "guardrails", "remediation", "developer-platform"]
            .map(|name| policies.join(format!("examples/acme-{name}")))
            .into();
        let base = policies.join("base");
        let mut all =
            vec![vec![base.clone()], [vec![base.clone()], starters.clone(), examples.clone()].concat()];
        for (starter, example) in starters.into_iter().zip(examples) {
            all.push(vec![starter.clone()]);
            all.push(vec![base.clone(), starter, example]);
        }
        for folders in all {
            let pair = RefCell::new(Pair::build(&Bundle::of_folders(&folders).unwrap()).unwrap());
            assert_eq!(pair.borrow().machine, Machine::Vm, "{folders:?}");
            let agree = |input| pair.borrow_mut().judge(&input).map(|_| ()).map_err(TestCaseError::fail);
            let told = TestRunner::new(Config::with_cases(64)).run(&any_input(), agree);
            assert_eq!(told, Ok(()), "{folders:?}");
        }
    }

    #[test]
    fn threads_have_workers_of_their_own() {
        let demo = compile(Bundle::embedded_demo().unwrap()).unwrap();
        let nothing = compile(rules("")).unwrap();
        demo.prepare().unwrap();
        let ready = available_parallelism().unwrap().get();
        assert_eq!(demo.spares().len(), ready);
        std::thread::scope(|scope| {
            for _ in 0..2 {
                scope.spawn(|| {
                    for _ in 0..50 {
                        assert_eq!(demo.judge(&good_input()).unwrap().outcome(), Outcome::Allow);
                        assert_eq!(nothing.judge(&good_input()).unwrap().outcome(), Outcome::Deny);
                    }
                    WORKERS.with_borrow(|seats| assert_eq!(seats.len(), 2));
                });
            }
        });
        assert_eq!(demo.spares().len(), ready.saturating_sub(2), "what was built ahead is what judges");
    }

    #[test]
    fn the_worker_of_an_engine_that_is_gone_is_let_go() {
        for _ in 0..5 {
            compile(rules("")).unwrap().judge(&good_input()).unwrap();
        }
        WORKERS.with_borrow(|seats| assert_eq!(seats.len(), 1));
    }

    #[test]
    fn one_that_panics_has_failed_and_begins_anew() {
        let engine = compile(rules("allow if true")).unwrap();
        let judged = engine.guarded(|| engine.with_worker(|_| -> Result<(), _> { panic!("in a shadow") }));
        assert_eq!(judged, Err(PolicyFault::Panic));
        WORKERS.with_borrow(|seats| assert!(seats.is_empty()));
        assert!(engine.judge(&good_input()).unwrap().allow);
    }

    #[test]
    fn eval_answers_as_json() {
        let input = serde_json::to_value(good_input()).unwrap();
        let decision = eval(&Bundle::embedded_base().unwrap(), &input).unwrap();
        assert_eq!(decision["outcome"], "allow");
        let fault = eval(&Bundle::embedded_base().unwrap(), &serde_json::json!({})).unwrap_err();
        assert!(fault.to_string().contains("does not fit its schema"), "{fault}");
    }

    #[test]
    fn the_virtual_machine_and_the_interpreter_agree() {
        let pair = RefCell::new(Pair::build(&Bundle::embedded_demo().unwrap()).unwrap());
        assert_eq!(pair.borrow().machine, Machine::Vm);
        let agree = |input| pair.borrow_mut().judge(&input).map(|_| ()).map_err(TestCaseError::fail);
        TestRunner::default().run(&any_input(), agree).unwrap();
    }
}
