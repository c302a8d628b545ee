//! The use case: decides recorded exchanges again by another bundle, and tells what would end otherwise. Nothing is written.
//!
//! One task reads the log page by page; as many threads as there are cores decide, each with the virtual machines of its own
//! that [`PolicyEngine`] gives a thread. At no time are there more than a few pages in memory.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::path::PathBuf;
use std::sync::Arc;
use std::thread::{self, JoinHandle};

use chrono::{DateTime, SecondsFormat, Utc};
use serde::{Deserialize, Serialize};
use thiserror::Error;
use tokio::sync::mpsc::{Receiver, Sender, channel};
use tokio::task::spawn_blocking;

use crate::configuration::apply::kept::{kept_bundle, kept_documents};
use crate::configuration::apply::policy::PolicyChangeFault;
use crate::domain::ids::Name;
use crate::domain::objects::{ApprovalWhen, ObjectKind};
use crate::policy::bundle::Bundle;
use crate::policy::data::Data;
use crate::policy::engine::PolicyEngine;
use crate::policy::fault::PolicyFault;
use crate::policy::input::{INPUT_VERSION, PolicyInput};
use crate::policy::judgement::Judgement;
use crate::policy::mode::Mode;
use crate::policy::replay::{Case, GrantedRecord, Recorded, Skip, Standing, Subject, Tally};
use crate::store::Store;
use crate::store::decided::{Decided, Span};
use crate::store::error::StoreError;

/// Decisions of one page: some 2 MiB.
const PAGE: u32 = 512;
/// Pages that may wait for one thread.
const WAITING: usize = 2;
/// Bundles that are compiled at once, of those that decided. More are rare, and are compiled again.
const MOST_ENGINES: usize = 32;

/// Where a bundle comes from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Source {
    /// Folders.
    Folders(Vec<PathBuf>),
    /// A version that is or was in force, or the beginning of it.
    Version(String),
}

/// What is compared, and on which decisions.
#[derive(Clone, Debug)]
pub struct Order {
    /// The one bundle; the one that decided each time when left out.
    pub base: Option<Source>,
    /// The other.
    pub candidate: Source,
    /// The first instant; all that is kept when left out.
    pub since: Option<DateTime<Utc>>,
    /// The instant after the last.
    pub until: DateTime<Utc>,
    /// One tenant only.
    pub tenant: Option<Name>,
    /// One task type only, of whatever version.
    pub task_type: Option<Name>,
    /// How many examples of each change are kept.
    pub examples: usize,
}

/// What came of it.
#[derive(Clone, Debug, Serialize)]
pub struct Report {
    /// Version of the one bundle; none where it is the one that decided each time.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub base: Option<String>,
    /// Version of the other.
    pub candidate: String,
    /// The data documents that the decisions had, by the version of all of them together: how many had them. Each was decided again
    /// with its own; those that are not here had none but a bundle's own.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub data: BTreeMap<String, u64>,
    /// What would end otherwise.
    #[serde(flatten)]
    pub tally: Tally,
}

/// Why nothing can be told.
#[derive(Debug, Error)]
pub enum ReplayFault {
    /// A bundle cannot be read or does not compile.
    #[error("policy: {0}")]
    Policy(#[from] PolicyFault),
    /// No such bundle was ever in force.
    #[error("{0}")]
    Bundle(#[from] PolicyChangeFault),
    /// The log cannot be read.
    #[error("{0}")]
    Store(#[from] StoreError),
    /// A thread ended before its work.
    #[error("the replay ended before its end: {0}")]
    Ended(String),
}

/// Decides again what `order` names of the log in `store`.
pub async fn replay(store: &Store, order: &Order) -> Result<Report, ReplayFault> {
    let mut engines = Engines::default();
    let base = match &order.base {
        Some(source) => Some(engines.take(bundle(store, source).await?)?),
        None => None,
    };
    let candidate = engines.take(bundle(store, &order.candidate).await?)?;
    let compared = Compared { base: base.clone(), candidate: candidate.clone() };
    let cores = thread::available_parallelism().map_or(1, std::num::NonZero::get);
    let hands: Vec<Hand> = (0..cores).map(|_| Hand::start(order.examples)).collect();
    let read = read(store, order, (&compared, engines), &hands).await;
    let mut tally = Tally::new(order.examples);
    for Hand { pages, thread } in hands {
        drop(pages);
        let ended = |why: String| ReplayFault::Ended(why);
        let part = spawn_blocking(|| thread.join()).await.map_err(|error| ended(error.to_string()))?;
        tally.merge(part.map_err(|_| ended("a thread failed".to_owned()))?);
    }
    let data = read?;
    Ok(Report { base, candidate, data, tally })
}

async fn bundle(store: &Store, source: &Source) -> Result<Bundle, ReplayFault> {
    Ok(match source {
        Source::Folders(folders) => Bundle::of_folders(folders)?,
        Source::Version(version) => kept_bundle(store, version).await?,
    })
}

/// Versions of the bundles that are compared; without a base it is the one that decided.
struct Compared {
    base: Option<String>,
    candidate: String,
}

/// Hands the decisions round, page by page. Tells which data documents they had.
async fn read(
    store: &Store,
    order: &Order,
    (compared, mut engines): (&Compared, Engines),
    hands: &[Hand],
) -> Result<BTreeMap<String, u64>, ReplayFault> {
    let mut span = Span::new(order.since, order.until, order.tenant.as_ref());
    let mut had = BTreeMap::new();
    let always = Always::read(store).await?;
    for hand in hands.iter().cycle() {
        let decided = store.decided(&span, PAGE).await?;
        let Some(last) = decided.last() else { break };
        span = span.behind(&last.id);
        let mut page = Vec::with_capacity(decided.len());
        for decided in decided {
            let leaf: Leaf = serde_json::from_slice(&decided.leaf).unwrap_or_default();
            if order.task_type.as_ref().is_some_and(|wanted| !leaf.is_of(wanted)) {
                continue;
            }
            let data = leaf.data.as_deref();
            if let Some(data) = data {
                *had.entry(data.to_owned()).or_default() += 1;
            }
            let asked = match &leaf.policy {
                Some(version) => Some(engines.get(store, (false, version), data).await?),
                None => None,
            };
            let base = match &compared.base {
                Some(version) => Some(engines.get(store, (true, version), data).await?),
                None => None,
            };
            let candidate = engines.get(store, (true, &compared.candidate), data).await?;
            page.push(Entry { decided, leaf, asked, base, candidate, always: always.clone() });
        }
        if hand.pages.send(page).await.is_err() {
            return Err(ReplayFault::Ended("a thread failed".to_owned()));
        }
    }
    Ok(had)
}

/// What the leaf says of what is needed here.
#[derive(Default, Deserialize)]
#[serde(default)]
struct Leaf {
    policy: Option<String>,
    reasons: Vec<String>,
    task_type: Option<String>,
    /// The data documents that it had: version of all of them.
    data: Option<String>,
    /// That policy did not bite: its answer is not what ended the exchange.
    mode: Option<String>,
}

impl Leaf {
    fn is_of(&self, task_type: &Name) -> bool {
        let label = self.task_type.as_deref().unwrap_or_default();
        label.split('@').next() == Some(task_type.as_str())
    }
}

/// A bundle under the documents of a decision, or why it cannot decide that again.
type Engine = Result<PolicyEngine, Skip>;

/// The bundles that decided and those that are compared, compiled under each set of data documents that a decision had.
#[derive(Default)]
struct Engines {
    /// Those that are compared: they may lie in folders only.
    given: HashMap<String, Bundle>,
    data: HashMap<String, Option<Data>>,
    all: HashMap<(bool, String, Option<String>), Engine>,
}

impl Engines {
    /// Takes a bundle that is compared, and tells its version. It must compile.
    fn take(&mut self, bundle: Bundle) -> Result<String, ReplayFault> {
        let engine = PolicyEngine::compile_patiently(bundle.clone(), &Data::default())?;
        let version = engine.version().to_owned();
        self.all.insert((true, version.clone(), None), Ok(engine));
        self.given.insert(version.clone(), bundle);
        Ok(version)
    }

    /// The bundle of this version: one that is compared, or, as it is kept, one that decided.
    async fn get(
        &mut self,
        store: &Store,
        (compared, version): (bool, &str),
        data: Option<&str>,
    ) -> Result<Engine, StoreError> {
        let key = (compared, version.to_owned(), data.map(str::to_owned));
        if let Some(engine) = self.all.get(&key) {
            return Ok(engine.clone());
        }
        if self.all.len() >= MOST_ENGINES {
            self.all.clear();
            self.data.clear();
        }
        let bundle = match self.given.get(version).filter(|_| compared) {
            Some(bundle) => Some(bundle.clone()),
            None => store.bundle(version).await?.and_then(|bytes| Bundle::from_bytes(&bytes).ok()),
        };
        let engine = match (bundle, self.data(store, data).await?) {
            (None, _) => Err(Skip::BundleGone),
            (Some(_), None) => Err(Skip::DataGone),
            (Some(bundle), Some(data)) => PolicyEngine::compile_patiently(bundle, &data).map_err(|fault| {
                let is_of_data = matches!(fault, PolicyFault::Data { .. });
                if is_of_data { Skip::DataUnfit } else { Skip::BundleGone }
            }),
        };
        self.all.insert(key, engine.clone());
        Ok(engine)
    }

    /// All documents of this version; none that are not kept, or damaged.
    async fn data(&mut self, store: &Store, version: Option<&str>) -> Result<Option<Data>, StoreError> {
        let Some(version) = version else { return Ok(Some(Data::default())) };
        if let Some(data) = self.data.get(version) {
            return Ok(data.clone());
        }
        let data = match kept_documents(store, version).await {
            Ok(data) => data,
            Err(StoreError::Corrupt { .. }) => None,
            Err(fault) => return Err(fault),
        };
        self.data.insert(version.to_owned(), data.clone());
        Ok(data)
    }
}

/// The versions of task types that want approval whatever policy says: tenant, and `name@version`.
#[derive(Clone)]
struct Always(Arc<BTreeSet<(String, String)>>);

impl Always {
    async fn read(store: &Store) -> Result<Self, StoreError> {
        #[derive(Default, Deserialize)]
        #[serde(default)]
        struct Approval {
            when: ApprovalWhen,
        }
        #[derive(Default, Deserialize)]
        #[serde(default)]
        struct Spec {
            approval: Approval,
        }
        let rows = store.object_versions(ObjectKind::TaskType).await?;
        let asks = |spec: &[u8]| {
            serde_json::from_slice::<Spec>(spec).is_ok_and(|spec| spec.approval.when == ApprovalWhen::Always)
        };
        let asking = rows.iter().filter(|row| asks(&row.spec));
        let named = asking.map(|row| (row.id.tenant.to_string(), format!("{}@{}", row.id.name, row.version)));
        Ok(Self(Arc::new(named.collect())))
    }

    /// Whether the task type of the tenant, or of the platform, does.
    fn asks(&self, tenant: &str, label: &str) -> bool {
        let known = |tenant: &str| self.0.contains(&(tenant.to_owned(), label.to_owned()));
        known(tenant) || known(Name::system().as_str())
    }
}

/// A decision, the bundle that was asked then, and those that are asked now.
struct Entry {
    decided: Decided,
    leaf: Leaf,
    asked: Option<Engine>,
    base: Option<Engine>,
    candidate: Engine,
    always: Always,
}

/// A thread that decides.
struct Hand {
    pages: Sender<Vec<Entry>>,
    thread: JoinHandle<Tally>,
}

impl Hand {
    fn start(examples: usize) -> Self {
        let (pages, waiting) = channel(WAITING);
        Self { pages, thread: thread::spawn(move || decide(examples, waiting)) }
    }
}

fn decide(examples: usize, mut pages: Receiver<Vec<Entry>>) -> Tally {
    let mut tally = Tally::new(examples);
    while let Some(page) = pages.blocking_recv() {
        for entry in page {
            if let Err(why) = entry.compare(&mut tally) {
                tally.skip(why, &entry.decided.id);
            }
        }
    }
    tally
}

impl Entry {
    /// The exchange to be decided again.
    fn case(&self) -> Result<Case, Skip> {
        let json = match self.decided.unpacked() {
            Some(Ok(json)) => json,
            Some(Err(_)) => return Err(Skip::Unreadable),
            None if self.leaf.policy.is_none() && !self.was_off() => return Err(Skip::BeforePolicy),
            None => return Err(Skip::InputGone),
        };
        let input: PolicyInput = serde_json::from_slice(&json).map_err(|_| unreadable(&json))?;
        if input.version != INPUT_VERSION {
            return Err(Skip::OtherSchema);
        }
        let began_with = format!("{}@{}", input.task.r#type, input.task.version);
        let labels = [Some(began_with.as_str()), self.leaf.task_type.as_deref()];
        let always_asks = labels.into_iter().flatten().any(|label| self.always.asks(&input.tenant.id, label));
        let recorded = Recorded {
            always_asks,
            outcome: self.decided.outcome.clone(),
            reasons: self.leaf.reasons.clone(),
            granted: self.decided.record.as_deref().and_then(granted),
        };
        Ok(Case::new(input, recorded))
    }

    /// Ends the exchange by both bundles. First by the one that was asked then: what it does not bear on, none does.
    fn compare(&self, tally: &mut Tally) -> Result<(), Skip> {
        let case = self.case()?;
        let asked = match &self.asked {
            Some(asked) => Some(asked.as_ref().map_err(|why| *why)?),
            None if self.was_off() => None,
            None => return Err(Skip::BundleGone),
        };
        let mut judged = Judged { case: &case, all: BTreeMap::new() };
        let then = match asked.map(|asked| judged.by(asked)) {
            Some(said) if self.leaf.mode.is_none() => case.end(said),
            // What it said did not bite.
            Some(Ok(said)) => case.end(&Ok(said.unbound())),
            Some(Err(_)) | None => case.end(&Ok(Judgement::unasked())),
        };
        match case.standing(&then) {
            Standing::Decided => {}
            Standing::RefusedElsewhere => {
                tally.refused_elsewhere();
                return Ok(());
            }
            Standing::FaultThen => return Err(Skip::FaultThen),
            Standing::Unlike => return Err(Skip::Unlike),
        }
        let before = match &self.base {
            Some(base) => case.end(judged.by(base.as_ref().map_err(|why| *why)?)),
            None => then,
        };
        let after = case.end(judged.by(self.candidate.as_ref().map_err(|why| *why)?));
        tally.compare(&before, &after, || self.subject(&case));
        Ok(())
    }

    fn was_off(&self) -> bool {
        self.leaf.mode.as_deref() == Some(Mode::Off.as_str())
    }

    fn subject(&self, case: &Case) -> Subject {
        let at = DateTime::from_timestamp_micros(self.decided.at).unwrap_or_default();
        Subject {
            decision_id: self.decided.id.clone(),
            at: at.to_rfc3339_opts(SecondsFormat::Secs, true),
            agent: case.input().actor.id.clone(),
            task_type: self.leaf.task_type.clone().unwrap_or_default(),
            data: self.leaf.data.clone(),
        }
    }
}

/// Why an input is not one of this program's.
fn unreadable(json: &[u8]) -> Skip {
    #[derive(Deserialize)]
    struct Version {
        version: u64,
    }
    match serde_json::from_slice::<Version>(json) {
        Ok(Version { version }) if version != INPUT_VERSION => Skip::OtherSchema,
        Ok(_) | Err(_) => Skip::Unreadable,
    }
}

fn granted(record: &[u8]) -> Option<GrantedRecord> {
    #[derive(Deserialize)]
    struct Granted {
        granted: Option<GrantedRecord>,
    }
    serde_json::from_slice::<Granted>(record).ok()?.granted
}

/// The answers to one input, each bundle asked once.
struct Judged<'case> {
    case: &'case Case,
    all: BTreeMap<String, Result<Judgement, PolicyFault>>,
}

impl Judged<'_> {
    fn by(&mut self, engine: &PolicyEngine) -> &Result<Judgement, PolicyFault> {
        let judge = || engine.judge(self.case.input());
        self.all.entry(engine.version().to_owned()).or_insert_with(judge)
    }
}
