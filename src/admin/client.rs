//! A client of the admin API: a method for each of its calls.

use std::path::Path;

use hyper::{Method, StatusCode};
use openidconnect::url::form_urlencoded;
use serde::Serialize;
use serde::de::DeserializeOwned;
use thiserror::Error;

use super::api::{AddSecret, ApplyRequest, ListedObject, Refused, RetireSecret, ServerStatus};
use super::approvals::CancelApproval;
use super::authorities::Authorities;
use super::keys::{RetireRequest, StopRequest};
use super::policy::{ApplyPolicy, DropCandidate, LoadCandidate, PromoteCandidate, RollbackPolicy};
use super::proposals::{ConfirmProposal, Proposed, RejectProposal};
use super::revocations::{ListedRevocation, RevokeRequest};
use super::transport::{Transport, TransportFault};
use crate::approvals::view::ListedApproval;
use crate::approvals::{Answer, Ballot, Cast};
use crate::configuration::apply::Applied;
use crate::configuration::apply::bootstrap::{BootstrapRequest, Bootstrapped};
use crate::configuration::apply::candidate::{CanaryOrder, CandidateChanged};
use crate::configuration::apply::data::{DataChanged, DataStatus, DataVersion, ShownDocument};
use crate::configuration::apply::mode::{ModeChanged, ModeOrder};
use crate::configuration::apply::policy::{BundleFile, PolicyChanged, PolicyStatus};
use crate::configuration::apply::proposals::{ListedProposal, ProposalSettled};
use crate::configuration::apply::secrets::{Added, Retired as RetiredSecret};
use crate::domain::ids::{ApprovalId, ProposalId};
use crate::domain::request::Presented;
use crate::lockdown::{LockdownRequest, LockdownState};
use crate::policy::data::DataPath;
use crate::revocation::order::Revoked;
use crate::rotation::{KeyInfo, Retired, Rotated, Stopped};
use crate::tasks::tree::TaskView;

/// Why a call has not done what it asks for, refusals apart.
#[derive(Debug, Error)]
pub enum ClientFault {
    /// The server's answer is not known.
    #[error(transparent)]
    Transport(#[from] TransportFault),
    /// Nothing is done yet: it takes a second person.
    #[error("nothing is done yet: the proposal {} waits for a second person", .0.proposal.id)]
    Waits(Box<Waiting>),
}

/// A change that waits for a second person.
#[derive(Clone, Debug)]
pub struct Waiting {
    /// What waits.
    pub proposal: ListedProposal,
    /// The admin API's URL; none where it was the socket.
    pub server: Option<String>,
}

/// The running server, as its admin API offers it.
#[derive(Clone, Debug)]
pub struct AdminClient(Transport);

impl AdminClient {
    /// The server at `url`, without a trailing slash, to which `token` opens the admin API, and whose certificate may be of `more`
    /// authorities.
    pub fn remote(url: &str, token: Presented, more: &Authorities) -> Result<Self, ClientFault> {
        Ok(Self(Transport::https(url, token, more)?))
    }

    /// The server on the socket at `path`, or none if no server runs there.
    pub async fn find(path: &Path) -> Result<Option<Self>, ClientFault> {
        Ok(Transport::socket(path).await?.map(Self))
    }

    /// `POST /admin/v1/apply`.
    pub async fn apply(&self, request: &ApplyRequest) -> Result<Result<Applied, Refused>, ClientFault> {
        self.call(Method::POST, "/admin/v1/apply", Some(request)).await
    }

    /// `POST /admin/v1/agent-secrets/add`.
    pub async fn add_secret(&self, request: &AddSecret) -> Result<Result<Added, Refused>, ClientFault> {
        self.call(Method::POST, "/admin/v1/agent-secrets/add", Some(request)).await
    }

    /// `POST /admin/v1/agent-secrets/retire`.
    pub async fn retire_secret(
        &self,
        request: &RetireSecret,
    ) -> Result<Result<RetiredSecret, Refused>, ClientFault> {
        self.call(Method::POST, "/admin/v1/agent-secrets/retire", Some(request)).await
    }

    /// `GET /admin/v1/objects`.
    pub async fn objects(&self) -> Result<Result<Vec<ListedObject>, Refused>, ClientFault> {
        self.call(Method::GET, "/admin/v1/objects", None::<&()>).await
    }

    /// `GET /admin/v1/keys`.
    pub async fn keys(&self) -> Result<Result<Vec<KeyInfo>, Refused>, ClientFault> {
        self.call(Method::GET, "/admin/v1/keys", None::<&()>).await
    }

    /// `POST /admin/v1/keys/rotate`.
    pub async fn rotate_keys(&self) -> Result<Result<Rotated, Refused>, ClientFault> {
        self.call(Method::POST, "/admin/v1/keys/rotate", None::<&()>).await
    }

    /// `POST /admin/v1/keys/stop`.
    pub async fn stop_keys(&self, request: &StopRequest) -> Result<Result<Stopped, Refused>, ClientFault> {
        self.call(Method::POST, "/admin/v1/keys/stop", Some(request)).await
    }

    /// `POST /admin/v1/keys/retire`.
    pub async fn retire_keys(
        &self,
        request: &RetireRequest,
    ) -> Result<Result<Retired, Refused>, ClientFault> {
        self.call(Method::POST, "/admin/v1/keys/retire", Some(request)).await
    }

    /// `POST /admin/v1/keys/reload`.
    pub async fn reload_keys(&self) -> Result<Result<Vec<KeyInfo>, Refused>, ClientFault> {
        self.call(Method::POST, "/admin/v1/keys/reload", None::<&()>).await
    }

    /// `GET /admin/v1/status`.
    pub async fn status(&self) -> Result<Result<ServerStatus, Refused>, ClientFault> {
        self.call(Method::GET, "/admin/v1/status", None::<&()>).await
    }

    /// `GET /admin/v1/policy`.
    pub async fn policy(&self) -> Result<Result<PolicyStatus, Refused>, ClientFault> {
        self.call(Method::GET, "/admin/v1/policy", None::<&()>).await
    }

    /// `POST /admin/v1/policy/reload`.
    pub async fn reload_policy(&self) -> Result<Result<PolicyChanged, Refused>, ClientFault> {
        self.call(Method::POST, "/admin/v1/policy/reload", None::<&()>).await
    }

    /// `POST /admin/v1/policy/apply`.
    pub async fn apply_policy(
        &self,
        request: &ApplyPolicy,
    ) -> Result<Result<PolicyChanged, Refused>, ClientFault> {
        self.call(Method::POST, "/admin/v1/policy/apply", Some(request)).await
    }

    /// `POST /admin/v1/policy/rollback`.
    pub async fn roll_back_policy(
        &self,
        request: &RollbackPolicy,
    ) -> Result<Result<PolicyChanged, Refused>, ClientFault> {
        self.call(Method::POST, "/admin/v1/policy/rollback", Some(request)).await
    }

    /// `POST /admin/v1/policy/candidate`.
    pub async fn load_candidate(
        &self,
        request: &LoadCandidate,
    ) -> Result<Result<CandidateChanged, Refused>, ClientFault> {
        self.call(Method::POST, "/admin/v1/policy/candidate", Some(request)).await
    }

    /// `POST /admin/v1/policy/candidate/drop`.
    pub async fn drop_candidate(
        &self,
        request: &DropCandidate,
    ) -> Result<Result<CandidateChanged, Refused>, ClientFault> {
        self.call(Method::POST, "/admin/v1/policy/candidate/drop", Some(request)).await
    }

    /// `POST /admin/v1/policy/canary`.
    pub async fn set_canary(
        &self,
        request: &CanaryOrder,
    ) -> Result<Result<CandidateChanged, Refused>, ClientFault> {
        self.call(Method::POST, "/admin/v1/policy/canary", Some(request)).await
    }

    /// `POST /admin/v1/policy/promote`.
    pub async fn promote_candidate(
        &self,
        request: &PromoteCandidate,
    ) -> Result<Result<PolicyChanged, Refused>, ClientFault> {
        self.call(Method::POST, "/admin/v1/policy/promote", Some(request)).await
    }

    /// `POST /admin/v1/policy/mode`.
    pub async fn set_policy_mode(
        &self,
        request: &ModeOrder,
    ) -> Result<Result<ModeChanged, Refused>, ClientFault> {
        self.call(Method::POST, "/admin/v1/policy/mode", Some(request)).await
    }

    /// `GET /admin/v1/policy/bundles/{version}`; `version` must be fit for a path.
    pub async fn policy_files(&self, version: &str) -> Result<Result<Vec<BundleFile>, Refused>, ClientFault> {
        self.call(Method::GET, &format!("/admin/v1/policy/bundles/{version}"), None::<&()>).await
    }

    /// `GET /admin/v1/data`.
    pub async fn data(&self) -> Result<Result<DataStatus, Refused>, ClientFault> {
        self.call(Method::GET, "/admin/v1/data", None::<&()>).await
    }

    /// `GET /admin/v1/data/{document}`.
    pub async fn show_data(
        &self,
        path: &DataPath,
        version: Option<&str>,
    ) -> Result<Result<ShownDocument, Refused>, ClientFault> {
        self.call(Method::GET, &data_target(path, ("version", version)), None::<&()>).await
    }

    /// `GET /admin/v1/data/{document}/versions`.
    pub async fn data_versions(
        &self,
        path: &DataPath,
    ) -> Result<Result<Vec<DataVersion>, Refused>, ClientFault> {
        self.call(Method::GET, &format!("/admin/v1/data/{path}/versions"), None::<&()>).await
    }

    /// `PUT /admin/v1/data/{document}`.
    pub async fn put_data(
        &self,
        path: &DataPath,
        document: Vec<u8>,
        reason: Option<&str>,
    ) -> Result<Result<DataChanged, Refused>, ClientFault> {
        self.send(Method::PUT, &data_target(path, ("reason", reason)), document).await
    }

    /// `DELETE /admin/v1/data/{document}`.
    pub async fn drop_data(
        &self,
        path: &DataPath,
        reason: Option<&str>,
    ) -> Result<Result<DataChanged, Refused>, ClientFault> {
        self.call(Method::DELETE, &data_target(path, ("reason", reason)), None::<&()>).await
    }

    /// `POST /admin/v1/revocations`.
    pub async fn revoke(&self, request: &RevokeRequest) -> Result<Result<Revoked, Refused>, ClientFault> {
        self.call(Method::POST, "/admin/v1/revocations", Some(request)).await
    }

    /// `GET /admin/v1/revocations`.
    pub async fn revocations(&self) -> Result<Result<Vec<ListedRevocation>, Refused>, ClientFault> {
        self.call(Method::GET, "/admin/v1/revocations", None::<&()>).await
    }

    /// `POST /admin/v1/lockdown`.
    pub async fn lock_down(
        &self,
        request: &LockdownRequest,
    ) -> Result<Result<LockdownState, Refused>, ClientFault> {
        self.call(Method::POST, "/admin/v1/lockdown", Some(request)).await
    }

    /// `GET /admin/v1/lockdown`.
    pub async fn lockdown(&self) -> Result<Result<LockdownState, Refused>, ClientFault> {
        self.call(Method::GET, "/admin/v1/lockdown", None::<&()>).await
    }

    /// `GET /admin/v1/tasks/{id}`; `id` must be fit for a path.
    pub async fn task(&self, id: &str) -> Result<Result<TaskView, Refused>, ClientFault> {
        self.call(Method::GET, &format!("/admin/v1/tasks/{id}"), None::<&()>).await
    }

    /// `GET /admin/v1/approvals`; `after` is that of the query.
    pub async fn approvals(
        &self,
        all: bool,
        after: Option<ApprovalId>,
    ) -> Result<Result<Vec<ListedApproval>, Refused>, ClientFault> {
        let after = after.map(|id| format!("&after={id}")).unwrap_or_default();
        self.call(Method::GET, &format!("/admin/v1/approvals?all={all}{after}"), None::<&()>).await
    }

    /// `GET /admin/v1/approvals/{id}`; `id` must be fit for a path.
    pub async fn approval(&self, id: &str) -> Result<Result<ListedApproval, Refused>, ClientFault> {
        self.call(Method::GET, &format!("/admin/v1/approvals/{id}"), None::<&()>).await
    }

    /// `POST /admin/v1/approvals/{id}/approve` or `…/deny`; `id` must be fit for a path.
    pub async fn vote(&self, id: &str, ballot: &Ballot) -> Result<Result<Cast, Refused>, ClientFault> {
        let verb = if ballot.approves { "approve" } else { "deny" };
        self.call(Method::POST, &format!("/admin/v1/approvals/{id}/{verb}"), Some(ballot)).await
    }

    /// The same over HTTPS, where the token says who answers.
    pub async fn answer(&self, id: &str, answer: &Answer) -> Result<Result<Cast, Refused>, ClientFault> {
        let verb = if answer.approves { "approve" } else { "deny" };
        self.call(Method::POST, &format!("/admin/v1/approvals/{id}/{verb}"), Some(answer)).await
    }

    /// `GET /admin/v1/proposals`.
    pub async fn proposals(&self, all: bool) -> Result<Result<Vec<ListedProposal>, Refused>, ClientFault> {
        self.call(Method::GET, &format!("/admin/v1/proposals?all={all}"), None::<&()>).await
    }

    /// `GET /admin/v1/proposals/{id}`.
    pub async fn proposal(&self, id: ProposalId) -> Result<Result<ListedProposal, Refused>, ClientFault> {
        self.call(Method::GET, &format!("/admin/v1/proposals/{id}"), None::<&()>).await
    }

    /// `POST /admin/v1/proposals/{id}/confirm`.
    pub async fn confirm_proposal(
        &self,
        id: ProposalId,
        request: &ConfirmProposal,
    ) -> Result<Result<ProposalSettled, Refused>, ClientFault> {
        self.call(Method::POST, &format!("/admin/v1/proposals/{id}/confirm"), Some(request)).await
    }

    /// `POST /admin/v1/proposals/{id}/reject`.
    pub async fn reject_proposal(
        &self,
        id: ProposalId,
        request: &RejectProposal,
    ) -> Result<Result<ProposalSettled, Refused>, ClientFault> {
        self.call(Method::POST, &format!("/admin/v1/proposals/{id}/reject"), Some(request)).await
    }

    /// `POST /admin/v1/bootstrap-admin`, on the socket only.
    pub async fn bootstrap_admin(
        &self,
        request: &BootstrapRequest,
    ) -> Result<Result<Bootstrapped, Refused>, ClientFault> {
        self.call(Method::POST, "/admin/v1/bootstrap-admin", Some(request)).await
    }

    /// `POST /admin/v1/approvals/{id}/cancel`; `id` must be fit for a path.
    pub async fn cancel_approval(
        &self,
        id: &str,
        request: &CancelApproval,
    ) -> Result<Result<Cast, Refused>, ClientFault> {
        self.call(Method::POST, &format!("/admin/v1/approvals/{id}/cancel"), Some(request)).await
    }

    async fn call<T: DeserializeOwned>(
        &self,
        method: Method,
        path: &str,
        body: Option<&impl Serialize>,
    ) -> Result<Result<T, Refused>, ClientFault> {
        // Texts, flags and lists of them: writing these to memory cannot fail.
        let body = body.and_then(|b| serde_json::to_vec(b).ok()).unwrap_or_default();
        self.send(method, path, body).await
    }

    async fn send<T: DeserializeOwned>(
        &self,
        method: Method,
        path: &str,
        body: Vec<u8>,
    ) -> Result<Result<T, Refused>, ClientFault> {
        let (status, body) = self.0.exchange(method, path, body).await?;
        let foreign = |_| TransportFault::Answer(status.as_u16());
        if status == StatusCode::ACCEPTED {
            let Proposed { proposal } = serde_json::from_slice(&body).map_err(foreign)?;
            let server = self.0.url().map(str::to_owned);
            return Err(ClientFault::Waits(Box::new(Waiting { proposal, server })));
        }
        let answer = if status == StatusCode::OK {
            serde_json::from_slice(&body).map(Ok)
        } else {
            serde_json::from_slice(&body).map(Err)
        };
        Ok(answer.map_err(foreign)?)
    }
}

/// A document's path with one parameter.
fn data_target(path: &DataPath, (name, value): (&str, Option<&str>)) -> String {
    let Some(value) = value else { return format!("/admin/v1/data/{path}") };
    let value: String = form_urlencoded::byte_serialize(value.as_bytes()).collect();
    format!("/admin/v1/data/{path}?{name}={value}")
}
