//! What can be known of a deployment without starting it (`taskgrant config check`): configuration, files, objects,
//! policy. Each finding says where, what, and what mends it.

mod files;
mod objects;
mod policy;
mod settings;

use chrono::NaiveDate;
use serde::Serialize;

use super::documents::{self, Source};
use super::fault::{Fault, Place};
use crate::config::{Config, ConfigFault};
use crate::policy::bundle::Bundle;

pub use files::{Exposed, modes};
pub use settings::SettingsFile;

/// How bad a finding is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Severity {
    /// The server would not start, or would be unsafe, or something is overdue.
    Error,
    /// Somebody should look at it.
    Warning,
}

/// One thing to mend or to look at.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Finding {
    /// How bad it is.
    pub severity: Severity,
    /// What it is, for programs.
    pub code: &'static str,
    /// Where, what, and under `suggestion` the remedy.
    #[serde(flatten)]
    pub fault: Fault,
}

/// What is checked.
pub struct Subject<'a> {
    /// The configuration file, and what it comes to together with the environment.
    pub settings: SettingsFile,
    /// The same, read.
    pub config: &'a Config,
    /// The files of objects.
    pub sources: &'a [Source],
    /// Whether what is fine for a trial is a failure.
    pub production: bool,
    /// The present day, for `review_by`.
    pub today: NaiveDate,
}

/// What was found so far.
#[derive(Debug, Default)]
pub struct Findings {
    production: bool,
    found: Vec<Finding>,
}

/// Checks all of `subject`: findings in the order of configuration, files, objects, policy.
pub fn check(subject: &Subject<'_>) -> Vec<Finding> {
    let mut found = Findings { production: subject.production, found: Vec::new() };
    settings::check(&mut found, &subject.settings, subject.config);
    files::check(&mut found, subject.config);
    if !subject.sources.is_empty() {
        match documents::read(subject.sources) {
            Ok(read) => objects::check(&mut found, &read, subject.config, subject.today),
            Err(faults) => faults.into_iter().for_each(|fault| found.error("objects", fault)),
        }
    }
    policy::check(&mut found, Bundle::of_folders(&subject.config.policy.bundles), subject.today);
    found.found
}

/// What is wrong with a configuration that cannot be read.
pub fn unreadable(settings: &SettingsFile, fault: &ConfigFault) -> Vec<Finding> {
    let mut found = Findings::default();
    settings::unreadable(&mut found, settings, fault);
    found.found
}

impl Findings {
    fn add(&mut self, severity: Severity, code: &'static str, fault: Fault) {
        self.found.push(Finding { severity, code, fault });
    }

    fn error(&mut self, code: &'static str, fault: Fault) {
        self.add(Severity::Error, code, fault);
    }

    fn warning(&mut self, code: &'static str, fault: Fault) {
        self.add(Severity::Warning, code, fault);
    }

    /// Fine for a trial, a failure in production.
    fn trial(&mut self, code: &'static str, fault: Fault) {
        let severity = if self.production { Severity::Error } else { Severity::Warning };
        self.add(severity, code, fault);
    }
}

/// A fault of a file, or of nothing in particular, with its remedy.
fn fault(file: Option<&str>, place: Option<Place>, message: impl Into<String>, remedy: &str) -> Fault {
    let suggestion = Some(remedy.to_owned());
    match file {
        Some(file) => Fault { suggestion, ..Fault::of_file(file, place, message) },
        None => Fault { suggestion, ..Fault::of_nothing(message.into()) },
    }
}
