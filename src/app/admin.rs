//! The two doors of the admin API: its Unix socket, and HTTPS where it is configured.

use std::time::Duration;

use axum::Router;
use tokio::net::TcpListener;

use super::App;
use super::connections::Connections;
use super::fault::StartFault;
use super::front::Front;
use super::parts::bind;
use crate::admin::Desk;
use crate::admin::gate::Gate;
use crate::admin::socket::{AdminSocket, SocketFault};
use crate::http::guard::{Bodies, guarded};
use crate::introspection::Introspection;

/// How long an answer over HTTPS may take: a bundle is compiled and tested in it.
const TIMEOUT: Duration = Duration::from_mins(1);

impl App {
    pub(super) fn admin(&self) -> Result<AdminSocket, SocketFault> {
        AdminSocket::bind(&self.config.admin_socket())
    }

    /// All routes, for whoever is let in.
    fn admin_routes(&self) -> Router {
        let status = crate::admin::api::status_router(self.active.clone(), self.key_sets.clone());
        crate::admin::router(Desk {
            configuration: self.configuration(),
            policy_folders: self.config.policy.bundles.clone(),
            rotation: self.rotation.clone(),
            revocation: self.revocation(),
            lockdowns: self.lockdowns.clone(),
            tasks: self.tasks(),
            approvals: self.approvals(),
        })
        .merge(status)
    }

    /// What the socket serves: all of it, and the first administrator.
    pub(super) fn admin_router(&self) -> Router {
        self.admin_routes().merge(crate::admin::bootstrap::router(self.configuration()))
    }

    pub(super) fn listen_for_admin(&self) -> Result<Option<TcpListener>, StartFault> {
        self.config.admin.listen.map(bind).transpose()
    }

    /// The admin API over HTTPS: the public listener's certificate, its own connections, and the same limits. Bodies may be large, and
    /// are read once it is known who sends them.
    pub(super) fn admin_front(&self) -> Front {
        let (clock, own_issuer) = (self.clock.clone(), self.config.public_url.clone());
        let (keys, store) = (self.keys.clone(), self.store.clone());
        let gate = Gate {
            introspection: Introspection::new(own_issuer.as_str().into(), keys, store, clock.clone()),
            active: self.active.clone(),
            aggregates: self.aggregates.clone(),
            writer: self.writer.clone(),
            clock,
            random: self.random.clone(),
        };
        let api = crate::admin::over_https(self.admin_routes(), gate, (self.active.clone(), own_issuer));
        Front {
            router: guarded(api, self.guard(Bodies::Later(TIMEOUT))),
            limits: self.limits.clone(),
            connections: Connections::new(),
            metrics: self.metrics.clone(),
            tls: self.tls.clone(),
        }
    }
}
