//! The commit protocol in every interleaving (L3, L4, L6): an exhaustive check with the real ledger deciding.
//!
//! Three replicas share one database. Each takes jobs off its queue, the lock with the head of the log, and the facts; the
//! ledger decides; the commit makes all of it visible and frees the lock. At any point before it a replica may crash or
//! give up, and it may never hear that the commit went through. The statements, batching and failures are those of
//! `writer.rs`; what the model leaves out is time, and that the database keeps what it has committed.
//!
//! The model has to break when the protocol is broken: without the lock, and with facts read before it.

use std::sync::LazyLock;

use chrono::{DateTime, TimeDelta, Utc};
use serde_json::{Map, json};
use stateright::{Checker as _, HasDiscoveries, Model, Property};

use super::change::{Change, Committed, Issue, Revoke, Spend, SpendKind};
use super::entry::Entry;
use super::ledger::Ledger;
use super::read::Head;
use super::rows::{Growth, Known, micros};
use crate::domain::decision::{Decision, Kind, Outcome, Record};
use crate::domain::ids::{DecisionId, Jti, TaskId};
use crate::domain::principal::Principal;
use crate::domain::record::{RevocationKey, SessionKey, TokenRecord, TreeLimits};
use crate::log::tree::Frontier;

/// The root, which is there from the start and may be redeemed once; two that want to redeem it; one below the first of these.
const ROOT: usize = 0;
const FIRST: usize = 1;
const SECOND: usize = 2;
const BELOW_FIRST: usize = 3;

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Job {
    Issue(usize),
    RevokeRoot,
}

/// What a leaf of the log tells.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Event {
    Issued(usize),
    RootRevoked,
    Refused(usize),
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
struct Database {
    /// In the order of commits, each with the index that its leaf was given.
    log: Vec<(u64, Event)>,
    size: u64,
    /// Who holds the lock.
    holder: Option<usize>,
}

/// The facts of one moment.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Facts {
    tokens: Vec<usize>,
    root_revoked: bool,
    root_spent: bool,
}

impl Database {
    fn issued(&self) -> impl Iterator<Item = usize> {
        self.log.iter().filter_map(|(_, event)| match event {
            Event::Issued(token) => Some(*token),
            Event::RootRevoked | Event::Refused(_) => None,
        })
    }

    fn facts(&self) -> Facts {
        Facts {
            tokens: std::iter::once(ROOT).chain(self.issued()).collect(),
            root_revoked: self.log.iter().any(|(_, event)| *event == Event::RootRevoked),
            root_spent: self.issued().any(|token| token == FIRST || token == SECOND),
        }
    }
}

/// Where a replica's commit has got to: the batch, the size of the log that came with the lock, the facts.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
struct Commit {
    jobs: Vec<Job>,
    size: Option<u64>,
    facts: Option<Facts>,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
struct Replica {
    queue: Vec<Job>,
    commit: Option<Commit>,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct World {
    database: Database,
    replicas: Vec<Replica>,
    /// Tokens that were handed out.
    left: Vec<usize>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Step {
    /// Takes so many jobs for one commit.
    Gather(usize),
    /// The first statement.
    Lock,
    /// The statements that read.
    Look,
    /// All of it becomes visible, and the callers are answered.
    Commit,
    /// All of it becomes visible, but nobody is told.
    CommitUnheard,
    /// Nothing becomes visible; the callers are told that it failed.
    GiveUp,
    /// The same, and what waits is lost too.
    Crash,
}

/// How the protocol may be broken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Protocol {
    AsBuilt,
    /// The first statement only reads the head.
    WithoutLock,
    /// The facts are those of before the lock.
    WithoutRecheck,
}

struct Replicas(Protocol);

const DEAD_STAYS_DEAD: &str = "no token is committed after its ancestor was revoked";
const SPENT_ONCE: &str = "what may be spent once is spent once";
const RECORD_FIRST: &str = "no token leaves without its record";
const ONE_LOG: &str = "leaves have the places 0, 1, 2… in the order of commits";

impl Model for Replicas {
    type State = World;
    type Action = (usize, Step);

    fn init_states(&self) -> Vec<World> {
        let queues = [
            vec![Job::Issue(FIRST), Job::Issue(BELOW_FIRST)],
            vec![Job::Issue(SECOND)],
            vec![Job::RevokeRoot],
        ];
        let replicas = queues.map(|queue| Replica { queue, commit: None }).to_vec();
        vec![World { database: Database::default(), replicas, left: Vec::new() }]
    }

    fn actions(&self, world: &World, actions: &mut Vec<Self::Action>) {
        for (at, replica) in world.replicas.iter().enumerate() {
            let steps = match &replica.commit {
                None => (1..=replica.queue.len()).map(Step::Gather).collect(),
                Some(commit) => self.next(commit, world.database.holder),
            };
            actions.extend(steps.into_iter().map(|step| (at, step)));
        }
    }

    fn next_state(&self, world: &World, (at, step): Self::Action) -> Option<World> {
        let mut world = world.clone();
        let World { database, replicas, left } = &mut world;
        let replica = &mut replicas[at];
        if let Step::Gather(count) = step {
            replica.commit =
                Some(Commit { jobs: replica.queue.drain(..count).collect(), ..Commit::default() });
            return Some(world);
        }
        let commit = replica.commit.as_mut()?;
        match step {
            Step::Lock => {
                commit.size = Some(database.size);
                if self.0 != Protocol::WithoutLock {
                    database.holder = Some(at);
                }
            }
            Step::Look => commit.facts = Some(database.facts()),
            Step::Commit | Step::CommitUnheard => {
                let leaves = decide(&commit.jobs, commit.size?, commit.facts.as_ref()?);
                database.size = commit.size? + leaves.len() as u64;
                if step == Step::Commit {
                    left.extend(leaves.iter().filter_map(|(_, event)| match event {
                        Event::Issued(token) => Some(*token),
                        Event::RootRevoked | Event::Refused(_) => None,
                    }));
                }
                database.log.extend(leaves);
            }
            Step::Gather(_) | Step::GiveUp => {}
            Step::Crash => replica.queue.clear(),
        }
        if !matches!(step, Step::Lock | Step::Look) {
            replica.commit = None;
            database.holder = database.holder.filter(|holder| *holder != at);
        }
        Some(world)
    }

    fn properties(&self) -> Vec<Property<Self>> {
        vec![
            Property::always(DEAD_STAYS_DEAD, |_, world: &World| {
                let mut events = world.database.log.iter().map(|(_, event)| *event);
                events.by_ref().find(|event| *event == Event::RootRevoked);
                events.all(|event| !matches!(event, Event::Issued(_)))
            }),
            Property::always(SPENT_ONCE, |_, world: &World| {
                world.database.issued().filter(|token| [FIRST, SECOND].contains(token)).count() <= 1
            }),
            Property::always(RECORD_FIRST, |_, world: &World| {
                world.left.iter().all(|token| world.database.issued().any(|issued| issued == *token))
            }),
            Property::always(ONE_LOG, |_, world: &World| {
                world.database.log.iter().zip(0..).all(|((index, _), place)| *index == place)
            }),
            Property::sometimes("a whole branch is handed out", |_, world: &World| {
                world.left.contains(&BELOW_FIRST)
            }),
            Property::sometimes("a child loses to the revocation", |_, world: &World| {
                let log = &world.database.log;
                let refused = |token| log.iter().any(|(_, event)| *event == Event::Refused(token));
                refused(FIRST) && refused(SECOND)
            }),
            Property::sometimes("a record is left that nobody was told of", |_, world: &World| {
                world.database.issued().any(|issued| !world.left.contains(&issued))
            }),
        ]
    }
}

impl Replicas {
    fn next(&self, commit: &Commit, holder: Option<usize>) -> Vec<Step> {
        let lock = holder.is_none().then_some(Step::Lock);
        let (first, second) = match self.0 {
            Protocol::AsBuilt | Protocol::WithoutLock => ((commit.size.is_none(), lock), Some(Step::Look)),
            Protocol::WithoutRecheck => ((commit.facts.is_none(), Some(Step::Look)), lock),
        };
        let next = match (first, commit.size.is_some() && commit.facts.is_some()) {
            (_, true) => return vec![Step::Commit, Step::CommitUnheard, Step::GiveUp, Step::Crash],
            ((true, step), false) => step,
            ((false, _), false) => second,
        };
        next.into_iter().chain([Step::GiveUp, Step::Crash]).collect()
    }
}

/// What the ledger makes of a batch: its leaves.
fn decide(jobs: &[Job], size: u64, facts: &Facts) -> Vec<(u64, Event)> {
    let mut frontier = Frontier::default();
    (0..size).for_each(|_| frontier.append([0; 32]));
    let batch: Vec<&(Change, Entry)> = jobs.iter().map(|job| CAST.change(*job)).collect();
    let known =
        |token: &usize| Known { token: CAST.tokens[*token].clone(), growth: Growth::default(), children: 0 };
    let tokens = facts.tokens.iter().map(known).collect();
    let head = Head { frontier, greatest_iat: CAST.now, generation: 0 };
    let mut ledger = Ledger::new(CAST.now, head, tokens);
    let keys = ledger.revocations_to_read(batch.iter().map(|(change, _)| change));
    let root = RevocationKey::token(CAST.tokens[ROOT].jti);
    let place = keys.iter().position(|key| *key == root).filter(|_| facts.root_revoked);
    let found: Vec<_> = place.into_iter().map(|at| (i64::try_from(at).unwrap(), micros(CAST.now))).collect();
    ledger.learn_revoked(keys, &found);
    ledger.learn_spent(facts.root_spent.then_some((SpendKind::HandOver, root.key)).into_iter());
    let leaf =
        |(job, (change, entry)): (&Job, &&'static (Change, Entry))| match (job, ledger.take(change, entry)) {
            (Job::Issue(token), Committed::Done(receipt)) => (receipt.index, Event::Issued(*token)),
            (Job::Issue(token), Committed::Lost(_, receipt)) => (receipt.index, Event::Refused(*token)),
            (Job::RevokeRoot, Committed::Done(receipt) | Committed::Lost(_, receipt)) => {
                (receipt.index, Event::RootRevoked)
            }
            (_, Committed::Superseded { .. }) => panic!("the model has one configuration"),
        };
    jobs.iter().zip(&batch).map(leaf).collect()
}

/// The records and changes that the numbers stand for.
struct Cast {
    now: DateTime<Utc>,
    tokens: Vec<TokenRecord>,
    issues: Vec<(Change, Entry)>,
    revoke: (Change, Entry),
}

static CAST: LazyLock<Cast> = LazyLock::new(Cast::new);

impl Cast {
    fn new() -> Self {
        let now = DateTime::from_timestamp(1_800_000_000, 0).unwrap();
        let (root, first, second) = (token(0, now, &[]), token(1, now, &[ROOT]), token(2, now, &[ROOT]));
        let tokens = vec![root, first, second, token(3, now, &[ROOT, FIRST])];
        let ready = |change: Change| {
            let entry = Entry::new(change.decision(), [0; 16], TimeDelta::zero());
            (change, entry)
        };
        let issue = |token: &TokenRecord| {
            let redeems = token.parent == Some(jti(ROOT, now));
            let spend = redeems.then(|| Spend {
                kind: SpendKind::HandOver,
                key: jti(ROOT, now).to_string(),
                keep_until: token.exp,
            });
            ready(Change::from(Issue {
                task: None,
                token: token.clone(),
                parent_digest: token.parent.map(|_| token.capability_digest),
                limits: TreeLimits::default(),
                spend: spend.into_iter().collect(),
                assertion: None,
                redeems: None,
                opens: None,
                uses: None,
                generation: 0,
                decision: decision(now),
            }))
        };
        let revoke = Revoke {
            keys: vec![RevocationKey::token(jti(ROOT, now))],
            keep_until: now + TimeDelta::hours(1),
            reason: "the model".to_owned(),
            decision: decision(now),
        };
        Self { now, issues: tokens.iter().map(issue).collect(), tokens, revoke: ready(Change::from(revoke)) }
    }

    fn change(&'static self, job: Job) -> &'static (Change, Entry) {
        match job {
            Job::Issue(token) => &self.issues[token],
            Job::RevokeRoot => &self.revoke,
        }
    }
}

fn jti(number: usize, now: DateTime<Utc>) -> Jti {
    Jti::new(now, [u8::try_from(number).unwrap(); 10])
}

fn token(number: usize, now: DateTime<Utc>, ancestors: &[usize]) -> TokenRecord {
    let iss = "https://idp.acme.example".to_owned();
    TokenRecord {
        jti: jti(number, now),
        task_id: TaskId::new(now, [0; 10]),
        tenant: "acme".parse().unwrap(),
        parent: ancestors.last().map(|parent| jti(*parent, now)),
        ancestors: ancestors.iter().map(|ancestor| jti(*ancestor, now)).collect(),
        principal: Principal { iss: iss.clone(), sub: "alice".to_owned() },
        session: SessionKey { iss, sid: None, token_sha256: "ab".repeat(32), since: now },
        agent: "agent".parse().unwrap(),
        chain_agents: vec!["agent".parse().unwrap()],
        chain: json!({"sub": "agent"}),
        task_type_tenant: "acme".parse().unwrap(),
        task_type: "refund_order".parse().unwrap(),
        task_type_version: 1,
        capability_digest: [0xC3; 32],
        audience: None,
        iat: now,
        exp: now + TimeDelta::minutes(5),
        key_thumbprint: None,
        status: None,
        approval_id: None,
        decision_id: DecisionId::new(now, [u8::try_from(number).unwrap(); 10]),
        kid: "key-1".to_owned(),
        signers: Vec::new(),
    }
}

fn decision(now: DateTime<Utc>) -> Decision {
    Decision {
        id: DecisionId::new(now, [9; 10]),
        kind: Kind::Exchange,
        at: now,
        tenant: None,
        outcome: Outcome::Allow,
        policy: None,
        task_type: None,
        record: Record { asked: Map::new().into(), ..Record::default() },
        input: None,
    }
}

#[test]
fn l3_l4_no_interleaving_of_replicas_breaks_the_commit_protocol() {
    let checker = Replicas(Protocol::AsBuilt).checker().spawn_bfs().join();
    checker.assert_properties();
    assert!(checker.unique_state_count() > 900, "the model explores: {}", checker.unique_state_count());
}

/// The properties that the protocol, broken so, does not keep.
fn broken(protocol: Protocol) -> Vec<&'static str> {
    let checker = Replicas(protocol).checker().finish_when(HasDiscoveries::All).spawn_bfs().join();
    let laws = [DEAD_STAYS_DEAD, SPENT_ONCE, RECORD_FIRST, ONE_LOG];
    laws.into_iter().filter(|law| checker.discovery(law).is_some()).collect()
}

#[test]
fn the_model_breaks_without_the_lock_and_without_reading_again_under_it() {
    assert_eq!(broken(Protocol::AsBuilt), Vec::<&str>::new());
    assert_eq!(broken(Protocol::WithoutLock), [DEAD_STAYS_DEAD, SPENT_ONCE, ONE_LOG]);
    assert_eq!(broken(Protocol::WithoutRecheck), [DEAD_STAYS_DEAD, SPENT_ONCE]);
}
