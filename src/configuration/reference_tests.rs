//! `docs/reference/objects.md` against the code: every example builds, every field is told, and no other.

use std::collections::BTreeSet;
use std::fmt;

use serde::de::{Deserialize, Deserializer, Error, Visitor};
use serde::forward_to_deserialize_any;

use super::documents::{Source, read};
use super::schemas::DetailSchemas;
use crate::domain::build::build;
use crate::domain::envelope::EnvelopeTerms;
use crate::domain::objects::*;

const REFERENCE: &str = include_str!("../../docs/reference/objects.md");

#[test]
fn every_example_of_the_reference_loads_and_they_build_together() {
    let blocks = REFERENCE.split("```yaml\n").skip(1).map(|b| b.split("```").next().unwrap());
    let sources: Vec<Source> = blocks
        .enumerate()
        .map(|(i, text)| Source { file: format!("block {i}"), text: text.into() })
        .collect();
    let documents = read(&sources).unwrap();
    let kinds: BTreeSet<ObjectKind> = documents.iter().map(|d| d.id.kind).collect();
    assert_eq!(kinds.len(), ObjectKind::ALL.len(), "{kinds:?}");
    let objects: Vec<Object> =
        documents.into_iter().map(|d| Object { id: d.id, version: 1, spec: d.spec }).collect();
    let snapshot = build(&objects, &[], "https://taskgrant.acme.example").unwrap();
    DetailSchemas::compile(&snapshot).unwrap();
}

#[test]
fn the_reference_tells_every_field_and_no_other() {
    let told = |kind: ObjectKind| {
        let section =
            REFERENCE.split(&format!("\n## {kind}\n")).nth(1).unwrap().split("\n## ").next().unwrap();
        let table =
            section.split("| field of `spec` | meaning |").nth(1).unwrap().split("\n\n").next().unwrap();
        let rows = table.lines().filter_map(|line| line.strip_prefix("| `"));
        rows.map(|row| row.split('`').next().unwrap().to_owned()).collect::<BTreeSet<String>>()
    };
    let fields = |parts: &[(&str, Vec<&'static str>)]| {
        let names = parts.iter().flat_map(|(at, names)| names.iter().map(move |n| format!("{at}{n}")));
        names.collect::<BTreeSet<String>>()
    };
    assert_eq!(told(ObjectKind::Tenant), fields(&[("", of::<TenantSpec>())]));
    assert_eq!(
        told(ObjectKind::AuthorizationDetailType),
        fields(&[("", of::<AuthorizationDetailTypeSpec>())])
    );
    let auth = [
        ("auth.", of::<AuthSpec>()),
        ("auth.workload[].", of::<WorkloadSpec>()),
        ("auth.tls.", of::<TlsAuthSpec>()),
    ];
    let resource = [("", of::<ResourceSpec>())];
    assert_eq!(told(ObjectKind::Resource), fields(&[&resource[..], &auth].concat()));
    let agent = [("", of::<AgentSpec>()), ("upstream_clients[].", of::<UpstreamClientSpec>())];
    assert_eq!(told(ObjectKind::Agent), fields(&[&agent[..], &auth].concat()));
    assert_eq!(told(ObjectKind::WorkloadIssuer), fields(&[("", of::<WorkloadIssuerSpec>())]));
    assert_eq!(told(ObjectKind::CertificateAuthority), fields(&[("", of::<CertificateAuthoritySpec>())]));
    assert_eq!(
        told(ObjectKind::TrustedIssuer),
        fields(&[
            ("", of::<TrustedIssuerSpec>()),
            ("accept[].", of::<AcceptSpec>()),
            ("entitlements[].", of::<EntitlementSpec>()),
            ("entitlements[].when.", of::<ConditionSpec>()),
            ("logout.", of::<LogoutSpec>()),
            ("logout.backchannel.", of::<BackchannelSpec>()),
            ("logout.caep.", of::<CaepSpec>()),
        ])
    );
    assert_eq!(
        told(ObjectKind::TaskType),
        fields(&[
            ("", of::<TaskTypeSpec>()),
            ("lifetime.", of::<LifetimeSpec>()),
            ("lifetime.token.", of::<TokenLifetimeSpec>()),
            ("delegation.", of::<DelegationSpec>()),
            ("delegation.edges[].", of::<EdgeSpec>()),
            ("approval.", of::<ApprovalSpec>()),
            ("approval.envelope.", of::<EnvelopeTerms>()),
        ])
    );
    assert_eq!(told(ObjectKind::Exception), fields(&[("", of::<ExceptionSpec>())]));
    assert_eq!(told(ObjectKind::Administrator), fields(&[("", of::<AdministratorSpec>())]));
}

/// The fields of `T`, as it asks for them.
fn of<'de, T: Deserialize<'de> + fmt::Debug>() -> Vec<&'static str> {
    T::deserialize(Ask).unwrap_err().0
}

struct Ask;

#[derive(Debug)]
struct Asked(Vec<&'static str>);

impl fmt::Display for Asked {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}", self.0)
    }
}

impl std::error::Error for Asked {}

impl Error for Asked {
    fn custom<T: fmt::Display>(_: T) -> Self {
        Self(Vec::new())
    }
}

impl<'de> Deserializer<'de> for Ask {
    type Error = Asked;

    fn deserialize_struct<V: Visitor<'de>>(
        self,
        _name: &'static str,
        fields: &'static [&'static str],
        _visitor: V,
    ) -> Result<V::Value, Asked> {
        Err(Asked(fields.to_vec()))
    }

    fn deserialize_any<V: Visitor<'de>>(self, _visitor: V) -> Result<V::Value, Asked> {
        Err(Asked(Vec::new()))
    }

    forward_to_deserialize_any! {
        bool i8 i16 i32 i64 i128 u8 u16 u32 u64 u128 f32 f64 char str string bytes byte_buf unit unit_struct
        seq tuple tuple_struct map identifier ignored_any enum option newtype_struct
    }
}
