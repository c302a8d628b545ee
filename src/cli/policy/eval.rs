//! `taskgrant policy eval`: one input, decided by a bundle, explained, or asked of any other Rego.

use std::io::Read as _;
use std::path::{Path, PathBuf};

use serde_json::Value;

use crate::policy::bundle::Bundle;
use crate::policy::explain::{Fired, explain};
use crate::policy::fault::PolicyFault;
use crate::policy::{engine, foreign};
use crate::terminal::output::{Exit, Output};

#[derive(Debug, clap::Args)]
pub(super) struct Eval {
    /// Bundle folders, in order; the starter that comes with the binary when left out.
    #[arg(conflicts_with = "rego")]
    folders: Vec<PathBuf>,
    /// The input, a JSON file, or `-` for standard input.
    #[arg(long, value_name = "FILE")]
    input: PathBuf,
    /// Tell also which rules fire: file and line, title and owner, and what each adds.
    #[arg(long, conflicts_with = "rego")]
    explain: bool,
    /// Evaluate this Rego instead of a bundle, whatever its package, on any JSON.
    #[arg(long, value_name = "FILE", num_args = 1.., requires = "query")]
    rego: Vec<PathBuf>,
    /// What to ask of it, such as `data.terraform.deny`.
    #[arg(long, value_name = "QUERY", requires = "rego")]
    query: Option<String>,
}

/// Why there is no answer.
enum Fault {
    /// A file cannot be read, or holds no JSON.
    File(String),
    Policy(PolicyFault),
}

impl From<PolicyFault> for Fault {
    fn from(fault: PolicyFault) -> Self {
        Self::Policy(fault)
    }
}

/// Evaluates one input.
pub(super) fn run(args: &Eval, output: &mut Output<'_>) -> Result<Exit, PolicyFault> {
    let ended = match &args.query {
        Some(query) => ask(args, query, output),
        None => decide(args, output),
    };
    match ended {
        Ok(exit) => Ok(exit),
        Err(Fault::Policy(fault)) => Err(fault),
        Err(Fault::File(why)) => {
            output.complain(&why);
            Ok(Exit::Usage)
        }
    }
}

fn decide(args: &Eval, output: &mut Output<'_>) -> Result<Exit, Fault> {
    let bundle = Bundle::of_folders(&args.folders)?;
    let input = input(&args.input)?;
    let mut told = engine::eval(&bundle, &input)?;
    if args.explain {
        // It has just been read as one.
        let input = serde_json::from_value(input).map_err(|error| Fault::File(error.to_string()))?;
        let fired: Vec<Fired> = explain(&bundle, &input)?;
        if let Some(told) = told.as_object_mut() {
            told.insert("rules".to_owned(), serde_json::to_value(fired).unwrap_or_default());
        }
    }
    output.json(&told);
    Ok(Exit::Done)
}

fn ask(args: &Eval, query: &str, output: &mut Output<'_>) -> Result<Exit, Fault> {
    let module = |path: &PathBuf| Ok((path.display().to_string(), read(path)?));
    let modules = args.rego.iter().map(module).collect::<Result<Vec<_>, Fault>>()?;
    let Some(value) = foreign::evaluate(&modules, query, &input(&args.input)?)? else {
        output.complain(&format!("`{query}` is undefined for this input"));
        return Ok(Exit::Refused);
    };
    output.json(&value);
    Ok(Exit::Done)
}

fn input(path: &Path) -> Result<Value, Fault> {
    serde_json::from_str(&read(path)?).map_err(|fault| Fault::File(format!("{}: {fault}", path.display())))
}

fn read(path: &Path) -> Result<String, Fault> {
    let mut text = String::new();
    let read = if path == Path::new("-") {
        std::io::stdin().read_to_string(&mut text).map(|_| text)
    } else {
        std::fs::read_to_string(path)
    };
    read.map_err(|fault| Fault::File(format!("{}: {fault}", path.display())))
}
