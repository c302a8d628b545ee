//! The files of a working set: filled in, checked as the server would read them, and only then written.

use std::fs::{DirBuilder, OpenOptions};
use std::io::Write as _;
use std::os::unix::fs::DirBuilderExt as _;
use std::path::{Path, PathBuf};

use chrono::{Days, NaiveDate};
use openidconnect::url::Url;

use super::InitArgs;
use crate::cli::schema;
use crate::config::Config;
use crate::configuration::apply::fit;
use crate::configuration::documents::{self, Source};
use crate::domain::objects::{Object, SecretHash};
use crate::policy::bundle::Bundle;

const OBJECTS: [(&str, &str); 5] = [
    ("objects/tenant.yaml", include_str!("tenant.yaml")),
    ("objects/issuer.yaml", include_str!("issuer.yaml")),
    ("objects/resource.yaml", include_str!("resource.yaml")),
    ("objects/agent.yaml", include_str!("agent.yaml")),
    ("objects/task_type.yaml", include_str!("task_type.yaml")),
];
const CONFIG: &str = "taskgrant.toml";
/// Days until a task type is to be looked at again.
const REVIEW: u64 = 180;

/// Files and their texts, nothing written yet.
pub(super) struct Filled(Vec<(PathBuf, String)>);

/// The files that were written.
pub(super) struct Written(pub(super) Vec<PathBuf>);

impl Filled {
    /// Fills the templates in, and refuses what the server would refuse.
    pub(super) fn new(args: &InitArgs, secret: SecretHash, today: NaiveDate) -> Result<Self, String> {
        let review_by = today.checked_add_days(Days::new(REVIEW)).unwrap_or(today);
        let production = args.public_url.starts_with("https://");
        // Texts are written as JSON, which YAML and TOML read alike: no value can end its quotation.
        let text = |value: &str| serde_json::Value::from(value).to_string();
        let values = [
            ("public_url", text(&args.public_url)),
            ("listen", text(&listen(&args.public_url))),
            ("environment", text(if production { "production" } else { "trial" })),
            ("outbound", outbound(args)),
            ("tenant", text(&args.tenant)),
            ("issuer", text(&args.issuer)),
            ("client", text(&args.client)),
            ("group", text(&args.group)),
            ("secret_sha256", String::from(secret)),
            ("review_by", review_by.to_string()),
        ];
        let fill = |template: &str| {
            values.iter().fold(template.to_owned(), |text, (name, value)| {
                text.replace(&format!("{{{{{name}}}}}"), value)
            })
        };
        let toml = fill(include_str!("taskgrant.toml"));
        let objects = OBJECTS.map(|(file, template)| Source { file: file.to_owned(), text: fill(template) });
        check(&toml, &objects)?;
        let mut files = vec![(PathBuf::from(CONFIG), format!("{}\n", toml.trim_end()))];
        files.extend(objects.into_iter().map(|source| (source.file.into(), source.text)));
        let bundle = Bundle::embedded_base().map_err(|why| why.to_string())?;
        let policy = bundle.files().map(|(path, text)| (Path::new("policies").join(path), text.to_owned()));
        files.extend(policy);
        files.push(("schemas/config.schema.json".into(), schema::config()));
        files.push(("schemas/objects.schema.json".into(), schema::objects()));
        files.push((".gitignore".into(), "/taskgrant-data/\n".to_owned()));
        Ok(Self(files))
    }

    /// Refuses if a single one of the files is there already.
    pub(super) fn check_free(&self, dir: &Path) -> Result<(), String> {
        let taken: Vec<String> = self
            .0
            .iter()
            .map(|(file, _)| dir.join(file))
            .filter(|path| path.symlink_metadata().is_ok())
            .map(|path| path.display().to_string())
            .collect();
        if taken.is_empty() {
            return Ok(());
        }
        let taken = taken.join(", ");
        Err(format!("nothing is overwritten, and there is already {taken}: choose another --dir"))
    }

    pub(super) fn write(self, dir: &Path) -> Result<Written, String> {
        let mut written = Vec::new();
        for (file, text) in self.0 {
            let path = dir.join(file);
            let failed = |why: std::io::Error| format!("cannot write {}: {why}", path.display());
            let folder = path.parent().unwrap_or(dir);
            DirBuilder::new().recursive(true).mode(0o755).create(folder).map_err(failed)?;
            let mut file = OpenOptions::new().write(true).create_new(true).open(&path).map_err(failed)?;
            file.write_all(text.as_bytes()).map_err(failed)?;
            written.push(path);
        }
        Ok(Written(written))
    }
}

/// Reads what is to be written as the server would.
fn check(toml: &str, objects: &[Source]) -> Result<(), String> {
    let config = Config::from_toml(toml).map_err(|why| why.to_string())?;
    let told = |faults: Vec<crate::configuration::fault::Fault>| {
        faults.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n")
    };
    let documents = documents::read(objects).map_err(told)?;
    let object = |d: &documents::Document| Object { id: d.id.clone(), version: 1, spec: d.spec.clone() };
    let all: Vec<Object> = documents.iter().map(object).collect();
    let fitted = fit(&all, &[], &config.public_url);
    fitted.map(drop).map_err(|faults| told(documents::place(&faults, &documents)))
}

/// Where to listen: for a trial on loopback where the URL says, else where a reverse proxy on this machine finds it.
fn listen(public_url: &str) -> String {
    let url = Url::parse(public_url).ok().filter(|url| url.scheme() == "http");
    let port = url.as_ref().and_then(Url::port_or_known_default).unwrap_or(8080);
    let v6 = url.as_ref().and_then(Url::host_str).is_some_and(|host| host.starts_with('['));
    if v6 { format!("[::1]:{port}") } else { format!("127.0.0.1:{port}") }
}

fn outbound(args: &InitArgs) -> String {
    if args.allow_private.is_empty() && !args.allow_http_loopback {
        return String::new();
    }
    let mut lines = vec![String::new(), "[outbound]".to_owned()];
    if !args.allow_private.is_empty() {
        let hosts = serde_json::Value::from(args.allow_private.clone());
        lines.push("# Hosts at private addresses that may be asked for keys.".to_owned());
        lines.push(format!("allow_private = {hosts}"));
    }
    if args.allow_http_loopback {
        lines.push("# For a trial on this machine only.".to_owned());
        lines.push("allow_http_loopback = true".to_owned());
    }
    lines.join("\n")
}
