//! Virtual servers that stand where no Service has a pool: those of kube-proxy, or of an earlier
//! version, at load balancer IPs, external IPs and node addresses; and those of Services that went
//! while no agent ran.
//!
//! They get no new connection, as front ends lead to pools before IPVS is asked, and their real servers
//! drain. IPVS carries each packet of the established ones, as long as it comes to the node: an
//! address that the node holds by nothing else gets a route like a pool's.

use std::collections::BTreeMap;
use std::time::Instant;

use rustc_hash::FxHashSet;

use super::{DesiredState, Engine};
use crate::model::{
    Backends, DesiredService, Family, Frontend, FrontendKind, Masquerade, Name, Pool, Protocol,
    Route, Scheduler, Shared, Target, VirtualAddress, VirtualServer,
};

/// What the kernel holds because of each.
pub(super) type Former = BTreeMap<VirtualAddress, DesiredService>;

impl Engine {
    /// Takes in which virtual servers are held. `pools` are those that Services have.
    pub(super) fn find_former(&mut self, pools: &FxHashSet<VirtualAddress>, now: Instant) {
        let Self { desired, reconciler, departures, former, .. } = self;
        let is_former = |server: &&VirtualAddress| {
            // Datagrams move at once.
            server.protocol != Protocol::Udp
                && !pools.contains(server)
                && !former.contains_key(server)
        };
        let found: Vec<_> = reconciler.unwanted().filter(is_former).copied().collect();
        if found.is_empty() {
            return;
        }
        // Where a pool of a Service may stand, a front end of its may lead until it is looked after.
        let frontends = desired.services().flat_map(|(_, program)| &*program.frontends);
        let places: FxHashSet<_> = frontends.flat_map(Frontend::places).collect();
        for server in found {
            let program = sheltering(server, desired);
            if program.routes.is_empty()
                || places.contains(&server)
                || desired.frontends_at(server).next().is_some()
            {
                reconciler.name(server);
                reconciler.replace(&DesiredService::default(), &program);
                former.insert(server, program);
                continue;
            }
            // As if its Service had gone right now.
            for program in departures.depart(&having(server, program), |_| true, now) {
                reconciler.counts().hasten(now);
                reconciler.replace(&DesiredService::default(), &program);
            }
        }
    }

    /// Lets go of those that have gone, and follows the node's addresses for the others.
    pub(super) fn look_after_former(&mut self) {
        let Self { desired, reconciler, former, .. } = self;
        former.retain(|server, program| {
            let stays = reconciler.is_unwanted(server);
            let new = match stays {
                true => sheltering(*server, desired),
                false => DesiredService::default(),
            };
            if new != *program {
                reconciler.replace(program, &new);
                *program = new;
            }
            if !stays {
                reconciler.name_no_more(*server);
            }
            stays
        });
    }
}

/// What brings packets to a virtual server: nothing where the node holds the address anyway, or a
/// Service has it for its ClusterIP.
fn sheltering(server: VirtualAddress, desired: &DesiredState) -> DesiredService {
    let context = desired.context();
    let ip = server.ip;
    let is_cluster_ip = |it: &Frontend| it.kind == FrontendKind::ClusterIp;
    let is_held =
        context.is_own(ip) || ip.is_loopback() || desired.frontends_at(server).any(is_cluster_ip);
    let source = context.source_ip(Family::of(ip));
    let route = (!is_held).then(|| Route { prefix: ip.into(), source });
    DesiredService { routes: route.into_iter().collect(), ..DesiredService::default() }
}

/// The same with a front end that leads to the virtual server, as a Service would have it.
fn having(server: VirtualAddress, sheltering: DesiredService) -> DesiredService {
    let frontend = Frontend {
        address: server,
        kind: FrontendKind::ClusterIp,
        port_name: Name::default(),
        pool: server,
        inside: Target::Pool,
        outside: Target::Pool,
        masquerade: Masquerade::UnlessPod,
        sources: None,
    };
    let server = VirtualServer {
        address: server,
        scheduler: Scheduler::Rr,
        flags: 0,
        affinity_seconds: None,
    };
    let pool = Pool { server, backends: Backends::default() };
    DesiredService {
        frontends: [frontend].into_iter().collect(),
        pools: [Shared::from(pool)].into_iter().collect(),
        ..sheltering
    }
}
