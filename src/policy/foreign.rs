//! Evaluates any Rego on any input (`taskgrant policy eval --rego`): for what a pipeline asks beside our own bundles, such as a
//! Terraform plan or a Kubernetes admission review. Nothing of a bundle's rules binds it, and no decision comes of it.

use std::num::NonZeroU32;
use std::time::Duration;

use regorus::utils::limits::ExecutionTimerConfig;
use regorus::{Engine, Value};

use super::fault::{PolicyFault, compile_fault, evaluation_fault};
use super::value;

/// How long one query may take.
const TIME: Duration = Duration::from_secs(30);
/// Steps between two looks at the clock.
const CHECK_INTERVAL: NonZeroU32 = NonZeroU32::new(1024).unwrap();

/// The value of `query`, such as `data.terraform.deny`, over these modules (path and text) and this input; none if it is
/// undefined. As in OPA, a built-in that fails is undefined.
pub fn evaluate(
    modules: &[(String, String)],
    query: &str,
    input: &serde_json::Value,
) -> Result<Option<serde_json::Value>, PolicyFault> {
    let mut engine = Engine::new();
    engine.set_strict_builtin_errors(false);
    engine.set_execution_timer_config(ExecutionTimerConfig { limit: TIME, check_interval: CHECK_INTERVAL });
    for (path, text) in modules {
        let parsed = engine.add_policy(path.clone(), text.clone());
        parsed.map_err(|error| compile_fault(&error.to_string()))?;
    }
    engine.set_input(value::json(input));
    let results = engine.eval_query(query.to_owned(), false);
    let results = results.map_err(|error| evaluation_fault(&error.to_string()))?;
    let last = results.result.first().and_then(|result| result.expressions.last());
    match last.map(|expression| &expression.value) {
        None | Some(Value::Undefined) => Ok(None),
        Some(value) => {
            let told = serde_json::to_value(value);
            told.map(Some).map_err(|error| PolicyFault::Evaluation(error.to_string()))
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn run(text: &str, query: &str) -> Result<Option<serde_json::Value>, PolicyFault> {
        let input = json!({"replicas": 3, "names": ["b", "a"]});
        evaluate(&[("any.rego".to_owned(), text.to_owned())], query, &input)
    }

    const ANY: &str = "package any.thing\nimport rego.v1\nnames contains n if some n in input.names\n\
        many if input.replicas > 2\nfew if input.replicas < 2\nbroken if count(input.replicas) > 0\n";

    #[test]
    fn a_rule_a_package_or_an_expression_is_a_query() {
        assert_eq!(run(ANY, "data.any.thing.names").unwrap(), Some(json!(["a", "b"])));
        assert_eq!(run(ANY, "data.any.thing").unwrap(), Some(json!({"names": ["a", "b"], "many": true})));
        assert_eq!(run(ANY, "input.replicas + 1").unwrap(), Some(json!(4)));
        assert_eq!(run(ANY, "data.any.thing.few").unwrap(), None);
        assert_eq!(run(ANY, "data.any.thing.broken").unwrap(), None, "as in OPA");
    }

    #[test]
    fn a_fault_says_where() {
        let fault = |text: &str, query: &str| run(text, query).unwrap_err().to_string();
        assert!(fault("package x\nimport rego.v1\nallow if {", "data.x").starts_with("any.rego:"));
        assert!(!fault(ANY, "data.any.(").is_empty());
    }
}
