//! `taskgrant apply`: through the running server, or in process where none runs.

use std::io::Read;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use chrono::TimeDelta;
use clap::Args;
use tokio::task::JoinHandle;

use super::desk::{Answer, heard, unanswered};
use super::target::TargetArgs;
use super::{files, report};
use crate::admin::api::{ApplyRequest, Refused};
use crate::admin::client::{AdminClient, ClientFault};
use crate::admin::socket::Peer;
use crate::clock::Clock;
use crate::configuration::active::{Active, InForce};
use crate::configuration::apply::{Applied, Configuration, Options};
use crate::domain::proposal::TwoPersons;
use crate::policy::bundle::Bundle;
use crate::policy::engine::PolicyEngine;
use crate::store::Store;
use crate::store::folder::Location;
use crate::store::writer::Writer;
use crate::terminal::output::{Exit, Output};

/// Applies declarative objects: all of them, or none. Objects that no file names stay as they are, unless --prune is
/// given.
#[derive(Args, Clone, Debug)]
pub struct ApplyArgs {
    /// A file, a folder of `.yaml` and `.yml` files at any depth, or `-` for standard input; may be repeated.
    #[arg(short = 'f', long = "filename", value_name = "DIR|FILE|-", required = true)]
    pub filename: Vec<PathBuf>,
    /// Which server.
    #[command(flatten)]
    pub target: TargetArgs,
    /// Let changes widen what is allowed.
    #[arg(long)]
    pub allow_widening: bool,
    /// Retire the objects that no file declares: DIR is then the whole configuration. `plan --prune` lists them first.
    #[arg(long)]
    pub prune: bool,
    /// Only tell what would change.
    #[arg(long)]
    pub dry_run: bool,
    /// Print JSON.
    #[arg(long)]
    pub json: bool,
}

/// The deployment to apply to.
#[derive(Clone, Debug)]
pub struct Deployment {
    /// Where its data lies.
    pub location: Location,
    /// The admin socket of its server.
    pub admin_socket: PathBuf,
    /// Its `iss`.
    pub own_issuer: String,
    /// What takes two persons there: nobody who works without a server is two.
    pub two_persons: TwoPersons,
    /// Its admin API over HTTPS, where that is meant; then nothing else of this is looked at.
    pub remote: Option<AdminClient>,
}

impl Deployment {
    /// Its server, or none if none runs.
    pub(super) async fn server(&self) -> Result<Option<AdminClient>, ClientFault> {
        match &self.remote {
            Some(remote) => Ok(Some(remote.clone())),
            None => AdminClient::find(&self.admin_socket).await,
        }
    }
}

/// Applies what `args` name to `deployment`.
pub async fn apply(
    args: &ApplyArgs,
    deployment: &Deployment,
    clock: Arc<dyn Clock>,
    stdin: &mut (dyn Read + Send),
    output: &mut Output<'_>,
) -> Exit {
    let options = Options { allow_widening: args.allow_widening, dry_run: args.dry_run, prune: args.prune };
    let answer = match files::read(&args.filename, stdin) {
        Ok(documents) => send(ApplyRequest { documents, options }, deployment, clock).await,
        Err(faults) => Ok(Err(Refused::faulty(faults))),
    };
    match answer {
        Ok(Ok(applied)) => report::applied(&applied, args.json, output),
        Ok(Err(refused)) => report::refused(&refused, args.json, output),
        Err(failure) => unanswered(&failure, args.json, output),
    }
}

/// Has the running server carry `request` out, else this process.
pub(super) async fn send(
    request: ApplyRequest,
    deployment: &Deployment,
    clock: Arc<dyn Clock>,
) -> Answer<Applied> {
    match deployment.server().await? {
        Some(server) => heard(server.apply(&request).await),
        None => Ok(in_process(request, deployment, clock).await?),
    }
}

/// Takes the data folder's lock, and runs the use case that the server would run.
async fn in_process(
    request: ApplyRequest,
    deployment: &Deployment,
    clock: Arc<dyn Clock>,
) -> Result<Result<Applied, Refused>, String> {
    let (configuration, task) = open(deployment, clock, request.options.dry_run).await?;
    let answer = configuration.apply(request.documents, request.options, &Peer::own().account()).await;
    drop(configuration);
    // The writer ends with its last handle, and the store with it; then the data folder is free again.
    let _ = task.await;
    Ok(answer.map_err(Refused::from))
}

/// Why nothing is changed: on PostgreSQL a server does it (DESIGN §7).
pub(super) fn no_server(admin_socket: &Path) -> String {
    format!(
        "the data is in PostgreSQL, so changes go through a server, and none answers on `{}`: start one, or run this where \
         one runs",
        admin_socket.display()
    )
}

/// The use case over the data folder, whose lock is taken unless it is only looked at.
pub(super) async fn open(
    deployment: &Deployment,
    clock: Arc<dyn Clock>,
    only_look: bool,
) -> Result<(Configuration, JoinHandle<()>), String> {
    let location = match &deployment.location {
        Location::Folder(data) if only_look => Location::to_look_at(data),
        // Nothing of ours would tell its servers.
        Location::Postgres(_) if !only_look => return Err(no_server(&deployment.admin_socket)),
        location @ (Location::Memory | Location::Folder(_) | Location::Postgres(_)) => location.clone(),
    };
    open_at(&location, deployment, clock).await
}

/// The use case over the data at `location`.
pub(super) async fn open_at(
    location: &Location,
    deployment: &Deployment,
    clock: Arc<dyn Clock>,
) -> Result<(Configuration, JoinHandle<()>), String> {
    let store = Store::open(location).await.map_err(|error| error.to_string())?;
    // Nobody asks this process for a decision: the starter policy and an empty snapshot stand in.
    let policy = Bundle::embedded_base().and_then(PolicyEngine::compile).map_err(|e| e.to_string())?;
    let nothing =
        InForce { generation: 0, snapshot: Arc::default(), schemas: Arc::default(), policy: policy.into() };
    let active = Active::new(nothing);
    let (writer, written) = Writer::spawn(&store, clock.clone(), TimeDelta::zero());
    let last = store.clone();
    let task = tokio::spawn(async move {
        let _ = written.await;
        last.close().await;
    });
    let told = (deployment.own_issuer.clone(), deployment.two_persons.clone());
    Ok((Configuration::new(store, writer, active, (clock, Arc::default()), told), task))
}
