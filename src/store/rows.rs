//! Rows as the tables have them, and their way to and from the records of the domain.

use chrono::{DateTime, Utc};
use serde::{Serialize, Serializer};
use sqlx::FromRow;

use super::error::StoreError;
use crate::domain::objects::ObjectRef;
use crate::domain::principal::Principal;
use crate::domain::record::{SessionKey, TaskRecord, TokenRecord};
use crate::hash::sha256;

/// Columns of [`TaskRow`], in the order of its fields.
macro_rules! task_columns {
    () => {
        "id, tenant, principal_iss, principal_sub, session_iss, session_sid, session_hash, session_since, \
         started_by, task_type_tenant, task_type, task_type_version, created_at, deadline, facts"
    };
}
pub(super) use task_columns;

/// Columns of [`TokenRow`], in the order of its fields.
macro_rules! token_columns {
    () => {
        "jti, task_id, tenant, parent, ancestors, principal_iss, principal_sub, session_iss, session_sid, \
         session_hash, session_since, agent, chain_agents, chain, task_type_tenant, task_type, \
         task_type_version, capability_digest, audience, iat, exp, key_thumbprint, status_list, status_index, \
         approval_id, decision_id, kid, task_serial, sibling, paced_until, signers"
    };
}
pub(super) use token_columns;

/// Columns of `ApprovalRow`, in the order of its fields.
macro_rules! approval_columns {
    () => {
        "id, tenant, client_id, code_sha256, likeness, state, quorum, created_at, expires_at, decision_id, \
         request, shown, votes, jti, envelope, open_in"
    };
}
pub(super) use approval_columns;

/// Writes a row to JSON as an array of these fields: how SQLite reads it.
macro_rules! as_array {
    ($row:ty; $($field:ident)+) => {
        impl serde::Serialize for $row {
            fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                let mut row = serializer.serialize_seq(None)?;
                $(serde::ser::SerializeSeq::serialize_element(&mut row, &self.$field)?;)+
                serde::ser::SerializeSeq::end(row)
            }
        }
    };
}
pub(super) use as_array;

/// A row of `tasks`.
#[derive(Debug, FromRow)]
pub(super) struct TaskRow {
    pub(super) id: String,
    pub(super) tenant: String,
    pub(super) principal_iss: String,
    pub(super) principal_sub: String,
    pub(super) session_iss: String,
    pub(super) session_sid: Option<String>,
    pub(super) session_hash: String,
    pub(super) session_since: i64,
    pub(super) started_by: String,
    pub(super) task_type_tenant: String,
    pub(super) task_type: String,
    pub(super) task_type_version: i64,
    pub(super) created_at: i64,
    pub(super) deadline: i64,
    pub(super) facts: String,
}

as_array!(TaskRow; id tenant principal_iss principal_sub session_iss session_sid session_hash session_since
    started_by task_type_tenant task_type task_type_version created_at deadline facts);

/// A row of `tokens`.
#[derive(Debug, FromRow)]
pub(super) struct TokenRow {
    pub(super) jti: String,
    pub(super) task_id: String,
    pub(super) tenant: String,
    pub(super) parent: Option<String>,
    pub(super) ancestors: String,
    pub(super) principal_iss: String,
    pub(super) principal_sub: String,
    pub(super) session_iss: String,
    pub(super) session_sid: Option<String>,
    pub(super) session_hash: String,
    pub(super) session_since: i64,
    pub(super) agent: String,
    pub(super) chain_agents: String,
    pub(super) chain: String,
    pub(super) task_type_tenant: String,
    pub(super) task_type: String,
    pub(super) task_type_version: i64,
    pub(super) capability_digest: Bytes,
    pub(super) audience: Option<String>,
    pub(super) iat: i64,
    pub(super) exp: i64,
    pub(super) key_thumbprint: Option<String>,
    pub(super) status_list: Option<String>,
    pub(super) status_index: Option<i64>,
    pub(super) approval_id: Option<String>,
    pub(super) decision_id: String,
    pub(super) kid: String,
    pub(super) task_serial: i64,
    pub(super) sibling: i64,
    pub(super) paced_until: i64,
    pub(super) signers: String,
}

as_array!(TokenRow; jti task_id tenant parent ancestors principal_iss principal_sub session_iss session_sid
    session_hash session_since agent chain_agents chain task_type_tenant task_type task_type_version
    capability_digest audience iat exp key_thumbprint status_list status_index approval_id decision_id kid
    task_serial sibling paced_until signers);

/// A short column of bytes; in JSON it is hex.
#[derive(Debug, Serialize, sqlx::Type)]
#[serde(transparent)]
#[sqlx(transparent)]
pub(super) struct Bytes(#[serde(serialize_with = "as_hex")] pub(super) Vec<u8>);

/// Bytes as lower-case hex, the form in which JSON carries them into a statement.
pub(super) fn as_hex<S: Serializer>(bytes: &[u8], serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(&hex::encode(bytes))
}

/// One version of a declarative object.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ObjectRow {
    /// Which object.
    pub id: ObjectRef,
    /// Its version, from 1.
    pub version: i64,
    /// Canonical JSON of its spec.
    pub spec: Vec<u8>,
    /// When it was published.
    pub published_at: DateTime<Utc>,
}

impl ObjectRow {
    /// SHA-256 of the spec, stored beside it.
    pub fn digest(&self) -> Vec<u8> {
        sha256(&[&self.spec]).to_vec()
    }
}

/// A policy bundle.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BundleRow {
    /// Hash of its content.
    pub version: String,
    /// Its content.
    pub content: Vec<u8>,
    /// When it came here.
    pub created_at: DateTime<Utc>,
    /// When it came into force; none while it is only tried. The first time stays.
    pub in_force_at: Option<DateTime<Utc>>,
}

/// A decision as it is stored. What was erased is none; the leaf stays for ever.
#[derive(Clone, Debug, PartialEq, Eq, FromRow)]
pub struct StoredDecision {
    /// Index in the log.
    #[sqlx(rename = "idx")]
    pub index: i64,
    /// The leaf.
    pub leaf: Vec<u8>,
    /// Salt of the record's digest.
    pub salt: Option<Vec<u8>>,
    /// The record, byte for byte as its digest covers it.
    pub record: Option<Vec<u8>>,
    /// The policy's input.
    pub input: Option<Vec<u8>>,
}

/// An instant in the database: Unix microseconds.
pub(super) fn micros(at: DateTime<Utc>) -> i64 {
    at.timestamp_micros()
}

pub(super) fn corrupt(what: &'static str) -> impl Fn(String) -> StoreError {
    move |why| StoreError::Corrupt { what, why }
}

/// The instant of a stored number.
pub(super) fn instant(micros: i64) -> Result<DateTime<Utc>, StoreError> {
    DateTime::from_timestamp_micros(micros).ok_or_else(|| corrupt("instant")(micros.to_string()))
}

/// Parses a stored text; the error tells what it should have been.
pub(super) fn parsed<T: std::str::FromStr>(text: &str, what: &'static str) -> Result<T, StoreError>
where
    T::Err: std::fmt::Display,
{
    text.parse().map_err(|why: T::Err| corrupt(what)(why.to_string()))
}

pub(super) fn from_json<T: serde::de::DeserializeOwned>(
    text: &str,
    what: &'static str,
) -> Result<T, StoreError> {
    serde_json::from_str(text).map_err(|why| corrupt(what)(why.to_string()))
}

/// JSON text of strings, lists and maps of strings and values: writing them to memory cannot fail.
pub(super) fn to_json<T: Serialize + ?Sized>(value: &T) -> String {
    serde_json::to_string(value).unwrap_or_default()
}

impl From<&TaskRecord> for TaskRow {
    fn from(task: &TaskRecord) -> Self {
        Self {
            id: task.id.to_string(),
            tenant: task.tenant.to_string(),
            principal_iss: task.principal.iss.clone(),
            principal_sub: task.principal.sub.clone(),
            session_iss: task.session.iss.clone(),
            session_sid: task.session.sid.clone(),
            session_hash: task.session.token_sha256.clone(),
            session_since: micros(task.session.since),
            started_by: task.started_by.to_string(),
            task_type_tenant: task.task_type_tenant.to_string(),
            task_type: task.task_type.to_string(),
            task_type_version: task.task_type_version,
            created_at: micros(task.created_at),
            deadline: micros(task.deadline),
            facts: to_json(&task.facts),
        }
    }
}

impl TryFrom<TaskRow> for TaskRecord {
    type Error = StoreError;
    fn try_from(row: TaskRow) -> Result<Self, StoreError> {
        Ok(Self {
            id: parsed(&row.id, "task id")?,
            tenant: parsed(&row.tenant, "tenant")?,
            principal: Principal { iss: row.principal_iss, sub: row.principal_sub },
            session: SessionKey {
                iss: row.session_iss,
                sid: row.session_sid,
                token_sha256: row.session_hash,
                since: instant(row.session_since)?,
            },
            started_by: parsed(&row.started_by, "client id")?,
            task_type_tenant: parsed(&row.task_type_tenant, "tenant")?,
            task_type: parsed(&row.task_type, "task type")?,
            task_type_version: row.task_type_version,
            created_at: instant(row.created_at)?,
            deadline: instant(row.deadline)?,
            facts: from_json(&row.facts, "object of facts")?,
        })
    }
}

impl From<&TokenRecord> for TokenRow {
    fn from(token: &TokenRecord) -> Self {
        let (status_list, status_index) = token.status.clone().unzip();
        Self {
            jti: token.jti.to_string(),
            task_id: token.task_id.to_string(),
            tenant: token.tenant.to_string(),
            parent: token.parent.map(|jti| jti.to_string()),
            ancestors: to_json(&token.ancestors),
            principal_iss: token.principal.iss.clone(),
            principal_sub: token.principal.sub.clone(),
            session_iss: token.session.iss.clone(),
            session_sid: token.session.sid.clone(),
            session_hash: token.session.token_sha256.clone(),
            session_since: micros(token.session.since),
            agent: token.agent.to_string(),
            chain_agents: to_json(&token.chain_agents),
            chain: to_json(&token.chain),
            task_type_tenant: token.task_type_tenant.to_string(),
            task_type: token.task_type.to_string(),
            task_type_version: token.task_type_version,
            capability_digest: Bytes(token.capability_digest.to_vec()),
            audience: token.audience.clone(),
            iat: micros(token.iat),
            exp: micros(token.exp),
            key_thumbprint: token.key_thumbprint.clone(),
            status_list,
            status_index,
            approval_id: token.approval_id.map(|id| id.to_string()),
            decision_id: token.decision_id.to_string(),
            kid: token.kid.clone(),
            task_serial: 0,
            sibling: 0,
            paced_until: 0,
            signers: to_json(&token.signers),
        }
    }
}

/// How far a task's tree has grown.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Growth {
    /// Tokens issued.
    pub(super) tokens: i64,
    /// When the task's rate is all free again, in Unix microseconds.
    pub(super) paced_until: i64,
}

/// A token that a batch names, with how far its tree has grown.
#[derive(Debug, FromRow)]
pub(super) struct KnownRow {
    #[sqlx(flatten)]
    token: TokenRow,
    tree_tokens: i64,
    tree_paced_until: i64,
    children: i64,
}

/// The same, read.
#[derive(Clone, Debug)]
pub(super) struct Known {
    pub(super) token: TokenRecord,
    pub(super) growth: Growth,
    /// Its children, all that were ever issued counted.
    pub(super) children: i64,
}

impl TryFrom<KnownRow> for Known {
    type Error = StoreError;
    fn try_from(row: KnownRow) -> Result<Self, StoreError> {
        Ok(Self {
            token: row.token.try_into()?,
            growth: Growth { tokens: row.tree_tokens, paced_until: row.tree_paced_until },
            children: row.children,
        })
    }
}

impl TryFrom<TokenRow> for TokenRecord {
    type Error = StoreError;
    fn try_from(row: TokenRow) -> Result<Self, StoreError> {
        let digest = row.capability_digest.0.try_into();
        let capability_digest =
            digest.map_err(|_| corrupt("digest")("it is not 32 bytes long".to_owned()))?;
        Ok(Self {
            jti: parsed(&row.jti, "jti")?,
            task_id: parsed(&row.task_id, "task id")?,
            tenant: parsed(&row.tenant, "tenant")?,
            parent: row.parent.map(|jti| parsed(&jti, "jti")).transpose()?,
            ancestors: from_json(&row.ancestors, "list of ancestors")?,
            principal: Principal { iss: row.principal_iss, sub: row.principal_sub },
            session: SessionKey {
                iss: row.session_iss,
                sid: row.session_sid,
                token_sha256: row.session_hash,
                since: instant(row.session_since)?,
            },
            agent: parsed(&row.agent, "client id")?,
            chain_agents: from_json(&row.chain_agents, "list of agents")?,
            chain: from_json(&row.chain, "chain")?,
            task_type_tenant: parsed(&row.task_type_tenant, "tenant")?,
            task_type: parsed(&row.task_type, "task type")?,
            task_type_version: row.task_type_version,
            capability_digest,
            audience: row.audience,
            iat: instant(row.iat)?,
            exp: instant(row.exp)?,
            key_thumbprint: row.key_thumbprint,
            status: row.status_list.zip(row.status_index),
            approval_id: row.approval_id.map(|id| parsed(&id, "approval id")).transpose()?,
            decision_id: parsed(&row.decision_id, "decision id")?,
            kid: row.kid,
            signers: from_json(&row.signers, "list of keys")?,
        })
    }
}
