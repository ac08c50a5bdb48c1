//! The pools of one Service and the targets of its front ends.

use rustc_hash::FxHashMap;

use super::endpoints::choose;
use super::options::Options;
use crate::model::{
    Backends, Carry, EndpointFilter, Endpoints, Frontend, FrontendKind, Locality, Name, Pool,
    Shared, SharedPools, Target, TrafficPolicy, VirtualAddress,
};

/// Builds the pools of a Service.
pub(super) struct PoolBuilder<'a> {
    options: &'a Options<'a>,
    locality: &'a Locality,
    is_weighted: bool,
    /// The previous pools, sorted by address. Unchanged pools are shared.
    old: &'a [Shared<Pool>],
    /// Sorted by address.
    pools: SharedPools,
    /// The targets of the front ends of each Service port other than the ClusterIP, which are the
    /// same. There may be thousands of these.
    targets: FxHashMap<VirtualAddress, Option<[Target; 2]>>,
}

impl<'a> PoolBuilder<'a> {
    pub(super) fn new(
        options: &'a Options<'a>,
        locality: &'a Locality,
        old: &'a [Shared<Pool>],
    ) -> Self {
        let pools = SharedPools::with_capacity(old.len());
        Self { options, locality, is_weighted: false, old, pools, targets: FxHashMap::default() }
    }

    /// Adds the pools of a front end, even if they have no endpoints. Returns the targets of local
    /// and external clients, or `None` if a pool has no address.
    pub(super) fn lead(
        &mut self,
        frontend: &Frontend,
        endpoints: &mut Endpoints,
    ) -> Option<[Target; 2]> {
        if frontend.kind == FrontendKind::ClusterIp {
            return self.look(frontend, endpoints);
        }
        if let Some(targets) = self.targets.get(&frontend.pool) {
            return *targets;
        }
        let targets = self.look(frontend, endpoints);
        self.targets.insert(frontend.pool, targets);
        targets
    }

    fn look(&mut self, frontend: &Frontend, endpoints: &mut Endpoints) -> Option<[Target; 2]> {
        let counts = endpoints
            .of(frontend.pool.family())
            .counts(&frontend.port_name, frontend.pool.protocol);
        let choice = choose(&counts);
        let is_weighted = self.options.is_weighted(&counts);
        self.is_weighted |= is_weighted;
        let internal = self.options.service.internal_policy;
        let (inside, outside) = match frontend.kind {
            FrontendKind::ClusterIp => (internal, internal),
            // The external policy applies to external clients; pods and the node reach every
            // endpoint.
            _ => (TrafficPolicy::Cluster, self.options.service.external_policy),
        };
        let place = |policy| {
            let is_own = policy == internal;
            let is_carried = !matches!(self.options.context.settings.carry, Carry::FrontEnds)
                && !self.options.is_one_packet(frontend.pool.protocol);
            let is_led_on = is_carried
                || self.options.context.is_local_socket(&frontend.pool)
                || !self.options.serves(FrontendKind::ClusterIp);
            match is_own && !is_led_on {
                true => Some(Target::Pool),
                false => self.options.context.shadow(frontend.pool.ip, is_own).map(Target::Shadow),
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
                self.add(address, selection, is_weighted, &frontend.port_name, endpoints);
            });
            match selection {
                Some(_) => at,
                None if choice.has_any() => Target::Drop,
                None => Target::Reject,
            }
        });
        Some(targets)
    }

    /// Returns the pools, and the reasons why options of the Service have no effect.
    pub(super) fn finish(self) -> (SharedPools, Box<[String]>) {
        let ignored = self.options.ignored(self.is_weighted);
        (self.pools, ignored)
    }

    fn add(
        &mut self,
        address: VirtualAddress,
        filter: Option<EndpointFilter>,
        is_weighted: bool,
        port_name: &Name,
        endpoints: &mut Endpoints,
    ) {
        let find = |pools: &[Shared<Pool>]| {
            pools.binary_search_by(|pool| pool.server.address.cmp(&address))
        };
        let Err(place) = find(&self.pools) else { return };
        let server = self.options.server(address, is_weighted);
        let control = self.options.pool_control();
        let endpoints = endpoints.of(address.family());
        let backends = filter.map_or_else(Backends::default, |filter| {
            let selection = self.options.selection(filter);
            endpoints.backends(port_name, address.protocol, selection, self.locality)
        });
        let old = find(self.old).ok().and_then(|place| self.old.get(place));
        let same = old.filter(|old| {
            old.server == server && old.backends.is_same(&backends) && old.control == control
        });
        let pool =
            same.map_or_else(|| Shared::from(Pool { server, backends, control }), Shared::clone);
        self.pools.insert(place, pool);
    }
}
