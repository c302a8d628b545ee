//! What `-f` names: a file, a folder of YAML files, or `-` for standard input.

use std::fs;
use std::io::Read;
use std::path::{Path, PathBuf};

use crate::configuration::documents::{MAX_FILE, MAX_FILES, Source};
use crate::configuration::fault::Fault;

/// How deep folders are followed.
const MAX_DEPTH: usize = 16;

/// Reads all that `paths` name, folders in the order of their names.
///
/// Of a folder: files ending in `.yaml` or `.yml`, at any depth. Names that begin with a dot are passed over, and links
/// to folders are not followed; links to files are (a mounted Kubernetes `ConfigMap` is made of them).
pub fn read(paths: &[PathBuf], stdin: &mut dyn Read) -> Result<Vec<Source>, Vec<Fault>> {
    let mut sources = Vec::new();
    let mut faults = Vec::new();
    for path in paths {
        let found = if path.as_os_str() == "-" {
            text("<stdin>", stdin).map(|source| sources.push(source))
        } else if path.is_dir() {
            folder(path, 0, &mut sources)
        } else {
            file(path).map(|source| sources.push(source))
        };
        faults.extend(found.err().map(|fault| *fault));
    }
    if faults.is_empty() { Ok(sources) } else { Err(faults) }
}

fn folder(path: &Path, depth: usize, sources: &mut Vec<Source>) -> Result<(), Box<Fault>> {
    let failed = |message: String| fault(&path.display().to_string(), message);
    if depth > MAX_DEPTH {
        return Err(failed(format!("folders are nested deeper than {MAX_DEPTH}")));
    }
    let entries: Result<Vec<_>, _> = fs::read_dir(path).and_then(Iterator::collect);
    let mut entries = entries.map_err(|error| failed(format!("cannot be read: {error}")))?;
    entries.sort_by_key(fs::DirEntry::file_name);
    for entry in entries.iter().filter(|e| !e.file_name().to_string_lossy().starts_with('.')) {
        let (path, kind) = (entry.path(), entry.file_type());
        if kind.is_ok_and(|kind| kind.is_dir()) {
            folder(&path, depth + 1, sources)?;
        } else if path.extension().is_some_and(|e| e == "yaml" || e == "yml") && path.is_file() {
            sources.push(file(&path)?);
        }
        if sources.len() > MAX_FILES {
            return Err(failed(format!("more than {MAX_FILES} files")));
        }
    }
    Ok(())
}

fn file(path: &Path) -> Result<Source, Box<Fault>> {
    let name = path.display().to_string();
    let mut opened = fs::File::open(path).map_err(|e| fault(&name, format!("cannot be read: {e}")))?;
    text(&name, &mut opened)
}

fn text(name: &str, from: &mut dyn Read) -> Result<Source, Box<Fault>> {
    let mut text = String::new();
    // One byte more than is taken, so that the reader of documents tells that it is too large.
    let limit = u64::try_from(MAX_FILE).unwrap_or(u64::MAX).saturating_add(1);
    let read = from.take(limit).read_to_string(&mut text);
    read.map_err(|error| fault(name, format!("cannot be read: {error}")))?;
    Ok(Source { file: name.to_owned(), text })
}

fn fault(file: &str, message: String) -> Box<Fault> {
    Box::new(Fault::of_file(file, None, message))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_folder_is_walked_in_order_and_hidden_names_are_passed_over() {
        let root = tempfile::tempdir().unwrap();
        for name in ["b.yaml", "a/z.yml", "a/notes.txt", ".git/x.yaml", ".hidden.yaml", "c.yml"] {
            let path = root.path().join(name);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, "x").unwrap();
        }
        std::os::unix::fs::symlink(root.path(), root.path().join("loop")).unwrap();
        std::os::unix::fs::symlink(root.path().join("b.yaml"), root.path().join("d.yaml")).unwrap();
        let sources = read(&[root.path().to_owned()], &mut std::io::empty()).unwrap();
        let root = format!("{}/", root.path().display());
        let names: Vec<_> = sources.iter().map(|s| s.file.strip_prefix(&root).unwrap()).collect();
        assert_eq!(names, ["a/z.yml", "b.yaml", "c.yml", "d.yaml"]);
    }

    #[test]
    fn standard_input_is_a_file_and_what_is_missing_is_told() {
        let sources = read(&["-".into()], &mut "kind: x".as_bytes()).unwrap();
        assert_eq!(sources[0], Source { file: "<stdin>".into(), text: "kind: x".into() });
        let faults = read(&["/nowhere/a.yaml".into()], &mut std::io::empty()).unwrap_err();
        assert!(faults[0].to_string().starts_with("/nowhere/a.yaml: cannot be read"), "{}", faults[0]);
        assert!(read(&["-".into()], &mut [0xff].as_slice()).is_err());
    }
}
