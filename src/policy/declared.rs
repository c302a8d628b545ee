//! Which documents may be put beside a bundle: those for which it brings a schema (DESIGN §6). `FOLDER/schemas/teams/eu.json` is the
//! JSON Schema of what may be put at `data.teams.eu`; there is no other such place (L7).

use std::sync::Arc;

use jsonschema::Validator;
use regorus::Value;

use super::bundle::{Bundle, Kind};
use super::data::{Data, DataPath, Document, record};
use super::fault::PolicyFault;
use super::machine::{Parsed, RunLimits};
use super::schema::{misfit, validator};
use super::value;
use crate::domain::decision::DataRecord;

/// Documents of more bytes are shared by all threads: a copy for each would cost more than sharing does.
const SHARED_FROM: usize = 64 << 10;

/// One schema of a bundle.
struct Declared {
    /// The file that says so.
    file: String,
    path: DataPath,
    validator: Validator,
}

/// The schemas of a bundle. Where several are of the same path, a document has to fit all of them.
pub(super) struct Schemas(Vec<Declared>);

impl Schemas {
    /// Reads the schemas of `bundle`. Faults name the file.
    fn of(bundle: &Bundle) -> Result<Self, PolicyFault> {
        let mut all: Vec<Declared> = Vec::new();
        for (file, text) in bundle.of_kind(Kind::Schema) {
            let fault = |problem: String| PolicyFault::File { path: file.to_owned(), problem };
            let dotted = file.strip_suffix(".json").unwrap_or(file).split('/').skip(2);
            let dotted = dotted.collect::<Vec<_>>().join(".");
            let path: DataPath = dotted.parse().map_err(|why| fault(format!("{why}")))?;
            let within = |other: &&Declared| other.path != path && other.path.meets(&path);
            if let Some(other) = all.iter().find(within) {
                let problem = format!("`data.{path}` and `data.{}` of `{}` meet", other.path, other.file);
                return Err(fault(problem));
            }
            let schema = serde_json::from_str(text).map_err(|why| fault(why.to_string()))?;
            let validator = validator(&schema).map_err(fault)?;
            all.push(Declared { file: file.to_owned(), path, validator });
        }
        Ok(Self(all))
    }

    /// Whether anything may be put at `path`.
    fn declare(&self, path: &DataPath) -> bool {
        self.at(path).next().is_some()
    }

    /// The paths at which documents may be put.
    pub(super) fn paths(&self) -> impl Iterator<Item = &DataPath> {
        self.0.iter().map(|declared| &declared.path)
    }

    fn at(&self, path: &DataPath) -> impl Iterator<Item = &Declared> {
        self.0.iter().filter(move |declared| declared.path == *path)
    }

    /// Whether a document may lie at its path: it fits every schema of that, or there is none.
    pub(super) fn check(&self, document: &Document) -> Result<(), PolicyFault> {
        if !self.declare(document.path()) {
            return Ok(());
        }
        let value = document.value().map_err(|why| data_fault(document.path(), why.to_string()))?;
        self.check_value(document.path(), &value)
    }

    fn check_value(&self, path: &DataPath, value: &serde_json::Value) -> Result<(), PolicyFault> {
        for Declared { file, validator, .. } in self.at(path) {
            if let Some(why) = misfit(validator, value) {
                return Err(data_fault(path, format!("it does not fit `{file}`: {why}")));
            }
        }
        Ok(())
    }

    /// Whether what the bundle itself has at these paths fits: else its rules would be tested on what could never be put.
    fn check_own(&self, data: &Value) -> Result<(), PolicyFault> {
        for Declared { file, path, validator } in &self.0 {
            let fault = |problem: String| PolicyFault::File { path: file.clone(), problem };
            let mut found = Some(data);
            for segment in path.segments() {
                let Some(at) = found else { break };
                let members = at.as_object().map_err(|_| {
                    fault(format!("nothing can be put at `data.{path}`: what the bundle itself has above it is no object"))
                })?;
                found = members.get(&Value::from(segment));
            }
            let Some(found) = found else { continue };
            let own = serde_json::to_value(found).map_err(|why| data_fault(path, why.to_string()))?;
            if let Some(why) = misfit(validator, &own) {
                return Err(fault(format!(
                    "what the bundle itself has at `data.{path}` does not fit: {why}"
                )));
            }
        }
        Ok(())
    }
}

/// The schemas of `bundle`, where all of them are schemas, and what it has itself at their paths fits.
pub(super) fn check(bundle: &Bundle) -> Result<Schemas, PolicyFault> {
    let schemas = Schemas::of(bundle)?;
    if !schemas.0.is_empty() {
        schemas.check_own(&Parsed::of(bundle, &[], RunLimits::default())?.data())?;
    }
    Ok(schemas)
}

fn data_fault(path: &DataPath, problem: String) -> PolicyFault {
    PolicyFault::Data { path: path.to_string(), problem }
}

/// The documents that take the place of what a bundle has at their paths.
#[derive(Clone, Default)]
pub(super) struct Overlay(Option<Arc<Laid>>);

struct Laid {
    record: DataRecord,
    documents: Vec<(Document, Option<Value>)>,
}

impl Overlay {
    /// Those of `data` that a bundle with these schemas declares; each must fit.
    pub(super) fn of(schemas: &Schemas, data: &Data) -> Result<Self, PolicyFault> {
        let used: Vec<Document> = data.documents().filter(|d| schemas.declare(d.path())).cloned().collect();
        let Some(version) = data.version().filter(|_| !used.is_empty()) else { return Ok(Self::default()) };
        let record = record(version, &used);
        let mut documents = Vec::new();
        for document in used {
            schemas.check(&document)?;
            let shared =
                if document.content().len() > SHARED_FROM { Some(engine_value(&document)?) } else { None };
            documents.push((document, shared));
        }
        Ok(Self(Some(Arc::new(Laid { record, documents }))))
    }

    /// What a decision names of it; none where the bundle's own data is all there is.
    pub(super) fn record(&self) -> Option<&DataRecord> {
        self.0.as_deref().map(|laid| &laid.record)
    }

    /// Lays the documents over the bundle's own data. None of this thread's small ones is shared with another one.
    pub(super) fn lay(&self, data: &mut Value) -> Result<(), PolicyFault> {
        for (document, shared) in self.0.iter().flat_map(|laid| &laid.documents) {
            let value = match shared {
                Some(shared) => shared.clone(),
                None => engine_value(document)?,
            };
            put(data, document.path(), value)?;
        }
        Ok(())
    }

    pub(super) fn is_empty(&self) -> bool {
        self.0.is_none()
    }
}

fn engine_value(document: &Document) -> Result<Value, PolicyFault> {
    let read = document.value().map_err(|why| data_fault(document.path(), why.to_string()))?;
    Ok(value::json(&read))
}

fn put(data: &mut Value, path: &DataPath, document: Value) -> Result<(), PolicyFault> {
    let mut at = data;
    for segment in path.segments() {
        let no_object =
            || data_fault(path, "the bundle has something else than an object above it".to_owned());
        let members = at.as_object_mut().map_err(|_| no_object())?;
        at = members.get_or_insert_with(Value::from(segment), Value::new_object);
    }
    *at = document;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::policy::check;
    use crate::policy::engine::PolicyEngine;
    use crate::policy::suite::{self, patient};
    use crate::policy::testing::{bundle_of, good_input, module};

    const NUMBERS: &str = r#"{"type": "object", "additionalProperties": {"type": "integer"}}"#;

    fn document(path: &str, text: &str) -> Document {
        Document::read(path.parse().unwrap(), text.as_bytes()).unwrap()
    }

    fn bundle(files: &[(&str, &str)]) -> Bundle {
        let rules = module(
            "allow if true\nlimits contains {\"lifetime\": data.bounds.eu.most}\ntags contains data.other.name",
        );
        let all = [&[("a/r.rego", rules.as_str())], files].concat();
        bundle_of(&all)
    }

    fn told(bundle: Bundle, data: &Data) -> Result<(Option<u64>, usize), PolicyFault> {
        let judged = PolicyEngine::compile_under(bundle, data, patient())?.judge(&good_input())?;
        Ok((judged.limits.lifetime(), judged.tags.len()))
    }

    #[test]
    fn a_document_takes_the_place_of_what_the_bundle_has_at_its_path_and_of_nothing_else() {
        let own = [
            ("a/data/bounds.json", r#"{"eu": {"most": 60, "x": 1}, "us": {"most": 5}}"#),
            ("a/data/other.json", r#"{"name": "own"}"#),
            ("a/schemas/bounds/eu.json", NUMBERS),
        ];
        assert_eq!(told(bundle(&own), &Data::default()), Ok((Some(60), 1)));
        let put = Data::of([document("bounds.eu", r#"{"most": 30}"#), document("other", "{}")]).unwrap();
        assert_eq!(told(bundle(&own), &put), Ok((Some(30), 1)), "`other` is not declared");
        let engine = PolicyEngine::compile_under(bundle(&own), &put, patient()).unwrap();
        let record = engine.data().unwrap();
        assert_eq!(record.version, put.version().unwrap());
        assert_eq!(record.documents.keys().collect::<Vec<_>>(), ["bounds.eu"]);
        // Without any of its own it is the only one.
        assert_eq!(told(bundle(&own[1..]), &put), Ok((Some(30), 1)));
        assert_eq!(told(bundle(&own[..2]), &put), Ok((Some(60), 1)), "a bundle without schemas takes none");
    }

    #[test]
    fn a_large_document_is_shared_and_decides_as_a_small_one_does() {
        let text = format!(r#"{{"most": 30, "{}": 1}}"#, "x".repeat(SHARED_FROM));
        let put = Data::of([document("bounds.eu", &text)]).unwrap();
        let engine =
            PolicyEngine::compile_under(bundle(&[("a/schemas/bounds/eu.json", NUMBERS)]), &put, patient());
        let engine = engine.unwrap();
        std::thread::scope(|scope| {
            for _ in 0..3 {
                scope.spawn(|| assert_eq!(engine.judge(&good_input()).unwrap().limits.lifetime(), Some(30)));
            }
        });
    }

    #[test]
    fn a_document_that_does_not_fit_is_named_with_the_file_and_no_value_of_it() {
        let put = Data::of([document("bounds.eu", r#"{"most": "secret"}"#)]).unwrap();
        let fault = told(bundle(&[("a/schemas/bounds/eu.json", NUMBERS)]), &put).unwrap_err().to_string();
        assert!(fault.contains("`bounds.eu`") && fault.contains("`a/schemas/bounds/eu.json`"), "{fault}");
        assert!(fault.contains("/most") && !fault.contains("secret"), "{fault}");
        // Of two folders both have to like it.
        let both = [("a/schemas/bounds/eu.json", "{}"), ("b/schemas/bounds/eu.json", NUMBERS)];
        assert!(told(bundle(&both), &put).unwrap_err().to_string().contains("b/schemas"));
    }

    #[test]
    fn a_schema_that_is_none_or_meets_another_or_refuses_the_bundles_own_is_a_fault_with_its_file() {
        for (files, about) in [
            (&[("a/schemas/x.json", "{")][..], "a/schemas/x.json"),
            (&[("a/schemas/x.json", r#"{"type": 5}"#)], "no usable JSON Schema"),
            (&[("a/schemas/x.json", r#"{"$ref": "file:///etc/passwd"}"#)], "no usable JSON Schema"),
            (&[("a/schemas/x.json", "{}"), ("a/schemas/x/y.json", "{}")], "meet"),
            (&[("a/schemas/a.b.json", "{}"), ("a/schemas/a.json", "{}")], "meet"),
            (&[("a/schemas/taskgrant.json", "{}")], "no path of a document"),
            (&[("a/schemas/x.json", NUMBERS), ("a/data/x.json", r#"{"a": "b"}"#)], "the bundle itself"),
            (&[("a/schemas/x/y/z.json", "{}"), ("a/data/x.json", r#"{"y": []}"#)], "above it is no object"),
        ] {
            let fault = suite::admit(bundle(files)).unwrap_err().to_string();
            assert!(fault.contains(about), "{about}: {fault}");
            let report = check::check(&bundle(files), chrono::NaiveDate::MIN);
            assert!(
                report.findings.iter().any(|f| f.problem.contains(about) || f.at.contains(about)),
                "{report:?}"
            );
        }
        let above = [("a/schemas/x/y.json", "{}"), ("a/data/x.json", "[1]")];
        let put = Data::of([document("x.y", "1")]).unwrap();
        assert!(told(bundle(&above), &put).unwrap_err().to_string().contains("above it"));
    }
}
