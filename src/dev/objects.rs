//! The demo's objects: the YAML beside this file with the address and the secrets of one data folder filled in, and
//! applied as `taskgrant apply` would.

use std::collections::BTreeMap;

use super::cast;
use super::fault::DevFault;
use super::provider;
use super::secrets::{Secrets, sha256_hex};
use crate::configuration::apply::{Configuration, Options};
use crate::configuration::documents::{Source, read};
use crate::domain::details::FieldRule;
use crate::domain::objects::{Object, Spec};

/// The name in faults and in the log, and the text.
const TEMPLATES: [(&str, &str); 6] = [
    ("demo/1-tenant.yaml", include_str!("objects/1-tenant.yaml")),
    ("demo/2-tool-call.yaml", include_str!("objects/2-tool-call.yaml")),
    ("demo/3-resources.yaml", include_str!("objects/3-resources.yaml")),
    ("demo/4-agents.yaml", include_str!("objects/4-agents.yaml")),
    ("demo/5-task-types.yaml", include_str!("objects/5-task-types.yaml")),
    ("demo/6-administrators.yaml", include_str!("objects/6-administrators.yaml")),
];

/// Who applies them, for the log.
const ACTOR: &str = "taskgrant dev";

/// The documents for the server at `public_url`.
pub(super) fn sources(public_url: &str, secrets: &Secrets) -> Vec<Source> {
    let idp = format!("{public_url}{}", provider::PATH);
    let fill = |text: &str| {
        let mut text = text.replace("{{issuer}}", public_url).replace("{{idp}}", &idp);
        for client in cast::clients() {
            let hash = secrets.client_sha256(client).unwrap_or_default();
            text = text.replace(&format!("{{{{sha256:{client}}}}}"), &hash);
        }
        text
    };
    TEMPLATES.iter().map(|(file, text)| Source { file: (*file).to_owned(), text: fill(text) }).collect()
}

/// Applies the demo's objects, unless just these were applied to this folder before: what its owner changed since,
/// stays. Tells whether anything changed.
///
/// A newer version of the demo may allow more than an older one: it is ours to widen.
pub(super) async fn apply(
    configuration: &Configuration,
    public_url: &str,
    secrets: &mut Secrets,
) -> Result<bool, DevFault> {
    let sources = sources(public_url, secrets);
    let texts: Vec<&str> = sources.iter().map(|s| s.text.as_str()).collect();
    let name = sha256_hex(texts.concat().as_bytes());
    let stored = configuration.objects().await?;
    let there = stored.iter().any(|object| object.id.tenant.as_str() == cast::TENANT);
    if there && secrets.applied.as_deref() == Some(name.as_str()) {
        return Ok(false);
    }
    let idp = format!("{public_url}{}", provider::PATH);
    let is_its = |object: &Object| matches!(&object.spec, Spec::TrustedIssuer(spec) if spec.issuer == idp);
    if stored.iter().any(|object| is_its(object) && !object.id.tenant.is_system()) {
        return Err(DevFault::OlderDemo);
    }
    let options = Options { allow_widening: true, ..Options::default() };
    let applied = configuration.apply(sources, options, ACTOR).await?;
    secrets.applied = Some(name);
    Ok(!applied.plan.is_empty())
}

/// The field rules of the type of authorization details `tool_call`, as it comes with this program.
pub(super) fn tool_call_fields() -> BTreeMap<String, FieldRule> {
    let shipped =
        TEMPLATES.iter().map(|(file, text)| Source { file: (*file).to_owned(), text: (*text).to_owned() });
    let documents: Vec<Source> = shipped.filter(|source| source.file.contains("tool-call")).collect();
    let mut specs = read(&documents).unwrap_or_default().into_iter().map(|document| document.spec);
    let fields = |spec| match spec {
        Spec::AuthorizationDetailType(spec) => Some(spec.fields),
        Spec::Tenant(_)
        | Spec::TrustedIssuer(_)
        | Spec::WorkloadIssuer(_)
        | Spec::CertificateAuthority(_)
        | Spec::Resource(_)
        | Spec::Agent(_)
        | Spec::TaskType(_)
        | Spec::Exception(_)
        | Spec::Administrator(_) => None,
    };
    specs.find_map(fields).unwrap_or_default()
}

#[cfg(test)]
pub(super) mod tests {
    use std::collections::BTreeSet;

    use super::*;
    use crate::clock::Random;
    use crate::configuration::schemas::DetailSchemas;
    use crate::domain::build::build;
    use crate::domain::snapshot::Snapshot;

    const US: &str = "http://127.0.0.1:8080";

    /// The demo's objects as they are in force after the first start.
    pub(in crate::dev) fn demo_objects() -> Vec<Object> {
        let mut secrets = Secrets::new("127.0.0.1:8080".parse().unwrap());
        secrets.complete(&Random::default());
        let documents = read(&sources(US, &secrets)).unwrap_or_else(|faults| panic!("{faults:#?}"));
        documents.into_iter().map(|d| Object { id: d.id, version: 1, spec: d.spec }).collect()
    }

    fn demo() -> Snapshot {
        build(&demo_objects(), &[], US).unwrap_or_else(|faults| panic!("{faults:#?}"))
    }

    #[test]
    fn the_objects_fit_together_and_to_their_schemas() {
        DetailSchemas::compile(&demo()).unwrap();
    }

    #[test]
    fn the_shipped_type_limits_tools_and_amounts() {
        let fields = tool_call_fields();
        assert_eq!(fields.get("tools"), Some(&FieldRule::Subset));
        assert_eq!(fields.get("amount"), Some(&FieldRule::AtMost));
    }

    #[test]
    fn every_template_of_the_folder_is_embedded_and_filled_in() {
        let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/src/dev/objects");
        assert_eq!(std::fs::read_dir(folder).unwrap().count(), TEMPLATES.len());
        let mut secrets = Secrets::new("127.0.0.1:8080".parse().unwrap());
        secrets.complete(&Random::default());
        assert!(sources(US, &secrets).iter().all(|s| !s.text.contains("{{")));
    }

    #[test]
    fn the_demo_has_what_was_promised() {
        let demo = demo();
        let tenant = cast::TENANT.parse().unwrap();
        let agents: Vec<_> = demo.agents().filter(|a| a.reach.tenant == tenant).collect();
        let classes: BTreeSet<_> = agents.iter().map(|a| &a.spec.class).collect();
        assert_eq!((agents.len(), classes.len()), (3, 2));
        assert_eq!(demo.resources().filter(|resource| !resource.is_built_in()).count(), 3);
        assert!(demo.task_types().count() >= 4);
        for agent in cast::AGENTS {
            let agent = demo.agent(&agent.parse().unwrap()).unwrap();
            assert!(!demo.startable(&tenant, agent).is_empty(), "{}", agent.name);
        }
        let consoles: Vec<_> = demo.agents().filter(|a| a.spec.class.is_console()).collect();
        assert!(consoles.len() == 1 && consoles[0].spec.client_id.as_str() == cast::ADMIN_CONSOLE);
        for client in cast::RESOURCES {
            assert!(demo.resource_client(&client.parse().unwrap()).is_some(), "{client}");
        }
    }
}
