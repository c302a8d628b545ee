//! The real binary as a child process on a data folder of its own, with a trusted issuer beside it.

use std::fs::{self, OpenOptions};
use std::net::TcpListener;
use std::path::PathBuf;
use std::process::{Child, Command, ExitStatus, Output, Stdio};
use std::time::{Duration, Instant};

use ring::rand::SystemRandom;
use serde_json::{Value, json};
use taskgrant::clock::{Clock as _, Random, SystemClock};
use taskgrant::keys::keyring::KeyRing;
use taskgrant::keys::signing::KeySpec;
use taskgrant::store::folder::Location;
use tempfile::TempDir;
use tokio::time::sleep;

use super::idp::{Idp, bend};
use super::server::{ACCESS_TOKEN, TOKEN_EXCHANGE, encode, http, objects};

/// How long a start may take on a busy machine.
const START: Duration = Duration::from_secs(20);
/// How long an orderly end may take on a busy machine.
const END: Duration = Duration::from_secs(20);

/// A configuration, objects and a data folder that outlive every process on it.
pub(crate) struct Site {
    /// Our `iss`.
    pub(crate) issuer: String,
    /// The trusted issuer.
    pub(crate) idp: Idp,
    root: TempDir,
}

impl Site {
    /// A site without data: nothing is applied and nothing runs.
    pub(crate) async fn new() -> Self {
        let (root, idp, port) = (tempfile::tempdir().unwrap(), Idp::start().await, free_port());
        let issuer = format!("http://127.0.0.1:{port}");
        let toml = format!(
            "public_url = '{issuer}'\nlisten = '127.0.0.1:{port}'\ndata = 'data'\nenvironment = 'test'\n\
             [log]\nlevel = 'warn'\n[outbound]\nallow_http_loopback = true\n"
        );
        fs::write(root.path().join("taskgrant.toml"), toml).unwrap();
        let actor_keys = KeyRing::ephemeral(KeySpec::Es256, SystemRandom::new()).unwrap();
        let yaml = objects(&idp.issuer, &issuer, actor_keys.jwks());
        fs::write(root.path().join("objects.yaml"), yaml).unwrap();
        Self { issuer, idp, root }
    }

    /// Adds lines to the configuration, which ends in a section of its own.
    pub(crate) fn configure(&self, toml: &str) {
        let file = self.root.path().join("taskgrant.toml");
        let text = fs::read_to_string(&file).unwrap();
        fs::write(file, format!("{text}{toml}\n")).unwrap();
    }

    /// Replaces a part of the configuration.
    pub(crate) fn reconfigure(&self, from: &str, to: &str) {
        let file = self.root.path().join("taskgrant.toml");
        let text = fs::read_to_string(&file).unwrap();
        assert!(text.contains(from), "`{from}` is not in {text}");
        fs::write(file, text.replacen(from, to, 1)).unwrap();
    }

    /// Waits until a server of this site has logged `text`.
    pub(crate) async fn logged(&self, text: &str) {
        let began = Instant::now();
        while !self.log().contains(text) {
            assert!(began.elapsed() < START, "not logged: {text}; but: {}", self.log());
            sleep(Duration::from_millis(10)).await;
        }
    }

    /// Where the data lies.
    pub(crate) fn location(&self) -> Location {
        Location::Folder(self.root.path().join("data"))
    }

    /// A file or folder of the site: commands run here.
    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.root.path().join(name)
    }

    /// What all servers of this site logged.
    pub(crate) fn log(&self) -> String {
        fs::read_to_string(self.root.path().join("server.log")).unwrap_or_default()
    }

    /// Starts `serve` and waits until it is ready. The first attempt must succeed, also after a crash.
    pub(crate) async fn start(&self) -> Process {
        let log = OpenOptions::new().create(true).append(true).open(self.log_file()).unwrap();
        let also = log.try_clone().unwrap();
        let child = self.command(&["serve"], log).stdout(also).spawn().unwrap();
        let mut process = Process { child };
        let (client, began) = (http(), Instant::now());
        loop {
            let answer = client.get(format!("{}/readyz", self.issuer)).send().await;
            if answer.is_ok_and(|a| a.status().is_success()) {
                return process;
            }
            let exited = process.child.try_wait().unwrap();
            assert!(exited.is_none() && began.elapsed() < START, "no start ({exited:?}): {}", self.log());
            sleep(Duration::from_millis(10)).await;
        }
    }

    /// Runs a command of the binary to its end.
    pub(crate) async fn run(&self, args: &[&str]) -> Output {
        let mut command = self.command(args, Stdio::piped());
        tokio::task::spawn_blocking(move || command.output().unwrap()).await.unwrap()
    }

    /// Runs a command to its end: its exit status, and all that it printed, which has no colour in a pipe.
    pub(crate) async fn told(&self, args: &[&str]) -> (i32, String) {
        let output = self.run(args).await;
        let text = [output.stdout, output.stderr].map(|text| String::from_utf8(text).unwrap()).concat();
        assert!(!text.contains('\u{1b}'), "colour in a pipe: {text}");
        (output.status.code().unwrap(), text)
    }

    /// The same as a client with this secret, at the site's server.
    pub(crate) async fn told_as(&self, (id, secret): (&str, &str), args: &[&str]) -> (i32, String) {
        let server = ["--issuer", &self.issuer, "--client-id", id, "--client-secret-env", "SECRET"];
        self.told_with(("SECRET", secret), &[args, &server[..]].concat()).await
    }

    /// The same with one variable in its environment.
    pub(crate) async fn told_with(&self, (name, value): (&str, &str), args: &[&str]) -> (i32, String) {
        let mut command = self.command(args, Stdio::piped());
        command.env(name, value);
        let output = tokio::task::spawn_blocking(move || command.output().unwrap()).await.unwrap();
        let text = [output.stdout, output.stderr].map(|text| String::from_utf8(text).unwrap()).concat();
        (output.status.code().unwrap(), text)
    }

    /// Exchanges a session token of the site's provider with these claims more, as a client with this secret.
    pub(crate) async fn start_task(
        &self,
        (id, secret): (&str, &str),
        claims: Value,
        form: &[(&str, &str)],
    ) -> Value {
        let now = SystemClock.now().timestamp();
        let base = json!({
            "iss": self.idp.issuer, "sub": "alice", "aud": self.issuer, "azp": "console", "iat": now, "exp": now + 600,
        });
        let session = self.idp.sign("at+jwt", &bend(base, claims));
        self.exchange_session((id, secret), &session, form).await
    }

    /// Exchanges a session token as a client with this secret.
    pub(crate) async fn exchange_session(
        &self,
        (id, secret): (&str, &str),
        session: &str,
        form: &[(&str, &str)],
    ) -> Value {
        let base = [
            ("grant_type", TOKEN_EXCHANGE),
            ("subject_token", session),
            ("subject_token_type", ACCESS_TOKEN),
        ];
        let request = http().post(format!("{}/oauth/token", self.issuer)).basic_auth(id, Some(secret));
        let request = request.header("content-type", "application/x-www-form-urlencoded");
        let answer = request.body(encode(&[&base[..], form].concat())).send().await.unwrap();
        serde_json::from_slice(&answer.bytes().await.unwrap()).unwrap()
    }

    /// Applies the objects by `taskgrant apply`, and returns what it printed.
    pub(crate) async fn apply(&self) -> String {
        let output = self.run(&["apply", "-f", "objects.yaml", "--allow-widening"]).await;
        assert!(output.status.success(), "{output:?}");
        String::from_utf8(output.stdout).unwrap()
    }

    fn command(&self, args: &[&str], stderr: impl Into<Stdio>) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_taskgrant"));
        // No variable of the machine may override the file.
        command.args(args).current_dir(self.root.path()).env_clear();
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(stderr);
        command
    }

    fn log_file(&self) -> PathBuf {
        self.root.path().join("server.log")
    }
}

/// A running server. Dropping it kills it.
pub(crate) struct Process {
    child: Child,
}

impl Process {
    /// Its process id.
    pub(crate) fn id(&self) -> u32 {
        self.child.id()
    }

    /// Sends SIGHUP.
    pub(crate) fn hang_up(&self) {
        let signal = format!("kill -HUP {}", self.child.id());
        assert!(Command::new("/bin/sh").args(["-c", &signal]).status().unwrap().success());
    }

    /// `kill -9`, and waits until it is gone.
    pub(crate) fn kill(mut self) {
        assert!(self.child.try_wait().unwrap().is_none(), "it ended by itself");
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }

    /// Sends a signal: `HUP`, `TERM`.
    pub(crate) fn signal(&self, name: &str) {
        // `kill` is part of every shell; a program of that name is not on every machine.
        let signal = format!("kill -{name} {}", self.child.id());
        assert!(Command::new("/bin/sh").args(["-c", &signal]).status().unwrap().success());
    }

    /// SIGTERM, and waits for the orderly end.
    pub(crate) async fn terminate(mut self) -> ExitStatus {
        self.signal("TERM");
        let began = Instant::now();
        loop {
            if let Some(status) = self.child.try_wait().unwrap() {
                return status;
            }
            assert!(began.elapsed() < END, "it did not end after SIGTERM");
            sleep(Duration::from_millis(10)).await;
        }
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A port below those that systems give out by themselves: nobody takes it while no server runs.
pub(crate) fn free_port() -> u16 {
    loop {
        let port = 20_000 + u16::from_be_bytes(Random::default().bytes()) % 12_000;
        if TcpListener::bind(("127.0.0.1", port)).is_ok() {
            return port;
        }
    }
}
