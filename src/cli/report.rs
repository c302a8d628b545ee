//! What `taskgrant apply` tells people.

use serde_json::Value;

use crate::admin::api::{RefusalCode, Refused};
use crate::configuration::apply::Applied;
use crate::configuration::plan::{Action, Difference, Step};
use crate::terminal::output::{Exit, Output};

/// Longest value that is shown of a difference, in characters.
const SHOWN: usize = 100;

/// Tells what was applied, or would be.
pub(super) fn applied(applied: &Applied, json: bool, output: &mut Output<'_>) -> Exit {
    if json {
        output.json(applied);
        return Exit::Done;
    }
    for step in applied.plan.changes() {
        tell(step, output);
    }
    let count = |action| applied.plan.steps.iter().filter(|s| s.action == action).count();
    let counts = format!(
        "{} created, {} changed, {} unchanged",
        count(Action::Create),
        count(Action::Change),
        count(Action::Keep)
    );
    match (applied.dry_run, &applied.decision_id) {
        (true, _) => output.line(&format!("dry run, nothing is applied: {counts}")),
        (false, Some(id)) => output.line(&format!("applied: {counts} (decision {id})")),
        (false, None) => output.line(&format!("nothing to change: {counts}")),
    }
    Exit::Done
}

fn tell(step: &Step, output: &mut Output<'_>) {
    let (sign, version) = match step.action {
        Action::Create => ('+', String::new()),
        Action::Change => ('~', format!(" (version {})", step.version)),
        Action::Keep => (' ', String::new()),
    };
    output.line(&format!("{sign} {}{version}", step.object));
    for Difference { path, before, after } in &step.differences {
        let text = match (before, after) {
            (Some(before), Some(after)) => format!("{} -> {}", short(before), short(after)),
            (Some(before), None) => format!("- {}", short(before)),
            (None, Some(after)) => format!("+ {}", short(after)),
            (None, None) => continue,
        };
        output.line(&format!("    {path}: {text}"));
    }
    for widening in &step.widenings {
        output.line(&format!("    ! {}", widening.message));
    }
}

fn short(value: &Value) -> String {
    let text = value.to_string();
    if text.chars().count() <= SHOWN {
        return text;
    }
    text.chars().take(SHOWN).chain("...".chars()).collect()
}

/// Tells why nothing was applied: a line for each fault, and below it what would mend it.
pub(super) fn refused(refused: &Refused, json: bool, output: &mut Output<'_>) -> Exit {
    if json {
        output.json(refused);
        return Exit::Refused;
    }
    for fault in &refused.faults {
        output.complain(&fault.to_string());
        if let Some(suggestion) = &fault.suggestion {
            output.complain(&format!("  {suggestion}"));
        }
    }
    output.complain(&refused.message);
    if refused.error == RefusalCode::ConfigurationWidens {
        output.complain("  if that is meant, apply again with --allow-widening");
    }
    Exit::Refused
}
