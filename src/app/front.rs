//! The public listener: accepts, bounds and ends connections. `axum::serve` bounds neither their number nor their time.

use std::io;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use hyper_util::server::graceful::{GracefulShutdown, Watcher};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;
use tokio_rustls::TlsAcceptor;
use tower::ServiceExt as _;
use tracing::{debug, warn};

use super::connections::{Connections, Entry};
use super::tls::Tls;
use crate::http::link::{Busy, Link, Patience};
use crate::keys::certificate::Chain;
use crate::limits::Limits;
use crate::metrics::Metrics;

/// Largest head of a request, in bytes; hyper answers a larger one with 431 and closes the connection.
const MAX_HEAD: usize = 16 * 1024;
/// How often connections are looked at that keep us waiting.
const SWEEP: Duration = Duration::from_millis(500);
/// Pause when there is no room for one more connection, since we work for all of them.
const NO_ROOM: Duration = Duration::from_millis(5);
/// Pause when the system refuses to accept, which it does where file descriptors run out.
const CANNOT_ACCEPT: Duration = Duration::from_millis(50);

/// The public listener.
pub(super) struct Front {
    pub(super) router: Router,
    pub(super) limits: Arc<Limits>,
    pub(super) connections: Arc<Connections>,
    pub(super) metrics: Arc<Metrics>,
    /// None for plain HTTP.
    pub(super) tls: Option<Arc<Tls>>,
}

impl Front {
    /// Serves until `stop`, then accepts no more, and answers what is under way for at most `drain`. What is under way
    /// after that is cut off; tells whether nothing was.
    pub(super) async fn serve(
        self,
        listener: TcpListener,
        stop: impl Future<Output = ()> + Send,
        drain: Duration,
    ) -> bool {
        let graceful = GracefulShutdown::new();
        let mut tasks = JoinSet::new();
        let mut stop = pin!(stop);
        let mut sweeps = tokio::time::interval(SWEEP);
        loop {
            tokio::select! {
                () = &mut stop => break,
                _ = sweeps.tick() => self.sweep(),
                Some(_) = tasks.join_next() => {}
                accepted = listener.accept() => match accepted {
                    Ok((stream, peer)) => {
                        self.make_room().await;
                        let entry = self.connections.enter(peer);
                        let tls = self.tls.as_ref().map(|tls| tls.acceptor());
                        tasks.spawn(hold(stream, entry, tls, (self.router.clone(), graceful.watcher())));
                    }
                    Err(error) => self.cannot_accept(&error).await,
                },
            }
        }
        drop(listener);
        let mut done = pin!(tokio::time::timeout(drain, graceful.shutdown()));
        let in_time = loop {
            tokio::select! {
                ended = &mut done => break ended.is_ok(),
                _ = sweeps.tick() => self.sweep(),
            }
        };
        tasks.shutdown().await;
        in_time
    }

    /// Waits until there is room for one more connection; where we do not work for all of them, somebody gives way.
    async fn make_room(&self) {
        while self.connections.len() >= self.limits.config().connections {
            if self.connections.evict() {
                self.metrics.connections_closed("crowded", 1);
            } else {
                tokio::time::sleep(NO_ROOM).await;
            }
        }
    }

    async fn cannot_accept(&self, error: &io::Error) {
        use io::ErrorKind::{ConnectionAborted, ConnectionRefused, ConnectionReset};
        if [ConnectionAborted, ConnectionRefused, ConnectionReset].contains(&error.kind()) {
            return;
        }
        warn!(%error, "cannot accept connections");
        self.connections.evict();
        tokio::time::sleep(CANNOT_ACCEPT).await;
    }

    fn sweep(&self) {
        let limits = self.limits.config();
        let seconds = |seconds: u32| Duration::from_secs(seconds.into());
        let patience = Patience { head: seconds(limits.header_timeout), idle: seconds(limits.idle_timeout) };
        let late = self.connections.sweep(patience);
        if late > 0 {
            self.metrics.connections_closed("late", late);
            debug!(late, "connections were closed for keeping us waiting");
        }
    }
}

/// Serves one connection until its end, or until it is cut.
async fn hold(stream: TcpStream, entry: Entry, tls: Option<TlsAcceptor>, with: (Router, Watcher)) {
    let link = entry.link().clone();
    // Answers are short, and wait for nothing more to come.
    if stream.set_nodelay(true).is_ok() {
        let stream = Listened { stream, link: link.clone() };
        let served = async {
            match tls {
                None => answer(stream, link.clone(), with).await,
                // The handshake counts as part of the first head.
                Some(tls) => match tls.accept(stream).await {
                    Ok(stream) => {
                        let shown = stream.get_ref().1.peer_certificates().unwrap_or_default();
                        if let Some(chain) = Chain::new(shown.iter().map(AsRef::as_ref)) {
                            link.shows(chain);
                        }
                        answer(stream, link.clone(), with).await;
                    }
                    Err(error) => debug!(%error, "no TLS handshake"),
                },
            }
        };
        tokio::select! {
            () = link.is_cut() => {}
            () = served => {}
        }
    }
    drop(entry);
}

/// Answers the requests of one connection, one after the other.
async fn answer<S>(stream: S, link: Arc<Link>, (router, watcher): (Router, Watcher))
where
    S: AsyncRead + AsyncWrite + Unpin + 'static,
{
    let service = service_fn(move |request: hyper::Request<hyper::body::Incoming>| {
        let mut request = request.map(Body::new);
        let busy = Busy::begin(link.clone());
        request.extensions_mut().insert(link.clone());
        let answer = router.clone().oneshot(request);
        async move {
            let answer = answer.await;
            drop(busy);
            answer
        }
    });
    let mut http = http1::Builder::new();
    // Our own sweeps tell a slow head from a connection that rests between two requests; hyper's timer does not.
    http.header_read_timeout(None).max_buf_size(MAX_HEAD);
    let connection = http.serve_connection(TokioIo::new(stream), service);
    if let Err(error) = watcher.watch(connection).await {
        debug!(%error, "a connection broke off");
    }
}

/// A stream that tells its link when we look for bytes, and when they come.
struct Listened<S> {
    stream: S,
    link: Arc<Link>,
}

impl<S: AsyncRead + Unpin> AsyncRead for Listened<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        self.link.looked();
        let before = buffer.filled().len();
        let read = Pin::new(&mut self.stream).poll_read(cx, buffer);
        if buffer.filled().len() > before {
            self.link.heard();
        }
        read
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Listened<S> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(cx, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write_vectored(cx, bytes)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }
}
