//! What changes without a restart: `[limits]` of the configuration, but for `writer_queue`.

use std::path::PathBuf;
use std::sync::Arc;

use tracing::{error, info, warn};

use crate::config::{Config, ConfigFault};
use crate::limits::Limits;

/// Re-reads the configuration file, and puts in force what may change while the server runs.
pub struct Reload {
    file: PathBuf,
    started_with: Config,
    limits: Arc<Limits>,
}

impl Reload {
    pub(super) fn new(file: PathBuf, started_with: Config, limits: Arc<Limits>) -> Self {
        Self { file, started_with, limits }
    }

    /// Reads the file and the environment again. A fault changes nothing; the log tells either way.
    pub fn run(&self) -> Result<(), ConfigFault> {
        let config = Config::read(&self.file).inspect_err(
            |fault| error!(%fault, "the configuration was not reloaded; what was in force stays"),
        )?;
        if !self.covers(&config) {
            warn!("keys outside of [limits], or limits.writer_queue, have changed: they take a restart");
        }
        self.limits.replace(config.limits);
        info!("limits reloaded");
        Ok(())
    }

    /// Whether `config` differs from what the server started with only in what a reload changes.
    fn covers(&self, config: &Config) -> bool {
        let same = Config { limits: config.limits.clone(), ..self.started_with.clone() };
        same == *config && config.limits.writer_queue == self.started_with.limits.writer_queue
    }
}
