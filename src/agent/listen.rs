//! The agent's listening sockets.

use std::net::SocketAddr;
use std::time::Duration;

use tokio::net::TcpListener;
use tokio::time::sleep;
use tracing::{info, warn};

use super::http;

/// The wait before another attempt to listen on an address.
pub(super) const BIND_AGAIN: Duration = Duration::from_secs(5);

pub(super) struct Bound {
    address: SocketAddr,
    listener: Option<TcpListener>,
}

/// Listens on an address. A port in use is an error or, as in kube-proxy, is retried while the
/// agent runs.
pub(super) async fn bind(address: SocketAddr, hard_fail: bool) -> anyhow::Result<Bound> {
    match http::bind(address).await {
        Ok(listener) => Ok(Bound { address, listener: Some(listener) }),
        Err(error) if hard_fail => Err(error.into()),
        Err(error) => {
            warn!("{error}; will be retried");
            Ok(Bound { address, listener: None })
        }
    }
}

impl Bound {
    /// Waits for the listener; `None` if `stop` is ready before.
    pub(super) async fn listener(self, stop: impl Future<Output = ()>) -> Option<TcpListener> {
        let Self { address, listener } = self;
        let again = async {
            loop {
                sleep(BIND_AGAIN).await;
                if let Ok(listener) = http::bind(address).await {
                    info!(%address, "listening now");
                    return listener;
                }
            }
        };
        match listener {
            Some(listener) => Some(listener),
            None => tokio::select! {
                listener = again => Some(listener),
                () = stop => None,
            },
        }
    }
}
