//! The tour of the main job, played against the running server over real HTTP. What it prints is a shell script:
//! pasted into a fresh shell, it does the same again.

mod call;
mod steps;

use std::path::Path;

use serde_json::Value;

use self::call::TOKEN_OF;
use self::steps::{Expect, Step, VERIFIED, steps};
use super::file::DevFile;
use super::paper::Paper;
use super::place::full_path;
use super::shell::{self, CLIENTS, SERVER, Variables, quoted};
use crate::keys::jwks::JwkSet;
use crate::keys::jws::Jws;
use crate::terminal::http::{Answer, Http, Unreachable};
use crate::terminal::output::Output;

/// How to tell the tour.
pub(super) struct Guide<'a> {
    /// The running demo.
    pub(super) demo: &'a DevFile,
    /// This program, as a shell calls it.
    pub(super) program: &'a str,
    /// Where its data lies, as the user named it.
    pub(super) data: &'a str,
    /// Whether a terminal reads along.
    pub(super) colour: bool,
}

impl Guide<'_> {
    /// Plays all steps; tells how many ended otherwise than they should.
    pub(super) async fn play(&self, output: &mut Output<'_>) -> Result<usize, Unreachable> {
        let http = Http::new()?;
        let mut paper = Paper { output, colour: self.colour };
        let mut variables = shell::variables(self.demo);
        self.open(&mut paper);
        let password = |user: &str| {
            let found = self.demo.principals.iter().find(|p| p.username == user);
            found.map(|p| p.password.clone()).unwrap_or_default()
        };
        let steps = steps(password);
        let mut surprises = 0;
        for (index, step) in steps.iter().enumerate() {
            paper.gap();
            paper.title(&format!("{}. {}", index + 1, step.title));
            paper.note(step.why);
            surprises += usize::from(!self.step(step, &http, &mut paper, &mut variables).await?);
        }
        paper.gap();
        match surprises {
            0 => paper.success(&format!("{} steps, no surprise.", steps.len())),
            n => paper.surprise(&format!("{n} of {} steps did not end as they should", steps.len())),
        }
        Ok(surprises)
    }

    /// What to do after the tour.
    pub(super) fn what_next(&self, output: &mut Output<'_>) {
        let mut paper = Paper { output, colour: self.colour };
        let (program, data) = (self.program, self.data);
        paper.gap();
        paper.title("What next");
        let rows = [
            ("a token in one line", format!("{program} exchange --user alice --task-type refund_order")),
            ("what a token says", format!("{program} exchange --user alice | {program} inspect -")),
            (
                "what a client must know",
                format!("curl -s {}/.well-known/oauth-authorization-server", self.demo.issuer),
            ),
            (
                "administer, as carol in a browser",
                format!(
                    "{program} login --server {} --client-secret-file {data}/console.secret",
                    self.demo.admin.url.as_deref().unwrap_or_default()
                ),
            ),
            ("every address, user and secret", format!("{data}/dev.json")),
            ("the policy, yours to change, live", format!("{data}/policies/support/support.rego")),
            (
                "your own agents and task types",
                format!("{program} apply --config {data}/taskgrant.toml -f DIR"),
            ),
        ];
        let widest = rows.iter().map(|(what, _)| what.len()).max().unwrap_or(0);
        for (what, how) in &rows {
            paper.note(&format!("{what:widest$}   {how}"));
        }
    }

    /// What the reader's shell must know before the first step.
    fn open(&self, paper: &mut Paper<'_, '_>) {
        paper.gap();
        paper.title("A tour of the main job, to be pasted into a shell as it stands");
        paper.note("zsh takes comments after: setopt interactivecomments");
        let names = CLIENTS.map(|(name, _)| name).join(", ");
        paper.note(&format!("{SERVER} is the server; {names} are clients, as id:secret"));
        let file = full_path(&Path::new(self.data).join(shell::FILE));
        paper.command(&format!(". {}", quoted(&file.display().to_string())));
        let take = r#"sed -n 's/.*"access_token":"\([^"]*\)".*/\1/p'"#;
        paper.command(&format!("{TOKEN_OF}() {{ tee /dev/stderr | {take}; echo >&2; }}"));
    }

    /// Prints, sends and judges one step; tells whether it ended as it should.
    async fn step(
        &self,
        step: &Step,
        http: &Http,
        paper: &mut Paper<'_, '_>,
        variables: &mut Variables,
    ) -> Result<bool, Unreachable> {
        paper.command(&step.call.curl());
        if step.expect == Expect::Keys {
            let inspect = format!("{} inspect - --jwks ${SERVER}{}", self.program, step.call.path);
            paper.command(&format!("printf %s \"${VERIFIED}\" | {inspect}"));
        }
        let answer = step.call.send(http, variables).await?;
        let token = variables.get(VERIFIED).map_or("", String::as_str);
        let ended = judge(step.expect, &answer, token);
        match &ended {
            Ok(shown @ Value::Object(_)) => {
                paper.answer(&Answer { status: answer.status, body: shown.clone() }, true);
            }
            Ok(_) | Err(_) => paper.answer(&answer, ended.is_ok()),
        }
        if let Err(why) = &ended {
            paper.surprise(why);
        }
        Ok(ended.is_ok())
    }
}

/// What to show of an answer that is as it should be, null for all of it; else what it should have been.
fn judge(expect: Expect, answer: &Answer, token: &str) -> Result<Value, String> {
    let status = |wanted: u16| match answer.status {
        status if status == wanted => Ok(()),
        status => Err(format!("expected status {wanted}, not {status}")),
    };
    let member = |name: &str, wanted: &str| match answer.text(name) {
        Some(text) if text == wanted => Ok(()),
        other => Err(format!("expected {name} {wanted}, not {}", other.unwrap_or("none"))),
    };
    match expect {
        Expect::Session => status(200).and_then(|()| member("token_type", "Bearer"))?,
        Expect::Granted(scope) => status(200).and_then(|()| member("scope", scope))?,
        Expect::Refused(error, reason) => {
            status(400).and_then(|()| member("error", error)).and_then(|()| member("reason_code", reason))?;
        }
        Expect::Active(wanted) => {
            status(200)?;
            if answer.body.get("active") != Some(&Value::Bool(wanted)) {
                return Err(format!("expected active {wanted}"));
            }
            return Ok(only(&answer.body, &["active", "client_id", "exp", "scope", "sub"]));
        }
        Expect::Done => status(200)?,
        Expect::Keys => return status(200).and_then(|()| verified(&answer.body, token)),
    }
    Ok(Value::Null)
}

/// Some members of an object: the others were shown a step before.
fn only(body: &Value, members: &[&str]) -> Value {
    let kept = body.as_object().into_iter().flatten().filter(|(name, _)| members.contains(&name.as_str()));
    Value::Object(kept.map(|(name, value)| (name.clone(), value.clone())).collect())
}

/// The claims of `token`, verified with a published key set and nothing else.
fn verified(keys: &Value, token: &str) -> Result<Value, String> {
    let keys = JwkSet::parse(keys.to_string().as_bytes()).map_err(|fault| fault.to_string())?;
    let jws = Jws::parse(token).map_err(|fault| fault.to_string())?;
    let told = jws.unverified();
    let candidates = keys.find(told.kid, told.algorithm);
    let verified = jws.verify_any(&candidates).map_err(|fault| fault.to_string())?;
    Ok(Value::Object(verified.into_claims()))
}
