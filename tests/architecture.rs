//! Guards the direction of the layers (DESIGN §10): what a file of `src/` may name, and how long it may be.
//!
//! Comments, string literals and test code are taken out first: tests may reach across layers.

#[cfg(test)]
#[path = "architecture/conformance.rs"]
mod conformance;
#[cfg(test)]
#[path = "architecture/source.rs"]
mod source;

#[cfg(test)]
mod layers {
    use std::collections::BTreeSet;
    use std::fs;
    use std::path::Path;

    use crate::source::{Source, words};

    /// The layers from the inside out. A module may name all modules of the layers before its own, and itself;
    /// modules of one layer do not know one another.
    const LAYERS: [&[&str]; 12] = [
        &["domain"],
        &["hash", "recent"],
        &["log", "clock", "metrics"],
        &["keys"],
        &["policy", "issuers", "store", "config"],
        &["aggregates", "configuration", "limits", "lockdown", "notify", "status"],
        &[
            "approvals",
            "authentication",
            "exchange",
            "introspection",
            "pruning",
            "replay",
            "revocation",
            "rotation",
            "tasks",
        ],
        &["http", "admin"],
        &["app", "terminal"],
        &["dev"],
        &["cli"],
        &["main", "lib"],
    ];

    /// Crates that a pure layer may name; the other layers are bound by [`ONLY_IN`] alone.
    const PURE: [(&str, &[&str]); 2] = [
        (
            "domain",
            &[
                "std",
                "core",
                "alloc",
                "serde",
                "serde_json",
                "uuid",
                "chrono",
                "thiserror",
                "schemars",
                "hex",
            ],
        ),
        (
            "log",
            &["std", "core", "alloc", "serde", "serde_json", "uuid", "chrono", "thiserror", "ring", "base64"],
        ),
    ];

    /// Crates that only some modules may name.
    const ONLY_IN: [(&str, &[&str]); 8] = [
        ("prometheus_client", &["metrics"]),
        ("sqlx", &["store"]),
        ("regorus", &["policy"]),
        ("jsonwebtoken", &["keys"]),
        ("rsa", &["keys"]),
        ("webpki", &["keys"]),
        ("x509_cert", &["keys"]),
        ("axum", &["http", "admin", "app", "dev"]),
    ];

    /// OAuth error codes: the mapping to them is one file (STYLE §4, rule 3).
    const OAUTH_CODES: [&str; 18] = [
        "invalid_request",
        "invalid_client",
        "invalid_grant",
        "unauthorized_client",
        "unsupported_grant_type",
        "invalid_scope",
        "invalid_target",
        "invalid_authorization_details",
        "access_denied",
        "interaction_required",
        "insufficient_user_authentication",
        "authorization_pending",
        "slow_down",
        "expired_token",
        "invalid_dpop_proof",
        "use_dpop_nonce",
        "server_error",
        "temporarily_unavailable",
    ];
    const OAUTH_CODES_IN: &str = "http/error.rs";

    const LONGEST: usize = 600;

    /// All faults of one file; `path` is relative to `src/`, `crates` are the direct dependencies.
    fn faults(path: &str, text: &str, crates: &BTreeSet<String>) -> Vec<String> {
        let mut faults = Vec::new();
        if text.lines().count() > LONGEST {
            faults.push(format!("{path}: longer than {LONGEST} lines"));
        }
        if path.ends_with("_tests.rs") || path.ends_with("/tests.rs") {
            return faults;
        }
        let top = path.split(['/', '.']).next().unwrap_or_default();
        let source = Source::read(path, text);
        let Some(layer) = LAYERS.iter().position(|modules| modules.contains(&top)) else {
            faults.push(format!("{path}: `{top}` has no place in the layers; give it one here"));
            return faults;
        };
        let inner = LAYERS.iter().take(layer).flat_map(|modules| modules.iter().copied());
        let allowed: BTreeSet<&str> = inner.chain([top]).collect();
        for module in source.modules() {
            if !allowed.contains(module.as_str()) && is_module(&module) {
                faults.push(format!("{path}: `{top}` may not name `crate::{module}`"));
            }
        }
        for used in source.crates(crates) {
            let pure = PURE.iter().find(|(module, _)| *module == top);
            let own = ONLY_IN.iter().find(|(name, _)| *name == used);
            if pure.is_some_and(|(_, may)| !may.contains(&used.as_str()))
                || own.is_some_and(|(_, modules)| !modules.contains(&top))
            {
                faults.push(format!("{path}: `{top}` may not name the crate `{used}`"));
            }
        }
        // The demo provider is another server with errors of its own, and the tour expects ours.
        if path != OAUTH_CODES_IN && top != "dev" {
            let named = source.literals.iter().flat_map(|text| words(text));
            for code in named.filter(|word| OAUTH_CODES.contains(word)) {
                faults.push(format!(
                    "{path}: `{code}` is an OAuth error code: only {OAUTH_CODES_IN} names them"
                ));
            }
        }
        faults
    }

    /// Whether `crate::name` is a module of ours and not an item of the crate root.
    fn is_module(name: &str) -> bool {
        LAYERS.iter().any(|modules| modules.contains(&name))
    }

    fn dependencies() -> BTreeSet<String> {
        let manifest = fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("Cargo.toml")).unwrap();
        let tables = manifest.split("\n[").filter(|t| t.contains("dependencies]"));
        let names = tables.flat_map(|t| t.lines().skip(1).filter_map(|line| line.split_once(" = ")));
        names.map(|(name, _)| name.replace('-', "_")).collect()
    }

    fn files(folder: &Path, found: &mut Vec<std::path::PathBuf>) {
        for entry in fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                files(&path, found);
            } else if path.extension().is_some_and(|e| e == "rs") {
                found.push(path);
            }
        }
    }

    #[test]
    fn the_layers_point_inward() {
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
        let crates = dependencies();
        assert!(crates.contains("sqlx") && crates.contains("serde_json"), "{crates:?}");
        let mut paths = Vec::new();
        files(&root, &mut paths);
        assert!(paths.len() > 20, "found only {paths:?}");
        let mut all = Vec::new();
        for path in paths {
            let name = path.strip_prefix(&root).unwrap().to_str().unwrap().replace('\\', "/");
            all.extend(faults(&name, &fs::read_to_string(&path).unwrap(), &crates));
        }
        assert!(all.is_empty(), "\n{}", all.join("\n"));
    }

    fn caught(path: &str, text: &str) -> bool {
        !faults(path, text, &dependencies()).is_empty()
    }

    #[test]
    fn an_import_that_points_outward_is_caught() {
        let offending = [
            ("domain/scope.rs", "use crate::store::Store;"),
            ("domain/scope.rs", "use crate::{clock::Clock, domain::ids};"),
            ("domain/scope.rs", "use super::super::log::leaf;"),
            ("domain/scope.rs", "use super::{super::{log::leaf}, ids};"),
            ("domain/scope.rs", "fn f() { let x = crate :: exchange::run(); }"),
            ("domain/scope.rs", "use tokio::sync::Mutex;"),
            ("domain/scope.rs", "use {std::fmt, tokio::sync};"),
            ("domain/scope.rs", "fn f() -> sqlx::Result<()> { todo() }"),
            ("domain/scope.rs", "use ::ring::digest;"),
            ("domain/scope.rs", "extern crate ring;"),
            ("domain/scope.rs", "use ring as r;"),
            ("log/leaf.rs", "use crate::store::Store;"),
            ("log/leaf.rs", "use tokio::fs;"),
            ("policy/engine.rs", "use crate::store::Store;"),
            ("keys/jws.rs", "use crate::issuers::cache;"),
            ("issuers/fetch.rs", "use crate::store::Store;"),
            ("store/writer.rs", "use crate::exchange;"),
            ("issuers/fetch.rs", "use jsonwebtoken::decode;"),
            ("exchange.rs", "use sqlx::query;"),
            ("exchange.rs", "use super::http::error;"),
            ("exchange.rs", "use crate::introspection;"),
            ("revocation.rs", "use axum::Json;"),
            ("configuration/node.rs", "use regorus::Engine;"),
            ("http/token.rs", "use crate::app;"),
            ("exchange/mod.rs", "use axum::Router;"),
            ("helpers.rs", ""),
            ("domain/refusal.rs", "const CODE: &str = \"invalid_scope\";"),
            ("http/token.rs", "const BODY: &str = r#\"{\"error\":\"invalid_target\"}\"#;"),
        ];
        for (path, text) in offending {
            assert!(caught(path, text), "{path}: {text}");
        }
        assert!(caught("domain/scope.rs", &"\n".repeat(LONGEST + 1)));
    }

    #[test]
    fn what_the_layers_allow_is_not_caught() {
        let allowed = [
            ("domain/scope.rs", "use super::ids::shown;\nuse crate::domain::ids;\nuse serde::Serialize;"),
            ("domain/scope.rs", "// use crate::store::Store; \"invalid_scope\"\n/* sqlx::query */"),
            ("domain/scope.rs", "const TEXT: &str = \"crate::store sqlx::query\";"),
            ("domain/scope.rs", "#[cfg(test)]\nmod tests { use crate::store::Store; fn f() { \"}\"; } }"),
            ("domain/scope.rs", "#[cfg(test)]\n#[path = \"x_tests.rs\"]\nmod tests;"),
            ("domain/build_tests.rs", "use crate::store::Store;"),
            ("domain/scope.rs", "fn f<'a>(c: char) -> bool { c == '\"' || c == '\\'' }"),
            ("log/leaf.rs", "use ring::digest;\nuse base64::Engine;\nuse crate::domain::ids;"),
            ("issuers/fetch.rs", "use crate::keys::jws;\nuse crate::clock::Clock;"),
            ("keys/jws.rs", "use jsonwebtoken::decode;\nuse rsa::RsaPublicKey;"),
            ("store/writer.rs", "use super::rows;\nuse sqlx::query;"),
            ("exchange.rs", "use crate::{domain::ids, policy, store};"),
            ("http/error.rs", "const CODE: &str = \"invalid_scope\";"),
            ("http/token.rs", "use axum::Json;\nuse super::error;\nuse crate::exchange;"),
            ("main.rs", "fn main() { taskgrant::app::run(); }"),
        ];
        for (path, text) in allowed {
            assert_eq!(faults(path, text, &dependencies()), [""; 0], "{path}: {text}");
        }
    }

    #[test]
    fn code_after_a_test_module_is_still_read() {
        assert!(caught("domain/scope.rs", "#[cfg(test)]\nmod tests { fn f() {} }\nuse crate::store::Store;"));
        assert!(caught("domain/scope.rs", "const OPEN: char = '\"';\nuse crate::store::Store;"));
        assert!(caught("domain/scope.rs", "const RAW: &str = r#\"a\"b\"#;\nuse crate::store::Store;"));
    }
}
