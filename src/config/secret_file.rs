//! A file that holds one secret: mounted secrets are such files.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;

/// Reads `file`, which must be closed to others; white space around is cut off. The fault names the file and the remedy, and
/// never what is in it.
pub(super) fn read_secret_file(file: &Path) -> Result<String, String> {
    let path = file.display();
    let unreadable = |why| format!("cannot read `{path}`: {why}");
    let mode = fs::metadata(file).map_err(unreadable)?.permissions().mode() & 0o777;
    if mode & 0o077 != 0 {
        return Err(format!("`{path}` is open to group or others (mode {mode:04o}): run `chmod 600 {path}`"));
    }
    Ok(fs::read_to_string(file).map_err(unreadable)?.trim().to_owned())
}
