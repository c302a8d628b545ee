//! Documents: one declarative object each, `kind, tenant, name, spec`, with the place of everything in it.

use std::collections::BTreeMap;

use schemars::generate::SchemaSettings;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::fault::{Fault, Place, suggest};
use super::fit::{Misfit, fit};
use super::node::{self, Entry, Kind, Node};
use crate::domain::build;
use crate::domain::ids::Name;
use crate::domain::objects::{
    AdministratorSpec, AgentSpec, AuthorizationDetailTypeSpec, CertificateAuthoritySpec, ExceptionSpec,
    ObjectKind, ObjectRef, ResourceSpec, Spec, TaskTypeSpec, TenantSpec, TrustedIssuerSpec,
    WorkloadIssuerSpec,
};

/// Largest file that is read, in bytes.
pub const MAX_FILE: usize = 1 << 20;
/// Most files of one run.
pub const MAX_FILES: usize = 2_000;

/// The text of one file.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Source {
    /// The file's name as the operator wrote it.
    pub file: String,
    /// Its text: one or many YAML documents.
    pub text: String,
}

/// One declared object and where it stands.
#[derive(Clone, Debug)]
pub struct Document {
    /// The file.
    pub file: String,
    /// Where the document begins.
    pub place: Place,
    /// Which object.
    pub id: ObjectRef,
    /// What it says.
    pub spec: Spec,
    tree: Node,
}

impl Document {
    /// Where `path` (`spec.scopes[2]`) stands in the file, or the deepest place on the way that exists.
    pub fn locate(&self, path: &str) -> Place {
        self.tree.locate(path)
    }

    /// A fault of this document at `path`.
    pub fn fault(&self, path: &str, message: String, suggestion: Option<String>) -> Fault {
        Fault {
            object: Some(self.id.to_string()),
            path: Some(path.to_owned()),
            suggestion,
            ..Fault::of_file(&self.file, Some(self.locate(path)), message)
        }
    }
}

/// Puts what `domain::build` found into the file, or, for an object that no document holds, names the object in force.
pub fn place(faults: &[build::Fault], documents: &[Document]) -> Vec<Fault> {
    let place = |fault: &build::Fault| {
        let Some(document) = documents.iter().find(|d| d.id == fault.object) else {
            return Fault {
                file: None,
                object: Some(fault.object.to_string()),
                path: Some(fault.path.clone()),
                ..Fault::of_file("", None, fault.message.clone())
            };
        };
        let written = document.tree.text_at(&fault.path).or_else(|| unregistered(&fault.message));
        let known = |w: &&str| !fault.choices.iter().any(|c| c == w);
        let choices = fault.choices.iter().map(String::as_str);
        let suggestion = written.filter(known).and_then(|w| suggest(w, choices));
        document.fault(&fault.path, fault.message.clone(), suggestion)
    };
    faults.iter().map(place).collect()
}

/// The authorization-detail type that a fault of a whole list is about.
fn unregistered(message: &str) -> Option<&str> {
    message.strip_suffix("` is not registered")?.rsplit_once('`').map(|(_, name)| name)
}

/// Reads all documents, or tells everything that is wrong with them.
pub fn read(sources: &[Source]) -> Result<Vec<Document>, Vec<Fault>> {
    let mut documents = Vec::new();
    let mut faults = Vec::new();
    if sources.len() > MAX_FILES {
        faults.push(Fault::of_file("", None, format!("more than {MAX_FILES} files")));
    }
    for source in sources.iter().take(MAX_FILES) {
        match node::read(&source.text) {
            Ok(trees) => {
                for tree in trees {
                    match document(&source.file, tree) {
                        Ok(document) => documents.push(document),
                        Err(fault) => faults.push(*fault),
                    }
                }
            }
            Err(bad) => faults.push(Fault::of_file(&source.file, bad.place, bad.message)),
        }
    }
    faults.extend(repeated(&documents));
    if faults.is_empty() { Ok(documents) } else { Err(faults) }
}

/// Two documents for one object: which is meant cannot be told.
fn repeated(documents: &[Document]) -> Vec<Fault> {
    let mut first: BTreeMap<&ObjectRef, &Document> = BTreeMap::new();
    let mut faults = Vec::new();
    for document in documents {
        if let Some(earlier) = first.get(&document.id) {
            let message = format!(
                "{} is already declared at {}:{}:{}",
                document.id, earlier.file, earlier.place.line, earlier.place.column
            );
            faults.push(Fault {
                object: Some(document.id.to_string()),
                ..Fault::of_file(&document.file, Some(document.place), message)
            });
        } else {
            first.insert(&document.id, document);
        }
    }
    faults
}

const KEYS: [&str; 4] = ["kind", "tenant", "name", "spec"];

fn document(file: &str, tree: Node) -> Result<Document, Box<Fault>> {
    let top = |place, message: String| Box::new(Fault::of_file(file, Some(place), message));
    let Kind::Map(entries) = &tree.kind else {
        return Err(top(tree.place, format!("expected a mapping, found {}", tree.what())));
    };
    if let Some(odd) = entries.iter().find(|e| !KEYS.contains(&e.key.as_str())) {
        let mut fault = top(odd.place, format!("unknown key `{}`", odd.key));
        fault.suggestion = suggest(&odd.key, KEYS);
        return Err(fault);
    }
    let entry = |key: &str| {
        let found = entries.iter().find(|e| e.key == key);
        found.ok_or_else(|| top(tree.place, format!("missing key `{key}`")))
    };
    let kind: ObjectKind = member(file, entry("kind")?)?;
    let id = ObjectRef { kind, tenant: member(file, entry("tenant")?)?, name: member(file, entry("name")?)? };
    let spec =
        spec(kind, &entry("spec")?.value).map_err(|m| Box::new(misfit(file, &id, entry("spec"), m)))?;
    let mut document = Document { file: file.to_owned(), place: tree.place, id, spec, tree };
    if document.spec.auth_mut().is_some_and(|auth| !auth.issued_sha256.is_empty()) {
        let message = "only `taskgrant agent secret` sets it: leave it out, and apply keeps what is there";
        return Err(Box::new(document.fault("spec.auth.issued_sha256", message.to_owned(), None)));
    }
    Ok(document)
}

/// The JSON Schema of one document, for editors: one of the kinds.
pub fn schema() -> Value {
    let mut generator = SchemaSettings::draft07().into_generator();
    let kind = |kind: ObjectKind| {
        let spec = match kind {
            ObjectKind::Tenant => generator.subschema_for::<TenantSpec>(),
            ObjectKind::TrustedIssuer => generator.subschema_for::<TrustedIssuerSpec>(),
            ObjectKind::WorkloadIssuer => generator.subschema_for::<WorkloadIssuerSpec>(),
            ObjectKind::CertificateAuthority => generator.subschema_for::<CertificateAuthoritySpec>(),
            ObjectKind::AuthorizationDetailType => generator.subschema_for::<AuthorizationDetailTypeSpec>(),
            ObjectKind::Resource => generator.subschema_for::<ResourceSpec>(),
            ObjectKind::Agent => generator.subschema_for::<AgentSpec>(),
            ObjectKind::TaskType => generator.subschema_for::<TaskTypeSpec>(),
            ObjectKind::Exception => generator.subschema_for::<ExceptionSpec>(),
            ObjectKind::Administrator => generator.subschema_for::<AdministratorSpec>(),
        };
        let name = generator.subschema_for::<Name>();
        json!({
            "title": kind.as_str(),
            "type": "object",
            "required": KEYS,
            "additionalProperties": false,
            "properties": { "kind": { "const": kind.as_str() }, "tenant": name, "name": name, "spec": spec },
        })
    };
    let kinds: Vec<Value> = ObjectKind::ALL.map(kind).into();
    json!({
        "$schema": "http://json-schema.org/draft-07/schema#",
        "title": "Declarative object of Taskgrant",
        "oneOf": kinds,
        "definitions": generator.take_definitions(true),
    })
}

fn member<T: DeserializeOwned>(file: &str, entry: &Entry) -> Result<T, Box<Fault>> {
    fit(&entry.value).map_err(|m| {
        let message = format!("`{}`: {}", entry.key, m.message);
        let place = m.place.or(Some(entry.value.place));
        Box::new(Fault { suggestion: m.suggestion, ..Fault::of_file(file, place, message) })
    })
}

fn spec(kind: ObjectKind, node: &Node) -> Result<Spec, Misfit> {
    Ok(match kind {
        ObjectKind::Tenant => Spec::Tenant(fit(node)?),
        ObjectKind::TrustedIssuer => Spec::TrustedIssuer(fit(node)?),
        ObjectKind::WorkloadIssuer => Spec::WorkloadIssuer(fit(node)?),
        ObjectKind::CertificateAuthority => Spec::CertificateAuthority(fit(node)?),
        ObjectKind::AuthorizationDetailType => Spec::AuthorizationDetailType(fit(node)?),
        ObjectKind::Resource => Spec::Resource(fit(node)?),
        ObjectKind::Agent => Spec::Agent(fit(node)?),
        ObjectKind::TaskType => Spec::TaskType(fit(node)?),
        ObjectKind::Exception => Spec::Exception(fit(node)?),
        ObjectKind::Administrator => Spec::Administrator(fit(node)?),
    })
}

fn misfit(file: &str, id: &ObjectRef, spec: Result<&Entry, Box<Fault>>, misfit: Misfit) -> Fault {
    let joint = if misfit.path.is_empty() { "" } else { "." };
    let path = format!("spec{joint}{}", misfit.path);
    let message = if misfit.within {
        format!("{} in {} {path}", misfit.message, id.kind)
    } else {
        format!("`{path}`: {}", misfit.message)
    };
    // What is missing at the top of the spec is told at the key `spec`, not at its first member.
    let own = spec.ok().filter(|_| misfit.path.is_empty() && misfit.message.starts_with("missing"));
    let place = own.map(|e| e.place).or(misfit.place);
    Fault {
        object: Some(id.to_string()),
        path: Some(path),
        suggestion: misfit.suggestion,
        ..Fault::of_file(file, place, message)
    }
}

#[cfg(test)]
#[path = "documents_tests.rs"]
mod tests;
