//! The bundles and data documents that the store keeps: found by the beginning of a version, read, compiled.

use tokio::task::spawn_blocking;

use super::LoadFault;
use super::policy::{BundleFile, PolicyChangeFault};
use crate::policy::bundle::Bundle;
use crate::policy::data::{Data, DataPath, Document};
use crate::policy::engine::{PolicyEngine, RunLimits};
use crate::policy::fault::PolicyFault;
use crate::policy::suite::{self, Unfit};
use crate::store::Store;
use crate::store::error::StoreError;
use crate::store::policy_data::KeptData;

/// Fewest characters of a version that stand for it.
const SHORTEST: usize = 8;
/// Heads every version.
const SCHEME: &str = "sha256:";

/// Whether `named` is this version, or a beginning of it that is long enough.
pub(super) fn is_named(version: &str, named: &str) -> bool {
    let digits = named.strip_prefix(SCHEME).unwrap_or(named);
    digits.len() >= SHORTEST
        && version.strip_prefix(SCHEME).is_some_and(|version| version.starts_with(digits))
}

/// The bundle that is or was in force or a candidate, of a version or the beginning of one.
pub async fn kept_bundle(store: &Store, named: &str) -> Result<Bundle, PolicyChangeFault> {
    let version = bundle_version(store, named, false).await?;
    bundle(store, &version).await.map_err(|fault| PolicyChangeFault::Unavailable(fault.to_string()))
}

/// The version that `named` is, or begins; of those that were in force, or of all that are kept.
pub(super) async fn bundle_version(
    store: &Store,
    named: &str,
    was_in_force: bool,
) -> Result<String, PolicyChangeFault> {
    let kept = store.bundles().await?.into_iter().filter(|(_, at)| at.is_some() || !was_in_force);
    let mut found = kept.map(|(version, _)| version).filter(|version| is_named(version, named));
    match (found.next(), found.next()) {
        (Some(version), None) => Ok(version),
        _ => Err(PolicyChangeFault::Unknown(named.to_owned())),
    }
}

/// The bundle of this version.
pub(super) async fn bundle(store: &Store, version: &str) -> Result<Bundle, LoadFault> {
    let fault = |why: &str| StoreError::Corrupt { what: "policy bundle", why: format!("`{version}`: {why}") };
    let bytes = store.bundle(version).await?.ok_or_else(|| fault("it is not kept"))?;
    let bundle = Bundle::from_bytes(&bytes).map_err(|why| fault(&why.to_string()))?;
    if bundle.version() == version { Ok(bundle) } else { Err(fault("its content is another").into()) }
}

/// The data document of this version.
pub(super) async fn kept_document(store: &Store, version: &str) -> Result<Document, StoreError> {
    let fault = |why: &str| StoreError::Corrupt { what: "data document", why: format!("`{version}`: {why}") };
    let KeptData { path, content } =
        store.policy_data(version).await?.ok_or_else(|| fault("it is not kept"))?;
    let path = path.parse::<DataPath>().map_err(|why| fault(&why.to_string()))?;
    let read = spawn_blocking(move || Document::read(path, &content)).await;
    let document = read.map_err(|why| fault(&why.to_string()))?.map_err(|why| fault(&why.to_string()))?;
    if document.version() == version { Ok(document) } else { Err(fault("its content is another")) }
}

/// All documents that were in force at once under this version; none where it is not kept.
pub async fn kept_documents(store: &Store, version: &str) -> Result<Option<Data>, StoreError> {
    let fault = |why: &str| StoreError::Corrupt { what: "policy data", why: format!("`{version}`: {why}") };
    let Some(KeptData { content, .. }) = store.policy_data(version).await? else { return Ok(None) };
    let mut documents = Vec::new();
    for version in Data::listed(&content).map_err(|why| fault(&why))?.values() {
        documents.push(kept_document(store, version).await?);
    }
    let data = Data::of(documents).map_err(|why| fault(&why.to_string()))?;
    if data.version() == Some(version) { Ok(Some(data)) } else { Err(fault("its content is another")) }
}

/// Reads the bundle of these files, compiles it and runs its tests.
pub(super) fn admitted(
    files: Vec<BundleFile>,
) -> impl FnOnce() -> Result<PolicyEngine, Unfit> + Send + 'static {
    let files = files.into_iter().map(|file| (file.path, file.text));
    move || Bundle::from_files(files).map_err(Unfit::from).and_then(suite::admit)
}

/// The bundle of this version, compiled under these documents and ready.
pub(super) async fn kept(store: &Store, version: &str, data: &Data) -> Result<PolicyEngine, LoadFault> {
    let (bundle, data) = (bundle(store, version).await?, data.clone());
    let compile = move || {
        let engine = PolicyEngine::compile_under(bundle, &data, RunLimits::default())?;
        engine.prepare().map(|()| engine)
    };
    let compiled = spawn_blocking(compile).await.unwrap_or(Err(PolicyFault::Panic));
    compiled.map_err(|fault| LoadFault::Policy { version: version.to_owned(), fault })
}

/// What is wrong with a bundle that the store gave; a store that gave nothing is a fault of its own.
pub(super) fn of_bundle(fault: LoadFault) -> Result<PolicyFault, LoadFault> {
    match fault {
        LoadFault::Policy { fault, .. } => Ok(fault),
        LoadFault::Store(StoreError::Corrupt { why, .. }) => Ok(PolicyFault::Compile(why)),
        fault @ (LoadFault::Store(_) | LoadFault::Objects(_)) => Err(fault),
    }
}
