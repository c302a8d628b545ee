//! What must hold of the ways in which a client authenticates.

use super::build_issuer::check_algorithms;
use super::objects::AuthSpec;

/// Faults of `auth`, as (path, message).
pub(super) fn check(auth: &AuthSpec) -> Vec<(String, String)> {
    let mut faults = check_algorithms("spec.auth.algorithms", &auth.algorithms);
    let mut fault = |path: &str, message: &str| faults.push((path.to_owned(), message.to_owned()));
    if auth.secret_sha256.len() > 2 {
        fault("spec.auth.secret_sha256", "at most two secrets may be valid at once");
    }
    if auth.jwks.is_some() && auth.jwks_uri.is_some() {
        fault(
            "spec.auth.jwks_uri",
            "keys stand in `jwks` or at `jwks_uri`, not in both (RFC 7591 section 2)",
        );
    }
    faults
}
