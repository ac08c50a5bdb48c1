//! The desired state: what the kernel must hold for one Service, or for the node.

use std::net::IpAddr;

use ipnet::IpNet;
use smallvec::SmallVec;

use super::{
    Frontend, FrontendKind, HealthCheck, Interfaces, Link, Pool, Route, ServiceKey, Shared,
    VirtualAddress,
};

/// The pools of one Service: usually one, or one per family.
pub type SharedPools = SmallVec<[Shared<Pool>; 2]>;

/// What the kernel must hold for one Service.
///
/// Unchanged parts are shared between versions, so a comparison does not look into them.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct DesiredService {
    /// The Service's creation in Unix seconds: the older of two Services gets a front end.
    pub created: i64,
    /// Sorted by address.
    pub frontends: Shared<[Frontend]>,
    /// Sorted by address. A pool without backends has a virtual server only while established
    /// connections of its former backends drain.
    pub pools: SharedPools,
    /// Make the ClusterIPs and their shadow addresses local.
    pub routes: Shared<[Route]>,
    /// Front ends that the Service requests but does not get, sorted by address.
    pub refusals: Shared<[Refusal]>,
    /// Answered by the agent, not by the kernel.
    pub health_check: Option<HealthCheck>,
    /// Why options of the Service have no effect.
    pub ignored_options: Box<[String]>,
}

impl DesiredService {
    /// Returns the front end at an address.
    #[must_use]
    pub fn frontend(&self, address: &VirtualAddress) -> Option<&Frontend> {
        let at = self.frontends.binary_search_by_key(address, |frontend| frontend.address);
        self.frontends.get(at.ok()?)
    }

    /// Returns the pool at an address.
    #[must_use]
    pub fn pool(&self, address: &VirtualAddress) -> Option<&Shared<Pool>> {
        let at = self.pools.binary_search_by_key(address, |pool| pool.server.address);
        self.pools.get(at.ok()?)
    }

    /// Returns why the Service does not get the front end that it requests at an address.
    #[must_use]
    pub fn refusal(&self, address: &VirtualAddress) -> Option<&Refusal> {
        let at = self.refusals.binary_search_by_key(address, |refusal| refusal.address);
        self.refusals.get(at.ok()?)
    }

    /// Returns whether the Service requests a front end at an address.
    #[must_use]
    pub fn requests(&self, address: &VirtualAddress) -> bool {
        self.frontend(address).is_some() || self.refusal(address).is_some()
    }

    /// Returns the pools with backends: those that take new connections.
    pub fn serving_pools(&self) -> impl Iterator<Item = &Pool> {
        self.pools.iter().map(|pool| &**pool).filter(|pool| !pool.backends.is_empty())
    }
}

/// A front end that a Service requests but does not get.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Refusal {
    pub address: VirtualAddress,
    pub kind: FrontendKind,
    pub reason: RefusalReason,
}

impl Refusal {
    /// Describes the reason; `owner` returns the Service that owns a front end.
    #[must_use]
    pub fn because<'a>(&self, owner: impl Fn(&VirtualAddress) -> Option<&'a ServiceKey>) -> String {
        let RefusalReason::Taken(at) = self.reason else { return self.reason.to_string() };
        owner(&at).map_or_else(
            || self.reason.to_string(),
            |owner| format!("Service {owner} already has it"),
        )
    }
}

/// The reason why a Service does not get a front end.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub enum RefusalReason {
    /// The address belongs to the node, and a socket of the node listens on the port.
    #[error(
        "the address is this node's own, and a process or tunnel of the node listened there first"
    )]
    Listened,
    /// A device of the node has the ClusterIP and a socket of the node listens on it, or the
    /// ClusterIP is the node's own address.
    #[error(
        "a device of this node has the address, and a process of the node listens on it or the \
         address identifies the node: the node itself answers here"
    )]
    LocalSocket,
    /// The address belongs to the node, and the port is in `protectedNodePorts`.
    #[error("the address is this node's own, and protectedNodePorts keeps the port for the node")]
    Protected,
    #[error("the API server answers there")]
    ApiServer,
    #[error("the address lies in a range that ClusterIPs are allocated from")]
    ServiceRange,
    /// The address lies in the shadow range of a service range.
    #[error("the address lies in a shadow range of ClusterIPs")]
    ShadowRange,
    /// The pool needs a shadow address, but another service range occupies all of them.
    #[error("another service range occupies the shadow addresses of this ClusterIP")]
    NoShadow,
    /// The Service's own choice.
    #[error("the Service's options front-ends or nodes exclude it")]
    NotServed,
    /// Another Service owns this front end: the requested one, one that matches the same packets,
    /// or the ClusterIP that the requested one would use.
    #[error("another Service has {0}")]
    Taken(VirtualAddress),
}

impl RefusalReason {
    /// Returns whether the front end still belongs to its Service: a process of the node answers there,
    /// or the Service does not serve it. No other Service gets it.
    #[must_use]
    pub fn keeps_claim(&self) -> bool {
        matches!(self, Self::LocalSocket | Self::NotServed)
    }
}

/// What the kernel must hold for the node and the cluster's ranges, independent of the Services.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct DesiredNode {
    /// Ranges from which only ClusterIPs are allocated; disjoint.
    pub service_ranges: Vec<IpNet>,
    /// Destinations with a route more specific than the default route, also within a service range:
    /// the node's routes, pods and own addresses; disjoint.
    pub reachable: Vec<IpNet>,
    /// Source ranges that ClusterIP connections keep; disjoint.
    pub pods: Vec<IpNet>,
    /// Packets that arrive through these interfaces keep their source, too.
    pub pod_interfaces: Option<Interfaces>,
    /// Sources that are local clients: this node's pods and its own addresses; disjoint.
    pub insiders: Vec<IpNet>,
    /// Packets that arrive through these interfaces come from pods of this node.
    pub insider_interfaces: Option<Interfaces>,
    /// Sorted.
    pub node_port_ips: Vec<IpAddr>,
    /// The links between which a flowtable carries established connections, sorted.
    pub offload_links: Vec<Link>,
}
