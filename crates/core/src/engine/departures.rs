//! Front ends that no Service has any more but that still have connections.
//!
//! A removed front end gets no new connections. Established connections continue until they end or
//! until a deadline, like those of a removed endpoint. Until the last connection ends, the front
//! end rejects, so that a client whose connection is cut gets a reset for its next segment.

use std::collections::{BTreeMap, BTreeSet};
use std::mem;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use rustc_hash::FxHashSet;

use crate::model::{
    AddressSet, DesiredService, Element, Family, Frontend, FrontendKind, Masquerade, Name, Pool,
    PortSet, Protocol, Route, Shared, Target, VirtualAddress,
};
use crate::plan::Observed;

/// How long a front end rejects after its last connections were cut.
const LINGER: Duration = Duration::from_secs(60);

#[derive(Debug)]
struct Departure {
    /// Held in the kernel for the front end.
    program: Arc<DesiredService>,
    until: Instant,
    ended: bool,
}

#[derive(Debug, Default)]
pub(super) struct Departures {
    period: Duration,
    by_frontend: BTreeMap<VirtualAddress, Departure>,
    /// The source addresses of all their routes; `None` if some may differ.
    source_ips: Option<[Option<IpAddr>; 2]>,
}

impl Departures {
    pub(super) fn new(period: Duration) -> Self {
        Self { period, ..Self::default() }
    }

    /// Registers the departing front ends of a replaced Service. Returns what the kernel must hold
    /// for them.
    pub(super) fn depart(
        &mut self,
        old: &DesiredService,
        is_removed: impl Fn(&VirtualAddress) -> bool,
        now: Instant,
    ) -> Vec<Arc<DesiredService>> {
        let mut desired = Vec::new();
        for frontend in &*old.frontends {
            // UDP moves at once; front ends that already depart continue to do so.
            if frontend.address.protocol == Protocol::Udp
                || !is_removed(&frontend.address)
                || self.by_frontend.contains_key(&frontend.address)
            {
                continue;
            }
            let program = Arc::new(refusing(frontend, old));
            let until = now + self.period;
            desired.push(Arc::clone(&program));
            self.by_frontend.insert(frontend.address, Departure { program, until, ended: false });
        }
        desired
    }

    /// Registers the front ends in the kernel at the start that no Service has: those that were
    /// departing when the agent stopped, and those removed since. Returns the same as
    /// [`Self::depart`].
    pub(super) fn recover(
        &mut self,
        observed: &Observed,
        is_removed: impl Fn(&VirtualAddress) -> bool,
        now: Instant,
    ) -> Vec<Arc<DesiredService>> {
        let present: FxHashSet<_> = observed.elements.iter().copied().collect();
        let is_pool = |address: &VirtualAddress| {
            present.contains(&Element::Address(AddressSet::Pools, address.ip))
        };
        let addresses = observed.elements.iter().filter_map(Element::frontend);
        let addresses: BTreeSet<_> = addresses.filter(is_removed).collect();
        let frontends = addresses.into_iter().map(|address| {
            let masquerade = if present.contains(&Element::Port(PortSet::Masqueraded, address)) {
                Masquerade::Always
            } else if present.contains(&Element::Port(PortSet::MasqueradedNode, address)) {
                Masquerade::OwnProcesses
            } else {
                Masquerade::UnlessPod
            };
            let kind = if is_pool(&address) {
                FrontendKind::ClusterIp
            } else if address.ip.is_unspecified() {
                FrontendKind::NodePort
            } else {
                FrontendKind::LoadBalancer
            };
            Frontend {
                address,
                kind,
                port_name: Name::default(),
                pool: address,
                inside: Target::Reject,
                outside: Target::Reject,
                masquerade,
                sources: None,
            }
        });
        let ours = observed.pools.iter().filter(|pool| is_pool(&pool.server.address));
        let old = DesiredService {
            frontends: frontends.collect(),
            pools: ours.cloned().map(Shared::from).collect(),
            routes: observed.routes.iter().copied().collect(),
            ..DesiredService::default()
        };
        self.source_ips = None;
        self.depart(&old, |_| true, now)
    }

    /// Applies a changed source address of the node's own packets. Returns the old and new version
    /// of what the kernel holds.
    pub(super) fn set_source_ips(
        &mut self,
        source_ip: impl Fn(Family) -> Option<IpAddr>,
    ) -> Vec<[Arc<DesiredService>; 2]> {
        let mut replaced = Vec::new();
        let source_ips = Some(Family::BOTH.map(&source_ip));
        if mem::replace(&mut self.source_ips, source_ips) == source_ips {
            return replaced;
        }
        for departure in self.by_frontend.values_mut() {
            let source = |route: &Route| source_ip(route.family());
            if departure.program.routes.iter().all(|route| route.source == source(route)) {
                continue;
            }
            let old = Arc::clone(&departure.program);
            let program = Arc::make_mut(&mut departure.program);
            let routes = program.routes.iter().map(|it| Route { source: source(it), ..*it });
            program.routes = routes.collect();
            replaced.push([old, Arc::clone(&departure.program)]);
        }
        replaced
    }

    /// Cancels a departure because a Service has the front end again. Returns what the kernel no
    /// longer needs.
    pub(super) fn cancel(&mut self, frontend: &VirtualAddress) -> Option<Arc<DesiredService>> {
        self.by_frontend.remove(frontend).map(|departure| departure.program)
    }

    pub(super) fn frontends(&self) -> impl Iterator<Item = &VirtualAddress> {
        self.by_frontend.keys()
    }

    pub(super) fn is_empty(&self) -> bool {
        self.by_frontend.is_empty()
    }

    pub(super) fn next_deadline(&self, now: Instant) -> Option<Instant> {
        self.by_frontend
            .values()
            .map(|departure| departure.until)
            .filter(|until| *until > now)
            .min()
    }

    /// Updates the departures after a count: `is_running` returns whether a front end has
    /// connections. Returns what the kernel no longer needs, and the front ends past their deadline,
    /// whose connections must be cut.
    pub(super) fn count(
        &mut self,
        is_running: impl Fn(&VirtualAddress) -> bool,
        now: Instant,
    ) -> (Vec<Arc<DesiredService>>, Vec<VirtualAddress>) {
        let (mut gone, mut ended) = (Vec::new(), Vec::new());
        self.by_frontend.retain(|frontend, departure| {
            let is_up = departure.until <= now;
            // Connections that outlast the cut are not the agent's.
            let stays = if departure.ended { !is_up } else { is_running(frontend) };
            if !stays {
                gone.push(Arc::clone(&departure.program));
            } else if is_up {
                ended.push(*frontend);
                departure.ended = true;
                departure.until = now + LINGER;
            }
            stays
        });
        (gone, ended)
    }
}

/// Returns what the kernel must hold for a departing front end: a rejection, and for a ClusterIP
/// the virtual server with only its draining real servers.
fn refusing(frontend: &Frontend, old: &DesiredService) -> DesiredService {
    let is_cluster_ip = frontend.kind == FrontendKind::ClusterIp;
    let addresses: Vec<_> = frontend.places().filter(|_| is_cluster_ip).collect();
    let mut pools: Vec<_> = addresses.iter().filter_map(|at| old.pool(at)).collect();
    pools.sort_unstable_by_key(|pool| pool.server.address);
    let emptied = |pool: &Shared<Pool>| Shared::from(Pool::from(pool.server));
    let is_own = |route: &&Route| addresses.iter().any(|it| it.ip == route.prefix.addr());
    let refusing = Frontend { sources: None, ..frontend.clone() };
    DesiredService {
        frontends: [refusing.leading_to([Target::Reject; 2])].into_iter().collect(),
        routes: old.routes.iter().filter(is_own).copied().collect(),
        pools: pools.into_iter().map(emptied).collect(),
        ..DesiredService::default()
    }
}
