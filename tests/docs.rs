//! The documentation keeps up with the sources: what it repeats is compared, and its links lead somewhere.

#[cfg(test)]
mod docs {
    use std::collections::BTreeSet;
    use std::fs;
    use std::path::{Path, PathBuf};
    use std::process::Command;

    const README: &str = include_str!("../README.md");
    const CONFIGURATION: &str = include_str!("../docs/reference/configuration.md");
    const METRICS: &str = include_str!("../docs/reference/metrics.md");
    const CLAIMS: &str = include_str!("../docs/reference/claims.md");
    const STORY: &str = include_str!("../docs/explanation/one-exchange.md");

    fn root() -> PathBuf {
        PathBuf::from(env!("CARGO_MANIFEST_DIR"))
    }

    fn files(folder: &Path, extension: &str) -> Vec<PathBuf> {
        let mut found = Vec::new();
        for entry in fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                found.extend(files(&path, extension));
            } else if path.extension().is_some_and(|e| e == extension) {
                found.push(path);
            }
        }
        found
    }

    fn pages() -> Vec<PathBuf> {
        let mut pages = files(&root().join("docs"), "md");
        let others = ["README.md", "SECURITY.md", "CHANGELOG.md", "keys/README.md", "policies/README.md"];
        pages.extend(others.map(|page| root().join(page)));
        pages
    }

    /// The fenced blocks of a language.
    fn blocks<'a>(page: &'a str, language: &str) -> Vec<&'a str> {
        let open = format!("```{language}\n");
        page.split(&open)
            .skip(1)
            .filter_map(|rest| rest.split_once("\n```"))
            .map(|(block, _)| block)
            .collect()
    }

    #[test]
    fn the_verifiers_of_the_readme_are_the_tested_files() {
        for (language, file) in [("python", "verify.py"), ("ts", "verify.ts")] {
            let tested = fs::read_to_string(root().join("tests/interop/verifiers").join(file)).unwrap();
            assert_eq!(blocks(README, language), [tested.trim_end()], "{file}");
        }
    }

    #[test]
    fn the_readme_is_short() {
        assert!(README.lines().count() <= 150, "{} lines", README.lines().count());
    }

    /// The public fields of a struct, with their types.
    fn fields(source: &str, name: &str) -> Vec<(String, String)> {
        let (_, rest) = source.split_once(&format!("pub struct {name} {{\n")).unwrap();
        let (body, _) = rest.split_once("\n}\n").unwrap();
        let field = |line: &str| {
            let (name, kind) = line.trim().strip_prefix("pub ")?.split_once(": ")?;
            Some((name.to_owned(), kind.trim_end_matches(',').to_owned()))
        };
        body.lines().filter_map(field).collect()
    }

    #[test]
    fn every_configuration_key_has_a_row_and_the_reverse() {
        let source = concat!(
            include_str!("../src/config.rs"),
            include_str!("../src/config/admin.rs"),
            include_str!("../src/config/limits.rs"),
            include_str!("../src/config/retention.rs")
        );
        let mut keys = BTreeSet::new();
        for (key, kind) in fields(source, "Config") {
            if kind.ends_with("Config") {
                keys.extend(fields(source, &kind).into_iter().map(|(field, _)| format!("{key}.{field}")));
            } else {
                keys.insert(key);
            }
        }
        let (table, _) = CONFIGURATION.split_once("## Environment").unwrap();
        let rows = table.lines().filter_map(|line| line.strip_prefix("| `")?.split_once('`'));
        assert_eq!(rows.map(|(key, _)| key.to_owned()).collect::<BTreeSet<_>>(), keys);
    }

    #[test]
    fn every_claim_is_described() {
        let claims = fields(include_str!("../src/domain/claims.rs"), "TokenClaims");
        assert!(claims.len() > 20);
        for (claim, _) in claims {
            assert!(CLAIMS.contains(&format!("`{claim}`")), "{claim}");
        }
    }

    #[test]
    fn every_metric_has_a_row_and_the_reverse() {
        let source = include_str!("../src/metrics.rs");
        let (_, rest) = source.split_once("fn register(").unwrap();
        let (body, _) = rest.split_once("\n    }\n").unwrap();
        let squeezed: String = body.split_whitespace().collect();
        let names = squeezed.split("r.register(\"").skip(1).filter_map(|rest| rest.split_once('"'));
        let names: BTreeSet<String> = names.map(|(name, _)| format!("taskgrant_{name}")).collect();
        assert!(names.len() > 10, "{names:?}");
        let rows = METRICS.lines().filter_map(|line| line.strip_prefix("| `taskgrant_")?.split_once('`'));
        let rows = rows.map(|(name, _)| format!("taskgrant_{}", name.trim_end_matches("_total")));
        assert_eq!(rows.collect::<BTreeSet<_>>(), names);
    }

    /// `name()` in the story is a function of ours, `Type::name` one of a type, and `file.rs` a file.
    #[test]
    fn the_story_names_what_is_there() {
        let sources: String =
            files(&root().join("src"), "rs").iter().map(|path| fs::read_to_string(path).unwrap()).collect();
        let quoted: Vec<&str> = STORY.split('`').skip(1).step_by(2).collect();
        assert!(quoted.len() > 40);
        for name in quoted {
            let called = name.strip_suffix("()").or_else(|| Some(name.split_once("::")?.1));
            if let Some(function) = called.filter(|f| f.starts_with(char::is_lowercase)) {
                let is_there = ["(", "<"].iter().any(|end| sources.contains(&format!("fn {function}{end}")));
                assert!(is_there, "no function `{name}`");
            }
            if let Some(file) = name.strip_prefix("src/") {
                assert!(root().join("src").join(file).exists(), "{name}");
            }
        }
    }

    #[test]
    fn every_link_leads_to_a_file() {
        for page in pages() {
            let text = fs::read_to_string(&page).unwrap();
            let targets =
                text.split("](").skip(1).filter_map(|rest| rest.split_once(')')).map(|(link, _)| link);
            for target in targets.filter(|t| !t.contains("://") && !t.starts_with('#')) {
                let path = target.split('#').next().unwrap();
                assert!(page.parent().unwrap().join(path).exists(), "{}: {target}", page.display());
            }
        }
    }

    #[test]
    fn the_index_names_every_page() {
        let index = fs::read_to_string(root().join("docs/README.md")).unwrap();
        for page in files(&root().join("docs"), "md") {
            let path = page.strip_prefix(root().join("docs")).unwrap().display().to_string();
            assert!(path == "README.md" || index.contains(&format!("({path})")), "{path}");
        }
    }

    fn help(command: &[&str]) -> String {
        let output =
            Command::new(env!("CARGO_BIN_EXE_taskgrant")).args(command).arg("--help").output().unwrap();
        String::from_utf8(output.stdout).unwrap()
    }

    /// To bring a file up to date: `cargo run -- schema objects > docs/reference/schemas/objects.schema.json`.
    #[test]
    fn the_published_schemas_are_those_of_the_types() {
        for of in ["objects", "config"] {
            let output = Command::new(env!("CARGO_BIN_EXE_taskgrant")).args(["schema", of]).output().unwrap();
            let file = root().join(format!("docs/reference/schemas/{of}.schema.json"));
            let published = fs::read_to_string(&file).unwrap_or_default();
            let command = format!("cargo run -- schema {of} > docs/reference/schemas/{of}.schema.json");
            assert!(published.as_bytes() == output.stdout, "out of date: run `{command}`");
        }
    }

    #[test]
    fn every_finding_of_config_check_has_a_row() {
        let page = fs::read_to_string(root().join("docs/reference/cli.md")).unwrap();
        let mut codes = BTreeSet::new();
        for path in files(&root().join("src/configuration/check"), "rs") {
            let text = fs::read_to_string(path).unwrap();
            for call in [".error(", ".warning(", ".trial(", ".warn("] {
                let told = text.split(call).skip(1).filter_map(|rest| rest.trim_start().strip_prefix('"'));
                codes.extend(told.filter_map(|rest| Some(rest.split_once('"')?.0.to_owned())));
            }
        }
        assert!(codes.len() > 15, "{codes:?}");
        for code in codes {
            assert!(page.contains(&format!("`{code}`")), "{code}");
        }
    }

    /// The `--options` that a text names, the two that every command has left out.
    fn options(text: &str) -> BTreeSet<String> {
        let word = |rest: &str| {
            let end = rest.find(|c: char| !c.is_ascii_lowercase() && c != '-').unwrap_or(rest.len());
            rest.get(..end).unwrap_or_default().to_owned()
        };
        let named = text.split("--").skip(1).map(word).filter(|name| name.starts_with(char::is_lowercase));
        named.filter(|name| name != "help" && name != "version").collect()
    }

    #[test]
    fn every_command_has_a_section_with_its_options_and_the_reverse() {
        let page = fs::read_to_string(root().join("docs/reference/cli.md")).unwrap();
        let overview = help(&[]);
        let (_, commands) = overview.split_once("Commands:\n").unwrap();
        // A command stands two columns in; what stands further in continues a description.
        let lines = commands.lines().take_while(|line| !line.is_empty());
        let names = lines.filter_map(|line| line.strip_prefix("  ").filter(|rest| !rest.starts_with(' ')));
        let commands = names.filter_map(|line| line.split_whitespace().next());
        for command in commands.filter(|name| *name != "help") {
            let mut wanted = options(&help(&[command]));
            let parts: &[&str] = match command {
                "policy" => &[
                    "check", "test", "coverage", "eval", "schema", "apply", "reload", "rollback", "status",
                    "show", "replay", "diff", "canary", "promote", "mode",
                ],
                "keys" => &["list", "rotate", "retire", "reload"],
                "config" => &["check"],
                "task" => &["tree", "complete"],
                "lockdown" => &["on", "off", "status"],
                "approvals" => &["list", "show", "approve", "deny", "cancel"],
                "proposals" => &["list", "show", "confirm", "reject"],
                "store" => &["copy"],
                _ => &[],
            };
            wanted.extend(parts.iter().flat_map(|part| options(&help(&[command, part]))));
            let nested: &[[&str; 2]] = match command {
                "agent" => &[["secret", "add"], ["secret", "retire"]],
                "policy" => &[
                    ["candidate", "load"],
                    ["candidate", "drop"],
                    ["data", "put"],
                    ["data", "list"],
                    ["data", "show"],
                    ["data", "drop"],
                ],
                _ => &[],
            };
            wanted.extend(nested.iter().flat_map(|[of, part]| options(&help(&[command, of, part]))));
            let sections = page.split("\n## ").filter(|s| s.starts_with(&format!("`taskgrant {command}")));
            let [section] = sections.collect::<Vec<_>>()[..] else { panic!("no section for {command}") };
            assert_eq!(options(section), wanted, "{command}");
        }
    }
}
