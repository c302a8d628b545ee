//! The URL of a PostgreSQL database: with its password a secret, so it comes from a file too, and is printed nowhere.

use std::fmt;
use std::path::Path;

use schemars::JsonSchema;
use serde::Deserialize;

use super::ConfigFault;
use super::secret_file::read_secret_file;

/// A `postgres://…` URL.
#[derive(Clone, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(transparent)]
pub struct DatabaseUrl(String);

impl fmt::Debug for DatabaseUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("DatabaseUrl(redacted)")
    }
}

impl DatabaseUrl {
    /// The URL, password and all: only to connect by it.
    pub fn expose(&self) -> &str {
        &self.0
    }

    /// Whether it could be one; the fault does not repeat it.
    pub(super) fn check(&self) -> Result<(), &'static str> {
        match self.0.split_once("://") {
            Some(("postgres" | "postgresql", rest)) if !rest.is_empty() => Ok(()),
            _ => Err(
                "must be a URL such as `postgres://taskgrant@db.internal/taskgrant?sslmode=verify-full`; \
                 without it the data lies in the folder `data`",
            ),
        }
    }

    /// Reads `file`, which must hold the URL alone and be closed to others: mounted secrets are such files.
    pub(super) fn of_file(file: &Path) -> Result<Self, ConfigFault> {
        let refuse = |why: String| ConfigFault::Value { key: "database_file", why };
        let url = Self(read_secret_file(file).map_err(refuse)?);
        url.check().map_err(|why| refuse(format!("`{}` {why}", file.display())))?;
        Ok(url)
    }
}

#[cfg(test)]
mod tests {
    use std::fs::{self, Permissions};
    use std::os::unix::fs::PermissionsExt as _;

    use super::super::Config;

    const URL: &str = "postgres://taskgrant:hush-hush@db.internal/taskgrant";

    fn read(more: &str) -> Result<Config, String> {
        Config::from_toml(&format!("public_url = 'https://a'\n{more}")).map_err(|fault| fault.to_string())
    }

    #[test]
    fn the_url_comes_from_the_key_or_from_a_file_and_is_never_printed() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("url");
        fs::write(&file, format!("{URL}\n")).unwrap();
        fs::set_permissions(&file, Permissions::from_mode(0o600)).unwrap();
        let by_file = format!("database_file = '{}'", file.display());
        for more in [format!("database = '{URL}'"), by_file.clone()] {
            let config = read(&more).unwrap();
            assert_eq!(config.database.as_ref().unwrap().expose(), URL);
            assert!(!format!("{config:?}").contains("hush"));
        }
        let both = read(&format!("database = '{URL}'\n{by_file}")).unwrap_err();
        assert!(both.starts_with("database_file: ") && !both.contains("hush"), "{both}");
        fs::set_permissions(&file, Permissions::from_mode(0o640)).unwrap();
        let open = read(&by_file).unwrap_err();
        assert!(open.contains("mode 0640") && open.contains("chmod 600"), "{open}");
        assert!(read("database_file = 'nowhere'").unwrap_err().contains("cannot read `nowhere`"));
    }

    #[test]
    fn what_is_no_url_of_a_server_is_refused_and_not_repeated() {
        for bad in ["hush-hush", "mysql://hush-hush@db/taskgrant", "postgres://", ""] {
            let told = read(&format!("database = '{bad}'")).unwrap_err();
            assert!(told.starts_with("database: ") && !told.contains("hush"), "{told}");
        }
    }
}
