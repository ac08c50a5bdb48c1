//! The loop that runs the engine on its own thread.

use std::mem;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError};
use std::time::{Duration, Instant, SystemTime};

use kube_ipvs_core::desired::health_check_addresses;
use kube_ipvs_core::engine::{Engine, ServiceUpdates, SyncError, Totals, Work};
use kube_ipvs_core::explain::explain_present;
use kube_ipvs_core::model::{Event, VirtualAddress};
use kube_ipvs_core::plan::{Ejection, EjectionChange, ObjectKey};
use kube_ipvs_core::state::Trigger;
use netlink_ipvs::KernelError;
use tokio::sync::watch;
use tracing::{debug, error, info, warn};

use super::api;
use super::canary::CanaryBoard;
use super::checkup::Checkup;
use super::edge::NodeKernel;
use super::events::{
    EventRecorder, InvolvedObject, of_ejection, of_failure, of_ignored, of_refusals,
};
use super::health::Health;
use super::health_checks::HealthChecks;
use super::http::Query;
use super::log_lines::{Applied, ContextLog, StartLog, Sum, report_drift};
use super::metrics::{Metrics, set};
use super::takeover::Takeover;
use super::upkeep::Upkeep;
use crate::config::Config;
use crate::doctor::Subject;
use crate::kernel::drift::DriftNotice;
use crate::kernel::{Kernel, sysctl};

/// The number of inputs that are processed before the kernel is updated.
const LARGEST_BURST: usize = 10_000;

/// How long a steady stream of inputs may delay the update of the kernel.
const LONGEST_BURST: Duration = Duration::from_millis(500);

#[derive(Debug)]
pub(super) enum Input {
    Event(Event),
    Query(Query),
    /// Another program may have changed the agent's state in the kernel.
    Drift(DriftNotice),
    /// The agent ends; the kernel's state stays as it is.
    Stop,
}

/// What the engine's thread and the asynchronous parts share.
#[derive(Clone)]
pub(super) struct Handles {
    pub(super) health: Arc<Health>,
    pub(super) metrics: Arc<Metrics>,
    pub(super) health_checks: watch::Sender<HealthChecks>,
    pub(super) notices: EventRecorder,
    pub(super) canary: Arc<CanaryBoard>,
    /// Set with [`Input::Stop`]: pending work is dropped.
    pub(super) stopping: Arc<AtomicBool>,
}

pub(super) struct EngineLoop {
    engine: Engine,
    kernel: Kernel,
    inputs: Receiver<Input>,
    handles: Handles,
    /// The least time from the end of a sync to the start of the next.
    min_sync_period: Duration,
    started: Instant,
    started_at: SystemTime,
    is_synced: bool,
    /// Whether the last read of the listening sockets failed.
    cannot_listen: bool,
    /// Whether IPVS added its counters up when they were last read.
    adds_up: bool,
    last_sync: Option<SystemTime>,
    /// The work of the first sync.
    first_sync: Sum,
    applied: Applied,
    takeover: Takeover,
    upkeep: Upkeep,
    checkup: Checkup,
    start_log: StartLog,
    /// What the kernel has said about drift that is not repaired yet.
    drift: DriftNotice,
    has_observed: bool,
    context_log: ContextLog,
}

impl EngineLoop {
    pub(super) fn new(
        engine: Engine,
        kernel: Kernel,
        inputs: Receiver<Input>,
        handles: Handles,
        config: &Config,
    ) -> Self {
        let (metrics, notices) = (Arc::clone(&handles.metrics), handles.notices.clone());
        let checkup = Checkup::start(Arc::clone(&metrics), notices.clone());
        let upkeep = Upkeep::new(sysctl::ROOT, metrics, notices);
        Self {
            engine,
            kernel,
            inputs,
            handles,
            min_sync_period: config.min_sync_period,
            started: Instant::now(),
            started_at: SystemTime::now(),
            is_synced: false,
            cannot_listen: false,
            adds_up: true,
            last_sync: None,
            first_sync: Sum::default(),
            applied: Applied::default(),
            takeover: Takeover::new(config.remove_kube_proxy),
            upkeep,
            checkup,
            start_log: StartLog::new(config, Instant::now()),
            drift: DriftNotice::default(),
            has_observed: false,
            context_log: ContextLog::default(),
        }
    }

    /// Runs until [`Input::Stop`], or until all senders are gone.
    pub(super) fn run(mut self) {
        let mut free_at = Instant::now();
        self.check_node();
        while self.receive(free_at) {
            set(&self.handles.metrics.dirty, self.engine.dirty_services());
            if self.work() {
                free_at = Instant::now() + self.min_sync_period;
            }
            self.log();
        }
    }

    /// Waits for work and processes all pending inputs. Returns false at the end.
    fn receive(&mut self, free_at: Instant) -> bool {
        let now = Instant::now();
        let due = [
            self.engine.poll_timeout(),
            self.applied.due(now),
            self.start_log.due(),
            self.handles.notices.log_due(now),
        ];
        let wait = due.into_iter().flatten().min().map(|at| at.saturating_duration_since(now));
        let first = match wait {
            Some(wait) => self.inputs.recv_timeout(wait),
            None => self.inputs.recv().map_err(|_| RecvTimeoutError::Disconnected),
        };
        match first {
            Ok(input) => {
                if !self.take(input) {
                    return false;
                }
            }
            Err(RecvTimeoutError::Timeout) => {}
            Err(RecvTimeoutError::Disconnected) => return false,
        }
        // A burst is processed as a whole before the kernel is updated, but a steady stream of
        // queries must not delay the update.
        let end = free_at.max(Instant::now() + LONGEST_BURST);
        for _ in 1..LARGEST_BURST {
            let now = Instant::now();
            if now > end {
                break;
            }
            let rest = free_at.saturating_duration_since(now);
            let Ok(input) = self.inputs.recv_timeout(rest) else { break };
            if !self.take(input) {
                return false;
            }
        }
        true
    }

    fn take(&mut self, input: Input) -> bool {
        match input {
            Input::Event(event) => {
                self.handles.metrics.event(&event, SystemTime::now());
                if let Event::Node(node) = &event {
                    self.handles.health.set_eligible(node.as_ref().map(|node| node.eligible));
                }
                self.engine.handle_event(event);
                // Until everything is listed, only the source can be late.
                if self.engine.state().is_synced() {
                    self.handles.health.queued(Instant::now());
                }
            }
            Input::Query(query) => self.answer(query),
            Input::Drift(notice) => {
                debug!(?notice, "another program may have changed the agent's state in the kernel");
                self.drift.merge(notice);
                self.engine.handle_drift(Instant::now());
            }
            Input::Stop => return false,
        }
        true
    }

    /// Does all pending work. Returns whether the kernel was changed.
    fn work(&mut self) -> bool {
        let mut touched = false;
        // Whether the only work is the repair of drift.
        let mut repairs = false;
        while let Some(work) = self.next_work() {
            match &work {
                Work::Observe => {
                    let engine = &self.engine;
                    repairs =
                        self.is_synced && engine.failures() == 0 && !engine.state().is_dirty();
                }
                Work::ObservePools(_) => {
                    repairs = self.engine.is_auditing() && self.engine.failures() == 0;
                    if self.engine.is_auditing() {
                        self.upkeep.check_again();
                    }
                }
                Work::Apply(plan) => {
                    touched = true;
                    self.context_log.report(self.engine.desired(), &self.handles.notices);
                    // An ejection may be due at the moment of an audit.
                    if mem::take(&mut repairs) && !self.engine.has_ejections() {
                        self.handles.metrics.repairs.inc_by(plan.len() as u64);
                        report_drift(&mem::take(&mut self.drift), plan);
                    }
                }
                Work::Listen | Work::Count(_) | Work::Sample(_) => {}
            }
            let (engine, mut kernel) = self.edge();
            let result = engine.carry_out(&work, &mut kernel);
            self.report_work(&work, result);
        }
        if mem::take(&mut self.has_observed) {
            self.drift = DriftNotice::default();
        }
        if self.upkeep.take_checked() {
            self.check_node();
        }
        if self.engine.is_synced() && !self.is_stopping() {
            self.settled();
            if self.engine.failures() == 0 {
                self.takeover.settled(&mut self.kernel);
            }
        }
        touched
    }

    /// Has the checks run, on their own thread.
    fn check_node(&self) {
        let subject = Subject::of_context(self.engine.desired().context());
        self.checkup.request(subject, self.engine.is_synced());
    }

    fn next_work(&mut self) -> Option<Work> {
        if self.is_stopping() {
            return None;
        }
        let (engine, mut kernel) = self.edge();
        engine.next_work(&mut kernel)
    }

    fn edge(&mut self) -> (&mut Engine, NodeKernel<'_>) {
        let Self {
            engine, kernel, takeover, handles, first_sync, applied, is_synced, adds_up, ..
        } = self;
        let sum = if *is_synced { applied.sum() } else { first_sync };
        (engine, NodeKernel { kernel, takeover, metrics: &handles.metrics, adds_up, sum })
    }

    fn is_stopping(&self) -> bool {
        self.handles.stopping.load(Ordering::Relaxed)
    }

    fn report_work(&mut self, work: &Work, result: Result<Vec<SyncError>, KernelError>) {
        if let Ok(failures) = &result {
            failures.iter().for_each(|failure| self.report(failure));
        }
        match (work, result) {
            (Work::Listen, Ok(_)) => self.cannot_listen = false,
            // Reported once.
            (Work::Listen, Err(error)) => {
                if !mem::replace(&mut self.cannot_listen, true) {
                    warn!(
                        "cannot read the listening sockets of the node: {error}; new sockets are \
                         protected only by protectedNodePorts"
                    );
                }
            }
            (Work::Observe, Ok(_)) => {
                self.has_observed = true;
                self.upkeep.check();
            }
            (Work::Sample(_), Err(error)) => {
                // One read a second may fail for hours.
                let message = format!("cannot read which endpoints answer: {error}");
                self.handles.notices.report_log(InvolvedObject::Node, message);
            }
            (Work::Count(_), Err(error)) => {
                warn!(%error, "cannot count the connections of draining endpoints");
            }
            // Changes based on the previous knowledge continue.
            (_, Err(error)) => self.unobservable(&error),
            (Work::ObservePools(_) | Work::Count(_) | Work::Sample(_) | Work::Apply(_), Ok(_)) => {}
        }
    }

    fn report(&self, failure: &SyncError) {
        if !failure.is_reportable() {
            return;
        }
        let about = match &failure.key {
            ObjectKey::Pool(server) => self.object_of(server),
            _ => InvolvedObject::Node,
        };
        let name = api::name_in(&self.engine, failure);
        if let Some(notice) = of_failure(about.clone(), failure, &name) {
            return self.handles.notices.report(notice);
        }
        let (command, attempts) = (failure.command(), failure.attempts);
        let message =
            format!("`{command}`{name}: {}; attempt {attempts}, will be retried", failure.failure);
        self.handles.notices.report_log(about, message);
    }

    /// Writes the rate-limited log lines that are due.
    fn log(&mut self) {
        let now = Instant::now();
        if let Some(Sum { plans, operations, failures, took }) = self.applied.next(now) {
            let Totals { services, backends: real_servers, .. } = self.engine.desired().totals();
            info!(plans, operations, failures, ?took, services, real_servers, "applied");
        }
        self.start_log.log(&self.engine, now);
        self.handles.notices.log(now);
    }

    /// Returns the object of a virtual server.
    fn object_of(&self, server: &VirtualAddress) -> InvolvedObject {
        let owner = self.engine.desired().pool_owner(server);
        owner.map_or(InvolvedObject::Node, |service| InvolvedObject::Service(service.clone()))
    }

    fn unobservable(&self, error: &KernelError) {
        self.handles.metrics.read_failures.inc();
        let attempts = self.engine.failed_reads();
        // The first failure, and then at doubling distances.
        if attempts.is_power_of_two() {
            error!(attempts, "cannot read the kernel's state: {error}; will be retried");
        }
    }

    /// Records that the kernel is up to date.
    fn settled(&mut self) {
        self.last_sync = Some(SystemTime::now());
        self.handles.health.updated(SystemTime::now());
        set(&self.handles.metrics.dirty, self.engine.dirty_services());
        set(&self.handles.metrics.failures, self.engine.failures());
        set(&self.handles.metrics.draining, self.engine.draining_count());
        set(&self.handles.metrics.ejected, self.engine.ejected().count());
        self.handles.metrics.settled(&self.engine.desired().totals(), SystemTime::now());
        self.deliver_updates();
        if self.is_synced {
            return;
        }
        self.is_synced = true;
        self.start_log.end();
        self.check_node();
        self.handles.health.synced();
        let Sum { operations, failures, .. } = self.first_sync;
        let Totals { services, backends: real_servers, .. } = self.engine.desired().totals();
        let took = self.started.elapsed();
        info!(services, real_servers, operations, failures, ?took, "synced");
    }

    /// Delivers the updates that take effect once the kernel is up to date.
    fn deliver_updates(&mut self) {
        let ServiceUpdates {
            updates,
            health_checks,
            refusals,
            ignored_options,
            ejections,
            programmed,
        } = self.engine.take_updates();
        let addresses = health_check_addresses(self.engine.desired().context());
        self.handles.metrics.updates.inc_by(updates as u64);
        let checks = &self.handles.health_checks;
        checks.send_if_modified(|checks| checks.update(health_checks, addresses));
        let owner = |address: &VirtualAddress| self.engine.desired().owner(address);
        let refused = refusals.iter().flat_map(|(service, all)| of_refusals(service, all, owner));
        let ignored = ignored_options.iter().flat_map(|(service, all)| of_ignored(service, all));
        refused.chain(ignored).for_each(|notice| self.handles.notices.report(notice));
        ejections.iter().for_each(|ejection| self.report_ejection(ejection));
        self.measure_changes(programmed);
    }

    fn report_ejection(&self, ejection: &Ejection) {
        let Ejection { server, backend, change } = ejection;
        let backend = backend.socket();
        let name = api::name_of(&self.engine, server, backend);
        let (pod, node) = (name.pod.as_deref(), name.node.as_deref());
        match change {
            EjectionChange::Ejected { .. } => {
                self.handles.metrics.ejections.inc();
                let about = self.object_of(server);
                self.handles.notices.report(of_ejection(about, ejection, &name));
            }
            EjectionChange::Restored => {
                info!(%server, %backend, pod, node, "an ejected endpoint answers again");
            }
            EjectionChange::Tried => {
                debug!(%server, %backend, pod, node, "an ejected endpoint is on trial")
            }
            EjectionChange::Failed => {
                debug!(%server, %backend, pod, node, "an ejected endpoint does not answer its trial");
            }
        }
    }

    /// Measures the time from endpoint changes to their presence in the kernel. Changes from before
    /// the start are left out: they waited for the agent.
    fn measure_changes(&self, programmed: Vec<Trigger>) {
        let now = SystemTime::now();
        for Trigger { family, at } in programmed {
            let happened = u64::try_from(at).ok().map(Duration::from_millis);
            let happened = happened.and_then(|at| SystemTime::UNIX_EPOCH.checked_add(at));
            if let Some(happened) = happened.filter(|at| *at > self.started_at) {
                self.handles
                    .metrics
                    .kube_proxy
                    .programmed(family, now.duration_since(happened).unwrap_or_default());
            }
        }
    }

    fn answer(&mut self, query: Query) {
        // The client may have gone away meanwhile.
        if query.is_abandoned() {
            return;
        }
        match query {
            Query::Status { filter, busiest, reply } => {
                let snapshot =
                    api::status(&self.engine, self.last_sync, &filter, busiest.as_deref());
                let mut checks = self.checkup.failing();
                checks.extend(self.handles.canary.complaint());
                let _ = reply.send(snapshot.with_checks(checks));
            }
            // A dropped query is answered with "ask again".
            Query::Traffic { filter, reply } => match self.kernel.ipvs.traffic() {
                Ok(all) => {
                    let _ = reply.send(api::traffic(&self.engine, &all, &filter));
                }
                Err(error) => warn!("cannot read the statistics of IPVS: {error}"),
            },
            Query::Names { addresses, reply } => {
                let _ = reply.send(api::names(&self.engine, &addresses));
            }
            Query::Explain { question, reply } => {
                let explain = |destination, from| explain_present(&self.engine, destination, from);
                let _ = reply.send(api::explained(&question, self.engine.state(), explain));
            }
        }
    }
}
