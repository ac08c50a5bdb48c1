//! Front ends that no Service has any more and that still have connections.
//!
//! A front end that goes gets no new connection from that moment on, but established ones go on
//! until they end or a deadline passes, like those of an endpoint that leaves. Until the last is
//! gone it refuses, so that a client whose connection is ended gets a reset at its next segment and
//! not silence.

use std::collections::{BTreeMap, BTreeSet};
use std::mem;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use rustc_hash::FxHashSet;

use crate::model::{
    AddressSet, Backends, DesiredService, Element, Family, Frontend, FrontendKind, Masquerade,
    Name, Pool, PortSet, Protocol, Route, Shared, Target, VirtualAddress,
};
use crate::plan::Observed;

/// How long a front end refuses after its last connections have been ended.
const LINGER: Duration = Duration::from_secs(60);

#[derive(Debug)]
struct Departure {
    /// What the kernel holds because of it.
    program: Arc<DesiredService>,
    /// When its connections are ended.
    until: Instant,
    /// Whether they have been.
    ended: bool,
}

/// The front ends that are going.
#[derive(Debug, Default)]
pub(super) struct Departures {
    period: Duration,
    by_frontend: BTreeMap<VirtualAddress, Departure>,
    /// The source addresses that all of their routes have; `None` if some may have others.
    source_ips: Option<[Option<IpAddr>; 2]>,
}

/// What has become of the front ends that were going.
#[derive(Debug, Default)]
pub(super) struct Departed {
    /// What the kernel needs to hold no more.
    pub(super) gone: Vec<Arc<DesiredService>>,
    /// The front ends whose time is up: their connections are to be ended.
    pub(super) ended: Vec<VirtualAddress>,
}

impl Departures {
    /// None yet.
    pub(super) fn new(period: Duration) -> Self {
        Self { period, ..Self::default() }
    }

    /// Takes in the DesiredService of a Service that is replaced. Returns what the kernel is to hold for
    /// the front ends that `is_going` says of.
    pub(super) fn depart(
        &mut self,
        old: &DesiredService,
        is_going: impl Fn(&VirtualAddress) -> bool,
        now: Instant,
    ) -> Vec<Arc<DesiredService>> {
        let mut desired = Vec::new();
        for frontend in &*old.frontends {
            // Datagrams move at once, and what is going already goes on to.
            if frontend.address.protocol == Protocol::Udp
                || !is_going(&frontend.address)
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

    /// Takes in what the kernel holds when the agent starts: front ends that were going when it
    /// ended, and those that have gone since. Returns as [`Self::depart`] does.
    pub(super) fn recover(
        &mut self,
        observed: &Observed,
        is_going: impl Fn(&VirtualAddress) -> bool,
        now: Instant,
    ) -> Vec<Arc<DesiredService>> {
        let held: FxHashSet<_> = observed.elements.iter().copied().collect();
        let is_pool = |address: &VirtualAddress| {
            held.contains(&Element::Address(AddressSet::Pools, address.ip))
        };
        let addresses = observed.elements.iter().filter_map(Element::frontend);
        let addresses: BTreeSet<_> = addresses.filter(is_going).collect();
        let frontends = addresses.into_iter().map(|address| {
            let masquerade = if held.contains(&Element::Port(PortSet::Masqueraded, address)) {
                Masquerade::Always
            } else if held.contains(&Element::Port(PortSet::MasqueradedNode, address)) {
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

    /// Takes in that the node's own packets carry another address of a family. Returns what the kernel holds so far
    /// and is to hold instead.
    pub(super) fn readdress(
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

    /// Takes in that a Service has a front end. Returns what the kernel needs to hold no more.
    pub(super) fn come_back(&mut self, frontend: &VirtualAddress) -> Option<Arc<DesiredService>> {
        self.by_frontend.remove(frontend).map(|departure| departure.program)
    }

    /// The front ends that are going.
    pub(super) fn frontends(&self) -> impl Iterator<Item = &VirtualAddress> {
        self.by_frontend.keys()
    }

    /// Whether there is none.
    pub(super) fn is_empty(&self) -> bool {
        self.by_frontend.is_empty()
    }

    /// The first deadline that has not passed.
    pub(super) fn next_deadline(&self, now: Instant) -> Option<Instant> {
        self.by_frontend
            .values()
            .map(|departure| departure.until)
            .filter(|until| *until > now)
            .min()
    }

    /// Takes in which of them have connections, after a count.
    pub(super) fn count(
        &mut self,
        is_running: impl Fn(&VirtualAddress) -> bool,
        now: Instant,
    ) -> Departed {
        let mut departed = Departed::default();
        self.by_frontend.retain(|frontend, departure| {
            let is_up = departure.until <= now;
            // What runs after its end is not ours.
            let stays = if departure.ended { !is_up } else { is_running(frontend) };
            if !stays {
                departed.gone.push(Arc::clone(&departure.program));
            } else if is_up {
                departed.ended.push(*frontend);
                departure.ended = true;
                departure.until = now + LINGER;
            }
            stays
        });
        departed
    }
}

/// What the kernel holds because of a front end that is going: a refusal, and of a ClusterIP the
/// virtual server, without real servers but those that drain.
fn refusing(frontend: &Frontend, old: &DesiredService) -> DesiredService {
    let is_cluster_ip = frontend.kind == FrontendKind::ClusterIp;
    let addresses: Vec<_> = frontend.places().filter(|_| is_cluster_ip).collect();
    let mut pools: Vec<_> = addresses.iter().filter_map(|at| old.pool(at)).collect();
    pools.sort_unstable_by_key(|pool| pool.server.address);
    let emptied = |pool: &Shared<Pool>| {
        Shared::from(Pool { server: pool.server, backends: Backends::default() })
    };
    let is_its = |route: &&Route| addresses.iter().any(|it| it.ip == route.prefix.addr());
    let refusing = Frontend { sources: None, ..frontend.clone() };
    DesiredService {
        frontends: [refusing.leading_to([Target::Reject; 2])].into_iter().collect(),
        routes: old.routes.iter().filter(is_its).copied().collect(),
        pools: pools.into_iter().map(emptied).collect(),
        ..DesiredService::default()
    }
}
