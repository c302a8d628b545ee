//! What one exchange costs: F (the signature arithmetic), V (a naive server), X (the whole), as
//! `docs/reference/performance.md` defines them and tells how to run this. Linux only; nothing leaves loopback.
//!
//! `cargo bench --bench exchange` measures in process, `-- policy` only judgements, `-- replay [DECISIONS]` only replay,
//! `-- growth [LIVE]` only how it grows, `-- load` servers over HTTP.

mod drive;
mod growth;
mod load;
mod micro;
mod naive;
mod policy;
mod replay;
mod world;

use std::process::ExitCode;

use mimalloc::MiMalloc;
use world::{Idp, Outcome};

/// The binary's own, so that what is measured in process is what it does.
#[global_allocator]
static ALLOCATOR: MiMalloc = MiMalloc;

/// Live tokens of the larger world, unless told otherwise.
const LIVE: usize = 1_000_000;
/// Decisions that are replayed, unless told otherwise.
const DECISIONS: usize = 100_000;

fn main() -> ExitCode {
    // Cargo adds `--bench`.
    let args: Vec<String> = std::env::args().skip(1).filter(|arg| arg != "--bench").collect();
    match run(&args) {
        Ok(()) => ExitCode::SUCCESS,
        Err(why) => {
            let _ = std::io::Write::write_all(&mut std::io::stderr(), format!("{why}\n").as_bytes());
            ExitCode::FAILURE
        }
    }
}

fn run(args: &[String]) -> Outcome<()> {
    let out = &mut std::io::stdout();
    match args {
        [] => one_thread()?.block_on(async {
            let idp = Idp::start().await?;
            micro::run(out, &idp).await?;
            policy::run(out, &idp).await?;
            replay::run(out, &idp, DECISIONS).await?;
            growth::run(out, &idp, LIVE).await
        }),
        [policy] if policy == "policy" => one_thread()?.block_on(async {
            policy::run(out, &Idp::start().await?).await //
        }),
        [replay, rest @ ..] if replay == "replay" && rest.len() < 2 => one_thread()?.block_on(async {
            let decisions = rest.first().map_or(Ok(DECISIONS), |decisions| decisions.parse())?;
            replay::run(out, &Idp::start().await?, decisions).await
        }),
        [growth, rest @ ..] if growth == "growth" && rest.len() < 2 => one_thread()?.block_on(async {
            let live = rest.first().map_or(Ok(LIVE), |live| live.parse())?;
            growth::run(out, &Idp::start().await?, live).await
        }),
        [load] if load == "load" => one_thread()?.block_on(load::run(out)),
        [naive, rest @ ..] if naive == "naive" => {
            tokio::runtime::Runtime::new()?.block_on(load::serve_naive(rest))
        }
        _ => Err("usage: exchange [policy | replay [DECISIONS] | growth [LIVE-TOKENS] | load]".into()),
    }
}

fn one_thread() -> Outcome<tokio::runtime::Runtime> {
    rustls::crypto::ring::default_provider().install_default().ok();
    Ok(tokio::runtime::Builder::new_current_thread().enable_all().build()?)
}
