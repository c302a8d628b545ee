//! `taskgrant agent secret`: through the running server, or in process where none runs.

use std::sync::Arc;

use super::apply::{Deployment, open};
use super::target::TargetArgs;
use crate::admin::api::{AddSecret, Refused, RetireSecret};
use crate::admin::socket::Peer;
use crate::clock::Clock;
use crate::configuration::apply::secrets::{Added, Retired};
use crate::domain::ids::ClientId;
use crate::terminal::output::{Exit, Output};

/// Agents: their secrets.
#[derive(clap::Args, Clone, Debug)]
pub struct AgentArgs {
    #[command(subcommand)]
    command: Command,
}

#[derive(clap::Subcommand, Clone, Debug)]
enum Command {
    /// Secrets that the server makes, beside those that the agent's file declares.
    Secret {
        #[command(subcommand)]
        command: Secret,
    },
}

/// What to do with an agent's secrets.
#[derive(clap::Subcommand, Clone, Debug)]
pub enum Secret {
    /// Make another secret; it is shown once. Two may be valid at a time.
    Add(SecretArgs),
    /// End a secret that `add` made: the older of two, or the one with this id.
    Retire {
        /// Whose.
        #[command(flatten)]
        args: SecretArgs,
        /// Its id, as `add` told it, or the beginning of it.
        #[arg(value_name = "SECRET_ID")]
        id: Option<String>,
    },
}

/// What both take.
#[derive(clap::Args, Clone, Debug)]
pub struct SecretArgs {
    /// The agent.
    #[arg(value_name = "CLIENT_ID")]
    pub client_id: String,
    /// Which server.
    #[command(flatten)]
    pub target: TargetArgs,
    /// Print JSON.
    #[arg(long)]
    pub json: bool,
}

impl AgentArgs {
    /// What is to be done.
    pub fn secret(&self) -> &Secret {
        let Command::Secret { command } = &self.command;
        command
    }
}

impl Secret {
    /// What both take.
    pub fn args(&self) -> &SecretArgs {
        match self {
            Self::Add(args) | Self::Retire { args, .. } => args,
        }
    }
}

/// What was done.
enum Done {
    Added(Added),
    Retired(Retired),
}

/// Runs the command on `deployment`.
pub async fn run(
    command: &Secret,
    deployment: &Deployment,
    clock: Arc<dyn Clock>,
    output: &mut Output<'_>,
) -> Exit {
    let client_id: ClientId = match command.args().client_id.parse() {
        Ok(id) => id,
        Err(bad) => {
            output.complain(&format!("{bad}"));
            return Exit::Usage;
        }
    };
    let json = command.args().json;
    match send(command, client_id, deployment, clock).await {
        Ok(Ok(done)) => told(&done, json, output),
        Ok(Err(refused)) => super::report::refused(&refused, json, output),
        Err(failure) => {
            output.complain(&failure);
            Exit::Refused
        }
    }
}

/// Has the running server do it, else this process under the data folder's lock.
async fn send(
    command: &Secret,
    client_id: ClientId,
    deployment: &Deployment,
    clock: Arc<dyn Clock>,
) -> Result<Result<Done, Refused>, String> {
    let server = deployment.server().await.map_err(|fault| fault.to_string())?;
    let failed = |fault: crate::admin::client::ClientFault| fault.to_string();
    if let Some(server) = server {
        return Ok(match command {
            Secret::Add(_) => {
                server.add_secret(&AddSecret { client_id }).await.map_err(failed)?.map(Done::Added)
            }
            Secret::Retire { id, .. } => {
                let request = RetireSecret { client_id, secret_id: id.clone() };
                server.retire_secret(&request).await.map_err(failed)?.map(Done::Retired)
            }
        });
    }
    let (configuration, task) = open(deployment, clock, false).await?;
    let account = Peer::own().account();
    let done = match command {
        Secret::Add(_) => configuration.add_secret(&client_id, &account).await.map(Done::Added),
        Secret::Retire { id, .. } => {
            configuration.retire_secret(&client_id, id.as_deref(), &account).await.map(Done::Retired)
        }
    };
    drop(configuration);
    // The writer ends with its last handle; then the data folder is free again.
    let _ = task.await;
    Ok(done.map_err(Refused::from))
}

fn told(done: &Done, json: bool, output: &mut Output<'_>) -> Exit {
    match done {
        Done::Added(added) if json => output.json(added),
        Done::Retired(retired) if json => output.json(retired),
        Done::Added(added) => {
            output.line(&format!("# A secret of {}, shown this once:", added.client_id));
            output.line(&added.secret);
            output.line(&format!(
                "# Its id is {}; {} valid now (decision {})",
                added.secret_id,
                count(added.valid),
                added.decision_id
            ));
        }
        Done::Retired(retired) => output.line(&format!(
            "retired: secret {} of {}; {} valid now (decision {})",
            retired.secret_id,
            retired.client_id,
            count(retired.valid),
            retired.decision_id
        )),
    }
    Exit::Done
}

fn count(valid: usize) -> String {
    match valid {
        0 => "no secret is".to_owned(),
        1 => "1 secret is".to_owned(),
        more => format!("{more} secrets are"),
    }
}
