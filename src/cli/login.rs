//! `taskgrant login`: a token for the admin API. People sign in at their identity provider, in a browser; what that vouches for is
//! exchanged like any other session (DESIGN §9).

mod browser;
mod provider;

use std::io::Read;
use std::path::PathBuf;
use std::str::FromStr as _;

use serde_json::Value;

use super::server::{Metadata, secret_of};
use super::stored::{Stored, server_url};
use super::target::TrustArgs;
use super::token;
use crate::admin::login::{Console, LoginInfo, SignIn};
use crate::admin::transport::safe_url;
use crate::clock::Clock;
use crate::domain::built_in::admin_uri;
use crate::domain::ids::{shown, shown_up_to};
use crate::domain::objects::{Role, SessionTokenKind};
use crate::domain::request::{ACCESS_TOKEN, TOKEN_EXCHANGE};
use crate::terminal::http::{Credentials, Http};
use crate::terminal::output::{Exit, Output};

/// Longest text of another server that is shown, in characters.
pub(super) const LONGEST_WHY: usize = 1000;

/// Sign in as an administrator, and keep the token for the commands that take --server.
///
/// It opens a port on this machine for the browser's answer (RFC 8252); with --device the browser may be elsewhere.
#[derive(Clone, Debug, clap::Args)]
pub struct LoginArgs {
    /// URL of the admin API.
    #[arg(long, value_name = "URL")]
    pub server: String,
    /// The Taskgrant issuer that the server must be of; needed where its host is not that of --server.
    #[arg(long, value_name = "URL")]
    pub issuer: Option<String>,
    /// What the token is for: admin, approve or audit.
    #[arg(long, default_value = "admin", value_parser = role, value_name = "ROLE")]
    pub role: Role,
    /// The console; the server's only one if left out.
    #[arg(long, value_name = "ID")]
    pub client_id: Option<String>,
    /// Environment variable with the console's secret.
    #[arg(long, value_name = "NAME", required_unless_present = "client_secret_file")]
    pub client_secret_env: Option<String>,
    /// File with the console's secret, which group and others may not read.
    #[arg(long, value_name = "FILE", conflicts_with = "client_secret_env")]
    pub client_secret_file: Option<PathBuf>,
    /// The trusted issuer to sign in at, where the console has several.
    #[arg(long, value_name = "ISS")]
    pub sign_in_at: Option<String>,
    /// Sign in on another device: the page and the code to type there are printed (RFC 8628).
    #[arg(long)]
    pub device: bool,
    /// A further scope to ask the identity provider for, such as the one that brings groups; may repeat.
    #[arg(long, value_name = "SCOPE")]
    pub scope: Vec<String>,
    /// A session token that you have already, instead: FILE, or `-` for standard input; not the token itself.
    #[arg(long, value_name = "FILE", conflicts_with = "device")]
    pub session_token: Option<String>,
    /// What it is: `access_token`, `id_token` or `jwt`; what the server takes of the identity provider if left out.
    #[arg(long, value_parser = ["access_token", "id_token", "jwt"], value_name = "KIND")]
    pub session_token_type: Option<String>,
    /// Where the token is kept, instead of the user's configuration folder.
    #[arg(long, value_name = "FILE")]
    pub token_file: Option<PathBuf>,
    /// Whom it trusts.
    #[command(flatten)]
    pub trust: TrustArgs,
}

fn role(word: &str) -> Result<Role, String> {
    let found = Role::ALL.into_iter().find(|role| role.as_str() == word);
    found.ok_or_else(|| "one of admin, approve, audit".to_owned())
}

/// Signs in, and keeps the token.
pub async fn run(
    args: &LoginArgs,
    clock: &dyn Clock,
    stdin: &mut (dyn Read + Send),
    output: &mut Output<'_>,
) -> Exit {
    match login(args, clock, stdin, output).await {
        Ok(Done::Kept { stored, path }) => {
            let left = stored.expires_at.saturating_sub(clock.now().timestamp());
            output
                .line(&format!("signed in at {} for the role {}, for {left} s", stored.server, stored.role));
            output.line(&format!("the token is in {}", path.display()));
            Exit::Done
        }
        Ok(Done::Refused(body)) => {
            let told = |member| body.get(member).and_then(Value::as_str).unwrap_or("-");
            let told = |member| shown_up_to(told(member), LONGEST_WHY);
            output.complain(&format!("refused ({}): {}", told("reason_code"), told("error_description")));
            Exit::Refused
        }
        Err(why) => {
            output.complain(&format!("taskgrant login: {why}"));
            Exit::Usage
        }
    }
}

enum Done {
    Kept { stored: Stored, path: PathBuf },
    Refused(Value),
}

async fn login(
    args: &LoginArgs,
    clock: &dyn Clock,
    stdin: &mut (dyn Read + Send),
    output: &mut Output<'_>,
) -> Result<Done, String> {
    let http = Http::safe(&args.trust.authorities()?).map_err(|why| why.to_string())?;
    let secret = secret_of(args.client_secret_env.as_deref(), args.client_secret_file.as_deref())?;
    let server = server_url(&args.server);
    let at = safe_url(&server).map_err(|why| format!("--server: {why}"))?;
    let info = info(&server, &http).await?;
    is_meant(args.issuer.as_deref(), &at, &info)?;
    let console = console(args, &info)?;
    let metadata = Metadata::of(&info.issuer, &http).await?;
    safe_url(&metadata.token_endpoint).map_err(|why| format!("the server's token endpoint: {why}"))?;
    let proven = is_its_own(&at, &metadata)?;
    output.line(&format!("signing in to administer the Taskgrant server {}", shown(&info.issuer)));
    if !proven {
        output.line(&format!(
            "it is not proven that {server} is its admin API: its metadata name none (`admin.public_url` of its configuration)"
        ));
    }
    let (session, kind) = session(args, console, &http, (stdin, output)).await?;
    let form = [
        ("grant_type", TOKEN_EXCHANGE.to_owned()),
        ("subject_token", session),
        ("subject_token_type", ACCESS_TOKEN.replace("access_token", kind.as_str())),
        ("task_type", args.role.task_type().to_owned()),
        ("resource", info.resource.clone()),
    ];
    let client = Credentials { id: console.client_id.as_str(), secret: &secret };
    let asked = clock.now().timestamp();
    let answer = http.post(&metadata.token_endpoint, Some(client), form).await;
    let answer = answer.map_err(|why| why.to_string())?;
    let Some(token) = answer.text("access_token").filter(|_| answer.status == 200) else {
        return Ok(Done::Refused(answer.body));
    };
    let lives = answer.body.get("expires_in").and_then(Value::as_i64).unwrap_or_default();
    let stored = Stored {
        server,
        issuer: info.issuer.clone(),
        client_id: console.client_id.to_string(),
        role: args.role,
        access_token: token.to_owned(),
        expires_at: asked.saturating_add(lives),
    };
    let path = stored.save(args.token_file.as_deref())?;
    Ok(Done::Kept { stored, path })
}

async fn info(server: &str, http: &Http) -> Result<LoginInfo, String> {
    let url = format!("{server}/admin/v1/login");
    let answer = http.get(&url).await.map_err(|why| why.to_string())?;
    let status = answer.status;
    serde_json::from_value(answer.body).map_err(|_| {
        format!("{url} is no admin API (status {status}): --server is the URL that it is reached at")
    })
}

/// Whether the server is the one that is meant: of the issuer that the user names, else of one on its own host; and whether the
/// token is to be for the admin API of just that issuer. A server that tells another's would be shown a token that is good there.
fn is_meant(meant: Option<&str>, at: &reqwest::Url, info: &LoginInfo) -> Result<(), String> {
    let told = shown(&info.issuer);
    let issuer = safe_url(&info.issuer).map_err(|why| format!("the issuer that the server names: {why}"))?;
    match meant.map(server_url) {
        Some(meant) if meant != info.issuer => {
            return Err(format!(
                "the server says that it is `{told}`, and not `{meant}`, as --issuer has it"
            ));
        }
        None if at.host_str() != issuer.host_str() => {
            return Err(format!(
                "the server says that it is `{told}`, on another host than {at}: name the issuer that you mean with --issuer"
            ));
        }
        Some(_) | None => {}
    }
    if admin_uri(&info.issuer).is_none_or(|own| own.as_str() != info.resource) {
        let resource = shown(&info.resource);
        return Err(format!(
            "the server asks for a token for `{resource}`, and its own admin API is `{told}/admin`: is --server the right one?"
        ));
    }
    Ok(())
}

/// Whether the issuer itself says that its admin API is the server: what the server says of itself, any other can say too, and would
/// then be sent the token with the next command. False where it names none; an error where it names another.
fn is_its_own(at: &reqwest::Url, metadata: &Metadata) -> Result<bool, String> {
    let Some(named) = &metadata.admin_api else { return Ok(false) };
    let own =
        safe_url(named).map_err(|why| format!("the admin API that the issuer's metadata name: {why}"))?;
    let place = |url: &reqwest::Url| {
        let more = url.query().is_some() || url.fragment().is_some();
        (url.origin(), url.path().trim_end_matches('/').to_owned(), more)
    };
    if place(at) == place(&own) {
        return Ok(true);
    }
    Err(format!(
        "the issuer's metadata name another admin API than --server has: `{}`, and not `{}`; nothing is sent there",
        shown_up_to(named, LONGEST_WHY),
        shown_up_to(at.as_str(), LONGEST_WHY)
    ))
}

/// The console to work through.
fn console<'i>(args: &LoginArgs, info: &'i LoginInfo) -> Result<&'i Console, String> {
    let known: Vec<&str> = info.consoles.iter().map(|console| console.client_id.as_str()).collect();
    let found = match (&args.client_id, info.consoles.as_slice()) {
        (Some(wanted), all) => all.iter().find(|console| console.client_id.as_str() == wanted),
        (None, [only]) => Some(only),
        (None, []) => {
            return Err(
                "the server has no console yet: `taskgrant bootstrap-admin`, on its machine".to_owned()
            );
        }
        (None, _) => None,
    };
    found.ok_or_else(|| format!("name a console with --client-id: {}", known.join(", ")))
}

/// A session token of a person who signs in just now, and what it is.
async fn session(
    args: &LoginArgs,
    console: &Console,
    http: &Http,
    (stdin, output): (&mut (dyn Read + Send), &mut Output<'_>),
) -> Result<(String, SessionTokenKind), String> {
    let named = args.session_token_type.as_deref().map(SessionTokenKind::from_str).transpose()?;
    if let Some(place) = &args.session_token {
        // Where it is from is asked only where what it is hangs on it.
        let kind = named.map_or_else(|| sign_in(args, console).map(preferred), Ok)?;
        return Ok((token::kept(place, stdin)?, kind));
    }
    let sign_in = sign_in(args, console)?;
    let wanted = named.unwrap_or_else(|| preferred(sign_in));
    let provider = provider::Provider::discover(&sign_in.issuer, &sign_in.client, http).await?;
    let tokens = if args.device {
        provider.on_another_device(&args.scope, output).await?
    } else {
        provider.in_a_browser(&args.scope, output).await?
    };
    Ok((tokens.pick(wanted)?, wanted))
}

/// Which token of a sign-in the server takes: an ID token first.
fn preferred(sign_in: &SignIn) -> SessionTokenKind {
    if sign_in.session_tokens.contains(&SessionTokenKind::IdToken) {
        SessionTokenKind::IdToken
    } else {
        SessionTokenKind::AccessToken
    }
}

/// Where to sign in.
fn sign_in<'c>(args: &LoginArgs, console: &'c Console) -> Result<&'c SignIn, String> {
    let all = console.sign_in.as_slice();
    let found = match (&args.sign_in_at, all) {
        (Some(wanted), _) => all.iter().find(|sign_in| sign_in.issuer == *wanted),
        (None, [only]) => Some(only),
        (None, _) => None,
    };
    let known: Vec<String> = all.iter().map(|sign_in| shown(&sign_in.issuer)).collect();
    found.ok_or_else(|| format!("say where with --sign-in-at: {}", known.join(", ")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_place_that_the_metadata_name_is_the_issuers_own() {
        let of = |server: &str, named: Option<&str>| {
            let metadata = Metadata {
                token_endpoint: String::new(),
                revocation_endpoint: String::new(),
                admin_api: named.map(str::to_owned),
            };
            is_its_own(&safe_url(server).unwrap(), &metadata)
        };
        assert_eq!(of("https://a", None), Ok(false));
        for (server, named) in [
            ("https://a", "https://a:443/"),
            ("https://A/", "https://a"),
            ("https://a/tg/", "https://a/tg"),
            ("http://127.0.0.1:8444", "http://127.0.0.1:8444"),
        ] {
            assert_eq!(of(server, Some(named)), Ok(true), "{server} {named}");
        }
        for server in
            ["https://b", "https://a:8444", "http://localhost", "https://a/x", "https://a?x", "https://a/#x"]
        {
            let why = of(server, Some("https://a")).unwrap_err();
            let host = safe_url(server).unwrap();
            assert!(why.contains("`https://a`") && why.contains(host.as_str()), "{why}");
        }
        assert!(of("https://a", Some("http://a")).unwrap_err().contains("metadata name"));
        assert!(of("https://a", Some("")).unwrap_err().contains("metadata name"));
    }
}
