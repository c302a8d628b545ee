//! `openapi.yaml` as a value, and the check of a body against the schema that it has for it.

use serde_json::{Map, Value, json};

const TEXT: &str = include_str!("../../openapi.yaml");

/// The document.
pub(crate) struct Document(Value);

impl Document {
    /// Reads it.
    pub(crate) fn read() -> Self {
        Self(serde_saphyr::from_str(TEXT).unwrap_or_else(|fault| panic!("openapi.yaml: {fault}")))
    }

    /// The node at a JSON pointer; panics when there is none.
    pub(crate) fn at(&self, pointer: &str) -> &Value {
        self.0.pointer(pointer).unwrap_or_else(|| panic!("openapi.yaml has nothing at {pointer}"))
    }

    /// The operations: path, method, operation.
    pub(crate) fn operations(&self) -> Vec<(&str, &str, &Value)> {
        let methods = ["get", "post", "put", "patch", "delete"];
        let mut found = Vec::new();
        for (path, item) in members(self.at("/paths")) {
            for (method, operation) in members(item).iter().filter(|(key, _)| methods.contains(&key.as_str()))
            {
                found.push((path.as_str(), method.as_str(), operation));
            }
        }
        found
    }

    /// `node`, or what its `$ref` leads to.
    pub(crate) fn resolve<'a>(&'a self, node: &'a Value) -> &'a Value {
        match node.get("$ref").and_then(Value::as_str) {
            Some(reference) => self.at(reference.trim_start_matches('#')),
            None => node,
        }
    }

    /// What is wrong with `body` by `schema`, whose references lead into this document.
    pub(crate) fn faults(&self, schema: &Value, body: &Value) -> Vec<String> {
        let whole = json!({"allOf": [schema], "components": self.at("/components")});
        let validator = jsonschema::validator_for(&whole).unwrap_or_else(|fault| panic!("{schema}: {fault}"));
        validator.iter_errors(body).map(|fault| format!("{}: {fault}", fault.instance_path())).collect()
    }

    /// What is wrong with an answer: an undocumented status, or a body that its schema does not allow.
    pub(crate) fn faults_of_answer(
        &self,
        path: &str,
        method: &str,
        status: u16,
        body: &Value,
    ) -> Vec<String> {
        let operation = self.operations().into_iter().find(|(p, m, _)| *p == path && *m == method);
        let Some((_, _, operation)) = operation else { return vec![format!("{method} {path} is not there")] };
        let Some(answer) = operation["responses"].get(status.to_string()) else {
            return vec![format!("{method} {path} has no {status}")];
        };
        match self.resolve(answer).pointer("/content/application~1json/schema") {
            Some(schema) => self.faults(schema, body),
            None if body.is_null() => Vec::new(),
            None => vec![format!("{method} {path} {status} has a body")],
        }
    }
}

/// The members of an object.
pub(crate) fn members(value: &Value) -> &Map<String, Value> {
    value.as_object().unwrap_or_else(|| panic!("no object: {value}"))
}
