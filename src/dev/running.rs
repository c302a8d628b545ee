//! A running demo: started in the one order that leaves nothing half, and stopped again.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::oneshot;
use tokio::task::JoinHandle;

use super::fault::DevFault;
use super::file::{self, DevFile};
use super::place::{Place, full_path};
use super::provider::Provider;
use super::{Args, objects, shell};
use crate::admin::client::AdminClient;
use crate::app::{App, StartFault};
use crate::clock::{Clock, Random};
use crate::terminal::http::Http;
use crate::terminal::output::Output;

/// How often the server is asked whether it is ready, and how long between two questions.
const ATTEMPTS: u32 = 200;
const PAUSE: Duration = Duration::from_millis(50);

/// A demo that serves. Dropping it ends the server without waiting; [`Running::stop`] waits.
pub struct Running {
    file: DevFile,
    path: PathBuf,
    data: PathBuf,
    chose_port: bool,
    new: bool,
    stop: oneshot::Sender<()>,
    task: JoinHandle<Result<(), StartFault>>,
}

impl Running {
    /// Starts the demo: `dev.json` and `dev.env` go first and come last, when all listeners accept and the demo provider's keys
    /// are known, so that whoever finds it can use all it names.
    pub async fn start(args: &Args, clock: Arc<dyn Clock>) -> Result<Self, DevFault> {
        let mut place = Place::take(args).await?;
        file::remove(&args.data)?;
        place.secrets.complete(&Random::default());
        place.secrets.save(&args.data)?;
        let (public_url, config) = (place.public_url(), place.furnish(&args.data)?);
        let socket = full_path(&config.admin_socket());
        let app = App::build(config, clock.clone()).await?;
        let configuration = app.configuration();
        let new = objects::apply(&configuration, &public_url, &mut place.secrets).await?;
        place.secrets.save(&args.data)?;
        let declared = configuration.objects().await?;
        let file = DevFile::describe(&public_url, socket, &place.secrets, &declared);
        // The configuration holds the writer, which ends with its last holder.
        drop(configuration);
        let provider = Provider::open(&args.data, &public_url, place.secrets, clock)?;
        let (stop, stopped) = oneshot::channel::<()>();
        let task =
            tokio::spawn(app.serve_with(place.listener, provider.router(), async { drop(stopped.await) }));
        let (path, data, chose_port) = (PathBuf::new(), args.data.clone(), place.other_port);
        let mut running = Self { file, path, data, chose_port, new, stop, task };
        if let Err(fault) = running.until_ready().await {
            // Where the server has ended, its own fault is the one to tell.
            running.stop().await?;
            return Err(fault);
        }
        shell::save(&running.file, &running.data)?;
        running.path = running.file.save(&running.data)?;
        Ok(running)
    }

    /// What `dev.json` says.
    pub fn file(&self) -> &DevFile {
        &self.file
    }

    /// Where `dev.json` is.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Whether the demo's objects were applied at this start.
    pub fn is_new(&self) -> bool {
        self.new
    }

    /// Whether the usual port was taken, so that the system chose another.
    pub fn chose_port(&self) -> bool {
        self.chose_port
    }

    /// Plays the tour; tells how many of its steps ended otherwise than they should. `program` is this program as a
    /// shell calls it.
    pub async fn tour(&self, program: &str, output: &mut Output<'_>) -> Result<usize, DevFault> {
        let data = self.data.display().to_string();
        let guide = super::tour::Guide { demo: &self.file, program, data: &data, colour: false };
        Ok(guide.play(output).await?)
    }

    /// Stops as SIGTERM would: `dev.json` goes, what is under way is answered, what was decided is committed.
    pub async fn stop(self) -> Result<(), DevFault> {
        file::remove(&self.data)?;
        drop(self.stop);
        self.task.await.map_err(|why| DevFault::Ended(why.to_string()))?.map_err(DevFault::from)
    }

    /// Waits until the server has ended by itself, which it should not; [`Running::stop`] then tells why.
    pub(super) async fn ended(&self) {
        while !self.task.is_finished() {
            tokio::time::sleep(PAUSE).await;
        }
    }

    async fn until_ready(&self) -> Result<(), DevFault> {
        let http = Http::new()?;
        for _ in 0..ATTEMPTS {
            if self.task.is_finished() {
                break;
            }
            if self.knows_the_provider(&http).await {
                return Ok(());
            }
            tokio::time::sleep(PAUSE).await;
        }
        Err(DevFault::NotReady(self.file.issuer.clone()))
    }

    /// Whether the server is ready, and session tokens of the demo provider can be verified. Other issuers may fail.
    async fn knows_the_provider(&self, http: &Http) -> bool {
        let ready = http.get(&format!("{}/readyz", self.file.issuer)).await;
        let Ok(Some(admin)) = AdminClient::find(&self.file.admin.socket).await else { return false };
        let Ok(Ok(status)) = admin.status().await else { return false };
        let provider = &self.file.identity_provider.issuer;
        let known = status.key_sets.iter().any(|set| set.issuer == *provider && set.ok);
        known && ready.is_ok_and(|answer| answer.status == 200)
    }
}
