//! Where a demo lives: its data folder, the address that belongs to it, and the configuration made for both.

use std::net::{IpAddr, SocketAddr};
use std::path::{Path, PathBuf};

use serde_json::json;
use tokio::net::TcpListener;

use super::fault::DevFault;
use super::secrets::Secrets;
use super::{Args, policies, private};
use crate::config::Config;

/// The port of a new data folder, if it is free.
const PORT: u16 = 8080;

/// The port of the admin API, if it is free.
const ADMIN_PORT: u16 = 8444;

/// The configuration as a file, for the commands that want one: `taskgrant apply --config …`.
const CONFIG: &str = "taskgrant.toml";

/// A data folder with its address, bound.
pub(super) struct Place {
    pub(super) listener: TcpListener,
    /// Where the admin API is to listen.
    admin: SocketAddr,
    pub(super) secrets: Secrets,
    /// Whether the usual port was taken, so that the system chose another.
    pub(super) other_port: bool,
}

impl Place {
    /// Binds the address that belongs to the folder, or for a new folder the one asked for.
    ///
    /// Issuer, tokens and stored objects name the address, so another one is refused, not adopted.
    pub(super) async fn take(args: &Args) -> Result<Self, DevFault> {
        if !args.host.is_loopback() {
            return Err(DevFault::NotLoopback(args.host));
        }
        let folder = |action| move |why| DevFault::File { action, path: args.data.clone(), why };
        private::make_folder(&args.data).map_err(folder("make"))?;
        let (listener, mut secrets, other_port) = match Secrets::load(&args.data)? {
            Some(secrets) => (Self::known(args, &secrets).await?, secrets, false),
            None => Self::fresh(args).await?,
        };
        let usual = if args.port == Some(0) { 0 } else { ADMIN_PORT };
        let admin = free(args.host, secrets.admin.map_or(usual, |at| at.port())).await?;
        secrets.admin = Some(admin);
        Ok(Self { listener, admin, secrets, other_port })
    }

    async fn known(args: &Args, secrets: &Secrets) -> Result<TcpListener, DevFault> {
        let stored = secrets.listen;
        let port = args.port.filter(|port| *port != 0).unwrap_or(stored.port());
        let asked = SocketAddr::new(args.host, port);
        if asked != stored {
            return Err(DevFault::OtherAddress { data: args.data.clone(), stored, asked });
        }
        let remedy = "is a `taskgrant dev` running on this data folder already? Stop it, or use another folder with --data";
        bind(stored, remedy).await
    }

    async fn fresh(args: &Args) -> Result<(TcpListener, Secrets, bool), DevFault> {
        let remedy = "choose another port with --port";
        let usual = bind(SocketAddr::new(args.host, args.port.unwrap_or(PORT)), remedy).await;
        let other_port = usual.is_err() && args.port.is_none();
        let listener = if other_port { bind(SocketAddr::new(args.host, 0), remedy).await? } else { usual? };
        let listen = listener.local_addr().map_err(|why| DevFault::Listen {
            at: SocketAddr::new(args.host, 0),
            why,
            remedy,
        })?;
        Ok((listener, Secrets::new(listen), other_port))
    }

    /// The server's URL, its `iss`.
    pub(super) fn public_url(&self) -> String {
        format!("http://{}", self.secrets.listen)
    }

    /// Fills the folder with all but the database, and gives the configuration to serve it with.
    pub(super) fn furnish(&self, data: &Path) -> Result<Config, DevFault> {
        let full = full_path(data);
        let config = self.config(&full, &policies::unpack(&full)?);
        let write = |name: &str, text: &str| {
            let path = data.join(name);
            private::write(&path, text).map_err(|why| DevFault::File { action: "write", path, why })
        };
        // Wherever the folder lies, no version control shall take its secrets along.
        write(".gitignore", "*\n")?;
        write(CONFIG, &config)?;
        // A path as the user gave it is often the shorter one, and that of a Unix socket may not be long.
        Ok(Config { data: data.to_owned(), ..Config::from_toml(&config)? })
    }

    fn config(&self, data: &Path, bundles: &[PathBuf]) -> String {
        // JSON texts and arrays of them are TOML too.
        format!(
            "# Written by `taskgrant dev` at each start: what it serves with, for commands that take --config.\n\
             public_url = {}\nlisten = {}\ndata = {}\nenvironment = \"dev\"\n\n\
             [policy]\nbundles = {}\n\n[admin]\nlisten = {}\npublic_url = {}\n\n[outbound]\nallow_http_loopback = true\n",
            json!(self.public_url()),
            json!(self.secrets.listen),
            json!(data),
            json!(bundles),
            json!(self.admin),
            json!(admin_url(self.admin))
        )
    }
}

/// URL of the admin API that listens at `at`.
pub(super) fn admin_url(at: SocketAddr) -> String {
    format!("http://{at}")
}

/// `path` as it is from everywhere.
pub(super) fn full_path(path: &Path) -> PathBuf {
    std::path::absolute(path).unwrap_or_else(|_| path.to_owned())
}

async fn bind(at: SocketAddr, remedy: &'static str) -> Result<TcpListener, DevFault> {
    TcpListener::bind(at).await.map_err(|why| DevFault::Listen { at, why, remedy })
}

/// An address of `host` that nobody listens at: with this port, if it is free. The server binds it itself, a moment later.
async fn free(host: IpAddr, port: u16) -> Result<SocketAddr, DevFault> {
    let remedy = "end a program that listens on this machine";
    let listener = match bind(SocketAddr::new(host, port), remedy).await {
        Ok(listener) => listener,
        Err(_) => bind(SocketAddr::new(host, 0), remedy).await?,
    };
    listener.local_addr().map_err(|why| DevFault::Listen { at: SocketAddr::new(host, port), why, remedy })
}

/// The address that `dev` listens at.
pub(super) const LOCALHOST: IpAddr = IpAddr::V4(std::net::Ipv4Addr::LOCALHOST);

#[cfg(test)]
mod tests {
    use super::*;

    fn args(data: &Path, port: Option<u16>) -> Args {
        Args { data: data.to_owned(), port, host: LOCALHOST, no_tour: true, tour_only: false }
    }

    #[tokio::test]
    async fn a_folder_keeps_its_address_and_refuses_another_with_the_remedy() {
        let folder = tempfile::tempdir().unwrap();
        let place = Place::take(&args(folder.path(), Some(0))).await.unwrap();
        let port = place.secrets.listen.port();
        place.secrets.save(folder.path()).unwrap();
        let taken = Place::take(&args(folder.path(), None)).await.map(drop).unwrap_err().to_string();
        assert!(taken.contains("running on this data folder"), "{taken}");
        drop(place);

        for same in [None, Some(0), Some(port)] {
            let again = Place::take(&args(folder.path(), same)).await.unwrap();
            assert_eq!(again.secrets.listen.port(), port);
            assert_ne!(again.admin.port(), port);
        }
        let other =
            Place::take(&args(folder.path(), Some(port ^ 1))).await.map(drop).unwrap_err().to_string();
        assert!(other.contains(&format!("use --port {port}")) && other.contains("--data"), "{other}");
    }

    #[tokio::test]
    async fn the_admin_api_goes_where_it_was_unless_somebody_else_is_there() {
        let folder = tempfile::tempdir().unwrap();
        let first = Place::take(&args(folder.path(), Some(0))).await.unwrap();
        first.secrets.save(folder.path()).unwrap();
        let Place { listener, admin, .. } = first;
        drop(listener);
        let taken = TcpListener::bind(admin).await.unwrap();
        let moved = Place::take(&args(folder.path(), None)).await.unwrap();
        assert_ne!(moved.admin, admin);
        drop((taken, moved));
        assert_eq!(Place::take(&args(folder.path(), None)).await.unwrap().admin, admin);
    }

    #[tokio::test]
    async fn beyond_loopback_it_does_not_listen() {
        let folder = tempfile::tempdir().unwrap();
        for host in ["0.0.0.0", "192.0.2.1", "::"] {
            let args = Args { host: host.parse().unwrap(), ..args(folder.path(), Some(0)) };
            assert!(matches!(Place::take(&args).await, Err(DevFault::NotLoopback(_))), "{host}");
        }
    }

    #[tokio::test]
    async fn the_folder_is_furnished_and_its_configuration_reads_back() {
        let folder = tempfile::tempdir().unwrap();
        let place = Place::take(&args(folder.path(), Some(0))).await.unwrap();
        let config = place.furnish(folder.path()).unwrap();
        assert_eq!(config.public_url, place.public_url());
        assert_eq!(config.admin.listen, Some(place.admin));
        assert_eq!(config.admin.public_url, Some(admin_url(place.admin)));
        assert_eq!(config, Config::read(&folder.path().join(CONFIG)).unwrap());
        assert_eq!(std::fs::read_to_string(folder.path().join(".gitignore")).unwrap(), "*\n");
    }
}
