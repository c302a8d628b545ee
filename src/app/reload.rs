//! What changes without a restart: `[limits]` of the configuration, but for `writer_queue`, the policy, the signing keys, and the TLS files.

use std::path::PathBuf;
use std::sync::Arc;

use tracing::{error, info, warn};

use super::tls::Tls;
use crate::config::Config;
use crate::configuration::apply::Configuration;
use crate::limits::Limits;
use crate::rotation::{BY_ITSELF, Rotation};

/// Re-reads the configuration file, the policy folders and the signing keys, and puts in force what may change while the server runs.
pub struct Reload {
    file: PathBuf,
    started_with: Config,
    limits: Arc<Limits>,
    policy: Configuration,
    rotation: Rotation,
    tls: Option<Arc<Tls>>,
}

impl Reload {
    pub(super) fn new(
        file: PathBuf,
        started_with: Config,
        limits: Arc<Limits>,
        policy: Configuration,
        (rotation, tls): (Rotation, Option<Arc<Tls>>),
    ) -> Self {
        Self { file, started_with, limits, policy, rotation, tls }
    }

    /// Reads file, environment, policy folders and signing keys again. What is faulty changes nothing, each part for itself; the log
    /// tells either way.
    pub async fn run(&self) {
        self.configuration();
        if let Some(tls) = &self.tls {
            tls.reload();
        }
        let folders = self.started_with.policy.bundles.clone();
        if let Err(fault) = self.policy.reload_policy(folders, "SIGHUP").await {
            error!(%fault, "the policy was not reloaded");
        }
        if let Err(fault) = self.rotation.reload(BY_ITSELF).await {
            error!(%fault, "the signing keys were not reloaded");
        }
    }

    fn configuration(&self) {
        let config = match Config::read(&self.file) {
            Ok(config) => config,
            Err(fault) => {
                return error!(%fault, "the configuration was not reloaded; what was in force stays");
            }
        };
        if !self.covers(&config) {
            warn!("keys outside of [limits], or limits.writer_queue, have changed: they take a restart");
        }
        self.limits.replace(config.limits);
        info!("limits reloaded");
    }

    /// Whether `config` differs from what the server started with only in what a reload changes.
    fn covers(&self, config: &Config) -> bool {
        let same = Config { limits: config.limits.clone(), ..self.started_with.clone() };
        same == *config && config.limits.writer_queue == self.started_with.limits.writer_queue
    }
}
