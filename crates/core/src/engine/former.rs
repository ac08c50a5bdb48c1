//! Virtual servers at addresses where no Service has a pool: those of kube-proxy or an earlier
//! version at load balancer IPs, external IPs and node addresses, and those of Services that were
//! removed while no agent ran.
//!
//! They get no new connections, because front ends send packets to pools before IPVS sees them.
//! Their real servers drain. IPVS carries the packets of established connections as long as they
//! reach the node, so an address that the node does not have otherwise gets a route like that of a
//! pool.

use std::time::Instant;

use rustc_hash::FxHashSet;

use super::{DesiredState, Engine};
use crate::model::{
    DesiredService, Family, Frontend, FrontendKind, Masquerade, Name, Pool, Protocol, Route,
    Scheduler, Shared, Target, VirtualAddress, VirtualServer,
};

impl Engine {
    /// Registers the virtual servers that no Service needs; `pools` are those that Services have.
    pub(super) fn find_former(&mut self, pools: &FxHashSet<VirtualAddress>, now: Instant) {
        let Self { desired, reconciler, departures, former, .. } = self;
        let is_former = |server: &&VirtualAddress| {
            // UDP moves at once.
            server.protocol != Protocol::Udp
                && !pools.contains(server)
                && !former.contains_key(server)
        };
        let found: Vec<_> = reconciler.obsolete().filter(is_former).copied().collect();
        if found.is_empty() {
            return;
        }
        // A front end of a Service may still use a pool at one of its possible addresses until it
        // is updated.
        let frontends = desired.services().flat_map(|(_, program)| &*program.frontends);
        let places: FxHashSet<_> = frontends.flat_map(Frontend::places).collect();
        for server in found {
            let program = routed(server, desired);
            if program.routes.is_empty()
                || places.contains(&server)
                || desired.frontends_at(server).next().is_some()
            {
                reconciler.mark_former(server);
                reconciler.replace(&DesiredService::default(), &program);
                former.insert(server, program);
                continue;
            }
            // Treated like a Service that was removed just now.
            for program in departures.depart(&with_frontend(server, program), |_| true, now) {
                reconciler.counts().restart(now);
                reconciler.replace(&DesiredService::default(), &program);
            }
        }
    }

    /// Unregisters former virtual servers that are gone, and updates the others after a change of
    /// the node's addresses.
    pub(super) fn update_former(&mut self) {
        let Self { desired, reconciler, former, .. } = self;
        former.retain(|server, program| {
            let stays = reconciler.is_obsolete(server);
            let new = match stays {
                true => routed(*server, desired),
                false => DesiredService::default(),
            };
            if new != *program {
                reconciler.replace(program, &new);
                *program = new;
            }
            if !stays {
                reconciler.unmark_former(*server);
            }
            stays
        });
    }
}

/// Returns the route that brings packets to a virtual server, unless the node has the address or it
/// is a Service's ClusterIP.
fn routed(server: VirtualAddress, desired: &DesiredState) -> DesiredService {
    let context = desired.context();
    let ip = server.ip;
    let is_cluster_ip = |it: &Frontend| it.kind == FrontendKind::ClusterIp;
    let is_held =
        context.is_own(ip) || ip.is_loopback() || desired.frontends_at(server).any(is_cluster_ip);
    let source = context.source_ip(Family::of(ip));
    let route = (!is_held).then(|| Route { prefix: ip.into(), source });
    DesiredService { routes: route.into_iter().collect(), ..DesiredService::default() }
}

/// Returns the same with a front end that uses the virtual server, as a Service would have it.
fn with_frontend(server: VirtualAddress, routed: DesiredService) -> DesiredService {
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
    let server = VirtualServer::new(server, Scheduler::Rr);
    let pool = Pool::from(server);
    DesiredService {
        frontends: [frontend].into_iter().collect(),
        pools: [Shared::from(pool)].into_iter().collect(),
        ..routed
    }
}
