//! The servers of a deployment, each with the policy by which it decides: a row that it writes itself, so that whichever is asked
//! tells of all.
//!
//! What is written is what `policy status` of that server would say: versions, counts, and the problems that its log has; nothing
//! of any request.

use std::sync::{MutexGuard, PoisonError};
use std::time::Duration;

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};
use tokio::time::{Instant, MissedTickBehavior, interval};
use tracing::warn;

use super::candidate::KeptCandidate;
use super::mode::KeptMode;
use super::policy::RefusedBundle;
use super::standing::Standing;
use super::{Configuration, Inner, LoadFault};
use crate::policy::candidate::Candidate;
use crate::policy::comparison::Counts;
use crate::policy::engine::Machine;
use crate::policy::mode::{Mode, TimedMode};
use crate::store::error::StoreError;
use crate::store::replicas::{LOST_AFTER, ReplicaNews, ReplicaRow};

/// How often a server looks whether it has something new to tell, and so the least time between two of its writes.
const LOOK_EVERY: Duration = Duration::from_secs(1);
/// How often it writes all the same. Four of these are a minute, after which it counts as lost: one that fails, or three, are no
/// alarm; and a row in 15 seconds is nothing beside what exchanges write.
const TELL_EVERY: Duration = Duration::from_secs(15);
/// After how long a row is tried again that could not be written; after that every [`TELL_EVERY`].
const AGAIN: Duration = Duration::from_secs(3);
/// Longest text of a problem that is written, in characters: file, line and failing test stand at its beginning.
const LONGEST_PROBLEM: usize = 4000;

/// A server of the deployment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Replica {
    /// Id of the process, drawn at its start.
    pub id: String,
    /// Its host and port.
    pub name: String,
    /// When it started.
    pub started_at: DateTime<Utc>,
}

/// Version of this program.
const PROGRAM: &str = env!("CARGO_PKG_VERSION");

/// How a bundle runs.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "machine", rename_all = "snake_case")]
pub enum Runs {
    /// By the compiled virtual machine.
    Vm,
    /// By the interpreter, some three times slower.
    Interpreter {
        /// What the virtual machine cannot compile, or would decide otherwise than Rego says, with its place.
        reason: String,
    },
}

impl From<&Machine> for Runs {
    fn from(machine: &Machine) -> Self {
        match machine {
            Machine::Vm => Self::Vm,
            Machine::Interpreter { at: Some(at), reason } => {
                Self::Interpreter { reason: short(&format!("{at}: {reason}")) }
            }
            Machine::Interpreter { at: None, reason } => Self::Interpreter { reason: short(reason) },
        }
    }
}

/// A candidate as one server knows it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct CandidateHere {
    /// Its version.
    pub version: String,
    /// Since when it is the candidate.
    pub since: DateTime<Utc>,
    /// Why the server cannot run it, so that it fails on every input; none if it can.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub problem: Option<String>,
    /// Whether the server asks it no more where it does not bite.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub paused: bool,
    /// What the server saw of it.
    pub seen: Counts,
}

impl From<&Candidate> for CandidateHere {
    fn from(here: &Candidate) -> Self {
        Self {
            version: here.version().to_owned(),
            since: here.since(),
            problem: here.fault().map(|fault| short(&fault.to_string())),
            paused: here.is_paused(),
            seen: here.seen().counts(),
        }
    }
}

/// What a server tells of itself. Programs of other versions may tell less, or more.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Told {
    /// Generation of the configuration in force here.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub generation: Option<i64>,
    /// Why what the store has since then is not taken here; none where it is, or a moment has not passed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub behind: Option<String>,
    /// Version of the bundle by which it decides.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub serving: Option<String>,
    /// How that runs.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub runs: Option<Runs>,
    /// Version of all data documents that were put; none where none was.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub data: Option<String>,
    /// The mode that the policy is in here; none where what it says bites.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub mode: Option<TimedMode>,
    /// The bundle that it refused last, unless a fit one was offered, or another one came into force there, since.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub refused: Option<RefusedBundle>,
    /// The bundle that it tries beside the one in force.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub candidate: Option<CandidateHere>,
}

impl Told {
    /// The same without what each exchange changes.
    fn at_rest(&self) -> Self {
        let mut rest = self.clone();
        if let Some(candidate) = &mut rest.candidate {
            candidate.seen = Counts::default();
        }
        rest
    }
}

/// In what a server is not as the store says, or has a problem of its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Difference {
    /// An older generation is in force.
    Generation,
    /// It decides by another bundle.
    Serving,
    /// It has other data documents.
    Data,
    /// It is in another mode.
    Mode,
    /// It refused a bundle.
    Refused,
    /// It tries another candidate or none, cannot run it, or has paused it.
    Candidate,
}

/// A server of the deployment, as it is told.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ReplicaStatus {
    /// Its host and port.
    pub name: String,
    /// Id of the process, drawn at its start: tells two of one name apart.
    pub id: String,
    /// Version of its program.
    pub program: String,
    /// When it started.
    pub started_at: DateTime<Utc>,
    /// When it told what follows: by the clock of the database where that is shared, else by its own.
    pub seen_at: DateTime<Utc>,
    /// Whether that is a minute ago or more: it was killed, or does not reach the store. The same where it is a minute ahead, by a
    /// clock that is not the one of the others.
    pub lost: bool,
    /// In what it differs; of a lost one nothing is known.
    pub differs: Vec<Difference>,
    /// What it tells.
    #[serde(flatten)]
    pub told: Told,
}

/// What the store says of what a server tells.
struct Wanted<'a> {
    generation: i64,
    policy: Option<&'a str>,
    data: Option<&'a str>,
    mode: Option<&'a TimedMode>,
    candidate: Option<&'a KeptCandidate>,
}

impl Wanted<'_> {
    fn differences(&self, told: &Told, now: DateTime<Utc>) -> Vec<Difference> {
        let holds = |mode: &&TimedMode| mode.at(now) != Mode::Enforce;
        let is_tried = match (self.candidate, &told.candidate) {
            (None, None) => true,
            (Some(kept), Some(here)) => {
                let is_it = kept.version == here.version && kept.since == here.since;
                is_it && here.problem.is_none() && !here.paused
            }
            (Some(_), None) | (None, Some(_)) => false,
        };
        // What is newer than what was read of the store cannot be compared with it.
        let compares = told.generation.is_none_or(|here| here <= self.generation);
        let is_other = self.policy.is_some() && self.policy != told.serving.as_deref();
        let is_in_other_mode = self.mode.filter(holds) != told.mode.as_ref().filter(holds);
        let all = [
            (Difference::Generation, told.generation.is_some_and(|here| here < self.generation)),
            (Difference::Serving, compares && is_other),
            (Difference::Data, compares && self.data != told.data.as_deref()),
            (Difference::Mode, compares && is_in_other_mode),
            (Difference::Refused, told.refused.is_some()),
            (Difference::Candidate, compares && !is_tried),
        ];
        all.into_iter().filter(|(_, differs)| *differs).map(|(difference, _)| difference).collect()
    }
}

/// What the servers saw of a candidate, all together; none where none tries it.
pub(super) fn total(kept: &KeptCandidate, replicas: &[ReplicaStatus]) -> Option<Counts> {
    let here = replicas.iter().filter_map(|replica| replica.told.candidate.as_ref());
    let of_it = here.filter(|here| here.version == kept.version && here.since == kept.since);
    of_it.map(|here| here.seen).reduce(std::ops::Add::add)
}

impl Configuration {
    /// Tells of this process as `replica`: when something has changed, and all the same from time to time. From the call on it is
    /// one of the servers that [`Self::policy_status`] tells of. Goes on until it is aborted; call [`Self::leave`] then.
    pub fn tell_as(&self, replica: Replica) -> impl Future<Output = ()> + Send + use<> {
        *self.0.replica() = Some(replica);
        let configuration = self.clone();
        async move { configuration.0.tell_always().await }
    }

    /// Takes this process out of the servers of the deployment, at its end.
    pub async fn leave(&self) {
        let Some(replica) = self.0.replica().take() else { return };
        if let Err(fault) = self.0.writer.tell(ReplicaNews::Ends(replica.id)).await {
            warn!(%fault, "this server will be told to be lost: that it ends could not be written");
        }
    }
}

impl Inner {
    fn replica(&self) -> MutexGuard<'_, Option<Replica>> {
        self.replica.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Remembers why what the store holds of generation `stored` cannot be put in force.
    pub(super) fn falls_behind(&self, stored: i64, why: &LoadFault) {
        let mut behind = self.behind.lock().unwrap_or_else(PoisonError::into_inner);
        *behind = Some((stored, why.to_string()));
    }

    fn behind(&self, generation: i64) -> Option<String> {
        let behind = self.behind.lock().unwrap_or_else(PoisonError::into_inner);
        behind.as_ref().filter(|(stored, _)| *stored > generation).map(|(_, why)| short(why))
    }

    /// What there is to tell of this process now.
    fn told(&self) -> Told {
        let (active, now) = (self.active.load(), self.clock.now());
        let policy = &active.policy;
        let refused = self.refused().clone();
        Told {
            generation: Some(active.generation),
            behind: self.behind(active.generation),
            serving: Some(policy.version().to_owned()),
            runs: Some(policy.active().machine().into()),
            data: policy.data().version().map(str::to_owned),
            mode: policy.timed_mode().filter(|mode| mode.at(now) != Mode::Enforce).cloned(),
            refused: refused.map(|refused| RefusedBundle { problem: short(&refused.problem), ..refused }),
            candidate: policy.candidate().map(CandidateHere::from),
        }
    }

    fn row(&self, replica: Replica, told: &Told) -> Option<ReplicaRow> {
        let Replica { id, name, started_at } = replica;
        let told = serde_json::to_string(told).ok()?;
        let (program, seen_at) = (PROGRAM.to_owned(), self.clock.now());
        Some(ReplicaRow { id, name, program, started_at, seen_at, told })
    }

    /// One row at most in a second, and one in [`TELL_EVERY`] at least. What cannot be written is tried again: nobody waits
    /// for it.
    async fn tell_always(&self) {
        let mut last: Option<(Told, Instant)> = None;
        // When it failed last, and until when it then waits.
        let mut failed: Option<(Instant, Duration)> = None;
        let mut every = interval(LOOK_EVERY);
        every.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            every.tick().await;
            let told = self.told();
            let is_due = |(before, at): &(Told, Instant)| {
                at.elapsed() >= TELL_EVERY || before.at_rest() != told.at_rest()
            };
            let Some(replica) = self.replica().clone() else { return };
            let waits = failed.is_some_and(|(at, until)| at.elapsed() < until);
            if waits || !last.as_ref().is_none_or(is_due) {
                continue;
            }
            let Some(row) = self.row(replica, &told) else { continue };
            let news = if last.is_none() { ReplicaNews::Started(row) } else { ReplicaNews::Runs(row) };
            // The writer says in the log what is wrong, once.
            match self.writer.tell(news).await {
                Ok(()) => (last, failed) = (Some((told, Instant::now())), None),
                // Once soon; what fails again may be held up by what holds up more with each try.
                Err(_) => failed = Some((Instant::now(), if failed.is_none() { AGAIN } else { TELL_EVERY })),
            }
            self.count().await;
        }
    }

    /// Tells operators how many servers there are. Where the store cannot be read, it is as it was.
    async fn count(&self) {
        let Ok(standing) = self.standing().await else { return };
        let Ok(mode) = self.kept_mode().await else { return };
        let Ok(replicas) = self.replicas(&standing, mode.unwrap_or(None).as_ref()).await else { return };
        let of = |is_it: fn(&ReplicaStatus) -> bool| replicas.iter().filter(|replica| is_it(replica)).count();
        self.metrics.replicas([
            ("same", of(|replica| !replica.lost && replica.differs.is_empty())),
            ("differs", of(|replica| !replica.lost && !replica.differs.is_empty())),
            ("lost", of(|replica| replica.lost)),
        ]);
    }

    /// All servers of the deployment, sorted by name. What this process tells of itself is of this moment.
    pub(super) async fn replicas(
        &self,
        standing: &Standing,
        mode: Option<&KeptMode>,
    ) -> Result<Vec<ReplicaStatus>, StoreError> {
        let wanted = Wanted {
            generation: standing.generation,
            policy: standing.active.as_deref(),
            data: standing.data.version.as_deref(),
            mode: mode.map(|kept| &kept.timed),
            candidate: standing.candidate.as_ref(),
        };
        let own = self.replica().clone();
        let mut rows = self.store.replicas().await?;
        let is_own = |row: &ReplicaRow| own.as_ref().is_some_and(|own| own.id == row.id);
        // Whatever else is in a data folder that one process has for itself was killed.
        rows.retain(|row| self.store.is_shared() && !is_own(row));
        // After the rows: none of them is of later.
        let now = self.store.shared_now().await?.unwrap_or_else(|| self.clock.now());
        let own = own.and_then(|own| self.row(own, &self.told()));
        rows.extend(own.map(|own| ReplicaRow { seen_at: now, ..own }));
        rows.sort_by(|a, b| (&a.name, a.started_at, &a.id).cmp(&(&b.name, b.started_at, &b.id)));
        let status = |row: ReplicaRow| {
            let ReplicaRow { id, name, program, started_at, seen_at, told } = row;
            // What this program does not understand it does not tell.
            let told = serde_json::from_str::<Told>(&told).ok();
            let lost = (now - seen_at).abs() >= LOST_AFTER;
            let differs = told.as_ref().filter(|_| !lost).map(|told| wanted.differences(told, now));
            let (differs, told) = (differs.unwrap_or_default(), told.unwrap_or_default());
            ReplicaStatus { name, id, program, started_at, seen_at, lost, differs, told }
        };
        Ok(rows.into_iter().map(status).collect())
    }
}

/// The beginning of a text.
fn short(text: &str) -> String {
    match text.char_indices().nth(LONGEST_PROBLEM) {
        Some((end, _)) => format!("{}…", text.get(..end).unwrap_or_default()),
        None => text.to_owned(),
    }
}

#[cfg(test)]
#[path = "replicas_tests.rs"]
mod tests;
