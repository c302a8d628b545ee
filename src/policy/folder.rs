//! Reads the folders that a bundle is loaded from.

use std::fs;
use std::path::Path;

use super::bundle::Kind;
use super::fault::PolicyFault;

/// Folders nest no deeper; a link that points upward ends here.
const MAX_DEPTH: usize = 8;

/// Appends the files of the folder at `root` that have a place in a bundle, as `NAME/…`.
///
/// Hidden entries are passed over, and files of other kinds too (a README), but not below `data` and `fixtures`: a
/// YAML file there would be missed in silence.
pub(super) fn read(name: &str, root: &Path, files: &mut Vec<(String, String)>) -> Result<(), PolicyFault> {
    if name.is_empty() || name.starts_with('.') || name.contains('/') {
        return Err(fault(root, &format!("`{name}` is not a folder name")));
    }
    walk(name, root, 0, files)
}

fn walk(
    prefix: &str,
    folder: &Path,
    depth: usize,
    files: &mut Vec<(String, String)>,
) -> Result<(), PolicyFault> {
    if depth > MAX_DEPTH {
        return Err(fault(folder, "folders nest too deep"));
    }
    for entry in fs::read_dir(folder).map_err(|error| fault(folder, &error.to_string()))? {
        let path = entry.map_err(|error| fault(folder, &error.to_string()))?.path();
        let Some(name) = path.file_name().and_then(|name| name.to_str()) else {
            return Err(fault(&path, "the name is not UTF-8"));
        };
        if name.starts_with('.') {
            continue;
        }
        let bundled = format!("{prefix}/{name}");
        if path.is_dir() {
            walk(&bundled, &path, depth + 1, files)?;
        } else if Kind::of(&bundled).is_some() {
            let text = fs::read_to_string(&path).map_err(|error| fault(&path, &error.to_string()))?;
            files.push((bundled, text));
        } else if matches!(bundled.split('/').nth(1), Some("data" | "fixtures")) {
            return Err(fault(&path, "data and fixtures are JSON files"));
        }
    }
    Ok(())
}

fn fault(path: &Path, problem: &str) -> PolicyFault {
    PolicyFault::File { path: path.display().to_string(), problem: problem.to_owned() }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::policy::bundle::Bundle;

    fn folder_with(files: &[&str]) -> tempfile::TempDir {
        let folder = tempfile::tempdir().unwrap();
        for file in files {
            let path = folder.path().join(file);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, "x").unwrap();
        }
        folder
    }

    #[test]
    fn a_folder_without_a_policy_is_refused_by_name() {
        let refused = |files: &[&str]| {
            let (full, folder) = (folder_with(&["a.rego"]), folder_with(files));
            let folders = [("full", full.path().to_owned()), ("own", folder.path().to_owned())];
            let fault = Bundle::load(&folders).unwrap_err().to_string();
            assert!(
                fault.starts_with(&format!("`{}`: there is no policy", folder.path().display())),
                "{fault}"
            );
        };
        refused(&[]);
        refused(&["README.md", ".git/a.rego"]);
        let data = folder_with(&["data/x.json"]);
        let fault = Bundle::load(&[("own", data.path().to_owned())]).unwrap_err();
        assert!(matches!(fault, PolicyFault::NoRules), "{fault}");
    }

    #[test]
    fn a_folder_gives_its_rules_tests_fixtures_and_data() {
        let folder = folder_with(&[
            "a.rego",
            "sub/a_test.rego",
            "fixtures/f.json",
            "data/x/y.json",
            "README.md",
            ".git/a.rego",
        ]);
        let bundle = Bundle::load(&[("own", folder.path().to_owned())]).unwrap();
        let paths: Vec<_> = bundle.files().map(|(path, _)| path).collect();
        assert_eq!(paths, ["own/a.rego", "own/data/x/y.json", "own/fixtures/f.json", "own/sub/a_test.rego"]);
    }

    #[test]
    fn a_missing_folder_is_named() {
        let fault = Bundle::load(&[("own", "no/such/folder".into())]).unwrap_err();
        assert!(fault.to_string().starts_with("`no/such/folder`: "), "{fault}");
    }

    #[test]
    fn data_that_is_not_json_is_refused() {
        let folder = folder_with(&["data/teams.yaml"]);
        let fault = Bundle::load(&[("own", folder.path().to_owned())]).unwrap_err();
        assert!(fault.to_string().contains("JSON files"), "{fault}");
    }

    #[test]
    fn the_same_folder_name_twice_is_refused() {
        let folder = folder_with(&["a.rego"]);
        let twice = [("own", folder.path().to_owned()), ("own", folder.path().to_owned())];
        assert!(Bundle::load(&twice).unwrap_err().to_string().contains("twice"));
    }
}
