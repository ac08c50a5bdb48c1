//! What the running agent holds, as told to others.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::time::SystemTime;

use kube_ipvs_core::engine::Engine;
use kube_ipvs_core::model::{
    Backend, DesiredService, Frontend, Masquerade, Pool, Refusal, RefusalReason, ServiceKey,
    Target, VirtualAddress,
};
use kube_ipvs_core::plan::SyncError;
use serde::{Deserialize, Serialize};

use super::EndpointView;
use crate::agent::timestamp::rfc3339;

/// What the engine holds at one moment. Cheap to take: backends are shared, not copied, so that
/// a question does not keep the engine from its work.
#[derive(Clone, Debug)]
pub struct Snapshot {
    node: String,
    synced: bool,
    last_sync: Option<SystemTime>,
    services: Vec<(ServiceKey, DesiredService)>,
    /// Of the front ends that others are refused for.
    owners: BTreeMap<VirtualAddress, ServiceKey>,
    leaving: BTreeMap<VirtualAddress, Vec<Backend>>,
    errors: Vec<(SyncError, u32)>,
}

/// Takes what the engine holds. `last_sync` is when the kernel last was as desired.
#[must_use]
pub fn status(engine: &Engine, last_sync: Option<SystemTime>) -> Snapshot {
    let programs = engine.desired();
    let services = programs.services().map(|(key, program)| (key.clone(), program.clone()));
    let mut leaving: BTreeMap<_, Vec<_>> = BTreeMap::new();
    for (server, backend) in engine.draining() {
        leaving.entry(*server).or_default().push(*backend);
    }
    let refusals = programs.services().flat_map(|(_, program)| &*program.refusals);
    let owners = refusals.filter_map(|refusal| match refusal.reason {
        RefusalReason::Taken(at) => Some((at, programs.owner(&at)?.clone())),
        _ => None,
    });
    let errors = engine.errors().map(|(error, attempts)| (error.clone(), attempts));
    Snapshot {
        node: programs.context().settings.node_name.to_string(),
        synced: engine.is_synced(),
        last_sync,
        services: services.collect(),
        owners: owners.collect(),
        leaving,
        errors: errors.collect(),
    }
}

/// A [`Snapshot`] as `status -o json` prints it.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct StatusView {
    /// The node's name.
    pub node: String,
    /// Whether the first full sync is done.
    pub synced: bool,
    /// When the kernel last was as desired, in RFC 3339.
    pub last_sync: Option<String>,
    /// How much there is of everything.
    pub totals: StatusTotals,
    /// What failed and will be tried again, sorted by what it is about.
    pub failures: Vec<FailureView>,
    /// Sorted by namespace and name.
    pub services: Vec<ServiceView>,
}

/// How much there is of everything.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub struct StatusTotals {
    pub services: usize,
    pub frontends: usize,
    pub pools: usize,
    /// Those that take new connections, of all pools.
    pub backends: usize,
    /// Those that keep established connections only, of all pools.
    pub draining: usize,
    pub refusals: usize,
    pub failures: usize,
}

/// What one Service has.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct ServiceView {
    /// `namespace/name`.
    pub service: String,
    /// Sorted by address.
    pub frontends: Vec<FrontendView>,
    /// Sorted by address.
    pub pools: Vec<PoolView>,
    /// Front ends that it asks for and does not get.
    pub refusals: Vec<RefusalView>,
}

/// Where clients lookup.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct FrontendView {
    /// `ADDR:PORT/protocol`.
    pub address: String,
    /// `ClusterIP`, `ExternalIP`, `LoadBalancer` or `NodePort`.
    pub kind: String,
    /// Name of the Service port, empty where it has none.
    pub port: String,
    /// What becomes of a new connection, by client.
    pub targets: TargetsView,
    /// Whose source address is translated: `never`, `unlessPod`, `ownProcesses` or `always`.
    pub masquerade: String,
    /// Ranges that may connect; `null` for anyone.
    pub sources: Option<Vec<String>>,
}

/// What becomes of a new connection: the address of a pool, `reject` or `drop`.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct TargetsView {
    /// Of pods of this node and processes in the node's own network.
    pub inside: String,
    /// Of all others.
    pub outside: String,
}

/// A virtual server.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct PoolView {
    /// `ADDR:PORT/protocol`.
    pub address: String,
    /// The kernel's name of it.
    pub scheduler: String,
    /// How long a client stays with its backend.
    pub affinity_seconds: Option<u32>,
    /// Those that take new connections, sorted by address and port.
    pub backends: Vec<BackendView>,
    /// Those that keep established connections only, sorted by address and port.
    pub draining: Vec<EndpointView>,
}

/// A backend that takes new connections.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct BackendView {
    /// Its address.
    pub address: IpAddr,
    /// Its port.
    pub port: u16,
    /// Its share of new connections.
    pub weight: u16,
    /// Whether it is on this node.
    pub local: bool,
}

/// A front end that a Service asks for and does not get.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct RefusalView {
    /// `ADDR:PORT/protocol`.
    pub address: String,
    /// As of a front end.
    pub kind: String,
    /// Why.
    pub reason: String,
}

/// What failed and will be tried again.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct FailureView {
    /// The operation, as the equivalent command line.
    pub operation: String,
    /// What went wrong.
    pub message: String,
    /// How often in a row.
    pub attempts: u32,
}

impl From<Snapshot> for StatusView {
    fn from(snapshot: Snapshot) -> Self {
        let Snapshot { node, synced, last_sync, mut services, owners, leaving, mut errors } =
            snapshot;
        services.sort_unstable_by(|(a, _), (b, _)| a.cmp(b));
        errors.sort_unstable_by_key(|(error, _)| error.key);
        let services: Vec<_> = services
            .iter()
            .map(|(key, program)| ServiceView::new(key, program, &leaving, &owners))
            .collect();
        let failures: Vec<_> = errors.iter().map(FailureView::from).collect();
        let totals = StatusTotals { failures: failures.len(), ..StatusTotals::of(&services) };
        Self { node, synced, last_sync: last_sync.map(rfc3339), totals, failures, services }
    }
}

impl StatusTotals {
    fn of(services: &[ServiceView]) -> Self {
        let mut totals = Self { services: services.len(), ..Self::default() };
        for service in services {
            totals.frontends += service.frontends.len();
            totals.refusals += service.refusals.len();
            totals.pools += service.pools.len();
            for pool in &service.pools {
                totals.backends += pool.backends.len();
                totals.draining += pool.draining.len();
            }
        }
        totals
    }
}

impl ServiceView {
    /// `leaving` are real servers that are no longer wanted, by virtual server.
    fn new(
        key: &ServiceKey,
        program: &DesiredService,
        leaving: &BTreeMap<VirtualAddress, Vec<Backend>>,
        owners: &BTreeMap<VirtualAddress, ServiceKey>,
    ) -> Self {
        let pools = program.pools.iter().map(|pool| {
            let leaving = leaving.get(&pool.server.address).into_iter().flatten().copied();
            let backends = pool.backends.with(leaving.collect());
            Pool { server: pool.server, backends }
        });
        Self {
            service: key.to_string(),
            frontends: program.frontends.iter().map(FrontendView::from).collect(),
            pools: pools
                .filter(|pool| !pool.backends.is_empty())
                .map(|pool| PoolView::from(&pool))
                .collect(),
            refusals: program
                .refusals
                .iter()
                .map(|refusal| RefusalView::new(refusal, |at| owners.get(at)))
                .collect(),
        }
    }
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

impl From<&Pool> for PoolView {
    fn from(Pool { server, backends }: &Pool) -> Self {
        let (draining, serving): (Vec<_>, Vec<_>) =
            backends.sorted().into_iter().partition(Backend::is_draining);
        Self {
            address: server.address.to_string(),
            scheduler: server.scheduler.to_string(),
            affinity_seconds: server.affinity_seconds,
            backends: serving.iter().map(BackendView::from).collect(),
            draining: draining.iter().map(EndpointView::from).collect(),
        }
    }
}

impl From<&Backend> for BackendView {
    fn from(backend: &Backend) -> Self {
        let Backend { address, port, weight, local } = *backend;
        Self { address, port, weight, local }
    }
}

impl RefusalView {
    /// `owner` says which Service has a front end.
    pub(crate) fn new<'a>(
        refusal: &Refusal,
        owner: impl Fn(&VirtualAddress) -> Option<&'a ServiceKey>,
    ) -> Self {
        let Refusal { address, kind, .. } = refusal;
        Self {
            address: address.to_string(),
            kind: kind.to_string(),
            reason: refusal.because(owner),
        }
    }
}

impl From<&(SyncError, u32)> for FailureView {
    fn from((error, attempts): &(SyncError, u32)) -> Self {
        Self {
            operation: error.attempt.to_string(),
            message: error.message.clone(),
            attempts: *attempts,
        }
    }
}

#[cfg(test)]
mod tests;
