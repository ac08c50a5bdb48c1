//! The DesiredState of all Services and of the node, kept up to date with the state.

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
    Refusal, RefusalReason, Right, Service, ServiceKey, Settings, Shared, SharedPools,
    VirtualAddress,
};
use crate::plan::{Carrier, Running};
use crate::state::{Dirty, ServiceEntry, State};

/// What a Service had before a change and has after it.
#[derive(Debug)]
pub struct Replacement<T> {
    /// The Service.
    pub service: ServiceKey,
    /// So far; empty if it had none.
    pub old: T,
    /// From now on; empty if it has none.
    pub new: T,
}

/// What an update replaced.
#[derive(Debug, Default)]
pub struct Update {
    /// The node's DesiredService before the update, if it changed.
    pub old_node: Option<DesiredNode>,
    /// Services of whose DesiredService nothing but the pools changed.
    pub pools: Vec<Replacement<SharedPools>>,
    /// Other Services whose DesiredService changed.
    pub services: Vec<Replacement<Arc<DesiredService>>>,
}

/// What one Service has.
#[derive(Debug)]
struct Served {
    created: i64,
    program: Arc<DesiredService>,
}

/// The DesiredState of all Services and of the node: the whole desired state.
#[derive(Debug)]
pub struct DesiredState {
    /// The configuration; that of the surroundings is the one that the DesiredState were made with.
    settings: Settings,
    context: NodeContext,
    node: DesiredNode,
    services: FxHashMap<ServiceKey, Served>,
    claims: Claims,
    totals: Totals,
    /// Services without a front end because something listens at such a port.
    waiting: FxHashMap<(Protocol, u16), BTreeSet<ServiceKey>>,
    /// Services with a ClusterIP that a device of the node has.
    on_devices: FxHashSet<ServiceKey>,
    /// What the kernel had when the agent started, until the first update.
    found: Found,
    /// How often the surroundings have changed.
    changes: u64,
    /// Addresses that the node has since this update, and not since the first one.
    arrived: Vec<IpAddr>,
}

/// What the kernel had when the agent started.
#[derive(Debug, Default)]
struct Found {
    /// Front ends, each with the pool that it led to, if it led to any.
    frontends: FxHashMap<VirtualAddress, Option<VirtualAddress>>,
    /// Ranges that the node's own addresses lay in.
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

    /// Whether there was a front end that led to where a Service port has its pools. One that refused
    /// may have been anybody's.
    fn has(&self, address: &VirtualAddress, cluster: &VirtualAddress) -> bool {
        self.frontends.get(address).is_some_and(|pool| {
            pool.is_none_or(|pool| cluster.pool_places().any(|place| place == pool))
        })
    }

    /// Whether an address was the node's own.
    fn is_own(&self, ip: IpAddr) -> bool {
        desired::contain(&self.insiders, ip)
    }
}

impl DesiredState {
    /// No Services, and a node of which only the settings are known.
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

    /// Takes in what the kernel has as the agent starts: front ends were there before whatever
    /// listens now.
    pub(super) fn find(&mut self, elements: &[Element]) {
        self.found = Found::default();
        elements.iter().for_each(|element| self.found.add(element));
    }

    /// Whether a change has a Service ask for a front end at an address of the node that it does not
    /// have yet, or give one up that another may get, so that it matters what listens there now.
    pub(super) fn need_listening(&self, state: &State) -> bool {
        let dirty = state.dirty();
        let is_changed = |key: &ServiceKey| {
            let service = state.entry(key).and_then(|entry| served(&entry.service, &self.context));
            let asked = service.map(|service| desired::asked_of_node(service, &self.context));
            let asked: FxHashSet<_> = asked.into_iter().flatten().collect();
            let known = self.service(key);
            let is_told = |address| known.is_some_and(|program| program.tells_of(address));
            let mut had = known.into_iter().flat_map(|program| &*program.frontends);
            !asked.iter().all(is_told)
                || had.any(|it| {
                    let is_of_node = it.kind.is_external() && self.context.is_own(it.address.ip);
                    is_of_node && !asked.contains(&it.address)
                })
        };
        dirty.context || dirty.services.iter().any(is_changed)
    }

    /// Whether a device of the node has the ClusterIP of a Service: it matters at any time what listens
    /// there.
    pub(super) fn must_listen(&self) -> bool {
        !self.on_devices.is_empty()
    }

    /// Brings the DesiredState up to date with what has changed in the state.
    pub fn update(&mut self, state: &mut State) -> Update {
        let Dirty { mut services, endpoints, context, network, sockets } = state.take_dirty();
        self.context.listening = Arc::clone(state.listening());
        for socket in sockets {
            let waiting = self.waiting.get(&(socket.protocol, socket.port));
            services.extend(waiting.into_iter().flatten().cloned());
            let owner = self.owner(&socket).filter(|owner| self.on_devices.contains(*owner));
            services.extend(owner.cloned());
        }
        let mut update = Update::default();
        if context {
            // A new zone changes no surroundings but which endpoints are hinted here.
            services.extend(state.service_keys().cloned());
            update.old_node = self.update_surroundings(state);
        } else if network {
            self.changes += 1;
            if self.context.follow(state.reachable(), state.links()) {
                services.extend(state.service_keys().cloned());
            }
            update.old_node = self.update_node();
        }
        let mut affected = self.update_claims(state, &services);
        while !affected.is_empty() {
            // What it claimed so far may be refused by now: what listens is looked at only here.
            affected.retain(|key| !services.contains(key));
            let more = affected.into_iter().collect();
            affected = self.update_claims(state, &more);
            services.extend(more);
        }
        update.pools.reserve(endpoints.len());
        for key in endpoints.into_iter().filter(|key| !services.contains(key)) {
            self.update_endpoints(state, key, &mut update);
        }
        for key in services {
            update.services.extend(self.update_service(state, key));
        }
        self.found = Found::default();
        self.arrived.clear();
        update
    }

    /// The DesiredService of the node.
    #[must_use]
    pub fn node(&self) -> &DesiredNode {
        &self.node
    }

    /// What the DesiredState depend on beside Services and endpoints.
    #[must_use]
    pub fn context(&self) -> &NodeContext {
        &self.context
    }

    /// How often the surroundings have changed: if it is another number, so are they.
    #[must_use]
    pub fn surroundings_changes(&self) -> u64 {
        self.changes
    }

    /// The DesiredService of a Service.
    #[must_use]
    pub fn service(&self, key: &ServiceKey) -> Option<&DesiredService> {
        self.services.get(key).map(|served| &*served.program)
    }

    /// All Services' DesiredState, in no order.
    pub fn services(&self) -> impl Iterator<Item = (&ServiceKey, &DesiredService)> {
        self.services.iter().map(|(key, served)| (key, &*served.program))
    }

    /// How much of everything there is in them.
    #[must_use]
    pub fn totals(&self) -> Totals {
        self.totals
    }

    /// The Service that has a front end.
    #[must_use]
    pub fn owner(&self, address: &VirtualAddress) -> Option<&ServiceKey> {
        self.claims.owner(address).map(|claim| &claim.service)
    }

    /// The front ends that take what clients send to an address: one that stands there, and one of a
    /// node port.
    pub fn frontends_at(&self, address: VirtualAddress) -> impl Iterator<Item = &Frontend> {
        self.found_at(address).map(|(_, frontend)| frontend)
    }

    /// The same, each with its Service's DesiredService.
    fn found_at(
        &self,
        address: VirtualAddress,
    ) -> impl Iterator<Item = (&DesiredService, &Frontend)> {
        let VirtualAddress { ip, port, protocol } = address;
        let takes_node_ports = self.node.node_port_ips.contains(&ip);
        let node_port = VirtualAddress::node_port(address.family(), port, protocol);
        let all = [Some(address), takes_node_ports.then_some(node_port)].into_iter().flatten();
        all.filter_map(|at| {
            let program = self.owner(&at).and_then(|owner| self.service(owner));
            program.and_then(|program| Some((program, program.frontend(&at)?)))
        })
    }

    /// Whether a virtual server at an address is ours, whoever has made it: a Service has a front end
    /// there, or may have a ClusterIP.
    #[must_use]
    pub fn is_ours(&self, address: &VirtualAddress) -> bool {
        self.context.is_in_service_range(address.ip) || self.frontends_at(*address).next().is_some()
    }

    /// The virtual servers that may have scheduled connections, and that have them drain if the real
    /// server leaves. There is none where the front end leads to the endpoint still: connection
    /// tracking carries them, whichever pool they came by.
    #[must_use]
    pub fn pools_of(&self, connections: &Running) -> Vec<VirtualAddress> {
        let Running { frontend: at, backend, carrier, .. } = *connections;
        let leads_there = |(program, frontend): (&DesiredService, &Frontend)| {
            let targets = frontend.targets().map(|target| frontend.pool_of(target));
            targets.iter().flatten().filter_map(|at| program.pool(at)).any(|pool| {
                pool.backends.iter().any(|it| it.socket() == backend && !it.is_draining())
            })
        };
        match carrier {
            Carrier::Ipvs => vec![at],
            Carrier::Tracking if self.found_at(at).any(leads_there) => Vec::new(),
            Carrier::Tracking => self.frontends_at(at).flat_map(Frontend::places).collect(),
        }
    }

    /// Returns the node's old DesiredService if it changed.
    fn update_surroundings(&mut self, state: &State) -> Option<DesiredNode> {
        let service_cidrs = state.service_cidrs().flat_map(|object| object.cidrs.iter().copied());
        let ground = Surveyed {
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
        let context = NodeContext::new(&self.settings, ground);
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
        let node = desired::node_program(&self.context);
        (node != self.node).then(|| mem::replace(&mut self.node, node))
    }

    /// Brings the claims of the changed Services up to date; returns the Services that gain or lose
    /// a front end by it.
    fn update_claims(&mut self, state: &State, changed: &FxHashSet<ServiceKey>) -> Vec<ServiceKey> {
        let mut affected = Vec::new();
        for key in changed {
            let old = self.services.get(key).map_or_else(Vec::new, |served| claimed(key, served));
            let service = state.entry(key).and_then(|entry| served(&entry.service, &self.context));
            let new = service.map_or_else(Vec::new, |service| {
                let having: desired::Having<'_> =
                    &|at, cluster, right| self.has(key, at, cluster, right);
                desired::claims(service, &self.context, having)
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

    /// Whether a Service has a front end already, by its DesiredService or by what the kernel had when the
    /// agent started. What its author alone has written does not count at an address that has become
    /// the node's since.
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

    /// Brings the DesiredService of a Service up to date of which only endpoints have changed.
    fn update_endpoints(&mut self, state: &mut State, key: ServiceKey, update: &mut Update) {
        let (entry, locality) = state.set_locality(&key);
        let Some(ServiceEntry { service: Some(service), endpoints, .. }) = entry else { return };
        let Some(Served { program, .. }) = self.services.get_mut(&key) else { return };
        match desired::pools(program, service, endpoints, &self.context, locality) {
            Some(new) if Shared::are_same(&new, &program.pools) => {}
            Some(new) => {
                self.totals.exchange_pools(&program.pools, &new);
                let old = mem::replace(&mut Arc::make_mut(program).pools, new.clone());
                update.pools.push(Replacement { service: key, old, new });
            }
            None => update.services.extend(self.update_service(state, key)),
        }
    }

    fn note_waiting(&mut self, key: &ServiceKey, old: &[Refusal], new: &[Refusal]) {
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

    fn update_service(
        &mut self,
        state: &mut State,
        key: ServiceKey,
    ) -> Option<Replacement<Arc<DesiredService>>> {
        let (entry, locality) = state.set_locality(&key);
        let mut is_on_device = false;
        let new = entry.and_then(|ServiceEntry { service, endpoints, .. }| {
            let service = served(service, &self.context)?;
            let having: desired::Having<'_> =
                &|at, cluster, right| self.has(&key, at, cluster, right);
            let book = (&self.claims, having);
            let program = desired::program(service, endpoints, &self.context, locality, book);
            let mut cluster_ips = Family::BOTH.into_iter().filter_map(|it| service.cluster_ip(it));
            is_on_device = cluster_ips.any(|ip| self.context.is_own(ip));
            Some(Served { created: service.created, program: Arc::new(program) })
        });
        if is_on_device {
            self.on_devices.insert(key.clone());
        } else {
            self.on_devices.remove(&key);
        }
        let program_of = |served: Option<&Served>| {
            served.map_or_else(Arc::default, |served| Arc::clone(&served.program))
        };
        let program = program_of(new.as_ref());
        if new.is_some() {
            self.totals += Totals::of(&program);
        }
        let old = match new {
            Some(new) => self.services.insert(key.clone(), new),
            None => self.services.remove(&key),
        };
        let before = program_of(old.as_ref());
        self.note_waiting(&key, &before.refusals, &program.refusals);
        if old.is_some() {
            self.totals -= Totals::of(&before);
        }
        (before != program).then_some(Replacement { service: key, old: before, new: program })
    }
}

/// A Service that is this proxy's to serve.
fn served<'a>(service: &'a Option<Arc<Service>>, context: &NodeContext) -> Option<&'a Service> {
    service.as_deref().filter(|service| desired::is_served(service, context))
}

/// Where two lists differ that are sorted by address: what stands there in either.
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

/// The claims that a Service made for its DesiredService, sorted by address.
fn claimed(key: &ServiceKey, served: &Served) -> Vec<(VirtualAddress, Claim)> {
    let claim = |kind: FrontendKind| Claim {
        right: kind.right(),
        created: served.created,
        service: key.clone(),
    };
    let had = served.program.frontends.iter().map(|front| (front.address, claim(front.kind)));
    let taken = served
        .program
        .refusals
        .iter()
        .filter(|refusal| {
            matches!(refusal.reason, RefusalReason::Taken(_) | RefusalReason::LocalSocket)
        })
        .map(|refusal| (refusal.address, claim(refusal.kind)));
    let mut claims: Vec<_> = had.chain(taken).collect();
    claims.sort_unstable_by_key(|(address, _)| *address);
    claims
}
