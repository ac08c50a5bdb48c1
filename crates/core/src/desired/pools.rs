//! PoolBuilder of one Service: where clients of its front ends go, by the policies and the endpoints.

use rustc_hash::FxHashMap;

use super::NodeContext;
use super::endpoints::choose;
use crate::model::{
    Backends, Carry, EndpointFilter, Endpoints, Frontend, FrontendKind, Locality, Name, Pool,
    Service, Shared, SharedPools, Target, TrafficPolicy, VirtualAddress, VirtualServer,
};

/// The pools of a Service, in the making.
pub(super) struct PoolBuilder<'a> {
    service: &'a Service,
    context: &'a NodeContext,
    locality: &'a Locality,
    /// Those that the Service had, sorted by address. One that is just the same is shared.
    old: &'a [Shared<Pool>],
    /// Sorted by address.
    pools: SharedPools,
    /// Where the front ends that lead to a Service port lead: its own at the ClusterIP, and all others
    /// alike. There may be thousands of these.
    targets: FxHashMap<(VirtualAddress, bool), Option<[Target; 2]>>,
}

impl<'a> PoolBuilder<'a> {
    /// None yet.
    pub(super) fn new(
        service: &'a Service,
        context: &'a NodeContext,
        locality: &'a Locality,
        old: &'a [Shared<Pool>],
    ) -> Self {
        let pools = SharedPools::with_capacity(old.len());
        Self { service, context, locality, old, pools, targets: FxHashMap::default() }
    }

    /// Adds the pools that a front end leads to, or would if there were endpoints. Returns where it
    /// leads insiders and outsiders.
    /// `None` if there is no place for one of them.
    pub(super) fn lead(
        &mut self,
        frontend: &Frontend,
        endpoints: &mut Endpoints,
    ) -> Option<[Target; 2]> {
        let kind = (frontend.pool, frontend.kind == FrontendKind::ClusterIp);
        if let Some(targets) = self.targets.get(&kind) {
            return *targets;
        }
        let targets = self.look(frontend, endpoints);
        self.targets.insert(kind, targets);
        targets
    }

    fn look(&mut self, frontend: &Frontend, endpoints: &mut Endpoints) -> Option<[Target; 2]> {
        let counts = endpoints
            .of(frontend.pool.family())
            .counts(&frontend.port_name, frontend.pool.protocol);
        let choice = choose(&counts);
        let internal = self.service.internal_policy;
        let (inside, outside) = match frontend.kind {
            FrontendKind::ClusterIp => (internal, internal),
            // The policy binds outsiders; pods and the node reach every endpoint.
            _ => (TrafficPolicy::Cluster, self.service.external_policy),
        };
        let place = |policy| {
            let is_own = policy == internal;
            let is_led_on = !matches!(self.context.settings.carry, Carry::FrontEnds)
                || self.context.is_local_socket(&frontend.pool);
            match is_own && !is_led_on {
                true => Some(Target::Pool),
                false => self.context.image(frontend.pool.ip, is_own).map(Target::Shadow),
            }
        };
        let places = [(inside, place(inside)?), (outside, place(outside)?)];
        let targets = places.map(|(policy, at)| {
            let selection = match policy {
                TrafficPolicy::Cluster => choice.cluster,
                TrafficPolicy::Local => choice.local,
            };
            let address = frontend.pool_of(at);
            address.into_iter().for_each(|address| {
                self.add(address, selection, &frontend.port_name, endpoints);
            });
            match selection {
                Some(_) => at,
                None if choice.has_any() => Target::Drop,
                None => Target::Reject,
            }
        });
        Some(targets)
    }

    /// The pools, sorted by address.
    pub(super) fn finish(self) -> SharedPools {
        self.pools
    }

    fn add(
        &mut self,
        address: VirtualAddress,
        selection: Option<EndpointFilter>,
        port_name: &Name,
        endpoints: &mut Endpoints,
    ) {
        let find = |pools: &[Shared<Pool>]| {
            pools.binary_search_by(|pool| pool.server.address.cmp(&address))
        };
        let Err(place) = find(&self.pools) else { return };
        let scheduler = self.context.settings.scheduler;
        let server = VirtualServer {
            address,
            scheduler,
            flags: scheduler.default_flags(),
            affinity_seconds: self.service.affinity_seconds,
        };
        let endpoints = endpoints.of(address.family());
        let backends = selection.map_or_else(Backends::default, |selection| {
            endpoints.backends(port_name, address.protocol, selection, self.locality)
        });
        let old = find(self.old).ok().and_then(|place| self.old.get(place));
        let same = old.filter(|old| old.server == server && old.backends.is_same(&backends));
        let pool = same.map_or_else(|| Shared::from(Pool { server, backends }), Shared::clone);
        self.pools.insert(place, pool);
    }
}
