//! `taskgrant schema`: JSON Schemas, so that editors complete and check what is declared.

use clap::Args;

use crate::config;
use crate::configuration::documents;
use crate::terminal::output::{Exit, Output};

/// Prints the JSON Schema of the objects' YAML files or of the configuration file.
///
/// Editors find it by a first line: `# yaml-language-server: $schema=objects.schema.json` in YAML, `#:schema
/// config.schema.json` in TOML.
#[derive(Args, Clone, Debug)]
pub struct SchemaArgs {
    /// Of what.
    #[arg(value_enum)]
    pub of: Of,
}

/// What there are schemas of.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Of {
    /// Declarative objects, all kinds of them.
    Objects,
    /// `taskgrant.toml`.
    Config,
}

/// Prints it.
pub fn schema(args: &SchemaArgs, output: &mut Output<'_>) -> Exit {
    let text = match args.of {
        Of::Objects => objects(),
        Of::Config => config(),
    };
    output.line(text.trim_end());
    Exit::Done
}

/// The schema of one document of declarative objects.
pub fn objects() -> String {
    format!("{:#}\n", documents::schema())
}

/// The schema of the configuration file.
pub fn config() -> String {
    format!("{:#}\n", config::schema())
}
