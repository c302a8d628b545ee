//! How an exchange grows with what lives and with the depth of its chain, and a revocation with what it kills, each beside the
//! goal of `docs/reference/performance.md`. Nothing that is timed is asserted.

use std::io::Write;
use std::time::{Duration, Instant};

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;

use ring::rand::{SecureRandom as _, SystemRandom};
use serde_json::{Value, json};
use sqlx::sqlite::SqliteConnectOptions;
use sqlx::{AssertSqlSafe, Connection as _, SqliteConnection};
use taskgrant::clock::{Clock as _, SystemClock};
use taskgrant::configuration::documents::Source;
use taskgrant::domain::ids::Jti;

use crate::drive::{Began, Cost, OPERATIONS, OWN, ROUNDS, Server, drive, mean, post};
use crate::load::{Memory, memory};
use crate::world::{
    ACCESS_TOKEN, EXCHANGE, Idp, Outcome, RESOURCE, agent, authorization, authorization_of, form, median,
    objects,
};

/// Where tokens are exchanged.
const TOKEN: &str = "/oauth/token";

/// Live tokens of the smaller world.
const FEW: usize = 1000;
/// Real tokens among those of the larger one: parents of every age.
const PARENTS: usize = 8000;
/// Rows of one insert.
const SLICE: usize = 10_000;
/// Tokens of the smaller and the larger tree that is revoked, and how many of each are.
const TREES: [usize; 2] = [10, 10_000];
const REVOKED: usize = 9;
/// Agents of the longest chain.
const LONGEST: usize = 10;
/// Trees of any size and pace: it is their cost that is asked for.
const NO_LIMITS: &str = "[limits]\ntask_tokens = 0\ntoken_children = 0\ntask_rate = 0\n";

/// Runs all of it; `live` is the larger number of live tokens.
pub(crate) async fn run(out: &mut impl Write, idp: &Idp, live: usize) -> Outcome<()> {
    let few = Server::start(objects(&idp.issuer, OWN, 10), NO_LIMITS).await?;
    let many = Server::start(objects(&idp.issuer, OWN, 10_000), "").await?;
    let roots = || idp.requests(OWN, OPERATIONS);
    compare(out, "task types 10 -> 10,000", 1.05, [(&few, &roots), (&many, &roots)]).await?;
    drop(many);
    depth(out, idp).await?;
    subtrees(out, idp).await?;
    living(out, idp, few, live).await
}

/// Root exchanges and children in a world of few and of many live tokens; then the memory of servers of both.
async fn living(out: &mut impl Write, idp: &Idp, small: Server, live: usize) -> Outcome<()> {
    let large = Server::start(objects(&idp.issuer, OWN, 10), NO_LIMITS).await?;
    let from = Instant::now();
    let parents = [fill(&small, idp, FEW, FEW).await?, fill(&large, idp, PARENTS, live).await?];
    writeln!(
        out,
        "{live} live tokens, {PARENTS} of them issued, the others copied, in {:.0?}",
        from.elapsed()
    )?;
    let roots = || idp.requests(OWN, OPERATIONS);
    let what = format!("roots, live tokens {FEW} -> {live}");
    compare(out, &what, 1.05, [(&small, &roots), (&large, &roots)]).await?;
    let [below_small, below_large] = parents.each_ref().map(|parents| || Ok(children(parents)));
    let what = format!("children of any age, {FEW} -> {live}");
    compare(out, &what, 1.05, [(&small, &below_small), (&large, &below_large)]).await?;
    for (server, live) in [(small, FEW), (large, live)] {
        let folder = server.end();
        let Memory { started, loaded } = memory(idp, &folder, OWN).await?;
        writeln!(
            out,
            "resident with {live} live tokens: {started:.0} MiB started, {loaded:.0} MiB loaded (goal: below 100)"
        )?;
    }
    Ok(())
}

/// Chains of one agent and of ten.
async fn depth(out: &mut impl Write, idp: &Idp) -> Outcome<()> {
    let server = Server::start(relay(idp), NO_LIMITS).await?;
    let agents: Vec<String> = (1..=LONGEST).map(|n| authorization_of(&name(n))).collect();
    let [first, between @ .., last] = &agents[..] else { return Err("no chain".into()) };
    let top = token(&post(&server.router, TOKEN, first, root(&idp.session(OWN, 0)?, "relay")).await?)?;
    let mut held = top.clone();
    for holder in between {
        held = token(&post(&server.router, TOKEN, holder, child(&held, ("audience", OWN))).await?)?;
    }
    let short = || vec![child(&top, ("resource", RESOURCE)); OPERATIONS];
    let long = || vec![child(&held, ("resource", RESOURCE)); OPERATIONS];
    let mut ratios = Ratios::default();
    drive(&server.router, first, short()).await?;
    drive(&server.router, last, long()).await?;
    for _ in 0..ROUNDS {
        let before = drive(&server.router, first, short()).await?;
        let deep = drive(&server.router, last, long()).await?;
        ratios.push(before, deep, drive(&server.router, first, short()).await?);
    }
    ratios.tell(out, "agents of the chain 1 -> 10", 1.25)
}

/// A revocation of ten tokens and of ten thousand.
async fn subtrees(out: &mut impl Write, idp: &Idp) -> Outcome<()> {
    let server = Server::start(objects(&idp.issuer, OWN, 10), NO_LIMITS).await?;
    let (mut rows, agent) = (Rows::open(&server).await?, &authorization());
    let mut ratios = Ratios::default();
    for _ in 0..REVOKED {
        let mut costs = Vec::new();
        for size in [TREES[0], TREES[1], TREES[0]] {
            let root = exchange_only(&server, idp, costs.len()).await?;
            let below = post(&server.router, TOKEN, agent, child(&root, ("resource", RESOURCE))).await?;
            rows.copy(&jti(&token(&below)?)?, &fresh(size - 2)?, false).await?;
            // What another connection wrote has the writer's own forget all that it had at hand.
            drive(&server.router, agent, idp.requests(OWN, 300)?).await?;
            let began = Began::now()?;
            post(&server.router, "/oauth/revoke", agent, form(&[("token", &root)])).await?;
            costs.push(began.cost(1)?);
        }
        if let [before, large, after] = costs[..] {
            ratios.push(before, large, after);
        }
    }
    ratios.tell(out, "tokens that a revocation kills 10 -> 10,000", 1.1)
}

/// What one side is asked in one measurement.
type Bodies<'b> = (&'b Server, &'b dyn Fn() -> Outcome<Vec<String>>);

/// Two sides in turns, small, large, small: the ratio of their costs.
async fn compare(
    out: &mut impl Write,
    what: &str,
    goal: f64,
    [small, large]: [Bodies<'_>; 2],
) -> Outcome<()> {
    let agent = &authorization();
    for (server, bodies) in [small, large] {
        drive(&server.router, agent, bodies()?).await?;
    }
    let mut ratios = Ratios::default();
    for _ in 0..ROUNDS {
        let before = drive(&small.0.router, agent, small.1()?).await?;
        let at_large = drive(&large.0.router, agent, large.1()?).await?;
        ratios.push(before, at_large, drive(&small.0.router, agent, small.1()?).await?);
    }
    ratios.tell(out, what, goal)
}

/// What the larger side cost, as a multiple of what the smaller one did before and after it.
#[derive(Default)]
struct Ratios {
    wall: Vec<f64>,
    cpu: Vec<f64>,
}

impl Ratios {
    fn push(&mut self, before: Cost, large: Cost, after: Cost) {
        let small = mean(before, after);
        self.wall.push(large.wall / small.wall);
        self.cpu.push(large.cpu / small.cpu);
    }

    fn tell(self, out: &mut impl Write, what: &str, goal: f64) -> Outcome<()> {
        let (wall, cpu) = (median(self.wall), median(self.cpu));
        Ok(writeln!(out, "{what:<48} x{wall:.2} wall, x{cpu:.2} cpu (goal: x{goal:.2})")?)
    }
}

/// Makes `live` tokens and tasks live in `server`, of which `issued` are really issued, spread evenly: these are returned. The
/// others are copies of their rows under ids of their own.
async fn fill(server: &Server, idp: &Idp, issued: usize, live: usize) -> Outcome<Vec<String>> {
    let mut rows = Rows::open(server).await?;
    let (mut parents, mut copies) = (Vec::new(), 0);
    for n in 0..issued {
        parents.push(exchange_only(server, idp, n).await?);
        let due = (live - issued) * (n + 1) / issued;
        if due - copies >= SLICE || n + 1 == issued {
            let root = parents.last().ok_or("no root")?;
            rows.copy(&jti(root)?, &fresh(due - copies)?, true).await?;
            copies = due;
        }
    }
    Ok(parents)
}

/// A child of each of so many parents, in an order in which none is near the one before.
fn children(parents: &[String]) -> Vec<String> {
    let parent = |n: usize| parents.get(n * 7919 % parents.len());
    (0..OPERATIONS).filter_map(parent).map(|parent| child(parent, ("resource", RESOURCE))).collect()
}

/// The database of a server in process, to copy rows of it.
struct Rows {
    connection: SqliteConnection,
    tasks: String,
    tokens: String,
}

impl Rows {
    async fn open(server: &Server) -> Outcome<Self> {
        let file = server.folder.path().join("data").join("taskgrant.db");
        let options = SqliteConnectOptions::new().filename(file).busy_timeout(Duration::from_secs(30));
        let mut connection = SqliteConnection::connect_with(&options).await?;
        let tasks = copying(&mut connection, "tasks", &[("id", "j.value->>1")]).await?;
        let tokens =
            copying(&mut connection, "tokens", &[("jti", "j.value->>0"), ("task_id", "j.value->>1")]).await?;
        Ok(Self { connection, tasks, tokens })
    }

    /// Copies the row of a token under each of these ids, of a task of its own each or all of the same.
    async fn copy(&mut self, jti: &str, ids: &[String], own_tasks: bool) -> Outcome<()> {
        let task: String = sqlx::query_scalar("SELECT task_id FROM tokens WHERE jti = $1")
            .bind(jti)
            .fetch_one(&mut self.connection)
            .await?;
        for ids in ids.chunks(SLICE) {
            let pairs: Vec<_> = ids.iter().map(|id| [id, if own_tasks { id } else { &task }]).collect();
            let pairs = json!(pairs).to_string();
            let mut statements = vec![(&self.tokens, jti)];
            if own_tasks {
                statements.push((&self.tasks, &*task));
            }
            for (sql, row) in statements {
                let sql = AssertSqlSafe(sql.clone());
                sqlx::query(sql).bind(&pairs).bind(row).execute(&mut self.connection).await?;
            }
        }
        Ok(())
    }
}

/// The statement that copies a row of `table` with other values in these columns.
async fn copying(connection: &mut SqliteConnection, table: &str, other: &[(&str, &str)]) -> Outcome<String> {
    let names: Vec<String> = sqlx::query_scalar("SELECT name FROM pragma_table_info($1)")
        .bind(table)
        .fetch_all(connection)
        .await?;
    let value = |name: &String| {
        other.iter().find(|(of, _)| of == name).map_or_else(|| format!("t.{name}"), |o| o.1.to_owned())
    };
    let values: Vec<_> = names.iter().map(value).collect();
    let key = other.first().ok_or("no key")?.0;
    Ok(format!(
        "INSERT INTO {table} ({}) SELECT {} FROM json_each($1) j CROSS JOIN {table} t WHERE t.{key} = $2",
        names.join(", "),
        values.join(", ")
    ))
}

/// So many ids as the server makes them.
fn fresh(count: usize) -> Outcome<Vec<String>> {
    let random = SystemRandom::new();
    let one = |_| {
        let mut bytes = [0; 10];
        random.fill(&mut bytes).map_err(|e| e.to_string())?;
        Ok(Jti::new(SystemClock.now(), bytes).to_string())
    };
    (0..count).map(one).collect()
}

/// A root token of the bench's agent that can only be narrowed, of session number `n`.
async fn exchange_only(server: &Server, idp: &Idp, n: usize) -> Outcome<String> {
    let (session, agent) = (idp.session(OWN, n)?, authorization());
    token(&post(&server.router, TOKEN, &agent, root(&session, "refund_order")).await?)
}

fn root(session: &str, task_type: &str) -> String {
    form(&[
        ("grant_type", EXCHANGE),
        ("subject_token", session),
        ("subject_token_type", ACCESS_TOKEN),
        ("task_type", task_type),
        ("audience", OWN),
        ("scope", "orders:read"),
    ])
}

fn child(parent: &str, whither: (&str, &str)) -> String {
    let (grant, kind) = (("grant_type", EXCHANGE), ("subject_token_type", ACCESS_TOKEN));
    form(&[grant, ("subject_token", parent), kind, whither, ("scope", "orders:read")])
}

fn token(answer: &Value) -> Outcome<String> {
    Ok(answer.get("access_token").and_then(Value::as_str).ok_or("no token")?.to_owned())
}

/// The id of a token of ours.
fn jti(token: &str) -> Outcome<String> {
    let payload = URL_SAFE_NO_PAD.decode(token.split('.').nth(1).ok_or("no payload")?)?;
    let claims: Value = serde_json::from_slice(&payload)?;
    Ok(claims.get("jti").and_then(Value::as_str).ok_or("no jti")?.to_owned())
}

/// The agents of a chain, each of which hands over to any.
fn relay(idp: &Idp) -> Vec<Source> {
    let mut sources = objects(&idp.issuer, OWN, 1);
    let mut text = "kind: TaskType\ntenant: acme\nname: relay\nspec:\n  description: Hand over\n  owner: group:payments\n  \
         contact: payments@acme.example\n  review_by: 2099-01-01\n  agents: [class:relay]\n  scopes: [orders:read]\n  \
         resources: [orders]\n  lifetime: {token: {default: 180, max: 300}, task: 3600}\n  \
         delegation: {max_depth: 10, edges: [{to: class:relay}]}\n"
        .to_owned();
    for n in 1..=LONGEST {
        text.push_str("---\n");
        text.push_str(&agent(&name(n), &name(n), "relay", &idp.issuer));
    }
    sources.push(Source { file: "relay.yaml".to_owned(), text });
    sources
}

fn name(n: usize) -> String {
    format!("relay-{n}")
}
