//! Where admin commands go: to the running server, else to the data folder under its lock, by the same use cases.

use std::sync::Arc;

use chrono::TimeDelta;
use tokio::task::JoinHandle;

use super::apply::no_server;
use super::target::TargetArgs;
use crate::admin::api::Refused;
use crate::admin::client::{AdminClient, ClientFault, Waiting};
use crate::app;
use crate::clock::{Clock, Random};
use crate::config::Config;
use crate::configuration::active::Active;
use crate::configuration::apply::{self, Configuration};
use crate::lockdown::Lockdowns;
use crate::policy::bundle::Bundle;
use crate::policy::engine::PolicyEngine;
use crate::revocation::{self, Revocation};
use crate::store::Store;
use crate::store::folder::Location;
use crate::store::writer::Writer;
use crate::tasks::{self, Tasks};
use crate::terminal::output::{Exit, Output};

/// What came of a command: an answer, a refusal, or no answer.
pub(super) type Answer<T> = Result<Result<T, Refused>, Failure>;

/// Why there is no answer, or not yet.
#[derive(Debug)]
pub(super) enum Failure {
    /// It failed.
    Failed(String),
    /// It takes a second person.
    Waits(Box<Waiting>),
}

impl From<String> for Failure {
    fn from(why: String) -> Self {
        Self::Failed(why)
    }
}

impl From<ClientFault> for Failure {
    fn from(fault: ClientFault) -> Self {
        match fault {
            ClientFault::Waits(waiting) => Self::Waits(waiting),
            ClientFault::Transport(fault) => Self::Failed(fault.to_string()),
        }
    }
}

/// Where the command goes.
pub(super) enum Desk {
    /// To the server, over its admin socket or HTTPS.
    Server(AdminClient),
    /// To the folder, since no server runs.
    Folder(Box<Folder>),
}

/// The data folder of a server that does not run, with the use cases over it.
pub(super) struct Folder {
    pub(super) configuration: Configuration,
    pub(super) revocation: Revocation,
    pub(super) lockdowns: Lockdowns,
    pub(super) tasks: Tasks,
    pub(super) store: Store,
    writer: JoinHandle<()>,
}

/// The server's configuration cannot be read, or its data.
pub(super) struct Unusable {
    why: String,
    exit: Exit,
}

impl Unusable {
    /// Says so.
    pub(super) fn told(&self, output: &mut Output<'_>) -> Exit {
        output.complain(&self.why);
        self.exit
    }
}

impl Desk {
    /// The server over HTTPS that `target` names; else the one that its configuration configures, or its data folder.
    pub(super) async fn find(target: &TargetArgs, clock: Arc<dyn Clock>) -> Result<Self, Unusable> {
        let usage = |why: String| Unusable { why, exit: Exit::Usage };
        let refused = |why: String| Unusable { why, exit: Exit::Refused };
        if let Some(server) = target.remote().map_err(refused)? {
            return Ok(Self::Server(server));
        }
        let config = Config::read(&target.config).map_err(|fault| usage(fault.to_string()))?;
        let server = AdminClient::find(&config.admin_socket()).await;
        match server.map_err(|fault| refused(fault.to_string()))? {
            Some(server) => Ok(Self::Server(server)),
            None => Ok(Self::Folder(Box::new(Folder::open(&config, clock).await.map_err(refused)?))),
        }
    }

    /// Lets what was begun end.
    pub(super) async fn close(self) {
        if let Self::Folder(folder) = self {
            let Folder { configuration, revocation, lockdowns, tasks, store, writer } = *folder;
            drop((configuration, revocation, lockdowns, tasks, store));
            // The writer ends with its last handle; then the data folder is free again.
            let _ = writer.await;
        }
    }
}

impl Folder {
    async fn open(config: &Config, clock: Arc<dyn Clock>) -> Result<Self, String> {
        let location = app::location(config).map_err(|error| error.to_string())?;
        if matches!(location, Location::Postgres(_)) {
            return Err(no_server(&config.admin_socket()));
        }
        let store = Store::open(&location).await.map_err(|error| error.to_string())?;
        // Nobody asks this process for an exchange: the starter policy stands in.
        let policy = Bundle::embedded_base().and_then(PolicyEngine::compile).map_err(|e| e.to_string())?;
        let in_force = apply::load(&store, &config.public_url, policy).await.map_err(|e| e.to_string())?;
        let (writer, task) = Writer::spawn(&store, clock.clone(), TimeDelta::zero());
        let lockdowns = Lockdowns::load(store.clone(), writer.clone(), clock.clone());
        let active = Active::new(in_force);
        let configuration = Configuration::new(
            store.clone(),
            writer.clone(),
            active.clone(),
            (clock.clone(), Arc::default()),
            (config.public_url.clone(), config.admin.two_persons.clone()),
        );
        let revocation = Revocation::new(revocation::Parts {
            store: store.clone(),
            writer: writer.clone(),
            active: active.clone(),
            clock: clock.clone(),
            random: Random::default(),
            aggregates: Arc::default(),
            metrics: Arc::default(),
        });
        let tasks = Tasks::new(tasks::Parts {
            issuer: config.public_url.clone(),
            store: store.clone(),
            writer,
            active,
            clock,
            random: Random::default(),
            aggregates: Arc::default(),
            metrics: Arc::default(),
        });
        let lockdowns = lockdowns.await.map_err(|error| error.to_string())?;
        Ok(Self { configuration, revocation, lockdowns, tasks, store, writer: task })
    }
}

/// The server's answer, or why there is none.
pub(super) fn heard<T>(answer: Result<Result<T, Refused>, ClientFault>) -> Answer<T> {
    Ok(answer?)
}

/// Asks about what `named` names; a name that is none is refused here, and asked of nobody.
pub(super) async fn about<I, T, F: Future<Output = Answer<T>>>(
    named: Result<I, Refused>,
    ask: impl FnOnce(I) -> F,
) -> Answer<T> {
    match named {
        Ok(id) => ask(id).await,
        Err(refused) => Ok(Err(refused)),
    }
}

/// Tells the answer as JSON, or by `words`; a refusal or failure either way.
pub(super) fn tell<T: serde::Serialize>(
    answer: Answer<T>,
    json: bool,
    output: &mut Output<'_>,
    words: impl FnOnce(&T, &mut Output<'_>) -> Exit,
) -> Exit {
    match answer {
        Ok(Ok(value)) if json => {
            output.json(&value);
            Exit::Done
        }
        Ok(Ok(value)) => words(&value, output),
        Ok(Err(refused)) => super::report::refused(&refused, json, output),
        Err(failure) => unanswered(&failure, json, output),
    }
}

/// Tells that there is no answer, or what waits and for whom.
pub(super) fn unanswered(failure: &Failure, json: bool, output: &mut Output<'_>) -> Exit {
    match failure {
        Failure::Failed(why) => failed(why, output),
        Failure::Waits(waiting) => super::proposals::waits(waiting, json, output),
    }
}

/// Tells why there is no answer.
pub(super) fn failed(failure: &str, output: &mut Output<'_>) -> Exit {
    output.complain(failure);
    Exit::Refused
}
