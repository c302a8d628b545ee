//! A JSON Schema that comes from outside, compiled: nothing is fetched for it, and none can stop the server.

use jsonschema::{PatternOptions, Validator};
use serde_json::Value;

/// Most bytes that a compiled `pattern` may take.
const PATTERN_SIZE: usize = 1 << 20;

/// Compiles a schema. One that refers to anything outside itself is a fault.
pub fn validator(schema: &Value) -> Result<Validator, String> {
    // The linear engine: a pattern must not be able to stop the server.
    let patterns = PatternOptions::regex().size_limit(PATTERN_SIZE);
    let options = jsonschema::options().offline().with_pattern_options(patterns);
    options.build(schema).map_err(|error| format!("no usable JSON Schema: {error}"))
}

/// Where and why `value` does not fit. Masked: no value is repeated, which may be somebody's data; names of members are, since
/// the place is told by them.
pub fn misfit(validator: &Validator, value: &Value) -> Option<String> {
    let error = validator.validate(value).err()?;
    Some(format!("at `{}`: {}", error.instance_path(), error.masked()))
}
