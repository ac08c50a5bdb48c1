//! The state machine from events to work: pure, with time as a value.
//!
//! ```text
//! handle_event ──► state ──► programs ──► reconciler ──► poll_work ──► the shell applies or observes
//!                                            ▲                          │
//!                                            └── handle_outcomes ◄──────┘
//!                                                handle_observed
//! ```

mod connections;
mod departures;
mod desired_state;
mod former;
mod repeated_error;
mod resync;
mod retries;
mod rounds;
mod service_updates;
mod totals;

use std::collections::BTreeMap;
use std::fmt::Display;
use std::iter;
use std::sync::Arc;
use std::time::{Duration, Instant};

use departures::Departures;
use former::Former;
use rustc_hash::FxHashSet;

use crate::model::{
    Backend, DesiredService, Element, Event, Pool, ServiceKey, Settings, Shared, VirtualAddress,
};
use crate::plan::{
    self, Attempt, FailureKind, Leavers, ObjectKey, Observed, Outcome, Plan, Reconciler, SyncError,
};
use crate::state::{State, Trigger};
pub use desired_state::{DesiredState, Replacement, Update};
pub use repeated_error::RepeatedError;
use repeated_error::is_news;
use resync::Resync;
use retries::Retries;
use rounds::Rounds;
pub use service_updates::ServiceUpdates;
pub use totals::{PerFamily, Totals};

/// How many Services the first sync takes into one plan, so that what a plan needs of memory does
/// not grow with the cluster. Each plan waits for transactions of nf_tables, so not fewer.
const SERVICES_AT_ONCE: usize = 5_000;

/// How often it is asked what listens on the node while a device of the node has a ClusterIP. The
/// kernel tells nobody.
const LISTEN_AGAIN: Duration = Duration::from_secs(2);

/// What the shell is to do next.
#[derive(Debug)]
pub enum Work {
    /// Read where sockets of the node listen; answer with [`Event::Listening`].
    Listen,
    /// Read back everything of ours; answer with [`Engine::handle_observed`].
    Observe,
    /// Read back the virtual servers at these addresses; answer with
    /// [`Engine::handle_observed_pools`], and [`Engine::handle_part_read`] once all are read.
    ObservePools(Vec<VirtualAddress>),
    /// Count the connections of these; answer with [`Engine::handle_connections`].
    Count(Leavers),
    /// Carry out operations in their order; answer with [`Engine::handle_outcomes`].
    Apply(Plan),
}

/// How far the first sync has come.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Phase {
    /// Sources have not told everything yet, or the kernel has not been read.
    Starting,
    /// The API server's and DNS Services go first, then the others, some at a time.
    Syncing,
    /// Every Service is looked after.
    Synced,
}

/// The state machine.
#[derive(Debug)]
pub struct Engine {
    state: State,
    desired: DesiredState,
    reconciler: Reconciler,
    departures: Departures,
    former: Former,
    /// Whether flows may be held where no agent has moved them: not looked for since the start.
    may_hold_flows: bool,
    phase: Phase,
    /// Services that wait for their turn in the first sync, each with the DesiredService that the reconciler
    /// has of it.
    waiting: BTreeMap<ServiceKey, Arc<DesiredService>>,
    retries: Retries,
    resync: Resync,
    rounds: Rounds,
    audit_period: Option<Duration>,
    /// When it was last asked what listens on the node.
    listened: Option<Instant>,
    updates: ServiceUpdates,
}

impl Engine {
    /// An engine that knows nothing yet. With an audit period, everything is read back from the
    /// kernel at least that often and put right, and virtual servers more often.
    #[must_use]
    pub fn new(settings: &Settings, audit_period: Option<Duration>) -> Self {
        Self {
            state: State::new(settings.node_name.clone()),
            desired: DesiredState::new(settings),
            reconciler: Reconciler::new(settings.drain_period),
            departures: Departures::new(settings.drain_period),
            former: Former::new(),
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

    /// Takes in what a source told.
    pub fn handle_event(&mut self, event: Event) {
        self.state.apply(event);
    }

    /// What is to be done next; `None` if nothing is for now. Each piece of work is answered
    /// before the next is asked for.
    pub fn poll_work(&mut self, now: Instant) -> Option<Work> {
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
        if let Some(leavers) = self.poll_count(now) {
            return Some(Work::Count(leavers));
        }
        let must_listen = self.next_listening().is_some_and(|at| at <= now);
        if !self.state.has_listened() && (must_listen || self.desired.need_listening(&self.state)) {
            return Some(self.listen_or(Work::Listen, now));
        }
        self.update(now);
        while self.phase == Phase::Syncing {
            // Until every Service has been looked at, nothing that is held is known to be
            // superfluous.
            let plan = self.reconciler.plan(true, now);
            if !plan.is_empty() {
                return Some(Work::Apply(plan));
            }
            self.take_waiting(SERVICES_AT_ONCE);
            if self.waiting.is_empty() {
                self.phase = Phase::Synced;
            }
        }
        self.look_after_former();
        let plan = self.reconciler.plan(false, now);
        self.retries.forget_needless(plan.keys());
        if plan.is_empty() { self.poll_part(now) } else { Some(Work::Apply(plan)) }
    }

    /// What listens is read along with the kernel's state.
    fn listen_or(&mut self, work: Work, now: Instant) -> Work {
        if self.state.has_listened() {
            return work;
        }
        self.state.listen();
        self.listened = Some(now);
        Work::Listen
    }

    /// When it is asked again what listens, as long as a device of the node has a ClusterIP.
    fn next_listening(&self) -> Option<Instant> {
        let last = self.listened.filter(|_| self.desired.must_listen());
        last.map(|at| at + LISTEN_AGAIN)
    }

    /// When [`Engine::poll_work`] may have something to do without a further event.
    #[must_use]
    pub fn poll_timeout(&self) -> Option<Instant> {
        let drains = self.reconciler.next_due();
        let resync = self.resync.due().into_iter().chain(self.rounds.due());
        let resync = resync.chain(self.next_listening().filter(|_| self.phase != Phase::Starting));
        resync.chain(self.retries.next_due()).chain(drains).min()
    }

    /// Takes in what the kernel holds. Virtual servers that could not be read are tried again by
    /// themselves.
    pub fn handle_observed(&mut self, observed: Observed, now: Instant) -> Vec<RepeatedError> {
        if self.phase == Phase::Starting {
            self.phase = Phase::Syncing;
            self.desired.find(&observed.elements);
            self.update(now);
            self.reconciler.counts().hasten(now);
            let Self { desired, reconciler, departures, .. } = self;
            let is_going = |address: &VirtualAddress| desired.owner(address).is_none();
            for program in departures.recover(&observed, is_going, now) {
                reconciler.replace(&DesiredService::default(), &program);
            }
        }
        let named = plan::is_named(&observed);
        let desired = &self.desired;
        let pools = desired.services().flat_map(|(_, program)| &program.pools);
        let pools: FxHashSet<_> = pools.map(|pool| pool.server.address).collect();
        let claims = observed.claims.clone();
        let is_ours = |address: &VirtualAddress| {
            named(address)
                || pools.contains(address)
                || desired.is_ours(address)
                || claims.has(address)
        };
        // Where another proxy has served so far, or an earlier version, no Service is to wait: our
        // rules end the other's masquerading, so ours must come with them.
        let is_anothers = |address: &VirtualAddress| !named(address) && is_ours(address);
        let mut read = observed.pools.iter().map(|pool| &pool.server.address);
        let takes_over = observed.earlier.is_some()
            || read.by_ref().chain(observed.unread.keys()).any(is_anothers);
        let unread = self.reconciler.observe(observed, is_ours);
        if self.phase == Phase::Syncing && takes_over {
            self.phase = Phase::Synced;
            self.take_waiting(usize::MAX);
        }
        self.find_former(&pools, now);
        self.resync.succeeded(now, self.audit_period);
        self.rounds.begin(self.audit_period, self.reconciler.held_pools().count(), now);
        let trouble = |(address, why)| self.handle_unobservable_pool(address, why, now);
        unread.into_iter().map(trouble).collect()
    }

    /// Takes in that somebody else may have changed what is ours in the kernel: it is read back,
    /// but not again and again for one who goes on.
    pub fn handle_drift(&mut self, now: Instant) {
        if self.phase != Phase::Starting {
            self.resync.tampered(now);
        }
    }

    /// Takes in that the kernel could not be read. What waits for that waits on. Returns how many
    /// times in a row, where that is worth a line.
    pub fn handle_unobservable(&mut self, now: Instant) -> Option<u32> {
        let (again, attempts) = self.resync.failed(now);
        self.retries.put_off(again, |_| true);
        Some(attempts).filter(|attempts| is_news(*attempts))
    }

    /// Takes in what the kernel holds at some addresses.
    pub fn handle_observed_pools(&mut self, addresses: &[VirtualAddress], pools: Vec<Pool>) {
        self.reconciler.observe_pools(addresses, pools);
    }

    /// Takes in why the virtual server at an address could not be read. It is tried again by itself.
    pub fn handle_unobservable_pool(
        &mut self,
        address: VirtualAddress,
        why: impl Display,
        now: Instant,
    ) -> RepeatedError {
        let error = SyncError {
            key: ObjectKey::Pool(address),
            attempt: Attempt::Reading(address),
            kind: FailureKind::Refused,
            message: plan::cannot_be_read(&address, why),
        };
        RepeatedError { attempts: self.retries.note(&error, now), error }
    }

    /// Takes in the outcomes of a plan's operations, in their order.
    pub fn handle_outcomes(
        &mut self,
        plan: &Plan,
        outcomes: Vec<Outcome>,
        now: Instant,
    ) -> Vec<RepeatedError> {
        let errors = self.reconciler.settle(plan, outcomes);
        if !self.retries.is_empty() {
            let failed: FxHashSet<_> = errors.iter().map(|error| error.key).collect();
            let succeeded = plan.keys().filter(|key| !failed.contains(key));
            succeeded.for_each(|key| self.retries.forget(&key));
        }
        let note = |error| RepeatedError { attempts: self.retries.note(&error, now), error };
        errors.into_iter().map(note).collect()
    }

    /// Whether, when there is no more work for now, the kernel is in the desired state but for
    /// what failed and is retried.
    #[must_use]
    pub fn is_synced(&self) -> bool {
        self.phase == Phase::Synced
    }

    /// How many keys of the kernel's state are not as they should be.
    #[must_use]
    pub fn failures(&self) -> usize {
        self.retries.len()
    }

    /// What last went wrong for each of these keys, and for the how manieth time in a row; in no
    /// order.
    pub fn errors(&self) -> impl Iterator<Item = (&SyncError, u32)> {
        self.retries.iter()
    }

    /// Every real server that is no longer wanted and stays for its established connections,
    /// with its virtual server.
    pub fn draining(&self) -> impl Iterator<Item = (&VirtualAddress, &Backend)> {
        self.reconciler.draining()
    }

    /// How many those are.
    #[must_use]
    pub fn draining_count(&self) -> usize {
        self.reconciler.draining_count()
    }

    /// How many Services have changed and are still to be looked at.
    #[must_use]
    pub fn dirty_services(&self) -> usize {
        self.state.dirty_services() + self.waiting.len()
    }

    /// What has changed since this was last asked, beside what the kernel holds. It may be told to
    /// others once [`Engine::poll_work`] has no more work.
    pub fn take_updates(&mut self) -> ServiceUpdates {
        self.updates.take()
    }

    /// The changes of endpoints that have come to be in the kernel since this was last asked. To
    /// be asked once [`Engine::poll_work`] has no more work. What is being retried keeps back the
    /// changes of the Services that it is of, or of all if it is not any Service's.
    pub fn take_programmed(&mut self) -> Vec<Trigger> {
        let Self { state, desired, retries, .. } = self;
        let mut failed = FxHashSet::default();
        for (error, _) in retries.iter() {
            match error.key {
                ObjectKey::Pool(address) => drop(failed.insert(address)),
                ObjectKey::Tables => return Vec::new(),
                ObjectKey::Device
                | ObjectKey::Earlier
                | ObjectKey::Element(_)
                | ObjectKey::Route(_)
                | ObjectKey::Flow(_) => {}
            }
        }
        let has_failed = |pool: &Shared<Pool>| failed.contains(&pool.server.address);
        state.take_triggers(|service| {
            let program = desired.service(service).filter(|_| !failed.is_empty());
            program.is_some_and(|program| program.pools.iter().any(has_failed))
        })
    }

    /// The whole desired state.
    #[must_use]
    pub fn desired(&self) -> &DesiredState {
        &self.desired
    }

    /// The objects that it follows from.
    #[must_use]
    pub fn state(&self) -> &State {
        &self.state
    }

    fn update(&mut self, now: Instant) {
        let update = self.desired.update(&mut self.state);
        if let Some(old) = update.old_node {
            self.reconciler.replace_node(&old, self.desired.node());
        }
        let Self { desired, reconciler, departures, phase, waiting, updates, .. } = self;
        let waits = |service: &ServiceKey| *phase == Phase::Syncing && !is_urgent(service);
        reconciler.reserve_pools(update.pools.len());
        for Replacement { service, old, new } in update.pools {
            updates.updates += 1;
            if !waits(&service) {
                reconciler.replace_pools(&old, &new);
            } else if let Some(program) = desired.service(&service) {
                let before = || DesiredService { pools: old, ..program.clone() }.into();
                waiting.entry(service).or_insert_with(before);
            }
        }
        for replacement in update.services {
            updates.note(&replacement);
            // Before the Service gives up what the going front ends need on.
            let is_going = |address: &VirtualAddress| desired.owner(address).is_none();
            let going = departures.depart(&replacement.old, is_going, now);
            if !going.is_empty() {
                reconciler.counts().hasten(now);
            }
            for program in going {
                reconciler.replace(&DesiredService::default(), &program);
            }
            let returned = replacement.new.frontends.iter().map(|frontend| frontend.address);
            let returned: Vec<_> =
                returned.filter_map(|address| departures.come_back(&address)).collect();
            if waits(&replacement.service) {
                waiting.entry(replacement.service).or_insert(replacement.old);
            } else {
                reconciler.replace(&replacement.old, &replacement.new);
            }
            for program in returned {
                reconciler.replace(&program, &DesiredService::default());
            }
        }
        let context = desired.context();
        for [old, new] in departures.readdress(|family| context.source_ip(family)) {
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

/// Without the API server and DNS nothing else on a node comes up.
fn is_urgent(service: &ServiceKey) -> bool {
    service.is("default", "kubernetes")
        || (service.namespace() == "kube-system" && service.name().contains("dns"))
}

/// Every set element that the desired state needs, sorted.
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
