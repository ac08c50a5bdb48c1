//! What the kernel is known to hold beside what it is to hold, key by key.
//!
//! DesiredState say what is needed; several Services may need the same route or set element, so needs
//! are counted. Observations and outcomes say what is held. Only keys that a change touched are
//! ever looked at.

use std::collections::BTreeMap;
use std::mem;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use rustc_hash::{FxHashMap, FxHashSet};

use super::counted::Elements;
use super::drains::{Counts, Running};
use super::flows::Flows;
use super::key::ObjectKey;
use super::pools::{BackendChanges, PoolTable};
use super::routes::RouteTable;
use super::stage::{ExclusiveKey, Stage};
use super::{
    Attempt, Failure, FailureKind, FilterOperation, Observed, Operation, Outcome, RouteOperation,
    SyncError, elements,
};
use crate::model::{
    AddressSet, Backend, BackendChange, DesiredNode, DesiredService, Element, Pool, PortSet,
    Protocol, RangeSet, Refusal, RefusalReason, Route, Shared, VirtualAddress,
};

/// What the kernel is known to hold, and what it is to hold.
#[derive(Debug, Default)]
pub struct Reconciler {
    tables: bool,
    device: bool,
    /// Whether an earlier version has left something, none of which is needed.
    earlier: bool,
    elements: Elements,
    routes: RouteTable,
    pools: PoolTable,
    flows: Flows,
    touched: FxHashSet<ObjectKey>,
}

/// Operations in their order.
#[derive(Clone, Debug, Default)]
pub struct Plan(Vec<Operation>);

impl Plan {
    /// The operations in their order.
    #[must_use]
    pub fn operations(&self) -> &[Operation] {
        &self.0
    }

    /// What each operation is about.
    pub fn keys(&self) -> impl Iterator<Item = ObjectKey> {
        self.0.iter().map(ObjectKey::of)
    }

    /// Whether there is nothing to do.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl Reconciler {
    /// A reconciler of an unknown kernel, where established connections to real servers that leave
    /// may go on that long.
    #[must_use]
    pub fn new(drain_period: Duration) -> Self {
        let mut reconciler = Self::default();
        reconciler.pools.drains.set_period(drain_period);
        reconciler
    }

    /// Replaces one version of a Service's DesiredService by another. Costs what differs.
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
                self.flows.mislead(*address, None);
            }
        }
    }

    /// Makes room for so many pools to be replaced.
    pub fn reserve_pools(&mut self, pools: usize) {
        self.pools.reserve(pools);
    }

    /// Replaces pools of a Service by others, both sorted by address. Costs what differs.
    pub fn replace_pools(&mut self, old: &[Shared<Pool>], new: &[Shared<Pool>]) {
        let mut old = old.iter().peekable();
        for pool in new {
            let address = pool.server.address;
            while let Some(gone) = old.next_if(|old| old.server.address < address) {
                self.drop_pool(gone);
            }
            match old.next_if(|old| old.server.address == address) {
                Some(before) if Shared::is_same(before, pool) => {}
                Some(before) => {
                    let mut changes = BackendChanges::new();
                    pool.backends.changes_from(&before.backends, |change| changes.push(change));
                    changes.iter().for_each(|change| self.count_hairpin(*change));
                    self.pools.exchange(before, pool, changes);
                }
                None => {
                    let added = pool.backends.iter().copied().map(BackendChange::Added);
                    added.for_each(|change| self.count_hairpin(change));
                    self.pools.want(pool);
                }
            }
        }
        for gone in old {
            self.drop_pool(gone);
        }
    }

    /// Replaces one version of the node's DesiredService by another.
    pub fn replace_node(&mut self, old: &DesiredNode, new: &DesiredNode) {
        self.recount(elements::of_node(new), elements::of_node(old));
        // Before Linux 6.16 a flowtable loses a link that goes, even if one of its name comes at once.
        for link in new.offload_links.iter().filter(|link| !old.offload_links.contains(link)) {
            self.elements.hold_no_more(Element::OffloadLink(link.name));
            self.touched.insert(ObjectKey::Element(Element::OffloadLink(link.name)));
        }
        self.touched.extend(ObjectKey::GROUND);
    }

    /// Takes in what the kernel holds. `is_ours` says which virtual servers are, beside those
    /// already wanted; others are not looked at. Returns which of ours could not be read, and why.
    pub fn observe(
        &mut self,
        observed: Observed,
        is_ours: impl Fn(&VirtualAddress) -> bool,
    ) -> BTreeMap<VirtualAddress, String> {
        self.pools.hold_nothing_but_at(&observed.unread);
        self.tables = observed.tables;
        self.device = observed.device;
        self.earlier = observed.earlier.is_some();
        self.elements.hold_only(observed.elements);
        self.routes.hold_only(observed.routes);
        for pool in observed.pools {
            let address = pool.server.address;
            if self.pools.is_known(&address) || is_ours(&address) {
                self.pools.hold(address, Some(pool));
            }
        }
        let mut unread = observed.unread;
        unread.retain(|address, _| self.pools.is_known(address) || is_ours(address));
        unread.keys().for_each(|address| self.pools.hold_unread(*address));
        self.touch_all();
        unread
    }

    /// Takes in what the kernel holds at some virtual servers' addresses.
    pub fn observe_pools(&mut self, addresses: &[VirtualAddress], pools: Vec<Pool>) {
        let mut found: FxHashMap<_, _> =
            pools.into_iter().map(|pool| (pool.server.address, pool)).collect();
        for address in addresses {
            self.pools.hold(*address, found.remove(address));
            self.pools.touch(*address);
        }
    }

    /// Where virtual servers are known to be held.
    pub fn held_pools(&self) -> impl Iterator<Item = &VirtualAddress> {
        self.pools.held()
    }

    /// Whether one is known to be held there.
    #[must_use]
    pub fn is_held(&self, address: &VirtualAddress) -> bool {
        self.pools.is_held(address)
    }

    /// Looks at a key again at the next plan.
    pub fn touch(&mut self, key: ObjectKey) {
        self.touched.insert(key);
    }

    /// Where a virtual server is held that no DesiredService needs.
    pub fn unwanted(&self) -> impl Iterator<Item = &VirtualAddress> {
        self.pools.unwanted()
    }

    /// Whether one is held there.
    #[must_use]
    pub fn is_unwanted(&self, address: &VirtualAddress) -> bool {
        self.pools.is_unwanted(address)
    }

    /// Names a virtual server as ours.
    pub fn name(&mut self, server: VirtualAddress) {
        self.need(Element::Port(PortSet::Former, server));
    }

    /// Takes that back.
    pub fn name_no_more(&mut self, server: VirtualAddress) {
        self.need_no_more(Element::Port(PortSet::Former, server));
    }

    /// Every real server that is no longer wanted and stays for its established connections,
    /// with its virtual server.
    pub fn draining(&self) -> impl Iterator<Item = (&VirtualAddress, &Backend)> {
        self.pools.drains.iter()
    }

    /// How many those are.
    #[must_use]
    pub fn draining_count(&self) -> usize {
        self.pools.drains.len()
    }

    /// When connections are counted.
    pub fn counts(&mut self) -> &mut Counts {
        self.pools.drains.counts()
    }

    /// The real servers whose connections are to be counted.
    #[must_use]
    pub fn leavers(&self) -> FxHashSet<(Protocol, SocketAddr)> {
        self.pools.drains.leavers()
    }

    /// When there may be something to count or to do without a further event.
    #[must_use]
    pub fn next_due(&self) -> Option<Instant> {
        self.pools.drains.next_due()
    }

    /// Takes in what runs: each with the virtual servers that its front end leads or led to.
    pub fn count(&mut self, running: &[(Running, Vec<VirtualAddress>)], now: Instant) {
        self.pools.drains.count(running, now);
    }

    /// Removes the entries of connection tracking of a front end, of all endpoints or of one:
    /// connections whose time is up, and flows that are to move.
    pub fn end_connections(&mut self, frontend: VirtualAddress, backend: Option<SocketAddr>) {
        self.flows.mislead(frontend, backend);
    }

    /// The addresses that clients of a front end send to: of a node port, each that takes them.
    #[must_use]
    pub fn addresses(&self, frontend: VirtualAddress) -> Vec<VirtualAddress> {
        self.flows.addresses(frontend)
    }

    /// The operations that the touched keys need. With `leave_unneeded`, what nobody needs stays,
    /// and stays touched, unless it is in the way of something new; and what no Service has is not
    /// yet kept from anybody.
    pub fn plan(&mut self, leave_unneeded: bool, now: Instant) -> Plan {
        let touched = mem::take(&mut self.touched).into_iter();
        let unsettled = touched.filter(|key| !self.is_settled(key));
        let (due, left): (Vec<_>, Vec<_>) =
            unsettled.partition(|key| !leave_unneeded || self.is_needed(key));
        let mut steps = Vec::new();
        self.all_steps(due, &mut steps);
        let given_up = steps.iter().filter_map(ExclusiveKey::given_up_by);
        let given_up: FxHashSet<_> =
            given_up.chain(left.iter().filter_map(ExclusiveKey::of_key)).collect();
        let taken = steps.iter().filter_map(ExclusiveKey::taken_by);
        let taken: FxHashSet<_> = taken.filter(|place| given_up.contains(place)).collect();
        let is_in_the_way =
            |key: &ObjectKey| ExclusiveKey::of_key(key).is_some_and(|it| taken.contains(&it));
        let (in_the_way, left): (Vec<_>, Vec<_>) = left.into_iter().partition(is_in_the_way);
        self.all_steps(in_the_way, &mut steps);
        self.touched.extend(left);
        steps.reserve(self.pools.touched());
        self.pools.plan(leave_unneeded, now, |step| steps.push(step.into()));
        self.flows.follow(&steps);
        let flows = self.pools.drains.take_flows();
        steps.extend(self.flows.take_due().into_iter().chain(flows).map(Operation::from));
        steps.sort_by_cached_key(|it| (Stage::among(it, &taken), Stage::rank(it)));
        Plan(steps)
    }

    /// Takes in the outcomes of a plan's operations, in their order. No DesiredService may be replaced
    /// between a plan and this.
    pub fn settle(&mut self, plan: &Plan, outcomes: Vec<Outcome>) -> Vec<SyncError> {
        let mut errors: Vec<SyncError> = Vec::new();
        let mut failed = FxHashSet::default();
        let mut outcomes = outcomes.into_iter();
        for operation in &plan.0 {
            let outcome = outcomes.next().unwrap_or_else(|| {
                let message = "the kernel's answer did not arrive".to_owned();
                Err(Failure { kind: FailureKind::Unknown, message })
            });
            let Err(Failure { kind, message }) = outcome else {
                self.confirm(operation);
                continue;
            };
            let key = ObjectKey::of(operation);
            if failed.insert(key) {
                let attempt = Attempt::Operation(*operation);
                errors.push(SyncError { key, attempt, kind, message });
            }
        }
        // A pool's operations count once all of them have succeeded.
        let address = |operation: &Operation| match operation {
            Operation::Server(operation) => Some(operation.address()),
            _ => None,
        };
        for run in plan.0.chunk_by(|one, next| address(one) == address(next)) {
            if let [.., Operation::Server(last)] = run
                && !failed.contains(&ObjectKey::Pool(last.address()))
            {
                self.pools.settle(last);
            }
        }
        errors
    }

    fn recount(
        &mut self,
        more: impl IntoIterator<Item = Element>,
        fewer: impl IntoIterator<Item = Element>,
    ) {
        for element in more {
            self.need(element);
        }
        for element in fewer {
            self.need_no_more(element);
        }
    }

    fn need(&mut self, element: Element) {
        if self.elements.need(element) {
            self.touched.insert(ObjectKey::Element(element));
            self.flows.need(&element);
        }
    }

    fn need_no_more(&mut self, element: Element) {
        if self.elements.need_no_more(element) {
            self.touched.insert(ObjectKey::Element(element));
            self.flows.need_no_more(&element);
        }
    }

    fn reroute(&mut self, more: &[Route], fewer: &[Route]) {
        for route in more {
            self.routes.need(route);
            self.touched.insert(ObjectKey::Route(route.prefix));
        }
        for route in fewer {
            if self.routes.need_no_more(route.prefix) {
                self.touched.insert(ObjectKey::Route(route.prefix));
            }
        }
    }

    fn drop_pool(&mut self, pool: &Pool) {
        let removed = pool.backends.iter().copied().map(BackendChange::Removed);
        removed.for_each(|change| self.count_hairpin(change));
        self.pools.want_no_more(pool.server.address);
    }

    fn count_hairpin(&mut self, change: BackendChange) {
        let (old, new) = match change {
            BackendChange::Added(new) => (None, Some(new)),
            BackendChange::Changed { old, new } => (Some(old), Some(new)),
            BackendChange::Removed(old) => (Some(old), None),
        };
        if let Some(new) = new.filter(|backend| backend.local) {
            self.need(Element::Address(AddressSet::Hairpin, new.address));
        }
        if let Some(old) = old.filter(|backend| backend.local) {
            self.need_no_more(Element::Address(AddressSet::Hairpin, old.address));
        }
    }

    /// Touches whatever is not known to be settled.
    fn touch_all(&mut self) {
        let routes = self.routes.unsettled().map(ObjectKey::Route);
        let known = ObjectKey::GROUND.into_iter().chain(routes);
        let unsettled: Vec<_> = known.filter(|key| !self.is_settled(key)).collect();
        self.touched.extend(unsettled);
        self.touched.extend(self.elements.unsettled().map(ObjectKey::Element));
        self.pools.touch_all();
    }

    fn is_needed(&self, key: &ObjectKey) -> bool {
        match key {
            ObjectKey::Tables | ObjectKey::Device | ObjectKey::Flow(_) => true,
            ObjectKey::Earlier | ObjectKey::Element(Element::Range(RangeSet::ServiceRanges, _)) => {
                false
            }
            ObjectKey::Element(element) => self.elements.is_needed(element),
            ObjectKey::Route(prefix) => self.routes.is_needed(prefix),
            ObjectKey::Pool(address) => self.pools.is_wanted(address),
        }
    }

    /// Whether a key is known to be held as it is needed. Most are that are touched by a reading
    /// of the kernel.
    fn is_settled(&self, key: &ObjectKey) -> bool {
        match key {
            ObjectKey::Tables => self.tables,
            ObjectKey::Device => self.device,
            ObjectKey::Earlier => !self.earlier,
            ObjectKey::Element(element) => self.elements.is_settled(element),
            ObjectKey::Route(prefix) => self.routes.is_settled(prefix),
            ObjectKey::Pool(address) => self.pools.is_settled(address),
            ObjectKey::Flow(_) => false,
        }
    }

    /// Appends the operations that keys need that are not settled.
    fn all_steps(&mut self, mut keys: Vec<ObjectKey>, steps: &mut Vec<Operation>) {
        keys.sort_unstable();
        keys.into_iter().for_each(|key| self.steps(key, steps));
    }

    /// Appends the operations that a key needs that is not settled.
    fn steps(&mut self, key: ObjectKey, steps: &mut Vec<Operation>) {
        let mut step = |operation: Operation| steps.push(operation);
        match key {
            ObjectKey::Tables => step(FilterOperation::CreateTables.into()),
            ObjectKey::Device => step(RouteOperation::CreateDevice.into()),
            ObjectKey::Earlier => step(Operation::DeleteEarlier),
            ObjectKey::Flow(flow) => self.flows.retry(flow),
            ObjectKey::Element(element) => step(match self.elements.is_needed(&element) {
                true => FilterOperation::Add(element).into(),
                false => FilterOperation::Delete(element).into(),
            }),
            ObjectKey::Route(prefix) => {
                self.routes.step(prefix).into_iter().for_each(|it| step(it.into()));
            }
            ObjectKey::Pool(address) => self.pools.touch(address),
        }
    }

    /// Notes that an operation has taken place.
    fn confirm(&mut self, operation: &Operation) {
        match *operation {
            Operation::Filter(FilterOperation::CreateTables) => self.tables = true,
            Operation::Filter(FilterOperation::DeleteTables) => self.tables = false,
            Operation::Filter(FilterOperation::Add(element)) => self.elements.hold(element),
            Operation::Filter(FilterOperation::Delete(element)) => {
                self.elements.hold_no_more(element);
            }
            Operation::Route(RouteOperation::CreateDevice) => self.device = true,
            Operation::Route(RouteOperation::DeleteDevice) => self.device = false,
            Operation::Route(RouteOperation::Add(route)) => self.routes.hold(&route),
            Operation::Route(RouteOperation::Delete(route)) => {
                self.routes.hold_no_more(route.prefix);
            }
            Operation::DeleteEarlier => self.earlier = false,
            // A pool counts as a whole; entries of connection tracking are not kept account of.
            Operation::Server(_) | Operation::Flow(_) => {}
        }
    }
}
