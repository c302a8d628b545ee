//! What a judgement costs beside the signature arithmetic, and with many more rules. Nothing that is timed is asserted.
//!
//! Asked is what a server recorded of a real exchange, built anew each time: the typed input, the engine's values, the answer.

use std::io::Write;

use taskgrant::clock::{Clock as _, SystemClock};
use taskgrant::policy::bundle::Bundle;
use taskgrant::policy::engine::{Machine, PolicyEngine};
use taskgrant::policy::input::PolicyInput;
use taskgrant::store::decided::{Decided, Span};

use crate::drive::{Began, Cost, OPERATIONS, OWN, ROUNDS, Server, mean, post};
use crate::micro::floor;
use crate::world::{Idp, Outcome, authorization, median, objects};

/// Rules that are added.
const MORE: usize = 200;

/// Runs all of it.
pub(crate) async fn run(out: &mut impl Write, idp: &Idp) -> Outcome<()> {
    let input = recorded(idp).await?;
    let base = Bundle::embedded_base()?;
    let with = |rule: &dyn Fn(usize) -> String| {
        let rules: String = (0..MORE).map(rule).collect();
        let module = format!("package taskgrant.exchange\nimport rego.v1\n{rules}");
        let files = base.files().map(|(path, text)| (path.to_owned(), text.to_owned()));
        Bundle::from_files(files.chain([("more/rules.rego".to_owned(), module)]))
    };
    let rule = |n: usize, guard: &str| {
        format!(
            "deny contains {{\"code\": \"r{n}\", \"message\": \"m\"}} if {{ {guard}input.actor.id == \"nobody-{n}\" }}\n"
        )
    };
    let guarded = with(&|n| rule(n, &format!("input.task.type == \"task_{n}\"; ")))?;
    let unguarded = with(&|n| rule(n, ""))?;
    let [base, guarded, unguarded] = [base, guarded, unguarded].map(PolicyEngine::compile);
    let (base, guarded, unguarded) = (base?, guarded?, unguarded?);
    let (mut floors, mut of_types, mut of_all) = (Vec::new(), Vec::new(), Vec::new());
    for _ in 0..ROUNDS {
        let f = floor()?;
        let before = judge(&base, &input)?;
        let (types, all) = (judge(&guarded, &input)?, judge(&unguarded, &input)?);
        let alone = mean(before, judge(&base, &input)?);
        let f = mean(f, floor()?);
        floors.push(alone.cpu / f.cpu);
        of_types.push(types.cpu / alone.cpu);
        of_all.push(all.cpu / alone.cpu);
    }
    let mut tell = |what: &str, ratios: Vec<f64>, goal: &str| {
        writeln!(out, "{what:<48} x{:.2} cpu ({goal})", median(ratios))
    };
    tell("judgement by base / F, input built", floors, "goal: x0.60")?;
    tell("200 more rules, each of one task type", of_types, "goal: x1.50")?;
    tell("200 more rules of every task type", of_all, "no goal: each of them is tried")?;
    Ok(())
}

/// What the policy was asked of a root exchange.
async fn recorded(idp: &Idp) -> Outcome<PolicyInput> {
    let server = Server::start(objects(&idp.issuer, OWN, 10), "").await?;
    let request = idp.requests(OWN, 1)?.pop().ok_or("no request")?;
    post(&server.router, "/oauth/token", &authorization(), request).await?;
    let soon = SystemClock.now() + chrono::TimeDelta::minutes(1);
    let decided = server.app.store.decided(&Span::new(None, soon, None), 1).await?;
    let input = decided.first().and_then(Decided::unpacked).ok_or("no input on record")??;
    Ok(serde_json::from_slice(&input)?)
}

/// Judges the same again and again.
fn judge(engine: &PolicyEngine, input: &PolicyInput) -> Outcome<Cost> {
    if *engine.machine() != Machine::Vm {
        return Err("the bundle does not run in the virtual machine".into());
    }
    engine.judge(input)?;
    let began = Began::now()?;
    for _ in 0..OPERATIONS {
        let asked = input.clone();
        if !engine.judge(&asked)?.allow {
            return Err("the policy denies".into());
        }
    }
    began.cost(OPERATIONS)
}
