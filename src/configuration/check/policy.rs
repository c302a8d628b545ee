//! The policy bundle: does it compile, what does the lint say, do its tests pass.

use chrono::NaiveDate;

use super::{Findings, fault};
use crate::configuration::fault::{Fault, Place};
use crate::policy::bundle::Bundle;
use crate::policy::check::{self, Severity};
use crate::policy::fault::PolicyFault;
use crate::policy::suite;

const REMEDY: &str = "mend the bundle; `taskgrant policy check` and `policy test` show the same alone";

pub(super) fn check(found: &mut Findings, bundle: Result<Bundle, PolicyFault>, today: NaiveDate) {
    let bundle = match bundle {
        Ok(bundle) => bundle,
        Err(why) => return found.error("policy", fault(None, None, format!("policy: {why}"), REMEDY)),
    };
    let report = check::check(&bundle, today);
    for finding in &report.findings {
        let at = placed(&finding.at, &finding.problem);
        match finding.severity {
            Severity::Error => found.error("policy", at),
            Severity::Warning => found.warning("policy", at),
        }
    }
    match suite::test(&bundle) {
        Ok(report) => {
            for failed in report.failures() {
                let problem = failed.problem.as_deref().unwrap_or("it fails");
                let message = format!("policy test `{}`: {problem}", failed.name);
                found.error("policy_test", placed(&failed.at, &message));
            }
        }
        // What does not compile, the lint has told already.
        Err(_) if !report.is_ok() => {}
        Err(why) => found.error("policy", fault(None, None, format!("policy: {why}"), REMEDY)),
    }
}

/// `path:line:column` as the place it is.
fn placed(at: &str, message: &str) -> Fault {
    let mut parts = at.rsplitn(3, ':');
    let (column, line, path) = (parts.next(), parts.next(), parts.next());
    let number = |text: Option<&str>| text?.parse().ok();
    match (path, number(line), number(column)) {
        (Some(path), Some(line), Some(column)) => {
            fault(Some(path), Some(Place { line, column }), message, REMEDY)
        }
        _ => fault(Some(at), None, message, REMEDY),
    }
}
