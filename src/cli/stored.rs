//! The token that `taskgrant login` has got, in a file of its owner's only: one for each server.

use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::dev::private;
use crate::domain::objects::Role;
use crate::hash::sha256;

/// Folder of the tokens, in that of the user's configuration.
const FOLDER: &str = "taskgrant";

/// A login. `Debug` is left out: it holds a token.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Stored {
    /// The admin API's URL, without a trailing slash.
    pub(super) server: String,
    /// The server's `iss`.
    pub(super) issuer: String,
    /// The console that the token was issued to.
    pub(super) client_id: String,
    /// What it is for.
    pub(super) role: Role,
    /// The token.
    pub(super) access_token: String,
    /// Until when it lives, in seconds since 1970.
    pub(super) expires_at: i64,
}

/// A server's URL in the one spelling that is stored.
pub(super) fn server_url(text: &str) -> String {
    text.trim_end_matches('/').to_owned()
}

/// Where the login at `server` is kept, unless `file` says otherwise.
pub(super) fn path(server: &str, file: Option<&Path>) -> Result<PathBuf, String> {
    if let Some(file) = file {
        return Ok(file.to_owned());
    }
    let folder =
        configuration_folder().ok_or("neither XDG_CONFIG_HOME nor HOME is set: name a --token-file")?;
    let name: String = hex::encode(sha256(&[server.as_bytes()])).chars().take(16).collect();
    Ok(folder.join(FOLDER).join(format!("login-{name}.json")))
}

fn configuration_folder() -> Option<PathBuf> {
    let set = |name| std::env::var_os(name).map(PathBuf::from).filter(|path| path.is_absolute());
    set("XDG_CONFIG_HOME").or_else(|| Some(set("HOME")?.join(".config")))
}

impl Stored {
    /// The login at the server of this URL.
    pub(super) fn of(url: &str, file: Option<&Path>) -> Result<Self, String> {
        let server = server_url(url);
        let path = path(&server, file)?;
        let shown = path.display();
        let failed = |why: String| format!("the login in `{shown}` cannot be used: {why}");
        let text = private::read(&path).map_err(|why| failed(why.to_string()))?;
        let text = text.ok_or_else(|| {
            format!("no login for {server}: `taskgrant login --server {server} --client-secret-file FILE`")
        })?;
        let stored: Self = serde_json::from_str(&text).map_err(|why| failed(why.to_string()))?;
        if stored.server == server { Ok(stored) } else { Err(failed(format!("it is for {}", stored.server))) }
    }

    /// Keeps it; where.
    pub(super) fn save(&self, file: Option<&Path>) -> Result<PathBuf, String> {
        let path = path(&self.server, file)?;
        let failed = |why: std::io::Error| format!("cannot write `{}`: {why}", path.display());
        if let Some(folder) = path.parent().filter(|folder| !folder.as_os_str().is_empty()) {
            private::make_folder(folder).map_err(failed)?;
        }
        let text = serde_json::to_string_pretty(self).map_err(|why| why.to_string())?;
        private::write(&path, &format!("{text}\n")).map_err(failed)?;
        Ok(path)
    }

    /// Forgets it.
    pub(super) fn remove(&self, file: Option<&Path>) -> Result<(), String> {
        let path = path(&self.server, file)?;
        private::remove(&path).map_err(|why| format!("cannot remove `{}`: {why}", path.display()))
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    #[test]
    fn a_login_is_its_owners_only_and_of_one_server() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("made/login.json");
        let login = Stored {
            server: "https://tg.example".to_owned(),
            issuer: "https://tg.example".to_owned(),
            client_id: "console".to_owned(),
            role: Role::Audit,
            access_token: "a.b.c".to_owned(),
            expires_at: 5,
        };
        login.save(Some(&file)).unwrap();
        assert_eq!(fs::metadata(&file).unwrap().permissions().mode() & 0o777, 0o600);
        assert_eq!(Stored::of("https://tg.example/", Some(&file)).unwrap().access_token, "a.b.c");
        let other = Stored::of("https://other.example", Some(&file)).map(drop).unwrap_err();
        assert!(other.contains("it is for https://tg.example"), "{other}");
        fs::set_permissions(&file, fs::Permissions::from_mode(0o640)).unwrap();
        assert!(Stored::of("https://tg.example", Some(&file)).map(drop).unwrap_err().contains("chmod 600"));
        login.remove(Some(&file)).unwrap();
        let gone = Stored::of("https://tg.example", Some(&file)).map(drop).unwrap_err();
        assert!(
            gone.contains("taskgrant login --server https://tg.example --client-secret-file FILE`"),
            "{gone}"
        );
    }
}
