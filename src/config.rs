//! File and environment to one validated [`Config`]; the only reader of the environment.

mod admin;
mod database;
mod explain;
mod limits;
mod notify;
mod retention;
mod secret_file;

use std::net::{IpAddr, SocketAddr};
use std::path::{Path, PathBuf};

use figment::Figment;
use figment::providers::{Env, Format as _, Toml};
use ipnet::IpNet;
use schemars::JsonSchema;
use schemars::generate::SchemaSettings;
use serde::Deserialize;
use thiserror::Error;

pub use self::admin::AdminConfig;
pub use self::database::DatabaseUrl;
use self::explain::{explain, key};
pub use self::limits::LimitsConfig;
pub use self::notify::{Channel, ChannelConfig, Channels, Format};
pub use self::retention::RetentionConfig;

/// Prefix of environment variables; `__` goes one section down: `TASKGRANT_POLICY__BUNDLES`.
const PREFIX: &str = "TASKGRANT_";

/// The environment variable with which commands are told of certificate authorities: no key of the configuration.
pub const CA_FILE: &str = "TASKGRANT_CA_FILE";

/// The whole configuration, validated.
#[derive(Clone, Debug, PartialEq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// Our `iss` and the base of all URLs: https, or http on loopback; without a trailing slash. Never taken from
    /// a request.
    pub public_url: String,
    /// Where the public endpoints listen.
    #[serde(default = "default_listen")]
    pub listen: SocketAddr,
    /// Folder of the database, unless `database` is set, of the keys and of the admin socket.
    #[serde(default = "default_data")]
    pub data: PathBuf,
    /// URL of a PostgreSQL database in place of the one in the data folder: for replicas. It may hold a password, and is
    /// printed nowhere.
    #[serde(default)]
    pub database: Option<DatabaseUrl>,
    /// File that holds the URL, readable by its owner only, in place of `database`.
    #[serde(default)]
    pub database_file: Option<PathBuf>,
    /// The deployment's name for itself, told to policy.
    #[serde(default = "default_environment")]
    pub environment: String,
    /// Addresses or networks of the reverse proxies in front; needed to listen beyond loopback, since TLS ends there. Only
    /// what these say of a request's source is believed.
    #[serde(default)]
    pub behind_proxy: Vec<Hop>,
    /// The header in which the proxies name the source; they must write it themselves, or a client could.
    #[serde(default)]
    pub proxy_header: ProxyHeader,
    /// Whether the proxies name the certificate of their client in `Client-Cert` (RFC 9440); they must write or remove it
    /// themselves, or a client could.
    #[serde(default)]
    pub proxy_client_cert: bool,
    /// TLS on the public listener.
    #[serde(default)]
    pub tls: TlsConfig,
    /// Signing keys.
    #[serde(default)]
    pub keys: KeysConfig,
    /// Policy.
    #[serde(default)]
    pub policy: PolicyConfig,
    /// Outbound requests, to trusted issuers.
    #[serde(default)]
    pub outbound: OutboundConfig,
    /// What is kept in memory to save work.
    #[serde(default)]
    pub cache: CacheConfig,
    /// Status lists, for those who verify offline.
    #[serde(default)]
    pub status: StatusConfig,
    /// What one caller, and all of them together, may use.
    #[serde(default)]
    pub limits: LimitsConfig,
    /// How long what has ended stays readable.
    #[serde(default)]
    pub retention: RetentionConfig,
    /// Channels on which people are told that something waits for their approval, by name.
    #[serde(default)]
    pub notify: Channels,
    /// The admin API over HTTPS.
    #[serde(default)]
    pub admin: AdminConfig,
    /// Metrics and probes.
    #[serde(default)]
    pub metrics: MetricsConfig,
    /// Logs.
    #[serde(default)]
    pub log: LogConfig,
}

/// TLS on the public listener: both files, or neither for plain HTTP.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct TlsConfig {
    /// PEM file of the certificate, followed by those that lead from it to a root.
    pub cert: Option<PathBuf>,
    /// PEM file of its private key, readable by its owner only.
    pub key: Option<PathBuf>,
    /// Whether clients are asked for a certificate. None has to show one, and any is taken: whose it is, is decided by who
    /// the client says it is.
    pub client_certificates: bool,
}

impl TlsConfig {
    /// Certificate and key, where TLS ends here.
    pub fn files(&self) -> Option<(&Path, &Path)> {
        Some((self.cert.as_deref()?, self.key.as_deref()?))
    }
}

/// Signing keys.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct KeysConfig {
    /// Folder of the private keys; `keys` in the data folder when left out.
    pub folder: Option<PathBuf>,
    /// `ES256`, `EdDSA`, `RS256` (2048 bits) or `RS256-3072`.
    pub algorithm: String,
}

impl Default for KeysConfig {
    fn default() -> Self {
        Self { folder: None, algorithm: "ES256".to_owned() }
    }
}

/// Policy.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct PolicyConfig {
    /// Folders of the active bundles, in order; the starter that comes with the binary when left out.
    pub bundles: Vec<PathBuf>,
    /// What becomes of an exchange when the policy engine fails.
    pub on_error: OnError,
}

/// What becomes of an exchange when the policy engine fails, or runs over its limits.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum OnError {
    /// It is denied.
    #[default]
    Deny,
    /// The ceilings alone decide it, and `taskgrant_policy_let_pass_total` counts it.
    AllowWithinCeiling,
}

impl OnError {
    /// The word for it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Deny => "deny",
            Self::AllowWithinCeiling => "allow-within-ceiling",
        }
    }
}

/// Outbound requests.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct OutboundConfig {
    /// Hosts or addresses in private ranges that may be reached all the same.
    pub allow_private: Vec<String>,
    /// Whether http to loopback is allowed: for trials on one machine.
    pub allow_http_loopback: bool,
}

/// What is kept in memory to save work.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct CacheConfig {
    /// Session tokens whose verified signature is remembered, 0 for none. Time, audience, entitlements and revocation
    /// are checked again each time.
    pub verified_tokens: usize,
}

impl Default for CacheConfig {
    fn default() -> Self {
        Self { verified_tokens: 10_000 }
    }
}

/// Status lists, for those who verify offline.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct StatusConfig {
    /// Whether tokens carry a place in a status list. Lists of tokens that were issued before are served all the same.
    pub enabled: bool,
    /// Seconds that a list may be kept by those who verify: what a revoked token stays good for offline. It must be well
    /// below the life of tokens.
    pub ttl: u32,
}

impl Default for StatusConfig {
    fn default() -> Self {
        Self { enabled: true, ttl: 15 }
    }
}

/// A reverse proxy, or a network of them: `10.0.0.1`, `10.0.0.0/8`, `fd00::/8`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(try_from = "String")]
#[schemars(with = "String")]
pub struct Hop(IpNet);

impl Hop {
    /// Whether `address` is such a proxy.
    pub fn is(&self, address: IpAddr) -> bool {
        self.0.contains(&address)
    }
}

impl TryFrom<String> for Hop {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        let address = text.parse::<IpAddr>().map(IpNet::from);
        let network = address.ok().or_else(|| text.parse::<IpNet>().ok());
        let network = network
            .ok_or_else(|| format!("`{text}` is no address (`10.0.0.1`) and no network (`10.0.0.0/8`)"))?;
        if network.prefix_len() == 0 {
            return Err(format!("`{text}` is every address there is: list the proxies"));
        }
        Ok(Self(network))
    }
}

/// Where proxies name the source of a request.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum ProxyHeader {
    /// `X-Forwarded-For: client, proxy`.
    #[default]
    XForwardedFor,
    /// `Forwarded: for=client, for=proxy` (RFC 7239).
    Forwarded,
}

/// Metrics and probes.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct MetricsConfig {
    /// Where `/metrics`, `/readyz` and `/healthz` are served for operators, in plain HTTP and to anybody who gets there;
    /// nowhere when left out.
    pub listen: Option<SocketAddr>,
}

/// Logs.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct LogConfig {
    /// `text` or `json`.
    pub format: LogFormat,
    /// Filter as `tracing` reads it: `info`, `taskgrant=debug`.
    pub level: String,
}

impl Default for LogConfig {
    fn default() -> Self {
        Self { format: LogFormat::Text, level: "info".to_owned() }
    }
}

/// How logs are written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, JsonSchema, clap::ValueEnum)]
#[serde(rename_all = "snake_case")]
pub enum LogFormat {
    /// For people.
    Text,
    /// One JSON object a line.
    Json,
}

fn default_listen() -> SocketAddr {
    SocketAddr::from(([127, 0, 0, 1], 8080))
}

fn default_data() -> PathBuf {
    PathBuf::from("taskgrant-data")
}

fn default_environment() -> String {
    "production".to_owned()
}

/// Why there is no configuration.
#[derive(Debug, Error)]
pub enum ConfigFault {
    /// The file cannot be read.
    #[error("cannot read the configuration `{path}`: {source}")]
    Unreadable {
        /// Which file.
        path: PathBuf,
        /// The system's words.
        source: std::io::Error,
    },
    /// A key is unknown, missing or of the wrong kind.
    #[error("{why}")]
    Shape {
        /// Which key, where that can be told.
        key: Option<String>,
        /// What is wrong, with the file and what would mend it.
        why: String,
    },
    /// A value is not allowed.
    #[error("{key}: {why}")]
    Value {
        /// Which key.
        key: &'static str,
        /// What is wrong and what would mend it.
        why: String,
    },
}

impl Config {
    /// Reads `file` and the environment, which overrides it, and validates the whole.
    pub fn read(file: &Path) -> Result<Self, ConfigFault> {
        if let Err(source) = std::fs::metadata(file) {
            return Err(ConfigFault::Unreadable { path: file.to_owned(), source });
        }
        let ours = CA_FILE.trim_start_matches(PREFIX);
        let environment = Env::prefixed(PREFIX).ignore(&[ours]).split("__");
        let figment = Figment::new().merge(Toml::file_exact(file)).merge(environment);
        Self::extract(&figment)
    }

    /// Reads a configuration from text alone.
    pub fn from_toml(text: &str) -> Result<Self, ConfigFault> {
        Self::extract(&Figment::new().merge(Toml::string(text)))
    }

    fn extract(figment: &Figment) -> Result<Self, ConfigFault> {
        let mut read: Self =
            figment.extract().map_err(|e| ConfigFault::Shape { key: key(&e), why: explain(&e) })?;
        read.validate()?;
        if let Some(file) = &read.database_file {
            read.database = Some(DatabaseUrl::of_file(file)?);
        }
        Ok(read)
    }

    /// Folder of the private keys.
    pub fn keys_folder(&self) -> PathBuf {
        self.keys.folder.clone().unwrap_or_else(|| self.data.join("keys"))
    }

    /// Whether a client can show a certificate, to this listener or to a proxy.
    pub fn takes_certificates(&self) -> bool {
        self.tls.client_certificates || self.proxy_client_cert
    }

    /// The admin API's Unix socket.
    pub fn admin_socket(&self) -> PathBuf {
        self.data.join("admin.sock")
    }

    fn validate(&self) -> Result<(), ConfigFault> {
        let refuse = |key, why: &str| Err(ConfigFault::Value { key, why: why.to_owned() });
        let url = self.public_url.as_str();
        if let Some(why) = public_url_fault(url) {
            return refuse("public_url", &format!("{why} (RFC 8414 section 2)"));
        }
        if self.tls.cert.is_some() != self.tls.key.is_some() {
            return refuse("tls", "needs both `cert` and `key`");
        }
        if self.tls.files().is_some() && !url.starts_with("https://") {
            return refuse("public_url", "must be an https URL where `tls` is set");
        }
        if !self.listen.ip().is_loopback() && self.behind_proxy.is_empty() && self.tls.files().is_none() {
            return refuse(
                "listen",
                "beyond loopback needs `tls.cert` and `tls.key`, or `behind_proxy` with the addresses of proxies that end TLS",
            );
        }
        self.validate_admin()?;
        if self.tls.client_certificates && self.tls.files().is_none() {
            return refuse(
                "tls.client_certificates",
                "needs `cert` and `key`: elsewhere nobody shakes hands",
            );
        }
        if self.proxy_client_cert && self.behind_proxy.is_empty() {
            return refuse("proxy_client_cert", "needs `behind_proxy`: only a listed proxy is believed");
        }
        if self.database.is_some() && self.database_file.is_some() {
            return refuse("database_file", "stands in place of `database`: set one of them");
        }
        if let Some(Err(why)) = self.database.as_ref().map(DatabaseUrl::check) {
            return refuse("database", why);
        }
        if !["ES256", "EdDSA", "RS256", "RS256-3072"].contains(&self.keys.algorithm.as_str()) {
            return refuse("keys.algorithm", "must be ES256, EdDSA, RS256 or RS256-3072");
        }
        if !(1..=600).contains(&self.status.ttl) {
            return refuse("status.ttl", "must be 1 to 600 seconds");
        }
        self.notify.iter().try_for_each(|(name, channel)| channel.open(name).map(drop))?;
        self.retention.validate()?;
        self.limits.validate()
    }
}

/// What is wrong with a URL that others reach us by.
fn public_url_fault(url: &str) -> Option<&'static str> {
    let host = url.strip_prefix("http://").map(host);
    if !url.starts_with("https://") && !host.is_some_and(is_loopback) {
        return Some("must be an https URL, or http on loopback");
    }
    let is_more = url.ends_with('/') || url.contains(['?', '#', ' ', '@']);
    is_more.then_some("must have no trailing slash, query, fragment or user")
}

/// The host of what follows `http://`, with brackets and port cut off.
fn host(rest: &str) -> &str {
    let authority = rest.split(['/', '?', '#']).next().unwrap_or_default();
    match authority.strip_prefix('[').and_then(|v6| v6.split_once(']')) {
        Some((v6, _)) => v6,
        None => authority.rsplit_once(':').map_or(authority, |(host, _)| host),
    }
}

fn is_loopback(host: &str) -> bool {
    host == "localhost" || host.parse::<IpAddr>().is_ok_and(|ip| ip.is_loopback())
}

/// The JSON Schema of the file, for editors.
pub fn schema() -> serde_json::Value {
    SchemaSettings::draft07().into_generator().into_root_schema_for::<Config>().to_value()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::proposal::Guarded;

    fn refused(text: &str) -> String {
        Config::from_toml(text).unwrap_err().to_string()
    }

    #[test]
    fn the_public_url_is_required_and_checked() {
        assert!(refused("").contains("public_url"));
        for bad in
            ["http://tg.example", "https://tg.example/", "https://tg.example?x", "ftp://x", "tg.example"]
        {
            assert!(refused(&format!("public_url = '{bad}'")).starts_with("public_url: "), "{bad}");
        }
        for good in
            ["https://tg.example", "https://tg.example/t1", "http://127.0.0.1:8080", "http://[::1]:80"]
        {
            assert!(Config::from_toml(&format!("public_url = '{good}'")).is_ok(), "{good}");
        }
        assert!(refused("public_url = 'http://127.0.0.1.evil.example'").starts_with("public_url"));
    }

    #[test]
    fn an_unknown_key_is_refused_with_a_suggestion() {
        let text = refused("public_url = 'https://a'\nlisten_ = '127.0.0.1:1'");
        assert!(text.contains("did you mean `listen`?"), "{text}");
        let text = refused("public_url = 'https://a'\n[keys]\nalgorythm = 'ES256'");
        assert!(text.contains("did you mean `algorithm`?"), "{text}");
    }

    #[test]
    fn what_takes_two_persons_is_listed_and_needs_a_listener_for_them() {
        let with = |more: &str| format!("public_url = 'https://a'\n[admin]\n{more}");
        let read = Config::from_toml(&with("listen = '127.0.0.1:1'\ntwo_persons = ['policy', 'widening']"));
        let two = read.unwrap().admin.two_persons;
        assert!(
            two.guard(Guarded::Policy) && two.guard(Guarded::Widening) && !two.guard(Guarded::Exceptions)
        );
        assert!(Config::from_toml(&with("two_persons = []")).unwrap().admin.two_persons.is_empty());
        let text = refused(&with("two_persons = ['policy']"));
        assert!(text.starts_with("admin.two_persons: ") && text.contains("`admin.listen`"), "{text}");
        let text = refused(&with("listen = '127.0.0.1:1'\ntwo_persons = ['polcy']"));
        assert!(text.contains("admin.two_persons") && text.contains("did you mean `policy`?"), "{text}");
    }

    #[test]
    fn the_signature_cache_is_on_unless_switched_off() {
        let read =
            |more: &str| Config::from_toml(&format!("public_url = 'https://a'\n{more}")).unwrap().cache;
        assert_eq!(read("").verified_tokens, 10_000);
        assert_eq!(read("[cache]\nverified_tokens = 0").verified_tokens, 0);
    }

    #[test]
    fn beyond_loopback_needs_a_proxy() {
        let open = "public_url = 'https://a'\nlisten = '0.0.0.0:80'";
        assert!(refused(open).starts_with("listen: "));
        for hop in ["10.0.0.1", "10.0.0.0/8", "fd00::/8", "::1"] {
            assert!(Config::from_toml(&format!("{open}\nbehind_proxy = ['{hop}']")).is_ok(), "{hop}");
        }
        for bad in ["proxy.internal", "10.0.0.1:80", "10.0.0.0/33", "", "0.0.0.0/0", "::/0"] {
            let text = refused(&format!("{open}\nbehind_proxy = ['{bad}']"));
            assert!(text.contains("behind_proxy") && text.contains(bad), "{text}");
        }
    }

    #[test]
    fn the_admin_api_listens_on_loopback_behind_a_proxy_or_by_tls_and_nowhere_by_itself() {
        let with = |more: &str, listen: &str| {
            format!("public_url = 'https://a'\n{more}\n[admin]\nlisten = '{listen}'\n")
        };
        assert_eq!(Config::from_toml("public_url = 'https://a'").unwrap().admin.listen, None);
        let url = |url: &str| format!("public_url = 'https://a'\n[admin]\npublic_url = '{url}'");
        for good in ["https://a:8444", "http://127.0.0.1:8444", "https://a/tg"] {
            assert_eq!(Config::from_toml(&url(good)).unwrap().admin.public_url.as_deref(), Some(good));
        }
        for bad in ["http://a", "https://a/", "https://a?x", "https://a#x", "https://u@a", "a:8444", ""] {
            assert!(refused(&url(bad)).starts_with("admin.public_url: must "), "{bad}");
        }
        assert!(Config::from_toml(&with("", "127.0.0.1:8444")).is_ok());
        assert!(refused(&with("", "10.0.0.1:8444")).starts_with("admin.listen: beyond loopback"));
        assert!(Config::from_toml(&with("behind_proxy = ['10.0.0.1']", "10.0.0.2:8444")).is_ok());
        let tls = "tls = {cert = 'c.pem', key = 'k.pem'}";
        assert!(Config::from_toml(&with(tls, "0.0.0.0:8444")).is_ok());
        assert!(
            refused(&with("listen = '127.0.0.1:80'", "127.0.0.1:80")).starts_with("admin.listen: is the")
        );
    }

    #[test]
    fn tls_needs_both_files_and_an_https_url_and_opens_the_listener() {
        let files = "[tls]\ncert = 'c.pem'\nkey = 'k.pem'";
        assert!(
            Config::from_toml(&format!("public_url = 'https://a'\nlisten = '0.0.0.0:443'\n{files}")).is_ok()
        );
        assert!(refused("public_url = 'https://a'\n[tls]\ncert = 'c.pem'").starts_with("tls: "));
        assert!(refused("public_url = 'https://a'\n[tls]\nkey = 'k.pem'").starts_with("tls: "));
        assert!(refused(&format!("public_url = 'http://127.0.0.1'\n{files}")).starts_with("public_url: "));
    }

    #[test]
    fn ca_05_certificates_need_somebody_who_shakes_hands() {
        let refused = |more: &str| refused(&format!("public_url = 'https://a'\n{more}"));
        assert!(refused("[tls]\nclient_certificates = true").starts_with("tls.client_certificates: "));
        assert!(refused("proxy_client_cert = true").starts_with("proxy_client_cert: "));
        for good in [
            "[tls]\ncert = 'c.pem'\nkey = 'k.pem'\nclient_certificates = true",
            "behind_proxy = ['10.0.0.1']\nproxy_client_cert = true",
        ] {
            let config = Config::from_toml(&format!("public_url = 'https://a'\n{good}")).unwrap();
            assert!(config.takes_certificates(), "{good}");
        }
    }

    #[test]
    fn status_lists_are_on_and_their_ttl_has_a_range() {
        let read = |more: &str| Config::from_toml(&format!("public_url = 'https://a'\n[status]\n{more}"));
        assert_eq!(read("").unwrap().status, StatusConfig { enabled: true, ttl: 15 });
        assert!(!read("enabled = false").unwrap().status.enabled);
        for bad in [0, 601] {
            let text = read(&format!("ttl = {bad}")).unwrap_err().to_string();
            assert!(text.starts_with("status.ttl: "), "{text}");
        }
    }
}
