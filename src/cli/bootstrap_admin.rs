//! `taskgrant bootstrap-admin`: the first administrator, by the word of this machine's account.

use std::path::PathBuf;
use std::sync::Arc;

use serde_json::Value;

use super::apply::{Deployment, open_at};
use super::desk::{Answer, heard, tell};
use crate::admin::api::Refused;
use crate::admin::client::AdminClient;
use crate::admin::socket::Peer;
use crate::clock::Clock;
use crate::configuration::apply::bootstrap::{BootstrapRequest, Bootstrapped, DESCRIPTION};
use crate::terminal::output::{Exit, Output};

/// Let somebody administer over HTTPS: the first one, for whom nobody else can vouch. Through the running server's socket, or in its
/// data where none runs.
#[derive(Clone, Debug, clap::Args)]
pub struct BootstrapArgs {
    /// The trusted issuer that they sign in at, and their `sub` there.
    #[arg(long, num_args = 2, value_names = ["ISS", "SUB"], required = true)]
    pub principal: Vec<String>,
    /// The client of that issuer that admins sign in with; needed where no console has one of it.
    #[arg(long, value_name = "ID")]
    pub console_client: Option<String>,
    /// Client id of that console here; `taskgrant-console`, or the next that is free, if left out.
    #[arg(long, value_name = "ID")]
    pub client_id: Option<String>,
    /// Do it although there are administrators.
    #[arg(long)]
    pub again: bool,
    /// The server's configuration.
    #[arg(long, value_name = "FILE", default_value = "taskgrant.toml")]
    pub config: PathBuf,
    /// Print JSON.
    #[arg(long)]
    pub json: bool,
}

/// Runs the command on `deployment`.
pub async fn run(
    args: &BootstrapArgs,
    deployment: &Deployment,
    clock: Arc<dyn Clock>,
    output: &mut Output<'_>,
) -> Exit {
    let client_id = match args.client_id.as_ref().map(|id| id.parse()).transpose() {
        Ok(client_id) => client_id,
        Err(bad) => {
            output.complain(&format!("--client-id: {bad}"));
            return Exit::Usage;
        }
    };
    let [issuer, subject] = args.principal.as_slice() else { return Exit::Usage };
    let request = BootstrapRequest {
        issuer: issuer.clone(),
        subject: subject.clone(),
        console_client: args.console_client.clone(),
        client_id,
        again: args.again,
    };
    let answer = send(&request, deployment, clock).await;
    tell(answer, args.json, output, |done, output| told(&request, done, output))
}

async fn send(
    request: &BootstrapRequest,
    deployment: &Deployment,
    clock: Arc<dyn Clock>,
) -> Answer<Bootstrapped> {
    let server = AdminClient::find(&deployment.admin_socket).await.map_err(|fault| fault.to_string())?;
    if let Some(server) = server {
        return heard(server.bootstrap_admin(request).await);
    }
    // Also beside servers on PostgreSQL that run elsewhere: they look at what is in force once a second (DESIGN §7).
    let (configuration, task) = open_at(&deployment.location, deployment, clock).await?;
    let done = configuration.bootstrap_admin(request, &Peer::own().account()).await;
    drop(configuration);
    // The writer ends with its last handle; then the data folder is free again.
    let _ = task.await;
    Ok(done.map_err(Refused::from))
}

fn told(request: &BootstrapRequest, done: &Bootstrapped, output: &mut Output<'_>) -> Exit {
    let quoted = |text: &str| Value::from(text).to_string();
    let owner = quoted(&format!("principal:{} {}", request.issuer, request.subject));
    let (issuer, contact) = (quoted(&request.issuer), quoted(&request.subject));
    let description = quoted(DESCRIPTION);
    output.line(&format!("# recorded (decision {}). Keep this with your objects:", done.decision_id));
    output.line("# `apply --prune` retires what no file declares.");
    output.line(&format!(
        "kind: Administrator\ntenant: system\nname: {}\nspec:\n  description: {description}\n  owner: {owner}\n  contact: {contact}\n  \
         issuer: {issuer}\n  subject: {contact}\n  roles: [admin, approve, audit]",
        done.administrator.name
    ));
    if let (Some(console), Some(client)) = (&done.declared_console, &request.console_client) {
        output.line(&format!(
            "---\nkind: Agent\ntenant: system\nname: {}\nspec:\n  client_id: {}\n  class: taskgrant:console\n  \
             owner: {owner}\n  contact: {contact}\n  upstream_clients:\n    - {{issuer: {issuer}, client: {}}}",
            console.name,
            quoted(done.console.as_str()),
            quoted(client)
        ));
    }
    if let Some(secret) = &done.secret {
        output.line(&format!("# The secret of {}, shown this once:", done.console));
        output.line(&format!("# {secret}"));
    }
    output.line("# next, once the server has an `admin.listen`, with that console's secret in a file of mode 0600 (`umask 077; cat > FILE`, paste it, Ctrl-D):");
    output.line(&format!(
        "# taskgrant login --server URL --client-id {} --client-secret-file FILE",
        done.console
    ));
    Exit::Done
}
