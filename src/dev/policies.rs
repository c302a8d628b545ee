//! The demo's policy bundles: copied into the data folder once, where their owner may change them.

use std::path::{Path, PathBuf};

use super::fault::DevFault;
use super::private;
use crate::policy::bundle::Bundle;

/// Makes the folders of the demo policy in the data folder, unless they are there, and names them.
pub(super) fn unpack(data: &Path) -> Result<Vec<PathBuf>, DevFault> {
    let root = data.join("policies");
    let bundle = Bundle::embedded_demo()?;
    let mut folders: Vec<PathBuf> = bundle.files().filter_map(|(path, _)| folder(&root, path)).collect();
    folders.dedup();
    let fresh: Vec<&PathBuf> = folders.iter().filter(|folder| !folder.exists()).collect();
    for (path, text) in bundle.files() {
        if folder(&root, path).is_some_and(|folder| fresh.contains(&&folder)) {
            write(&root.join(path), text)?;
        }
    }
    Ok(folders)
}

/// The bundle folder of a file `NAME/…`.
fn folder(root: &Path, path: &str) -> Option<PathBuf> {
    path.split_once('/').map(|(name, _)| root.join(name))
}

fn write(path: &Path, text: &str) -> Result<(), DevFault> {
    let fault = |why| DevFault::File { action: "write", path: path.to_owned(), why };
    let folder = path.parent().unwrap_or(Path::new("."));
    private::make_folder(folder).and_then(|()| std::fs::write(path, text)).map_err(fault)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_policy_is_unpacked_once_and_then_left_alone() {
        let data = tempfile::tempdir().unwrap();
        let folders = unpack(data.path()).unwrap();
        assert_eq!(folders, ["base", "support"].map(|name| data.path().join("policies").join(name)));
        let named = [("base", folders[0].clone()), ("support", folders[1].clone())];
        assert_eq!(Bundle::load(&named).unwrap().version(), Bundle::embedded_demo().unwrap().version());

        let rules = folders[1].join("support.rego");
        std::fs::write(&rules, "changed").unwrap();
        unpack(data.path()).unwrap();
        assert_eq!(std::fs::read_to_string(&rules).unwrap(), "changed");
    }
}
