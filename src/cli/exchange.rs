//! `taskgrant exchange`: one token exchange from the command line (RFC 8693).

use std::io::Read;
use std::path::PathBuf;

use serde_json::Value;

use super::token;
use crate::dev::file::DevFile;
use crate::domain::request::{ACCESS_TOKEN, TOKEN_EXCHANGE};
use crate::terminal::http::{Answer, Credentials, Http};
use crate::terminal::output::{Exit, Output};

/// Exchange a session token, or a token of ours, for a narrower one, and print it.
///
/// Without --issuer and --token-endpoint it asks the demo that `taskgrant dev` runs here.
#[derive(Clone, Debug, clap::Args)]
pub struct Args {
    /// What a running `taskgrant dev` wrote.
    #[arg(long, default_value = ".taskgrant/dev.json", value_name = "FILE")]
    pub dev_file: PathBuf,
    /// Another server, by its issuer URL: its metadata names the token endpoint.
    #[arg(long, value_name = "URL", help_heading = "Another server")]
    pub issuer: Option<String>,
    /// Its token endpoint, where the metadata shall not be asked.
    #[arg(long, value_name = "URL", help_heading = "Another server")]
    pub token_endpoint: Option<String>,
    /// The agent that asks; in the demo the first one unless told otherwise.
    #[arg(long, value_name = "ID")]
    pub client_id: Option<String>,
    /// Environment variable with the agent's secret; the demo's are known.
    #[arg(long, value_name = "NAME")]
    pub client_secret_env: Option<String>,
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
    /// Print the whole answer as JSON.
    #[arg(long)]
    pub json: bool,
}

/// The server to ask, and who asks.
struct Server {
    issuer: Option<String>,
    token_endpoint: String,
    client_id: String,
    client_secret: String,
    demo: Option<DevFile>,
}

/// Makes the exchange and prints what came of it.
pub async fn run(args: &Args, stdin: &mut (dyn Read + Send), output: &mut Output<'_>) -> Exit {
    match exchange(args, stdin).await {
        Ok(answer) => print(args, &answer, output),
        Err(why) => {
            output.complain(&format!("taskgrant exchange: {why}"));
            Exit::Usage
        }
    }
}

async fn exchange(args: &Args, stdin: &mut (dyn Read + Send)) -> Result<Answer, String> {
    let http = Http::new().map_err(|why| why.to_string())?;
    let server = Server::find(args, &http).await?;
    let subject = match &args.subject_token {
        Some(place) => token::read(place, stdin)?,
        None => session(args, &server, &http).await?,
    };
    let form = form(args, &server, &subject)?;
    let client = Credentials { id: &server.client_id, secret: &server.client_secret };
    http.post(&server.token_endpoint, Some(client), form).await.map_err(|why| why.to_string())
}

impl Server {
    async fn find(args: &Args, http: &Http) -> Result<Self, String> {
        let token_endpoint = match (&args.token_endpoint, &args.issuer) {
            (None, None) => return Self::demo(args),
            (Some(endpoint), _) => endpoint.clone(),
            (None, Some(issuer)) => discover(issuer, http).await?,
        };
        let missing = |option: &str| format!("another server needs {option}");
        let client_id = args.client_id.clone().ok_or_else(|| missing("--client-id"))?;
        let client_secret = secret(args)?.ok_or_else(|| missing("--client-secret-env"))?;
        Ok(Self { issuer: args.issuer.clone(), token_endpoint, client_id, client_secret, demo: None })
    }

    fn demo(args: &Args) -> Result<Self, String> {
        let demo = DevFile::read(&args.dev_file).map_err(|why| {
            let file = args.dev_file.display();
            format!(
                "no demo runs here (`{file}`: {why}): start `taskgrant dev`, or name a server with --issuer"
            )
        })?;
        let known: Vec<&str> = demo.agents.iter().map(|a| a.client_id.as_str()).collect();
        let wanted = args.client_id.as_deref().or(known.first().copied()).unwrap_or_default();
        let agent = demo.agents.iter().find(|a| a.client_id == wanted);
        let client_secret = match (secret(args)?, agent) {
            (Some(given), _) => given,
            (None, Some(agent)) => agent.client_secret.clone(),
            (None, None) => {
                let known = known.join(", ");
                return Err(format!(
                    "the demo has no agent `{wanted}`, only {known}; for yours give --client-secret-env"
                ));
            }
        };
        Ok(Self {
            issuer: Some(demo.issuer.clone()),
            token_endpoint: demo.token_endpoint.clone(),
            client_id: wanted.to_owned(),
            client_secret,
            demo: Some(demo),
        })
    }
}

/// The token endpoint that the metadata of `issuer` names (RFC 8414 §3); the metadata must be the issuer's own.
async fn discover(issuer: &str, http: &Http) -> Result<String, String> {
    let split = issuer.find("://").map_or(0, |at| at + 3);
    let path = issuer.get(split..).and_then(|rest| rest.find('/')).map_or(issuer.len(), |at| at + split);
    let (host, path) = issuer.split_at(path);
    let url = format!("{host}/.well-known/oauth-authorization-server{}", path.trim_end_matches('/'));
    let metadata = http.get(&url).await.map_err(|why| why.to_string())?;
    match (metadata.text("issuer"), metadata.text("token_endpoint")) {
        (Some(named), Some(endpoint)) if named == issuer => Ok(endpoint.to_owned()),
        (Some(named), Some(_)) => Err(format!("{url} is of the issuer `{named}`, not `{issuer}`")),
        _ => Err(format!("{url} is no authorization server metadata (status {})", metadata.status)),
    }
}

#[expect(clippy::disallowed_methods, reason = "the operator names the variable: it is not configuration")]
fn secret(args: &Args) -> Result<Option<String>, String> {
    let Some(name) = &args.client_secret_env else { return Ok(None) };
    std::env::var(name)
        .map(Some)
        .map_err(|_| format!("the environment variable `{name}` is not set, or is no text"))
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
    let answer = http.post(&demo.identity_provider.token_endpoint, None, form).await;
    let answer = answer.map_err(|why| why.to_string())?;
    let member = if args.subject_token_type == "id_token" { "id_token" } else { "access_token" };
    let refused = || format!("the demo provider does not sign `{name}` in: {}", answer.body);
    answer.text(member).map(str::to_owned).ok_or_else(refused)
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
