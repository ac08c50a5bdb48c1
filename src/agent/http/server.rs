//! A small HTTP/1 server that a slow or hostile client cannot wear down.

use std::convert::Infallible;
use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::pin::pin;
use std::time::Duration;

use http_body_util::Full;
use hyper::body::{Bytes, Incoming};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Request, Response};
use hyper_util::rt::{TokioIo, TokioTimer};
use rustix::net::{AddressFamily, SocketFlags, SocketType, socket_with, sockopt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::{JoinSet, yield_now};
use tokio::time::{sleep, timeout};
use tracing::warn;

use super::places::{Peer, Places};

/// How long what is slow may take.
#[derive(Clone, Copy, Debug)]
pub(super) struct Limits {
    /// A request, until its head has arrived.
    pub(super) head: Duration,
    /// A connection, which is one request and one answer, until the answer has been read.
    pub(super) connection: Duration,
}

/// What applies to clients.
pub(super) const LIMITS: Limits =
    Limits { head: Duration::from_secs(10), connection: Duration::from_secs(30) };

/// How long an answer under way may take to be read once the server stops.
const GRACE: Duration = Duration::from_secs(1);
/// Largest head of a request, in bytes. Bodies are not read.
const LARGEST_HEAD: usize = 16 * 1024;
/// Wait after a failed accept, which mostly means that file descriptors have run out.
const ACCEPT_AGAIN: Duration = Duration::from_millis(100);

/// Connections that wait to be accepted.
const BACKLOG: i32 = 1024;

/// A whole answer.
pub(super) type Answer = Response<Full<Bytes>>;

/// Nobody can listen there.
#[derive(Debug, thiserror::Error)]
#[error("cannot listen on {address}: {source}; free the port or configure another address")]
pub struct BindError {
    /// Where.
    pub address: SocketAddr,
    /// Why not.
    pub source: io::Error,
}

/// Listens on an address; port 0 for any free one.
///
/// # Errors
///
/// If the address is in use or not this machine's. Trying again later may help.
pub async fn bind(address: SocketAddr) -> Result<TcpListener, BindError> {
    TcpListener::bind(address).await.map_err(|source| BindError { address, source })
}

/// Listens on an address; on an unspecified one, in its own family only, so that each family may
/// have its own listener.
///
/// # Errors
///
/// As [`bind`].
pub async fn bind_family(address: SocketAddr) -> Result<TcpListener, BindError> {
    if !(address.is_ipv6() && address.ip().is_unspecified()) {
        return bind(address).await;
    }
    let listen = || {
        let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
        let socket = socket_with(AddressFamily::INET6, SocketType::STREAM, flags, None)?;
        sockopt::set_ipv6_v6only(&socket, true)?;
        sockopt::set_socket_reuseaddr(&socket, true)?;
        rustix::net::bind(&socket, &address)?;
        rustix::net::listen(&socket, BACKLOG)?;
        TcpListener::from_std(socket.into())
    };
    listen().map_err(|source| BindError { address, source })
}

/// Answers requests until `stop` is ready, then lets answers under way be finished.
pub(super) async fn serve<H, F>(
    listener: TcpListener,
    places: Places,
    limits: Limits,
    handle: H,
    stop: impl Future<Output = ()>,
) where
    H: Fn(Request<Incoming>) -> F + Clone + Send + 'static,
    F: Future<Output = Answer> + Send + 'static,
{
    let (running, stopped) = watch::channel(());
    let mut connections = JoinSet::new();
    let mut stop = pin!(stop);
    loop {
        tokio::select! {
            () = &mut stop => break,
            Some(_) = connections.join_next() => {}
            accepted = accept(&listener) => {
                let Some((stream, peer)) = accepted else { continue };
                if places.is_full_for(peer) {
                    // A request that has arrived meanwhile is answered before its connection is cut.
                    yield_now().await;
                }
                let talk = converse(stream, limits, handle.clone(), stopped.clone());
                places.take(peer, connections.spawn(talk));
            }
        }
    }
    drop((listener, running));
    while connections.join_next().await.is_some() {}
}

/// The next connection. It is taken at once, however many there are: a queue that others fill would
/// keep the kubelet waiting.
async fn accept(listener: &TcpListener) -> Option<(TcpStream, Peer)> {
    match listener.accept().await {
        Ok((stream, _)) => {
            // Fails where the client has gone already.
            let peer = Peer::between(stream.peer_addr().ok()?.ip(), stream.local_addr().ok()?.ip());
            Some((stream, peer))
        }
        Err(error) => {
            warn!("cannot accept an HTTP connection: {error}; will be tried again");
            sleep(ACCEPT_AGAIN).await;
            None
        }
    }
}

/// Answers the request of a connection until either side has had enough. Each connection ends with
/// its answer, so that a client cannot keep a place without asking.
async fn converse<H, F>(
    stream: TcpStream,
    limits: Limits,
    handle: H,
    mut stopped: watch::Receiver<()>,
) where
    H: Fn(Request<Incoming>) -> F + Send + 'static,
    F: Future<Output = Answer> + Send + 'static,
{
    let service = service_fn(move |request| {
        let answer = handle(request);
        async move { Ok::<_, Infallible>(answer.await) }
    });
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(limits.head)
        .max_buf_size(LARGEST_HEAD)
        .keep_alive(false)
        .serve_connection(TokioIo::new(stream), service);
    let mut connection = pin!(connection);
    tokio::select! {
        // How a client fails is its own affair.
        _ = timeout(limits.connection, connection.as_mut()) => return,
        // The sender is dropped on stopping.
        _ = stopped.changed() => {}
    }
    connection.as_mut().graceful_shutdown();
    let _ = timeout(GRACE, connection).await;
}
