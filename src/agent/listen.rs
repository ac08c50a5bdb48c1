//! Where the agent listens, or will.

use std::net::SocketAddr;
use std::time::Duration;

use tokio::net::TcpListener;
use tokio::time::sleep;
use tracing::{info, warn};

use super::http;

/// Wait before an address or port that cannot be listened at is tried again.
pub(super) const BIND_AGAIN: Duration = Duration::from_secs(5);

/// A listener, or none yet.
pub(super) struct Bound {
    address: SocketAddr,
    listener: Option<TcpListener>,
}

/// Listens at an address. A port that is taken is an error or, as with kube-proxy, is tried again
/// while the agent works.
pub(super) async fn bind(address: SocketAddr, hard_fail: bool) -> anyhow::Result<Bound> {
    match http::bind(address).await {
        Ok(listener) => Ok(Bound { address, listener: Some(listener) }),
        Err(error) if hard_fail => Err(error.into()),
        Err(error) => {
            warn!("{error}; will be tried again");
            Ok(Bound { address, listener: None })
        }
    }
}

impl Bound {
    /// The listener, as soon as there is one; `None` if `stop` is ready before.
    pub(super) async fn listener(self, stop: impl Future<Output = ()>) -> Option<TcpListener> {
        let Self { address, listener } = self;
        let again = async {
            loop {
                sleep(BIND_AGAIN).await;
                if let Ok(listener) = http::bind(address).await {
                    info!(%address, "listening at last");
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
