//! A small HTTP/1 server that withstands slow and hostile clients.

use std::convert::Infallible;
use std::future::Future;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use http_body_util::Full;
use hyper::body::{Bytes, Incoming};
use hyper::header::HOST;
use hyper::http::uri::Authority;
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

use super::places::{Places, peer_of};

#[derive(Clone, Copy, Debug)]
pub(super) struct Limits {
    /// For the head of a request.
    pub(super) head: Duration,
    /// For a whole connection, which is one request and one answer.
    pub(super) connection: Duration,
}

pub(super) const LIMITS: Limits =
    Limits { head: Duration::from_secs(10), connection: Duration::from_secs(30) };

/// How long an answer under way may take after a stop.
const GRACE: Duration = Duration::from_secs(1);
/// The largest head of a request, in bytes. Bodies are not read.
const LARGEST_HEAD: usize = 16 * 1024;
/// The wait after a failed accept, which usually means that file descriptors have run out.
const ACCEPT_AGAIN: Duration = Duration::from_millis(100);

/// Connections that wait to be accepted.
const BACKLOG: i32 = 1024;

pub(super) type Answer = Response<Full<Bytes>>;

/// The peer of a request, as [`peer_of`] returns it.
#[derive(Clone, Copy)]
struct Peer(Option<IpAddr>);

/// Returns whether the request comes from this node, as those of a port-forward do.
pub(super) fn is_of_this_node(request: &Request<Incoming>) -> bool {
    matches!(request.extensions().get(), Some(Peer(None)))
}

/// Returns whether the request names this server by an IP address or as `localhost`, or not at all. A
/// browser names it so unless a page has come from a host name that leads here by now (DNS rebinding).
pub(super) fn is_named_plainly(request: &Request<Incoming>) -> bool {
    let of_header = || request.headers().get(HOST).map(|host| host.as_bytes().try_into().ok());
    let host = request.uri().authority().cloned().map(Some).or_else(of_header);
    host.is_none_or(|host| host.is_some_and(|host: Authority| is_plain(host.host())))
}

fn is_plain(host: &str) -> bool {
    let ip = host.trim_start_matches('[').trim_end_matches(']');
    ip.parse::<IpAddr>().is_ok() || host.eq_ignore_ascii_case("localhost")
}

/// Listens on an address; port 0 selects a free port.
///
/// # Errors
///
/// If the address is in use or not local. A retry may help.
pub async fn bind(address: SocketAddr) -> io::Result<TcpListener> {
    TcpListener::bind(address).await.map_err(|error| cannot_listen(address, &error))
}

/// Listens on an address. The unspecified address listens in its own family only, so that each
/// family can have its own listener.
///
/// # Errors
///
/// As [`bind`].
pub async fn bind_family(address: SocketAddr) -> io::Result<TcpListener> {
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
    listen().map_err(|error| cannot_listen(address, &error))
}

fn cannot_listen(address: SocketAddr, error: &io::Error) -> io::Error {
    let advice = "free the port or configure another address";
    io::Error::new(error.kind(), format!("cannot listen on {address}: {error}; {advice}"))
}

/// Answers requests until `stop` is ready, then lets answers under way finish.
pub(super) async fn serve<H, F>(
    listener: TcpListener,
    places: Arc<Places>,
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
                    // A request that has arrived is answered before its connection is closed.
                    yield_now().await;
                }
                let talk = converse((stream, peer), limits, handle.clone(), stopped.clone());
                places.take(peer, connections.spawn(talk));
            }
        }
    }
    drop((listener, running));
    while connections.join_next().await.is_some() {}
}

/// Accepts the next connection, however many there are: a full backlog of others would delay the
/// kubelet.
async fn accept(listener: &TcpListener) -> Option<(TcpStream, Option<IpAddr>)> {
    match listener.accept().await {
        Ok((stream, _)) => {
            // Fails if the client is already gone.
            let peer = peer_of(stream.peer_addr().ok()?.ip(), stream.local_addr().ok()?.ip());
            Some((stream, peer))
        }
        Err(error) => {
            warn!("cannot accept an HTTP connection: {error}; will be retried");
            sleep(ACCEPT_AGAIN).await;
            None
        }
    }
}

/// Answers the request of a connection. Each connection ends with its answer, so that a client
/// cannot occupy a place without a request.
async fn converse<H, F>(
    (stream, peer): (TcpStream, Option<IpAddr>),
    limits: Limits,
    handle: H,
    mut stopped: watch::Receiver<()>,
) where
    H: Fn(Request<Incoming>) -> F + Send + 'static,
    F: Future<Output = Answer> + Send + 'static,
{
    let service = service_fn(move |mut request: Request<Incoming>| {
        request.extensions_mut().insert(Peer(peer));
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
        // Errors of the client are ignored.
        _ = timeout(limits.connection, connection.as_mut()) => return,
        // The sender is dropped on stopping.
        _ = stopped.changed() => {}
    }
    connection.as_mut().graceful_shutdown();
    let _ = timeout(GRACE, connection).await;
}
