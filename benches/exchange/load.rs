//! V and X as servers of their own, driven over loopback HTTP with distinct tokens: rates, latencies, processor time.

use std::fs;
use std::io::Write;
use std::net::{SocketAddr, TcpListener as Port};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use tempfile::TempDir;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::task::JoinSet;
use tokio::time::sleep_until;

use crate::drive::cpu;
use crate::naive;
use crate::world::{Idp, Outcome, authorization, median, objects, toml};

/// Kept-alive connections.
const CONNECTIONS: u16 = 64;
/// Rounds of V, X, V.
const ROUNDS: usize = 3;
/// Length of one measurement, and most requests in it.
const SLICE: Duration = Duration::from_secs(3);
const MOST: usize = 30_000;
/// How long a server may take to its first token on a busy machine.
const START: Duration = Duration::from_secs(30);
/// The processors of the server and of the load, where `taskset` is at hand.
const SERVER_CPU: &str = "0";
const LOAD_CPU: &str = "1";

/// What one slice showed.
struct Slice {
    rate: f64,
    /// Microseconds of the server's processor time for one request.
    cpu: f64,
    p50: f64,
    p99: f64,
}

/// A server under test, killed at the end.
struct Target {
    child: Child,
    at: SocketAddr,
    /// Milliseconds from exec to the first token.
    first_token: f64,
    own: String,
}

impl Drop for Target {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The server V, until it is killed: `naive ADDRESS ISSUER JWKS-FILE`.
pub(crate) async fn serve_naive(args: &[String]) -> Outcome<()> {
    let [at, issuer, jwks] = args else { return Err("naive ADDRESS ISSUER JWKS-FILE".into()) };
    let trusted = serde_json::from_slice(&fs::read(jwks)?)?;
    let listener = tokio::net::TcpListener::bind(at).await?;
    Ok(axum::serve(listener, naive::router(issuer, &trusted)?).await?)
}

/// Runs all of it.
pub(crate) async fn run(out: &mut impl Write) -> Outcome<()> {
    let pinned = pin_self();
    let (idp, folder) = (Idp::start().await?, tempfile::tempdir()?);
    let v = start_v(&idp, &folder, pinned).await?;
    let x = start_x(&idp, &folder, pinned).await?;
    let pins = if pinned { "server on one core, load on another" } else { "not pinned: no taskset here" };
    writeln!(
        out,
        "loopback HTTP, {CONNECTIONS} connections, {pins}, cache off, {ROUNDS} rounds V X V of {SLICE:?}"
    )?;
    writeln!(
        out,
        "exec to first token: V {:.0} ms, X {:.0} ms; X idle at {:.0} MiB",
        v.first_token,
        x.first_token,
        rss(&x)?
    )?;
    let (mut vs, mut xs, mut ratios) = (Vec::new(), Vec::new(), Vec::new());
    for _ in 0..ROUNDS {
        let before = closed(&idp, &v).await?;
        let full = closed(&idp, &x).await?;
        let after = closed(&idp, &v).await?;
        ratios.push(full.rate / f64::midpoint(before.rate, after.rate));
        vs.extend([before, after]);
        xs.push(full);
    }
    writeln!(out, "                    req/s   p50 ms   p99 ms   server cpu µs/req")?;
    for (name, slices) in [("V naive", &vs), ("X full exchange", &xs)] {
        let middle = |of: fn(&Slice) -> f64| median(slices.iter().map(of).collect());
        let (rate, cpu) = (middle(|s| s.rate), middle(|s| s.cpu));
        writeln!(out, "{name:<16} {rate:8.0} {:8.2} {:8.2} {cpu:8.1}", middle(|s| s.p50), middle(|s| s.p99))?;
    }
    writeln!(out, "X / V (rate) {:.2}; X loaded at {:.0} MiB", median(ratios), rss(&x)?)?;
    let half = median(xs.iter().map(|s| s.rate).collect()) / 2.0;
    let open = open(&idp, &x, half).await?;
    writeln!(out, "X open loop at {half:.0} req/s: p50 {:.2} ms, p99 {:.2} ms", open.p50, open.p99)?;
    Ok(())
}

/// Resident memory of a server in MiB.
pub(crate) struct Memory {
    /// With its first token.
    pub(crate) started: f64,
    /// After one slice of load.
    pub(crate) loaded: f64,
}

/// Starts the binary on the data in `folder`, as the server that calls itself `own`, and loads it.
pub(crate) async fn memory(idp: &Idp, folder: &TempDir, own: &str) -> Outcome<Memory> {
    let (at, _) = address()?;
    let config = folder.path().join("taskgrant.toml");
    fs::write(&config, toml(own, &at.to_string(), &folder.path().join("data").to_string_lossy()))?;
    let mut command = Command::new(env!("CARGO_BIN_EXE_taskgrant"));
    command.arg("serve").arg("--config").arg(config);
    let server = first_token(idp, command, at, own.to_owned()).await?;
    let started = rss(&server)?;
    closed(idp, &server).await?;
    Ok(Memory { started, loaded: rss(&server)? })
}

/// Puts the load on its own processor; false where that cannot be.
fn pin_self() -> bool {
    let pid = std::process::id().to_string();
    let set = Command::new("taskset").args(["-a", "-c", "-p", LOAD_CPU, &pid]).stdout(Stdio::null()).status();
    set.is_ok_and(|status| status.success())
}

fn command(pinned: bool, program: &Path) -> Command {
    if pinned {
        let mut command = Command::new("taskset");
        command.args(["-c", SERVER_CPU]).arg(program);
        command
    } else {
        Command::new(program)
    }
}

/// An address that was free a moment ago, and the issuer there.
fn address() -> Outcome<(SocketAddr, String)> {
    let at = Port::bind("127.0.0.1:0")?.local_addr()?;
    Ok((at, format!("http://{at}")))
}

async fn start_v(idp: &Idp, folder: &TempDir, pinned: bool) -> Outcome<Target> {
    let (at, own) = address()?;
    let jwks = folder.path().join("jwks.json");
    fs::write(&jwks, idp.keys.jwks().to_string())?;
    let mut command = command(pinned, &std::env::current_exe()?);
    command.args(["naive", &at.to_string(), &own]).arg(jwks);
    first_token(idp, command, at, own).await
}

async fn start_x(idp: &Idp, folder: &TempDir, pinned: bool) -> Outcome<Target> {
    let ((at, own), binary) = (address()?, Path::new(env!("CARGO_BIN_EXE_taskgrant")));
    let config = folder.path().join("taskgrant.toml");
    let data = folder.path().join("data");
    fs::write(&config, toml(&own, &at.to_string(), &data.to_string_lossy()))?;
    let files = folder.path().join("objects");
    fs::create_dir(&files)?;
    for source in objects(&idp.issuer, &own, 10) {
        fs::write(files.join(source.file), source.text)?;
    }
    let mut apply = Command::new(binary);
    apply.arg("apply").arg("-f").arg(files).arg("--allow-widening").arg("--config").arg(&config);
    let applied = apply.stdout(Stdio::null()).status()?;
    if !applied.success() {
        return Err("the objects were not applied".into());
    }
    let mut command = command(pinned, binary);
    command.arg("serve").arg("--config").arg(config);
    first_token(idp, command, at, own).await
}

/// Starts a server and asks until it answers with a token.
async fn first_token(idp: &Idp, mut command: Command, at: SocketAddr, own: String) -> Outcome<Target> {
    let bodies = idp.requests(&own, 1)?;
    let body = bodies.first().ok_or("no request")?;
    let began = Instant::now();
    let child = command.stdin(Stdio::null()).stdout(Stdio::null()).spawn()?;
    let mut target = Target { child, at, first_token: 0.0, own };
    while began.elapsed() < START {
        if let Ok(mut connection) = Connection::open(target.at).await {
            connection.exchange(body).await?;
            target.first_token = began.elapsed().as_secs_f64() * 1e3;
            return Ok(target);
        }
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    Err("a server did not start".into())
}

/// As fast as the connections get answers.
async fn closed(idp: &Idp, target: &Target) -> Outcome<Slice> {
    measure(idp, target, None).await
}

/// At a fixed rate, whatever the answers take: latency counts from when a request was due.
async fn open(idp: &Idp, target: &Target, rate: f64) -> Outcome<Slice> {
    measure(idp, target, Some(rate)).await
}

async fn measure(idp: &Idp, target: &Target, rate: Option<f64>) -> Outcome<Slice> {
    let queue = Arc::new(Mutex::new(idp.requests(&target.own, MOST)?.into_iter()));
    let process = target.child.id().to_string();
    let mut clients = JoinSet::new();
    let mut connections = Vec::new();
    for _ in 0..CONNECTIONS {
        connections.push(Connection::open(target.at).await?);
    }
    let (cpu_before, began) = (cpu(&process)?, Instant::now());
    for (number, mut connection) in (0..CONNECTIONS).zip(connections) {
        let queue = queue.clone();
        // Each connection has its own phase, so that requests are spread evenly.
        let every = rate.map(|rate| Duration::from_secs_f64(f64::from(CONNECTIONS) / rate));
        let phase = every.map_or(Duration::ZERO, |e| e.mul_f64(f64::from(number) / f64::from(CONNECTIONS)));
        clients.spawn(async move {
            let (mut latencies, mut due) = (Vec::new(), began + phase);
            while began.elapsed() < SLICE {
                let next = queue.lock().unwrap_or_else(PoisonError::into_inner).next();
                let Some(body) = next else { break };
                let from = if let Some(every) = every {
                    sleep_until(due.into()).await;
                    let from = due;
                    due += every;
                    from
                } else {
                    Instant::now()
                };
                connection.exchange(&body).await?;
                latencies.push(from.elapsed().as_secs_f64() * 1e3);
            }
            Outcome::Ok(latencies)
        });
    }
    let mut latencies = Vec::new();
    for ended in clients.join_all().await {
        latencies.extend(ended?);
    }
    let (seconds, spent) = (began.elapsed().as_secs_f64(), cpu(&process)? - cpu_before);
    latencies.sort_by(f64::total_cmp);
    let at = |percent: usize| latencies.get(latencies.len() * percent / 100).copied().unwrap_or(f64::NAN);
    let count = f64::from(u32::try_from(latencies.len())?);
    Ok(Slice { rate: count / seconds, cpu: spent / count, p50: at(50), p99: at(99) })
}

/// One kept-alive HTTP/1.1 connection: just enough to post a form and read an answer with `content-length`.
struct Connection {
    stream: TcpStream,
    authorization: String,
    buffer: Vec<u8>,
}

impl Connection {
    async fn open(at: SocketAddr) -> Outcome<Self> {
        let stream = TcpStream::connect(at).await?;
        stream.set_nodelay(true)?;
        Ok(Self { stream, authorization: authorization(), buffer: Vec::with_capacity(8192) })
    }

    async fn exchange(&mut self, body: &str) -> Outcome<()> {
        let request = format!(
            "POST /oauth/token HTTP/1.1\r\nhost: loopback\r\nauthorization: {}\r\n\
             content-type: application/x-www-form-urlencoded\r\ncontent-length: {}\r\n\r\n{body}",
            self.authorization,
            body.len()
        );
        self.stream.write_all(request.as_bytes()).await?;
        self.buffer.clear();
        let head = loop {
            self.read().await?;
            if let Some(end) = self.buffer.windows(4).position(|w| w == b"\r\n\r\n") {
                break end + 4;
            }
        };
        let text = String::from_utf8_lossy(self.buffer.get(..head).unwrap_or_default()).to_ascii_lowercase();
        let length =
            text.lines().find_map(|line| line.strip_prefix("content-length: ")).ok_or("no length")?;
        let whole = head + length.trim().parse::<usize>()?;
        while self.buffer.len() < whole {
            self.read().await?;
        }
        if text.starts_with("http/1.1 200 ") {
            return Ok(());
        }
        Err(String::from_utf8_lossy(&self.buffer).into_owned().into())
    }

    async fn read(&mut self) -> Outcome<()> {
        match self.stream.read_buf(&mut self.buffer).await? {
            0 => Err("the server closed the connection".into()),
            _ => Ok(()),
        }
    }
}

/// Resident memory of a server in MiB, as the system tells it.
fn rss(target: &Target) -> Outcome<f64> {
    let status = fs::read_to_string(format!("/proc/{}/status", target.child.id()))?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).ok_or("no VmRSS")?;
    let kib: f64 = line.trim().trim_end_matches(" kB").parse()?;
    Ok(kib / 1024.0)
}
