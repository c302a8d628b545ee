//! What is wrong with the file or the environment, as people read it.

use figment::Error;
use figment::error::Kind;

/// The key that figment's error is about: an unknown one is not in the error's path.
pub(super) fn key(error: &Error) -> Option<String> {
    let mut path = error.path.clone();
    if let Kind::UnknownField(written, _) = &error.kind {
        path.push(written.clone());
    }
    (!path.is_empty()).then(|| path.join("."))
}

/// Figment's error as one line: where, what, and the nearest known key.
pub(super) fn explain(error: &Error) -> String {
    let lines = error.clone().into_iter().map(|one| {
        let source = one.metadata.as_ref().and_then(|m| m.source.as_ref()).map(|s| format!("{s}: "));
        let path = if one.path.is_empty() { String::new() } else { format!("{}: ", one.path.join(".")) };
        let hint =
            if let Kind::UnknownField(written, known) | Kind::UnknownVariant(written, known) = &one.kind {
                nearest(written, known)
            } else {
                String::new()
            };
        format!("{}{path}{}{hint}", source.unwrap_or_default(), one.kind)
    });
    lines.collect::<Vec<_>>().join("\n")
}

fn nearest(written: &str, known: &[&str]) -> String {
    let best = known.iter().map(|k| (strsim::damerau_levenshtein(written, k), k)).min();
    match best {
        Some((distance, name)) if distance <= 3 => format!("; did you mean `{name}`?"),
        _ => String::new(),
    }
}
