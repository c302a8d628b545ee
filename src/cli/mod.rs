//! The command line: one file per command.

pub mod apply;
pub mod files;
pub mod output;
mod report;
pub mod secret;
