//! `taskgrant serve`: the server, from a configuration file.

use std::io;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;

use tokio::signal::unix::{Signal, SignalKind, signal};
use tracing::error;

use crate::app::reload::Reload;
use crate::app::{App, StartFault};
use crate::clock::SystemClock;
use crate::config::{Config, LogConfig, LogFormat};
use crate::terminal::output::colour_of_log;

/// Arguments of `serve`.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// The configuration file; `TASKGRANT_…` variables override it.
    #[arg(long, default_value = "taskgrant.toml")]
    config: PathBuf,
    /// How logs are written, instead of `log.format`.
    #[arg(long)]
    log_format: Option<LogFormat>,
}

/// Runs the server until SIGTERM or Ctrl-C.
pub(super) fn run(args: &Args) -> ExitCode {
    let with_format = |log: LogConfig| LogConfig { format: args.log_format.unwrap_or(log.format), ..log };
    let config = match Config::read(&args.config) {
        Ok(config) => config,
        Err(fault) => {
            start_logging(&with_format(LogConfig::default()));
            error!("{fault}");
            return ExitCode::from(2);
        }
    };
    start_logging(&with_format(config.log.clone()));
    block_on(serve(&args.config, config))
}

/// Runs `work` on the multi-threaded runtime; a start fault is logged and is exit code 1.
pub(crate) fn block_on(work: impl Future<Output = Result<(), StartFault>>) -> ExitCode {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build();
    let ended =
        runtime.map_err(|e| e.to_string()).and_then(|rt| rt.block_on(work).map_err(|e| e.to_string()));
    match ended {
        Ok(()) => ExitCode::SUCCESS,
        Err(fault) => {
            error!("{fault}");
            ExitCode::FAILURE
        }
    }
}

async fn serve(file: &Path, config: Config) -> Result<(), StartFault> {
    // From the first moment: unheard, the signal would end the process.
    let hangups = signal(SignalKind::hangup());
    let app = App::build(config, Arc::new(SystemClock)).await?;
    let listener = app.listen()?;
    let reloads = tokio::spawn(on_hangup(hangups, app.reload(file)));
    let stop = async move {
        stopped().await;
        // It holds the writer, which is to end.
        reloads.abort();
    };
    app.serve(listener, stop).await
}

/// Reloads at each SIGHUP.
async fn on_hangup(hangups: io::Result<Signal>, reload: Reload) {
    let Ok(mut hangups) = hangups else { return };
    while hangups.recv().await.is_some() {
        reload.run().await;
    }
}

/// Waits for SIGTERM or Ctrl-C.
pub(crate) async fn stopped() {
    let terminated = async {
        match signal(SignalKind::terminate()) {
            Ok(mut signal) => drop(signal.recv().await),
            Err(_) => std::future::pending().await,
        }
    };
    tokio::select! {
        () = terminated => {}
        _ = tokio::signal::ctrl_c() => {}
    }
}

/// Starts structured logs on standard error: constant messages, facts as fields, never a secret.
pub(crate) fn start_logging(config: &LogConfig) {
    let filter = tracing_subscriber::EnvFilter::try_new(&config.level).unwrap_or_default();
    let logs = tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr);
    let logs = logs.with_ansi(colour_of_log());
    // A second start in one process (tests) keeps the first.
    let _ = match config.format {
        LogFormat::Text => logs.try_init(),
        LogFormat::Json => logs.json().try_init(),
    };
    // The place of a panic, and not its words: they may quote what was sent.
    std::panic::set_hook(Box::new(|panic| {
        let location = panic.location().map(ToString::to_string).unwrap_or_default();
        error!(location, "panicked");
    }));
}
