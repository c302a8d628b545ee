//! The store, every test on SQLite and on PostgreSQL, and the whole log verified after each.

mod approvals;
mod configuring;
mod envelopes;
mod failing;
mod folder;
mod issuing;
mod logging;
mod proposals;
mod pruning;
pub(crate) mod raw;
mod replicas;
mod revoking;
mod status;

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use chrono::{TimeDelta, Timelike as _};
use serde_json::{Value, json};
use taskgrant::clock::{Clock as _, ShiftedClock};
use taskgrant::domain::approval::{Approval, ApprovalState};
use taskgrant::domain::decision::{Decision, Kind, Outcome, Reason, Record};
use taskgrant::domain::ids::{ApprovalId, DecisionId, Jti, TaskId};
use taskgrant::domain::principal::Principal;
use taskgrant::domain::record::{RevocationKey, SessionKey, TaskRecord, TokenRecord, TreeLimits};
use taskgrant::store::Store;
use taskgrant::store::change::{Change, CommitFault, Committed, Issue, Lockdown, Loss, Receipt, Revoke};
use taskgrant::store::folder::Location;
use taskgrant::store::writer::Writer;
use tokio::task::JoinHandle;

use crate::support::postgres::Scratch;
use raw::Raw;

/// Runs `test` on a fresh SQLite folder and, if there is a server, on a fresh PostgreSQL schema.
async fn on_both(test: impl AsyncFn(&Deployment)) {
    let folder = tempfile::tempdir().unwrap();
    run(Location::Folder(folder.path().to_owned()), &test).await;
    on_postgres(test).await;
}

/// Runs `test` on a fresh PostgreSQL schema, if there is a server.
async fn on_postgres(test: impl AsyncFn(&Deployment)) {
    if let Some(scratch) = Scratch::new().await {
        run(Location::Postgres(Box::new(scratch.options())), &test).await;
        scratch.remove().await;
    }
}

async fn run(location: Location, test: &impl AsyncFn(&Deployment)) {
    let deployment = Deployment::new(location).await;
    test(&deployment).await;
    deployment.verify().await;
    deployment.end().await;
}

/// One store with its writer, and good defaults for what is written.
struct Deployment {
    location: Location,
    store: Store,
    writer: Writer,
    clock: ShiftedClock,
    task: JoinHandle<()>,
}

impl Deployment {
    async fn new(location: Location) -> Self {
        let store = Store::migrate(&location).await.unwrap();
        let clock = ShiftedClock::default();
        let (writer, task) = Writer::spawn(&store, Arc::new(clock.clone()), TimeDelta::days(7));
        Self { location, store, writer, clock, task }
    }

    /// The orderly end: the writer finishes its queue, then the connections close.
    async fn end(self) {
        drop(self.writer);
        self.task.await.unwrap();
        self.store.close().await;
    }

    async fn raw(&self) -> Raw {
        Raw::connect(&self.location).await
    }

    /// The whole log against its definition.
    async fn verify(&self) {
        self.raw().await.verify(&self.store.head().await.unwrap()).await;
    }

    async fn submit(&self, change: impl Into<Change>) -> Result<Committed, CommitFault> {
        self.writer.submit(change).await
    }

    /// Submits what must not be refused.
    async fn done(&self, change: impl Into<Change>) -> Receipt {
        match self.submit(change).await.unwrap() {
            Committed::Done(receipt) => receipt,
            Committed::Lost(loss, _) => panic!("lost: {loss}"),
            Committed::Superseded { generation } => panic!("superseded by {generation}"),
        }
    }

    /// Submits what must lose, and tells why it did.
    async fn lost(&self, change: impl Into<Change>) -> Loss {
        match self.submit(change).await.unwrap() {
            Committed::Lost(loss, _) => loss,
            other @ (Committed::Done(_) | Committed::Superseded { .. }) => {
                panic!("it did not lose: {other:?}")
            }
        }
    }

    /// Submits all at once, in this order: on the single thread of a test's runtime, one batch.
    async fn together(&self, changes: Vec<Change>) -> Vec<Result<Committed, CommitFault>> {
        let submit = |change| {
            let writer = self.writer.clone();
            tokio::spawn(async move { writer.submit(change).await })
        };
        let submitted: Vec<_> = changes.into_iter().map(submit).collect();
        let mut answers = Vec::new();
        for answer in submitted {
            answers.push(answer.await.unwrap());
        }
        answers
    }

    fn decision(&self, kind: Kind, outcome: Outcome) -> Decision {
        let now = self.clock.now();
        Decision {
            id: DecisionId::new(now, unique()),
            kind,
            at: now,
            tenant: Some("acme".parse().unwrap()),
            outcome,
            policy: Some("sha256:00ff".into()),
            task_type: Some("refund_order@3".into()),
            record: Record { asked: json!({"scope": "orders:read"}), ..Record::default() },
            input: Some(br#"{"version":1,"claimed":{}}"#.to_vec()),
        }
    }

    fn refusal(&self) -> Decision {
        let mut decision = self.decision(Kind::Exchange, Outcome::Deny);
        decision.record.reasons =
            vec![Reason { code: "policy_denied".into(), message: "no".into(), public: true }];
        decision
    }

    /// A root exchange of `alice` by `agent`, logged in just now, for five minutes.
    fn root(&self) -> Issue {
        let token = self.token(TaskId::new(self.clock.now(), unique()));
        let task = TaskRecord {
            id: token.task_id,
            tenant: token.tenant.clone(),
            principal: token.principal.clone(),
            session: token.session.clone(),
            started_by: token.agent.clone(),
            task_type_tenant: token.task_type_tenant.clone(),
            task_type: token.task_type.clone(),
            task_type_version: token.task_type_version,
            created_at: token.iat,
            deadline: token.iat + TimeDelta::hours(1),
            facts: json!({"groups": ["support"]}).as_object().unwrap().clone(),
        };
        self.issue(Some(task), token)
    }

    /// What `would_be` waits for, for a minute.
    fn approval(&self, would_be: &Issue) -> Approval {
        let now = self.clock.now();
        let id = ApprovalId::new(now, unique());
        Approval {
            id,
            tenant: would_be.token.tenant.clone(),
            client_id: would_be.token.agent.clone(),
            code_sha256: id.to_string(),
            likeness: "11".into(),
            state: ApprovalState::Pending,
            quorum: 1,
            created_at: now,
            expires_at: now + TimeDelta::minutes(1),
            decision_id: would_be.decision.id,
            request: json!({}),
            shown: Value::Null,
            votes: Vec::new(),
            jti: None,
            envelope: None,
        }
    }

    /// A child of `parent`, which names nothing of its ancestors or session: the commit knows them.
    fn child(&self, parent: &Issue) -> Issue {
        let mut token = self.token(parent.token.task_id);
        token.parent = Some(parent.token.jti);
        token.session.sid = Some("not to be believed".into());
        self.issue(None, token)
    }

    fn issue(&self, task: Option<TaskRecord>, token: TokenRecord) -> Issue {
        let mut decision = self.decision(Kind::Exchange, Outcome::Allow);
        decision.id = token.decision_id;
        decision.record.jti = Some(token.jti);
        decision.record.granted = json!({"scope": "orders:read"});
        Issue {
            task,
            parent_digest: token.parent.map(|_| [0xC3; 32]),
            token,
            limits: TreeLimits::default(),
            spend: vec![],
            assertion: None,
            redeems: None,
            opens: None,
            uses: None,
            generation: 0,
            decision,
        }
    }

    fn token(&self, task_id: TaskId) -> TokenRecord {
        // The database keeps microseconds.
        let now = self.clock.now();
        let now = now.with_nanosecond(now.nanosecond() / 1000 * 1000).unwrap();
        let iss = "https://idp.acme.example";
        TokenRecord {
            jti: Jti::new(now, unique()),
            task_id,
            tenant: "acme".parse().unwrap(),
            parent: None,
            ancestors: vec![],
            principal: Principal { iss: iss.into(), sub: "alice ü".into() },
            session: SessionKey {
                iss: iss.into(),
                sid: Some("s1".into()),
                token_sha256: "ab".repeat(32),
                since: now,
            },
            agent: "agent".parse().unwrap(),
            chain_agents: vec!["agent".parse().unwrap(), "first".parse().unwrap()],
            chain: json!({"sub": "agent", "act": {"sub": "first"}}),
            task_type_tenant: "system".parse().unwrap(),
            task_type: "refund_order".parse().unwrap(),
            task_type_version: 3,
            capability_digest: [0xC3; 32],
            audience: Some("https://orders.acme.example".into()),
            iat: now,
            exp: now + TimeDelta::minutes(5),
            key_thumbprint: None,
            status: Some(("list".into(), 7)),
            approval_id: None,
            decision_id: DecisionId::new(now, unique()),
            kid: "key-1".into(),
            signers: vec![],
        }
    }

    fn revoke(&self, keys: Vec<RevocationKey>) -> Revoke {
        let decision = self.decision(Kind::Admin, Outcome::Allow);
        let keep_until = self.clock.now() + TimeDelta::hours(2);
        Revoke { keys, keep_until, reason: "lost laptop".into(), decision }
    }

    fn lockdown(&self, tenant: Option<&str>, on: bool) -> Lockdown {
        let decision = self.decision(Kind::Admin, Outcome::Allow);
        Lockdown {
            tenant: tenant.map(|name| name.parse().unwrap()),
            on,
            reason: "an incident".into(),
            decision,
        }
    }
}

/// Ten bytes that no other call gets.
fn unique() -> [u8; 10] {
    static NEXT: AtomicU64 = AtomicU64::new(0);
    let mut bytes = [0; 10];
    bytes[2..].copy_from_slice(&NEXT.fetch_add(1, Ordering::Relaxed).to_be_bytes());
    bytes
}
