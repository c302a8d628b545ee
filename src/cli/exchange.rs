//! `taskgrant exchange`: one token exchange from the command line (RFC 8693).

use std::io::Read;
use std::time::{Duration, Instant};

use serde_json::Value;

use super::server::{Server, ServerArgs};
use super::token;
use crate::domain::request::{ACCESS_TOKEN, DEFERRED, TOKEN_EXCHANGE};
use crate::terminal::http::{Answer, Credentials, Http};
use crate::terminal::output::{Exit, Output};

/// Seconds between two polls where the server tells none (RFC 8628 §3.5).
const INTERVAL: u64 = 5;
/// Seconds after which the server is asked at least once more, however slow it wants it.
const LONGEST_INTERVAL: u64 = 60;

/// Exchange a session token, or a token of ours, for a narrower one, and print it.
///
/// Without --issuer and --token-endpoint it asks the demo that `taskgrant dev` runs here.
#[derive(Clone, Debug, clap::Args)]
pub struct Args {
    /// Which server, and who asks.
    #[command(flatten)]
    pub server: ServerArgs,
    /// A user of the demo, on whose behalf: signs them in first.
    #[arg(long, conflicts_with = "subject_token", value_name = "NAME")]
    pub user: Option<String>,
    /// The token to exchange: a file, or `-` for standard input.
    #[arg(long, value_name = "FILE")]
    pub subject_token: Option<String>,
    /// What it is: access_token, id_token or jwt.
    #[arg(long, default_value = "access_token", value_parser = ["access_token", "id_token", "jwt"])]
    pub subject_token_type: String,
    /// Kind of task, when it begins with this exchange; the agent's default if left out.
    #[arg(long, value_name = "NAME")]
    pub task_type: Option<String>,
    /// Scopes, in one text or by repetition.
    #[arg(long)]
    pub scope: Vec<String>,
    /// URI of a resource; may repeat.
    #[arg(long, value_name = "URI")]
    pub resource: Vec<String>,
    /// Name of a resource; may repeat.
    #[arg(long, value_name = "NAME")]
    pub audience: Vec<String>,
    /// Authorization details, as a JSON array (RFC 9396).
    #[arg(long, value_name = "JSON")]
    pub details: Option<String>,
    /// Lifetime wished for, in seconds.
    #[arg(long, value_name = "SECONDS")]
    pub expires_in: Option<u32>,
    /// A token that no service accepts: it can only be narrowed further.
    #[arg(long)]
    pub exchange_only: bool,
    /// A token that only this agent may exchange, once. Implies --exchange-only.
    #[arg(long, value_name = "CLIENT_ID")]
    pub delegate_to: Option<String>,
    /// Decide and record, and issue nothing. Prints the answer.
    #[arg(long)]
    pub dry_run: bool,
    /// Where a person must approve, wait for them.
    #[arg(long, conflicts_with = "dry_run")]
    pub wait: bool,
    /// Print the whole answer as JSON.
    #[arg(long)]
    pub json: bool,
}

/// Makes the exchange and prints what came of it.
pub async fn run(args: &Args, stdin: &mut (dyn Read + Send), output: &mut Output<'_>) -> Exit {
    match exchange(args, stdin, output).await {
        Ok(answer) => print(args, &answer, output),
        Err(why) => {
            output.complain(&format!("taskgrant exchange: {why}"));
            Exit::Usage
        }
    }
}

async fn exchange(
    args: &Args,
    stdin: &mut (dyn Read + Send),
    output: &mut Output<'_>,
) -> Result<Answer, String> {
    let http = Http::new().map_err(|why| why.to_string())?;
    let server = Server::find(&args.server, &http).await?;
    let subject = match &args.subject_token {
        Some(place) => token::read(place, stdin)?,
        None => session(args, &server, &http).await?,
    };
    let form = form(args, &server, &subject)?;
    let client = Credentials { id: &server.client_id, secret: &server.client_secret };
    let answer = http.post(&server.token_endpoint, Some(client), form).await;
    let mut answer = answer.map_err(|why| why.to_string())?;
    if let Some(id) = answer.text("approval_id").filter(|_| waits(&answer)) {
        output.complain(&format!("waiting until a person approves {id}: `taskgrant approvals show {id}`"));
    }
    let left = answer.body.get("expires_in").and_then(Value::as_u64).unwrap_or_default();
    let until = Instant::now() + Duration::from_secs(left + LONGEST_INTERVAL);
    while waits(&answer) && Instant::now() < until {
        let interval = answer.body.get("interval").and_then(Value::as_u64).unwrap_or(INTERVAL);
        let code = answer.text("deferral_code").unwrap_or_default().to_owned();
        tokio::time::sleep(Duration::from_secs(interval)).await;
        let form = vec![("grant_type", DEFERRED.to_owned()), ("deferral_code", code)];
        match http.post(&server.token_endpoint, Some(client), form).await {
            Ok(polled) if polled.text("retry") == Some("later") => {
                output.complain(&format!(
                    "not now: {}; waiting on",
                    polled.text("error_description").unwrap_or("-")
                ));
            }
            Ok(polled) => answer = polled,
            Err(why) => output.complain(&format!("{why}; waiting on")),
        }
    }
    Ok(answer)
}

/// Whether a person has not decided yet: then there is a code to poll with.
fn waits(answer: &Answer) -> bool {
    answer.text("deferral_code").is_some()
}

/// Signs a user of the demo in, and gives their session token of the wanted type.
async fn session(args: &Args, server: &Server, http: &Http) -> Result<String, String> {
    let demo = server.demo.as_ref().ok_or("name the token to exchange with --subject-token FILE, or `-`")?;
    let names: Vec<&str> = demo.principals.iter().map(|p| p.username.as_str()).collect();
    let choices = names.join(", ");
    let name = args.user.as_deref();
    let name =
        name.ok_or_else(|| format!("say on whose behalf: --user, one of {choices}; or --subject-token"))?;
    let user = demo.principals.iter().find(|p| p.username == name);
    let user = user.ok_or_else(|| format!("the demo has no user `{name}`, only {choices}"))?;
    let form = [("grant_type", "password"), ("username", name), ("password", &user.password)];
    let member = if args.subject_token_type == "id_token" { "id_token" } else { "access_token" };
    token::sign_in(demo, &form, member, http).await
}

fn form(args: &Args, server: &Server, subject: &str) -> Result<Vec<(&'static str, String)>, String> {
    let kind = ACCESS_TOKEN.replace("access_token", &args.subject_token_type);
    let mut form = vec![
        ("grant_type", TOKEN_EXCHANGE.to_owned()),
        ("subject_token", subject.to_owned()),
        ("subject_token_type", kind),
    ];
    form.extend(args.resource.iter().map(|uri| ("resource", uri.clone())));
    form.extend(args.audience.iter().map(|name| ("audience", name.clone())));
    if args.exchange_only || args.delegate_to.is_some() {
        let issuer = server.issuer.clone();
        form.push((
            "audience",
            issuer.ok_or("an exchange-only token is for the issuer: name it with --issuer")?,
        ));
    }
    let single = [
        ("task_type", args.task_type.clone()),
        ("scope", (!args.scope.is_empty()).then(|| args.scope.join(" "))),
        ("authorization_details", args.details.clone()),
        ("requested_expires_in", args.expires_in.map(|seconds| seconds.to_string())),
        ("delegate_to", args.delegate_to.clone()),
        ("dry_run", args.dry_run.then(|| "true".to_owned())),
        ("completion_mode", args.wait.then(|| "deferred".to_owned())),
    ];
    form.extend(single.into_iter().filter_map(|(name, value)| Some((name, value?))));
    Ok(form)
}

fn print(args: &Args, answer: &Answer, output: &mut Output<'_>) -> Exit {
    let granted = answer.status == 200;
    match answer.text("access_token").filter(|_| granted && !args.json) {
        Some(token) => output.line(token),
        None if granted || args.json => output.json(&answer.body),
        None => refusal(answer, output),
    }
    if granted { Exit::Done } else { Exit::Refused }
}

/// A refusal for people; `--json` has it for programs.
fn refusal(answer: &Answer, output: &mut Output<'_>) {
    let told = |member| answer.text(member).unwrap_or("-");
    output.complain(&format!("refused ({}): {}", told("error"), told("error_description")));
    let grantable = answer.body.get("grantable").and_then(Value::as_object);
    for (name, value) in grantable.into_iter().flatten().filter(|(_, value)| value.as_str() != Some("")) {
        let value = value.as_str().map_or_else(|| value.to_string(), str::to_owned);
        output.complain(&format!("  grantable  {name}: {value}"));
    }
    for (label, member) in
        [("reason", "reason_code"), ("ceiling", "ceiling"), ("retry", "retry"), ("decision", "decision_id")]
    {
        if let Some(text) = answer.text(member) {
            output.complain(&format!("  {label:<9}  {text}"));
        }
    }
}
