//! The desired state of all Services and of the node, kept up to date with the objects.

use std::collections::BTreeSet;
use std::mem;
use std::net::IpAddr;
use std::sync::Arc;

use ipnet::IpNet;
use rustc_hash::{FxHashMap, FxHashSet};

use super::totals::Totals;
use crate::desired::{self, Claim, Claims, NodeContext, Surveyed};
use crate::model::{
    DesiredNode, DesiredService, Element, Family, Frontend, FrontendKind, Protocol, RangeSet,
    Refusal, RefusalReason, Right, Scheduler, Service, ServiceKey, Settings, Shared,
    VirtualAddress,
};
use crate::state::{Dirty, ServiceEntry, State};

/// The previous and the current desired state of a Service.
#[derive(Debug)]
pub struct Replacement {
    pub service: ServiceKey,
    /// Empty for a new Service.
    pub old: Arc<DesiredService>,
    /// Empty for a removed Service.
    pub new: Arc<DesiredService>,
}

/// The desired state of all Services and of the node.
#[derive(Debug)]
pub struct DesiredState {
    /// The current configuration; `context` has the configuration of the last update.
    settings: Settings,
    context: NodeContext,
    node: DesiredNode,
    services: FxHashMap<ServiceKey, Arc<DesiredService>>,
    claims: Claims,
    totals: Totals,
    /// Services that lack a front end because a socket listens on its port.
    waiting: FxHashMap<(Protocol, u16), BTreeSet<ServiceKey>>,
    /// Services with a ClusterIP that a device of the node has.
    on_devices: FxHashSet<ServiceKey>,
    /// What the kernel held when the agent started; cleared by the first update.
    found: Found,
    /// Counts the changes of the context.
    changes: u64,
    /// Addresses that the node got with this update, unless it is the first.
    arrived: Vec<IpAddr>,
}

/// What the kernel held when the agent started.
#[derive(Debug, Default)]
struct Found {
    /// Front ends with their pools, if any.
    frontends: FxHashMap<VirtualAddress, Option<VirtualAddress>>,
    /// Ranges of the node's own addresses.
    insiders: Vec<IpNet>,
}

impl Found {
    fn add(&mut self, element: &Element) {
        if let Element::Range(RangeSet::Insiders, range) = element {
            self.insiders.push(*range);
        }
        if let Some(frontend) = element.frontend() {
            let pool = self.frontends.entry(frontend).or_default();
            *pool = pool.or(element.lead().map(|(_, pool)| pool));
        }
    }

    /// Returns whether a front end existed that used a pool of this Service port. A front end that
    /// rejected may have belonged to any Service.
    fn has(&self, address: &VirtualAddress, cluster: &VirtualAddress) -> bool {
        self.frontends.get(address).is_some_and(|pool| {
            pool.is_none_or(|pool| cluster.pool_places().any(|place| place == pool))
        })
    }

    fn is_own(&self, ip: IpAddr) -> bool {
        desired::contain(&self.insiders, ip)
    }
}

impl DesiredState {
    /// Returns the desired state without Services, for a node with only its settings known.
    #[must_use]
    pub fn new(settings: &Settings) -> Self {
        let context = NodeContext::new(settings, Surveyed::default());
        Self {
            settings: settings.clone(),
            node: DesiredNode::default(),
            context,
            services: FxHashMap::default(),
            claims: Claims::default(),
            totals: Totals::default(),
            waiting: FxHashMap::default(),
            on_devices: FxHashSet::default(),
            found: Found::default(),
            changes: 0,
            arrived: Vec::new(),
        }
    }

    /// Records what the kernel holds at the start: these front ends are older than any socket found
    /// now.
    pub(super) fn find(&mut self, elements: &[Element]) {
        self.found = Found::default();
        elements.iter().for_each(|element| self.found.add(element));
    }

    /// Returns whether the listening sockets matter to the next update: a Service requests a front
    /// end at an address of the node that it does not have yet, or gives one up that another
    /// Service may get.
    pub(super) fn need_listening(&self, state: &State) -> bool {
        let dirty = state.dirty();
        let is_changed = |key: &ServiceKey| {
            let service = state.entry(key).and_then(|entry| served(&entry.service, &self.context));
            let requested =
                service.map(|service| desired::requested_at_node(service, &self.context));
            let requested: FxHashSet<_> = requested.into_iter().flatten().collect();
            let known = self.service(key);
            let is_known = |address| known.is_some_and(|program| program.requests(address));
            let mut had = known.into_iter().flat_map(|program| &*program.frontends);
            !requested.iter().all(is_known)
                || had.any(|it| {
                    let is_of_node = it.kind.is_external() && self.context.is_own(it.address.ip);
                    is_of_node && !requested.contains(&it.address)
                })
        };
        dirty.context
            || (dirty.labels && !self.selecting_nodes(state).is_empty())
            || dirty.services.iter().any(is_changed)
    }

    /// Returns the Services that depend on the labels of the node.
    fn selecting_nodes<'a>(&self, state: &'a State) -> Vec<&'a ServiceKey> {
        match self.settings.defaults.nodes {
            Some(_) => state.service_keys().collect(),
            None => state.selecting_nodes().collect(),
        }
    }

    /// Returns whether the listening sockets must be read periodically, because a device of the
    /// node has a Service's ClusterIP.
    pub(super) fn must_poll_listening(&self) -> bool {
        !self.on_devices.is_empty()
    }

    /// Updates the desired state with the changes in `state`. Returns the previous desired state of
    /// the node, if it changed, and the changed Services.
    pub fn update(&mut self, state: &mut State) -> (Option<DesiredNode>, Vec<Replacement>) {
        let Dirty { mut services, endpoints, context, labels, network, sockets } =
            state.take_dirty();
        self.context.listening = Arc::clone(state.listening());
        for socket in sockets {
            let waiting = self.waiting.get(&(socket.protocol, socket.port));
            services.extend(waiting.into_iter().flatten().cloned());
            let owner = self.owner(&socket).filter(|owner| self.on_devices.contains(*owner));
            services.extend(owner.cloned());
        }
        let mut old_node = None;
        if context {
            // A new zone does not change the context, but it changes the hints that apply.
            services.extend(state.service_keys().cloned());
            old_node = self.update_context(state);
        }
        if labels && !context {
            services.extend(self.selecting_nodes(state).into_iter().cloned());
            let labels = state.node().map_or_else(Vec::new, |node| node.labels.to_vec());
            self.context.node_labels = labels;
        }
        if network && !context {
            self.changes += 1;
            if self.context.follow(state.reachable(), state.links()) {
                services.extend(state.service_keys().cloned());
            }
            old_node = self.update_node();
        }
        let mut affected = self.update_claims(state, &services);
        while !affected.is_empty() {
            // Listening sockets are considered only here, so an earlier claim may be refused now.
            affected.retain(|key| !services.contains(key));
            let more = affected.into_iter().collect();
            affected = self.update_claims(state, &more);
            services.extend(more);
        }
        let mut replacements = Vec::with_capacity(endpoints.len() + services.len());
        for key in endpoints.into_iter().filter(|key| !services.contains(key)) {
            replacements.extend(self.update_endpoints(state, key));
        }
        for key in services {
            replacements.extend(self.update_service(state, key));
        }
        self.found = Found::default();
        self.arrived.clear();
        (old_node, replacements)
    }

    /// Records that the kernel has no such scheduler. Returns the Services with pools that use it,
    /// which get the default scheduler; none if that one is missing.
    pub(super) fn miss_scheduler(&mut self, scheduler: Scheduler) -> Vec<ServiceKey> {
        let missing = &mut self.context.missing_schedulers;
        if scheduler == self.settings.scheduler || missing.contains(&scheduler) {
            return Vec::new();
        }
        missing.push(scheduler);
        let uses = |service: &DesiredService| {
            service.pools.iter().any(|pool| pool.server.scheduler == scheduler)
        };
        self.services().filter(|(_, it)| uses(it)).map(|(key, _)| key.clone()).collect()
    }

    /// Forgets the missing schedulers, which may have come since. Returns whether there were any.
    pub(super) fn forget_missing_schedulers(&mut self) -> bool {
        !mem::take(&mut self.context.missing_schedulers).is_empty()
    }

    /// Returns the desired state of the node.
    #[must_use]
    pub fn node(&self) -> &DesiredNode {
        &self.node
    }

    /// Returns the input besides Services and endpoints.
    #[must_use]
    pub fn context(&self) -> &NodeContext {
        &self.context
    }

    /// Returns the number of changes of the context.
    #[must_use]
    pub fn context_changes(&self) -> u64 {
        self.changes
    }

    /// Returns the desired state of a Service.
    #[must_use]
    pub fn service(&self, key: &ServiceKey) -> Option<&DesiredService> {
        self.services.get(key).map(|program| &**program)
    }

    /// Iterates over the desired state of all Services in arbitrary order.
    pub fn services(&self) -> impl Iterator<Item = (&ServiceKey, &DesiredService)> {
        self.services.iter().map(|(key, program)| (key, &**program))
    }

    /// Returns the totals of all Services.
    #[must_use]
    pub fn totals(&self) -> Totals {
        self.totals
    }

    /// Returns the Service that owns a front end.
    #[must_use]
    pub fn owner(&self, address: &VirtualAddress) -> Option<&ServiceKey> {
        self.claims.owner(address).map(|claim| &claim.service)
    }

    /// Returns the front end at an address, with its Service.
    #[must_use]
    pub fn frontend(
        &self,
        address: &VirtualAddress,
    ) -> Option<(&ServiceKey, &DesiredService, &Frontend)> {
        let owner = self.owner(address)?;
        let program = self.service(owner)?;
        Some((owner, program, program.frontend(address)?))
    }

    /// Returns the previous desired state of the node if it changed.
    fn update_context(&mut self, state: &State) -> Option<DesiredNode> {
        let service_cidrs = state.service_cidrs().flat_map(|object| object.cidrs.iter().copied());
        let surveyed = Surveyed {
            node: state.node(),
            interfaces: state.addresses(),
            source_ips: state.source_ips(),
            lacks_ipv6: !state.has_ipv6(),
            routes: state.reachable(),
            links: state.links(),
            service_cidrs: service_cidrs.collect(),
            api_servers: state.api_servers().collect(),
            listening: Arc::clone(state.listening()),
        };
        let missing_schedulers = self.context.missing_schedulers.clone();
        let context =
            NodeContext { missing_schedulers, ..NodeContext::new(&self.settings, surveyed) };
        let is_first = self.node == DesiredNode::default();
        if context == self.context && !is_first {
            return None;
        }
        self.changes += 1;
        let before = mem::replace(&mut self.context, context);
        let has_come = |ip: &IpAddr| !is_first && !before.is_own(*ip);
        self.arrived = self.context.own_ips.iter().copied().filter(has_come).collect();
        self.update_node()
    }

    fn update_node(&mut self) -> Option<DesiredNode> {
        let node = desired::desired_node(&self.context);
        (node != self.node).then(|| mem::replace(&mut self.node, node))
    }

    /// Updates the claims of the changed Services. Returns the Services that gain or lose a front
    /// end by this.
    fn update_claims(&mut self, state: &State, changed: &FxHashSet<ServiceKey>) -> Vec<ServiceKey> {
        let mut affected = Vec::new();
        for key in changed {
            let old = self.service(key).map_or_else(Vec::new, |program| claimed(key, program));
            let service = state.entry(key).and_then(|entry| served(&entry.service, &self.context));
            let new = service.map_or_else(Vec::new, |service| {
                let is_owner: desired::IsOwner<'_> =
                    &|at, cluster, right| self.has(key, at, cluster, right);
                desired::claims(service, &self.context, is_owner)
            });
            if old == new {
                continue;
            }
            for (address, before, now) in differing(old, new) {
                let gains = before.and_then(|claim| self.claims.remove(address, &claim));
                let loses = now.and_then(|claim| self.claims.add(address, claim));
                affected.extend(gains.into_iter().chain(loses));
                let others = desired::same_packets(address, &self.context);
                let owners = others.filter_map(|other| self.claims.owner(&other));
                affected.extend(owners.map(|owner| owner.service.clone()));
            }
        }
        affected
    }

    /// Returns whether a Service already has a front end, by its desired state or by what the
    /// kernel held when the agent started. A front end that only the Service's author requested
    /// does not count at an address that the node got later.
    fn has(
        &self,
        key: &ServiceKey,
        address: &VirtualAddress,
        cluster: &VirtualAddress,
        right: Right,
    ) -> bool {
        let is_granted = right != Right::Written;
        let has = |program: &DesiredService| program.frontend(address).is_some();
        let had = self.found.has(address, cluster);
        had && (is_granted || self.found.is_own(address.ip))
            || self.service(key).is_some_and(has)
                && (is_granted || !self.arrived.contains(&address.ip))
    }

    /// Updates a Service whose endpoints alone changed.
    fn update_endpoints(&mut self, state: &mut State, key: ServiceKey) -> Option<Replacement> {
        let (entry, locality) = state.set_locality(&key);
        let ServiceEntry { service, endpoints, .. } = entry?;
        let program = self.services.get_mut(&key)?;
        match desired::pools(program, service.as_deref()?, endpoints, &self.context, locality) {
            Some(pools) if Shared::are_same(&pools, &program.pools) => None,
            Some(pools) => {
                let new = Arc::new(DesiredService { pools, ..DesiredService::clone(program) });
                let old = mem::replace(program, Arc::clone(&new));
                self.totals.add(&key, &new);
                self.totals.remove(&key, &old);
                Some(Replacement { service: key, old, new })
            }
            None => self.update_service(state, key),
        }
    }

    fn note_waiting(&mut self, key: &ServiceKey, old: &Shared<[Refusal]>, new: &Shared<[Refusal]>) {
        if old == new {
            return;
        }
        let ports = |refusals: &[Refusal]| {
            let waits = refusals.iter().filter(|it| it.reason == RefusalReason::Listened);
            waits.map(|it| (it.address.protocol, it.address.port)).collect::<BTreeSet<_>>()
        };
        let (old, new) = (ports(old), ports(new));
        for port in old.difference(&new) {
            if let Some(waiting) = self.waiting.get_mut(port) {
                waiting.remove(key);
                if waiting.is_empty() {
                    self.waiting.remove(port);
                }
            }
        }
        for port in new.difference(&old) {
            self.waiting.entry(*port).or_default().insert(key.clone());
        }
    }

    fn update_service(&mut self, state: &mut State, key: ServiceKey) -> Option<Replacement> {
        let (entry, locality) = state.set_locality(&key);
        let mut is_on_device = false;
        let new = entry.and_then(|ServiceEntry { service, endpoints, .. }| {
            let service = served(service, &self.context)?;
            let is_owner: desired::IsOwner<'_> =
                &|at, cluster, right| self.has(&key, at, cluster, right);
            let claims = (&self.claims, is_owner);
            let program = desired::program(service, endpoints, &self.context, locality, claims);
            let mut cluster_ips = Family::BOTH.into_iter().filter_map(|it| service.cluster_ip(it));
            is_on_device = cluster_ips.any(|ip| self.context.is_own(ip));
            Some(program.into())
        });
        if is_on_device {
            self.on_devices.insert(key.clone());
        } else {
            self.on_devices.remove(&key);
        }
        let old = match &new {
            Some(new) => self.services.insert(key.clone(), Arc::clone(new)),
            None => self.services.remove(&key),
        };
        new.iter().for_each(|new| self.totals.add(&key, new));
        old.iter().for_each(|old| self.totals.remove(&key, old));
        let [old, new] = [old, new].map(Option::unwrap_or_default);
        self.note_waiting(&key, &old.refusals, &new.refusals);
        (old != new).then_some(Replacement { service: key, old, new })
    }
}

/// Returns the Service if this proxy serves it.
fn served<'a>(service: &'a Option<Arc<Service>>, context: &NodeContext) -> Option<&'a Service> {
    service.as_deref().filter(|service| desired::is_served(service, context))
}

/// Compares two lists sorted by address. Returns each address that differs, with its entries.
fn differing<T: PartialEq>(
    old: Vec<(VirtualAddress, T)>,
    new: Vec<(VirtualAddress, T)>,
) -> Vec<(VirtualAddress, Option<T>, Option<T>)> {
    let mut differing = Vec::new();
    let mut old = old.into_iter().peekable();
    for (address, now) in new {
        while let Some((gone, before)) = old.next_if(|(before, _)| *before < address) {
            differing.push((gone, Some(before), None));
        }
        let before = old.next_if(|(before, _)| *before == address).map(|(_, before)| before);
        if before.as_ref() != Some(&now) {
            differing.push((address, before, Some(now)));
        }
    }
    differing.extend(old.map(|(gone, before)| (gone, Some(before), None)));
    differing
}

/// Returns the claims that a Service made for its current desired state, sorted by address.
fn claimed(key: &ServiceKey, program: &DesiredService) -> Vec<(VirtualAddress, Claim)> {
    let claim = |kind: FrontendKind| Claim {
        right: kind.right(),
        created: program.created,
        service: key.clone(),
    };
    let had = program.frontends.iter().map(|front| (front.address, claim(front.kind)));
    let taken = program
        .refusals
        .iter()
        .filter(|it| matches!(it.reason, RefusalReason::Taken(_)) || it.reason.keeps_claim())
        .map(|refusal| (refusal.address, claim(refusal.kind)));
    let mut claims: Vec<_> = had.chain(taken).collect();
    claims.sort_unstable_by_key(|(address, _)| *address);
    claims
}
