//! What goes wrong with a policy, as facts.

use std::fmt;

/// A place in a bundle: `path:line:col`, both counted from 1.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, serde::Serialize)]
pub struct Location {
    /// Bundle path, such as `base/allow.rego`.
    pub path: String,
    /// Line.
    pub line: u32,
    /// Column.
    pub col: u32,
}

impl fmt::Display for Location {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "{}:{}:{}", self.path, self.line, self.col)
    }
}

/// Why a bundle cannot be loaded or compiled, or why it gave no judgement. Upstream this is a denial, never an allow.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PolicyFault {
    /// A folder or file could not be read, or has no place in a bundle.
    #[error("`{path}`: {problem}")]
    File {
        /// The file or folder.
        path: String,
        /// What is wrong with it.
        problem: String,
    },
    /// Stored bytes are not a bundle.
    #[error("these bytes are not a policy bundle")]
    NotABundle,
    /// There is no rule in the bundle.
    #[error("the bundle has no rules, and so would deny everything: they are files `*.rego`")]
    NoRules,
    /// A module does not parse, does not compile, or does what bundles may not.
    #[error("{at}: {problem}")]
    Source {
        /// Where.
        at: Location,
        /// What is wrong there.
        problem: String,
    },
    /// The engine refuses the bundle and does not say where.
    #[error("the bundle does not compile: {0}")]
    Compile(String),
    /// A data document does not fit the bundle.
    #[error("the data document `{path}` is not taken: {problem}")]
    Data {
        /// Where it lies below `data`.
        path: String,
        /// What is wrong with it; nothing of its values.
        problem: String,
    },
    /// The evaluation took more instructions or more time than allowed.
    #[error("the policy ran over its {0} limit")]
    Limit(&'static str),
    /// The evaluation failed.
    #[error("the policy failed: {0}")]
    Evaluation(String),
    /// The engine panicked.
    #[error("the policy panicked")]
    Panic,
    /// The answer is not a judgement.
    #[error("the policy's output is refused: {0}")]
    Output(String),
    /// What the agent claims brings this about: without the claim the policy answers.
    #[error("with what the agent claims, {0}")]
    Claimed(Box<PolicyFault>),
}

impl PolicyFault {
    /// What kind of fault it is, and where: nothing of what an engine says, which may quote the input.
    pub fn kind(&self) -> String {
        match self {
            Self::File { path, .. } => format!("`{path}` is not taken"),
            Self::Source { at, .. } => format!("{at}: it does not compile"),
            Self::Data { path, .. } => format!("the data document `{path}` does not fit"),
            Self::Compile(_) => "the bundle does not compile".to_owned(),
            Self::NotABundle | Self::NoRules | Self::Limit(_) | Self::Panic => self.to_string(),
            Self::Evaluation(text) => match text.split_once(": ").and_then(|(at, _)| place(at)) {
                Some(at) => format!("the policy failed at {at}"),
                None => "the policy failed".to_owned(),
            },
            Self::Output(_) => "the policy's output is refused".to_owned(),
            Self::Claimed(fault) => format!("with what the agent claims, {}", fault.kind()),
        }
    }

    /// Whether the engine panicked, whoever brought that about.
    pub fn is_panic(&self) -> bool {
        matches!(self.itself(), Self::Panic)
    }

    /// Whether the evaluation ran over its limits, whoever brought that about.
    pub fn is_overrun(&self) -> bool {
        matches!(self.itself(), Self::Limit(_))
    }

    /// The fault, whether or not a claim brings it about.
    fn itself(&self) -> &Self {
        if let Self::Claimed(fault) = self { fault.itself() } else { self }
    }
}

/// Reads the engine's error text, `--> path:line:col` … `error: sentence`, into a place and a sentence.
pub(super) fn locate(text: &str) -> (Option<Location>, String) {
    let at = text.lines().find_map(|line| place(line.strip_prefix("--> ")?));
    let problem = text.lines().find_map(|line| line.strip_prefix("error: "));
    (at, problem.unwrap_or_else(|| text.trim()).to_owned())
}

/// `path:line:col`; the path itself may hold colons.
fn place(text: &str) -> Option<Location> {
    let mut parts = text.trim().rsplitn(3, ':');
    let col = parts.next()?.parse().ok()?;
    let line = parts.next()?.parse().ok()?;
    Some(Location { path: parts.next()?.to_owned(), line, col })
}

/// The engine's refusal of a module.
pub(super) fn compile_fault(text: &str) -> PolicyFault {
    match locate(text) {
        (Some(at), problem) => PolicyFault::Source { at, problem },
        (None, problem) => PolicyFault::Compile(problem),
    }
}

/// The engine's failure to evaluate.
pub(super) fn evaluation_fault(text: &str) -> PolicyFault {
    match locate(text) {
        (Some(at), problem) => PolicyFault::Evaluation(format!("{at}: {problem}")),
        (None, problem) => PolicyFault::Evaluation(problem),
    }
}
