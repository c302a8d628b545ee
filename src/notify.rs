//! People are told that something waits for them: signed messages to the channels of the configuration, tried again until they
//! arrive or nobody can answer any more.
//!
//! A message may come twice, after a restart or from a replica that did not hear of the first: its `webhook-id` is then the
//! same. It tells what is asked and where to look; it carries no token, no code, and nothing that the agent says of itself.

mod message;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use chrono::{DateTime, Utc};
use tokio::sync::Semaphore;
use tracing::{info, warn};

use crate::clock::Clock;
use crate::config::{Channel, Channels, ConfigFault};
use crate::domain::approval::Approval;
use crate::domain::snapshot::Snapshot;
use crate::issuers::outbound::Outbound;
use crate::metrics::Metrics;
use message::Message;

/// Most messages that wait to be sent, or to be sent again.
const MOST: usize = 1000;
/// Most that are sent at once.
const AT_ONCE: usize = 8;
/// Pauses before the next try; the last one is repeated.
const PAUSES: [Duration; 5] = [
    Duration::from_secs(5),
    Duration::from_secs(30),
    Duration::from_mins(2),
    Duration::from_mins(10),
    Duration::from_mins(30),
];

/// Tells people. Cheap to clone.
#[derive(Clone)]
pub struct Notifier(Arc<Parts>);

struct Parts {
    channels: BTreeMap<String, Channel>,
    outbound: Outbound,
    clock: Arc<dyn Clock>,
    metrics: Arc<Metrics>,
    waiting: Arc<Semaphore>,
    sending: Semaphore,
}

impl Notifier {
    /// With the channels of a configuration, whose secrets are read now.
    pub fn new(
        channels: &Channels,
        outbound: Outbound,
        clock: Arc<dyn Clock>,
        metrics: Arc<Metrics>,
    ) -> Result<Self, ConfigFault> {
        let open = channels.iter().map(|(name, config)| Ok((name.clone(), config.open(name)?)));
        let channels = open.collect::<Result<_, ConfigFault>>()?;
        let (waiting, sending) = (Arc::new(Semaphore::new(MOST)), Semaphore::new(AT_ONCE));
        Ok(Self(Arc::new(Parts { channels, outbound, clock, metrics, waiting, sending })))
    }

    /// Something waits: the channel of its task type in force is told, in the background.
    pub fn asked(&self, snapshot: &Snapshot, approval: &Approval) {
        let name = approval.task_type_name();
        let task_type = name.and_then(|name| snapshot.task_type(&approval.tenant, &name));
        let Some(channel) = task_type.and_then(|task_type| task_type.spec.approval.notify.clone()) else {
            return;
        };
        let Some(to) = self.0.channels.get(&channel) else {
            warn!(channel, approval_id = %approval.id, "no such channel under `notify`: nobody is told");
            return self.0.metrics.notified("unconfigured");
        };
        let Ok(permit) = self.0.waiting.clone().try_acquire_owned() else {
            warn!(channel, approval_id = %approval.id, "too many messages wait to be sent: this one is dropped");
            return self.0.metrics.notified("dropped");
        };
        let message = Message::new(approval, to);
        let notifier = self.clone();
        let until = approval.expires_at;
        tokio::spawn(async move {
            notifier.deliver(&channel, &message, until).await;
            drop(permit);
        });
    }

    /// Sends until it arrives, or nobody can answer any more.
    async fn deliver(&self, channel: &str, message: &Message, until: DateTime<Utc>) {
        let approval_id = message.id();
        let Some(to) = self.0.channels.get(channel) else { return };
        let last = PAUSES.last().copied().unwrap_or_default();
        for pause in PAUSES.into_iter().chain(std::iter::repeat(last)) {
            let now = self.0.clock.now();
            if now >= until {
                warn!(channel, approval_id, "nobody could be told before the approval expired");
                return self.0.metrics.notified("given_up");
            }
            let sent = match self.0.sending.acquire().await {
                Ok(_turn) => {
                    self.0.outbound.post(&to.url, &message.headers(&to.secret, now), message.body()).await
                }
                Err(_) => return,
            };
            match sent {
                Ok(()) => {
                    info!(channel, approval_id, "people are told");
                    return self.0.metrics.notified("sent");
                }
                Err(fault) => {
                    warn!(channel, approval_id, %fault, "people could not be told: it is tried again");
                    self.0.metrics.notified("failed");
                }
            }
            tokio::time::sleep(pause).await;
        }
    }
}
