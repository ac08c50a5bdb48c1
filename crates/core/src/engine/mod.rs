//! The state machine from events to work: pure, with time as a value.
//!
//! ```text
//! handle_event ──► state ──► desired ───► reconciler ──► poll_work ──► the shell applies or observes
//!                                            ▲                          │
//!                                            └── handle_outcomes ◄──────┘
//!                                                handle_observed
//! ```

mod connections;
mod departures;
mod desired_state;
mod edge;
mod former;
mod lookup;
mod resync;
mod retries;
mod rounds;
mod service_updates;
mod totals;

use std::collections::BTreeMap;
use std::fmt::Display;
use std::iter;
use std::mem;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use departures::Departures;
use rustc_hash::FxHashSet;

use crate::canary;
use crate::model::{
    Backend, DesiredService, Element, Event, Pool, ServiceKey, Settings, Shared, VirtualAddress,
};
use crate::plan::{
    self, CountTargets, Failure, FailureKind, ObjectKey, Observed, Operation, Outcome, Reconciler,
    SampleTargets, ServerOperation,
};
use crate::state::{State, Trigger};
pub use desired_state::{DesiredState, Replacement};
pub use edge::Edge;
use resync::Resync;
use retries::Retries;
pub use retries::SyncError;
use rounds::Rounds;
pub use service_updates::ServiceUpdates;
pub use totals::Totals;

/// The number of Services per plan of the first sync, so that the memory of a plan does not grow
/// with the cluster. Each plan waits for nf_tables transactions, so smaller plans would be slower.
const SERVICES_AT_ONCE: usize = 5_000;

/// The interval at which listening sockets are read while a device of the node has a ClusterIP. The
/// kernel does not report them.
const LISTEN_AGAIN: Duration = Duration::from_secs(2);

/// A piece of work; [`Engine::carry_out`] does it.
#[derive(Clone, Debug)]
pub enum Work {
    /// Read the listening sockets of the node.
    Listen,
    /// Read all state of the agent from the kernel.
    Observe,
    /// Read the virtual servers at these addresses.
    ObservePools(Vec<VirtualAddress>),
    /// Count the connections of these targets.
    Count(CountTargets),
    /// Read the counters that show which endpoints answer.
    Sample(SampleTargets),
    /// Carry out the operations in order.
    Apply(Vec<Operation>),
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Phase {
    /// The sources have not listed everything, or the kernel has not been read.
    Starting,
    /// The API server and DNS Services are programmed first, then the others in portions.
    Syncing,
    /// Every Service is programmed.
    Synced,
}

/// The state machine that turns events into kernel operations.
#[derive(Debug)]
pub struct Engine {
    state: State,
    desired: DesiredState,
    reconciler: Reconciler,
    departures: Departures,
    /// What the kernel must hold for each former virtual server.
    former: BTreeMap<VirtualAddress, DesiredService>,
    /// Whether stale flows may exist: the kernel has not been searched for them since the start.
    may_hold_flows: bool,
    phase: Phase,
    /// Services that wait for the first sync, each with the version that the reconciler has.
    waiting: BTreeMap<ServiceKey, Arc<DesiredService>>,
    retries: Retries,
    resync: Resync,
    rounds: Rounds,
    audit_period: Option<Duration>,
    /// The time of the last read of the listening sockets.
    listened: Option<Instant>,
    updates: ServiceUpdates,
}

impl Engine {
    /// Returns an engine without any state. With an audit period, the whole kernel state is read
    /// and repaired at least that often, and virtual servers more often.
    #[must_use]
    pub fn new(settings: &Settings, audit_period: Option<Duration>) -> Self {
        Self {
            state: State::new(settings.node_name.clone()),
            desired: DesiredState::new(settings),
            reconciler: Reconciler::new(settings.drain_period),
            departures: Departures::new(settings.drain_period),
            former: BTreeMap::new(),
            may_hold_flows: true,
            phase: Phase::Starting,
            waiting: BTreeMap::new(),
            retries: Retries::default(),
            resync: Resync::default(),
            rounds: Rounds::default(),
            audit_period,
            listened: None,
            updates: ServiceUpdates::default(),
        }
    }

    /// Applies an event of a source.
    pub fn handle_event(&mut self, mut event: Event) {
        canary::join(&mut event, &self.desired.context().settings);
        self.state.apply(event);
    }

    /// Returns the next task, if any. The caller answers each task before it polls again.
    pub fn poll_work(&mut self, now: Instant) -> Option<Work> {
        self.rounds.is_part = false;
        if self.phase == Phase::Starting {
            let due = self.resync.due().is_none_or(|at| at <= now);
            return (self.state.is_synced() && due).then(|| self.listen_or(Work::Observe, now));
        }
        if self.resync.is_due(now) {
            return Some(self.listen_or(Work::Observe, now));
        }
        if let Some(work) = self.poll_retries(now) {
            return Some(work);
        }
        if let Some(targets) = self.poll_count(now) {
            return Some(Work::Count(targets));
        }
        if let Some(targets) = self.reconciler.poll_sample(now) {
            return Some(Work::Sample(targets));
        }
        let must_poll_listening = self.next_listening().is_some_and(|at| at <= now);
        if !self.state.has_listened()
            && (must_poll_listening || self.desired.need_listening(&self.state))
        {
            return Some(self.listen_or(Work::Listen, now));
        }
        self.update(now);
        while self.phase == Phase::Syncing {
            // Until every Service has been processed, nothing in the kernel is known to be
            // obsolete.
            let plan = self.reconciler.plan(true, now);
            if !plan.is_empty() {
                return Some(Work::Apply(plan));
            }
            self.take_waiting(SERVICES_AT_ONCE);
            if self.waiting.is_empty() {
                self.phase = Phase::Synced;
            }
        }
        self.update_former();
        let plan = self.reconciler.plan(false, now);
        self.retries.forget_needless(plan.iter().map(ObjectKey::of));
        if plan.is_empty() { self.poll_part(now) } else { Some(Work::Apply(plan)) }
    }

    /// Reads the listening sockets along with the kernel state.
    fn listen_or(&mut self, work: Work, now: Instant) -> Work {
        if self.state.has_listened() {
            return work;
        }
        self.state.listen();
        self.listened = Some(now);
        Work::Listen
    }

    /// Returns the time of the next periodic read of the listening sockets.
    fn next_listening(&self) -> Option<Instant> {
        let last = self.listened.filter(|_| self.desired.must_poll_listening());
        last.map(|at| at + LISTEN_AGAIN)
    }

    /// Returns when [`Engine::poll_work`] may have a task without another event.
    #[must_use]
    pub fn poll_timeout(&self) -> Option<Instant> {
        let drains = self.reconciler.next_due();
        let resync = self.resync.due().into_iter().chain(self.rounds.due());
        let resync = resync.chain(self.next_listening().filter(|_| self.phase != Phase::Starting));
        resync.chain(self.retries.next_due()).chain(drains).min()
    }

    /// Takes the observed kernel state. Virtual servers that could not be read are retried.
    fn handle_observed(&mut self, observed: Observed, now: Instant) -> Vec<SyncError> {
        if self.phase == Phase::Starting {
            self.phase = Phase::Syncing;
            self.desired.find(&observed.elements);
            self.update(now);
            self.reconciler.counts().restart(now);
            let Self { desired, reconciler, departures, .. } = self;
            let is_removed = |address: &VirtualAddress| desired.owner(address).is_none();
            for program in departures.recover(&observed, is_removed, now) {
                reconciler.replace(&DesiredService::default(), &program);
            }
        }
        let named = plan::is_named(&observed);
        let desired = &self.desired;
        let pools = desired.services().flat_map(|(_, program)| &program.pools);
        let pools: FxHashSet<_> = pools.map(|pool| pool.server.address).collect();
        let claims = observed.claims.clone();
        let is_own = |address: &VirtualAddress| {
            named(address)
                || pools.contains(address)
                || desired.is_ours(address)
                || claims.has(address)
        };
        // No Service may wait if another proxy or an earlier version has served so far: the agent's
        // rules end the masquerading of the other one, so they must all come at once.
        let is_foreign = |address: &VirtualAddress| !named(address) && is_own(address);
        let mut read = observed.pools.iter().map(|pool| &pool.server.address);
        let takes_over = observed.earlier.is_some()
            || read.by_ref().chain(observed.unread.keys()).any(is_foreign);
        let unread = self.reconciler.observe(observed, is_own);
        if self.phase == Phase::Syncing && takes_over {
            self.phase = Phase::Synced;
            self.take_waiting(usize::MAX);
        }
        if self.desired.forget_missing_schedulers() {
            self.state.touch_context();
        }
        self.find_former(&pools, now);
        self.resync.succeeded(now, self.audit_period);
        self.rounds.begin(self.audit_period, self.reconciler.actual_pools().count(), now);
        let error = |(address, why)| self.handle_unobservable_pool(address, why, now);
        unread.into_iter().map(error).collect()
    }

    /// Reports that another program may have changed the agent's state in the kernel. The state is
    /// read again, at a limited rate.
    pub fn handle_drift(&mut self, now: Instant) {
        if self.phase != Phase::Starting {
            self.resync.drifted(now);
        }
    }

    /// Records that the kernel could not be read; pending work waits for the next attempt.
    fn handle_unobservable(&mut self, now: Instant) {
        let again = self.resync.failed(now);
        self.retries.put_off(again, |_| true);
    }

    /// Returns how many times in a row the kernel could not be read.
    #[must_use]
    pub fn failed_reads(&self) -> u32 {
        self.resync.failures()
    }

    /// Records the reason why the virtual server at an address could not be read; it is retried.
    fn handle_unobservable_pool(
        &mut self,
        address: VirtualAddress,
        why: impl Display,
        now: Instant,
    ) -> SyncError {
        let message = plan::cannot_be_read(&address, why);
        let failure = Failure { kind: FailureKind::Refused, message };
        self.retries.note(ObjectKey::Pool(address), None, failure, now)
    }

    /// Takes the outcomes of a plan's operations, in order.
    fn handle_outcomes(
        &mut self,
        plan: &[Operation],
        outcomes: Vec<Outcome>,
        now: Instant,
    ) -> Vec<SyncError> {
        let failures = self.reconciler.settle(plan, outcomes);
        if !self.retries.is_empty() {
            let failed: FxHashSet<_> = failures.iter().map(|(it, _)| ObjectKey::of(it)).collect();
            let succeeded = plan.iter().map(ObjectKey::of).filter(|key| !failed.contains(key));
            succeeded.for_each(|key| self.retries.forget(&key));
        }
        for (operation, Failure { kind, .. }) in &failures {
            if let Operation::Server(ServerOperation::Add(server) | ServerOperation::Set(server)) =
                operation
                && *kind == FailureKind::NoScheduler
            {
                let services = self.desired.miss_scheduler(server.scheduler);
                services.into_iter().for_each(|service| self.state.touch_service(service));
            }
        }
        let note = |(operation, failure)| {
            self.retries.note(ObjectKey::of(&operation), Some(operation), failure, now)
        };
        failures.into_iter().map(note).collect()
    }

    /// Returns whether the kernel is in the desired state once [`Engine::poll_work`] has no more
    /// tasks, except for failures that are retried.
    #[must_use]
    pub fn is_synced(&self) -> bool {
        self.phase == Phase::Synced
    }

    /// Returns the number of objects in the kernel that are not in the desired state.
    #[must_use]
    pub fn failures(&self) -> usize {
        self.retries.len()
    }

    /// Returns the last failure of each object, in arbitrary order.
    pub fn errors(&self) -> impl Iterator<Item = &SyncError> {
        self.retries.iter()
    }

    /// Returns every draining real server with its virtual server.
    pub fn draining(&self) -> impl Iterator<Item = (&VirtualAddress, &Backend)> {
        self.reconciler.draining()
    }

    /// Returns the number of draining real servers.
    #[must_use]
    pub fn draining_count(&self) -> usize {
        self.reconciler.draining_count()
    }

    /// Returns every real server that has weight 0 because it does not answer, with its virtual
    /// server.
    pub fn ejected(&self) -> impl Iterator<Item = (&VirtualAddress, &SocketAddr)> {
        self.reconciler.ejected()
    }

    /// Returns whether ejections have begun or ended since [`Engine::take_updates`].
    #[must_use]
    pub fn has_ejections(&self) -> bool {
        !self.updates.ejections.is_empty()
    }

    /// Returns the desired pool of a virtual server with its present weights.
    #[must_use]
    pub fn present(&self, server: &VirtualAddress) -> Option<&Pool> {
        self.reconciler.present(server)
    }

    /// Returns the number of changed Services that are not programmed yet.
    #[must_use]
    pub fn dirty_services(&self) -> usize {
        self.state.dirty_services() + self.waiting.len()
    }

    /// Returns and clears the updates that take effect once [`Engine::poll_work`] has no more tasks.
    /// A failed object holds back the endpoint changes of its Services, or all endpoint changes if
    /// it belongs to no Service.
    pub fn take_updates(&mut self) -> ServiceUpdates {
        let programmed = self.take_programmed();
        ServiceUpdates { programmed, ..mem::take(&mut self.updates) }
    }

    fn take_programmed(&mut self) -> Vec<Trigger> {
        let Self { state, desired, retries, .. } = self;
        if retries.has(&ObjectKey::Tables) {
            return Vec::new();
        }
        let has_failed = |pool: &Shared<Pool>| retries.has(&ObjectKey::Pool(pool.server.address));
        state.take_triggers(|service| {
            let program = desired.service(service).filter(|_| !retries.is_empty());
            program.is_some_and(|program| program.pools.iter().any(has_failed))
        })
    }

    /// Returns the desired state.
    #[must_use]
    pub fn desired(&self) -> &DesiredState {
        &self.desired
    }

    /// Returns the objects from the sources.
    #[must_use]
    pub fn state(&self) -> &State {
        &self.state
    }

    fn update(&mut self, now: Instant) {
        let (old_node, replacements) = self.desired.update(&mut self.state);
        if let Some(old) = old_node {
            self.reconciler.replace_node(&old, self.desired.node());
        }
        let Self { desired, reconciler, departures, phase, waiting, updates, .. } = self;
        for replacement in replacements {
            updates.note(&replacement);
            let Replacement { service, old, new } = replacement;
            let mut returned = Vec::new();
            if old.frontends != new.frontends {
                // Must precede the replacement, so that what departing front ends still need is
                // not removed.
                let is_removed = |address: &VirtualAddress| desired.owner(address).is_none();
                let going = departures.depart(&old, is_removed, now);
                if !going.is_empty() {
                    reconciler.counts().restart(now);
                }
                for program in going {
                    reconciler.replace(&DesiredService::default(), &program);
                }
                let addresses = new.frontends.iter().map(|frontend| frontend.address);
                returned.extend(addresses.filter_map(|address| departures.cancel(&address)));
            }
            if *phase == Phase::Syncing && !is_urgent(&service) {
                waiting.entry(service).or_insert(old);
            } else {
                reconciler.replace(&old, &new);
            }
            for program in returned {
                reconciler.replace(&program, &DesiredService::default());
            }
        }
        let context = desired.context();
        for [old, new] in departures.set_source_ips(|family| context.source_ip(family)) {
            reconciler.replace(&old, &new);
        }
    }

    fn take_waiting(&mut self, most: usize) {
        let none = DesiredService::default();
        for (service, old) in iter::from_fn(|| self.waiting.pop_first()).take(most) {
            self.reconciler.replace(&old, self.desired.service(&service).unwrap_or(&none));
        }
    }

    fn poll_retries(&mut self, now: Instant) -> Option<Work> {
        let (doubtful, certain) = self.retries.take_due(now);
        certain.into_iter().for_each(|key| self.reconciler.touch(key));
        let pool = |key: &ObjectKey| match key {
            ObjectKey::Pool(address) => Some(*address),
            _ => None,
        };
        let pools: Vec<_> = doubtful.iter().filter_map(pool).collect();
        if pools.len() < doubtful.len() {
            match self.resync.held_up() {
                // Virtual servers can be read without the rest.
                Some(until) => self.retries.put_off(until, |key| pool(key).is_none()),
                None => return Some(Work::Observe),
            }
        }
        (!pools.is_empty()).then_some(Work::ObservePools(pools))
    }
}

/// Returns whether other Services depend on this one: nothing on a node starts without the API
/// server and DNS.
fn is_urgent(service: &ServiceKey) -> bool {
    service.is("default", "kubernetes")
        || (service.namespace() == "kube-system" && service.name().contains("dns"))
}

/// Returns every set element of the desired state, sorted.
#[must_use]
pub fn elements(desired: &DesiredState) -> Vec<Element> {
    let mut elements: Vec<_> = plan::elements::of_node(desired.node()).collect();
    for (_, program) in desired.services() {
        elements.extend(plan::elements::of_frontends(program));
        elements.extend(plan::elements::of_backends(program));
    }
    elements.sort_unstable();
    elements.dedup();
    elements
}
