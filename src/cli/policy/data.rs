//! `taskgrant policy data`: documents that change without the bundle.

use std::io::Read;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::live::at_desk;
use crate::admin::api::Refused;
use crate::admin::socket::Peer;
use crate::cli::desk::{Desk, failed, heard};
use crate::cli::target::Common;
use crate::cli::time;
use crate::clock::Clock;
use crate::configuration::apply::data::{
    DataChanged, DataStatus, DataVersion, ListedDocument, ShownDocument,
};
use crate::policy::data::DataPath;
use crate::terminal::output::{Exit, Output};

/// Longest file that is read, in bytes: white space included, which is not kept.
const LONGEST: u64 = 32 << 20;

#[derive(Debug, clap::Subcommand)]
pub(super) enum Command {
    /// Put a JSON document at a path, in the place of what the bundle has there. The bundle needs a schema for the path.
    Put(Put),
    /// Tell which documents are in force, and where the bundle takes some; of one path, every version that ever was.
    List(List),
    /// Print a document.
    Show(Show),
    /// Take a document away: the bundle's own lies there again.
    Drop(Drop),
}

#[derive(Debug, clap::Args)]
pub(super) struct Put {
    /// Where rules read it: `assets` is `data.assets`, `teams.eu` is `data.teams.eu`.
    #[arg(value_name = "PATH")]
    path: DataPath,
    /// The document, a JSON file.
    #[arg(value_name = "FILE")]
    file: PathBuf,
    /// Why, for the record.
    #[arg(long, value_name = "TEXT")]
    reason: Option<String>,
    #[command(flatten)]
    common: Common,
}

#[derive(Debug, clap::Args)]
pub(super) struct List {
    /// Only this path, with every version that was ever in force there.
    #[arg(value_name = "PATH")]
    path: Option<DataPath>,
    #[command(flatten)]
    common: Common,
}

#[derive(Debug, clap::Args)]
#[command(disable_version_flag = true)]
pub(super) struct Show {
    /// Which document.
    #[arg(value_name = "PATH")]
    path: DataPath,
    /// A version that was in force, or the beginning of it; the one in force when left out.
    #[arg(long = "version", value_name = "VERSION")]
    of: Option<String>,
    #[command(flatten)]
    common: Common,
}

#[derive(Debug, clap::Args)]
pub(super) struct Drop {
    /// Which document.
    #[arg(value_name = "PATH")]
    path: DataPath,
    /// Why, for the record.
    #[arg(long, value_name = "TEXT")]
    reason: Option<String>,
    #[command(flatten)]
    common: Common,
}

/// Runs the command.
pub(super) async fn run(command: &Command, clock: Arc<dyn Clock>, output: &mut Output<'_>) -> Exit {
    match command {
        Command::Put(args) => put(args, clock, output).await,
        Command::List(args) => list(args, clock, output).await,
        Command::Show(args) => show(args, clock, output).await,
        Command::Drop(args) => drop(args, clock, output).await,
    }
}

fn read(file: &Path) -> Result<Vec<u8>, String> {
    let mut text = Vec::new();
    let read = std::fs::File::open(file).and_then(|file| file.take(LONGEST + 1).read_to_end(&mut text));
    let read = read.map_err(|why| format!("{}: {why}", file.display()))?;
    if u64::try_from(read).is_ok_and(|read| read <= LONGEST) {
        return Ok(text);
    }
    Err(format!("{}: it is larger than {LONGEST} bytes", file.display()))
}

async fn put(args: &Put, clock: Arc<dyn Clock>, output: &mut Output<'_>) -> Exit {
    let text = match read(&args.file) {
        Ok(text) => text,
        Err(why) => return failed(&why, output),
    };
    let why = args.reason.as_deref();
    let ask = async |desk: &Desk| match desk {
        Desk::Server(server) => heard(server.put_data(&args.path, text, why).await),
        Desk::Folder(folder) => {
            let account = Peer::own().account();
            let put = folder.configuration.put_data(args.path.clone(), text, (why, &account)).await;
            Ok(put.map_err(Refused::from))
        }
    };
    at_desk(&args.common, clock, output, ask, changed).await
}

async fn drop(args: &Drop, clock: Arc<dyn Clock>, output: &mut Output<'_>) -> Exit {
    let why = args.reason.as_deref();
    let ask = async |desk: &Desk| match desk {
        Desk::Server(server) => heard(server.drop_data(&args.path, why).await),
        Desk::Folder(folder) => {
            let account = Peer::own().account();
            let dropped = folder.configuration.drop_data(args.path.clone(), (why, &account)).await;
            Ok(dropped.map_err(Refused::from))
        }
    };
    at_desk(&args.common, clock, output, ask, changed).await
}

async fn list(args: &List, clock: Arc<dyn Clock>, output: &mut Output<'_>) -> Exit {
    let Some(path) = &args.path else {
        let ask = async |desk: &Desk| match desk {
            Desk::Server(server) => heard(server.data().await),
            Desk::Folder(folder) => Ok(folder.configuration.data_status().await.map_err(Refused::from)),
        };
        return at_desk(&args.common, clock, output, ask, listed).await;
    };
    let ask = async |desk: &Desk| match desk {
        Desk::Server(server) => heard(server.data_versions(path).await),
        Desk::Folder(folder) => {
            Ok(folder.configuration.data_versions(path.clone()).await.map_err(Refused::from))
        }
    };
    let told = |versions: &Vec<DataVersion>, output: &mut Output<'_>| {
        for DataVersion { version, first_at } in versions {
            output.line(&format!("{}  {version}", time(*first_at)));
        }
        Exit::Done
    };
    at_desk(&args.common, clock, output, ask, told).await
}

async fn show(args: &Show, clock: Arc<dyn Clock>, output: &mut Output<'_>) -> Exit {
    let version = args.of.as_deref();
    let ask = async |desk: &Desk| match desk {
        Desk::Server(server) => heard(server.show_data(&args.path, version).await),
        Desk::Folder(folder) => {
            Ok(folder.configuration.show_data(args.path.clone(), version).await.map_err(Refused::from))
        }
    };
    let told = |shown: &ShownDocument, output: &mut Output<'_>| {
        output.json(&shown.document);
        Exit::Done
    };
    at_desk(&args.common, clock, output, ask, told).await
}

fn changed(changed: &DataChanged, output: &mut Output<'_>) -> Exit {
    let DataChanged { path, version, before, data, decision_id } = changed;
    let Some(decision) = decision_id else {
        output.line(&format!("nothing to change: this document is in force at data.{path}"));
        return Exit::Done;
    };
    match version {
        Some(version) => output.line(&format!("data.{path}: {version} (decision {decision})")),
        None => output.line(&format!("data.{path}: the bundle's own, if it has one (decision {decision})")),
    }
    if let Some(before) = before {
        output.line(&format!("before:   {before}"));
    }
    output.line(&format!("all data: {}", data.as_deref().unwrap_or("the bundle's own")));
    Exit::Done
}

fn listed(status: &DataStatus, output: &mut Output<'_>) -> Exit {
    output.line(&format!("all data: {}", status.version.as_deref().unwrap_or("the bundle's own")));
    for ListedDocument { path, kept, used } in &status.documents {
        let unused = if *used { "" } else { "; not used: the bundle in force has no schema for it" };
        let (version, bytes, since, account) = (&kept.version, kept.bytes, time(kept.since), &kept.account);
        output.line(&format!("  data.{path}  {version}  {bytes} bytes, since {since} ({account}){unused}"));
    }
    let declared: Vec<_> = status.declared.iter().map(|path| format!("data.{path}")).collect();
    let declared = if declared.is_empty() { "none".to_owned() } else { declared.join(", ") };
    output.line(&format!("may be put beside the bundle in force: {declared}"));
    Exit::Done
}
