//! `POST /admin/v1/bootstrap-admin`: the first administrator. On the socket only: who administers already applies objects.

use axum::extract::State;
use axum::extract::rejection::JsonRejection;
use axum::routing::post;
use axum::{Json, Router};

use super::api::{RefusalCode, Refused};
use super::asker::Asker;
use crate::configuration::apply::Configuration;
use crate::configuration::apply::bootstrap::{BootstrapFault, BootstrapRequest, Bootstrapped};

impl From<BootstrapFault> for Refused {
    fn from(fault: BootstrapFault) -> Self {
        let message = fault.to_string();
        let error = match fault {
            BootstrapFault::Apply(fault) => return fault.into(),
            BootstrapFault::Again(_)
            | BootstrapFault::Console(_)
            | BootstrapFault::NoUsableConsole { .. }
            | BootstrapFault::ClientIdTaken { .. } => RefusalCode::Conflict,
            BootstrapFault::NoConsole => RefusalCode::BadRequest,
        };
        Self::new(error, message)
    }
}

/// The route.
pub fn router(configuration: Configuration) -> Router {
    Router::new().route("/admin/v1/bootstrap-admin", post(bootstrap)).with_state(configuration)
}

async fn bootstrap(
    State(configuration): State<Configuration>,
    asker: Asker,
    request: Result<Json<BootstrapRequest>, JsonRejection>,
) -> Result<Json<Bootstrapped>, Refused> {
    let Json(request) = request.map_err(Refused::unreadable)?;
    Ok(Json(configuration.bootstrap_admin(&request, &asker.account()).await?))
}
