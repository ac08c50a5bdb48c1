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
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};
use tracing::warn;

/// Connections at a time. Further ones wait in the listen queue.
pub(super) const MOST_CONNECTIONS: usize = 64;
/// How long a request may take to arrive, and a connection may idle before it.
const LONGEST_WAIT: Duration = Duration::from_secs(10);
/// How long a connection may last.
const LONGEST_CONNECTION: Duration = Duration::from_secs(300);
/// How long an answer under way may take to be read once its connection is to end.
const GRACE: Duration = Duration::from_secs(2);
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
pub(super) async fn serve<H, F>(listener: TcpListener, handle: H, stop: impl Future<Output = ()>)
where
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
            accepted = listener.accept(), if connections.len() < MOST_CONNECTIONS => match accepted {
                Ok((stream, _)) => {
                    connections.spawn(converse(stream, handle.clone(), stopped.clone()));
                }
                Err(error) => {
                    warn!("cannot accept an HTTP connection: {error}; will be tried again");
                    sleep(ACCEPT_AGAIN).await;
                }
            },
        }
    }
    drop((listener, running));
    while connections.join_next().await.is_some() {}
}

/// Answers the requests of one connection until either side has had enough.
async fn converse<H, F>(stream: TcpStream, handle: H, mut stopped: watch::Receiver<()>)
where
    H: Fn(Request<Incoming>) -> F + Send + 'static,
    F: Future<Output = Answer> + Send + 'static,
{
    let service = service_fn(move |request| {
        let answer = handle(request);
        async move { Ok::<_, Infallible>(answer.await) }
    });
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(LONGEST_WAIT)
        .max_buf_size(LARGEST_HEAD)
        .serve_connection(TokioIo::new(stream), service);
    let mut connection = pin!(connection);
    tokio::select! {
        // How a client fails is its own affair.
        _ = connection.as_mut() => return,
        // The sender is dropped on stopping.
        _ = stopped.changed() => {}
        () = sleep(LONGEST_CONNECTION) => {}
    }
    connection.as_mut().graceful_shutdown();
    let _ = timeout(GRACE, connection).await;
}
