//! `taskgrant policy replay|diff`: what would be decided otherwise, by the decisions of the log. The database is only read,
//! beside a running server or without one.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use chrono::{DateTime, NaiveDate, NaiveTime, TimeDelta, Utc};

use crate::app;
use crate::clock::Clock;
use crate::config::Config;
use crate::domain::ids::Name;
use crate::policy::replay::{Example, Skip, Tallied, Tally, Told};
use crate::replay::{Order, Report, Source, replay};
use crate::store::Store;
use crate::store::folder::Location;
use crate::terminal::output::{Exit, Output};

/// Decisions that are a moment younger than this command belong to it as well.
const MARGIN: TimeDelta = TimeDelta::seconds(2);
/// Rows of a table that people are shown.
const ROWS: usize = 10;

#[derive(Debug, clap::Args)]
pub(super) struct Replay {
    /// Folders of the bundle to try, in order; or the version of one that is or was in force, or the beginning of it.
    #[arg(long, value_name = "DIR|VERSION", required = true, num_args = 1..)]
    candidate: Vec<PathBuf>,
    #[command(flatten)]
    corpus: Corpus,
}

#[derive(Debug, clap::Args)]
pub(super) struct Diff {
    /// A bundle: a version that is or was in force, or the beginning of it; or folders, with commas between several.
    #[arg(value_name = "A")]
    one: String,
    /// The other bundle.
    #[arg(value_name = "B")]
    other: String,
    #[command(flatten)]
    corpus: Corpus,
}

/// Which decisions, and how they are told.
#[derive(Debug, clap::Args)]
struct Corpus {
    /// The first instant: so long ago (`90m`, `12h`, `7d`), a day or an instant (2026-11-20, 2026-11-20T08:00:00Z). All whose
    /// input is kept when left out.
    #[arg(long, value_name = "TIME")]
    since: Option<String>,
    /// The instant after the last, written in the same way; now when left out.
    #[arg(long, value_name = "TIME")]
    until: Option<String>,
    /// Only decisions of this tenant.
    #[arg(long, value_name = "NAME")]
    tenant: Option<Name>,
    /// Only decisions about this task type.
    #[arg(long, value_name = "NAME")]
    task_type: Option<Name>,
    /// How many decisions are named of each kind of change, the newest ones.
    #[arg(long, value_name = "N", default_value_t = 5)]
    examples: usize,
    /// How many in a hundred of the decisions may be skipped; of more, status 2. Those that were refused before policy was asked do
    /// not count.
    #[arg(long, value_name = "PERCENT", default_value_t = 10, value_parser = clap::value_parser!(u8).range(0..=100))]
    max_skipped: u8,
    /// The server's configuration: it says where the log lies.
    #[arg(long, value_name = "FILE", default_value = "taskgrant.toml")]
    config: PathBuf,
    /// Print JSON.
    #[arg(long)]
    json: bool,
}

/// Decides the log again by another bundle.
pub(super) async fn run_replay(args: &Replay, clock: &dyn Clock, output: &mut Output<'_>) -> Exit {
    ended(told(None, candidate(&args.candidate), &args.corpus, clock, output).await, output)
}

/// Decides the log by two bundles.
pub(super) async fn run_diff(args: &Diff, clock: &dyn Clock, output: &mut Output<'_>) -> Exit {
    let source = |text: &str| candidate(&text.split(',').map(PathBuf::from).collect::<Vec<_>>());
    ended(told(Some(source(&args.one)), source(&args.other), &args.corpus, clock, output).await, output)
}

fn ended(exit: Result<Exit, String>, output: &mut Output<'_>) -> Exit {
    exit.unwrap_or_else(|fault| {
        output.complain(&fault);
        Exit::Unknown
    })
}

/// One name that is no folder, and could be a version, is one.
fn candidate(names: &[PathBuf]) -> Source {
    if let [name] = names
        && !name.exists()
        && let Some(text) = name.to_str()
        && text.strip_prefix("sha256:").unwrap_or(text).bytes().all(|b| b.is_ascii_hexdigit())
    {
        return Source::Version(text.to_owned());
    }
    Source::Folders(names.to_vec())
}

async fn told(
    base: Option<Source>,
    candidate: Source,
    corpus: &Corpus,
    clock: &dyn Clock,
    output: &mut Output<'_>,
) -> Result<Exit, String> {
    let now = clock.now();
    let time = |option: &str, text: &Option<String>| {
        text.as_deref().map(|text| instant(text, now).ok_or_else(|| bad_time(option, text))).transpose()
    };
    let order = Order {
        base,
        candidate,
        since: time("since", &corpus.since)?,
        until: time("until", &corpus.until)?.unwrap_or(now + MARGIN),
        tenant: corpus.tenant.clone(),
        task_type: corpus.task_type.clone(),
        examples: corpus.examples,
    };
    let store = open(&corpus.config).await?;
    let replayed = replay(&store, &order).await;
    store.close().await;
    let report = replayed.map_err(|fault| fault.to_string())?;
    if corpus.json {
        output.json(&report);
    } else {
        print(&report, output);
    }
    told_enough(&report.tally, corpus)?;
    Ok(if report.tally.changed == 0 { Exit::Done } else { Exit::Differs })
}

/// Refuses to call a bundle harmless by what was left of the decisions, or by none because a filter is misspelt.
fn told_enough(tally: &Tally, corpus: &Corpus) -> Result<(), String> {
    let tenant = corpus.tenant.as_ref().map(|name| format!("--tenant `{name}`"));
    let task_type = corpus.task_type.as_ref().map(|name| format!("--task-type `{name}`"));
    let filters: Vec<String> = tenant.into_iter().chain(task_type).collect();
    if tally.recorded == 0 && !filters.is_empty() {
        return Err(format!(
            "no decision is one of {}: look at the name and the time",
            filters.join(" and ")
        ));
    }
    if !tally.tells_too_little(corpus.max_skipped) {
        return Ok(());
    }
    if tally.replayed == 0 {
        return Err(
            "none of these decisions could be decided again: nothing is known of the bundle".to_owned()
        );
    }
    let (lost, all) = tally.missed();
    Err(format!(
        "{lost} of {all} decisions were skipped, more than {} %: mend what skips them, or allow for more with --max-skipped",
        corpus.max_skipped
    ))
}

fn bad_time(option: &str, text: &str) -> String {
    format!("--{option} `{text}` is no time: write 90m, 12h, 7d, 2026-11-20 or 2026-11-20T08:00:00Z")
}

/// An instant, a day (its beginning in UTC), or so long ago.
fn instant(text: &str, now: DateTime<Utc>) -> Option<DateTime<Utc>> {
    if let Ok(at) = DateTime::parse_from_rfc3339(text) {
        return Some(at.to_utc());
    }
    if let Ok(day) = text.parse::<NaiveDate>() {
        return Some(day.and_time(NaiveTime::MIN).and_utc());
    }
    now.checked_sub_signed(TimeDelta::try_seconds(seconds(text)?)?)
}

/// A time as `90s`, `30m`, `12h` or `7d`, in seconds.
pub(super) fn seconds(text: &str) -> Option<i64> {
    let (count, unit) = text.split_at_checked(text.len().checked_sub(1)?)?;
    let seconds = match unit {
        "s" => 1,
        "m" => 60,
        "h" => 60 * 60,
        "d" => 24 * 60 * 60,
        _ => return None,
    };
    i64::from(count.parse::<u32>().ok()?).checked_mul(seconds)
}

/// The log, to be read only.
async fn open(config: &Path) -> Result<Store, String> {
    let config = Config::read(config).map_err(|fault| fault.to_string())?;
    let location = app::location(&config).map_err(|fault| fault.to_string())?;
    let store = match &location {
        Location::Postgres(_) => Store::connect_only(&location).await.map(Some),
        Location::Memory | Location::Folder(_) => Store::look_at(&config.data).await,
    };
    let store = store.map_err(|fault| fault.to_string())?;
    store.ok_or_else(|| {
        format!("there is no log in `{}` yet: no server has started there", config.data.display())
    })
}

fn print(report: &Report, output: &mut Output<'_>) {
    let Report { base, candidate, data, tally } = report;
    output.line(&format!(
        "before:    {}",
        base.as_deref().unwrap_or("as recorded, by the bundle that decided")
    ));
    output.line(&format!("after:     {candidate}"));
    output.line(&format!("decisions: {} recorded, {} decided again", tally.recorded, tally.replayed));
    for (version, count) in data {
        output
            .line(&format!("data:      {count} of these with the documents {version}, and with these again"));
    }
    if tally.refused_elsewhere > 0 {
        let count = tally.refused_elsewhere;
        output.line(&format!(
            "           {count} of these refused by a ceiling or the commit, whatever policy says"
        ));
    }
    for (why, skipped) in &tally.skipped {
        output.line(&skip(*why, skipped));
    }
    output.line(&format!("otherwise: {}", tally.changed));
    for (change, changed) in &tally.changes {
        output.line(&format!("\n{}: {}", change.as_str(), changed.count));
        changed.examples.values().for_each(|one| output.line(&example(one)));
    }
    if tally.changed == 0 {
        return;
    }
    for (title, counts) in [
        ("new reasons", &tally.reasons_new),
        ("reasons gone", &tally.reasons_gone),
        ("task types", &tally.task_types),
        ("agents", &tally.agents),
    ] {
        let rows: Vec<String> =
            counts.greatest().iter().take(ROWS).map(|(key, count)| format!("{key} {count}")).collect();
        if !rows.is_empty() {
            output.line(&format!("\n{title}: {}", rows.join(", ")));
        }
    }
}

fn skip(why: Skip, skipped: &Tallied<String>) -> String {
    let ids: Vec<&str> = skipped.examples.values().map(String::as_str).collect();
    let ids =
        if why.is_no_loss() || ids.is_empty() { String::new() } else { format!(": {}", ids.join(", ")) };
    format!("skipped:   {} {} ({}){ids}", skipped.count, why.as_str(), why.why())
}

fn example(one: &Example) -> String {
    let subject = &one.subject;
    format!(
        "  {}  {}  {}  {}\n      {} -> {}",
        subject.decision_id,
        subject.at,
        subject.agent,
        subject.task_type,
        end(&one.before),
        end(&one.after)
    )
}

fn end(told: &Told) -> String {
    let mut text = told.outcome.as_str().to_owned();
    if let Some(fault) = &told.fault {
        return format!("{text} ({fault})");
    }
    if !told.reasons.is_empty() {
        text = format!("{text} {}", joined(&told.reasons, " "));
    }
    if let Some(grant) = &told.grant {
        text = format!("{text} [{}; {} s]", joined(&grant.scopes, " "), grant.lifetime);
    }
    if !told.tags.is_empty() {
        text = format!("{text} #{}", joined(&told.tags, " #"));
    }
    text
}

fn joined(texts: &BTreeSet<String>, between: &str) -> String {
    texts.iter().map(String::as_str).collect::<Vec<_>>().join(between)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_time_is_an_instant_a_day_or_so_long_ago() {
        let now = DateTime::parse_from_rfc3339("2026-11-26T12:00:00Z").unwrap().to_utc();
        let told = |text| instant(text, now).map(|at| at.to_rfc3339());
        for (text, at) in [
            ("7d", "2026-11-19T12:00:00+00:00"),
            ("90m", "2026-11-26T10:30:00+00:00"),
            ("1s", "2026-11-26T11:59:59+00:00"),
            ("2026-11-20", "2026-11-20T00:00:00+00:00"),
            ("2026-11-20T08:00:00+01:00", "2026-11-20T07:00:00+00:00"),
        ] {
            assert_eq!(told(text).as_deref(), Some(at), "{text}");
        }
        for bad in ["", "d", "7", "7w", "-7d", "7 d", "ü", "4294967296d", "2026-13-01"] {
            assert_eq!(told(bad), None, "{bad}");
        }
    }
}
