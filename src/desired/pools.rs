//! Pools of one Service: where clients of its front ends go, by the policies and the endpoints.

use super::Surroundings;
use super::endpoints::{Choice, choose};
use crate::model::{
    Backends, Endpoints, Frontend, FrontendKind, Name, Pool, Selection, Service, Shared,
    SharedPools, Target, TrafficPolicy, Vantage, VirtualAddress, VirtualServer,
};

/// The pools of a Service, in the making.
pub(super) struct Pools<'a> {
    service: &'a Service,
    around: &'a Surroundings,
    vantage: &'a Vantage,
    /// Those that the Service had, sorted by address. One that is just the same is shared.
    old: &'a [Shared<Pool>],
    /// Sorted by address.
    pools: SharedPools,
}

impl<'a> Pools<'a> {
    /// None yet.
    pub(super) fn new(
        service: &'a Service,
        around: &'a Surroundings,
        vantage: &'a Vantage,
        old: &'a [Shared<Pool>],
    ) -> Self {
        Self { service, around, vantage, old, pools: SharedPools::with_capacity(old.len()) }
    }

    /// Adds the pools that a front end leads to, or would if there were endpoints. Returns where it
    /// leads pods of this node, its processes and everybody else.
    pub(super) fn lead(&mut self, frontend: &Frontend, endpoints: &mut Endpoints) -> [Target; 3] {
        let Frontend { address, kind, whole, ref port_name, .. } = *frontend;
        let tally = endpoints.of(address.family()).tally(port_name, address.protocol);
        let choice = choose(&tally);
        let (policy, sends_pods, sends_node) = match (kind, self.service.external_policy) {
            (FrontendKind::ClusterIp, _) => (self.service.internal_policy, false, false),
            // The policy binds outsiders; pods and the node reach every endpoint.
            (_, TrafficPolicy::Local) => (TrafficPolicy::Local, true, true),
            (FrontendKind::NodePort, policy) => (policy, false, false),
            // The node's own packets find no local route to an external address (the rule is for
            // others' packets), so they start towards the pool of all endpoints.
            (_, policy) => (policy, false, true),
        };
        let selection = match policy {
            TrafficPolicy::Cluster => choice.cluster,
            TrafficPolicy::Local => choice.local,
        };
        self.add(address, selection, port_name, endpoints);
        if sends_node {
            self.add(whole, choice.cluster, port_name, endpoints);
        }
        let own = target(frontend, address, selection, choice);
        let sent = target(frontend, whole, choice.cluster, choice);
        [if sends_pods { sent } else { own }, if sends_node { sent } else { own }, own]
    }

    /// The pools, sorted by address.
    pub(super) fn finish(self) -> SharedPools {
        self.pools
    }

    fn add(
        &mut self,
        address: VirtualAddress,
        selection: Option<Selection>,
        port_name: &Name,
        endpoints: &mut Endpoints,
    ) {
        let find = |pools: &[Shared<Pool>]| {
            pools.binary_search_by(|pool| pool.server.address.cmp(&address))
        };
        let Err(place) = find(&self.pools) else { return };
        let scheduler = self.around.settings.scheduler;
        let server = VirtualServer {
            address,
            scheduler,
            flags: scheduler.default_flags(),
            affinity_seconds: self.service.affinity_seconds,
        };
        let endpoints = endpoints.of(address.family());
        let backends = selection.map_or_else(Backends::default, |selection| {
            endpoints.backends(port_name, address.protocol, selection, self.vantage)
        });
        let old = find(self.old).ok().and_then(|place| self.old.get(place));
        let same = old.filter(|old| old.server == server && old.backends.is_same(&backends));
        let pool = same.map_or_else(|| Shared::from(Pool { server, backends }), Shared::clone);
        self.pools.insert(place, pool);
    }
}

/// Where a client goes that a front end leads to a pool.
fn target(
    frontend: &Frontend,
    pool: VirtualAddress,
    selection: Option<Selection>,
    choice: Choice,
) -> Target {
    match selection {
        Some(_) if pool == frontend.address => Target::Own,
        Some(_) => Target::Whole,
        None if choice.has_any() => Target::Drop,
        None => Target::Reject,
    }
}
