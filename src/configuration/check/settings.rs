//! The configuration file: what is fine for a trial and not in production.

use toml_edit::{ImDocument, TableLike};

use super::{Findings, fault};
use crate::config::{Config, ConfigFault, OnError};
use crate::configuration::fault::{Fault, Place};
use crate::store::folder::Location;

/// Names of an environment that is not production.
const TRIALS: [&str; 7] = ["dev", "development", "demo", "local", "test", "testing", "trial"];

/// The text of the configuration file, to find the line of a key.
#[derive(Clone, Debug)]
pub struct SettingsFile {
    /// Its name as the operator wrote it.
    pub file: String,
    /// Its text; empty where it cannot be read.
    pub text: String,
}

impl SettingsFile {
    /// Where `key` (`outbound.allow_private`) stands; none where the environment or a default sets it.
    fn place(&self, key: &str) -> Option<Place> {
        let document = ImDocument::parse(self.text.as_str()).ok()?;
        let mut table: &dyn TableLike = document.as_table();
        let mut at = None;
        for step in key.split('.') {
            let (key, item) = table.get_key_value(step)?;
            at = key.span().map(|span| span.start);
            match item.as_table_like() {
                Some(inner) => table = inner,
                None => break,
            }
        }
        let before = self.text.get(..at?)?;
        let line = before.matches('\n').count() + 1;
        let column = before.rsplit('\n').next().unwrap_or_default().chars().count() + 1;
        Some(Place { line: u64::try_from(line).ok()?, column: u64::try_from(column).ok()? })
    }

    fn fault(&self, key: &str, message: &str, remedy: &str) -> Fault {
        let at = fault(Some(&self.file), self.place(key), format!("`{key}`: {message}"), remedy);
        Fault { path: Some(key.to_owned()), ..at }
    }
}

pub(super) fn unreadable(found: &mut Findings, settings: &SettingsFile, why: &ConfigFault) {
    let at = match why {
        ConfigFault::Unreadable { .. } => fault(None, None, why.to_string(), "name another with --config"),
        ConfigFault::Value { key, why } => settings.fault(key, why, "see the reference of the configuration"),
        ConfigFault::Shape { key, why } => {
            let place = key.as_deref().and_then(|key| settings.place(key));
            let remedy = "see the reference of the configuration, or `taskgrant schema config`";
            Fault { path: key.clone(), ..fault(Some(&settings.file), place, why.clone(), remedy) }
        }
    };
    found.error("config", at);
}

pub(super) fn check(found: &mut Findings, settings: &SettingsFile, config: &Config) {
    if config.public_url.starts_with("http://") {
        let message = "tokens would travel in plain HTTP";
        found.trial("public_url_http", settings.fault("public_url", message, "use an https URL"));
    }
    if TRIALS.contains(&config.environment.as_str()) {
        let message = format!("`{}` is the name of a trial, and policy is told it", config.environment);
        let remedy = "name the environment for what it is: `production`";
        found.trial("environment_name", settings.fault("environment", &message, remedy));
    }
    check_listen(found, settings, config);
    if config.admin.listen.is_some() && config.admin.public_url.is_none() {
        let message = "the metadata do not name it: `taskgrant login` cannot prove that the server it signs in at is this one";
        let remedy = "set `admin.public_url` to the URL that administrators give as `--server`";
        found.warning("admin_not_named", settings.fault("admin.listen", message, remedy));
    }
    check_outbound(found, settings, config);
    check_database(found, settings, config);
    if config.metrics.listen.is_some_and(|listen| !listen.ip().is_loopback()) {
        let message = "metrics in plain HTTP beyond loopback, for whoever gets there";
        let remedy = "let only the collector reach it";
        found.warning("open_metrics", settings.fault("metrics.listen", message, remedy));
    }
    if config.policy.on_error != OnError::Deny {
        let message = "what policy fails on is granted within the ceilings";
        let remedy = "use `deny`; while a bundle is mended, `taskgrant policy mode` lets pass for a time";
        found.trial("policy_on_error", settings.fault("policy.on_error", message, remedy));
    }
    if ["debug", "trace"].iter().any(|level| config.log.level.contains(level)) {
        let message = "so much is logged that it slows the server and fills the disk";
        found.trial("log_level", settings.fault("log.level", message, "use `info`"));
    }
}

fn check_listen(found: &mut Findings, settings: &SettingsFile, config: &Config) {
    if config.tls.files().is_some() {
        return;
    }
    if config.admin.listen.is_some_and(|at| !at.ip().is_loopback()) {
        let message = "plain HTTP beyond loopback: whoever gets past the proxy reads the tokens of admins";
        let remedy = "let only the addresses of `behind_proxy` reach it, or set `tls.cert` and `tls.key`";
        found.warning("plain_listen", settings.fault("admin.listen", message, remedy));
    }
    if config.behind_proxy.is_empty() {
        let message = "plain HTTP, and nothing says who ends TLS";
        let remedy =
            "set `tls.cert` and `tls.key`, or put a reverse proxy in front and name it in `behind_proxy`";
        found.trial("no_tls", settings.fault("listen", message, remedy));
    } else if !config.listen.ip().is_loopback() {
        let message = "plain HTTP beyond loopback: whoever gets past the proxy reads tokens";
        let remedy = "let only the addresses of `behind_proxy` reach it";
        found.warning("plain_listen", settings.fault("listen", message, remedy));
    }
}

fn check_outbound(found: &mut Findings, settings: &SettingsFile, config: &Config) {
    if config.outbound.allow_http_loopback {
        let message = "keys of an issuer may come in plain HTTP from this machine";
        let remedy = "remove it: only a trial on one machine needs it";
        let at = settings.fault("outbound.allow_http_loopback", message, remedy);
        found.trial("outbound_http_loopback", at);
    }
    let hosts = &config.outbound.allow_private;
    if !hosts.is_empty() {
        let message = format!("outbound requests may reach private addresses: {}", hosts.join(", "));
        let remedy = "keep only identity providers of your own, and let nothing else listen there";
        found.trial("outbound_private", settings.fault("outbound.allow_private", &message, remedy));
    }
    for host in hosts.iter().filter(|h| h.is_empty() || h.contains(['*', '/', ':', ' ']) && !is_v6(h)) {
        let message = format!("`{host}` is neither a host nor an address: it never matches");
        let remedy = "write each host as it stands in the issuer's URL; there are no patterns";
        found.error("outbound_pattern", settings.fault("outbound.allow_private", &message, remedy));
    }
}

fn check_database(found: &mut Findings, settings: &SettingsFile, config: &Config) {
    let Some(url) = &config.database else { return };
    let key = if config.database_file.is_some() { "database_file" } else { "database" };
    match url.expose().parse::<Location>() {
        Ok(location) => {
            if let Some(host) = location.unverified_host() {
                let message = format!("nothing proves that who answers at `{host}` is the database");
                let remedy =
                    "add `sslmode=verify-full` to the URL, and `sslrootcert` for an authority of your own";
                found.warning("database_unverified", settings.fault(key, &message, remedy));
            }
        }
        Err(why) => {
            let remedy =
                "write it as `postgres://USER:PASSWORD@HOST/DATABASE?sslmode=verify-full`, percent-encoded";
            found.error("database", settings.fault(key, &why.to_string(), remedy));
        }
    }
}

fn is_v6(host: &str) -> bool {
    host.trim_start_matches('[').trim_end_matches(']').parse::<std::net::Ipv6Addr>().is_ok()
}
