//! The one writer: a task that commits whatever queued up while the last commit ran (DESIGN §7).
//!
//! No other code opens a write transaction, migrations apart. The task keeps no head of the log between commits: each
//! gets it together with the lock, so that replicas share one log and a failed commit leaves nothing stale behind.

use std::mem::take;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use chrono::{DateTime, TimeDelta, Utc};
use ring::rand::SystemRandom;
use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinHandle;
use tokio::time::Instant;

use super::Store;
use super::batch::MOST_PURGED;
use super::change::{Change, CommitFault, Committed, Loss, Spend, SpendKind};
use super::entry::{Entry, salt};
use super::error::StoreError;
use super::ledger::{Ledger, forgotten_before};
use super::pruning::{Before, Pruned, prune};
use super::replicas::ReplicaNews;
use super::status::StatusListRow;
use super::transaction::{Batch, WriteConnection};
use crate::clock::Clock;
use crate::metrics::Metrics;

/// Most changes that wait unless told otherwise; one more is answered 503.
pub const MAX_QUEUE: usize = 8192;
/// Most changes of one commit: larger ones gain little and hold the lock longer.
pub const MAX_BATCH: usize = 128;
/// How often the writer lets others run before it commits, if each time more arrives.
const MAX_YIELDS: usize = 2;
/// How long one commit may take before its outcome counts as unknown.
const COMMIT_TIMEOUT: Duration = Duration::from_secs(5);
/// After how long a connection is asked whether it is alive before it is used.
const IDLE: Duration = Duration::from_secs(1);
/// Pause after the first failure in a row; doubles up to [`LONGEST_PAUSE`].
const SHORTEST_PAUSE: Duration = Duration::from_millis(20);
const LONGEST_PAUSE: Duration = Duration::from_secs(1);
/// How often an empty commit is tried after a failure, while nobody asks for another.
const RETRY: Duration = Duration::from_secs(1);

/// How often what was spent is forgotten, unless more waits.
const PURGE_EVERY: Duration = Duration::from_secs(1);

/// How long it may take to tell a shared database of this server: what waits to be committed waits behind it. Three statements by
/// primary key take a few milliseconds; where they take longer than this, the next time will do.
const TELL_TIMEOUT: Duration = Duration::from_millis(500);
/// The same for a disk that has to follow, in a data folder, and for a connection that has to be made: commits wait for both as well.
const TELL_TIMEOUT_ALONE: Duration = Duration::from_secs(1);

/// For how long a status list is kept after the last of its tokens.
const LISTS_AFTER: TimeDelta = TimeDelta::hours(2);

type Answer = Result<Settled, CommitFault>;

/// What became of a job.
enum Settled {
    Change(Committed),
    Spend(Result<(), Loss>),
    List,
    Prune(Pruned),
    Told,
}

/// What the writer is asked to do, with all that can be computed before the lock.
enum Work {
    Change { change: Change, entry: Box<Entry> },
    Spend(Spend),
    List(StatusListRow),
    Prune(Before),
    Tell(ReplicaNews),
}

impl Work {
    fn change(&self) -> Option<&Change> {
        match self {
            Self::Change { change, .. } => Some(change),
            Self::Spend(_) | Self::List(_) | Self::Prune(_) | Self::Tell(_) => None,
        }
    }

    fn spends(&self) -> impl Iterator<Item = &Spend> {
        let alone = match self {
            Self::Change { .. } | Self::List(_) | Self::Prune(_) | Self::Tell(_) => None,
            Self::Spend(spend) => Some(spend),
        };
        self.change().into_iter().flat_map(Change::spends).chain(alone)
    }
}

/// One piece of work in the queue.
struct Job {
    work: Work,
    reply: oneshot::Sender<Answer>,
}

impl Job {
    fn answer(self, answer: Answer) {
        // The caller may be gone: what was committed stays, an unclaimed token dies with the answer.
        let _ = self.reply.send(answer);
    }
}

/// What a writer is told at its start.
#[derive(Clone, Debug)]
pub struct Settings {
    /// How long policy inputs are kept.
    pub keep_inputs: TimeDelta,
    /// Most changes that wait; one more is answered 503.
    pub most: usize,
    /// What operators watch.
    pub metrics: Arc<Metrics>,
}

impl Default for Settings {
    fn default() -> Self {
        Self { keep_inputs: TimeDelta::zero(), most: MAX_QUEUE, metrics: Arc::default() }
    }
}

/// The handle that use cases hold.
#[derive(Clone)]
pub struct Writer {
    queue: mpsc::Sender<Job>,
    failing: Arc<AtomicBool>,
    random: SystemRandom,
    keep_inputs: TimeDelta,
}

impl Writer {
    /// Starts the writer of `store`. Policy inputs are kept for `keep_inputs`. The task ends when the last handle is
    /// gone and the queue is empty.
    pub fn spawn(store: &Store, clock: Arc<dyn Clock>, keep_inputs: TimeDelta) -> (Self, JoinHandle<()>) {
        Self::spawn_with(store, clock, Settings { keep_inputs, ..Settings::default() })
    }

    /// The same with all settings.
    pub fn spawn_with(store: &Store, clock: Arc<dyn Clock>, settings: Settings) -> (Self, JoinHandle<()>) {
        let Settings { keep_inputs, most, metrics } = settings;
        let (queue, jobs) = mpsc::channel(most);
        let failing = Arc::<AtomicBool>::default();
        let last_commit = Instant::now();
        let task = WriterTask {
            store: store.clone(),
            clock,
            jobs,
            connection: None,
            last_commit,
            last_purge: None,
            failures: 0,
            failing: failing.clone(),
            is_heard: true,
            metrics,
        };
        // Nobody may go on issuing beside a writer that is in a state nobody thought of (L3).
        let running = tokio::spawn(task.run());
        let watched = async {
            if running.await.is_err_and(|ended| ended.is_panic()) {
                tracing::error!("the writer panicked: the process ends");
                std::process::abort();
            }
        };
        (Self { queue, failing, random: SystemRandom::new(), keep_inputs }, tokio::spawn(watched))
    }

    /// How many changes wait to be committed.
    pub fn waiting(&self) -> usize {
        self.queue.max_capacity() - self.queue.capacity()
    }

    /// Whether the last commit failed. The writer tries again on its own, so that this ends with its cause.
    pub fn is_failing(&self) -> bool {
        self.failing.load(Ordering::Relaxed)
    }

    /// Commits `change` and its decision, and answers once they are durable (L3).
    ///
    /// On a fault the caller hands out nothing. Never await this while holding a read transaction.
    pub async fn submit(&self, change: impl Into<Change>) -> Result<Committed, CommitFault> {
        let change = change.into();
        let salt = salt(&self.random).ok_or(CommitFault::Unavailable)?;
        let entry = Box::new(Entry::new(change.decision(), salt, self.keep_inputs));
        match self.send(Work::Change { change, entry }).await? {
            Settled::Change(committed) => Ok(committed),
            Settled::Spend(_) | Settled::List | Settled::Prune(_) | Settled::Told => {
                Err(CommitFault::Unavailable)
            }
        }
    }

    /// Spends what may be used once, without a decision: an assertion where nothing is decided. The inner error says
    /// that it was spent before. Answers once that is durable; on a fault it may be spent all the same.
    pub async fn spend(&self, spend: Spend) -> Result<Result<(), Loss>, CommitFault> {
        match self.send(Work::Spend(spend)).await? {
            Settled::Spend(outcome) => Ok(outcome),
            Settled::Change(_) | Settled::List | Settled::Prune(_) | Settled::Told => {
                Err(CommitFault::Unavailable)
            }
        }
    }

    /// Records a status list, or until when the tokens of one that was recorded live. That is no decision: nothing of
    /// anybody's changes by it.
    pub async fn put_list(&self, list: StatusListRow) -> Result<(), CommitFault> {
        self.send(Work::List(list)).await.map(drop)
    }

    /// Has go what ended before `before`, as much as goes in one commit. Like a status list it is no decision.
    pub async fn prune(&self, before: Before) -> Result<Pruned, CommitFault> {
        match self.send(Work::Prune(before)).await? {
            Settled::Prune(pruned) => Ok(pruned),
            Settled::Change(_) | Settled::Spend(_) | Settled::List | Settled::Told => {
                Err(CommitFault::Unavailable)
            }
        }
    }

    /// Writes what this server tells of itself. It is no decision and stands in no commit: where it cannot be written, as in a
    /// database that only reads, nothing else fails, and the log says so once.
    pub async fn tell(&self, news: ReplicaNews) -> Result<(), CommitFault> {
        self.send(Work::Tell(news)).await.map(drop)
    }

    async fn send(&self, work: Work) -> Answer {
        let (reply, answer) = oneshot::channel();
        self.queue.try_send(Job { work, reply }).map_err(|error| match error {
            mpsc::error::TrySendError::Full(_) => CommitFault::Full,
            mpsc::error::TrySendError::Closed(_) => CommitFault::Unavailable,
        })?;
        // A writer that is gone without an answer may have committed.
        answer.await.unwrap_or(Err(CommitFault::Unavailable))
    }
}

/// Owns the queue's receiving end and, in its one process, the right to write.
struct WriterTask {
    store: Store,
    clock: Arc<dyn Clock>,
    jobs: mpsc::Receiver<Job>,
    /// None before the first commit and after a failure.
    connection: Option<WriteConnection>,
    /// When the connection was last good.
    last_commit: Instant,
    /// When what was spent was last forgotten.
    last_purge: Option<Instant>,
    /// Commits that failed in a row.
    failures: u32,
    /// Whether there are such, for the handles.
    failing: Arc<AtomicBool>,
    /// Whether what this server told of itself last could be written.
    is_heard: bool,
    metrics: Arc<Metrics>,
}

impl WriterTask {
    async fn run(mut self) {
        let mut batch = Vec::with_capacity(MAX_BATCH);
        while let Some(received) = self.receive(&mut batch).await {
            if received > 0 {
                self.gather(&mut batch).await;
            }
            let news = batch.extract_if(.., |job| matches!(job.work, Work::Tell(_))).collect();
            if !batch.is_empty() || self.failures > 0 {
                self.settle(take(&mut batch)).await;
            }
            self.tell_all(news).await;
        }
    }

    /// Writes what this server tells of itself, after all that somebody waits for, and not while commits fail.
    async fn tell_all(&mut self, news: Vec<Job>) {
        for job in news {
            let told = match &job.work {
                Work::Tell(news) if self.failures == 0 => self.tell_in_time(news).await,
                Work::Tell(_) | Work::Change { .. } | Work::Spend(_) | Work::List(_) | Work::Prune(_) => {
                    Err(CommitFault::Unavailable)
                }
            };
            self.metrics.replica_told(told.is_ok());
            job.answer(told.map(|()| Settled::Told));
        }
    }

    async fn tell_in_time(&mut self, news: &ReplicaNews) -> Result<(), CommitFault> {
        let most = if self.store.is_shared() { TELL_TIMEOUT } else { TELL_TIMEOUT_ALONE };
        let connection = tokio::time::timeout(TELL_TIMEOUT_ALONE, self.connect()).await;
        let told = match connection.unwrap_or(Err(StoreError::Slow(TELL_TIMEOUT_ALONE))) {
            Ok(connection) => {
                let told = tokio::time::timeout(most, connection.conn().tell(news)).await;
                told.unwrap_or(Err(StoreError::Slow(most)))
            }
            Err(error) => Err(error),
        };
        // What the database refuses, such as a right that is missing, leaves the connection as good as it was.
        if told.as_ref().is_err_and(StoreError::is_refusal) {
            self.rest(&Ok(()));
        } else {
            self.rest(&told);
        }
        let was_heard = std::mem::replace(&mut self.is_heard, told.is_ok());
        match &told {
            Err(error) if was_heard => {
                tracing::warn!(%error, "what this server tells of itself cannot be written: other replicas do not see it");
            }
            Ok(()) if !was_heard => tracing::info!("what this server tells of itself is written again"),
            Ok(()) | Err(_) => {}
        }
        told.map_err(|_| CommitFault::Unavailable)
    }

    /// Waits for changes; how many came, none when all handles are gone. After a failure it waits only so long, and then
    /// an empty batch is tried: readiness must not wait for a caller that readiness keeps away.
    async fn receive(&mut self, batch: &mut Vec<Job>) -> Option<usize> {
        let receiving = self.jobs.recv_many(batch, MAX_BATCH);
        let received = if self.failures == 0 {
            receiving.await
        } else {
            let Ok(received) = tokio::time::timeout(RETRY, receiving).await else { return Some(0) };
            received
        };
        (received > 0).then_some(received)
    }

    /// Lets more changes arrive, but only while they do: alone, a change waits for nobody.
    async fn gather(&mut self, batch: &mut Vec<Job>) {
        for _ in 0..MAX_YIELDS {
            tokio::task::yield_now().await;
            let before = batch.len();
            while batch.len() < MAX_BATCH
                && let Ok(job) = self.jobs.try_recv()
            {
                batch.push(job);
            }
            if batch.len() == before || batch.len() == MAX_BATCH {
                return;
            }
        }
    }

    /// Commits the batch and answers it. If its data is refused, halves are tried on their own, in queue order,
    /// down to the one change at fault, which fails alone.
    async fn settle(&mut self, batch: Vec<Job>) {
        let mut parts = vec![batch];
        while let Some(mut part) = parts.pop() {
            match self.commit_in_time(&part).await {
                Ok(committed) => {
                    self.failures = 0;
                    self.failing.store(false, Ordering::Relaxed);
                    part.into_iter().zip(committed).for_each(|(job, committed)| job.answer(Ok(committed)));
                }
                Err(error) if error.is_data() && part.len() > 1 => {
                    parts.push(part.split_off(part.len() / 2));
                    parts.push(part);
                }
                Err(error) if error.is_data() => {
                    tracing::error!(%error, "a change was refused by the database");
                    fail(part, CommitFault::Rejected);
                }
                Err(error) => {
                    tracing::error!(%error, "a commit failed");
                    fail(part.into_iter().chain(parts.into_iter().flatten()), CommitFault::Unavailable);
                    return self.pause().await;
                }
            }
        }
    }

    /// Waits after a failure, longer each time. From the second in a row on, what has queued up is answered at once
    /// rather than kept waiting for a database that is away.
    async fn pause(&mut self) {
        let pause = SHORTEST_PAUSE.saturating_mul(1 << self.failures.min(10)).min(LONGEST_PAUSE);
        self.failures = self.failures.saturating_add(1);
        self.failing.store(true, Ordering::Relaxed);
        if self.failures > 1 {
            fail(std::iter::from_fn(|| self.jobs.try_recv().ok()), CommitFault::Unavailable);
        }
        tokio::time::sleep(pause).await;
    }

    async fn commit_in_time(&mut self, batch: &[Job]) -> Result<Vec<Settled>, StoreError> {
        let began = Instant::now();
        let slow = StoreError::CommitSlow(COMMIT_TIMEOUT.as_secs());
        let result = tokio::time::timeout(COMMIT_TIMEOUT, self.commit(batch)).await.unwrap_or(Err(slow));
        self.rest(&result);
        match &result {
            Ok(_) => self.metrics.committed(batch.len(), began.elapsed()),
            Err(error) if !error.is_data() => self.metrics.commit_failed(),
            Err(_) => {}
        }
        result
    }

    /// Keeps the connection for what comes next, or gives it up where it may be broken.
    fn rest<T>(&mut self, result: &Result<T, StoreError>) {
        if result.as_ref().is_err_and(|error| !error.is_data()) {
            if let Some(connection) = self.connection.take() {
                connection.give_up();
            }
        } else {
            self.connection = self.connection.take().and_then(WriteConnection::kept);
            self.last_commit = Instant::now();
        }
    }

    /// The writer's connection: the one it has, if that is still good, or a new one.
    async fn connect(&mut self) -> Result<&mut WriteConnection, StoreError> {
        if self.last_commit.elapsed() >= IDLE
            && let Some(connection) = &mut self.connection
            && !connection.is_alive().await
        {
            self.connection = None;
        }
        match &mut self.connection {
            Some(connection) => Ok(connection),
            none => Ok(none.insert(WriteConnection::open(self.store.db()).await?)),
        }
    }

    /// One transaction, at most six round trips under the lock: the lock's own answer, parents, revocations, spent
    /// ids, the write, the commit. A batch to prune adds seven, approvals two, a revocation, the end of a lockdown, a change of
    /// configuration and once a second a purge one each, a data document of the policy two, a proposal two, and the first three of these on PostgreSQL one more: the notification, which goes out with the commit or
    /// not at all.
    async fn commit(&mut self, batch: &[Job]) -> Result<Vec<Settled>, StoreError> {
        let clock = Arc::clone(&self.clock);
        let (purge, notifies) = (self.purge_is_due(batch), self.store.notifies());
        let mut tx = self.connect().await?.begin().await?;
        let head = tx.conn().lock().await?;
        // From here on we hold the lock: what is read below cannot change before the commit.
        let now = clock.now();
        let tokens = match named_tokens(batch).as_slice() {
            [] => Vec::new(),
            jtis => tx.conn().tokens(jtis).await?,
        };
        let mut ledger = Ledger::new(now, head, tokens);
        read_approvals(&mut tx, &mut ledger, batch).await?;
        read_proposals(&mut tx, &mut ledger, batch).await?;
        read_revoked(&mut tx, &mut ledger, batch).await?;
        read_spent(&mut tx, &mut ledger, batch).await?;
        let pruned = prune_all(&mut tx, batch).await?;
        let mut each = pruned.iter();
        let settled = batch.iter().map(|job| match &job.work {
            Work::Change { change, entry } => Settled::Change(ledger.take(change, entry)),
            Work::Spend(spend) => Settled::Spend(ledger.spend(spend)),
            Work::List(_) => Settled::List,
            // Never in a commit.
            Work::Tell(_) => Settled::Told,
            Work::Prune(_) => Settled::Prune(each.next().copied().unwrap_or_default()),
        });
        let settled = settled.collect();
        let (writes, head) = ledger.into_writes();
        let revokes = !writes.revocations.is_empty();
        if revokes {
            tx.conn().revoke(&writes).await?;
        }
        let lifts = !writes.lifted.is_empty();
        if lifts {
            tx.conn().lift(&writes).await?;
        }
        let configures = batch.iter().any(|job| matches!(job.work.change(), Some(Change::Configure(_))));
        if configures {
            tx.conn().configure(&writes).await?;
        }
        if (revokes || lifts || configures) && notifies {
            tx.conn().notify().await?;
        }
        if !writes.approvals.is_empty() {
            tx.conn().put_approvals(&writes).await?;
        }
        for proposal in writes.proposals.values() {
            tx.conn().put_proposal(proposal).await?;
        }
        tx.conn().write(&writes, &head).await?;
        put_lists(&mut tx, batch, now).await?;
        let purged = if purge { tx.conn().purge_spent(forgotten_before(&head)).await? } else { 0 };
        // The point of no return: a crash before this line loses only what nobody was told of; after it, everything
        // of the batch is durable, also if the answer does not reach us.
        tx.commit().await?;
        self.tell(purged, &pruned);
        Ok(settled)
    }

    /// Counts what is gone. Where as much was spent as is forgotten at once, the next commit forgets more.
    fn tell(&mut self, purged: u64, pruned: &[Pruned]) {
        if purged >= MOST_PURGED {
            self.last_purge = None;
        }
        self.metrics.pruned("spent", purged);
        for (table, rows) in pruned.iter().flat_map(|pruned| pruned.tables()) {
            self.metrics.pruned(table, rows);
        }
    }

    /// Where nothing is spent, nothing has to be forgotten.
    fn purge_is_due(&mut self, batch: &[Job]) -> bool {
        let rested = self.last_purge.is_none_or(|last| last.elapsed() >= PURGE_EVERY);
        let due = rested && batch.iter().any(|job| job.work.spends().next().is_some());
        if due {
            self.last_purge = Some(Instant::now());
        }
        due
    }
}

/// Ids of the parents of the batch's tokens, of the tokens themselves, none of which may exist yet, and of those whose approval
/// left an envelope that they use.
fn named_tokens(batch: &[Job]) -> Vec<String> {
    let issues = batch.iter().filter_map(|job| job.work.change()?.issue());
    let named = issues.flat_map(|issue| {
        let approved = issue.uses.map(|uses| uses.token);
        issue.token.parent.into_iter().chain([issue.token.jti]).chain(approved)
    });
    named.map(|jti| jti.to_string()).collect()
}

async fn read_revoked(tx: &mut Batch<'_>, ledger: &mut Ledger<'_>, batch: &[Job]) -> Result<(), StoreError> {
    let keys = ledger.revocations_to_read(batch.iter().filter_map(|job| job.work.change()));
    if !keys.is_empty() {
        let found = tx.conn().revoked(&keys.iter().collect::<Vec<_>>()).await?;
        ledger.learn_revoked(keys, &found);
    }
    Ok(())
}

async fn read_spent(tx: &mut Batch<'_>, ledger: &mut Ledger<'_>, batch: &[Job]) -> Result<(), StoreError> {
    let spends = batch.iter().flat_map(|job| job.work.spends());
    let keys: Vec<(SpendKind, &str)> = spends.map(|spend| (spend.kind, spend.key.as_str())).collect();
    if !keys.is_empty() {
        let found = tx.conn().spent(&keys).await?;
        let row = |(at,)| keys.get(usize::try_from(at).ok()?).map(|(kind, key)| (*kind, (*key).to_owned()));
        ledger.learn_spent(found.into_iter().filter_map(row));
    }
    Ok(())
}

async fn read_approvals(
    tx: &mut Batch<'_>,
    ledger: &mut Ledger<'_>,
    batch: &[Job],
) -> Result<(), StoreError> {
    let named = batch.iter().filter_map(|job| job.work.change()?.approval());
    let ids: Vec<String> = named.map(|id| id.to_string()).collect();
    if !ids.is_empty() {
        ledger.learn_approvals(tx.conn().approvals(&ids).await?);
    }
    Ok(())
}

/// Rare: what waits for a second person, and its end.
async fn read_proposals(
    tx: &mut Batch<'_>,
    ledger: &mut Ledger<'_>,
    batch: &[Job],
) -> Result<(), StoreError> {
    for id in batch.iter().filter_map(|job| job.work.change()?.proposal()) {
        if let Some(proposal) = tx.conn().proposal(id).await? {
            ledger.learn_proposal(proposal);
        }
    }
    Ok(())
}

/// Seldom more than one: a process has one that prunes.
async fn prune_all(tx: &mut Batch<'_>, batch: &[Job]) -> Result<Vec<Pruned>, StoreError> {
    let mut pruned = Vec::new();
    for job in batch {
        if let Work::Prune(before) = &job.work {
            pruned.push(prune(tx, before).await?);
        }
    }
    Ok(pruned)
}

/// Rare: a list or two a day, or one for every so many thousand tokens.
async fn put_lists(tx: &mut Batch<'_>, batch: &[Job], now: DateTime<Utc>) -> Result<(), StoreError> {
    let mut put = false;
    for job in batch {
        if let Work::List(list) = &job.work {
            tx.conn().put_list(list).await?;
            put = true;
        }
    }
    if put {
        tx.conn().purge_lists(now - LISTS_AFTER).await?;
    }
    Ok(())
}

fn fail(jobs: impl IntoIterator<Item = Job>, fault: CommitFault) {
    jobs.into_iter().for_each(|job| job.answer(Err(fault)));
}
