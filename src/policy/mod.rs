//! Rego policy: bundles, engine, judgement.
