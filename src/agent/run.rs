//! Starts the agent, and ends it.

use std::io;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::sync::mpsc::{self, Receiver, RecvTimeoutError, Sender};
use std::thread::{self, JoinHandle};
use std::time::{Duration, SystemTime};

use anyhow::{Context, bail};
use futures_util::FutureExt;
use kube_ipvs_core::engine::Engine;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::mpsc::UnboundedReceiver;
use tokio::sync::watch;
use tracing::info;

use super::engine_loop::{EngineLoop, Handles, Input};
use super::events::{EventQueue, EventRecorder};
use super::health::Health;
use super::log_lines::announce;
use super::metrics::Metrics;
use super::prepare::{prepare, prepare_process};
use super::reload::replace;
use super::sole::acquire_lock;
use crate::config::{Config, SharedFlags};

/// How long the engine's thread may take to finish its current batch. A pod's
/// `terminationGracePeriodSeconds` must be longer.
pub const LONGEST_END: Duration = Duration::from_secs(20);

/// Runs until SIGTERM or SIGINT; the kernel's state stays as it is. The configuration is derived
/// from the flags; if the configuration file changes, the agent replaces itself.
///
/// # Errors
///
/// If something required is missing: kernel features, the capability, a source.
pub fn run(config: Config, flags: &SharedFlags) -> anyhow::Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let mut signals = runtime.block_on(async { catch_signals() })?;
    let lock = runtime.block_on(async {
        announce(&config, flags).await;
        tokio::select! {
            lock = acquire_lock() => Some(lock),
            () = ended(&mut signals) => None,
        }
    });
    let Some(_lock) = lock else { return Ok(()) };
    let kernel = prepare(&config)?;
    prepare_process(&config);
    let ports = kernel.ports();
    let (inputs, received) = mpsc::channel();
    let metrics = Arc::new(Metrics::new()?);
    let (notices, queue) = EventRecorder::new(Arc::clone(&metrics));
    let handles = Handles {
        health: Arc::new(
            Health::new(SystemTime::now(), config.sync_period)
                .following_canary(config.healthz_follows_canary),
        ),
        metrics,
        health_checks: watch::Sender::default(),
        notices,
        canary: Arc::default(),
        stopping: Arc::default(),
    };
    let engine = Engine::new(&config.settings, config.audit_period);
    let engine_loop = EngineLoop::new(engine, kernel, received, handles.clone(), &config);
    let agent = Agent { config, inputs, handles };
    let engine_thread = start_engine(engine_loop)?;
    // The first lists arrive before any source starts. Otherwise a restart would remove and add front
    // ends at the node's addresses.
    agent.follow_network()?;
    agent.follow_drift(ports)?;
    let changes = agent.follow_config(flags);
    let changed: anyhow::Result<bool> = runtime.block_on(async {
        let changed = agent.serve(queue, changes, &mut signals).await?;
        // A signal may have come while the last requests were answered.
        Ok(changed && ended(&mut signals).now_or_never().is_none())
    });
    // A name lookup may still be under way.
    runtime.shutdown_background();
    join_engine(engine_thread)?;
    if changed? {
        info!("starting again with the changed configuration");
        return Err(replace()).context("the agent cannot replace itself");
    }
    Ok(())
}

/// Handles SIGTERM and SIGINT, which no longer have their default effect. Without a handler they would
/// not end the first process of a container, which the agent usually is.
fn catch_signals() -> io::Result<[Signal; 2]> {
    Ok([signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?])
}

async fn ended([terminate, interrupt]: &mut [Signal; 2]) {
    tokio::select! {
        _ = terminate.recv() => {}
        _ = interrupt.recv() => {}
    }
}

/// Starts the engine's thread. The channel, through which nothing is sent, closes when the thread ends.
fn start_engine(engine_loop: EngineLoop) -> anyhow::Result<(JoinHandle<()>, Receiver<()>)> {
    let (running, end) = mpsc::channel();
    let run = move || {
        engine_loop.run();
        drop(running);
    };
    let spawned = thread::Builder::new().name("engine".to_owned()).spawn(run);
    Ok((spawned.context("cannot start the engine's thread")?, end))
}

fn join_engine((thread, end): (JoinHandle<()>, Receiver<()>)) -> anyhow::Result<()> {
    if end.recv_timeout(LONGEST_END) == Err(RecvTimeoutError::Timeout) {
        bail!("the engine's thread has not ended within {LONGEST_END:?}; this is a bug");
    }
    if thread.join().is_err() {
        bail!("the engine's thread panicked; this is a bug");
    }
    Ok(())
}

/// What the parts of the agent share. Each part has a file: the sources, the servers, the reload.
pub(super) struct Agent {
    pub(super) config: Config,
    pub(super) inputs: Sender<Input>,
    pub(super) handles: Handles,
}

impl Agent {
    /// Runs the asynchronous parts until a signal comes or the configuration changes; returns whether it
    /// has changed.
    async fn serve(
        &self,
        notices: EventQueue,
        changes: UnboundedReceiver<anyhow::Result<Config>>,
        signals: &mut [Signal; 2],
    ) -> anyhow::Result<bool> {
        let (running, stopped) = watch::channel(());
        let mut servers = self.start_servers(stopped).await?;
        let changed = tokio::select! {
            () = ended(signals) => Ok(false),
            () = self.changed_config(changes) => Ok(true),
            ended = self.follow_source(notices) => ended.map(|()| false),
        };
        info!("stopping; the kernel's state stays as it is");
        // Before anything is awaited. The engine's thread ends after its current plan.
        self.handles.stopping.store(true, Ordering::Relaxed);
        let _ = self.inputs.send(Input::Stop);
        drop(running);
        // Answers under way are finished.
        while servers.join_next().await.is_some() {}
        changed
    }
}
