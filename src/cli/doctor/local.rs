//! What can be seen on this machine.

use std::path::Path;

use super::{Line, served};
use crate::admin::client::AdminClient;
use crate::clock::Clock;
use crate::config::Config;
use crate::configuration::check;
use crate::domain::objects::Object;
use crate::keys::file::PrivateDocument;
use crate::policy::bundle::Bundle;
use crate::policy::suite;
use crate::store::Store;
use crate::store::error::StoreError;

/// Clocks that part by more than this stop an issuing server (DESIGN §7), in seconds.
const DATABASE_SKEW: i64 = 2;
const GIB: u64 = 1 << 30;
/// With less than this free, a database that grows will stop before somebody looks.
const LITTLE: u64 = GIB;
/// With less than this the next commits are in danger.
const TOO_LITTLE: u64 = GIB / 8;

pub(super) fn modes(config: &Config) -> Vec<Line> {
    let exposed = check::modes(config);
    if exposed.is_empty() {
        return vec![Line::ok("file modes", "data, keys and database are for this account only")];
    }
    let line = |one: &check::Exposed| {
        Line::fail("file modes", format!("{} is {}", one.path, one.message()), one.remedy())
    };
    exposed.iter().map(line).collect()
}

/// Whether every key file can be used. The ring itself is not opened: that would make a key where there is none.
pub(super) fn keys(config: &Config) -> Line {
    let folder = config.keys_folder();
    let entries = match std::fs::read_dir(&folder) {
        Ok(entries) => entries,
        Err(why) if why.kind() == std::io::ErrorKind::NotFound => {
            return Line::warn("keys", "there are none yet", "the first start makes one");
        }
        Err(why) => {
            let remedy = "let the server's account read it";
            return Line::fail("keys", format!("{}: {why}", folder.display()), remedy);
        }
    };
    let files: Vec<_> = entries.flatten().map(|entry| entry.path()).collect();
    let files: Vec<_> = files.iter().filter(|path| path.extension().is_some_and(|e| e == "pem")).collect();
    let bad = files.iter().find_map(|path| PrivateDocument::load(path).err());
    match (bad, files.len()) {
        (Some(why), _) => Line::fail("keys", why.to_string(), "mend, replace or remove the file"),
        (None, 0) => Line::warn("keys", "there are none yet", "the first start makes one"),
        (None, count) => Line::ok("keys", format!("{count} in {}", folder.display())),
    }
}

pub(super) fn disk(config: &Config) -> Line {
    let existing = config.data.ancestors().find(|path| path.exists() || path.as_os_str().is_empty());
    let at = existing.filter(|path| !path.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let stat = match rustix::fs::statvfs(at) {
        Ok(stat) => stat,
        Err(why) => return Line::fail("disk", format!("{}: {why}", at.display()), "see that it is mounted"),
    };
    let free = stat.f_bavail.saturating_mul(stat.f_frsize);
    let message = format!("{} MiB free at {}", free >> 20, at.display());
    let remedy = "make room, or move `data`: without it nothing can be recorded, and so nothing issued";
    match free {
        _ if free < TOO_LITTLE => Line::fail("disk", message, remedy),
        _ if free < LITTLE => Line::warn("disk", message, remedy),
        _ => Line::ok("disk", message),
    }
}

pub(super) fn policy(config: &Config) -> Line {
    const REMEDY: &str = "mend the bundle: `taskgrant policy check` and `policy test` say more";
    let bundle = match Bundle::of_folders(&config.policy.bundles) {
        Ok(bundle) => bundle,
        Err(why) => return Line::fail("policy", why.to_string(), REMEDY),
    };
    match suite::test(&bundle) {
        Ok(report) => match report.failures().next() {
            Some(failed) => {
                Line::fail("policy", format!("{}: test `{}` fails", failed.at, failed.name), REMEDY)
            }
            None => Line::ok(
                "policy",
                format!("{} tests pass, version {}", report.results.len(), bundle.version()),
            ),
        },
        Err(why) => Line::fail("policy", why.to_string(), REMEDY),
    }
}

pub(super) async fn database(store: &Result<Option<Store>, StoreError>, clock: &dyn Clock) -> Vec<Line> {
    let store = match store {
        Ok(Some(store)) => store,
        Ok(None) => return vec![Line::warn("database", "there is none yet", "the first start makes it")],
        Err(why) => return vec![unreadable(why)],
    };
    let health = match store.health().await {
        Ok(health) => health,
        Err(why) => return vec![unreadable(&why)],
    };
    let integrity = match &health.damage {
        None if store.is_shared() => Line::ok("database", "the server answers"),
        None => Line::ok("database", "the file is sound"),
        Some(what) => {
            Line::fail("database", format!("the file is damaged: {what}"), "restore the last backup")
        }
    };
    let known = health.known_schema;
    let schema = match health.schema {
        Some(version) if version == known => Line::ok("schema", format!("version {version}")),
        Some(version) if version < known && store.is_shared() => {
            Line::fail("schema", format!("version {version}, known is {known}"), "run `taskgrant migrate`")
        }
        Some(version) if version < known => Line::warn(
            "schema",
            format!("version {version}, known is {known}"),
            "the next start brings it up",
        ),
        Some(version) => {
            let message = format!("version {version} is newer than this program's {known}");
            Line::fail("schema", message, "run the newer program")
        }
        None => Line::fail("schema", "no schema", "restore the last backup"),
    };
    let skew = (health.now - clock.now()).num_seconds().abs();
    let time = if skew <= DATABASE_SKEW {
        Line::ok("database clock", format!("within {DATABASE_SKEW} s of this machine's"))
    } else {
        Line::fail("database clock", format!("{skew} s off this machine's"), "synchronise the clocks")
    };
    vec![integrity, schema, time, latest(store, clock).await]
}

/// Whether a token is in the log that was issued later than it is now: then the clock has gone back.
async fn latest(store: &Store, clock: &dyn Clock) -> Line {
    let head = match store.head().await {
        Ok(head) => head,
        Err(why) => return unreadable(&why),
    };
    let ahead = (head.greatest_iat - clock.now()).num_seconds();
    if ahead <= DATABASE_SKEW {
        return Line::ok("log", format!("{} decisions, none from the future", head.frontier.size()));
    }
    let message = format!("the latest token was issued {ahead} s from now: the clock has gone back");
    Line::fail("log", message, "set the clock right, or wait until it has caught up")
}

fn unreadable(why: &StoreError) -> Line {
    Line::fail(
        "database",
        why.to_string(),
        "see that the file is the server's and readable, or the database server up and migrated; or restore a backup",
    )
}

pub(super) async fn admin_socket(config: &Config) -> (Line, Option<Vec<Object>>) {
    let path = config.admin_socket();
    let client = match AdminClient::find(&path).await {
        Ok(Some(client)) => client,
        Ok(None) => {
            let message = format!("no server answers on {}", path.display());
            return (Line::warn("server", message, "start it: `taskgrant serve`"), None);
        }
        Err(why) => {
            let remedy = "run the doctor as the server's account";
            return (Line::fail("server", why.to_string(), remedy), None);
        }
    };
    match served(&client).await {
        Ok(objects) => (
            Line::ok("server", format!("it answers, with {} objects in force", objects.len())),
            Some(objects),
        ),
        Err(why) => (Line::fail("server", why, "see its log, and whether it is of this version"), None),
    }
}
