//! `taskgrant config check --as`: the ceilings of a session side by side.

use std::collections::BTreeSet;
use std::io::Read;
use std::path::Path;

use serde_json::{Map, Value};

use super::CheckArgs;
use crate::cli::files;
use crate::config::Config;
use crate::configuration::apply::fit;
use crate::configuration::documents;
use crate::configuration::fault::Fault;
use crate::domain::ceiling::{Bound, CeilingName, Ceilings, Layer};
use crate::domain::json;
use crate::domain::objects::Object;
use crate::domain::resource::ResourceUri;
use crate::domain::scope::Scope;
use crate::domain::snapshot::Snapshot;
use crate::exchange::preview::{Preview, Question, preview};
use crate::terminal::output::{Exit, Output};

/// Longest file of claims, in bytes.
const MAX_CLAIMS: u64 = 64 * 1024;

/// Shows what a session with these claims could get. Refused: nothing, or the agent could not spend it.
pub(super) fn show(
    args: &CheckArgs,
    claims: &Path,
    stdin: &mut (dyn Read + Send),
    output: &mut Output<'_>,
) -> Exit {
    match found(args, claims, stdin) {
        Ok(preview) => {
            let nothing = preview.widest.scopes.is_empty() || preview.refusal.is_some();
            if args.json {
                output.json(&as_json(&preview));
            } else {
                print(&preview, output);
            }
            if nothing { Exit::Refused } else { Exit::Done }
        }
        Err(why) => {
            output.complain(&why);
            Exit::Refused
        }
    }
}

fn found(args: &CheckArgs, claims: &Path, stdin: &mut (dyn Read + Send)) -> Result<Preview, String> {
    let claims = read(claims, stdin)?;
    let config = Config::read(&args.config).map_err(|fault| fault.to_string())?;
    let snapshot = snapshot(args, &config, stdin).map_err(|faults| {
        let lines: Vec<String> = faults.iter().map(ToString::to_string).collect();
        lines.join("\n")
    })?;
    let task_type = args.task_type.as_deref().unwrap_or_default();
    let task_type = task_type.parse().map_err(|why| format!("--task-type `{task_type}`: {why}"))?;
    let agent = args.agent.as_deref().map(|id| id.parse().map_err(|why| format!("--agent `{id}`: {why}")));
    let agent = agent.transpose()?;
    let question = Question {
        own_issuer: &config.public_url,
        claims: &claims,
        task_type: &task_type,
        agent: agent.as_ref(),
    };
    preview(&snapshot, &question).map_err(|why| why.to_string())
}

fn read(place: &Path, stdin: &mut (dyn Read + Send)) -> Result<Map<String, Value>, String> {
    let failed = |why: &dyn std::fmt::Display| format!("{}: {why}", place.display());
    let mut text = String::new();
    let read = if place.as_os_str() == "-" {
        stdin.take(MAX_CLAIMS).read_to_string(&mut text)
    } else {
        std::fs::File::open(place).and_then(|file| file.take(MAX_CLAIMS).read_to_string(&mut text))
    };
    read.map_err(|why| failed(&why))?;
    json::object(text.as_bytes()).map_err(|why| failed(&format!("no JSON object of claims: {why}")))
}

fn snapshot(
    args: &CheckArgs,
    config: &Config,
    stdin: &mut (dyn Read + Send),
) -> Result<Snapshot, Vec<Fault>> {
    let documents = documents::read(&files::read(&args.filename, stdin)?)?;
    let object = |d: &documents::Document| Object { id: d.id.clone(), version: 1, spec: d.spec.clone() };
    let objects: Vec<Object> = documents.iter().map(object).collect();
    let fitted = fit(&objects, &[], &config.public_url);
    fitted.map(|(snapshot, _)| snapshot).map_err(|faults| documents::place(&faults, &documents))
}

const HEADS: [&str; 5] = ["session", "entitlement", "task type", "delegation", "intersection"];

/// For one scope at one resource: what each ceiling says. A session bounds tenant, principal and time only.
fn row(preview: &Preview, resource: &ResourceUri, scope: &Scope) -> [&'static str; 5] {
    let layer = |name: CeilingName| {
        let mut layers = preview.ceilings.layers.iter().filter(|l| l.ceiling == name);
        yes(layers.all(|l| l.allows(resource, scope)))
    };
    let handed = preview.edges.iter().any(|(_, bound)| bound.allows(resource, scope));
    let granted = preview.ceilings.grantable_scopes(&[resource.clone()].into()).contains(scope);
    [".", layer(CeilingName::Entitlement), layer(CeilingName::TaskType), yes(handed), yes(granted)]
}

fn yes(is: bool) -> &'static str {
    if is { "yes" } else { "-" }
}

/// Every scope that a resource of the task type lists, or that a ceiling names for it.
fn scopes_at(ceilings: &Ceilings, resource: &ResourceUri) -> BTreeSet<Scope> {
    let listed = ceilings.listed.get(resource).into_iter().flat_map(|set| set.iter().cloned());
    listed.collect()
}

fn print(preview: &Preview, output: &mut Output<'_>) {
    let session = preview.session.as_if_verified();
    let client = session.client.as_deref().map_or_else(String::new, |client| format!(", client {client}"));
    output.line(&format!(
        "session       {} of issuer {} in tenant {}{client}; ends {}",
        session.subject, session.issuer.name, session.tenant, session.expires_at
    ));
    let agent = &preview.agent.spec.client_id;
    match &preview.refusal {
        None => output.line(&format!("agent         {agent} may spend it")),
        Some(why) => output.line(&format!("agent         {agent} may NOT spend it: {why}")),
    }
    let (kind, lifetime) = (&preview.task_type, preview.task_type.spec.lifetime);
    output.line(&format!(
        "task type     {}: a task lives {} s at most, a token for a service {} s",
        kind.label(),
        lifetime.task,
        lifetime.token.max
    ));
    for (to, _) in &preview.edges {
        output.line(&format!("delegation    {agent} may hand over to {to}"));
    }
    let rows = preview.ceilings.listed.keys().map(|uri| (uri, scopes_at(&preview.ceilings, uri)));
    for (resource, scopes) in rows {
        let wide = scopes.iter().map(|s| s.as_str().len()).max().unwrap_or(0).max(24);
        output.line("");
        output.line(&format!("{resource}"));
        output.line(&table_row("scope", wide, HEADS));
        for scope in &scopes {
            output.line(&table_row(scope.as_str(), wide, row(preview, resource, scope)));
        }
    }
    details(preview, output);
    if preview.widest.scopes.is_empty() {
        output.line("nothing is left: every request would be refused");
    }
}

fn table_row(first: &str, wide: usize, cells: [&str; 5]) -> String {
    let cells = cells.iter().zip(HEADS).map(|(cell, head)| format!("{cell:0$}", head.len()));
    let cells: Vec<String> = cells.collect();
    format!("  {first:wide$}  {}", cells.join("  ")).trim_end().to_owned()
}

fn details(preview: &Preview, output: &mut Output<'_>) {
    let limits: Vec<_> = columns(preview)
        .into_iter()
        .filter(|(_, bounds)| bounds.iter().any(|b| b.details.is_some()))
        .collect();
    if limits.is_empty() && preview.widest.details.is_empty() {
        return;
    }
    output.line("");
    output.line("authorization details");
    for (name, bounds) in limits {
        for bound in bounds {
            let shown =
                bound.details.as_ref().map_or_else(|| "not limited".to_owned(), |d| d.to_json().to_string());
            output.line(&format!("  {name:12}  {shown}"));
        }
    }
    output.line(&format!("  {:12}  {}", "intersection", preview.widest.details.to_json()));
}

fn columns(preview: &Preview) -> Vec<(&'static str, Vec<&Bound>)> {
    let of = |name: CeilingName| {
        let layers = preview.ceilings.layers.iter().filter(move |l| l.ceiling == name);
        layers.flat_map(|Layer { any_of, .. }| any_of).map(AsRef::as_ref).collect::<Vec<_>>()
    };
    let edges = preview.edges.iter().map(|(_, bound)| bound.as_ref()).collect();
    vec![
        ("entitlement", of(CeilingName::Entitlement)),
        ("task_type", of(CeilingName::TaskType)),
        ("delegation", edges),
    ]
}

fn as_json(preview: &Preview) -> Value {
    let session = preview.session.as_if_verified();
    let bound = |bound: &Bound| {
        serde_json::json!({
            "scopes": bound.scopes.as_ref().map(|s| s.iter().map(Scope::as_str).collect::<Vec<_>>()),
            "resources": bound.resources.as_ref().map(|r| r.iter().map(ResourceUri::as_str).collect::<Vec<_>>()),
            "authorization_details": bound.details.as_ref().map(crate::domain::details::Details::to_json),
        })
    };
    let mut ceilings = Map::new();
    for (name, bounds) in columns(preview) {
        ceilings.insert(name.to_owned(), bounds.into_iter().map(bound).collect());
    }
    for ((to, _), edge) in preview
        .edges
        .iter()
        .zip(ceilings.get_mut("delegation").and_then(Value::as_array_mut).into_iter().flatten())
    {
        edge["to"] = serde_json::json!(to);
    }
    let widest = &preview.widest;
    serde_json::json!({
        "session": {
            "tenant": session.tenant, "issuer": session.issuer.spec.issuer, "subject": session.subject,
            "client": session.client, "ends": session.expires_at,
        },
        "agent": {
            "client_id": preview.agent.spec.client_id, "may_spend": preview.refusal.is_none(),
            "why_not": preview.refusal.as_ref().map(ToString::to_string),
        },
        "task_type": {
            "name": preview.task_type.label(), "lifetime": preview.task_type.spec.lifetime,
        },
        "ceilings": ceilings,
        "intersection": {
            "scopes": widest.scopes.iter().map(Scope::as_str).collect::<Vec<_>>(),
            "resources": widest.resources.iter().map(ResourceUri::as_str).collect::<Vec<_>>(),
            "authorization_details": widest.details.to_json(),
        },
    })
}
