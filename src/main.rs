//! The `taskgrant` binary.

use std::process::ExitCode;

fn main() -> ExitCode {
    taskgrant::cli::main()
}
