//! The embedded demo: one process with a demo tenant, a demo identity provider, and a tour of the main job.
//!
//! Reading order: this file (from start to stop), `place` (folder and address), `cast` and `objects` (who and what),
//! `provider` (session tokens and the page of `taskgrant login`), `file` (`dev.json`), `shell` (`dev.env`), `tour`.

mod cast;
pub mod fault;
pub mod file;
mod objects;
mod paper;
mod place;
mod policies;
pub(crate) mod private;
pub mod provider;
mod running;
mod secrets;
mod shell;
mod tour;

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::path::PathBuf;
use std::sync::Arc;

use self::fault::DevFault;
use self::paper::Paper;
pub use self::running::Running;
use self::tour::Guide;
use crate::clock::SystemClock;
use crate::domain::details::FieldRule;
use crate::terminal::output::{Exit, Output, colour};

/// Where the demo's data lies unless told otherwise.
pub const DATA: &str = ".taskgrant";

/// Arguments of `dev`.
#[derive(Clone, Debug, clap::Args)]
pub struct Args {
    /// Folder of the demo's data: database, keys, policy, dev.json.
    #[arg(long, default_value = DATA, value_name = "DIR")]
    pub data: PathBuf,
    /// Port to listen at; it then belongs to the data folder. 8080 if it is free; 0 for any free one.
    #[arg(long)]
    pub port: Option<u16>,
    /// Loopback address to listen at.
    #[arg(long, default_value_t = place::LOCALHOST, value_name = "IP")]
    pub host: IpAddr,
    /// Do not play the tour.
    #[arg(long, conflicts_with = "tour_only")]
    pub no_tour: bool,
    /// End after the tour: with 1 if one of its steps surprised.
    #[arg(long)]
    pub tour_only: bool,
}

/// Runs the demo until `stop`, or with `--tour-only` until the tour has ended.
pub fn run(args: &Args, stop: impl Future<Output = ()>, output: &mut Output<'_>) -> Exit {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build();
    let ended = match runtime {
        Ok(runtime) => runtime.block_on(demo(args, stop, output)).map_err(|fault| fault.to_string()),
        Err(why) => Err(why.to_string()),
    };
    ended.unwrap_or_else(|fault| {
        output.complain(&format!("taskgrant dev: {fault}"));
        Exit::Refused
    })
}

async fn demo(
    args: &Args,
    stop: impl Future<Output = ()>,
    output: &mut Output<'_>,
) -> Result<Exit, DevFault> {
    let running = Running::start(args, Arc::new(SystemClock)).await?;
    let played = tokio::select! {
        played = play(args, &running, output) => played,
        () = running.ended() => Ok(Exit::Refused),
        () = stop => Ok(Exit::Done),
    };
    running.stop().await?;
    played
}

/// Tells what is there, plays the tour, and then waits for ever, unless the tour was all.
async fn play(args: &Args, running: &Running, output: &mut Output<'_>) -> Result<Exit, DevFault> {
    let colour = colour();
    let (program, data) = (program(), args.data.display().to_string());
    let guide = Guide { demo: running.file(), program: &program, data: &data, colour };
    welcome(args, running, &mut Paper { output, colour });
    if !args.no_tour {
        let surprises = guide.play(output).await?;
        if args.tour_only {
            return Ok(if surprises == 0 { Exit::Done } else { Exit::Refused });
        }
    }
    guide.what_next(output);
    let mut paper = Paper { output, colour };
    paper.gap();
    paper.title(&format!("Up at {} until Ctrl-C", running.file().issuer));
    std::future::pending().await
}

/// The field rules of the type of authorization details that comes with this program.
pub(crate) fn tool_call_fields() -> BTreeMap<String, FieldRule> {
    objects::tool_call_fields()
}

fn welcome(args: &Args, running: &Running, paper: &mut Paper<'_, '_>) {
    let file = running.file();
    paper.title(&format!("Taskgrant dev at {}, for this machine only", file.issuer));
    if running.chose_port() {
        paper.note("the usual port was taken; this one now belongs to the data folder");
    }
    let users: Vec<String> =
        file.principals.iter().map(|p| format!("{} ({})", p.username, p.groups.join(", "))).collect();
    let agents: Vec<String> =
        file.agents.iter().map(|a| format!("{} (class {})", a.client_id, a.class)).collect();
    let resources: Vec<&str> = file.resources.iter().map(|r| r.name.as_str()).collect();
    let task_types: Vec<&str> = file.task_types.iter().map(|t| t.name.as_str()).collect();
    let admins: Vec<String> = file.admin.administrators.iter().map(named).collect();
    let kept = if running.is_new() { "new; a later start continues it" } else { "continued" };
    for (what, list) in [
        ("users", users.join(", ")),
        ("agents", agents.join(", ")),
        ("resources", resources.join(", ")),
        ("task types", task_types.join(", ")),
        ("admins", admins.join(", ")),
        ("admin API", file.admin.url.clone().unwrap_or_default()),
        ("data", format!("{} ({kept})", args.data.display())),
        (
            "dev.json",
            format!("{}: all of this with passwords and secrets, for scripts", running.path().display()),
        ),
        (
            "dev.env",
            format!("{}: the server and some clients, for shells", args.data.join(shell::FILE).display()),
        ),
    ] {
        paper.note(&format!("{what:<11} {list}"));
    }
}

fn named(administrator: &file::Administrator) -> String {
    let roles: Vec<&str> = administrator.roles.iter().map(|role| role.as_str()).collect();
    format!("{} ({})", administrator.username, roles.join(", "))
}

/// This program as the user called it.
fn program() -> String {
    std::env::args().next().unwrap_or_else(|| "taskgrant".to_owned())
}
