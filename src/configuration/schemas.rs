//! The JSON Schemas of authorization-detail types, compiled: what a detail must look like besides its field rules.

use std::collections::HashMap;
use std::sync::Arc;

use jsonschema::Validator;
use serde_json::{Map, Value};

use crate::domain::build::Fault;
use crate::domain::details::BadDetails;
use crate::domain::ids::{Name, shown};
use crate::domain::objects::{ObjectKind, ObjectRef};
use crate::domain::snapshot::{DetailType, Reach, Snapshot};
use crate::policy::schema::{misfit, validator};

/// The compiled schemas of all authorization-detail types of a snapshot.
#[derive(Clone, Debug, Default)]
pub struct DetailSchemas {
    by_name: HashMap<Name, Vec<(Reach, Arc<Validator>)>>,
}

impl DetailSchemas {
    /// Compiles the schemas of `snapshot`, and checks the details that its ceilings declare against them.
    ///
    /// A schema that refers to anything outside itself is a fault: nothing is ever fetched.
    pub fn compile(snapshot: &Snapshot) -> Result<Self, Vec<Fault>> {
        let mut schemas = Self::default();
        let mut faults = Vec::new();
        for kind in snapshot.detail_types() {
            match validator(&kind.spec.schema) {
                Ok(validator) => {
                    let serving = schemas.by_name.entry(kind.name.clone()).or_default();
                    serving.push((kind.reach.clone(), Arc::new(validator)));
                }
                Err(message) => faults.push(fault(&id_of(kind), "spec.schema", message)),
            }
        }
        if faults.is_empty() {
            faults = schemas.declared(snapshot);
        }
        if faults.is_empty() { Ok(schemas) } else { Err(faults) }
    }

    /// Whether each object of an `authorization_details` array fits the schema of its type in `tenant`.
    ///
    /// Types that are not registered are left to [`crate::domain::details::Details::read`].
    pub fn validate(&self, tenant: &Name, details: &Value) -> Result<(), BadDetails> {
        let items = details.as_array().map(Vec::as_slice).unwrap_or_default();
        items.iter().try_for_each(|item| self.fits(item, |reach| reach.serves(tenant)))
    }

    fn fits(&self, item: &Value, serves: impl Fn(&Reach) -> bool) -> Result<(), BadDetails> {
        let kind = item.get("type").and_then(Value::as_str).and_then(|t| t.parse::<Name>().ok());
        let Some((kind, serving)) = kind.and_then(|k| self.by_name.get_key_value(&k)) else { return Ok(()) };
        for (_, validator) in serving.iter().filter(|(reach, _)| serves(reach)) {
            if let Some(why) = misfit(validator, item) {
                return Err(BadDetails::Schema { kind: kind.clone(), why: shown(&why) });
            }
        }
        Ok(())
    }

    /// A ceiling is held to the schema too: what a schema requires, every ceiling limits.
    fn declared(&self, snapshot: &Snapshot) -> Vec<Fault> {
        let mut faults = Vec::new();
        let mut check = |id: &ObjectRef, path: String, items: &[Map<String, Value>]| {
            for (index, item) in items.iter().enumerate() {
                let tenant = &id.tenant;
                let at_home = |reach: &Reach| reach.tenant.is_system() || reach.tenant == *tenant;
                if let Err(bad) = self.fits(&Value::Object(item.clone()), at_home) {
                    faults.push(fault(id, format!("{path}.authorization_details[{index}]"), bad.to_string()));
                }
            }
        };
        for task_type in snapshot.task_types() {
            let id = object(ObjectKind::TaskType, &task_type.reach, &task_type.name);
            check(&id, "spec".to_owned(), &task_type.spec.authorization_details);
            for (index, edge) in task_type.spec.delegation.edges.iter().enumerate() {
                let items = edge.authorization_details.as_deref().unwrap_or_default();
                check(&id, format!("spec.delegation.edges[{index}]"), items);
            }
        }
        for issuer in snapshot.issuers() {
            let id = object(ObjectKind::TrustedIssuer, &issuer.reach, &issuer.name);
            for (index, rule) in issuer.spec.entitlements.iter().enumerate() {
                let items = rule.authorization_details.as_deref().unwrap_or_default();
                check(&id, format!("spec.entitlements[{index}]"), items);
            }
        }
        faults
    }
}

fn object(kind: ObjectKind, reach: &Reach, name: &Name) -> ObjectRef {
    ObjectRef { kind, tenant: reach.tenant.clone(), name: name.clone() }
}

fn id_of(kind: &DetailType) -> ObjectRef {
    object(ObjectKind::AuthorizationDetailType, &kind.reach, &kind.name)
}

fn fault(object: &ObjectRef, path: impl Into<String>, message: String) -> Fault {
    Fault { object: object.clone(), path: path.into(), message, choices: Vec::new() }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::domain::build::build;
    use crate::domain::objects::{Object, Spec};

    fn object(kind: ObjectKind, name: &str, spec: &Value) -> Object {
        let id = ObjectRef { kind, tenant: "acme".parse().unwrap(), name: name.parse().unwrap() };
        Object { id, version: 1, spec: Spec::from_json(kind, spec.to_string().as_bytes()).unwrap() }
    }

    fn compile(schema: &Value, declared: &Value) -> Result<DetailSchemas, Vec<Fault>> {
        let issuer = json!({
            "issuer": "https://idp.example", "accept": [{"type": "jwt", "audience": "us"}],
            "entitlements": [{"authorization_details": declared}],
        });
        let kind = json!({"schema": schema, "fields": {"tools": "subset", "amount": "at_most"}});
        let objects = [
            object(ObjectKind::Tenant, "acme", &json!({})),
            object(ObjectKind::AuthorizationDetailType, "tool_call", &kind),
            object(ObjectKind::TrustedIssuer, "idp", &issuer),
        ];
        DetailSchemas::compile(&build(&objects, &[], "https://us.example").unwrap())
    }

    fn tool_call() -> Value {
        json!({"type": "object", "required": ["tools"], "properties": {"tools": {"maxItems": 2}}})
    }

    #[test]
    fn a_detail_is_held_to_the_schema_of_its_type() {
        let schemas = compile(&tool_call(), &json!([])).unwrap();
        let check =
            |tenant: &str, detail: Value| schemas.validate(&tenant.parse().unwrap(), &json!([detail]));
        assert_eq!(check("acme", json!({"type": "tool_call", "tools": ["a"]})), Ok(()));
        let error = check("acme", json!({"type": "tool_call", "tools": ["secret", "b", "c"]})).unwrap_err();
        assert!(!error.to_string().contains("secret"), "{error}");
        assert!(check("acme", json!({"type": "tool_call"})).is_err());
        assert_eq!(check("other", json!({"type": "tool_call"})), Ok(()), "not a type of that tenant");
    }

    #[test]
    fn a_ceiling_is_held_to_the_schema_too() {
        let faults = compile(&tool_call(), &json!([{"type": "tool_call", "amount": 5}])).unwrap_err();
        assert_eq!(faults[0].path, "spec.entitlements[0].authorization_details[0]");
    }

    #[test]
    fn a_schema_that_is_none_or_refers_elsewhere_is_a_fault() {
        for bad in [
            json!({"type": 5}),
            json!({"$ref": "https://elsewhere.example/schema"}),
            json!({"$ref": "file:///etc/passwd"}),
            json!({"$schema": "https://elsewhere.example/schema"}),
            json!({"pattern": "(a"}),
            json!({"pattern": "(?=a)b"}),
            json!("text"),
        ] {
            let faults = compile(&bad, &json!([])).map(|_| bad.clone()).unwrap_err();
            assert_eq!(faults[0].path, "spec.schema", "{bad}");
        }
    }
}
