//! Puts the agent together: sources, the engine's thread, HTTP.

use std::fs;
use std::net::SocketAddr;
use std::ops::ControlFlow;
use std::sync::Arc;
use std::sync::mpsc::{self, Sender};
use std::thread;
use std::time::{Duration, SystemTime};

use anyhow::{Context, bail};
use tokio::net::TcpListener;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::watch;
use tokio::time::sleep;
use tracing::{info, warn};

use super::conntrack::wishes;
use super::engine_loop::{EngineLoop, Input};
use super::health::Health;
use super::health_checks::HealthChecks;
use super::http::{self, MetricsRoutes, Query};
use super::metrics::Metrics;
use crate::config::{Config, SourceConfig};
use crate::engine::Engine;
use crate::kernel::Kernel;
use crate::kernel::sysctl::{Granted, Sysctls};
use crate::model::{Event, Family};
use crate::source::kubernetes::{self, Patience, Reach};
use crate::source::{addresses, manifests};

/// Wait before an address that cannot be listened at is tried again.
const BIND_AGAIN: Duration = Duration::from_secs(5);

/// Loads what modules the kernel lets us, and sets what kernel settings differ.
///
/// # Errors
///
/// If a setting that services cannot do without is wrong and cannot be written.
pub fn prepare(config: &Config) -> anyhow::Result<Kernel> {
    for warning in &config.warnings {
        warn!("{warning}");
    }
    // Asking for IPVS loads its module, which brings its settings.
    let mut kernel = Kernel::open()?;
    let sysctls = Sysctls::default();
    let ensured = sysctls.ensure(&Family::BOTH);
    for change in &ensured.changed {
        info!("{change}");
    }
    for error in ensured.failed {
        if error.is_fatal() {
            return Err(error.into());
        }
        warn!("{error}");
    }
    let processors = thread::available_parallelism().map_or(1, usize::from);
    for granted in sysctls.grant(&wishes(&config.conntrack, processors)) {
        match granted {
            Granted::Changed { .. } => info!("{granted}"),
            Granted::Refused { .. } => warn!("{granted}"),
        }
    }
    let timeouts = config.ipvs_timeouts;
    if [timeouts.tcp, timeouts.tcp_fin, timeouts.udp].iter().any(Option::is_some) {
        kernel.set_timeouts(timeouts.tcp, timeouts.tcp_fin, timeouts.udp)?;
    }
    Ok(kernel)
}

/// Runs until SIGTERM or SIGINT. The kernel's state stays as it is.
///
/// # Errors
///
/// If something that the agent cannot do without is missing: the kernel's parts, its capability,
/// a source.
pub fn run(config: Config) -> anyhow::Result<()> {
    let kernel = prepare(&config)?;
    protect_from_oom(&config);
    let (inputs, received) = mpsc::channel();
    let health = Arc::new(Health::new(SystemTime::now(), config.sync_period));
    let metrics = Arc::new(Metrics::new()?);
    let health_checks = HealthChecks::default();
    let engine = Engine::new(&config.settings, config.audit_period);
    let engine_loop = EngineLoop::new(
        engine,
        kernel,
        received,
        Arc::clone(&health),
        Arc::clone(&metrics),
        health_checks.clone(),
        config.min_sync_period,
    );
    let engine_thread = thread::Builder::new()
        .name("engine".to_owned())
        .spawn(move || engine_loop.run())
        .context("cannot start the engine's thread")?;
    follow_addresses(inputs.clone())?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let ended = runtime.block_on(serve(&config, &inputs, &health, &metrics, health_checks));
    // The engine's thread may be in the middle of a batch; it ends after that.
    let _ = inputs.send(Input::Stop);
    if engine_thread.join().is_err() {
        bail!("the engine's thread panicked; this is a bug");
    }
    ended
}

/// Everything asynchronous: the source, HTTP and signals.
async fn serve(
    config: &Config,
    inputs: &Sender<Input>,
    health: &Arc<Health>,
    metrics: &Arc<Metrics>,
    health_checks: HealthChecks,
) -> anyhow::Result<()> {
    let (running, stopped) = watch::channel(());
    let stop = || {
        let mut stopped = stopped.clone();
        async move {
            // Ends when the sender is dropped.
            while stopped.changed().await.is_ok() {}
        }
    };
    let mut servers = Vec::new();
    if let Some(address) = config.health_address {
        let (health, metrics, stop) = (Arc::clone(health), Arc::clone(metrics), stop());
        let bound = bind(address, config.bind_address_hard_fail).await?;
        servers.push(tokio::spawn(async move {
            let listener = bound.unwrap_or_bind(address).await;
            http::serve_health(listener, health, metrics, stop).await;
        }));
    }
    if let Some(address) = config.metrics_address {
        let questions = inputs.clone();
        let routes = MetricsRoutes {
            health: Arc::clone(health),
            metrics: Arc::clone(metrics),
            config: configz(config),
            // Nobody answers once the engine's thread has ended.
            ask: move |query: Query| drop(questions.send(Input::Query(query))),
        };
        let stop = stop();
        let bound = bind(address, config.bind_address_hard_fail).await?;
        servers.push(tokio::spawn(async move {
            let listener = bound.unwrap_or_bind(address).await;
            http::serve_metrics(listener, routes, stop).await;
        }));
    }
    let (checked_health, stop_checks) = (Arc::clone(health), stop());
    servers.push(tokio::spawn(async move {
        health_checks.serve(&checked_health, stop_checks).await;
    }));
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    let ended = tokio::select! {
        _ = terminate.recv() => Ok(()),
        _ = interrupt.recv() => Ok(()),
        ended = follow_source(config, inputs.clone()) => ended,
    };
    info!("stopping; the kernel's state stays as it is");
    drop(running);
    // Answers under way are finished.
    for server in servers {
        let _ = server.await;
    }
    ended
}

/// Follows the source; ends only with an error.
async fn follow_source(config: &Config, inputs: Sender<Input>) -> anyhow::Result<()> {
    let deliver = move |event: Event| inputs.send(Input::Event(event)).is_ok();
    match &config.source {
        SourceConfig::Manifests(directory) => {
            manifests::watch(directory, &config.settings.node_name, deliver)?;
            std::future::pending().await
        }
        SourceConfig::Kubernetes { kubeconfig, master } => {
            let reach = Reach { kubeconfig: kubeconfig.clone(), master: master.clone() };
            let client = kubernetes::connect(&reach).await?;
            kubernetes::run(client, &config.settings.node_name, Patience::default(), deliver).await;
            bail!("the engine's thread has ended")
        }
    }
}

fn follow_addresses(inputs: Sender<Input>) -> anyhow::Result<()> {
    addresses::follow(move |addresses| {
        match inputs.send(Input::Event(Event::Addresses(addresses))) {
            Ok(()) => ControlFlow::Continue(()),
            Err(_) => ControlFlow::Break(()),
        }
    })?;
    Ok(())
}

/// A listener, or none yet.
struct Bound(Option<TcpListener>);

/// Listens at an address. A port that is taken is an error or, as with kube-proxy, is tried again
/// while the agent works.
async fn bind(address: SocketAddr, hard_fail: bool) -> anyhow::Result<Bound> {
    match http::bind(address).await {
        Ok(listener) => Ok(Bound(Some(listener))),
        Err(error) if hard_fail => Err(error.into()),
        Err(error) => {
            warn!("{error}; will be tried again");
            Ok(Bound(None))
        }
    }
}

impl Bound {
    async fn unwrap_or_bind(self, address: SocketAddr) -> TcpListener {
        if let Some(listener) = self.0 {
            return listener;
        }
        loop {
            sleep(BIND_AGAIN).await;
            if let Ok(listener) = http::bind(address).await {
                info!(%address, "listening at last");
                return listener;
            }
        }
    }
}

fn configz(config: &Config) -> serde_json::Value {
    serde_json::json!({ "kube-ipvs": format!("{config:?}") })
}

/// A node that runs out of memory had better not lose its services first.
fn protect_from_oom(config: &Config) {
    let score = config.oom_score_adj;
    if let Err(error) = fs::write("/proc/self/oom_score_adj", score.to_string()) {
        info!("oom_score_adj {score} cannot be set: {error}");
    }
}
