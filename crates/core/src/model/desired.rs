//! DesiredState: everything that the kernel must hold because of one Service, or because of the node.

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
pub struct DesiredService {
    /// Sorted by address.
    pub frontends: Shared<[Frontend]>,
    /// Sorted by address. One without backends has no virtual server but for the established
    /// connections of its former ones.
    pub pools: SharedPools,
    /// Routes that make its ClusterIPs and their images local.
    pub routes: Shared<[Route]>,
    /// Front ends that the Service asks for and does not get, sorted by address.
    pub refusals: Shared<[Refusal]>,
    /// What its health check answers, where it has one. The agent answers it, not the kernel.
    pub health_check: Option<HealthCheck>,
}

impl DesiredService {
    /// The front end at an address.
    #[must_use]
    pub fn frontend(&self, address: &VirtualAddress) -> Option<&Frontend> {
        let at = self.frontends.binary_search_by_key(address, |frontend| frontend.address);
        self.frontends.get(at.ok()?)
    }

    /// The pool at an address.
    #[must_use]
    pub fn pool(&self, address: &VirtualAddress) -> Option<&Shared<Pool>> {
        let at = self.pools.binary_search_by_key(address, |pool| pool.server.address);
        self.pools.get(at.ok()?)
    }

    /// Why there is no front end at an address that the Service asks for.
    #[must_use]
    pub fn refusal(&self, address: &VirtualAddress) -> Option<&Refusal> {
        let at = self.refusals.binary_search_by_key(address, |refusal| refusal.address);
        self.refusals.get(at.ok()?)
    }

    /// Whether the Service asks for a front end at an address.
    #[must_use]
    pub fn tells_of(&self, address: &VirtualAddress) -> bool {
        self.frontend(address).is_some() || self.refusal(address).is_some()
    }

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

impl Refusal {
    /// Why, in words. `owner` says which Service has a front end.
    #[must_use]
    pub fn because<'a>(&self, owner: impl Fn(&VirtualAddress) -> Option<&'a ServiceKey>) -> String {
        let RefusalReason::Taken(at) = self.reason else { return self.reason.to_string() };
        owner(&at).map_or_else(
            || self.reason.to_string(),
            |owner| format!("Service {owner} has it already"),
        )
    }
}

/// Why a Service does not get a front end.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub enum RefusalReason {
    /// The address is the node's own, and a socket of the node listens at the port.
    #[error(
        "the address is this node's own, and a process or tunnel of the node listened there first"
    )]
    Listened,
    /// The ClusterIP is on a device of the node, and a socket of the node listens at it; or it is the
    /// node's own address.
    #[error(
        "a device of this node has the address, and a process of the node listens at it, or others know \
         the node by it: the node itself answers here"
    )]
    LocalSocket,
    /// The address is the node's own, and the port is one of `protectedNodePorts`.
    #[error("the address is this node's own, and protectedNodePorts keeps the port for the node")]
    Protected,
    /// The API server answers there.
    #[error("the API server answers there")]
    ApiServer,
    /// The address lies in a service range.
    #[error("the address lies in a range that ClusterIPs are allocated from")]
    ServiceRange,
    /// The address lies in the image of a service range.
    #[error("the address lies in a range that stands for ClusterIPs within this node")]
    ImageRange,
    /// The ClusterIP's pool has to stand at an image, and another service range has all of them.
    #[error(
        "another service range has the addresses that stand for this one's ClusterIPs within this node"
    )]
    NoImage,
    /// Another Service has this front end: the one asked for, one that stands for the same packets,
    /// or the ClusterIP's that it would lead to.
    #[error("another Service has {0}")]
    Taken(VirtualAddress),
}

/// Everything that the kernel must hold because of the node and the cluster's ranges, whatever the
/// Services.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct DesiredNode {
    /// Ranges that ClusterIPs come from and nothing else lies in; disjoint.
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
