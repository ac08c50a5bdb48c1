//! The desired and the actual state, object by object.
//!
//! Several Services may need the same route or set element, so uses are counted. Observations and
//! outcomes set the actual state. Only objects that a change touched are examined.

use std::collections::BTreeMap;
use std::mem;
use std::net::{IpAddr, SocketAddr};
use std::time::{Duration, Instant};

use ipnet::IpNet;
use rustc_hash::FxHashSet;

use super::drains::{Counts, Running};
use super::ejections::{Ejection, Sample, SampleTargets};
use super::flows::Flows;
use super::key::ObjectKey;
use super::pools::PoolTable;
use super::stage::{ExclusiveKey, Stage};
use super::tracked::{Slot, Tracked};
use super::{
    Effect, Failure, FailureKind, FilterOperation, Observed, Operation, Outcome, RouteOperation,
    elements,
};
use crate::model::{
    AddressSet, Backend, BackendChange, DesiredNode, DesiredService, Element, Pool, PortSet,
    Protocol, RangeSet, Refusal, RefusalReason, Route, Shared, VirtualAddress,
};

/// The desired and the actual state.
#[derive(Debug, Default)]
pub struct Reconciler {
    tables: bool,
    device: bool,
    earlier: bool,
    /// Most elements are addresses: a table of their own takes half the memory for each.
    addresses: Tracked<(AddressSet, IpAddr), ()>,
    elements: Tracked<Element, ()>,
    /// The source address of each route.
    routes: Tracked<IpNet, Option<IpAddr>>,
    pools: PoolTable,
    flows: Flows,
    touched: FxHashSet<ObjectKey>,
}

impl Reconciler {
    /// Returns a reconciler for an unknown kernel state. Established connections to removed real
    /// servers may continue for `drain_period`.
    #[must_use]
    pub fn new(drain_period: Duration) -> Self {
        let mut reconciler = Self::default();
        reconciler.pools.drains.set_period(drain_period);
        reconciler
    }

    /// Replaces the desired state of a Service. The cost is proportional to the differences.
    pub fn replace(&mut self, old: &DesiredService, new: &DesiredService) {
        let has_other_refusals = old.refusals != new.refusals;
        if old.frontends != new.frontends || old.routes != new.routes || has_other_refusals {
            self.recount(elements::of_frontends(new), elements::of_frontends(old));
        }
        if old.routes != new.routes {
            self.reroute(&new.routes, &old.routes);
        }
        self.replace_pools(&old.pools, &new.pools);
        let left = new.refusals.iter().filter(|it| it.reason == RefusalReason::LocalSocket);
        for Refusal { address, .. } in left.filter(|_| has_other_refusals) {
            self.pools.give_up(*address);
            if address.protocol == Protocol::Udp && old.frontend(address).is_some() {
                self.flows.flush(*address, None);
            }
        }
    }

    /// Replaces pools of a Service, both lists sorted by address. The cost is proportional to the
    /// differences.
    fn replace_pools(&mut self, old: &[Shared<Pool>], new: &[Shared<Pool>]) {
        let mut old = old.iter().peekable();
        for pool in new {
            let address = pool.server.address;
            while let Some(gone) = old.next_if(|old| old.server.address < address) {
                self.drop_pool(gone);
            }
            match old.next_if(|old| old.server.address == address) {
                Some(before) if Shared::is_same(before, pool) => {}
                Some(before) => {
                    pool.backends
                        .changes_from(&before.backends, |change| self.count_hairpin(change));
                    self.pools.exchange(pool);
                }
                None => {
                    let added = pool.backends.iter().copied().map(BackendChange::Added);
                    added.for_each(|change| self.count_hairpin(change));
                    self.pools.acquire(pool);
                }
            }
        }
        for gone in old {
            self.drop_pool(gone);
        }
    }

    /// Replaces the desired state of the node.
    pub fn replace_node(&mut self, old: &DesiredNode, new: &DesiredNode) {
        self.recount(elements::of_node(new), elements::of_node(old));
        // Before Linux 6.16 a flowtable loses a removed link, even if a link of the same name
        // follows at once.
        for link in new.offload_links.iter().filter(|link| !old.offload_links.contains(link)) {
            let link = Element::OffloadLink(link.name);
            self.elements.change(link, |slot| slot.set_actual(None));
            self.touched.insert(ObjectKey::Element(link));
        }
        self.touched.extend(ObjectKey::BASE);
    }

    /// Takes the observed kernel state. Of the virtual servers, only desired ones and those for
    /// which `is_ours` is true are considered. Returns those that could not be read, with the
    /// reason.
    pub fn observe(
        &mut self,
        observed: Observed,
        is_ours: impl Fn(&VirtualAddress) -> bool,
    ) -> BTreeMap<VirtualAddress, String> {
        self.pools.clear_actual_except(&observed.unread);
        self.tables = observed.tables;
        self.device = observed.device;
        self.earlier = observed.earlier.is_some();
        self.addresses.clear_actual();
        self.elements.clear_actual();
        for element in observed.elements {
            self.change_element(element, |slot| slot.set_actual(Some(())));
        }
        self.routes.clear_actual();
        for Route { prefix, source } in observed.routes {
            self.routes.change(prefix, |slot| slot.set_actual(Some(source)));
        }
        for pool in observed.pools {
            let address = pool.server.address;
            if self.pools.is_known(&address) || is_ours(&address) {
                self.pools.set_actual(address, Some(pool));
            }
        }
        let mut unread = observed.unread;
        unread.retain(|address, _| self.pools.is_known(address) || is_ours(address));
        unread.keys().for_each(|address| self.pools.set_unread(*address));
        self.touch_all();
        unread
    }

    /// Takes what was observed at the address of a virtual server.
    pub fn observe_pool(&mut self, address: VirtualAddress, pool: Option<Pool>) {
        self.pools.set_actual(address, pool);
        self.pools.touch(address);
    }

    /// Returns the addresses of known actual virtual servers.
    pub fn actual_pools(&self) -> impl Iterator<Item = &VirtualAddress> {
        self.pools.actual()
    }

    /// Returns whether a known actual virtual server has this address.
    #[must_use]
    pub fn is_actual(&self, address: &VirtualAddress) -> bool {
        self.pools.is_actual(address)
    }

    /// Includes an object in the next plan.
    pub fn touch(&mut self, key: ObjectKey) {
        match key {
            ObjectKey::Pool(address) => self.pools.touch(address),
            ObjectKey::Flow(flow) => self.flows.retry(flow),
            key => drop(self.touched.insert(key)),
        }
    }

    /// Returns the addresses of virtual servers that no Service needs.
    pub fn obsolete(&self) -> impl Iterator<Item = &VirtualAddress> {
        self.pools.obsolete()
    }

    /// Returns whether such a virtual server has this address.
    #[must_use]
    pub fn is_obsolete(&self, address: &VirtualAddress) -> bool {
        self.pools.is_obsolete(address)
    }

    /// Marks a virtual server as the agent's in set `former`.
    pub fn mark_former(&mut self, server: VirtualAddress) {
        self.acquire(Element::Port(PortSet::Former, server));
    }

    /// Removes the mark.
    pub fn unmark_former(&mut self, server: VirtualAddress) {
        self.release(Element::Port(PortSet::Former, server));
    }

    /// Returns every draining real server with its virtual server.
    pub fn draining(&self) -> impl Iterator<Item = (&VirtualAddress, &Backend)> {
        self.pools.drains.iter()
    }

    /// Returns the number of draining real servers.
    #[must_use]
    pub fn draining_count(&self) -> usize {
        self.pools.drains.len()
    }

    /// Returns the schedule of counts.
    pub fn counts(&mut self) -> &mut Counts {
        self.pools.drains.counts()
    }

    /// Returns the real servers to count.
    #[must_use]
    pub fn draining_sockets(&self) -> FxHashSet<(Protocol, SocketAddr)> {
        self.pools.drains.sockets()
    }

    /// Returns when a task may be due without another event.
    #[must_use]
    pub fn next_due(&self) -> Option<Instant> {
        let PoolTable { drains, weights, ejections, .. } = &self.pools;
        let due = drains.next_due().into_iter().chain(weights.next_due());
        due.chain(ejections.next_due()).min()
    }

    /// Returns the counters to read if a sample is due.
    pub fn poll_sample(&mut self, now: Instant) -> Option<SampleTargets> {
        self.pools.poll_sample(now)
    }

    /// Takes a sample of the kernel's counters; `None` if the kernel does not count. Returns the
    /// real servers that are ejected, tried or restored.
    pub fn sample(&mut self, sample: Option<Sample>, now: Instant) -> Vec<Ejection> {
        self.pools.sample(sample, now)
    }

    /// Returns every real server that has weight 0 because it does not answer, with its virtual
    /// server.
    pub fn ejected(&self) -> impl Iterator<Item = (&VirtualAddress, &SocketAddr)> {
        self.pools.weights.ejected()
    }

    /// Returns the desired pool of a virtual server with its present weights.
    #[must_use]
    pub fn present(&self, server: &VirtualAddress) -> Option<&Pool> {
        self.pools.present(server)
    }

    /// Takes the open connections, each with the virtual servers that its front end uses or used.
    pub fn count(&mut self, running: &[(Running, Vec<VirtualAddress>)], now: Instant) {
        self.pools.drains.count(running, now);
    }

    /// Removes the connection-tracking entries of a front end, to all endpoints or to one: for
    /// connections past their deadline, and for flows that must move.
    pub fn end_connections(&mut self, frontend: VirtualAddress, backend: Option<SocketAddr>) {
        self.flows.flush(frontend, backend);
    }

    /// Returns the addresses that clients of a front end use: for a node port, all addresses that
    /// take node ports.
    #[must_use]
    pub fn addresses(&self, frontend: VirtualAddress) -> Vec<VirtualAddress> {
        self.flows.addresses(frontend)
    }

    /// Plans the operations for the touched objects. With `keep_unneeded`, unneeded objects stay,
    /// and stay touched, unless a new object needs their place; and service ranges are not dropped
    /// yet.
    pub fn plan(&mut self, keep_unneeded: bool, now: Instant) -> Vec<Operation> {
        let touched = mem::take(&mut self.touched).into_iter();
        // After a read of the kernel most are settled.
        let mut touched: Vec<_> = touched.filter(|key| self.step(*key).is_some()).collect();
        touched.sort_unstable();
        let waits = |step: &Operation| {
            let is_service_range = matches!(
                step,
                Operation::Filter(FilterOperation::Add(Element::Range(RangeSet::ServiceRanges, _)))
            );
            keep_unneeded && (is_service_range || step.effect() == Effect::Removes)
        };
        let all = touched.into_iter().filter_map(|key| self.step(key));
        let (waiting, mut steps): (Vec<_>, Vec<_>) = all.partition(waits);
        let adds = |step: &&Operation| step.effect() == Effect::Adds;
        let given_up = steps.iter().filter(|step| !adds(step)).chain(&waiting);
        let given_up: FxHashSet<_> = given_up.filter_map(ExclusiveKey::of).collect();
        let taken = steps.iter().filter(adds).filter_map(ExclusiveKey::of);
        let taken: FxHashSet<_> = taken.filter(|place| given_up.contains(place)).collect();
        let is_in_the_way =
            |step: &Operation| ExclusiveKey::of(step).is_some_and(|place| taken.contains(&place));
        let (in_the_way, waiting): (Vec<_>, Vec<_>) = waiting.into_iter().partition(is_in_the_way);
        steps.extend(in_the_way);
        self.touched.extend(waiting.iter().map(ObjectKey::of));
        self.pools.plan(keep_unneeded, now, |step| steps.push(step.into()));
        self.flows.follow(&steps);
        let flows = self.pools.drains.take_flows();
        steps.extend(self.flows.take_due().into_iter().chain(flows).map(Operation::from));
        // There are few keys: to sort by them costs less than to sort them with their places.
        steps.sort_by_key(|it| (Stage::among(it, &taken), Stage::rank(it)));
        steps
    }

    /// Takes the outcomes of a plan's operations, in order. Returns the first failure of each
    /// object. No desired state may be replaced between a plan and its outcomes.
    pub fn settle(
        &mut self,
        plan: &[Operation],
        outcomes: Vec<Outcome>,
    ) -> Vec<(Operation, Failure)> {
        let mut failures = Vec::new();
        let mut failed = FxHashSet::default();
        let mut outcomes = outcomes.into_iter();
        for operation in plan {
            let outcome = outcomes.next().unwrap_or_else(|| {
                let message = "the kernel's answer did not arrive".to_owned();
                Err(Failure { kind: FailureKind::Unknown, message })
            });
            let key = ObjectKey::of(operation);
            match outcome {
                Ok(()) => self.confirm(key),
                Err(failure) if failed.insert(key) => failures.push((*operation, failure)),
                Err(_) => {}
            }
        }
        // The operations of a pool count once all of them have succeeded.
        let address = |operation: &Operation| match operation {
            Operation::Server(operation) => Some(operation.address()),
            _ => None,
        };
        for run in plan.chunk_by(|one, next| address(one) == address(next)) {
            if let [.., Operation::Server(last)] = run
                && !failed.contains(&ObjectKey::Pool(last.address()))
            {
                self.pools.settle(last);
            }
        }
        failures
    }

    fn recount(
        &mut self,
        more: impl IntoIterator<Item = Element>,
        fewer: impl IntoIterator<Item = Element>,
    ) {
        for element in more {
            self.acquire(element);
        }
        for element in fewer {
            self.release(element);
        }
    }

    fn acquire(&mut self, element: Element) {
        if self.change_element(element, |slot| slot.acquire(())).needs() == 1 {
            self.touched.insert(ObjectKey::Element(element));
            self.flows.acquire(&element);
        }
    }

    fn release(&mut self, element: Element) {
        if self.change_element(element, Slot::release).needs() == 0 {
            self.touched.insert(ObjectKey::Element(element));
            self.flows.release(&element);
        }
    }

    fn change_element(&mut self, element: Element, change: impl FnOnce(&mut Slot<()>)) -> Slot<()> {
        match element {
            Element::Address(set, ip) => self.addresses.change((set, ip), change),
            other => self.elements.change(other, change),
        }
    }

    fn reroute(&mut self, more: &[Route], fewer: &[Route]) {
        for Route { prefix, source } in more {
            self.routes.change(*prefix, |slot| slot.acquire(*source));
        }
        for Route { prefix, .. } in fewer {
            self.routes.change(*prefix, Slot::release);
        }
        let touched = more.iter().chain(fewer);
        self.touched.extend(touched.map(|route| ObjectKey::Route(route.prefix)));
    }

    fn drop_pool(&mut self, pool: &Pool) {
        let removed = pool.backends.iter().copied().map(BackendChange::Removed);
        removed.for_each(|change| self.count_hairpin(change));
        self.pools.release(pool.server.address);
    }

    fn count_hairpin(&mut self, change: BackendChange) {
        let (old, new) = match change {
            BackendChange::Added(new) => (None, Some(new)),
            BackendChange::Changed { old, new } => (Some(old), Some(new)),
            BackendChange::Removed(old) => (Some(old), None),
        };
        let [old, new] = [old, new].map(|backend| elements::of_backend(&backend?));
        new.into_iter().for_each(|element| self.acquire(element));
        old.into_iter().for_each(|element| self.release(element));
    }

    fn touch_all(&mut self) {
        let addresses = self.addresses.unsettled().map(|(set, ip)| Element::Address(set, ip));
        let elements = addresses.chain(self.elements.unsettled()).map(ObjectKey::Element);
        let routes = self.routes.unsettled().map(ObjectKey::Route);
        self.touched.extend(elements.chain(routes).chain(ObjectKey::BASE));
        self.pools.touch_all();
    }

    /// Returns the operation that leads an object from the actual to the desired state, unless
    /// both are the same. Virtual servers and flows are planned by their own tables.
    fn step(&self, key: ObjectKey) -> Option<Operation> {
        match key {
            ObjectKey::Tables => (!self.tables).then(|| FilterOperation::CreateTables.into()),
            ObjectKey::Device => (!self.device).then(|| RouteOperation::CreateDevice.into()),
            ObjectKey::Earlier => self.earlier.then_some(Operation::DeleteEarlier),
            ObjectKey::Element(element) => {
                let slot = match element {
                    Element::Address(set, ip) => self.addresses.get(&(set, ip)),
                    other => self.elements.get(&other),
                };
                let add = |()| FilterOperation::Add(element).into();
                slot.step(add, |()| FilterOperation::Delete(element).into())
            }
            ObjectKey::Route(prefix) => {
                let add = |source| RouteOperation::Add(Route { prefix, source }).into();
                let delete = |source| RouteOperation::Delete(Route { prefix, source }).into();
                self.routes.get(&prefix).step(add, delete)
            }
            ObjectKey::Pool(_) | ObjectKey::Flow(_) => None,
        }
    }

    /// Records that an object is in the desired state.
    fn confirm(&mut self, key: ObjectKey) {
        match key {
            ObjectKey::Tables => self.tables = true,
            ObjectKey::Device => self.device = true,
            ObjectKey::Earlier => self.earlier = false,
            ObjectKey::Element(element) => drop(self.change_element(element, Slot::settle)),
            ObjectKey::Route(prefix) => drop(self.routes.change(prefix, Slot::settle)),
            // A pool counts as a whole; connection-tracking entries are not recorded.
            ObjectKey::Pool(_) | ObjectKey::Flow(_) => {}
        }
    }
}
