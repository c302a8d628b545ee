//! What `taskgrant apply` and `plan` tell people.

use serde::Serialize;
use serde_json::Value;

use crate::admin::api::{RefusalCode, Refused};
use crate::configuration::apply::Applied;
use crate::configuration::plan::{Action, Difference, Plan, Step};
use crate::terminal::escape::escaped;
use crate::terminal::output::{Exit, Output};

/// Longest value that is shown of a difference, in characters.
const SHOWN: usize = 100;

/// Tells what was applied, or would be.
pub(super) fn applied(applied: &Applied, json: bool, output: &mut Output<'_>) -> Exit {
    if json {
        output.json(applied);
        return Exit::Done;
    }
    for step in applied.plan.told() {
        tell(step, output, false);
    }
    let count = |action| count(&applied.plan, action);
    let retired = match count(Action::Retire) {
        0 => String::new(),
        retired => format!(", {retired} retired"),
    };
    let counts = format!(
        "{} created, {} changed{retired}, {} unchanged",
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

fn count(plan: &Plan, action: Action) -> usize {
    plan.steps.iter().filter(|step| step.action == action).count()
}

/// What `plan --json` prints.
#[derive(Serialize)]
struct Planned<'a> {
    /// `unchanged`, `changes` or `widens`, as the exit status says.
    outcome: &'static str,
    #[serde(flatten)]
    plan: &'a Plan,
}

/// Tells what an apply would do. `colour` paints what widens red.
pub(super) fn planned(plan: &Plan, json: bool, output: &mut Output<'_>, colour: bool) -> Exit {
    let widenings = plan.widenings().count();
    let (exit, outcome) = match (plan.is_empty(), widenings) {
        (true, _) => (Exit::Done, "unchanged"),
        (false, 0) => (Exit::Changes, "changes"),
        (false, _) => (Exit::Widens, "widens"),
    };
    if json {
        output.json(&Planned { outcome, plan });
        return exit;
    }
    for step in plan.told() {
        tell(step, output, colour);
    }
    let count = |action| count(plan, action);
    let verdict = match exit {
        Exit::Done => "nothing to change".to_owned(),
        Exit::Widens => red(&format!("to apply, widening in {widenings} places"), colour),
        Exit::Changes | Exit::Refused | Exit::Usage | Exit::Waits | Exit::Differs | Exit::Unknown => {
            "to apply".to_owned()
        }
    };
    output.line(&format!(
        "{verdict}: {} to create, {} to change, {} to retire, {} unchanged",
        count(Action::Create),
        count(Action::Change),
        count(Action::Retire),
        count(Action::Keep)
    ));
    if exit == Exit::Widens {
        output.line("  `apply` needs --allow-widening for this");
    }
    exit
}

fn red(text: &str, colour: bool) -> String {
    if colour { format!("\u{1b}[31m{text}\u{1b}[0m") } else { text.to_owned() }
}

pub(super) fn tell(step: &Step, output: &mut Output<'_>, colour: bool) {
    let (sign, version) = match step.action {
        Action::Create => ('+', String::new()),
        Action::Change => ('~', format!(" (version {})", step.version)),
        Action::Keep => (' ', String::new()),
        Action::Retire => ('-', format!(" (version {})", step.version)),
    };
    output.line(&format!("{sign} {}{version}", step.object));
    differ(&step.differences, output);
    for former in &step.formers {
        let same = if former.differences.is_empty() { ", which is the same" } else { "" };
        output.line(&format!("    before: {} (version {}){same}", former.object, former.version));
        differ(&former.differences, output);
    }
    for widening in &step.widenings {
        output.line(&red(&format!("    ! {}", escaped(&widening.message)), colour));
    }
}

fn differ(differences: &[Difference], output: &mut Output<'_>) {
    for Difference { path, before, after } in differences {
        let text = match (before, after) {
            (Some(before), Some(after)) => format!("{} -> {}", short(before), short(after)),
            (Some(before), None) => format!("- {}", short(before)),
            (None, Some(after)) => format!("+ {}", short(after)),
            (None, None) => continue,
        };
        output.line(&format!("    {}: {text}", escaped(path)));
    }
}

fn short(value: &Value) -> String {
    let text = escaped(&value.to_string());
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::configuration::fault::Fault;

    #[test]
    fn what_widens_is_red_on_a_terminal_and_marked_everywhere() {
        let object = serde_json::from_str(r#"{"kind":"TaskType","tenant":"acme","name":"t"}"#).unwrap();
        let widenings = vec![Fault::of_nothing("adds `a`".into())];
        let step = Step { widenings, ..Step::new(object, Action::Change, 2) };
        let told = |colour| {
            let (mut out, mut err) = (Vec::new(), Vec::new());
            let output = &mut Output { out: &mut out, err: &mut err };
            assert_eq!(planned(&Plan { steps: vec![step.clone()] }, false, output, colour), Exit::Widens);
            String::from_utf8(out).unwrap()
        };
        assert!(told(true).contains("\u{1b}[31m    ! adds `a`\u{1b}[0m\n"), "{}", told(true));
        assert!(told(false).contains("\n    ! adds `a`\n") && !told(false).contains('\u{1b}'));
    }
}
