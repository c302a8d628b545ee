//! Channels on which people are told that something waits for them.

use std::collections::BTreeMap;
use std::path::PathBuf;

use schemars::JsonSchema;
use serde::Deserialize;

use super::ConfigFault;
use super::secret_file::read_secret_file;

/// Fewest bytes of a signing secret (RFC 2104 §3 wants as many as the hash has; half of that is not guessed either).
const MIN_SECRET: usize = 16;

/// Channels by name: what a task type calls `approval.notify`.
pub type Channels = BTreeMap<String, ChannelConfig>;

/// A webhook. Its URL is a secret where the receiver believes whoever knows it, as Slack's does: then it comes from a file.
#[derive(Clone, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ChannelConfig {
    /// Where it is sent: https, or http to loopback where `outbound` allows that.
    #[serde(default)]
    pub url: Option<String>,
    /// File that holds the URL, readable by its owner only, in place of `url`.
    #[serde(default)]
    pub url_file: Option<PathBuf>,
    /// File that holds the secret it is signed with, readable by its owner only: at least 16 bytes, or `whsec_` and Base64.
    pub secret_file: PathBuf,
    /// What the receiver reads.
    #[serde(default)]
    pub format: Format,
    /// Where people look: a URL in which `{id}` stands for the approval's id. Left out, the command is named instead.
    #[serde(default)]
    pub link: Option<String>,
}

impl std::fmt::Debug for ChannelConfig {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ChannelConfig").field("format", &self.format).finish_non_exhaustive()
    }
}

/// What a receiver reads.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Format {
    /// JSON for programs.
    #[default]
    Json,
    /// `{"text"}` as Slack, Mattermost and others read it.
    Slack,
}

/// A channel with its secrets.
#[derive(Clone)]
pub struct Channel {
    /// Where it is sent.
    pub url: String,
    /// The key it is signed with.
    pub secret: Vec<u8>,
    /// What the receiver reads.
    pub format: Format,
    /// Where people look.
    pub link: Option<String>,
}

impl ChannelConfig {
    /// Reads the secrets of the channel `name`.
    pub fn open(&self, name: &str) -> Result<Channel, ConfigFault> {
        let refuse = |what: &str, why: String| ConfigFault::Value {
            key: "notify",
            why: format!("channel `{name}`: {what}{why}"),
        };
        let url = match (&self.url, &self.url_file) {
            (Some(url), None) => url.clone(),
            (None, Some(file)) => read_secret_file(file).map_err(|why| refuse("url_file: ", why))?,
            (Some(_), Some(_)) | (None, None) => {
                return Err(refuse("", "needs exactly one of `url` and `url_file`".to_owned()));
            }
        };
        if !url.starts_with("https://") && !url.starts_with("http://") {
            return Err(refuse("url: ", "must be an https URL".to_owned()));
        }
        let text = read_secret_file(&self.secret_file).map_err(|why| refuse("secret_file: ", why))?;
        let secret = secret_of(&text).ok_or_else(|| {
            refuse("secret_file: ", format!("must hold at least {MIN_SECRET} bytes, or `whsec_` and Base64"))
        })?;
        if self.link.as_ref().is_some_and(|link| !link.starts_with("https://") || !link.contains("{id}")) {
            return Err(refuse("link: ", "must be an https URL with `{id}` in it".to_owned()));
        }
        Ok(Channel { url, secret, format: self.format, link: self.link.clone() })
    }
}

/// The key as the Standard Webhooks specification writes it, or the text itself.
fn secret_of(text: &str) -> Option<Vec<u8>> {
    use base64::Engine as _;
    let key = match text.strip_prefix("whsec_") {
        Some(encoded) => base64::engine::general_purpose::STANDARD.decode(encoded).ok()?,
        None => text.as_bytes().to_vec(),
    };
    (key.len() >= MIN_SECRET).then_some(key)
}

#[cfg(test)]
mod tests {
    use std::fs::{self, Permissions};
    use std::os::unix::fs::PermissionsExt as _;

    use crate::config::Config;

    #[test]
    fn a_channel_has_one_url_a_closed_secret_and_prints_neither() {
        let folder = tempfile::tempdir().unwrap();
        let file = |name: &str, text: &str| {
            let file = folder.path().join(name);
            fs::write(&file, text).unwrap();
            fs::set_permissions(&file, Permissions::from_mode(0o600)).unwrap();
            file.display().to_string()
        };
        let (good, short) = (file("good", "0123456789abcdef-hush\n"), file("short", "hush"));
        let (encoded, url) =
            (file("encoded", "whsec_MDEyMzQ1Njc4OWFiY2RlZg=="), file("url", "https://hook.example/hush"));
        let read = |lines: &str| {
            Config::from_toml(&format!("public_url = 'https://a'\n[notify.ops]\n{lines}"))
                .map_err(|f| f.to_string())
        };
        let config = read(&format!("url_file = '{url}'\nsecret_file = '{good}'")).unwrap();
        assert!(!format!("{config:?}").contains("hush"));
        let channel = config.notify["ops"].open("ops").unwrap();
        assert_eq!(channel.url, "https://hook.example/hush");
        assert_eq!(channel.secret, b"0123456789abcdef-hush");
        let config = read(&format!("url = 'https://h'\nsecret_file = '{encoded}'")).unwrap();
        assert_eq!(config.notify["ops"].open("ops").unwrap().secret, b"0123456789abcdef");
        fs::set_permissions(folder.path().join("url"), Permissions::from_mode(0o644)).unwrap();
        for (lines, word) in [
            (format!("secret_file = '{good}'"), "exactly one"),
            (format!("url = 'https://h'\nurl_file = '{url}'\nsecret_file = '{good}'"), "exactly one"),
            (format!("url_file = '{url}'\nsecret_file = '{good}'"), "chmod 600"),
            (format!("url = 'ftp://h'\nsecret_file = '{good}'"), "https URL"),
            (format!("url = 'https://h'\nsecret_file = '{short}'"), "at least 16 bytes"),
            (format!("url = 'https://h'\nsecret_file = '{good}'\nlink = 'https://x'"), "`{id}`"),
        ] {
            let refused = read(&lines).unwrap_err();
            assert!(refused.starts_with("notify: channel `ops`: ") && refused.contains(word), "{refused}");
            assert!(!refused.contains("hush"), "{refused}");
        }
    }
}
