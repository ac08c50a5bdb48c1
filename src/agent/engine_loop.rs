//! The loop that feeds the engine and does its work, on a thread of its own.

use std::mem;
use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError};
use std::time::{Duration, Instant, SystemTime};

use kube_ipvs_core::desired::{Overlap, health_check_addresses, overlaps};
use kube_ipvs_core::engine::{Engine, RepeatedError, ServiceUpdates, Totals, Work};
use kube_ipvs_core::explain::explain;
use kube_ipvs_core::model::{Event, VirtualAddress};
use kube_ipvs_core::plan::{ObjectKey, Outcome, Plan, SyncError};
use kube_ipvs_core::state::Trigger;
use netlink_ipvs::KernelError;
use tracing::{debug, error, info, warn};

use super::api;
use super::applied::{Applied, Sum};
use super::events::{
    EventReason, EventRecorder, InvolvedObject, ReportedEvent, of_refusals, of_trouble,
};
use super::health::Health;
use super::health_checks::HealthChecks;
use super::http::Query;
use super::metrics::Metrics;
use super::processor_time::processor_time;
use super::takeover::Takeover;
use super::upkeep::Upkeep;
use crate::config::Config;
use crate::kernel::Kernel;
use crate::kernel::conntrack::Sweep;
use crate::kernel::sysctl::Sysctls;

/// Inputs that are taken in before the kernel is brought up to date with them.
const LARGEST_BURST: usize = 10_000;

/// How long inputs are taken in before that, where they come without an end.
const LONGEST_BURST: Duration = Duration::from_millis(500);

/// What reaches the loop.
#[derive(Debug)]
pub(super) enum Input {
    /// A source tells something.
    Event(Event),
    /// Somebody asks something.
    Query(Query),
    /// Somebody else may have changed what is ours in the kernel.
    Tampering,
    /// The agent ends; the kernel's state stays as it is.
    Stop,
}

/// Where inputs come from.
pub(super) struct Inputs {
    pub(super) queue: Receiver<Input>,
    /// Whether [`Input::Stop`] is among them: work that there is by then is left.
    pub(super) stopping: Arc<AtomicBool>,
}

/// The loop that feeds the engine and does its work.
pub(super) struct EngineLoop {
    engine: Engine,
    kernel: Kernel,
    inputs: Inputs,
    health: Arc<Health>,
    metrics: Arc<Metrics>,
    told: Told,
    /// Shortest time from the end of one sync to the start of the next.
    min_sync_period: Duration,
    started: Instant,
    started_at: SystemTime,
    is_synced: bool,
    /// Whether what listens on the node could not be read the last time.
    cannot_listen: bool,
    last_sync: Option<SystemTime>,
    first_sync: FirstSync,
    applied: Applied,
    takeover: Takeover,
    upkeep: Upkeep,
    surroundings: Known,
    /// When the part of an audit had been read, in [`processor_time`]; what its comparison took.
    part_read: Option<Duration>,
    comparing: Duration,
}

/// What of the node has been told so far.
#[derive(Default)]
struct Known {
    changes: u64,
    overlaps: Vec<Overlap>,
    node_port_ips: Vec<IpAddr>,
}

/// Who is told of what is nothing to the kernel.
pub(super) struct Told {
    /// Answer load balancers.
    pub(super) health_checks: HealthChecks,
    /// Tell operators.
    pub(super) notices: EventRecorder,
}

/// What the first sync has done so far.
#[derive(Default)]
struct FirstSync {
    operations: usize,
    failures: usize,
}

impl EngineLoop {
    /// A loop that has not begun.
    pub(super) fn new(
        engine: Engine,
        kernel: Kernel,
        inputs: Inputs,
        health: Arc<Health>,
        metrics: Arc<Metrics>,
        told: Told,
        config: &Config,
    ) -> Self {
        let upkeep = Upkeep::new(Sysctls::default(), Arc::clone(&metrics), told.notices.clone());
        Self {
            engine,
            kernel,
            inputs,
            health,
            metrics,
            told,
            min_sync_period: config.min_sync_period,
            started: Instant::now(),
            started_at: SystemTime::now(),
            is_synced: false,
            cannot_listen: false,
            last_sync: None,
            first_sync: FirstSync::default(),
            applied: Applied::default(),
            takeover: Takeover::new(config.remove_kube_proxy),
            upkeep,
            surroundings: Known::default(),
            part_read: None,
            comparing: Duration::ZERO,
        }
    }

    /// Runs until told to stop, or until nobody is left who could tell anything.
    pub(super) fn run(mut self) {
        let mut free_at = Instant::now();
        while self.receive(free_at) {
            self.metrics.dirty(self.engine.dirty_services());
            if self.work() {
                free_at = Instant::now() + self.min_sync_period;
            }
            self.log();
        }
    }

    /// Waits for something to do and takes in all that has come. False at the end.
    fn receive(&mut self, free_at: Instant) -> bool {
        let now = Instant::now();
        let due =
            [self.engine.poll_timeout(), self.applied.due(now), self.told.notices.log_due(now)];
        let wait = due.into_iter().flatten().min().map(|at| at.saturating_duration_since(now));
        let first = match wait {
            Some(wait) => self.inputs.queue.recv_timeout(wait),
            None => self.inputs.queue.recv().map_err(|_| RecvTimeoutError::Disconnected),
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
        // A burst is taken in as a whole before the kernel is touched, but not for as long as somebody
        // goes on to ask.
        let end = free_at.max(Instant::now() + LONGEST_BURST);
        for _ in 1..LARGEST_BURST {
            let now = Instant::now();
            if now > end {
                break;
            }
            let rest = free_at.saturating_duration_since(now);
            let Ok(input) = self.inputs.queue.recv_timeout(rest) else { break };
            if !self.take(input) {
                return false;
            }
        }
        true
    }

    fn take(&mut self, input: Input) -> bool {
        match input {
            Input::Event(event) => {
                self.metrics.event(&event, SystemTime::now());
                if let Event::Node(node) = &event {
                    self.health.set_eligible(node.as_ref().map(|node| node.eligible));
                }
                self.engine.handle_event(event);
                // Until everything has been told, nothing waits but for the source.
                if self.engine.state().is_synced() {
                    self.health.queued(Instant::now());
                }
            }
            Input::Query(query) => self.answer(query),
            Input::Tampering => {
                debug!("somebody else has changed what is ours in the kernel");
                self.engine.handle_drift(Instant::now());
            }
            Input::Stop => return false,
        }
        true
    }

    /// Does all the work that there is. Says whether the kernel was touched.
    fn work(&mut self) -> bool {
        let mut touched = false;
        // Whether all that there is to do is to put right what others have changed.
        let mut repairs = false;
        while let Some(work) = self.poll_work() {
            match work {
                Work::Listen => self.listen(),
                Work::Observe => match self.takeover.observe(&mut self.kernel) {
                    Ok(observed) => {
                        repairs = self.is_synced
                            && self.engine.failures() == 0
                            && !self.engine.state().is_dirty();
                        self.upkeep.look();
                        let failures = self.engine.handle_observed(observed, Instant::now());
                        failures.iter().for_each(|trouble| self.tell(trouble));
                    }
                    // Changes are made all the same, of what is known.
                    Err(error) => self.unobservable(&error),
                },
                Work::ObservePools(addresses) => {
                    repairs = self.engine.is_auditing() && self.engine.failures() == 0;
                    self.observe_pools(addresses);
                }
                Work::Count(leavers) => match self.kernel.connections(&leavers) {
                    Ok(running) => self.engine.handle_connections(running, Instant::now()),
                    Err(error) => warn!(%error, "connections of what leaves cannot be counted"),
                },
                Work::Apply(plan) => {
                    touched = true;
                    if mem::take(&mut repairs) {
                        let operations = plan.operations().len();
                        self.metrics.repaired(operations);
                        warn!(operations, "somebody else has changed the kernel: put right");
                    }
                    self.apply(&plan);
                }
            }
        }
        if let Some(read) = self.part_read.take() {
            self.comparing = processor_time().saturating_sub(read);
        }
        self.upkeep.look_at_firewall(self.engine.desired().context());
        if self.engine.is_synced() && !self.is_stopping() {
            self.settled();
            if self.engine.failures() == 0 {
                self.takeover.settled(&mut self.kernel);
            }
        }
        touched
    }

    /// Reads what listens on the node. What cannot be read is told once.
    fn listen(&mut self) {
        match self.kernel.listening() {
            Ok(listening) => {
                self.cannot_listen = false;
                self.engine.handle_event(Event::Listening(listening));
            }
            Err(error) => {
                if !mem::replace(&mut self.cannot_listen, true) {
                    warn!(
                        "what listens on the node cannot be read: {error}; only protectedNodePorts \
                         keep ports for it that nothing was known to listen at"
                    );
                }
            }
        }
    }

    fn poll_work(&mut self) -> Option<Work> {
        if self.is_stopping() { None } else { self.engine.poll_work(Instant::now()) }
    }

    fn is_stopping(&self) -> bool {
        self.inputs.stopping.load(Ordering::Relaxed)
    }

    /// Tells which addresses take node ports, and what lies in the ranges of ClusterIPs that is no
    /// Service's, before anything is written.
    fn tell_surroundings(&mut self) {
        let Self { engine, surroundings: known, told, .. } = self;
        let programs = engine.desired();
        let changes = programs.surroundings_changes();
        if mem::replace(&mut known.changes, changes) == changes {
            return;
        }
        let around = programs.context();
        if known.node_port_ips != around.node_port_ips {
            known.node_port_ips.clone_from(&around.node_port_ips);
            info!(addresses = ?known.node_port_ips, "where node ports are served");
        }
        let overlaps = overlaps(around);
        for overlap in &overlaps {
            if !known.overlaps.iter().any(|other| other.is_alike(overlap)) {
                let message = format!(
                    "{overlap}; addresses there that no Service has are left alone: give the cluster \
                     a range of its own"
                );
                told.notices.tell(ReportedEvent {
                    about: InvolvedObject::Node,
                    reason: EventReason::RangeOverlaps,
                    message,
                });
            }
        }
        known.overlaps = overlaps;
    }

    fn apply(&mut self, plan: &Plan) {
        self.tell_surroundings();
        let start = Instant::now();
        let outcomes = self.kernel.apply(plan.operations());
        let took = start.elapsed();
        self.metrics.applied(plan.operations(), &outcomes, took);
        for Sweep { family, deleted, took } in self.kernel.take_sweeps() {
            self.metrics.swept(family, deleted, took);
        }
        let failures = outcomes.iter().filter(|outcome| outcome.is_err()).count();
        if self.is_synced {
            self.applied.add(plan.operations().len(), failures, took);
        } else {
            self.first_sync.operations += plan.operations().len();
            self.first_sync.failures += failures;
        }
        for operation in plan.operations() {
            debug!(%operation, "{}", operation.effect());
        }
        self.handle_outcomes(plan, outcomes);
    }

    fn handle_outcomes(&mut self, plan: &Plan, outcomes: Vec<Outcome>) {
        let failures = self.engine.handle_outcomes(plan, outcomes, Instant::now());
        failures.iter().for_each(|trouble| self.tell(trouble));
    }

    fn tell(&self, trouble: &RepeatedError) {
        if !trouble.is_news() {
            return;
        }
        let about = self.about(trouble);
        if let Some(notice) = of_trouble(about.clone(), trouble) {
            return self.told.notices.tell(notice);
        }
        let RepeatedError { error: SyncError { attempt, message, .. }, attempts } = trouble;
        let message = format!("`{attempt}`: {message}; attempt {attempts}, will be tried again");
        self.told.notices.tell_log(about, message);
    }

    /// Writes what is due of what is not logged as often as it happens.
    fn log(&mut self) {
        let now = Instant::now();
        if let Some(Sum { plans, operations, failures, took }) = self.applied.next(now) {
            info!(plans, operations, failures, ?took, "applied");
        }
        self.told.notices.log(now);
    }

    /// What a trouble is about.
    fn about(&self, trouble: &RepeatedError) -> InvolvedObject {
        let owner = match &trouble.error.key {
            ObjectKey::Pool(address) => self.engine.desired().owner(address),
            _ => None,
        };
        owner.map_or(InvolvedObject::Node, |service| InvolvedObject::Service(service.clone()))
    }

    /// Reads virtual servers. One that cannot be read holds up no other.
    fn observe_pools(&mut self, addresses: Vec<VirtualAddress>) {
        let before = processor_time();
        let audits = self.engine.is_auditing();
        if audits {
            self.upkeep.look_again();
        }
        for address in addresses {
            match self.kernel.observe_pools(&[address]) {
                Ok(pools) => self.engine.handle_observed_pools(&[address], pools),
                // Those that are not in doubt can wait until the kernel can be read.
                Err(error) if audits && !error.is_of_one_object() => {
                    self.unobservable(&error);
                    break;
                }
                Err(error) => {
                    let now = Instant::now();
                    let trouble = self.engine.handle_unobservable_pool(address, error, now);
                    self.tell(&trouble);
                }
            }
        }
        let now = processor_time();
        let took = now.saturating_sub(before) + mem::take(&mut self.comparing);
        self.engine.handle_part_read(took, Instant::now());
        self.part_read = audits.then_some(now);
    }

    fn unobservable(&mut self, error: &KernelError) {
        self.metrics.unobservable();
        if let Some(attempts) = self.engine.handle_unobservable(Instant::now()) {
            error!(attempts, "cannot read the kernel's state: {error}; will be tried again");
        }
    }

    /// Everything that was told is in the kernel.
    fn settled(&mut self) {
        self.last_sync = Some(SystemTime::now());
        self.health.updated(SystemTime::now());
        self.metrics.dirty(self.engine.dirty_services());
        self.metrics.failures(self.engine.failures());
        self.metrics.leaving(self.engine.draining_count());
        self.metrics.settled(&self.engine.desired().totals(), SystemTime::now());
        self.tell_news();
        self.measure_changes();
        if self.is_synced {
            return;
        }
        self.is_synced = true;
        self.health.synced();
        let FirstSync { operations, failures } = self.first_sync;
        let Totals { services, backends: real_servers, .. } = self.engine.desired().totals();
        let took = self.started.elapsed();
        info!(services, real_servers, operations, failures, ?took, "synced");
    }

    /// Tells what is nothing to the kernel, but true only once the kernel is up to date.
    fn tell_news(&mut self) {
        let ServiceUpdates { updates, health_checks, refusals } = self.engine.take_updates();
        let addresses = health_check_addresses(self.engine.desired().context());
        self.metrics.updated(updates);
        self.told.health_checks.update(health_checks, addresses);
        let owner = |address: &VirtualAddress| self.engine.desired().owner(address);
        let refused = refusals.iter().flat_map(|(service, all)| of_refusals(service, all, owner));
        refused.for_each(|notice| self.told.notices.tell(notice));
    }

    /// Measures how long the changes of endpoints took that have just come to be in the kernel.
    /// Those from before the start waited for the agent, not for its work.
    fn measure_changes(&mut self) {
        let now = SystemTime::now();
        for Trigger { family, at } in self.engine.take_programmed() {
            let happened = u64::try_from(at).ok().map(Duration::from_millis);
            let happened = happened.and_then(|at| SystemTime::UNIX_EPOCH.checked_add(at));
            if let Some(happened) = happened.filter(|at| *at > self.started_at) {
                self.metrics.programmed(family, now.duration_since(happened).unwrap_or_default());
            }
        }
    }

    fn answer(&mut self, query: Query) {
        // Whoever asked may have gone away meanwhile.
        if query.is_abandoned() {
            return;
        }
        match query {
            Query::Status(reply) => {
                let _ = reply.send(api::status(&self.engine, self.last_sync));
            }
            // A question that is dropped is answered with "ask again".
            Query::Traffic { services, reply } => match self.kernel.traffic() {
                Ok(all) => {
                    let programs = self.engine.desired();
                    let _ = reply.send(api::traffic(programs, &all, services));
                }
                Err(error) => warn!("cannot read the statistics of IPVS: {error}"),
            },
            Query::Explain { destination, from, reply } => {
                let _ = reply.send(explain(self.engine.desired(), destination, from));
            }
        }
    }
}
