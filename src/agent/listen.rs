//! The agent's listening sockets.

use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use tokio::net::TcpListener;
use tokio::time::sleep;
use tracing::{info, warn};

use super::http;

/// The wait before another attempt to listen on an address.
pub(super) const BIND_AGAIN: Duration = Duration::from_secs(5);

/// Listens on an address, and returns a future of the listener. A port in use is an error or, as in
/// kube-proxy, is retried by the future.
pub(super) async fn listen(
    address: SocketAddr,
    hard_fail: bool,
) -> io::Result<impl Future<Output = TcpListener>> {
    let listener = match http::bind(address).await {
        Ok(listener) => Some(listener),
        Err(error) if hard_fail => return Err(error),
        Err(error) => {
            warn!("{error}; will be retried");
            None
        }
    };
    Ok(async move {
        if let Some(listener) = listener {
            return listener;
        }
        loop {
            sleep(BIND_AGAIN).await;
            if let Ok(listener) = http::bind(address).await {
                info!(%address, "listening now");
                return listener;
            }
        }
    })
}
