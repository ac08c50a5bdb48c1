//! Puts the agent together: sources, the engine's thread, HTTP.

use std::fs;
use std::future::{pending, ready};
use std::io;
use std::net::SocketAddr;
use std::ops::ControlFlow;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{self, Receiver, RecvTimeoutError, Sender};
use std::thread;
use std::time::{Duration, SystemTime};

use anyhow::{Context, bail};
use kube_ipvs_core::engine::Engine;
use kube_ipvs_core::model::{Carry, Event, Family, Name};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::mpsc::{UnboundedReceiver, unbounded_channel};
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tracing::{info, warn};

use super::config_file;
use super::conntrack::wishes;
use super::engine_loop::{EngineLoop, Input, Inputs, Told};
use super::events::{
    EventQueue, EventReason, EventRecorder, EventWriter, InvolvedObject, QUIET, ReportedEvent,
};
use super::health::Health;
use super::health_checks::HealthChecks;
use super::http::{self, MetricsRoutes, Query};
use super::listen::{Bound, bind};
use super::log;
use super::metrics::Metrics;
use super::replace::replace;
use super::sole::become_sole;
use crate::config::{self, Config, SharedFlags, SourceConfig};
use crate::kernel::sysctl::{Granted, Sysctls};
use crate::kernel::{Kernel, drift, modules};
use crate::source::kubernetes::{self, ApiAccess, FIND_AGAIN, Server, Timeouts};
use crate::source::{manifests, network};

/// How long the engine's thread may take for the batch that it is in the middle of.
const LONGEST_END: Duration = Duration::from_secs(20);

/// Loads what modules the kernel lets us, and sets what kernel settings differ.
///
/// # Errors
///
/// If a setting that services cannot do without is wrong and cannot be written.
pub fn prepare(config: &Config) -> anyhow::Result<Kernel> {
    for warning in &config.warnings {
        warn!("{warning}");
    }
    modules::load_needed(&[config.settings.scheduler], &config.settings.carry);
    // Asking for IPVS loads its module, which brings its settings.
    let mut kernel = Kernel::open()?.carrying(&config.settings.carry)?;
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

/// Runs until SIGTERM or SIGINT. The kernel's state stays as it is. The configuration follows from
/// the flags; if the file that they name changes, the agent replaces itself.
///
/// # Errors
///
/// If something that the agent cannot do without is missing: the kernel's parts, its capability,
/// a source.
pub fn run(config: Config, flags: &SharedFlags) -> anyhow::Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let mut signals = runtime.block_on(async { Signals::catch() })?;
    let sole = runtime.block_on(async {
        tokio::select! {
            sole = become_sole() => Some(sole),
            () = signals.told_to_end() => None,
        }
    });
    let Some(_sole) = sole else { return Ok(()) };
    let kernel = prepare(&config)?;
    protect_from_oom(&config);
    allow_files();
    let ports = kernel.ports();
    let (inputs, received) = mpsc::channel();
    let metrics = Arc::new(Metrics::new()?);
    let (notices, queue) = EventRecorder::new(Arc::clone(&metrics));
    let agent = Agent {
        health: Arc::new(Health::new(SystemTime::now(), config.sync_period)),
        health_checks: HealthChecks::default(),
        metrics,
        notices,
        inputs,
        stopping: Arc::default(),
        config,
    };
    let engine_loop = agent.engine_loop(kernel, received);
    // Nothing is ever sent: its end is the thread's.
    let (running, thread_end) = mpsc::channel::<()>();
    let engine_thread = thread::Builder::new()
        .name("engine".to_owned())
        .spawn(move || {
            engine_loop.run();
            drop(running);
        })
        .context("cannot start the engine's thread")?;
    follow_network(&agent.config.settings.carry, agent.inputs.clone())?;
    follow_tampering(ports, agent.inputs.clone())?;
    let files = agent.follow_config(flags);
    let ended: anyhow::Result<RunEnd> = runtime.block_on(async {
        let end = agent.serve(queue, files, &mut signals).await?;
        // A signal may have come while the last requests were answered.
        tokio::select! {
            biased;
            () = signals.told_to_end() => Ok(RunEnd::Exit),
            end = ready(end) => Ok(end),
        }
    });
    // Somebody may still wait for a name server.
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

/// What a changed configuration file says, or why it says nothing.
type ChangedConfig = anyhow::Result<Config>;

/// The signals that end the agent.
struct Signals {
    terminate: Signal,
    interrupt: Signal,
}

impl Signals {
    /// From now on they end nothing by themselves, and have to be listened for. The first process of
    /// a container, as the agent mostly is, they would not end otherwise.
    fn catch() -> io::Result<Self> {
        Ok(Self {
            terminate: signal(SignalKind::terminate())?,
            interrupt: signal(SignalKind::interrupt())?,
        })
    }

    async fn told_to_end(&mut self) {
        tokio::select! {
            _ = self.terminate.recv() => {}
            _ = self.interrupt.recv() => {}
        }
    }
}

/// What the agent's parts share.
struct Agent {
    config: Config,
    inputs: Sender<Input>,
    health: Arc<Health>,
    metrics: Arc<Metrics>,
    health_checks: HealthChecks,
    notices: EventRecorder,
    /// Whether the agent ends.
    stopping: Arc<AtomicBool>,
}

impl Agent {
    fn engine_loop(&self, kernel: Kernel, inputs: Receiver<Input>) -> EngineLoop {
        let told =
            Told { health_checks: self.health_checks.clone(), notices: self.notices.clone() };
        EngineLoop::new(
            Engine::new(&self.config.settings, self.config.audit_period),
            kernel,
            Inputs { queue: inputs, stopping: Arc::clone(&self.stopping) },
            Arc::clone(&self.health),
            Arc::clone(&self.metrics),
            told,
            &self.config,
        )
    }

    /// Reads the configuration file whenever it changes. A node that has run out of watches still serves
    /// its Services.
    fn follow_config(&self, flags: &SharedFlags) -> UnboundedReceiver<ChangedConfig> {
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
    async fn other_config(&self, mut changes: UnboundedReceiver<ChangedConfig>) {
        while let Some(changed) = changes.recv().await {
            let is_other = match changed {
                Ok(config) if config == self.config => Ok(false),
                Ok(config) => check(&config).await.map(|()| true),
                Err(error) => Err(error),
            };
            match is_other {
                Ok(true) => return,
                Ok(false) => {}
                Err(error) => self.notices.tell(ReportedEvent {
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

    /// Everything asynchronous: the source, HTTP, Events, the configuration file and signals.
    async fn serve(
        &self,
        notices: EventQueue,
        changes: UnboundedReceiver<ChangedConfig>,
        signals: &mut Signals,
    ) -> anyhow::Result<RunEnd> {
        let (running, stopped) = watch::channel(());
        let stop = || {
            let mut stopped = stopped.clone();
            async move {
                // Ends when the sender is dropped.
                while stopped.changed().await.is_ok() {}
            }
        };
        let mut servers = vec![self.answer_health_checks(stop())];
        if let Some(address) = self.config.health_address {
            servers.push(self.answer_probes(self.bind(address).await?, stop()));
        }
        if let Some(address) = self.config.metrics_address {
            servers.push(self.answer_questions(self.bind(address).await?, stop()));
        }
        let ended = tokio::select! {
            () = signals.told_to_end() => Ok(RunEnd::Exit),
            () = self.other_config(changes) => Ok(RunEnd::Replace),
            ended = self.follow_source(notices) => ended.map(|()| RunEnd::Exit),
        };
        info!("stopping; the kernel's state stays as it is");
        // Before anything is waited for. The engine's thread ends after the plan that it carries out.
        self.stopping.store(true, Ordering::Relaxed);
        let _ = self.inputs.send(Input::Stop);
        drop(running);
        // Answers under way are finished.
        for server in servers {
            let _ = server.await;
        }
        ended
    }

    async fn bind(&self, address: SocketAddr) -> anyhow::Result<Bound> {
        bind(address, self.config.bind_address_hard_fail).await
    }

    fn answer_health_checks(&self, stop: impl Stop) -> JoinHandle<()> {
        let (health, notices) = (Arc::clone(&self.health), self.notices.clone());
        let checks = self.health_checks.clone();
        tokio::spawn(async move { checks.serve(&health, &notices, stop).await })
    }

    fn answer_probes(&self, bound: Bound, stop: impl Stop) -> JoinHandle<()> {
        let (health, metrics) = (Arc::clone(&self.health), Arc::clone(&self.metrics));
        tokio::spawn(async move {
            let mut stop = pin!(stop);
            if let Some(listener) = bound.listener(stop.as_mut()).await {
                http::serve_health(listener, health, metrics, stop).await;
            }
        })
    }

    fn answer_questions(&self, bound: Bound, stop: impl Stop) -> JoinHandle<()> {
        let questions = self.inputs.clone();
        let routes = MetricsRoutes {
            health: Arc::clone(&self.health),
            metrics: Arc::clone(&self.metrics),
            traffic_services: self.config.traffic_metrics_services as usize,
            config: config::show(&self.config),
            // Nobody answers once the engine's thread has ended.
            ask: move |query: Query| drop(questions.send(Input::Query(query))),
        };
        tokio::spawn(async move {
            let mut stop = pin!(stop);
            if let Some(listener) = bound.listener(stop.as_mut()).await {
                http::serve_metrics(listener, routes, stop).await;
            }
        })
    }

    /// Follows the source; ends only with an error.
    async fn follow_source(&self, notices: EventQueue) -> anyhow::Result<()> {
        let inputs = self.inputs.clone();
        let deliver = move |event: Event| inputs.send(Input::Event(event)).is_ok();
        let node = &self.config.settings.node_name;
        match &self.config.source {
            SourceConfig::Manifests(directory) => {
                // Without an API server the log is where notices are.
                drop(notices);
                manifests::watch(directory, node, deliver)?;
                pending().await
            }
            SourceConfig::Kubernetes { kubeconfig, master } => {
                let reach = ApiAccess { kubeconfig: kubeconfig.clone(), master: master.clone() };
                let server = find_server(&reach, &self.config).await?;
                deliver(Event::ApiServers(server.sockets().collect()));
                let clients = kubernetes::connect(&reach).await?;
                let metrics = Arc::clone(&self.metrics);
                let counted = Arc::clone(&metrics);
                let note = move |kind, effort| counted.source(kind, effort);
                let events = EventWriter::new(clients.clone(), Name::clone(node), metrics, QUIET);
                let tell = deliver.clone();
                tokio::select! {
                    ended = kubernetes::run_from(
                        &server, clients, &self.config.settings, Timeouts::default(), deliver, note,
                    ) => ended?,
                    () = kubernetes::watch(&reach, &server, FIND_AGAIN, tell) => {}
                    () = events.run(notices) => {}
                }
                bail!("the engine's thread has ended")
            }
        }
    }
}

/// What a changed configuration file says. As a configuration, an empty file would be all defaults, but
/// it is more likely the first half of an edit.
fn read_config(flags: &SharedFlags, text: &str) -> ChangedConfig {
    if text.trim().is_empty() {
        bail!("the file is empty");
    }
    Ok(config::resolve(flags)?)
}

/// Whether the agent can start with another configuration.
async fn check(config: &Config) -> anyhow::Result<()> {
    log::filter(&config.log.level)?;
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

/// Ready once the agent ends.
trait Stop: Future<Output = ()> + Send + 'static {}

impl<F: Future<Output = ()> + Send + 'static> Stop for F {}

/// The first lists are there before any source is asked: what stands at the node's addresses would
/// otherwise go at a restart, and come back.
fn follow_network(carry: &Carry, inputs: Sender<Input>) -> anyhow::Result<()> {
    let links = !carry.offload_interfaces().is_empty();
    network::follow(links, move |event| tell(&inputs, Input::Event(event)))?;
    Ok(())
}

fn follow_tampering(own: Vec<u32>, inputs: Sender<Input>) -> anyhow::Result<()> {
    drift::follow(own, move || tell(&inputs, Input::Tampering))?;
    Ok(())
}

/// Breaks once nobody listens any more.
fn tell(inputs: &Sender<Input>, input: Input) -> ControlFlow<()> {
    match inputs.send(input) {
        Ok(()) => ControlFlow::Continue(()),
        Err(_) => ControlFlow::Break(()),
    }
}

/// Each `healthCheckNodePort` takes files, and without any left nobody answers the kubelet. The limit that a
/// process starts with is low for the sake of `select`, which nothing here uses; Go programs raise it, too.
fn allow_files() {
    let limit = getrlimit(Resource::Nofile);
    let raised = Rlimit { current: limit.maximum, ..limit };
    if let Err(error) = setrlimit(Resource::Nofile, raised) {
        info!("the limit of open files cannot be raised: {error}");
    }
}

/// A node that runs out of memory had better not lose its services first.
fn protect_from_oom(config: &Config) {
    let score = config.oom_score_adj;
    if let Err(error) = fs::write("/proc/self/oom_score_adj", score.to_string()) {
        info!("oom_score_adj {score} cannot be set: {error}");
    }
}
