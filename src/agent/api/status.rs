//! The JSON of `status`.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::time::SystemTime;

use kube_ipvs_core::engine::{Engine, SyncError};
use kube_ipvs_core::model::{
    Backend, DesiredService, EndpointName, EndpointSlice, Frontend, FrontendKind, Masquerade, Pool,
    Refusal, RefusalReason, Service, ServiceKey, Target, TrafficPolicy, VirtualAddress,
};
use kube_ipvs_core::plan::ObjectKey;
use rustc_hash::FxHashSet;
use serde::{Deserialize, Serialize};

use super::{EndpointView, NameView, StatusFilter};
use crate::agent::timestamp::rfc3339;
use crate::doctor::CheckResult;

/// The state of the engine at one moment. It is cheap to take, because backends are shared and not
/// copied, so that a query does not delay the engine.
#[derive(Clone, Debug)]
pub struct Snapshot {
    /// Without failures and Services.
    view: StatusView,
    services: Vec<SnapshotService>,
    /// The owners of front ends that other Services request.
    owners: BTreeMap<VirtualAddress, ServiceKey>,
    draining: Draining,
    ejected: BTreeSet<(VirtualAddress, SocketAddr)>,
    errors: Vec<(SyncError, EndpointName)>,
}

impl Snapshot {
    /// Adds the checks of the node that are not `ok`.
    #[must_use]
    pub fn with_checks(mut self, checks: Vec<CheckResult>) -> Self {
        self.view.checks = checks;
        self
    }
}

/// The real servers of virtual servers that are not desired any more.
type Draining = BTreeMap<VirtualAddress, Vec<Backend>>;

/// A Service, with the slices that have its endpoints' names.
#[derive(Clone, Debug)]
struct SnapshotService {
    key: ServiceKey,
    desired: DesiredService,
    /// The internal and the external one.
    policies: [TrafficPolicy; 2],
    slices: Vec<EndpointSlice>,
}

/// Takes a snapshot of the engine, with the Services that `filter` selects. `last_sync` is the last
/// time at which the kernel was in the desired state. Given the virtual servers with traffic, only the
/// busiest Services up to the filter's limit are in it.
#[must_use]
pub fn status(
    engine: &Engine,
    last_sync: Option<SystemTime>,
    filter: &StatusFilter,
    busiest: Option<&[VirtualAddress]>,
) -> Snapshot {
    let desired = engine.desired();
    let mut draining: Draining = BTreeMap::new();
    for (server, backend) in engine.draining() {
        draining.entry(*server).or_default().push(*backend);
    }
    let ejected = engine.ejected().map(|(server, backend)| (*server, *backend)).collect();
    let selected = |(key, service)| {
        filter.selects(engine.state(), key, service).then_some(())?;
        let totals = StatusTotals::of(service, &draining, &ejected);
        filter.state.is_none_or(|state| state.is_in(&totals)).then_some((key, totals))
    };
    let mut totals = StatusTotals::default();
    let counted = |(key, of_service)| {
        totals.add(&of_service);
        key
    };
    let limit = filter.limit.unwrap_or(usize::MAX);
    let listed: Vec<_> = match busiest {
        None => {
            let services = desired.services();
            let mut all: Vec<_> = services.filter_map(selected).map(counted).collect();
            if limit < all.len() {
                // Most Services are not listed, so they are not sorted.
                all.select_nth_unstable(limit);
                all.truncate(limit);
            }
            all
        }
        Some(servers) => {
            let busy = servers.iter().filter_map(|server| desired.pool_owner(server));
            // Services without traffic come last.
            let mut known = FxHashSet::default();
            let busy = busy.filter_map(|key| Some((key, desired.service(key)?)));
            let all = busy.chain(desired.services()).filter(|(key, _)| known.insert(*key));
            all.filter_map(selected).take(limit).map(counted).collect()
        }
    };
    let listed = listed.into_iter().filter_map(|key| SnapshotService::of(engine, key));
    let listed: Vec<_> = listed.collect();
    let refusals = desired.services().flat_map(|(_, service)| &*service.refusals);
    let owners = refusals.filter_map(|refusal| match refusal.reason {
        RefusalReason::Taken(at) => Some((at, desired.owner(&at)?.clone())),
        _ => None,
    });
    let errors: Vec<_> = engine.errors().map(|it| (it.clone(), name_in(engine, it))).collect();
    totals.failures = errors.len();
    let view = StatusView {
        node: desired.context().settings.node_name.to_string(),
        synced: engine.is_synced(),
        last_sync: last_sync.map(rfc3339),
        totals,
        failures: Vec::new(),
        checks: Vec::new(),
        omitted: totals.services - listed.len(),
        uncounted: None,
        services: Vec::new(),
    };
    Snapshot { view, services: listed, owners: owners.collect(), draining, ejected, errors }
}

/// Returns the name of the endpoint that a failure is about.
pub(in crate::agent) fn name_in(engine: &Engine, error: &SyncError) -> EndpointName {
    match (error.key, error.backend()) {
        (ObjectKey::Pool(server), Some(backend)) => name_of(engine, &server, backend.socket()),
        _ => EndpointName::default(),
    }
}

/// Returns the name of an endpoint behind a virtual server.
pub(in crate::agent) fn name_of(
    engine: &Engine,
    server: &VirtualAddress,
    endpoint: SocketAddr,
) -> EndpointName {
    let owner = engine.desired().pool_owner(server);
    let slices = owner.into_iter().flat_map(|key| engine.state().slices(key));
    EndpointName::find(slices, endpoint).unwrap_or_default()
}

/// A [`Snapshot`] as `status -o json` prints it.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct StatusView {
    pub node: String,
    pub synced: bool,
    /// In RFC 3339.
    pub last_sync: Option<String>,
    pub totals: StatusTotals,
    /// Sorted by object.
    pub failures: Vec<FailureView>,
    /// The checks of `doctor` that warn or fail.
    #[serde(default)]
    pub checks: Vec<CheckResult>,
    /// The number of selected Services that are not listed, because there are more than the limit.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub omitted: usize,
    /// Why there are no counters of IPVS, or why they stand still.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub uncounted: Option<String>,
    /// Sorted by namespace and name.
    pub services: Vec<ServiceView>,
}

#[allow(clippy::trivially_copy_pass_by_ref, reason = "serde passes a reference")]
fn is_zero(number: &usize) -> bool {
    *number == 0
}

/// Totals of the selected Services, listed or not, and of the failures.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub struct StatusTotals {
    pub services: usize,
    pub frontends: usize,
    pub pools: usize,
    /// Those that take new connections.
    pub backends: usize,
    /// Those that keep only established connections.
    pub draining: usize,
    /// Those of the backends that do not answer.
    #[serde(default)]
    pub ejected: usize,
    pub refusals: usize,
    pub failures: usize,
}

#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct ServiceView {
    /// `namespace/name`.
    pub service: String,
    pub frontends: Vec<FrontendView>,
    pub pools: Vec<PoolView>,
    pub refusals: Vec<RefusalView>,
}

#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct FrontendView {
    pub address: String,
    pub kind: String,
    /// The name of the Service port; empty for an unnamed port.
    pub port: String,
    pub targets: TargetsView,
    /// `unlessPod`, `ownProcesses` or `always`.
    pub masquerade: String,
    /// Allowed source ranges; `null` allows all.
    pub sources: Option<Vec<String>>,
}

/// Targets of new connections: the address of a pool, `reject` or `drop`.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct TargetsView {
    /// For local clients.
    pub inside: String,
    /// For external clients.
    pub outside: String,
}

#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct PoolView {
    pub address: String,
    pub scheduler: String,
    pub affinity_seconds: Option<u32>,
    /// Whether it has the same backends on every node: by traffic policy Cluster, and without
    /// topology hints.
    #[serde(default)]
    pub cluster_wide: bool,
    /// Sorted by address and port.
    pub backends: Vec<EndpointView>,
    /// Sorted by address and port.
    pub draining: Vec<EndpointView>,
}

/// A front end that a Service requests but does not get.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct RefusalView {
    pub address: String,
    pub kind: String,
    pub reason: String,
}

/// A failed operation that is retried.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct FailureView {
    /// The equivalent command line.
    pub operation: String,
    pub message: String,
    /// Consecutive attempts.
    pub attempts: u32,
    /// The endpoint that it is about.
    #[serde(flatten)]
    pub name: NameView,
}

impl From<Snapshot> for StatusView {
    fn from(snapshot: Snapshot) -> Self {
        let Snapshot { view, mut services, owners, draining, ejected, mut errors } = snapshot;
        services.sort_unstable_by(|a, b| a.key.cmp(&b.key));
        errors.sort_unstable_by_key(|(error, _)| error.key);
        let service = |service: &SnapshotService| {
            ServiceView::new(service, &service.pools(&draining), &ejected, &owners)
        };
        let failure = |(error, name): (SyncError, EndpointName)| FailureView {
            operation: error.command(),
            message: error.failure.message,
            attempts: error.attempts,
            name: name.into(),
        };
        Self {
            services: services.iter().map(service).collect(),
            failures: errors.into_iter().map(failure).collect(),
            ..view
        }
    }
}

impl SnapshotService {
    fn of(engine: &Engine, key: &ServiceKey) -> Option<Self> {
        let object = engine.state().service(key);
        let policies = |it: &Service| [it.internal_policy, it.external_policy];
        Some(Self {
            key: key.clone(),
            desired: engine.desired().service(key)?.clone(),
            policies: object.map(policies).unwrap_or_default(),
            slices: engine.state().slices(key).cloned().collect(),
        })
    }

    /// Returns its pools that have endpoints, with those that are no longer desired.
    fn pools(&self, draining: &Draining) -> Vec<Pool> {
        let pools = self.desired.pools.iter().map(|pool| {
            let draining = draining.get(&pool.server.address).into_iter().flatten().copied();
            let backends = pool.backends.with(draining.collect());
            Pool { backends, ..pool.server.into() }
        });
        pools.filter(|pool| !pool.backends.is_empty()).collect()
    }
}

impl StatusTotals {
    fn of(
        desired: &DesiredService,
        draining: &Draining,
        ejected: &BTreeSet<(VirtualAddress, SocketAddr)>,
    ) -> Self {
        let mut totals = Self {
            services: 1,
            frontends: desired.frontends.len(),
            refusals: desired.refusals.len(),
            ..Self::default()
        };
        for pool in &desired.pools {
            let Pool { server, backends, .. } = &**pool;
            let leaving = draining.get(&server.address).map_or(0, Vec::len);
            let kept = backends.iter().filter(|it| it.is_draining()).count();
            totals.pools += usize::from(leaving + backends.len() > 0);
            totals.draining += leaving + kept;
            totals.backends += backends.len() - kept;
            // Most nodes have none.
            if !ejected.is_empty() {
                let is_ejected = |it: &&Backend| ejected.contains(&(server.address, it.socket()));
                totals.ejected += backends.iter().filter(is_ejected).count();
            }
        }
        totals
    }

    fn add(&mut self, other: &Self) {
        let Self { services, frontends, pools, backends, draining, ejected, refusals, failures } =
            other;
        self.services += services;
        self.frontends += frontends;
        self.pools += pools;
        self.backends += backends;
        self.draining += draining;
        self.ejected += ejected;
        self.refusals += refusals;
        self.failures += failures;
    }
}

impl ServiceView {
    /// `ejected` are the real servers that do not answer.
    fn new(
        SnapshotService { key, desired: service, policies, slices }: &SnapshotService,
        pools: &[Pool],
        ejected: &BTreeSet<(VirtualAddress, SocketAddr)>,
        owners: &BTreeMap<VirtualAddress, ServiceKey>,
    ) -> Self {
        let mut endpoints = slices.iter().flat_map(|slice| &*slice.endpoints);
        let is_hinted = endpoints
            .any(|it| !it.topology.for_nodes.is_empty() || !it.topology.for_zones.is_empty());
        let refusal = |refusal: &Refusal| RefusalView {
            address: refusal.address.to_string(),
            kind: refusal.kind.to_string(),
            reason: refusal.because(|at| owners.get(at)),
        };
        Self {
            service: key.to_string(),
            frontends: service.frontends.iter().map(FrontendView::from).collect(),
            pools: pools
                .iter()
                .map(|pool| PoolView {
                    cluster_wide: !is_hinted
                        && is_of_cluster(service, *policies, pool.server.address),
                    ..PoolView::new(pool, ejected, slices)
                })
                .collect(),
            refusals: service.refusals.iter().map(refusal).collect(),
        }
    }
}

/// Returns whether a front end leads to a pool by traffic policy Cluster.
fn is_of_cluster(
    service: &DesiredService,
    [internal, external]: [TrafficPolicy; 2],
    pool: VirtualAddress,
) -> bool {
    service.frontends.iter().any(|frontend| {
        let policies = match frontend.kind {
            FrontendKind::ClusterIp => [internal, internal],
            _ => [TrafficPolicy::Cluster, external],
        };
        let mut targets = [frontend.inside, frontend.outside].into_iter().zip(policies);
        targets.any(|(target, policy)| {
            policy == TrafficPolicy::Cluster && frontend.pool_of(target) == Some(pool)
        })
    })
}

impl From<&Frontend> for FrontendView {
    fn from(frontend: &Frontend) -> Self {
        let target = |target| match frontend.pool_of(target) {
            Some(address) => address.to_string(),
            None if target == Target::Drop => "drop".to_owned(),
            None => "reject".to_owned(),
        };
        let masquerade = match frontend.masquerade {
            Masquerade::UnlessPod => "unlessPod",
            Masquerade::OwnProcesses => "ownProcesses",
            Masquerade::Always => "always",
            Masquerade::Never => "never",
        };
        let sources = frontend.sources.as_deref();
        Self {
            address: frontend.address.to_string(),
            kind: frontend.kind.to_string(),
            port: frontend.port_name.to_string(),
            targets: TargetsView {
                inside: target(frontend.inside),
                outside: target(frontend.outside),
            },
            masquerade: masquerade.to_owned(),
            sources: sources.map(|ranges| ranges.iter().map(ToString::to_string).collect()),
        }
    }
}

impl PoolView {
    /// Returns its endpoints, each with its state: `serving`, `ejected` or `draining`.
    pub fn endpoints(&self) -> impl Iterator<Item = (&EndpointView, &'static str)> {
        let state = |it: &EndpointView| if it.ejected { "ejected" } else { "serving" };
        let serving = self.backends.iter().map(move |it| (it, state(it)));
        serving.chain(self.draining.iter().map(|it| (it, "draining")))
    }

    fn new(
        Pool { server, backends, .. }: &Pool,
        ejected: &BTreeSet<(VirtualAddress, SocketAddr)>,
        slices: &[EndpointSlice],
    ) -> Self {
        let (draining, serving): (Vec<_>, Vec<_>) =
            backends.sorted().into_iter().partition(Backend::is_draining);
        let backend = |backend: &Backend| {
            EndpointView { local: Some(backend.local), ..EndpointView::serving(backend) }
                .ejected_if(ejected.contains(&(server.address, backend.socket())))
                .named(slices)
        };
        Self {
            address: server.address.to_string(),
            scheduler: server.scheduler.to_string(),
            affinity_seconds: server.affinity_seconds,
            cluster_wide: false,
            backends: serving.iter().map(backend).collect(),
            draining: draining.iter().map(|it| EndpointView::draining(it).named(slices)).collect(),
        }
    }
}
