//! The two ways to run a bundle: the compiled virtual machine, and the interpreter where it cannot compile.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::num::NonZeroU32;
use std::sync::Arc;
use std::time::Duration;

use regorus::languages::rego::compiler::{Compiler, CompilerError};
use regorus::rvm::RegoVM;
use regorus::rvm::program::Program;
use regorus::rvm::vm::VmError;
use regorus::utils::limits::ExecutionTimerConfig;
use regorus::{Engine, LimitError, Value};

use super::bundle::{Bundle, Kind};
use super::declared::Overlay;
use super::exact::{Inexact, first_inexact};
use super::fault::{Location, PolicyFault, compile_fault, evaluation_fault};
use super::guards::Guards;
use super::input::PolicyInput;
use super::rules::{PACKAGE, Problem};
use super::syntax::{self, ModuleFacts};
use super::{rules, value};

const ENTRY: &str = include_str!("entry.rego");
const ENTRY_PATH: &str = "entry.rego";
const DECISION: &str = "data.taskgrant.exchange.decision";
/// Programs of task types that a worker keeps; the types beyond are decided by the whole one.
pub(super) const MOST_PROGRAMS: usize = 256;
/// Steps between two looks at the clock.
const CHECK_INTERVAL: NonZeroU32 = NonZeroU32::new(128).unwrap();

/// How much one evaluation may take.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RunLimits {
    /// Instructions of the virtual machine; a bundle of 100 lines takes about 300. The interpreter does not count.
    pub instructions: usize,
    /// Wall-clock time.
    pub time: Duration,
}

impl Default for RunLimits {
    fn default() -> Self {
        Self { instructions: 200_000, time: Duration::from_millis(50) }
    }
}

impl RunLimits {
    fn timer(self) -> ExecutionTimerConfig {
        ExecutionTimerConfig { limit: self.time, check_interval: CHECK_INTERVAL }
    }
}

/// The modules and data of a bundle, parsed; tests only where they are asked for.
pub(super) struct Parsed {
    pub(super) engine: Engine,
    pub(super) modules: Vec<(Kind, ModuleFacts)>,
    entry: ModuleFacts,
}

impl Parsed {
    /// Parses the modules of these kinds, the entry module and the data.
    pub(super) fn of(bundle: &Bundle, kinds: &[Kind], limits: RunLimits) -> Result<Self, PolicyFault> {
        let mut engine = Engine::new();
        // An error in a built-in is a fault, and with it a denial: undefined would silently skip a `deny` rule.
        engine.set_strict_builtin_errors(true);
        engine.set_execution_timer_config(limits.timer());
        let entry = add_module(&mut engine, ENTRY_PATH, ENTRY)?;
        let mut modules = Vec::new();
        for kind in kinds {
            for (path, text) in bundle.of_kind(*kind) {
                modules.push((*kind, add_module(&mut engine, path, text)?));
            }
        }
        for (path, text) in bundle.of_kind(Kind::Data) {
            add_data(&mut engine, path, text)?;
        }
        Ok(Self { engine, modules, entry })
    }

    /// The bundle's own data, all folders together.
    pub(super) fn data(&self) -> Value {
        self.engine.get_data()
    }

    /// Lays documents over the bundle's own data.
    fn lay(&mut self, overlay: &Overlay) -> Result<(), PolicyFault> {
        if overlay.is_empty() {
            return Ok(());
        }
        let mut data = self.engine.get_data();
        self.engine.clear_data();
        overlay.lay(&mut data)?;
        self.engine.add_data(data).map_err(|error| PolicyFault::Compile(error.to_string()))
    }

    /// The first thing that only the interpreter decides as Rego says.
    fn inexact(&mut self) -> Option<Inexact> {
        first_inexact(self.engine.get_modules().iter().map(AsRef::as_ref))
    }

    /// What the bundle may not say.
    pub(super) fn problems(&self) -> Vec<Problem> {
        rules::problems(&self.modules, &self.entry)
    }
}

/// Parses one module into the engine; faults name the place.
pub(super) fn add_module(engine: &mut Engine, path: &str, text: &str) -> Result<ModuleFacts, PolicyFault> {
    let parsed = engine.add_policy(path.to_owned(), text.to_owned());
    parsed.map_err(|error| compile_fault(&error.to_string()))?;
    let module = engine.get_modules().last().map(|module| syntax::facts(module));
    module.ok_or_else(|| PolicyFault::Compile("the engine lost a module".to_owned()))
}

/// Puts the document of `FOLDER/data/teams/eu.json` at `data.teams.eu`.
fn add_data(engine: &mut Engine, path: &str, text: &str) -> Result<(), PolicyFault> {
    let fault = |problem: String| PolicyFault::File { path: path.to_owned(), problem };
    let document: serde_json::Value = serde_json::from_str(text).map_err(|error| fault(error.to_string()))?;
    let place = path.strip_suffix(".json").unwrap_or(path).split('/').skip(2);
    let place: Vec<&str> = place.collect();
    if place.first() == Some(&PACKAGE[0]) {
        return Err(fault(format!("`data.{}` is the place of the rules", PACKAGE[0])));
    }
    let nested = place.iter().rev().fold(document, |inner, segment| {
        serde_json::Value::Object(serde_json::Map::from_iter([((*segment).to_owned(), inner)])) //
    });
    engine.add_data(value::json(&nested)).map_err(|error| fault(error.to_string()))
}

/// A bundle on one thread, with its own programs and data: sharing either makes two threads slower than one.
pub(super) enum Worker {
    Vm(Box<Programs>),
    Interpreter(Box<Engine>),
}

/// The programs of one bundle: the whole one, and where rules are of some task types only, those of the types that came by.
pub(super) struct Programs {
    whole: RegoVM,
    guards: Option<Guards>,
    /// By the task type that a guard names; no name for all others, and no program where only the whole one will do.
    of_types: BTreeMap<Option<String>, Option<RegoVM>>,
    data: Value,
    limits: RunLimits,
}

impl Programs {
    /// What decides on tasks of this type.
    fn of(&mut self, task_type: &str) -> Result<&mut RegoVM, PolicyFault> {
        let Some(guards) = &self.guards else { return Ok(&mut self.whole) };
        let named = guards.named(task_type).map(str::to_owned);
        let has_room = self.of_types.len() < MOST_PROGRAMS;
        let program = match self.of_types.entry(named) {
            Entry::Occupied(known) => known.into_mut().as_mut(),
            Entry::Vacant(place) if has_room => {
                let program = program_of(guards, place.key().as_deref());
                let machine = program.map(|program| machine(program, self.data.clone(), self.limits));
                place.insert(machine.transpose()?).as_mut()
            }
            Entry::Vacant(_) => None,
        };
        Ok(program.unwrap_or(&mut self.whole))
    }
}

/// The program without the rules of other task types; none if it cannot be told that it is that.
fn program_of(guards: &Guards, named: Option<&str>) -> Option<Arc<Program>> {
    let mut engine = Engine::new();
    engine.set_strict_builtin_errors(true);
    for (path, text, rules) in guards.texts(named) {
        engine.add_policy(path.to_owned(), text).ok()?;
        engine.get_modules().last().filter(|module| module.policy.len() == rules)?;
    }
    program(&mut engine).ok()?.ok()
}

fn machine(program: Arc<Program>, data: Value, limits: RunLimits) -> Result<RegoVM, PolicyFault> {
    let mut vm = RegoVM::new();
    vm.load_program(program);
    vm.set_data(data).map_err(|error| PolicyFault::Compile(error.to_string()))?;
    vm.set_max_instructions(limits.instructions);
    vm.set_execution_timer_config(Some(limits.timer()));
    Ok(vm)
}

/// How a bundle runs.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum Machine {
    /// By the compiled virtual machine.
    Vm,
    /// By the interpreter, some three times slower.
    Interpreter {
        /// Where the virtual machine gave up, if it says so.
        at: Option<Location>,
        /// What it cannot compile, or would decide otherwise than Rego says.
        reason: String,
    },
}

impl Worker {
    /// Builds the fastest worker that can run the bundle, from its source, with its own data.
    pub(super) fn build(bundle: &Bundle, limits: RunLimits) -> Result<(Self, Machine), PolicyFault> {
        Self::build_under(bundle, &Overlay::default(), limits)
    }

    /// The same with documents laid over its data.
    pub(super) fn build_under(
        bundle: &Bundle,
        overlay: &Overlay,
        limits: RunLimits,
    ) -> Result<(Self, Machine), PolicyFault> {
        let mut parsed = Parsed::of(bundle, &[Kind::Rules], limits)?;
        parsed.lay(overlay)?;
        if let Some(problem) = parsed.problems().into_iter().next() {
            return Err(problem.into());
        }
        if let Some(Inexact { at, reason }) = parsed.inexact() {
            // What does not compile at all is a fault all the same.
            program(&mut parsed.engine)?.ok();
            let machine = Machine::Interpreter { at: Some(at), reason: reason.to_owned() };
            return Ok((Self::Interpreter(Box::new(parsed.engine)), machine));
        }
        match program(&mut parsed.engine)? {
            Ok(program) => Ok((Self::vm(program, &mut parsed.engine, limits)?, Machine::Vm)),
            Err(gave_up) => Ok((Self::Interpreter(Box::new(parsed.engine)), gave_up)),
        }
    }

    /// Builds the interpreter, which places every error; for lint, tests and comparison.
    pub(super) fn interpreter(bundle: &Bundle, limits: RunLimits) -> Result<Self, PolicyFault> {
        Ok(Self::Interpreter(Box::new(Parsed::of(bundle, &[Kind::Rules], limits)?.engine)))
    }

    fn vm(program: Arc<Program>, engine: &mut Engine, limits: RunLimits) -> Result<Self, PolicyFault> {
        let guards = Guards::of(engine.get_modules().iter().map(AsRef::as_ref));
        let data = engine.get_data();
        let whole = machine(program, data.clone(), limits)?;
        Ok(Self::Vm(Box::new(Programs { whole, guards, of_types: BTreeMap::new(), data, limits })))
    }

    /// The value of `decision` for this input.
    pub(super) fn decide(&mut self, input: &PolicyInput) -> Result<Value, PolicyFault> {
        match self {
            Self::Vm(programs) => {
                let vm = programs.of(&input.task.r#type)?;
                vm.set_input(input.to_value());
                vm.execute().map_err(|error| vm_fault(&error))
            }
            Self::Interpreter(engine) => {
                engine.set_input(input.to_value());
                evaluate_decision(engine)
            }
        }
    }
}

/// The value of `decision`, by the interpreter.
pub(super) fn evaluate_decision(engine: &mut Engine) -> Result<Value, PolicyFault> {
    evaluate(engine, DECISION)
}

/// The value of one rule, by the interpreter.
pub(super) fn evaluate(engine: &mut Engine, rule: &str) -> Result<Value, PolicyFault> {
    engine.eval_rule(rule.to_owned()).map_err(|error| match error.downcast_ref::<LimitError>() {
        Some(_) => PolicyFault::Limit("time"),
        None => evaluation_fault(&error.to_string()),
    })
}

#[expect(
    clippy::wildcard_enum_match_arm,
    reason = "of the engine's eighty errors only the limits are told apart"
)]
fn vm_fault(error: &VmError) -> PolicyFault {
    match error {
        VmError::InstructionLimitExceeded { .. } => PolicyFault::Limit("instruction"),
        VmError::TimeLimitExceeded { .. } => PolicyFault::Limit("time"),
        other => evaluation_fault(&other.to_string()),
    }
}

/// Compiles for the virtual machine. `Err` inside is a bundle that only the interpreter can run; a function that does
/// not exist is a fault, since the interpreter would find it only when it gets there.
#[expect(clippy::wildcard_enum_match_arm, reason = "all other errors are things that this compiler lacks")]
fn program(engine: &mut Engine) -> Result<Result<Arc<Program>, Machine>, PolicyFault> {
    let policy = engine.compile_with_entrypoint(&DECISION.into());
    let policy = policy.map_err(|error| compile_fault(&error.to_string()))?;
    Compiler::compile_from_policy(&policy, &[DECISION]).map(Ok).or_else(|error| match &error.error {
        CompilerError::NotBuiltinFunction { .. }
        | CompilerError::UnknownBuiltinFunction { .. }
        | CompilerError::UnknownFunction { .. } => Err(compile_fault(&error.to_string())),
        reason => {
            let (at, _) = super::fault::locate(&error.to_string());
            Ok(Err(Machine::Interpreter { at, reason: reason.to_string() }))
        }
    })
}
