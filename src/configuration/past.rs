//! What was there before under a name or a key that is declared anew: to retire an object first is no way round what a change of it is
//! held against.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::sync::Arc;

use chrono::{DateTime, Utc};
use serde_json::Value;

use crate::domain::objects::{Object, ObjectKind, ObjectRef};
use crate::domain::resource::ResourceUri;

/// A version that was published.
#[derive(Clone, Debug)]
pub struct Published {
    /// Which object.
    pub id: ObjectRef,
    /// Its version.
    pub version: i64,
    /// When that was.
    pub at: DateTime<Utc>,
    /// JSON of its spec.
    pub spec: Vec<u8>,
}

impl Published {
    /// Its spec; null if it does not read, which differs from everything.
    pub fn spec(&self) -> Value {
        serde_json::from_slice(&self.spec).unwrap_or_default()
    }

    /// Most kinds have none: then the spec need not be read.
    fn keys(&self) -> Vec<Key> {
        if members(self.id.kind).is_empty() { Vec::new() } else { keys(self.id.kind, &self.spec()) }
    }
}

/// The last version of each object, and of whoever went by a key, whether in force or not.
#[derive(Clone, Debug, Default)]
pub struct Past {
    last: BTreeMap<ObjectRef, Arc<Published>>,
    holders: BTreeMap<(ObjectKind, Key), Arc<Published>>,
}

/// What an object goes by beside its name, so that tokens and tasks of before mean it: a member of its spec, and what stands there in
/// the form that is compared.
pub type Key = (&'static str, String);

/// Members of the specs of this kind that are such. The first is what two versions of an object are known by.
fn members(kind: ObjectKind) -> &'static [&'static str] {
    match kind {
        ObjectKind::TrustedIssuer | ObjectKind::WorkloadIssuer => &["issuer"],
        ObjectKind::Agent => &["client_id"],
        ObjectKind::Resource => &["uri", "client_id"],
        ObjectKind::Tenant
        | ObjectKind::CertificateAuthority
        | ObjectKind::AuthorizationDetailType
        | ObjectKind::TaskType
        | ObjectKind::Exception
        | ObjectKind::Administrator => &[],
    }
}

/// Whether an object under another name is the same by this `member` alone.
pub fn is_identity(kind: ObjectKind, member: &str) -> bool {
    members(kind).first() == Some(&member)
}

fn keys(kind: ObjectKind, spec: &Value) -> Vec<Key> {
    let key = |member: &&'static str| {
        let text = spec.get(member)?.as_str()?;
        let uri = (*member == "uri").then(|| text.parse::<ResourceUri>().ok()).flatten();
        Some((*member, uri.map_or_else(|| text.to_owned(), |uri| uri.key())))
    };
    members(kind).iter().filter_map(key).collect()
}

impl From<&[Object]> for Past {
    /// Of these versions alone, all published at once.
    fn from(objects: &[Object]) -> Self {
        let published = |object: &Object| Published {
            id: object.id.clone(),
            version: object.version,
            at: DateTime::UNIX_EPOCH,
            spec: serde_json::to_vec(&object.spec).unwrap_or_default(),
        };
        Self::new(objects.iter().map(published))
    }
}

impl Past {
    /// Of all versions, in any order.
    pub fn new(versions: impl IntoIterator<Item = Published>) -> Self {
        let mut past = Self::default();
        for version in versions {
            let version = Arc::new(version);
            for key in version.keys() {
                let later = |held: &Published| (held.at, held.version) < (version.at, version.version);
                put(past.holders.entry((version.id.kind, key)), &version, later);
            }
            let later = |held: &Published| held.version < version.version;
            put(past.last.entry(version.id.clone()), &version, later);
        }
        past
    }

    /// The version that follows those of this name.
    pub fn next_version(&self, id: &ObjectRef) -> i64 {
        self.last.get(id).map_or(0, |last| last.version) + 1
    }

    /// The last version of this name, and of whoever else went by a key of `spec`, with the member that says so.
    pub fn of(&self, id: &ObjectRef, spec: &Value) -> Vec<(Option<&'static str>, &Published)> {
        let mut found: Vec<_> = self.last.get(id).map(|last| (None, last.as_ref())).into_iter().collect();
        for key in keys(id.kind, spec) {
            let member = key.0;
            let others = self.holders.get(&(id.kind, key)).filter(|holder| holder.id != *id);
            found.extend(others.map(|holder| (Some(member), holder.as_ref())));
        }
        found
    }
}

fn put<K: Ord>(
    place: Entry<'_, K, Arc<Published>>,
    version: &Arc<Published>,
    is_later: impl Fn(&Published) -> bool,
) {
    place
        .and_modify(|held| {
            if is_later(held) {
                held.clone_from(version);
            }
        })
        .or_insert_with(|| Arc::clone(version));
}
