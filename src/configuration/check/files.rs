//! Files that only the server's account may touch.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;

use super::{Findings, fault};
use crate::config::Config;

/// A file or folder that others may touch.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Exposed {
    /// Where.
    pub path: String,
    /// Its permission bits.
    pub mode: u32,
    /// Whether it is a folder.
    pub folder: bool,
}

/// What of the data folder, the key folder and the private keys in it others may touch. What is not there yet is
/// nobody's fault: it is made with the right mode.
pub fn modes(config: &Config) -> Vec<Exposed> {
    let keys = config.keys_folder();
    let mut all = vec![config.data.clone(), config.data.join("taskgrant.db"), keys.clone()];
    let files = fs::read_dir(&keys).into_iter().flatten().flatten().map(|entry| entry.path());
    all.extend(files.filter(|path| path.extension().is_some_and(|e| e == "pem")));
    all.extend(config.tls.key.clone());
    all.extend(config.database_file.clone());
    all.iter().filter_map(|path| exposed(path)).collect()
}

fn exposed(path: &Path) -> Option<Exposed> {
    let about = fs::metadata(path).ok()?;
    let mode = about.permissions().mode() & 0o7777;
    let open = mode & 0o077 != 0;
    open.then(|| Exposed { path: path.display().to_string(), mode, folder: about.is_dir() })
}

impl Exposed {
    /// What is wrong.
    pub fn message(&self) -> String {
        format!("open to group or others (mode {:04o})", self.mode)
    }

    /// What mends it.
    pub fn remedy(&self) -> String {
        let Self { path, .. } = self;
        let is_key = Path::new(path).extension().is_some_and(|e| e == "pem");
        match (self.folder, is_key) {
            (true, _) => format!("run `chmod 700 {path}`"),
            (false, true) => {
                format!("run `chmod 600 {path}`, and replace the key if others may have read it")
            }
            (false, false) => format!("run `chmod 600 {path}`"),
        }
    }
}

pub(super) fn check(found: &mut Findings, config: &Config) {
    for exposed in modes(config) {
        let code = if exposed.folder { "folder_mode" } else { "file_mode" };
        found.error(code, fault(Some(&exposed.path), None, exposed.message(), &exposed.remedy()));
    }
}
