//! The replicas of a deployment in `taskgrant policy status`: a table, where there is more than one or where one differs.

use crate::cli::time;
use crate::configuration::apply::policy::PolicyStatus;
use crate::configuration::apply::replicas::{Difference, ReplicaStatus, Runs};
use crate::policy::mode::Mode;
use crate::terminal::output::Output;

/// Characters of a version: enough for every command that takes the beginning of one.
const SHORT: usize = "sha256:".len() + 12;

const HEAD: [&str; 9] =
    ["NAME", "SEEN", "PROGRAM", "GENERATION", "BUNDLE", "DATA", "MODE", "CANDIDATE", "AGREED/NOT"];

/// Whether any of them has refused a bundle, and is there.
pub(super) fn any_refused(status: &PolicyStatus) -> bool {
    status.replicas.iter().any(|replica| replica.differs.contains(&Difference::Refused))
}

/// Tells of the replicas in `policy status`.
pub(super) fn told(status: &PolicyStatus, output: &mut Output<'_>) {
    let replicas = &status.replicas;
    let (lost, differ) = (
        replicas.iter().filter(|replica| replica.lost).count(),
        replicas.iter().filter(|replica| !replica.differs.is_empty()).count(),
    );
    if replicas.len() < 2 && lost + differ == 0 {
        return;
    }
    let marks = if differ > 0 { "; `*` marks what is not as the store says, or a problem" } else { "" };
    output.line(&format!("replicas:    {}, {differ} differ, {lost} lost{marks}", replicas.len()));
    let rows: Vec<_> = replicas.iter().map(|replica| row(replica, replicas)).collect();
    let mut widths = HEAD.map(str::len);
    for row in &rows {
        for (width, cell) in widths.iter_mut().zip(row) {
            *width = (*width).max(cell.chars().count());
        }
    }
    let line = |cells: &[String]| {
        let padded = cells.iter().zip(widths).map(|(cell, width)| format!("{cell:<width$}"));
        format!("  {}", padded.collect::<Vec<_>>().join("  ").trim_end())
    };
    output.line(&line(&HEAD.map(str::to_owned)));
    for (replica, row) in replicas.iter().zip(&rows) {
        output.line(&line(row));
        problems(replica, output);
    }
}

fn row(replica: &ReplicaStatus, all: &[ReplicaStatus]) -> [String; HEAD.len()] {
    let ReplicaStatus { name, id, program, seen_at, lost, told, .. } = replica;
    let is_ambiguous = all.iter().filter(|other| other.name == *name).count() > 1;
    let marked = |text: String, difference| {
        let mark = if replica.differs.contains(&difference) { "*" } else { "" };
        format!("{text}{mark}")
    };
    let version = |version: Option<&str>| version.map_or_else(|| "-".to_owned(), short);
    let mode = told.mode.as_ref().map_or(Mode::Enforce, |timed| timed.mode);
    let candidate = told.candidate.as_ref();
    [
        marked(if is_ambiguous { format!("{name} ({id})") } else { name.clone() }, Difference::Refused),
        if *lost { format!("lost since {}", time(*seen_at)) } else { time(*seen_at) },
        program.clone(),
        marked(told.generation.map_or_else(|| "-".to_owned(), |n| n.to_string()), Difference::Generation),
        marked(version(told.serving.as_deref()), Difference::Serving),
        marked(version(told.data.as_deref()), Difference::Data),
        marked(mode.as_str().to_owned(), Difference::Mode),
        marked(version(candidate.map(|here| here.version.as_str())), Difference::Candidate),
        candidate
            .map_or_else(|| "-".to_owned(), |here| format!("{}/{}", here.seen.agreed, here.seen.disagreed)),
    ]
}

fn short(version: &str) -> String {
    version.chars().take(SHORT).collect()
}

/// What does not fit into a row.
fn problems(replica: &ReplicaStatus, output: &mut Output<'_>) {
    let told = &replica.told;
    if let Some(why) = &told.behind {
        output.line(&format!("      behind:      {why}"));
    }
    if let Some(refused) = &told.refused {
        output.line(&format!("      refused:     at {}: {}", time(refused.at), refused.problem));
    }
    if let Some(Runs::Interpreter { reason }) = &told.runs {
        output.line(&format!("      interpreter: {reason}"));
    }
    let Some(candidate) = &told.candidate else { return };
    if let Some(problem) = &candidate.problem {
        output
            .line(&format!("      candidate:   it does not run there, and fails on every input: {problem}"));
    }
    if candidate.paused {
        output.line("      candidate:   paused: it is asked no more where it does not bite");
    }
}
