//! Assembles the agent: sources, the engine's thread, HTTP.

use std::fs;
use std::future::{pending, ready};
use std::io;
use std::ops::ControlFlow;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::sync::mpsc::{self, RecvTimeoutError, Sender};
use std::thread;
use std::time::{Duration, SystemTime};

use anyhow::{Context, bail};
use kube_ipvs_core::engine::Engine;
use kube_ipvs_core::model::{Carry, Event, Family, Name};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use tokio::net::TcpListener;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::mpsc::{UnboundedReceiver, unbounded_channel};
use tokio::sync::watch;
use tokio::task::JoinSet;
use tracing::{info, warn};

use super::config_file;
use super::conntrack;
use super::engine_loop::{EngineLoop, Handles, Input};
use super::events::{
    EventQueue, EventReason, EventRecorder, EventWriter, InvolvedObject, QUIET, ReportedEvent,
};
use super::health::Health;
use super::health_checks;
use super::http::{self, MetricsRoutes, Query};
use super::listen::listen;
use super::log;
use super::metrics::Metrics;
use super::replace::replace;
use super::sole::acquire_lock;
use crate::config::{self, Config, SharedFlags, SourceConfig};
use crate::kernel::sysctl::{self, Sysctl, SysctlReport};
use crate::kernel::{Kernel, drift, modules};
use crate::source::kubernetes::{self, ApiAccess, FIND_AGAIN, Server, Timeouts};
use crate::source::{manifests, network};

/// How long the engine's thread may take to finish its current batch.
const LONGEST_END: Duration = Duration::from_secs(20);

/// Loads the kernel modules and applies the kernel settings.
///
/// # Errors
///
/// If a setting that services require is wrong and cannot be written.
pub fn prepare(config: &Config) -> anyhow::Result<Kernel> {
    for warning in &config.warnings {
        warn!("{warning}");
    }
    modules::load_needed(&[config.settings.scheduler], &config.settings.carry);
    // Opening IPVS loads its module, which creates its settings.
    let mut kernel = Kernel::open()?.carrying(&config.settings.carry)?;
    apply_sysctls(Sysctl::needed(&Family::BOTH))?;
    let processors = thread::available_parallelism().map_or(1, usize::from);
    apply_sysctls(conntrack::sysctls(&config.conntrack, processors))?;
    let (tcp, tcp_fin) = (config.ipvs_tcp_timeout, config.ipvs_tcp_fin_timeout);
    let udp = config.ipvs_udp_timeout;
    if [tcp, tcp_fin, udp].iter().any(Option::is_some) {
        kernel.set_timeouts(tcp, tcp_fin, udp)?;
    }
    Ok(kernel)
}

fn apply_sysctls(sysctls: impl IntoIterator<Item = Sysctl>) -> anyhow::Result<()> {
    let reports = sysctl::apply(sysctl::ROOT, sysctls);
    let (set, failed): (Vec<_>, Vec<_>) = reports.into_iter().partition(SysctlReport::is_set);
    for report in set {
        info!("{report}");
    }
    for report in failed {
        anyhow::ensure!(!report.is_fatal(), "{report}");
        warn!("{report}");
    }
    Ok(())
}

/// Runs until SIGTERM or SIGINT; the kernel's state stays as it is. The configuration is derived
/// from the flags; if the configuration file changes, the agent replaces itself.
///
/// # Errors
///
/// If something required is missing: kernel features, the capability, a source.
pub fn run(config: Config, flags: &SharedFlags) -> anyhow::Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let mut signals = runtime.block_on(async { Signals::catch() })?;
    let lock = runtime.block_on(async {
        tokio::select! {
            lock = acquire_lock() => Some(lock),
            () = signals.ended() => None,
        }
    });
    let Some(_lock) = lock else { return Ok(()) };
    let kernel = prepare(&config)?;
    protect_from_oom(&config);
    allow_files();
    let ports = kernel.ports();
    let (inputs, received) = mpsc::channel();
    let metrics = Arc::new(Metrics::new()?);
    let (notices, queue) = EventRecorder::new(Arc::clone(&metrics));
    let handles = Handles {
        health: Arc::new(Health::new(SystemTime::now(), config.sync_period)),
        metrics,
        health_checks: watch::Sender::default(),
        notices,
        stopping: Arc::default(),
    };
    let engine = Engine::new(&config.settings, config.audit_period);
    let engine_loop = EngineLoop::new(engine, kernel, received, handles.clone(), &config);
    let agent = Agent { config, inputs, handles };
    // Nothing is ever sent: the channel closes when the thread ends.
    let (running, thread_end) = mpsc::channel::<()>();
    let engine_thread = thread::Builder::new()
        .name("engine".to_owned())
        .spawn(move || {
            engine_loop.run();
            drop(running);
        })
        .context("cannot start the engine's thread")?;
    follow_network(&agent.config.settings.carry, agent.inputs.clone())?;
    follow_drift(ports, agent.inputs.clone())?;
    let files = agent.follow_config(flags);
    let ended: anyhow::Result<RunEnd> = runtime.block_on(async {
        let end = agent.serve(queue, files, &mut signals).await?;
        // A signal may have come while the last requests were answered.
        tokio::select! {
            biased;
            () = signals.ended() => Ok(RunEnd::Exit),
            end = ready(end) => Ok(end),
        }
    });
    // A name lookup may still be under way.
    runtime.shutdown_background();
    if thread_end.recv_timeout(LONGEST_END) == Err(RecvTimeoutError::Timeout) {
        bail!("the engine's thread has not ended within {LONGEST_END:?}; this is a bug");
    }
    if engine_thread.join().is_err() {
        bail!("the engine's thread panicked; this is a bug");
    }
    match ended? {
        RunEnd::Exit => Ok(()),
        RunEnd::Replace => {
            info!("starting again with the changed configuration");
            Err(replace()).context("the agent cannot replace itself")
        }
    }
}

/// How a run ends.
#[derive(Clone, Copy)]
enum RunEnd {
    /// The process ends.
    Exit,
    /// The agent starts again as the same process.
    Replace,
}

struct Signals {
    terminate: Signal,
    interrupt: Signal,
}

impl Signals {
    /// Handles the signals, which no longer have their default effect. Without a handler they would
    /// not end the first process of a container, which the agent usually is.
    fn catch() -> io::Result<Self> {
        Ok(Self {
            terminate: signal(SignalKind::terminate())?,
            interrupt: signal(SignalKind::interrupt())?,
        })
    }

    async fn ended(&mut self) {
        tokio::select! {
            _ = self.terminate.recv() => {}
            _ = self.interrupt.recv() => {}
        }
    }
}

struct Agent {
    config: Config,
    inputs: Sender<Input>,
    handles: Handles,
}

impl Agent {
    /// Reads the configuration file whenever it changes. A node that has run out of watches still serves
    /// its Services.
    fn follow_config(&self, flags: &SharedFlags) -> UnboundedReceiver<anyhow::Result<Config>> {
        let (sender, changes) = unbounded_channel();
        let Some(path) = &flags.config else { return changes };
        let read = flags.clone();
        let changed = move |text: io::Result<&str>| {
            // Nothing receives it once the agent ends.
            let _ = sender.send(text.map_err(Into::into).and_then(|text| read_config(&read, text)));
        };
        if let Err(error) = config_file::follow(path, changed) {
            let path = path.display();
            warn!("{path} cannot be watched: {error}; its changes need a restart of the agent");
        }
        changes
    }

    /// Ready once the configuration file holds another configuration that the agent can start with.
    async fn other_config(&self, mut changes: UnboundedReceiver<anyhow::Result<Config>>) {
        while let Some(changed) = changes.recv().await {
            let is_other = match changed {
                Ok(config) if config == self.config => Ok(false),
                Ok(config) => check(&config).await.map(|()| true),
                Err(error) => Err(error),
            };
            match is_other {
                Ok(true) => return,
                Ok(false) => {}
                Err(error) => self.handles.notices.report(ReportedEvent {
                    about: InvolvedObject::Node,
                    reason: EventReason::ConfigurationInvalid,
                    message: format!(
                        "the changed configuration is invalid: {error:#}; the old one stays. \
                         `kube-ipvs run --write-config-to -` prints the valid options"
                    ),
                }),
            }
        }
        pending().await
    }

    /// Runs the asynchronous parts: the source, HTTP, Events, the configuration file and signals.
    async fn serve(
        &self,
        notices: EventQueue,
        changes: UnboundedReceiver<anyhow::Result<Config>>,
        signals: &mut Signals,
    ) -> anyhow::Result<RunEnd> {
        let (running, stopped) = watch::channel(());
        let hard_fail = self.config.bind_address_hard_fail;
        let mut servers = JoinSet::new();
        servers.spawn(answer_health_checks(self.handles.clone(), stopped.clone()));
        if let Some(address) = self.config.health_address {
            let listener = listen(address, hard_fail).await?;
            servers.spawn(answer_probes(listener, self.handles.clone(), stopped.clone()));
        }
        if let Some(address) = self.config.metrics_address {
            let listener = listen(address, hard_fail).await?;
            servers.spawn(answer_questions(listener, self.routes(), stopped));
        }
        let ended = tokio::select! {
            () = signals.ended() => Ok(RunEnd::Exit),
            () = self.other_config(changes) => Ok(RunEnd::Replace),
            ended = self.follow_source(notices) => ended.map(|()| RunEnd::Exit),
        };
        info!("stopping; the kernel's state stays as it is");
        // Before anything is awaited. The engine's thread ends after its current plan.
        self.handles.stopping.store(true, Ordering::Relaxed);
        let _ = self.inputs.send(Input::Stop);
        drop(running);
        // Answers under way are finished.
        while servers.join_next().await.is_some() {}
        ended
    }

    fn routes(&self) -> MetricsRoutes<impl Fn(Query) + Send + Sync + 'static> {
        let questions = self.inputs.clone();
        MetricsRoutes {
            health: Arc::clone(&self.handles.health),
            metrics: Arc::clone(&self.handles.metrics),
            traffic_services: self.config.traffic_metrics_services as usize,
            config: config::show(&self.config),
            // The query is dropped once the engine's thread has ended.
            ask: move |query: Query| drop(questions.send(Input::Query(query))),
        }
    }

    /// Follows the source; returns only with an error.
    async fn follow_source(&self, notices: EventQueue) -> anyhow::Result<()> {
        let inputs = self.inputs.clone();
        let deliver = move |event| send(&inputs, Input::Event(event));
        let node = &self.config.settings.node_name;
        match &self.config.source {
            SourceConfig::Manifests(directory) => {
                // Without an API server, events appear in the log only.
                drop(notices);
                manifests::follow(directory, node, deliver)?;
                pending().await
            }
            SourceConfig::Kubernetes { kubeconfig, master } => {
                let reach = ApiAccess { kubeconfig: kubeconfig.clone(), master: master.clone() };
                let server = find_server(&reach, &self.config).await?;
                let _ = deliver(Event::ApiServers(server.sockets().collect()));
                let clients = kubernetes::connect(&reach).await?;
                let metrics = Arc::clone(&self.handles.metrics);
                let counted = Arc::clone(&metrics);
                let note = move |kind, effort| counted.source(kind, effort);
                let events = EventWriter::new(clients.clone(), Name::clone(node), metrics, QUIET);
                let report = deliver.clone();
                tokio::select! {
                    ended = kubernetes::follow(
                        &server, clients, &self.config.settings, Timeouts::default(), deliver, note,
                    ) => ended?,
                    () = kubernetes::follow_server(&reach, &server, FIND_AGAIN, report) => {}
                    () = events.run(notices) => {}
                }
                bail!("the engine's thread has ended")
            }
        }
    }
}

/// Ends with the agent, which then drops the sender.
async fn stop(mut stopped: watch::Receiver<()>) {
    while stopped.changed().await.is_ok() {}
}

async fn answer_health_checks(handles: Handles, stopped: watch::Receiver<()>) {
    let Handles { health_checks, health, notices, .. } = handles;
    health_checks::serve(health_checks, &health, &notices, stop(stopped)).await;
}

async fn answer_probes(
    listener: impl Future<Output = TcpListener>,
    Handles { health, metrics, .. }: Handles,
    stopped: watch::Receiver<()>,
) {
    let listener = tokio::select! {
        listener = listener => listener,
        () = stop(stopped.clone()) => return,
    };
    http::serve_health(listener, health, metrics, stop(stopped)).await;
}

async fn answer_questions(
    listener: impl Future<Output = TcpListener>,
    routes: MetricsRoutes<impl Fn(Query) + Send + Sync + 'static>,
    stopped: watch::Receiver<()>,
) {
    let listener = tokio::select! {
        listener = listener => listener,
        () = stop(stopped.clone()) => return,
    };
    http::serve_metrics(listener, routes, stop(stopped)).await;
}

/// What a changed configuration file says. As a configuration, an empty file would be all defaults, but
/// it is more likely the first half of an edit.
fn read_config(flags: &SharedFlags, text: &str) -> anyhow::Result<Config> {
    if text.trim().is_empty() {
        bail!("the file is empty");
    }
    Ok(config::resolve(flags)?)
}

/// Whether the agent can start with another configuration.
async fn check(config: &Config) -> anyhow::Result<()> {
    log::filter(&config.log_level)?;
    Kernel::check_carry(&config.settings.carry)?;
    if let SourceConfig::Kubernetes { kubeconfig, master } = &config.source {
        let reach = ApiAccess { kubeconfig: kubeconfig.clone(), master: master.clone() };
        find_server(&reach, config).await?;
    }
    Ok(())
}

async fn find_server(reach: &ApiAccess, config: &Config) -> anyhow::Result<Server> {
    let server = Server::find(reach).await?;
    server.check(&config.settings.service_cidrs)?;
    Ok(server)
}

/// The first lists arrive before any source starts. Otherwise a restart would remove and add front
/// ends at the node's addresses.
fn follow_network(carry: &Carry, inputs: Sender<Input>) -> anyhow::Result<()> {
    let links = !carry.offload_interfaces().is_empty();
    network::follow(links, move |event| send(&inputs, Input::Event(event)))?;
    Ok(())
}

fn follow_drift(own: Vec<u32>, inputs: Sender<Input>) -> anyhow::Result<()> {
    drift::follow(own, move || send(&inputs, Input::Drift))?;
    Ok(())
}

/// Breaks once the receiver is gone.
fn send(inputs: &Sender<Input>, input: Input) -> ControlFlow<()> {
    match inputs.send(input) {
        Ok(()) => ControlFlow::Continue(()),
        Err(_) => ControlFlow::Break(()),
    }
}

/// Each `healthCheckNodePort` takes file descriptors, and without any left the kubelet's probes
/// fail. The initial limit is low for the sake of `select`, which is not used here; Go programs
/// raise it, too.
fn allow_files() {
    let limit = getrlimit(Resource::Nofile);
    let raised = Rlimit { current: limit.maximum, ..limit };
    if let Err(error) = setrlimit(Resource::Nofile, raised) {
        info!("the limit of open files cannot be raised: {error}");
    }
}

/// A node that runs out of memory should not lose its Services first.
fn protect_from_oom(config: &Config) {
    let score = config.oom_score_adj;
    if let Err(error) = fs::write("/proc/self/oom_score_adj", score.to_string()) {
        info!("oom_score_adj {score} cannot be set: {error}");
    }
}
