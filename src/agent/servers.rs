//! The agent's HTTP servers, with their sockets, and the canary.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::sleep;
use tracing::{info, warn};

use super::api::{KernelReaders, StatusFilter};
use super::canary;
use super::engine_loop::{Handles, Input};
use super::health_checks;
use super::http::{self, MetricsRoutes};
use super::run::Agent;
use crate::config::{self, Config};

/// The wait before another attempt to listen on an address.
pub(super) const BIND_AGAIN: Duration = Duration::from_secs(5);

impl Agent {
    /// Starts the servers and the canary, which end once the sender of `stopped` is dropped.
    pub(super) async fn start_servers(
        &self,
        stopped: watch::Receiver<()>,
    ) -> anyhow::Result<JoinSet<()>> {
        let hard_fail = self.config.bind_address_hard_fail;
        let mut servers = JoinSet::new();
        let Handles { health_checks, health, notices, .. } = self.handles.clone();
        servers.spawn(until(stopped.clone(), async move {
            health_checks::serve(health_checks, &health, &notices).await;
        }));
        if self.config.settings.canary {
            servers.spawn(until(stopped.clone(), canary::watch(self.handles.clone())));
        }
        if let Some(address) = self.config.health_address {
            let listener = listen(address, hard_fail).await?;
            let Handles { health, metrics, .. } = self.handles.clone();
            let stop = stop(stopped.clone());
            let serve = |listener| http::serve_health(listener, health, metrics, stop);
            servers.spawn(answer(listener, stopped.clone(), serve));
        }
        if let Some(address) = self.config.metrics_address {
            let listener = listen(address, hard_fail).await?;
            let (routes, stop) = (self.routes(), stop(stopped.clone()));
            servers.spawn(answer(listener, stopped, |listener| {
                http::serve_metrics(listener, routes, stop)
            }));
        }
        Ok(servers)
    }

    /// Returns the Services with traffic in `/metrics`.
    fn traffic(&self) -> Option<StatusFilter> {
        let Config { traffic_metrics_services, traffic_metrics_selector, .. } = &self.config;
        (*traffic_metrics_services > 0).then(|| StatusFilter {
            labels: Some(traffic_metrics_selector.clone()),
            limit: Some(*traffic_metrics_services as usize),
            ..StatusFilter::default()
        })
    }

    fn routes(&self) -> MetricsRoutes {
        let questions = self.inputs.clone();
        MetricsRoutes {
            health: Arc::clone(&self.handles.health),
            metrics: Arc::clone(&self.handles.metrics),
            traffic: self.traffic(),
            config: config::show(&self.config),
            flags: config::show_flags(&self.config),
            started: SystemTime::now(),
            kernel: KernelReaders::HERE,
            // The query is dropped once the engine's thread has ended.
            ask: Box::new(move |query| drop(questions.send(Input::Query(query)))),
        }
    }
}

/// Ends with the agent, which then drops the sender.
async fn stop(mut stopped: watch::Receiver<()>) {
    while stopped.changed().await.is_ok() {}
}

async fn until(stopped: watch::Receiver<()>, part: impl Future<Output = ()>) {
    tokio::select! {
        () = part => {}
        () = stop(stopped) => {}
    }
}

/// Serves at a listener, which may take a while to open.
async fn answer<Served: Future<Output = ()>>(
    listener: impl Future<Output = TcpListener>,
    stopped: watch::Receiver<()>,
    serve: impl FnOnce(TcpListener) -> Served,
) {
    tokio::select! {
        listener = listener => serve(listener).await,
        () = stop(stopped) => {}
    }
}

/// Listens on an address, and returns a future of the listener. A port in use is an error or, as in
/// kube-proxy, is retried by the future.
async fn listen(
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
