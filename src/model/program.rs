//! Programs: everything that the kernel must hold because of one Service, or because of the node.

use std::net::IpAddr;

use ipnet::IpNet;
use smallvec::SmallVec;

use super::{
    Frontend, FrontendKind, HealthCheck, Interfaces, Link, Pool, Route, ServiceKey, Shared,
    VirtualAddress,
};

/// Pools of one Service: mostly one, or one of each family.
pub type SharedPools = SmallVec<[Shared<Pool>; 2]>;

/// Everything that the kernel must hold because of one Service.
///
/// What stays from one version to the next is shared with it, and not looked into where two are
/// compared.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Program {
    /// Sorted by address.
    pub frontends: Shared<[Frontend]>,
    /// Sorted by address. One without backends has no virtual server but for the established
    /// connections of its former ones.
    pub pools: SharedPools,
    /// Routes that make its ClusterIPs and their images local.
    pub routes: Shared<[Route]>,
    /// Front ends that the Service asks for and does not get.
    pub refusals: Shared<[Refusal]>,
    /// What its health check answers, where it has one. The agent answers it, not the kernel.
    pub health_check: Option<HealthCheck>,
}

impl Program {
    /// The pools with backends: those that take new connections.
    pub fn serving_pools(&self) -> impl Iterator<Item = &Pool> {
        self.pools.iter().map(|pool| &**pool).filter(|pool| !pool.backends.is_empty())
    }
}

/// A front end that a Service asks for and does not get.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Refusal {
    /// The front end.
    pub address: VirtualAddress,
    /// What kind of address it is.
    pub kind: FrontendKind,
    /// Why.
    pub reason: RefusalReason,
}

/// Why a Service does not get a front end.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum RefusalReason {
    /// The address is the node's own.
    #[error("the address is this node's own")]
    NodeAddress,
    /// The address is the API server's.
    #[error("the address is the API server's")]
    ApiServer,
    /// The address lies in a service range.
    #[error("the address lies in a range that ClusterIPs are allocated from")]
    ServiceRange,
    /// The address lies in the image of a service range.
    #[error("the address lies in a range that stands for ClusterIPs within this node")]
    ImageRange,
    /// Another Service has the front end.
    #[error("Service {0} has it already")]
    Taken(ServiceKey),
}

/// Everything that the kernel must hold because of the node and the cluster's ranges, whatever the
/// Services.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct NodeProgram {
    /// Ranges that ClusterIPs come from; disjoint.
    pub service_ranges: Vec<IpNet>,
    /// Destinations that are known to be somewhere, more closely than by a default route, within a
    /// service range too: those of the node's routes, pods, and its own addresses; disjoint.
    pub reachable: Vec<IpNet>,
    /// Sources that a ClusterIP connection keeps; disjoint.
    pub pods: Vec<IpNet>,
    /// Whatever comes in through these keeps it too.
    pub pod_interfaces: Option<Interfaces>,
    /// Sources that are this node: its pods and its own addresses; disjoint.
    pub insiders: Vec<IpNet>,
    /// What comes in through these is from this node's pods.
    pub insider_interfaces: Option<Interfaces>,
    /// The node's addresses that take node ports, sorted.
    pub node_port_ips: Vec<IpAddr>,
    /// The links between which a flowtable carries established connections, sorted.
    pub offload_links: Vec<Link>,
}
