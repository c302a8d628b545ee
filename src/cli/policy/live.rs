//! `taskgrant policy apply|reload|rollback|status|show`: the bundle in force, of a running server or of its data folder.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::admin::api::Refused;
use crate::admin::policy::{ApplyPolicy, RollbackPolicy};
use crate::admin::socket::Peer;
use crate::cli::desk::{Answer, Desk, failed, heard, tell};
use crate::cli::target::Common;
use crate::cli::time;
use crate::clock::Clock;
use crate::config::Config;
use crate::configuration::apply::policy::{BundleFile, PolicyChanged, PolicyStatus, StillBites};
use crate::policy::bundle::Bundle;
use crate::policy::{check, suite};
use crate::terminal::escape::escaped_line;
use crate::terminal::output::{Exit, Output};

#[derive(Debug, clap::Args)]
pub(super) struct Apply {
    /// Bundle folders, in order; they are compiled and tested here first.
    #[arg(required = true)]
    folders: Vec<PathBuf>,
    #[command(flatten)]
    common: Common,
}

#[derive(Debug, clap::Args)]
pub(super) struct Rollback {
    /// Version to go back to, or the beginning of it; the one before the one in force when left out.
    #[arg(value_name = "VERSION")]
    bundle: Option<String>,
    #[command(flatten)]
    common: Common,
}

#[derive(Debug, clap::Args)]
pub(super) struct Show {
    /// Version of the bundle, or the beginning of it, as `policy status` and decisions name it.
    #[arg(value_name = "VERSION")]
    bundle: String,
    /// Print only the text of the file at this path.
    #[arg(long, value_name = "PATH")]
    file: Option<String>,
    #[command(flatten)]
    common: Common,
}

/// Puts the bundle of these folders in force.
pub(super) async fn apply(args: &Apply, clock: Arc<dyn Clock>, output: &mut Output<'_>) -> Exit {
    let files = match files_of(&args.folders, clock.as_ref(), output) {
        Ok(files) => files,
        Err(unfit) => return failed(&unfit.to_string(), output),
    };
    let request = ApplyPolicy { files };
    let ask = async |desk: &Desk| match desk {
        Desk::Server(server) => heard(server.apply_policy(&request).await),
        Desk::Folder(folder) => {
            let files = request.files.clone();
            let applied = folder.configuration.apply_policy(files, &Peer::own().account()).await;
            Ok(applied.map_err(Refused::from))
        }
    };
    at_desk(&args.common, clock, output, ask, changed).await
}

/// The bundle of these folders, to be sent. Read here, so that the folders of a mistyped path are never sent anywhere.
pub(super) fn files_of(
    folders: &[PathBuf],
    clock: &dyn Clock,
    output: &mut Output<'_>,
) -> Result<Vec<BundleFile>, suite::Unfit> {
    let bundle = Bundle::of_folders(folders)?;
    // The server does not ask who answers for a rule: what is in force must stay applicable.
    for finding in check::ownership(&bundle, clock.now().date_naive()).findings {
        output.complain(&format!("warning: {}: {}", finding.at, finding.problem));
    }
    let file = |(path, text): (&str, &str)| BundleFile { path: path.to_owned(), text: text.to_owned() };
    Ok(bundle.files().map(file).collect())
}

/// Has the server read its folders again.
pub(super) async fn reload(args: &Common, clock: Arc<dyn Clock>, output: &mut Output<'_>) -> Exit {
    // A server reads its own.
    let folders = if args.target.server.is_some() { Ok(Vec::new()) } else { folders(&args.target.config) };
    let folders = match folders {
        Ok(folders) => folders,
        Err(fault) => {
            output.complain(&fault);
            return Exit::Usage;
        }
    };
    let ask = async |desk: &Desk| match desk {
        Desk::Server(server) => heard(server.reload_policy().await),
        Desk::Folder(folder) => {
            let account = Peer::own().account();
            let reloaded = folder.configuration.reload_policy(folders.clone(), &account).await;
            Ok(reloaded.map_err(Refused::from))
        }
    };
    at_desk(args, clock, output, ask, changed).await
}

/// Puts a bundle in force that was so before.
pub(super) async fn rollback(args: &Rollback, clock: Arc<dyn Clock>, output: &mut Output<'_>) -> Exit {
    let request = RollbackPolicy { version: args.bundle.clone() };
    let ask = async |desk: &Desk| match desk {
        Desk::Server(server) => heard(server.roll_back_policy(&request).await),
        Desk::Folder(folder) => {
            let (version, account) = (request.version.as_deref(), Peer::own().account());
            Ok(folder.configuration.roll_back_policy(version, &account).await.map_err(Refused::from))
        }
    };
    at_desk(&args.common, clock, output, ask, changed).await
}

/// Tells which bundle decides, and which ones did.
pub(super) async fn status(args: &Common, clock: Arc<dyn Clock>, output: &mut Output<'_>) -> Exit {
    let ask = async |desk: &Desk| match desk {
        Desk::Server(server) => heard(server.policy().await),
        Desk::Folder(folder) => {
            let status = folder.configuration.policy_status().await;
            // Nothing is served from a folder.
            let told = |told| PolicyStatus { serving: None, replicas: Vec::new(), ..told };
            Ok(status.map(told).map_err(Refused::from))
        }
    };
    at_desk(args, clock, output, ask, told).await
}

/// Prints a bundle that is or was in force.
pub(super) async fn show(args: &Show, clock: Arc<dyn Clock>, output: &mut Output<'_>) -> Exit {
    if !args.bundle.chars().all(|c| c.is_ascii_alphanumeric() || c == ':') {
        output.complain(&format!("taskgrant policy show: `{}` is no version", args.bundle));
        return Exit::Usage;
    }
    let ask = async |desk: &Desk| match desk {
        Desk::Server(server) => heard(server.policy_files(&args.bundle).await),
        Desk::Folder(folder) => {
            Ok(folder.configuration.policy_files(&args.bundle).await.map_err(Refused::from))
        }
    };
    at_desk(&args.common, clock, output, ask, |files, output| shown(files, args.file.as_deref(), output))
        .await
}

pub(super) async fn at_desk<T: serde::Serialize>(
    common: &Common,
    clock: Arc<dyn Clock>,
    output: &mut Output<'_>,
    ask: impl AsyncFnOnce(&Desk) -> Answer<T>,
    words: impl FnOnce(&T, &mut Output<'_>) -> Exit,
) -> Exit {
    let desk = match Desk::find(&common.target, clock).await {
        Ok(desk) => desk,
        Err(unusable) => return unusable.told(output),
    };
    let exit = tell(ask(&desk).await, common.json, output, words);
    desk.close().await;
    exit
}

fn folders(config: &Path) -> Result<Vec<PathBuf>, String> {
    Ok(Config::read(config).map_err(|fault| fault.to_string())?.policy.bundles)
}

pub(super) fn changed(changed: &PolicyChanged, output: &mut Output<'_>) -> Exit {
    match changed.decision_id {
        Some(id) => output.line(&format!("in force: {} (decision {id})", changed.policy)),
        None => output.line(&format!("nothing to change: {} is in force", changed.policy)),
    }
    if let Some(before) = &changed.before {
        output.line(&format!("before:   {before}"));
    }
    if let Some(StillBites { version, canary, .. }) = &changed.candidate {
        output.complain(&format!(
            "warning: the candidate {version} still bites for {}: `taskgrant policy canary 0%` ends that",
            super::candidate::met(canary)
        ));
    }
    Exit::Done
}

fn told(status: &PolicyStatus, output: &mut Output<'_>) -> Exit {
    output.line(&format!(
        "in force:    {}",
        status.policy.as_deref().unwrap_or("none: no server has started yet")
    ));
    if status.serving.is_some() && status.serving != status.policy {
        let serving = status.serving.as_deref().unwrap_or_default();
        output.line(&format!("this server: {serving}, for a moment yet"));
    }
    if let Some(before) = &status.before {
        output.line(&format!("before:      {before}"));
    }
    if let Some(refused) = &status.refused {
        output.line(&format!("refused:     at {}: {}", time(refused.at), refused.problem));
    }
    if let Some(mode) = &status.mode {
        super::mode::told(mode, output);
    }
    if let Some(candidate) = &status.candidate {
        super::candidate::told(candidate, status.replicas.len(), output);
    }
    super::replicas::told(status, output);
    output.line("ever in force, the newest first:");
    for kept in &status.bundles {
        output.line(&format!("  {}  {}", time(kept.first_at), kept.version));
    }
    if status.refused.is_some() || super::replicas::any_refused(status) { Exit::Refused } else { Exit::Done }
}

fn shown(files: &[BundleFile], wanted: Option<&str>, output: &mut Output<'_>) -> Exit {
    let Some(wanted) = wanted else {
        for file in files {
            // To be read, also by who confirms: nothing in a file hides what stands beside it. One that is named comes as it is.
            output.line(&format!("=== {}", escaped_line(&file.path)));
            file.text.trim_end().lines().for_each(|line| output.line(&escaped_line(line)));
        }
        return Exit::Done;
    };
    match files.iter().find(|file| file.path == wanted) {
        Some(file) => {
            output.line(file.text.trim_end());
            Exit::Done
        }
        None => failed(&format!("the bundle holds no `{wanted}`"), output),
    }
}
