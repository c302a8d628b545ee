//! The parts of a server that are made from its configuration alone.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;

use chrono::TimeDelta;
use rustix::system::uname;
use tokio::net::{TcpListener, TcpSocket};
use tokio::task::JoinHandle;

use super::fault::StartFault;
use super::tls::{Tls, TlsFault};
use crate::clock::{Clock, Random};
use crate::config::Config;
use crate::configuration::apply::replicas::Replica;
use crate::domain::ids::shown;
use crate::issuers::keyset::Freshness;
use crate::issuers::keysets::KeySets;
use crate::issuers::outbound::{Outbound, OutboundPolicy};
use crate::metrics::Metrics;
use crate::notify::Notifier;
use crate::store::Store;
use crate::store::writer::{self, Writer};

/// How long policy inputs are kept for replay.
const KEEP_INPUTS: TimeDelta = TimeDelta::days(30);
/// Connections that wait to be accepted; the system may allow fewer (`net.core.somaxconn`). Beyond it a caller has to try again
/// after a second, and then after more: an honest one shall not, because many others came at once.
const BACKLOG: u32 = 4096;

pub(super) fn tls_of(config: &Config) -> Result<Option<Arc<Tls>>, TlsFault> {
    let Some((cert, key)) = config.tls.files() else { return Ok(None) };
    let asks = config.tls.client_certificates;
    Ok(Some(Arc::new(Tls::load(cert.to_owned(), key.to_owned(), asks)?)))
}

/// What reaches out: for the keys of trusted issuers, and to tell people that something waits for them.
pub(super) fn outward_of(
    config: &Config,
    clock: &Arc<dyn Clock>,
    metrics: &Arc<Metrics>,
) -> Result<(Arc<KeySets>, Notifier), StartFault> {
    let outbound = Outbound::new(OutboundPolicy {
        allow_private: config.outbound.allow_private.clone(),
        allow_http_loopback: config.outbound.allow_http_loopback,
    })?;
    let notifier = Notifier::new(&config.notify, outbound.clone(), clock.clone(), metrics.clone())?;
    let key_sets = KeySets::start(outbound, Freshness::default(), clock.clone(), metrics.clone());
    Ok((Arc::new(key_sets), notifier))
}

pub(super) fn writer_of(
    config: &Config,
    store: &Store,
    clock: &Arc<dyn Clock>,
    metrics: &Arc<Metrics>,
) -> (Writer, JoinHandle<()>) {
    let settings = writer::Settings {
        keep_inputs: KEEP_INPUTS,
        most: config.limits.writer_queue,
        metrics: metrics.clone(),
    };
    Writer::spawn_with(store, clock.clone(), settings)
}

/// This process among the servers of its deployment: host and port name it, also after a restart. Where those of two are the same,
/// as in containers, an id of its own tells them apart.
pub(super) fn replica_of(listener: &TcpListener, random: &Random, clock: &Arc<dyn Clock>) -> Replica {
    let system = uname();
    let host = shown(&system.nodename().to_string_lossy());
    let name = match listener.local_addr() {
        Ok(at) => format!("{host}:{}", at.port()),
        Err(_) => host,
    };
    Replica { id: hex::encode(random.bytes::<8>()), name, started_at: clock.now() }
}

pub(super) fn bind(at: SocketAddr) -> Result<TcpListener, StartFault> {
    listener(at).map_err(|source| StartFault::Listen { at: at.to_string(), source })
}

fn listener(at: SocketAddr) -> io::Result<TcpListener> {
    let socket = if at.is_ipv4() { TcpSocket::new_v4()? } else { TcpSocket::new_v6()? };
    // A port that is free again since a moment, as after a restart, is taken.
    socket.set_reuseaddr(true)?;
    socket.bind(at)?;
    socket.listen(BACKLOG)
}

#[cfg(test)]
mod tests {
    use std::net::TcpStream;
    use std::time::Duration;

    use super::*;

    #[tokio::test]
    async fn hundreds_may_come_at_once_before_any_is_accepted() {
        let listener = listener("127.0.0.1:0".parse().unwrap()).unwrap();
        let at = listener.local_addr().unwrap();
        let connect = |_| TcpStream::connect_timeout(&at, Duration::from_secs(10)).expect("has to wait");
        let open: Vec<TcpStream> = (0..500).map(connect).collect();
        assert_eq!(open.len(), 500);
    }
}
